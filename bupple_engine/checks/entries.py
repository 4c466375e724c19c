"""What is checked of one entry of DRIVERS, beside the mistakes that ai() raises."""

from __future__ import annotations

import os
from collections.abc import Iterator

from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured

from bupple_engine.conf import Mistake
from bupple_engine.conf.reading import Reading
from bupple_engine.masking import reveal

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


def check_entry(reading: Reading) -> Iterator[CheckMessage]:
    """Yield what is wrong, or likely to be, in an entry."""
    at = Places(reading.alias)
    wrong = {mistake.address for mistake in reading.mistakes}
    for mistake in reading.mistakes:
        yield of_mistake(mistake._replace(hint=_mend_variable(at, reading, mistake)), reading.alias)
    yield from check_pasted_keys(at, reading)
    yield from check_files(at, reading)
    yield from check_proxy(at, reading)
    yield from _check_required(at, reading, wrong)
    if (wire := reading.wire) is not None:
        yield from check_key(at, wire, reading)
        yield from check_leftovers(at, reading)
        yield from check_url(at, wire, reading)
        yield from check_model(at, wire, reading)
        yield from check_refused(at, wire, reading)
    if not wrong:
        yield from _check_driver(at, reading)


def _mend_variable(at: Places, reading: Reading, mistake: Mistake) -> str:
    """Return the hint; it names the environment variable that a wrong value seems to have come from."""
    for key, value in reading.entry.items():
        variable = at.variable(str(key))
        written = os.environ.get(variable, "").strip()
        if str(at[str(key)]) == mistake.address and written and reveal(value) == written:
            option = reading.known.get(str(key).lower())
            example = (option.example if option else "").strip('"') or "…"
            return f"It is the environment variable {variable}; set, for instance, {variable}={example}"
    return mistake.hint


def _check_required(at: Places, reading: Reading, wrong: set[str]) -> Iterator[CheckMessage]:
    for name in reading.required:
        if name not in reading.config and str(at[name]) not in wrong:
            words = "is empty" if name.upper() in reading.entry else "is not set"
            words = f"{words}, and {reading.name} needs it: calls will fail."
            yield message(_REQUIRED.get(name, "W005"), at[name], words, _advice(name, at, reading))


def _advice(name: str, at: Places, reading: Reading) -> str:
    wire, option = reading.wire, reading.known.get(name)
    if name == "model" and wire is not None:
        return suggest_model(at, wire)
    if name == "base_url" and wire is not None:
        return f'Write "BASE_URL": "{wire.base_url({})}"'
    if option is not None and option.secret is True:
        variable = at.variable(name)
        if wire is not None and name == "api_key" and "" in wire.expiring_keys:
            return CALLABLE_KEY
        line = f'"{name.upper()}": env.str("{variable}", default="")'
        reader = at.reader(name)
        if reader == "the settings file":
            return f"Set the environment variable {variable}, which {reader} reads."
        if reader and option.env is not None:
            return f"Set the environment variable {variable}, which {reader} reads; or write {line}"
        return f"Write {line}, and set that variable."
    return f'Write "{name.upper()}": {option.example if option is not None and option.example else "…"}'


def _check_driver(at: Places, reading: Reading) -> Iterator[CheckMessage]:
    try:
        driver = reading.build()
    except ImproperlyConfigured as error:
        yield of_error("E012", error, at.entry, reading.hide)
        return
    except Exception as error:  # whatever a driver of the site's own raises
        words = f"{reading.name} can't be created: {type(error).__name__}: {error}"
        yield message("E012", at.entry, reading.hide(words), "Fix the driver's __init__, or the entry.")
        return
    for found in guard(driver.check, at.entry, reading.hide):
        if not isinstance(found, CheckMessage):
            raise TypeError(f"{type(driver).__name__}.check() must return CheckMessages, not {found!r}")
        found.obj = at.entry if found.obj is None else Address(str(found.obj), at.alias)
        yield found
