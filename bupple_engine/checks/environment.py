"""The environment: variables that nothing reads, and a key that is there while echo answers."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache

from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured

from bupple_engine import conf
from bupple_engine.conf.env import (
    DEFAULT,
    PREFIX,
    driver_of,
    known_variables,
    own_aliases,
    suffixes,
    variable,
)
from bupple_engine.conf.naming import find, load
from bupple_engine.conf.reading import Reading, read
from bupple_engine.drivers import DRIVERS, OTHER_NAMES, VENDOR_VARIABLES
from bupple_engine.masking import Secret
from bupple_engine.protocol.options import COMMON, Option

from .source import names_in_settings, settings_strings
from .table import Address, Places, message

_DEFAULT_MISTAKEN = (f"{PREFIX}DEFAULT_DRIVER", f"{PREFIX}DRIVER", f"{PREFIX}DEFAULT_ENGINE")


@cache
def _suffixes() -> list[str]:
    """Return what the variables of the drivers that come with this package end in."""
    names = {name.upper() for driver in DRIVERS for name in suffixes(driver)}
    return sorted(names, key=len, reverse=True)


def _of_an_alias(name: str) -> re.Match[str] | None:
    return re.fullmatch(rf"{PREFIX}(\w+?)_({'|'.join(_suffixes())})", name)


def check_environment() -> Iterator[CheckMessage]:
    """Yield a warning for each variable that is meant for us and that nothing reads."""
    known = known_variables()
    names = {name for name in os.environ if name.upper().startswith((PREFIX, "BUPPLE_DEFAULT_"))} - known
    names |= {name for name in os.environ if _whole(name) != name and _whole(name) in known}
    readings = {
        alias: read(alias, entry) for alias, entry in conf.entries() if not isinstance(entry, conf.Mistake)
    }
    if names:
        names -= {*settings_strings(), *_variables_of_entries(readings)}
    for name in sorted(names):
        words = "is not read by anything in bupple_engine."
        yield message("W016", Address(f"os.environ[{name!r}]"), words, _advice(name, known))
    yield from _check_vendors_variables(readings)
    yield from _check_echo(readings)


def _check_vendors_variables(readings: dict[str, Reading]) -> Iterator[CheckMessage]:
    """Report vendors' own variables while no driver has a key, or while the vendor's driver has none."""
    there = [name for name in VENDOR_VARIABLES if os.environ.get(name, "").strip()]
    if not there:
        return
    keyless = {reading.name for reading in readings.values() if _lacks_key(reading)}
    is_first_hour = not any(reading.config.get("api_key") for reading in readings.values())
    read_by_settings = settings_strings()
    for name in there:
        driver = VENDOR_VARIABLES[name]
        # HF_TOKEN and its like serve other ends, too.
        meant = driver in keyless or (is_first_hour and name.endswith("_API_KEY"))
        if name in read_by_settings or not meant:
            continue
        ours = variable(driver, "API_KEY")
        wire = load(driver, driver).wire
        model = (wire.suggested_model if wire is not None else "") or "…"
        if names_in_settings("engine_settings"):
            hint = f"Set {ours} too, in .env by the line {ours}=${name}"
        else:
            line = f'"API_KEY": env.str("{name}", default=""), "MODEL": "{model}"'
            hint = f'Write "{driver}": {{{line}}} into "DRIVERS", '
            hint += f"or set {ours}, which engine_settings() reads."
        words = f"is set, but nothing reads it: a key for {driver} belongs in its entry."
        yield message("W025", Address(f"os.environ[{name!r}]"), words, hint)


def _lacks_key(reading: Reading) -> bool:
    return "api_key" in reading.required and not reading.config.get("api_key")


def _check_echo(readings: dict[str, Reading]) -> Iterator[CheckMessage]:
    """Report an echo that is the default by mistake: the environment has a key for another driver."""
    if any(os.environ.get(name, "").strip() for name in (DEFAULT, "BUPPLE_DEFAULT_ENGINE_DRIVER")):
        return
    try:
        default = conf.default_alias()
    except ImproperlyConfigured:
        return
    if default not in readings or readings[default].name != "echo":
        return
    ready = [
        alias
        for alias, reading in readings.items()
        if isinstance(reading.config.get("api_key"), Secret)
        and os.environ.get(Places(alias).variable("api_key"), "").strip()
    ]
    if ready:
        words = f"is {default!r}, which only repeats the question, although there is a key for "
        words += f"{' and '.join(map(repr, ready))}."
        hint = f'Set {DEFAULT}={ready[0]}, which engine_settings() reads, or write "DEFAULT": "{ready[0]}"; '
        hint += f"{DEFAULT}={default} confirms that it is intended."
        yield message("W024", Address("BUPPLE_ENGINE['DEFAULT']"), words, hint)


def _variables_of_entries(readings: dict[str, Reading]) -> Iterator[str]:
    """Yield what settings that put names together may have read: an entry has the value."""
    for alias, reading in readings.items():
        for option in reading.entry:
            name = variable(alias, option)
            yield from (name, f"{name}_FILE")  # FileAwareEnv of django-environ reads both


def _advice(name: str, known: set[str]) -> str:
    aliases = {*DRIVERS, *own_aliases(os.environ)}
    if _whole(name) in known:
        return f"Did you mean {_whole(name)}?"
    if name.upper() in _DEFAULT_MISTAKEN:
        meant = os.environ[name].strip() in aliases and os.environ[name].strip()
        return f"The default driver is named by {DEFAULT}: set {DEFAULT}={meant or '<its alias>'}"
    for alias in aliases:
        option = name.removeprefix(f"{PREFIX}{alias.upper()}_")
        if option != name and option.lower() in _options(alias):
            address = f"BUPPLE_ENGINE['DRIVERS'][{alias!r}][{option!r}]"
            return f"engine_settings() does not read it; write {address} = … after it in the settings file."
    vendor = name.upper().removeprefix(PREFIX)
    for other, driver in sorted(OTHER_NAMES.items(), reverse=True):  # google_vertex before google
        if vendor.startswith(f"{other.upper()}_"):
            return f"Did you mean {PREFIX}{driver.upper()}{vendor[len(other) :]}?"
    if vendor in _suffixes():
        return f"It names no driver: set {variable('claude', vendor)}, for instance."
    if match := _of_an_alias(name):
        return _advice_of_alias(match[1].lower(), match[2], sorted(aliases))
    # Compared without the prefix, or what all have in common makes any of them near.
    by_rest = {each.removeprefix(PREFIX): each for each in known}
    near = [by_rest[rest] for rest in difflib.get_close_matches(vendor, by_rest, cutoff=0.8)]
    if near := [each for each in near if _is_alike(name, each)]:
        return f"Did you mean {near[0]}?"
    return (
        f"The known ones are {DEFAULT}, {PREFIX}CLAUDE_API_KEY, _MODEL and so on for each driver, "
        f"and {PREFIX}<NAME>_DRIVER, which makes an entry with any name."
    )


def _options(alias: str) -> Mapping[str, Option]:
    maker = find(driver_of(alias), alias)
    return COMMON if isinstance(maker, conf.Mistake) else maker.options


def _whole(name: str) -> str:
    """Return a variable's name with the part that is easily left out: BUPPLE_OPENAI_API_KEY."""
    return name if name.startswith(PREFIX) else re.sub("^BUPPLE_", PREFIX, name)


def _is_alike(name: str, other: str) -> bool:
    """Tell whether two names may be meant for one alias: most of their letters are the same in all."""
    match = _of_an_alias(other)
    if match is None:
        return True
    word = name.upper().removeprefix(PREFIX)[: len(match[1])]
    return difflib.SequenceMatcher(None, word, match[1]).ratio() > 0.7


def _advice_of_alias(alias: str, option: str, aliases: list[str]) -> str:
    """Return what to do about a variable of an alias that engine_settings() does not make."""
    if alias in (written for written, _ in conf.entries()):
        line = f'"{option}": env.str("{variable(alias, option)}", default="")'
        return f"Read it in the settings file, in the entry {alias!r}: {line}"
    if near := difflib.get_close_matches(alias, aliases, n=1, cutoff=0.75):
        return f"Did you mean {variable(near[0], option)}?"
    driver = variable(alias, "DRIVER")
    return f"An entry of your own needs its driver: set {driver}=compatible, or the name of another driver."
