"""A process of its own for one contender, told over a pipe which task to do."""

import asyncio
import importlib
import json
import subprocess
import sys
import traceback
from types import TracebackType
from typing import Any, Self

from benchmarks.process import Numbers

TASKS = {
    "stream": "benchmarks.tasks",
    "astream": "benchmarks.tasks",
    "calls": "benchmarks.tasks",
    "first_chunk": "benchmarks.tasks",
    "crowd_async": "benchmarks.crowd",
    "crowd_threads": "benchmarks.crowd",
    "abandoned": "benchmarks.abandoned",
    "decode": "benchmarks.decoder",
}


class WorkerError(Exception):
    """A task failed; the text is the worker's traceback."""


class Worker:
    """Start a contender's process, with some packages hidden from it."""

    def __init__(self, contender: str, origin: str, without: tuple[str, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", contender, origin, *without],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, task: str, **arguments: Any) -> Numbers:
        """Do a task, and return its numbers."""
        try:
            print(json.dumps([task, arguments]), file=self.process.stdin, flush=True)
            answer = json.loads(self.process.stdout.readline() if self.process.stdout else "")
        except (BrokenPipeError, ValueError):
            raise WorkerError(self.process.communicate()[1]) from None
        if isinstance(answer, str):
            raise WorkerError(answer)
        numbers: Numbers = answer
        return numbers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.communicate()


def main(contender_name: str, origin: str, *without: str) -> None:
    """Do the tasks that come in, until there are no more."""
    for package in without:
        sys.modules[package] = None  # type: ignore[assignment]
    from benchmarks.contenders import CONTENDERS

    contender = CONTENDERS[contender_name](origin)
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            task, arguments = json.loads(line)
            try:
                function = getattr(importlib.import_module(TASKS[task]), task)
                answer = function(contender, runner, **arguments)
            except Exception:
                answer = traceback.format_exc()
            print(json.dumps(answer), flush=True)
        runner.run(contender.aclose())


if __name__ == "__main__":
    main(*sys.argv[1:])
