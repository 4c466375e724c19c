"""The only reader of settings.BUPPLE_ENGINE; it is read when asked, so that tests can override it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from .exceptions import InvalidDriverError
from .masking import hide_dicts, protect
from .options import suggest

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
