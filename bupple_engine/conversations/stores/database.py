"""Conversations in the site's database: any that Django takes, by DATABASE_ROUTERS in one of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

from django.db import IntegrityError, OperationalError, connections
from django.db.models import F, Q
from django.utils import timezone

from bupple_engine.calls.seams import new_id
from bupple_engine.conversations import details, media, models
from bupple_engine.conversations.exceptions import ConversationBusyError, DuplicateTurnError
from bupple_engine.conversations.values import Asked, Conversation, Ending, Started, Turn
from bupple_engine.types import Message, Owner

from . import rows
from .base import BUSY, DUPLICATE, PAGE, SYSTEM_KEYS, Store, not_found
from .conflicts import TRIES, has_lost, retried
from .places import open_turn, show


class DatabaseStore(Store):
    """Keep conversations in the tables of bupple_engine.conversations."""

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        connection = connections[rows.database()]
        was_open = connection.connection is not None
        try:
            yield
        finally:
            if not was_open and not connection.in_atomic_block:
                connection.close()

    def find(self, owner: Owner, id: UUID | str) -> Conversation | None:
        return _only(rows.conversations_of(owner).filter(rows.by_id(id)))

    def latest(self, owner: Owner) -> Conversation | None:
        return _only(rows.conversations_of(owner).order_by("-updated_at", "-id"))

    def find_any(self, id: UUID) -> Conversation | None:
        return _only(rows.all_conversations().filter(pk=id))

    def create(self, owner: Owner, client_id: str | None = None) -> Conversation:
        try:
            with rows.atomic():
                return rows.insert_conversation(Conversation(new_id(), owner, client_id))
        except IntegrityError:
            found = self.find(owner, client_id) if client_id is not None else None
            if found is None:
                raise
            return found

    def conversations(
        self, owner: Owner, before: Conversation | None = None, limit: int = PAGE
    ) -> Sequence[Conversation]:
        found = rows.conversations_of(owner).order_by("-updated_at", "-id")
        if before is not None:
            is_older = Q(updated_at__lt=before.updated_at) | Q(pk__lt=before.id)
            found = found.filter(is_older, updated_at__lte=before.updated_at)
        return [rows.to_conversation(row) for row in found[:limit]]

    def update(
        self,
        conversation: Conversation,
        *,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        keep_title: bool = False,
    ) -> bool:
        found = rows.same(conversation)
        changed: dict[str, Any] = {}
        if title is not None:
            changed["title"] = details.storable(title)[:200]
            found = found.filter(title="") if keep_title else found
        if metadata is not None:
            changed["metadata"] = details.storable(metadata)
        return bool(found.update(**changed) if changed else found.exists())

    @retried
    def add_system(self, conversation: Conversation, text: str, key: str | None = None) -> bool:
        with rows.atomic():
            if not rows.same(conversation).update(updated_at=timezone.now()):  # which locks the row
                raise not_found()
            row = rows.same(conversation).get()
            known = row.metadata.get(SYSTEM_KEYS, [])
            if key is not None and key in known:
                return False
            row.system = f"{row.system}\n\n{text}" if row.system else text
            if key is not None:
                row.metadata[SYSTEM_KEYS] = [*known, key]
            row.save(using=rows.database(), update_fields=["system", "metadata"])
            return True

    @retried
    def erase(self, conversation: Conversation) -> None:
        with rows.atomic():
            if rows.same(conversation).update(updated_at=timezone.now()):  # deleting begins with reading
                rows.same(conversation).delete()

    def begin(self, conversation: Conversation, asked: Asked) -> Started:
        if asked.key is not None and conversation.created_at is not None:
            self._refuse_duplicate(conversation, asked.key)
        if asked.replaces is not None and conversation.created_at is None:
            raise not_found()
        messages, blobs = media.take_out(asked.messages, new_id)
        for _ in range(TRIES):
            try:
                started = self._begin(conversation, asked, messages, blobs)
            except IntegrityError as error:
                conversation = self._after_race(conversation, asked.key, error)
                continue
            except OperationalError as error:
                if not has_lost(error):
                    raise
                raise ConversationBusyError(BUSY) from error
            if started is not None:
                return started
            conversation = self._look_again(conversation, asked.key)
        raise ConversationBusyError(BUSY)

    def _begin(
        self, conversation: Conversation, asked: Asked, messages: list[Message], blobs: list[media.Blob]
    ) -> Started | None:
        """Begin a turn in one transaction; None where the conversation is held."""
        known = rows.known_files(conversation.id, blobs) if blobs and conversation.created_at else {}
        messages = media.rename(messages, {blob.id: known.get(blob.sha256, blob.id) for blob in blobs})
        text, beyond = details.of_question(messages)
        turn = Turn(
            new_id(), conversation.id, 1, key=asked.key, state=asked.state, question=text, details=beyond
        )
        saved = rows.save_files(conversation.id, [blob for blob in blobs if blob.sha256 not in known])
        started = None
        try:
            with rows.atomic():
                started = open_turn(conversation, asked, turn)
                if started is not None:
                    rows.insert_turn(started.turn)
                    rows.insert_files(saved)
        finally:
            if started is None:
                rows.remove_files(saved)
        return started

    def _refuse_duplicate(self, conversation: Conversation, key: str) -> None:
        for turn in rows.to_turns(rows.turns_of(conversation).filter(key=key)):
            raise DuplicateTurnError(DUPLICATE, turn)

    def _after_race(self, conversation: Conversation, key: str | None, error: IntegrityError) -> Conversation:
        """Return the conversation that another was first to make, or raise for what it was first to do."""
        is_new = conversation.created_at is None
        found = self.find(conversation.owner, (is_new and conversation.client_id) or conversation.id)
        if found is None and is_new:
            raise error
        if found is None:
            raise not_found() from error
        if key is not None:
            self._refuse_duplicate(found, key)
        if not is_new:
            raise error
        return found

    def _look_again(self, conversation: Conversation, key: str | None) -> Conversation:
        """Return the conversation as it is now, free; raise where it is not there, or held by a live turn."""
        found = self.find(conversation.owner, conversation.id)
        if found is None:
            raise not_found()
        if found.running is None or self.settle_dangling(found):
            return found
        if key is not None:
            self._refuse_duplicate(found, key)
        turn = self.turn(found, found.running)
        if turn is None or turn.state != "running":
            return found
        raise ConversationBusyError(BUSY, turn)

    @retried
    def settle(self, turn: Turn, ending: Ending, *, was: str = "running") -> bool:
        beyond, blobs = media.take_out_of_answer(ending.details, new_id)
        known = rows.known_files(turn.conversation, blobs) if blobs else {}
        if known:
            ids = {blob.id: known.get(blob.sha256, blob.id) for blob in blobs}
            beyond = media.each_answer(beyond, lambda messages: media.rename(messages, ids))
        ending = dataclasses.replace(ending, details=beyond)
        saved = rows.save_files(turn.conversation, [blob for blob in blobs if blob.sha256 not in known])
        is_kept = False
        try:
            with rows.atomic():
                found = rows.all_turns().filter(pk=turn.id, state=was)
                if found.update(**rows.columns_of(ending)):
                    rows.insert_files(saved)
                    free = {"running": None, "leased_until": None, "updated_at": timezone.now()}
                    rows.all_conversations().filter(pk=turn.conversation).filter(
                        Q(running=turn.id) | Q(running=None)
                    ).update(**free)
                    is_kept = True
        finally:
            if not is_kept:
                rows.remove_files(saved)
        return is_kept

    @retried
    def withdraw(self, turn: Turn) -> bool:
        with rows.atomic():
            if not rows.all_turns().filter(pk=turn.id, state="running").delete()[0]:
                return False
            found = rows.all_conversations().filter(pk=turn.conversation, running=turn.id)
            if turn.attempt == 1 and found.filter(created_at=turn.created_at).delete()[0]:
                return True
            if turn.attempt == 1:
                found.update(running=None, leased_until=None, length=F("length") - 1)
                return True
            found.update(running=None, leased_until=None)
            tries = rows.all_turns().filter(conversation=turn.conversation, position=turn.position)
            show(turn.conversation, tries.order_by("-attempt").values_list("pk", flat=True)[0])
            return True

    @retried
    def select(self, conversation: Conversation, turn: UUID) -> None:
        for _ in range(TRIES):
            with rows.atomic():
                if rows.same(conversation).filter(running=None).update(updated_at=timezone.now()):
                    show(conversation.id, turn)
                    return
            conversation = self._look_again(conversation, None)
        raise ConversationBusyError(BUSY)

    def turns(
        self, conversation: Conversation, before: int | None = None, limit: int | None = PAGE
    ) -> Sequence[Turn]:
        found = rows.turns_of(conversation).filter(active=True).order_by("-position")
        if before is not None:
            found = found.filter(position__lt=before)
        page = rows.to_turns(found if limit is None else found[:limit])[::-1]
        if not page:
            return page
        tries: dict[int, list[UUID]] = {}
        among = rows.all_turns().filter(
            conversation=conversation.id, position__range=(page[0].position, page[-1].position)
        )
        for id, position in among.order_by("position", "attempt").values_list("pk", "position"):
            tries.setdefault(position, []).append(id)
        return [dataclasses.replace(turn, attempts=tuple(tries[turn.position])) for turn in page]

    def turn(self, conversation: Conversation, id: UUID) -> Turn | None:
        return next(iter(rows.to_turns(rows.turns_of(conversation).filter(pk=id))), None)

    def files(self, conversation: Conversation, ids: Iterable[UUID]) -> Mapping[UUID, bytes]:
        if not (wanted := list(ids)):
            return {}
        owner = conversation.owner
        found = models.Media.objects.using(rows.database()).filter(
            pk__in=wanted,
            conversation=conversation.id,
            conversation__owner_type=owner.type,
            conversation__owner_id=owner.id,
        )
        return {row.id: content for row in found if (content := rows.read_file(row)) is not None}

    def dangling(self, conversation: Conversation | None = None) -> Sequence[Turn]:
        found = rows.all_turns().filter(
            state="running",
            conversation__running=F("pk"),
            conversation__leased_until__lt=rows.DatabaseNow(),
        )
        return rows.to_turns(found if conversation is None else found.filter(conversation=conversation.id))


def _only(found: Any) -> Conversation | None:
    row = next(iter(found[:1]), None)
    return rows.to_conversation(cast("models.Conversation", row)) if row is not None else None
