"""How a call is ended from another thread while it waits."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress


class Cancellation:
    """Close the door to a call's new waits and break its present one."""

    __slots__ = ("_break", "_lock", "_wake", "cancelled")

    def __init__(self) -> None:
        self.cancelled = False  # whether cancel() was called
        # Reentrant: the collector may drop, and so close, a stream in the midst of attach().
        self._lock = threading.RLock()
        self._break: Callable[[], None] | None = None
        self._wake: Callable[[], None] | None = None

    def cancel(self) -> None:
        """End the call: a blocked read returns, and the provider sees the connection close."""
        with self._lock:
            self.cancelled = True
            for work in (self._break, self._wake):
                if work is not None:
                    work()

    def wait(self, seconds: float) -> None:
        """Sleep, or less where the call is cancelled meanwhile."""
        woken = threading.Event()
        self.attach(woken.set)
        woken.wait(seconds)
        self.attach(None)

    def attach(self, break_wait: Callable[[], None] | None) -> None:
        """Say what breaks the wait that follows; it is called at once where the call is cancelled already."""
        with self._lock:
            self._break = break_wait
            if break_wait is not None and self.cancelled:
                break_wait()

    def tell(self, wake: Callable[[], None]) -> None:
        """Say what wakes whoever waits for the thread that waits; see attach()."""
        with self._lock:
            self._wake = wake
            if self.cancelled:
                wake()


def shut_down(connected: socket.socket) -> None:
    """Wake whoever uses a socket and tell the other side, without closing the descriptor."""
    with suppress(OSError):  # closed already
        # Not SSLSocket.shutdown, which would take the TLS layer from under a reader. Behind a proxy with TLS,
        # urllib3's layer is no socket but has one.
        socket.socket.shutdown(getattr(connected, "socket", connected), socket.SHUT_RDWR)
