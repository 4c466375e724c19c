"""Values that must never be shown: keys, headers and credentials in a URL.

A report of errors prints the locals of the frames that an error passed, and walks into dicts and lists,
whatever their repr. So raw values live in these wrappers from the first line they reach us until the line
that sends them.
"""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Self, TypeAlias, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from .keys import find_keys, mask, unkeyed

E = TypeVar("E", bound=BaseException)

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)?([^/?#]*)(.*)", re.DOTALL)
_HOST = re.compile(r"[^:]*(:[0-9]*)?|\[.*")
_QUERY_VALUE = re.compile(r"([?&;])([^=&;#]*)=([^&;#]*)")
# The last word of a name behind which a secret stands: X-Api-Key, client_secret, authToken, accesskey.
_SECRET_NAME = re.compile(
    r"(?:key|token|secret|signature|sig|passw(?:or)?d|passphrase|pwd|auth|authorization|credentials?|bearer"
    r"|cookie|session|jwt)s?$",
    re.IGNORECASE,
)


def names_secret(name: str) -> bool:
    """Return whether a name says that a secret stands behind it."""
    return _SECRET_NAME.search(name) is not None and not name.lower().endswith("tokens")


def mask_url(url: str) -> str:
    """Return a URL without its user, its password, what looks like a key, and the query's secret values."""
    scheme, user, rest = _split_user(url)
    return unkeyed(_QUERY_VALUE.sub(_mask_value, f"{scheme}{'…@' if user else ''}{rest}"))


def _split_user(url: str) -> tuple[str, str, str]:
    """Return what is before a URL's user and password, these, and what is behind; the first may be missing.

    Not by urlsplit, which raises for some, and finds others where they are not.
    """
    scheme, authority, rest = _URL.fullmatch(url).groups("")  # type: ignore[union-attr] # it takes any text
    if "@" not in authority and not _HOST.fullmatch(authority):  # a password with a slash in it
        authority, rest = authority + rest, ""
    user, _, host = authority.rpartition("@")
    return scheme, user, host + rest


def _mask_value(found: re.Match[str]) -> str:
    is_secret = names_secret(found[2]) or find_keys(found[3])
    return f"{found[1]}{found[2]}={'…' if is_secret else found[3]}"


class Hidden:
    """Hold any value behind a repr that does not show it; its attributes don't, either.

    It can be copied, and not be pickled: what is written down is read by others.
    """

    __slots__ = ("_get", "_shown")

    def __init__(self, value: Any, shown: str = "…") -> None:
        self._get: Callable[[], Any] = lambda: value  # some reporters of errors walk through attributes
        self._shown = shown

    def __repr__(self) -> str:
        return self._shown

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hidden) and bool(other._get() == self._get())

    def __hash__(self) -> int:
        return hash(self._get())

    def __copy__(self) -> Hidden:
        return self

    def __deepcopy__(self, memo: object) -> Hidden:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        refuse_pickling(self)

    def reveal(self) -> Any:
        """Return the value itself."""
        return self._get()


def refuse_pickling(value: object) -> NoReturn:
    """Raise what pickle shall raise for a value with a secret in it."""
    raise TypeError(
        f"A {type(value).__name__} can't be pickled: it has a secret in it. Pass on the driver's alias, and "
        "call ai(alias) where it is needed."
    )


class Secret(Hidden):
    """Hold a string, or a callable that gives one, behind a masked repr."""

    __slots__ = ()

    def __init__(self, value: str | Callable[[], str], shown: str | None = None) -> None:
        super().__init__(
            value, shown if shown is not None else mask(value) if isinstance(value, str) else "…"
        )

    @property
    def is_fixed(self) -> bool:
        """Whether reveal() asks nobody."""
        return not callable(self._get())

    def ask(self) -> Secret:
        """Return what a callable gives now, wrapped whatever its type: a call asks a vault once."""
        return self if self.is_fixed else Secret(self.reveal())

    def reveal(self) -> str:
        """Return the value itself; a callable (a vault, a rotating token) is asked each time."""
        value: Any = self._get()
        try:
            found: str = value() if callable(value) else value
        except StopIteration as error:  # of next(keys): in a thread, its caller would wait for ever
            raise RuntimeError("The callable that gives the key raised a StopIteration") from error
        return found


class SecretURL(Secret):
    """Hold a URL whose credentials, where it has any, are masked in its repr."""

    __slots__ = ()

    def __init__(self, value: str) -> None:
        super().__init__(value, "")

    def __repr__(self) -> str:
        return mask_url(self.reveal())  # when it is asked for: each call makes one, and shows none

    __str__ = __repr__

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
        url = self.reveal()
        user = unquote(_split_user(url)[1]) if "@" in url else ""
        return tuple(filter(None, (user, *user.split(":", 1), basic(user)))) if user else ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The credentials, also as they are written, and what is secret in its query and its path."""
        _, written, _ = _split_user(self.reveal())
        try:
            query = parse_qsl(urlsplit(self.reveal()).query)
        except ValueError:
            query = []
        values = (value for name, value in query if names_secret(name))
        return (*self.credentials, *filter(None, written.split(":", 1)), *values, *find_keys(self.reveal()))


def basic(user: str) -> str:
    """Return user:password as the scheme Basic sends it."""
    return base64.b64encode(user.encode("utf-8", "replace")).decode()


class MaskedDict(dict[str, Any]):
    """Be a dict whose repr shows the keys alone, and which can't be pickled."""

    def __repr__(self) -> str:
        return repr({unkeyed(str(name)): "…" for name in self})

    def __or__(self, other: Mapping[str, Any]) -> Self:  # type: ignore[override]
        return type(self)({**self, **other})

    def copy(self) -> Self:
        return type(self)(self)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)({name: copy.deepcopy(value, memo) for name, value in self.items()})

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        refuse_pickling(self)


class Headers(MaskedDict):
    """Be a dict of headers: what stands in it is secret but where its name says how, not who."""


class Misfit:
    """Stand for a value of a wrong type where a secret belongs, and may be all the same."""

    __slots__ = ("kind",)

    def __init__(self, value: object) -> None:
        self.kind = type(value).__name__

    def __repr__(self) -> str:
        return f"a value of type {self.kind}"


def unkeyed_name(name: Any) -> Any:
    """Return the name of an option, or of a header; no right one is as long as a key."""
    return unkeyed(name) if isinstance(name, str) and len(name) > 15 else name


Kind: TypeAlias = bool | type[SecretURL] | type[MaskedDict]


def conceal(value: Any, kind: Kind) -> Any:
    """Return a value wrapped as a secret of its kind; what is no value of the kind is a Misfit.

    True: whole, in a Secret. SecretURL: a URL whose credentials are secret. MaskedDict, Headers: a dict in
    which something may be. None stays None, and what is wrapped in this way already stays as it is.
    """
    if value is None or isinstance(value, Secret | Misfit):
        return value
    if kind is SecretURL:
        return SecretURL(found) if isinstance(found := reveal(value), str) else Misfit(found)
    if kind is Headers and isinstance(value, dict):
        return Headers({unkeyed_name(name): hide(inner) for name, inner in value.items()})
    if isinstance(kind, type):
        return hide(value) if isinstance(value, dict) else Misfit(reveal(value))
    return Secret(reveal(value))


def hide(value: Any, around: tuple[int, ...] = ()) -> Any:
    """Return a value with all that may be secret in it wrapped; dicts stay dicts, for what merges them."""
    if value is None or isinstance(value, bool | int | float | Hidden):
        return value
    if isinstance(value, dict) and id(value) not in around:  # one that holds itself is refused later
        around = (*around, id(value))
        return MaskedDict({name: hide(inner, around) for name, inner in value.items()})
    return Hidden(value)


def reveal(value: Any) -> Any:
    """Return what hide() was given; a callable that gives a key is not asked."""
    if isinstance(value, Hidden):
        return value._get()
    if isinstance(value, MaskedDict):
        return {name: inner if type(inner) is str else reveal(inner) for name, inner in value.items()}
    return value


def bare(error: E) -> E:
    """Return an exception without the frames it has passed, and without the errors it followed.

    The frames of an HTTP library hold the headers, and so the key, those of a parser what a provider quoted
    of them; a report of errors prints their locals.
    """
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def shown_in_config(value: Any) -> Any:
    """Return an option's value as it may be shown: what is wrapped by its repr, or a dict's names alone."""
    if isinstance(value, MaskedDict):
        return {unkeyed(str(name)): "…" for name in value}
    if isinstance(value, Hidden):
        return repr(value)
    if isinstance(value, str):
        return unkeyed(value)
    if isinstance(value, list):
        return [shown_in_config(item) for item in value]
    if isinstance(value, dict):
        return {unkeyed(str(name)): shown_in_config(inner) for name, inner in value.items()}
    return value
