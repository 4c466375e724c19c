"""The services that speak Chat Completions: where each is, how it authenticates, where it differs.

Source: each service's own documentation, as gathered in late 2026; `url` None must be set as BASE_URL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from bupple_engine.options import Option, Options, choice
from bupple_engine.request import Request

from .chat_completions import ChatCompletionsWire

ALL_MEDIA = frozenset({"image", "audio", "document"})
IMAGES = frozenset({"image"})
NO_MEDIA: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Service:
    """One service: what it needs and where it differs from Chat Completions as OpenAI speaks it."""

    url: str | None
    key: bool = True  # it must have an API_KEY
    auth: str = "bearer"  # or api-key
    max_tokens_param: str = "max_tokens"
    stream_usage: bool = True
    media: frozenset[str] = IMAGES
    image_urls: bool = True
    seed_param: str = "seed"
    prefix_assistant: bool = False
    store: bool | None = None
    key_prefixes: tuple[str, ...] = ()
    only_v1: bool = False  # a server of one's own, with nothing of this API beside /v1
    models_need_key: bool = True  # whoever has no good key does not get the list of models
    inline_reasoning: bool = False  # the answer may open with <think>…</think>, which is its reasoning
    aliases: bool = False  # it answers to names that are not in the list


SERVICES: dict[str, Service] = {
    "compatible": Service(None, key=False, media=ALL_MEDIA, models_need_key=False, aliases=True),
    "anthropic_compatible": Service("https://api.anthropic.com/v1", key_prefixes=("sk-ant-",)),
    "azure": Service(
        None,
        auth="api-key",
        max_tokens_param="max_completion_tokens",
        media=frozenset({"image", "audio", "document"}),
        aliases=True,  # a deployment has a name of one's own
    ),
    "deepseek": Service("https://api.deepseek.com", media=NO_MEDIA, key_prefixes=("sk-",)),
    "gemini_compatible": Service(
        "https://generativelanguage.googleapis.com/v1beta/openai", key_prefixes=("AIza",)
    ),
    "groq": Service(
        "https://api.groq.com/openai/v1", max_tokens_param="max_completion_tokens", key_prefixes=("gsk_",)
    ),
    "llamacpp": Service(
        "http://localhost:8080/v1",
        key=False,
        media=frozenset({"image", "audio"}),
        models_need_key=False,
        aliases=True,  # it has one model, and answers to any name
    ),
    "lmstudio": Service("http://localhost:1234/v1", key=False, only_v1=True, models_need_key=False),
    "mistral": Service(
        "https://api.mistral.ai/v1", stream_usage=False, seed_param="random_seed", prefix_assistant=True
    ),
    "ollama": Service(
        "http://localhost:11434/v1", key=False, only_v1=True, image_urls=False, models_need_key=False
    ),
    "openrouter": Service(
        "https://openrouter.ai/api/v1",
        max_tokens_param="max_completion_tokens",
        media=ALL_MEDIA,
        models_need_key=False,
        aliases=True,  # variants, such as …:online
        key_prefixes=("sk-or-",),
    ),
    "together": Service("https://api.together.xyz/v1", key_prefixes=("tgp_v1_",)),
    "vllm": Service(
        "http://localhost:8000/v1",
        key=False,
        only_v1=True,
        max_tokens_param="max_completion_tokens",
        media=frozenset({"image", "audio"}),
    ),
    "xai": Service(
        "https://api.x.ai/v1",
        max_tokens_param="max_completion_tokens",
        aliases=True,
        key_prefixes=("xai-",),
    ),
}


class CompatibleWire(ChatCompletionsWire):
    """Chat Completions as one of SERVICES speaks it."""

    name = "compatible"
    options: ClassVar = {
        **{k: v for k, v in ChatCompletionsWire.options.items() if not k.endswith("_id")},
        "auth": Option(choice("bearer", "api-key", "none"), per_call=False),
    }
    # Many servers' chat templates take one system message, first, and turns that alternate.
    one_system_message = True
    suggested_model = ""
    shutdowns = MappingProxyType({})

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.service = service = SERVICES[name]
        self.required = (
            *(("api_key",) if service.key else ()),
            "model",
            *(() if service.url else ("base_url",)),
        )
        self.max_tokens_param = service.max_tokens_param
        self.stream_usage = service.stream_usage
        self.media = service.media
        self.image_urls = service.image_urls
        self.seed_param = service.seed_param
        self.prefix_assistant = service.prefix_assistant
        self.store = service.store
        self.key_prefixes = service.key_prefixes
        self.only_v1 = service.only_v1
        self.models_need_key = service.models_need_key
        self.inline_reasoning = service.inline_reasoning

    def refused_options(self, options: Options) -> Iterable[tuple[str, str]]:
        return ()  # what the models behind a service take is not known here

    def base_url(self, options: Options) -> str:
        return self.service.url or ""

    def build_models_request(self, options: Options, page: str) -> Request:
        request = super().build_models_request(options, page)
        # Azure's older URLs name the deployment in the path; the list is the resource's.
        request.url = re.sub(r"/openai/deployments/[^/?]+", "/openai", request.url)
        return request

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
