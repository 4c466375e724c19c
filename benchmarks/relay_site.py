"""A site that relays the provider's answers to its readers: the raw way, ours, and over the openai SDK.

A server imports it; its environment names the contender and the provider. The raw relays are the least
that is correct: no middleware, the chunks parsed and written anew, the provider's connection closed with
the generator.
"""

import gc
import logging
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, StreamingHttpResponse
from django.urls import include, path

from benchmarks.contenders import KEY, MESSAGES, Floor, OpenAISDK, parse
from benchmarks.provider import encode

REPLAY = "stamped"
ORIGIN = os.environ.get("RELAY_PROVIDER", "http://127.0.0.1:9")
CONTENDER = os.environ.get("RELAY_CONTENDER", "ours")
URL = f"{ORIGIN}/{REPLAY}/v1"
CALL_URL = f"{URL}/chat/completions"

settings.configure(
    SECRET_KEY=KEY,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="benchmarks.relay_site",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework", "bupple_engine"],
    REST_FRAMEWORK={"NUM_PROXIES": 1},  # each reader says an address of its own, and has its own limits
    BUPPLE_ENGINE={
        "DEFAULT": "bench",
        "DRIVERS": {
            "bench": {"DRIVER": "openai_chat", "API_KEY": KEY, "MODEL": "bench", "BASE_URL": URL},
        },
        "API": {
            "PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
            "SYSTEM_MESSAGES": True,
            "MAX_CONCURRENT_STREAMS": {"process": 10_000},
        },
    },
)
django.setup()

logging.getLogger("bupple_engine").addHandler(logging.NullHandler())  # that readers leave is no news here
logging.getLogger("asyncio").setLevel(logging.ERROR)  # nor is that a server still writes to them

floor, sdk = Floor(ORIGIN), OpenAISDK(ORIGIN)


def frame(content: str) -> bytes:
    """Return what is written for a chunk."""
    return b"data: %s\n\n" % encode({"role": "assistant", "content": content, "done": False})


def frames(events: list[bytes]) -> bytes:
    """Return what is written for the provider's events."""
    found: list[bytes] = []
    parse(events, lambda chunk: found.append(frame(chunk["content"])))
    return b"".join(found)


def relay_raw() -> Iterator[bytes]:
    """Relay over requests."""
    post = floor.session.post
    with post(
        f"{URL}/chat/completions", json=floor.stream_body, headers=floor.headers, stream=True
    ) as answer:
        rest = b""
        for piece in answer.iter_content(None):
            *events, rest = (rest + piece).split(b"\n\n")
            yield frames(events)


async def arelay_raw() -> AsyncIterator[bytes]:
    """Relay over aiohttp."""
    post = floor.asession.post
    async with post(CALL_URL, json=floor.stream_body, headers=floor.headers) as answer:
        rest = b""
        async for piece in answer.content.iter_any():
            *events, rest = (rest + piece).split(b"\n\n")
            yield frames(events)


CALL: dict[str, Any] = {"model": "bench", "messages": MESSAGES, "stream": True}


def relay_openai() -> Iterator[bytes]:
    """Relay over the SDK."""
    with sdk.client(REPLAY).chat.completions.create(**CALL) as stream:
        for chunk in stream:
            yield frame(sdk.content(chunk))


async def arelay_openai() -> AsyncIterator[bytes]:
    """See relay_openai()."""
    async with await sdk.aclient(REPLAY).chat.completions.create(**CALL) as stream:
        async for chunk in stream:
            yield frame(sdk.content(chunk))


def view(request: HttpRequest) -> StreamingHttpResponse:
    """Answer under WSGI."""
    relay = relay_openai if CONTENDER == "openai" else relay_raw
    return StreamingHttpResponse(relay(), content_type="text/event-stream")


async def aview(request: HttpRequest) -> StreamingHttpResponse:
    """Answer under ASGI."""
    relay = arelay_openai if CONTENDER == "openai" else arelay_raw
    return StreamingHttpResponse(relay(), content_type="text/event-stream")


urlpatterns = [
    path("wsgi/", view),
    path("asgi/", aview),
    path("ai/", include("bupple_engine.urls")),
]
wsgi, asgi = WSGIHandler(), ASGIHandler()

if os.environ.get("RELAY_GC"):
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
