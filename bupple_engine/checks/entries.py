"""What is checked of one entry of DRIVERS, beside the mistakes that ai() raises."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured

from bupple_engine.conf import Mistake
from bupple_engine.conf.registry import Reading, read
from bupple_engine.masking import reveal
from bupple_engine.masking.keys import unkeyed
from bupple_engine.protocol.options import EXAMPLES
from bupple_engine.protocol.scrubbing import scrub, secrets_of
from bupple_engine.wires.base import Wire

from .table import Address, Places, guard, message, of_error, of_mistake
from .values import (
    CALLABLE_KEY,
    check_files,
    check_key,
    check_leftovers,
    check_model,
    check_pasted_keys,
    check_proxy,
    check_refused,
    check_url,
    suggest_model,
)

_REQUIRED = {"api_key": "W003", "model": "W004"}


def check_entry(alias: str, entry: dict[str, Any]) -> Iterator[CheckMessage]:
    """Yield what is wrong, or likely to be, in an entry whose secrets are wrapped."""
    reading = read(alias, entry)
    at = Places(alias)
    wrong = {mistake.address for mistake in reading.mistakes}
    for mistake in reading.mistakes:
        yield of_mistake(mistake._replace(hint=_mend_variable(at, entry, mistake)), alias)
    yield from check_pasted_keys(at, entry)
    yield from check_files(at, reading)
    yield from check_proxy(at, reading)
    if reading.wire is not None:
        yield from _check_required(at, entry, reading.wire, reading, wrong)
        yield from check_key(at, reading.wire, reading)
        yield from check_leftovers(at, reading)
        yield from check_url(at, reading.wire, reading)
        yield from check_model(at, reading.wire, reading)
        yield from check_refused(at, reading.wire, reading)
    if not wrong:
        yield from _check_driver(at, reading)


def _mend_variable(at: Places, entry: dict[str, Any], mistake: Mistake) -> str:
    """Return the hint; it names the environment variable that a wrong value seems to have come from."""
    for key, value in entry.items():
        variable = at.variable(str(key))
        written = os.environ.get(variable, "").strip()
        if str(at[str(key)]) == mistake.address and written and reveal(value) == written:
            example = EXAMPLES.get(key, "…").strip('"')
            return f"It is the environment variable {variable}; set, for instance, {variable}={example}"
    return mistake.hint


def hide_secrets(entry: dict[str, Any], text: str) -> str:
    """Return a text of someone else's without what is secret in an entry."""
    return unkeyed(scrub(text, secrets_of(entry)))


def _check_required(
    at: Places, entry: dict[str, Any], wire: Wire, reading: Reading, wrong: set[str]
) -> Iterator[CheckMessage]:
    for name in wire.required:
        if name not in reading.config and str(at[name]) not in wrong:
            words = "is empty" if name.upper() in entry else "is not set"
            words = f"{words}, and {reading.name} needs it: calls will fail."
            yield message(_REQUIRED.get(name, "W005"), at[name], words, _advice(name, at, wire))


def _advice(name: str, at: Places, wire: Wire) -> str:
    if name == "model":
        return suggest_model(at, wire)
    if name == "base_url":
        return f'Write "BASE_URL": "{wire.base_url({})}"'
    if name == "api_key":
        variable = at.variable(name)
        if "" in wire.expiring_keys:
            return CALLABLE_KEY
        line = f'"API_KEY": env.str("{variable}", default="")'
        reader = at.reader(name)
        if reader == "the settings file":
            return f"Set the environment variable {variable}, which {reader} reads."
        if reader:
            return f"Set the environment variable {variable}, which {reader} reads; or write {line}"
        return f"Write {line}, and set that variable."
    return f'Write "{name.upper()}": …'


def _check_driver(at: Places, reading: Reading) -> Iterator[CheckMessage]:
    try:
        driver = reading.build(at.alias)
    except ImproperlyConfigured as error:
        yield of_error("E012", error, at.entry, partial(hide_secrets, reading.config))
        return
    except Exception as error:  # whatever a driver of the site's own raises
        words = f"{reading.name} can't be created: {type(error).__name__}: {error}"
        words = hide_secrets(reading.config, words)
        yield message("E012", at.entry, words, "Fix the driver's __init__, or the entry.")
        return
    for found in guard(driver.check, at.entry, partial(hide_secrets, reading.config)):
        if not isinstance(found, CheckMessage):
            raise TypeError(f"{type(driver).__name__}.check() must return CheckMessages, not {found!r}")
        found.obj = at.entry if found.obj is None else Address(str(found.obj), at.alias)
        yield found
