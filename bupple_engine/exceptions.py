"""Every exception that bupple_engine raises; the map from what a provider says is in `classification`.

ImproperlyConfigured (Django's)
└── InvalidDriverError

RuntimeError
└── EngineError
    ├── AuthenticationError
    ├── ProviderPermissionError
    ├── QuotaExceededError
    ├── RateLimitError
    ├── InvalidRequestError
    │   ├── ContextLengthExceededError
    │   ├── RequestTooLargeError
    │   ├── ContentFilteredError
    │   └── UnsupportedFeatureError
    ├── ModelNotFoundError
    ├── ConflictError
    ├── ProviderConnectionError
    │   └── ProviderTimeoutError
    ├── ProviderServerError
    │   └── OverloadedError
    ├── StreamError
    │   └── StreamInterruptedError
    └── ResponseParseError
"""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from .masking.printing import one_line
from .types import Usage


class InvalidDriverError(ImproperlyConfigured):
    """An alias or a driver that the settings do not have."""


class EngineError(RuntimeError):
    """A call that failed, with its evidence; `except RuntimeError` catches it.

    code is the HTTP status, or 0 where there was none; type is the provider's own word; retry_after is
    in seconds; partial_content is the text that had arrived; usage what had been reported until then.
    """

    retryable: bool = False
    advice: str = ""

    message: str
    code: int
    driver: str | None
    alias: str | None
    model: str | None
    type: str | None
    param: str | None
    request_id: str | None
    retry_after: float | None
    in_stream: bool
    partial_content: str
    usage: Usage | None
    attempts: int

    def __init__(
        self,
        message: str = "",
        *,
        code: int = 0,
        type: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.type = type
        self.param = param
        self.retry_after = retry_after
        self.driver = self.alias = self.model = self.request_id = self.usage = None
        self.in_stream = False
        self.partial_content = ""
        self.attempts = 0

    def __str__(self) -> str:
        facts = [f"{self.alias}"] if self.alias else []
        facts += [f"status {self.code}"] if self.code else []
        facts += [f"request {self.request_id}"] if self.request_id else []
        text = f"{self.message} ({', '.join(facts)})" if facts else self.message
        return one_line(f"{text} {self.advice}" if self.advice and facts else text)


class AuthenticationError(EngineError):
    """The provider refused the key."""

    advice = "Check the entry's API_KEY."


class ProviderPermissionError(EngineError):
    """The key is good but may not do this."""

    advice = "Check what the key's project or account is allowed."


class QuotaExceededError(EngineError):
    """The account is out of credit or over a spending limit; waiting does not help."""

    advice = "Check the account's billing and limits."


class RateLimitError(EngineError):
    """Too many requests for now; retry_after says how long, where the provider says."""

    retryable = True


class InvalidRequestError(EngineError):
    """The request is wrong, by our own check (code 0) or the provider's."""


class ContextLengthExceededError(InvalidRequestError):
    """The conversation is longer than the model's context."""

    advice = "Shorten the conversation or choose a model with a larger context."


class RequestTooLargeError(InvalidRequestError):
    """The request has too many bytes, or more tokens than the account may send at once."""


class ContentFilteredError(InvalidRequestError):
    """The provider's content policy blocked the prompt."""


class UnsupportedFeatureError(InvalidRequestError):
    """This driver cannot express it; told before the call."""


class ModelNotFoundError(EngineError):
    """The provider does not know the model, or the URL."""

    advice = "Check the entry's MODEL and BASE_URL."


class ConflictError(EngineError):
    """The provider reports a conflict with another request."""

    retryable = True


class ProviderConnectionError(EngineError):
    """The provider could not be reached, or the connection broke before its answer."""

    retryable = True


class ProviderTimeoutError(ProviderConnectionError):
    """A clock ran out: connect, first_token, idle or total; clock is None where it was the provider's own."""

    clock: str | None = None


class ProviderServerError(EngineError):
    """The provider failed."""

    retryable = True


class OverloadedError(ProviderServerError):
    """The provider has no capacity for now."""


class StreamError(EngineError):
    """The provider reported an error inside the stream that fits no other class."""

    retryable = True


class StreamInterruptedError(StreamError):
    """The stream ended before the provider's finish reason; partial_content keeps what had arrived."""


class ResponseParseError(EngineError):
    """A successful answer that cannot be read."""

    retryable = True
