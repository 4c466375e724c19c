"""Server-sent events: own cases for each rule of the standard, cut anywhere; and back again."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

from bupple_engine.protocol import sse
from bupple_engine.protocol.sse import Decoder, Event, encode, encode_comment
from tests.provider import split
from tests.pure import pieces


def event(data: str, event: str = "message", id: str = "", retry: int | None = None) -> Event:
    """Write an event that is expected."""
    return Event(event, data, id, retry)


# What each rule says: bytes → events.
CASES: dict[str, tuple[bytes, list[Event]]] = {
    "nothing": (b"", []),
    "LF": (b"data: a\n\ndata: b\n\n", [event("a"), event("b")]),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [event("a"), event("b")]),
    "CR": (b"data: a\r\rdata: b\r\r", [event("a"), event("b")]),
    "line ends of all kinds": (
        b"data: a\rdata: b\ndata: c\r\n\rdata: d\n\r\n",
        [event("a\nb\nc"), event("d")],
    ),
    "LF, then CR": (b"data: a\n\rdata: b\n\r", [event("a"), event("b")]),
    "CRLF is one line end": (b"data: a\r\ndata: b\r\n\r\n", [event("a\nb")]),
    "many blank lines": (b"\n\n\r\n\rdata: a\n\n\n\n\r\rdata: b\n\n", [event("a"), event("b")]),
    "no other line ends": (
        "data: a\u2028b\x85c\x0bd\x0ce\u2029f\x1cg\n\n".encode(),
        [event("a\u2028b\x85c\x0bd\x0ce\u2029f\x1cg")],
    ),
    "a bare 0x85": (b"data: a\x85b\n\n", [event("a\ufffdb")]),
    "BOM": (b"\xef\xbb\xbfdata: a\n\n", [event("a")]),
    "BOM once": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [event("b")]),
    "BOM at the beginning alone": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [event("a")]),
    "BOM inside data": ("data: \ufeffa\n\n".encode(), [event("\ufeffa")]),
    "half a BOM": (b"\xef\xbbdata: a\n\ndata: b\n\n", [event("b")]),
    "BOM alone": (b"\xef\xbb\xbf", []),
    "one space is stripped": (b"data:a\n\ndata:  a\n\ndata:\ta\n\n", [event("a"), event(" a"), event("\ta")]),
    "a space before the colon": (b"data : a\n\ndata: b\n\n", [event("b")]),
    "a colon in data": (b"data: a:b: c\n\n", [event("a:b: c")]),
    "no colon": (b"data\n\ndata\ndata\n\n", [event(""), event("\n")]),
    "empty data": (b"data:\n\ndata: \n\n", [event(""), event("")]),
    "several lines": (b"data: a\ndata:\ndata: b\n\n", [event("a\n\nb")]),
    "lines of one shape": (b"data: a\ndata:  b\ndata: \n\n", [event("a\n b\n")]),
    "a name and lines of one shape": (b"event: x\ndata: a\ndata: b\n\n", [event("a\nb", "x")]),
    "a line without its space": (b"event: x\ndata: a\ndata:b\ndata: c\n\n", [event("a\nb\nc", "x")]),
    "a comment among lines": (b"data: a\n: \ndata: x\ndata: b\n:\n\n", [event("a\nx\nb")]),
    "no data": (b"event: x\nid: 7\n\ndata: a\n\n", [event("a", id="7")]),
    "comments": (b": a\ndata: a\n:\n: data: b\n\n:c\n\n", [event("a")]),
    "a name": (b"event: x\ndata: a\n\ndata: b\n\n", [event("a", "x"), event("b")]),
    "the last name": (b"event: x\nevent: y\ndata: a\n\n", [event("a", "y")]),
    "a name without letters": (b"event: \ndata: a\n\n", [event("a")]),
    "an empty name": (b"event: x\nevent:\ndata: a\n\n", [event("a")]),
    "a name of its own": (b"data: a\nevent: Gr\xc3\xbc\xc3\x9fe\n\n", [event("a", "Grüße")]),
    "an id stays": (b"id: 1\ndata: a\n\ndata: b\n\n", [event("a", id="1"), event("b", id="1")]),
    "an empty id": (b"id: 1\ndata: a\n\nid\ndata: b\n\n", [event("a", id="1"), event("b")]),
    "NUL in an id": (b"id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n", [event("a", id="1"), event("b", id="1")]),
    "NUL elsewhere": (b"data: a\x00b\nevent: \x00\n\n", [event("a\x00b", "\x00")]),
    "retry": (b"retry: 1500\ndata: a\n\ndata: b\n\n", [event("a", retry=1500), event("b")]),
    "the last retry": (b"retry: 1\nretry: 2\ndata: a\n\n", [event("a", retry=2)]),
    "retry that is no number": (
        b"retry: 1.5\nretry: -1\nretry: 1e3\nretry:\nretry: \xd9\xa1\nretry: 0x1\nretry:  1\ndata: a\n\n",
        [event("a")],
    ),
    "retry of too many digits": (b"retry: " + b"1" * 5000 + b"\ndata: a\n\n", [event("a")]),
    "unknown fields": (b"foo: bar\nDATA: x\ndatas: x\ndata: a\nEvent: x\n\n", [event("a")]),
    "unfinished": (b"data: a\n\ndata: b\n", [event("a")]),
    "unfinished line": (b"data: a\n\ndata: b", [event("a")]),
    "unfinished id": (b"data: a\n\nid: 7", [event("a")]),
    "characters": ("data: Grüße 🦜𝕏\n\n".encode(), [event("Grüße 🦜𝕏")]),
    "no UTF-8": (b"data: \xff\xc3\n\ndata: \xf0\x9f\xa6\n\n", [event("\ufffd\ufffd"), event("\ufffd")]),
    "Latin-1": (b"data: Gr\xfc\xdfe\n\n", [event("Gr\ufffd\ufffde")]),
    "a surrogate": (b"data: \xed\xa0\xbd\n\n", [event("\ufffd\ufffd\ufffd")]),
}


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7])
@pytest.mark.parametrize(("raw", "expected"), CASES.values(), ids=CASES)
def test_the_standard(raw: bytes, expected: list[Event], size: int) -> None:
    decoder = Decoder()
    assert [found for piece in pieces(raw, size) for found in decoder.feed(piece)] == expected


@pytest.mark.parametrize(("raw", "expected"), CASES.values(), ids=CASES)
def test_an_event_is_given_as_soon_as_its_blank_line_ends(raw: bytes, expected: list[Event]) -> None:
    """Byte by byte, with empty pieces between; nothing waits for the byte after."""
    decoder, found, given_at = Decoder(), [], []
    for end in range(1, len(raw) + 1):
        new = decoder.feed(raw[end - 1 : end])
        assert decoder.feed(b"") == []
        found += new
        given_at += [end] * len(new)
        whole = Decoder().feed(raw[:end])
        assert found == whole
    assert found == expected


@pytest.mark.parametrize("raw", [raw for raw, _ in CASES.values()], ids=CASES)
def test_two_cuts_anywhere(raw: bytes) -> None:
    expected = Decoder().feed(raw)
    for first in range(min(len(raw), 40)):
        for second in range(first, min(len(raw), 40)):
            decoder = Decoder()
            found = decoder.feed(raw[:first]) + decoder.feed(raw[first:second]) + decoder.feed(raw[second:])
            assert found == expected


def test_the_last_id_and_the_time_are_known() -> None:
    decoder = Decoder()
    assert (decoder.last_event_id, decoder.reconnection_time) == ("", None)
    decoder.feed(b"id: a\nretry: 10\n\nretry: x\n\nid: b\nretry: 7")
    assert (decoder.last_event_id, decoder.reconnection_time) == ("a", 10)
    assert Event("message", "a") == event("a")


@pytest.mark.parametrize(
    ("raw", "tail"),
    [
        (b"", None),
        (b"data: a\n\n", None),
        (b"data: a\n\n: b", None),
        (b"data: a\n\ndata: b", event("b")),
        (b"data: a\n\ndata: b\nevent: x\n", event("b", "x")),
        (b"\xef\xbb", None),
    ],
)
def test_what_is_left_over_may_be_looked_at(raw: bytes, tail: Event | None) -> None:
    for size in (0, 1):
        decoder = Decoder()
        for piece in pieces(raw, size):
            decoder.feed(piece)
        assert decoder.tail() == tail


def test_what_is_no_field_is_kept_aside_up_to_a_limit() -> None:
    decoder = Decoder()
    decoder.feed(b'data: a\n{\n  "error": 1\n}\n\n: b\n\nfoo: bar\n\n')
    assert decoder.stray == [b"{", b'  "error": 1', b"}", b"foo: bar"]
    decoder.feed(b"x\n" * 5000 + b"\n")
    assert len(decoder.stray) == 1000


# Back again

LINE_ENDS = ["\n", "\r", "\r\n"]


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize(
    ("data", "fields"),
    [
        ("Hi", {}),
        ("", {}),
        (" Hi ", {"event": "x"}),
        ("Grüße 🦜\u2028\x85\ufeff\x00", {"event": "delta", "id": "7", "retry": 1500}),
        ("a\nb\n\nc\n", {"id": ""}),
        ("data: a\n\ndata: b", {}),
        ('{"a": ":"}', {"event": " x", "id": " 7 "}),
    ],
)
def test_what_is_encoded_is_decoded(data: str, fields: dict[str, Any], size: int) -> None:
    for end in LINE_ENDS:
        raw = encode(data.replace("\n", end), **fields)
        decoder = Decoder()
        found = [each for piece in pieces(raw * 2, size) for each in decoder.feed(piece)]
        assert found == [event(data, **fields)] * 2


def test_an_event_in_bytes() -> None:
    assert encode("a\nb", event="x", id="7", retry=10) == b"event: x\nid: 7\nretry: 10\ndata: a\ndata: b\n\n"
    assert encode("\ud83d") == b"data: ?\n\n"
    assert encode_comment() == b": \n"
    assert encode_comment("Grüße") == ": Grüße\n".encode()


@pytest.mark.parametrize("end", LINE_ENDS)
def test_a_field_is_one_line(end: str) -> None:
    """What stands in a field cannot write another."""
    for raw in (
        encode("a", event=f"x{end}data: b"),
        encode("a", id=f"7{end}{end}data: b"),
        encode_comment(f"a{end}data: b{end}{end}") + b"data: a\n\n",
    ):
        assert [found.data for found in Decoder().feed(raw)] == ["a"]


# Large events


def calls_made(raw: bytes, size: int) -> int:
    """Count what the decoder calls while it reads, methods of bytes included; no clock."""
    decoder, fed, calls = Decoder(), split(raw, size), 0

    def count(frame: FrameType, kind: str, _: Any) -> None:
        nonlocal calls
        calls += frame.f_code.co_filename == sse.__file__ and kind in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for piece in fed:
            decoder.feed(piece)
    finally:
        sys.setprofile(before)
    return calls


LINES = [b"data: " + b"x" * 1000, b"data: x\n", b"x", b": x\n", b"\n", b"\r\n", b"data: x\n\n"]


@pytest.mark.parametrize("line", LINES)
def test_the_work_grows_with_the_bytes(line: bytes) -> None:
    for size in (1, 64):
        once, twice = (calls_made(line * count + b"\n\n", size) for count in (20, 40))
        assert 0 < twice <= 2.2 * once


def test_a_piece_of_a_large_event_is_touched_once() -> None:
    """The pieces of an unfinished event are kept as they came: nothing is copied again and again."""
    decoder = Decoder()
    decoder.feed(b"data: ")
    came = [b"x" * 1000 for _ in range(50)]
    for piece in came:
        assert decoder.feed(piece) == []
    assert all(kept is piece for kept, piece in zip(decoder._pieces[-50:], came, strict=True))
    (found,) = decoder.feed(b"\n\n")
    assert found.data == "x" * 50_000


def test_eight_megabytes_in_small_pieces() -> None:
    """This would not end today, did the decoder begin anew at each piece."""
    raw = b"data: " + b"x" * (8 << 20) + b"\n\n"
    decoder = Decoder()
    found = [each for piece in split(raw, 64) for each in decoder.feed(piece)]
    assert [len(each.data) for each in found] == [8 << 20]
