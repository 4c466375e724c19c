"""The response that streams, in both worlds, over chunks whose every arrival the test decides."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.test import AsyncRequestFactory, RequestFactory

from bupple_engine import (
    AuthenticationError,
    InvalidRequestError,
    Outcome,
    RateLimitError,
    StreamInterruptedError,
    ai,
)
from bupple_engine.calls import threads
from bupple_engine.http import EventStream, PlainText, asgi, astream_response, shutdown, stream_response, wsgi
from bupple_engine.http.asgi import AsyncRelay
from bupple_engine.http.problems import ShuttingDownError
from bupple_engine.http.wsgi import Relay
from tests.provider import Answer, Provider
from tests.wires import EVENTS, ChatCompletions, Claude
from tests.worlds import SECONDS, until

ONE: Any = {"role": "assistant", "content": "one ", "done": False}
TWO: Any = {"role": "assistant", "content": "two", "done": False}
LAST: Any = {
    "role": "assistant",
    "content": "",
    "done": True,
    "model": "m",
    "usage": {"total_tokens": 3},
    "finish_reason": "stop",
    "metadata": {"driver": "echo", "signature": "not a client's"},
}
BEAT = b": keep-alive\n"
VARIABLE: ContextVar[str] = ContextVar("VARIABLE")
HELLO: Any = [{"role": "user", "content": "Hello there"}]


class Source:
    """Chunks that come when the test says so: a chunk, an error to raise, or None for the end."""

    def __init__(self) -> None:
        self.said: SimpleQueue[Any] = SimpleQueue()
        self.asked = 0
        self.closed = threading.Event()

    def say(self, *items: Any) -> None:
        for item in items:
            self.said.put(item)

    def close(self) -> None:
        self.closed.set()
        self.said.put(None)


class BlockingSource(Source, Iterator[Any]):
    def __next__(self) -> Any:
        self.asked += 1
        item = self.said.get()
        if item is None:
            raise StopIteration
        if isinstance(item, BaseException):
            raise item
        return item


class AwaitedSource(Source, AsyncIterator[Any]):
    async def __anext__(self) -> Any:
        self.asked += 1
        while self.said.empty():
            await asyncio.sleep(0.001)
        item = self.said.get()
        if item is None:
            raise StopAsyncIteration
        if isinstance(item, BaseException):
            raise item
        return item

    async def aclose(self) -> None:
        self.closed.set()


class World:
    """One way of serving: what a test says in coroutines is done with threads under WSGI."""

    def __init__(self, name: str) -> None:
        self.is_async = name == "asgi"
        self.source: Any = AwaitedSource() if self.is_async else BlockingSource()
        self.ended: list[Outcome] = []
        self.dialect: Any = EventStream()

    def request(self) -> Any:
        return (AsyncRequestFactory() if self.is_async else RequestFactory()).get("/")

    @property
    def ends(self) -> int:
        return len(self.ended)

    def end(self, outcome: Outcome) -> None:
        self.ended.append(outcome)

    async def respond(self, **arguments: Any) -> Any:
        arguments = {"dialect": self.dialect, "on_end": self.end, **arguments}
        if "messages" not in arguments:
            arguments.setdefault("chunks", self.source)
        if self.is_async:
            return await astream_response(self.request(), **arguments)
        return await asyncio.to_thread(stream_response, self.request(), **arguments)

    async def open(self, *items: Any, **arguments: Any) -> Any:
        self.source.say(*items)
        response = await self.respond(**arguments)
        assert response.status_code == 200
        return response._iterator

    async def take(self, relay: Any) -> bytes | None:
        """Return the next piece, None at the end."""
        async with asyncio.timeout(SECONDS):
            if self.is_async:
                return await anext(relay, None)
            return await asyncio.to_thread(next, relay, None)

    async def rest(self, relay: Any) -> bytes:
        pieces = []
        while (piece := await self.take(relay)) is not None:
            pieces.append(piece)
        return b"".join(pieces)

    async def until(self, condition: Any) -> None:
        await asyncio.to_thread(until, condition)


@pytest.fixture(params=["wsgi", "asgi"])
def world(request: pytest.FixtureRequest, settings: Any) -> World:
    """Give each way of serving."""
    set_api(settings)
    return World(request.param)


def set_api(settings: Any, **api: Any) -> None:
    """Set what the tests need of the API's settings; the clocks are long unless a test says otherwise."""
    settings.BUPPLE_ENGINE = {"DRIVERS": {"echo": {}}, "API": {"GATE_SECONDS": SECONDS, **api}}


def error_of(response: Any) -> Any:
    """Return the error that a response tells."""
    assert response["Content-Type"] == "application/json"
    return json.loads(response.content)["error"]


def told(piece: bytes | None) -> Any:
    """Return the error that an event tells."""
    assert piece is not None
    assert b"event: error\n" in piece
    return json.loads(piece.rpartition(b"data: ")[2])["error"]


async def test_the_bytes(world: World) -> None:
    relay = await world.open(ONE)
    assert await world.take(relay) == (b'id: 1\ndata: {"role":"assistant","content":"one ","done":false}\n\n')
    world.source.say({"role": "assistant", "content": "", "done": False, "metadata": {"reasoning": "hm"}})
    assert await world.take(relay) == (
        b'id: 2\ndata: {"role":"assistant","content":"","done":false,"metadata":{"reasoning":"hm"}}\n\n'
    )
    world.source.say(LAST, None)
    assert await world.rest(relay) == (
        b'id: 3\ndata: {"role":"assistant","content":"","done":true,"model":"m",'
        b'"usage":{"prompt_tokens":null,"completion_tokens":null,"total_tokens":3},"finish_reason":"stop","metadata":{}}\n\n'
    )
    await world.until(lambda: world.ends)
    assert world.ends == 1


async def test_the_headers(world: World) -> None:
    world.source.say(LAST, None)
    response = await world.respond()
    assert dict(response.items()) == {
        "Cache-Control": "no-cache, no-transform",
        "Content-Encoding": "identity",
        "X-Accel-Buffering": "no",
        "Content-Type": "text/event-stream; charset=utf-8",
    }
    await world.rest(response._iterator)


async def test_messages_instead_of_chunks(world: World) -> None:
    response = await world.respond(messages=HELLO, driver="echo", dialect=PlainText())
    assert await world.rest(response._iterator) == b"Hello there"
    response = await world.respond(messages=HELLO, driver=ai("echo"), max_tokens=1, dialect=PlainText())
    assert await world.rest(response._iterator) == b"Hello"


async def test_bad_messages_raise(world: World) -> None:
    with pytest.raises(InvalidRequestError, match="is blank"):
        await world.respond(messages=[{"role": "user", "content": " "}])
    with pytest.raises(ImproperlyConfigured, match="nobody"):
        await world.respond(messages=HELLO, driver="nobody")


async def test_a_failure_before_the_first_words_has_a_status(world: World) -> None:
    world.source.say(RateLimitError("Slow down, sk-1234", code=429, retry_after=6.2))
    response = await world.respond()
    assert response.status_code == 429
    assert response["Retry-After"] == "7"
    assert "x-should-retry" not in response
    error = error_of(response)
    assert error.pop("id")
    assert error == {
        "type": "RateLimitError",
        "message": "The AI provider limits this site's rate. Try again later.",
        "code": 429,
        "retry_after": 6.2,
    }
    await world.until(lambda: world.ends)
    assert world.source.closed.is_set()


async def test_what_must_not_be_repeated_says_so(world: World) -> None:
    world.source.say(AuthenticationError("Wrong key", code=401))
    response = await world.respond()
    assert (response.status_code, response["x-should-retry"]) == (502, "false")


async def test_a_failure_after_the_first_words_is_an_event(world: World, caplog: Any) -> None:
    relay = await world.open(ONE)
    await world.take(relay)
    world.source.say(StreamInterruptedError("The provider's words"))
    error = told(await world.take(relay))
    assert (error["type"], error["code"]) == ("StreamInterruptedError", 502)
    assert await world.take(relay) is None
    records = [record for record in caplog.records if getattr(record, "error_id", None) == error["id"]]
    assert "The provider's words" in records[0].getMessage()


async def test_pieces_come_before_the_error_behind_them(world: World) -> None:
    relay = await world.open(ONE, TWO, StreamInterruptedError("cut"))
    written = await world.rest(relay)
    assert [line[:7] for line in written.split(b"\n") if line[:5] in (b"data:", b"event")] == [
        b"data: {",
        b"data: {",
        b"event: ",
        b"data: {",
    ]


async def test_chunks_that_end_without_a_last_one_were_cut(world: World) -> None:
    relay = await world.open(ONE, None)
    assert b"event: error" in await world.rest(relay)


async def test_chunks_that_never_began(world: World) -> None:
    world.source.say(None)
    assert (await world.respond()).status_code == 502


async def test_an_error_behind_a_whole_answer_is_not_told(world: World) -> None:
    relay = await world.open(ONE, LAST, ValueError("late"))
    assert b"event: error" not in await world.rest(relay)


async def test_a_last_chunk_that_cannot_be_told_is_an_error(world: World) -> None:
    class Fussy(EventStream):
        def encode(self, chunk: Any) -> bytes:
            if chunk["done"]:
                raise KeyError(chunk["finish_reason"])
            return super().encode(chunk)

    world.dialect = Fussy()
    relay = await world.open(ONE, LAST, None)
    assert b"event: error" in await world.rest(relay)


async def test_chunks_that_cannot_be_closed(world: World) -> None:
    def fail() -> None:
        raise OSError("can't be closed")

    async def afail() -> None:
        fail()

    world.source.close, world.source.aclose = fail, afail
    relay = await world.open(ONE, ValueError("a bug"))
    assert b"event: error" in await world.rest(relay)
    await world.until(lambda: world.ends and relay not in shutdown._open)


async def test_an_unexpected_error_raises_before_and_is_told_after(world: World, caplog: Any) -> None:
    world.source.say(KeyError("a bug"))
    with pytest.raises(KeyError):
        await world.respond()
    world = World("asgi" if world.is_async else "wsgi")
    relay = await world.open(ONE, ValueError("another bug"))
    error = json.loads((await world.rest(relay)).rpartition(b"data: ")[2])["error"]
    assert (error["type"], error["message"]) == ("ServerError", "The server failed.")
    record = next(record for record in caplog.records if getattr(record, "error_id", None) == error["id"])
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None


async def test_plain_text_is_cut_where_it_breaks_off(world: World) -> None:
    world.dialect = PlainText()
    relay = await world.open(ONE, TWO, StreamInterruptedError("cut"))
    await world.until(lambda: world.ends)
    assert await world.take(relay) == b"one two"
    with pytest.raises(StreamInterruptedError):
        await world.take(relay)
    assert await world.take(relay) is None


async def test_the_gate_opens_with_a_heartbeat(world: World, settings: Any) -> None:
    set_api(settings, GATE_SECONDS=0.01)
    relay = await world.open()
    assert await world.take(relay) == BEAT
    world.source.say(RateLimitError("Too late for a status", code=429))
    assert told(await world.take(relay))["code"] == 429


async def test_reasoning_and_empty_text_open_the_gate(world: World) -> None:
    world.dialect = PlainText()
    world.source.say({"role": "assistant", "content": "", "done": False, "metadata": {"reasoning": "hm"}})
    response = await world.respond()
    world.source.say(ONE, LAST, None)
    assert await world.rest(response._iterator) == b"one "


async def test_heartbeats_while_the_model_is_silent(world: World, settings: Any) -> None:
    set_api(settings, HEARTBEAT_SECONDS=0.02)
    relay = await world.open(ONE)
    assert BEAT not in (await world.take(relay) or b"")
    assert await world.take(relay) == BEAT
    assert await world.take(relay) == BEAT
    world.source.say(LAST, None)
    written = await world.rest(relay)
    assert b'"done":true' in written


@pytest.mark.parametrize("begun", [False, True])
async def test_a_reader_that_leaves_ends_the_answer(world: World, begun: bool) -> None:
    relay = await world.open(ONE)
    if begun:
        await world.take(relay)
    await asyncio.to_thread(relay.close)
    await world.until(lambda: world.source.closed.is_set() and world.ends)
    assert await world.take(relay) is None
    relay.close()
    assert world.ends == 1


async def test_a_reader_that_leaves_while_the_gate_is_closed() -> None:
    world = World("asgi")
    task = asyncio.create_task(world.respond())
    await world.until(lambda: world.source.asked)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.source.closed.is_set()
    await world.until(lambda: world.ends)


async def test_a_reader_that_leaves_while_it_waits() -> None:
    world = World("asgi")
    relay = await world.open(ONE)
    await world.take(relay)
    task = asyncio.create_task(anext(relay))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.source.closed.is_set()


async def test_a_slow_reader_slows_the_provider(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(wsgi, "BACKLOG_BYTES", 200)
    monkeypatch.setattr(asgi, "BACKLOG_BYTES", 200)
    world.source.say(*[ONE] * 100)
    relay = await world.open()
    await world.until(lambda: world.source.asked >= 3)
    await asyncio.sleep(0.05)
    assert world.source.asked < 10
    await world.take(relay)
    await world.until(lambda: world.source.asked >= 6)
    await asyncio.sleep(0.05)
    assert world.source.asked < 20
    world.source.say(LAST, None)
    assert (await world.rest(relay)).count(b"data: ") + 10 > 100
    assert world.source.asked > 100


async def test_a_server_that_ends_tells_its_readers(world: World, settings: Any) -> None:
    relay = await world.open(ONE)
    assert relay in shutdown._open
    await world.take(relay)
    relay.end(ShuttingDownError("The server ends."))
    error = told(await world.take(relay))
    assert (error["type"], error["code"]) == ("ShuttingDownError", 503)
    assert await world.take(relay) is None
    await world.until(lambda: world.ends and relay not in shutdown._open)


async def test_a_server_that_ends_lets_a_whole_answer_be(world: World) -> None:
    relay = await world.open(ONE, LAST)
    await world.until(lambda: relay._done)
    relay.end(ShuttingDownError("The server ends."))
    world.source.say(None)
    assert b"event: error" not in await world.rest(relay)


async def test_what_fails_at_the_end_is_logged(world: World, caplog: Any) -> None:
    def fail(outcome: Outcome) -> None:
        raise ValueError("no cache")

    relay = await world.open(LAST, None, on_end=fail)
    assert b'"done":true' in await world.rest(relay)
    await world.until(
        lambda: any("end of a stream failed" in record.getMessage() for record in caplog.records)
    )


@pytest.mark.parametrize(
    "arguments", [{"chunks": None}, {"messages": HELLO, "chunks": []}, {"driver": "echo"}, {"seed": 1}]
)
async def test_arguments_that_do_not_go_together(world: World, arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="chunks"):
        await world.respond(**arguments)


async def test_a_request_of_drf_is_taken_for_what_it_wraps(world: World) -> None:
    class Wrapped:
        def __init__(self, request: Any) -> None:
            self._request = request

    request = world.request
    world.request = lambda: Wrapped(request())  # type: ignore[method-assign]
    response = await world.respond(messages=HELLO, driver="echo", dialect=PlainText())
    assert isinstance(response._iterator, AsyncRelay if world.is_async else Relay)
    assert await world.rest(response._iterator) == b"Hello there"


# Chunks of either world, and how they ended


async def hear(world: World, ended: list[Outcome] | None = None) -> Outcome:
    """Return the one Outcome that on_end was given."""
    ended = world.ended if ended is None else ended
    await world.until(lambda: ended)
    (outcome,) = ended
    return outcome


HM: Any = {"role": "assistant", "content": "", "done": False, "metadata": {"reasoning": "hm"}}


@pytest.fixture(params=["its own", "the other"])
def any_chunks(request: pytest.FixtureRequest, world: World) -> World:
    """Give each world with chunks of each."""
    if request.param == "the other":
        world.source = BlockingSource() if world.is_async else AwaitedSource()
    return world


async def test_on_end_hears_of_a_whole_answer(any_chunks: World) -> None:
    world = any_chunks
    relay = await world.open(HM, ONE)
    assert b"hm" in (await world.take(relay) or b"")
    world.source.say(TWO, LAST, None)
    assert b'"done":true' in await world.rest(relay)
    assert await hear(world) == Outcome("complete", "one two", "hm", {"total_tokens": 3}, "stop")  # type: ignore[arg-type]
    assert world.source.closed.is_set()


async def test_on_end_hears_of_an_answer_that_was_cut_off(any_chunks: World) -> None:
    relay = await any_chunks.open(ONE, None)
    assert b"event: error" in await any_chunks.rest(relay)
    outcome = await hear(any_chunks)
    assert (outcome.state, outcome.text) == ("interrupted", "one ")
    assert isinstance(outcome.error, StreamInterruptedError)


@pytest.mark.parametrize("said", [[], [ONE]])
async def test_on_end_hears_of_a_failure(any_chunks: World, said: list[Any]) -> None:
    error = RateLimitError("Slow down", code=429)
    error.usage = {"prompt_tokens": 7}  # type: ignore[assignment]
    any_chunks.source.say(*said, error)
    response = await any_chunks.respond()
    if said:
        assert told(await any_chunks.rest(response._iterator))["code"] == 429
    else:
        assert response.status_code == 429
    outcome = await hear(any_chunks)
    assert (outcome.state, outcome.text, outcome.error) == (
        "failed",
        "".join(s["content"] for s in said),
        error,
    )
    assert outcome.usage == {"prompt_tokens": 7}


async def test_on_end_hears_of_a_reader_that_left(any_chunks: World) -> None:
    relay = await any_chunks.open(ONE)
    await any_chunks.take(relay)
    await asyncio.to_thread(relay.close)
    outcome = await hear(any_chunks)
    assert (outcome.state, outcome.text, outcome.error) == ("interrupted", "one ", None)
    await any_chunks.until(any_chunks.source.closed.is_set)


async def test_on_end_hears_of_a_server_that_ends(any_chunks: World) -> None:
    relay = await any_chunks.open(ONE)
    await any_chunks.take(relay)
    relay.end(ShuttingDownError("The server ends."))
    assert told(await any_chunks.take(relay))["type"] == "ShuttingDownError"
    outcome = await hear(any_chunks)
    assert (outcome.state, outcome.text) == ("interrupted", "one ")
    assert isinstance(outcome.error, ShuttingDownError)


async def test_on_end_hears_of_a_reader_that_left_at_the_gate(settings: Any) -> None:
    set_api(settings)
    for source in (AwaitedSource(), BlockingSource()):
        world = World("asgi")
        world.source = source
        task = asyncio.create_task(world.respond())
        await world.until(lambda source=source: source.asked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await hear(world) == Outcome("interrupted")
        await world.until(source.closed.is_set)


async def test_on_end_hears_the_usage_that_was_known_when_the_reader_left(
    world: World, provider: Provider, settings: Any
) -> None:
    claude = Claude()
    settings.BUPPLE_ENGINE = {
        "DRIVERS": {"it": claude.settings(provider.url)},
        "API": {"GATE_SECONDS": SECONDS},
    }
    provider.answer(Answer(headers=EVENTS, pieces=[claude.stream_without_end(["Hello "]), threading.Event()]))
    response = await world.respond(messages=HELLO)
    relay = response._iterator
    assert b"Hello" in (await world.take(relay) or b"")
    await asyncio.to_thread(relay.close)
    outcome = await hear(world)
    assert (outcome.state, outcome.text) == ("interrupted", "Hello ")
    assert outcome.usage is not None
    assert outcome.usage["prompt_tokens"]


async def test_a_coroutine_function_may_hear_the_end(world: World) -> None:
    heard: list[Outcome] = []

    async def on_end(outcome: Outcome) -> None:
        await asyncio.sleep(0)
        heard.append(outcome)

    relay = await world.open(LAST, None, on_end=on_end)
    await world.rest(relay)
    assert (await hear(world, heard)).state == "complete"


async def test_chunks_come_one_by_one_and_not_when_all_are_there(any_chunks: World) -> None:
    relay = await any_chunks.open(ONE)
    assert b"one" in (await any_chunks.take(relay) or b"")
    any_chunks.source.say(TWO)
    assert b"two" in (await any_chunks.take(relay) or b"")
    any_chunks.source.say(LAST, None)
    assert b'"done":true' in await any_chunks.rest(relay)


async def test_generators_of_either_kind_run_in_their_callers_context_and_to_their_end(world: World) -> None:
    said: list[Any] = []

    def sync() -> Iterator[Any]:
        try:
            yield {**ONE, "content": VARIABLE.get()}
            said.append(threading.current_thread() is threading.main_thread())
            yield LAST
        finally:
            said.append("closed")

    async def awaited() -> AsyncIterator[Any]:
        for chunk in sync():
            await asyncio.sleep(0)
            yield chunk

    VARIABLE.set("the caller's")
    for chunks in (sync(), awaited()):
        response = await world.respond(chunks=chunks)
        assert b"the caller's" in await world.rest(response._iterator)
    await world.until(lambda: said.count("closed") == 2 and world.ends == 2)
    assert [each.state for each in world.ended] == ["complete"] * 2


async def test_an_asynchronous_generator_of_the_other_world_may_ask_in_threads(settings: Any) -> None:
    """As Django's asynchronous ORM does; with one thread a stream, which ends with it."""
    set_api(settings)
    world, found = World("wsgi"), set()

    async def chunks() -> AsyncIterator[Any]:
        for chunk in (ONE, LAST):
            found.add(await sync_to_async(threading.current_thread)())
            yield chunk

    response = await world.respond(chunks=chunks())
    assert b'"done":true' in await world.rest(response._iterator)
    (thread,) = found
    await world.until(lambda: not thread.is_alive())


async def test_streams_of_the_other_world(world: World, provider: Provider, settings: Any) -> None:
    """Whole, and left while they wait for the provider."""
    wire = ChatCompletions()
    settings.BUPPLE_ENGINE = {
        "DRIVERS": {"it": wire.settings(provider.url)},
        "API": {"GATE_SECONDS": SECONDS},
    }
    silence = threading.Event()
    provider.answer(
        Answer(headers=EVENTS, body=wire.stream(["one ", "two"])),
        Answer(headers=EVENTS, pieces=[wire.stream_without_end(["one "]), silence]),
    )

    def begin() -> Any:
        return ai().stream(HELLO) if world.is_async else ai().astream(HELLO)

    response = await world.respond(chunks=begin(), dialect=PlainText())
    assert await world.rest(response._iterator) == b"one two"
    response = await world.respond(chunks=begin(), dialect=PlainText())
    assert await world.take(response._iterator) == b"one "
    await asyncio.to_thread(response._iterator.close)
    await asyncio.to_thread(provider.wait_closed)
    await world.until(lambda: len(world.ended) == 2)
    assert [(each.state, each.text) for each in world.ended] == [
        ("complete", "one two"),
        ("interrupted", "one "),
    ]


async def test_chunks_for_which_no_thread_was_free_are_closed(settings: Any) -> None:
    set_api(settings)
    settings.BUPPLE_ENGINE = {**settings.BUPPLE_ENGINE, "MAX_THREADS": 1}
    threads.reset()
    go, world = threading.Event(), World("asgi")
    world.source = BlockingSource()
    threads.submit(lambda: go.wait(SECONDS))
    try:
        task = asyncio.create_task(world.respond(on_end=None))
        await world.until(lambda: shutdown._open)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not world.source.asked
    finally:
        go.set()
    await world.until(world.source.closed.is_set)
    threads.reset()


@pytest.mark.parametrize("chunks", [7, "Hello", b"Hello", {"content": "Hello"}, object()])
async def test_what_is_no_iterator_of_chunks_is_refused(world: World, chunks: Any) -> None:
    with pytest.raises(TypeError, match="must be an iterator of chunks"):
        await world.respond(chunks=chunks)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"chunks": "Hello"}, "messages=…"),
        ({"chunks": [{"role": "user", "content": "Hello"}]}, "messages go by their name"),
        ({"prompt": "Hello", "chunks": None}, 'messages="Hello!"'),
        ({"dialect": PlainText}, r"such as PlainText\(\)"),
        ({"dialect": "text"}, r"such as PlainText\(\)"),
        ({"on_end": 5}, "callable with an Outcome, not int"),
        ({"chunks": ["Hello"]}, "the last one has done=True; this one is str"),
        ({"chunks": [{"content": "Hello"}]}, "this one is dict"),
    ],
)
async def test_a_slip_in_the_arguments_is_told_with_what_is_meant(
    world: World, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        await world.respond(**arguments)


# A reader that reads nothing


async def test_a_reader_that_takes_nothing_is_taken_for_gone(any_chunks: World, monkeypatch: Any) -> None:
    for module in (asgi, wsgi):
        monkeypatch.setattr(module, "BACKLOG_BYTES", 100)
        monkeypatch.setattr(module, "ROOM_SECONDS", 0.05)
    relay = await any_chunks.open(*[ONE] * 10)
    outcome = await hear(any_chunks)
    assert outcome.state == "interrupted"
    assert "took nothing" in str(outcome.error)
    await any_chunks.until(lambda: any_chunks.source.closed.is_set() and relay not in shutdown._open)
    assert told(await any_chunks.rest(relay))["type"] == "StreamInterruptedError"  # should it read on


async def test_a_backlog_is_bounded_by_its_bytes(any_chunks: World) -> None:
    """Not by how many pieces it is in: one may have a megabyte."""
    large = {**ONE, "content": "x" * 1_000_000}
    empty: Any = {"role": "assistant", "content": "", "done": False}
    for dialect, chunk in ((EventStream(), large), (PlainText(), empty)):
        any_chunks.dialect = dialect
        any_chunks.source = type(any_chunks.source)()
        any_chunks.source.say(*[chunk] * (300_000 if chunk is empty else 20))
        relay = await any_chunks.open()
        asked = -1
        while asked != any_chunks.source.asked:
            asked = any_chunks.source.asked
            await asyncio.sleep(0.2)
        assert asked < (140_000 if chunk is empty else 6)
        await asyncio.to_thread(relay.close)


# An EventSource that reconnects


@pytest.mark.parametrize("what", ["messages", "stream", "astream"])
async def test_an_answer_is_not_asked_for_anew(world: World, what: str, facts: list[Any]) -> None:
    """A browser's EventSource reconnects to whatever has ended, with the last id that it saw, for ever."""
    request = world.request()
    request.META["HTTP_LAST_EVENT_ID"] = "3"
    world.request = lambda: request  # type: ignore[method-assign]
    arguments = {"messages": HELLO} if what == "messages" else {"chunks": getattr(ai(), what)(HELLO)}
    response = await world.respond(**arguments)
    assert (response.status_code, response.content) == (204, b"")
    assert await hear(world) == Outcome("interrupted")
    assert facts == []
    if what != "messages":
        assert not arguments["chunks"].has_begun


async def test_what_a_site_keeps_is_its_own_to_resume(world: World) -> None:
    """Its own iterator may begin where the reader was; so may a stream that is read already."""
    request = world.request()
    request.META["HTTP_LAST_EVENT_ID"] = "3"
    world.request = lambda: request  # type: ignore[method-assign]
    relay = await world.open(ONE, LAST, None)
    assert b'"done":true' in await world.rest(relay)
    chunks: Any
    if world.is_async:
        chunks = ai().astream(HELLO)
        await anext(chunks)
    else:
        chunks = ai().stream(HELLO)
        next(chunks)
    response = await world.respond(chunks=chunks)
    assert response.status_code == 200
    assert b'"done":true' in await world.rest(response._iterator)


async def test_a_response_that_nobody_sends_ends(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is cancelled between its view and the first byte is closed by nobody."""
    set_api(settings, HEARTBEAT_SECONDS=0.02)
    monkeypatch.setattr(asgi, "BEGIN_SECONDS", 0)
    world = World("asgi")
    relay = await world.open(ONE)
    await world.until(lambda: world.source.closed.is_set() and world.ends)
    assert b"event: error" in await world.rest(relay)  # should it be sent after all, it is no whole answer


async def test_a_thread_that_cannot_be_started(settings: Any, monkeypatch: Any) -> None:
    set_api(settings)
    world = World("wsgi")

    def fail(thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(RuntimeError, match="can't start"):
        stream_response(world.request(), world.source, on_end=world.end)
    assert world.ends == 1
    assert world.source.closed.is_set()


async def test_the_other_world(settings: Any) -> None:
    """Each function may be called in a view of the other kind."""
    set_api(settings)
    under_asgi: Any = await asyncio.to_thread(
        stream_response, AsyncRequestFactory().get("/"), messages=HELLO, dialect=PlainText()
    )
    assert isinstance(under_asgi._iterator, AsyncRelay)
    under_wsgi: Any = await astream_response(RequestFactory().get("/"), messages=HELLO, dialect=PlainText())
    assert isinstance(under_wsgi._iterator, Relay)
    await asyncio.to_thread(lambda: list(under_wsgi))


@pytest.fixture
def signals() -> Iterator[list[Any]]:
    """Give what a server's own handlers hear, of which SIGTERM's is set; all is as before afterwards."""
    heard: list[Any] = []
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    yield heard
    for number, handler in kept.items():
        signal.signal(number, handler)
    shutdown._ours.clear()
    while not shutdown._told.empty():
        shutdown._told.get()
    until(lambda: shutdown._watcher is None)


async def test_a_signal_ends_the_streams(world: World, settings: Any, signals: list[Any]) -> None:
    set_api(settings, SHUTDOWN_SECONDS=0)
    own = signal.getsignal(signal.SIGINT)
    shutdown.end_streams_at_shutdown()
    relay = await world.open(ONE)
    await world.take(relay)
    signal.raise_signal(signal.SIGTERM)
    assert told(await world.take(relay))["type"] == "ShuttingDownError"
    assert signals == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGINT) is own  # it is none of the server's
    handler = signal.getsignal(signal.SIGTERM)
    shutdown.end_streams_at_shutdown()
    assert signal.getsignal(signal.SIGTERM) is handler
    await world.until(lambda: world.ends)


async def test_both_signals_of_a_server(signals: list[Any]) -> None:
    signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))
    shutdown.end_streams_at_shutdown()
    signal.raise_signal(signal.SIGINT)
    assert signals == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is signal.getsignal(signal.SIGTERM)


async def test_signals_are_the_main_thread_s(signals: list[Any]) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    await asyncio.to_thread(shutdown.end_streams_at_shutdown)
    assert signal.getsignal(signal.SIGTERM) is handler
