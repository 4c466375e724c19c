"""What becomes of an attempt that failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from bupple_engine.exceptions import EngineError
from bupple_engine.types import Chunk

from .attempt import Attempt


@dataclass(frozen=True, slots=True)
class Done:
    """The answer was whole; these are its last chunks."""

    chunks: list[Chunk]


@dataclass(frozen=True, slots=True)
class Again:
    """Another attempt follows this one, after so many seconds."""

    seconds: float
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Failed:
    """The call has failed; this is what its caller shall see, with its evidence."""

    error: EngineError


Verdict: TypeAlias = Done | Again | Failed
