"""The dialect of OpenAI's Chat Completions, for clients that speak it.

Source: protocols, "OpenAI-compatible"; https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

from bupple_engine.conf import APISettings
from bupple_engine.http.dialects import Dialect, dump, quote
from bupple_engine.http.problems import Problem
from bupple_engine.types import Chunk, Reply

from .calls import ChatCall, check_messages, check_option, wrong

# Field → option.
OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "stop": "stop",
    "seed": "seed",
    "reasoning_effort": "reasoning_effort",
}

# Fields that would change the answer, with the values that change nothing. What only labels a request (user,
# metadata, store, …) is ignored, as is what we don't know.
NOT_HONOURED: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "verbosity": ("medium",),
}

FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "unknown": "stop",
}

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}

# Type → the code by which clients of this API know it.
ERROR_CODES = {
    "ContextLengthExceededError": "context_length_exceeded",
    "ContentFilteredError": "content_filter",
    "AuthenticationFailed": "invalid_api_key",
    "NotAuthenticated": "invalid_api_key",
    "RateLimitError": "provider_rate_limit_exceeded",
    "Throttled": "rate_limit_exceeded",
    "TooManyStreams": "too_many_streams",
}

COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


class CompletionsDialect(Dialect):
    """Chat completion objects and chunks."""

    def __init__(self, call: ChatCall | None = None) -> None:
        data = call.data if call is not None else {}
        options = data.get("stream_options")
        self._with_usage = isinstance(options, dict) and bool(options.get("include_usage"))
        self._begun = False
        self._model = str(data.get("model"))
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        head = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
        }
        if self._with_usage:
            head["usage"] = None
        self._head = dump(head)[:-1]
        self._tail = ',"finish_reason":null,"logprobs":null}]}'

    @staticmethod
    def read(data: Mapping[str, Any], api: APISettings) -> ChatCall:
        """Return what the body asks for, or raise an InvalidRequestError."""
        known = models(api)
        if not isinstance(data.get("model"), str) or data["model"] not in known:
            raise wrong("model", f"must be one of {', '.join(known)}")
        driver, model = known[data["model"]]
        for name, harmless in NOT_HONOURED.items():
            value = data.get(name)
            # JSON has one kind of number; in Python True is another 1.
            if value is not None and not any(
                value == each and isinstance(value, bool) == isinstance(each, bool) for each in harmless
            ):
                raise wrong(name, "can't be honoured here")
        if not isinstance(data.get("stream"), bool | None):
            raise wrong("stream", "must be true or false")
        messages = data.get("messages")
        if not isinstance(messages, list):
            raise wrong("messages", "must be a list")
        options: dict[str, Any] = {}
        for name, option in OPTIONS.items():
            if data.get(name) is not None:
                options[option] = check_option(name, option, data[name], api)
        found = [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]
        messages = check_messages(found, api)
        stream = data.get("stream") is True
        return ChatCall("completions", messages, driver, model, options, stream, data)

    def encode(self, chunk: Chunk) -> bytes:
        pieces = []
        if not self._begun:
            self._begun = True
            pieces.append(self._event('{"role":"assistant","content":""}'))
        if reasoning := (chunk.get("metadata") or {}).get("reasoning") if not chunk["done"] else None:
            pieces.append(self._event(f'{{"reasoning_content":{quote(reasoning)}}}'))
        if chunk["content"]:
            pieces.append(self._event(f'{{"content":{quote(chunk["content"])}}}'))
        if chunk["done"]:
            reason = FINISH_REASONS.get(chunk["finish_reason"], "stop")
            pieces.append(
                f'data: {self._head},"choices":[{{"index":0,"delta":{{}},'
                f'"finish_reason":"{reason}","logprobs":null}}]}}\n\n'
            )
            if self._with_usage:
                head = self._head.removesuffix(',"usage":null')
                pieces.append(f'data: {head},"choices":[],"usage":{dump(_usage(chunk))}}}\n\n')
            pieces.append("data: [DONE]\n\n")
        return "".join(pieces).encode("utf-8", "replace")

    def encode_error(self, problem: Problem) -> bytes:
        return f"data: {dump(self.error_body(problem))}\n\n".encode()

    def error_body(self, problem: Problem) -> dict[str, Any]:
        status = problem.status
        error = {
            "message": problem.message,
            "type": ERROR_TYPES.get(status, "server_error" if status >= 500 else ERROR_TYPES[400]),
            "param": problem.param,
            "code": ERROR_CODES.get(problem.type, problem.type),
        }
        return {"error": {**error, "id": problem.id} if problem.id else error}

    def reply_body(self, reply: Reply) -> dict[str, Any]:
        """Return the body of a whole answer."""
        message: dict[str, Any] = {"role": "assistant", "content": reply["content"], "refusal": None}
        if reasoning := reply["metadata"].get("reasoning"):
            message["reasoning_content"] = reasoning
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": FINISH_REASONS.get(reply["finish_reason"], "stop"),
            "logprobs": None,
        }
        return {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": [choice],
            "usage": _usage(reply),
        }

    def _event(self, delta: str) -> str:
        return f'data: {self._head},"choices":[{{"index":0,"delta":{delta}{self._tail}\n\n'


def models(api: APISettings) -> dict[str, tuple[str, str | None]]:
    """Return what a client may name as its model: name → alias, and model where it is not the alias's own."""
    found: dict[str, tuple[str, str | None]] = {}
    for alias in api.drivers:
        found[alias] = alias, None
        for model in api.models.get(alias, []):
            found.setdefault(f"{alias}/{model}", (alias, model))
    return found


def model_object(name: str) -> dict[str, Any]:
    """Return the model object of a name."""
    return {"id": name, "object": "model", "created": 0, "owned_by": name.partition("/")[0]}


def _usage(answer: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the three counts, None where the provider sent none."""
    counts = {name: answer["usage"].get(name) for name in COUNTS}
    return None if counts["total_tokens"] is None else counts


def _message(message: Any, where: str) -> Any:
    """Return a message in our own terms; what is wrong with it beyond that, our own check tells."""
    if not isinstance(message, dict):
        raise wrong(where, "must be an object")
    role, content = message.get("role"), message.get("content")
    role = "system" if role == "developer" else role
    if message.get("tool_calls") or message.get("function_call") or role in ("tool", "function"):
        raise wrong(where, "has a tool call, and there are no tools here")
    if content is None and role == "assistant":
        content = message.get("refusal") or ""
    if isinstance(content, list):
        content = [_part(part, f'{where}["content"][{index}]') for index, part in enumerate(content)]
    return {"role": role, "content": content}


def _part(part: Any, where: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("text", "refusal"):
        return {"type": "text", "content": part.get(kind)}
    inner = part.get(kind) if isinstance(kind, str) else None
    if kind in ("image_url", "input_audio", "file") and isinstance(inner, dict):
        if kind == "image_url":
            return _media("image", inner.get("url"), detail=inner.get("detail"))
        if kind == "input_audio":
            return _media("audio", inner.get("data"), format=inner.get("format"))
        if inner.get("file_data"):
            return _media("document", inner["file_data"], filename=inner.get("filename"))
    raise wrong(where, "is no part that can be honoured; known are text, image_url, input_audio and file")


def _media(kind: str, content: Any, **metadata: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "content": content,
        "metadata": {k: v for k, v in metadata.items() if v is not None},
    }
