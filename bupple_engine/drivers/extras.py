"""What a driver needs beside this package: the extras, whether they are there, and how they are installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

# The package is on no index yet: pip takes a clone of its repository.
CLONE = "path/to/bupple_engine"


class Requirement(NamedTuple):
    """An extra that a driver makes use of, or can't do without."""

    name: str
    is_ready: bool
    is_required: bool = False


def speed() -> Requirement:
    """Return the extra for fast JSON, which every wire makes use of."""
    return Requirement("speed", find_spec("orjson") is not None)


def command(extra: str) -> str:
    """Return the command that installs an extra, from the clone that runs where there is one."""
    folder = Path(__file__).parents[2]
    where = folder if (folder / "pyproject.toml").is_file() else CLONE
    return f'pip install "{where}[{extra}]"'
