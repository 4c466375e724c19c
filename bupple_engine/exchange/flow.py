"""The part of a call that repeats, for both worlds: a generator that does no I/O and says what it wishes.

A shell carries the wishes out, one synchronously and one asynchronously (transports/shells.py). A flow may
yield from another: so calls can be put together without a word on threads or event loops.
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

# How long the body may take to end behind the answer, for its connection to be of use again.
DRAIN_SECONDS = 0.1


@dataclass(slots=True)
class Open:
    """Open a request on a source, a transport; it is given the response, once its head is there.

    connect and read are seconds.
    """

    source: object
    request: Request
    connect: float
    read: float
    clock: Clock


class Read:
    """Read from the response, waiting for so many seconds at most; it is given what came.

    A flow may yield the same object each time: a wish a read would cost as much as what is done for it.
    """

    __slots__ = ("seconds",)

    seconds: float


@dataclass(slots=True)
class Last:
    """Hand the last chunks on; whatever their reader does, drain the response then, and close it."""

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

# A list of chunks is to be handed on; an Attempt, which another follows, is to be told to the call.
Wish: TypeAlias = Open | Read | Last | Pause | Close | Attempt | list[Chunk]
# What a wish is given depends on it. An EngineError and a TransportFailure are thrown into the flow; all else
# that is raised while a wish is carried out ends the flow.
Flow: TypeAlias = Generator[Wish, Any, None]


def flow_of(begin: Callable[[], tuple[Exchange, object]]) -> Flow:
    """Return the flow of an exchange over a transport; it raises the error that the caller shall see.

    begin() is asked for both when the flow begins: until then observers may have the request built anew.
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
