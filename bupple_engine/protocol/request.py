"""What is sent: a request, its body as JSON, its URL. No I/O."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import urlsplit, urlunsplit

from bupple_engine.exceptions import InvalidRequestError
from bupple_engine.masking import Hidden, MaskedDict, mask_url, refuse_pickling, reveal

from .scrubbing import Secrets

_NOTHING = Hidden(b"")
_set = object.__setattr__


def _no_echo() -> dict[str, Any]:
    return {}


class Request:
    """What to send in one attempt; neither its repr nor its attributes show a header or the body.

    It is never changed: replace() returns another. stream says whether a stream is asked for; elsewhere,
    whether it goes to a URL that the entry sets, not to the vendor's. echo() returns what of it must be known
    again when its answer comes back in a history: it may read the whole body, so it is asked only where an
    answer wants it. inline_reasoning says that reasoning in tags, at the head of the answer, is no text.
    """

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

    stream: bool
    secrets: Secrets
    method: str
    echo: Callable[[], dict[str, Any]]
    inline_reasoning: bool
    elsewhere: bool
    _url: Hidden
    _headers: MaskedDict
    _body: Hidden

    def __init__(
        self,
        url: str | Hidden,
        headers: MaskedDict,
        body: bytes,
        stream: bool,
        secrets: Secrets | None = None,
        method: str = "POST",
        *,
        elsewhere: bool = False,
        echo: Callable[[], dict[str, Any]] = _no_echo,
        inline_reasoning: bool = False,
    ) -> None:
        _set(self, "_url", url if isinstance(url, Hidden) else Hidden(url))
        _set(self, "_headers", headers)
        _set(self, "_body", Hidden(body) if body else _NOTHING)
        _set(self, "stream", stream)
        _set(self, "secrets", secrets or Secrets())
        _set(self, "method", method)
        _set(self, "echo", echo)
        _set(self, "inline_reasoning", inline_reasoning)
        _set(self, "elsewhere", elsewhere)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"A request is never changed: use replace({name}=…).")

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)

    def replace(self, **changes: Any) -> Request:
        """Return the same request with another url, body or echo."""
        changed = object.__new__(Request)
        for name in self.__slots__:
            _set(changed, name, getattr(self, name))
        for name, value in changes.items():
            if name in ("url", "body"):
                _set(changed, f"_{name}", Hidden(value))
            else:
                _set(changed, name, value)
        return changed

    @property
    def url(self) -> str:
        """Where it goes; its query may have a key."""
        found: str = self._url.reveal()
        return found

    @property
    def body(self) -> bytes:
        """What is sent, of which a part may be secret."""
        found: bytes = self._body.reveal()
        return found

    @property
    def headers(self) -> MaskedDict:
        """The headers as they are sent, revealed each time: a report of errors prints what a frame holds."""
        return MaskedDict(reveal(self._headers))

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        refuse_pickling(self)

    def __copy__(self) -> Request:
        return self

    def __deepcopy__(self, memo: object) -> Request:
        return self

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
