"""The threads of a process for work that may block: how many, what they do, and what follows a fork."""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue

from bupple_engine import process

logger = logging.getLogger("bupple_engine")

MAX_THREADS = 500

DROPPED_SECONDS = 0.1  # how long the thread that ends dropped calls waits for another

_lock = threading.Lock()
_executor: ThreadPoolExecutor | None = None
_max_threads: Callable[[], int] | None = None


def limit_threads(count: Callable[[], int]) -> None:
    """Set the number of threads to what count() returns when the first of them is needed."""
    global _max_threads
    _max_threads = count


def get_executor() -> ThreadPoolExecutor:
    global _executor
    with _lock:
        if _executor is None:
            _executor = ThreadPoolExecutor(
                _max_threads() if _max_threads else MAX_THREADS, thread_name_prefix="bupple_engine"
            )
        return _executor


@process.after_change
def reset() -> None:
    """Forget the threads: their number may have changed."""
    global _executor, _lock
    _lock = threading.Lock()
    executor, _executor = _executor, None
    if executor is not None:
        executor.shutdown(wait=False)


@process.after_fork
def _after_fork() -> None:
    global _executor, _lock
    _lock = threading.Lock()
    _executor = None


def submit(work: Callable[[], object]) -> None:
    """Do work in a thread, without waiting for it."""
    try:
        get_executor().submit(contextvars.copy_context().run, work)
    except RuntimeError:
        work()  # the interpreter ends, and takes no more work


_dropped: SimpleQueue[Callable[[], object]] = SimpleQueue()
_drain: threading.Thread | None = None


def leave(work: Callable[[], object]) -> None:
    """Do in a thread what the garbage collector must not: it may be inside anything, such as a held lock.

    For the same reason it takes no lock here; a SimpleQueue's put() may interrupt itself.
    """
    global _drain
    _dropped.put(work)
    if _drain is None and not sys.is_finalizing():  # when the start of a thread would never return
        _drain = threading.Thread(target=_drain_dropped, name="bupple_engine end", daemon=True)
        try:
            _drain.start()
        except RuntimeError:  # the interpreter ends
            _drain = None


def _do(work: Callable[[], object]) -> None:
    try:
        work()
    except Exception:  # of a site's receiver or driver: the next in the queue is still to be ended
        logger.exception("Ending a stream that nobody closed failed")


@process.at_exit
def _do_dropped() -> None:
    with suppress(Empty):
        while True:
            _do(_dropped.get_nowait())


def _drain_dropped() -> None:
    global _drain
    with suppress(Empty):
        while True:
            _do(_dropped.get(timeout=DROPPED_SECONDS))
    _drain = None
    _do_dropped()  # what came before leave() could see that


@process.after_fork
def _forget_dropped() -> None:
    global _drain, _dropped
    _drain, _dropped = None, SimpleQueue()
