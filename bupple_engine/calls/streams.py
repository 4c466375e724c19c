"""What stream() and astream() return: iterators that can be closed from anywhere, at any time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import suppress
from contextvars import Context, copy_context
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from bupple_engine.masking import refuse_pickling
from bupple_engine.types import Chunk, Usage

from . import bridge
from .ending import end, end_in
from .outcome import Outcome, State
from .running import RunningCall

BLOCKS = "stream() holds up the event loop that it is read in: write `async for chunk in ai().astream(…)`."

# What a stream reads from, as long as the stream is there. Else the garbage collector, finding both at once,
# would finalize a socket before the stream closes it, or a generator while its loop runs it.
_live: set[object] = set()


class _OfCall:
    """What a stream of either kind tells of its call."""

    _call: RunningCall

    @property
    def has_begun(self) -> bool:
        """Whether a chunk was asked for, and so anything sent."""
        return self._call.has_begun

    @property
    def usage(self) -> Usage | None:
        """What the provider has reported of the tokens until now."""
        return self._call.usage()

    def sum_up(self, state: State, error: BaseException | None = None) -> Outcome:
        """Return what has come until now, as the Outcome of a call that ended so."""
        return self._call.sum_up(state, error)


class Stream(_OfCall, Iterator[Chunk]):
    """Iterate over the chunks of an answer; nothing is sent before the first is asked for.

    Closing it, from any thread and also while another waits for a chunk, ends the provider's connection
    at once; the waiting one and all later ones get StopIteration. Only a stream that gave its chunk with
    done=True is complete. What ends a stream otherwise raises an EngineError. Use it in a `with` block, or
    read it to its end.
    """

    def __init__(self, call: RunningCall, batches: Generator[list[Chunk], None, None]) -> None:
        self._call = call
        self._batches = batches
        self._ready: Iterator[Chunk] = iter(())
        self._closed = False
        self._is_asked = False
        _live.add(batches)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        refuse_pickling(self)

    def __iter__(self) -> Stream:
        return self

    if not TYPE_CHECKING:  # a type checker tells it without them

        def __aiter__(self) -> NoReturn:
            raise TypeError("stream() is read by `for`; write `async for chunk in ai().astream(…)`")

    def __next__(self) -> Chunk:
        chunk = next(self._ready, None)
        if chunk is not None and not self._closed:
            return chunk
        return self._advance()

    @property
    def is_timed(self) -> bool:
        """Whether take() heeds its seconds, which is known once the answer has begun."""
        return self._call.is_timed

    def take(self, seconds: float) -> list[Chunk] | None:
        """Return the chunks that come next, after one wait of so many seconds at most; None at the end.

        It returns no chunks also where what has come says nothing. One that is not is_timed waits longer.
        """
        if ready := list(self._ready):
            return None if self._closed else ready
        self._call.patience = seconds
        try:
            return self._read()
        except StopIteration:
            return None
        finally:
            self._call.patience = None

    def _advance(self) -> Chunk:
        while not (batch := self._read()):
            pass
        self._ready = iter(batch)
        return next(self._ready)

    def _read(self) -> list[Chunk]:
        call = self._call
        if self._closed:
            raise StopIteration
        try:
            if not self._is_asked:
                self._is_asked = True
                bridge.warn_of_blocking(BLOCKS)
                call.begin()
            batch = next(self._batches, None)
            if batch is not None and not self._closed:
                if batch and batch[-1]["done"]:
                    call.last = batch[-1]
                    call.finish()
                return batch
        except BaseException as error:
            if self._closed and isinstance(error, Exception):
                call.finish()
                raise StopIteration from None
            self._closed = True
            call.finish(error)
            raise
        self._closed = True
        with suppress(ValueError):  # whoever closed it is at it
            self._batches.close()
        call.finish()
        raise StopIteration

    def close(self) -> None:
        """End the call; safe to call from another thread, and more than once."""
        if self._shut():
            self._call.finish()

    def _shut(self) -> bool:
        """End the answer, and tell whether the call is to be finished here."""
        if self._closed:
            return False
        self._closed = True
        self._call.abandon()
        try:
            self._batches.close()
        except ValueError:
            return False  # running in another thread, whose wait has just been broken: it finishes the call
        return True

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._shut():
            self._call.finish_elsewhere()
        _live.discard(self._batches)


class AsyncStream(_OfCall, AsyncIterator[Chunk]):
    """Iterate over the chunks of an answer; see Stream.

    aclose() may be called from another task, and close() from another thread, also while a chunk is
    waited for.
    """

    def __init__(self, call: RunningCall, batches: AsyncGenerator[list[Chunk], None]) -> None:
        self._call = call
        self._batches = batches
        self._ready: Iterator[Chunk] = iter(())
        self._closed = False
        _live.add(batches)
        self._context: Context | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_read = False
        self._reader_left: asyncio.Future[None] | None = None

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        refuse_pickling(self)

    def __aiter__(self) -> AsyncStream:
        return self

    if not TYPE_CHECKING:

        def __iter__(self) -> NoReturn:
            raise TypeError("astream() is read by `async for`; outside of async write ai().stream(…)")

        def __await__(self) -> NoReturn:
            raise TypeError("astream() is not awaited; write `async for chunk in ai().astream(…)`")

    async def __anext__(self) -> Chunk:
        chunk = next(self._ready, None)
        if chunk is not None and not self._closed:
            return chunk
        if (batch := await self._read()) is None:
            raise StopAsyncIteration
        self._ready = iter(batch)
        return next(self._ready)

    async def take(self) -> list[Chunk] | None:
        """Return the chunks that come next, at least one; None at the end."""
        if ready := list(self._ready):
            return None if self._closed else ready
        return await self._read()

    async def _read(self) -> list[Chunk] | None:
        call = self._call
        if self._loop is None:
            self._context = copy_context()
            self._loop = asyncio.get_running_loop()
        # In this order: close(), which looks at the loop last, can be in another thread.
        if self._closed:
            return None
        try:
            if not call.has_begun:
                await call.abegin()  # which nothing can break, so that aclose() does not wait for it
            self._is_read = True
            async for batch in self._batches:
                if self._closed:
                    break
                if not batch:
                    continue
                if batch[-1]["done"]:
                    call.last = batch[-1]
                    await call.afinish()
                return batch
        except BaseException as error:
            if not (self._closed and isinstance(error, Exception)):
                self._closed = True
                await call.afinish(error)
                raise
        finally:
            self._is_read = False
            if self._reader_left is not None and not self._reader_left.done():
                self._reader_left.set_result(None)
        self._closed = True
        await call.afinish()
        return None

    async def aclose(self) -> None:
        """End the call; safe to call from another task, and more than once."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            self.close()
            return
        self._closed = True
        await self._shut(loop)

    def close(self) -> None:
        """Have the call ended by its event loop; safe to call from another thread, and more than once."""
        if self._closed:
            return
        self._closed = True
        if (loop := self._loop) is not None:
            self._call.abandon()  # now: where a thread reads, the end of the process would wait for it
            end_in(loop, self._context, lambda: self._shut(loop), self._call)

    async def _shut(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call.abandon()
        if self._is_read:
            self._reader_left = loop.create_future()
            await self._reader_left
        await end(self._batches, self._call)

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        batches, call = self._batches, self._call
        if self._loop is not None and not self._closed:
            call.abandon()
            end_in(self._loop, self._context, lambda: end(batches, call), call)
        _live.discard(batches)
