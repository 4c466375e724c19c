"""Situations of public reports, which lie outside the project: BUPPLE_CASES_DIR says where.

Each is played over a socket by the verbs that it names, the asynchronous ones over aiohttp and over threads,
its pieces cut at several sizes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from bupple_engine import EngineError, ai
from tests.conftest import Configure
from tests.provider import Answer, Piece, Provider, split
from tests.pure import check_usage
from tests.verbs import STREAMS, VERBS, Outcome, run

DIRECTORY = os.environ.get("BUPPLE_CASES_DIR")
pytestmark = pytest.mark.skipif(not DIRECTORY, reason="BUPPLE_CASES_DIR is not set")

HI: list[Any] = [{"role": "user", "content": "hi"}]
EVIDENCE = ("code", "retryable", "retry_after", "param", "partial_content", "attempts")


def load() -> list[Any]:
    """Read the cases, one for each verb and way of transport."""
    if not DIRECTORY:
        return []
    lines = Path(DIRECTORY, "wire.jsonl").read_text(encoding="utf-8").splitlines()
    cases = [json.loads(line) for line in lines if line]
    return [
        pytest.param(case, verb, way, id=f"{case['id']}-{verb}-{way}")
        for case in cases
        for verb in case["verbs"]
        for way in (("own", "threads") if verb.startswith("a") else ("own",))
    ]


def script(answer: Any, size: int) -> Answer:
    """Return what the provider is to send; 0 leaves its pieces whole."""
    assert "head_pause" not in answer, "no case has had one yet"
    pieces: list[Piece] = []
    for piece in answer["pieces"]:
        if "pause" in piece:
            pieces.append(float(piece["pause"]))
        else:
            data = base64.b64decode(piece["base64"]) if "base64" in piece else piece["text"].encode()
            pieces += split(data, size) if size else [data]
    headers = {name.lower(): value for name, value in answer["headers"].items()}
    chunked = "event-stream" in headers.get("content-type", "") or "transfer-encoding" in headers
    return Answer(
        status=answer["status"],
        headers=headers,
        pieces=pieces,
        framing="chunked" if chunked else "length",
        heads=answer.get("head_raw", "").encode("latin-1"),
    )


def call(verb: str, messages: Any, options: dict[str, Any]) -> tuple[Outcome, Any]:
    """Make the call; return its outcome, and the models where these are asked for."""
    if verb in VERBS:
        return run(ai(), verb, messages, **options), None
    try:
        return Outcome(), ai().models() if verb == "models" else asyncio.run(ai().amodels())
    except EngineError as error:
        return Outcome(error=error), None


def differences(expected: Any, outcome: Outcome, models: Any, seconds: float) -> dict[str, Any]:
    """Return what is not as expected, with what came in its place."""
    error = outcome.error
    found: dict[str, Any] = {"within": seconds}
    if "error" in expected:
        classes = expected["error"] if isinstance(expected["error"], list) else [expected["error"]]
        if error is None or not {type(error).__name__, "EngineError"} & {*classes}:
            return {"error": error or outcome.reply}
        wrong = {name: getattr(error, name) for name in EVIDENCE if name in expected}
        wrong = {name: value for name, value in wrong.items() if value != expected[name]}
        if expected.get("message_contains", "").lower() not in str(error).lower():
            wrong["message"] = str(error)
        if not re.search(expected.get("message_matches", ""), str(error)):
            wrong["message"] = str(error)
        return wrong
    if error is not None:
        return {"error": error}
    if outcome.reply is not None:
        reply = outcome.reply
        found |= {"content": reply["content"], "finish_reason": reply["finish_reason"]}
        found |= {"reasoning": outcome.reasoning, "usage": reply["usage"]}
        json.dumps(reply).encode()
        check_usage(reply["usage"])
    found["models"] = models
    wrong = {name: found.get(name) for name in expected if found.get(name) != expected[name]}
    if seconds <= expected.get("within", 0):
        wrong.pop("within", None)
    if "usage" in wrong and expected["usage"].items() <= found["usage"].items():
        del wrong["usage"]
    return wrong


def at(payload: Any, path: str) -> Any:
    """Look a path like messages[0].content up."""
    for step in re.findall(r"[^.\[\]]+", path):
        payload = payload[int(step) if step.isdigit() else step]
    return payload


def check_request(expected: Any, provider: Provider) -> None:
    """Hold what was asked against what should have been."""
    if "count" in expected:
        assert len(provider.requests) == expected["count"]
    if "attempt" not in expected:
        return
    sent = provider.requests[expected["attempt"] - 1].json
    assert not {*expected.get("absent", ())} & {*sent}
    if "path" in expected:
        values = expected["values"] if "values" in expected else [expected["value"]]
        assert at(sent, expected["path"]) in values


@pytest.mark.parametrize(("case", "verb", "way"), load())
def test_a_situation_of_a_public_report(
    case: Any, verb: str, way: str, provider: Provider, configure: Configure, request: pytest.FixtureRequest
) -> None:
    if way == "threads":
        request.getfixturevalue("without_aiohttp")
    again = len(case["answers"]) > 1 or "attempts" in str(case["expect"])
    entry = {"API_KEY": "k", "MODEL": "m", "BASE_URL": provider.url, "MAX_RETRIES": 2 if again else 0}
    configure(it={"DRIVER": case["driver"], **entry})
    waits = any("pause" in piece for answer in case["answers"] for piece in answer["pieces"])
    for size in (0,) if waits or verb not in STREAMS else (0, 1, 7):
        provider.forget()
        provider.answer(*(script(answer, size) for answer in case["answers"]), repeat=True)
        messages = case.get("messages", HI)
        started = time.monotonic()
        outcome, models = call(verb, messages, case.get("options", {}))
        seconds = time.monotonic() - started
        any_of = case["expect"] if isinstance(case["expect"], list) else [case["expect"]]
        wrong = [differences(expected, outcome, models, seconds) for expected in any_of]
        assert {} in wrong, (case["kind"], wrong)
        if question := case.get("follow_up"):
            history = [*messages, outcome.reply, {"role": "user", "content": question}]
            run(ai(), verb, history)
        check_request(case.get("expect_request", {}), provider)
