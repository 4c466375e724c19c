"""A driver that has only generate() or agenerate(), as a flow: its pieces are what a transport gives."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, Protocol, cast

from bupple_engine.calls.cancellation import Cancellation
from bupple_engine.calls.running import RunningCall
from bupple_engine.calls.seams import CLOCK
from bupple_engine.exceptions import EngineError, StreamInterruptedError
from bupple_engine.exchange.failure import TransportFailure
from bupple_engine.exchange.wishes import Flow, Last, Open, Read
from bupple_engine.masking import MaskedDict
from bupple_engine.masking.keys import unkeyed
from bupple_engine.protocol.request import Request
from bupple_engine.protocol.scrubbing import clean, secrets_of
from bupple_engine.protocol.usage import in_common_terms
from bupple_engine.transports.base import Waiting
from bupple_engine.types import Chunk

END: Any = object()
CLOSE_SECONDS = 5.0  # how long a synchronous reader waits for the `finally` of an agenerate()
_NOTHING_SENT = Request("generate:", MaskedDict(), b"", stream=True)


class Generating(Protocol):
    """What is asked of a driver for its flow."""

    name: str

    @property
    def label(self) -> str: ...


def flow_of_pieces(driver: Generating, source: object, call: RunningCall) -> Flow:
    """Return the flow of what a driver's own code yields; errors have their evidence."""
    texts, reasoning = call.texts, call.reasoning
    read = Read()
    read.seconds = 0.0  # such a driver keeps its own clocks
    try:
        clock = CLOCK.get()
        yield Open(source, _NOTHING_SENT, 0.0, 0.0, clock)
        while (piece := (yield read)) is not END:
            chunk = complete(piece, driver, call)
            texts.append(chunk["content"])
            if not chunk["done"] and (metadata := chunk.get("metadata")):
                reasoning.append(metadata.get("reasoning") or "")
            call.first_chunk_at = call.first_chunk_at or clock.now()
            if chunk["done"]:
                yield Last([chunk], 0.0)
                return
            yield [chunk]
        raise StreamInterruptedError(f"{driver.name} ended without a last piece that has done=True.")
    except (EngineError, TransportFailure) as raised:
        # What an agenerate() awaits may have been cancelled by others than this call.
        error = raised if isinstance(raised, EngineError) else StreamInterruptedError(str(raised))
        model = call.options.get("model")
        error.alias, error.driver, error.model = driver.label, driver.name, model and unkeyed(model)
        error.partial_content, error.in_stream, error.attempts = "".join(texts), True, 1
        clean(error, secrets_of(call.options))
        if error is raised:
            raise
        raise error from None


def complete(piece: object, driver: Generating, call: RunningCall) -> Chunk:
    """Return what generate() has yielded as a chunk with all its keys."""
    if not isinstance(piece, Mapping):
        raise _wrong(driver, "dicts", piece)
    done = bool(piece.get("done"))
    content, metadata, usage = piece.get("content") or "", piece.get("metadata"), piece.get("usage")
    if not isinstance(content, str):
        raise _wrong(driver, "content as a str", content)
    if metadata is not None and not isinstance(metadata, Mapping):
        raise _wrong(driver, "metadata as a dict", metadata)
    if usage is not None and not isinstance(usage, Mapping):
        raise _wrong(driver, "usage as a dict", usage)
    chunk: dict[str, Any] = {"role": "assistant", "content": content, "done": done}
    if done:
        chunk["model"] = piece.get("model") or call.options.get("model") or driver.name
        chunk["usage"] = in_common_terms(usage or {})
        chunk["finish_reason"] = piece.get("finish_reason") or "stop"
        chunk["metadata"] = {"driver": driver.name, **(metadata or {})}
    elif metadata:
        chunk["metadata"] = metadata
    return cast("Chunk", chunk)


def _wrong(driver: Generating, what: str, value: Any) -> TypeError:
    kind = type(value).__name__
    return TypeError(f"{type(driver).__name__}.generate() must yield {what}, not {kind}")


class _Answer:
    """What both kinds of answers have in common with a transport's."""

    status = 200

    def __init__(self) -> None:
        self.headers: Mapping[str, str] = {}


class Generated:
    """Be the transport of generate(), which blocks."""

    def __init__(self, generate: Callable[[], Iterator[object]]) -> None:
        self._generate = generate

    def open(self, request: Request, waiting: Waiting) -> Pieces:
        """Begin; nothing of a generator runs before its first piece is asked for."""
        return Pieces(self._generate())


class Pieces(_Answer):
    """What an iterator yields."""

    def __init__(self, pieces: Iterator[object]) -> None:
        super().__init__()
        self._all = pieces
        self._pieces = iter(pieces)

    def read(self, seconds: float) -> Any:
        """Return the next piece, END behind the last."""
        return next(self._pieces, END)

    def drain(self, seconds: float) -> None:
        """Do nothing: what is behind the last piece is of no use."""

    def close(self) -> None:
        """End the generator, where it is one: its `finally` runs."""
        if isinstance(self._all, Generator):
            self._all.close()


class AGenerated:
    """Be the transport of agenerate(), in the caller's event loop or in one of a thread's own."""

    def __init__(self, generate: Callable[[], AsyncIterator[object]]) -> None:
        self._generate = generate

    async def aopen(self, request: Request, waiting: Waiting) -> APieces:
        """Begin."""
        return APieces(self._generate)

    def open(self, request: Request, waiting: Waiting) -> LoopedPieces:
        """Begin, in a thread that ends with the answer."""
        return LoopedPieces(self._generate, waiting.cancellation)


class _Pump:
    """Run an asynchronous generator in one task from its begin to its end, a piece whenever one is asked for.

    What it holds of the task and its context, such as a cancel scope, is so the same at each step.
    """

    def __init__(self, generate: Callable[[], AsyncIterator[object]], put: Callable[[Any], None]) -> None:
        self._generate = generate
        self._put = put
        self._wanted = asyncio.Semaphore(0)
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def ask(self) -> None:
        """Ask for the next piece."""
        self._wanted.release()

    def stop(self) -> None:
        """Cancel the generator: its `finally` runs."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    async def run(self) -> None:
        """Put the pieces, then END, or the error in its place."""
        self._task = asyncio.current_task()
        last: Any = END
        try:
            if not self._stopped:
                await self._run()
        except BaseException as error:
            last = _Raised(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._put(last)

    async def _run(self) -> None:
        pieces = self._generate()
        try:
            await self._wanted.acquire()
            async for piece in pieces:
                self._put(piece)
                await self._wanted.acquire()
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()


class _Raised:
    """What an asynchronous generator raised, on its way to whoever reads."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _taken(piece: Any) -> Any:
    if not isinstance(piece, _Raised):
        return piece
    error = piece.error
    del piece
    try:
        if isinstance(error, asyncio.CancelledError):
            raise TransportFailure("The generator was cancelled.")
        raise error
    finally:
        del error


_tasks: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly


class APieces(_Answer):
    """What an asynchronous generator yields in the loop of its reader."""

    def __init__(self, generate: Callable[[], AsyncIterator[object]]) -> None:
        super().__init__()
        self._arrived: asyncio.Queue[Any] = asyncio.Queue()
        self._pump = _Pump(generate, self._arrived.put_nowait)
        task = asyncio.get_running_loop().create_task(self._pump.run())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)

    async def read(self, seconds: float) -> Any:
        """Return the next piece, END behind the last."""
        self._pump.ask()
        return _taken(await self._arrived.get())

    async def drain(self, seconds: float) -> None:
        """Do nothing: what is behind the last piece is of no use."""

    def close(self) -> None:
        """End the generator."""
        self._pump.stop()


class LoopedPieces(_Answer):
    """What an asynchronous generator yields in an event loop of its own, in a thread of its own."""

    def __init__(self, generate: Callable[[], AsyncIterator[object]], cancellation: Cancellation) -> None:
        super().__init__()
        self._cancellation = cancellation
        self._arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._pump = _Pump(generate, self._arrived.put)
        self._loop = asyncio.new_event_loop()
        work = partial(copy_context().run, self._run)
        self._thread = threading.Thread(target=work, name="bupple_engine generate", daemon=True)
        cancellation.attach(self._stop)
        self._thread.start()

    def read(self, seconds: float) -> Any:
        """Return the next piece, END behind the last."""
        self._in_loop(self._pump.ask)
        return _taken(self._arrived.get())

    def drain(self, seconds: float) -> None:
        """Do nothing: what is behind the last piece is of no use."""

    def close(self) -> None:
        """End the generator, and wait until its `finally` has run."""
        self._cancellation.attach(None)
        self._stop()
        if self._thread is not threading.current_thread():  # of the garbage collector's
            self._thread.join(CLOSE_SECONDS)

    def _stop(self) -> None:
        self._in_loop(self._pump.stop)

    def _in_loop(self, work: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(work)

    def _run(self) -> None:
        with suppress(asyncio.CancelledError), asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._pump.run())
