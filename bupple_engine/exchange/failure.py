"""What a transport raises, beneath the errors that callers see."""

from __future__ import annotations


class TransportFailure(Exception):
    """Say that the bytes did not come.

    connected tells a failed connection from a broken one.
    """

    def __init__(self, message: str, *, timed_out: bool = False, connected: bool = True) -> None:
        super().__init__(message)
        self.timed_out = timed_out
        self.connected = connected
