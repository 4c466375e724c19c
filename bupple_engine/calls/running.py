"""A call while it runs: its wait, what has come, and the observers of its beginning and end."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from bupple_engine.exceptions import EngineError
from bupple_engine.exchange.attempt import Attempt
from bupple_engine.masking.keys import unkeyed
from bupple_engine.masking.printing import one_line

from . import records, threads
from .audience import AsyncBatches, Audience, Batches
from .call import Call
from .cancellation import Cancellation
from .observers import CallFinished, Observer, Pricing, pricing
from .outcome import Outcome, State, comes_from_outside, make_outcome, state_of
from .seams import CLOCK

if TYPE_CHECKING:
    from bupple_engine.exchange.exchange import Exchange
    from bupple_engine.protocol.messages import Turn
    from bupple_engine.protocol.options import Options
    from bupple_engine.types import Chunk, Message, Reply, Usage

logger = logging.getLogger("bupple_engine")


_NO_OPENING: AbstractContextManager[Any] = nullcontext()


class RunningCall:
    """Carry one Call out, from the checked messages to the last observer.

    build makes the request from value.messages; it is called again if an observer has set others.
    """

    def __init__(
        self,
        value: Call,
        options: Options,
        turns: list[Turn],
        finished: CallFinished,
        observers: tuple[Observer, ...] = (),
        build: Callable[[RunningCall], None] | None = None,
    ) -> None:
        self.value = value
        self.turns = turns
        self.options = options
        self.streamed = value.verb == "stream"
        self.cancellation = Cancellation()
        # The seconds after which a wait that is_timed is interrupted by an empty batch; then it goes on.
        self.patience: float | None = None
        self.is_timed = False
        self.exchange: Exchange | None = None
        self.transport: object | None = None  # what was in place of the network's when it was made
        self.last: Reply | Chunk | None = None
        # Of a driver without an exchange:
        self.first_chunk_at: float | None = None
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self._observers = observers
        self._signal = finished
        self._audience_made: Audience | None = None
        self._build = build
        self._attempts: tuple[Attempt, ...] = ()
        self._usage: Usage | None = None  # once it has its price
        self._started: float | None = None
        self._process = 0
        self._finished = False
        self._lock = threading.Lock()

    @property
    def _audience(self) -> Audience:
        """Its observers; most calls have none."""
        if self._audience_made is None:
            self._audience_made = Audience(self.value, self._observers, self._signal)
        return self._audience_made

    # What is known of it

    @property
    def messages(self) -> list[Message]:
        """What is sent."""
        return self.value.messages

    @property
    def is_complete(self) -> bool:
        """Whether the whole answer has come."""
        return self.last is not None

    @property
    def is_finished(self) -> bool:
        """Whether its end has been reported."""
        return self._finished

    @property
    def has_begun(self) -> bool:
        """Whether anything was sent."""
        return self._started is not None

    @property
    def is_overdue(self) -> bool:
        """Whether its total clock has run out."""
        exchange = self.exchange
        return exchange is not None and exchange.clock.now() > exchange.started + exchange.clocks.total

    @property
    def _is_of_parent(self) -> bool:
        """Whether it began before this process was forked: the parent reads it, and reports its end."""
        return self._started is not None and self._process != os.getpid()

    def usage(self, error: BaseException | None = None) -> Usage | None:
        """Return the usage that the provider, or the error that ended the call, has reported until now."""
        found = self._usage
        if found is None and self.last is not None:
            found = self.last.get("usage")
        if found is None and isinstance(error, EngineError):
            return error.usage
        if found is None and self.exchange is not None and self.exchange.answer.usage:
            return self.exchange.wire.parse_usage(self.exchange.answer, self.exchange.request)
        return found

    def abandon(self) -> None:
        """Break the call's wait, unless the answer is whole and only the end of its body is missing."""
        if not self.is_complete and not self._is_of_parent:  # whose connection this would shut down
            self.cancellation.cancel()

    # Its beginning

    def begin(self) -> None:
        """Have the observers begin, then start the call; raises what refuses it."""
        if self._started is not None:
            return
        if self._observers:
            try:
                self._audience.begin(self._take_messages)
            except BaseException as error:
                self._audience.tell(self._refuse(error))
                raise
        self._start()

    async def abegin(self) -> None:
        """See begin()."""
        if self._started is not None:
            return
        if self._observers:
            try:
                await self._audience.abegin(self._take_messages)
            except BaseException as error:
                await self._audience.atell(self._refuse(error))
                raise
        self._start()

    def _take_messages(self, observer: Observer) -> None:
        if self._build is None:
            return
        try:
            self._build(self)
        except EngineError as error:
            error.add_note(f"These messages were set by {type(observer).__qualname__}.begin().")
            raise

    def _start(self) -> None:
        self._process = os.getpid()
        self._started = CLOCK.get().now()

    def _refuse(self, error: BaseException) -> Outcome:
        """Return the Outcome for the observers that had begun; nothing is sent."""
        self._finished = True
        self._audience.refuse(error)
        return self.sum_up("interrupted" if comes_from_outside(error) else "refused", error)

    # What happens meanwhile

    def attempt(self, attempt: Attempt) -> None:
        """Note an attempt that has ended, and tell the observers."""
        self._attempts = (*self._attempts, attempt)
        if self._observers:
            self._audience.attempt(attempt)

    def opening(self) -> AbstractContextManager[Any]:
        """Return what is entered around the opening of a request, in its thread and task."""
        return self._audience.opening() if self._observers else _NO_OPENING

    async def atell_attempts(self) -> None:
        """Tell the observers of the attempts that attempt() noted on an event loop."""
        if self._observers:
            await self._audience.atell_attempts()

    def watch(self, batches: Batches) -> Batches:
        """Return the batches, passed by the observers of batches if there are any."""
        return self._audience.watch(batches) if self._observers else batches

    def awatch(self, batches: AsyncBatches) -> AsyncBatches:
        """See watch()."""
        return self._audience.awatch(batches) if self._observers else batches

    # Its end

    def finish(self, error: BaseException | None = None) -> None:
        """Log the call and tell its observers, once."""
        if (outcome := self._end(error)) is not None:
            self._audience.tell(outcome)

    async def afinish(self, error: BaseException | None = None) -> None:
        """See finish()."""
        if (outcome := self._end(error)) is not None:
            await self._audience.atell(outcome)

    def finish_elsewhere(self) -> None:
        """See finish(): called by the garbage collector, so a thread tells the observers."""
        if self.has_begun and not self._is_of_parent:  # by the log, too: a handler may have a lock
            threads.leave(self.finish)

    def sum_up(self, state: State, error: BaseException | None = None) -> Outcome:
        """Return what has come until now, as the Outcome of a call that ends in this state."""
        last: Any = self.last or {}
        call, exchange, ended = self.value, self.exchange, CLOCK.get().now()
        metadata = last.get("metadata") or {}
        if "reasoning" in metadata:  # a Reply's, which the Outcome has apart
            metadata = {name: value for name, value in metadata.items() if name != "reasoning"}
        first = self.first_chunk_at if exchange is None else exchange.first_chunk_at
        usage = self.usage(error)
        facts = {
            "state": state,
            "usage": usage,
            "finish_reason": last.get("finish_reason"),
            "error": error,
            "call": call,
            "driver": metadata.get("driver") or call.driver,
            "target": metadata.get("target") or call.alias,
            "metadata": metadata,
            "started": self._started,
            "first_chunk": first if self.streamed else None,
            "ended": ended,
        }
        later = self._make_later(last.get("model"), usage, ended, error)
        if self.is_complete:
            return make_outcome(facts, later)
        return make_outcome({**facts, **later()})  # more may come, of what a reader does not see any more

    def _make_later(
        self, model: object, usage: Usage | None, ended: float, error: BaseException | None
    ) -> Callable[[], dict[str, Any]]:
        """Return what makes the facts of an Outcome that few look at."""
        call, exchange, started, noted = self.value, self.exchange, self._started, self._attempts
        told = self if exchange is None else exchange.answer
        texts, reasoning = told.texts, told.reasoning
        first = self.first_chunk_at if self.streamed else None

        def make() -> dict[str, Any]:
            attempts = noted
            if exchange is not None and exchange.attempts > len(noted):
                attempts = (*noted, exchange.describe(error, ended=ended))  # whose end nobody has noted
            elif exchange is None and started is not None:
                asked = (1, call.alias, call.model, 0, None)
                attempts = (Attempt(*asked, started, first, ended, usage, error),)
            return {
                "text": "".join(texts),
                "reasoning": "".join(reasoning),
                "model": unkeyed(one_line(str(model or call.model))),
                "attempts": () if started is None else attempts,
            }

        return make

    def _end(self, error: BaseException | None) -> Outcome | None:
        """Return the Outcome to report; None if it has been reported, or nobody wants it."""
        if self._is_of_parent:  # whose thread may have held the lock
            return None
        with self._lock:
            if self._finished or self._started is None:
                return None
            self._finished = True
        if self.is_complete:
            error = None
        if (price := pricing()) is not None:
            self._price(price, error)
        if isinstance(error, EngineError):
            error.call_id = self.value.id
        state: State = "complete" if self.is_complete else state_of(error)
        outcome = None
        if self._observers or self._signal.is_heard or records.are_kept(state):
            outcome, noted = self.sum_up(state, error), len(self._attempts)
            records.log_call(outcome)
            self._audience.expect(lambda: outcome.attempts[noted:])
        self._attempts = ()  # the frames of an error in them hold this call
        return outcome

    def _price(self, price: Pricing, error: BaseException | None) -> None:
        """Have the usage priced, for the last chunk, the Reply and the Outcome."""
        model = (self.last.get("model") if self.last is not None else "") or self.value.model
        try:
            self._usage = price(self.value, model, self.usage(error))
        except Exception:  # of whoever prices: an answer that was given is no failure for want of its price
            logger.exception("A call could not be priced", extra={"call_id": str(self.value.id)})
        if self.last is not None and self._usage is not None:
            self.last["usage"] = self._usage
