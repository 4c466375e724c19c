"""The native dialect: messages and options by our own names; what is unknown is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bupple_engine.conf import APISettings
from bupple_engine.http.dialects import EventStream
from bupple_engine.protocol.options import suggest

from .asked import ChatCall, ChatDialect, check_messages, choose_driver, option_places, read_options, wrong

FIELDS = ("messages", "driver", "model", "options")


class NativeDialect(ChatDialect, EventStream):
    """The native event stream, and a Reply for who waits for the whole answer."""

    @staticmethod
    def read(data: Mapping[str, Any], api: APISettings) -> ChatCall:
        """Return what the body asks for, or raise an InvalidRequestError."""
        for name in data:
            if name not in FIELDS:
                raise wrong(name, "is unknown." + suggest(name, FIELDS))
        if "messages" not in data:
            raise wrong("messages", "is missing")
        driver, model = choose_driver(data, api)
        options = read_options(data, api)
        messages = check_messages(data["messages"], api)
        places = option_places(data)
        return ChatCall("chat", messages, driver, model, options, data=data, places=places)
