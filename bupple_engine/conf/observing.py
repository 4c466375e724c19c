"""OBSERVERS: who hears of every call of the site."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from django.utils.module_loading import import_string

from bupple_engine import process
from bupple_engine.calls.observers import Observer
from bupple_engine.masking.keys import shown, unkeyed
from bupple_engine.masking.printing import kind_of, with_article

from .engine import Mistake, read_setting, right

LIST = 'Write "OBSERVERS": ["package.module.Class"]'


@cache
def observers() -> tuple[Observer, ...]:
    """Return the observers that OBSERVERS names; each is made once a process."""
    value = read_setting()
    found = [*_find_observers(value.get("OBSERVERS", ()))] if isinstance(value, dict) else []
    return tuple(right(each) for each in found)


process.after_change(observers.cache_clear)


def find_observer_mistakes() -> Iterator[Mistake]:
    """Yield all that is wrong in OBSERVERS."""
    value = read_setting()
    for found in _find_observers(value.get("OBSERVERS", ())) if isinstance(value, dict) else ():
        if isinstance(found, Mistake):
            yield found


def _find_observers(value: Any) -> Iterator[Observer | Mistake]:
    address = "BUPPLE_ENGINE['OBSERVERS']"
    if not isinstance(value, list | tuple):
        yield Mistake(
            "E018",
            address,
            f" must be a list of dotted paths, not {with_article(type(value).__name__)}.",
            LIST,
        )
        return
    for index, path in enumerate(value):
        where = f"{address}[{index}]"
        if isinstance(path, str):
            yield _find_observer(path, where)
        else:
            yield Mistake("E018", where, f" must be a dotted path, not {kind_of(path)}.", LIST)


def _find_observer(path: str, where: str) -> Observer | Mistake:
    try:
        found = import_string(path)
        if isinstance(found, type) and issubclass(found, Observer):
            found = found()
    except Exception as error:  # whatever a site's module raises
        reason = error if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        words = f": {shown(path)} can't be imported, or made: {unkeyed(str(reason)).rstrip('.')}."
        return Mistake(
            "E019", where, words, 'Write "package.module.Class", as Python imports it.', cause=error
        )
    if isinstance(found, Observer):
        return found
    words = f": {shown(path)} is no Observer."
    return Mistake("E019", where, words, "Derive it from bupple_engine.Observer.")
