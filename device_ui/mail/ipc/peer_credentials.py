"""Who may ask the mail hook for what: decided by the peer's credentials, which the kernel vouches for (unix(7))."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import socket
import struct

from device_ui.mail.ipc.requests import EVENT_ONLY, EVERYTHING, Peer

# asm-generic/socket.h; Python has no name for it.
SO_PEERGROUPS = 59
# Python hands out buffers of 1024 bytes at most, four for a group.
GROUPS_MAXIMUM = 256


class Permissions:
    """Who may ask what: root and the hook's own user everything, the web's user too, the group's members events."""

    def __init__(self, web_user: str, event_group: str) -> None:
        self._everything = {0, os.geteuid()}
        with contextlib.suppress(KeyError):
            self._everything.add(pwd.getpwnam(web_user).pw_uid)
        self._event_group: int | None = None
        with contextlib.suppress(KeyError):
            self._event_group = grp.getgrnam(event_group).gr_gid

    def of(self, sock: socket.socket) -> Peer:
        """Who the process at the other end is, and what it may ask for."""
        _, user, group = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if user in self._everything:
            return Peer(user, EVERYTHING)
        if self._event_group is not None and self._event_group in {group, *peer_groups(sock)}:
            return Peer(user, EVENT_ONLY)
        return Peer(user, frozenset())


def peer_groups(sock: socket.socket) -> tuple[int, ...]:
    """The supplementary groups of the process at the other end; none where the kernel does not tell."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 4 * GROUPS_MAXIMUM)
    except OSError:
        return ()
    return struct.unpack(f"{len(raw) // 4}I", raw)
