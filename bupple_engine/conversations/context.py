"""What of a history is sent: whole turns, the newest, within a budget.

A strategy is a function (turns, budget) → Context, which BUPPLE_ENGINE["MEMORY"]["CONTEXT"]["STRATEGY"] names
by its dotted path. It is given the active turns, newest first, which are read as it asks for them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from bupple_engine.types import Message

from . import media
from .details import is_said, messages_of, text_of
from .values import Turn

# The beginning of what is sent moves by so many turns. One that moved with each turn would change the prefix
# of every request: a provider's prompt cache would be missed, and thinking that stands behind it dropped.
STEP = 8

MEDIA_TOKENS = 1000
# Characters a token, and the first of the scripts that are written without spaces.
_CHARACTERS, _DENSE_CHARACTERS, _DENSE = 3.5, 1.2, "\u2e80"


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be sent beside the present question; None is no limit.

    count estimates the tokens of messages. factor corrects it by what the provider has counted before.
    """

    max_turns: int | None = 100
    max_characters: int | None = 200_000
    max_tokens: int | None = None
    media_turns: int = 4
    count: Callable[[Iterable[Message]], float] = lambda messages: estimate(messages)
    factor: float = 1.0

    def halved(self, times: int) -> Budget:
        """Return the budget of a conversation that was too long for the model so many times in a row."""
        return dataclasses.replace(
            self,
            max_turns=None if self.max_turns is None else self.max_turns >> times,
            max_characters=None if self.max_characters is None else self.max_characters >> times,
            max_tokens=None if self.max_tokens is None else self.max_tokens >> times,
        )


@dataclass(frozen=True, slots=True)
class Context:
    """The turns that are sent, oldest first, and how many were left out before them."""

    turns: Sequence[Turn]
    left_out: int = 0


Strategy = Callable[[Iterator[Turn], Budget], Context]


def recent(turns: Iterator[Turn], budget: Budget) -> Context:
    """Keep the newest turns that fit; the first of them begins with a user's message."""
    kept: list[Turn] = []
    spent, tokens = 0, 0.0
    for turn in turns:
        if not is_said(turn):
            continue
        messages = messages_of(turn)
        spent += sum(len(text_of(message)) for message in messages)
        tokens += budget.count(messages) * budget.factor if budget.max_tokens is not None else 0
        if _is_over(len(kept) + 1, budget.max_turns) or _is_over(spent, budget.max_characters):
            return _cut(kept, turn)
        if _is_over(tokens, budget.max_tokens):
            return _cut(kept, turn)
        kept.append(turn)
    return Context(kept[::-1])


def _is_over(value: float, limit: int | None) -> bool:
    return limit is not None and value > limit


def _cut(kept: list[Turn], over: Turn) -> Context:
    """Return the kept turns, newest first as they are, behind the next step from one that does not fit."""
    start = over.position
    if len(kept) >= STEP:
        start = math.ceil(start / STEP) * STEP
    turns = [turn for turn in reversed(kept) if turn.position > start]
    while turns and not turns[0].question:
        start, turns = turns[0].position, turns[1:]
    return Context(turns, turns[0].position - 1 if turns else over.position + len(kept))


def estimate(messages: Iterable[Message]) -> float:
    """Return about how many tokens messages are; no model's tokenizer is asked."""
    tokens = 0.0
    for message in messages:
        text = text_of(message)
        dense = 0 if text.isascii() else sum(character >= _DENSE for character in text)
        tokens += (len(text) - dense) / _CHARACTERS + dense / _DENSE_CHARACTERS
        tokens += MEDIA_TOKENS * media.count([message])
    return tokens


def corrected(budget: Budget, newest: Turn | None) -> Budget:
    """Return the budget with the factor that the newest turn's count of tokens suggests."""
    guessed = ((newest.details.get("context") or {}) if newest else {}).get("estimate")
    if newest is None or not guessed or not newest.prompt_tokens:
        return budget
    return dataclasses.replace(budget, factor=min(2.0, max(0.5, newest.prompt_tokens / guessed)))


def build(
    turns: Iterator[Turn], budget: Budget, strategy: Strategy = recent
) -> tuple[list[Message], Context, int]:
    """Return the messages of what is sent, their turns, and how many parts with media are only told of."""
    newest = next(turns, None)
    overflowed: list[Turn] = []
    while newest is not None and newest.error_type == "ContextLengthExceededError":
        overflowed.append(newest)
        newest = next(turns, None)
    rest = chain([] if newest is None else [newest], turns)
    context = strategy(chain(overflowed, rest), corrected(budget, newest).halved(len(overflowed)))
    messages, left_out = _with_media(context.turns, budget.media_turns)
    return messages, context, left_out


def _with_media(turns: Sequence[Turn], limit: int) -> tuple[list[Message], int]:
    """Return the messages of turns, with the media of the newest of them that have some."""
    said = [(turn, messages_of(turn)) for turn in turns]
    having = [turn.position for turn, messages in said if media.count(messages)]
    start = 0
    if len(having) > limit:
        start = over = having[-limit - 1]
        stepped = math.ceil(over / STEP) * STEP
        if limit and stepped < having[-1]:
            start = stepped
    found: list[Message] = []
    left_out = 0
    for turn, messages in said:
        if turn.position <= start and (count := media.count(messages)):
            left_out += count
            messages = media.leave_out(messages)
        found += messages
    return found, left_out
