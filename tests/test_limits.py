"""What the HTTP API holds its clients to: bodies, bounds, rates, and streams at the same time."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.core.cache import cache
from django.core.cache.backends import base, filebased, locmem
from django.core.handlers.asgi import ASGIHandler
from django.test import AsyncClient, Client

from bupple_engine.api import slots, throttles
from bupple_engine.conf import api_settings
from bupple_engine.http import limit_bodies
from bupple_engine.http.problems import ProblemError
from tests.api import BODIES, HELLO, Answered, Caller, Site, open_site
from tests.provider import Answer, Provider
from tests.wires import ChatCompletions
from tests.worlds import SECONDS, until

pytestmark = pytest.mark.skipif(
    not apps.is_installed("rest_framework"), reason="The API is for sites that have rest_framework installed"
)

WIRE = ChatCompletions()


@pytest.fixture(autouse=True)
def site(settings: Any) -> Iterator[Site]:
    """Give a function that sets the API's settings, and see that no stream keeps its place."""
    site = open_site(settings)
    yield site
    until(lambda: not slots._streams and not slots._leases)


@pytest.fixture(params=["wsgi", "asgi"])
def caller(request: pytest.FixtureRequest) -> Caller:
    return Caller(request.param)


@pytest.fixture(params=BODIES)
def path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# Bodies

SIZE = 1_000_000


def _fill(unit: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    return before + unit * ((SIZE - len(before) - len(after)) // len(unit)) + after


def _content(content: bytes) -> bytes:
    return b'{"messages":[{"role":"user","content":' + content + b"}]}"


def _image(content: bytes, metadata: bytes = b"{}") -> bytes:
    return b'{"messages":[{"role":"user","type":"image","content":"%s","metadata":%s}]}' % (content, metadata)


JUNK = {
    "brackets": _fill(b"["),
    "objects in objects": _fill(b'{"a":'),
    "deep": b"[" * 90_000 + b"]" * 90_000,
    "deep where content is": _content(b"[" * 900 + b"]" * 900),
    "objects": _fill(b"{},", b'{"messages":[', b"{}]}"),
    "numbers": _fill(b"1,", b'{"a":[', b"1]}"),
    "a long number": b'{"messages":' + b"1" * SIZE + b"}",
    "long numbers": _fill(b"1" * 4300 + b",", b'{"a":[', b"1]}"),
    "a number without end": b'{"messages":1e999}',
    "NaN": b'{"messages":NaN}',
    "-Infinity": b'{"messages":-Infinity}',
    "no UTF-8": b'{"messages":"\xff"}',
    "UTF-16": json.dumps({"messages": HELLO}).encode("utf-16"),
    "half a surrogate pair": _content(b'"\\ud800"'),
    "half a surrogate pair for a key": b'{"\\ud800":1}',
    "escapes": _content(_fill(b"\\u0041", b'"', b'"')),
    "text": _content(_fill(b"a", b'"', b'"')),
    "a list": b"[1]",
    "nothing": b" ",
    "null": b"null",
    "half": b'{"messages":[',
    "a long key": _fill(b"a", b'{"', b'":1}'),
    "a long role": _fill(b"a", b'{"messages":[{"role":"', b'","content":"x"}]}'),
    "a list for a role": b'{"messages":[{"role":' + b"[" * 50 + b"]" * 50 + b',"content":"x"}]}',
    "a key twice": _fill(b'"messages":1,', b"{", b'"messages":[]}'),
    "an escaped image": _image(b"%41" * 300_000),
    "an escaped data URL": _image(b"data:image/png," + b"%41" * 300_000),
    "a long URL": _image(b"http://h/," + b"." * SIZE),
    "a long URL behind blanks": _image(b" " * 20_000 + b"http://h/" + b"." * SIZE),
    "a long data URL": _image(b"data:" + b";" * SIZE + b",AAAA"),
    "a long name": _image(b"AAAA", b'{"filename":"%s"}' % (b"a." * 400_000)),
    "a name that is none": _image(b"AAAA", b'{"filename":[]}'),
}


@pytest.mark.parametrize("junk", JUNK)
def test_junk_is_refused_quickly_and_cheaply(site: Site, junk: str) -> None:
    """Whatever it is; in memory it takes a small multiple of its bytes."""
    site(MAX_CHARACTERS=100_000)
    caller = Caller("wsgi")
    for path in BODIES:
        caller.post(path)
        body = JUNK[junk]
        if path == "v1/chat/completions":  # which ignores what it doesn't know
            if "name" in junk or junk == "a long key":
                continue
            body = body.replace(b"{", b'{"model":"echo",', 1) if body.startswith(b"{") else body
        tracemalloc.start()
        began = time.process_time()
        try:
            refused = caller.post(path, body)
            seconds, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert refused.status == 400, path
        assert refused.error["message"]
        assert len(refused.body) < 3000
        assert peak < 25 * SIZE, path
        assert seconds < 3, path  # most of it tracemalloc's


def test_a_body_that_is_too_long_is_not_read(caller: Caller, path: str, site: Site) -> None:
    site(MAX_BODY_BYTES=500)
    assert caller.post(path).status == 200
    lengths = {"501": 413, "9" * 5000: 413, "-1": 413, "1e2": 413}
    if caller.world == "wsgi":  # the other client always states one
        lengths[""] = 411  # and this one's server says nothing of where a body ends
    for length, status in lengths.items():
        header = (
            {"CONTENT_LENGTH": length} if caller.world == "wsgi" else {"headers": {"Content-Length": length}}
        )
        refused = caller.post(path, **header)
        assert (refused.status, refused.type) == (status, "application/json"), length
    chunked = caller.post(path, headers={"Transfer-Encoding": "chunked"})
    assert chunked.status == (411 if caller.world == "wsgi" else 200)
    assert caller.post(path, _fill(b"[")).status == 413


@pytest.mark.parametrize("coding", ["gzip", "br", "x" * 5000])
def test_a_coded_body_is_refused_by_its_coding(caller: Caller, path: str, coding: str) -> None:
    refused = caller.post(path, b"\x1f\x8b\x08", headers={"Content-Encoding": coding})
    assert refused.status == 415
    assert coding[:100] in refused.error["message"]
    assert len(refused.body) < 500
    assert caller.post(path, headers={"Content-Encoding": "identity"}).status == 200


def _without_length(path: str, body: Any, **environ: Any) -> Answered:
    """Give Django what gunicorn gives it of a body without a length."""
    environ = {"wsgi.input": body, "wsgi.input_terminated": True, **environ}
    chunked = {"CONTENT_TYPE": "application/json", "HTTP_TRANSFER_ENCODING": "chunked"}
    return Caller("wsgi").post(path, b"", **chunked, **environ)


def test_a_body_without_a_length_is_read_under_wsgi(path: str, site: Site) -> None:
    site(MAX_BODY_BYTES=1000)
    body = json.dumps(BODIES[path]).encode()
    answer = _without_length(path, BytesIO(body))
    assert (answer.status, b"Hello" in answer.body) == (200, True)
    long = BytesIO(b"[" * 10_000)
    assert _without_length(path, long).status == 413
    assert long.tell() == 1001
    assert _without_length(path, BytesIO()).status == 400
    assert (
        _without_length(path, BytesIO(body), CONTENT_LENGTH="1").status == 200
    )  # which the coding overrules


@pytest.mark.parametrize("error", [ConnectionResetError(), ValueError("Invalid chunk size")])
def test_a_client_that_leaves_within_its_body(path: str, error: Exception) -> None:
    class Broken(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise error

    assert _without_length(path, Broken()).status == 400


def test_a_body_without_a_length_is_not_read_for_who_may_not_call(path: str, site: Site) -> None:
    site(PERMISSION_CLASSES=["rest_framework.permissions.IsAdminUser"])
    body = BytesIO(b"[" * 1000)
    assert _without_length(path, body).status == 403
    assert body.tell() == 0


def test_a_length_that_lies_reads_no_more_than_is_allowed(site: Site) -> None:
    """A server holds a body to its length; where one does not, we do."""
    from bupple_engine.api.body import BodyTooLarge
    from bupple_engine.api.content import BoundedJSONParser

    site(MAX_BODY_BYTES=100)
    view = SimpleNamespace(api=api_settings())
    body = BytesIO(b"[" * 1000)
    with pytest.raises(BodyTooLarge):
        BoundedJSONParser().parse(body, parser_context={"view": view})
    assert body.tell() == 101


# Bounds


@pytest.mark.parametrize(
    ("bound", "body"),
    [
        ({"MAX_MESSAGES": 2}, {"messages": HELLO * 3}),
        ({"MAX_MESSAGES": 2}, {"messages": [{"role": "user", "content": [{"content": "a"}] * 3}]}),
        ({"MAX_CHARACTERS": 10}, {"messages": [{"role": "user", "content": "12345678901"}]}),
        ({"MAX_CHARACTERS": 10}, {"messages": [{"role": "user", "content": "123456"}] * 2}),
        ({"MEDIA_TYPES": []}, {"messages": [{"role": "user", "type": "image", "content": "iVBORw0KGgo="}]}),
        ({}, {"messages": [{"role": "user", "type": "document", "content": "JVBERi0xLjc="}]}),
        ({}, {"messages": [{"role": "user", "type": "image", "content": "https://x.example/a.svg"}]}),
        ({}, {"messages": [{"role": "user", "type": "audio", "content": "https://x.example/a"}]}),
        ({}, {"messages": [{"role": "user", "type": "image", "content": "file:///etc/passwd"}]}),
        ({}, {"messages": [{"role": "user", "type": "image", "content": "data:image/svg+xml;base64,AAAA"}]}),
        ({}, {"messages": [
            {"role": "user", "type": "audio", "content": "AAAA", "metadata": {"mime_type": "image/png"}}
        ]}),
        ({"OPTIONS": {"stop": True}}, {"messages": HELLO, "options": {"stop": ["x" * 9] * 2000}}),
        ({"MAX_CHARACTERS": 30}, {"messages": [
            {"role": "user", "type": "image", "content": "iVBORw0KGgo=", "metadata": {"caption": "x" * 31}}
        ]}),
    ],
)  # fmt: skip
def test_each_bound_is_checked_before_anything_is_sent(
    caller: Caller, site: Site, provider: Provider, bound: dict[str, Any], body: dict[str, Any]
) -> None:
    site({"fast": WIRE.settings(provider.url)}, **bound)
    refused = caller.post("chat/", body)
    assert refused.status == 400
    assert refused.error["param"].startswith(("messages", "options"))
    assert not provider.requests


# Rates


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Give a clock that the throttle and the cache go by, at the begin of a window."""
    clock = SimpleNamespace(now=1_700_000_000 // 86_400 * 86_400.0)
    there = SimpleNamespace(time=lambda: clock.now)
    monkeypatch.setattr(throttles, "time", there)
    monkeypatch.setattr(locmem, "time", there)
    monkeypatch.setattr(base, "time", there)
    return clock


def test_our_limit_is_told_in_each_dialect(caller: Caller, path: str, site: Site, clock: Any) -> None:
    site(THROTTLE_RATES={"anon": "2/min"})
    assert [caller.post(path).status for _ in range(3)] == [200, 200, 429]
    refused = caller.post(path)
    # Both of this window count half in the middle of the next one: then one more fits.
    assert refused.header("Retry-After") == "90"
    assert refused.header("x-should-retry") is None
    if path.startswith("v1/"):
        assert (refused.error["type"], refused.error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    else:
        assert (refused.error["type"], refused.error["code"]) == ("Throttled", 429)
    clock.now += 89
    assert caller.post(path).status == 429
    clock.now += 1
    assert [caller.post(path).status for _ in range(2)] == [200, 429]
    clock.now += 120
    assert [caller.post(path).status for _ in range(3)] == [200, 200, 429]
    assert caller.get("drivers/").status == 200


def test_the_wait_that_is_told_is_long_enough(site: Site, clock: Any) -> None:
    """Whatever the rate and the moment: after Retry-After the next call goes through."""
    caller = Caller("wsgi")
    for rate, step in (("1/s", 0.3), ("3/min", 7.7), ("10/min", 1.1), ("2/h", 997)):
        cache.clear()
        site(THROTTLE_RATES={"anon": rate})
        refusals = 0
        for _ in range(20):
            answer = caller.post("chat/")
            if answer.status == 429:
                refusals += 1
                clock.now += int(answer.header("Retry-After") or 0)
                assert caller.post("chat/").status == 200, rate
            clock.now += step
        assert refusals


def test_an_address_is_not_what_a_client_says_it_is(site: Site, settings: Any) -> None:
    site(THROTTLE_RATES={"anon": "2/day"})
    caller = Caller("wsgi")  # the asynchronous test client has one address alone

    def call(forwarded: str, address: str = "192.0.2.1") -> int:
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        return caller.post("chat/", headers=headers, REMOTE_ADDR=address).status

    assert [call(f"10.0.0.{n}") for n in range(3)] == [200, 200, 429]
    assert call("", "192.0.2.2") == 200
    assert call("", "::ffff:192.0.2.1") == 429
    assert [call("", f"2001:db8::{n:x}") for n in range(3)] == [200, 200, 429]  # one subscriber's
    assert call("", "2001:db8:0:1::1") == 200
    settings.REST_FRAMEWORK = {"NUM_PROXIES": 1}
    assert [call(f"10.0.0.{n}, 192.0.2.9") for n in range(3)] == [200, 200, 429]
    assert call("192.0.2.9, 192.0.2.10") == 200
    assert [call(f"192.0.2.11:{port}") for port in (80, 81, 82)] == [200, 200, 429]
    assert [call(f"[2001:db8:0:2::1]:{port}") for port in (80, 81, 82)] == [200, 200, 429]
    for odd in ("x" * 5000, "a b\x01c", "bupple_engine:calls:user:1", ":", "é", ","):
        assert call(odd) in (200, 429)


@pytest.mark.django_db
def test_users_are_counted_apart_and_not_by_their_address(
    caller: Caller, site: Site, settings: Any, django_user_model: Any
) -> None:
    settings.MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ]
    rates = {"user": "2/day", "anon": "1/day"}
    site(THROTTLE_RATES=rates, AUTHENTICATION_CLASSES=["rest_framework.authentication.SessionAuthentication"])
    caller.client.handler.enforce_csrf_checks = False
    for name in ("one", "two"):
        caller.client.force_login(django_user_model.objects.create_user(name))
        assert [caller.post("chat/").status for _ in range(3)] == [200, 200, 429]
    caller.client.logout()
    assert [caller.post("chat/").status for _ in range(2)] == [200, 429]


def test_calls_at_the_same_time_never_get_more_than_the_limit(site: Site) -> None:
    site(THROTTLE_RATES={"anon": "7/day"})
    ready = threading.Barrier(16)

    def call(_: int) -> list[int]:
        client = Caller("wsgi")
        ready.wait()
        return [client.post("chat/").status for _ in range(3)]

    with ThreadPoolExecutor(16) as threads:
        statuses = [status for found in threads.map(call, range(16)) for status in found]
    assert 0 < statuses.count(200) <= 7
    assert statuses.count(200) + statuses.count(429) == 48


def test_a_cache_that_counts_by_reading_and_writing_keeps_the_count(
    site: Site, settings: Any, clock: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filebased, "time", vars(base)["time"])
    backend = "django.core.cache.backends.filebased.FileBasedCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": str(tmp_path)}}
    site(THROTTLE_RATES={"anon": "2/day"})
    statuses = []
    for _ in range(4):
        statuses.append(Caller("wsgi").post("chat/").status)
        clock.now += 400  # longer than a cache keeps what it is not told to
    assert statuses == [200, 200, 429, 429]


def test_a_counter_that_the_cache_forgets_breaks_nothing(
    caller: Caller, site: Site, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site(THROTTLE_RATES={"anon": "1/day"})
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    assert [caller.post("chat/").status for _ in range(2)] == [200, 200]


def test_the_providers_limit_is_another(caller: Caller, site: Site, provider: Provider) -> None:
    site({"fast": WIRE.settings(provider.url, MAX_RETRIES=0)}, THROTTLE_RATES={"anon": "1/day"})
    status, headers, body = WIRE.error("rate_limit")
    provider.answer(Answer(status=status, headers=headers, body=body))
    theirs, ours = caller.post("chat/"), caller.post("chat/")
    assert (theirs.status, theirs.error["type"]) == (429, "RateLimitError")
    assert (ours.status, ours.error["type"]) == (429, "Throttled")


# Streams at the same time


def _place(user: int | None = 2, process: int | None = 3, who: str = "anon:1") -> slots.Place:
    limits: Any = SimpleNamespace(max_concurrent_streams={"user": user, "process": process})
    return slots.Place(who, limits)


def _take(**limits: Any) -> slots.Place:
    place = _place(**limits)
    place.take()
    return place


def test_places_are_counted_by_caller_and_process() -> None:
    mine = [_take(), _take()]
    with pytest.raises(ProblemError) as refusal:
        _take()
    assert (refusal.value.problem.status, refusal.value.problem.type) == (429, "TooManyStreams")
    other = _take(who="anon:2")
    with pytest.raises(ProblemError) as refusal:
        _take(who="anon:3")
    assert (refusal.value.problem.status, refusal.value.problem.type) == (503, "ServerBusy")
    mine[0].give_back()
    mine[0].give_back()
    mine.append(_take())
    with pytest.raises(ProblemError):
        _take(process=None)
    for place in (*mine, other):
        place.give_back()
    unlimited = [_take(user=None, process=None) for _ in range(20)]
    for place in unlimited:
        place.give_back()


def test_a_dead_workers_places_are_free_after_their_lease(clock: Any) -> None:
    dead = _take(user=1)
    slots._leases.clear()  # nobody renews it any more
    clock.now += slots.LEASE_SECONDS - 1
    with pytest.raises(ProblemError):
        _take(user=1)
    clock.now += 2
    alive = _take(user=1)
    dead.give_back()  # what is another's by now it leaves alone
    with pytest.raises(ProblemError):
        _take(user=1)
    alive.give_back()
    _take(user=1).give_back()


def test_a_living_workers_places_are_renewed(clock: Any) -> None:
    place = _take(user=1)
    for _ in range(5):
        clock.now += slots.RENEWAL_SECONDS
        slots.renew()
        with pytest.raises(ProblemError):
            _take(user=1)
    cache.clear()  # as a cache does that is restarted
    slots.renew()
    with pytest.raises(ProblemError):
        _take(user=1)
    place.give_back()


def test_a_place_given_back_while_it_is_taken_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    place = _place(user=1)
    add = cache.add

    def leave(*args: Any, **kwargs: Any) -> bool:
        place.give_back()
        return bool(add(*args, **kwargs))

    monkeypatch.setattr(cache, "add", leave, raising=False)
    place.take()
    monkeypatch.undo()
    _take(user=1).give_back()


def test_a_place_given_back_before_it_is_taken_is_not_taken() -> None:
    place = _place()
    place.give_back()  # its client left while a thread was on its way to here
    place.take()
    assert not slots._streams
    assert not slots._leases


def test_a_cache_that_is_down_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> bool:
        raise ConnectionError("The cache is down.")

    monkeypatch.setattr(cache, "add", fail, raising=False)
    with pytest.raises(ConnectionError):
        _take()


def test_places_taken_at_the_same_time_are_never_more_than_the_limit() -> None:
    ready, taken = threading.Barrier(20), []

    def take() -> None:
        ready.wait()
        with suppress(ProblemError):
            taken.append(_take(user=5, process=None))

    running = [threading.Thread(target=take) for _ in range(20)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    assert len(taken) == 5
    for place in taken:
        place.give_back()


HOW_STREAMS_END = ["whole", "cut", "refused", "not iterated", "left", "bad option"]


def _script(way: str, provider: Provider) -> None:
    whole = Answer(body=WIRE.stream(["one ", "two"]))
    cut = Answer(body=WIRE.stream_without_end(["one "]))
    refused = Answer(status=401, body=WIRE.error("auth")[2])
    open_ = Answer(pieces=[WIRE.stream_without_end(["one "]), threading.Event()])
    provider.answer({"whole": whole, "cut": cut, "refused": refused}.get(way, open_))


@pytest.mark.parametrize("way", HOW_STREAMS_END)
@pytest.mark.parametrize("path", ["chat/stream/", "ui/chat/"])
def test_a_place_is_given_back_however_a_stream_ends(
    path: str, site: Site, provider: Provider, way: str
) -> None:
    one = {"user": 1, "process": 1}
    options = {"OPTIONS": {"temperature": True}}
    site({"fast": WIRE.settings(provider.url)}, MAX_CONCURRENT_STREAMS=one, **options)
    body = {**BODIES[path], **({"options": {"temperature": "x"}} if way == "bad option" else {})}
    if way != "bad option":
        _script(way, provider)
    response: Any = Client().post(f"/ai/{path}", body, content_type="application/json")
    if way in ("whole", "cut"):
        assert b"".join(response)
    elif way in ("not iterated", "left"):
        refused = Client().post(f"/ai/{path}", body, content_type="application/json")
        assert refused.status_code == 503
        if way == "left":
            assert next(iter(response))
        response._iterator = None
        for close in response._resource_closers:
            close()
        provider.wait_closed()
    else:
        assert response.status_code in (400, 502)
    until(lambda: not slots._streams and not slots._leases)
    _script("whole", provider)
    response = Client().post(f"/ai/{path}", BODIES[path], content_type="application/json")
    assert b"two" in b"".join(response)


@pytest.mark.parametrize("way", [*HOW_STREAMS_END, "cancelled"])
async def test_a_place_is_given_back_under_asgi_too(site: Site, provider: Provider, way: str) -> None:
    one = {"user": 1, "process": 1}
    options = {"OPTIONS": {"temperature": True}}
    site({"fast": WIRE.settings(provider.url)}, MAX_CONCURRENT_STREAMS=one, **options)
    body = {**BODIES["chat/stream/"], **({"options": {"temperature": "x"}} if way == "bad option" else {})}

    async def post(body: Any = BODIES["chat/stream/"]) -> Any:
        return await AsyncClient().post("/ai/chat/stream/", body, content_type="application/json")

    if way == "cancelled":
        provider.answer(Answer(hold=threading.Event()))
        waiting = asyncio.create_task(post(body))
        while not provider.requests:
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.to_thread(provider.wait_closed)
    else:
        if way != "bad option":
            _script(way, provider)
        response = await post(body)
        if way in ("whole", "cut"):
            assert b"".join([piece async for piece in response])
        elif way in ("not iterated", "left"):
            assert (await post()).status_code == 503
            if way == "left":
                assert await anext(aiter(response))
            for close in response._resource_closers:
                close()
            await asyncio.to_thread(provider.wait_closed)
        else:
            assert response.status_code in (400, 502)
    while slots._streams or slots._leases:
        await asyncio.sleep(0.001)
    _script("whole", provider)
    assert b"two" in b"".join([piece async for piece in await post()])


@pytest.mark.parametrize("path", ["chat/", "v1/chat/completions"])
@pytest.mark.parametrize("ends", ["well", "badly"])
def test_a_whole_answer_takes_a_place_under_wsgi(
    path: str, ends: str, site: Site, provider: Provider
) -> None:
    """It holds a thread until it is there: sixty of one user would hold all the threads of a server."""
    go = threading.Event()
    body = WIRE.reply("Yes") if ends == "well" else WIRE.error("auth")[2]
    provider.answer(Answer(status=200 if ends == "well" else 401, body=body, hold=go), repeat=True)
    site({"fast": WIRE.settings(provider.url)}, MAX_CONCURRENT_STREAMS={"user": 2, "process": 500})
    asked = BODIES[path] | ({"model": "fast"} if path.startswith("v1/") else {})
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(lambda: Caller("wsgi").post(path, asked).status) for _ in range(2)]
        until(lambda: len(provider.requests) == 2)
        refused = Caller("wsgi").post(path, asked)
        assert (refused.status, refused.header("Retry-After")) == (429, str(slots.RETRY_SECONDS))
        go.set()
        assert {each.result(SECONDS) for each in waiting} == {200 if ends == "well" else 502}
    assert Caller("wsgi").post(path, asked).status in (200, 502)


@pytest.mark.parametrize("path", ["chat/", "chat/stream/"])
async def test_nothing_is_sent_for_a_client_that_left_while_a_thread_was_at_work(
    path: str, site: Site, provider: Provider
) -> None:
    entered, go = threading.Event(), threading.Event()

    def prepare(request: Any, call: Any) -> Any:
        entered.set()
        go.wait(SECONDS)
        return call

    site({"fast": WIRE.settings(provider.url)}, PREPARE=prepare)
    call = AsyncClient().post(f"/ai/{path}", BODIES[path], content_type="application/json")
    waiting = asyncio.create_task(call)
    assert await asyncio.to_thread(entered.wait, SECONDS)
    waiting.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not provider.requests


# Bodies under ASGI


class Sent:
    """An ASGI server's side of one request, whose body has as many pieces as are asked for."""

    def __init__(
        self,
        path: str,
        *,
        method: str = "POST",
        pieces: int = 10**9,
        piece: bytes = b"x" * 100,
        **headers: str,
    ) -> None:
        headers = {"content_type": "application/json", **headers}
        self.scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        }
        self.read, self.pieces, self.piece = 0, pieces, piece
        self.messages: list[Any] = []

    async def receive(self) -> dict[str, Any]:
        if self.read == self.pieces:
            await asyncio.Event().wait()  # the client stays
        self.read += 1
        return {"type": "http.request", "body": self.piece, "more_body": self.read < self.pieces}

    async def send(self, message: Any) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def error(self) -> Any:
        return json.loads(self.body)["error"]


async def _ask(path: str, **request: Any) -> Sent:
    """Have Django answer, behind limit_bodies."""
    sent = Sent(path, **request)
    scope = sent.scope | ({"root_path": "/site"} if path.startswith("/site/") else {})
    await limit_bodies(ASGIHandler())(scope, sent.receive, sent.send)
    return sent


@pytest.mark.parametrize("prefix", ["", "/site"])
async def test_a_body_is_bounded_before_django_reads_it(path: str, site: Site, prefix: str) -> None:
    site(MAX_BODY_BYTES=1000)
    url = f"{prefix}/ai/{path}"
    for request, status, read in (
        ({}, 413, 11),  # as over HTTP/2
        ({"transfer_encoding": "chunked"}, 413, 11),
        ({"transfer_encoding": "chunked", "pieces": 10}, 400, 10),
        ({"content_length": "1001"}, 413, 0),
        ({"content_length": "1" * 5000}, 413, 0),
        ({"content_length": "-1"}, 413, 0),
        ({"content_length": "1000"}, 413, 11),  # a server that doesn't hold it to that
        ({"content_length": "1000", "pieces": 10}, 400, 10),
        ({"content_length": "5", "transfer_encoding": "chunked"}, 413, 11),
        ({"method": "PUT"}, 405, 11),
        ({"method": "PUT", "content_length": "1001"}, 405, 0),
        ({"method": "GET", "pieces": 1}, 405, 1),
    ):
        sent = await _ask(url, **request)
        assert (sent.status, sent.read) == (status, read), request
        assert sent.error["message"]
        assert ("param" in sent.error and sent.error["type"] == "invalid_request_error") == path.startswith(
            "v1/"
        )


async def test_a_body_without_a_length_is_read_under_asgi(path: str, site: Site) -> None:
    body = json.dumps(BODIES[path]).encode()
    for headers in ({}, {"transfer_encoding": "chunked"}):
        sent = await _ask(f"/ai/{path}", pieces=1, piece=body, **headers)
        assert sent.status == 200
        assert b"Hello" in sent.body


class AllowOrigin:
    """Middleware that lets a page of another origin read what it is told, as django-cors-headers does."""

    sync_capable, async_capable = True, False

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        response = self.get_response(request)
        response["Access-Control-Allow-Origin"] = "https://page.example"
        return response


@pytest.mark.parametrize(
    "request_", [{}, {"content_length": "1001"}, {"content_encoding": "gzip", "pieces": 1}]
)
async def test_a_refusal_passes_through_the_sites_middleware(
    path: str, site: Site, settings: Any, request_: dict[str, Any]
) -> None:
    settings.MIDDLEWARE = [f"{__name__}.AllowOrigin"]
    site(MAX_BODY_BYTES=1000)
    sent = await _ask(f"/ai/{path}", **request_)
    assert sent.status in (413, 415)
    assert sent.headers[b"Access-Control-Allow-Origin"] == b"https://page.example"


async def test_other_paths_are_left_alone(site: Site, settings: Any) -> None:
    site(MAX_BODY_BYTES=1000)
    settings.DEBUG = False
    for path in ("/", "/ai/", "/other/", "/ai/chat/\x00"):
        assert (await _ask(path, pieces=50)).read == 50
    seen = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await limit_bodies(application)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]


async def test_settings_that_are_wrong_read_no_body(settings: Any) -> None:
    settings.BUPPLE_ENGINE = {"DRIVERS": {"echo": {}}, "API": {"MAX_BODY_BYTES": "sk-secret"}}
    sent = await _ask("/ai/chat/", content_length="10")
    assert (sent.status, sent.read) == (500, 0)
    assert "sk-secret" not in str(sent.messages)


@pytest.fixture
def served(site: Site, settings: Any) -> Iterator[tuple[str, int]]:
    """Give the address of uvicorn, which serves the site as asgi.py would."""
    uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    settings.ALLOWED_HOSTS = ["*"]
    site(MAX_BODY_BYTES=100_000)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        limit_bodies(ASGIHandler()), lifespan="off", log_config=None, access_log=False, ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=asyncio.run, args=(server.serve([listener]),))
    thread.start()
    yield listener.getsockname()
    server.should_exit = True
    thread.join()
    listener.close()


def _send(address: tuple[str, int], path: str, headers: str, pieces: int, piece: bytes) -> tuple[bytes, int]:
    """Return the answer, and how many pieces of a body were taken until then."""
    sent = 0
    with socket.create_connection(address, 10) as client:
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n".encode())
        with suppress(ConnectionError):  # the server has said all that it has to say
            while sent < pieces and not select.select([client], [], [], 0)[0]:
                client.sendall(piece)
                sent += 1
        answer = b""
        with suppress(ConnectionError):
            while b"\r\n\r\n" not in answer and (data := client.recv(65_536)):
                answer += data
    return answer, sent


def test_a_body_without_end_is_answered_on_a_real_server(served: tuple[str, int], path: str) -> None:
    piece = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    chunked = "Content-Type: application/json\r\nTransfer-Encoding: chunked"
    answer, sent = _send(served, f"/ai/{path}", chunked, 100_000, piece)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"application/json" in answer
    assert sent < 2000  # the bound, and what fits in the sockets' buffers
    body = json.dumps(BODIES[path]).encode()
    pieces = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    assert _send(served, f"/ai/{path}", chunked, 1, pieces)[0].startswith(b"HTTP/1.1 200")
    length = "Content-Type: application/json\r\nContent-Length: 100001"
    assert _send(served, f"/ai/{path}", length, 0, b"")[0].startswith(b"HTTP/1.1 413")
    body = json.dumps(BODIES[path]).encode()
    length = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
    assert _send(served, f"/ai/{path}", length, 1, body)[0].startswith(b"HTTP/1.1 200")


def test_what_is_not_ours_may_be_of_any_length_on_a_real_server(served: tuple[str, int]) -> None:
    piece = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    last = b"0\r\n\r\n"
    answer, sent = _send(served, "/sink/", "Transfer-Encoding: chunked", 1, piece * 20 + last)
    assert sent == 1
    assert b"x-body: 327680" in answer.lower()
