"""JSON as providers write it: read fast where it is strict, and leniently where it is not. No I/O."""

from __future__ import annotations

import json
import re
from typing import Any

# One escape of a string; the group is half of a pair of surrogates whose other half is not beside it.
_ESCAPE = re.compile(r"(?i)\\(?:ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|(ud[89a-f][0-9a-f]{2})|.)", re.DOTALL)
_lenient = json.JSONDecoder(strict=False)  # NaN and raw control characters may stand


def has_halves(text: str) -> bool:
    """Return whether there is half a character in JSON, which some services cut between two texts."""
    return ("\\ud" in text or "\\uD" in text) and any(match[1] for match in _ESCAPE.finditer(text))


try:
    from orjson import loads as loads  # refuses halves of characters, NaN and raw control characters
except ImportError:
    _scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined] # typeshed leaves it out

    def loads(text: str) -> Any:  # type: ignore[misc] # orjson's takes bytes, too
        """Return the value of strict JSON; raise ValueError or RecursionError for any other text."""
        # json.loads looks for an encoding and for white space first, which takes half as long again.
        if has_halves(text):
            raise ValueError
        try:
            value, end = _scan(text, 0)
        except StopIteration:
            return json.loads(text)
        return value if end == len(text) else json.loads(text)


def loads_leniently(text: str) -> Any:
    """Return the value of JSON that a strict reader refuses; None where it is none at all."""
    try:
        return _lenient.decode(text)
    except (ValueError, RecursionError):
        return None


def load_first(text: str, at: int = 0) -> tuple[Any, int]:
    """Return the JSON value that begins at a place, and the place behind it; raises as loads() does."""
    return _lenient.raw_decode(text, at)


def begins_with_object(text: str) -> bool:
    """Return whether a whole JSON object stands at the head of a text, before others."""
    try:
        return isinstance(load_first(text)[0], dict)
    except (ValueError, RecursionError):
        return False
