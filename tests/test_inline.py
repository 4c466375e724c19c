"""Reasoning between tags at the head of an answer: told from it where that was asked for, cut anywhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bupple_engine import ai
from tests.conftest import Configure
from tests.provider import Answer, Provider, split
from tests.pure import HELLO, begin, build, frames, hear, wire
from tests.verbs import STREAMS, VERBS, Outcome, run

CASES: dict[str, tuple[str, str, str]] = {  # what comes, the reasoning in it, the text
    "a block": ("<think>Is it?</think>Yes", "Is it?", "Yes"),
    "on lines of its own": ("\n<think>\nIs it?\n\nIt is.\n</think>\n\nYes\n", "Is it?\n\nIt is.", "Yes\n"),
    "the other tag": ("<reasoning>Is it?</reasoning>Yes", "Is it?", "Yes"),
    "nothing in it": ("<think>\n\n</think>\n\nYes", "", "Yes"),
    "no end": ("<think>Is it", "Is it", ""),
    "an end that is cut": ("<think>Is it</thi", "Is it</thi", ""),
    "another end": ("<think>a</reasoning>b</think>Yes", "a</reasoning>b", "Yes"),
    "tags in the block": ("<think>a < b <think> c</think>Yes", "a < b <think> c", "Yes"),
    "further on": ("Yes, <think>no</think>", "", "Yes, <think>no</think>"),
    "a second block": ("<think>a</think>Yes <think>b</think>", "a", "Yes <think>b</think>"),
    "a tag that is cut": (" <thin", "", " <thin"),
    "another tag": ("<thinker>a</thinker>", "", "<thinker>a</thinker>"),
    "white space": (" \n", "", " \n"),
}


def hear_inline(texts: list[str], *, stream: bool = True, driver: str = "compatible") -> Outcome:
    """Return what an entry with the option makes of an answer in pieces."""
    request = build(driver, entry={"INLINE_REASONING": True}, stream=stream)
    choices: list[Any] = [{"choices": [{"delta": {"content": text}}]} for text in texts]
    raw = frames(*choices, {"choices": [{"delta": {}, "finish_reason": "stop"}]})
    if not stream:
        message = {"message": {"content": "".join(texts)}, "finish_reason": "stop"}
        raw = json.dumps({"choices": [message]}).encode()
    return hear(begin(driver, request=request, stream=stream), [raw])


@pytest.mark.parametrize(("text", "reasoning", "rest"), CASES.values(), ids=CASES)
def test_a_block_at_the_head_is_reasoning(text: str, reasoning: str, rest: str) -> None:
    for size in (1, 2, 3, 7, 100):
        outcome = hear_inline([text[at : at + size] for at in range(0, len(text), size)])
        assert (outcome.text, outcome.reasoning) == (rest, reasoning)
    whole = hear_inline([text], stream=False)
    assert (whole.reply["content"], whole.reasoning) == (rest, reasoning)


def test_reasoning_is_handed_on_as_it_comes() -> None:
    chunks = hear_inline(["<think>Is ", "it?", " It is.</think>", "Yes", "!"]).chunks
    told = [chunk.get("metadata", {}).get("reasoning") or chunk["content"] for chunk in chunks[:-1]]
    assert told == ["Is", " it?", " It is.", "Yes", "!"]


def test_a_whole_message_behind_a_block_is_not_said_again() -> None:
    request = build("compatible", entry={"INLINE_REASONING": True}, stream=True)
    said = {"choices": [{"delta": {"content": "<think>a</think>b"}}]}
    again = {"choices": [{"message": {"content": "<think>a</think>b"}, "finish_reason": "stop"}]}
    for events in ([said, again], [again]):
        outcome = hear(begin("compatible", request=request), [frames(*events)])
        assert (outcome.text, outcome.reasoning) == ("b", "a")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("wanted", [True, False])
def test_an_entry_says_whether(verb: str, wanted: bool, provider: Provider, configure: Configure) -> None:
    entry = {"DRIVER": "compatible", "MODEL": "m", "BASE_URL": provider.url}
    configure(it={**entry, "INLINE_REASONING": wanted}, other=entry)
    message = {"content": "<think>a</think>b"}
    whole = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
    events = frames({"choices": [{"delta": message, "finish_reason": "stop"}]}, "[DONE]")
    provider.answer(Answer(pieces=split(events if verb in STREAMS else whole, 5)), repeat=True)
    outcome = run(ai(), verb, HELLO)
    assert outcome.reply["content"] == ("b" if wanted else message["content"])
    assert outcome.reasoning == ("a" if wanted else "")
    assert run(ai("other"), verb, HELLO).reply["content"] == message["content"]


def test_a_service_may_say_so_itself_and_an_entry_otherwise() -> None:
    it = wire("compatible")
    it.inline_reasoning = True  # type: ignore[attr-defined] # of a wire of our own making
    assert build(it).inline_reasoning
    assert not build(it, entry={"INLINE_REASONING": False}).inline_reasoning
    assert not build("compatible").inline_reasoning
