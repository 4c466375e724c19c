"""Where conversations are kept: the stores that the settings name, each made once a process."""

from __future__ import annotations

import threading

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from bupple_engine import process
from bupple_engine.conf.memory import APP, STORES, memory_settings

from .base import Store

_lock = threading.Lock()
_stores: dict[str, Store] = {}


def get_store(alias: str | None = None) -> Store:
    """Return the store of an alias of STORES, of the default one without; raises an ImproperlyConfigured."""
    name = memory_settings().store if alias is None else alias
    found = _stores.get(name)
    if found is None:
        with _lock:
            found = _stores.get(name) or _make(name)
            _stores[name] = found
    return found


def _make(alias: str) -> Store:
    entries = memory_settings().stores
    where = f"BUPPLE_ENGINE['MEMORY']['STORES'][{alias!r}]"
    if alias not in entries:
        raise ImproperlyConfigured(f"There is no {where}. Known are {', '.join(sorted(entries))}.")
    options = {key.lower(): value for key, value in entries[alias].items() if key != "STORE"}
    path = entries[alias]["STORE"]
    if path == STORES["database"] and not apps.is_installed(APP):  # its models would be another app's
        raise ImproperlyConfigured(
            f'{where} keeps conversations in the tables of "{APP}". Add to INSTALLED_APPS: "{APP}", '
            "and run: manage.py migrate"
        )
    try:
        found = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"{where}: {path!r} can't be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Store)):
        raise ImproperlyConfigured(f"{where}: {path!r} is no subclass of {Store.__module__}.Store.")
    return found(**options)


@process.after_change
def _reset() -> None:
    _stores.clear()


@process.after_fork
def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
