"""The synchronous transport: requests' pools and proxies, urllib3's responses, no session.

A session would add cookies shared between users, netrc over the key, and redirects that carry it away.
"""

from __future__ import annotations

import functools
import socket
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection

from bupple_engine.cancellation import Cancellation, shut_down
from bupple_engine.exchange import TransportFailure
from bupple_engine.wire import Request

from . import ca_bundle, environment_key, environment_proxy, tls_context

# More than the threads of any one process: a connection beyond it is closed after use, not refused.
POOL_SIZE = 500
READ_SIZE = 65_536
DRAIN_BYTES = 65_536


class _Wait(threading.local):
    """The wait that this thread is in: which call it is for, and the socket it has come to."""

    cancellation: Cancellation | None = None
    socket: socket.socket | None = None
    reused = False


_present = _Wait()


class _Attaching:
    """Tell the call which socket its answer will come from, which none else knows before the head."""

    used = False
    sock: Any

    def getresponse(self) -> Any:
        if _present.cancellation is not None:
            _present.reused, _present.socket = self.used, self.sock
            _present.cancellation.attach(functools.partial(shut_down, self.sock))
        self.used = True
        return super().getresponse()  # type: ignore[misc]


class _HTTPConnection(_Attaching, HTTPConnection):
    pass


class _HTTPSConnection(_Attaching, HTTPSConnection):
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _Adapter(HTTPAdapter):
    """requests' adapter with our pools and one TLS context a CA bundle."""

    def __init__(self, ca_path: str) -> None:
        self.ca_path = ca_path
        super().__init__(pool_connections=50, pool_maxsize=POOL_SIZE)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        host: Any
        pool: Any
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        pool.pop("ca_certs", None)
        if host["scheme"] == "https":
            pool["ssl_context"] = tls_context(self.ca_path)
        return host, pool


class BlockingTransport:
    """One process's connections for one proxy and CA setting, shared by all its threads."""

    def __init__(self, proxy: str, ca_file: str | None) -> None:
        self._proxy = proxy
        self._ca_file = ca_file
        self._lock = threading.Lock()
        self._adapters: dict[str, _Adapter] = {}
        self._routes: dict[tuple[str | None, ...], tuple[_Adapter, dict[str, str]]] = {}

    def open(self, request: Request, connect: float, read: float, cancellation: Cancellation) -> Response:
        """Send a request and return its answer once the head is there; the clocks are in seconds."""
        failure: TransportFailure | None = None
        try:
            adapter, proxies = self._route(request.url)
            prepared = _prepare(request)
            pool: Any = adapter.get_connection_with_tls_context(prepared, True, proxies=proxies)
            _present.cancellation, _present.reused = cancellation, False
            try:
                raw = pool.urlopen(
                    "POST",
                    adapter.request_url(prepared, proxies),
                    body=request.body,
                    headers=prepared.headers,
                    redirect=False,
                    retries=False,
                    assert_same_host=False,
                    preload_content=False,
                    decode_content=False,
                    timeout=urllib3.Timeout(connect=connect, read=read),
                )
            finally:
                _present.cancellation = None
            return Response(raw, cancellation, _present.socket)
        except (urllib3.exceptions.HTTPError, requests.RequestException, OSError, ValueError) as error:
            failure = _translate(error, _present.reused)
        # Raised out here, it has no context: the library's frames hold the headers, and so the key.
        raise failure

    def _route(self, url: str) -> tuple[_Adapter, dict[str, str]]:
        """Return the adapter and the proxies for a URL; the environment is read anew where it changed."""
        key = environment_key("/".join(url.split("/", 3)[:3]))
        route = self._routes.get(key)
        if route is None:
            path = self._ca_file or (ca_bundle() if url.startswith("https:") else "")
            proxy = self._proxy or environment_proxy(url)
            with self._lock:
                adapter = self._adapters.get(path) or _Adapter(path)
                self._adapters[path] = adapter
            proxies = {url.partition(":")[0]: proxy} if proxy else {}
            route = self._routes[key] = (adapter, proxies)
        return route

    def close(self) -> None:
        """Close the idle connections."""
        for adapter in self._adapters.values():
            adapter.close()

    def forget(self) -> None:
        """Close the parent's idle connections after a fork: our descriptors go, nothing is sent."""
        self.close()


def _prepare(request: Request) -> requests.PreparedRequest:
    """Return what the adapter asks for its URL and proxies; a session's work on it would cost half a call."""
    prepared = requests.PreparedRequest()
    prepared.method = "POST"
    prepared.url = request.url
    prepared.headers = CaseInsensitiveDict(request.headers)
    prepared.body = request.body
    return prepared


class Response:
    """An answer whose body is read as it arrives."""

    def __init__(self, raw: Any, cancellation: Cancellation, connected: socket.socket | None) -> None:
        self._raw = raw
        self._cancellation = cancellation
        self._socket = connected
        self.status: int = raw.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in raw.headers.items()}

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._cancellation.attach(None)
        if not self._raw.closed:
            # The rest of the body is unread: the connection is of no more use.
            self._raw.close()
        self._raw.release_conn()

    def read(self, seconds: float) -> bytes:
        """Return what has arrived, waiting so long at most; b"" is the end."""
        failure: TransportFailure | None = None
        try:
            if self._socket is not None:
                self._socket.settimeout(seconds)
            return self._raw.read1(READ_SIZE, decode_content=True)  # type: ignore[no-any-return]
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            failure = _translate(error, reused=False)
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


def _translate(error: Exception, reused: bool) -> TransportFailure:
    """Return what happened in words that hold no header, no body and no credentials of a proxy."""
    cause: BaseException = error
    while isinstance(cause, urllib3.exceptions.ProxyError | urllib3.exceptions.ProtocolError):
        inner = next((arg for arg in reversed(cause.args) if isinstance(arg, BaseException)), None)
        if inner is None:
            break
        cause = inner
    exceptions = urllib3.exceptions
    through = " through the proxy" if isinstance(error, exceptions.ProxyError) else ""
    if isinstance(cause, exceptions.NewConnectionError | exceptions.NameResolutionError):
        reason = str(cause).partition(": ")[2] or str(cause)
        return TransportFailure(f"Could not connect{through}: {reason}", connected=False)
    if isinstance(cause, exceptions.ConnectTimeoutError):
        return TransportFailure(f"Could not connect{through} in time", timed_out=True, connected=False)
    if isinstance(cause, exceptions.ReadTimeoutError | TimeoutError):
        return TransportFailure("The provider sent nothing in time", timed_out=True)
    if isinstance(cause, exceptions.SSLError):
        return TransportFailure(f"TLS failed{through}: {cause}", connected=False)
    if isinstance(cause, requests.RequestException | exceptions.LocationValueError):
        return TransportFailure(f"The URL can't be used: {type(cause).__name__}", connected=False)
    if isinstance(cause, OSError | exceptions.HTTPError):
        stale = reused and isinstance(cause, ConnectionError)
        return TransportFailure(
            f"The connection broke{through}: {type(cause).__name__}: {cause}", stale=stale
        )
    return TransportFailure(f"The request can't be sent: {type(cause).__name__}", connected=False)
