"""An option's value, read: the clean one, or what is wrong with it, in words that show no secret."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from bupple_engine.masking import Misfit, reveal
from bupple_engine.masking.keys import shown, unkeyed

from .options import Option
from .scrubbing import scrub, secrets_of


def read_option(name: str, option: Option, value: Any) -> tuple[Any, str]:
    """Return the clean value of what protect() has wrapped, and what is wrong with it, "" if nothing is.

    It raises nothing: whoever does so then has no raw value among its locals.
    """
    found = reveal(value)
    try:
        return option.conceal(option.parse(found)), ""
    except ValueError as error:
        told = wrong_words(error, _told(option, found))
    except Exception as error:  # whatever a third party's parser raises
        told = unkeyed(f"can't be read: {type(error).__name__}: {error}")
    return None, scrub(told, secrets_of({name: found}, {name: option})) if option.secret is True else told


def wrong_words(error: ValueError, told: str) -> str:
    """Return what a parser says of a value, which is told unless the words say what it has."""
    words = unkeyed(str(error))
    return f"{words}, not {told}" if words.startswith("must") else words


def _told(option: Option, value: Any) -> str:
    """Return how a wrong value is told; of a secret what may show, or its type alone."""
    if not option.secret:
        return shown(value)
    if isinstance(value, str):
        return repr(option.conceal(value))
    return repr(value if isinstance(value, Misfit) else Misfit(value))


def right_line(name: str, option: Option, value: Any) -> str:
    """Return the sentence that follows a wrong value: the line to write instead."""
    for convert in (int, float):  # an environment variable is a string
        with suppress(Exception):  # whatever a third party's parser raises
            if isinstance(value, str) and not option.secret and option.parse(convert(value)) is not None:
                return f'Write "{name}": {convert(value)!r}, without quotes.'
    return f'Write, for instance, "{name}": {option.example}' if option.example else ""
