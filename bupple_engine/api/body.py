"""The body of a request as a stream, with or without a length, never read beyond its bound."""

from __future__ import annotations

import sys
from http.client import HTTPException
from typing import Any

from django.core.handlers.wsgi import LimitedStream, WSGIRequest
from django.http import HttpRequest, UnreadablePostError
from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from bupple_engine.conf import APISettings
from bupple_engine.transports.chunked import MAX_LINE, Dechunker


class BodyTooLarge(APIException):
    """The body has more bytes than MAX_BODY_BYTES."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The body is too large."


class LengthRequired(APIException):
    """The body has no Content-Length, and this server does not mark its end."""

    status_code = status.HTTP_411_LENGTH_REQUIRED
    default_detail = "Send the body with a Content-Length: this server can't tell the end of one without."


class CodedBody(APIException):
    """The body is compressed."""

    status_code = status.HTTP_415_UNSUPPORTED_MEDIA_TYPE


def open_body(request: Request, api: APISettings) -> None:
    """Raise for a body that is too long by what it states, or coded; nothing of it is read yet.

    One that states no length is made the request's stream, which DRF would take for empty.
    """
    meta = request.META
    coding = meta.get("HTTP_CONTENT_ENCODING", "").strip()
    if coding.lower() not in ("", "identity"):
        raise CodedBody(f"The body has the coding {coding[:100]!r}; send it without a Content-Encoding.")
    length = meta.get("CONTENT_LENGTH")
    if not length or meta.get("HTTP_TRANSFER_ENCODING"):  # a transfer coding overrules a length beside it
        request._stream = _unmeasured(request._request)  # read by the parser, once who calls is known
    # Python refuses to read thousands of digits, by an error of its own.
    elif not length.isdecimal() or len(length) > 18 or int(length) > api.max_body_bytes:
        raise BodyTooLarge(f"The body may have {api.max_body_bytes} bytes.")


def read_body(stream: Any, limit: int) -> bytes:
    """Return a body; of one that is longer than limit bytes, at most one byte more."""
    try:
        body: bytes = stream.read(limit + 1)[: limit + 1]
    except Exception as error:  # a client that has left, and each server's own words for broken chunks
        raise UnreadablePostError(*error.args) from error
    return body


def _unmeasured(request: HttpRequest) -> Any:
    """Return the stream of a body without a length, which Django takes for empty under WSGI.

    Under ASGI Django has read the body by now; limit_bodies bounds that.
    """
    if not isinstance(request, WSGIRequest):
        return request
    source = request.environ["wsgi.input"]
    if request.environ.get("wsgi.input_terminated"):  # gunicorn's word, and others', that it has an end
        return source
    if isinstance(source, LimitedStream) and request.environ.get("HTTP_TRANSFER_ENCODING"):
        return _Chunked(source)
    raise LengthRequired


class _Chunked:
    """Take off the chunked coding, which runserver leaves on: it reads no body without a length."""

    def __init__(self, source: LimitedStream) -> None:
        self._source = source

    def read(self, size: int) -> bytes:
        source, dechunker = self._source, Dechunker()
        found, length = [], 0
        source.limit = sys.maxsize
        try:
            while length < size and not dechunker.ended:
                line = source.readline(MAX_LINE)  # never past the line that ends the body
                if not line:
                    raise HTTPException("The body ends before its last chunk.")
                found.append(dechunker.feed(line))
                length += len(found[-1])
        finally:
            source.limit = 0  # runserver reads up to there before it takes the next request
        return b"".join(found)
