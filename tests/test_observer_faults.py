"""What observers do wrong, and what only passes through them."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from bupple_engine import Attempt, Call, Observer, Outcome, StreamInterruptedError, ai, call_finished
from bupple_engine.calls import observers
from bupple_engine.drivers.base import ChatDriver
from tests.conftest import Configure
from tests.provider import Provider
from tests.test_observers import HELLO, Ends, Two, answer
from tests.verbs import VERBS, run
from tests.wires import WIRES, Wire
from tests.worlds import SECONDS, until


@pytest.fixture
def two(configure: Configure) -> Any:
    """Give a driver that needs no provider."""
    configure(it={"DRIVER": f"{Two.__module__}.Two"})
    return ai()


class OtherLimit(Exception):
    """Be the time limit of a task queue."""


class Raises(Observer):
    """Raise in one method."""

    def __init__(self, method: str, fail: Callable[[], Any]) -> None:
        self.method = method
        self.fail = fail

    def may_fail(self, method: str) -> None:
        if method == self.method:
            self.fail()

    def begin(self, call: Call) -> None:
        self.may_fail("begin")

    @contextmanager
    def opening(self, call: Call) -> Iterator[None]:
        self.may_fail("opening")
        yield
        self.may_fail("leaving")

    def attempt(self, call: Call, attempt: Attempt) -> None:
        self.may_fail("attempt")

    def batch(self, call: Call, chunks: Any) -> None:
        self.may_fail("batch")

    def end(self, outcome: Outcome) -> None:
        self.may_fail("end")


class AwaitedRaises(Raises):
    async def abegin(self, call: Call) -> None:
        self.may_fail("begin")

    async def aattempt(self, call: Call, attempt: Attempt) -> None:
        self.may_fail("attempt")

    async def abatch(self, call: Call, chunks: Any) -> None:
        self.may_fail("batch")

    async def aend(self, outcome: Outcome) -> None:
        self.may_fail("end")


class Spans(Observer):
    """Count what was entered, and is not left."""

    open = 0

    @contextmanager
    def opening(self, call: Call) -> Iterator[None]:
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1


def raising(error: type[BaseException]) -> Callable[[], Any]:
    """Return what raises an error."""

    def fail(*given: Any, **facts: Any) -> None:
        raise error

    return fail


class Handler:
    """Be an object that handles a signal."""

    def __call__(self, number: int, frame: Any) -> None:
        raise OtherLimit


HANDLERS: dict[str, Any] = {
    "function": lambda number, frame: raising(OtherLimit)(),
    "method": Handler().__call__,
    "partial": partial(lambda extra, number, frame: raising(OtherLimit)(), 1),
    "object": Handler(),
}


@contextmanager
def limit(kind: str = "function") -> Iterator[Callable[[], Any]]:
    """Give what has the handler of a signal raise an OtherLimit."""
    before = signal.signal(signal.SIGUSR1, HANDLERS[kind])
    try:
        yield lambda: signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("method", ["begin", "opening", "leaving", "attempt", "batch", "end", "signal"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, *HANDLERS])
@pytest.mark.parametrize("verb", ["send", "stream"])
def test_what_only_passes_through_an_observer_is_raised_on(
    two: Any, verb: str, method: str, kind: Any, facts: list[Any]
) -> None:
    """A task queue kills the worker later that has swallowed its limit."""
    first, spans, last = Ends(), Spans(), Ends()
    with limit(kind if kind in HANDLERS else "function") as interrupt:
        fail = interrupt if kind in HANDLERS else raising(kind)
        expected = OtherLimit if kind in HANDLERS else kind

        def receive(**facts: Any) -> None:
            fail()

        if method == "signal":
            call_finished.connect(receive)
        try:
            with pytest.raises(expected):
                run(two, verb, HELLO, observers=[first, spans, Raises(method, fail), last])
        finally:
            call_finished.disconnect(receive)
    is_whole = method in ("attempt", "end", "signal")  # which are told when it is
    assert first.outcome.state == ("complete" if is_whole else "interrupted")
    assert spans.open == 0  # else the context of a span stays in the thread
    if method == "begin":
        assert (last.events, facts) == ([], [])
    else:
        assert last.outcome.state == first.outcome.state
        assert len(facts) == 1


@pytest.mark.parametrize("method", ["opening", "leaving", "attempt", "batch", "end"])
@pytest.mark.parametrize("kind", [Raises, AwaitedRaises])
def test_a_cancellation_of_what_an_observer_awaits_is_its_own(
    two: Any, method: str, kind: type[Raises], facts: list[Any], caplog: Any
) -> None:
    for verb in VERBS:
        if kind is AwaitedRaises and verb[0] != "a":
            continue
        caplog.clear()
        facts.clear()
        first, last = Ends(), Ends()
        watching = [first, kind(method, raising(asyncio.CancelledError)), last]
        assert run(two, verb, HELLO, observers=watching).reply["content"] == "Hello world"
        assert (first.outcome.state, last.outcome.state, len(facts)) == ("complete", "complete", 1)
        assert f"failed in {'opening' if method == 'leaving' else method}" in caplog.text


@pytest.mark.parametrize("kind", [Raises, AwaitedRaises])
@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
def test_no_refusal_is_taken_for_the_end_of_a_stream(
    two: Any, error: type[Exception], kind: type[Raises]
) -> None:
    for verb in VERBS:
        if kind is AwaitedRaises and verb[0] != "a":
            continue
        first = Ends()
        with pytest.raises((RuntimeError, StopAsyncIteration)) as caught:
            run(two, verb, HELLO, observers=[first, kind("begin", raising(error))])
        assert (first.outcome.state, first.outcome.error) == ("refused", caught.value)
        if verb[0] == "a" or error is StopIteration:
            assert isinstance(caught.value, RuntimeError)


def test_a_stream_that_breaks_off_inside_a_beginning_refuses(two: Any) -> None:
    first = Ends()
    for verb in VERBS:
        first.events.clear()
        refuse = Raises("begin", raising_cut)
        assert isinstance(run(two, verb, HELLO, observers=[first, refuse]).error, StreamInterruptedError)
        assert first.outcome.state == "refused"


def raising_cut() -> None:
    raise StreamInterruptedError("The model that moderates has broken off.")


class Models(ChatDriver):
    """Have a mistake in models()."""

    def generate(self, messages: Any, options: Any) -> Any:
        yield {"done": True}

    def models(self) -> list[str]:
        return [next(iter(()))]


def test_nobody_waits_for_work_that_raises_a_stop_iteration(configure: Configure) -> None:
    configure(it={"DRIVER": f"{__name__}.Models"})

    async def ask() -> None:
        async with asyncio.timeout(SECONDS):
            await ai().amodels()

    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(ask())


def test_nobody_waits_for_keys_that_are_used_up(configure: Configure, provider: Provider) -> None:
    keys: Iterator[str] = iter(())
    configure(it=WIRES[0].settings(provider.url, API_KEY=lambda: next(keys)))
    for verb in VERBS:
        with pytest.raises(RuntimeError, match="The callable that gives the key raised a StopIteration"):
            run(ai(), verb, HELLO)


@pytest.mark.parametrize("name", ["begin", "opening", "attempt", "batch", "end"])
def test_a_method_that_is_awaited_has_the_name_of_one(name: str) -> None:
    """One that is not would never run, and a budget never refuse."""

    async def method(self: Any, *given: Any) -> None:
        pass

    with pytest.raises(TypeError, match=f"Wrong.{name}\\(\\) is a coroutine function: call it a{name}\\(\\)"):
        type("Wrong", (Observer,), {name: method})


@dataclass
class Equal(Observer):
    """Be equal to others of its kind."""

    number: int = 0


def test_registered_are_observers_each_for_itself() -> None:
    one, two = Equal(), Equal()
    try:
        for each in (one, two, one):
            observers.register(each)
        assert [*map(id, observers.registered())] == [id(one), id(two)]
    finally:
        observers.unregister(one)
        observers.unregister(two)
    with pytest.raises(TypeError, match="is the class Equal; pass an instance of it"):
        observers.register(Equal)  # type: ignore[arg-type]


# What observers change


class Redacts(Observer):
    """Change messages in place."""

    def begin(self, call: Call) -> None:
        part: Any = call.messages[-1]["content"]
        if isinstance(part, list):
            part[0]["content"] = "Hello …"
        else:
            call.messages[-1]["content"] = "Hello …"


@pytest.mark.parametrize("content", ["Hello Ada", [{"type": "text", "content": "Hello Ada"}]])
@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
def test_a_message_that_is_changed_in_place_is_sent_as_it_is_then(
    provider: Provider, configure: Configure, wire: Wire, content: Any
) -> None:
    configure(it=wire.settings(provider.url))
    asked: Any = [{"role": "user", "content": content}]
    for number, verb in enumerate(VERBS):
        provider.answer(answer(wire, verb))
        last = Ends()
        assert run(ai(), verb, asked, observers=[Redacts(), last]).error is None
        assert b"Ada" not in provider.requests[number].body
        assert wire.prompt(provider.requests[number]) == [("user", "Hello …")]
    assert "Ada" in str(asked)  # the caller's own


class Changes(Observer):
    """Change the options."""

    def begin(self, call: Call) -> None:
        call.options["max_retries"] = 99
        call.options["timeout"]["total"] = 1
        call.options["extra"]["user"] = "Eve"


def test_options_that_an_observer_changes_change_no_call(configure: Configure) -> None:
    configure(it={"DRIVER": f"{Two.__module__}.Two", "TIMEOUT": {"total": 9}, "EXTRA": {"user": "Ada"}})
    driver, later = ai(), Ends()
    for verb in VERBS:
        before = driver.get_config()
        run(driver, verb, HELLO, observers=Changes())
        assert driver.get_config() == before
        run(driver, verb, HELLO, observers=later)
    (call, *_) = later.named("begin")
    assert (call.options["max_retries"], call.options["timeout"]) == (2, {"total": 9})
    assert "Ada" not in repr(call.options)


# Where they run


class Locking(logging.Handler):
    """Be a handler of the log with a lock that can't be taken twice, as a queue's."""

    def __init__(self, lock: threading.Lock) -> None:
        super().__init__()
        self.lock_of_queue = lock
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        assert self.lock_of_queue.acquire(timeout=SECONDS), "the collector would wait for ever"
        self.records.append(record)
        self.lock_of_queue.release()


def test_the_collector_writes_no_log(two: Any) -> None:
    lock = threading.Lock()
    handler = Locking(lock)
    logger = logging.getLogger("bupple_engine")
    logger.addHandler(handler)
    try:
        stream = two.stream(HELLO)
        next(stream)
        with lock:
            del stream
        (record,) = until(lambda: handler.records)
    finally:
        logger.removeHandler(handler)
    assert record.getMessage().startswith("it stream: interrupted")


async def test_aclose_waits_for_no_beginning(two: Any) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Ends):
        async def abegin(self, call: Call) -> None:
            self.note("begin", call)
            entered.set()
            await go_on.wait()

    slow = Slow()
    stream = two.astream(HELLO, observers=slow)
    reader = asyncio.create_task(anext(stream, "over"))
    await entered.wait()
    async with asyncio.timeout(SECONDS):
        await stream.aclose()
    go_on.set()
    assert await reader == "over"
    assert (slow.outcome.state, slow.outcome.text) == ("interrupted", "")
