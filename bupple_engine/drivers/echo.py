"""A driver that answers with its input: for tests and demonstrations, without a model or a network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

from bupple_engine.calls.seams import CLOCK
from bupple_engine.protocol.messages import validate
from bupple_engine.protocol.options import COMMON, Option, Options
from bupple_engine.protocol.values import number
from bupple_engine.types import Message

from .base import ChatDriver


class EchoDriver(ChatDriver):
    """Stream the last user message, or the last one, back word by word; a word counts as a token."""

    options: ClassVar = {**COMMON, "delay": Option(number(0, 60), default=0)}

    def models(self) -> list[str]:
        return [self.config.get("model") or self.name]

    def generate(self, messages: list[Message], options: Options) -> Iterator[dict[str, Any]]:
        turns = validate(messages)
        text = ([turn.text for turn in turns if turn.role == "user"] or [turns[-1].text])[-1]
        words = re.findall(r"\s*\S+\s*$|\s*\S+", text)
        limit = options.get("max_tokens") or len(words)
        for word in words[:limit]:
            if options["delay"]:
                CLOCK.get().pause(options["delay"])
            yield {"content": word}
        asked, said = sum(len(turn.text.split()) for turn in turns), len(words[:limit])
        yield {
            "done": True,
            "finish_reason": "length" if limit < len(words) else "stop",
            "usage": {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said},
        }
