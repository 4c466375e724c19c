"""The relay of a WSGI server: a thread reads, the server's own writes."""

from __future__ import annotations

import _socket
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any, cast

from bupple_engine.calls import threads
from bupple_engine.calls.room import Room
from bupple_engine.calls.streams import Stream
from bupple_engine.types import Chunk

from . import shutdown
from .dialects import Dialect
from .relay import BACKLOG_BYTES, ROOM_SECONDS, BaseRelay, OnEnd, close_chunks, cut_off, of_shape, stalled
from .release import release_connections

# What the pump says once the server's thread is to read on.
_HANDED: Any = object()


class Relay(BaseRelay, Iterator[bytes]):
    """Iterate over what a WSGI server writes; close() and end() may be called from any thread.

    A thread beside the server's, the pump, reads the chunks up to the first, and all of them where nothing
    else can keep the promises. But where hands_over is set, and the chunks are of a Stream that can be waited
    for so long, the server's thread reads on by itself: a second thread would cost as much as the whole rest
    of a relayed chunk. Then the server's writes must have a time limit of their own; see limit_writes().
    """

    def __init__(
        self,
        chunks: Iterator[Chunk],
        dialect: Dialect,
        *,
        heartbeat: float,
        on_end: OnEnd | None = None,
        hands_over: bool = False,
    ) -> None:
        super().__init__(chunks, dialect, heartbeat, on_end)
        # Bytes, then None or what ended the chunks instead.
        self._arrived: SimpleQueue[Any] = SimpleQueue()
        self._first: list[bytes] = []
        self._room = Room(BACKLOG_BYTES)
        self._context = copy_context()
        self._hands_over = hands_over and isinstance(chunks, Stream)
        self._handed = False  # the server's thread reads
        self._late: Exception | None = None  # it came behind pieces that are handed on first
        self._lock = threading.Lock()
        self._held = True  # a thread is reading, and sees to the end when it comes
        self._left = False  # the end was seen to while none was

    def open(self, seconds: float) -> None:
        """Wait for the first piece, up to so many seconds; raise what came in its place."""
        pump = threading.Thread(target=self._run, name="bupple_engine relay", daemon=True)
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
            piece = self._read_on() if self._handed else self._take()
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
        except Empty:
            if not pieces:
                return self._dialect.heartbeat
        else:
            if item is _HANDED:
                self._handed = True
                return b"".join(pieces) if pieces else self._read_on()
            self._over, self._error = True, item
        self._room.take(size)
        return b"".join(pieces)

    def _read_on(self) -> bytes:
        """Read what comes next, or return a heartbeat where nothing has for so long."""
        with self._lock:
            if self._left:
                self._over, self._error = True, self._ended
                return b""
            self._held = True
        error: Exception | None = None
        try:
            piece = self._context.run(self._read)
            with self._lock:
                if piece is not None and not self._closed and self._ended is None:
                    self._held = False
                    return piece
        except Exception as raised:
            error = raised
        except BaseException as raised:
            self._leave(raised)
            raise
        self._over = True
        if not self._done:
            self._error = self._ended or error or cut_off()
        self._context.run(self._leave, self._error)
        return b""

    def _read(self) -> bytes | None:
        """Return the pieces of the chunks that come next, None where there are no more."""
        if self._late is not None:
            raise self._late
        stream = cast("Stream", self._chunks)
        due = time.monotonic() + self._heartbeat
        left = self._heartbeat
        while left > 0:
            chunks = stream.take(left)
            if chunks is None:
                return None
            if chunks:
                return self._encode_all(chunks)
            left = due - time.monotonic()
        return self._dialect.heartbeat

    def _encode_all(self, chunks: list[Chunk]) -> bytes:
        pieces: list[bytes] = []
        try:
            for chunk in chunks:
                pieces.append(self._encode(chunk))
        except Exception as error:  # of a dialect of the site's own
            if not pieces:
                raise
            self._late = error
        return b"".join(pieces)

    def _encode(self, chunk: Chunk) -> bytes:
        self._texts.append(chunk["content"])
        if chunk["done"] or "metadata" in chunk:
            self._note(chunk)
        piece = self._dialect.encode(chunk)
        self._done = chunk["done"]  # not before it can be told
        return piece

    def close(self) -> None:
        """End the answer because its reader has gone; the provider's connection is closed at once."""
        with self._lock:
            self._closed = True
            leaves = self._claim()
        self._room.lift()
        close_chunks(self._chunks)
        if leaves:
            self._context.run(self._leave, None)

    def end(self, error: Exception) -> None:
        """End the answer with an error that its reader is told."""
        if self._done:
            return
        with self._lock:
            self._ended = error
            leaves = self._claim()
        self._arrived.put(error)
        self._room.lift()
        close_chunks(self._chunks)
        if leaves:
            threads.submit(lambda: self._context.run(self._leave, error))

    def _claim(self) -> bool:
        """Tell whether whoever ends the answer has to see to its end, as no thread is reading."""
        if self._held or self._left:
            return False
        self._left = True
        return True

    def __del__(self) -> None:
        if self._claim():  # no thread holds it that reads on, and nobody has closed it
            self._closed = True
            threads.leave(lambda: self._context.run(self._leave, None))

    def _run(self) -> None:
        # The context is left before the other thread enters it, which may be no sooner.
        if self._context.run(self._pump):
            with self._lock:
                ended = self._closed or self._ended is not None
                self._held = ended
            if not ended:
                self._arrived.put(_HANDED)
                return
            self._context.run(self._leave, self._ended)
            self._arrived.put(self._ended)

    def _pump(self) -> bool:
        """Read the chunks; tell whether the server's thread reads on."""
        last: BaseException | None = None
        chunk: Any = None
        try:
            for chunk in self._chunks:
                if self._closed:
                    break
                piece = self._encode(chunk)
                self._arrived.put(piece)
                self._room.put(len(piece) or 1)  # an empty piece takes a place, too
                if self._done:
                    continue
                if self._hands_over and self._chunks.is_timed:
                    return True
                if not self._room.wait(ROOM_SECONDS):
                    raise stalled()
            if not self._done:
                last = cut_off()
        except BaseException as error:
            last = None if self._done else of_shape(error, chunk)
        self._leave(last)
        self._arrived.put(last)
        return False

    def _leave(self, error: BaseException | None) -> None:
        close_chunks(self._chunks)
        shutdown.unregister(self)
        self._tell_end(self._outcome(error))


def limit_writes(connection: socket.socket | None) -> bool:
    """Have a server's writes to a reader who takes nothing fail, where the server shows its socket.

    Such a write would hold the server's thread for as long as the reader likes; nobody else can end it.
    Returns whether each write does fail then: not one through TLS, which begins anew, nor one of a library
    that puts its own in the place of Python's sockets.
    """
    if connection is None or not hasattr(socket, "SO_SNDTIMEO"):
        return False
    with suppress(OSError):  # the reader has gone
        seconds = struct.pack("ll", int(ROOM_SECONDS), int(ROOM_SECONDS % 1 * 1_000_000))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
        return type(connection) is socket.socket and issubclass(socket.socket, _socket.socket)
    return False
