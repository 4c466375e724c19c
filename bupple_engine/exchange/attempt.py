"""One request on the wire, and what came of it."""

from __future__ import annotations

from typing import NamedTuple

from bupple_engine.types import Usage


class Attempt(NamedTuple):
    """What is known of one attempt once it has ended.

    number counts from 1. alias and model are what was asked. status is 0 where no head of an answer came.
    started, first_chunk and ended are seconds of the call's clock (time.monotonic); first_chunk is None
    where no chunk of a stream came, and for send(). error is None where the attempt completed the answer,
    and where its reader left. pause is the seconds until the next attempt, None where none follows.
    """

    number: int
    alias: str
    model: str
    status: int = 0
    request_id: str | None = None
    started: float = 0.0
    first_chunk: float | None = None
    ended: float = 0.0
    usage: Usage | None = None
    error: BaseException | None = None
    pause: float | None = None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.started
