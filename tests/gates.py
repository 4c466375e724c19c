"""An answer of which a test lets through one text after the other."""

from __future__ import annotations

import threading
from typing import Any

from tests.provider import Answer
from tests.wires import EVENTS, ChatCompletions


class Gated:
    """A stream that waits behind each of its texts for next(): what a buffer holds back shows."""

    def __init__(self, *texts: str, body: bytes | None = None) -> None:
        self._gates = [threading.Event() for _ in texts]
        self._passed = 0
        pieces: list[Any] = []
        waiting = list(zip(texts, self._gates, strict=True))
        body = ChatCompletions().stream(texts) if body is None else body
        for event in body.split(b"\n\n")[:-1]:
            pieces.append(event + b"\n\n")
            if waiting and waiting[0][0].encode() in event:
                pieces.append(waiting.pop(0)[1])
        self.answer = Answer(headers=EVENTS, pieces=pieces)

    def next(self) -> None:
        """Let through what follows the text that the client has now."""
        if self._passed < len(self._gates):
            self._gates[self._passed].set()
            self._passed += 1


def stream(*texts: str, **said: Any) -> Answer:
    """Answer with a whole stream."""
    return Answer(headers=EVENTS, body=ChatCompletions().stream(texts, **said))


def pausing(*texts: str) -> Answer:
    """Answer with a whole stream that is silent for a while before each of its texts."""
    events = [event + b"\n\n" for event in ChatCompletions().stream(texts).split(b"\n\n")[:-1]]
    return Answer(headers=EVENTS, pieces=[piece for event in events for piece in (0.1, event)])


def cut(*texts: str) -> Answer:
    """Answer with a stream that ends before its finish reason."""
    return Answer(headers=EVENTS, body=ChatCompletions().stream_without_end(texts))


def endless(*texts: str) -> Answer:
    """Answer with a stream that stays open behind its texts until the client leaves."""
    body = ChatCompletions().stream_without_end(texts)
    return Answer(headers=EVENTS, pieces=[body, threading.Event()])
