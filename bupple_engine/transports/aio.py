"""The asynchronous transport: one aiohttp session an event loop, closed with it."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Mapping
from types import SimpleNamespace, TracebackType
from typing import Any

import aiohttp

from bupple_engine.exchange import TransportFailure
from bupple_engine.wire import Request

from . import ca_bundle, environment_key, environment_proxy, tls_context

DRAIN_BYTES = 65_536


class AsyncTransport:
    """One process's sessions for one proxy and CA setting, an event loop each."""

    def __init__(self, proxy: str, ca_file: str | None) -> None:
        self._proxy = proxy or None
        self._ca_file = ca_file
        self._lock = threading.Lock()
        self._sessions: dict[int, _Session] = {}
        self._routes: dict[tuple[str | None, ...], tuple[str | None, Any]] = {}

    async def open(self, request: Request, connect: float, read: float) -> AsyncResponse:
        """Send a request and return its answer once the head is there; the clocks are in seconds."""
        trace = SimpleNamespace(reused=False)
        try:
            session = await self._session()
            proxy, tls = self._route(request.url)
            async with asyncio.timeout(read):
                raw = await session.post(
                    request.url,
                    data=request.body,
                    headers=request.headers,
                    allow_redirects=False,
                    proxy=proxy,
                    ssl=tls,
                    timeout=aiohttp.ClientTimeout(total=None, connect=connect),
                    trace_request_ctx=trace,
                )
            return AsyncResponse(raw)
        except (aiohttp.ClientError, OSError, ValueError, asyncio.IncompleteReadError) as error:
            failure = _translate(error, trace.reused)
        # Raised out here, it has no context: the library's frames hold the headers, and so the key.
        raise failure

    async def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        held = self._sessions.get(id(loop))
        if held is None or held.loop() is not loop or held.session.closed:
            with self._lock:
                for key, old in list(self._sessions.items()):
                    if (owner := old.loop()) is None or owner.is_closed() or owner is loop:
                        self._sessions.pop(key).abandon()
                held = self._sessions[id(loop)] = _Session(loop)
            await held.bind()
        return held.session

    def _route(self, url: str) -> tuple[str | None, Any]:
        """Return the proxy and the TLS context for a URL; the environment is read anew where it changed."""
        key = environment_key("/".join(url.split("/", 3)[:3]))
        route = self._routes.get(key)
        if route is None:
            proxy = self._proxy or environment_proxy(url)
            tls = (
                tls_context(self._ca_file or ca_bundle())
                if "https:" in (url[:6], (proxy or "")[:6])
                else True
            )
            route = self._routes[key] = (proxy, tls)
        return route

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

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = weakref.ref(loop)
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # we read the environment's proxies as requests does, and netrc never
            trace_configs=[trace],
            auto_decompress=True,
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
            if loop.is_running():
                loop.call_soon_threadsafe(lambda: loop.create_task(self.session.close()))
            return
        self.session.detach()
        for connections in list(getattr(connector, "_conns", {}).values()):
            for protocol, *_ in connections:
                # The loop that would close the transport is gone: close what it held.
                transport = protocol.transport
                sock = transport.get_extra_info("socket") if transport is not None else None
                if sock is not None:
                    sock._sock.close()
        if connector is not None:
            connector._closed = True


async def _note_reuse(session: Any, context: Any, params: Any) -> None:
    context.trace_request_ctx.reused = True


class AsyncResponse:
    """An answer whose body is read as it arrives."""

    def __init__(self, raw: aiohttp.ClientResponse) -> None:
        self._raw = raw
        self._content = raw.content
        self.status = raw.status
        self.headers: Mapping[str, str] = raw.headers

    async def __aenter__(self) -> AsyncResponse:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection at once, unless the body has been read to its end."""
        self._raw.close()

    async def read(self, seconds: float) -> bytes:
        """Return what has arrived, waiting so long at most; b"" is the end."""
        try:
            async with asyncio.timeout(seconds):
                return await self._content.readany()
        except (aiohttp.ClientError, OSError, ValueError, asyncio.IncompleteReadError) as error:
            failure = _translate(error, reused=False)
        raise failure

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


def _translate(error: Exception, reused: bool) -> TransportFailure:
    """Return what happened in words that hold no header, no body and no credentials of a proxy."""
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
    if isinstance(error, aiohttp.InvalidURL):
        return TransportFailure("The URL can't be used: InvalidURL", connected=False)
    if isinstance(error, aiohttp.ClientError | OSError):
        stale = reused and isinstance(error, aiohttp.ServerDisconnectedError | ConnectionError)
        return TransportFailure(f"The connection broke: {type(error).__name__}: {error}", stale=stale)
    return TransportFailure(f"The request can't be sent: {type(error).__name__}", connected=False)
