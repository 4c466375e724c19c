"""Let the contenders do the same task in turn, each in a process of its own."""

import json
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from importlib.util import find_spec
from statistics import median
from typing import Any

from benchmarks.process import Numbers
from benchmarks.worker import Worker

# Name → the contender, and the packages hidden from it.
LINEUP: dict[str, tuple[str, tuple[str, ...]]] = {
    "floor": ("floor", ()),
    "timed": ("timed", ()),
    "ours": ("ours", ("orjson",)),
    "orjson": ("ours", ()),
    "observed": ("observed", ("orjson",)),
    "openai": ("openai", ()),
}
USUAL = ("floor", "ours", "orjson", "openai")
EVERY = {"openai": 8}  # the slow ones take part in every so-manieth round


class Results:
    """The numbers of each contender in each round."""

    def __init__(self) -> None:
        self.rounds: dict[str, dict[int, Numbers]] = {}

    def add(self, name: str, number: int, numbers: Numbers) -> None:
        """Take one outcome down."""
        self.rounds.setdefault(name, {})[number] = numbers

    def __contains__(self, name: str) -> bool:
        return name in self.rounds

    def median(self, name: str, key: str = "cpu") -> float:
        """Return the median of the rounds."""
        return float(median(numbers[key] for numbers in self.rounds[name].values()))

    def surplus(self, name: str, base: str, key: str = "cpu") -> float:
        """Return the median of the differences to a contender that was measured in the same rounds."""
        bases = self.rounds[base]
        return float(median(numbers[key] - bases[at][key] for at, numbers in self.rounds[name].items()))

    def worst(self, name: str, key: str) -> float:
        """Return the largest figure of the rounds."""
        return float(max(numbers[key] for numbers in self.rounds[name].values()))

    def ratios(self, name: str, base: str = "floor", key: str = "cpu") -> tuple[float, ...]:
        """Return the ratios to a contender that was measured in the same rounds."""
        bases = self.rounds[base]
        return tuple(numbers[key] / bases[at][key] for at, numbers in self.rounds[name].items())

    def ratio(self, name: str, base: str = "floor", key: str = "cpu") -> float:
        """Return their median."""
        return float(median(self.ratios(name, base, key)))


@dataclass(frozen=True)
class Bench:
    """Where the provider is, and how thorough the run is."""

    origin: str
    quick: bool = False

    def worker(self, name: str, *hidden: str) -> Worker:
        """Start a contender's process."""
        contender, always = LINEUP[name]
        return Worker(contender, self.origin, (*always, *hidden))

    def provider(self) -> dict[str, float]:
        """Return what the provider tells of its connections."""
        connection = HTTPConnection(self.origin.removeprefix("http://"))
        connection.request("GET", "/connections")
        found: dict[str, float] = json.load(connection.getresponse())
        return found

    def connections(self) -> int:
        """Return how many connections the provider has answered calls on."""
        return int(self.provider()["used"])

    def race(self, task: str, rounds: int, names: Iterable[str] = USUAL, **arguments: Any) -> Results:
        """Do the task round by round in processes that stay."""
        results = Results()
        with ExitStack() as stack:
            workers = {name: stack.enter_context(self.worker(name)) for name in present(names)}
            for worker in workers.values():
                worker.run(task, **arguments)  # imports, connections, caches
            for number in range(rounds // 4 if self.quick else rounds):
                # Forth and back, so that nobody always comes after the same neighbour.
                for name in list(workers)[:: -1 if number % 2 else 1]:
                    if number % EVERY.get(name, 1) == 0:
                        results.add(name, number, workers[name].run(task, **arguments))
        return results

    def race_fresh(self, task: str, rounds: int, names: Iterable[str] = USUAL, **arguments: Any) -> Results:
        """Do the task round by round, each time in a new process."""
        results = Results()
        for number in range(1 if self.quick else rounds):
            for name in present(names):
                if number % EVERY.get(name, 1) == 0:
                    with self.worker(name) as worker:
                        results.add(name, number, worker.run(task, **arguments))
        return results


def present(names: Iterable[str] = USUAL) -> list[str]:
    """Return those contenders whose package is installed."""
    return [name for name in names if name in ("floor", "timed", "ours", "observed") or find_spec(name)]
