"""What is sent: a request, its body as JSON, its URL. No I/O."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import urlsplit, urlunsplit

from bupple_engine.exceptions import InvalidRequestError
from bupple_engine.masking import Hidden, MaskedDict, mask_url, refuse_pickling, reveal

from .scrubbing import Secrets

_NOTHING = Hidden(b"")


class Request:
    """What to send in one attempt; neither its repr nor its attributes show a header or the body."""

    __slots__ = (
        "_body",
        "_headers",
        "_url",
        "echo",
        "elsewhere",
        "inline_reasoning",
        "method",
        "secrets",
        "stream",
    )

    def __init__(
        self,
        url: str,
        headers: MaskedDict,
        body: bytes,
        stream: bool,
        secrets: Secrets | None = None,
        method: str = "POST",
    ) -> None:
        self._url = Hidden(url)
        self._headers = headers
        self._body = Hidden(body) if body else _NOTHING  # which a wire replaces, once it has built one
        self.stream = stream
        self.secrets = secrets or Secrets()
        self.method = method
        self.echo: dict[str, Any] = {}
        self.inline_reasoning = False  # reasoning in tags, at the head of the answer, is no text
        self.elsewhere = False  # whether it goes to a URL that the entry sets, not to the vendor's

    @property
    def url(self) -> str:
        """Where it goes; its query may have a key."""
        found: str = self._url.reveal()
        return found

    @url.setter
    def url(self, value: str) -> None:
        self._url = Hidden(value)

    @property
    def body(self) -> bytes:
        """What is sent, of which a part may be secret."""
        found: bytes = self._body.reveal()
        return found

    @body.setter
    def body(self, value: bytes) -> None:
        self._body = Hidden(value)

    @property
    def headers(self) -> MaskedDict:
        """The headers as they are sent, revealed each time: a report of errors prints what a frame holds."""
        return MaskedDict(reveal(self._headers))

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        refuse_pickling(self)

    def __copy__(self) -> Request:
        copied = Request(self.url, self._headers, self.body, self.stream, self.secrets, self.method)
        copied.echo, copied.elsewhere = self.echo, self.elsewhere
        copied.inline_reasoning = self.inline_reasoning
        return copied

    def __deepcopy__(self, memo: object) -> Request:
        return self.__copy__()

    def __repr__(self) -> str:
        return f"<Request {self.method} {mask_url(self.url.partition('?')[0])}>"


# json.dumps makes an encoder each time.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def dump(body: Any) -> bytes:
    """Return a body as JSON bytes."""
    try:
        return _encode(body).encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    # Messages and the other options are checked by now: it is extra or a message's metadata. Raised out here,
    # it has no context: the encoder's frames hold what is in extra, and so did this one.
    del body
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
