"""gunicorn's configuration where the application is loaded before its workers are forked."""

from typing import Any

preload_app = True


def post_worker_init(worker: Any) -> None:
    """Do in the worker, which has handlers of its own, what wsgi.py did in vain in the arbiter."""
    from bupple_engine.http import end_streams_at_shutdown

    end_streams_at_shutdown()
