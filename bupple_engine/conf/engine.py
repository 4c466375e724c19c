"""BUPPLE_ENGINE as a whole, and the entries of its drivers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from bupple_engine.calls.threads import MAX_THREADS, limit_threads
from bupple_engine.drivers import DRIVERS, OTHER_NAMES
from bupple_engine.exceptions import InvalidDriverError
from bupple_engine.masking import Hidden, MaskedDict, Misfit, hide, reveal
from bupple_engine.masking.keys import shown, unkeyed
from bupple_engine.masking.printing import with_article
from bupple_engine.protocol import vendors
from bupple_engine.protocol.options import COMMON, protect, suggest

KEYS = ("DEFAULT", "DRIVERS", "API", "MEMORY", "MAX_THREADS", "OBSERVERS")

SHAPE = 'Its shape is {"DEFAULT": "claude", "DRIVERS": {"claude": {"API_KEY": …, "MODEL": …}}}'


T = TypeVar("T")


class Mistake(NamedTuple):
    """One thing that is wrong in the settings: ai() raises the first, `manage.py check` reports all of them.

    The words continue the address; the hint says what to do.
    """

    id: str
    address: str
    words: str
    hint: str = ""
    error: type[ImproperlyConfigured] = ImproperlyConfigured
    cause: BaseException | None = None

    def __str__(self) -> str:
        return " ".join(filter(None, (self.address + self.words, self.hint)))

    def exception(self) -> ImproperlyConfigured:
        """Return what to raise; a key may have been pasted in place of any name that it quotes."""
        error = self.error(unkeyed(str(self)))
        error.__cause__ = self.cause
        return error


def find_mistakes() -> Iterator[Mistake]:
    """Yield all that is wrong in BUPPLE_ENGINE, except inside an entry, API and MEMORY."""
    value = read_setting()
    yield from _wrong_shape(value)
    if isinstance(value, dict):
        yield from _wrong_drivers(value)
        if isinstance(value.get("DRIVERS"), dict):
            yield from _wrong_default(value)
        yield from _wrong_max_threads(value)


def raise_first(mistakes: Iterator[Mistake]) -> None:
    """Raise the first mistake, if there is one."""
    for mistake in mistakes:
        raise mistake.exception()


def read_setting() -> Any:
    """Return BUPPLE_ENGINE with what may be secret wrapped, or a stand-in for a value of a wrong type."""
    value = getattr(settings, "BUPPLE_ENGINE", None)
    # Error reporters print the locals of a frame.
    if isinstance(value, dict):
        return MaskedDict({key: _wrap(key, inner) for key, inner in value.items()})
    return value if value is None else Misfit(value)


def _wrap(key: Any, value: Any) -> Any:
    if key == "DRIVERS" and isinstance(value, dict):
        wrappers = {alias: protect if isinstance(entry, dict) else hide for alias, entry in value.items()}
        return MaskedDict({alias: wrap(value[alias]) for alias, wrap in wrappers.items()})
    return value if key in ("API", "DEFAULT", "MEMORY", "MAX_THREADS", "OBSERVERS") else hide(value)


def _wrong_shape(value: Any) -> Iterator[Mistake]:
    if value is None:
        yield Mistake(
            "W001",
            "settings.BUPPLE_ENGINE",
            " is not set.",
            "Add, for a driver that needs no key: "
            'BUPPLE_ENGINE = {"DEFAULT": "echo", "DRIVERS": {"echo": {}}}',
        )
    elif not isinstance(value, dict):
        yield Mistake("E001", "BUPPLE_ENGINE", f" must be a dict, not {with_article(value.kind)}.", SHAPE)
    else:
        for key in value:
            if key not in KEYS:
                hint = suggest(str(key).upper(), KEYS).strip()
                is_driver = str(key).upper() == "DRIVER" and isinstance(reveal(value[key]), str)
                if is_driver or str(key).lower() in COMMON:
                    hint = f'It belongs in an entry: "DRIVERS": {{"claude": {{"{str(key).upper()}": …}}}}'
                elif str(key).upper() in ("BACKENDS", "ENGINES", "PROVIDERS", "MODELS", "ALIASES"):
                    hint = "It is called 'DRIVERS' here."
                elif key in DRIVERS or _is_entry(value[key]):  # as those of CACHES and DATABASES stand
                    hint = f'Entries go into DRIVERS: "DRIVERS": {{{key!r}: …}}'
                yield Mistake("E002", "BUPPLE_ENGINE", f": unknown key {shown(key)}.", hint)


def _is_entry(value: Any) -> bool:
    return isinstance(value, dict) and not value.keys().isdisjoint(("DRIVER", "BACKEND", "MODEL", "API_KEY"))


def _wrong_drivers(value: dict[str, Any]) -> Iterator[Mistake]:
    if not isinstance(value.get("DRIVERS"), dict):
        yield Mistake(
            "E003", "BUPPLE_ENGINE['DRIVERS']", " must be a dict of aliases and their entries.", SHAPE
        )


def _wrong_default(value: dict[str, Any]) -> Iterator[Mistake]:
    alias, drivers = value.get("DEFAULT"), value["DRIVERS"]
    address = "BUPPLE_ENGINE['DEFAULT']"
    if alias is None and not drivers:
        yield Mistake(
            "W002",
            "BUPPLE_ENGINE['DRIVERS']",
            " is empty: there is no driver.",
            'Add one that needs no key: "DRIVERS": {"echo": {}}, or set a variable that engine_settings() '
            "reads, such as BUPPLE_ENGINE_CLAUDE_API_KEY.",
        )
    elif alias is None and len(drivers) > 1:
        words = f" is not set; set it to one of {', '.join(map(shown, drivers))}."
        yield Mistake("E004", address, words, f'Write "DEFAULT": {shown(next(iter(drivers)))}')
    elif alias is not None and not (isinstance(alias, str) and alias in drivers):
        words = f" is {shown(alias)}, which no driver has."
        yield Mistake("E004", address, words, _known(alias, drivers), InvalidDriverError)


def _wrong_max_threads(value: dict[str, Any]) -> Iterator[Mistake]:
    count = value.get("MAX_THREADS", MAX_THREADS)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        address = "BUPPLE_ENGINE['MAX_THREADS']"
        yield Mistake(
            "E005", address, " must be a whole number of at least 1.", f'Write "MAX_THREADS": {MAX_THREADS}'
        )


def default_alias() -> str:
    """Return DEFAULT, or if it is left out the only driver's alias."""
    return _plain_default() or _checked_default()


def _plain_default() -> str | None:
    """Return DEFAULT if nothing is wrong with it; every call asks, and most need no more than this."""
    value = getattr(settings, "BUPPLE_ENGINE", None)
    if isinstance(value, dict) and value.keys() <= set(KEYS):
        alias, drivers = value.get("DEFAULT"), value.get("DRIVERS")
        if isinstance(alias, str) and isinstance(drivers, dict) and alias in drivers:
            return alias
    return None


def _checked_default() -> str:
    return right(_look_up_default())


def _look_up_default() -> str | Mistake:
    value = read_setting()
    wrong = next(chain(_wrong_shape(value), _wrong_drivers(value), _wrong_default(value)), None)
    return wrong or str(value.get("DEFAULT") or next(iter(value["DRIVERS"])))


def entry(alias: str | Hidden) -> MaskedDict:
    """Return the entry of a driver with its secrets wrapped."""
    return right(_look_up(alias))


def _look_up(alias: str | Hidden) -> MaskedDict | Mistake:
    """Return an entry, or what is wrong with it.

    The caller raises it: error reporters print the locals, which here include all entries.
    """
    value, name = read_setting(), reveal(alias)
    if wrong := next(chain(_wrong_shape(value), _wrong_drivers(value)), None):
        return wrong
    drivers = value["DRIVERS"]
    if name not in drivers:
        words = f"There is no driver {shown(name)} in BUPPLE_ENGINE['DRIVERS']."
        return Mistake("E007", "", words, _known(name, drivers), InvalidDriverError)
    entry: MaskedDict = drivers[name]
    return next(_wrong_entry(name, entry), entry)


def right(found: T | Mistake) -> T:
    """Return what was looked up, or raise it if it is a mistake."""
    if isinstance(found, Mistake):
        raise found.exception()
    return found


def _wrong_entry(alias: Any, entry: Any) -> Iterator[Mistake]:
    address = f"BUPPLE_ENGINE['DRIVERS'][{shown(alias)}]"
    if not isinstance(alias, str) or not alias:
        yield Mistake(
            "E006", address, ": an alias must be a string that is not empty.", 'Write "claude": {…}'
        )
    elif not isinstance(entry, dict):
        yield Mistake(
            "E006",
            address,
            " must be a dict.",
            'Write {"API_KEY": …, "MODEL": …}, or {} for a driver without options',
        )


def entries() -> Iterator[tuple[str, dict[str, Any] | Mistake]]:
    """Yield each alias with its entry, secrets wrapped, or with what is wrong with it."""
    value = read_setting()
    drivers = value.get("DRIVERS") if isinstance(value, dict) else None
    for alias, entry in drivers.items() if isinstance(drivers, dict) else ():
        yield alias, next(_wrong_entry(alias, entry), entry)


def max_threads() -> int:
    """Return how many threads may run calls for asynchronous callers where aiohttp is missing."""
    return right(_look_up_max_threads())


def _look_up_max_threads() -> int | Mistake:
    value = read_setting()
    wrong = next(chain(_wrong_shape(value), _wrong_max_threads(value)), None)
    return wrong or int(value.get("MAX_THREADS", MAX_THREADS))


limit_threads(max_threads)


def _known(alias: Any, drivers: dict[str, Any]) -> str:
    other = OTHER_NAMES.get(str(alias).lower().replace("-", "_"))
    if other in drivers and alias not in drivers:
        return f"Did you mean {other!r}?"
    said = unkeyed(str(alias))
    names = [unkeyed(str(name)) for name in drivers]
    if same := [name for name in names if name.lower() == said.strip().lower()]:
        return f"Did you mean {same[0]!r}?"
    models = {name: reveal(entry.get("MODEL")) for name, entry in drivers.items() if isinstance(entry, dict)}
    if hint := vendors.of_alias(said, names, models):
        return hint
    missing = ""
    if said in DRIVERS:
        missing = f'A driver of that name wants its entry: "DRIVERS": {{{said!r}: {{…}}}}.'
    known = suggest(said, names).strip() or "There are none."
    return " ".join(filter(None, (missing, known)))
