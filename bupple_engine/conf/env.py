"""BUPPLE_ENGINE from environment variables, read with django-environ; importable from a settings file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import environ

from bupple_engine.drivers import DRIVERS
from bupple_engine.masking import MaskedDict
from bupple_engine.masking.keys import shown

# Suffix of the variable → how it is read. BUPPLE_ENGINE_<NAME>_<SUFFIX> is the entry's <SUFFIX>.
SUFFIXES: dict[str, str] = {
    "API_KEY": "str",
    "MODEL": "str",
    "TEMPERATURE": "float",
    "MAX_TOKENS": "int",
    "BASE_URL": "str",
}
OWN_SUFFIXES: dict[str, tuple[str, ...]] = {
    "openai": ("ORGANIZATION_ID", "PROJECT_ID"),
    "openai_chat": ("ORGANIZATION_ID", "PROJECT_ID"),
    "gemini": ("PROJECT_ID",),
    "local": ("MODEL_PATH",),
}
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
    entries = {name: entry for name in names if (entry := _entry(env, name))}
    alias = chosen or _only_ready(entries) or default or ""
    if alias in names:
        entries = {name: entries.get(name, {}) for name in names if name in entries or name == alias}
    settings: dict[str, Any] = {"DRIVERS": entries}
    if alias or entries:
        settings["DEFAULT"] = alias or next(iter(entries))
    return settings


def own_aliases(environment: Mapping[str, str]) -> list[str]:
    """Return the aliases that a variable BUPPLE_ENGINE_<NAME>_DRIVER of an environment makes."""
    found = ((_ALIAS.fullmatch(name), value) for name, value in environment.items())
    return sorted(match[1].lower() for match, value in found if match and str(value).strip())


def known_variables(environment: Mapping[str, str] = os.environ) -> set[str]:
    """Return the names of the variables that engine_settings() reads in an environment."""
    known = {DEFAULT, "BUPPLE_DEFAULT_ENGINE_DRIVER"}
    for name in {*DRIVERS, *own_aliases(environment)}:
        driver = environment.get(variable(name, "DRIVER"), "").strip() or name
        known |= {variable(name, suffix) for suffix in _suffixes(driver)}
    return known


def variable(alias: str, option: str) -> str:
    """Return the name of the variable that an alias's option goes by."""
    return re.sub(r"\W", "_", f"{PREFIX}{alias}_{option}".upper())


def _suffixes(driver: str) -> tuple[str, ...]:
    return ("DRIVER", *SUFFIXES, *OWN_SUFFIXES.get(driver, ()))


def _entry(env: environ.Env, name: str) -> dict[str, Any]:
    entry: dict[str, Any] = MaskedDict()  # what raises behind it in a settings file shows its locals
    driver = _read(env, variable(name, "DRIVER")) or name
    for suffix in _suffixes(driver):
        if text := _read(env, variable(name, suffix)):
            entry[suffix] = _convert(text, SUFFIXES.get(suffix, "str"))
    return entry


def _read(env: environ.Env, name: str) -> str:
    raw = str(env.ENVIRON.get(name, "")).strip()
    braced = _BRACED.fullmatch(raw)  # as a shell writes it; django-environ reads "$NAME" alone
    text: str = env.str(braced[1] if braced else name, default="").strip()
    return text or raw  # "$NAME" of none


def _convert(text: str, kind: str) -> Any:
    try:
        return {"str": str, "float": float, "int": int}[kind](text)
    except ValueError:
        return text  # which `manage.py check` and ai() refuse by its address


def _only_ready(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the one entry that has what its driver needs, "" where there are none or several."""
    ready = [alias for alias, entry in entries.items() if "API_KEY" in entry or not _needs_key(alias, entry)]
    return ready[0] if len(ready) == 1 else ""


def _needs_key(alias: str, entry: Mapping[str, Any]) -> bool:
    """Return whether an entry can't be called without a key; of a driver of the site's own, nobody knows."""
    name = str(entry.get("DRIVER", alias))
    if name not in DRIVERS:
        return False  # its module may want the settings, which are being read
    from .registry import load

    _, wire = load(name, name)
    return wire is not None and "api_key" in wire.required
