"""Scanners and fuzzers run where there is no network but loopback: the kernel sees to it that nobody else is asked."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

import pytest

# sched.h, linux/sockios.h, net/if.h
CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP = 0x40000000, 0x8914, 0x1


@pytest.fixture(scope="session", autouse=True)
def alone() -> None:
    """A network of our own, for this process and all that it starts."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        pytest.exit(f"no network of our own for the scanners: {os.strerror(ctypes.get_errno())}", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))


@pytest.fixture(scope="session", autouse=True)
def prefork(alone: None) -> None:
    """Start the processes of a device one by one: one that was forked from a process of before would be in the network of before."""
