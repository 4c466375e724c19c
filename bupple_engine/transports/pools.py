"""Pools of connections: requests' adapter over urllib3's, which are watched."""

from __future__ import annotations

from functools import cache
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from .answers import present
from .routes import tls_context
from .sockets import PlainConnection, SecureConnection, Watched
from .trust import Trust

# More than the threads of any one process: a connection beyond it is closed after use, not refused.
POOL_SIZE = 500
POOLS = 50  # of origins, the latest


class _Keeping:
    """Keep connections while the other side can be trusted; give a new one where the wait asks for it."""

    def __init__(self, host: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(host, *args, **kwargs)  # type: ignore[call-arg]
        self.trust = Trust(host)

    def _new_conn(self) -> Any:
        connection: Any = super()._new_conn()  # type: ignore[misc]
        connection.trust = self.trust  # not the pool: that closes its connections when nobody refers to it
        return connection

    def _get_conn(self, *args: Any, **kwargs: Any) -> Any:
        connection: Any = super()._get_conn(*args, **kwargs)  # type: ignore[misc]
        if present.wait is not None and present.wait.fresh:
            connection.close()
        return connection

    def _put_conn(self, connection: Any) -> None:
        if connection is not None and self.trust.lost:
            connection.close()
        super()._put_conn(connection)  # type: ignore[misc]


class _HTTPPool(_Keeping, urllib3.HTTPConnectionPool):
    ConnectionCls = PlainConnection


class _HTTPSPool(_Keeping, urllib3.HTTPSConnectionPool):
    ConnectionCls = SecureConnection


@cache
def _socks_pools() -> dict[str, type]:
    """Return the same for a SOCKS proxy, whose connections are PySocks' own."""
    from urllib3.contrib import socks

    class SocksConnection(Watched, socks.SOCKSConnection):
        pass

    class SecureSocksConnection(SecureConnection, socks.SOCKSHTTPSConnection):
        pass

    class SocksPool(_Keeping, socks.SOCKSHTTPConnectionPool):
        ConnectionCls = SocksConnection

    class SecureSocksPool(_Keeping, socks.SOCKSHTTPSConnectionPool):
        ConnectionCls = SecureSocksConnection

    return {"http": SocksPool, "https": SecureSocksPool}


class Adapter(HTTPAdapter):
    """requests' adapter with our pools and one TLS context a CA bundle."""

    def __init__(self, ca_path: str) -> None:
        self.ca_path = ca_path  # "" where nothing is spoken to through TLS
        super().__init__(pool_connections=POOLS, pool_maxsize=POOL_SIZE)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if proxy.lower().startswith("https"):
            kwargs["proxy_ssl_context"] = tls_context(self.ca_path)
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = (
            _socks_pools() if proxy.lower().startswith("socks") else {"http": _HTTPPool, "https": _HTTPSPool}
        )
        return manager

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        host: Any
        pool: Any
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        pool.pop("ca_certs", None)
        if self.ca_path:
            pool["ssl_context"] = tls_context(self.ca_path)
        return host, pool
