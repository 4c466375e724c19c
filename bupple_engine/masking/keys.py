"""What a vendor's key looks like, wherever somebody has pasted one: in MODEL, in an alias, in a URL."""

from __future__ import annotations

import re
from typing import Any

# What vendors' keys begin with: of the drivers (a test holds them to it), of services that `compatible` may
# be pointed at, and of the clouds and hosts whose tokens lie in the same .env.
PREFIXES = (
    "sk-", "sk_", "pk-", "AIza", "AQ.", "ABSK", "AKIA", "ASIA", "bedrock-api-key-", "bce-v3/", "cpk_", "csk-",
    "dapi", "dop_v1_", "flp_", "fw_", "ghp_", "github_pat_", "glpat-", "gsk_", "hf_", "inf-", "jina_",
    "lsv2_", "nvapi-", "pplx-", "psk-", "r8_", "tgp_v1_", "tvly-", "up_", "vck_", "xai-", "ya29.", "eyJ",
)  # fmt: skip
_SHORTEST = min(map(len, PREFIXES)) + 12
_TOKEN = re.compile(
    rf"(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, PREFIXES))})"
    r"(?P<tail>[A-Za-z0-9_\-.~+/=]{11,500}[A-Za-z0-9_\-=])"  # bounded: a provider's words are looked at, too
)
# A piece that no word or date looks like: letters and digits mixed, or very long.
_RANDOM = re.compile(r"(?=[0-9]*[A-Za-z])(?=[A-Za-z]*[0-9])[A-Za-z0-9]{8,}|[A-Za-z0-9]{16,}")
# A key without a prefix, as some vendors give: nothing but letters and digits, more than any name has.
_BARE = re.compile(r"(?=(?:[A-Za-z]*[0-9]){4})(?=[0-9]*[A-Za-z])[A-Za-z0-9]{32,200}")


def mask(value: str) -> str:
    """Return the last four characters behind an ellipsis, or the ellipsis alone for a short value."""
    value = value.strip()  # a line break at its end would break the line that shows it
    return f"…{value[-4:]}" if len(value) >= 12 else "…"


def find_keys(value: str) -> list[str]:
    """Return what looks like a vendor's key in a string, by its prefix, or by the shape of the whole."""
    if len(value) < _SHORTEST:  # as most names are, at which each call looks
        return []
    if _BARE.fullmatch(value.strip()):
        return [value.strip()]
    return [found[0] for found in _TOKEN.finditer(value) if _RANDOM.search(found["tail"])]


def looks_like_key(value: Any) -> bool:
    """Return whether a value is a string in which a vendor's key seems to stand."""
    return isinstance(value, str) and bool(find_keys(value))


def unkeyed(text: str) -> str:
    """Return a text with what looks like a key masked."""
    for key in find_keys(text):
        text = text.replace(key, mask(key))
    return text


def shown(value: Any) -> str:
    """Return the repr of a value from the settings, with what looks like a key masked."""
    return repr(unkeyed(value)) if isinstance(value, str) else unkeyed(repr(value))
