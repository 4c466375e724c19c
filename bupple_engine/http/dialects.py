"""How an answer is told to its reader: our own event stream, or its text alone."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from bupple_engine.protocol.sse import encode_comment
from bupple_engine.protocol.usage import COUNTS, NO_USAGE
from bupple_engine.types import Chunk

from .problems import Problem, report

# json.dumps for a str, without a call of the encoder for each chunk.
quote = json.encoder.encode_basestring


def dump(value: Any) -> str:
    """Return JSON on one line, as short as it can be."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Dialect(ABC):
    """Encode one answer; an instance serves one response, and keeps what it must remember of it.

    A dialect of your own has encode() and encode_error(), and knows neither HTTP nor I/O. What is called:

    * encode(), for each chunk in its order; of a complete answer the last one has done=True;
    * `heartbeat`, which is written while the provider is silent; b"" where the format has no such thing;
    * where the call fails, report(), once. Before the first byte adapt() and error_body() make a response of
      the problem; behind it encode_error() has the last word.

    They are called one at a time, in a thread or on the event loop: block in none. What encode() raises ends
    the answer as a failure of the call does; the others must not raise.
    """

    content_type: ClassVar[str] = "text/event-stream; charset=utf-8"
    headers: ClassVar[Mapping[str, str]] = {}
    heartbeat: ClassVar[bytes] = encode_comment("keep-alive")

    @abstractmethod
    def encode(self, chunk: Chunk) -> bytes:
        """Return what is written for a chunk, b"" where that is nothing."""

    @abstractmethod
    def encode_error(self, problem: Problem) -> bytes | None:
        """Return what ends an answer that was cut off; None has the connection cut."""

    def report(self, error: BaseException) -> Problem:
        """Return what the reader may know of an error, and log the error."""
        return report(error)

    def adapt(self, problem: Problem) -> Problem:
        """Return a problem with the status and the words by which clients of the dialect know it."""
        return problem

    def error_body(self, problem: Problem) -> dict[str, Any]:
        """Return the body of a response that is an error, as JSON."""
        return {"error": problem.as_dict()}


class EventStream(Dialect):
    """The native event stream: an event a chunk, `event: error` where the answer is cut off.

    Each has an id that counts up, and data that is a JSON object: role, content, done; the last one adds
    model, the counts of usage, finish_reason and the public part of metadata.
    """

    def __init__(self) -> None:
        self._id = 0

    def encode(self, chunk: Chunk) -> bytes:
        if chunk["done"] or "metadata" in chunk:
            return self._event(dump(public(chunk)))
        return self._event(f'{{"role":"assistant","content":{quote(chunk["content"])},"done":false}}')

    def encode_error(self, problem: Problem) -> bytes:
        return self._event(dump(self.error_body(problem)), "event: error\n")

    def _event(self, data: str, name: str = "") -> bytes:
        self._id += 1
        return f"{name}id: {self._id}\ndata: {data}\n\n".encode("utf-8", "replace")


class PlainText(Dialect):
    """The text of the answer and nothing else; where it is cut off, so is the connection."""

    content_type = "text/plain; charset=utf-8"
    heartbeat = b""

    def encode(self, chunk: Chunk) -> bytes:
        return chunk["content"].encode("utf-8", "replace")

    def encode_error(self, problem: Problem) -> None:
        return None


def public(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Reply or Chunk without what is between us and the provider, in metadata and usage."""
    found = dict(item)
    if "usage" in found:
        found["usage"] = counts(found["usage"])
    metadata = found.pop("metadata", None) or {}
    shown = {"reasoning": metadata["reasoning"]} if metadata.get("reasoning") else {}
    if shown or "finish_reason" in found:
        found["metadata"] = shown
    return found


def counts(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what was counted, parts that are 0 left out; all else is between the site and the provider.

    The prompt, the completion and the total are always there, and None where the provider told nothing.
    """
    known = usage or {}
    return {name: known.get(name) for name in COUNTS if name in NO_USAGE or known.get(name)}
