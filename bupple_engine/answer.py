"""What came: an answer while it is being read, and what a Reply and a last chunk make of it. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

from .types import Chunk, FinishReason, Reply, Usage

NO_USAGE: Usage = {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}


class Answer:
    """What an answer has said so far: the wire writes it down, the exchange hands it on."""

    __slots__ = (
        "called",
        "chunks",
        "ended",
        "finish_reason",
        "items",
        "metadata",
        "model",
        "reasoning",
        "refused",
        "texts",
        "usage",
    )

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []  # not handed on yet
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self.model = ""
        self.usage: dict[str, Any] | None = None  # the provider's own fields
        self.finish_reason: FinishReason | None = None  # set: the answer is complete
        self.ended = False  # the provider said that nothing follows
        self.items: list[Any] = []  # what the provider wants to see again, in its own shape
        self.metadata: dict[str, Any] = {}
        self.called = False  # it asked for a tool
        self.refused = False  # its text is a refusal

    @property
    def is_complete(self) -> bool:
        """Whether the answer is whole, though its body may not have ended."""
        return self.finish_reason is not None or self.ended

    def add_text(self, text: str) -> None:
        """Add a piece of the answer; what is no string is another shape than documented."""
        if not isinstance(text, str):
            raise TypeError
        self.texts.append(text)
        self.chunks.append({"role": "assistant", "content": text, "done": False})

    def add_reasoning(self, text: str) -> None:
        """Add a piece of the reasoning that the provider shows."""
        if not isinstance(text, str):
            raise TypeError
        self.reasoning.append(text)
        self.chunks.append(
            {"role": "assistant", "content": "", "done": False, "metadata": {"reasoning": text}}
        )

    def add_usage(self, usage: Any) -> None:
        """Lay a usage object over what came before; null leaves what is known."""
        if isinstance(usage, dict) and usage:
            self.usage = {
                **(self.usage or {}),
                **{name: value for name, value in usage.items() if value is not None},
            }


def usage_of(usage: dict[str, Any], prompt: int, completion: int, total: Any = None) -> Usage:
    """Return the provider's own fields with the three common counts over them."""
    counts = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total if isinstance(total, int) else prompt + completion,
    }
    return cast("Usage", {**usage, **counts})


def count(usage: Mapping[str, Any], *path: str) -> int:
    """Return a number inside a usage object; one that is left out or null is 0."""
    value: Any = usage
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return int(value) if isinstance(value, int | float) and abs(value) < math.inf else 0


def reply_of(answer: Answer, last: dict[str, Any]) -> Reply:
    """Return the whole answer as a Reply."""
    if answer.reasoning:
        last["metadata"] = {**last["metadata"], "reasoning": "".join(answer.reasoning)}
    return cast("Reply", {"role": "assistant", "content": "".join(answer.texts), **last})
