"""A transport that says what a test gives it, and a clock that stands still but for what is waited."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bupple_engine.calls.seams import CLOCK
from bupple_engine.exchange.clock import Breakable
from bupple_engine.transports import use_transport
from bupple_engine.transports.base import TransportFailure, Waiting

Pieces = Iterable[bytes | float]  # a number is how many seconds nothing comes


class VirtualClock:
    """Let no real time pass: whoever waits moves it on."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.pauses: list[float] = []

    def now(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return 1_000_000.0 + self.seconds

    def pause(self, seconds: float, wake: Breakable | None = None) -> None:
        self.pauses.append(seconds)
        self.seconds += seconds

    async def apause(self, seconds: float) -> None:
        self.pause(seconds)


class Script:
    """Answer each request with the next of the answers: a status, headers and pieces, or a failure."""

    def __init__(self, *answers: Any, defaults: Mapping[str, Any] | None = None) -> None:
        self.answers = iter(answers)
        self.defaults = defaults or {}
        self.requests: list[Any] = []
        self.waits: list[Waiting] = []
        self.threads: list[int] = []
        self.said: list[Said] = []

    def open(self, request: Any, waiting: Waiting) -> Said:
        self.requests.append(request)
        self.waits.append(waiting)
        self.threads.append(threading.get_ident())
        answer = next(self.answers)
        if isinstance(answer, TransportFailure):
            raise answer
        self.said.append(Said(waiting, *answer))
        return self.said[-1]

    async def aopen(self, request: Any, waiting: Waiting) -> ASaid:
        return ASaid(self.open(request, waiting))


class Said:
    """One answer of a script."""

    def __init__(
        self, waiting: Waiting, status: int, headers: dict[str, str], *pieces: bytes | float
    ) -> None:
        self.status, self.headers = status, headers
        self.closed = False
        self._clock: Any = waiting.clock
        self._pieces = iter(pieces)
        self._silence = 0.0

    def close(self) -> None:
        self.closed = True

    def read(self, seconds: float) -> bytes:
        while True:
            if self._silence > seconds:
                self._silence -= seconds
                self._clock.seconds += seconds
                raise TransportFailure("Nothing came in time", timed_out=True)
            self._clock.seconds += self._silence
            self._silence = 0.0
            piece = next(self._pieces, b"")
            if isinstance(piece, bytes):
                return piece
            self._silence = piece

    def drain(self, seconds: float) -> None:
        pass


class ASaid:
    """The same for an asynchronous call."""

    def __init__(self, said: Said) -> None:
        self.said, self.status, self.headers = said, said.status, said.headers

    async def read(self, seconds: float) -> bytes:
        return self.said.read(seconds)

    async def drain(self, seconds: float) -> None:
        pass

    def close(self) -> None:
        self.said.close()


@contextmanager
def virtually(*answers: Any, **more: Any) -> Iterator[tuple[Script, VirtualClock]]:
    """Have a script answer all calls, on a clock of its own."""
    script, clock = Script(*answers, **more), VirtualClock()
    with use_transport(script), CLOCK.use(clock):
        yield script, clock
