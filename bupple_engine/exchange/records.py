"""The log record of an attempt."""

from __future__ import annotations

import logging

from .attempt import Attempt

logger = logging.getLogger("bupple_engine")


def are_kept(error: BaseException | None) -> bool:
    """Tell whether the log takes the record of an attempt that ended so."""
    return logger.isEnabledFor(_level(error))


def log_attempt(attempt: Attempt, driver: str, call_id: str | None) -> None:
    """Write the record of an attempt, with the pause before the next where one follows."""
    outcome = type(attempt.error).__name__ if attempt.error else "complete"
    then = f", again in {attempt.pause:.2f} s" if attempt.pause is not None else ""
    logger.log(
        _level(attempt.error),
        "%s attempt %d: %s after %.2f s%s",
        attempt.alias,
        attempt.number,
        outcome,
        attempt.seconds,
        then,
        extra={
            "event": "attempt",
            "call_id": call_id,
            "alias": attempt.alias,
            "driver": driver,
            "model": attempt.model,
            "status": attempt.status,
            "outcome": outcome,
            "duration": attempt.seconds,
            "attempt": attempt.number,
            "request_id": attempt.request_id,
        },
    )


def _level(error: BaseException | None) -> int:
    return logging.WARNING if error else logging.DEBUG
