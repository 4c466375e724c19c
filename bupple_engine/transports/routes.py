"""How an origin is reached: through which proxy, with which certificates, as requests' users expect it."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, Generic, TypeVar

from django.core.exceptions import ImproperlyConfigured

from bupple_engine.masking import SecretURL

T = TypeVar("T")


def find_proxy(own: SecretURL | None, url: str, *, socks: bool) -> SecretURL | None:
    """Return the entry's proxy, else the one that the environment names, as requests reads it."""
    from requests.utils import get_environ_proxies, select_proxy

    named = own.reveal() if own is not None else select_proxy(url, get_environ_proxies(url))
    if not named:
        return None
    # Not as requests does it, which takes the user of `user:password@host` for a scheme.
    proxy = SecretURL(named if "://" in named else f"http://{named}")
    scheme = proxy.reveal().partition(":")[0].lower()
    if scheme not in ("http", "https") and not (socks and scheme.startswith("socks")):
        raise ImproperlyConfigured(
            f"The proxy {proxy} can't be used: its URL may begin with http:// and https://, and with socks5://"
            ' in synchronous calls where PySocks is installed (pip install "requests[socks]").'
        )
    return proxy


ENVIRONMENT = (
    *(
        name
        for upper in ("HTTP", "HTTPS", "ALL", "NO")
        for name in (f"{upper}_PROXY", f"{upper.lower()}_proxy")
    ),
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)


_get_variable: Callable[[Any], str | bytes | None] = os.environ.get
_names: tuple[str | bytes, ...] = ENVIRONMENT
if sys.platform != "win32":
    # Each call compares them. os.environ raises and catches two KeyErrors for each that is not set: ten times
    # what the dict below it takes.
    _get_variable = getattr(os.environb, "_data", os.environb).get
    _names = tuple(map(os.fsencode, ENVIRONMENT))


class Routes(Generic[T]):
    """Keep what a transport finds out of an origin: the proxy and the CA bundle of the environment."""

    def __init__(self, find: Callable[[str], T]) -> None:
        self._find = find
        self._found: dict[tuple[str, int], T] = {}

    def get(self, url: str) -> T:
        """Return the route to a URL; it is found anew where the environment has changed."""
        # A report of errors prints what a frame holds, and a proxy of the environment has credentials: the
        # hash of them says as well whether they have changed.
        key = ("/".join(url.split("/", 3)[:3]), hash(tuple(map(_get_variable, _names))))
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._find(url)
        return found


def ca_bundle() -> str:
    """Return the CA bundle that requests would use: the environment's, else certifi's."""
    import certifi

    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or certifi.where()


@cache
def tls_context(path: str) -> ssl.SSLContext:
    """Return the one TLS context of both transports for a CA file or folder; certificates are verified."""
    try:
        if os.path.isdir(path):
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except OSError as error:
        raise ImproperlyConfigured(
            f"The CA file {path!r} can't be read: {error}. It is named by CA_FILE or by REQUESTS_CA_BUNDLE."
        ) from None
