"""What is said, asked and read in a conversation: the verbs of the package that this one follows."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Self
from uuid import UUID

from bupple_engine.drivers.lazy import plain_message
from bupple_engine.exceptions import InvalidRequestError
from bupple_engine.protocol.messages import validate
from bupple_engine.types import Message, MessagePart

from . import details, media
from .exceptions import DuplicateTurnError
from .recorder import Recorder, budget_of
from .reference import Reference, as_uuid, checked_key
from .stores.base import PAGE, Store, not_found
from .values import Asked, Conversation, Ending, Turn

Content = str | list[MessagePart]


class Verbs(Reference):
    """The verbs of a conversation, synchronous."""

    def __init__(self, owner: Any, wanted: UUID | str | None, *, new: bool, store: Store) -> None:
        super().__init__(owner, wanted, new=new, store=store)
        self._key: str | None = None
        self._replaces: UUID | None = None

    # A call with it

    def replacing(self, turn: Turn | UUID | str) -> Self:
        """Return the same memory for a call that puts a new attempt in a turn's place, and keeps that."""
        other = copy.copy(self)
        other._replaces = turn.id if isinstance(turn, Turn) else as_uuid(turn)
        return other

    def keyed(self, key: str) -> Self:
        """Return the same memory for a call that is made once: a used key is a DuplicateTurnError."""
        other = copy.copy(self)
        other._key = checked_key("The key", key)
        return other

    @property
    def key(self) -> str | None:
        """The key of the next call."""
        return self._key

    @property
    def replaces(self) -> UUID | None:
        """The turn that the next call puts a new attempt in the place of."""
        return self._replaces

    def recorder(self, messages: list[Message]) -> Recorder:
        """Return the observer of a call: it is how `memory=` works. messages are the new ones of it.

        System messages among them hold for the call and are not kept.
        """
        asked = [message for message in messages if message["role"] != "system"]
        if not asked and self._replaces is None:
            words = "messages has no question; with memory it is what is new in the conversation."
            raise InvalidRequestError(words, param="messages")
        return Recorder(self, asked, budget_of(asked))

    # What is read

    def get_messages(self, limit: int | None = None) -> list[Message]:
        """Return what was said as send() takes it, oldest first, whole; limit counts turns from the end.

        System text stands first. Turns that failed without a word are not in it.
        """
        found = self.look()
        if found is None:
            return []
        turns = self._turns(found, None, limit)
        told = [turn for turn in turns if details.is_said(turn) or turn.state == "running"]
        messages = [message for turn in told for message in details.messages_of(turn)]
        if ids := media.references(messages):
            messages = media.put_back(messages, self._store.files(found, ids))
        system: list[Message] = [{"role": "system", "content": found.system}] if found.system else []
        return system + messages

    def get_turns(self, before: int | None = None, limit: int | None = PAGE) -> Sequence[Turn]:
        """Return the newest turns before a position, oldest first, with all that is known of them."""
        found = self.look()
        return self._turns(found, before, limit) if found is not None else []

    def _turns(self, found: Conversation, before: int | None, limit: int | None) -> Sequence[Turn]:
        turns = self._store.turns(found, before, limit)
        if any(turn.state == "running" for turn in turns) and self._store.settle_dangling(found):
            turns = self._store.turns(found, before, limit)
        return turns

    def conversations(self, before: Conversation | None = None, limit: int = PAGE) -> Sequence[Conversation]:
        """Return the owner's conversations, the one used last first, from behind one of them."""
        return self._store.conversations(self.owner, before, limit)

    # What is written

    def add_message(
        self,
        role: str,
        content: Content,
        type: str = "text",
        metadata: Mapping[str, Any] | None = None,
        message_id: str | None = None,
    ) -> Turn | None:
        """Add a message of a role. A message_id that has been used changes nothing."""
        message = _message(role, content, type, metadata)
        key = None if message_id is None else checked_key("message_id", message_id)
        if role == "user":
            return self._open(message, key)
        if role == "assistant":
            return self._answer(message, key)
        self._store.add_system(self.kept(), details.text_of(message), key)
        return None

    def add_user_message(
        self,
        content: Content,
        type: str = "text",
        metadata: Mapping[str, Any] | None = None,
        message_id: str | None = None,
    ) -> Turn | None:
        """Add what a user said; no model is asked, but the next question is asked with it."""
        return self.add_message("user", content, type, metadata, message_id)

    def add_assistant_message(
        self,
        content: Content,
        type: str = "text",
        metadata: Mapping[str, Any] | None = None,
        message_id: str | None = None,
    ) -> Turn | None:
        """Add an answer: to the user's message that was added last, or without a question."""
        return self.add_message("assistant", content, type, metadata, message_id)

    def add_system_message(
        self,
        content: Content,
        type: str = "text",
        metadata: Mapping[str, Any] | None = None,
        message_id: str | None = None,
    ) -> None:
        """Append to the conversation's system text, which stands before all messages."""
        self.add_message("system", content, type, metadata, message_id)

    def _open(self, message: Message | None, key: str | None) -> Turn | None:
        asked = Asked([message] if message else [], key, state="open")
        try:
            started = self._store.begin(self.unkept(), asked)
        except DuplicateTurnError as error:
            return error.turn
        self._at.found = started.conversation
        return started.turn

    def _answer(self, message: Message, key: str | None) -> Turn | None:
        found = self.look()
        newest = self._store.turns(found) if found is not None else []
        for turn in newest:
            if key is not None and key in (turn.key, (turn.details.get("reply") or {}).get("id")):
                return turn
        text, beyond = details.of_answer(message)
        if newest and newest[-1].state == "open" and newest[-1].question:
            turn = newest[-1]
            if key is not None:
                beyond = {"v": details.VERSION, **beyond, "reply": {**beyond.get("reply", {}), "id": key}}
            if self._store.settle(turn, Ending("complete", text, {**turn.details, **beyond}), was="open"):
                return turn
        opened = self._open(None, key)
        if opened is not None:
            self._store.settle(opened, Ending("complete", text, beyond), was="open")
        return opened

    def rename(self, title: str) -> None:
        """Give it a title, of 200 characters at most."""
        if not isinstance(title, str) or not title.strip():
            raise ValueError("A title is a string that is not empty.")
        self._store.update(self.kept(), title=title.strip())

    def select(self, turn: Turn | UUID | str) -> None:
        """Show the branch of an attempt instead of the one that is shown."""
        found = self.look()
        if found is None:
            raise not_found()
        self._store.select(found, turn.id if isinstance(turn, Turn) else as_uuid(turn))

    def clear(self) -> None:
        """Erase the conversation for good: rows and files. The next question begins a new one."""
        found = self.look()
        if found is not None:
            self._store.erase(found)
            self._at.wanted = found.client_id
        self._at.found, self._at.new = None, True


def _message(role: str, content: Content, type: str, metadata: Mapping[str, Any] | None) -> Message:
    message: dict[str, Any] = {"role": role, "content": content}
    if type not in (None, "text"):
        message["type"] = type
    if metadata:
        message["metadata"] = metadata
    found: Message = plain_message(message)
    validate([found])
    return found
