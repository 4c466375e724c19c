"""The example site on a server of its own, its driver pointed at a provider of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from tests.servers import ROOT, free_port
from tests.wires import KEY

SECONDS = 60.0  # how long a server may take to start, or to end, on a busy machine
COMMANDS = {
    "runserver": "manage.py runserver --noreload {port}",
    "uvicorn": "-m uvicorn example_project.asgi:application --log-level warning --port {port}",
}


@contextmanager
def serve(name: str, provider: str, folder: Path) -> Iterator[str]:
    """Run the site, as README's first command does; give its address."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BUPPLE_ENGINE")},
        "BUPPLE_ENGINE_DEFAULT": "openai_chat",
        "BUPPLE_ENGINE_OPENAI_CHAT_API_KEY": KEY,
        "BUPPLE_ENGINE_OPENAI_CHAT_MODEL": "gpt-6-sol",
        "BUPPLE_ENGINE_OPENAI_CHAT_BASE_URL": provider + "/v1",
        "DATABASE_URL": f"sqlite:///{folder}/site.sqlite3",
        "PYTHONWARNINGS": "default",
    }
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, cwd=ROOT, env=environment, check=True)
    port = free_port()
    command = [sys.executable, *COMMANDS[name].format(port=port).split()]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            _wait_until_open(port, server)
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()
            server.wait(SECONDS)
    output = (folder / "log").read_text()
    assert "Traceback" not in output, output


def _wait_until_open(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        with suppress(OSError, HTTPException):
            connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
            connection.request("GET", "/login/")
            connection.getresponse().read()
            connection.close()
            return
        assert server.poll() is None, "the server has ended"
        assert time.monotonic() < deadline, "the server does not start"
        time.sleep(0.05)
