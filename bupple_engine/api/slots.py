"""Who is answered at the same time: places, which free themselves where a worker dies."""

from __future__ import annotations

import logging
import secrets
import threading
import time

from django.core.cache import cache

from bupple_engine import process
from bupple_engine.calls import threads
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
_leases: dict[str, str] = {}  # key → the token of the stream that has it
_renewer: threading.Thread | None = None


class Place:
    """An answer's place among those of its caller, in all workers that share the cache, and of its process.

    Streams take one, and whole answers under WSGI, which hold a thread.
    """

    def __init__(self, caller: str, api: APISettings) -> None:
        self._caller = caller
        self._limits = api.max_concurrent_streams
        self._token = secrets.token_hex(8)
        self._counted = self._over = False
        self._lease: str | None = None

    def take(self) -> None:
        """Take the place.

        Raises a ProblemError: 429 where the caller has MAX_CONCURRENT_STREAMS['user'] open, 503 where this
        process has MAX_CONCURRENT_STREAMS['process'].
        """
        global _streams
        limit = self._limits["process"]
        with _lock:
            if self._over:
                return  # whoever wanted the place has left meanwhile
            if limit is not None and _streams >= limit:
                raise _refusal(
                    503, "ServerBusy", "This server gives as many answers as it may. Try again later."
                )
            _streams += 1
            self._counted = True
        try:
            self._take_lease(self._limits["user"])
        except BaseException:
            self.give_back()
            raise

    def _take_lease(self, limit: int | None) -> None:
        if limit is None:
            return
        for number in range(limit):
            key = f"bupple_engine:stream:{self._caller}:{number}"
            if cache.add(key, self._token, timeout=LEASE_SECONDS):
                with _lock:
                    if not self._over:
                        self._lease = key
                        _leases[key] = self._token
                        _start_renewer()
                        return
                cache.delete(key)  # whoever wanted the place has left meanwhile
                return
        raise _refusal(
            429, "TooManyStreams", f"You have {limit} answers under way, and may have no more at a time."
        )

    def give_back(self) -> None:
        """Free the place; safe to call from any thread, more than once, and while it is being taken."""
        global _streams
        with _lock:
            self._over = True
            if self._counted:
                self._counted = False
                _streams -= 1
            lease, self._lease = self._lease, None
            if lease is not None and _leases.get(lease) == self._token:
                del _leases[lease]
        if lease is not None and cache.get(lease) == self._token:
            cache.delete(lease)

    def abandon(self) -> None:
        """Free the place in another thread: the cache may be slow, and who calls is being cancelled."""

        def free() -> None:
            try:
                self.give_back()
            finally:
                release_connections()  # the cache may be a database

        threads.submit(free)


def renew() -> None:
    """Prolong the leases of this process's streams."""
    with _lock:
        leases = dict(_leases)
    for key, token in leases.items():
        if not cache.touch(key, LEASE_SECONDS) and key in _leases:
            cache.add(key, token, timeout=LEASE_SECONDS)


def _refusal(status: int, type: str, message: str) -> ProblemError:
    return ProblemError(Problem(status, type, message, retry_after=RETRY_SECONDS, retryable=True))


def _start_renewer() -> None:
    global _renewer
    if _renewer is None:
        _renewer = threading.Thread(target=_run_renewer, name="bupple_engine leases", daemon=True)
        _renewer.start()


def _run_renewer() -> None:
    global _renewer
    while True:
        time.sleep(RENEWAL_SECONDS)
        with _lock:
            if not _leases:
                _renewer = None
                return
        try:
            renew()
        except Exception:  # of whichever cache the site has; the next renewal may succeed
            logger.exception("The places of open streams could not be renewed in the cache")
        finally:
            release_connections()


@process.after_fork
def _after_fork() -> None:
    global _lock, _streams, _renewer
    _lock, _streams, _renewer = threading.Lock(), 0, None
    _leases.clear()
