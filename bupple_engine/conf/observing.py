"""OBSERVERS: the observers of every call of the site."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from django.utils.module_loading import import_string

from bupple_engine import process
from bupple_engine.calls.observers import Observer, find_fault
from bupple_engine.masking.keys import shown, unkeyed
from bupple_engine.masking.printing import kind_of, with_article

from .engine import Mistake, read_setting, right

LIST = 'Write "OBSERVERS": ["package.module.Class"]'


@cache
def observers() -> tuple[Observer, ...]:
    """Return the observers that OBSERVERS names; each is created once per process."""
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
            continue
        cls = path if isinstance(path, type) else type(path)
        line = f'Write "{cls.__module__}.{cls.__qualname__}"' if issubclass(cls, Observer) else LIST
        kind = "a class" if isinstance(path, type) else kind_of(path)
        yield Mistake("E018", where, f" must be a dotted path, not {kind}.", line)


def _find_observer(path: str, where: str) -> Observer | Mistake:
    failed, hint = "can't be imported", 'Write "package.module.Class", as Python imports it.'
    try:
        found = import_string(path)
        if isinstance(found, type) and issubclass(found, Observer):
            failed, hint = "can't be created", "It is created without arguments, once per process."
            found = found()
    except Exception as error:  # whatever a site's module raises
        reason = error if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        words = f": {shown(path)} {failed}: {unkeyed(str(reason)).rstrip('.')}."
        return Mistake("E019", where, words, hint, cause=error)
    if wrong := find_fault(found):
        return Mistake("E019", where, f": {shown(path)} is {wrong}", "docs/observers.md has an example.")
    observer: Observer = found
    return observer
