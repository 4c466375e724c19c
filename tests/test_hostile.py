"""A provider that never comes to an end: every clock holds, and what is kept of it is bounded."""

from __future__ import annotations

import asyncio
import gc
import gzip
import itertools
import socket
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from bupple_engine import EngineError, ProviderTimeoutError, ResponseParseError, ai
from bupple_engine.exchange.reader import Body
from tests.conftest import Configure
from tests.provider import Answer, Provider, read_request
from tests.verbs import STREAMS, VERBS, run
from tests.wires import EVENTS, JSON, ChatCompletions
from tests.worlds import SECONDS, until

HELLO: Any = [{"role": "user", "content": "Hello"}]
WIRE = ChatCompletions()
CLOCK = 0.5
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n"
CHUNKED = HEAD % b"text/event-stream" + b"Transfer-Encoding: chunked\r\n\r\n"

pytestmark = pytest.mark.usefixtures("collected")


@contextmanager
def flood(first: bytes, pieces: Iterator[bytes], pause: float = 0.0) -> Iterator[tuple[str, threading.Event]]:
    """Give the URL of a server that answers its one connection with pieces until its client leaves."""
    left = threading.Event()

    def serve(listener: socket.socket) -> None:
        connected, _ = listener.accept()
        with connected, connected.makefile("rb") as lines, suppress(OSError):
            connected.settimeout(SECONDS)
            read_request(lines)
            connected.sendall(first)
            for piece in pieces:
                connected.sendall(piece)
                time.sleep(pause)
        left.set()

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.settimeout(SECONDS)
        served = pool.submit(serve, listener)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", left
        served.result(SECONDS)


def deflated_nothing() -> Iterator[bytes]:
    """Yield chunks of a deflate stream whose blocks hold nothing."""
    packer = zlib.compressobj()
    yield framed(packer.compress(b"") or b"\x78\x9c")
    empty = framed(packer.flush(zlib.Z_SYNC_FLUSH) * 200)
    yield from itertools.repeat(empty)


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


DEFLATED = CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: deflate\r\n\r\n")
# What never ends, by name: the beginning, and what follows for ever.
FLOODS: dict[str, tuple[bytes, Callable[[], Iterator[bytes]]]] = {
    "100": (b"", lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)),
    "103": (b"", lambda: itertools.repeat(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 1000)),
    "one head": (HEAD % b"text/plain", lambda: itertools.repeat(b"X-Y: z\r\n" * 50)),
    "one line": (b"HTTP/1.1 200 ", lambda: itertools.repeat(b"O" * 1000)),
    "trailers": (CHUNKED + b"0\r\n", lambda: itertools.repeat(b"X-Y: z\r\n" * 1000)),
    "chunk extension": (CHUNKED + b"1", lambda: itertools.repeat(b";a=b" * 100)),
    "white space": (CHUNKED, lambda: itertools.repeat(framed(b"\r\n" * 1000))),
    "comments": (CHUNKED, lambda: itertools.repeat(framed(b": ping\n\n" * 100))),
    "empty blocks": (DEFLATED, deflated_nothing),
}


# Each verb as fast as it can, and each transport slowly too.
PACES = [
    *(pytest.param(verb, 0.0, id=f"{verb}-fast") for verb in (*VERBS, "asend-threads")),
    *(pytest.param(verb, 0.01, id=f"{verb}-slow") for verb in ("send", "asend")),
]


@pytest.mark.parametrize(("verb", "pause"), PACES, indirect=["verb"])
@pytest.mark.parametrize("name", FLOODS)
def test_what_never_ends_is_ended_by_the_clock(
    verb: str, configure: Configure, name: str, pause: float
) -> None:
    first, pieces = FLOODS[name]
    with flood(first, pieces(), pause) as (url, left):
        configure(it=WIRE.settings(url, MAX_RETRIES=0, TIMEOUT={"total": CLOCK}))
        started = time.monotonic()
        outcome = run(ai(), verb, HELLO)
        took = time.monotonic() - started
        assert isinstance(outcome.error, EngineError)
        assert left.wait(SECONDS)
    assert took < CLOCK + 5  # a second, and a busy machine
    if took > CLOCK:
        assert isinstance(outcome.error, ProviderTimeoutError)


@pytest.mark.parametrize("name", FLOODS)
def test_the_clocks_of_uvloop_hold_too(configure: Configure, name: str) -> None:
    uvloop = pytest.importorskip("uvloop")
    pytest.importorskip("aiohttp")
    first, pieces = FLOODS[name]

    async def read() -> None:
        async for _ in ai().astream(HELLO):
            pass

    with flood(first, pieces()) as (url, left), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        configure(it=WIRE.settings(url, MAX_RETRIES=0, TIMEOUT={"total": CLOCK}))
        with pytest.raises(EngineError):
            runner.run(read())
        assert left.wait(SECONDS)


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_at_once_where_its_reader_has_gone(configure: Configure, name: str) -> None:
    """No thread goes on with it: neither one of a server nor one of ours."""
    first, pieces = FLOODS[name]
    with flood(first, pieces()) as (url, left), ThreadPoolExecutor(1) as reader:
        configure(it=WIRE.settings(url, MAX_RETRIES=0, TIMEOUT=60))
        stream = ai().stream(HELLO)
        reading = reader.submit(lambda: next(stream, None))
        until(lambda: reading.done() or waits_in_flood(reader))  # a hundred heads end by themselves
        closed = time.monotonic()
        stream.close()
        with suppress(EngineError):  # an end of its own, such as too many heads
            reading.result(SECONDS)
        assert time.monotonic() - closed < 5
        assert left.wait(SECONDS)


def waits_in_flood(reader: ThreadPoolExecutor) -> bool:
    (thread,) = reader._threads
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_name in ("open", "read"):
            return True
        frame = frame.f_back
    return False


@pytest.mark.parametrize("verb", ["send", "asend", "asend-threads"], indirect=True)
@pytest.mark.parametrize("name", ["100", "one head", "one line"])
def test_a_proxy_that_never_ends_its_answer_is_ended_by_the_clock(
    verb: str, configure: Configure, name: str
) -> None:
    first, pieces = FLOODS[name]
    with flood(first.replace(b"200 OK", b"200 Connection established"), pieces()) as (url, left):
        clocks = {"total": CLOCK, "connect": CLOCK}
        configure(it=WIRE.settings("https://127.0.0.1:1", PROXY=url, MAX_RETRIES=0, TIMEOUT=clocks))
        started = time.monotonic()
        outcome = run(ai(), verb, HELLO)
        took = time.monotonic() - started
        assert isinstance(outcome.error, EngineError)
        assert left.wait(SECONDS)
    assert took < CLOCK + 5


@pytest.mark.parametrize("verb", ["send", "asend"])
def test_a_provider_that_reads_slowly_holds_no_call(
    verb: str, configure: Configure, server_tls: Any, ca_file: str
) -> None:
    """Through TLS each record would have the whole clock for itself."""

    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        connected, _ = listener.accept()
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # Behind so small a window Linux may drop the reset by which the client is gone, and never say so.
        connected.settimeout(SECONDS / 4)
        with suppress(OSError), server_tls.wrap_socket(connected, server_side=True) as client:
            while client.recv(1000) and not over.wait(0.02):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve, listener)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        configure(it=WIRE.settings(url, MAX_RETRIES=0, TIMEOUT={"total": CLOCK}, CA_FILE=ca_file))
        started = time.monotonic()
        error = run(ai(), verb, [{"role": "user", "content": "long " * 2_000_000}]).error
        assert time.monotonic() - started < CLOCK + 5
        over.set()
        assert isinstance(error, ProviderTimeoutError)
        served.result(SECONDS)


# What is kept is bounded


def streams(*texts: str) -> bytes:
    return WIRE.stream_without_end(texts)


MANY = 64
TOO_LARGE: dict[str, tuple[str, bytes]] = {
    "an event": ("MAX_EVENT_BYTES", b"data: " + b"x" * 200_000),
    "an event of many lines": ("MAX_EVENT_BYTES", b"data: x\n" * 25_000),
    "a comment": ("MAX_EVENT_BYTES", b": " + b"x" * 200_000),
    "a stray line": ("MAX_EVENT_BYTES", b"oops" * 50_000),
    "a stream": ("MAX_RESPONSE_BYTES", b": ping\n\n" * 80_000),
    "white space": ("MAX_RESPONSE_BYTES", b"\r\n" * 300_000),
}


@pytest.mark.parametrize("name", TOO_LARGE)
@pytest.mark.parametrize("verb", STREAMS, indirect=True)
def test_a_stream_is_ended_where_it_grows_too_large(
    verb: str, provider: Provider, configure: Configure, name: str
) -> None:
    option, more = TOO_LARGE[name]
    bounds = {"MAX_EVENT_BYTES": 100_000, "MAX_RESPONSE_BYTES": 1_000_000}
    configure(it=WIRE.settings(provider.url, **bounds))
    provider.answer(Answer(200, EVENTS, pieces=[streams("Hel", "lo"), more, more, 60.0]), repeat=True)
    outcome = run(ai(), verb, HELLO)
    assert type(outcome.error) is ResponseParseError
    assert option in outcome.error.message
    assert f"{bounds[option]:,} bytes" in outcome.error.message
    assert outcome.error.partial_content == outcome.text == "Hello"
    assert (outcome.error.retryable, outcome.error.attempts) == (False, 1)


def test_an_answer_is_refused_where_it_is_too_large(
    verb: str, provider: Provider, configure: Configure
) -> None:
    """Also where JSON answers a stream's request, and where it is larger than its coding lets see."""
    configure(it=WIRE.settings(provider.url, MAX_RESPONSE_BYTES=100_000))
    text = WIRE.reply(" " * 100_000)
    packed = gzip.compress(text)
    provider.answer(Answer(200, JSON, text), Answer(200, {**JSON, "content-encoding": "gzip"}, packed))
    for _ in range(2):
        error = run(ai(), verb, HELLO).error
        assert type(error) is ResponseParseError
        assert "MAX_RESPONSE_BYTES" in error.message


def test_what_was_read_of_a_refused_answer_is_freed_with_the_call(
    verb: str, provider: Provider, configure: Configure
) -> None:
    """Not when the garbage is collected: some refused answers of 100 MB each may come before that."""
    provider.answer(Answer(200, JSON, b'{"a": "' + bytes(2_000_000)))
    configure(it=WIRE.settings(provider.url, MAX_RESPONSE_BYTES=1_000_000, MAX_RETRIES=0))
    gc.collect()
    gc.disable()
    before = {id(each) for each in gc.get_objects() if type(each) is Body}  # of other tests
    try:
        assert type(run(ai(), verb, HELLO).error) is ResponseParseError
        assert {id(each) for each in gc.get_objects() if type(each) is Body} <= before
    finally:
        gc.enable()


def test_an_answer_within_the_bounds_is_whole(verb: str, provider: Provider, configure: Configure) -> None:
    """The bounds are of what is unfinished: 17 MB in one event are too many, in two they are not."""
    text = "x" * 9_000_000
    body = WIRE.stream([text, text]) if verb in STREAMS else WIRE.reply(text + text)
    provider.answer(Answer(200, EVENTS if verb in STREAMS else JSON, body))
    configure(it=WIRE.settings(provider.url))
    assert run(ai(), verb, HELLO).reply["content"] == text + text


@pytest.mark.parametrize("verb", VERBS, indirect=True)
def test_what_unpacks_to_much_is_not_unpacked_at_once(
    verb: str, provider: Provider, configure: Configure
) -> None:
    bomb = gzip.compress(b" " * 50_000_000, 9)
    coding = {**(EVENTS if verb in STREAMS else JSON), "content-encoding": "gzip"}
    provider.answer(Answer(200, coding, bomb))
    configure(it=WIRE.settings(provider.url, MAX_RESPONSE_BYTES=1_000_000, MAX_RETRIES=0))
    tracemalloc.start()
    try:
        error = run(ai(), verb, HELLO).error
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert type(error) is ResponseParseError
    assert peak < 10_000_000


# What one transport reads and the other refuses


BODY = WIRE.reply("Yes")
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
TYPE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
END = b"Connection: close\r\n\r\n"


def chunked(data: bytes) -> bytes:
    return framed(data) + b"0\r\n\r\n"


READ = (
    *("length", "chunks", "until the end", "no reason", "HTTP/1.0", "gzip", "the coding of the transfer"),
    "a charset for a coding",
    *("identity", "folded header", "line feeds alone", "bytes in a header", "103 first", "a byte order mark"),
)
ANSWERS: dict[str, bytes] = {
    "length": TYPE + LENGTH + END + BODY,
    "chunks": TYPE + b"Transfer-Encoding: chunked\r\n" + END + chunked(BODY),
    "until the end": TYPE + END + BODY,
    "no reason": TYPE.replace(b" OK", b"") + LENGTH + END + BODY,
    "HTTP/1.0": TYPE.replace(b"1.1", b"1.0") + END + BODY,
    "length and chunks": TYPE + LENGTH + b"Transfer-Encoding: chunked\r\n" + END + chunked(BODY),
    "length and another coding": TYPE + LENGTH + b"Transfer-Encoding: identity\r\n" + END + BODY,
    "a null byte in a header": TYPE + b"X-A: a\0b\r\n" + LENGTH + END + BODY,
    "two lengths": TYPE + LENGTH + b"Content-Length: 5\r\n" + END + BODY,
    "the same length twice": TYPE + LENGTH * 2 + END + BODY,
    "negative length": TYPE + b"Content-Length: -5\r\n" + END + BODY,
    "no length": TYPE + b"Content-Length: many\r\n" + END + BODY,
    "length too long": TYPE + b"Content-Length: 999\r\n" + END + BODY,
    "length too short": TYPE + b"Content-Length: 5\r\n" + END + BODY,
    "a chunk too short": TYPE + b"Transfer-Encoding: chunked\r\n" + END + b"3\r\n" + BODY + b"\r\n0\r\n\r\n",
    "no chunks": TYPE + b"Transfer-Encoding: chunked\r\n" + END + BODY,
    "cut chunks": TYPE + b"Transfer-Encoding: chunked\r\n" + END + framed(BODY)[:-20],
    "no last chunk": TYPE + b"Transfer-Encoding: chunked\r\n" + END + framed(BODY),
    "gzip that is none": TYPE + b"Content-Encoding: gzip\r\n" + LENGTH + END + BODY,
    "gzip": TYPE + b"Content-Encoding: gzip\r\n" + END + gzip.compress(BODY),
    "cut gzip": TYPE + b"Content-Encoding: gzip\r\n" + END + gzip.compress(BODY)[:-30],
    "two codings": TYPE + b"Content-Encoding: gzip, br\r\n" + LENGTH + END + BODY,
    "another coding": TYPE + b"Content-Encoding: compress\r\n" + LENGTH + END + BODY,
    "the coding of the transfer": TYPE + b"Transfer-Encoding: gzip, chunked\r\n" + END + chunked(BODY),
    "a charset for a coding": TYPE + b"Content-Encoding: UTF-8\r\n" + LENGTH + END + BODY,
    "identity": TYPE + b"Content-Encoding: identity\r\n" + LENGTH + END + BODY,
    "folded header": TYPE + b"X-A: 1\r\n 2\r\n" + LENGTH + END + BODY,
    "header without colon": TYPE + b"Nonsense\r\n" + LENGTH + END + BODY,
    "space before colon": TYPE + b"X-A : 1\r\n" + LENGTH + END + BODY,
    "line feeds alone": (TYPE + LENGTH + END).replace(b"\r\n", b"\n") + BODY,
    "bytes in a header": TYPE + b"X-A: \xff\xfe\x01\r\n" + LENGTH + END + BODY,
    "no status": TYPE.replace(b"200", b"abc") + LENGTH + END + BODY,
    "status of four digits": TYPE.replace(b"200", b"2000") + LENGTH + END + BODY,
    "HTTP/2": TYPE.replace(b"1.1", b"2") + LENGTH + END + BODY,
    "204": b"HTTP/1.1 204 No Content\r\n" + END,
    "304": b"HTTP/1.1 304 Not Modified\r\n" + END,
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
    "103 first": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + TYPE + LENGTH + END + BODY,
    "nothing": b"",
    "half a head": TYPE + LENGTH,
    "a byte order mark": TYPE + b"Content-Length: %d\r\n" % (len(BODY) + 3) + END + b"\xef\xbb\xbf" + BODY,
}


@pytest.mark.parametrize("verb", ["send", "asend"], indirect=True)
@pytest.mark.parametrize("name", ANSWERS)
def test_both_transports_read_or_refuse_the_same(verb: str, configure: Configure, name: str) -> None:
    """Where two may see the end of an answer in two places, another's begins in the midst of this one."""
    with flood(ANSWERS[name], iter(())) as (url, _):
        configure(it=WIRE.settings(url, MAX_RETRIES=0))
        outcome = run(ai(), verb, HELLO)
    if name in READ:
        assert outcome.reply["content"] == "Yes"
    else:
        assert outcome.error is not None
        assert "\n" not in outcome.error.message


@pytest.mark.parametrize("coding", ["compress", "gzip, br", "snappy"])
def test_a_coding_that_nobody_asked_for_is_named(
    verb: str, provider: Provider, configure: Configure, coding: str
) -> None:
    provider.answer(Answer(200, {**JSON, "content-encoding": coding}, BODY))
    configure(it=WIRE.settings(provider.url, MAX_RETRIES=0))
    error = run(ai(), verb, HELLO).error
    assert error is not None
    assert coding in error.message
