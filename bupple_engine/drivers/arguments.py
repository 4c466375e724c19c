"""What a caller passes to a call, read: messages in every form, and options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bupple_engine.exceptions import InvalidRequestError
from bupple_engine.masking.keys import shown, unkeyed
from bupple_engine.protocol import elsewhere
from bupple_engine.protocol.options import Option, Options, suggest
from bupple_engine.protocol.reading import read_option

from .lazy import is_lazy, plain, plain_message, plain_option


def listed(messages: Any) -> Any:
    """Return what a caller passed as a list of messages, for validate() to look at."""
    if isinstance(messages, list):
        return list(map(plain_message, messages))
    if isinstance(messages, str) or is_lazy(messages):
        text = plain(messages)
        if not text.strip():
            raise InvalidRequestError(
                'messages is blank; say something to the model: ai().send("Hello!")', param="messages"
            )
        return [{"role": "user", "content": text}]
    if isinstance(messages, Iterable) and not isinstance(messages, bytes | bytearray | Mapping):
        return list(map(plain_message, messages))  # a generator is read once
    return messages


def parse_options(
    options: Mapping[str, Any], known: Mapping[str, Option], *, of_entry: bool = False
) -> Options:
    """Return a call's options as clean values, or an entry's; None is an option that is not given."""
    parsed: Options = {}
    for name in options:
        option = known.get(name)
        if option is None or not (option.per_call or of_entry):
            names = [each for each, option in known.items() if option.per_call or of_entry]
            what = (
                f"belongs to the entry in settings, not to a call. ai(…, {name}=…) lays it over."
                if option
                else "is unknown." + _advice(name, names, known)
            )
            raise InvalidRequestError(f"The option {shown(name)} {what}", param=unkeyed(name))
        value = options[name]
        if value is None and name == "api_key":
            # A tenant without a key would be billed to the site.
            raise InvalidRequestError("api_key is None; leave it out to use the entry's", param=name)
        if value is not None:
            parsed[name], wrong = read_option(name, option, plain_option(value))
            if wrong:
                raise InvalidRequestError(f"{name} {wrong}", param=name)
    return parsed


def _advice(name: str, per_call: list[str], known: Mapping[str, Option]) -> str:
    """Return the sentence that follows an unknown option."""
    hint = elsewhere.of_call(name, per_call, known)
    return f" {hint}" if hint else suggest(name.lower(), per_call)
