"""The drivers by short name, as dotted paths; behind a colon is the service of a path that serves several."""

from .services import SERVICES

DRIVERS = {
    "openai": "bupple_engine.drivers.openai.OpenAIWire",
    "openai_chat": "bupple_engine.drivers.chat_completions.ChatCompletionsWire",
    "claude": "bupple_engine.drivers.claude.ClaudeWire",
    "gemini": "bupple_engine.drivers.gemini.GeminiWire",
    "local": "bupple_engine.drivers.local.LocalDriver",
    "echo": "bupple_engine.drivers.echo.EchoDriver",
    **{name: f"bupple_engine.drivers.compatible.CompatibleWire:{name}" for name in SERVICES},
}

# What else a vendor or a service is called, for a suggestion.
OTHER_NAMES = {
    "anthropic": "claude",
    "chatgpt": "openai",
    "google": "gemini",
    "gpt": "openai",
    **{other: name for name, service in SERVICES.items() for other in service.known_as},
}
