"""What came: an answer while it is being read, and what a Reply and a last chunk make of it. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, cast

from bupple_engine.exceptions import StreamInterruptedError
from bupple_engine.types import Chunk, FinishReason, Reply

_PIECE = frozenset({"type", "text", "annotations"})


class Answer:
    """What an answer has said so far: the wire writes it down, the exchange hands it on."""

    __slots__ = (
        "blocks",
        "called",
        "chunks",
        "closed",
        "ended",
        "finish_is_empty",
        "finish_reason",
        "half",
        "items",
        "metadata",
        "model",
        "named",
        "reasoning",
        "refused",
        "repeated",
        "texts",
        "tier",
        "usage",
    )

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []  # not handed on yet
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self.model = ""
        self.usage: dict[str, Any] | None = None  # the provider's own fields
        self.tier: Any = None  # what it calls the service that the answer had
        self.finish_reason: FinishReason | None = None  # set: the answer is complete
        self.finish_is_empty = False  # the last word for it was the empty string
        self.ended = False  # the provider said that nothing follows
        self.items: list[Any] = []  # what the provider wants to see again, in its own shape
        self.metadata: dict[str, Any] = {}
        self.called = False  # it asked for a tool
        self.refused = False  # its text is a refusal
        self.blocks: dict[Any, dict[str, Any]] = {}  # the items by the index that pieces are for
        self.named = False  # its reasoning comes under a name, and so not among its details too
        self.repeated = 0  # how many of the texts came as a whole message, in a stream
        self.closed: dict[str, tuple[int, set[str]]] = {}  # see close()
        self.half: dict[str, str] | None = None  # see join_halves()

    @property
    def is_complete(self) -> bool:
        """Whether the answer is whole, though its body may not have ended."""
        return self.finish_reason is not None or self.ended

    @property
    def is_blank(self) -> bool:
        """Whether nothing has come that an answer consists of, not even why it ended."""
        said = self.texts or self.reasoning or self.called or self.items
        return not said and self.finish_reason is None

    def add_text(self, text: Any) -> None:
        """Add a piece of the answer; what is neither string nor scalar is another shape than documented."""
        if not isinstance(text, str):
            text = spell(text)
        self.texts.append(text)
        self.chunks.append({"role": "assistant", "content": text, "done": False})

    def add_reasoning(self, text: Any) -> None:
        """Add a piece of the reasoning that the provider shows."""
        if not isinstance(text, str):
            text = spell(text)
        self.reasoning.append(text)
        self.chunks.append(
            {"role": "assistant", "content": "", "done": False, "metadata": {"reasoning": text}}
        )

    def complete(self, whole: Answer) -> None:
        """Add what the whole answer, which a provider repeats at the end, has and the pieces had not."""
        if rest := self._rest("reasoning", "".join(whole.reasoning), self.reasoning):
            self.add_reasoning(rest)
        if rest := self._rest("text", "".join(whole.texts), self.texts):
            self.add_text(rest)
        self.called = self.called or whole.called
        self.refused = self.refused or whole.refused
        self.items = self.items or whole.items

    def close(self, kind: str, whole: Any) -> None:
        """Add what a whole part, of kind text or reasoning, has and its pieces had not.

        A part is closed by up to four events that all repeat it: one that was closed is known by its text.
        """
        if not isinstance(whole, str):
            whole = spell(whole)
        pieces, add = (
            (self.reasoning, self.add_reasoning) if kind == "reasoning" else (self.texts, self.add_text)
        )
        since, closed = self.closed.get(kind, (0, set[str]()))
        said = pieces[since:]
        rest = self._rest(kind, whole, said)
        if rest is None or (not said and whole in closed):
            return
        if rest:
            add(rest)
        closed.add(whole)
        self.closed[kind] = len(pieces), closed

    def _rest(self, kind: str, whole: str, pieces: list[str]) -> str | None:
        """Return what a text has behind its pieces; None where they said something else."""
        said = "".join(pieces) + (self.half or {}).get(kind, "")
        return whole[len(said) :] if whole.startswith(said) else None

    def add_usage(self, usage: Any) -> None:
        """Lay a usage object over what came before; null and zero leave what is known."""
        if isinstance(usage, dict) and usage:
            if self.usage is None:
                self.usage = {}
            _lay(usage, self.usage)

    def counts(self) -> tuple[int, int, int]:
        """Return how much has been written down: what join_halves() is to be told."""
        return len(self.chunks), len(self.texts), len(self.reasoning)

    def join_halves(self, since: tuple[int, int, int]) -> None:
        """Put the halves of a character together that two pieces brought, in what has come since.

        A half whose other half does not follow is U+FFFD: it fits in no database and no socket.
        """
        half = self.half = self.half or {}
        first, text_at, reasoning_at = since
        for chunk in self.chunks[first:]:
            if "metadata" in chunk:
                text = _join(half, "reasoning", chunk["metadata"]["reasoning"])
                chunk["metadata"]["reasoning"] = self.reasoning[reasoning_at] = text
                reasoning_at += 1
            else:
                chunk["content"] = self.texts[text_at] = _join(half, "text", chunk["content"])
                text_at += 1

    def finish(self) -> None:
        """Write down what was held back for what might have followed."""
        for kind in [*(self.half or ())]:
            (self.add_reasoning if kind == "reasoning" else self.add_text)("\ufffd")
        self.half = self.half and {}


def _join(half: dict[str, str], kind: str, text: str) -> str:
    """Return a piece with the half that was kept before it, and keep the half that it ends with."""
    text = half.pop(kind, "") + text
    if "\ud800" <= text[-1:] <= "\udbff":
        half[kind], text = text[-1], text[:-1]
    return str(repair(text))


def repair(value: Any) -> Any:
    """Return a value whose texts, down to any depth, hold whole characters alone."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [repair(item) for item in value]
    return {repair(name): repair(item) for name, item in value.items()} if isinstance(value, dict) else value


def spell(value: Any) -> str:
    """Return a number, a truth or an object as JSON has it: some services send text that is one as one.

    Of a piece of text that stands without its list it is the text.
    """
    if isinstance(value, dict) and value.keys() <= _PIECE and isinstance(value.get("text"), str):
        return str(value["text"])
    if isinstance(value, int | float | dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    raise TypeError


def thought(value: Any, depth: int = 0) -> str:
    """Return the text of reasoning, whatever it is wrapped in."""
    if isinstance(value, str):
        return value
    if depth > 3:
        return ""
    if isinstance(value, list):
        return "".join(thought(item, depth + 1) for item in value)
    if isinstance(value, dict):
        names = ("thinking", "reasoning", "reasoning_content", "text", "summary", "content")
        return next(filter(None, (thought(value.get(name), depth + 1) for name in names)), "")
    return spell(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _lay(above: dict[str, Any], below: dict[str, Any]) -> None:
    for name, value in above.items():
        if value:
            if type(value) is dict and isinstance(known := below.get(name), dict):
                below[name] = dict(known)
                _lay(value, below[name])
            else:
                below[name] = value
        elif value is not None and not below.get(name):
            below[name] = value


def reply_of(answer: Answer, last: dict[str, Any]) -> Reply:
    """Return the whole answer as a Reply."""
    if answer.reasoning:
        last["metadata"] = {**last["metadata"], "reasoning": "".join(answer.reasoning)}
    return cast("Reply", {"role": "assistant", "content": "".join(answer.texts), **last})


def fold(batches: Iterable[list[Chunk]]) -> Reply:
    """Return the chunks of a stream as one Reply."""
    texts: list[str] = []
    reasoning: list[str] = []
    last: Any = None
    for batch in batches:
        for chunk in batch:
            texts.append(chunk["content"])
            if chunk["done"]:
                last = chunk
            elif metadata := chunk.get("metadata"):
                reasoning.append(metadata.get("reasoning") or "")
    if last is None:
        raise StreamInterruptedError("The call was cancelled.")
    metadata = {**last["metadata"], "reasoning": "".join(reasoning)} if any(reasoning) else last["metadata"]
    reply = {name: value for name, value in last.items() if name != "done"}
    return cast("Reply", {**reply, "content": "".join(texts), "metadata": metadata})
