"""Two runs side by side: `python -m benchmarks --compare before.json after.json`."""

import json
import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import median, quantiles
from typing import Any, TypedDict

from benchmarks.process import pace
from benchmarks.table import Row, align

WIDTHS = (52, 17, 17, 15, 15, 9, 16)
HEADING = ("what", "before", "after", "before/floor", "after/floor", "change", "so")


class Run(TypedDict):
    """What a run has written down."""

    python: str
    pace: float
    rows: list[dict[str, Any]]


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write a run's rows as JSON."""
    run = Run(python=platform.python_version(), pace=pace(), rows=[asdict(row) for row in rows])
    path.write_text(json.dumps(run, ensure_ascii=False, indent=1) + "\n")


def compare(before: Path, after: Path) -> Iterator[str]:
    """Yield the lines of a table of two runs: each row's ratio to the floor of its run, and its change."""
    runs: list[Run] = [json.loads(path.read_text()) for path in (before, after)]
    for path, run in zip((before, after), runs, strict=True):
        yield f"{path.name}: Python {run['python']}, json.loads takes {run['pace']:.1f} µs for a chunk"
    yield align(HEADING, WIDTHS)
    olds, news = ({row["what"]: row for row in run["rows"]} for run in runs)
    for what in dict.fromkeys([*olds, *news]):
        yield align(_cells(what, olds.get(what), news.get(what)), WIDTHS)


def _cells(what: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> tuple[str, ...]:
    if old is None or new is None:
        row = old or new or {}
        here = "before alone" if new is None else "after alone"
        blank = ("", row["ours"])[:: -1 if new is None else 1]
        return (what, *blank, "", "", "", here)
    if not (old["ratios"] and new["ratios"]):
        same = "the same" if old["ours"] == new["ours"] else "another figure"
        return (what, old["ours"], new["ours"], "", "", "", same)
    (was, was_off), (now, now_off) = (_middle(row["ratios"]) for row in (old, new))
    noise = 2 * (was_off**2 + now_off**2) ** 0.5
    if abs(now - was) <= noise:
        so = "within the noise"
    else:
        so = "better" if (now > was) == new["more_is_better"] else "worse"
    change = f"{(now / was - 1) * 100:+.1f} %" if was else ""
    return (
        what,
        old["ours"],
        new["ours"],
        f"{was:.3f} ±{2 * was_off:.3f}",
        f"{now:.3f} ±{2 * now_off:.3f}",
        change,
        so,
    )


def _middle(ratios: list[float]) -> tuple[float, float]:
    """Return the median of a run's ratios and its standard error, taken from the quartiles.

    Where there were too few rounds for that, their whole range stands in for it.
    """
    if len(ratios) < 4:
        return median(ratios), (max(ratios) - min(ratios)) / 2 if len(ratios) > 1 else abs(ratios[0]) / 20
    low, middle, high = quantiles(ratios, n=4, method="inclusive")
    # Of a normal distribution: quartiles 1.349 deviations apart, a median's error 1.253 times the mean's.
    return middle, 1.253 * (high - low) / 1.349 / len(ratios) ** 0.5
