"""A new turn's place in a conversation: at its end, or in place of another; inside a transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any
from uuid import UUID

from django.db.models import F, Q
from django.utils import timezone

from bupple_engine.conversations.values import Asked, Conversation, Started, Turn

from . import rows
from .base import PAGE, branch_of, not_found


def open_turn(conversation: Conversation, asked: Asked, turn: Turn) -> Started | None:
    """Take the conversation for a turn. The first statement writes, so that SQLite locks at once."""
    held: dict[str, Any] = {}
    if asked.state == "running":
        held = {"running": turn.id, "leased_until": rows.in_seconds(asked.lease_seconds)}
    if conversation.created_at is None:
        kept = rows.insert_conversation(conversation, length=1, **held)
        turn = dataclasses.replace(turn, created_at=kept.created_at)
        return Started(turn, dataclasses.replace(kept, running=held.get("running")), iter(()))
    free, now = rows.same(conversation).filter(running=None), timezone.now()
    held["updated_at"] = now
    turn = dataclasses.replace(turn, created_at=now)
    if asked.replaces is not None:
        return _replace(conversation, asked, turn) if free.update(**held) else None
    held["length"] = F("length") + 1
    if free.filter(length=conversation.length).update(**held):
        conversation = dataclasses.replace(conversation, length=conversation.length + 1)
    elif free.update(**held):
        conversation = rows.to_conversation(rows.same(conversation).get())
    else:
        return None
    return _place(conversation, turn, conversation.length)


def _place(conversation: Conversation, turn: Turn, position: int) -> Started:
    """Give a turn its place: behind the active turns, and the hidden attempts at that place."""
    of_it = rows.all_turns().filter(conversation=conversation.id, position__lte=position)
    found = of_it.filter(Q(active=True) | Q(position=position)).order_by("-position", "-attempt")
    read = rows.to_turns(found[:PAGE])
    page = [each for each in read if each.position < position]
    attempt = 1 + max((each.attempt for each in read if each.position == position), default=0)
    history = _pages(conversation.id, page, position, more=len(read) == PAGE)
    before = [*islice(history, 1)]
    after = before[0].attempt if before else 0
    turn = dataclasses.replace(turn, position=position, attempt=attempt, after=after)
    running = turn.id if turn.state == "running" else None
    conversation = dataclasses.replace(conversation, running=running, updated_at=turn.created_at)
    return Started(turn, conversation, chain(before, history))


def _replace(conversation: Conversation, asked: Asked, turn: Turn) -> Started:
    """Put a new attempt in place of a turn, and hide what followed."""
    of_it = rows.all_turns().filter(conversation=conversation.id)
    found = rows.to_turns(of_it.filter(pk=asked.replaces))
    if not found:
        raise not_found()
    old = found[0]
    if not asked.messages:
        beyond = {name: old.details[name] for name in ("v", "question") if name in old.details}
        turn = dataclasses.replace(turn, question=old.question, details=beyond)
    of_it.filter(position__gte=old.position, active=True).update(active=False)
    rows.same(conversation).update(length=old.position)
    return _place(dataclasses.replace(conversation, length=old.position), turn, old.position)


def _pages(conversation: UUID, page: list[Turn], before: int, *, more: bool) -> Iterator[Turn]:
    while page or more:
        yield from page
        before = page[-1].position if page else before
        found = rows.all_turns().filter(conversation=conversation, active=True, position__lt=before)
        page = rows.to_turns(found.order_by("-position")[:PAGE]) if more else []
        more = len(page) == PAGE


def show(conversation: UUID, turn: UUID) -> None:
    """Have the branch of a turn be the one that is shown."""
    of_it = rows.all_turns().filter(conversation=conversation)
    known = list(of_it.values_list("pk", "position", "attempt", "after", "active"))
    chosen = branch_of(turn, [row[:4] for row in known])
    of_it.filter(pk__in=[row[0] for row in known if row[4] and row[0] not in chosen]).update(active=False)
    of_it.filter(pk__in=[row[0] for row in known if not row[4] and row[0] in chosen]).update(active=True)
    rows.all_conversations().filter(pk=conversation).update(length=len(chosen))
