"""The log record of a call, made of its Outcome."""

from __future__ import annotations

import logging

from bupple_engine.protocol.usage import on_record

from .outcome import Outcome, State

logger = logging.getLogger("bupple_engine")


def are_kept(state: State) -> bool:
    """Tell whether the log takes the record of a call that ended so."""
    return logger.isEnabledFor(_level(state))


def log_call(outcome: Outcome) -> None:
    """Write the record of a call."""
    call = outcome.call
    if call is None or not are_kept(outcome.state):
        return
    attempt = outcome.attempts[-1] if outcome.attempts else None
    seconds, started = outcome.seconds or 0.0, outcome.started or 0.0
    ending = f"{outcome.state} in {seconds:.2f} s"
    if outcome.error is not None:
        ending += f" ({type(outcome.error).__name__})"
    logger.log(
        _level(outcome.state),
        "%s %s: %s",
        call.alias,
        call.verb,
        ending,
        extra={
            "event": "call",
            "call_id": str(call.id),
            "alias": call.alias,
            "driver": call.driver,
            "model": outcome.model,
            "outcome": outcome.state,
            "duration": seconds,
            "time_to_first_chunk": None if outcome.first_chunk is None else outcome.first_chunk - started,
            "attempts": len(outcome.attempts),
            **on_record(outcome.usage),
            "status": attempt.status if attempt is not None else 0,
            "request_id": attempt.request_id if attempt is not None else None,
            "streamed": call.verb == "stream",
        },
    )


def _level(state: State) -> int:
    return logging.INFO if state == "complete" else logging.WARNING
