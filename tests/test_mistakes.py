"""What is told to whoever makes a mistake in a driver, an observer or a transport of their own."""

from __future__ import annotations

import asyncio
import logging
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory

from bupple_engine import Call, InvalidRequestError, Observer, Outcome, ProviderServerError, ai
from bupple_engine.calls import observers
from bupple_engine.drivers.base import ChatDriver
from bupple_engine.http import stream_response
from bupple_engine.options import COMMON, Option, choice, integer, number, string
from bupple_engine.transports import use_transport
from tests.conftest import Configure

HERE = "tests.test_mistakes"
VERBS = ("send", "asend")


def ask(verb: str, driver: Any = None, **options: Any) -> Any:
    driver = driver or ai()
    return (
        driver.send("Hello!", **options) if verb == "send" else asyncio.run(driver.asend("Hello!", **options))
    )


# Drivers


class Returning(ChatDriver):
    """Return what a test sets."""

    found: Any = None

    def generate(self, messages: Any, options: Any) -> Any:
        return type(self).found() if callable(self.found) else self.found


class AReturning(ChatDriver):
    """See Returning."""

    found: Any = None

    def agenerate(self, messages: Any, options: Any) -> Any:
        return type(self).found()


def pieces(*found: Any) -> Iterator[Any]:
    yield from found


async def apieces(*found: Any) -> Any:
    for piece in found:
        yield piece


async def whole() -> list[Any]:
    return [{"done": True}]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("found", "words"),
    [
        pytest.param("Hello", "must yield dicts, not return a str", id="str"),
        pytest.param({"content": "Hello", "done": True}, "must yield dicts, not return a dict", id="dict"),
        pytest.param(None, "must yield dicts, not return None", id="None"),
        pytest.param(apieces, "is asynchronous: call it agenerate()", id="asynchronous generator"),
        pytest.param(whole, "is asynchronous: call it agenerate()", id="coroutine"),
        pytest.param([{"text": "Hello"}], "must yield dicts of content, done, .*, not 'text'", id="text"),
        pytest.param([{"done": True, "finish_reason": 5}], "finish_reason as a str, not int", id="reason"),
        pytest.param([{"done": True, "usage": 5}], "usage as a dict, not int", id="usage"),
    ],
)
def test_what_generate_returns_or_yields(
    found: Any, words: str, verb: str, configure: Configure, monkeypatch: Any
) -> None:
    monkeypatch.setattr(Returning, "found", staticmethod(found) if callable(found) else found)
    configure(it={"DRIVER": f"{HERE}.Returning"})
    with pytest.raises(TypeError, match=rf"Returning\.generate\(\) .*{words}".replace("()", r"\(\)")):
        ask(verb)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("found", "words"),
    [
        pytest.param(pieces, "is not asynchronous: write `async def`, or call it generate()", id="generator"),
        pytest.param(whole, "must yield dicts, not return them", id="coroutine"),
        pytest.param(lambda: None, "must yield dicts, not return None", id="None"),
        pytest.param(lambda: apieces("Hello"), "must yield dicts, not str", id="str"),
    ],
)
def test_what_agenerate_returns_or_yields(
    found: Any, words: str, verb: str, configure: Configure, monkeypatch: Any
) -> None:
    monkeypatch.setattr(AReturning, "found", staticmethod(found))
    configure(it={"DRIVER": f"{HERE}.AReturning"})
    with pytest.raises(TypeError, match=rf"AReturning\.agenerate\(\) {words}".replace("()", r"\(\)")):
        ask(verb)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("end_turn", "stop"), ("MAX_TOKENS", "length"), ("refusal", "refusal"), ("tired", "unknown")],
)
def test_a_driver_may_pass_on_a_provider_s_word_for_the_end(
    theirs: str, ours: str, configure: Configure, monkeypatch: Any
) -> None:
    monkeypatch.setattr(Returning, "found", [{"content": "Hello", "done": True, "finish_reason": theirs}])
    configure(it={"DRIVER": f"{HERE}.Returning"})
    assert ai().send("Hello!")["finish_reason"] == ours


class Orphan(Returning):
    def __init__(self, *arguments: Any) -> None:
        self.room = 7


class Capitals(Returning):
    options: ClassVar[Any] = {**COMMON, "ZONE": Option(string)}


class Bare(Returning):
    options: ClassVar[Any] = {**COMMON, "zone": string}


class Listed(Returning):
    options: ClassVar[Any] = [("zone", Option(string))]


class Lettered(Returning):
    required: Any = "zone"


class Demanding(Returning):
    required = ("zone",)


@pytest.mark.parametrize(
    ("name", "id", "words"),
    [
        ("Orphan", "E012", r"must call super().__init__(alias, name, config)"),
        ("Capitals", "E009", "must name its options in lower case, not 'ZONE'"),
        ("Bare", "E009", "must have an Option at options['zone'], not a function: write Option(string)"),
        ("Listed", "E009", "must have `options` as a dict, not a list"),
        ("Lettered", "E009", "must have `required` as a tuple of names, not a str"),
        ("Demanding", "E009", "requires 'zone', which its options lack"),
    ],
)
def test_what_a_class_of_drivers_declares(name: str, id: str, words: str, configure: Configure) -> None:
    configure(it={"DRIVER": f"{HERE}.{name}"})
    (found,) = [
        message for message in run_checks(tags=["bupple_engine"]) if message.id == f"bupple_engine.{id}"
    ]
    assert words in found.msg
    with pytest.raises((ImproperlyConfigured, TypeError)) as caught:
        ai()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("parse", "facts", "words"),
    [
        (integer, {}, "Option(integer) must be Option(integer(…))"),
        (number, {}, "Option(number) must be Option(number(…))"),
        (choice, {}, "Option(choice) must be Option(choice(…))"),
        ("zone", {}, "must have a callable, such as string or integer()"),
        (string, {"env": True}, "Option(env=True) must be a callable, such as str, int or float"),
        (string, {"env": "ZONE"}, "Option(env='ZONE') must be a callable"),
        (string, {"secret": "yes"}, "Option(secret='yes') must be True, False, SecretURL or MaskedDict"),
    ],
)
def test_what_an_option_is_declared_with(parse: Any, facts: Any, words: str) -> None:
    with pytest.raises(TypeError) as caught:
        Option(parse, **facts)
    assert words in str(caught.value)


# Observers


class Tokens(Observer):
    def end(self, outcome: Outcome) -> None:
        """Hear it."""


class Misnamed(Observer):
    def on_end(self, outcome: Outcome) -> None:
        """Hear nothing."""


class Duck:
    def begin(self, call: Call) -> None:
        """Hear nothing."""


def test_a_begin_that_nobody_would_await_is_refused_with_its_class() -> None:
    with pytest.raises(TypeError, match=r"Veto\.begin\(\) is asynchronous: call it abegin\(\)"):

        class Veto(Observer):
            async def begin(self, call: Call) -> None:  # type: ignore[override]
                """Refuse nothing."""


def test_a_twin_that_can_t_be_awaited_is_refused_with_its_class() -> None:
    with pytest.raises(
        TypeError, match=r"Ends\.aend\(\) is not asynchronous: write `async def`, or call it end"
    ):

        class Ends(Observer):
            def aend(self, outcome: Outcome) -> None:  # type: ignore[override]
                """Hear nothing."""


def test_an_opening_can_t_be_asynchronous() -> None:
    with pytest.raises(TypeError, match=r"Span\.opening\(\) is asynchronous: it can't be"):

        class Span(Observer):
            async def opening(self, call: Call) -> None:  # type: ignore[override]
                """Enter nothing."""


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Tokens, "observers is the class Tokens; pass an instance of it."),
        ([Tokens], "observers[0] is the class Tokens; pass an instance of it."),
        (Duck(), "observers is a Duck, no Observer: derive its class from bupple_engine.Observer."),
        ([Duck], "observers[0] is a class that is no Observer"),
        (Misnamed(), "is a Misnamed, which hears nothing: define begin(), opening(),"),
        ([Tokens(), Misnamed()], "observers[1] is a Misnamed, which hears nothing"),
    ],
)
def test_what_hears_nothing_is_no_observer(given: Any, words: str, verb: str, configure: Configure) -> None:
    configure(echo={})
    with pytest.raises(InvalidRequestError) as caught:
        ask(verb, observers=given)
    assert words in str(caught.value)


@pytest.mark.parametrize("given", [Tokens, Duck(), Misnamed()], ids=["class", "duck", "misnamed"])
def test_an_app_registers_observers_alone(given: Any) -> None:
    with pytest.raises(TypeError, match="What is registered is"):
        observers.register(given)
    assert given not in observers.registered()


def test_prices_come_from_a_callable() -> None:
    with pytest.raises(TypeError, match="a callable of call, model and usage, not an int"):
        observers.price_with(5)  # type: ignore[arg-type]
    assert observers.pricing() is None


@pytest.mark.parametrize("name", ["observer", "callbacks", "hooks", "on_end"])
def test_an_observer_by_another_name_is_answered_with_ours(name: str, configure: Configure) -> None:
    configure(echo={})
    with pytest.raises(InvalidRequestError, match=r"ai\(\)\.send\(\"Hello!\", observers=Tokens\(\)\)"):
        ai().send("Hello!", **{name: Tokens()})


@pytest.mark.parametrize(("name", "value"), [("observers", Tokens()), ("context", {"tenant": 7})])
def test_what_belongs_to_a_call_is_answered_where_it_is_laid_over(
    name: str, value: Any, configure: Configure
) -> None:
    configure(echo={})
    with pytest.raises(InvalidRequestError, match=rf"It goes with each call|goes with each call: .*{name}="):
        ai("echo", **{name: value})


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (
            {"OBSERVERS": [Tokens]},
            f'OBSERVERS\'][0] must be a dotted path, not a class. Write "{HERE}.Tokens"',
        ),
        ({"OBSERVERS": [Tokens()]}, f'must be a dotted path, not a Tokens. Write "{HERE}.Tokens"'),
        ({"OBSERVERS": [f"{HERE}.Misnamed"]}, "which hears nothing: define begin()"),
        (
            {"DRIVERS": {"echo": {"OBSERVERS": []}}},
            'It stands beside DRIVERS: BUPPLE_ENGINE = {"DRIVERS": {…}',
        ),
    ],
)
def test_observers_of_the_settings(setting: Any, words: str, settings: Any) -> None:
    settings.BUPPLE_ENGINE = {"DRIVERS": {"echo": {}}, **setting}
    with pytest.raises(ImproperlyConfigured) as caught:
        ai()
    assert words in str(caught.value)


def test_observers_in_the_api_s_part_are_sent_to_their_place(settings: Any) -> None:
    settings.BUPPLE_ENGINE = {"DRIVERS": {"echo": {}}, "API": {"OBSERVERS": []}}
    (found,) = [
        message for message in run_checks(tags=["bupple_engine"]) if message.id == "bupple_engine.E013"
    ]
    assert str(found.hint) == 'It stands beside API: BUPPLE_ENGINE = {"API": {…}, "OBSERVERS": …}'


# Transports


class Opens:
    defaults: ClassVar[Any] = {"API_KEY": "x"}

    def open(self, request: Any, waiting: Any) -> Any:
        """Open nothing."""


@pytest.mark.parametrize(
    ("given", "words"),
    [(None, "not None"), (Opens, "not the class Opens"), (lambda: None, "not a function")],
)
def test_what_is_put_in_a_transport_s_place(given: Any, words: str) -> None:
    with pytest.raises(TypeError, match=rf"open\(\) or aopen\(\), {words}"), use_transport(given):
        pass


def test_the_defaults_of_a_transport_are_in_lower_case(configure: Configure) -> None:
    configure(claude={"MODEL": "claude-sonnet-5-5"})
    words = r"The transport's defaults\['API_KEY'\] must be in lower case"
    with use_transport(Opens()), pytest.raises(ImproperlyConfigured, match=words):
        ai().send("Hello!")


# Operators


class Failing(ChatDriver):
    def generate(self, messages: Any, options: Any) -> Any:
        yield {"content": "Hel"}
        raise ProviderServerError("It broke.")


def test_the_error_that_a_client_is_told_leads_to_the_records_of_its_call(
    configure: Configure, caplog: Any
) -> None:
    caplog.set_level(logging.INFO, "bupple_engine")
    configure(it={"DRIVER": f"{HERE}.Failing"})
    response: Any = stream_response(RequestFactory().get("/"), messages="Hello!")
    assert b"ProviderServerError" in b"".join(response.streaming_content)
    records = [record for record in caplog.records if getattr(record, "event", None) in ("call", "error")]
    assert {record.event for record in records} == {"call", "error"}
    assert len({record.call_id for record in records}) == 1


def test_an_error_names_its_call(configure: Configure) -> None:
    configure(it={"DRIVER": f"{HERE}.Failing"})
    heard: list[Outcome] = []

    class Hears(Observer):
        def end(self, outcome: Outcome) -> None:
            heard.append(outcome)

    with pytest.raises(ProviderServerError) as caught:
        ai().send("Hello!", observers=Hears())
    assert heard[0].call is not None
    assert caught.value.call_id == heard[0].call.id
    with pytest.raises(InvalidRequestError) as refused:
        ai().send(" ")
    assert refused.value.call_id is None


# Upgrades

MOVES = re.findall(
    r"^  \| `(bupple_engine[\w.]+)` \| `(bupple_engine[\w.]+)` \|$",
    (Path(__file__).parent.parent / "CHANGELOG.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


@pytest.mark.parametrize(("was", "now"), MOVES)
def test_what_has_moved_is_where_the_changelog_says(was: str, now: str) -> None:
    assert pkgutil.resolve_name(now)
    with pytest.raises((ImportError, AttributeError)):
        pkgutil.resolve_name(was)


def test_the_changelog_lists_what_has_moved() -> None:
    assert len(MOVES) >= 7


@pytest.mark.parametrize(
    "name",
    [
        *("ai", "http.encode", "http.stream_response", "env.engine_settings", "urls.urlpatterns"),
        *("api.ChatCall", "drivers.base.ChatDriver", "options.Option", "exceptions.EngineError"),
        *("signals.call_finished", "types.Message", "masking.Secret"),
        "api.authentication.BearerAuthentication",
    ],
)
def test_what_sites_import_stays(name: str) -> None:
    assert pkgutil.resolve_name(f"bupple_engine.{name}")
