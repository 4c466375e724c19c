"""memory(owner): a conversation that is kept, by the verbs of the package that this one follows."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from asgiref.sync import sync_to_async

from bupple_engine.conf.owners import is_in_loop, is_request, owner_of
from bupple_engine.drivers.lazy import plain_message
from bupple_engine.exceptions import InvalidRequestError
from bupple_engine.masking.printing import kind_of
from bupple_engine.protocol.messages import validate
from bupple_engine.types import Message, MessagePart, Owner

from . import details, media
from .exceptions import DuplicateTurnError
from .recorder import Recorder, budget_of
from .stores import get_store
from .stores.base import PAGE, Store, not_found
from .values import Asked, Conversation, Ending, Turn, new_id

MAX_ID = 64

Content = str | list[MessagePart]


@dataclass(slots=True)
class _Place:
    """Which conversation it is; what keyed() and replacing() return has the same."""

    wanted: UUID | str | None
    new: bool
    found: Conversation | None = None


class Memory:
    """A conversation of an owner: the latest, one by its id, or a new one.

    Nothing is read before the first use. There what can't be found raises a ConversationNotFoundError, and
    what a running turn holds a ConversationBusyError. Each verb has an awaitable twin with an `a` in front.
    """

    def __init__(self, owner: Any, wanted: UUID | str | None, *, new: bool, store: Store) -> None:
        self._owner: Owner | None = None
        self._asker: Any = None  # a request whose user can't be loaded in an event loop
        if is_request(owner) and is_in_loop():
            self._asker = owner
        elif owner is not None:
            self._owner = owner_of(owner)
        self._store = store
        self._at = _Place(wanted, new)
        self._key: str | None = None
        self._replaces: UUID | None = None

    # What it is

    @property
    def owner(self) -> Owner:
        """Whose conversation it is; raises a ValueError where nobody has been named."""
        if self._owner is None and self._asker is not None:
            self._owner = owner_of(self._asker)
        if self._owner is None:
            raise ValueError(
                "Nobody owns this conversation: pass an owner to memory(), or call set_parent()."
            )
        return self._owner

    @property
    def store(self) -> Store:
        """Where it is kept."""
        return self._store

    @property
    def id(self) -> UUID | None:
        """Its id, None until the first use has found or made it."""
        return self._at.found.id if self._at.found is not None else None

    @property
    def title(self) -> str:
        """Its title when it was last read."""
        return self._at.found.title if self._at.found is not None else ""

    @property
    def running(self) -> UUID | None:
        """The turn that ran when it was last read."""
        return self._at.found.running if self._at.found is not None else None

    def __repr__(self) -> str:
        return f"<Memory {self.id or 'not read yet'}>"

    def set_parent(self, parent: Any, id: Any = None) -> Self:
        """Say whose it is: a saved instance, or a class (or any word) and an id. Returns itself."""
        self._owner = owner_of(parent if id is None else (parent, id))
        self._asker = None
        self._at = _Place(self._at.wanted, self._at.new)
        return self

    def replacing(self, turn: Turn | UUID | str) -> Self:
        """Return the same memory for a call that puts a new attempt in a turn's place, and keeps that."""
        other = copy.copy(self)
        other._replaces = turn.id if isinstance(turn, Turn) else _uuid(turn)
        return other

    def keyed(self, key: str) -> Self:
        """Return the same memory for a call that is made once: a used key is a DuplicateTurnError."""
        other = copy.copy(self)
        other._key = _checked_key("The key", key)
        return other

    # What a call asks of it

    @property
    def key(self) -> str | None:
        """The key of the next call."""
        return self._key

    @property
    def replaces(self) -> UUID | None:
        """The turn that the next call puts a new attempt in the place of."""
        return self._replaces

    def note(self, conversation: Conversation) -> None:
        """Note the conversation as it has become."""
        self._at.found = conversation

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

    def look(self) -> Conversation | None:
        """Read the conversation; None where the owner has none yet. An id that is not there raises."""
        if self._at.found is not None:
            found = self._store.find(self.owner, self._at.found.id)
        elif self._at.wanted is not None:
            found = self._store.find(self.owner, self._at.wanted)
            if found is None and self._at.new:
                return None
        elif self._at.new:
            return None
        else:
            found = self._store.latest(self.owner)
            if found is None:
                return None
        if found is None:
            raise not_found()
        self._at.found = found
        return found

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
        key = None if message_id is None else _checked_key("message_id", message_id)
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
        self._store.select(found, turn.id if isinstance(turn, Turn) else _uuid(turn))

    def clear(self) -> None:
        """Erase the conversation for good: rows and files. The next question begins a new one."""
        found = self.look()
        if found is not None:
            self._store.erase(found)
            self._at.wanted = found.client_id
        self._at.found, self._at.new = None, True

    def unkept(self) -> Conversation:
        """Return the conversation as it is now, or a new one, which is kept with its first turn."""
        found = self.look()
        if found is not None:
            return found
        client_id = (
            None if self._at.wanted is None else _checked_key("The conversation's id", str(self._at.wanted))
        )
        return Conversation(new_id(), self.owner, client_id)

    def kept(self) -> Conversation:
        """Return the conversation as it is now, or a new one, which is kept at once."""
        found = self.look()
        if found is None:
            found = self._at.found = self._store.create(self.owner, self.unkept().client_id)
        return found

    # The same for asynchronous callers

    async def aget_messages(self, limit: int | None = None) -> list[Message]:
        """See get_messages()."""
        return await sync_to_async(self.get_messages)(limit)

    async def aget_turns(self, before: int | None = None, limit: int | None = PAGE) -> Sequence[Turn]:
        """See get_turns()."""
        return await sync_to_async(self.get_turns)(before, limit)

    async def aconversations(
        self, before: Conversation | None = None, limit: int = PAGE
    ) -> Sequence[Conversation]:
        """See conversations()."""
        return await sync_to_async(self.conversations)(before, limit)

    async def aadd_message(
        self,
        role: str,
        content: Content,
        type: str = "text",
        metadata: Mapping[str, Any] | None = None,
        message_id: str | None = None,
    ) -> Turn | None:
        """See add_message()."""
        return await sync_to_async(self.add_message)(role, content, type, metadata, message_id)

    async def aadd_user_message(self, *args: Any, **kwargs: Any) -> Turn | None:
        """See add_user_message()."""
        return await sync_to_async(self.add_user_message)(*args, **kwargs)

    async def aadd_assistant_message(self, *args: Any, **kwargs: Any) -> Turn | None:
        """See add_assistant_message()."""
        return await sync_to_async(self.add_assistant_message)(*args, **kwargs)

    async def aadd_system_message(self, *args: Any, **kwargs: Any) -> None:
        """See add_system_message()."""
        await sync_to_async(self.add_system_message)(*args, **kwargs)

    async def arename(self, title: str) -> None:
        """See rename()."""
        await sync_to_async(self.rename)(title)

    async def aselect(self, turn: Turn | UUID | str) -> None:
        """See select()."""
        await sync_to_async(self.select)(turn)

    async def aclear(self) -> None:
        """See clear()."""
        await sync_to_async(self.clear)()


class _Memories:
    """What `memory` is: a call, and a name that says that it checks nothing."""

    def __call__(
        self,
        owner: Any = None,
        conversation: UUID | str | None = None,
        *,
        new: bool = False,
        store: str | Store | None = None,
    ) -> Memory:
        """Return a conversation of an owner: the latest, one by its id or the client's, or a new one.

        owner is a saved model instance, a pair such as ("ChatSession", 123), a request, or said later by
        set_parent(). Raises a ValueError for what owns nothing. With new and an id, that id is the client's
        of the new conversation; where it is there, it is the one meant. store is an alias of STORES.
        """
        if conversation is not None and not isinstance(conversation, UUID | str):
            raise ValueError(f"A conversation is named by its id, not by {kind_of(conversation)}.")
        found = store if isinstance(store, Store) else get_store(store)
        return Memory(owner, conversation or None, new=new, store=found)

    def any(self, id: UUID | str, *, store: str | Store | None = None) -> Memory:
        """Return a conversation whoever owns it: nothing is checked. For commands, tasks and the admin."""
        found = store if isinstance(store, Store) else get_store(store)
        conversation = found.find_any(_uuid(id))
        if conversation is None:
            raise not_found()
        return Memory(conversation.owner, conversation.id, new=False, store=found)


memory = _Memories()


def _message(role: str, content: Content, type: str, metadata: Mapping[str, Any] | None) -> Message:
    message: dict[str, Any] = {"role": role, "content": content}
    if type not in (None, "text"):
        message["type"] = type
    if metadata:
        message["metadata"] = metadata
    found: Message = plain_message(message)
    validate([found])
    return found


def _checked_key(what: str, key: Any) -> str:
    if not isinstance(key, str) or not key or key != key.strip() or "\0" in key or len(key) > MAX_ID:
        raise ValueError(
            f"{what} must be a string of 1 to {MAX_ID} characters, without white space around it."
        )
    return key


def _uuid(id: UUID | str) -> UUID:
    try:
        return id if isinstance(id, UUID) else UUID(id)
    except ValueError:
        raise not_found() from None
