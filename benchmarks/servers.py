"""The servers that a relay runs under, each a process of its own on a core of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.worker import WorkerError

COMMANDS = {
    "uvicorn": ("uvicorn", "benchmarks.relay_site:asgi", "--log-level", "error", "--port", "{port}"),
    "gthread": (
        "gunicorn", "benchmarks.relay_site:wsgi", "--worker-class", "gthread", "--threads", "1500",
        "--worker-connections", "2000", "--timeout", "0", "--log-level", "critical",
        "--bind", "127.0.0.1:{port}",
    ),
}  # fmt: skip
PATHS = {"uvicorn": "/asgi/", "gthread": "/wsgi/"}
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Server:
    """Serve one contender's relay; with gc_set, the garbage collector is set as docs/http-api.md says."""

    def __init__(self, kind: str, contender: str, origin: str, *, gc_set: bool = False) -> None:
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = found.getsockname()[1]
        self.contender = contender
        self.path = "/ai/chat/stream/" if contender == "ours" else PATHS[kind]
        environment = {**os.environ, "RELAY_CONTENDER": contender, "RELAY_PROVIDER": origin}
        if gc_set:
            environment["RELAY_GC"] = "1"
        command = [part.format(port=self.port) for part in COMMANDS[kind]]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command], env=environment, start_new_session=True
        )
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1:  # one core's worth is measured; the provider and the readers have the others
            os.sched_setaffinity(self.process.pid, cores[:1])
        deadline = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        self.__exit__(None, None, None)
        raise WorkerError(f"{kind} does not serve {contender}")

    @property
    def pids(self) -> list[int]:
        """The processes of the server: gunicorn's worker is a child of its arbiter."""
        task = Path(f"/proc/{self.process.pid}/task")
        children = [pid for each in task.iterdir() for pid in (each / "children").read_text().split()]
        return [self.process.pid, *map(int, children)]

    def cpu(self) -> float:
        """Return the seconds of CPU, user + system, so far."""
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.pids]
        return sum(int(each[11]) + int(each[12]) for each in fields) / TICKS

    def memory(self) -> float:
        """Return the resident memory in KB."""
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids) * PAGE / 1024

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Its streams have no end, which it would wait for.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
