"""What the flow of a call wishes done, and the shells in transports/shells.py carry out."""

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
    """Open a request on a source, a transport; the flow is sent the response once its head is there.

    connect and read are seconds.
    """

    source: object
    request: Request
    connect: float
    read: float
    clock: Clock


class Read:
    """Read from the response, waiting at most so many seconds; the flow is sent what came.

    A flow may yield the same object each time: a new one per read would cost as much as the read's own work.
    """

    __slots__ = ("seconds",)

    seconds: float


@dataclass(slots=True)
class Last:
    """Hand on the last chunks; then drain the response and close it, whatever their reader does.

    seconds are for draining, 0 if there is nothing to drain.
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

# A list of chunks is handed on to the caller; an Attempt that another one follows, to the call.
Wish: TypeAlias = Open | Read | Last | Pause | Close | Attempt | list[Chunk]
# What is sent back depends on the wish. An EngineError or TransportFailure is thrown into the flow; anything
# else raised while a wish is carried out ends the flow.
Flow: TypeAlias = Generator[Wish, Any, None]
