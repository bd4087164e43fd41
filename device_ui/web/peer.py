"""Who is at the other end of a connection: one address, and the network that counts as one visitor. Pure."""

from __future__ import annotations

import ipaddress

# What a client behind a proxy is called that does not say for whom it speaks.
UNKNOWN = "unknown"
# Whoever has one IPv6 address has its whole /64 (RFC 4291, 2.5.4).
IPV6_PREFIX = 64


def plain(text: str) -> str:
    """The address in its one usual spelling, `UNKNOWN` for anything that is none: nothing else gets into a log line.

    An IPv4 address that a dual-stack socket tells as IPv6 (RFC 4291, 2.5.5.2) is IPv4: all of them share one /64.
    """
    found = _read(text)
    return UNKNOWN if found is None else str(found)


def network(text: str) -> str:
    """What counts as one visitor: an IPv4 address, the /64 of an IPv6 address, or `UNKNOWN`."""
    found = _read(text)
    if found is None:
        return UNKNOWN
    if found.version == 4:
        return str(found)
    return str(ipaddress.IPv6Network((int(found) >> IPV6_PREFIX << IPV6_PREFIX, IPV6_PREFIX)))


def _read(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        # A link-local address comes with its interface's name, which says nothing about the visitor.
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found
