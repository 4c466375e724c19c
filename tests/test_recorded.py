"""Recorded traffic of the providers, which lies outside the project: BUPPLE_RECORDED_DIR says where.

Each case is driven through an exchange, cut at several sizes, and over a socket by the verbs. What we read
in another way than the recording's reader is named, with the reason.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bupple_engine import EngineError, ai
from bupple_engine.masking import MaskedDict
from bupple_engine.protocol.request import Request
from bupple_engine.protocol.sse import Decoder
from tests.conftest import Configure
from tests.provider import Answer, Provider, split
from tests.pure import answer, begin, check_usage, hear, pieces
from tests.verbs import Outcome, run

DIRECTORY = os.environ.get("BUPPLE_RECORDED_DIR")
pytestmark = pytest.mark.skipif(not DIRECTORY, reason="BUPPLE_RECORDED_DIR is not set")

DRIVERS = {
    "responses": "openai",
    "chat_completions": "compatible",
    "messages": "claude",
    "generate_content": "gemini",
}
# The providers' words for the end, as the recordings have them, and ours; a tool call says more than they.
FINISHES = {
    "stop": "stop", "completed": "stop", "end_turn": "stop", "STOP": "stop", "stop_sequence": "stop",
    "tool_calls": "tool_calls", "tool_use": "tool_calls",
    "length": "length", "max_tokens": "length", "MAX_TOKENS": "length", "incomplete": "length",
    "content_filter": "content_filter", "refusal": "refusal",
}  # fmt: skip
NOT_SENT_AGAIN = {"content-encoding", "content-length", "transfer-encoding", "connection"}

SHOWN = "the text of a reasoning item is shown as reasoning; the reader took its summary alone"
APART = "the service counts the reasoning beside the completion, and ours holds all that was made"
BEYOND = "more of the prompt is said to be cached than there is of it"
DEVIATIONS: dict[str, dict[str, str]] = {
    "gemini/0012": {
        "prompt": "what a hosted tool read, toolUsePromptTokenCount, is input and billed as such"
    },
    "gemini/0014": {"type": "the reason among the details, API_KEY_INVALID, says more than INVALID_ARGUMENT"},
    **{f"openai_compatible/{number}": {"completion": APART} for number in (1906, 1916)},
    **{
        f"openai_compatible/{number}": {"completion": APART, "total": APART}
        for number in (2032, 2034, 2037, 2038, 2040, 2044, 2050)
    },
    **{
        f"openai_compatible/{number}": {"cached_tokens": BEYOND}
        for number in ("0085", "0087", "0088", "0089")
    },
    "openai_compatible/0268": {"reasoning": SHOWN},
    "openai_compatible/0371": {"reasoning": SHOWN},
    "openai_compatible/0428": {"reasoning": SHOWN},
    "openai_compatible/0429": {"reasoning": SHOWN},
    "openai_compatible/0430": {"reasoning": SHOWN},
    "openai_compatible/0431": {"reasoning": SHOWN},
}


def load() -> tuple[list[Any], list[Any]]:
    """Read the recorded answers and the cases of the event stream."""
    if not DIRECTORY:
        return [], []
    with gzip.open(Path(DIRECTORY, "cases.jsonl.gz"), "rt", encoding="utf-8") as lines:
        answers = [json.loads(line) for line in lines]
    return answers, json.loads(Path(DIRECTORY, "sse_cases.json").read_text(encoding="utf-8"))["cases"]


ANSWERS, EVENTS = load()
PAID = [case for case in ANSWERS if not case["expected"]["error"] and case["expected"]["usage_raw"]]


# Host → the driver, where its answers have their cost, and in what part of a dollar.
COSTS: dict[str, tuple[str, tuple[str, ...], int]] = {
    "api.x.ai": ("xai", ("cost_in_usd_ticks",), 10**10),
    "openrouter.ai": ("openrouter", ("cost",), 1),
    "ai-gateway.vercel.sh": ("vercel", ("cost",), 1),
    "api.avian.io": ("avian", ("cost",), 1),
    "api.perplexity.ai": ("perplexity", ("cost", "total_cost"), 1),
}


def host_of(case: Any) -> str:
    """Return the host that answered; some recordings don't say."""
    return (case["request"] or {}).get("host") or "provider"


def expected_of(case: Any) -> dict[str, Any]:
    """Return what our reply should say; None is not compared."""
    expected, usage = case["expected"], case["expected"]["usage"] or {}
    apart = (usage.get("reasoning") or 0) if case["endpoint"] == "generate_content" else 0
    completion = usage.get("output")
    return {
        "content": (expected["text"] or "") + (expected["refusal"] or ""),
        "reasoning": expected["thinking"] or "",
        "finish": "tool_calls" if expected["tool_calls"] else FINISHES[expected["finish_reason"]],
        "prompt": usage.get("input"),
        "completion": None if completion is None else completion + apart,
        "total": usage.get("total"),
        "cached_tokens": usage.get("cached"),
        "reasoning_tokens": usage.get("reasoning"),
        "model": expected["model"],
        "id": expected["id"],
    }


def check(case: Any, outcome: Outcome) -> None:
    """Hold an outcome against what was expected of its case."""
    status, told = case["response"]["status"], case["expected"]["error"]
    if told:
        error = outcome.error
        assert isinstance(error, EngineError)
        assert error.code == status
        assert told["message"] in (None, error.message)
        differs = error.type not in (told["type"], told["code"], told["status"])
        assert differs == ("type" in DEVIATIONS.get(case["id"], ()))
        return
    assert outcome.error is None
    reply, expected = outcome.reply, expected_of(case)
    usage = reply["usage"]
    found = {
        "content": reply["content"],
        "reasoning": outcome.reasoning,
        "finish": reply["finish_reason"],
        "prompt": usage["prompt_tokens"],
        "completion": usage["completion_tokens"],
        "total": usage["total_tokens"],
        "cached_tokens": usage.get("cache_read", 0),
        "reasoning_tokens": usage.get("reasoning", 0),
        "model": reply["model"],
        "id": reply["metadata"].get("id"),
    }
    differing = {name for name, value in expected.items() if value is not None and value != found[name]}
    assert differing == set(DEVIATIONS.get(case["id"], ())), (expected, found)
    raw = case["expected"]["usage_raw"] or {}
    kept = {name: value for name, value in raw.items() if value is not None}
    assert kept.items() <= usage.get("raw", {}).items()
    check_usage(usage)
    json.dumps(reply)


def ids(case: Any) -> str:
    """Name a case as the recordings do."""
    return str(case["id"])


@pytest.mark.parametrize("case", ANSWERS, ids=ids)
def test_recorded_answers_cut_anywhere(case: Any) -> None:
    response, driver = case["response"], DRIVERS[case["endpoint"]]
    raw, asked = response["body"].encode(), {"stream": case["streaming"], "status": response["status"]}
    for size in (0, 1, 2, 3, 7, 64, 1500):
        check(case, answer(driver, raw, size=size, headers=response["headers"], **asked))


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("case", ANSWERS, ids=ids)
def test_recorded_answers_over_a_socket(
    case: Any, asynchronous: bool, provider: Provider, configure: Configure
) -> None:
    response, driver = case["response"], DRIVERS[case["endpoint"]]
    configure(it={"DRIVER": driver, "API_KEY": "k", "MODEL": "m", "BASE_URL": provider.url, "MAX_RETRIES": 0})
    headers = {name: text for name, text in response["headers"].items() if name not in NOT_SENT_AGAIN}
    body = split(response["body"].encode(), 1000)
    provider.answer(Answer(status=response["status"], headers=headers, pieces=body))
    verb = "a" * asynchronous + ("stream" if case["streaming"] else "send")
    check(case, run(ai(), verb, [{"role": "user", "content": "Hello"}]))


@pytest.mark.parametrize("case", [case for case in PAID if host_of(case) in COSTS], ids=ids)
def test_a_recorded_cost_is_what_the_service_said(case: Any) -> None:
    service, path, per_dollar = COSTS[host_of(case)]
    driver = service if case["endpoint"] == "chat_completions" else "openai"
    request = Request(f"https://{host_of(case)}/v1", MaskedDict(), b"{}", case["streaming"])
    response = case["response"]
    began = begin(driver, stream=case["streaming"], request=request)
    usage = hear(began, [response["body"].encode()], response["status"], response["headers"]).reply["usage"]
    said: Any = case["expected"]["usage_raw"]
    for name in path:
        said = said[name]
    assert Decimal(usage["cost"]) == Decimal(str(said)) / per_dollar
    check_usage(usage)


@pytest.mark.parametrize("case", [case for case in PAID if host_of(case) not in COSTS], ids=ids)
def test_no_recorded_cost_is_taken_from_another_service(case: Any) -> None:
    request = Request(f"https://{host_of(case)}/v1", MaskedDict(), b"{}", case["streaming"])
    began = begin(DRIVERS[case["endpoint"]], stream=case["streaming"], request=request)
    response = case["response"]
    usage = hear(began, [response["body"].encode()], response["status"], response["headers"]).reply["usage"]
    assert "cost" not in usage


def test_a_deviation_that_is_named_exists() -> None:
    assert set(DEVIATIONS) <= {case["id"] for case in ANSWERS}


@pytest.mark.parametrize("case", EVENTS, ids=lambda case: case["name"])
def test_recorded_event_streams(case: Any) -> None:
    raw = base64.b64decode(case["input"])
    cuts = [pieces(raw, size) for size in (0, 1, 2, 3, 7)]
    if case["chunks"]:
        cuts.append([base64.b64decode(chunk) for chunk in case["chunks"]])
    for cut in cuts:
        decoder = Decoder()
        found = [event._asdict() for piece in cut for event in decoder.feed(piece)]
        assert found == case["expected"]
        assert decoder.last_event_id == case["last_event_id"]
        assert decoder.reconnection_time == case["reconnection_time"]
