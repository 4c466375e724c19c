"""The endpoints: DRF as far as who may call and what came in; the answer is awaited without a thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, cast

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIRequest
from django.db import transaction
from django.http import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from bupple_engine.calls.streams import AsyncStream
from bupple_engine.conf.registry import ai
from bupple_engine.drivers.base import ChatDriver
from bupple_engine.exceptions import InvalidRequestError
from bupple_engine.http import astream_response, stream_response
from bupple_engine.http.problems import Problem, ProblemError
from bupple_engine.http.release import arelease_connections, release_connections
from bupple_engine.protocol.options import protect
from bupple_engine.types import Message

from .asked import ChatCall, ChatDialect, default_driver, in_their_terms, moved_places
from .awaited import EitherWay, Pending, in_thread
from .base import EngineView, load
from .completions import CompletionsDialect, model_object, models, no_such_model
from .content import accepts_events
from .native import NativeDialect
from .slots import Place
from .ui import UIDialect


class ChatView(EngineView):
    """Answer a conversation: a Reply, or the native event stream for who accepts text/event-stream."""

    always_streams: ClassVar[bool] = False
    places: Mapping[str, str] = MappingProxyType({})  # of the call, once it is read
    sent: Sequence[Message] = ()  # the client's messages, among which PREPARE may put others

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        view: Any = EitherWay(super().as_view(**initkwargs))
        # ATOMIC_REQUESTS would hold a transaction for minutes, and Django can't give one to an async view.
        for alias in settings.DATABASES:
            view = transaction.non_atomic_requests(using=alias)(view)
        return view

    def post(self, request: Request) -> HttpResponseBase:
        """Answer, or under ASGI leave it to the coroutine."""
        data = cast("dict[str, Any]", request.data)  # the parser takes nothing else
        call = self.dialect_class.read(data, self.api)
        self.places, self.sent = call.places, list(call.messages)
        call.stream = (
            call.stream
            or self.always_streams
            or (self.dialect_class is NativeDialect and accepts_events(request))
        )
        call.context = {"user": getattr(request.user, "pk", None), "endpoint": call.endpoint}
        prepare = self._prepare
        if isinstance(request._request, ASGIRequest):
            if prepare is None:
                return self._open(call)
            return Pending(self, call) if _is_async(prepare) else self._open(prepare(request, call))
        if prepare is not None:
            call = (async_to_sync(prepare) if _is_async(prepare) else prepare)(request, call)
        return self._finish(call)

    def tell(self, error: Exception, context: Any = None) -> HttpResponseBase:
        if isinstance(error, InvalidRequestError):
            error = in_their_terms(error, self.places)
        return super().tell(error, context)

    # Under WSGI

    def _finish(self, call: ChatCall) -> HttpResponseBase:
        driver, options = self._begin(call)
        dialect = self.dialect_class(call)
        place = Place(self.caller, self.api)
        if not call.stream:
            place.take()  # it holds a thread until the whole answer is there
            try:
                release_connections()
                return Response(dialect.reply_body(driver.send(call.messages, **options)))
            finally:
                place.give_back()
        chunks = driver.stream(call.messages, **options)
        place.take()
        try:
            return stream_response(
                self.request._request, chunks, dialect=dialect, on_end=lambda _: place.give_back()
            )
        except BaseException:
            place.give_back()
            raise

    # Under ASGI

    def _open(self, call: ChatCall) -> Pending:
        """Do what may block: a key may be asked of a vault, the place of a cache."""
        driver, options = self._begin(call)
        dialect = self.dialect_class(call)
        pending = Pending(self, call)
        if call.stream:
            chunks = driver.astream(call.messages, **options)
            pending.place = place = Place(self.caller, self.api)
            place.take()
            pending.answer = lambda: self._astream(chunks, dialect, place)
        else:
            pending.answer = lambda: self._asend(driver, call.messages, options, dialect)
        return pending

    async def afinish(self, pending: Pending) -> HttpResponseBase:
        """See _finish()."""
        try:
            if pending.answer is None:
                call = await cast("Any", self._prepare)(self.request, pending.call)
                pending = cast("Pending", await in_thread(lambda: self._open(call)))
            response = await cast("Any", pending.answer)()
        except Exception as error:  # as dispatch() does, which is over by now
            # In a thread: who hears of it may use the database.
            response = await sync_to_async(self.handle_exception)(error)
        self.headers = self.default_response_headers  # finalize_response() of Pending has taken Vary out
        return self.finalize_response(self.request, response)

    async def _asend(
        self, driver: ChatDriver, messages: list[Message], options: dict[str, Any], dialect: ChatDialect
    ) -> HttpResponseBase:
        await arelease_connections()  # there are some where the view was called in a thread
        return Response(dialect.reply_body(await driver.asend(messages, **options)))

    async def _astream(self, chunks: AsyncStream, dialect: ChatDialect, place: Place) -> HttpResponseBase:
        try:
            return await astream_response(
                self.request._request, chunks, dialect=dialect, on_end=lambda _: place.give_back()
            )
        except BaseException:
            place.abandon()
            raise

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
        self.places = moved_places(self.places, self.sent, call.messages)
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
    has_page = False


class UIChatView(ChatView):
    """Answer a useChat request of the Vercel AI SDK, which only streams."""

    always_streams = True
    dialect_class = UIDialect


class UIResumeView(EngineView):
    """Say that there is no stream to resume, as a chat of the Vercel AI SDK asks when its page is loaded."""

    dialect_class = UIDialect
    schema = None

    def get(self, request: Request, chat: str) -> Response:
        return Response(status=204)


class ModelListView(EngineView):
    """List what a client may name as its model."""

    dialect_class = CompletionsDialect
    has_page = False

    def get(self, request: Request) -> Response:
        return Response({"object": "list", "data": [model_object(name) for name in models(self.api)]})


class ModelView(EngineView):
    """Show one model."""

    dialect_class = CompletionsDialect
    has_page = False

    def get(self, request: Request, name: str) -> Response:
        known = models(self.api)
        if name not in known:
            name = name.removesuffix("/")
        if name not in known:
            raise no_such_model()
        return Response(model_object(name))


V1_ENDPOINTS = ("POST /v1/chat/completions", "GET /v1/models", "GET /v1/models/{id}")
CHAT_COMPLETIONS_INSTEAD = (
    "Use chat completions: client.chat.completions.create(…) of the openai package,"
    " ChatOpenAI(use_responses_api=False) of LangChain, provider.chat(…) of the AI SDK,"
    ' set_default_openai_api("chat_completions") of the Agents SDK.'
)


class UnknownView(EngineView):
    """Say of a path under v1/ that there is nothing, and what there is; to anyone."""

    dialect_class = CompletionsDialect
    has_page = False
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        path = str(kwargs.get("path") or "").strip("/")
        where = f"/v1/{path[:200]}"
        message = f"There is no {request.method} {where} here. There are {', '.join(V1_ENDPOINTS)}."
        if path.partition("/")[0] == "responses":
            message = f"There is no Responses API here. {CHAT_COMPLETIONS_INSTEAD}"
        raise ProblemError(Problem(404, "NotFound", message))


class LostView(UnknownView):
    """Say to a client of v1/ whose base URL lacks the v1 what its base URL is; to anyone."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        base, path, _ = request.path.rpartition(str(kwargs["path"]))
        message = (
            f"There is no {request.method} {base}{path} here. The client's base URL must end with {base}v1."
        )
        raise ProblemError(Problem(404, "NotFound", message))


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
