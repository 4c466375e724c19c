"""Blocking work for asynchronous callers, in its own threads: sync_to_async's one serves one stream."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from .conf import max_threads

if TYPE_CHECKING:
    from .call import Call

T = TypeVar("T")

# How far a thread may run ahead of its reader, in batches.
BACKLOG = 64

_lock = threading.Lock()
_executor: ThreadPoolExecutor | None = None


def _get_executor() -> ThreadPoolExecutor:
    global _executor
    with _lock:
        if _executor is None:
            _executor = ThreadPoolExecutor(max_threads(), thread_name_prefix="bupple_engine")
        return _executor


def reset() -> None:
    """Forget the threads: they are not there after a fork, and their number may be set anew."""
    global _executor, _lock
    _lock = threading.Lock()
    executor, _executor = _executor, None
    if executor is not None:
        executor.shutdown(wait=False)


def _after_fork() -> None:
    global _executor, _lock
    _lock = threading.Lock()
    _executor = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def submit(work: Callable[[], object]) -> None:
    """Have a thread do something whose end nobody waits for."""
    try:
        _get_executor().submit(contextvars.copy_context().run, work)
    except RuntimeError:
        work()  # the interpreter ends, and takes no more work


async def run(work: Callable[[], T], call: Call) -> T:
    """Return what work returns; a cancelled caller ends it at once."""
    loop = asyncio.get_running_loop()
    try:
        return await loop.run_in_executor(_get_executor(), contextvars.copy_context().run, work)
    except asyncio.CancelledError:
        call.abandon()
        raise


async def iterate(begin: Callable[[], Generator[T, None, None]], call: Call) -> AsyncGenerator[T, None]:
    """Yield what a blocking generator yields, which runs in one thread from its begin to its end."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[tuple[T | None, BaseException | None, bool]] = asyncio.Queue()
    room = threading.Semaphore(BACKLOG)

    def put(item: T | None, error: BaseException | None, more: bool) -> None:
        try:
            loop.call_soon_threadsafe(arrived.put_nowait, (item, error, more))
        except RuntimeError:
            call.abandon()  # the loop is closed: nobody reads

    def work() -> None:
        items = begin()
        try:
            for item in items:
                # A loop that was closed with its generators open never makes room again.
                while not room.acquire(timeout=1) and not loop.is_closed():
                    pass
                if call.cancellation.cancelled or loop.is_closed():
                    break
                put(item, None, True)
        except BaseException as error:
            put(None, error, False)
        else:
            put(None, None, False)
        finally:
            items.close()

    future = _get_executor().submit(contextvars.copy_context().run, work)
    try:
        while True:
            item, error, more = await arrived.get()
            if error is not None:
                raise error
            if not more:
                return
            yield item  # type: ignore[misc]
            room.release()
    finally:
        call.abandon()
        room.release()
        if not future.cancel() and call.is_complete:
            # Its connection is on its way back to the pool, where the next call looks for one.
            await asyncio.wait([asyncio.wrap_future(future)])
