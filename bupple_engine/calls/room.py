"""How far one thread may run ahead of another."""

from __future__ import annotations

import threading
import time


class Room:
    """How far one thread may run ahead of another that reads: put() is the one's, take() the other's.

    Each side has a count of its own, so that neither needs a lock.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._put = self._taken = 0
        self._changed = threading.Event()
        self._unbounded = False

    def put(self, size: int) -> None:
        """Note what the reader has to take."""
        self._put += size

    def take(self, size: int) -> None:
        """Note what the reader has taken."""
        self._taken += size
        if not self._changed.is_set():
            self._changed.set()

    def lift(self) -> None:
        """Have nobody wait for room any more; safe to call from any thread."""
        self._unbounded = True
        self._changed.set()

    def wait(self, seconds: float) -> bool:
        """Wait until there is room; False where there is none after so many seconds."""
        deadline = None
        while self._put - self._taken > self._size and not self._unbounded:
            now = time.monotonic()
            deadline = deadline or now + seconds
            if now >= deadline:
                return False
            self._changed.clear()
            if self._put - self._taken > self._size and not self._unbounded:  # it may have changed before
                self._changed.wait(deadline - now)
        return True
