"""The relay of a WSGI server: a thread reads, the server's own writes."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any

from bupple_engine.calls.bridge import Room
from bupple_engine.types import Chunk

from . import shutdown
from .dialects import Dialect
from .relay import BACKLOG_BYTES, ROOM_SECONDS, BaseRelay, OnEnd, close_chunks, cut_off, of_shape, stalled
from .release import release_connections


class Relay(BaseRelay, Iterator[bytes]):
    """Iterate over what a WSGI server writes; close() and end() may be called from any thread."""

    def __init__(
        self,
        chunks: Iterator[Chunk],
        dialect: Dialect,
        *,
        heartbeat: float,
        on_end: OnEnd | None = None,
    ) -> None:
        super().__init__(chunks, dialect, heartbeat, on_end)
        # Bytes, then None or what ended the chunks instead.
        self._arrived: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        self._first: list[bytes] = []
        self._room = Room(BACKLOG_BYTES)

    def open(self, seconds: float) -> None:
        """Wait for the first piece, up to so many seconds; raise what came in its place."""
        work = copy_context().run
        pump = threading.Thread(target=work, args=(self._pump,), name="bupple_engine relay", daemon=True)
        try:
            shutdown.register(self)
            pump.start()
            first = self._arrived.get(timeout=seconds)
        except Empty:
            self._first.append(self._dialect.heartbeat)
            return
        except BaseException as error:
            if pump.ident is None:
                self._leave(error)
            self.close()
            raise
        if isinstance(first, BaseException):
            raise first
        if first is None:
            self._over = True
        else:
            self._first.append(first)
            self._room.take(len(first) or 1)

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
        size = 0
        try:
            item = self._arrived.get(not pieces, self._heartbeat)
            while isinstance(item, bytes):
                pieces.append(item)
                size += len(item) or 1
                item = self._arrived.get_nowait()
            self._over, self._error = True, item
        except Empty:
            if not pieces:
                return self._dialect.heartbeat
        self._room.take(size)
        return b"".join(pieces)

    def close(self) -> None:
        """End the answer because its reader has gone; the provider's connection is closed at once."""
        self._closed = True
        self._room.lift()
        close_chunks(self._chunks)

    def end(self, error: Exception) -> None:
        """End the answer with an error that its reader is told."""
        if not self._done:
            self._ended = error
            self._arrived.put(error)
            self._room.lift()
            close_chunks(self._chunks)

    def _pump(self) -> None:
        last: BaseException | None = None
        chunk: Any = None
        try:
            for chunk in self._chunks:
                if self._closed:
                    return
                self._texts.append(chunk["content"])
                if chunk["done"] or "metadata" in chunk:
                    self._note(chunk)
                piece = self._dialect.encode(chunk)
                self._done = chunk["done"]  # not before it can be told
                self._arrived.put(piece)
                self._room.put(len(piece) or 1)  # an empty piece takes a place, too
                if not self._done and not self._room.wait(ROOM_SECONDS):
                    raise stalled()
            if not self._done:
                last = cut_off()
        except BaseException as error:
            last = None if self._done else of_shape(error, chunk)
        finally:
            self._leave(last)
            self._arrived.put(last)

    def _leave(self, error: BaseException | None) -> None:
        close_chunks(self._chunks)
        shutdown.unregister(self)
        self._tell_end(self._outcome(error))


def limit_writes(connection: socket.socket | None) -> None:
    """Have a server's writes to a reader who takes nothing fail, where the server shows its socket.

    Such a write would hold the server's thread for as long as the reader likes; nobody else can end it.
    """
    if connection is not None and hasattr(socket, "SO_SNDTIMEO"):
        with suppress(OSError):  # the reader has gone
            seconds = struct.pack("ll", int(ROOM_SECONDS), int(ROOM_SECONDS % 1 * 1_000_000))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
