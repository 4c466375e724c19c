"""The four verbs and the two ways of an asynchronous call, behind one shape for the contract suite."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bupple_engine import EngineError
from bupple_engine.drivers.base import ChatDriver
from bupple_engine.protocol.answer import fold
from bupple_engine.protocol.options import Options
from bupple_engine.types import Chunk, Message

VERBS = ["send", "asend", "stream", "astream"]
STREAMS = ["stream", "astream"]
WAYS = [*VERBS, "asend-threads", "astream-threads"]  # with aiohttp, and without


class Quiet(ChatDriver):
    """Be a third party's driver with nothing to say."""

    def generate(self, messages: list[Message], options: Options) -> Iterator[Any]:
        yield {"done": True}


@dataclass
class Outcome:
    """What a call gave: a Reply, the chunks of a stream, or both a few chunks and an error."""

    reply: Any = None
    chunks: list[Chunk] = field(default_factory=list)
    error: EngineError | None = None

    @property
    def text(self) -> str:
        """The text of the chunks that were handed on."""
        return "".join(chunk["content"] for chunk in self.chunks)

    @property
    def reasoning(self) -> str:
        """The reasoning, from a Reply's metadata or the chunks'."""
        if self.reply is not None:
            return str(self.reply["metadata"].get("reasoning", ""))
        return "".join(chunk.get("metadata", {}).get("reasoning", "") for chunk in self.chunks[:-1])


def run(driver: ChatDriver, verb: str, messages: list[Message] | Any, **options: Any) -> Outcome:
    """Make the call; an EngineError is an outcome, everything else raises."""
    outcome = Outcome()
    try:
        if verb == "send":
            outcome.reply = driver.send(messages, **options)
        elif verb == "asend":
            outcome.reply = asyncio.run(driver.asend(messages, **options))
        elif verb == "stream":
            for chunk in driver.stream(messages, **options):
                outcome.chunks.append(chunk)
        else:
            asyncio.run(_collect(driver, messages, options, outcome))
        if outcome.chunks:
            outcome.reply = fold(iter([outcome.chunks]))
    except EngineError as error:
        outcome.error = error
    return outcome


async def _collect(driver: ChatDriver, messages: Any, options: dict[str, Any], outcome: Outcome) -> None:
    async for chunk in driver.astream(messages, **options):
        outcome.chunks.append(chunk)
