"""BUPPLE_ENGINE from environment variables, read with django-environ; importable from a settings file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import environ

from .drivers import DRIVERS
from .masking import MaskedDict

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


def engine_settings(
    env: environ.Env | None = None, *, drivers: Iterable[str] = tuple(DRIVERS), default: str | None = None
) -> dict[str, Any]:
    """Return the dict for settings.BUPPLE_ENGINE that the environment describes.

    A driver is there where one of its variables is, or where it is the default; default is used where
    BUPPLE_ENGINE_DEFAULT is not set (BUPPLE_DEFAULT_ENGINE_DRIVER is understood too). What is wrong with
    a value is told by `manage.py check`, and by ai(): nothing raises while the settings are read.
    """
    drivers = list(drivers)
    for name in drivers:  # before a key is read, which a report of errors would print
        if not isinstance(name, str):
            raise TypeError(f"drivers must be names, not {name!r}.")
    env = env or environ.Env()
    chosen = env.str("BUPPLE_ENGINE_DEFAULT", default="") or env.str(
        "BUPPLE_DEFAULT_ENGINE_DRIVER", default=""
    )
    chosen = chosen or default or ""
    entries = {name: entry for name in drivers if (entry := _entry(env, name)) or name == chosen}
    settings: dict[str, Any] = {"DRIVERS": entries}
    if chosen or entries:
        settings["DEFAULT"] = chosen or next(iter(entries))
    return settings


def known_variables() -> set[str]:
    """Return the names of the variables that engine_settings() reads."""
    return {"BUPPLE_ENGINE_DEFAULT", "BUPPLE_DEFAULT_ENGINE_DRIVER"} | {
        f"{PREFIX}{name.upper()}_{suffix}" for name in DRIVERS for suffix in _suffixes(name)
    }


def _suffixes(name: str) -> tuple[str, ...]:
    return (*SUFFIXES, *OWN_SUFFIXES.get(name, ()))


def _entry(env: environ.Env, name: str) -> dict[str, Any]:
    entry: dict[str, Any] = MaskedDict()  # what raises behind it in a settings file shows its locals
    for suffix in _suffixes(name):
        text = env.str(f"{PREFIX}{name.upper()}_{suffix}", default="").strip()
        text = text or env.ENVIRON.get(f"{PREFIX}{name.upper()}_{suffix}", "").strip()  # "$NAME" of none
        if text:
            entry[suffix] = _convert(text, SUFFIXES.get(suffix, "str"))
    return entry


def _convert(text: str, kind: str) -> Any:
    try:
        return {"str": str, "float": float, "int": int}[kind](text)
    except ValueError:
        return text  # which `manage.py check` and ai() refuse by its address
