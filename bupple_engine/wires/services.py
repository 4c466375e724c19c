"""The services that speak Chat Completions, a row each: where it is, how it authenticates, where it differs.

These facts age. They come from the services' own documentation, from recorded traffic and from the public
clients of each, as they stood on the day in facts.py; what none of these shows is left at the default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from bupple_engine.protocol.usage import ReportedCost

ALL_MEDIA = frozenset({"image", "audio", "document"})
IMAGES = frozenset({"image"})
NO_MEDIA: frozenset[str] = frozenset()
# A caller's own key has the vendor bill the tokens, and the gateway its fee.
GATEWAY_COST = ReportedCost("cost", 1, "is_byok", "cost_details.upstream_inference_cost")


class Refusal(NamedTuple):
    """An option that a service is known to refuse, and why; it is sent all the same."""

    option: str
    reason: str
    accepts: Callable[[Any], bool] = lambda value: False
    models: str = ""  # those whose names begin with it


@dataclass(frozen=True, slots=True)
class Service:
    """One service: what it needs, and where it differs from Chat Completions as most servers speak it.

    The defaults are for a service of which no more is known than its URL and its key.
    """

    url: str  # where <names> stand in it, they are the site's own, and BASE_URL must be set
    variables: tuple[str, ...] = ()  # that the vendor's own clients read the key from
    key: bool = True  # it must have an API_KEY
    key_prefixes: tuple[str, ...] = ()
    expiring_keys: tuple[str, ...] = ()  # what keys begin with that last for hours; "" is every key
    auth: str = "bearer"  # or api-key
    known_as: tuple[str, ...] = ()  # what else it is called, for a suggestion

    max_tokens_param: str = "max_tokens"
    stream_usage: bool = True
    seed_param: str = "seed"
    missing_options: tuple[str, ...] = ()  # that its API has no field for
    refusals: tuple[Refusal, ...] = ()
    media: frozenset[str] = ALL_MEDIA
    image_urls: bool = True
    audio_data_url: bool = False
    file_url: bool = False
    one_content_shape: bool = False
    prefix_param: str = ""
    reasoning_param: str = ""
    inline_reasoning: bool = False

    cost: ReportedCost | None = None  # it tells what an answer cost
    reasoning_beside: tuple[str, ...] = ()  # models with these prefixes: reasoning is not in the completion

    models: bool = True  # it has a list of models
    models_need_key: bool = False  # whoever has no good key does not get the list
    aliases: bool = True  # it may answer to names that are not in the list
    needs_path: bool = False  # a BASE_URL without a path can't be right

    @property
    def needs_base_url(self) -> bool:
        """Whether its URL is the site's own."""
        return "<" in self.url


SERVICES: dict[str, Service] = {
    "compatible": Service("https://<host>/v1", key=False),
    "anthropic_compatible": Service(
        "https://api.anthropic.com/v1",
        ("ANTHROPIC_API_KEY",),
        key_prefixes=("sk-ant-",),
        media=IMAGES,
        models_need_key=True,
        aliases=False,
    ),
    "ark": Service(
        "https://ark.cn-beijing.volces.com/api/v3",
        ("ARK_API_KEY",),
        known_as=("volcengine", "byteplus", "doubao"),
        media=IMAGES,
        models_need_key=True,
    ),
    "avian": Service("https://api.avian.io/v1", ("AVIAN_API_KEY",), cost=GATEWAY_COST),
    "azure": Service(
        "https://<resource>.openai.azure.com/openai/v1",
        ("AZURE_OPENAI_API_KEY",),
        auth="api-key",
        known_as=("azure_openai",),
        max_tokens_param="max_completion_tokens",
        models_need_key=True,  # and aliases: a deployment has a name of one's own
        needs_path=True,
    ),
    "azure_inference": Service(
        "https://<resource>.services.ai.azure.com/models?api-version=2024-05-01-preview",
        auth="api-key",
        known_as=("azure_ai", "azure_foundry", "foundry"),
        media=IMAGES,
        needs_path=True,
    ),
    "baseten": Service("https://inference.baseten.co/v1", ("BASETEN_API_KEY",)),
    "bedrock": Service(
        "https://bedrock-runtime.<region>.amazonaws.com/openai/v1",
        ("AWS_BEARER_TOKEN_BEDROCK",),
        key_prefixes=("ABSK", "bedrock-api-key-"),
        expiring_keys=("bedrock-api-key-",),  # within twelve hours
        known_as=("aws", "aws_bedrock", "amazon", "amazon_bedrock"),
        max_tokens_param="max_completion_tokens",
        inline_reasoning=True,
        needs_path=True,
    ),
    "bedrock_mantle": Service(
        "https://bedrock-mantle.<region>.api.aws/v1",
        ("AWS_BEARER_TOKEN_BEDROCK",),
        key_prefixes=("ABSK", "bedrock-api-key-"),
        expiring_keys=("bedrock-api-key-",),
        known_as=("mantle",),
        max_tokens_param="max_completion_tokens",
        needs_path=True,
    ),
    "cerebras": Service(
        "https://api.cerebras.ai/v1",
        ("CEREBRAS_API_KEY",),
        key_prefixes=("csk-",),
        max_tokens_param="max_completion_tokens",
        media=NO_MEDIA,
        reasoning_param="reasoning",
    ),
    "chutes": Service("https://llm.chutes.ai/v1", ("CHUTES_API_KEY",)),
    "cloudflare": Service(
        "https://api.cloudflare.com/client/v4/accounts/<account>/ai/v1",
        ("CLOUDFLARE_API_KEY", "CLOUDFLARE_API_TOKEN"),
        known_as=("workers_ai", "cloudflare_workers_ai"),
        one_content_shape=True,
        models=False,
        needs_path=True,
    ),
    "cohere": Service(
        "https://api.cohere.ai/compatibility/v1",
        ("COHERE_API_KEY", "CO_API_KEY"),
        stream_usage=False,
        models=False,
    ),
    "crusoe": Service("https://api.inference.crusoecloud.com/v1", ("CRUSOE_API_KEY",)),
    "dashscope": Service(
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        ("DASHSCOPE_API_KEY",),
        key_prefixes=("sk-",),
        known_as=("qwen", "alibaba", "aliyun", "bailian", "model_studio"),
        media=frozenset({"image", "audio"}),
        audio_data_url=True,
        models_need_key=True,
    ),
    "databricks": Service(
        "https://<workspace-host>/serving-endpoints",
        ("DATABRICKS_TOKEN",),
        key_prefixes=("dapi",),
        expiring_keys=("eyJ",),  # a token of OAuth; a personal one lasts
        stream_usage=False,  # it comes in every chunk
        media=IMAGES,
        models=False,
        needs_path=True,
    ),
    "deepinfra": Service("https://api.deepinfra.com/v1/openai", ("DEEPINFRA_API_KEY",), media=IMAGES),
    "deepseek": Service(
        "https://api.deepseek.com",
        ("DEEPSEEK_API_KEY",),
        key_prefixes=("sk-",),
        known_as=("deep_seek",),
        media=NO_MEDIA,
        models_need_key=True,
        aliases=False,
    ),
    "digitalocean": Service("https://inference.do-ai.run/v1", ("DIGITALOCEAN_ACCESS_TOKEN",)),
    "docker": Service(
        "http://localhost:12434/engines/v1",
        key=False,
        known_as=("docker_model_runner", "model_runner"),
        media=frozenset({"image", "audio"}),
        needs_path=True,
    ),
    "doubleword": Service("https://api.doubleword.ai/v1", ("DOUBLEWORD_API_KEY",)),
    "fireworks": Service(
        "https://api.fireworks.ai/inference/v1",
        ("FIREWORKS_API_KEY",),
        key_prefixes=("fw_",),
        known_as=("fireworks_ai",),
    ),
    "friendli": Service(
        "https://api.friendli.ai/serverless/v1", ("FRIENDLI_TOKEN",), known_as=("friendliai",)
    ),
    "gemini_compatible": Service(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        key_prefixes=("AIza",),
        media=IMAGES,
        models_need_key=True,
        aliases=False,
    ),
    "gpustack": Service("http://<host>/v1", ("GPUSTACK_API_KEY",), key=False, media=IMAGES, needs_path=True),
    "groq": Service(
        "https://api.groq.com/openai/v1",
        ("GROQ_API_KEY",),
        key_prefixes=("gsk_",),
        max_tokens_param="max_completion_tokens",
        media=IMAGES,
        inline_reasoning=True,
        models_need_key=True,
        aliases=False,
    ),
    "helicone": Service("https://ai-gateway.helicone.ai/v1", ("HELICONE_API_KEY",)),
    # What Heroku gives as INFERENCE_URL has no path.
    "heroku": Service("https://us.inference.heroku.com/v1", ("HEROKU_INFERENCE_KEY",), needs_path=True),
    "huggingface": Service(
        "https://router.huggingface.co/v1",
        ("HF_TOKEN",),
        key_prefixes=("hf_",),
        known_as=("hf", "hugging_face"),
        media=IMAGES,
        inline_reasoning=True,
    ),
    "hyperbolic": Service("https://api.hyperbolic.xyz/v1", ("HYPERBOLIC_API_KEY",)),
    "inception": Service("https://api.inceptionlabs.ai/v1", ("INCEPTION_API_KEY",), known_as=("mercury",)),
    "ionet": Service(
        "https://api.intelligence.io.solutions/api/v1",
        ("IOINTELLIGENCE_API_KEY",),
        known_as=("io_net", "iointelligence"),
    ),
    "litellm": Service("http://localhost:4000/v1", key=False, known_as=("litellm_proxy",)),
    "llamacpp": Service(
        "http://localhost:8080/v1",
        key=False,
        known_as=("llama_cpp", "llama_server"),
        media=frozenset({"image", "audio"}),  # and aliases: it has one model, and answers to any name
    ),
    "llamafile": Service("http://localhost:8080/v1", key=False, media=NO_MEDIA, inline_reasoning=True),
    "lmstudio": Service(
        "http://localhost:1234/v1",
        key=False,
        known_as=("lm_studio",),
        media=IMAGES,
        aliases=False,
        needs_path=True,
    ),
    "minimax": Service(
        "https://api.minimax.io/v1",
        ("MINIMAX_API_KEY",),
        max_tokens_param="max_completion_tokens",
        refusals=(Refusal("temperature", "it must be above 0, and 1 at most", lambda value: 0 < value <= 1),),
        inline_reasoning=True,
    ),
    "mistral": Service(
        "https://api.mistral.ai/v1",
        ("MISTRAL_API_KEY",),
        known_as=("mistralai", "mistral_ai"),
        stream_usage=False,
        seed_param="random_seed",
        media=IMAGES,
        prefix_param="prefix",
        models_need_key=True,
        aliases=False,
    ),
    "mistralrs": Service("http://<host>/v1", key=False, known_as=("mistral_rs",), needs_path=True),
    "moonshot": Service(
        "https://api.moonshot.ai/v1",
        ("MOONSHOT_API_KEY",),
        known_as=("kimi", "moonshotai", "moonshot_ai"),
        max_tokens_param="max_completion_tokens",
        refusals=(
            Refusal("temperature", "kimi models have a fixed one", models="kimi-"),
            Refusal("top_p", "kimi models have a fixed one", models="kimi-"),
            Refusal("temperature", "it goes from 0 to 1", lambda value: value <= 1, models="moonshot-"),
        ),
        media=IMAGES,
        prefix_param="partial",
        models_need_key=True,
    ),
    "nebius": Service(
        "https://api.tokenfactory.nebius.com/v1",
        ("NEBIUS_API_KEY",),
        known_as=("nebius_ai", "token_factory"),
        media=IMAGES,
    ),
    "nova": Service("https://api.nova.amazon.com/v1", ("NOVA_API_KEY",), known_as=("amazon_nova",)),
    "novita": Service("https://api.novita.ai/openai", ("NOVITA_API_KEY",), known_as=("novita_ai",)),
    "nvidia": Service(
        "https://integrate.api.nvidia.com/v1",
        ("NVIDIA_API_KEY",),
        key_prefixes=("nvapi-",),
        known_as=("nim", "nvidia_nim"),
    ),
    "ollama": Service(
        "http://localhost:11434/v1",
        key=False,
        media=IMAGES,
        image_urls=False,
        aliases=False,
        needs_path=True,
    ),
    "ollama_cloud": Service("https://ollama.com/v1", ("OLLAMA_API_KEY",), media=IMAGES, image_urls=False),
    "openrouter": Service(
        "https://openrouter.ai/api/v1",
        ("OPENROUTER_API_KEY",),
        key_prefixes=("sk-or-",),
        known_as=("open_router",),
        max_tokens_param="max_completion_tokens",
        cost=GATEWAY_COST,  # and aliases: variants, such as …:online
    ),
    "ovhcloud": Service(
        "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1",
        ("OVHCLOUD_API_KEY", "OVH_AI_ENDPOINTS_ACCESS_TOKEN"),
        key=False,  # but a caller without one is soon throttled
        known_as=("ovh",),
    ),
    "perplexity": Service(
        "https://api.perplexity.ai",
        ("PERPLEXITY_API_KEY",),
        key_prefixes=("pplx-",),
        known_as=("pplx", "sonar"),
        stream_usage=False,  # it comes in every chunk
        missing_options=("stop", "seed"),
        media=frozenset({"image", "document"}),
        file_url=True,
        inline_reasoning=True,
        cost=ReportedCost("cost.total_cost"),
        models=False,
    ),
    "poe": Service("https://api.poe.com/v1", ("POE_API_KEY",)),
    "portkey": Service("https://api.portkey.ai/v1", ("PORTKEY_API_KEY",)),
    "requesty": Service("https://router.requesty.ai/v1", ("REQUESTY_API_KEY",)),
    "sambanova": Service(
        "https://api.sambanova.ai/v1", ("SAMBANOVA_API_KEY",), media=IMAGES, inline_reasoning=True
    ),
    "sarvam": Service("https://api.sarvam.ai/v1", ("SARVAM_API_KEY",)),
    "scaleway": Service(
        "https://api.scaleway.ai/v1",
        ("SCW_SECRET_KEY",),
        known_as=("scw",),
        media=frozenset({"image", "audio"}),
        models_need_key=True,
    ),
    "sglang": Service("http://localhost:30000/v1", key=False, media=IMAGES, needs_path=True),
    "siliconflow": Service(
        "https://api.siliconflow.com/v1",
        ("SILICONFLOW_API_KEY", "SILICONFLOW_CN_API_KEY"),
        known_as=("silicon_flow",),
        refusals=(Refusal("stop", "the API takes four at most", lambda value: len(value) <= 4),),
        models_need_key=True,
    ),
    "snowflake": Service(
        "https://<account>.snowflakecomputing.com/api/v2/cortex/v1",
        ("SNOWFLAKE_CORTEX_PAT",),
        known_as=("cortex", "snowflake_cortex"),
        max_tokens_param="max_completion_tokens",
        models=False,
        needs_path=True,
    ),
    "stackit": Service(
        "https://api.openai-compat.model-serving.eu01.onstackit.cloud/v1", ("STACKIT_API_KEY",)
    ),
    "stepfun": Service("https://api.stepfun.com/v1", ("STEPFUN_API_KEY",), known_as=("step",)),
    "together": Service(
        "https://api.together.xyz/v1",
        ("TOGETHER_API_KEY",),
        key_prefixes=("tgp_v1_",),
        known_as=("together_ai", "togetherai"),
        media=IMAGES,
        models_need_key=True,
        aliases=False,
    ),
    "upstage": Service("https://api.upstage.ai/v1/solar", ("UPSTAGE_API_KEY",), known_as=("solar",)),
    "venice": Service("https://api.venice.ai/api/v1", ("VENICE_API_KEY",), known_as=("venice_ai",)),
    "vercel": Service(
        "https://ai-gateway.vercel.sh/v1",
        ("AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN"),
        expiring_keys=("eyJ",),  # a token of OIDC
        known_as=("ai_gateway", "vercel_ai_gateway"),
        media=frozenset({"image", "document"}),
        cost=GATEWAY_COST,
        reasoning_beside=("google/",),  # nor in the total, from which xAI's can be seen
    ),
    "vertex": Service(
        "https://<location>-aiplatform.googleapis.com/v1/projects/<project>/locations/<location>"
        "/endpoints/openapi",
        expiring_keys=("",),  # an access token of OAuth, for an hour
        known_as=("vertexai", "vertex_ai", "google_vertex"),
        media=IMAGES,
        image_urls=False,
        models=False,
        needs_path=True,
    ),
    "vllm": Service(
        "http://localhost:8000/v1",
        key=False,
        max_tokens_param="max_completion_tokens",
        media=frozenset({"image", "audio"}),
        models_need_key=True,
        aliases=False,
        needs_path=True,
    ),
    "wandb": Service(
        "https://api.inference.wandb.ai/v1", ("WANDB_API_KEY",), known_as=("weights_and_biases",)
    ),
    "watsonx": Service(
        "https://<region>.ml.cloud.ibm.com/ml/gateway/v1",
        expiring_keys=("",),  # a token of IAM, for an hour
        known_as=("ibm", "watson"),
        needs_path=True,
    ),
    "xai": Service(
        "https://api.x.ai/v1",
        ("XAI_API_KEY",),
        key_prefixes=("xai-",),
        known_as=("grok", "x_ai"),
        max_tokens_param="max_completion_tokens",
        media=IMAGES,
        cost=ReportedCost("cost_in_usd_ticks", 10**10),
        models_need_key=True,
    ),
    "xiaomi": Service("https://api.xiaomimimo.com/v1", ("XIAOMI_API_KEY",), known_as=("mimo",)),
    "zai": Service(
        "https://api.z.ai/api/paas/v4",
        ("ZAI_API_KEY", "ZHIPU_API_KEY"),
        known_as=("glm", "z_ai", "zhipu", "zhipuai", "bigmodel"),
        stream_usage=False,  # it comes unasked
        media=IMAGES,
        reasoning_param="reasoning_content",
    ),
}


@cache
def _by_host() -> dict[str | None, Service]:
    """Return the services that differ in the usage which they report, by their hosts."""
    differing = (service for service in SERVICES.values() if service.cost or service.reasoning_beside)
    return {urlsplit(service.url).hostname: service for service in differing}


def service_at(url: str) -> Service | None:
    """Return the service at a URL, where it is one that differs in the usage which it reports."""
    return _by_host().get(urlsplit(url).hostname)
