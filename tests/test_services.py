"""The services that speak Chat Completions: each row of the table, and what a row can say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command

from bupple_engine import InvalidDriverError, InvalidRequestError, UnsupportedFeatureError, ai
from bupple_engine.checks import check_settings
from bupple_engine.diagnostics.probe import probe
from bupple_engine.drivers import DRIVERS, OTHER_NAMES, VENDOR_VARIABLES
from bupple_engine.wires.chat_completions import LIMITS
from bupple_engine.wires.services import SERVICES
from tests.conftest import Configure
from tests.provider import Answer, Provider
from tests.pure import B64, ENTRY, HELLO, NO_STREAM_OPTIONS, PNG, body, build, frames, wire
from tests.verbs import VERBS, run
from tests.wires import JSON, WIRES

CHAT = WIRES[1]
KEY = ENTRY["API_KEY"]
PDF, MP3 = B64["application/pdf"], B64["audio/mpeg"]

# Where each service is asked, written from its own pages; of those whose URL is the site's own, an example.
COMPLETIONS = {
    "openai_chat": "https://api.openai.com/v1/chat/completions",
    "anthropic_compatible": "https://api.anthropic.com/v1/chat/completions",
    "ark": "https://ark.cn-beijing.volces.com/api/v3/chat/completions",
    "avian": "https://api.avian.io/v1/chat/completions",
    "baseten": "https://inference.baseten.co/v1/chat/completions",
    "cerebras": "https://api.cerebras.ai/v1/chat/completions",
    "chutes": "https://llm.chutes.ai/v1/chat/completions",
    "cohere": "https://api.cohere.ai/compatibility/v1/chat/completions",
    "crusoe": "https://api.inference.crusoecloud.com/v1/chat/completions",
    "dashscope": "https://dashscope-intl.aliyuncs.com/compatible-mode/v1/chat/completions",
    "deepinfra": "https://api.deepinfra.com/v1/openai/chat/completions",
    "deepseek": "https://api.deepseek.com/chat/completions",
    "digitalocean": "https://inference.do-ai.run/v1/chat/completions",
    "docker": "http://localhost:12434/engines/v1/chat/completions",
    "doubleword": "https://api.doubleword.ai/v1/chat/completions",
    "fireworks": "https://api.fireworks.ai/inference/v1/chat/completions",
    "friendli": "https://api.friendli.ai/serverless/v1/chat/completions",
    "gemini_compatible": "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
    "groq": "https://api.groq.com/openai/v1/chat/completions",
    "helicone": "https://ai-gateway.helicone.ai/v1/chat/completions",
    "heroku": "https://us.inference.heroku.com/v1/chat/completions",
    "huggingface": "https://router.huggingface.co/v1/chat/completions",
    "hyperbolic": "https://api.hyperbolic.xyz/v1/chat/completions",
    "inception": "https://api.inceptionlabs.ai/v1/chat/completions",
    "ionet": "https://api.intelligence.io.solutions/api/v1/chat/completions",
    "litellm": "http://localhost:4000/v1/chat/completions",
    "llamacpp": "http://localhost:8080/v1/chat/completions",
    "llamafile": "http://localhost:8080/v1/chat/completions",
    "lmstudio": "http://localhost:1234/v1/chat/completions",
    "minimax": "https://api.minimax.io/v1/chat/completions",
    "mistral": "https://api.mistral.ai/v1/chat/completions",
    "moonshot": "https://api.moonshot.ai/v1/chat/completions",
    "nebius": "https://api.tokenfactory.nebius.com/v1/chat/completions",
    "nova": "https://api.nova.amazon.com/v1/chat/completions",
    "novita": "https://api.novita.ai/openai/chat/completions",
    "nvidia": "https://integrate.api.nvidia.com/v1/chat/completions",
    "ollama": "http://localhost:11434/v1/chat/completions",
    "ollama_cloud": "https://ollama.com/v1/chat/completions",
    "openrouter": "https://openrouter.ai/api/v1/chat/completions",
    "ovhcloud": "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1/chat/completions",
    "perplexity": "https://api.perplexity.ai/chat/completions",
    "poe": "https://api.poe.com/v1/chat/completions",
    "portkey": "https://api.portkey.ai/v1/chat/completions",
    "requesty": "https://router.requesty.ai/v1/chat/completions",
    "sambanova": "https://api.sambanova.ai/v1/chat/completions",
    "sarvam": "https://api.sarvam.ai/v1/chat/completions",
    "scaleway": "https://api.scaleway.ai/v1/chat/completions",
    "sglang": "http://localhost:30000/v1/chat/completions",
    "siliconflow": "https://api.siliconflow.com/v1/chat/completions",
    "stackit": "https://api.openai-compat.model-serving.eu01.onstackit.cloud/v1/chat/completions",
    "stepfun": "https://api.stepfun.com/v1/chat/completions",
    "together": "https://api.together.xyz/v1/chat/completions",
    "upstage": "https://api.upstage.ai/v1/solar/chat/completions",
    "venice": "https://api.venice.ai/api/v1/chat/completions",
    "vercel": "https://ai-gateway.vercel.sh/v1/chat/completions",
    "vllm": "http://localhost:8000/v1/chat/completions",
    "wandb": "https://api.inference.wandb.ai/v1/chat/completions",
    "xai": "https://api.x.ai/v1/chat/completions",
    "xiaomi": "https://api.xiaomimimo.com/v1/chat/completions",
    "zai": "https://api.z.ai/api/paas/v4/chat/completions",
}
BASES = {
    "azure": "https://res.openai.azure.com/openai/v1",
    "azure_inference": "https://res.services.ai.azure.com/models?api-version=2024-05-01-preview",
    "bedrock": "https://bedrock-runtime.eu-north-1.amazonaws.com/openai/v1",
    "bedrock_mantle": "https://bedrock-mantle.eu-north-1.api.aws/v1",
    "cloudflare": "https://api.cloudflare.com/client/v4/accounts/0123/ai/v1",
    "compatible": "https://house.example/v1",
    "databricks": "https://dbc-01.cloud.databricks.com/serving-endpoints",
    "gpustack": "http://house.example/v1",
    "mistralrs": "http://house.example/v1",
    "snowflake": "https://org-house.snowflakecomputing.com/api/v2/cortex/v1",
    "vertex": "https://europe-north1-aiplatform.googleapis.com/v1/projects/house/locations/europe-north1"
    "/endpoints/openapi",
    "watsonx": "https://eu-de.ml.cloud.ibm.com/ml/gateway/v1",
}
MAX_COMPLETION_TOKENS = {
    "azure", "bedrock", "bedrock_mantle", "cerebras", "groq", "minimax", "moonshot", "openai_chat",
    "openrouter", "snowflake", "vllm", "xai",
}  # fmt: skip
UNLISTED = {"cloudflare", "cohere", "databricks", "perplexity", "snowflake", "vertex"}


def test_every_service_is_tested() -> None:
    assert {"openai_chat", *SERVICES} == {*COMPLETIONS, *BASES}
    assert not {*COMPLETIONS} & {*BASES}
    assert {*SERVICES} < {*DRIVERS}
    assert len(SERVICES) > 40


@pytest.mark.parametrize("driver", [*COMPLETIONS, *BASES])
def test_each_service_is_spoken_to_where_it_is(driver: str) -> None:
    entry = {"BASE_URL": BASES[driver]} if driver in BASES else {}
    request = build(driver, entry=entry, stream=True, max_tokens=5)
    base, _, query = BASES.get(driver, "").partition("?")
    expected_url = COMPLETIONS.get(driver) or f"{base}/chat/completions" + (f"?{query}" if query else "")
    assert request.url == expected_url
    carried = {"api-key": KEY} if driver.startswith("azure") else {"Authorization": f"Bearer {KEY}"}
    assert carried.items() <= request.headers.items()
    keyless = build(driver, entry={**entry, "API_KEY": None}).headers
    assert not {"Authorization", "api-key"} & set(keyless)  # no `Bearer ` with nothing behind it
    sent = json.loads(request.body)
    asked = "max_completion_tokens" if driver in MAX_COMPLETION_TOKENS else "max_tokens"
    expected = {"model": "m", "messages": HELLO, "stream": True, asked: 5}
    if driver not in NO_STREAM_OPTIONS:
        expected["stream_options"] = {"include_usage": True}
    if driver == "openai_chat":
        expected["store"] = False
    assert sent == expected


@pytest.mark.parametrize("driver", BASES)
def test_a_url_of_ones_own_is_asked_for_by_its_shape(driver: str, configure: Configure) -> None:
    shape = SERVICES[driver].url
    plain = {"DRIVER": driver, "API_KEY": "0123456789abcdef", "MODEL": "m"}
    configure(it=plain)
    with pytest.raises(ImproperlyConfigured) as caught:
        ai().stream(HELLO)
    assert str(caught.value).endswith(f"""needs 'BASE_URL'; add it. Write "BASE_URL": "{shape}\"""")
    assert [message.hint for message in check_settings() if message.id == "bupple_engine.W005"] == [
        f'Write "BASE_URL": "{shape}"'
    ]
    configure(it={**plain, "BASE_URL": shape})  # as it stands in the hint
    (hint,) = (str(message.hint) for message in check_settings() if message.id == "bupple_engine.W006")
    assert hint == f"It is {shape}, with your own values in place of <>."
    configure(it={**plain, "BASE_URL": BASES[driver].replace("http:", "https:")})
    assert {message.id for message in check_settings()} <= {"bupple_engine.W026"}


def test_the_path_of_a_service_is_not_forgotten(configure: Configure) -> None:
    key = {"API_KEY": "0123456789abcdef", "MODEL": "m"}
    configure(databricks={**key, "BASE_URL": "https://dbc-01.cloud.databricks.com/"})
    (message,) = check_settings()
    assert message.id == "bupple_engine.W010"
    assert "only below /serving-endpoints" in message.msg
    assert message.hint == 'Write "BASE_URL": "https://dbc-01.cloud.databricks.com/serving-endpoints"'
    configure(azure_inference={**key, "BASE_URL": "https://it.services.ai.azure.com"})
    hint = str(check_settings()[0].hint)
    assert hint.endswith('"https://it.services.ai.azure.com/models?api-version=2024-05-01-preview"')
    configure(heroku={**key, "BASE_URL": "https://us.inference.heroku.com"})  # as Heroku gives it
    assert [message.id for message in check_settings()] == ["bupple_engine.W010"]


# What the requests of some services look like


def sent_parts(driver: str, *parts: dict[str, Any]) -> Any:
    return body(driver, [{"role": "user", "content": [*parts]}])["messages"][0]["content"]


@pytest.mark.parametrize(
    ("content", "metadata", "file"),
    [
        ("https://host/a.pdf", {}, {"file_url": {"url": "https://host/a.pdf"}}),
        (PDF, {}, {"file_url": {"url": PDF}}),
        (f"data:application/pdf;base64,{PDF}", {}, {"file_url": {"url": PDF}}),
        (PDF, {"filename": "a.pdf"}, {"file_url": {"url": PDF}, "file_name": "a.pdf"}),
    ],
)
def test_perplexity_takes_a_document_as_url_or_bare_base64(
    content: str, metadata: dict[str, str], file: dict[str, Any]
) -> None:
    document = {"type": "document", "content": content, "metadata": metadata}
    assert sent_parts("perplexity", document) == [{"type": "file_url", **file}]


def test_dashscope_takes_audio_as_a_data_url() -> None:
    (part,) = sent_parts("dashscope", {"type": "audio", "content": MP3})
    assert part["input_audio"] == {"data": f"data:audio/mpeg;base64,{MP3}", "format": "mp3"}
    with pytest.raises(UnsupportedFeatureError, match="dashscope takes no document"):
        sent_parts("dashscope", {"type": "document", "content": PDF})


@pytest.mark.parametrize("driver", ["ollama", "ollama_cloud", "vertex"])
def test_some_take_images_as_base64_alone(driver: str) -> None:
    (part,) = sent_parts(driver, {"type": "image", "content": PNG})
    assert part["image_url"]["url"].endswith(PNG)
    with pytest.raises(UnsupportedFeatureError, match=f"{driver} takes no URL of an image"):
        sent_parts(driver, {"type": "image", "content": "https://host/a.png"})


def test_cloudflare_takes_content_of_one_shape() -> None:
    words = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    answered = [*words, {"role": "assistant", "content": "a"}]
    image = {"role": "user", "content": [{"type": "image", "content": PNG}, {"content": "it"}]}
    sent = body("cloudflare", [*answered, image])["messages"]
    part = f"data:image/png;base64,{PNG}"

    def text(words: str) -> list[dict[str, str]]:
        return [{"type": "text", "text": words}]

    assert [message["content"] for message in sent] == [
        text("s"), text("u"), text("a"), [{"type": "image_url", "image_url": {"url": part}}, *text("it")],
    ]  # fmt: skip
    assert [message["content"] for message in body("cloudflare", words)["messages"]] == ["s", "u"]
    assert body("groq", [*answered, image])["messages"][0]["content"] == "s"


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", ["stop", "seed"])
def test_what_a_service_has_no_field_for_is_refused_before_any_io(
    name: str, verb: str, provider: Provider, configure: Configure
) -> None:
    value = {"stop": ["END"], "seed": 7}[name]
    configure(perplexity={"API_KEY": KEY, "MODEL": "sonar", "BASE_URL": provider.url})
    error = run(ai(), verb, HELLO, **{name: value}).error
    assert type(error) is UnsupportedFeatureError
    assert str(error) == f"{name} can't be sent by perplexity: its API has no such field."
    assert provider.connections == 0
    configure(perplexity={"API_KEY": "pplx-0123456789", "MODEL": "sonar", name.upper(): value})
    assert [message.id for message in check_settings()] == ["bupple_engine.W012"]


@pytest.mark.parametrize(
    ("driver", "model", "option", "refused", "taken"),
    [
        ("minimax", "MiniMax-M3", "temperature", 0, 0.01),
        ("minimax", "MiniMax-M3", "temperature", 1.2, 1),
        ("moonshot", "kimi-k3", "temperature", 0.6, None),
        ("moonshot", "kimi-k3", "top_p", 0.9, None),
        ("moonshot", "moonshot-v1-8k", "temperature", 1.5, 1),
        ("moonshot", "moonshot-v1-8k", "top_p", None, 0.9),
        ("siliconflow", "Qwen/Qwen3-8B", "stop", list("abcde"), list("abcd")),
    ],
)
def test_what_a_service_is_known_to_refuse_is_told_and_sent(
    driver: str, model: str, option: str, refused: Any, taken: Any, configure: Configure
) -> None:
    for value, found in ((refused, ["bupple_engine.W012"]), (taken, [])):
        if value is not None:
            configure(**{driver: {"API_KEY": "0123456789abcdef", "MODEL": model, option.upper(): value}})
            assert [message.id for message in check_settings()] == found
            assert body(driver, model=model, **{option: value})[option] == value


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("driver", "words", "then"),
    [
        ("litellm", "'max_tokens' is not supported. Use 'max_completion_tokens' instead.", True),
        ("vllm", "Unknown field max_completion_tokens; did you mean max_tokens?", True),
        ("litellm", "max_tokens is too large: 5", False),
        ("litellm", "Use max_completion_tokens", False),
    ],
)
def test_a_limit_goes_by_the_field_that_the_provider_names(
    driver: str, words: str, then: bool, verb: str, provider: Provider, configure: Configure
) -> None:
    configure(it={"DRIVER": driver, "MODEL": "m", "BASE_URL": f"{provider.url}/v1", "MAX_RETRIES": 0})
    body = CHAT.stream(["Hi"]) if "stream" in verb else CHAT.reply("Hi")
    provider.answer(Answer(400, JSON, json.dumps({"error": {"message": words}}).encode()), Answer(body=body))
    outcome = run(ai(), verb, HELLO, max_tokens=5)
    assert (outcome.error is None) == then
    field = SERVICES[driver].max_tokens_param
    sent = [{name: request.json.get(name) for name in LIMITS} for request in provider.requests]
    expected = [field, LIMITS[field]] if then else [field]
    assert sent == [{**dict.fromkeys(LIMITS), name: 5} for name in expected]


# Reasoning


@pytest.mark.parametrize(("driver", "field"), [("zai", "reasoning_content"), ("cerebras", "reasoning")])
@pytest.mark.parametrize("verb", VERBS)
def test_reasoning_goes_back_by_its_field(
    driver: str, field: str, verb: str, provider: Provider, configure: Configure
) -> None:
    configure(**{driver: {"API_KEY": KEY, "MODEL": "m", "BASE_URL": provider.url}}, groq={"API_KEY": KEY})
    stream = CHAT.stream(["Hi"], reasoning=["h", "m"])
    whole = CHAT.reply("Hi", reasoning="hm")
    provider.answer(Answer(body=stream if "stream" in verb else whole), repeat=True)
    reply = json.loads(json.dumps(run(ai(driver), verb, HELLO).reply))
    run(ai(driver), verb, [*HELLO, reply, *HELLO])
    answered = {"role": "assistant", "content": "Hi"}
    assert provider.requests[-1].json["messages"][1] == {**answered, field: "hm"}
    for other in ({**reply, "content": "Ho"}, {**reply, "metadata": {**reply["metadata"], "reasoning": 7}}):
        run(ai(driver), verb, [*HELLO, other, *HELLO])  # edited
        assert provider.requests[-1].json["messages"][1] == {**answered, "content": other["content"]}
    assert body("groq", [*HELLO, reply, *HELLO])["messages"][1] == answered


def test_where_reasoning_is_known_to_open_the_text() -> None:
    inline = {name for name in SERVICES if vars(wire(name))["inline_reasoning"]}
    assert inline == {
        "bedrock", "groq", "huggingface", "llamafile", "minimax", "perplexity", "sambanova",
    }  # fmt: skip


# What some services answer


def said(finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}


ITEMS = [{"type": "reasoning", "summary": [{"text": "hm"}]}, {"type": "text", "text": "Hi"}]
# A whole answer, the text and the finish reason that it means, and its reasoning.
ANSWERS: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("cloudflare", said(content={"sky": ["blue"]}), '{"sky":["blue"]}', "stop", ""),
    ("snowflake", said("", content="Hi", function_call={"name": "", "arguments": ""}), "Hi", "stop", ""),
    ("zai", said("sensitive", content="Hi"), "Hi", "content_filter", ""),
    ("zai", said("model_context_window_exceeded", content="Hi"), "Hi", "length", ""),
    ("cohere", said("MAX_TOKENS", content="Hi"), "Hi", "length", ""),
    ("huggingface", said(content="<think>hm</think>Hi"), "Hi", "stop", "hm"),
    ("bedrock", said(content="<reasoning>hm</reasoning>Hi"), "Hi", "stop", "hm"),
    ("nvidia", said(content="<think>hm</think>Hi"), "<think>hm</think>Hi", "stop", ""),
    ("doubleword", said(content="Hi", reasoning="hm", reasoning_content="hm"), "Hi", "stop", "hm"),
    ("databricks", said(content=ITEMS), "Hi", "stop", "hm"),
]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("driver", "answer", "text", "finish", "reasoning"), ANSWERS, ids=[row[0] for row in ANSWERS]
)
def test_what_a_service_answers_is_understood(
    driver: str,
    answer: dict[str, Any],
    text: str,
    finish: str,
    reasoning: str,
    verb: str,
    provider: Provider,
    configure: Configure,
) -> None:
    configure(it={"DRIVER": driver, "API_KEY": KEY, "MODEL": "m", "BASE_URL": f"{provider.url}/v1"})
    body = json.dumps(answer).encode()
    if "stream" in verb:
        (choice,) = answer["choices"]
        delta = {"index": 0, "delta": choice["message"], "finish_reason": None}
        end = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}
        body = frames({"choices": [delta]}, {"choices": [end]}, "[DONE]")
    provider.answer(Answer(body=body))
    outcome = run(ai(), verb, HELLO)
    assert (outcome.reply["content"], outcome.reply["finish_reason"]) == (text, finish)
    assert outcome.reasoning == reasoning


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("driver", "body"),
    [
        ("perplexity", {"error": {"message": "Too much", "type": "too_many_prompt_tokens", "code": 400}}),
        ("cerebras", {"message": "Too much", "type": "invalid_request_error", "param": "x", "code": "y"}),
        ("cloudflare", {"errors": [{"message": "Too much", "code": 5006}], "success": False}),
        ("baseten", {"error": "Too much"}),
        ("vertex", [{"error": {"code": 400, "message": "Too much", "status": "INVALID_ARGUMENT"}}]),
        ("cohere", {"message": "Too much"}),
    ],
)
def test_what_a_service_complains_of_is_told(
    driver: str, body: Any, verb: str, provider: Provider, configure: Configure
) -> None:
    configure(it={"DRIVER": driver, "API_KEY": KEY, "MODEL": "m", "BASE_URL": f"{provider.url}/v1"})
    provider.answer(Answer(400, JSON, json.dumps(body).encode()))
    error = run(ai(), verb, HELLO).error
    assert isinstance(error, InvalidRequestError)
    assert (error.code, error.message) == (400, "Too much")


# The list of models


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_list_or_says_that_it_has_none(
    name: str, provider: Provider, configure: Configure
) -> None:
    configure(it={"DRIVER": name, "API_KEY": KEY, "BASE_URL": f"{provider.url}/v1"})
    provider.answer(Answer(headers=JSON, body=b'{"data": [{"id": "m"}]}'))
    if name in UNLISTED:
        asks: list[Callable[[], object]] = [lambda: ai().models(), lambda: asyncio.run(ai().amodels())]
        for ask in asks:
            with pytest.raises(UnsupportedFeatureError, match=f"{name} has no list of models"):
                ask()
        with pytest.raises(CommandError, match=f"{name} has no list of models: its documentation names them"):
            call_command("bupple_models", "it")
        assert provider.connections == 0
        return
    assert ai().models() == ["m"]
    assert provider.requests[0].path == "/v1/models"
    header = "api-key" if name.startswith("azure") else "authorization"
    assert provider.requests[0].headers[header].endswith(KEY)


def test_a_service_without_a_list_is_knocked_at(provider: Provider, configure: Configure) -> None:
    configure(it={"DRIVER": "perplexity", "API_KEY": KEY, "MODEL": "sonar", "BASE_URL": provider.url})
    provider.answer(Answer(400, JSON, b'{"error": {"message": "messages: field required"}}'))
    verdict = probe("it")
    assert (verdict.ok, verdict.reachable, verdict.key_accepted) == (True, True, None)
    assert "There is no list of models" in verdict.advice
    (knock,) = provider.requests
    assert (knock.method, knock.path, knock.body) == ("POST", "/chat/completions", b"{}")


def test_no_list_is_suggested_where_there_is_none(configure: Configure) -> None:
    configure(perplexity={"API_KEY": "pplx-0123456789"}, cerebras={"API_KEY": "csk-0123456789"})
    none, some = (str(message.hint) for message in check_settings() if message.id == "bupple_engine.W004")
    assert "it has no list of models" in none
    assert "`manage.py bupple_models cerebras` lists" in some


# Keys


@pytest.mark.parametrize(
    ("driver", "prefix"),
    [(name, prefix) for name, service in SERVICES.items() for prefix in service.key_prefixes],
)
def test_the_beginning_of_a_key_is_known(driver: str, prefix: str, configure: Configure) -> None:
    key = f"{prefix}0123456789abcdef"
    entry = {"API_KEY": key, "MODEL": "m", **({"BASE_URL": BASES[driver]} if driver in BASES else {})}
    configure(**{driver: entry})
    assert {message.id for message in check_settings()} <= {"bupple_engine.W026"}
    foreign = "fireworks" if driver == "nvidia" else "nvidia"
    configure(**{foreign: {"API_KEY": key, "MODEL": "m"}})
    (message,) = check_settings()
    assert message.id == "bupple_engine.W008"
    assert repr(prefix) in message.msg
    assert driver in message.msg


def test_a_key_is_looked_at_where_the_url_is_the_sites_own(configure: Configure) -> None:
    configure(databricks={"API_KEY": "hf_0123456789", "MODEL": "m", "BASE_URL": BASES["databricks"]})
    (message,) = check_settings()
    assert (message.id, "as keys of huggingface do" in message.msg) == ("bupple_engine.W008", True)


@pytest.mark.parametrize(
    ("driver", "key", "told"),
    [
        ("vertex", "ya29.0123456789", True),
        ("vertex", lambda: "ya29.0123456789", False),
        ("watsonx", "eyJ0123456789", True),
        ("bedrock", "bedrock-api-key-0123456789", True),
        ("bedrock_mantle", "bedrock-api-key-0123456789", True),
        ("bedrock", "ABSK0123456789", False),
        ("databricks", "eyJ0123456789", True),
        ("databricks", "dapi0123456789", False),
        ("vercel", "eyJ0123456789", True),
        ("vercel", "vck_0123456789", False),
        ("minimax", "eyJ0123456789", False),
    ],
)
def test_a_token_that_expires_wants_a_callable(
    driver: str, key: Any, told: bool, configure: Configure
) -> None:
    entry = {"API_KEY": key, "MODEL": "m", **({"BASE_URL": BASES[driver]} if driver in BASES else {})}
    configure(**{driver: entry})
    messages = check_settings()
    assert [message.id for message in messages] == ["bupple_engine.W026"] * told
    assert all("a callable that returns a fresh one" in str(message.hint) for message in messages)


def test_a_vendors_variable_belongs_to_one_driver() -> None:
    shared = {"ANTHROPIC_API_KEY": "claude", "GEMINI_API_KEY": "gemini", "GOOGLE_API_KEY": "gemini"}
    assert shared.items() <= VENDOR_VARIABLES.items()
    assert VENDOR_VARIABLES["AWS_BEARER_TOKEN_BEDROCK"] == "bedrock"
    for name, service in SERVICES.items():
        for variable in {*service.variables} - {*shared}:
            assert variable in SERVICES[VENDOR_VARIABLES[variable]].variables
        assert service.variables or not service.key or service.expiring_keys or name == "azure_inference"
    assert {*VENDOR_VARIABLES.values()} <= {*DRIVERS}


# Names


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("glm", "zai"), ("Kimi", "moonshot"), ("qwen", "dashscope"), ("hf", "huggingface"),
        ("hugging-face", "huggingface"), ("grok", "xai"), ("vertex-ai", "vertex"), ("aws-bedrock", "bedrock"),
        ("azure_openai", "azure"), ("lm-studio", "lmstudio"), ("io_net", "ionet"), ("nim", "nvidia"),
    ],
)  # fmt: skip
def test_what_else_a_service_is_called_is_understood(called: str, name: str, configure: Configure) -> None:
    configure(it={"DRIVER": called})
    with pytest.raises(InvalidDriverError, match=f"Did you mean '{name}'"):
        ai()


@pytest.mark.parametrize("called", ["github", "tgi", "house-llm"])
def test_a_service_that_is_not_known_is_a_compatible_one(called: str, configure: Configure) -> None:
    configure(it={"DRIVER": called})
    with pytest.raises(InvalidDriverError, match=f'no driver .{called}..*"DRIVER": "compatible", with its'):
        ai()


def test_an_alias_is_suggested_where_it_is_there(configure: Configure) -> None:
    configure(claude={"API_KEY": KEY}, moonshot={"API_KEY": KEY})
    with pytest.raises(InvalidDriverError, match=r"Did you mean 'moonshot'\?"):
        ai("kimi")
    with pytest.raises(InvalidDriverError, match=r"Known are claude, moonshot\."):
        ai("qwen")


def test_no_name_means_two_services() -> None:
    names = [name for service in SERVICES.values() for name in service.known_as]
    assert len(names) == len({*names})
    assert not {*OTHER_NAMES} & {*DRIVERS}
    assert {*OTHER_NAMES.values()} <= {*DRIVERS}
    assert all(name == name.lower().replace("-", "_") for name in OTHER_NAMES)
