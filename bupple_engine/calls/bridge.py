"""Blocking work for asynchronous callers, in its own threads: sync_to_async's one serves one stream."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol, TypeVar

from asgiref.sync import sync_to_async

from bupple_engine import process

if TYPE_CHECKING:
    from bupple_engine.types import Chunk

    from .cancellation import Cancellation

T = TypeVar("T")

logger = logging.getLogger("bupple_engine")

# How far a thread may run ahead of its reader, in characters; each chunk counts as some more, since it is a
# dict however short its text is.
BACKLOG_CHARACTERS = 65_536
CHUNK_CHARACTERS = 64

MAX_THREADS = 500

DROPPED_SECONDS = 0.1  # how long the thread that ends dropped calls waits for another

_lock = threading.Lock()
_executor: ThreadPoolExecutor | None = None
_max_threads: Callable[[], int] | None = None


def limit_threads(count: Callable[[], int]) -> None:
    """Have the number of threads be what count() returns when the first of them is needed."""
    global _max_threads
    _max_threads = count


def _get_executor() -> ThreadPoolExecutor:
    global _executor
    with _lock:
        if _executor is None:
            _executor = ThreadPoolExecutor(
                _max_threads() if _max_threads else MAX_THREADS, thread_name_prefix="bupple_engine"
            )
        return _executor


@process.after_change
def reset() -> None:
    """Forget the threads: they are not there after a fork, and their number may be set anew."""
    global _executor, _lock
    _lock = threading.Lock()
    executor, _executor = _executor, None
    if executor is not None:
        executor.shutdown(wait=False)


@process.after_fork
def _after_fork() -> None:
    global _executor, _lock
    _lock = threading.Lock()
    _executor = None


def submit(work: Callable[[], object]) -> None:
    """Have a thread do something whose end nobody waits for."""
    try:
        _get_executor().submit(contextvars.copy_context().run, work)
    except RuntimeError:
        work()  # the interpreter ends, and takes no more work


_dropped: SimpleQueue[Callable[[], object]] = SimpleQueue()
_drain: threading.Thread | None = None


def leave(work: Callable[[], object]) -> None:
    """Have a thread do what the garbage collector must not: it may be inside anything, such as a held lock.

    For the same reason it takes no lock here; a SimpleQueue's put() may interrupt itself.
    """
    global _drain
    _dropped.put(work)
    if _drain is None:
        _drain = threading.Thread(target=_drain_dropped, name="bupple_engine end", daemon=True)
        try:
            _drain.start()
        except RuntimeError:  # the interpreter ends
            _drain = None


def _do(work: Callable[[], object]) -> None:
    try:
        work()
    except Exception:
        logger.exception("What was to be done for a stream that nobody closed failed")


@process.at_exit
def _do_dropped() -> None:
    with suppress(Empty):
        while True:
            _do(_dropped.get_nowait())


def _drain_dropped() -> None:
    global _drain
    with suppress(Empty):
        while True:
            _do(_dropped.get(timeout=DROPPED_SECONDS))
    _drain = None
    _do_dropped()  # what came before leave() could see that


@process.after_fork
def _forget_dropped() -> None:
    global _drain, _dropped
    _drain, _dropped = None, SimpleQueue()


async def run(work: Callable[[], T], reading: Reading) -> T:
    """Return what work returns; a cancelled caller ends it at once."""
    loop = asyncio.get_running_loop()
    try:
        return await loop.run_in_executor(_get_executor(), contextvars.copy_context().run, work)
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
                result.set_result(work())
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
            _get_executor().submit(contextvars.copy_context().run, do)
    return await asyncio.wrap_future(result)


class Room:
    """How far one thread may run ahead of another that reads: put() is the one's, take() the other's.

    Each side has a count of its own, so that neither needs a lock.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._put = self._taken = 0
        self._changed = threading.Event()
        self._unbounded = False

    def put(self, size: int) -> None:
        """Note what the reader has to take."""
        self._put += size

    def take(self, size: int) -> None:
        """Note what the reader has taken."""
        self._taken += size
        if not self._changed.is_set():
            self._changed.set()

    def lift(self) -> None:
        """Have nobody wait for room any more; safe to call from any thread."""
        self._unbounded = True
        self._changed.set()

    def wait(self, seconds: float) -> bool:
        """Wait until there is room; False where there is none after so many seconds."""
        deadline = None
        while self._put - self._taken > self._size and not self._unbounded:
            now = time.monotonic()
            deadline = deadline or now + seconds
            if now >= deadline:
                return False
            self._changed.clear()
            if self._put - self._taken > self._size and not self._unbounded:  # it may have changed before
                self._changed.wait(deadline - now)
        return True


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

    def work() -> None:
        batches = begin()
        try:
            for batch in batches:
                # A loop that was closed with its generators open never makes room again, nor does a reader
                # that has turned away: past the call's clocks it is read on, so that these end it.
                while not (room.wait(1) or loop.is_closed() or reading.is_overdue):
                    pass
                if reading.cancellation.cancelled or loop.is_closed():
                    break
                room.put(measure(batch))
                put(batch, None, True)
        except BaseException as error:
            put([], error, False)
        else:
            put([], None, False)
        finally:
            batches.close()

    future = _get_executor().submit(contextvars.copy_context().run, work)
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
