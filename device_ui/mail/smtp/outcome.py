"""What became of an attempt: a verdict for each recipient, or the step that it stopped at and a word for why. Pure.

What cannot be told apart is *try later*: only a 5xx to RCPT or DATA refuses a mail.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Container
from dataclasses import dataclass
from functools import partial

from device_ui.errors import DeviceUIError, ErrorConversion, Text
from device_ui.mail.smtp.connection import ReplyTooLong

DELIVERED, TRY_LATER, REFUSED = "delivered", "try later", "refused"
# The problem of a session whose login the server turned down.
LOGIN_REFUSED = "login refused"
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
# openssl/x509_vfy.h: X509_V_ERR_CERT_NOT_YET_VALID, …_CERT_HAS_EXPIRED, …_HOSTNAME_MISMATCH, …_IP_ADDRESS_MISMATCH.
CERTIFICATE_PROBLEMS = {9: "not yet valid", 10: "expired", 62: "another name", 64: "another name"}
# In OpenSSL's reason when the other side does speak TLS, but not with us: an alert, or a version that is too old.
TLS_WAS_SPOKEN = ("ALERT", "UNSUPPORTED_PROTOCOL")


@dataclass(frozen=True)
class Outcome:
    """What became of a mail for one recipient: `verdict`, the `step` that decided, the server's `reply`.

    `problem` is ``answer`` where the server gave one, else a word as in `SessionError`.
    """

    verdict: str
    step: str
    reply: Text = ""
    problem: str = "answer"


class SessionError(DeviceUIError):
    """A session that came to no delivery: `step`, `problem` (one word or two), the server's `reply` or ours for it."""

    def __init__(self, step: str, problem: str, reply: Text = "") -> None:
        super().__init__(f"{step}: {problem}" + (f": {reply}" if reply else ""))
        self.step, self.problem, self.reply = step, problem, reply

    @property
    def login_refused(self) -> bool:
        """Whether the server turned the login down: the one problem that must not be tried again by itself."""
        return self.problem == LOGIN_REFUSED

    @property
    def outcome(self) -> Outcome:
        """What it means for a recipient who had no verdict yet: a later try."""
        return Outcome(TRY_LATER, self.step, self.reply or self.problem, self.problem)


def verdict_of(code: int, good: Container[int]) -> str:
    """The verdict that an answer to RCPT, DATA or the content means; `good` are the codes that mean "delivered"."""
    if code in good:
        return DELIVERED
    return REFUSED if 500 <= code < 600 else TRY_LATER


def at(step: str, tls_problem: str = "no TLS spoken") -> ErrorConversion:
    """Turn whatever goes wrong into `SessionError`: the name of the step and a word for the problem."""
    return ErrorConversion((OSError, smtplib.SMTPException, ValueError), partial(_stopped, step, tls_problem))


def _stopped(step: str, tls_problem: str, error: Exception) -> SessionError:
    if isinstance(error, ssl.SSLCertVerificationError):
        problem = CERTIFICATE_PROBLEMS.get(error.verify_code, "unknown authority")
        return SessionError("certificate", problem, error.verify_message)
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error)
        spoken = any(word in reason for word in TLS_WAS_SPOKEN)
        return SessionError(step, "no TLS agreed" if spoken else tls_problem, reason)
    return SessionError(step, *_problem(error))


def _problem(error: Exception) -> tuple[str, str]:
    cause = error.__context__ if isinstance(error, smtplib.SMTPServerDisconnected) else error
    if isinstance(cause, ReplyTooLong | smtplib.SMTPResponseException):  # smtplib's own word for a line without an end
        return "endless", "the server's answers do not end"
    if isinstance(cause, TimeoutError):
        return "silent", "the server does not answer in time"
    if isinstance(cause, ConnectionRefusedError):
        return "refused", "nothing listens at this port"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "closed", "the server closed the connection"
    return "broken", getattr(cause, "strerror", None) or str(cause)
