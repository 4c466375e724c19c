"""The chunked transfer coding, taken off a body in bulk.

Source: https://www.rfc-editor.org/rfc/rfc9112#section-7.1
"""

from __future__ import annotations

import http.client
import re

_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}(?=[ \t;]|$)")
_LINE = re.compile(rb"([0-9a-fA-F]{1,15})\r\n")  # as nearly all are: whole, and nothing behind the size
MAX_LINE = 65_536  # as http.client has it
MAX_TRAILERS = 100  # as http.client's headers


class Dechunker:
    """Turn the bytes of a chunked body, cut anywhere, into its data; `ended` once its last chunk has come."""

    def __init__(self) -> None:
        self.ended = False
        self.surplus = b""  # what came behind the end: no part of the body
        self._rest = b""  # the line that is not whole yet
        self._left = 0  # bytes of the present chunk
        self._in_trailer = False
        self._trailers = 0
        self._after_data = False  # a line end closes a chunk's data

    def feed(self, piece: bytes) -> bytes:
        """Return the data in this piece; raises http.client's HTTPException where it is no chunked body."""
        piece, self._rest = self._rest + piece, b""
        data = []
        at = 0
        while at < len(piece) and not self.ended:
            if self._left:
                part = piece[at : at + self._left]
                data.append(part)
                at += len(part)
                self._left -= len(part)
                self._after_data = not self._left
                if self._after_data and piece.startswith(b"\r\n", at):
                    at += 2
                    self._after_data = False
            elif not (self._after_data or self._in_trailer) and (line := _LINE.match(piece, at)):
                at = line.end()
                self._take_size(line[1])
            else:
                end = piece.find(b"\n", at)
                if end < 0:
                    self._rest = piece[at:]
                    if len(self._rest) > MAX_LINE:
                        raise http.client.LineTooLong("chunk size")
                    break
                self._take_line(piece[at:end].rstrip(b"\r"))
                at = end + 1
        if self.ended:
            self.surplus = piece[at:]
        return b"".join(data)

    def _take_line(self, line: bytes) -> None:
        if self._after_data:
            if line:
                raise http.client.HTTPException("a chunk is longer than it says")
            self._after_data = False
        elif self._in_trailer:
            self.ended = not line
            self._trailers += 1
            if self._trailers > MAX_TRAILERS:
                raise http.client.HTTPException("it has trailers without end")
        elif size := _SIZE.match(line):
            self._take_size(size[0])
        else:
            raise http.client.HTTPException("a chunk does not say its size")

    def _take_size(self, size: bytes) -> None:
        self._left = int(size, 16)
        self._in_trailer = not self._left
