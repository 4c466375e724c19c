"""The relay of an ASGI server: a task reads, the server's own sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from bupple_engine.calls import threads
from bupple_engine.calls.streams import AsyncStream
from bupple_engine.types import Chunk

from . import shutdown
from .dialects import Dialect
from .relay import BACKLOG_BYTES, ROOM_SECONDS, BaseRelay, OnEnd, cut_off, logger, of_shape, stalled
from .release import arelease_connections

# A request that is cancelled behind its view drops the response, and nobody closes it.
BEGIN_SECONDS = 60


class AsyncRelay(BaseRelay, AsyncIterator[bytes]):
    """Iterate over what an ASGI server sends; close() and end() may be called from any thread."""

    def __init__(
        self,
        chunks: AsyncIterator[Chunk],
        dialect: Dialect,
        *,
        heartbeat: float,
        on_end: OnEnd | None = None,
    ) -> None:
        super().__init__(chunks, dialect, heartbeat, on_end)
        self._loop = asyncio.get_running_loop()
        self._pieces: list[bytes] = []
        self._size = 0
        self._reader: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._opened = self._quiet_since = 0.0

    async def open(self, seconds: float) -> None:
        """Wait for the first piece, up to so many seconds; raise what came in its place."""
        self._task = self._loop.create_task(self._pump())
        shutdown.register(self)
        timer = self._loop.call_later(seconds, self._wake)
        try:
            await self._wait()
        finally:
            timer.cancel()
        if self._over and not self._pieces and self._error is not None:
            raise self._error
        if not self._over:
            if not self._pieces:
                self._pieces.append(self._dialect.heartbeat)
            self._opened = self._quiet_since = self._loop.time()
            self._timer = self._loop.call_later(self._heartbeat, self._beat)

    def __aiter__(self) -> AsyncRelay:
        return self

    async def __anext__(self) -> bytes:
        if not self._begun:
            self._begun = True
            await arelease_connections()  # middleware may have opened one after the view
        while not self._closed:
            if self._pieces:
                if piece := self._take():
                    return piece
            elif self._over:
                break
            else:
                await self._wait()
        if not self._closed and (piece := self._last_piece()):
            return piece
        raise StopAsyncIteration

    def _take(self) -> bytes:
        pieces = self._pieces
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._size = 0
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._quiet_since = self._loop.time()
        return piece

    async def _wait(self) -> None:
        """Wait for the pump or a timer; where the wait is cancelled, the reader has gone."""
        self._reader = self._loop.create_future()
        try:
            await self._reader
        except asyncio.CancelledError:
            self._closed = True
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait([self._task])
            raise
        finally:
            self._reader = None

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _beat(self) -> None:
        due = self._quiet_since + self._heartbeat
        now = self._loop.time()
        if not self._begun and now > self._opened + BEGIN_SECONDS:
            self.end(cut_off())
        if now >= due:
            due = now + self._heartbeat
            if self._reader is not None and not self._pieces:
                self._pieces.append(self._dialect.heartbeat)
                self._wake()
        self._timer = self._loop.call_at(due, self._beat)

    def close(self) -> None:
        """End the answer because its reader has gone; the provider's connection is closed at once."""
        if not self._closed and not self._over:
            self._closed = True
            self._stop()

    def end(self, error: Exception) -> None:
        """End the answer with an error that its reader is told."""
        if not self._done:
            self._error = self._ended = error
            if close := getattr(self._chunks, "close", None):
                close()  # breaks a thread's wait, also where the loop has stopped before its tasks
            self._stop()

    def _stop(self) -> None:
        with suppress(RuntimeError):  # the loop is closed, and its tasks with it
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._wake()

    async def _make_room(self) -> None:
        """Wait until the reader has taken what there is; one that reads nothing counts as gone."""
        self._room = self._loop.create_future()
        try:
            async with asyncio.timeout(ROOM_SECONDS):
                await self._room
        except TimeoutError:
            raise stalled() from None

    async def _take_one(self) -> list[Any] | None:
        """Return the next of chunks of the site's own; see AsyncStream.take()."""
        async for chunk in self._chunks:
            return [chunk]
        return None

    async def _pump(self) -> None:
        chunk: Any = None
        try:
            take = self._chunks.take if isinstance(self._chunks, AsyncStream) else self._take_one
            while (batch := await take()) is not None:
                for chunk in batch:
                    self._texts.append(chunk["content"])
                    if chunk["done"] or "metadata" in chunk:
                        self._note(chunk)
                    piece = self._dialect.encode(chunk)
                    self._done = chunk["done"]
                    self._pieces.append(piece)
                    self._size += len(piece) or 1  # an empty piece takes a place, too
                self._wake()
                if self._size > BACKLOG_BYTES and not self._done:
                    await self._make_room()
        except Exception as error:  # of a driver's stream, or of chunks of the site's own: told to the reader
            self._error = self._error or of_shape(error, chunk)
        finally:
            if self._done:
                self._error = None
            elif self._error is None:
                self._error = cut_off()
            if self._timer is not None:
                self._timer.cancel()
            shutdown.unregister(self)
            try:
                if aclose := getattr(self._chunks, "aclose", None):
                    await aclose()
            except Exception:
                logger.exception("The chunks could not be closed")
            finally:
                if self._on_end is not None:
                    outcome = self._outcome(self._error)
                    threads.submit(lambda: self._tell_end(outcome))
                self._over = True
                self._wake()
