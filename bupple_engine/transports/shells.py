"""Two shells around a flow, which differ in keywords: they carry out its wishes and hand on its chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast

from bupple_engine.calls.running import RunningCall
from bupple_engine.calls.seams import CLOCK
from bupple_engine.exceptions import EngineError
from bupple_engine.exchange.attempt import Attempt
from bupple_engine.exchange.wishes import Flow, Last, Open, Pause, Read
from bupple_engine.types import Chunk

from .base import (
    AsyncResponse,
    AsyncTransport,
    PolledResponse,
    Response,
    Transport,
    TransportFailure,
    Waiting,
)

T = TypeVar("T")


def carry_out(flow: Flow, call: RunningCall) -> Generator[list[Chunk], None, None]:
    """Yield the chunks of a flow in the batches in which they arrive; a cancelled call ends it."""
    cancellation, response = call.cancellation, cast("Response", None)
    given: Any = None
    failure: EngineError | TransportFailure | None = None
    try:
        while not cancellation.cancelled:
            try:
                wish = flow.send(given) if failure is None else flow.throw(failure)
            except StopIteration:
                return
            finally:
                given = failure = None  # what came, and what went wrong, is in no frame of an error's
            try:
                if isinstance(wish, Read):
                    if call.patience is None or not call.is_timed:
                        given = response.read(wish.seconds)
                    else:
                        given = yield from _patiently(cast("PolledResponse", response), wish.seconds, call)
                elif isinstance(wish, list):
                    yield wish
                elif isinstance(wish, Open):
                    with call.opening():
                        given = response = cast("Transport", wish.source).open(
                            wish.request, _wait(wish, call)
                        )
                    call.is_timed = getattr(response, "is_timed", False)
                elif isinstance(wish, Last):
                    try:
                        yield wish.chunks
                    finally:
                        if wish.seconds:
                            response.drain(wish.seconds)
                        response.close()
                elif isinstance(wish, Pause):
                    wish.clock.pause(wish.seconds, cancellation)
                elif isinstance(wish, Attempt):
                    call.attempt(wish)
                elif response is not None:
                    response.close()
            except (EngineError, TransportFailure) as error:
                failure = error
    finally:
        if response is not None:
            response.close()
        flow.close()


def _patiently(
    response: PolledResponse, seconds: float, call: RunningCall
) -> Generator[list[Chunk], None, bytes]:
    """Read, and yield an empty batch each time when the call's patience has ended."""
    clock = CLOCK.get()
    deadline = clock.now() + seconds
    while call.patience is not None and call.patience < seconds:
        data = response.poll(call.patience)
        if data is not None:
            return data
        yield []
        seconds = deadline - clock.now()
    return response.read(seconds)


async def acarry_out(flow: Flow, call: RunningCall) -> AsyncGenerator[list[Chunk], None]:
    """See carry_out()."""
    cancellation, response = call.cancellation, cast("AsyncResponse", None)
    given: Any = None
    failure: EngineError | TransportFailure | None = None
    try:
        while not cancellation.cancelled:
            try:
                wish = flow.send(given) if failure is None else flow.throw(failure)
            except StopIteration:
                return
            finally:
                given = failure = None
            try:
                if isinstance(wish, Read):
                    given = await response.read(wish.seconds)
                elif isinstance(wish, list):
                    yield wish
                elif isinstance(wish, Open):
                    if call.streamed:
                        given = response = await _breakably(_open(wish, call), call)
                        cancellation.attach(_from_anywhere(response.close))
                    else:  # a send has no other end than its caller's
                        given = response = await _open(wish, call)
                elif isinstance(wish, Last):
                    try:
                        yield wish.chunks
                    finally:
                        if wish.seconds:
                            await response.drain(wish.seconds)
                        response.close()
                elif isinstance(wish, Pause):
                    await _breakably(wish.clock.apause(wish.seconds), call)
                elif isinstance(wish, Attempt):
                    call.attempt(wish)
                    await call.atell_attempts()
                elif response is not None:
                    response.close()
            except (EngineError, TransportFailure) as error:
                failure = error
    finally:
        cancellation.attach(None)
        if response is not None:
            response.close()
        flow.close()


def _wait(wish: Open, call: RunningCall) -> Waiting:
    asked = call.value if call.has_begun else None
    return Waiting(wish.connect, wish.read, call.cancellation, asked, wish.clock)


async def _open(wish: Open, call: RunningCall) -> AsyncResponse:
    with call.opening():
        return await cast("AsyncTransport", wish.source).aopen(wish.request, _wait(wish, call))


async def _breakably(work: Coroutine[Any, Any, T], call: RunningCall) -> T:
    """Return what work returns; raise a TransportFailure if the call is cancelled meanwhile.

    A stream may be closed by another task or thread than its reader's. A send has no other end than its
    caller's.
    """
    if not call.streamed:
        return await work
    wait, task = _Wait(work), asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    call.cancellation.attach(_from_anywhere(wait.end))
    try:
        return await wait
    except asyncio.CancelledError:
        if not wait.is_ended or (task is not None and task.cancelling() > before):
            raise  # the caller's own
    finally:
        call.cancellation.attach(None)
    raise TransportFailure("The call was cancelled.")


class _Wait(Generic[T]):
    """Await work in such a way that others than the caller can end it, and the caller's task goes on.

    end() cancels what the work waits for, as Task.cancel() does, but not the task. A task for the work would
    let the loop run between the head of an answer and the first read: what breaks the connection in between
    would hide what had come before.
    """

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self._waited: asyncio.Future[Any] | None = None
        self.is_ended = False

    def end(self) -> None:
        """End the wait; to be called in the loop that it is in."""
        self.is_ended = True
        if self._waited is not None:
            self._waited.cancel()

    def __await__(self) -> Generator[Any, Any, T]:
        error: BaseException | None = None
        while True:
            try:
                self._waited = self._work.send(None) if error is None else self._work.throw(error)
            except StopIteration as end:
                found: T = end.value
                return found
            finally:
                error = None
            try:
                yield self._waited
                if self.is_ended:  # too late for what was waited for
                    error = asyncio.CancelledError()
            except BaseException as raised:
                error = raised
            self._waited = None


def _from_anywhere(work: Callable[[], object]) -> Callable[[], None]:
    """Return what has the running loop do something, whichever thread asks for it."""
    loop = asyncio.get_running_loop()

    def do() -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(work)

    return do
