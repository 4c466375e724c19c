"""Relaying to browsers: how many streams a server holds, and what a chunk, a stream and an opening cost."""

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from statistics import median
from typing import Any

from benchmarks.bench import Bench, Results, present
from benchmarks.process import Numbers
from benchmarks.readers import RATE, Readers, p99
from benchmarks.servers import Server
from benchmarks.table import Row, Target
from benchmarks.worker import WorkerError

LATE = 0.1  # seconds by which a word may be late, at the 99th percentile
CROWD = 100  # streams while a chunk is costed
BURST = 200  # openings at once
PACE = 0.005  # seconds between two openings where they are no burst

Trial = Callable[[Server, Readers], Coroutine[Any, Any, Numbers]]


async def hold(server: Server, readers: Readers, step: int, seconds: float) -> Numbers:
    """Add streams until their words come late; return how many were held."""
    held = 1
    while True:
        await readers.add(step, PACE)
        await asyncio.sleep(1)
        # Twice, as others use the machine, too.
        if not await _in_time(readers, seconds) and not await _in_time(readers, seconds):
            return {"streams": held}
        held = readers.wanted


async def _in_time(readers: Readers, seconds: float) -> bool:
    late = await readers.measure(seconds)
    enough = len(late) > 0.95 * readers.wanted * RATE * seconds  # some are under way
    return readers.complete and enough and p99(late) < LATE


async def cost(server: Server, readers: Readers, seconds: float) -> Numbers:
    """Hold a crowd of streams; µs of CPU a chunk, KB of memory a stream."""
    await readers.add(20, PACE)  # imports, connections, caches
    memory = server.memory()
    await readers.add(CROWD, PACE)
    await asyncio.sleep(1)
    cpu = server.cpu()
    late = await readers.measure(seconds)
    cpu = server.cpu() - cpu
    if not late:
        raise WorkerError(f"{server.contender} relays nothing")
    return {"cpu": cpu / len(late) * 1e6, "memory": (server.memory() - memory) / CROWD}


async def burst(server: Server, readers: Readers) -> Numbers:
    """Open streams at once; ms until 99 % of them have their first word."""
    await readers.add(20, PACE)
    added = await readers.add(BURST)
    now = time.monotonic()  # those that have not begun wait longer yet
    return {"wait": p99([(each.first_at or now) - each.opened_at for each in added]) * 1e3}


async def leave(server: Server, readers: Readers, bench: Bench, times: int) -> Numbers:
    """Leave streams of a crowd, one after the other; ms until the provider's connection is closed."""
    await readers.add(CROWD, PACE)
    waits = []
    for reader in list(readers.open)[:times]:
        before = bench.provider()["open"]
        left = time.monotonic()
        reader.leave()
        while (now := bench.provider())["open"] == before and time.monotonic() < left + 5:
            await asyncio.sleep(0.01)
        waits.append((now["closed_at"] - left) * 1e3 if now["open"] < before else 5e3)
    return {"wait": median(waits)}


def trials(
    bench: Bench, kind: str, rounds: int, trial: Trial, names: tuple[str, ...], *, gc_set: bool = False
) -> Results:
    """Do a trial with each contender in turn, each time with a new server."""
    results = Results()
    for number in range(1 if bench.quick else rounds):
        for name in present(names)[:: -1 if number % 2 else 1]:
            with Server(kind, name, bench.origin, gc_set=gc_set) as server:
                try:
                    results.add(name, number, asyncio.run(_run(server, trial)))
                except OSError as error:
                    raise WorkerError(f"{kind} of {name}: {error}") from error
    return results


async def _run(server: Server, trial: Trial) -> Numbers:
    readers = Readers(server.port, server.path)
    gc.collect()
    gc.freeze()
    gc.disable()  # what is late is to be the server
    try:
        return await trial(server, readers)
    finally:
        readers.leave()
        await asyncio.sleep(0.05)
        gc.enable()


ALL = ("floor", "ours", "openai")


def relay(bench: Bench) -> Iterator[Row]:
    """Relay to readers under both kinds of server; the floor is a raw relay of the same run."""
    for kind, reach, memory, gone in (("uvicorn", 0.8, 75, 50), ("gthread", 0.85, None, None)):
        step, seconds = (50, 1) if bench.quick else (25, 2)
        results = trials(bench, kind, 3, partial(hold, step=step, seconds=seconds), ALL)
        yield _row(f"{kind}: streams held, p99 < 100 ms", results, "streams", "", None, reach)
        if kind == "uvicorn":
            crowd = partial(hold, step=step, seconds=seconds)
            results = trials(bench, kind, 3, crowd, ("floor", "ours"), gc_set=True)
            yield _row("… with the GC setting", results, "streams", "", None, 1.0)
        results = trials(bench, kind, 7, partial(cost, seconds=1 if bench.quick else 4), ALL)
        yield _row(f"{kind}: CPU a relayed chunk", results, "cpu", "µs")
        yield _row(f"{kind}: memory a stream", results, "memory", "KB", memory)
        results = trials(bench, kind, 5, burst, ALL)
        yield _row(f"{kind}: {BURST} openings at once, first word", results, "wait", "ms")
        times = 10 if bench.quick else 40
        results = trials(bench, kind, 3, partial(leave, bench=bench, times=times), ALL)
        yield _row(f"{kind}: reader gone → upstream closed", results, "wait", "ms", gone)


def _row(
    what: str,
    results: Results,
    key: str,
    unit: str,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Row:
    """Return the row of a figure: at_most is its target, at_least that of its ratio to the floor."""
    target = Target(at_most)
    ratio = results.ratio("ours", key=key)
    reach, verdict = target.goals(unit), target.verdict(results.median("ours", key))
    if at_least:
        reach = f"≥ {at_least:g} ×"
        verdict = "reached" if ratio >= at_least else f"missed by {100 - ratio / at_least * 100:.0f} %"
    ours, floor = (f"{results.median(name, key):.0f} {unit}".strip() for name in ("ours", "floor"))
    openai = f"{results.ratio('openai', key=key):.2f} ×" if "openai" in results else ""
    ratios = results.ratios("ours", key=key)
    return Row(what, ours, floor, f"{ratio:.2f} ×", reach, verdict, openai, ratios, key == "streams")
