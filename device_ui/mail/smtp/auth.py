"""The login (RFC 4954): one mechanism, tried once, since retries lock accounts."""

from __future__ import annotations

import base64
from collections.abc import Callable

from device_ui.errors import Message
from device_ui.mail.smtp.connection import Connection
from device_ui.mail.smtp.outcome import SessionError, SmtpProblem, Step
from device_ui.mail.smtp.redaction import sanitize_reply, spellings
from device_ui.settings.fields import SmtpSettings

# RFC 4954, section 4: when "AUTH PLAIN" with the login would make a line longer than 512 bytes with its end, the login
# follows a challenge.
AUTH_LINE_MAXIMUM = 512 - len("AUTH PLAIN \r\n")

Reply = tuple[int, bytes]
Mechanism = Callable[[Connection, SmtpSettings, str], Reply]


def choose_mechanism(connection: Connection, sign_in: str) -> str:
    """Return the first mechanism for this `sign_in` that the server offers. Raises `SessionError` when it offers none.

    Many servers offer no login before TLS (RFC 4954, section 4), and some only mechanisms that this client does not know.
    """
    offered = connection.esmtp_features.get("auth", "").upper().split()
    mechanism = next((each for each in _mechanisms(sign_in) if each in offered), None)
    if mechanism is None:
        needs_tls = connection.has_extn("starttls") and not connection.is_encrypted
        # Three problems, since three different people can solve them: see `advice`.
        other = SmtpProblem.NO_USABLE_LOGIN if offered else SmtpProblem.NO_LOGIN_OFFERED
        # A server without tokens is set up for passwords, or listens for submission at another port: that is advice of its own.
        no_login = SmtpProblem.NO_TOKEN_LOGIN_OFFERED if sign_in == "oauth" else other
        problem = SmtpProblem.NO_LOGIN_WITHOUT_TLS if needs_tls else no_login
        names = sanitize_reply(" ".join(offered) or "none")
        raise SessionError(Step.LOGIN, problem, Message("the server offers {offered}", offered=names))
    return mechanism


def log_in(connection: Connection, mechanism: str, settings: SmtpSettings, secret: str) -> Reply:
    """Make one attempt with the password or the access token; return the code and the text of the server's last reply."""
    return _mechanisms(settings.sign_in)[mechanism](connection, settings, secret)


def secrets(settings: SmtpSettings, secret: str) -> list[str]:
    """Return how a server may repeat the secret of a login."""
    if settings.sign_in == "oauth":
        said = _xoauth2_response(settings, secret), _oauthbearer_response(settings, secret)
        return [*spellings(settings.account, secret), *said]
    return spellings(settings.account, secret) if settings.sign_in != "none" else []


def _plain(connection: Connection, settings: SmtpSettings, password: str) -> Reply:
    # RFC 4616, section 2: authorization identity (none), login, password; UTF-8.
    blob = _base64(f"\0{settings.account}\0{password}")
    if len(blob) <= AUTH_LINE_MAXIMUM:
        return connection.docmd("AUTH", f"PLAIN {blob}")
    return _respond(connection, "PLAIN", blob)


def _login(connection: Connection, settings: SmtpSettings, password: str) -> Reply:
    return _respond(connection, "LOGIN", _base64(settings.account), _base64(password))


# A token always follows the 334: many have 2 KiB, and as an initial response Postfix cuts them at 2,048 bytes and calls
# that a refused login. A refusal may be a challenge with the reason as JSON, which wants one more response before the
# verdict; "*" would make it a 501 (RFC 4954, section 4).


def _xoauth2(connection: Connection, settings: SmtpSettings, token: str) -> Reply:
    # developers.google.com/gmail/imap/xoauth2-protocol: an empty response ends the refusal.
    return _respond(connection, "XOAUTH2", _xoauth2_response(settings, token), "")


def _oauthbearer(connection: Connection, settings: SmtpSettings, token: str) -> Reply:
    # RFC 7628, section 3.2.3: one %x01 ends the refusal.
    return _respond(connection, "OAUTHBEARER", _oauthbearer_response(settings, token), _base64("\x01"))


def _xoauth2_response(settings: SmtpSettings, token: str) -> str:
    return _base64(f"user={settings.account}\x01auth=Bearer {token}\x01\x01")


def _oauthbearer_response(settings: SmtpSettings, token: str) -> str:
    # RFC 7628, section 3.1, with the name as RFC 5801, section 4, escapes it.
    name = settings.account.replace("=", "=3D").replace(",", "=2C")
    host = settings.host.removeprefix("[").removesuffix("]")
    return _base64(f"n,a={name},\x01host={host}\x01port={settings.port}\x01auth=Bearer {token}\x01\x01")


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


# In the order of preference. A token is never sent as a password, nor a password as a token.
MECHANISMS: dict[str, Mechanism] = {
    # PLAIN is the standard and takes one round trip; LOGIN never became one (draft-murchison-sasl-login), and is all that
    # some servers offer. Mechanisms that hash the password protect nothing more inside TLS (RFC 6331).
    "PLAIN": _plain,
    "LOGIN": _login,
}
TOKEN_MECHANISMS: dict[str, Mechanism] = {
    # First: each provider that has it serves Thunderbird, which knows no other; Exchange Online offers it alone.
    "XOAUTH2": _xoauth2,
    "OAUTHBEARER": _oauthbearer,
}


def _mechanisms(sign_in: str) -> dict[str, Mechanism]:
    return TOKEN_MECHANISMS if sign_in == "oauth" else MECHANISMS
