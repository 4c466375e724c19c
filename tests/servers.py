"""Real servers that run tests/site, each a process group of its own, and readers of what they stream."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

HEARTBEAT = b": keep-alive\n"
ROOT = Path(__file__).parent.parent
SECONDS = 30.0  # how long anything may take on a busy machine
# Below the ports that the kernel gives to connections: nobody takes one between our look and the server's.
PORTS = range(20_000, 32_000)
SESSIONS = """
    CREATE TABLE django_session
    (session_key varchar(40) NOT NULL PRIMARY KEY, session_data text NOT NULL, expire_date datetime NOT NULL)
"""


@dataclass(frozen=True)
class Kind:
    """How a server is started; {port} is put in."""

    world: str
    package: str
    command: str
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return its name in KINDS, if it has one."""
        return next((name for name, kind in KINDS.items() if kind is self), "")

    @property
    def is_async(self) -> bool:
        return self.world == "asgi"

    @property
    def missing(self) -> str | None:
        """Return why it can't be started here."""
        if not Path("/proc/self/fd").exists():
            return "there is no /proc here, by which the site counts what it has open"
        if importlib.util.find_spec(self.package) is None:
            return f"{self.package} is not installed"
        return None


ASGI = "tests.site.asgi:application"
WSGI = "tests.site.wsgi:application"
GUNICORN = "gunicorn --no-control-socket --log-level warning -b 127.0.0.1:{port}"
KINDS = {
    "uvicorn": Kind("asgi", "uvicorn", f"uvicorn --log-level warning --port {{port}} {ASGI}"),
    "daphne": Kind("asgi", "daphne", f"daphne -v 0 -b 127.0.0.1 -p {{port}} {ASGI}"),
    "granian": Kind("asgi", "granian", f"granian --interface asgi --port {{port}} {ASGI}"),
    # Of itself it starts a worker, and tells it of a shutdown by no signal: see test_servers.py.
    "hypercorn": Kind("asgi", "hypercorn", f"hypercorn --workers 0 -b 127.0.0.1:{{port}} {ASGI}"),
    "gunicorn-asgi": Kind("asgi", "gunicorn", f"{GUNICORN} -k asgi {ASGI}"),
    "gunicorn-gthread": Kind("wsgi", "gunicorn", f"{GUNICORN} -k gthread --threads 64 {WSGI}"),
    "runserver-asgi": Kind("asgi", "daphne", "django runserver {port}", {"SITE_DAPHNE": "1"}),
    "runserver-wsgi": Kind("wsgi", "django", "django runserver {port}"),
}


class Server:
    """One server, of which a test may make what it wants: another start gives a new one."""

    process: subprocess.Popen[bytes] | None = None
    port = 0

    def __init__(self, kind: Kind, folder: Path, provider: str) -> None:
        self.kind = kind
        self.database = folder / "db.sqlite3"
        self.log = folder / "log.txt"
        self.environment = {
            **os.environ,
            **kind.environment,
            "DJANGO_SETTINGS_MODULE": "tests.site.settings",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "SITE_DATABASE": str(self.database),
            "SITE_PROVIDER": provider,
        }
        with sqlite3.connect(self.database) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(SESSIONS)
        connection.close()

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        for _ in range(5):
            self.port = free_port()
            command = [sys.executable, "-m", *self.kind.command.format(port=self.port).split()]
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True
                )
            deadline = time.monotonic() + SECONDS
            while self.is_running and time.monotonic() < deadline:
                with suppress(OSError, HTTPException):
                    if self.state()["site"] == str(self.database):
                        return
                time.sleep(0.02)
            self.stop()
        raise RuntimeError(f"{self.kind.command} does not answer:\n{self.written()}")

    def terminate(self) -> None:
        """Ask it to end, as a deployment does."""
        assert self.process is not None
        self.process.terminate()

    def wait_ended(self) -> None:
        """Wait for its end; what it has started may outlive it, such as the reloader's own server."""
        assert self.process is not None
        self.process.wait(SECONDS)
        self.stop()

    def stop(self) -> None:
        """End it and whatever it has started, at once."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def written(self) -> str:
        """Return its log."""
        return self.log.read_text(errors="replace")

    def state(self, **settings: float) -> Any:
        """Return what it has open, after setting what is given of the API's settings."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request("GET", f"/state/?{urlencode(settings)}", headers={"Connection": "close"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


class Reader:
    """One request, and its answer read as it comes."""

    def __init__(
        self,
        server: Server,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> None:
        self.connection = HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
        self.buffer = b""
        self.heartbeats = 0
        headers = {"Accept-Encoding": "gzip", **(headers or {})}
        if body is None:
            self.connection.request("GET", path, headers=headers)
        else:
            headers["Content-Type"] = "application/json"
            self.connection.request("POST", path, json.dumps(body), headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.leave()

    def open(self) -> Self:
        """Wait for the status and the headers."""
        self.response = self.connection.getresponse()
        self.status, self.headers = self.response.status, self.response.headers
        return self

    def json(self) -> Any:
        """Return the whole answer, which is JSON."""
        assert self.headers["Content-Type"] == "application/json"
        return json.loads(self.response.read())

    def event(self) -> bytes:
        """Return the next event, past the heartbeats; b"" at the end."""
        while True:
            while self.buffer.startswith(HEARTBEAT):
                self.buffer = self.buffer.removeprefix(HEARTBEAT)
                self.heartbeats += 1
            event, end, rest = self.buffer.partition(b"\n\n")
            if not end:
                if not (data := self.response.read1(65536)):
                    return self.buffer
                self.buffer += data
                continue
            self.buffer = rest
            return event + end

    def heartbeat(self) -> None:
        """Wait for a heartbeat; an event must not come in its place."""
        while not self.buffer:
            self.buffer = self.response.read1(65536)
        line, end, self.buffer = self.buffer.partition(b"\n")
        assert line + end == HEARTBEAT

    def leave(self) -> None:
        """Close the connection."""
        if (response := getattr(self, "response", None)) is not None:
            response.close()
        self.connection.close()


def free_port() -> int:
    while True:
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port := random.SystemRandom().choice(PORTS)))
            return port
