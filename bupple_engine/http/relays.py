"""An answer on its way to a reader: a pump reads the chunks, the server's iteration takes what has come.

The pump is a thread under WSGI (blocking.py) and a task under ASGI (aio.py). So there is a heartbeat while
the model is silent, and a reader's leaving ends the provider's connection also while nothing comes from it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from bupple_engine.exceptions import StreamInterruptedError

from .dialects import Dialect
from .release import release_connections

logger = logging.getLogger("bupple_engine")


class BaseRelay:
    """What both have in common: how an answer is told, and what is done at its end."""

    def __init__(self, dialect: Dialect, heartbeat: float, on_end: Callable[[], object] | None) -> None:
        self._dialect = dialect
        self._heartbeat = heartbeat
        self._on_end = on_end
        self._begun = False  # the response
        self._done = False  # the answer is whole
        self._over = False  # the chunks, and _error is what ended them, if anything did
        self._error: BaseException | None = None
        self._closed = False  # the reader has gone

    def _last_piece(self) -> bytes:
        """Return how the reader is told that the answer was cut off; b"" where it was not.

        Raises the error where only cutting the connection can tell it.
        """
        error, self._error = self._error, None
        if error is None:
            return b""
        piece = self._dialect.encode_error(self._dialect.report(error))
        if piece is None:
            raise error
        return piece

    def _tell_end(self) -> None:
        on_end, self._on_end = self._on_end, None
        try:
            if on_end is not None:
                on_end()
        except Exception:  # whatever the site's on_end raises: the stream has ended, and nobody waits for it
            logger.exception("What was to be done at the end of a stream failed")
        finally:
            release_connections()  # of this thread, which is none of the request's


def cut_off() -> StreamInterruptedError:
    return StreamInterruptedError("The chunks ended without one that has done=True.")
