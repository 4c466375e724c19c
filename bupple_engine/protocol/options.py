"""What an entry and a call may set: names, types, defaults, and how two sets of them are merged."""

from __future__ import annotations

import difflib
import inspect
import math
import os
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from bupple_engine.masking import SECRET_OPTIONS, MaskedDict, Secret, SecretURL, reveal
from bupple_engine.masking.keys import shown, unkeyed
from bupple_engine.masking.printing import kind_of

_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

# A day: no clock of an operating system takes any number of seconds.
MAX_SECONDS = 86_400

# An option's value after parsing, by lower-case name; secrets in it are wrapped.
Options = dict[str, Any]


class Clocks(NamedTuple):
    """How long a call may wait, in seconds; send() has connect and total only."""

    connect: float = 5.0
    first_token: float = 60.0
    idle: float = 60.0
    total: float = 600.0


class Limits(NamedTuple):
    """How much of an answer is held, in bytes: an unfinished event of a stream, and the whole."""

    event: int = 16_000_000
    response: int = 100_000_000


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Option:
    """One option: parse returns the clean value or raises ValueError with the words after the name."""

    parse: Callable[[Any], Any]
    per_call: bool = True
    default: Any = None


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
    if not isinstance(value, Secret):
        raise ValueError("must be a string or a callable that returns one")
    if value.is_fixed and (wrong := unfit(value.reveal())):
        raise ValueError(wrong)
    return value


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
    if not isinstance(value, SecretURL) or not value.reveal().startswith(("http://", "https://")):
        raise ValueError("must be a URL that begins with http:// or https://")
    if not value.has_host:
        raise ValueError("must be a URL with a host, and a number for a port")
    return value


def proxy(value: Any) -> SecretURL:
    """Accept the URL of a proxy."""
    if not isinstance(value, SecretURL) or "://" not in value.reveal() or not value.has_host:
        raise ValueError("must be the URL of a proxy, like http://proxy.example:3128")
    return value


def stop(value: Any) -> list[str]:
    """Accept a string or a list of strings."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not values:
        raise ValueError("must be a string or a list of strings")
    if not all(isinstance(item, str) and item and is_text(item) for item in values):
        raise ValueError("must hold strings that are not empty")
    return list(values)


def timeout(value: Any) -> dict[str, float]:
    """Accept seconds for the whole call, or a dict of some of the clocks."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 < value <= MAX_SECONDS:
            raise ValueError(f"must be more than 0 and at most {MAX_SECONDS:,} seconds")
        return {"total": value}
    if not isinstance(value, dict) or not value:
        raise ValueError(f"must be seconds, or a dict of {', '.join(Clocks._fields)}")
    for name, seconds in value.items():
        if name not in Clocks._fields:
            raise ValueError(f"has no clock {name!r}; the clocks are {', '.join(Clocks._fields)}")
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not is_number or not 0 < seconds <= MAX_SECONDS:
            raise ValueError(f"must have more than 0 and at most {MAX_SECONDS:,} seconds at {name!r}")
    return dict(value)


def extra(value: Any) -> MaskedDict:
    """Accept a dict with string keys."""
    if not isinstance(value, MaskedDict) or not all(isinstance(name, str) for name in value):
        raise ValueError("must be a dict with strings for keys")
    return value


def headers(value: Any) -> MaskedDict:
    """Accept a dict of header names and values that fit on one line."""
    if not isinstance(value, MaskedDict):
        raise ValueError("must be a dict of header names and values")
    for name in value:
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"has {shown(name)}, which is no header name")
        if not is_header_value(reveal(value[name])):
            raise ValueError(f"has a value at {shown(name)} that is no single line of Latin-1 text")
    return value


def is_header_value(text: Any) -> bool:
    """Tell whether text can stand in a header: printable, on one line, in Latin-1, nothing to strip."""
    return isinstance(text, str) and text == text.strip() and _HEADER_VALUE.fullmatch(text) is not None


# What a line of an entry may look like, for the errors.
EXAMPLES = {
    "API_KEY": 'env.str("BUPPLE_ENGINE_CLAUDE_API_KEY")',
    "MODEL": '"claude-sonnet-5-5"',
    "TEMPERATURE": "0.2",
    "MAX_TOKENS": "4096",
    "TOP_P": "0.9",
    "STOP": '["END"]',
    "SEED": "7",
    "REASONING_EFFORT": '"low"',
    "TIMEOUT": '{"first_token": 60, "total": 300}',
    "MAX_RETRIES": "2",
    "EXTRA": '{"service_tier": "flex"}',
    "HEADERS": '{"X-Team": "search"}',
    "BASE_URL": '"https://llm.example.com/v1"',
    "PROXY": '"http://proxy.example.com:3128"',
    "CA_FILE": '"/etc/ssl/certs/company.pem"',
}


def right_line(name: str, option: Option, value: Any) -> str:
    """Return the sentence that follows a wrong value: the line to write instead."""
    for convert in (int, float):  # an environment variable is a string
        with suppress(ValueError, TypeError, OverflowError):
            if isinstance(value, str) and option.parse(convert(value)) is not None:
                return f'Write "{name}": {convert(value)!r}, without quotes.'
    return f'Write, for instance, "{name}": {EXAMPLES[name]}' if name in EXAMPLES else ""


COMMON: Mapping[str, Option] = {
    "api_key": Option(api_key),
    "model": Option(string),
    "temperature": Option(number(0)),
    "max_tokens": Option(integer(1)),
    "top_p": Option(number(0, 1)),
    "stop": Option(stop),
    "seed": Option(integer()),
    "reasoning_effort": Option(string),  # the provider's own word: none, minimal, low, medium, high, …
    "timeout": Option(timeout),
    "max_retries": Option(integer(0), default=2),
    "extra": Option(extra),
    "headers": Option(headers),
    "base_url": Option(url, per_call=False),
    "proxy": Option(proxy, per_call=False),
    "ca_file": Option(path, per_call=False),
    "max_event_bytes": Option(integer(1), per_call=False, default=DEFAULT_LIMITS.event),
    "max_response_bytes": Option(integer(1), per_call=False, default=DEFAULT_LIMITS.response),
}


def read_option(name: str, option: Option, value: Any) -> tuple[Any, str]:
    """Return the clean value of what protect() has wrapped, and what is wrong with it, "" if nothing is.

    It raises nothing: whoever does so then has no raw value among its locals.
    """
    found = value if name in SECRET_OPTIONS else reveal(value)
    try:
        return option.parse(found), ""
    except ValueError as error:
        return None, wrong_words(error, found)


def wrong_words(error: ValueError, value: Any) -> str:
    """Return what a parser says of a value, which is shown unless the words say what it has."""
    words = unkeyed(str(error))
    return f"{words}, not {shown(value)}" if words.startswith("must") else words


def merge(below: Options, above: Options) -> Options:
    """Return below with above laid over it; dicts (extra, headers, timeout) are merged key by key."""
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        merged[name] = merge_dicts(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def merge_dicts(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return the deep merge of two dicts, of below's class; what is no dict is replaced."""
    return type(below)(merge(below, above))


_CLOCKS = Clocks()


def clocks(options: Options) -> Clocks:
    """Return the clocks of a call; none is longer than the total."""
    if not options.get("timeout"):
        return _CLOCKS
    chosen = _CLOCKS._replace(**options["timeout"])
    return Clocks(*(min(seconds, chosen.total) for seconds in chosen))


def limits(options: Options) -> Limits:
    """Return how much of an answer is held."""
    return Limits(options["max_event_bytes"], options["max_response_bytes"])


def suggest(name: str, known: Collection[str]) -> str:
    """Return the sentence that follows an unknown name: the nearest known ones, or all of them."""
    # Its table of a word takes fifty times the word, which may be a client's.
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.6) if len(name) <= 100 else []
    if near:
        return f" Did you mean {' or '.join(repr(word) for word in near)}?"
    return f" Known are {', '.join(sorted(known))}." if known else ""
