"""The plain dicts that go in and out; they pass JSON, DRF and a task queue unchanged."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, NotRequired, TypeAlias, TypedDict

Role: TypeAlias = Literal["system", "user", "assistant"]
PartType: TypeAlias = Literal["text", "image", "audio", "document"]
FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "unknown"]


class MessagePart(TypedDict):
    """One part of a message's content: text, or media as an http(s) URL, a data URL or base64."""

    content: str
    type: NotRequired[PartType]
    metadata: NotRequired[dict[str, Any]]


class Usage(TypedDict):
    """The counts that every provider has, beside the provider's own fields.

    None where the provider sent no usage; cached input and reasoning are included.
    """

    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None


class Message(TypedDict):
    """What a caller passes; a Reply is one too."""

    role: Role
    content: str | list[MessagePart]
    type: NotRequired[PartType]
    metadata: NotRequired[dict[str, Any]]
    model: NotRequired[str]
    usage: NotRequired[Usage]
    finish_reason: NotRequired[FinishReason]


class Reply(TypedDict):
    """A whole answer."""

    role: Literal["assistant"]
    content: str
    model: str
    usage: Usage
    finish_reason: FinishReason
    metadata: dict[str, Any]


class Chunk(TypedDict):
    """A piece of an answer; the last, and it alone, has done=True and the keys behind it."""

    role: Literal["assistant"]
    content: str
    done: bool
    model: NotRequired[str]
    usage: NotRequired[Usage]
    finish_reason: NotRequired[FinishReason]
    metadata: NotRequired[dict[str, Any]]


class Owner(NamedTuple):
    """Whose something is: a model's label, or any word, and an id."""

    type: str
    id: str
