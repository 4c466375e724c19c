"""What comes in, bounded before it is parsed, and what goes out, whatever a client says it accepts."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from rest_framework import status
from rest_framework.exceptions import APIException, ParseError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, BrowsableAPIRenderer, JSONRenderer
from rest_framework.request import Request

from bupple_engine.conf import APISettings


class BodyTooLarge(APIException):
    """The body has more bytes than MAX_BODY_BYTES."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The body is too large."


class LengthRequired(APIException):
    """The body has no Content-Length: under WSGI it would read as empty, and it may have no end."""

    status_code = status.HTTP_411_LENGTH_REQUIRED
    default_detail = "Send the body with a Content-Length."


def check_length(request: Request, api: APISettings) -> None:
    """Raise for a body that is too long or of unknown length, before a byte of it is read."""
    length = request.META.get("CONTENT_LENGTH")
    if not length or request.META.get("HTTP_TRANSFER_ENCODING"):
        raise LengthRequired
    if not length.isdecimal() or int(length) > api.max_body_bytes:
        raise BodyTooLarge(f"The body may have {api.max_body_bytes} bytes.")


class BoundedJSONParser(BaseParser):
    """Parse a JSON object of bounded size, with bounded effort."""

    media_type = "application/json"
    renderer_class = JSONRenderer  # of the browsable API's form

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        api: APISettings = (parser_context or {})["view"].api
        body: bytes = stream.read(api.max_body_bytes + 1)
        if len(body) > api.max_body_bytes:
            raise BodyTooLarge(f"The body may have {api.max_body_bytes} bytes.")
        # Each would be an object of 60 to 300 bytes. Some of the messages' characters may be brackets too.
        if body.count(b"[") + body.count(b"{") > api.max_characters + 100 * api.max_messages:
            raise ParseError("The JSON has too many lists and objects.")
        try:
            data = json.loads(body.decode("utf-8"), parse_constant=_refuse)
            if b"\\u" in body:
                json.dumps(data, ensure_ascii=False).encode()  # a lone surrogate is no character
        except (ValueError, RecursionError) as error:
            what = "is nested too deeply" if isinstance(error, RecursionError) else f"can't be read: {error}"
            raise ParseError(f"The JSON {what}.") from None
        if not isinstance(data, dict):
            raise ParseError("The body must be a JSON object.")
        return data


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


class Negotiation(DefaultContentNegotiation):
    """Answer a browser with the browsable API and all others with JSON, whatever they accept: never a 406."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        wants_page = "text/html" in request.META.get("HTTP_ACCEPT", "")
        for renderer in renderers:
            if isinstance(renderer, BrowsableAPIRenderer) == wants_page:
                return renderer, renderer.media_type
        return renderers[0], renderers[0].media_type
