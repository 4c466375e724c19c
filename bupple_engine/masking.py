"""Values that must never be shown: keys, headers and credentials in a URL.

A traceback printed with its locals shows the repr of whatever a frame holds. So the raw values live
in these wrappers from the first line they reach us until the line that sends them.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from types import UnionType
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

E = TypeVar("E", bound=BaseException)

_SECRET_QUERY = re.compile(r"(?i)([?&;][^=&;]*(?:key|token|secret|signature|password|sig)[^=&;]*=)[^&;#]*")


def mask(value: str) -> str:
    """Return the last four characters behind an ellipsis, or the ellipsis alone for a short value."""
    return f"…{value[-4:]}" if len(value) >= 12 else "…"


def mask_url(url: str) -> str:
    """Return a URL without its user, password and the values of query keys that name a secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "…"
    if "@" in parts.netloc:
        parts = parts._replace(netloc="…@" + parts.netloc.rpartition("@")[2])
    return _SECRET_QUERY.sub(r"\1…", urlunsplit(parts))


class Secret:
    """Hold a string, or a callable that gives one, behind a masked repr."""

    __slots__ = ("_shown", "_value")

    def __init__(self, value: str | Callable[[], str], shown: str | None = None) -> None:
        self._value = value
        self._shown = shown if shown is not None else "…" if callable(value) else mask(value)

    def __repr__(self) -> str:
        return self._shown

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    @property
    def is_fixed(self) -> bool:
        """Whether reveal() asks nobody."""
        return not callable(self._value)

    def ask(self) -> Secret:
        """Return what a callable gives now, wrapped whatever its type: a call asks a vault once."""
        value = self.reveal()
        return Secret(value, mask(value) if isinstance(value, str) else "…")

    def reveal(self) -> str:
        """Return the value itself; a callable (a vault, a rotating token) is asked each time."""
        return self._value() if callable(self._value) else self._value


class SecretURL(Secret):
    """Hold a URL whose credentials, where it has any, are masked in its repr."""

    __slots__ = ()

    def __init__(self, value: str) -> None:
        super().__init__(value, mask_url(value))

    @property
    def has_host(self) -> bool:
        """Whether it can be taken apart, and names a host."""
        try:
            parts = urlsplit(self.reveal())
            return bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            return False

    @property
    def credentials(self) -> tuple[str, ...]:
        """The user and the password in it, in the forms in which a server may quote them."""
        if "@" not in self.reveal():
            return ()
        user = unquote(urlsplit(self.reveal()).netloc.rpartition("@")[0])
        return tuple(filter(None, (user, *user.split(":", 1), basic(user)))) if user else ()


def basic(user: str) -> str:
    """Return user:password as the scheme Basic sends it."""
    return base64.b64encode(user.encode()).decode()


class MaskedDict(dict[str, Any]):
    """Be a dict whose repr shows the keys alone."""

    def __repr__(self) -> str:
        return repr(dict.fromkeys(self, "…"))

    def __or__(self, other: Mapping[str, Any]) -> MaskedDict:  # type: ignore[override]
        return MaskedDict({**self, **other})


class Misfit:
    """Stand for a value of a wrong type where a secret belongs, and may be all the same."""

    __slots__ = ("kind",)

    def __init__(self, value: object) -> None:
        self.kind = type(value).__name__

    def __repr__(self) -> str:
        return f"a value of type {self.kind}"


# Option → the type of value that is secret, and what hides it.
_WRAPPERS: dict[str, tuple[type | UnionType, Callable[[Any], Any]]] = {
    "api_key": (str | Callable, Secret),
    "base_url": (str, SecretURL),
    "proxy": (str, SecretURL),
    "headers": (dict, MaskedDict),
    "extra": (dict, MaskedDict),
}


def protect(options: Mapping[Any, Any]) -> MaskedDict:
    """Return a copy with what is secret wrapped; never raises, so that no raw value meets a traceback.

    Its own repr shows names alone: there may be a secret behind one that is misspelt.
    """
    return MaskedDict({name: _wrap(str(name).lower(), value) for name, value in options.items()})


def _wrap(name: str, value: Any) -> Any:
    if name not in _WRAPPERS or value is None or isinstance(value, Secret):
        return value
    kind, wrapper = _WRAPPERS[name]
    return wrapper(value) if isinstance(value, kind) else Misfit(value)


def hide_dicts(value: Any) -> Any:
    """Return a value whose dicts, down to any depth, show their keys alone."""
    if not isinstance(value, dict):
        return value
    return MaskedDict({name: hide_dicts(_hide_key(name, inner)) for name, inner in value.items()})


def _hide_key(name: Any, value: Any) -> Any:
    """Wrap a key: some reporters of errors walk into dicts, whatever their repr."""
    is_key = isinstance(name, str) and name.lower() == "api_key" and isinstance(value, str)
    return Secret(value) if is_key else value


def bare(error: E) -> E:
    """Return an exception without the frames it has passed, and without the errors it followed.

    The frames of an HTTP library hold the headers, and so the key, those of a parser what a provider quoted
    of them; a report of errors prints their locals.
    """
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return text with each of the secrets in it masked: some providers quote the key they refuse."""
    for secret in sorted(secrets, key=len, reverse=True):  # one may hold another
        if len(secret) >= 4:
            for form in {secret, quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1]}:
                text = text.replace(form, mask(secret))
    return text
