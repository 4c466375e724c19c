"""What a client asks for, held to what the site has listed; each error names the field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bupple_engine import media
from bupple_engine.conf import APISettings, default_alias
from bupple_engine.exceptions import InvalidRequestError
from bupple_engine.messages import Turn, validate
from bupple_engine.types import Message

# Of a message's metadata all else is between us and the providers: a client could forge it.
MEDIA_KEYS = ("mime_type", "format", "detail", "caption", "transcript", "filename")


@dataclass
class ChatCall:
    """A client's call, checked; PREPARE may change all of it, and what it sets is not checked again.

    driver is an alias. options are those of ai(driver).send(), api_key among them. data is the whole body
    as the client sent it. context goes to call_finished.
    """

    endpoint: str
    messages: list[Message]
    driver: str | None = None
    model: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    stream: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)
    context: Any = None


def default_driver(api: APISettings) -> str | None:
    """Return the driver of a client that names none: the default one where it is listed, else the first."""
    if (alias := default_alias()) in api.drivers:
        return alias
    return api.drivers[0] if api.drivers else None


def check_call(call: ChatCall, api: APISettings) -> ChatCall:
    """Return a call whose driver and messages are settled, or raise an InvalidRequestError."""
    if call.driver is not None and call.driver not in api.drivers:
        known = ", ".join(api.drivers)
        raise wrong("driver", f"is {call.driver!r}, which is not one of: {known}")
    call.driver = call.driver or default_driver(api)
    if call.model is not None and call.model not in api.models.get(call.driver or "", ()):
        raise wrong("model", f"is {call.model!r}, which this driver does not have for clients")
    call.options = {
        name: _check_option(name, value, api) for name, value in call.options.items() if value is not None
    }
    call.messages = check_messages(call.messages, api)
    return call


def _check_option(name: str, value: Any, api: APISettings) -> Any:
    if name not in api.options:
        raise wrong(name, "may not be set here")
    limit = api.options[name]
    if isinstance(limit, list):
        if value not in limit:
            raise wrong(name, f"must be one of {', '.join(map(repr, limit))}")
    elif limit is not True:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong(name, "must be a number")
        if value > limit:
            raise wrong(name, f"must be {limit:g} at most")
    return value


def check_messages(messages: Any, api: APISettings) -> list[Message]:
    """Return the messages without what a client may not say, within the bounds."""
    if not isinstance(messages, list):
        raise wrong("messages", "must be a list")
    count = sum(
        len(item["content"]) if isinstance(item, dict) and isinstance(item.get("content"), list) else 1
        for item in messages
    )
    if count > api.max_messages:
        raise wrong("messages", f"has {count} messages and parts; {api.max_messages} are allowed")
    turns = validate(messages)
    left = api.max_characters
    for turn in turns:
        if turn.role == "system" and not api.system_messages:
            raise wrong(f'{turn.where}["role"]', "is 'system', which clients may not use here")
        for part in turn.parts:
            taken = _taken(part.metadata, part.where)
            left -= sum(map(len, taken.values()))
            if part.type == "text":
                left -= len(part.content)
            else:
                _check_media(part, api)
        if left < 0:
            raise wrong("messages", f"have more than {api.max_characters} characters")
    return [_rebuild(turn) for turn in turns]


def _check_media(part: Any, api: APISettings) -> None:
    found = media.resolve(part)
    if found.mime_type is None:
        # A URL whose name doesn't tell: what it is said to be has to do.
        allowed = any(each.startswith(f"{part.type}/") for each in api.media_types)
    else:
        allowed = found.mime_type in api.media_types
    if not allowed:
        raise wrong(
            f'{part.where}["content"]',
            f"is {found.mime_type or part.type}; allowed are {', '.join(api.media_types) or 'no media'}",
        )


def _taken(metadata: Mapping[str, Any], where: str) -> dict[str, str]:
    """Return what is taken of a client's metadata."""
    taken = {key: metadata[key] for key in MEDIA_KEYS if metadata.get(key) is not None}
    for key, value in taken.items():
        if not isinstance(value, str):
            raise wrong(f'{where}["metadata"]["{key}"]', "must be a string")
    return taken


def _rebuild(turn: Turn) -> Message:
    parts: list[Any] = [
        {
            "type": part.type,
            "content": part.content,
            **({"metadata": taken} if (taken := _taken(part.metadata, part.where)) else {}),
        }
        for part in turn.parts
    ]
    if len(parts) == 1 and parts[0]["type"] == "text" and "metadata" not in parts[0]:
        return {"role": turn.role, "content": parts[0]["content"]}  # type: ignore[typeddict-item]
    return {"role": turn.role, "content": parts}  # type: ignore[typeddict-item]


def wrong(where: str, what: str) -> InvalidRequestError:
    """Return the error for a field of a client's body."""
    return InvalidRequestError(f"{where} {what}.", param=where)
