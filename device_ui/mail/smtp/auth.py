"""The login (RFC 4954): one mechanism, tried once, since retries lock accounts."""

from __future__ import annotations

import base64
from collections.abc import Callable

from device_ui.errors import Message
from device_ui.mail.smtp.connection import Connection
from device_ui.mail.smtp.outcome import SessionError
from device_ui.mail.smtp.redaction import quoted

# RFC 4954, 4: a login that makes the line of "AUTH PLAIN" longer than 512 bytes with its end follows a challenge.
AUTH_LINE_MAXIMUM = 512 - len("AUTH PLAIN \r\n")

Answer = tuple[int, bytes]


def choose_mechanism(connection: Connection) -> str:
    """The mechanism to use: a name of `MECHANISMS`. Raises `SessionError` where the server offers none of them.

    Before TLS many servers offer no login (RFC 4954, 4), so that is told apart.
    """
    offered = connection.esmtp_features.get("auth", "").upper().split()
    mechanism = next((each for each in MECHANISMS if each in offered), None)
    if mechanism is None:
        problem = "no login without TLS" if connection.has_extn("starttls") else "no login offered"
        raise SessionError(
            "login", problem, Message("the server offers {offered}", offered=quoted(" ".join(offered) or "none"))
        )
    return mechanism


def log_in(connection: Connection, mechanism: str, account: str, password: str) -> Answer:
    """The server's last answer to the one attempt: its code and its text."""
    return MECHANISMS[mechanism](connection, account, password)


def _plain(connection: Connection, account: str, password: str) -> Answer:
    # RFC 4616: authorization identity (none), login, password; UTF-8.
    blob = _base64(f"\0{account}\0{password}")
    if len(blob) <= AUTH_LINE_MAXIMUM:
        return connection.docmd("AUTH", f"PLAIN {blob}")
    return _respond(connection, "PLAIN", blob)


def _login(connection: Connection, account: str, password: str) -> Answer:
    return _respond(connection, "LOGIN", _base64(account), _base64(password))


def _respond(connection: Connection, mechanism: str, *responses: str) -> Answer:
    code, reply = connection.docmd("AUTH", mechanism)
    for response in responses:
        if code != 334:
            break
        code, reply = connection.docmd(response)
    return code, reply


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# The first that a server offers is used.
MECHANISMS: dict[str, Callable[[Connection, str, str], Answer]] = {"PLAIN": _plain, "LOGIN": _login}
