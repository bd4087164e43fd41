"""A socket in TLS that looks at the server's first bytes before OpenSSL has them.

A server that answers the handshake in plain text says by its first line what it is. OpenSSL consumes such an answer and reports
no more of it than a wrong version number. A look into the socket before OpenSSL reads it depends on when the answer arrives;
here OpenSSL reads from memory, so that nothing reaches it that was not looked at.
"""

from __future__ import annotations

import contextlib
import math
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

# How a TLS record begins: its type and the version 3.x (RFC 8446, section 5.1; 24 is a heartbeat).
TLS_RECORD = re.compile(rb"[\x14-\x18](\x03|\Z)")
# Bytes read at a time: a record and its overhead (RFC 8446, section 5.2).
RECORD = 16 * 1024 + 512
# Bytes that are kept of a plain text where TLS was expected, and the seconds for the rest of its first line.
PLAIN_TEXT_MAXIMUM, LINE_SECONDS = 200, 5.0


class PlainText(OSError):
    """The server answers the TLS handshake in plain text. The argument is the first line of it."""


class TlsSocket:
    """A client's side of TLS with `name` on a connected socket, which it owns; `do_handshake` comes first.

    It has the methods of a socket that `smtplib.SMTP` and `connection.Replies` use. `left` returns the seconds left, at most as
    many as it is given, and raises TimeoutError when none are left. Raises ValueError when no certificate can have such a name.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str, left: Callable[[float], float]) -> None:
        self._sock, self._left, self._seconds = sock, left, math.inf
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_hostname=name)
        self._is_begun = False

    def settimeout(self, seconds: float) -> None:
        """Set the seconds that each call may wait for the server."""
        self._seconds = seconds

    def do_handshake(self) -> None:
        """Complete the handshake. Raises OSError, and its kind `PlainText` when the server answers without TLS."""
        try:
            self._run(self._tls.do_handshake)
        except ssl.SSLZeroReturnError as error:
            # What Python 3.11.2 makes of an end at this point; later versions raise SSLEOFError.
            raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the connection ended in the handshake") from error

    def recv(self, maximum: int) -> bytes:
        """Return at most so many bytes; none when the server ended the session, even without TLS' own end of it."""
        try:
            return self._run(partial(self._tls.read, maximum))
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""

    def sendall(self, data: bytes) -> None:
        """Send all bytes."""
        sent = 0
        while sent < len(data):
            sent += self._run(partial(self._tls.write, data[sent:]))

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Set an option of the socket."""
        self._sock.setsockopt(level, option, value)

    def getpeername(self) -> Any:
        """Return the server's address."""
        return self._sock.getpeername()

    def getsockname(self) -> Any:
        """Return the device's own address."""
        return self._sock.getsockname()

    @property
    def context(self) -> ssl.SSLContext:
        """The context of the session."""
        return self._tls.context

    def certificate(self) -> bytes:
        """Return the server's certificate in DER, ``b""`` if it showed none."""
        return self._tls.getpeercert(True) or b""

    def verified(self) -> Mapping[str, Any]:
        """Return the server's certificate as `ssl.SSLSocket.getpeercert` does: nothing of one that was not verified."""
        return self._tls.getpeercert() or {}

    def chain(self) -> list[bytes]:
        """Return the certificates that the server showed in DER, its own first, whether they were verified or not."""
        try:
            if hasattr(self._tls, "get_unverified_chain"):  # public from Python 3.13 on
                return list(self._tls.get_unverified_chain())
            # A private method before, so its absence is handled: the server's own certificate is what matters most.
            found = self._tls._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
            return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in found or ()]
        except AttributeError:
            return [self.certificate()]

    def cipher(self) -> tuple[str, str, int] | None:
        """Return the cipher suite, as `ssl.SSLSocket.cipher`."""
        return self._tls.cipher()

    def version(self) -> str | None:
        """Return the version of TLS, None before the handshake."""
        return self._tls.version()

    def _run(self, step: Callable[[], T]) -> T:
        # For the call and not for each piece: a record that comes byte by byte is no answer either.
        end = time.monotonic() + self._seconds
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                self._feed(end)
            except ssl.SSLError:
                # The alert that says why (RFC 8446, section 6.2). The server need not be there any more.
                with contextlib.suppress(OSError):
                    self._flush()
                raise
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if not self._to_send.pending:
            return
        self._sock.settimeout(self._left(self._seconds))
        try:
            self._sock.sendall(self._to_send.read())
        except OSError:
            # What a server said before it closed explains why it did.
            if not self._is_begun:
                self._sock.settimeout(0)
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    self._refuse_plain_text(self._sock.recv(RECORD))
            raise

    def _feed(self, end: float) -> None:
        seconds = self._left(end - time.monotonic())
        if seconds <= 0:
            raise TimeoutError("no whole record came in time")
        self._sock.settimeout(seconds)
        chunk = self._sock.recv(RECORD)
        if not self._is_begun:
            self._refuse_plain_text(chunk)
            self._is_begun = True
        if chunk:
            self._received.write(chunk)
        else:
            self._received.write_eof()

    def _refuse_plain_text(self, chunk: bytes) -> None:
        """Raise `PlainText` if these first bytes are no TLS."""
        if not chunk or TLS_RECORD.match(chunk):
            return
        # The kind is decided; a line that arrives in pieces is only read to its end.
        with contextlib.suppress(OSError):
            while b"\n" not in chunk and len(chunk) < PLAIN_TEXT_MAXIMUM:
                self._sock.settimeout(self._left(LINE_SECONDS))
                more = self._sock.recv(PLAIN_TEXT_MAXIMUM)
                if not more:
                    break
                chunk += more
        raise PlainText(chunk[:PLAIN_TEXT_MAXIMUM].partition(b"\n")[0])
