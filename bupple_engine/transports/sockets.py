"""urllib3's connections, watched: a call can break any wait of theirs, and its clocks hold for the whole."""

from __future__ import annotations

import functools
import http.client
import logging
import socket
import ssl
import threading
import time
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from bupple_engine.cancellation import Cancellation, shut_down
from bupple_engine.masking import mask_url

from . import tls_context
from .chunked import Dechunker

READ_SIZE = 65_536


def _mask_urls(record: logging.LogRecord) -> bool:
    """Mask what urllib3 logs of a URL, whose query may have a key."""
    if isinstance(record.args, tuple):
        record.args = tuple(mask_url(arg) if isinstance(arg, str) else arg for arg in record.args)
    return True


logging.getLogger("urllib3.connectionpool").addFilter(_mask_urls)

# More than the threads of any one process: a connection beyond it is closed after use, not refused.
POOL_SIZE = 500


class Wait:
    """What a thread waits for: whose call it is, how long, and the connection that it has come to."""

    __slots__ = ("cancellation", "clock", "deadline", "fresh", "read_deadline", "reused", "socket")

    def __init__(self, cancellation: Cancellation, connect: float, read: float) -> None:
        now = time.monotonic()
        self.cancellation = cancellation
        self.deadline = now + min(connect, read)
        self.read_deadline = now + read
        self.socket: Any = None  # set once it is connected, through its proxy and its handshake
        self.clock: Clocked | None = None
        self.reused = False
        self.fresh = False  # set: no connection that has served before

    def is_stale(self, error: BaseException) -> bool:
        """Tell whether the other side had closed a kept connection, so that the request was never tried."""
        causes = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
        return self.reused and not self.fresh and isinstance(cause_of(error), causes)


def cause_of(error: BaseException) -> BaseException:
    """Return the error inside the errors that urllib3 lays around one."""
    exceptions = urllib3.exceptions
    while isinstance(error, exceptions.ProxyError | exceptions.ProtocolError | exceptions.SSLError):
        inner = next((arg for arg in reversed(error.args) if isinstance(arg, BaseException)), None)
        if inner is None:
            break
        error = inner
    return error


class _Present(threading.local):
    wait: Wait | None = None


# urllib3 has no argument for it: what a thread calls, and what is called back here, is the same wait.
present = _Present()


class Clocked(socket.SocketIO):
    """Read until a deadline: a socket's own timeout would begin anew with each byte."""

    _sock: Any
    deadline = 0.0
    _seconds = 0.0

    def readinto(self, buffer: Any) -> int | None:
        seconds = max(self.deadline - time.monotonic(), 0.001)
        # A deadline that moves on with each read is the same but for a hundredth: a system call is saved.
        if not 0.99 * seconds < self._seconds < 1.01 * seconds:
            self._seconds = seconds
            self._sock.settimeout(seconds)
        return super().readinto(buffer)


class _Answer(http.client.HTTPResponse):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if (wait := present.wait) is not None:
            clock: Any = self.fp.raw
            clock.__class__ = Clocked
            clock.deadline = wait.deadline
            wait.clock = clock
        self._dechunker = Dechunker()

    def read1(self, n: int = -1) -> bytes:
        """Return the data of all the chunks that have arrived, after one wait at the most.

        http.client's own hands over one chunk a call, and so one event of a stream: half the time of reading
        it would go by in between.
        """
        if self.fp is None or not self.chunked:
            return super().read1(n)
        while True:
            piece = self.fp.read1(READ_SIZE)
            if not piece:
                self.close()
                raise http.client.IncompleteRead(b"")
            data = self._dechunker.feed(piece)
            if self._dechunker.ended:
                self.close()
                return data
            if data:
                return data


class _Watched:
    """Tell the wait which connection it has come to; no other place knows it before the head is there."""

    response_class: Any = _Answer
    served = False  # an answer before this one
    sock: Any

    def connect(self) -> None:
        self.served = False
        super().connect()  # type: ignore[misc]
        self._tell()

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            self._tell()
        super().request(*args, **kwargs)  # type: ignore[misc]

    def getresponse(self) -> Any:
        response = super().getresponse()  # type: ignore[misc]
        self.served = True
        return response

    def _tell(self) -> None:
        if (wait := present.wait) is not None:
            wait.socket, wait.reused, wait.deadline = self.sock, self.served, wait.read_deadline
            # urllib3 would give a long body no longer than the connect clock.
            self.sock.settimeout(max(wait.deadline - time.monotonic(), 0.001))
            wait.cancellation.attach(functools.partial(shut_down, self.sock))


class _HTTPConnection(_Watched, HTTPConnection):
    pass


class _HTTPSConnection(_Watched, HTTPSConnection):
    _door: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        if (wait := present.wait) is not None:
            # The handshake takes the descriptor from this object; a copy shuts the same connection down.
            self._door = connected.dup()
            wait.cancellation.attach(functools.partial(shut_down, self._door))
        return connected

    def connect(self) -> None:
        try:
            super().connect()
        finally:
            if self._door is not None:
                self._door.close()


class _Fresh:
    """Give a new connection where the wait asks for one."""

    def _get_conn(self, *args: Any, **kwargs: Any) -> Any:
        connection: Any = super()._get_conn(*args, **kwargs)  # type: ignore[misc]
        if present.wait is not None and present.wait.fresh:
            connection.close()
        return connection


class _HTTPPool(_Fresh, urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(_Fresh, urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class Adapter(HTTPAdapter):
    """requests' adapter with our pools and one TLS context a CA bundle."""

    def __init__(self, ca_path: str) -> None:
        self.ca_path = ca_path  # "" where nothing is spoken to through TLS
        super().__init__(pool_connections=50, pool_maxsize=POOL_SIZE)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if proxy.lower().startswith("https"):
            kwargs["proxy_ssl_context"] = tls_context(self.ca_path)
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
        if self.ca_path:
            pool["ssl_context"] = tls_context(self.ca_path)
        return host, pool
