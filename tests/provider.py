"""A provider that answers what a test scripts: HTTP/1.1 on real loopback sockets.

    with Provider() as provider:
        provider.answer(Answer(body=b"..."), Answer(status=503))
        ...                                   # a client calls provider.url
        assert provider.requests[0].json == {...}
        provider.wait_closed()

Leaving the block ends every wait, joins every thread and raises what went wrong in one.
"""

from __future__ import annotations

import io
import json
import select
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPMessage, parse_headers, responses
from typing import Any, Literal, Self
from urllib.parse import urlsplit

# An Event cannot be polled together with a socket: it is looked at this often.
EVENT_SECONDS = 0.005
JOIN_SECONDS = 30
NOT_FORWARDED = {
    "connection",
    "content-length",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
}

Piece = bytes | float | threading.Event | Callable[[], object]


def split(body: bytes, size: int) -> list[bytes]:
    """Cut a body into pieces of `size` bytes, the last one perhaps shorter."""
    return [body[start : start + size] for start in range(0, len(body), size)]


def read_request(lines: Any) -> None:
    """Read a request whole from a socket's file: closing a socket with unread bytes resets the connection."""
    lines.readline()
    lines.read(int(parse_headers(lines).get("content-length", "0")))


@dataclass(frozen=True)
class Request:
    """Hold what one request said, and the number of the connection it came on."""

    method: str
    path: str  # as sent: with the query; host:port of a CONNECT; a URL to a proxy
    headers: HTTPMessage
    body: bytes
    connection: int

    @cached_property
    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """Say what to answer, and how the bytes travel.

    `pieces` replaces `body`. Bytes are one write (one chunk in chunked framing), a
    number sleeps, an Event is waited for, a callable is called and sends the bytes it
    returns, if any. Waits end when the client leaves or the provider closes.

    `hold` waits in the same way before the status line. `heads` are written as they are before it, and
    `surplus` behind the answer, pieces as above, unless the next request has come by then: what no client
    has asked for. `cut` closes the connection
    before the body's end (with framing="close" only TLS can tell), `reset` sends a RST
    in place of it: a client's unread bytes may be lost, as they are in life.
    `disconnect` answers nothing; "accept" does so before reading the request, and on
    a connection that is open already works as "request" does. It joins with `reset`.
    A `connection: close` header is kept to.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    pieces: Sequence[Piece] | None = None
    framing: Literal["chunked", "length", "close"] = "chunked"
    cut: bool = False
    reset: bool = False
    disconnect: Literal["accept", "request"] | None = None
    hold: float | threading.Event = 0.0
    heads: bytes = b""
    surplus: Sequence[Piece] = ()


Script = Answer | Callable[[Request], Answer]


class Provider:
    """Serve scripted answers on 127.0.0.1, and record what was asked.

    With `proxy`, a request for which nothing is queued goes to the server it names.
    """

    url: str

    def __init__(self, *, tls: ssl.SSLContext | None = None, proxy: bool = False) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.failures: list[BaseException] = []
        self.tls = tls
        self.proxy = proxy
        self.relayed_at = 0.0  # when a proxy last handed an answer's bytes on (monotonic)
        self._script: deque[tuple[Script, bool]] = deque()
        self._repeated: Script | None = None
        self._changed = threading.Condition()
        self._closed: dict[int, float] = {}
        self._served: list[_Connection] = []
        self._closing = False

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._address = self._listener.getsockname()
        scheme = "https" if self.tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._address[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._closing = True
        # Closing a listener does not wake its accept() everywhere: a connection does.
        with suppress(OSError), socket.create_connection(self._address, JOIN_SECONDS):
            self._thread.join(JOIN_SECONDS)
        self._listener.close()
        for connection in self._served:
            connection.interrupt()
        for connection in self._served:
            connection.thread.join(JOIN_SECONDS)
        threads = [self._thread, *(served.thread for served in self._served)]
        if alive := [thread.name for thread in threads if thread.is_alive()]:
            raise RuntimeError(f"Threads of the provider did not end: {alive}")
        if self.failures:
            raise self.failures[0]

    def answer(self, *script: Script, repeat: bool = False) -> None:
        """Queue answers, or callables that give one; `repeat` the last from then on."""
        with self._changed:
            self._script += [(item, False) for item in script[:-1]]
            self._script.append((script[-1], repeat))

    def forget(self) -> None:
        """Drop what is queued and what was recorded: another test begins."""
        with self._changed:
            self._script.clear()
            self._repeated = None
            self.requests.clear()

    def wait_closed(self, connection_id: int | None = None, timeout: float = 20) -> float:
        """Wait until the client has left a connection; return the moment (monotonic).

        The latest connection unless one is named. Raises TimeoutError.
        """
        with self._changed:
            number = connection_id or self.connections
            if not self._changed.wait_for(lambda: number in self._closed, timeout):
                raise TimeoutError(f"Connection {number} is open after {timeout} s.")
            return self._closed[number]

    def note_closed(self, number: int) -> None:
        """Record that a connection's client has gone."""
        with self._changed:
            self._closed.setdefault(number, time.monotonic())
            self._changed.notify_all()

    def next_script(self, *, at_accept: bool = False) -> Script | None:
        """Take the next item; at accept only one that disconnects there."""
        with self._changed:
            script = self._script[0][0] if self._script else self._repeated
            if at_accept and getattr(script, "disconnect", None) != "accept":
                return None
            if self._script:
                self._repeated = script if self._script.popleft()[1] else None
            return script

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._closing:
                sock.close()
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                try:
                    sock = self.tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                except OSError:  # the client has left already
                    sock.close()
                    continue
            with self._changed:
                self.connections += 1
                self._served.append(_Connection(self, sock, self.connections))
            self._served[-1].thread.start()


class _LeftError(Exception):
    """Say that the client has gone, or that the provider closes."""


class _Connection:
    """Serve one client in one thread, its socket watched during every wait."""

    def __init__(self, provider: Provider, sock: socket.socket, number: int) -> None:
        self.provider = provider
        self.sock = sock
        self.number = number
        self.buffer = bytearray()
        self.thread = threading.Thread(target=self.run, name=f"provider connection {number}", daemon=True)

    def interrupt(self) -> None:
        """End whatever the thread is doing, from another thread."""
        # SSLSocket.shutdown would drop the TLS state under the reader: the base's.
        with suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def run(self) -> None:
        try:
            self.leave(self.serve())
        except _LeftError:
            pass
        # A callable of the test failed, or a request was no HTTP: __exit__ raises it.
        except BaseException as error:
            self.provider.failures.append(error)
        finally:
            self.sock.close()
            self.provider.note_closed(self.number)

    def serve(self) -> Answer:
        """Answer requests; return the answer after which the connection ends."""
        refusal = self.provider.next_script(at_accept=True)
        if isinstance(refusal, Answer):
            return refusal
        if isinstance(self.sock, ssl.SSLSocket):
            try:
                self.sock.do_handshake()
            except OSError as error:
                raise _LeftError from error
        self.sock.setblocking(False)
        while True:
            request = self.read_request()
            self.provider.requests.append(request)
            script = self.provider.next_script()
            if script is None and self.provider.proxy and not request.path.startswith("/"):
                return self.relay(request)
            if script is None:
                message = f"Nothing is scripted for {request.method} {request.path}"
                script = Answer(500, {"content-type": "text/plain"}, message.encode())
            answer = script if isinstance(script, Answer) else script(request)
            if answer.disconnect or not self.write(answer, request):
                return answer

    def leave(self, answer: Answer) -> None:
        """Close our side as the answer says, and wait for the client to close its own.

        So `wait_closed` sees a client that keeps a dead connection.
        """
        if answer.reset:
            linger = struct.pack("ii", 1, 0)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return
        self.sock.setblocking(False)
        if isinstance(self.sock, ssl.SSLSocket) and not (answer.cut or answer.disconnect):
            with suppress(OSError):  # close_notify; the client's own is not awaited
                self.sock.unwrap()
        with suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_WR)
        while True:
            self.ready()
            self.buffer.clear()

    # What moves bytes. Each raises _LeftError as soon as the client is gone.

    def ready(
        self, events: int = select.POLLIN, seconds: float | None = None, other: socket.socket | None = None
    ) -> bool:
        """Wait for the client, take in what it sent; tell whether `other` can be read."""
        poller = select.poll()
        poller.register(self.sock, events)
        if other:
            poller.register(other, select.POLLIN)
        found = dict(poller.poll(None if seconds is None else seconds * 1000))
        if found.get(self.sock.fileno(), 0) & ~select.POLLOUT:
            self.take()
        return other is not None and other.fileno() in found

    def take(self) -> None:
        """Read until nothing is left: TLS may hold bytes that poll() doesn't see."""
        while True:
            try:
                data = self.sock.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            except OSError as error:
                raise _LeftError from error
            if not data:
                raise _LeftError
            self.buffer += data

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self.ready(select.POLLIN | select.POLLOUT)
            except ssl.SSLWantReadError:
                self.ready()
            except OSError as error:
                raise _LeftError from error

    def wait(self, what: float | threading.Event) -> None:
        if isinstance(what, threading.Event):
            while not what.is_set():
                self.ready(seconds=EVENT_SECONDS)
            return
        end = time.monotonic() + what
        while (left := end - time.monotonic()) > 0:
            self.ready(seconds=left)

    def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self.ready()
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def until(self, mark: bytes) -> bytes:
        while (found := self.buffer.find(mark)) < 0:
            self.ready()
        return self.exactly(found + len(mark))[: -len(mark)]

    # What speaks HTTP.

    def read_request(self) -> Request:
        line, _, head = self.until(b"\r\n\r\n").partition(b"\r\n")
        method, path, _ = line.decode("latin-1").split(" ")
        headers = parse_headers(io.BytesIO(head + b"\r\n\r\n"))
        return Request(method, path, headers, self.read_body(headers), self.number)

    def read_body(self, headers: HTTPMessage) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return self.exactly(int(headers.get("content-length", "0")))
        body = b""
        while size := int(self.until(b"\r\n").partition(b";")[0], 16):
            body += self.exactly(size)
            self.until(b"\r\n")
        while self.until(b"\r\n"):  # trailers
            pass
        return body

    def write(self, answer: Answer, request: Request) -> bool:
        """Send an answer; tell whether the connection may serve another request."""
        self.wait(answer.hold)
        pieces = [answer.body] if answer.pieces is None else answer.pieces
        headers = {name.lower(): value for name, value in answer.headers.items()}
        if answer.framing == "close" or request.headers.get("connection", "").lower() == "close":
            headers.setdefault("connection", "close")
        if answer.framing == "chunked":
            headers["transfer-encoding"] = "chunked"
        elif answer.framing == "length":
            size = sum(len(piece) for piece in pieces if isinstance(piece, bytes))
            headers.setdefault("content-length", str(size + answer.cut))
        lines = [f"HTTP/1.1 {answer.status} {responses.get(answer.status, '')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.send(answer.heads + "\r\n".join([*lines, "", ""]).encode("latin-1"))
        chunked = answer.framing == "chunked"
        end, surplus = b"0\r\n\r\n" if chunked else b"", list(answer.surplus)
        if surplus and isinstance(first := surplus[0], bytes):
            end, surplus = end + first, surplus[1:]
        last = pieces[-1] if pieces else None
        if end and not chunked and isinstance(last, bytes):
            pieces, end = [*pieces[:-1], last + end], b""  # in one packet with the answer's end
        self.write_pieces(pieces, chunked=chunked)
        if answer.cut or answer.reset:
            return False
        self.send(end)
        self.write_pieces(surplus, chunked=False, idle=True)
        return headers.get("connection") != "close"

    def write_pieces(self, pieces: Sequence[Piece], *, chunked: bool, idle: bool = False) -> None:
        for piece in pieces:
            if isinstance(piece, threading.Event | float | int):
                self.wait(piece)
                continue
            data = piece() if callable(piece) else piece
            if idle and isinstance(data, bytes):
                self.ready(seconds=0)
                if self.buffer:
                    return
            if isinstance(data, bytes) and data:  # an empty chunk would be the end
                self.send(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)

    def relay(self, request: Request) -> Answer:
        """Be a proxy for what is left of this connection."""
        tunnel = request.method == "CONNECT"
        url = urlsplit(f"//{request.path}" if tunnel else request.path)
        try:
            target = socket.create_connection((url.hostname, url.port or 80), 5)
        except OSError as error:
            self.write(answer := Answer(502, body=str(error).encode()), request)
            return answer
        with target, suppress(OSError):  # the target left
            if tunnel:
                self.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = url._replace(scheme="", netloc="").geturl()
                lines = [f"{request.method} {path} HTTP/1.1", "Connection: close"]
                lines += [f"Content-Length: {len(request.body)}"]
                for name, value in request.headers.items():
                    if name.lower() not in NOT_FORWARDED:
                        lines.append(f"{name}: {value}")
                head = "\r\n".join([*lines, "", ""]).encode("latin-1")
                target.sendall(head + request.body)
            while True:
                target.sendall(self.buffer)
                self.buffer.clear()
                if self.ready(other=target):
                    if not (data := target.recv(65536)):
                        break
                    self.send(data)
                    self.provider.relayed_at = time.monotonic()
        return Answer()
