"""Usage in common terms: what each provider's counts become, crafted and hostile ones among them."""

from __future__ import annotations

import copy
import json
import random
from decimal import Decimal
from typing import Any

import pytest

from bupple_engine import ai, call_finished
from bupple_engine.masking import MaskedDict
from bupple_engine.protocol.request import Request
from bupple_engine.protocol.usage import COUNTS, NO_USAGE, dollars, in_common_terms, tier_of
from bupple_engine.wires.services import SERVICES
from tests.conftest import Configure
from tests.provider import Answer, Provider
from tests.pure import HELLO, answer, begin, check_usage, frames, hear, wire
from tests.verbs import VERBS, run
from tests.wires import EVENTS

TEXT = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
RESPONSE = {"output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}]}
CLAUDE = {"type": "message", "content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn"}
GEMINI = {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}]}
SEARCH = {"type": "web_search_call", "status": "completed"}


def whole(driver: str, usage: Any, **more: Any) -> dict[str, Any]:
    """Return an answer of a driver's provider that reports a usage."""
    if driver == "gemini":
        return {**GEMINI, "usageMetadata": usage, **more}
    bodies: dict[str, dict[str, Any]] = {"openai": RESPONSE, "claude": CLAUDE}
    return {"model": "m", **bodies.get(driver, TEXT), "usage": usage, **more}


def usage_from(driver: str, payload: Any, url: str = "http://provider/v1") -> Any:
    """Return the usage of a whole answer."""
    request = Request(url, MaskedDict(), b"{}", stream=False)
    exchange = begin(driver, stream=False, request=request)
    return hear(exchange, [json.dumps(payload).encode()]).reply["usage"]


def counts(prompt: int, completion: int, **parts: Any) -> dict[str, Any]:
    """Return a usage in common terms without what the provider said."""
    sides = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return sides | parts


def chat(prompt: int, completion: int, total: int | None = None, **more: Any) -> dict[str, Any]:
    """Return a usage of Chat Completions."""
    total = prompt + completion if total is None else total
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total, **more}


def thought(number: int) -> dict[str, Any]:
    """Return the details of a completion that has reasoning."""
    return {"completion_tokens_details": {"reasoning_tokens": number}}


# Name → driver, the provider's usage, what else its answer has, and our usage without `raw`.
KNOWN: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "Claude, everything": (
        "claude",
        {
            **{"input_tokens": 10, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 500},
            "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
            **{"output_tokens": 70, "output_tokens_details": {"thinking_tokens": 60}},
            "server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 1},
            "service_tier": "priority",
        },
        {},
        counts(540, 70, cache_read=500, cache_write=30, cache_write_1h=20, reasoning=60, searches=3)
        | {"tier": "priority"},
    ),
    "Claude, standard": ("claude", {"input_tokens": 1, "service_tier": "standard"}, {}, counts(1, 0)),
    "Claude, nulls": (
        "claude",
        {"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": None, "cache_creation": None},
        {},
        counts(1, 2),
    ),
    "Claude, fast": (
        "claude",
        {"input_tokens": 1, "output_tokens": 2, "speed": "fast", "service_tier": "standard"},
        {},
        counts(1, 2, tier="fast"),
    ),
    "Claude behind a gateway": (
        "claude",
        {"prompt_tokens": 9, "completion_tokens": 2, "cache_read_input_tokens": 4},
        {},
        counts(9, 2, cache_read=4),
    ),
    "Responses, everything": (
        "openai",
        {
            **{"input_tokens": 100, "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30}},
            **{"output_tokens": 50, "output_tokens_details": {"reasoning_tokens": 40}, "total_tokens": 150},
        },
        {"service_tier": "flex", "output": [SEARCH, SEARCH, *RESPONSE["output"]]},
        counts(100, 50, cache_read=60, cache_write=30, reasoning=40, searches=2, tier="flex"),
    ),
    "Responses, pages that were only opened": (
        "openai",
        {"input_tokens": 1, "output_tokens": 2},
        {
            "service_tier": "default",
            "output": [
                {**SEARCH, "action": {"type": "search", "query": "q"}},
                {**SEARCH, "action": {"type": "open_page", "url": "https://example.org"}},
                *RESPONSE["output"],
            ],
        },
        counts(1, 2, searches=1),
    ),
    "Responses, a cost that nobody vouches for": (
        "openai",
        {"input_tokens": 1, "output_tokens": 2, "cost_in_usd_ticks": 5743500},
        {},
        counts(1, 2),
    ),
    "Chat Completions, everything": (
        "openai_chat",
        chat(
            *(100, 50),
            prompt_tokens_details={"cached_tokens": 60, "cache_write_tokens": 10, "audio_tokens": 7},
            completion_tokens_details={"reasoning_tokens": 20, "audio_tokens": 5},
        ),
        {"service_tier": "priority"},
        counts(100, 50, cache_read=60, cache_write=10, reasoning=20, audio_input=7, audio_output=5)
        | {"tier": "priority"},
    ),
    "Chat Completions, the other API's words": (
        "compatible",
        {
            **{"input_tokens": 9, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}},
            "output_tokens_details": {"reasoning_tokens": 3},
        },
        {},
        counts(9, 5, cache_read=4, reasoning=3),
    ),
    "Chat Completions, Claude's words": (
        "compatible",
        {
            **{"input_tokens": 9, "output_tokens": 5},
            **{"cache_read_input_tokens": 40, "cache_creation_input_tokens": 1},
        },
        {},
        counts(50, 5, cache_read=40, cache_write=1),
    ),
    "Chat Completions, a cost that nobody vouches for": (
        *("openai_chat", chat(1, 2, cost=0.5), {}),
        counts(1, 2),
    ),
    "reasoning beside, in the total": (
        *("xai", chat(432, 68, 636, **thought(136)), {}),
        counts(432, 204, reasoning=136),
    ),
    "reasoning beside, in the total, of an unknown service": (
        *("compatible", chat(5, 20, 35, **thought(10)), {}),
        counts(5, 30, reasoning=10),
    ),
    "reasoning beside, more than the rest": (
        *("compatible", chat(61, 10, 71, **thought(96)), {}),
        counts(61, 106, reasoning=96),
    ),
    "reasoning inside": ("compatible", chat(5, 20, **thought(10)), {}, counts(5, 20, reasoning=10)),
    "reasoning inside, no total": (
        *("compatible", {"prompt_tokens": 5, "completion_tokens": 20, **thought(20)}, {}),
        counts(5, 20, reasoning=20),
    ),
    "Vercel's gateway, Gemini, less reasoning than text": (
        *("vercel", chat(61, 110, **thought(96)), {"model": "google/gemini-2.5-flash"}),
        counts(61, 206, reasoning=96),
    ),
    "Vercel's gateway, another maker": (
        *("vercel", chat(61, 110, **thought(96)), {"model": "openai/gpt-6-luna"}),
        counts(61, 110, reasoning=96),
    ),
    # https://github.com/mozilla-ai/any-llm/issues/1290
    "Gemini's thoughts in the total alone": ("gemini_compatible", chat(20, 151, 553), {}, counts(20, 533)),
    "the prompt in the total alone": (
        *("compatible", {"completion_tokens": 2, "total_tokens": 9}, {}),
        counts(7, 2),
    ),
    "the completion in the total alone": (
        *("compatible", {"prompt_tokens": 2, "total_tokens": 9}, {}),
        counts(2, 7),
    ),
    "the cache beside the prompt": (
        *("compatible", chat(10, 5, 515, cache_read_input_tokens=500), {}),
        counts(510, 5, cache_read=500),
    ),
    "a total that is too small": ("compatible", chat(10, 5, 12), {}, counts(10, 5)),
    "more in the cache than in the prompt": (
        *("azure", chat(228, 42, prompt_tokens_details={"cached_tokens": 366}, cost_in_usd_ticks=0), {}),
        counts(228, 42, cache_read=228),
    ),
    "cached of DeepSeek": (
        *("deepseek", chat(305, 72, prompt_cache_hit_tokens=256, prompt_cache_miss_tokens=49), {}),
        counts(305, 72, cache_read=256),
    ),
    "cached of Moonshot": ("moonshot", chat(30, 7, cached_tokens=20), {}, counts(30, 7, cache_read=20)),
    "written by DashScope": (
        *("dashscope", chat(30, 7, prompt_tokens_details={"cache_creation_input_tokens": 20}), {}),
        counts(30, 7, cache_write=20),
    ),
    "written for an hour": (
        "doubleword",
        chat(30, 7, cache_creation_input_tokens=20, cache_creation={"ephemeral_1h_input_tokens": 90}),
        {},
        counts(30, 7, cache_write=20, cache_write_1h=20),
    ),
    "cost of xAI": ("xai", chat(1, 2, cost_in_usd_ticks=1654500), {}, counts(1, 2, cost="0.00016545")),
    "cost of OpenRouter": (
        *("openrouter", chat(1, 2, cost=5.75e-06, is_byok=False), {}),
        counts(1, 2, cost="0.00000575"),
    ),
    "no cost is a cost of nothing": ("openrouter", chat(1, 2, cost=0), {}, counts(1, 2, cost="0")),
    "cost with a key of one's own": (
        "openrouter",
        chat(1, 2, cost=0.0001, is_byok=True, cost_details={"upstream_inference_cost": 0.002}),
        {},
        counts(1, 2, cost="0.0021"),
    ),
    "cost with a key of one's own, of which half is told": (
        *("openrouter", chat(1, 2, cost=0.0001, is_byok=True, cost_details={}), {}),
        counts(1, 2),
    ),
    "cost of Avian": ("avian", chat(1, 2, cost=0.0003287), {}, counts(1, 2, cost="0.0003287")),
    "cost of Vercel": ("vercel", chat(1, 2, cost="0.0002833"), {}, counts(1, 2, cost="0.0002833")),
    "cost of Perplexity": (
        *("perplexity", chat(8, 5, cost={"total_cost": 0.00501, "request_cost": 0.005}), {}),
        counts(8, 5, cost="0.00501"),
    ),
    "searches of Perplexity": ("perplexity", chat(8, 5, num_search_queries=3), {}, counts(8, 5, searches=3)),
    "tier of Groq": ("groq", chat(1, 2), {"service_tier": "on_demand"}, counts(1, 2)),
    "tier of Mistral": ("mistral", chat(1, 2, service_tier="batch"), {}, counts(1, 2, tier="batch")),
    "Gemini, everything": (
        "gemini",
        {
            **{"promptTokenCount": 85, "toolUsePromptTokenCount": 149, "cachedContentTokenCount": 40},
            **{"candidatesTokenCount": 122, "thoughtsTokenCount": 87, "totalTokenCount": 443},
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 60}, {"modality": "AUDIO", "tokenCount": 25},
            ],
            "toolUsePromptTokensDetails": [{"modality": "AUDIO", "tokenCount": 5}],
            "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 9}],
            "serviceTier": "FLEX",
        },
        {},
        counts(234, 209, cache_read=40, reasoning=87, audio_input=30, audio_output=9, tier="flex"),
    ),
    "Gemini, thoughts counted in": (
        "gemini",
        {"promptTokenCount": 5, "candidatesTokenCount": 10, "thoughtsTokenCount": 4, "totalTokenCount": 15},
        {},
        counts(5, 10, reasoning=4),
    ),
    "nothing that counts": ("compatible", {"queue_time": 0.2, "prompt_tokens": None}, {}, {**NO_USAGE}),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_what_a_provider_counts_in_common_terms(name: str) -> None:
    driver, said, more, expected = KNOWN[name]
    usage = usage_from(driver, whole(driver, said, **more))
    check_usage(usage)
    # A null of one event says nothing against another's number: it isn't kept.
    assert usage == {**expected, "raw": {key: value for key, value in said.items() if value is not None}}


@pytest.mark.parametrize(
    ("driver", "url"),
    [
        ("openai", "https://api.x.ai/v1/responses"),
        ("openai_chat", "https://api.x.ai/v1/chat/completions"),
        ("compatible", "https://api.x.ai/v1/chat/completions"),
        ("xai", "http://a-proxy.example/v1/chat/completions"),
    ],
)
def test_a_service_is_known_by_its_row_or_by_its_host(driver: str, url: str) -> None:
    usage = usage_from(driver, whole(driver, chat(1, 2, cost_in_usd_ticks=10**9)), url)
    assert usage["cost"] == "0.1"


@pytest.mark.parametrize("driver", ["openai", "openai_chat", "compatible", "azure"])
def test_a_host_that_is_only_like_a_service_s_vouches_for_nothing(driver: str) -> None:
    url = "https://api.x.ai.example/v1"
    assert "cost" not in usage_from(driver, whole(driver, chat(1, 2, cost_in_usd_ticks=10**9)), url)


HOSTILE: list[Any] = [
    *(None, True, False, -1, -0.5, 0, 1, 7, 2.9, 1e300, float("nan"), float("inf"), 2**53, 10**40, "", "5"),
    *("٣", "-5", "1e3", "x", "9" * 5000, [], [1], [{"modality": "AUDIO", "tokenCount": 10**6}], [None], {}),
    "1e999999999", "-0",
    *({"tokenCount": 3}, {"reasoning_tokens": 10**6}, {"cached_tokens": "12"}, {"a": {"b": {"c": [{}]}}}),
]  # fmt: skip


def names_of(driver: str) -> list[str]:
    """Return the fields that a driver's wire looks at, and some that it doesn't."""
    paths = {path for each in wire(driver).counts.values() for path in each}
    more = {"service_tier", "serviceTier", "speed", "cost", "is_byok", "cost_in_usd_ticks", "unheard_of"}
    gemini = {"toolUsePromptTokenCount", "promptTokensDetails", "candidatesTokensDetails"}
    return sorted(paths | more | {"cost.total_cost", "cost_details.upstream_inference_cost"} | gemini)


def put(usage: dict[str, Any], path: str, value: Any) -> None:
    """Put a value at a path, into whatever stands there as long as that is an object."""
    *outer, last = path.split(".")
    for name in outer:
        inner = usage.setdefault(name, {})
        if not isinstance(inner, dict):
            return
        usage = inner
    usage[last] = copy.deepcopy(value)


DRIVERS = [
    "claude",
    "gemini",
    "openai",
    "openai_chat",
    "compatible",
    "xai",
    "openrouter",
    "vercel",
    "perplexity",
]


@pytest.mark.parametrize("driver", DRIVERS)
def test_hostile_counts_hold_together(driver: str) -> None:
    """Put each value at each place, and then many at once; an answer is never lost for its counts."""
    dice, names = random.Random(driver), names_of(driver)
    cases: list[dict[str, Any]] = []
    for name in names:
        for value in HOSTILE:
            cases.append(chat(12, 7, input_tokens=12, promptTokenCount=12, candidatesTokenCount=7))
            put(cases[-1], name, value)
    for _ in range(500):
        cases.append({})
        for name in dice.sample(names, dice.randint(1, len(names))):
            put(cases[-1], name, dice.choice([*HOSTILE, dice.randint(0, 50), dice.randint(0, 50)]))
    dice.shuffle(cases)
    it = wire(driver)
    exchange = begin(it, stream=False)
    for case in cases:
        written: Any = it.open_answer(exchange.request)
        written.model, written.tier = dice.choice(["google/m", 7, {}]), dice.choice(HOSTILE)
        written.add_usage(case)
        check_usage(it.parse_usage(written, exchange.request))


@pytest.mark.parametrize("driver", sorted(SERVICES))
def test_each_service_counts_in_common_terms(driver: str) -> None:
    said = chat(12, 7, prompt_tokens_details={"cached_tokens": 4}, **thought(3))
    usage = usage_from(driver, whole(driver, said))
    check_usage(usage)
    assert usage == {**counts(12, 7, cache_read=4, reasoning=3), "raw": said}


# Streams


def test_usage_that_comes_in_several_events_is_one() -> None:
    begun = {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 1, "service_tier": "batch"}
    raw = frames(
        {"type": "message_start", "message": {"model": "m", "usage": begun}},
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 30, "input_tokens": None}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 50, "output_tokens_details": {"thinking_tokens": 8}},
        },
        {"type": "message_stop"},
    )
    usage = answer("claude", raw).reply["usage"]
    assert usage.pop("raw")["output_tokens"] == 50
    assert usage == counts(100, 50, cache_read=90, reasoning=8, tier="batch")


def test_usage_that_gemini_repeats_is_the_last() -> None:
    part = {"content": {"parts": [{"text": "Hi"}]}}
    raw = frames(
        {"candidates": [part], "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5}},
        {
            "candidates": [part],
            "usageMetadata": {"promptTokenCount": 5, "thoughtsTokenCount": 30, "totalTokenCount": 35},
        },
        {
            "candidates": [{**part, "finishReason": "STOP"}],
            "usageMetadata": {
                **{"promptTokenCount": 5, "candidatesTokenCount": 2},
                **{"thoughtsTokenCount": 30, "totalTokenCount": 37},
            },
        },
    )
    usage = answer("gemini", raw).reply["usage"]
    assert usage.pop("raw")["totalTokenCount"] == 37
    assert usage == counts(5, 32, reasoning=30)


def test_a_chat_stream_says_its_tier_at_the_beginning_or_at_the_end() -> None:
    hi = {"model": "m", "choices": [{"delta": {"content": "Hi"}}]}
    stop = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    used = {"choices": [], "usage": chat(1, 2)}
    for events in (
        ({**hi, "service_tier": "flex"}, stop, used),
        ({**hi, "service_tier": "auto"}, stop, {**used, "service_tier": "flex"}),
    ):
        usage = answer("openai_chat", frames(*events, "[DONE]")).reply["usage"]
        assert usage == {**counts(1, 2, tier="flex"), "raw": chat(1, 2)}


@pytest.mark.parametrize(
    ("driver", "events", "expected"),
    [
        (
            "claude",
            [
                {
                    "type": "message_start",
                    "message": {"usage": {"input_tokens": 5, "cache_read_input_tokens": 4}},
                },
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
            ],
            counts(9, 0, cache_read=4),
        ),
        (
            "gemini",
            [
                {
                    "candidates": [{"content": {"parts": [{"text": "Hi"}]}}],
                    "usageMetadata": {"promptTokenCount": 5, "thoughtsTokenCount": 3, "totalTokenCount": 8},
                }
            ],
            counts(5, 3, reasoning=3),
        ),
        (
            "xai",
            [{"choices": [{"delta": {"content": "Hi"}}], "usage": chat(5, 1, 9, **thought(3))}],
            counts(5, 4, reasoning=3),
        ),
    ],
    ids=["claude", "gemini", "xai"],
)  # fmt: skip
def test_a_broken_stream_tells_what_was_counted(driver: str, events: list[Any], expected: Any) -> None:
    usage: Any = vars(answer(driver, frames(*events)).error)["usage"]
    check_usage(usage)
    assert usage.pop("raw")
    assert usage == expected


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("verb", VERBS)
def test_everybody_who_is_told_a_usage_is_told_the_same(
    verb: str, broken: bool, configure: Configure, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    configure(
        it={"DRIVER": "claude", "API_KEY": "k", "MODEL": "m", "BASE_URL": provider.url, "MAX_RETRIES": 0}
    )
    begun = {"input_tokens": 5, "cache_read_input_tokens": 4, "service_tier": "batch"}
    events: list[Any] = [
        {"type": "message_start", "message": {"model": "m", "usage": begun}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
    ]
    if not broken:
        end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}
        events += [end, {"type": "message_stop"}]
    provider.answer(Answer(headers=EVENTS, body=frames(*events)))
    heard: list[Any] = []

    def listen(**facts: Any) -> None:
        heard.append(facts["usage"])

    call_finished.connect(listen)
    try:
        with caplog.at_level("INFO", "bupple_engine"):
            outcome = run(ai(), verb, HELLO)
    finally:
        call_finished.disconnect(listen)
    usage = vars(outcome.error)["usage"] if broken else outcome.reply["usage"]
    assert heard == [usage]
    assert usage.pop("raw").items() >= begun.items()
    assert usage == counts(9, 0 if broken else 2, cache_read=4, tier="batch")
    (record,) = (record for record in caplog.records if getattr(record, "event", "") == "call")
    assert usage.items() <= vars(record).items()
    assert not hasattr(record, "raw")


# A driver of one's own


def test_a_usage_of_one_s_own_is_made_to_add_up() -> None:
    given = {
        **{"prompt_tokens": 9, "completion_tokens": 5, "cache_read": 40, "reasoning": 2, "searches": 0},
        **{"tier": "Batch", "cost": Decimal("0.10"), "estimated": True, "seconds": 3},
    }
    usage = in_common_terms(given)
    check_usage(usage)
    own = {"tier": "batch", "cost": "0.1", "estimated": True, "raw": {"seconds": 3}}
    assert usage == {**counts(9, 5, cache_read=9, reasoning=2), **own}
    assert in_common_terms(usage) == usage
    assert in_common_terms({}) == NO_USAGE
    assert in_common_terms({"raw": {"a": 1}, "b": 2}) == {**NO_USAGE, "raw": {"a": 1}}


def test_all_names_of_hostile_usages_of_one_s_own_hold_together() -> None:
    dice = random.Random(7)
    for _ in range(1000):
        check_usage(
            in_common_terms({name: dice.choice([*HOSTILE, 3, 9]) for name in (*COUNTS, "tier", "cost")})
        )


# Money and tiers


@pytest.mark.parametrize(
    ("value", "per_dollar", "expected"),
    [
        (0, 1, "0"), (0.0, 1, "0"), (100, 1, "100"), (1e-10, 1, "0.0000000001"), (0.1 + 0.2, 1, "0.3"),
        (4e-11, 1, "0"), (1654500, 10**10, "0.00016545"), ("0.50", 1, "0.5"), (Decimal("1.10"), 1, "1.1"),
        (1e-05, 1, "0.00001"), (0.00000000005, 1, "0"), (0.00000000015, 1, "0.0000000002"),
        (-1, 1, None), (True, 1, None), (None, 1, None), ("free", 1, None), ("", 1, None), ("NaN", 1, None),
        (float("nan"), 1, None), (float("inf"), 1, None), (1e300, 1, None), ("9" * 5000, 1, None),
        ([], 1, None), ("1e999999999", 1, None), ("1e-999999999", 1, "0"), ("-0", 1, "0"), ("١", 1, None),
    ],
)  # fmt: skip
def test_dollars(value: Any, per_dollar: int, expected: str | None) -> None:
    assert dollars(value, per_dollar) == expected


NO_TIERS: list[Any] = ["", None, 1, True, [], {}, "two words", "a\nb", "x" * 40]


@pytest.mark.parametrize(
    ("word", "tier"),
    [
        *(("batch", "batch"), ("FLEX", "flex"), ("priority", "priority"), ("SERVICE_TIER_FLEX", "flex")),
        *[(word, "") for word in ("standard", "default", "auto", "on_demand", "SERVICE_TIER_UNSPECIFIED")],
        *[(word, "") for word in NO_TIERS],
    ],
)
def test_tiers(word: Any, tier: str) -> None:
    assert tier_of(word) == tier


def test_a_count_of_one_s_own_driver_that_is_no_dict_says_so() -> None:
    from bupple_engine.drivers.base import ChatDriver

    class House(ChatDriver):
        def generate(self, messages: Any, options: Any) -> Any:
            yield {"content": "Hi", "done": True, "usage": 7}

    with pytest.raises(TypeError, match=r"House\.generate\(\) must yield usage as a dict, not int"):
        House("house", "house", {}).send(HELLO)
