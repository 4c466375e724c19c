"""Whether a failed attempt is tried again, and after how long.

It is what the vendors' own clients do, with a ceiling on their delays.
"""

from __future__ import annotations

import email.utils
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC

from bupple_engine.exceptions import EngineError, QuotaExceededError, RateLimitError, ResponseParseError

MAX_DELAY = 60.0  # seconds; waiting longer is the caller's decision
NEVER_RETRIED = frozenset({400, 401, 402, 403, 404, 413, 422})


_SPAN = re.compile(r"(?i)([0-9]+(?:\.[0-9]+)?) ?(ms|h|m|s)(?:[a-z]*)[ ,]*")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
MAX_SPAN = 40  # characters of what says how long


def parse_seconds(text: str) -> float | None:
    """Return the seconds that a text says, None where it is no number or one that no clock can run.

    Beside a bare number it may have units: 7s, 1m30s, 500ms, 7 seconds.
    """
    try:
        seconds = float(text)
    except ValueError:
        text = text.strip()[:MAX_SPAN]
        spans = _SPAN.findall(text)
        if not spans or _SPAN.sub("", text):
            return None
        seconds = sum(float(number) * _UNITS[unit.lower()] for number, unit in spans)
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def parse_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that the provider asks to wait, None where it does not say.

    now is the time since 1970, which a date is compared with.
    """
    milliseconds = parse_seconds(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "")
    seconds = parse_seconds(value)
    if seconds is not None or not value:
        return seconds
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    # A date without a zone is UTC in HTTP, the server's own zone to datetime.
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(moment.timestamp() - now, 0.0)


def is_retryable(error: EngineError, should_retry: str | None) -> bool:
    """Return whether the same target may be tried again; should_retry is the header x-should-retry."""
    if isinstance(error, QuotaExceededError):
        return False
    if error.code in NEVER_RETRIED and not isinstance(error, RateLimitError):
        return False  # some services throttle by a 400 or a 403
    if should_retry in ("true", "false"):
        return should_retry == "true"
    return error.retryable


def delay(
    error: EngineError, attempt: int, max_retries: int, left: float, chance: Callable[[], float]
) -> float | None:
    """Return the seconds to wait before the next attempt, None where there is none.

    attempt counts from 1; left is what remains of the total clock, chance gives numbers from 0
    to 1.
    """
    allowed = min(max_retries, 1) if isinstance(error, ResponseParseError) else max_retries
    if not error.retryable or attempt > allowed:
        return None
    if error.retry_after is not None:
        seconds = error.retry_after
    else:
        seconds = min(8.0, 0.5 * 2 ** (attempt - 1)) * (0.5 + chance() / 2)
    return seconds if seconds <= MAX_DELAY and seconds < left else None
