"""An answer on its way to a reader: a pump reads the chunks, the server's iteration takes what has come.

The pump is a thread under WSGI (blocking.py) and a task under ASGI (aio.py). So there is a heartbeat while
the model is silent, and a reader's leaving ends the provider's connection also while nothing comes from it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction

from bupple_engine.calls.outcome import Outcome, State, state_of
from bupple_engine.calls.streams import AsyncStream, Stream
from bupple_engine.exceptions import EngineError, StreamInterruptedError
from bupple_engine.types import Chunk

from .dialects import Dialect
from .problems import ShuttingDownError
from .release import release_connections

logger = logging.getLogger("bupple_engine")

BACKLOG_BYTES = 65_536  # how far the pump may run ahead of a slow reader

# How long a reader may take nothing while the backlog is full; then it counts as gone, as for nginx.
ROOM_SECONDS = 60.0

OnEnd = Callable[[Outcome], object]


class BaseRelay:
    """What both have in common: how an answer is told, and what is done at its end."""

    def __init__(self, chunks: Any, dialect: Dialect, heartbeat: float, on_end: OnEnd | None) -> None:
        self._chunks = chunks
        self._dialect = dialect
        self._heartbeat = heartbeat
        self._on_end = on_end
        self._begun = False  # the response
        self._done = False  # the answer is whole
        self._over = False  # the chunks, and _error is what ended them, if anything did
        self._error: BaseException | None = None
        self._closed = False  # the reader has gone
        self._ended: Exception | None = None  # what end() was called with
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._last: Any = {}  # the chunk with done=True

    def _note(self, chunk: Chunk) -> None:
        """Keep what on_end is told of a chunk beside its text."""
        if chunk["done"]:
            self._last = chunk
        elif reasoning := (chunk.get("metadata") or {}).get("reasoning"):
            self._reasoning.append(reasoning)

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

    def _outcome(self, error: BaseException | None) -> Outcome:
        """Return how the chunks have ended, by what was raised in the end."""
        if self._done:
            error = None
        elif self._ended is not None:
            error = self._ended
        elif self._closed:
            error = None
        usage = self._last.get("usage")
        if usage is None and isinstance(error, EngineError):
            usage = error.usage
        if usage is None:
            usage = getattr(self._chunks, "usage", None)
        state, text, reasoning = _state(self._done, error), "".join(self._texts), "".join(self._reasoning)
        finish_reason = self._last.get("finish_reason")
        if not isinstance(self._chunks, Stream | AsyncStream):  # the site's own
            return Outcome(state, text, reasoning, usage, finish_reason, error)
        known = self._chunks.sum_up(state, error)
        return replace(known, text=text, reasoning=reasoning, usage=usage, finish_reason=finish_reason)

    def _tell_end(self, outcome: Outcome) -> None:
        on_end, self._on_end = self._on_end, None
        tell_end(on_end, outcome)


def _state(done: bool, error: BaseException | None) -> State:
    if done:
        return "complete"
    return "interrupted" if isinstance(error, ShuttingDownError) else state_of(error)


def tell_end(on_end: OnEnd | None, outcome: Outcome) -> None:
    """Call a site's on_end, in a thread in which nobody waits for it."""
    try:
        if on_end is not None:
            call = async_to_sync(on_end) if iscoroutinefunction(on_end) else on_end
            call(outcome)
    except Exception:  # whatever the site's on_end raises: the stream has ended
        logger.exception("What was to be done at the end of a stream failed")
    finally:
        release_connections()


def close_chunks(chunks: Any) -> None:
    """Close what is iterated, where it can be closed."""
    if close := getattr(chunks, "close", None):
        try:
            close()
        except ValueError:
            pass  # a generator that another thread is in, which sees to it
        except Exception:  # of chunks of the site's own
            logger.exception("The chunks could not be closed")


def cut_off() -> StreamInterruptedError:
    return StreamInterruptedError("The chunks ended without one that has done=True.")


def is_chunk(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() >= {"content", "done"}


def not_a_chunk(value: Any) -> TypeError:
    words = 'A chunk is a dict, {"content": "Hello", "done": False}, and the last one has done=True; '
    return TypeError(f"{words}this one is {type(value).__name__}.")


def of_shape(error: BaseException, chunk: Any) -> BaseException:
    """Return an error, or what says that the chunk by which it came is none."""
    return error if chunk is None or is_chunk(chunk) else not_a_chunk(chunk)


def stalled() -> StreamInterruptedError:
    return StreamInterruptedError(f"The reader took nothing for {ROOM_SECONDS:g} s.")
