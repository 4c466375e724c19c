"""The hints for a name that is no alias, and for a URL where nobody answers: what is meant by it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

# What a vendor calls its models → its driver; a service's models may have any name.
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
    """Return the driver whose vendor names its models like this, "" where there is none."""
    name = model.strip().lower().rpartition("/")[2]
    return next((driver for pattern, driver in _MODELS if pattern.fullmatch(name)), "")


def of_alias(alias: str, drivers: Collection[str], models: Mapping[str, object]) -> str:
    """Return what to write instead of an unknown alias, "" where there is no hint.

    drivers are the known aliases; models has the MODEL of each that sets one.
    """
    if alias.strip().lower() in ("", "default"):
        return "ai() without an argument takes the default driver."
    if re.search(r"\s", alias.strip()) or alias.endswith(("!", "?")):
        return 'A message goes with the call: ai().send("Hello!"), or `manage.py bupple_chat -m "Hello!"`'
    owner = next((name for name, model in models.items() if model == alias), "")
    if owner:
        return f"That is the MODEL of the driver {owner!r}: name that one."
    # Gateways and other libraries name both at once: provider/model or provider:model.
    vendor, _, model = alias.replace(":", "/", 1).partition("/")
    if not model or vendor not in (*drivers, *_VENDORS):
        vendor, model = "", alias
    driver = vendor if vendor in drivers else driver_of(model)
    if not driver:
        return ""
    if driver in drivers:
        return f"Name the driver, {driver!r}; the model is an option: ai({driver!r}, model={model!r})"
    return f'A model belongs in an entry: "DRIVERS": {{{driver!r}: {{"MODEL": {model!r}, …}}}}'


# The driver of a local model server → the server's name, and what starts it.
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
    """Return what to check when nobody accepts a connection to a URL; own: the entry sets BASE_URL."""
    if "through the proxy" in words:
        return "Is the proxy running, and is it the right one?"
    if not own and driver not in _SERVERS:
        return "Can this machine reach it, or is a PROXY needed?"
    if re.search(r"UNEXPECTED_EOF|WRONG_VERSION_NUMBER|record layer", words):
        return "Does it speak TLS there? If not, BASE_URL begins with http://."
    if not re.search(r"refused|Connect call failed", words):
        return "Is BASE_URL right?"
    name, command = _SERVERS.get(driver, ("the server", ""))
    asked = f"Is {name} running there?{command and f' Its command is `{command}`.'}"
    if re.match(r"https?://(localhost|127\.|\[::1\])", url):
        asked += " In a container, this host is the container itself."
    return asked
