"""The body of one answer, cut anywhere: an event stream or JSON, an answer or an error. No I/O."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from bupple_engine.exceptions import (
    EngineError,
    ProviderServerError,
    ResponseParseError,
    StreamError,
    StreamInterruptedError,
)
from bupple_engine.protocol.answer import Answer, repair
from bupple_engine.protocol.json import begins_with_object, has_halves, load_first, loads, loads_leniently
from bupple_engine.protocol.options import DEFAULT_LIMITS, Limits
from bupple_engine.protocol.reports import parse_embedded, reports_error, says_something
from bupple_engine.protocol.request import Request
from bupple_engine.protocol.scrubbing import scrub
from bupple_engine.protocol.sse import BLANK, Decoder, Event, EventTooLargeError, begins_stream
from bupple_engine.wires.base import Wire

from .statuses import status_error

# What keeps a connection alive though it is framed as data: a comment, or a word for it.
_KEEP_ALIVE = re.compile(
    r"(?i):.*|\W*(\w+ )?(keep[-_ ]?alive|ping|pong|heart[-_ ]?beat|processing|waiting)\W*", re.DOTALL
)
_DATA = re.compile(r"\s*(?:data:\s*)*")

MAX_ERROR_BYTES = 65_536

# What a wire raises where an answer's values are of other types than it takes for granted.
_MISFITS = (AttributeError, TypeError, KeyError, IndexError, ValueError, RecursionError)


class Body:
    """Read one answer's body into an Answer, as its wire understands it."""

    def __init__(
        self,
        wire: Wire,
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
        self._secrets = request.secrets
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
        answer, wire = self.answer, self._wire
        try:
            events = self._decoder.feed(data)
        except EventTooLargeError:
            raise _too_large("event of the stream", "MAX_EVENT_BYTES", self._limits.event) from None
        for event in events:
            if answer.ended:
                break
            self._parse(event, answer, wire)
        if len(self._decoder.stray) != self._strays:
            self._parse_stray()
        if events and not self._first:
            self._first = events[0].data
        if answer.ended:
            self._conclude()
        return None

    def _is_whole(self, begun: bytes) -> bool | None:
        """Tell by its first bytes whether an answer is no event stream; None where they are too few.

        Whatever was asked for, it may be an error that came with status 200, the answer of a server that
        cannot stream, a web page, or the events of one that can do nothing else.
        """
        if begun[:1] in (b"{", b"[", b"<"):
            return True
        if self._stream or "event-stream" in self._headers.get("content-type", "").lower():
            return False if begun else None
        is_stream = begins_stream(begun)
        return None if is_stream is None else not is_stream

    def _parse(self, event: Event, answer: Answer, wire: Wire) -> None:
        text = event.data
        try:
            payload = loads(text)
        except (ValueError, RecursionError):
            return self._parse_odd(event)
        name = event.event
        if (
            not isinstance(payload, dict)
            or payload.get("error")
            or name == "error"
            or answer.half is not None
        ):
            return self._take(name, payload, text)
        try:
            wire.parse_event(name, payload, answer)
        except _MISFITS:
            raise self._misfit(text) from None
        return None

    def _parse_odd(self, event: Event) -> None:
        """Read the data of an event that is no JSON to a strict reader.

        It may be several values, where a line end between two events was left out, the mark of the end, or a
        comment; and JSON with half a character, a number that is none, or a raw control character in it.
        """
        text = event.data.rstrip()
        if _KEEP_ALIVE.fullmatch(event.event):
            return
        at = 0
        while not self.answer.ended:
            at = _DATA.match(text, at).end()  # type: ignore[union-attr] # it matches the empty string
            if at >= len(text):
                return
            try:
                payload, end = load_first(text, at)
            except (ValueError, RecursionError):
                line = text[at:].partition("\n")[0]
                if not self._is_idle(line):
                    if event.event == "error":
                        raise self._wire.parse_error(0, None, self._excerpt(text, 500)) from None
                    raise ResponseParseError(
                        f"An event of the stream is no JSON: {self._excerpt(text[at:])!r}"
                    ) from None
                at += len(line)
                continue
            value, at = text[at:end], end
            if self.answer.half is None and has_halves(value):
                self.answer.half = {}
            self._take(event.event if end == len(text) else "message", payload, value)

    def _take(self, name: str, payload: Any, text: str) -> None:
        """Write one event's value down, whatever it is."""
        if payload is None or (isinstance(payload, list) and not any(payload)):
            return  # it keeps the connection alive
        if isinstance(payload, list) and all(isinstance(item, dict) for item in payload):
            for item in payload:
                self._take(name, item, text)
            return
        if not isinstance(payload, dict):
            if _KEEP_ALIVE.fullmatch(name) or (isinstance(payload, str) and self._is_idle(payload)):
                return
            raise ResponseParseError(f"An event of the stream is no JSON object: {self._excerpt(text)!r}")
        if name == "error" or says_something(payload.get("error")):
            raise self._wire.parse_error(0, self._whole_texts(payload), self._excerpt(text, 500))
        since = self.answer.counts()
        try:
            self._wire.parse_event(name, payload, self.answer)
        except _MISFITS:
            raise self._misfit(text) from None
        if self.answer.half is not None:
            self.answer.join_halves(since)

    def _is_idle(self, text: str) -> bool:
        """Tell whether a text in place of an event is the mark of the end, or keeps the connection alive."""
        idle = not text.strip() or _KEEP_ALIVE.fullmatch(text[:100]) is not None
        return idle or self._wire.parse_end(text, self.answer)

    def _misfit(self, text: str) -> ResponseParseError:
        return ResponseParseError(
            f"An event of the stream has another shape than documented: {self._excerpt(text)!r}"
        )

    def _parse_stray(self) -> None:
        """Read what some providers drop into a stream as bare JSON: an error, or the answer."""
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
        if not isinstance(payload, dict) or not payload:
            return
        if lines[begins[0]].startswith(b"error:"):
            payload = payload if payload.get("error") else {"error": payload}
        if reports_error(payload):
            raise self._wire.parse_error(0, payload)
        text = b"\n".join(lines[begins[0] :]).decode("utf-8", "replace")
        lines.clear()
        self._strays = 0
        self._take("message", payload, text)

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
                self._parse(tail, self.answer, self._wire)
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
        return f"; it began with {self._excerpt(self._first)!r}" if is_telling else ""

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
            return self._wire.parse_error(0, self._whole_texts(payload), self._excerpt(text, 500))
        return None

    def _receive_whole(self, body: bytes) -> None:
        text = body.decode("utf-8-sig", "replace").strip()
        try:
            payload, is_odd = loads(text), False
        except (ValueError, RecursionError):
            payload, is_odd = loads_leniently(text), True
        if not 200 <= self._status < 300:
            if payload is None and begins_stream(body.lstrip(BLANK)):
                payload = parse_embedded(text)  # an error in the form of the events that were asked for
            raise self._read_status(self._whole_texts(payload), text)
        if isinstance(payload, list) and payload and isinstance(payload[0], dict) and payload[0].get("error"):
            payload = payload[0]
        if not isinstance(payload, self._wire.payloads):
            return self._receive_series(payload, text)
        answered: Any = payload
        if is_odd and has_halves(text):
            self.answer.half = {}
        if isinstance(payload, dict) and reports_error(payload):
            error = self._wire.parse_error(0, self._whole_texts(payload), self._excerpt(text, 500))
            raise self._outside_a_stream(error)
        try:
            self._wire.parse_reply(answered, self.answer)
        except _MISFITS:
            raise ResponseParseError(
                f"The answer has another shape than documented: {self._excerpt(text)!r}"
            ) from None
        except EngineError as error:
            raise self._outside_a_stream(error) from None
        if self.answer.half is not None:
            self.answer.join_halves((0, 0, 0))
        self.answer.finish()
        if self.answer.finish_reason is None:
            raise ResponseParseError(f"The answer says nothing: {self._excerpt(text)!r}")
        return None

    def _receive_series(self, payload: Any, text: str) -> None:
        """Read events that came as an array, or a line each, in place of an event stream."""
        if payload is None and begins_with_object(text):
            try:
                self._parse_odd(Event("message", text))
            except ResponseParseError:
                if not self._stream:
                    raise
                raise StreamInterruptedError("The answer ended inside an event.") from None
        elif isinstance(payload, list) and payload and all(isinstance(item, dict) for item in payload):
            self._take("message", payload, text)
        elif self._stream and text[:1] in ("{", "[") and text[-1:] not in ("}", "]"):
            raise StreamInterruptedError("The answer ended before its end.")
        else:
            raise ResponseParseError(f"The answer is no JSON object: {self._excerpt(text)!r}")
        if not self.answer.is_complete:
            raise StreamInterruptedError("The answer ended before the provider's finish reason.")
        self._conclude()

    def _outside_a_stream(self, error: EngineError) -> EngineError:
        """Return an error of no class as the server's, where no stream was asked for."""
        if type(error) is not StreamError or self._stream:
            return error
        return ProviderServerError(error.message, type=error.type, param=error.param)

    def _whole_texts(self, payload: Any) -> Any:
        return payload if self.answer.half is None else repair(payload)

    def _excerpt(self, text: str, size: int = 100) -> str:
        """Return the beginning of what came; a secret is masked before it could be cut in two."""
        return scrub(text, self._secrets)[:size]

    def _read_status(self, payload: Any, text: str) -> EngineError:
        excerpt = self._excerpt(text, 500)
        return status_error(self._wire, self._status, self._headers, payload, excerpt, self._wall())


def _too_large(what: str, option: str, size: int) -> ResponseParseError:
    error = ResponseParseError(
        f"The {what} is larger than {size:,} bytes. Where that is right, raise {option} in the entry."
    )
    error.retryable = False  # it would be as large again
    return error
