"""What all endpoints share: who may call, by the site's settings, and how a failure is reported."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from django.core.exceptions import (
    BadRequest,
    ImproperlyConfigured,
    PermissionDenied,
    SuspiciousOperation,
    ValidationError,
)
from django.core.signals import got_request_exception
from django.http import Http404, HttpRequest, HttpResponseBase, UnreadablePostError
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
from bupple_engine.exceptions import EngineError
from bupple_engine.http import problem_response
from bupple_engine.http.problems import Problem, ProblemError, report
from bupple_engine.masking.keys import looks_like_key, unkeyed

from .asked import ChatDialect
from .body import open_body
from .content import BoundedJSONParser, Negotiation
from .native import NativeDialect
from .throttles import CallThrottle, caller

# What Django answers with 400, or with nothing since the client has left.
REFUSED = (BadRequest, MultiPartParserError, SuspiciousOperation, UnreadablePostError)


class EngineView(APIView):
    """Serve one endpoint; dialect_class says how a failure is reported."""

    parser_classes = (BoundedJSONParser,)
    content_negotiation_class = Negotiation
    versioning_class = None  # the site's own may be by namespace or path, which are ours
    dialect_class: ClassVar[type[ChatDialect]] = NativeDialect
    has_page: ClassVar[bool] = True  # the browsable API's; never where programs alone call

    @cached_property
    def api(self) -> APISettings:
        """The settings of the HTTP API, read once a request."""
        return conf.api_settings()

    @cached_property
    def caller(self) -> str:
        """Who calls, as part of a cache key; to be asked once they are known."""
        return caller(self.request)

    def get_renderers(self) -> list[Any]:
        sites: Any = rest_settings.DEFAULT_RENDERER_CLASSES
        if not self.has_page:
            return [JSONRenderer()]
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
            open_body(request, self.api)
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
        problem = dialect.adapt(problem)
        if isinstance(getattr(self.request, "accepted_renderer", None), BrowsableAPIRenderer):
            response: HttpResponseBase = Response(dialect.error_body(problem), problem.status)
        else:
            response = problem_response(problem, dialect)
        for name, value in problem.headers.items():
            response[name] = value
        if header := getattr(error, "auth_header", None):
            response["WWW-Authenticate"] = header
        return response


def load(found: Any, key: str) -> Any:
    """Return what a setting names by its dotted path, or is."""
    if not isinstance(found, str):
        return found
    try:
        return import_string(found)
    except ImportError as error:
        message = f"BUPPLE_ENGINE['API'][{key!r}]: {found!r} can't be imported: {error}"
        raise ImproperlyConfigured(unkeyed(message)) from (None if looks_like_key(found) else error)


def problem_of(error: Exception) -> Problem | None:
    """Return what a client sees of a refusal of ours or the site's; None for what is to be logged."""
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
