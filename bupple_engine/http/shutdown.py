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
    """Something that can be ended with an error, from any thread."""

    def end(self, error: Exception) -> None: ...


_open: WeakSet[Ending] = WeakSet()
_lock = threading.Lock()
_told: SimpleQueue[None] = SimpleQueue()
_watcher: threading.Thread | None = None
_ours: set[Callable[..., Any]] = set()


def end_streams_at_shutdown() -> None:
    """Make the signals that stop this process end its open streams, SHUTDOWN_SECONDS after they arrive.

    Call it in the main thread once the server has installed its own handlers, which still run. Under ASGI the
    first stream calls it; under gunicorn's threads call it in wsgi.py, or with preload_app in
    post_worker_init. It does nothing where a signal ends the process at once, or in a thread other than the
    main one, such as runserver's reloader.
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
    """Have a stream ended when the process is."""
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
    """Wait for the signal, and end the streams; one that is opened later starts another watcher."""
    global _watcher
    _told.get()
    try:
        time.sleep(conf.api_settings().shutdown_seconds)
    except ImproperlyConfigured:
        logger.exception("SHUTDOWN_SECONDS can't be read, so the open streams end at once")
    with _lock:
        streams = list(_open)
        _watcher = None
    for stream in streams:
        try:
            stream.end(ShuttingDownError("The server is stopping."))
        except Exception:  # from the site's own chunks, whose close() fails
            logger.exception("A stream could not be ended")


@process.after_fork
def _after_fork() -> None:
    global _lock, _told, _watcher
    _lock, _told, _watcher = threading.Lock(), SimpleQueue(), None
    _open.clear()
