"""The only reader of settings.BUPPLE_ENGINE, which follows a test that overrides it."""

from .api import API, APISettings, api_settings, find_api_mistakes, readable_api_settings
from .engine import KEYS, Mistake, default_alias, entries, entry, find_mistakes, max_threads
from .observing import find_observer_mistakes, observers

__all__ = [
    "API",
    "KEYS",
    "APISettings",
    "Mistake",
    "api_settings",
    "default_alias",
    "entries",
    "entry",
    "find_api_mistakes",
    "find_mistakes",
    "find_observer_mistakes",
    "max_threads",
    "observers",
    "readable_api_settings",
]
