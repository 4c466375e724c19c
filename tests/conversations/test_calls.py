"""Calls with memory=: a question is kept before it is sent, an answer before its reader has all of it."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.http import Http404
from django.test import AsyncRequestFactory, RequestFactory

from bupple_engine import (
    AuthenticationError,
    InvalidRequestError,
    Observer,
    ProviderConnectionError,
    StreamInterruptedError,
    ai,
    call_finished,
    memory,
)
from bupple_engine.calls.seams import new_id
from bupple_engine.conversations.exceptions import (
    ConversationBusyError,
    ConversationNotFoundError,
    DuplicateTurnError,
)
from bupple_engine.conversations.memory import Memory
from bupple_engine.conversations.recorder import title_of
from bupple_engine.conversations.stores.base import Store
from bupple_engine.http import PlainText, astream_response, stream_response
from bupple_engine.types import Owner
from tests.conversations.stores import DATABASES
from tests.provider import Answer, Provider, Request
from tests.verbs import STREAMS, VERBS, run
from tests.wires import EVENTS, JSON, SIGNATURE, Claude
from tests.worlds import until

WIRE = Claude()


def say(text: str = "Hello world", **facts: Any) -> Callable[[Request], Answer]:
    """Answer in the way that was asked for, whole or as a stream."""

    def answer(request: Request) -> Answer:
        if WIRE.streamed(request):
            reasoning = [facts["reasoning"]] if "reasoning" in facts else []
            body = WIRE.stream([text[:6], text[6:]], **{**facts, "reasoning": reasoning})
            return Answer(headers=EVENTS, body=body)
        return Answer(headers=JSON, body=WIRE.reply(text, **facts))

    return answer


def half() -> tuple[bytes, bytes]:
    """Return a stream in two parts, the first with "Hello " in it."""
    body = WIRE.stream(["Hello ", "world"])
    cut = body.index(b"world") - 80
    return body[:cut], body[cut:]


@pytest.fixture(params=["sqlite", "postgresql", "locmem"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def remember(keep: Callable[..., Store], provider: Provider, settings: Any) -> Callable[..., Store]:
    """Give what sets a store and a driver that speaks to the provider."""

    def remember(kind: str, **more: Any) -> Store:
        entry = WIRE.settings(provider.url, MAX_RETRIES=0)
        settings.BUPPLE_ENGINE = {"DEFAULT": "claude", "DRIVERS": {"claude": entry}}
        return keep(kind, **more)

    return remember


@pytest.fixture
def store(kind: str, remember: Callable[..., Store]) -> Store:
    return remember(kind)


@pytest.fixture(autouse=True)
def no_connection_is_left(databases: Any, frozen_heap: None) -> Iterator[None]:
    yield
    gc.collect()
    for kind in DATABASES:
        if kind in connections.settings:
            connections[kind].close()


def sent(request: Request) -> list[tuple[str, Any]]:
    """Return the messages of a request, as role and text."""
    found = []
    for message in request.json["messages"]:
        content = message["content"]
        text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        found.append((message["role"], text))
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_a_question_and_its_answer_are_kept(
    verb: str, store: Store, owner: Owner, provider: Provider
) -> None:
    chat = memory(owner)
    rows: list[Any] = []

    def answer(request: Request) -> Answer:
        rows.extend((turn.question, turn.state) for turn in memory(owner).get_turns())
        connections.close_all()
        return say("Hello world")(request)

    provider.answer(answer, say("Fine."))
    assert run(ai(), verb, "Hi!", memory=chat).reply["content"] == "Hello world"
    assert rows == [("Hi!", "running")]
    (turn,) = chat.get_turns()
    assert (turn.state, turn.question, turn.answer) == ("complete", "Hi!", "Hello world")
    assert (turn.driver, turn.model, turn.finish_reason) == ("claude", WIRE.model, "stop")
    assert (turn.prompt_tokens, turn.completion_tokens, turn.total_tokens) == (12, 7, 19)
    assert (turn.ended_by, turn.error_type) == ("provider", "")
    assert turn.duration is not None
    assert turn.usage["total_tokens"] == 19
    assert chat.running is None or chat.look().running is None  # type: ignore[union-attr]
    run(ai(), verb, {"role": "user", "content": "And you?"}, memory=chat, system="Be brief.")
    assert sent(provider.requests[1]) == [("user", "Hi!"), ("assistant", "Hello world"), ("user", "And you?")]
    assert "Be brief." in str(provider.requests[1].json["system"])
    assert [turn.question for turn in chat.get_turns()] == ["Hi!", "And you?"]
    assert all(message["role"] != "system" for message in chat.get_messages())
    assert chat.title == "Hi!"


@pytest.mark.parametrize("verb", VERBS)
def test_a_question_is_kept_where_nobody_answers(
    verb: str, store: Store, owner: Owner, provider: Provider
) -> None:
    provider.answer(Answer(disconnect="request"), say())
    chat = memory(owner)
    assert isinstance(run(ai(), verb, "Hi!", memory=chat).error, ProviderConnectionError)
    (turn,) = chat.get_turns()
    assert (turn.state, turn.question, turn.answer) == ("failed", "Hi!", "")
    assert (turn.ended_by, turn.error_type) == ("error", "ProviderConnectionError")
    assert chat.get_messages() == []
    run(ai(), verb, "Again!", memory=chat)
    assert sent(provider.requests[-1]) == [("user", "Again!")]


@pytest.mark.parametrize("verb", STREAMS)
def test_what_was_cut_off_is_kept_as_far_as_it_came(
    verb: str, store: Store, owner: Owner, provider: Provider
) -> None:
    provider.answer(Answer(headers=EVENTS, body=WIRE.stream_without_end(["Hello ", "wor"])), say())
    chat = memory(owner)
    assert isinstance(run(ai(), verb, "Hi!", memory=chat).error, StreamInterruptedError)
    (turn,) = chat.get_turns()
    assert (turn.state, turn.answer) == ("interrupted", "Hello wor")
    run(ai(), verb, "Go on.", memory=chat)
    assert sent(provider.requests[-1]) == [("user", "Hi!"), ("assistant", "Hello wor"), ("user", "Go on.")]


@pytest.mark.parametrize("way", ["close", "collect"])
def test_a_reader_who_leaves_loses_nothing(way: str, store: Store, owner: Owner, provider: Provider) -> None:
    provider.answer(Answer(headers=EVENTS, pieces=[half()[0], 30]))
    chat = memory(owner)
    stream = ai().stream("Hi!", memory=chat)
    assert next(chunk for chunk in stream if chunk["content"])["content"] == "Hello "
    assert chat.look().running is not None  # type: ignore[union-attr]
    if way == "close":
        stream.close()
    del stream
    gc.collect()
    until(lambda: chat.look().running is None)  # type: ignore[union-attr]
    (turn,) = chat.get_turns()
    assert (turn.state, turn.answer, turn.ended_by) == ("interrupted", "Hello ", "reader")


async def test_a_cancelled_task_loses_nothing(store: Store, owner: Owner, provider: Provider) -> None:
    provider.answer(Answer(headers=EVENTS, pieces=[half()[0], 30]))
    chat = memory(owner)
    read = asyncio.Event()

    async def reader() -> None:
        async for chunk in ai().astream("Hi!", memory=chat):
            if chunk["content"]:
                read.set()

    task = asyncio.ensure_future(reader())
    await asyncio.wait_for(read.wait(), 20)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    def settled() -> Any:
        try:
            return [turn for turn in memory(owner).get_turns() if turn.state != "running"]
        finally:
            connections.close_all()

    (turn,) = await asyncio.to_thread(until, settled)
    assert (turn.state, turn.answer) == ("interrupted", "Hello ")


def test_a_turn_is_settled_before_anybody_hears_of_the_end(
    store: Store, owner: Owner, provider: Provider
) -> None:
    provider.answer(say())
    chat = memory(owner)
    heard: list[Any] = []

    def listen(result: Any, **facts: Any) -> None:
        heard.append((chat.get_turns()[0].state, result.call.facts))

    call_finished.connect(listen)
    try:
        for chunk in ai().stream("Hi!", memory=chat):
            if chunk["done"]:
                assert chat.get_turns()[0].state == "complete"
    finally:
        call_finished.disconnect(listen)
    ((state, facts),) = heard
    assert state == "complete"
    assert facts == {"conversation": chat.id, "turn": chat.get_turns()[0].id, "owner": owner}


def refusal(verb: str, chat: Memory) -> Any:
    """Return what a call raises."""
    try:
        return run(ai(), verb, "Again!", memory=chat).error
    except ConversationNotFoundError as error:
        return error


@pytest.mark.parametrize("verb", VERBS)
def test_a_refusal_is_no_call(
    verb: str, store: Store, owner: Owner, provider: Provider, facts: list[Any]
) -> None:
    first, rest = half()
    go_on = threading.Event()
    provider.answer(Answer(headers=EVENTS, pieces=[first, go_on, rest]))
    chat = memory(owner)
    stream = ai().stream("Hi!", memory=chat.keyed("k"))
    next(stream)
    busy = refusal(verb, memory(owner))
    assert type(busy) is ConversationBusyError
    assert busy.turn is not None
    assert busy.turn.question == "Hi!"
    assert isinstance(refusal(verb, memory(owner, new_id())), ConversationNotFoundError)
    assert isinstance(refusal(verb, memory(Owner("Other", owner.id), chat.look().id)), LookupError)  # type: ignore[union-attr]
    assert isinstance(refusal(verb, chat.keyed("k")), DuplicateTurnError)
    go_on.set()
    list(stream)
    late = refusal(verb, chat.keyed("k"))
    assert isinstance(late, DuplicateTurnError)
    assert late.turn is not None
    assert late.turn.answer == "Hello world"
    assert len(provider.requests) == len(facts) == 1
    assert [turn.question for turn in chat.get_turns()] == ["Hi!"]


class Veto(Observer):
    def begin(self, call: Any) -> None:
        raise PermissionError("no budget")


@pytest.mark.parametrize("verb", VERBS)
def test_who_is_refused_later_leaves_no_turn(
    verb: str, store: Store, owner: Owner, provider: Provider
) -> None:
    chat = memory(owner)
    with pytest.raises(PermissionError):
        run(ai(), verb, "Hi!", memory=chat, observers=Veto())
    assert store.latest(owner) is None
    assert provider.requests == []


@pytest.mark.parametrize("verb", VERBS)
def test_another_attempt(verb: str, store: Store, owner: Owner, provider: Provider) -> None:
    refused = WIRE.error("auth")
    status, headers, body = refused
    provider.answer(say("One"), say("Two"), say("Three"), Answer(status, headers, body))
    chat = memory(owner)
    run(ai(), verb, "Count!", memory=chat)
    first = chat.get_turns()[0]
    run(ai(), verb, None, memory=chat.replacing(first))
    assert sent(provider.requests[1]) == [("user", "Count!")]
    second = chat.get_turns()[0]
    assert (second.answer, second.attempts) == ("Two", (first.id, second.id))
    run(ai(), verb, "Count on!", memory=chat.replacing(second))
    third = chat.get_turns()[0]
    assert (third.question, third.answer, third.attempt) == ("Count on!", "Three", 3)
    failed = run(ai(), verb, None, memory=chat.replacing(third.id)).error
    assert isinstance(failed, AuthenticationError)
    (turn,) = chat.get_turns()
    assert turn.id == third.id
    assert len(turn.attempts) == 4


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_wrong_with_the_call_is_told_at_the_call(
    verb: str, remember: Callable[..., Store], owner: Owner, provider: Provider
) -> None:
    store = remember("locmem", CONTEXT={"MAX_CHARACTERS": 100})
    chat = memory(owner)
    for arguments, words in (
        (("x" * 101, {"memory": chat}), "more than MEMORY"),
        ((None, {"memory": chat}), "no question"),
        (([{"role": "system", "content": "x"}], {"memory": chat}), "no question"),
        (([], {"memory": chat}), "empty"),
        (("Hi!", {"memory": "user 7"}), "memory is a str"),
        (("Hi!", {"memory": chat, "temprature": 1}), "temprature"),
    ):
        messages, options = arguments
        if verb in STREAMS:
            with pytest.raises(InvalidRequestError, match=words):
                getattr(ai(), verb)(messages, **options)
        else:
            error = run(ai(), verb, messages, **options).error
            assert isinstance(error, InvalidRequestError)
            assert words in str(error)
    assert store.latest(owner) is None
    assert provider.requests == []


def test_what_the_provider_wants_echoed_goes_back(store: Store, owner: Owner, provider: Provider) -> None:
    provider.answer(say("Four.", reasoning="2 + 2"), say("Eight."), say("Two."))
    chat = memory(owner)
    ai().send("Two and two?", memory=chat)
    assert chat.get_messages()[1]["metadata"]["reasoning"] == "2 + 2"
    ai().send("Twice?", memory=memory(owner))
    assert SIGNATURE in str(provider.requests[1].json["messages"])
    assert sent(provider.requests[1])[1] == ("assistant", "Four.")


def test_a_history_is_trimmed_and_its_reader_can_be_told(
    remember: Callable[..., Store], owner: Owner, provider: Provider
) -> None:
    remember("sqlite", CONTEXT={"MAX_TURNS": 8})
    chat = memory(owner)
    chat.add_system_message("Be brief.")
    for number in range(12):
        chat.add_user_message(f"question {number}")
        chat.add_assistant_message(f"answer {number}")
    provider.answer(say())
    ai().send("And now?", memory=chat)
    assert sent(provider.requests[0])[0] == ("user", "question 8")
    assert "Be brief." in str(provider.requests[0].json["system"])
    kept = chat.get_turns()[-1].details["context"]
    assert (kept["left_out"], kept["media_left_out"]) == (8, 0)
    assert kept["estimate"] > 0
    assert len(chat.get_messages()) == 27


def test_a_title_of_the_sites_own(remember: Callable[..., Store], owner: Owner, provider: Provider) -> None:
    remember("locmem", TITLE=lambda question, answer: f"{question} — {answer}")
    provider.answer(say("Hi there."), say())
    chat = memory(owner)
    ai().send("Hello", memory=chat)
    assert chat.look().title == "Hello — Hi there."  # type: ignore[union-attr]
    chat.rename("Mine")
    ai().send("More", memory=chat)
    assert chat.look().title == "Mine"  # type: ignore[union-attr]


def test_a_title_is_one_line_cut_at_a_word() -> None:
    assert title_of(" How\n do  I? ") == "How do I?"
    assert title_of("word " * 100).endswith("word…")
    assert len(title_of("x" * 500)) == 200


def test_an_answer_is_given_though_it_cannot_be_kept(
    remember: Callable[..., Store],
    owner: Owner,
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = remember("locmem")

    def fail(*args: Any, **kwargs: Any) -> bool:
        raise OSError("the database is away")

    monkeypatch.setattr(type(store), "settle", fail)
    provider.answer(say())
    with caplog.at_level(logging.ERROR):
        assert ai().send("Hi!", memory=memory(owner))["content"] == "Hello world"
    assert "the database is away" in caplog.text


def test_an_erased_conversation_is_not_brought_back(store: Store, owner: Owner, provider: Provider) -> None:
    provider.answer(say())
    chat = memory(owner)
    stream = ai().stream("Hi!", memory=chat)
    next(stream)
    memory(owner).clear()
    assert "".join(chunk["content"] for chunk in stream)
    assert store.latest(owner) is None


@pytest.mark.parametrize("kind", ["postgresql", "mariadb", "sqlite"])
def test_no_connection_is_held_while_an_answer_comes(
    kind: str, remember: Callable[..., Store], owner: Owner, provider: Provider
) -> None:
    remember(kind)
    connections[kind].close()
    provider.answer(say())
    for _ in ai().stream("Hi!", memory=memory(owner)):
        assert connections[kind].connection is None
    assert connections[kind].connection is None
    memory(owner).get_turns()
    assert connections[kind].connection is not None
    provider.answer(say())
    ai().send("Again", memory=memory(owner))
    assert connections[kind].connection is not None  # it was there before


# Over HTTP


def ask(owner: Owner, text: str = "Hi!", chat: Memory | None = None) -> Any:
    request = RequestFactory().get("/")
    return stream_response(request, messages=text, memory=chat or memory(owner), dialect=PlainText())


def test_a_response_keeps_its_answer(store: Store, owner: Owner, provider: Provider) -> None:
    provider.answer(say(), say("Again"))
    assert b"".join(ask(owner)) == b"Hello world"
    (turn,) = memory(owner).get_turns()
    assert (turn.state, turn.answer) == ("complete", "Hello world")
    response = stream_response(
        RequestFactory().get("/"), memory=memory(owner).replacing(turn), dialect=PlainText()
    )
    assert b"".join(response) == b"Again"


async def test_an_asynchronous_response_keeps_its_answer(
    store: Store, owner: Owner, provider: Provider
) -> None:
    provider.answer(say())
    chat = memory(owner)
    request = AsyncRequestFactory().get("/")
    response: Any = await astream_response(request, messages="Hi!", memory=chat, dialect=PlainText())
    assert b"".join([piece async for piece in response]) == b"Hello world"
    (turn,) = await chat.aget_turns()
    await sync_to_async(connections.close_all)()
    assert (turn.state, turn.answer) == ("complete", "Hello world")


def test_a_busy_conversation_is_a_409_and_a_foreign_one_a_404(
    store: Store, owner: Owner, provider: Provider
) -> None:
    provider.answer(Answer(headers=EVENTS, pieces=[half()[0], 30]))
    chat = memory(owner)
    stream = ai().stream("Hi!", memory=chat)
    next(stream)
    response = ask(owner)
    assert (response.status_code, response.headers["Retry-After"]) == (409, "1")
    assert b"ConversationBusyError" in response.content
    stream.close()
    with pytest.raises(Http404):
        ask(owner, chat=memory(Owner("Other", owner.id), chat.id))
