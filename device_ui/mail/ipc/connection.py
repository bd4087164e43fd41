"""The connections of the mail hook's socket, and their limits: who has a seat, and who leaves when there is none.

The socket is open to everybody on the device; who may ask what is decided by the peer's credentials (SO_PEERCRED,
SO_PEERGROUPS), which the kernel vouches for. Connections and what each leaves unread are bounded. What is said on them is
the matter of `hook`; a caller carries what is still owed to it, and does not leave before.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device_ui.mail.client import reachable
from device_ui.mail.ipc.peer_credentials import Permissions
from device_ui.mail.ipc.requests import Peer

log = logging.getLogger(__name__)

# Bytes of answers that a caller may leave unread.
UNREAD_MAXIMUM = 64 * 1024
CONNECTIONS_MAXIMUM = 64
# Seconds in which a caller reads at least a byte of what waits for it, and in which it reads a long answer to its end.
UNREAD_SECONDS, LONG_SECONDS = 300.0, 1800.0
# Seats for callers who may ask for nothing: they are told so, and keep nobody out. Callers who may wait to be let in.
POWERLESS_MAXIMUM, BACKLOG = 8, 1024
# Bytes read from one caller at a time: a bound of memory.
READ_MAXIMUM = 16 * 1024


@dataclass
class ClientConnection:
    """One connection: who the `peer` is, when it was last `heard` (monotonic seconds), the bytes of a line that is not
    whole yet, and those that it has not read yet. `ending`: it is answered what it asked, and no more is read."""

    sock: socket.socket
    peer: Peer
    heard: float
    incoming: bytearray = field(default_factory=bytearray)
    outgoing: bytearray = field(default_factory=bytearray)
    ending: bool = False
    # What is still to come of a long answer, and the lines of its reader that wait until then.
    rest: Iterator[Mapping[str, Any] | None] | None = None
    later: list[bytes] = field(default_factory=list)
    is_waiting: bool = False
    unread_maximum: int = UNREAD_MAXIMUM
    # Monotonic seconds: since when nothing of `outgoing` was read, and since when `rest` is being said; None: not now.
    unread_since: float | None = None
    long_since: float | None = None


def listen(path: Path) -> socket.socket:
    """Open the hook's socket for everybody on the device; what an earlier run left there is replaced. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with reachable(path) as address:
        sock.bind(address)
    path.chmod(0o666)
    sock.listen(BACKLOG)
    return sock


class ClientConnections:
    """Those who called at `listener` and have a seat; `permissions` says what each may ask.

    Iterating goes over those who have a seat; none may be let in or leave meanwhile. `is_stopping`: `stop` was called.
    """

    def __init__(
        self, listener: socket.socket, permissions: Permissions, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._listener, self._permissions, self._clock = listener, permissions, clock
        self._seated: dict[int, ClientConnection] = {}
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._stop = socket.socketpair()
        self.is_stopping = False
        self._stop.setblocking(False)
        listener.setblocking(False)
        for sock in (listener, self._wakeup):
            self._selector.register(sock, selectors.EVENT_READ)

    def __iter__(self) -> Iterator[ClientConnection]:
        return iter(self._seated.values())

    def __len__(self) -> int:
        return len(self._seated)

    def stop(self) -> None:
        """From now on every turn finds something to do. May be called from a signal handler or another thread."""
        self.is_stopping = True
        self.wake()

    def wake(self) -> None:
        """Let a turn that waits come to its end. May be called from any thread."""
        with contextlib.suppress(OSError):  # all is closed, or enough was said
            self._stop.send(b"x")

    def turn(self, seconds: float | None, hear: Callable[[ClientConnection], None]) -> bool:
        """Wait for something to do: `hear` who speaks, tell who reads, and let newcomers in. False: nothing in `seconds`."""
        end = self._next_end()
        ready = self._selector.select(end if seconds is None else seconds if end is None else min(seconds, end))
        is_late = end is not None and self._leave_late()
        for key, mask in sorted(ready, key=self._silence):
            if key.fileobj is self._listener:
                self._welcome()
            elif key.fileobj is self._wakeup:
                if not self.is_stopping:
                    self._wakeup.recv(READ_MAXIMUM)
            elif key.fd in self._seated:
                caller = self._seated[key.fd]
                if mask & selectors.EVENT_READ:
                    hear(caller)
                if mask & selectors.EVENT_WRITE:
                    self.flush(caller)
        return bool(ready) or is_late or (end is not None and (seconds is None or end < seconds))

    def read(self, caller: ClientConnection) -> bytes | None:
        """What a caller has said, `READ_MAXIMUM` bytes at most; ``b""`` when that was all, None when it is nothing yet."""
        try:
            chunk = caller.sock.recv(READ_MAXIMUM)
        except BlockingIOError:
            return None
        except OSError:
            chunk = b""
        caller.heard = time.monotonic()
        return chunk

    def flush(self, caller: ClientConnection) -> None:
        """Send what a caller takes of its `outgoing`. It leaves when it is `ending` and that was all, when it leaves too much
        unread, and when it has gone."""
        try:
            while caller.outgoing:
                caller.unread_since = caller.unread_since or self._clock()
                del caller.outgoing[: caller.sock.send(caller.outgoing)]
                caller.unread_since = None
        except BlockingIOError:
            pass
        except OSError:
            self._leave(caller)
            return
        caller.long_since = None if caller.rest is None else caller.long_since or self._clock()
        over = caller.ending and not caller.outgoing and caller.rest is None and not caller.later
        if over or len(caller.outgoing) > caller.unread_maximum:
            self._leave(caller)
            return
        if caller.sock.fileno() in self._seated:
            reading = 0 if caller.ending or caller.rest is not None or caller.later else selectors.EVENT_READ
            has_more = caller.ending if caller.rest is None else not caller.is_waiting
            writing = selectors.EVENT_WRITE if caller.outgoing or has_more else 0
            self._watch(caller, reading | writing)

    def dismiss(self, caller: ClientConnection) -> None:
        """Close once all that was asked is answered: at once, or at the end of a long answer."""
        caller.ending = True
        caller.incoming.clear()
        self._watch(caller, selectors.EVENT_WRITE)

    def close(self) -> None:
        """Everybody leaves, and nobody can call any more."""
        for caller in list(self):
            self._leave(caller)
        self._selector.close()
        for sock in (self._listener, self._wakeup, self._stop):
            sock.close()

    def _silence(self, ready: tuple[selectors.SelectorKey, int]) -> float:
        # Whoever was heard longest ago comes first, so that a flood from one caller silences no other; newcomers come
        # last, so that nobody who has just spoken has to leave for them.
        caller = self._seated.get(ready[0].fd)
        return caller.heard if caller else float("inf")

    def _welcome(self) -> None:
        for _ in range(CONNECTIONS_MAXIMUM):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:  # nobody waits any more
                return
            except OSError as error:  # out of descriptors: somebody must make room, or the newcomer knocks for ever
                log.warning("a caller could not be heard: %s", error.strerror)
                self._leave_quietest()
                return
            self._seat(sock)

    def _seat(self, sock: socket.socket) -> None:
        peer = self._permissions.of(sock)
        powerless = [each for each in self if not each.peer.may]
        if not peer.may and len(powerless) >= POWERLESS_MAXIMUM:
            self._leave(min(powerless, key=lambda caller: caller.heard))
        elif len(self) >= CONNECTIONS_MAXIMUM:
            self._leave_quietest()
        sock.setblocking(False)
        caller = ClientConnection(sock, peer, time.monotonic())
        self._seated[sock.fileno()] = caller
        self._selector.register(sock, selectors.EVENT_READ)

    def _watch(self, caller: ClientConnection, mask: int) -> None:
        """Wait for what `mask` says; for nothing when the next line of a long answer is not there yet."""
        known = caller.sock in self._selector.get_map()
        if mask and known:
            self._selector.modify(caller.sock, mask)
        elif mask:
            self._selector.register(caller.sock, mask)
        elif known:
            self._selector.unregister(caller.sock)

    def _leave(self, caller: ClientConnection) -> None:
        if self._seated.pop(caller.sock.fileno(), None):
            if isinstance(caller.rest, Generator):
                caller.rest.close()
            self._watch(caller, 0)
            caller.sock.close()

    def _leave_quietest(self) -> None:
        if len(self):
            # A client without permissions first; then one of the user with the most connections, who must not push others out.
            crowds = Counter(caller.peer.user for caller in self)
            self._leave(min(self, key=lambda caller: (bool(caller.peer.may), -crowds[caller.peer.user], caller.heard)))

    def _ends(self, caller: ClientConnection) -> float | None:
        """When (monotonic seconds) a caller who reads nothing has to leave."""
        ends = [
            since + most
            for since, most in ((caller.unread_since, UNREAD_SECONDS), (caller.long_since, LONG_SECONDS))
            if since is not None
        ]
        return min(ends, default=None)

    def _next_end(self) -> float | None:
        """Seconds until the first has to leave."""
        ends = [end for each in self if (end := self._ends(each)) is not None]
        return max(0.0, min(ends) - self._clock()) if ends else None

    def _leave_late(self) -> bool:
        now = self._clock()
        late = [each for each in self if (end := self._ends(each)) is not None and end <= now]
        for each in late:
            log.warning("a caller of user %d does not read its answer; it has to leave", each.peer.user)
            self._leave(each)
        return bool(late)
