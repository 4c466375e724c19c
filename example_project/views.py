"""A chat page, and the call that answers it: `stream` under WSGI; under ASGI its twin, `astream`."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_POST

from bupple_engine import AsyncStream, Chunk, EngineError, InvalidRequestError, Message, Stream, ai
from bupple_engine.sse import encode


@require_GET
def chat(request: HttpRequest) -> HttpResponse:
    """Show the page."""
    config = ai().get_config()
    context = {
        "config": config,
        "engine_missing": config["driver"] == "echo" and not settings.LOCAL_ENGINE_INSTALLED,
        # A sync stream is read whole before its first byte leaves ASGI, and an async one under WSGI.
        "stream_view": "astream" if isinstance(request, ASGIRequest) else "stream",
    }
    response = render(request, "example_project/chat.html", context)
    response["Content-Security-Policy"] = "default-src 'self'"
    return response


@require_POST
def stream(request: HttpRequest) -> HttpResponseBase:
    """Answer with server-sent events, one for each chunk."""
    try:
        chunks = ai().stream(read_messages(request))
        first = next(chunks)  # before the response starts, so that a failure has a status
    except EngineError as error:
        return error_response(error)
    return event_response(events(first, chunks))


@require_POST
async def astream(request: HttpRequest) -> HttpResponseBase:
    """Be the async twin of stream()."""
    try:
        chunks = ai().astream(read_messages(request))
        first = await anext(chunks)
    except EngineError as error:
        return error_response(error)
    return event_response(aevents(first, chunks))


def events(first: Chunk, chunks: Stream) -> Iterator[bytes]:
    """Yield an event for each chunk; the model stops when the reader has gone."""
    with chunks:
        try:
            yield encode_chunk(first)
            for chunk in chunks:
                yield encode_chunk(chunk)
        except EngineError as error:
            yield encode(json.dumps(error_body(error)), event="error")


async def aevents(first: Chunk, chunks: AsyncStream) -> AsyncIterator[bytes]:
    """Be the async twin of events()."""
    async with chunks:
        try:
            yield encode_chunk(first)
            async for chunk in chunks:
                yield encode_chunk(chunk)
        except EngineError as error:
            yield encode(json.dumps(error_body(error)), event="error")


def encode_chunk(chunk: Chunk) -> bytes:
    """Return the chunk as an event, without its metadata, which is the site's own."""
    return encode(json.dumps({key: value for key, value in chunk.items() if key != "metadata"}))


def event_response(content: Iterator[bytes] | AsyncIterator[bytes]) -> StreamingHttpResponse:
    """Return a response that neither caches nor proxies hold back."""
    headers = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(content, content_type="text/event-stream; charset=utf-8", headers=headers)


def error_response(error: EngineError) -> JsonResponse:
    """Return a failure before the first chunk; a provider's 401 or 404 is none of this site's."""
    return JsonResponse(error_body(error), status=400 if isinstance(error, InvalidRequestError) else 502)


def error_body(error: EngineError) -> dict[str, Any]:
    """Return what the page shows of a failure."""
    return {"error": {"type": type(error).__name__, "message": error.message, "code": error.code}}


def read_messages(request: HttpRequest) -> list[Message]:
    """Return the conversation that the page posted, which the call itself validates."""
    try:
        messages: list[Message] = json.loads(request.body)["messages"]
    except (ValueError, LookupError, TypeError) as error:
        raise BadRequest("The body is not a JSON object with messages.") from error
    return messages
