"""The permissions of a client, by the credentials that the kernel reports for its process (unix(7), SO_PEERCRED)."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass

# The words that a client may request. A word that is in neither set is denied to every client.
EVENT_ONLY = frozenset({"event"})
READING = frozenset({"state", "delivery", "history", "catalog", "content", "metrics"})
ACTING = frozenset(
    {"event", "settings-changed", "opens", "test", "try-waiting", "send-again", "try-now", "sign-in", "certificate"}
)
PAGES = READING | ACTING
# Only what may read the hook's files anyway gets a token.
EVERYTHING = PAGES | {"token", "keep-alive"}
# asm-generic/socket.h; Python has no name for it.
SO_PEERGROUPS = 59
# `getsockopt` of Python takes buffers of 1024 bytes at most, and a group takes four. A process with more groups gets ERANGE, and
# has the rights of its primary group.
GROUPS_MAXIMUM = 256


@dataclass(frozen=True)
class Peer:
    """A client's process: its uid, and the words that it may request."""

    user: int
    may: frozenset[str]


class Permissions:
    """Root and the hook's own user may request everything, the web's user what the pages need; members of the group may raise
    events."""

    def __init__(self, web_user: str, event_group: str) -> None:
        # Looked up once: the name service may read a network directory, for which the loop must not wait. A name that this
        # system does not have permits nothing.
        self._everything = {0, os.geteuid()}
        self._web_user: int | None = None
        with contextlib.suppress(KeyError):
            self._web_user = pwd.getpwnam(web_user).pw_uid
        self._event_group: int | None = None
        with contextlib.suppress(KeyError):
            self._event_group = grp.getgrnam(event_group).gr_gid

    def of(self, sock: socket.socket) -> Peer:
        """Return the process at the other end of a connection."""
        # struct ucred: pid, uid, gid. Unsigned, as uid_t is: a signed uid from 2^31 on would be a different user.
        _, user, group = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if user in self._everything:
            return Peer(user, EVERYTHING)
        if user == self._web_user:
            return Peer(user, PAGES)
        if self._event_group is not None and self._event_group in {group, *peer_groups(sock)}:
            return Peer(user, EVENT_ONLY)
        return Peer(user, frozenset())


def peer_groups(sock: socket.socket) -> tuple[int, ...]:
    """Return the supplementary groups of the process at the other end; none where the kernel does not report them."""
    try:
        # SO_PEERCRED has the primary group alone; the firmware's programs have the event group as a supplementary one.
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 4 * GROUPS_MAXIMUM)
    except OSError:
        return ()
    return struct.unpack(f"{len(raw) // 4}I", raw)
