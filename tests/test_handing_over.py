"""An answer whose reading goes over to the server's own thread, where the server shows its socket."""

from __future__ import annotations

import gc
import gzip
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import RequestFactory

from bupple_engine.calls.streams import Stream
from bupple_engine.exceptions import ProviderTimeoutError
from bupple_engine.http import EventStream, Outcome, shutdown, stream_response
from bupple_engine.http.problems import ShuttingDownError
from bupple_engine.http.wsgi import limit_writes
from bupple_engine.types import Chunk
from tests.provider import Answer, Provider
from tests.wires import EVENTS, ChatCompletions
from tests.worlds import SECONDS, until

WIRE = ChatCompletions()
BEAT = b": keep-alive\n"
EVENT, FURTHER, *REST = [event + b"\n\n" for event in WIRE.stream(["one ", "two"]).split(b"\n\n")[1:-1]]
FIRST, LATER = WIRE.stream(["one ", "two"]).split(b"\n\n")[0] + b"\n\n" + EVENT, b"".join([FURTHER, *REST])


class Site:
    """A view under a server of threads that shows its socket."""

    def __init__(self, settings: Any, provider: Provider) -> None:
        self.settings, self.provider = settings, provider
        self.ended: list[Outcome] = []
        self.reader, self.socket = socket.socketpair()
        self.set()

    def set(self, heartbeat: float = SECONDS, **options: Any) -> None:
        self.settings.BUPPLE_ENGINE = {
            "DRIVERS": {"it": WIRE.settings(self.provider.url, MAX_RETRIES=0, **options)},
            "API": {"GATE_SECONDS": SECONDS, "HEARTBEAT_SECONDS": heartbeat},
        }

    def open(self, *pieces: Any, headers: Any = EVENTS, dialect: Any = None, **answer: Any) -> Any:
        """Return the relay of an answer whose first word has been taken."""
        self.provider.answer(Answer(headers=headers, pieces=pieces, **answer))
        request = RequestFactory().get("/")
        request.META["gunicorn.socket"] = self.socket
        response: Any = stream_response(
            request, messages="Hello!", on_end=self.ended.append, dialect=dialect or EventStream()
        )
        relay = response._iterator
        assert b"one " in next(relay)
        return relay

    def hear(self) -> Outcome:
        """Return the one Outcome that on_end was given."""
        until(lambda: self.ended)
        (outcome,) = self.ended
        return outcome


@pytest.fixture(params=["provider", "tls_provider"])
def site(request: pytest.FixtureRequest, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Give the site, over a provider with TLS and one without."""
    provider = request.getfixturevalue(request.param)
    if request.param == "tls_provider":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", request.getfixturevalue("ca_file"))
    found = Site(settings, provider)
    yield found
    found.reader.close()
    found.socket.close()


def has_pump() -> bool:
    return any(thread.name == "bupple_engine relay" for thread in threading.enumerate())


def told(piece: bytes) -> Any:
    """Return the error that an event tells."""
    assert b"event: error\n" in piece
    return json.loads(piece.rpartition(b"data: ")[2])["error"]


def in_thread(work: Any) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_no_thread_beside_the_servers(site: Site) -> None:
    go = threading.Event()
    relay = site.open(FIRST, go, LATER)
    until(lambda: not has_pump())
    go.set()
    assert b'"done":true' in b"".join(relay)
    outcome = site.hear()
    assert (outcome.state, outcome.text, outcome.finish_reason) == ("complete", "one two", "stop")
    assert outcome.usage
    assert outcome.usage["prompt_tokens"]
    assert relay not in shutdown._open


def test_what_is_compressed_keeps_the_pump(site: Site) -> None:
    """urllib3 takes the coding off, and gives an answer up whose wait has ended."""
    site.set(heartbeat=0.02)
    go, body = threading.Event(), gzip.compress(FIRST)
    relay = site.open(body, go, gzip.compress(LATER), headers={**EVENTS, "content-encoding": "gzip"})
    assert next(relay) == BEAT
    assert has_pump()
    go.set()
    assert b'"done":true' in b"".join(relay)


def test_heartbeats_between_two_words(site: Site) -> None:
    """The read that has come to its limit goes on where it was, also within a word's event."""
    site.set(heartbeat=0.02)
    go, further = threading.Event(), threading.Event()
    relay = site.open(FIRST, go, FURTHER[:40], further, FURTHER[40:], b"".join(REST))
    assert [next(relay), next(relay)] == [BEAT, BEAT]
    go.set()
    assert [next(relay), next(relay)] == [BEAT, BEAT]
    further.set()
    written = b"".join(relay)
    assert b'"content":"two"' in written
    assert b'"done":true' in written
    assert not has_pump()
    assert site.hear().state == "complete"


def test_the_connection_is_kept_behind_heartbeats(site: Site) -> None:
    site.set(heartbeat=0.02)
    for _ in range(2):
        go = threading.Event()
        relay = site.open(FIRST, go, LATER)
        assert next(relay) == BEAT
        go.set()
        assert b'"done":true' in b"".join(relay)
    assert {request.connection for request in site.provider.requests} == {1}


def test_the_clocks_run_on_over_heartbeats(site: Site) -> None:
    site.set(heartbeat=0.02, TIMEOUT={"idle": 0.2})
    relay = site.open(FIRST, threading.Event())
    *beats, last = list(relay)
    assert told(last)["type"] == "ProviderTimeoutError"
    assert 3 <= len(beats) <= 10
    assert set(beats) == {BEAT}
    error = site.hear().error
    assert isinstance(error, ProviderTimeoutError)
    assert error.clock == "idle"
    site.provider.wait_closed(1)


@pytest.mark.parametrize("end", [{}, {"reset": True}, {"cut": True}])
def test_an_answer_that_is_cut_off(site: Site, end: Any) -> None:
    go = threading.Event()
    relay = site.open(FIRST, go, **end)
    until(lambda: not has_pump())
    go.set()
    assert told(b"".join(relay))["type"] == "StreamInterruptedError"
    assert (site.hear().state, site.hear().text) == ("interrupted", "one ")


def test_an_error_in_the_stream(site: Site) -> None:
    go = threading.Event()
    relay = site.open(FIRST, go, FURTHER + WIRE.stream_error([], "rate_limit").split(b"\n\n")[-2] + b"\n\n")
    until(lambda: not has_pump())
    go.set()
    written = b"".join(relay)
    assert b'"content":"two"' in written
    assert told(written)["code"] == 429
    assert (site.hear().state, site.hear().text) == ("failed", "one two")


@pytest.mark.parametrize("waits", [False, True])
def test_a_reader_that_leaves(site: Site, waits: bool) -> None:
    """While the server's thread waits for the provider; and while it writes, or is elsewhere."""
    relay = site.open(FIRST, threading.Event())
    until(lambda: not has_pump())
    rest: list[bytes] = []
    reading = in_thread(lambda: rest.extend(relay)) if waits else None
    until(lambda: relay._held == waits)
    relay.close()
    site.provider.wait_closed(1)
    if reading is not None:
        reading.join(SECONDS)
    assert rest == list(relay) == []
    assert (site.hear().state, site.hear().text, site.hear().error) == ("interrupted", "one ", None)
    relay.close()
    assert len(site.ended) == 1


@pytest.mark.parametrize("waits", [False, True])
def test_a_server_that_ends(site: Site, waits: bool) -> None:
    relay = site.open(FIRST, threading.Event())
    until(lambda: not has_pump())
    rest: list[bytes] = []
    reading = in_thread(lambda: rest.extend(relay)) if waits else None
    until(lambda: relay._held == waits)
    relay.end(ShuttingDownError("The server ends."))
    site.provider.wait_closed(1)
    assert site.hear().state == "interrupted"
    assert isinstance(site.hear().error, ShuttingDownError)
    if reading is not None:
        reading.join(SECONDS)
    assert told(b"".join(rest or relay))["type"] == "ShuttingDownError"
    relay.close()
    assert len(site.ended) == 1


def test_an_answer_that_nobody_closes(site: Site) -> None:
    """Its place among the open ones would never be given back."""
    relay = site.open(FIRST, threading.Event(), LATER)
    until(lambda: not has_pump())
    del relay
    gc.collect()
    outcome = site.hear()
    assert (outcome.state, outcome.text, outcome.error) == ("interrupted", "one ", None)
    site.provider.wait_closed()


def test_a_dialect_that_fails_within_a_batch(site: Site) -> None:
    class Failing(EventStream):
        def encode(self, chunk: Chunk) -> bytes:
            if chunk["done"]:
                raise ValueError("a bug")
            return super().encode(chunk)

    go = threading.Event()
    relay = site.open(FIRST, go, LATER, dialect=Failing())
    until(lambda: not has_pump())
    go.set()
    written = b"".join(relay)
    assert b'"content":"two"' in written
    assert told(written)["code"] == 500
    assert (site.hear().state, site.hear().text) == ("failed", "one two")


def test_what_interrupts_the_servers_thread_is_not_swallowed(site: Site, monkeypatch: Any) -> None:
    relay = site.open(FIRST, threading.Event())
    until(lambda: not has_pump())
    next_of = Stream.take

    def take(stream: Any, seconds: float) -> Any:
        monkeypatch.setattr(Stream, "take", next_of)
        raise SystemExit(1)

    monkeypatch.setattr(Stream, "take", take)
    with pytest.raises(SystemExit):
        next(relay)
    assert site.hear().state == "interrupted"
    site.provider.wait_closed(1)


def test_only_writes_that_end_by_themselves_count_as_limited() -> None:
    class Substitute(socket.socket):
        """As a library has it that replaces Python's sockets, or one with TLS."""

    assert not limit_writes(None)
    for kind, limited in ((socket.socket, True), (Substitute, False)):
        with kind() as connection:
            assert limit_writes(connection) is limited
    assert not limit_writes(connection)  # the reader has gone
