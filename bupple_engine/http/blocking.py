"""The relay of a WSGI server: a thread reads, the server's own writes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from queue import Empty, SimpleQueue

from bupple_engine.types import Chunk

from . import shutdown
from .dialects import Dialect
from .relays import BaseRelay, cut_off, logger
from .release import release_connections

BACKLOG_PIECES = 64  # how far the pump may run ahead of a slow reader


class Relay(BaseRelay, Iterator[bytes]):
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
                last = cut_off()
        except BaseException as error:
            last = None if self._done else error
        finally:
            self._leave()
            self._arrived.put(last)

    def _leave(self) -> None:
        self._close_chunks()
        shutdown.unregister(self)
        self._tell_end()
