"""How an asynchronous stream is ended by its event loop, whoever asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context
from typing import Any

from bupple_engine.types import Chunk

from . import threads
from .running import RunningCall

_tasks: set[asyncio.Task[None]] = set()


def end_in(
    loop: asyncio.AbstractEventLoop,
    context: Context | None,
    work: Callable[[], Coroutine[Any, Any, None]],
    call: RunningCall,
) -> None:
    """Have a loop end a call, from any thread; where the loop itself ends first, it ends the generator.

    The context is the reader's: the garbage collector runs in anyone's, such as that of a sync_to_async
    which allows no other beside it.
    """

    def begin() -> None:
        task = loop.create_task(work())
        _tasks.add(task)  # a loop holds its tasks weakly
        task.add_done_callback(done)

    def done(task: asyncio.Task[None]) -> None:
        _tasks.discard(task)
        if not call.is_finished:  # asyncio.run cancels what it leaves, even before its first step
            threads.submit(call.finish)

    try:
        loop.call_soon_threadsafe(begin, context=context)
    except RuntimeError:
        call.finish_elsewhere()  # the loop is closed


async def end(batches: AsyncGenerator[list[Chunk], None], call: RunningCall) -> None:
    await batches.aclose()
    await call.afinish()
