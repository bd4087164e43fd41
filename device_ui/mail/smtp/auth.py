"""The login (RFC 4954): one mechanism, tried once, since retries lock accounts."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable

from device_ui.errors import Message
from device_ui.mail.smtp.connection import Connection
from device_ui.mail.smtp.outcome import SessionError, SmtpProblem, Step
from device_ui.mail.smtp.redaction import sanitize_reply

# RFC 4954, section 4: when "AUTH PLAIN" with the login would make a line longer than 512 bytes with its end, the login
# follows a challenge.
AUTH_LINE_MAXIMUM = 512 - len("AUTH PLAIN \r\n")

Reply = tuple[int, bytes]


def choose_mechanism(connection: Connection) -> str:
    """Return the first name of `MECHANISMS` that the server offers. Raises `SessionError` when it offers none.

    Many servers offer no login before TLS (RFC 4954, section 4), and some only mechanisms that this client does not know.
    """
    offered = connection.esmtp_features.get("auth", "").upper().split()
    mechanism = next((each for each in MECHANISMS if each in offered), None)
    if mechanism is None:
        needs_tls = connection.has_extn("starttls") and not isinstance(connection.sock, ssl.SSLSocket)
        # Three problems, since three different people can solve them: see `advice`.
        other = SmtpProblem.NO_USABLE_LOGIN if offered else SmtpProblem.NO_LOGIN_OFFERED
        problem = SmtpProblem.NO_LOGIN_WITHOUT_TLS if needs_tls else other
        names = sanitize_reply(" ".join(offered) or "none")
        raise SessionError(Step.LOGIN, problem, Message("the server offers {offered}", offered=names))
    return mechanism


def log_in(connection: Connection, mechanism: str, account: str, password: str) -> Reply:
    """Make one attempt; return the code and the text of the server's last reply."""
    return MECHANISMS[mechanism](connection, account, password)


def _plain(connection: Connection, account: str, password: str) -> Reply:
    # RFC 4616, section 2: authorization identity (none), login, password; UTF-8.
    blob = _base64(f"\0{account}\0{password}")
    if len(blob) <= AUTH_LINE_MAXIMUM:
        return connection.docmd("AUTH", f"PLAIN {blob}")
    return _respond(connection, "PLAIN", blob)


def _login(connection: Connection, account: str, password: str) -> Reply:
    return _respond(connection, "LOGIN", _base64(account), _base64(password))


def _respond(connection: Connection, mechanism: str, *responses: str) -> Reply:
    code, reply = connection.docmd("AUTH", mechanism)
    for response in responses:
        # 334 asks for the next response (RFC 4954, section 4). Any other code is the verdict, and no further secret is sent.
        if code != 334:
            break
        code, reply = connection.docmd(response)
    return code, reply


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# In the order of preference.
MECHANISMS: dict[str, Callable[[Connection, str, str], Reply]] = {
    # PLAIN is the standard and takes one round trip; LOGIN never became one (draft-murchison-sasl-login), and is all that
    # some servers offer. Mechanisms that hash the password protect nothing more inside TLS (RFC 6331).
    "PLAIN": _plain,
    "LOGIN": _login,
}
