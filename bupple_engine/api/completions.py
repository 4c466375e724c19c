"""The dialect of OpenAI's Chat Completions, for clients that speak it.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bupple_engine.calls.seams import CLOCK
from bupple_engine.conf import APISettings
from bupple_engine.exceptions import InvalidRequestError
from bupple_engine.http.dialects import dump, quote
from bupple_engine.http.problems import Problem, ProblemError
from bupple_engine.protocol.usage import NO_USAGE
from bupple_engine.types import Chunk, Reply

from .asked import ChatCall, ChatDialect, check_messages, check_option, in_their_terms, wrong

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

# By these words, or by the code among them, LangChain, litellm, CrewAI and others know an overflow.
CONTEXT_EXCEEDED = (
    "This model's maximum context length is exceeded: the conversation exceeds the context window"
    " (context_length_exceeded). Shorten it."
)


class CompletionsDialect(ChatDialect):
    """Chat completion objects and chunks."""

    def __init__(self, call: ChatCall | None = None) -> None:
        data = call.data if call is not None else {}
        options = data.get("stream_options")
        self._with_usage = isinstance(options, dict) and bool(options.get("include_usage"))
        self._begun = False
        self._model = str(data.get("model"))
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(CLOCK.get().wall())
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
        if not isinstance(data.get("model"), str) or not data["model"]:
            raise wrong("model", f"must be one of {', '.join(known)}")
        if data["model"] not in known:
            raise no_such_model(
                f"There is no model {data['model'][:200]!r} here; there are {', '.join(known)}."
            )
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
        places: dict[str, str] = {}
        for name, option in OPTIONS.items():
            if data.get(name) is not None:
                options[option] = check_option(name, option, data[name], api)
                places[option] = name
        found = [_message(message, f"messages[{index}]", places) for index, message in enumerate(messages)]
        try:
            messages = check_messages(found, api)
        except InvalidRequestError as error:
            raise in_their_terms(error, places) from None
        stream = data.get("stream") is True
        return ChatCall("completions", messages, driver, model, options, stream, data, places=places)

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

    def adapt(self, problem: Problem) -> Problem:
        if problem.type == "ContextLengthExceededError":
            # LangChain looks for it in a 400 alone.
            return replace(problem, status=400, message=CONTEXT_EXCEEDED)
        return problem

    def error_body(self, problem: Problem) -> dict[str, Any]:
        problem = self.adapt(problem)
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
    """Return the counts in the API's own shape, None where the provider sent none."""
    usage = answer["usage"]
    if usage.get("total_tokens") is None:
        return None
    prompt = {"cached_tokens": usage.get("cache_read", 0), "audio_tokens": usage.get("audio_input", 0)}
    if written := usage.get("cache_write"):
        prompt["cache_write_tokens"] = written
    return {
        **{name: usage.get(name) for name in NO_USAGE},
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {
            "reasoning_tokens": usage.get("reasoning", 0),
            "audio_tokens": usage.get("audio_output", 0),
        },
    }


def no_such_model(message: str = "There is no such model.") -> ProblemError:
    """Return the refusal of a model that is not listed."""
    return ProblemError(Problem(404, "model_not_found", message, "model"))


def _message(message: Any, where: str, places: dict[str, str]) -> Any:
    """Return a message in our own terms; what is wrong with it beyond that, our own check tells.

    places takes down which of our addresses is which of theirs.
    """
    if not isinstance(message, dict):
        raise wrong(where, "must be an object")
    role, content = message.get("role"), message.get("content")
    role = "system" if role == "developer" else role
    if message.get("tool_calls") or message.get("function_call") or role in ("tool", "function"):
        raise wrong(where, "has a tool call, and there are no tools here")
    if content is None and role == "assistant":
        content = message.get("refusal") or ""
        places |= {f'{where}["content"]': f'{where}["refusal"]'} if content else {}
    if isinstance(content, list):
        at = [f'{where}["content"][{index}]' for index in range(len(content))]
        content = [_part(*each, places) for each in zip(content, at, strict=True)]
    return {"role": role, "content": content}


# Part → our type, and where its content and its metadata are within it.
PARTS: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "image_url": ("image", "url", {"detail": "detail", "mime_type": "url"}),
    "input_audio": ("audio", "data", {"format": "format", "mime_type": "format"}),
    "file": ("document", "file_data", {"filename": "filename", "mime_type": "filename"}),
}


def _part(part: Any, where: str, places: dict[str, str]) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("text", "refusal"):
        places[f'{where}["content"]'] = f'{where}["{kind}"]'
        return {"type": "text", "content": part.get(kind)}
    inner = part.get(kind) if isinstance(kind, str) and kind in PARTS else None
    if not isinstance(inner, dict) or (kind == "file" and not inner.get("file_data")):
        raise wrong(where, "is no part that can be honoured; known are text, image_url, input_audio and file")
    type_, content, names = PARTS[str(kind)]
    places[f'{where}["content"]'] = f'{where}["{kind}"]["{content}"]'
    places |= {f'{where}["metadata"]["{our}"]': f'{where}["{kind}"]["{its}"]' for our, its in names.items()}
    # A mime type is no field of theirs; what tells it stands in its place in a message of ours.
    metadata = {our: inner[our] for our in names if our != "mime_type" and inner.get(our) is not None}
    return {"type": type_, "content": inner.get(content), "metadata": metadata}
