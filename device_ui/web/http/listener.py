"""Who is let in to speak: room for every newcomer, on waitress.

At its limit waitress lets nobody in, so that a few hundred connections which drip a byte a second shut everybody out.
Here a newcomer always finds room: the network with the most connections, and in it the visitor with the most, loses the
oldest that is not being served.
"""

from __future__ import annotations

import logging
import math
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from waitress.server import MultiSocketServer, TcpWSGIServer, UnixWSGIServer

from device_ui.web import client_address
from device_ui.web.http.connection import EXPENDABLE, IDLE, SEND, WORK, Channel, Limits
from device_ui.web.http.proxy_protocol import UnixChannel

log = logging.getLogger(__name__)

# Connections that are taken before those that are there get their turn again.
ACCEPTED_AT_ONCE = 32
# Connections that go when the system has no descriptor left.
FREED_AT_ONCE = 8


class Listener:
    """What a listening socket of waitress has besides: mixed into its two kinds. Doors of one process share their room.

    `clock` is monotonic, in seconds."""

    channel_class = Channel
    limits = Limits()
    clock: Callable[[], float] = staticmethod(time.monotonic)
    # The address of the proxy in front that ends TLS, if it is the maker's wish.
    trusted_proxy = ""
    _look = _rest = 0.0
    # Of waitress.
    accepting: bool
    adj: Any
    _map: dict[int, Any]

    if TYPE_CHECKING:

        def __init__(self, application: object, **settings: object) -> None: ...

    def visitor(self, addr: Any) -> str:
        """Whose connection this is; ``""`` when it is the trusted proxy's, who speaks for many."""
        is_of_proxy = bool(self.trusted_proxy) and client_address.plain(addr[0]) == self.trusted_proxy
        return "" if is_of_proxy else client_address.network(addr[0])

    def readable(self) -> bool:
        """Whether to look for newcomers. Called before every wait for something to happen, so here and only here
        connections are closed: no event that is still to be handled can then meet another with the same number."""
        now = self.clock()
        looks = now >= self._look
        if looks:
            self._look = now + self.limits.look
        for channel in [each for each in self._map.values() if isinstance(each, Channel) and each.server is self]:
            if self._is_over(channel, now, looks):
                channel.handle_close()
        return self.accepting and now >= self._rest

    def _is_over(self, channel: Channel, now: float, looks: bool) -> bool:
        # Its request may have been completed since it was chosen to go.
        channel.is_doomed = channel.is_doomed and channel.phase != WORK
        return channel.is_doomed or (looks and channel.is_overdue(now))

    def handle_accept(self) -> None:
        """Newcomers: several at once, or the owner waits behind hundreds for as many turns."""
        for _ in range(0 if math.isinf(self._rest) else ACCEPTED_AT_ONCE):  # it may have closed during the wait
            try:
                accepted = self.accept()  # type: ignore[attr-defined]
            except OSError as error:
                self._make_do(error)
                return
            if accepted is None:
                return
            self._admit(*accepted)

    def _make_do(self, error: OSError) -> None:
        """No descriptor, no memory: some go, since pages need them too; without any to go it is tried again later."""
        gone = [self._doom(self._channels()) for _ in range(FREED_AT_ONCE)]
        if not any(gone):
            log.warning("a connection could not be taken: %s", error.strerror)
            self._rest = self.clock() + self.limits.look

    def _admit(self, sock: socket.socket, addr: Any) -> None:
        addr = self.fix_addr(addr)  # type: ignore[attr-defined]
        try:
            self.set_socket_options(sock)  # type: ignore[attr-defined]
        except OSError:  # gone already
            sock.close()
            return
        if self.has_room(self.visitor(addr)):
            self.channel_class(self, sock, addr, self.adj, map=self._map)
        else:
            sock.close()

    def close_entrance(self) -> None:
        """Accept no further connection; those accepted are served."""
        self._rest = math.inf

    def has_room(self, visitor: str) -> bool:
        """Whether one more of this visitor's connections may stay; another may have to go for it."""
        here = self._channels()
        own = [each for each in here if each.visitor == visitor]
        if visitor and len(own) >= self.limits.connections_each:
            return self._doom(own)
        return len(here) < self.limits.connections or self._doom(here)

    def _doom(self, channels: Iterable[Channel]) -> bool:
        """Choose who goes: of the visitor with the most connections, the oldest that is not being served.

        A hundred addresses that come again and again would else push out whoever has one connection and a slow line.
        """
        candidates = [each for each in channels if each.phase in EXPENDABLE]
        if not candidates:
            return False
        counts = Counter(name for each in candidates for name in each.crowds)

        def rank(each: Channel) -> tuple[int, int, int, int, float]:
            outer, inner, visitor = each.crowds
            return -counts[outer], -counts[inner], -counts[visitor], EXPENDABLE.index(each.phase), each.begun

        min(candidates, key=rank).is_doomed = True
        return True

    def _channels(self) -> list[Channel]:
        return [each for each in self._map.values() if isinstance(each, Channel) and not each.is_doomed]


class TcpListener(Listener, TcpWSGIServer):  # type: ignore[misc]
    """A door on an address."""


class Listeners(MultiSocketServer):  # type: ignore[misc]
    """All doors of one process. Once `rest_after` was called, they rest while nobody comes."""

    _rest_seconds: float | None = None
    # When `run` ends although a connection is open; monotonic seconds.
    _drained_at: float | None = None

    def rest_after(self, seconds: float, may_rest: Callable[[], bool]) -> None:
        """Let `run` come to its end when there was no connection and no page in the making for so long, and `may_rest`.

        For sockets that somebody else holds open: whoever comes from then on waits in their queue and is taken in by
        the process that is started for him. This one takes nobody in that it does not answer.
        """
        self._rest_seconds, self._may_rest, self._quiet_since = seconds, may_rest, time.monotonic()

    def drain(self, seconds: float) -> None:
        """Accept no further connection, and let `run` end when those accepted are answered, or after `seconds`.

        Safe in a signal handler. Later connections stay in the socket's queue; systemd starts a new process for them.
        """
        for door in [each for each in self.map.values() if isinstance(each, Listener)]:
            door.close_entrance()
        if self._drained_at is None:
            self._drained_at = time.monotonic() + seconds

    def run(self) -> bool:
        """Serve until SystemExit, or until it is time to rest: whether that was it."""
        is_resting = False
        seconds = min(self.adj.asyncore_loop_timeout, self._rest_seconds or math.inf)
        try:
            while not is_resting:
                self.asyncore.loop(seconds, self.adj.asyncore_use_poll, self.map, count=1)
                is_resting = self._is_time_to_rest()
        except (SystemExit, KeyboardInterrupt):
            is_resting = False
        self.close()
        return is_resting

    def _is_time_to_rest(self) -> bool:
        # Asked between two turns of the loop, by the only thread that takes connections in.
        now = time.monotonic()
        if self._drained_at is not None:
            return now >= self._drained_at or not self._is_busy(ignored=IDLE)
        if self._rest_seconds is None:
            return False
        if self._is_busy():
            self._quiet_since = now
            return False
        return now - self._quiet_since >= self._rest_seconds and self._may_rest()

    def _is_busy(self, ignored: str = "") -> bool:
        """Return whether a connection in a phase that is not `ignored` is open, or a page is being made.

        A client expects an idle connection to be closed, and repeats its request (RFC 9112, 9.3.1).
        """
        dispatcher = self.task_dispatcher
        with dispatcher.lock:
            is_working = bool(dispatcher.queue or dispatcher.active_count)
        return is_working or any(isinstance(each, Channel) and each.phase != ignored for each in self.map.values())

    def close(self) -> None:
        """Wait for pages that are being made, for seconds at most, and for no reader."""
        for channel in [each for each in self.map.values() if isinstance(each, Channel) and each.phase == SEND]:
            channel.handle_close()
        super().close()


class UnixListener(Listener, UnixWSGIServer):  # type: ignore[misc]
    """A door for the proxy that ends TLS."""

    channel_class = UnixChannel

    def visitor(self, addr: Any) -> str:  # noqa: ARG002
        """The proxy speaks for many."""
        return ""
