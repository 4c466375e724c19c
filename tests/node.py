"""JavaScript that runs in a node process: what others wrote for it, driven by a test."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

JS = Path(__file__).parent / "js"
SECONDS = 30.0  # how long the process may take to end


def missing(*packages: str) -> str | None:
    """Return why JavaScript with these npm packages can't be run here."""
    if shutil.which("node") is None:
        return "node is not installed"
    for package in packages:
        if not (JS / "node_modules" / package / "package.json").is_file():
            return f"the npm package {package} is not installed: npm ci --prefix tests/js"
    return None


class Node:
    """A script of tests/js, which runs what it is sent."""

    def __init__(self, script: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            ["node", str(JS / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self.process as process:
            try:
                process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()

    def run(self, code: str, **values: Any) -> Any:
        """Run the body of an asynchronous function, which finds the values by name; return what it does."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"code": code, "values": values}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"node has ended with {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise AssertionError(f"{code.strip()}\n{answer['error']}")
        return answer["value"]
