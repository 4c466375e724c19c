"""Print the table: `python -m benchmarks [row …] [--quick] [--json FILE]`, or `--compare BEFORE AFTER`."""

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path

from benchmarks.abandoned import MANNERS
from benchmarks.bench import Bench
from benchmarks.compare import compare, write
from benchmarks.process import PACE, pace
from benchmarks.rows import ROWS
from benchmarks.table import HEADING, Row
from benchmarks.worker import WorkerError


def main() -> int:
    """Run the rows that were asked for, print each as it comes, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ours against the floor.")
    parser.add_argument("rows", nargs="*", metavar="row", help=", ".join(ROWS))
    parser.add_argument("--quick", action="store_true", help="few rounds: a look, not a measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows down, to be compared")
    parser.add_argument(
        "--compare", nargs=2, type=Path, metavar=("BEFORE", "AFTER"), help="compare two such files, and end"
    )
    options = parser.parse_args()
    if options.compare:
        print(*compare(*options.compare), sep="\n")
        return 0
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")

    provider = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.provider"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert provider.stdout
    bench = Bench(f"http://127.0.0.1:{provider.stdout.readline().strip()}", options.quick)
    rows: list[Row] = []
    try:
        print(
            f"Python {platform.python_version()}, {os.cpu_count()} cores; CPU (user + system) of the client,"
        )
        print("medians of interleaved rounds, ratios within a round.")
        print(HEADING, flush=True)
        for name in options.rows or ROWS:
            try:
                for row in ROWS[name](bench):
                    rows.append(row)
                    print(row, flush=True)
            except WorkerError as error:
                words = str(error).strip().splitlines()
                rows.append(
                    Row(name, "failed", verdict=f"missed: {words[-1] if words else 'it says nothing'}")
                )
                print(rows[-1], flush=True)
                print(error, file=sys.stderr)
    finally:
        provider.communicate()
    if options.json:
        write(options.json, rows)
    print(f"¹ judged at the speed where json.loads takes {PACE} µs for a chunk; here, now: {pace():.1f} µs")
    print(f"² threads/descriptors, of streams {', '.join(MANNERS)}")
    return 1 if any(row.verdict.startswith("missed") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
