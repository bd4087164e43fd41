"""The outcome of an attempt, as data: a verdict for each recipient and what it holds for, the step that decided it, and a
word for the problem. The verdicts are decided in `scope`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from device_ui.errors import DeviceUIError, Text
from device_ui.mail.events import Verdict
from device_ui.mail.smtp.scope import Scope


class Step(StrEnum):
    """The steps of a session, in order. An outcome names the step that decided it.

    Those of an access token (OAuth 2.0), of the sign-in's own server, come before those of the mail server.
    """

    TOKEN_SIGN_IN = "token sign-in"  # what the device has stored; no server was asked, or its answer was not stored
    TOKEN_NAME = "token name"
    TOKEN_ADDRESS = "token address"
    TOKEN_CONNECT = "token connect"
    TOKEN_TLS = "token tls"
    TOKEN_CERTIFICATE = "token certificate"
    TOKEN_ANSWER = "token answer"
    NAME = "name"
    ADDRESS = "address"
    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    TLS = "tls"
    CERTIFICATE = "certificate"
    LOGIN = "login"
    SENDER = "sender"
    RECIPIENT = "recipient"
    CONTENT = "content"


class SmtpProblem(StrEnum):
    """Why a step failed. ``advice`` has a sentence for each."""

    ANSWER = "answer"  # the server's reply says why
    SILENT = "silent"
    CLOSED = "closed"
    BROKEN = "broken"
    ENDLESS = "endless"
    NO_CODE = "no reply code"  # a line that is no SMTP reply
    REFUSED = "refused"  # the TCP connection
    UNKNOWN_NAME = "unknown name"
    NOT_ALLOWED = "not allowed"
    NO_STARTTLS = "no STARTTLS"
    BYTES_BEFORE_TLS = "bytes before TLS"
    NO_TLS_AGREED = "no TLS agreed"
    NO_TLS_SPOKEN = "no TLS spoken"  # plain text where TLS was expected
    TLS_EXPECTED = "TLS expected"
    TLS_TOO_OLD = "TLS too old"
    WEAK_TLS = "weak TLS"
    NAME_NOT_SERVED = "name not served"
    CLIENT_CERTIFICATE = "client certificate wanted"
    TLS_FAULT = "TLS fault"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    OTHER_NAME = "another name"
    UNKNOWN_AUTHORITY = "unknown authority"
    SELF_SIGNED = "self-signed"
    ISSUER_MISSING = "issuer missing"
    WRONG_PURPOSE = "wrong purpose"
    REVOKED = "revoked"
    BAD_CERTIFICATE = "bad certificate"
    KEY_CHANGED = "key changed"  # it is not the one that the settings trust
    BAD_AUTHORITY = "bad authority"  # that of the settings
    NO_TLS = "no TLS"
    NO_LOGIN_OFFERED = "no login offered"
    NO_TOKEN_LOGIN_OFFERED = "no token login offered"
    NO_USABLE_LOGIN = "no usable login"
    NO_LOGIN_WITHOUT_TLS = "no login without TLS"
    LOGIN_REFUSED = "login refused"
    TOO_LARGE = "too large"  # the mail, for this server
    # Of a sign-in by OAuth 2.0.
    TOKEN_REFUSED = "token refused"  # by the mail server, although it is new
    REDIRECTED = "redirected"
    NOT_UNDERSTOOD = "not understood"
    OTHER_ISSUER = "another issuer"
    BUSY = "busy"
    NOT_SIGNED_IN = "not signed in"
    GRANT_ENDED = "grant ended"
    RENEWAL_LOST = "renewal lost"
    CLIENT_REFUSED = "client refused"
    NOT_STORED = "not stored"


@dataclass(frozen=True)
class Outcome:
    """The result of one attempt for one recipient: `verdict`, the `step` that decided, the server's `reply`.

    `scope` is what the answer decided for besides this recipient.
    """

    verdict: Verdict
    step: Step
    reply: Text = ""
    problem: SmtpProblem = SmtpProblem.ANSWER
    scope: Scope = Scope.RECIPIENT


class SessionError(DeviceUIError):
    """A session that failed before any verdict: `step`, `problem`, and `reply`, the server's or our words for it.

    `code` is that of the server's reply, None without one.
    """

    def __init__(self, step: Step, problem: SmtpProblem, reply: Text = "", code: int | None = None) -> None:
        super().__init__(f"{step}: {problem}" + (f": {reply}" if reply else ""))
        self.step, self.problem, self.reply, self.code = step, problem, reply, code
        # Seconds before which a further attempt is in vain.
        self.retry_after = 0.0

    @property
    def login_refused(self) -> bool:
        """Whether the server refused the login: the one problem after which no automatic retry is allowed."""
        return self.problem == SmtpProblem.LOGIN_REFUSED

    @property
    def outcome(self) -> Outcome:
        """The outcome for a recipient without a verdict: a later attempt."""
        # Never refused: a session that failed says nothing about a recipient, and its mail must not be lost.
        scope = Scope.LOGIN if self.login_refused else Scope.SERVER
        return Outcome(Verdict.TRY_LATER, self.step, self.reply or self.problem, self.problem, scope)
