"""What callers pass, checked before any I/O: each error names the item that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from bupple_engine.exceptions import InvalidRequestError
from bupple_engine.masking.keys import unkeyed
from bupple_engine.masking.printing import kind_of

from . import elsewhere
from .options import suggest
from .values import is_text

ROLES = ("system", "user", "assistant")
PART_TYPES = ("text", "image", "audio", "document")
MESSAGE_KEYS = ("role", "content", "type", "metadata", "model", "usage", "finish_reason")
PART_KEYS = ("content", "type", "metadata")

# What the user is made to say where a conversation begins with the assistant, or is instructions alone, and
# the API wants it otherwise.
OPENING = "(The assistant begins.)"


_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Part(NamedTuple):
    """A piece of a turn's content; where is its address in what the caller passed."""

    type: str
    content: str
    metadata: Mapping[str, Any]
    where: str


class Turn(NamedTuple):
    """A checked message; metadata is what a Reply carried back."""

    role: str
    parts: tuple[Part, ...]
    where: str
    metadata: Mapping[str, Any] = _NOTHING

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "\n\n".join(part.content for part in self.parts if part.type == "text" and part.content)

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing in it but white space: several providers refuse such a turn."""
        for part in self.parts:
            if part.type != "text" or (part.content and not part.content.isspace()):
                return False
        return True


def validate(messages: Any) -> list[Turn]:
    """Return the messages as turns, or raise an InvalidRequestError that names the item."""
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Iterable):
        hint = "; put it into a list: [{…}]" if isinstance(messages, Mapping) else ""
        if isinstance(messages, bytes | bytearray):
            hint = "; decode it: data.decode()"
        raise _wrong("messages", f"must be a string or a list of messages, not {kind_of(messages)}{hint}")
    turns = [_turn(message, f"messages[{index}]") for index, message in enumerate(messages)]
    if not turns:
        raise _wrong("messages", "is empty; it needs a message at least")
    for turn in turns:
        if turn.role == "user" and not turn.is_blank:
            return turns  # nearly all
    # Without a user's message too: a conversation may be instructions alone, or begin with the assistant.
    asked = [turn for turn in turns if turn.role == "user"] or turns
    if all(turn.is_blank for turn in asked):
        raise _wrong(f'{asked[-1].where}["content"]', "is blank; say something to the model")
    return turns


def system_turn(content: Any) -> Turn:
    """Return the turn that a call's `system` is."""
    if not isinstance(content, str):
        raise _wrong("system", f"must be a string, not {kind_of(content)}")
    if not is_text(content):
        raise _wrong("system", "has a lone surrogate, which is no character and can't be sent")
    return Turn("system", (Part("text", content, {}, "system"),), "system")


def _turn(message: Any, where: str) -> Turn:
    if (
        type(message) is dict
        and len(message) == 2
        and type(content := message.get("content")) is str
        and type(role := message.get("role")) is str
        and role in ROLES
        and is_text(content)
    ):  # nearly all
        return Turn(role, (Part("text", content, _NOTHING, where),), where)
    if not isinstance(message, Mapping):
        raise _wrong(where, f"must be a dict, not {kind_of(message)}; {elsewhere.of_item(message)}")
    _check_keys(message, MESSAGE_KEYS, where, elsewhere.of_message_key)
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        at = f'{where}["role"]'
        if role is None or role == "":
            raise _wrong(at, f"is {'missing' if role is None else 'empty'}; it is one of {', '.join(ROLES)}")
        hint = elsewhere.of_role(role) if isinstance(role, str) else ""
        raise _wrong(at, f"is {role!r}; it is one of {', '.join(ROLES)}{hint and '. '}{hint}")
    metadata = _metadata(message, where)
    at = f'{where}["content"]'
    if "content" not in message:
        raise _wrong(at, "is missing")
    content = message["content"]
    if isinstance(content, str):
        parts: tuple[Part, ...] = (_part(message, where, metadata),)
    elif isinstance(content, Sequence) and not isinstance(content, bytes | bytearray | memoryview):
        if message.get("type") not in (None, "text"):
            raise _wrong(f'{where}["type"]', "goes with each part where content is a list")
        if not content:
            raise _wrong(at, "is an empty list; give it a part, or a string")
        parts = tuple(_list_part(part, f"{at}[{index}]") for index, part in enumerate(content))
    else:
        raise _wrong(at, f"must be a string or a list of parts, not {kind_of(content)}{_data_hint(content)}")
    return Turn(role, parts, where, metadata)


def _list_part(part: Any, where: str) -> Part:
    if not isinstance(part, Mapping):
        hint = '; write {"type": "text", "content": "…"}'
        raise _wrong(where, f"must be a dict, not {kind_of(part)}{hint}")
    _check_keys(part, PART_KEYS, where, elsewhere.of_part)
    if "content" not in part:
        raise _wrong(f'{where}["content"]', "is missing")
    return _part(part, where, _metadata(part, where))


def _part(item: Mapping[str, Any], where: str, metadata: Mapping[str, Any]) -> Part:
    kind = item.get("type", "text")
    if kind is None:
        kind = "text"
    if not isinstance(kind, str) or kind not in PART_TYPES:
        hint = elsewhere.of_part(kind) if isinstance(kind, str) else ""
        what = f"is {kind!r}; it is one of {', '.join(PART_TYPES)}{hint and '. '}{hint}"
        raise _wrong(f'{where}["type"]', what)
    content = item["content"]
    at = f'{where}["content"]'
    if not isinstance(content, str):
        raise _wrong(at, f"must be a string, not {kind_of(content)}{_data_hint(content)}")
    if not content and kind != "text":
        raise _wrong(at, "is empty; it is an http(s) URL, a data URL or base64")
    if not is_text(content):
        raise _wrong(at, "has a lone surrogate, which is no character and can't be sent")
    return Part(kind, content, metadata, where)


def _metadata(item: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    metadata = item.get("metadata")
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise _wrong(f'{where}["metadata"]', f"must be a dict, not {kind_of(metadata)}")
    return metadata


def _check_keys(
    item: Mapping[str, Any], known: tuple[str, ...], where: str, find: Callable[[str], str]
) -> None:
    for key in item:
        if key not in known:
            hint = find(key) if isinstance(key, str) else ""
            words = f"is unknown. {hint}" if hint else f"is unknown.{suggest(str(key), known)}"
            raise _wrong(f"{where}[{key!r}]".replace("'", '"'), words)


def _data_hint(content: Any) -> str:
    hint = elsewhere.of_data(content)
    return f"; {hint}" if hint else ""


def _wrong(where: str, what: str) -> InvalidRequestError:
    # A key may have been pasted in place of a role, a type or a name.
    where = unkeyed(where)
    return InvalidRequestError(f"{where} {unkeyed(what)}", param=where)


def system_and_rest(turns: Iterable[Turn]) -> tuple[list[Part], list[Turn]]:
    """Split the parts of every system turn, in order, from the turns of user and assistant."""
    system: list[Part] = []
    rest: list[Turn] = []
    for turn in turns:
        if turn.role == "system":
            system += turn.parts
        else:
            rest.append(turn)
    return system, rest
