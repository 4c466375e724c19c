"""What `manage.py check` reports about BUPPLE_ENGINE, as docs/checks.md lists it; it needs no network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from django.core.checks import CheckMessage

from bupple_engine import conf
from bupple_engine.conf.env import known_variables
from bupple_engine.conf.reading import Reading, read

from .api import check_api, check_open_api
from .deployment import check_entry_deployed, check_site_deployed
from .entries import check_entry
from .environment import check_environment
from .memory import check_memory
from .table import CHECKS, Address, Places, guard, of_mistake

__all__ = ["CHECKS", "Address", "check_deployment", "check_settings"]

TAG = "bupple_engine"
FROM_ENVIRONMENT = (
    "The environment has variables for it; write: "
    "from bupple_engine.env import engine_settings; BUPPLE_ENGINE = engine_settings()"
)


def check_settings(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Return all that is wrong, or likely to be, in BUPPLE_ENGINE and around it."""
    root = Address("BUPPLE_ENGINE")
    return [
        *guard(_check_shape, root),
        *guard(lambda: _each_entry(check_entry), root),
        *guard(check_environment, root),
        *guard(check_api, Address("BUPPLE_ENGINE['API']")),
        *guard(check_memory, Address("BUPPLE_ENGINE['MEMORY']")),
    ]


def check_deployment(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Return what is fit for development only; `check --deploy` runs it beside check_settings."""
    root = Address("BUPPLE_ENGINE")
    return [
        *guard(lambda: _each_entry(check_entry_deployed), root),
        *guard(check_site_deployed, root),
        *guard(check_open_api, Address("BUPPLE_ENGINE['API']")),
    ]


def _check_shape() -> Iterator[CheckMessage]:
    for mistake in conf.find_mistakes():
        if mistake.id == "W001" and not known_variables().isdisjoint(os.environ):
            mistake = mistake._replace(hint=FROM_ENVIRONMENT)
        yield of_mistake(mistake)
    yield from map(of_mistake, conf.find_observer_mistakes())


def _each_entry(check: Callable[[Reading], Iterator[CheckMessage]]) -> Iterator[CheckMessage]:
    for alias, entry in conf.entries():
        if not isinstance(entry, conf.Mistake):
            reading = read(alias, entry)
            yield from guard(partial(check, reading), Places(alias).entry, reading.hide)
        elif check is check_entry:
            yield of_mistake(entry, alias if isinstance(alias, str) else None)
