"""Bytes out of messages and back: a message that is kept has a reference, media:<id>, in their place."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from bupple_engine.protocol.media import resolve
from bupple_engine.protocol.messages import Part
from bupple_engine.types import Message

_PREFIX = "media:"

# Returns the part that is put in place of one, which has media in it.
Replace = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Blob:
    """A file that was part of a message."""

    id: UUID
    sha256: str
    data: bytes = field(repr=False)
    mime_type: str
    filename: str


def take_out(messages: Iterable[Message], new_id: Callable[[], UUID]) -> tuple[list[Message], list[Blob]]:
    """Return the messages with references, new ids, in place of their base64, and what these stand for.

    URLs stay as they are. Raises an InvalidRequestError for media that are none.
    """
    blobs: dict[str, Blob] = {}

    def take(part: dict[str, Any]) -> dict[str, Any]:
        if reference_of(part):
            return part
        metadata = part.get("metadata") or {}
        media = resolve(Part(part["type"], part["content"], metadata, "messages"))
        if media.url is not None:
            return part
        data = base64.b64decode(media.data)
        sha256 = hashlib.sha256(data).hexdigest()
        blob = Blob(new_id(), sha256, data, media.mime_type or "", str(metadata.get("filename") or "")[:200])
        blob = blobs.setdefault(sha256, blob)
        return _put(part, f"{_PREFIX}{blob.id}", blob.mime_type)

    return each_part(messages, take), [*blobs.values()]


def rename(messages: Iterable[Message], ids: Mapping[UUID, UUID]) -> list[Message]:
    """Return the messages with references to files that were kept before."""

    def put(part: dict[str, Any]) -> dict[str, Any]:
        id = reference_of(part)
        return {**part, "content": f"{_PREFIX}{ids[id]}"} if id and id in ids else part

    return each_part(messages, put)


def references(messages: Iterable[Message]) -> list[UUID]:
    """Return the ids of the files that messages refer to."""
    found: list[UUID] = []

    def note(part: dict[str, Any]) -> dict[str, Any]:
        if id := reference_of(part):
            found.append(id)
        return part

    each_part(messages, note)
    return found


def put_back(messages: Iterable[Message], files: Mapping[UUID, bytes]) -> list[Message]:
    """Return the messages with base64 in place of the references; a file that is gone is told of in words."""

    def put(part: dict[str, Any]) -> dict[str, Any]:
        id = reference_of(part)
        if id is None:
            return part
        return _put(part, base64.b64encode(files[id]).decode("ascii")) if id in files else in_words(part)

    return each_part(messages, put)


def leave_out(messages: Iterable[Message]) -> list[Message]:
    """Return the messages with words in place of their media, which a model no longer sees."""
    return each_part(messages, in_words)


def count(messages: Iterable[Message]) -> int:
    """Return how many parts are media."""
    found: list[dict[str, Any]] = []

    def note(part: dict[str, Any]) -> dict[str, Any]:
        found.append(part)
        return part

    each_part(messages, note)
    return len(found)


def each_answer(
    details: Mapping[str, Any], change: Callable[[list[Message]], list[Message]]
) -> Mapping[str, Any]:
    """Return a turn's details with the messages of its answer changed, where these are more than text."""
    changed = dict(details)
    if kept := details.get("answer"):
        changed["answer"] = change(kept)
    reply = details.get("reply") or {}
    if "content" in reply:
        names = [name for name in ("content", "type", "metadata") if name in reply]
        message = cast("Message", {"role": "assistant", **{name: reply[name] for name in names}})
        new = dict(change([message])[0])
        changed["reply"] = {**reply, **{name: value for name, value in new.items() if name != "role"}}
    return changed


def in_words(part: dict[str, Any]) -> dict[str, Any]:
    """Return the text that stands for media: [image: cat.jpg]."""
    metadata = part.get("metadata") or {}
    name = metadata.get("filename") or metadata.get("caption") or metadata.get("description") or ""
    kind = part["type"]
    rest = {key: value for key, value in part.items() if key not in ("type", "content", "metadata")}
    return {**rest, "content": f"[{kind}: {name}]" if name else f"[{kind}]"}


def each_part(messages: Iterable[Message], replace: Replace) -> list[Message]:
    """Return the messages with something in place of each part that has media in it."""
    return [_each_part(message, replace) for message in messages]


def _each_part(message: Message, replace: Replace) -> Message:
    if isinstance(message["content"], str):
        is_media = message.get("type") not in (None, "text")
        return cast("Message", replace(cast("dict[str, Any]", message))) if is_media else message
    parts = [
        replace(cast("dict[str, Any]", part)) if part.get("type") not in (None, "text") else part
        for part in message["content"]
    ]
    return cast("Message", {**message, "content": parts})


def reference_of(part: Mapping[str, Any]) -> UUID | None:
    """Return the id of the file that a part refers to."""
    content = part["content"]
    try:
        return UUID(content.removeprefix(_PREFIX)) if content.startswith(_PREFIX) else None
    except ValueError:
        return None


def _put(part: dict[str, Any], content: str, mime_type: str = "") -> dict[str, Any]:
    metadata = dict(part.get("metadata") or {})
    if mime_type:
        metadata["mime_type"] = mime_type
    return {**part, "content": content, "metadata": metadata}


def take_out_of_answer(
    beyond: Mapping[str, Any], new_id: Callable[[], UUID]
) -> tuple[Mapping[str, Any], list[Blob]]:
    """Return an answer's details with references in place of its media, and these."""
    blobs: list[Blob] = []

    def take(messages: list[Message]) -> list[Message]:
        kept, found = take_out(messages, new_id)
        blobs.extend(found)
        return kept

    return each_answer(beyond, take), blobs
