"""Google's Gemini API, generateContent and streamGenerateContent.

Source: https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import quote

from bupple_engine.answer import Answer, count, usage_of
from bupple_engine.exceptions import (
    AuthenticationError,
    ContentFilteredError,
    EngineError,
    ProviderServerError,
    QuotaExceededError,
)
from bupple_engine.media import Media
from bupple_engine.messages import OPENING, Turn, system_and_rest
from bupple_engine.options import COMMON, Option, Options, string
from bupple_engine.retries import parse_seconds
from bupple_engine.types import FinishReason, Usage
from bupple_engine.wire import Wire

FINISH_REASONS: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    # The answer is longer than one request may bring; asking for the rest would bill the input again.
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "IMAGE_OTHER": "content_filter",
}

# The provider failed to make an answer: what there is of it is not one.
FAILURES = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
        "OTHER",
    }
)


class GeminiWire(Wire):
    """POST {base}/v1beta/models/{model}:generateContent."""

    name = "gemini"
    options: ClassVar = {**COMMON, "project_id": Option(string, per_call=False)}
    media = frozenset({"image", "audio", "document"})
    request_id_headers = ("x-request-id", "x-goog-request-id")
    key_prefixes = ("AIza",)
    suggested_model = "gemini-3.8-flash"

    def base_url(self, options: Options) -> str:
        return "https://generativelanguage.googleapis.com"

    def build_path(self, options: Options, stream: bool) -> str:
        model = quote(str(options.get("model")).removeprefix("models/"), safe="")
        # Without alt=sse the stream is one JSON array.
        return f"/v1beta/models/{model}:" + ("streamGenerateContent?alt=sse" if stream else "generateContent")

    def build_models_path(self, options: Options, page: str) -> str:
        return "/v1beta/models?pageSize=1000" + (f"&pageToken={quote(page, safe='')}" if page else "")

    def build_auth(self, key: str, options: Options) -> dict[str, str]:
        return {"x-goog-api-key": key}

    def build_headers(self, options: Options) -> dict[str, str]:
        return {"x-goog-user-project": options["project_id"]} if options.get("project_id") else {}

    def refused_options(self, options: Options) -> Iterator[tuple[str, str]]:
        if (options.get("temperature") or 0) > 2:
            yield "temperature", "it goes from 0 to 2 here"

    def build_body(self, turns: list[Turn], options: Options, stream: bool) -> dict[str, Any]:
        system, rest = system_and_rest(turns)
        body: dict[str, Any] = {"contents": self.build_contents(rest, options)}
        if parts := self.build_parts(Turn("system", tuple(system), "messages")):
            body["systemInstruction"] = {"parts": parts}
        names = {
            "temperature": "temperature",
            "max_tokens": "maxOutputTokens",
            "top_p": "topP",
            "stop": "stopSequences",
            "seed": "seed",
        }
        config = {field: options[name] for name, field in names.items() if options.get(name) is not None}
        if config:
            body["generationConfig"] = config
        return body

    def build_contents(self, turns: list[Turn], options: Options) -> list[dict[str, Any]]:
        """Return the turns merged until they alternate, the first of them the user's."""
        contents: list[dict[str, Any]] = []
        for turn in turns:
            role = "model" if turn.role == "assistant" else "user"
            echo = self.parse_reasoning_echo(turn)
            # A signature that another model made is refused.
            own = echo and echo.get("model") == options.get("model")
            parts = list(echo["items"]) if echo and own else self.build_parts(turn)
            if not parts:
                continue
            if not contents and role == "model":
                contents.append({"role": "user", "parts": [self.build_text(OPENING, "user")]})
            if contents and contents[-1]["role"] == role:
                contents[-1]["parts"] += parts
            else:
                contents.append({"role": role, "parts": parts})
        return contents

    def build_echo(self, body: dict[str, Any], options: Options) -> dict[str, Any]:
        return {"model": options.get("model")}

    def build_text(self, text: str, role: str) -> dict[str, Any]:
        return {"text": text}

    def build_media(self, media: Media) -> dict[str, Any]:
        # The documentation's own spelling of MP3.
        mime = "audio/mp3" if media.mime_type == "audio/mpeg" else media.mime_type
        if media.url:
            return {"fileData": {"fileUri": media.url} | ({"mimeType": mime} if mime else {})}
        return {"inlineData": {"mimeType": mime, "data": media.data}}

    def parse_reply(self, payload: dict[str, Any], answer: Answer) -> None:
        self.parse_event("message", payload, answer)
        if payload.get("candidates"):
            answer.finish_reason = answer.finish_reason or "unknown"
        answer.ended = True

    def parse_event(self, name: str, payload: dict[str, Any], answer: Answer) -> None:
        answer.add_usage(payload.get("usageMetadata"))
        answer.model = payload.get("modelVersion") or answer.model
        if payload.get("responseId"):
            answer.metadata["id"] = payload["responseId"]
        candidates = payload.get("candidates")
        if not candidates:
            feedback = payload.get("promptFeedback") or {}
            if reason := feedback.get("blockReason"):
                message = feedback.get("blockReasonMessage") or f"The prompt was blocked: {reason}."
                raise ContentFilteredError(message, type=reason)
            return
        candidate = candidates[0]
        if candidate.get("index"):
            return  # a candidate beside the first, which extra may ask for, is another answer
        for part in (candidate.get("content") or {}).get("parts") or []:
            self.parse_part(part, answer)
        if finish := candidate.get("finishReason"):
            self.parse_finish(finish, candidate, answer)

    def parse_part(self, part: dict[str, Any], answer: Answer) -> None:
        """Write a part down; text beside text is one part, as it must be for its way back."""
        text = part.get("text")
        if text:
            (answer.add_reasoning if part.get("thought") else answer.add_text)(text)
        if "functionCall" in part:
            answer.called = True
        last = answer.items[-1] if answer.items else None
        if text and last and last.keys() == part.keys() <= {"text", "thought"}:
            last["text"] += text
        elif text or len(part) > 1 or "text" not in part:
            answer.items.append(dict(part))

    def parse_finish(self, finish: str, candidate: dict[str, Any], answer: Answer) -> None:
        """Set the finish reason, or raise where the provider failed to make an answer."""
        if finish in FAILURES:
            message = candidate.get("finishMessage") or f"The provider ended its answer with {finish}."
            raise ProviderServerError(message, type=finish)
        answer.finish_reason = FINISH_REASONS.get(finish, "unknown")
        if answer.finish_reason == "stop" and answer.called:
            answer.finish_reason = "tool_calls"
        if answer.finish_reason in ("unknown", "content_filter"):
            answer.metadata["provider_finish_reason"] = finish

    def parse_echo(self, answer: Answer) -> dict[str, Any]:
        # Only parts with a signature must come back as they were; summaries of thoughts need not.
        if any("thoughtSignature" in part for part in answer.items):
            return {"items": answer.items}
        return {}

    def parse_models(self, payload: Any) -> tuple[list[str], str]:
        names = [
            str(item["name"]).removeprefix("models/")
            for item in payload["models"]
            if "generateContent" in item.get("supportedGenerationMethods", ["generateContent"])
        ]
        return names, payload.get("nextPageToken") or ""

    def offers(self, model: str, models: list[str]) -> bool | None:
        # A model of one's own (tunedModels/…) is in another list.
        model = model.removeprefix("models/")
        return None if "/" in model else super().offers(model, models)

    def parse_usage(self, usage: dict[str, Any]) -> Usage:
        prompt = count(usage, "promptTokenCount") + count(usage, "toolUsePromptTokenCount")
        completion = count(usage, "candidatesTokenCount") + count(usage, "thoughtsTokenCount")
        return usage_of(usage, prompt, completion, usage.get("totalTokenCount"))

    def parse_error(self, status: int, payload: Any, text: str = "") -> EngineError:
        error = super().parse_error(status, payload, text)
        delay = None
        for detail in _details(payload):
            if detail.get("reason") == "API_KEY_INVALID":
                error = AuthenticationError(error.message, code=error.code, type="API_KEY_INVALID")
            if "PerDay" in str(detail.get("violations")):
                error = QuotaExceededError(error.message, code=error.code, type=error.type)
            # There is no Retry-After header: the delay is in the body, as "37s" or "37.5s".
            delay = parse_seconds(str(detail.get("retryDelay")).removesuffix("s")) or delay
        error.retry_after = delay
        return error


def _details(payload: Any) -> list[dict[str, Any]]:
    """Return the details of an error, which says by them what its status does not."""
    body = payload[0] if isinstance(payload, list) and payload else payload
    error = body.get("error") if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []
