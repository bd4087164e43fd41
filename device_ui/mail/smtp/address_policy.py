"""Resolve a name, and refuse the addresses that no mail server has: the device's own, and the metadata of clouds."""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

FORBIDDEN = [
    ipaddress.ip_network(each)
    for each in (
        "0.0.0.0/8",  # this network (RFC 791, 3.2); Linux takes 0.0.0.0 for the device itself
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local (RFC 3927), with the metadata of most clouds: 169.254.169.254
        "224.0.0.0/4",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::/10",
        "ff00::/8",
        # The metadata of other clouds, which include credentials.
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",  # AWS, pods
        "fd20:ce::254",  # Google
        "fd00:42::42",  # Scaleway
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "168.63.129.16",  # Azure
    )
]
# IPv6 addresses that a gateway, or the kernel, translates to an IPv4 address: the prefix, the number of bits after the
# IPv4 address, and whether its bits are inverted.
EMBEDDINGS = [
    (ipaddress.IPv6Network(prefix), after, inverted)
    for prefix, after, inverted in (
        ("::ffff:0:0/96", 0, False),  # IPv4-mapped (RFC 4291, 2.5.5.2)
        ("::/96", 0, False),  # IPv4-compatible (RFC 4291, 2.5.5.1)
        ("::ffff:0:0:0/96", 0, False),  # IPv4-translated (RFC 2765, 2.1)
        ("64:ff9b::/96", 0, False),  # NAT64 (RFC 6052, 2.1)
        ("64:ff9b:1::/48", 0, False),  # NAT64 of a local network (RFC 8215), in its usual layout
        ("2002::/16", 80, False),  # 6to4 (RFC 3056, 2)
        ("2001::/32", 64, False),  # Teredo (RFC 4380, 4): its server,
        ("2001::/32", 0, True),  # and its client
    )
]
# ISATAP (RFC 5214, 6.1): the upper half of an interface identifier that ends with an IPv4 address; any prefix.
ISATAP = (0x00005EFE, 0x02005EFE)
# Reserved addresses that no device has (those of RFC 5737 are in use on test networks).
RESERVED = {socket.AF_INET: "240.0.0.1", socket.AF_INET6: "100::1"}

# As getaddrinfo(3) returns it: family, kind, protocol, canonical name, the address that `connect` takes.
AddressInfo = tuple[Any, ...]
Resolver = Callable[[str, int], list[AddressInfo]]


def look_up(host: str, port: int) -> list[AddressInfo]:
    """Return every address of a host. Raises OSError (socket.gaierror) or UnicodeError when it has none."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def look_up_within(resolver: Resolver, host: str, port: int, seconds: float) -> list[AddressInfo]:
    """Return the result of `resolver`. Raises its OSError, UnicodeError or ValueError, or TimeoutError after `seconds`.

    getaddrinfo(3) has no time-out of its own; its thread is left behind when the name server hangs.
    """
    answers: queue.SimpleQueue[list[AddressInfo] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(resolver(host, port))
        except (OSError, UnicodeError, ValueError) as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True, name="name look-up").start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError("the name server does not answer") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def address_literal(address: str) -> str:
    """Return the argument of EHLO for a device without a name (RFC 5321, section 4.1.3)."""
    address = address.partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def is_loopback(address: str) -> bool:
    """Return whether a socket's address is a loopback one, IPv4-mapped IPv6 included."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped: ipaddress.IPv4Address | None = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def is_own(address: str) -> bool:
    """Return whether an address is in `FORBIDDEN`, or embeds an IPv4 address that is."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return any(each in network for each in (parsed, *embedded(parsed)) for network in FORBIDDEN)


def embedded(address: IPAddress) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address may be translated to."""
    if address.version == 4:
        return []
    number = int(address)
    bits = [number >> after ^ (0xFFFFFFFF if inverted else 0) for net, after, inverted in EMBEDDINGS if address in net]
    bits += [number] if number >> 32 & 0xFFFFFFFF in ISATAP else []
    return [ipaddress.IPv4Address(each & 0xFFFFFFFF) for each in bits]


def is_here(sock: socket.socket) -> bool:
    """Return whether the peer of a connected socket is this device, by any of its addresses."""
    peer = sock.getpeername()
    return is_own(peer[0]) or peer[0] == sock.getsockname()[0] or is_bound_here(sock.family, peer)


def is_bound_here(family: int, address: tuple[Any, ...]) -> bool:
    """Return whether an address belongs to this device, as far as the kernel shows without a connection.

    The kernel binds a socket to the device's own addresses only, so a successful bind means that the address is one. With
    ip_nonlocal_bind it binds to any (ip(7)); then a reserved address binds, too, and the answer is False. An IPv6 address
    also counts if it embeds an IPv4 address of the device.
    """
    reserved = RESERVED.get(socket.AddressFamily(family))
    if reserved is None:
        return False
    inner = embedded(ipaddress.ip_address(address[0].partition("%")[0]))
    if any(is_bound_here(socket.AF_INET, (str(each), 0)) for each in inner):
        return True
    return _can_bind(family, address) and not _can_bind(family, (reserved, *address[1:]))


def _can_bind(family: int, address: tuple[Any, ...]) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address[0], 0, *address[2:]))
    except OSError:
        return False
    return True
