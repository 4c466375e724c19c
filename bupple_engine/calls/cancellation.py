"""How a call is ended from another thread while it waits."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress


class Cancellation:
    """Close the door to a call's new waits and break its present one."""

    __slots__ = ("_break", "_event", "_lock")

    def __init__(self) -> None:
        self._event = threading.Event()
        # Reentrant: the collector may drop, and so close, a stream in the midst of attach().
        self._lock = threading.RLock()
        self._break: Callable[[], None] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether cancel() was called."""
        return self._event.is_set()

    def cancel(self) -> None:
        """End the call: a blocked read returns, and the provider sees the connection close."""
        with self._lock:
            self._event.set()
            if self._break is not None:
                self._break()

    def wait(self, seconds: float) -> None:
        """Sleep, or less where the call is cancelled meanwhile."""
        self._event.wait(seconds)

    def attach(self, break_wait: Callable[[], None] | None) -> None:
        """Say what breaks the wait that follows; it is called at once where the call is cancelled already."""
        with self._lock:
            self._break = break_wait
            if break_wait is not None and self._event.is_set():
                break_wait()


def shut_down(connected: socket.socket) -> None:
    """Wake whoever uses a socket and tell the other side, without closing the descriptor."""
    with suppress(OSError):  # closed already
        # Not SSLSocket.shutdown, which would take the TLS layer from under a reader. Behind a proxy with TLS,
        # urllib3's layer is no socket but has one.
        socket.socket.shutdown(getattr(connected, "socket", connected), socket.SHUT_RDWR)
