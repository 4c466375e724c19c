"""The drivers by short name, as dotted paths; behind a colon is the service of a path that serves several."""

from bupple_engine.wires.services import SERVICES

DRIVERS = {
    "openai": "bupple_engine.wires.openai.OpenAIWire",
    "openai_chat": "bupple_engine.wires.chat_completions.ChatCompletionsWire",
    "claude": "bupple_engine.wires.claude.ClaudeWire",
    "gemini": "bupple_engine.wires.gemini.GeminiWire",
    "local": "bupple_engine.drivers.local.driver.LocalDriver",
    "echo": "bupple_engine.drivers.echo.EchoDriver",
    **{name: f"bupple_engine.wires.compatible.CompatibleWire:{name}" for name in SERVICES},
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
