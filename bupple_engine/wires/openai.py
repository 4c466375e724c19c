"""OpenAI's Responses API, stateless: nothing is stored, what must be echoed travels in metadata.

Source: https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any, ClassVar

from bupple_engine.exceptions import ResponseParseError
from bupple_engine.masking import reveal
from bupple_engine.protocol.answer import Answer
from bupple_engine.protocol.media import Media
from bupple_engine.protocol.messages import OPENING, Part, Turn
from bupple_engine.protocol.options import COMMON, Option, Options
from bupple_engine.protocol.reports import reports_error, says_something
from bupple_engine.protocol.request import Request
from bupple_engine.protocol.usage import Paths, cost_of, usage_of
from bupple_engine.protocol.values import string
from bupple_engine.types import Usage

from .base import Wire, family
from .facts import NEVER_SAMPLED, OPENAI, SAMPLED_WITHOUT_EFFORT
from .finishes import read_finish
from .services import service_at

# What a response that is not there yet says of itself.
NOT_BEGUN = frozenset({"queued", "in_progress"})

KEY_PREFIXES: tuple[str, ...] = ("sk-", "sk-proj-", "sk-svcacct-", "sk-admin-")


# Gateways that translate an answer may leave its usage in the other API's words.
COUNTS: Paths = MappingProxyType(
    {
        "prompt_tokens": ("input_tokens", "prompt_tokens"),
        "completion_tokens": ("output_tokens", "completion_tokens"),
        "total_tokens": ("total_tokens",),
        "cache_read": ("input_tokens_details.cached_tokens", "prompt_tokens_details.cached_tokens"),
        "cache_write": (
            "input_tokens_details.cache_write_tokens",
            "prompt_tokens_details.cache_write_tokens",
        ),
        "reasoning": (
            "output_tokens_details.reasoning_tokens",
            "completion_tokens_details.reasoning_tokens",
            "reasoning_tokens",
        ),
        "audio_input": ("input_tokens_details.audio_tokens", "prompt_tokens_details.audio_tokens"),
        "audio_output": ("output_tokens_details.audio_tokens", "completion_tokens_details.audio_tokens"),
        "searches": ("server_side_tool_usage_details.web_search_calls",),  # xAI's
    }
)


def refused_sampling(options: Options, effort: Any) -> Iterator[tuple[str, str]]:
    """Yield the sampling options that the model refuses at an effort, and why."""
    model = family(str(options.get("model")))
    reason = ""
    if NEVER_SAMPLED.fullmatch(model):
        reason = f"{model} reasons, and takes no value but 1"
    elif SAMPLED_WITHOUT_EFFORT.fullmatch(model) and effort != "none":
        reason = f"{model} reasons unless REASONING_EFFORT is none, and takes no value but 1 then"
    for name in ("temperature", "top_p"):
        if reason and options.get(name) not in (None, 1):
            yield name, reason
    if not reason and (options.get("temperature") or 0) > 2:
        yield "temperature", "it goes from 0 to 2 here"


class OpenAIWire(Wire):
    """POST {base}/responses."""

    name = "openai"
    options: ClassVar = {
        **COMMON,
        "organization_id": Option(string, per_call=False, env=str),
        "project_id": Option(string, per_call=False, env=str),
    }
    unsupported: ClassVar = {
        "stop": "the Responses API has no such field; the driver openai_chat has one",
        "seed": "the Responses API has no such field; the driver openai_chat has one",
    }
    key_prefixes = KEY_PREFIXES
    suggested_model = OPENAI.suggested
    other_drivers = ("openai_chat", "compatible")
    shutdowns = OPENAI.shutdowns
    counts = COUNTS

    def base_url(self, options: Options) -> str:
        return "https://api.openai.com/v1"

    def build_path(self, options: Options, stream: bool) -> str:
        return "/responses"

    def build_models_path(self, options: Options, page: str) -> str:
        return "/models"

    def refused_options(self, options: Options) -> Iterator[tuple[str, str]]:
        reasoning = reveal((options.get("extra") or {}).get("reasoning"))
        effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
        return refused_sampling(options, effort or options.get("reasoning_effort"))

    def build_headers(self, options: Options) -> dict[str, str]:
        names = {"organization_id": "OpenAI-Organization", "project_id": "OpenAI-Project"}
        return {header: options[name] for name, header in names.items() if options.get(name)}

    def build_body(self, turns: list[Turn], options: Options, stream: bool) -> dict[str, Any]:
        body: dict[str, Any] = {"model": options.get("model"), "store": False}
        leading = 0
        while leading < len(turns) and turns[leading].role == "system":
            leading += 1
        instructions = [part["text"] for turn in turns[:leading] for part in self.build_parts(turn)]
        if instructions:
            body["instructions"] = "\n\n".join(instructions)
        items = [item for turn in turns[leading:] for item in self.build_items(turn)]
        # Instructions alone, which the API does not take.
        body["input"] = items or self.build_items(
            Turn("user", (Part("text", OPENING, {}, "messages"),), "messages")
        )
        names = {"temperature": "temperature", "max_tokens": "max_output_tokens", "top_p": "top_p"}
        body |= {field: options[name] for name, field in names.items() if options.get(name) is not None}
        if options.get("reasoning_effort"):
            body["reasoning"] = {"effort": options["reasoning_effort"]}
        if stream:
            body["stream"] = True
        return body

    def build_items(self, turn: Turn) -> list[dict[str, Any]]:
        """Return the input items of a turn: an answer of this driver's own goes back as it came."""
        echo = self.parse_reasoning_echo(turn)
        # An item may speak in any role here: what a client put among the assistant's words stays out.
        if echo and all(item.get("role", "assistant") == "assistant" for item in echo["items"]):
            return list(echo["items"])
        parts = self.build_parts(turn)
        role = "developer" if turn.role == "system" else turn.role
        return [{"type": "message", "role": role, "content": parts}] if parts else []

    def build_text(self, text: str, role: str) -> dict[str, Any]:
        return {"type": "output_text" if role == "assistant" else "input_text", "text": text}

    def build_media(self, media: Media) -> dict[str, Any]:
        if media.part.type == "image":
            part: dict[str, Any] = {"type": "input_image", "image_url": media.url or media.data_url}
        elif media.url:
            part = {"type": "input_file", "file_url": media.url}
        else:
            part = {"type": "input_file", "filename": media.filename, "file_data": media.data_url}
        if detail := media.part.metadata.get("detail"):
            part["detail"] = detail
        return part

    def parse_reply(self, payload: dict[str, Any], answer: Answer) -> None:
        self.parse_output(payload, answer)
        self.parse_response(payload, answer)

    def parse_event(self, name: str, payload: dict[str, Any], answer: Answer) -> None:
        kind = payload.get("type") or name
        if kind == "response.output_text.delta" or kind == "response.refusal.delta":
            text = payload.get("delta")
            if text or text == 0:
                answer.add_text(text)
        elif not kind.startswith("response."):
            if kind == "error" or reports_error(payload):
                raise self.parse_error(0, payload)
            if payload.get("object") == "response":  # a server that can't stream, in an event
                self.parse_repeated(payload, answer)
        elif kind.startswith("response.reasoning") and kind.endswith(".delta"):
            if payload.get("delta"):
                answer.add_reasoning(payload["delta"])
        elif kind == "response.output_item.done":
            # The copy in output_item.added may be incomplete.
            item = payload.get("item") or {}
            self.parse_item(item, answer)
            for channel, text in _texts_of(item):
                answer.close(channel, text)
        elif kind in ("response.completed", "response.incomplete", "response.failed", "response.done"):
            self.parse_repeated(payload.get("response") or {}, answer)
        elif kind.endswith(".done"):
            part = payload.get("part") or payload
            is_reasoning = "reasoning" in str(part.get("type") or kind) or "reasoning" in kind
            channel = "reasoning" if is_reasoning else "text"
            if text := part.get("text") or part.get("refusal"):
                answer.close(channel, text)

    def parse_output(self, response: dict[str, Any], answer: Answer) -> None:
        """Write the output of a whole response down."""
        output = response.get("output") or response.get("output_text") or []
        for item in _parts(output) if isinstance(output, list) else [{"type": "message", "content": output}]:
            self.parse_item(item, answer)
            for channel, text in _texts_of(item):
                (answer.add_reasoning if channel == "reasoning" else answer.add_text)(text)

    def parse_repeated(self, response: dict[str, Any], answer: Answer) -> None:
        """Write the response that ends a stream down: its output too, where the events had less of it."""
        whole = Answer()
        self.parse_output(response, whole)
        answer.complete(whole)
        self.parse_response(response, answer)

    def parse_item(self, item: dict[str, Any], answer: Answer) -> None:
        """Keep an output item for its way back, and note what it says of the end."""
        kind = item.get("type")
        if kind == "message" and says_something(item.get("error")):
            raise self.parse_error(0, {"error": item["error"]})
        if kind in ("function_call", "custom_tool_call") and item.get("name"):
            answer.called = True
        elif kind == "message" and any(part.get("type") == "refusal" for part in _parts(item.get("content"))):
            answer.refused = True
        answer.items.append({name: value for name, value in item.items() if name != "status"})

    def parse_response(self, response: dict[str, Any], answer: Answer) -> None:
        """Write down what the finished response object says of itself: usage, model, status."""
        status = str(response.get("status") or "").lower()
        answer.model = response.get("model") or answer.model
        if response.get("id"):
            answer.metadata["id"] = response["id"]
        answer.add_usage(response.get("usage"))
        answer.tier = response.get("service_tier") or answer.tier
        if status == "failed" or says_something(response.get("error")):
            raise self.parse_error(
                0, {"error": response.get("error") or "The provider reports a failed response."}
            )
        if status in NOT_BEGUN and answer.is_blank:
            error = ResponseParseError(
                f"The response is not there yet, it is {status}: leave `background` out of EXTRA."
            )
            error.retryable = False  # it would be ordered, and billed, once more
            raise error
        if status == "incomplete":
            reason = (response.get("incomplete_details") or {}).get("reason")
            answer.finish_reason = read_finish(str(reason)) or "unknown"
        elif not status and answer.is_blank and "output" not in response:
            pass  # no response: it says nothing
        elif status in ("", "completed"):
            answer.finish_reason = "tool_calls" if answer.called else "refusal" if answer.refused else "stop"
        else:
            answer.finish_reason = "unknown"
        answer.ended = True

    def parse_echo(self, answer: Answer) -> dict[str, Any]:
        # Nothing is stored: reasoning by its id alone is refused, as is a message's id without its reasoning.
        reasoning = [item for item in answer.items if item.get("type") == "reasoning"]
        return super().parse_echo(answer) if all(r.get("encrypted_content") for r in reasoning) else {}

    def parse_usage(self, answer: Answer, request: Request) -> Usage:
        raw = answer.usage or {}
        counted = self.places.read(raw)
        counted["searches"] = counted["searches"] or sum(map(_is_search, answer.items))
        # What xAI reports under this name, other hosts of its models report, too, as a zero.
        service = service_at(request.url)
        cost = cost_of(raw, service.cost) if service is not None and service.cost else None
        return usage_of(raw, counted, tier=answer.tier, cost=cost)


def _is_search(item: dict[str, Any]) -> bool:
    """Return whether an output item is a search that is billed: to open a page that was found is none."""
    if item.get("type") != "web_search_call":
        return False
    action = item.get("action")
    return not isinstance(action, dict) or action.get("type") in (None, "search")


def _parts(content: Any) -> list[dict[str, Any]]:
    """Return the parts of an item's content, which some servers leave as a string."""
    return [{"text": content}] if isinstance(content, str) else [part for part in content or () if part]


def _texts_of(item: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the texts of an output item, each with what it is of: the reasoning, or the text."""
    kind = item.get("type")
    if kind == "reasoning":
        for part in _parts(item.get("summary")) + _parts(item.get("content")):
            if text := part.get("text"):
                yield "reasoning", text
    elif kind == "message":
        for part in _parts(item.get("content")):
            text = part.get("text")
            if text or text == 0 or (text := part.get("refusal")):
                yield "reasoning" if "reason" in str(part.get("type")) else "text", text
