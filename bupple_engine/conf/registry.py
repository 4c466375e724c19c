"""ai(), and the drivers of the process: each is made once, when it is first asked for."""

from __future__ import annotations

import threading
from typing import Any

from bupple_engine import process
from bupple_engine.drivers.arguments import parse_options
from bupple_engine.drivers.base import ChatDriver
from bupple_engine.exceptions import InvalidDriverError
from bupple_engine.masking import Secret, reveal
from bupple_engine.masking.keys import looks_like_key
from bupple_engine.masking.printing import kind_of
from bupple_engine.protocol.options import merge, protect

from . import engine
from .observing import observers
from .reading import read

_lock = threading.Lock()
_drivers: dict[str, ChatDriver] = {}


def ai(alias: str | None = None, /, **options: Any) -> ChatDriver:
    """Return the driver of an alias, of the default one without; options are laid over its entry.

    Raises an InvalidDriverError for an alias that the settings lack, an ImproperlyConfigured for an
    entry that is wrong, and an InvalidRequestError for a wrong option.
    """
    options = protect(options)
    if alias is not None and not isinstance(alias, str):
        hint = 'A message goes with the call: ai().send("Hello!")'
        raise InvalidDriverError(f"An alias is a string, not {kind_of(alias)}. {hint}")
    if alias is not None and alias not in _drivers and looks_like_key(alias):
        alias = Secret(alias)  # type: ignore[assignment] # a report of errors prints what a frame holds
    driver = get_driver(engine.default_alias() if alias is None else alias)
    if not options:
        return driver
    parsed = parse_options(options, driver.known_options, of_entry=True)
    changed = driver.replace(merge(driver.config, parsed))
    changed.has_overrides = True
    changed.observers = driver.observers
    return changed


def get_driver(alias: str) -> ChatDriver:
    """Return the process's driver for an alias."""
    driver = _drivers.get(alias)
    if driver is None:
        with _lock:
            driver = _drivers.get(alias)
            if driver is None:
                entry = engine.entry(alias)
                name: str = reveal(alias)
                driver = read(name, entry).build()
                driver.observers = observers()
                driver.opened_by = ai
                _drivers[name] = driver
    return driver


@process.after_change
def reset() -> None:
    """Forget the drivers; the next call makes them anew."""
    with _lock:
        _drivers.clear()
