"""A client's address, and the network that counts as one client. Pure."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

# The client address when the proxy reports none.
UNKNOWN = "unknown"
# A host can use any address of its /64 (RFC 4291, 2.5.4).
IPV6_PREFIX = 64
# By IP version: host bits of the inner and the outer network, for evictions: about what a provider assigns to a customer, and
# what a provider has.
OWNED = {4: (8, 16), 6: (80, 96)}

# Networks that no host on the Internet sends from: RFC 1918, 3927, 4193, 4291, and the device itself.
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

# One address as proxies write it in X-Forwarded-For: with or without a port; IPv6 in brackets (RFC 7239, 6) or bare. A zone
# (RFC 4007, 11) is the device's own interface.
HOP_MAXIMUM = 72
HOP = re.compile(
    r"([0-9.]{7,15})(?::[0-9]{1,5})?"
    r"|\[([0-9A-Fa-f:.]{2,45})(%[0-9A-Za-z._-]{1,15})?\](?::[0-9]{1,5})?"
    r"|([0-9A-Fa-f:.]{2,45})(%[0-9A-Za-z._-]{1,15})?",
    re.ASCII,
)
# IPv6 addresses that stand for an IPv4 address, whose owner chooses the rest: 6to4 (RFC 3056: it is a /48), Teredo (RFC 4380:
# the last 32 bits, inverted; a /64 holds all clients of one server), NAT64 (RFC 6052, 2.1: a /96 holds all of IPv4).
TO4, TO4_PREFIX = ipaddress.ip_network("2002::/16"), 48
TEREDO, NAT64 = ipaddress.ip_network("2001::/32"), ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = tuple[int, int]


def plain(text: str) -> str:
    """Return the address in its canonical spelling, `UNKNOWN` for anything else: nothing else gets into a log line.

    An IPv4 address mapped to IPv6 (RFC 4291, 2.5.5.2: a dual-stack socket, a proxy) is IPv4: all of those share one /64.
    """
    found = _read(text)
    return UNKNOWN if found is None else str(found)


def forwarded(value: str) -> str:
    """Return the address that a trusted proxy added last to X-Forwarded-For; `UNKNOWN` when that is no address.

    `value` holds the values of all lines of that name, in their order, between commas (RFC 9110, 5.3).
    """
    # Only the last one is the proxy's own; a client can send any before it.
    hop = value.rpartition(",")[2].strip(" \t")
    match = HOP.fullmatch(hop) if len(hop) <= HOP_MAXIMUM else None
    if match is None:
        return UNKNOWN
    four, bracketed, bracketed_zone, bare, bare_zone = match.groups()
    found = _read(four or bracketed or bare)
    # Brackets are for IPv6 alone, and a zone for a link-local address: a proxy writes nothing else.
    is_six = isinstance(found, ipaddress.IPv6Address)
    if found is None or (bracketed and not (is_six or ":" in bracketed)):
        return UNKNOWN
    if (bracketed_zone or bare_zone) and not (is_six and found.is_link_local):
        return UNKNOWN
    return str(found)


def network(text: str) -> str:
    """Return what counts as one client: an IPv4 address, the /64 of an IPv6 address, or `UNKNOWN`.

    For an IPv6 address that embeds an IPv4 address: all addresses that the owner of that one can use, and no others.
    """
    found = _read(text)
    if found is None:
        return UNKNOWN
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found in TEREDO:
        return f"{ipaddress.IPv6Address(int(TEREDO.network_address) | int(found) & 0xFFFFFFFF)}/128"
    prefix = 128 if found in NAT64 else TO4_PREFIX if found in TO4 else IPV6_PREFIX
    return str(ipaddress.ip_network((int(found), prefix), strict=False))


@lru_cache(maxsize=256)  # an attack repeats the same addresses
def networks(client: str) -> tuple[Network, Network]:
    """Return the inner and the outer network of a client, as IP version and leading bits; `UNKNOWN` has its own."""
    found = _read(client.partition("/")[0])
    if found is None:
        return (0, 0), (0, 0)
    inner, outer = OWNED[found.version]
    return (found.version, int(found) >> inner), (found.version, int(found) >> outer)


def is_local(client: str) -> bool:
    """Return whether a client is in one of `LOCAL`."""
    found = _read(client.partition("/")[0])
    return found is not None and any(found in each for each in LOCAL)


def _read(text: str) -> Address | None:
    try:
        # A link-local address comes with its interface's name, which says nothing about the client.
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found
