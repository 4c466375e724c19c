"""What comes in, bounded before it is parsed, and what goes out, whatever a client says it accepts."""

from __future__ import annotations

import json
import math
from typing import Any

from django.apps import apps
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, BrowsableAPIRenderer, JSONRenderer
from rest_framework.request import Request

from bupple_engine.conf import APISettings

from .body import BodyTooLarge, read_body

# Far more than any client of these dialects nests, and far less than what recursion may cost.
MAX_DEPTH = 64
MAX_DIGITS = 40


class BoundedJSONParser(BaseParser):
    """Parse a JSON object of bounded size, with bounded effort."""

    media_type = "application/json"
    renderer_class = JSONRenderer  # of the browsable API's form

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        api: APISettings = (parser_context or {})["view"].api
        body = read_body(stream, api.max_body_bytes)
        if len(body) > api.max_body_bytes:
            raise BodyTooLarge(f"The body may have {api.max_body_bytes} bytes.")
        if not body:
            raise ParseError("The body is empty.")
        # Each may begin a value, which takes 20 times its bytes in memory. Text has some of them too.
        values = sum(map(body.count, (b"[", b"{", b",")))
        if values > api.max_characters + 100 * api.max_messages:
            raise ParseError("The JSON has too many values.")
        try:
            data = json.loads(
                body.decode("utf-8"), parse_int=_integer, parse_float=_float, parse_constant=_float
            )
            if not isinstance(data, dict):
                raise ParseError("The body must be a JSON object.")
            _check_depth(data)
            if b"\\u" in body:
                json.dumps(data, ensure_ascii=False).encode()  # a lone surrogate is no character
        except json.JSONDecodeError as error:
            raise ParseError(f"The JSON can't be read: {error}.") from None
        except UnicodeError:
            raise ParseError("The JSON is not UTF-8, or has a lone surrogate.") from None
        except RecursionError:
            raise ParseError("The JSON is nested too deeply.") from None
        except ValueError:
            raise ParseError("The JSON has a number that can't be read.") from None
        return data


def _integer(text: str) -> int:
    # The time that Python takes grows with the square of the digits; past 4300 it refuses.
    if len(text) > MAX_DIGITS:
        raise ValueError("too many digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)  # of NaN and Infinity too, which are no JSON
    if not math.isfinite(value):
        raise ValueError("no finite number")
    return value


def _check_depth(data: Any) -> None:
    """Raise where something is nested so deeply that merely to show it would overflow the stack."""
    level = [data]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise RecursionError


class Negotiation(DefaultContentNegotiation):
    """Answer a browser with the browsable API and all others with JSON, whatever they accept: never a 406."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        wants_page = _is_browser(request)
        for renderer in renderers:
            if isinstance(renderer, BrowsableAPIRenderer) == wants_page:
                return renderer, renderer.media_type
        return renderers[0], renderers[0].media_type


def _is_browser(request: Request) -> bool:
    """Return whether someone reads a page of the browsable API, or posts its form.

    Programs name text/html too, such as n8n's; a browser prefers it.
    """
    return (
        (request.method in ("GET", "HEAD", "OPTIONS") or "HTTP_X_REQUESTED_WITH" in request.META)
        and _preference(request, "text/html") > _preference(request, "application/json")
        and apps.is_installed("rest_framework")  # which has the page's templates
    )


def accepts_events(request: Request) -> bool:
    """Return whether a client names event streams, and does not like JSON better."""
    quality, specificity = _preference(request, "text/event-stream")
    return specificity == 2 and quality >= _preference(request, "application/json")[0]


def _preference(request: Request, media_type: str) -> tuple[float, int]:
    """Return how much a client likes a media type, and how exactly it names it: 2, by wildcards 1 or 0."""
    wanted = media_type.split("/")
    found = (-1, 0.0)
    for accepted in request._request.accepted_types:
        names = [accepted.main_type.lower(), accepted.sub_type.lower()]
        if all(name in ("*", each) for name, each in zip(names, wanted, strict=True)):
            found = max(found, (2 - names.count("*"), accepted.quality))
    return found[1], found[0]
