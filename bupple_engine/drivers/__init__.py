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

# The variable that a vendor's own library and documentation name → the driver that takes the key in it.
VENDOR_VARIABLES = {
    "OPENAI_API_KEY": "openai",
    "ANTHROPIC_API_KEY": "claude",
    "CLAUDE_API_KEY": "claude",
    "GEMINI_API_KEY": "gemini",
    "GOOGLE_API_KEY": "gemini",
    "AZURE_OPENAI_API_KEY": "azure",
    "DEEPSEEK_API_KEY": "deepseek",
    "GROQ_API_KEY": "groq",
    "MISTRAL_API_KEY": "mistral",
    "OPENROUTER_API_KEY": "openrouter",
    "TOGETHER_API_KEY": "together",
    "XAI_API_KEY": "xai",
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
