"""Errors: what a provider's words mean, whether it is asked again and when, and that nothing is lost."""

from __future__ import annotations

import ast
import json
import pickle
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

import bupple_engine
from bupple_engine import (
    AuthenticationError,
    ConflictError,
    ContentFilteredError,
    ContextLengthExceededError,
    EngineError,
    InvalidDriverError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    ProviderConnectionError,
    ProviderPermissionError,
    ProviderServerError,
    ProviderTimeoutError,
    QuotaExceededError,
    RateLimitError,
    RequestTooLargeError,
    ResponseParseError,
    StreamError,
    StreamInterruptedError,
    UnsupportedFeatureError,
    exceptions,
)
from bupple_engine.calls.seams import CLOCK, random
from bupple_engine.exchange import exchange
from bupple_engine.exchange.exchange import Exchange
from bupple_engine.exchange.failure import TransportFailure
from bupple_engine.exchange.verdict import Again, Done, Failed
from bupple_engine.protocol import retries
from bupple_engine.protocol.options import Clocks
from tests.pure import answer, begin, build, frames, hear
from tests.virtual import VirtualClock
from tests.wires import KEY

HI = {"choices": [{"delta": {"content": "Hi"}}]}
STOP = {"choices": [{"finish_reason": "stop"}]}

# The tree


def tree(cls: type, depth: int = 0) -> list[str]:
    """Draw a class and those below it."""
    here = [f"{'    ' * depth}{cls.__name__}"]
    classes: list[type] = cls.__subclasses__()
    below = [each for each in classes if ours(each)]
    return here + [line for each in below for line in tree(each, depth + 1)]


def ours(cls: type) -> bool:
    """Tell our classes from those that a test made."""
    return cls.__module__ == exceptions.__name__


def all_classes(cls: type[EngineError] = EngineError) -> list[type[EngineError]]:
    """List a class and those below it."""
    return [cls, *(found for each in cls.__subclasses__() if ours(each) for found in all_classes(each))]


def test_the_tree_is_the_one_that_is_printed_at_the_top() -> None:
    drawn = (exceptions.__doc__ or "").split("RuntimeError\n", 1)[1].strip("\n").splitlines()
    names = [line.translate({ord(c): " " for c in "├└│─"})[4:].rstrip() for line in drawn]
    assert names == tree(EngineError)
    assert EngineError.__bases__ == (RuntimeError,)
    # A mistake in settings is no error of a call.
    assert issubclass(InvalidDriverError, ImproperlyConfigured)
    assert not issubclass(InvalidDriverError, EngineError)


def test_public_means_listed() -> None:
    names = {cls.__name__ for cls in all_classes()} | {"InvalidDriverError", "ai", "call_finished"}
    assert set(bupple_engine.__all__) == names | {
        "AsyncStream", "Attempt", "Call", "Chunk", "Message", "Observer", "Outcome", "Reply", "Stream",
        "Usage", "memory",
    }  # fmt: skip
    assert sorted(bupple_engine.__all__) == bupple_engine.__all__
    assert all(getattr(bupple_engine, name) for name in bupple_engine.__all__)


def test_every_class_says_when_in_a_sentence() -> None:
    source = ast.parse(Path(exceptions.__file__).read_text(encoding="utf-8"))
    docstrings = {
        node.name: ast.get_docstring(node) for node in source.body if isinstance(node, ast.ClassDef)
    }
    assert all(text and text.endswith(".") for text in docstrings.values())


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("cls", all_classes(), ids=lambda cls: cls.__name__)
def test_an_error_is_whole_behind_a_pickle(cls: type[EngineError], protocol: int) -> None:
    error = cls("No", code=429, type="t", param="p", retry_after=7.5)
    filled: dict[str, Any] = {"driver": "d", "alias": "a", "model": "m", "request_id": "r", "attempts": 3}
    filled |= {"usage": {"total_tokens": 3}, "in_stream": True, "partial_content": "Grüße", "clock": "idle"}
    filled["retryable"] = not cls.retryable
    for name, value in filled.items():
        setattr(error, name, value)
    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301
    assert type(again) is cls
    assert again.__dict__ == error.__dict__
    assert (str(again), again.args) == (str(error), error.args)
    assert again.__dict__.items() >= {"message": "No", "code": 429, "retry_after": 7.5, **filled}.items()
    assert pickle.loads(pickle.dumps(InvalidDriverError("x"), protocol)).args == ("x",)  # noqa: S301


def test_an_error_shows_its_evidence() -> None:
    assert str(InvalidRequestError("No")) == "No"
    assert (EngineError().code, EngineError().message, EngineError().attempts) == (0, "", 0)
    error = answer(
        "claude", b'{"error": {"message": "Bad key"}}', status=401, headers={"request-id": "req_1"}
    ).error
    assert str(error) == "Bad key (it, status 401, request req_1) Check the entry's API_KEY."


# What each provider's errors mean

Case = tuple[int, Any, type[EngineError]]  # status, body, class


def openai(message: str = "No", **facts: Any) -> dict[str, Any]:
    """Write an error of OpenAI's shape."""
    return {
        "error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **facts}
    }


def claude(word: str, message: str = "No", **facts: Any) -> dict[str, Any]:
    """Write an error of Anthropic's shape."""
    return {"type": "error", "error": {"type": word, "message": message, **facts}, "request_id": "req_1"}


def gemini(code: int, status: str, message: str = "No", *details: Any) -> dict[str, Any]:
    """Write an error of Google's shape."""
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


# Short names of the classes, for the table alone.
Auth, Permission, Quota, Rate = (
    AuthenticationError,
    ProviderPermissionError,
    QuotaExceededError,
    RateLimitError,
)
Invalid, Context, TooLarge, Filtered = (
    InvalidRequestError, ContextLengthExceededError, RequestTooLargeError, ContentFilteredError,
)  # fmt: skip
NotFound, Conflict, Timeout = ModelNotFoundError, ConflictError, ProviderTimeoutError
Server, Overloaded = ProviderServerError, OverloadedError
RETRIED = {Rate, Conflict, Timeout, Server, Overloaded}

INVALID, RATE, ARGUMENT, BAD_KEY = (
    "invalid_request_error",
    "rate_limit_error",
    "INVALID_ARGUMENT",
    {"reason": "API_KEY_INVALID"},
)
PER_DAY = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
PER_MINUTE = {"violations": [{"quotaId": "GenerateRequestsPerMinutePerProject"}]}
ERRORS: dict[str, list[Case]] = {
    "openai": [
        (400, openai(code="unsupported_parameter"), Invalid),
        (400, openai(code="unsupported_value"), Invalid),
        (400, openai(code="context_length_exceeded"), Context),
        (400, openai(code="content_filter"), Filtered),
        (400, openai(code="content_policy_violation"), Filtered),
        (400, openai(code="invalid_prompt"), Filtered),
        (401, openai(code="invalid_api_key"), Auth),
        (401, openai(), Auth),
        (403, openai(), Permission),
        (404, openai(code="model_not_found"), NotFound),
        (408, openai(), Timeout),
        (409, openai(), Conflict),
        (413, openai(), TooLarge),
        (415, openai(), Invalid),
        (422, openai(), Invalid),
        (429, openai(code="rate_limit_exceeded"), Rate),
        (429, openai(type="rate_limit_error", code="slow_down"), Rate),
        (429, openai(code="credit_balance_exhausted"), Quota),
        (429, openai(code="organization_spend_limit_exceeded"), Quota),
        (429, openai(code="project_spend_limit_exceeded"), Quota),
        (429, openai(code="organization_usage_limit_exceeded"), Quota),
        (429, openai(type="insufficient_quota"), Quota),
        (500, openai(type="server_error"), Server),
        (502, openai(type="server_error"), Server),
        (503, openai(type="service_unavailable_error", code="server_is_overloaded"), Overloaded),
        (504, openai(), Timeout),
    ],
    "claude": [
        (400, claude("invalid_request_error"), Invalid),
        (400, claude(INVALID, "prompt is too long: 12 tokens > 10 maximum"), Context),
        (400, claude(INVALID, "input length and `max_tokens` exceed context limit"), Context),
        (400, claude(INVALID, "Your credit balance is too low"), Quota),
        (400, claude(INVALID, "You have reached your spend limit"), Quota),
        (400, claude(INVALID, "Output blocked by content filtering policy"), Filtered),
        (401, claude("authentication_error"), Auth),
        (402, claude("billing_error"), Quota),
        (403, claude("permission_error"), Permission),
        (404, claude("not_found_error"), NotFound),
        (408, claude("timeout_error"), Timeout),
        (409, claude("conflict_error"), Conflict),
        (413, claude("request_too_large"), TooLarge),
        (429, claude("rate_limit_error"), Rate),
        (429, claude(RATE, details={"error_code": "ramp_limit_exceeded"}), Rate),
        (429, claude(RATE, details={"error_code": "enforced_spend_limit_reached"}), Quota),
        (429, claude(RATE, details={"error_code": "contract_spend_limit_reached"}), Quota),
        (500, claude("api_error"), Server),
        (503, claude("api_error"), Overloaded),
        (504, claude("timeout_error"), Timeout),
        (529, claude("overloaded_error"), Overloaded),
        (529, {}, Overloaded),
    ],
    "gemini": [
        (400, gemini(400, "INVALID_ARGUMENT"), Invalid),
        (400, gemini(400, ARGUMENT, "No", BAD_KEY), Auth),
        (400, [gemini(400, ARGUMENT, "No", BAD_KEY)], Auth),
        (400, gemini(400, ARGUMENT, "API key expired. Please renew the API key."), Auth),
        (
            400,
            gemini(400, ARGUMENT, "The input token count (12) exceeds the maximum number of tokens"),
            Context,
        ),
        (400, gemini(400, "FAILED_PRECONDITION", "Enable billing on your project"), Quota),
        (400, gemini(400, "FAILED_PRECONDITION", "User location is not supported"), Invalid),
        (401, gemini(401, "UNAUTHENTICATED"), Auth),
        (402, gemini(402, ""), Quota),
        (403, gemini(403, "PERMISSION_DENIED"), Permission),
        (404, gemini(404, "NOT_FOUND"), NotFound),
        (408, {}, Timeout),
        (413, {}, TooLarge),
        (429, gemini(429, "RESOURCE_EXHAUSTED"), Rate),
        (429, gemini(429, "RESOURCE_EXHAUSTED", "No", PER_MINUTE), Rate),
        (429, gemini(429, "RESOURCE_EXHAUSTED", "No", PER_MINUTE, PER_DAY), Quota),
        (499, gemini(499, "CANCELLED"), Invalid),
        (500, gemini(500, "INTERNAL"), Server),
        (503, gemini(503, "UNAVAILABLE"), Overloaded),
        (504, gemini(504, "DEADLINE_EXCEEDED"), Timeout),
    ],
    "compatible": [
        (400, {"error": {"message": "No", "code": "content_filter"}}, Filtered),
        (400, {"error": "Incorrect API key provided", "code": "Client"}, Auth),
        (400, {"object": "error", "message": "The maximum context length is 10", "code": 400}, Context),
        (400, {"error": "This model's maximum prompt length is 10"}, Context),
        (400, {"error": {"message": "No", "type": "exceed_context_size_error"}}, Context),
        (400, {"error": {"message": "No", "code": "tool_use_failed"}}, Invalid),
        (402, {"error": {"message": "Insufficient Balance"}}, Quota),
        (403, {"error": {"code": 403, "message": "flagged", "metadata": {}}}, Permission),
        (404, {"error": {"code": "DeploymentNotFound", "message": "No"}}, NotFound),
        (405, {"detail": "Method Not Allowed"}, Invalid),
        (422, {"detail": [{"loc": ["body", "x"], "msg": "No"}]}, Invalid),
        (429, {"error": {"code": "429", "message": "Slow"}}, Rate),
        (429, {"error": {"message": "Slow", "type": "billing"}}, Quota),
        (403, {"error": {"message": "No", "type": "insufficient_quota"}}, Quota),
        (498, {}, Overloaded),
        (503, {"error": {"message": "No", "type": "unavailable_error"}}, Overloaded),
        (522, "", Server),
        (524, "", Server),
        (418, "", Invalid),
    ],
}
# What services say in words alone, or under statuses of their own; behind each class, what only sounds alike.
SAYINGS: dict[type[EngineError], list[tuple[int, str]]] = {
    Context: [
        (400, "Input length (12 tokens) exceeds the maximum allowed length (10 tokens)."),
        (400, "Your request exceeded model token limit: 10 (requested: 12)"),
        (400, "Range of input length should be [1, 10]"),
        (400, "The number of tokens to keep from the initial prompt is greater than the context length"),
        (400, "Loaded with a context length of only 10 tokens, which is not enough"),
        (413, "prompt is too long: 12 tokens > 10 maximum"),
        (422, "`inputs` tokens + `max_new_tokens` must be <= 10"),
        (500, "the request exceeds the available context size"),
        (0, "Input does not fit in context length"),
        (400, "The decoder prompt (length 12) is longer than the maximum model length of 10."),
        (400, "Prompt exceeds max length"),
        (400, "Input token length too long"),
    ],
    NotFound: [
        (400, "a/b:free is not a valid model ID"),
        (400, "Model Not Exist"),
        (400, "The provided model identifier is invalid."),
        (400, "The model `old` has been decommissioned and is no longer supported."),
        (400, "models/old is not found for API version v1"),
        (400, "The requested model is not supported."),
        (410, "Gone"),
        (503, "No available channel for model old under group x"),
        (0, "model 'old' not found"),
        (400, 'Invalid model identifier "old".'),
    ],
    Filtered: [
        (400, "Content Exists Risk"),
        (400, "The request was rejected because it was considered high risk"),
        (403, "Content violates usage guidelines."),
        (403, "The model requires moderation and your input was flagged"),
        (0, "Potentially unsafe or sensitive content was detected"),
    ],
    Rate: [
        (400, "Too many tokens, please wait before trying again."),
        (403, "You have exceeded a secondary rate limit"),
        (500, "Too many requests"),
        (503, "Request rate increased too quickly"),
        (0, "Concurrency limit exceeded"),
        (400, "Rate exceeded"),
    ],
    Quota: [
        (400, "insufficient balance"),
        (403, "Sorry, your account balance is insufficient"),
        (403, "Key limit exceeded (total limit)"),
        (429, "Your team has used all available credits or reached its monthly spending limit"),
        (500, "insufficient balance (1008)"),
        (0, "You exceeded your current quota"),
        (403, "Out of call volume quota. It will be replenished in 14 days."),
        (403, "Your new team doesn't have any credits yet."),
        (429, "You have used up your daily free allocation"),
        (400, "ExceededBudget: User=x over budget."),
    ],
    TooLarge: [(429, "Request too large for m on tokens per min (TPM): Limit 10, Requested 12.")],
    Auth: [(0, "login fail: carry the key")],
    Overloaded: [(500, "The engine is currently overloaded"), (0, "The server is too busy")],
    Invalid: [
        (400, "Unknown parameter: 'context_length'"),
        (400, "tool calling is not supported by this model"),
        (400, "temperature is not supported with model m"),
        (400, "The model `m` does not support images"),
        (400, "max_tokens is too large: 99. This model supports at most 16 completion tokens"),
        (400, "Too many images: the maximum number is 5"),
        (400, "Unknown field: billing_code"),
        (400, "Unrecognized request argument supplied: rate_limit"),
        (400, "Unknown parameter: 'safety_settings'. Did you mean 'safety_check'?"),
        (400, "`max_tokens` must be less than or equal to `9`, which is below the `context_window`"),
        (400, "`top_p` is wrong: see https://docs.invalid/rate-limits#maximum-context-length"),
        (0, "invalid params"),
    ],
    Permission: [
        (403, "Your organization must be verified to use the model m"),
        (403, "Your account was flagged"),
        (403, "The model is not available in your region."),
    ],
    Server: [(500, "Failed to decode a token"), (500, "load balancer error"), (502, "The model crashed")],
}
CASES = [(driver, *case) for driver, cases in ERRORS.items() for case in cases]


@pytest.mark.parametrize("driver", ["openai", "compatible", "claude", "gemini"])
@pytest.mark.parametrize(
    ("cls", "status", "words"), [(cls, *case) for cls, cases in SAYINGS.items() for case in cases]
)
def test_an_error_that_says_it_in_words_alone(
    driver: str, cls: type[EngineError], status: int, words: str
) -> None:
    body = {"error": {"message": words}}
    if status:
        error = answer(driver, json.dumps(body).encode(), status=status).error
    else:
        error = answer(driver, frames(body)).error
    assert error is not None
    assert (type(error), error.code, error.message) == (cls, status, words)
    assert error.retryable is (cls in RETRIED)


@pytest.mark.parametrize(
    ("status", "error", "cls"),
    [
        (400, {"code": "DataInspectionFailed"}, Filtered),
        (400, {"code": "data-inspection-failed"}, Filtered),
        (400, {"innererror": {"code": "ResponsibleAIPolicyViolation"}}, Filtered),
        (403, {"metadata": {"reasons": ["x"], "flagged_input": "x"}}, Filtered),
        (429, {"code": "Throttling.AllocationQuota"}, Rate),
        (400, {"type": "ThrottlingException"}, Rate),
        (400, {"type": "com.amazon.coral.service#ThrottlingException"}, Rate),
        (400, {"type": "budget_exceeded"}, Quota),
        (500, {"code": "429"}, Rate),
        (403, {"code": "AccountOverdueError"}, Quota),
        (400, {"code": "Arrearage"}, Quota),
        (503, {"code": "model_not_found"}, NotFound),
        (400, {"type": "Invalid_Model"}, NotFound),
        (400, {"code": "too_many_prompt_tokens"}, Context),
        (500, {"code": 500}, Server),
    ],
)
def test_a_code_is_known_in_any_spelling_and_under_any_status(
    status: int, error: dict[str, Any], cls: type[EngineError]
) -> None:
    found = answer(
        "compatible", json.dumps({"error": {"message": "No", **error}}).encode(), status=status
    ).error
    assert type(found) is cls
    assert found.message == "No"


@pytest.mark.parametrize("driver", ["gemini", "gemini_compatible", "openrouter"])
def test_what_google_says_in_details_is_read_on_every_wire(driver: str) -> None:
    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12.5s"}
    for details, cls, seconds in (([PER_MINUTE, wait], Rate, 12.5), ([PER_DAY], Quota, None)):
        body = [gemini(429, "RESOURCE_EXHAUSTED", "The quota is used up for now.", *details)]
        error = answer(driver, json.dumps(body).encode(), status=429).error
        assert error is not None
        assert (type(error), error.retry_after) == (cls, seconds)
    bad = [gemini(400, ARGUMENT, "No", BAD_KEY)]
    assert type(answer(driver, json.dumps(bad).encode(), status=400).error) is Auth


def test_an_error_may_come_in_the_form_of_events() -> None:
    told = openai("Slow", code="rate_limit_exceeded", retry_after=7)
    for raw in (frames(told), b"event: error\n" + frames(told), b": ping\n\n" + frames(told, "[DONE]")):
        for status, stream in ((429, True), (429, False), (500, True)):
            error = answer("compatible", raw, status=status, stream=stream).error
            assert error is not None
            assert (type(error), error.message, error.retry_after) == (Rate, "Slow", 7)


def test_google_names_the_field_in_its_details() -> None:
    violation = {"fieldViolations": [{"field": "generation_config.top_p", "description": "out of range"}]}
    body = json.dumps(gemini(400, ARGUMENT, "No", violation)).encode()
    for driver in ("gemini", "gemini_compatible"):
        error = answer(driver, body, status=400).error
        assert error is not None
        assert (type(error), error.param) == (Invalid, "generation_config.top_p")


@pytest.mark.parametrize("driver", ["openai", "claude", "gemini", "compatible"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_an_error_that_came_whole_is_told_though_no_line_ends_it(driver: str, end: str) -> None:
    for name in ("", "event: error\n"):
        raw = name.encode() + frames({"error": {"message": "No", "code": "server_is_overloaded"}}, end=end)
        error = answer(driver, raw).error
        assert error is not None
        assert (type(error), error.message) == (Overloaded, "No")
    assert type(answer("claude", b'data: {"error": {"message": "N').error) is StreamInterruptedError


def test_an_error_names_the_field_that_its_place_names() -> None:
    where = ["body", "messages", 0, "content"]
    body = {
        "detail": [
            {"loc": where, "msg": "Field required", "type": "missing"},
            {"loc": ["body", "x"], "msg": "No"},
        ]
    }
    for driver in ("compatible", "claude", "gemini", "openai"):
        error = answer(driver, json.dumps(body).encode(), status=422).error
        assert error is not None
        assert (error.param, error.type) == ("messages[0].content", None)
        assert error.message == "messages[0].content: Field required; x: No"


@pytest.mark.parametrize("depth", [20, 500, 900])
def test_an_error_nested_beyond_measure_is_one(depth: int) -> None:
    deep = '{"message":' * depth + '"x"' + "}" * depth
    for driver in ("compatible", "claude", "gemini", "openai"):
        for raw in (f'{{"error":{deep}}}', deep, f'{{"detail":[{deep}]}}'):
            assert isinstance(answer(driver, raw.encode(), status=400).error, InvalidRequestError)
            assert isinstance(answer(driver, f"data: {raw}\n\n".encode()).error, EngineError)
            assert isinstance(answer(driver, raw.encode(), stream=False).error, EngineError)


def test_phrases_are_looked_for_in_linear_time() -> None:
    hostile = "context " * 2000 + "model " * 2000 + "input " * 2000 + "a" * 20_000
    started = time.process_time()
    assert type(answer("compatible", json.dumps({"error": hostile}).encode(), status=400).error) is Invalid
    assert time.process_time() - started < 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("driver", "status", "body", "cls"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_an_error_has_the_class_of_its_meaning(
    driver: str, status: int, body: Any, cls: type[EngineError], stream: bool
) -> None:
    error = answer(driver, json.dumps(body).encode(), status=status, stream=stream).error
    assert error is not None
    assert (type(error), error.code, error.retryable) == (cls, status, cls in RETRIED)
    assert (error.alias, error.driver, error.attempts, error.in_stream) == ("it", driver, 1, False)


@pytest.mark.parametrize(
    ("body", "message", "word", "param"),
    [
        (openai("No", param="temperature", code="x"), "No", "invalid_request_error", "temperature"),
        (openai("No", type=None, code="c"), "No", "c", None),
        (gemini(400, "INVALID_ARGUMENT"), "No", "INVALID_ARGUMENT", None),
        (claude("invalid_request_error"), "No", "invalid_request_error", None),
        ({"error": "No", "code": "c"}, "No", "c", None),
        ({"message": "No", "type": "t"}, "No", "t", None),
        ({"message": {"detail": [{"msg": "No"}, {"msg": "Nor"}]}, "type": "t"}, "No; Nor", "t", None),
        ({"detail": "No"}, "No", None, None),
        ({"detail": [{"loc": ["body"], "msg": "No", "type": "x"}, {"msg": "Nor"}]}, "No; Nor", None, None),
        ({"error": {"detail": "No"}}, "No", None, None),
        ([{"error": {"message": "No"}}], "No", None, None),
        ({"error": {"code": 400}}, '{"error": {"code": 400}}', None, None),
        ({}, "{}", None, None),
        ([], "[]", None, None),
        (None, "null", None, None),
        ("No", '"No"', None, None),
        (b"  upstream connect error \n", "upstream connect error", None, None),
        (b"x" * 1000, "x" * 500, None, None),
        (b"", "The provider answered with status 400 and no text.", None, None),
        (b"\xff\xfe", "\ufffd\ufffd", None, None),
        (b"<html>400", "The provider answered with status 400 and a page of HTML.", None, None),
        (b'{"error": {"mess', '{"error": {"mess', None, None),
        (b"[" * 100_000, "[" * 500, None, None),
    ],
)  # fmt: skip
def test_the_shapes_of_an_error(body: Any, message: str, word: str | None, param: str | None) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    for driver in ("compatible", "gemini", "claude"):
        error = answer(driver, raw, status=400).error
        assert error is not None
        assert (error.message, error.type, error.param) == (message, word, param)


def test_an_endless_error_body_is_read_to_a_limit() -> None:
    x = begin("compatible")
    x.receive_head(500, {})
    for _ in range(63):
        x.receive(b"x" * 1024)
    with pytest.raises(ProviderServerError):
        x.receive(b"x" * 1024)


@pytest.mark.parametrize(
    ("status", "setting"), [(301, "BASE_URL"), (302, "BASE_URL"), (307, "BASE_URL"), (407, "PROXY")]
)
def test_what_a_setting_mends_is_not_tried_again(status: int, setting: str) -> None:
    error = answer("openai", b"", status=status, headers={"location": "http://elsewhere"}).error
    assert (type(error), error and error.retryable) == (ProviderConnectionError, False)
    assert setting in str(error)


@pytest.mark.parametrize(
    ("driver", "headers", "request_id"),
    [
        ("openai", {"x-request-id": "r"}, "r"),
        ("claude", {"request-id": "r", "x-request-id": "other"}, "r"),
        ("azure", {"apim-request-id": "r"}, "r"),
        ("openrouter", {"x-generation-id": "r"}, "r"),
        ("gemini", {}, None),
    ],
)
def test_an_error_names_the_request(driver: str, headers: dict[str, str], request_id: str | None) -> None:
    error = answer(driver, b"", status=500, headers=headers).error
    assert error is not None
    assert error.request_id == request_id


def test_an_error_never_shows_the_key() -> None:
    request = build("openai", entry={"API_KEY": KEY})
    body = json.dumps(openai(f"Incorrect API key provided: {KEY}.")).encode()
    error = hear(begin("openai", request=request), [body], 401).error
    assert error is not None
    assert KEY not in f"{error} {error!r} {error.__dict__} {error.args}"
    assert error.message == "Incorrect API key provided: …abcd."


# The retry rule


def provoke(
    body: Any = None,
    *,
    status: int = 503,
    headers: dict[str, str] | None = None,
    attempt: int = 1,
    driver: str = "gemini",
) -> tuple[float | None, EngineError | None]:
    """Return the pause that follows a failed attempt, or the error that is raised."""
    x = begin(driver, max_retries=2)
    x.attempts = attempt
    x.receive_head(status, headers or {})
    try:
        x.receive(json.dumps(body).encode())
        x.receive(b"")
    except EngineError as error:
        verdict = x.settle(error)
        if isinstance(verdict, Failed):
            return None, verdict.error
        assert isinstance(verdict, Again)
        return verdict.seconds, None
    raise AssertionError("no error")


def info(delay: str) -> dict[str, Any]:
    """Write Gemini's answer that says when to come back."""
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    return gemini(429, "RESOURCE_EXHAUSTED", "Slow", detail)


def test_pauses_grow_and_are_jittered() -> None:
    for attempt, longest in ((1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0), (9, 8.0)):
        pauses = [retries.delay(OverloadedError(), attempt, 20, 600, random) for _ in range(200)]
        assert all(pause is not None and longest / 2 <= pause <= longest for pause in pauses)
        assert len(set(pauses)) > 100


@pytest.mark.parametrize(
    ("headers", "body", "pause"),
    [
        ({"retry-after-ms": "1500"}, None, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, info("8s"), 1.5),
        ({"retry-after": "9"}, info("8s"), 9),
        ({"retry-after": "0.25"}, None, 0.25),
        ({"retry-after": "-5"}, None, 0),
        ({"retry-after-ms": "soon", "retry-after": "9"}, None, 9),
        ({"retry-after": "60"}, None, 60),
        ({}, info("37s"), 37),
        ({}, info("37.5s"), 37.5),
        ({}, info("1m"), 60),
        ({"retry-after": "7s"}, None, 7),
        ({"retry-after": "0m30s"}, None, 30),
        ({"retry-after": "500ms"}, None, 0.5),
        ({"retry-after": "7 seconds"}, None, 7),
        ({}, {"error": {"message": "Slow", "retryAfter": 3}}, 3),
        ({}, {"error": {"message": "Slow", "metadata": {"headers": {"Retry-After": "3"}}}}, 3),
        ({}, [info("0.000000001s")], 1e-9),
        ({"retry-after": formatdate(0, usegmt=True)}, None, 0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 -0000"}, None, 0),
    ],
)
def test_the_provider_says_how_long(headers: dict[str, str], body: Any, pause: float) -> None:
    assert provoke(body, headers=headers, status=429) == (pause, None)


def test_a_date_says_how_long() -> None:
    assert retries.parse_retry_after({"retry-after": formatdate(1_000_030, usegmt=True)}, 1_000_000.0) == 30


@pytest.mark.parametrize(
    "value",
    [
        "soon",
        "nan",
        "inf",
        "1e999",
        "",
        "Wed, 99 Foo 2026 00:00:00 GMT",
        "Fri, 31 Dec 99999 23:59:59 GMT",
        "1:2",
        "7 x",
        "7s later",
        "1e3s",
    ],
)
def test_what_no_clock_can_run_is_not_taken(value: str) -> None:
    assert retries.parse_retry_after({"retry-after": value, "retry-after-ms": value}, 0.0) is None
    pause, _ = provoke(info(value), headers={"retry-after": value}, status=429)
    assert pause is not None
    assert 0.25 <= pause <= 0.5


@pytest.mark.parametrize(
    ("headers", "body"), [({"retry-after": "61"}, None), ({}, info("61s")), ({"retry-after": "60.1"}, None)]
)
def test_a_longer_wait_is_the_callers_decision(headers: dict[str, str], body: Any) -> None:
    pause, error = provoke(body, headers=headers, status=429)
    assert pause is None
    assert type(error) is RateLimitError
    assert error.retry_after is not None
    assert error.retry_after > 60


@pytest.mark.parametrize(
    ("status", "word", "tried"),
    [
        (503, None, True),
        (503, "false", False),
        (503, "true", True),
        (503, "perhaps", True),
        (409, "false", False),
        (429, "false", False),
        (498, "true", True),
        (418, "true", True),
        *((status, "true", False) for status in (400, 401, 402, 403, 404, 413, 422)),
    ],
)
def test_the_provider_says_whether(status: int, word: str | None, tried: bool) -> None:
    pause, error = provoke(status=status, headers={"x-should-retry": word} if word else {})
    assert (pause is not None) is tried
    if error:
        assert error.retryable is False


def test_an_empty_account_is_not_asked_again() -> None:
    body = openai(type="insufficient_quota")
    pause, error = provoke(
        body, status=429, headers={"x-should-retry": "true", "retry-after": "1"}, driver="openai"
    )
    assert (pause, type(error)) == (None, QuotaExceededError)
    assert error
    assert error.retry_after == 1


def test_attempts_are_counted() -> None:
    assert provoke(attempt=2)[0] is not None
    pause, error = provoke(attempt=3)
    assert pause is None
    assert error
    assert (error.attempts, error.retryable) == (3, True)
    assert retries.delay(OverloadedError(), 1, 0, 600, random) is None


@pytest.mark.parametrize("max_retries", [1, 2, 9])
def test_an_answer_that_cannot_be_read_is_asked_for_once_more(max_retries: int) -> None:
    assert retries.delay(ResponseParseError(), 1, max_retries, 600, random) is not None
    assert retries.delay(ResponseParseError(), 2, max_retries, 600, random) is None
    assert retries.delay(ResponseParseError(), 1, 0, 600, random) is None


def test_nothing_is_tried_past_the_total_clock() -> None:
    assert retries.delay(OverloadedError(), 1, 2, 0.1, random) is None
    error = RateLimitError(retry_after=10)
    assert retries.delay(error, 1, 2, 10.5, random) == 10
    assert retries.delay(error, 1, 2, 9.5, random) is None
    assert retries.delay(error, 1, 2, -1, random) is None


def fail(x: Exchange, failure: TransportFailure | EngineError) -> float | EngineError:
    """Settle a failure: the pause, or the error that the caller is to see."""
    verdict = x.settle(failure)
    if isinstance(verdict, Failed):
        return verdict.error
    assert isinstance(verdict, Again)
    return verdict.seconds


@pytest.mark.parametrize(
    ("failure", "head", "cls", "clock"),
    [
        (TransportFailure("refused", connected=False), None, ProviderConnectionError, None),
        (TransportFailure("broken"), None, ProviderConnectionError, None),
        (TransportFailure("broken"), 200, StreamInterruptedError, None),
        (TransportFailure("broken"), 500, ProviderConnectionError, None),
        (TransportFailure("late", timed_out=True, connected=False), None, ProviderTimeoutError, "connect"),
        (TransportFailure("late", timed_out=True), None, ProviderTimeoutError, "first_token"),
        (TransportFailure("late", timed_out=True), 200, ProviderTimeoutError, "idle"),
    ],
)
def test_failures_of_the_transport(
    failure: TransportFailure, head: int | None, cls: Any, clock: str | None
) -> None:
    clocks = Clocks(idle=5)
    tried, last = (begin("openai", max_retries=retries, clocks=clocks) for retries in (1, 0))
    for x in (tried, last):
        if head:
            x.receive_head(head, {})
        assert x.timeout() > 0
    assert isinstance(fail(tried, failure), float)
    error = fail(last, failure)
    assert type(error) is cls
    assert getattr(error, "clock", None) == clock


def test_the_total_clock_is_not_retried() -> None:
    x = begin("openai", max_retries=5, clocks=Clocks(total=0))
    with pytest.raises(ProviderTimeoutError) as caught:
        x.timeout()
    error = fail(x, caught.value)
    assert isinstance(error, ProviderTimeoutError)
    assert (error.clock, error.retryable) == ("total", False)


def test_a_stream_is_not_tried_again_once_something_was_handed_on() -> None:
    for chunk in (HI, {"choices": [{"delta": {"reasoning": "hm"}}]}):
        x = begin("groq", max_retries=2)
        x.receive_head(200, {})
        assert len(x.receive(frames(chunk))) == 1
        assert type(fail(x, TransportFailure("broken"))) is StreamInterruptedError
    x = begin("groq", max_retries=2)
    x.receive_head(200, {})
    assert x.receive(b": ping\n\n" + frames({"choices": []})) == []
    assert isinstance(fail(x, TransportFailure("broken")), float)


def test_half_a_reply_is_asked_for_again() -> None:
    """What send() has read of an answer that fails was handed to nobody."""
    said = {"message": {"content": "Hi"}, "finish_reason": "error", "error": {"code": 502, "message": "No"}}
    odd = {"message": {"content": "Hi"}, "finish_reason": ["stop"]}
    candidate = {"content": {"parts": [{"text": "Hi"}]}, "finishReason": "OTHER"}
    cases = [
        ("groq", {"choices": [said]}),
        ("groq", {"choices": [odd]}),
        ("gemini", {"candidates": [candidate]}),
    ]
    for driver, whole in cases:
        pause, error = provoke(whole, status=200, driver=driver)
        assert (pause is not None, error) == (True, None)


def test_what_keeps_a_connection_alive_does_not_hold_a_complete_answer_back() -> None:
    clock = VirtualClock()
    for total, more in ((600.0, False), (600.0, True), (20.0, False)):
        with CLOCK.use(clock):
            x = begin("groq", clocks=Clocks(total=total))
        x.receive_head(200, {})
        x.receive(frames(HI, STOP))
        began = clock.now()
        failure = None
        while failure is None:
            try:
                x.timeout()
            except TransportFailure as caught:
                failure = caught
            else:
                clock.seconds += 1
                x.receive(frames(HI) if more and clock.now() == began + 10 else b": ping\n\n")
        assert clock.now() - began == min(exchange.END_SECONDS + 10 * more, total)
        verdict = x.settle(failure)
        assert isinstance(verdict, Done)
        (last,) = verdict.chunks
        assert (last["done"], last["finish_reason"]) == (True, "stop")


def test_a_complete_answer_survives_what_breaks_behind_it() -> None:
    for failure in (TransportFailure("broken"), TransportFailure("late", timed_out=True)):
        x = begin("groq", max_retries=2)
        x.receive_head(200, {})
        x.receive(frames(HI, STOP))
        assert x.timeout() <= exchange.END_SECONDS
        verdict = x.settle(failure)
        assert isinstance(verdict, Done)
        (last,) = verdict.chunks
        assert (last["done"], last["finish_reason"], x.finished) == (True, "stop", True)


# A request amended


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"message": "Unknown field: stream_options"}),
        (422, {"message": "Extra inputs are not permitted", "param": "stream_options"}),
    ],
)
def test_a_service_that_takes_no_stream_options_is_asked_without(status: int, error: dict[str, str]) -> None:
    request = build("groq", stream=True)
    x = begin("groq", request=request)
    x.receive_head(status, {})
    x.receive(json.dumps({"error": error}).encode())
    with pytest.raises(InvalidRequestError) as caught:
        x.receive(b"")
    assert fail(x, caught.value) == 0
    amended = x.open_attempt()
    assert json.loads(request.body) == {**json.loads(amended.body), "stream_options": {"include_usage": True}}
    assert (amended.url, amended.headers) == (request.url, request.headers)
    assert isinstance(
        fail(x, InvalidRequestError("stream_options", code=400)), InvalidRequestError
    )  # but once


@pytest.mark.parametrize(
    ("driver", "stream", "error"),
    [
        ("groq", True, InvalidRequestError("temperature", code=400)),
        ("groq", True, ProviderServerError("stream_options", code=500)),
        ("groq", False, InvalidRequestError("stream_options", code=400)),
        ("openai", True, InvalidRequestError("stream_options", code=400)),
    ],
)
def test_nothing_else_is_amended(driver: str, stream: bool, error: EngineError) -> None:
    x = begin(driver, request=build(driver, stream=stream))
    assert fail(x, error) is error


def test_an_error_inside_a_stream_is_classed_by_its_words() -> None:
    for word, cls in (
        ("authentication_error", AuthenticationError),
        ("permission_error", ProviderPermissionError),
        ("not_found_error", ModelNotFoundError),
        ("conflict_error", ConflictError),
        ("timeout_error", ProviderTimeoutError),
        ("request_too_large", RequestTooLargeError),
        ("billing_error", QuotaExceededError),
        ("a_word_of_next_year", StreamError),
    ):
        assert type(answer("claude", frames(claude(word))).error) is cls
    long = frames(claude("invalid_request_error", "prompt is too long"))
    assert type(answer("claude", long).error) is ContextLengthExceededError
    assert UnsupportedFeatureError.retryable is False
