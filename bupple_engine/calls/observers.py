"""The observers of calls: a site's, those of its apps, and those of one call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from inspect import iscoroutinefunction
from typing import Any, ClassVar, Protocol, TypeAlias

from asgiref.sync import async_to_sync

from bupple_engine.exceptions import InvalidRequestError
from bupple_engine.exchange.attempt import Attempt
from bupple_engine.masking.keys import unkeyed
from bupple_engine.masking.printing import kind_of
from bupple_engine.signals import call_finished
from bupple_engine.types import Chunk, Message, Usage

from . import bridge
from .call import Call
from .outcome import Outcome, comes_from_outside

logger = logging.getLogger("bupple_engine")

_METHODS = ("begin", "opening", "tool", "attempt", "batch", "end")


class Observer:
    """Observe calls: derive from it, and define the methods that you need.

    In the order of a call: begin, opening around the opening of each request, attempt after each, batch for
    what came, end. One instance serves all calls of a process, in all threads and event loops at once: keep
    what belongs to one call in call.facts, or under call.id.

    An asynchronous call awaits the method's `a…` twin. If a class has no twin, its method runs in a thread
    and may block. If it has only the twin, a synchronous call runs that with async_to_sync, as Django does
    for asynchronous receivers of signals; inside a running event loop that fails.

    What an observer raises is logged and does not end the answer; only begin() can refuse a call. But what
    ends the process or the task, and the time limit of a task queue, is raised on from every method.
    """

    # The methods that a class defines, sync or async; and those for which it has its own twin.
    heard: ClassVar[frozenset[str]] = frozenset()
    awaited: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if wrong := cls._find_wrong():
            raise TypeError(f"{cls.__qualname__}.{wrong}")
        cls.awaited = frozenset(name for name in _METHODS if cls.defines(f"a{name}"))
        cls.heard = cls.awaited | {name for name in _METHODS if cls.defines(name)}

    @classmethod
    def _find_wrong(cls) -> str:
        """Return which method is of the wrong kind, "" if none is.

        An `async def begin()` would never be awaited, and so refuse no call.
        """
        for name in _METHODS:
            if cls.defines(name) and iscoroutinefunction(getattr(cls, name)):
                advice = f"call it a{name}()" if hasattr(Observer, f"a{name}") else "it can't be"
                return f"{name}() is asynchronous: {advice}"
            if cls.defines(f"a{name}") and not iscoroutinefunction(getattr(cls, f"a{name}")):
                return f"a{name}() is not asynchronous: write `async def`, or call it {name}()"
        return ""

    @classmethod
    def defines(cls, name: str) -> bool:
        """Return whether a class has a method of its own."""
        return getattr(cls, name, None) is not getattr(Observer, name, None)

    def begin(self, call: Call) -> None:
        """Observe a call before any I/O; for a stream, when its first chunk is asked for.

        Raise to refuse it: the caller gets what was raised, observers that had begun get an end with the
        state refused, and nothing is sent or logged. Set call.messages to a new list to send other messages:
        they are checked, and the request is built anew, before the next observer begins.
        """

    async def abegin(self, call: Call) -> None:
        """See begin()."""
        await bridge.carry_out(lambda: self.begin(call))

    def opening(self, call: Call) -> AbstractContextManager[Any]:
        """Return a context manager to enter around the opening of each request, in one thread and task.

        It has no twin, because it sets what the libraries below look at, such as the context of a span. It
        must not block, and can't swallow an error.
        """
        return nullcontext()

    def tool(self, call: Call, tool_call: Any) -> AbstractContextManager[Any]:
        """Return a context manager to enter around a tool's work; see opening()."""
        return nullcontext()

    def attempt(self, call: Call, attempt: Attempt) -> None:
        """Observe a request on the wire that has ended, whether or not another follows."""

    async def aattempt(self, call: Call, attempt: Attempt) -> None:
        """See attempt()."""
        await bridge.carry_out(lambda: self.attempt(call, attempt))

    def batch(self, call: Call, chunks: list[Chunk]) -> None:
        """Observe the chunks that came at once, before the caller gets them.

        The caller gets the same dicts: don't change them. A class that doesn't define it pays nothing for it.
        """

    async def abatch(self, call: Call, chunks: list[Chunk]) -> None:
        """See batch()."""
        await bridge.carry_out(lambda: self.batch(call, chunks))

    def end(self, outcome: Outcome) -> None:
        """Observe how a call ended, once, before its caller gets the last chunk.

        For a stream ended by the garbage collector it runs in a thread of its own. It also follows a begin()
        that a cancellation or a signal cut off.
        """

    async def aend(self, outcome: Outcome) -> None:
        """See end(); it is not cancelled with the call, but only with its event loop."""
        await bridge.carry_out(lambda: self.end(outcome))


class CallFinished(Observer):
    """Send the signal, after all other observers' end; a call that never began sends none."""

    def __init__(self, sender: type) -> None:
        self._sender = sender

    @property
    def is_heard(self) -> bool:
        """Whether the signal has a receiver."""
        return self.may_be_heard and call_finished.has_listeners(self._sender)

    @property
    def may_be_heard(self) -> bool:
        """Whether the signal has receivers, if only for other drivers; has_listeners() takes a lock."""
        return bool(call_finished.receivers)

    def end(self, outcome: Outcome) -> None:
        call = outcome.call
        if call is None or outcome.started is None:
            return
        try:
            answers = call_finished.send_robust(self._sender, **_facts(call, outcome))
        except RuntimeError:
            logger.exception(
                "An asynchronous receiver of call_finished can't run in this synchronous call",
                extra={"call_id": str(call.id)},
            )
            return
        for _, answer in answers:
            if isinstance(answer, Exception) and comes_from_outside(answer):
                raise answer


def _facts(call: Call, outcome: Outcome) -> dict[str, Any]:
    started = outcome.started or 0.0
    return {
        "id": call.id,
        "parent": call.parent,
        "alias": call.alias,
        "driver": call.driver,
        "model": outcome.model,
        "usage": outcome.usage,
        "finish_reason": outcome.finish_reason,
        "outcome": outcome.state,
        "error": outcome.error,
        "duration": outcome.seconds,
        "time_to_first_chunk": None if outcome.first_chunk is None else outcome.first_chunk - started,
        "attempts": len(outcome.attempts),
        "request_id": outcome.attempts[-1].request_id if outcome.attempts else None,
        "streamed": call.verb == "stream",
        "context": call.context,
        "result": outcome,
    }


def blocking(observer: Observer, name: str) -> Callable[..., Any]:
    """Return an observer's method for a synchronous call; a twin without a method is run to its end."""
    if name in observer.awaited and not observer.defines(name):
        if bridge.is_on_a_loop():
            raise RuntimeError(
                f"{type(observer).__qualname__}.a{name}() can't run in send() or stream() on an event loop:"
                f" write `await ai().asend(…)`, or give the class a synchronous {name}() as well."
            )
        return async_to_sync(getattr(observer, f"a{name}"))
    method: Callable[..., Any] = getattr(observer, name)
    return method


def dismiss(observer: Observer, name: str, call: Call, error: BaseException) -> None:
    """Log what an observer has just raised, and raise again what only passes through it."""
    if is_cancelled() if isinstance(error, asyncio.CancelledError) else comes_from_outside(error):
        raise error
    report_failure(observer, name, call)


def is_cancelled() -> bool:
    """Return whether a CancelledError is for the task that runs, not for what it awaits."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and task.cancelling() > 0


def report_failure(observer: Observer, name: str, call: Call) -> None:
    """Log what an observer has just raised."""
    kind = type(observer)
    logger.exception(
        "The observer %s.%s failed in %s()",
        kind.__module__,
        kind.__qualname__,
        name,
        extra={"event": "observer", "call_id": str(call.id), "alias": call.alias},
    )


def read_observers(value: Any) -> tuple[Observer, ...]:
    """Return what a caller passed as `observers`; an InvalidRequestError names what is none."""
    if value is None:
        return ()
    if isinstance(value, Observer):
        value = (value,)
    if isinstance(value, type) or not isinstance(value, Iterable) or isinstance(value, str | bytes | dict):
        raise InvalidRequestError(f"observers is {_no_observer(value)}", param="observers")
    found = tuple(value)
    for index, each in enumerate(found):
        if wrong := find_fault(each):
            raise InvalidRequestError(f"observers[{index}] is {wrong}", param="observers")
    return found


class Remembering(Protocol):
    """What `memory=` takes: it makes an observer that sets the call's messages, and keeps what comes."""

    def recorder(self, messages: list[Message]) -> Observer: ...


def read_memory(value: Any) -> Remembering:
    """Return what a caller passed as `memory`, or raise an InvalidRequestError where it is none."""
    if callable(getattr(value, "recorder", None)):
        found: Remembering = value
        return found
    words = f"memory is {kind_of(value)}; write memory=memory(owner), of bupple_engine."
    raise InvalidRequestError(words, param="memory")


def find_fault(value: object) -> str:
    """Return why a value can't hear of calls, as words that follow "is"; "" where it can."""
    if not isinstance(value, Observer):
        return _no_observer(value)
    if value.heard or type(value) is Observer:
        return ""
    methods = ", ".join(f"{name}()" for name in _METHODS[:-1])
    return f"{kind_of(value)}, which hears nothing: define {methods} or end()."


def _no_observer(value: object) -> str:
    if isinstance(value, type) and issubclass(value, Observer):
        return f"the class {unkeyed(value.__qualname__)}; pass an instance of it."
    if isinstance(value, type):
        return "a class that is no Observer: derive it from bupple_engine.Observer."
    return f"{kind_of(value)}, no Observer: derive its class from bupple_engine.Observer."


# What the site's apps have registered, in the order of INSTALLED_APPS.
_registered: tuple[Observer, ...] = ()


def register(observer: Observer) -> None:
    """Have an app's observer observe all calls of the process; call it in AppConfig.ready().

    Raises a TypeError for what is no observer.
    """
    global _registered
    if wrong := find_fault(observer):
        raise TypeError(f"What is registered is {wrong}")
    if not any(each is observer for each in _registered):
        _registered = (*_registered, observer)


def unregister(observer: Observer) -> None:
    """Undo register()."""
    global _registered
    _registered = tuple(each for each in _registered if each is not observer)


def registered() -> tuple[Observer, ...]:
    """Return what apps have registered."""
    return _registered


# Takes a call, the model that answered and the usage (None if unknown), and returns the usage that the last
# chunk, the Reply and the Outcome are to have.
Pricing: TypeAlias = Callable[[Call, str, Usage | None], Usage | None]

_pricing: Pricing | None = None


def price_with(pricing: Pricing | None) -> None:
    """Have all calls priced before any observer's end; None stops it.

    The callable must neither change the usage that it gets nor block. What it raises is logged.
    """
    global _pricing
    if pricing is not None and not callable(pricing):
        raise TypeError(f"price_with() takes a callable of call, model and usage, not {kind_of(pricing)}")
    _pricing = pricing


def pricing() -> Pricing | None:
    """Return the callable that prices calls."""
    return _pricing
