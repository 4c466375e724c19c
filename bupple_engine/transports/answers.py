"""What a thread waits for, and http.client's answer: read until a deadline, and in bulk."""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import threading
import time
from email.errors import MissingHeaderBodySeparatorDefect
from typing import Any, cast

import urllib3

from bupple_engine.calls.cancellation import Cancellation

from .chunked import Dechunker
from .trust import MAX_INFORMATIONAL, refused_coding

READ_SIZE = 65_536
CODINGS = frozenset({"", "identity", *urllib3.HTTPResponse.CONTENT_DECODERS})


class Wait:
    """What a thread waits for: whose call it is, how long, and the connection that it has come to."""

    __slots__ = (
        "answer",
        "cancellation",
        "connection",
        "deadline",
        "fresh",
        "read_deadline",
        "reused",
        "socket",
    )

    def __init__(self, cancellation: Cancellation, connect: float, read: float) -> None:
        now = time.monotonic()
        self.cancellation = cancellation
        self.deadline = now + min(connect, read)
        self.read_deadline = now + read
        # Both set once it is connected, through its proxy and its handshake.
        self.socket: Any = None
        self.connection: Any = None
        self.answer: Answer | None = None
        self.reused = False
        self.fresh = False  # set: no connection that has served before

    @property
    def is_doubtful(self) -> bool:
        """Whether the answer may be another's: its connection had served, and its server lost our trust."""
        return self.reused and bool(self.connection.trust.lost)

    def is_stale(self, error: BaseException) -> bool:
        """Return whether the other side had closed a kept connection, so that the request was never tried."""
        causes = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
        return self.reused and not self.fresh and isinstance(cause_of(error), causes)


def cause_of(error: BaseException) -> BaseException:
    """Return the error inside the errors that urllib3 lays around one."""
    exceptions = urllib3.exceptions
    while isinstance(error, exceptions.ProxyError | exceptions.ProtocolError | exceptions.SSLError):
        inner = next((arg for arg in reversed(error.args) if isinstance(arg, BaseException)), None)
        if inner is None:
            break
        error = inner
    return error


def is_about(seconds: float, timeout: float | None) -> bool:
    """Return whether a timeout may stay: where it is the same but for a hundredth, a system call is saved."""
    return timeout is not None and 0.99 * seconds < timeout < 1.01 * seconds


class _Present(threading.local):
    wait: Wait | None = None


# urllib3 has no argument for it: what a thread calls, and what is called back here, is the same wait.
present = _Present()


class Clocked(socket.SocketIO):
    """Read until a deadline: a socket's own timeout would begin anew with each byte."""

    _sock: Any
    deadline = 0.0
    _seconds = 0.0

    def readinto(self, buffer: Any) -> int | None:
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            # Whoever loops above, over heads or pieces without end, never has to wait for a byte.
            raise TimeoutError
        if not is_about(seconds, self._seconds):
            self._seconds = seconds
            self._sock.settimeout(seconds)
        size: int = self._sock.recv_into(buffer)
        return size


class Answer(http.client.HTTPResponse):
    """An answer of which no read goes on behind its clock's deadline."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wait = wait = present.wait
        self.clock = cast("Clocked", self.fp.raw)
        if wait is not None:
            self.clock.__class__ = Clocked
            self.clock.deadline = wait.deadline
            wait.answer = self
        self._dechunker = Dechunker()
        self._is_fast = False

    def _read_status(self) -> tuple[str, int, str]:
        """Return the answer's status line, behind all informational heads: http.client skips 100 alone."""
        for _ in range(MAX_INFORMATIONAL):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == 101:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("it has informational heads without end")

    def begin(self) -> None:
        super().begin()
        coding = self.headers.get("transfer-encoding", "").rpartition(",")[2].strip().lower()
        if coding == "chunked" and not self.chunked:  # behind another, which http.client takes for none
            self.chunked, self.length = True, None
        if wrong := self._find_wrong():
            raise http.client.HTTPException(wrong)

    def _find_wrong(self) -> str:
        """Return what is wrong with the head, which aiohttp's parser refuses too.

        Where two readers may find the answer's end in two places, another's begins in the midst of this one.
        """
        lengths = self.headers.get_all("content-length") or []
        if self.status == 101:
            return "it switches to another protocol"
        if any(isinstance(defect, MissingHeaderBodySeparatorDefect) for defect in self.headers.defects):
            return "its head has a line that is no header"
        if any("\0" in value for value in self.headers.values()):
            return "its head has a null byte"
        if len(lengths) > 1 or (lengths and "transfer-encoding" in self.headers):
            return "it says its length in two ways"
        if lengths and not re.fullmatch("[0-9]+", lengths[0]):
            return "its length is no number"
        return refused_coding(self.headers.get("content-encoding"), CODINGS)

    def _close_conn(self) -> None:
        surplus = self._surplus()
        super()._close_conn()  # type: ignore[misc]
        if surplus and self._wait is not None:
            self._wait.connection.distrust(surplus)

    def _surplus(self) -> bytes:
        """Return what was read behind the end of an answer that came to its end."""
        ended = self._dechunker.ended if self.chunked else self.length == 0
        if not ended or self._wait is None:
            return b""
        self.clock.deadline = 0.0  # what is in the buffer, without a look into the socket
        try:
            return self._dechunker.surplus or bytes(self.fp.peek(1))
        except TimeoutError:
            return b""

    def read1(self, n: int = READ_SIZE) -> bytes:
        """Return the data of all the chunks that have arrived, after one wait at the most.

        http.client's own hands over one chunk a call, and so one event of a stream: half the time of reading
        it would go by in between. It takes a body for ended that is shorter than its head says.
        """
        if self.fp is None:
            return b""
        if not self.chunked:
            return self._read_plain(n)
        while True:
            piece = self._await_piece(READ_SIZE)
            if not piece:
                raise http.client.IncompleteRead(b"")
            data = self._dechunker.feed(piece)
            if self._dechunker.ended:
                self.close()
                return data
            if data:
                return data

    def _await_piece(self, n: int) -> bytes:
        """Return up to n bytes that have arrived.

        Who waits holds no buffer for them: those of many threads leave holes in the heap, 36 KB for each.
        Where more comes than the answer's own holds, nobody is going to wait.
        """
        if not self._is_fast:
            n = min(n, len(self.fp.peek(1)))
        piece = self.fp.read1(n) if n else b""
        self._is_fast = len(piece) >= io.DEFAULT_BUFFER_SIZE
        return piece

    def _read_plain(self, n: int) -> bytes:
        left = self.length
        if left is not None:
            n = min(n, left)
        data = self._await_piece(n) if n else b""
        if left is not None:
            self.length = left - len(data)
            if self.length and not data:
                raise http.client.IncompleteRead(data, self.length)
        if not data or self.length == 0:
            self.close()
        return data
