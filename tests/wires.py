"""What the four wires say: answers to script, and requests read back, as pure functions.

Written from the vendors' pages alone, so that a driver is held against its vendor and not against
itself. Finish reasons, options and kinds of error have our names here; a wire's `finishes` and
`options_named` say which of them it can express.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any, ClassVar, Literal, NamedTuple, get_args

from tests.provider import Answer, Request

Event = dict[str, Any]
Kind = Literal[
    "auth", "permission", "quota", "rate_limit", "invalid", "context", "content_filter", "not_found",
    "overloaded", "server",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)

KEY = "sk-test-0123456789abcd"
# What a decoder loses first: several bytes a character, astral ones, line ends that only str knows.
TEXTS = ["Grüße ", "aus 日本", " 🦜𝕏", "\u2028", "a\x85b", ' \r\n"\\ ', "done"]
# The same counts on every wire, in our names; 4 of the prompt cached, 3 of the completion reasoning.
USAGE = {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}
KNOWN = {**USAGE, "cache_read": 4, "reasoning": 3}
TOOL_ID, TOOL_NAME, TOOL_ARGUMENTS = "call_1", "get_weather", {"city": "Tromsø"}
REQUEST_ID = "req_0123"
RETRY_AFTER = 7
SIGNATURE = "c2lnbmF0dXJl"
UNHEARD_OF = "a_reason_of_next_year"
JSON = {"content-type": "application/json"}
# To an empty object where messages go.
NO_MESSAGES = Answer(400, JSON, b'{"error": {"message": "messages is required"}}')
EVENTS = {"content-type": "text/event-stream"}  # UTF-8 without saying so, as Gemini sends it
ROLES = {"developer": "system", "model": "assistant"}


def dump(value: object) -> str:
    """Write JSON as the vendors do: characters as they are, not as escapes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


ARGUMENTS = dump(TOOL_ARGUMENTS)
FRAGMENTS = ["", ARGUMENTS[:5], ARGUMENTS[5:]]


class Said(NamedTuple):
    """Hold what an answer says."""

    texts: Sequence[str]
    finish: str
    reasoning: Sequence[str]
    usage: bool
    model: str


class Wire(ABC):
    """Say and read one wire; a subclass knows its vendor's words."""

    name: ClassVar[str]
    model: ClassVar[str]
    base: ClassVar[str] = "/v1"
    path: ClassVar[str]
    stream_path: ClassVar[str]
    usage: ClassVar[Event]  # USAGE in the vendor's words
    finishes: ClassVar[dict[str, str]]  # ours → the vendor's
    options_named: ClassVar[dict[str, str]]  # the vendor's → ours
    request_id_header: ClassVar[str] = "x-request-id"

    def settings(self, url: str, **options: object) -> dict[str, object]:
        """Give the driver's entry in settings, for a provider at this URL."""
        entry = {"DRIVER": self.name, "API_KEY": KEY, "MODEL": self.model, "BASE_URL": url + self.base}
        return {**entry, **options}

    def reply(
        self, text: str, *, finish: str = "stop", reasoning: str = "", usage: bool = True, model: str = ""
    ) -> bytes:
        """Say a whole answer; a refusal's text is the refusal, where the wire has a place for it."""
        texts, thoughts = [text] if text else [], [reasoning] if reasoning else []
        return dump(self._whole(Said(texts, finish, thoughts, usage, model or self.model))).encode()

    def stream(
        self, texts: Sequence[str], *, finish: str = "stop", reasoning: Sequence[str] = (), usage: bool = True
    ) -> bytes:
        """Say the same as a whole event stream, one delta a text."""
        return self._encode(self._events(Said(texts, finish, reasoning, usage, self.model)))

    @abstractmethod
    def stream_repeated(self, pieces: Sequence[str], text: str, reasoning: str) -> bytes:
        """Say pieces of a text as a stream, and all of the answer again at its end."""

    def stream_without_end(self, texts: Sequence[str]) -> bytes:
        """Stop after the last text, before any finish reason."""
        return self._encode(self._opening(texts))

    def stream_error(self, texts: Sequence[str], kind: Kind) -> bytes:
        """Report an error in-band, after some text."""
        return self._encode([*self._opening(texts), self._error_event(kind)])

    def tool_call_stream(self) -> bytes:
        """Call a tool, without any text."""
        return self.stream([], finish="tool_calls")

    def error(self, kind: Kind, *, stream: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Give status, headers and body of an error; `stream` when a stream was asked for."""
        status, body = self._error(kind)
        headers = {**JSON, self.request_id_header: REQUEST_ID}
        if kind == "rate_limit":
            headers["retry-after"] = str(RETRY_AFTER)
        return status, headers, dump(body).encode()

    def key(self, request: Request) -> str | None:
        """Read back the key."""
        return request.headers.get("authorization", "").removeprefix("Bearer ") or None

    def model_asked(self, request: Request) -> str:
        """Read back the model."""
        return str(request.json["model"])

    def streamed(self, request: Request) -> bool:
        """Tell whether a stream was asked for."""
        return bool(request.json.get("stream", False))

    def prompt(self, request: Request) -> list[tuple[str, str]]:
        """Read back what was asked, a (role, text) for each part: merged turns look like single ones."""
        found = []
        for role, content in self._turns(request.json):
            parts = [{"text": content}] if isinstance(content, str) else content or []
            texts = [part["text"] for part in parts if "text" in part and not part.get("thought")]
            found += [(ROLES.get(role, role), text) for text in texts]
        return found

    def options(self, request: Request) -> dict[str, Any]:
        """Read back the options that were sent, under our names."""
        sent = self._options_in(request.json)
        return {ours: sent[theirs] for theirs, ours in self.options_named.items() if theirs in sent}

    def _opening(self, texts: Sequence[str]) -> list[Event]:
        """Give a stream's events up to its last text: what one with another text begins with, too."""
        one, other = (self._events(Said(t, "stop", (), True, self.model)) for t in (texts, [*texts, "!"]))
        return [
            event for event, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
        ]

    def _encode(self, events: Iterable[Event]) -> bytes:
        """Frame events, named where they have a type."""
        frames = [(f"event: {event['type']}\n" if "type" in event else "", dump(event)) for event in events]
        return "".join(f"{name}data: {data}\n\n" for name, data in frames).encode()

    def _error_event(self, kind: Kind) -> Event:
        return self._error(kind)[1]

    def _options_in(self, body: Event) -> Event:
        return body

    @abstractmethod
    def _turns(self, body: Event) -> Iterable[tuple[str, Any]]:
        """Give each role and content of a request."""

    @abstractmethod
    def _whole(self, said: Said) -> Event:
        """Give a whole answer."""

    @abstractmethod
    def _events(self, said: Said) -> list[Event]:
        """Give a stream's events."""

    @abstractmethod
    def _error(self, kind: Kind) -> tuple[int, Event]:
        """Give an error's status and body."""


class OpenAI(Wire):
    """Say what both of OpenAI's wires have in common."""

    errors: ClassVar[dict[Kind, tuple[int, str, str | None, str]]] = {
        # The vendor quotes the key it was given. No error of ours may.
        "auth": (401, "invalid_request_error", "invalid_api_key", f"Incorrect API key provided: {KEY}."),
        "permission": (403, "request_forbidden", "unsupported_country_region_territory", "Not there"),
        "quota": (429, "insufficient_quota", "credit_balance_exhausted", "You have no credit left."),
        "rate_limit": (429, "rate_limit_error", "rate_limit_exceeded", "Rate limit reached"),
        "invalid": (400, "invalid_request_error", "unsupported_value", "Unsupported value"),
        "context": (400, "invalid_request_error", "context_length_exceeded", "The input is too long."),
        "content_filter": (400, "invalid_request_error", "content_filter", "The prompt was filtered."),
        "not_found": (404, "invalid_request_error", "model_not_found", "The model does not exist"),
        "overloaded": (503, "service_unavailable_error", "server_is_overloaded", "Overloaded"),
        "server": (500, "server_error", None, "The server had an error"),
    }

    def _error(self, kind: Kind) -> tuple[int, Event]:
        status, type_, code, message = self.errors[kind]
        param = "temperature" if kind == "invalid" else None
        return status, {"error": {"message": message, "type": type_, "param": param, "code": code}}


class Responses(OpenAI):
    name = "openai"
    model = "gpt-6.2-sol"
    path = stream_path = "/v1/responses"
    usage: ClassVar = {
        "input_tokens": 12, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 19,
    }  # fmt: skip
    # A refusal and a tool call are told by the output, the others by incomplete_details.reason.
    finishes: ClassVar = {
        "stop": "completed", "tool_calls": "completed", "refusal": "completed",
        "length": "max_output_tokens", "content_filter": "content_filter", "unknown": UNHEARD_OF,
    }  # fmt: skip
    options_named: ClassVar = {
        "temperature": "temperature", "max_output_tokens": "max_tokens", "top_p": "top_p",
    }  # fmt: skip

    def _turns(self, body: Event) -> Iterable[tuple[str, Any]]:
        yield "system", body.get("instructions")
        items = body["input"]
        for item in [{"role": "user", "content": items}] if isinstance(items, str) else items:
            if "role" in item:
                yield item["role"], item["content"]

    def _whole(self, said: Said) -> Event:
        word = self.finishes[said.finish]
        text, thoughts = "".join(said.texts), "".join(said.reasoning)
        part = {"type": "output_text", "text": text, "annotations": []}
        if said.finish == "refusal":
            part = {"type": "refusal", "refusal": text}
        summary = {"type": "summary_text", "text": thoughts}
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
        call = {"type": "function_call", "id": "fc_1", "call_id": TOOL_ID, "name": TOOL_NAME}
        output: list[Event] = []
        if said.reasoning:
            output.append(
                {"type": "reasoning", "id": "rs_1", "summary": [summary], "encrypted_content": SIGNATURE}
            )
        if said.texts:
            output.append({**message, "content": [part]})
        if said.finish == "tool_calls":
            output.append({**call, "arguments": ARGUMENTS, "status": "completed"})
        return {
            "id": "resp_1", "object": "response", "created_at": 1, "model": said.model, "error": None,
            "status": "completed" if word == "completed" else "incomplete",
            "incomplete_details": None if word == "completed" else {"reason": word},
            "output": output, "usage": self.usage if said.usage else None,
        }  # fmt: skip

    def _events(self, said: Said) -> list[Event]:
        whole = self._whole(said)
        begun = whole | {"status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
        events = [{"type": f"response.{word}", "response": begun} for word in ("created", "in_progress")]
        for index, item in enumerate(whole["output"]):
            events += self._item(said, index, item)
        return [*events, {"type": f"response.{whole['status']}", "response": whole}]

    def _item(self, said: Said, index: int, item: Event) -> list[Event]:
        key = "refusal" if said.finish == "refusal" else "text"
        holder, parts, kind, key, deltas = {
            "reasoning": (
                "summary",
                "reasoning_summary_part",
                "reasoning_summary_text",
                "text",
                said.reasoning,
            ),
            "message": ("content", "content_part", key.replace("text", "output_text"), key, said.texts),
            "function_call": ("arguments", "", "function_call_arguments", "arguments", FRAGMENTS[1:]),
        }[item["type"]]
        at: Event = {"output_index": index}
        inside: Event = {**at, "item_id": item["id"]}
        added, done = [], []
        if parts:
            inside[f"{holder}_index"] = 0
            (part,) = item[holder]
            added = [{"type": f"response.{parts}.added", **inside, "part": {**part, key: ""}}]
            done = [{"type": f"response.{parts}.done", **inside, "part": part}]
        scores: Event = {"logprobs": []} if kind == "output_text" else {}
        hollow = item | {holder: type(item[holder])(), "status": "in_progress"}
        return [
            {"type": "response.output_item.added", **at, "item": hollow},
            *added,
            *({"type": f"response.{kind}.delta", **inside, "delta": delta, **scores} for delta in deltas),
            {"type": f"response.{kind}.done", **inside, key: "".join(deltas), **scores},
            *done,
            {"type": "response.output_item.done", **at, "item": item},
        ]

    def stream_repeated(self, pieces: Sequence[str], text: str, reasoning: str) -> bytes:
        whole = self._whole(Said([text], "stop", [reasoning], True, self.model))
        deltas = [
            {"type": "response.output_text.delta", "output_index": 1, "delta": piece} for piece in pieces
        ]
        done: list[Event] = [{"type": "response.output_text.done", "text": text}] if pieces else []
        return self._encode([*deltas, *done, {"type": "response.completed", "response": whole}])

    def _error_event(self, kind: Kind) -> Event:
        error = self._error(kind)[1]["error"]
        return {**error, "type": "error", "code": error["code"] or error["type"]}

    def _encode(self, events: Iterable[Event]) -> bytes:
        return super()._encode({**event, "sequence_number": n} for n, event in enumerate(events))


class ChatCompletions(OpenAI):
    name = "openai_chat"
    model = "gpt-6-luna"
    path = stream_path = "/v1/chat/completions"
    usage: ClassVar = {
        **USAGE,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 0},
    }
    finishes: ClassVar = {
        "stop": "stop", "length": "length", "tool_calls": "tool_calls", "content_filter": "content_filter",
        "refusal": "stop", "unknown": UNHEARD_OF,
    }  # fmt: skip
    options_named: ClassVar = {
        "temperature": "temperature", "max_tokens": "max_tokens", "max_completion_tokens": "max_tokens",
        "top_p": "top_p", "stop": "stop", "seed": "seed",
    }  # fmt: skip

    def stream(
        self, texts: Sequence[str], *, finish: str = "stop", reasoning: Sequence[str] = (), usage: bool = True
    ) -> bytes:
        return super().stream(texts, finish=finish, reasoning=reasoning, usage=usage) + b"data: [DONE]\n\n"

    def stream_repeated(self, pieces: Sequence[str], text: str, reasoning: str) -> bytes:
        whole = self._whole(Said([text], "stop", [reasoning], True, self.model))
        deltas = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
        return self._encode([*deltas, whole]) + b"data: [DONE]\n\n"

    def _turns(self, body: Event) -> Iterable[tuple[str, Any]]:
        return ((message["role"], message.get("content")) for message in body["messages"])

    def _whole(self, said: Said) -> Event:
        key = "refusal" if said.finish == "refusal" else "content"
        message: Event = {"role": "assistant", "content": None, "refusal": None}
        message[key] = "".join(said.texts) or None
        if said.reasoning:  # a compatible service's name for it: the vendor shows none on this wire
            message["reasoning_content"] = "".join(said.reasoning)
        if said.finish == "tool_calls":
            function = {"name": TOOL_NAME, "arguments": ARGUMENTS}
            message["tool_calls"] = [{"id": TOOL_ID, "type": "function", "function": function}]
        choice = {"index": 0, "message": message, "finish_reason": self.finishes[said.finish]}
        body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": said.model}
        return {**body, "choices": [choice], **({"usage": self.usage} if said.usage else {})}

    def _events(self, said: Said) -> list[Event]:
        key = "refusal" if said.finish == "refusal" else "content"
        deltas: list[Event] = [{"role": "assistant", "content": "", "refusal": None}]
        deltas += [{"reasoning_content": text} for text in said.reasoning]
        deltas += [{key: text} for text in said.texts]
        if said.finish == "tool_calls":
            calls: list[Event] = [{"index": 0, "function": {"arguments": piece}} for piece in FRAGMENTS]
            calls[0] |= {"id": TOOL_ID, "type": "function", "function": {"name": TOOL_NAME, "arguments": ""}}
            deltas += [{"tool_calls": [call]} for call in calls]
        body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": said.model}
        choices: list[Event] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        choices.append({"index": 0, "delta": {}, "finish_reason": self.finishes[said.finish]})
        events: list[Event] = [{**body, "choices": [choice], "usage": None} for choice in choices]
        return [*events, *([{**body, "choices": [], "usage": self.usage}] if said.usage else [])]


class Claude(Wire):
    name = "claude"
    model = "claude-sonnet-5-5"
    base = ""
    path = stream_path = "/v1/messages"
    usage: ClassVar = {
        "input_tokens": 8, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4,
        "output_tokens": 7, "output_tokens_details": {"thinking_tokens": 3},
    }  # fmt: skip
    finishes: ClassVar = {
        "stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "refusal": "refusal",
        "unknown": UNHEARD_OF,
    }  # fmt: skip
    options_named: ClassVar = {
        "temperature": "temperature", "max_tokens": "max_tokens", "top_p": "top_p", "stop_sequences": "stop",
    }  # fmt: skip
    request_id_header = "request-id"
    errors: ClassVar[dict[Kind, tuple[int, str, str]]] = {
        "auth": (401, "authentication_error", "invalid x-api-key"),
        "permission": (403, "permission_error", "Not for this key"),
        "quota": (429, "rate_limit_error", "The spend limit is reached"),
        "rate_limit": (429, "rate_limit_error", "Number of requests exceeds the rate limit"),
        "invalid": (400, "invalid_request_error", "temperature: Extra inputs are not permitted"),
        "context": (400, "invalid_request_error", "prompt is too long: 1200000 tokens > 1000000 maximum"),
        "content_filter": (400, "invalid_request_error", "Output blocked by content filtering policy"),
        "not_found": (404, "not_found_error", "model: claude-nobody"),
        "overloaded": (529, "overloaded_error", "Overloaded"),
        "server": (500, "api_error", "Internal server error"),
    }

    def key(self, request: Request) -> str | None:
        return request.headers.get("x-api-key") or super().key(request)

    def stream_repeated(self, pieces: Sequence[str], text: str, reasoning: str) -> bytes:
        whole = self._whole(Said([text], "stop", [reasoning], True, self.model))
        events: list[Event] = [
            {"type": "message_start", "message": whole | {"content": [], "stop_reason": None}}
        ]
        events += [
            {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": piece}}
            for piece in pieces
        ]
        return self._encode([*events, {"type": "message_stop", "message": whole}])

    def _turns(self, body: Event) -> Iterable[tuple[str, Any]]:
        yield "system", body.get("system")
        for message in body["messages"]:
            yield message["role"], message["content"]

    def _whole(self, said: Said) -> Event:
        thoughts, text = "".join(said.reasoning), "".join(said.texts)
        refusal = {"type": "refusal", "category": "cyber", "explanation": None}
        content: list[Event] = []
        if said.reasoning:
            content.append({"type": "thinking", "thinking": thoughts, "signature": SIGNATURE})
        if said.texts:
            content.append({"type": "text", "text": text})
        if said.finish == "tool_calls":
            content.append({"type": "tool_use", "id": TOOL_ID, "name": TOOL_NAME, "input": TOOL_ARGUMENTS})
        return {
            "id": "msg_1", "type": "message", "role": "assistant", "model": said.model, "content": content,
            "stop_reason": self.finishes[said.finish], "stop_sequence": None,
            "stop_details": refusal if said.finish == "refusal" else None,
            **({"usage": self.usage} if said.usage else {}),
        }  # fmt: skip

    def _events(self, said: Said) -> list[Event]:
        whole = self._whole(said)
        message = whole | {"content": [], "stop_reason": None, "stop_details": None}
        end = {
            "type": "message_delta",
            "delta": {name: whole[name] for name in whole if name.startswith("stop")},
        }
        if said.usage:  # the output's counts come with the end
            counts = {name: count for name, count in self.usage.items() if name.startswith("output")}
            message["usage"] = {"output_tokens": 1} | {
                k: self.usage[k] for k in self.usage if k not in counts
            }
            end["usage"] = counts
        events: list[Event] = [{"type": "message_start", "message": message}]
        for index, block in enumerate(whole["content"]):
            kind, key, pieces = {
                "thinking": ("thinking_delta", "thinking", said.reasoning),
                "text": ("text_delta", "text", said.texts),
                "tool_use": ("input_json_delta", "partial_json", FRAGMENTS),
            }[block["type"]]
            deltas = [{"type": kind, key: piece} for piece in pieces]
            if kind == "thinking_delta":
                deltas.append({"type": "signature_delta", "signature": SIGNATURE})
            start = {
                name: value if name in ("type", "id", "name") else type(value)()
                for name, value in block.items()
            }
            events += [
                {"type": "content_block_start", "index": index, "content_block": start},
                {"type": "ping"},
            ]
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            events.append({"type": "content_block_stop", "index": index})
        return [*events, end, {"type": "message_stop"}]

    def _error(self, kind: Kind) -> tuple[int, Event]:
        status, type_, message = self.errors[kind]
        error: Event = {"type": type_, "message": message}
        if kind == "quota":
            error["details"] = {"error_code": "enforced_spend_limit_reached"}
        return status, {"type": "error", "error": error, "request_id": REQUEST_ID}


class Gemini(Wire):
    name = "gemini"
    model = "gemini-3.8-flash"
    base = ""
    path = "/v1beta/models/gemini-3.8-flash:generateContent"
    stream_path = "/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse"
    usage: ClassVar = {
        "promptTokenCount": 12, "cachedContentTokenCount": 4, "candidatesTokenCount": 4,
        "thoughtsTokenCount": 3, "totalTokenCount": 19,
    }  # fmt: skip
    finishes: ClassVar = {  # a tool call is told by the parts
        "stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY",
        "unknown": UNHEARD_OF.upper(),
    }  # fmt: skip
    options_named: ClassVar = {
        "temperature": "temperature", "maxOutputTokens": "max_tokens", "topP": "top_p",
        "stopSequences": "stop", "seed": "seed",
    }  # fmt: skip
    request_id_header = ""
    errors: ClassVar[dict[Kind, tuple[int, str, str, list[Event]]]] = {
        "auth": (400, "INVALID_ARGUMENT", "API key not valid.", [{"reason": "API_KEY_INVALID"}]),
        "permission": (403, "PERMISSION_DENIED", "Not for this key", []),
        "quota": (
            429,
            "RESOURCE_EXHAUSTED",
            "Quota exceeded",
            [{"violations": [{"quotaId": "RequestsPerDay"}]}],
        ),
        "rate_limit": (429, "RESOURCE_EXHAUSTED", "Slow down", [{"retryDelay": f"{RETRY_AFTER}s"}]),
        "invalid": (400, "INVALID_ARGUMENT", "Invalid value at 'generation_config.temperature'", []),
        "context": (
            400,
            "INVALID_ARGUMENT",
            "The input token count exceeds the maximum number of tokens",
            [],
        ),
        "not_found": (404, "NOT_FOUND", "models/gemini-nobody is not found", []),
        "overloaded": (503, "UNAVAILABLE", "The model is overloaded.", []),
        "server": (500, "INTERNAL", "An internal error has occurred.", []),
    }
    detail_types: ClassVar = {"reason": "ErrorInfo", "violations": "QuotaFailure", "retryDelay": "RetryInfo"}

    def error(self, kind: Kind, *, stream: bool = False) -> tuple[int, dict[str, str], bytes]:
        # The delay is told in the body alone. A blocked prompt is answered like any other.
        status, body = self._error(kind)
        as_events = stream and status == 200
        return (
            status,
            EVENTS if as_events else JSON,
            self._encode([body]) if as_events else dump(body).encode(),
        )

    def key(self, request: Request) -> str | None:
        return request.headers.get("x-goog-api-key")

    def model_asked(self, request: Request) -> str:
        return request.path.rpartition("/")[2].partition(":")[0]

    def streamed(self, request: Request) -> bool:
        return request.path.endswith(":streamGenerateContent?alt=sse")

    def _options_in(self, body: Event) -> Event:
        config: Event = body.get("generationConfig", {})
        return config

    def stream_repeated(self, pieces: Sequence[str], text: str, reasoning: str) -> bytes:
        # This API's last chunk has what is left: it repeats nothing.
        rest = text.removeprefix("".join(pieces))
        said = Said([*pieces, *([rest] if rest else [])], "stop", [reasoning], True, self.model)
        return self._encode(self._events(said))

    def _turns(self, body: Event) -> Iterable[tuple[str, Any]]:
        yield "system", body.get("systemInstruction", {}).get("parts")
        for content in body["contents"]:
            yield content.get("role", "user"), content["parts"]

    def _chunk(self, said: Said, parts: list[Event], usage: Event, **ending: str) -> Event:
        candidate = {"content": {"role": "model", "parts": parts}, "index": 0, **ending}
        body = {"candidates": [candidate], "modelVersion": said.model, "responseId": "abc"}
        return {**body, **({"usageMetadata": usage} if said.usage else {})}

    def _parts(self, said: Said) -> tuple[list[Event], Event]:
        """Give the parts with text, and the last one, whose signature the vendor wants back."""
        parts: list[Event] = [{"text": text, "thought": True} for text in said.reasoning]
        parts += [{"text": text} for text in said.texts]
        last: Event = {"text": "", "thoughtSignature": SIGNATURE}
        if said.finish == "tool_calls":
            call = {"id": TOOL_ID, "name": TOOL_NAME, "args": TOOL_ARGUMENTS}
            last = {"functionCall": call, "thoughtSignature": SIGNATURE}
        return parts, last

    def _whole(self, said: Said) -> Event:
        parts, last = self._parts(said)
        return self._chunk(said, [*parts, last], self.usage, finishReason=self.finishes[said.finish])

    def _events(self, said: Said) -> list[Event]:
        parts, last = self._parts(said)
        events = [
            self._chunk(said, [part], {"promptTokenCount": 12, "totalTokenCount": 12}) for part in parts
        ]
        return [*events, self._chunk(said, [last], self.usage, finishReason=self.finishes[said.finish])]

    def _error(self, kind: Kind) -> tuple[int, Event]:
        if kind == "content_filter":
            return 200, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "responseId": "abc"}
        code, status, message, details = self.errors[kind]
        prefix = "type.googleapis.com/google.rpc."
        typed = [{"@type": prefix + self.detail_types[key], **detail} for detail in details for key in detail]
        return code, {"error": {"code": code, "message": message, "status": status, "details": typed}}

    def _encode(self, events: Iterable[Event]) -> bytes:
        return super()._encode(events).replace(b"\n", b"\r\n")


WIRES: list[Wire] = [Responses(), ChatCompletions(), Claude(), Gemini()]
