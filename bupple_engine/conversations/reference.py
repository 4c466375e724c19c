"""Which conversation is meant, and whose it is: what a Memory is before any verb of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from bupple_engine.calls.bridge import is_on_a_loop
from bupple_engine.calls.seams import new_id
from bupple_engine.conf.owners import is_request, owner_of
from bupple_engine.types import Owner

from .stores.base import Store, not_found
from .values import Conversation

MAX_ID = 64


@dataclass(slots=True)
class _Place:
    """Which conversation it is; what keyed() and replacing() return has the same."""

    wanted: UUID | str | None
    new: bool
    found: Conversation | None = None


class Reference:
    """A conversation of an owner, which is read at the first use."""

    def __init__(self, owner: Any, wanted: UUID | str | None, *, new: bool, store: Store) -> None:
        self._owner: Owner | None = None
        self._asker: Any = None  # a request whose user can't be loaded in an event loop
        if is_request(owner) and is_on_a_loop():
            self._asker = owner
        elif owner is not None:
            self._owner = owner_of(owner)
        self._store = store
        self._at = _Place(wanted, new)

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

    def note(self, conversation: Conversation) -> None:
        """Note the conversation as it has become."""
        self._at.found = conversation

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

    def unkept(self) -> Conversation:
        """Return the conversation as it is now, or a new one, which is kept with its first turn."""
        found = self.look()
        if found is not None:
            return found
        client_id = (
            None if self._at.wanted is None else checked_key("The conversation's id", str(self._at.wanted))
        )
        return Conversation(new_id(), self.owner, client_id)

    def kept(self) -> Conversation:
        """Return the conversation as it is now, or a new one, which is kept at once."""
        found = self.look()
        if found is None:
            found = self._at.found = self._store.create(self.owner, self.unkept().client_id)
        return found


def checked_key(what: str, key: Any) -> str:
    """Return a key or an id of a client's; raises a ValueError that says what it must be."""
    if not isinstance(key, str) or not key or key != key.strip() or "\0" in key or len(key) > MAX_ID:
        raise ValueError(
            f"{what} must be a string of 1 to {MAX_ID} characters, without white space around it."
        )
    return key


def as_uuid(id: UUID | str) -> UUID:
    """Return an id; what is none is not found."""
    try:
        return id if isinstance(id, UUID) else UUID(id)
    except ValueError:
        raise not_found() from None
