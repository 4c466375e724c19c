"""What a worker measures with its contender: each task returns plain numbers.

CPU is user + system of the whole process, all its threads, in µs a unit of work.
"""

import asyncio
import gc
import time
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.process import Numbers, resident
from benchmarks.provider import REPLAYS


def _chunk_cost(contender: Contender, replay: str, chunks: list[Any], start: float) -> Numbers:
    cpu = time.process_time() - start
    text = "".join(map(contender.content, chunks))
    if text != REPLAYS[replay].text:
        raise AssertionError(f"{len(text)} characters of {len(REPLAYS[replay].text)} came, or others")
    return {"cpu": cpu / REPLAYS[replay].chunks * 1e6}


def stream(contender: Contender, runner: asyncio.Runner, replay: str) -> Numbers:
    """Read one stream; CPU a chunk."""
    chunks: list[Any] = []
    start = time.process_time()
    contender.stream(replay, chunks.append)
    return _chunk_cost(contender, replay, chunks, start)


def astream(contender: Contender, runner: asyncio.Runner, replay: str) -> Numbers:
    """See stream()."""
    chunks: list[Any] = []
    start = time.process_time()
    runner.run(contender.astream(replay, chunks.append))
    return _chunk_cost(contender, replay, chunks, start)


def calls(contender: Contender, runner: asyncio.Runner, verb: str, replay: str, count: int) -> Numbers:
    """Make calls one after the other; CPU a call, growth of memory in KB."""

    async def repeat() -> None:
        for _ in range(count):
            if verb == "astream":
                await contender.astream(replay, id)
            else:
                await contender.asend(replay)

    memory, start = resident(), time.process_time()
    if verb == "stream":
        for _ in range(count):
            contender.stream(replay, id)
    elif verb == "send":
        for _ in range(count):
            contender.send(replay)
    else:
        runner.run(repeat())
    cpu = time.process_time() - start
    gc.collect()
    return {"cpu": cpu / count * 1e6, "growth": resident() - memory}


def first_chunk(contender: Contender, runner: asyncio.Runner, count: int) -> Numbers:
    """Stream a number of times; CPU from the call to the first chunk."""
    times: list[float] = []

    def sink(chunk: Any) -> None:
        if not times:
            times.append(time.process_time())

    total = 0.0
    for _ in range(count):
        times.clear()
        start = time.process_time()
        contender.stream("short", sink)
        total += times[0] - start
    return {"cpu": total / count * 1e6}
