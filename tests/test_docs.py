"""Every Python snippet and curl line of the README and the docs is run, against providers on loopback."""

from __future__ import annotations

import ast
import asyncio
import gc
import inspect
import os
import re
import shutil
import socket
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import environ
import pytest
from asgiref.sync import async_to_sync
from django.core.cache import cache
from django.test import AsyncRequestFactory, RequestFactory
from rest_framework.exceptions import PermissionDenied, Throttled

from bupple_engine import call_finished, conf
from bupple_engine.api import ChatCall
from bupple_engine.conf.naming import load
from bupple_engine.drivers import DRIVERS, extras
from bupple_engine.protocol.options import COMMON, Option
from bupple_engine.wires.facts import CHECKED
from bupple_engine.wires.services import SERVICES, Service
from tests.conftest import Configure
from tests.provider import Answer, Provider, Request
from tests.pure import wire
from tests.wires import ChatCompletions, Claude, Responses

ROOT = Path(__file__).parent.parent
SNIPPETS = [
    pytest.param(path, snippet, id=f"{path.name}:{text[: match.start()].count(chr(10)) + 1}")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for text in [path.read_text(encoding="utf-8")]
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for snippet in [match[1]]
]


def answer(request: Request) -> Answer:
    """Answer in the words of the wire that was spoken."""
    wire = {"responses": Responses(), "messages": Claude(), "completions": ChatCompletions()}[
        request.path.rpartition("/")[2]
    ]
    return Answer(
        body=wire.stream(["Hello ", "world"]) if wire.streamed(request) else wire.reply("Hello world")
    )


@pytest.fixture
def namespace(
    provider: Provider,
    configure: Configure,
    settings: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[dict[str, Any]]:
    """Give the names that a snippet finds, and the drivers that it speaks to."""
    provider.answer(answer, repeat=True)
    configure(
        claude=Claude().settings(provider.url),
        openai={**Responses().settings(provider.url), "MODEL": "gpt-6.2-sol"},
        fast=ChatCompletions().settings(provider.url),
        echo={},
    )
    for name in ("BUPPLE_ENGINE_CLAUDE_API_KEY", "BUPPLE_ENGINE_OPENAI_API_KEY", "GROQ_API_KEY"):
        monkeypatch.setenv(name, "sk-test-0123456789abcd")
    receivers = list(call_finished.receivers)
    thresholds = gc.get_threshold()
    # What a settings file has before what is pasted into it.
    yield {
        "__name__": "snippet",
        "INSTALLED_APPS": [],
        "BASE_DIR": tmp_path,
        "BUPPLE_ENGINE": settings.BUPPLE_ENGINE,
        "env": environ.Env(),
    }
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    call_finished.receivers = receivers
    call_finished.sender_receivers_cache.clear()


@pytest.mark.parametrize(("path", "snippet"), SNIPPETS)
def test_the_snippet_runs(
    path: Path, snippet: str, namespace: dict[str, Any], configure: Configure, settings: Any
) -> None:
    code = compile(snippet, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, namespace))  # noqa: S307 - our own documentation
    else:
        exec(code, namespace)  # noqa: S102 - our own documentation
    check(namespace, configure, settings)


def check(namespace: dict[str, Any], configure: Configure, settings: Any) -> None:
    """Try what a snippet defined, by what it is."""
    from bupple_engine import ai
    from bupple_engine.drivers.base import ChatDriver

    if "BUPPLE_ENGINE" in namespace:
        settings.BUPPLE_ENGINE = namespace["BUPPLE_ENGINE"]
        for alias in settings.BUPPLE_ENGINE["DRIVERS"]:
            assert ai(alias).get_config()["alias"] == alias
        assert ai().alias == settings.BUPPLE_ENGINE["DEFAULT"]
    for value in list(namespace.values()):
        if isinstance(value, type) and issubclass(value, ChatDriver) and value is not ChatDriver:
            drive(value, configure)
        conf.api_settings()
    for view, expected in VIEWS.items():
        if view in namespace:
            assert read(namespace[view]) == expected
    if "prepare" in namespace:
        check_prepare(namespace["prepare"], namespace["aprepare"])
    if "reply" in namespace:
        assert namespace["reply"]["content"] == "Hello world"


EVENTS = (
    b'id: 1\ndata: {"role":"assistant","content":"Hello ","done":false}\n\n'
    b'id: 2\ndata: {"role":"assistant","content":"world","done":false}\n\n'
)
# The documented views, and what they stream.
VIEWS = {
    "answer": b"Hello world",
    "words": b"Hello world",
    "events": EVENTS,
    "fragments": b"data: Hello \n\ndata: world\n\ndata: \n\nevent: end\ndata: \n\n",
}


def read(view: Any) -> bytes:
    """Return what a view streams for a question, without the last of the native events."""
    query = {"question": "Who?"}
    if not inspect.iscoroutinefunction(view):
        body = b"".join(view(RequestFactory().get("/", query)))
    else:

        async def stream() -> bytes:
            response = await view(AsyncRequestFactory().get("/", query))
            return b"".join([piece async for piece in response])

        body = asyncio.run(stream())
    return re.sub(rb'id: 3\ndata: {"role":"assistant","content":"","done":true.*\n\n$', b"", body)


def check_prepare(prepare: Any, aprepare: Any) -> None:
    """Have the documented PREPARE do what it is said to do."""
    tenant = SimpleNamespace(pk=3, ai_key="sk-tenant", is_closed=False)
    user = SimpleNamespace(pk=7, is_staff=True, first_name="Ada", tenant=tenant)
    request = SimpleNamespace(user=user)
    call = prepare(request, ChatCall("chat", [{"role": "user", "content": "Hello"}], "echo", context={}))
    assert (call.driver, call.options, call.context) == ("claude", {"api_key": "sk-tenant"}, {"tenant": 3})
    assert [message["role"] for message in call.messages] == ["system", "user"]
    assert async_to_sync(aprepare)(request, call) is call
    tenant.is_closed = True
    with pytest.raises(PermissionDenied):
        prepare(request, call)
    cache.set("tokens:7", 200_000)
    try:
        with pytest.raises(Throttled):
            async_to_sync(aprepare)(request, call)
    finally:
        cache.clear()


def drive(driver: type, configure: Configure) -> None:
    """Put a documented driver through its four verbs."""
    from tests.verbs import VERBS, run

    module = types.ModuleType("documented")
    module.Documented = driver  # type: ignore[attr-defined]
    sys.modules["documented"] = module
    from bupple_engine import ai

    try:
        configure(house={"DRIVER": "documented.Documented"})
        for verb in VERBS:
            outcome = run(ai(), verb, [{"role": "user", "content": "hello big world"}])
            assert outcome.reply["content"] == "HELLO BIG WORLD "
            assert outcome.reply["finish_reason"] == "stop"
    finally:
        del sys.modules["documented"]


def service_row(name: str, service: Service) -> str:
    """Return the row of docs/drivers.md that says what a service's row in the code does."""
    key = "a key" if service.key else "optional"
    key += f" as `{service.auth}`" if service.auth != "bearer" else ""
    key += f" (`{'`, `'.join(service.variables)}`)" if service.variables else ""
    differs = {
        "expiring keys: a callable": "" in service.expiring_keys,
        "no list of models": not service.models,
        f"{', '.join(name.upper() for name in service.missing_options)}: no such fields": (
            service.missing_options
        ),
        f"limits on {', '.join(sorted({it.option.upper() for it in service.refusals}))}": service.refusals,
        "no `stream_options`": not service.stream_usage,
        f"SEED as `{service.seed_param}`": service.seed_param != "seed",
        "images as base64 alone": "image" in service.media and not service.image_urls,
        "audio as a data URL": service.audio_data_url,
        "documents as `file_url`": service.file_url,
        "content of one shape": service.one_content_shape,
        "a trailing assistant turn is continued": service.prefix_param,
        "reasoning that opens the text": service.inline_reasoning,
        f"reasoning goes back as `{service.reasoning_param}`": service.reasoning_param,
        "reports the cost": service.cost,
    }
    cells = [
        f"`{name}`",
        f"set `BASE_URL`: `{service.url}`" if service.needs_base_url else service.url,
        key,
        f"`{service.max_tokens_param}`",
        ", ".join(sorted(service.media)) or "nothing",
        "; ".join(words for words, holds in differs.items() if holds),
    ]
    return f"| {' | '.join(cells)} |"


def option_row(name: str, option: Option) -> str:
    """Return the row of README that says what the table of options does."""
    said = f"of the entry alone: {option.help}" if not option.per_call else option.help
    said += f" ({option.default:,})" if option.default is not None else ""
    return f"| `{name.upper()}` | {said} | {f'`…_{name.upper()}`' if option.env else ''} |"


def test_the_table_of_options_is_that_of_the_code() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    _, _, table = text.partition("| option | | variable |")
    rows = table.partition("\n\n")[0].splitlines()[2:]
    assert rows == [option_row(name, option) for name, option in COMMON.items()]


@pytest.mark.parametrize("name", ["openai", "openai_chat", "claude", "gemini", "local", "echo"])
def test_the_options_of_each_driver_are_documented(name: str) -> None:
    _, _, table = (ROOT / "docs" / "drivers.md").read_text(encoding="utf-8").partition("| driver | API |")
    (row,) = re.findall(rf"^\| `{name}` \|.*", table.partition("\n\n")[0], re.MULTILINE)
    own = [option.upper() for option in load(name, name).options if option not in COMMON]
    assert re.findall(r"`([A-Z_]+)`", row.split("|")[3]) == own


def test_every_service_and_driver_is_documented() -> None:
    text = (ROOT / "docs" / "drivers.md").read_text(encoding="utf-8")
    _, _, table = text.partition("| service | URL |")
    rows = table.partition("\n\n")[0].splitlines()[2:]
    assert rows == [service_row(name, service) for name, service in SERVICES.items()]
    assert CHECKED in text
    for name in DRIVERS:
        assert f"`{name}`" in text


def test_one_model_of_each_vendor_is_suggested() -> None:
    """A reader who meets two of them asks which is right."""
    wires = [wire(name) for name in ("openai", "claude", "gemini")]
    ended = {model for each in wires for model in each.shutdowns}  # what the checks tell of
    files = [ROOT / "README.md", ROOT / ".env.example", *(ROOT / "docs").glob("*.md")]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    named = set(re.findall(r"\b(?:gpt-\d[\w.-]*\w|claude-[a-z]+-\d[\d-]*\d|gemini-\d[\w.-]*\w)", text))
    assert named - ended == {each.suggested_model for each in wires}


def test_the_readme_installs_what_can_be_installed() -> None:
    """As long as the package is on no index, no line may pretend that it is."""
    texts = [(ROOT / "README.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "bupple_engine").rglob("*.py")]
    for path in texts:
        assert not re.search(r'pip install "?bupple[-_]engine', path.read_text(encoding="utf-8")), path
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f'pip install "{extras.CLONE}[async,speed]"' in readme


def test_a_hint_installs_from_the_clone_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for clone, shown in ((tmp_path / "clone", f"{tmp_path}/clone"), (tmp_path / "lib", extras.CLONE)):
        clone.mkdir()
        monkeypatch.setattr(extras, "__file__", str(clone / "bupple_engine" / "drivers" / "extras.py"))
        (tmp_path / "clone" / "pyproject.toml").touch()
        assert extras.command("async") == f'pip install "{shown}[async]"'


def test_the_first_call_is_on_the_first_screen() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert any("ai().send(" in line for line in lines[:20])


def test_the_tree_of_the_architecture_is_that_of_the_files() -> None:
    tree, _, _ = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## The walk")
    named, folders = set(), {0: ROOT}
    for indent, line in re.findall(r"^( {4,})(\S.*)$", tree, re.MULTILINE):
        above = max(depth for depth in folders if depth < len(indent))
        folder = folders[above]
        if name := re.match(r"\w+/", line):
            folder = folders[len(indent)] = folder / name[0]
        folders = {depth: path for depth, path in folders.items() if depth <= len(indent)}
        named |= {folder / file for file in re.findall(r"\b\w+\.py\b", line)}
    package = ROOT / "bupple_engine"
    files = {path for path in package.rglob("*.py") if path.name != "__init__.py"}
    files -= {path for path in files if path.parent.name in ("commands", "migrations")}
    named = {
        path for path in named if package in path.parents and path.name not in ("__init__.py", "manage.py")
    }
    assert named == files


def test_each_link_leads_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")):
        for path, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]+))?\)", page.read_text("utf-8")):
            target = (page.parent / path) if path else page
            assert target.exists(), f"{page.name}: {path}"
            titles = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE) if anchor else []
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert not anchor or anchor in anchors, f"{page.name}: {path}#{anchor}"


def test_the_documented_driver_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (snippet,) = [
        found for found in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "(ChatDriver)" in found
    ]
    assert len(snippet.strip().splitlines()) < 15


HTTP_API = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")
CURL_LINES = [
    pytest.param(match[1], match[2], id=f"http-api.md:{HTTP_API[: match.start()].count(chr(10)) + 2}")
    for match in re.finditer(
        r"^```sh\n(curl .*?)^```\n\n```\w*\n(.*?)^```$", HTTP_API, re.MULTILINE | re.DOTALL
    )
]
SITE = """
SECRET_KEY = "tests"
USE_TZ = True
ROOT_URLCONF = "site_urls"
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {database!r}}}}}
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes"]
"""
SET_UP = """
import django

django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command

call_command("migrate", verbosity=0)
User.objects.create_user("ada")
call_command("drf_create_token", "ada")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Serve the documented site by uvicorn; give the environment of a shell that has a token for it."""
    folder = tmp_path_factory.mktemp("site")
    urls, settings = (
        found for found in re.findall(r"^```python\n(.*?)^```$", HTTP_API, re.MULTILINE | re.DOTALL)[:2]
    )
    (folder / "site_urls.py").write_text(urls)
    (folder / "site_settings.py").write_text(SITE.format(database=str(folder / "db.sqlite3")) + settings)
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "site_settings",
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
    }
    made = subprocess.run(
        [sys.executable, "-c", SET_UP], env=environment, capture_output=True, text=True, check=True
    )
    token = re.search(r"[0-9a-f]{40}", made.stdout)
    assert token
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = ["uvicorn", "--factory", "django.core.asgi:get_asgi_application", "--log-level", "warning"]
        server = subprocess.Popen(
            [sys.executable, "-m", *command, "--fd", str(listener.fileno())],
            env=environment,
            pass_fds=[listener.fileno()],
        )
        try:
            yield {**os.environ, "TOKEN": token[0], "ORIGIN": f"http://127.0.0.1:{listener.getsockname()[1]}"}
        finally:
            server.kill()
            server.wait()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
@pytest.mark.parametrize(("line", "answer"), CURL_LINES)
def test_the_curl_line_runs(line: str, answer: str, site: dict[str, str]) -> None:
    line = line.replace("http://127.0.0.1:8000", site["ORIGIN"])
    # The server's socket is there before the server is: its first answer is waited for.
    done = subprocess.run(["sh", "-c", line], env=site, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = re.sub(r"(chatcmpl-|msg_)[0-9a-f]{24}", r"\1…", done.stdout)
    assert re.sub(r'"created":\d{10}', '"created":…', told).strip() == answer.strip()


def test_every_endpoint_has_a_curl_line() -> None:
    from bupple_engine.urls import urlpatterns

    lines = "".join(str(parameters.values[0]) for parameters in CURL_LINES)
    for pattern in urlpatterns:
        if pattern.name is None:  # a refusal, or another spelling
            continue
        route = re.sub(r"<\w+:\w+>", "", str(pattern.pattern))
        assert re.search(rf"/ai/{route}\S", lines) if route.endswith("models/") else f"/ai/{route} " in lines


def test_every_setting_of_the_api_is_documented() -> None:
    for key, (default, _) in conf.API.items():
        (row,) = re.findall(rf"^\| `{key}` \| `(.*?)` \|", HTTP_API, re.MULTILINE)
        assert ast.literal_eval(row) == default


def test_every_error_is_documented() -> None:
    from bupple_engine.http.problems import _TOLD

    rows = re.findall(r"^\| ([\d, ]+) \| ([\w, ]+) \|", HTTP_API, re.MULTILINE)
    told = {
        (status, name)
        for statuses, names in rows
        for status in statuses.split(", ")
        for name in names.split(", ")
    }
    for cls, (status, _) in _TOLD.items():
        if cls.__name__ != "EngineError":  # which none is but by its subclasses
            assert (str(status), cls.__name__) in told
