"""What tells the time to a call, and waits for it. No I/O."""

from __future__ import annotations

from typing import Protocol


class Breakable(Protocol):
    """What may end a pause early."""

    def wait(self, seconds: float) -> object:
        """Return after so many seconds, or earlier where it is broken."""


class Clock(Protocol):
    """All the time of a call goes through one of these: a test puts a virtual one in place.

    now() and wall() are asked several times a read: they must not block.
    """

    def now(self) -> float:
        """Return seconds since any fixed moment; they never go back."""

    def wall(self) -> float:
        """Return the seconds since 1970, in UTC: what a provider's dates are compared with."""

    def pause(self, seconds: float, wake: Breakable | None = None) -> None:
        """Return after so many seconds, or when wake is broken."""

    async def apause(self, seconds: float) -> None:
        """See pause(); a cancelled task ends it."""
