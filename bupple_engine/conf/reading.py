"""What an entry of DRIVERS says: the driver that it names, its options, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bupple_engine.drivers.base import ChatDriver
from bupple_engine.drivers.lazy import plain_option
from bupple_engine.masking import Hidden, MaskedDict, reveal
from bupple_engine.masking.keys import shown, unkeyed
from bupple_engine.protocol import elsewhere
from bupple_engine.protocol.options import COMMON, Option, Options, suggest
from bupple_engine.protocol.reading import read_option, right_line
from bupple_engine.protocol.scrubbing import scrub, secrets_of
from bupple_engine.wires.base import Wire

from .engine import Mistake
from .naming import Maker, find

STRIP = 'Read it without them: "API_KEY": env.str("BUPPLE_ENGINE_…_API_KEY", default="").strip()'
RETYPE = "Copy the key once more from where it was made; an editor may have changed a character of it."


class Variable(str):
    """The text of an environment variable that the driver's option shall read, if there is such an option."""

    __slots__ = ()


def read_variable(option: Option, text: str) -> Any:
    """Return what an option's env makes of a variable; what it can't read stands, for parse to refuse."""
    try:
        return option.env(text) if option.env is not None else text
    except ValueError:
        return text


@dataclass(frozen=True, slots=True)
class Reading:
    """What an entry says: what makes its driver, the options that could be read, and what is wrong."""

    alias: str
    name: str
    entry: Mapping[str, Any]
    mistakes: list[Mistake]
    maker: Maker | None = None
    config: Options = field(default_factory=dict, repr=False)

    @property
    def wire(self) -> Wire | None:
        """The wire, where the driver is spoken to over HTTP."""
        return self.maker.wire if self.maker is not None else None

    @property
    def known(self) -> Mapping[str, Option]:
        """The options that the driver knows; none where its name says nothing."""
        return self.maker.options if self.maker is not None else {}

    @property
    def required(self) -> tuple[str, ...]:
        """The options that a call can't do without."""
        return self.maker.required if self.maker is not None else ()

    def hide(self, text: str) -> str:
        """Return a text of someone else's without what is secret in the entry."""
        return unkeyed(scrub(text, self._secrets()))

    def _secrets(self) -> Iterator[str]:
        yield from secrets_of(self.entry, self.known or COMMON)
        yield from secrets_of(self.config, self.known)

    def build(self) -> ChatDriver:
        """Return the driver, or raise the first mistake."""
        for mistake in self.mistakes:
            raise mistake.exception()
        if self.maker is None:
            raise LookupError(self.name)
        return self.maker.make(self.alias, self.name, self.config)


def read(alias: str, entry: dict[str, Any]) -> Reading:
    """Return what an entry says, whose secrets are wrapped."""
    where = f"BUPPLE_ENGINE['DRIVERS'][{shown(alias)}]"
    name = reveal(entry.get("DRIVER", alias))
    if not isinstance(name, str):
        words = " must be a short name or a dotted path."
        mistake = Mistake("E009", f"{where}['DRIVER']", words, 'Write "DRIVER": "claude"')
        return Reading(alias, "", entry, [mistake])
    maker = find(name, where)
    if isinstance(maker, Mistake):
        if maker.id == "E007" and "DRIVER" not in entry:
            maker = maker._replace(hint=f"{_no_driver(entry)} {maker.hint}")
        return Reading(alias, unkeyed(name), entry, [_masked(maker, entry)])
    entry = _with_variables(entry, maker.options)
    config, mistakes = _read_options(entry, maker.options, where)
    return Reading(alias, name, entry, mistakes, maker, config)


def _with_variables(entry: dict[str, Any], known: Mapping[str, Option]) -> dict[str, Any]:
    """Return an entry whose variables are read; those of no option are left out, of which a check tells."""
    if not any(isinstance(reveal(value), Variable) for value in entry.values()):
        return entry
    found: dict[str, Any] = MaskedDict()
    for key, value in entry.items():
        option = known.get(key.lower())
        if not isinstance(reveal(value), Variable):
            found[key] = value
        elif option is not None and option.env is not None:
            found[key] = Hidden(read_variable(option, str(reveal(value))))
    return found


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


def parse_entry(entry: dict[str, Any], known: Mapping[str, Option], where: str) -> Options:
    """Return an entry's options by lower-case name, the defaults of those that it lacks among them."""
    config, mistakes = _read_options(entry, known, where)
    for mistake in mistakes:
        raise mistake.exception()
    return config


def _read_options(
    entry: dict[str, Any], known: Mapping[str, Option], where: str
) -> tuple[Options, list[Mistake]]:
    config: Options = {
        name: option.conceal(option.default) for name, option in known.items() if option.default is not None
    }
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
        elif key == "API_KEY" and isinstance(reveal(value), str):
            # It comes from an environment, and may be right in another: no error of the settings file.
            hint = RETYPE if wrong.startswith("has the character") else STRIP
            mistakes.append(Mistake("W007", address, f" {wrong}.", hint))
        else:
            hint = right_line(key, known[name], reveal(value))
            mistakes.append(Mistake("E011", address, f" {wrong}.", hint))
    return config, mistakes
