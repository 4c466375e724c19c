"""What a third party's driver writes its options with."""

from .masking import MaskedDict, SecretURL
from .protocol.options import COMMON, Option, timeout
from .protocol.values import (
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
    url,
)

__all__ = [
    "COMMON",
    "MaskedDict",
    "Option",
    "SecretURL",
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
