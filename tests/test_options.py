"""Options: each moves the payload or is refused before any I/O, and a wrong one is told by its name."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import environ
import pytest
from django.core.exceptions import ImproperlyConfigured

from bupple_engine import EngineError, InvalidDriverError, InvalidRequestError, UnsupportedFeatureError, ai
from bupple_engine.conf import max_threads
from bupple_engine.conf.env import engine_settings
from bupple_engine.drivers import DRIVERS
from bupple_engine.protocol.options import Clocks
from bupple_engine.wires.services import SERVICES
from tests.conftest import Configure
from tests.provider import Provider
from tests.pure import HELLO, NO_STREAM_OPTIONS, begin, body, build, wire
from tests.verbs import VERBS, run

OURS = ["openai", "openai_chat", "claude", "gemini"]
HTTP = [name for name in DRIVERS if name not in ("local", "echo")]
WIRES = [*HTTP, "local"]
KEY = "sk-0123456789abcdef"
SAMPLING: dict[str, Any] = {
    "temperature": 0.5,
    "max_tokens": 50,
    "top_p": 0.25,
    "stop": ["END", "\n"],
    "seed": 7,
}

# Where each driver has each option in its body; a reason where it cannot be sent.
CHAT = {name: name for name in SAMPLING}
PLACES: dict[str, dict[str, str]] = {
    "openai": {"temperature": "temperature", "max_tokens": "max_output_tokens", "top_p": "top_p"},
    "openai_chat": {**CHAT, "max_tokens": "max_completion_tokens"},
    "claude": {"max_tokens": "max_tokens", "stop": "stop_sequences"},
    "gemini": {
        "temperature": "generationConfig.temperature",
        "max_tokens": "generationConfig.maxOutputTokens",
        "top_p": "generationConfig.topP",
        "stop": "generationConfig.stopSequences",
        "seed": "generationConfig.seed",
    },
    "local": CHAT,
    **{name: {**CHAT, "max_tokens": row.max_tokens_param} for name, row in SERVICES.items()},
}
PLACES["mistral"]["seed"] = "random_seed"
for _name in ("stop", "seed"):
    del PLACES["perplexity"][_name]


def at(payload: Any, path: str) -> Any:
    """Look a dotted path up; None where there is nothing."""
    for name in path.split("."):
        payload = payload.get(name) if isinstance(payload, dict) else None
    return payload


def bare(driver: str, stream: bool = False) -> Any:
    """Return the body that no option has touched."""
    return body(driver, stream=stream)


@pytest.mark.parametrize("source", ["settings", "call", "call over settings"])
@pytest.mark.parametrize(("driver", "name"), [*itertools.product(WIRES, SAMPLING)])
def test_an_option_moves_the_payload_or_is_refused(driver: str, name: str, source: str) -> None:
    value = SAMPLING[name]
    entry = {name.upper(): 1 if source == "call over settings" and name != "stop" else value}
    entry = {} if source == "call" else entry
    call = {} if source == "settings" else {name: value}
    if name not in PLACES[driver]:
        with pytest.raises(UnsupportedFeatureError) as caught:
            body(driver, entry=entry, **call)
        assert (caught.value.code, caught.value.param) == (0, name)
        assert str(caught.value).startswith(f"{name} can't be sent by {driver}: ")
        return
    sent = body(driver, entry=entry, **call)
    assert at(sent, PLACES[driver][name]) == value
    # And nothing else has moved.
    root = PLACES[driver][name].partition(".")[0]
    assert {k: v for k, v in sent.items() if k != root} == {
        k: v for k, v in bare(driver).items() if k != root
    }


# Where each wire has the effort of reasoning, and what it says there.
EFFORTS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("reasoning", {"effort": "low"}),
    "claude": ("output_config", {"effort": "low"}),
    "gemini": ("generationConfig.thinkingConfig", {"thinkingLevel": "LOW"}),
}


@pytest.mark.parametrize("driver", HTTP)
def test_an_effort_goes_where_the_api_has_it_beneath_extra(driver: str) -> None:
    path, effort = EFFORTS.get(driver, ("", {}))
    for sent in (
        body(driver, entry={"REASONING_EFFORT": "low"}),
        body(driver, entry={"REASONING_EFFORT": "high"}, reasoning_effort="low"),
    ):
        assert (at(sent, path) if path else {"effort": sent["reasoning_effort"]}) == (
            effort or {"effort": "low"}
        )
    assert "low" not in json.dumps(body(driver)).lower()
    root, _, rest = path.partition(".")
    beside: dict[str, Any] = {root: {rest: {"other": 1}} if rest else {"other": 1}} if path else {"other": 1}
    sent = body(driver, extra=beside, reasoning_effort="low")
    assert (at(sent, path) if path else sent)["other"] == 1
    if not path:
        assert (
            body(driver, extra={"reasoning_effort": "x"}, reasoning_effort="low")["reasoning_effort"] == "x"
        )


@pytest.mark.parametrize(
    ("driver", "model", "effort", "sent"),
    [
        ("gemini", "gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini", "models/gemini-2.5-pro", "high", {"thinkingBudget": 24576}),
        ("gemini", "gemini-4-argon", "xhigh", {"thinkingLevel": "XHIGH"}),
        ("gemini", "gemini-2.5-flash", "max", None),
        ("gemini", "gemini-3.8-flash", "none", None),
        ("claude", "m", "none", None),
        ("claude", "m", "minimal", None),
        ("claude", "m", "max", {"effort": "max"}),
        ("local", "m", "low", None),
        ("openai", "m", "a_word_of_next_year", {"effort": "a_word_of_next_year"}),
    ],
)
def test_an_effort_that_the_api_has_no_word_for_is_refused_before_the_call(
    driver: str, model: str, effort: str, sent: dict[str, Any] | None
) -> None:
    entry = {"MODEL": model, "REASONING_EFFORT": effort}
    if sent is None:
        with pytest.raises(UnsupportedFeatureError) as caught:
            body(driver, entry=entry)
        assert (caught.value.code, caught.value.param) == (0, "reasoning_effort")
        return
    path = EFFORTS[driver][0]
    assert at(body(driver, entry=entry), path) == sent


def test_an_effort_says_whether_a_model_takes_sampling() -> None:
    for driver in ("openai", "openai_chat"):
        it, model = wire(driver), {"model": "gpt-6-sol", "temperature": 0.5}
        assert [*it.refused_options(model)]
        assert not [*it.refused_options({**model, "reasoning_effort": "none"})]


# What is sent where nothing was set: the messages, and what the API must have.
NOTHING: dict[str, set[str]] = {
    "openai": {"model", "input", "store"},
    "openai_chat": {"model", "messages", "store"},
    "claude": {"model", "messages", "max_tokens"},
    "gemini": {"contents"},
}


@pytest.mark.parametrize("driver", WIRES)
def test_nothing_is_sent_that_was_not_set(driver: str) -> None:
    for stream in (False, True):
        sent = body(driver, entry={"DRIVER": driver}, stream=stream)
        expected = NOTHING.get(driver, {"model", "messages"})
        if driver == "local":  # this small model needs them
            expected = expected | {"temperature", "top_p", "max_tokens"}
        if stream and driver != "gemini":
            expected = expected | {"stream"}
        if stream and driver not in ("openai", "claude", "gemini", *NO_STREAM_OPTIONS):
            expected = expected | {"stream_options"}
        assert set(sent) == expected
    assert sent.get("store", False) is False
    assert sent.get("max_tokens", 8192) == (1024 if driver == "local" else 8192)
    for none in SAMPLING:  # None is an option that is not given
        assert body(driver, **{none: None}) == bare(driver)


@pytest.mark.parametrize("name", ["temperature", "top_p"])
def test_claude_takes_sampling_at_its_older_version_only(name: str) -> None:
    entry = {"API_VERSION": "2023-06-01"}
    assert body("claude", entry=entry, **{name: 0.5})[name] == 0.5
    with pytest.raises(UnsupportedFeatureError, match="2026-10-21"):
        body("claude", entry={"API_VERSION": "2026-10-21"}, **{name: 0.5})


@pytest.mark.parametrize("driver", HTTP)
def test_model_key_extra_and_headers(driver: str) -> None:
    secret = "sk-of-the-call-0123"
    entry = {"HEADERS": {"X-Site": "1", "User-Agent": "site"}, "EXTRA": {"a": {"b": 1, "c": 1}, "model": "x"}}
    request = build(
        driver,
        entry=entry,
        model="other",
        api_key=secret,
        headers={"x-site": "2", "X-Call": "3"},
        extra={"a": {"c": 2}, "d": [3]},
    )
    sent = json.loads(request.body)
    assert (sent["a"], sent["d"], sent["model"]) == ({"b": 1, "c": 2}, [3], "x")  # extra is merged last
    plain = build(driver, model="other")
    assert ("/other:" in plain.url) if driver == "gemini" else (json.loads(plain.body)["model"] == "other")
    assert secret in "".join(request.headers.values())
    found = {name.lower(): value for name, value in request.headers.items()}
    assert len(found) == len(request.headers)
    assert (found["x-site"], found["x-call"], found["user-agent"]) == ("2", "3", "site")
    assert secret not in repr(request) + repr(request.headers)


def test_a_key_may_be_a_callable() -> None:
    keys = iter(["first-key", "second-key"])
    it = {"API_KEY": lambda: next(keys)}
    assert [build("openai", entry=it).headers["Authorization"] for _ in "ab"] == [
        "Bearer first-key",
        "Bearer second-key",
    ]


@pytest.mark.parametrize(
    ("driver", "entry", "found"),
    [
        ("openai", {"ORGANIZATION_ID": "org"}, {"OpenAI-Organization": "org"}),
        ("openai", {"PROJECT_ID": "proj"}, {"OpenAI-Project": "proj"}),
        ("openai_chat", {"ORGANIZATION_ID": "org"}, {"OpenAI-Organization": "org"}),
        ("openai_chat", {"PROJECT_ID": "proj"}, {"OpenAI-Project": "proj"}),
        ("gemini", {"PROJECT_ID": "proj"}, {"x-goog-user-project": "proj"}),
        ("claude", {}, {"anthropic-version": "2026-10-21"}),
        ("claude", {"API_VERSION": "2023-06-01"}, {"anthropic-version": "2023-06-01"}),
        ("claude", {"BETA": "a,b"}, {"anthropic-beta": "a,b"}),
        ("compatible", {"AUTH": "api-key"}, {"api-key": KEY}),
        ("compatible", {"AUTH": "none"}, {}),
        ("azure", {"AUTH": "bearer"}, {"Authorization": f"Bearer {KEY}"}),
        ("openai", {"BASE_URL": "https://us:p%40ss@host/v1"}, {"Authorization": f"Bearer {KEY}"}),
        ("claude", {"BASE_URL": "https://us:p%40ss@host"}, {"Authorization": "Basic dXM6cEBzcw=="}),
        ("claude", {"BASE_URL": "https://us:p%40ss@host"}, {"x-api-key": KEY}),
    ],
)  # fmt: skip
def test_options_that_are_headers(driver: str, entry: dict[str, Any], found: dict[str, str]) -> None:
    usual = {"Content-Type", "User-Agent", "Accept", "Accept-Encoding"}
    headers = build(driver, entry={"BASE_URL": "http://host", **entry}).headers
    own = {name: value for name, value in headers.items() if name not in usual}
    auth = {"Authorization", "x-api-key", "x-goog-api-key", "anthropic-version"}
    assert found.items() <= own.items()
    assert set(own) - auth == set(found) - auth
    if entry.get("AUTH"):
        assert own == found


def test_options_of_chat_completions_alone() -> None:
    assert (
        body("compatible", entry={"MAX_TOKENS_PARAM": "max_completion_tokens"}, max_tokens=5)[
            "max_completion_tokens"
        ]
        == 5
    )
    assert body("openai_chat", entry={"MAX_TOKENS_PARAM": "max_tokens"}, max_tokens=5)["max_tokens"] == 5
    assert "stream_options" not in body("groq", entry={"STREAM_USAGE": False}, stream=True)
    assert body("mistral", entry={"STREAM_USAGE": True}, stream=True)["stream_options"] == {
        "include_usage": True
    }
    assert "stream_options" not in body("groq", entry={"STREAM_USAGE": True})


@pytest.mark.parametrize("driver", HTTP)
def test_clocks_and_retries(driver: str, configure: Configure) -> None:
    entry = {"DRIVER": driver, "API_KEY": "k", "MODEL": "m", "BASE_URL": "http://host"}
    configure(it={**entry, "TIMEOUT": {"idle": 7, "total": 50}, "MAX_RETRIES": 5})

    def prepared(**options: Any) -> Any:
        stream = ai().stream(HELLO, **options)  # nothing is sent before its first chunk is asked for
        exchange: Any = stream._call.exchange
        return exchange

    assert prepared().clocks == Clocks(connect=5, first_token=50, idle=7, total=50)
    assert prepared(timeout={"connect": 1}).clocks == Clocks(connect=1, first_token=50, idle=7, total=50)
    assert prepared(timeout=3).clocks == Clocks(connect=3, first_token=3, idle=3, total=3)
    assert (prepared().max_retries, prepared(max_retries=0).max_retries) == (5, 0)
    assert begin("openai").clocks == Clocks(connect=5, first_token=60, idle=60, total=600)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("driver", "options", "expected"),
    [
        ("openai", {"stop": "x"}, UnsupportedFeatureError),
        ("claude", {"seed": 1}, UnsupportedFeatureError),
        ("claude", {"temperature": 1}, UnsupportedFeatureError),
        ("gemini", {"temprature": 1}, InvalidRequestError),
        ("openai_chat", {"seed": "1"}, InvalidRequestError),
        ("openai_chat", {"extra": {"a": {1, 2}}}, InvalidRequestError),
        ("openai_chat", {"extra": {"a": float("nan")}}, InvalidRequestError),
    ],
)
def test_bad_options_fail_before_any_io(
    driver: str,
    options: dict[str, Any],
    expected: type[EngineError],
    verb: str,
    provider: Provider,
    configure: Configure,
) -> None:
    configure(it={"DRIVER": driver, "API_KEY": "k", "MODEL": "m", "BASE_URL": provider.url})
    error = run(ai(), verb, HELLO, **options).error
    assert type(error) is expected
    assert (error.code, error.param) == (0, *options) or driver == "gemini"
    assert provider.connections == 0


# Wrong values: of any type but the right one, and out of bounds.
WRONG: dict[str, list[Any]] = {
    "api_key": [7, ["k"], " sk-1", "sk-1\n"],
    "model": ["", " ", 7, ["m"], "\ud83d"],
    "temperature": ["0.5", True, -0.1, float("nan"), float("inf"), []],
    "max_tokens": ["5", True, 0, -1, 1.5],
    "top_p": ["1", True, -0.1, 1.1],
    "stop": ["", [], [""], [7], 7, {"a": 1}, ["\ud83d"]],
    "seed": ["7", True, 1.5],
    "timeout": ["5", True, 0, -1, float("inf"), {}, {"read": 5}, {"total": 0}, {"total": "5"}],
    "max_retries": ["2", True, -1, 1.5],
    "extra": ["x", [("a", 1)], {1: 2}],
    "headers": ["x", [("a", "b")], {"a b": "c"}, {"": "c"}, {"ä": "c"}, {1: "a"}, {"a": 7}, {"a": "☃"}],
}
WRONG_ENTRY: dict[tuple[str, str], list[Any]] = {
    ("openai", "BASE_URL"): ["host", "ftp://host", "http://", "http://host:port", "http://[", 7, ""],
    ("openai", "PROXY"): ["host:3128", "http://", 7],
    ("openai", "CA_FILE"): ["", 7],
    ("openai", "ORGANIZATION_ID"): ["", 7],
    ("claude", "API_VERSION"): [20230601],
    ("compatible", "AUTH"): ["basic", True],
    ("compatible", "MAX_TOKENS_PARAM"): ["tokens"],
    ("compatible", "STREAM_USAGE"): ["yes", 1],
}
WRONG["headers"] += [{"a": "b\nc"}, {"a": " b"}]
CASES = [(name, value) for name, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CASES, ids=lambda it: ascii(it))
def test_a_wrong_value_is_told_by_its_name(name: str, value: Any, configure: Configure) -> None:
    configure(it={"DRIVER": "openai_chat", "API_KEY": "k", "MODEL": "m"})
    ways: list[Callable[[], Any]] = [lambda: ai().stream(HELLO, **{name: value}), lambda: ai(**{name: value})]
    for way in ways:
        with pytest.raises(InvalidRequestError) as caught:
            way()
        assert (caught.value.code, caught.value.param) == (0, name)
        assert str(caught.value).startswith(f"{name} ")
    if (name, value) != ("model", ""):  # in the settings it is as good as missing: see below
        wrong_in_settings("openai_chat", name.upper(), value, configure)


@pytest.mark.parametrize("key", ["API_KEY", "MODEL"])
def test_what_an_unset_variable_gives_is_missing(key: str, configure: Configure) -> None:
    configure(it={"DRIVER": "openai_chat", "API_KEY": "k", "MODEL": "m", key: ""})
    with pytest.raises(ImproperlyConfigured, match=f"openai_chat needs '{key}'"):
        ai().stream(HELLO)


@pytest.mark.parametrize(
    ("driver", "key", "value"),
    [(*where, value) for where, values in WRONG_ENTRY.items() for value in values],
    ids=repr,
)
def test_a_wrong_value_in_settings_is_told_by_its_address(
    driver: str, key: str, value: Any, configure: Configure
) -> None:
    wrong_in_settings(driver, key, value, configure)


def wrong_in_settings(driver: str, key: str, value: Any, configure: Configure) -> None:
    """See a wrong value in an entry be told by its address."""
    configure(it={"DRIVER": driver, "API_KEY": "k", "MODEL": "m", key: value})
    with pytest.raises(ImproperlyConfigured) as caught:
        ai()
    assert str(caught.value).startswith(f"BUPPLE_ENGINE['DRIVERS']['it']['{key}'] ")
    assert not isinstance(caught.value, EngineError)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temprature": 1}, "'temprature' is unknown. Did you mean 'temperature'?"),
        ({"TEMPERATURE": 1}, "'TEMPERATURE' is unknown. Did you mean 'temperature'?"),
        ({"base_url": "http://x"}, "'base_url' belongs to the entry in settings, not to a call."),
        (
            {"zzz": None},
            "'zzz' is unknown. Known are api_key, delay, extra, headers, max_retries",
        ),
    ],
)
def test_an_unknown_option_is_an_error_that_helps(
    options: dict[str, Any], words: str, configure: Configure
) -> None:
    configure(it={"DRIVER": "echo"})
    with pytest.raises(InvalidRequestError) as caught:
        ai().send(HELLO, **options)
    assert words in str(caught.value)
    assert caught.value.param == next(iter(options))


# The settings

ECHO = {"DRIVER": "echo"}
BAD_SETTINGS: list[tuple[Any, str]] = [
    (None, "settings.BUPPLE_ENGINE is not set. Add, for a driver that needs no key: BUPPLE_ENGINE = {"),
    ([], "BUPPLE_ENGINE must be a dict, not a list."),
    ({"DRIVER": {}}, "BUPPLE_ENGINE: unknown key 'DRIVER'. Did you mean 'DRIVERS'?"),
    ({}, "BUPPLE_ENGINE['DRIVERS'] must be a dict of aliases and their entries."),
    ({"DRIVERS": []}, "BUPPLE_ENGINE['DRIVERS'] must be a dict of aliases and their entries."),
    ({"DRIVERS": {}}, "BUPPLE_ENGINE['DRIVERS'] is empty: there is no driver."),
    ({"DRIVERS": {"a": ECHO, "b": ECHO}}, "BUPPLE_ENGINE['DEFAULT'] is not set; set it to one of 'a', 'b'."),
    (
        {"DEFAULT": "x", "DRIVERS": {}},
        "BUPPLE_ENGINE['DEFAULT'] is 'x', which no driver has. There are none.",
    ),
    (
        {"DEFAULT": "cloude", "DRIVERS": {"claude": {}}},
        "BUPPLE_ENGINE['DEFAULT'] is 'cloude', which no driver has. Did you mean 'claude'?",
    ),
    ({"DRIVERS": {"echo": None}}, "BUPPLE_ENGINE['DRIVERS']['echo'] must be a dict."),
    (
        {"DRIVERS": {"claude": {"TEMPRATURE": 1}}},
        "BUPPLE_ENGINE['DRIVERS']['claude']: unknown option 'TEMPRATURE'. Did you mean 'TEMPERATURE'?",
    ),
    (
        {"DRIVERS": {"claude": {"temperature": 1}}},
        "BUPPLE_ENGINE['DRIVERS']['claude']: unknown option 'temperature'.",
    ),
    ({"DRIVERS": {"claude": {"ORGANIZATION_ID": "x"}}}, "BUPPLE_ENGINE['DRIVERS']['claude']: unknown option"),
    ({"DRIVERS": {"it": {}}}, "BUPPLE_ENGINE['DRIVERS']['it']: there is no driver 'it'."),
    (
        {"DRIVERS": {"it": {"DRIVER": "opena"}}},
        "BUPPLE_ENGINE['DRIVERS']['it']: there is no driver 'opena'. Did you mean 'openai'",
    ),
    (
        {"DRIVERS": {"it": {"DRIVER": ["echo"]}}},
        "BUPPLE_ENGINE['DRIVERS']['it']['DRIVER'] must be a short name or a dotted path.",
    ),
    (
        {"DRIVERS": {"it": {"DRIVER": "no.such.Driver"}}},
        "BUPPLE_ENGINE['DRIVERS']['it']['DRIVER']: 'no.such.Driver' can't be imported",
    ),
    (
        {"DRIVERS": {"it": {"DRIVER": "json.loads"}}},
        "BUPPLE_ENGINE['DRIVERS']['it']['DRIVER']: 'json.loads' is no subclass of ChatDriver or Wire.",
    ),
]


@pytest.mark.parametrize(("value", "words"), BAD_SETTINGS, ids=[words[:60] for _, words in BAD_SETTINGS])
def test_a_mistake_in_settings_is_told_by_its_address(value: Any, words: str, settings: Any) -> None:
    settings.BUPPLE_ENGINE = value
    with pytest.raises(ImproperlyConfigured) as caught:
        ai()
    assert str(caught.value).startswith(words)


def test_an_unknown_alias_is_told_with_those_there_are(configure: Configure) -> None:
    configure(claude={}, fast={})
    with pytest.raises(InvalidDriverError, match=r"There is no driver 'nobody'.*Known are claude, fast\."):
        ai("nobody")


@pytest.mark.parametrize("value", [0, "5", True])
def test_threads_are_counted(value: Any, settings: Any) -> None:
    settings.BUPPLE_ENGINE = {"DRIVERS": {"echo": {}}, "MAX_THREADS": value}
    with pytest.raises(ImproperlyConfigured, match=r"BUPPLE_ENGINE\['MAX_THREADS'\]"):
        max_threads()
    settings.BUPPLE_ENGINE = {"DRIVERS": {"echo": {}}, "MAX_THREADS": 3}
    assert max_threads() == 3


@pytest.mark.parametrize(
    ("driver", "key"),
    [(name, key) for name in HTTP for key in wire(name).required],
)
def test_what_a_driver_needs_is_told_at_the_call(driver: str, key: str, configure: Configure) -> None:
    entry = {"DRIVER": driver, "API_KEY": "k", "MODEL": "m", "BASE_URL": "http://host"}
    del entry[key.upper()]
    empty = [{"API_KEY": ""}] if key == "api_key" else []  # as a variable that is not set gives it
    missing: Any
    for missing in ({}, {key.upper(): None}, *empty):
        configure(it={**entry, **missing})
        with pytest.raises(ImproperlyConfigured, match=rf"\['it'\]: {driver} needs '{key.upper()}'"):
            ai().stream(HELLO)


def test_required_keys() -> None:
    free = {
        "compatible", "docker", "gpustack", "litellm", "llamacpp", "llamafile", "lmstudio", "mistralrs",
        "ollama", "ovhcloud", "sglang", "vllm",
    }  # fmt: skip
    own = {
        "azure", "azure_inference", "bedrock", "bedrock_mantle", "cloudflare", "compatible", "databricks",
        "gpustack", "mistralrs", "snowflake", "vertex", "watsonx",
    }  # fmt: skip
    assert {name for name in HTTP if "api_key" not in wire(name).required} == free
    assert {name for name in HTTP if "base_url" in wire(name).required} == own
    assert all("model" in wire(name).required for name in HTTP)


# ai() and get_config()


def test_ai_lays_options_over_an_entry(configure: Configure) -> None:
    configure(
        it={"DRIVER": "claude", "API_KEY": "sk-of-the-entry", "MODEL": "m", "EXTRA": {"a": 1}, "TIMEOUT": 9}
    )
    plain, other = (
        ai("it"),
        ai("it", api_key="sk-of-a-tenant", max_tokens=5, extra={"b": 2}, base_url="http://host"),
    )
    assert plain is ai() is ai("it")
    assert type(plain) is type(other)
    assert plain is not other
    before, after = plain.get_config(), other.get_config()
    assert (before["api_key"], before["max_tokens"], before["base_url"]) == ("…ntry", 8192, None)
    assert (after["api_key"], after["max_tokens"], after["base_url"]) == ("…nant", 5, "http://host")
    assert (after["extra"], after["timeout"]["total"]) == ({"a": "…", "b": "…"}, 9)
    with pytest.raises(InvalidRequestError, match="api_key is empty"):
        ai("it", api_key="")  # not the entry's in place of a tenant's that is missing
    with pytest.raises(InvalidRequestError, match=r"'modle' is unknown\. Did you mean 'model'"):
        ai("it", modle="x")


SECRETS = {
    "API_KEY": "sk-0123456789abcd",
    "HEADERS": {"X-Token": "hush-hush"},
    "EXTRA": {"password": "hush-hush"},
    "BASE_URL": "https://user:hush-hush@host/v1?api_key=hush-hush&a=b",
    "PROXY": "http://user:hush-hush@proxy:3128",
}


@pytest.mark.parametrize("driver", DRIVERS)
def test_get_config_names_every_option_and_shows_no_secret(driver: str, configure: Configure) -> None:
    configure(it={"DRIVER": driver, **({} if driver == "local" else SECRETS)})
    config = ai().get_config()
    assert list(config)[:2] == ["alias", "driver"]
    assert (config["alias"], config["driver"]) == ("it", driver)
    assert set(config) - {"alias", "driver"} == set(ai().known_options)
    assert set(config["timeout"]) == {"connect", "first_token", "idle", "total"}
    assert config["max_retries"] == 2
    json.dumps(config)
    if driver != "local":
        assert config["api_key"] == "…abcd"
        assert (config["headers"], config["extra"]) == ({"X-Token": "…"}, {"password": "…"})
        assert config["base_url"] == "https://…@host/v1?api_key=…&a=b"
        assert config["proxy"] == "http://…@proxy:3128"
    assert "hush" not in repr(config) + repr(ai()) + repr(ai().config)


# The environment


def from_env(**variables: str) -> dict[str, Any]:
    """Return what the environment describes."""
    env = environ.Env()
    env.ENVIRON = variables
    return engine_settings(env)


def test_the_environment_describes_settings(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    found = from_env(
        BUPPLE_ENGINE_DEFAULT="claude",
        BUPPLE_ENGINE_CLAUDE_API_KEY="sk-1",
        BUPPLE_ENGINE_CLAUDE_MODEL="claude-sonnet-5-5",
        BUPPLE_ENGINE_CLAUDE_MAX_TOKENS="4096",
        BUPPLE_ENGINE_OPENAI_ORGANIZATION_ID="org",
        BUPPLE_ENGINE_OPENAI_PROJECT_ID="proj",
        BUPPLE_ENGINE_OPENAI_TEMPERATURE="0.5",
        BUPPLE_ENGINE_GEMINI_PROJECT_ID="proj",
        BUPPLE_ENGINE_VLLM_BASE_URL="http://gpu:8000/v1",
        BUPPLE_ENGINE_GROQ_API_KEY="",
        BUPPLE_ENGINE_NOBODY_API_KEY="x",
    )
    assert found == {
        "DEFAULT": "claude",
        "DRIVERS": {
            "openai": {"TEMPERATURE": 0.5, "ORGANIZATION_ID": "org", "PROJECT_ID": "proj"},
            "claude": {"API_KEY": "sk-1", "MODEL": "claude-sonnet-5-5", "MAX_TOKENS": 4096},
            "gemini": {"PROJECT_ID": "proj"},
            "vllm": {"BASE_URL": "http://gpu:8000/v1"},
        },
    }
    settings.BUPPLE_ENGINE = found
    assert ai().get_config()["max_tokens"] == 4096
    monkeypatch.setenv("BUPPLE_ENGINE_DEFAULT", "echo")
    assert engine_settings(drivers=["echo"]) == {"DEFAULT": "echo", "DRIVERS": {"echo": {}}}


def test_the_default_of_the_environment() -> None:
    assert from_env() == {"DRIVERS": {}}
    assert from_env(BUPPLE_DEFAULT_ENGINE_DRIVER="gemini") == {"DEFAULT": "gemini", "DRIVERS": {"gemini": {}}}
    assert from_env(BUPPLE_ENGINE_XAI_API_KEY="k")["DEFAULT"] == "xai"
    both = from_env(BUPPLE_DEFAULT_ENGINE_DRIVER="gemini", BUPPLE_ENGINE_DEFAULT="echo")
    assert both == {"DEFAULT": "echo", "DRIVERS": {"echo": {}}}
    env = environ.Env()
    env.ENVIRON = {}
    assert engine_settings(env, default="local") == {"DEFAULT": "local", "DRIVERS": {"local": {}}}


@pytest.mark.parametrize("name", ["TEMPERATURE", "MAX_TOKENS"])
def test_a_number_that_is_none_is_told_when_it_is_used(name: str, settings: Any) -> None:
    """Settings that raise would stop every command, the check among them."""
    settings.BUPPLE_ENGINE = from_env(**{f"BUPPLE_ENGINE_GEMINI_{name}": "warm"})
    with pytest.raises(ImproperlyConfigured, match=rf"\['gemini'\]\['{name}'\] must be .*, not 'warm'"):
        ai()


def test_a_callable_key_is_asked_once_a_call(configure: Configure) -> None:
    asked: list[int] = []

    def vault() -> str:
        asked.append(1)
        return "sk-test-0123456789abcd"

    configure(claude={"API_KEY": vault, "MODEL": "m"})
    ai().stream([{"role": "user", "content": "Hello"}])
    assert asked == [1]
    assert ai().get_config()["api_key"] == "…"


def test_a_callable_key_is_asked_in_a_thread(configure: Configure) -> None:
    """A vault's answer is waited for, and the event loop goes on meanwhile."""
    asked_in: list[bool] = []

    def vault() -> str:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            asked_in.append(True)
        raise OSError("The vault is closed.")

    configure(claude={"API_KEY": vault, "MODEL": "m"})
    for call in (lambda: ai().asend([{"role": "user", "content": "Hello"}]), lambda: ai().amodels()):
        with pytest.raises(OSError, match="closed"):
            asyncio.run(call())
    assert asked_in == [True, True]


def test_a_path_may_be_an_object(configure: Configure, tmp_path: Path) -> None:
    configure(
        claude={"API_KEY": "sk-test-0123456789abcd", "MODEL": "m", "CA_FILE": tmp_path / "ca.pem"},
        local={"MODEL_PATH": tmp_path / "m.gguf"},
    )
    assert ai().get_config()["ca_file"] == str(tmp_path / "ca.pem")
    assert ai("local").get_config()["model_path"] == str(tmp_path / "m.gguf")


def test_a_tenant_without_a_key_is_not_billed_to_the_site(configure: Configure) -> None:
    configure(claude={"API_KEY": "sk-test-0123456789abcd", "MODEL": "m"})
    for key in (None, ""):
        with pytest.raises(InvalidRequestError, match="api_key"):
            ai("claude", api_key=key)
