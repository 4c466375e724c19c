"""Streams that their reader leaves alone: what stays behind of them."""

import asyncio
import threading
import time
from typing import Any

from benchmarks.contenders import MESSAGES, Contender, Ours
from benchmarks.process import Numbers, descriptors

MANNERS = ("closed", "dropped", "never started")
AT_ONCE = 50
PATIENCE = 2.0  # seconds in which threads may end and sockets close


def abandoned(contender: Contender, runner: asyncio.Runner, verb: str, manner: str, count: int) -> Numbers:
    """Abandon streams, fifty at a time; the threads and descriptors that are left."""
    assert isinstance(contender, Ours)

    def leave(streams: int) -> None:
        if verb == "stream":
            _leave([contender.ai("stalled").stream(MESSAGES) for _ in range(streams)], manner)
        else:
            runner.run(_aleave(contender, streams, manner))

    # Connections, and threads that are kept for the next call. Twice as many as are needed at once: a pool
    # takes a new thread also where one has told its end, and has not gone back yet.
    leave(2 * AT_ONCE)
    time.sleep(0.1)
    runner.run(asyncio.sleep(0.1))
    threads, files = threading.active_count(), descriptors()
    for _ in range(count // AT_ONCE):
        leave(AT_ONCE)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        runner.run(asyncio.sleep(0.01))
        if threading.active_count() <= threads and descriptors() <= files:
            break
    return {
        "threads": max(0, threading.active_count() - threads),
        "descriptors": max(0, descriptors() - files),
    }


def _leave(streams: list[Any], manner: str) -> None:
    while streams:
        stream = streams.pop()
        if manner != "never started":
            next(iter(stream))
        if manner == "closed":
            stream.close()


async def _aleave(contender: Ours, count: int, manner: str) -> None:
    streams: list[Any] = [contender.ai("stalled").astream(MESSAGES) for _ in range(count)]
    if manner != "never started":
        await asyncio.gather(*(anext(aiter(stream)) for stream in streams))
    if manner == "closed":
        for stream in streams:
            await stream.aclose()
