"""The part of a call that repeats, for sync and async: a generator that does no I/O and yields wishes.

A shell carries the wishes out, one synchronously and one asynchronously (transports/shells.py). A flow may
yield from another, so calls can be combined without a word about threads or event loops.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias

from bupple_engine.exceptions import EngineError
from bupple_engine.masking import bare
from bupple_engine.protocol.request import Request
from bupple_engine.types import Chunk

from .attempt import Attempt
from .clock import Clock
from .exchange import Exchange
from .failure import TransportFailure
from .verdict import Again, Done

# How long the body may take to end after the answer, so that its connection can be used again.
DRAIN_SECONDS = 0.1


@dataclass(slots=True)
class Open:
    """Open a request on a source, a transport; the flow is sent the response once its head is there.

    connect and read are seconds.
    """

    source: object
    request: Request
    connect: float
    read: float
    clock: Clock


class Read:
    """Read from the response, waiting at most so many seconds; the flow is sent what came.

    A flow may yield the same object each time: a new one per read would cost as much as the read's own work.
    """

    __slots__ = ("seconds",)

    seconds: float


@dataclass(slots=True)
class Last:
    """Hand on the last chunks; then drain the response and close it, whatever their reader does."""

    chunks: list[Chunk]
    seconds: float


@dataclass(slots=True)
class Pause:
    """Close the response, and wait for so many seconds."""

    seconds: float
    clock: Clock


class Close:
    """Close the response."""

    __slots__ = ()


CLOSE = Close()

# A list of chunks is handed on to the caller; an Attempt that another one follows, to the call.
Wish: TypeAlias = Open | Read | Last | Pause | Close | Attempt | list[Chunk]
# What is sent back depends on the wish. An EngineError or TransportFailure is thrown into the flow; anything
# else raised while a wish is carried out ends the flow.
Flow: TypeAlias = Generator[Wish, Any, None]


def flow_of(begin: Callable[[], tuple[Exchange, object]]) -> Flow:
    """Return the flow of an exchange over a transport; it raises the error that the caller is to see.

    begin() returns both when the flow begins: until then observers may have the request built anew.
    """
    exchange, source = begin()
    read = Read()
    while True:
        failure: EngineError | TransportFailure
        try:
            request, clocks = exchange.open_attempt(), exchange.clocks
            response = yield Open(source, request, clocks.connect, exchange.timeout(), exchange.clock)
            exchange.receive_head(response.status, response.headers)
            del response  # a shell's, which closes it
            while True:
                read.seconds = exchange.timeout()
                chunks = exchange.receive((yield read))
                if exchange.finished:
                    yield Last(chunks, DRAIN_SECONDS)
                    return
                if chunks:
                    yield chunks
        except (EngineError, TransportFailure) as error:
            failure = error
        yield CLOSE
        try:
            verdict = exchange.settle(failure)
        finally:
            del failure  # see settle()
        if isinstance(verdict, Done):
            yield verdict.chunks
            return
        if isinstance(verdict, Again):
            yield verdict.attempt
            yield Pause(verdict.seconds, exchange.clock)
            continue
        try:
            raise bare(verdict.error)  # the frames that parsed it hold what came, and so what it quoted
        finally:
            # An error among the variables of its own traceback is freed late, with all of this call.
            del verdict
