"""urllib3's connections, watched.

A call can break any wait of theirs, its clocks hold for the whole, and a connection on which anything came
that nobody asked for is never used again: the next caller would be given words meant for another.
"""

from __future__ import annotations

import functools
import logging
import socket
import ssl
import time
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection

from bupple_engine.calls.cancellation import shut_down
from bupple_engine.masking import mask_url

from .answers import Answer, is_about, present
from .trust import UNASKED, Lookout, StaleConnection, Trust

SEND_SIZE = 262_144  # in one piece; TLS gives each record of a larger one the whole time anew


def _mask_urls(record: logging.LogRecord) -> bool:
    """Mask what urllib3 logs of a URL, whose query may have a key."""
    if isinstance(record.args, tuple):
        record.args = tuple(mask_url(arg) if isinstance(arg, str) else arg for arg in record.args)
    return True


logging.getLogger("urllib3.connectionpool").addFilter(_mask_urls)


def unasked(connected: Any) -> bytes | None:
    """Return what has come on a connection from which nobody expects anything.

    b"" is its end, None nothing: TLS may have had words of its own with us. The connection's timeout is gone.
    """
    connected.settimeout(0)
    try:
        return bytes(connected.recv(16))
    except (BlockingIOError, ssl.SSLWantReadError):
        return None
    except OSError:
        return b""


class Watched:
    """Tell the wait which connection it has come to; no other place knows it before the head is there."""

    response_class: Any = Answer
    served = False  # an answer before this one
    sock: Any
    trust: Trust
    _lookout: Lookout | None = None  # none where TLS, inside of TLS, holds what has come
    _pending: Any = None  # of TLS: how much of it is deciphered

    @property
    def is_connected(self) -> bool:
        """Whether another request can be sent: urllib3 looks before it takes a kept connection."""
        return self.sock is not None and not self._has_come()

    def _has_come(self) -> bool:
        """Return whether anything has come on a connection that owes nothing: an answer, or its end."""
        # A look costs a quarter of a read in vain; what TLS has deciphered already, it does not see.
        if self._lookout and not self._lookout.sees() and not (self._pending and self._pending()):
            return False
        found = unasked(self.sock)
        if found:
            self.distrust(found)
        return found is not None

    def distrust(self, surplus: bytes) -> None:
        """Close a connection on which something came that nobody had asked for."""
        self.close()  # type: ignore[attr-defined]
        self.trust.judge(surplus)

    def connect(self) -> None:
        self.served = False
        super().connect()  # type: ignore[misc]
        if isinstance(self.sock, socket.socket):
            self._lookout, self._pending = Lookout(self.sock), getattr(self.sock, "pending", None)
        self._tell()

    def send(self, data: Any) -> None:
        """Send a part of a request, of which the last is not sent where anything has come in the meantime."""
        wait = present.wait
        if wait is None or self.sock is None:
            super().send(data)  # type: ignore[misc]
            return
        for start in range(0, len(data), SEND_SIZE):
            if self.served and self._has_come():
                raise StaleConnection(UNASKED)
            left = wait.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if not is_about(left, self.sock.gettimeout()):
                self.sock.settimeout(left)
            super().send(data[start : start + SEND_SIZE])  # type: ignore[misc]

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            self._tell()
        super().request(*args, **kwargs)  # type: ignore[misc]

    def getresponse(self) -> Any:
        response = super().getresponse()  # type: ignore[misc]
        self.served = True
        return response

    def _tell(self) -> None:
        if (wait := present.wait) is not None:
            wait.socket, wait.connection = self.sock, self
            wait.reused, wait.deadline = self.served, wait.read_deadline
            wait.cancellation.attach(functools.partial(shut_down, self.sock))


class PlainConnection(Watched, HTTPConnection):
    pass


class SecureConnection(Watched, HTTPSConnection):
    _door: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        if (wait := present.wait) is not None:
            # The handshake takes the descriptor from this object; a copy shuts the same connection down.
            self._door = connected.dup()
            wait.cancellation.attach(functools.partial(shut_down, self._door))
        return connected

    def connect(self) -> None:
        try:
            super().connect()
        finally:
            if self._door is not None:
                self._door.close()
