"""How a call is ended from another thread while it waits."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress


class Cancellation:
    """Refuse a call's further waits and break the present one."""

    __slots__ = ("_break", "_lock", "_wake", "cancelled")

    def __init__(self) -> None:
        self.cancelled = False  # whether cancel() was called
        # Reentrant: the garbage collector may close a stream in the middle of attach().
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
        """Sleep, but no longer than until the call is cancelled."""
        woken = threading.Event()
        self.attach(woken.set)
        woken.wait(seconds)
        self.attach(None)

    def attach(self, break_wait: Callable[[], None] | None) -> None:
        """Set what breaks the wait that follows; it is called at once if the call is cancelled already."""
        with self._lock:
            self._break = break_wait
            if break_wait is not None and self.cancelled:
                break_wait()

    def tell(self, wake: Callable[[], None]) -> None:
        """Set what wakes whoever waits for the waiting thread; see attach()."""
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
