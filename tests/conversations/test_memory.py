"""Who owns conversations, what the settings say of them, and what they cost who keeps none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.contrib.sessions.backends.cache import SessionStore
from django.core.exceptions import ImproperlyConfigured
from django.http import Http404
from django.test import RequestFactory
from django.test.utils import isolate_apps
from django.utils.functional import SimpleLazyObject

from bupple_engine import EngineError, memory
from bupple_engine.checks import check_settings
from bupple_engine.conf.memory import MEMORY, STORE_OPTIONS, memory_settings
from bupple_engine.conf.owners import SESSION_KEY, owner_of
from bupple_engine.conversations.checks import check_tables
from bupple_engine.conversations.context import recent
from bupple_engine.conversations.exceptions import (
    ConversationBusyError,
    ConversationNotFoundError,
    DuplicateTurnError,
)
from bupple_engine.conversations.stores import get_store
from bupple_engine.conversations.stores.base import Store
from bupple_engine.types import Owner

ROOT = Path(__file__).parent.parent.parent


# Owners


def saved(model: type[Any], pk: Any) -> Any:
    found = model(pk=pk)
    found._state.adding = False
    return found


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        (saved(User, 7), ("auth.user", "7")),
        (SimpleLazyObject(lambda: saved(User, 7)), ("auth.user", "7")),
        (saved(Group, 3), ("auth.group", "3")),
        (("ChatSession", 123), ("ChatSession", "123")),
        (["ChatSession", "abc"], ("ChatSession", "abc")),
        ((User, 7), ("auth.user", "7")),
        ((Path, "a"), ("Path", "a")),
        (Owner("x", "y"), ("x", "y")),
    ],
)
def test_an_owner_is_a_pair_of_words(owner: Any, expected: tuple[str, str]) -> None:
    assert owner_of(owner) == expected
    assert memory(owner).owner == expected


@isolate_apps("django.contrib.auth")
def test_a_proxy_owns_what_its_model_owns() -> None:
    class Staff(User):
        class Meta:
            app_label = "auth"
            proxy = True

    assert owner_of(saved(Staff, 7)) == owner_of(saved(User, 7))


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        (User(pk=7), "not saved"),
        (User(), "not saved"),
        (AnonymousUser(), "anonymous"),
        (("ChatSession", ""), "id is empty"),
        (("ChatSession", None), "id is None"),
        (("ChatSession", " 1"), "white space"),
        (("ChatSession", "1\0"), "white space"),
        (("ChatSession", True), "id is a bool"),
        (("", 1), "class is empty"),
        (("x" * 101, 1), "longer than 100"),
        (("a", "b", "c"), "no owner in a tuple"),
        ("somebody", "no owner in a str"),
        (7, "no owner in an int"),
        (User, "no owner in"),
    ],
)
def test_what_owns_nothing_is_refused_at_once(owner: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        memory(owner)


def request_of(user: Any = None, session: Any = None) -> Any:
    request = RequestFactory().get("/")
    if user is not None:
        request.user = user
    if session is not None:
        request.session = session
    return request


def test_a_request_is_its_user_or_its_session(settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    assert memory(request_of(saved(User, 7))).owner == ("auth.user", "7")
    session = SessionStore()
    owner = memory(request_of(AnonymousUser(), session)).owner
    assert owner == Owner("session", session[SESSION_KEY])
    assert len(session[SESSION_KEY]) == 32
    session.cycle_key()  # as login does
    assert memory(request_of(AnonymousUser(), session)).owner == owner
    assert memory(request_of(AnonymousUser(), SessionStore())).owner != owner
    with pytest.raises(ValueError, match="SessionMiddleware"):
        memory(request_of())


async def test_a_requests_user_is_not_loaded_in_an_event_loop(settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.BUPPLE_ENGINE = {"DRIVERS": {"echo": {}}, "MEMORY": CACHED}
    loaded = []

    def load() -> Any:
        loaded.append(True)
        return saved(User, 7)

    chat = memory(request_of(SimpleLazyObject(load)))
    assert not loaded
    await chat.aadd_user_message("Hello")
    assert chat.owner == ("auth.user", "7")


def test_the_owner_can_be_said_later() -> None:
    chat = memory()
    with pytest.raises(ValueError, match="set_parent"):
        chat.get_messages()
    assert chat.set_parent("ChatSession", 123).owner == ("ChatSession", "123")
    assert chat.set_parent(saved(User, 7)).owner == ("auth.user", "7")
    assert chat.set_parent(User, 8).owner == ("auth.user", "8")


def test_a_missing_conversation_is_a_404_and_a_lookup_error() -> None:
    assert issubclass(ConversationNotFoundError, Http404)
    assert issubclass(ConversationNotFoundError, LookupError)
    assert issubclass(DuplicateTurnError, ConversationBusyError)
    assert issubclass(ConversationBusyError, EngineError)
    with pytest.raises(ValueError, match="named by its id"):
        memory(("a", 1), 7)  # type: ignore[arg-type]


# Settings

CACHED = {"STORE": "cache", "STORES": {"cache": {}}}


def set_memory(settings: Any, value: Any) -> None:
    settings.BUPPLE_ENGINE = {"DRIVERS": {"echo": {}}, "MEMORY": value}


def test_the_defaults_are_those_that_are_documented(settings: Any) -> None:
    settings.BUPPLE_ENGINE = {"DRIVERS": {"echo": {}}}
    found = memory_settings()
    assert (found.store, list(found.stores), found.media_storage) == ("database", ["database"], "default")
    assert found.context["max_turns"] == 100
    assert found.context["strategy"] == f"{recent.__module__}.{recent.__qualname__}"
    assert (found.title, found.max_turns) == (None, 5000)
    assert check_settings() == []


@pytest.mark.parametrize(
    ("value", "place", "words"),
    [
        ([], "", "must be a dict"),
        ({"STOER": "x"}, "", "Unknown key 'STOER'"),
        ({"STORE": "nowhere"}, "['STORE']", "STORES has not"),
        ({"STORE": 7}, "['STORE']", "must be a string"),
        ({"STORES": {}}, "['STORES']", "must be a dict of aliases"),
        ({"STORES": {"a": {"STORE": "redis"}}}, "['STORES']", "no store 'redis'"),
        ({"STORES": {"cache": {"TLL": 3}}}, "['STORES']", "the key 'TLL'"),
        ({"STORES": {"cache": {"TTL": 0}}}, "['STORES']", "whole number"),
        ({"STORES": {"database": 7}}, "['STORES']", "must have a dict"),
        ({"OWNER": "accounts.owner"}, "", "Unknown key 'OWNER'"),
        ({"TITLE": "title"}, "['TITLE']", "dotted path"),
        ({"TITLE": "tests.nowhere.title"}, "['TITLE']", "can't be imported"),
        ({"TITLE": "tests.settings.SECRET_KEY"}, "['TITLE']", "can't be called"),
        ({"CONTEXT": {"MAX_TURN": 3}}, "['CONTEXT']", "MAX_TURN"),
        ({"CONTEXT": {"MAX_TURNS": 0}}, "['CONTEXT']", "wrong MAX_TURNS"),
        (
            {"STORES": {"database": {}, "cache": {"CACHE": "no"}}},
            "['STORES']['cache']['CACHE']",
            "CACHES has not",
        ),
        ({"MEDIA_STORAGE": "nowhere"}, "['MEDIA_STORAGE']", "STORAGES has not"),
        ({"MAX_TURNS": 0}, "['MAX_TURNS']", "whole number"),
    ],
)
def test_a_mistake_is_told_by_its_address(value: Any, place: str, words: str, settings: Any) -> None:
    set_memory(settings, value)
    found = [message for message in check_settings() if message.id == "bupple_engine.E015"]
    assert [str(message.obj) for message in found] == [f"BUPPLE_ENGINE['MEMORY']{place}"]
    assert words.lower() in found[0].msg.lower()


def test_what_the_checks_call_an_error_raises_at_the_first_use(settings: Any) -> None:
    for value in ({"STOER": 1}, {"STORES": {"a": {"STORE": "redis"}}}, 7):
        set_memory(settings, value)
        with pytest.raises(ImproperlyConfigured, match="MEMORY"):
            memory(("a", 1))


def test_the_database_store_names_the_app_that_it_lacks(settings: Any) -> None:
    settings.INSTALLED_APPS = [name for name in settings.INSTALLED_APPS if "conversations" not in name]
    set_memory(settings, None)
    with pytest.raises(ImproperlyConfigured, match=r'INSTALLED_APPS: "bupple_engine\.conversations"'):
        memory(("a", 1))


def test_stores_are_made_once_and_by_their_settings(settings: Any) -> None:
    path = "bupple_engine.conversations.stores.cache.CacheStore"
    set_memory(settings, {**CACHED, "STORES": {"cache": {"TTL": 9}, "own": {"STORE": path, "ttl": 7}}})
    assert get_store() is get_store("cache")
    assert (get_store()._ttl, get_store("own")._ttl) == (9, 7)  # type: ignore[attr-defined]
    assert memory(("a", 1), store="own").store is get_store("own")
    before = get_store()
    set_memory(settings, CACHED)
    assert get_store() is not before
    with pytest.raises(ImproperlyConfigured, match="Known are cache"):
        memory(("a", 1), store="own")
    for path, words in (("tests.nowhere.Store", "can't be imported"), ("pathlib.Path", "no subclass")):
        set_memory(settings, {"STORE": "it", "STORES": {"it": {"STORE": path}}})
        with pytest.raises(ImproperlyConfigured, match=words):
            get_store()
    assert {name for name, _ in STORE_OPTIONS} == {"cache"}
    assert MEMORY.keys() >= {"STORE", "STORES"}


def test_the_app_must_be_installed_for_the_database(settings: Any) -> None:
    set_memory(settings, {})
    assert check_settings() == []
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if "conversations" not in app]
    (message,) = check_settings()
    assert message.id == "bupple_engine.E016"
    assert message.hint == 'Add to INSTALLED_APPS: "bupple_engine.conversations",'
    set_memory(settings, CACHED)
    assert check_settings() == []


@pytest.mark.parametrize("kind", ["sqlite"])
def test_missing_tables_are_told_where_the_database_is_checked(kind: str, keep: Callable[..., Store]) -> None:
    from django.core.management import call_command

    keep(kind)
    assert check_tables() == []
    assert check_tables(databases=[kind]) == []
    call_command("migrate", "bupple_conversations", "zero", database=kind, verbosity=0)
    try:
        (message,) = check_tables(databases=["default", kind])
        assert (message.id, message.hint) == (
            "bupple_engine.W022",
            "Run: manage.py migrate --database sqlite",
        )
    finally:
        call_command("migrate", "bupple_conversations", database=kind, verbosity=0)


# What it costs who keeps none


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


SITE = """
import sys, django
from django.conf import settings
settings.configure(
    SECRET_KEY="x", INSTALLED_APPS=["bupple_engine"],
    BUPPLE_ENGINE={"DRIVERS": {"echo": {}}, "MEMORY": {"STORE": "cache", "STORES": {"cache": {}}}},
)
django.setup()
"""


def test_nothing_of_it_is_imported_before_somebody_asks() -> None:
    code = SITE + (
        "from bupple_engine import ai; ai().send('Hello')\n"
        "print([name for name in sys.modules if name.startswith('bupple_engine.conversations')])"
    )
    assert run(code).strip() == "[]"


def test_a_cache_needs_neither_the_app_nor_a_database() -> None:
    code = SITE + (
        "from bupple_engine import memory\n"
        "chat = memory(('Visitor', 1)); chat.add_user_message('Hello')\n"
        "print(chat.get_messages(), 'bupple_engine.conversations.models' in sys.modules)"
    )
    assert run(code).strip() == "[{'role': 'user', 'content': 'Hello'}] False"


@pytest.fixture(autouse=True)
def fresh_cache() -> Iterator[None]:
    """Leave nothing in the cache that all tests of a process have."""
    yield
    from django.core.cache import cache

    cache.clear()
