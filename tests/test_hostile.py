"""A provider that never comes to an end: every clock holds, and what is kept of it is bounded."""

from __future__ import annotations

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
from bupple_engine.transports.chunked import Dechunker
from tests.conftest import Configure
from tests.provider import Answer, Provider
from tests.verbs import STREAMS, VERBS, Outcome, run
from tests.wires import EVENTS, JSON, ChatCompletions
from tests.worlds import SECONDS, until

HELLO: Any = [{"role": "user", "content": "Hello"}]
WIRE = ChatCompletions()
CLOCK = 0.5
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n"
CHUNKED = HEAD % b"text/event-stream" + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(params=[*VERBS, "asend-threads", "astream-threads"])
def verb(request: pytest.FixtureRequest) -> str:
    """Give each verb, the asynchronous ones over aiohttp and over threads."""
    name, _, threads = request.param.partition("-")
    if threads:
        request.getfixturevalue("without_aiohttp")
    return str(name)


@contextmanager
def flood(first: bytes, pieces: Iterator[bytes], pause: float = 0.0) -> Iterator[tuple[str, threading.Event]]:
    """Give the URL of a server that answers its one connection with pieces until its client leaves."""
    left = threading.Event()

    def serve(listener: socket.socket) -> None:
        connected, _ = listener.accept()
        with connected, suppress(OSError):
            connected.settimeout(SECONDS)
            connected.recv(65_536)
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


@pytest.mark.parametrize("pause", [0.0, 0.01], ids=["fast", "slow"])
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
def test_a_flood_ends_at_once_where_its_reader_has_gone(configure: Configure, name: str) -> None:
    """No thread goes on with it: neither one of a server nor one of ours."""
    first, pieces = FLOODS[name]
    with flood(first, pieces()) as (url, left), ThreadPoolExecutor(1) as reader:
        configure(it=WIRE.settings(url, MAX_RETRIES=0, TIMEOUT=60))
        stream = ai().stream(HELLO)
        reading = reader.submit(lambda: next(stream, None))
        until(lambda: waits_in_flood(reader))
        closed = time.monotonic()
        stream.close()
        with suppress(EngineError):  # an end of its own, such as too many heads
            reading.result(SECONDS)
        assert time.monotonic() - closed < 5
        assert left.wait(SECONDS)


def waits_in_flood(reader: ThreadPoolExecutor) -> bool:
    (thread,) = reader._threads
    frame = sys._current_frames().get(thread.ident)
    while frame is not None:
        if frame.f_code.co_name == "open":
            return True
        frame = frame.f_back
    return False


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
        connected.settimeout(SECONDS)
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
