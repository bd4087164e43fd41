"""Listening sockets that always accept: when the limits are reached, a connection is evicted for the new one.

At its limit waitress stops accepting, so that a few hundred connections that send a byte a second keep every other
client out. Here the network with the most connections, and in it the client with the most, loses the oldest connection
that is not being served.
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
from device_ui.web.http.connection import EVICTABLE, IDLE, SEND, WORK, Channel, Limits
from device_ui.web.http.proxy_protocol import UnixChannel

log = logging.getLogger(__name__)

# Connections accepted in a row before the open ones are served again.
ACCEPTED_AT_ONCE = 32
# Connections evicted when the system has no descriptor left.
FREED_AT_ONCE = 8


class Listener:
    """A mixin of waitress's two kinds of listening sockets. The listeners of one process share its limits."""

    channel_class = Channel
    limits = Limits()
    monotonic: Callable[[], float] = staticmethod(time.monotonic)
    # The address of the proxy that terminates TLS, if there is one.
    trusted_proxy = ""
    # Monotonic seconds of the next check of deadlines, and until which no connection is accepted.
    _next_check = _paused_until = 0.0
    # Of waitress.
    accepting: bool
    adj: Any
    _map: dict[int, Any]

    if TYPE_CHECKING:

        def __init__(self, application: object, **settings: object) -> None: ...

    def client(self, addr: Any) -> str:
        """Return the network that a connection counts for; ``""`` for the trusted proxy, which serves many clients."""
        is_from_proxy = bool(self.trusted_proxy) and client_address.plain(addr[0]) == self.trusted_proxy
        return "" if is_from_proxy else client_address.network(addr[0])

    def readable(self) -> bool:
        """Return whether to wait for new connections.

        waitress calls this before every poll, when no event is pending. Connections are closed only here: a pending
        event could otherwise reach a new connection with the same descriptor.
        """
        now = self.monotonic()
        is_check = now >= self._next_check
        if is_check:
            self._next_check = now + self.limits.check_interval
        for channel in [each for each in self._map.values() if isinstance(each, Channel) and each.server is self]:
            if self._is_over(channel, now, is_check):
                channel.handle_close()
        return self.accepting and now >= self._paused_until

    def _is_over(self, channel: Channel, now: float, is_check: bool) -> bool:
        # Its request may have been completed since it was evicted.
        channel.is_evicted = channel.is_evicted and channel.phase != WORK
        return channel.is_evicted or (is_check and channel.is_overdue(now))

    def handle_accept(self) -> None:
        """Accept several connections at once: one a round would keep the owner waiting behind hundreds."""
        # `stop_accepting` may have been called during the poll that reported this event.
        for _ in range(0 if math.isinf(self._paused_until) else ACCEPTED_AT_ONCE):
            try:
                accepted = self.accept()  # type: ignore[attr-defined]
            except OSError as error:
                self._free_descriptors(error)
                return
            if accepted is None:
                return
            self._admit(*accepted)

    def _free_descriptors(self, error: OSError) -> None:
        """Out of descriptors or memory: evict connections, since pages need descriptors too, else pause accepting."""
        evicted = [self._evict(self._channels()) for _ in range(FREED_AT_ONCE)]
        if not any(evicted):
            log.warning("connection not accepted: %s", error.strerror)
            self._paused_until = self.monotonic() + self.limits.check_interval

    def _admit(self, sock: socket.socket, addr: Any) -> None:
        addr = self.fix_addr(addr)  # type: ignore[attr-defined]
        try:
            self.set_socket_options(sock)  # type: ignore[attr-defined]
        except OSError:  # closed by the client
            sock.close()
            return
        if self.make_room(self.client(addr)):
            self.channel_class(self, sock, addr, self.adj, map=self._map)
        else:
            sock.close()

    def stop_accepting(self) -> None:
        """Accept no further connection; those accepted are served."""
        self._paused_until = math.inf

    def make_room(self, client: str) -> bool:
        """Return whether this client may have one more connection, after an eviction if one is needed."""
        channels = self._channels()
        own = [each for each in channels if each.client == client]
        if client and len(own) >= self.limits.connections_each:
            return self._evict(own)
        return len(channels) < self.limits.connections or self._evict(channels)

    def _evict(self, channels: Iterable[Channel]) -> bool:
        """Evict the oldest connection, not being served, of the client with the most; return False when there is none.

        Networks count before clients: a hundred addresses that reconnect would else evict a client that has one
        connection on a slow line.
        """
        # Without WORK: the page under way may be the save of an operator.
        candidates = [each for each in channels if each.phase in EVICTABLE]
        if not candidates:
            return False
        counts = Counter(name for each in candidates for name in each.network_keys)

        def rank(each: Channel) -> tuple[int, int, int, int, float]:
            outer, inner, client = each.network_keys
            return -counts[outer], -counts[inner], -counts[client], EVICTABLE.index(each.phase), each.begun

        # Marked only: `readable` closes it, when no event is pending.
        min(candidates, key=rank).is_evicted = True
        return True

    def _channels(self) -> list[Channel]:
        return [each for each in self._map.values() if isinstance(each, Channel) and not each.is_evicted]


class TcpListener(Listener, TcpWSGIServer):  # type: ignore[misc]
    """A listener on an address."""


class UnixListener(Listener, UnixWSGIServer):  # type: ignore[misc]
    """A listener for the proxy that terminates TLS."""

    channel_class = UnixChannel

    def client(self, addr: Any) -> str:  # noqa: ARG002
        """Return ``""``: the proxy serves many clients."""
        return ""


class Listeners(MultiSocketServer):  # type: ignore[misc]
    """All listeners of one process, and their loop. It ends by itself when idle (`exit_when_idle`) or drained."""

    _idle_seconds: float | None = None
    # When `run` ends although a connection is open; monotonic seconds.
    _drained_at: float | None = None

    def exit_when_idle(self, seconds: float, may_exit: Callable[[], bool]) -> None:
        """Let `run` end after `seconds` without a connection or a page being made, if `may_exit` returns True.

        For sockets that systemd holds open: later connections stay in their queue, and systemd starts a new process
        for them. This process accepts no connection that it does not answer.
        """
        self._idle_seconds, self._may_exit, self._idle_since = seconds, may_exit, time.monotonic()

    def drain(self, seconds: float) -> None:
        """Accept no further connection, and let `run` end when those accepted are answered, or after `seconds`.

        Safe in a signal handler. Later connections stay in the socket's queue; systemd starts a new process for them.
        """
        for listener in [each for each in self.map.values() if isinstance(each, Listener)]:
            listener.stop_accepting()
        if self._drained_at is None:
            self._drained_at = time.monotonic() + seconds

    def run(self) -> bool:
        """Serve until SystemExit, or until idle or drained; return False after SystemExit."""
        is_over = False
        seconds = min(self.adj.asyncore_loop_timeout, self._idle_seconds or math.inf)
        try:
            while not is_over:
                self.asyncore.loop(seconds, self.adj.asyncore_use_poll, self.map, count=1)
                is_over = self._is_over()
        except (SystemExit, KeyboardInterrupt):
            is_over = False
        self.close()
        return is_over

    def _is_over(self) -> bool:
        # Between two rounds of the loop, in the only thread that accepts connections: none can be accepted after the decision.
        now = time.monotonic()
        if self._drained_at is not None:
            return now >= self._drained_at or not self._is_busy(ignored=IDLE)
        if self._idle_seconds is None:
            return False
        if self._is_busy():
            self._idle_since = now
            return False
        return now - self._idle_since >= self._idle_seconds and self._may_exit()

    def _is_busy(self, ignored: str = "") -> bool:
        """Return whether a connection in a phase that is not `ignored` is open, or a page is being made.

        A client expects an idle connection to be closed, and repeats its request (RFC 9112, 9.3.1).
        """
        dispatcher = self.task_dispatcher
        with dispatcher.lock:
            is_working = bool(dispatcher.queue or dispatcher.active_count)
        return is_working or any(isinstance(each, Channel) and each.phase != ignored for each in self.map.values())

    def close(self) -> None:
        """Wait a few seconds for pages that are being made; close connections whose response is unread at once."""
        for channel in [each for each in self.map.values() if isinstance(each, Channel) and each.phase == SEND]:
            channel.handle_close()
        super().close()
