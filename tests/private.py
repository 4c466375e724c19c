"""Which private names of other libraries the package uses, found in its source and its classes."""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import bupple_engine

ROOT = Path(bupple_engine.__file__).parent
# What a NamedTuple, a model and an enumeration document under such names.
DOCUMENTED = frozenset({"_replace", "_asdict", "_fields", "_make", "_meta"})
OURS = "bupple_engine"
ACCESSORS = frozenset({"getattr", "hasattr", "setattr", "delattr"})


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED


def used() -> dict[str, set[str]]:
    """Return each private name with where it is used: `Class._name` of a base, else `expression._name`.

    A module is left out whose library is not installed, or whose app is none of the site's.
    """
    found: dict[str, set[str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join((OURS, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        try:
            names = vars(importlib.import_module(module))
        except (ImportError, LookupError):
            continue
        for name in used_in(path.read_text(encoding="utf-8"), names):
            found.setdefault(name, set()).add(module)
    return found


def used_in(source: str, names: dict[str, object]) -> set[str]:
    """Return those that a module uses, of which `names` are the globals."""
    return set(_Finder(names).find(ast.parse(source)))


class _Finder:
    def __init__(self, names: dict[str, object]) -> None:
        self._names = names
        self._own: set[str] = set()  # that the module's own classes have
        self._found: set[str] = set()
        self._doubtful: list[ast.Attribute] = []  # of another object than self

    def find(self, tree: ast.Module) -> Iterator[str]:
        self._walk(tree, None)
        yield from self._found
        for attribute in self._doubtful:
            if attribute.attr not in self._own:
                yield ast.unparse(attribute)

    def _walk(self, node: ast.AST, cls: type | None) -> None:
        if isinstance(node, ast.ImportFrom) and not node.level and not (node.module or "").startswith(OURS):
            for alias in node.names:
                if is_private(alias.name) or any(map(is_private, (node.module or "").split("."))):
                    self._found.add(f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Import):
            self._found |= {alias.name for alias in node.names if any(map(is_private, alias.name.split(".")))}
        elif isinstance(node, ast.ClassDef):
            known = self._names.get(node.name)
            cls = known if isinstance(known, type) else None
            for name in filter(is_private, _defined(node)):
                self._note(name, cls, is_defined=True)
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            self._take(node, cls)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ACCESSORS:
            said = str(node.args[1].value) if isinstance(node.args[1], ast.Constant) else ""
            if is_private(said):
                self._doubtful.append(ast.Attribute(node.args[0], said, ast.Load()))
        for child in ast.iter_child_nodes(node):
            self._walk(child, cls)

    def _take(self, node: ast.Attribute, cls: type | None) -> None:
        owner = ast.unparse(node.value)
        if owner == "super()":
            # In a class to mix in, its base is whatever it is mixed into: none of ours that has the name.
            if cls is None or not any(node.attr in vars(base) for base in cls.__mro__[1:] if _is_ours(base)):
                self._found.add(f"{cls.__name__ if cls else '?'}.{node.attr}")
        elif owner in ("self", "cls"):
            self._note(node.attr, cls, is_defined=isinstance(node.ctx, ast.Store))
        else:
            self._doubtful.append(node)

    def _note(self, name: str, cls: type | None, *, is_defined: bool) -> None:
        if cls is not None and name in _of_foreign_bases(cls):
            self._found.add(f"{cls.__name__}.{name}")
        elif is_defined:
            self._own.add(name)


def _defined(node: ast.ClassDef) -> Iterator[str]:
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield statement.name
        elif isinstance(statement, ast.AnnAssign | ast.Assign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in (OURS, "builtins", "typing", "abc")


@cache
def _of_foreign_bases(cls: type) -> set[str]:
    names: set[str] = set()
    for base in cls.__mro__:
        if _is_ours(base):
            continue
        names |= set(filter(is_private, vars(base)))
        try:
            source = textwrap.dedent(inspect.getsource(base))
        except (OSError, TypeError):  # written in C
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self":
                names.add(node.attr)
    return names
