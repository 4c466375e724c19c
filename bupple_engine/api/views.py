"""The endpoints: DRF as far as who may call and what came in; the answer is awaited without a thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, wraps
from inspect import iscoroutinefunction
from typing import Any, ClassVar

from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.core.exceptions import (
    BadRequest,
    ImproperlyConfigured,
    PermissionDenied,
    SuspiciousOperation,
    ValidationError,
)
from django.core.handlers.asgi import ASGIRequest
from django.core.signals import got_request_exception
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.utils.module_loading import import_string
from rest_framework import exceptions
from rest_framework.fields import get_error_detail
from rest_framework.renderers import BrowsableAPIRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings as rest_settings
from rest_framework.views import APIView, set_rollback

from bupple_engine import conf
from bupple_engine.conf import APISettings
from bupple_engine.drivers.base import ChatDriver
from bupple_engine.exceptions import EngineError, InvalidRequestError
from bupple_engine.http import astream_response, problem_response, stream_response
from bupple_engine.http.problems import Problem, ProblemError, report
from bupple_engine.http.release import arelease_connections, release_connections
from bupple_engine.registry import ai

from .calls import ChatCall, default_driver
from .completions import CompletionsDialect, model_object, models
from .content import BoundedJSONParser, Negotiation, check_length
from .native import NativeDialect
from .slots import Place
from .throttles import CallThrottle, caller
from .ui import UIDialect


class Pending(HttpResponse):
    """Stand for a response that is still to be awaited, until DRF's part is over."""

    def __init__(self, view: ChatView, call: ChatCall) -> None:
        super().__init__()
        self.view, self.call = view, call


class EngineView(APIView):
    """What all endpoints share: who may call, by the site's settings, and how a failure is told."""

    parser_classes = (BoundedJSONParser,)
    content_negotiation_class = Negotiation
    versioning_class = None  # the site's own may be by namespace or path, which are ours
    dialect_class: ClassVar[Any] = NativeDialect

    @cached_property
    def api(self) -> APISettings:
        """The settings of the HTTP API, read once a request."""
        return conf.api_settings()

    def get_renderers(self) -> list[Any]:
        sites: Any = rest_settings.DEFAULT_RENDERER_CLASSES
        return [JSONRenderer(), *(found() for found in sites if issubclass(found, BrowsableAPIRenderer))]

    def get_permissions(self) -> Any:
        return [load(found, "PERMISSION_CLASSES")() for found in self.api.permission_classes]

    def get_authenticators(self) -> Any:
        own = self.api.authentication_classes
        if own is None:
            sites: Any = rest_settings.DEFAULT_AUTHENTICATION_CLASSES
            return [found() for found in sites]
        return [load(found, "AUTHENTICATION_CLASSES")() for found in own]

    def get_throttles(self) -> Any:
        return [CallThrottle()] if self.request.method == "POST" else []

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().dispatch(request, *args, **kwargs)
        except Exception as error:  # outside of what DRF handles: our settings can't be read
            return self.tell(error)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if request.method == "POST":
            check_length(request, self.api)
        super().initial(request, *args, **kwargs)

    def get_exception_handler(self) -> Any:
        return self.tell

    def tell(self, error: Exception, context: Any = None) -> HttpResponseBase:
        """Return the response for an error, as JSON, but for a page of the browsable API."""
        set_rollback()
        problem = problem_of(error)
        if problem is None:
            request = getattr(self.request, "_request", self.request)  # DRF's may not be there yet
            got_request_exception.send(type(self), request=request)
            problem = report(error)
        dialect = self.dialect_class()
        if isinstance(getattr(self.request, "accepted_renderer", None), BrowsableAPIRenderer):
            response: HttpResponseBase = Response(dialect.error_body(problem), problem.status)
        else:
            response = problem_response(problem, dialect)
        for name, value in problem.headers.items():
            response[name] = value
        if header := getattr(error, "auth_header", None):
            response["WWW-Authenticate"] = header
        return response


class ChatView(EngineView):
    """Answer a conversation: a Reply, or the native event stream for who accepts text/event-stream."""

    always_streams: ClassVar[bool] = False

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        begin = super().as_view(**initkwargs)

        @wraps(begin)
        async def view(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
            response: Any = await sync_to_async(begin)(request, *args, **kwargs)
            if isinstance(response, Pending):
                return await response.view.afinish(response.call)
            return response  # type: ignore[no-any-return]

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
        if iscoroutinefunction(prepare):
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
        except Exception as error:
            # In a thread: who hears of it may use the database.
            response = await sync_to_async(self.handle_exception)(error)
        self.headers = self.default_response_headers  # those of Pending have been taken from
        return self.finalize_response(self.request, response)  # type: ignore[arg-type] # any response, says DRF

    async def _afinish(self, call: ChatCall) -> HttpResponseBase:
        prepare = self._prepare
        if iscoroutinefunction(prepare):
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
            await arelease_connections()
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
        if call.driver is None:
            raise InvalidRequestError("No driver is open to clients.", param="driver")
        options = {**call.options, "context": call.context}
        if call.model is not None:
            options["model"] = call.model
        return ai(call.driver), options


class ChatStreamView(ChatView):
    """Answer a conversation with the native event stream, whatever the client accepts."""

    always_streams = True


class CompletionsView(ChatView):
    """Answer a chat completion request of an OpenAI client."""

    dialect_class = CompletionsDialect


class UIChatView(ChatView):
    """Answer a useChat request of the Vercel AI SDK."""

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


# What Django answers with 400, or with nothing since the client has left.
REFUSED = (BadRequest, MultiPartParserError, SuspiciousOperation, UnreadablePostError)


def load(found: Any, key: str) -> Any:
    """Return what a setting names by its dotted path, or is."""
    if not isinstance(found, str):
        return found
    try:
        return import_string(found)
    except ImportError as error:
        message = f"BUPPLE_ENGINE['API'][{key!r}]: {found!r} can't be imported: {error}"
        raise ImproperlyConfigured(message) from error


def problem_of(error: Exception) -> Problem | None:
    """Return what a client is told of a refusal of ours or the site's; None for what is to be reported."""
    if isinstance(error, ProblemError):
        return error.problem
    if isinstance(error, Http404):
        error = exceptions.NotFound(*error.args)
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied(*error.args)
    elif isinstance(error, ValidationError):
        error = exceptions.ValidationError(get_error_detail(error))
    elif isinstance(error, REFUSED):
        error = exceptions.ParseError()
    if isinstance(error, exceptions.APIException):
        message, param = _first(error.detail)
        wait = getattr(error, "wait", None)
        retryable = isinstance(error, exceptions.Throttled)
        return Problem(error.status_code, type(error).__name__, message, param, wait, retryable)
    return report(error) if isinstance(error, EngineError) else None


def _first(detail: Any, param: str | None = None) -> tuple[str, str | None]:
    """Return the first message of a DRF error, and the field that it belongs to."""
    if isinstance(detail, dict) and detail:
        name, inner = next(iter(detail.items()))
        return _first(inner, str(name))
    if isinstance(detail, list) and detail:
        return _first(detail[0], param)
    return str(detail), param
