"""What an exchange asks of a wire: what the bytes of an answer mean. No I/O."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, cast
from urllib.parse import urlsplit

from bupple_engine.exceptions import EngineError
from bupple_engine.protocol.answer import Answer, repair
from bupple_engine.protocol.classification import canonical, error_class
from bupple_engine.protocol.reports import read_error
from bupple_engine.protocol.request import Request
from bupple_engine.protocol.usage import Paths, Places, usage_of
from bupple_engine.types import Usage


class Parser(ABC):
    """Read the answers to the requests of one call; a subclass has parse_reply() and parse_event().

    What an exchange calls, in this order:

    * open_answer(), at the begin of each attempt: what it returns is all that is written in, and one instance
      serves many calls at once.
    * parse_event() for each event of a stream, parse_end() for one whose data is no JSON and parse_tail() for
      one that is cut off; or parse_reply(), once, for an answer that is JSON. A stream may come where none
      was asked for, and JSON where one was.
    * parse_error() in place of these for what says of itself, or by its status, that it is an error; then
      amend_request(), once a call, and advise_absent() where there is nothing at the request's path.
    * finish(), once, when the answer is complete; parse_usage() also where it will never be.

    parse_reply() and parse_event() may raise an EngineError, which is what the answer means. AttributeError,
    TypeError, LookupError, ValueError and RecursionError are taken for an answer of another shape, and become
    a ResponseParseError that quotes it: so they may read what they expect without looking first.
    """

    payloads: tuple[type, ...] = (dict,)  # what a whole answer is, as JSON
    request_id_headers: tuple[str, ...] = ("x-request-id",)
    # Words of an error's type or code that mean a class; beside those that the providers share.
    error_words: ClassVar[Mapping[str, type[EngineError]]] = {}
    # What to try where a server that is not the vendor's lacks this API.
    other_drivers: tuple[str, ...] = ()

    counts: ClassVar[Paths] = MappingProxyType({})  # where the provider's usage has the common counts

    places: ClassVar = Places(counts)  # the same, to be read by

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "counts" in cls.__dict__:
            cls.places = Places(cls.counts)

    def __init__(self, driver: str) -> None:
        self.driver = driver

    def open_answer(self, request: Request) -> Answer:
        """Return what the answer to a request is to be written down in."""
        return Answer()

    @abstractmethod
    def parse_reply(self, payload: Any, answer: Answer) -> None:
        """Write a whole answer down, whose type is one of `payloads`."""

    @abstractmethod
    def parse_event(self, name: str, payload: dict[str, Any], answer: Answer) -> None:
        """Write one event of a stream down; name is "" where it has none."""

    def parse_end(self, data: str, answer: Answer) -> bool:
        """Tell whether an event's data is the mark of the end, which is no JSON."""
        if not is_end_mark(data):
            return False
        answer.ended = answer.finish_reason is not None  # on most wires the mark alone proves nothing
        return True

    def parse_tail(self, answer: Answer) -> bool:
        """Tell whether an unfinished last event may be looked at, which the standard drops."""
        return False

    def parse_usage(self, answer: Answer, request: Request) -> Usage:
        """Return what the provider has counted until now, in common terms; None where it told nothing."""
        raw = answer.usage or {}
        return usage_of(raw, self.places.read(raw), tier=answer.tier)

    def parse_echo(self, answer: Answer) -> dict[str, Any]:
        """Return what the provider wants echoed, as it will travel in metadata["echo"]."""
        return {"items": answer.items} if answer.items else {}

    def parse_error(self, status: int, payload: Any, text: str = "") -> EngineError:
        """Return the error that a provider's answer means; a status of 0 is an error inside a stream."""
        said = read_error(payload)
        message = said.message or text.strip()[:500]
        status = status or said.status
        own = {canonical(word): cls for word, cls in self.error_words.items()}
        cls = next((own[word] for word in map(canonical, said.words) if word in own), None)
        cls = cls or error_class(status, said.words, said.text or message)
        return cls(
            message or f"The provider answered with status {status} and no text.",
            code=status,
            type=said.type,
            param=said.param,
            retry_after=said.retry_after,
        )

    def amend_request(self, request: Request, error: EngineError) -> Request | None:
        """Return the request without the field that the provider refused, or with the one it wants instead.

        None where the call can't do without it. It is asked once a call.
        """
        return None

    def advise_absent(self, request: Request) -> str:
        """Return what to do where nothing answers at a request's path, "" where the path is the vendor's."""
        if not request.elsewhere:
            return ""
        path = urlsplit(request.url).path
        advice = f"Nothing answers at {path}: check the entry's BASE_URL"
        if not re.search(r"/v\d", path):
            advice += ", which most servers have end in /v1"
        if self.other_drivers:
            names = " or ".join(f'"{name}"' for name in self.other_drivers)
            advice += f'; a server that does not speak this API takes another "DRIVER": {names}'
        return f"{advice}."

    def finish(self, answer: Answer, request: Request, model: str) -> dict[str, Any]:
        """Return the keys that a Reply and the last chunk share."""
        metadata = {"driver": self.driver, **answer.metadata}
        if answer.finish_reason != "tool_calls" and (echo := self.parse_echo(answer)):
            metadata["echo"] = {**request.echo(), **echo, "text": digest("".join(answer.texts))}
        last = {
            "model": answer.model or model,
            "usage": self.parse_usage(answer, request),
            "finish_reason": answer.finish_reason or "unknown",
            "metadata": metadata,
        }
        return last if answer.half is None else cast("dict[str, Any]", repair(last))


def is_end_mark(data: str) -> bool:
    """Tell whether data is the mark of the end, [DONE], or what other services have for it."""
    return len(data) < 20 and re.fullmatch(r"(?i)\W*(done|eof|end)\W*", data) is not None


def digest(text: str) -> str:
    """Return what tells a text from another in an echo."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]
