"""Many paced streams at once, in one event loop or a thread each."""

import asyncio
import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.process import Numbers, resident
from benchmarks.provider import REPLAYS

PATIENCE = 5.0  # seconds in which all streams should have begun


class Reader:
    """Count the chunks and characters of one stream."""

    __slots__ = ("characters", "chunks", "contender")

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.chunks = self.characters = 0

    def sink(self, chunk: Any) -> None:
        """Take a chunk."""
        self.chunks += 1
        self.characters += len(self.contender.content(chunk))


class Crowd:
    """Measure while all streams are running."""

    def __init__(self, contender: Contender, streams: int, replay: str, seconds: float) -> None:
        self.readers = [Reader(contender) for _ in range(streams)]
        self.replay, self.seconds = replay, seconds
        gc.collect()
        self.memory = resident()
        self.numbers: Numbers = {}

    def pauses(self) -> Iterator[float]:
        """Take the figures; yield the seconds to let pass in between."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not all(reader.chunks for reader in self.readers):
            yield 0.05
        start, cpu, chunks = time.monotonic(), time.process_time(), self._chunks()
        yield self.seconds
        elapsed, cpu, chunks = time.monotonic() - start, time.process_time() - cpu, self._chunks() - chunks
        self.numbers = {
            "cpu": cpu / max(1, chunks) * 1e6,
            "memory": (resident() - self.memory) / len(self.readers),
            "load": cpu / elapsed,
        }

    def _chunks(self) -> int:
        return sum(reader.chunks for reader in self.readers)

    def result(self) -> Numbers:
        """Return the figures, with the number of streams that did not bring the whole text."""
        expected = len(REPLAYS[self.replay].text)
        failures = sum(reader.characters != expected for reader in self.readers)
        return {**self.numbers, "failures": failures}


def crowd_async(
    contender: Contender, runner: asyncio.Runner, streams: int, replay: str, seconds: float
) -> Numbers:
    """Read the streams in one event loop; µs of CPU a chunk, KB of memory a stream."""

    async def run() -> Numbers:
        await contender.astream("short", id)
        crowd = Crowd(contender, streams, replay, seconds)
        tasks = [asyncio.create_task(contender.astream(replay, r.sink)) for r in crowd.readers]
        for pause in crowd.pauses():
            await asyncio.sleep(pause)
        await asyncio.gather(*tasks, return_exceptions=True)
        return crowd.result()

    return runner.run(run())


def crowd_threads(
    contender: Contender, runner: asyncio.Runner, streams: int, replay: str, seconds: float
) -> Numbers:
    """Read the streams in a thread each; µs of CPU a chunk, KB of memory a stream."""
    contender.stream("short", id)
    crowd = Crowd(contender, streams, replay, seconds)
    with ThreadPoolExecutor(streams) as pool:
        for reader in crowd.readers:
            pool.submit(contender.stream, replay, reader.sink)
        for pause in crowd.pauses():
            time.sleep(pause)
    return crowd.result()
