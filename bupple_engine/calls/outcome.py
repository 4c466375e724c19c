"""How an answer ended, and what there was of it until then."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from bupple_engine.exceptions import EngineError, StreamInterruptedError
from bupple_engine.exchange.attempt import Attempt
from bupple_engine.types import FinishReason, Message, Usage

from .call import Call

State: TypeAlias = Literal["complete", "interrupted", "failed", "refused"]


@dataclass(frozen=True)
class Outcome:
    """What had come of an answer, however it ended.

    state is complete where the whole answer came; interrupted where its reader left, somebody stopped it, the
    server ended, a time limit was raised, or the stream was cut off; refused where an observer's begin()
    raised, so that nothing was sent; failed for all else. text and reasoning are what had come until then,
    usage what was known of it. error is what ended the answer, None where it was complete or its reader left.

    call is None for chunks that are no call's. model and driver are those that answered, else those that were
    asked; target is the alias that answered. metadata is the answer's, the provider's echo included. attempts
    are the requests that were sent, trail the targets that were tried, messages those of a run. started,
    first_chunk and ended are seconds of the call's clock (time.monotonic): started is None where nothing was
    sent, first_chunk where no chunk of a stream came, and for send().
    """

    # A field whose default a factory makes may be made when it is first asked for: see make_outcome().
    state: State
    text: str = field(default_factory=str)
    reasoning: str = field(default_factory=str)
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    error: BaseException | None = None
    call: Call | None = None
    tool_calls: tuple[Any, ...] = ()
    messages: tuple[Message, ...] = ()
    model: str = field(default_factory=str)
    driver: str = ""
    target: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    attempts: tuple[Attempt, ...] = field(default_factory=tuple)
    trail: tuple[Any, ...] = ()
    started: float | None = None
    first_chunk: float | None = None
    ended: float | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took; None where nothing was sent."""
        return None if self.started is None or self.ended is None else self.ended - self.started

    if not TYPE_CHECKING:  # a type checker knows the fields

        def __getattr__(self, name: str) -> Any:
            self.__getstate__()
            if name in self.__dict__:
                return self.__dict__[name]
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        facts = self.__dict__
        if (make := facts.get(_UNMADE)) is not None:
            facts.update(make())
            facts.pop(_UNMADE, None)  # after it: another thread may ask at the same time
        return facts


_UNMADE = "_unmade"
# The facts that are made when one of them is asked for: they cost more than the rest of a call's end.
Later: TypeAlias = Callable[[], dict[str, Any]]


def make_outcome(facts: dict[str, Any], later: Later | None = None) -> Outcome:
    """Return an Outcome in a fifth of the time; a fact that is left out has its default.

    facts have the metadata. They have text, reasoning, model and attempts, too, unless later makes these, of
    what changes no more.
    """
    if later is not None:
        facts[_UNMADE] = later
    outcome = object.__new__(Outcome)
    object.__setattr__(outcome, "__dict__", facts)
    return outcome


def state_of(error: BaseException | None) -> State:
    """Return how an answer ended that is not complete."""
    return "interrupted" if error is None or interrupts(error) else "failed"


def interrupts(error: BaseException) -> bool:
    """Tell whether an error came from outside of a call, or cut its stream off: the provider did not fail."""
    return isinstance(error, StreamInterruptedError) or comes_from_outside(error)


def comes_from_outside(error: BaseException) -> bool:
    """Tell whether an error was raised for other reasons than what the code that it came from does.

    The time limits of task queues are Exceptions like any other, but for what raises them: the handler of a
    signal. Celery's is known by its name too, for its pools that have no signals. Source:
    https://docs.celeryq.dev/en/stable/userguide/workers.html#time-limits
    """
    if isinstance(error, EngineError):
        return False
    if not isinstance(error, Exception):
        return True
    if any(cls.__name__ == "SoftTimeLimitExceeded" for cls in type(error).__mro__):
        return True
    handlers = _handlers()
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False


def _handlers() -> Iterable[Any]:
    """Return the code of what handles this process's signals."""
    found = (signal.getsignal(number) for number in signal.valid_signals())
    return {code for handler in found if (code := _code(handler)) is not None}


def _code(handler: Any) -> Any:
    while isinstance(handler, partial):
        handler = handler.func
    if callable(handler) and not inspect.isroutine(handler):
        handler = type(handler).__call__
    return getattr(getattr(handler, "__func__", handler), "__code__", None)
