"""The drivers by short name, as dotted paths; behind a colon is the service of a path that serves several."""

DRIVERS = {
    "openai": "bupple_engine.drivers.openai.OpenAIWire",
    "openai_chat": "bupple_engine.drivers.chat_completions.ChatCompletionsWire",
    "claude": "bupple_engine.drivers.claude.ClaudeWire",
    "gemini": "bupple_engine.drivers.gemini.GeminiWire",
    "local": "bupple_engine.drivers.local.LocalDriver",
    "echo": "bupple_engine.drivers.echo.EchoDriver",
    **{
        name: f"bupple_engine.drivers.compatible.CompatibleWire:{name}"
        for name in (
            "compatible",
            "anthropic_compatible",
            "azure",
            "deepseek",
            "gemini_compatible",
            "groq",
            "llamacpp",
            "lmstudio",
            "mistral",
            "ollama",
            "openrouter",
            "together",
            "vllm",
            "xai",
        )
    },
}

# What else a vendor or a service is called, for a suggestion.
OTHER_NAMES = {
    "anthropic": "claude",
    "chatgpt": "openai",
    "google": "gemini",
    "gpt": "openai",
    "grok": "xai",
    "azure_openai": "azure",
    "llama_cpp": "llamacpp",
    "lm_studio": "lmstudio",
}
