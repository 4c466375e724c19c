"""What `manage.py check --database` tells of the tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage
from django.db import connections, router

from bupple_engine.checks.table import Address, message

from .models import Conversation


def check_tables(
    app_configs: Any = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Return a message where the database that conversations go to has no tables for them."""
    alias = router.db_for_write(Conversation)
    if alias not in (databases or ()):
        return []
    if Conversation._meta.db_table in connections[alias].introspection.table_names():
        return []
    words = f"has no tables for conversations in the database {alias!r}."
    hint = f"Run: manage.py migrate --database {alias}" if alias != "default" else "Run: manage.py migrate"
    return [message("W022", Address("DATABASES"), words, hint)]
