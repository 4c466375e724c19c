"""Who hears of calls: a site's observers, those of its apps, and those of one call."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
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
    """Hear of calls: derive from it, and define what you want to hear.

    In the order of a call: begin, opening around the opening of each request, attempt after each, batch for
    what came, end. One instance hears all calls of a process, from all threads and event loops, at once: keep
    what belongs to one call in call.facts, or under call.id.

    An `a…` twin is what an asynchronous call awaits. Where a class has none, its method runs in a thread and
    may block. Where it has the twin alone, a synchronous call runs that by async_to_sync, as Django does for
    asynchronous receivers of signals; inside a running event loop that fails.

    What an observer raises is logged, and ends nobody's answer; begin() alone can refuse a call. But what
    ends the process or the task, and the time limit of a task queue, is raised on, wherever it comes.
    """

    # What a class hears, in either world; and what it has a twin of its own for.
    heard: ClassVar[frozenset[str]] = frozenset()
    awaited: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _METHODS:
            if inspect.iscoroutinefunction(getattr(cls, name, None)):
                raise TypeError(f"{cls.__name__}.{name}() is a coroutine function: call it a{name}().")
        cls.awaited = frozenset(name for name in _METHODS if cls.defines(f"a{name}"))
        cls.heard = cls.awaited | {name for name in _METHODS if cls.defines(name)}

    @classmethod
    def defines(cls, name: str) -> bool:
        """Tell whether a class has a method of its own."""
        return getattr(cls, name, None) is not getattr(Observer, name, None)

    def begin(self, call: Call) -> None:
        """Hear of a call before any I/O, a stream's when its first chunk is asked for.

        Raise to refuse it: the caller gets what was raised, the observers that had begun hear an end with the
        state refused, nothing is sent and nothing logged. Set call.messages to a new list to send others:
        they are checked, and the request is built anew, before the next observer begins.
        """

    async def abegin(self, call: Call) -> None:
        """See begin()."""
        await bridge.carry_out(lambda: self.begin(call))

    def opening(self, call: Call) -> AbstractContextManager[Any]:
        """Return what is entered around the opening of each request, and left in the same thread and task.

        It has no twin, since it sets what the libraries below look at, such as the context of a span: it must
        not block. It can't swallow an error.
        """
        return nullcontext()

    def tool(self, call: Call, tool_call: Any) -> AbstractContextManager[Any]:
        """Return what is entered around the work of a tool that a run carries out; see opening()."""
        return nullcontext()

    def attempt(self, call: Call, attempt: Attempt) -> None:
        """Hear of one request on the wire that has ended, whether another follows or not."""

    async def aattempt(self, call: Call, attempt: Attempt) -> None:
        """See attempt()."""
        await bridge.carry_out(lambda: self.attempt(call, attempt))

    def batch(self, call: Call, chunks: list[Chunk]) -> None:
        """Hear the chunks that came at once, before the caller does.

        The caller gets the same dicts: don't change them. Where it is not defined, nothing is spent on it.
        """

    async def abatch(self, call: Call, chunks: list[Chunk]) -> None:
        """See batch()."""
        await bridge.carry_out(lambda: self.batch(call, chunks))

    def end(self, outcome: Outcome) -> None:
        """Hear how a call ended, once, before its caller has the last chunk.

        For what the garbage collector ends it runs in a thread of its own. Where a cancellation or a signal
        cut begin() off, end() is heard all the same.
        """

    async def aend(self, outcome: Outcome) -> None:
        """See end(); it is not cancelled with the call, only with its event loop."""
        await bridge.carry_out(lambda: self.end(outcome))


class CallFinished(Observer):
    """Send the signal, as the last that hears an end; a call that never began leaves none."""

    def __init__(self, sender: type) -> None:
        self._sender = sender

    @property
    def is_heard(self) -> bool:
        """Whether the signal has a receiver."""
        return self.may_be_heard and call_finished.has_listeners(self._sender)

    @property
    def may_be_heard(self) -> bool:
        """Whether the signal has receivers, be it of other drivers; has_listeners() takes a lock."""
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
    """Return a method for a synchronous call: an asynchronous twin that stands alone is run to its end."""
    if name in observer.awaited and not observer.defines(name):
        return async_to_sync(getattr(observer, f"a{name}"))
    method: Callable[..., Any] = getattr(observer, name)
    return method


def dismiss(observer: Observer, name: str, call: Call, error: BaseException) -> None:
    """Log what an observer has just raised, and raise again what only passes through it."""
    if is_cancelled() if isinstance(error, asyncio.CancelledError) else comes_from_outside(error):
        raise error
    report_failure(observer, name, call)


def is_cancelled() -> bool:
    """Tell whether a CancelledError is for the task that runs, not for what it awaits."""
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
    """Return what a caller passed as `observers`, or raise an InvalidRequestError that names what is none."""
    if value is None:
        return ()
    if isinstance(value, Observer):
        return (value,)
    if isinstance(value, type) or not isinstance(value, Iterable) or isinstance(value, str | bytes | dict):
        raise InvalidRequestError(f"observers {_no_observer(value)}", param="observers")
    found = tuple(value)
    for index, each in enumerate(found):
        if not isinstance(each, Observer):
            raise InvalidRequestError(f"observers[{index}] {_no_observer(each)}", param="observers")
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


def _no_observer(value: object) -> str:
    if isinstance(value, type) and issubclass(value, Observer):
        return f"is the class {unkeyed(value.__qualname__)}; pass an instance of it."
    return f"is {kind_of(value)}, no Observer: derive its class from bupple_engine.Observer."


# What the apps of a site have registered, in the order of INSTALLED_APPS.
_registered: tuple[Observer, ...] = ()


def register(observer: Observer) -> None:
    """Have an app's observer hear all calls of the process; to be called in its AppConfig.ready()."""
    global _registered
    if not isinstance(observer, Observer):
        raise TypeError(f"What is registered {_no_observer(observer)}")
    if not any(each is observer for each in _registered):
        _registered = (*_registered, observer)


def unregister(observer: Observer) -> None:
    """Take back what register() did."""
    global _registered
    _registered = tuple(each for each in _registered if each is not observer)


def registered() -> tuple[Observer, ...]:
    """Return what apps have registered."""
    return _registered


# From a call, the model that answered and the usage, None where it is not known, to the usage that the last
# chunk, the Reply and the Outcome shall have.
Pricing: TypeAlias = Callable[[Call, str, Usage | None], Usage | None]

_pricing: Pricing | None = None


def price_with(pricing: Pricing | None) -> None:
    """Have all calls priced, before any observer hears of their end; None ends it.

    It must not change the usage that it is given, and not block. What it raises is logged.
    """
    global _pricing
    _pricing = pricing


def pricing() -> Pricing | None:
    """Return what prices calls."""
    return _pricing
