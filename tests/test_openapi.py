"""The schema that drf-spectacular makes of our URLs, where a site uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("drf_spectacular", reason="drf-spectacular is not installed")

SITE = """
from tests.settings import *

INSTALLED_APPS = [*INSTALLED_APPS, "drf_spectacular"]
INSTALLED_APPS.remove("django.contrib.admin")
ROOT_URLCONF = "tests.api"
REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
BUPPLE_ENGINE = {**BUPPLE_ENGINE, "API": {"AUTHENTICATION_CLASSES": [
    "bupple_engine.api.authentication.BearerAuthentication",
    "rest_framework.authentication.SessionAuthentication",
]}}
"""
ENDPOINTS = {
    ("/ai/chat/", "post"): (
        {"application/json", "text/event-stream"},
        {"messages", "driver", "model", "options"},
    ),
    ("/ai/chat/stream/", "post"): ({"text/event-stream"}, {"messages", "driver", "model", "options"}),
    ("/ai/v1/chat/completions", "post"): (
        {"application/json", "text/event-stream"},
        {"model", "messages", "stream"},
    ),
    ("/ai/v1/models", "get"): ({"application/json"}, set()),
    ("/ai/v1/models/{name}", "get"): ({"application/json"}, set()),
    ("/ai/ui/chat/", "post"): ({"text/event-stream"}, {"messages", "message", "id", "trigger"}),
    ("/ai/drivers/", "get"): ({"application/json"}, set()),
}


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Give the schema, made as a site makes it; a warning would fail it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "site_with_schema.py").write_text(SITE)
    root = Path(__file__).parent.parent
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "site_with_schema",
        "PYTHONPATH": os.pathsep.join([str(folder), str(root)]),
    }
    command = [sys.executable, "-m", "django", "spectacular", "--format", "openapi-json"]
    made = subprocess.run(
        [*command, "--validate", "--fail-on-warn"], cwd=root, env=environment, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    assert "Warning" not in made.stderr
    found: dict[str, Any] = json.loads(made.stdout)
    return found


def test_each_endpoint_has_its_bodies(schema: dict[str, Any]) -> None:
    found = {(path, method) for path, methods in schema["paths"].items() for method in methods}
    assert found == set(ENDPOINTS)
    for (path, method), (types, fields) in ENDPOINTS.items():
        operation = schema["paths"][path][method]
        assert set(operation["responses"]["200"]["content"]) == types
        if fields:
            body = operation["requestBody"]["content"]["application/json"]["schema"]
            assert fields <= set(body["properties"])
        for status, response in operation["responses"].items():
            assert (
                status == "200" or "error" in response["content"]["application/json"]["schema"]["properties"]
            )
        assert {"tokenAuth": []} in operation["security"]
        assert operation["description"]


def test_without_it_nothing_of_it_is_loaded() -> None:
    code = (
        "import django, sys; django.setup(); import bupple_engine.urls;"
        "assert 'rest_framework' in sys.modules and 'drf_spectacular' not in sys.modules"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, check=True)


def test_no_view_is_forgotten() -> None:
    from bupple_engine.api.schema import OPERATIONS
    from bupple_engine.urls import urlpatterns

    shown: list[Any] = [
        path.callback for path in urlpatterns if path.name
    ]  # the others are refusals, and other spellings
    assert set(OPERATIONS) == {view.cls.__name__ for view in shown}
