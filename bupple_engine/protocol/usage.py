"""Usage in common terms: what providers count of a call, read by paths and made to add up. No I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
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
Counted: TypeAlias = dict[str, int | None]

# Beyond it not every reader of JSON has whole numbers, and nobody has counted so far.
_MOST = 2**53 - 1
_COSTLIEST = 900_000_000
_LONGEST = 100  # characters of an amount
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
    known = None
    for path in paths:
        number = _whole(look_up(found, path))
        if number:
            return number
        known = known if number is None else number
    return known


class Places:
    """Find the counts of an object by their common names, each at the first of its paths; see count().

    The object is walked once: a look at each path would cost as much as all the rest of reading an answer.
    """

    __slots__ = ("_nothing", "_tree")

    def __init__(self, paths: Paths) -> None:
        self._nothing: Counted = dict.fromkeys(paths)
        # Name → what it counts where a number stands behind it, with its rank; and where an object does.
        self._tree: dict[str, tuple[list[tuple[str, int]], dict[str, Any]]] = {}
        for name, places in paths.items():
            for rank, path in enumerate(places):
                *outer, last = path.split(".")
                tree = self._tree
                for step in outer:
                    tree = tree.setdefault(step, ([], {}))[1]
                tree.setdefault(last, ([], {}))[0].append((name, rank))

    def read(self, found: Any) -> Counted:
        """Return the counts that an object has; None for one that it lacks."""
        counted = self._nothing.copy()
        if isinstance(found, dict):
            self._walk(found, self._tree, counted, {})
        return counted

    def _walk(self, found: dict[str, Any], tree: Any, counted: Counted, ranks: dict[str, int]) -> None:
        for name, value in found.items():
            place = tree.get(name)
            if place is None or value is None:
                continue
            if isinstance(value, dict):
                if place[1]:
                    self._walk(value, place[1], counted, ranks)
                continue
            number = value if type(value) is int and 0 <= value <= _MOST else _whole(value)
            if number is not None:
                for target, rank in place[0]:
                    known = counted[target]
                    if known is None or (number and (not known or rank < ranks[target])):
                        counted[target], ranks[target] = number, rank


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
    prompt, completion, total = map(counted.get, NO_USAGE)
    if prompt is not None or completion is not None or total is not None:
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
    if isinstance(value, str) and (len(value) > _LONGEST or not value.isascii()):
        return None
    try:
        amount = _EXACT.divide(Decimal(str(value)), Decimal(per_dollar))
        if not amount.is_finite() or not 0 <= amount <= _COSTLIEST:
            return None
        return f"{abs(amount).quantize(_TICK, context=_EXACT).normalize(_EXACT):f}"
    except (ArithmeticError, ValueError):
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
    if type(value) is int:
        return value if 0 <= value <= _MOST else None
    if isinstance(value, str):
        value = int(value) if len(value) < 20 and value.isascii() and value.isdecimal() else None
    elif isinstance(value, float):
        value = int(value) if math.isfinite(value) else None
    return value if type(value) is int and 0 <= value <= _MOST else None


_NAMES = frozenset({*COUNTS, "tier", "cost", "estimated", "raw"})
