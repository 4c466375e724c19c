"""What a choice of Chat Completions holds, a delta or a message: text, reasoning, refusal, calls, its end.

Source: https://platform.openai.com/docs/api-reference/chat/streaming; the names beside OpenAI's are those of
the services in services.py.
"""

from __future__ import annotations

import re
from typing import Any

from bupple_engine.exceptions import ProviderServerError
from bupple_engine.protocol.answer import Answer, thought
from bupple_engine.types import FinishReason

from .finishes import is_failure

# What services call the reasoning that they show beside the answer.
REASONING_NAMES = frozenset(
    {
        *("reasoning_content", "reasoning", "reasoning_text", "reasoningContent", "reasoning_summary"),
        *("thinking", "thinking_content", "thought", "thoughts", "chain_of_thought"),
    }
)
# Lists of its pieces, which say the same again where there is a name, too.
REASONING_LISTS = ("reasoning_details", "thinking_blocks")
_PLAIN = frozenset({"role", "content"})


def first_choice(choices: list[Any]) -> dict[str, Any]:
    """Return the choice of index 0: one beside it, which extra may ask for, is another answer.

    A whole answer that stands alone is the one, though it be counted from 1.
    """
    alone = choices[0] if len(choices) == 1 and choices[0] and choices[0].get("message") else {}
    return next((choice for choice in choices if choice and str(choice.get("index") or 0) == "0"), alone)


def parse_delta(delta: dict[str, Any], answer: Answer) -> None:
    """Write down what a delta or a message has beside its content."""
    if delta.keys() <= _PLAIN:
        return
    for name, value in delta.items():
        if name in REASONING_NAMES and (text := thought(value)):
            answer.named = True
            answer.add_reasoning(text)
            break
    for name in REASONING_LISTS:
        details = delta.get(name)
        for detail in details if isinstance(details, list) else ():
            if not answer.named and (text := thought(detail)):
                answer.add_reasoning(text)
            if name == "reasoning_details":
                _add_detail(detail, answer.items)
    refusal = delta.get("refusal")
    if isinstance(refusal, str) and refusal:
        answer.add_text(refusal)
        answer.refused = True
    if _is_call(delta.get("tool_calls")) or _is_call(delta.get("function_call")):
        answer.called = True


def _is_call(calls: Any) -> bool:
    """Return whether a tool is called: some services send a call with nothing but an id beside each text."""
    if isinstance(calls, list):
        return any(map(_is_call, calls))
    if not isinstance(calls, dict):
        return False
    inner = [calls, *(calls[name] for name in ("function", "custom") if isinstance(calls.get(name), dict))]
    return any(
        call.get("name") or call.get(name) not in (None, "", "{}", "null", {})
        for call in inner
        for name in ("arguments", "input")
    )


def _add_detail(detail: Any, items: list[Any]) -> None:
    """Keep a reasoning detail for its way back; in a stream its text comes in pieces of one index."""
    if not isinstance(detail, dict):
        return
    index, kind = detail.get("index"), detail.get("type")
    begun = (
        item
        for item in items
        if item.get("index") == index and item.get("type") == (kind or item.get("type"))
    )
    last = next(begun, None) if index is not None else None
    if last is None:
        items.append(dict(detail))
        return
    for name, value in detail.items():
        if name in ("text", "summary", "data") and isinstance(value, str):
            last[name] = (last.get(name) or "") + value
        elif value is not None:
            last[name] = value


def add_content(content: Any, answer: Answer) -> None:
    """Add content of any type: text, a token that is a number, pieces in a list, JSON that is the answer.

    Mistral and Databricks send text and reasoning as pieces; Cloudflare's JSON mode an object.
    """
    if not isinstance(content, list):
        if content is not None and content not in ("", {}):
            answer.add_text(content)
    else:
        for piece in content:
            if not isinstance(piece, dict):
                add_content(piece, answer)
            elif re.search("think|reason", str(piece.get("type"))):
                if reasoning := thought(piece):
                    answer.add_reasoning(reasoning)
            elif piece.get("refusal"):
                answer.add_text(piece["refusal"])
                answer.refused = True
            elif isinstance(text := piece.get("text"), str | int | float) and text != "":
                answer.add_text(text)


def parse_message(message: dict[str, Any], answer: Answer) -> None:
    """Write a whole message down, of which the deltas of a stream may have brought a part, or all."""
    before = len(answer.texts)
    whole = answer if answer.is_blank else type(answer)()
    parse_delta(message, whole)
    add_content(message.get("content"), whole)
    if whole is not answer:
        whole.finish()
        text = "".join(whole.texts)
        if text and before == answer.repeated and not text.startswith("".join(answer.texts)):
            answer.add_text(text)  # a stream whose pieces are called messages
        answer.complete(whole)
    answer.repeated += len(answer.texts) - before


def parse_finish(finish: str, reason: FinishReason, answer: Answer) -> None:
    """Set the finish reason; calls and a refusal say more than the word that ends them."""
    if is_failure(finish):
        raise ProviderServerError("The provider failed.", type=None if finish == "error" else finish)
    if reason == "stop" and answer.called:
        reason = "tool_calls"
    if reason == "stop" and answer.refused:
        reason = "refusal"
    # Some services repeat the finish in an empty last chunk.
    answer.finish_reason = answer.finish_reason or reason


def parse_missing_finish(answer: Answer) -> None:
    """Set the finish reason of an answer that is whole and has none."""
    if answer.finish_reason is None and (answer.finish_is_empty or not answer.is_blank):
        answer.finish_reason = (
            "tool_calls" if answer.called else "stop" if answer.finish_is_empty else "unknown"
        )
