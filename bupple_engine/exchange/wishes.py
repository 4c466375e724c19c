"""What the flow of a call wishes done: its words with the shells that do it (transports/shells.py)."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeAlias

from bupple_engine.protocol.request import Request
from bupple_engine.types import Chunk

from .attempt import Attempt
from .clock import Clock


@dataclass(slots=True)
class Open:
    """Open a request on a source, a transport; it is given the response, once its head is there.

    connect and read are seconds.
    """

    source: object
    request: Request
    connect: float
    read: float
    clock: Clock


class Read:
    """Read from the response, waiting for so many seconds at most; it is given what came.

    A flow may yield the same object each time: a wish a read would cost as much as what is done for it.
    """

    __slots__ = ("seconds",)

    seconds: float


@dataclass(slots=True)
class Last:
    """Hand the last chunks on; whatever their reader does, drain the response then, and close it.

    seconds are for draining, 0 where there is nothing to drain.
    """

    chunks: list[Chunk]
    seconds: float


@dataclass(slots=True)
class Pause:
    """Close the response, and wait for so many seconds."""

    seconds: float
    clock: Clock


class Close:
    """Close the response."""

    __slots__ = ()


CLOSE = Close()

# A list of chunks is to be handed on; an Attempt, which another follows, is to be told to the call.
Wish: TypeAlias = Open | Read | Last | Pause | Close | Attempt | list[Chunk]
# What a wish is given depends on it. An EngineError and a TransportFailure are thrown into the flow; all else
# that is raised while a wish is carried out ends the flow.
Flow: TypeAlias = Generator[Wish, Any, None]
