"""What is checked with `check --deploy` alone: fit for development, unfit for a server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured

from bupple_engine import conf
from bupple_engine.conf.reading import Reading, read
from bupple_engine.drivers import extras
from bupple_engine.drivers.base import ChatDriver
from bupple_engine.masking import reveal

from .source import settings_strings
from .table import Address, Places, message
from .values import is_this_machine

# What is shorter is a word for a server that wants no key, and stands in many a file.
_KEY_LENGTH = 16
_SECRET_HEADER = re.compile("auth|key|token|secret", re.IGNORECASE)


def check_entry_deployed(reading: Reading) -> Iterator[CheckMessage]:
    """Yield what makes an entry unfit for a server."""
    at = Places(reading.alias)
    for name, option in reading.known.items():
        value = reveal(reading.config.get(name))
        if option.secret is True and isinstance(value, str) and (file := _file_with(value)):
            line = f'"{name.upper()}": env.str("{at.variable(name)}", default="")'
            hint = f"Write {line}, and replace the key if others have seen it."
            yield message("W101", at[name], f"is written as plain text in {file}.", hint)
    for name, value in (reading.config.get("headers") or {}).items():
        if _SECRET_HEADER.search(name) and (file := _file_with(reveal(value))):
            hint = f'Read it from the environment: "HEADERS": {{"{name}": env.str("…")}}'
            yield message("W101", at["headers"], f"has {name!r}, written as plain text in {file}.", hint)
    driver = _driver_of(reading)
    if driver is not None:
        host = urlsplit(driver.endpoint()).hostname
        if host and is_this_machine(host):
            words = f"is {host}, this machine itself: a container or a second server finds nothing there."
            hint = 'Write "BASE_URL": "https://<the host of the model server>/v1"'
            yield message("W105", at["base_url"], words, hint)


def _driver_of(reading: Reading) -> ChatDriver | None:
    """Return an entry's driver, None where it can't be made, which other checks say."""
    with suppress(Exception):  # whatever a driver of the site's own raises
        return reading.build()
    return None


def _file_with(secret: str) -> str | None:
    return settings_strings().get(secret) if len(secret) >= _KEY_LENGTH else None


def check_site_deployed() -> Iterator[CheckMessage]:
    """Yield what makes the whole unfit for a server."""
    readings = [read(alias, entry) for alias, entry in conf.entries() if not isinstance(entry, conf.Mistake)]
    drivers = [driver for driver in map(_driver_of, readings) if driver is not None]
    lacking = {each.name for driver in drivers for each in driver.requirements() if not each.is_ready}
    if getattr(settings, "ASGI_APPLICATION", None) and "async" in lacking:
        words = "is set, but the extra async is missing: each asynchronous stream holds a thread."
        hint = f"Run: {extras.command('async')}"
        yield message("W102", Address("ASGI_APPLICATION"), words, hint)
    with suppress(ImproperlyConfigured):
        alias = conf.default_alias()
        if read(alias, conf.entry(alias)).name == "echo":
            words = f"is {alias!r}, which answers with the question: for tests and demonstrations."
            hint = 'Write "DEFAULT": "claude", or set BUPPLE_ENGINE_DEFAULT, which engine_settings() reads.'
            yield message("W106", Address("BUPPLE_ENGINE['DEFAULT']", alias), words, hint)
