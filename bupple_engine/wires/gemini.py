"""Google's Gemini API, generateContent and streamGenerateContent.

Source: https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import quote

from bupple_engine.exceptions import ContentFilteredError, ProviderServerError
from bupple_engine.protocol.answer import Answer
from bupple_engine.protocol.media import Media
from bupple_engine.protocol.messages import OPENING, Turn, system_and_rest
from bupple_engine.protocol.options import COMMON, Option, Options
from bupple_engine.protocol.reports import reports_error, says_something
from bupple_engine.protocol.request import Request
from bupple_engine.protocol.usage import count, usage_of
from bupple_engine.protocol.values import string
from bupple_engine.types import Usage

from .base import Wire
from .facts import GEMINI, GEMINI_BUDGETS
from .finishes import is_failure, read_finish
from .listing import models_in, name_of


class GeminiWire(Wire):
    """POST {base}/v1beta/models/{model}:generateContent."""

    name = "gemini"
    options: ClassVar = {**COMMON, "project_id": Option(string, per_call=False, env=str)}
    media = frozenset({"image", "audio", "document"})
    request_id_headers = ("x-request-id", "x-goog-request-id")
    other_drivers = ("compatible", "gemini_compatible")
    key_prefixes = ("AIza",)
    suggested_model = GEMINI.suggested
    counts: ClassVar = {
        "prompt_tokens": ("promptTokenCount",),
        "completion_tokens": ("candidatesTokenCount",),
        "total_tokens": ("totalTokenCount",),
        "cache_read": ("cachedContentTokenCount",),
        "reasoning": ("thoughtsTokenCount",),
    }

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
        if effort := options.get("reasoning_effort"):
            config["thinkingConfig"] = self.build_thinking(effort, options)
        if config:
            body["generationConfig"] = config
        return body

    def build_thinking(self, effort: str, options: Options) -> dict[str, Any]:
        """Return what says how much to think: a level, or a budget of tokens to the models before 3."""
        if re.match(r"(models/)?gemini-[12]\b", str(options.get("model"))):
            if effort not in GEMINI_BUDGETS:
                raise self.unsupported_option(
                    "reasoning_effort",
                    f"models before Gemini 3 think none, low, medium or high, not {effort}",
                )
            return {"thinkingBudget": GEMINI_BUDGETS[effort]}
        if effort == "none":
            raise self.unsupported_option("reasoning_effort", "models since Gemini 3 always think")
        return {"thinkingLevel": effort.upper()}

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
        # Instructions alone, which the API does not take.
        return contents or [{"role": "user", "parts": [self.build_text(OPENING, "user")]}]

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
        if not answer.is_blank:
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
            if (reason := feedback.get("blockReason")) and read_finish(reason):
                message = feedback.get("blockReasonMessage") or f"The prompt was blocked: {reason}."
                raise ContentFilteredError(message, type=reason)
            if reports_error(payload):
                raise self.parse_error(0, payload)
            return
        candidate = candidates[0]
        if not candidate or candidate.get("index"):
            # A candidate beside the first, which extra may ask for, is another answer.
            candidate = next((c for c in candidates if c and str(c.get("index") or 0) == "0"), None) or {}
        content = candidate.get("content") or {}
        parts = content if isinstance(content, str) else content.get("parts") or []
        for part in [parts] if isinstance(parts, str | dict) else parts:
            self.parse_part({"text": part} if isinstance(part, str) else part or {}, answer)
        if (error := candidate.get("error")) and says_something(error):
            raise self.parse_error(0, {"error": error})
        if (finish := candidate.get("finishReason")) and read_finish(finish):
            self.parse_finish(finish, candidate, answer)

    def parse_part(self, part: dict[str, Any], answer: Answer) -> None:
        """Write a part down; text beside text is one part, as it must be for its way back."""
        text = part.get("text")
        if not text and isinstance(part.get("thought"), str):
            part = {**part, "text": (text := part["thought"]), "thought": True}  # a gateway's short form
        if text or text == 0:
            if part.get("thought"):
                answer.add_reasoning(text)
                text = answer.reasoning[-1]
            else:
                answer.add_text(text)
                text = answer.texts[-1]
        if "functionCall" in part and (part["functionCall"] or {}).get("name"):
            answer.called = True
        last = answer.items[-1] if answer.items else None
        if text and last and last.keys() == part.keys() <= {"text", "thought"}:
            last["text"] += text
        elif text:
            answer.items.append({**part, "text": text})
        elif part and (len(part) > 1 or "text" not in part):
            answer.items.append(dict(part))

    def parse_finish(self, finish: str, candidate: dict[str, Any], answer: Answer) -> None:
        """Set the finish reason, or raise where the provider failed to make an answer."""
        if is_failure(finish) or finish == "OTHER":
            message = candidate.get("finishMessage") or f"The provider ended its answer with {finish}."
            raise ProviderServerError(message, type=finish)
        answer.finish_reason = read_finish(finish)
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
            name_of(item).removeprefix("models/")
            for item in models_in(payload)
            if isinstance(item, str)
            or "generateContent" in item.get("supportedGenerationMethods", ["generateContent"])
        ]
        return names, (isinstance(payload, dict) and payload.get("nextPageToken")) or ""

    def offers(self, model: str, models: list[str]) -> bool | None:
        # A model of one's own (tunedModels/…) is in another list.
        model = model.removeprefix("models/")
        return None if "/" in model else super().offers(model, models)

    def parse_usage(self, answer: Answer, request: Request) -> Usage:
        raw = answer.usage or {}
        counted = self.places.read(raw)
        if tool_use := count(raw, "toolUsePromptTokenCount"):
            counted["prompt_tokens"] = (counted["prompt_tokens"] or 0) + tool_use
        counted["audio_input"] = _audio(raw, "promptTokensDetails", "toolUsePromptTokensDetails")
        counted["audio_output"] = _audio(raw, "candidatesTokensDetails")
        said = (counted["prompt_tokens"] or 0) + (counted["completion_tokens"] or 0)
        return usage_of(
            raw,
            counted,
            reasoning_beside=counted["total_tokens"] != said,  # some gateways count thoughts in
            tier=raw.get("serviceTier"),
        )


def _audio(usage: dict[str, Any], *names: str) -> int:
    """Return the tokens of audio in lists of counts by modality."""
    lists = (usage[name] for name in names if isinstance(usage.get(name), list))
    items = (item for each in lists for item in each if isinstance(item, dict))
    return sum(count(item, "tokenCount") or 0 for item in items if item.get("modality") == "AUDIO")
