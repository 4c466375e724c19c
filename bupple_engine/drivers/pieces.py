"""What generate() and agenerate() return and yield, checked, and completed to chunks."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable, Iterator, Mapping
from typing import Any, cast

from bupple_engine.calls.running import RunningCall
from bupple_engine.masking.keys import shown
from bupple_engine.masking.printing import kind_of
from bupple_engine.protocol.usage import in_common_terms
from bupple_engine.types import Chunk
from bupple_engine.wires.finishes import read_finish

_KEYS = frozenset({"role", "content", "done", "model", "usage", "finish_reason", "metadata"})


def pieces_of(found: object, where: str) -> Iterator[Any]:
    """Return what generate() has returned, or raise a TypeError that says what to write instead."""
    if inspect.iscoroutine(found):
        found.close()  # else Python warns that nobody awaited it
    if isinstance(found, AsyncIterable | Awaitable):
        raise TypeError(f"{where} is asynchronous: call it agenerate(), and have it yield dicts")
    if not isinstance(found, Iterable) or isinstance(found, str | bytes | Mapping):
        raise TypeError(f"{where} must yield dicts, not return {kind_of(found)}")
    return cast("Iterator[Any]", found)


def apieces_of(found: object, where: str) -> AsyncIterator[Any]:
    """See pieces_of()."""
    if inspect.iscoroutine(found):
        found.close()
        raise TypeError(f"{where} must yield dicts, not return them")
    if not isinstance(found, AsyncIterable):
        if isinstance(found, Iterable):
            raise TypeError(f"{where} is not asynchronous: write `async def`, or call it generate()")
        raise TypeError(f"{where} must yield dicts, not return {kind_of(found)}")
    return cast("AsyncIterator[Any]", found)


def complete(piece: object, where: str, driver: str, call: RunningCall) -> Chunk:
    """Return a piece as a chunk with all its keys; where names the method, driver what the entry runs."""
    if not isinstance(piece, Mapping):
        raise _wrong(where, "dicts", piece)
    if not _KEYS.issuperset(piece):
        odd = next(name for name in piece if name not in _KEYS)
        raise TypeError(f"{where} must yield dicts of {', '.join(sorted(_KEYS))}, not {shown(odd)}")
    done = bool(piece.get("done"))
    content, metadata = piece.get("content") or "", piece.get("metadata")
    if not isinstance(content, str):
        raise _wrong(where, "content as a str", content)
    if not isinstance(metadata, Mapping | None):
        raise _wrong(where, "metadata as a dict", metadata)
    chunk: dict[str, Any] = {"role": "assistant", "content": content, "done": done}
    if done:
        chunk["model"] = piece.get("model") or call.options.get("model") or driver
        usage, reason = piece.get("usage"), piece.get("finish_reason") or "stop"
        if not isinstance(usage, Mapping | None):
            raise _wrong(where, "usage as a dict", usage)
        if not isinstance(reason, str):
            raise _wrong(where, "finish_reason as a str", reason)
        chunk["usage"] = in_common_terms(usage or {})
        chunk["finish_reason"] = read_finish(reason) or "unknown"
        chunk["metadata"] = {"driver": driver, **(metadata or {})}
    elif metadata:
        chunk["metadata"] = metadata
    return cast("Chunk", chunk)


def _wrong(where: str, what: str, value: object) -> TypeError:
    return TypeError(f"{where} must yield {what}, not {type(value).__name__}")
