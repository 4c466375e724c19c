"""What a third party's driver writes its options with."""

from .protocol.options import (
    COMMON,
    Option,
    api_key,
    boolean,
    choice,
    extra,
    headers,
    integer,
    number,
    path,
    proxy,
    stop,
    string,
    timeout,
    url,
)

__all__ = [
    "COMMON",
    "Option",
    "api_key",
    "boolean",
    "choice",
    "extra",
    "headers",
    "integer",
    "number",
    "path",
    "proxy",
    "stop",
    "string",
    "timeout",
    "url",
]
