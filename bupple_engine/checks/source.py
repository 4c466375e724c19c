"""What is written as plain text in the settings file."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from django.conf import settings


def settings_strings() -> dict[str, str]:
    """Return the strings written in the settings module, and in those of the project that it imports from.

    Each goes with its file's name; a file that can't be read or parsed has none.
    """
    found: dict[str, str] = {}
    for path, tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.setdefault(node.value, path.name)
    return found


def names_in_settings(name: str) -> bool:
    """Return whether the settings name something, such as a function that they call."""
    return any(
        isinstance(node, ast.Name) and node.id == name for _, tree in _trees() for node in ast.walk(tree)
    )


def find_entry(alias: str) -> ast.Dict | None:
    """Return an alias's entry where the settings have it as a dict that is written out."""
    for _, tree in _trees():
        for node in ast.walk(tree):
            pairs: Iterable[tuple[ast.expr | None, ast.expr]] = ()
            if isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
            elif isinstance(node, ast.Assign):
                pairs = ((t.slice, node.value) for t in node.targets if isinstance(t, ast.Subscript))
            for key, value in pairs:
                if isinstance(key, ast.Constant) and key.value == alias and isinstance(value, ast.Dict):
                    return value
    return None


def variable_in(entry: ast.Dict | None, option: str) -> str:
    """Return the environment variable that an entry reads for an option, "" where it reads none."""
    for key, value in zip(entry.keys, entry.values, strict=True) if entry is not None else ():
        # env("NAME"), env.str("NAME"), os.environ["NAME"] and their like; a string alone is a value.
        if isinstance(key, ast.Constant) and key.value == option and not isinstance(value, ast.Constant):
            for node in ast.walk(value):
                if isinstance(node, ast.Constant) and re.fullmatch("[A-Z][A-Z0-9_]+", str(node.value)):
                    return str(node.value)
    return ""


def _trees() -> Iterator[tuple[Path, ast.Module]]:
    """Yield the settings module, and those of the project that it imports from, parsed."""
    root = str(getattr(settings, "SETTINGS_MODULE", None) or "")
    names, seen = [root], set()
    while names:
        name = names.pop()
        path = _file(name)
        if name in seen or path is None or not _is_ours(name, path, root):
            continue
        seen.add(name)
        try:
            tree = _parse(path, path.stat().st_mtime_ns)
        except (OSError, SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                names += _sources(node, name if path.name == "__init__.py" else name.rpartition(".")[0])
        yield path, tree


@lru_cache(64)
def _parse(path: Path, changed: int) -> ast.Module:
    return ast.parse(path.read_bytes())


def _file(module: str) -> Path | None:
    path = getattr(sys.modules.get(module), "__file__", None)
    return Path(path) if path else None


def _is_ours(name: str, path: Path, root: str) -> bool:
    """Return whether a module is of the settings' package, or beside the settings file, and no library."""
    if name.partition(".")[0] == root.partition(".")[0]:
        return True
    base = _file(root)
    return base is not None and path.is_relative_to(base.parent) and "site-packages" not in path.parts


def _sources(node: ast.ImportFrom, package: str) -> list[str]:
    """Return the modules that `from … import …` may name."""
    source = "." * node.level + (node.module or "")
    with suppress(ImportError):  # beyond the top-level package
        source = importlib.util.resolve_name(source, package)
    return [source, *(f"{source}.{alias.name}" for alias in node.names)]
