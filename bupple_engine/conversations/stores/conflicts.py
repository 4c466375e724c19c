"""What loses against another transaction is done again."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import OperationalError, connections

from . import rows

# What loses against another transaction: PostgreSQL's SQLSTATEs under REPEATABLE READ, MySQL's numbers.
_LOST = ("40001", "40P01", 1213, 1020)

# How often a conversation is tried that was free whenever it was looked at, and held whenever it was wanted.
TRIES = 20

P = ParamSpec("P")
T = TypeVar("T")


def retried(work: Callable[P, T]) -> Callable[P, T]:
    """Have a transaction done again that lost against another; begin() alone says that it is busy."""

    @wraps(work)
    def again(*args: P.args, **kwargs: P.kwargs) -> T:
        for _ in range(TRIES):
            try:
                return work(*args, **kwargs)
            except OperationalError as error:
                if not has_lost(error) or connections[rows.database()].in_atomic_block:
                    raise
        return work(*args, **kwargs)

    return again


def has_lost(error: OperationalError) -> bool:
    """Return whether a transaction failed only because of another one, so that it may be done again."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) in _LOST or (error.args[:1] or (None,))[0] in _LOST
