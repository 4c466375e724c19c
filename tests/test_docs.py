"""Every Python snippet of the README and the docs is run, against providers on loopback."""

from __future__ import annotations

import ast
import asyncio
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import RequestFactory

from bupple_engine import call_finished
from bupple_engine.drivers import DRIVERS
from bupple_engine.drivers.compatible import SERVICES
from tests.conftest import Configure
from tests.provider import Answer, Provider, Request
from tests.wires import ChatCompletions, Claude, Responses

ROOT = Path(__file__).parent.parent
SNIPPETS = [
    pytest.param(path, snippet, id=f"{path.name}:{text[: match.start()].count(chr(10)) + 1}")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for text in [path.read_text(encoding="utf-8")]
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for snippet in [match[1]]
]


def answer(request: Request) -> Answer:
    """Answer in the words of the wire that was spoken."""
    wire = {"responses": Responses(), "messages": Claude(), "completions": ChatCompletions()}[
        request.path.rpartition("/")[2]
    ]
    return Answer(
        body=wire.stream(["Hello ", "world"]) if wire.streamed(request) else wire.reply("Hello world")
    )


@pytest.fixture
def namespace(
    provider: Provider, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """Give the names that a snippet finds, and the drivers that it speaks to."""
    provider.answer(answer, repeat=True)
    configure(
        claude=Claude().settings(provider.url),
        openai={**Responses().settings(provider.url), "MODEL": "gpt-6-sol"},
        fast=ChatCompletions().settings(provider.url),
        echo={},
    )
    for name in ("BUPPLE_ENGINE_CLAUDE_API_KEY", "BUPPLE_ENGINE_OPENAI_API_KEY", "GROQ_API_KEY"):
        monkeypatch.setenv(name, "sk-test-0123456789abcd")
    receivers = list(call_finished.receivers)
    yield {"__name__": "snippet"}
    call_finished.receivers = receivers
    call_finished.sender_receivers_cache.clear()


@pytest.mark.parametrize(("path", "snippet"), SNIPPETS)
def test_the_snippet_runs(
    path: Path, snippet: str, namespace: dict[str, Any], configure: Configure, settings: Any
) -> None:
    code = compile(snippet, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if "await" in snippet or "async for" in snippet:
        asyncio.run(eval(code, namespace))  # noqa: S307 - our own documentation
    else:
        exec(code, namespace)  # noqa: S102 - our own documentation
    check(namespace, configure, settings)


def check(namespace: dict[str, Any], configure: Configure, settings: Any) -> None:
    """Try what a snippet defined, by what it is."""
    from bupple_engine import ai
    from bupple_engine.drivers.base import ChatDriver

    if "BUPPLE_ENGINE" in namespace:
        settings.BUPPLE_ENGINE = namespace["BUPPLE_ENGINE"]
        for alias in settings.BUPPLE_ENGINE["DRIVERS"]:
            assert ai(alias).get_config()["alias"] == alias
        assert ai().alias == settings.BUPPLE_ENGINE["DEFAULT"]
    for value in list(namespace.values()):
        if isinstance(value, type) and issubclass(value, ChatDriver) and value is not ChatDriver:
            drive(value, configure)
    if "answer" in namespace:
        request = RequestFactory().get("/", {"question": "Who?"})
        assert b"".join(namespace["answer"](request)) == b"Hello world"
    if "reply" in namespace:
        assert namespace["reply"]["content"] == "Hello world"


def drive(driver: type, configure: Configure) -> None:
    """Put a documented driver through its four verbs."""
    from tests.verbs import VERBS, run

    module = types.ModuleType("documented")
    module.Documented = driver  # type: ignore[attr-defined]
    sys.modules["documented"] = module
    from bupple_engine import ai

    try:
        configure(house={"DRIVER": "documented.Documented"})
        for verb in VERBS:
            outcome = run(ai(), verb, [{"role": "user", "content": "hello big world"}])
            assert outcome.reply["content"] == "HELLO BIG WORLD "
            assert outcome.reply["finish_reason"] == "stop"
    finally:
        del sys.modules["documented"]


def test_every_service_and_driver_is_documented() -> None:
    text = (ROOT / "docs" / "drivers.md").read_text(encoding="utf-8")
    for name, service in SERVICES.items():
        (row,) = re.findall(rf"^\| `{name}` \|.*$", text, re.MULTILINE)
        assert (service.url or "set `BASE_URL`") in row
        assert ("a key" in row) is service.key
        assert service.max_tokens_param in row
    for name in DRIVERS:
        assert f"`{name}`" in text


def test_the_documented_driver_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (snippet,) = [
        found for found in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "(ChatDriver)" in found
    ]
    assert len(snippet.strip().splitlines()) < 15
