"""What services do to a stream and to an answer: one case each, whole and cut between any two bytes."""

from __future__ import annotations

import importlib.util
import itertools
import json
import logging
import sys
from typing import Any

import pytest

from bupple_engine import (
    ContentFilteredError,
    EngineError,
    InvalidRequestError,
    OverloadedError,
    ProviderServerError,
    QuotaExceededError,
    RateLimitError,
    ResponseParseError,
    StreamError,
    StreamInterruptedError,
)
from bupple_engine.exchange import events as exchange_events
from bupple_engine.exchange import reader
from bupple_engine.exchange.exchange import END_SECONDS
from bupple_engine.protocol import json as decoding
from tests.pure import answer, begin, frames, hear, pieces
from tests.verbs import Outcome

USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
NO_USAGE = dict.fromkeys(USAGE)
DONE = "[DONE]"


def delta(content: Any = None, finish: Any = None, **beside: Any) -> dict[str, Any]:
    """Write a chunk of Chat Completions; what is beside content in its delta."""
    return {"choices": [{"index": 0, "delta": {"content": content, **beside}, "finish_reason": finish}]}


HI, STOP = delta("Hi"), delta(finish="stop")
USED = {"choices": [], "usage": USAGE}
CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def facts(outcome: Outcome) -> dict[str, Any]:
    """Return what a test of an answer looks at; the usage as the three counts."""
    assert outcome.error is None
    reply = outcome.reply
    found = {"content": reply["content"], "finish": reply["finish_reason"], "reasoning": outcome.reasoning}
    return found | {"usage": {name: reply["usage"][name] for name in USAGE}, "model": reply["model"]}


WHOLE = {"content": "Hi", "finish": "stop", "reasoning": "", "usage": NO_USAGE, "model": "m"}

# The numbers are those of the table "Streaming quirks"; what differs from WHOLE is beside each.
CHAT_STREAMS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "1 comments": (
        b": OPENROUTER PROCESSING\n\n:\n\n: keep-alive\n" + frames(HI) + b":\n" + frames(STOP, DONE),
        {},
    ),
    "2 blank lines": (b"\n\n \n\r\n\n" + frames(HI, STOP, DONE), {}),
    "3 no space": (frames(HI, STOP, DONE).replace(b"data: ", b"data:"), {}),
    "3 CRLF": (frames(HI, STOP, DONE, end="\r\n\r\n"), {}),
    "3 CR": (frames(HI, STOP, DONE, end="\r\r"), {}),
    "3 no blank line at the end": (frames(HI, STOP).rstrip(), {}),
    "3 no line end behind the mark": (frames(HI) + b"data: [DONE]", {"finish": "unknown"}),
    "4 no mark": (frames(HI, STOP), {}),
    "5 no finish reason": (frames(HI, DONE), {"finish": "unknown"}),
    "6 usage behind the finish": (frames(HI, STOP, USED, DONE), {"usage": USAGE}),
    "7 usage in the finish": (frames(HI, {**STOP, "usage": USAGE}, DONE), {"usage": USAGE}),
    "7 usage in every chunk": (
        frames(
            {**HI, "usage": {**USAGE, "completion_tokens": 1, "total_tokens": 6}}, {**STOP, "usage": USAGE}
        ),
        {"usage": USAGE},
    ),
    "7 usage, then null": (frames({**HI, "usage": USAGE}, {**STOP, "usage": None}, DONE), {"usage": USAGE}),
    "8 usage of Groq": (
        frames(HI, {**STOP, "x_groq": {"id": "req_1", "usage": USAGE}}, DONE),
        {"usage": USAGE},
    ),
    "8 no usage of Groq": (frames({**HI, "x_groq": {"id": "req_1"}}, {**STOP, "x_groq": None}, DONE), {}),
    "9 finish twice": (frames(HI, STOP, {**delta("", "stop"), "usage": USAGE}, DONE), {"usage": USAGE}),
    "9 another finish": (frames(HI, delta(finish="length"), STOP, DONE), {"finish": "length"}),
    "10 filter results first": (
        frames(
            {"choices": [], "id": "", "model": "", "prompt_filter_results": [{}]}, {**HI, "model": "n"}, STOP
        ),
        {"model": "n"},
    ),
    "11 no delta": (frames({"choices": [{"index": 0, "delta": None}]}, {"choices": [{}]}, HI, STOP), {}),
    "11 null roles": (
        frames(delta("", role=None), delta("H", role=""), delta("i", role="assistant"), STOP),
        {},
    ),
    "11 null content": (frames(delta(None, role="assistant"), HI, delta(None), STOP), {}),
    "11 no choices": (frames({"choices": None}, {}, HI, STOP), {}),
    "12 content as a list": (
        frames(
            delta([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}, {"type": "text"}]}]),
            delta([{"type": "text", "text": "H"}, "i", {"type": "reference"}, None]),
            STOP,
        ),
        {"reasoning": "hm"},
    ),
    "13 reasoning_content": (
        frames(delta("", reasoning_content="hm"), delta(reasoning_content=""), HI, STOP),
        {"reasoning": "hm"},
    ),
    "13 reasoning": (frames(delta(reasoning="hm"), HI, STOP), {"reasoning": "hm"}),
    "13 reasoning beside content": (frames(delta("Hi", reasoning="hm"), STOP), {"reasoning": "hm"}),
    "14 inline thinking": (
        frames(delta("<thi"), delta("nk>a</think>"), HI, STOP),
        {"content": "<think>a</think>Hi"},
    ),
    "15 a whole call": (
        frames(HI, delta(tool_calls=[CALL]), delta(finish="tool_calls")),
        {"finish": "tool_calls"},
    ),
    "15 a call that stops": (frames(HI, delta(tool_calls=[CALL]), STOP), {"finish": "tool_calls"}),
    "15 no index": (
        frames(HI, delta(tool_calls=[{"function": {"name": "f"}}]), STOP),
        {"finish": "tool_calls"},
    ),
    "15 arguments as an object": (
        frames(HI, delta(tool_calls=[{"function": {"arguments": {"a": 1}}}]), STOP),
        {"finish": "tool_calls"},
    ),
    "15 a call of old": (
        frames(HI, delta(function_call={}), delta(finish="function_call")),
        {"finish": "tool_calls"},
    ),
    "15 no calls": (frames(HI, delta(tool_calls=[]), delta(finish="stop", tool_calls=None)), {}),
    "a whole message behind its deltas": (
        frames(
            delta("H"), delta("i"), {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
        ),
        {},
    ),
    "messages that grow": (
        frames(*({"choices": [{"message": {"content": text}}]} for text in ("H", "Hi")), STOP),
        {},
    ),
    "pieces called messages": (
        frames(*({"choices": [{"message": {"content": text}}]} for text in ("H", "i")), STOP),
        {},
    ),
    "a message with its reasoning again": (
        frames(
            delta("", reasoning="hm"),
            HI,
            {"choices": [{"message": {"content": "Hi", "reasoning": "hm"}, "finish_reason": "stop"}]},
        ),
        {"reasoning": "hm"},
    ),
    "a piece without its list": (frames(delta({"type": "text", "text": "Hi"}), STOP), {}),
    "the mark in another spelling": (frames(HI, STOP, "[done]"), {}),
    "the mark as a string": (frames(HI, STOP, '"[DONE]"', "garbage"), {}),
    "a word to wait": (frames({"status": "queued", "message": "Please wait"}, HI, STOP), {}),
    "a wait and its code": (frames({"code": 0, "message": "Please wait"}, HI, STOP), {}),
    "null choices": (frames({"choices": [None]}, HI, {"choices": [None]}, STOP), {}),
    "the own choice second": (
        frames({"choices": [{"index": 1, "delta": {"content": "No"}}, {**HI["choices"][0]}]}, STOP),
        {},
    ),
    "the own index a string": (frames({"choices": [{"index": "0", "delta": {"content": "Hi"}}]}, STOP), {}),
    **{
        f"finish {word!r} until the end": (frames(delta("H", word), delta("i", word), STOP), {})
        for word in ("null", "None", "", "finish_reason_unspecified")
    },
    "finish empty to the end": (frames(delta("Hi", ""), delta("", ""), DONE), {}),
    "a call, and no finish": (frames(HI, delta(tool_calls=[CALL]), DONE), {"finish": "tool_calls"}),
    "calls with nothing in them": (
        frames(
            delta("Hi", function_call={"name": "", "arguments": ""}),
            delta(tool_calls=[{"index": 0, "id": "", "function": {"name": None, "arguments": ""}}]),
            STOP,
        ),
        {},
    ),
    "calls that go on without an id": (
        frames(
            delta(tool_calls=[CALL]), HI, delta(tool_calls=[{"id": "", "function": {"arguments": "1"}}]), STOP
        ),
        {"finish": "tool_calls"},
    ),
    **{
        f"reasoning as {name}": (frames(delta("", **{name: value}), HI, STOP), {"reasoning": "hm"})
        for name, value in {
            "reasoning_text": "hm",
            "thinking": "hm",
            "reasoning": {"content": "hm"},
            "reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}],
            "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}],
        }.items()
    },
    "reasoning as pieces of the content": (
        frames(
            delta([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}]),
            delta([{"type": "text", "text": "Hi"}, {"type": "reference", "ids": [1]}]),
            STOP,
        ),
        {"reasoning": "hm"},
    ),
    "usage with zeros behind it": (
        frames({**HI, "usage": USAGE}, {**STOP, "usage": dict.fromkeys(USAGE, 0)}, DONE),
        {"usage": USAGE},
    ),
    "bare JSON behind a comment": (
        b": keep-alive\n\n" + json.dumps({"choices": [{"message": {"content": "Hi"}}]}).encode() + b"\n\n"
        b"data: [DONE]\n\n",
        {"finish": "unknown"},
    ),
    "a line each": (b"\n".join(json.dumps(event).encode() for event in (HI, STOP)), {}),
    "an array": (json.dumps([HI, STOP]).encode(), {}),
    "20 JSON": (
        json.dumps(
            {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], "usage": USAGE}
        ).encode(),
        {"usage": USAGE},
    ),
    "20 JSON behind blank lines": (
        b'\n \r\n{"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}\n',
        {},
    ),
    "22 characters in pieces": (frames(delta("Grüße 🦜\u2028\x85"), STOP), {"content": "Grüße 🦜\u2028\x85"}),
    "half a character": (
        frames(r'{"choices": [{"delta": {"content": "\ud83e\\ud83e\uD83E\uDD9C\udd9c"}}]}', STOP),
        {"content": "\ufffd\\ud83e🦜\ufffd"},
    ),
    "NaN": (frames('{"choices": [{"delta": {"content": "Hi"}, "logprobs": NaN}]}', STOP), {}),
    "a BOM": (b"\xef\xbb\xbf" + frames(HI, STOP), {}),
    "unknown events": (b"event: ping\ndata: {}\n\n" + frames(HI, {"object": "x"}, STOP), {}),
    "empty data": (b"data\n\ndata: \n\n" + frames(HI, STOP), {}),
    "several choices": (frames(HI, {"choices": [{"index": 1, "delta": {"content": "No"}}]}, STOP), {}),
    "a refusal": (frames(delta(refusal="Hi"), STOP), {"finish": "refusal"}),
    **{
        f"finish {theirs}": (frames(HI, delta(finish=theirs), DONE), {"finish": ours})
        for theirs, ours in {
            "length": "length",
            "model_length": "length",
            "max_tokens": "length",
            "content_filter": "content_filter",
            "insufficient_system_resource": "unknown",
            "sensitive": "content_filter",
            "model_context_window_exceeded": "length",
            "maxTokens": "length",
            "end-turn": "stop",
            "tool-use": "tool_calls",
            "PROHIBITED_CONTENT": "content_filter",
            "eos": "stop",
            "end_turn": "stop",
            "STOP": "stop",
            "a_word_of_next_year": "unknown",
        }.items()
    },
}


def chat(message: Any, finish: str | None = "stop", **beside: Any) -> bytes:
    """Write a whole answer of Chat Completions."""
    return json.dumps({"choices": [{"message": message, "finish_reason": finish}], **beside}).encode()


CHAT_REPLIES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "usage missing": (chat({"content": "Hi"}), {}),
    "usage null": (chat({"content": "Hi"}, usage=None), {}),
    "usage of nulls": (
        chat({"content": "Hi"}, usage={"prompt_tokens": None, "completion_tokens": 2}),
        {"usage": {"prompt_tokens": 0, "completion_tokens": 2, "total_tokens": 2}},
    ),
    "usage of another shape": (
        chat(
            {"content": "Hi"},
            usage={"prompt_tokens": "5", "completion_tokens": float("nan"), "total_tokens": []},
        ),
        {"usage": {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}},
    ),
    "usage in the other API's words": (
        chat({"content": "Hi"}, usage={"input_tokens": 3, "output_tokens": "2"}),
        {"usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}},
    ),
    "usage of Groq": (chat({"content": "Hi"}, x_groq={"usage": USAGE}), {"usage": USAGE}),
    "content null": (chat({"content": None}), {"content": ""}),
    "content empty": (chat({"content": ""}), {"content": ""}),
    "content as a list": (
        chat(
            {"content": [{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": "Hi"}]}
        ),
        {"reasoning": "hm"},
    ),
    "content a number": (chat({"content": 42}), {"content": "42"}),
    "content zero": (chat({"content": 0}), {"content": "0"}),
    "content JSON": (chat({"content": {"name": "Å", "n": [1]}}), {"content": '{"name":"Å","n":[1]}'}),
    "an empty delta beside the message": (
        chat({"content": "Hi"}).replace(
            b'"finish', b'"delta": {"role": "assistant", "content": ""}, "finish'
        ),
        {},
    ),
    "finish empty": (chat({"content": "Hi"}, ""), {}),
    "a call, and finish empty": (
        chat({"content": "Hi", "tool_calls": [CALL]}, ""),
        {"finish": "tool_calls"},
    ),
    "an empty function call": (chat({"content": "Hi", "function_call": {"name": "", "arguments": ""}}), {}),
    "reasoning beside the completion": (
        chat(
            {"content": "Hi"},
            usage={**USAGE, "completion_tokens_details": {"reasoning_tokens": 30}},
        ),
        {"usage": {"prompt_tokens": 5, "completion_tokens": 32, "total_tokens": 37}},
    ),
    "reasoning in the total alone": (
        chat({"content": "Hi"}, usage={**USAGE, "total_tokens": 8, "reasoning_tokens": 1}),
        {"usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}},
    ),
    "reasoning within the completion": (
        chat({"content": "Hi"}, usage={**USAGE, "completion_tokens_details": {"reasoning_tokens": 2}}),
        {"usage": USAGE},
    ),
    "total zero": (chat({"content": "Hi"}, usage={**USAGE, "total_tokens": 0}), {"usage": USAGE}),
    "reasoning_content": (chat({"content": "Hi", "reasoning_content": "hm"}), {"reasoning": "hm"}),
    "reasoning": (chat({"content": "Hi", "reasoning": "hm"}), {"reasoning": "hm"}),
    "inline thinking": (chat({"content": "<think>a</think>Hi"}), {"content": "<think>a</think>Hi"}),
    "finish null": (chat({"content": "Hi"}, None), {"finish": "unknown"}),
    "finish unknown": (chat({"content": "Hi"}, "a_word_of_next_year"), {"finish": "unknown"}),
    "no calls": (chat({"content": "Hi", "tool_calls": []}), {}),
    "calls that stop": (
        chat({"content": None, "tool_calls": [CALL]}),
        {"content": "", "finish": "tool_calls"},
    ),
    "refusal": (chat({"content": None, "refusal": "Hi"}), {"finish": "refusal"}),
    "model of its own": (chat({"content": "Hi"}, model="another"), {"model": "another"}),
    "no id": (chat({"content": "Hi"}, id=None), {}),
    "leading blank lines": (b"\n\n\r\n  " + chat({"content": "Hi"}), {}),
    "a BOM": (b"\xef\xbb\xbf" + chat({"content": "Hi"}), {}),
    "half a character": (chat({"content": "\ud83e"}), {"content": "\ufffd"}),
}


@pytest.fixture(params=["orjson", "json"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse with the extra `speed` and without: a copy of the module, as it is where orjson is missing."""
    if request.param == "orjson":
        pytest.importorskip("orjson")
        return
    monkeypatch.setitem(sys.modules, "orjson", None)
    spec = importlib.util.spec_from_file_location(decoding.__name__, decoding.__file__)
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    for module in (exchange_events, reader):
        monkeypatch.setattr(module, "loads", copy.loads)


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(("raw", "differs"), CHAT_STREAMS.values(), ids=CHAT_STREAMS)
def test_quirks_of_streams(raw: bytes, differs: dict[str, Any]) -> None:
    for size in (0, 1, 3):
        outcome = answer("compatible", raw, size=size)
        assert facts(outcome) == {**WHOLE, **differs}
        assert [chunk["done"] for chunk in outcome.chunks] == [False] * (len(outcome.chunks) - 1) + [True]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("raw", "differs"), CHAT_REPLIES.values(), ids=CHAT_REPLIES)
def test_quirks_of_replies(raw: bytes, differs: dict[str, Any], stream: bool) -> None:
    for size in (0, 1, 2):
        assert facts(answer("compatible", raw, size=size, stream=stream)) == {**WHOLE, **differs}


def test_reasoning_comes_before_what_it_led_to() -> None:
    for raw in (frames(delta("Hi", reasoning="hm"), STOP), chat({"content": "Hi", "reasoning": "hm"})):
        first, second, _ = answer("compatible", raw).chunks
        assert (first["metadata"], second["content"]) == ({"reasoning": "hm"}, "Hi")


# Errors inside a 200 stream: driver, bytes, class, code, message. "Hi" has come before each.

GEMINI_HI = {"candidates": [{"content": {"parts": [{"text": "Hi"}]}}]}
UNAVAILABLE = {"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}}
CLAUDE_HI = [
    {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 5, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
]
OPENAI_HI = {"type": "response.output_text.delta", "delta": "Hi"}


def failed(**error: Any) -> dict[str, Any]:
    """Write the event of a response that failed."""
    return {"type": "response.failed", "response": {"status": "failed", "error": {"message": "No", **error}}}


IN_STREAM: dict[str, tuple[str, bytes, type[EngineError], int, str]] = {
    "16 OpenRouter": (
        "openrouter",
        frames(HI, {"error": {"code": 502, "message": "Bad upstream"}, **delta("", "error")}),
        ProviderServerError,
        502,
        "Bad upstream",
    ),
    "16 an error of the choice": (
        "openrouter",
        frames(
            HI,
            {"choices": [{"delta": {}, "finish_reason": "error", "error": {"code": 429, "message": "Slow"}}]},
        ),
        RateLimitError,
        429,
        "Slow",
    ),
    "16 an error of a choice that has not ended": (
        "openrouter",
        frames(HI, {"choices": [{"delta": {"content": ""}, "error": {"code": 502, "message": "Gone"}}]}),
        ProviderServerError,
        502,
        "Gone",
    ),
    "an error of a delta": (
        "groq",
        frames(HI, {"choices": [{"delta": {"error": {"code": 429, "message": "Slow"}}}]}),
        RateLimitError,
        429,
        "Slow",
    ),
    "a finish that is a failure": (
        "groq",
        frames(HI, delta(finish="network_error")),
        ProviderServerError,
        0,
        "The provider failed.",
    ),
    "an error of a candidate": (
        "gemini",
        frames({"candidates": [{**GEMINI_HI["candidates"][0], "error": {"code": 503, "message": "Gone"}}]}),
        OverloadedError,
        503,
        "Gone",
    ),
    "throttling that calls itself invalid": (
        "claude",
        frames(
            *CLAUDE_HI,
            {
                "type": "error",
                "error": {"type": "invalid_request_error", "message": '{"message": "Too many requests"}'},
            },
        ),
        RateLimitError,
        0,
        "Too many requests",
    ),
    "19 event of words": (
        "groq",
        frames(HI) + b"event: error\ndata: Rate limit reached\n\n",
        RateLimitError,
        0,
        "Rate limit reached",
    ),
    "16 an error that says nothing": (
        "openrouter",
        frames(HI, delta("", "error")),
        ProviderServerError,
        0,
        "The provider failed.",
    ),
    "17 vLLM": (
        "vllm",
        frames(HI, {"error": {"message": "No", "type": "InternalServerError", "code": 500}}),
        ProviderServerError,
        500,
        "No",
    ),
    "17 a word": (
        "groq",
        frames(HI, {"error": {"message": "No", "type": "server_error"}}),
        ProviderServerError,
        0,
        "No",
    ),
    "17 no word": ("groq", frames(HI, {"error": {"message": "No"}}), StreamError, 0, "No"),
    "17 a string": ("groq", frames(HI, {"error": "No"}), StreamError, 0, "No"),
    "17 a number in words": (
        "azure",
        frames(HI, {"error": {"message": "No", "code": "429"}}),
        RateLimitError,
        429,
        "No",
    ),
    "18 flat": (
        "vllm",
        frames(HI, {"object": "error", "message": "No", "code": 400}),
        InvalidRequestError,
        400,
        "No",
    ),
    "19 event": ("groq", frames(HI) + b'event: error\ndata: {"message": "No"}\n\n', StreamError, 0, "No"),
    "19 event of text": (
        "groq",
        frames(HI) + b"event: error\ndata: Out of luck\n\n",
        StreamError,
        0,
        "Out of luck",
    ),
    "19 field": (
        "llamacpp",
        frames(HI) + b'error: {"code":503,"message":"Loading","type":"unavailable_error"}\n\n',
        OverloadedError,
        503,
        "Loading",
    ),
    "19 field behind another": (
        "llamacpp",
        b"hello: {}\n" + frames(HI) + b'error: {"code": 500, "message": "No"}',
        ProviderServerError,
        500,
        "No",
    ),
    "behind the finish": (
        "groq",
        frames(HI, STOP, {"error": {"message": "No", "code": 500}}),
        ProviderServerError,
        500,
        "No",
    ),
    "Gemini, framed": ("gemini", frames(GEMINI_HI, UNAVAILABLE), OverloadedError, 503, "Overloaded"),
    "Gemini, bare": (
        "gemini",
        frames(GEMINI_HI, end="\r\n\r\n") + json.dumps(UNAVAILABLE, indent=2).replace("\n", "\r\n").encode(),
        OverloadedError,
        503,
        "Overloaded",
    ),
    "Gemini, bare on one line": (
        "gemini",
        frames(GEMINI_HI) + json.dumps(UNAVAILABLE).encode() + b"\n\n",
        OverloadedError,
        503,
        "Overloaded",
    ),
    "Gemini, a bare array": (
        "gemini",
        frames(GEMINI_HI) + json.dumps([UNAVAILABLE], indent=2).encode(),
        OverloadedError,
        503,
        "Overloaded",
    ),
    "Gemini, nothing inside": (
        "gemini",
        frames(
            {
                **GEMINI_HI,
                "candidates": [{**GEMINI_HI["candidates"][0], "finishReason": "MALFORMED_RESPONSE"}],
            }
        ),
        ProviderServerError,
        0,
        "The provider ended its answer with MALFORMED_RESPONSE.",
    ),
    "Claude": (
        "claude",
        frames(*CLAUDE_HI)
        + b'event: error\ndata: {"error": {"type": "overloaded_error", "message": "No"}}\n\n',
        OverloadedError,
        0,
        "No",
    ),
    "Claude, of no name": (
        "claude",
        frames(*CLAUDE_HI, {"type": "error", "error": {"type": "rate_limit_error", "message": "No"}}),
        RateLimitError,
        0,
        "No",
    ),
    "Responses, failed": (
        "openai",
        frames(OPENAI_HI, failed(code="server_error")),
        ProviderServerError,
        0,
        "No",
    ),
    "Responses, out of credit": (
        "openai",
        frames(OPENAI_HI, failed(code="credit_balance_exhausted")),
        QuotaExceededError,
        0,
        "No",
    ),
    "Responses, a policy": (
        "openai",
        frames(OPENAI_HI, failed(code="bio_policy")),
        ContentFilteredError,
        0,
        "No",
    ),
    "Responses, an image": (
        "openai",
        frames(OPENAI_HI, failed(code="image_too_large")),
        InvalidRequestError,
        0,
        "No",
    ),
    "Responses, no reason": (
        "openai",
        frames(OPENAI_HI, {"type": "response.failed", "response": {"status": "failed", "error": None}}),
        StreamError,
        0,
        "The provider reports a failed response.",
    ),
    "Responses, an event": (
        "openai",
        frames(OPENAI_HI, {"type": "error", "code": "rate_limit_exceeded", "message": "No", "param": None}),
        RateLimitError,
        0,
        "No",
    ),
    "Responses, an error frame": (
        "openai",
        frames(OPENAI_HI, {"error": {"code": "server_error", "message": "No"}}),
        ProviderServerError,
        0,
        "No",
    ),
}


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize(("driver", "raw", "expected", "code", "message"), IN_STREAM.values(), ids=IN_STREAM)
def test_errors_inside_a_stream(
    driver: str, raw: bytes, expected: type[EngineError], code: int, message: str, size: int
) -> None:
    outcome = answer(driver, raw, size=size)
    error = outcome.error
    assert error is not None
    assert (type(error), error.code, error.message) == (expected, code, message)
    assert (outcome.text, error.partial_content, error.in_stream) == ("Hi", "Hi", True)
    assert not any(chunk["done"] for chunk in outcome.chunks)


# An answer of status 200 whose whole body is an error, a page or nothing.

BODIES: dict[str, tuple[str, bytes, type[EngineError], str]] = {
    "error": ("openrouter", b'{"error": {"code": 502, "message": "No"}}', ProviderServerError, "No"),
    "error behind blank lines": (
        "deepseek",
        b'\n\n\n{"error": {"message": "No", "type": "server_error"}}',
        ProviderServerError,
        "No",
    ),
    "error of the choice": (
        "openrouter",
        chat({"content": "H"}, "error").replace(b"}]", b', "error": {"code": 429, "message": "No"}}]'),
        RateLimitError,
        "No",
    ),
    "flat": ("vllm", b'{"object": "error", "message": "No", "code": 400}', InvalidRequestError, "No"),
    "Claude": (
        "claude",
        b'{"type": "error", "error": {"type": "overloaded_error", "message": "No"}}',
        OverloadedError,
        "No",
    ),
    "Gemini": ("gemini", json.dumps(UNAVAILABLE, indent=2).encode(), OverloadedError, "Overloaded"),
    "Gemini, an array": (
        "gemini",
        json.dumps([UNAVAILABLE], indent=1).encode(),
        OverloadedError,
        "Overloaded",
    ),
    "a blocked prompt": (
        "gemini",
        b'{"promptFeedback": {"blockReason": "SAFETY"}}',
        ContentFilteredError,
        "The prompt was blocked: SAFETY.",
    ),
    "a failed response": (
        "openai",
        b'{"status": "failed", "error": {"code": "server_error", "message": "No"}, "output": []}',
        ProviderServerError,
        "No",
    ),
    "a page": (
        "groq",
        b"<!DOCTYPE html>\n<p>Sign in\n\n</p>",
        ResponseParseError,
        "The answer is no JSON object: '<!DOCTYPE html>",
    ),
    "an array": ("groq", b'["Hi"]', ResponseParseError, "The answer is no JSON object"),
    "no choices": ("groq", b'{"choices": []}', ResponseParseError, "The answer says nothing"),
    "another shape": (
        "groq",
        b'{"choices": [7]}',
        ResponseParseError,
        "The answer has another shape than documented",
    ),
    "a choice of nothing": ("groq", b'{"choices": [{}]}', ResponseParseError, "The answer says nothing"),
    "an answer in a queue": (
        "openai",
        b'{"object": "response", "status": "queued", "output": []}',
        ResponseParseError,
        "The response is not there yet",
    ),
    "no candidates": (
        "gemini",
        b'{"usageMetadata": {"promptTokenCount": 5}}',
        ResponseParseError,
        "The answer says nothing",
    ),
    "another shape of Claude": (
        "claude",
        b'{"content": ["Hi"]}',
        ResponseParseError,
        "The answer has another shape",
    ),
    "another shape of Responses": (
        "openai",
        b'{"output": 7}',
        ResponseParseError,
        "The answer has another shape",
    ),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("driver", "raw", "expected", "message"), BODIES.values(), ids=BODIES)
def test_an_answer_of_status_200_may_be_an_error(
    driver: str, raw: bytes, expected: type[EngineError], message: str, stream: bool
) -> None:
    for size in (0, 1):
        outcome = answer(driver, raw, size=size, stream=stream)
        assert type(outcome.error) is expected
        assert outcome.error.message.startswith(message)
        assert (outcome.chunks, outcome.error.in_stream) == ([], stream)


def test_an_error_of_no_class_is_the_servers_where_nothing_streams() -> None:
    assert type(answer("groq", b'{"error": "No"}').error) is StreamError
    assert type(answer("groq", b'{"error": "No"}', stream=False).error) is ProviderServerError


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("driver", ["openai", "groq", "claude", "gemini"])
@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (frames('{"choices": [{"del'), "An event of the stream is no JSON: '{\"choices"),
        (frames("Hello"), "An event of the stream is no JSON: 'Hello'"),
        (frames("7"), "An event of the stream is no JSON object: '7'"),
        (frames('["Hi"]'), "An event of the stream is no JSON object"),
        (frames("[" * 200_000), "An event of the stream is no JSON"),
    ],
)
def test_a_frame_that_cannot_be_read_is_named(driver: str, raw: bytes, words: str) -> None:
    error = answer(driver, raw + frames(HI)).error
    assert type(error) is ResponseParseError
    assert error.message.startswith(words)
    assert len(error.message) < 200


@pytest.mark.parametrize(
    ("driver", "payload"),
    [
        ("groq", {"choices": [7]}),
        ("groq", {"choices": {"a": 1}}),
        ("groq", {"choices": [{"delta": [7]}]}),
        ("openai", {"type": "response.completed", "response": "done"}),
        ("openai", {"type": "response.output_item.done", "item": [7]}),
        ("claude", {"type": "message_start", "message": [7]}),
        ("gemini", {"candidates": [7]}),
        ("gemini", {"candidates": [{"content": {"parts": [7]}}]}),
    ],
)
def test_a_frame_of_another_shape_is_named(driver: str, payload: Any) -> None:
    error = answer(driver, frames(payload)).error
    assert type(error) is ResponseParseError
    assert error.message.startswith("An event of the stream has another shape than documented: '")


# The ends of streams

CLAUDE_END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}
COMPLETED = {"type": "response.completed", "response": {"status": "completed", "model": "m"}}
GEMINI_END = {"candidates": [{"finishReason": "STOP"}]}
ENDS: dict[str, tuple[str, bytes, str | None]] = {
    "Responses": ("openai", frames(OPENAI_HI, COMPLETED), "stop"),
    "Responses, too long": (
        "openai",
        frames(
            OPENAI_HI,
            {
                "type": "response.incomplete",
                "response": {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            },
        ),
        "length",
    ),
    "Responses, steered": (
        "openai",
        frames(OPENAI_HI, {"type": "response.incomplete", "response": {"status": "incomplete"}}),
        "unknown",
    ),
    "Responses, cancelled": (
        "openai",
        frames(OPENAI_HI, {"type": "response.completed", "response": {"status": "cancelled"}}),
        "unknown",
    ),
    "Responses and a mark": ("openai", frames(OPENAI_HI, COMPLETED, DONE), "stop"),
    "Responses, a mark alone": ("openai", frames(OPENAI_HI, DONE), None),
    "Responses, the event unfinished": ("openai", frames(OPENAI_HI, COMPLETED).rstrip(), None),
    "Chat Completions": ("groq", frames(HI, STOP), "stop"),
    "Chat Completions, a mark alone": ("groq", frames(HI, DONE), "unknown"),
    "Chat Completions, neither": ("groq", frames(HI), None),
    "Chat Completions, the mark cut": ("groq", frames(HI) + b"data: [DON", None),
    "Claude": ("claude", frames(*CLAUDE_HI, CLAUDE_END, {"type": "message_stop"}), "stop"),
    "Claude without its last event": ("claude", frames(*CLAUDE_HI, CLAUDE_END), "stop"),
    "Claude, the last event alone": ("claude", frames(*CLAUDE_HI, {"type": "message_stop"}), "unknown"),
    "Claude, neither": ("claude", frames(*CLAUDE_HI), None),
    "Claude, a mark alone": ("claude", frames(*CLAUDE_HI, DONE), None),
    "Claude, the event unfinished": ("claude", frames(*CLAUDE_HI, CLAUDE_END).rstrip(), None),
    "Gemini": ("gemini", frames(GEMINI_HI, GEMINI_END), "stop"),
    "Gemini and a mark": ("gemini", frames(GEMINI_HI, GEMINI_END, DONE), "stop"),
    "Gemini, neither": ("gemini", frames(GEMINI_HI), None),
    "Gemini, a mark alone": ("gemini", frames(GEMINI_HI, DONE), None),
}


@pytest.mark.parametrize(("driver", "raw", "finish"), ENDS.values(), ids=ENDS)
def test_the_end_of_a_stream(driver: str, raw: bytes, finish: str | None) -> None:
    for size in (0, 1):
        outcome = answer(driver, raw, size=size)
        assert outcome.text == "Hi"
        if finish is None:
            assert type(outcome.error) is StreamInterruptedError
        else:
            assert outcome.reply["finish_reason"] == finish


def test_nothing_is_an_interruption() -> None:
    for raw in (b"", b"\n\n", b": ping\n\n", b"\xef", b"da", b'{"choices": [{"mess', b'[{"err'):
        assert type(answer("groq", raw).error) is StreamInterruptedError
    assert type(answer("groq", b"", stream=False).error) is ResponseParseError


def test_what_is_no_event_and_no_error_is_passed_over() -> None:
    for stray in (b"[x}\n\n", b"{}\n\n", b"[]\n\n", b"[7]\n\n", b"oops}\n\n", b"foo: {}\n\n", b'"x"\n\n'):
        assert type(answer("gemini", frames(GEMINI_HI) + stray).error) is StreamInterruptedError
        assert answer("gemini", frames(GEMINI_HI) + stray + frames(GEMINI_END)).error is None


def test_what_follows_the_mark_is_not_read() -> None:
    assert answer("groq", frames(HI, STOP, DONE, "garbage")).text == "Hi"


# Claude, Responses and Gemini


def test_claude_keeps_each_block_by_its_index() -> None:
    """A delta is for the block that it names, also where that has not begun, or another has begun since."""

    def piece(index: int | None, **delta: str) -> dict[str, Any]:
        kind = next(iter(delta))
        at = {} if index is None else {"index": index}
        return {"type": "content_block_delta", **at, "delta": {"type": f"{kind}_delta", **delta}}

    thinking = {"type": "thinking", "thinking": "hm", "signature": "ab"}
    text = {"type": "text", "text": "Hi"}
    begin = {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}}
    also = {"type": "content_block_start", "index": 1, "content_block": {"type": "text"}}
    for events in (
        [begin, piece(0, thinking="hm"), piece(0, signature="ab"), piece(1, text="Hi")],
        [
            begin,
            also,
            piece(0, thinking="h"),
            piece(1, text="H"),
            piece(0, thinking="m"),
            piece(1, text="i"),
            piece(0, signature="ab"),
        ],
        [begin, piece(0, thinking="hm"), piece(0, signature="ab"), {**also, "index": 0}, piece(0, text="Hi")],
        [begin, piece(None, thinking="hm"), piece(None, signature="ab"), piece(None, text="Hi")],
        [piece(0, thinking="hm"), piece(0, signature="ab"), piece(1, text="Hi")],
    ):
        outcome = answer("claude", frames(*events, CLAUDE_END))
        assert (outcome.text, outcome.reasoning) == ("Hi", "hm")
        assert outcome.reply["metadata"]["echo"]["items"] == [thinking, text]


def test_claude_says_the_text_wherever_it_stands() -> None:
    block = {"type": "text", "text": "Hi"}
    start = {"type": "content_block_start", "index": 0, "content_block": {**block, "text": "H"}}
    end = {"type": "content_block_stop", "index": 0, "content_block": block}
    message = {"role": "assistant", "content": [block], "usage": {"input_tokens": 5}}
    for events in (
        [start, end, CLAUDE_END],
        [{"type": "message_start", "message": message}, CLAUDE_END],
        [{**CLAUDE_END, "message": message}],
        [{"type": "message", **message, "stop_reason": "end_turn"}],
        [{"type": "message", **message, "content": "Hi", "stop_reason": "end_turn"}],
    ):
        outcome = answer("claude", frames(*events))
        assert (outcome.text, outcome.reply["finish_reason"]) == ("Hi", "stop")
    call = {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "name": "f"}}
    assert answer("claude", frames(call, CLAUDE_END)).reply["finish_reason"] == "tool_calls"
    ends = [
        ({"stop_reason": "null"}, StreamInterruptedError),
        ({"stop_reason": "error"}, ProviderServerError),
    ]
    for ended, cls in ends:
        error = answer("claude", frames(*CLAUDE_HI, {"type": "message_delta", "delta": ended})).error
        assert type(error) is cls


def test_zeros_of_claude_leave_the_counts_of_the_beginning() -> None:
    zero = {"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 2, "details": {"a": 0, "b": 1}}
    begun = {"input_tokens": 5, "cache_read_input_tokens": 4, "output_tokens": 1, "details": {"a": 2}}
    raw = frames({"type": "message_start", "message": {"usage": begun}}, {**CLAUDE_END, "usage": zero})
    usage = answer("claude", raw).reply["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (9, 2)
    assert usage["raw"]["details"] == {"a": 2, "b": 1}


def test_responses_close_a_part_several_times_and_say_it_once() -> None:
    """A text stands in up to four closing events; two parts may say the same."""
    part = {"type": "output_text", "text": "ha"}
    item = {"type": "message", "content": [part, part]}
    piece = {"type": "response.output_text.delta", "delta": "ha"}
    done = {"type": "response.output_text.done", "text": "ha"}
    part_done = {"type": "response.content_part.done", "part": part}
    item_done = {"type": "response.output_item.done", "item": item}
    completed = {"type": "response.completed", "response": {"status": "completed", "output": [item]}}
    for events in (
        [piece, done, part_done, piece, done, part_done, item_done, completed],
        [piece, piece, completed],
        [piece, completed],
        [piece, piece, item_done, completed],
        [completed],
    ):
        assert answer("openai", frames(*events)).text == "haha"
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    for events in (
        [{"type": "response.reasoning_summary_text.done", "text": "hm"}, {**item_done, "item": thought}],
        [{"type": "response.content_part.done", "part": {"type": "reasoning_text", "text": "hm"}}],
        [{**item_done, "item": thought}],
    ):
        outcome = answer("openai", frames(*events, item_done, {**completed, "response": {}}))
        assert outcome.reasoning == "hm"
    assert answer("openai", frames({"object": "response", "output": [item]})).text == "haha"


def test_an_answer_in_a_queue_is_not_ordered_again() -> None:
    for status in ("queued", "in_progress", "QUEUED"):
        error = answer("openai", json.dumps({"status": status, "output": []}).encode(), stream=False).error
        assert type(error) is ResponseParseError
        assert error.retryable is False


def test_gemini_looks_for_its_own_candidate() -> None:
    other = {"index": 1, "content": {"parts": [{"text": "No"}]}}
    raw = frames(
        {"candidates": [other, GEMINI_HI["candidates"][0]]}, {"candidates": [None, other]}, GEMINI_END
    )
    assert answer("gemini", raw).text == "Hi"
    for finish in ("FINISH_REASON_UNSPECIFIED", "", "null"):
        raw = frames({"candidates": [{**GEMINI_HI["candidates"][0], "finishReason": finish}]})
        assert type(answer("gemini", raw).error) is StreamInterruptedError
    unsaid = {"promptFeedback": {"blockReason": "BLOCK_REASON_UNSPECIFIED"}}
    short = {"candidates": [{"content": {"parts": [{"thought": "hm"}]}}]}
    outcome = answer("gemini", frames(unsaid, short, GEMINI_HI, GEMINI_END))
    assert (outcome.text, outcome.reasoning) == ("Hi", "hm")
    empty_call: dict[str, Any] = {"candidates": [{"content": {"parts": [{"functionCall": {}}, None]}}]}
    assert answer("gemini", frames(GEMINI_HI, empty_call, GEMINI_END)).reply["finish_reason"] == "stop"


def test_a_finish_reason_is_not_the_end() -> None:
    """Some services think on behind it; nothing but the end, or a long silence, ends the answer."""
    x = begin("groq")
    x.receive_head(200, {})
    chunks = x.receive(frames(HI, STOP))
    assert 10 < x.timeout() <= END_SECONDS
    chunks += x.receive(frames(delta(" again"), STOP, DONE))
    assert "".join(chunk["content"] for chunk in chunks) == "Hi again"
    assert chunks[-1]["done"]
    whole = begin("groq", stream=False)  # a stream that nobody asked for: no idle clock runs there
    whole.receive_head(200, {"content-type": "text/event-stream"})
    whole.receive(frames(HI, STOP))
    assert whole.timeout() <= END_SECONDS


def test_claude_streams_with_pings_and_hidden_thinking() -> None:
    """Several message_delta overwrite; a thinking block may open and close with a signature alone."""
    events = [
        CLAUDE_HI[0],
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "ab"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "G"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "ut"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": {}}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "a_delta_of_next_year", "x": 1}},
        {"type": "an_event_of_next_year"},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 3}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "refusal", "stop_details": {"type": "refusal", "category": None}},
            "usage": {"output_tokens": 9, "input_tokens": None, "cache_read_input_tokens": 4},
        },
        {"type": "ping"},
        {"type": "message_stop"},
    ]
    for size in (0, 1):
        outcome = answer("claude", frames(*events), size=size)
        reply = outcome.reply
        assert (reply["content"], reply["finish_reason"]) == ("Gut", "refusal")
        assert outcome.reasoning == ""
        counts = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18, "cache_read": 4}
        raw = {"input_tokens": 5, "output_tokens": 9, "cache_read_input_tokens": 4}
        assert reply["usage"] == {**counts, "raw": raw}
        assert reply["metadata"]["stop_details"] == {"type": "refusal", "category": None}
        thinking = {"type": "thinking", "thinking": "", "signature": "ab"}
        assert reply["metadata"]["echo"]["items"] == [thinking, {"type": "text", "text": "Gut"}]


def test_claude_may_say_nothing() -> None:
    raw = json.dumps(
        {"content": [], "stop_reason": "end_turn", "usage": {"input_tokens": 5, "output_tokens": 2}}
    )
    reply = answer("claude", raw.encode(), stream=False).reply
    assert (reply["content"], reply["finish_reason"], reply["usage"]["total_tokens"]) == ("", "stop", 7)
    paused = json.dumps({"content": [{"type": "server_tool_use"}], "stop_reason": "pause_turn"})
    assert answer("claude", paused.encode(), stream=False).reply["finish_reason"] == "unknown"


@pytest.mark.parametrize(
    ("finish", "ours"),
    [
        ("MAX_TOKENS", "length"),
        ("CONTINUATION", "length"),
        ("RECITATION", "content_filter"),
        ("ESCALATION", "unknown"),
    ],
)
def test_gemini_ends_without_content(finish: str, ours: str) -> None:
    empty: list[dict[str, Any]] = [{}, {"content": {}}, {"content": {"role": "model", "parts": None}}]
    for candidate in empty:
        raw = json.dumps({"candidates": [{**candidate, "finishReason": finish}]}).encode()
        for stream in (False, True):
            reply = answer("gemini", raw if not stream else frames(raw.decode()), stream=stream).reply
            assert (reply["content"], reply["finish_reason"], reply["usage"]) == ("", ours, NO_USAGE)


def test_gemini_says_more_behind_its_finish() -> None:
    call = {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f"}}]}}]}
    used = {"usageMetadata": {"promptTokenCount": 5, "toolUsePromptTokenCount": 2, "thoughtsTokenCount": 3}}
    reply = answer("gemini", frames(GEMINI_HI, GEMINI_END, used)).reply
    assert reply["usage"].items() >= {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}.items()
    assert answer("gemini", frames(call, GEMINI_END)).reply["finish_reason"] == "tool_calls"
    cut = {"candidates": [{"finishReason": "MAX_TOKENS"}]}
    assert answer("gemini", frames(call, cut)).reply["finish_reason"] == "length"
    second = {"candidates": [{"index": 1, "content": {"parts": [{"text": "No"}]}}]}
    assert answer("gemini", frames(GEMINI_HI, second, GEMINI_END)).text == "Hi"


KINDS = [
    "content_block_delta", "content_block_start", "message_start", "message_delta", "error",
    "response.completed", "response.failed", "response.output_item.done", "response.output_text.delta",
]  # fmt: skip
NAMES = [
    "error", "choices", "usage", "type", "delta", "message", "item", "response", "candidates", "content",
    "content_block", "usageMetadata", "promptFeedback", "output", "model", "id", "x_groq", "object",
]  # fmt: skip
VALUES: list[Any] = [None, 7, "x", [7], {}, {"type": "text", "text": 7}, [{}], [[]]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("driver", ["openai", "groq", "claude", "gemini"])
def test_whatever_comes_is_an_answer_or_an_error_of_ours(driver: str, kind: str, caplog: Any) -> None:
    caplog.set_level(logging.CRITICAL, "bupple_engine")
    for name, value in itertools.product(NAMES, VALUES):
        payload = {"type": kind, name: value}
        answer(driver, frames(payload, {"choices": [payload], "candidates": [payload]}))
        answer(driver, json.dumps(payload).encode(), stream=False)
        answer(driver, json.dumps([{"error": payload}]).encode(), status=400)


def test_an_answer_is_read_in_pieces_of_any_size() -> None:
    raw = frames(HI, delta(" 🦜"), STOP, USED, DONE)
    for size in range(1, 40):
        assert facts(answer("groq", raw, size=size)) == {**WHOLE, "content": "Hi 🦜", "usage": USAGE}
    exchange = begin("groq")
    assert len(hear(exchange, pieces(raw, 0)).chunks) == 3


# What the wires have in common, each in its own words

CLAUDE = {"type": "message", "stop_reason": "end_turn"}
RESPONSE = {"object": "response", "status": "completed"}


def gemini_says(content: Any, finish: Any = "STOP", **usage: int) -> dict[str, Any]:
    """Write a whole answer of Gemini."""
    return {"candidates": [{"content": content, "finishReason": finish}], "usageMetadata": usage}


def deltas(*pieces: dict[str, Any]) -> bytes:
    """Write pieces of a block as Claude's stream."""
    events = ({"type": "content_block_delta", "index": at, "delta": piece} for at, piece in enumerate(pieces))
    return frames(*events, CLAUDE_END)


SAID: dict[str, tuple[str, bytes, str, str, str]] = {  # driver, raw, text, reasoning, finish
    "Claude, a number": ("claude", frames({**CLAUDE, "content": 42}), "42", "", "stop"),
    "Claude, JSON": (
        "claude",
        frames({**CLAUDE, "content": [None, {"type": "text", "text": {"a": "ü"}}]}),
        '{"a":"ü"}',
        "",
        "stop",
    ),
    "Claude, reasoning": (
        "claude",
        frames({**CLAUDE, "content": [{"type": "reasoning", "reasoning": "hm"}, {"text": "Hi"}]}),
        "Hi",
        "hm",
        "stop",
    ),
    "Claude, pieces of reasoning": (
        "claude",
        deltas({"type": "thinking_delta", "text": "hm"}, {"type": "text_delta", "text": "Hi"}),
        "Hi",
        "hm",
        "stop",
    ),
    "Claude, the message behind its deltas": (
        "claude",
        frames(*CLAUDE_HI, {**CLAUDE, "content": [{"type": "text", "text": "Hi"}]}),
        "Hi",
        "",
        "stop",
    ),
    "Claude, an enumeration": (
        "claude",
        frames({**CLAUDE, "content": "Hi", "stop_reason": "StopReason.MAX_TOKENS"}),
        "Hi",
        "",
        "length",
    ),
    "Gemini, a string": ("gemini", frames(gemini_says("Hi")), "Hi", "", "stop"),
    "Gemini, a string as parts": ("gemini", frames(gemini_says({"parts": "Hi"})), "Hi", "", "stop"),
    "Gemini, a part": ("gemini", frames(gemini_says({"parts": {"text": {"a": 1}}})), '{"a":1}', "", "stop"),
    "Gemini, strings": ("gemini", frames(gemini_says({"parts": ["H", "i"]})), "Hi", "", "stop"),
    "Gemini, a number for the end": ("gemini", frames(gemini_says("Hi", 1)), "Hi", "", "unknown"),
    "Gemini, an enumeration": ("gemini", frames(gemini_says("Hi", "FINISH_REASON_STOP")), "Hi", "", "stop"),
    "Responses, the text alone": ("openai", frames({**RESPONSE, "output_text": "Hi"}), "Hi", "", "stop"),
    "Responses, a string": ("openai", frames({**RESPONSE, "output": "Hi"}), "Hi", "", "stop"),
    "Responses, null and JSON": (
        "openai",
        frames({**RESPONSE, "output": [None, {"type": "message", "content": [None, {"text": {"a": 1}}]}]}),
        '{"a":1}',
        "",
        "stop",
    ),
    "Responses, reasoning in a message": (
        "openai",
        frames(
            {
                **RESPONSE,
                "output": [
                    {"type": "message", "content": [{"type": "reasoning_text", "text": "hm"}, {"text": "Hi"}]}
                ],
            }
        ),
        "Hi",
        "hm",
        "stop",
    ),
    "Responses, done": (
        "openai",
        frames(OPENAI_HI, {"type": "response.done", "response": {"status": "completed"}}),
        "Hi",
        "",
        "stop",
    ),
    "a piece without its list": (
        "openai",
        frames({**OPENAI_HI, "delta": {"text": "Hi"}}, COMPLETED),
        "Hi",
        "",
        "stop",
    ),
    "reasoning of another name": ("groq", frames(delta(thinking_content="hm"), HI, STOP), "Hi", "hm", "stop"),
    "a zero of reasoning": ("groq", frames(delta(reasoning=0), HI, STOP), "Hi", "0", "stop"),
    "a call that has an id alone": (
        "groq",
        frames(HI, delta(tool_calls=[{"id": "call_1", "function": {"name": "", "arguments": "{}"}}]), STOP),
        "Hi",
        "",
        "stop",
    ),
    "plain completions": (
        "groq",
        frames({"choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}]}),
        "Hi",
        "",
        "stop",
    ),
    "a lone answer counted from 1": (
        "groq",
        frames({"choices": [{"index": 1, "message": {"content": "Hi"}, "finish_reason": "stop"}]}),
        "Hi",
        "",
        "stop",
    ),
    "another mark of the end": ("groq", frames(HI, "[EOF]"), "Hi", "", "unknown"),
    "a word beside what keeps it alive": (
        "groq",
        frames("OPENROUTER PROCESSING", HI, "[null]", STOP),
        "Hi",
        "",
        "stop",
    ),
    "an event that keeps it alive": (
        "groq",
        b"event: ping\ndata: 12:00 sharp\n\n" + frames(HI, STOP),
        "Hi",
        "",
        "stop",
    ),
}


@pytest.mark.parametrize(("driver", "raw", "text", "reasoning", "finish"), SAID.values(), ids=SAID)
def test_an_answer_says_the_same_in_an_odd_shape(
    driver: str, raw: bytes, text: str, reasoning: str, finish: str
) -> None:
    for stream in (True, False):
        outcome = answer(driver, raw, stream=stream)
        assert outcome.error is None
        assert outcome.reply["content"] == text
        assert (outcome.reasoning, outcome.reply["finish_reason"]) == (reasoning, finish)


@pytest.mark.parametrize(
    ("driver", "payload", "counts"),
    [
        (
            "openai",
            {**RESPONSE, "output": "Hi", "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
            (3, 2, 5),
        ),
        (
            "claude",
            {**CLAUDE, "content": "Hi", "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
            (3, 2, 5),
        ),
        ("moonshot", {"choices": [{"message": {"content": "Hi"}, "usage": USAGE}]}, tuple(USAGE.values())),
        (
            "gemini",
            gemini_says(
                "Hi", promptTokenCount=3, candidatesTokenCount=5, thoughtsTokenCount=4, totalTokenCount=8
            ),
            (3, 5, 8),
        ),
    ],
)
def test_usage_is_found_under_other_names(driver: str, payload: Any, counts: tuple[int, ...]) -> None:
    usage = answer(driver, json.dumps(payload).encode(), stream=False).reply["usage"]
    assert tuple(usage[name] for name in USAGE) == counts


@pytest.mark.parametrize(
    ("driver", "payload"),
    [
        (
            "claude",
            {"type": "message_delta", "delta": {"error": {"message": "No", "type": "overloaded_error"}}},
        ),
        (
            "claude",
            {
                "type": "content_block_start",
                "content_block": {"type": "error", "error": {"message": "No", "type": "overloaded_error"}},
            },
        ),
        (
            "openai",
            {
                "type": "response.output_item.done",
                "item": {"type": "message", "error": {"message": "No", "code": "server_is_overloaded"}},
            },
        ),
        (
            "groq",
            {**delta(finish="stop"), "x_groq": {"error": {"message": "No", "code": "server_is_overloaded"}}},
        ),
    ],
)
def test_an_error_inside_a_part_of_an_answer_is_one(driver: str, payload: Any) -> None:
    error = answer(driver, frames(payload)).error
    assert error is not None
    assert (type(error).__name__, error.message) == ("OverloadedError", "No")


@pytest.mark.parametrize("driver", ["groq", "openai", "claude", "gemini"])
@pytest.mark.parametrize(
    "flat", [{"errcode": 7, "errmsg": "Odd"}, {"Code": "X", "Message": "Odd"}, {"x": "Odd"}]
)
def test_a_stream_of_one_object_that_is_no_answer_is_quoted(driver: str, flat: dict[str, Any]) -> None:
    assert "Odd" in str(answer(driver, frames(flat)).error)
