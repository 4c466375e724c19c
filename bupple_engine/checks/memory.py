"""What is checked of MEMORY where the site has set it."""

from __future__ import annotations

from collections.abc import Iterator

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage
from django.utils.module_loading import import_string

from bupple_engine.conf import Mistake
from bupple_engine.conf.memory import APP, STORES, find_memory_mistakes, has_memory, readable_memory_settings
from bupple_engine.masking.keys import shown

from .table import Address, message, of_mistake

WHERE = "BUPPLE_ENGINE['MEMORY']"


def check_memory() -> Iterator[CheckMessage]:
    """Yield what is wrong with MEMORY, and what it needs."""
    if not has_memory():
        return
    for mistake in find_memory_mistakes():
        yield of_mistake(mistake)
    memory = readable_memory_settings()
    entry = memory.stores.get(memory.store, {})
    if entry.get("STORE") == STORES["database"] and not apps.is_installed(APP):
        words = f'lacks "{APP}", whose tables the database store needs.'
        yield message("E016", Address("INSTALLED_APPS"), words, f'Add to INSTALLED_APPS: "{APP}",')
    yield from _check_path(f"{WHERE}['TITLE']", memory.title)
    yield from _check_path(f"{WHERE}['CONTEXT']['STRATEGY']", memory.context["strategy"])
    if memory.media_storage not in settings.STORAGES:
        words = f" is {shown(memory.media_storage)}, which STORAGES has not."
        yield of_mistake(Mistake("E015", f"{WHERE}['MEDIA_STORAGE']", words))
    for name, it in memory.stores.items():
        if it["STORE"] == STORES["cache"] and it.get("CACHE", "default") not in settings.CACHES:
            words = f" is {shown(it.get('CACHE', 'default'))}, which CACHES has not."
            yield of_mistake(Mistake("E015", f"{WHERE}['STORES'][{shown(name)}]['CACHE']", words))


def _check_path(address: str, path: object) -> Iterator[CheckMessage]:
    words, hint = "", "Write the dotted path as Python imports it."
    try:
        found = import_string(path) if isinstance(path, str) else path
    except Exception as error:  # whatever the site's module raises
        words = f": {shown(path)} can't be imported: {str(error).rstrip('.')}."
    else:
        if found is not None and not callable(found):
            words, hint = f": {shown(path)} can't be called.", ""
    if words:
        yield of_mistake(Mistake("E015", address, words, hint))
