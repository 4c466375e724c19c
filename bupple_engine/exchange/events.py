"""What the events of a stream say, in every form in which providers have sent one. No I/O."""

from __future__ import annotations

import json
import re
from typing import Any

from bupple_engine.exceptions import ResponseParseError
from bupple_engine.protocol.answer import Answer, repair
from bupple_engine.protocol.json import has_halves, load_first, loads
from bupple_engine.protocol.reports import reports_error, says_something
from bupple_engine.protocol.scrubbing import Secrets, scrub
from bupple_engine.protocol.sse import Event
from bupple_engine.wires.parser import Parser

# What keeps a connection alive though it is framed as data: a comment, or a word for it.
_KEEP_ALIVE = re.compile(
    r"(?i):.*|\W*(\w+ )?(keep[-_ ]?alive|ping|pong|heart[-_ ]?beat|processing|waiting)\W*", re.DOTALL
)
_DATA = re.compile(r"\s*(?:data:\s*)*")

# What a wire raises where an answer's values are of other types than it takes for granted.
MISFITS = (AttributeError, TypeError, KeyError, IndexError, ValueError, RecursionError)


class Events:
    """Write the events of one answer down, as its wire understands them."""

    def __init__(self, wire: Parser, answer: Answer, secrets: Secrets) -> None:
        self._wire = wire
        self._answer = answer
        self._secrets = secrets

    def parse(self, event: Event) -> None:
        """Write one event down; raise the error that it reports."""
        answer, text = self._answer, event.data
        try:
            payload = loads(text)
        except (ValueError, RecursionError):
            if text == "[DONE]" and event.event == "message" and self._wire.parse_end(text, answer):
                return None  # as most streams end
            return self.parse_odd(event)
        name = event.event
        if (
            not isinstance(payload, dict)
            or payload.get("error")
            or name == "error"
            or answer.half is not None
        ):
            return self.take(name, payload, text)
        try:
            self._wire.parse_event(name, payload, answer)
        except MISFITS:
            raise self._misfit(text) from None
        return None

    def parse_odd(self, event: Event) -> None:
        """Read the data of an event that is no JSON to a strict reader.

        It may be several values, where a line end between two events was left out, the mark of the end, or a
        comment; and JSON with half a character, a number that is none, or a raw control character in it.
        """
        text = event.data.rstrip()
        if _KEEP_ALIVE.fullmatch(event.event):
            return
        at = 0
        while not self._answer.ended:
            at = _DATA.match(text, at).end()  # type: ignore[union-attr] # it matches the empty string
            if at >= len(text):
                return
            try:
                payload, end = load_first(text, at)
            except (ValueError, RecursionError):
                line = text[at:].partition("\n")[0]
                if not self._is_idle(line):
                    if event.event == "error":
                        raise self._wire.parse_error(0, None, self.excerpt(text, 500)) from None
                    raise ResponseParseError(
                        f"An event of the stream is no JSON: {self.excerpt(text[at:])!r}"
                    ) from None
                at += len(line)
                continue
            value, at = text[at:end], end
            if self._answer.half is None and has_halves(value):
                self._answer.half = {}
            self.take(event.event if end == len(text) else "message", payload, value)

    def take(self, name: str, payload: Any, text: str) -> None:
        """Write one event's value down, whatever it is."""
        if payload is None or (isinstance(payload, list) and not any(payload)):
            return  # it keeps the connection alive
        if isinstance(payload, list) and all(isinstance(item, dict) for item in payload):
            for item in payload:
                self.take(name, item, text)
            return
        if not isinstance(payload, dict):
            if _KEEP_ALIVE.fullmatch(name) or (isinstance(payload, str) and self._is_idle(payload)):
                return
            raise ResponseParseError(f"An event of the stream is no JSON object: {self.excerpt(text)!r}")
        if name == "error" or says_something(payload.get("error")):
            raise self._wire.parse_error(0, self.whole_texts(payload), self.excerpt(text, 500))
        since = self._answer.counts()
        try:
            self._wire.parse_event(name, payload, self._answer)
        except MISFITS:
            raise self._misfit(text) from None
        if self._answer.half is not None:
            self._answer.join_halves(since)

    def _is_idle(self, text: str) -> bool:
        """Return whether a text in place of an event marks the end, or keeps the connection alive."""
        idle = not text.strip() or _KEEP_ALIVE.fullmatch(text[:100]) is not None
        return idle or self._wire.parse_end(text, self._answer)

    def _misfit(self, text: str) -> ResponseParseError:
        return ResponseParseError(
            f"An event of the stream has another shape than documented: {self.excerpt(text)!r}"
        )

    def parse_stray(self, lines: list[bytes]) -> None:
        """Read what some providers drop into a stream as bare JSON: an error, or the answer."""
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
        self.take("message", payload, text)

    def whole_texts(self, payload: Any) -> Any:
        return payload if self._answer.half is None else repair(payload)

    def excerpt(self, text: str, size: int = 100) -> str:
        """Return the beginning of what came; a secret is masked before it could be cut in two."""
        return scrub(text, self._secrets)[:size]
