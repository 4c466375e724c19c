"""Which URLs of media a client may name: a model server would fetch them from within the site's network."""

from __future__ import annotations

import re
import unicodedata
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import unquote, urlsplit

# Names that only a network's own resolver knows. Source: https://www.rfc-editor.org/rfc/rfc6761 and rfc6762,
# rfc8375, ICANN's .internal; the others are what routers, companies and Kubernetes use.
PRIVATE_NAMES = (
    *("localhost", "local", "internal", "home.arpa"),
    *("localdomain", "intranet", "lan", "corp", "home", "private", "svc"),
)

# What browsers leave out of a URL, or read as another character, so that two readers see two hosts in it.
_AMBIGUOUS = re.compile(r"[\s\\\x00-\x1f\x7f]")
_HOST = re.compile(r"[\w-]+(\.[\w-]+)*|[0-9a-f:.]+:[0-9a-f:.]*(%[\w.-]+)?")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
# Public by its range, and answered by the host of an Azure machine alone, who gives out its configuration.
_PLATFORM = IPv4Address("168.63.129.16")
# IPv6 that carries an IPv4 address in its last 32 bits: IPv4-compatible, and NAT64's (RFC 6052, RFC 8215).
_CARRIERS = (ip_network("::/96"), ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))


def why_private(url: str) -> str | None:
    """Return why a URL may not be passed on, or None; no name is looked up, which may mean another later."""
    if _AMBIGUOUS.search(url):
        return "has characters that no URL has"
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port  # which may be none
    except ValueError:
        return "can't be read as a URL"
    if parts.scheme.lower() != "https":
        return "is not https"
    if "@" in parts.netloc:
        return "has a user or a password in it"
    # As a browser reads it: ①②⑦ is 127, 。 is a full stop.
    host = unicodedata.normalize("NFKC", unquote(host)).replace("。", ".").lower().removesuffix(".")
    if not _HOST.fullmatch(host):  # with an empty label too
        return "has no host that can be read"
    address = _address(host)
    if address is None:
        private = "." not in host or host.endswith(tuple(f".{name}" for name in PRIVATE_NAMES))
        return "names a host of a private network" if private else None
    return None if _is_public(address) else "is an address of a private network"


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a host is in any spelling, None for a name; what can't be one is 0.0.0.0."""
    if ":" in host:
        try:
            return ip_address(host.partition("%")[0])
        except ValueError:
            return IPv4Address(0)
    parts = host.split(".")
    if not _NUMBER.fullmatch(parts[-1]):
        return None
    # In decimal, octal and hexadecimal, of four parts or fewer. Source: https://url.spec.whatwg.org/#concept-ipv4-parser
    try:
        *leading, last = (_number(part) for part in parts)
        value = last
        for index, number in enumerate(leading):
            if number > 255:
                raise ValueError
            value += number << 8 * (3 - index)
        return IPv4Address(value) if last < 256 ** (4 - len(leading)) else IPv4Address(0)
    except ValueError:  # as of a part that is no number, and of five parts
        return IPv4Address(0)


def _number(part: str) -> int:
    if part.startswith("0x"):
        return int(part[2:] or "0", 16)
    return int(part, 8) if part.startswith("0") else int(part)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        carried = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if carried is None and any(address in each for each in _CARRIERS):
            carried = IPv4Address(int(address) & 0xFFFFFFFF)
        if carried is not None:
            return _is_public(carried)
        if address.is_site_local:  # deprecated, and private all the same
            return False
    if address == _PLATFORM:
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)
