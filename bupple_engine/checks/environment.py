"""Environment variables with our prefix that nothing reads."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator

from django.core.checks import CheckMessage

from bupple_engine import conf
from bupple_engine.drivers import DRIVERS, OTHER_NAMES
from bupple_engine.env import PREFIX, known_variables
from bupple_engine.options import COMMON

from .messages import Address, message
from .source import settings_strings


def check_environment() -> Iterator[CheckMessage]:
    """Yield a warning for each variable of ours that is unknown, and that the settings don't read."""
    known = known_variables()
    names = {name for name in os.environ if name.upper().startswith((PREFIX, "BUPPLE_DEFAULT_"))} - known
    if names:
        names -= {*settings_strings(), *_variables_of_entries()}
    for name in sorted(names):
        words = "is read by nothing in bupple_engine."
        yield message("W016", Address(f"os.environ[{name!r}]"), words, _advice(name, known))


def _variables_of_entries() -> Iterator[str]:
    """Yield what settings that put names together may have read: an entry has the value."""
    for alias, entry in conf.entries():
        if not isinstance(entry, conf.Mistake):
            for option in entry:
                name = re.sub(r"\W", "_", f"{PREFIX}{alias}_{option}".upper())
                yield from (name, f"{name}_FILE")  # FileAwareEnv of django-environ reads both


def _advice(name: str, known: set[str]) -> str:
    for driver in DRIVERS:
        option = name.removeprefix(f"{PREFIX}{driver.upper()}_")
        if option.lower() in COMMON and option != name:
            address = f"BUPPLE_ENGINE['DRIVERS'][{driver!r}][{option!r}]"
            return f"engine_settings() does not read it; write {address} = … behind it in the settings file."
    vendor = name.upper().removeprefix(PREFIX)
    for other, driver in sorted(OTHER_NAMES.items(), reverse=True):  # google_vertex before google
        if vendor.startswith(f"{other.upper()}_"):
            return f"Did you mean {PREFIX}{driver.upper()}{vendor[len(other) :]}?"
    # Compared without the prefix, or what all have in common makes any of them near.
    known_by_rest = {variable.removeprefix(PREFIX): variable for variable in known}
    near = difflib.get_close_matches(vendor, known_by_rest, n=1, cutoff=0.85)
    if near:
        return f"Did you mean {known_by_rest[near[0]]}?"
    return f"Known are BUPPLE_ENGINE_DEFAULT, and {PREFIX}CLAUDE_API_KEY, _MODEL and so on for each driver."
