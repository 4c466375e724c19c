"""What the tests share: a provider to talk to, the wires, and the settings of one driver."""

from __future__ import annotations

import gc
import importlib
import signal
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from bupple_engine import call_finished
from bupple_engine.drivers import wired
from tests.provider import Provider
from tests.verbs import WAYS
from tests.worlds import WORLDS, World

# A script's background jobs ignore it, and whatever they start inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

Configure = Callable[..., None]

# Loaded at a process's first call, which the short clocks of some tests would pay for on a busy machine.
for library in ("requests", "aiohttp"):
    with suppress(ImportError):
        importlib.import_module(library)


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Give a scripted provider, and hold it to its own failures."""
    with Provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def shared_provider() -> Iterator[Provider]:
    """Give one provider to the servers, which take as long to start as all the tests."""
    with Provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def frozen_heap() -> Iterator[None]:
    """Spare the collector what was there before a module's tests, where it runs after each."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def collected(frozen_heap: None) -> Iterator[None]:
    """Have what is left unclosed fail the test that left it."""
    yield
    gc.collect()


@pytest.fixture
def configure(settings: Any) -> Configure:
    """Give a function that sets the drivers, by alias; the first is the default."""

    def configure(**drivers: dict[str, Any]) -> None:
        settings.BUPPLE_ENGINE = {"DEFAULT": next(iter(drivers)), "DRIVERS": drivers}

    return configure


@pytest.fixture
def facts() -> Iterator[list[dict[str, Any]]]:
    """Give what the signal says."""
    heard: list[dict[str, Any]] = []

    def listen(**facts: Any) -> None:
        heard.append(facts)

    call_finished.connect(listen)
    yield heard
    call_finished.disconnect(listen)


@pytest.fixture
def without_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have asynchronous calls run as they do where the extra `async` is not installed."""
    monkeypatch.setattr(wired, "has_aiohttp", lambda: False)


@pytest.fixture(params=WAYS)
def verb(request: pytest.FixtureRequest) -> str:
    """Give each verb, the asynchronous ones over aiohttp and over threads."""
    name, _, threads = request.param.partition("-")
    if threads:
        request.getfixturevalue("without_aiohttp")
    return str(name)


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Give each way in which a stream is read."""
    if request.param == "threads":
        request.getfixturevalue("without_aiohttp")
    world = WORLDS[request.param](request.param)
    yield world
    world.leave()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Give an authority that no machine knows."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the file that tells the authority."""
    path = Path(tmp_path_factory.mktemp("authority"), "ca.pem")
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """Give what a server on the loopback interface shows, signed by the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture
def tls_provider(server_tls: ssl.SSLContext) -> Iterator[Provider]:
    """Give a scripted provider behind TLS."""
    with Provider(tls=server_tls) as provider:
        yield provider
