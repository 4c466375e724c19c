"""What is known of the vendors' models, and ages: when each ends, and what it refuses.

A fact is changed here alone, and with it the day on which all of them were checked. Sources:
https://platform.openai.com/docs/deprecations, https://platform.claude.com/docs/en/about-claude/model-deprecations,
https://ai.google.dev/gemini-api/docs/deprecations, and the lists of ended models in the vendors' own SDKs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

CHECKED = "2026-11-25"  # the services' rows, too


class Models(NamedTuple):
    """What `manage.py check` knows of a vendor's models.

    shutdowns has the last day of a model, "" where it had passed when that was checked; a name stands for its
    dated snapshots too.
    """

    suggested: str
    shutdowns: Mapping[str, str] = MappingProxyType({})


OPENAI = Models(
    "gpt-6.2-sol",
    MappingProxyType(
        {
            **dict.fromkeys(
                (
                    *("gpt-3.5-turbo", "gpt-4", "gpt-4-turbo", "gpt-4.1-nano", "gpt-4o-2024-05-13"),
                    *("o1", "o3-mini", "o4-mini", "gpt-5-chat-latest", "gpt-5.1-chat-latest"),
                    *("gpt-5.2-chat-latest", "gpt-5.3-chat-latest", "gpt-5.1-codex", "chatgpt-4o-latest"),
                ),
                "",
            ),
            **dict.fromkeys(("gpt-5", "gpt-5-mini", "gpt-5-nano", "o3"), "2026-12-11"),
            **dict.fromkeys(("gpt-4.1", "gpt-4.1-mini", "gpt-4o", "gpt-4o-mini"), "2027-01-14"),
            "gpt-audio-mini": "2027-01-20",
            **dict.fromkeys(("gpt-5.1", "gpt-5.4-nano"), "2027-04-01"),
        }
    ),
)
# OpenAI's reasoning models: those that never take sampling options, and those that do at the effort none.
NEVER_SAMPLED = re.compile(r"gpt-6-astra|gpt-6\.1-sol|gpt-6\.2-.*|gpt-5(-mini|-nano)?|o\d.*")
SAMPLED_WITHOUT_EFFORT = re.compile(r"gpt-6-(luna|sol)|gpt-6\.1-terra|gpt-5\.6-.*|gpt-5\.5")

CLAUDE = Models(
    "claude-sonnet-5-5",
    MappingProxyType(
        {
            **dict.fromkeys(
                (
                    *("claude-2", "claude-2.0", "claude-2.1", "claude-instant-1.2"),
                    *("claude-3-opus", "claude-3-sonnet", "claude-3-haiku", "claude-3-5-sonnet"),
                    *("claude-3-5-haiku", "claude-3-7-sonnet", "claude-opus-4", "claude-opus-4-0"),
                    *("claude-sonnet-4", "claude-sonnet-4-0", "claude-opus-4-1", "claude-mythos-preview"),
                ),
                "",
            ),
            "claude-sonnet-4-5": "2026-11-30",
        }
    ),
)
CLAUDE_API_VERSION = "2026-10-21"  # which removed temperature and top_p; the one before has them
CLAUDE_SAMPLING_VERSION = "2023-06-01"
CLAUDE_UNSAMPLED = (4, 7)  # since this version the models take their default of both alone

GEMINI = Models("gemini-3.8-flash")
# The tokens of thinking that an effort is worth before Gemini 3, as Google's OpenAI-compatible API has it.
GEMINI_BUDGETS = MappingProxyType({"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576})
