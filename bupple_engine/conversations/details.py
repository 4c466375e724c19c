"""What a turn holds beyond its plain text, as JSON that says in which version it was written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from bupple_engine.protocol.answer import repair
from bupple_engine.types import Message

from .values import Turn

VERSION = 1

# What a provider wants echoed: of an answer that was cut off it is half a signature, which it refuses.
_ECHO = "echo"


def of_question(messages: Sequence[Message]) -> tuple[str, dict[str, Any]]:
    """Return the plain text of what is asked, and what it is beyond that."""
    kept = [cast("Message", storable(message)) for message in messages]
    text = "\n\n".join(filter(None, (text_of(message) for message in kept if message["role"] == "user")))
    is_plain = len(kept) == 1 and kept[0] == {"role": "user", "content": text}
    return text, {} if is_plain or not kept else {"v": VERSION, "question": kept}


def of_answer(reply: Mapping[str, Any], before: Iterable[Message] = ()) -> tuple[str, dict[str, Any]]:
    """Return the plain text of an answer, and the rest of it; before are a tool loop's earlier messages."""
    kept = cast("dict[str, Any]", storable(reply))
    rest = {name: kept[name] for name in ("metadata", "usage") if kept.get(name)}
    text = text_of(cast("Message", kept))
    if kept.get("content") != text:
        rest |= {name: kept[name] for name in ("content", "type") if name in kept}
    found: dict[str, Any] = {"reply": rest} if rest else {}
    if earlier := storable(list(before)):
        found["answer"] = earlier
    return text, {"v": VERSION, **found} if found else {}


def text_of(message: Message) -> str:
    """Return the text of a message's parts."""
    content = message["content"]
    if isinstance(content, str):
        return content if message.get("type") in (None, "text") else ""
    return "\n\n".join(part["content"] for part in content if part.get("type") in (None, "text"))


def is_said(turn: Turn) -> bool:
    """Return whether a turn is sent to a model: what failed was not said, and a blank answer is refused."""
    if turn.state == "open":
        return True
    return bool(turn.answer.strip() or (turn.details.get("reply") or {}).get("content"))


def messages_of(turn: Turn) -> list[Message]:
    """Return a turn as the messages that a call takes."""
    found = question_of(turn)
    if turn.state != "open" and is_said(turn):
        found += answer_of(turn)
    return found


def question_of(turn: Turn) -> list[Message]:
    """Return what was asked."""
    if kept := turn.details.get("question"):
        return [cast("Message", dict(message)) for message in kept]
    return [{"role": "user", "content": turn.question}] if turn.question else []


def answer_of(turn: Turn) -> list[Message]:
    """Return what was answered: the earlier messages of a tool loop, then the reply."""
    reply: Mapping[str, Any] = turn.details.get("reply") or {}
    metadata = dict(reply.get("metadata") or {})
    if turn.state != "complete":
        metadata.pop(_ECHO, None)
    last: dict[str, Any] = {"role": "assistant", "content": reply.get("content", turn.answer)}
    last |= {name: reply[name] for name in ("type", "usage") if name in reply}
    last |= {
        name: value
        for name, value in (
            ("metadata", metadata),
            ("model", turn.model),
            ("finish_reason", turn.finish_reason),
        )
        if value
    }
    return [*(turn.details.get("answer") or ()), cast("Message", last)]


def read(details: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return details in the present version; of a later one nothing is guessed, it raises a ValueError."""
    version = details.get("v", VERSION)
    if version != VERSION:
        raise ValueError(
            f"A turn was written in version {version!r} of its details, and this release reads version "
            f"{VERSION} alone: install the release that wrote it, or a later one."
        )
    return details


def storable(value: Any) -> Any:
    """Return a value as every database takes it as JSON; no text of PostgreSQL's may hold a NUL."""
    if isinstance(value, str):
        if "\0" in value:
            value = value.replace("\0", "\ufffd")
        return str(value) if value.isascii() else repair(str(value))
    if isinstance(value, Mapping):
        return {storable(str(name)): storable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [storable(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else storable(str(value))
