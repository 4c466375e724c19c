"""What an option's value may be: each parser takes the plain value, and returns the clean one."""

from __future__ import annotations

import inspect
import math
import os
import re
from collections.abc import Callable
from typing import Any

from bupple_engine.masking import Headers, MaskedDict, Secret, SecretURL, hide
from bupple_engine.masking.keys import shown
from bupple_engine.masking.printing import kind_of

_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def string(value: Any) -> str:
    """Accept a string that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a string that is not empty")
    if not is_text(value):
        raise ValueError("has a lone surrogate, which is no character and can't be sent")
    return value


def path(value: Any) -> str:
    """Accept a path, as a string or as an object such as pathlib's."""
    return string(os.fspath(value) if isinstance(value, os.PathLike) else value)


def is_text(value: str) -> bool:
    """Tell whether each of a string's code points is a character, as UTF-8 can say it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def boolean(value: Any) -> bool:
    """Accept True or False."""
    if not isinstance(value, bool):
        raise ValueError("must be True or False")
    return value


def number(low: float = -math.inf, high: float = math.inf) -> Callable[[Any], float]:
    """Return a parser of numbers within bounds."""

    def parse(value: Any) -> float:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
            or abs(value) == math.inf
        ):
            bounds = f" from {low:g} to {high:g}" if math.isfinite(high) else f" of at least {low:g}"
            raise ValueError(f"must be a number{bounds if math.isfinite(low) else ''}")
        return value

    return parse


def integer(low: int | None = None) -> Callable[[Any], int]:
    """Return a parser of whole numbers of at least low."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or (low is not None and value < low):
            raise ValueError("must be a whole number" + (f" of at least {low}" if low is not None else ""))
        return value

    return parse


def choice(*values: str) -> Callable[[Any], str]:
    """Return a parser that accepts one of some words."""

    def parse(value: Any) -> str:
        if value not in values:
            raise ValueError(f"must be one of {', '.join(values)}")
        return str(value)

    return parse


def api_key(value: Any) -> Secret:
    """Accept a key, or a callable that gives one."""
    if not isinstance(value, str) and not callable(value):
        raise ValueError("must be a string or a callable that returns one")
    key = Secret(value)
    if key.is_fixed and (wrong := unfit(value)):
        raise ValueError(wrong)
    return key


def unfit(key: Any) -> str:
    """Return why a key can't stand in a header, "" where it can; the key is not shown."""
    if inspect.iscoroutine(key):
        key.close()  # nobody will await it
        return "is awaited by nobody: its callable must be an ordinary function"
    if not isinstance(key, str):
        return f"is {kind_of(key)}: its callable must return a string"
    if key and is_header_value(key):
        return ""
    if not key.strip():
        return "is empty"
    odd = next((character for character in key.strip() if not _HEADER_VALUE.fullmatch(character)), "")
    if odd.isprintable() and odd:  # a dash or a quote that an editor made of a plain one
        return f"has the character {odd!r} in it, which no header can carry"
    return "has white space or a line break before, in or behind it"


def url(value: Any) -> SecretURL:
    """Accept an http(s) URL."""
    if not isinstance(value, str) or not value.startswith(("http://", "https://")):
        raise ValueError("must be a URL that begins with http:// or https://")
    if not (found := SecretURL(value)).has_host:
        raise ValueError("must be a URL with a host, and a number for a port")
    return found


def proxy(value: Any) -> SecretURL:
    """Accept the URL of a proxy."""
    if not isinstance(value, str) or "://" not in value or not (found := SecretURL(value)).has_host:
        raise ValueError("must be the URL of a proxy, like http://proxy.example:3128")
    return found


def stop(value: Any) -> list[str]:
    """Accept a string or a list of strings."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not values:
        raise ValueError("must be a string or a list of strings")
    if not all(isinstance(item, str) and item and is_text(item) for item in values):
        raise ValueError("must hold strings that are not empty")
    return list(values)


def extra(value: Any) -> MaskedDict:
    """Accept a dict with string keys."""
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ValueError("must be a dict with strings for keys")
    hidden: MaskedDict = hide(value)
    return hidden


def headers(value: Any) -> Headers:
    """Accept a dict of header names and values that fit on one line."""
    if not isinstance(value, dict):
        raise ValueError("must be a dict of header names and values")
    for name in value:
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"has {shown(name)}, which is no header name")
        if not is_header_value(value[name]):
            raise ValueError(f"has a value at {shown(name)} that is no single line of Latin-1 text")
    return Headers({name: hide(inner) for name, inner in value.items()})


def is_header_value(text: Any) -> bool:
    """Tell whether text can stand in a header: printable, on one line, in Latin-1, nothing to strip."""
    return isinstance(text, str) and text == text.strip() and _HEADER_VALUE.fullmatch(text) is not None
