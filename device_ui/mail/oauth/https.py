"""One HTTPS request and its answer (RFC 9110), within one deadline from the name to the last byte.

`http.client` times each read, so a server that drips a byte a second holds it for hours, and it reads a body of any length. Here
every wait gets the rest of the exchange, and all bytes of an answer count. No redirect is followed and no proxy is used; the
addresses of this device are refused as those of a mail server are, and certificate and name are verified.
"""

from __future__ import annotations

import email.utils
import http.client
import io
import json
import socket
import ssl
import urllib.parse
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from device_ui import __version__
from device_ui.errors import ErrorConversion, Message, Text
from device_ui.mail.oauth.outcome import TOKEN_STEPS, TokenError
from device_ui.mail.smtp.connect import connect
from device_ui.mail.smtp.connection import PIECE, Deadline, OnStep, translate_errors
from device_ui.mail.smtp.outcome import SessionError, SmtpProblem, Step
from device_ui.mail.smtp.redaction import sanitize_reply

if TYPE_CHECKING:
    from device_ui.mail.smtp.client import ClientOptions

# Seconds for an exchange, and for each address of the server.
EXCHANGE_SECONDS, CONNECT_SECONDS = 30.0, 10.0
# Bytes of an answer with its head. Two tokens of 8 KiB and an ID token need less than half.
ANSWER_MAXIMUM = 64 * 1024
# Seconds of a Retry-After that are believed (RFC 9110, section 10.2.3).
RETRY_AFTER_MAXIMUM = 24 * 3600.0


@dataclass(frozen=True)
class Answer:
    """The `status` of an answer and its JSON object, {} for any other body; `date` (seconds since 1970) and `retry_after`
    (seconds) are 0 where the server gives none. `is_empty`: it has no body at all."""

    status: int
    values: Mapping[str, Any] = field(repr=False)
    date: float
    retry_after: float
    is_empty: bool = False


class Exchange:
    """The requests of one attempt, which share one deadline. `on_step` receives each step that succeeds."""

    def __init__(
        self, options: ClientOptions, on_step: OnStep = lambda _step, _details: None, seconds: float = EXCHANGE_SECONDS
    ) -> None:
        self._options, self._on_step = options, on_step
        self.deadline = Deadline(seconds)
        self.secrets: Collection[str] = ()

    def get(self, url: str) -> Answer:
        """Return the answer to GET. Raises `TokenError`."""
        return self._ask(url, "GET", None, {}, lambda: None)

    def post(
        self, url: str, form: Mapping[str, str], headers: Mapping[str, str], before_send: Callable[[], None]
    ) -> Answer:
        """Return the answer to a form. `before_send` is called once the server is verified. Raises `TokenError`, and what
        `before_send` raises: then nothing was sent."""
        body = urllib.parse.urlencode(form).encode()
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._ask(url, "POST", body, {**kind, **headers}, before_send)

    def report(self, step: Step, details: Text) -> None:
        """Report a step that succeeded, redacted."""
        if isinstance(details, Message):
            values = {name: sanitize_reply(str(value), self.secrets) for name, value in details.values.items()}
            self._on_step(step, Message(details.template, **values))
        else:
            self._on_step(step, sanitize_reply(details, self.secrets))

    def _ask(
        self, url: str, method: str, body: bytes | None, headers: Mapping[str, str], before_send: Callable[[], None]
    ) -> Answer:
        parts = urllib.parse.urlsplit(url)
        try:
            host, port = parts.hostname or "", parts.port or http.client.HTTPS_PORT
        except ValueError:  # no port has such a number
            raise TokenError(Step.TOKEN_NAME, SmtpProblem.UNKNOWN_NAME, parts.netloc) from None
        opening = _Opening(self)
        try:
            self._connect(opening, host, port)
            self._start_tls(opening, host)
            before_send()
            path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
            # No timeout for TLS from here on: each wait is the deadline's.
            with ErrorConversion((OSError, http.client.HTTPException, ValueError), _answer_error):
                return _answer(opening, host, port, (method, path, body, headers))
        finally:
            opening.end()

    def _connect(self, opening: _Opening, host: str, port: int) -> None:
        options = self._options
        try:
            connect(
                opening,
                host,
                port,
                resolver=options.resolver,
                allow_loopback=options.allow_loopback,
                seconds=CONNECT_SECONDS,
            )
        except SessionError as error:
            own = error.problem == SmtpProblem.NOT_ALLOWED
            reply = (
                "the sign-in server's name leads to this device itself, or to an address that no server has"
                if own
                else error.reply
            )
            raise TokenError(TOKEN_STEPS[error.step], error.problem, reply) from None

    def _start_tls(self, opening: _Opening, host: str) -> None:
        try:
            with translate_errors(Step.TLS):
                # As a certificate has it: in ASCII and without the dot of the root (RFC 6066, section 3).
                name = host.rstrip(".").encode("idna").decode()
                sock = self._options.context.wrap_socket(
                    opening.connected, server_hostname=name, do_handshake_on_connect=False
                )
                opening.sock = sock
                sock.settimeout(self.deadline.left())
                sock.do_handshake()
        except SessionError as error:
            raise TokenError(TOKEN_STEPS[error.step], error.problem, error.reply) from None
        self.report(Step.TOKEN_TLS, sock.version() or "TLS")
        self.report(Step.TOKEN_CERTIFICATE, Message("verified for {host}", host=host))


class _Opening:
    """A connection that `smtp.connect.connect` opens, and a socket as `http.client` uses one."""

    sock: socket.socket | ssl.SSLSocket | None = None

    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self.deadline = exchange, exchange.deadline

    def attach(self, sock: socket.socket) -> None:
        self.sock = sock

    def report(self, step: Step, details: Text) -> None:
        self._exchange.report(TOKEN_STEPS[step], details)

    @property
    def connected(self) -> socket.socket:
        if self.sock is None:
            raise ConnectionAbortedError("not connected")
        return self.sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self))

    def sendall(self, raw: bytes) -> None:
        for start in range(0, len(raw), PIECE):
            self.connected.settimeout(self.deadline.left())
            self.connected.sendall(raw[start : start + PIECE])

    def close(self) -> None:
        """Do nothing: http.client closes before it has read a body whose end is that of the connection."""

    def end(self) -> None:
        if self.sock is not None:
            self.sock.close()


class _Reader(io.RawIOBase):
    def __init__(self, opening: _Opening) -> None:
        self._opening, self._left = opening, ANSWER_MAXIMUM

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        sock = self._opening.connected
        sock.settimeout(self._opening.deadline.left())
        count = sock.recv_into(buffer)
        self._left -= count
        if self._left < 0:
            raise AnswerTooLong("the answer does not end")
        return count


class AnswerTooLong(OSError):
    """The answer is longer than `ANSWER_MAXIMUM`."""


class _Https(http.client.HTTPConnection):
    default_port = http.client.HTTPS_PORT


Request = tuple[str, str, bytes | None, Mapping[str, str]]


def _answer(opening: _Opening, host: str, port: int, request: Request) -> Answer:
    connection = _Https(f"[{host}]" if ":" in host else host, port)
    connection.sock = opening  # of which http.client uses `sendall`, `makefile` and `close` alone
    method, path, body, headers = request
    own = {"Accept": "application/json", "Connection": "close", "User-Agent": f"device-ui/{__version__}"}
    connection.request(method, path, body, {**own, **headers})
    response = connection.getresponse()
    raw = response.read()
    return Answer(
        response.status,
        _json_object(raw),
        _seconds(response.getheader("Date", "")),
        _retry_after(response.getheader("Retry-After", ""), response.getheader("Date", "")),
        not raw,
    )


def _json_object(raw: bytes) -> Mapping[str, Any]:
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _seconds(date: str) -> float:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _retry_after(text: str, date: str) -> float:
    if text.isascii() and text.isdigit() and len(text) <= 9:
        seconds = float(text)
    else:
        # A date is compared with the server's own: the clock of the device may be wrong.
        until, now = _seconds(text), _seconds(date)
        seconds = until - now if until and now else 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_MAXIMUM)


def _answer_error(error: Exception) -> TokenError:
    if isinstance(error, AnswerTooLong):
        return TokenError(Step.TOKEN_ANSWER, SmtpProblem.ENDLESS, "the server's answer does not end")
    if isinstance(error, TimeoutError):
        return TokenError(Step.TOKEN_ANSWER, SmtpProblem.SILENT, "the server does not answer in time")
    if isinstance(error, ConnectionError | http.client.IncompleteRead | ssl.SSLEOFError):
        return TokenError(Step.TOKEN_ANSWER, SmtpProblem.CLOSED, "the server closed the connection")
    if isinstance(error, OSError):
        return TokenError(Step.TOKEN_ANSWER, SmtpProblem.BROKEN, error.strerror or "the connection broke")
    return TokenError(Step.TOKEN_ANSWER, SmtpProblem.NOT_UNDERSTOOD, "the answer is no HTTP")
