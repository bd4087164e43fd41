"""One SMTP session, step by step (RFC 5321); a verdict comes back. It knows no retries and no ledger.

What cannot be told apart is *try later*: only a 5xx to RCPT or DATA refuses a mail. A 5xx to AUTH refuses the login,
and whoever called must not try again until the settings change, since retries lock accounts. One session tries one
mechanism once. No AUTH goes out before TLS with a verified certificate and name, but to a loopback address.

An attempt is the opening with the first mail, or a later mail; each has one deadline, whatever the server does. Only who
has the whole mail may take longer to say what becomes of it.
"""

from __future__ import annotations

import contextlib
import math
import smtplib
import ssl
from collections.abc import Callable, Container, Sequence
from functools import partial

from device_ui.mail import login
from device_ui.mail.addresses import AddressInfo, Resolver, address_literal, is_loopback, look_up
from device_ui.mail.dial import Dial
from device_ui.mail.quoting import pieces, quoted, spellings
from device_ui.mail.verdict import DELIVERED, REFUSED, STEPS, TRY_LATER, Outcome, Stopped, at, verdict_of
from device_ui.mail.wire import Connection, Deadline
from device_ui.settings.smtp import SmtpSettings

__all__ = ["DELIVERED", "REFUSED", "STEPS", "TRY_LATER", "Courier", "Outcome", "Stopped", "Watch", "trusted"]

# Seconds: for the whole attempt, for one address to answer (the next may be alive), and for a polite QUIT.
ATTEMPT_SECONDS, CONNECT_SECONDS, QUIT_SECONDS = 60.0, 10.0, 2.0
# RFC 5321, 4.5.3.2.6: who hangs up on a server that is slow to take a mail may give it the same one again and again.
VERDICT_SECONDS = 600.0
# A long digest has more time: bytes a second of the slowest line, and how many times an attempt that is at most.
SLOWEST, LONGEST = 2000, 5
# What a server answers that was given several commands at once and did not take them apart (RFC 5321, 4.2.2).
UNRAVELLED = range(500, 505)
# The first digit says yes (RFC 5321, 4.2.1), be it a 252 to RCPT. After the dot the second one is looked at, too: a yes
# about something else than mail, such as a late 235, answers another command.
YES, YES_TO_MAIL = range(200, 300), range(250, 260)
# Called with the name of a step that was passed and what was found: one printable line with nothing secret in it.
Watch = Callable[[str, str], None]


def nothing(*_: object) -> None:
    """Nobody wants to know, and nothing is to be done."""


class Courier:
    """A session with the mail server of `settings`. `open` it, `deliver` mails, `close` it.

    `watch` hears of each step as it is passed: the steps of `STEPS`, but ``ehlo`` twice where TLS begins between,
    ``recipient`` for each that is taken, and no step that the settings leave out. `greeting_seconds` is the most that
    a server may take for its first line; `verdict_seconds`, where given, what it may take for its word about a mail that it
    has whole, whatever is left of the attempt. `halting` are servers, by host and port, that say PIPELINING and did not keep
    it; the courier adds to them, and gives them one command at a time. For a closer look after a failure: `host` without brackets, the address that
    the last `open` `reached`, and the attempt's `deadline`.
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
        self._context, self._helo_name, self._watch = context, helo_name, watch
        self._attempt_seconds, self._greeting_seconds = attempt_seconds, greeting_seconds
        self._verdict_seconds = verdict_seconds
        self.deadline = Deadline(attempt_seconds)
        self._has_delivered = False
        self._smtp: Connection | None = None
        self.reached: AddressInfo | None = None
        self.host = settings.host.removeprefix("[").removesuffix("]")
        self._dial = Dial(
            self.host,
            settings.port,
            resolver or look_up,
            allow_loopback,
            self.deadline,
            connect_seconds,
            self._passed,
        )
        self._secrets = pieces(spellings(settings.account, password) if settings.sign_in != "none" else ())

    @property
    def local_address(self) -> str:
        """The device's own address in this session, ``""`` while there is none."""
        return str(self._smtp.sock.getsockname()[0]) if self._smtp else ""

    @property
    def is_open(self) -> bool:
        """Whether the session can take another mail."""
        return self._smtp is not None

    def open(self) -> None:
        """Walk from the name to the login. Raises `Stopped`."""
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
            self._drop()
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
            self._begin_anew()
        self._has_delivered = True
        self.deadline.extend(min(len(message) / SLOWEST, LONGEST * self._attempt_seconds))
        outcomes: dict[str, Outcome] = {}
        try:
            self._send(
                recipients, message, outcomes, before_content, partial(self._content, message, meanwhile, waiting)
            )
        except Stopped as stopped:
            if self._is_grouping and stopped.problem != "answer":
                self._halting.add(self._server)
            for recipient in recipients:
                outcomes.setdefault(recipient, stopped.outcome)
            self._drop()
        except BaseException:
            self._drop()
            raise
        return outcomes

    def hurry(self) -> None:
        """Wait no longer for what the server says."""
        self.deadline.shorten(0)

    def close(self) -> None:
        """Say QUIT and go, within what is left of the attempt; a server that does not answer is left alone."""
        if self._smtp:
            self.deadline.shorten(QUIT_SECONDS)
            with contextlib.suppress(OSError, smtplib.SMTPException):
                self._smtp.docmd("QUIT")
        self._drop()

    # The steps, in their order.

    def _connect(self) -> None:
        sock, self.reached, told = self._dial.connect()
        self._smtp = Connection(sock, self.deadline)
        self._passed("connect", told)

    def _greeting(self) -> None:
        with at("greeting"), self.deadline.within(self._greeting_seconds):
            told = self._expect("greeting", (220,), *self._session.getreply())
        self._passed("greeting", told)

    def _ehlo(self, where: str = "") -> None:
        with at("ehlo"):
            name = self._helo_name or address_literal(self.local_address)
            self._expect("ehlo", (250,), *self._session.ehlo(name))
        offered = [" ".join([name.upper(), *value.split()]) for name, value in self._session.esmtp_features.items()]
        self._passed("ehlo", where + (", ".join(offered) or "nothing is offered"))

    def _starttls(self) -> None:
        with at("tls"):
            if not self._session.has_extn("starttls"):
                raise Stopped("tls", "no STARTTLS", "the server does not offer STARTTLS")
            self._expect("tls", (220,), *self._session.docmd("STARTTLS"))
            if self._session.pending:
                raise Stopped("tls", "bytes before TLS", "the server sent more before TLS began")
        self._start_tls("no TLS agreed")

    def _start_tls(self, problem: str) -> None:
        with at("tls", problem):
            sock = self._session.wrap(self._context, self.host)
        try:
            with at("tls", problem):
                sock.do_handshake()
        except Stopped as stopped:
            if stopped.step == "certificate":
                self._passed("tls", _protection(sock))
            raise
        self._passed("tls", _protection(sock))
        self._passed("certificate", f"verified for {self.host}")

    def _login(self) -> None:
        with at("login"):
            if self._settings.connection == "none" and not is_loopback(self._session.sock.getpeername()[0]):
                raise Stopped("login", "no TLS", "a login is never sent in the clear")
            mechanism = login.choose_mechanism(self._session)
            code, reply = login.log_in(self._session, mechanism, self._settings.account, self._password)
            if 500 <= code < 600:
                raise Stopped("login", "login refused", self._told(code, reply))
            self._expect("login", (235,), code, reply)
        self._passed("login", mechanism)

    def _send(
        self,
        recipients: Sequence[str],
        message: bytes,
        outcomes: dict[str, Outcome],
        before_content: Callable[[], None],
        content: Callable[[], tuple[int, bytes, Container[int]]],
    ) -> None:
        if self._is_grouping:
            self._say_ahead(recipients, len(message))
        before_content()
        self._sender(len(message))
        accepted = [recipient for recipient in recipients if self._recipient(recipient, outcomes)]
        if not accepted:
            with at("recipient"):
                self._withdraw()
                self._expect("recipient", (250,), *self._session.rset())
            return
        with at("content"):
            code, reply, good = content()
            self.deadline.shorten(self._attempt_seconds)
            if not good:
                self._expect_whole_group("content", code, reply)
            outcome = Outcome(verdict_of(code, good), "content", self._told(code, reply))
            outcomes.update(dict.fromkeys(accepted, outcome))
            if code == 421:
                raise Stopped("content", "answer", outcome.reply)
            if outcome.verdict != DELIVERED:
                self._expect("content", (250,), *self._session.rset())
        if outcome.verdict == DELIVERED:
            self._passed("content", outcome.reply)

    @property
    def _is_grouping(self) -> bool:
        """Whether commands go out in groups: a mail then takes two round trips and not four."""
        offered = self._smtp is not None and self._smtp.has_extn("pipelining")
        return offered and self._server not in self._halting

    def _say_ahead(self, recipients: Sequence[str], size: int) -> None:
        """Everything up to DATA in one group (RFC 2920); the answers are read by the steps, one by one, as ever."""
        session = self._session
        with at("sender"):
            session.send_ahead(
                partial(self._say_sender, size),
                *(partial(session.rcpt, recipient) for recipient in recipients),
                partial(session.putcmd, "data"),
            )

    def _withdraw(self) -> None:
        """Nobody takes the mail, but DATA may be said already; where it is taken, the mail is empty (RFC 2920, 3.1)."""
        if not self._session.has_sent_ahead:
            return
        code, reply = self._session.docmd("data")
        if code == 354:
            self._session.send(b".\r\n")
            code, reply = self._session.getreply()
            if code in YES:  # whoever gets that empty mail must not get one with each retry
                self._halting.add(self._server)
        if code == 421:
            raise Stopped("recipient", "answer", self._told(code, reply))

    def _say_sender(self, size: int) -> tuple[int, bytes]:
        options = [f"SIZE={size}"] if self._session.has_extn("size") else []
        return self._session.mail(self._settings.mail_from, options)

    def _sender(self, size: int) -> None:
        with at("sender"):
            code, reply = self._say_sender(size)
            self._expect_whole_group("sender", code, reply)
            told = self._expect("sender", YES, code, reply)
        self._passed("sender", told)

    def _recipient(self, recipient: str, outcomes: dict[str, Outcome]) -> bool:
        with at("recipient"):
            code, reply = self._session.rcpt(recipient)
            told = self._told(code, reply)
            self._expect_whole_group("recipient", code, reply)
            if code == 421:
                raise Stopped("recipient", "answer", told)
        if code in YES:
            self._passed("recipient", f"{recipient}: {told}")
            return True
        outcomes[recipient] = Outcome(verdict_of(code, ()), "recipient", told)
        return False

    def _content(
        self, message: bytes, meanwhile: Callable[[], None], waiting: Callable[[], None]
    ) -> tuple[int, bytes, Container[int]]:
        """The answer, and the codes that would mean "delivered": none where the content was never sent."""

        def sent() -> None:
            if self._verdict_seconds:
                self.deadline.restart(self._verdict_seconds)
            meanwhile()

        try:
            return *self._session.content(message, sent, waiting), YES_TO_MAIL
        except smtplib.SMTPDataError as error:  # an answer to DATA itself other than 354, a 250 perhaps
            reply = error.smtp_error
            return error.smtp_code, reply if isinstance(reply, bytes) else reply.encode(), ()

    def _expect_whole_group(self, step: str, code: int, reply: bytes) -> None:
        """That this answers the command that it seems to: of a server that loses parts of a group, no refusal counts."""
        if self._is_grouping and code in UNRAVELLED:
            self._halting.add(self._server)
            raise Stopped(step, "answer", self._told(code, reply))

    # What every step needs.

    @property
    def _server(self) -> tuple[str, int]:
        return (self._settings.host, self._settings.port)

    @property
    def _session(self) -> Connection:
        if self._smtp is None:
            raise Stopped("connect", "closed", "the session is over")
        return self._smtp

    def _expect(self, step: str, codes: Container[int], code: int, reply: bytes) -> str:
        if code not in codes:
            raise Stopped(step, "answer", self._told(code, reply))
        return self._told(code, reply)

    def _told(self, code: int, reply: bytes) -> str:
        """The server's answer on one line, with nothing secret in it."""
        return quoted(f"{code} {reply.decode('utf-8', 'replace')}", self._secrets)

    def _passed(self, step: str, told: str) -> None:
        # Never within `at`: what `watch` raises is the caller's, and no fault of the server's.
        if self._watch is not nothing:
            self._watch(step, quoted(told, self._secrets))

    def _begin_anew(self) -> None:
        self.deadline.restart(self._attempt_seconds)
        if self._smtp:
            self._smtp.count_anew()

    def _drop(self) -> None:
        if self._smtp:
            self._smtp.close()  # smtplib has done so already where the connection was lost
        self._smtp = None


def trusted(ca_files: Sequence[str] = ()) -> ssl.SSLContext:
    """A context that verifies certificate and name against the system's authorities and the maker's own files.

    Raises OSError or ssl.SSLError when a file cannot be read as certificates.
    """
    context = ssl.create_default_context()
    for name in ca_files:
        context.load_verify_locations(name)
    return context


def _protection(sock: ssl.SSLSocket) -> str:
    # A handshake that failed on the certificate has a cipher, but no version of its own.
    name, version, _ = sock.cipher() or ("no cipher", "TLS", 0)
    return f"{sock.version() or version}, {name}"
