"""Connections: kept, replaced, proxied, verified, shared by threads, loops and what a fork leaves."""

from __future__ import annotations

import asyncio
import base64
import gzip
import re
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from bupple_engine import ProviderConnectionError, ProviderTimeoutError, ai, call_finished
from bupple_engine.exchange.failure import TransportFailure
from bupple_engine.transports import blocking, has_aiohttp
from bupple_engine.transports.pools import POOLS
from tests.conftest import Configure
from tests.provider import Answer, Piece, Provider, split
from tests.verbs import STREAMS, VERBS, WAYS, run
from tests.wires import KEY, ChatCompletions
from tests.worlds import SECONDS, until

HELLO: Any = [{"role": "user", "content": "Hello"}]
WIRE = ChatCompletions()
ENVIRONMENT = [
    *(f"{name}_PROXY" for name in ("HTTP", "HTTPS", "ALL", "NO")),
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NETRC",
]

pytestmark = pytest.mark.usefixtures("collected")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with none of the variables that transports read."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


# One verb of each transport; the threads use the synchronous one.
transports = pytest.mark.parametrize("verb", ["send", "asend"], indirect=True)


@pytest.fixture
def driver(provider: Provider, configure: Configure) -> Any:
    """Give a driver pointed at the provider, without retries."""
    configure(it=WIRE.settings(provider.url, MAX_RETRIES=0))
    return ai()


@pytest.fixture
def attempts() -> Iterator[list[int]]:
    """Give how many attempts each call took, as the signal says."""
    heard: list[int] = []

    def listen(*, attempts: int, **facts: Any) -> None:
        heard.append(attempts)

    call_finished.connect(listen)
    yield heard
    call_finished.disconnect(listen)


def body(verb: str, text: str = "Hello") -> bytes:
    return WIRE.stream([text]) if verb in STREAMS else WIRE.reply(text)


def repeat(
    verb: str, driver: Any, times: int, between: Callable[[], object] = lambda: None, *, hasty: bool = False
) -> list[str]:
    """Make calls one after the other, in one event loop, and return their texts.

    hasty leaves a stream at its last chunk, with the end of its body unread.
    """
    texts = []

    def add(chunks: list[Any]) -> None:
        texts.append("".join(chunk["content"] for chunk in chunks))
        between()

    async def calls() -> None:
        for _ in range(times):
            if verb == "asend":
                add([await driver.asend(HELLO)])
                continue
            chunks = []
            async with driver.astream(HELLO) as stream:
                async for chunk in stream:
                    chunks.append(chunk)
                    if hasty and chunk["done"]:
                        break
            add(chunks)

    if verb.startswith("a"):
        asyncio.run(calls())
        return texts
    for _ in range(times):
        chunks = []
        with driver.stream(HELLO) if verb == "stream" else nothing([driver.send(HELLO)]) as stream:
            for chunk in stream:
                chunks.append(chunk)
                if hasty and chunk["done"]:
                    break
        add(chunks)
    return texts


@contextmanager
def nothing(value: Any) -> Iterator[Any]:
    yield value


# Kept connections


@pytest.mark.parametrize(
    ("verb", "hasty"),
    [*((way, False) for way in WAYS), *((way, True) for way in WAYS if "stream" in way)],
    indirect=["verb"],
)
@pytest.mark.parametrize("late", [0.0, 0.001])
@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_warm_calls_open_no_connection(
    verb: str, driver: Any, provider: Provider, late: float, framing: Any, hasty: bool
) -> None:
    """The body's end may come a little after the provider's last word."""
    pieces: list[Piece] = (
        [body(verb), late] if framing == "chunked" else [body(verb)[:-1], late, body(verb)[-1:]]
    )
    provider.answer(Answer(pieces=pieces, framing=framing), repeat=True)
    assert repeat(verb, driver, 20, hasty=hasty) == ["Hello"] * 20
    assert provider.connections == 1


@pytest.mark.parametrize("how", ["idle", "idle reset", "request", "request reset"])
def test_a_kept_connection_that_has_died_is_replaced(
    verb: str, driver: Any, provider: Provider, attempts: list[int], how: str
) -> None:
    text = body(verb)
    whole = Answer(body=text, framing="length", headers={"content-length": str(len(text))})
    if how.startswith("idle"):
        provider.answer(Answer(**{**vars(whole), "cut": True, "reset": "reset" in how}), whole)
    else:
        provider.answer(whole, Answer(disconnect="request", reset="reset" in how), whole)
    assert repeat(verb, driver, 2) == ["Hello"] * 2
    assert attempts == [1, 1]
    assert provider.connections == 2


def test_all_kept_connections_may_have_died(verb: str, driver: Any, provider: Provider) -> None:
    """As behind a balancer that forgot them: what replaces one is new, not the next of them."""
    arrived = threading.Barrier(4)
    together = Answer(pieces=[lambda: arrived.wait(SECONDS) and b"", body(verb)])
    provider.answer(*[together] * 4, *[Answer(disconnect="request")] * 1, Answer(body=body(verb)))

    async def calls() -> None:
        if verb == "asend":
            await asyncio.gather(*(driver.asend(HELLO) for _ in range(4)))
            await driver.asend(HELLO)
            return

        async def read() -> None:
            assert [chunk async for chunk in driver.astream(HELLO)][-1]["done"]

        await asyncio.gather(*(read() for _ in range(4)))
        await read()

    if verb.startswith("a"):
        asyncio.run(calls())
    else:
        with ThreadPoolExecutor(4) as pool:
            assert all(outcome.reply for outcome in pool.map(lambda _: run(driver, verb, HELLO), range(4)))
        assert run(driver, verb, HELLO).reply
    assert provider.connections == 5


def test_a_new_connection_that_dies_is_a_failed_attempt(verb: str, driver: Any, provider: Provider) -> None:
    """Nobody knows whether the request was tried: sending it again is a retry, which is not allowed here."""
    provider.answer(Answer(disconnect="request"), repeat=True)
    error = run(driver, verb, HELLO).error
    assert type(error) is ProviderConnectionError
    assert (len(provider.requests), error.attempts) == (1, 1)


def test_what_replaces_a_dead_connection_is_new(verb: str, driver: Any, provider: Provider) -> None:
    text = body(verb)
    closing = Answer(body=text, framing="length", headers={"content-length": str(len(text))}, cut=True)
    provider.answer(closing, Answer(disconnect="request"), repeat=True)
    with pytest.raises(ProviderConnectionError):
        repeat(verb, driver, 2, lambda: until(lambda: is_half_closed(provider)))
    assert len(provider.requests) == 2


def is_half_closed(provider: Provider) -> bool:
    """Tell whether a client's side has heard that the provider closed its own."""
    port = int(provider.url.rpartition(":")[2])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[2].endswith(f":{port:04X}") and row[3] == "08" for row in rows)  # CLOSE_WAIT


# What must not travel


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(verb: str, provider: Provider, configure: Configure, status: int) -> None:
    configure(it=WIRE.settings(provider.url))
    provider.answer(Answer(status, {"location": f"{provider.url}/elsewhere"}), repeat=True)
    error = run(ai(), verb, HELLO).error
    assert type(error) is ProviderConnectionError
    assert error.code == status
    assert "redirect" in error.message
    assert "BASE_URL" in error.message
    assert len(provider.requests) == 1


@transports
@pytest.mark.parametrize("key", [KEY, None])
def test_netrc_is_not_read(
    verb: str, provider: Provider, configure: Configure, tmp_path: Path, monkeypatch: Any, key: str | None
) -> None:
    path = Path(tmp_path, ".netrc")
    path.write_text("machine 127.0.0.1 login mallory password evil\ndefault login mallory password evil\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    monkeypatch.setenv("HOME", str(tmp_path))
    configure(it={**WIRE.settings(provider.url, API_KEY=key), "DRIVER": "compatible"})
    provider.answer(Answer(body=body(verb)))
    assert run(ai(), verb, HELLO).reply
    assert WIRE.key(provider.requests[0]) == key


@transports
def test_a_connection_that_shall_close_is_closed(
    verb: str, tls_provider: Provider, configure: Configure, ca_file: str
) -> None:
    configure(it=WIRE.settings(tls_provider.url, CA_FILE=ca_file))
    tls_provider.answer(Answer(headers={"connection": "close"}, body=body(verb)), repeat=True)
    assert repeat(verb, ai(), 2) == ["Hello"] * 2
    tls_provider.wait_closed(1)
    tls_provider.wait_closed(2)


@transports
def test_cookies_are_not_kept(verb: str, driver: Any, provider: Provider) -> None:
    provider.answer(Answer(headers={"set-cookie": "session=alice; Path=/"}, body=body(verb)), repeat=True)
    repeat(verb, driver, 2)
    assert "cookie" not in provider.requests[1].headers


# Proxies


@pytest.fixture(params=["http", "https"])
def proxy(request: pytest.FixtureRequest) -> Iterator[Provider]:
    """Give a proxy, spoken to with and without TLS."""
    with Provider(
        proxy=True, tls=request.getfixturevalue("server_tls") if request.param == "https" else None
    ) as proxy:
        yield proxy


@pytest.fixture(params=["provider", "tls_provider"], ids=["http", "https"])
def behind(request: pytest.FixtureRequest) -> Provider:
    """Give a provider behind it, with and without TLS."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def with_credentials(url: str) -> str:
    return url.replace("://", "://alice:p%40ss@")


@transports
@pytest.mark.parametrize("named", ["HTTP(S)_PROXY", "http(s)_proxy", "ALL_PROXY", "PROXY"])
def test_a_proxy_is_used(
    verb: str,
    proxy: Provider,
    behind: Provider,
    configure: Configure,
    ca_file: str,
    named: str,
    monkeypatch: Any,
) -> None:
    options: dict[str, Any] = {"CA_FILE": ca_file}
    if named == "PROXY":
        options["PROXY"] = with_credentials(proxy.url)
    else:
        name = named.replace("(S)", "S" if behind.tls else "").replace("(s)", "s" if behind.tls else "")
        monkeypatch.setenv(name, with_credentials(proxy.url))
    configure(it=WIRE.settings(behind.url, **options))
    behind.answer(Answer(body=body(verb)), repeat=True)
    assert repeat(verb, ai(), 2) == ["Hello"] * 2
    address = behind.url.partition("://")[2]
    asked = proxy.requests[0]
    if behind.tls:
        assert (asked.method, asked.path) == ("CONNECT", address)
        assert len(proxy.requests) == behind.connections == 1  # the tunnel is kept
    else:
        assert (asked.method, asked.path) == ("POST", f"http://{address}{WIRE.path}")
    credentials = base64.b64encode(b"alice:p@ss").decode()
    assert asked.headers["proxy-authorization"] == f"Basic {credentials}"
    assert "proxy-authorization" not in behind.requests[0].headers
    assert WIRE.key(behind.requests[0]) == KEY


@transports
def test_no_proxy_is_kept_to_and_the_environment_read_anew(
    verb: str, proxy: Provider, behind: Provider, configure: Configure, ca_file: str, monkeypatch: Any
) -> None:
    configure(it=WIRE.settings(behind.url, CA_FILE=ca_file))
    behind.answer(Answer(body=body(verb)), repeat=True)
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,elsewhere.example")
    assert run(ai(), verb, HELLO).reply
    assert proxy.requests == []
    monkeypatch.setenv("NO_PROXY", "elsewhere.example")
    assert run(ai(), verb, HELLO).reply
    assert len(proxy.requests) == 1


@transports
def test_a_proxy_of_the_environment_may_lack_its_scheme(
    verb: str, driver: Any, provider: Provider, monkeypatch: Any
) -> None:
    provider.answer(Answer(body=body(verb)))
    with Provider(proxy=True) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removeprefix("http://"))
        assert run(driver, verb, HELLO).reply
        assert len(proxy.requests) == 1


@transports
@pytest.mark.parametrize("scheme", ["socks5", "ftp"])
def test_a_proxy_that_cannot_be_used_is_named(
    verb: str, provider: Provider, configure: Configure, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "find_spec", lambda name: None)  # PySocks is not installed
    configure(it=WIRE.settings(provider.url, PROXY=with_credentials(f"{scheme}://127.0.0.1:9")))
    with pytest.raises(ImproperlyConfigured, match=f"{scheme}://…@127.0.0.1:9"):
        run(ai(), verb, HELLO)


@transports
@pytest.mark.parametrize("refusal", ["407", "down"])
def test_a_proxy_that_refuses_is_named(
    verb: str, tls_provider: Provider, configure: Configure, ca_file: str, refusal: str
) -> None:
    with Provider(proxy=True) as proxy:
        url = proxy.url if refusal == "407" else "http://127.0.0.1:9"
        proxy.answer(Answer(407), repeat=True)
        configure(it=WIRE.settings(tls_provider.url, PROXY=url, CA_FILE=ca_file, MAX_RETRIES=0))
        error = run(ai(), verb, HELLO).error
    assert type(error) is ProviderConnectionError
    assert "proxy" in error.message
    assert refusal == "down" or "407" in error.message


@pytest.mark.parametrize("verb", ["stream", "astream"])
def test_closing_reaches_through_a_proxy(
    verb: str, proxy: Provider, behind: Provider, configure: Configure, ca_file: str
) -> None:
    configure(it=WIRE.settings(behind.url, PROXY=proxy.url, CA_FILE=ca_file))
    behind.answer(Answer(pieces=[WIRE.stream_without_end(["Hello"]), threading.Event()]))

    async def leave() -> None:
        async with ai().astream(HELLO) as stream:
            await anext(stream)

    if verb == "astream":
        asyncio.run(leave())
    else:
        stream = ai().stream(HELLO)
        next(stream)
        with ThreadPoolExecutor(1) as pool:
            pending = pool.submit(next, stream, None)
            time.sleep(0.01)
            stream.close()
            assert pending.result(SECONDS) is None
    started = time.monotonic()
    behind.wait_closed()
    assert time.monotonic() - started < 5


# TLS


@transports
@pytest.mark.parametrize("told", ["CA_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", None])
def test_certificates_are_verified(
    verb: str, tls_provider: Provider, configure: Configure, ca_file: str, told: str | None, monkeypatch: Any
) -> None:
    options: dict[str, Any] = {"CA_FILE": ca_file} if told == "CA_FILE" else {}
    if told and not options:
        monkeypatch.setenv(told, ca_file)
    configure(it=WIRE.settings(tls_provider.url, MAX_RETRIES=0, **options))
    tls_provider.answer(Answer(body=body(verb)))
    outcome = run(ai(), verb, HELLO)
    if told:
        assert outcome.reply["content"] == "Hello"
    else:
        assert type(outcome.error) is ProviderConnectionError
        assert "TLS" in outcome.error.message
        assert "certificate" in outcome.error.message
        assert tls_provider.requests == []


@transports
def test_the_name_in_a_certificate_is_verified(
    verb: str, authority: trustme.CA, configure: Configure, ca_file: str
) -> None:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example").configure_cert(context)
    with Provider(tls=context) as elsewhere:
        configure(it=WIRE.settings(elsewhere.url, CA_FILE=ca_file, MAX_RETRIES=0))
        error = run(ai(), verb, HELLO).error
        assert type(error) is ProviderConnectionError
        assert "127.0.0.1" in error.message
        assert elsewhere.requests == []


@transports
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_is_none_is_named(
    verb: str, tls_provider: Provider, configure: Configure, tmp_path: Path, content: str | None
) -> None:
    path = Path(tmp_path, "ca.pem")
    if content:
        path.write_text(content)
    configure(it=WIRE.settings(tls_provider.url, CA_FILE=str(path)))
    with pytest.raises(ImproperlyConfigured, match=re.escape(str(path))):
        run(ai(), verb, HELLO)


# Bodies and heads


@pytest.mark.parametrize("size", [1, 65_536])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_answers_are_read(
    verb: str, driver: Any, provider: Provider, coding: str, size: int
) -> None:
    text = body(verb, "Grüße, 🦜" * 20)
    packed = gzip.compress(text) if coding == "gzip" else zlib.compress(text)
    provider.answer(Answer(headers={"content-encoding": coding}, pieces=split(packed, size)), repeat=True)
    assert repeat(verb, driver, 2) == ["Grüße, 🦜" * 20] * 2
    assert provider.connections == 1


def test_large_requests_and_long_heads_pass(verb: str, driver: Any, provider: Provider) -> None:
    provider.answer(Answer(headers={"x-policy": "x" * 30_000}, body=body(verb)))
    outcome = run(driver, verb, [{"role": "user", "content": "long " * 600_000}])
    assert outcome.error is None
    assert len(provider.requests[0].body) > 3_000_000


@contextmanager
def server(serve: Callable[[socket.socket], object]) -> Iterator[str]:
    """Give the URL of a server that does as told with its one connection, in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.settimeout(SECONDS)

        def accept() -> None:
            connected, _ = listener.accept()
            with connected:
                connected.settimeout(SECONDS)
                serve(connected)

        served = pool.submit(accept)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        served.result(SECONDS)


@transports
def test_an_answer_that_is_no_http_is_told_as_one(verb: str, configure: Configure) -> None:
    def greet(client: socket.socket) -> None:
        client.recv(65_536)
        client.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

    with server(greet) as url:
        configure(it=WIRE.settings(url, MAX_RETRIES=0))
        error = run(ai(), verb, HELLO).error
    assert type(error) is ProviderConnectionError
    assert "no HTTP" in error.message


@pytest.mark.parametrize("verb", VERBS, indirect=True)
@pytest.mark.parametrize("part", ["head", "chunk"])
def test_clocks_run_out_on_what_trickles(verb: str, configure: Configure, part: str) -> None:
    """Neither the head nor the frame of a chunk begins a clock anew with each byte."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"

    def trickle(client: socket.socket) -> None:
        client.recv(65_536)
        client.sendall(head + (b"\r\n1" if part == "chunk" else b""))
        with suppress(OSError):  # it leaves
            while True:
                client.sendall(b";" if part == "chunk" else b"X")
                time.sleep(0.02)

    with server(trickle) as url:
        configure(it=WIRE.settings(url, MAX_RETRIES=0, TIMEOUT={"total": 0.4}))
        started = time.monotonic()
        error = run(ai(), verb, HELLO).error
        assert time.monotonic() - started < 10
    assert isinstance(error, ProviderTimeoutError)
    assert error.clock == "total"


@transports
def test_a_long_request_is_not_cut_by_the_connect_clock(verb: str, configure: Configure) -> None:
    def serve(client: socket.socket) -> None:
        time.sleep(0.5)
        head, _, read = client.recv(65_536).partition(b"\r\n\r\n")
        left = int(re.findall(rb"(?i)content-length: (\d+)", head)[0]) - len(read)
        while left:
            left -= len(client.recv(1_000_000))
        text = body(verb)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))

    with server(serve) as url:
        configure(it=WIRE.settings(url, MAX_RETRIES=0, TIMEOUT={"connect": 0.2}))
        outcome = run(ai(), verb, [{"role": "user", "content": "long " * 2_000_000}])
    assert outcome.error is None


# Threads, loops and processes


def test_a_hundred_threads_share_the_connections(driver: Any, provider: Provider) -> None:
    provider.answer(Answer(body=WIRE.stream(["Hello"])), repeat=True)
    with ThreadPoolExecutor(100) as pool:
        outcomes = list(pool.map(lambda _: run(driver, "stream", HELLO), range(400)))
    assert [outcome.text for outcome in outcomes] == ["Hello"] * 400
    assert provider.connections <= 100
    opened = provider.connections
    repeat("stream", driver, 5)
    assert provider.connections == opened


@pytest.mark.parametrize("way", ["aiohttp", "threads"])
def test_two_hundred_streams_stream_at_once(
    way: str, driver: Any, provider: Provider, request: pytest.FixtureRequest
) -> None:
    if way == "threads":
        request.getfixturevalue("without_aiohttp")
    all_begun = threading.Event()
    first, whole = WIRE.stream_without_end(["Hello"]), WIRE.stream(["Hello"])
    provider.answer(Answer(pieces=[first, all_begun, whole[len(first) :]]), repeat=True)
    begun = 0

    async def read() -> str:
        nonlocal begun
        text = ""
        async for chunk in driver.astream(HELLO):
            text += chunk["content"]
            if not chunk["done"]:
                begun += 1
                if begun == 200:
                    all_begun.set()
        return text

    async def main() -> list[str]:
        return await asyncio.gather(*(read() for _ in range(200)))

    assert asyncio.run(main()) == ["Hello"] * 200


def test_the_number_of_threads_is_bounded(provider: Provider, settings: Any, without_aiohttp: None) -> None:
    settings.BUPPLE_ENGINE = {"MAX_THREADS": 2, "DRIVERS": {"it": WIRE.settings(provider.url)}}
    provider.answer(Answer(pieces=[WIRE.stream_without_end(["Hello"]), threading.Event()]), repeat=True)

    async def main() -> None:
        one, other, third = (ai().astream(HELLO) for _ in range(3))
        await anext(one)
        await anext(other)
        pending = asyncio.ensure_future(anext(third))
        done, _ = await asyncio.wait([pending], timeout=0.05)
        assert not done
        await one.aclose()
        assert (await pending)["content"] == "Hello"
        await third.aclose()
        await other.aclose()

    asyncio.run(main())


async def ask(driver: Any) -> str:
    return str((await driver.asend(HELLO))["content"])


@pytest.mark.parametrize("verb", ["asend", "asend-threads"], indirect=True)
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("how", ["asyncio.run", "async_to_sync", "new_event_loop"])
def test_loops_come_and_go(
    verb: str, how: str, secure: bool, configure: Configure, ca_file: str, request: pytest.FixtureRequest
) -> None:
    provider = request.getfixturevalue("tls_provider" if secure else "provider")
    configure(it=WIRE.settings(provider.url, CA_FILE=ca_file))
    driver = ai()
    provider.answer(Answer(body=WIRE.reply("Hello")), repeat=True)

    def once(_: int) -> str:
        if how == "asyncio.run":
            return asyncio.run(ask(driver))
        if how == "async_to_sync":
            return str(async_to_sync(ask)(driver))
        loop = asyncio.new_event_loop()
        try:
            assert loop.run_until_complete(ask(driver)) == "Hello"
            return loop.run_until_complete(ask(driver))
        finally:
            loop.close()

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(once, range(30))) == ["Hello"] * 30
    assert once(0) == once(1) == "Hello"
    # Where aiohttp is missing, its connections are those of all threads, which no loop closes.
    if request.node.callspec.params["verb"] == "asend" and how != "new_event_loop" and has_aiohttp():
        for number in range(1, provider.connections + 1):
            provider.wait_closed(number)


def test_changed_settings_close_the_connections(driver: Any, provider: Provider) -> None:
    provider.answer(Answer(body=WIRE.reply("Hello")), repeat=True)

    async def main() -> None:
        for number in (1, 2):
            assert await ask(ai()) == "Hello"
            with override_settings(BUPPLE_ENGINE={"DRIVERS": {"echo": {}}}):
                assert ai().alias == "echo"
                await asyncio.to_thread(provider.wait_closed, number)

    asyncio.run(main())
    assert ai().send(HELLO)["content"] == "Hello"
    with override_settings(BUPPLE_ENGINE={"DRIVERS": {"echo": {}}}):
        provider.wait_closed(3)


def test_no_more_than_fifty_origins_keep_connections(driver: Any) -> None:
    """A site whose tenants each name a URL would else hold a connection for every one of them."""
    with ExitStack() as stack:
        first, *others = (stack.enter_context(Provider()) for _ in range(POOLS + 1))
        for provider in (first, *others):
            provider.answer(Answer(body=WIRE.reply("Hello")), repeat=True)
        for provider in (first, first, *others):
            assert ai(base_url=WIRE.settings(provider.url)["BASE_URL"]).send(HELLO)["content"] == "Hello"
        first.wait_closed(1)
        assert ai(base_url=WIRE.settings(first.url)["BASE_URL"]).send(HELLO)["content"] == "Hello"
        assert [first.connections, others[-1].connections] == [2, 1]


def python(script: str, *arguments: str, until: Callable[[], object] = lambda: None) -> None:
    """Run a script in a process of its own, where every warning and every word on stderr is a failure.

    It reads "seen" from stdin once something has happened.
    """
    setup = """
import asyncio, logging, os, sys
import django
from django.conf import settings
url, *arguments = sys.argv[1:]
entry = {"DRIVER": "compatible", "MODEL": "m", "BASE_URL": url, "MAX_RETRIES": 0}
settings.configure(INSTALLED_APPS=["bupple_engine"], BUPPLE_ENGINE={"DRIVERS": {"it": entry}})
django.setup()
logging.getLogger("bupple_engine").addHandler(logging.NullHandler())
from bupple_engine import ai
HELLO = [{"role": "user", "content": "Hello"}]
"""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", setup + script, *arguments],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    with process:
        try:
            until()
            said = process.communicate("seen", timeout=30)[1]
        finally:
            process.kill()
    assert (said, process.returncode) == ("", 0)


@pytest.mark.parametrize("way", ["aiohttp", "threads"])
@pytest.mark.parametrize("end", ["asyncio.run", "closed", "left open"])
def test_a_process_ends_without_a_word(provider: Provider, way: str, end: str) -> None:
    """Also where its loop was closed with a stream half read, or was not closed at all."""
    streamed: list[Piece] = [WIRE.stream_without_end(["Hello"]), threading.Event()]
    provider.answer(
        lambda request: (
            Answer(pieces=streamed) if WIRE.streamed(request) else Answer(body=WIRE.reply("Hello"))
        ),
        repeat=True,
    )
    python(
        """
from bupple_engine.drivers import wired
if arguments[0] == "threads":
    wired.has_aiohttp = lambda: False
async def main():
    await ai().asend(HELLO)
    if arguments[1] == "asyncio.run" :
        await anext(ai().astream(HELLO))
if arguments[1] == "asyncio.run":
    asyncio.run(main())
else:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    if arguments[1] == "closed":
        loop.close()
ai().send(HELLO)
next(ai().stream(HELLO))
"""
        + ("import gc; gc.collect(); loop.close()\n" if end == "left open" else ""),
        provider.url,
        way,
        end,
    )


def test_a_fork_leaves_parent_and_child_their_own_connections(provider: Provider) -> None:
    """The child closes nothing of the parent's, and what the parent closes does not live on in the child."""
    silence = threading.Event()
    provider.answer(
        lambda request: (
            Answer(pieces=[WIRE.stream_without_end(["Hello"]), silence])
            if WIRE.streamed(request)
            else Answer(body=WIRE.reply("Hello"))
        ),
        repeat=True,
    )
    python(
        """
import socket, warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
from bupple_engine.drivers import wired
has_aiohttp = wired.has_aiohttp
def ask(by_thread):
    wired.has_aiohttp = has_aiohttp if not by_thread else lambda: False
    assert asyncio.run(ai().asend(HELLO))["content"] == "Hello"
stream = ai().stream(HELLO)
assert next(stream)["content"] == "Hello"     # connection 1
assert ai().send(HELLO)["content"] == "Hello" # connection 2, kept
ask(True)                                     # the same
ask(False)                                    # connection 3, closed with its loop
here, there = socket.socketpair()
if not os.fork():
    here.close()
    assert ai().send(HELLO)["content"] == "Hello"
    ask(True)
    ask(False)
    there.sendall(b"done")
    there.recv(1)                             # lives on until the parent has ended
    there.close()
    sys.exit(0)
there.close()
assert here.recv(4) == b"done"
assert ai().send(HELLO)["content"] == "Hello" # connection 2
ask(False)
stream.close()
assert os.read(0, 4) == b"seen"               # connection 1 was seen to be closed
here.close()
assert os.wait()[1] == 0
""",
        provider.url,
        until=lambda: provider.wait_closed(1, 20),
    )
    assert [request.connection for request in provider.requests].count(2) == (3 if has_aiohttp() else 5)


class Trickle:
    """Be aiohttp's reader of a body of which a test gives the pieces."""

    def __init__(self) -> None:
        self.piece: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def read_nowait(self) -> bytes:
        return b""

    def at_eof(self) -> bool:
        return False

    async def readany(self) -> bytes:
        self.piece = asyncio.get_running_loop().create_future()
        return await self.piece

    def set_exception(self, error: BaseException) -> None:
        self.piece.set_exception(error)


async def test_one_timer_is_the_clock_of_every_wait() -> None:
    """It may run out while a later wait has time left, or nobody waits; and a later wait may be shorter."""
    pytest.importorskip("aiohttp")
    from bupple_engine.transports.aio import AiohttpResponse
    from bupple_engine.transports.connector import Wait

    content: Any = Trickle()
    closed: list[int] = []
    raw: Any = SimpleNamespace(content=content, status=200, headers={}, close=lambda: closed.append(1))
    with closing(AiohttpResponse(raw, Wait(has_body=True))) as response:
        reading = asyncio.create_task(response.read(600))
        await asyncio.sleep(0)
        first = response._timer
        response._look()
        assert response._timer is not first
        content.piece.set_result(b"a")
        assert await reading == b"a"
        response._look()
        assert response._timer is None
        reading = asyncio.create_task(response.read(600))
        await asyncio.sleep(0)
        content.piece.set_result(b"b")
        assert await reading == b"b"
        with pytest.raises(TransportFailure) as caught:
            await response.read(0.01)
        assert caught.value.timed_out
        response._set_timer()
        last = response._timer
    assert last is not None
    assert last.cancelled()
    assert closed
