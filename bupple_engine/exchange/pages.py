"""A provider's list of models, read a page at a time as an answer is read. No I/O."""

from __future__ import annotations

from typing import Any

from bupple_engine.exceptions import EngineError, ResponseParseError
from bupple_engine.masking.printing import one_line
from bupple_engine.protocol.answer import Answer
from bupple_engine.protocol.options import Options
from bupple_engine.protocol.request import Request
from bupple_engine.wires.base import Wire
from bupple_engine.wires.parser import Parser

MAX_PAGES = 100


class Listing(Parser):
    """Have an exchange read the pages of a wire's list; models holds the names of those that were read."""

    payloads = (dict, list)

    def __init__(self, wire: Wire, options: Options) -> None:
        super().__init__(wire.driver)
        self.models: list[str] = []
        self.finished = False
        self.request_id_headers = wire.request_id_headers
        self._wire = wire
        self._options = options
        self._page = ""
        self._pages = 0

    def build_page(self) -> Request:
        """Return the request for the next page."""
        return self._wire.build_models_request(self._options, self._page)

    def parse_reply(self, payload: Any, answer: Answer) -> None:
        models, page = self._wire.parse_models(payload)
        self._pages += 1
        if page and (page == self._page or self._pages >= MAX_PAGES):
            raise ResponseParseError(f"The list of models does not end: it has {self._pages} pages or more.")
        self.models = [*dict.fromkeys([*self.models, *map(one_line, models)])]
        self._page, self.finished = page, not page
        answer.finish_reason = "stop"

    def parse_event(self, name: str, payload: dict[str, Any], answer: Answer) -> None:
        raise ResponseParseError("The list of models came as an event stream.")

    def parse_error(self, status: int, payload: Any, text: str = "") -> EngineError:
        return self._wire.parse_error(status, payload, text)
