"""The command that installs an extra; it changes, here and in README, once the package is on an index."""

from __future__ import annotations

from pathlib import Path

# The package is on no index yet: pip takes a clone of its repository.
CLONE = "path/to/bupple_engine"


def command(extra: str) -> str:
    """Return the command that installs an extra, from the clone that runs where there is one."""
    folder = Path(__file__).parents[2]
    where = folder if (folder / "pyproject.toml").is_file() else CLONE
    return f'pip install "{where}[{extra}]"'
