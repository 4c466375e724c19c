"""Play a Chat Completions provider on loopback, as fast as the client reads or at a fixed pace.

The first segment of a path names the replay: `/bulk/v1/chat/completions`. `GET /connections` tells
how many connections carried a call so far, how many of those are open, and when the last one closed.
"""

import asyncio
import json
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle

WORDS = (
    " the", " stream", " of", " words", ",", " and", " a", " model", " writes", " it", ".", "\n\n",
    " naïve", " “quoted”", " token", " by", " token", " with", " \"code\"", " 東京", " until", " done",
)  # fmt: skip


@dataclass(frozen=True)
class Replay:
    """Say how an answer is sent: its chunks, the events in a write, the pace, the delay of its end."""

    chunks: int
    bursts: tuple[int, ...] = (1,)
    rate: float = 0  # events a second; 0: as fast as the client reads
    late: float = 0  # seconds between `[DONE]` and the end of the body

    @cached_property
    def text(self) -> str:
        """Return the answer's whole text."""
        return "".join(WORDS[number % len(WORDS)] for number in range(self.chunks))

    @cached_property
    def writes(self) -> tuple[bytes, ...]:
        """Return the answer's body as it is written, without the last, empty, HTTP chunk."""
        return tuple(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in self._pieces())

    @cached_property
    def reply(self) -> bytes:
        """Return the whole answer to a call that does not stream."""
        message: dict[str, object] = {
            "role": "assistant",
            "content": self.text,
            "refusal": None,
            "annotations": [],
            "tool_calls": None,
        }
        choice = {"index": 0, "finish_reason": "stop", "logprobs": None, "message": message}
        body = encode({**envelope("chat.completion"), "choices": [choice], "usage": usage(self.chunks)})
        return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (HEADERS, len(body), body)

    def _pieces(self) -> Iterator[bytes]:
        events = list(stream_events(self.chunks))
        sizes, start, cut = cycle(self.bursts), 0, b""
        while start < len(events):
            size = next(sizes)
            piece = cut + b"".join(events[start : start + size])
            start += size
            # A proxy cuts where its buffer ends: a long burst may end inside an event.
            cut = piece[-100:] if size > 8 and start < len(events) else b""
            yield piece[: len(piece) - len(cut)]


class StampedReplay(Replay):
    """An answer without end, whose words are the times at which they are written: `@0000012345.678901`."""

    @property
    def writes(self) -> Iterator[bytes]:  # type: ignore[override]
        """Yield the body as it is written."""
        head, tail = [*stream_events(1)][1].split(WORDS[0].encode(), 1)
        framed = b"%x\r\n%s @%%017.6f%s\r\n" % (len(head) + 19 + len(tail), head, tail)
        while True:
            yield framed % time.monotonic()


REPLAYS = {
    "bulk": Replay(2000, bursts=(1, 4, 2, 8, 3, 12, 5)),
    "single": Replay(2000),
    "live": Replay(300, rate=1000),
    "short": Replay(20, bursts=(4,)),
    "late": Replay(20, bursts=(4,), late=0.001),
    "stalled": Replay(20, bursts=(4,), rate=1),
    "paced": Replay(80, rate=10),
    "paced-quick": Replay(40, rate=10),
    "stamped": StampedReplay(0, rate=20),
}

HEADERS = (
    b"Content-Type: application/json\r\n"
    b"x-request-id: req_9f1d7c52b6f84d0f9a3a\r\nopenai-processing-ms: 231\r\nopenai-version: 2020-10-01\r\n"
    b"x-ratelimit-limit-requests: 10000\r\nx-ratelimit-remaining-requests: 9999\r\n"
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    + HEADERS.replace(b"application/json", b"text/event-stream; charset=utf-8")
    + b"Transfer-Encoding: chunked\r\n\r\n"
)
END = b"0\r\n\r\n"


def encode(value: object) -> bytes:
    """Encode JSON as the provider does, compact and in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def envelope(kind: str) -> dict[str, object]:
    """Return the fields with which every object of an answer begins."""
    return {
        "id": "chatcmpl-CkL9xVt0bT3mZ2aQwYpR8sNf",
        "object": kind,
        "created": 1795363200,
        "model": "gpt-6-luna",
        "service_tier": "default",
        "system_fingerprint": "fp_5d58a6052a",
    }


def usage(tokens: int) -> dict[str, object]:
    """Return the usage of an answer of so many tokens."""
    return {
        "prompt_tokens": 9,
        "completion_tokens": tokens,
        "total_tokens": tokens + 9,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def stream_events(chunks: int) -> Iterator[bytes]:
    """Yield the events of a streamed answer: the role, the words, the end, the usage, `[DONE]`."""

    def event(delta: dict[str, str], finish: str | None, padding: int) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        tail = {"choices": [choice], "usage": None, "obfuscation": "xK3f9QzL7mWb2T"[:padding]}
        return b"data: %s\n\n" % encode({**envelope("chat.completion.chunk"), **tail})

    yield event({"role": "assistant", "content": ""}, None, 8)
    for number in range(chunks):
        yield event({"content": WORDS[number % len(WORDS)]}, None, 1 + number % 13)
    yield event({}, "stop", 4)
    last = {**envelope("chat.completion.chunk"), "choices": [], "usage": usage(chunks)}
    yield b"data: %s\n\n" % encode({**last, "obfuscation": ""})
    yield b"data: [DONE]\n\n"


class Connection(asyncio.Protocol):
    """Answer the requests of one connection, one after the other."""

    used = 0
    open = 0
    closed_at = 0.0

    def __init__(self) -> None:
        self.buffer = b""
        self.pending: Iterator[bytes] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.paused = False
        self.counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        # asyncio does so for sockets whose protocol is named, which those of create_server are not.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self.pending = None
        Connection.open -= self.counted
        if self.counted:
            Connection.closed_at = time.monotonic()
        if self.timer:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, blank, rest = self.buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if len(rest) >= length:
            self.buffer = rest[length:]
            self.answer(head.split(b" ", 2)[1].decode(), rest[:length])

    def answer(self, path: str, body: bytes) -> None:
        """Answer one request."""
        if path == "/connections":
            counts = encode(
                {"used": Connection.used, "open": Connection.open, "closed_at": Connection.closed_at}
            )
            head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(counts)
            self.transport.write(head + counts)
            self.transport.close()
            return
        if not self.counted:
            self.counted = True
            self.number = Connection.used
            Connection.used += 1
            Connection.open += 1
        replay = REPLAYS[path.split("/")[1]]
        if b'"stream":true' not in body.replace(b" ", b""):
            self.transport.write(replay.reply)
            return
        self.transport.write(STREAM_HEAD)
        self.pending = iter(replay.writes)
        self.replay = replay
        self.loop = asyncio.get_running_loop()
        self.due = 0.0
        self.proceed()

    def proceed(self) -> None:
        """Write until the client falls behind, the pace says wait or the answer is complete."""
        while self.pending is not None and (self.replay.rate or not self.paused):
            if self.transport.is_closing():
                return
            piece = next(self.pending, None)
            if piece is None:
                self.pending = None
                if not self.replay.late:
                    self.transport.write(END)
                else:
                    self.timer = self.loop.call_later(self.replay.late, self.transport.write, END)
                return
            self.transport.write(piece)
            if self.replay.rate:
                self.due = self.due + 1 / self.replay.rate if self.due else self.first_due()
                self.timer = self.loop.call_at(self.due, self.proceed)
                return

    def first_due(self) -> float:
        """Return when the second piece is due: connections are spread evenly, however they opened."""
        period = 1 / self.replay.rate
        return (self.loop.time() // period + 1 + self.number * 0.6180339887 % 1) * period

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.pending is not None and not self.replay.rate:
            self.proceed()


async def serve() -> None:
    """Print the port, and serve until standard input ends: with whoever started this process."""
    for replay in REPLAYS.values():
        _ = replay.writes, replay.reply
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    loop = asyncio.get_running_loop()
    await loop.create_server(Connection, sock=listener, backlog=2048)
    print(listener.getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
