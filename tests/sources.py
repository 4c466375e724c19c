"""The sources that docstrings and comments name."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
ROOMS = ("bupple_engine", "benchmarks", "example_project", "tests")
URL = re.compile(r"https?://[^\s,;)\"'`<>]+")
# A page of ours, named by its path from the root.
PAGE = re.compile(r"(?<![\w/.-])[\w/.-]*\w\.md\b")


class Passage(NamedTuple):
    """A paragraph of a docstring, or a comment."""

    where: str
    text: str

    @property
    def urls(self) -> list[str]:
        return [url.rstrip(".:") for url in URL.findall(self.text)]

    @property
    def pages(self) -> list[str]:
        return PAGE.findall(URL.sub("", self.text))


@cache
def passages() -> tuple[Passage, ...]:
    """Return all those of the repository's Python files that name a source or a page."""
    paths = (path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))
    texts = {path: path.read_text(encoding="utf-8") for path in paths if "node_modules" not in path.parts}
    return tuple(
        each
        for path, text in texts.items()
        if "Source" in text or ".md" in text  # most don't, and reading them takes seconds
        for each in _in_file(path, text)
    )


def _in_file(path: Path, text: str) -> Iterator[Passage]:
    where = str(path.relative_to(ROOT))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                yield Passage(f"{where}:{getattr(node, 'lineno', 1)}", " ".join(paragraph.split()))
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    for line in comments:
        if line - 1 not in comments:
            last = line
            while last + 1 in comments:
                last += 1
            yield Passage(f"{where}:{line}", " ".join(comments[at] for at in range(line, last + 1)))


def urls() -> list[str]:
    """Return the URL of each source that a docstring or a comment of the package names."""
    found = {url for passage in passages() if _names_source(passage) for url in passage.urls}
    return sorted(found)


def _names_source(passage: Passage) -> bool:
    return re.search(r"\bSources?:? ", passage.text) is not None and passage.where.startswith("bupple_engine")
