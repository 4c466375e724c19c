"""One call without I/O: bytes in, chunks out; the clocks, the retries and the end of a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from bupple_engine.exceptions import (
    EngineError,
    ProviderConnectionError,
    ProviderTimeoutError,
    StreamInterruptedError,
)
from bupple_engine.masking import Hidden, bare, mask_url
from bupple_engine.masking.keys import unkeyed
from bupple_engine.masking.printing import one_line
from bupple_engine.protocol import retries, vendors
from bupple_engine.protocol.answer import reply_of
from bupple_engine.protocol.options import DEFAULT_LIMITS, Clocks, Limits
from bupple_engine.protocol.request import Request
from bupple_engine.protocol.scrubbing import clean, scrub
from bupple_engine.types import Chunk, Reply
from bupple_engine.wires.base import lacks_path
from bupple_engine.wires.parser import Parser

from .attempt import Attempt
from .clock import Clock
from .failure import TransportFailure
from .reader import Body
from .records import are_kept, log_attempt
from .verdict import Again, Done, Failed, Verdict

# How long a complete answer may take to end its body before it is handed on, perhaps without its usage. A
# finish reason is not the end: some services go on thinking after it for several seconds.
END_SECONDS = 30.0


class Named(Protocol):
    """What an exchange knows of its call, for its log records."""

    @property
    def id(self) -> object: ...


class Exchange:
    """The state of one call over any number of attempts.

    Its flow repeats: open_attempt(), then receive_head() and receive() until `finished`; if that fails,
    settle() returns the verdict.
    """

    def __init__(
        self,
        wire: Parser,
        request: Request,
        *,
        alias: str,
        model: str,
        clocks: Clocks,
        max_retries: int,
        clock: Clock,
        chance: Callable[[], float],
        limits: Limits = DEFAULT_LIMITS,
        call: Named | None = None,
    ) -> None:
        self.call = call
        self.wire = wire
        self.alias = alias
        self.request = request
        self.model = unkeyed(model)
        self.clocks = clocks
        self.max_retries = max_retries
        self.limits = limits
        self.attempts = 0
        self.finished = False
        self.last: dict[str, Any] | None = None  # model, usage, finish_reason, metadata
        self.clock = clock
        self._chance = chance
        self.started = clock.now()
        self.first_chunk_at: float | None = None
        self._amended = False
        self._reset()

    def _reset(self) -> None:
        self.answer = self.wire.open_answer(self.request)
        self._end_by: float | None = None  # when a complete answer is handed on, unless more of it comes
        self._pending: EngineError | None = None  # it came behind chunks that are handed on first
        self._body: Body | None = None  # once the head is there
        self.status = 0
        self._request_id: Hidden | None = None
        self._shown_id: str | None = None  # the same, without the secrets that it may quote

    def open_attempt(self) -> Request:
        """Begin an attempt and return what to send."""
        if self.attempts:
            self._reset()
        self.attempts += 1
        self.attempt_started = self.clock.now()
        return self.request

    def timeout(self) -> float:
        """Return the seconds that the next wait may take.

        Raises when a clock has run out, and for an error that came after the chunks handed on.
        """
        if self._pending:
            raise self._pending
        now = self.clock.now()
        clocks = self.clocks
        self._clock, seconds = "total", self.started + clocks.total - now
        if self.request.stream:
            if self.first_chunk_at is None:
                left = self.attempt_started + clocks.first_token - now
                if left < seconds:
                    self._clock, seconds = "first_token", left
            if self._body is not None and clocks.idle < seconds:
                self._clock, seconds = "idle", clocks.idle
        answer = self.answer
        if answer.finish_reason is not None or answer.ended:  # is_complete, which each read would call
            if self._end_by is None:
                self._end_by = now + END_SECONDS
            seconds = min(seconds, self._end_by - now)
            if seconds <= 0:
                # Whatever keeps the connection alive: settle() hands the answer on.
                raise TransportFailure("The answer does not end.", timed_out=True)
        if seconds <= 0:
            raise self._timed_out(self._clock)
        return seconds

    def receive_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the status and the headers, whose names are looked up in lower case."""
        self.status = status
        for name in (*self.wire.request_id_headers, "x-request-id", "apim-request-id", "x-generation-id"):
            if name in headers:
                self._request_id = Hidden(headers[name])
                break
        self._body = Body(self.wire, self.request, self.answer, status, headers, self.limits, self.clock.wall)

    def receive(self, data: bytes) -> list[Chunk]:
        """Take a piece of the body, b"" for its end, and return the chunks in it.

        An error behind chunks of the same piece is kept until these are handed on: the next call raises it.
        """
        if self._pending:
            raise self._pending
        body = self._body
        if body is None:
            raise RuntimeError("The head of the answer has not come.")
        try:
            if data:
                body.feed(data)
            else:
                body.end()
        except EngineError as error:
            # What is read whole is not handed on in part: it can be requested again.
            if body.is_read_whole or not self.answer.chunks:
                raise
            self._pending = error
        self.finished = body.finished
        chunks, self.answer.chunks = self.answer.chunks, []
        if chunks:
            self._end_by = None
        if chunks and self.first_chunk_at is None and self.request.stream:
            self.first_chunk_at = self.clock.now()
        if self.finished and self.last is None:
            chunks.append(self._conclude())
        return chunks

    def settle(self, failure: TransportFailure | EngineError) -> Verdict:
        """Return what becomes of a failed attempt: a whole answer after all, another attempt, or an error."""
        failure = self._pending or failure
        if isinstance(failure, TransportFailure) and not failure.timed_out and self._body is not None:
            failure = self._body.told_error() or failure
        if isinstance(failure, TransportFailure):
            if self.answer.is_complete:
                self.finished = True
                self.answer.finish()
                return Done([*self.answer.chunks, self._conclude()])
            failure = self._translate(failure)
        error = self._complete_evidence(failure)
        if not self._amended and (amended := self.wire.amend_request(self.request, error)):
            self._amended, self.request = True, amended
            seconds: float | None = 0.0
        elif self.first_chunk_at is not None:
            seconds = None  # what was handed on is not handed on twice
        else:
            left = self.started + self.clocks.total - self.clock.now()
            attempt = self.attempts - self._amended
            seconds = retries.delay(error, attempt, self.max_retries, left, self._chance)
        self._log_attempt(error, seconds)
        if seconds is not None:
            return Again(seconds, self.describe(bare(error), seconds))
        self._body = self._pending = None  # it may hold 100 MB
        return Failed(error)

    def reply(self) -> Reply:
        """Return the whole answer; call it once finished."""
        return reply_of(self.answer, cast("dict[str, Any]", self.last))

    @property
    def request_id(self) -> str | None:
        """The provider's id of the last attempt, cleaned when it is first asked for."""
        if self._request_id is None:
            return None
        if self._shown_id is None:
            self._shown_id = one_line(scrub(self._request_id.reveal(), self.request.secrets))
        return self._shown_id

    def describe(
        self, error: BaseException | None = None, pause: float | None = None, ended: float | None = None
    ) -> Attempt:
        """Return what is known about the present attempt, which ends now unless it has already."""
        first = self.first_chunk_at
        usage = error.usage if isinstance(error, EngineError) else None
        if usage is None and self.answer.usage:
            usage = self.wire.parse_usage(self.answer, self.request)
        return Attempt(
            self.attempts,
            self.alias,
            self.model,
            self.status,
            self.request_id,
            self.attempt_started,
            first if first is not None and first >= self.attempt_started else None,
            self.clock.now() if ended is None else ended,
            usage,
            error,
            pause,
        )

    def _log_attempt(self, error: EngineError | None, pause: float | None) -> None:
        if are_kept(error):
            call_id = None if self.call is None else str(self.call.id)
            log_attempt(self.describe(error, pause), self.wire.driver, call_id)

    def _conclude(self) -> Chunk:
        self.last = self.wire.finish(self.answer, self.request, self.model)
        self.last["model"] = one_line(str(self.last["model"]))
        self._log_attempt(None, None)
        return cast("Chunk", {"role": "assistant", "content": "", "done": True, **self.last})

    def _translate(self, failure: TransportFailure) -> EngineError:
        words = one_line(scrub(str(failure), self.request.secrets))  # a library may quote the line that came
        failure.args = (words,)
        if failure.timed_out:
            error = self._timed_out("connect" if not failure.connected else self._clock)
            error.message = f"{error.message.rstrip('.')}{self._place(failure) or '.'}"
            return error
        if self.request.stream and 200 <= self.status < 300:
            return StreamInterruptedError(f"The stream broke off: {failure}")
        return ProviderConnectionError(f"{failure}{self._place(failure)}")

    def _place(self, failure: TransportFailure) -> str:
        """Return the sentences that say which URL could not be reached, and what to check."""
        url = mask_url(self.request.url.partition("?")[0])
        if failure.connected or "://" not in url:
            return ""
        asked = vendors.of_silence(self.wire.driver, url, str(failure), self.request.elsewhere)
        return f". The URL is {url}. {asked}"

    def _timed_out(self, clock: str) -> ProviderTimeoutError:
        seconds = getattr(self.clocks, clock)
        error = ProviderTimeoutError(
            f"The clock {clock!r} ran out: the provider took more than {seconds:g} s."
        )
        error.clock = clock
        error.retryable = clock != "total"
        return error

    def _complete_evidence(self, error: EngineError) -> EngineError:
        error.alias = self.alias
        error.driver = self.wire.driver
        error.model = self.model or None
        error.request_id = self.request_id
        error.attempts = self.attempts
        error.in_stream = bool(self.request.stream and 200 <= self.status < 300)
        error.partial_content = "".join(self.answer.texts)
        error.usage = self.wire.parse_usage(self.answer, self.request) if self.answer.usage else None
        if lacks_path(error) and (advice := self.wire.advise_absent(self.request)):
            error.advice = advice
        clean(error, self.request.secrets)
        return error
