"""An answer on its way to a reader: a pump reads the chunks, the server's iteration takes what has come.

The pump is a thread under WSGI and a task under ASGI. So there is a heartbeat while the model is silent, and
a reader's leaving ends the provider's connection also while nothing comes from it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue

from bupple_engine import threads
from bupple_engine.exceptions import StreamInterruptedError
from bupple_engine.types import Chunk

from . import shutdown
from .dialects import Dialect
from .release import arelease_connections, release_connections

logger = logging.getLogger("bupple_engine")

# How far the pump may run ahead of a slow reader: pieces under WSGI, bytes under ASGI.
BACKLOG_PIECES = 64
BACKLOG_BYTES = 65_536

# A request that is cancelled behind its view drops the response, and nobody closes it.
BEGIN_SECONDS = 60


class _Relay:
    """What both have in common: how an answer is told, and what is done at its end."""

    def __init__(self, dialect: Dialect, heartbeat: float, on_end: Callable[[], object] | None) -> None:
        self._dialect = dialect
        self._heartbeat = heartbeat
        self._on_end = on_end
        self._begun = False  # the response
        self._done = False  # the answer is whole
        self._over = False  # the chunks, and _error is what ended them, if anything did
        self._error: BaseException | None = None
        self._closed = False  # the reader has gone

    def _last_piece(self) -> bytes:
        """Return how the reader is told that the answer was cut off; b"" where it was not.

        Raises the error where only cutting the connection can tell it.
        """
        error, self._error = self._error, None
        if error is None:
            return b""
        piece = self._dialect.encode_error(self._dialect.report(error))
        if piece is None:
            raise error
        return piece

    def _tell_end(self) -> None:
        on_end, self._on_end = self._on_end, None
        try:
            if on_end is not None:
                on_end()
        except Exception:
            logger.exception("What was to be done at the end of a stream failed")
        finally:
            release_connections()  # of this thread, which is none of the request's


def _cut_off() -> StreamInterruptedError:
    return StreamInterruptedError("The chunks ended without one that has done=True.")


class Relay(_Relay, Iterator[bytes]):
    """Iterate over what a WSGI server writes; close() and end() may be called from any thread."""

    def __init__(
        self,
        chunks: Iterator[Chunk],
        dialect: Dialect,
        *,
        heartbeat: float,
        on_end: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(dialect, heartbeat, on_end)
        self._chunks = chunks
        # Bytes, then None or what ended the chunks instead.
        self._arrived: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        self._first: list[bytes] = []
        self._room = threading.Event()

    def open(self, seconds: float) -> None:
        """Wait for the first piece, up to so many seconds; raise what came in its place."""
        work = copy_context().run
        pump = threading.Thread(target=work, args=(self._pump,), name="bupple_engine relay", daemon=True)
        try:
            shutdown.register(self)
            pump.start()
            first = self._arrived.get(timeout=seconds)
        except Empty:
            first = self._dialect.heartbeat
        except BaseException:
            self.close()
            if pump.ident is None:
                self._leave()
            raise
        if isinstance(first, BaseException):
            raise first
        if first is None:
            self._over = True
        else:
            self._first.append(first)

    def __iter__(self) -> Relay:
        return self

    def __next__(self) -> bytes:
        if not self._begun:
            self._begun = True
            release_connections()  # middleware may have opened one after the view
        if not self._over and not self._closed:
            piece = self._take()
            if piece or not self._over:
                return piece
        if not self._closed and (piece := self._last_piece()):
            return piece
        raise StopIteration

    def _take(self) -> bytes:
        """Return what has come, or a heartbeat where nothing has for so long."""
        pieces, self._first = self._first, []
        try:
            item = self._arrived.get(not pieces, self._heartbeat)
            while isinstance(item, bytes):
                pieces.append(item)
                item = self._arrived.get_nowait()
            self._over, self._error = True, item
        except Empty:
            if not pieces:
                return self._dialect.heartbeat
        if not self._room.is_set():
            self._room.set()
        return b"".join(pieces)

    def close(self) -> None:
        """End the answer because its reader has gone; the provider's connection is closed at once."""
        self._closed = True
        self._room.set()
        self._close_chunks()

    def end(self, error: Exception) -> None:
        """End the answer with an error that its reader is told."""
        if not self._done:
            self._arrived.put(error)
            self._close_chunks()

    def _close_chunks(self) -> None:
        if close := getattr(self._chunks, "close", None):
            try:
                close()
            except ValueError:
                pass  # a generator that the pump is in, which looks at _closed
            except Exception:
                logger.exception("The chunks could not be closed")

    def _pump(self) -> None:
        last: BaseException | None = None
        try:
            for chunk in self._chunks:
                if self._closed:
                    return
                piece = self._dialect.encode(chunk)
                self._done = chunk["done"]  # not before it can be told
                self._arrived.put(piece)
                while self._arrived.qsize() >= BACKLOG_PIECES and not self._closed:
                    self._room.clear()
                    if self._arrived.qsize() >= BACKLOG_PIECES:
                        self._room.wait(1)  # the reader may have made room in between
            if not self._done:
                last = _cut_off()
        except BaseException as error:
            last = None if self._done else error
        finally:
            self._leave()
            self._arrived.put(last)

    def _leave(self) -> None:
        self._close_chunks()
        shutdown.unregister(self)
        self._tell_end()


class AsyncRelay(_Relay, AsyncIterator[bytes]):
    """Iterate over what an ASGI server sends; close() and end() may be called from any thread."""

    def __init__(
        self,
        chunks: AsyncIterator[Chunk],
        dialect: Dialect,
        *,
        heartbeat: float,
        on_end: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(dialect, heartbeat, on_end)
        self._chunks = chunks
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
            self.end(_cut_off())
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
            self._error = error
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

    async def _pump(self) -> None:
        try:
            async for chunk in self._chunks:
                piece = self._dialect.encode(chunk)
                self._done = chunk["done"]
                self._pieces.append(piece)
                self._size += len(piece)
                self._wake()
                if self._size > BACKLOG_BYTES:
                    self._room = self._loop.create_future()
                    await self._room
        except Exception as error:
            self._error = self._error or error
        finally:
            if self._done:
                self._error = None
            elif self._error is None:
                self._error = _cut_off()
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
                    threads.submit(self._tell_end)
                self._over = True
                self._wake()
