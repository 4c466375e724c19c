"""Bound what is read of a request's body: under ASGI Django reads it all before any view runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.urls import Resolver404, resolve

from bupple_engine import conf

Scope = dict[str, Any]  # as Django has it
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def limit_bodies(application: Application) -> Application:
    """Return an ASGI application that reads no body of our endpoints further than MAX_BODY_BYTES.

    Wrap Django's in asgi.py: `application = limit_bodies(get_asgi_application())`. Of a body that states a
    greater length nothing is read, of one that states none no more than the piece that is too much. The
    answer is the endpoint's own, behind the site's middleware. Other paths are left alone, and so are those
    that are ours only by a middleware's doing (request.urlconf, the prefix of a language).
    """

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_ours(scope):
            receive = _bounded(receive, _limit(scope))
        await application(scope, receive, send)

    return limited


def _is_ours(scope: Scope) -> bool:
    """Return whether the path leads to a view of ours; resolved as Django's handler does."""
    prefix = (settings.FORCE_SCRIPT_NAME or scope.get("root_path") or "").rstrip("/")
    path = scope["path"]
    if prefix and (path == prefix or path.startswith(f"{prefix}/")):
        path = path[len(prefix) :]
    try:
        return "bupple_engine" in resolve(path or "/").app_names
    except Resolver404:
        return False


def _limit(scope: Scope) -> int:
    """Return how many bytes of the body may be read: none where the endpoint will refuse it unread."""
    try:
        limit = conf.api_settings().max_body_bytes
    except ImproperlyConfigured:
        return -1
    headers = dict(scope["headers"])
    length = headers.get(b"content-length")
    if length is None or b"transfer-encoding" in headers:  # which overrules a length beside it
        return limit
    # Python refuses to read thousands of digits, by an error of its own.
    fits = length.isdigit() and len(length) <= 18 and int(length) <= limit
    return limit if fits else -1


def _bounded(receive: Receive, limit: int) -> Receive:
    """Return a receive() that ends the body with the piece by which it is too long."""
    left = limit
    ended = False

    async def bounded() -> Message:
        nonlocal left, ended
        if ended:
            # Django waits for the client's leaving meanwhile, and stops once it has answered.
            await asyncio.get_running_loop().create_future()
        message: Message = {"type": "http.request"} if left < 0 else await receive()
        if message["type"] == "http.request":
            left -= len(message.get("body", b""))
            if ended := left < 0:
                return {**message, "more_body": False}
        return message

    return bounded
