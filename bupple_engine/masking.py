"""Values that must never be shown: keys, headers and credentials in a URL.

A traceback printed with its locals shows the repr of whatever a frame holds. So the raw values live
in these wrappers from the first line they reach us until the line that sends them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

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

    def reveal(self) -> str:
        """Return the value itself; a callable (a vault, a rotating token) is asked each time."""
        return self._value() if callable(self._value) else self._value


class SecretURL(Secret):
    """Hold a URL whose credentials, where it has any, are masked in its repr."""

    __slots__ = ()

    def __init__(self, value: str) -> None:
        super().__init__(value, mask_url(value))


class MaskedDict(dict[str, Any]):
    """Be a dict whose repr shows the keys alone."""

    def __repr__(self) -> str:
        return repr(dict.fromkeys(self, "…"))

    def __or__(self, other: Mapping[str, Any]) -> MaskedDict:  # type: ignore[override]
        return MaskedDict({**self, **other})


_WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "api_key": lambda value: Secret(value) if isinstance(value, str) or callable(value) else value,
    "base_url": lambda value: SecretURL(value) if isinstance(value, str) else value,
    "proxy": lambda value: SecretURL(value) if isinstance(value, str) else value,
    "headers": lambda value: MaskedDict(value) if isinstance(value, dict) else value,
    "extra": lambda value: MaskedDict(value) if isinstance(value, dict) else value,
}


def protect(options: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a copy with what is secret wrapped; never raises, so that no raw value meets a traceback."""
    return {
        name: _WRAPPERS.get(str(name).lower(), lambda value: value)(value) for name, value in options.items()
    }


def bare(error: BaseException) -> BaseException:
    """Return an exception without the frames it has passed, and without the errors it followed.

    The frames of an HTTP library hold the headers, and so the key; a report may print their locals.
    """
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return text with each of the secrets in it masked: some providers quote the key they refuse."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, mask(secret))
    return text
