"""The part of a call that repeats, for both worlds: a generator that does no I/O and says what it wishes.

A shell carries the wishes out, one synchronously and one asynchronously (transports/shells.py). A flow may
yield from another: so calls can be put together without a word on threads or event loops.
"""

from __future__ import annotations

from collections.abc import Callable

from bupple_engine.exceptions import EngineError
from bupple_engine.masking import bare

from .exchange import Exchange
from .failure import TransportFailure
from .verdict import Again, Done
from .wishes import CLOSE, Flow, Last, Open, Pause, Read

# How long the body may take to end behind the answer, for its connection to be of use again.
DRAIN_SECONDS = 0.1


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
                data = yield read
                has_ended = not data
                try:
                    chunks = exchange.receive(data)
                finally:
                    del data  # what came is in no frame of an error's
                if exchange.finished:
                    yield Last(chunks, 0.0 if has_ended else DRAIN_SECONDS)
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
