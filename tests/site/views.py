"""Views that stream, and one that tells what their process has open."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.db import transaction
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.utils.deprecation import MiddlewareMixin

from bupple_engine import conf
from bupple_engine.http import EventStream, PlainText, astream_response, shutdown, stream_response
from tests.site.database.base import opened


class VisitsMiddleware(MiddlewareMixin):
    """Ask the database before the view, and have the session written behind it; or fail there."""

    def process_request(self, request: Any) -> None:
        if request.path != "/state/":
            request.session.exists("nobody")
            request.session["visited"] = request.path

    def process_response(self, request: Any, response: Any) -> Any:
        if request.GET.get("fail"):
            raise SuspiciousOperation("Middleware may fail, as that of sessions does where one has ended.")
        return response


def arguments(request: HttpRequest) -> dict[str, Any]:
    """Return what a view streams: the answer to what the query says."""
    dialect = PlainText() if request.GET.get("dialect") == "text" else EventStream()
    return {"messages": [{"role": "user", "content": request.GET["say"]}], "dialect": dialect}


@transaction.non_atomic_requests  # Django has no transactions for asynchronous views
async def from_async_view(request: HttpRequest) -> HttpResponseBase:
    return await astream_response(request, **arguments(request))


@transaction.non_atomic_requests
def from_sync_view(request: HttpRequest) -> HttpResponseBase:
    return stream_response(request, **arguments(request))


def from_atomic_view(request: HttpRequest) -> HttpResponseBase:
    """Stream from within a transaction, as ATOMIC_REQUESTS makes one around each synchronous view."""
    return stream_response(request, **arguments(request))


@transaction.non_atomic_requests
async def state(request: HttpRequest) -> JsonResponse:
    """Tell what this process has open; set what the query has of the API's settings before."""
    settings.BUPPLE_ENGINE["API"].update({key: float(request.GET[key]) for key in request.GET})
    conf.api_settings.cache_clear()
    names = sorted(thread.name for thread in threading.enumerate())
    descriptors = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the listing itself
            descriptors.append(os.readlink(f"/proc/self/fd/{number}"))
    return JsonResponse(
        {
            "site": os.environ["SITE_DATABASE"],
            # Without those of the pool, which stay for the next that need one.
            "threads": [name for name in names if not name.startswith("bupple_engine_")],
            "tasks": len(asyncio.all_tasks()),
            "descriptors": len(descriptors),
            "database": len(opened),
            "streams": len(shutdown._open),
        }
    )
