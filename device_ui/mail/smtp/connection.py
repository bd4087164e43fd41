"""An SMTP session on one connection (RFC 5321, section 3.1): smtplib's commands and reply parser, within one deadline.

smtplib times each read, so a server that drips a byte a second holds it for hours, and it reads replies without an end.
Here every wait gets the rest of the attempt, and the replies of an attempt have a limit in bytes. Replies are redacted
before anything else sees their text.
"""

from __future__ import annotations

import contextlib
import math
import re
import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Collection, Container, Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

from device_ui.errors import ErrorConversion, Message, Text
from device_ui.mail.smtp.outcome import SessionError, SmtpProblem, Step
from device_ui.mail.smtp.redaction import sanitize_reply
from device_ui.mail.smtp.tls_errors import problem_of_certificate, problem_of_tls
from device_ui.mail.smtp.tls_socket import PlainText, TlsSocket

# Bytes of replies in one attempt (the opening with the first mail, or a later mail); an honest one of twenty
# recipients needs some 2 KiB.
REPLIES_MAXIMUM = 256 * 1024
# Bytes sent between two looks at the deadline: one TLS record (RFC 8446, section 5.1).
PIECE = 16 * 1024
# Seconds for such a piece (RFC 5321, section 4.5.3.2.5).
BLOCK_SECONDS = 180.0
# Seconds between two calls of `on_wait`.
LOOK_SECONDS = 5.0
PERIOD = re.compile(rb"(?m)^\.")
BLANK_LINE = "the server sent a blank line"

# Called with a step that succeeded and its details: one printable line without a secret.
OnStep = Callable[[Step, Text], None]


@dataclass(frozen=True)
class Timeouts:
    """Seconds: for a whole `attempt`; to `connect` to one address, since the next may be alive; for the reply to each step.

    The replies are those of RFC 5321, section 4.5.3.2: the `greeting`, a `command`, DATA, and the `verdict` on a mail that
    the server has whole (0: the rest of the attempt). A client that gives up on a slow verdict may send the same mail again
    and again (4.5.3.2.6). An attempt of an hour bounds a server that answers each command at the last moment.
    """

    attempt: float = 3600.0
    connect: float = 10.0
    greeting: float = 300.0
    command: float = 300.0
    data: float = 120.0
    verdict: float = 600.0


class ReplyTooLong(OSError):
    """The server's replies have used up `REPLIES_MAXIMUM`."""


def tls_name(host: str) -> str:
    """Return a host's name as a certificate has it. Raises ValueError when no certificate can have such a name."""
    # RFC 6066, section 3: without the final dot, in A-labels. Python's codec is that of IDNA 2003 (RFC 3490).
    return host.rstrip(".").encode("idna").decode()


def translate_errors(step: Step, plain_text: SmtpProblem = SmtpProblem.NO_TLS_SPOKEN) -> ErrorConversion:
    """Return a context that turns any error of socket, TLS or smtplib into a `SessionError` at this step.

    `plain_text` is the problem when the server answers a handshake without TLS.
    """
    return ErrorConversion(
        (OSError, smtplib.SMTPException, ValueError),
        partial(_session_error, step, plain_text),
    )


class Deadline:
    """A moment on the monotonic clock, which no change of the wall clock moves."""

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.monotonic = monotonic
        self.restart(seconds)

    def restart(self, seconds: float) -> None:
        """Set the deadline to `seconds` from now."""
        self._end, self._is_cancelled = self.monotonic() + seconds, False

    def cancel(self) -> None:
        """Let no time be left, until `restart`."""
        self._is_cancelled = True

    def extend(self, seconds: float) -> None:
        """Move the deadline by `seconds`."""
        self._end += seconds

    def shorten(self, seconds: float) -> None:
        """Move the deadline to `seconds` from now, unless it is earlier already."""
        self._end = min(self._end, self.monotonic() + seconds)

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Shorten the deadline inside the context, and restore it afterwards."""
        end = self._end
        self.shorten(seconds)
        try:
            yield
        finally:
            self._end = end

    def left(self, maximum: float = math.inf) -> float:
        """Return the seconds left, at most `maximum`. Raises TimeoutError when none are left."""
        left = min(self._end - self.monotonic(), maximum)
        if left <= 0 or self._is_cancelled:
            raise TimeoutError("the attempt took too long")
        return left


class Replies:
    """The reading half that smtplib expects of ``socket.makefile``: ``readline`` and ``close``."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock, self._deadline = sock, deadline
        self._buffer = bytearray()
        self._received = 0
        # The last line, as it was received.
        self.line = b""
        self.begin_wait(lambda _seconds: None)

    @property
    def pending(self) -> bool:
        """Whether unread bytes are buffered: before STARTTLS they are an injection (CVE-2011-0411)."""
        return bool(self._buffer)

    def readline(self, limit: int) -> bytes:
        """Return a line with its end, at most `limit` bytes; empty when the server closed, even inside a line."""
        while b"\n" not in self._buffer and len(self._buffer) < limit and self._receive():
            pass
        end = self._buffer.find(b"\n") + 1 or limit
        if end > len(self._buffer):
            return b""  # half a reply is none: "25" may be the beginning of "250"
        self.line = bytes(self._buffer[: min(end, limit)])
        del self._buffer[: len(self.line)]
        return self.line

    def begin_wait(self, on_wait: Callable[[float], None]) -> None:
        """Begin to wait for a reply: every `LOOK_SECONDS`, `on_wait` is called with the seconds so far."""
        self._on_wait = on_wait
        self._began = self._looked = self._deadline.monotonic()

    def reset_limit(self) -> None:
        """Count the bytes of a new attempt."""
        self._received = 0

    def close(self) -> None:
        """Do nothing: the owner of the socket closes it."""

    def _receive(self) -> bool:
        # A server that awaits our acknowledgement before it goes on (Nagle's algorithm, as after a TLS handshake) must not
        # wait for Linux, which delays it by 40 ms. Linux resets this option by itself (tcp(7)).
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
            chunk = None
            try:
                chunk = self._sock.recv(4096)
            except TimeoutError as error:
                if error.errno is not None:  # the kernel's own (ETIMEDOUT): the connection is dead
                    raise
            now = self._deadline.monotonic()
            if chunk is None or now - self._looked >= LOOK_SECONDS:  # a byte now and then is no reply
                self._looked = now
                self._on_wait(now - self._began)
            if chunk is not None:
                return chunk


class Connection(smtplib.SMTP):
    """A session with one server: closed, or open on a socket; a closed one can be opened again.

    `secrets` are the `redaction.pieces` to remove from replies and details. `on_step`, if any, receives each step that
    succeeded. Nothing may be sent before the greeting was read.
    """

    # smtplib sets these only when it connects by itself.
    sock: socket.socket
    file: Replies | None

    def __init__(
        self,
        deadline: Deadline,
        secrets: Collection[str] = (),
        on_step: OnStep | None = None,
    ) -> None:
        super().__init__(local_hostname="localhost")  # replaced in every EHLO; a name here saves a look-up
        self.deadline, self._secrets, self._on_step = deadline, secrets, on_step
        # The step whose reply is awaited, for how many seconds at most, and what is called meanwhile.
        self.step = Step.GREETING
        self.reply_seconds = math.inf
        self.on_wait: Callable[[float], None] = lambda _seconds: None

    def close(self) -> None:
        """Close the socket, and call nobody any more."""
        super().close()
        # `on_wait` may refer to the client of this connection, to end a wait. Such a cycle would keep the password in memory
        # until Python's garbage collector finds it.
        self.on_wait = lambda _seconds: None

    @property
    def is_open(self) -> bool:
        """Whether there is a socket. smtplib closes it when it is lost."""
        return self.sock is not None

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS was begun."""
        return isinstance(self.sock, TlsSocket)

    @property
    def pending(self) -> bool:
        """See `Replies.pending`."""
        return self.file is not None and self.file.pending

    @property
    def offered(self) -> str:
        """The extensions of the last EHLO, as it was received; ``""`` for none."""
        return ", ".join(" ".join([name.upper(), *value.split()]) for name, value in self.esmtp_features.items())

    def attach(self, sock: socket.socket) -> None:
        """Use this socket from now on, and forget the extensions of an earlier EHLO (RFC 3207, section 4.2)."""
        self.sock, self.file = sock, Replies(sock, self.deadline)
        self.ehlo_resp = self.helo_resp = None
        self.esmtp_features, self.does_esmtp = {}, False

    def wrap(self, context: ssl.SSLContext, host: str) -> TlsSocket:
        """Use TLS with `host` from now on; return the socket, whose handshake is still to be done.

        Raises ValueError when no certificate can be for such a name.
        """
        sock = TlsSocket(self.sock, context, tls_name(host), self.deadline.left)
        self.attach(cast("socket.socket", sock))
        return sock

    def send(self, s: bytes | str) -> None:  # type: ignore[override]
        """Send within the deadline."""
        if not self.is_open:
            raise smtplib.SMTPServerDisconnected("closed")
        raw = s.encode(self.command_encoding) if isinstance(s, str) else s
        for start in range(0, len(raw), PIECE):
            self.sock.settimeout(self.deadline.left(BLOCK_SECONDS))
            super().send(raw[start : start + PIECE])

    def send_content(self, message: bytes) -> None:
        """Send `message`, whose lines end with CRLF, and the line that ends it."""
        # RFC 5321, section 4.5.2: a line that begins with a dot gets a second one.
        stuffed = PERIOD.sub(b"..", message)
        self.send(stuffed + (b".\r\n" if stuffed.endswith(b"\r\n") else b"\r\n.\r\n"))

    def getreply(self) -> tuple[int, bytes]:
        """Return the next reply, within `reply_seconds`; `on_wait` is called every `LOOK_SECONDS`."""
        if self.file is not None:
            self.file.begin_wait(self.on_wait)
        # smtplib reads a reply of many lines one by one; the time is for all of them.
        with self.deadline.within(self.reply_seconds):
            return super().getreply()

    def expect(self, step: Step, codes: Container[int], code: int, reply: bytes) -> str:
        """Return a reply as `format_reply` does. Raises `SessionError` at `step` when its code is not one of `codes`."""
        text = self.format_reply(code, reply)
        if code not in codes:
            raise SessionError(step, SmtpProblem.ANSWER if code >= 0 else SmtpProblem.NO_CODE, text, code)
        return text

    def format_reply(self, code: int, reply: bytes) -> str:
        """Return a reply (RFC 5321, section 4.2) as one redacted line of at most `redaction.REPLY_MAXIMUM` characters.

        A line without a code (smtplib: -1) is returned as it was received.
        """
        if code < 0:
            # smtplib drops the first four characters of such a line; the words of a different protocol begin there.
            line = self.file.line if self.file else reply
            return sanitize_reply(line.decode("utf-8", "replace").strip(), self._secrets) or BLANK_LINE
        # Replies are ASCII (RFC 5321, section 4.2), but some servers send their country's words in Latin-1.
        return sanitize_reply(f"{code} {reply.decode('utf-8', 'replace')}", self._secrets)

    def report(self, step: Step, details: Text) -> None:
        """Report a step that succeeded to `on_step`, redacted.

        Never inside `translate_errors`: an error of `on_step` is the caller's, not the server's.
        """
        if self._on_step:
            self._on_step(step, self._redact(details))

    def _redact(self, details: Text) -> Text:
        if isinstance(details, Message):
            # The values alone: a template is text of this product.
            values = {name: sanitize_reply(str(value), self._secrets) for name, value in details.values.items()}
            return Message(details.template, **values)
        return sanitize_reply(details, self._secrets)

    def reset_limit(self) -> None:
        """See `Replies.reset_limit`."""
        if self.file is not None:
            self.file.reset_limit()


def _session_error(step: Step, plain_text: SmtpProblem, error: Exception) -> SessionError:
    # smtplib wraps an error of the socket in SMTPServerDisconnected.
    cause = error.__context__ if isinstance(error, smtplib.SMTPServerDisconnected) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return SessionError(Step.CERTIFICATE, *problem_of_certificate(cause))
    if isinstance(cause, ssl.SSLError):
        # Not only of the handshake: with TLS 1.3 a server refuses a client after it (RFC 8446, section 4.4.2.4).
        return SessionError(step, *problem_of_tls(cause))
    if isinstance(cause, PlainText):
        return SessionError(
            step,
            plain_text,
            sanitize_reply(cause.args[0].decode("utf-8", "replace").strip()) or BLANK_LINE,
        )
    return SessionError(step, *_problem(error, cause))


def _problem(error: Exception, cause: BaseException | None) -> tuple[SmtpProblem, str]:
    if isinstance(cause, ReplyTooLong | smtplib.SMTPResponseException):  # the latter: a line without an end
        return SmtpProblem.ENDLESS, "the server's answers do not end"
    if isinstance(cause, TimeoutError):
        return SmtpProblem.SILENT, "the server does not answer in time"
    if isinstance(cause, ConnectionRefusedError):
        return SmtpProblem.REFUSED, "nothing listens at this port"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return SmtpProblem.CLOSED, "the server closed the connection"
    return SmtpProblem.BROKEN, getattr(cause, "strerror", None) or str(cause)
