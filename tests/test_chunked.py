"""The chunked coding, cut anywhere, and what is none."""

from __future__ import annotations

import http.client

import pytest

from bupple_engine.transports.chunked import MAX_LINE, Dechunker
from tests.provider import split

BODY = b"5\r\nhello\r\nA;name=value\r\n0123456789\r\n1\r\n\n\r\n0\r\nTrailer: yes\r\n\r\n"
DATA = b"hello0123456789\n"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_a_body_cut_anywhere_is_the_same_data(size: int) -> None:
    dechunker = Dechunker()
    assert b"".join(dechunker.feed(piece) for piece in split(BODY, size)) == DATA
    assert dechunker.ended


def test_line_ends_may_lack_the_return() -> None:
    dechunker = Dechunker()
    assert dechunker.feed(BODY.replace(b"\r\n", b"\n")) == DATA
    assert dechunker.ended


def test_a_body_is_not_over_before_its_last_chunk() -> None:
    for size in range(len(BODY)):
        dechunker = Dechunker()
        assert DATA.startswith(dechunker.feed(BODY[:size]))
        assert not dechunker.ended


def test_what_follows_the_end_is_left() -> None:
    dechunker = Dechunker()
    assert dechunker.feed(BODY + b"HTTP/1.1 200 OK\r\n") == DATA


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"hello\r\n",
        b"-1\r\n",
        b"+5\r\nhello",
        b"0x5\r\nhello",
        b"5_0\r\n",
        b"5\r\nhello!\r\n",
        b"f" * 16 + b"\r\n",
    ],
)
def test_what_is_no_chunk_is_an_error(body: bytes) -> None:
    with pytest.raises(http.client.HTTPException):
        Dechunker().feed(body)


def test_a_size_without_an_end_is_an_error() -> None:
    with pytest.raises(http.client.LineTooLong):
        Dechunker().feed(b"1" * (MAX_LINE + 1))
