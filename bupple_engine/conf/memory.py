"""BUPPLE_ENGINE['MEMORY']: where conversations are kept, and how much of them is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from bupple_engine import process
from bupple_engine.masking.keys import shown
from bupple_engine.protocol.options import suggest
from bupple_engine.protocol.reading import wrong_words
from bupple_engine.protocol.values import integer, string

from .engine import Mistake, raise_first, read_setting
from .part import Table, defaults, or_none, read_part

# The app whose tables the database store needs.
APP = "bupple_engine.conversations"

STORES = {
    "database": "bupple_engine.conversations.stores.database.DatabaseStore",
    "cache": "bupple_engine.conversations.stores.cache.CacheStore",
}


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """BUPPLE_ENGINE['MEMORY'] after parsing; what a dotted path names is still that path."""

    store: str
    stores: dict[str, dict[str, Any]]
    context: dict[str, Any]
    media_storage: str
    title: Any
    max_turns: int


@cache
def memory_settings() -> MemorySettings:
    """Return the settings of conversations; each key has a default."""
    found, mistakes = _read()
    raise_first(iter(mistakes))
    return MemorySettings(**found)


process.after_change(memory_settings.cache_clear)


def readable_memory_settings() -> MemorySettings:
    """Return them for the checks, with the default in place of what is wrong: no mistake hides another."""
    found, _ = _read()
    return MemorySettings(**defaults(MEMORY) | found)


def find_memory_mistakes() -> Iterator[Mistake]:
    """Yield all that is wrong in BUPPLE_ENGINE['MEMORY']."""
    yield from _read()[1]


def has_memory() -> bool:
    """Return whether the site has set MEMORY; its checks are for nobody else."""
    value = read_setting()
    return isinstance(value, dict) and value.get("MEMORY") is not None


def _read() -> tuple[dict[str, Any], list[Mistake]]:
    found, mistakes = read_part("MEMORY", "E015", MEMORY, EXAMPLES)
    if "stores" in found and found.get("store", "") not in found["stores"] and "store" in found:
        words = f" is {shown(found['store'])}, which STORES has not."
        hint = suggest(found["store"], [str(name) for name in found["stores"]]).strip()
        mistakes.append(Mistake("E015", "BUPPLE_ENGINE['MEMORY']['STORE']", words, hint))
    return found, mistakes


def _stores(value: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(value, Mapping) or not value:
        raise ValueError("must be a dict of aliases and their entries")
    return {_alias(alias): _entry(alias, entry) for alias, entry in value.items()}


def _alias(alias: Any) -> str:
    if not isinstance(alias, str) or not alias:
        raise ValueError("must have strings for aliases")
    return alias


def _entry(alias: str, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, Mapping) or not all(isinstance(key, str) for key in entry):
        raise ValueError(f"must have a dict at {alias!r}")
    name = entry.get("STORE", alias)
    if not isinstance(name, str) or (name not in STORES and "." not in name):
        raise ValueError(f'has no store {shown(name)} at {alias!r}: write "STORE": {" or ".join(STORES)}')
    if name in STORES:
        for key, given in entry.items():
            if key != "STORE" and (name, key) not in STORE_OPTIONS:
                raise ValueError(
                    f"has the key {shown(key)} at {alias!r}, which the {name} store does not know"
                )
            if key != "STORE":
                STORE_OPTIONS[name, key](given)
    return {"STORE": STORES.get(name, name), **{key: value for key, value in entry.items() if key != "STORE"}}


STORE_OPTIONS: Mapping[tuple[str, str], Callable[[Any], Any]] = {
    ("cache", "CACHE"): string,
    ("cache", "TTL"): integer(1),
}


def _path(value: Any) -> Any:
    if not callable(value) and not (isinstance(value, str) and "." in value):
        raise ValueError("must be a dotted path")
    return value


def _table(rows: Table) -> Callable[[Any], dict[str, Any]]:
    """Return a parser of a dict that has some of the rows' keys; the others have their default."""

    def parse(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise ValueError("must be a dict")
        for key in value:
            if key not in rows:
                raise ValueError(f"has the key {shown(key)}; it may have {', '.join(rows)}")
        found = {}
        for key, (default, kind) in rows.items():
            try:
                found[key.lower()] = kind(value.get(key, default))
            except ValueError as error:
                raise ValueError(f"has a wrong {key}: it {wrong_words(error, shown(value[key]))}") from None
        return found

    return parse


CONTEXT: Table = {
    "STRATEGY": ("bupple_engine.conversations.context.recent", _path),
    "MAX_TURNS": (100, or_none(integer(1))),
    "MAX_CHARACTERS": (200_000, or_none(integer(1))),
    "MAX_TOKENS": (None, or_none(integer(1))),
    "MEDIA_TURNS": (4, integer(0)),
}

# What a line of MEMORY may look like, where the default would not show it.
EXAMPLES: Mapping[str, Any] = {
    "CONTEXT": {"MAX_TURNS": 50},
    "TITLE": "myproject.ai.title_of",
}

MEMORY: Table = {
    "STORE": ("database", string),
    "STORES": ({"database": {}}, _stores),
    "CONTEXT": ({}, _table(CONTEXT)),
    "MEDIA_STORAGE": ("default", string),
    "TITLE": (None, or_none(_path)),
    "MAX_TURNS": (5000, integer(1)),
}
