"""What an answer means whose status is an error's, or a redirect's. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bupple_engine.exceptions import EngineError, ProviderConnectionError
from bupple_engine.protocol import retries
from bupple_engine.wires.parser import Parser


def status_error(
    wire: Parser, status: int, headers: Mapping[str, str], payload: Any, excerpt: str, now: float
) -> EngineError:
    """Return the error that an answer is.

    payload is the body's JSON, None where it has none, excerpt its first characters, now the time since 1970.
    """
    if 300 <= status < 400:
        words = "The provider redirects, which is not followed: set BASE_URL to where the API is."
        return _final(words, status)
    if status == 407:
        # A proxy of the environment may quote its credentials, which nobody here knows.
        return _final("The proxy wants credentials, or others: check PROXY.", status)
    if payload is None and "<" in excerpt[:200]:
        excerpt = f"The provider answered with status {status} and a page of HTML."
    error = wire.parse_error(status, payload, excerpt)
    seconds = retries.parse_retry_after(headers, now)
    error.retry_after = error.retry_after if seconds is None else seconds
    error.retryable = retries.is_retryable(error, headers.get("x-should-retry"))
    return error


def _final(words: str, status: int) -> EngineError:
    error = ProviderConnectionError(words, code=status)
    error.retryable = False
    return error
