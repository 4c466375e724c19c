"""One call without I/O: bytes in, chunks out; the clocks, the retries and the end of a stream."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from typing import Any, cast

from . import retries
from .exceptions import (
    EngineError,
    ProviderConnectionError,
    ProviderServerError,
    ProviderTimeoutError,
    ResponseParseError,
    StreamError,
    StreamInterruptedError,
)
from .masking import bare, scrub
from .options import Clocks
from .sse import Decoder, Event
from .types import Chunk, Reply
from .wire import Answer, Request, Wire, reply_of

# One escape of a string; the group is half of a pair, where the other half is not beside it.
_ESCAPE = re.compile(r"(?i)\\(?:ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|(ud[89a-f][0-9a-f]{2})|.)")


def _loads_leniently(text: str) -> Any:
    """Return JSON's value, where NaN may stand, with half a pair of surrogates as U+FFFD.

    Some services cut a text between the two; half a character fits in no database and no socket.
    """
    if "\\ud" in text or "\\uD" in text:
        text = _ESCAPE.sub(lambda match: r"\ufffd" if match[1] else match[0], text)
    return json.loads(text)


try:
    from orjson import loads as _loads  # refuses both
except ImportError:
    _scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined] # typeshed leaves it out

    def _loads(text: str) -> Any:  # type: ignore[misc]
        # json.loads looks for an encoding and for white space first, which takes half as long again.
        if "\\ud" in text or "\\uD" in text:
            return _loads_leniently(text)
        try:
            value, end = _scan(text, 0)
        except StopIteration:
            return json.loads(text)
        return value if end == len(text) else json.loads(text)


logger = logging.getLogger("bupple_engine")

MAX_ERROR_BYTES = 65_536
MAX_REPLY_BYTES = 100_000_000
# How long a complete answer may take to end its body; then it is handed on without its last words on usage.
END_SECONDS = 5.0


class TransportFailure(Exception):
    """What a transport raises: the bytes did not come.

    connected tells a failed connection from a broken one.
    """

    def __init__(
        self, message: str, *, timed_out: bool = False, connected: bool = True
    ) -> None:
        super().__init__(message)
        self.timed_out = timed_out
        self.connected = connected


class Exchange:
    """The state of one call over any number of attempts.

    A shell repeats: open_attempt(), then receive_head() and receive() until `finished`; where that
    fails, settle() says after how many seconds to begin again, or raises what the caller shall see.
    """

    def __init__(
        self, wire: Wire, request: Request, *, alias: str, model: str, clocks: Clocks, max_retries: int
    ) -> None:
        self.wire = wire
        self.alias = alias
        self.request = request
        self.model = model
        self.clocks = clocks
        self.max_retries = max_retries
        self.attempts = 0
        self.finished = False
        self.last: dict[str, Any] | None = None  # model, usage, finish_reason, metadata
        self.status = 0
        self.request_id: str | None = None
        self.started = time.monotonic()
        self.first_chunk_at: float | None = None
        self._amended = False
        self._pending: EngineError | None = None
        self._reset()

    def _reset(self) -> None:
        self.answer = Answer()
        self._decoder = Decoder()
        self._body: list[bytes] | None = None  # set: the body is read whole
        self._size = 0
        self._begun = False  # something but white space has come
        self._strays = 0
        self._headers: Mapping[str, str] = {}
        self._head_came = False
        self.status = 0

    def open_attempt(self) -> Request:
        """Begin an attempt and return what to send."""
        self._reset()
        self.attempts += 1
        self.attempt_started = time.monotonic()
        return self.request

    def timeout(self) -> float:
        """Return the seconds that the next wait may take, or raise the clock that has run out."""
        now = time.monotonic()
        clocks = self.clocks
        self._clock, seconds = "total", self.started + clocks.total - now
        if self.request.stream:
            if self.first_chunk_at is None:
                left = self.attempt_started + clocks.first_token - now
                if left < seconds:
                    self._clock, seconds = "first_token", left
            if self._head_came and clocks.idle < seconds:
                self._clock, seconds = "idle", clocks.idle
            if self.is_complete:
                seconds = min(seconds, END_SECONDS)
        if seconds <= 0:
            raise self._timed_out(self._clock)
        return seconds

    @property
    def is_complete(self) -> bool:
        """Whether the answer is whole, though its body may not have ended."""
        return self.answer.finish_reason is not None or self.answer.ended

    def receive_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the status and the headers, whose names are looked up in lower case."""
        self.status = status
        self._headers = headers
        self._head_came = True
        for name in (*self.wire.request_id_headers, "x-request-id", "apim-request-id", "x-generation-id"):
            if name in headers:
                self.request_id = headers[name]
                break
        if not 200 <= status < 300 or not self.request.stream:
            self._body = []

    def receive(self, data: bytes) -> list[Chunk]:
        """Take a piece of the body, b"" for its end, and return the chunks in it.

        An error behind chunks of the same piece is kept until these are handed on: the next call raises it.
        """
        if self._pending:
            raise self._pending
        try:
            if not data:
                self._receive_end()
            elif self._body is not None:
                self._collect(data)
            else:
                self._decode(data)
        except EngineError as error:
            # What was read whole is not handed on in part: it can be asked for again.
            if self._body is not None or not self.answer.chunks:
                raise
            self._pending = error
        chunks, self.answer.chunks = self.answer.chunks, []
        if chunks and self.first_chunk_at is None:
            self.first_chunk_at = time.monotonic()
        if self.finished and self.last is None:
            chunks.append(self._conclude())
        return chunks

    def settle(self, failure: TransportFailure | EngineError) -> tuple[list[Chunk], float]:
        """Return the last chunks where the answer was whole, else the seconds until the next attempt.

        Raises the error that the caller shall see, with its evidence, where there is no next attempt.
        """
        if isinstance(failure, TransportFailure):
            if self.is_complete:
                self.finished = True
                return [self._conclude()], 0.0
            failure = self._translate(failure)
        error = self._complete_evidence(failure)
        if not self._amended and (amended := self.wire.amend_request(self.request, error)):
            self._amended, self.request = True, amended
            self._log_attempt(error, 0.0)
            return [], 0.0
        left = self.started + self.clocks.total - time.monotonic()
        seconds = retries.delay(error, self.attempts, self.max_retries, left)
        if self.first_chunk_at is not None:
            seconds = None  # what was given is not given again
        self._log_attempt(error, seconds)
        if seconds is None:
            raise bare(error)  # the frames that parsed it hold what came, and so what it quoted
        return [], seconds

    def reply(self) -> Reply:
        """Return the whole answer; to be called once finished."""
        return reply_of(self.answer, cast("dict[str, Any]", self.last))

    def _log_attempt(self, error: EngineError | None, pause: float | None) -> None:
        level = logging.WARNING if error else logging.DEBUG
        if not logger.isEnabledFor(level):
            return
        duration = time.monotonic() - self.attempt_started
        outcome = type(error).__name__ if error else "complete"
        then = f", again in {pause:.2f} s" if pause is not None else ""
        logger.log(
            level,
            "%s attempt %d: %s after %.2f s%s",
            self.alias,
            self.attempts,
            outcome,
            duration,
            then,
            extra={
                "event": "attempt",
                "alias": self.alias,
                "driver": self.wire.driver,
                "model": self.model,
                "status": self.status,
                "outcome": outcome,
                "duration": duration,
                "attempt": self.attempts,
                "request_id": self.request_id,
            },
        )

    # The body

    def _decode(self, data: bytes) -> None:
        if not self._begun:
            # No event stream: an error that came with status 200, a server that cannot stream, a web page.
            begun = data.lstrip(b" \r\n\t\xef\xbb\xbf")
            if begun[:1] in (b"{", b"[", b"<"):
                self._body = []
                return self._collect(begun)
            self._begun = bool(begun)
        answer, wire = self.answer, self.wire
        for event in self._decoder.feed(data):
            if answer.ended:
                break
            self._parse(event, answer, wire)
        if len(self._decoder.stray) != self._strays:
            self._parse_stray()
        if answer.ended:
            self.finished = True
        return None

    def _parse(self, event: Event, answer: Answer, wire: Wire) -> None:
        text = event.data
        try:
            payload = _loads(text)
        except (ValueError, RecursionError):
            if wire.parse_end(text, answer) or not text.strip():
                return
            try:
                payload = _loads_leniently(text)
            except (ValueError, RecursionError):
                if event.event == "error":
                    raise StreamError(self._excerpt(text, 500)) from None
                raise ResponseParseError(
                    f"An event of the stream is no JSON: {self._excerpt(text)!r}"
                ) from None
        if not isinstance(payload, dict):
            raise ResponseParseError(f"An event of the stream is no JSON object: {self._excerpt(text)!r}")
        if event.event == "error" or payload.get("error"):
            raise wire.parse_error(0, payload, self._excerpt(text, 500))
        try:
            wire.parse_event(event.event, payload, answer)
        except (AttributeError, TypeError, KeyError, IndexError, ValueError):
            raise ResponseParseError(
                f"An event of the stream has another shape than documented: {self._excerpt(text)!r}"
            ) from None

    def _parse_stray(self) -> None:
        """Raise the error that some providers drop into a stream as bare JSON, or behind a field `error`."""
        lines = self._decoder.stray
        self._strays = len(lines)
        if lines[-1].rstrip()[-1:] not in (b"}", b"]"):
            return
        begins = [i for i, line in enumerate(lines) if line.startswith((b"{", b"[", b"error:"))]
        try:
            payload = json.loads(b"\n".join(lines[begins[0] :]).removeprefix(b"error:")) if begins else None
        except (ValueError, RecursionError):
            return
        if isinstance(payload, list):
            payload = payload[0] if payload else {}
        if isinstance(payload, dict) and payload:
            payload = payload if payload.get("error") else {"error": payload}
            raise self.wire.parse_error(0, payload)

    def _collect(self, data: bytes) -> None:
        self._size += len(data)
        if self._body is not None:
            self._body.append(data)
        if not 200 <= self.status < 300:
            if self._size >= MAX_ERROR_BYTES:
                self._receive_end()
        elif self._size > MAX_REPLY_BYTES:
            raise ResponseParseError(f"The answer is larger than {MAX_REPLY_BYTES:,} bytes.")

    def _receive_end(self) -> None:
        if self._body is not None:
            self._receive_whole(b"".join(self._body))
        elif not self.is_complete:
            tail = self._decoder.tail()
            if len(self._decoder.stray) != self._strays:
                self._parse_stray()
            if tail and self.wire.parse_tail(self.answer):
                self._parse_unfinished(tail)
            if not self.is_complete:
                raise StreamInterruptedError("The stream ended before the provider's finish reason.")
        self.finished = True

    def _parse_unfinished(self, event: Event) -> None:
        try:
            self._parse(event, self.answer, self.wire)
        except ResponseParseError:
            return  # cut inside: the caller hears that the stream was interrupted

    def _receive_whole(self, body: bytes) -> None:
        text = body.decode("utf-8-sig", "replace").strip()
        try:
            payload = _loads_leniently(text)
        except (ValueError, RecursionError):
            payload = None
        if not 200 <= self.status < 300:
            raise self._status_error(payload, text)
        if isinstance(payload, list) and payload and isinstance(payload[0], dict) and payload[0].get("error"):
            payload = payload[0]
        if not isinstance(payload, dict):
            if self.request.stream and text[:1] in ("{", "[") and text[-1:] not in ("}", "]"):
                raise StreamInterruptedError("The answer ended before its end.")
            raise ResponseParseError(f"The answer is no JSON object: {self._excerpt(text)!r}")
        if payload.get("error") or payload.get("object") == "error" or payload.get("type") == "error":
            error = self.wire.parse_error(0, payload, self._excerpt(text, 500))
            if type(error) is StreamError and not self.request.stream:
                error = ProviderServerError(error.message, type=error.type, param=error.param)
            raise error
        try:
            self.wire.parse_reply(payload, self.answer)
        except (AttributeError, TypeError, KeyError, IndexError, ValueError):
            raise ResponseParseError(
                f"The answer has another shape than documented: {self._excerpt(text)!r}"
            ) from None
        if self.answer.finish_reason is None:
            raise ResponseParseError(f"The answer says nothing: {self._excerpt(text)!r}")

    def _conclude(self) -> Chunk:
        self.last = self.wire.finish(self.answer, self.request, self.model)
        self._log_attempt(None, None)
        return cast("Chunk", {"role": "assistant", "content": "", "done": True, **self.last})

    # Errors

    def _excerpt(self, text: str, size: int = 100) -> str:
        """Return the beginning of what came; a secret is masked before it could be cut in two."""
        return scrub(text, self.request.secrets)[:size]

    def _status_error(self, payload: Any, text: str) -> EngineError:
        if 300 <= self.status < 400:
            error: EngineError = ProviderConnectionError(
                "The provider redirects, which is not followed: set BASE_URL to where the API is.",
                code=self.status,
            )
            error.retryable = False
            return error
        if self.status == 407:
            # A proxy of the environment may quote its credentials, which nobody here knows.
            error = ProviderConnectionError("The proxy wants credentials, or others: check PROXY.", code=407)
            error.retryable = False
            return error
        if payload is None and "<" in text[:200]:
            text = f"The provider answered with status {self.status} and a page of HTML."
        error = self.wire.parse_error(self.status, payload, self._excerpt(text, 500))
        seconds = retries.parse_retry_after(self._headers)
        error.retry_after = error.retry_after if seconds is None else seconds
        error.retryable = retries.is_retryable(error, self._headers.get("x-should-retry"))
        return error

    def _translate(self, failure: TransportFailure) -> EngineError:
        failure.args = (scrub(str(failure), self.request.secrets),)  # a library may quote the line that came
        if failure.timed_out:
            return self._timed_out("connect" if not failure.connected else self._clock)
        if self._head_came and self.request.stream and 200 <= self.status < 300:
            return StreamInterruptedError(f"The stream broke off: {failure}")
        return ProviderConnectionError(str(failure))

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
        error.usage = (
            cast("dict[str, Any]", self.wire.parse_usage(self.answer.usage)) if self.answer.usage else None
        )
        for name in ("message", "type", "param"):
            if text := getattr(error, name):
                setattr(error, name, scrub(text, self.request.secrets))
        error.args = (error.message,)
        return error
