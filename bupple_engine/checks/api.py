"""What is checked of the HTTP API where the site includes our URLs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage
from django.urls import URLResolver, get_resolver
from django.utils.module_loading import import_string

from bupple_engine import conf
from bupple_engine.conf.reading import read
from bupple_engine.masking.keys import shown
from bupple_engine.protocol.options import suggest

from .table import Address, message, of_mistake

ANYONE = "rest_framework.permissions.AllowAny"
# These two are shared, but count by reading and writing.
ONE_BY_ONE = "calls at the same moment count as one, so a burst gets through"
UNFIT = {
    "django.core.cache.backends.locmem.LocMemCache": "each process counts for itself",
    "django.core.cache.backends.dummy.DummyCache": "nothing is counted",
    "django.core.cache.backends.filebased.FileBasedCache": ONE_BY_ONE,
    "django.core.cache.backends.db.DatabaseCache": ONE_BY_ONE,
}
# nginx's proxy_read_timeout, AWS' load balancers' idle timeout and others.
PROXY_SECONDS = 60


def includes_urls() -> bool:
    """Return whether the site's URLs include ours; Django reports a broken URLconf itself."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return False
    try:
        return _includes(get_resolver())
    except Exception:  # whatever importing the site's URLs raises
        return False


def _includes(resolver: URLResolver) -> bool:
    return any(
        isinstance(pattern, URLResolver) and (pattern.app_name == "bupple_engine" or _includes(pattern))
        for pattern in resolver.url_patterns
    )


def check_api() -> Iterator[CheckMessage]:
    """Yield what is wrong with API, and what our URLs need."""
    for mistake in conf.find_api_mistakes():
        yield of_mistake(mistake)
    api = conf.readable_api_settings()
    yield from _check_options(api)
    if not includes_urls():
        return
    if not apps.is_installed("rest_framework"):
        words = 'lacks "rest_framework", which the URLs of bupple_engine need.'
        yield message("E014", Address("INSTALLED_APPS"), words, 'Add to INSTALLED_APPS: "rest_framework",')
    yield from _check_paths(api)


def _check_paths(api: conf.APISettings) -> Iterator[CheckMessage]:
    for key, named, method in (
        ("PERMISSION_CLASSES", api.permission_classes, "has_permission"),
        ("AUTHENTICATION_CLASSES", api.authentication_classes or [], "authenticate"),
        ("PREPARE", [api.prepare], "__call__"),
    ):
        for path in named:
            words, hint = "", "Write the dotted path as Python imports it."
            try:
                found = import_string(path) if isinstance(path, str) else path
            except Exception as error:  # whatever the site's module raises
                words = f": {shown(path)} can't be imported: {str(error).rstrip('.')}."
            else:
                if found is not None and not (callable(found) and _has(found, method)):
                    words, hint = f": {shown(path)} has no {method}(), which it must have.", ""
            if words:
                yield of_mistake(conf.Mistake("E013", f"BUPPLE_ENGINE['API'][{key!r}]", words, hint))


def _check_options(api: conf.APISettings) -> Iterator[CheckMessage]:
    readings = {alias: read(alias, entry) for alias, entry in conf.entries() if isinstance(entry, dict)}
    known = [readings[alias].known if alias in readings else () for alias in api.drivers]
    if not known or not all(known):
        return  # an entry that can't be read does not tell what its driver knows
    names = {name for options in known for name in options}
    for name in api.options:
        if name not in names:
            words = f" has {name!r}, which is not an option of any of its drivers."
            hint = suggest(name, names).strip()
            yield of_mistake(conf.Mistake("E013", "BUPPLE_ENGINE['API']['OPTIONS']", words, hint))


def _has(found: Any, method: str) -> bool:
    # Permissions joined by | and & are no classes, but make instances that have it.
    return hasattr(found, method) or not isinstance(found, type)


def check_open_api() -> Iterator[CheckMessage]:
    """Yield what makes the API unfit for the internet."""
    if not includes_urls():
        return
    api = conf.readable_api_settings()
    if _is_open(api.permission_classes):
        yield message(
            "W104",
            Address("BUPPLE_ENGINE['API']['PERMISSION_CLASSES']"),
            "lets anonymous callers spend your providers' tokens.",
            'Write "PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"]',
        )
    yield from _check_throttles(api)
    for name, seconds in (("GATE_SECONDS", api.gate_seconds), ("HEARTBEAT_SECONDS", api.heartbeat_seconds)):
        if seconds >= PROXY_SECONDS:
            words = f"is {seconds:g}; many proxies cut off what is silent for {PROXY_SECONDS} seconds."
            hint = f'Write "{name}": {conf.API[name][0]}, or raise the limit of your proxies.'
            yield message("W108", Address(f"BUPPLE_ENGINE['API'][{name!r}]"), words, hint)


def _is_open(classes: list[Any]) -> bool:
    names = [
        each if isinstance(each, str) else f"{each.__module__}.{getattr(each, '__qualname__', '')}"
        for each in classes
    ]
    return all(name == ANYONE for name in names)  # permissions add up; none of them lets everyone in


def _check_throttles(api: conf.APISettings) -> Iterator[CheckMessage]:
    if None in api.throttle_rates.values():
        hint = f'Remove it, or write "THROTTLE_RATES": {conf.API["THROTTLE_RATES"][0]}'
        words = "has no limit: one caller can use up all that your providers allow."
        yield message("W107", Address("BUPPLE_ENGINE['API']['THROTTLE_RATES']"), words, hint)
        return
    backend = settings.CACHES.get("default", {}).get("BACKEND")
    if why := _why_unfit(backend):
        yield message(
            "W103",
            Address("CACHES['default']['BACKEND']"),
            f"is {str(backend).rpartition('.')[2]}, in which the API's throttles count: {why}.",
            'Write "BACKEND": "django.core.cache.backends.redis.RedisCache", or another shared cache.',
        )


def _why_unfit(backend: Any) -> str | None:
    """Return why a cache can't count for several processes; a site's own may be made of one of these."""
    try:
        found = import_string(backend) if isinstance(backend, str) else backend
    except Exception:  # whatever the module raises; Django tells it
        return None
    names = (f"{each.__module__}.{each.__qualname__}" for each in getattr(found, "__mro__", ()))
    return next((UNFIT[name] for name in names if name in UNFIT), None)
