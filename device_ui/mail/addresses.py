"""Which addresses a name has, and which of them are no place for a mail server: the device's own, and clouds' secrets."""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any

# Where clouds keep what is nobody's business, beside 169.254.169.254, which is link-local: AWS and Google by IPv6,
# Alibaba, Oracle, Azure.
METADATA = frozenset(
    ipaddress.ip_address(each)
    for each in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")
)
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
    """Whether this is no place for a mail server: loopback, link-local (cloud metadata), unspecified, multicast."""
    parsed = _parsed(address)
    never = parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified or parsed.is_multicast
    return never or parsed in METADATA


def is_here(sock: socket.socket) -> bool:
    """Whether the peer of a connected socket is this very device, by whichever of its addresses."""
    peer = sock.getpeername()
    return is_own(peer[0]) or peer[0] == sock.getsockname()[0] or is_bound_here(sock.family, peer)


def is_bound_here(family: int, address: tuple[Any, ...]) -> bool:
    """Whether an address of the family belongs to this device, as far as the kernel tells without a connection.

    It may choose another of our addresses for our end of one, but binds a socket to ours alone, unless it was told to
    bind to any (ip_nonlocal_bind), and then this tells nothing.
    """
    nobodys = NOBODYS.get(socket.AddressFamily(family))
    if nobodys is None:
        return False
    return _can_bind(family, address) and not _can_bind(family, (nobodys, *address[1:]))


def _can_bind(family: int, address: tuple[Any, ...]) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address[0], 0, *address[2:]))
    except OSError:
        return False
    return True


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return getattr(parsed, "ipv4_mapped", None) or parsed
