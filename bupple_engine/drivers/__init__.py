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

# The variable that a vendor's own clients read → the driver that takes the key in it; the first of several.
VENDOR_VARIABLES = {
    **{variable: name for name, service in reversed(SERVICES.items()) for variable in service.variables},
    "OPENAI_API_KEY": "openai",
    "ANTHROPIC_API_KEY": "claude",
    "CLAUDE_API_KEY": "claude",
    "GEMINI_API_KEY": "gemini",
    "GOOGLE_API_KEY": "gemini",
}

# What else a vendor or a service is called, for a suggestion.
OTHER_NAMES = {
    "anthropic": "claude",
    "chatgpt": "openai",
    "google": "gemini",
    "gpt": "openai",
    **{other: name for name, service in SERVICES.items() for other in service.known_as},
}
