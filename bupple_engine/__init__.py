"""One ai() for every model provider, at home in Django."""

from typing import TYPE_CHECKING, Any

from .calls.call import Call
from .calls.observers import Observer
from .calls.outcome import Outcome
from .calls.streams import AsyncStream, Stream
from .conf.registry import ai
from .exceptions import (
    AuthenticationError,
    ConflictError,
    ContentFilteredError,
    ContextLengthExceededError,
    EngineError,
    InvalidDriverError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    ProviderConnectionError,
    ProviderPermissionError,
    ProviderServerError,
    ProviderTimeoutError,
    QuotaExceededError,
    RateLimitError,
    RequestTooLargeError,
    ResponseParseError,
    StreamError,
    StreamInterruptedError,
    UnsupportedFeatureError,
)
from .exchange.attempt import Attempt
from .signals import call_finished
from .types import Chunk, Message, Reply, Usage

if TYPE_CHECKING:
    from .conversations.memory import memory

__version__ = "0.1.0"

__all__ = [
    "AsyncStream",
    "Attempt",
    "AuthenticationError",
    "Call",
    "Chunk",
    "ConflictError",
    "ContentFilteredError",
    "ContextLengthExceededError",
    "EngineError",
    "InvalidDriverError",
    "InvalidRequestError",
    "Message",
    "ModelNotFoundError",
    "Observer",
    "Outcome",
    "OverloadedError",
    "ProviderConnectionError",
    "ProviderPermissionError",
    "ProviderServerError",
    "ProviderTimeoutError",
    "QuotaExceededError",
    "RateLimitError",
    "Reply",
    "RequestTooLargeError",
    "ResponseParseError",
    "Stream",
    "StreamError",
    "StreamInterruptedError",
    "UnsupportedFeatureError",
    "Usage",
    "ai",
    "call_finished",
    "memory",
]


def __getattr__(name: str) -> Any:
    if name == "memory":  # which who keeps no conversations is spared
        from .conversations.memory import memory

        return memory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
