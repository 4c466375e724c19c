"""Why an answer ended: the words of all the providers, since a gateway passes on those of the API behind it.

They are compared as letters alone: MAX_TOKENS, maxTokens and max-tokens are one word. No I/O.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from bupple_engine.protocol.classification import canonical
from bupple_engine.types import FinishReason

_WORDS: dict[FinishReason, str] = {
    "stop": """
        stop eos eos_token end_turn stop_sequence complete completed finish finished end done stop_token
        stop_str stop_word
    """,
    "length": """
        length max_tokens model_length max_output_tokens max_completion_tokens max_new_tokens max_length
        token_limit token_limit_reached length_limit truncated context_length model_context_window_exceeded
        context_window_exceeded context_length_exceeded length_exceeded max_length_reached
        max_tokens_reached max_tokens_exceeded output_limit error_limit continuation
    """,  # CONTINUATION, Gemini's: asking for the rest would bill the input again
    "tool_calls": "tool_calls tool_call tool_use function_call function_calls",
    "content_filter": """
        content_filter content_filtered safety recitation language blocklist prohibited_content spii
        model_armor image_safety image_prohibited_content image_recitation image_other sensitive
        guardrail_intervened guardrails content_policy content_policy_violation moderation
        content_moderation blocked error_toxic
    """,
    "refusal": "refusal refused",
}
FINISH_REASONS: dict[str, FinishReason] = {
    canonical(word): reason for reason, words in _WORDS.items() for word in words.split()
}

# The provider failed to make an answer: what there is of it is not one.
_FAILURES = frozenset(
    canonical(word)
    for word in (
        *("error", "network_error", "server_error", "internal_error", "malformed_function_call"),
        *("malformed_response", "unexpected_tool_call", "too_many_tool_calls", "missing_thought_signature"),
    )
)
_UNFINISHED = frozenset(
    {
        *("", "null", "none", "nil", "undefined", "unspecified", "finishreasonunspecified"),
        *("blockedreasonunspecified", "blockreasonunspecified"),
    }
)


# What stands before the word where a language writes the name of its enumeration too.
_TYPES = re.compile(r"(?i)\A(finish|stop)_?reason(_?type)?[._:]+")


@lru_cache(256)
def _canonical(word: str) -> str:
    return canonical(_TYPES.sub("", word))


def read_finish(word: Any) -> FinishReason | None:
    """Return our reason for a provider's word, "unknown" for one that is new, None where it says none."""
    if not isinstance(word, str | int):
        raise TypeError
    text = _canonical(str(word))
    return None if text in _UNFINISHED else FINISH_REASONS.get(text, "unknown")


def is_failure(word: Any) -> bool:
    """Return whether a word says that the provider failed to make the answer."""
    return isinstance(word, str) and _canonical(word) in _FAILURES
