"""No place where a failed call leaves a trace shows a secret: a key at most its last four characters."""

from __future__ import annotations

import asyncio
import base64
import copy
import html
import json
import logging
import os
import pickle
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, ClassVar

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.core.signals import got_request_exception
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, AsyncRequestFactory, Client, RequestFactory
from django.urls import path
from django.views.debug import (
    ExceptionReporter,
    SafeExceptionReporterFilter,
    get_default_exception_reporter_filter,
)

from bupple_engine import (
    AuthenticationError,
    EngineError,
    InvalidDriverError,
    InvalidRequestError,
    ProviderConnectionError,
    ProviderServerError,
    ProviderTimeoutError,
    ResponseParseError,
    StreamError,
    StreamInterruptedError,
    UnsupportedFeatureError,
    ai,
    call_finished,
)
from bupple_engine.calls.running import RunningCall
from bupple_engine.checks import check_deployment, check_settings
from bupple_engine.conf.env import engine_settings
from bupple_engine.diagnostics.overview import read_rows
from bupple_engine.diagnostics.probe import probe
from bupple_engine.drivers import calling
from bupple_engine.drivers.base import ChatDriver
from bupple_engine.drivers.echo import EchoDriver
from bupple_engine.http import stream_response
from bupple_engine.http.problems import report
from bupple_engine.options import COMMON, Option, SecretURL, integer, stop, string, url
from bupple_engine.wires.chat_completions import ChatCompletionsWire
from tests.provider import Answer, Provider
from tests.verbs import STREAMS, VERBS, WAYS, Quiet
from tests.wires import EVENTS, JSON, ChatCompletions, dump
from tests.worlds import until

WIRE = ChatCompletions()
HELLO: Any = [{"role": "user", "content": "Hello"}]

# What is planted. Nothing else on a debug page has five characters in a row with one of them.
KEY = "sk-Qz7Xw9Vb3Kp5Lm8T"
OTHER_KEY = "sk-Hd2Rf6Yj4Nc1Gs0W"
HEADER = "hT5uEo8iAq3yUv7e"
EXTRA = "xM4nBz9kJw2cFp6r"
USER, PASSWORD = "uN3gWt7xKe", "pS9dLq5vRh@2zYc"  # of BASE_URL
USER_IN_URL, PASSWORD_IN_URL = USER, PASSWORD.replace("@", "%40")
PROXY_USER, PROXY_PASSWORD = "oK6jXb1mTf", "wC8aPn4zDg"
QUERY = "qV2rZk7tGm5s"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
PROXY_BASIC = base64.b64encode(f"{PROXY_USER}:{PROXY_PASSWORD}".encode()).decode()
# Of a third party's driver: by no name and by no look of theirs could anyone tell that they are secret.
VAULT, OTHER_VAULT, PIN = "vQwJzLpKxBnRtG", "bHgMqYdXsFvCkP", 739_418_265
SECRETS = [
    VAULT, OTHER_VAULT, KEY, OTHER_KEY, HEADER, EXTRA, USER,
    PASSWORD, PASSWORD_IN_URL, PROXY_USER, PROXY_PASSWORD, QUERY, BASIC,
    PROXY_BASIC,
]  # fmt: skip
RUN = 5  # so many characters of a secret in a row are too many
RUNS = {re.escape(s[i : i + RUN]) for s in SECRETS for i in range(len(s) - RUN + 1)}
LEAK = re.compile("|".join({*RUNS, str(PIN)}))  # whole: five digits in a row stand in many an address
# All that the wire carries, as a provider might quote it, plain and encoded.
QUOTE = (
    f"You sent {KEY}, {HEADER}, {USER}:{PASSWORD}, {PASSWORD_IN_URL}, {BASIC}, {EXTRA}, {QUERY}, "
    + ", ".join(base64.b64encode(f"{before}{KEY}:{EXTRA}".encode()).decode() for before in ("", ":", "u:"))
)
PROXY_QUOTE = f"{PROXY_USER}, {PROXY_PASSWORD}, {PROXY_BASIC}, {PROXY_USER}:{PROXY_PASSWORD}"

TESTS = str(Path(__file__).parent)
# What came is somewhere until it is read, requests knows a pool by its proxy, and PREPARE has a plain dict.
REPR_ALONE = ("Body", "Decoder", "BlockingResponse", "AiohttpResponse", "Adapter", "ChatCall")


# Where a failure shows


def leaks(places: dict[str, str]) -> dict[str, str]:
    """Return the places that show a secret, each with what stands around it."""
    found = {where: LEAK.search(html.unescape(text)) for where, text in places.items()}
    return {
        where: hit.string[max(hit.start() - 100, 0) : hit.end() + 100] for where, hit in found.items() if hit
    }


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it followed, hidden by `from None` or not."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        if (each := waiting.pop()) is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]


def frames(error: BaseException) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every frame that the errors have passed but the tests' own, which hold the secrets."""
    for each in chain(error):
        trace: TracebackType | None = each.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            if not code.co_filename.startswith(TESTS):
                yield f"{code.co_filename}:{trace.tb_lineno} {code.co_qualname}", trace.tb_frame.f_locals
            trace = trace.tb_next


def shown(value: Any, around: frozenset[int] = frozenset()) -> str:
    """Return a value as reporters of errors print it: its repr, what is in dicts and in our objects."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"<no repr: {error!r}>"
    if id(value) in around or len(around) > 8 or type(value).__name__ in REPR_ALONE:
        return text
    around |= {id(value)}
    inside: list[Any] = []
    if isinstance(value, Mapping):
        inside += [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        inside += value
    elif type(value).__module__.startswith("bupple_engine"):
        names = [name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ())]
        inside += [*getattr(value, "__dict__", {}).values(), *(getattr(value, name, "") for name in names)]
    return " ".join([text, *(shown(each, around) for each in inside)])


def error_places(error: BaseException) -> dict[str, str]:
    """Return every place where an error and its chain show something."""
    places: dict[str, str] = {}
    for number, each in enumerate(chain(error)):
        where = f"{type(each).__name__} {number}"
        places[f"{where}: str"] = str(each)
        places[f"{where}: repr"] = repr(each)
        places[f"{where}: args"] = repr(each.args)
        places[f"{where}: attributes"] = shown(vars(each))
    for where, local in frames(error):
        for name, value in local.items():
            places[f"{where}: {name}"] = shown(value)
    places["traceback"] = "".join(traceback.format_exception(error))
    if isinstance(error, EngineError):
        pickled = pickle.dumps(error)
        places["pickle"] = pickled.decode("latin-1") + repr(vars(pickle.loads(pickled)))  # noqa: S301
    return places


def record_places(records: list[logging.LogRecord]) -> dict[str, str]:
    """Return what was logged: the text, the extra facts and the traceback."""
    form = logging.Formatter("%(name)s %(message)s")
    return {f"log {n}": f"{form.format(record)} {vars(record)!r}" for n, record in enumerate(records)}


# Who calls: views, which hold no secret in their own frames


@dataclass
class Scene:
    """One failure: what is set, what is asked and what the provider does."""

    provider: Provider
    fixture: Callable[[str], Any]
    verb: str
    stack: ExitStack
    engine: Any = None
    entry: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    messages: Any = field(default_factory=lambda: list(HELLO))
    alias: str = "it"

    def settings(self) -> Any:
        """Return settings.BUPPLE_ENGINE."""
        if self.engine is not None:
            return self.engine
        entry = WIRE.settings(self.provider.url.replace("//", f"//{USER_IN_URL}:{PASSWORD_IN_URL}@"))
        entry |= {
            "BASE_URL": f"{entry['BASE_URL']}?api-key={QUERY}",
            "API_KEY": KEY,
            "EXTRA": {"metadata": {"vault": EXTRA, "more": [{"token": EXTRA}]}},
            "MAX_RETRIES": 0,
        }
        more = {
            "HEADERS": {"X-Tenant": HEADER},
            "PROXY": f"http://{PROXY_USER}:{PROXY_PASSWORD}@127.0.0.1:1",
            "APIKEY": OTHER_KEY,
        }
        return {"DEFAULT": "it", "DRIVERS": {"it": {**entry, **self.entry}, "other": {**entry, **more}}}

    def answer(self, status: int, body: bytes, **said: Any) -> None:
        """Have the provider answer with JSON."""
        self.provider.answer(Answer(status, JSON, body, **said))

    def closed_port(self) -> int:
        """Return a port at which nobody listens."""
        bound = self.stack.enter_context(socket.socket())
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


asked: Scene
streams: list[Any] = []


def driver() -> Any:
    """Return the driver, with more laid over its entry."""
    return ai(asked.alias, **{"headers": {"X-Tenant": HEADER}, **asked.overrides})


def view(request: HttpRequest) -> HttpResponse:
    """Make a synchronous call."""
    if asked.verb == "send":
        driver().send(asked.messages, **asked.options)
    else:
        streams.append(driver().stream(asked.messages, **asked.options))
        for _ in streams[-1]:
            pass
    return HttpResponse()


async def aview(request: HttpRequest) -> HttpResponse:
    """See view()."""
    if asked.verb == "asend":
        await driver().asend(asked.messages, **asked.options)
    else:
        streams.append(driver().astream(asked.messages, **asked.options))
        async for _ in streams[-1]:
            pass
    return HttpResponse()


def visit(verb: str) -> Any:
    """Ask for the page whose view makes the call."""
    if verb[0] == "a":
        return asyncio.run(AsyncClient(raise_request_exception=False).get("/async/"))
    return Client(raise_request_exception=False).get("/sync/")


urlpatterns = [path("sync/", view), path("async/", aview)]


class Filter(SafeExceptionReporterFilter):
    """Hide our settings whole: the page's table of settings is Django's, which masks by name alone."""

    hidden_settings = re.compile(SafeExceptionReporterFilter.hidden_settings.pattern + "|BUPPLE_ENGINE", re.I)


class VaultError(Exception):
    """The vault is closed."""


# The ways to fail, each with the error that it gives

Expected = type[BaseException] | tuple[type[BaseException], ...]
FAILURES: dict[str, tuple[Expected, Callable[[Scene], None]]] = {}


def fails(expected: Expected) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    """Register a way to fail."""

    def register(arrange: Callable[[Scene], None]) -> Callable[[Scene], None]:
        FAILURES[arrange.__name__.strip("_")] = expected, arrange
        return arrange

    return register


@fails(AuthenticationError)
def refused_key(scene: Scene) -> None:
    facts = {"message": QUOTE, "type": KEY, "param": HEADER, "code": "invalid_api_key"}
    headers = {**JSON, "x-request-id": f"req {KEY} {EXTRA}", "x-generation-id": KEY}
    scene.provider.answer(Answer(401, headers, dump({"error": facts}).encode()))


@fails(AuthenticationError)
def refused_key_in_plain_text_that_is_cut(scene: Scene) -> None:
    scene.answer(401, f"{'.' * 490}{QUOTE}".encode())


@fails(ProviderServerError)
def a_page_of_html_after_retries(scene: Scene) -> None:
    scene.entry["MAX_RETRIES"] = 1
    scene.provider.answer(Answer(502, {"retry-after": "0"}, f"<p>{QUOTE}".encode()), repeat=True)


@fails(ProviderConnectionError)
def a_redirect(scene: Scene) -> None:
    scene.provider.answer(Answer(307, {"location": f"http://127.0.0.1/?key={KEY}"}))


@fails(ProviderConnectionError)
def refused_connection(scene: Scene) -> None:
    scene.entry["BASE_URL"] = f"http://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{scene.closed_port()}/v1"


@fails(ProviderConnectionError)
def no_such_host(scene: Scene) -> None:
    found = socket.getaddrinfo

    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "nowhere.invalid":  # without asking a server, which may take its time
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found(host, *args, **kwargs)

    scene.fixture("monkeypatch").setattr(socket, "getaddrinfo", resolve)
    scene.entry["BASE_URL"] = f"http://{USER}:{PASSWORD_IN_URL}@nowhere.invalid/v1?api-key={QUERY}"


@fails(ProviderConnectionError)
def unknown_authority(scene: Scene) -> None:
    port = scene.fixture("tls_provider").url.rpartition(":")[2]
    scene.entry["BASE_URL"] = f"https://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{port}/v1"


@fails((ProviderConnectionError, ImproperlyConfigured))
def missing_ca_file(scene: Scene) -> None:
    scene.entry |= {
        "BASE_URL": f"https://{USER}:{PASSWORD_IN_URL}@127.0.0.1:1/v1",
        "CA_FILE": "/nowhere/ca.pem",
    }
    scene.fixture("monkeypatch").setenv("HTTPS_PROXY", f"http://{PROXY_USER}:{PROXY_PASSWORD}@127.0.0.1:1")


@fails(ProviderConnectionError)
def refused_proxy(scene: Scene) -> None:
    scene.entry["PROXY"] = f"http://{PROXY_USER}:{PROXY_PASSWORD}@127.0.0.1:{scene.closed_port()}"


@fails(ProviderConnectionError)
def refused_proxy_of_the_environment(scene: Scene) -> None:
    _in_environment(scene, f"http://{PROXY_USER}:{PROXY_PASSWORD}@127.0.0.1:{scene.closed_port()}")


def _proxy(scene: Scene, status: int = 407) -> str:
    proxy = scene.stack.enter_context(Provider(proxy=True))
    body = dump({"error": {"message": f"{PROXY_QUOTE}, {QUOTE}"}})
    proxy.answer(Answer(status, JSON, body.encode()))
    return proxy.url.replace("//", f"//{PROXY_USER}:{PROXY_PASSWORD}@")


@fails(EngineError)
def proxy_407(scene: Scene) -> None:
    scene.entry["PROXY"] = _proxy(scene)


@fails(EngineError)
def proxy_407_of_the_environment(scene: Scene) -> None:
    _in_environment(scene, _proxy(scene))


@fails(EngineError)
def a_proxy_of_the_environment_that_quotes(scene: Scene) -> None:
    _in_environment(scene, _proxy(scene, 403))


@fails(EngineError)
def a_proxy_for_all_that_quotes(scene: Scene) -> None:
    scene.fixture("monkeypatch").setenv("ALL_PROXY", _proxy(scene, 502).removeprefix("http://"))


@fails(EngineError)
def a_proxy_of_the_entry_that_quotes(scene: Scene) -> None:
    scene.entry["PROXY"] = _proxy(scene, 403)


def _in_environment(scene: Scene, url: str) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        scene.fixture("monkeypatch").setenv(name, url)


@fails(ProviderConnectionError)
def proxy_407_to_a_tunnel(scene: Scene) -> None:
    scene.entry |= {
        "PROXY": _proxy(scene),
        "BASE_URL": f"https://{USER}:{PASSWORD_IN_URL}@127.0.0.1:1/v1",
    }


@fails((ProviderConnectionError, ImproperlyConfigured))
def proxy_that_is_no_url(scene: Scene) -> None:
    scene.entry["PROXY"] = f"http://{PROXY_USER}:{PROXY_PASSWORD}@127.0.0.1:no-port"


@fails(ProviderTimeoutError)
def clock_connect(scene: Scene) -> None:
    # It accepts, and never shakes hands.
    deaf = scene.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    scene.entry |= {
        "BASE_URL": f"https://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{deaf.getsockname()[1]}/v1",
        "TIMEOUT": {"connect": 0.1},
    }


def _silence(scene: Scene, clock: str, **said: Any) -> None:
    scene.provider.answer(Answer(**said))
    scene.entry["TIMEOUT"] = {clock if scene.verb in STREAMS else "total": 0.1}


@fails(ProviderTimeoutError)
def clock_first_token(scene: Scene) -> None:
    _silence(scene, "first_token", hold=threading.Event())


@fails(ProviderTimeoutError)
def clock_idle(scene: Scene) -> None:
    _silence(scene, "idle", pieces=[WIRE.stream_without_end(["Hello"]), threading.Event()])


@fails(ProviderTimeoutError)
def clock_total(scene: Scene) -> None:
    _silence(scene, "total", pieces=[WIRE.stream_without_end(["Hello"]), threading.Event()])


@fails(ResponseParseError)
def malformed_body_that_is_cut(scene: Scene) -> None:
    body = f"{'.' * 84}{KEY} {QUOTE}"
    scene.answer(200, f"data: {body}\n\n".encode() if scene.verb in STREAMS else body.encode())


@fails(ResponseParseError)
def an_answer_of_another_shape(scene: Scene) -> None:
    body = dump({"choices": 1, "you": QUOTE})
    scene.answer(200, f"data: {body}\n\n".encode() if scene.verb in STREAMS else body.encode())


@fails(ProviderConnectionError)
def no_answer(scene: Scene) -> None:
    scene.provider.answer(Answer(disconnect="request"))


@fails(EngineError)
def no_http(scene: Scene) -> None:
    deaf = scene.stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def serve() -> None:
        connected, _ = deaf.accept()
        with connected:
            connected.recv(65_536)
            connected.sendall(f"{QUOTE}\r\n\r\n".encode())
            with suppress(OSError):
                connected.recv(65_536)

    server = threading.Thread(target=serve)
    server.start()
    scene.stack.callback(server.join, 5)
    scene.entry["BASE_URL"] = f"http://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{deaf.getsockname()[1]}/v1"


@fails((StreamInterruptedError, ProviderConnectionError))
def cut_stream(scene: Scene) -> None:
    pieces = [WIRE.stream_without_end(["Hello"]), f": {QUOTE}\n".encode()]
    scene.provider.answer(Answer(200, EVENTS, pieces=pieces, cut=True))


@fails((StreamInterruptedError, ResponseParseError))
def stream_without_an_end(scene: Scene) -> None:
    scene.provider.answer(Answer(200, EVENTS, WIRE.stream_without_end(["Hello"])))


@fails((StreamError, ProviderServerError))
def error_in_the_answer(scene: Scene) -> None:
    body = dump({"error": {"message": QUOTE, "type": KEY, "code": "no_word_we_know"}}).encode()
    scene.answer(200, b"data: " + body + b"\n\n" if scene.verb in STREAMS else body)


@fails((StreamError, ResponseParseError))
def error_in_the_answer_that_is_no_json(scene: Scene) -> None:
    body = f"{'.' * 490}{QUOTE}".encode()
    scene.answer(200, b"event: error\ndata: " + body + b"\n\n" if scene.verb in STREAMS else body)


@fails(AuthenticationError)
def error_dropped_into_the_stream(scene: Scene) -> None:
    body = dump({"error": {"message": QUOTE, "code": "invalid_api_key"}}).encode()
    start = WIRE.stream_without_end(["Hello"]) if scene.verb in STREAMS else b""
    scene.provider.answer(Answer(200, EVENTS, start + body + b"\n"))


@fails(InvalidRequestError)
def unknown_option(scene: Scene) -> None:
    scene.options |= {"api_key": OTHER_KEY, "headers": {"X-Call": HEADER}, "temprature": 1}


@fails(InvalidRequestError)
def misspelt_key(scene: Scene) -> None:
    scene.options["apikey"] = OTHER_KEY


@fails(InvalidRequestError)
def misspelt_key_of_ai(scene: Scene) -> None:
    scene.overrides["apikey"] = OTHER_KEY


@fails(InvalidRequestError)
def headers_under_another_name(scene: Scene) -> None:
    scene.options["default_headers"] = {"Authorization": [f"Bearer {OTHER_KEY}"]}


@fails(InvalidRequestError)
def a_key_in_another_option(scene: Scene) -> None:
    scene.options["temperature"] = OTHER_KEY


@fails(InvalidRequestError)
def a_key_for_a_clock(scene: Scene) -> None:
    scene.options["timeout"] = {"total": OTHER_KEY}


@fails(InvalidRequestError)
def a_key_for_the_name_of_an_option(scene: Scene) -> None:
    scene.options[OTHER_KEY] = True


@fails(InvalidRequestError)
def a_key_for_the_name_of_a_header(scene: Scene) -> None:
    scene.options["headers"] = {f"X Key: {OTHER_KEY}": "x"}


@fails(InvalidRequestError)
def a_key_with_an_extra_that_holds_itself(scene: Scene) -> None:
    extra: dict[str, Any] = {"vault": EXTRA}
    extra |= {"again": extra, "and again": extra}
    scene.options["extra"] = extra


@fails(InvalidDriverError)
def a_key_for_an_alias(scene: Scene) -> None:
    scene.alias = OTHER_KEY


@fails(InvalidDriverError)
def a_key_for_the_default(scene: Scene) -> None:
    scene.alias = None  # type: ignore[assignment]
    scene.engine = {**scene.settings(), "DEFAULT": OTHER_KEY}


@fails(InvalidDriverError)
def a_key_for_a_driver(scene: Scene) -> None:
    scene.entry["DRIVER"] = OTHER_KEY


@fails(ImproperlyConfigured)
def a_key_in_another_setting(scene: Scene) -> None:
    scene.entry["MAX_TOKENS"] = OTHER_KEY


@fails(ImproperlyConfigured)
def driver_whose_module_quotes_the_key(scene: Scene) -> None:
    monkeypatch, folder = scene.fixture("monkeypatch"), scene.fixture("tmp_path")
    (folder / "quotes_the_key.py").write_text(f"raise ValueError('not {KEY}')")
    monkeypatch.syspath_prepend(str(folder))
    scene.entry["DRIVER"] = "quotes_the_key.Driver"


class QuotingDriver(ChatDriver):
    """A driver of the site's own, whose provider quotes what it was sent."""

    def generate(self, messages: Any, options: Any) -> Any:
        raise ProviderServerError(f"{QUOTE}\nERROR forged", type=KEY)
        yield {}


@fails(ProviderServerError)
def driver_of_the_sites_own_that_quotes(scene: Scene) -> None:
    scene.entry["DRIVER"] = f"{__name__}.QuotingDriver"


class FailingDriver(ChatDriver):
    """A driver of the site's own that fails."""

    def generate(self, messages: Any, options: Any) -> Any:
        raise VaultError("no answer")
        yield {}


class BrokenWire(ChatCompletionsWire):
    """A wire of the site's own that fails where the key has been revealed, and all else."""

    def build_headers(self, options: Any) -> dict[str, str]:
        raise VaultError("no headers")


@fails(VaultError)
def a_wire_that_fails_while_the_request_is_built(scene: Scene) -> None:
    scene.entry |= {"DRIVER": f"{__name__}.BrokenWire", "BASE_URL": f"http://127.0.0.1/v1?api-key={QUERY}"}


def refuse(value: Any) -> Any:
    """Be a parser that quotes what it refuses, and does not raise what a parser should."""
    raise KeyError(value)


def quote(value: Any) -> Any:
    """Be a parser that quotes what it refuses."""
    raise ValueError(f"must be better than {value}" if value else value)


VAULT_OPTIONS = {
    "vault": Option(string, secret=True, env=str),
    "pin": Option(integer(), secret=True, env=int),
    "places": Option(stop, secret=True),
    "store": Option(url, secret=SecretURL),
    "refused": Option(refuse, secret=True),
    "quoted": Option(quote, secret=True),
}
VAULTS = {
    "VAULT": VAULT,
    "PIN": PIN,
    "PLACES": ["here", VAULT],
    "STORE": f"http://{USER}:{PASSWORD_IN_URL}@127.0.0.1/",
}


def quote_vaults(options: Any) -> str:
    """Say all that a third party's options hold, as a provider may quote it."""
    said = [options[name].reveal() for name in ("vault", "pin", "places", "store")]
    return f"{said} {base64.b64encode(VAULT.encode()).decode()}"


class VaultDriver(Quiet):
    """A third party's driver with secrets of its own."""

    options: ClassVar = {**COMMON, **VAULT_OPTIONS}
    fails: ClassVar[str] = "generate"

    def generate(self, messages: Any, options: Any) -> Any:
        self.fail("generate", options)
        yield {"done": True}

    def fail(self, where: str, options: Any) -> None:
        if self.fails == where:
            raise ProviderServerError(quote_vaults(options), type=options["vault"].reveal())

    def models(self) -> list[str]:
        self.fail("models", self.config)
        return [self.config["vault"].reveal()]

    def check(self) -> list[Any]:
        self.fail("check", self.config)
        return []

    def get_config(self) -> dict[str, Any]:
        self.fail("get_config", self.config)
        return super().get_config()


class UnmadeVaultDriver(VaultDriver):
    """A third party's driver that quotes its secrets while it is made."""

    def __init__(self, alias: str, name: str, config: Any) -> None:
        raise ImproperlyConfigured(f"There is no vault for {quote_vaults(config)}.")


class VaultWire(ChatCompletionsWire):
    """A third party's wire with secrets of its own, which stand in a header and in the body."""

    name = "vault"
    options: ClassVar = {**ChatCompletionsWire.options, **VAULT_OPTIONS}

    def build_headers(self, options: Any) -> dict[str, str]:
        return {"X-Vault": options["vault"].reveal()}

    def build_body(self, turns: Any, options: Any, stream: bool) -> dict[str, Any]:
        return {**super().build_body(turns, options, stream), "pin": options["pin"].reveal()}


class BrokenVaultWire(VaultWire):
    """The same, which fails behind them."""

    def build_body(self, turns: Any, options: Any, stream: bool) -> dict[str, Any]:
        body = super().build_body(turns, options, stream)
        raise UnsupportedFeatureError(f"no {len(body)} fields")


@fails(ProviderServerError)
def a_third_partys_driver_that_quotes_its_secrets(scene: Scene) -> None:
    scene.entry |= {"DRIVER": f"{__name__}.VaultDriver", **VAULTS}
    scene.options["vault"] = OTHER_VAULT


@fails(AuthenticationError)
def a_third_partys_wire_whose_provider_quotes(scene: Scene) -> None:
    scene.entry |= {"DRIVER": f"{__name__}.VaultWire", **VAULTS}
    facts = {"message": f"{QUOTE} {VAULT} {OTHER_VAULT} {PIN}", "code": "invalid_api_key"}
    scene.overrides["vault"] = OTHER_VAULT
    scene.answer(401, dump({"error": {**facts, "message": facts["message"].replace(VAULT, "")}}).encode())


@fails(UnsupportedFeatureError)
def a_third_partys_wire_that_fails_behind_its_secrets(scene: Scene) -> None:
    scene.entry |= {"DRIVER": f"{__name__}.BrokenVaultWire", **VAULTS}


def _wrong_vault(name: str, value: Any) -> None:
    def of_an_entry(scene: Scene) -> None:
        scene.entry |= {"DRIVER": f"{__name__}.VaultDriver", **VAULTS, name.upper(): value}

    def of_a_call(scene: Scene) -> None:
        scene.entry |= {"DRIVER": f"{__name__}.VaultDriver", **VAULTS}
        scene.options[name] = value

    FAILURES[f"a_third_partys_setting_{name}_that_is_wrong"] = ImproperlyConfigured, of_an_entry
    FAILURES[f"a_third_partys_option_{name}_that_is_wrong"] = InvalidRequestError, of_a_call


for _name, _value in {
    "vault": PIN,
    "pin": VAULT,
    "places": {"here": VAULT},
    "store": f"ftp://{USER}:{PASSWORD_IN_URL}@127.0.0.1/",
    "refused": VAULT,
    "quoted": VAULT,
}.items():
    _wrong_vault(_name, _value)


@fails(InvalidRequestError)
def option_of_a_wrong_type(scene: Scene) -> None:
    scene.options |= {"api_key": OTHER_KEY, "extra": {"vault": EXTRA}, "temperature": "warm"}


@fails(InvalidRequestError)
def option_of_the_entry(scene: Scene) -> None:
    scene.options["base_url"] = f"http://{USER}:{PASSWORD}@127.0.0.1/"


WRONG: dict[str, Any] = {
    "api_key": OTHER_KEY.encode(),
    "headers": f"Authorization: Bearer {OTHER_KEY}",
    "extra": [("vault", EXTRA)],
}
WRONG_IN_ENTRIES: dict[str, Any] = {
    **WRONG,
    "base_url": [f"http://{USER}:{PASSWORD}@127.0.0.1/"],
    "proxy": f"http://{PROXY_USER}:{PROXY_PASSWORD}@127.0.0.1/".encode(),
}


def _wrong_call(name: str) -> None:
    def arrange(scene: Scene) -> None:
        scene.options[name] = WRONG[name]

    FAILURES[f"{name}_of_a_wrong_type"] = InvalidRequestError, arrange


def _wrong_entry(name: str) -> None:
    def arrange(scene: Scene) -> None:
        scene.entry[name.upper()] = WRONG_IN_ENTRIES[name]

    FAILURES[f"setting_{name}_of_a_wrong_type"] = ImproperlyConfigured, arrange


for _name in WRONG:
    _wrong_call(_name)
for _name in WRONG_IN_ENTRIES:
    _wrong_entry(_name)


@fails(InvalidRequestError)
def header_with_a_line_break(scene: Scene) -> None:
    scene.options["headers"] = {"X-Call": f"{HEADER}\r\n"}


@fails(InvalidRequestError)
def extra_that_is_no_json(scene: Scene) -> None:
    scene.options["extra"] = {"metadata": {"more": {1, EXTRA}}}


@fails(InvalidRequestError)
def key_with_a_line_break(scene: Scene) -> None:
    scene.options["api_key"] = f"{OTHER_KEY}\n"


@fails(ImproperlyConfigured)
def setting_with_a_line_break(scene: Scene) -> None:
    scene.entry["API_KEY"] = f"{KEY}\n{OTHER_KEY}"


@fails(AuthenticationError)
def callable_key(scene: Scene) -> None:
    scene.entry["API_KEY"] = lambda: OTHER_KEY
    scene.answer(401, dump({"error": {"message": QUOTE.replace(KEY, OTHER_KEY)}}).encode())


@fails(VaultError)
def callable_key_that_raises(scene: Scene) -> None:
    def ask() -> str:
        raise VaultError("sealed")

    scene.entry["API_KEY"] = ask


@fails(ImproperlyConfigured)
def callable_key_of_a_wrong_type(scene: Scene) -> None:
    scene.options["api_key"] = OTHER_KEY.encode


@fails(ImproperlyConfigured)
def callable_key_with_a_line_break(scene: Scene) -> None:
    scene.options["api_key"] = lambda: f"{OTHER_KEY}\n"


@fails(ImproperlyConfigured)
def unknown_setting(scene: Scene) -> None:
    scene.entry["TEMPRATURE"] = 1


@fails(ImproperlyConfigured)
def misspelt_setting(scene: Scene) -> None:
    scene.entry["APIKEY"] = KEY


@fails(ImproperlyConfigured)
def setting_of_a_wrong_type(scene: Scene) -> None:
    scene.entry["MAX_TOKENS"] = "many"


@fails(ImproperlyConfigured)
def missing_setting(scene: Scene) -> None:
    scene.entry["MODEL"] = None


@fails((ImproperlyConfigured, ProviderConnectionError))
def base_url_that_is_no_url(scene: Scene) -> None:
    scene.entry["BASE_URL"] = f"http://{USER}:{PASSWORD_IN_URL}@[::1/v1"


@fails((ImproperlyConfigured, ProviderConnectionError))
def base_url_without_a_host(scene: Scene) -> None:
    scene.entry["BASE_URL"] = f"http://{USER}:{PASSWORD_IN_URL}@/v1"


@fails(ImproperlyConfigured)
def driver_that_cannot_be_imported(scene: Scene) -> None:
    scene.entry["DRIVER"] = "nowhere.Driver"


@fails(ImproperlyConfigured)
def unknown_key_of_the_settings(scene: Scene) -> None:
    scene.engine = {**scene.settings(), "API_KEY": KEY}


@fails(ImproperlyConfigured)
def unknown_default(scene: Scene) -> None:
    scene.alias = None  # type: ignore[assignment]
    scene.engine = {**scene.settings(), "DEFAULT": "nobody"}


@fails(ImproperlyConfigured)
def no_default(scene: Scene) -> None:
    scene.alias = None  # type: ignore[assignment]
    entry = scene.settings()["DRIVERS"]["it"]
    scene.engine = {"DRIVERS": {"it": entry, "other": entry}}


@fails(ImproperlyConfigured)
def entry_that_is_no_dict(scene: Scene) -> None:
    scene.engine = {"DRIVERS": {"it": KEY}}


@fails(ImproperlyConfigured)
def entries_that_are_no_dict(scene: Scene) -> None:
    scene.engine = {"DRIVERS": [KEY]}


@fails(ImproperlyConfigured)
def settings_that_are_no_dict(scene: Scene) -> None:
    scene.engine = [("API_KEY", KEY)]


@fails(InvalidDriverError)
def unknown_alias(scene: Scene) -> None:
    scene.alias = "nobody"
    scene.overrides["api_key"] = OTHER_KEY


@fails(InvalidRequestError)
def bad_messages(scene: Scene) -> None:
    scene.messages = [{"role": "usr", "content": "Hello"}]
    scene.options["api_key"] = OTHER_KEY


@fails(UnsupportedFeatureError)
def what_the_wire_cannot_say(scene: Scene) -> None:
    scene.messages = [{"role": "user", "type": "document", "content": "https://example.com/a.pdf"}]
    scene.options["api_key"] = OTHER_KEY


# The tests


@pytest.fixture
def world(request: pytest.FixtureRequest, settings: Any, caplog: Any) -> Iterator[SimpleNamespace]:
    """Give what hears of calls: the signal, the log and the calls themselves."""
    calls: list[RunningCall] = []
    facts: list[Any] = []

    class Recorded(RunningCall):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            calls.append(self)

    def listen(**heard: Any) -> None:
        facts.append(heard)

    settings.ROOT_URLCONF = __name__
    settings.DEBUG = True
    filter_by(settings, Filter)
    request.getfixturevalue("monkeypatch").setattr(calling, "RunningCall", Recorded)
    call_finished.connect(listen)
    caplog.set_level(logging.DEBUG)
    yield SimpleNamespace(calls=calls, facts=facts, log=caplog)
    call_finished.disconnect(listen)
    streams.clear()
    get_default_exception_reporter_filter.cache_clear()  # type: ignore[attr-defined] # its stubs lack the cache


def filter_by(settings: Any, filter: type[SafeExceptionReporterFilter]) -> None:
    """Have the debug page ask a filter, which Django otherwise reads from the settings once a process."""
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = f"{filter.__module__}.{filter.__qualname__}"
    get_default_exception_reporter_filter.cache_clear()  # type: ignore[attr-defined] # its stubs lack the cache


BLOCKING = [way for way in WAYS if way[0] != "a"]
AWAITED = [way for way in WAYS if way[0] == "a"]


@pytest.fixture
def scene(
    provider: Provider, request: pytest.FixtureRequest, verb: str, world: SimpleNamespace
) -> Iterator[Scene]:
    """Give a call that would be answered, for a failure to be arranged on."""
    global asked
    with ExitStack() as stack:
        asked = Scene(provider, request.getfixturevalue, verb, stack)
        yield asked


def call_places(world: SimpleNamespace) -> dict[str, str]:
    """Return what our objects show of themselves after a call."""
    places = record_places(world.log.records)
    for n, call in enumerate(world.calls):
        request = call.exchange.request if call.exchange else None
        value = call.value
        fields = [value.options, *vars(value).values()]
        driver = call._build.__self__  # its only way to the driver
        parts = [call, vars(call), value, fields, call.exchange, request, driver, vars(driver)]
        places[f"call {n}"] = " ".join(map(repr, [*parts, driver.get_config()]))
    places["signal"] = repr(world.facts)
    places["streams"] = repr(streams)
    return places


def cases() -> Iterator[Any]:
    """Yield each failure with each verb; a call that is refused before any I/O needs no thread."""
    early = InvalidRequestError, ImproperlyConfigured, VaultError
    for failure, (expected, _) in FAILURES.items():
        is_early = isinstance(expected, type) and issubclass(expected, early)
        for way in VERBS if is_early else WAYS:
            yield pytest.param(failure, way, id=f"{failure}-{way}")


@pytest.mark.parametrize(("failure", "verb"), list(cases()), indirect=["verb"])
def test_no_secret_is_shown(
    failure: str, scene: Scene, world: SimpleNamespace, settings: Any, capfd: Any
) -> None:
    expected, arrange = FAILURES[failure]
    arrange(scene)
    settings.BUPPLE_ENGINE = scene.settings()
    response = visit(scene.verb)
    assert response.status_code == 500
    error = response.exc_info[1]
    assert isinstance(error, expected)

    page = response.content.decode()
    assert type(error).__name__ in page
    assert "Request Method" in page  # it is the debug page
    reporter = ExceptionReporter(RequestFactory().get("/"), *response.exc_info)
    printed = capfd.readouterr()
    places = {
        **error_places(error),
        **call_places(world),
        "debug page": page,
        "debug page as text": reporter.get_traceback_text(),
        "stdout and stderr": printed.out + printed.err,
    }
    assert leaks(places) == {}


def test_the_search_finds_what_shows(caplog: Any) -> None:
    with pytest.raises(ValueError, match="Expecting value") as caught:
        json.loads(KEY)
    found = error_places(caught.value)
    assert {where.split()[-1] for where in leaks(found)} == {"attributes", "s"}  # a frame's, the error's own
    logging.getLogger("bupple_engine").warning("A call", extra={"header": HEADER})
    assert list(leaks(record_places(caplog.records))) == ["log 0"]
    assert leaks({"masked": f"…{KEY[-4:]}, …{HEADER[-4:]}"}) == {}


def test_the_last_four_characters_may_show(settings: Any) -> None:
    settings.BUPPLE_ENGINE = {"DRIVERS": {"it": WIRE.settings("http://127.0.0.1", API_KEY=KEY)}}
    assert ai("it").get_config()["api_key"] == f"…{KEY[-4:]}"
    assert ai("it", api_key=OTHER_KEY).get_config()["api_key"] == f"…{OTHER_KEY[-4:]}"


def test_the_secrets_are_sent(scene: Scene, settings: Any) -> None:
    scene.answer(401, b"{}")
    settings.BUPPLE_ENGINE = scene.settings()
    visit(scene.verb)
    (sent,) = scene.provider.requests
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.headers["x-tenant"] == HEADER
    assert sent.json["metadata"] == {"vault": EXTRA, "more": [{"token": EXTRA}]}


def test_the_table_of_settings_on_the_debug_page(scene: Scene, settings: Any) -> None:
    filter_by(settings, SafeExceptionReporterFilter)
    scene.answer(401, dump({"error": {"message": f"You sent {KEY}."}}).encode())
    settings.BUPPLE_ENGINE = {"DRIVERS": {"it": WIRE.settings(scene.provider.url, API_KEY=KEY)}}
    scene.overrides["max_retries"] = 0
    page = visit(scene.verb).content.decode()
    assert "BUPPLE_ENGINE" in page
    assert leaks({"debug page": page}) == {}


@pytest.mark.parametrize("verb", AWAITED, indirect=True)
@pytest.mark.parametrize("answered", [False, True], ids=["head", "body"])
def test_a_cancelled_call_shows_nothing(
    scene: Scene, world: SimpleNamespace, settings: Any, answered: bool
) -> None:
    fall_silent(scene.provider, answered)
    settings.BUPPLE_ENGINE = scene.settings()

    async def cancel() -> BaseException:
        task = asyncio.create_task(aview(RequestFactory().get("/")))
        await asyncio.to_thread(until, lambda: scene.provider.requests)
        await asyncio.sleep(0.02)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            return error
        raise AssertionError("not cancelled")

    error = asyncio.run(cancel())
    assert leaks({**error_places(error), **call_places(world)}) == {}


def fall_silent(provider: Provider, answered: bool) -> None:
    """Have the provider say nothing, or nothing behind its head."""
    silence = threading.Event()
    provider.answer(Answer(pieces=[b": wait\n", silence]) if answered else Answer(hold=silence))


class OutOfTime(BaseException):
    """As a task queue raises from a signal."""


@pytest.mark.parametrize("verb", BLOCKING, indirect=True)
@pytest.mark.parametrize("answered", [False, True], ids=["head", "body"])
def test_a_call_that_a_signal_ends_shows_nothing(
    scene: Scene, world: SimpleNamespace, settings: Any, answered: bool
) -> None:
    fall_silent(scene.provider, answered)
    settings.BUPPLE_ENGINE = scene.settings()

    def out_of_time(*args: Any) -> None:
        raise OutOfTime

    def interrupt() -> None:
        until(lambda: scene.provider.requests)
        time.sleep(0.1)  # for the call to wait; while it connects, a socket is nobody's yet
        os.kill(os.getpid(), signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, out_of_time)
    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    try:
        with pytest.raises(OutOfTime) as caught:
            view(RequestFactory().get("/"))
    finally:
        interrupter.join()
        signal.signal(signal.SIGALRM, before)
    assert leaks({**error_places(caught.value), **call_places(world)}) == {}


def test_a_bad_variable_of_the_environment_shows_no_other(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setenv("BUPPLE_ENGINE_CLAUDE_API_KEY", KEY)
    monkeypatch.setenv("BUPPLE_ENGINE_OPENAI_API_KEY", OTHER_KEY)
    monkeypatch.setenv("BUPPLE_ENGINE_OPENAI_MAX_TOKENS", "many")
    settings.BUPPLE_ENGINE = engine_settings()
    assert KEY not in repr(settings.BUPPLE_ENGINE)
    with pytest.raises(ImproperlyConfigured, match=r"\['openai'\]\['MAX_TOKENS'\]") as caught:
        ai("openai")
    assert leaks(error_places(caught.value)) == {}


def test_environment_settings_that_cannot_be_read_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUPPLE_ENGINE_CLAUDE_API_KEY", KEY)
    drivers: Any = ["claude", None]
    with pytest.raises(TypeError, match="drivers must be names, not None") as caught:
        engine_settings(drivers=drivers)
    assert leaks(error_places(caught.value)) == {}


# A key that somebody has pasted into the wrong place


def pasted(provider: Provider) -> dict[str, Any]:
    """Return settings in which keys stand where none belongs."""
    entry = WIRE.settings(provider.url, MODEL=KEY, MAX_RETRIES=0)
    return {"DEFAULT": "it", "DRIVERS": {"it": entry, OTHER_KEY: {"DRIVER": "echo"}}}


@pytest.mark.parametrize("verb", VERBS, indirect=True)
def test_a_key_for_a_model_is_shown_nowhere(scene: Scene, world: SimpleNamespace, settings: Any) -> None:
    scene.answer(404, dump({"error": {"message": f"No model {KEY}", "param": KEY}}).encode())
    scene.engine = settings.BUPPLE_ENGINE = pasted(scene.provider)
    response = visit(scene.verb)
    (sent,) = scene.provider.requests
    assert sent.json["model"] == KEY  # what is set is sent
    error = response.exc_info[1]
    assert f"…{KEY[-4:]}" in error.message
    places = {**record_places(world.log.records), "error": f"{error!r} {error} {vars(error)}"}
    places |= {"signal": repr(world.facts), "driver": repr(driver()), "config": repr(driver().get_config())}
    assert leaks(places) == {}
    assert ai(OTHER_KEY).send(HELLO)["content"] == "Hello"  # an alias, all the same
    assert leaks({"driver": f"{ai(OTHER_KEY)!r} {ai(OTHER_KEY).get_config()}"}) == {}
    assert leaks(record_places(world.log.records)) == {}


COMMANDS: list[list[str]] = [
    ["bupple_check"],
    ["bupple_check", "--deploy"],
    ["bupple_check", "--json"],
    ["bupple_check", "--live"],
    ["bupple_check", "--live", "--json"],
    ["bupple_check", OTHER_KEY[:-1]],
    ["bupple_models"],
    ["bupple_models", KEY],
    ["bupple_chat", "-m", "Hello"],
    ["bupple_chat", KEY, "-m", "Hello"],
    ["check"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_show_no_key(
    command: list[str], provider: Provider, settings: Any, caplog: Any, capfd: Any, django_db_blocker: Any
) -> None:
    settings.BUPPLE_ENGINE = {**pasted(provider), "API": {"OPTIONS": {KEY: True}, "DRIVERS": [KEY]}}
    body = dump({"error": {"message": f"{KEY}\nForged: {OTHER_KEY} \x1b[2J"}}).encode()
    provider.answer(Answer(401, JSON, body), repeat=True)
    said = ""
    try:
        with django_db_blocker.unblock():  # from Django 6.1 on, `check` asks each database what it can do
            call_command(*command)
    except CommandError as error:
        said = " ".join(f"{each} {each!r}" for each in chain(error))
    except SystemCheckError as error:
        said = str(error)
    printed = capfd.readouterr()
    places = {"out": printed.out, "err": printed.err, "error": said, **record_places(caplog.records)}
    assert leaks(places) == {}
    assert "\x1b" not in printed.out + printed.err + said
    assert not any(line.startswith("Forged") for line in f"{printed.out}\n{printed.err}\n{said}".splitlines())


@pytest.mark.parametrize("name", ["DEFAULT", "CLAUDE_MODEL", "CLAUDE_MAX_TOKENS", "CLAUDE_BASE_URL"])
def test_a_key_in_a_wrong_variable_is_told_and_not_shown(
    name: str, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setenv("BUPPLE_ENGINE_CLAUDE_API_KEY", OTHER_KEY)
    monkeypatch.setenv(f"BUPPLE_ENGINE_{name}", KEY)
    settings.BUPPLE_ENGINE = engine_settings()
    told = [str(message) for message in check_settings()]
    assert any(f"…{KEY[-4:]}" in words or ".W023" in words for words in told)
    assert leaks(dict(enumerate(told))) == {}  # type: ignore[arg-type]
    with suppress(ImproperlyConfigured):
        ai().get_config()
        return
    with pytest.raises(ImproperlyConfigured) as caught:
        ai()
    assert leaks(error_places(caught.value)) == {}


def give_the_tenants_key(request: HttpRequest, call: Any) -> Any:
    """Be the site's PREPARE."""
    call.options |= {"api_key": OTHER_KEY, "headers": {"X-Tenant": HEADER}}
    if asked.verb == "prepare":
        raise VaultError("sealed")
    return call


@pytest.mark.skipif(
    not apps.is_installed("rest_framework"), reason="The API is for sites that have rest_framework installed"
)
@pytest.mark.parametrize("where", ["prepare", "generate", "options"])
@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.usefixtures("world")
def test_a_key_that_prepare_sets_is_shown_nowhere(
    client: Any, where: str, provider: Provider, settings: Any, caplog: Any, request: pytest.FixtureRequest
) -> None:
    global asked
    asked = Scene(provider, request.getfixturevalue, where, ExitStack())
    settings.ROOT_URLCONF = "bupple_engine.urls"
    settings.DEBUG = False
    entry = {"DRIVER": f"{__name__}.{'BrokenWire' if where == 'options' else 'FailingDriver'}", "MODEL": "m"}
    api = {
        "PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
        "AUTHENTICATION_CLASSES": [],
        "PREPARE": f"{__name__}.give_the_tenants_key",
    }
    settings.BUPPLE_ENGINE = {"DRIVERS": {"it": {**entry, "API_KEY": KEY}}, "API": api}
    failed: list[BaseException] = []

    def listen(**facts: Any) -> None:
        failed.append(sys.exc_info()[1] or VaultError())

    got_request_exception.connect(listen)
    try:
        post = client(raise_request_exception=False).post
        sent = {"path": "/chat/", "data": {"messages": HELLO}, "content_type": "application/json"}
        response = async_to_sync(post)(**sent) if client is AsyncClient else post(**sent)
    finally:
        got_request_exception.disconnect(listen)
    assert response.status_code == 500
    (error, *_) = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert isinstance(error, VaultError)
    places = {**error_places(error), **record_places(caplog.records), "answer": response.content.decode()}
    for each in failed:
        places |= error_places(each)
    assert leaks(places) == {}


@pytest.mark.parametrize("requests", [RequestFactory(), AsyncRequestFactory()], ids=["wsgi", "asgi"])
def test_the_options_of_a_streaming_response_are_hidden(requests: RequestFactory, settings: Any) -> None:
    settings.BUPPLE_ENGINE = {"DRIVERS": {"it": WIRE.settings("http://127.0.0.1:1", API_KEY=KEY)}}
    options: Any = {"api_key": OTHER_KEY, "headers": {"X-Tenant": HEADER}, "temprature": 1}
    with pytest.raises(InvalidRequestError) as caught:
        stream_response(requests.get("/"), messages=HELLO, **options)
    assert leaks(error_places(caught.value)) == {}


# What cannot be carried away


def test_a_driver_is_pickled_as_its_alias(settings: Any, provider: Provider) -> None:
    settings.BUPPLE_ENGINE = {
        "DEFAULT": "it",
        "DRIVERS": {"it": WIRE.settings(provider.url, API_KEY=KEY), "echo": {}},
    }
    for alias in ("it", "echo"):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            written = pickle.dumps(ai(alias), protocol)
            assert leaks({"pickle": written.decode("latin-1")}) == {}
            assert pickle.loads(written) is ai(alias)  # noqa: S301
    assert pickle.loads(pickle.dumps(ai("echo").send))(HELLO)["content"] == "Hello"  # noqa: S301
    with pytest.raises(TypeError, match=r"made by another than ai\('it'\)"):
        pickle.dumps(EchoDriver("it", "echo", {}))
    changed = ai("it", api_key=OTHER_KEY)
    with pytest.raises(TypeError, match=r"ai\('it', \*\*options\) can't be pickled") as caught:
        pickle.dumps(changed)
    assert leaks({"error": str(caught.value)}) == {}


@pytest.mark.parametrize("driver", ["VaultDriver", "UnmadeVaultDriver", "VaultWire"])
@pytest.mark.parametrize("fails", ["check", "get_config", "models", "generate"])
def test_a_third_partys_secrets_are_masked_in_all_that_looks_at_its_driver(
    driver: str, fails: str, provider: Provider, settings: Any, monkeypatch: Any, caplog: Any, capfd: Any
) -> None:
    monkeypatch.setattr(VaultDriver, "fails", fails)
    said = dump({"error": {"message": f"{VAULT} {PIN} {KEY}"}})
    provider.answer(Answer(401, JSON, said.encode()), repeat=True)
    entry = {**WIRE.settings(provider.url, API_KEY=KEY), "DRIVER": f"{__name__}.{driver}", **VAULTS}
    settings.BUPPLE_ENGINE = {"DRIVERS": {"it": entry}}
    places = {"checks": repr([*check_settings(), *check_deployment()]), "verdict": repr(probe("it"))}
    with suppress(CommandError, SystemCheckError):
        call_command("bupple_check", "--live")
    rows = read_rows()
    places["page"] = repr(rows) + repr([vars(row) for row in rows])
    with suppress(Exception):
        places["driver"] = shown(ai("it")) + repr(ai("it").get_config()) + repr(ai("it").config)
        places["pickle"] = pickle.dumps(ai("it")).decode("latin-1")
        with pytest.raises(TypeError, match="has a secret in it"):
            pickle.dumps(ai("it").config["vault"])
    printed = capfd.readouterr()
    places["printed"] = printed.out + printed.err
    assert leaks({**places, **record_places(caplog.records)}) == {}
    is_made = driver == "VaultWire" or (driver == "VaultDriver" and fails != "get_config")
    assert ("driver" in places) == is_made


def test_a_third_partys_secrets_are_told_by_their_last_characters(settings: Any) -> None:
    settings.BUPPLE_ENGINE = {"DRIVERS": {"it": {"DRIVER": f"{__name__}.VaultDriver", **VAULTS}}}
    config = ai("it").get_config()
    assert config["vault"] == f"…{VAULT[-4:]}"
    assert (config["pin"], config["places"], config["refused"]) == ("…", "…", None)
    assert config["store"] == "http://…@127.0.0.1/"
    assert ai("it", vault=OTHER_VAULT).get_config()["vault"] == f"…{OTHER_VAULT[-4:]}"


def test_a_third_partys_secrets_are_sent(scene: Scene, settings: Any) -> None:
    scene.answer(401, b"{}")
    scene.entry |= {"DRIVER": f"{__name__}.VaultWire", **VAULTS}
    settings.BUPPLE_ENGINE = scene.settings()
    visit(scene.verb)
    (sent,) = scene.provider.requests
    assert (sent.headers["x-vault"], sent.json["pin"]) == (VAULT, PIN)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_driver_can_be_copied(copied: Callable[[Any], Any], settings: Any, provider: Provider) -> None:
    provider.answer(Answer(401, JSON, b"{}"), repeat=True)
    settings.BUPPLE_ENGINE = {"DRIVERS": {"it": WIRE.settings(provider.url, API_KEY=KEY, MAX_RETRIES=0)}}
    twin = copied(ai("it", api_key=OTHER_KEY))
    with pytest.raises(AuthenticationError):
        twin.send(HELLO)
    assert provider.requests[-1].headers["authorization"] == f"Bearer {OTHER_KEY}"
    assert twin.get_config() == ai("it", api_key=OTHER_KEY).get_config()
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(twin)


@pytest.mark.parametrize("verb", ["stream", "astream"])
def test_a_stream_is_not_pickled(verb: str, settings: Any) -> None:
    settings.BUPPLE_ENGINE = {"DRIVERS": {"echo": {}}}
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(getattr(ai("echo"), verb)(HELLO))


# What a provider says, where it is written

FORGED = "fine\r\n\u2028ERROR forged\x1b[2J\x9b31m\u202e"
ONE_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]*")


@pytest.mark.parametrize("verb", VERBS, indirect=True)
@pytest.mark.parametrize("status", [200, 400])
def test_what_a_provider_says_forges_nothing(
    status: int, scene: Scene, world: SimpleNamespace, settings: Any
) -> None:
    settings.BUPPLE_ENGINE = scene.settings()
    headers = {"x-request-id": "req\x1b[2J\x9b"}
    if status == 200:
        body = WIRE.stream([FORGED]) if scene.verb in STREAMS else WIRE.reply(FORGED)
        body = body.replace(WIRE.model.encode(), json.dumps(FORGED)[1:-1].encode())
        scene.provider.answer(Answer(200, {**(EVENTS if scene.verb in STREAMS else JSON), **headers}, body))
    else:
        facts = {"message": FORGED, "type": FORGED, "param": FORGED, "code": FORGED}
        scene.provider.answer(Answer(400, {**JSON, **headers}, dump({"error": facts}).encode()))
    response = visit(scene.verb)
    if status == 400:
        error = response.exc_info[1]
        report(error)
        for name in ("type", "param", "request_id"):
            assert "forged" in getattr(error, name) or name == "request_id"
            assert ONE_LINE.fullmatch(getattr(error, name))
        assert "forged" in str(error)
        assert ONE_LINE.fullmatch(str(error))
        assert all(map(ONE_LINE.fullmatch, error.message.split("\n")))  # it keeps its lines
    else:
        assert world.facts[0]["model"].startswith("fine ERROR forged")
    records = [record for record in world.log.records if record.name == "bupple_engine"]
    assert len(records) >= 2
    for record in records:
        for text in [record.getMessage(), *vars(record).values()]:
            assert not isinstance(text, str) or ONE_LINE.fullmatch(text), text
    for text in world.facts[0].values():
        assert not isinstance(text, str) or ONE_LINE.fullmatch(text)


def test_the_words_of_an_answer_are_left_alone(provider: Provider, settings: Any) -> None:
    settings.BUPPLE_ENGINE = {"DRIVERS": {"it": WIRE.settings(provider.url, API_KEY=KEY)}}
    text = f"{FORGED} {KEY}"
    provider.answer(Answer(200, JSON, WIRE.reply(text)))
    assert ai("it").send(HELLO)["content"] == text


def test_the_names_of_models_are_on_a_line_each(provider: Provider, settings: Any) -> None:
    settings.BUPPLE_ENGINE = {"DRIVERS": {"it": WIRE.settings(provider.url, API_KEY=KEY)}}
    body = dump({"object": "list", "data": [{"id": FORGED}, {"id": "plain"}]}).encode()
    provider.answer(Answer(200, JSON, body), repeat=True)
    names = ai("it").models()
    assert names[1] == "plain"
    assert ONE_LINE.fullmatch(names[0])
    verdict = probe("it")
    assert all(ONE_LINE.fullmatch(text) for text in verdict.as_dict().values() if isinstance(text, str))
