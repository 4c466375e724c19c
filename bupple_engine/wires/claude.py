"""Anthropic's Messages API.

Source: https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar
from urllib.parse import quote

from bupple_engine.masking import reveal
from bupple_engine.protocol.answer import Answer, thought
from bupple_engine.protocol.media import Media, decode_text
from bupple_engine.protocol.messages import OPENING, Turn, system_and_rest
from bupple_engine.protocol.options import COMMON, Option, Options, merge_dicts
from bupple_engine.protocol.reports import reports_error, says_something
from bupple_engine.protocol.request import Request, dump
from bupple_engine.protocol.usage import count, usage_of
from bupple_engine.protocol.values import string
from bupple_engine.types import Usage

from .base import Wire, family
from .blocks import THINKING_DELTAS, close_block, find_block, joined, say_block, start_block
from .facts import CLAUDE, CLAUDE_API_VERSION, CLAUDE_SAMPLING_VERSION, CLAUDE_UNSAMPLED
from .finishes import is_failure, read_finish


class ClaudeWire(Wire):
    """POST {base}/v1/messages."""

    name = "claude"
    options: ClassVar = {
        **COMMON,
        "max_tokens": replace(COMMON["max_tokens"], default=8192),  # the API must have it
        "api_version": Option(string, per_call=False, default=CLAUDE_API_VERSION),
        "beta": Option(string, per_call=False),  # a comma list for the header anthropic-beta
    }
    unsupported: ClassVar = {"seed": "the Messages API has no such field"}
    request_id_headers = ("request-id",)
    other_drivers = ("compatible",)
    key_prefixes = ("sk-ant-",)
    suggested_model = CLAUDE.suggested
    shutdowns = CLAUDE.shutdowns
    counts: ClassVar = {
        "prompt_tokens": ("input_tokens", "prompt_tokens"),
        "completion_tokens": ("output_tokens", "completion_tokens"),
        "total_tokens": ("total_tokens",),
        "cache_read": ("cache_read_input_tokens", "prompt_tokens_details.cached_tokens"),
        "cache_write": ("cache_creation_input_tokens",),
        "cache_write_1h": ("cache_creation.ephemeral_1h_input_tokens",),
        "reasoning": (
            "output_tokens_details.thinking_tokens",
            "completion_tokens_details.reasoning_tokens",
        ),
        "searches": ("server_tool_use.web_search_requests",),
    }

    def base_url(self, options: Options) -> str:
        return "https://api.anthropic.com"

    def build_path(self, options: Options, stream: bool) -> str:
        return "/v1/messages"

    def build_models_path(self, options: Options, page: str) -> str:
        return "/v1/models?limit=1000" + (f"&after_id={quote(page, safe='')}" if page else "")

    def build_auth(self, key: str, options: Options) -> dict[str, str]:
        return {"x-api-key": key}

    def build_headers(self, options: Options) -> dict[str, str]:
        headers = {"anthropic-version": options["api_version"]}
        if options.get("beta"):
            headers["anthropic-beta"] = options["beta"]
        return headers

    def check_options(self, options: Options) -> None:
        super().check_options(options)
        if (effort := options.get("reasoning_effort")) in ("none", "minimal"):
            raise self.unsupported_option(
                "reasoning_effort",
                f"the API has no effort {effort!r}; its least is low, and EXTRA sets `thinking`",
            )
        if options["api_version"] > CLAUDE_SAMPLING_VERSION:
            for name in ("temperature", "top_p"):
                if options.get(name) is not None:
                    raise self.unsupported_option(
                        name,
                        f"API version {CLAUDE_API_VERSION} removed it; older models take it with "
                        f'"API_VERSION": "{CLAUDE_SAMPLING_VERSION}"',
                    )

    def refused_options(self, options: Options) -> Iterator[tuple[str, str]]:
        version = re.fullmatch(r"claude-[a-z]+-(\d)(?:-(\d))?", family(str(options.get("model"))))
        temperature, top_p = options.get("temperature"), options.get("top_p")
        if version and (int(version[1]), int(version[2] or 0)) >= CLAUDE_UNSAMPLED:
            reason = f"{options['model']} takes its default alone"
            if temperature not in (None, 1):
                yield "temperature", reason
            if top_p not in (None, 0.99, 1):
                yield "top_p", reason
        elif (temperature or 0) > 1:
            yield "temperature", "it goes from 0 to 1 here"

    def build_body(self, turns: list[Turn], options: Options, stream: bool) -> dict[str, Any]:
        system, rest = system_and_rest(turns)
        body: dict[str, Any] = {"model": options.get("model"), "max_tokens": options["max_tokens"]}
        if blocks := self.build_parts(Turn("system", tuple(system), "messages")):
            body["system"] = blocks
        prefix = Prefix(merge_dicts(body, reveal(options.get("extra")) or {}))
        body["messages"] = self.build_messages(rest, prefix)
        names = {"temperature": "temperature", "top_p": "top_p", "stop": "stop_sequences"}
        body |= {field: options[name] for name, field in names.items() if options.get(name) is not None}
        if options.get("reasoning_effort"):
            body["output_config"] = {"effort": options["reasoning_effort"]}
        if stream:
            body["stream"] = True
        return body

    def build_messages(self, turns: list[Turn], prefix: Prefix) -> list[dict[str, Any]]:
        """Return the turns merged until they alternate, the first of them the user's."""
        messages: list[dict[str, Any]] = []
        for turn in turns:
            blocks = self.build_blocks(turn, messages, prefix)
            if not blocks:
                continue
            if not messages and turn.role == "assistant":
                messages.append({"role": "user", "content": [self.build_text(OPENING, "user")]})
            if messages and messages[-1]["role"] == turn.role:
                messages[-1]["content"] += blocks
            else:
                messages.append({"role": turn.role, "content": blocks})
        # Instructions alone, which the API does not take.
        return messages or [{"role": "user", "content": [self.build_text(OPENING, "user")]}]

    def build_blocks(self, turn: Turn, before: list[dict[str, Any]], prefix: Prefix) -> list[dict[str, Any]]:
        """Return a turn's blocks; its thinking goes back only behind the very words that it followed.

        A thinking block is bound to what precedes it: behind an edited or shortened history the API
        refuses it, and takes the turn without it.
        """
        echo = self.parse_reasoning_echo(turn)
        if echo and echo.get("prefix") == prefix.digest(before):
            return list(echo["items"])
        return self.build_parts(turn)

    def build_echo(self, body: dict[str, Any], options: Options) -> dict[str, Any]:
        if "messages" in (options.get("extra") or {}):
            return {}  # put in place of ours, in no shape that we know
        return {"prefix": Prefix(body).digest(body["messages"])}

    def build_media(self, media: Media) -> dict[str, Any]:
        if media.url:
            source = {"type": "url", "url": media.url}
        elif media.part.type == "document" and (media.mime_type or "").startswith("text/"):
            source = {"type": "text", "media_type": "text/plain", "data": decode_text(media)}
        else:
            source = {"type": "base64", "media_type": media.mime_type or "", "data": media.data}
        block: dict[str, Any] = {"type": media.part.type, "source": source}
        if media.part.type == "document" and media.part.metadata.get("filename"):
            block["title"] = media.part.metadata["filename"]
        return block

    def parse_reply(self, payload: dict[str, Any], answer: Answer) -> None:
        self.parse_message(payload, answer)
        self.parse_content(payload, answer)
        self.parse_stop(payload, answer)
        answer.ended = True

    def parse_event(self, name: str, payload: dict[str, Any], answer: Answer) -> None:
        kind = payload.get("type") or name
        if kind == "content_block_delta":
            delta = payload.get("delta") or {}
            text = delta.get("text")
            if (text or text == 0) and delta.get("type") not in THINKING_DELTAS:
                answer.add_text(text)
                block = answer.blocks.get(payload.get("index"))
                if block is None or "text" not in block:
                    block = find_block(payload, "text", answer)
                block["text"].append(answer.texts[-1])
            elif thinking := thought(delta):
                answer.add_reasoning(thinking)
                find_block(payload, "thinking", answer)["thinking"].append(answer.reasoning[-1])
            elif signature := delta.get("signature"):
                find_block(payload, "thinking", answer)["signature"].append(signature)
        elif kind == "content_block_start":
            block = payload.get("content_block") or {}
            start_block(block, answer, payload.get("index"))
            self.add_block(block, answer)
        elif kind == "content_block_stop":
            if whole := payload.get("content_block"):
                close_block(whole, payload, answer)
        elif kind == "message_start":
            message = payload.get("message") or {}
            self.parse_message(message, answer)
            if message.get("content"):
                self.parse_content(message, answer)
        elif kind == "message_delta":
            answer.add_usage(payload.get("usage"))
            self.parse_repeated(payload, answer)
            self.parse_stop(payload.get("delta") or {}, answer)
        elif kind == "message_stop":
            self.parse_repeated(payload, answer)
            answer.ended = True
        elif kind == "message" and "content" in payload:  # a server that can't stream, in an event
            self.parse_message(payload, answer)
            self.parse_repeated({"message": payload}, answer)
            answer.ended = True
        elif kind == "error" or reports_error(payload):
            raise self.parse_error(0, payload)

    def parse_content(self, message: dict[str, Any], answer: Answer) -> None:
        """Write the blocks of a message down."""
        content = message.get("content") or []
        for block in content if isinstance(content, list) else [{"type": "text", "text": content}]:
            start_block(block or {}, answer)
            self.add_block(block or {}, answer)

    def parse_repeated(self, payload: dict[str, Any], answer: Answer) -> None:
        """Take from the message that some gateways repeat at the end what had not come before."""
        if isinstance(message := payload.get("message"), dict):
            whole = Answer()
            self.parse_content(message, whole)
            answer.complete(whole)
            answer.add_usage(message.get("usage"))
            self.parse_stop(message, answer)

    def add_block(self, block: dict[str, Any], answer: Answer) -> None:
        """Write down what a block says."""
        if block.get("type") == "error":
            raise self.parse_error(0, block)
        say_block(block, answer)

    def parse_message(self, message: dict[str, Any], answer: Answer) -> None:
        """Write down what the message object says of itself."""
        answer.model = message.get("model") or ""
        if message.get("id"):
            answer.metadata["id"] = message["id"]
        answer.add_usage(message.get("usage"))

    def parse_stop(self, message: dict[str, Any], answer: Answer) -> None:
        """Set the finish reason from stop_reason and its details; a call says more than the word."""
        if says_something(error := message.get("error")):
            raise self.parse_error(0, {"error": error})
        stop = message.get("stop_reason")
        if stop and (reason := read_finish(stop)):
            if is_failure(stop):
                raise self.parse_error(
                    0, {"error": {"type": "api_error", "message": f"The answer ended: {stop}."}}
                )
            answer.finish_reason = "tool_calls" if reason == "stop" and answer.called else reason
        if details := message.get("stop_details"):
            answer.metadata["stop_details"] = details

    def parse_echo(self, answer: Answer) -> dict[str, Any]:
        kinds = {block.get("type") for block in answer.items}
        # Text alone goes back as text; a block of a hosted tool is more than we know how to replay.
        if kinds & {"thinking", "redacted_thinking"} and kinds <= {"thinking", "redacted_thinking", "text"}:
            return {"items": [joined(block) for block in answer.items if block.get("text") != []]}
        return {}

    def parse_models(self, payload: Any) -> tuple[list[str], str]:
        names, _ = super().parse_models(payload)
        more = isinstance(payload, dict) and payload.get("has_more")
        return names, str(payload["last_id"]) if more else ""

    def offers(self, model: str, models: list[str]) -> bool | None:
        # Of the older ones the list has the dated names, of which these are short forms.
        return super().offers(model, [*models, *(re.sub(r"-\d{8}$", "", name) for name in models)])

    def parse_usage(self, answer: Answer, request: Request) -> Usage:
        raw = answer.usage or {}
        counted = self.places.read(raw)
        if not count(raw, "prompt_tokens"):  # where a gateway translated it, the cache is inside
            for name in ("cache_read", "cache_write"):
                if cached := counted[name]:
                    counted["prompt_tokens"] = (counted["prompt_tokens"] or 0) + cached
        tier = "fast" if raw.get("speed") == "fast" else raw.get("service_tier")
        return usage_of(raw, counted, tier=tier)


class Prefix:
    """What stands before an answer: system, tools and messages, each block of them looked at once."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._body = body
        self._hash: Any = None  # few histories have what it is asked for
        self._seen = 0

    def digest(self, messages: list[dict[str, Any]]) -> str:
        """Return a digest of messages, which begin with those of the call before."""
        if self._hash is None:
            self._hash = hashlib.sha256(dump([self._body.get("system"), self._body.get("tools")]))
        blocks = [[message["role"], block] for message in messages for block in message["content"]]
        for block in blocks[self._seen :]:
            self._hash.update(dump(block))
        self._seen = len(blocks)
        return str(self._hash.hexdigest())[:32]
