"""Whose words a caller is given: its own or an error, whatever else comes on a connection."""

from __future__ import annotations

import asyncio
import random
import select
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from bupple_engine import EngineError, ai
from bupple_engine.transports import close_transports
from tests.conftest import Configure
from tests.provider import Answer, Piece, Provider, Request, read_request
from tests.verbs import STREAMS, VERBS
from tests.wires import EVENTS, JSON, ChatCompletions
from tests.worlds import until

WIRE = ChatCompletions()
STRANGER = "words for somebody else"

pytestmark = pytest.mark.usefixtures("collected")


def question(text: str) -> Any:
    return [{"role": "user", "content": text}]


def echo(request: Request, **travel: Any) -> Answer:
    """Answer with the question, so that each caller knows its own."""
    return answer(asked(request), stream=WIRE.streamed(request), **travel)


def asked(request: Request) -> str:
    return str(request.json["messages"][-1]["content"])


def answer(text: str, *, stream: bool, **travel: Any) -> Answer:
    body, headers = (WIRE.stream([text]), EVENTS) if stream else (WIRE.reply(text), JSON)
    return Answer(200, {**headers, **travel.pop("headers", {})}, body, **travel)


def stray(*, stream: bool, status: str = "200 OK") -> bytes:
    """Return a whole answer that nobody asked for, as bytes on the wire."""
    found = answer(STRANGER, stream=stream)
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(found.body)}\r\nContent-Type: "
    return head.encode() + found.headers["content-type"].encode() + b"\r\n\r\n" + found.body


@pytest.fixture(params=VERBS)
def verb(request: pytest.FixtureRequest) -> str:
    """Give each verb; on request an asynchronous one over threads too, whose transport is that of send."""
    name, _, threads = request.param.partition("-")
    if threads:
        request.getfixturevalue("without_aiohttp")
    return str(name)


@pytest.fixture(params=["plain", "tls", "proxy", "tunnel"])
def server(request: pytest.FixtureRequest) -> Provider:
    """Give a provider that is spoken to directly, through TLS, through a proxy, or through a tunnel."""
    name = "tls_provider" if request.param in ("tls", "tunnel") else "provider"
    found: Provider = request.getfixturevalue(name)
    return found


class Caller:
    """Make one call after the other with a verb, the asynchronous ones in one loop."""

    def __init__(self, verb: str, driver: Any) -> None:
        self.verb, self.driver = verb, driver
        self.runner = asyncio.Runner() if verb.startswith("a") else None

    def ask(self, text: str) -> str | EngineError:
        try:
            if self.runner is not None:
                return self.runner.run(self.aask(text))
            if self.verb == "send":
                return str(self.driver.send(question(text))["content"])
            return "".join(chunk["content"] for chunk in self.driver.stream(question(text)))
        except EngineError as error:
            return error

    async def aask(self, text: str) -> str:
        if self.verb == "asend":
            return str((await self.driver.asend(question(text)))["content"])
        return "".join([chunk["content"] async for chunk in self.driver.astream(question(text))])

    def close(self) -> None:
        if self.runner is not None:
            self.runner.close()


@pytest.fixture
def caller(
    request: pytest.FixtureRequest, verb: str, server: Provider, configure: Configure, ca_file: str
) -> Iterator[Caller]:
    """Give a caller of the server, by the way that the test asks for."""
    way = request.node.callspec.params["server"]
    options: dict[str, Any] = {"MAX_RETRIES": 0, "CA_FILE": ca_file}
    if way == "tunnel":
        options["PROXY"] = request.getfixturevalue("tunnel").url
    url = server.url
    if way == "proxy":  # which answers itself
        options["PROXY"], url = url, "http://provider.invalid"
    configure(it=WIRE.settings(url, **options))
    caller = Caller(verb, ai())
    yield caller
    caller.close()


@pytest.fixture
def tunnel() -> Iterator[Provider]:
    """Give a proxy that tunnels."""
    with Provider(proxy=True) as proxy:
        yield proxy


class Surplus:
    """Send bytes that nobody asked for, so long behind an answer, and know when they have come."""

    def __init__(self, data: bytes, later: float | None = None, tunnel: Provider | None = None) -> None:
        self.sent = threading.Event()
        self._tunnel = tunnel
        self._began = 0.0
        # In one packet with the answer, where nothing is before them.
        self.pieces: list[Piece] = [data, self.sent.set]
        if later is not None:
            self.pieces = [later, self._begin, *self.pieces]

    def _begin(self) -> None:
        self._began = time.monotonic()

    def wait(self) -> None:
        assert self.sent.wait(20)
        if self._tunnel is not None and self._began:
            until(lambda: self._tunnel.relayed_at > self._began)  # type: ignore[union-attr]


@pytest.fixture
def surplus(request: pytest.FixtureRequest, verb: str) -> Callable[..., Surplus]:
    """Give what makes surplus bytes: those of a whole answer, unless the test says otherwise."""
    way = request.node.callspec.params.get("server")
    tunnel = request.getfixturevalue("tunnel") if way == "tunnel" else None
    return lambda data=None, later=None: Surplus(data or stray(stream=verb in STREAMS), later, tunnel)


@pytest.mark.parametrize(
    ("later", "framing"),
    [(None, "chunked"), (None, "length"), (0.001, "chunked"), (0.02, "length"), (0.2, "chunked")],
    ids=["at once", "at once, length", "1 ms", "20 ms, length", "200 ms"],
)
def test_a_surplus_answer_is_given_to_nobody(
    caller: Caller, server: Provider, surplus: Any, later: float | None, framing: Any, caplog: Any
) -> None:
    extra = surplus(later=later)
    server.answer(lambda request: echo(request, surplus=extra.pieces, framing=framing))
    server.answer(echo, repeat=True)
    assert caller.ask("one") == "one"
    extra.wait()
    assert caller.ask("two") == "two"
    assert caller.ask("three") == "three"
    assert server.connections == 3  # nor is any other connection of such a server kept
    assert len(server.requests) == 3
    warnings = [record for record in caplog.records if "nobody had asked for" in record.message]
    assert len(warnings) == 1


@pytest.mark.parametrize("server", ["plain", "tls"], indirect=True)
@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", True),
        (b"\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Le", False),
        (b"x", False),
    ],
    ids=["farewell", "line end", "half a head", "a byte"],
)
def test_what_is_no_answer_makes_a_connection_useless_too(
    caller: Caller, server: Provider, surplus: Any, data: bytes, kept: bool
) -> None:
    extra, answered = surplus(data), threading.Event()  # in one piece with the answer, it may spoil that
    server.answer(lambda request: echo(request, surplus=[answered, *extra.pieces]))
    server.answer(echo, repeat=True)
    assert caller.ask("one") == "one"
    answered.set()
    extra.wait()
    assert [caller.ask("two"), caller.ask("three")] == ["two", "three"]
    assert server.connections == (2 if kept else 3)


@pytest.mark.parametrize("server", ["plain", "tls", "proxy"], indirect=True)
@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "103 Early Hints"])
def test_an_informational_head_is_not_the_answer(
    caller: Caller, server: Provider, status: str, framing: Any
) -> None:
    """The answer that follows it is still owed: the next caller would be given it."""
    heads = f"HTTP/1.1 {status}\r\nLink: </style.css>; rel=preload\r\n\r\n".encode() * 3
    server.answer(lambda request: echo(request, heads=heads, framing=framing), repeat=True)
    assert [caller.ask(text) for text in ("one", "two", "three")] == ["one", "two", "three"]
    assert server.connections == 1


@pytest.mark.parametrize("verb", [*VERBS, "asend-threads"], indirect=True)
@pytest.mark.parametrize("server", ["plain"], indirect=True)
@pytest.mark.parametrize("later", [None, 0.001])
def test_heads_behind_an_answer_are_surplus(
    caller: Caller, server: Provider, surplus: Any, later: float | None
) -> None:
    extra = surplus(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", later=later)
    server.answer(lambda request: echo(request, surplus=extra.pieces))
    server.answer(echo, repeat=True)
    assert caller.ask("one") == "one"
    extra.wait()
    assert caller.ask("two") == "two"
    assert server.connections == 2


@pytest.mark.parametrize("verb", [*VERBS, "asend-threads"], indirect=True)
@pytest.mark.parametrize("server", ["plain"], indirect=True)
def test_a_protocol_is_not_switched(caller: Caller, server: Provider) -> None:
    server.answer(lambda request: Answer(101, {"upgrade": "h2c", "connection": "upgrade"}, framing="length"))
    server.answer(echo, repeat=True)
    assert isinstance(caller.ask("one"), EngineError)
    assert caller.ask("two") == "two"
    assert server.connections == 2


@pytest.mark.parametrize("verb", [*VERBS, "asend-threads"], indirect=True)
@pytest.mark.parametrize("server", ["plain", "tls"], indirect=True)
def test_a_hundred_calls_use_one_connection(caller: Caller, server: Provider) -> None:
    server.answer(echo, repeat=True)
    for number in range(100):
        assert caller.ask(f"{number}") == f"{number}"
    assert server.connections == 1


class SocksProxy(socketserver.BaseRequestHandler):
    """Speak SOCKS 5 without a password, to one address."""

    def handle(self) -> None:
        with suppress(OSError, struct.error):
            count = self.request.recv(2)[1]
            self.request.recv(count)
            self.request.sendall(b"\x05\x00")
            kind = self.request.recv(4)[3]
            size = 4 if kind == 1 else self.request.recv(1)[0]
            host, port = self.request.recv(size), struct.unpack(">H", self.request.recv(2))[0]
            name = socket.inet_ntoa(host) if kind == 1 else host.decode()
            with socket.create_connection((name, port)) as target:
                self.request.sendall(b"\x05\x00\x00\x01" + bytes(6))
                while True:
                    for one in select.select([self.request, target], [], [])[0]:
                        data = one.recv(65_536)
                        if not data:
                            return
                        (target if one is self.request else self.request).sendall(data)


@pytest.mark.parametrize("verb", ["send", "stream"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_connections_through_socks_are_watched_too(
    verb: str, tls: bool, request: pytest.FixtureRequest, configure: Configure, ca_file: str
) -> None:
    server = request.getfixturevalue("tls_provider" if tls else "provider")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), SocksProxy) as proxy:
        serving = threading.Thread(target=proxy.serve_forever)
        serving.start()
        url = f"socks5h://127.0.0.1:{proxy.server_address[1]}"
        options = {"MAX_RETRIES": 0, "CA_FILE": ca_file, "PROXY": url}
        configure(it=WIRE.settings(server.url, **options, TIMEOUT={"total": 5}))
        caller = Caller(verb, ai())
        server.answer(echo, echo, lambda request: echo(request, surplus=[stray(stream=verb == "stream")]))
        server.answer(echo, repeat=True)
        assert [caller.ask(text) for text in ("one", "two")] == ["one", "two"]
        assert server.connections == 1
        assert caller.ask("three") == "three" or verb == "send"  # which may see what came behind it
        assert [caller.ask(text) for text in ("four", "five")] == ["four", "five"]
        assert server.connections == 3
        close_transports()
        proxy.shutdown()
        serving.join()


LONG = "long " * 4_000_000  # more than the buffers of a connection hold


@pytest.mark.parametrize("verb", ["send", "asend"])  # one of each transport
def test_what_comes_while_a_request_is_sent_is_no_answer_to_it(verb: str, configure: Configure) -> None:
    asked_again = threading.Event()

    def serve(listener: socket.socket) -> None:
        first, _ = listener.accept()
        with first, first.makefile("rb") as lines:
            read_request(lines)
            first.sendall(message("one"))
            first.recv(20_000)  # a part of the second request
            first.sendall(stray(stream=False))
            asked_again.wait(20)
            second, _ = listener.accept()
            with second, second.makefile("rb") as lines:
                read_request(lines)
                second.sendall(message("two"))

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.settimeout(20)
        served = pool.submit(serve, listener)
        configure(it=WIRE.settings(f"http://127.0.0.1:{listener.getsockname()[1]}", MAX_RETRIES=0))
        caller = Caller(verb, ai())
        assert caller.ask("one") == "one"
        asked_again.set()
        assert caller.ask(LONG) == "two"
        caller.close()
        served.result(20)


def message(text: str) -> bytes:
    body = WIRE.reply(text)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def misbehave(request: Request) -> Answer:
    """Answer as the question's number says, in one of the ways in which a provider may."""
    rng = random.Random(asked(request))
    extra = stray(stream=WIRE.streamed(request))
    travel: dict[str, Any] = rng.choice(
        [
            {},
            {},
            {},
            {"surplus": [extra]},
            {"surplus": [extra[: rng.randrange(1, len(extra))]]},
            {"surplus": [0.001, extra]},
            {"surplus": [0.02, extra]},
            {"heads": b"HTTP/1.1 103 Early Hints\r\n\r\n"},
            {"cut": True},
            {"reset": True},
            {"hold": 0.02},
            {"headers": {"connection": "close"}},
        ]
    )
    return echo(request, framing=rng.choice(["chunked", "length"]), **travel)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("world", ["threads", "tasks", "uvloop"])
def test_a_thousand_calls_are_given_their_own_words_or_an_error(
    world: str, tls: bool, request: pytest.FixtureRequest, configure: Configure, ca_file: str
) -> None:
    server = request.getfixturevalue("tls_provider" if tls else "provider")
    server.answer(misbehave, repeat=True)
    configure(it=WIRE.settings(server.url, MAX_RETRIES=0, CA_FILE=ca_file))
    numbers = [f"{number}" for number in range(1000)]
    verbs = ("send", "stream") if world == "threads" else ("asend", "astream")

    def call(number: str) -> str | EngineError:
        return Caller(verbs[int(number) % 2], ai()).ask(number)

    async def acall(caller: Caller, number: str, gate: asyncio.Semaphore) -> str | EngineError:
        async with gate:
            try:
                return await caller.aask(number)
            except EngineError as error:
                return error

    async def acalls() -> list[str | EngineError]:
        gate = asyncio.Semaphore(20)
        callers = [Caller(verb, ai()) for verb in verbs]
        calls = (acall(callers[int(number) % 2], number, gate) for number in numbers)
        return list(await asyncio.gather(*calls))

    if world == "threads":
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(call, numbers))
    else:
        factory = pytest.importorskip("uvloop").new_event_loop if world == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            answers = runner.run(acalls())
    wrong = [(own, got) for own, got in zip(numbers, answers, strict=True) if got != own]
    assert [pair for pair in wrong if not isinstance(pair[1], EngineError)] == []
    assert len(wrong) < 400
