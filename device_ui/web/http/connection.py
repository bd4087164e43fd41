"""One connection: its phase, and a deadline for each phase, on the monotonic clock.

waitress closes a connection only after a long silence, and waits for a slow reader without limit. Here every part of a
request and of its response has a deadline.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any, Protocol

from waitress.channel import HTTPChannel

from device_ui.web import client_address
from device_ui.web.http.parser import RequestParser
from device_ui.web.http.response import ErrorResponse, Response

# The phases of a connection, in the order in which connections are evicted: one that is sending a response last of all,
# one whose page is being made (WORK) never.
LINGER, HEADER, BODY, IDLE, SEND, WORK = "linger", "header", "body", "idle", "send", "work"
EVICTABLE = (LINGER, HEADER, BODY, IDLE, SEND)


@dataclass(frozen=True)
class Limits:
    """Deadlines in seconds, and numbers of connections. `header` counts from the connection's start or the request's first
    byte, `body` from the header's end, `idle` from a response to the next request's first byte."""

    # A form on a slow line takes seconds; a client that drips a byte now and then is what these end ("slowloris").
    header: float = 10.0
    body: float = 30.0
    idle: float = 30.0
    linger: float = 2.0
    # In each `send_grace` seconds a client must take `send_rate` bytes a second; after `send` a response is over.
    send_grace: float = 20.0
    send_rate: float = 4096.0
    send: float = 900.0
    # How often deadlines are checked.
    check_interval: float = 0.5
    # Of all clients: a bound of memory, as each may hold a form and a response.
    connections: int = 100
    # Of one client; a browser opens six.
    connections_each: int = 20
    # Requests of one connection that wait for their response.
    pipelined: int = 8


class Server(Protocol):
    """The listener that accepted a connection, as far as the connection uses it."""

    limits: Limits

    def monotonic(self) -> float: ...
    def client(self, addr: Any) -> str: ...


class Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """One connection. `client` is its network (`client_address.network`), empty for a proxy, which serves many clients."""

    task_class, error_task_class, parser_class = Response, ErrorResponse, RequestParser
    is_tls = is_lingering = is_evicted = False
    served = sent = 0

    def __init__(self, server: Server, sock: socket.socket, addr: Any, adj: Any, map: Any = None) -> None:  # noqa: A002
        # From the connection on: a client that never sends a byte is overdue, too.
        self.begun = server.monotonic()
        self.set_client(server.client(addr))
        # When each phase of the current request was first seen, and the number of requests served at that time.
        self._seen: dict[str, float] = {}
        self._seen_served = 0
        # The current window of sending: its start, and the bytes sent before it.
        self._window: tuple[float, int] | None = None
        super().__init__(server, sock, addr, adj, map=map)

    def set_client(self, client: str) -> None:
        """Count this connection for a client: for its outer network, its inner network and itself."""
        self.client = client
        self.network_keys: tuple[object, ...] = (*client_address.networks(client)[::-1], client)

    @property
    def phase(self) -> str:
        """The current phase."""
        if self.is_lingering:
            return LINGER
        if self.total_outbufs_len:
            return SEND
        if self.requests:
            return WORK
        if self.request is not None and self.request.body_rcv is not None:
            return BODY
        return IDLE if self.request is None and self.served else HEADER

    def is_overdue(self, now: float) -> bool:
        """Return whether the current phase is past its deadline.

        A phase that is left and entered again for the same request keeps its start: an empty line now and then does not
        restart the deadline.
        """
        if self._seen_served != self.served:
            self._seen, self._seen_served = {}, self.served
            self._window = None
        phase = self.phase
        since = self._seen.setdefault(phase, now if self.served or phase != HEADER else self.begun)
        if phase == WORK:
            self._window = None  # all is sent; the next piece has a window of its own
            return False
        limit = float(getattr(self.server.limits, phase))
        return now - since >= limit or (phase == SEND and self._is_stalled(now))

    def _is_stalled(self, now: float) -> bool:
        """Return whether too little was sent in the window of `send_grace` seconds that ends now."""
        limits = self.server.limits
        since, sent = self._window = self._window or (now, self.sent)
        if now - since < limits.send_grace:
            return False
        self._window = None
        return bool(self.sent - sent < limits.send_grace * limits.send_rate)

    # Called by waitress's loop:

    def readable(self) -> bool:
        """Return whether to wait for bytes."""
        return bool(self.connected and (self.is_lingering or super().readable()))

    def writable(self) -> bool:
        """Return whether to wait for room to send."""
        return bool(self.connected and super().writable())

    def handle_read(self) -> None:
        """Read; discard while lingering."""
        if not self.is_lingering:
            super().handle_read()
            return
        try:
            self.recv(self.adj.recv_bytes)
        except OSError:
            self.handle_close()

    def handle_write(self) -> None:
        """Send; after the last response linger."""
        if self.close_when_flushed and not self.will_close and self.total_outbufs_len:
            self._flush_exception(self._flush_some)
        if self.close_when_flushed and not self.will_close and not self.total_outbufs_len and self.connected:
            self._linger()
        else:
            super().handle_write()

    def _linger(self) -> None:
        """Close the sending half only: a close with unread bytes could discard the response at the client (RFC 9112, 9.6)."""
        self.close_when_flushed, self.is_lingering = False, True
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.handle_close()

    def received(self, data: bytes) -> bool:
        """Take bytes of requests, `pipelined` requests at most.

        Later ones are discarded and the connection closes after the last response, so that the client repeats them
        (RFC 9112, 9.3.2).
        """
        taken = bool(super().received(data))
        with self.requests_lock:
            if len(self.requests) > self.server.limits.pipelined:
                del self.requests[self.server.limits.pipelined :]
                self.requests[-1].headers["CONNECTION"] = "close"
                self.request = None
        return taken

    # Called by waitress's threads:

    def service(self) -> None:
        """Answer one request."""
        super().service()
        self.served += 1

    def send(self, data: bytes, do_close: bool = True) -> int:
        """Send bytes and return how many the kernel took."""
        count = int(super().send(data, do_close=do_close))
        self.sent += count
        return count
