"""What the tests of conversations share: each place where they are kept, and an owner of each test's own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.conf import settings as site
from django.test.utils import override_settings

from bupple_engine import memory
from bupple_engine.conversations.memory import Memory
from bupple_engine.conversations.stores import get_store
from bupple_engine.conversations.stores.base import Store
from bupple_engine.types import Owner
from tests.conversations.stores import CACHES, KINDS, Router, cache_settings, created, marked, memory_settings

hypothesis.settings.register_profile("bupple", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("bupple")

collect_ignore_glob = [] if "bupple_engine.conversations" in site.INSTALLED_APPS else ["test_*.py"]

ROUTERS = ["tests.conversations.stores.Router"]


@pytest.fixture(scope="session")
def databases(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], None]]:
    """Give what makes a database of a kind, once for the session."""
    made: set[str] = set()
    with ExitStack() as stack:

        def make(kind: str) -> None:
            if kind not in made:
                with django_db_blocker.unblock(), override_settings(DATABASE_ROUTERS=ROUTERS):
                    stack.enter_context(created(kind, tmp_path_factory.mktemp(kind)))
                made.add(kind)

        yield make
        django_db_blocker.unblock()
    django_db_blocker.restore()


@pytest.fixture(params=marked(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def keep(
    databases: Callable[[str], None], django_db_blocker: Any, settings: Any, tmp_path: Path
) -> Iterator[Callable[..., Store]]:
    """Give what sets a kind of store as the site's, with other settings of MEMORY."""

    def keep(kind: str, **more: Any) -> Store:
        if kind in CACHES:
            settings.CACHES = {**settings.CACHES, "conversations": cache_settings(kind, tmp_path)}
        else:
            databases(kind)
            Router.alias = kind
        settings.MEDIA_ROOT = str(tmp_path / "media")
        settings.BUPPLE_ENGINE = {**settings.BUPPLE_ENGINE, "MEMORY": memory_settings(kind, **more)}
        return get_store()

    settings.DATABASE_ROUTERS = ROUTERS
    with django_db_blocker.unblock():
        yield keep
    Router.alias = "default"


@pytest.fixture
def store(kind: str, keep: Callable[..., Store]) -> Store:
    return keep(kind)


@pytest.fixture
def owner() -> Owner:
    """Give an owner that no other test has."""
    return Owner("Test", uuid.uuid4().hex)


@pytest.fixture
def chat(store: Store, owner: Owner) -> Memory:
    return memory(owner)
