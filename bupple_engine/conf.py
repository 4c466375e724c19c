"""The only reader of settings.BUPPLE_ENGINE; it is read when asked, so that tests can override it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from .exceptions import InvalidDriverError
from .masking import hide_dicts, protect
from .options import boolean, integer, number, string, suggest

KEYS = ("DEFAULT", "DRIVERS", "API", "MAX_THREADS")

MAX_THREADS = 500


def _settings() -> dict[str, Any]:
    value = hide_dicts(getattr(settings, "BUPPLE_ENGINE", None))
    if value is None:
        raise ImproperlyConfigured(
            "settings.BUPPLE_ENGINE is not set. Add, for a driver that needs no key: "
            'BUPPLE_ENGINE = {"DEFAULT": "echo", "DRIVERS": {"echo": {}}}'
        )
    if not isinstance(value, dict):
        value = type(value).__name__  # a report of errors prints what a frame holds
        raise ImproperlyConfigured(f"BUPPLE_ENGINE must be a dict, not a {value}.")
    for key in value:
        if key not in KEYS:
            raise ImproperlyConfigured(f"BUPPLE_ENGINE: unknown key {key!r}.{suggest(str(key), KEYS)}")
    return value


def default_alias() -> str:
    """Return DEFAULT; where it is left out, the only driver's alias."""
    return _plain_default() or _checked_default()


def _plain_default() -> str | None:
    """Return DEFAULT where nothing is wrong with it: most calls ask for no more, and each call asks."""
    value = getattr(settings, "BUPPLE_ENGINE", None)
    if isinstance(value, dict) and value.keys() <= set(KEYS):
        alias, drivers = value.get("DEFAULT"), value.get("DRIVERS")
        if isinstance(alias, str) and isinstance(drivers, dict) and alias in drivers:
            return alias
    return None


def _checked_default() -> str:
    drivers = _drivers()
    alias = _settings().get("DEFAULT")
    if alias is None:
        if len(drivers) == 1:
            return next(iter(drivers))
        raise ImproperlyConfigured(
            "BUPPLE_ENGINE['DEFAULT'] is not set; set it to one of "
            f"{', '.join(map(repr, drivers)) or 'DRIVERS'}."
        )
    if alias not in drivers:
        raise InvalidDriverError(
            f"BUPPLE_ENGINE['DEFAULT'] is {alias!r}, which no driver has.{_known(alias)}"
        )
    return str(alias)


def entry(alias: str) -> dict[str, Any]:
    """Return the entry of a driver, what is secret in it wrapped."""
    drivers = _drivers()
    if alias not in drivers:
        raise InvalidDriverError(f"There is no driver {alias!r} in BUPPLE_ENGINE['DRIVERS'].{_known(alias)}")
    if not isinstance(drivers[alias], dict):
        raise ImproperlyConfigured(f"BUPPLE_ENGINE['DRIVERS'][{alias!r}] must be a dict.")
    return protect(drivers[alias])


def max_threads() -> int:
    """Return how many threads may run streams for asynchronous callers where aiohttp is missing."""
    value = _settings().get("MAX_THREADS", MAX_THREADS)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ImproperlyConfigured("BUPPLE_ENGINE['MAX_THREADS'] must be a whole number of at least 1.")
    return value


def _drivers() -> dict[str, Any]:
    found = _settings()
    if not isinstance(found.get("DRIVERS"), dict):
        raise ImproperlyConfigured("BUPPLE_ENGINE['DRIVERS'] must be a dict of aliases and their entries.")
    return found["DRIVERS"]  # type: ignore[no-any-return]


def _known(alias: Any) -> str:
    return suggest(str(alias), list(_drivers())) or " There are none."


@dataclass(frozen=True, slots=True)
class APISettings:
    """BUPPLE_ENGINE['API'] after parsing; classes and PREPARE are still dotted paths or what they name."""

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
    throttle_rates: dict[str, str | None]
    max_concurrent_streams: dict[str, int | None]
    gate_seconds: float
    heartbeat_seconds: float
    shutdown_seconds: float
    prepare: Any


def api_settings() -> APISettings:
    """Return the settings of the HTTP API; by default staff alone may call it, and clients choose nothing."""
    given = _settings().get("API")
    given = {} if given is None else given
    if not isinstance(given, dict):
        raise ImproperlyConfigured("BUPPLE_ENGINE['API'] must be a dict.")
    for key in given:
        if key not in API:
            raise ImproperlyConfigured(f"BUPPLE_ENGINE['API']: unknown key {key!r}.{suggest(str(key), API)}")
    found: dict[str, Any] = {}
    for key, (default, parse) in API.items():
        value = given.get(key, default)
        try:
            found[key.lower()] = parse(value)
        except ValueError as error:
            raise ImproperlyConfigured(f"BUPPLE_ENGINE['API'][{key!r}] {error}, not {value!r}.") from None
    if found["drivers"] is None:
        found["drivers"] = [default_alias()]
    for key in ("drivers", "models"):
        for alias in found[key]:
            if alias not in _drivers():
                where = f"BUPPLE_ENGINE['API'][{key.upper()!r}]"
                raise InvalidDriverError(f"{where} has {alias!r}, which no driver has.{_known(alias)}")
    return APISettings(**found)


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


def _or_none(kind: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else kind(value)


def _class_or_path(value: Any) -> Any:
    if not callable(value) and not (isinstance(value, str) and "." in value):
        raise ValueError("must name what it means by dotted paths")
    return value


def _mime_type(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z]+/[\w.+-]+", value):
        raise ValueError("must hold mime types, such as 'image/png'")
    return value.lower()


def _rate(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(
        r"[1-9]\d*/(s|sec|second|m|min|minute|h|hour|d|day)", value
    ):
        raise ValueError("must hold rates, such as '60/min' (of s, min, hour or day)")
    return value


# Never a client's: what it could bill to others, or send past every other limit.
SITE_OPTIONS = ("api_key", "base_url", "proxy", "ca_file", "headers", "extra", "context")


def _ceiling(value: Any) -> Any:
    if value is True or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    if isinstance(value, list | tuple) and value:
        return list(value)
    raise ValueError("must hold a ceiling (a number), a list of allowed values, or True for any value")


def _client_options(value: Any) -> dict[str, Any]:
    parsed = _dict_of(_ceiling)(value)
    for name in parsed:
        if name == "model":
            raise ValueError("has 'model'; MODELS lists which a client may name")
        if name in SITE_OPTIONS:
            raise ValueError(f"has {name!r}, which no client may set; PREPARE can")
        if name != name.lower():
            raise ValueError(f"has {name!r}; options of a call are in lower case")
    return parsed


def _both(default: dict[str, Any], kind: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    """Return a parser of a dict with the default's names; None is no limit, a missing one the default's."""
    parse = _dict_of(_or_none(kind), *default)
    return lambda value: {**default, **parse(value)}


_RATES = {"user": "60/min", "anon": "10/min"}
_STREAMS = {"user": 5, "process": 500}

# Key → default and parser.
API: Mapping[str, tuple[Any, Callable[[Any], Any]]] = {
    "PERMISSION_CLASSES": (["rest_framework.permissions.IsAdminUser"], _list_of(_class_or_path)),
    "AUTHENTICATION_CLASSES": (None, _or_none(_list_of(_class_or_path))),
    "DRIVERS": (None, _or_none(_list_of(string))),
    "MODELS": ({}, _dict_of(_list_of(string))),
    "OPTIONS": ({}, _client_options),
    "SYSTEM_MESSAGES": (False, boolean),
    "MAX_MESSAGES": (100, integer(1)),
    "MAX_CHARACTERS": (200_000, integer(1)),
    "MAX_BODY_BYTES": (10_000_000, integer(1)),
    "MEDIA_TYPES": (["image/png", "image/jpeg", "image/webp", "image/gif"], _list_of(_mime_type)),
    "THROTTLE_RATES": (_RATES, _both(_RATES, _rate)),
    "MAX_CONCURRENT_STREAMS": (_STREAMS, _both(_STREAMS, integer(1))),
    "GATE_SECONDS": (20, number(0)),
    "HEARTBEAT_SECONDS": (15, number(0.01)),
    "SHUTDOWN_SECONDS": (5, number(0)),
    "PREPARE": (None, _or_none(_class_or_path)),
}
