"""One SMTP session, step by step to the login (RFC 5321), then mail after mail; it knows no retries and no ledger.

A 5xx to AUTH refuses the login, and whoever called must not try again until the settings change, since retries lock
accounts. One session tries one mechanism once. No AUTH goes out before TLS with a verified certificate and name, but to
a loopback address.

An attempt is the opening with the first mail, or a later mail; each has one deadline, whatever the server does. Only
who has the whole mail may take longer to say what becomes of it.
"""

from __future__ import annotations

import contextlib
import math
import smtplib
import ssl
from collections.abc import Callable, Sequence
from functools import partial

from device_ui.errors import Message
from device_ui.mail.smtp import auth
from device_ui.mail.smtp.address_policy import AddressInfo, Resolver, address_literal, is_loopback, look_up
from device_ui.mail.smtp.connect import Dial
from device_ui.mail.smtp.connection import Connection, Deadline
from device_ui.mail.smtp.outcome import Outcome, SessionError, at
from device_ui.mail.smtp.redaction import pieces, spellings
from device_ui.mail.smtp.session import Session, Watch, nothing
from device_ui.mail.smtp.transaction import Transaction
from device_ui.settings.fields import SmtpSettings

# Seconds: for the whole attempt, for one address to answer (the next may be alive), and for a polite QUIT.
ATTEMPT_SECONDS, CONNECT_SECONDS, QUIT_SECONDS = 60.0, 10.0, 2.0
# RFC 5321, 4.5.3.2.6: who hangs up on a server that is slow to take a mail may give it the same one again and again.
VERDICT_SECONDS = 600.0
# A long digest has more time: bytes a second of the slowest line, and how many times an attempt that is at most.
SLOWEST, LONGEST = 2000, 5


class SmtpClient:
    """A session with the mail server of `settings`. `open` it, `deliver` mails, `close` it.

    `watch` hears of each step as it is passed: the steps of `verdict.STEPS`, but ``ehlo`` twice where TLS begins
    between, ``recipient`` for each that is taken, and no step that the settings leave out. `greeting_seconds` is the
    most that a server may take for its first line; `verdict_seconds`, where given, what it may take for its word about
    a mail that it has whole, whatever is left of the attempt. `halting` are servers, by host and port, that say
    PIPELINING and did not keep it; the courier adds to them, and gives them one command at a time. For a closer look
    after a failure: `host` without brackets, the address that the last `open` `reached`, and the attempt's `deadline`.
    """

    def __init__(
        self,
        settings: SmtpSettings,
        password: str,
        *,
        context: ssl.SSLContext,
        helo_name: str = "",
        allow_loopback: bool = False,
        resolver: Resolver | None = None,
        attempt_seconds: float = ATTEMPT_SECONDS,
        connect_seconds: float = CONNECT_SECONDS,
        greeting_seconds: float = math.inf,
        verdict_seconds: float = 0.0,
        watch: Watch = nothing,
        halting: set[tuple[str, int]] | None = None,
    ) -> None:
        self._halting = set() if halting is None else halting
        self._settings, self._password = settings, password
        self._context, self._helo_name = context, helo_name
        self._attempt_seconds, self._greeting_seconds = attempt_seconds, greeting_seconds
        self._verdict_seconds = verdict_seconds
        self.deadline = Deadline(attempt_seconds)
        self._has_delivered = False
        secrets = pieces(spellings(settings.account, password) if settings.sign_in != "none" else ())
        self._session = Session(secrets, watch)
        self.reached: AddressInfo | None = None
        self.host = settings.host.removeprefix("[").removesuffix("]")
        self._dial = Dial(
            self.host,
            settings.port,
            resolver or look_up,
            allow_loopback,
            self.deadline,
            connect_seconds,
            self._session.passed,
        )

    @property
    def local_address(self) -> str:
        """The device's own address in this session, ``""`` while there is none."""
        return str(self._session.connection.sock.getsockname()[0]) if self._session.is_open else ""

    @property
    def is_open(self) -> bool:
        """Whether the session can take another mail."""
        return self._session.is_open

    def open(self) -> None:
        """Walk from the name to the login. Raises `SessionError`."""
        self.deadline.restart(self._attempt_seconds)
        self._has_delivered = False
        try:
            self._connect()
            if self._settings.connection == "tls":
                self._start_tls("no TLS spoken")
            self._greeting()
            self._ehlo()
            if self._settings.connection == "starttls":
                self._starttls()
                self._ehlo("in TLS: ")
            if self._settings.sign_in != "none":
                self._login()
        except BaseException:
            self._session.drop()
            raise

    def deliver(
        self,
        recipients: Sequence[str],
        message: bytes,
        *,
        before_content: Callable[[], None] = nothing,
        meanwhile: Callable[[], None] = nothing,
        waiting: Callable[[], None] = nothing,
    ) -> dict[str, Outcome]:
        """One mail in one transaction; an outcome for every recipient. The session may be over afterwards.

        `before_content` is called once before any of the content goes out, if it can while the server works on the
        commands before; what it raises ends the session. `meanwhile` is called when all is sent and the server's word
        is still to come, `waiting` every few seconds until it comes or there is an end of it (`hurry`).
        """
        if self._has_delivered:
            self.deadline.restart(self._attempt_seconds)
            if self._session.is_open:
                self._session.connection.count_anew()
        self._has_delivered = True
        self.deadline.extend(min(len(message) / SLOWEST, LONGEST * self._attempt_seconds))

        def sent() -> None:
            if self._verdict_seconds:
                self.deadline.restart(self._verdict_seconds)
            meanwhile()

        answered = partial(self.deadline.shorten, self._attempt_seconds)
        transaction = Transaction(self._session, self._settings, recipients, message, self._halting)
        return transaction.run(before_content, sent, waiting, answered)

    def hurry(self) -> None:
        """Wait no longer for what the server says."""
        self.deadline.shorten(0)

    def close(self) -> None:
        """Say QUIT and go, within what is left of the attempt; a server that does not answer is left alone."""
        if self._session.is_open:
            self.deadline.shorten(QUIT_SECONDS)
            with contextlib.suppress(OSError, smtplib.SMTPException):
                self._session.connection.docmd("QUIT")
        self._session.drop()

    # The steps, in their order.

    def _connect(self) -> None:
        sock, self.reached, told = self._dial.connect()
        self._session.use(Connection(sock, self.deadline))
        self._session.passed("connect", told)

    def _greeting(self) -> None:
        with at("greeting"), self.deadline.within(self._greeting_seconds):
            told = self._session.expect("greeting", (220,), *self._session.connection.getreply())
        self._session.passed("greeting", told)

    def _ehlo(self, where: str = "") -> None:
        with at("ehlo"):
            name = self._helo_name or address_literal(self.local_address)
            connection = self._session.connection
            self._session.expect("ehlo", (250,), *connection.ehlo(name))
        offered = [" ".join([name.upper(), *value.split()]) for name, value in connection.esmtp_features.items()]
        self._session.passed("ehlo", where + (", ".join(offered) or "nothing is offered"))

    def _starttls(self) -> None:
        with at("tls"):
            connection = self._session.connection
            if not connection.has_extn("starttls"):
                raise SessionError("tls", "no STARTTLS", "the server does not offer STARTTLS")
            self._session.expect("tls", (220,), *connection.docmd("STARTTLS"))
            if connection.pending:
                raise SessionError("tls", "bytes before TLS", "the server sent more before TLS began")
        self._start_tls("no TLS agreed")

    def _start_tls(self, problem: str) -> None:
        with at("tls", problem):
            sock = self._session.connection.wrap(self._context, self.host)
        try:
            with at("tls", problem):
                sock.do_handshake()
        except SessionError as stopped:
            if stopped.step == "certificate":
                self._session.passed("tls", _protection(sock))
            raise
        self._session.passed("tls", _protection(sock))
        self._session.passed("certificate", Message("verified for {host}", host=self.host))

    def _login(self) -> None:
        with at("login"):
            connection = self._session.connection
            if self._settings.connection == "none" and not is_loopback(connection.sock.getpeername()[0]):
                raise SessionError("login", "no TLS", "a login is never sent in the clear")
            mechanism = auth.choose_mechanism(connection)
            code, reply = auth.log_in(connection, mechanism, self._settings.account, self._password)
            if 500 <= code < 600:
                raise SessionError("login", "login refused", self._session.told(code, reply))
            self._session.expect("login", (235,), code, reply)
        self._session.passed("login", mechanism)


def _protection(sock: ssl.SSLSocket) -> str:
    # A handshake that failed on the certificate has a cipher, but no version of its own.
    name, version, _ = sock.cipher() or ("no cipher", "TLS", 0)
    return f"{sock.version() or version}, {name}"
