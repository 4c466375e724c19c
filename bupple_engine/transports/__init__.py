"""The transports of a process: made at the first call that needs one, after a fork anew.

Neither requests nor aiohttp is imported before its first client is built: together they take longer than
all of Django's start.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from bupple_engine import process
from bupple_engine.calls.seams import Seam
from bupple_engine.masking import SecretURL
from bupple_engine.protocol.options import Options
from bupple_engine.protocol.request import Request

from .base import AsyncResponse, AsyncTransport, Response, Transport, Waiting

if TYPE_CHECKING:
    from .aio import AiohttpTransport
    from .blocking import BlockingTransport

T = TypeVar("T")

AnyTransport: TypeAlias = Transport | AsyncTransport

_lock = threading.Lock()
_transports: dict[tuple[str, SecretURL | None, str | None], Any] = {}
_forked: list[Any] = []
_seam: Seam[AnyTransport | None] = Seam(None)


def use_transport(transport: AnyTransport) -> AbstractContextManager[None]:
    """Have all calls that are made inside the block, in all threads and loops, go through a transport.

    A stream that is made inside and read behind it still does. It has open(), aopen() or both; asynchronous
    calls run in threads where it has no aopen(), and synchronous ones can't do without an open(). It may have
    `defaults`, options that entries lack, such as {"api_key": …}. Blocks may lie in one another; the one that
    was entered last counts. The embedded model and drivers with a generate() of their own open no transport.
    """
    return _seam.use(transport)


def transport_in_place() -> AnyTransport | None:
    """Return what use_transport() has put in place, None where calls go to the network."""
    return _seam.get()


class Pooled:
    """The process's pooled connections for an entry's options, synchronous and asynchronous."""

    __slots__ = ("_options",)

    def __init__(self, options: Options) -> None:
        self._options = options

    def open(self, request: Request, waiting: Waiting) -> Response:
        """See Transport.open()."""
        return blocking_transport(self._options).open(request, waiting)

    def aopen(self, request: Request, waiting: Waiting) -> Coroutine[Any, Any, AsyncResponse]:
        """See AsyncTransport.aopen()."""
        return async_transport(self._options).aopen(request, waiting)


def blocking_transport(options: Options) -> BlockingTransport:
    """Return the process's transport for synchronous calls with these options."""
    return _get("blocking", _blocking_class, options)


def async_transport(options: Options) -> AiohttpTransport:
    """Return the process's transport for asynchronous calls with these options."""
    return _get("async", _async_class, options)


def _blocking_class() -> type[BlockingTransport]:
    from .blocking import BlockingTransport

    return BlockingTransport


def _async_class() -> type[AiohttpTransport]:
    from .aio import AiohttpTransport

    return AiohttpTransport


@cache
def has_aiohttp() -> bool:
    """Return whether the extra `async` is installed."""
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


@process.after_fork
def _after_fork() -> None:
    """Leave the parent's conversations alone, and begin our own."""
    global _lock
    _lock = threading.Lock()
    _forked.append(dict(_transports))
    for transport in _transports.values():
        transport.forget()
    _transports.clear()
