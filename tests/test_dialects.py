"""The three dialects as pure functions: what they read, what they write, how they end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bupple_engine import exceptions
from bupple_engine.api.asked import ChatCall
from bupple_engine.api.completions import CompletionsDialect
from bupple_engine.api.native import NativeDialect
from bupple_engine.api.ui import UIDialect
from bupple_engine.conf import APISettings, api_settings
from bupple_engine.exceptions import EngineError, InvalidRequestError
from bupple_engine.http.dialects import Dialect, public
from bupple_engine.http.problems import Problem, problem_of, report
from bupple_engine.protocol.sse import Decoder

HELLO = [{"role": "user", "content": "Hello"}]
SEEN = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "cache_read": 1, "reasoning": 1}
USAGE = {**SEEN, "tier": "flex", "cost": "0.1", "estimated": True, "raw": {"prompt_tokens": 3, "balance": 7}}
NONE = {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}
THEIRS = {
    **{"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    "prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 1, "audio_tokens": 0},
}
REASONS = ["stop", "length", "tool_calls", "content_filter", "refusal", "unknown"]
PROBLEM = Problem(502, "ProviderServerError", "The AI provider failed.", id="0123")
# What ends a line to someone, though not in an event stream, and what needs several bytes.
TEXTS = ["Hä ", "日本 ", "🦜", "a\u2028b\x85c", ' "quoted" \\ ', "line\nline\r\n", "end"]


def piece(content: str = "", reasoning: str = "") -> Any:
    chunk: dict[str, Any] = {"role": "assistant", "content": content, "done": False}
    return {**chunk, "metadata": {"reasoning": reasoning}} if reasoning else chunk


def last(finish: Any = "stop", content: Any = "", **usage: Any) -> Any:
    end = {"model": "m-1", "usage": usage or USAGE, "finish_reason": finish}
    secret = {"driver": "openai", "signature": "s", "reasoning": "Because"}
    return {"role": "assistant", "content": content, "done": True, **end, "metadata": secret}


def events(dialect: Dialect, *chunks: Any, problem: Problem | None = None) -> list[Any]:
    """Give the data of what a dialect writes, parsed where it is JSON."""
    written = b"".join(dialect.encode(chunk) for chunk in chunks)
    written += (dialect.encode_error(problem) or b"") if problem else b""
    found = Decoder().feed(written)
    return [event.data if event.data == "[DONE]" else json.loads(event.data) for event in found]


@pytest.fixture
def api(settings: Any) -> APISettings:
    """Give settings that leave some choice."""
    settings.BUPPLE_ENGINE = {
        "DEFAULT": "echo",
        "DRIVERS": {"echo": {}, "fast": {"DRIVER": "echo"}},
        "API": {
            "DRIVERS": ["echo", "fast"],
            "MODELS": {"fast": ["m"]},
            "OPTIONS": {"max_tokens": 10, "seed": [1], "stop": True},
            "MEDIA_TYPES": ["image/png", "application/pdf", "audio/wav"],
            "MEDIA_URLS": True,
        },
    }
    return api_settings()


# What is written


@pytest.mark.parametrize("finish", REASONS)
def test_native_events(finish: str) -> None:
    dialect = NativeDialect()
    written = b"".join(map(dialect.encode, [*map(piece, TEXTS), piece("", "Hm"), last(finish)]))
    found = Decoder().feed(written)
    assert [event.id for event in found] == [str(n + 1) for n in range(len(found))]
    assert b"retry: " not in written  # nothing is there to be resumed
    said = [json.loads(event.data) for event in found]
    assert "".join(each["content"] for each in said) == "".join(TEXTS)
    assert said[-2] == {"role": "assistant", "content": "", "done": False, "metadata": {"reasoning": "Hm"}}
    assert said[-1] == {**last(finish), "usage": SEEN, "metadata": {"reasoning": "Because"}}


def test_a_native_error_is_an_event_of_its_own() -> None:
    dialect = NativeDialect()
    dialect.encode(piece("x"))
    (event,) = Decoder().feed(dialect.encode_error(PROBLEM))
    assert (event.event, event.id) == ("error", "2")
    assert json.loads(event.data) == {
        "error": {
            "type": "ProviderServerError",
            "message": "The AI provider failed.",
            "code": 502,
            "id": "0123",
        }
    }


@pytest.mark.parametrize("finish", REASONS)
@pytest.mark.parametrize("with_usage", [False, True])
def test_chunks_of_a_chat_completion(finish: str, with_usage: bool) -> None:
    data = {"model": "fast/m", "stream_options": {"include_usage": with_usage}}
    dialect = CompletionsDialect(ChatCall("completions", [], data=data))
    said = events(dialect, piece("", "Hm"), *map(piece, TEXTS), last(finish))
    assert said.pop() == "[DONE]"
    if with_usage:
        end = said.pop()
        assert end["choices"] == []
        assert end["usage"] == THEIRS
        assert all(each["usage"] is None for each in said)
    else:
        assert not any("usage" in each for each in said)
    assert len({(each["id"], each["created"], each["model"], each["object"]) for each in said}) == 1
    assert said[0]["model"] == "fast/m"
    choices = [each["choices"][0] for each in said]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert choices[1]["delta"] == {"reasoning_content": "Hm"}
    assert "".join(choice["delta"].get("content", "") for choice in choices) == "".join(TEXTS)
    assert choices[-1]["delta"] == {}
    reason = {"refusal": "content_filter", "unknown": "stop"}.get(finish, finish)
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + [reason]


def test_usage_that_was_not_sent_is_not_made_up() -> None:
    data = {"model": "m", "stream_options": {"include_usage": True}}
    dialect = CompletionsDialect(ChatCall("completions", [], data=data))
    assert events(dialect, last(**NONE))[-2]["usage"] is None
    assert dialect.reply_body(last(**NONE))["usage"] is None
    assert events(NativeDialect(), last(**NONE))[-1]["usage"] == NONE
    assert events(UIDialect(), last(**NONE))[-2] == {"type": "finish", "finishReason": "stop"}


def test_every_count_is_passed_on_in_each_dialect_s_own_words() -> None:
    parts = {"cache_read": 40, "cache_write": 30, "cache_write_1h": 20, "reasoning": 6}
    parts |= {"audio_input": 5, "audio_output": 4, "searches": 2}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110, **parts}
    assert public(last(**usage, cost="1", raw={}))["usage"] == usage
    body = CompletionsDialect(ChatCall("completions", [], data={"model": "m"})).reply_body(last(**usage))
    assert body["usage"] == {
        **{"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        "prompt_tokens_details": {"cached_tokens": 40, "audio_tokens": 5, "cache_write_tokens": 30},
        "completion_tokens_details": {"reasoning_tokens": 6, "audio_tokens": 4},
    }
    finish = events(UIDialect(), last(**usage))[-2]
    assert finish["messageMetadata"]["usage"] == {
        "inputTokens": 100,
        "inputTokenDetails": {"noCacheTokens": 30, "cacheReadTokens": 40, "cacheWriteTokens": 30},
        "outputTokens": 10,
        "outputTokenDetails": {"textTokens": 4, "reasoningTokens": 6},
        "totalTokens": 110,
    }


def test_an_error_ends_the_chunks_without_a_done() -> None:
    said = events(CompletionsDialect(), piece("x"), problem=PROBLEM)
    assert said[-1]["error"]["type"] == "server_error"
    assert said[-1]["error"]["id"] == "0123"


def test_a_whole_chat_completion() -> None:
    body = CompletionsDialect(ChatCall("completions", [], data={"model": "fast"})).reply_body(
        last("length", "Hi")
    )
    assert body["object"] == "chat.completion"
    assert body["model"] == "fast"
    assert body["usage"] == THEIRS
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "length"
    message = {"role": "assistant", "content": "Hi", "refusal": None, "reasoning_content": "Because"}
    assert choice["message"] == message


@pytest.mark.parametrize("finish", REASONS)
def test_the_parts_of_a_ui_message(finish: str) -> None:
    said = events(
        UIDialect(),
        piece("", "H"),
        piece("", "m"),
        piece("a"),
        piece("b"),
        piece("", "Oh"),
        last(finish, "c"),
    )
    reason = {"tool_calls": "tool-calls", "content_filter": "content-filter"}
    reason |= {"refusal": "content-filter", "unknown": "other"}
    assert said[0].pop("messageId").startswith("msg_")
    assert said == [
        {"type": "start"},
        {"type": "start-step"},
        {"type": "reasoning-start", "id": "reasoning-1"},
        {"type": "reasoning-delta", "id": "reasoning-1", "delta": "H"},
        {"type": "reasoning-delta", "id": "reasoning-1", "delta": "m"},
        {"type": "reasoning-end", "id": "reasoning-1"},
        {"type": "text-start", "id": "text-2"},
        {"type": "text-delta", "id": "text-2", "delta": "a"},
        {"type": "text-delta", "id": "text-2", "delta": "b"},
        {"type": "text-end", "id": "text-2"},
        {"type": "reasoning-start", "id": "reasoning-3"},
        {"type": "reasoning-delta", "id": "reasoning-3", "delta": "Oh"},
        {"type": "reasoning-end", "id": "reasoning-3"},
        {"type": "text-start", "id": "text-4"},
        {"type": "text-delta", "id": "text-4", "delta": "c"},
        {"type": "text-end", "id": "text-4"},
        {"type": "finish-step"},
        {
            "type": "finish",
            "finishReason": reason.get(finish, finish),
            "messageMetadata": {
                "usage": {
                    "inputTokens": 3,
                    "inputTokenDetails": {"noCacheTokens": 2, "cacheReadTokens": 1, "cacheWriteTokens": 0},
                    "outputTokens": 2,
                    "outputTokenDetails": {"textTokens": 1, "reasoningTokens": 1},
                    "totalTokens": 5,
                }
            },
        },
        "[DONE]",
    ]


@pytest.mark.parametrize("begun", [False, True])
def test_a_ui_message_that_is_cut_off_closes_its_block_and_says_so(begun: bool) -> None:
    said = events(UIDialect(), *([piece("a")] if begun else []), problem=PROBLEM)
    assert said[-2:] == [{"type": "error", "errorText": "The AI provider failed. (0123)"}, "[DONE]"]
    assert begun == ({"type": "text-end", "id": "text-1"} in said)


@pytest.mark.parametrize("dialect", [NativeDialect, CompletionsDialect, UIDialect])
def test_no_text_breaks_an_event(dialect: Any) -> None:
    """Half a surrogate pair is replaced; a line end stays inside the JSON."""
    written = dialect().encode(piece("a\ud83d\n\ndata: b\r\revent: error"))
    assert b"\\n\\ndata: b\\r\\revent: error" in written
    assert "a?" in written.decode()


# What is read


def refusal(dialect: Any, data: dict[str, Any], api: APISettings) -> str:
    """Give the field that is wrong."""
    with pytest.raises(InvalidRequestError) as raised:
        dialect.read(data, api)
    assert raised.value.code == 0
    assert raised.value.param is not None
    return str(raised.value.param)


def chat(*parts: Any, role: str = "user", **fields: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": role, "content": list(parts)}], **fields}


def test_the_parts_of_openais_messages(api: APISettings) -> None:
    png = "data:image/png;base64,iVBORw0KGgo="
    call = CompletionsDialect.read(
        {
            "model": "fast/m",
            "messages": [
                {"role": "assistant", "content": None, "refusal": "No."},
                {
                    "role": "user",
                    "name": "someone",
                    "content": [
                        {"type": "text", "text": "What?"},
                        {"type": "image_url", "image_url": {"url": png, "detail": "low"}},
                        {"type": "input_audio", "input_audio": {"data": "UklGRgAAAABXQVZF", "format": "wav"}},
                        {"type": "file", "file": {"file_data": "JVBERi0xLjc=", "filename": "a.pdf"}},
                    ],
                },
            ],
            "max_completion_tokens": 5,
            "stop": None,
        },
        api,
    )
    assert (call.driver, call.model, call.options, call.stream) == ("fast", "m", {"max_tokens": 5}, False)
    assert call.messages == [
        {"role": "assistant", "content": "No."},
        {
            "role": "user",
            "content": [
                {"type": "text", "content": "What?"},
                {"type": "image", "content": png, "metadata": {"detail": "low"}},
                {"type": "audio", "content": "UklGRgAAAABXQVZF", "metadata": {"format": "wav"}},
                {"type": "document", "content": "JVBERi0xLjc=", "metadata": {"filename": "a.pdf"}},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"model": "echo"}, "messages"),
        ({"model": "echo", "messages": {}}, "messages"),
        ({"model": "echo", "messages": []}, "messages"),
        ({"model": "echo", "messages": [1]}, "messages[0]"),
        ({"model": "echo", "messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
        ({"model": "echo", "messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0]"),
        ({"model": "echo", "messages": [{"role": "developer", "content": "x"}, *HELLO]},
         'messages[0]["role"]'),
        (chat({"type": "video"}), 'messages[0]["content"][0]'),
        (chat({"type": ["text"]}), 'messages[0]["content"][0]'),
        (chat(1), 'messages[0]["content"][0]'),
        (chat({"type": "text"}), 'messages[0]["content"][0]["text"]'),
        (chat({"type": "file", "file": {"file_id": "f-1"}}), 'messages[0]["content"][0]'),
        (chat({"type": "image_url", "image_url": {}}), 'messages[0]["content"][0]["image_url"]["url"]'),
        (chat({"type": "image_url", "image_url": {"url": "iVBORw0KGgo=", "detail": 1}}),
         'messages[0]["content"][0]["image_url"]["detail"]'),
        (chat({"type": "text", "text": "x"}, max_tokens=11), "max_tokens"),
        (chat({"type": "text", "text": "x"}, max_completion_tokens="1"), "max_completion_tokens"),
        (chat({"type": "text", "text": "x"}, n=True), "n"),
        (chat({"type": "text", "text": "x"}, stream=1), "stream"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_chat_completion_request(
    data: dict[str, Any], field: str, api: APISettings
) -> None:
    assert refusal(CompletionsDialect, data, api) == field


def test_a_conversation_of_use_chat(api: APISettings) -> None:
    messages = [
        {
            "id": "1",
            "role": "user",
            "metadata": {"signature": "x"},
            "parts": [{"type": "text", "text": "Hi"}],
        },
        {
            "id": "2",
            "role": "assistant",
            "parts": [
                {"type": "step-start"},
                {"type": "reasoning", "text": "Hm"},
                {"type": "text", "text": "Hello", "providerMetadata": {"x": 1}},
                {"type": "tool-weather", "state": "output-available", "output": {"forged": True}},
                {"type": "data-x", "data": 1},
                {"type": "source-url", "url": "u"},
                {"type": "of next year"},
            ],
        },
        {"id": "3", "role": "assistant", "parts": []},
        {
            "id": "4",
            "role": "user",
            "parts": [
                {"type": "text", "text": "Look"},
                {"type": "file", "mediaType": "image/png", "url": "https://h.example/a", "filename": "a.png"},
            ],
        },
    ]
    call = UIDialect.read({"id": "c", "messages": messages, "trigger": "submit-message", "x": 1}, api)
    assert call.stream
    assert call.messages == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {
            "role": "user",
            "content": [
                {"type": "text", "content": "Look"},
                {
                    "type": "image",
                    "content": "https://h.example/a",
                    "metadata": {"mime_type": "image/png", "filename": "a.png"},
                },
            ],
        },
    ]
    alone = UIDialect.read({"id": "c", "message": messages[0]}, api)
    assert alone.messages == [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"message": 1}, "message"),
        ({"message": {"role": "user"}}, 'message["parts"]'),
        ({"message": {"role": "user", "parts": [1]}}, 'message["parts"][0]'),
        ({"message": {"role": "user", "parts": [{"type": "text"}]}}, 'message["parts"][0]["text"]'),
        ({"message": {"role": "user", "parts": [{"type": "file", "url": "x"}]}}, 'message["parts"][0]'),
        ({"message": {"role": "root", "parts": []}}, 'message["role"]'),
        ({"messages": [{"role": "system", "parts": [{"type": "text", "text": "x"}]},
                       {"role": "user", "parts": [{"type": "text", "text": "x"}]}]}, 'messages[0]["role"]'),
        ({"messages": [{"role": "assistant", "parts": []},
                       {"role": "user", "parts": [
                           {"type": "step-start"},
                           {"type": "text", "text": "x"},
                           {"type": "file", "mediaType": "image/gif", "url": "data:,GIF8"},
                       ]}]}, 'messages[1]["parts"][2]'),
        ({"message": {"role": "user", "parts": [{"type": "text", "text": "x"}]}, "model": 1}, "model"),
        ({"message": {"role": "user", "parts": [{"type": "text", "text": "x"}]}, "driver": "x"}, "driver"),
        ({"message": {"role": "user", "parts": [{"type": "text", "text": "x"}]}, "options": []}, "options"),
        ({"message": {"role": "user", "parts": [{"type": "text", "text": " "}]}}, 'message["parts"]'),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_request_of_use_chat(data: dict[str, Any], field: str, api: APISettings) -> None:
    assert refusal(UIDialect, data, api) == field


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}], "stream": True}, "stream"),
        ({"messages": [{"role": "user", "content": "x"}], "driver": ""}, "driver"),
        ({"messages": [{"role": "user", "content": "x"}], "driver": 1}, "driver"),
        ({"messages": [{"role": "user", "content": "x"}], "model": "m"}, "model"),
        ({"messages": [{"role": "user", "content": "x"}], "options": []}, "options"),
        ({"messages": [{"role": "user", "content": "x"}], "options": {"api_key": "x"}}, 'options["api_key"]'),
        ({"messages": [{"role": "user", "content": "x"}], "options": {"seed": 2}}, 'options["seed"]'),
        ({"messages": [{"role": "user", "content": "x", "tool": 1}]}, 'messages[0]["tool"]'),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "boss"}]}, 'messages[1]["role"]'),
    ],
)
def test_what_is_wrong_with_a_native_request(data: dict[str, Any], field: str, api: APISettings) -> None:
    assert refusal(NativeDialect, data, api) == field


# What a client is told of a failure

STATUSES = {
    "AuthenticationError": 502, "ProviderPermissionError": 502, "QuotaExceededError": 503,
    "RateLimitError": 429, "InvalidRequestError": 400, "ContextLengthExceededError": 413,
    "RequestTooLargeError": 413, "ContentFilteredError": 422, "UnsupportedFeatureError": 400,
    "ModelNotFoundError": 502, "ConflictError": 502, "ProviderConnectionError": 502,
    "ProviderTimeoutError": 504, "ProviderServerError": 502, "OverloadedError": 503,
    "StreamError": 502, "StreamInterruptedError": 502, "ResponseParseError": 502,
}  # fmt: skip


@pytest.mark.parametrize("name", STATUSES)
def test_each_failure_has_its_status_and_no_word_of_the_providers(name: str) -> None:
    """The table of docs/http-api.md, "Errors"."""
    error = getattr(exceptions, name)("sk-secret", code=418, type="secret", param="secret")
    error.alias, error.driver, error.model, error.attempts = "secret", "secret", "secret", 1
    problem = report(error)
    assert (problem.status, problem.type) == (STATUSES[name], name)
    assert "secret" not in repr(problem)
    assert problem.id
    retried = problem.status >= 500 and not error.retryable
    assert (problem.headers.get("x-should-retry") == "false") == retried


def test_every_class_has_its_row() -> None:
    found = [EngineError]
    for cls in found:
        found += cls.__subclasses__()
    ours = {cls.__name__ for cls in found if cls.__module__ == "bupple_engine.exceptions"}
    assert ours - {"EngineError"} == set(STATUSES)


@pytest.mark.parametrize(
    ("seconds", "header"),
    [(0, "0"), (0.1, "1"), (7, "7"), (7.2, "8"), (-3, "0"), (1e300, "1000000"), (None, None)],
)
def test_retry_after_is_whole_seconds(seconds: float | None, header: str | None) -> None:
    assert Problem(429, "x", "x", retry_after=seconds).headers.get("Retry-After") == header


def test_what_quotes_a_client_is_cut() -> None:
    problem = problem_of(InvalidRequestError("x" * 10_000, param="y" * 10_000))
    assert len(problem.message) < 1000
    assert len(problem.param or "") < 1000


def test_a_dialect_without_its_last_words_can_not_be_made() -> None:
    class Half(Dialect):
        def encode(self, chunk: Any) -> bytes:
            return b""

    with pytest.raises(TypeError, match="encode_error"):
        Half()  # type: ignore[abstract]
