"""BUPPLE_ENGINE['API']: who may call the HTTP API, and what a client may choose."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from bupple_engine import process
from bupple_engine.exceptions import InvalidDriverError
from bupple_engine.masking.keys import shown, unkeyed
from bupple_engine.protocol.options import MAX_SECONDS, suggest
from bupple_engine.protocol.values import boolean, integer, number, string

from .engine import KEYS, Mistake, default_alias, raise_first, read_setting
from .part import Table, defaults, or_none, read_part


@dataclass(frozen=True, slots=True)
class APISettings:
    """BUPPLE_ENGINE['API'] after parsing; classes and PREPARE are still dotted paths, or already objects."""

    permission_classes: list[Any]
    authentication_classes: list[Any] | None  # None: the site's own
    drivers: list[str]
    models: dict[str, list[str]]
    options: dict[str, Any]
    system_messages: bool
    max_messages: int
    max_characters: int
    max_body_bytes: int
    media_types: list[str]
    media_urls: bool
    throttle_rates: dict[str, tuple[int, int] | None]  # calls in so many seconds
    max_concurrent_streams: dict[str, int | None]
    gate_seconds: float
    heartbeat_seconds: float
    shutdown_seconds: float
    prepare: Any


@cache
def api_settings() -> APISettings:
    """Return the settings of the HTTP API; by default only staff may call it, and clients choose nothing."""
    found, mistakes = _read()
    raise_first(iter(mistakes))
    if found["drivers"] is None:
        found["drivers"] = [default_alias()]
    return APISettings(**found)


def readable_api_settings() -> APISettings:
    """Return them for the checks, with defaults in place of what is wrong: no mistake hides another."""
    found, _ = _read()
    found = defaults(API) | found
    if found["drivers"] is None:
        found["drivers"] = []
        with suppress(ImproperlyConfigured):
            found["drivers"] = [default_alias()]
    return APISettings(**found)


process.after_change(api_settings.cache_clear)


def find_api_mistakes() -> Iterator[Mistake]:
    """Yield all that is wrong in BUPPLE_ENGINE['API']."""
    yield from _read()[1]


def _advice(key: str) -> str:
    """Return the hint for an unknown key, which may be one of BUPPLE_ENGINE itself."""
    if key in KEYS:
        return f'It stands beside API: BUPPLE_ENGINE = {{"API": {{…}}, "{key}": …}}'
    return suggest(key, API).strip()


def _read() -> tuple[dict[str, Any], list[Mistake]]:
    found, mistakes = read_part("API", "E013", API, EXAMPLES, _advice)
    value = read_setting()
    drivers = value.get("DRIVERS") if isinstance(value, dict) else None
    for key in ("DRIVERS", "MODELS"):
        for alias in found.get(key.lower()) or ():
            if isinstance(drivers, dict) and alias not in drivers:
                words = f" has {shown(alias)}, which no driver has."
                hint = suggest(alias, [unkeyed(str(name)) for name in drivers]).strip()
                address = f"BUPPLE_ENGINE['API'][{key!r}]"
                mistakes.append(Mistake("E013", address, words, hint, InvalidDriverError))
    return found, mistakes


def _list_of(kind: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    def parse(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise ValueError("must be a list")
        return [kind(item) for item in value]

    return parse


def _dict_of(kind: Callable[[Any], Any], *names: str) -> Callable[[Any], dict[str, Any]]:
    def parse(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise ValueError("must be a dict with strings for keys")
        for name in value:
            if names and name not in names:
                raise ValueError(f"has the key {name!r}; it may have {' and '.join(map(repr, names))}")
        return {name: kind(value[name]) for name in value}

    return parse


def _class_or_path(value: Any) -> Any:
    if not callable(value) and not (isinstance(value, str) and "." in value):
        raise ValueError("must name what it means by dotted paths")
    return value


def _mime_type(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z]+/[\w.+-]+", value):
        raise ValueError("must hold mime types, such as 'image/png'")
    return value.lower()


_PERIODS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _rate(value: Any) -> tuple[int, int]:
    if not isinstance(value, str) or not re.fullmatch(
        r"[1-9]\d*/(s|sec|second|m|min|minute|h|hour|d|day)", value
    ):
        raise ValueError("must hold rates, such as '60/min' (of s, min, hour or day)")
    calls, _, period = value.partition("/")
    return int(calls), _PERIODS[period[0]]


# Never set by a client: it could bill others with these, or bypass every other limit.
SITE_OPTIONS = ("api_key", "base_url", "proxy", "ca_file", "headers", "extra", "context")


def _ceiling(value: Any) -> Any:
    if value is True or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    if isinstance(value, list | tuple) and value:
        return list(value)
    raise ValueError("must hold a ceiling (a number), a list of allowed values, or True for any value")


def _client_options(value: Any) -> dict[str, Any]:
    parsed = _dict_of(_ceiling)(value)
    if wrong := "; it ".join(filter(None, map(_wrong_client_option, parsed))):
        raise ValueError(wrong)
    return parsed


def _wrong_client_option(name: str) -> str:
    if name == "model":
        return "has 'model'; MODELS lists which a client may name"
    if name in SITE_OPTIONS:
        return f"has {name!r}, which no client may set; PREPARE can"
    return f"has {shown(name)}; options of a call are in lower case" if name != name.lower() else ""


def _both(default: dict[str, Any], kind: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    """Return a parser of a dict with the default's names; None is no limit, a missing one the default's."""
    parse = _dict_of(or_none(kind), *default)
    return lambda value: parse({**default, **value} if isinstance(value, Mapping) else value)


_RATES = {"user": "60/min", "anon": "10/min"}
_STREAMS = {"user": 5, "process": 500}

# What a line of API may look like, where the default would not show it.
EXAMPLES: Mapping[str, Any] = {
    "PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "AUTHENTICATION_CLASSES": ["bupple_engine.api.authentication.BearerAuthentication"],
    "DRIVERS": ["claude", "openai"],
    "MODELS": {"claude": ["claude-sonnet-5-5"]},
    "OPTIONS": {"max_tokens": 2000, "temperature": True},
    "PREPARE": "myproject.ai.prepare",
}

API: Table = {
    "PERMISSION_CLASSES": (["rest_framework.permissions.IsAdminUser"], _list_of(_class_or_path)),
    "AUTHENTICATION_CLASSES": (None, or_none(_list_of(_class_or_path))),
    "DRIVERS": (None, or_none(_list_of(string))),
    "MODELS": ({}, _dict_of(_list_of(string))),
    "OPTIONS": ({}, _client_options),
    "SYSTEM_MESSAGES": (False, boolean),
    "MAX_MESSAGES": (100, integer(1)),
    "MAX_CHARACTERS": (200_000, integer(1)),
    "MAX_BODY_BYTES": (10_000_000, integer(1)),
    "MEDIA_TYPES": (["image/png", "image/jpeg", "image/webp", "image/gif"], _list_of(_mime_type)),
    "MEDIA_URLS": (False, boolean),
    "THROTTLE_RATES": (_RATES, _both(_RATES, _rate)),
    "MAX_CONCURRENT_STREAMS": (_STREAMS, _both(_STREAMS, integer(1))),
    "GATE_SECONDS": (20, number(0, MAX_SECONDS)),
    "HEARTBEAT_SECONDS": (15, number(0.01, MAX_SECONDS)),
    "SHUTDOWN_SECONDS": (5, number(0, MAX_SECONDS)),
    "PREPARE": (None, or_none(_class_or_path)),
}
