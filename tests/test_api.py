"""The endpoints in both worlds: who may call, what a client may choose, and what it is told."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, iscoroutinefunction, sync_to_async
from django.apps import apps
from django.core.exceptions import (
    ImproperlyConfigured,
    PermissionDenied,
    SuspiciousOperation,
    ValidationError,
)
from django.core.signals import got_request_exception
from django.test import AsyncRequestFactory, RequestFactory
from django.urls import resolve, reverse
from django.views.decorators.cache import never_cache
from rest_framework.authtoken.models import Token
from rest_framework.exceptions import NotFound
from rest_framework.exceptions import ValidationError as RestValidationError
from rest_framework.permissions import BasePermission

from bupple_engine.api import slots
from bupple_engine.conf import api_settings
from bupple_engine.drivers.base import ChatDriver
from bupple_engine.exceptions import InvalidRequestError
from bupple_engine.signals import call_finished
from tests.api import BODIES, HELLO, Answered, Caller, Site, open_site
from tests.provider import Answer, Provider
from tests.wires import KEY, KINDS, ChatCompletions
from tests.worlds import until

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
    header: Any = {"headers": {"X-CSRFToken": token}}
    assert b"Hello" in caller.post(path, **header).body


@pytest.mark.django_db
def test_a_token_of_the_site_is_a_bearer_token(caller: Caller, site: Site, django_user_model: Any) -> None:
    """The set-up that docs/http-api.md has."""
    site(
        AUTHENTICATION_CLASSES=["bupple_engine.api.authentication.BearerAuthentication"],
        PERMISSION_CLASSES=["rest_framework.permissions.IsAuthenticated"],
    )
    token = Token.objects.create(user=django_user_model.objects.create_user("someone"))
    header: Any = {"headers": {"Authorization": f"Bearer {token.key}"}}
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
    wrong: Any
    for wrong in ("1", True, [1], {}, float("inf")):
        assert caller.post("chat/", {"messages": HELLO, "options": {"temperature": wrong}}).status == 400
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


# In the client's own names

LONG_NAME = 'messages[0]["content"][0]'


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "text", "text": 7}, '["text"]'),
        ({"type": "image_url", "image_url": {"url": 7}}, '["image_url"]["url"]'),
        ({"type": "image_url", "image_url": {"url": "nothing of the kind"}}, '["image_url"]["url"]'),
        ({"type": "image_url", "image_url": {"url": f"data:text/html;base64,{PNG}"}}, '["image_url"]["url"]'),
        ({"type": "image_url", "image_url": {"url": PNG, "detail": 7}}, '["image_url"]["detail"]'),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": 7}}, '["input_audio"]["format"]'),
        ({"type": "input_audio", "input_audio": {"data": "AAAA"}}, '["input_audio"]["data"]'),
        ({"type": "file", "file": {"file_data": "AAAA", "filename": 7}}, '["file"]["filename"]'),
        ({"type": "file", "file": {"file_data": "AAAA"}}, '["file"]["file_data"]'),
    ],
)
def test_an_error_of_v1_names_what_the_client_sent(caller: Caller, part: Any, param: str) -> None:
    refused = caller.post(
        "v1/chat/completions", {"model": "echo", "messages": [{"role": "user", "content": [part]}]}
    )
    assert (refused.status, refused.error["param"]) == (400, LONG_NAME + param)
    assert refused.error["message"].startswith(LONG_NAME + param)
    for ours in ("metadata", '["content"][0]["content"]'):
        assert ours not in refused.error["message"]


def test_an_error_of_the_driver_names_what_the_client_sent(
    caller: Caller, site: Site, provider: Provider
) -> None:
    """It is told at the call, when the body has long been read."""
    site({"it": WIRE.settings(provider.url)}, OPTIONS={"max_tokens": True, "temperature": True, "seed": True})
    body = {"model": "it", "messages": HELLO}
    for field in ("max_tokens", "max_completion_tokens"):
        refused = caller.post("v1/chat/completions", {**body, field: "many"})
        assert (refused.status, refused.error["param"]) == (400, field)
        assert refused.error["message"].startswith(f"{field} ")
    for path in ("chat/", "chat/stream/", "ui/chat/"):
        refused = caller.post(path, {**BODIES[path], "options": {"temperature": "hot"}})
        assert (refused.status, refused.error["param"]) == (400, 'options["temperature"]')
        assert refused.error["message"].startswith('options["temperature"] ')
    site({"it": {"DRIVER": "claude", "API_KEY": KEY, "MODEL": "m"}}, OPTIONS={"seed": True})
    refused = caller.post("chat/", {"messages": HELLO, "options": {"seed": 1}})
    assert (refused.status, refused.error["param"]) == (400, 'options["seed"]')
    assert not provider.requests


def test_an_error_of_the_driver_names_the_clients_message_behind_the_sites(
    caller: Caller, site: Site, provider: Provider
) -> None:
    def prepare(request: Any, call: Any) -> Any:
        call.messages.insert(0, {"role": "system", "content": "Be polite."})
        return call

    site({"it": {"DRIVER": "deepseek", "API_KEY": KEY, "MODEL": "m"}}, PREPARE=prepare)
    image = f"data:image/png;base64,{PNG}"
    part = {"type": "image_url", "image_url": {"url": image}}
    for path, body, param in (
        ("v1/chat/completions", {"model": "it", "messages": [{"role": "user", "content": [part]}]},
         'messages[0]["content"][0]'),
        ("chat/", {"messages": [{"role": "user", "type": "image", "content": image}]},
         'messages[0]["content"][0]'),
        ("ui/chat/", {"messages": [{"role": "user", "parts": [
            {"type": "step-start"}, {"type": "file", "mediaType": "image/png", "url": image}]}]},
         'messages[0]["parts"][1]'),
    ):  # fmt: skip
        refused = caller.post(path, body)
        assert (refused.status, refused.error["param"]) == (400, param)


@pytest.mark.parametrize("path", ["chat/", "chat/stream/"])
def test_a_stream_is_not_asked_for_anew(caller: Caller, site: Site, provider: Provider, path: str) -> None:
    """As fetch-event-source does, which reconnects a POST too."""
    site({"it": WIRE.settings(provider.url)}, MAX_CONCURRENT_STREAMS={"user": 1, "process": 1})
    provider.answer(Answer(body=WIRE.stream(["Yes"])))
    headers = {"Accept": "text/event-stream"}
    for _ in range(2):
        again = caller.post(path, headers={**headers, "Last-Event-ID": "2"})
        assert (again.status, again.body) == (204, b"")
        until(lambda: not slots._streams)
    assert not provider.requests
    assert caller.post(path, headers=headers).events


def test_a_developers_message_is_refused_as_what_it_is(caller: Caller) -> None:
    messages = [{"role": "developer", "content": "Obey"}, *HELLO]
    refused = caller.post("v1/chat/completions", {"model": "echo", "messages": messages})
    assert (refused.status, refused.error["param"]) == (400, 'messages[0]["role"]')
    assert "'system'" not in refused.error["message"]


@pytest.mark.parametrize("model", ["gpt-9", "ECHO", "echo/large", "x" * 5000])
def test_a_model_that_is_not_listed_is_not_found(caller: Caller, model: str) -> None:
    refused = caller.post("v1/chat/completions", {"model": model, "messages": HELLO})
    assert (refused.status, refused.error["code"], refused.error["param"]) == (
        404,
        "model_not_found",
        "model",
    )
    assert "echo" in refused.error["message"]
    assert len(refused.body) < 1000


@pytest.mark.parametrize("stream", [False, True])
def test_an_overflow_is_one_to_the_clients_of_v1(
    caller: Caller, site: Site, provider: Provider, stream: bool
) -> None:
    """LangChain and litellm look for it in a 400, by its code or by these words."""
    site({"it": WIRE.settings(provider.url)})
    status, headers, body = WIRE.error("context")
    provider.answer(Answer(status=status, headers=headers, body=body), repeat=True)
    refused = caller.post("v1/chat/completions", {"model": "it", "messages": HELLO, "stream": stream})
    assert refused.status == 400
    assert (refused.error["type"], refused.error["code"]) == (
        "invalid_request_error",
        "context_length_exceeded",
    )
    message = refused.error["message"].lower()
    for words in (
        "this model's maximum context length is",
        "exceeds the context window",
        refused.error["code"],
    ):
        assert words in message
    assert caller.post("chat/").status == 413


def test_an_overflow_within_the_stream_has_the_same_words(
    caller: Caller, site: Site, provider: Provider
) -> None:
    site({"it": WIRE.settings(provider.url)})
    event = b"data: " + WIRE.error("context")[2] + b"\n\n"
    body = WIRE.stream_without_end(["one"]) + event
    provider.answer(Answer(headers={"content-type": "text/event-stream"}, body=body))
    answer = caller.post("v1/chat/completions", {"model": "it", "messages": HELLO, "stream": True})
    error = json.loads(answer.events[-1].data)["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "context_length_exceeded")
    assert "maximum context length" in error["message"]


# Media by their URLs

PUBLIC = [
    "https://images.example.com/cat.png",
    "HTTPS://images.example.com:8443/cat.png?size=1#x",
    "https://93.184.216.34/cat.png",
    "https://93.184.216.34./cat.png",
    "https://[2606:2800:220:1:248:1893:25c8:1946]/cat.png",
    "https://xn--bcher-kva.example/cat.png",
    "https://local.example.com/cat.png",
    "https://10.example.com/cat.png",
    "https://images.example.com/user@10.0.0.1/cat.png",
]
PRIVATE = [
    "http://images.example.com/cat.png",
    "https://user@images.example.com/cat.png",
    "https://user:password@images.example.com/cat.png",
    "https://@images.example.com/cat.png",
    "https://localhost/cat.png",
    "https://LocalHost./cat.png",
    "https://app.localhost/cat.png",
    "https://printer.local/cat.png",
    "https://metadata.google.internal/cat.png",
    "https://router.home.arpa/cat.png",
    "https://redis/cat.png",
    "https://127.0.0.1/cat.png",
    "https://127.0.0.1./cat.png",
    "https://127.1/cat.png",
    "https://2130706433/cat.png",
    "https://017700000001/cat.png",
    "https://0x7f000001/cat.png",
    "https://0x7f.0.0.1/cat.png",
    "https://0177.0.0.01/cat.png",
    "https://%31%32%37.0.0.1/cat.png",
    "https://①②⑦.⓪.⓪.①/cat.png",
    "https://127。0。0。1/cat.png",
    "https://0/cat.png",
    "https://0.0.0.0/cat.png",
    "https://10.1.2.3/cat.png",
    "https://172.16.0.1/cat.png",
    "https://192.168.0.1/cat.png",
    "https://100.64.0.1/cat.png",
    "https://169.254.169.254/cat.png",
    "https://168.63.129.16/cat.png",
    "https://0xa9fea9fe/cat.png",
    "https://224.0.0.1/cat.png",
    "https://255.255.255.255/cat.png",
    "https://256.1.1.1/cat.png",
    "https://1.2.3.4.5/cat.png",
    "https://[::1]/cat.png",
    "https://[::]/cat.png",
    "https://[::ffff:127.0.0.1]/cat.png",
    "https://[::ffff:7f00:1]/cat.png",
    "https://[::127.0.0.1]/cat.png",
    "https://[64:ff9b::a9fe:a9fe]/cat.png",
    "https://[2002:7f00:1::]/cat.png",
    "https://[fe80::1%25eth0]/cat.png",
    "https://[fd00::1]/cat.png",
    "https://[fec0::1]/cat.png",
    "https://[::ffff:0:7f00:1]/cat.png",
    "https://[2001:0:7f00:1::]/cat.png",
    "https://127.0.0.1../cat.png",
    "https://..127.0.0.1/cat.png",
    "https://1.1.1.1%00/cat.png",
    "https://localhost.localdomain/cat.png",
    "https://kubernetes.default.svc/cat.png",
    "https://images.example.com\\@127.0.0.1/cat.png",
    "https://images.example.com\t.evil/cat.png",
    "https:///cat.png",
    "https://[/cat.png",
    "https://images.example.com:port/cat.png",
]


def _image_bodies(url: str) -> dict[str, Any]:
    """Give each dialect's way to say the same image."""
    parts = [{"type": "file", "mediaType": "image/png", "url": url}]
    image = {"type": "image_url", "image_url": {"url": url}}
    return {
        "chat/": {"messages": [{"role": "user", "type": "image", "content": url}]},
        "v1/chat/completions": {"model": "it", "messages": [{"role": "user", "content": [image]}]},
        "ui/chat/": {"messages": [{"role": "user", "parts": parts}]},
    }


@pytest.mark.parametrize("path", _image_bodies(""))
@pytest.mark.parametrize("url", [*PUBLIC[:1], *PRIVATE[:5]])
def test_a_url_is_refused_unless_the_site_allows_them(path: str, url: str) -> None:
    refused = Caller("wsgi").post(
        path, {**_image_bodies(url)[path], **({"model": "echo"} if path[0] == "v" else {})}
    )
    assert refused.status == 400
    assert "is a URL; send what is there" in refused.error["message"]


@pytest.mark.parametrize("path", _image_bodies(""))
def test_public_urls_alone_are_passed_on(path: str, site: Site, provider: Provider) -> None:
    site({"it": WIRE.settings(provider.url)}, MEDIA_URLS=True)
    streamed = path == "ui/chat/"
    provider.answer(Answer(body=WIRE.stream(["Yes"]) if streamed else WIRE.reply("Yes")), repeat=True)
    caller = Caller("wsgi")
    for url in PUBLIC:
        assert caller.post(path, _image_bodies(url)[path]).status == 200, url
    passed = len(provider.requests)
    for url in PRIVATE:
        refused = caller.post(path, _image_bodies(url)[path])
        assert refused.status == 400, url
        assert refused.error["param"].startswith("messages[0]")
    assert len(provider.requests) == passed == len(PUBLIC)


# What takes a place, and what is shown of an answer


def test_what_a_provider_bills_is_not_shown(caller: Caller, site: Site, provider: Provider) -> None:
    site({"it": WIRE.settings(provider.url)})
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    more = {"cost": 0.0123, "balance": 4567, "cost_details": {"upstream": 1}}
    whole = json.loads(WIRE.reply("Yes"))
    whole["usage"] = {**usage, **more}
    last = json.dumps({"choices": [], "usage": whole["usage"]}).encode()
    streamed = WIRE.stream(["Yes"], usage=False).replace(
        b"data: [DONE]", b"data: " + last + b"\n\ndata: [DONE]"
    )
    provider.answer(Answer(body=json.dumps(whole).encode()), Answer(body=streamed))
    assert caller.post("chat/").json["usage"] == usage
    events = caller.post("chat/stream/").events
    assert json.loads(events[-1].data)["usage"] == usage


# Paths


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD"])
@pytest.mark.parametrize(
    "path",
    ["v1", "v1/", "v1/embeddings", "v1/chat/completion", "v1/chat/completions/x", "v1/v1/models", "v1//"],
)
def test_an_unknown_path_of_v1_names_those_there_are(
    caller: Caller, site: Site, path: str, method: str
) -> None:
    site(PERMISSION_CLASSES=["rest_framework.permissions.IsAdminUser"])  # it is told to anyone
    refused = caller.post(path, b"", method=method, headers={"Accept": BROWSER})
    assert (refused.status, refused.type) == (404, "application/json")
    if method != "HEAD":
        assert refused.error["type"] == "not_found_error"
        assert "POST /v1/chat/completions" in refused.error["message"]


@pytest.mark.parametrize("path", ["chat/completions", "chat/completions/"])
def test_a_client_whose_base_url_lacks_the_v1_is_told_its_base_url(
    caller: Caller, site: Site, path: str
) -> None:
    site(PERMISSION_CLASSES=["rest_framework.permissions.IsAdminUser"])
    refused = caller.post(path, {"model": "echo", "messages": []}, headers={"Accept": BROWSER})
    assert (refused.status, refused.type) == (404, "application/json")
    assert refused.error["message"].endswith("must end with /ai/v1.")


@pytest.mark.parametrize("path", ["v1/responses", "v1/responses/", "v1/responses/resp_1"])
def test_a_client_of_the_responses_api_is_told_what_to_write(caller: Caller, path: str) -> None:
    refused = caller.post(path, {"model": "echo", "input": "Hello"})
    assert refused.status == 404
    for words in ("chat.completions.create", "use_responses_api=False", ".chat("):
        assert words in refused.error["message"]


def test_paths_are_answered_with_a_slash_and_without(caller: Caller, path: str, settings: Any) -> None:
    settings.MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
    settings.DEBUG = True
    other = path.removesuffix("/") if path.endswith("/") else f"{path}/"
    assert b"Hello" in caller.post(other, BODIES[path]).body
    for known in ("drivers", "drivers/", "v1/models", "v1/models/", "v1/models/echo", "v1/models/echo/"):
        assert caller.get(known).status == 200
    assert reverse("bupple_engine:chat") == "/ai/chat/"
    assert reverse("bupple_engine:completions") == "/ai/v1/chat/completions"


@pytest.mark.parametrize(
    "chat", ["ui/chat/c1/stream", "ui/chat//c1/stream", "ui/chat//c1/stream/", "ui/chat/a/b/stream"]
)
def test_there_is_no_stream_to_resume(caller: Caller, site: Site, chat: str) -> None:
    answer = caller.get(chat, headers={"Accept": "*/*"})
    assert (answer.status, answer.body) == (204, b"")
    assert caller.get(chat, headers={"Accept": "text/event-stream"}).status == 204
    site(PERMISSION_CLASSES=["rest_framework.permissions.IsAdminUser"])
    assert caller.get(chat).status == 403


# Conversations


@pytest.mark.parametrize(
    "messages",
    [[{"role": "system", "content": "Say hello"}], [{"role": "assistant", "content": "Say hello"}],
     [{"role": "developer", "content": "Say"}, {"role": "assistant", "content": "Say hello"}]],
)  # fmt: skip
def test_a_conversation_without_a_users_message(
    caller: Caller, site: Site, provider: Provider, messages: list[Any]
) -> None:
    site({"it": WIRE.settings(provider.url), "echo": {}}, DRIVERS=["it", "echo"], SYSTEM_MESSAGES=True)
    provider.answer(Answer(body=WIRE.reply("Hello")))
    answer = caller.post("v1/chat/completions", {"model": "it", "messages": messages})
    assert answer.json["choices"][0]["message"]["content"] == "Hello"
    sent = [(role, text) for role, text in WIRE.prompt(provider.requests[0])]
    assert [text for _, text in sent] == [each["content"] for each in messages]
    assert caller.post("v1/chat/completions", {"model": "echo", "messages": messages}).status == 200


def test_a_prompt_is_a_message_of_the_user(caller: Caller) -> None:
    """What useCompletion sends."""
    answer = caller.post("ui/chat/", {"prompt": "Hello there"})
    assert b"Hello" in answer.body
    for prompt, param in ((7, "prompt"), (" ", "prompt"), ("", "prompt"), (None, "prompt")):
        refused = caller.post("ui/chat/", {"prompt": prompt})
        assert (refused.status, refused.error["param"]) == (400, param), prompt


# What a client accepts


@pytest.mark.parametrize(
    "accept", ["text/event-stream", "application/xml", "image/png", "*/*", "", "nonsense", "text/html"]
)
def test_errors_are_json_whatever_is_accepted(caller: Caller, path: str, accept: str, site: Site) -> None:
    headers: Any = {"headers": {"Accept": accept}} if accept else {}
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
    for accept in ("application/json, */*", "text/event-stream;q=0.5, application/json", "text/*"):
        assert caller.post("chat/", headers={"Accept": accept}).json["content"] == "Hello there"
    assert caller.post("chat/stream/", headers={"Accept": "application/json"}).events
    body = {**BODIES["v1/chat/completions"], "stream": True}
    assert caller.post("v1/chat/completions", body).events[-1].data == "[DONE]"


N8N = (
    "application/json,text/html,application/xhtml+xml,application/xml,text/*;q=0.9, image/*;q=0.8, */*;q=0.7"
)


@pytest.mark.parametrize(
    "accept",
    [N8N, "text/html;q=0.5, application/json", "application/json;charset=utf-8, text/html",
     "text/html;q=0.9, */*", "*/*", "application/json", "text/*, application/json"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["drivers/", "v1/models", "v1/models/echo", "v1/models/none"])
def test_a_program_is_shown_no_page(caller: Caller, site: Site, accept: str, path: str) -> None:
    assert caller.get(path, headers={"Accept": accept}).json
    site(PERMISSION_CLASSES=["rest_framework.permissions.IsAdminUser"])
    assert caller.get(path, headers={"Accept": accept}).error


@pytest.mark.parametrize("path", ["v1/models", "v1/models/echo", "v1/chat/completions"])
def test_there_is_no_page_under_v1(caller: Caller, path: str) -> None:
    for accept in (BROWSER, "text/html"):
        answer = caller.get(path, headers={"Accept": accept})
        assert answer.json
        answer = caller.post(path, {}, headers={"Accept": accept, "X-Requested-With": "XMLHttpRequest"})
        assert answer.error


@pytest.mark.parametrize("path", ["chat/", "drivers/"])
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
    form: Any = {"headers": {"Accept": "text/html; q=1.0, */*", "X-Requested-With": "XMLHttpRequest"}}
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
        ({"MEDIA_URLS": "https"}, "True or False"),
        ({"THROTTLE_RATES": {"user": "many"}}, "rates"),
        ({"THROTTLE_RATES": {"all": "1/min"}}, "'user' and 'anon'"),
        ({"MAX_CONCURRENT_STREAMS": {"user": 0}}, "at least 1"),
        ({"GATE_SECONDS": -1}, "from 0 to 86400"),
        ({"HEARTBEAT_SECONDS": 1e12}, "to 86400"),
        ({"SHUTDOWN_SECONDS": 86_401}, "to 86400"),
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


def test_the_view_is_a_coroutine_function_where_a_loop_runs_alone() -> None:
    """Under WSGI Django would have a thread and a loop made for each request to one."""
    view: Any = resolve(reverse("bupple_engine:chat")).func

    async def asked_in_a_loop() -> bool:
        return iscoroutinefunction(view)

    assert not iscoroutinefunction(view)
    assert asyncio.run(asked_in_a_loop())
    assert (view.cls.__name__, view.csrf_exempt) == ("ChatView", True)
    with pytest.raises(AttributeError, match="no attribute 'lost'"):
        _ = view.lost


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("prepares", ["not", "in a thread", "on the loop"])
async def test_an_answer_is_begun_in_one_visit_to_a_thread(
    prepares: str, stream: bool, site: Site, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DRF, PREPARE, the place, the closing of connections: a change of threads costs as much as they do."""

    async def on_the_loop(request: Any, call: Any) -> Any:
        return call

    prepare = {"not": None, "in a thread": lambda request, call: call, "on the loop": on_the_loop}[prepares]
    provider.answer(Answer(body=WIRE.stream(["Yes"]) if stream else WIRE.reply("Yes")))
    site({"fast": WIRE.settings(provider.url)}, PREPARE=prepare)
    view: Any = resolve(reverse("bupple_engine:chat-stream" if stream else "bupple_engine:chat")).func
    loop = asyncio.get_running_loop()
    run, visits = loop.run_in_executor, []

    def visit(executor: Any, work: Any, *arguments: Any) -> Any:
        # Without aiohttp a whole answer is awaited from a thread of ours.
        if isinstance(getattr(getattr(work, "func", None), "__self__", None), SyncToAsync):
            visits.append(work)
        return run(executor, work, *arguments)

    monkeypatch.setattr(loop, "run_in_executor", visit)
    async with ThreadSensitiveContext() as context:
        body = json.dumps({"messages": HELLO})
        response = await view(AsyncRequestFactory().post("/", body, content_type="application/json"))
        assert context not in SyncToAsync.context_to_thread_executor  # its thread has ended
    assert response.status_code == 200
    assert len(visits) == (2 if prepares == "on the loop" else 1)
    response.close()


def test_a_decorator_that_takes_the_view_for_synchronous() -> None:
    """It asks before there is a loop; the answer then waits in a thread, also under ASGI."""
    view = never_cache(resolve(reverse("bupple_engine:chat")).func)
    body = {"data": json.dumps({"messages": HELLO}), "content_type": "application/json"}

    async def ask() -> Any:
        return await sync_to_async(view)(AsyncRequestFactory().post("/", **body))  # type: ignore[arg-type]

    for response in (asyncio.run(ask()), view(RequestFactory().post("/", **body))):  # type: ignore[arg-type]
        response.render()
        assert response.status_code == 200
        assert "no-cache" in response["Cache-Control"]
        assert json.loads(response.content)["role"] == "assistant"
