"""End a server's open streams when it is asked to stop; otherwise it would wait for them."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol
from weakref import WeakSet

from django.core.exceptions import ImproperlyConfigured

from bupple_engine import conf, process

from .problems import ShuttingDownError

logger = logging.getLogger("bupple_engine")


class Ending(Protocol):
    """What can be ended with an error, from any thread."""

    def end(self, error: Exception) -> None: ...


_open: WeakSet[Ending] = WeakSet()
_lock = threading.Lock()
_told: SimpleQueue[None] = SimpleQueue()
_watcher: threading.Thread | None = None
_ours: set[Callable[..., Any]] = set()


def end_streams_at_shutdown() -> None:
    """Have the signals that end this process end its streams first, SHUTDOWN_SECONDS after them.

    Call it in the main thread once the server has set its own handlers, which are called too. Under ASGI
    the first stream does; under gunicorn's threads call it in wsgi.py, and with preload_app in
    post_worker_init. Where a signal ends the process at once, and in another thread, such as that of
    runserver's reloader, there is nothing to do.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    previous = signal.getsignal(signal.SIGTERM)
    if not callable(previous) or previous in _ours:
        return
    _ours.add(handler := _before(previous))
    # SIGINT too where it is the server's: asyncio.run has its own, and takes it back.
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) == previous:
            signal.signal(number, handler)


def _before(previous: Callable[..., Any]) -> Callable[..., Any]:
    def handle(number: int, frame: Any) -> None:
        _told.put(None)  # a SimpleQueue's put may interrupt any other code, even itself
        previous(number, frame)

    return handle


def register(stream: Ending) -> None:
    """Have a stream ended with the process."""
    global _watcher
    end_streams_at_shutdown()
    with _lock:
        _open.add(stream)
        if _ours and _watcher is None:
            _watcher = threading.Thread(target=_watch, name="bupple_engine shutdown", daemon=True)
            _watcher.start()


def unregister(stream: Ending) -> None:
    """Forget a stream that has ended."""
    with _lock:
        _open.discard(stream)


def _watch() -> None:
    """Wait for the signal, and end the streams; one that comes later begins another watch."""
    global _watcher
    _told.get()
    try:
        time.sleep(conf.api_settings().shutdown_seconds)
    except ImproperlyConfigured:
        logger.exception("SHUTDOWN_SECONDS can't be read, so the streams end at once")
    with _lock:
        streams = list(_open)
        _watcher = None
    for stream in streams:
        try:
            stream.end(ShuttingDownError("The server ends."))
        except Exception:  # of chunks of the site's own, whose close() fails
            logger.exception("A stream could not be ended")


@process.after_fork
def _after_fork() -> None:
    global _lock, _told, _watcher
    _lock, _told, _watcher = threading.Lock(), SimpleQueue(), None
    _open.clear()
