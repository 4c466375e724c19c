"""engine_settings(), and what the checks say of an environment: what is read, and what is only meant."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import environ
import pytest
from django.core.checks import CheckMessage

from bupple_engine import ai
from bupple_engine.checks import check_settings
from bupple_engine.conf.env import engine_settings, known_variables
from bupple_engine.drivers import DRIVERS, VENDOR_VARIABLES
from bupple_engine.options import COMMON, Option, integer, string
from bupple_engine.wires.services import SERVICES
from tests.verbs import Quiet

KEY = "sk-0123456789abcdef"
HOUSE = {
    "BUPPLE_ENGINE_HOUSE_DRIVER": "compatible",
    "BUPPLE_ENGINE_HOUSE_API_KEY": KEY,
    "BUPPLE_ENGINE_HOUSE_BASE_URL": "https://llm.example.com/v1",
    "BUPPLE_ENGINE_HOUSE_MODEL": "our-model",
}
CLAUDE = {"BUPPLE_ENGINE_CLAUDE_API_KEY": KEY, "BUPPLE_ENGINE_CLAUDE_MODEL": "claude-sonnet-5-5"}
GROQ = {
    "BUPPLE_ENGINE_GROQ_API_KEY": "gsk_0123456789abcdef",
    "BUPPLE_ENGINE_GROQ_MODEL": "openai/gpt-oss-120b",
}


@pytest.fixture(autouse=True)
def shell(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give a function that sets variables in an environment without any of ours or of a vendor's."""
    for name in os.environ:
        if name.startswith("BUPPLE_") or name in VENDOR_VARIABLES:
            monkeypatch.delenv(name)

    def shell(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return shell


def read(variables: dict[str, str], **arguments: Any) -> dict[str, Any]:
    """Return what the variables describe."""
    env = environ.Env()
    env.ENVIRON = dict(variables)
    return engine_settings(env, **arguments)


def of(id: str) -> list[CheckMessage]:
    """Return the messages of an id."""
    return [message for message in check_settings() if message.id == f"bupple_engine.{id}"]


# What is read


def test_a_name_of_ones_own_is_an_entry(settings: Any) -> None:
    settings.BUPPLE_ENGINE = found = read(HOUSE)
    assert found == {
        "DEFAULT": "house",
        "DRIVERS": {
            "house": {
                "DRIVER": "compatible",
                "API_KEY": KEY,
                "MODEL": "our-model",
                "BASE_URL": "https://llm.example.com/v1",
            }
        },
    }
    config = ai("house").get_config()
    assert (config["driver"], config["api_key"], config["model"]) == ("compatible", "…cdef", "our-model")


@pytest.mark.parametrize(
    ("variables", "entries"),
    [
        (
            {"BUPPLE_ENGINE_MY_GROQ_DRIVER": "groq", "BUPPLE_ENGINE_MY_GROQ_API_KEY": KEY},
            {"my_groq": {"DRIVER": "groq", "API_KEY": KEY}},
        ),
        (
            {"BUPPLE_ENGINE_OPENAI_DRIVER": "openai_chat", "BUPPLE_ENGINE_OPENAI_MODEL": "m"},
            {"openai": {"DRIVER": "openai_chat", "MODEL": "m"}},
        ),
        (
            {"BUPPLE_ENGINE_TEAM_DRIVER": "openai", "BUPPLE_ENGINE_TEAM_PROJECT_ID": "proj"},
            {"team": {"DRIVER": "openai", "PROJECT_ID": "proj"}},
        ),
        (
            {"BUPPLE_ENGINE_OURS_DRIVER": "myproject.ai.HouseDriver"},
            {"ours": {"DRIVER": "myproject.ai.HouseDriver"}},
        ),
        (
            {"BUPPLE_ENGINE_A_DRIVER": "groq", "BUPPLE_ENGINE_A_B_DRIVER": "xai"},
            {"a": {"DRIVER": "groq"}, "a_b": {"DRIVER": "xai"}},
        ),
        (
            {"OPENAI_API_KEY": KEY, "BUPPLE_ENGINE_OPENAI_API_KEY": "${OPENAI_API_KEY}"},
            {"openai": {"API_KEY": KEY}},
        ),
        ({"BUPPLE_ENGINE_HOUSE_DRIVER": "", "BUPPLE_ENGINE_HOUSE_API_KEY": KEY}, {}),
        ({"BUPPLE_ENGINE_DEFAULT_DRIVER": "claude", "BUPPLE_ENGINE_DEFAULT_API_KEY": KEY}, {}),
    ],
)  # fmt: skip
def test_entries_by_their_names(variables: dict[str, str], entries: dict[str, Any]) -> None:
    assert read(variables)["DRIVERS"] == entries


class House(Quiet):
    """Be a third party's driver, some of whose options have a variable."""

    options: ClassVar = {
        **COMMON,
        "vault": Option(string, secret=True, env=str),
        "rooms": Option(integer(1), env=int),
        "attic": Option(string),
    }


OURS = {
    "BUPPLE_ENGINE_OURS_DRIVER": f"{__name__}.House",
    "BUPPLE_ENGINE_OURS_MODEL": "m",
    "BUPPLE_ENGINE_OURS_VAULT": "vQwJzLpKxBnRtG",
    "BUPPLE_ENGINE_OURS_ROOMS": "7",
}


def test_a_third_partys_option_says_how_its_variable_is_read(
    settings: Any, shell: Callable[..., None]
) -> None:
    shell({**OURS, "BUPPLE_ENGINE_OURS_ATTIC": "cold", "BUPPLE_ENGINE_OURS_ROOMSS": "8"})
    settings.BUPPLE_ENGINE = engine_settings()
    config = ai("ours").config
    assert (config["model"], config["rooms"], config["vault"].reveal()) == ("m", 7, "vQwJzLpKxBnRtG")
    assert ai("ours").get_config()["vault"] == "…nRtG"
    assert "attic" not in config
    found = {str(message.obj): str(message.hint) for message in check_settings()}
    assert found == {
        "os.environ['BUPPLE_ENGINE_OURS_ATTIC']": "engine_settings() does not read it; write "
        "BUPPLE_ENGINE['DRIVERS']['ours']['ATTIC'] = … after it in the settings file.",
        "os.environ['BUPPLE_ENGINE_OURS_ROOMSS']": "Did you mean BUPPLE_ENGINE_OURS_ROOMS?",
    }


def test_a_third_partys_variable_that_is_wrong_is_a_mistake_of_the_entry(
    settings: Any, shell: Callable[..., None]
) -> None:
    shell({**OURS, "BUPPLE_ENGINE_OURS_ROOMS": "seven"})
    settings.BUPPLE_ENGINE = engine_settings()
    (message,) = of("E011")
    assert str(message.obj) == "BUPPLE_ENGINE['DRIVERS']['ours']['ROOMS']"
    assert str(message.hint).startswith("It is the environment variable BUPPLE_ENGINE_OURS_ROOMS; set, ")


def test_a_variable_is_read_for_the_alias_that_it_names_in_full() -> None:
    found = read(
        {**OURS, "BUPPLE_ENGINE_OURS_ROOMS_DRIVER": "echo", "BUPPLE_ENGINE_OURS_ROOMS_MODEL": "other"}
    )
    assert found["DRIVERS"]["ours_rooms"] == {"DRIVER": "echo", "MODEL": "other"}
    assert {*found["DRIVERS"]["ours"]} == {"DRIVER", "MODEL", "VAULT", "ROOMS"}


def test_an_environment_of_files_is_read_though_another_programs_file_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(KEY)
    monkeypatch.setenv("BUPPLE_ENGINE_HOUSE_API_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("BUPPLE_ENGINE_HOUSE_DRIVER", "compatible")
    monkeypatch.setenv("ANOTHER_PROGRAMS_FILE", str(tmp_path / "nowhere"))
    assert engine_settings(environ.FileAwareEnv())["DRIVERS"]["house"] == {
        "DRIVER": "compatible",
        "API_KEY": KEY,
    }


def test_no_module_of_the_sites_own_is_imported_while_the_settings_are_read() -> None:
    assert read({**OURS, "BUPPLE_ENGINE_OURS_DRIVER": "nowhere.at.All"})["DRIVERS"]["ours"]["VAULT"]


@pytest.mark.parametrize(
    ("variables", "default", "found"),
    [
        ({}, "echo", "echo"),
        (CLAUDE, "echo", "claude"),
        (CLAUDE, None, "claude"),
        (HOUSE, "echo", "house"),
        ({"BUPPLE_ENGINE_OLLAMA_MODEL": "smollm2"}, "echo", "ollama"),
        ({"BUPPLE_ENGINE_OURS_DRIVER": "myproject.ai.HouseDriver"}, "echo", "ours"),
        # Without its key it would only fail: whoever has none goes on with the other.
        ({"BUPPLE_ENGINE_CLAUDE_MODEL": "claude-sonnet-5-5"}, "echo", "echo"),
        ({**CLAUDE, "BUPPLE_ENGINE_OPENAI_MODEL": "gpt-6.2-sol"}, "echo", "claude"),
        ({**CLAUDE, **GROQ}, "echo", "echo"),
        ({**CLAUDE, **GROQ}, "groq", "groq"),
        ({**CLAUDE, "BUPPLE_ENGINE_DEFAULT": "echo"}, "echo", "echo"),
        ({**CLAUDE, "BUPPLE_DEFAULT_ENGINE_DRIVER": "echo"}, None, "echo"),
        ({**CLAUDE, **HOUSE, "BUPPLE_ENGINE_DEFAULT": "house"}, "echo", "house"),
    ],
)
def test_the_only_driver_that_is_ready_is_the_default(
    variables: dict[str, str], default: str | None, found: str
) -> None:
    described = read(variables, default=default)
    assert described["DEFAULT"] == found
    assert found in described["DRIVERS"]


def test_an_env_file_is_read_and_may_refer_to_another_variable(
    tmp_path: Path, shell: Callable[..., None], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell({"ANTHROPIC_API_KEY": KEY})
    file = tmp_path / ".env"
    file.write_text("BUPPLE_ENGINE_CLAUDE_API_KEY=$ANTHROPIC_API_KEY\nBUPPLE_ENGINE_CLAUDE_MODEL=m\n")
    env = environ.Env()
    monkeypatch.setattr(env, "ENVIRON", dict(os.environ), raising=False)
    monkeypatch.setattr(environ.Env, "ENVIRON", env.ENVIRON)
    env.read_env(file)
    settings.BUPPLE_ENGINE = engine_settings(env, default="echo")
    assert ai().get_config()["api_key"] == "…cdef"
    assert ai().alias == "claude"


@pytest.mark.parametrize("value", ["$ANTHROPIC_API_KEY", "${ANTHROPIC_API_KEY}"])
def test_a_variable_that_a_key_refers_to_in_vain_is_named(
    value: str, shell: Callable[..., None], settings: Any
) -> None:
    shell({"BUPPLE_ENGINE_CLAUDE_API_KEY": value, "BUPPLE_ENGINE_CLAUDE_MODEL": "m"})
    settings.BUPPLE_ENGINE = engine_settings()
    (found,) = of("W006")
    assert "or set ANTHROPIC_API_KEY, to which it refers" in str(found.hint)


# What is meant, and not read


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("BUPPLE_ENGINE_HOUSE_API_KEY", "set BUPPLE_ENGINE_HOUSE_DRIVER=compatible"),
        ("BUPPLE_ENGINE_MY_GROQ_MODEL", "set BUPPLE_ENGINE_MY_GROQ_DRIVER=compatible"),
        ("BUPPLE_ENGINE_CLUADE_MODEL", "Did you mean BUPPLE_ENGINE_CLAUDE_MODEL?"),
        ("BUPPLE_ENGINE_ANTHROPIC_MODEL", "Did you mean BUPPLE_ENGINE_CLAUDE_MODEL?"),
        ("BUPPLE_ENGINE_DEFAULT_DRIVER", "set BUPPLE_ENGINE_DEFAULT=claude"),
        ("BUPPLE_ENGINE_DRIVER", "set BUPPLE_ENGINE_DEFAULT=claude"),
        ("BUPPLE_ENGINE_SOMETHING", "BUPPLE_ENGINE_<NAME>_DRIVER"),
        ("BUPPLE_ENGINE_HOUSE_URL", "BUPPLE_ENGINE_<NAME>_DRIVER"),
        ("BUPPLE_ENGINE_API_KEY", "set BUPPLE_ENGINE_CLAUDE_API_KEY, for instance"),
        ("BUPPLE_OPENAI_API_KEY", "Did you mean BUPPLE_ENGINE_OPENAI_API_KEY?"),
        ("BUPPLE_ENGINE_OPENAI_KEY", "Did you mean BUPPLE_ENGINE_OPENAI_API_KEY?"),
        ("BUPPLE_ENGINE_FAST_API_KEY", '"API_KEY": env.str("BUPPLE_ENGINE_FAST_API_KEY", default="")'),
    ],
)
def test_a_variable_that_nothing_reads_is_told_with_the_line_to_write(
    name: str, words: str, shell: Callable[..., None], settings: Any
) -> None:
    shell({name: "claude"})
    settings.BUPPLE_ENGINE = {"DEFAULT": "echo", "DRIVERS": {"echo": {}, "fast": {"DRIVER": "echo"}}}
    (found,) = of("W016")
    assert str(found.obj) == f"os.environ[{name!r}]"
    assert words in str(found.hint)


def test_the_variables_of_a_name_of_ones_own_are_read(shell: Callable[..., None], settings: Any) -> None:
    shell({**HOUSE, "BUPPLE_ENGINE_HOUSE_TIMEOUT": "30"})
    settings.BUPPLE_ENGINE = engine_settings()
    (found,) = of("W016")
    assert str(found.obj) == "os.environ['BUPPLE_ENGINE_HOUSE_TIMEOUT']"
    assert "['house']['TIMEOUT'] = …" in str(found.hint)


def test_a_key_while_echo_answers_is_told(shell: Callable[..., None], settings: Any) -> None:
    shell({**CLAUDE, **GROQ})
    settings.BUPPLE_ENGINE = engine_settings(default="echo")
    (found,) = of("W024")
    assert str(found.obj) == "BUPPLE_ENGINE['DEFAULT']"
    assert "'claude' and 'groq'" in found.msg
    assert "BUPPLE_ENGINE_DEFAULT=claude" in str(found.hint)
    assert KEY not in str(found)
    shell({"BUPPLE_ENGINE_DEFAULT": "echo"})
    settings.BUPPLE_ENGINE = engine_settings(default="groq")
    assert not of("W024")


@pytest.mark.parametrize(
    "value",
    [
        {"DRIVERS": {"echo": {}}},
        {"DEFAULT": "claude", "DRIVERS": {"echo": {}, "claude": {"API_KEY": KEY, "MODEL": "m"}}},
        {"DEFAULT": "nobody", "DRIVERS": {"echo": {}}},
        {},
        None,
    ],
)
def test_no_key_of_the_environment_or_no_echo_is_nothing_to_tell(
    value: Any, shell: Callable[..., None], settings: Any
) -> None:
    shell(CLAUDE)
    settings.BUPPLE_ENGINE = value
    assert not of("W024")


@pytest.mark.parametrize("name", VENDOR_VARIABLES)
def test_a_vendors_own_variable_is_told_with_the_line_to_write(
    name: str, shell: Callable[..., None], settings: Any
) -> None:
    shell({name: KEY})
    driver = VENDOR_VARIABLES[name]
    settings.BUPPLE_ENGINE = engine_settings(default="echo")
    if not name.endswith("_API_KEY"):
        assert not of("W025")  # HF_TOKEN serves other ends, until there is an entry that wants it
        settings.BUPPLE_ENGINE["DRIVERS"][driver] = {"MODEL": "m"}
        if not SERVICES[driver].key:
            assert not of("W025")
            return
    (found,) = of("W025")
    assert str(found.obj) == f"os.environ[{name!r}]"
    assert f'"{driver}": {{"API_KEY": env.str("{name}", default="")' in str(found.hint)
    assert f"BUPPLE_ENGINE_{driver.upper()}_API_KEY" in str(found.hint)
    assert KEY not in str(found)
    assert driver in DRIVERS


def test_a_vendors_variable_is_told_where_its_driver_alone_lacks_a_key(
    shell: Callable[..., None], settings: Any
) -> None:
    shell({"OPENAI_API_KEY": KEY, "GROQ_API_KEY": KEY, "XAI_API_KEY": " "})
    claude, openai = {"API_KEY": KEY, "MODEL": "m"}, {"MODEL": "gpt-6.2-sol"}
    settings.BUPPLE_ENGINE = {"DEFAULT": "claude", "DRIVERS": {"claude": claude, "openai": openai}}
    assert [str(found.obj) for found in of("W025")] == ["os.environ['OPENAI_API_KEY']"]
    settings.BUPPLE_ENGINE["DRIVERS"]["openai"] = {**openai, "API_KEY": KEY}
    assert not of("W025")


# What the settings file itself reads

FILES = {
    "a dict": 'X = {"DRIVERS": {"fast": {"DRIVER": "groq", "API_KEY": env("OUR_GROQ_KEY", default="")}}}',
    "an assignment": 'X["DRIVERS"]["fast"] = {"API_KEY": env.str("OUR_GROQ_KEY", default="")}',
    "os.environ": 'X = {"fast": {"API_KEY": os.environ.get("OUR_GROQ_KEY", ""), "MODEL": "m"}}',
    "a subscript": 'X = {"fast": {"API_KEY": os.environ["OUR_GROQ_KEY"]}}',
}


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Callable[..., None]:
    """Give a function that writes the settings file which the checks look into, and sets BUPPLE_ENGINE."""

    def write(text: str, value: dict[str, Any]) -> None:
        module = ModuleType("site_settings")
        module.__file__ = str(tmp_path / "site_settings.py")
        Path(module.__file__).write_text(text)
        monkeypatch.setitem(sys.modules, "site_settings", module)
        settings.BUPPLE_ENGINE = value
        settings.SETTINGS_MODULE = "site_settings"  # last: each setting that is overridden hides it

    return write


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_a_hint_names_the_variable_that_the_file_reads(text: str, settings_file: Callable[..., None]) -> None:
    fast = {"DRIVER": "groq", "MODEL": "m"}
    settings_file(text, {"DRIVERS": {"fast": {**fast, "API_KEY": ""}}})
    (found,) = of("W003")
    assert found.hint == "Set the environment variable OUR_GROQ_KEY, which the settings file reads."
    settings_file(text, {"DRIVERS": {"fast": {**fast, "API_KEY": "<your-key>"}}})
    (found,) = of("W006")
    assert "OUR_GROQ_KEY" in str(found.hint)


def test_no_hint_names_a_variable_that_nothing_reads(settings_file: Callable[..., None]) -> None:
    """An entry that is written out is not made by engine_settings(), whatever its alias."""
    settings_file('X = {"DRIVERS": {"openai": {"API_KEY": vault}}}', {"DRIVERS": {"openai": {}}})
    (found,) = of("W003")
    assert str(found.hint).startswith('Write "API_KEY": env.str(')
    (found,) = of("W004")
    assert found.hint == 'Write "MODEL": "gpt-6.2-sol"'


def test_the_hint_follows_how_the_settings_are_made(
    settings_file: Callable[..., None], shell: Callable[..., None]
) -> None:
    shell({"OPENAI_API_KEY": KEY})
    settings_file("BUPPLE_ENGINE = engine_settings(env)", engine_settings(default="echo"))
    (found,) = of("W025")
    assert "BUPPLE_ENGINE_OPENAI_API_KEY=$OPENAI_API_KEY" in str(found.hint)
    entry = {"DRIVER": "openai", "MODEL": "gpt-6.2-sol"}
    settings_file('X = {"main": {"API_KEY": env("OPENAI_API_KEY")}}', {"DRIVERS": {"main": entry}})
    assert not of("W025")


def test_the_readmes_variables_are_read_and_its_settings_give_no_other_message(
    shell: Callable[..., None], settings: Any
) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```ini\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    variables = dict(re.findall(r"^(?:# )?(\w+)=(.*)$", block, re.MULTILINE))
    assert set(variables) <= known_variables(variables)
    shell({**variables, "BUPPLE_ENGINE_CLAUDE_API_KEY": "sk-ant-" + KEY, "BUPPLE_ENGINE_OPENAI_API_KEY": KEY})
    settings.BUPPLE_ENGINE = engine_settings(default="echo")
    assert ai().alias == "claude"
    assert ai("house").get_config()["driver"] == "compatible"
    assert check_settings() == []


def test_no_value_of_a_variable_is_shown(shell: Callable[..., None], settings: Any) -> None:
    names = (
        "BUPPLE_ENGINE_DEFAULT_DRIVER",
        "BUPPLE_ENGINE_HOUSE_API_KEY",
        "BUPPLE_OPENAI_API_KEY",
        "OPENAI_API_KEY",
    )
    shell(dict.fromkeys(names, KEY))
    settings.BUPPLE_ENGINE = engine_settings(default="echo")
    found = check_settings()
    assert {str(message.obj) for message in found} == {f"os.environ[{name!r}]" for name in names}
    assert KEY not in "".join(map(str, found))
