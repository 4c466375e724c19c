"""The lists of models, and what a probe makes of them and of every way in which one can fail."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core.exceptions import ImproperlyConfigured

from bupple_engine import (
    AuthenticationError,
    EngineError,
    ModelNotFoundError,
    ProviderTimeoutError,
    ResponseParseError,
    UnsupportedFeatureError,
    ai,
    call_finished,
)
from bupple_engine.diagnostics.probe import Verdict, probe, probe_all
from bupple_engine.drivers.base import ChatDriver
from bupple_engine.drivers.local import driver as local
from bupple_engine.drivers.local import engine as engines
from bupple_engine.protocol.options import COMMON
from bupple_engine.wires.base import Wire as OurWire
from bupple_engine.wires.chat_completions import ChatCompletionsWire
from tests.conftest import Configure
from tests.provider import Answer, Provider
from tests.verbs import VERBS, Quiet, run
from tests.wires import EVENTS, JSON, KEY, NO_MESSAGES, WIRES, Wire

NAMES = ["zeta-1", "alpha-2", "model-3"]
HASTE = 0.3  # seconds, for a probe that must run out of them


def page(wire: Wire, names: list[str], following: str = "") -> Answer:
    """Give a page of the list as the vendor writes it."""
    if wire.name == "gemini":
        models = [{"name": f"models/{n}", "supportedGenerationMethods": ["generateContent"]} for n in names]
        body: Any = {"models": models, **({"nextPageToken": following} if following else {})}
    else:
        body = {"object": "list", "data": [{"id": name, "object": "model"} for name in names]}
    if wire.name == "claude":
        body |= {"has_more": bool(following), "first_id": names[0], "last_id": following or names[-1]}
    return listed(body)


def listed(body: Any) -> Answer:
    return Answer(headers=JSON, body=json.dumps(body).encode())


@pytest.fixture(params=WIRES, ids=lambda wire: wire.name)
def wire(request: pytest.FixtureRequest) -> Wire:
    """Give each wire."""
    found: Wire = request.param
    return found


@pytest.fixture(params=["sync", "aiohttp", "threads"])
def models(request: pytest.FixtureRequest) -> Callable[[ChatDriver], list[str]]:
    """Give each way of asking for the list."""
    if request.param == "sync":
        return lambda driver: driver.models()
    if request.param == "aiohttp":
        pytest.importorskip("aiohttp")
    else:
        request.getfixturevalue("without_aiohttp")
    return lambda driver: asyncio.run(driver.amodels())


# The list


def test_the_list_is_the_providers(wire: Wire, models: Any, provider: Provider, configure: Configure) -> None:
    configure(it=wire.settings(provider.url))
    provider.answer(page(wire, NAMES))
    assert models(ai()) == NAMES
    (request,) = provider.requests
    path = urlsplit(request.path).path
    assert (request.method, request.body) == ("GET", b"")
    assert path == ("/v1beta/models" if wire.name == "gemini" else "/v1/models")
    assert wire.key(request) == KEY
    assert "content-type" not in request.headers
    assert request.headers.get("anthropic-version") == ("2026-10-21" if wire.name == "claude" else None)


def test_a_list_that_comes_as_an_event_stream_is_an_error(
    wire: Wire, models: Any, provider: Provider, configure: Configure
) -> None:
    configure(it=wire.settings(provider.url, MAX_RETRIES=0))
    provider.answer(Answer(200, EVENTS, wire.stream(["Hello"])))
    with pytest.raises(ResponseParseError, match="The list of models came as an event stream"):
        models(ai())


def test_a_key_goes_once_by_a_callable_and_the_entrys_headers_go_too(
    wire: Wire, provider: Provider, configure: Configure
) -> None:
    asked = []

    def key() -> str:
        asked.append(1)
        return KEY

    configure(it=wire.settings(provider.url, API_KEY=key, HEADERS={"X-Team": "a"}, MODEL=None))
    provider.answer(page(wire, NAMES, "more"), page(wire, ["last"])) if paged(wire) else provider.answer(
        page(wire, NAMES)
    )
    ai().models()
    assert len(asked) == 1
    assert {request.headers["x-team"] for request in provider.requests} == {"a"}


def paged(wire: Wire) -> bool:
    return wire.name in ("claude", "gemini")


@pytest.mark.parametrize("wire", WIRES[2:], ids=lambda wire: wire.name)
def test_the_pages_are_read_one_after_another(
    wire: Wire, models: Any, provider: Provider, configure: Configure
) -> None:
    configure(it=wire.settings(provider.url))
    provider.answer(page(wire, NAMES, "a b&c"), page(wire, ["p"], "third"), page(wire, ["q"]))
    assert models(ai()) == [*NAMES, "p", "q"]
    sent = [parse_qs(urlsplit(request.path).query) for request in provider.requests]
    name = "after_id" if wire.name == "claude" else "pageToken"
    assert [query.get(name) for query in sent] == [None, ["a b&c"], ["third"]]


@pytest.mark.parametrize("wire", WIRES[2:], ids=lambda wire: wire.name)
@pytest.mark.parametrize("numbered", [True, False])
def test_a_list_without_an_end_is_an_error(
    wire: Wire, numbered: bool, provider: Provider, configure: Configure
) -> None:
    configure(it=wire.settings(provider.url, MAX_RETRIES=0))
    counter = iter(range(10_000))
    provider.answer(lambda request: page(wire, ["m"], f"p{next(counter) if numbered else 0}"), repeat=True)
    with pytest.raises(ResponseParseError, match="does not end"):
        ai().models()


def test_all_pages_are_under_one_clock(provider: Provider, configure: Configure) -> None:
    wire = WIRES[2]
    configure(it=wire.settings(provider.url, TIMEOUT=HASTE))
    counter = iter(range(10_000))

    def slow(request: Any) -> Answer:
        return Answer(headers=JSON, body=page(wire, ["m"], f"p{next(counter)}").body, hold=0.1)

    provider.answer(slow, repeat=True)
    began = time.monotonic()
    with pytest.raises(ProviderTimeoutError) as caught:
        ai().models()
    assert caught.value.clock == "total"
    assert time.monotonic() - began < 15
    assert len(provider.requests) < 10


def test_what_fails_fails_as_a_call_does(
    wire: Wire, models: Any, provider: Provider, configure: Configure
) -> None:
    configure(it=wire.settings(provider.url))
    status, headers, body = wire.error("auth")
    provider.answer(Answer(status, headers, body))
    with pytest.raises(AuthenticationError) as caught:
        models(ai())
    assert (caught.value.alias, caught.value.driver) == ("it", wire.name)
    assert caught.value.request_id is not None or wire.name == "gemini"


def test_a_failure_that_passes_is_tried_again(
    wire: Wire, models: Any, provider: Provider, configure: Configure
) -> None:
    configure(it=wire.settings(provider.url))
    provider.answer(Answer(503, {"retry-after": "0"}), page(wire, NAMES))
    assert models(ai()) == NAMES


@pytest.mark.parametrize(
    ("listing", "names"),
    [
        ([{"name": "a", "size": 3}, {"name": "b"}], ["a", "b"]),
        (["a", "b"], ["a", "b"]),
        ({"models": [{"model": "a"}, {"name": "b"}]}, ["a", "b"]),
        ({"data": {"models": [{"id": "a"}]}}, ["a"]),
        ({"result": [{"id": "a"}], "success": True, "errors": []}, ["a"]),
        ({"data": {"a": {"owned_by": "x"}, "b": {}}}, ["a", "b"]),
        ({"data": None, "models": ["a"]}, ["a"]),
        ({"data": [None, {"id": None, "name": "a"}, {"id": 7}, {"id": 7}]}, ["a", "7"]),
        ({"modelSummaries": [{"modelId": "a"}]}, ["a"]),
        ({"items": [{"slug": "a"}]}, ["a"]),
        ({"object": "list"}, []),
        ({"data": None}, []),
        ({}, []),
        ([], []),
    ],
    ids=str,
)
def test_a_list_of_another_shape_is_read(
    wire: Wire, models: Any, listing: Any, names: list[str], provider: Provider, configure: Configure
) -> None:
    configure(it=wire.settings(provider.url))
    provider.answer(Answer(body=json.dumps(listing).encode()))
    assert models(ai()) == names


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]]",
        b'"text"',
        b'{"object": "thing"}',
        b'{"data": [{"name": 1}]}',
        b'{"models": 5, "data": 5}',
        b"[1]",
    ],
)
def test_garbage_is_a_parse_error(wire: Wire, body: bytes, provider: Provider, configure: Configure) -> None:
    configure(it=wire.settings(provider.url, MAX_RETRIES=0))
    provider.answer(Answer(body=body))
    with pytest.raises(ResponseParseError):
        ai().models()


def test_no_signal_is_sent(provider: Provider, configure: Configure) -> None:
    heard: list[Any] = []

    def hear(**facts: Any) -> None:
        heard.append(facts)

    configure(it=WIRES[0].settings(provider.url))
    provider.answer(page(WIRES[0], NAMES))
    call_finished.connect(hear)
    try:
        ai().models()
    finally:
        call_finished.disconnect(hear)
    assert heard == []


def test_gemini_lists_what_generates(provider: Provider, configure: Configure) -> None:
    configure(it=WIRES[3].settings(provider.url))
    models = [
        {"name": "models/chat", "supportedGenerationMethods": ["countTokens", "generateContent"]},
        {"name": "models/vectors", "supportedGenerationMethods": ["embedContent"]},
        {"name": "models/bare"},
    ]
    provider.answer(listed({"models": models}))
    assert ai().models() == ["chat", "bare"]


@pytest.mark.parametrize(
    ("body", "names"),
    [([{"id": "b"}, {"id": "a"}], ["b", "a"]), ({"data": None}, []), ({"data": []}, []), ([], [])],
)
def test_a_list_may_be_bare_or_null(
    body: Any, names: list[str], provider: Provider, configure: Configure
) -> None:
    configure(it={"DRIVER": "together", "API_KEY": KEY, "BASE_URL": provider.url})
    provider.answer(listed(body))
    assert ai().models() == names


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("/v1/chat/completions", "/v1/models"),
        ("/v1/", "/v1/models"),
        ("/openai/deployments/mine?api-version=2024-10-21", "/openai/models?api-version=2024-10-21"),
        ("/openai/v1", "/openai/v1/models"),
    ],
)
def test_the_list_is_beside_the_endpoint(
    base: str, path: str, provider: Provider, configure: Configure
) -> None:
    configure(it={"DRIVER": "azure", "API_KEY": KEY, "BASE_URL": provider.url + base})
    provider.answer(listed({"data": [{"id": "m"}]}))
    assert ai().models() == ["m"]
    assert provider.requests[0].path == path


def test_the_local_model_is_named_and_not_loaded(configure: Configure, monkeypatch: Any) -> None:
    monkeypatch.setattr(engines, "_engine", lambda *args: pytest.fail("loaded"))
    configure(local={}, own={"DRIVER": "local", "MODEL_PATH": "/nowhere/x.gguf"})
    if local.find_missing():
        with pytest.raises(ImproperlyConfigured, match="not installed"):
            ai().models()
    else:
        assert ai().models() == ["SmolLM2-135M-Instruct.Q4_1"]
        assert asyncio.run(ai().amodels()) == ["SmolLM2-135M-Instruct.Q4_1"]
    verdict = probe("own")
    assert (verdict.ok, verdict.error) == (False, "MODEL_PATH '/nowhere/x.gguf' is no file.")


def test_echo_lists_itself(configure: Configure) -> None:
    configure(echo={}, named={"DRIVER": "echo", "MODEL": "parrot"})
    assert ai().models() == ai().models() == asyncio.run(ai().amodels()) == ["echo"]
    assert ai("named").models() == ["parrot"]


# Drivers of a third party


class Silent(Quiet):
    """Have no list."""


class Listed(Quiet):
    """Have a list, and no common options."""

    options = {"model": COMMON["model"]}  # noqa: RUF012
    error: Exception | None = None

    def models(self) -> list[str]:
        if self.error:
            raise self.error
        return ["one", "two"]


class Unlisted(ChatCompletionsWire):
    """Be a wire without a list."""

    name = "unlisted"
    build_models_path = OurWire.build_models_path


SILENT, LISTED, UNLISTED = (f"tests.test_probe.{name}" for name in ("Silent", "Listed", "Unlisted"))


def test_a_driver_without_a_list_says_so(configure: Configure) -> None:
    configure(house={"DRIVER": SILENT})
    asks: list[Callable[[], object]] = [lambda: ai().models(), lambda: asyncio.run(ai().amodels())]
    for ask in asks:
        with pytest.raises(UnsupportedFeatureError, match=r"has no list of models"):
            ask()
    verdict = probe("house")
    assert (verdict.ok, verdict.reachable, verdict.key_accepted, verdict.model_known) == (
        True,
        None,
        None,
        None,
    )
    assert "only a message, which costs tokens, could tell" in verdict.advice


def test_a_driver_of_ones_own_is_probed_by_its_list(configure: Configure) -> None:
    configure(house={"DRIVER": LISTED, "MODEL": "two"}, other={"DRIVER": LISTED, "MODEL": "twoo"})
    assert asyncio.run(ai().amodels()) == ["one", "two"]
    assert probe("house").model_known is True
    verdict = probe("other")
    assert (verdict.ok, verdict.model_known) == (False, False)
    assert verdict.advice == "Change MODEL, perhaps to 'two'."


@pytest.mark.parametrize(
    ("error", "reachable", "words"),
    [
        (KeyError("x"), None, "KeyError: 'x'"),
        (EngineError(), True, "EngineError"),
        (ModelNotFoundError("gone", code=404), True, "gone (status 404)"),
        (ImproperlyConfigured("so"), None, "so"),
    ],
)
def test_what_a_driver_of_ones_own_raises_is_a_verdict(
    error: Exception, reachable: bool | None, words: str, configure: Configure, monkeypatch: Any
) -> None:
    monkeypatch.setattr(Listed, "error", error)
    configure(house={"DRIVER": LISTED})
    verdict = probe("house")
    assert (verdict.ok, verdict.reachable, verdict.error) == (False, reachable, words)
    assert verdict.advice or isinstance(error, EngineError)


# The verdict


def test_all_is_well(wire: Wire, provider: Provider, configure: Configure) -> None:
    configure(it=wire.settings(provider.url))
    provider.answer(page(wire, [*NAMES, wire.model]), NO_MESSAGES)
    before = datetime.now(UTC)
    verdict = probe("it")
    assert before <= verdict.checked_at <= datetime.now(UTC)
    assert verdict.latency is not None
    assert 0 < verdict.latency < 10
    assert verdict == Verdict(
        alias="it",
        driver=wire.name,
        ok=True,
        checked_at=verdict.checked_at,
        reachable=True,
        key_accepted=True,
        model_known=True,
        latency=verdict.latency,
        model=wire.model,
    )
    assert [request.method for request in provider.requests] == ["GET", "POST"]


@pytest.mark.parametrize(
    ("status", "reachable", "key_accepted", "advice"),
    [
        (401, True, False, "Check the entry's API_KEY."),
        (402, True, True, "Check the account's billing"),
        (403, True, None, "Check what the key's project"),
        (407, False, None, "Check BASE_URL, PROXY"),
        (429, True, None, "check again"),
        (500, True, None, "check again"),
        (503, True, None, "check again"),
        (302, True, None, ""),
    ],
)
def test_a_status_is_a_verdict(
    wire: Wire,
    status: int,
    reachable: bool,
    key_accepted: bool | None,
    advice: str,
    provider: Provider,
    configure: Configure,
) -> None:
    configure(it=wire.settings(provider.url))
    provider.answer(Answer(status, JSON, b'{"error": {"message": "No."}}'), repeat=True)
    verdict = probe("it")
    assert (verdict.ok, verdict.reachable, verdict.key_accepted) == (False, reachable, key_accepted)
    assert verdict.model_known is None
    assert (verdict.latency is not None) is reachable
    assert verdict.error.endswith(f"(status {status})")
    assert advice in verdict.advice
    assert len(provider.requests) == 1  # nothing is tried again


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"object": "thing"}'])
def test_garbage_is_a_verdict(body: bytes, wire: Wire, provider: Provider, configure: Configure) -> None:
    configure(it=wire.settings(provider.url))
    provider.answer(Answer(body=body), repeat=True)
    verdict = probe("it")
    assert (verdict.ok, verdict.reachable, verdict.key_accepted) == (False, True, None)
    assert verdict.advice == "Check BASE_URL: what answers there is not this driver's API."
    assert len(provider.requests) == 1


def test_nobody_listens(wire: Wire, configure: Configure) -> None:
    with Provider() as gone:
        url = gone.url
    configure(it=wire.settings(url))
    verdict = probe("it")
    assert (verdict.ok, verdict.reachable, verdict.latency) == (False, False, None)
    assert verdict.error.startswith("Could not connect")
    assert verdict.advice.startswith("Check BASE_URL, PROXY")


@pytest.mark.parametrize(
    "answer", [Answer(hold=60), Answer(headers=JSON, pieces=[b'{"data": [', 60.0])], ids=["head", "body"]
)
def test_a_slow_provider_is_cut_off_by_the_clock(
    answer: Answer, provider: Provider, configure: Configure
) -> None:
    configure(it=WIRES[0].settings(provider.url, TIMEOUT={"first_token": 30}))
    provider.answer(answer)
    began = time.monotonic()
    verdict = probe("it", HASTE)
    assert time.monotonic() - began < 20
    assert (verdict.ok, verdict.reachable, verdict.latency) == (False, False, None)
    assert verdict.error == "The clock 'total' ran out: the provider took more than 0.3 s."
    provider.wait_closed()


def test_what_no_clock_ends_is_left_behind(configure: Configure, monkeypatch: Any) -> None:
    monkeypatch.setattr("bupple_engine.diagnostics.probe.GRACE_SECONDS", 0.1)
    asked, over = threading.Event(), threading.Event()

    def vault() -> str:
        asked.set()
        over.wait(30)
        raise RuntimeError("closed")

    try:
        configure(it={**WIRES[0].settings("http://127.0.0.1:9"), "API_KEY": vault}, echo={})
        verdict, echoed = probe_all(seconds=HASTE)
        assert asked.is_set()
        assert (verdict.alias, verdict.ok) == ("it", False)
        assert verdict.error == "There was no verdict within 0.3 s."
        assert echoed.ok
    finally:
        over.set()


def test_a_vault_that_fails_is_a_verdict(configure: Configure) -> None:
    def vault() -> str:
        raise OSError("sealed")

    configure(it={**WIRES[0].settings("http://127.0.0.1:9"), "API_KEY": vault})
    verdict = probe("it")
    assert verdict.error == "OSError: sealed"
    assert "API_KEY" in verdict.advice


def test_an_unknown_model_is_a_verdict(wire: Wire, provider: Provider, configure: Configure) -> None:
    configure(it=wire.settings(provider.url, MODEL="model-33"), far=wire.settings(provider.url, MODEL="öäü"))
    provider.answer(page(wire, NAMES), repeat=True)
    verdict = probe("it")
    assert (verdict.ok, verdict.reachable, verdict.key_accepted, verdict.model_known) == (
        False,
        True,
        True,
        False,
    )
    assert verdict.error == "The provider does not offer the model 'model-33'."
    assert verdict.advice == "Change MODEL, perhaps to 'model-3'."
    assert "`manage.py bupple_models far`" in probe("far").advice


@pytest.mark.parametrize(
    ("driver", "model", "listed_as", "known"),
    [
        ("claude", "claude-sonnet-4-5", "claude-sonnet-4-5-20250929", True),
        ("claude", "claude-sonnet-4", "claude-sonnet-4-5", False),
        ("gemini", "models/g", "models/g", True),
        ("gemini", "tunedModels/g", "models/g", None),
        ("gemini_compatible", "g", "models/g", True),
        ("ollama", "llama3.2", "llama3.2:latest", True),
        ("ollama", "llama3.2", "llama3.2:1b", False),
        ("azure", "my-deployment", "gpt-6", None),
        ("openrouter", "a/b:online", "a/b", None),
        ("groq", "b", "a", False),
    ],
)
def test_a_model_may_have_two_names(
    driver: str, model: str, listed_as: str, known: bool | None, provider: Provider, configure: Configure
) -> None:
    configure(it={"DRIVER": driver, "API_KEY": KEY, "MODEL": model, "BASE_URL": provider.url})
    items = [{"id": listed_as, "name": listed_as}]
    provider.answer(listed({"data": items, "models": items}))
    verdict = probe("it")
    assert (verdict.model_known, verdict.ok) == (known, known is not False)
    assert ("which may lack some" in verdict.advice) is (known is None)


@pytest.mark.parametrize(("name", "tells"), [("groq", True), ("openrouter", None), ("llamacpp", None)])
def test_a_public_list_says_nothing_of_the_key(
    name: str, tells: bool | None, provider: Provider, configure: Configure
) -> None:
    configure(it={"DRIVER": name, "API_KEY": KEY, "MODEL": "m", "BASE_URL": provider.url})
    provider.answer(listed({"data": [{"id": "m"}]}))
    verdict = probe("it")
    assert (verdict.ok, verdict.key_accepted) == (True, tells)
    assert ("may be open to anyone" in verdict.advice) is (tells is None)


def test_no_key_is_no_verdict_on_a_key(provider: Provider, configure: Configure) -> None:
    configure(it={"DRIVER": "vllm", "MODEL": "m", "BASE_URL": provider.url})
    provider.answer(listed({"data": [{"id": "m"}]}))
    verdict = probe("it")
    assert (verdict.ok, verdict.key_accepted, verdict.advice) == (True, None, "")


def test_an_entry_without_a_model_is_told(wire: Wire, provider: Provider, configure: Configure) -> None:
    configure(it=wire.settings(provider.url, MODEL=None))
    provider.answer(page(wire, NAMES))
    verdict = probe("it")
    assert (verdict.ok, verdict.model, verdict.model_known) == (True, None, None)
    assert verdict.advice == "No MODEL is set: add it to the entry, or name one in each call."


@pytest.mark.parametrize(
    ("status", "body", "ok", "reachable", "key_accepted", "words"),
    [
        (
            400,
            b'{"error": {"message": "messages is required"}}',
            True,
            True,
            None,
            "only an API for messages",
        ),
        (422, b'{"detail": "Field required"}', True, True, None, "only an API for messages"),
        (401, b"{}", False, True, False, "API_KEY"),
        (404, b"not found", False, True, None, "Check BASE_URL: the API is not there."),
        (405, b"", False, True, None, "Check BASE_URL: the API is not there."),
        (500, b"", False, True, None, "check again"),
    ],
)
@pytest.mark.parametrize("missing", [404, 405, 501, None])
def test_an_api_without_a_list_is_knocked_at(
    missing: int | None,
    status: int,
    body: bytes,
    ok: bool,
    reachable: bool,
    key_accepted: bool | None,
    words: str,
    provider: Provider,
    configure: Configure,
) -> None:
    name = "openai_chat" if missing else UNLISTED
    configure(it={"DRIVER": name, "API_KEY": KEY, "MODEL": "m", "BASE_URL": provider.url})
    provider.answer(*([Answer(missing, body=b"no")] if missing else []), Answer(status, JSON, body))
    verdict = probe("it")
    assert (verdict.ok, verdict.reachable, verdict.key_accepted) == (ok, reachable, key_accepted)
    assert words in verdict.advice
    knock = provider.requests[-1]
    assert (knock.method, knock.path, knock.body) == ("POST", "/chat/completions", b"{}")


async def awaited_key() -> str:
    return KEY


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"DRIVER": "claude", "MODEL": "m"}, "claude needs 'API_KEY'; add it."),
        ({"DRIVER": "claude", "API_KEY": lambda: "a b\n"}, "white space or a line break"),
        ({"DRIVER": "claude", "API_KEY": lambda: None}, "is None: its callable must return a string"),
        ({"DRIVER": "claude", "API_KEY": awaited_key}, "must be an ordinary function"),
        ({"DRIVER": "clade"}, "there is no driver 'clade'. Did you mean 'claude'?"),
        ({"DRIVER": "compatible"}, "compatible needs 'BASE_URL'; add it."),
        ({"DRIVER": "no.such.Driver"}, "can't be imported"),
        ("claude", "must be a dict"),
    ],
)
def test_a_wrong_entry_is_a_verdict(entry: Any, words: str, configure: Configure) -> None:
    configure(echo={}, it=entry)
    verdict = probe("it")
    assert (verdict.ok, verdict.reachable) == (False, None)
    assert words in verdict.error
    assert verdict.advice == "Fix settings.BUPPLE_ENGINE."
    assert probe("echo").ok


def test_an_alias_that_is_not_there_is_a_verdict() -> None:
    verdict = probe("nobody")
    assert (verdict.alias, verdict.driver, verdict.ok) == ("nobody", "", False)
    assert "There is no driver 'nobody'" in verdict.error


@pytest.mark.parametrize("value", [None, {}, {"DRIVERS": []}, "claude"])
def test_settings_that_name_no_driver_have_no_verdicts(value: Any, settings: Any) -> None:
    settings.BUPPLE_ENGINE = value
    assert probe_all() == []


def test_drivers_are_probed_side_by_side(provider: Provider, configure: Configure) -> None:
    meeting = threading.Barrier(3, timeout=30)

    def meet(request: Any) -> Answer:
        meeting.wait()
        return page(WIRES[0], [WIRES[0].model])

    provider.answer(meet, repeat=True)
    configure(**{alias: WIRES[0].settings(provider.url) for alias in ("c", "a", "b")})
    verdicts = probe_all()
    assert [(verdict.alias, verdict.ok) for verdict in verdicts] == [("c", True), ("a", True), ("b", True)]
    provider.answer(page(WIRES[0], []), repeat=True)
    assert [verdict.alias for verdict in probe_all(iter(["b", "nobody"]))] == ["b", "nobody"]


# Servers whose list of models says nothing of calls

NO_PATH = [
    Answer(404, JSON, b'{"detail": "Not Found"}'),
    Answer(404, body=b"404 page not found"),
    Answer(405, JSON, b'{"detail": "Method Not Allowed"}'),
    Answer(501, body=b"<html>Unsupported method</html>"),
    Answer(200, JSON, b'{"error": "Unexpected endpoint or method. (POST /v1/responses)"}'),
]
OTHERS = {
    "openai": ("openai_chat", "compatible"),
    "openai_chat": (),
    "claude": ("compatible",),
    "gemini": ("compatible",),
}


@pytest.mark.parametrize("refusal", NO_PATH, ids=lambda answer: str(answer.status))
def test_a_list_alone_is_no_sign_that_calls_go_there(
    wire: Wire, refusal: Answer, provider: Provider, configure: Configure
) -> None:
    configure(it=wire.settings(provider.url))
    provider.answer(page(wire, [wire.model]), refusal)
    verdict = probe("it")
    assert (verdict.ok, verdict.reachable) == (False, True)
    assert verdict.error.startswith("The list of models is there, but a call fails: ")
    path = provider.requests[-1].path
    assert f"Nothing answers at {path.partition('?')[0]}" in verdict.advice
    for name in OTHERS[wire.name]:
        assert f'"{name}"' in verdict.advice


@pytest.mark.parametrize(
    "answer",
    [
        NO_MESSAGES,
        Answer(422, JSON, b'{"detail": "Field required"}'),
        Answer(404, JSON, b'{"error": {"message": "The model `None` does not exist.", "code": 404}}'),
        Answer(404, JSON, b'{"error": {"code": "DeploymentNotFound", "message": "No such deployment."}}'),
        Answer(500, body=b"key 'messages' not found"),
        Answer(429, JSON, b"{}"),
        Answer(hold=60),
    ],
    ids=["400", "422", "model", "deployment", "500", "429", "silence"],
)
def test_any_other_answer_to_an_empty_object_is_a_sign_of_the_api(
    answer: Answer, provider: Provider, configure: Configure
) -> None:
    wire = WIRES[0]
    configure(it=wire.settings(provider.url))
    provider.answer(page(wire, [wire.model]), answer)
    verdict = probe("it", HASTE if answer.hold else 10.0)
    assert (verdict.ok, verdict.model_known, verdict.advice) == (True, True, "")


def test_a_key_that_only_calls_want_is_told(provider: Provider, configure: Configure) -> None:
    configure(it={"DRIVER": "compatible", "API_KEY": KEY, "MODEL": "m", "BASE_URL": f"{provider.url}/v1"})
    provider.answer(listed({"data": [{"id": "m"}]}), Answer(401, JSON, b'{"error": "No such key."}'))
    verdict = probe("it")
    assert (verdict.ok, verdict.key_accepted, verdict.model_known) == (False, False, True)


@pytest.mark.parametrize("verb", VERBS)
def test_a_call_to_a_path_that_is_not_there_names_what_to_try(
    verb: str, wire: Wire, provider: Provider, configure: Configure
) -> None:
    configure(it=wire.settings(provider.url, MAX_RETRIES=0))
    provider.answer(Answer(404, JSON, b'{"detail": "Not Found"}'))
    error = run(ai(), verb, "Hello").error
    assert isinstance(error, ModelNotFoundError)
    for name in OTHERS[wire.name]:
        assert f'"{name}"' in str(error)
    assert "BASE_URL" in str(error)
    assert pickle.loads(pickle.dumps(error)).advice == error.advice  # noqa: S301 - our own


def test_a_model_that_is_not_there_names_the_model_alone(
    wire: Wire, provider: Provider, configure: Configure
) -> None:
    configure(it=wire.settings(provider.url))
    provider.answer(Answer(404, JSON, b'{"error": {"message": "The model `m` does not exist."}}'))
    error = run(ai(), "send", "Hello").error
    assert "Check the entry's MODEL and BASE_URL." in str(error)
    assert "DRIVER" not in str(error)


@pytest.mark.parametrize(("path", "advised"), [("", True), ("/v1", False), ("/gateway", True)])
def test_a_url_without_its_version_is_told(
    path: str, advised: bool, provider: Provider, configure: Configure
) -> None:
    configure(it={"DRIVER": "compatible", "MODEL": "m", "BASE_URL": provider.url + path})
    provider.answer(Answer(404, body=b"404 page not found"))
    error = run(ai(), "send", "Hello").error
    assert f"Nothing answers at {path}/chat/completions" in str(error)
    assert ("most servers have end in /v1" in str(error)) is advised


@pytest.fixture
def verdicts(provider: Provider, configure: Configure) -> Iterator[list[Verdict]]:
    """Give verdicts of all kinds, on entries full of secrets that a provider quotes."""
    secrets = {"API_KEY": KEY, "HEADERS": {"X-Auth": "header-secret"}, "MODEL": "m"}
    url = provider.url.replace("://", "://user:pass%20word@")
    quoted = f"Bad key {KEY} of user:pass word, header-secret, pass%20word".encode()

    def answer(request: Any) -> Answer:
        kind = request.path.split("/")[1]
        return {
            "good": listed({"data": [{"id": "m"}]}),
            "refused": Answer(401, JSON, json.dumps({"error": {"message": quoted.decode()}}).encode()),
            "broken": Answer(500, body=quoted),
            "garbage": Answer(body=quoted),
        }[kind]

    provider.answer(answer, repeat=True)
    kinds = ("good", "refused", "broken", "garbage")
    configure(
        **{kind: {"DRIVER": "openai_chat", **secrets, "BASE_URL": f"{url}/{kind}"} for kind in kinds},
        misspelt={"DRIVER": "openai", **secrets, "TEMPRATURE": 1},
    )
    yield probe_all()
    assert len(provider.requests) == 5  # where there is a list, calls are asked for too


def test_no_verdict_shows_a_secret(verdicts: list[Verdict]) -> None:
    assert [verdict.ok for verdict in verdicts] == [True, False, False, False, False]
    for verdict in verdicts:
        for text in (repr(verdict), json.dumps(verdict.as_dict())):
            for secret in (KEY, "header-secret", "pass%20word", "pass word"):
                assert secret not in text


def test_a_verdict_goes_through_json(verdicts: list[Verdict]) -> None:
    for verdict in verdicts:
        assert Verdict.from_dict(json.loads(json.dumps(verdict.as_dict()))) == verdict
        with pytest.raises(AttributeError):
            verdict.ok = True  # type: ignore[misc]


def test_long_words_of_a_provider_are_cut(provider: Provider, configure: Configure) -> None:
    configure(it=WIRES[0].settings(provider.url))
    provider.answer(Answer(500, JSON, json.dumps({"error": {"message": "x" * 9_000}}).encode()))
    assert len(probe("it").error) == 500
