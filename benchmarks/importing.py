"""Import one package on top of a Django that is ready to serve; a process of its own each time."""

import importlib
import json
import os
import subprocess
import sys
import time

from benchmarks.process import Numbers, pace, resident

HTTP_LIBRARIES = ("requests", "urllib3", "aiohttp", "httpx", "httpx2", "httpcore", "http.client", "openai")


def measure(package: str) -> Numbers:
    """Return the ms and KB that a package costs, and the HTTP libraries that came with it."""
    command = [sys.executable, "-m", "benchmarks.importing", package]
    # Compiled once, as where it is installed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, check=True, capture_output=True, env=environment)
    numbers: Numbers = json.loads(done.stdout)
    return numbers


def main(package: str) -> None:
    """Print what measure() returns."""
    from django.conf import settings

    # Models and views are loaded, as in every site: they are Django's cost.
    site = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"]
    settings.configure(
        INSTALLED_APPS=site,
        BUPPLE_ENGINE={"DEFAULT": "bench", "DRIVERS": {"bench": {"DRIVER": "echo"}}},
    )
    from django.apps import apps
    from django.core.wsgi import get_wsgi_application
    from django.views import generic

    get_wsgi_application()
    _ = generic.View
    loaded = set(sys.modules)
    speed = pace()
    memory, start = resident(), time.process_time()
    if package == "bupple_engine":
        apps.set_installed_apps([*site, package])
    importlib.import_module(package)
    cpu, memory = time.process_time() - start, resident() - memory
    found = [name for name in HTTP_LIBRARIES if name in sys.modules and name not in loaded]
    print(json.dumps({"cpu": cpu * 1e3, "pace": speed, "memory": memory, "libraries": found}))


if __name__ == "__main__":
    main(sys.argv[1])
