"""One connection: what it is doing, and how long it may take, on waitress's own.

waitress forgets a connection only when it has been silent for long, and waits for a reader as long as he likes. Here
every part of a request and of its answer has a deadline on the monotonic clock.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any, Protocol

from waitress.channel import HTTPChannel

from device_ui.web import client_address
from device_ui.web.http.parser import RequestParser
from device_ui.web.http.response import ErrorResponse, Response

# What a connection is doing. The order is the one in which connections go when room is needed: last of all one whose
# answer is on its way, never one whose page is being made.
LINGER, HEADER, BODY, IDLE, SEND, WORK = "linger", "header", "body", "idle", "send", "work"
EXPENDABLE = (LINGER, HEADER, BODY, IDLE, SEND)


@dataclass(frozen=True)
class Limits:
    """How long (seconds) and how many. `header` counts from the connection's begin or the request's first byte,
    `body` from the header's end, `idle` from an answer to the next request's first byte."""

    header: float = 10.0
    body: float = 30.0
    idle: float = 30.0
    linger: float = 2.0
    # In every so many seconds an answer must go on by so many bytes a second, and end at last.
    send_grace: float = 20.0
    send_rate: float = 4096.0
    send: float = 900.0
    # How often deadlines are looked at.
    look: float = 0.5
    connections: int = 100
    # A browser opens six.
    connections_each: int = 20
    # Requests of one connection that wait behind one another.
    pipelined: int = 8


class Entrance(Protocol):
    """What a connection needs of the door that let it in."""

    limits: Limits

    def clock(self) -> float: ...
    def visitor(self, addr: Any) -> str: ...


class Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """One connection. `visitor` is whose it is (`peer.network`), empty for the proxy in front, who speaks for many."""

    task_class, error_task_class, parser_class = Response, ErrorResponse, RequestParser
    is_tls = is_lingering = is_doomed = False
    served = sent = 0

    def __init__(self, server: Entrance, sock: socket.socket, addr: Any, adj: Any, map: Any = None) -> None:  # noqa: A002
        self.begun = server.clock()
        self.belong(server.visitor(addr))
        # When each phase of the current request was seen first; since when its sending is watched, and from which byte.
        self._seen: dict[str, float] = {}
        self._seen_served = 0
        self._window: tuple[float, int] | None = None
        super().__init__(server, sock, addr, adj, map=map)

    def belong(self, visitor: str) -> None:
        """It is this visitor's, and counted with its outer network, its inner one and itself."""
        self.visitor = visitor
        self.crowds: tuple[object, ...] = (*client_address.networks(visitor)[::-1], visitor)

    @property
    def phase(self) -> str:
        """What it is doing now."""
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
        """Whether what it is doing has taken too long. A phase that is left and entered again goes on counting, so
        that no empty line sent now and then starts the clock again."""
        if self._seen_served != self.served:
            self._seen, self._seen_served = {}, self.served
            self._window = None
        phase = self.phase
        since = self._seen.setdefault(phase, now if self.served or phase != HEADER else self.begun)
        if phase == WORK:
            self._window = None  # all is sent; the next piece takes its own time
            return False
        limit = float(getattr(self.server.limits, phase))
        return now - since >= limit or (phase == SEND and self._is_stalled(now))

    def _is_stalled(self, now: float) -> bool:
        """Whether too little was sent in this window of `send_grace` seconds; what the kernel took in the one before
        says nothing of the reader."""
        limits = self.server.limits
        since, sent = self._window = self._window or (now, self.sent)
        if now - since < limits.send_grace:
            return False
        self._window = None
        return bool(self.sent - sent < limits.send_grace * limits.send_rate)

    # What waitress calls. First its own loop:

    def readable(self) -> bool:
        """Whether to look for bytes."""
        return bool(self.connected and (self.is_lingering or super().readable()))

    def writable(self) -> bool:
        """Whether to look for room to send."""
        return bool(self.connected and super().writable())

    def handle_read(self) -> None:
        """Bytes have come, or the end."""
        if not self.is_lingering:
            super().handle_read()
            return
        try:
            self.recv(self.adj.recv_bytes)
        except OSError:
            self.handle_close()

    def handle_write(self) -> None:
        """There is room to send."""
        if self.close_when_flushed and not self.will_close and self.total_outbufs_len:
            self._flush_exception(self._flush_some)
        if self.close_when_flushed and not self.will_close and not self.total_outbufs_len and self.connected:
            self._linger()
        else:
            super().handle_write()

    def _linger(self) -> None:
        """RFC 9112, 9.6: closing at once with bytes unread would take the answer back from who has not read it yet."""
        self.close_when_flushed, self.is_lingering = False, True
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.handle_close()

    def received(self, data: bytes) -> bool:
        """Bytes of requests. Those that come long before their turn are not kept; the connection closes after the
        last that is, and its client asks again (RFC 9112, 9.3.2)."""
        taken = bool(super().received(data))
        with self.requests_lock:
            if len(self.requests) > self.server.limits.pipelined:
                del self.requests[self.server.limits.pipelined :]
                self.requests[-1].headers["CONNECTION"] = "close"
                self.request = None
        return taken

    # then its threads:

    def service(self) -> None:
        """Answer one request."""
        super().service()
        self.served += 1

    def send(self, data: bytes, do_close: bool = True) -> int:
        """Hand bytes to the kernel; how many it took."""
        count = int(super().send(data, do_close=do_close))
        self.sent += count
        return count
