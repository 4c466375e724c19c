"""BUPPLE_ENGINE from environment variables, read with django-environ; importable from a settings file."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import environ

from bupple_engine.drivers import DRIVERS
from bupple_engine.masking import MaskedDict
from bupple_engine.masking.keys import shown
from bupple_engine.protocol.options import COMMON, Option

from .engine import Mistake
from .naming import find, load
from .reading import Variable, read_variable

PREFIX = "BUPPLE_ENGINE_"
DEFAULT = f"{PREFIX}DEFAULT"
# DEFAULT_DRIVER makes no entry "default": whoever writes it means DEFAULT.
_BRACED = re.compile(r"\$\{(\w+)\}")
_ALIAS = re.compile(rf"{PREFIX}(?!DEFAULT_DRIVER$)(\w+)_DRIVER")


def engine_settings(
    env: environ.Env | None = None, *, drivers: Iterable[str] = tuple(DRIVERS), default: str | None = None
) -> dict[str, Any]:
    """Return the dict for settings.BUPPLE_ENGINE that the environment describes.

    A driver is there where one of its variables is, or where it is the default. BUPPLE_ENGINE_<NAME>_DRIVER
    makes an entry of any name, by its driver's short name or dotted path: its alias is <NAME> in lower case.
    An option is read by the `env` of its Option.
    The default is what BUPPLE_ENGINE_DEFAULT names (BUPPLE_DEFAULT_ENGINE_DRIVER is understood too); without
    it, the only driver that has what it needs; else the argument. What is wrong with a value is told by
    `manage.py check`, and by ai(): nothing raises while the settings are read.
    """
    drivers = list(drivers)
    for name in drivers:  # before a key is read, which a report of errors would print
        if not isinstance(name, str):
            raise TypeError(f"drivers must be names, not {shown(name)}.")
    env = env or environ.Env()
    chosen = _read(env, DEFAULT) or _read(env, "BUPPLE_DEFAULT_ENGINE_DRIVER")
    names = dict.fromkeys((*drivers, *own_aliases(env.ENVIRON)))
    there = [name for name in env.ENVIRON if name.startswith(PREFIX)]
    entries = {name: entry for name in names if (entry := _entry(env, name, there))}
    alias = chosen or _only_ready(entries) or default or ""
    if alias in names:
        entries = {name: entries.get(name, {}) for name in names if name in entries or name == alias}
    settings: dict[str, Any] = {"DRIVERS": entries}
    if alias or entries:
        settings["DEFAULT"] = alias or next(iter(entries))
    return settings


def own_aliases(environment: Mapping[str, str]) -> list[str]:
    """Return the aliases that a variable BUPPLE_ENGINE_<NAME>_DRIVER of an environment makes."""
    # By name first: a value of django-environ's FileAwareEnv is read from a file, and that of another program
    # may be missing.
    found = [(name, match) for name in environment if (match := _ALIAS.fullmatch(name))]
    return sorted(match[1].lower() for name, match in found if str(environment[name]).strip())


def known_variables(environment: Mapping[str, str] = os.environ) -> set[str]:
    """Return the names of the variables that engine_settings() reads in an environment."""
    known = {DEFAULT, "BUPPLE_DEFAULT_ENGINE_DRIVER"}
    for alias in {*DRIVERS, *own_aliases(environment)}:
        known |= {variable(alias, name) for name in ("driver", *suffixes(driver_of(alias, environment)))}
    return known


def driver_of(alias: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the name of the driver that an environment gives an alias."""
    return environment.get(variable(alias, "DRIVER"), "").strip() or alias


def suffixes(driver: str) -> list[str]:
    """Return the options of a driver that have a variable; those of COMMON where it can't be imported."""
    maker = find(driver, driver)
    return _with_variables(COMMON if isinstance(maker, Mistake) else maker.options)


def _with_variables(options: Mapping[str, Option]) -> list[str]:
    return [name for name, option in options.items() if option.env is not None]


def variable(alias: str, option: str) -> str:
    """Return the name of the variable that an alias's option goes by."""
    return re.sub(r"\W", "_", f"{PREFIX}{alias}_{option}".upper())


def _entry(env: environ.Env, alias: str, there: Iterable[str]) -> dict[str, Any]:
    entry: dict[str, Any] = MaskedDict()  # what raises behind it in a settings file shows its locals
    mine = [name for name in there if name.startswith(variable(alias, ""))]
    if not mine:
        return entry
    driver = _read(env, variable(alias, "DRIVER"))
    if driver:
        entry["DRIVER"] = driver
    # A module of the site's own may want the settings, which are being read: what else its driver knows is
    # left for it to read.
    known = load(driver or alias, alias).options if (driver or alias) in DRIVERS else COMMON
    for name in _with_variables(known):
        if text := _read(env, variable(alias, name)):
            entry[name.upper()] = read_variable(known[name], text)
    if known is COMMON:
        entry |= _unread(env, alias, mine, {*entry, "DRIVER"})
    return entry


def _unread(env: environ.Env, alias: str, mine: Iterable[str], read: Collection[str]) -> dict[str, Any]:
    """Return the other variables of an alias whose driver can't be asked yet."""
    found: dict[str, Any] = MaskedDict()
    others = tuple(variable(other, "") for other in (*DRIVERS, *own_aliases(env.ENVIRON)))
    for name in mine:
        option = name.removeprefix(variable(alias, ""))
        is_anothers = any(name.startswith(other) for other in others if len(other) > len(name) - len(option))
        if option not in read and not is_anothers and (text := _read(env, name)):
            found[option] = Variable(text)
    return found


def _read(env: environ.Env, name: str) -> str:
    raw = str(env.ENVIRON.get(name, "")).strip()
    braced = _BRACED.fullmatch(raw)  # as a shell writes it; django-environ reads "$NAME" alone
    text: str = env.str(braced[1] if braced else name, default="").strip()
    return text or raw  # "$NAME" of none


def _only_ready(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the one entry that has what its driver needs, "" where there are none or several."""
    ready = [alias for alias, entry in entries.items() if "API_KEY" in entry or not _needs_key(alias, entry)]
    return ready[0] if len(ready) == 1 else ""


def _needs_key(alias: str, entry: Mapping[str, Any]) -> bool:
    """Return whether an entry can't be called without a key; of a driver of the site's own, nobody knows."""
    name = str(entry.get("DRIVER", alias))
    if name not in DRIVERS:
        return False  # its module may want the settings, which are being read
    return "api_key" in load(name, name).required
