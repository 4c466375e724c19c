"""Where a process gets its time, its ids and its chance from, each from one place that tests can take."""

from __future__ import annotations

import asyncio
import os
import random as chance
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar
from uuid import UUID

from bupple_engine.exchange.clock import Breakable, Clock

T = TypeVar("T")


class Seam(Generic[T]):
    """Give what was put in place last, for all threads and tasks of the process; else the real thing.

    It is no ContextVar: a server's threads, executors and queues outlive contexts.
    """

    def __init__(self, real: T) -> None:
        self._lock = threading.Lock()
        self._held: tuple[tuple[object, T], ...] = ((self, real),)

    def get(self) -> T:
        """Return what is in place."""
        return self._held[-1][1]

    @contextmanager
    def use(self, value: T) -> Iterator[None]:
        """Have a value in place inside the block; of several the one that came last."""
        mark = object()
        with self._lock:
            self._held = (*self._held, (mark, value))
        try:
            yield
        finally:
            with self._lock:
                self._held = tuple(each for each in self._held if each[0] is not mark)


class SystemClock:
    """Tell the machine's time."""

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def pause(self, seconds: float, wake: Breakable | None = None) -> None:
        if wake is None:
            time.sleep(seconds)
        else:
            wake.wait(seconds)

    async def apause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def uuid7() -> UUID:
    """Return a UUID of version 7, which sorts by the time at which it was made.

    Behind the milliseconds stand twelve bits of their fraction, then chance.
    Source: RFC 9562, sections 5.7 and 6.2 (method 3), https://www.rfc-editor.org/rfc/rfc9562.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | (rest << 12) // 1_000_000 << 64
    return UUID(int=value | 0b10 << 62 | int.from_bytes(os.urandom(8)) >> 2)


CLOCK: Seam[Clock] = Seam(SystemClock())
IDS: Seam[Callable[[], UUID]] = Seam(uuid7)
CHANCE: Seam[Callable[[], float]] = Seam(chance.SystemRandom().random)


def new_id() -> UUID:
    """Return an id that nothing else has."""
    return IDS.get()()


def random() -> float:
    """Return a number of chance from 0 to 1, without 1: what spreads retries."""
    return CHANCE.get()()
