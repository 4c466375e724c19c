"""What eight processes do at the same moment to one conversation; each is set up as a site of its own."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

barrier: Barrier


def set_up(shared: Barrier, databases: dict[str, Any], caches: dict[str, Any]) -> None:
    """Prepare a process: the databases and caches that are raced for are known by their kinds."""
    global barrier
    barrier = shared
    import pymysql

    pymysql.install_as_MySQLdb()
    settings.configure(
        SECRET_KEY="tests",
        USE_TZ=True,
        INSTALLED_APPS=["bupple_engine", "bupple_engine.conversations"],
        DATABASES={"default": {}, **databases},
        DATABASE_ROUTERS=["tests.conversations.stores.Router"],
        CACHES={"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}, **caches},
        BUPPLE_ENGINE={"DRIVERS": {"echo": {}}},
    )
    django.setup()


def get_store(kind: str) -> Any:
    from bupple_engine.conversations.stores.cache import CacheStore
    from bupple_engine.conversations.stores.database import DatabaseStore
    from tests.conversations.stores import Router

    Router.alias = kind
    return CacheStore(kind) if kind == "redis" else DatabaseStore()


def ask_at_once(kind: str, owner: tuple[str, str], rounds: int) -> list[bool]:
    """Ask in each round at the same moment as the others; return in which the question was taken."""
    from bupple_engine.conversations.exceptions import ConversationBusyError
    from bupple_engine.conversations.values import Asked, Ending
    from bupple_engine.types import Owner

    store, won = get_store(kind), []
    for number in range(rounds):
        conversation = store.latest(Owner(*owner))
        started = None
        barrier.wait(60)
        with suppress(ConversationBusyError):
            started = store.begin(conversation, Asked([{"role": "user", "content": f"round {number}"}]))
        barrier.wait(60)  # nobody's answer ends before all have asked
        if started is not None:
            assert store.settle(started.turn, Ending("complete", "answered"))
        won.append(started is not None)
        barrier.wait(60)
    return won


def ask_in_turn(kind: str, owner: tuple[str, str], turns: int) -> int:
    """Ask again and again until so many questions were taken; return how often another's was running."""
    from bupple_engine.conversations.exceptions import ConversationBusyError
    from bupple_engine.conversations.values import Asked, Ending
    from bupple_engine.types import Owner

    store, refused, taken = get_store(kind), 0, 0
    conversation = store.latest(Owner(*owner))
    barrier.wait(60)
    while taken < turns:
        try:
            started = store.begin(conversation, Asked([{"role": "user", "content": "mine"}]))
        except ConversationBusyError:
            refused += 1
            time.sleep(0.002)
            continue
        assert store.settle(started.turn, Ending("complete", "answered"))
        taken += 1
    return refused


def create_at_once(kind: str, owner: tuple[str, str], client_id: str) -> tuple[str, bool]:
    """Begin the client's conversation at the same moment as the others, with the same key."""
    from bupple_engine.calls.seams import new_id
    from bupple_engine.conversations.exceptions import ConversationBusyError, DuplicateTurnError
    from bupple_engine.conversations.values import Asked, Conversation
    from bupple_engine.types import Owner

    store = get_store(kind)
    new = Conversation(new_id(), Owner(*owner), client_id)
    barrier.wait(60)
    try:
        started = store.begin(new, Asked([{"role": "user", "content": "first"}], key="click"))
    except DuplicateTurnError as error:
        return str(error.turn and error.turn.id), False
    except ConversationBusyError:
        return "", False
    return str(started.turn.id), True
