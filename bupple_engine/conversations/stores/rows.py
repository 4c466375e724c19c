"""Rows of the three tables as values, and what finds them by their owner."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.files.base import ContentFile
from django.db import router, transaction
from django.db.models import Q, QuerySet
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Now
from django.utils import timezone

from bupple_engine.conversations import details, models
from bupple_engine.conversations.media import Blob
from bupple_engine.conversations.values import Conversation, Ending, Turn
from bupple_engine.types import Owner

_TURN = tuple(name for name in Turn.__dataclass_fields__ if name != "attempts")
_COLUMNS = tuple("conversation_id" if name == "conversation" else name for name in _TURN)


class DatabaseNow(Now):
    """The database's clock, which all processes share; MySQL's would be in the time zone of its session."""

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **context)


def in_seconds(seconds: float) -> CombinedExpression:
    """Return the time in so many seconds, by the database's clock."""
    return DatabaseNow() + timedelta(seconds=seconds)


def database() -> str:
    """Return the alias that conversations are written to, and read from: a replica may lag behind."""
    return router.db_for_write(models.Conversation)


def atomic() -> transaction.Atomic:
    """Return a transaction of that database."""
    return transaction.atomic(using=database())


def all_conversations() -> QuerySet[models.Conversation]:
    return models.Conversation.objects.using(database())


def all_turns() -> QuerySet[models.Turn]:
    return models.Turn.objects.using(database())


def conversations_of(owner: Owner) -> QuerySet[models.Conversation]:
    return all_conversations().filter(owner_type=owner.type, owner_id=owner.id)


def same(conversation: Conversation) -> QuerySet[models.Conversation]:
    """Return the conversation's row, if it is its owner's."""
    return conversations_of(conversation.owner).filter(pk=conversation.id)


def turns_of(conversation: Conversation) -> QuerySet[models.Turn]:
    """Return a conversation's turns, if it is its owner's."""
    owner = conversation.owner
    return all_turns().filter(
        conversation=conversation.id,
        conversation__owner_type=owner.type,
        conversation__owner_id=owner.id,
    )


def by_id(id: UUID | str) -> Q:
    """Return what finds a conversation by its id, or by the client's, which may look like one."""
    if isinstance(id, UUID):
        return Q(pk=id)
    try:
        return Q(pk=UUID(id)) | Q(client_id=id)
    except ValueError:
        return Q(pk__in=()) if "\0" in id else Q(client_id=id)  # which PostgreSQL takes in no parameter


def to_conversation(row: models.Conversation) -> Conversation:
    return Conversation(
        id=row.id,
        owner=Owner(row.owner_type, row.owner_id),
        client_id=row.client_id,
        title=row.title,
        system=row.system,
        length=row.length,
        running=row.running,
        metadata=row.metadata,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def to_turns(rows: QuerySet[models.Turn]) -> list[Turn]:
    """Return rows as values; no instances of the model are made."""
    found = []
    for values in rows.values_list(*_COLUMNS):
        facts: dict[str, Any] = dict(zip(_TURN, values, strict=True))
        found.append(Turn(**{**facts, "details": details.read(facts["details"])}))
    return found


def insert_conversation(new: Conversation, **fields: Any) -> Conversation:
    now = timezone.now()
    row = models.Conversation(
        id=new.id,
        owner_type=new.owner.type,
        owner_id=new.owner.id,
        client_id=new.client_id,
        title=new.title,
        system=new.system,
        created_at=now,
        updated_at=now,
        **fields,
    )
    row.save(using=database(), force_insert=True)
    return to_conversation(row)


def insert_turn(turn: Turn) -> None:
    values = {column: getattr(turn, name) for column, name in zip(_COLUMNS, _TURN, strict=True)}
    models.Turn(**values).save(using=database(), force_insert=True)


def columns_of(ending: Ending) -> dict[str, Any]:
    """Return what an ending writes into its turn; texts that are too long for their column are cut."""
    values = {name: details.storable(getattr(ending, name)) for name in Ending.__dataclass_fields__}
    for name, limit in (("driver", 100), ("model", 200), ("finish_reason", 20), ("error_type", 60)):
        values[name] = values[name][:limit]
    return values | {"ended_at": timezone.now()}


def known_files(conversation: UUID, blobs: Iterable[Blob]) -> dict[str, UUID]:
    """Return the ids of the files that a conversation has already, by their digest."""
    rows = models.Media.objects.using(database()).filter(
        conversation=conversation, sha256__in=[blob.sha256 for blob in blobs]
    )
    return dict(rows.values_list("sha256", "id"))


def save_files(conversation: UUID, blobs: Iterable[Blob]) -> list[models.Media]:
    """Put files into the storage, and return their rows, which are to be inserted."""
    saved: list[models.Media] = []
    try:
        for blob in blobs:
            row = models.Media(
                id=blob.id,
                conversation_id=conversation,
                sha256=blob.sha256,
                mime_type=blob.mime_type[:100],
                size=len(blob.data),
                filename=blob.filename,
                created_at=timezone.now(),
            )
            row.file.save("", ContentFile(blob.data), save=False)
            saved.append(row)
    except BaseException:
        remove_files(saved)
        raise
    return saved


def insert_files(rows: list[models.Media]) -> None:
    if rows:
        models.Media.objects.using(database()).bulk_create(rows)


def read_file(row: models.Media) -> bytes | None:
    """Return a file's content, None where the storage has lost it."""
    try:
        with row.file.open("rb") as file:
            content: bytes = file.read()
            return content
    except FileNotFoundError:
        return None


def remove_files(rows: Iterable[models.Media]) -> None:
    """Take files away whose rows were never inserted."""
    for row in rows:
        row.file.storage.delete(str(row.file.name))
