"""The synchronous transport: requests' pools and proxies, urllib3's responses, no session.

A session would add cookies shared between users, netrc over the key, and redirects that carry it away.
"""

from __future__ import annotations

import functools
import http.client
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import requests
import urllib3

from bupple_engine.masking import SecretURL, bare
from bupple_engine.protocol.request import Request

from .answers import READ_SIZE, Wait, cause_of, present
from .base import TransportFailure, Waiting
from .pools import Adapter
from .routes import Routes, ca_bundle, find_proxy
from .trust import UNASKED

DRAIN_BYTES = 65_536


class _Way:
    """How an origin is reached: through which proxy, over which pool of connections."""

    __slots__ = ("_pool", "adapter", "proxy")

    def __init__(self, adapter: Adapter, proxy: SecretURL | None) -> None:
        self.adapter = adapter
        self.proxy = proxy
        # Known since finding it takes as long as building a request. It stays the adapter's, which has the
        # latest fifty: a pool that nobody holds any more closes its connections.
        self._pool: weakref.ref[Any] | None = None

    def pool(self, request: requests.PreparedRequest, proxies: dict[str, str]) -> Any:
        """Return the pool of connections to the origin."""
        found = None if self._pool is None else self._pool()
        if found is None or found.pool is None:  # closed
            found = self.adapter.get_connection_with_tls_context(request, True, proxies=proxies)
            self._pool = weakref.ref(found)
        return found


class BlockingTransport:
    """One process's connections for one proxy and CA setting, shared by all its threads."""

    def __init__(self, proxy: SecretURL | None, ca_file: str | None) -> None:
        self._proxy = proxy
        self._ca_file = ca_file
        self._lock = threading.Lock()
        self._adapters: dict[str, Adapter] = {}
        self._routes = Routes(self._find_way)

    def open(self, request: Request, waiting: Waiting) -> BlockingResponse:
        """Send a request and return its answer once the head is there."""
        connect, read = waiting.connect, waiting.read
        present.wait = wait = Wait(waiting.cancellation, connect, read)
        try:
            try:
                raw = self._send(request, connect, read)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if not wait.is_stale(error):
                    raise
                wait.fresh = True
                raw = self._send(request, connect, read)
            if wait.is_doubtful:
                raw.close()
                raise ConnectionAbortedError(UNASKED)
            return BlockingResponse(raw, wait)
        except (urllib3.exceptions.HTTPError, requests.RequestException, OSError, ValueError) as error:
            failure = _translate(error, wait)
        except BaseException as error:
            # Such as a task queue raises from a signal when its time is over.
            raise bare(error) from None
        finally:
            present.wait = None
        # Raised out here, it has no context: the library's frames hold the headers, and so the key.
        raise failure

    def _send(self, request: Request, connect: float, read: float) -> Any:
        way = self._routes.get(request.url)
        proxies = {}
        if way.proxy is not None:
            request.secrets.add(way.proxy)
            proxies[request.url.partition(":")[0]] = way.proxy.reveal()
        # What the adapter asks for its URL and proxies; a session's work on it would cost half a call.
        prepared = requests.PreparedRequest()
        prepared.url = request.url
        return way.pool(prepared, proxies).urlopen(
            request.method,
            way.adapter.request_url(prepared, proxies),
            body=request.body or None,
            headers=request.headers,
            redirect=False,
            retries=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
            timeout=urllib3.Timeout(connect=connect, read=read),
        )

    def _find_way(self, url: str) -> _Way:
        proxy = find_proxy(self._proxy, url, socks=find_spec("socks") is not None)
        secure = url.startswith("https:") or (proxy is not None and proxy.reveal().startswith("https:"))
        path = (self._ca_file or ca_bundle()) if secure else ""
        with self._lock:
            adapter = self._adapters.get(path) or Adapter(path)
            self._adapters[path] = adapter
        return _Way(adapter, proxy)

    def close(self) -> None:
        """Close the idle connections."""
        for adapter in self._adapters.values():
            adapter.close()

    def forget(self) -> None:
        """Close the parent's idle connections after a fork: our descriptors go, nothing is sent."""
        self.close()


class BlockingResponse:
    """An answer whose body is read as it arrives."""

    def __init__(self, raw: Any, wait: Wait) -> None:
        self._raw = raw
        self._wait = wait
        answer: Any = wait.answer
        self._clock = answer.clock
        # urllib3's read costs as much again as the answer's own, a word at a time; it takes compression off.
        # It also gives the answer up where a wait has ended, so that there is no reading on.
        self.is_timed = "content-encoding" not in raw.headers
        self._read1: Callable[[int], bytes] = (
            answer.read1 if self.is_timed else functools.partial(raw.read1, decode_content=True)
        )
        self.status: int = raw.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in raw.headers.items()}

    def close(self) -> None:
        """End the connection, unless the body has been read to its end."""
        self._wait.cancellation.attach(None)
        if not self._raw.closed:
            # The rest of the body is unread: the connection is of no more use.
            self._raw.close()
        self._raw.release_conn()

    def read(self, seconds: float) -> bytes:
        """Return what has arrived, waiting so long at most; b"" is the end."""
        try:
            self._clock.deadline = time.monotonic() + seconds
            data = self._read1(READ_SIZE)
            if not data and self._wait.is_doubtful:
                raise ConnectionAbortedError(UNASKED)
            return data
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            failure = _translate(error, self._wait)
        self._raw.close()  # what a part of an answer was read from is never used again
        raise failure

    def poll(self, seconds: float) -> bytes | None:
        """Return what read() does, or None where nothing has arrived in time: it can be read on.

        Only an answer that is_timed is polled.
        """
        try:
            self._clock.deadline = time.monotonic() + seconds
            data = self._read1(READ_SIZE)
            if not data and self._wait.is_doubtful:
                raise ConnectionAbortedError(UNASKED)
            return data
        except TimeoutError:
            return None
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            failure = _translate(error, self._wait)
        self._raw.close()
        raise failure

    def drain(self, seconds: float) -> None:
        """Read on to the end of the body for so long at most, so that the connection can be used again."""
        deadline = time.monotonic() + seconds
        size = 0
        try:
            while (left := deadline - time.monotonic()) > 0 and size < DRAIN_BYTES:
                data = self.read(left)
                if not data:
                    return
                size += len(data)
        except TransportFailure:
            return


def _translate(error: Exception, wait: Wait) -> TransportFailure:
    """Return what happened in words that hold no header, no body and no credentials of a proxy."""
    exceptions = urllib3.exceptions
    cause = cause_of(error)
    through = " through the proxy" if isinstance(error, exceptions.ProxyError) else ""
    if isinstance(cause, exceptions.NewConnectionError | exceptions.NameResolutionError):
        reason = str(cause).partition(": ")[2] or str(cause)
        return TransportFailure(f"Could not connect{through}: {reason}", connected=False)
    if isinstance(cause, exceptions.TimeoutError | TimeoutError):
        if wait.socket is None:
            return TransportFailure(f"Could not connect{through} in time", timed_out=True, connected=False)
        return TransportFailure("The provider sent nothing in time", timed_out=True)
    if isinstance(cause, exceptions.SSLError | ssl.SSLError):
        return TransportFailure(f"TLS failed{through}: {cause}", connected=False)
    if isinstance(cause, requests.RequestException | exceptions.LocationValueError):
        return TransportFailure(f"The URL can't be used: {type(cause).__name__}", connected=False)
    if isinstance(cause, OSError | exceptions.HTTPError):
        return TransportFailure(f"The connection broke{through}: {type(cause).__name__}: {cause}")
    if isinstance(cause, http.client.IncompleteRead):
        return TransportFailure(f"The connection broke{through}: the answer was cut off")
    if isinstance(cause, http.client.HTTPException):
        # The words of its subclasses quote what came.
        words = str(cause) if type(cause) is http.client.HTTPException else type(cause).__name__
        return TransportFailure(f"The answer is no HTTP: {words}")
    return TransportFailure(f"The request can't be sent: {type(cause).__name__}", connected=False)
