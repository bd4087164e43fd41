"""The client connections of the hook's socket: when full, the least recently active is closed.

Every user of the device may connect; what a client may request follows from the credentials that the kernel reports for it
(SO_PEERCRED, SO_PEERGROUPS). The number of connections, the bytes that each holds and the time that each may take to read
are bounded. `server` reads the lines and answers them.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from device_ui.mail.client import reachable
from device_ui.mail.ipc.peer_credentials import Peer, Permissions

log = logging.getLogger(__name__)

# 4,000 characters fit into a line even if a JSON library writes each in ASCII (12 bytes for one beyond the first plane).
LINE_MAXIMUM = 64 * 1024
# Bytes read from one client at a time, and bytes of answers that a client may leave unread: bounds of memory.
READ_MAXIMUM, UNREAD_MAXIMUM = 16 * 1024, 64 * 1024
# Bytes of a long answer that are made ahead of its reader, and its lines that are made in one turn.
AHEAD_MAXIMUM, LINES_MAXIMUM = 16 * 1024, 50
CONNECTIONS_MAXIMUM = 64
# Seconds in which a client must read at least a byte of what is sent, and in which it must read a long answer to its end.
UNREAD_SECONDS, LONG_SECONDS = 300.0, 1800.0
# Connections of users without any permission: they get their answer, and take no place of others.
UNPRIVILEGED_MAXIMUM = 8
# Connections that the kernel queues until they are accepted; net.core.somaxconn may lower it (listen(2)).
BACKLOG = 1024


class ClientConnection:
    """One client: its unanswered lines, its unread answers, and the long answer under way.

    Lines are answered in order. Lines after a long answer wait for its end, and nothing is read meanwhile. At the end of
    its input a connection stays open until every line is answered and every answer is sent.
    """

    def __init__(self, sock: socket.socket, peer: Peer, monotonic: Callable[[], float]) -> None:
        self.sock, self.peer, self._monotonic = sock, peer, monotonic
        # When the client last sent something or read a part of a long answer (monotonic seconds).
        self.last_active = monotonic()
        self._partial_line, self._outgoing = bytearray(), bytearray()
        self._lines: deque[bytes] = deque()
        # Lines that were taken and have no answer yet.
        self._taken = 0
        self._long_answer: Generator[bytes | None, None, None] | None = None
        # Whether the next line of the long answer is not there yet; whether nothing more is read.
        self._is_waiting = self._is_closing = False
        self._unread_maximum = UNREAD_MAXIMUM
        # Since when nothing of `_outgoing` was read, and since when the long answer is being sent; None: not now.
        self._unread_since: float | None = None
        self._long_since: float | None = None

    @property
    def has_line(self) -> bool:
        """Whether `take_line` returns a line."""
        return bool(self._lines) and self._long_answer is None

    @property
    def is_answering(self) -> bool:
        """Whether a long answer is under way or a line waits for its answer."""
        return bool(self._lines) or self._long_answer is not None

    @property
    def events(self) -> int:
        """The events of the socket to wait for, as in `selectors`; 0 while the next line of a long answer is not there."""
        # Nothing is read while an answer is under way: a client that sends without reading fills its own socket, and
        # not the memory.
        reading = 0 if self._is_closing or self.is_answering else selectors.EVENT_READ
        has_more = self._is_closing if self._long_answer is None else not self._is_waiting
        return reading | (selectors.EVENT_WRITE if self._outgoing or has_more else 0)

    @property
    def deadline(self) -> float | None:
        """When this connection is closed because its client does not read (monotonic seconds), None without a deadline."""
        limits = ((self._unread_since, UNREAD_SECONDS), (self._long_since, LONG_SECONDS))
        return min((since + seconds for since, seconds in limits if since is not None), default=None)

    def receive(self) -> None:
        """Read `READ_MAXIMUM` bytes at most and queue their lines. A line that is too long ends the input."""
        try:
            chunk = self.sock.recv(READ_MAXIMUM)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        self.last_active = self._monotonic()
        # Split as bytes, not decoded: a character may be cut between two reads.
        self._partial_line += chunk
        *lines, rest = bytes(self._partial_line).split(b"\n")
        if not chunk or len(rest) > LINE_MAXIMUM:
            lines, rest = [*lines, rest], b""  # a shell's printf may end without a line end
            self._is_closing = True
        self._partial_line = bytearray(rest)
        self._lines += (line for line in lines if line.strip())

    def take_line(self) -> bytes | None:
        """Return the next line to answer, None if there is none now. Each is answered by `answer` or by `start`."""
        if not self.has_line:
            return None
        self._taken += 1
        return self._lines.popleft()

    def answer(self, line: bytes) -> None:
        """Answer the oldest line taken."""
        self._taken -= 1
        self._outgoing += line

    def start(self, lines: Generator[bytes | None, None, None]) -> None:
        """Answer the newest line taken with the long answer `lines`, which is sent as fast as the client reads.

        The generator yields a line; None while the next line is not there; or ``b""`` to let other clients come first.
        """
        self._taken -= 1
        self._long_answer = lines

    def advance(self) -> None:
        """Make the next lines of the long answer, `AHEAD_MAXIMUM` bytes ahead of the client at most."""
        # A bound of time as well: making a line reads the database, and other clients wait meanwhile.
        for _ in range(LINES_MAXIMUM):
            if self._long_answer is None or len(self._outgoing) >= AHEAD_MAXIMUM:
                return
            try:
                line = next(self._long_answer)
            except StopIteration:
                self._long_answer, self._is_waiting = None, False
                return
            self._is_waiting = line is None
            if not line:
                return
            self.last_active = self._monotonic()
            self._outgoing += line
            # One line may be longer than a client may leave unread of short answers.
            self._unread_maximum = max(self._unread_maximum, len(self._outgoing) + UNREAD_MAXIMUM)

    def flush(self) -> bool:
        """Send the answers that the client reads now. Return whether the connection stays open."""
        try:
            while self._outgoing:
                self._unread_since = self._unread_since or self._monotonic()
                del self._outgoing[: self.sock.send(self._outgoing)]
                self._unread_since = None
        except BlockingIOError:
            pass
        except OSError:  # the client closed; its events are committed all the same
            return False
        # A client that reads a byte now and then restarts the first deadline. A long answer holds rows in memory, so it has a
        # second one that nothing restarts.
        self._long_since = None if self._long_answer is None else self._long_since or self._monotonic()
        has_answers = bool(self._outgoing or self._taken or self.is_answering)
        return (has_answers or not self._is_closing) and len(self._outgoing) <= self._unread_maximum

    def close(self) -> None:
        """Close the socket, and the long answer under way."""
        if self._long_answer is not None:
            self._long_answer.close()
        self.sock.close()


def listen(path: Path) -> socket.socket:
    """Open the hook's socket for every user of the device; a socket of an earlier run is replaced. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        # A socket of a process that was killed stays in the file system, and bind(2) would fail.
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with reachable(path) as address:
        sock.bind(address)
    # Every user may connect: what a user may request is decided by its credentials, and it gets that answer.
    path.chmod(0o666)
    sock.listen(BACKLOG)
    return sock


class ClientConnections:
    """The open connections of a `listener`; `permissions` returns the peer of each. Iterating returns each of them.

    `is_stopping`: `stop` was called.
    """

    def __init__(
        self, listener: socket.socket, permissions: Permissions, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._listener, self._permissions, self._monotonic = listener, permissions, monotonic
        self._connections: dict[int, ClientConnection] = {}
        self._selector = selectors.DefaultSelector()
        # A byte in it ends a wait of the selector, from any thread or signal handler.
        self._wakeup, self._stop = socket.socketpair()
        self.is_stopping = self._is_signalled = False
        self._stop.setblocking(False)
        listener.setblocking(False)
        for sock in (listener, self._wakeup):
            self._selector.register(sock, selectors.EVENT_READ)

    def __iter__(self) -> Iterator[ClientConnection]:
        return iter(list(self._connections.values()))

    def __len__(self) -> int:
        return len(self._connections)

    def stop(self) -> None:
        """Make this and every later `turn` return at once. May be called from a signal handler or another thread."""
        self.is_stopping = True
        self.wake()

    def wake_at_signals(self) -> None:
        """Make a `turn` that waits return at a signal, so that its handler runs. For the main thread alone, until `close`.

        Python runs a handler between two instructions. A signal that arrives when the last one before the wait is over, or in
        another thread, ends no wait: without this its handler would run after the next request, which may never come.
        """
        signal.set_wakeup_fd(self._stop.fileno(), warn_on_full_buffer=False)
        self._is_signalled = True

    def wake(self) -> None:
        """Make a `turn` that waits return. May be called from any thread."""
        with contextlib.suppress(OSError):  # closed, or full of earlier calls
            self._stop.send(b"x")

    def turn(self, seconds: float | None, receive: Callable[[ClientConnection], None]) -> bool:
        """Wait for events and handle them: `receive` for a connection to read from. Return False if none came in `seconds`."""
        limit = self._next_deadline()
        # The nearer of two times: the caller's, and that of a client that does not read.
        ready = self._selector.select(limit if seconds is None else seconds if limit is None else min(seconds, limit))
        is_overdue = limit is not None and self._close_overdue()
        for key, mask in sorted(ready, key=self._priority):
            connection = self._connections.get(key.fd)
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._wakeup:
                # The byte of `stop` stays: every later turn must return at once, too.
                if not self.is_stopping:
                    self._wakeup.recv(READ_MAXIMUM)
            elif connection:
                if mask & selectors.EVENT_READ:
                    receive(connection)
                self.flush(connection)
        return bool(ready) or is_overdue or (limit is not None and (seconds is None or limit < seconds))

    def flush(self, connection: ClientConnection) -> None:
        """Send the answers of a connection; close it if it is finished, lost, or leaves too much unread."""
        if connection.sock.fileno() not in self._connections:
            return
        if connection.flush():
            self._watch(connection)
        else:
            self._close(connection)

    def close(self) -> None:
        """Close every connection and the listener."""
        if self._is_signalled:
            # Before the socket goes: a later file may get its descriptor, and a signal would write into it.
            signal.set_wakeup_fd(-1)
        for connection in self:
            self._close(connection)
        self._selector.close()
        for sock in (self._listener, self._wakeup, self._stop):
            sock.close()

    def _priority(self, ready: tuple[selectors.SelectorKey, int]) -> float:
        # The least recently active connection comes first, so that no flood of one client delays the others; new connections
        # come last, so that none is closed for them that has just become active.
        connection = self._connections.get(ready[0].fd)
        return connection.last_active if connection else float("inf")

    def _accept(self) -> None:
        # All that wait, up to a bound: one each turn would keep root behind a flood of connections.
        for _ in range(CONNECTIONS_MAXIMUM):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # out of descriptors: the pending connection keeps the listener readable
                log.warning("connection not accepted: %s", error.strerror)
                self._evict()
                return
            self._add(sock)

    def _add(self, sock: socket.socket) -> None:
        peer = self._permissions.of(sock)
        # Users without any permission share a few places, so that they can never take those of the firmware.
        unprivileged = [each for each in self if not each.peer.may]
        if not peer.may and len(unprivileged) >= UNPRIVILEGED_MAXIMUM:
            self._close(min(unprivileged, key=lambda each: each.last_active))
        elif len(self) >= CONNECTIONS_MAXIMUM:
            self._evict()
        # A client that does not read would otherwise stop the loop, and with it the acceptance of events.
        sock.setblocking(False)
        self._connections[sock.fileno()] = ClientConnection(sock, peer, self._monotonic)
        self._selector.register(sock, selectors.EVENT_READ)

    def _watch(self, connection: ClientConnection) -> None:
        events, is_watched = connection.events, connection.sock in self._selector.get_map()
        # A socket without events is not registered: epoll reports a closed peer at any rate, and the loop would spin.
        if events and is_watched:
            self._selector.modify(connection.sock, events)
        elif events:
            self._selector.register(connection.sock, events)
        elif is_watched:
            self._selector.unregister(connection.sock)

    def _close(self, connection: ClientConnection) -> None:
        del self._connections[connection.sock.fileno()]
        if connection.sock in self._selector.get_map():
            self._selector.unregister(connection.sock)
        connection.close()

    def _evict(self) -> None:
        """Close one connection: without permissions first, then of the user with the most, the least recently active."""
        if not self._connections:
            return
        # A user with many connections loses one of its own; a user with a single connection never loses it to a flood.
        counts = Counter(each.peer.user for each in self)
        self._close(min(self, key=lambda each: (bool(each.peer.may), -counts[each.peer.user], each.last_active)))

    def _next_deadline(self) -> float | None:
        """Return the seconds until the first deadline, None without one."""
        deadlines = [each.deadline for each in self if each.deadline is not None]
        return max(0.0, min(deadlines) - self._monotonic()) if deadlines else None

    def _close_overdue(self) -> bool:
        now = self._monotonic()
        overdue = [each for each in self if each.deadline is not None and each.deadline <= now]
        for each in overdue:
            log.warning("connection of user %d closed: its answer was not read", each.peer.user)
            self._close(each)
        return bool(overdue)
