"""One contract suite over every place where conversations are kept; then what is peculiar to each."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bupple_engine import InvalidRequestError, memory
from bupple_engine.calls.seams import new_id
from bupple_engine.conversations import models
from bupple_engine.conversations.exceptions import (
    ConversationBusyError,
    ConversationNotFoundError,
    DuplicateTurnError,
)
from bupple_engine.conversations.memory import Memory
from bupple_engine.conversations.stores.base import Store
from bupple_engine.conversations.values import Asked, Conversation, Ending, Started
from bupple_engine.types import Owner
from tests.conversations.stores import (
    CACHES,
    DATABASES,
    marked,
)

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"picture" * 40).decode()
NOBODY = Owner("nobody", "1")


def ask(store: Store, owner: Owner, text: str = "Hello", **facts: Any) -> Started:
    """Begin a turn in the owner's latest conversation."""
    conversation = store.latest(owner) or Conversation(new_id(), owner)
    return store.begin(conversation, Asked([{"role": "user", "content": text}], **facts))


def answer(store: Store, started: Started, text: str = "Yes", state: Any = "complete", **facts: Any) -> None:
    assert store.settle(started.turn, Ending(state, text, started.turn.details, **facts))


def said(chat: Memory) -> list[tuple[str, Any]]:
    return [(message["role"], message["content"]) for message in chat.get_messages()]


# A turn


def test_a_question_is_kept_before_its_answer(store: Store, owner: Owner) -> None:
    started = ask(store, owner, "Hello")
    (turn,) = store.turns(started.conversation)
    assert (turn.question, turn.state, turn.position, turn.attempt) == ("Hello", "running", 1, 1)
    assert turn.attempts == (turn.id,)
    found = store.latest(owner)
    assert found is not None
    assert (found.running, found.length) == (turn.id, 1)
    assert list(started.history) == []
    answer(
        store, started, "Hi", driver="echo", model="m", prompt_tokens=3, finish_reason="stop", duration=0.5
    )
    (turn,) = store.turns(found)
    assert (turn.answer, turn.state, turn.prompt_tokens, turn.total_tokens) == ("Hi", "complete", 3, None)
    assert turn.ended_at is not None
    again = store.latest(owner)
    assert again is not None
    assert again.running is None


def test_a_running_turn_holds_its_conversation(store: Store, owner: Owner) -> None:
    first = ask(store, owner)
    with pytest.raises(ConversationBusyError) as raised:
        ask(store, owner, "Again")
    assert raised.value.turn is not None
    assert raised.value.turn.id == first.turn.id
    assert raised.value.code == 409
    answer(store, first)
    second = ask(store, owner, "Again")
    assert second.turn.position == 2
    assert [turn.id for turn in second.history] == [first.turn.id]


def test_only_the_first_settles(store: Store, owner: Owner) -> None:
    started = ask(store, owner)
    answer(store, started, "first")
    assert not store.settle(started.turn, Ending("failed", "second"))
    assert store.turns(started.conversation)[0].answer == "first"


def test_a_dead_turn_is_settled_by_whoever_comes_next(store: Store, owner: Owner) -> None:
    dead = ask(store, owner, "first", lease_seconds=0.2)
    time.sleep(0.5)  # the lease is the store's own clock's
    assert [turn.id for turn in store.dangling(dead.conversation)] == [dead.turn.id]
    second = ask(store, owner, "second")
    (turn,) = second.history
    assert (turn.state, turn.answer, turn.ended_by) == ("interrupted", "", "lease")
    assert second.turn.position == 2
    assert store.dangling(second.conversation) == []
    assert not store.settle(dead.turn, Ending("complete", "too late"))


def test_a_dead_turn_is_settled_when_it_is_looked_at(store: Store, chat: Memory, owner: Owner) -> None:
    ask(store, owner, lease_seconds=0.2)
    time.sleep(0.5)
    (turn,) = chat.get_turns()
    assert (turn.state, turn.ended_by) == ("interrupted", "lease")


@pytest.mark.parametrize("is_new", [True, False])
def test_a_refused_turn_leaves_nothing(is_new: bool, store: Store, owner: Owner) -> None:
    if not is_new:
        answer(store, ask(store, owner))
    assert store.withdraw(ask(store, owner, "refused").turn)
    found = store.latest(owner)
    if is_new:
        assert found is None
        return
    assert found is not None
    assert (found.length, found.running) == (1, None)
    started = ask(store, owner, "next")
    assert started.turn.position == 2
    answer(store, started)
    assert not store.withdraw(started.turn)


# Keys


def test_a_key_makes_one_turn(store: Store, owner: Owner) -> None:
    started = ask(store, owner, key="k1")
    for state in ("running", "complete"):
        with pytest.raises(DuplicateTurnError) as raised:
            ask(store, owner, "other", key="k1")
        assert raised.value.turn is not None
        assert (raised.value.turn.id, raised.value.turn.state) == (started.turn.id, state)
        if state == "running":
            answer(store, started)
    assert ask(store, owner, key="K1").turn.position == 2  # MySQL would by itself take it for the same


def test_a_clients_id_makes_one_conversation(store: Store, owner: Owner) -> None:
    first, again = store.create(owner, "chat-1"), store.create(owner, "chat-1")
    assert first.id == again.id
    assert store.create(owner, "Chat-1").id != first.id
    assert store.create(Owner(owner.type, owner.id.upper() + "x"), "chat-1").id != first.id
    found = store.find(owner, "chat-1")
    assert found is not None
    assert found.id == first.id
    named = memory(owner, "chat-2", new=True)
    assert named.id is None
    named.add_user_message("Hello")
    assert memory(owner, "chat-2", new=True).get_messages() == [{"role": "user", "content": "Hello"}]
    late = store.begin(Conversation(new_id(), owner, "chat-2"), Asked([{"role": "user", "content": "More"}]))
    assert late.conversation.id == named.id
    assert late.turn.position == 2


# Attempts


def test_a_new_attempt_keeps_what_it_replaces(store: Store, chat: Memory, owner: Owner) -> None:
    turns = []
    for text in ("one", "two", "three"):
        started = ask(store, owner, text)
        answer(store, started, text.upper())
        turns.append(started.turn)
    again = ask_instead(store, owner, turns[1].id, None)
    assert (again.turn.question, again.turn.position, again.turn.attempt) == ("two", 2, 2)
    assert [turn.question for turn in again.history] == ["one"]
    answer(store, again, "ZWEI")
    assert said(chat)[2:] == [("user", "two"), ("assistant", "ZWEI")]
    edited = ask_instead(store, owner, again.turn.id, "too")
    answer(store, edited, "TOO")
    assert [turn.attempts for turn in chat.get_turns()][1] == (turns[1].id, again.turn.id, edited.turn.id)
    follow = ask(store, owner, "four")
    answer(store, follow, "FOUR")
    assert (follow.turn.position, follow.turn.attempt, follow.turn.after) == (3, 2, 3)
    chat.select(turns[1].id)
    assert [turn.question for turn in chat.get_turns()] == ["one", "two", "three"]
    assert ask(store, owner, "five").turn.position == 4
    with pytest.raises(ConversationBusyError):
        chat.select(edited.turn)


def ask_instead(store: Store, owner: Owner, turn: uuid.UUID, text: str | None) -> Started:
    conversation = store.latest(owner)
    assert conversation is not None
    return store.begin(
        conversation, Asked([{"role": "user", "content": text}] if text else [], replaces=turn)
    )


def test_sixty_attempts_hide_no_history(store: Store, owner: Owner) -> None:
    answer(store, ask(store, owner, "first"))
    started = ask(store, owner, "second")
    answer(store, started)
    for _ in range(60):
        started = ask_instead(store, owner, started.turn.id, None)
        answer(store, started)
    assert [turn.question for turn in started.history] == ["first"]
    assert (started.turn.attempt, started.turn.after) == (61, 1)


def test_a_refused_attempt_gives_its_place_back(store: Store, chat: Memory, owner: Owner) -> None:
    first, second = ask(store, owner, "one"), None
    answer(store, first, "ONE")
    second = ask(store, owner, "two")
    answer(store, second, "TWO")
    again = ask_instead(store, owner, first.turn.id, "uno")
    assert store.withdraw(again.turn)
    assert [turn.id for turn in chat.get_turns()] == [first.turn.id, second.turn.id]


def test_what_is_replaced_must_be_there(store: Store, owner: Owner) -> None:
    answer(store, ask(store, owner))
    with pytest.raises(ConversationNotFoundError):
        ask_instead(store, owner, new_id(), "edit")
    with pytest.raises(ConversationNotFoundError):
        store.begin(Conversation(new_id(), owner), Asked([], replaces=new_id()))
    assert ask(store, owner).turn.position == 2


# Whose it is


def test_what_is_anothers_is_not_there(store: Store, owner: Owner) -> None:
    started = ask(store, owner, "secret")
    answer(store, started)
    mine = started.conversation
    for other in (
        Owner("Other", owner.id),
        Owner(owner.type, owner.id + "0"),
        Owner(owner.type, owner.id.upper()),
        Owner(owner.type.lower(), owner.id),
    ):
        assert store.find(other, mine.id) is None
        assert store.find(other, str(mine.id)) is None
        assert store.latest(other) is None
        assert store.conversations(other) == []
        theirs = Conversation(mine.id, other, length=1, created_at=mine.created_at)
        assert list(store.turns(theirs)) == []
        assert store.turn(theirs, started.turn.id) is None
        assert not store.update(theirs, title="stolen")
        assert store.files(theirs, [started.turn.id]) == {}
        assert store.dangling(theirs) == []
        store.erase(theirs)
        for steal in (
            lambda it=theirs: store.begin(it, Asked([{"role": "user", "content": "x"}])),
            lambda it=theirs: store.begin(it, Asked([], replaces=started.turn.id)),
            lambda it=theirs: store.add_system(it, "x"),
            lambda it=theirs: store.select(it, started.turn.id),
        ):
            with pytest.raises(ConversationNotFoundError):
                steal()
        for verb in (Memory.get_messages, Memory.get_turns, Memory.clear):
            with pytest.raises(ConversationNotFoundError):
                verb(memory(other, mine.id))
    assert store.find(owner, mine.id) == store.latest(owner)
    assert store.turns(mine)[0].question == "secret"


def test_an_id_that_is_none_is_not_there(store: Store, owner: Owner) -> None:
    for id in ("nonsense", "x" * 500, "ä\0b", str(new_id()), new_id()):
        with pytest.raises(ConversationNotFoundError):
            memory(owner, id).get_messages()
    with pytest.raises(ConversationNotFoundError):
        memory.any(new_id())


def test_any_checks_nothing(store: Store, chat: Memory, owner: Owner) -> None:
    chat.add_user_message("Hello")
    assert chat.id is not None
    assert memory.any(str(chat.id)).get_messages() == chat.get_messages()
    assert memory.any(chat.id).owner == owner


# The list


def test_the_list_is_read_in_pages(store: Store, owner: Owner) -> None:
    made = [store.create(owner, f"c{number}") for number in range(5)]
    store.add_system(made[0], "used last")
    first = store.conversations(owner, limit=2)
    second = store.conversations(owner, first[-1], limit=2)
    third = store.conversations(owner, second[-1], limit=2)
    names = [each.client_id for each in (*first, *second, *third)]
    assert names == ["c0", "c4", "c3", "c2", "c1"]
    assert store.conversations(owner, third[-1]) == []


def test_a_title_that_is_made_never_overwrites_a_persons(store: Store, chat: Memory) -> None:
    chat.rename(" Trip to Rome ")
    found = chat.look()
    assert found is not None
    assert not store.update(found, title="made", keep_title=True)
    assert store.update(found, metadata={"tag": 1})
    assert chat.look() is not None
    assert (chat.title, chat.look().metadata) == ("Trip to Rome", {"tag": 1})  # type: ignore[union-attr]
    assert store.update(found, title="x" * 300)
    assert len(chat.look().title) == 200  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="title"):
        chat.rename("  ")


def test_turns_are_read_in_pages(store: Store, chat: Memory, owner: Owner) -> None:
    for number in range(7):
        answer(store, ask(store, owner, str(number)))
    assert [turn.position for turn in chat.get_turns(limit=3)] == [5, 6, 7]
    assert [turn.position for turn in chat.get_turns(before=5, limit=3)] == [2, 3, 4]
    assert [turn.position for turn in chat.get_turns(before=2)] == [1]
    assert len(chat.get_messages()) == 14
    assert [message["content"] for message in chat.get_messages(limit=1)] == ["6", "Yes"]


def test_a_long_history_is_read_as_it_is_asked_for(store: Store, owner: Owner) -> None:
    for number in range(60):
        answer(store, ask(store, owner, str(number)))
    started = ask(store, owner, "now")
    assert [turn.question for turn in started.history] == [str(number) for number in range(59, -1, -1)]


# The verbs of the package that this one follows


def test_messages_come_back_in_order(chat: Memory) -> None:
    assert chat.get_messages() == []
    chat.add_user_message("What is this?", metadata={"lang": "en"})
    chat.add_assistant_message("A cat.", metadata={"mood": "calm"})
    chat.add_system_message("Be brief.")
    chat.add_message("system", "Be kind.")
    chat.add_user_message("And that?")
    chat.add_user_message("The other one?")
    chat.add_message("assistant", "A dog.")
    chat.add_assistant_message("Anything else?")
    assert chat.get_messages() == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        {"role": "user", "content": "What is this?", "metadata": {"lang": "en"}},
        {"role": "assistant", "content": "A cat.", "metadata": {"mood": "calm"}},
        {"role": "user", "content": "And that?"},
        {"role": "user", "content": "The other one?"},
        {"role": "assistant", "content": "A dog."},
        {"role": "assistant", "content": "Anything else?"},
    ]


def test_a_message_id_that_was_used_changes_nothing(chat: Memory) -> None:
    for _ in range(2):
        chat.add_system_message("Be brief.", message_id="s")
        chat.add_user_message("Hello", message_id="u")
        chat.add_assistant_message("Hi", message_id="a")
        chat.add_assistant_message("Anything else?", message_id="b")
    assert [message["content"] for message in chat.get_messages()] == [
        "Be brief.",
        "Hello",
        "Hi",
        "Anything else?",
    ]
    assert [turn.key for turn in chat.get_turns()] == ["u", "b"]


async def test_each_verb_can_be_awaited(chat: Memory) -> None:
    await chat.aadd_system_message("Be brief.")
    await chat.aadd_user_message("Hello")
    await chat.aadd_assistant_message("Hi")
    await chat.aadd_message("user", "And?")
    await chat.arename("Greeting")
    assert [message["content"] for message in await chat.aget_messages()] == [
        "Be brief.",
        "Hello",
        "Hi",
        "And?",
    ]
    turns = await chat.aget_turns(limit=1)
    assert turns[0].question == "And?"
    await chat.aselect(turns[0])
    assert [each.title for each in await chat.aconversations()] == ["Greeting"]
    await chat.aclear()
    assert await chat.aget_messages() == []
    await sync_to_async(connections.close_all)()


@pytest.mark.parametrize(
    ("message", "where"),
    [
        (("wizard", "Hello"), "role"),
        (("user", ""), "content"),
        (("user", 7), "content"),
        (("user", "x", "video"), "type"),
        (("user", "no base64!", "image"), "content"),
        (("user", "x", "text", "not a dict"), "metadata"),
    ],
)
def test_a_wrong_message_is_refused(message: tuple[Any, ...], where: str, chat: Memory) -> None:
    with pytest.raises(InvalidRequestError, match=where):
        chat.add_message(*message)
    assert chat.get_messages() == []


@pytest.mark.parametrize("key", ["", " x", "x" * 65, "a\0b", 7])
def test_a_wrong_key_is_refused(key: Any, chat: Memory) -> None:
    with pytest.raises(ValueError, match="1 to 64 characters"):
        chat.keyed(key)
    with pytest.raises(ValueError, match="1 to 64 characters"):
        chat.add_user_message("Hello", message_id=key)


def test_a_cleared_conversation_is_gone(store: Store, chat: Memory, owner: Owner) -> None:
    chat.add_user_message("Hello", message_id="k")
    old = chat.id
    other = memory(owner, new=True)
    other.add_user_message("Other")
    chat.clear()
    assert chat.id is None
    assert store.find(owner, old) is None if old else False
    assert other.get_messages() == [{"role": "user", "content": "Other"}]
    chat.add_user_message("Again", message_id="k")
    assert chat.id not in (old, None)
    again = memory(owner, chat.id)
    again.clear()
    again.add_user_message("Once more")
    assert [each.client_id for each in store.conversations(owner)] == [None, None]
    with pytest.raises(ConversationNotFoundError):
        chat.get_messages()


def test_what_is_keyed_goes_on_with_the_same_conversation(store: Store, owner: Owner) -> None:
    chat = memory(owner, new=True)
    for key in ("a", "b"):
        keyed = chat.keyed(key)
        started = store.begin(keyed.unkept(), Asked([{"role": "user", "content": key}], keyed.key))
        keyed.note(started.conversation)
        answer(store, started)
    assert [turn.question for turn in chat.get_turns()] == ["a", "b"]
    assert (chat.key, chat.replacing(started.turn).replaces) == (None, started.turn.id)
    chat.keyed("c").clear()
    assert chat.id is None


def test_text_of_every_kind_comes_back(chat: Memory) -> None:
    chat.add_user_message(
        "nul \0, emoji 😀, ünï, \u2028 and  spaces ", metadata={"n\0": [1.5, None, float("nan")]}
    )
    (message,) = chat.get_messages()
    assert message["content"] == "nul \ufffd, emoji 😀, ünï, \u2028 and  spaces "
    assert message["metadata"] == {"n\ufffd": [1.5, None, None]}


# Media


def test_media_come_back_as_they_were(chat: Memory) -> None:
    picture = {"type": "image", "content": PNG, "metadata": {"filename": "cat.png"}}
    chat.add_user_message([{"content": "Look:"}, picture])  # type: ignore[list-item]
    chat.add_user_message(PNG, type="image")
    chat.add_assistant_message(PNG, type="image")
    chat.add_user_message("https://example.com/dog.png", type="image")
    first, second, answered, url = chat.get_messages()
    assert first["content"][1]["content"] == PNG  # type: ignore[index]
    assert (second["content"], second["type"]) == (PNG, "image")
    assert (answered["content"], answered["type"]) == (PNG, "image")
    assert url["content"] == "https://example.com/dog.png"
    assert chat.get_turns()[0].question == "Look:"


def test_the_same_picture_is_one_file(keep: Callable[..., Store], owner: Owner) -> None:
    keep("sqlite")
    chat = memory(owner)
    for _ in range(3):
        chat.add_user_message(PNG, type="image")
        chat.add_assistant_message(PNG, type="image")
    names = default_storage.listdir(f"bupple/{chat.id}")[1]
    assert len(names) == 1
    assert "picture" not in str(chat.get_turns())
    started = ask(chat.store, owner)
    with pytest.raises(ConversationBusyError):
        chat.add_user_message(base64.b64encode(b"\x89PNG\r\n\x1a\nother").decode(), type="image")
    assert default_storage.listdir(f"bupple/{chat.id}")[1] == names
    answer(chat.store, started)
    default_storage.delete(f"bupple/{chat.id}/{names[0]}")
    assert (
        chat.get_messages()[0]
        == {
            "role": "user",
            "type": "text",
            "content": "[image]",
            "metadata": {"mime_type": "image/png"},
        }
        or chat.get_messages()[0]["content"] == "[image]"
    )


@pytest.mark.parametrize("kind", marked(DATABASES))
def test_erased_files_are_gone(kind: str, keep: Callable[..., Store], owner: Owner) -> None:
    keep(kind)
    chat = memory(owner)
    chat.add_user_message(PNG, type="image")
    folder = f"bupple/{chat.id}"
    assert default_storage.listdir(folder)[1]
    chat.clear()
    assert not default_storage.listdir(folder)[1]


@pytest.mark.parametrize("kind", CACHES)
def test_a_cache_takes_no_large_file(kind: str, keep: Callable[..., Store], owner: Owner) -> None:
    keep(kind)
    chat = memory(owner)
    large = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"x" * 300_000).decode()
    chat.add_user_message([{"type": "image", "content": large, "metadata": {"filename": "cat.png"}}])
    assert chat.get_messages()[0]["content"] == [{"content": "[image: cat.png]"}]


# What is peculiar


def count(kind: str) -> CaptureQueriesContext:
    return CaptureQueriesContext(connections[kind])


def without_frame(queries: CaptureQueriesContext) -> list[str]:
    """Return the statements, without those that begin and end a transaction."""
    frame = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")
    return [each["sql"] for each in queries.captured_queries if not each["sql"].startswith(frame)]


@pytest.mark.parametrize("kind", marked(DATABASES))
@pytest.mark.parametrize("rows", [1, 1000])
def test_a_turn_takes_few_statements(rows: int, kind: str, keep: Callable[..., Store], owner: Owner) -> None:
    store = keep(kind)
    conversation = store.create(owner)
    now = timezone.now()
    models.Turn.objects.using(kind).bulk_create(
        models.Turn(
            id=new_id(),
            conversation_id=conversation.id,
            position=number + 1,
            after=min(number, 1),
            state="complete",
            question="q",
            answer="a",
            created_at=now,
        )
        for number in range(rows)
    )
    models.Conversation.objects.using(kind).filter(pk=conversation.id).update(length=rows)
    models.Conversation.objects.using(kind).bulk_create(
        models.Conversation(
            id=new_id(),
            owner_type=owner.type,
            owner_id=owner.id,
            created_at=now,
            updated_at=now,
        )
        for _ in range(rows)
    )
    chat = memory(owner, conversation.id)
    asked = Asked([{"role": "user", "content": "now"}])
    with count(kind) as queries:
        started = store.begin(chat.unkept(), asked)
        assert len(list(zip(range(50), started.history, strict=False))) == min(rows, 50)
    assert len(without_frame(queries)) <= 4, without_frame(queries)
    with count(kind) as queries:
        answer(store, started)
    assert len(without_frame(queries)) == 2, without_frame(queries)
    with count(kind) as queries:
        assert len(store.conversations(owner)) == min(rows + 1, 50)
    assert len(without_frame(queries)) == 1
    with count(kind) as queries:
        assert len(store.turns(started.conversation)) == min(rows + 1, 50)
    assert len(without_frame(queries)) == 2
    with count(kind) as queries:
        assert store.find(owner, conversation.id) is not None
    assert len(without_frame(queries)) == 1
    with count(kind) as queries:
        store.begin(Conversation(new_id(), owner), asked)
    assert len(without_frame(queries)) == 2
    with count(kind) as queries:
        chat.clear()
    assert not any(" LIMIT " not in it and "question" in it for it in without_frame(queries)), queries


@pytest.mark.parametrize("kind", marked(DATABASES))
def test_a_later_releases_details_are_not_guessed_at(
    kind: str, keep: Callable[..., Store], owner: Owner
) -> None:
    store = keep(kind)
    started = ask(store, owner)
    models.Turn.objects.using(kind).filter(pk=started.turn.id).update(details={"v": 9})
    with pytest.raises(ValueError, match="version 9"):
        store.turns(started.conversation)


@pytest.mark.parametrize("kind", marked(DATABASES))
def test_the_migrations_go_up_and_down(kind: str, keep: Callable[..., Store]) -> None:
    keep(kind)
    call_command("migrate", "bupple_conversations", "zero", database=kind, verbosity=0)
    assert "bupple_conversations_turn" not in connections[kind].introspection.table_names()
    call_command("migrate", "bupple_conversations", database=kind, verbosity=0)
    call_command("makemigrations", "bupple_conversations", "--check", "--dry-run", verbosity=0)
