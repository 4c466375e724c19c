"""Who streams at the same time: places that streams take, and that free themselves where a worker dies."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable

from django.core.cache import cache

from bupple_engine.conf import APISettings
from bupple_engine.http.problems import Problem, ProblemError
from bupple_engine.http.release import release_connections

logger = logging.getLogger("bupple_engine")

# A place is leased, and the lease renewed, so that a dead worker's places are free again after LEASE.
LEASE_SECONDS = 60
RENEWAL_SECONDS = 20
RETRY_SECONDS = 5

_lock = threading.Lock()
_streams = 0
_leases: dict[str, str] = {}
_renewer: threading.Thread | None = None


def take(caller: str, api: APISettings) -> Callable[[], None]:
    """Take a place of the caller's and one of the process's; return what gives them back.

    Raises a ProblemError: 429 where the caller has MAX_CONCURRENT_STREAMS['user'] open, in all workers that
    share the cache; 503 where this process has MAX_CONCURRENT_STREAMS['process'].
    """
    global _streams
    limits = api.max_concurrent_streams
    with _lock:
        if limits["process"] is not None and _streams >= limits["process"]:
            raise _refusal(503, "ServerBusy", "This server has as many streams as it may. Try again later.")
        _streams += 1
    try:
        lease = _lease(caller, limits["user"])
    except BaseException:
        _give_back(None)
        raise
    return lambda: _give_back(lease)


def _lease(caller: str, limit: int | None) -> str | None:
    if limit is None:
        return None
    token = secrets.token_hex(8)
    for number in range(limit):
        key = f"bupple_engine:stream:{caller}:{number}"
        if cache.add(key, token, timeout=LEASE_SECONDS):
            with _lock:
                _leases[key] = token
                _start_renewer()
            return key
    raise _refusal(429, "TooManyStreams", f"You have {limit} streams open, and may have no more at a time.")


def _give_back(lease: str | None) -> None:
    global _streams
    with _lock:
        _streams -= 1
        token = _leases.pop(lease, None) if lease is not None else None
    if lease is not None and cache.get(lease) == token:
        cache.delete(lease)


def _refusal(status: int, type: str, message: str) -> ProblemError:
    return ProblemError(Problem(status, type, message, retry_after=RETRY_SECONDS, retryable=True))


def _start_renewer() -> None:
    global _renewer
    if _renewer is None:
        _renewer = threading.Thread(target=_renew, name="bupple_engine leases", daemon=True)
        _renewer.start()


def _renew() -> None:
    """Renew the leases of this process's streams, until there are none."""
    global _renewer
    while True:
        time.sleep(RENEWAL_SECONDS)
        with _lock:
            if not _leases:
                _renewer = None
                return
            leases = dict(_leases)
        try:
            for key, token in leases.items():
                if not cache.touch(key, LEASE_SECONDS) and key in _leases:
                    cache.add(key, token, timeout=LEASE_SECONDS)
        except Exception:
            logger.exception("The places of open streams could not be renewed in the cache")
        finally:
            release_connections()  # the cache may be a database


def _after_fork() -> None:
    global _lock, _streams, _renewer
    _lock, _streams, _renewer = threading.Lock(), 0, None
    _leases.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
