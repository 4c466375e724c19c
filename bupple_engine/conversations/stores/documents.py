"""A conversation as one document of a cache, changed by one process at a time."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.cache import BaseCache
from django.utils.crypto import get_random_string

from bupple_engine.conf.memory import memory_settings
from bupple_engine.conversations.details import read
from bupple_engine.conversations.exceptions import ConversationBusyError
from bupple_engine.conversations.values import Conversation, Turn
from bupple_engine.types import Owner

from .base import BUSY, not_found

_PREFIX = "bupple_engine:conversation"

# A lock is held for two round trips; longer than this holds it only a process that has died.
_LOCK_SECONDS = 10
_PAUSE_SECONDS = 0.005


@dataclass(slots=True)
class Document:
    """A conversation and all its turns, in no order."""

    conversation: Conversation
    turns: list[Turn]

    def active(self) -> list[Turn]:
        """Return the turns of the branch that is shown, oldest first."""
        return sorted((turn for turn in self.turns if turn.active), key=lambda turn: turn.position)

    def get(self, id: UUID | None) -> Turn | None:
        return next((turn for turn in self.turns if turn.id == id), None)

    def put(self, id: UUID, **facts: Any) -> None:
        """Change one turn."""
        self.turns = [dataclasses.replace(it, **facts) if it.id == id else it for it in self.turns]

    def show(self, chosen: set[UUID]) -> None:
        """Have some turns be the branch that is shown."""
        self.turns = [dataclasses.replace(turn, active=turn.id in chosen) for turn in self.turns]
        self.change(length=len(chosen))

    def change(self, **facts: Any) -> None:
        self.conversation = dataclasses.replace(self.conversation, **facts)


class Documents:
    """The documents that a cache holds, and the index of each owner's."""

    def __init__(self, cache: BaseCache, ttl: int) -> None:
        self.cache = cache
        self.ttl = ttl

    def key(self, id: UUID, *rest: str) -> str:
        return ":".join((_PREFIX, id.hex, *rest))

    def load(self, id: UUID) -> Document | None:
        head, turns = self.key(id), self.key(id, "turns")
        found = self.cache.get_many([head, turns])
        if head not in found:
            return None
        return Document(_conversation(found[head]), [_turn(each) for each in found.get(turns, ())])

    def heads(self, ids: Iterable[UUID]) -> list[Conversation]:
        found = self.cache.get_many([self.key(id) for id in ids])
        return [_conversation(each) for each in found.values()]

    def save(self, document: Document) -> None:
        """Write a document; of its turns the newest MAX_TURNS."""
        conversation = document.conversation
        oldest = conversation.length - memory_settings().max_turns
        turns = [_facts(turn) for turn in document.turns if turn.position > oldest]
        pieces = {self.key(conversation.id): _facts(conversation), self.key(conversation.id, "turns"): turns}
        self.cache.set_many(pieces, self.ttl)

    @contextmanager
    def changing(self, id: UUID, owner: Owner | None = None) -> Iterator[Document]:
        """Give a document to change, which is saved behind the block, unless that raises."""
        with self.locked(self.key(id)):
            document = self.load(id)
            if document is None or owner not in (None, document.conversation.owner):
                raise not_found()
            yield document
            self.save(document)

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Keep other processes out, as well as the cache's add() can."""
        key, token = f"{key}:lock", get_random_string(16)
        deadline = time.monotonic() + _LOCK_SECONDS
        while not self.cache.add(key, token, _LOCK_SECONDS):
            if time.monotonic() > deadline:
                raise ConversationBusyError(BUSY)
            time.sleep(_PAUSE_SECONDS)
        try:
            yield
        finally:
            if self.cache.get(key) == token:
                self.cache.delete(key)

    def delete(self, conversation: Conversation) -> None:
        id = conversation.id
        self.cache.delete_many([self.key(id), self.key(id, "turns"), self.key(id, "running")])
        with self.locked(self.index_key(conversation.owner)):
            index = self.index(conversation.owner)
            index.pop(id, None)
            self.save_index(conversation.owner, index)

    def index_key(self, owner: Owner) -> str:
        digest = hashlib.sha256(f"{len(owner.type)}:{owner.type}:{owner.id}".encode()).hexdigest()
        return f"{_PREFIX}:of:{digest}"

    def index(self, owner: Owner) -> dict[UUID, str | None]:
        """Return the ids of an owner's conversations, and the client's ids of them."""
        found: Mapping[str, str | None] = self.cache.get(self.index_key(owner)) or {}
        return {UUID(id): client_id for id, client_id in found.items()}

    def save_index(self, owner: Owner, index: Mapping[UUID, str | None]) -> None:
        found = {id.hex: client_id for id, client_id in index.items()}
        self.cache.set(self.index_key(owner), found, self.ttl)

    def insert(self, conversation: Conversation) -> Conversation:
        """Keep a new conversation; with a client's id that is there, return that one."""
        with self.locked(self.index_key(conversation.owner)):
            index = self.index(conversation.owner)
            same = [id for id, client_id in index.items() if client_id == conversation.client_id]
            if conversation.client_id is not None and same and (kept := self.load(same[0])):
                return kept.conversation
            self.save(Document(conversation, []))
            there = {known.id for known in self.heads(index)}
            index = {id: client_id for id, client_id in index.items() if id in there}
            self.save_index(conversation.owner, {**index, conversation.id: conversation.client_id})
            return conversation


def _facts(value: Conversation | Turn) -> dict[str, Any]:
    """Return a value as plain data: what a cache holds may be read by another release."""
    facts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {name: tuple(it) if isinstance(it, Owner) else it for name, it in facts.items()}


def _conversation(facts: Mapping[str, Any]) -> Conversation:
    return Conversation(**{**_known(Conversation, facts), "owner": Owner(*facts["owner"])})


def _turn(facts: Mapping[str, Any]) -> Turn:
    return Turn(**{**_known(Turn, facts), "details": read(facts["details"])})


def _known(kind: type[Conversation] | type[Turn], facts: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in facts.items() if name in names}
