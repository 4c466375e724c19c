"""The transports of a process: made at the first call that needs one, after a fork anew.

Neither requests nor aiohttp is imported before its first client is built: together they take longer than
all of Django's start.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import re
import select
import ssl
import sys
import threading
from collections.abc import Callable, Collection
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django.core.exceptions import ImproperlyConfigured

from bupple_engine import process
from bupple_engine.masking import Hidden, SecretURL
from bupple_engine.protocol.options import Options

if TYPE_CHECKING:
    from .aio import AsyncTransport
    from .blocking import BlockingTransport

T = TypeVar("T")

logger = logging.getLogger("bupple_engine")

# A head of status 1xx that is none of the answer's: 103 Early Hints, 102 Processing. None sends a hundred.
MAX_INFORMATIONAL = 100
UNASKED = "Something came on a kept connection from which nothing was owed"

_lock = threading.Lock()
_transports: dict[tuple[str, SecretURL | None, str | None], Any] = {}
_forked: list[Any] = []


def blocking_transport(options: Options) -> BlockingTransport:
    """Return the process's transport for synchronous calls with these options."""
    return _get("blocking", _blocking_class, options)


def async_transport(options: Options) -> AsyncTransport:
    """Return the process's transport for asynchronous calls with these options."""
    return _get("async", _async_class, options)


def _blocking_class() -> type[BlockingTransport]:
    from .blocking import BlockingTransport

    return BlockingTransport


def _async_class() -> type[AsyncTransport]:
    from .aio import AsyncTransport

    return AsyncTransport


@cache
def has_aiohttp() -> bool:
    """Tell whether the extra `async` is installed."""
    return importlib.util.find_spec("aiohttp") is not None


@process.after_change
def close_transports() -> None:
    """Close every pooled connection of the process; the next call opens new ones."""
    with _lock:
        transports = list(_transports.values())
        _transports.clear()
    for transport in transports:
        transport.close()


def _get(kind: str, load: Callable[[], Callable[[SecretURL | None, str | None], T]], options: Options) -> T:
    proxy, ca_file = options.get("proxy"), options.get("ca_file")
    key = (kind, proxy, ca_file)
    transport: T | None = _transports.get(key)
    if transport is None:
        with _lock:
            transport = _transports.get(key)
            if transport is None:
                transport = _transports[key] = load()(proxy, ca_file)
    return transport


class StaleConnection(ConnectionError):
    """A kept connection that can't take a request any more; nothing that matters has been sent on it."""


class Lookout:
    """Look whether anything has come on a socket, its end among it, without waiting or reading.

    Each call looks several times: what it looks with is kept as long as the connection is.
    """

    __slots__ = ("_look",)

    def __init__(self, connected: Any) -> None:
        descriptor = connected.fileno()
        self._look: Callable[[], Any]
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            self._look = functools.partial(poll.poll, 0)
        else:  # Windows
            self._look = lambda: select.select([descriptor], [], [], 0)[0]

    def sees(self) -> bool:
        """Tell whether a read would not have to wait."""
        return bool(self._look())


class Trust:
    """Whether a server's connections are kept: no more, once it has sent what nobody had asked for.

    What it sends between our look at a connection and our request on it can't be told from the answer.
    """

    __slots__ = ("_host", "lost")

    def __init__(self, host: str) -> None:
        self._host = host
        self.lost = False

    def judge(self, unasked: bytes) -> None:
        """Take note of what came on a connection from which nothing was owed."""
        # By a 408 servers say that they close what was idle; some end each answer with a line end too many.
        if self.lost or b"408" in unasked[:16] or not unasked.strip(b"\r\n"):
            return
        self.lost = True
        logger.warning(
            "%s sent what nobody had asked for on a kept connection. From now on none of its connections is"
            " kept, so that no caller is given another's answer.",
            self._host,
        )


# What is no compression may stand in a header Content-Encoding by mistake, such as "utf-8".
_COMPRESSION = re.compile(r"gzip|deflate|compress|\b(br|zstd|dcb|dcz|lz4|xz|bzip2|snappy)\b")


def refused_coding(coding: str | None, known: Collection[str]) -> str:
    """Return what is wrong with a header Content-Encoding that can't be taken off, else ""."""
    found = (coding or "").strip().lower()
    if found in known or not _COMPRESSION.search(found):
        return ""
    return f"it is encoded as {found[:20]!r}, which nobody asked for"


def find_proxy(own: SecretURL | None, url: str, *, socks: bool) -> SecretURL | None:
    """Return the entry's proxy, else the one that the environment names, as requests reads it."""
    from requests.utils import get_environ_proxies, select_proxy

    named = own.reveal() if own is not None else select_proxy(url, get_environ_proxies(url))
    if not named:
        return None
    # Not as requests does it, which takes the user of `user:password@host` for a scheme.
    proxy = SecretURL(named if "://" in named else f"http://{named}")
    scheme = proxy.reveal().partition(":")[0].lower()
    if scheme not in ("http", "https") and not (socks and scheme.startswith("socks")):
        raise ImproperlyConfigured(
            f"The proxy {proxy} can't be used: its URL may begin with http:// and https://, and with socks5://"
            ' in synchronous calls where PySocks is installed (pip install "requests[socks]").'
        )
    return proxy


ENVIRONMENT = (
    *(
        name
        for upper in ("HTTP", "HTTPS", "ALL", "NO")
        for name in (f"{upper}_PROXY", f"{upper.lower()}_proxy")
    ),
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)


_get_variable: Callable[[Any], str | bytes | None] = os.environ.get
_names: tuple[str | bytes, ...] = ENVIRONMENT
if sys.platform != "win32":
    # Each call compares them. os.environ raises and catches two KeyErrors for each that is not set: ten times
    # what the dict below it takes.
    _get_variable = getattr(os.environb, "_data", os.environb).get
    _names = tuple(map(os.fsencode, ENVIRONMENT))


class Routes(Generic[T]):
    """Keep what a transport finds out of an origin: the proxy and the CA bundle of the environment."""

    def __init__(self, find: Callable[[str], T]) -> None:
        self._find = find
        self._found: dict[Hidden, T] = {}

    def get(self, url: str) -> T:
        """Return the route to a URL; it is found anew where the environment has changed."""
        # A report of errors prints what a frame holds, and a proxy of the environment has credentials.
        key = Hidden(("/".join(url.split("/", 3)[:3]), *map(_get_variable, _names)))
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._find(url)
        return found


def ca_bundle() -> str:
    """Return the CA bundle that requests would use: the environment's, else certifi's."""
    import certifi

    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or certifi.where()


@cache
def tls_context(path: str) -> ssl.SSLContext:
    """Return the one TLS context of both transports for a CA file or folder; certificates are verified."""
    try:
        if os.path.isdir(path):
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except OSError as error:
        raise ImproperlyConfigured(
            f"The CA file {path!r} can't be read: {error}. It is named by CA_FILE or by REQUESTS_CA_BUNDLE."
        ) from None


@process.after_fork
def _after_fork() -> None:
    """Leave the parent's conversations alone, and begin our own."""
    global _lock
    _lock = threading.Lock()
    _forked.append(dict(_transports))
    for transport in _transports.values():
        transport.forget()
    _transports.clear()
