"""The dialect of the Vercel AI SDK's useChat: UI messages in, the UI message stream out.

Source: protocols, "Vercel AI SDK UI message stream"; https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, ClassVar

from bupple_engine.http.dialects import Dialect, dump, quote
from bupple_engine.http.problems import Problem
from bupple_engine.types import Chunk, Reply

from .calls import ChatCall, wrong

FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool-calls",
    "content_filter": "content-filter",
    "refusal": "content-filter",
    "unknown": "other",
}


class UIDialect(Dialect):
    """UI message chunks; a block for each run of text or of reasoning."""

    headers: ClassVar[Mapping[str, str]] = {"x-vercel-ai-ui-message-stream": "v1"}

    def __init__(self, call: ChatCall | None = None) -> None:
        self._begun = False
        self._block: str | None = None
        self._blocks = 0

    @staticmethod
    def read(data: Mapping[str, Any]) -> ChatCall:
        """Return what the body asks for: the whole history, or the last message alone."""
        if "message" in data and "messages" not in data:
            items, where = [data["message"]], ["message"]
        elif isinstance(data.get("messages"), list):
            items = data["messages"]
            where = [f"messages[{index}]" for index in range(len(items))]
        else:
            raise wrong("messages", "must be a list")
        for name in ("driver", "model"):
            if data.get(name) is not None and not isinstance(data[name], str):
                raise wrong(name, "must be a string")
        options = data.get("options")
        if not isinstance(options, dict | None):
            raise wrong("options", "must be an object")
        found = [_message(item, at) for item, at in zip(items, where, strict=True)]
        return ChatCall(
            "ui",
            [message for message in found if message],
            driver=data.get("driver"),
            model=data.get("model"),
            options=dict(options or {}),
            stream=True,
            data=data,
        )

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
            pieces += [*self._close(), _event(type="finish-step")]
            pieces.append(_event(type="finish", finishReason=FINISH_REASONS[chunk["finish_reason"]]))
            pieces.append("data: [DONE]\n\n")
        return "".join(pieces).encode("utf-8", "replace")

    def encode_error(self, problem: Problem) -> bytes:
        # A body that just ends is shown as a success, whence the error; and a message that never began has no
        # block to close.
        text = f"{problem.message} ({problem.id})" if problem.id else problem.message
        pieces = [*self._close(), _event(type="error", errorText=text), "data: [DONE]\n\n"]
        return "".join(pieces).encode()

    def reply_body(self, reply: Reply) -> dict[str, Any]:
        """There is none: this dialect only streams."""
        raise NotImplementedError

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


def _event(**part: str) -> str:
    return f"data: {dump(part)}\n\n"


def _message(message: Any, where: str) -> Any:
    """Return a UI message in our own terms, None where there is nothing in it that a model reads."""
    if not isinstance(message, dict):
        raise wrong(where, "must be an object")
    parts = message.get("parts")
    if not isinstance(parts, list):
        raise wrong(f'{where}["parts"]', "must be a list")
    found = []
    for index, part in enumerate(parts):
        at = f'{where}["parts"][{index}]'
        if not isinstance(part, dict):
            raise wrong(at, "must be an object")
        if part.get("type") == "text":
            found.append({"type": "text", "content": part.get("text")})
        elif part.get("type") == "file":
            found.append(_file(part, at))
    if not found and message.get("role") == "assistant":
        return None
    return {"role": message.get("role"), "content": found or ""}


def _file(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    mime = part.get("mediaType")
    if not isinstance(mime, str) or not isinstance(part.get("url"), str):
        raise wrong(where, "must have a mediaType and a url")
    kind = mime.partition("/")[0]
    metadata = {"mime_type": mime}
    if part.get("filename") is not None:
        metadata["filename"] = part["filename"]
    return {
        "type": kind if kind in ("image", "audio") else "document",
        "content": part["url"],
        "metadata": metadata,
    }
