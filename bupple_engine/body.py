"""The body of one answer, cut anywhere: an event stream or JSON, an answer or an error. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from . import retries
from .answer import Answer
from .exceptions import (
    EngineError,
    ProviderConnectionError,
    ProviderServerError,
    ResponseParseError,
    StreamError,
    StreamInterruptedError,
)
from .options import Limits
from .request import Request
from .scrubbing import scrub
from .sse import Decoder, Event, EventTooLargeError
from .wire import Wire

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

    def _loads(text: str) -> Any:  # type: ignore[misc] # orjson's takes bytes, too
        # json.loads looks for an encoding and for white space first, which takes half as long again.
        if "\\ud" in text or "\\uD" in text:
            return _loads_leniently(text)
        try:
            value, end = _scan(text, 0)
        except StopIteration:
            return json.loads(text)
        return value if end == len(text) else json.loads(text)


MAX_ERROR_BYTES = 65_536


class Body:
    """Read one answer's body into an Answer, as its wire understands it."""

    def __init__(
        self,
        wire: Wire,
        request: Request,
        answer: Answer,
        status: int,
        headers: Mapping[str, str],
        limits: Limits = Limits(),  # noqa: B008 # a tuple
    ) -> None:
        self.answer = answer
        self.finished = False  # nothing that may follow matters
        self._wire = wire
        self._secrets = request.secrets
        self._stream = request.stream
        self._status = status
        self._headers = headers
        self._limits = limits
        self._decoder = Decoder(limits.event)
        # Set: the body is read whole, as JSON.
        self._whole: list[bytes] | None = None if request.stream and 200 <= status < 300 else []
        self._size = 0
        self._begun = False  # something but white space has come
        self._strays = 0

    @property
    def is_read_whole(self) -> bool:
        """Whether what comes means nothing before its end."""
        return self._whole is not None

    def feed(self, data: bytes) -> None:
        """Take a piece of the body; raise the error that it tells."""
        if self._whole is not None:
            self._collect(data)
        else:
            self._decode(data)

    def _decode(self, data: bytes) -> None:
        if not self._begun:
            # No event stream: an error that came with status 200, a server that cannot stream, a web page.
            begun = data.lstrip(b" \r\n\t\xef\xbb\xbf")
            if begun[:1] in (b"{", b"[", b"<"):
                self._whole = []
                return self._collect(begun)
            self._begun = bool(begun)
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
            raise self._wire.parse_error(0, payload)

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
        elif not self.answer.is_complete:
            tail = self._decoder.tail()
            if len(self._decoder.stray) != self._strays:
                self._parse_stray()
            if tail and self._wire.parse_tail(self.answer):
                self._parse_unfinished(tail)
            if not self.answer.is_complete:
                raise StreamInterruptedError("The stream ended before the provider's finish reason.")
        self.finished = True

    def _parse_unfinished(self, event: Event) -> None:
        try:
            self._parse(event, self.answer, self._wire)
        except ResponseParseError:
            return  # cut inside: the caller hears that the stream was interrupted

    def _receive_whole(self, body: bytes) -> None:
        text = body.decode("utf-8-sig", "replace").strip()
        try:
            payload = _loads_leniently(text)
        except (ValueError, RecursionError):
            payload = None
        if not 200 <= self._status < 300:
            raise self._status_error(payload, text)
        if isinstance(payload, list) and payload and isinstance(payload[0], dict) and payload[0].get("error"):
            payload = payload[0]
        is_expected = isinstance(payload, self._wire.payloads)
        if not is_expected:
            if self._stream and text[:1] in ("{", "[") and text[-1:] not in ("}", "]"):
                raise StreamInterruptedError("The answer ended before its end.")
            raise ResponseParseError(f"The answer is no JSON object: {self._excerpt(text)!r}")
        facts = payload if isinstance(payload, dict) else {}
        if facts.get("error") or facts.get("object") == "error" or facts.get("type") == "error":
            error = self._wire.parse_error(0, payload, self._excerpt(text, 500))
            if type(error) is StreamError and not self._stream:
                error = ProviderServerError(error.message, type=error.type, param=error.param)
            raise error
        try:
            self._wire.parse_reply(payload, self.answer)
        except (AttributeError, TypeError, KeyError, IndexError, ValueError):
            raise ResponseParseError(
                f"The answer has another shape than documented: {self._excerpt(text)!r}"
            ) from None
        if self.answer.finish_reason is None:
            raise ResponseParseError(f"The answer says nothing: {self._excerpt(text)!r}")

    def _excerpt(self, text: str, size: int = 100) -> str:
        """Return the beginning of what came; a secret is masked before it could be cut in two."""
        return scrub(text, self._secrets)[:size]

    def _status_error(self, payload: Any, text: str) -> EngineError:
        if 300 <= self._status < 400:
            error: EngineError = ProviderConnectionError(
                "The provider redirects, which is not followed: set BASE_URL to where the API is.",
                code=self._status,
            )
            error.retryable = False
            return error
        if self._status == 407:
            # A proxy of the environment may quote its credentials, which nobody here knows.
            error = ProviderConnectionError("The proxy wants credentials, or others: check PROXY.", code=407)
            error.retryable = False
            return error
        if payload is None and "<" in text[:200]:
            text = f"The provider answered with status {self._status} and a page of HTML."
        error = self._wire.parse_error(self._status, payload, self._excerpt(text, 500))
        seconds = retries.parse_retry_after(self._headers)
        error.retry_after = error.retry_after if seconds is None else seconds
        error.retryable = retries.is_retryable(error, self._headers.get("x-should-retry"))
        return error


def _too_large(what: str, option: str, size: int) -> ResponseParseError:
    error = ResponseParseError(
        f"The {what} is larger than {size:,} bytes. Where that is right, raise {option} in the entry."
    )
    error.retryable = False  # it would be as large again
    return error
