"""The table: a row's cells, verdicts, and the columns in which they are printed."""

from collections.abc import Iterable
from dataclasses import dataclass

WIDTHS = (52, 17, 10, 7, 22, 20, 10)


@dataclass(frozen=True)
class Row:
    """One line of the table; a cell that has nothing to say is empty."""

    what: str
    ours: str
    floor: str = ""
    ratio: str = ""
    reach: str = ""
    verdict: str = ""
    openai: str = ""
    ratios: tuple[float, ...] = ()  # of ours to the floor, one a round
    more_is_better: bool = False

    def __str__(self) -> str:
        cells = (self.what, self.ours, self.floor, self.ratio, self.reach, self.verdict, self.openai)
        return align(cells, WIDTHS)


def align(cells: Iterable[str], widths: Iterable[int]) -> str:
    """Return a line of a table."""
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


HEADING = Row("what", "ours", "floor", "ratio", "reach", "verdict", "openai SDK")


@dataclass(frozen=True)
class Target:
    """What a figure is to reach, and what then; None is no target."""

    reach: float | None = None
    then: float | None = None

    def goals(self, unit: str) -> str:
        """Return the cell that names the targets."""
        reach = f"≤ {self.reach:g} {unit}" if self.reach else ""
        then = f"then {self.then:g}" if self.then else ""
        return ", ".join(filter(None, (reach, then)))

    def verdict(self, value: float) -> str:
        """Say which target a figure is under, or by how much it missed the first."""
        if self.then and value <= self.then:
            return "reached, then too"
        if self.reach and value <= self.reach:
            return "reached"
        goal = self.reach or self.then
        return f"missed by {value / goal * 100 - 100:.0f} %" if goal else ""


def yes_or_no(fine: bool) -> str:
    """Say whether a target that knows no degrees is reached."""
    return "reached" if fine else "missed"
