"""What stream() and astream() return: iterators that can be closed from anywhere, at any time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import suppress
from types import TracebackType

from .call import Call
from .types import Chunk


class Stream(Iterator[Chunk]):
    """Iterate over the chunks of an answer; nothing is sent before the first is asked for.

    Closing it, from any thread and also while another waits for a chunk, ends the provider's connection
    at once; the waiting one and all later ones get StopIteration. Only a stream that gave its chunk with
    done=True is complete. What ends a stream otherwise raises an EngineError. Use it in a `with` block, or
    read it to its end.
    """

    def __init__(self, call: Call, batches: Generator[list[Chunk], None, None]) -> None:
        self._call = call
        self._batches = batches
        self._ready: Iterator[Chunk] = iter(())
        self._closed = False

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Chunk:
        chunk = next(self._ready, None)
        if chunk is not None and not self._closed:
            return chunk
        return self._advance()

    def _advance(self) -> Chunk:
        call = self._call
        if self._closed:
            raise StopIteration
        call.begin()
        try:
            for batch in self._batches:
                if not batch:
                    continue
                if batch[-1]["done"]:
                    call.last = batch[-1]
                    call.finish()
                self._ready = iter(batch)
                return next(self._ready)
        except BaseException as error:
            if self._closed:
                call.finish()
                raise StopIteration from None
            self._closed = True
            call.finish(error)
            raise
        self._closed = True
        call.finish()
        raise StopIteration

    def close(self) -> None:
        """End the call; safe to call from another thread, and more than once."""
        if self._closed:
            return
        self._closed = True
        if not self._call.is_complete:
            self._call.cancellation.cancel()
        try:
            self._batches.close()
        except ValueError:
            return  # running in another thread, whose wait has just been broken: it finishes the call
        self._call.finish()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class AsyncStream(AsyncIterator[Chunk]):
    """Iterate over the chunks of an answer; see Stream.

    aclose() may be called from another task, and close() from another thread, also while a chunk is
    waited for.
    """

    def __init__(self, call: Call, batches: AsyncGenerator[list[Chunk], None]) -> None:
        self._call = call
        self._batches = batches
        self._ready: Iterator[Chunk] = iter(())
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader: asyncio.Task[object] | None = None
        self._reader_left: asyncio.Future[None] | None = None

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Chunk:
        chunk = next(self._ready, None)
        if chunk is not None and not self._closed:
            return chunk
        return await self._advance()

    async def _advance(self) -> Chunk:
        call = self._call
        if self._closed:
            raise StopAsyncIteration
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            call.begin()
        self._reader = reader = asyncio.current_task()
        try:
            async for batch in self._batches:
                if not batch:
                    continue
                if batch[-1]["done"]:
                    call.last = batch[-1]
                    await call.afinish()
                self._ready = iter(batch)
                return next(self._ready)
        except BaseException as error:
            if self._closed:
                if isinstance(error, asyncio.CancelledError) and reader is not None:
                    reader.uncancel()  # it was aclose() that cancelled, to break the wait
                await call.afinish()
                raise StopAsyncIteration from None
            self._closed = True
            await call.afinish(error)
            raise
        finally:
            self._reader = None
            if self._reader_left is not None and not self._reader_left.done():
                self._reader_left.set_result(None)
        self._closed = True
        await call.afinish()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the call; safe to call from another task, and more than once."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            self.close()
            return
        self._closed = True
        self._call.cancellation.cancel()
        if self._reader is not None:
            self._reader_left = loop.create_future()
            self._reader.cancel()
            await self._reader_left
        await _end(self._batches, self._call)

    def close(self) -> None:
        """Have the call ended by its event loop; safe to call from another thread."""
        if not self._closed and self._loop is not None:
            _call_in_loop(self._loop, self)

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._closed or self._loop is None:
            return
        batches, call, loop = self._batches, self._call, self._loop
        call.cancellation.cancel()
        try:
            loop.call_soon_threadsafe(lambda: _keep(loop.create_task(_end(batches, call))))
        except RuntimeError:
            call.finish()  # the loop is closed, and has closed the generator


_tasks: set[asyncio.Task[None]] = set()


def _keep(task: asyncio.Task[None]) -> None:
    """Hold a task until it is done; a loop holds its tasks weakly."""
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def _call_in_loop(loop: asyncio.AbstractEventLoop, stream: AsyncStream) -> None:
    with suppress(RuntimeError):  # the loop is closed, and has closed the generator
        loop.call_soon_threadsafe(lambda: _keep(loop.create_task(stream.aclose())))


async def _end(batches: AsyncGenerator[list[Chunk], None], call: Call) -> None:
    await batches.aclose()
    await call.afinish()
