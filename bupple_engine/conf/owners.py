"""What an owner is: a model's instance, a class and an id, or whoever makes a request."""

from __future__ import annotations

import secrets
from typing import Any

from bupple_engine.masking.printing import kind_of
from bupple_engine.types import Owner

MAX_LENGTH = 100

# Where an anonymous visitor's id is kept: Django changes the key of the session itself when someone logs in.
SESSION_KEY = "bupple_engine"
SESSION_TYPE = "session"

HINT = "An owner is a saved model instance, a pair such as ('ChatSession', 123), or a request."


def owner_of(owner: Any) -> Owner:
    """Return who an owner is.

    Raises a ValueError for what owns nothing: an unsaved instance, an anonymous user, an empty id.
    """
    if isinstance(owner, Owner):
        return owner
    if is_request(owner):
        return owner_of_request(owner)
    if hasattr(owner, "_meta") and not isinstance(owner, type):
        if owner.pk is None or owner._state.adding:
            raise ValueError(
                f"The {owner._meta.verbose_name} is not saved: only what has an id owns anything."
            )
        return _pair(owner._meta.concrete_model._meta.label_lower, owner.pk)
    if getattr(owner, "is_anonymous", False) is True:  # a class has the property itself
        raise ValueError("An anonymous user owns nothing; pass the request, whose session is remembered.")
    if isinstance(owner, tuple | list) and len(owner) == 2:
        return _pair(*owner)
    raise ValueError(f"There is no owner in {kind_of(owner)}. {HINT}")


def owner_of_request(request: Any) -> Owner:
    """Return the user of a request; for an anonymous one an owner that its session remembers."""
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        return owner_of(user)
    session = getattr(request, "session", None)
    if session is None:
        words = "The request has neither a user nor a session to remember an anonymous one by."
        raise ValueError(f"{words} Add SessionMiddleware and AuthenticationMiddleware to MIDDLEWARE.")
    if SESSION_KEY not in session:
        session[SESSION_KEY] = secrets.token_hex(16)
    return _pair(SESSION_TYPE, session[SESSION_KEY])


def is_request(owner: Any) -> bool:
    """Return whether an owner is an HttpRequest, or what DRF wraps one in."""
    return hasattr(owner, "META") and hasattr(owner, "method")


def _pair(kind: Any, id: Any) -> Owner:
    if isinstance(kind, type):
        meta = getattr(kind, "_meta", None)
        kind = meta.concrete_model._meta.label_lower if meta is not None else kind.__name__
    return Owner(_word("The owner's class", kind), _word("The owner's id", id))


def _word(what: str, value: Any) -> str:
    if value is None or isinstance(value, bool | bytes | float | list | tuple | dict | set):
        raise ValueError(f"{what} is {kind_of(value)}. {HINT}")
    text = str(value)
    # MySQL compares without the spaces behind a text, and PostgreSQL takes no NUL.
    if not text or text != text.strip() or "\0" in text:
        raise ValueError(f"{what} is empty, or has white space around it. {HINT}")
    if len(text) > MAX_LENGTH:
        raise ValueError(f"{what} is longer than {MAX_LENGTH} characters. {HINT}")
    return text
