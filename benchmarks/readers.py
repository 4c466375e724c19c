"""The readers of a relay: many connections in one event loop, each noting how late its words come."""

import asyncio
import json
import re
import time
from itertools import count
from statistics import quantiles

from benchmarks.contenders import MESSAGES

STAMP = re.compile(rb"@(\d{10}\.\d{6})")
BODY = json.dumps({"messages": MESSAGES}).encode()
RATE = 20  # words a second of each stream
PATIENCE = 30  # seconds in which a stream should have begun
numbers = count(1)


class Reader(asyncio.Protocol):
    """Ask for one stream, and read it until it is left."""

    transport: asyncio.Transport | None = None

    def __init__(self, readers: "Readers") -> None:
        self.readers = readers
        self.opened_at = time.monotonic()
        self.first_at: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        number = next(numbers)
        head = (
            f"POST {self.readers.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
            f"X-Forwarded-For: 10.{number >> 16}.{number >> 8 & 255}.{number & 255}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
        )
        transport.write(head.encode() + BODY)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        stamps = STAMP.findall(data)
        if self.first_at is None and stamps:
            self.first_at = now
        self.readers.late += [now - float(stamp) for stamp in stamps]

    def connection_lost(self, error: Exception | None) -> None:
        self.readers.open.pop(self, None)

    def leave(self) -> None:
        """Close the connection, as a browser does whose tab is closed."""
        self.readers.open.pop(self, None)
        if self.transport is not None:
            self.transport.abort()


class Readers:
    """Read many streams of one server."""

    def __init__(self, port: int, path: str) -> None:
        self.port, self.path = port, path
        self.open: dict[Reader, None] = {}  # in the order in which they came
        self.late: list[float] = []
        self.wanted = 0

    async def add(self, number: int, pace: float = 0) -> list[Reader]:
        """Open streams, so many seconds apart; return their readers when all have begun, or PATIENCE ends."""
        loop = asyncio.get_running_loop()
        self.wanted += number
        added = []
        for _ in range(number):
            reader = Reader(self)
            self.open[reader] = None
            added.append(reader)
            await loop.create_connection(lambda reader=reader: reader, "127.0.0.1", self.port)  # type: ignore[misc]
            if pace:
                await asyncio.sleep(pace)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not all(reader.first_at for reader in added):
            await asyncio.sleep(0.01)
        return added

    async def measure(self, seconds: float) -> list[float]:
        """Return how late the words of the next seconds come, in seconds."""
        self.late = []
        await asyncio.sleep(seconds)
        late, self.late = self.late, []
        return late

    @property
    def complete(self) -> bool:
        """Whether every stream that was opened is open still, and has begun."""
        return len(self.open) == self.wanted and all(reader.first_at for reader in self.open)

    def leave(self) -> None:
        """Leave all streams."""
        for reader in list(self.open):
            reader.leave()


def p99(values: list[float]) -> float:
    """Return the 99th percentile."""
    return quantiles(values, n=100)[98] if len(values) > 1 else float("inf")
