"""One turn, from its question to its outcome: the observer of a call that `memory=` is."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

from django.utils.module_loading import import_string

from bupple_engine.calls.call import Call
from bupple_engine.calls.observers import Observer
from bupple_engine.calls.outcome import Outcome
from bupple_engine.conf.memory import memory_settings
from bupple_engine.exceptions import InvalidRequestError
from bupple_engine.protocol.options import clocks
from bupple_engine.types import Message

from . import context, details, media
from .stores.base import Store
from .values import LEASE_SECONDS, Asked, Conversation, EndedBy, Ending, Started

logger = logging.getLogger("bupple_engine")

MAX_TITLE = 200


class Keeping(Protocol):
    """What a recorder asks of a Memory."""

    @property
    def store(self) -> Store: ...
    @property
    def key(self) -> str | None: ...
    @property
    def replaces(self) -> UUID | None: ...
    def unkept(self) -> Conversation: ...
    def note(self, conversation: Conversation) -> None: ...


class Recorder(Observer):
    """Keep a call's question before anything is sent, and its outcome before its caller has the last chunk.

    The store is asked in the thread that reads the call, or in one of its event loop's. A connection that was
    opened for it is closed again: none is held while an answer comes.
    """

    def __init__(self, memory: Keeping, asked: Sequence[Message], budget: context.Budget) -> None:
        self._memory = memory
        self._store = memory.store
        self._asked = asked
        self._budget = budget
        self._started: Started | None = None
        self._context: dict[str, Any] = {}

    def begin(self, call: Call) -> None:
        # No call outlives its clock: while it runs, nobody takes its turn for dead.
        lease = clocks(call.options).total + LEASE_SECONDS
        with self._store.borrowed():
            asked = Asked(self._asked, self._memory.key, self._memory.replaces, lease_seconds=lease)
            started = self._started = self._store.begin(self._beginning(), asked)
            try:
                call.messages = self._messages(call, started)
            except BaseException:
                self._store.withdraw(started.turn)
                raise
        self._memory.note(started.conversation)
        facts = {"conversation": started.conversation.id, "turn": started.turn.id}
        call.facts.update(facts, owner=started.conversation.owner)

    def _beginning(self) -> Conversation:
        """Return the conversation; a new one has its question for a title, unless the site makes one."""
        found = self._memory.unkept()
        if found.created_at is None and memory_settings().title is None:
            return dataclasses.replace(found, title=title_of(details.of_question(self._asked)[0]))
        return found

    def _messages(self, call: Call, started: Started) -> list[Message]:
        """Return all that is sent: system text, what fits of the history, and what is new."""
        question = details.question_of(started.turn)
        said, chosen, left_out = context.build(started.history, self._budget, _strategy())
        told = [*said, *question]
        if ids := media.references(told):
            told = media.put_back(told, self._store.files(started.conversation, ids))
        kept = started.conversation.system
        system: list[Message] = [{"role": "system", "content": kept}] if kept else []
        system += [message for message in call.messages if message["role"] == "system"]
        self._context = {
            "left_out": chosen.left_out,
            "media_left_out": left_out,
            "estimate": round(context.estimate([*system, *told])),
        }
        return [*system, *told]

    def end(self, outcome: Outcome) -> None:
        started = self._started
        if started is None:
            return
        with self._store.borrowed():
            if outcome.started is None:
                self._store.withdraw(started.turn)
                return
            if not self._store.settle(started.turn, self._ending(started, outcome)):
                logger.warning(
                    "The turn %s had been settled, or its conversation erased, before its answer ended",
                    started.turn.id,
                    extra={"event": "turn", "call_id": str(outcome.call.id) if outcome.call else ""},
                )
                return
            if outcome.state == "failed" and not outcome.text and self._memory.replaces is not None:
                self._store.select(started.conversation, self._memory.replaces)
            self._give_title(started, outcome)

    def _ending(self, started: Started, outcome: Outcome) -> Ending:
        usage: Any = outcome.usage or {}
        metadata = {**outcome.metadata, **({"reasoning": outcome.reasoning} if outcome.reasoning else {})}
        reply = {"role": "assistant", "content": outcome.text, "metadata": metadata, "usage": usage}
        text, beyond = details.of_answer(reply, outcome.messages[:-1])
        failed = outcome.error if outcome.state != "complete" else None
        kept = {**started.turn.details, "v": details.VERSION, **beyond, "context": self._context}
        return Ending(
            "complete"
            if outcome.state == "complete"
            else "failed"
            if outcome.state == "failed"
            else "interrupted",
            answer=text,
            details=kept,
            driver=outcome.target,
            model=outcome.model,
            finish_reason=outcome.finish_reason or "",
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
            total_tokens=usage.get("total_tokens"),
            ended_by=_ended_by(outcome),
            error_type=type(failed).__name__ if failed is not None else "",
            duration=outcome.seconds,
        )

    def _give_title(self, started: Started, outcome: Outcome) -> None:
        """Give a conversation without a title one, after its first answer; never over a person's."""
        make = memory_settings().title
        if started.conversation.title or outcome.state != "complete":
            return
        if make is None:
            title = title_of(started.turn.question)
        else:
            make = import_string(make) if isinstance(make, str) else make
            title = title_of(str(make(started.turn.question, outcome.text) or ""))
        if title:
            self._store.update(started.conversation, title=title, keep_title=True)


def title_of(text: str) -> str:
    """Return a text as a title: on one line, cut at a word."""
    line = " ".join(text.split())
    if len(line) <= MAX_TITLE:
        return line
    cut = line[: MAX_TITLE - 1].rsplit(" ", 1)[0]
    return f"{cut[: MAX_TITLE - 1]}…"


def budget_of(question: Sequence[Message]) -> context.Budget:
    """Return what the history may have beside a question, by the settings.

    Raises an InvalidRequestError for a question that is too long by itself: it is never trimmed.
    """
    limits = memory_settings().context
    most = limits["max_characters"]
    spent = sum(len(details.text_of(message)) for message in question)
    if most is not None and spent > most:
        raise InvalidRequestError(
            f"messages has {spent:,} characters, more than MEMORY['CONTEXT']['MAX_CHARACTERS'] ({most:,}) "
            "lets a question have; shorten it.",
            param="messages",
        )
    tokens = limits["max_tokens"]
    return context.Budget(
        max_turns=limits["max_turns"],
        max_characters=None if most is None else most - spent,
        max_tokens=None if tokens is None else max(0, tokens - round(context.estimate(question))),
        media_turns=limits["media_turns"],
    )


def _strategy() -> context.Strategy:
    found = memory_settings().context["strategy"]
    strategy: context.Strategy = import_string(found) if isinstance(found, str) else found
    return strategy


def _ended_by(outcome: Outcome) -> EndedBy:
    if outcome.state == "complete":
        return "provider"
    if outcome.error is None:
        return "reader"
    return "error" if isinstance(outcome.error, Exception) else "server"
