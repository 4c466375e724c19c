"""What some services say on the Chat Completions wire, each in a shape of its own.

Written from recorded traffic and the services' pages, as tests.wires is: the contract holds for each.
"""

from __future__ import annotations

from tests.provider import Request
from tests.wires import ChatCompletions, Event, Said


class AzureInference(ChatCompletions):
    """Be asked with a key in a header of its own; tell the filters' findings before the answer."""

    name = "azure_inference"
    base = "/models?api-version=2024-05-01-preview"
    path = stream_path = "/models/chat/completions?api-version=2024-05-01-preview"

    def key(self, request: Request) -> str | None:
        return request.headers.get("api-key")

    def _events(self, said: Said) -> list[Event]:
        first, *events = super()._events(said)
        return [{**first, "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}, first, *events]


SHAPES = [AzureInference()]
