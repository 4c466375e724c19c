"""How many calls a client may make, counted in Django's cache, which several workers share."""

from __future__ import annotations

import time
from contextlib import suppress
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from typing import Any

from django.core.cache import cache
from rest_framework.request import Request
from rest_framework.settings import api_settings as rest_settings
from rest_framework.throttling import BaseThrottle


def caller(request: Request) -> str:
    """Return who calls, as part of a cache key: a user, or an address for an anonymous caller.

    X-Forwarded-For is a client's own word unless REST_FRAMEWORK['NUM_PROXIES'] says how many proxies the
    site has; without it the connection's address counts.
    """
    user: Any = request.user
    if user is not None and user.is_authenticated:
        return f"user:{_digest(str(user.pk))}"
    if rest_settings.NUM_PROXIES is None:
        address = request.META.get("REMOTE_ADDR") or ""
    else:
        address = _without_port(BaseThrottle().get_ident(request) or "")
    return f"anon:{_digest(_network(address))}"


def _without_port(address: str) -> str:
    """Return an address of X-Forwarded-For without the port that some gateways add."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


def _digest(who: str) -> str:
    # A header's or a user's text may be of any length, and hold what no cache takes for a key.
    return sha256(who.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _network(address: str) -> str:
    """Return the address that a caller can't choose: of IPv6 each has 2⁶⁴."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return str(found)
    return str(found.ipv4_mapped or int(found) >> 64)


class CallThrottle(BaseThrottle):
    """Hold a caller to THROTTLE_RATES, over a window that slides.

    DRF's own throttles read a list from the cache and write it back, so that calls at the same time count as
    one; here each is an increment, which Redis, Memcached and LocMemCache do at once, a database or files do
    not. The count is that of the present window and the share of the one before that the last period still
    covers.
    """

    def allow_request(self, request: Request, view: Any) -> bool:
        who = view.caller
        rate = view.api.throttle_rates[who.partition(":")[0]]
        if rate is None:
            return True
        limit, period = rate
        now = time.time()
        window, into = divmod(now, period)
        key = f"bupple_engine:calls:{who}:{period}:{int(window)}"
        before = cache.get(f"bupple_engine:calls:{who}:{period}:{int(window) - 1}", 0)
        cache.add(key, 0, timeout=2 * period)
        try:
            count = cache.incr(key)
        except ValueError:  # evicted in between
            cache.set(key, count := 1, timeout=2 * period)
        if before * (1 - into / period) + count <= limit:
            cache.touch(key, 2 * period)  # the incr() of a database or of files sets the default timeout
            return True
        self._wait = self._until_room(limit, period, into, before, count)
        with suppress(ValueError):
            cache.decr(key)  # a call that was refused does not count
            cache.touch(key, 2 * period)
        return False

    @staticmethod
    def _until_room(limit: int, period: float, into: float, before: int, count: int) -> float:
        """Return the seconds until one more call fits."""
        if count <= limit:  # as the window before passes out of sight
            return max((1 - (limit - count) / before) * period - into, 0.0)
        # In the next window this one is the one before.
        return period - into + (1 - (limit - 1) / (count - 1)) * period if count > 1 else period - into

    def wait(self) -> float | None:
        return self._wait
