"""What people type who come from another library, and what they are told to type instead."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import io
import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile

from bupple_engine import EngineError, InvalidDriverError, InvalidRequestError, ProviderConnectionError, ai
from bupple_engine.calls import bridge
from bupple_engine.checks import check_settings
from bupple_engine.exchange.exchange import Exchange
from bupple_engine.exchange.failure import TransportFailure
from bupple_engine.exchange.verdict import Failed
from tests.conftest import Configure
from tests.provider import Provider
from tests.pure import begin, build
from tests.verbs import VERBS, Quiet, run
from tests.wires import WIRES, Wire

CHAT = next(wire for wire in WIRES if wire.name == "openai_chat")


@pytest.fixture
def chat(provider: Provider, configure: Configure) -> Provider:
    """Give a provider that nothing may reach: whatever is wrong here is told before any I/O."""
    configure(it=CHAT.settings(provider.url))
    return provider


OPTIONS = {
    "prompt": 'ai().send("Hello!")',
    "input": 'ai().send("Hello!")',
    "instructions": "system=",
    "system_prompt": "system=",
    "tools": "Tools can't be called yet",
    "functions": "Tools can't be called yet",
    "stream": "stream() or astream()",
    "response_format": 'extra={"response_format"',
    "frequency_penalty": 'extra={"frequency_penalty": …}',
    "max_completion_tokens": "called max_tokens here",
    "max_output_tokens": "called max_tokens here",
    "stop_sequences": "called stop here",
    "n": "one answer",
    "images": "parts of a message",
    "history": "append each reply",
    "provider": 'ai("claude")',
    "driver": 'ai("claude")',
    "api_base": '"BASE_URL"',
    "extra_body": "called extra here",
    "request_timeout": "called timeout here",
    "temprature": "Did you mean 'temperature'?",
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_of_another_library_is_answered_with_ours(name: str, verb: str, chat: Provider) -> None:
    error = run(_With(name), verb, "Hello").error  # type: ignore[arg-type]
    assert isinstance(error, InvalidRequestError)
    assert error.param == name
    assert OPTIONS[name] in str(error)
    assert not chat.requests


@pytest.mark.parametrize("verb", VERBS)
def test_a_prompt_in_place_of_the_messages_is_answered_likewise(verb: str, chat: Provider) -> None:
    error = run(_Bare(), verb, None, prompt="Hello").error  # type: ignore[arg-type]
    assert 'ai().send("Hello!")' in str(error)


class _With:
    """Call a verb with an option, of whatever name."""

    def __init__(self, name: str) -> None:
        self.options = {name: True}

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        return lambda messages: getattr(ai(), verb)(messages, **self.options)


class _Bare:
    """Call a verb without its first argument."""

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        return lambda messages, **options: getattr(ai(), verb)(**options)


@pytest.mark.parametrize("name", ["tools", "stream", "prompt", "max_completion_tokens", "system", "provider"])
def test_ai_answers_an_option_of_another_library(name: str, chat: Provider) -> None:
    with pytest.raises(InvalidRequestError, match=rf"^The option '{name}' is unknown\. \w"):
        ai("it", **{name: "x"})


DATA = b"\x89PNG\r\n\x1a\n"
CONTENTS = {
    "OpenAI's image": (
        [{"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}],
        '{"type": "image", "content": "https://…"}',
    ),
    "Responses' image": (
        [{"type": "input_image", "image_url": "https://example.com/cat.png"}],
        '{"type": "image", "content": "https://…"}',
    ),
    "OpenAI's audio": (
        [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}],
        '{"type": "audio"',
    ),
    "OpenAI's file": ([{"type": "file", "file": {"file_data": "AAAA"}}], '{"type": "document"'),
    "Anthropic's image": (
        [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}],
        '"mime_type"',
    ),
    "Gemini's data": ([{"inline_data": {"mime_type": "image/png", "data": "AAAA"}}], '"mime_type"'),
    "Gemini's text": ([{"text": "Hello"}], '{"type": "text", "content": "…"}'),
    "everyone's text": ([{"type": "text", "text": "Hello"}], '{"type": "text", "content": "…"}'),
    "a type alone": ([{"type": "input_text", "content": "Hello"}], '{"type": "text", "content": "…"}'),
    "a tool's result": ([{"type": "tool_result", "content": "7"}], "Tools can't be called yet"),
    "a bare string": (["Hello"], '{"type": "text", "content": "…"}'),
    "detail beside the content": (
        [{"type": "image", "content": "https://example.com/cat.png", "detail": "low"}],
        '"metadata": {"detail": …}',
    ),
    "a part alone": ({"type": "text", "content": "Hello"}, "[{…}]"),
    "bytes": (DATA, "base64.b64encode(data)"),
    "bytes in a part": ([{"type": "image", "content": DATA}], "base64.b64encode(data)"),
    "a path": ([{"type": "image", "content": Path("cat.png")}], "path.read_bytes()"),
    "a file": ([{"type": "image", "content": io.BytesIO(DATA)}], "file.read()"),
    "an upload": ([{"type": "image", "content": ContentFile(DATA, "cat.png")}], "file.read()"),
    "a path's name": ([{"type": "image", "content": "static/cat.png"}], "read_bytes()"),
    "a home's path": ([{"type": "document", "content": "~/report.pdf"}], "read_bytes()"),
    "a file's URL": ([{"type": "image", "content": "file:///srv/cat.png"}], "read_bytes()"),
    "None": (None, '""'),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_content_of_another_shape_is_answered_with_ours(name: str, chat: Provider) -> None:
    content, words = CONTENTS[name]
    error = run(ai(), "send", [{"role": "user", "content": content}]).error
    assert isinstance(error, InvalidRequestError)
    assert str(error.param).startswith('messages[0]["content"]')
    assert words in str(error)
    assert not chat.requests


class _Spoken:
    """Stand for a message object of another library."""

    role, content = "user", "Hello"


MESSAGES = {
    "a list of strings": (["Hello"], '{"role": "user", "content": "Hello"}'),
    "a pair": ([("user", "Hello")], '{"role": "user", "content": '),
    "an object": ([_Spoken()], '{"role": "user", "content": '),
    "one message": ({"role": "user", "content": "Hello"}, "into a list"),
    "developer": ([{"role": "developer", "content": "Hello"}], "'system'"),
    "human": ([{"role": "human", "content": "Hello"}], "'user'"),
    "model": ([{"role": "model", "content": "Hello"}], "'assistant'"),
    "User": ([{"role": "User", "content": "Hello"}], "'user'"),
    "tool": ([{"role": "tool", "content": "7"}], "Tools can't be called yet"),
    "text": ([{"role": "user", "text": "Hello"}], '"content"'),
    "roles for keys": ([{"user": "Hello"}], '{"role": "user", "content": "…"}'),
    "parts": ([{"role": "user", "parts": [{"text": "Hello"}]}], '"content"'),
    "tool calls": ([{"role": "assistant", "tool_calls": []}], "Tools can't be called yet"),
    "Ollama's images": ([{"role": "user", "content": "Hello", "images": ["AAAA"]}], "parts of a message"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_of_another_shape_are_answered_with_ours(name: str, chat: Provider) -> None:
    messages, words = MESSAGES[name]
    error = run(ai(), "send", messages).error
    assert isinstance(error, InvalidRequestError)
    assert words in str(error)
    assert not chat.requests


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("BACKEND", '"DRIVER"'),
        ("ENGINE", '"DRIVER"'),
        ("provider", '"DRIVER"'),
        ("NAME", '"MODEL"'),
        ("OPTIONS", '"TEMPERATURE": 0.2'),
        ("LOCATION", '"BASE_URL"'),
        ("URL", '"BASE_URL"'),
        ("KEY", '"API_KEY"'),
        ("MAX_COMPLETION_TOKENS", '"MAX_TOKENS"'),
        ("SYSTEM", "system="),
        ("TOOLS", "Tools can't be called yet"),
        ("RESPONSE_FORMAT", '"EXTRA": {"response_format"'),
        ("TOP_K", '"EXTRA": {"top_k": …}'),
        ("TEMPRATURE", "'TEMPERATURE'"),
    ],
)
def test_a_key_of_another_setting_is_answered_with_ours(key: str, words: str, configure: Configure) -> None:
    configure(claude={"MODEL": "claude-sonnet-5-5", "API_KEY": "sk-ant-0123456789abcdef", key: {}})
    (found,) = [message for message in check_settings() if message.id == "bupple_engine.E010"]
    assert words in str(found.hint)
    with pytest.raises(ImproperlyConfigured) as caught:
        ai("claude")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"default": {"BACKEND": "claude", "API_KEY": "k"}}, "\"DRIVERS\": {'default': …}"),
        ({"mine": {"DRIVER": "claude"}}, "\"DRIVERS\": {'mine': …}"),
        ({"PROVIDERS": {"claude": {}}}, "'DRIVERS'"),
    ],
)
def test_entries_that_stand_where_other_settings_have_them(setting: Any, words: str, settings: Any) -> None:
    settings.BUPPLE_ENGINE = setting
    assert any(words in str(m.hint) for m in check_settings() if m.id == "bupple_engine.E002")


@pytest.mark.parametrize(
    ("alias", "words"),
    [
        ("gpt-6.2-sol", "ai('openai', model='gpt-6.2-sol')"),
        ("openai/gpt-6.2-sol", "ai('openai', model='gpt-6.2-sol')"),
        ("openai:gpt-6.2-sol", "ai('openai', model='gpt-6.2-sol')"),
        ("claude-haiku-5", "'claude': {"),
        ("our-model", "MODEL of the driver 'house'"),
        ("Hello!", 'ai().send("Hello!")'),
        ("Who wrote Faust", 'ai().send("Hello!")'),
        ("opnai", "Did you mean 'openai'?"),
        ("OpenAI", "Did you mean 'openai'?"),
        ("default", "ai() without an argument"),
        ("", "ai() without an argument"),
        ("groq", "wants its entry: \"DRIVERS\": {'groq': {…}}. Known are house, openai."),
        ("llamacpp", "wants its entry"),
        ("phi-4", "\"DRIVERS\": {'ollama'"),
        ("google:gemini-3.8-flash", "\"DRIVERS\": {'gemini'"),
        (["Hello"], 'ai().send("Hello!")'),
        ({"role": "user", "content": "Hello"}, 'ai().send("Hello!")'),
    ],
)
def test_what_is_no_alias_is_answered_with_the_call_that_is_meant(
    alias: Any, words: str, configure: Configure
) -> None:
    key = {"API_KEY": "sk-0123456789abcdef"}
    configure(
        openai={**key, "MODEL": "gpt-6-luna"},
        house={"DRIVER": "compatible", "MODEL": "our-model", "BASE_URL": "http://localhost:1/v1"},
    )
    with pytest.raises(InvalidDriverError) as caught:
        ai(alias)
    assert words in str(caught.value)


def test_a_default_that_is_a_model_is_answered_likewise(settings: Any) -> None:
    settings.BUPPLE_ENGINE = {"DEFAULT": "gpt-6.2-sol", "DRIVERS": {"openai": {}, "echo": {}}}
    (found,) = [message for message in check_settings() if message.id == "bupple_engine.E004"]
    assert "model='gpt-6.2-sol'" in str(found.hint)


@pytest.mark.parametrize("model", ["gpt-6.2-sol", "gpt-6-sol", "openai/gpt-6.2-sol"])
def test_a_model_in_place_of_a_driver_is_told_apart(model: str, configure: Configure) -> None:
    configure(main={"DRIVER": model, "API_KEY": "sk-0123456789abcdef"})
    (found,) = check_settings()
    assert found.hint == f'Write "DRIVER": "openai", "MODEL": "{model}"'


def test_a_loop_of_the_wrong_kind_says_which_is_right(configure: Configure) -> None:
    configure(echo={})

    async def wrong() -> None:
        with pytest.raises(TypeError, match=r"async for chunk in ai\(\)\.astream"):
            async for _ in ai().stream("Hello"):  # type: ignore[attr-defined]
                pass
        with pytest.raises(TypeError, match=r"async for chunk in ai\(\)\.astream"):
            await ai().astream("Hello")  # type: ignore[misc]

    asyncio.run(wrong())
    with pytest.raises(TypeError, match=r"outside of async write ai\(\)\.stream"):
        for _ in ai().astream("Hello"):  # type: ignore[attr-defined]
            pass


@pytest.mark.parametrize(
    ("name", "verb"), [("chat", "send"), ("invoke", "send"), ("acreate", "asend"), ("stream_chat", "stream")]
)
def test_a_verb_of_another_library_is_answered_with_ours(name: str, verb: str, configure: Configure) -> None:
    configure(echo={}, house={"DRIVER": f"{__name__}.House"})
    for driver in (ai(), ai("house")):
        with pytest.raises(AttributeError, match=rf"write ai\(\)\.{verb}\("):
            getattr(driver, name)
        assert not hasattr(driver, name)
    with pytest.raises(AttributeError, match=r"'House' object has no attribute 'cellar'$"):
        ai("house").cellar  # noqa: B018
    with pytest.raises(AttributeError, match="'str' object has no attribute 'walls'"):
        ai("house").broken  # noqa: B018
    assert copy.copy(ai("house")).alias == "house"


class House(Quiet):
    """Have a property that fails in its own way."""

    @property
    def broken(self) -> Any:
        return self.alias.walls  # type: ignore[attr-defined]


def test_a_synchronous_call_in_an_event_loop_says_what_to_await(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(echo={})
    bridge.say_once.cache_clear()

    async def wrong() -> None:
        for _ in range(2):
            with pytest.raises(TypeError):
                await ai().send("Hello")  # type: ignore[misc]
            assert len(list(ai().stream("Hello"))) == 2

    with caplog.at_level(logging.WARNING, "bupple_engine"):
        assert ai().send("Hello")["content"] == "Hello"
        assert len(list(ai().stream("Hello"))) == 2
        assert not caplog.messages
        asyncio.run(wrong())
    of_send, of_stream = caplog.messages
    assert "await ai().asend(…)" in of_send
    assert "async for chunk in ai().astream(…)" in of_stream


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
def test_what_a_driver_knows_is_never_answered_so(wire: Wire) -> None:
    """A hint for an unknown name must not name what the driver has not."""
    from bupple_engine.protocol import elsewhere
    from tests.pure import wire as wire_of

    known = wire_of(wire.name).options
    for ours, names in elsewhere.RENAMED.items():
        for name in names:
            told = elsewhere.of_call(name, [each for each in known if known[each].per_call], known)
            assert ours in known or ours == "driver" or ours not in told, (name, told)


def test_no_name_is_answered_twice() -> None:
    from bupple_engine.protocol.elsewhere import RENAMED

    names = [name for each in RENAMED.values() for name in each]
    assert len(names) == len(set(names))
    assert not set(names) & {*RENAMED, "temperature", "top_p", "seed"}


def test_hints_are_errors_of_the_engine(chat: Provider) -> None:
    with pytest.raises(EngineError):
        ai().send("Hello", tools=[])


# A server that does not run

REFUSED = {
    "ollama": ("Is Ollama running there?", "`ollama serve`"),
    "vllm": ("Is vLLM running there?", "`vllm serve"),
    "llamacpp": ("Is llama.cpp's server running there?", "`llama-server"),
    "lmstudio": ("Is LM Studio's server running there?", "`lms server start`"),
    "compatible": ("Is the server running there?", "In a container"),
    "openai": ("Is the server running there?", "In a container"),
}


@pytest.mark.parametrize("transport", ["own", "threads"])
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("driver", REFUSED)
def test_a_refused_connection_names_its_url_and_asks_for_the_server(
    driver: str, verb: str, transport: str, configure: Configure, request: pytest.FixtureRequest
) -> None:
    if transport == "threads":
        request.getfixturevalue("without_aiohttp")
    with Provider() as gone:
        url = gone.url
    base = url.replace("://", "://user:pass%20word@") + "/v1?token=hush-hush"
    key = "sk-0123456789abcdef"
    configure(it={"DRIVER": driver, "API_KEY": key, "MODEL": "m", "BASE_URL": base, "MAX_RETRIES": 0})
    error = run(ai(), verb, "Hello").error
    assert isinstance(error, ProviderConnectionError)
    assert f"{url}/v1/" in str(error)
    for words in REFUSED[driver]:
        assert words in str(error)
    for secret in ("hush-hush", "pass", key):
        assert secret not in str(error)


@pytest.mark.parametrize("verb", VERBS)
def test_a_host_without_an_address_is_told_with_its_url(verb: str, configure: Configure) -> None:
    url = "http://no-such-host.invalid/v1"
    configure(it={"DRIVER": "compatible", "MODEL": "m", "BASE_URL": url, "MAX_RETRIES": 0})
    error = run(ai(), verb, "Hello").error
    assert f"The URL is {url}/chat/completions. Is BASE_URL right?" in str(error)


@pytest.mark.parametrize("verb", VERBS)
def test_tls_spoken_to_a_server_without_it_names_the_scheme(verb: str, configure: Configure) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}/v1"
        configure(it={"DRIVER": "compatible", "MODEL": "m", "BASE_URL": url, "MAX_RETRIES": 0})

        def answer() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):  # the client hangs up
                connection.recv(1)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                while connection.recv(65_536):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        error = run(ai(), verb, "Hello").error
        thread.join()
    assert "If not, BASE_URL begins with http://." in str(error)


def test_a_connection_that_takes_too_long_names_its_url() -> None:
    request = build("compatible", entry={"BASE_URL": "http://user:hush@10.0.0.1/v1?token=hush"})
    error = settle(begin("compatible", request=request), "Could not connect in time", timed_out=True)
    assert error.clock == "connect"
    assert str(error.message).endswith(
        "more than 5 s. The URL is http://10.0.0.1/v1/chat/completions. Is BASE_URL right?"
    )


@pytest.mark.parametrize("driver", ["openai", "claude", "groq"])
def test_a_vendor_that_is_out_of_reach_is_no_question_of_base_url(driver: str) -> None:
    error = settle(begin(driver, request=build(driver)), "Could not connect: [Errno 111] Connection refused")
    assert error.message.endswith("Can this machine reach it, or is a PROXY needed?")
    assert "The URL is https://api." in error.message


def settle(exchange: Exchange, words: str, *, timed_out: bool = False) -> Any:
    """Return the error that a connection which never stood ends an exchange with."""
    verdict = exchange.settle(TransportFailure(words, timed_out=timed_out, connected=False))
    assert isinstance(verdict, Failed)
    assert isinstance(verdict.error, ProviderConnectionError)
    return verdict.error


@pytest.mark.parametrize("verb", VERBS)
def test_a_refusing_proxy_is_told_from_a_refusing_server(verb: str, configure: Configure) -> None:
    with Provider() as gone:
        proxy = gone.url.replace("://", "://user:pass%20word@")
    url = "http://models.example/v1"
    configure(it={"DRIVER": "compatible", "MODEL": "m", "BASE_URL": url, "PROXY": proxy, "MAX_RETRIES": 0})
    error = run(ai(), verb, "Hello").error
    assert "Is the proxy running" in str(error)
    assert "pass" not in str(error)
