"""Chunks of the other world: an iterator for an ASGI server, an asynchronous one for a WSGI server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import suppress
from typing import Any, cast

from asgiref.sync import ThreadSensitiveContext

from bupple_engine.calls import bridge, threads
from bupple_engine.calls.cancellation import Cancellation
from bupple_engine.types import Chunk

from .relay import close_chunks, is_chunk, not_a_chunk
from .release import arelease_connections, release_connections

_END: Any = object()


class ThreadedChunks(AsyncIterator[Chunk]):
    """Read an iterator in a thread, no further ahead than bridge.iterate() reads.

    Closing it, from any thread, closes the iterator: at once where that breaks its wait, as a Stream's does,
    else with its next chunk.
    """

    is_complete = False  # nothing of its end is waited for
    is_overdue = False  # it has no clocks

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self.cancellation = Cancellation()
        self._chunks = chunks
        self._begun = False
        self._batches = bridge.iterate(self._read, self)

    @property
    def usage(self) -> Any:
        """What is known of the usage, where the chunks are a Stream's."""
        return getattr(self._chunks, "usage", None)

    async def __anext__(self) -> Chunk:
        (chunk,) = await anext(self._batches)
        return chunk

    def abandon(self) -> None:
        self.cancellation.cancel()

    close = abandon

    async def aclose(self) -> None:
        await self._batches.aclose()
        if not self._begun:  # no thread was free until now
            threads.submit(lambda: close_chunks(self._chunks))

    def _read(self) -> Generator[list[Chunk], None, None]:
        self._begun = True
        self.cancellation.attach(self._break)
        try:
            for chunk in self._chunks:
                if not is_chunk(chunk):
                    raise not_a_chunk(chunk)
                yield [chunk]
        finally:
            self.cancellation.attach(None)
            close_chunks(self._chunks)
            release_connections()

    def _break(self) -> None:
        # In a thread of its own: close() may block, and may use the database; and all of ours may be reading.
        work = threading.Thread(target=self._close, name="bupple_engine closing", daemon=True)
        work.start()

    def _close(self) -> None:
        close_chunks(self._chunks)
        release_connections()


class LoopedChunks(Iterator[Chunk]):
    """Read an asynchronous iterator in an event loop of the thread that reads.

    Closing it from another thread cancels the wait for a chunk; the thread that reads then ends the loop.
    """

    def __init__(self, chunks: AsyncIterator[Chunk]) -> None:
        self._chunks = chunks
        self._runner = asyncio.Runner()
        self._context: Any = ThreadSensitiveContext()  # sync_to_async has a thread of this stream's alone
        self._thread: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: asyncio.Task[Any] | None = None
        self._closed = self._ended = False

    @property
    def usage(self) -> Any:
        """What is known of the usage, where the chunks are an AsyncStream's."""
        return getattr(self._chunks, "usage", None)

    def __next__(self) -> Chunk:
        self._thread = threading.get_ident()
        if self._closed:
            raise StopIteration
        try:
            chunk = self._runner.run(self._anext())
        except asyncio.CancelledError:
            if not self._closed:
                raise
            chunk = _END
        if chunk is _END:
            raise StopIteration
        return cast("Chunk", chunk)

    async def _anext(self) -> Any:
        self._waiting = asyncio.current_task()
        if self._loop is None:
            await self._context.__aenter__()
            self._loop = asyncio.get_running_loop()
        if self._closed:  # before there was a loop to tell it to
            return _END
        try:
            return await anext(self._chunks, _END)
        finally:
            self._waiting = None

    def close(self) -> None:
        """End the reading; safe to call from any thread, and more than once."""
        self._closed = True
        if threading.get_ident() != self._thread:
            if self._loop is not None:
                with suppress(RuntimeError):  # it is closed
                    self._loop.call_soon_threadsafe(self._cancel)
        elif not self._ended:
            self._ended = True
            with self._runner:
                self._runner.run(self._end())

    def _cancel(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    async def _end(self) -> None:
        try:
            if aclose := getattr(self._chunks, "aclose", None):
                await aclose()
        finally:
            await arelease_connections()
            await self._context.__aexit__(None, None, None)
