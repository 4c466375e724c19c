"""aiohttp's connections, watched: one on which anything came that nobody asked for is never used again.

The next caller would be given words meant for another. sockets.py is its twin.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError

from .trust import MAX_INFORMATIONAL, UNASKED, Lookout, StaleConnection, Trust

LOOKS = 4  # of the loop at its sockets, of which the second has read what there was at the first
SEND_SIZE = 262_144  # in one piece, so that a long body does not hold the loop


class Wait:
    """What a task waits for: the connection that it has come to, and whether that had served before."""

    __slots__ = ("fresh", "has_body", "protocol", "reused")

    def __init__(self, *, has_body: bool) -> None:
        self.has_body = has_body
        self.protocol: Any = None
        self.reused = False
        self.fresh = False  # set: no connection that has served before

    async def ask(self) -> None:
        """Note that the last of the request is sent now; raise where something has come in the meantime."""
        if self.reused and not (self.protocol.is_silent() or await self.protocol.is_clean()):
            raise StaleConnection(UNASKED)
        self.protocol.expect()

    @property
    def is_doubtful(self) -> bool:
        """Whether the answer may be another's: its connection had served, and its server lost our trust."""
        return self.reused and bool(self.protocol.trust.lost)

    def is_stale(self, error: BaseException) -> bool:
        """Return whether the other side had closed a kept connection, so that the request was never tried."""
        causes = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError)
        return self.reused and not self.fresh and isinstance(error, causes)


# aiohttp has no argument for it: what a task calls, and what is called back here, is the same wait.
present: ContextVar[Wait] = ContextVar("bupple_engine_wait")


class Body(aiohttp.Payload):
    """Write a request's body; before its last piece, look whether anything has come."""

    _value: bytes
    _autoclose = True  # there is nothing to close

    def __init__(self, value: bytes, wait: Wait) -> None:
        super().__init__(value)
        self._size = len(value)
        self._wait = wait

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._value.decode(encoding, errors)

    async def write(self, writer: Any) -> None:
        for start in range(0, len(self._value), SEND_SIZE):
            if start + SEND_SIZE >= len(self._value):
                await self._wait.ask()
            await writer.write(self._value[start : start + SEND_SIZE])
            if start:
                await asyncio.sleep(0)


class Protocol(ResponseHandler):
    """Close the connection where something comes while no answer is owed."""

    trust: Trust | None = None  # set once it has served
    _owed = True  # between the last of a request and the end of its answer
    _answered = False  # the head of the answer is there
    _informational = 0
    _lookout: Lookout | None = None

    def expect(self) -> None:
        """Note that an answer is owed from now on."""
        self._owed, self._answered, self._informational = True, False, 0

    def settle(self) -> None:
        """Note that the answer has ended; what stands behind it in the same piece is refused."""
        self._owed = False
        if self._buffer:
            self._refuse(b"%d" % self._buffer[0][0][0].code)

    def data_received(self, data: bytes) -> None:
        if not self._owed and data:
            self._refuse(data)
            return
        super().data_received(data)
        if not self._owed and self._buffer:
            self.settle()

    def _refuse(self, unasked: bytes) -> None:
        if self.trust is not None:
            self.trust.judge(unasked)
        self.abort()

    def refuse_rest(self) -> bool:
        """Return whether a part of another answer came in one piece with the last; end the parser of both."""
        try:
            rest = self._parser is not None and self._parser.feed_eof() is not None
        except HttpProcessingError:
            rest = True
        if rest:
            self._refuse(b"HTTP")
        return rest

    def is_silent(self) -> bool:
        """Return whether another request can be sent: open, and nothing has come."""
        transport = self.transport
        if transport is None or transport.is_closing() or self.should_close:
            return False
        if self._lookout is None:
            self._lookout = Lookout(transport.get_extra_info("socket"))
        return not self._lookout.sees()

    async def is_clean(self) -> bool:
        """Tell the same once the loop has read what has come: TLS's own, the end, or what is refused here."""
        for _ in range(LOOKS):
            if self.is_silent():
                return True
            await asyncio.sleep(0)
        return False

    def feed_data(self, data: Any, size: int = 0) -> None:
        code = data[0].code
        if not 100 <= code < 200 or code == 101 or self._answered:
            self._answered = True
            super().feed_data(data, size)
            return
        self._informational += 1
        if self._informational >= MAX_INFORMATIONAL:
            self.set_exception(HttpProcessingError(message="it has informational heads without end"))
            if self.transport is not None:
                self.transport.abort()


class Connector(aiohttp.TCPConnector):
    """Tell the wait which connection it has come to, give it a new one where it must, close at once."""

    def __init__(self, trusts: dict[tuple[str, int | None], Trust]) -> None:
        super().__init__(limit=0)
        self._factory = functools.partial(Protocol, loop=self._loop)  # type: ignore[assignment] # a kind of it
        self._trusts = trusts
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    async def connect(self, req: Any, *args: Any, **kwargs: Any) -> Any:
        wait = present.get()
        while True:
            connection = await super().connect(req, *args, **kwargs)
            protocol: Any = connection.protocol
            wait.protocol, wait.reused = protocol, protocol.trust is not None
            if not wait.reused:
                self._known.add(protocol)
                key = req.connection_key  # which has the proxy's credentials
                protocol.trust = self._trusts.setdefault((key.host, key.port), Trust(key.host))
                return connection
            try:
                is_out = wait.fresh or protocol.refuse_rest()
                if wait.has_body and not is_out:
                    return connection  # Body looks when the last of the request is sent
                if not is_out and (protocol.is_silent() or await protocol.is_clean()):
                    protocol.expect()
                    return connection
            except BaseException:  # a cancellation; nobody else knows of the connection
                connection.close()
                raise
            connection.close()

    def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
        protocol.settle()
        if protocol.trust is not None and protocol.trust.lost:
            should_close = True
        # What is closed is closed now: close() would first send what is left of a request, and wait for the
        # other side's goodbye through TLS, which a loop that ends does not.
        if (should_close or protocol.should_close) and protocol.transport is not None:
            protocol.transport.abort()
        super()._release(key, protocol, should_close=should_close)

    def bury(self) -> None:
        """Close the connections of a loop that is closed: their own close() would leave it to the loop."""
        self._closed = True
        for protocol in self._known:
            transport = protocol.transport
            while (tls := getattr(transport, "_ssl_protocol", None)) is not None:
                transport._closed = True
                transport = tls._transport
            # What the loop would call; uvloop has it too, but closes its handles itself.
            if type(transport).__module__.startswith("asyncio."):
                with suppress(RuntimeError):  # it asks the closed loop to tell others
                    transport._call_connection_lost(None)
