"""What a store does; a third party's is a subclass of Store, named by its dotted path in STORES."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias
from uuid import UUID

from bupple_engine.conversations.exceptions import ConversationNotFoundError
from bupple_engine.conversations.values import Asked, Conversation, Ending, Started, Turn
from bupple_engine.types import Owner

PAGE = 50

BUSY = "Another question of this conversation is being answered; ask again when its answer has ended."
DUPLICATE = "This key has been used in this conversation; the turn that has it is not asked again."

# Where a conversation's metadata keeps the keys of the system messages that were added.
SYSTEM_KEYS = "bupple_engine"

# A turn as branch_of() reads it: id, position, attempt, after.
Place: TypeAlias = tuple[UUID, int, int, int]


class Store(ABC):
    """Keep conversations and their turns.

    All methods are synchronous, may block, and are called from any thread; no connection need be held between
    two of them. They give and take frozen values. A Conversation or an Owner that is passed says who asks:
    what belongs to another owner is not there (None, False, nothing, or a ConversationNotFoundError), and is
    never touched. Two processes may call at once: begin() has a conversation held by one running turn at a
    time, in one atomic step, until settle() or the lease ends that; positions have no gap. What a store can't
    do because its server is away raises whatever its library does.
    """

    @abstractmethod
    def find(self, owner: Owner, id: UUID | str) -> Conversation | None:
        """Return the owner's conversation with this id, or with this one of the client's."""

    @abstractmethod
    def latest(self, owner: Owner) -> Conversation | None:
        """Return the owner's conversation that was used last."""

    @abstractmethod
    def find_any(self, id: UUID) -> Conversation | None:
        """Return a conversation whoever owns it: for commands, tasks and the admin."""

    @abstractmethod
    def create(self, owner: Owner, client_id: str | None = None) -> Conversation:
        """Return a new conversation, which is kept; with a client's id that is there, that one."""

    @abstractmethod
    def conversations(
        self, owner: Owner, before: Conversation | None = None, limit: int = PAGE
    ) -> Sequence[Conversation]:
        """Return the owner's conversations, the one used last first, from behind one of them."""

    @abstractmethod
    def update(
        self,
        conversation: Conversation,
        *,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        keep_title: bool = False,
    ) -> bool:
        """Change what is given, and nothing else; False where the conversation is gone.

        keep_title leaves a title that is there: it is how a generated one never overwrites a person's.
        """

    @abstractmethod
    def add_system(self, conversation: Conversation, text: str, key: str | None = None) -> bool:
        """Append a paragraph to the system text; the same key again changes nothing, and returns False."""

    @abstractmethod
    def erase(self, conversation: Conversation) -> None:
        """Delete the conversation with all that belongs to it, for good; one that is gone is no error."""

    @abstractmethod
    def begin(self, conversation: Conversation, asked: Asked) -> Started:
        """Keep a question as a new turn, at the end or in place of another, before anything is sent.

        A conversation whose created_at is None is kept with it. A turn in the state running holds the
        conversation for asked.lease_seconds. The history is read page by page as it is asked for, the first
        page at once.

        Raises a ConversationNotFoundError where the conversation, or the turn that is replaced, is not there;
        a DuplicateTurnError where the key has been used; a ConversationBusyError where another turn runs. A
        running turn whose lease is over is settled first, as interrupted, by its lease.
        """

    @abstractmethod
    def settle(self, turn: Turn, ending: Ending, *, was: str = "running") -> bool:
        """Write down how a turn ended, and free its conversation; False, and nothing, where that was done."""

    @abstractmethod
    def withdraw(self, turn: Turn) -> bool:
        """Take back a running turn of which nothing was sent, as if it had never begun."""

    @abstractmethod
    def select(self, conversation: Conversation, turn: UUID) -> None:
        """Show the branch of an attempt: what stands before it, it, and the newest of what followed.

        Raises a ConversationNotFoundError where it is not there, a ConversationBusyError where one runs.
        """

    @abstractmethod
    def turns(
        self, conversation: Conversation, before: int | None = None, limit: int | None = PAGE
    ) -> Sequence[Turn]:
        """Return the newest active turns before a position, oldest first; limit None is no limit."""

    @abstractmethod
    def turn(self, conversation: Conversation, id: UUID) -> Turn | None:
        """Return one turn, active or not."""

    @abstractmethod
    def files(self, conversation: Conversation, ids: Iterable[UUID]) -> Mapping[UUID, bytes]:
        """Return the content of media that turns refer to; what is gone is left out."""

    @abstractmethod
    def dangling(self, conversation: Conversation | None = None) -> Sequence[Turn]:
        """Return the running turns whose lease is over, of one conversation or of all."""

    def borrowed(self) -> AbstractContextManager[None]:
        """Return what is entered around each use by a call: it gives a connection back."""
        return nullcontext()

    def settle_dangling(self, conversation: Conversation | None = None) -> int:
        """Settle the turns whose process has died, with the text that was kept of them; return how many."""
        return sum(self.settle(turn, ended_by_lease(turn)) for turn in self.dangling(conversation))


def ended_by_lease(turn: Turn) -> Ending:
    """Return how a turn ended whose process has died."""
    return Ending("interrupted", answer=turn.answer, details=turn.details, ended_by="lease")


def branch_of(turn: UUID, known: Sequence[Place]) -> set[UUID]:
    """Return the ids of the turns on the branch of one: before it those it followed, behind it the newest."""
    by_place = {(position, attempt): (id, after) for id, position, attempt, after in known}
    chosen: set[UUID] = set()
    for id, position, attempt, _ in known:
        if id != turn:
            continue
        behind = position, attempt
        place: tuple[int, int] | None = behind
        while place in by_place:
            found, after = by_place[place]
            chosen.add(found)
            place = place[0] - 1, after
        while following := [row for row in known if row[1] == behind[0] + 1 and row[3] == behind[1]]:
            newest = max(following, key=lambda row: row[2])
            chosen.add(newest[0])
            behind = newest[1], newest[2]
        return chosen
    raise not_found()


def not_found() -> ConversationNotFoundError:
    """Return the error for what is not there, or is another's."""
    return ConversationNotFoundError("There is no such conversation or turn.")
