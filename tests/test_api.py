"""The endpoints in both worlds: who may call, what a client may choose, and what it is told."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.core.exceptions import (
    ImproperlyConfigured,
    PermissionDenied,
    SuspiciousOperation,
    ValidationError,
)
from django.core.signals import got_request_exception
from rest_framework.authtoken.models import Token
from rest_framework.exceptions import NotFound
from rest_framework.exceptions import ValidationError as RestValidationError
from rest_framework.permissions import BasePermission

from bupple_engine.conf import api_settings
from bupple_engine.drivers.base import ChatDriver
from bupple_engine.exceptions import InvalidRequestError
from bupple_engine.signals import call_finished
from tests.api import BODIES, HELLO, Answered, Caller, Site, open_site
from tests.provider import Answer, Provider
from tests.wires import KEY, KINDS, ChatCompletions

pytestmark = pytest.mark.skipif(
    not apps.is_installed("rest_framework"), reason="The API is for sites that have rest_framework installed"
)

WIRE = ChatCompletions()
PNG = "iVBORw0KGgo="
BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"


@pytest.fixture(autouse=True)
def site(settings: Any) -> Site:
    """Give a function that sets the API's settings; the echo driver is the default, the API open to all."""
    return open_site(settings)


@pytest.fixture(params=["wsgi", "asgi"])
def caller(request: pytest.FixtureRequest) -> Caller:
    return Caller(request.param)


@pytest.fixture(params=BODIES)
def path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# Who may call


@pytest.mark.django_db
def test_staff_alone_may_call_unless_the_site_says_who(
    caller: Caller, path: str, settings: Any, django_user_model: Any
) -> None:
    settings.BUPPLE_ENGINE = {"DEFAULT": "echo", "DRIVERS": {"echo": {}}}
    settings.MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ]
    users = {
        staff: django_user_model.objects.create_user(f"user{staff}", is_staff=staff)
        for staff in (False, True)
    }
    assert caller.post(path).error["code"] in (403, "invalid_api_key")
    for url in ("drivers/", "v1/models", "v1/models/echo"):
        assert caller.get(url).status == 403
    caller.client.force_login(users[False])
    assert caller.post(path).status == 403
    assert caller.get("drivers/").status == 403
    caller.client.force_login(users[True])
    assert b"Hello" in caller.post(path).body
    assert caller.get("drivers/").status == 200


@pytest.mark.django_db
@pytest.mark.parametrize("world", ["wsgi", "asgi"])
def test_a_session_keeps_its_protection_against_forgery(
    path: str, world: str, settings: Any, site: Site, django_user_model: Any
) -> None:
    site(AUTHENTICATION_CLASSES=["rest_framework.authentication.SessionAuthentication"])
    settings.MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ]
    caller = Caller(world, enforce_csrf_checks=True)
    caller.client.force_login(django_user_model.objects.create_user("someone"))
    refused = caller.post(path)
    assert refused.status == 403
    assert "CSRF" in refused.error["message"]
    # Multipart: what looks for the token reads the form, up to Django's own limits.
    forged = caller.post(path, b"--x\r\n" * 10, content_type="multipart/form-data; boundary=x")
    assert forged.status in (400, 403)
    token = "a" * 32
    caller.client.cookies["csrftoken"] = token
    header = {"headers": {"X-CSRFToken": token}}
    assert b"Hello" in caller.post(path, **header).body


@pytest.mark.django_db
def test_a_token_of_the_site_is_a_bearer_token(caller: Caller, site: Site, django_user_model: Any) -> None:
    """The set-up that docs/http-api.md has."""
    site(
        AUTHENTICATION_CLASSES=["bupple_engine.api.authentication.BearerAuthentication"],
        PERMISSION_CLASSES=["rest_framework.permissions.IsAuthenticated"],
    )
    token = Token.objects.create(user=django_user_model.objects.create_user("someone"))
    header = {"headers": {"Authorization": f"Bearer {token.key}"}}
    assert caller.post("v1/chat/completions", **header).json["object"] == "chat.completion"
    assert caller.get("v1/models", **header).status == 200
    for wrong in ("Bearer nonsense", "Bearer", f"Bearer {token.key} x", "Bearer \xff", f"Token {token.key}"):
        refused = caller.post("v1/chat/completions", headers={"Authorization": wrong})
        assert refused.status == 401
        assert refused.header("WWW-Authenticate") == "Bearer"
        assert refused.error["type"] == "authentication_error"
        assert refused.error["code"] == "invalid_api_key"
        assert token.key not in refused.everything


# What a client may choose


def test_by_default_nothing_but_the_words_is_a_clients(caller: Caller, site: Site) -> None:
    site({"echo": {}, "hidden": {"DRIVER": "echo"}})
    for field, value in {
        "driver": "hidden",
        "model": "m",
        "options": {"temperature": 1},
        "messages": [{"role": "system", "content": "Obey"}, *HELLO],
    }.items():
        for path in ("chat/", "chat/stream/"):
            refused = caller.post(path, {"messages": HELLO, field: value})
            assert refused.status == 400
            assert refused.error["param"].startswith(field)
            assert "hidden" not in refused.body.decode().replace("is 'hidden'", "")
    assert caller.get("drivers/").json == [{"driver": "echo", "default": True, "models": []}]
    assert [each["id"] for each in caller.get("v1/models").json["data"]] == ["echo"]
    assert caller.get("v1/models/hidden").status == 404


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 0.5),
        ("top_p", 1),
        ("max_tokens", 5),
        ("max_completion_tokens", 5),
        ("stop", "x"),
        ("seed", 0),
        ("reasoning_effort", "low"),
        ("n", 2),
        ("logprobs", True),
        ("tools", [{"type": "function"}]),
        ("response_format", {"type": "json_object"}),
        ("frequency_penalty", 0.5),
        ("stream", "yes"),
        ("model", "gpt-9"),
        ("model", ""),
        ("model", None),
        ("model", ["echo"]),
    ],
)
def test_a_known_field_that_cannot_be_honoured_is_named(caller: Caller, field: str, value: Any) -> None:
    refused = caller.post("v1/chat/completions", {**BODIES["v1/chat/completions"], field: value})
    assert (refused.status, refused.error["param"]) == (400, field)
    assert refused.error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "end"),
    [
        ({"messages": HELLO, "mesages": HELLO}, "is unknown. Did you mean 'messages'?"),
        ({"messages": HELLO, "x" * 9: 1}, "is unknown. Known are driver, messages, model, options."),
        ({"messages": "Hello"}, "must be a list."),
    ],
)
def test_a_refusal_ends_as_a_sentence(caller: Caller, body: Any, end: str) -> None:
    assert caller.post("chat/", body).error["message"].endswith(end)


def test_fields_that_change_nothing_are_ignored(caller: Caller) -> None:
    harmless = {
        "n": 1,
        "logprobs": False,
        "frequency_penalty": 0.0,
        "presence_penalty": 0,
        "tools": [],
        "tool_choice": "auto",
        "response_format": {"type": "text"},
        "user": "u",
        "metadata": {"a": "b"},
        "store": True,
        "temperature": None,
        "stream": False,
        "a field of next year": [1],
    }
    answer = caller.post("v1/chat/completions", {**BODIES["v1/chat/completions"], **harmless})
    assert answer.json["choices"][0]["message"]["content"] == "Hello there"
    answer = caller.post(
        "ui/chat/", {**BODIES["ui/chat/"], "id": "c1", "trigger": "submit-message", "body": 1}
    )
    assert b"Hello" in answer.body
    refused = caller.post("chat/", {"messages": HELLO, "stream": True})
    assert (refused.status, refused.error["param"]) == (400, "stream")


def test_what_the_site_listed_a_client_may_choose(caller: Caller, site: Site, provider: Provider) -> None:
    site(
        {"echo": {}, "team/fast": WIRE.settings(provider.url), "hidden": {"DRIVER": "echo"}},
        DRIVERS=["team/fast", "echo"],
        MODELS={"team/fast": ["large", "org/small"], "hidden": ["x"]},
        OPTIONS={"temperature": 1, "max_tokens": 100, "seed": [1, 2], "stop": True},
        SYSTEM_MESSAGES=True,
    )
    provider.answer(Answer(body=WIRE.reply("Yes")), repeat=True)
    chosen = {"temperature": 1, "max_tokens": 100, "seed": 2, "stop": ["a"]}
    messages = [{"role": "system", "content": "Obey"}, *HELLO]
    assert (
        caller.post(
            "chat/", {"messages": messages, "driver": "team/fast", "model": "large", "options": chosen}
        ).json["content"]
        == "Yes"
    )
    assert WIRE.options(provider.requests[0]) == chosen
    assert WIRE.model_asked(provider.requests[0]) == "large"
    for name, model in {"team/fast": WIRE.model, "team/fast/org/small": "org/small"}.items():
        said = caller.post("v1/chat/completions", {"model": name, "messages": messages, **chosen}).json
        assert said["model"] == name
        assert WIRE.model_asked(provider.requests[-1]) == model
        assert WIRE.options(provider.requests[-1]) == chosen
    for name, value in {"temperature": 1.01, "max_tokens": 101, "seed": 3, "top_p": 1}.items():
        refused = caller.post("chat/", {"messages": HELLO, "options": {name: value}})
        assert (refused.status, refused.error["param"]) == (400, f'options["{name}"]')
    for value in ("1", True, [1], {}, float("inf")):
        assert caller.post("chat/", {"messages": HELLO, "options": {"temperature": value}}).status == 400
    for model in ("team/fast/huge", "team", "hidden", "hidden/x", "echo/large"):
        assert (
            caller.post("v1/chat/completions", {"model": model, "messages": HELLO}).error["param"] == "model"
        )
    assert len(provider.requests) == 3
    assert caller.get("drivers/").json == [
        {"driver": "team/fast", "default": False, "models": ["large", "org/small"]},
        {"driver": "echo", "default": True, "models": []},
    ]
    names = ["team/fast", "team/fast/large", "team/fast/org/small", "echo"]
    assert [each["id"] for each in caller.get("v1/models").json["data"]] == names
    for name in names:
        assert caller.get(f"v1/models/{name}").json["id"] == name
    refused = caller.get("v1/models/team%2Fnone")
    assert (refused.status, refused.error["code"]) == (404, "model_not_found")


def test_only_the_keys_of_media_are_taken_of_metadata(caller: Caller, site: Site, provider: Provider) -> None:
    site({"claude_like": WIRE.settings(provider.url)})
    provider.answer(Answer(body=WIRE.reply("Yes")), repeat=True)
    taken: list[Any] = []

    def listen(**kwargs: Any) -> None:
        taken.append(kwargs)

    call_finished.connect(listen)
    seen: list[Any] = []

    def prepare(request: Any, call: Any) -> Any:
        seen.append(call.messages)
        return call

    site({"fast": WIRE.settings(provider.url)}, PREPARE=prepare)
    forged = {
        "signature": "forged",
        "driver": "x",
        "provider": {},
        "caption": "A dot",
        "mime_type": "image/png",
    }
    content = [
        {"type": "image", "content": PNG, "metadata": forged},
        {"content": "What?", "metadata": {"a": 1}},
    ]
    messages = [
        {"role": "assistant", "content": "Hm", "metadata": forged, "model": "m", "usage": {}},
        {"role": "user", "content": content, "metadata": forged},
    ]
    assert caller.post("chat/", {"messages": messages}).status == 200
    call_finished.disconnect(listen)
    kept = {"caption": "A dot", "mime_type": "image/png"}
    assert seen == [
        [
            {"role": "assistant", "content": [{"type": "text", "content": "Hm", "metadata": kept}]},
            {
                "role": "user",
                "content": [
                    {"type": "image", "content": PNG, "metadata": kept},
                    {"type": "text", "content": "What?"},
                ],
            },
        ]
    ]
    assert "forged" not in json.dumps(provider.requests[-1].json)


# PREPARE


def _tenant(request: Any, call: Any) -> Any:
    """The examples of docs/http-api.md in one."""
    if request.META.get("HTTP_X_TENANT") == "none":
        raise PermissionDenied("Your plan has no AI.")
    call.driver = "hidden"
    call.options["api_key"] = "sk-tenant-0123456789"
    call.options["temperature"] = 0.1
    call.messages.insert(0, {"role": "system", "content": "You are polite."})
    call.context = {"tenant": request.META.get("HTTP_X_TENANT")}
    return call


async def _atenant(request: Any, call: Any) -> Any:
    return _tenant(request, call)


@pytest.mark.parametrize("prepare", [_tenant, _atenant, f"{__name__}._tenant", f"{__name__}._atenant"])
def test_prepare_may_change_all_of_a_call(
    caller: Caller, path: str, site: Site, provider: Provider, prepare: Any
) -> None:
    site({"echo": {}, "hidden": WIRE.settings(provider.url)}, PREPARE=prepare)
    streamed = path in ("chat/stream/", "ui/chat/")
    provider.answer(Answer(body=WIRE.stream(["Yes"]) if streamed else WIRE.reply("Yes")))
    told: list[Any] = []

    def listen(**kwargs: Any) -> None:
        told.append(kwargs["context"])

    call_finished.connect(listen)
    answer = caller.post(path, headers={"X-Tenant": "t1"})
    call_finished.disconnect(listen)
    assert b"Yes" in answer.body
    (request,) = provider.requests
    assert WIRE.key(request) == "sk-tenant-0123456789"
    assert WIRE.prompt(request) == [("system", "You are polite."), ("user", "Hello there")]
    assert WIRE.options(request) == {"temperature": 0.1}
    assert told == [{"tenant": "t1"}]
    vetoed = caller.post(path, headers={"X-Tenant": "none"})
    assert (vetoed.status, vetoed.error["message"]) == (403, "Your plan has no AI.")
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (PermissionDenied("No."), 403, "No."),
        (ValidationError("Say please."), 400, "Say please."),
        (ValidationError({"messages": ["Say please."]}), 400, "Say please."),
        (RestValidationError({"messages": ["Say please."]}), 400, "Say please."),
        (InvalidRequestError("Say please.", param="messages"), 400, "Say please."),
        (NotFound("Gone."), 404, "Gone."),
        (SuspiciousOperation("sk-secret"), 400, "Malformed request."),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("path", ["chat/stream/", "v1/chat/completions"])
def test_prepare_may_veto(
    caller: Caller, path: str, site: Site, error: Exception, status: int, message: str, is_async: bool
) -> None:
    def prepare(request: Any, call: Any) -> Any:
        raise error

    async def aprepare(request: Any, call: Any) -> Any:
        raise error

    site(PREPARE=aprepare if is_async else prepare)
    vetoed = caller.post(path)
    assert (vetoed.status, vetoed.error["message"]) == (status, message)
    if "messages" in repr(error):
        assert vetoed.error["param"] == "messages"


# What a client is told


@pytest.fixture
def reported() -> Iterator[list[Any]]:
    """Give the requests of which got_request_exception has told."""
    found: list[Any] = []

    def listen(request: Any, **kwargs: Any) -> None:
        found.append(request)

    got_request_exception.connect(listen)
    yield found
    got_request_exception.disconnect(listen)


class Quiet(Caller):
    """A caller to whom an exception is a response, as to everyone but a test."""

    def __init__(self, world: str) -> None:
        super().__init__(world, raise_request_exception=False)


class Broken(ChatDriver):
    """A driver with a bug."""

    def generate(self, messages: Any, options: Any) -> Any:
        raise KeyError("sk-secret-of-the-site")
        yield


class Fallible(BasePermission):
    """A permission with a bug."""

    def has_permission(self, request: Any, view: Any) -> bool:
        raise KeyError("sk-secret-of-the-site")


def _returns_none(request: Any, call: Any) -> None:
    return None


MISTAKES: dict[str, dict[str, Any]] = {
    "no such class": {"PERMISSION_CLASSES": ["sk_secret.Permission"]},
    "no such authentication": {"AUTHENTICATION_CLASSES": ["sk_secret.Authentication"]},
    "unknown key": {"sk-secret": 1},
    "unknown driver": {"DRIVERS": ["sk-secret"]},
    "no such callable": {"PREPARE": "sk_secret.prepare"},
    "a callable that returns nothing": {"PREPARE": _returns_none},
    "a bug in a permission": {"PERMISSION_CLASSES": [Fallible]},
    "a bug in a driver": {"drivers": {"echo": {"DRIVER": f"{__name__}.Broken"}}},
    "a driver without its key": {"drivers": {"echo": {"DRIVER": "openai_chat", "MODEL": "m"}}},
    "a driver that is none": {"drivers": {"echo": {"DRIVER": "sk_secret.Driver"}}},
}


@pytest.mark.parametrize("world", ["wsgi", "asgi"])
@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("path", ["chat/stream/", "v1/chat/completions"])
def test_a_mistake_of_the_site_is_told_to_the_site_alone(
    world: str, path: str, site: Site, mistake: str, reported: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    site(**MISTAKES[mistake])
    answer = Quiet(world).post(path)
    assert answer.status == 500
    assert not re.search("(?i)secret|Traceback|KeyError|PREPARE|PERMISSION|API_KEY", answer.everything)
    assert answer.header("x-should-retry") == "false"
    (record,) = [record for record in caplog.records if getattr(record, "error_id", None)]
    assert record.error_id == answer.error["id"]  # type: ignore[attr-defined]
    assert record.exc_info
    assert record.levelno == logging.ERROR
    assert mistake == "a bug in a driver" or len(reported) == 1


SECRETS = f"{KEY} Bearer hidden-alias http://10.1.2.3:8000/v1 api.internal.example org-42"


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_leaks_of_what_a_provider_says(
    caller: Caller, path: str, site: Site, provider: Provider, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the gate and after it, in body and headers; the whole error is in the log under the id."""

    def prepare(request: Any, call: Any) -> Any:
        call.driver = "hidden-alias"
        return call

    site({"echo": {}, "hidden-alias": WIRE.settings(provider.url, MAX_RETRIES=0)}, PREPARE=prepare)
    status, headers, body = WIRE.error(kind)
    said = json.loads(body)
    said["error"]["message"] += f" {SECRETS}"
    said["error"]["param"] = SECRETS
    headers = {**headers, "x-secret": SECRETS, "server": SECRETS}
    provider.answer(Answer(status=status, headers=headers, body=json.dumps(said).encode()))
    refused = caller.post(path)
    assert refused.status in (400, 413, 422, 429, 502, 503)
    _assert_tells_nothing(refused, provider, caplog)
    if kind == "rate_limit":
        assert (refused.status, refused.header("Retry-After")) == (429, "7")
        assert refused.error["code"] in (429, "provider_rate_limit_exceeded")  # not by our own limit
        assert refused.error["type"] != "Throttled"
    caplog.clear()
    event = f"data: {json.dumps(said)}\n\n".encode()
    events = {"content-type": "text/event-stream"}
    provider.answer(Answer(headers=events, body=WIRE.stream_without_end(["one"]) + event))
    cut = caller.post(
        path,
        {**BODIES[path], "stream": True} if path.startswith("v1/") else None,
        headers={"Accept": "text/event-stream"},
    )
    assert cut.status == 200
    assert cut.events[0].data
    assert "one" in cut.body.decode()
    _assert_tells_nothing(cut, provider, caplog)


def _assert_tells_nothing(answer: Answered, provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    port = provider.url.rpartition(":")[2]
    for secret in (*SECRETS.split(), KEY[:12], "127.0.0.1", "openai", WIRE.model, "Traceback"):
        assert secret not in answer.everything, secret
    # As a number of its own: an id or a time may have its digits within.
    assert not re.search(rf"(?<![0-9a-z]){port}(?![0-9a-z])", answer.everything)
    (record,) = [record for record in caplog.records if getattr(record, "error_id", None)]
    assert record.error_id in answer.body.decode()  # type: ignore[attr-defined]
    assert "10.1.2.3" in record.getMessage()
    assert KEY not in record.getMessage()


def test_a_driver_that_cannot_express_it_is_not_named(caller: Caller, path: str, site: Site) -> None:
    def prepare(request: Any, call: Any) -> Any:
        call.driver = "hidden-alias"
        call.options["seed"] = 1
        return call

    site({"echo": {}, "hidden-alias": {"DRIVER": "claude", "API_KEY": KEY, "MODEL": "m"}}, PREPARE=prepare)
    refused = caller.post(path)
    assert refused.status == 400
    assert not re.search("hidden|claude", refused.everything)


# What a client accepts


@pytest.mark.parametrize(
    "accept", ["text/event-stream", "application/xml", "image/png", "*/*", "", "nonsense", "text/html"]
)
def test_errors_are_json_whatever_is_accepted(caller: Caller, path: str, accept: str, site: Site) -> None:
    headers = {"headers": {"Accept": accept}} if accept else {}
    for refused in (
        caller.post(path, {}, **headers),
        caller.post(path, b"{", **headers),
        caller.post(path, content_type="text/plain", **headers),
        caller.post(path, content_type="", **headers),
        caller.post(path, method="PUT", **headers),
    ):
        assert refused.status in (400, 405, 415)
        assert refused.error["message"]
    site(PERMISSION_CLASSES=["rest_framework.permissions.IsAdminUser"])
    assert caller.post(path, **headers).error["message"]


def test_an_event_stream_for_who_accepts_one(caller: Caller) -> None:
    events = caller.post("chat/", headers={"Accept": "text/event-stream"}).events
    assert [json.loads(event.data)["done"] for event in events] == [False, False, True]
    assert caller.post("chat/", headers={"Accept": "application/json, */*"}).json["content"] == "Hello there"
    assert caller.post("chat/stream/", headers={"Accept": "application/json"}).events
    body = {**BODIES["v1/chat/completions"], "stream": True}
    assert caller.post("v1/chat/completions", body).events[-1].data == "[DONE]"


@pytest.mark.parametrize("path", ["chat/", "drivers/", "v1/models"])
def test_a_browser_is_shown_a_page(caller: Caller, path: str, settings: Any) -> None:
    settings.TEMPLATES = [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
        }
    ]
    settings.STATIC_URL = "/static/"
    page = caller.get(path, headers={"Accept": BROWSER})
    assert page.type == "text/html"
    assert ('name="_content"' in page.body.decode()) == (path == "chat/")
    assert caller.get(path).type == "application/json"


def test_the_form_of_the_page_shows_its_answers(caller: Caller, settings: Any) -> None:
    settings.TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
    settings.STATIC_URL = "/static/"
    form = {"headers": {"Accept": "text/html; q=1.0, */*", "X-Requested-With": "XMLHttpRequest"}}
    answer = caller.post("chat/", **form)
    assert (answer.status, answer.type) == (200, "text/html")
    assert "Hello there" in answer.body.decode()
    answer = caller.post("chat/", {"messages": []}, **form)
    assert (answer.status, answer.type) == (400, "text/html")


def test_a_site_without_pages_has_none(caller: Caller, settings: Any) -> None:
    settings.REST_FRAMEWORK = {"DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"]}
    assert caller.get("drivers/", headers={"Accept": BROWSER}).json
    settings.REST_FRAMEWORK = {}
    settings.INSTALLED_APPS = ["bupple_engine"]
    settings.REST_FRAMEWORK = {"UNAUTHENTICATED_USER": None}
    assert caller.get("drivers/", headers={"Accept": BROWSER}).json
    assert caller.get("chat/", headers={"Accept": BROWSER}).status == 405


def test_the_sites_versions_are_not_ours(caller: Caller, path: str, settings: Any) -> None:
    settings.REST_FRAMEWORK = {
        "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.NamespaceVersioning",
        "ALLOWED_VERSIONS": ["v9"],
        "DEFAULT_VERSION": "v9",
    }
    assert caller.post(path).status == 200


def test_text_that_is_no_text_is_answered(caller: Caller, path: str, site: Site, provider: Provider) -> None:
    """A provider may say half a surrogate pair; no answer may fail over it."""
    site({"echo": WIRE.settings(provider.url)})
    streamed = path in ("chat/stream/", "ui/chat/")
    body = WIRE.stream(["HALF"]) if streamed else WIRE.reply("HALF")
    provider.answer(Answer(body=body.replace(b"HALF", b"half \\ud83d")))
    answer = caller.post(path)
    assert answer.status == 200
    assert "half" in answer.body.decode()


# Settings


@pytest.mark.parametrize(
    ("api", "said"),
    [
        ({"DRIVER": []}, "Did you mean 'DRIVERS'"),
        ({"DRIVERS": ["nobody"]}, "nobody"),
        ({"MODELS": {"nobody": ["m"]}}, "nobody"),
        ({"MODELS": {"echo": "m"}}, "must be a list"),
        ({"OPTIONS": {"api_key": True}}, "no client may set"),
        ({"OPTIONS": {"model": True}}, "MODELS"),
        ({"OPTIONS": {"TEMPERATURE": 1}}, "lower case"),
        ({"OPTIONS": {"temperature": False}}, "ceiling"),
        ({"OPTIONS": {"temperature": []}}, "ceiling"),
        ({"SYSTEM_MESSAGES": "no"}, "True or False"),
        ({"MAX_MESSAGES": 0}, "at least 1"),
        ({"MAX_BODY_BYTES": True}, "whole number"),
        ({"MEDIA_TYPES": ["png"]}, "mime types"),
        ({"THROTTLE_RATES": {"user": "many"}}, "rates"),
        ({"THROTTLE_RATES": {"all": "1/min"}}, "'user' and 'anon'"),
        ({"MAX_CONCURRENT_STREAMS": {"user": 0}}, "at least 1"),
        ({"GATE_SECONDS": -1}, "at least 0"),
        ({"PREPARE": "prepare"}, "dotted path"),
        ({"PERMISSION_CLASSES": "IsAdminUser"}, "must be a list"),
    ],
)
def test_a_wrong_setting_is_quoted(settings: Any, api: dict[str, Any], said: str) -> None:
    settings.BUPPLE_ENGINE = {"DRIVERS": {"echo": {}}, "API": api}
    with pytest.raises(ImproperlyConfigured, match=re.escape(said)) as raised:
        api_settings()
    assert "BUPPLE_ENGINE['API']" in str(raised.value)


def test_a_limit_that_is_none_is_none_and_one_left_out_is_the_default(settings: Any) -> None:
    api = {"THROTTLE_RATES": {"user": None}, "MAX_CONCURRENT_STREAMS": {"process": None}}
    settings.BUPPLE_ENGINE = {"DRIVERS": {"echo": {}}, "API": {**api, "MEDIA_TYPES": ["image/PNG"]}}
    found = api_settings()
    assert found.throttle_rates == {"user": None, "anon": (10, 60)}
    assert found.max_concurrent_streams == {"user": 5, "process": None}
    assert found.media_types == ["image/png"]
    assert found.drivers == ["echo"]


def test_a_body_is_not_read_for_who_may_not_call(caller: Caller, path: str, site: Site) -> None:
    site(PERMISSION_CLASSES=["rest_framework.permissions.IsAdminUser"])
    assert caller.post(path, b"[" * 1_000_000).status == 403
