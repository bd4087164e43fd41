"""One SMTP session: the steps to the login (RFC 5321, section 3), then mail after mail. It knows no retries and no database.

A reply to AUTH that judged the password refuses the login (`scope`); the caller must not try again at once, since retries
lock accounts.
A session tries one mechanism once. AUTH is sent only in TLS with a certificate that the settings trust (`trust`), or to a loopback
address.

An attempt is the opening with the first mail, or a later mail. Each reply has the time that RFC 5321 gives it, and each
attempt one deadline; only the verdict on a mail that the server has whole may take longer.
"""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from device_ui.errors import Message
from device_ui.mail.events import Verdict
from device_ui.mail.smtp import auth, trust
from device_ui.mail.smtp.address_policy import (
    AddressInfo,
    Resolver,
    address_literal,
    is_loopback,
    look_up,
)
from device_ui.mail.smtp.connect import connect
from device_ui.mail.smtp.connection import (
    Connection,
    Deadline,
    OnStep,
    Timeouts,
    translate_errors,
)
from device_ui.mail.smtp.outcome import Outcome, SessionError, SmtpProblem, Step
from device_ui.mail.smtp.redaction import pieces
from device_ui.mail.smtp.scope import Command, Scope, rule
from device_ui.mail.smtp.tls_socket import TlsSocket
from device_ui.mail.smtp.transaction import Transaction
from device_ui.settings.fields import SmtpSettings

DEFAULT_TIMEOUTS = Timeouts()
# Seconds for a polite QUIT; for a TLS handshake, which no RFC bounds.
# The mail is settled before QUIT, so its reply, which a client should await (RFC 5321, section 4.1.1.10), is not worth more.
QUIT_SECONDS, HANDSHAKE_SECONDS = 2.0, 60.0
# A long digest gets more time: bytes a second of the slowest line, and the most attempts' time that this may add.
# 2,000 bytes a second are a line of 16 kbit/s. Bounded, or one digest could hold the session for days.
SLOWEST, LONGEST = 2000, 5
# RFC 1870, section 4: a size has 20 digits at most.
SIZE_DIGITS = 20
# Replies to EHLO of a server that does not know it (RFC 5321, section 3.2; RFC 1869, section 4.5).
NO_EHLO = (500, 502, 504)


@dataclass(frozen=True)
class ClientOptions:
    """What a device gives every session: the TLS `context`, the `helo_name` (``""``: its address), and how names are
    resolved; `allow_loopback` permits servers on the device itself. `last_seen` is that of `trust.accept`."""

    context: ssl.SSLContext
    helo_name: str = ""
    allow_loopback: bool = False
    resolver: Resolver = look_up
    last_seen: Callable[[SmtpSettings], trust.InUse | None] = lambda _settings: None


class SmtpClient:
    """A session with the mail server of `settings`: `open` it, `deliver` mails, `close` it.

    `on_step` receives each step that succeeds, in the order of `Step`: ``ehlo`` twice when STARTTLS comes between,
    ``recipient`` for each that is accepted, and no step that the settings leave out. For a closer look after a failure:
    `host` without brackets, the `address` that the last `open` connected to, the `certificates` that it relies on, the
    `timeouts` and the attempt's `deadline`.
    """

    def __init__(
        self,
        settings: SmtpSettings,
        password: str,
        options: ClientOptions,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        on_step: OnStep | None = None,
    ) -> None:
        self._settings, self._password = settings, password
        self._options, self.timeouts = options, timeouts
        # Whether this session has begun a mail, and whether it has delivered one.
        self._has_begun = self._delivered = False
        self.host = settings.host.removeprefix("[").removesuffix("]")
        self.address: AddressInfo | None = None
        self.certificates: tuple[trust.InUse, ...] = ()
        self.deadline = Deadline(timeouts.attempt)
        secrets = pieces(auth.secrets(settings, password))
        self._connection = Connection(self.deadline, secrets, on_step)
        self._connection.reply_seconds = timeouts.command

    @property
    def is_open(self) -> bool:
        """Whether the session can take another mail."""
        return self._connection.is_open

    @property
    def step(self) -> Step:
        """The step whose reply is awaited."""
        return self._connection.step

    @property
    def size_maximum(self) -> int:
        """The largest mail in bytes that the server announced to take (RFC 1870, section 4); 0: it announced none."""
        value = self._connection.esmtp_features.get("size", "").strip()
        # ASCII digits and a bound of their number first: "int" takes other digits, and raises an error from 4,300 on.
        return int(value) if value.isascii() and value.isdigit() and len(value) <= SIZE_DIGITS else 0

    @property
    def local_address(self) -> str:
        """The device's own address in this session; ``""`` when it is closed."""
        return str(self._connection.sock.getsockname()[0]) if self.is_open else ""

    def open(self, on_wait: Callable[[float], None] = lambda _seconds: None) -> None:
        """Go through the steps from the name to the login. Raises `SessionError`.

        `on_wait` is called every few seconds while a reply does not come, with the seconds so far. It may call `end_wait`.
        """
        self._connection.on_wait = on_wait
        self.deadline.restart(self.timeouts.attempt)
        self._has_begun = self._delivered = False
        try:
            self._connect()
            if self._settings.connection == "tls":
                self._start_tls(SmtpProblem.NO_TLS_SPOKEN)
            self._greeting()
            self._ehlo()
            if self._settings.connection == "starttls":
                self._starttls()
                self._ehlo("in TLS: ")
            if self._settings.sign_in != "none":
                self._login()
        # Also for what `on_step` raises: no socket may stay open without an owner.
        except BaseException:
            self._connection.close()
            raise

    def deliver(
        self,
        recipients: Sequence[str],
        message: bytes,
        *,
        on_wait: Callable[[float], None] = lambda _seconds: None,
    ) -> dict[str, Outcome]:
        """Send one mail in one transaction; return an outcome for every recipient. The session may be closed afterwards.

        `on_wait` as for `open`.
        """
        if not self.is_open:
            closed = SessionError(Step.CONNECT, SmtpProblem.CLOSED, "the session is over")
            return dict.fromkeys(recipients, closed.outcome)
        self._connection.on_wait = on_wait
        attempt = self.timeouts.attempt
        # The first mail shares time and bytes with the opening: a server must not get both twice by answering slowly. Each
        # later mail is an attempt of its own.
        if self._has_begun:
            self.deadline.restart(attempt)
            self._connection.reset_limit()
        self._has_begun = True
        self.deadline.extend(min(len(message) / SLOWEST, LONGEST * attempt))
        mail_from = self._settings.mail_from
        delivered = self._delivered
        transaction = Transaction(
            self._connection, self.timeouts, mail_from, recipients, message, has_delivered=delivered
        )
        outcomes = transaction.run()
        self._delivered = delivered or any(each.verdict == Verdict.DELIVERED for each in outcomes.values())
        return outcomes

    def end_wait(self) -> None:
        """Stop waiting for the server's reply."""
        self.deadline.cancel()

    def close(self) -> None:
        """Send QUIT within what is left of the attempt, then close the connection, whether the server replied or not."""
        if self.is_open:
            self.deadline.shorten(QUIT_SECONDS)
            with contextlib.suppress(OSError, smtplib.SMTPException):
                self._connection.docmd("QUIT")
        self._connection.close()

    # The steps, in their order.

    def _connect(self) -> None:
        self.address, self.certificates = None, ()
        self.address = connect(
            self._connection,
            self.host,
            self._settings.port,
            resolver=self._options.resolver,
            allow_loopback=self._options.allow_loopback,
            seconds=self.timeouts.connect,
        )

    def _greeting(self) -> None:
        connection = self._connection
        connection.step = Step.GREETING
        # A time of its own: a busy server accepts the connection and greets later (RFC 5321, section 4.5.3.2.1).
        with translate_errors(Step.GREETING), self.deadline.within(self.timeouts.greeting):
            reply = connection.expect(Step.GREETING, (220,), *connection.getreply())
        connection.report(Step.GREETING, reply)

    def _ehlo(self, where: str = "") -> None:
        connection = self._connection
        connection.step = Step.EHLO
        with translate_errors(Step.EHLO):
            # RFC 5321, section 4.1.4: a client without a name of its own sends its address as a literal.
            name = self._options.helo_name or address_literal(self.local_address)
            code, reply = connection.ehlo(name)
            # RFC 5321, section 3.2: a server that knows no EHLO takes mail after HELO, but neither TLS nor a login.
            needs_ehlo = self._settings.connection != "none" or self._settings.sign_in != "none"
            if code not in NO_EHLO or needs_ehlo or connection.helo(name)[0] != 250:
                connection.expect(Step.EHLO, (250,), code, reply)
        connection.report(Step.EHLO, where + (connection.offered or "nothing is offered"))

    def _starttls(self) -> None:
        connection = self._connection
        connection.step = Step.TLS
        with translate_errors(Step.TLS):
            if not connection.has_extn("starttls"):
                raise SessionError(
                    Step.TLS,
                    SmtpProblem.NO_STARTTLS,
                    Message(
                        "the server does not offer STARTTLS; it offers {offered}",
                        offered=connection.offered or "none",
                    ),
                )
            connection.expect(Step.TLS, (220,), *connection.docmd("STARTTLS"))
            # What came before TLS was not protected by it: commands that an attacker put in would be read inside it
            # (CVE-2011-0411).
            if connection.pending:
                raise SessionError(
                    Step.TLS,
                    SmtpProblem.BYTES_BEFORE_TLS,
                    "the server sent more before TLS began",
                )
        self._start_tls(SmtpProblem.NO_TLS_AGREED)

    def _start_tls(self, problem: SmtpProblem) -> None:
        context = trust.context(self._settings, self._options.context)
        with translate_errors(Step.TLS, problem):
            sock = self._connection.wrap(context, self.host)
        try:
            with translate_errors(Step.TLS, problem), self.deadline.within(HANDSHAKE_SECONDS):
                sock.do_handshake()
        except SessionError as error:
            # TLS itself was agreed: a test shows this step as passed, and the next one as failed.
            if error.step == Step.CERTIFICATE:
                self._connection.report(Step.TLS, _protection(sock))
            raise
        self._connection.report(Step.TLS, _protection(sock))
        # Before the first byte of the session is read or sent in TLS.
        found, self.certificates = trust.accept(self._settings, self.host, sock, self._options.last_seen)
        self._connection.report(Step.CERTIFICATE, found)

    def _login(self) -> None:
        connection, settings = self._connection, self._settings
        connection.step = Step.LOGIN
        with translate_errors(Step.LOGIN):
            # By the connected address: a name such as "localhost" may lead elsewhere.
            if settings.connection == "none" and not is_loopback(connection.sock.getpeername()[0]):
                raise SessionError(Step.LOGIN, SmtpProblem.NO_TLS, "a login is never sent in the clear")
            mechanism = auth.choose_mechanism(connection, settings.sign_in)
            # Only a reply that judged the password refuses the login; anything else is a failed session that may be opened
            # again.
            code, reply = auth.log_in(connection, mechanism, settings, self._password)
            text = connection.format_reply(code, reply)
            if code != 235 and rule(Command.AUTH, code, text).scope == Scope.LOGIN:
                raise SessionError(Step.LOGIN, SmtpProblem.LOGIN_REFUSED, text, code)
            connection.expect(Step.LOGIN, (235,), code, reply)
        connection.report(Step.LOGIN, mechanism)


def _protection(sock: TlsSocket) -> str:
    # A handshake that failed on the certificate has a cipher, but no version of its own.
    name, version, _ = sock.cipher() or ("no cipher", "TLS", 0)
    return f"{sock.version() or version}, {name}"
