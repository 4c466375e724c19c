"""Where Django looks for a database backend's classes."""

from __future__ import annotations

import threading
from typing import Any

from django.db.backends.sqlite3 import base

opened: set[int] = set()
lock = threading.Lock()


class DatabaseWrapper(base.DatabaseWrapper):
    """Count the connections that are open in this process."""

    def get_new_connection(self, conn_params: Any) -> Any:
        connection = super().get_new_connection(conn_params)
        with lock:
            opened.add(id(self))
        return connection

    def _close(self) -> None:
        super()._close()  # type: ignore[misc] # which its stubs leave out
        with lock:
            opened.discard(id(self))
