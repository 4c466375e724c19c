"""Blocking work for asynchronous callers, in its own threads: sync_to_async's one serves one stream."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Future
from functools import cache
from typing import TYPE_CHECKING, Protocol, TypeVar

from asgiref.sync import sync_to_async

from . import threads
from .room import Room

if TYPE_CHECKING:
    from bupple_engine.types import Chunk

    from .cancellation import Cancellation

T = TypeVar("T")

logger = logging.getLogger("bupple_engine")

# How far a thread may run ahead of its reader, in characters; each chunk counts as some more, since it is a
# dict however short its text is.
BACKLOG_CHARACTERS = 65_536
CHUNK_CHARACTERS = 64


def _finite(work: Callable[[], T]) -> T:
    """Return what work returns; a StopIteration can't be raised into a future, whose reader would wait on."""
    try:
        return work()
    except StopIteration as error:
        raise RuntimeError("A StopIteration was raised, as next() does") from error


async def run(work: Callable[[], T], reading: Reading) -> T:
    """Return what work returns; a cancelled caller ends it at once."""
    loop = asyncio.get_running_loop()
    try:
        return await loop.run_in_executor(
            threads.get_executor(), contextvars.copy_context().run, _finite, work
        )
    except asyncio.CancelledError:
        reading.abandon()
        raise


async def carry_out(work: Callable[[], T]) -> T:
    """Return what blocking work returns, which a cancelled caller waits for once it has begun.

    It runs in asgiref's thread, where Django's database connections of this caller are; where that is
    occupied, or gone, in one of ours.
    """
    result: Future[T] = Future()

    def do() -> None:
        if result.set_running_or_notify_cancel():
            try:
                result.set_result(_finite(work))
            except BaseException as error:
                result.set_exception(error)

    try:
        await sync_to_async(do)()
    except asyncio.CancelledError:
        if not result.cancel():
            await asyncio.wait([asyncio.wrap_future(result)])
        raise
    except RuntimeError:
        if not result.running():
            threads.get_executor().submit(contextvars.copy_context().run, do)
    return await asyncio.wrap_future(result)


class Reading(Protocol):
    """What a thread reads for an asynchronous caller: a RunningCall, or chunks of the site's own."""

    @property
    def cancellation(self) -> Cancellation: ...

    @property
    def is_complete(self) -> bool:
        """Whether all has come, so that its last steps are waited for."""

    @property
    def is_overdue(self) -> bool:
        """Whether its clocks have run out."""

    def abandon(self) -> None:
        """Break its wait."""


def measure(batch: list[Chunk]) -> int:
    """Return how much of a backlog some chunks are."""
    size = 0
    for chunk in batch:
        size += CHUNK_CHARACTERS + len(chunk["content"])
        if metadata := chunk.get("metadata"):
            size += len(metadata.get("reasoning") or "")
    return size


async def iterate(
    begin: Callable[[], Generator[list[Chunk], None, None]], reading: Reading
) -> AsyncGenerator[list[Chunk], None]:
    """Yield what a blocking generator yields, which runs in one thread from its begin to its end.

    Where nobody reads on, the thread waits BACKLOG_CHARACTERS ahead.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[tuple[list[Chunk], BaseException | None, bool]] = asyncio.Queue()
    room = Room(BACKLOG_CHARACTERS)

    def put(batch: list[Chunk], error: BaseException | None, more: bool) -> None:
        try:
            loop.call_soon_threadsafe(arrived.put_nowait, (batch, error, more))
        except RuntimeError:  # the loop is closed: nobody reads
            if not reading.cancellation.cancelled:
                reading.abandon()

    future = threads.get_executor().submit(
        contextvars.copy_context().run, _read_ahead, begin, reading, room, put, loop.is_closed
    )
    # Whatever the thread waits for, and however long it takes to see that nobody does any more.
    reading.cancellation.tell(lambda: put([], None, False))
    try:
        while True:
            batch, error, more = await arrived.get()
            if error is not None:
                raise error
            if not more:
                return
            yield batch
            room.take(measure(batch))
    finally:
        reading.abandon()
        room.lift()
        if not future.cancel() and reading.is_complete:
            # Its connection is on its way back to the pool, where the next call looks for one.
            await asyncio.wait([asyncio.wrap_future(future)])


def _read_ahead(
    begin: Callable[[], Generator[list[Chunk], None, None]],
    reading: Reading,
    room: Room,
    put: Callable[[list[Chunk], BaseException | None, bool], None],
    is_closed: Callable[[], bool],
) -> None:
    """Put what a generator yields, as far ahead of the reader as there is room."""
    batches = begin()
    try:
        for batch in batches:
            # A loop that was closed with its generators open never makes room again, nor does a reader
            # that has turned away: past the call's clocks it is read on, so that these end it.
            while not (room.wait(1) or is_closed() or reading.is_overdue):
                pass
            if reading.cancellation.cancelled or is_closed():
                break
            room.put(measure(batch))
            put(batch, None, True)
    except BaseException as error:
        put([], error, False)
    else:
        put([], None, False)
    finally:
        batches.close()


def warn_of_blocking(words: str) -> None:
    """Say, once a process, that an event loop waits for a synchronous call."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    say_once(words)


@cache
def say_once(words: str) -> None:
    logger.warning(words)
