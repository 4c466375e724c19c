"""The example site on real servers: who may enter, its page, its stream, its errors, a reader who leaves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Self

import pytest
import requests

from bupple_engine.protocol.sse import Decoder
from tests.example_site import COMMANDS, serve
from tests.gates import Gated, cut
from tests.provider import Answer, Provider
from tests.servers import ROOT, SECONDS
from tests.wires import KEY, ChatCompletions

pytestmark = pytest.mark.servers

WIRE = ChatCompletions()


class Site:
    """A browser's view of the site: its session holds the cookies."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.session.close()

    def page(self) -> str:
        """Return the page, signed in as a visitor."""
        response = self.session.get(self.url, timeout=SECONDS)
        if response.url.endswith("/login/?next=/"):
            response = self.session.post(
                self.url + "visit/", {"csrfmiddlewaretoken": token(response)}, timeout=SECONDS
            )
        assert response.status_code == 200
        assert response.url == self.url
        assert response.headers["Content-Security-Policy"].startswith("default-src 'self';")
        return response.text

    def ask(self, text: str, **headers: str) -> requests.Response:
        """Post a question to where the page posts it."""
        (target,) = re.findall(r'id="composer" action="([^"]+)"', self.page())
        return self.session.post(
            self.url.rstrip("/") + target,
            json={"messages": [{"role": "user", "content": text}]},
            headers={"X-CSRFToken": self.session.cookies["csrftoken"], **headers},
            stream=True,
            timeout=SECONDS,
        )


def token(response: requests.Response) -> str:
    """Return the CSRF token of a page's first form."""
    return str(re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', response.text)[0])


@pytest.fixture
def provider(shared_provider: Provider) -> Provider:
    """Give the provider, which has been asked nothing yet."""
    shared_provider.forget()
    return shared_provider


@pytest.fixture(params=COMMANDS, scope="module")
def site(
    request: pytest.FixtureRequest, shared_provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Give the site on a server of each world."""
    with serve(request.param, shared_provider.url, tmp_path_factory.mktemp("site")) as url, Site(url) as site:
        yield site


def arriving(response: requests.Response) -> Iterator[bytes]:
    """Yield what arrives when it arrives; iter_content would hold it back on a body without chunks."""
    while data := response.raw.read1(65_536):
        yield data


def test_words_arrive_as_they_are_said(site: Site, provider: Provider) -> None:
    gated = Gated("one ", "two ", "three")
    provider.answer(gated.answer)
    response = site.ask("Count")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/event-stream")
    decoder, chunks = Decoder(), []
    for data in arriving(response):
        for event in decoder.feed(data):
            chunks.append(json.loads(event.data))
            if chunks[-1]["content"]:
                gated.next()
    assert "".join(chunk["content"] for chunk in chunks) == "one two three"
    assert [chunk["done"] for chunk in chunks] == [False, False, False, True]
    assert chunks[-1]["metadata"] == {}


def test_an_error_before_the_first_word_has_a_status(site: Site, provider: Provider) -> None:
    status, headers, body = WIRE.error("auth")
    provider.answer(Answer(status=status, headers=headers, body=body))
    response = site.ask("Hello")
    assert response.status_code == 502
    error = response.json()["error"]
    assert error["type"] == "AuthenticationError"
    assert error["id"]  # the log has more under it
    assert KEY not in response.text


def test_a_cut_stream_is_an_error_event(site: Site, provider: Provider) -> None:
    provider.answer(cut("one ", "two"))
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
    provider.wait_closed(provider.requests[-1].connection, SECONDS)


def test_a_post_without_the_token_is_refused(site: Site) -> None:
    response = site.ask("Hello", **{"X-CSRFToken": "x" * 32})
    assert response.status_code == 403
    assert response.json()["error"]["type"] == "PermissionDenied"


def test_nobody_is_answered_without_an_account(site: Site) -> None:
    with Site(site.url) as stranger:
        assert stranger.session.get(site.url, timeout=SECONDS).url == site.url + "login/?next=/"
        response = stranger.session.post(site.url + "ai/chat/stream/", json={"messages": []}, timeout=SECONDS)
        assert response.status_code == 403
        assert response.json()["error"]["type"] == "NotAuthenticated"
        assert stranger.session.post(site.url + "visit/", timeout=SECONDS).status_code == 403


def test_a_visitor_leaves(site: Site) -> None:
    with Site(site.url) as visitor:
        visitor.page()
        form = {"csrfmiddlewaretoken": visitor.session.cookies["csrftoken"]}
        response = visitor.session.post(site.url + "logout/", form, timeout=SECONDS)
        assert response.url == site.url + "login/"
        assert visitor.session.get(site.url, timeout=SECONDS).url == site.url + "login/?next=/"


def test_in_production_there_are_no_visitors() -> None:
    """DEBUG is read by the settings, so that they have a process of their own."""
    script = """
import django
django.setup()
from django.test import Client
page = Client().get("/login/")
print(page.status_code, b"visitor" in page.content, b"password" in page.content)
print(Client().post("/visit/").status_code)
"""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "DJANGO_DEBUG": "0",
        "DJANGO_SECRET_KEY": "x" * 50,
        "DJANGO_ALLOWED_HOSTS": "testserver",
        "DATABASE_URL": "sqlite://:memory:",
    }
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert run.stdout.split("\n")[:2] == ["200 False True", "404"], run.stderr
