"""The example site on real servers: its page, its stream, its errors, and a reader who leaves."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from bupple_engine.sse import Decoder
from tests.provider import Answer, Provider
from tests.wires import ChatCompletions

ROOT = Path(__file__).parent.parent
SERVERS = {
    "runserver": ["manage.py", "runserver", "--noreload"],
    "uvicorn": ["-m", "uvicorn", "example_project.asgi:application", "--log-level", "warning", "--port"],
}
WIRE = ChatCompletions()


class Site:
    """A browser's view of the site: its session holds the CSRF cookie."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False

    def page(self) -> str:
        """Return the page."""
        response = self.session.get(self.url, timeout=10)
        assert response.status_code == 200
        assert response.headers["Content-Security-Policy"] == "default-src 'self'"
        return response.text

    def ask(self, text: str, **headers: str) -> requests.Response:
        """Post a question to the view that the page names."""
        page = self.page()
        (target,) = re.findall(r'action="([^"]+)"', page)
        (token,) = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        return self.session.post(
            self.url.rstrip("/") + target,
            json={"messages": [{"role": "user", "content": text}]},
            headers={"X-CSRFToken": token, **headers},
            stream=True,
            timeout=10,
        )


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """Give one provider to the servers, which take as long to start as all the tests."""
    with Provider() as provider:
        yield provider


@pytest.fixture(params=SERVERS, scope="module")
def site(
    request: pytest.FixtureRequest, provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Give the site on a server of its own, its driver pointed at the provider."""
    tmp_path = tmp_path_factory.mktemp("site")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BUPPLE_ENGINE")},
        "BUPPLE_ENGINE_DEFAULT": "openai_chat",
        "BUPPLE_ENGINE_OPENAI_CHAT_API_KEY": "sk-test-0123456789abcd",
        "BUPPLE_ENGINE_OPENAI_CHAT_MODEL": "gpt-6-sol",
        "BUPPLE_ENGINE_OPENAI_CHAT_BASE_URL": provider.url + "/v1",
        "DATABASE_URL": f"sqlite:///{tmp_path}/site.sqlite3",
        "PYTHONWARNINGS": "default",
    }
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    log = (tmp_path / "log").open("w")
    command = [sys.executable, *SERVERS[request.param], port]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log) as server:
        try:
            _wait_until_open(int(port), server)
            yield Site(f"http://127.0.0.1:{port}/")
        finally:
            server.terminate()
            server.wait(10)
            log.close()
    output = (tmp_path / "log").read_text()
    assert "Traceback" not in output, output


def _wait_until_open(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert server.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.05)


def arriving(response: requests.Response) -> Iterator[bytes]:
    """Yield what arrives when it arrives; iter_content would hold it back on a body without chunks."""
    while data := response.raw.read1(65_536):
        yield data


def test_words_arrive_as_they_are_said(site: Site, provider: Provider) -> None:
    """Each word is sent only when the one before has reached the reader: a buffer anywhere would deadlock."""
    said = [threading.Event() for _ in range(3)]
    body = WIRE.stream(["one ", "two ", "three"])
    events = body.split(b"\n\n")
    cuts = [next(i for i, event in enumerate(events) if word in event) for word in (b"one", b"two", b"three")]
    pieces = [b"\n\n".join(events[: cuts[0] + 1]) + b"\n\n", said[0]]
    pieces += [b"\n\n".join(events[cuts[0] + 1 : cuts[1] + 1]) + b"\n\n", said[1]]
    pieces += [b"\n\n".join(events[cuts[1] + 1 :])]
    provider.answer(Answer(pieces=pieces))
    response = site.ask("Count")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/event-stream")
    decoder, heard, chunks = Decoder(), 0, []
    for data in arriving(response):
        for event in decoder.feed(data):
            chunks.append(json.loads(event.data))
            if chunks[-1]["content"] and heard < len(said):
                said[heard].set()
                heard += 1
    assert "".join(chunk["content"] for chunk in chunks) == "one two three"
    assert [chunk["done"] for chunk in chunks] == [False, False, False, True]
    assert "metadata" not in chunks[-1]


def test_an_error_before_the_first_word_has_a_status(site: Site, provider: Provider) -> None:
    status, headers, body = WIRE.error("auth")
    provider.answer(Answer(status=status, headers=headers, body=body))
    response = site.ask("Hello")
    assert response.status_code == 502
    assert response.json()["error"]["type"] == "AuthenticationError"
    assert "sk-test" not in response.text


def test_a_cut_stream_is_an_error_event(site: Site, provider: Provider) -> None:
    provider.answer(Answer(body=WIRE.stream_without_end(["one ", "two"])))
    events = Decoder().feed(site.ask("Count").content)
    assert [event.event for event in events] == ["message", "message", "error"]
    assert json.loads(events[-1].data)["error"]["type"] == "StreamInterruptedError"


def test_a_reader_who_leaves_ends_the_call(site: Site, provider: Provider) -> None:
    """Under WSGI a server learns of it by writing: so the provider goes on to say something."""
    more: list[bytes | float] = [b'data: {"choices":[{"index":0,"delta":{"content":"."}}]}\n\n', 0.02] * 200
    provider.answer(Answer(pieces=[WIRE.stream_without_end(["one "]), *more]))
    response = site.ask("Count")
    next(arriving(response))
    response.close()
    left = time.monotonic()
    assert provider.wait_closed() - left < 3


def test_a_post_without_the_token_is_refused(site: Site) -> None:
    site.page()
    assert site.ask("Hello", **{"X-CSRFToken": "x" * 32}).status_code == 403
