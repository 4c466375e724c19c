"""What is sent: a request, its body as JSON, its URL. No I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from .exceptions import InvalidRequestError
from .masking import MaskedDict


class Request:
    """What to send in one attempt; its repr shows no header and no body."""

    __slots__ = ("body", "echo", "elsewhere", "headers", "method", "secrets", "stream", "url")

    def __init__(
        self,
        url: str,
        headers: MaskedDict,
        body: bytes,
        stream: bool,
        secrets: Sequence[str] = (),
        method: str = "POST",
    ) -> None:
        self.url = url
        self.headers = headers
        self.body = body
        self.stream = stream
        self.secrets = secrets
        self.method = method
        self.echo: dict[str, Any] = {}
        self.elsewhere = False  # whether it goes to a URL that the entry sets, not to the vendor's

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.url.partition('?')[0]}>"


# json.dumps makes an encoder each time.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def dump(body: Any) -> bytes:
    """Return a body as JSON bytes."""
    try:
        return _encode(body).encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    # Messages and the other options are checked by now: it is extra or a message's metadata. Raised out here,
    # it has no context: the encoder's frames hold what is in extra.
    raise InvalidRequestError(f"extra or a message's metadata is no JSON: {reason}", param="extra")


@lru_cache(256)
def join_url(base: str, path: str, endpoint: str = "") -> str:
    """Return base and path as one URL, without the credentials that base had in it.

    A version segment or an endpoint that is in both is not doubled; a query of base stays behind the path.
    Where path is not the endpoint that base may end with, name that one too.
    """
    parts = urlsplit(base)
    path, _, query = path.partition("?")
    head = parts.path.rstrip("/")
    head = head.removesuffix(endpoint.partition("?")[0] or path)
    version = path[: max(path.find("/", 1), 0)]
    if version and head.endswith(version):
        head = head[: -len(version)]
    host = parts.netloc.rpartition("@")[2]
    queries = "&".join(filter(None, (parts.query, query)))
    return urlunsplit((parts.scheme, host, head + path, queries, ""))
