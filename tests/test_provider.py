"""The scripted provider itself, seen by http.client and bare sockets."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from contextlib import closing
from typing import Literal
from urllib.parse import urlsplit

import pytest

from tests.provider import Answer, Provider, Request, split

TEXT = "Grüße, 日本 🦜 \u2028 \x85".encode()
SILENCE = 3600.0


def connect(provider: Provider) -> closing[http.client.HTTPConnection]:
    address = urlsplit(provider.url)
    return closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=20))


def post(client: http.client.HTTPConnection, path: str = "/v1/x?y=1", body: object = None) -> bytes:
    client.request("POST", path, json.dumps(body), {"X-Key": "k"})
    return client.getresponse().read()


def read_to_end(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_body_arrives_whole(
    provider: Provider, framing: Literal["chunked", "length", "close"], size: int
) -> None:
    provider.answer(Answer(201, {"X-Id": "a"}, pieces=split(TEXT, size), framing=framing))
    with connect(provider) as client:
        client.request("POST", "/")
        response = client.getresponse()
        assert (response.status, response.getheader("x-id"), response.read()) == (201, "a", TEXT)


def test_each_piece_is_one_chunk_and_callables_add_theirs(provider: Provider) -> None:
    called: list[float] = []
    provider.answer(
        Answer(
            headers={"connection": "close"},
            pieces=[b"ab", lambda: called.append(time.monotonic()), 0.01, lambda: b"c", b""],
        )
    )
    with connect(provider) as client:
        client.request("POST", "/")
        assert client.sock is not None
        assert read_to_end(client.sock).partition(b"\r\n\r\n")[2] == b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    assert time.monotonic() - called[0] >= 0.01


def test_large_body_reaches_a_slow_reader(provider: Provider) -> None:
    body = bytes(range(256)) * 40_000
    provider.answer(Answer(body=body, framing="length"))
    with connect(provider) as client:
        client.request("POST", "/")
        response = client.getresponse()
        assert b"".join(iter(lambda: response.read(100_000), b"")) == body


def test_connection_is_reused_and_requests_are_recorded(provider: Provider) -> None:
    provider.answer(Answer(body=b"1"), Answer(body=b"2", framing="length"), repeat=True)
    with connect(provider) as client:
        assert [post(client, body={"n": n}) for n in range(3)] == [b"1", b"2", b"2"]
        client.request("PUT", "/chunked", iter([b"[1,", b"2]"]), encode_chunked=True)
        assert client.getresponse().read() == b"2"
    first, _, _, last = provider.requests
    assert (first.method, first.path, first.json, first.headers["x-key"]) == (
        "POST",
        "/v1/x?y=1",
        {"n": 0},
        "k",
    )
    assert (last.method, last.json) == ("PUT", [1, 2])
    assert provider.connections == 1
    assert {request.connection for request in provider.requests} == {1}


def test_repeated_answer_gives_way_to_the_next(provider: Provider) -> None:
    provider.answer(Answer(body=b"1"), repeat=True)
    with connect(provider) as client:
        assert [post(client), post(client)] == [b"1", b"1"]
        provider.answer(Answer(body=b"2"))
        assert post(client) == b"2"
        client.request("POST", "/v1/x")
        response = client.getresponse()
        assert response.status == 500
        assert response.read() == b"Nothing is scripted for POST /v1/x"


def test_callable_answers_by_what_was_asked(provider: Provider) -> None:
    provider.answer(lambda request: Answer(body=request.path.encode()), repeat=True)
    with connect(provider) as client:
        assert [post(client, "/a"), post(client, "/b")] == [b"/a", b"/b"]


def test_failure_in_a_callable_reaches_the_test() -> None:
    def refuse(request: Request) -> Answer:
        raise AssertionError(request.path)

    provider = Provider().__enter__()
    provider.answer(refuse)
    with connect(provider) as client, pytest.raises(http.client.RemoteDisconnected):
        post(client)
    with pytest.raises(AssertionError, match="/v1/x"):
        provider.__exit__()


def test_request_that_is_no_http_reaches_the_test() -> None:
    provider = Provider().__enter__()
    address = urlsplit(provider.url)
    with socket.create_connection((address.hostname, address.port)) as client:
        client.sendall(b"nonsense\r\n\r\n")
        assert read_to_end(client) == b""
    with pytest.raises(ValueError, match="unpack"):
        provider.__exit__()


def test_event_holds_the_body_back(provider: Provider) -> None:
    go = threading.Event()
    provider.answer(Answer(pieces=[b"a", go, b"b"]))
    with connect(provider) as client:
        client.request("POST", "/")
        response = client.getresponse()
        assert response.read(1) == b"a"
        go.set()
        assert response.read() == b"b"


def test_hold_keeps_even_the_status_line_back(provider: Provider) -> None:
    provider.answer(Answer(hold=threading.Event()))
    with connect(provider) as client:
        client.request("POST", "/")
        assert client.sock is not None
        client.sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.getresponse()
    provider.wait_closed()


@pytest.mark.parametrize("wait", [SILENCE, threading.Event()], ids=["sleep", "event"])
def test_client_that_leaves_during_silence_is_noticed_at_once(
    provider: Provider, wait: float | threading.Event
) -> None:
    provider.answer(Answer(pieces=[b"a", wait, b"b"]))
    with connect(provider) as client:
        client.request("POST", "/")
        response = client.getresponse()
        assert response.read(1) == b"a"
        with pytest.raises(TimeoutError, match="Connection 1 is open"):
            provider.wait_closed(timeout=0.01)
        left = time.monotonic()
        response.close()
    assert 0 <= provider.wait_closed(1) - left < 5


def test_client_that_leaves_while_the_server_writes_is_noticed(provider: Provider) -> None:
    provider.answer(Answer(body=bytes(50_000_000)))
    with connect(provider) as client:
        client.request("POST", "/")
        response = client.getresponse()
        response.read(1)
        response.close()
    provider.wait_closed()


def test_idle_connection_that_the_client_closes_is_noticed(provider: Provider) -> None:
    provider.answer(Answer(), Answer())
    with connect(provider) as first:
        post(first)
        with connect(provider) as second:
            post(second)
        provider.wait_closed(2)
        with pytest.raises(TimeoutError):
            provider.wait_closed(1, timeout=0.01)


def test_closing_ends_every_wait_and_thread() -> None:
    asked = threading.Event()

    def hold(request: Request) -> Answer:
        asked.set()
        return Answer(hold=threading.Event())

    before = threading.active_count()
    provider = Provider().__enter__()
    provider.answer(Answer(pieces=[SILENCE]), hold, Answer())
    with connect(provider) as silent, connect(provider) as held, connect(provider) as idle:
        silent.request("POST", "/")
        response = silent.getresponse()
        held.request("POST", "/")
        assert asked.wait(20)
        post(idle)
        start = time.monotonic()
        provider.__exit__()
        assert time.monotonic() - start < 10
        assert threading.active_count() == before
        with pytest.raises(http.client.IncompleteRead):
            response.read()


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_cut_body_is_seen_as_cut(provider: Provider, framing: Literal["chunked", "length"]) -> None:
    provider.answer(Answer(body=b"abc", framing=framing, cut=True))
    with connect(provider) as client, pytest.raises(http.client.IncompleteRead) as caught:
        post(client)
    assert caught.value.partial == b"abc"


def test_client_that_keeps_a_cut_connection_is_seen(provider: Provider) -> None:
    provider.answer(Answer(body=b"abc", framing="close", cut=True))
    with connect(provider) as client:
        client.request("POST", "/")
        assert client.sock is not None
        kept = client.sock.dup()
        assert client.getresponse().read() == b"abc"
    with kept, pytest.raises(TimeoutError):
        provider.wait_closed(timeout=0.01)
    provider.wait_closed()


def test_reset_is_a_reset(provider: Provider) -> None:
    provider.answer(Answer(pieces=[b"abc"], reset=True), Answer(disconnect="request", reset=True))
    with connect(provider) as client, pytest.raises(ConnectionResetError):
        post(client)
    with connect(provider) as client, pytest.raises(ConnectionResetError):
        post(client)
    assert len(provider.requests) == 2


@pytest.mark.parametrize(("disconnect", "recorded"), [("accept", 0), ("request", 1)])
def test_disconnect(provider: Provider, disconnect: Literal["accept", "request"], recorded: int) -> None:
    provider.answer(Answer(disconnect=disconnect), Answer(body=b"after"))
    with connect(provider) as client:
        with pytest.raises((http.client.RemoteDisconnected, BrokenPipeError)):
            post(client)
        client.close()
        assert post(client) == b"after"
    assert len(provider.requests) == recorded + 1
    assert provider.connections == 2


def test_proxy_tunnels_a_connect(provider: Provider) -> None:
    provider.answer(Answer(pieces=[b"a", SILENCE]))
    target = urlsplit(provider.url)
    with Provider(proxy=True) as proxy:
        with connect(proxy) as client:
            client.set_tunnel(target.hostname or "", target.port, {"Proxy-Authorization": "Basic eA=="})
            client.request("POST", "/inside")
            response = client.getresponse()
            assert response.read(1) == b"a"
            response.close()
        provider.wait_closed()  # through the tunnel
        proxy.wait_closed()
    (asked,) = proxy.requests
    assert (asked.method, asked.path) == ("CONNECT", target.netloc)
    assert asked.headers["proxy-authorization"] == "Basic eA=="
    assert provider.requests[0].path == "/inside"
    assert "proxy-authorization" not in provider.requests[0].headers


def test_proxy_forwards_an_absolute_request(provider: Provider) -> None:
    provider.answer(Answer(pieces=split(TEXT, 3)))
    with Provider(proxy=True) as proxy, connect(proxy) as client:
        client.request(
            "POST", f"{provider.url}/a?b=c", b"[1]", {"Proxy-Authorization": "Basic eA==", "X-Key": "k"}
        )
        assert client.getresponse().read() == TEXT
        (asked,) = proxy.requests
    (request,) = provider.requests
    assert asked.path == f"{provider.url}/a?b=c"
    assert asked.headers["proxy-authorization"] == "Basic eA=="
    assert (request.path, request.json, request.headers["x-key"]) == ("/a?b=c", [1], "k")
    assert "proxy-authorization" not in request.headers


def test_queued_answer_of_a_proxy_wins_over_the_tunnel() -> None:
    with Provider(proxy=True) as proxy, connect(proxy) as client:
        proxy.answer(Answer(407))
        client.set_tunnel("provider.invalid", 443)
        with pytest.raises(OSError, match="407"):
            client.request("POST", "/")


def test_proxy_that_cannot_reach_its_target_says_so() -> None:
    with Provider() as gone:
        pass
    with Provider(proxy=True) as proxy, connect(proxy) as client:
        client.request("POST", f"{gone.url}/")
        assert client.getresponse().status == 502
