"""The bookkeeping of one call: what was asked, how it ended, and who is told."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from bupple_engine.exceptions import EngineError, StreamInterruptedError
from bupple_engine.masking.keys import unkeyed
from bupple_engine.masking.printing import one_line
from bupple_engine.protocol.options import Options
from bupple_engine.protocol.usage import on_record
from bupple_engine.signals import call_finished

from . import bridge
from .cancellation import Cancellation

if TYPE_CHECKING:
    from bupple_engine.drivers.base import ChatDriver
    from bupple_engine.exchange.exchange import Exchange
    from bupple_engine.protocol.messages import Turn
    from bupple_engine.types import Chunk, Message, Reply, Usage

logger = logging.getLogger("bupple_engine")


class Call:
    """One send or stream, from the checked messages to the signal."""

    def __init__(
        self,
        driver: ChatDriver,
        messages: list[Message],
        turns: list[Turn],
        options: Options,
        *,
        streamed: bool,
        context: Any = None,
    ) -> None:
        self.driver = driver
        self.messages = messages
        self.turns = turns
        self.options = options
        self.streamed = streamed
        self.context = context
        self.cancellation = Cancellation()
        self.exchange: Exchange | None = None
        self.last: Reply | Chunk | None = None
        self.first_chunk_at: float | None = None
        self._started: float | None = None
        self._finished = self._sent = False
        self._lock = threading.Lock()

    @property
    def is_complete(self) -> bool:
        """Whether the whole answer has come."""
        return self.last is not None

    @property
    def is_finished(self) -> bool:
        """Whether its end was told."""
        return self._finished

    @property
    def has_begun(self) -> bool:
        """Whether anything was sent."""
        return self._started is not None

    @property
    def is_overdue(self) -> bool:
        """Whether its total clock has run out."""
        exchange = self.exchange
        return exchange is not None and time.monotonic() > exchange.started + exchange.clocks.total

    def usage(self, error: BaseException | None = None) -> Usage | None:
        """Return what the provider has reported of the tokens until now, or the error that ended the call."""
        found: Usage | None = self.last.get("usage") if self.last is not None else None
        if found is None and isinstance(error, EngineError):
            return error.usage
        if found is None and self.exchange is not None and self.exchange.answer.usage:
            return self.exchange.wire.parse_usage(self.exchange.answer, self.exchange.request)
        return found

    def abandon(self) -> None:
        """Break the call's wait, unless it is for the end of a body whose answer is whole."""
        if not self.is_complete:
            self.cancellation.cancel()

    def begin(self) -> None:
        """Note that I/O begins now; a call that never gets here leaves no trace."""
        if self._started is None:
            self._started = time.monotonic()

    def finish(self, error: BaseException | None = None) -> None:
        """Log the call and send the signal, the first time."""
        if facts := self._end(error):
            self._send(facts)

    async def afinish(self, error: BaseException | None = None) -> None:
        """See finish()."""
        if facts := self._end(error):
            try:
                # Not asend_robust: of that, nobody could tell how far it came before it was cancelled.
                await sync_to_async(self._send)(facts)
            except (asyncio.CancelledError, RuntimeError) as error:
                # A loop that ends cancels it; asgiref refuses where its thread is occupied, or gone.
                bridge.submit(lambda: self._send(facts))
                if isinstance(error, asyncio.CancelledError):
                    raise

    def _send(self, facts: dict[str, Any]) -> None:
        with self._lock:
            if self._sent:
                return
            self._sent = True
        try:
            call_finished.send_robust(type(self.driver), **facts)
        except RuntimeError:
            logger.exception("An asynchronous receiver of call_finished can't run in this synchronous call")

    def _end(self, error: BaseException | None) -> dict[str, Any] | None:
        """Return what the signal says, None where it has been said or nobody listens."""
        with self._lock:
            if self._finished or self._started is None:
                return None
            self._finished = True
        if self.is_complete:
            outcome, error = "complete", None
        elif error is None or isinstance(error, StreamInterruptedError) or not isinstance(error, Exception):
            outcome = "interrupted"
        else:
            outcome = "failed"
        heard = call_finished.has_listeners(type(self.driver))
        if not heard and not logger.isEnabledFor(logging.INFO if outcome == "complete" else logging.WARNING):
            return None
        facts = self._facts(outcome, error)
        self._log(facts)
        return facts if heard else None

    def _facts(self, outcome: str, error: BaseException | None) -> dict[str, Any]:
        last: Any = self.last or {}
        exchange = self.exchange
        now = time.monotonic()
        started = self._started or now
        first = exchange.first_chunk_at if exchange is not None else self.first_chunk_at
        return {
            "alias": self.driver.label,
            "driver": self.driver.name,
            "model": unkeyed(one_line(str(last.get("model") or self.options.get("model") or ""))),
            "usage": self.usage(error),
            "finish_reason": last.get("finish_reason"),
            "outcome": outcome,
            "error": error,
            "duration": now - started,
            "time_to_first_chunk": first - started if first is not None and self.streamed else None,
            "attempts": exchange.attempts if exchange is not None else 1,
            "request_id": exchange.request_id if exchange is not None else None,
            "streamed": self.streamed,
            "context": self.context,
        }

    def _log(self, facts: dict[str, Any]) -> None:
        level = logging.INFO if facts["outcome"] == "complete" else logging.WARNING
        if not logger.isEnabledFor(level):
            return
        extra = {
            name: facts[name]
            for name in ("alias", "driver", "model", "outcome", "duration", "time_to_first_chunk", "attempts")
        }
        extra |= on_record(facts["usage"])
        extra |= {
            "event": "call",
            "status": self.exchange.status if self.exchange is not None else 0,
            "request_id": facts["request_id"],
            "streamed": self.streamed,
        }
        verb = "stream" if self.streamed else "send"
        ending = f"{facts['outcome']} in {facts['duration']:.2f} s"
        if facts["error"] is not None:
            ending += f" ({type(facts['error']).__name__})"
        logger.log(level, "%s %s: %s", facts["alias"], verb, ending, extra=extra)
