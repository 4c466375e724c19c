"""The rows of the table: which task each is, and what it is to reach (the figures of the project)."""

from collections.abc import Callable, Iterator
from functools import partial

from benchmarks import importing
from benchmarks.abandoned import MANNERS
from benchmarks.bench import USUAL, Bench, Results, present
from benchmarks.process import PACE
from benchmarks.relay import relay
from benchmarks.table import Row, Target, yes_or_no

VERBS = ("stream", "astream", "send", "asend")
TARGETS = {
    "stream": (Target(1.3, 1.0), Target(1.3, 0.6)),
    "send": (Target(0.9, 0.7), None),
    "asend": (Target(1.3, 1.15), None),
    "first": (Target(1.1), None),
    "crowd": (Target(1.2), Target(1.2)),
    "tokens": (Target(1.2, 1.0), Target(1.2, 1.0)),
    "observed": (Target(3.0), None),
    "none": (Target(), Target()),
}
NOISE = 0.05  # µs a chunk: what two runs of the same code differ by


def costs(
    what: str, results: Results, targets: tuple[Target, Target | None], base: str = "floor"
) -> Iterator[Row]:
    """Yield the rows of a cost over the floor's: ours, and ours with orjson."""
    for name, target in zip(("ours", "orjson"), targets, strict=True):
        if target and name in results:
            ratio = results.ratio(name, base)
            yield Row(
                what + (", orjson" if name == "orjson" else ""),
                f"{results.median(name):.1f} µs",
                f"{results.median(base):.1f} µs",
                f"{ratio:.2f} ×",
                target.goals("×"),
                target.verdict(ratio),
                f"{results.ratio('openai', base):.1f} ×" if name == "ours" and "openai" in results else "",
                results.ratios(name, base),
            )


def streams(bench: Bench, verb: str) -> Iterator[Row]:
    """Read 2,000 chunks as fast as they can be read, in pieces of several and one by one."""
    results = bench.race(verb, 60, replay="bulk")
    yield from costs(f"{verb}(), a chunk", results, TARGETS["stream"])
    results = bench.race(verb, 40, replay="single")
    yield from costs(f"{verb}(), a chunk, one an HTTP chunk", results, TARGETS["none"])


def tokens(bench: Bench, verb: str) -> Iterator[Row]:
    """Read one token a packet, as it comes in production; the floor's reads have a limit, too."""
    results = bench.race(verb, 24, ("timed", *USUAL[1:]), replay="live")
    yield from costs(f"{verb}(), one token a packet (floor: timed)", results, TARGETS["tokens"], "timed")


def sends(bench: Bench, verb: str) -> Iterator[Row]:
    """Make one call on a warm client."""
    results = bench.race("calls", 60, verb=verb, replay="short", count=20)
    yield from costs(f"{verb}(), a call", results, TARGETS[verb])


def observers(bench: Bench) -> Iterator[Row]:
    """Have an observer that does nothing hear the calls, and the chunks of a long stream pass it by."""
    both = ("ours", "observed")
    for verb in VERBS:
        results = bench.race("calls", 60, both, verb=verb, replay="short", count=20)
        more, target = results.surplus("observed", "ours"), TARGETS["observed"][0]
        what = f"an observer that does nothing, {verb}(), a call more"
        yield Row(what, f"{more:.1f} µs", reach=target.goals("µs"), verdict=target.verdict(more))
    results = bench.race("stream", 60, both, replay="bulk")
    more = results.surplus("observed", "ours")
    yield Row("… stream(), a chunk more", f"{more:.2f} µs", reach="0", verdict=yes_or_no(more < NOISE))


def first_chunk(bench: Bench) -> Iterator[Row]:
    """Wait for the first chunk on a warm client."""
    results = bench.race("first_chunk", 60, count=20)
    yield from costs("first chunk of stream(), a call", results, TARGETS["first"])


def connections(bench: Bench) -> Iterator[Row]:
    """Count the connections that 500 calls on a warm client open."""
    for verbs, replay, what in (
        (VERBS, "short", "of each verb"),
        (("stream", "astream"), "late", "streams, the end 1 ms late"),
    ):
        counts = {name: [_opened(bench, name, verb, replay) for verb in verbs] for name in present()}
        yield Row(
            f"new connections in 500 warm calls {what}",
            _list(counts["ours"]),
            _list(counts["floor"]),
            reach="0",
            verdict=yes_or_no(not any(counts["ours"])),
            openai=_list(counts.get("openai", [])),
        )


def _opened(bench: Bench, name: str, verb: str, replay: str) -> int:
    with bench.worker(name) as worker:
        worker.run("calls", verb=verb, replay=replay, count=1)
        before = bench.connections()
        worker.run("calls", verb=verb, replay=replay, count=100 if bench.quick else 500)
        return bench.connections() - before


def _list(values: list[int]) -> str:
    return " ".join(map(str, values))


def imports(bench: Bench) -> Iterator[Row]:
    """Import the package on top of a Django that is ready to serve; the floor imports requests."""
    names = {"floor": "requests", "ours": "bupple_engine", "openai": "openai"}
    results = Results()
    for number in range(-1, 3 if bench.quick else 11):
        for name in filter(names.__contains__, present()):
            numbers = importing.measure(names[name])
            if number >= 0:  # the first round writes the .pyc files
                results.add(name, number, numbers)
    target = Target(15, 8)
    yield Row(
        "import on top of Django (floor: requests)",
        f"{results.median('ours'):.1f} ms",
        f"{results.median('floor'):.1f} ms",
        f"{results.ratio('ours'):.2f} ×",
        target.goals("ms") + " ¹",
        target.verdict(results.median("ours") * PACE / results.median("ours", "pace")),
        f"{results.median('openai'):.0f} ms" if "openai" in results else "",
        results.ratios("ours"),
    )
    target = Target(2)
    memory = {name: results.median(name, "memory") / 1024 for name in results.rounds}
    yield Row(
        "its memory",
        f"{memory['ours']:.1f} MB",
        f"{memory['floor']:.1f} MB",
        f"{results.ratio('ours', key='memory'):.2f} ×",
        target.goals("MB"),
        target.verdict(memory["ours"]),
        f"{memory['openai']:.0f} MB" if "openai" in memory else "",
        results.ratios("ours", key="memory"),
    )
    libraries = results.rounds["ours"][0]["libraries"]
    yield Row(
        "HTTP libraries that it loads",
        ", ".join(libraries) or "none",
        reach="none",
        verdict=yes_or_no(not libraries),
    )


def crowd(bench: Bench, task: str, streams: int, what: str) -> Iterator[Row]:
    """Read many streams of ten chunks a second at once."""
    replay, seconds = ("paced-quick", 1) if bench.quick else ("paced", 4)
    names = ("timed", *USUAL)
    results = bench.race_fresh(task, 5, names, streams=streams, replay=replay, seconds=seconds)
    yield from costs(f"{what}, a chunk", results, TARGETS["crowd"])
    yield from costs(f"{what}, a chunk (floor: timed)", results, TARGETS["crowd"], "timed")
    target = Target(35 if task == "crowd_async" else 75)
    yield Row(
        f"{what}, memory a stream",
        f"{results.median('ours', 'memory'):.0f} KB",
        f"{results.median('floor', 'memory'):.0f} KB",
        f"{results.ratio('ours', key='memory'):.2f} ×",
        target.goals("KB"),
        target.verdict(results.median("ours", "memory")),
        f"{results.median('openai', 'memory'):.0f} KB" if "openai" in results else "",
        results.ratios("ours", key="memory"),
    )
    failures = {name: results.worst(name, "failures") for name in results.rounds}
    yield Row(
        f"{what}, failures",
        f"{failures['ours']:.0f}",
        f"{failures['floor']:.0f}",
        reach="none",
        verdict=yes_or_no(not failures["ours"]),
        openai=f"{failures['openai']:.0f}" if "openai" in failures else "",
    )


def growth(bench: Bench) -> Iterator[Row]:
    """Read streams one after the other and watch the memory."""
    target = Target(100)
    thousand = 250 if bench.quick else 1000
    for verb in ("stream", "astream"):
        grown = {}
        for name in present():
            with bench.worker(name) as worker:
                worker.run("calls", verb=verb, replay="short", count=300)
                runs = [worker.run("calls", verb=verb, replay="short", count=thousand) for _ in range(2)]
                grown[name] = sum(run["growth"] for run in runs) / 2 / thousand * 1000
        yield Row(
            f"growth over 2,000 {verb}() calls, per 1,000",
            f"{grown['ours']:.0f} KB",
            f"{grown['floor']:.0f} KB",
            reach=target.goals("KB"),
            verdict=target.verdict(grown["ours"]),
            openai=f"{grown['openai']:.0f} KB" if "openai" in grown else "",
        )


def abandoned(bench: Bench) -> Iterator[Row]:
    """Abandon streams and count what is left: threads / descriptors."""
    for verb, hidden, what in (
        ("stream", (), "stream()"),
        ("astream", (), "astream()"),
        ("astream", ("aiohttp",), "astream(), no aiohttp"),
    ):
        left = []
        for manner in MANNERS:
            with bench.worker("ours", *hidden) as worker:
                numbers = worker.run(
                    "abandoned", verb=verb, manner=manner, count=200 if bench.quick else 1000
                )
                left.append((numbers["threads"], numbers["descriptors"]))
        yield Row(
            f"left by 1,000 {what} ²",
            " ".join(f"{threads}/{files}" for threads, files in left),
            reach="0/0 threads/files",
            verdict=yes_or_no(not any(map(any, left))),
        )


def decoder(bench: Bench) -> Iterator[Row]:
    """Decode one large event in pieces of 16 KB."""
    sizes = (1, 2, 4, 8)
    for shape, what in (("line", "one line"), ("crlf", "CRLF"), ("lines", "100,000 lines")):
        runs = {
            size: bench.race("decode", 8, ("floor", "ours"), megabytes=size, shape=shape) for size in sizes
        }
        times = {size: run.median("ours") for size, run in runs.items()}
        results = runs[sizes[-1]]
        target = Target(40, 20)
        yield Row(
            f"one 8 MB event in 16 KB pieces, {what}",
            f"{times[8]:.1f} ms",
            f"{results.median('floor'):.1f} ms",
            f"{results.ratio('ours'):.2f} ×",
            target.goals("ms") + " ¹",
            target.verdict(times[8] * PACE / results.median("ours", "pace")),
            ratios=results.ratios("ours"),
        )
        steps = [times[size] / size for size in sizes]
        yield Row(
            "… ms at 1, 2, 4, 8 MB",
            " ".join(f"{time:.1f}" for time in times.values()),
            reach="linear",
            verdict=yes_or_no(max(steps[1:]) < 1.6 * steps[0]),
        )


ROWS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "stream": partial(streams, verb="stream"),
    "astream": partial(streams, verb="astream"),
    "tokens": partial(tokens, verb="stream"),
    "atokens": partial(tokens, verb="astream"),
    "send": partial(sends, verb="send"),
    "asend": partial(sends, verb="asend"),
    "observers": observers,
    "first": first_chunk,
    "connections": connections,
    "import": imports,
    "async500": partial(crowd, task="crowd_async", streams=500, what="500 astream() at once"),
    "threads200": partial(crowd, task="crowd_threads", streams=200, what="200 threads in stream()"),
    "growth": growth,
    "abandoned": abandoned,
    "decoder": decoder,
    "relay": relay,
}
