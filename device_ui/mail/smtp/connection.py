"""smtplib's commands and replies over a socket with one deadline for the whole attempt.

smtplib times each read, so a server that drips a byte a second holds it for hours; and it reads replies without an
end. Here every wait gets what is left of the attempt, and the bytes of its replies together have a limit.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Iterator

# Bytes of replies in one attempt (the opening with the first mail, or a later mail); an honest one of twenty
# recipients needs some 2 KiB.
REPLIES_MAXIMUM = 256 * 1024
# Bytes sent between two looks at the deadline: one TLS record (RFC 8446, 5.1). SSLSocket times each record anew.
PIECE = 16 * 1024
# Seconds of silence between two calls of `on_wait`.
LOOK_SECONDS = 5.0
PERIOD = re.compile(rb"(?m)^\.")


class ReplyTooLong(OSError):
    """The server's answers have used up `REPLIES_MAXIMUM`."""


class Deadline:
    """A moment on the monotonic clock, so that no jump of the wall clock can bend it."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.restart(seconds)

    def now(self) -> float:
        """Return the monotonic clock's seconds."""
        return self._clock()

    def restart(self, seconds: float) -> None:
        """Count anew from now."""
        self._end = self._clock() + seconds

    def extend(self, seconds: float) -> None:
        """End so many seconds later."""
        self._end += seconds

    def shorten(self, seconds: float) -> None:
        """End within `seconds` from now, or sooner where little is left."""
        self._end = min(self._end, self._clock() + seconds)

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Give what is done inside at most `seconds`, and nothing of what comes after."""
        end = self._end
        self.shorten(seconds)
        try:
            yield
        finally:
            self._end = end

    def left(self, most: float = float("inf")) -> float:
        """Seconds left, at most `most`. Raises TimeoutError when there are none."""
        left = min(self._end - self._clock(), most)
        if left <= 0:
            raise TimeoutError("the attempt took too long")
        return left


class Replies:
    """The reading half that smtplib expects of ``socket.makefile``: ``readline`` and ``close``."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock, self._deadline = sock, deadline
        self._buffer = bytearray()
        self._received = 0
        # While a reply does not come, called every `LOOK_SECONDS`.
        self.on_wait: Callable[[], None] = lambda: None

    @property
    def pending(self) -> bool:
        """Whether bytes came that nobody has read: before STARTTLS they are an injection (CVE-2011-0411)."""
        return bool(self._buffer)

    def readline(self, limit: int) -> bytes:
        """One line with its end, at most `limit` bytes; empty when the server closed, be it within a line."""
        while b"\n" not in self._buffer and len(self._buffer) < limit and self._receive():
            pass
        end = self._buffer.find(b"\n") + 1 or limit
        if end > len(self._buffer):
            return b""  # half an answer is none: "25" and "250" cannot be told apart
        line = bytes(self._buffer[: min(end, limit)])
        del self._buffer[: len(line)]
        return line

    def count_anew(self) -> None:
        """A new attempt begins."""
        self._received = 0

    def close(self) -> None:
        """Nothing to do: the socket is closed by its owner."""

    def _receive(self) -> bool:
        # A server that waits for our acknowledgement before it says more (Nagle's algorithm, as after a TLS handshake)
        # is not to wait for Linux to delay it by 40 ms. Linux forgets this by itself (tcp(7)).
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        chunk = self._chunk()
        self._received += len(chunk)
        if self._received > REPLIES_MAXIMUM:
            raise ReplyTooLong("the server's answers do not end")
        self._buffer += chunk
        return bool(chunk)

    def _chunk(self) -> bytes:
        while True:
            self._sock.settimeout(self._deadline.left(LOOK_SECONDS))
            try:
                return self._sock.recv(4096)
            except TimeoutError as error:
                if error.errno is not None:  # the kernel's own (ETIMEDOUT): the connection is dead
                    raise
            self.on_wait()


class Connection(smtplib.SMTP):
    """smtplib's session on a socket of ours. Nothing is sent before `greeting` was read."""

    # smtplib's own names; it makes them only when it connects by itself.
    sock: socket.socket
    file: Replies | None

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        super().__init__(local_hostname="localhost")  # replaced in every EHLO; a name here saves a look-up
        self.deadline = deadline
        self.use(sock)

    def use(self, sock: socket.socket) -> None:
        """Speak on this socket from now on and forget what an EHLO before it said (RFC 3207, 4.2)."""
        self.sock, self.file = sock, Replies(sock, self.deadline)
        self.ehlo_resp = self.helo_resp = None
        self.esmtp_features, self.does_esmtp = {}, False

    def wrap(self, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
        """Speak TLS with `host` from now on; the handshake is still to be done, on what comes back.

        Raises OSError, or ValueError when no certificate could be for such a name.
        """
        self.sock.settimeout(self.deadline.left())
        # Python's ssl looks at both, too, but leaves the socket open where they fail.
        self.sock.getpeername()
        name = host.rstrip(".").encode("idna").decode()
        sock = context.wrap_socket(self.sock, server_hostname=name, do_handshake_on_connect=False)
        self.use(sock)
        return sock

    def send(self, s: bytes | str) -> None:  # type: ignore[override]
        """Send within what is left of the attempt."""
        raw = s.encode(self.command_encoding) if isinstance(s, str) else s
        for start in range(0, len(raw), PIECE):
            self.sock.settimeout(self.deadline.left())
            super().send(raw[start : start + PIECE])

    def send_content(self, message: bytes) -> None:
        """Send `message`, whose lines end with CRLF, and the line that ends it."""
        # RFC 5321, section 4.5.2: a line that begins with a dot gets a second one.
        stuffed = PERIOD.sub(b"..", message)
        self.send(stuffed + (b".\r\n" if stuffed.endswith(b"\r\n") else b"\r\n.\r\n"))

    def await_reply(self, on_wait: Callable[[float], None]) -> tuple[int, bytes]:
        """Return the next reply; while it does not come, call `on_wait` every `LOOK_SECONDS` with the seconds waited."""
        replies, began = self.file, self.deadline.now()
        if replies is None:
            return self.getreply()
        replies.on_wait = lambda: on_wait(self.deadline.now() - began)
        try:
            return self.getreply()
        finally:
            replies.on_wait = lambda: None

    def count_anew(self) -> None:
        """See `Replies.count_anew`."""
        if self.file is not None:
            self.file.count_anew()

    @property
    def pending(self) -> bool:
        """See `Replies.pending`."""
        return self.file is not None and self.file.pending
