"""The dialect of the Vercel AI SDK's useChat: UI messages in, the UI message stream out.

Source: https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, ClassVar

from bupple_engine.conf import APISettings
from bupple_engine.exceptions import InvalidRequestError
from bupple_engine.http.dialects import dump, quote
from bupple_engine.http.problems import Problem
from bupple_engine.types import Chunk, Usage

from .asked import (
    ChatCall,
    ChatDialect,
    check_messages,
    choose_driver,
    in_their_terms,
    media_type,
    option_places,
    read_options,
    wrong,
)

FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool-calls",
    "content_filter": "content-filter",
    "refusal": "content-filter",
    "unknown": "other",
}


class UIDialect(ChatDialect):
    """UI message chunks; a block for each run of text or of reasoning."""

    headers: ClassVar[Mapping[str, str]] = {"x-vercel-ai-ui-message-stream": "v1"}

    def __init__(self, call: ChatCall | None = None) -> None:
        self._begun = False
        self._block: str | None = None
        self._blocks = 0

    @staticmethod
    def read(data: Mapping[str, Any], api: APISettings) -> ChatCall:
        """Return what the body asks for: the whole history, the last message alone, or a prompt.

        A prompt is useCompletion's; it stands for one message of the user.
        """
        places: dict[str, str] = {}
        messages: list[Any] = []
        if "prompt" in data and "messages" not in data and "message" not in data:
            if not isinstance(data["prompt"], str):
                raise wrong("prompt", "must be a string")
            messages.append({"role": "user", "content": data["prompt"]})
            places |= dict.fromkeys(("messages[0]", 'messages[0]["content"]'), "prompt")
        elif "message" in data and "messages" not in data:
            _add_message(messages, data["message"], "message", places)
        elif isinstance(data.get("messages"), list):
            for index, item in enumerate(data["messages"]):
                _add_message(messages, item, f"messages[{index}]", places)
        else:
            raise wrong("messages", "must be a list")
        driver, model = choose_driver(data, api)
        options = read_options(data, api)
        try:
            messages = check_messages(messages, api)
        except InvalidRequestError as error:
            raise in_their_terms(error, places) from None
        places |= option_places(data)
        return ChatCall("ui", messages, driver, model, options, stream=True, data=data, places=places)

    def encode(self, chunk: Chunk) -> bytes:
        pieces = []
        if not self._begun:
            self._begun = True
            pieces += [
                _event(type="start", messageId=f"msg_{secrets.token_hex(12)}"),
                _event(type="start-step"),
            ]
        if reasoning := (chunk.get("metadata") or {}).get("reasoning") if not chunk["done"] else None:
            pieces += self._delta("reasoning", reasoning)
        if chunk["content"]:
            pieces += self._delta("text", chunk["content"])
        if chunk["done"]:
            reason = FINISH_REASONS.get(chunk["finish_reason"], "other")
            usage = _usage(chunk["usage"])
            told = {"messageMetadata": {"usage": usage}} if usage else {}
            pieces += [*self._close(), _event(type="finish-step")]
            pieces.append(_event(type="finish", finishReason=reason, **told))
            pieces.append("data: [DONE]\n\n")
        return "".join(pieces).encode("utf-8", "replace")

    def encode_error(self, problem: Problem) -> bytes:
        # A body that just ends is shown as a success, whence the error; and a message that never began has no
        # block to close.
        text = f"{problem.message} ({problem.id})" if problem.id else problem.message
        pieces = [*self._close(), _event(type="error", errorText=text), "data: [DONE]\n\n"]
        return "".join(pieces).encode()

    def _delta(self, kind: str, text: str) -> list[str]:
        pieces = []
        if self._block is None or not self._block.startswith(kind):
            pieces += self._close()
            self._blocks += 1
            self._block = f"{kind}-{self._blocks}"
            pieces.append(_event(type=f"{kind}-start", id=self._block))
        pieces.append(f'data: {{"type":"{kind}-delta","id":"{self._block}","delta":{quote(text)}}}\n\n')
        return pieces

    def _close(self) -> list[str]:
        block, self._block = self._block, None
        return [_event(type=f"{block.partition('-')[0]}-end", id=block)] if block else []


def _event(**part: Any) -> str:
    return f"data: {dump(part)}\n\n"


def _usage(usage: Usage) -> dict[str, Any] | None:
    """Return the counts as the SDK's LanguageModelUsage, None where the provider sent none."""
    prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
    if prompt is None or completion is None:
        return None
    read, written = usage.get("cache_read", 0), usage.get("cache_write", 0)
    reasoning = usage.get("reasoning", 0)
    return {
        "inputTokens": prompt,
        "inputTokenDetails": {
            "noCacheTokens": prompt - read - written,
            "cacheReadTokens": read,
            "cacheWriteTokens": written,
        },
        "outputTokens": completion,
        "outputTokenDetails": {"textTokens": completion - reasoning, "reasoningTokens": reasoning},
        "totalTokens": usage["total_tokens"],
    }


def _add_message(messages: list[Any], message: Any, where: str, places: dict[str, str]) -> None:
    """Add a UI message in our own terms, unless there is nothing in it that a model reads.

    places takes down which of our addresses is which of theirs.
    """
    if not isinstance(message, dict):
        raise wrong(where, "must be an object")
    parts = message.get("parts")
    if not isinstance(parts, list):
        raise wrong(f'{where}["parts"]', "must be a list")
    ours = f"messages[{len(messages)}]"
    found: list[dict[str, Any]] = []
    for index, part in enumerate(parts):
        at = f'{where}["parts"][{index}]'
        if not isinstance(part, dict):
            raise wrong(at, "must be an object")
        if part.get("type") not in ("text", "file"):
            continue
        part_at = f'{ours}["content"][{len(found)}]'
        places |= dict.fromkeys((part_at, f'{part_at}["content"]'), at)
        places |= {f'{part_at}["metadata"]["mime_type"]': f'{at}["mediaType"]'}
        places |= {f'{part_at}["metadata"]["filename"]': f'{at}["filename"]'}
        found.append(_file(part, at) if part["type"] == "file" else _text(part, at))
    if found or message.get("role") != "assistant":
        places |= {ours: where, f'{ours}["content"]': f'{where}["parts"]'}
        messages.append({"role": message.get("role"), "content": found or ""})


def _text(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(part.get("text"), str):
        raise wrong(f'{where}["text"]', "must be a string")
    return {"type": "text", "content": part["text"]}


def _file(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    mime = part.get("mediaType")
    if not isinstance(mime, str) or not isinstance(part.get("url"), str):
        raise wrong(where, "must have a mediaType and a url")
    metadata = {"mime_type": mime}
    if part.get("filename") is not None:
        metadata["filename"] = part["filename"]
    return {
        "type": media_type(mime),
        "content": part["url"],
        "metadata": metadata,
    }
