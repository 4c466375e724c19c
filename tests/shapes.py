"""What some services say on the Chat Completions wire, each in a shape of its own.

Written from recorded traffic and the services' pages, as tests.wires is: the contract holds for each.
"""

from __future__ import annotations

from typing import Any, ClassVar

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


class Perplexity(ChatCompletions):
    """Say a whole answer beside an empty delta, and a stream's text so far and usage in each chunk."""

    name = "perplexity"
    base = ""
    path = stream_path = "/chat/completions"

    def stream(self, *args: Any, **options: Any) -> bytes:
        return super().stream(*args, **options).removesuffix(b"data: [DONE]\n\n")

    def _whole(self, said: Said) -> Event:
        whole = super()._whole(said)
        whole["choices"][0]["delta"] = {"role": "assistant", "content": ""}
        return whole

    def _events(self, said: Said) -> list[Event]:
        events, text = [], ""
        for event in super()._events(said):
            for choice in event["choices"]:
                text += choice["delta"].get("content") or ""
                choice["message"] = {"role": "assistant", "content": text}
                events.append({**event, "usage": self.usage if said.usage else None})
        return events


class Databricks(ChatCompletions):
    """Report usage in every chunk, at first without counts; say reasoning as items of a content list."""

    name = "databricks"
    base = "/serving-endpoints"
    path = stream_path = "/serving-endpoints/chat/completions"

    def _whole(self, said: Said) -> Event:
        whole = super()._whole(said)
        _reasoning_as_items(whole["choices"][0]["message"])
        return whole

    def _events(self, said: Said) -> list[Event]:
        *events, last = super()._events(said)
        if not said.usage:
            return [*events, last]
        early = {"prompt_tokens": 12, "completion_tokens": None, "total_tokens": None}
        for event in events:
            event["usage"] = early
            for choice in event["choices"]:
                _reasoning_as_items(choice["delta"])
        return [*events[:-1], {**events[-1], "usage": last["usage"]}]


def _reasoning_as_items(message: Event) -> None:
    thoughts = message.pop("reasoning_content", None)
    if thoughts:
        text = [{"type": "text", "text": message["content"]}] if message.get("content") else []
        summary = [{"type": "summary_text", "text": thoughts}]
        message["content"] = [{"type": "reasoning", "summary": summary}, *text]


class Snowflake(ChatCompletions):
    """Leave the reason of an end empty, and give each message the hull of a call."""

    name = "snowflake"
    base = "/api/v2/cortex/v1"
    path = stream_path = "/api/v2/cortex/v1/chat/completions"
    finishes: ClassVar = {**ChatCompletions.finishes, "stop": "", "tool_calls": ""}

    def _whole(self, said: Said) -> Event:
        whole = super()._whole(said)
        hull = {"function_call": {"arguments": "", "name": ""}, "audio": {"data": "", "id": ""}}
        message = whole["choices"][0]["message"]
        whole["choices"][0]["message"] = {**hull, **message, "refusal": message["refusal"] or ""}
        return whole


class MiniMax(ChatCompletions):
    """Say the reasoning at the head of the text."""

    name = "minimax"

    def _whole(self, said: Said) -> Event:
        whole = super()._whole(said)
        message = whole["choices"][0]["message"]
        if thoughts := message.pop("reasoning_content", ""):
            message["content"] = f"<think>{thoughts}</think>{message['content'] or ''}"
        return whole

    def _events(self, said: Said) -> list[Event]:
        events = super()._events(said)
        deltas = [choice["delta"] for event in events for choice in event["choices"]]
        thoughts = [delta for delta in deltas if "reasoning_content" in delta]
        for delta in thoughts:
            delta["content"] = delta.pop("reasoning_content")
        if thoughts:
            thoughts[0]["content"] = f"<think>{thoughts[0]['content']}"
            thoughts[-1]["content"] += "</think>"
        return events


SHAPES = [AzureInference(), Perplexity(), Databricks(), Snowflake(), MiniMax()]
