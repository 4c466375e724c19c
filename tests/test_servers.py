"""The streams of a site behind real servers: what they write, when, and what is left afterwards."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from shutil import which
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.provider import Answer, Provider, Request
from tests.servers import ASGI, GUNICORN, KINDS, SECONDS, WSGI, Kind, Reader, Server
from tests.wires import EVENTS, RETRY_AFTER, ChatCompletions
from tests.worlds import until

pytestmark = pytest.mark.servers

Launch = Callable[[Kind], Server]

WIRE = ChatCompletions()
PATHS = ["/async/", "/sync/", "/atomic/", "/ai/chat/stream/"]
POOL = re.compile(
    "ThreadPoolExecutor-0_"
)  # the first of the process: gunicorn's own, or asgiref's one thread
LONG = 600.0  # seconds; what has such a clock does not come from the clock

# What every server sends for the answer "one two".
WORDS = [
    b'id: 1\ndata: {"role":"assistant","content":"one ","done":false}\n\n',
    b'id: 2\ndata: {"role":"assistant","content":"two","done":false}\n\n',
]
LAST = (
    b'id: 3\ndata: {"role":"assistant","content":"","done":true,"model":"gpt-6-luna","usage":{'
    b'"prompt_tokens":12,"completion_tokens":7,"total_tokens":19,"cache_read":4,"reasoning":3},'
    b'"finish_reason":"stop","metadata":{}}\n\n'
)
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "Content-Encoding": "identity",
    "X-Accel-Buffering": "no",
}


def pieces(*texts: str) -> list[bytes]:
    """Cut the provider's stream so that each text is the end of a piece; what follows it is the last."""
    events = [event + b"\n\n" for event in WIRE.stream(texts).split(b"\n\n")[:-1]]
    return [events[0] + events[1], *events[2 : 1 + len(texts)], b"".join(events[1 + len(texts) :])]


ONE, TWO, REST = pieces("one ", "two")


class Chat:
    """The provider of all servers: who asks it something is answered as it was scripted for these words."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.answers: dict[str, Answer] = {}
        self.asked: dict[str, Request] = {}
        self.numbers = count()
        self.silence = threading.Event()  # never set: ends when the client leaves
        provider.answer(self._answer, repeat=True)

    def _answer(self, request: Request) -> Answer:
        words = WIRE.prompt(request)[-1][1]
        self.asked[words] = request
        return self.answers[words]

    def script(self, *pieces: Any, **answer: Any) -> str:
        """Say what is answered; return the words to ask with."""
        words = f"question {next(self.numbers)}"
        self.answers[words] = Answer(pieces=pieces, **{"headers": EVENTS, **answer})
        return words

    def wait_asked(self, *words: str) -> None:
        """Wait until all of these have arrived."""
        until(lambda: all(each in self.asked for each in words), SECONDS)

    def wait_closed(self, words: str) -> float:
        """Wait until the connection of a question is closed; return when it was."""
        return self.provider.wait_closed(self.asked[words].connection, SECONDS)


@pytest.fixture(scope="module")
def chat() -> Iterator[Chat]:
    """Give the provider of all servers."""
    with Provider() as provider:
        yield Chat(provider)


@pytest.fixture(scope="module")
def launch(chat: Chat, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """Give a function that makes servers, which end with the module."""
    with ExitStack() as ended:

        def launch(kind: Kind) -> Server:
            if kind.missing:
                pytest.skip(kind.missing)
            server = Server(kind, Path(tmp_path_factory.mktemp("site")), f"{chat.provider.url}/v1")
            ended.callback(server.stop)
            return server

        yield launch


@pytest.fixture(scope="module", params=KINDS)
def kept(request: pytest.FixtureRequest, launch: Launch) -> Iterator[Server]:
    """Give each server in turn, running or not."""
    server = launch(KINDS[request.param])
    yield server
    server.stop()


@pytest.fixture
def server(kept: Server) -> Iterator[Server]:
    """Give each server in turn, with long clocks."""
    if not kept.is_running:
        kept.start()
    kept.state(GATE_SECONDS=LONG, HEARTBEAT_SECONDS=LONG)
    before = len(kept.written())
    yield kept
    print(kept.written()[before:])  # for who reads why a test failed


def read(server: Server, path: str, words: str, headers: Any = None, **query: str) -> Reader:
    """Ask a view of the site something."""
    if path.startswith("/ai/"):
        body = {"messages": [{"role": "user", "content": words}]}
        return Reader(server, f"{path}?{urlencode(query)}", headers, body)
    return Reader(server, f"{path}?{urlencode({'say': words, **query})}", headers)


def told(event: bytes) -> Any:
    """Return the error that an event tells."""
    assert event.startswith(b"event: error\n"), event
    return json.loads(event.partition(b"data: ")[2])["error"]


def test_word_by_word(server: Server, chat: Chat) -> None:
    """No word waits for the next: the provider sends it only when the one before has been read."""
    for path in PATHS:
        heard = [threading.Event(), threading.Event()]
        words = chat.script(ONE, heard[0], TWO, heard[1], REST)
        with read(server, path, words, headers={"Accept": "text/event-stream"}).open() as reader:
            assert reader.status == 200
            assert {name: reader.headers[name] for name in HEADERS} == HEADERS
            assert reader.headers["Content-Length"] is None
            for word, event in zip(WORDS, heard, strict=True):
                assert reader.event() == word
                event.set()
            assert reader.event() == LAST
            assert reader.event() == b""


def test_a_failure_before_the_words_has_a_status(server: Server, chat: Chat) -> None:
    for path in PATHS:
        status, headers, body = WIRE.error("auth")
        words = chat.script(body, status=status, headers=headers)
        with read(server, path, words, headers={"Accept": "text/event-stream"}).open() as reader:
            assert (reader.status, reader.headers["x-should-retry"]) == (502, "false")
            assert reader.json()["error"]["type"] == "AuthenticationError"
        status, headers, body = WIRE.error("rate_limit")
        words = chat.script(body, status=status, headers=headers)
        with read(server, path, words).open() as reader:
            assert (reader.status, reader.headers["Retry-After"]) == (429, str(RETRY_AFTER))
            assert reader.json()["error"]["type"] == "RateLimitError"


def test_a_cut_stream_is_told(server: Server, chat: Chat) -> None:
    """However the provider ends: as if all were said, by a reset, in the midst of its framing."""
    ends: list[dict[str, Any]] = [{}, {"reset": True}, {"cut": True}]
    for end in ends:
        heard = threading.Event()
        words = chat.script(ONE, heard, **end)
        with read(server, PATHS[0], words).open() as reader:
            assert reader.event() == WORDS[0]
            heard.set()
            assert told(reader.event())["code"] == 502
            assert reader.event() == b""


def test_an_error_in_the_stream_is_told(server: Server, chat: Chat) -> None:
    heard = threading.Event()
    words = chat.script(ONE, heard, WIRE.stream_error([], "rate_limit").split(b"\n\n")[-2] + b"\n\n")
    with read(server, PATHS[1], words).open() as reader:
        assert reader.event() == WORDS[0]
        heard.set()
        assert told(reader.event())["code"] == 429


def test_heartbeats_in_silence(server: Server, chat: Chat) -> None:
    server.state(GATE_SECONDS=0.02, HEARTBEAT_SECONDS=0.02)
    for path in PATHS:
        fail = threading.Event()
        status, headers, body = WIRE.error("rate_limit")
        words = chat.script(body, status=status, headers=headers, hold=fail)
        with read(server, path, words).open() as reader:
            assert reader.status == 200
            for _ in range(3):
                reader.heartbeat()
            fail.set()
            assert told(reader.event())["retry_after"] == RETRY_AFTER
            assert reader.event() == b""


def test_nothing_is_left_of_readers_that_leave(server: Server, chat: Chat) -> None:
    """The provider is silent meanwhile, after the first words or before them."""
    # WSGI has no way to know before it writes: at a heartbeat, the second of which fails.
    beat = LONG if server.kind.is_async else 0.5
    server.state(HEARTBEAT_SECONDS=beat)
    took = leave(server, chat)
    before = server.state()  # with what a process makes once
    took += leave(server, chat)
    deadline = time.monotonic() + SECONDS
    while more := left_open(server.state(), before):
        assert time.monotonic() < deadline, more
        time.sleep(0.01)
    print("Seconds until the provider knew:", *(f"{seconds:.3f}" for seconds in took))
    assert max(took) < 2 * beat + SECONDS / 2


def leave(server: Server, chat: Chat) -> list[float]:
    """Open a stream of each view and leave it; return how many seconds later its provider's was closed."""
    took = []
    for hold in [None, chat.silence] if server.kind.is_async else [None]:
        words = [chat.script(ONE, chat.silence, hold=hold or 0.0) for _ in PATHS]
        readers = [read(server, path, each) for path, each in zip(PATHS, words, strict=True)]
        chat.wait_asked(*words)
        for reader in readers:
            assert hold or reader.open().event() == WORDS[0]
        left = time.monotonic()
        for reader in readers:
            reader.leave()
        took += [chat.wait_closed(each) - left for each in words]
    return took


def left_open(state: Any, before: Any) -> Any:
    """Return what is open that was not before; but a server's own pool grows where two requests overlap."""
    more: Any = {key: state[key] - before[key] for key in ("tasks", "descriptors", "database", "streams")}
    threads, earlier = (
        [name for name in each["threads"] if not POOL.match(name)] for each in (state, before)
    )
    if len(threads) > len(earlier):
        more["threads"] = threads, earlier
    return {key: value for key, value in more.items() if not isinstance(value, int) or value > 0}


def test_a_response_that_middleware_drops(server: Server, chat: Chat) -> None:
    """Nobody will read it, and nobody closes it."""
    for path in PATHS:
        words = chat.script(ONE, chat.silence)
        with read(server, path, words, fail="1").open() as reader:
            assert reader.status == 400
        chat.wait_closed(words)


def test_a_body_without_a_length(server: Server, chat: Chat) -> None:
    """As of node's write(), or of Spring's: read up to its end, and no further than is allowed."""
    words = chat.script(ONE, TWO, REST)
    body = json.dumps({"messages": [{"role": "user", "content": words}]}).encode()
    status, answer = post_in_pieces(server, [body[:20], body[20:]])
    assert (status, answer.count(b"data: ")) == (200, 3)
    status, answer = post_in_pieces(server, [b"[" * 65_536] * 160)
    assert status == 413
    assert json.loads(answer)["error"]["type"] == "BodyTooLarge"


def post_in_pieces(server: Server, pieces: list[bytes]) -> tuple[int, bytes]:
    """Send a body by the chunked coding; return the status and the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    headers = {"Content-Type": "application/json"}
    with closing(connection):
        with suppress(ConnectionError):  # the server has said all that it has to say
            connection.request("POST", "/ai/chat/stream/", iter(pieces), headers, encode_chunked=True)
        with connection.getresponse() as response:
            return response.status, response.read()


@pytest.mark.skipif(
    "HTTP2" not in subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout
    if which("curl")
    else True,
    reason="there is no curl here that speaks HTTP/2",
)
@pytest.mark.parametrize("name", ["hypercorn", "granian"])
def test_a_body_without_a_length_over_http_2(launch: Launch, chat: Chat, name: str, tmp_path: Path) -> None:
    server = launch(KINDS[name])
    server.start()
    words = chat.script(ONE, TWO, REST)
    url = f"http://127.0.0.1:{server.port}/ai/chat/stream/"
    command = ["curl", "-sN", "--http2-prior-knowledge", "-X", "POST", "-T", "-", "-w", "%{http_version}"]
    body = json.dumps({"messages": [{"role": "user", "content": words}]}).encode()
    done = subprocess.run(
        [*command, "-H", "Content-Type: application/json", url], input=body, capture_output=True, timeout=60
    )
    assert done.stdout == b"".join([*WORDS, LAST, b"2"]), done
    server.stop()


def test_a_reader_that_reads_nothing_frees_its_thread(launch: Launch, chat: Chat) -> None:
    """A write to it would hold the server's thread for as long as it likes."""
    command = f"{GUNICORN} -k gthread --threads 2 tests.site.impatient:application"
    server = launch(Kind("wsgi", "gunicorn", command))
    server.start()
    large = ONE.replace(b"one ", b"x" * 100_000)
    with ExitStack() as left:
        for _ in range(2):  # as many as there are threads
            words = chat.script(ONE, *[large] * 200, chat.silence)
            left.enter_context(read(server, "/sync/", words).open())
        assert until(lambda: server.state()["streams"] == 0 or None, SECONDS)
        chat.wait_closed(words)


# How an open stream ends with its server. daphne cancels every request before it asks anyone else, the
# runservers just end: the reader sees no done=True, and where the framing can tell, that it was cut.
CUTS = ("daphne", "runserver-asgi", "runserver-wsgi")
MORE_KINDS = {
    "gthread": Kind("wsgi", "gunicorn", f"{GUNICORN} -c tests/site/gunicorn_preload.py -k gthread {WSGI}"),
    "asgi": Kind("asgi", "gunicorn", f"{GUNICORN} --preload -k asgi {ASGI}"),
}


def test_a_server_that_is_told_to_end(server: Server, chat: Chat) -> None:
    """It ends its streams, so that their readers know, and so itself."""
    ends_well(server, chat)


@pytest.mark.parametrize("name", MORE_KINDS)
def test_gunicorn_with_its_application_preloaded(launch: Launch, chat: Chat, name: str) -> None:
    server = launch(MORE_KINDS[name])
    server.start()
    server.state(GATE_SECONDS=LONG, HEARTBEAT_SECONDS=LONG)
    ends_well(server, chat)


def ends_well(server: Server, chat: Chat) -> None:
    words = chat.script(ONE, chat.silence)
    with read(server, PATHS[0], words).open() as reader:
        assert reader.event() == WORDS[0]
        server.terminate()
        end = end_of(reader)
        if server.kind.name in CUTS:
            assert end is None
        else:
            assert told(end or b"")["type"] == "ShuttingDownError"
            assert reader.event() == b""
    server.wait_ended()
    chat.wait_closed(words)


def end_of(reader: Reader) -> bytes | None:
    """Return the next event; None where the connection ends instead, whether or not its framing tells."""
    try:
        return reader.event() or None
    except (OSError, http.client.HTTPException):
        return None


def test_fifty_streams_hold_no_database_connection(server: Server, chat: Chat) -> None:
    """Nor a transaction, wherever the view was; the session was written behind each of them."""
    before = server.state()
    with ExitStack() as left:
        readers = []
        for number in range(50):
            path = PATHS[number % len(PATHS)]
            readers.append(left.enter_context(read(server, path, chat.script(ONE, chat.silence))))
        for reader in readers:
            assert reader.open().event() == WORDS[0]
            assert "sessionid" in reader.headers["Set-Cookie"]
        state = server.state()
        assert state["streams"] == 50
        assert state["database"] == before["database"]


def test_no_database_connection_at_the_gate(server: Server, chat: Chat) -> None:
    """A transaction's is kept, and can't but be: mark a view that streams with non_atomic_requests."""
    before, go = server.state(), threading.Event()
    with ExitStack() as left:
        paths = [path for path in PATHS if path != "/atomic/"]
        words = [chat.script(ONE, TWO, REST, hold=go) for _ in paths]
        readers = [
            left.enter_context(read(server, path, each)) for path, each in zip(paths, words, strict=True)
        ]
        chat.wait_asked(*words)
        assert server.state()["database"] == before["database"]
        go.set()
        for reader in readers:
            assert reader.open().event() == WORDS[0]


@pytest.mark.skipif(find_spec("aiohttp") is None, reason="without aiohttp each stream has a thread")
def test_two_hundred_wait_without_a_thread_each(launch: Launch, chat: Chat) -> None:
    server = launch(KINDS["uvicorn"])
    server.start()
    server.state(GATE_SECONDS=LONG, HEARTBEAT_SECONDS=LONG)
    go = threading.Event()
    with ExitStack() as left:
        words = [chat.script(ONE, TWO, REST, hold=go) for _ in range(200)]
        paths = ["/async/", "/ai/chat/stream/"] * 100
        readers = [
            left.enter_context(read(server, path, each)) for path, each in zip(paths, words, strict=True)
        ]
        chat.wait_asked(*words)
        state = until(lambda: state if len((state := server.state())["threads"]) < 10 else None, SECONDS)
        assert state["streams"] == 200
        go.set()
        for reader in readers:
            assert [reader.open().event(), reader.event(), reader.event()] == [*WORDS, LAST]
