"""One SMTP session, step by step (RFC 5321); a verdict comes back. It knows no retries and no ledger.

What cannot be told apart is *try later*: only a 5xx to RCPT or DATA refuses a mail. A 5xx to AUTH refuses the login,
and whoever called must not try again until the settings change, since retries lock accounts. One session tries one
mechanism once. No AUTH goes out before TLS with a verified certificate and name, but to a loopback address.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import itertools
import operator
import queue
import re
import smtplib
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from device_ui.errors import DeviceUIError
from device_ui.mail.wire import Connection, Deadline, Endless
from device_ui.settings.smtp import SmtpSettings

DELIVERED, TRY_LATER, REFUSED = "delivered", "try later", "refused"
# What a session goes through, in order; a verdict names the step it was reached at.
STEPS = (
    "name",
    "address",
    "connect",
    "greeting",
    "ehlo",
    "tls",
    "certificate",
    "login",
    "sender",
    "recipient",
    "content",
)
# Seconds: for the whole attempt, for one address to answer (the next may be alive), and for a polite QUIT.
ATTEMPT_SECONDS, CONNECT_SECONDS, QUIT_SECONDS = 60.0, 10.0, 2.0
# RFC 4954, 4: a login that makes the line of "AUTH PLAIN" longer than 512 bytes with its end follows a challenge.
AUTH_LINE_MAXIMUM = 512 - len("AUTH PLAIN \r\n")
REPLY_MAXIMUM = 500
# A piece this long of a secret, in any of its spellings, is struck out of what a server says.
SECRET_PIECE = 8
STRUCK_OUT = "[…]"
MECHANISMS = ("PLAIN", "LOGIN")
# openssl/x509_vfy.h: X509_V_ERR_CERT_NOT_YET_VALID, …_CERT_HAS_EXPIRED, …_HOSTNAME_MISMATCH, …_IP_ADDRESS_MISMATCH.
CERTIFICATE_PROBLEMS = {9: "not yet valid", 10: "expired", 62: "another name", 64: "another name"}
# Where clouds keep what is nobody's business, beside 169.254.169.254, which is link-local: AWS and Google by IPv6,
# Alibaba, Oracle, Azure.
METADATA = frozenset(
    ipaddress.ip_address(each)
    for each in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")
)
# Reserved addresses (RFC 5737 would be in use on somebody's desk): no device has one.
NOBODYS = {socket.AF_INET: "240.0.0.1", socket.AF_INET6: "100::1"}

AddressInfo = tuple[Any, ...]
Resolver = Callable[[str, int], list[AddressInfo]]


@dataclass(frozen=True)
class Outcome:
    """What became of a mail for one recipient: `verdict`, the `step` that decided, the server's `reply`."""

    verdict: str
    step: str
    reply: str = ""


class Stopped(DeviceUIError):
    """A session that came to no delivery: `step`, `problem` (a word of the table below), the server's `reply`."""

    def __init__(self, step: str, problem: str, reply: str = "") -> None:
        super().__init__(f"{step}: {problem}" + (f": {reply}" if reply else ""))
        self.step, self.problem, self.reply = step, problem, reply

    @property
    def login_refused(self) -> bool:
        """Whether the server turned the login down: the one problem that must not be tried again by itself."""
        return self.problem == "login refused"


class Courier:
    """A session with the mail server of `settings`. `open` it, `deliver` mails, `close` it."""

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
    ) -> None:
        self._settings, self._password = settings, password
        self._context, self._helo_name, self._allow_loopback = context, helo_name, allow_loopback
        self._resolver = resolver or look_up
        self._attempt_seconds, self._connect_seconds = attempt_seconds, connect_seconds
        self._deadline = Deadline(attempt_seconds)
        self._smtp: Connection | None = None
        self._host = settings.host.removeprefix("[").removesuffix("]")

    @property
    def local_address(self) -> str:
        """The device's own address in this session, ``""`` while there is none."""
        return str(self._smtp.sock.getsockname()[0]) if self._smtp else ""

    def open(self) -> None:
        """Walk from the name to the login. Raises `Stopped`."""
        self._deadline.restart(self._attempt_seconds)
        try:
            self._smtp = Connection(self._connect(), self._deadline)
            if self._settings.connection == "tls":
                self._start_tls()
            self._greeting()
            self._ehlo()
            if self._settings.connection == "starttls":
                self._starttls()
                self._ehlo()
            if self._settings.sign_in != "none":
                self._login()
        except BaseException:
            self._drop()
            raise

    def deliver(self, recipients: Sequence[str], message: bytes) -> dict[str, Outcome]:
        """One mail in one transaction; an outcome for every recipient. The session may be over afterwards."""
        self._deadline.restart(self._attempt_seconds)
        if self._smtp:
            self._smtp.count_anew()
        outcomes: dict[str, Outcome] = {}
        try:
            self._send(recipients, message, outcomes)
        except Stopped as stopped:
            reply = stopped.reply or stopped.problem
            for recipient in recipients:
                outcomes.setdefault(recipient, Outcome(TRY_LATER, stopped.step, reply))
            self._drop()
        return outcomes

    @property
    def is_open(self) -> bool:
        """Whether the session can take another mail."""
        return self._smtp is not None

    def close(self) -> None:
        """Say QUIT and go; a server that does not answer is left alone."""
        if self._smtp:
            self._deadline.restart(min(QUIT_SECONDS, self._attempt_seconds))
            with contextlib.suppress(OSError, smtplib.SMTPException):
                self._smtp.docmd("QUIT")
        self._drop()

    # The steps, in their order.

    def _connect(self) -> socket.socket:
        with self._at("name"):
            addresses = self._addresses()
        last = Stopped("address", "not allowed", "the mail server's name leads to this device itself")
        for family, kind, protocol, _, address in addresses:
            if not self._allowed(address[0]):
                continue
            try:
                with self._at("connect"):
                    return self._connected(family, kind, protocol, address)
            except Stopped as stopped:
                last = stopped
        raise last

    def _addresses(self) -> list[AddressInfo]:
        answers: queue.SimpleQueue[list[AddressInfo] | Exception] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put(self._resolver(self._host, self._settings.port))
            except (OSError, UnicodeError, ValueError) as error:
                answers.put(error)

        # getaddrinfo(3) has no time-out of its own; the thread is left behind when the resolver hangs.
        threading.Thread(target=ask, daemon=True, name="name look-up").start()
        try:
            answer = answers.get(timeout=self._deadline.left(self._connect_seconds * 2))
        except queue.Empty:
            raise Stopped("name", "silent", "the name server does not answer") from None
        if isinstance(answer, Exception):
            # EAI_AGAIN: nobody could be asked, as at every boot before the network is there.
            problem = "silent" if getattr(answer, "errno", None) == socket.EAI_AGAIN else "unknown name"
            raise Stopped("name", problem, str(answer.args[-1] if answer.args else answer))
        return answer

    def _allowed(self, address: str) -> bool:
        return self._allow_loopback or not is_own(address)

    def _connected(self, family: int, kind: int, protocol: int, address: tuple[Any, ...]) -> socket.socket:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(self._deadline.left(self._connect_seconds))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # The connected address decides, not the name.
            if not self._allow_loopback and is_here(sock):
                raise Stopped("address", "not allowed", "the mail server's address is this device itself")
            return sock
        except BaseException:
            sock.close()
            raise

    def _greeting(self) -> None:
        with self._at("greeting"):
            self._expect("greeting", (220,), *self._session.getreply())

    def _ehlo(self) -> None:
        with self._at("ehlo"):
            self._expect("ehlo", (250,), *self._session.ehlo(self._helo_name or address_literal(self.local_address)))

    def _starttls(self) -> None:
        with self._at("tls"):
            if not self._session.has_extn("starttls"):
                raise Stopped("tls", "no STARTTLS", "the server does not offer STARTTLS")
            self._expect("tls", (220,), *self._session.docmd("STARTTLS"))
            if self._session.pending:
                raise Stopped("tls", "bytes before TLS", "the server sent more before TLS began")
        self._start_tls("no TLS agreed")

    def _start_tls(self, problem: str = "no TLS spoken") -> None:
        with self._at("tls", problem):
            smtp = self._session
            smtp.sock.settimeout(self._deadline.left())
            smtp.use(self._context.wrap_socket(smtp.sock, server_hostname=self._host.rstrip(".")))

    def _login(self) -> None:
        with self._at("login"):
            if self._settings.connection == "none" and not is_loopback(self._session.sock.getpeername()[0]):
                raise Stopped("login", "no TLS", "a login is never sent in the clear")
            offered = self._session.esmtp_features.get("auth", "").upper().split()
            mechanism = next((each for each in MECHANISMS if each in offered), None)
            if mechanism is None:
                raise Stopped("login", "no login offered", f"the server offers {' '.join(offered) or 'none'}")
            code, reply = self._auth_plain() if mechanism == "PLAIN" else self._auth_login()
            if 500 <= code < 600:
                raise Stopped("login", "login refused", self._told(code, reply))
            self._expect("login", (235,), code, reply)

    def _auth_plain(self) -> tuple[int, bytes]:
        # RFC 4616: authorization identity (none), login, password; UTF-8.
        blob = base64.b64encode(f"\0{self._settings.account}\0{self._password}".encode()).decode()
        if len(blob) <= AUTH_LINE_MAXIMUM:
            return self._session.docmd("AUTH", f"PLAIN {blob}")
        return self._answers("PLAIN", blob)

    def _auth_login(self) -> tuple[int, bytes]:
        parts = (self._settings.account, self._password)
        return self._answers("LOGIN", *(base64.b64encode(part.encode()).decode() for part in parts))

    def _answers(self, mechanism: str, *responses: str) -> tuple[int, bytes]:
        code, reply = self._session.docmd("AUTH", mechanism)
        for response in responses:
            if code != 334:
                break
            code, reply = self._session.docmd(response)
        return code, reply

    def _send(self, recipients: Sequence[str], message: bytes, outcomes: dict[str, Outcome]) -> None:
        with self._at("sender"):
            options = [f"SIZE={len(message)}"] if self._session.has_extn("size") else []
            self._expect("sender", (250,), *self._session.mail(self._settings.mail_from, options))
        accepted = [recipient for recipient in recipients if self._recipient(recipient, outcomes)]
        if not accepted:
            with self._at("recipient"):
                self._expect("recipient", (250,), *self._session.rset())
            return
        with self._at("content"):
            code, reply, good = self._content(message)
            outcome = Outcome(_verdict(code, good), "content", self._told(code, reply))
            outcomes.update(dict.fromkeys(accepted, outcome))
            if code == 421:
                raise Stopped("content", "closed", outcome.reply)
            if outcome.verdict != DELIVERED:
                self._expect("content", (250,), *self._session.rset())

    def _recipient(self, recipient: str, outcomes: dict[str, Outcome]) -> bool:
        with self._at("recipient"):
            code, reply = self._session.rcpt(recipient)
            if code == 421:
                raise Stopped("recipient", "closed", self._told(code, reply))
            if code in (250, 251):
                return True
            outcomes[recipient] = Outcome(_verdict(code, ()), "recipient", self._told(code, reply))
            return False

    def _content(self, message: bytes) -> tuple[int, bytes, tuple[int, ...]]:
        """The answer, and the codes that would mean "delivered": none where the content was never sent."""
        try:
            return *self._session.data(message), (250,)
        except smtplib.SMTPDataError as error:  # an answer to DATA itself other than 354, a 250 perhaps
            reply = error.smtp_error
            return error.smtp_code, reply if isinstance(reply, bytes) else reply.encode(), ()

    # What every step needs.

    @property
    def _session(self) -> Connection:
        if self._smtp is None:
            raise Stopped("connect", "closed", "the session is over")
        return self._smtp

    @contextlib.contextmanager
    def _at(self, step: str, tls_problem: str = "no TLS spoken") -> Iterator[None]:
        """Turn whatever goes wrong into the name of the step and a word for the problem."""
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            problem = CERTIFICATE_PROBLEMS.get(error.verify_code, "unknown authority")
            raise Stopped("certificate", problem, error.verify_message) from error
        except ssl.SSLError as error:
            raise Stopped(step, tls_problem, error.reason or str(error)) from error
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise Stopped(step, *_problem(error)) from error

    def _expect(self, step: str, codes: tuple[int, ...], code: int, reply: bytes) -> None:
        if code not in codes:
            raise Stopped(step, "answer", self._told(code, reply))

    def _told(self, code: int, reply: bytes) -> str:
        """The server's answer on one line, with nothing secret in it."""
        # Struck out first: a password may hold a character that is not printable.
        text = strike_out(f"{code} {reply.decode('utf-8', 'replace')}", self._secrets())
        return "".join(each if each.isprintable() else " " for each in text)[:REPLY_MAXIMUM]

    def _secrets(self) -> list[str]:
        if self._settings.sign_in == "none":
            return []
        raw = self._password.encode()
        blob = base64.b64encode(f"\0{self._settings.account}\0{self._password}".encode()).decode()
        encoded = base64.b64encode(raw).decode()
        return [self._password, encoded, blob, raw.hex(), urllib.parse.quote(self._password)]

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


def look_up(host: str, port: int) -> list[AddressInfo]:
    """Every address of a host. Raises OSError (socket.gaierror) or UnicodeError when it has none."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def address_literal(address: str) -> str:
    """What EHLO says when the device has no name of its own (RFC 5321, 4.1.3)."""
    address = address.partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def is_loopback(address: str) -> bool:
    """Whether an address as a socket gives it is a loopback one, IPv4 inside IPv6 included."""
    return _parsed(address).is_loopback


def is_own(address: str) -> bool:
    """Whether this is no place for a mail server: loopback, link-local (cloud metadata), unspecified, multicast."""
    parsed = _parsed(address)
    never = parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified or parsed.is_multicast
    return never or parsed in METADATA


def is_here(sock: socket.socket) -> bool:
    """Whether the peer of a connected socket is this very device, by whichever of its addresses."""
    peer = sock.getpeername()
    if is_own(peer[0]) or peer[0] == sock.getsockname()[0]:
        return True
    # The kernel may choose another of our addresses for our end, but binds a socket to ours alone, unless it was
    # told to bind to any (ip_nonlocal_bind), and then this tells nothing.
    return _can_bind(sock.family, peer) and not _can_bind(sock.family, (NOBODYS[sock.family], *peer[1:]))


def _can_bind(family: int, address: tuple[Any, ...]) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address[0], 0, *address[2:]))
        except OSError:
            return False
    return True


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return getattr(parsed, "ipv4_mapped", None) or parsed


def strike_out(text: str, secrets: Sequence[str]) -> str:
    """`text` without any piece of a secret that is `SECRET_PIECE` characters long (or the whole of a shorter one)."""
    pieces = {
        secret[start : start + SECRET_PIECE]
        for secret in secrets
        for start in range(max(1, len(secret) - SECRET_PIECE + 1))
        if secret
    }
    struck = [False] * len(text)
    for piece in pieces:
        for match in re.finditer(f"(?={re.escape(piece)})", text, re.IGNORECASE):
            struck[match.start() : match.start() + len(piece)] = [True] * len(piece)
    runs = itertools.groupby(zip(struck, text, strict=True), operator.itemgetter(0))
    return "".join(STRUCK_OUT if hit else "".join(character for _, character in run) for hit, run in runs)


def _verdict(code: int, good: tuple[int, ...]) -> str:
    if code in good:
        return DELIVERED
    return REFUSED if 500 <= code < 600 else TRY_LATER


def _problem(error: Exception) -> tuple[str, str]:
    cause = error.__context__ if isinstance(error, smtplib.SMTPServerDisconnected) else error
    if isinstance(cause, Endless):
        return "endless", str(cause)
    if isinstance(cause, TimeoutError):
        return "silent", "the server does not answer in time"
    if isinstance(cause, ConnectionRefusedError):
        return "refused", "nothing listens at this port"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "closed", "the server closed the connection"
    return "broken", getattr(cause, "strerror", None) or str(cause)
