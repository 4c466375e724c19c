"""Whose driver, model or server is meant by a name that is no alias, or by a URL where nobody answers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

# How the models of a vendor are called → its driver; a service's models may have any name.
_MODELS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(gpt|chatgpt)-.+|o\d(-.+)?"), "openai"),
    (re.compile(r"claude[-.].+"), "claude"),
    (re.compile(r"gemini-.+"), "gemini"),
    (re.compile(r"grok-.+"), "xai"),
    (re.compile(r"deepseek-.+"), "deepseek"),
    (re.compile(r"(mistral|codestral|magistral|ministral|pixtral)-.+"), "mistral"),
    (re.compile(r"(llama|qwen|phi|gemma|smollm|mistral)[-:.\d].*"), "ollama"),
)


_VENDORS = ("anthropic", "openai", "google", "gemini", "xai", "x-ai", "mistralai", "deepseek")


def driver_of(model: str) -> str:
    """Return the driver whose vendor calls its models like this, "" where a name is like no model's."""
    name = model.strip().lower().rpartition("/")[2]
    return next((driver for pattern, driver in _MODELS if pattern.fullmatch(name)), "")


def of_alias(alias: str, drivers: Collection[str], models: Mapping[str, object]) -> str:
    """Return what to write where ai() is given what is no alias, "" where that can't be told.

    drivers are the aliases that there are, models the MODEL of each that has one.
    """
    if alias.strip().lower() in ("", "default"):
        return "ai() without an argument takes the default driver."
    if re.search(r"\s", alias.strip()) or alias.endswith(("!", "?")):
        return 'A message goes with the call: ai().send("Hello!"), or `manage.py bupple_chat -m "Hello!"`'
    owner = next((name for name, model in models.items() if model == alias), "")
    if owner:
        return f"That is the MODEL of the driver {owner!r}: name that one."
    # provider/model and provider:model are how gateways and other libraries name both at once.
    vendor, _, model = alias.replace(":", "/", 1).partition("/")
    if not model or vendor not in (*drivers, *_VENDORS):
        vendor, model = "", alias
    driver = vendor if vendor in drivers else driver_of(model)
    if not driver:
        return ""
    if driver in drivers:
        return f"Name the driver, {driver!r}; a model goes by an option: ai({driver!r}, model={model!r})"
    return f'A model goes into an entry: "DRIVERS": {{{driver!r}: {{"MODEL": {model!r}, …}}}}'


# A model server of one's own → what it is called, and what starts it.
_SERVERS = {
    "docker": ("Docker Model Runner", "docker model status"),
    "litellm": ("the LiteLLM proxy", "litellm --port 4000"),
    "llamacpp": ("llama.cpp's server", "llama-server -m model.gguf"),
    "llamafile": ("the llamafile", "./model.llamafile --server"),
    "lmstudio": ("LM Studio's server", "lms server start"),
    "ollama": ("Ollama", "ollama serve"),
    "sglang": ("SGLang", "python -m sglang.launch_server …"),
    "vllm": ("vLLM", "vllm serve …"),
}


def of_silence(driver: str, url: str, words: str, own: bool) -> str:
    """Return what to look at where nobody takes a connection to a URL; own says that BASE_URL is set."""
    if "through the proxy" in words:
        return "Does the proxy run, and is it the right one?"
    if not own and driver not in _SERVERS:
        return "Is there a way from this machine to it, or is a PROXY needed?"
    if re.search(r"UNEXPECTED_EOF|WRONG_VERSION_NUMBER|record layer", words):
        return "Does it speak TLS there? If not, BASE_URL begins with http://."
    if not re.search(r"refused|Connect call failed", words):
        return "Is BASE_URL right?"
    name, command = _SERVERS.get(driver, ("the server", ""))
    asked = f"Does {name} run there?{command and f' Its command is `{command}`.'}"
    if re.match(r"https?://(localhost|127\.|\[::1\])", url):
        asked += " In a container, this host is the container itself."
    return asked
