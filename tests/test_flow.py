"""One flow, two shells: drivers of a site's own in both worlds, and waits that end without their task's."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from bupple_engine import OverloadedError, StreamInterruptedError, ai
from bupple_engine.calls.seams import CLOCK
from bupple_engine.drivers.base import ChatDriver
from bupple_engine.exchange.verdict import Again
from bupple_engine.protocol.request import dump
from bupple_engine.transports import use_transport
from bupple_engine.transports.base import TransportFailure
from bupple_engine.wires.claude import ClaudeWire
from tests.conftest import Configure
from tests.provider import Answer, Provider
from tests.pure import begin, build, frames
from tests.verbs import STREAMS, VERBS, run
from tests.virtual import VirtualClock, virtually
from tests.wires import EVENTS, TEXTS, WIRES
from tests.worlds import until

HELLO: Any = [{"role": "user", "content": "Hello"}]
LOCAL: contextvars.ContextVar[str] = contextvars.ContextVar("local", default="unset")
WIRE = WIRES[1]


class Awaited(ChatDriver):
    """Say what the test gives, word by word, from an event loop."""

    heard: list[Any] = []  # noqa: RUF012 # of this test's process alone
    ended = threading.Event()

    async def agenerate(self, messages: list[Any], options: Any) -> AsyncIterator[Any]:
        task = asyncio.current_task()
        self.heard.append((messages[0]["content"], LOCAL.get(), task))
        try:
            for word in ("One ", "two ", "three"):
                await asyncio.sleep(0)
                assert asyncio.current_task() is task
                yield {"content": word}
            if messages[0]["content"] == "fail":
                raise OverloadedError("Busy")
            if messages[0]["content"] == "break":
                raise ZeroDivisionError
            if messages[0]["content"] == "cancelled":
                raise asyncio.CancelledError
            if messages[0]["content"] == "wait":
                await asyncio.sleep(60)
            if messages[0]["content"] != "cut":
                yield {"done": True, "usage": {"total_tokens": 3}}
        finally:
            self.ended.set()


class Lingering(ChatDriver):
    """Wait for the test, where no call can break it."""

    go = threading.Event()

    def generate(self, messages: list[Any], options: Any) -> Iterator[Any]:
        yield {"content": "One"}
        self.go.wait(20)


@pytest.fixture
def awaited(configure: Configure) -> Any:
    """Give the driver that has agenerate() alone."""
    configure(it={"DRIVER": f"{__name__}.Awaited"})
    Awaited.heard.clear()
    Awaited.ended.clear()
    return ai()


@pytest.mark.parametrize("verb", VERBS)
def test_agenerate_serves_every_verb(verb: str, awaited: Any) -> None:
    LOCAL.set("set")
    outcome = run(awaited, verb, HELLO)
    assert outcome.error is None
    assert (outcome.reply["content"], outcome.reply["usage"]["total_tokens"]) == ("One two three", 3)
    assert [heard[:2] for heard in Awaited.heard] == [("Hello", "set")]
    assert until(Awaited.ended.is_set)


@pytest.mark.parametrize("verb", VERBS)
def test_what_agenerate_raises_is_raised_with_its_evidence(verb: str, awaited: Any) -> None:
    outcome = run(awaited, verb, "fail")
    assert type(outcome.error) is OverloadedError
    assert (outcome.error.partial_content, outcome.error.alias) == ("One two three", "it")
    for ending in ("cut", "cancelled"):
        error = run(awaited, verb, ending).error
        assert type(error) is StreamInterruptedError
        assert (error.partial_content, error.alias) == ("One two three", "it")
    with pytest.raises(ZeroDivisionError):
        run(awaited, verb, "break")


async def test_a_synchronous_verb_runs_agenerate_beside_a_running_loop(awaited: Any) -> None:
    assert awaited.send(HELLO)["content"] == "One two three"
    assert [chunk["content"] for chunk in awaited.stream(HELLO)][:3] == ["One ", "two ", "three"]


def test_agenerate_is_ended_by_close_in_the_midst_of_its_wait(awaited: Any) -> None:
    stream = awaited.stream("wait")
    assert [next(stream)["content"] for _ in range(3)] == ["One ", "two ", "three"]
    reading: list[Any] = []
    thread = threading.Thread(target=lambda: reading.append(next(stream, "the end")))
    thread.start()
    stream.close()
    thread.join(20)
    assert reading == ["the end"]
    assert Awaited.ended.wait(20)
    assert not [each for each in threading.enumerate() if each.name == "bupple_engine generate"]


@pytest.mark.parametrize("way", ["aclose", "close", "cancel", "timeout", "del"])
async def test_agenerate_is_ended_with_its_stream(awaited: Any, way: str) -> None:
    stream = awaited.astream("wait")
    for _ in range(3):
        await anext(stream)
    if way == "timeout":
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(stream)
    elif way == "del":
        del stream
        gc.collect()
    else:
        reading = asyncio.create_task(anext(stream, "the end"))
        await asyncio.sleep(0)
        if way == "cancel":
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        else:
            await stream.aclose() if way == "aclose" else stream.close()
            assert await reading == "the end"
            assert reading.cancelling() == 0
    async with asyncio.timeout(20):
        while not Awaited.ended.is_set():
            await asyncio.sleep(0.001)
    assert len(asyncio.all_tasks()) == 1


# A wait that is ended, and a task that goes on


class Never:
    """Be a transport that waits for ever, with a trace of what it was left by."""

    def __init__(self, *, reads: bool = False) -> None:
        self.reads = reads
        self.left: list[str] = []
        self.closed = 0
        self.status, self.headers = 200, EVENTS
        self._over: asyncio.Future[bytes] | None = None

    async def aopen(self, request: Any, waiting: Any) -> Any:
        if self.reads:
            return self
        await self._wait()

    async def read(self, seconds: float) -> bytes:
        self._over = asyncio.get_running_loop().create_future()
        return await self._over

    async def drain(self, seconds: float) -> None:
        pass

    def close(self) -> None:
        self.closed += 1
        if self._over is not None and not self._over.done():
            self._over.set_exception(TransportFailure("closed"))

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(60):  # as aiohttp does inside of an open
                await asyncio.sleep(60)
        except BaseException as error:
            self.left.append(type(error).__name__)
            raise


def ends() -> dict[str, Callable[[Any], Any]]:
    async def of_another_thread(stream: Any) -> None:
        await asyncio.to_thread(stream.close)

    return {"aclose": lambda stream: stream.aclose(), "close": of_another_thread}


@pytest.mark.parametrize("reads", [False, True], ids=["an open", "a read"])
@pytest.mark.parametrize("way", ["aclose", "close"])
async def test_the_task_that_waits_is_never_cancelled(configure: Configure, way: str, reads: bool) -> None:
    """It reads on behind the stream's end, inside a TaskGroup and a timeout, as if nothing had been."""
    configure(it=WIRE.settings("http://nobody.invalid"))
    never = Never(reads=reads)
    told: list[Any] = []

    async def read(stream: Any) -> None:
        task: Any = asyncio.current_task()
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            told.append(await anext(stream, "the end"))
            told.append(task.cancelling())
            group.create_task(asyncio.sleep(0))
            await asyncio.sleep(0)
        told.append("after")

    with use_transport(never):
        stream = ai().astream(HELLO)
        reading = asyncio.create_task(read(stream))
        await asyncio.sleep(0.01)
        cancelled: list[object] = []
        reading.cancel = lambda *about: cancelled.append(about) or False  # type: ignore[method-assign, func-returns-value]
        await ends()[way](stream)
        await reading
    assert (told, cancelled) == (["the end", 0, "after"], [])
    assert never.left == ([] if reads else ["CancelledError"])
    assert bool(never.closed) is reads


@pytest.mark.parametrize("reads", [False, True], ids=["an open", "a read"])
async def test_a_caller_that_is_cancelled_while_its_stream_is_closed_is_cancelled(
    configure: Configure, reads: bool
) -> None:
    configure(it=WIRE.settings("http://nobody.invalid"))
    with use_transport(Never(reads=reads)):
        for first in ("cancel", "close"):
            stream = ai().astream(HELLO)
            reading = asyncio.ensure_future(anext(stream, "the end"))
            await asyncio.sleep(0.01)
            if first == "cancel":
                reading.cancel()
                stream.close()
            else:
                stream.close()
                reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading


async def test_a_pause_is_ended_with_its_stream(configure: Configure, provider: Provider) -> None:
    provider.answer(Answer(429, {"retry-after": "50"}, b"{}"), repeat=True)
    configure(it=WIRE.settings(provider.url))
    stream = ai().astream(HELLO)
    reading = asyncio.ensure_future(anext(stream, "the end"))
    async with asyncio.timeout(20):
        while not provider.requests:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        await stream.aclose()
        assert await reading == "the end"


@pytest.mark.parametrize("way", ["aclose", "close"])
async def test_a_thread_that_can_not_be_broken_holds_no_reader(configure: Configure, way: str) -> None:
    configure(it={"DRIVER": f"{__name__}.Lingering"})
    Lingering.go.clear()
    stream = ai().astream(HELLO)
    try:
        assert (await anext(stream))["content"] == "One"
        reading = asyncio.ensure_future(anext(stream, "the end"))
        await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            await ends()[way](stream)
            assert await reading == "the end"
    finally:
        Lingering.go.set()


# What the flow sees to


@pytest.mark.parametrize("verb", STREAMS)
def test_an_error_behind_chunks_of_one_piece_waits_for_no_other_piece(
    verb: str, configure: Configure
) -> None:
    configure(it=WIRE.settings("http://nobody.invalid"))
    with virtually((200, EVENTS, WIRE.stream_error(TEXTS, "overloaded"), 50.0)) as (script, clock):
        outcome = run(ai(), verb, HELLO)
    assert type(outcome.error) is OverloadedError
    assert (outcome.text, clock.now()) == ("".join(TEXTS), 0)
    assert script.said[0].closed


def test_the_echo_of_a_request_is_made_only_for_an_answer_that_wants_it() -> None:
    """It is a hash over all that was sent, images among it."""
    made: list[Any] = []

    class Counting(ClaudeWire):
        def build_echo(self, body: Any, options: Any) -> dict[str, Any]:
            made.append(body)
            return super().build_echo(body, options)

    wire = Counting("claude")
    for thinking in (False, True):
        said = [{"type": "thinking", "thinking": "Hm", "signature": "c2ln"}] if thinking else []
        request = build(wire)
        exchange = begin(wire, stream=False, request=request)
        exchange.receive_head(200, {})
        content = [*said, {"type": "text", "text": "Hello"}]
        exchange.receive(dump({"content": content, "stop_reason": "end_turn"}))
        exchange.receive(b"")
        metadata = exchange.reply()["metadata"]
        assert len(made) == thinking
        assert ("echo" in metadata) is thinking
    prefix = metadata["echo"]["prefix"]
    assert prefix == wire.build_echo(json.loads(request.body), {})["prefix"]


def test_a_request_is_never_changed() -> None:
    request = build("claude")
    for name in ("url", "body", "headers", "stream", "echo", "method", "secrets", "_body"):
        with pytest.raises(AttributeError, match="never changed"):
            setattr(request, name, None)
        with pytest.raises(AttributeError, match="never changed"):
            delattr(request, name)
    other = request.replace(url="http://other", body=b"{}")
    assert (other.url, other.body, other.headers) == ("http://other", b"{}", request.headers)
    assert request.body != b"{}"
    assert copy.copy(request) is copy.deepcopy(request) is request


def test_an_attempt_that_another_follows_says_what_was_known_of_it() -> None:
    clock = VirtualClock()
    with CLOCK.use(clock):
        exchange = begin("claude", max_retries=2)
    exchange.receive_head(200, {"request-id": "req_1"})
    start = {"type": "message_start", "message": {"model": "m-1", "usage": {"input_tokens": 12}}}
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}
    clock.seconds = 3.0
    with pytest.raises(OverloadedError) as caught:
        exchange.receive(frames(start, error))
    verdict = exchange.settle(caught.value)
    assert isinstance(verdict, Again)
    attempt = verdict.attempt
    assert (attempt.number, attempt.alias, attempt.model, attempt.status) == (1, "it", "m", 200)
    assert (attempt.request_id, attempt.started, attempt.first_chunk, attempt.ended) == ("req_1", 0, None, 3)
    assert attempt.usage is not None
    assert attempt.usage["prompt_tokens"] == 12
    assert attempt.error is caught.value
    assert attempt.pause == verdict.seconds > 0


class SoftLimit(Exception):
    """What a task queue raises from a signal."""


@pytest.mark.parametrize("verb", VERBS)
def test_what_a_signal_raises_in_a_read_passes_bare_and_closes(verb: str, configure: Configure) -> None:
    configure(it=WIRE.settings("http://nobody.invalid"))

    def pieces() -> Iterator[bytes]:
        raise SoftLimit
        yield b""

    with virtually((200, EVENTS)) as (script, _):
        make = script.open

        def open_to_the_signal(request: Any, waiting: Any) -> Any:
            said = make(request, waiting)
            said._pieces = pieces()
            return said

        script.open = open_to_the_signal  # type: ignore[method-assign]
        with pytest.raises(SoftLimit) as caught:
            run(ai(), verb, HELLO)
    assert caught.value.__context__ is None
    assert script.said[0].closed


@pytest.mark.parametrize("verb", VERBS)
def test_each_answer_is_closed_before_the_pause(verb: str, configure: Configure) -> None:
    configure(it=WIRE.settings("http://nobody.invalid"))
    whole = WIRE.stream(TEXTS) if verb in STREAMS else WIRE.reply("".join(TEXTS))
    with virtually((529, {}, b"{}"), (200, {}, whole)) as (script, clock):
        pause, open_then = clock.pause, list[Any]()

        def look(*about: Any) -> None:
            open_then.extend(said for said in script.said if not said.closed)
            pause(*about)

        clock.pause = look  # type: ignore[method-assign, assignment]
        assert run(ai(), verb, HELLO).error is None
    assert (open_then, len(clock.pauses)) == ([], 1)
    assert all(said.closed for said in script.said)
