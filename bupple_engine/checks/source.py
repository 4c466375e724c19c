"""What stands as text in the settings file."""

from __future__ import annotations

import ast
import importlib.util
import sys
from contextlib import suppress
from pathlib import Path

from django.conf import settings


def settings_strings() -> dict[str, str]:
    """Return the strings written in the settings module, and in those of the project that it imports from.

    Each goes with its file's name; a file that can't be read or parsed has none.
    """
    found: dict[str, str] = {}
    root = str(getattr(settings, "SETTINGS_MODULE", None) or "")
    names, seen = [root], set()
    while names:
        name = names.pop()
        path = _file(name)
        if name in seen or path is None or not _is_ours(name, path, root):
            continue
        seen.add(name)
        with suppress(OSError, SyntaxError, ValueError):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.setdefault(node.value, path.name)
                elif isinstance(node, ast.ImportFrom):
                    names += _sources(node, name if path.name == "__init__.py" else name.rpartition(".")[0])
    return found


def _file(module: str) -> Path | None:
    path = getattr(sys.modules.get(module), "__file__", None)
    return Path(path) if path else None


def _is_ours(name: str, path: Path, root: str) -> bool:
    """Tell whether a module is of the settings' package, or beside the settings file, and no library."""
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
