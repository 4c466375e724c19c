"""What the package stands on in other libraries that they do not promise: a canary for each of it.

One that fails names what the library has dropped, or does otherwise now. `tox -e canary` asks the libraries'
pre-releases.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import http.client
import importlib
import io
import os
import socket
import ssl
import sys
import warnings
from collections.abc import Callable
from contextlib import closing, suppress
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import trustme
import urllib3
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.core.handlers.wsgi import LimitedStream
from django.http import HttpRequest
from django.test import RequestFactory
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.contrib.socks import SOCKSHTTPConnectionPool

from tests.private import is_private, used, used_in
from tests.provider import Answer, Provider

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nHi"


class Canary(NamedTuple):
    library: str  # its distribution, "python" for the standard library
    names: tuple[str, ...]
    check: Callable[[], None]


CANARIES: list[Canary] = []


def canary(library: str, *names: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Have a function check what the package stands on under these names."""

    def add(check: Callable[[], None]) -> Callable[[], None]:
        CANARIES.append(Canary(library, names, check))
        return check

    return add


@pytest.mark.parametrize("canary", CANARIES, ids=lambda each: each.check.__name__)
def test_what_no_library_promises(canary: Canary) -> None:
    module = {"djangorestframework": "rest_framework"}.get(canary.library, canary.library)
    if canary.library != "python":
        pytest.importorskip(module)
    try:
        canary.check()
    except Exception as error:
        names = ", ".join(canary.names)
        known = sys.version.split()[0] if canary.library == "python" else version(canary.library)
        pytest.fail(f"{canary.library} {known} has changed {names}: {type(error).__name__}: {error}")


def test_every_private_name_has_a_canary() -> None:
    """And no name that is no longer used has one."""
    names = {name for each in CANARIES for name in each.names}
    watched = {name for name in names if any(map(is_private, name.split(".")))}
    found = set(used())
    assert found - watched == set(), "tests/test_canaries.py has none for these"
    # A module whose library is missing is not scanned: what else it uses can't be told there.
    if all(_is_installed(each.library) for each in CANARIES):
        assert watched - found == set(), "the package uses these no more"


def test_every_form_of_a_private_name_is_found() -> None:
    source = """
from urllib3._collections import HTTPHeaderDict
class Answer(HTTPResponse):
    _own = 1
    def _close_conn(self): self.held = self._method; self._mine = self._own
class Mixed(Ours):
    def _get_conn(self): return super()._get_conn(), super()._ours()
def use(answer, given: NamedTuple):
    answer._mine, answer._own, answer.fp._sock, given._replace()
    return getattr(answer, "_passed", None), getattr(answer, "shown", None)
"""

    class Ours:
        def _ours(self) -> None: ...

    class Answer(http.client.HTTPResponse): ...

    class Mixed(Ours): ...

    Ours.__module__ = Answer.__module__ = Mixed.__module__ = "bupple_engine.toy"
    assert used_in(source, {"Answer": Answer, "Mixed": Mixed}) == {
        *("urllib3._collections.HTTPHeaderDict", "Answer._close_conn", "Answer._method"),
        *("Mixed._get_conn", "answer.fp._sock", "answer._passed"),
    }


def _is_installed(library: str) -> bool:
    try:
        return library == "python" or bool(version(library))
    except ImportError:
        return False


# asyncio


async def connected_by_tls() -> tuple[Any, Any]:
    """Return both ends of a connection of asyncio's own through TLS."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    (transport, _), (other, _) = await asyncio.gather(
        loop.create_connection(asyncio.Protocol, sock=ours, ssl=client, server_hostname="localhost"),
        loop.connect_accepted_socket(asyncio.Protocol, theirs, ssl=server),
    )
    return transport, other


@canary(
    "python",
    *("transport._ssl_protocol", "tls._transport", "transport._closed", "transport._call_connection_lost"),
)
def connections_are_closed_behind_their_loop() -> None:
    loop = asyncio.new_event_loop()
    ends = loop.run_until_complete(connected_by_tls())
    loop.close()
    sockets = []
    for secure in ends:
        assert secure._closed is False
        raw = secure._ssl_protocol._transport
        assert getattr(raw, "_ssl_protocol", None) is None
        assert type(raw).__module__.startswith("asyncio.")
        sockets.append(raw.get_extra_info("socket"))
        secure._closed = True
        with suppress(RuntimeError):  # it asks the closed loop to tell others, behind all that matters
            raw._call_connection_lost(None)
    assert [each.fileno() for each in sockets] == [-1, -1]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        del ends, secure, raw
        gc.collect()
    assert not [each for each in told if issubclass(each.category, ResourceWarning)]


# os, http.client and the socket module


@canary("python", "os.environb._data")
def the_environment_is_a_dict_of_bytes_below_this() -> None:
    if sys.platform == "win32":
        return  # where os.environb is not there, and not used
    environment: Any = os.environb
    below, name = environment._data, b"BUPPLE_CANARY"
    assert isinstance(below, dict)
    assert below.get(name) is None
    os.environ[name.decode()] = "sings"
    assert below.get(name) == b"sings"
    del os.environ[name.decode()]
    assert below.get(name) is None
    assert environment._data is below


def answer_of(data: bytes, kind: type[http.client.HTTPResponse]) -> tuple[Any, socket.socket]:
    """Return an answer whose server has said this, and its socket."""
    ours, theirs = socket.socketpair()
    with closing(theirs):
        theirs.sendall(data)
    return kind(ours), ours


@canary("python", "Answer._read_status", "Answer._close_conn")
def an_answer_reads_its_status_and_closes_by_these() -> None:
    called = []

    class Watched(http.client.HTTPResponse):
        def _read_status(self) -> Any:
            called.append(found := super()._read_status())  # type: ignore[misc]
            return found

        def _close_conn(self) -> None:
            called.append((self.length, self.fp.peek(1)[:3]))
            super()._close_conn()  # type: ignore[misc]

    answer, ours = answer_of(HEAD + b"odd", Watched)
    with closing(ours):
        answer.begin()
        assert called == [("HTTP/1.1", 200, "OK\r\n")]
        assert answer.read(2) == b"Hi"
        assert called[1:] == [(0, b"odd")]  # at the end of the body, with what stands behind it
        assert answer.fp is None


@canary("python", "Clocked._sock")
def a_file_of_a_socket_can_be_watched() -> None:
    read = []

    class Watched(socket.SocketIO):
        _sock: Any

        def readinto(self, buffer: Any) -> int | None:
            read.append(self._sock)
            return super().readinto(buffer)

    answer, ours = answer_of(HEAD, http.client.HTTPResponse)
    with closing(ours), closing(answer):
        answer.fp.raw.__class__ = Watched
        answer.begin()
        assert read == [ours]


@canary("python", "os.environb._data")
def the_environment_lies_in_a_dict_of_bytes() -> None:
    os.environb[b"BUPPLE_ENGINE_CANARY"] = b"x"
    assert os.environb._data[b"BUPPLE_ENGINE_CANARY"] == b"x"  # type: ignore[attr-defined]
    del os.environb[b"BUPPLE_ENGINE_CANARY"]
    assert b"BUPPLE_ENGINE_CANARY" not in os.environb._data  # type: ignore[attr-defined]


# urllib3


@canary("urllib3", "_Keeping._new_conn", "_Keeping._get_conn", "_Keeping._put_conn")
def a_pool_makes_gives_and_takes_connections_by_these() -> None:
    called = []

    class Connection(HTTPConnection):
        @property
        def is_connected(self) -> bool:
            called.append("is_connected")
            return super().is_connected

    class Watched(urllib3.HTTPConnectionPool):
        ConnectionCls = Connection

        def _new_conn(self) -> Any:
            called.append("_new_conn")
            return super()._new_conn()

        def _get_conn(self, *args: Any, **kwargs: Any) -> Any:
            called.append("_get_conn")
            return super()._get_conn(*args, **kwargs)

        def _put_conn(self, connection: Any) -> None:
            called.append("_put_conn")
            assert isinstance(connection, Connection)
            super()._put_conn(connection)

    with Provider() as provider, closing(Watched("127.0.0.1", int(provider.url.rpartition(":")[2]))) as pool:
        provider.answer(Answer(body=b"Hi"), repeat=True)
        for _ in range(2):
            response = pool.urlopen("GET", "/", preload_content=False)
            response.read()
            response.release_conn()
    assert called == ["_get_conn", "_new_conn", "_put_conn", "_get_conn", "is_connected", "_put_conn"]
    assert issubclass(SOCKSHTTPConnectionPool, urllib3.HTTPConnectionPool)


@canary("urllib3", "SecureConnection._new_conn")
def a_connection_makes_its_socket_by_this_before_the_handshake() -> None:
    made = []

    class Watched(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            made.append(super()._new_conn())
            raise OSError("no handshake")

    with Provider() as provider:
        connection = Watched("127.0.0.1", int(provider.url.rpartition(":")[2]))
        with pytest.raises(OSError, match="no handshake"):
            connection.connect()
    (found,) = made
    with closing(found):
        assert type(found) is socket.socket


@canary("urllib3", "HTTPConnection.response_class", "HTTPResponse.CONTENT_DECODERS")
def a_connection_reads_its_answer_by_a_class_that_can_be_set() -> None:
    class Watched(http.client.HTTPResponse):
        pass

    class Connection(HTTPConnection):
        response_class = Watched

    with Provider() as provider:
        provider.answer(Answer(body=b"Hi"))
        with closing(Connection("127.0.0.1", int(provider.url.rpartition(":")[2]))) as connection:
            connection.request("GET", "/", preload_content=False)
            response: Any = connection.getresponse()
            assert isinstance(response._fp, Watched)
            assert response.read1(10) == b"Hi"
    assert {"gzip", "deflate"} <= set(urllib3.HTTPResponse.CONTENT_DECODERS)


# aiohttp


@canary(
    "aiohttp",
    *("Connector._factory", "Connector._loop", "Connector._release", "Connector._closed"),
    *("connection_key", "Connection.protocol"),
)
def a_connector_makes_and_releases_its_protocols_by_these() -> None:
    import aiohttp
    from aiohttp.client_proto import ResponseHandler

    said: list[Any] = []

    class Handler(ResponseHandler):
        pass

    class Connector(aiohttp.TCPConnector):
        def __init__(self) -> None:
            super().__init__()
            self._factory = functools.partial(Handler, loop=self._loop)  # type: ignore[assignment]

        async def connect(self, req: Any, *args: Any, **kwargs: Any) -> Any:
            connection = await super().connect(req, *args, **kwargs)
            said.append((req.connection_key.host, type(connection.protocol)))
            return connection

        def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
            said.append((key.host, type(protocol), should_close, protocol.should_close))
            super()._release(key, protocol, should_close=should_close)

    async def ask(url: str) -> None:
        connector = Connector()
        assert connector._closed is False
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.get(url) as response:
                assert await response.read() == b"Hi"
            assert said == [("127.0.0.1", Handler), ("127.0.0.1", Handler, False, False)]
        assert connector._closed is True

    with Provider() as provider:
        provider.answer(Answer(body=b"Hi"))
        asyncio.run(ask(provider.url))


@canary("aiohttp", "Protocol._buffer", "Protocol._parser", "feed_data", "should_close")
def a_protocol_keeps_what_nobody_asked_for() -> None:
    from aiohttp.client_proto import ResponseHandler

    fed: list[int] = []

    class Handler(ResponseHandler):
        def feed_data(self, data: Any, size: int = 0) -> None:
            fed.append(data[0].code)
            super().feed_data(data, size)

    async def feed() -> None:
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        with closing(theirs):
            transport, protocol = await loop.create_connection(lambda: Handler(loop=loop), sock=ours)
            handler: Any = protocol
            assert handler._parser is None  # until a request is sent
            handler.set_response_params(read_until_eof=True)
            assert not handler._buffer
            assert not handler.should_close
            handler.data_received(HEAD + HEAD)
            assert fed == [200, 200]
            assert [entry[0].code for entry, *_ in handler._buffer] == [200, 200]
            assert handler.should_close  # more than was asked for
            parser: Any = handler._parser
            assert parser.feed_eof() is None
            handler.data_received(HEAD[:20])
            assert parser.feed_eof() is not None  # a part of another answer
            transport.abort()
            await asyncio.sleep(0)

    asyncio.run(feed())


@canary("aiohttp", "Body._value", "Body._size", "Body._autoclose")
def a_payload_has_its_bytes_length_and_end_in_these() -> None:
    import aiohttp

    class Body(aiohttp.Payload):
        _value: bytes
        _autoclose = True

        def __init__(self, value: bytes) -> None:
            super().__init__(value)
            self._size = len(value)

        def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
            return self._value.decode(encoding, errors)

        async def write(self, writer: Any) -> None:
            await writer.write(self._value)

    assert aiohttp.Payload._autoclose is False
    body = Body(b"Hello")
    assert (body.size, body.autoclose, body.decode()) == (5, True, "Hello")
    with Provider() as provider:
        provider.answer(Answer(body=b"Hi"))

        async def ask() -> None:
            async with aiohttp.ClientSession() as session, session.post(provider.url, data=body) as response:
                content = response.content
                while not (data := content.read_nowait()) and not content.at_eof():
                    await content.readany()
                assert data in (b"Hi", b"")
                content.set_exception(TimeoutError())  # what breaks a wait
                with pytest.raises(TimeoutError):
                    await content.readany()

        asyncio.run(ask())
    assert provider.requests[0].body == b"Hello"
    assert provider.requests[0].headers["content-length"] == "5"


# asgiref


@canary("asgiref", "SyncToAsync.thread_sensitive_context", "SyncToAsync.context_to_thread_executor")
def a_requests_thread_can_be_found_and_ended() -> None:
    async def request() -> None:
        async with ThreadSensitiveContext() as context:
            assert SyncToAsync.thread_sensitive_context.get(None) is context
            assert context not in SyncToAsync.context_to_thread_executor
            await sync_to_async(int)()
            assert context is not None  # says the type alone
            executor = SyncToAsync.context_to_thread_executor.pop(context)
            executor.shutdown(wait=False)
            assert await sync_to_async(int)() == 0  # in a new one
        assert context not in SyncToAsync.context_to_thread_executor

    asyncio.run(request())


# Django and DRF


@canary("django", "owner._state")
def an_instance_tells_whether_it_is_saved() -> None:
    from bupple_engine.models import Configuration

    assert Configuration()._state.adding is True


@canary("django", "LimitedStream.limit", "HttpRequest.accepted_types")
def djangos_stream_has_its_limit_in_this() -> None:
    stream: Any = LimitedStream(io.BytesIO(b"5\r\nHello\r\n0\r\n\r\n"), 0)
    assert stream.read(1) == b""
    stream.limit = sys.maxsize
    assert stream.readline(100) == b"5\r\n"
    request = RequestFactory().get("/", headers={"accept": "text/*;q=0.5"})
    (accepted,) = request.accepted_types
    assert (accepted.main_type, accepted.sub_type, accepted.quality) == ("text", "*", 0.5)


@canary("djangorestframework", "request._request", "self.request._request", "request._stream")
def drfs_request_has_djangos_and_its_body_in_these() -> None:
    class Parser(BaseParser):
        media_type = "application/json"

        def parse(self, stream: Any, *args: Any, **kwargs: Any) -> Any:
            return stream.read()

    given = RequestFactory().post("/", b"{}", content_type="application/json")
    request: Any = Request(given, parsers=[Parser()])
    assert isinstance(request._request, HttpRequest)
    assert request._request is given
    request._stream = io.BytesIO(b"Hello")
    assert request.data == b"Hello"


# gunicorn


@canary("gunicorn", "gunicorn.socket", "wsgi.input_terminated")
def gunicorn_shows_its_socket_and_ends_its_input() -> None:
    config: Any = importlib.import_module("gunicorn.config")
    wsgi: Any = importlib.import_module("gunicorn.http.wsgi")
    request = SimpleNamespace(body=io.BytesIO(), method="POST", query="", uri="/", version=(1, 1))
    with closing(socket.socket()) as ours:
        environ = wsgi.default_environ(request, ours, config.Config())
        assert environ["gunicorn.socket"] is ours
        assert environ["wsgi.input_terminated"] is True


# The engine, and the C library under it


@canary("xllamacpp", "CommonParams", "Server.handle_chat_completions")
def the_engine_has_these_settings() -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = "model.gguf"
    params.model_alias = {"model"}
    params.n_ctx, params.n_parallel, params.verbosity = 4096, 2, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.api_keys = ["key"]
    assert (params.model.path, params.n_ctx, params.n_parallel) == ("model.gguf", 4096, 2)
    assert (params.cpuparams.n_threads, params.cpuparams_batch.n_threads) == (1, 1)
    assert list(params.api_keys) == ["key"]
    assert callable(xllamacpp.Server.handle_chat_completions)


@canary("python", "_socket")
def a_socket_is_the_c_librarys() -> None:
    found: Any = importlib.import_module("_socket")
    assert issubclass(socket.socket, found.socket)


@canary("python", "libc._exit")
@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the engine's end is on_exit's on glibc alone"
)
def the_c_library_ends_a_process_by_this() -> None:
    assert ctypes.CDLL(None)._exit
