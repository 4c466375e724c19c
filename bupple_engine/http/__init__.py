"""A streaming response for any view, right under WSGI and ASGI.

Before the first words a failure has a real HTTP status; after them it is an error in the stream. While the
model is silent there is a heartbeat, when the reader leaves the provider's connection is closed, and no
database connection is held meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, cast

from asgiref.sync import async_to_sync, sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse

from bupple_engine import conf
from bupple_engine.calls import threads
from bupple_engine.calls.outcome import Outcome
from bupple_engine.calls.streams import AsyncStream, Stream
from bupple_engine.conf.registry import ai
from bupple_engine.drivers.base import ChatDriver
from bupple_engine.exceptions import EngineError
from bupple_engine.masking.printing import kind_of
from bupple_engine.protocol.options import protect
from bupple_engine.protocol.sse import encode
from bupple_engine.types import Message

from .asgi import AsyncRelay
from .crossing import LoopedChunks, ThreadedChunks
from .dialects import Dialect, EventStream, PlainText
from .limits import limit_bodies
from .problems import Problem
from .relay import OnEnd, tell_end
from .release import arelease_connections, release_connections
from .shutdown import end_streams_at_shutdown
from .wsgi import Relay, limit_writes

__all__ = [
    "Dialect",
    "EventStream",
    "Outcome",
    "PlainText",
    "Problem",
    "astream_response",
    "encode",
    "end_streams_at_shutdown",
    "limit_bodies",
    "stream_response",
]

# no-transform and the encoding keep compression away, which would hold pieces back; the last one is nginx's.
HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    "Content-Encoding": "identity",
    "X-Accel-Buffering": "no",
}


def stream_response(
    request: HttpRequest,
    chunks: Any = None,
    *,
    messages: list[Message] | str | None = None,
    driver: ChatDriver | str | None = None,
    dialect: Dialect | None = None,
    on_end: OnEnd | None = None,
    **options: Any,
) -> HttpResponseBase:
    """Return a response that streams an answer, or whose status says why there is none.

    Pass messages and whatever `ai(driver).stream` takes; or pass chunks: a Stream, an AsyncStream or any
    other iterator of chunks, synchronous or asynchronous, whose last has done=True. A synchronous iterator
    under ASGI, or an asynchronous one under WSGI, is read chunk by chunk in a thread. The dialect is
    server-sent events (EventStream) by default; PlainText is the other one. It waits at most GATE_SECONDS for
    the first chunk. on_end is called once with the Outcome, in a thread, however the answer ends; a coroutine
    function is awaited there.

    Bad messages and options raise, as in stream(); what a provider does wrong becomes an error response, or
    an error in the stream. An EventSource that reconnects sends Last-Event-ID: where that would ask for the
    answer again, it gets a 204, which stops it, and nothing is sent to the provider. A synchronous view under
    ASGI holds a thread until the first chunk arrives; an asynchronous one with astream_response() does not.
    """
    options = protect(options)
    request = getattr(request, "_request", request)  # Django's, where it is DRF's
    if isinstance(request, ASGIRequest):
        return async_to_sync(astream_response)(
            request, chunks, messages=messages, driver=driver, dialect=dialect, on_end=on_end, **options
        )
    dialect = dialect or EventStream()
    _check_arguments(chunks, messages, driver, dialect, on_end, options)
    if _asks_anew(request, chunks):
        tell_end(on_end, Outcome("interrupted"))
        return _nothing(chunks)
    if chunks is None:
        chunks = _driver(driver).stream(messages, **options)
    settings = conf.api_settings()
    release_connections()
    items = LoopedChunks(aiter(chunks)) if _is_asynchronous(chunks) else iter(chunks)
    limited = limit_writes(request.META.get("gunicorn.socket"))
    relay = Relay(items, dialect, heartbeat=settings.heartbeat_seconds, on_end=on_end, hands_over=limited)
    try:
        relay.open(settings.gate_seconds)
    except EngineError as error:
        return problem_response(dialect.report(error), dialect)
    return _streaming(request, relay, dialect)


async def astream_response(
    request: HttpRequest,
    chunks: Any = None,
    *,
    messages: list[Message] | str | None = None,
    driver: ChatDriver | str | None = None,
    dialect: Dialect | None = None,
    on_end: OnEnd | None = None,
    **options: Any,
) -> HttpResponseBase:
    """See stream_response()."""
    options = protect(options)
    request = getattr(request, "_request", request)
    if not isinstance(request, ASGIRequest):
        return await sync_to_async(stream_response)(
            request, chunks, messages=messages, driver=driver, dialect=dialect, on_end=on_end, **options
        )
    dialect = dialect or EventStream()
    _check_arguments(chunks, messages, driver, dialect, on_end, options)
    if _asks_anew(request, chunks):
        threads.submit(lambda: tell_end(on_end, Outcome("interrupted")))
        return _nothing(chunks)
    if chunks is None:
        # In a thread: the key may come from a vault.
        chunks = await sync_to_async(lambda: _driver(driver).astream(messages, **options))()
    settings = conf.api_settings()
    await arelease_connections()
    items = aiter(chunks) if _is_asynchronous(chunks) else ThreadedChunks(iter(chunks))
    relay = AsyncRelay(items, dialect, heartbeat=settings.heartbeat_seconds, on_end=on_end)
    try:
        await relay.open(settings.gate_seconds)
    except EngineError as error:
        return problem_response(dialect.report(error), dialect)
    return _streaming(request, relay, dialect)


def problem_response(problem: Problem, dialect: Dialect) -> JsonResponse:
    """Return an error response in the dialect's own shape."""
    problem = dialect.adapt(problem)
    return JsonResponse(dialect.error_body(problem), status=problem.status, headers=problem.headers)


def _check_arguments(
    chunks: Any, messages: Any, driver: Any, dialect: Any, on_end: Any, options: dict[str, Any]
) -> None:
    if (chunks is None) == (messages is None and options.get("memory") is None):
        raise TypeError('Give either chunks or messages, such as messages="Hello!".')
    if isinstance(dialect, type) or not callable(getattr(dialect, "encode_error", None)):
        raise TypeError("dialect must be a dialect's instance, such as PlainText().")
    if on_end is not None and not callable(on_end):
        raise TypeError(f"on_end must be callable with an Outcome, not {type(on_end).__name__}.")
    if chunks is not None and (driver is not None or options):
        raise TypeError("A driver and options go with messages: chunks have had theirs.")
    if chunks is None:
        return
    if isinstance(chunks, str | bytes | Mapping) or not isinstance(chunks, Iterable | AsyncIterable):
        hint = " Messages go by their name: messages=…" if isinstance(chunks, str | Mapping) else ""
        raise TypeError(
            "chunks must be an iterator of chunks, such as stream() or astream() returns, "
            f"not {kind_of(chunks)}.{hint}"
        )
    if isinstance(chunks, list | tuple) and any(map(_is_message, chunks)):
        raise TypeError("chunks must be chunks; messages go by their name: messages=[…]")


def _is_message(item: Any) -> bool:
    return isinstance(item, Mapping) and "role" in item and "done" not in item


def _is_asynchronous(chunks: Any) -> bool:
    """Return whether chunks are read asynchronously; a Stream, too, has an __aiter__, which only raises."""
    return isinstance(chunks, AsyncIterable) and not isinstance(chunks, Stream)


def _asks_anew(request: HttpRequest, chunks: Any) -> bool:
    """Return whether an EventSource reconnects to an answer that is not kept and would be paid for twice."""
    if "Last-Event-ID" not in request.headers:
        return False
    return chunks is None or (isinstance(chunks, Stream | AsyncStream) and not chunks.has_begun)


def _nothing(chunks: Stream | AsyncStream | None) -> HttpResponse:
    """Return the response after which an EventSource stops reconnecting."""
    if chunks is not None:
        chunks.close()
    return HttpResponse(status=204, headers={"Cache-Control": "no-store"})


def _driver(driver: ChatDriver | str | None) -> ChatDriver:
    return driver if isinstance(driver, ChatDriver) else ai(driver)


def _streaming(request: HttpRequest, relay: Relay | AsyncRelay, dialect: Dialect) -> StreamingHttpResponse:
    close = request.close

    def close_both() -> None:
        relay.close()
        close()

    # close() of whatever response is sent in the end calls the request's. Middleware that fails, as the
    # session middleware does when a session has just ended, drops our response without closing it.
    request.close = close_both  # type: ignore[method-assign]
    content = cast("Iterator[bytes] | AsyncIterator[bytes]", relay)
    headers = {**HEADERS, **dialect.headers}
    return StreamingHttpResponse(content, content_type=dialect.content_type, headers=headers)
