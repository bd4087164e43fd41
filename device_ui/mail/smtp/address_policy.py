"""Which addresses a name has, and which of them are no place for a mail server: the device's own, and clouds' secrets."""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

NO_PLACE = [
    ipaddress.ip_network(each)
    for each in (
        "0.0.0.0/8",  # this network (RFC 791, 3.2); Linux takes 0.0.0.0 for the device itself
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, where most clouds keep their secrets: 169.254.169.254
        "224.0.0.0/4",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::/10",
        "ff00::/8",
        # Where other clouds keep what is nobody's business.
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",  # AWS, pods
        "fd20:ce::254",  # Google
        "fd00:42::42",  # Scaleway
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "168.63.129.16",  # Azure
    )
]
# IPv6 addresses that a gateway, or the kernel, takes to an IPv4 address: by prefix, the bits that stand behind that
# address, and whether its own bits are inverted.
CARRIERS = [
    (ipaddress.IPv6Network(prefix), behind, inverted)
    for prefix, behind, inverted in (
        ("::ffff:0:0/96", 0, False),  # IPv4-mapped (RFC 4291, 2.5.5.2)
        ("::/96", 0, False),  # IPv4-compatible (RFC 4291, 2.5.5.1)
        ("::ffff:0:0:0/96", 0, False),  # IPv4-translated (RFC 2765, 2.1)
        ("64:ff9b::/96", 0, False),  # NAT64 (RFC 6052, 2.1)
        ("64:ff9b:1::/48", 0, False),  # NAT64 of one's own network (RFC 8215), as most lay it out
        ("2002::/16", 80, False),  # 6to4 (RFC 3056, 2)
        ("2001::/32", 64, False),  # Teredo (RFC 4380, 4): its server,
        ("2001::/32", 0, True),  # and its client
    )
]
# ISATAP (RFC 5214, 6.1): the upper half of an interface identifier that ends with an IPv4 address; any prefix.
ISATAP = (0x00005EFE, 0x02005EFE)
# Reserved addresses (RFC 5737 would be in use on somebody's desk): no device has one.
NOBODYS = {socket.AF_INET: "240.0.0.1", socket.AF_INET6: "100::1"}

# As getaddrinfo(3) gives them: family, kind, protocol, canonical name, the address that `connect` takes.
AddressInfo = tuple[Any, ...]
Resolver = Callable[[str, int], list[AddressInfo]]


def look_up(host: str, port: int) -> list[AddressInfo]:
    """Every address of a host. Raises OSError (socket.gaierror) or UnicodeError when it has none."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def look_up_within(resolver: Resolver, host: str, port: int, seconds: float) -> list[AddressInfo]:
    """What `resolver` finds. Raises TimeoutError after `seconds`, else what it raises (OSError, UnicodeError, ValueError).

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
    """What EHLO says when the device has no name of its own (RFC 5321, 4.1.3)."""
    address = address.partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def is_loopback(address: str) -> bool:
    """Whether an address as a socket gives it is a loopback one, IPv4 inside IPv6 included."""
    return _parsed(address).is_loopback


def is_own(address: str) -> bool:
    """Whether this is no place for a mail server: an address of `NO_PLACE`, or one that carries such a one."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return any(each in network for each in (parsed, *carried(parsed)) for network in NO_PLACE)


def carried(address: IPAddress) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address may lead to."""
    if address.version == 4:
        return []
    number = int(address)
    bits = [number >> behind ^ (0xFFFFFFFF if inverted else 0) for net, behind, inverted in CARRIERS if address in net]
    bits += [number] if number >> 32 & 0xFFFFFFFF in ISATAP else []
    return [ipaddress.IPv4Address(each & 0xFFFFFFFF) for each in bits]


def is_here(sock: socket.socket) -> bool:
    """Whether the peer of a connected socket is this very device, by whichever of its addresses."""
    peer = sock.getpeername()
    return is_own(peer[0]) or peer[0] == sock.getsockname()[0] or is_bound_here(sock.family, peer)


def is_bound_here(family: int, address: tuple[Any, ...]) -> bool:
    """Whether an address of the family belongs to this device, as far as the kernel tells without a connection.

    It may choose another of our addresses for our end of one, but binds a socket to ours alone, unless it was told to
    bind to any (ip_nonlocal_bind), and then this tells nothing. An IPv6 address is judged by what it carries, too.
    """
    nobodys = NOBODYS.get(socket.AddressFamily(family))
    if nobodys is None:
        return False
    inner = carried(ipaddress.ip_address(address[0].partition("%")[0]))
    if any(is_bound_here(socket.AF_INET, (str(each), 0)) for each in inner):
        return True
    return _can_bind(family, address) and not _can_bind(family, (nobodys, *address[1:]))


def _can_bind(family: int, address: tuple[Any, ...]) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address[0], 0, *address[2:]))
    except OSError:
        return False
    return True


def _parsed(address: str) -> IPAddress:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return getattr(parsed, "ipv4_mapped", None) or parsed
