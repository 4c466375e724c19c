"""Secrets in what others say: some providers, and some proxies, quote all that they were sent."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from bupple_engine.exceptions import EngineError
from bupple_engine.masking import Headers, Secret, SecretURL, names_secret, reveal
from bupple_engine.masking.keys import find_keys, mask, unkeyed
from bupple_engine.masking.printing import one_line

from .options import COMMON, Option

MIN_LENGTH = 4  # what is shorter stands in too many words
MAX_LENGTH = 10_000  # what is longer is looked for as it is alone: its pattern would take seconds

# Headers that say how, not who.
_OPEN_HEADER = re.compile(r"accept.*|content-.*|user-agent|.*-(beta|version|title)", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z]{1,11}")
_NO_WORD = re.compile(r"(?=.*[A-Za-z])(?=.*[0-9])\S{12,500}")
_SCHEMES = frozenset({"none", "auto", "bearer", "basic", "api-key", "required", "default"})
_NAME_OF_A_NAME = re.compile(r"model|version|format|type", re.IGNORECASE)


class Secrets:
    """The secrets of a request, gathered when they are first asked for, which most calls never do."""

    __slots__ = ("_sources",)

    def __init__(self, *sources: Callable[[], Iterable[str]]) -> None:
        self._sources = list(sources)

    def __iter__(self) -> Iterator[str]:
        for source in self._sources:
            yield from source()

    def add(self, url: SecretURL) -> None:
        """Count what is secret in a URL among them, such as a proxy's of the environment."""
        self._sources.append(lambda: url.secrets)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return text with each of the secrets in it masked, in all the forms in which it may be quoted."""
    for secret in sorted(set(secrets), key=len, reverse=True):  # one may hold another
        masked = mask(secret)
        if len(secret) > MAX_LENGTH:
            text = text.replace(secret, masked)
        elif len(secret) >= MIN_LENGTH:
            text = re.sub(_quoted(secret), lambda _, masked=masked: masked, text)  # type: ignore[misc]
    return text


def _quoted(secret: str) -> str:
    """Return the pattern of a secret in a URL, in JSON, in HTML or in base64."""
    pattern = "".join(map(_character, secret))
    if len(secret) < 8:  # a short password may be a part of any word
        return rf"(?<![A-Za-z0-9]){pattern}(?![A-Za-z0-9])"
    return "|".join([pattern, *map(re.escape, _base64_forms(secret.encode("utf-8", "replace")))])


def _character(character: str) -> str:
    if character.isascii() and character.isalnum():
        return character
    forms = {
        character,
        "+" if character == " " else character,
        quote(character, safe="", errors="replace"),
        json.dumps(character)[1:-1],
        f"\\u{ord(character):04x}",
        f"\\{character}",
        repr(character)[1:-1],
        html.escape(character),
    }
    return f"(?i:{'|'.join(map(re.escape, sorted(forms, key=len, reverse=True)))})"


def _base64_forms(secret: bytes) -> Iterator[str]:
    """Yield how a secret looks inside of base64, wherever in it the secret begins."""
    for before in range(3):
        padded = base64.b64encode(bytes(before) + secret).decode().rstrip("=")
        # The characters at both ends are made of the neighbours' bits, too.
        whole = padded[(0, 2, 3)[before] : (len(secret) + before) * 8 // 6]
        yield whole
        yield whole.replace("+", "-").replace("/", "_")


def clean(error: EngineError, secrets: Iterable[str]) -> None:
    """Mask the secrets in what a provider says of a failure, and make it printable.

    The message keeps its lines, which str(error) joins; all else is on one. A gateway may quote a key of its
    own, which is known by its looks alone.
    """
    known = [*secrets]
    for name in ("type", "param", "request_id"):
        if isinstance(text := getattr(error, name), str):
            words = one_line(scrub(text, known))
            setattr(error, name, words if name == "request_id" else unkeyed(words))
    lines = unkeyed(scrub(str(error.message), known)).split("\n")
    error.message = "\n".join(map(one_line, lines))
    error.args = (error.message,)


def secrets_of(options: Mapping[Any, Any], known: Mapping[str, Option] = COMMON) -> Iterator[str]:
    """Yield the secrets in an entry, or in a call's options; a callable that gives a key is not asked.

    These are what an option says is secret, by `known` or by how it is wrapped: keys, credentials of URLs and
    the values of headers; in all other options what stands under a name such as key, token or password, or
    looks like a vendor's key; and within extra what looks like no word.
    """
    for name, value in options.items():
        name = str(name).lower()
        option = known.get(name)
        if option is not None and option.secret:
            value = option.conceal(value)
        if isinstance(value, SecretURL):
            yield from value.secrets
        elif isinstance(value, Secret):
            yield from _find(name, reveal(value), _tells_always)
        elif isinstance(value, Headers):
            yield from _find(name, reveal(value), _tells_in_header)
        else:
            yield from _find(name, reveal(value), _tells if isinstance(value, dict) else _tells_by_name)


def _find(
    name: str, value: Any, tells: Callable[[str, str], bool], around: tuple[int, ...] = ()
) -> Iterator[str]:
    """Yield the secrets in a value of any shape, even in one that holds itself."""
    if id(value) in around:
        return
    if isinstance(value, dict):
        for inner_name, inner in value.items():
            yield from _find(str(inner_name), inner, tells, (*around, id(value)))
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _find(name, inner, tells, (*around, id(value)))
    elif isinstance(value, bytes):
        yield from _find(name, value.decode("latin-1"), tells)
    elif tells is _tells_always and isinstance(value, str | int | float) and not isinstance(value, bool):
        yield str(value)
        if "://" in str(value):
            yield from SecretURL(str(value)).secrets
    elif isinstance(value, str):
        yield from find_keys(value)
        if "://" in value:
            yield from SecretURL(value).secrets
        elif tells(name, value):
            yield value
            # `Bearer …`, `a=…; b=…`: it may be quoted without what stands before it.
            yield from filter(_NO_WORD.fullmatch, re.split(r"[\s,;=]+", value))


def _tells_always(name: str, value: str) -> bool:
    return True


def _tells_by_name(name: str, value: str) -> bool:
    return names_secret(name) and value.lower() not in _SCHEMES


def _tells_in_header(name: str, value: str) -> bool:
    return _tells_by_name(name, value) or not (_OPEN_HEADER.fullmatch(name) or _WORD.fullmatch(value))


def _tells(name: str, value: str) -> bool:
    return _tells_by_name(name, value) or (
        _NO_WORD.fullmatch(value) is not None and not _NAME_OF_A_NAME.search(name)
    )
