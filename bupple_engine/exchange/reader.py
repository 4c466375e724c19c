"""The body of one answer, cut anywhere: an event stream or JSON, an answer or an error. No I/O."""

from __future__ import annotations

import time
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from typing import Any

from bupple_engine.exceptions import (
    EngineError,
    ProviderServerError,
    ResponseParseError,
    StreamError,
    StreamInterruptedError,
)
from bupple_engine.protocol.answer import Answer
from bupple_engine.protocol.json import begins_with_object, has_halves, loads, loads_leniently
from bupple_engine.protocol.options import DEFAULT_LIMITS, Limits
from bupple_engine.protocol.reports import parse_embedded, reports_error
from bupple_engine.protocol.request import Request
from bupple_engine.protocol.sse import BLANK, Decoder, Event, EventTooLargeError, begins_stream
from bupple_engine.wires.parser import Parser

from .events import MISFITS, Events
from .statuses import status_error

MAX_ERROR_BYTES = 65_536


class Body:
    """Read one answer's body into an Answer, as its wire understands it."""

    def __init__(
        self,
        wire: Parser,
        request: Request,
        answer: Answer,
        status: int,
        headers: Mapping[str, str],
        limits: Limits = DEFAULT_LIMITS,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.answer = answer
        self.finished = False  # nothing that may follow matters
        self._wire = wire
        self._events = Events(wire, answer, request.secrets)
        self._stream = request.stream
        self._status = status
        self._headers = headers
        self._limits = limits
        self._wall = wall
        self._decoder = Decoder(limits.event)
        # Set: the body is read whole, as JSON. What is an answer shows by its first bytes which it is.
        self._whole: list[bytes] | None = None if 200 <= status < 300 else []
        self._size = 0
        self._begun = False  # enough has come to tell events from JSON
        self._head = b""  # what has come until then
        self._first = ""  # the first event, to be quoted where none of them said anything
        self._strays = 0

    @property
    def is_read_whole(self) -> bool:
        """Whether what comes means nothing before its end."""
        return self._whole is not None or not self._stream

    def feed(self, data: bytes) -> None:
        """Take a piece of the body; raise the error that it tells."""
        if self._whole is not None:
            self._collect(data)
        elif self._stream:
            self._decode(data)
        else:
            try:
                self._decode(data)
            except StreamError as error:
                raise self._outside_a_stream(error) from None

    def _decode(self, data: bytes) -> None:
        if not self._begun:
            begun = (self._head + data).lstrip(BLANK)
            is_whole = self._is_whole(begun)
            if is_whole:
                self._whole = []
                return self._collect(begun)
            if is_whole is None and not self._stream:
                self._head = begun
                return None
            self._begun = bool(begun)
            data, self._head = self._head + data, b""
        self._size += len(data)
        if self._size > self._limits.response:
            raise _too_large("stream", "MAX_RESPONSE_BYTES", self._limits.response)
        answer, parse = self.answer, self._events.parse
        try:
            events = self._decoder.feed(data)
        except EventTooLargeError:
            raise _too_large("event of the stream", "MAX_EVENT_BYTES", self._limits.event) from None
        for event in events:
            if answer.ended:
                break
            parse(event)
        if len(self._decoder.stray) != self._strays:
            self._parse_stray()
        if events and not self._first:
            self._first = events[0].data
        if answer.ended:
            self._conclude()
        return None

    def _is_whole(self, begun: bytes) -> bool | None:
        """Return by its first bytes whether an answer is no event stream; None where they are too few.

        Whatever was asked for, it may be an error that came with status 200, the answer of a server that
        cannot stream, a web page, or the events of one that can do nothing else.
        """
        if begun[:1] in (b"{", b"[", b"<"):
            return True
        if self._stream or "event-stream" in self._headers.get("content-type", "").lower():
            return False if begun else None
        is_stream = begins_stream(begun)
        return None if is_stream is None else not is_stream

    def _parse_stray(self) -> None:
        self._events.parse_stray(self._decoder.stray)
        self._strays = len(self._decoder.stray)

    def _collect(self, data: bytes) -> None:
        self._size += len(data)
        if self._whole is not None:
            self._whole.append(data)
        if not 200 <= self._status < 300:
            if self._size >= MAX_ERROR_BYTES:
                self.end()
        elif self._size > self._limits.response:
            raise _too_large("answer", "MAX_RESPONSE_BYTES", self._limits.response)

    def end(self) -> None:
        """Take the end of the body; raise what it means, where the answer is not whole."""
        if self._whole is not None:
            self._receive_whole(b"".join(self._whole))
        elif not self._begun and not self._stream:
            self._receive_whole(self._head)
        else:
            if not self.answer.is_complete:
                self._read_tail()
            if not self.answer.is_complete:
                raise self.told_error() or StreamInterruptedError(
                    f"The stream ended before the provider's finish reason{self._beginning()}."
                )
            self._conclude()
        self.finished = True

    def _read_tail(self) -> None:
        """Read the last event though nothing ends it, where the wire may."""
        tail = self._decoder.tail()
        if len(self._decoder.stray) != self._strays:
            self._parse_stray()
        if tail and self._wire.parse_tail(self.answer):
            try:
                self._events.parse(tail)
            except ResponseParseError:
                return  # cut inside: the caller hears that the stream was interrupted

    def _conclude(self) -> None:
        self.answer.finish()
        if self.answer.is_blank:
            raise StreamInterruptedError(f"The stream ended and said nothing{self._beginning()}.")
        self.finished = True

    def _beginning(self) -> str:
        """Return what a stream without an answer began with: it may be an error in a shape of its own."""
        is_telling = self.answer.is_blank and self._first[:1] == "{"
        return f"; it began with {self._events.excerpt(self._first)!r}" if is_telling else ""

    def told_error(self) -> EngineError | None:
        """Return the error that came whole when the stream broke off or ended, though no line ended it."""
        tail = None if self._whole is not None else self._decoder.tail()
        text = tail.data if tail else b"".join(self._whole or ()).decode("utf-8-sig", "replace")
        payload = loads_leniently(text.strip())
        if payload is None:
            return None
        if (tail and tail.event == "error") or (isinstance(payload, dict) and reports_error(payload)):
            if self._whole is not None and not 200 <= self._status < 300:
                return self._read_status(payload, text)
            return self._wire.parse_error(
                0, self._events.whole_texts(payload), self._events.excerpt(text, 500)
            )
        return None

    def _receive_whole(self, body: bytes) -> None:
        text = body.removeprefix(BOM_UTF8).decode("utf-8", "replace").strip()
        try:
            payload, is_odd = loads(text), False
        except (ValueError, RecursionError):
            payload, is_odd = loads_leniently(text), True
        if not 200 <= self._status < 300:
            if payload is None and begins_stream(body.lstrip(BLANK)):
                payload = parse_embedded(text)  # an error in the form of the events that were asked for
            raise self._read_status(self._events.whole_texts(payload), text)
        if isinstance(payload, list) and payload and isinstance(payload[0], dict) and payload[0].get("error"):
            payload = payload[0]
        if not isinstance(payload, self._wire.payloads):
            return self._receive_series(payload, text)
        answered: Any = payload
        if is_odd and has_halves(text):
            self.answer.half = {}
        if isinstance(payload, dict) and reports_error(payload):
            error = self._wire.parse_error(
                0, self._events.whole_texts(payload), self._events.excerpt(text, 500)
            )
            raise self._outside_a_stream(error)
        try:
            self._wire.parse_reply(answered, self.answer)
        except MISFITS:
            raise ResponseParseError(
                f"The answer has another shape than documented: {self._events.excerpt(text)!r}"
            ) from None
        except EngineError as error:
            raise self._outside_a_stream(error) from None
        if self.answer.half is not None:
            self.answer.join_halves((0, 0, 0))
        self.answer.finish()
        if self.answer.finish_reason is None:
            raise ResponseParseError(f"The answer says nothing: {self._events.excerpt(text)!r}")
        return None

    def _receive_series(self, payload: Any, text: str) -> None:
        """Read events that came as an array, or a line each, in place of an event stream."""
        if payload is None and begins_with_object(text):
            try:
                self._events.parse_odd(Event("message", text))
            except ResponseParseError:
                if not self._stream:
                    raise
                raise StreamInterruptedError("The answer ended inside an event.") from None
        elif isinstance(payload, list) and payload and all(isinstance(item, dict) for item in payload):
            self._events.take("message", payload, text)
        elif self._stream and text[:1] in ("{", "[") and text[-1:] not in ("}", "]"):
            raise StreamInterruptedError("The answer ended before its end.")
        else:
            raise ResponseParseError(f"The answer is no JSON object: {self._events.excerpt(text)!r}")
        if not self.answer.is_complete:
            raise StreamInterruptedError("The answer ended before the provider's finish reason.")
        self._conclude()

    def _outside_a_stream(self, error: EngineError) -> EngineError:
        """Return an error of no class as the server's, where no stream was asked for."""
        if type(error) is not StreamError or self._stream:
            return error
        return ProviderServerError(error.message, type=error.type, param=error.param)

    def _read_status(self, payload: Any, text: str) -> EngineError:
        excerpt = self._events.excerpt(text, 500)
        return status_error(self._wire, self._status, self._headers, payload, excerpt, self._wall())


def _too_large(what: str, option: str, size: int) -> ResponseParseError:
    error = ResponseParseError(
        f"The {what} is larger than {size:,} bytes. Where that is right, raise {option} in the entry."
    )
    error.retryable = False  # it would be as large again
    return error
