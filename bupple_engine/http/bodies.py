"""Refuse a body that is too long before it is read: under ASGI Django reads it all before any view runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.urls import Resolver404, resolve

from bupple_engine import conf

from .dialects import Dialect, dump
from .problems import Problem, report

Scope = dict[str, Any]  # as Django has it
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def limit_bodies(application: Application) -> Application:
    """Return an ASGI application that answers 411 or 413 to bodies which our endpoints would refuse.

    Wrap Django's in asgi.py: `application = limit_bodies(get_asgi_application())`. A POST to a URL of
    bupple_engine.urls must have a Content-Length, of MAX_BODY_BYTES at most; of a body that comes without
    one no more is read. Other paths are left alone, and so are those that are ours only by a middleware's
    doing (request.urlconf, the prefix of a language).
    """

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        view = _our_view(scope) if scope["type"] == "http" else None
        if view is None:
            await application(scope, receive, send)
            return
        try:
            limit = conf.api_settings().max_body_bytes
            problem = _problem(scope, limit)
        except ImproperlyConfigured as error:
            problem = report(error)
        if problem is not None:
            await _refuse(view, problem, send)
        else:
            await application(scope, _counted(receive, limit, view, send), send)

    return limited


def _our_view(scope: Scope) -> Any:
    """Return the view that the path leads to, if it is one of ours; resolved as Django's handler does."""
    prefix = (settings.FORCE_SCRIPT_NAME or scope.get("root_path") or "").rstrip("/")
    path = scope["path"]
    if prefix and (path == prefix or path.startswith(f"{prefix}/")):
        path = path[len(prefix) :]
    try:
        match = resolve(path or "/")
    except Resolver404:
        return None
    return match.func if "bupple_engine" in match.app_names else None


def _problem(scope: Scope, limit: int) -> Problem | None:
    """Return what is wrong with the length that a request states."""
    headers = dict(scope["headers"])
    length = headers.get(b"content-length")
    # A transfer coding overrules a length beside it.
    if b"transfer-encoding" in headers or (length is None and scope["method"] == "POST"):
        return Problem(411, "LengthRequired", "Send the body with a Content-Length.")
    if length is None:
        return None
    # Python refuses to read thousands of digits, by an error of its own.
    fits = length.isdigit() and len(length) <= 18 and int(length) <= limit
    return None if fits else _too_large(limit)


def _too_large(limit: int) -> Problem:
    return Problem(413, "BodyTooLarge", f"The body may have {limit} bytes.")


def _counted(receive: Receive, limit: int, view: Any, send: Send) -> Receive:
    """Return a receive() that refuses the request where more comes, and then has no client any more."""
    left = limit

    async def counted() -> Message:
        nonlocal left
        if left < 0:
            return {"type": "http.disconnect"}
        message = await receive()
        if message["type"] == "http.request":
            left -= len(message.get("body", b""))
            if left < 0:
                await _refuse(view, _too_large(limit), send)
                return {"type": "http.disconnect"}
        return message

    return counted


async def _refuse(view: Any, problem: Problem, send: Send) -> None:
    dialect: Dialect = getattr(getattr(view, "cls", None), "dialect_class", Dialect)()
    body = dump(dialect.error_body(problem)).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **problem.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
