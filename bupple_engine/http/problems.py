"""What a client may know about a failure; the rest is logged under an id that the client gets."""

from __future__ import annotations

import logging
import math
import secrets
from dataclasses import dataclass, replace
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from bupple_engine import exceptions
from bupple_engine.exceptions import EngineError, InvalidRequestError
from bupple_engine.masking.printing import one_line

logger = logging.getLogger("bupple_engine")

MAX_TEXT = 500  # characters of a message
MAX_RETRY_AFTER = 1_000_000  # seconds; a provider's number may have hundreds of digits


@dataclass(frozen=True, slots=True)
class Problem:
    """A failure as a client sees it: without keys, hosts, aliases or the provider's own words.

    status is the HTTP status that it has, or would have had before the response began; retry_after is in
    seconds; id is the one under which the log has the whole error.
    """

    status: int
    type: str
    message: str
    param: str | None = None
    retry_after: float | None = None
    retryable: bool = False
    id: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of an error response."""
        headers = {"Cache-Control": "no-store"}
        if self._wait is not None:
            headers["Retry-After"] = str(math.ceil(self._wait))
        if not self.retryable and (self.status >= 500 or self.status == 429):
            # The official clients would retry a 502 for a bad key again and again.
            headers["x-should-retry"] = "false"
        return headers

    def as_dict(self) -> dict[str, Any]:
        """Return the error object of the native dialect."""
        found: dict[str, Any] = {"type": self.type, "message": self.message, "code": self.status}
        optional = {"param": self.param, "retry_after": self._wait, "id": self.id}
        return found | {name: value for name, value in optional.items() if value not in (None, "")}

    @property
    def _wait(self) -> float | None:
        return None if self.retry_after is None else min(max(self.retry_after, 0), MAX_RETRY_AFTER)


class ShuttingDownError(EngineError):
    """The server is stopping; raised into its open streams."""

    retryable = True


# Class → status and sentence; docs/http-api.md has them as a table.
_TOLD: dict[type[EngineError], tuple[int, str]] = {
    exceptions.AuthenticationError: (502, "The AI provider refused this site's credentials."),
    exceptions.ProviderPermissionError: (502, "The AI provider does not allow this site to do that."),
    exceptions.QuotaExceededError: (503, "This site's quota at the AI provider is used up."),
    exceptions.RateLimitError: (429, "The AI provider limits this site's rate. Try again later."),
    exceptions.ContextLengthExceededError: (413, "The conversation is too long for the model. Shorten it."),
    exceptions.RequestTooLargeError: (413, "The request is too large for the AI provider."),
    exceptions.ContentFilteredError: (422, "The AI provider's content policy blocked the request."),
    exceptions.UnsupportedFeatureError: (400, "The model can't do what the request asks for."),
    exceptions.InvalidRequestError: (400, "The AI provider refused the request as invalid."),
    exceptions.ModelNotFoundError: (502, "The AI provider does not have the model."),
    exceptions.ConflictError: (502, "The AI provider reports a conflict. Try again."),
    exceptions.ProviderTimeoutError: (504, "The AI provider took too long to answer."),
    exceptions.ProviderConnectionError: (502, "The AI provider can't be reached."),
    exceptions.OverloadedError: (503, "The AI provider is overloaded. Try again later."),
    exceptions.ProviderServerError: (502, "The AI provider failed."),
    exceptions.StreamInterruptedError: (502, "The answer was cut off before its end."),
    exceptions.StreamError: (502, "The AI provider reported an error in its answer."),
    exceptions.ResponseParseError: (502, "The AI provider's answer could not be read."),
    ShuttingDownError: (503, "The server is being restarted. Try again."),
    EngineError: (502, "The AI provider failed."),
}


def tell_clients(kind: type[EngineError], status: int, message: str) -> None:
    """Have clients be told of a class of errors of another app; the message names nothing of the site's."""
    _TOLD[kind] = (status, message)


def problem_of(error: BaseException) -> Problem:
    """Return what a client may know about an error.

    Our own message is passed on if it is about what the client sent: an InvalidRequestError with code 0.
    Any other error is described by its class alone.
    """
    if isinstance(error, InvalidRequestError) and not error.code and not error.attempts:
        message = error.message
        if isinstance(error, exceptions.UnsupportedFeatureError):
            message = _TOLD[exceptions.UnsupportedFeatureError][1]  # our own names the driver
        return Problem(400, type(error).__name__, _shorten(message), _shorten(error.param))
    if isinstance(error, EngineError):
        cls = next(cls for cls in type(error).__mro__ if cls in _TOLD)
        status, message = _TOLD[cls]
        return Problem(status, cls.__name__, message, None, error.retry_after, error.retryable)
    if isinstance(error, ImproperlyConfigured):
        return Problem(500, "ImproperlyConfigured", "This site's AI settings are wrong.")
    return Problem(500, "ServerError", "The server failed.")


def _shorten(text: Any) -> Any:
    """Return a text that quotes a client, who may have sent megabytes, at a readable length."""
    return f"{text[:MAX_TEXT]}…" if isinstance(text, str) and len(text) > MAX_TEXT else text


def report(error: BaseException) -> Problem:
    """Log an error under an id, and return what a client may know about it, with that id."""
    problem = problem_of(error)
    if problem.status < 500 and problem.status != 429 and not getattr(error, "attempts", 0):
        return problem  # the client's own mistake, shown in full
    found = replace(problem, id=secrets.token_hex(8))
    expected = isinstance(error, EngineError)
    logger.log(
        logging.WARNING if expected else logging.ERROR,
        "Error %s: %s: %s",
        found.id,
        type(error).__name__,
        one_line(str(error)),
        exc_info=None if expected else (type(error), error, error.__traceback__),
        extra={"event": "error", "error_id": found.id, "call_id": _call_id(error), "status": found.status},
    )
    return found


def _call_id(error: BaseException) -> str | None:
    found = error.call_id if isinstance(error, EngineError) else None
    return str(found) if found is not None else None


class ProblemError(Exception):
    """A refusal of our own, whose words the client sees unchanged."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem
