"""The asynchronous transport: one aiohttp session an event loop, closed with it.

Its connections are those of connector.py.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Mapping
from functools import lru_cache
from typing import Any

import aiohttp

from bupple_engine.masking import SecretURL, bare
from bupple_engine.protocol.request import Request

from .base import TransportFailure, Waiting
from .connector import Body, Connector, Wait, present
from .routes import Routes, ca_bundle, find_proxy, tls_context
from .trust import UNASKED, Trust, refused_coding

DRAIN_BYTES = 65_536
# Of one line of a head, as http.client allows; some send more than aiohttp's own 8 KB.
HEAD_BYTES = 65_536
CODINGS = ("", "identity", "gzip", "deflate", "br", "zstd")


@lru_cache
def _timeout(connect: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect)


class AiohttpTransport:
    """One process's sessions for one proxy and CA setting, an event loop each."""

    def __init__(self, proxy: SecretURL | None, ca_file: str | None) -> None:
        self._proxy = proxy
        self._ca_file = ca_file
        self._lock = threading.Lock()
        self._sessions: dict[int, _Session] = {}
        self._trusts: dict[tuple[str, int | None], Trust] = {}
        self._routes = Routes(self._route)

    async def aopen(self, request: Request, waiting: Waiting) -> AiohttpResponse:
        """Send a request and return its answer once the head is there."""
        wait = Wait(has_body=bool(request.body))
        token = present.set(wait)
        try:
            async with asyncio.timeout(waiting.read):
                try:
                    raw = await self._send(request, waiting.connect, wait)
                except (aiohttp.ClientError, OSError) as error:
                    if not wait.is_stale(error):
                        raise
                    wait.fresh = True
                    raw = await self._send(request, waiting.connect, wait)
            # aiohttp takes for plain what it does not know, and several.
            if wrong := refused_coding(raw.headers.get("content-encoding"), CODINGS):
                raw.close()
                raise aiohttp.ClientPayloadError(wrong)
            if wait.is_doubtful:
                raw.close()
                raise ConnectionAbortedError(UNASKED)
            return AiohttpResponse(raw, wait)
        except (aiohttp.ClientError, OSError, ValueError, asyncio.IncompleteReadError) as error:
            failure = _translate(error)
        except BaseException as error:
            raise bare(error) from None
        finally:
            present.reset(token)
        # Raised out here, it has no context: the library's frames hold the headers, and so the key.
        raise failure

    async def _send(self, request: Request, connect: float, wait: Wait) -> aiohttp.ClientResponse:
        session = await self._session()
        proxy, tls = self._routes.get(request.url)
        if proxy is not None:
            request.secrets.add(proxy)
        return await session.request(
            request.method,
            request.url,
            data=Body(request.body, wait) if wait.has_body else None,
            headers=request.headers,
            allow_redirects=False,
            proxy=proxy.reveal() if proxy is not None else None,
            ssl=tls,
            timeout=_timeout(connect),
        )

    async def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        held = self._sessions.get(id(loop))
        if held is None or held.loop() is not loop or held.session.closed:
            with self._lock:
                for key, old in list(self._sessions.items()):
                    if (owner := old.loop()) is None or owner.is_closed() or owner is loop:
                        self._sessions.pop(key).abandon()
                held = self._sessions[id(loop)] = _Session(loop, self._trusts)
            await held.bind()
        return held.session

    def _route(self, url: str) -> tuple[SecretURL | None, Any]:
        """Return the proxy and the TLS context for a URL."""
        proxy = find_proxy(self._proxy, url, socks=False)
        secure = url.startswith("https:") or (proxy is not None and proxy.reveal().startswith("https:"))
        return proxy, tls_context(self._ca_file or ca_bundle()) if secure else True

    def close(self) -> None:
        """Abandon the sessions; those of running loops close their connections there."""
        with self._lock:
            sessions = list(self._sessions.values())
            self._sessions.clear()
        for held in sessions:
            held.abandon()

    def forget(self) -> None:
        """Leave the parent's sessions alone after a fork: its loop, and its connections, are not ours."""


class _Session:
    """A session and the end of its loop.

    No loop tells when it ends; but each closes its asynchronous generators first (asyncio.run,
    async_to_sync and the servers see to it), so one that waits inside the loop is told.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, trusts: dict[tuple[str, int | None], Trust]) -> None:
        self.loop = weakref.ref(loop)
        self.session = aiohttp.ClientSession(
            connector=Connector(trusts),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # we read the environment's proxies as requests does, and netrc never
            auto_decompress=True,
            max_line_size=HEAD_BYTES,
            max_field_size=HEAD_BYTES,
        )
        self._end: AsyncGenerator[None, None] | None = None

    async def bind(self) -> None:
        """Have the session closed with the loop."""
        self._end = self._wait_for_the_end()
        await anext(self._end)

    async def _wait_for_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.session.close()

    def abandon(self) -> None:
        """Close the session from outside its loop, which may be closed already."""
        loop, connector = self.loop(), self.session.connector
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._close_in, loop)
            return
        self.session.detach()
        if isinstance(connector, Connector):
            connector.bury()

    def _close_in(self, loop: asyncio.AbstractEventLoop) -> None:
        closing = loop.create_task(self.session.close())
        _closing.add(closing)  # a loop holds its tasks weakly
        closing.add_done_callback(_closing.discard)


_closing: set[asyncio.Task[None]] = set()


class AiohttpResponse:
    """An answer whose body is read as it arrives.

    A wait's clock is one timer for all of them, which is set again when it has run too early: a timer a wait
    costs as much as the reading.
    """

    def __init__(self, raw: aiohttp.ClientResponse, wait: Wait) -> None:
        self._raw = raw
        self._wait = wait
        self._content = raw.content
        self._loop = asyncio.get_running_loop()
        self._deadline = 0.0  # of the wait, by the loop's clock; 0 while nobody waits
        self._timer: asyncio.Handle | None = None
        self._due = 0.0  # when the timer runs out: uvloop's handles don't say it
        self.status = raw.status
        self.headers: Mapping[str, str] = raw.headers

    def close(self) -> None:
        """End the connection at once, unless the body has been read to its end; break the wait for more."""
        if self._deadline:
            self._content.set_exception(ConnectionAbortedError("The call was cancelled"))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._raw.close()

    async def read(self, seconds: float) -> bytes:
        """Return what has arrived, waiting so long at most; b"" is the end."""
        content = self._content
        try:
            if (data := content.read_nowait()) or content.at_eof():
                return data if data else self._end()
            self._deadline = self._loop.time() + seconds
            if self._timer is None or self._due > self._deadline:
                self._set_timer()
            return await content.readany() or self._end()
        except (aiohttp.ClientError, OSError, ValueError, asyncio.IncompleteReadError) as error:
            failure = _translate(error)
        finally:
            self._deadline = 0.0
        raise failure

    def _end(self) -> bytes:
        """Return the end, unless it may be that of another's answer."""
        if self._wait.is_doubtful:
            self._raw.close()
            raise ConnectionAbortedError(UNASKED)
        return b""

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = self._deadline
        self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        """Break the wait if its time is over."""
        self._timer = None
        if self._deadline > self._loop.time():
            self._set_timer()
        elif self._deadline:
            self._content.set_exception(TimeoutError())

    async def drain(self, seconds: float) -> None:
        """Read on to the end of the body for so long at most, so that the connection can be used again."""
        deadline = time.monotonic() + seconds
        size = 0
        try:
            while (left := deadline - time.monotonic()) > 0 and size < DRAIN_BYTES:
                data = await self.read(left)
                if not data:
                    return
                size += len(data)
        except TransportFailure:
            return


def _translate(error: Exception) -> TransportFailure:
    """Return what happened in words that hold no header, no body, no query and no credentials of a proxy."""
    through = " through the proxy" if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return TransportFailure(f"Could not connect{through} in time", timed_out=True, connected=False)
    if isinstance(error, TimeoutError):
        return TransportFailure("The provider sent nothing in time", timed_out=True)
    if isinstance(error, aiohttp.ClientSSLError):
        return TransportFailure(f"TLS failed{through}: {error.os_error}", connected=False)
    if isinstance(error, aiohttp.ClientConnectorError):
        return TransportFailure(f"Could not connect{through}: {error.os_error}", connected=False)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return TransportFailure(f"The proxy answered with status {error.status}", connected=False)
    if isinstance(error, aiohttp.ClientResponseError):
        # What follows quotes the line that came, cut anywhere: a secret in it can't be known again.
        words = error.message.partition(":\n")[0]
        return TransportFailure(f"The answer is no HTTP: {words}")
    if isinstance(error, aiohttp.InvalidURL):
        return TransportFailure("The URL can't be used: InvalidURL", connected=False)
    if isinstance(error, aiohttp.ClientPayloadError):
        words = (
            str(error) if error.__cause__ is None else "the answer was cut off, or is not coded as it says"
        )
        return TransportFailure(f"The connection broke: {words}")
    if isinstance(error, aiohttp.ClientError | OSError):
        return TransportFailure(f"The connection broke: {type(error).__name__}: {error}")
    return TransportFailure(f"The request can't be sent: {type(error).__name__}", connected=False)
