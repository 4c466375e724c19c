"""ai(), and the drivers of the process: each is made once, when it is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.module_loading import import_string

from bupple_engine import conf, process
from bupple_engine.drivers import DRIVERS, OTHER_NAMES
from bupple_engine.drivers.base import ChatDriver, parse_options
from bupple_engine.drivers.lazy import plain_option
from bupple_engine.exceptions import InvalidDriverError
from bupple_engine.masking import Secret, protect, reveal
from bupple_engine.masking.keys import looks_like_key, shown, unkeyed
from bupple_engine.masking.printing import kind_of
from bupple_engine.protocol import elsewhere, vendors
from bupple_engine.protocol.options import Option, Options, merge, read_option, right_line, suggest
from bupple_engine.protocol.scrubbing import scrub, secrets_of
from bupple_engine.wires.base import Wire

from . import Mistake

STRIP = 'Read it without them: "API_KEY": env.str("BUPPLE_ENGINE_…_API_KEY", default="").strip()'
RETYPE = "Copy the key once more from where it was made; an editor may have changed a character of it."

UNKNOWN = 'A service that has no driver of its own is "DRIVER": "compatible", with its BASE_URL.'

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
    driver = get_driver(conf.default_alias() if alias is None else alias)
    if not options:
        return driver
    known = {name: Option(option.parse) for name, option in driver.known_options.items()}
    changed = driver.replace(merge(driver.config, parse_options(options, known)))
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
                entry = conf.entry(alias)
                name: str = reveal(alias)
                driver = read(name, entry).build(name)
                driver.observers = conf.observers()
                driver.opened_by = ai
                _drivers[name] = driver
    return driver


@dataclass(frozen=True, slots=True)
class Reading:
    """What an entry says: its driver, the options that could be read, and what is wrong."""

    name: str
    mistakes: list[Mistake]
    driver_class: type[ChatDriver] = ChatDriver
    wire: Wire | None = None
    known: Mapping[str, Option] = field(default_factory=dict)
    config: Options = field(default_factory=dict, repr=False)

    def build(self, alias: str) -> ChatDriver:
        """Return the driver, or raise the first mistake."""
        for mistake in self.mistakes:
            raise mistake.exception()
        if self.wire is None:
            return self.driver_class(alias, self.name, self.config)
        return self.driver_class(alias, self.name, self.config, self.wire)  # type: ignore[call-arg]


def read(alias: str, entry: dict[str, Any]) -> Reading:
    """Return what an entry says, whose secrets are wrapped."""
    where = f"BUPPLE_ENGINE['DRIVERS'][{shown(alias)}]"
    name = reveal(entry.get("DRIVER", alias))
    if not isinstance(name, str):
        words = " must be a short name or a dotted path."
        return Reading("", [Mistake("E009", f"{where}['DRIVER']", words, 'Write "DRIVER": "claude"')])
    found = _find(name, where)
    if isinstance(found, Mistake):
        if found.id == "E007" and "DRIVER" not in entry:
            found = found._replace(hint=f"{_no_driver(entry)} {found.hint}")
        return Reading(unkeyed(name), [_masked(found, entry)])
    driver_class, wire = found
    known = wire.options if wire is not None else driver_class.options
    config, mistakes = _read_options(entry, known, where)
    return Reading(name, mistakes, driver_class, wire, known, config)


def _no_driver(entry: Mapping[str, Any]) -> str:
    """Return the hint where an entry has no DRIVER: it may have one in small letters."""
    keys = [key for key in entry if isinstance(key, str) and key.upper() in ("DRIVER", "BACKEND", "ENGINE")]
    if keys:
        return f'The options of an entry are in capitals: write "DRIVER" in place of {shown(keys[0])}.'
    return 'The alias is taken for its name; add "DRIVER": …'


def _masked(mistake: Mistake, entry: dict[str, Any]) -> Mistake:
    """Return a mistake without the entry's secrets, which a module that can't be imported may quote."""
    secrets = [*secrets_of(entry)]
    quotes = mistake.cause is not None and scrub(str(mistake.cause), secrets) != str(mistake.cause)
    return mistake._replace(words=scrub(mistake.words, secrets), cause=None if quotes else mistake.cause)


def load(name: str, where: str) -> tuple[type[ChatDriver], Wire | None]:
    """Return the class behind a short name or a dotted path, and the wire where it speaks HTTP."""
    found = _find(name, where)
    if isinstance(found, Mistake):
        raise found.exception()
    return found


def _find(name: str, where: str) -> tuple[type[ChatDriver], Wire | None] | Mistake:
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
        if isinstance(found, type) and issubclass(found, Wire):
            from bupple_engine.drivers.wired import HTTPDriver

            return HTTPDriver, found(service or name.rpartition(".")[2])
    except Exception as error:  # whatever a third party's module raises
        reason = error if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        words = f": {shown(name)} can't be imported: {unkeyed(str(reason)).rstrip('.')}."
        hint = _model_hint(name) or 'Write "DRIVER": "package.module.Class", as Python imports it.'
        return Mistake("E008", where, words, hint, InvalidDriverError, error)
    if isinstance(found, type) and issubclass(found, ChatDriver) and found is not ChatDriver:
        if lacking := found.find_lacking():
            return Mistake("E009", where, f": {shown(name)} {lacking}.", "", InvalidDriverError)
        return found, None
    words = f": {shown(name)} is no subclass of ChatDriver or Wire."
    hint = "Derive it from bupple_engine.drivers.base.ChatDriver."
    return Mistake("E009", where, words, hint, InvalidDriverError)


def _model_hint(name: str) -> str:
    driver = vendors.driver_of(name)
    return f'Write "DRIVER": "{driver}", "MODEL": "{name}"' if driver and driver != name else ""


def parse_entry(entry: dict[str, Any], known: Mapping[str, Option], where: str) -> Options:
    """Return an entry's options by lower-case name, the defaults of those that it lacks among them."""
    config, mistakes = _read_options(entry, known, where)
    for mistake in mistakes:
        raise mistake.exception()
    return config


def _read_options(
    entry: dict[str, Any], known: Mapping[str, Option], where: str
) -> tuple[Options, list[Mistake]]:
    config: Options = {name: option.default for name, option in known.items() if option.default is not None}
    names = [name.upper() for name in known]
    mistakes = []
    for key, value in entry.items():
        if key == "DRIVER":
            continue
        if key not in names:
            hint = elsewhere.of_entry(str(key), known)
            if key == "API":
                hint = 'It stands beside DRIVERS: BUPPLE_ENGINE = {"DRIVERS": {…}, "API": {…}}'
            hint = hint or suggest(str(key).upper(), [*names, "DRIVER"]).strip()
            mistakes.append(Mistake("E010", where, f": unknown option {shown(key)}.", hint))
            continue
        if value is None or (key in ("API_KEY", "MODEL") and reveal(value) == ""):
            continue
        name = key.lower()
        found, wrong = read_option(name, known[name], plain_option(value))
        address = f"{where}[{key!r}]"
        if not wrong:
            config[name] = found
        elif key == "API_KEY" and isinstance(value, Secret):
            # It comes from an environment, and may be right in another: no error of the settings file.
            hint = RETYPE if wrong.startswith("has the character") else STRIP
            mistakes.append(Mistake("W007", address, f" {wrong}.", hint))
        else:
            hint = right_line(key, known[name], reveal(value))
            mistakes.append(Mistake("E011", address, f" {wrong}.", hint))
    return config, mistakes


@process.after_change
def reset() -> None:
    """Forget the drivers; the next call makes them anew."""
    with _lock:
        _drivers.clear()
