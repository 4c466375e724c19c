"""Conversations in a cache of the site's: for chats that may be lost, as any cache may lose what it holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.core.cache import caches
from django.utils import timezone

from bupple_engine.calls.seams import new_id
from bupple_engine.conversations import details, media
from bupple_engine.conversations.exceptions import (
    ConversationBusyError,
    ConversationNotFoundError,
    DuplicateTurnError,
)
from bupple_engine.conversations.values import Asked, Conversation, Ending, Started, Turn
from bupple_engine.protocol.media import resolve
from bupple_engine.protocol.messages import Part
from bupple_engine.types import Owner

from .base import BUSY, DUPLICATE, PAGE, SYSTEM_KEYS, Store, branch_of, ended_by_lease, not_found
from .documents import Document, Documents

TTL = 30 * 86_400

# Media of more bytes are told of in words: a cache is no place for them.
INLINE_BYTES = 262_144


class CacheStore(Store):
    """Keep conversations in a cache for a while: ttl is in seconds, and begins anew with each turn.

    Of a conversation the newest MAX_TURNS turns are kept, and media of 256 KB at most. A cache whose add()
    is not atomic, such as FileBasedCache, may let two questions of the same moment through. What has died
    is settled when its conversation is used again, not before: a cache lists nothing.
    """

    def __init__(self, cache: str = "default", ttl: int = TTL) -> None:
        self._alias = cache
        self._ttl = ttl

    @property
    def _cache(self) -> Any:
        return caches[self._alias]

    @property
    def _documents(self) -> Documents:
        return Documents(self._cache, self._ttl)

    def find(self, owner: Owner, id: UUID | str) -> Conversation | None:
        documents, wanted = self._documents, [id] if isinstance(id, UUID) else []
        if not isinstance(id, UUID):
            wanted = [known for known, client_id in documents.index(owner).items() if client_id == id]
            wanted = wanted or _as_uuid(id)
        return next((head for head in documents.heads(wanted) if head.owner == owner), None)

    def find_any(self, id: UUID) -> Conversation | None:
        return next(iter(self._documents.heads([id])), None)

    def latest(self, owner: Owner) -> Conversation | None:
        return next(iter(self.conversations(owner, limit=1)), None)

    def create(self, owner: Owner, client_id: str | None = None) -> Conversation:
        now = timezone.now()
        new = Conversation(new_id(), owner, client_id, created_at=now, updated_at=now)
        return self._documents.insert(new)

    def conversations(
        self, owner: Owner, before: Conversation | None = None, limit: int = PAGE
    ) -> Sequence[Conversation]:
        heads = sorted(self._documents.heads(self._documents.index(owner)), key=_age, reverse=True)
        return [head for head in heads if before is None or _age(head) < _age(before)][:limit]

    def update(
        self,
        conversation: Conversation,
        *,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        keep_title: bool = False,
    ) -> bool:
        try:
            with self._documents.changing(conversation.id, conversation.owner) as document:
                if title is not None and keep_title and document.conversation.title:
                    return False
                if title is not None:
                    document.change(title=details.storable(title)[:200])
                if metadata is not None:
                    document.change(metadata=details.storable(metadata))
                return True
        except ConversationNotFoundError:
            return False

    def add_system(self, conversation: Conversation, text: str, key: str | None = None) -> bool:
        with self._documents.changing(conversation.id, conversation.owner) as document:
            old = document.conversation
            known = old.metadata.get(SYSTEM_KEYS, [])
            if key is not None and key in known:
                return False
            metadata = old.metadata if key is None else {**old.metadata, SYSTEM_KEYS: [*known, key]}
            system = f"{old.system}\n\n{text}" if old.system else text
            document.change(system=system, metadata=metadata, updated_at=timezone.now())
            return True

    def erase(self, conversation: Conversation) -> None:
        if self.find(conversation.owner, conversation.id) is not None:
            self._documents.delete(conversation)

    def begin(self, conversation: Conversation, asked: Asked) -> Started:
        messages = media.each_part(asked.messages, _inline)
        is_new = conversation.created_at is None
        if is_new:
            if asked.replaces is not None:
                raise not_found()
            now = timezone.now()
            mine = dataclasses.replace(conversation, created_at=now, updated_at=now)
            conversation = self._documents.insert(mine)
            is_new = conversation.id == mine.id
        with self._documents.changing(conversation.id, conversation.owner) as document:
            for turn in document.turns:
                if asked.key is not None and turn.key == asked.key:
                    raise DuplicateTurnError(DUPLICATE, turn)
            old = document.get(asked.replaces)
            if asked.replaces is not None and old is None:
                raise not_found()
            id = new_id()
            self._hold(document, id, asked.lease_seconds, keep=asked.state == "running")
            text, beyond = details.of_question(messages)
            if old is not None and not messages:
                text = old.question
                beyond = {name: old.details[name] for name in ("v", "question") if name in old.details}
            now = (is_new and document.conversation.created_at) or timezone.now()
            turn = Turn(
                id,
                conversation.id,
                position=0,
                key=asked.key,
                state=asked.state,
                question=text,
                details=beyond,
                created_at=now,
            )
            turn = _place(document, turn, old)
            document.change(updated_at=now, running=turn.id if asked.state == "running" else None)
            before = [each for each in document.active() if each.position < turn.position]
            return Started(turn, document.conversation, iter(before[::-1]))

    def _hold(self, document: Document, id: UUID, lease_seconds: float, *, keep: bool) -> None:
        """Take the running place, settle what had it, or raise where a live turn has it."""
        key = self._documents.key(document.conversation.id, "running")
        if not self._cache.add(key, id.hex, lease_seconds):
            raise ConversationBusyError(BUSY, document.get(document.conversation.running))
        if not keep:
            self._cache.delete(key)
        for turn in document.turns:
            if turn.state == "running":
                _write(document, turn, ended_by_lease(turn))

    def settle(self, turn: Turn, ending: Ending, *, was: str = "running") -> bool:
        beyond = media.each_answer(ending.details, lambda messages: media.each_part(messages, _inline))
        ending = dataclasses.replace(ending, details=beyond)
        try:
            with self._documents.changing(turn.conversation) as document:
                found = document.get(turn.id)
                if found is None or found.state != was:
                    return False
                _write(document, found, ending)
                self._free(document, turn)
                return True
        except ConversationNotFoundError:
            return False

    def _free(self, document: Document, turn: Turn) -> None:
        document.change(updated_at=timezone.now())
        if document.conversation.running == turn.id:
            document.change(running=None)
        key = self._documents.key(turn.conversation, "running")
        if self._cache.get(key) == turn.id.hex:
            self._cache.delete(key)

    def withdraw(self, turn: Turn) -> bool:
        try:
            with self._documents.changing(turn.conversation) as document:
                found = document.get(turn.id)
                if found is None or found.state != "running":
                    return False
                self._free(document, turn)
                document.turns.remove(found)
                tries = [each for each in document.turns if each.position == turn.position]
                if tries:
                    newest = max(tries, key=lambda each: each.attempt)
                    document.show(branch_of(newest.id, _places(document)))
                else:
                    document.change(length=document.conversation.length - 1)
                conversation = document.conversation
        except ConversationNotFoundError:
            return False
        if turn.attempt == 1 and conversation.created_at == turn.created_at:
            self._documents.delete(conversation)
        return True

    def select(self, conversation: Conversation, turn: UUID) -> None:
        with self._documents.changing(conversation.id, conversation.owner) as document:
            chosen = branch_of(turn, _places(document))
            self._hold(document, turn, 0.001, keep=False)
            document.show(chosen)
            document.change(updated_at=timezone.now(), running=None)

    def turns(
        self, conversation: Conversation, before: int | None = None, limit: int | None = PAGE
    ) -> Sequence[Turn]:
        document = self._read(conversation)
        if document is None:
            return []
        found = [turn for turn in document.active() if before is None or turn.position < before]
        tries: dict[int, list[Turn]] = {}
        for turn in sorted(document.turns, key=lambda turn: turn.attempt):
            tries.setdefault(turn.position, []).append(turn)
        page = found if limit is None else found[max(0, len(found) - limit) :]
        return [
            dataclasses.replace(turn, attempts=tuple(each.id for each in tries[turn.position]))
            for turn in page
        ]

    def _read(self, conversation: Conversation) -> Document | None:
        document = self._documents.load(conversation.id)
        return document if document and document.conversation.owner == conversation.owner else None

    def turn(self, conversation: Conversation, id: UUID) -> Turn | None:
        document = self._read(conversation)
        return document.get(id) if document else None

    def files(self, conversation: Conversation, ids: Iterable[UUID]) -> Mapping[UUID, bytes]:
        return {}  # they stand in the messages

    def dangling(self, conversation: Conversation | None = None) -> Sequence[Turn]:
        document = self._read(conversation) if conversation is not None else None
        if document is None or self._cache.get(self._documents.key(document.conversation.id, "running")):
            return []
        return [turn for turn in document.turns if turn.state == "running"]


def _place(document: Document, turn: Turn, old: Turn | None) -> Turn:
    """Put a turn at the end, or in place of another, what followed that hidden; return it with its place."""
    position = old.position if old is not None else document.conversation.length + 1
    attempt = 1 + max((each.attempt for each in document.turns if each.position == position), default=0)
    if old is not None:
        for each in document.active():
            if each.position >= position:
                document.put(each.id, active=False)
    before = [each for each in document.active() if each.position < position]
    after = before[-1].attempt if before else 0
    turn = dataclasses.replace(turn, position=position, attempt=attempt, after=after)
    document.turns.append(turn)
    document.change(length=position)
    return turn


def _write(document: Document, turn: Turn, ending: Ending) -> None:
    facts = {field.name: getattr(ending, field.name) for field in dataclasses.fields(ending)}
    document.put(turn.id, **{name: details.storable(value) for name, value in facts.items()})
    document.put(turn.id, ended_at=timezone.now())


def _places(document: Document) -> list[tuple[UUID, int, int, int]]:
    return [(turn.id, turn.position, turn.attempt, turn.after) for turn in document.turns]


def _inline(part: dict[str, Any]) -> dict[str, Any]:
    found = resolve(Part(part["type"], part["content"], part.get("metadata") or {}, "messages"))
    return media.in_words(part) if len(found.data) * 3 // 4 > INLINE_BYTES else part


def _age(conversation: Conversation) -> tuple[Any, UUID]:
    return conversation.updated_at, conversation.id


def _as_uuid(text: str) -> list[UUID]:
    try:
        return [UUID(text)]
    except ValueError:
        return []
