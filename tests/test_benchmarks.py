"""Two runs of the benchmarks side by side: what is a change, and what the noise of the rounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.compare import compare, write
from benchmarks.table import Row


def _row(*ratios: float, more_is_better: bool = False) -> Row:
    return Row("send(), a call", "1 µs", "1 µs", ratios=ratios, more_is_better=more_is_better)


QUIET = (1.00, 1.01, 0.99, 1.00, 1.02, 0.98)
LESS = tuple(ratio - 0.2 for ratio in QUIET)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (_row(*QUIET), _row(*LESS), "better"),
        (_row(*LESS), _row(*QUIET), "worse"),
        (_row(*QUIET, more_is_better=True), _row(*LESS, more_is_better=True), "worse"),
        (_row(*QUIET), _row(1.01, 1.02, 1.00, 1.01, 1.03, 0.99), "within the noise"),
        (_row(1.0, 1.4, 0.6, 1.2, 0.8, 1.0), _row(0.9, 1.3, 0.5, 1.1, 0.7, 0.9), "within the noise"),
        (_row(1.0), _row(0.5), "better"),
        (Row("left", "0/0"), Row("left", "0/0"), "the same"),
        (Row("left", "0/0"), Row("left", "2/0"), "another figure"),
    ],
)
def test_a_change_is_told_from_noise(tmp_path: Path, before: Row, after: Row, verdict: str) -> None:
    old, new = tmp_path / "before.json", tmp_path / "after.json"
    write(old, [before])
    write(new, [after])
    *_, line = compare(old, new)
    assert line.startswith(before.what)
    assert line.endswith(verdict)


def test_a_row_that_one_run_lacks_is_shown(tmp_path: Path) -> None:
    old, new = tmp_path / "before.json", tmp_path / "after.json"
    write(old, [_row(1.0)])
    write(new, [Row("asend(), a call", "2 µs")])
    *_, first, second = compare(old, new)
    assert first.endswith("before alone")
    assert second.startswith("asend(), a call")
    assert second.endswith("after alone")
