"""Advice on a mail that did not go out: one sentence, and the field to change. Pure.

`ADVICE` is read from the top; the first row whose step, problem and start of the reply match applies, and ``""`` matches
everything. When the certificate is known, `CLOSER` has the sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from device_ui.errors import Message, Text
from device_ui.mail.smtp.outcome import SmtpProblem, Step
from device_ui.settings.fields import SmtpSettings

if TYPE_CHECKING:
    from device_ui.mail.smtp.probe import Certificate

# In place of a field: the connection security if it was chosen by hand, else the port, which decides it then.
PORT_OR_SECURITY = "port or security"


@dataclass(frozen=True)
class Advice:
    """The form name of the `field` to change (``""``: none of the tab's), and the `sentence` with the change."""

    field: str
    sentence: Message


# step, problem, start of the server's reply, field, sentence
ADVICE: tuple[tuple[str, str, str, str, str], ...] = (
    ("", SmtpProblem.TLS_EXPECTED, "", PORT_OR_SECURITY, "Port {port} of {host} expects TLS from the first byte: use 465 as SMTP Port with connection security auto, or under Advanced change the connection security to tls."),
    (Step.TOKEN_NAME, SmtpProblem.SILENT, "", "oauth_issuer", "The device gets no answer from its name server: check the device's network."),
    (Step.TOKEN_NAME, "", "", "oauth_issuer", "The name of the sign-in server is not known: check the issuer under Advanced."),
    (Step.TOKEN_ADDRESS, "", "", "oauth_issuer", "The sign-in server is this device itself: check the issuer under Advanced."),
    (Step.TOKEN_CONNECT, "", "", "", "The device cannot reach the sign-in server: check the device's network, and that its firewall lets HTTPS (port 443) out."),
    (Step.TOKEN_TLS, "", "", "", "TLS with the sign-in server could not begin: check the device's network, and whether a proxy is in between."),
    (Step.TOKEN_CERTIFICATE, SmtpProblem.EXPIRED, "", "", "The certificate of the sign-in server has expired, if the device's clock is right (it says {clock}): set the clock."),
    (Step.TOKEN_CERTIFICATE, SmtpProblem.NOT_YET_VALID, "", "", "The certificate of the sign-in server is not valid yet by the device's clock, which says {clock}: set the device's clock."),
    (Step.TOKEN_CERTIFICATE, "", "", "oauth_issuer", "The sign-in server has a certificate that the device does not trust: check the issuer, and whether a proxy is in between; the maker's device.toml can name its authority (mail.ca_file)."),
    # Microsoft's numbers (learn.microsoft.com/entra/identity-platform/reference-error-codes) choose words only.
    (Step.TOKEN_ANSWER, "", "AADSTS7000222 ", "password", "The client secret has ended: make a new one, type it as SMTP Account Password, and the date on which it ends."),
    (Step.TOKEN_ANSWER, "", "AADSTS7000215 ", "password", "The client secret is wrong: type its value, not its ID, as SMTP Account Password."),
    (Step.TOKEN_ANSWER, "", "AADSTS700027 ", "oauth_client", "Microsoft does not know the certificate of this device: upload it to the application, under Certificates & secrets."),
    (Step.TOKEN_ANSWER, "", "AADSTS700024 ", "", "The device's clock differs from Microsoft's (it says {clock}): set the clock."),
    (Step.TOKEN_ANSWER, "", "AADSTS7000218 ", "oauth_grant", "The application does not allow a sign-in by a code: under Authentication, switch on Allow public client flows, or choose the grant certificate."),
    (Step.TOKEN_ANSWER, "", "AADSTS700025 ", "oauth_grant", "The application is a public client, which has no secret: choose the grant device, or register the device as another application."),
    (Step.TOKEN_ANSWER, "", "AADSTS700016 ", "oauth_client", "The tenant has no application with this client ID: check the client ID and the tenant."),
    (Step.TOKEN_ANSWER, "", "AADSTS90002 ", "oauth_tenant", "Microsoft has no such tenant: check the tenant."),
    (Step.TOKEN_ANSWER, "", "AADSTS900023 ", "oauth_tenant", "Microsoft has no such tenant: check the tenant."),
    (Step.TOKEN_ANSWER, "", "AADSTS53003 ", "oauth_grant", "A rule of the tenant (conditional access) blocks this sign-in, as many do for device codes: choose the grant certificate, or ask its administrator."),
    (Step.TOKEN_ANSWER, "", "AADSTS65001 ", "oauth_client", "The tenant has not consented to the application: have its administrator grant consent."),
    (Step.TOKEN_ANSWER, "", "AADSTS70043 ", "", "A rule of the tenant ended the sign-in: sign in again, or choose the grant certificate, which does not end that way."),
    (Step.TOKEN_ANSWER, "", "AADSTS700082 ", "", "The sign-in ended, since it was not used for 90 days: sign in again."),
    (Step.TOKEN_ANSWER, "", "AADSTS50173 ", "", "The sign-in ended, since the account's password was changed: sign in again."),
    (Step.TOKEN_ANSWER, SmtpProblem.NOT_SIGNED_IN, "", "oauth_grant", "The device has no sign-in yet: press Update, then sign in, or upload the device's certificate to the provider."),
    (Step.TOKEN_ANSWER, SmtpProblem.RENEWAL_LOST, "", "", "The power failed while the sign-in was renewed, and this provider allows no second try: sign in again."),
    (Step.TOKEN_ANSWER, SmtpProblem.GRANT_ENDED, "", "", "The provider has ended this sign-in: sign in again."),
    (Step.TOKEN_ANSWER, SmtpProblem.CLIENT_REFUSED, "", "oauth_client", "The provider refuses this device: check the client ID and the scope, and that its certificate or client secret is the present one. After a change there, wait some minutes."),
    (Step.TOKEN_ANSWER, SmtpProblem.OTHER_ISSUER, "", "oauth_issuer", "The sign-in server calls itself by another address: type the issuer exactly as the provider spells it."),
    (Step.TOKEN_ANSWER, SmtpProblem.REDIRECTED, "", "oauth_issuer", "The sign-in server sends the device to another address, where it does not go: type the issuer exactly as the provider spells it."),
    (Step.TOKEN_ANSWER, SmtpProblem.NOT_UNDERSTOOD, "", "oauth_issuer", "The sign-in server's answer is not one of OAuth 2.0: check the issuer and the tenant, and whether a proxy is in between."),
    (Step.TOKEN_ANSWER, SmtpProblem.BUSY, "", "", "The sign-in server has no time: nothing is to be changed, and it is tried again by itself."),
    (Step.TOKEN_ANSWER, SmtpProblem.NOT_STORED, "", "", "The device's storage has a problem, so the sign-in was not renewed: free some space. It is tried again by itself."),
    (Step.TOKEN_ANSWER, "", "", "", "The connection to the sign-in server broke: nothing is to be changed, and it is tried again by itself."),
    (Step.NAME, SmtpProblem.SILENT, "", "host", "The device gets no answer from its name server: check the device's network, or type the mail server's IP address as SMTP Host."),
    (Step.NAME, "", "", "host", "Nobody knows the name {host}: check the spelling of SMTP Host, or type the mail server's IP address."),
    (Step.ADDRESS, "", "", "host", "{host} is this device itself: type the name or address of the mail server as SMTP Host."),
    (Step.CONNECT, SmtpProblem.REFUSED, "", "port", "Nothing listens at port {port} of {host}: change SMTP Port, usually to 587, or to 465."),
    (Step.CONNECT, SmtpProblem.SILENT, "", "port", "{host} does not answer at port {port}: check SMTP Host, change SMTP Port (usually to 587 or 465), or ask whether a firewall is between."),
    (Step.CONNECT, "", "", "host", "The device cannot reach {host}: check SMTP Host and the device's network."),
    (Step.GREETING, SmtpProblem.ANSWER, "5", "host", "{host} turns this device away: ask its administrator to allow the device's address, or change SMTP Host."),
    (Step.GREETING, SmtpProblem.ANSWER, "4", "", "{host} has no time right now: try again in some minutes."),
    (Step.GREETING, "", "", "port", "Something answers at port {port}, but it is no mail server: change SMTP Port, usually to 587, or to 465."),
    (Step.EHLO, "", "", "host", "{host} does not take the device's greeting: check SMTP Host, or ask its administrator."),
    (Step.TLS, SmtpProblem.NO_STARTTLS, "", "port", "{host} offers no STARTTLS at port {port}: change SMTP Port to 465 (TLS from the first byte) or to the port that offers it, usually 587."),
    (Step.TLS, SmtpProblem.NO_TLS_SPOKEN, "", PORT_OR_SECURITY, "Port {port} of {host} does not speak TLS from the first byte: use 587 with STARTTLS (SMTP Port 587, connection security auto)."),
    (Step.TLS, SmtpProblem.BYTES_BEFORE_TLS, "", "host", "The server sent data before TLS began, which is an attack or a fault: check SMTP Host, and ask its administrator."),
    (Step.TLS, "", "", "port", "TLS could not begin at port {port}: change SMTP Port to 587 with STARTTLS or to 465, or ask the mail server's administrator."),
    (Step.CERTIFICATE, SmtpProblem.EXPIRED, "", "", "The mail server's certificate has expired, if the device's clock is right (it says {clock}): ask the server's administrator for a new one, or set the clock."),
    (Step.CERTIFICATE, SmtpProblem.NOT_YET_VALID, "", "", "The mail server's certificate is not valid yet by the device's clock, which says {clock}: set the device's clock."),
    (Step.CERTIFICATE, SmtpProblem.OTHER_NAME, "", "host", "The certificate is for another name than {host}: type the name that the certificate has as SMTP Host."),
    (Step.CERTIFICATE, "", "", "host", "The device does not know who issued the certificate of {host}: check SMTP Host, or have the maker's device.toml name the authority (mail.ca_file)."),
    (Step.LOGIN, SmtpProblem.NO_LOGIN_WITHOUT_TLS, "", "security", "The server offers a login only under TLS: under Advanced, change the connection security to auto."),
    (Step.LOGIN, SmtpProblem.NO_LOGIN_OFFERED, "", "sign_in", "{host} offers no login at port {port}: change SMTP Port to 587 or 465, or under Advanced the sign-in to none if it is a relay."),
    (Step.LOGIN, SmtpProblem.NO_TOKEN_LOGIN_OFFERED, "", "sign_in", "{host} takes no OAuth 2.0 token at port {port} (XOAUTH2 or OAUTHBEARER): change SMTP Port to 587 or 465, or under Advanced choose a sign-in with a password."),
    (Step.LOGIN, SmtpProblem.NO_TLS, "", "security", "A login is never sent in the clear: under Advanced, change the connection security to auto."),
    (Step.LOGIN, SmtpProblem.TOKEN_REFUSED, "535 5.7.139", "account", "The provider does not allow this way of signing in: have it allow SMTP AUTH for this mailbox."),
    (Step.LOGIN, SmtpProblem.TOKEN_REFUSED, "", "account", "The mail server does not take this sign-in: check that SMTP Account Address is the mailbox, and that the application, or the person, may send as it. A permission can take two hours to take effect; it is tried again by itself."),
    (Step.LOGIN, SmtpProblem.LOGIN_REFUSED, "534", "password", "The provider wants a password made for this device: make an app password there, and under Advanced choose the sign-in provider."),
    (Step.LOGIN, SmtpProblem.LOGIN_REFUSED, "530", "security", "The server wants TLS before a login: under Advanced, change the connection security to auto."),
    (Step.LOGIN, SmtpProblem.LOGIN_REFUSED, "538", "security", "The server wants TLS before a login: under Advanced, change the connection security to auto."),
    (Step.LOGIN, SmtpProblem.LOGIN_REFUSED, "535 5.7.139", "account", "The provider does not allow this way of signing in: have it allow SMTP AUTH for this account, or use another account."),
    (Step.LOGIN, SmtpProblem.LOGIN_REFUSED, "", "password", "The server does not take this login: check SMTP Account Address and type SMTP Account Password again, which with some providers is an app password."),
    (Step.LOGIN, SmtpProblem.SILENT, "", "account", "The server fell silent at the login, as some do when they refuse it: check SMTP Account Address and Password, and that the provider allows this way of signing in (SMTP AUTH)."),
    (Step.LOGIN, SmtpProblem.CLOSED, "", "account", "The server hung up at the login, as some do when they refuse it: check SMTP Account Address and Password, and that the provider allows this way of signing in (SMTP AUTH)."),
    (Step.LOGIN, "", "", "", "The server cannot check logins right now: try again in some minutes."),
    (Step.SENDER, SmtpProblem.ANSWER, "530", "sign_in", "The server wants a login first: under Advanced, change the sign-in to manual or provider."),
    (Step.SENDER, SmtpProblem.ANSWER, "5", "account", "The server does not let this account send as {mail_from}: check SMTP Account Address, or under Advanced the from address."),
    (Step.SENDER, "", "", "", "The server has no time, or the connection broke: nothing is to be changed, and mail that waits is tried again by itself."),
    (Step.RECIPIENT, SmtpProblem.ANSWER, "5", "account", "The server does not take mail for this recipient: check the address, or whether this account may send to it."),
    (Step.RECIPIENT, "", "", "", "The server defers this recipient, or the connection broke: nothing is to be changed, and mail that waits is tried again by itself."),
    (Step.CONTENT, SmtpProblem.ANSWER, "5", "sender_name", "The server refuses the mail itself: its answer says why; a plainer Sender Name may help, else ask its administrator."),
    (Step.CONTENT, "", "", "", "The server defers the mail, or the connection broke: nothing is to be changed, and mail that waits is tried again by itself."),
)  # fmt: skip
FALLBACK = ("", "The mail did not go out; the server's answer above is all that is known.")

# For a certificate's problem, with the certificate's own values.
CLOSER: dict[str, str] = {
    SmtpProblem.EXPIRED: "The mail server's certificate was valid until {ends}, and the device's clock says {clock}: ask the server's administrator for a new one, or set the device's clock if it is wrong.",
    SmtpProblem.NOT_YET_VALID: "The mail server's certificate is valid from {begins} on, and the device's clock says {clock}: set the device's clock.",
    SmtpProblem.OTHER_NAME: "The mail server's certificate is for another name than {host}: {names}.",
    SmtpProblem.UNKNOWN_AUTHORITY: "The device does not know the issuer of the certificate of {host} ({issuer}): check SMTP Host, or have the maker's device.toml name the authority (mail.ca_file).",
}  # fmt: skip


def advise(
    step: str, problem: str, reply: Text, settings: SmtpSettings, now: str, certificate: Certificate | None = None
) -> Advice:
    """Return the first row of `ADVICE` that matches, for a device whose clock shows `now` and a server's `certificate`."""
    values: dict[str, object] = {
        "host": settings.host,
        "port": settings.port,
        "mail_from": settings.mail_from,
        "clock": now,
    }
    name, sentence = _row(step, problem, str(reply))
    if certificate:
        sentence = CLOSER.get(problem, sentence)
        values |= _values(certificate)
    if name == PORT_OR_SECURITY:
        name = "port" if settings.security == "auto" else "security"
    return Advice(name, Message(sentence, **values))


def _row(step: str, problem: str, reply: str) -> tuple[str, str]:
    for row_step, row_problem, row_reply, name, sentence in ADVICE:
        if row_step in ("", step) and row_problem in ("", problem) and reply.startswith(row_reply):
            return name, sentence
    return FALLBACK


def _values(certificate: Certificate) -> dict[str, Text]:
    return {
        "names": _describe_names(certificate.names),
        "begins": _minute(certificate.begins),
        "ends": _minute(certificate.ends),
        "issuer": certificate.issuer,
    }


def _describe_names(names: Sequence[str]) -> Message:
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
