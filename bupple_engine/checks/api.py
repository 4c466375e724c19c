"""What is checked of the HTTP API where the site includes our URLs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.urls import URLResolver, get_resolver

from bupple_engine.masking import hide_dicts
from bupple_engine.options import suggest

from .messages import Address, message, of_error

API = Address("BUPPLE_ENGINE['API']")
ANYONE = "rest_framework.permissions.AllowAny"
UNSHARED = {
    "django.core.cache.backends.locmem.LocMemCache": "each process counts for itself",
    "django.core.cache.backends.dummy.DummyCache": "nothing is counted",
}
# nginx's proxy_read_timeout, AWS' load balancers' idle timeout and others.
PROXY_SECONDS = 60

DEFAULTS: dict[str, Any] = {
    "PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
    "AUTHENTICATION_CLASSES": None,
    "DRIVERS": None,
    "MODELS": {},
    "OPTIONS": {},
    "SYSTEM_MESSAGES": False,
    "MAX_MESSAGES": 100,
    "MAX_CHARACTERS": 200_000,
    "MAX_BODY_BYTES": 10_000_000,
    "MEDIA_TYPES": ["image/png", "image/jpeg", "image/webp", "image/gif"],
    "THROTTLE_RATES": {"user": "60/min", "anon": "10/min"},
    "MAX_CONCURRENT_STREAMS": {"user": 5, "process": 500},
    "GATE_SECONDS": 20,
    "HEARTBEAT_SECONDS": 15,
    "PREPARE": None,
}


def read_api() -> dict[str, Any]:
    """Return the API's settings, or raise an ImproperlyConfigured for the first mistake in them."""
    value = getattr(settings, "BUPPLE_ENGINE", None)
    value = hide_dicts(value.get("API")) if isinstance(value, dict) else None
    if value is None:
        return DEFAULTS
    if not isinstance(value, dict):
        raise ImproperlyConfigured(f"BUPPLE_ENGINE['API'] must be a dict, not a {type(value).__name__}.")
    for key in value:
        if key not in DEFAULTS:
            raise ImproperlyConfigured(
                f"BUPPLE_ENGINE['API']: unknown key {key!r}.{suggest(str(key), DEFAULTS)}"
            )
    return {**DEFAULTS, **value}


def includes_urls() -> bool:
    """Tell whether the site's URLs include ours; those of a broken URLconf are Django's to tell."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return False
    try:
        return _includes(get_resolver())
    except Exception:
        return False


def _includes(resolver: URLResolver) -> bool:
    return any(
        isinstance(pattern, URLResolver) and (pattern.app_name == "bupple_engine" or _includes(pattern))
        for pattern in resolver.url_patterns
    )


def check_api() -> Iterator[CheckMessage]:
    """Yield what is wrong with API, and what our URLs need."""
    try:
        read_api()
    except ImproperlyConfigured as error:
        yield of_error("E013", error, API)
    if includes_urls() and not apps.is_installed("rest_framework"):
        words = 'lacks "rest_framework", which the URLs of bupple_engine need.'
        yield message("E014", Address("INSTALLED_APPS"), words, 'Add to INSTALLED_APPS: "rest_framework",')


def check_open_api() -> Iterator[CheckMessage]:
    """Yield what makes the API unfit for the internet."""
    if not includes_urls():
        return
    try:
        api = read_api()
    except ImproperlyConfigured:
        return  # check_api tells it
    if _is_open(api["PERMISSION_CLASSES"]):
        yield message(
            "W104",
            Address("BUPPLE_ENGINE['API']['PERMISSION_CLASSES']"),
            "lets anonymous callers spend your providers' tokens.",
            'Write "PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"]',
        )
    yield from _check_throttles(api)
    for name in ("GATE_SECONDS", "HEARTBEAT_SECONDS"):
        seconds = api[name]
        if isinstance(seconds, int | float) and seconds >= PROXY_SECONDS:
            words = f"is {seconds:g}; many proxies end what is silent for {PROXY_SECONDS} seconds."
            hint = f'Write "{name}": {DEFAULTS[name]}, or raise the limit of each proxy before the site.'
            yield message("W108", Address(f"BUPPLE_ENGINE['API'][{name!r}]"), words, hint)


def _is_open(classes: Any) -> bool:
    if classes is None:
        site = getattr(settings, "REST_FRAMEWORK", None) or {}
        classes = site.get("DEFAULT_PERMISSION_CLASSES", [ANYONE])
    names = [each if isinstance(each, str) else f"{each.__module__}.{each.__qualname__}" for each in classes]
    return all(name == ANYONE for name in names)  # permissions add up; none of them lets everyone in


def _check_throttles(api: dict[str, Any]) -> Iterator[CheckMessage]:
    if not api["THROTTLE_RATES"]:
        hint = f'Remove it, or write "THROTTLE_RATES": {DEFAULTS["THROTTLE_RATES"]}'
        words = "is empty: one caller can spend all that your providers allow."
        yield message("W107", Address("BUPPLE_ENGINE['API']['THROTTLE_RATES']"), words, hint)
        return
    backend = settings.CACHES.get("default", {}).get("BACKEND")
    if backend in UNSHARED:
        yield message(
            "W103",
            Address("CACHES['default']['BACKEND']"),
            f"is {backend.rpartition('.')[2]}, in which the API's throttles count: {UNSHARED[backend]}.",
            'Write "BACKEND": "django.core.cache.backends.redis.RedisCache", or another that is shared.',
        )
