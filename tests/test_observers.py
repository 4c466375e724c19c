"""Who hears of a call: observers of the settings, of an app and of one call, for every driver and verb."""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import FrozenInstanceError, replace
from typing import Any, ClassVar, cast

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory

from bupple_engine import (
    Attempt,
    AuthenticationError,
    Call,
    InvalidRequestError,
    Observer,
    Outcome,
    StreamInterruptedError,
    ai,
    call_finished,
)
from bupple_engine.calls import bridge, observers
from bupple_engine.calls.audience import AsyncBatches, Audience, Batches
from bupple_engine.calls.observers import CallFinished
from bupple_engine.calls.outcome import make_outcome
from bupple_engine.drivers.base import ChatDriver
from bupple_engine.drivers.local import driver as local
from bupple_engine.http import stream_response
from tests.conftest import Configure
from tests.provider import Answer, Provider
from tests.test_local import ENTRY
from tests.verbs import STREAMS, VERBS, run
from tests.wires import WIRES, Wire
from tests.worlds import SECONDS, WORLDS, World, until

HELLO: Any = [{"role": "user", "content": "Hello?"}]
TEXTS = ["Hello ", "world"]
WIRE = next(wire for wire in WIRES if wire.name == "claude")
KINDS = [*(wire.name for wire in WIRES), "generate", "local"]


class Two(ChatDriver):
    """Be a driver of a site's own."""

    def generate(self, messages: Any, options: Any) -> Any:
        yield {"content": "", "metadata": {"reasoning": "hm"}}
        for text in TEXTS:
            yield {"content": text}
        yield {"done": True, "usage": {"prompt_tokens": 1, "completion_tokens": 2}}


class Notes(Observer):
    """Write down what is heard, in a list that several may share."""

    def __init__(self, name: str = "", heard: list[Any] | None = None) -> None:
        self.name = name
        self.events: list[Any] = [] if heard is None else heard

    def note(self, what: str, value: Any = None) -> None:
        self.events.append((self.name + what, value))

    def named(self, what: str) -> list[Any]:
        """Return what was heard under a name."""
        return [value for name, value in self.events if name == self.name + what]

    @property
    def outcome(self) -> Outcome:
        """The one end that was heard."""
        (found,) = self.named("end")
        assert isinstance(found, Outcome)
        return found


class Blocking(Notes):
    def begin(self, call: Call) -> None:
        self.note("begin", call)

    @contextmanager
    def opening(self, call: Call) -> Iterator[None]:
        self.note("open", call)
        yield
        self.note("opened", threading.get_ident())

    def attempt(self, call: Call, attempt: Attempt) -> None:
        self.note("attempt", attempt)

    def batch(self, call: Call, chunks: Any) -> None:
        self.note("batch", [*chunks])

    def end(self, outcome: Outcome) -> None:
        self.note("end", outcome)


class Awaited(Notes):
    async def abegin(self, call: Call) -> None:
        await asyncio.sleep(0)
        self.note("begin", call)

    async def aattempt(self, call: Call, attempt: Attempt) -> None:
        await asyncio.sleep(0)
        self.note("attempt", attempt)

    async def abatch(self, call: Call, chunks: Any) -> None:
        await asyncio.sleep(0)
        self.note("batch", [*chunks])

    async def aend(self, outcome: Outcome) -> None:
        await asyncio.sleep(0)
        self.note("end", outcome)


class Ends(Notes):
    def begin(self, call: Call) -> None:
        self.note("begin", call)

    def end(self, outcome: Outcome) -> None:
        self.note("end", outcome)


class Shared(Ends):
    """Be made by the settings, and found by the tests."""

    made: ClassVar[list[Shared]] = []

    def __init__(self) -> None:
        super().__init__("site ", SHARED)
        self.made.append(self)


SHARED: list[Any] = []
SITE = f"{__name__}.Shared"


@pytest.fixture
def two(configure: Configure) -> Any:
    """Give a driver that needs no provider."""
    configure(it={"DRIVER": f"{__name__}.Two"})
    return ai()


@pytest.fixture
def claude(provider: Provider, configure: Configure) -> Any:
    """Give a driver that speaks to the provider."""
    configure(it=WIRE.settings(provider.url, MAX_RETRIES=0))
    return ai()


def answer(wire: Wire, verb: str) -> Answer:
    """Return the words of a whole answer."""
    return Answer(body=wire.stream(TEXTS) if verb in STREAMS else wire.reply("".join(TEXTS)))


@pytest.fixture(params=KINDS)
def driver(request: pytest.FixtureRequest, verb: str, provider: Provider, configure: Configure) -> Any:
    """Give a driver of each kind, and its answer."""
    if request.param == "generate":
        configure(it={"DRIVER": f"{__name__}.Two"})
    elif request.param == "local":
        if missing := local.find_missing():
            pytest.skip(str(missing))
        configure(it=ENTRY)
    else:
        wire = next(wire for wire in WIRES if wire.name == request.param)
        configure(it=wire.settings(provider.url, MAX_RETRIES=0))
        provider.answer(answer(wire, verb))
    return ai()


@pytest.mark.parametrize("kind", [Blocking, Awaited])
def test_a_call_is_heard_from_its_beginning_to_its_end(
    driver: Any, verb: str, kind: type[Notes], facts: list[dict[str, Any]], caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG, "bupple_engine")
    watch = kind()
    reply = run(driver, verb, HELLO, observers=watch, context={"tenant": 7}).reply
    outcome, call = watch.outcome, watch.named("begin")[0]
    names = [name for name, _ in watch.events if "open" not in name]
    assert names == ["begin", *["batch"] * (len(names) - 3), "attempt", "end"]
    assert len(watch.named("open")) == len(watch.named("opened"))

    assert outcome.state == "complete"
    assert outcome.error is None
    assert outcome.text == reply["content"]
    assert outcome.usage == reply["usage"]
    assert (outcome.model, outcome.finish_reason) == (reply["model"], reply["finish_reason"])
    assert outcome.metadata == {k: v for k, v in reply["metadata"].items() if k != "reasoning"}
    assert outcome.reasoning == reply["metadata"].get("reasoning", "")
    assert (outcome.driver, outcome.target) == (driver.name, "it")
    assert outcome.attempts == tuple(watch.named("attempt"))
    (attempt,) = outcome.attempts
    assert (attempt.number, attempt.alias, attempt.error, attempt.pause) == (1, "it", None, None)
    assert outcome.started is not None
    assert outcome.ended is not None
    assert outcome.started <= attempt.started <= attempt.ended <= outcome.ended
    assert (outcome.first_chunk is not None) is (verb in STREAMS)
    if batches := watch.named("batch"):
        chunks = [chunk for batch in batches for chunk in batch]
        assert "".join(chunk["content"] for chunk in chunks) == outcome.text

    assert outcome.call is call
    assert call is not None
    assert (call.verb, call.alias, call.driver) == (verb.removeprefix("a"), "it", driver.name)
    assert (call.messages, call.context, call.id.version) == (HELLO, {"tenant": 7}, 7)
    (signal,) = facts
    assert (signal["id"], signal["parent"], signal["result"]) == (call.id, None, outcome)
    assert (signal["outcome"], signal["attempts"]) == ("complete", 1)
    records = [each for each in caplog.records if getattr(each, "event", "") in ("call", "attempt")]
    assert {record.call_id for record in records} == {str(call.id)}


def test_observers_begin_in_order_and_end_in_reverse(
    configure: Configure, settings: Any, verb: str, facts: list[Any]
) -> None:
    SHARED.clear()
    settings.BUPPLE_ENGINE = {"DRIVERS": {"it": {"DRIVER": f"{__name__}.Two"}}, "OBSERVERS": [SITE]}
    app = Ends("app ", SHARED)
    call_finished.connect(note_signal)
    observers.register(app)
    try:
        run(ai(), verb, HELLO, observers=[Ends("one ", SHARED), Ends("two ", SHARED)])
    finally:
        observers.unregister(app)
        call_finished.disconnect(note_signal)
    assert [name for name, _ in SHARED] == [
        *["one begin", "two begin", "app begin", "site begin"],
        *["site end", "app end", "two end", "one end", "signal"],
    ]


def note_signal(**facts: Any) -> None:
    SHARED.append(("signal", facts))


class Refusal(Observer):
    """Refuse what is called."""

    def begin(self, call: Call) -> None:
        raise PermissionError("The budget is spent.")


class AwaitedRefusal(Observer):
    async def abegin(self, call: Call) -> None:
        raise PermissionError("The budget is spent.")


@pytest.mark.parametrize("kind", [Refusal, AwaitedRefusal])
def test_a_refusal_leaves_nothing_but_the_ends_of_those_that_had_begun(
    claude: Any, provider: Provider, verb: str, kind: type[Observer], facts: list[Any], caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG, "bupple_engine")
    first, last = Blocking(), Blocking()
    with pytest.raises(PermissionError, match="budget") as caught:
        run(claude, verb, HELLO, observers=[first, kind(), last])
    assert (first.outcome.state, first.outcome.error) == ("refused", caught.value)
    assert (first.outcome.attempts, first.outcome.started) == ((), None)
    assert [name for name, _ in first.events] == ["begin", "end"]
    assert last.events == []
    assert not provider.requests
    assert facts == []
    assert not [record for record in caplog.records if hasattr(record, "event")]


def test_a_refused_stream_is_over(two: Any) -> None:
    stream = two.stream(HELLO, observers=Refusal())
    with pytest.raises(PermissionError):
        next(stream)
    assert list(stream) == []
    assert not stream.has_begun


class Memory(Observer):
    """Put a history before what is asked."""

    def __init__(self, history: Any, *, in_place: bool = False) -> None:
        self.history = history
        self.in_place = in_place

    def begin(self, call: Call) -> None:
        if self.in_place:
            call.messages[:0] = self.history
        else:
            call.messages = [*self.history, *call.messages]


PAST = [{"role": "user", "content": "My name is Ada."}, {"role": "assistant", "content": "Hello Ada."}]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
def test_messages_that_a_beginning_sets_are_sent(
    provider: Provider, configure: Configure, wire: Wire, verb: str, in_place: bool
) -> None:
    configure(it=wire.settings(provider.url))
    provider.answer(answer(wire, verb))
    asked, later = [*HELLO], Ends()
    assert run(ai(), verb, asked, observers=[Memory(PAST, in_place=in_place), later]).error is None
    assert [text for _, text in wire.prompt(provider.requests[0])] == [
        *["My name is Ada.", "Hello Ada.", "Hello?"]
    ]
    assert asked == HELLO  # the caller's own list
    (call,) = later.named("begin")
    assert len(call.messages) == 3


def test_bad_messages_of_a_beginning_refuse_the_call(claude: Any, provider: Provider, verb: str) -> None:
    first = Ends()
    error = run(claude, verb, HELLO, observers=[first, Memory([{"role": "robot", "content": "x"}])]).error
    assert isinstance(error, InvalidRequestError)
    assert 'messages[0]["role"]' in str(error)
    assert error.__notes__ == ["These messages were set by Memory.begin()."]
    assert first.outcome.state == "refused"
    assert not provider.requests


class Broken(Observer):
    """Fail in one method."""

    def __init__(self, method: str) -> None:
        self.method = method

    def fail(self, method: str) -> None:
        if method == self.method:
            raise LookupError(method)

    def attempt(self, call: Call, attempt: Attempt) -> None:
        self.fail("attempt")

    def batch(self, call: Call, chunks: Any) -> None:
        self.fail("batch")

    def end(self, outcome: Outcome) -> None:
        self.fail("end")


class BrokenOpening(Observer):
    def __init__(self, method: str) -> None:
        self.method = method

    @contextmanager
    def opening(self, call: Call) -> Iterator[None]:
        if self.method == "enter":
            raise LookupError("enter")
        yield
        raise LookupError("leave")


@pytest.mark.parametrize("method", ["enter", "leave", "attempt", "batch", "end"])
def test_what_an_observer_raises_is_logged_and_ends_nobodys_answer(
    claude: Any, provider: Provider, verb: str, method: str, caplog: Any
) -> None:
    provider.answer(answer(WIRE, verb))
    kind = BrokenOpening if method in ("enter", "leave") else Broken
    watch = Blocking()
    outcome = run(claude, verb, HELLO, observers=[watch, kind(method), Ends()])
    assert outcome.reply["content"] == "Hello world"
    assert watch.outcome.state == "complete"
    records = [record for record in caplog.records if getattr(record, "event", "") == "observer"]
    assert records
    assert all(f"{kind.__name__} failed in" in record.getMessage() for record in records)
    (call,) = watch.named("begin")
    assert {record.call_id for record in records} == {str(call.id)}


class Waits(Observer):
    """Wait in each method for what only a loop that goes on can do."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.waited: list[str] = []

    def wait(self, name: str) -> None:
        assert self.released.wait(SECONDS), name
        self.waited.append(name)

    def begin(self, call: Call) -> None:
        self.wait("begin")

    def attempt(self, call: Call, attempt: Attempt) -> None:
        self.wait("attempt")

    def batch(self, call: Call, chunks: Any) -> None:
        self.wait("batch")

    def end(self, outcome: Outcome) -> None:
        self.wait("end")


@pytest.mark.parametrize("method", ["begin", "attempt", "batch", "end"])
@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb[0] == "a"])
def test_a_blocking_observer_does_not_block_the_loop(
    claude: Any, provider: Provider, verb: str, method: str
) -> None:
    provider.answer(answer(WIRE, verb))

    loops: list[asyncio.AbstractEventLoop] = []

    class Blocks(Waits):
        def wait(self, name: str) -> None:
            if name == method:
                loops[0].call_soon_threadsafe(self.released.set)
                super().wait(name)

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        if verb == "asend":
            await claude.asend(HELLO, observers=blocks)
        else:
            assert [chunk async for chunk in claude.astream(HELLO, observers=blocks)][-1]["done"]

    blocks = Blocks()
    asyncio.run(main())
    assert set(blocks.waited) == {method}


def test_an_observer_of_the_other_world_fails_clearly_inside_a_loop(two: Any, caplog: Any) -> None:
    async def main() -> None:
        two.send(HELLO, observers=Awaited())

    with pytest.raises(RuntimeError, match="AsyncToSync"):
        asyncio.run(main())


@pytest.mark.parametrize(
    ("world", "way"),
    [
        (name, way)
        for name in WORLDS
        for way in ["close", "del", "aclose", "cancel"]
        if name != "sync" or way in ("close", "del")
    ],
    indirect=["world"],
)
def test_a_reader_who_leaves_leaves_what_had_come(
    world: World, claude: Any, provider: Provider, way: str, facts: list[Any]
) -> None:
    provider.answer(Answer(pieces=[cut_before(WIRE.stream(TEXTS), b"world"), threading.Event()]))
    watch = Ends()
    world.begin(claude, HELLO, observers=watch)
    while not (chunk := world.read().result(SECONDS))["content"]:
        pass
    assert chunk["content"] == "Hello "
    if way != "del":
        waiting: Any = world
        waiting.reader = None
        world.read()
        until(lambda: world.name == "sync" or waiting.reader)
    world.end(way)
    del chunk
    until(lambda: watch.named("end") and facts)
    outcome = watch.outcome
    assert (outcome.state, outcome.text) == ("interrupted", "Hello ")
    assert [attempt.number for attempt in outcome.attempts] == [1]
    assert outcome.attempts[0].status == 200
    assert outcome.usage is not None  # Claude says at the start what the prompt cost
    assert outcome.usage["prompt_tokens"] is not None
    assert [each["outcome"] for each in facts] == ["interrupted"]
    provider.wait_closed()


def cut_before(body: bytes, mark: bytes) -> bytes:
    """Return the events of a stream before the one that has a mark."""
    head = body[: body.index(mark)]
    return head[: head.rindex(b"\n\n") + 2]


def test_what_is_dropped_is_told_by_a_thread(two: Any) -> None:
    """The collector may be inside a lock that an observer wants."""
    threads = []

    class Where(Observer):
        def end(self, outcome: Outcome) -> None:
            threads.append(threading.current_thread())

    stream = two.stream(HELLO, observers=Where())
    next(stream)
    del stream
    until(lambda: threads)
    assert threads[0] is not threading.current_thread()
    until(lambda: not [each for each in threading.enumerate() if each.name == "bupple_engine end"])


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb[0] == "a"])
def test_a_cancelled_beginning_is_ended(two: Any, verb: str) -> None:
    first, entered = Ends(), threading.Event()

    class Slow(Ends):
        async def abegin(self, call: Call) -> None:
            self.note("begin", call)
            entered.set()
            await asyncio.sleep(SECONDS)

    slow = Slow()

    async def main() -> None:
        watching = [first, slow]
        if verb == "asend":
            task = asyncio.create_task(two.asend(HELLO, observers=watching))
        else:
            task = asyncio.create_task(anext(two.astream(HELLO, observers=watching)))
        while not entered.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    until(lambda: first.named("end") and slow.named("end"))
    assert {first.outcome.state, slow.outcome.state} == {"interrupted"}


class SoftTimeLimitExceeded(Exception):  # as Celery names it
    """Be raised by a signal's handler, as the time limits of task queues are."""


class OtherLimit(Exception):
    """Be such a limit by another name."""


@pytest.mark.parametrize("limit", [SoftTimeLimitExceeded, OtherLimit])
@pytest.mark.parametrize("verb", ["send", "stream"])
def test_a_time_limit_raised_inside_a_read_interrupts(
    claude: Any, provider: Provider, verb: str, limit: type[Exception], facts: list[Any]
) -> None:
    provider.answer(Answer(pieces=[cut_before(WIRE.stream(TEXTS), b"world"), threading.Event()]))
    watch = Ends()

    def handle(number: int, frame: Any) -> None:
        raise limit

    def waiting() -> None:
        until(lambda: provider.requests)
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    thread = threading.Thread(target=waiting)
    try:
        thread.start()
        with pytest.raises(limit):
            run(claude, verb, HELLO, observers=watch)
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    outcome = watch.outcome
    assert (outcome.state, type(outcome.error), outcome.text) == ("interrupted", limit, "Hello ")
    assert [each["outcome"] for each in facts] == ["interrupted"]
    provider.wait_closed()


def test_what_a_driver_raises_itself_is_a_failure(configure: Configure, verb: str) -> None:
    configure(it={"DRIVER": f"{__name__}.Faulty"})
    watch = Ends()
    with pytest.raises(ZeroDivisionError):
        run(ai(), verb, HELLO, observers=watch)
    assert watch.outcome.state == "failed"
    assert isinstance(watch.outcome.error, ZeroDivisionError)
    assert watch.outcome.text == "Hello "


class Faulty(ChatDriver):
    """Have a mistake."""

    piece: ClassVar[Any] = None

    def generate(self, messages: Any, options: Any) -> Any:
        yield {"content": "Hello "}
        if self.piece is None:
            raise ZeroDivisionError
        yield self.piece


@pytest.mark.parametrize(
    ("piece", "words"),
    [
        (5, "yield dicts, not int"),
        ({"content": b"x"}, "yield content as a str, not bytes"),
        ({"content": "x", "metadata": 7}, "yield metadata as a dict, not int"),
        ({"done": True, "metadata": [1]}, "yield metadata as a dict, not list"),
        ({"done": True, "usage": 7}, "yield usage as a dict, not int"),
    ],
)
def test_the_end_is_heard_of_what_is_no_piece(
    configure: Configure, verb: str, piece: Any, words: str, monkeypatch: Any
) -> None:
    configure(it={"DRIVER": f"{__name__}.Faulty"})
    monkeypatch.setattr(Faulty, "piece", piece)
    watch = Ends()
    with pytest.raises(TypeError, match=rf"Faulty\.generate\(\) must {words}"):
        run(ai(), verb, HELLO, observers=watch)
    assert (watch.outcome.state, watch.outcome.text) == ("failed", "Hello ")


def test_a_cut_stream_is_interrupted_and_a_refused_key_failed(
    claude: Any, provider: Provider, verb: str
) -> None:
    status, headers, text = WIRE.error("auth", stream=verb in STREAMS)
    provider.answer(Answer(status=status, headers=headers, body=text))
    watch = Ends()
    assert isinstance(run(claude, verb, HELLO, observers=watch).error, AuthenticationError)
    assert (watch.outcome.state, watch.outcome.attempts[0].status) == ("failed", status)
    assert watch.outcome.attempts[0].error is watch.outcome.error
    if verb in STREAMS:
        provider.answer(Answer(body=cut_before(WIRE.stream(TEXTS), b"world")))
        watch = Ends()
        assert isinstance(run(claude, verb, HELLO, observers=watch).error, StreamInterruptedError)
        assert (watch.outcome.state, watch.outcome.text) == ("interrupted", "Hello ")


def test_each_attempt_is_heard_once(provider: Provider, configure: Configure, verb: str) -> None:
    configure(it=WIRE.settings(provider.url, MAX_RETRIES=2))
    status, headers, text = WIRE.error("overloaded", stream=verb in STREAMS)
    provider.answer(
        Answer(status=status, headers={**headers, "retry-after": "0"}, body=text), answer(WIRE, verb)
    )
    watch = Blocking()
    assert run(ai(), verb, HELLO, observers=watch).error is None
    first, second = watch.named("attempt")
    assert watch.outcome.attempts == (first, second)
    assert (first.number, first.status, first.pause is None) == (1, status, False)
    assert (second.number, second.status, second.error) == (2, 200, None)
    assert len(watch.named("open")) == 2
    assert first.ended <= second.started


def test_a_forked_child_ends_nothing(claude: Any, provider: Provider, recwarn: Any) -> None:
    go_on = threading.Event()
    body = WIRE.stream(TEXTS)
    head = cut_before(body, b"world")
    provider.answer(Answer(pieces=[head, go_on, body[len(head) :]]))
    watch = Ends()
    stream = claude.stream(HELLO, observers=watch)
    chunks = [next(stream)]
    child = os.fork()
    if child == 0:
        try:
            stream.close()
        finally:
            os._exit(len(watch.named("end")))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    go_on.set()
    chunks += stream
    assert "".join(chunk["content"] for chunk in chunks) == "Hello world"
    assert watch.outcome.state == "complete"


def test_batches_pass_nobody_who_did_not_ask() -> None:
    call = Call("stream", "it", "two", "", HELLO, {})
    finished = CallFinished(Two)
    batches, abatches = cast("Batches", iter(())), cast("AsyncBatches", object())
    for quiet in ((), (Ends(),), (Observer(),)):
        audience = Audience(call, quiet, finished)
        assert audience.watch(batches) is batches
        assert audience.awatch(abatches) is abatches
    assert Audience(call, (Ends(), Awaited()), finished).watch(batches) is not batches


@pytest.fixture
def pricing() -> Iterator[list[Any]]:
    """Have each answer cost a dollar."""
    asked: list[Any] = []

    def price(call: Call, model: str, usage: Any) -> Any:
        asked.append((call.alias, model))
        return {**(usage or {}), "cost": "1.00"}

    observers.price_with(price)
    yield asked
    observers.price_with(None)


def test_a_price_reaches_the_answer_before_any_end(driver: Any, verb: str, pricing: list[Any]) -> None:
    watch = Ends()
    outcome = run(driver, verb, HELLO, observers=watch)
    assert outcome.reply["usage"]["cost"] == "1.00"
    assert outcome.reply["usage"] == watch.outcome.usage
    assert pricing == [("it", outcome.reply["model"])]


def test_a_price_is_known_of_what_was_left(
    world: World, claude: Any, provider: Provider, pricing: list[Any]
) -> None:
    provider.answer(Answer(pieces=[cut_before(WIRE.stream(TEXTS), b"world"), threading.Event()]))
    watch = Ends()
    world.begin(claude, HELLO, observers=watch)
    world.read().result(SECONDS)
    world.end("close")
    until(lambda: watch.named("end"))
    assert watch.outcome.usage["cost"] == "1.00"  # type: ignore[index]


def test_a_price_that_cannot_be_made_leaves_the_usage(two: Any, verb: str, caplog: Any) -> None:
    observers.price_with(lambda call, model, usage: 1 / 0)  # type: ignore[arg-type, return-value]
    try:
        reply = run(two, verb, HELLO).reply
    finally:
        observers.price_with(None)
    assert reply["usage"]["total_tokens"] == 3
    assert "could not be priced" in caplog.text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (5, "observers is an int, no Observer"),
        ("shop.ai.Watch", "observers is a str, no Observer"),
        (Ends, "observers is the class Ends; pass an instance of it."),
        ([Ends(), "Watch"], "observers[1] is a str, no Observer"),
        ([Ends], "observers[0] is the class Ends"),
    ],
)
def test_what_is_no_observer_is_refused(two: Any, verb: str, given: Any, words: str) -> None:
    error = run(two, verb, HELLO, observers=given).error
    assert isinstance(error, InvalidRequestError)
    assert words in str(error)


def test_observers_of_the_settings_are_made_once(settings: Any) -> None:
    Shared.made.clear()
    entry = {"DRIVER": f"{__name__}.Two"}
    settings.BUPPLE_ENGINE = {"DEFAULT": "a", "DRIVERS": {"a": entry, "b": entry}, "OBSERVERS": [SITE]}
    SHARED.clear()
    for driver in (ai("a"), ai("b"), ai("a", temperature=1)):
        driver.send(HELLO)
    assert len(Shared.made) == 1
    assert [name for name, _ in SHARED] == ["site begin", "site end"] * 3
    settings.BUPPLE_ENGINE = {**settings.BUPPLE_ENGINE, "OBSERVERS": []}
    ai("a").send(HELLO)
    assert len(SHARED) == 6


def test_a_wrong_observer_of_the_settings_is_told_by_ai(settings: Any) -> None:
    settings.BUPPLE_ENGINE = {"DRIVERS": {"echo": {}}, "OBSERVERS": ["shop.ai.Watch"]}
    with pytest.raises(ImproperlyConfigured, match=r"BUPPLE_ENGINE\['OBSERVERS'\]\[0\]: 'shop.ai.Watch'"):
        ai()


def test_the_end_of_a_response_is_that_of_its_call(two: Any) -> None:
    ended: list[Outcome] = []
    watch = Ends()
    stream = two.stream(HELLO, observers=watch)
    response = stream_response(RequestFactory().get("/"), stream, on_end=ended.append)
    assert b"world" in b"".join(response)
    until(lambda: ended)
    outcome = watch.outcome
    assert (ended[0].call, ended[0].text) == (outcome.call, "Hello world")
    assert (ended[0].state, ended[0].usage, ended[0].model) == ("complete", outcome.usage, outcome.model)
    assert [attempt.number for attempt in ended[0].attempts] == [1]


def test_options_that_observers_see_are_masked(claude: Any, provider: Provider) -> None:
    provider.answer(answer(WIRE, "send"))
    watch = Ends()
    claude.send(HELLO, observers=watch, api_key="sk-ant-Zq8Rv7K2mN4pT6wX", headers={"X-Team": "secret-team"})
    (call,) = watch.named("begin")
    shown = repr((call, call.options, watch.outcome))
    assert "Zq8Rv7K2mN4p" not in shown
    assert "secret-team" not in shown
    assert b"observers" not in provider.requests[0].body


def test_work_runs_once_however_its_caller_ends() -> None:
    entered, go_on, done = threading.Event(), threading.Event(), []

    def work() -> int:
        entered.set()
        go_on.wait(SECONDS)
        done.append(1)
        return 5

    async def main() -> None:
        task = asyncio.create_task(bridge.carry_out(work))
        while not entered.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        asyncio.get_running_loop().call_later(0.01, go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == [1]  # a cancelled caller waits for what has begun
        assert await bridge.carry_out(work) == 5

    asyncio.run(main())


def test_an_outcome_is_of_the_end_whenever_it_is_looked_at(provider: Provider, configure: Configure) -> None:
    """What is made when it is asked for is what was known then, whatever its caller did to the reply."""
    configure(it=WIRE.settings(provider.url))
    provider.answer(answer(WIRE, "send"), answer(WIRE, "send"))
    heard = Ends()
    reply = ai("it").send("Hi", observers=heard)
    ended = time.monotonic()
    reply["content"], reply["model"] = "edited", "edited"
    reply["usage"] = reply["metadata"] = {}  # type: ignore[typeddict-item]
    ai("it").send("Hi")
    found = heard.outcome
    assert (found.text, found.state) == ("Hello world", "complete")
    assert found.model not in ("", "edited")
    assert found.usage
    assert found.usage["total_tokens"]
    (attempt,) = found.attempts
    assert attempt.status == 200
    assert found.ended == attempt.ended <= ended


@pytest.mark.parametrize(
    "first_look", [repr, lambda each: each == each, replace, copy.copy, pickle.dumps, lambda each: each.text]
)
def test_an_outcome_is_a_value(first_look: Callable[[Outcome], object]) -> None:
    """Whichever way it is looked at first, its facts are there, and are made once."""
    made: list[int] = []
    attempts = (Attempt(1, "it", "m"),)

    def later() -> dict[str, Any]:
        made.append(1)
        return {"text": "Hello", "reasoning": "", "model": "m", "attempts": attempts}

    found = make_outcome({"state": "complete", "metadata": {}}, later)
    first_look(found)
    assert found == Outcome("complete", text="Hello", model="m", attempts=attempts)
    assert "text='Hello'" in repr(found)
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301 # our own
    assert made == [1]
    with pytest.raises(FrozenInstanceError):
        found.text = "no"  # type: ignore[misc]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(found, "nothing")  # noqa: B009 # a type checker knows that there is none
