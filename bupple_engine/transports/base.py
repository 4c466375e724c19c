"""What carries a call's bytes: the Protocols of a transport, and of what may be put in its place.

A transport is dumb: it moves bytes. What it is asked for, and what comes of it, is told by an exchange.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from bupple_engine.calls.call import Call
from bupple_engine.calls.cancellation import Cancellation
from bupple_engine.exchange.clock import Clock
from bupple_engine.exchange.failure import TransportFailure
from bupple_engine.protocol.request import Request

__all__ = ["AsyncResponse", "AsyncTransport", "Response", "Transport", "TransportFailure", "Waiting"]


@dataclass(slots=True)
class Waiting:
    """How long an open may take, in seconds, by which clock, and who waits for it.

    connect is for the connection, read for the head of the answer. cancellation breaks the wait of a
    blocking transport; an asynchronous one is cancelled as a task is. call is None for a list of models and
    for a probe. A transport of sockets keeps the machine's time, whatever the clock.
    """

    connect: float
    read: float
    cancellation: Cancellation
    call: Call | None
    clock: Clock


class Response(Protocol):
    """An answer whose body is read as it arrives; the names of headers are in lower case."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def read(self, seconds: float) -> bytes:
        """Return what has arrived, waiting so long at most; b"" is the end.

        Raises a TransportFailure, whose timed_out is set where the time was over.
        """

    def drain(self, seconds: float) -> None:
        """Read on to the end of the body for so long at most, so that the connection can be used again."""

    def close(self) -> None:
        """End the connection, unless the body has been read to its end; it may be called again."""


class PolledResponse(Response, Protocol):
    """A response that can be waited for in parts, which not all can."""

    @property
    def is_timed(self) -> bool:
        """Whether it is one."""

    def poll(self, seconds: float) -> bytes | None:
        """Return what read() does, or None where nothing has arrived in time: it can be read on."""


class AsyncResponse(Protocol):
    """See Response."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    async def read(self, seconds: float) -> bytes:
        """See Response.read()."""

    async def drain(self, seconds: float) -> None:
        """See Response.drain()."""

    def close(self) -> None:
        """See Response.close(); a read that waits in another task raises a TransportFailure at once."""


class Transport(Protocol):
    """What sends a request for a synchronous call; one object serves all threads."""

    def open(self, request: Request, waiting: Waiting) -> Response:
        """Return the answer once its head is there, whatever its status.

        Raises a TransportFailure where no head came: connected is False where nobody was reached,
        timed_out is set where the time was over. What waiting.cancellation breaks raises one, too.
        """


class AsyncTransport(Protocol):
    """What sends a request for an asynchronous call; one object serves all event loops.

    An object may be this and a Transport.
    """

    async def aopen(self, request: Request, waiting: Waiting) -> AsyncResponse:
        """See Transport.open()."""
