"""The content blocks of one of Claude's answers, while it is read: written down, and kept for their way back.

Source: https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

from typing import Any

from bupple_engine.protocol.answer import Answer, thought

# What gateways call the block and the delta of another vendor's reasoning.
THINKING = frozenset({"thinking", "reasoning", "reasoning_content"})
THINKING_DELTAS = frozenset(f"{kind}_delta" for kind in THINKING)
# What comes of a block in pieces, and is kept in them until the answer is whole.
PIECES = {"text": ("text",), "thinking": ("thinking", "signature")}


def say_block(block: dict[str, Any], answer: Answer) -> None:
    """Write down what a block says."""
    if block.get("type") in THINKING:
        if thinking := thought(block):
            answer.add_reasoning(thinking)
    elif (text := block.get("text")) or text == 0:
        answer.add_text(text)


def start_block(block: dict[str, Any], answer: Answer, index: Any = None) -> None:
    """Keep a block for its way back, without what the API does not take back."""
    kept = {name: value for name, value in block.items() if name != "citations"}
    for name in PIECES.get(str(block.get("type")), ()):
        kept[name] = [str(kept[name])] if kept.get(name) else []
    answer.items.append(kept)
    answer.blocks[index] = answer.blocks[None] = kept  # None: of a delta that has no index
    if block.get("type") == "tool_use" and block.get("name"):
        answer.called = True


def find_block(payload: dict[str, Any], kind: str, answer: Answer) -> dict[str, Any]:
    """Return the block that a delta is for, by its index; one that never began is begun."""
    block = answer.blocks.get(payload.get("index"))
    if block is None or block.get("type") != kind:
        start_block({"type": kind}, answer, payload.get("index"))
        block = answer.blocks[None]
    return block


def close_block(block: dict[str, Any], payload: dict[str, Any], answer: Answer) -> None:
    """Take from a block that is repeated at its end what its deltas had not brought."""
    kind = str(block.get("type"))
    key, add = ("thinking", answer.add_reasoning) if kind == "thinking" else ("text", answer.add_text)
    known = find_block(payload, kind, answer)
    whole, said = str(block.get(key) or ""), "".join(known.get(key) or ())
    if whole.startswith(said) and whole != said:
        add(whole[len(said) :])
        known[key].append(whole[len(said) :])


def joined(block: dict[str, Any]) -> dict[str, Any]:
    return {name: "".join(value) if isinstance(value, list) else value for name, value in block.items()}
