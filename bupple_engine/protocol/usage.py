"""Usage in common terms: what providers count of a call, read by paths and made to add up. No I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any, NamedTuple, TypeAlias, cast

from bupple_engine.types import Usage

NO_USAGE: Usage = {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}
PARTS = (
    *("cache_read", "cache_write", "cache_write_1h"),
    *("reasoning", "audio_input", "audio_output", "searches"),
)
COUNTS = (*NO_USAGE, *PARTS)

# Count → where an object may have it, the first that is not 0 being the one; a dot goes into an object.
Paths: TypeAlias = Mapping[str, tuple[str, ...]]
PLACES_DEEP = 3  # names in a path
Counted: TypeAlias = dict[str, int | None]

# Beyond it not every reader of JSON has whole numbers, and nobody has counted so far.
_MOST = 2**53 - 1
_COSTLIEST = 900_000_000
_TICK = Decimal("1e-10")
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_STANDARD = frozenset({"", "standard", "default", "auto", "on_demand", "unspecified"})


class ReportedCost(NamedTuple):
    """Where a service reports what an answer cost, and in what part of a US dollar."""

    path: str
    per_dollar: int = 1
    own_key_path: str = ""  # true where the caller's own key at the vendor paid for the answer
    own_key_cost: str = ""  # and what it paid there, beside the service's own fee


def look_up(found: Any, path: str) -> Any:
    """Return what stands at a path, None where there is nothing."""
    outer, _, inner = path.partition(".")
    found = found.get(outer) if isinstance(found, dict) else None
    return look_up(found, inner) if inner else found


def count(found: Any, *paths: str) -> int | None:
    """Return the first number at these paths that is not 0; 0 where there is none but zeros; else None.

    What is negative, endless, too large or another thing than a number is no count.
    """
    return _first(look_up(found, path) for path in paths)


def _first(values: Iterable[Any]) -> int | None:
    known = None
    for value in values:
        if value is None:
            continue
        if number := _whole(value):
            return number
        known = known if number is None else number
    return known


def read_counts(found: Any, paths: Paths) -> Counted:
    """Return the counts that an object has, by their common names; see count()."""
    # Each place is looked up in one dict: a walk for each costs as much as all the rest of reading an answer.
    flat = _flatten(found, PLACES_DEEP) if isinstance(found, dict) else {}
    counted: Counted = {}
    for name, places in paths.items():
        there = [flat[place] for place in places if place in flat]
        counted[name] = _first(there) if there else None
    return counted


def _flatten(found: dict[str, Any], depth: int) -> dict[str, Any]:
    """Return what stands at each path of so many names at most."""
    flat = {}
    for name, value in found.items():
        if "." in name:
            continue  # it would be taken for a path
        if not isinstance(value, dict):
            flat[name] = value
        elif depth > 1:
            flat |= {f"{name}.{inner}": deep for inner, deep in _flatten(value, depth - 1).items()}
    return flat


def usage_of(
    raw: Mapping[str, Any] | None,
    counted: Counted,
    *,
    reasoning_beside: bool = False,
    tier: object = None,
    cost: str | None = None,
) -> Usage:
    """Return a usage whose parts fit into its counts, and whose total is their sum.

    Reasoning that a service counts beside the completion goes into it: where reasoning_beside says so, where
    there is more of it than of the completion, or where only so its total comes out.
    """
    part = {name: number for name in PARTS if (number := counted.get(name))}
    usage: Usage = NO_USAGE.copy()
    if any(counted.get(name) is not None for name in NO_USAGE):
        prompt, completion = _sides(counted, part, reasoning_beside)
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        if part:  # few answers have any
            _fit(part, prompt, completion)
    else:
        part = {"searches": part.get("searches", 0)}
    if part:
        usage |= cast("Usage", {name: number for name, number in part.items() if number})
    if word := tier_of(tier):
        usage["tier"] = word
    if cost is not None:
        usage["cost"] = cost
    if raw:
        usage["raw"] = dict(raw)
    return usage


def _fit(part: dict[str, int], prompt: int, completion: int) -> None:
    """Have no part be more than what it is a part of."""
    within = {
        "cache_read": prompt,
        "reasoning": completion,
        "audio_input": prompt,
        "audio_output": completion,
    }
    part |= {name: min(part[name], most) for name, most in within.items() if name in part}
    if "cache_write" in part:
        part["cache_write"] = min(part["cache_write"], prompt - part.get("cache_read", 0))
    if "cache_write_1h" in part:
        part["cache_write_1h"] = min(part["cache_write_1h"], part.get("cache_write", 0))


def in_common_terms(usage: Mapping[str, Any]) -> Usage:
    """Return a usage that a driver of one's own gives by the common names, made to add up.

    What has another name goes under `raw`, unless there is one.
    """
    own = usage.get("raw")
    raw = own if isinstance(own, Mapping) else {k: v for k, v in usage.items() if k not in _NAMES}
    found = usage_of(
        raw,
        {name: count(dict(usage), name) for name in COUNTS},
        tier=usage.get("tier"),
        cost=dollars(usage.get("cost")),
    )
    if usage.get("estimated"):
        found["estimated"] = True
    return found


def on_record(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a log record has of a usage: the counts, and of the other common terms those there are."""
    known = usage or {}
    return {**NO_USAGE, **{name: value for name, value in known.items() if name != "raw"}}


def cost_of(raw: Mapping[str, Any], place: ReportedCost) -> str | None:
    """Return what a service says that an answer cost, None where it does not say all of it."""
    cost = dollars(look_up(raw, place.path), place.per_dollar)
    if cost is None or not place.own_key_path or look_up(raw, place.own_key_path) is not True:
        return cost
    beside = dollars(look_up(raw, place.own_key_cost), place.per_dollar)
    return None if beside is None else dollars(Decimal(cost) + Decimal(beside))


def dollars(value: object, per_dollar: int = 1) -> str | None:
    """Return an amount as a plain decimal string, to ten places; None for what is no amount."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        amount = _EXACT.divide(Decimal(str(value)), Decimal(per_dollar))
        if not amount.is_finite() or not 0 <= amount <= _COSTLIEST:
            return None
        return f"{amount.quantize(_TICK, context=_EXACT).normalize(_EXACT):f}"
    except (InvalidOperation, ValueError):
        return None


def tier_of(word: object) -> str:
    """Return the tier that a provider names, "" for the standard one and for what is no name."""
    name = word.lower().removeprefix("service_tier_") if isinstance(word, str) else ""
    return name if name not in _STANDARD and re.fullmatch(r"[a-z][a-z_-]{0,30}", name) else ""


def _sides(counted: Counted, part: dict[str, int], reasoning_beside: bool) -> tuple[int, int]:
    """Return the prompt's count and the completion's, with what only the total holds."""
    prompt, completion = counted.get("prompt_tokens") or 0, counted.get("completion_tokens") or 0
    total, reasoning = counted.get("total_tokens") or 0, part.get("reasoning", 0)
    if reasoning_beside or reasoning > completion or total == prompt + completion + reasoning:
        completion += reasoning
    rest = max(total - prompt - completion, 0)
    if counted.get("prompt_tokens") is None or rest == part.get("cache_read", 0) + part.get("cache_write", 0):
        return prompt + rest, completion
    # Gemini's thoughts, for one, which its OpenAI-compatible API has in the total alone.
    return prompt, completion + rest


def _whole(value: object) -> int | None:
    """Return a number as a count; some gateways send it as a string, or as a float."""
    if isinstance(value, str):
        value = int(value) if len(value) < 20 and value.isascii() and value.isdecimal() else None
    elif isinstance(value, float):
        value = int(value) if math.isfinite(value) else None
    return value if type(value) is int and 0 <= value <= _MOST else None


_NAMES = frozenset({*COUNTS, "tier", "cost", "estimated", "raw"})
