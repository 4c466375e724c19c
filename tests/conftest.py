"""What the tests share: a provider to talk to, the wires, and the settings of one driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bupple_engine.drivers import http
from tests.provider import Provider

Configure = Callable[..., None]


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Give a scripted provider, and hold it to its own failures."""
    with Provider() as provider:
        yield provider


@pytest.fixture
def configure(settings: Any) -> Configure:
    """Give a function that sets the drivers, by alias; the first is the default."""

    def configure(**drivers: dict[str, Any]) -> None:
        settings.BUPPLE_ENGINE = {"DEFAULT": next(iter(drivers)), "DRIVERS": drivers}

    return configure


@pytest.fixture
def without_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have asynchronous calls run as they do where the extra `async` is not installed."""
    monkeypatch.setattr(http, "has_aiohttp", lambda: False)
