"""What stores give and take: plain, frozen, and of no database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from bupple_engine.types import Message, Owner

State: TypeAlias = Literal["open", "running", "complete", "interrupted", "failed"]
EndedBy: TypeAlias = Literal["", "provider", "reader", "server", "lease", "error"]

LEASE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as it was when it was read; created_at is None for one that is not kept yet.

    length is the number of turns on the active branch. running is the turn that runs, and holds the
    conversation as long as it does.
    """

    id: UUID
    owner: Owner
    client_id: str | None = None
    title: str = ""
    system: str = ""
    length: int = 0
    running: UUID | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What was asked, and all that came of it.

    position is its place on a branch, attempt which try of this place it is, and after the attempt at
    the place before that it follows. question and answer are plain text; details has what is more than
    that. Counts of tokens are None where they are unknown. attempts are the ids of all tries at this place;
    they are filled in where turns are listed.
    """

    id: UUID
    conversation: UUID
    position: int
    attempt: int = 1
    after: int = 0
    active: bool = True
    key: str | None = None
    state: State = "running"
    question: str = ""
    answer: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    driver: str = ""
    model: str = ""
    finish_reason: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    ended_by: EndedBy = ""
    error_type: str = ""
    duration: float | None = None
    created_at: datetime | None = None
    ended_at: datetime | None = None
    attempts: tuple[UUID, ...] = ()

    @property
    def usage(self) -> Mapping[str, Any]:
        """The usage as the reply had it, else the three counts."""
        reply: Mapping[str, Any] = self.details.get("reply") or {}
        found: Mapping[str, Any] | None = reply.get("usage")
        return found or {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
        }


@dataclass(frozen=True, slots=True)
class Asked:
    """What begins a turn.

    messages are the new ones, without system messages; there are none where a turn is asked again. state is
    running for a turn that holds its conversation, and open for one that no model is asked. A new attempt
    replaces the turn that is named.
    """

    messages: Sequence[Message] = ()
    key: str | None = None
    replaces: UUID | None = None
    state: State = "running"
    lease_seconds: float = LEASE_SECONDS


@dataclass(frozen=True, slots=True)
class Started:
    """A turn that has begun, its conversation, and the active turns before it, newest first."""

    turn: Turn
    conversation: Conversation
    history: Iterator[Turn]


@dataclass(frozen=True, slots=True)
class Ending:
    """What a turn came to; details is all of Turn.details, the question's part included."""

    state: State
    answer: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    driver: str = ""
    model: str = ""
    finish_reason: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    ended_by: EndedBy = ""
    error_type: str = ""
    duration: float | None = None
