"""What an entry's DRIVER names, and how a driver is made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from django.utils.module_loading import import_string

from bupple_engine.drivers import DRIVERS, OTHER_NAMES
from bupple_engine.drivers.base import ChatDriver
from bupple_engine.exceptions import InvalidDriverError
from bupple_engine.masking.keys import shown, unkeyed
from bupple_engine.protocol import vendors
from bupple_engine.protocol.options import Option, Options, suggest
from bupple_engine.wires.base import Wire

from .engine import Mistake

UNKNOWN = 'A service that has no driver of its own is "DRIVER": "compatible", with its BASE_URL.'

# What makes a driver of an alias, the driver's name, and the options of its entry.
Make: TypeAlias = Callable[[str, str, Options], ChatDriver]


@dataclass(frozen=True, slots=True)
class Maker:
    """What a name stands for: a class of drivers, or a wire that an HTTPDriver speaks."""

    options: Mapping[str, Option]
    required: tuple[str, ...]
    make: Make
    wire: Wire | None = None


def load(name: str, where: str) -> Maker:
    """Return what a short name or a dotted path stands for, or raise an InvalidDriverError."""
    found = find(name, where)
    if isinstance(found, Mistake):
        raise found.exception()
    return found


def find(name: str, where: str) -> Maker | Mistake:
    """See load(); what is wrong is returned."""
    path, _, service = DRIVERS.get(name, name).partition(":")
    if "." not in path:
        spelt = name.strip().lower().replace("-", "_")
        other = spelt if spelt in DRIVERS else OTHER_NAMES.get(spelt)
        near = f" Did you mean {other!r}?" if other else suggest(name, DRIVERS)
        hint = near.strip() if "Did you mean" in near else _model_hint(name) or UNKNOWN
        return Mistake("E007", where, f": there is no driver {shown(name)}.", hint, InvalidDriverError)
    where = f"{where}['DRIVER']"
    try:
        found = import_string(path)
        lacking = _find_lacking(found)
        if not lacking:
            return _make_wired(found, service or name.rpartition(".")[2]) or _make_own(found)
    except Exception as error:  # whatever a third party's module raises
        reason = error if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        words = f": {shown(name)} can't be imported: {unkeyed(str(reason)).rstrip('.')}."
        hint = _model_hint(name) or 'Write "DRIVER": "package.module.Class", as Python imports it.'
        return Mistake("E008", where, words, hint, InvalidDriverError, error)
    hint = "Derive it from bupple_engine.drivers.base.ChatDriver."
    return Mistake("E009", where, f": {shown(name)} {lacking}.", hint, InvalidDriverError)


def _find_lacking(found: object) -> str:
    """Return what is wrong with what a path leads to, "" where nothing is."""
    if isinstance(found, type) and issubclass(found, ChatDriver | Wire) and found not in (ChatDriver, Wire):
        return found.find_lacking()
    return "is no subclass of ChatDriver or Wire"


def _make_wired(found: type[ChatDriver] | type[Wire], service: str) -> Maker | None:
    if issubclass(found, ChatDriver):
        return None
    from bupple_engine.drivers.wired import HTTPDriver  # and requests, which not every site needs

    wire = found(service)
    return Maker(
        wire.options, wire.required, lambda alias, name, config: HTTPDriver(alias, name, config, wire), wire
    )


def _make_own(found: type[ChatDriver]) -> Maker:
    return Maker(found.options, found.required, found)


def _model_hint(name: str) -> str:
    driver = vendors.driver_of(name)
    return f'Write "DRIVER": "{driver}", "MODEL": "{name}"' if driver and driver != name else ""
