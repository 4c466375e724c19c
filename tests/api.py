"""A client of the HTTP API in each world, and the settings of a site that has opened it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from asgiref.sync import async_to_sync
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import include, path

from bupple_engine.protocol.sse import Decoder, Event


def sink(request: HttpRequest) -> HttpResponse:
    """Take a body of any length: a view of the site's own."""
    return HttpResponse(headers={"X-Body": str(len(request.read()))})


urlpatterns = [path("ai/", include("bupple_engine.urls")), path("sink/", sink)]

HELLO = [{"role": "user", "content": "Hello there"}]
# A smallest body for each endpoint that answers.
BODIES: dict[str, dict[str, Any]] = {
    "chat/": {"messages": HELLO},
    "chat/stream/": {"messages": HELLO},
    "v1/chat/completions": {"model": "echo", "messages": HELLO},
    "ui/chat/": {"messages": [{"role": "user", "parts": [{"type": "text", "text": "Hello there"}]}]},
}
OPEN: dict[str, Any] = {
    "PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
    "AUTHENTICATION_CLASSES": [],
    "THROTTLE_RATES": {"user": None, "anon": None},
}


Site = Callable[..., None]


def open_site(settings: Any) -> Site:
    """Open the API to all, with the echo driver; return a function that sets other drivers and settings."""
    cache.clear()
    settings.ROOT_URLCONF = "tests.api"

    def site(drivers: dict[str, Any] | None = None, **api: Any) -> None:
        drivers = drivers or {"echo": {}}
        settings.BUPPLE_ENGINE = {"DEFAULT": next(iter(drivers)), "DRIVERS": drivers, "API": {**OPEN, **api}}

    site()
    return site


class Answered:
    """A response whose body has been read."""

    def __init__(self, response: Any, body: bytes) -> None:
        self.response = response
        self.status: int = response.status_code
        self.body = body
        self.type: str = response.headers.get("Content-Type", "").partition(";")[0]

    def header(self, header: str) -> str | None:
        found: str | None = self.response.headers.get(header)
        return found

    @property
    def json(self) -> Any:
        """The body of a response that says it is JSON."""
        assert self.type == "application/json", (self.status, self.type, self.body[:500])
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object, which both shapes have."""
        found: dict[str, Any] = self.json["error"]
        return found

    @property
    def events(self) -> list[Event]:
        """The events of a stream."""
        assert self.type == "text/event-stream", (self.status, self.type, self.body[:500])
        return Decoder().feed(self.body)

    @property
    def everything(self) -> str:
        """Headers and body."""
        return f"{self.response.headers}\n{self.body.decode()}"


class Caller:
    """Call the site under /ai/ by Django's test clients: as a WSGI server does, or as an ASGI server does."""

    def __init__(self, world: str, **extra: Any) -> None:
        self.world = world
        self.client: Any = Client(**extra) if world == "wsgi" else AsyncClient(**extra)

    def post(self, path: str, body: Any = None, *, method: str = "POST", **extra: Any) -> Answered:
        """Return the response, read to its end, where the client closes it as a server does."""
        data = body if isinstance(body, bytes) else json.dumps(BODIES[path] if body is None else body)
        call = partial(
            self.client.generic, method, f"/ai/{path}", data, **{"content_type": "application/json", **extra}
        )
        if self.world == "asgi":
            return async_to_sync(_answered)(call)
        response = call()
        return Answered(response, b"".join(response) if response.streaming else response.content)

    def get(self, path: str, **extra: Any) -> Answered:
        """See post()."""
        return self.post(path, b"", method="GET", **extra)


async def _answered(call: Any) -> Answered:
    """Return what is read in the loop that the request was made in: its streams end with it."""
    response = await call()
    if not response.streaming:
        return Answered(response, response.content)
    return Answered(response, b"".join([piece async for piece in response]))
