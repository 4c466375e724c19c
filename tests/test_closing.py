"""Closing or abandoning a stream ends the provider's work at once, from wherever it is done."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import CancelledError
from functools import partial
from typing import Any, ClassVar

import pytest
from asgiref.sync import sync_to_async

from bupple_engine import ProviderTimeoutError, ai
from bupple_engine.calls import bridge, threads
from bupple_engine.drivers.base import ChatDriver
from tests.conftest import Configure
from tests.provider import Answer, Provider
from tests.wires import ChatCompletions
from tests.worlds import END, SECONDS, WORLDS, Asynchronous, World, until, waits_in

HELLO: Any = [{"role": "user", "content": "Hello"}]
WIRE = ChatCompletions()
FIRST = WIRE.stream_without_end(["Hello"])
AT_ONCE = 5.0  # seconds; it takes a few milliseconds, which this file prints
MOMENTS = ["first", "head", "body", "pause"]


def ends(world: str, moment: str) -> list[str]:
    """Return what can end a stream; in every moment but the first a read waits."""
    ways = ["close"] if world == "sync" else ["close", "aclose"]
    if moment == "first":
        return [*ways, "del"]
    return ways if world == "sync" else [*ways, "cancel"]


CASES = [(world, moment, way) for world in WORLDS for moment in MOMENTS for way in ends(world, moment)]

measured: dict[str, list[float]] = defaultdict(list)


@pytest.fixture(autouse=True, scope="module")
def _print() -> Iterator[None]:
    """Show the times with pytest -s."""
    yield
    for what, times in sorted(measured.items()):
        times = sorted(1000 * each for each in times)
        print(f"\n{what}: median {times[len(times) // 2]:.1f} ms, longest {times[-1]:.1f} ms")


tasks_only = pytest.mark.parametrize("world", ["aiohttp", "threads"], indirect=True)


@pytest.fixture(params=["http", "https"])
def server(request: pytest.FixtureRequest) -> Provider:
    """Give a provider, with and without TLS."""
    return request.getfixturevalue("provider" if request.param == "http" else "tls_provider")  # type: ignore[no-any-return]


@pytest.fixture
def driver(request: pytest.FixtureRequest, configure: Configure) -> Any:
    """Give a driver pointed at the provider."""
    name = "server" if "server" in request.fixturenames else "provider"
    server, options = request.getfixturevalue(name), {}
    if server.tls:
        options["CA_FILE"] = request.getfixturevalue("ca_file")
    configure(it=WIRE.settings(server.url, **options))
    return ai()


def bring_to(moment: str, world: World, provider: Provider, driver: Any, caplog: Any) -> Any:
    """Begin a stream and bring it to a moment; return the read that waits there."""
    silence = threading.Event()
    provider.answer(
        {
            "head": Answer(hold=silence),
            "first": Answer(pieces=[FIRST, silence]),
            "body": Answer(pieces=[FIRST, silence]),
            "pause": Answer(503, {"retry-after": "30"}),
        }[moment],
        Answer(500, body=b"a second attempt"),
    )
    world.begin(driver, HELLO)
    if moment in ("first", "body"):
        assert world.read().result(SECONDS)["content"] == "Hello"
    if moment == "first":
        return None
    pending = world.read()
    if moment == "pause":
        until(lambda: "again in 30.00 s" in caplog.text)
    else:
        until(lambda: provider.requests)
    if isinstance(world, Asynchronous):
        world.tasks()  # a turn of the loop: the reader has come to its wait
    if world.name != "aiohttp":
        until(lambda: waits_in("readinto", "recv_into", "read", "wait"))
    return pending


def stopped(pending: Any, way: str) -> bool:
    """Tell whether a blocked read ended as its end asks for."""
    try:
        return bool(pending.result(SECONDS) is END and way != "cancel")
    except CancelledError:
        return way == "cancel"


@pytest.mark.parametrize(("world", "moment", "way"), CASES, indirect=["world"])
def test_an_end_is_seen_by_the_provider_at_once(
    world: World, server: Provider, driver: Any, moment: str, way: str, facts: list[Any], caplog: Any
) -> None:
    pending = bring_to(moment, world, server, driver, caplog)
    started = time.monotonic()
    world.end(way)
    if pending is not None:
        assert stopped(pending, way)
    closed = server.wait_closed() if moment != "pause" else time.monotonic()
    measured[f"{world.name}, {way}"].append(closed - started)
    assert closed - started < AT_ONCE
    if way != "del":
        world.end("close")
        assert world.read().result(SECONDS) is END
    assert [each["outcome"] for each in until(lambda: facts)] == ["interrupted"]
    assert len(server.requests) == 1


def test_a_stream_that_never_started_leaves_nothing(
    world: World, provider: Provider, driver: Any, facts: list[Any]
) -> None:
    for way in ends(world.name, "first"):
        world.begin(driver, HELLO)
        world.end(way)
        if way != "del":
            assert world.read().result(SECONDS) is END
    assert (provider.connections, facts) == (0, [])


def test_a_loop_that_is_left_ends_the_stream(
    provider: Provider, driver: Any, facts: list[Any], request: Any
) -> None:
    """asyncio.run may end before what a break has begun: neither the connection nor the signal is lost."""
    silence = threading.Event()
    provider.answer(Answer(pieces=[FIRST, silence]), repeat=True)

    async def main() -> None:
        async for _ in driver.astream(HELLO):
            break

    async def held() -> None:
        streams.append(driver.astream(HELLO))
        await anext(streams[0])

    streams: list[Any] = []
    for way in ("own", "threads"):
        if way == "threads":
            request.getfixturevalue("without_aiohttp")
        for left in (main, held):
            started = time.monotonic()
            asyncio.run(left())
            assert provider.wait_closed() - started < AT_ONCE
            streams.clear()
    for _ in driver.stream(HELLO):
        break
    provider.wait_closed()
    until(lambda: len(facts) == 5)
    assert {each["outcome"] for each in facts} == {"interrupted"}


@tasks_only
def test_a_cancelled_asend_is_seen_by_the_provider_at_once(
    world: Asynchronous, provider: Provider, driver: Any, facts: list[Any]
) -> None:
    provider.answer(Answer(hold=threading.Event()))
    pending = asyncio.run_coroutine_threadsafe(driver.asend(HELLO), world.loop)
    until(lambda: provider.requests)
    started = time.monotonic()
    pending.cancel()
    assert provider.wait_closed() - started < AT_ONCE
    assert [each["outcome"] for each in until(lambda: facts)] == ["interrupted"]


@tasks_only
def test_a_cancellation_is_not_taken_for_the_end_of_the_stream(
    world: Asynchronous, provider: Provider, driver: Any
) -> None:
    """A task that is cancelled while another closes its stream stays cancelled."""
    provider.answer(Answer(hold=threading.Event()))

    async def both() -> bool:
        world.begin(driver, HELLO)
        reader = asyncio.ensure_future(anext(world.stream, END))
        while not provider.requests:
            await asyncio.sleep(0.001)
        reader.cancel()
        await world.stream.aclose()
        await asyncio.wait([reader])
        return reader.cancelled()

    assert world.run(both())


def test_no_chunk_follows_the_end(world: World, provider: Provider, driver: Any) -> None:
    """What came in one piece with the chunk that was read is not handed on after close()."""
    provider.answer(
        Answer(
            pieces=[
                WIRE.stream_without_end(["a", "b"]) + b'data: {"choices": [{"delta": {"content": "c"}}]}',
                threading.Event(),
            ]
        )
    )
    world.begin(driver, HELLO)
    assert world.read().result(SECONDS)["content"] == "a"
    world.end("close")
    until(lambda: provider.wait_closed())
    assert world.read().result(SECONDS) is END


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_request_that_nobody_reads_can_be_left(
    world: World, configure: Configure, ca_file: str, scheme: str
) -> None:
    """Blocked in the handshake, or in sending more than the buffers hold."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        configure(it=WIRE.settings(f"{scheme}://127.0.0.1:{port}", CA_FILE=ca_file))
        world.begin(ai(), [{"role": "user", "content": "long " * 4_000_000}])
        pending = world.read()
        listener.settimeout(SECONDS)
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(SECONDS)
            assert accepted.recv(1)
            time.sleep(0.05)  # for the buffers to be full; without it the test still holds
            started = time.monotonic()
            world.end("close")
            assert stopped(pending, "close")
            with pytest.raises(ConnectionError):  # noqa: PT012
                while accepted.recv(1_000_000):
                    pass
                raise ConnectionResetError("a clean end")
            assert time.monotonic() - started < AT_ONCE


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_fifty_abandoned_streams_leave_nothing(
    world: World, provider: Provider, driver: Any, facts: list[Any]
) -> None:
    silence = threading.Event()
    provider.answer(Answer(pieces=[FIRST, silence]), repeat=True)

    def abandon(count: int) -> None:
        for number in range(count):
            world.begin(driver, HELLO)
            world.read().result(SECONDS)
            if number % 2:  # found by the garbage collector alone
                world.stream.itself = world.stream
        world.stream = None
        gc.collect()
        for connection in range(1, provider.connections + 1):
            until(partial(is_closed, connection))

    def is_closed(connection: int) -> bool:
        try:
            provider.wait_closed(connection, 0.2)
        except TimeoutError:
            gc.collect()  # which does nothing while another thread is at it
            return False
        return True

    abandon(1)
    until(lambda: facts)
    threads.reset()
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("bupple_engine_")])
    open_before, threads_before, objects_before = descriptors(), set(threading.enumerate()), count_objects()
    abandon(50)
    if isinstance(world, Asynchronous):
        until(lambda: world.tasks() == 0)
    threads.reset()
    # The provider's own threads end with their connections.
    until(lambda: set(threading.enumerate()) <= threads_before)
    until(lambda: descriptors() <= open_before)
    until(lambda: len(facts) == 51)
    facts.clear()
    gc.collect()
    assert count_objects() <= objects_before


def count_objects() -> int:
    """Return how many calls, streams and responses are alive."""
    names = ("Stream", "AsyncStream", "Call", "Exchange", "BlockingResponse", "AiohttpResponse")
    return sum(
        type(each).__name__ in names and type(each).__module__.startswith("bupple_engine")
        for each in gc.get_objects()
    )


class Talkative(ChatDriver):
    """A driver that says a megabyte at a time, or nothing but reasoning."""

    said = 0
    piece: ClassVar[dict[str, Any]] = {}

    def generate(self, messages: Any, options: Any) -> Iterator[Any]:
        for _ in range(1000):
            type(self).said += 1
            yield self.piece
        yield {"done": True}


@pytest.mark.parametrize(
    ("piece", "most"),
    [
        ({"content": "x" * 1_000_000}, 3),
        ({"metadata": {"reasoning": "x" * 1_000_000}}, 3),
        ({"content": "x" * 10_000}, 10),
        ({"content": "x"}, 1000),
    ],
)
async def test_a_thread_runs_ahead_by_what_it_says_not_by_how_often(
    configure: Configure, piece: Any, most: int
) -> None:
    Talkative.said, Talkative.piece = 0, piece
    configure(it={"DRIVER": f"{__name__}.Talkative"})
    stream = ai().astream(HELLO)
    await anext(stream)
    said = -1
    while said != Talkative.said:
        said = Talkative.said
        await asyncio.sleep(0.1)
    assert said <= most
    await stream.aclose()


async def test_a_reader_that_turns_away_holds_no_connection_beyond_the_clocks(
    provider: Provider, configure: Configure, without_aiohttp: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread waits for room, and nobody asks it for the time."""
    monkeypatch.setattr(bridge, "BACKLOG_CHARACTERS", 500)
    configure(it=WIRE.settings(provider.url, TIMEOUT={"total": 1.0}, MAX_RETRIES=0))
    more = WIRE.stream_without_end(["Hello "]).split(b"\n\n")[-2] + b"\n\n"
    provider.answer(Answer(pieces=[FIRST, *[more] * 100, threading.Event()]))
    stream = ai().astream(HELLO)
    await anext(stream)
    await asyncio.to_thread(provider.wait_closed)
    with pytest.raises(ProviderTimeoutError):
        async for _ in stream:
            pass


def test_a_thread_ends_where_its_loop_was_closed(
    provider: Provider, driver: Any, without_aiohttp: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop may be closed by one who ends none of its generators; more chunks wait there than are let in."""
    monkeypatch.setattr(bridge, "BACKLOG_CHARACTERS", 5000)
    pieces = [piece for number in range(300) for piece in (WIRE.stream_without_end([str(number)]), 0.0001)]
    provider.answer(Answer(pieces=[*pieces, threading.Event()]))
    loop = asyncio.new_event_loop()
    stream = driver.astream(HELLO)
    loop.run_until_complete(anext(stream))
    loop.close()
    provider.wait_closed()
    threads.reset()
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("bupple_engine_")])
    del stream


@pytest.mark.parametrize("way", ["own", "threads"])
def test_the_signal_is_sent_where_asgiref_refuses_its_thread(
    provider: Provider, driver: Any, facts: list[Any], request: pytest.FixtureRequest, way: str
) -> None:
    """As it does for what was begun, or dropped, by synchronous code that occupies that thread."""
    if way == "threads":
        request.getfixturevalue("without_aiohttp")
    provider.answer(Answer(body=WIRE.stream(["Hello"])), Answer(pieces=[FIRST, threading.Event()]))

    async def read() -> list[Any]:
        return [chunk async for chunk in driver.astream(HELLO)]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reading = await sync_to_async(lambda: asyncio.run_coroutine_threadsafe(read(), loop))()
        assert (await asyncio.wrap_future(reading))[-1]["done"]
        abandoned = [driver.astream(HELLO)]
        await anext(abandoned[0])
        await sync_to_async(abandoned.clear)()
        while len(facts) < 2:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(main(), SECONDS))
    assert [each["outcome"] for each in facts] == ["complete", "interrupted"]
