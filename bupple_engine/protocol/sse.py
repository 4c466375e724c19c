"""Server-sent events, read and written to the letter of the WHATWG standard.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import re
from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"
BLANK = b" \r\n\t" + _BOM  # what may stand before anything else
_new = tuple.__new__
_FIELDS = frozenset({b"data", b"event", b"id", b"retry"})
_LINE = re.compile(rb"(data|event|id|retry)?:")


class Event(NamedTuple):
    """One dispatched event: id is the last event ID at dispatch, retry this block's valid value (ms)."""

    event: str
    data: str
    id: str = ""
    retry: int | None = None


def begins_stream(begun: bytes) -> bool | None:
    """Return by the first bytes of a body whether it is an event stream; None where they are too few."""
    if _LINE.match(begun):
        return True
    return None if any((name + b":").startswith(begun) for name in _FIELDS) else False


MAX_EVENT_BYTES = 16_000_000


class EventTooLargeError(ValueError):
    """An event that has not ended within the decoder's bound."""


class Decoder:
    """Turn the bytes of a stream, cut anywhere, into events, of which none may be longer than max_bytes.

    stray holds the first lines that are no field of the standard: some providers drop an error into the
    stream without framing it. Nothing else of the stream is kept.
    """

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._held = 0  # bytes of the unfinished block
        self.last_event_id = ""
        self.reconnection_time: int | None = None  # milliseconds
        self.stray: list[bytes] = []
        self._pieces: list[bytes] = []  # of the unfinished block: joined when it ends, large ones are linear
        self._newline = b""  # the line end with which the last piece ended: half of a blank line, perhaps
        self._after_cr = False
        self._started = False

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that end in this piece; raise where the one before has grown too large."""
        if self._held > self._max_bytes:
            raise EventTooLargeError
        if not self._started:
            data = self._strip_bom(data)
        if self._after_cr or b"\r" in data:
            data = self._convert_line_ends(data)
        blocks = (self._newline + data).split(b"\n\n")
        rest = blocks.pop()
        if blocks and self._pieces:
            blocks[0] = b"".join((*self._pieces, blocks[0]))
            self._pieces, self._held = [], 0
        self._newline = b"\n" if rest.endswith(b"\n") else b""
        if rest := rest.removesuffix(b"\n"):
            self._pieces.append(rest)
            self._held += len(rest)
        events = []
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block:  # as most are, without a call for each
                text = block[6:].decode("utf-8", "replace")
                events.append(_new(Event, ("message", text, self.last_event_id, None)))
            elif block and (event := self._parse_block(block)):
                events.append(event)
        return events

    def _strip_bom(self, data: bytes) -> bytes:
        """Return what stands behind a byte order mark at the beginning, b"" while it may still become one."""
        data = b"".join((*self._pieces, data))
        self._started = len(data) >= len(_BOM) or not _BOM.startswith(data)
        self._pieces = [] if self._started else [data]
        return data.removeprefix(_BOM) if self._started else b""

    def _convert_line_ends(self, data: bytes) -> bytes:
        """Return the piece with LF for each line end; the CR of one may have ended the piece before."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        self._after_cr = self._after_cr or data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def tail(self) -> Event | None:
        """Return the unfinished last block as an event, which the standard drops; a wire may look at it."""
        block = b"".join(self._pieces)
        return self._parse_block(block) if block else None

    def _parse_block(self, block: bytes) -> Event | None:
        """Return the event of a block: by far the most consist of a name, or none, and data."""
        name, lines = b"", block
        if block.startswith(b"event: "):
            name, _, lines = block[7:].partition(b"\n")
        ends = lines.count(b"\n")
        if not lines.startswith(b"data: ") or (ends and ends != lines.count(b"\ndata: ")):
            return self._parse_lines(block)
        data = lines[6:].replace(b"\ndata: ", b"\n") if ends else lines[6:]
        return self._dispatch(name, data, None)

    def _dispatch(self, name: bytes, data: bytes, retry: int | None) -> Event:
        kind = name.decode("utf-8", "replace") if name else "message"
        # Event(…) without the checks of its __new__, which take as long as all the rest.
        return _new(Event, (kind, data.decode("utf-8", "replace"), self.last_event_id, retry))

    def _parse_lines(self, block: bytes) -> Event | None:
        name, retry = b"", None
        data: list[bytes] = []
        for line in block.split(b"\n"):
            field, colon, value = line.partition(b":")
            if not field:  # a comment, or a blank line that the split left at the head of a block
                continue
            if field not in _FIELDS:
                if len(self.stray) < 1000:
                    self.stray.append(line)
                continue
            if colon and value.startswith(b" "):
                value = value[1:]
            if field == b"data":
                data.append(value)
            elif field == b"event":
                name = value
            elif field == b"id":
                if b"\0" not in value:
                    self.last_event_id = value.decode("utf-8", "replace")
            elif value.isdigit() and len(value) < 4300:
                # bytes.isdigit knows ASCII digits only, as the standard asks; int() refuses 4,300 digits.
                retry = self.reconnection_time = int(value)
        return self._dispatch(name, b"\n".join(data), retry) if data else None


def encode(data: str, *, event: str | None = None, id: str | None = None, retry: int | None = None) -> bytes:
    """Return one event as bytes; a line end inside data of any of the three kinds starts a new data line."""
    lines = [f"event: {_one_line(event)}"] if event else []
    lines += [f"id: {_one_line(id)}"] if id is not None else []
    lines += [f"retry: {retry}"] if retry is not None else []
    lines += [f"data: {line}" for line in data.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    return ("\n".join(lines) + "\n\n").encode("utf-8", "replace")


def encode_comment(text: str = "") -> bytes:
    """Return a comment line, which readers ignore and proxies count as traffic.

    No blank line follows it: many a reader takes that for an event with nothing in it.
    """
    return f": {_one_line(text)}\n".encode("utf-8", "replace")


def _one_line(text: str) -> str:
    """Return what stands in a field, where a line end would begin another."""
    return text.replace("\r", " ").replace("\n", " ")
