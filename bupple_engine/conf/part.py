"""A part of BUPPLE_ENGINE that is a dict of known keys, such as API and MEMORY: how it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from bupple_engine.masking.keys import shown
from bupple_engine.masking.printing import kind_of
from bupple_engine.protocol.options import suggest
from bupple_engine.protocol.reading import wrong_words

from .engine import Mistake, read_setting

# Key → default and parser. A parser raises a ValueError with what is wrong, and keeps nothing of the default.
Table: TypeAlias = Mapping[str, tuple[Any, Callable[[Any], Any]]]


def read_part(
    name: str, id: str, table: Table, examples: Mapping[str, Any], advise: Callable[[str], str] | None = None
) -> tuple[dict[str, Any], list[Mistake]]:
    """Return the values that can be read, by lower-case name, and what is wrong with the others.

    id is that of the mistakes. examples are values for the hints, where the default would not show one;
    advise returns the hint for an unknown key.
    """
    value = read_setting()
    given = value.get(name) if isinstance(value, dict) else None
    given = {} if given is None else given
    where = f"BUPPLE_ENGINE[{name!r}]"
    if not isinstance(given, dict):
        return {}, [Mistake(id, where, f" must be a dict, not {kind_of(given)}.")]
    advise = advise or (lambda key: suggest(key, table).strip())
    mistakes = [
        Mistake(id, where, f": unknown key {shown(key)}.", advise(str(key).upper()))
        for key in given
        if key not in table
    ]
    found: dict[str, Any] = {}
    for key, (default, parse) in table.items():
        try:
            found[key.lower()] = parse(given.get(key, default))
        except ValueError as error:
            words = f" {wrong_words(error, shown(given[key]))}."
            hint = f'Write, for instance, "{key}": {examples.get(key, default)!r}'
            mistakes.append(Mistake(id, f"{where}[{key!r}]", words, hint))
    return found, mistakes


def defaults(table: Table) -> dict[str, Any]:
    """Return the parsed defaults, by lower-case name."""
    return {key.lower(): parse(default) for key, (default, parse) in table.items()}


def or_none(kind: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a parser that lets None through."""
    return lambda value: None if value is None else kind(value)
