"""What may be put in place of the network, the clock, the ids and chance, for all calls of the process."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any, cast
from uuid import RFC_4122, UUID

import pytest

from bupple_engine import ProviderTimeoutError, ai
from bupple_engine.calls import seams
from bupple_engine.calls.seams import CHANCE, IDS, Seam, new_id, uuid7
from bupple_engine.exchange.failure import TransportFailure
from bupple_engine.transports import use_transport
from tests.conftest import Configure
from tests.provider import split
from tests.verbs import STREAMS, run
from tests.virtual import Script, VirtualClock, virtually
from tests.wires import EVENTS, JSON, KEY, TEXTS, WIRES, Wire

HELLO = [{"role": "user", "content": "Grüße, 🦜"}]


@pytest.fixture(params=WIRES, ids=lambda wire: wire.name)
def wire(request: pytest.FixtureRequest) -> Wire:
    """Give each wire."""
    found: Wire = request.param
    return found


@pytest.fixture
def driver(wire: Wire, configure: Configure) -> Any:
    """Give the wire's driver, whose entry has neither a key nor a URL that anything listens on."""
    configure(it=wire.settings("http://nobody.invalid", TIMEOUT={"first_token": 50}))
    return ai()


def said(wire: Wire, verb: str, *silences: float) -> Any:
    """Say an answer in pieces, some seconds before the first of them."""
    body = wire.stream(TEXTS) if verb in STREAMS else wire.reply("".join(TEXTS))
    return 200, EVENTS if verb in STREAMS else JSON, *silences, *split(body, 7)


def test_a_transport_that_is_put_in_place_answers_every_verb(wire: Wire, verb: str, driver: Any) -> None:
    with virtually(said(wire, verb)) as (script, clock):
        outcome = run(driver, verb, HELLO)
    assert outcome.error is None
    assert outcome.reply["content"] == "".join(TEXTS)
    (request,), (waiting,) = script.requests, script.waits
    assert KEY in str({name: str(value) for name, value in request.headers.items()}) or KEY in request.url
    assert (waiting.connect, waiting.read, waiting.clock) == (5.0, 50.0 if verb in STREAMS else 600.0, clock)
    assert waiting.call is not None
    assert waiting.call.verb == verb.removeprefix("a")
    assert script.threads == [threading.get_ident()]  # no thread, with aiohttp and without


def test_a_minute_of_silence_and_three_attempts_take_no_time(wire: Wire, verb: str, driver: Any) -> None:
    silence = 70.0 if verb in STREAMS else 700.0
    with virtually(*[said(wire, verb, silence)] * 3) as (_, clock):
        outcome = run(driver, verb, HELLO)
    assert isinstance(outcome.error, ProviderTimeoutError)
    if verb in STREAMS:
        assert (outcome.error.clock, outcome.error.attempts, len(clock.pauses)) == ("first_token", 3, 2)
        assert clock.now() == pytest.approx(150 + sum(clock.pauses))
    else:
        assert (outcome.error.clock, outcome.error.attempts, clock.now()) == ("total", 1, 600)


def test_a_silence_in_the_midst_of_a_stream_keeps_its_text(wire: Wire, driver: Any) -> None:
    pieces = [wire.stream_without_end(["Hello"]), 90.0, b""]
    for verb in STREAMS:
        with virtually((200, EVENTS, *pieces)) as (_, clock):
            outcome = run(driver, verb, HELLO)
        assert isinstance(outcome.error, ProviderTimeoutError)
        assert (outcome.error.clock, outcome.error.partial_content) == ("idle", "Hello")
        assert outcome.text == "Hello"
        assert clock.now() == 60


def test_the_pauses_are_those_that_the_provider_and_chance_say(wire: Wire, verb: str, driver: Any) -> None:
    overloaded = 529, JSON, b'{"error": {"type": "overloaded_error", "message": "Busy"}}'
    late = 429, {**JSON, "retry-after": "Mon, 12 Jan 1970 13:46:49 GMT"}, b'{"error": {"message": "Slow"}}'
    with CHANCE.use(lambda: 0.5), virtually(overloaded, late, said(wire, verb)) as (_, clock):
        outcome = run(driver, verb, HELLO)
    assert outcome.error is None
    assert clock.pauses == [0.375, pytest.approx(9 - 0.375)]  # the date is compared with the clock's wall


def test_what_a_transport_can_not_reach_is_asked_for_again(wire: Wire, verb: str, driver: Any) -> None:
    refused = TransportFailure("Could not connect", connected=False)
    with virtually(refused, refused, said(wire, verb)) as (script, clock):
        assert run(driver, verb, HELLO).error is None
    assert (len(script.requests), len(clock.pauses)) == (3, 2)


def test_a_transport_without_aopen_serves_asynchronous_calls_from_threads(wire: Wire, driver: Any) -> None:
    for verb in ("asend", "astream"):
        script, clock = Script(said(wire, verb)), VirtualClock()
        blocking: Any = SimpleNamespace(open=script.open)
        with use_transport(blocking), seams.CLOCK.use(clock):
            assert run(driver, verb, HELLO).error is None
        assert script.threads != [threading.get_ident()]


def test_a_transport_gives_what_entries_lack(wire: Wire, verb: str, configure: Configure) -> None:
    configure(it={"DRIVER": wire.name})
    defaults = {"api_key": "sk-of-the-test", "model": wire.model, "context_tokens": 7}
    with virtually(said(wire, verb), defaults=defaults) as (script, _):
        assert run(ai(), verb, HELLO).error is None
    (request,) = script.requests
    assert "sk-of-the-test" in str({name: str(value) for name, value in request.headers.items()})
    assert "sk-of-the-test" not in repr(ai().get_config())


def test_the_list_of_models_goes_through_it_and_is_no_call(driver: Any, wire: Wire) -> None:
    listed = 200, JSON, b'{"data": [{"id": "one"}], "models": [{"name": "models/one"}]}'
    with virtually(listed, listed) as (script, _):
        assert driver.models() == ["one"]
        assert asyncio.run(driver.amodels()) == ["one"]
    assert [waiting.call for waiting in script.waits] == [None, None]


@pytest.mark.parametrize("verb", STREAMS)
@pytest.mark.parametrize("is_blocking", [True, False])
def test_a_stream_goes_through_what_was_in_place_when_it_was_made(
    wire: Wire, verb: str, driver: Any, is_blocking: bool
) -> None:
    script = Script(said(wire, verb))
    other: Any = SimpleNamespace(open=script.open) if is_blocking else script
    with use_transport(other), seams.CLOCK.use(VirtualClock()):
        stream = getattr(driver, verb)(HELLO)
    with use_transport(cast("Any", SimpleNamespace(open=pytest.fail))), seams.CLOCK.use(VirtualClock()):
        texts = asyncio.run(texts_of(stream)) if verb == "astream" else [each["content"] for each in stream]
    assert "".join(texts) == "".join(TEXTS)


async def texts_of(stream: Any) -> list[str]:
    return [chunk["content"] async for chunk in stream]


def test_the_last_that_was_put_in_place_counts_in_every_thread() -> None:
    seam = Seam("real")
    seen = []
    first, second = seam.use("first"), seam.use("second")
    first.__enter__()
    with second:
        thread = threading.Thread(target=lambda: seen.append(seam.get()))
        thread.start()
        thread.join()
        first.__exit__(None, None, None)  # not in the order in which they were entered
        seen.append(seam.get())
    assert [*seen, seam.get()] == ["second", "second", "real"]


def test_an_id_sorts_by_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for nanoseconds in (0, 244_141, 999_999, 1_000_000, 1_764_105_600_123_456_789):
        monkeypatch.setattr("time.time_ns", lambda it=nanoseconds: it)
        made.append(uuid7())
    assert made == sorted(made)
    assert {(each.version, each.variant) for each in made} == {(7, RFC_4122)}
    assert [each.int >> 80 for each in made] == [0, 0, 0, 1, 1_764_105_600_123]
    assert [each.int >> 64 & 0xFFF for each in made] == [0, 1000, 4095, 0, 1871]
    assert len({uuid7().int & (1 << 62) - 1 for _ in range(100)}) == 100


def test_ids_come_from_one_place() -> None:
    with IDS.use(iter([UUID(int=1), UUID(int=2)]).__next__):
        assert [new_id(), new_id()] == [UUID(int=1), UUID(int=2)]
    assert new_id().version == 7


def test_a_driver_that_waits_on_its_own_waits_on_the_same_clock(verb: str, configure: Configure) -> None:
    configure(it={"DRIVER": "echo", "DELAY": 30})
    clock = VirtualClock()
    with seams.CLOCK.use(clock):
        assert run(ai(), verb, HELLO).reply["content"] == HELLO[0]["content"]
    assert clock.pauses == [30, 30]
