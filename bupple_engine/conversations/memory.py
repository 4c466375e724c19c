"""memory(owner): a conversation that is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async

from bupple_engine.masking.printing import kind_of
from bupple_engine.types import Message

from .reference import as_uuid
from .stores import get_store
from .stores.base import PAGE, Store, not_found
from .values import Conversation, Turn
from .verbs import Content, Verbs


class Memory(Verbs):
    """A conversation of an owner: the latest, one by its id, or a new one.

    Nothing is read before the first use. There what can't be found raises a ConversationNotFoundError, and
    what a running turn holds a ConversationBusyError. Each verb has an awaitable twin with an `a` in front.
    """

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
        conversation = found.find_any(as_uuid(id))
        if conversation is None:
            raise not_found()
        return Memory(conversation.owner, conversation.id, new=False, store=found)


memory = _Memories()
