"""Two tabs, eight of them: processes that ask at the same moment, over every store that they can share."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from psycopg import IsolationLevel

from bupple_engine.conversations.stores.base import Store
from bupple_engine.conversations.stores.cache import CacheStore
from bupple_engine.types import Owner
from tests.conversations.racer import ask_at_once, ask_in_turn, create_at_once, set_up
from tests.conversations.stores import CACHES, DATABASES, SHARED, URLS, cache_settings, marked

TABS = 8
ROUNDS = int(os.environ.get("BUPPLE_RACE_ROUNDS", "20"))

Race = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Give the entry of CACHES that all processes share, {} where there is no server for it."""
    with suppress(pytest.skip.Exception):
        return {"redis": cache_settings("redis", Path(tmp_path_factory.mktemp("redis")))}
    return {}


@pytest.fixture(scope="module")
def race(
    request: pytest.FixtureRequest, databases: Callable[[str], None], shared_cache: dict[str, Any]
) -> Iterator[Race]:
    """Give what runs a function in eight processes, which are started once: that takes long."""
    entries = {}
    has_services = any(item.get_closest_marker("services") for item in request.session.items)
    for kind in DATABASES if has_services else ("sqlite",):
        with suppress(pytest.skip.Exception):
            databases(kind)
            entries[kind] = {**connections[kind].settings_dict}
    if "postgresql" in entries:
        options = {**entries["postgresql"]["OPTIONS"], "isolation_level": IsolationLevel.SERIALIZABLE}
        entries["serializable"] = {**entries["postgresql"], "OPTIONS": options}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(TABS, context, set_up, (context.Barrier(TABS), entries, shared_cache)) as pool:

        def race(function: Callable[..., Any], *arguments: Any) -> list[Any]:
            futures = [pool.submit(function, *arguments) for _ in range(TABS)]
            return [future.result(100) for future in futures]

        yield race


@pytest.fixture(params=marked(SHARED))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(
    kind: str, race: Race, keep: Callable[..., Store], shared_cache: dict[str, Any], settings: Any
) -> Store:
    if kind not in CACHES:
        return keep(kind)
    if kind not in shared_cache:
        pytest.skip(f"no {kind} at {URLS[kind]}")
    settings.CACHES = {**settings.CACHES, **shared_cache}
    return CacheStore(kind)


def positions(store: Store, owner: Owner) -> list[int]:
    conversation = store.latest(owner)
    assert conversation is not None
    return [turn.position for turn in store.turns(conversation, limit=None)]


def test_of_questions_at_the_same_moment_one_is_taken(
    kind: str, store: Store, race: Race, owner: Owner
) -> None:
    store.create(owner)
    won = race(ask_at_once, kind, tuple(owner), ROUNDS)
    assert [sum(each) for each in zip(*won, strict=True)] == [1] * ROUNDS
    assert positions(store, owner) == list(range(1, ROUNDS + 1))


@pytest.mark.services
def test_where_transactions_are_serializable_who_loses_is_told_busy(
    race: Race, keep: Callable[..., Store], owner: Owner
) -> None:
    store = keep("postgresql")
    store.create(owner)
    won = race(ask_at_once, "serializable", tuple(owner), ROUNDS)
    assert [sum(each) for each in zip(*won, strict=True)] == [1] * ROUNDS
    race(ask_in_turn, "serializable", tuple(owner), 5)
    assert positions(store, owner) == list(range(1, ROUNDS + TABS * 5 + 1))


def test_who_asks_again_is_served_without_a_gap(kind: str, store: Store, race: Race, owner: Owner) -> None:
    store.create(owner)
    race(ask_in_turn, kind, tuple(owner), 5)
    assert positions(store, owner) == list(range(1, TABS * 5 + 1))


def test_a_double_click_makes_one_conversation_and_one_turn(
    kind: str, store: Store, race: Race, owner: Owner
) -> None:
    for number in range(3):
        found = race(create_at_once, kind, tuple(owner), f"chat-{number}")
        assert sum(won for _, won in found) == 1
        assert len({id for id, _ in found if id}) == 1
        assert len(store.conversations(owner)) == number + 1
        assert positions(store, owner) == [1]
