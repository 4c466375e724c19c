"""What of a history is sent, as pure functions; Hypothesis makes the histories."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bupple_engine.calls.seams import new_id
from bupple_engine.conversations import details, media
from bupple_engine.conversations.context import STEP, Budget, Context, build, corrected, estimate, recent
from bupple_engine.conversations.values import Turn
from bupple_engine.protocol.messages import validate
from bupple_engine.types import Message

CONVERSATION = new_id()
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()

CALL: list[Message] = [
    {"role": "assistant", "content": "Let me look."},
    {"role": "user", "content": "(result)"},
]


def turn(position: int, question: str = "Why?", answer: str = "So.", **facts: Any) -> Turn:
    facts = {"state": "complete", **facts}
    return Turn(new_id(), CONVERSATION, position, question=question, answer=answer, **facts)


def with_picture(position: int, name: str = "cat.png") -> Turn:
    part = {"type": "image", "content": f"media:{new_id()}", "metadata": {"filename": name}}
    question = [{"role": "user", "content": [{"content": "Look"}, part]}]
    return turn(position, "Look", details={"v": 1, "question": question})


def of_kind(kind: str, position: int, length: int) -> Turn:
    if kind == "long":
        return turn(position, "q" * length * 30, "ä漢" * length * 10)
    if kind == "tools":
        return turn(position, details={"v": 1, "answer": CALL})
    if kind == "greeting":
        return turn(position, question="")
    if kind == "picture":
        return with_picture(position)
    facts = {"failed": ("", "failed"), "open": ("", "open"), "cut": ("half", "interrupted")}
    said, state = facts.get(kind, ("a" * length, "complete"))
    return turn(position, "q" * length, said, state=state)


@st.composite
def histories(draw: st.DrawFn) -> list[Turn]:
    """Make active turns, oldest first, of all states, with tool loops, pictures and greetings among them."""
    size = draw(st.integers(0, 60))
    found = []
    for position in range(1, size + 1):
        kind = draw(
            st.sampled_from(["plain"] * 6 + ["long", "tools", "failed", "open", "greeting", "picture", "cut"])
        )
        length = draw(st.integers(1, 40))
        found.append(of_kind(kind, position, length))
    return found


BUDGETS = st.builds(
    Budget,
    max_turns=st.none() | st.integers(1, 50),
    max_characters=st.none() | st.integers(1, 3000),
    max_tokens=st.none() | st.integers(1, 1000),
    media_turns=st.integers(0, 3),
    factor=st.floats(0.5, 2),
)


@given(histories(), BUDGETS)
def test_whole_turns_the_newest_within_the_budget(history: list[Turn], budget: Budget) -> None:
    context = recent(iter(history[::-1]), budget)
    said = [turn for turn in history if details.is_said(turn)]
    assert list(context.turns) == said[len(said) - len(context.turns) :]
    messages = [message for turn in context.turns for message in details.messages_of(turn)]
    assert budget.max_turns is None or len(context.turns) <= budget.max_turns
    size = sum(len(details.text_of(message)) for message in messages)
    assert budget.max_characters is None or size <= budget.max_characters
    assert budget.max_tokens is None or budget.count(messages) * budget.factor <= budget.max_tokens + 1e-6
    if len(context.turns) < len(said):
        assert context.left_out > 0
        assert not messages or messages[0]["role"] == "user"
    else:
        assert context.left_out == 0


@given(histories(), BUDGETS)
def test_what_is_sent_is_accepted(history: list[Turn], budget: Budget) -> None:
    messages, context, _ = build(iter(history[::-1]), budget)
    messages = media.put_back(messages, dict.fromkeys(media.references(messages), b"\x89PNG\r\n\x1a\n"))
    validate([*messages, {"role": "user", "content": "And now?"}])
    for message in messages:
        assert message["content"]
    assert isinstance(context, Context)


@given(st.integers(1, 200), st.integers(STEP, 40))
def test_the_beginning_moves_in_steps(length: int, fits: int) -> None:
    starts = set()
    for end in range(length, length + STEP):
        history = [turn(position) for position in range(1, end + 1)]
        context = recent(iter(history[::-1]), Budget(max_turns=fits, max_characters=None))
        assert len(context.turns) > max(0, min(fits, end) - STEP)
        starts.add(context.left_out)
    assert len(starts) <= 2
    assert all(start % STEP == 0 for start in starts)


def test_the_newest_turn_is_kept_where_it_fits() -> None:
    history = [turn(position, "q" * 100, "a") for position in range(1, 12)]
    context = recent(iter(history[::-1]), Budget(max_characters=150))
    assert [turn.position for turn in context.turns] == [11]
    assert context.left_out == 10
    assert recent(iter(history[::-1]), Budget(max_characters=50)) == Context([], 11)


def test_a_history_is_read_as_far_as_it_fits() -> None:
    read = []

    def newest() -> Iterator[Turn]:
        for position in range(5000, 0, -1):
            read.append(position)
            yield turn(position)

    recent(newest(), Budget(max_turns=20))
    assert len(read) == 21


def test_after_an_overflow_half_is_sent() -> None:
    history = [turn(position) for position in range(1, 41)]
    overflows = [
        turn(41 + n, answer="", state="failed", error_type="ContextLengthExceededError") for n in (0, 1)
    ]
    budget = Budget(max_turns=32)
    sizes = []
    for failed in ([], overflows[:1], overflows):
        _, context, _ = build(iter([*failed[::-1], *history[::-1]]), budget)
        sizes.append(len(context.turns))
    assert sizes == [32, 16, 8]


def test_an_estimate_learns_from_the_providers_count() -> None:
    text: list[Message] = [{"role": "user", "content": "x" * 350}]
    assert estimate(text) == 100
    assert estimate([{"role": "user", "content": "漢" * 120}]) == 100
    assert estimate([{"role": "user", "type": "image", "content": PNG}]) == 1000
    known = turn(1, details={"context": {"estimate": 100}}, prompt_tokens=150)
    assert corrected(Budget(), known).factor == 1.5
    assert corrected(Budget(), turn(1, details={"context": {"estimate": 1}}, prompt_tokens=150)).factor == 2
    assert corrected(Budget(), turn(1, prompt_tokens=150)).factor == 1


@pytest.mark.parametrize(("limit", "kept"), [(0, 0), (1, 1), (2, 2), (5, 3)])
def test_pictures_of_the_newest_turns_alone_are_sent(limit: int, kept: int) -> None:
    history = [with_picture(1, "old.png"), turn(2), with_picture(3), with_picture(4)]
    messages, _, left_out = build(iter(history[::-1]), Budget(media_turns=limit))
    assert (media.count(messages), left_out) == (kept, 3 - kept)
    if kept < 3:
        content: Any = messages[0]["content"]
        assert content[1] == {"content": "[image: old.png]"}


def test_pictures_drop_out_in_steps() -> None:
    starts = set()
    for end in range(40, 48):
        history = [with_picture(position) for position in range(1, end + 1)]
        messages, _, left_out = build(iter(history[::-1]), Budget(media_turns=12))
        assert 4 < media.count(messages) <= 12
        starts.add(left_out)
    assert len(starts) == 2


def test_a_strategy_of_ones_own() -> None:
    def last_one(turns: Iterator[Turn], budget: Budget) -> Context:
        return Context([next(turns)], 1)

    messages, context, _ = build(iter([turn(2, "b"), turn(1, "a")]), Budget(), last_one)
    assert [message["content"] for message in messages] == ["b", "So."]
    assert context.left_out == 1


# What a turn is kept as


TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates among them


@given(st.recursive(st.none() | st.booleans() | st.floats() | TEXT, st.lists, max_leaves=8))
def test_what_is_storable_is_json_without_nul(value: Any) -> None:
    kept = details.storable({"x": value})
    text = json.dumps(kept, allow_nan=False, ensure_ascii=False)
    assert "\\u0000" not in text
    text.encode()
    assert details.storable(kept) == kept


def test_a_replys_metadata_goes_back_whole_where_it_was_complete() -> None:
    reply = {
        "role": "assistant",
        "content": "Four.",
        "model": "m",
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "raw": {"x": 1}},
        "finish_reason": "stop",
        "metadata": {"driver": "claude", "echo": {"blocks": [{"signature": "sig=="}]}, "reasoning": "2+2"},
    }
    text, beyond = details.of_answer(reply)
    kept = turn(1, answer=text, details=beyond, model="m", finish_reason="stop")
    assert details.messages_of(kept)[-1] == reply
    assert kept.usage == reply["usage"]
    cut = turn(1, answer=text, details=beyond, state="interrupted")
    assert details.messages_of(cut)[-1].get("metadata") == {"driver": "claude", "reasoning": "2+2"}


def test_a_plain_question_needs_no_details() -> None:
    assert details.of_question([{"role": "user", "content": "Why?"}]) == ("Why?", {})
    messages: list[Message] = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    text, beyond = details.of_question(messages)
    assert (text, beyond["question"]) == ("a\n\nb", messages)
    assert details.question_of(turn(1, text, details=beyond)) == messages


def test_a_blank_answer_is_never_said() -> None:
    for state in ("failed", "interrupted", "complete", "running"):
        assert details.messages_of(turn(1, answer=" \n", state=state)) == [
            {"role": "user", "content": "Why?"}
        ]
        assert not details.is_said(turn(1, answer=" \n", state=state))


def test_ids_are_of_version_7_and_in_order() -> None:
    ids = [new_id() for _ in range(3)]
    assert all((id.version, id.variant) == (7, "specified in RFC 4122") for id in ids)
    assert len({*ids}) == 3
