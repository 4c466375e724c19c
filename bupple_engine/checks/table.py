"""The table of what is checked, and how a message is made."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from django.core.checks import CheckMessage, Error, Warning

from bupple_engine.conf import Mistake
from bupple_engine.conf.env import PREFIX, own_aliases, variable
from bupple_engine.drivers import DRIVERS
from bupple_engine.masking.keys import looks_like_key, shown, unkeyed

from .source import find_entry, variable_in

# Id → what it reports. E stops migrate and runserver, W doesn't; from W101 on, with `check --deploy` alone.
CHECKS = {
    "E001": "`BUPPLE_ENGINE` is not a dict",
    "E002": "`BUPPLE_ENGINE` has an unknown key",
    "E003": "`DRIVERS` is missing or is not a dict",
    "E004": "`DEFAULT` names no driver, or is missing although there are several",
    "E005": "`MAX_THREADS` is not a whole number of at least 1",
    "E006": "an alias is not a string, or its entry is not a dict",
    "E007": "an entry names an unknown driver",
    "E008": "a dotted path in `DRIVER` can't be imported",
    "E009": "`DRIVER` is not a name, or its dotted path does not lead to a driver",
    "E010": "an entry has an option that its driver does not know",
    "E011": "an option has the wrong type or is out of range",
    "E012": "a driver can't be created from its entry: its class raises",
    "E013": "something in `API` is wrong",
    "E014": "our URLs are included, but `rest_framework` is not in INSTALLED_APPS",
    "E015": "something in `MEMORY` is wrong",
    "E016": "`MEMORY` has the database store, but INSTALLED_APPS has no `bupple_engine.conversations`",
    "E018": "`OBSERVERS` is no list of dotted paths",
    "E019": "a dotted path in `OBSERVERS` can't be imported, or leads to no `Observer` that hears anything",
    "W001": "`BUPPLE_ENGINE` is not set",
    "W002": "there is no driver",
    "W003": "a driver that needs an `API_KEY` has none",
    "W004": "a driver that needs a `MODEL` has none",
    "W005": "another option that the driver needs is missing, such as Azure's `BASE_URL`",
    "W006": "a key, a model or a URL is still a placeholder",
    "W007": "a key contains white space or quotes; `MODEL` or `BASE_URL` contains quotes or a comment",
    "W008": "a key or a model looks like another vendor's",
    "W009": "`BASE_URL` is plain http to another host",
    "W010": "`BASE_URL` doubles the version, as in /v1/v1, or lacks the path that it must have",
    "W011": "`BASE_URL` has credentials in it",
    "W012": "an option that the driver, the service or the model's family is known to refuse",
    "W013": "a model that its vendor has shut down, or will on an announced date",
    "W014": "a file named by an option does not exist",
    "W015": "`PROXY` is a SOCKS proxy, but PySocks is not installed",
    "W016": "an environment variable with our prefix that nothing reads: misspelt?",
    "W017": "a check itself failed, such as one in a third party's driver",
    "W018": "the engine of the local driver is missing, or can't be imported",
    "W019": "the weights of the local driver are missing",
    "W020": "the processor has no AVX2, which the engine of the local driver needs",
    "W021": "the system library libgomp1 is missing, which the engine of the local driver needs",
    "W022": "the database has no tables for conversations (with `check --database default` alone)",
    "W023": "an option that is not meant for keys, or an alias, seems to hold one",
    "W024": "`DEFAULT` is `echo`, though the environment has a key for another driver",
    "W025": "a vendor's own variable, such as OPENAI_API_KEY, is set, and nothing reads it",
    "W026": "a key that expires within hours is written where a callable could fetch a fresh one",
    "W101": "a key is written as plain text in the settings file",
    "W102": "the site has an ASGI_APPLICATION, but the extra `async` is missing",
    "W103": "the API's throttles count in a cache that is not shared, or that can't count atomically",
    "W104": "the API is open to anonymous callers",
    "W105": "a driver's URL points to this machine itself",
    "W106": "the default driver is `echo`, which only repeats the question",
    "W107": "the API has no throttle",
    "W108": "`GATE_SECONDS` or `HEARTBEAT_SECONDS` is longer than proxies wait for a byte",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where in the settings a message belongs, and the driver that it is about."""

    text: str
    alias: str | None = None

    def __str__(self) -> str:
        return self.text


class Places:
    """Name the places in an entry, and the environment variable that is likely behind one."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.entry = Address(f"BUPPLE_ENGINE['DRIVERS'][{shown(alias)}]", alias)

    def __getitem__(self, option: str) -> Address:
        return Address(f"{self.entry}[{shown(option.upper())}]", self.alias)

    def variable(self, option: str) -> str:
        """Return the variable that the settings file reads for an option, else the one that is ours."""
        if looks_like_key(self.alias):
            return f"{PREFIX}…_{option.upper()}"
        return variable_in(find_entry(self.alias), option.upper()) or variable(self.alias, option)

    def reader(self, option: str) -> str:
        """Return what reads that variable, "" where nothing seems to."""
        if (entry := find_entry(self.alias)) is not None:
            return "the settings file" if variable_in(entry, option.upper()) else ""
        made = self.alias in DRIVERS or self.alias in own_aliases(os.environ)
        return "engine_settings()" if made else ""


def message(id: str, address: Address, words: str, hint: str = "") -> CheckMessage:
    """Return the message for a row of the table; words are a sentence that begins where the address ends."""
    if id not in CHECKS:
        raise KeyError(id)
    kind = Error if id.startswith("E") else Warning
    words, hint = unkeyed(words), unkeyed(hint)
    return kind(words[:1].upper() + words[1:], hint=hint or None, obj=address, id=f"bupple_engine.{id}")


def of_mistake(mistake: Mistake, alias: str | None = None) -> CheckMessage:
    """Return the message for what ai() would raise."""
    return message(mistake.id, Address(mistake.address, alias), mistake.words.lstrip(": "), mistake.hint)


def of_error(id: str, error: Exception, address: Address, hide: Callable[[str], str]) -> CheckMessage:
    """Return the message for an error whose text begins with an address, at least with the one given."""
    text = hide(str(error))
    if found := re.match(re.escape(address.text) + r"(\[[^]]*\])*", text):
        address = Address(found[0], address.alias)
        text = text[found.end() :].lstrip(": ")
    return message(id, address, text)


def guard(
    check: Callable[[], Iterable[CheckMessage]], address: Address, hide: Callable[[str], str] = str
) -> Iterator[CheckMessage]:
    """Yield what a check finds; if the check itself fails, that is a message too."""
    try:
        yield from check()
    except Exception as error:  # a third party's check() must not hide what the others found
        words = hide(f"could not be checked: {type(error).__name__}: {error}")
        yield message("W017", address, words, "Fix what raises this, or report it to its author.")
