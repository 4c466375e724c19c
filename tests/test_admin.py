"""The admin page, asked as a browser asks: who may, what it sends, what it shows, and what it never shows."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import django
import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.core.cache import cache
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection
from django.test import AsyncClient, Client
from django.urls import path
from django.utils.translation import trans_real

if not apps.is_installed("django.contrib.admin"):
    pytest.skip("the site has no django.contrib.admin", allow_module_level=True)

from django.contrib import admin
from django.contrib.auth.models import Permission, User

from bupple_engine.admin import MESSAGE_CHARACTERS, ConfigurationAdmin
from bupple_engine.diagnostics import overview
from bupple_engine.diagnostics.probe import Verdict
from bupple_engine.models import Configuration
from bupple_engine.protocol.options import Options
from bupple_engine.protocol.sse import Decoder
from tests.conftest import Configure
from tests.provider import Answer, Provider
from tests.verbs import Quiet
from tests.wires import JSON, KEY, NO_MESSAGES, ChatCompletions

ROOT = Path(__file__).parent.parent
PAGE = "/admin/bupple_engine/configuration/"
PROBE, TRY = PAGE + "probe/", PAGE + "try/"
WIRE = ChatCompletions()

ops = admin.AdminSite(name="ops")
ops.register(Configuration, ConfigurationAdmin)
urlpatterns = [path("admin/", admin.site.urls), path("ops/", ops.urls)]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("site")]


@pytest.fixture
def site(settings: Any) -> Iterator[None]:
    """Add to the settings what the admin needs."""
    settings.ROOT_URLCONF = __name__
    settings.STATIC_URL = "/static/"
    settings.MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ]
    processors = [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]
    settings.TEMPLATES = [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {"context_processors": processors},
        }
    ]
    cache.clear()
    yield
    cache.clear()


def user(*permissions: str, is_staff: bool = True) -> User:
    """Make a user who may do so much of our app."""
    made: User = User.objects.create_user(f"user {User.objects.count()}", is_staff=is_staff)
    made.user_permissions.set(
        Permission.objects.get(codename=f"{name}_configuration", content_type__app_label="bupple_engine")
        for name in permissions
    )
    return made


def login(*permissions: str, **options: bool) -> Client:
    client = Client()
    client.force_login(user(*permissions, **options))
    return client


@pytest.fixture
def client() -> Client:
    """Give a browser whose user may do all."""
    return login("view", "probe")


def html(response: Any) -> str:
    assert response.status_code == 200
    text: str = response.content.decode()
    return text


def models(*names: str) -> Answer:
    return Answer(
        headers=JSON, body=json.dumps({"object": "list", "data": [{"id": n} for n in names]}).encode()
    )


# Who may


@pytest.mark.parametrize(
    ("permissions", "is_staff", "page", "post"),
    [
        pytest.param((), True, 403, 403, id="staff without permissions"),
        pytest.param(("view",), True, 200, 403, id="view"),
        pytest.param(("probe",), True, 403, 403, id="probe without view"),
        pytest.param(("view", "probe"), True, 200, 302, id="both"),
        pytest.param(("view", "probe"), False, 302, 302, id="not staff"),
    ],
)
def test_two_permissions_open_the_page_and_the_buttons(
    permissions: tuple[str, ...],
    is_staff: bool,
    page: int,
    post: int,
    provider: Provider,
    configure: Configure,
) -> None:
    configure(main=WIRE.settings(provider.url))
    client = login(*permissions, is_staff=is_staff)
    shown = client.get(PAGE)
    assert shown.status_code == page
    may = is_staff and permissions == ("view", "probe")
    if may:
        provider.answer(models(WIRE.model), NO_MESSAGES, Answer(body=WIRE.stream(["Hello"])))
    probed = client.post(PROBE)
    assert probed.status_code == post
    tried: Any = client.post(TRY, {"driver": "main", "message": "Hi"})
    assert tried.status_code == (200 if may else post)
    if tried.streaming:
        b"".join(tried.streaming_content)
    assert len(provider.requests) == (3 if may else 0)
    if page == 200:
        for mark in ('<button type="submit" class="button">', 'class="bupple-check"', 'id="bupple-try"'):
            assert (mark in html(shown)) is may
    if not is_staff:
        assert {found.headers["Location"].partition("?")[0] for found in (shown, probed, tried)} == {
            "/admin/login/"
        }


def test_a_stranger_is_sent_to_the_login() -> None:
    for found in (Client().get(PAGE), Client().post(PROBE), Client().post(TRY)):
        assert found.status_code == 302
        assert found.headers["Location"].startswith("/admin/login/")


def test_a_superuser_may_do_all_but_write(client: Client) -> None:
    client.force_login(User.objects.create_superuser("root"))
    assert 'id="bupple-try"' in html(client.get(PAGE))
    assert client.get(PAGE + "add/").status_code == 404
    assert client.get(PAGE + "1/change/").status_code == 404


@pytest.mark.parametrize(("permissions", "listed"), [((), False), (("probe",), False), (("view",), True)])
def test_the_index_lists_the_page_for_those_who_may_see_it(
    permissions: tuple[str, ...], listed: bool
) -> None:
    text = html(login(*permissions).get("/admin/"))
    assert (PAGE in text) is listed
    assert ("AI engine" in text) is listed


def test_a_post_without_the_token_is_refused(provider: Provider, configure: Configure) -> None:
    configure(main=WIRE.settings(provider.url))
    client = Client(enforce_csrf_checks=True)
    client.force_login(user("view", "probe"))
    assert client.post(PROBE).status_code == 403
    assert client.post(TRY, {"driver": "main", "message": "Hi"}).status_code == 403
    assert not provider.requests
    (token, *_rest) = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', html(client.get(PAGE)))
    provider.answer(models(WIRE.model))
    assert client.post(PROBE, {"csrfmiddlewaretoken": token}).status_code == 302


# The probe


def test_only_a_post_sends_anything(provider: Provider, configure: Configure, client: Client) -> None:
    configure(main=WIRE.settings(provider.url))
    assert "Not checked yet" in html(client.get(PAGE))
    for address in (PROBE, TRY):
        found = client.get(address)
        assert (found.status_code, found.headers["Location"]) == (302, PAGE)
    assert not provider.requests


def test_a_verdict_is_kept_and_shown_to_the_next_who_looks(
    provider: Provider, configure: Configure, client: Client
) -> None:
    configure(main=WIRE.settings(provider.url), wrong={**WIRE.settings(provider.url), "MODEL": "nobody"})
    provider.answer(models(WIRE.model), repeat=True)
    found = client.post(PROBE)
    assert (found.status_code, found.headers["Location"]) == (302, PAGE)
    assert [request.method for request in provider.requests].count("GET") == 2
    text = html(client.get(PAGE))
    assert "2 drivers checked. Not ready: wrong." in text
    text = html(login("view").get(PAGE))
    ready, wrong = text.split("<tbody")[1:]
    assert ">Ready<" in ready
    assert "just now" in ready
    assert ">Not ready<" in wrong
    assert "does not offer the model" in wrong
    assert [request.method for request in provider.requests].count("GET") == 2


def test_one_driver_is_checked_alone(provider: Provider, configure: Configure, client: Client) -> None:
    configure(one=WIRE.settings(provider.url), two=WIRE.settings(provider.url))
    provider.answer(models(WIRE.model))
    client.post(PROBE, {"alias": "two"})
    one, two = html(client.get(PAGE)).split("<tbody")[1:]
    assert "Not checked yet" in one
    assert ">Ready<" in two
    assert [request.method for request in provider.requests] == ["GET", "POST"]


def test_a_name_that_no_driver_has_is_not_probed(client: Client) -> None:
    client.post(PROBE, {"alias": "nobody"})
    assert "0 drivers checked." in html(client.get(PAGE))


def test_a_verdict_on_other_settings_is_not_shown(
    provider: Provider, configure: Configure, client: Client
) -> None:
    configure(main=WIRE.settings(provider.url))
    provider.answer(models(WIRE.model))
    client.post(PROBE)
    assert ">Ready<" in html(client.get(PAGE))
    configure(main={**WIRE.settings(provider.url), "MODEL": "another"})
    assert "Not checked yet" in html(client.get(PAGE))
    configure(main={**WIRE.settings(provider.url), "API_KEY": "sk-test-another-key-9999"})
    assert "Not checked yet" in html(client.get(PAGE))
    configure(main=WIRE.settings(provider.url))
    assert ">Ready<" in html(client.get(PAGE))


def test_a_verdict_tells_its_age(configure: Configure, client: Client) -> None:
    configure(echo={})
    (row,) = overview.read_rows()
    then = datetime.now(UTC) - timedelta(minutes=3, seconds=5)
    row.verdict = Verdict(
        alias="echo", driver="echo", ok=True, checked_at=then, reachable=True, latency=0.25, model_known=None
    )
    overview.keep_verdicts([row])
    text = html(client.get(PAGE))
    assert re.search(r"3\s+minutes ago", text)
    assert "0.25 s" in text
    assert 'alt="Not told:"> <span>model known</span>' in text


def test_a_script_gets_the_table_at_once_whatever_the_cache_keeps(
    provider: Provider, configure: Configure, client: Client, settings: Any
) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    configure(main=WIRE.settings(provider.url))
    provider.answer(models(WIRE.model))
    text = html(client.post(PROBE, headers={"X-Requested-With": "fetch"}))
    assert text.strip().startswith('<div id="bupple-table"')
    assert ">Ready<" in text
    assert "1 driver checked." in text
    assert "Not checked yet" in html(client.get(PAGE))


def test_the_page_opens_while_the_cache_is_down(
    provider: Provider, configure: Configure, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("The cache is down.")

    monkeypatch.setattr(cache, "get_many", fail, raising=False)
    monkeypatch.setattr(cache, "set_many", fail, raising=False)
    configure(main=WIRE.settings(provider.url))
    provider.answer(models(WIRE.model))
    assert "Not checked yet" in html(client.get(PAGE))
    assert ">Ready<" in html(client.post(PROBE, headers={"X-Requested-With": "fetch"}))
    assert "does not keep the verdicts" in caplog.text


def test_a_driver_whose_key_cannot_be_had_is_told(client: Client, configure: Configure) -> None:
    def ask() -> str:
        raise OSError("The vault is closed.")

    configure(main=WIRE.settings("http://127.0.0.1:9", API_KEY=ask))
    tried = client.post(TRY, {"driver": "main", "message": "Hi"})
    assert tried.status_code == 500
    assert "OSError" in tried.json()["error"]["message"]


def test_drivers_are_probed_side_by_side(provider: Provider, configure: Configure, client: Client) -> None:
    """Each answer waits until the requests of all have come: one after another they would run out of time."""
    everyone = threading.Barrier(3)

    def together() -> None:
        everyone.wait(8)

    configure(**{f"driver{number}": WIRE.settings(provider.url) for number in range(3)})
    body = models(WIRE.model)
    provider.answer(Answer(headers=JSON, pieces=[together, body.body]), repeat=True)
    client.post(PROBE)
    assert html(client.get(PAGE)).count(">Ready<") == 3


# What it shows


class BrokenDriver(Quiet):
    """Fail while it is made, with words that no one should read."""

    def __init__(self, alias: str, name: str, config: Options) -> None:
        key = config.get("api_key")
        raise ZeroDivisionError(f"Refused: {key.reveal() if key else None}")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"DRIVER": "opnai"}, "Did you mean &#x27;openai&#x27;"),
        ({"DRIVER": "openai", "TEMPRATURE": 1}, "Did you mean &#x27;TEMPERATURE&#x27;"),
        ({"DRIVER": "openai", "MAX_TOKENS": "many"}, "must be a whole number of at least 1"),
        ({"DRIVER": "nowhere.to.be.Found"}, "can&#x27;t be imported"),
        ({"DRIVER": "tests.test_admin.ROOT"}, "no subclass of ChatDriver"),
        ({"DRIVER": "tests.test_admin.BrokenDriver"}, "ZeroDivisionError"),
        ({"DRIVER": "openai", "MODEL": "gpt-6-sol"}, "API_KEY"),
        (["a list"], "ust be a dict"),
        (None, "ust be a dict"),
    ],
)
@pytest.mark.parametrize("silenced", [False, True])
def test_a_wrong_entry_has_its_row_with_the_mistake_in_words(
    entry: Any, words: str, silenced: bool, settings: Any, client: Client
) -> None:
    settings.BUPPLE_ENGINE = {"DEFAULT": "echo", "DRIVERS": {"echo": {}, "wrong": entry}}
    if silenced:
        settings.SILENCED_SYSTEM_CHECKS = [
            f"bupple_engine.{kind}{n:03}" for kind in "EW" for n in (*range(30), *range(100, 130))
        ]
    echo, wrong = html(client.get(PAGE)).split("<tbody")[1:]
    assert "echo" in echo
    assert words.lower() in wrong.lower() or (silenced and "API_KEY" in words)  # which only a call needs
    assert "Traceback" not in wrong
    client.post(PROBE)
    assert ">Not ready<" in html(client.get(PAGE)).split("<tbody")[2]


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"DRIVERS": []},
        {"DRIVERS": {}},
        {"DEFAULT": "nobody", "DRIVERS": {"echo": {}}},
        {"DRIVERS": {"echo": {}, "other": {"DRIVER": "echo"}}},
        {"DRIVERS": {1: {}, "": {}}},
    ],
)
def test_wrong_settings_are_told_in_words(value: Any, settings: Any, client: Client) -> None:
    settings.BUPPLE_ENGINE = value
    text = html(client.get(PAGE))
    assert re.search(r'<li class="(error|warning)">.*?BUPPLE_ENGINE', text, re.DOTALL)
    assert client.post(PROBE).status_code == 302


def test_what_the_checks_say_stands_beside_the_row(
    configure: Configure, client: Client, settings: Any
) -> None:
    configure(echo={}, house=WIRE.settings("http://127.0.0.1:9"))
    messages = run_checks(tags=["bupple_engine"], include_deployment_checks=True)
    ids = {str(message.id): message for message in messages if message.obj.alias == "house"}
    assert "bupple_engine.W105" in ids
    echo, house = html(client.get(PAGE)).split("<tbody")[1:]
    for id, message in ids.items():
        assert id in house
        assert id not in echo
        assert str(message.obj).replace("'", "&#x27;") in house
    settings.DEBUG = True
    assert "W105" not in html(client.get(PAGE))


def test_the_columns_are_what_the_driver_runs_with(configure: Configure, client: Client) -> None:
    configure(main=WIRE.settings("http://127.0.0.1:9"), groq={"API_KEY": KEY, "MODEL": "some-model"}, echo={})
    main, groq, echo = html(client.get(PAGE)).split("<tbody")[1:]
    assert ">default<" in main
    assert WIRE.model in main
    assert "http://127.0.0.1:9/v1" in main
    assert f"…{KEY[-4:]}" in main
    assert ">default<" not in groq
    assert "https://api.groq.com/openai/v1" in groq
    assert "<code>async</code>" in groq
    assert "<code>speed</code>" in groq
    assert "<code>async</code>" not in echo


def test_missing_extras_are_named(
    configure: Configure, client: Client, without_aiohttp: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(main=WIRE.settings("http://127.0.0.1:9"), local={"MODEL_PATH": "/nowhere/model.gguf"})
    main, local = html(client.get(PAGE)).split("<tbody")[1:]
    assert re.search(r"<code>async</code>\s*<span class=\"bupple-quiet\">not installed", main)
    assert re.search(r"<code>local</code>\s*<span class=\"bupple-quiet\">not ready", local)


# What it never shows


def test_no_secret_is_shown(provider: Provider, settings: Any, client: Client) -> None:
    """Plant a secret wherever the settings may hold one, and in what a provider says."""
    planted = [f"planted-secret-{number:04}" for number in range(9)]
    base = provider.url.replace("//", f"//user:{planted[0]}@") + "/v1"
    settings.BUPPLE_ENGINE = {
        "DEFAULT": "main",
        "DRIVERS": {
            "main": {
                **WIRE.settings(provider.url),
                "API_KEY": planted[1],
                "BASE_URL": base,
                "HEADERS": {"X-Secret": planted[2]},
                "EXTRA": {"token": planted[3]},
            },
            "misspelt": {"DRIVER": "openai", "API_KYE": planted[4]},
            "typed": {"DRIVER": "openai", "API_KEY": [planted[5]]},
            "listed": [planted[6]],
            "spaced": {"DRIVER": "openai", "API_KEY": f"{planted[7]}\n", "MODEL": "gpt-6-sol"},
            "unmade": {"DRIVER": "tests.test_admin.BrokenDriver", "API_KEY": planted[8]},
            "pasted": WIRE.settings("http://127.0.0.1:1", MODEL="sk-planted0model0123"),
            "sk-planted0alias0123": {"DRIVER": "echo"},
        },
    }
    said = f"No key {planted[1]}, {planted[0]} or {planted[2]}\n\u202eof {planted[3]} or sk-planted0model0123"
    body = json.dumps({"error": {"message": said, "code": "invalid_api_key"}}).encode()
    provider.answer(Answer(status=401, headers=JSON, body=body), repeat=True)
    shown = [html(client.get(PAGE))]
    shown.append(html(client.post(PROBE, headers={"X-Requested-With": "fetch"})))
    client.post(PROBE)
    shown.append(html(client.get(PAGE)))
    for row in overview.read_rows():
        tried: Any = client.post(TRY, {"driver": row.label, "message": "Hi"})
        shown.append((b"".join(tried.streaming_content) if tried.streaming else tried.content).decode())
    shown.append(repr(cache.get_many([row.cache_key for row in overview.read_rows()])))
    assert "No key" in shown[1]
    assert "No key" in shown[3]
    assert "…0123" in shown[0]
    assert '"content":"Hi"' in shown[-2]  # the one whose alias is masked
    for text in shown:
        assert "planted" not in text
        assert "\u202e" not in text


class Inline(HTMLParser):
    """Collect what a Content-Security-Policy of default-src 'self' refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[str] = []
        self.static: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or (tag == "script" and not given.get("src")) or tag == "base":
            self.refused.append(tag)
        for name, value in attrs:
            if name == "style" or name.startswith("on"):
                self.refused.append(f"{tag} {name}={value}")
            if name in ("src", "href", "action", "srcset") and not (value or "").startswith(("/", "#", "?")):
                self.refused.append(f"{tag} {name}={value}")
            if name in ("src", "href") and (value or "").startswith("/static/"):
                self.static.append(str(value).removeprefix("/static/"))


def test_the_page_fits_a_strict_content_security_policy(
    provider: Provider, configure: Configure, client: Client
) -> None:
    from django.contrib.staticfiles import finders

    configure(main=WIRE.settings(provider.url), wrong={"DRIVER": "opnai"}, echo={})
    provider.answer(models(WIRE.model), repeat=True)
    client.post(PROBE)
    inline = Inline()
    inline.feed(html(client.get(PAGE)))
    inline.feed(html(client.post(PROBE, headers={"X-Requested-With": "fetch"})))
    assert inline.refused == []
    assert {"bupple_engine/configuration.css", "bupple_engine/configuration.js"} <= set(inline.static)
    for name in inline.static:
        assert finders.find(name), name
    script = Path(str(finders.find("bupple_engine/configuration.js"))).read_text(encoding="utf-8")
    style = Path(str(finders.find("bupple_engine/configuration.css"))).read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|insertAdjacentHTML|\beval\b|\.style\b|new Function", script)
    assert not re.search(r"url\(|@import", style)


@pytest.mark.skipif(django.VERSION < (6, 1), reason="Django's own admin has nonces from 6.1 on")
def test_our_files_carry_the_nonce_where_the_admins_do(client: Client, settings: Any) -> None:
    settings.MIDDLEWARE = ["django.middleware.csp.ContentSecurityPolicyMiddleware", *settings.MIDDLEWARE]
    (engine,) = settings.TEMPLATES
    processors = [*engine["OPTIONS"]["context_processors"], "django.template.context_processors.csp"]
    settings.TEMPLATES = [{**engine, "OPTIONS": {"context_processors": processors}}]
    settings.SECURE_CSP = {"default-src": ["<CSP_NONCE_SENTINEL>"]}
    response = client.get(PAGE)
    (nonce,) = re.findall(r"'nonce-([^']+)'", response.headers["Content-Security-Policy"])
    text = html(response)
    assert re.search(rf'configuration\.css" nonce="{nonce}"', text)
    assert re.search(rf'configuration\.js" type="module" nonce="{nonce}"', text)


def test_every_sentence_of_the_script_is_the_templates(client: Client) -> None:
    """So that it can be translated."""
    script = (ROOT / "bupple_engine/static/bupple_engine/configuration.js").read_text(encoding="utf-8")
    used = set(re.findall(r"dataset\.(\w+)|say\(\"(\w+)\"\)", script))
    names = {first or second for first, second in used} | {"model", "tokens", "finish", "first", "total"}
    names = (names | {"stopped", "failed"}) - {"summary"}  # which comes with the table
    given = set(re.findall(r'data-(\w+)="[^"]+"', html(client.get(PAGE))))
    assert len(names) > 12
    assert names <= given


def test_the_words_are_translated(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue that turns every sentence into capitals leaves none of ours as it was."""
    catalogue: Any = trans_real.translation("en-us")
    monkeypatch.setattr(catalogue, "gettext", lambda message: str(message).upper())
    monkeypatch.setattr(catalogue, "ngettext", lambda one, many, n: (one if n == 1 else many).upper())
    known = catalogue._catalog

    class Capitals(dict[Any, str]):
        def get(self, key: Any, default: Any = None) -> Any:
            return key.upper() if isinstance(key, str) and "%(" not in key else known.get(key, default)

    monkeypatch.setattr(catalogue, "_catalog", Capitals())
    text = html(client.get(PAGE))
    for words in ("CHECK NOW", "NOT CHECKED YET", "TRY IT", "LIVE CHECK", "DEFAULT", "SEND", "AI ENGINE"):
        assert words in text
        assert words.capitalize() not in text


# Where it stands


def test_a_site_of_ones_own_shows_it_under_its_own_addresses(
    provider: Provider, configure: Configure, client: Client
) -> None:
    configure(main=WIRE.settings(provider.url))
    provider.answer(models(WIRE.model))
    there = PAGE.replace("/admin/", "/ops/")
    assert there in html(client.get("/ops/"))
    found = client.post(there + "probe/")
    assert (found.status_code, found.headers["Location"]) == (302, there)
    text = html(client.get(there))
    assert ">Ready<" in text
    assert f'action="{there}probe/"' in text
    assert f'action="{there}try/"' in text
    assert "/admin/bupple_engine" not in text


def test_no_table_is_made_and_nothing_is_dumped() -> None:
    # Those of bupple_engine.conversations, an app of its own, are bupple_conversations_….
    assert not [name for name in connection.introspection.table_names() if "bupple_engine" in name]
    assert Permission.objects.filter(content_type__app_label="bupple_engine").count() == 2
    for options in ({}, {"use_base_manager": True}, {"primary_keys": "1"}):
        out = io.StringIO()
        call_command("dumpdata", "bupple_engine.configuration", stdout=out, **options)
        assert json.loads(out.getvalue() or "[]") == []
    out = io.StringIO()
    call_command("dumpdata", stdout=out)
    assert "auth.permission" in out.getvalue()
    call_command("makemigrations", check=True, dry_run=True, stdout=out)


def test_django_finds_nothing_wrong_with_it(configure: Configure, settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE]
    configure(echo={})
    assert [found for found in run_checks() if found.level >= 40] == []


def test_a_site_without_the_admin_goes_without_the_page() -> None:
    """Neither users nor content types are there for the model's permissions."""
    script = (
        "import django, sys; django.setup(); from django.core.management import call_command;"
        "from bupple_engine.models import Configuration; call_command('check');"
        "call_command('makemigrations', check=True, dry_run=True);"
        "assert not [n for n in sys.modules if n.startswith(('django.contrib.admin', 'bupple_engine.admin'))]"
    )
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings_minimal",
        "PYTHONWARNINGS": "error",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "No changes detected" in done.stdout


# Try it


class Reader:
    """Post a message, and take the answer's pieces when they come."""

    def __init__(self, kind: str) -> None:
        self.client: Any = {"wsgi": Client, "asgi": AsyncClient}[kind]()
        self.client.force_login(user("view", "probe"))
        self.is_async = kind == "asgi"

    def post(self, each: Callable[[bytes], object] = lambda piece: None, **fields: str) -> Any:
        """Return the response; each piece of a stream is handed over, and all are its `body`."""
        if not self.is_async:
            response = self.client.post(TRY, fields)
            if response.streaming:
                response.body = b"".join(self._taken(response, each))
            return response

        async def run() -> Any:
            response = await self.client.post(TRY, fields)
            if response.streaming:
                response.body = b"".join([piece async for piece in self._ataken(response, each)])
            return response

        return async_to_sync(run)()

    @staticmethod
    def _taken(response: Any, each: Callable[[bytes], object]) -> Iterator[bytes]:
        try:
            for piece in response.streaming_content:
                each(piece)
                yield piece
        finally:
            response.close()  # as a server does

    @staticmethod
    async def _ataken(response: Any, each: Callable[[bytes], object]) -> AsyncIterator[bytes]:
        async for piece in response.streaming_content:
            each(piece)
            yield piece


@pytest.fixture(params=["wsgi", "asgi"])
def reader(request: pytest.FixtureRequest) -> Reader:
    """Give a reader of each kind of server."""
    return Reader(request.param)


def events(response: Any) -> list[tuple[str, dict[str, Any]]]:
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert "no-cache" in response.headers["Cache-Control"]
    return [(event.event, json.loads(event.data)) for event in Decoder().feed(response.body)]


def test_words_arrive_as_they_are_said(reader: Reader, provider: Provider, configure: Configure) -> None:
    """Each word is sent only when the one before has been read: a buffer anywhere would deadlock."""
    configure(main=WIRE.settings(provider.url))
    body = WIRE.stream(["one ", "two"])
    middle = body.index(b"\n\n", body.index(b"one ")) + 2
    heard = threading.Event()
    provider.answer(Answer(pieces=[body[:middle], heard, body[middle:]]))
    found = events(reader.post(lambda piece: heard.set(), driver="main", message="Count"))
    assert [name for name, _ in found] == ["message"] * len(found)
    chunks = [chunk for _, chunk in found]
    assert "".join(chunk["content"] for chunk in chunks) == "one two"
    assert [chunk["done"] for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1]["usage"]["total_tokens"] == 19
    assert chunks[-1]["metadata"] == {}  # what goes back to the provider is not shown
    assert WIRE.prompt(provider.requests[0]) == [("user", "Count")]


def test_a_failure_has_the_words_of_the_log(reader: Reader, provider: Provider, configure: Configure) -> None:
    configure(main=WIRE.settings(provider.url), keyless={"DRIVER": "openai", "MODEL": "gpt-6-sol"})
    status, headers, body = WIRE.error("auth")
    provider.answer(Answer(status=status, headers=headers, body=body))
    refused = reader.post(driver="main", message="Hi")
    assert refused.status_code == 502
    assert "Check the entry's API_KEY." in refused.json()["error"]["message"]
    provider.answer(Answer(body=WIRE.stream_without_end(["one ", "two"])))
    *chunks, (name, data) = events(reader.post(driver="main", message="Hi"))
    assert [chunk["content"] for _, chunk in chunks] == ["one ", "two"]
    assert name == "error"
    assert "broke off" in data["error"]["message"] or "ended" in data["error"]["message"]
    keyless = reader.post(driver="keyless", message="Hi")
    assert keyless.status_code == 500
    assert "'API_KEY'" in keyless.json()["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"driver": "main", "message": " "}, "Message: This field is required."),
        (
            {"driver": "main", "message": "x" * (MESSAGE_CHARACTERS + 1)},
            "Message: Ensure this value has at most",
        ),
        ({"driver": "wrong", "message": "Hi"}, "Driver: Select a valid choice."),
        ({"driver": "nobody", "message": "Hi"}, "Driver: Select a valid choice."),
        ({}, "Driver: This field is required."),
    ],
)
def test_what_is_no_message_to_a_driver_is_refused_in_words(
    reader: Reader, fields: dict[str, str], words: str, provider: Provider, configure: Configure
) -> None:
    configure(main=WIRE.settings(provider.url), wrong={"DRIVER": "opnai"})
    response = reader.post(**cast("Any", fields))
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]
    assert not provider.requests


def test_a_reader_who_leaves_ends_the_call(reader: Reader, provider: Provider, configure: Configure) -> None:
    configure(main=WIRE.settings(provider.url))
    never = threading.Event()
    provider.answer(Answer(pieces=[WIRE.stream_without_end(["one "]), never]))

    def leave(piece: bytes) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        reader.post(leave, driver="main", message="Count")
    provider.wait_closed()


def test_a_url_that_is_still_to_be_written_is_not_shown_as_one(settings: Any) -> None:
    there = {"DRIVER": "compatible", "MODEL": "m", "BASE_URL": "http://localhost:1/v1"}
    entries = {
        "azure": {"MODEL": "m"},
        "house": {"DRIVER": "compatible"},
        "groq": {"MODEL": "m"},
        "own": there,
    }
    settings.BUPPLE_ENGINE = {"DEFAULT": "azure", "DRIVERS": entries}
    shown = {row.alias: row.base_url for row in overview.read_rows()}
    assert (shown["azure"], shown["house"]) == ("", "")
    assert shown["groq"] == "https://api.groq.com/openai/v1"
    assert shown["own"] == "http://localhost:1/v1"
