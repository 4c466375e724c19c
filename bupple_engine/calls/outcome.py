"""How an answer ended, and what there was of it until then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from bupple_engine.types import FinishReason, Usage

State: TypeAlias = Literal["complete", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What had come of an answer, however it ended.

    state is complete where the whole answer came; interrupted where its reader left, the server ended or
    the stream was cut off; failed for all else, such as a provider that refused. text and reasoning are what
    had come until then, usage what was known of it. error is what ended the answer, None where it was
    complete or its reader left.
    """

    state: State
    text: str = ""
    reasoning: str = ""
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    error: BaseException | None = None
