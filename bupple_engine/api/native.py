"""The native dialect: messages and options by our own names; what is unknown is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bupple_engine.http.dialects import EventStream, public
from bupple_engine.options import suggest
from bupple_engine.types import Reply

from .calls import ChatCall, wrong

FIELDS = ("messages", "driver", "model", "options")


class NativeDialect(EventStream):
    """The native event stream, and a Reply for who waits for the whole answer."""

    def __init__(self, call: ChatCall | None = None) -> None:
        super().__init__()

    @staticmethod
    def read(data: Mapping[str, Any]) -> ChatCall:
        """Return what the body asks for."""
        for name in data:
            if name not in FIELDS:
                raise wrong(name, f"is unknown.{suggest(name, FIELDS)}".rstrip("."))
        if "messages" not in data:
            raise wrong("messages", "is missing")
        options = data.get("options") or {}
        if not isinstance(options, dict):
            raise wrong("options", "must be an object")
        for name in ("driver", "model"):
            if data.get(name) is not None and not isinstance(data[name], str):
                raise wrong(name, "must be a string")
        return ChatCall(
            "chat",
            data["messages"],
            driver=data.get("driver"),
            model=data.get("model"),
            options=dict(options),
            data=data,
        )

    def reply_body(self, reply: Reply) -> dict[str, Any]:
        """Return the body of a whole answer."""
        return public(reply)
