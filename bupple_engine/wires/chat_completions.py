"""The Chat Completions wire, which OpenAI made and many services speak.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar

from bupple_engine.exceptions import EngineError
from bupple_engine.masking import reveal
from bupple_engine.protocol.answer import Answer
from bupple_engine.protocol.media import Media
from bupple_engine.protocol.messages import OPENING, Turn, system_and_rest
from bupple_engine.protocol.options import COMMON, Option, Options
from bupple_engine.protocol.reports import reports_error, says_something
from bupple_engine.protocol.request import Request, dump
from bupple_engine.protocol.usage import cost_of, count, usage_of
from bupple_engine.protocol.values import boolean, choice, string
from bupple_engine.types import Usage

from .base import Wire, family
from .deltas import (
    add_content,
    first_choice,
    parse_delta,
    parse_finish,
    parse_message,
    parse_missing_finish,
)
from .facts import NEVER_SAMPLED, OPENAI
from .finishes import read_finish
from .inline import InlineAnswer
from .openai import COUNTS, KEY_PREFIXES, refused_sampling
from .parser import is_end_mark
from .services import Service, service_at

# The fields that a limit on the answer goes by: where one is refused, the provider names the other.
LIMITS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
SAMPLING = ("temperature", "max_tokens", "top_p", "stop", "seed", "reasoning_effort")
CLAUDES_CACHE = ("cache_read_input_tokens", "cache_creation_input_tokens")


class ChatCompletionsWire(Wire):
    """POST {base}/chat/completions; how a service differs is said by the attributes."""

    name = "openai_chat"
    options: ClassVar = {
        **COMMON,
        "organization_id": Option(string, per_call=False, env=str),
        "project_id": Option(string, per_call=False, env=str),
        "max_tokens_param": Option(choice("max_tokens", "max_completion_tokens"), per_call=False),
        "stream_usage": Option(boolean, per_call=False),
        "inline_reasoning": Option(boolean, per_call=False),
    }
    media = frozenset({"image", "audio", "document"})
    key_prefixes = KEY_PREFIXES
    suggested_model = OPENAI.suggested
    shutdowns = OPENAI.shutdowns
    # Beside OpenAI's own words those of DeepSeek, DashScope, Moonshot, Together, Perplexity and Claude.
    counts: ClassVar = {
        "prompt_tokens": COUNTS["prompt_tokens"][::-1],
        "completion_tokens": COUNTS["completion_tokens"][::-1],
        "total_tokens": COUNTS["total_tokens"],
        "cache_read": (
            *COUNTS["cache_read"],
            *("prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens"),
        ),
        "cache_write": (
            *COUNTS["cache_write"],
            *("prompt_tokens_details.cache_creation_input_tokens", "cache_creation_input_tokens"),
        ),
        "cache_write_1h": ("cache_creation.ephemeral_1h_input_tokens",),
        "reasoning": COUNTS["reasoning"],
        "audio_input": COUNTS["audio_input"],
        "audio_output": COUNTS["audio_output"],
        "searches": ("server_tool_use.web_search_requests", "num_search_queries"),
    }

    max_tokens_param = "max_completion_tokens"
    stream_usage = True  # send stream_options.include_usage
    store: bool | None = False  # None: the service does not know the field
    seed_param = "seed"
    image_urls = True  # an image may be a URL, not base64 alone
    one_system_message = False  # chat templates that want one system message, first, and turns that alternate
    inline_reasoning = False  # the answer may open with <think>…</think>, which is its reasoning
    prefix_param = ""  # the field of a trailing assistant turn that has it continued
    one_content_shape = False  # where one message's content is a list, that of each must be
    audio_data_url = False  # audio goes as a data URL, not as bare base64
    file_url = False  # a document is a part `file_url`, a URL or bare base64
    reasoning_param = ""  # the field of a message that an earlier answer's reasoning goes back by

    def base_url(self, options: Options) -> str:
        return "https://api.openai.com/v1"

    def build_path(self, options: Options, stream: bool) -> str:
        return "/chat/completions"

    def build_models_path(self, options: Options, page: str) -> str:
        return "/models"

    def refused_options(self, options: Options) -> Iterable[tuple[str, str]]:
        effort = reveal((options.get("extra") or {}).get("reasoning_effort")) or options.get(
            "reasoning_effort"
        )
        yield from refused_sampling(options, effort)
        reasons = NEVER_SAMPLED.fullmatch(family(str(options.get("model"))))
        if reasons and options.get("stop"):
            yield "stop", f"{options['model']} reasons, and takes no stop"
        if reasons and options.get("max_tokens_param") == "max_tokens":
            yield "max_tokens_param", f"{options['model']} takes max_completion_tokens only"
        if len(options.get("stop") or ()) > 4:
            yield "stop", "the API takes four at most"

    def build_headers(self, options: Options) -> dict[str, str]:
        names = {"organization_id": "OpenAI-Organization", "project_id": "OpenAI-Project"}
        return {header: options[name] for name, header in names.items() if options.get(name)}

    def reasons_inline(self, options: Options) -> bool:
        wanted = options.get("inline_reasoning")
        return self.inline_reasoning if wanted is None else wanted

    def build_body(self, turns: list[Turn], options: Options, stream: bool) -> dict[str, Any]:
        body: dict[str, Any] = {"model": options.get("model"), "messages": self.build_messages(turns)}
        if self.store is not None:
            body["store"] = self.store
        for name in SAMPLING:
            if (value := options.get(name)) is not None:
                if name == "max_tokens":
                    body[options.get("max_tokens_param") or self.max_tokens_param] = value
                else:
                    body[self.seed_param if name == "seed" else name] = value
        if stream:
            body["stream"] = True
            wanted = options.get("stream_usage")
            if self.stream_usage if wanted is None else wanted:
                body["stream_options"] = {"include_usage": True}
        return body

    def build_messages(self, turns: list[Turn]) -> list[dict[str, Any]]:
        """Return the turns as the API's messages; blank ones are left out."""
        messages: list[dict[str, Any]] = []
        if self.one_system_message:
            system, turns = system_and_rest(turns)
            text = "\n\n".join(
                part["text"] for part in self.build_parts(Turn("system", tuple(system), "messages"))
            )
            messages += [{"role": "system", "content": text}] if text else []
        for turn in turns:
            parts = self.build_parts(turn)
            if not parts:
                continue
            last: dict[str, Any] = messages[-1] if messages else {"role": "system"}
            if self.one_system_message and (last["role"], turn.role) == ("system", "assistant"):
                messages.append({"role": "user", "content": OPENING})
            elif self.one_system_message and messages and last["role"] == turn.role:
                last["content"] = self.simplify(_as_parts(last["content"]) + parts)
                continue
            message: dict[str, Any] = {"role": turn.role, "content": self.simplify(parts)}
            if turn.metadata:
                message |= self.build_reasoning(turn)
            messages.append(message)
        if self.one_system_message and messages and messages[-1]["role"] == "system":
            messages.append({"role": "user", "content": OPENING})  # instructions alone
        if self.prefix_param and messages and messages[-1]["role"] == "assistant":
            messages[-1][self.prefix_param] = True
        if self.one_content_shape and any(isinstance(message["content"], list) for message in messages):
            for message in messages:
                message["content"] = _as_parts(message["content"])
        return messages

    def build_reasoning(self, turn: Turn) -> dict[str, Any]:
        """Return the field of a message that gives an earlier answer its reasoning back."""
        echo = self.parse_reasoning_echo(turn)
        if echo and echo["items"]:
            return {"reasoning_details": echo["items"]}
        reasoning = turn.metadata.get("reasoning")
        if echo and self.reasoning_param and isinstance(reasoning, str):
            return {self.reasoning_param: reasoning}
        return {}

    def simplify(self, parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
        """Return text alone as a string, which every server takes."""
        if len(parts) == 1 and parts[0]["type"] == "text":  # nearly all
            return str(parts[0]["text"])
        if all(part["type"] == "text" for part in parts):
            return "\n\n".join(part["text"] for part in parts)
        return parts

    def build_media(self, media: Media) -> dict[str, Any]:
        kind = media.part.type
        if kind == "image":
            if media.url and not self.image_urls:
                raise self.refuse(media.part, "URL of an image, only base64")
            image = {"url": media.url or media.data_url}
            if detail := media.part.metadata.get("detail"):
                image["detail"] = detail
            return {"type": "image_url", "image_url": image}
        if kind == "document" and self.file_url:
            filename = media.part.metadata.get("filename")
            named = {"file_name": filename} if filename else {}
            return {"type": "file_url", "file_url": {"url": media.url or media.data}, **named}
        if media.url:
            raise self.refuse(
                media.part, f"URL of {'audio' if kind == 'audio' else 'a document'}, only base64"
            )
        if kind == "audio":
            data = media.data_url if self.audio_data_url else media.data
            return {"type": "input_audio", "input_audio": {"data": data, "format": media.format}}
        return {"type": "file", "file": {"filename": media.filename, "file_data": media.data_url}}

    def amend_request(self, request: Request, error: EngineError) -> Request | None:
        said = f"{error.param} {error.message}"
        if error.code not in (400, 422) or not any(name in said for name in ("stream_options", *LIMITS)):
            return None
        body = json.loads(request.body)
        limit = next((name for name in LIMITS if name in body), "")
        if "stream_options" in said and "stream_options" in body:
            del body["stream_options"]
        elif limit and limit in said and LIMITS[limit] in said:
            # "max_tokens is not supported with this model. Use max_completion_tokens instead."
            body[LIMITS[limit]] = body.pop(limit)
        else:
            return None
        return request.replace(body=dump(body))

    def open_answer(self, request: Request) -> Answer:
        return InlineAnswer() if request.inline_reasoning else Answer()

    def parse_reply(self, payload: dict[str, Any], answer: Answer) -> None:
        self.parse_event("message", payload, answer)
        parse_missing_finish(answer)
        answer.ended = True

    def parse_event(self, name: str, payload: dict[str, Any], answer: Answer) -> None:
        finish = None
        if choices := payload.get("choices"):
            choice = choices[0]
            if not choice or choice.get("index"):
                choice = first_choice(choices)
            delta = choice.get("delta")
            if content := delta.get("content") if delta else None:
                if len(delta) > 1:
                    parse_delta(delta, answer)
                if isinstance(content, str):
                    answer.add_text(content)
                else:
                    add_content(content, answer)
                if (finish := choice.get("finish_reason")) is not None:
                    self.parse_choice(choice, finish, answer)
            elif choice:
                if delta:
                    parse_delta(delta, answer)
                    add_content(content, answer)  # a zero is a token as any other
                finish = choice.get("finish_reason")
                self.parse_choice(choice, finish, answer)
        elif reports_error(payload):
            raise self.parse_error(0, payload)
        if not answer.model:
            answer.model = payload.get("model") or ""
            answer.tier = payload.get("service_tier")
            if "id" in payload:
                answer.metadata["id"] = payload["id"]
        if usage := payload.get("usage"):
            answer.add_usage(usage)
            answer.tier = payload.get("service_tier") or answer.tier
        elif finish and "x_groq" in payload:
            answer.add_usage((payload["x_groq"] or {}).get("usage"))
            if error := (payload["x_groq"] or {}).get("error"):
                raise self.parse_error(0, {"error": error})  # why the stream was stopped early

    def parse_choice(self, choice: dict[str, Any], finish: Any, answer: Answer) -> None:
        """Write down what a choice has beside its delta: an error, the whole message, the end."""
        message = choice.get("message")
        for holder in (choice, choice.get("delta") or {}, message or {}):
            if (error := holder.get("error")) and says_something(error):
                raise self.parse_error(0, {"error": error})
        if message:
            parse_message(message, answer)
        elif choice.get("text") and "delta" not in choice:
            add_content(choice["text"], answer)  # a server that has the API of plain completions alone
        if usage := choice.get("usage"):
            answer.add_usage(usage)  # Moonshot's place for it
        answer.finish_is_empty = finish == ""
        if finish and (reason := read_finish(finish)):
            parse_finish(finish, reason, answer)

    def parse_end(self, data: str, answer: Answer) -> bool:
        # Some services send no finish reason: here the mark is the end.
        if not is_end_mark(data):
            return False
        parse_missing_finish(answer)
        answer.ended = True
        return True

    def parse_tail(self, answer: Answer) -> bool:
        return True

    def parse_echo(self, answer: Answer) -> dict[str, Any]:
        # The reasoning itself travels in metadata["reasoning"]; the echo says whether its text was edited.
        spoken: dict[str, Any] = {"items": []} if self.reasoning_param and answer.reasoning else {}
        return super().parse_echo(answer) or spoken

    def find_service(self, request: Request) -> Service | None:
        """Return the service that answers, where it is known to differ in what it reports."""
        return service_at(request.url)

    def parse_usage(self, answer: Answer, request: Request) -> Usage:
        raw = answer.usage or {}
        service = self.find_service(request)
        counted = self.places.read(raw)
        cached = [number for name in CLAUDES_CACHE if name in raw and (number := count(raw, name))]
        if cached and not count(
            raw, "prompt_tokens"
        ):  # a gateway left Claude's words, whose input is without
            counted["prompt_tokens"] = (counted["prompt_tokens"] or 0) + sum(cached)
        return usage_of(
            raw,
            counted,
            reasoning_beside=service is not None and str(answer.model).startswith(service.reasoning_beside),
            tier=answer.tier or raw.get("service_tier"),
            cost=cost_of(raw, service.cost) if service is not None and service.cost else None,
        )


def _as_parts(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
