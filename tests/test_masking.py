"""What looks like a key, what is masked of what others say, and what may be printed: pure functions."""

from __future__ import annotations

import base64
import copy
import html
import json
import pickle
import re
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from bupple_engine import ai, conf
from bupple_engine.api.base import load as load_path
from bupple_engine.conf.env import engine_settings
from bupple_engine.conf.naming import load
from bupple_engine.drivers import DRIVERS
from bupple_engine.masking import Hidden, MaskedDict, Secret, SecretURL, hide, mask_url, reveal
from bupple_engine.masking.keys import find_keys, looks_like_key, shown, unkeyed
from bupple_engine.masking.printing import one_line, printable
from bupple_engine.protocol.options import protect
from bupple_engine.protocol.request import Request
from bupple_engine.protocol.scrubbing import scrub, secrets_of

TAIL = "Tq6Zw3Xe9Rc1Vb5N"


# Keys

KEY = f"sk-{TAIL}"


def say(message: Any) -> object:
    return ai().send([message])


def read_environment(drivers: Any) -> object:
    return engine_settings(drivers=drivers)


ECHO: dict[str, Any] = {"DRIVER": "echo"}
# Where a key may have been pasted: what BUPPLE_ENGINE is then, and what somebody does with it.
PASTED: dict[str, tuple[dict[str, Any], Callable[[], object]]] = {
    "a key of the settings": ({"DRIVERS": {"it": ECHO}, KEY: {"MODEL": "m"}}, lambda: conf.default_alias()),
    "an alias, asked for by its model": (
        {"DRIVERS": {KEY: {**ECHO, "MODEL": "m"}, "it": ECHO}},
        lambda: ai("m"),
    ),
    "a driver": ({"DRIVERS": {"it": {"DRIVER": f"gpt-{KEY}"}}}, lambda: ai("it")),
    "a rate": (
        {"DRIVERS": {"it": ECHO}, "API": {"THROTTLE_RATES": {KEY: "1/s"}}},
        lambda: conf.api_settings(),
    ),
    "a dotted path": ({"DRIVERS": {"it": ECHO}}, lambda: load_path(f"{KEY}.Class", "PERMISSION_CLASSES")),
    "a driver's name": ({}, lambda: read_environment([{"API_KEY": KEY}])),
    "a message": ({"DRIVERS": {"it": ECHO}}, lambda: say(KEY)),
    "a message's key": ({"DRIVERS": {"it": ECHO}}, lambda: say({"role": "user", "content": "Hi", KEY: ""})),
    "a role": ({"DRIVERS": {"it": ECHO}}, lambda: say({"role": KEY, "content": "Hi"})),
    "a part's type": (
        {"DRIVERS": {"it": ECHO}},
        lambda: say({"role": "user", "content": [{"type": KEY, "content": "Hi"}]}),
    ),
}


@pytest.mark.parametrize("place", PASTED)
def test_a_key_in_place_of_a_name_is_not_shown(place: str, settings: Any) -> None:
    settings.BUPPLE_ENGINE, do = PASTED[place]
    with pytest.raises(Exception, match=f"…{KEY[-4:]}") as caught:  # of classes that a place has its own of
        do()
    assert KEY not in "".join(traceback.format_exception_only(caught.value))
    chain: BaseException | None = caught.value
    while chain is not None:
        assert KEY not in f"{chain} {chain.args} {vars(chain)}"
        chain = chain.__cause__


@pytest.mark.parametrize(
    "key",
    [
        f"sk-{TAIL}",
        f"sk-ant-api03-{TAIL}-{TAIL}_AA",
        f"AIzaSy{TAIL}{TAIL}",
        f"gsk_{TAIL.lower()}",
        "sk-" + "a" * 20,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJl0",
        "4f1d9c0b7a6e4d3c8b2a1f0e9d8c7b6a",
        f"{TAIL}{TAIL}",
    ],
)
def test_what_looks_like_a_key(key: str) -> None:
    assert looks_like_key(key)
    assert looks_like_key(f" {key}\n")
    for text in (unkeyed(key), shown(key), mask_url(f"https://llm.example.com/{key}/v1?model={key}")):
        assert key[:-4] not in text or len(key) == 32
        assert text.strip("'") == f"…{key[-4:]}" or "llm.example.com" in text


@pytest.mark.parametrize("name", DRIVERS)
def test_the_keys_of_each_driver_are_known(name: str) -> None:
    wire = load(name, name).wire
    for prefix in wire.key_prefixes if wire else ():
        assert find_keys(f"It is {prefix}{TAIL}.") == [f"{prefix}{TAIL}"]


@pytest.mark.parametrize(
    "name",
    [
        "claude-sonnet-4-5-20250929",
        "meta-llama/Llama-3.3-70B-Instruct-Turbo",
        "xai-grok-4-fast-reasoning",
        "ft:gpt-4.1-mini-2025-04-14:house::Bq7Zk2Xw",
        "accounts/fireworks/models/deepseek-v3p1",
        "@cf/meta/llama-3.3-70b-instruct-fp8-fast",
        "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-5",
        "projects/my-project/locations/global/endpoints/1234567890123456789",
        "sk-telecom/a.x-4.0-light",
        "org-house",
        "up_and_down",
    ],
)
def test_what_is_the_name_of_something(name: str) -> None:
    assert not looks_like_key(name)
    assert unkeyed(name) == name


def test_a_url_is_masked() -> None:
    cases = {
        "http://ann:pw@host/v1?api-version=2024-10-21&api-key=abc": "http://…@host/v1?api-version=2024-10-21&api-key=…",
        "ann:pw@host:3128": "…@host:3128",
        "socks5://ann:p@ss@host": "socks5://…@host",
        "http://ann:p/w@host/v1": "http://…@host/v1",
        "http://ann:pw@[::1/v1": "http://…@[::1/v1",
        "https://host:8443/client/@cf/v1": "https://host:8443/client/@cf/v1",
        "https://host/v1?author=me;access_token=abc#top": "https://host/v1?author=me;access_token=…#top",
    }
    assert {url: mask_url(url) for url in cases} == cases


# What is secret in an entry


def test_the_secrets_of_an_entry() -> None:
    entry = protect(
        {
            "API_KEY": "the key",
            "MODEL": "gpt-6-sol",
            "ORGANIZATION_ID": "org-0a1b2c3d4e5f",
            "STOP": ["secret-ending"],
            "VAULT_TOKEN": "hush",
            "AUTH": "bearer",
            "BASE_URL": "https://ann:p%40ss@host/v1?api-version=2024-10-21&sig=query1",
            "PROXY": "http://host:3128",
            "HEADERS": {
                "X-Team": "search",
                "X-Gate": "Bearer gate-0123456789",
                "Accept-Language": "de-CH, fr;q=0.8",
                "anthropic-beta": "context-1m-2025-08-07",
            },
            "EXTRA": {
                "service_tier": "flex",
                "effort": "high",
                "response_format": {"type": "json_object", "schema": {"key": {"type": "string"}}},
                "fallback_models": ["gpt-4o-mini-2024-07-18"],
                "webhook": {"url": "https://bob:pw22@hooks.example.com/x", "clientSecret": "hook"},
                "tags": [f"id-{TAIL}"],
                "max_tokens": 10,
            },
        }
    )
    assert set(secrets_of(entry)) == {
        "the key",
        "hush",
        *("ann:p@ss", "ann", "p@ss", "p%40ss", base64.b64encode(b"ann:p@ss").decode(), "query1"),
        *("Bearer gate-0123456789", "gate-0123456789"),
        *("bob:pw22", "bob", "pw22", base64.b64encode(b"bob:pw22").decode(), "hook"),
        f"id-{TAIL}",
    }


def test_a_callable_key_is_not_asked() -> None:
    def ask() -> str:
        raise AssertionError

    assert list(secrets_of(protect({"API_KEY": ask}))) == []
    assert repr(protect({"api_key": ask})["api_key"]) == "…"


def base64_behind(count: int, secret: str) -> str:
    """Return a secret in base64, so many characters into it."""
    return base64.b64encode(f"{'.' * count}{secret}::".encode()).decode()


ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "percent": lambda secret: quote(secret, safe=""),
    "percent in lower case": lambda secret: re.sub("%..", lambda found: found[0].lower(), quote(secret)),
    "form": quote_plus,
    "json": json.dumps,
    "json as PHP": lambda secret: json.dumps(secret).replace("/", "\\/"),
    "json as Go": lambda secret: json.dumps(secret).replace("&", "\\u0026"),
    "json in UTF-8": lambda secret: json.dumps(secret, ensure_ascii=False),
    "python": repr,
    "html": html.escape,
    **{f"base64 behind {n}": partial(base64_behind, n) for n in range(4)},
    "base64 for URLs": lambda secret: base64.urlsafe_b64encode(f"u:{secret}".encode()).decode(),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("secret", ['a"b/c&d=é+f?~>~ÿ', f"sk-{TAIL}"])
def test_a_quoted_secret_is_masked(encoding: str, secret: str) -> None:
    quoted = ENCODINGS[encoding](secret)
    text = scrub(f"You sent {quoted}, and again {quoted}!", [secret])
    assert quoted not in text
    assert quoted[6:-6] not in text
    assert text.startswith("You sent ")
    assert text.endswith("!")


@pytest.mark.parametrize("size", [100_000, 3_000_000])
def test_what_is_large_takes_no_time_to_speak_of(size: int) -> None:
    """It would take hours where the time grew with the square of the size."""
    assert find_keys(f"sk-{'1' * size}")
    assert scrub("1" * size, ["1" * (size // 2)]).startswith("…1111")
    assert not [*secrets_of(protect({"EXTRA": {"image": "a1" * size}}))]


def test_a_short_secret_is_masked_as_a_word_alone() -> None:
    assert scrub("root: the roots of root are rooted", ["root"]) == "…: the roots of … are rooted"
    assert scrub("a cat", ["cat"]) == "a cat"


# Wrappers


def test_nothing_is_lost_by_hiding() -> None:
    value = {"a": {"b": ["c", {"d": "e"}], "n": 1, "z": None, "t": True}, "f": ("g",)}
    hidden = hide(value)
    assert reveal(hidden) == value
    assert reveal(copy.deepcopy(hidden)) == reveal(copy.copy(hidden)) == value
    assert (hidden["a"]["n"], hidden["a"]["z"], hidden["a"]["t"]) == (1, None, True)
    assert "e" not in repr(hidden["a"]["b"])
    around: dict[str, Any] = {}
    around["again"] = around
    assert repr(hide(around)["again"]) == "…"
    assert list(secrets_of(protect({"extra": around}))) == []


def test_protecting_twice_is_protecting_once() -> None:
    options = {
        "api_key": "k",
        "model": "m",
        "extra": {"a": "b"},
        "base_url": "http://x",
        "stop": ["a"],
        "n": [1],
    }
    once = protect(options)
    assert protect(once) == once
    assert protect({"context": {"user": 1}, "system": "Be brief."}) == {
        "context": {"user": 1},
        "system": "Be brief.",
    }


SECRETIVE = [
    Secret("k"),
    SecretURL("http://a:b@c"),
    Hidden(["k"]),
    MaskedDict({"a": "k"}),
    Request("http://a", MaskedDict({"a": Secret("k")}), b"k", False),
]


@pytest.mark.parametrize("value", SECRETIVE, ids=lambda value: type(value).__name__)
def test_what_is_secret_is_copied_and_not_pickled(value: Any) -> None:
    for copied in (copy.copy(value), copy.deepcopy(value), copy.deepcopy([value])[0]):
        assert type(copied) is type(value)
        assert repr(copied) == repr(value)
        if isinstance(value, Request):
            assert (copied.url, copied.headers, copied.body) == ("http://a", {"a": "k"}, b"k")
        else:
            assert copied == value
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match=r"can't be pickled.*ai\(alias\)"):
            pickle.dumps(value, protocol)


# Printing


@pytest.mark.parametrize(
    ("said", "printed"),
    [
        ("all is well 🦜 é العربية 👩‍👩‍👧 می‌خواهم", None),
        ("two\nlines\r\n  indented\u2028and\x85more\x0bend\x1e", "two lines indented and more end "),
        ("a\tb", "a b"),
        ("\x1b[2J\x1b]0;title\x07red\x9b31m", "\ufffd[2J\ufffd]0;title\ufffdred\ufffd31m"),
        ("user\u202etxt.exe\u2066\u2069", "user\ufffdtxt.exe\ufffd\ufffd"),
        ("\x00\x7f\ud800\ufeff\u200b\U000e0041", "\ufffd" * 6),
    ],
)
def test_what_others_say_is_on_one_line(said: str, printed: str | None) -> None:
    assert one_line(said) == (said if printed is None else printed)
    assert len(one_line(said).splitlines()) == 1
    one_line(said).encode()


def test_what_a_terminal_obeys_is_taken_out() -> None:
    assert printable("a\tb\nc é🦜") == "a\tb\nc é🦜"
    for obeyed in ("\x1b", "\x9b", "\r", "\x07", "\x00", "\x7f", "\x08"):
        assert printable(f"a{obeyed}b") == "a\ufffdb"
