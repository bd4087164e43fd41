"""What a person can do about a mail that did not go out: the field to change, and to what, in one sentence. Pure.

`ADVICE` is read from the top; the first row whose step, problem and reply code fit is the answer. "" fits everything.
The words of `problem` are those of `verdict.SessionError`, and of `trial` where it looked closer. Where the certificate was
looked at, `CLOSER` has the sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from device_ui.errors import Message, Text
from device_ui.settings.fields import SmtpSettings

if TYPE_CHECKING:
    from device_ui.mail.smtp.probe import Certificate

# In place of a field: the connection security where it was chosen by hand, else the port, which decides it then.
PORT_OR_SECURITY = "port or security"


@dataclass(frozen=True)
class Advice:
    """The form name of the `field` to change (``""``: none of the tab's), and the `sentence` that says to what."""

    field: str
    sentence: Message


# step, problem, start of the server's reply, field, sentence
ADVICE: tuple[tuple[str, str, str, str, str], ...] = (
    ("", "TLS expected", "", PORT_OR_SECURITY, "Port {port} of {host} expects TLS from the first byte: use 465 as SMTP Port with connection security auto, or under Advanced change the connection security to tls."),
    ("name", "silent", "", "host", "The device gets no answer from its name server: check the device's network, or type the mail server's IP address as SMTP Host."),
    ("name", "", "", "host", "Nobody knows the name {host}: check the spelling of SMTP Host, or type the mail server's IP address."),
    ("address", "", "", "host", "{host} is this device itself: type the name or address of the mail server as SMTP Host."),
    ("connect", "refused", "", "port", "Nothing listens at port {port} of {host}: change SMTP Port, usually to 587, or to 465."),
    ("connect", "silent", "", "port", "{host} does not answer at port {port}: check SMTP Host, change SMTP Port (usually to 587 or 465), or ask whether a firewall is between."),
    ("connect", "", "", "host", "The device cannot reach {host}: check SMTP Host and the device's network."),
    ("greeting", "answer", "5", "host", "{host} turns this device away: ask its administrator to allow the device's address, or change SMTP Host."),
    ("greeting", "answer", "4", "", "{host} has no time right now: try again in some minutes."),
    ("greeting", "", "", "port", "Something answers at port {port}, but it is no mail server: change SMTP Port, usually to 587, or to 465."),
    ("ehlo", "", "", "host", "{host} does not take the device's greeting: check SMTP Host, or ask its administrator."),
    ("tls", "no STARTTLS", "", "port", "{host} offers no STARTTLS at port {port}: change SMTP Port to 465 (TLS from the first byte) or to the port that offers it, usually 587."),
    ("tls", "no TLS spoken", "", PORT_OR_SECURITY, "Port {port} of {host} does not speak TLS from the first byte: use 587 with STARTTLS (SMTP Port 587, connection security auto)."),
    ("tls", "bytes before TLS", "", "host", "The server sent data before TLS began, which is an attack or a fault: check SMTP Host, and ask its administrator."),
    ("tls", "", "", "port", "TLS could not begin at port {port}: change SMTP Port to 587 with STARTTLS or to 465, or ask the mail server's administrator."),
    ("certificate", "expired", "", "", "The mail server's certificate has expired, if the device's clock is right (it says {clock}): ask the server's administrator for a new one, or set the clock."),
    ("certificate", "not yet valid", "", "", "The mail server's certificate is not valid yet by the device's clock, which says {clock}: set the device's clock."),
    ("certificate", "another name", "", "host", "The certificate is for another name than {host}: type the name that the certificate has as SMTP Host."),
    ("certificate", "", "", "host", "The device does not know who issued the certificate of {host}: check SMTP Host, or have the maker's device.toml name the authority (mail.ca_file)."),
    ("login", "no login without TLS", "", "security", "The server offers a login only under TLS: under Advanced, change the connection security to auto."),
    ("login", "no login offered", "", "sign_in", "{host} offers no login at port {port}: change SMTP Port to 587 or 465, or under Advanced the sign-in to none if it is a relay."),
    ("login", "no TLS", "", "security", "A login is never sent in the clear: under Advanced, change the connection security to auto."),
    ("login", "login refused", "534", "password", "The provider wants a password made for this device: make an app password there, and under Advanced choose the sign-in provider."),
    ("login", "login refused", "530", "security", "The server wants TLS before a login: under Advanced, change the connection security to auto."),
    ("login", "login refused", "538", "security", "The server wants TLS before a login: under Advanced, change the connection security to auto."),
    ("login", "login refused", "535 5.7.139", "account", "The provider does not allow this way of signing in: have it allow SMTP AUTH for this account, or use another account."),
    ("login", "login refused", "", "password", "The server does not take this login: check SMTP Account Address and type SMTP Account Password again, which with some providers is an app password."),
    ("login", "silent", "", "account", "The server fell silent at the login, as some do when they refuse it: check SMTP Account Address and Password, and that the provider allows this way of signing in (SMTP AUTH)."),
    ("login", "closed", "", "account", "The server hung up at the login, as some do when they refuse it: check SMTP Account Address and Password, and that the provider allows this way of signing in (SMTP AUTH)."),
    ("login", "", "", "", "The server cannot check logins right now: try again in some minutes."),
    ("sender", "answer", "530", "sign_in", "The server wants a login first: under Advanced, change the sign-in to manual or provider."),
    ("sender", "answer", "5", "account", "The server does not let this account send as {mail_from}: check SMTP Account Address, or under Advanced the from address."),
    ("sender", "", "", "", "The server has no time, or the connection broke: nothing is to be changed, and mail that waits is tried again by itself."),
    ("recipient", "answer", "5", "account", "The server does not take mail for this recipient: check the address, or whether this account may send to it."),
    ("recipient", "", "", "", "The server defers this recipient, or the connection broke: nothing is to be changed, and mail that waits is tried again by itself."),
    ("content", "answer", "5", "sender_name", "The server refuses the mail itself: its answer says why; a plainer Sender Name may help, else ask its administrator."),
    ("content", "", "", "", "The server defers the mail, or the connection broke: nothing is to be changed, and mail that waits is tried again by itself."),
)  # fmt: skip
FALLBACK = ("", "The mail did not go out; the server's answer above is all that is known.")

# By the problem of the certificate, when it is known what that says of itself.
CLOSER = {
    "expired": "The mail server's certificate was valid until {ends}, and the device's clock says {clock}: ask the server's administrator for a new one, or set the device's clock if it is wrong.",
    "not yet valid": "The mail server's certificate is valid from {begins} on, and the device's clock says {clock}: set the device's clock.",
    "another name": "The mail server's certificate is for another name than {host}: {names}.",
    "unknown authority": "The device does not know the issuer of the certificate of {host} ({issuer}): check SMTP Host, or have the maker's device.toml name the authority (mail.ca_file).",
}  # fmt: skip


def advise(
    step: str, problem: str, reply: Text, settings: SmtpSettings, clock: str, certificate: Certificate | None = None
) -> Advice:
    """The first row of `ADVICE` that fits; `clock` is what the device's clock says, `certificate` what the server shows."""
    values: dict[str, object] = {
        "host": settings.host,
        "port": settings.port,
        "mail_from": settings.mail_from,
        "clock": clock,
    }
    name, sentence = _row(step, problem, str(reply))
    if certificate:
        sentence = CLOSER.get(problem, sentence)
        values |= _facts(certificate)
    if name == PORT_OR_SECURITY:
        name = "port" if settings.security == "auto" else "security"
    return Advice(name, Message(sentence, **values))


def _row(step: str, problem: str, reply: str) -> tuple[str, str]:
    for row_step, row_problem, row_reply, name, sentence in ADVICE:
        if row_step in ("", step) and row_problem in ("", problem) and reply.startswith(row_reply):
            return name, sentence
    return FALLBACK


def _facts(certificate: Certificate) -> dict[str, Text]:
    return {
        "names": _names(certificate.names),
        "begins": _minute(certificate.begins),
        "ends": _minute(certificate.ends),
        "issuer": certificate.issuer,
    }


def _names(names: Sequence[str]) -> Message:
    listed = ", ".join(names)
    if not names:
        return Message("it has no name at all, so ask the server's administrator for a new one")
    if any(name.startswith("*.") for name in names):
        return Message(
            "it has the names {listed}: type one of them as SMTP Host, with a word in place of *", listed=listed
        )
    if len(names) == 1:
        return Message("it has the name {listed}: type that as SMTP Host", listed=listed)
    return Message("it has the names {listed}: type one of them as SMTP Host", listed=listed)


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M %z}"
