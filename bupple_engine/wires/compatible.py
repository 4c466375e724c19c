"""Chat Completions as each of the services in services.py speaks it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import MappingProxyType
from typing import ClassVar

from bupple_engine.exceptions import UnsupportedFeatureError
from bupple_engine.protocol.options import Option, Options
from bupple_engine.protocol.request import Request
from bupple_engine.protocol.values import choice

from .chat_completions import ChatCompletionsWire
from .services import SERVICES, Service

# What a service's row says in the wire's own words.
SHARED = (
    "key_prefixes",
    "expiring_keys",
    "max_tokens_param",
    "stream_usage",
    "seed_param",
    "media",
    "image_urls",
    "audio_data_url",
    "file_url",
    "one_content_shape",
    "prefix_param",
    "reasoning_param",
    "inline_reasoning",
    "models_need_key",
    "needs_path",
)


class CompatibleWire(ChatCompletionsWire):
    """Chat Completions as one of SERVICES speaks it."""

    name = "compatible"
    options: ClassVar = {
        **{k: v for k, v in ChatCompletionsWire.options.items() if not k.endswith("_id")},
        "auth": Option(choice("bearer", "api-key", "none"), per_call=False),
    }
    # Many servers' chat templates take one system message, first, and turns that alternate.
    one_system_message = True
    store = None
    suggested_model = ""
    shutdowns = MappingProxyType({})

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.service = service = SERVICES[name]
        self.required = (
            *(("api_key",) if service.key else ()),
            "model",
            *(("base_url",) if service.needs_base_url else ()),
        )
        for attribute in SHARED:
            setattr(self, attribute, getattr(service, attribute))

    def check_options(self, options: Options) -> None:
        super().check_options(options)
        for name in self.service.missing_options:
            if options.get(name) is not None:
                raise self.unsupported_option(name, "its API has no such field")

    def refused_options(self, options: Options) -> Iterable[tuple[str, str]]:
        # What the models behind a service take is known of few.
        model = str(options.get("model"))
        for refusal in self.service.refusals:
            value = options.get(refusal.option)
            if value is not None and model.startswith(refusal.models) and not refusal.accepts(value):
                yield refusal.option, refusal.reason

    def find_service(self, request: Request) -> Service | None:
        # A row stays what it is behind a proxy; "compatible" is whatever its BASE_URL leads to.
        return super().find_service(request) if self.driver == "compatible" else self.service

    def base_url(self, options: Options) -> str:
        return self.service.url

    def build_models_path(self, options: Options, page: str) -> str:
        if not self.service.models:
            raise UnsupportedFeatureError(
                f"{self.driver} has no list of models: its documentation names them."
            )
        return super().build_models_path(options, page)

    def build_models_request(self, options: Options, page: str) -> Request:
        request = super().build_models_request(options, page)
        # Azure's older URLs name the deployment in the path; the list is the resource's.
        return request.replace(url=re.sub(r"/openai/deployments/[^/?]+", "/openai", request.url))

    def offers(self, model: str, models: list[str]) -> bool | None:
        # Ollama's list has the tag that it takes where none is given, Gemini's the whole path.
        if {model, f"{model}:latest", f"models/{model}"} & {*models}:
            return True
        return None if self.service.aliases else False

    def build_headers(self, options: Options) -> dict[str, str]:
        return {}

    def build_auth(self, key: str, options: Options) -> dict[str, str]:
        style = options.get("auth") or self.service.auth
        if style == "none":
            return {}
        return {"api-key": key} if style == "api-key" else super().build_auth(key, options)
