"""Who is at the other end of a connection: one address, and the network that counts as one visitor. Pure."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

# What a client behind a proxy is called that does not say for whom it speaks.
UNKNOWN = "unknown"
# Whoever has one IPv6 address has its whole /64 (RFC 4291, 2.5.4).
IPV6_PREFIX = 64
# By IP version: bits of an address beyond the networks that one owner may have, the inner and the outer: what a provider
# gives a customer, and about what a provider has.
OWNED = {4: (8, 16), 6: (80, 96)}

# Where no stranger on the Internet sends from: RFC 1918, 3927, 4193, 4291, and the device itself.
LOCAL = tuple(
    map(
        ipaddress.ip_network,
        (
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "169.254.0.0/16",
            "127.0.0.0/8",
            "::1",
            "fc00::/7",
            "fe80::/10",
        ),
    )
)

Network = tuple[int, int]


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


@lru_cache(maxsize=256)  # under siege the same ones are asked for again and again
def networks(visitor: str) -> tuple[Network, Network]:
    """The inner and the outer network around a visitor, as IP version and leading bits; `UNKNOWN` has one of its own."""
    found = _read(visitor.partition("/")[0])
    if found is None:
        return (0, 0), (0, 0)
    inner, outer = OWNED[found.version]
    return (found.version, int(found) >> inner), (found.version, int(found) >> outer)


def is_local(visitor: str) -> bool:
    """Whether a visitor is in one of `LOCAL`."""
    found = _read(visitor.partition("/")[0])
    return found is not None and any(found in each for each in LOCAL)


def _read(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        # A link-local address comes with its interface's name, which says nothing about the visitor.
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found
