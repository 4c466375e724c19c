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
    """What a provider has counted of a call, in the same terms whoever answered.

    The three counts hold all that was counted, and the total is their sum; they are None where the provider
    told nothing. The others are parts of them, left out where 0. What is no count is left out where unknown.
    """

    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    cache_read: NotRequired[int]  # inside prompt_tokens, as is cache_write
    cache_write: NotRequired[int]
    cache_write_1h: NotRequired[int]  # inside cache_write: what is kept for an hour
    reasoning: NotRequired[int]  # inside completion_tokens
    audio_input: NotRequired[int]  # inside prompt_tokens
    audio_output: NotRequired[int]  # inside completion_tokens
    searches: NotRequired[int]  # hosted web searches, which are billed by the piece
    tier: NotRequired[str]  # such as batch, flex, priority, fast; left out where it is the standard one
    cost: NotRequired[str]  # US dollars as a decimal string, where the provider says it
    estimated: NotRequired[bool]  # some count is no provider's
    raw: NotRequired[dict[str, Any]]  # the provider's own object


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
