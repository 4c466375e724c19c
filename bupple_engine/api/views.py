"""The endpoints: DRF as far as who may call and what came in; the answer is awaited without a thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIRequest
from django.db import transaction
from django.http import HttpResponse, HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from bupple_engine.drivers.base import ChatDriver
from bupple_engine.exceptions import InvalidRequestError
from bupple_engine.http import astream_response, stream_response
from bupple_engine.http.problems import Problem, ProblemError
from bupple_engine.http.release import arelease_connections, release_connections
from bupple_engine.masking import protect
from bupple_engine.registry import ai

from .base import EngineView, load
from .calls import ChatCall, default_driver
from .completions import CompletionsDialect, model_object, models
from .native import NativeDialect
from .slots import Place
from .throttles import caller
from .ui import UIDialect


class Pending(HttpResponse):
    """Stand for a response that is still to be awaited, until DRF's part is over."""

    def __init__(self, view: ChatView, call: ChatCall) -> None:
        super().__init__()
        self.view, self.call = view, call


class ChatView(EngineView):
    """Answer a conversation: a Reply, or the native event stream for who accepts text/event-stream."""

    always_streams: ClassVar[bool] = False

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        begin = super().as_view(**initkwargs)

        @wraps(begin)
        async def view(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
            response: HttpResponseBase = await sync_to_async(begin)(request, *args, **kwargs)
            if isinstance(response, Pending):
                return await response.view.afinish(response.call)
            return response

        # ATOMIC_REQUESTS would hold a transaction for minutes, and Django can't give one to an async view.
        for alias in settings.DATABASES:
            view = transaction.non_atomic_requests(using=alias)(view)
        return view

    def post(self, request: Request) -> HttpResponseBase:
        """Answer, or under ASGI leave it to the coroutine."""
        call = self.dialect_class.read(request.data, self.api)
        call.stream = call.stream or self.always_streams or self._accepts_events(request)
        call.context = {"user": getattr(request.user, "pk", None), "endpoint": call.endpoint}
        if isinstance(request._request, ASGIRequest):
            return Pending(self, call)
        return self._finish(call)

    def _accepts_events(self, request: Request) -> bool:
        return self.dialect_class is NativeDialect and "text/event-stream" in request.META.get(
            "HTTP_ACCEPT", ""
        )

    # Under WSGI

    def _finish(self, call: ChatCall) -> HttpResponseBase:
        prepare = self._prepare
        if prepare is not None and _is_async(prepare):
            call = async_to_sync(prepare)(self.request, call)
        elif prepare is not None:
            call = prepare(self.request, call)
        driver, options = self._begin(call)
        dialect = self.dialect_class(call)
        if not call.stream:
            release_connections()
            return Response(dialect.reply_body(driver.send(call.messages, **options)))
        chunks = driver.stream(call.messages, **options)
        place = Place(caller(self.request), self.api)
        place.take()
        try:
            return stream_response(self.request._request, chunks, dialect=dialect, on_end=place.give_back)
        except BaseException:
            place.give_back()
            raise

    # Under ASGI

    async def afinish(self, call: ChatCall) -> HttpResponseBase:
        """See _finish()."""
        try:
            response = await self._afinish(call)
        except Exception as error:  # as dispatch() does, which is over by now
            # In a thread: who hears of it may use the database.
            response = await sync_to_async(self.handle_exception)(error)
        self.headers = self.default_response_headers  # finalize_response() of Pending has taken Vary out
        return self.finalize_response(self.request, response)  # type: ignore[arg-type] # any response, says DRF

    async def _afinish(self, call: ChatCall) -> HttpResponseBase:
        prepare = self._prepare
        if prepare is not None and _is_async(prepare):
            call = await prepare(self.request, call)
        elif prepare is not None:
            call = await sync_to_async(prepare)(self.request, call)
        driver, options = self._begin(call)
        dialect = self.dialect_class(call)
        if not call.stream:
            await arelease_connections()
            return Response(dialect.reply_body(await driver.asend(call.messages, **options)))
        place = Place(caller(self.request), self.api)
        try:
            # In a thread: a key may be asked of a vault, the place of a cache.
            chunks = await sync_to_async(self._open)(driver, call, options, place)
            return await astream_response(
                self.request._request, chunks, dialect=dialect, on_end=place.give_back
            )
        except BaseException:
            place.abandon()
            raise

    def _open(self, driver: ChatDriver, call: ChatCall, options: dict[str, Any], place: Place) -> Any:
        chunks = driver.astream(call.messages, **options)
        place.take()
        return chunks

    # Under both

    @property
    def _prepare(self) -> Callable[..., Any] | None:
        found = self.api.prepare
        return load(found, "PREPARE") if found is not None else None

    def _begin(self, call: Any) -> tuple[ChatDriver, dict[str, Any]]:
        if not isinstance(call, ChatCall):
            kind = type(call).__name__
            raise ImproperlyConfigured(f"BUPPLE_ENGINE['API']['PREPARE'] must return the call, not a {kind}.")
        call.stream = call.stream or self.always_streams
        if call.driver is None:
            raise InvalidRequestError("No driver is open to clients.", param="driver")
        call.options = protect(call.options)  # PREPARE may have put a tenant's key there
        options: dict[str, Any] = {**call.options, "context": call.context}
        if call.model is not None:
            options["model"] = call.model
        return ai(call.driver), options


def _is_async(prepare: Any) -> bool:
    return iscoroutinefunction(prepare) or iscoroutinefunction(type(prepare).__call__)


class ChatStreamView(ChatView):
    """Answer a conversation with the native event stream, whatever the client accepts."""

    always_streams = True


class CompletionsView(ChatView):
    """Answer a chat completion request of an OpenAI client."""

    dialect_class = CompletionsDialect


class UIChatView(ChatView):
    """Answer a useChat request of the Vercel AI SDK, which only streams."""

    always_streams = True
    dialect_class = UIDialect


class ModelListView(EngineView):
    """List what a client may name as its model."""

    dialect_class = CompletionsDialect

    def get(self, request: Request) -> Response:
        return Response({"object": "list", "data": [model_object(name) for name in models(self.api)]})


class ModelView(EngineView):
    """Show one model."""

    dialect_class = CompletionsDialect

    def get(self, request: Request, name: str) -> Response:
        if name not in models(self.api):
            raise ProblemError(Problem(404, "model_not_found", "There is no such model.", "model"))
        return Response(model_object(name))


class DriverListView(EngineView):
    """List the drivers that a client may name, with their models."""

    def get(self, request: Request) -> Response:
        default = default_driver(self.api)
        return Response(
            [
                {"driver": alias, "default": alias == default, "models": self.api.models.get(alias, [])}
                for alias in self.api.drivers
            ]
        )
