"""One event of several megabytes, fed to the decoder in pieces of 16 KB."""

import asyncio
import time

from benchmarks.contenders import Contender, Floor
from benchmarks.process import Numbers, pace

PIECE = 16 * 1024
LINE = b"data: " + b"x" * 73 + b"\n"


def event(megabytes: int, shape: str) -> bytes:
    """Return an event of that size: in one `data` line (ended by LF or CRLF), or in many short ones."""
    size = megabytes * 1_000_000
    if shape == "lines":
        return LINE * (size // len(LINE)) + b"\n"
    end = b"\r\n" if shape == "crlf" else b"\n"
    return b"data: " + b"x" * size + end + end


def decode(contender: Contender, runner: asyncio.Runner, megabytes: int, shape: str) -> Numbers:
    """Decode the event; ms of CPU."""
    body = event(megabytes, shape)
    speed = pace()
    pieces = [body[start : start + PIECE] for start in range(0, len(body), PIECE)]
    if isinstance(contender, Floor):
        start = time.process_time()
        data = _floor(pieces)
    else:
        from bupple_engine.protocol.sse import Decoder

        start = time.process_time()
        decoder = Decoder()
        (found,) = [event for piece in pieces for event in decoder.feed(piece)]
        data = found.data
    cpu = time.process_time() - start
    assert len(data) == len(_floor([body]))
    return {"cpu": cpu * 1e3, "pace": speed}


def _floor(pieces: list[bytes]) -> str:
    waiting: list[bytes] = []
    for piece in pieces:
        waiting.append(piece)
        if b"\n\n" in piece or b"\r\n\r\n" in piece:
            break
    text = b"".join(waiting).decode().replace("\r\n", "\n")
    return "\n".join([line[6:] for line in text.split("\n")[:-2]])
