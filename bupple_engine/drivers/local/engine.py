"""The transport of the embedded model: an engine inside the process, a thread for each generation."""

from __future__ import annotations

import ctypes
import queue
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bupple_engine import process
from bupple_engine.calls.cancellation import Cancellation
from bupple_engine.protocol.request import Request, dump
from bupple_engine.transports.base import TransportFailure, Waiting

_lock = threading.Lock()
_engines: dict[tuple[str, int, int, int], Any] = {}
_running: set[LocalResponse] = set()
_is_orphan = False  # set: this process was forked from one that had an engine


def _engine(path: str, context_tokens: int, parallel: int, threads: int) -> Any:
    """Return the process's engine for a model, loaded at the first call."""
    key = (path, context_tokens, parallel, threads)
    with _lock:
        if key not in _engines:
            import xllamacpp

            params = xllamacpp.CommonParams()
            params.model.path = path
            params.model_alias = {Path(path).stem}
            params.n_ctx = context_tokens * parallel  # shared between the slots
            params.n_parallel = parallel
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
            params.verbosity = -1
            # It always opens a port on 127.0.0.1; without a key anyone on the machine could use it.
            params.api_keys = [secrets.token_hex(32)]
            _engines[key] = xllamacpp.Server(params)
            if _is_orphan:
                _keep(_engines[key])
        return _engines[key]


def _keep(engine: Any) -> None:
    """Never drop an engine, not even at the interpreter's end."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))


@process.after_fork
def _after_fork() -> None:
    """Have the child load its own: the engine's threads are the parent's.

    The library's destructors would wait for them, or abort the process, and so they never run: glibc's
    on_exit ends the process behind all that Python does at its end, and with its status.
    """
    global _lock, _is_orphan
    _lock = threading.Lock()
    if _engines and not _is_orphan:
        _is_orphan = True
        libc = ctypes.CDLL(None)
        if hasattr(libc, "on_exit"):
            libc.on_exit(libc._exit, None)
    for engine in _engines.values():
        _keep(engine)
    _engines.clear()
    _running.clear()


@process.at_exit
def _stop_all() -> None:
    """Stop what still runs before the interpreter, and then the engine, goes away."""
    for response in list(_running):
        response.stop()
        response.thread.join(5)


class LocalTransport:
    """Hand a request to the engine of the process."""

    def __init__(self, path: str, context_tokens: int, parallel: int, threads: int) -> None:
        self.key = path, context_tokens, parallel, threads

    def open(self, request: Request, waiting: Waiting) -> LocalResponse:
        """Begin to generate; the engine is loaded where this is its first call."""
        try:
            engine = _engine(*self.key)
        except Exception as error:  # the engine documents none
            raise TransportFailure(f"The model could not be loaded: {error}", connected=False) from None
        return LocalResponse(engine, request.body.decode(), waiting.cancellation)


class LocalResponse:
    """What the engine generates, as the bytes of an event stream."""

    status = 200

    def __init__(self, engine: Any, body: str, cancellation: Cancellation) -> None:
        self.headers: Mapping[str, str] = {}
        self._engine = engine
        self._body = body
        self._cancellation = cancellation
        self._arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._stopped = False
        self.thread = threading.Thread(target=self._generate, name="bupple_engine local", daemon=True)
        _running.add(self)
        cancellation.attach(self.stop)
        self.thread.start()

    def close(self) -> None:
        """Stop the generation, where it still runs."""
        self._cancellation.attach(None)
        self.stop()

    def stop(self) -> None:
        """Stop the generation at the next token, and wake the reader."""
        self._stopped = True
        self._arrived.put(b"")

    def read(self, seconds: float) -> bytes:
        """Return what has been generated, waiting so long at most; b"" is the end."""
        try:
            return self._arrived.get(timeout=seconds)
        except queue.Empty:
            pass
        raise TransportFailure("The model said nothing in time", timed_out=True)

    def drain(self, seconds: float) -> None:
        """Do nothing: there is no connection to be used again."""

    def _generate(self) -> None:
        try:
            self._engine.handle_chat_completions(self._body, self._take)
            self._arrived.put(b"data: [DONE]\n\n")
        except Exception as error:
            self._arrived.put(b"data: " + dump({"error": {"message": str(error)}}) + b"\n\n")
        finally:
            self._arrived.put(b"")
            _running.discard(self)

    def _take(self, event: str) -> bool:
        # The engine stops when this returns True; what is raised in it would vanish.
        self._arrived.put(b"data: " + event.encode() + b"\n\n")
        return self._stopped
