"""Readers of a stream that block where the test does not: one for each way in which a stream is read."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from bupple_engine.drivers.base import ChatDriver

END = "the end of the stream"
SECONDS = 20.0  # how long a test waits for what must happen, on a busy machine


def until(condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """Wait for something to be true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"Still not after {seconds} s")
        time.sleep(0.001)
    return found


def waits_in(*names: str) -> bool:
    """Tell whether a thread that runs our code is inside one of these functions."""
    for frame in sys._current_frames().values():
        stack: list[Any] = []
        while frame is not None:
            stack.append(frame.f_code)
            frame = frame.f_back  # type: ignore[assignment]
        if stack[0].co_name in names and any("/bupple_engine/" in code.co_filename for code in stack):
            return True
    return False


class World:
    """One stream, asked for its chunks and closed from other threads than the one that reads it."""

    stream: Any = None

    def __init__(self, name: str) -> None:
        self.name = name

    def begin(self, driver: ChatDriver, messages: Any, **options: Any) -> None:
        """Make the stream."""
        raise NotImplementedError

    def read(self) -> Future[Any]:
        """Ask for a chunk, or END."""
        raise NotImplementedError

    def leave(self) -> None:
        """End the threads of this world."""

    def end(self, way: str, pending: Future[Any] | None = None) -> None:
        """End the stream in one of the ways."""
        if way == "close":
            self.stream.close()
        elif way == "del":
            self.stream = None
        else:
            raise ValueError(way)


class Blocking(World):
    """stream(), read by a thread."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.thread = ThreadPoolExecutor(1)

    def begin(self, driver: ChatDriver, messages: Any, **options: Any) -> None:
        self.stream = driver.stream(messages, **options)

    def read(self) -> Future[Any]:
        return self.thread.submit(lambda: next(self.stream, END))

    def leave(self) -> None:
        self.stream = None
        self.thread.shutdown()


class Asynchronous(World):
    """astream(), read by a task of a loop that runs in a thread."""

    loop: asyncio.AbstractEventLoop
    reader: asyncio.Task[Any] | None = None

    def __init__(self, name: str) -> None:
        super().__init__(name)
        ready = threading.Event()
        self.thread = threading.Thread(target=asyncio.run, args=(self._live(ready),), name="a loop")
        self.thread.start()
        ready.wait()

    async def _live(self, ready: threading.Event) -> None:
        self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await self.over.wait()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Have the loop do something, and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(SECONDS)

    def begin(self, driver: ChatDriver, messages: Any, **options: Any) -> None:
        self.stream = driver.astream(messages, **options)

    def read(self) -> Future[Any]:
        async def read() -> Any:
            self.reader = asyncio.current_task()
            return await anext(self.stream, END)

        return asyncio.run_coroutine_threadsafe(read(), self.loop)

    def end(self, way: str, pending: Future[Any] | None = None) -> None:
        if way == "aclose":
            self.run(self.stream.aclose())
        elif way == "cancel":
            assert self.reader is not None
            self.loop.call_soon_threadsafe(self.reader.cancel)
        else:
            super().end(way)

    def tasks(self) -> int:
        """Return how many tasks the loop has beside the one that keeps it alive and the one that counts."""

        async def count() -> int:
            return len(asyncio.all_tasks()) - 2

        return int(self.run(count()))

    def leave(self) -> None:
        self.stream = None
        until(lambda: self.tasks() == 0)
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(SECONDS)


WORLDS: dict[str, type[World]] = {"sync": Blocking, "aiohttp": Asynchronous, "threads": Asynchronous}
