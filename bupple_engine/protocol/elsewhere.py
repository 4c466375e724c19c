"""The hints for unknown names: what other libraries call things, and what to write here instead."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

# Option → what it is called elsewhere. An entry has it in capitals, a call in lower case.
RENAMED: Mapping[str, tuple[str, ...]] = {
    "api_key": ("key", "apikey", "token", "access_token", "auth_token", "secret", "secret_key", "password"),
    "base_url": (
        *("api_base", "api_url", "url", "host", "hostname", "endpoint", "azure_endpoint", "server"),
        *("location", "base", "port"),
    ),
    "driver": (
        *("backend", "engine", "class", "type", "provider", "vendor", "service", "alias", "using"),
        *("custom_llm_provider", "model_provider"),
    ),
    "extra": ("extra_body", "extra_params", "additional_kwargs", "model_kwargs"),
    "headers": ("extra_headers", "default_headers"),
    "max_retries": ("retries", "num_retries", "max_attempts", "retry"),
    "max_tokens": (
        *("max_completion_tokens", "max_output_tokens", "max_new_tokens", "max_tokens_to_sample"),
        *("maxtokens", "num_predict", "token_limit"),
    ),
    "model": (
        "model_name",
        "model_id",
        "deployment",
        "deployment_name",
        "azure_deployment",
        "models",
        "name",
    ),
    "organization_id": ("organization", "org", "organisation", "org_id"),
    "project_id": ("project",),
    "proxy": ("proxies", "http_proxy", "https_proxy"),
    "reasoning_effort": ("reasoning", "thinking", "effort", "thinking_level", "thinking_budget"),
    "stop": ("stop_sequences", "stop_words"),
    "timeout": ("request_timeout", "read_timeout", "connect_timeout", "time_limit"),
    "ca_file": ("verify", "ca_bundle", "ssl_verify", "ca_certs"),
}
_OURS = {theirs: ours for ours, names in RENAMED.items() for theirs in names}

_TEXT_FIRST = 'The text is the first argument: ai().send("Hello!")'
_SYSTEM = 'It goes with each call: ai().send("Hello!", system="Answer in one sentence.")'
_NO_TOOLS = "Tools can't be called yet."
_CONVERSATION = "A conversation is the list of its messages: append each reply, and send the list again."
_MEDIA = 'Media are parts of a message: {"type": "image", "content": "https://…"} in its list of content.'
_ASYNC = "Call asend() or astream(), and await or iterate over what they return."

# A name of something that is no option here → what to do.
_ABSENT: Mapping[str, str] = {
    **dict.fromkeys(
        ("prompt", "input", "inputs", "message", "content", "contents", "text", "question", "query"),
        _TEXT_FIRST,
    ),
    **dict.fromkeys(
        (
            *("system", "system_prompt", "system_message", "system_instruction", "instructions"),
            *("developer", "preamble", "persona"),
        ),
        _SYSTEM,
    ),
    **dict.fromkeys(
        (
            *("tools", "tool_choice", "functions", "function_call", "parallel_tool_calls", "tool_config"),
            *("mcp_servers", "max_tool_calls"),
        ),
        _NO_TOOLS,
    ),
    **dict.fromkeys(("stream", "streaming"), "Call stream() or astream() for an answer word by word."),
    **dict.fromkeys(("asynchronous", "is_async", "use_async"), _ASYNC),
    **dict.fromkeys(
        ("n", "best_of", "candidate_count", "num_generations", "num_completions"),
        "A call gives one answer: call again for another.",
    ),
    **dict.fromkeys(
        (
            *("history", "memory", "conversation", "conversation_id", "session_id", "thread_id"),
            *("previous_response_id", "chat_history"),
        ),
        _CONVERSATION,
    ),
    **dict.fromkeys(("image", "images", "image_url", "file", "files", "attachments", "audio"), _MEDIA),
    **dict.fromkeys(
        ("options", "params", "kwargs", "config", "settings", "generation_config", "default_options"),
        'Each option stands by itself: temperature=0.2 in a call, "TEMPERATURE": 0.2 in an entry.',
    ),
}
# A field of a provider's, which extra takes as it stands → an example of its value.
_FIELDS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("response_format", "response_model", "response_schema", "schema", "json_schema", "json_mode"),
            *("output_schema", "output_format", "text_format", "output_type", "format"),
        ),
        '"response_format": {"type": "json_object"}',
    ),
    **dict.fromkeys(
        (
            *("frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias", "logprobs"),
            *(
                "top_logprobs",
                "top_k",
                "min_p",
                "user",
                "metadata",
                "service_tier",
                "store",
                "stream_options",
            ),
            *("reasoning", "reasoning_effort", "thinking", "verbosity", "modalities", "prediction"),
            *("safety_settings", "prompt_cache_key", "safety_identifier", "web_search_options"),
        ),
        "",
    ),
}

# Role → what it is called elsewhere.
_ROLES = {
    **dict.fromkeys(("human", "customer", "input"), "user"),
    **dict.fromkeys(("ai", "bot", "model", "chatbot", "gpt", "claude", "output"), "assistant"),
    **dict.fromkeys(("developer", "instructions", "platform"), "system"),
}

# What a part of a content is elsewhere → what it is here.
_TEXT_PART = '{"type": "text", "content": "…"}'
_IMAGE_PART = '{"type": "image", "content": "https://…"}, or base64 as its content'
_AUDIO_PART = '{"type": "audio", "content": "<base64>", "metadata": {"format": "wav"}}'
_DOCUMENT_PART = (
    '{"type": "document", "content": "<base64>", "metadata": {"filename": "report.pdf"}}, '
    "or an https:// URL as its content"
)
_MEDIA_PART = (
    '{"type": "image", "content": "https://…"}, or base64 as its content with '
    '"metadata": {"mime_type": "image/png"}'
)
_PARTS = {
    **dict.fromkeys(("text", "input_text", "output_text", "refusal"), _TEXT_PART),
    **dict.fromkeys(("image_url", "input_image", "image", "images", "image_base64"), _IMAGE_PART),
    **dict.fromkeys(("input_audio", "audio", "audio_url"), _AUDIO_PART),
    **dict.fromkeys(
        ("file", "input_file", "document", "file_data", "file_url", "file_id", "pdf"), _DOCUMENT_PART
    ),
    **dict.fromkeys(
        (
            *("source", "inline_data", "inlineData", "fileData", "url", "data", "base64", "media_type"),
            *("mime_type", "mimeType", "bytes", "path"),
        ),
        _MEDIA_PART,
    ),
    **dict.fromkeys(
        ("tool_use", "tool_result", "tool_call", "function_call", "function_response"), _NO_TOOLS
    ),
}
_IN_METADATA = ("detail", "caption", "filename", "mime_type", "media_type", "format", "transcript")
_MESSAGE = '{"role": "user", "content": "Hello!"}'
_MESSAGE_KEYS = {
    **dict.fromkeys(("text", "message", "body", "prompt", "parts"), f"Write {_MESSAGE}"),
    **dict.fromkeys(("from", "sender", "author", "speaker"), f"Write {_MESSAGE}"),
    **dict.fromkeys(("tool_calls", "tool_call_id", "function_call"), _NO_TOOLS),
    **dict.fromkeys(("images", "image", "image_url", "audio", "files", "attachments"), _MEDIA),
    **{role: f'Write {{"role": "{role}", "content": "…"}}' for role in ("system", "user", "assistant")},
    "name": "Say who speaks in the content.",
}


# What a call is elsewhere, as a method or as what leads to one.
VERBS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("ask", "call", "chat", "complete", "completion", "completions", "create", "execute", "invoke"),
            *("generate_content", "messages", "predict", "prompt", "query", "responses"),
        ),
        "send",
    ),
    **dict.fromkeys(("achat", "acomplete", "acreate", "ainvoke", "apredict", "arun"), "asend"),
    **dict.fromkeys(("iter", "stream_chat", "stream_complete"), "stream"),
}


def of_call(name: str, known: Collection[str], of_entry: Collection[str]) -> str:
    """Return what to write instead of an unknown option of a call, "" where there is no hint.

    known are a call's options, of_entry all that the driver has.
    """
    word = name.lower()
    ours = _OURS.get(word)
    if "driver" in (word, ours):
        return 'The driver is the argument of ai(): ai("claude")'
    if word in _ABSENT:
        return _ABSENT[word]
    if ours in known:
        return f"It is called {ours} here."
    if ours is not None and ours in of_entry:
        return f'It belongs in the entry in settings: "{ours.upper()}": …'
    if word in _FIELDS:
        return f"A field of the provider's own goes in extra: extra={{{_field(word)}}}"
    return ""


def of_entry(key: str, known: Collection[str]) -> str:
    """Return what to write instead of an unknown key of an entry, "" where there is no hint."""
    word = key.lower()
    ours = _OURS.get(word, word)
    if word != ours and (ours == "driver" or ours in known):
        return f'It is called "{ours.upper()}" here.'
    if word in _ABSENT:
        return _ABSENT[word]
    if word in _FIELDS:
        return f'A field of the provider\'s own goes in EXTRA: "EXTRA": {{{_field(word)}}}'
    return ""


def of_message_key(key: str) -> str:
    """Return what to write instead of an unknown key of a message, "" where there is no hint."""
    return _MESSAGE_KEYS.get(key, "")


def of_part(word: str) -> str:
    """Return what to write instead of an unknown key or type of a part, "" where there is no hint."""
    hint = _PARTS.get(word, "")
    if word in _IN_METADATA:
        return f'It belongs in "metadata": {{"{word}": …}}'
    return hint if hint in ("", _NO_TOOLS) else f"Write {hint}"


def of_role(role: str) -> str:
    """Return what to write instead of an unknown role, "" where there is no hint."""
    word = role.strip().lower()
    if word in ("tool", "function"):
        return _NO_TOOLS
    ours = _ROLES.get(word, word if word in _ROLES.values() else "")
    return f"Write {ours!r}." if ours else ""


def of_item(value: object) -> str:
    """Return what to write where a message is no dict."""
    text = value if isinstance(value, str) and len(value) <= 40 else "Hello!"
    return f'write {{"role": "user", "content": {_quoted(text)}}}'


def of_data(value: object) -> str:
    """Return what to write where content is no string: bytes, a path, a file."""
    name = type(value).__name__
    if isinstance(value, bytes | bytearray | memoryview):
        return "media go as base64: base64.b64encode(data).decode()"
    if hasattr(value, "__fspath__"):
        return "a file goes as base64: base64.b64encode(path.read_bytes()).decode()"
    if hasattr(value, "read"):
        return "a file goes as base64: base64.b64encode(file.read()).decode()"
    if isinstance(value, Mapping):
        return "put the part into a list: [{…}]"
    if value is None:
        return 'write "" where nothing was said'
    return "" if name in ("int", "float", "bool") else "write its text"


# What looks like the name of a file: a letter or a dot in front, an extension behind.
_PATH = re.compile(r"(file://|[A-Za-z]:[\\/]|[~.]{0,2}[\\/])?[^\n:]{1,200}\.[A-Za-z][A-Za-z0-9]{1,4}")


def of_path(text: str) -> str:
    """Return what to write where media is given by the name of a file, "" where a text looks like none."""
    if not _PATH.fullmatch(text):
        return ""
    return "read the file: base64.b64encode(Path(…).read_bytes()).decode()"


def _field(word: str) -> str:
    return _FIELDS[word] or f'"{word}": …'


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
