"""Reasoning between two tags at the head of an answer, separated from the answer. No I/O.

Only a block that opens the answer counts: a tag further on may be what the answer is about.
"""

from __future__ import annotations

from typing import Any

from bupple_engine.protocol.answer import Answer, spell

TAGS = ("<think>", "<reasoning>")


class InlineAnswer(Answer):
    """Write the text between the tags, cut anywhere, as reasoning, and what follows as the answer.

    White space at the borders of the two belongs to neither.
    """

    __slots__ = ("_closing", "_held", "_place")

    def __init__(self) -> None:
        super().__init__()
        self._place = "head"  # then reasoning, behind, text
        self._held = ""  # what may yet be a tag, or white space before one
        self._closing = ""

    def add_text(self, text: Any) -> None:
        if self._place == "text":
            return super().add_text(text)
        self._held += text if isinstance(text, str) else spell(text)
        if self._place == "head":
            self._read_head()
        if self._place == "reasoning":
            self._read_reasoning()
        if self._place == "behind":
            self._read_behind()
        return None

    def complete(self, whole: Answer) -> None:
        self.finish()
        super().complete(whole)

    def finish(self) -> None:
        held, self._held = self._held, ""
        if self._place == "head" and held:
            super().add_text(held)
        elif self._place == "reasoning" and held.strip():
            self.add_reasoning(held.rstrip())  # the beginning of a tag that never came
        super().finish()

    def _read_head(self) -> None:
        head = self._held.lstrip()
        if tag := next((tag for tag in TAGS if head.startswith(tag)), None):
            self._held, self._closing = head[len(tag) :], f"</{tag[1:]}"
            self._place = "reasoning"
        elif not any(tag.startswith(head) for tag in TAGS):
            text, self._held = self._held, ""
            self._place = "text"
            super().add_text(text)

    def _read_reasoning(self) -> None:
        text = self._held if self.reasoning else self._held.lstrip()
        thought, closing, rest = text.partition(self._closing)
        if closing:
            self._held, self._place = rest, "behind"
        else:
            cut = next(
                (n for n in range(len(self._closing) - 1, 0, -1) if text.endswith(self._closing[:n])), 0
            )
            thought = text[: len(text) - cut]
        thought = thought.rstrip()
        if not closing:
            self._held = text[len(thought) :]
        if thought:
            self.add_reasoning(thought)

    def _read_behind(self) -> None:
        if text := self._held.lstrip():
            self._held, self._place = "", "text"
            super().add_text(text)
