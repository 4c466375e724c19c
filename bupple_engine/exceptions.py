"""Every exception that bupple_engine raises, and the one map from what a provider says to its class.

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

import re
from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ImproperlyConfigured


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
    usage: dict[str, Any] | None
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
        return f"{text} {self.advice}" if self.advice and facts else text


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


_STATUSES: dict[int, type[EngineError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    402: QuotaExceededError,
    403: ProviderPermissionError,
    404: ModelNotFoundError,
    408: ProviderTimeoutError,
    409: ConflictError,
    413: RequestTooLargeError,
    429: RateLimitError,
    498: OverloadedError,  # Groq: capacity exceeded
    503: OverloadedError,
    504: ProviderTimeoutError,
    529: OverloadedError,
}

# Words that say more than the status: a bad key may come as a 400, an empty account as a 429.
_TELLING_WORDS: dict[str, type[EngineError]] = {
    "invalid_api_key": AuthenticationError,
    "authentication_error": AuthenticationError,
    "api_key_invalid": AuthenticationError,
    "billing_error": QuotaExceededError,
    "insufficient_quota": QuotaExceededError,
    "context_length_exceeded": ContextLengthExceededError,
    "exceed_context_size_error": ContextLengthExceededError,
    "model_context_window_exceeded": ContextLengthExceededError,
    "content_filter": ContentFilteredError,
    "content_policy_violation": ContentFilteredError,
    "invalid_prompt": ContentFilteredError,
    "bio_policy": ContentFilteredError,
    "misalignment_policy_violation": ContentFilteredError,
    "image_content_policy_violation": ContentFilteredError,
    "model_not_found": ModelNotFoundError,
    "overloaded_error": OverloadedError,
    "server_is_overloaded": OverloadedError,
}

# Words that say what the status says, for errors inside a stream, which have none.
_STATUS_WORDS: dict[str, type[EngineError]] = {
    "unauthenticated": AuthenticationError,
    "permission_error": ProviderPermissionError,
    "permission_denied": ProviderPermissionError,
    "rate_limit_error": RateLimitError,
    "rate_limit_exceeded": RateLimitError,
    "resource_exhausted": RateLimitError,
    "slow_down": RateLimitError,
    "invalid_request_error": InvalidRequestError,
    "invalid_argument": InvalidRequestError,
    "failed_precondition": InvalidRequestError,
    "request_too_large": RequestTooLargeError,
    "not_found_error": ModelNotFoundError,
    "not_found": ModelNotFoundError,
    "conflict_error": ConflictError,
    "timeout_error": ProviderTimeoutError,
    "deadline_exceeded": ProviderTimeoutError,
    "unavailable": OverloadedError,
    "unavailable_error": OverloadedError,
    "service_unavailable_error": OverloadedError,
    "server_error": ProviderServerError,
    "api_error": ProviderServerError,
    "internal": ProviderServerError,
    "internal_error": ProviderServerError,
    "internal_server_error": ProviderServerError,
}

_QUOTA_WORDS = re.compile(r"quota|credit|billing|spend|usage_limit|balance")

# Only for 400 and 422, whose codes are often too general to tell these apart.
_PHRASES: list[tuple[re.Pattern[str], type[EngineError]]] = [
    (
        re.compile(r"(?i)(incorrect|invalid) api key|api key (is )?(not valid|invalid|expired)"),
        AuthenticationError,
    ),
    (
        re.compile(
            r"(?i)maximum (context|prompt)|context (length|window|size|limit)|too many (input )?tokens"
            r"|(prompt|input) is too long"
            r"|input token count.{0,60}exceeds|maximum number of tokens"
        ),
        ContextLengthExceededError,
    ),
    (re.compile(r"(?i)credit balance|spend(ing)? limit|billing"), QuotaExceededError),
    (
        re.compile(r"(?i)content (management )?policy|content filter|safety system|flagged"),
        ContentFilteredError,
    ),
]


def error_class(status: int, words: Iterable[str | None], message: str = "") -> type[EngineError]:
    """Return the class for a provider's error: by its code and type, then its status, then its text.

    A status of 0 is an error inside a stream that names none. Source: errors-and-retries, "Classes".
    """
    known = [word.lower() for word in words if word]
    for word in known:
        if found := _TELLING_WORDS.get(word):
            return found
    if status in (0, 400, 422, 429) and any(_QUOTA_WORDS.search(word) for word in known):
        return QuotaExceededError
    stated = next((_STATUS_WORDS[word] for word in known if word in _STATUS_WORDS), StreamError)
    if status in (400, 422) or (not status and stated is InvalidRequestError):
        for pattern, cls in _PHRASES:
            if pattern.search(message):
                return cls
    if status:
        if found := _STATUSES.get(status):
            return found
        if 400 <= status < 500:
            return InvalidRequestError
        return ProviderServerError if status >= 500 else ProviderConnectionError
    return stated
