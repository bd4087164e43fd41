"""Advice on a mail that did not go out: one sentence, and the field to change. Pure.

`ADVICE` is read from the top, and the first row that matches applies. A row names a field only on evidence that a change of
this field helps: a problem that the client established, or words of the server whose meaning a standard or the provider
documents. Without evidence it names none: an operator who follows a guess changes what was right. The page shows the server's
words beside the sentence. Where the certificate itself was read, `CLOSER` has a more exact sentence.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from device_ui.errors import Message, Text
from device_ui.mail.smtp.outcome import SmtpProblem, Step
from device_ui.mail.smtp.scope import detail_of
from device_ui.settings.fields import CHOICE_WORDS, SmtpSettings

if TYPE_CHECKING:
    from device_ui.mail.smtp.probe import Certificate
    from device_ui.mail.smtp.trust import InUse


@dataclass(frozen=True)
class Advice:
    """The form name of the `field` to change (``""``: none of the tab's), and the `sentence` with the change."""

    field: str
    sentence: Message


class Row(NamedTuple):
    """A row of `ADVICE`; ``""`` and ``()`` match everything, and the problem `REPLIED` matches `WITH_REPLY`.

    `reply` is the reply's class (``5``), code (``535``), enhanced code (``5.7.8``), both codes (``535 5.7.8``) or what its words
    are about (``limit``: a value of `scope.WORDS`), compared whole, or the beginning of a line that is no SMTP reply. One of `says`, in lower case, begins a word of the
    reply; names of hosts and addresses in it do not count, and ``_`` is a blank. `given` is a key of `GIVEN`. `field`
    is a form name or a key of `FIELD_OF`. `evidence` is why this row may name its field: a standard, or the provider's
    own documentation. The program does not read it; a test requires it. `sentence` may have a place for a choice of the
    tab (`settings.fields.CHOICE_WORDS`).
    """

    step: str
    problem: str
    reply: str
    says: tuple[str, ...]
    given: str
    field: str
    evidence: str
    sentence: str


# What the settings must be for a row. To a device that logs in, "authentication required" is no advice to log in.
GIVEN: dict[str, Callable[[SmtpSettings], bool]] = {
    "": lambda _: True,
    "relay": lambda settings: settings.sign_in == "none",
    "clear": lambda settings: settings.connection == "none",
    "ca": lambda settings: settings.trust == "ca",
    # A sign-in of the device itself, and one of a person by a code.
    "app": lambda settings: settings.oauth_grant != "device",
    "code": lambda settings: settings.oauth_grant == "device",
    "address": lambda settings: _is_address(settings.host),
    # A scheme, a path or a port; an IPv6 address has more than one colon.
    "url": lambda settings: "/" in settings.host or settings.host.count(":") == 1,
}
# In place of a field: the one that decides it with these settings.
FIELD_OF: dict[str, Callable[[SmtpSettings], str]] = {
    # The connection security if it was chosen by hand, else the port, which decides it then.
    "port or security": lambda settings: "port" if settings.security == "auto" else "security",
    "sender": lambda settings: "account" if settings.sign_in == "manual" else "from_address",
    # Microsoft's servers have fixed names; a tenant is theirs alone.
    "issuer": lambda settings: "oauth_issuer" if settings.oauth_provider == "custom" else "",
    "tenant": lambda settings: "oauth_tenant" if settings.oauth_provider == "microsoft" else "oauth_issuer",
    # The client secret is typed as the password; without one that field is not used.
    "secret": lambda settings: "password" if settings.oauth_grant == "secret" else "",
    # What a client proves itself with; a certificate is no field.
    "client": lambda settings: {"secret": "password", "device": "oauth_client"}.get(settings.oauth_grant, ""),
}

# A problem that the server's reply explains, whether it judged the login or not.
REPLIED = "replied"
WITH_REPLY = (SmtpProblem.ANSWER, SmtpProblem.LOGIN_REFUSED)

# How the servers of other protocols begin.
PROTOCOLS = {
    "+OK": "POP3",  # RFC 1939, section 3
    "-ERR": "POP3",
    "* ": "IMAP",  # RFC 9051, section 7.1: OK, PREAUTH or BYE
    "SSH-": "SSH",  # RFC 4253, section 4.2
    "HTTP/": "HTTP",  # RFC 9112, section 4
    "RFB ": "VNC",  # RFC 6143, section 7.1.1
    "AMQP": "AMQP",
    '"IMPLEMENTATION"': "ManageSieve",  # RFC 5804, section 1.7
}
OTHER_PROTOCOL = "Port {port} of {host} speaks {protocol} and not SMTP: change SMTP Port to the one for sending mail, usually 587 or 465."
NAME_OF_DEVICE = "{host} does not accept the name by which this device introduces itself (EHLO): the maker's device.toml sets it (mail.helo_name)."
LISTED = "The network address that this device sends from is on a list of senders that {host} refuses: ask the administrator of {host}, or the provider of the line."
OWN_ADDRESS_REFUSED = "{host} refuses connections from this device: its answer says why. Ask its administrator to allow the device's address."
BUSY = "{host} is busy right now: nothing is to be changed; try again in some minutes."
BUSY_OR_NAME = "{host} is busy right now, or does not accept the name by which this device introduces itself (EHLO), which the maker's device.toml sets (mail.helo_name)."
LIMIT_REACHED = "The limit for what this account may send is reached, or the provider has blocked the account: its answer says why. What waits is tried again by itself."
NOT_FROM_HERE = "The server takes no mail from this account or this device now: its answer says why. Ask its administrator or the provider."
SPF = "The domain of {mail_from} does not let its mail come from here (SPF): send through the mail server of that domain, or from an address of {host}."
WANTS_TLS = "The server wants TLS: under “Advanced”, choose the connection security “{security_auto}”."
RECIPIENT_DEFERRED = "The server defers this recipient, or the connection broke: nothing is to be changed, and mail that waits is tried again by itself."
MAIL_DEFERRED = "The server defers the mail, or the connection broke: nothing is to be changed, and mail that waits is tried again by itself."
LATER = "The server has no time, or the connection broke: nothing is to be changed, and mail that waits is tried again by itself."
LOGIN_FIRST = (
    "The server wants a login first: under “Advanced”, choose the sign-in “{sign_in_manual}” or “{sign_in_provider}”."
)
DENIED = "The server takes this mail only after a login, or not at all: under “Advanced”, choose the sign-in “{sign_in_manual}” or “{sign_in_provider}”, or ask its administrator."
TLS_FIRST = "The server wants TLS before a login: under “Advanced”, choose the connection security “{security_auto}”."
WRONG_LOGIN = "The server does not take this login: check SMTP Account Address and type SMTP Account Password again, which with some providers is an app password."
APP_PASSWORD = "The provider wants a password made for this device: make an app password there, and under “Advanced” choose the sign-in “{sign_in_provider}”."
NO_SIGN_IN = (
    "The device has no sign-in yet: press Update, then sign in, or upload the device's certificate to the provider."
)
NO_PASSWORDS = "The provider no longer takes a login by password here: under “Advanced”, choose the sign-in “{sign_in_oauth}”, or use a relay that the provider offers for devices."
NOT_ALLOWED = (
    "The provider does not allow this account to sign in by SMTP: have its administrator allow SMTP AUTH for it."
)
NO_TENANT = "Microsoft has no such tenant: check the tenant."
TOKEN_REFUSED = "The mail server does not take this sign-in: check that SMTP Account Address is the mailbox, and that the application, or the person, may send as it. A permission can take two hours to take effect; it is tried again by itself."
SENDER_REFUSED = "The server does not let this account send as {mail_from}: check the address, or have the server's administrator allow it."
TOO_LARGE = "The mail is larger than the server takes."
MAILBOX_FULL = "The mailbox of this recipient is full or switched off: its owner or the mail server's administrator can change that."
OTHER_AUTHORITY = "The certificate of {host} is not issued by the trusted authority: either the server got one from a different authority, or a different server answers in its place. Ask its administrator for the authority's certificate. Until then no mail goes out, and what waits is kept."
NO_TLS_NOW = (
    "{host} cannot begin TLS right now: nothing is to be changed; try again in some minutes, or ask its administrator."
)

# Words by which a server gives its reason where codes do not, from the replies of those that `evidence` names.
BLOCKED = (
    "spamhaus",
    "spamcop",
    "sorbs",
    "barracudacentral",
    "block list",
    "blocklist",
    "black list",
    "blacklist",
    "blocked using",
    "dnsbl",
    "rbl",
    "the ip you're using to send mail",
)
REVERSE_NAME = ("bad dns ptr", "ptr", "reverse dns")
NO_SMTP_HERE = ("no smtp", "does not accept mail", "not accept email")
FTP = ("ftp",)
HELO = (
    "helo command rejected",
    "ehlo command rejected",
    "invalid helo",
    "invalid ehlo",
    "helo/ehlo",
)
APP = (
    "application-specific",
    "application password",
    "app password",
    "app-specific",
    "authorization code",
)
# A failure of the server in a 535, as `scope.NOT_JUDGED`. Not "unavailable": "authentication failed: (reason unavailable)" is
# Postfix's reply to every wrong password for which Dovecot gives no reason (smtpd_sasl_glue.c).
NOT_JUDGED = ("connection lost to auth", "can't connect to auth", "generic failure", "temporar")
TOO_MANY = ("too many", "too much", "try again later")
# Not "auth" alone, which "authorized" begins with.
NO_AUTH = ("smtp auth", "auth required", "auth first", "auth command", "authenticat", "unauthenticated")
RELAY = ("relay", "rcpthosts", *NO_AUTH, "log in", "login")
STARTTLS = ("starttls", "encrypt", "tls")
OWNED = (
    "not owned",
    "send as",
    "sendas",
    "as this sender",
    "on behalf",
    "sender address rejected",
    "sender verify",
    "from address",
    "not authorized to send",
    "not allowed to send",
    "sender denied",
    "does not match a verified sender",
    "relaying disallowed as",
    "authorised to send from",
    "unauthorized use of sender",
    "sender domain not verified",
    "doesn't conform with auth",
    "not local sender",
    "sender address is not allowed",
)

S, P = Step, SmtpProblem

ADVICE: tuple[Row, ...] = tuple(Row(*row) for row in (
    # step, problem, reply, says, given, field, evidence, sentence
    # A sign-in by OAuth 2.0. First, since a sentence about {host} is about the mail server.
    (S.TOKEN_SIGN_IN, P.NOT_STORED, "", (), "", "", "", "The device's storage has a problem, so the sign-in was not renewed: free some space. It is tried again by itself."),
    (S.TOKEN_SIGN_IN, "", "", (), "", "", "", NO_SIGN_IN),
    (S.TOKEN_NAME, P.SILENT, "", (), "", "", "getaddrinfo(3), EAI_AGAIN", "The device gets no answer from its name server: check the device's network and its name server."),
    (S.TOKEN_NAME, P.UNKNOWN_NAME, "", (), "", "issuer", "getaddrinfo(3), EAI_NONAME", "The name server does not know the sign-in server: check the issuer, and the device's name server."),
    (S.TOKEN_NAME, "", "", (), "", "", "", "The device's name server cannot say where the sign-in server is: check the device's network and its name server."),
    (S.TOKEN_ADDRESS, P.NOT_ALLOWED, "", (), "", "issuer", "the address is one of the device's own", "The sign-in server is this device itself, or has an address that no server has: check the issuer."),
    (S.TOKEN_ADDRESS, "", "", (), "", "", "", "The device finds no address of the sign-in server that it may use."),
    (S.TOKEN_CONNECT, "", "", (), "", "", "", "The device cannot reach the sign-in server (the reason is above): check the device's network, and that its firewall lets HTTPS (port 443) out."),
    (S.TOKEN_TLS, "", "", (), "", "", "", "TLS with the sign-in server did not begin (the reason is above): check whether a proxy is between, and ask its administrator."),
    (S.TOKEN_CERTIFICATE, P.EXPIRED, "", (), "", "", "X509_V_ERR_CERT_HAS_EXPIRED", "The certificate of the sign-in server has expired, if the device's clock is right (it says {clock}): set the clock."),
    (S.TOKEN_CERTIFICATE, P.NOT_YET_VALID, "", (), "", "", "X509_V_ERR_CERT_NOT_YET_VALID", "The certificate of the sign-in server is not valid yet by the device's clock, which says {clock}: set the device's clock."),
    (S.TOKEN_CERTIFICATE, P.OTHER_NAME, "", (), "", "issuer", "X509_V_ERR_HOSTNAME_MISMATCH", "The certificate of the sign-in server is for another name: type the issuer exactly as the provider spells it."),
    (S.TOKEN_CERTIFICATE, "", "", (), "", "", "", "The device does not trust the certificate of the sign-in server (the reason is above): check whether a proxy is between; the maker's device.toml can name its authority (mail.ca_file)."),
    # Microsoft's numbers choose words, never a verdict: they change.
    # learn.microsoft.com/entra/identity-platform/reference-error-codes
    (S.TOKEN_ANSWER, "", "AADSTS7000222 ", (), "", "secret", "Microsoft, reference-error-codes", "The client secret has ended: make a new one, type it as SMTP Account Password, and the date on which it ends."),
    (S.TOKEN_ANSWER, "", "AADSTS7000215 ", (), "", "secret", "Microsoft, reference-error-codes", "The client secret is wrong: type its value, not its ID, as SMTP Account Password."),
    (S.TOKEN_ANSWER, "", "AADSTS700027 ", (), "", "", "Microsoft, reference-error-codes", "Microsoft does not know the certificate of this device: upload it to the application, under Certificates & secrets."),
    (S.TOKEN_ANSWER, "", "AADSTS700024 ", (), "", "", "Microsoft, reference-error-codes", "The device's clock differs from Microsoft's (it says {clock}): set the clock."),
    (S.TOKEN_ANSWER, "", "AADSTS7000218 ", (), "", "oauth_grant", "Microsoft, reference-error-codes", "The application does not allow a sign-in by a code: under Authentication, switch on Allow public client flows, or choose the device's certificate as the grant."),
    (S.TOKEN_ANSWER, "", "AADSTS700025 ", (), "", "oauth_grant", "Microsoft, reference-error-codes", "The application is a public client, which has no secret: choose the sign-in by a code as the grant, or register the device as another application."),
    (S.TOKEN_ANSWER, "", "AADSTS700016 ", (), "", "oauth_client", "Microsoft, reference-error-codes", "The tenant has no application with this client ID: check the client ID and the tenant."),
    (S.TOKEN_ANSWER, "", "AADSTS90002 ", (), "", "tenant", "Microsoft, reference-error-codes", NO_TENANT),
    (S.TOKEN_ANSWER, "", "AADSTS900023 ", (), "", "tenant", "Microsoft, reference-error-codes", NO_TENANT),
    (S.TOKEN_ANSWER, "", "AADSTS7000229 ", (), "", "", "Microsoft, reference-error-codes", "The application is registered, but the tenant does not have it: have its administrator add it to the enterprise applications and grant consent."),
    (S.TOKEN_ANSWER, "", "AADSTS7000112 ", (), "", "", "Microsoft, reference-error-codes", "The application is switched off in the tenant: have its administrator enable it."),
    (S.TOKEN_ANSWER, "", "AADSTS500011 ", (), "", "oauth_scope", "Microsoft, reference-error-codes", "The tenant does not have what the scope names: leave the scope empty, and check the tenant."),
    (S.TOKEN_ANSWER, "", "AADSTS50194 ", (), "", "tenant", "Microsoft, reference-error-codes", "The application is for one tenant alone: type the ID or the domain of that tenant."),
    (S.TOKEN_ANSWER, "", "AADSTS53003 ", (), "app", "", "Microsoft, workload identities in conditional access", "A rule of the tenant (conditional access) blocks this application: ask its administrator."),
    (S.TOKEN_ANSWER, "", "AADSTS53003 ", (), "", "oauth_grant", "Microsoft, reference-error-codes", "A rule of the tenant (conditional access) blocks this sign-in, as many do for codes: choose the device's certificate as the grant, or ask its administrator."),
    (S.TOKEN_ANSWER, "", "AADSTS65001 ", (), "", "", "Microsoft, reference-error-codes", "The tenant has not consented to the application: have its administrator grant consent."),
    (S.TOKEN_ANSWER, "", "AADSTS70043 ", (), "", "", "Microsoft, reference-error-codes", "A rule of the tenant ended the sign-in: sign in again, or choose the device's certificate as the grant, which does not end that way."),
    (S.TOKEN_ANSWER, "", "AADSTS700082 ", (), "", "", "Microsoft, reference-error-codes", "The sign-in ended, since it was not used for 90 days: sign in again."),
    (S.TOKEN_ANSWER, "", "AADSTS50173 ", (), "", "", "Microsoft, reference-error-codes", "The sign-in ended, since the account's password was changed: sign in again."),
    (S.TOKEN_ANSWER, P.NOT_SIGNED_IN, "", (), "", "", "", NO_SIGN_IN),
    (S.TOKEN_ANSWER, P.RENEWAL_LOST, "", (), "", "", "RFC 9700, 4.14.2", "The power failed while the sign-in was renewed, and this provider allows no second try: sign in again."),
    (S.TOKEN_ANSWER, P.GRANT_ENDED, "", (), "", "", "RFC 6749, 5.2: invalid_grant", "The provider has ended this sign-in: sign in again."),
    (S.TOKEN_ANSWER, P.CLIENT_REFUSED, "", ("invalid scope",), "", "oauth_scope", "RFC 6749, 5.2", "The provider does not give this scope: type the one that it names for sending mail, or leave the scope empty."),
    (S.TOKEN_ANSWER, P.CLIENT_REFUSED, "", ("invalid client", "client secret"), "code", "oauth_client", "RFC 8628, 5.6: public clients", "The provider refuses this application: check the client ID, and have it made a public client there, since a sign-in by a code has no secret."),
    (S.TOKEN_ANSWER, P.CLIENT_REFUSED, "", ("invalid client",), "", "client", "RFC 6749, 5.2", "The provider refuses this device: check the client ID, and that its certificate or client secret is the present one. After a change there, wait some minutes."),
    (S.TOKEN_ANSWER, P.CLIENT_REFUSED, "", ("unauthorized client", "unsupported grant type"), "", "oauth_grant", "RFC 6749, 5.2", "The provider does not allow this grant to the application: choose another grant, or have its administrator allow it."),
    (S.TOKEN_ANSWER, P.CLIENT_REFUSED, "", (), "", "", "", "The provider refuses this device: check the client ID and the scope, and that its certificate or client secret is the present one. After a change there, wait some minutes."),
    (S.TOKEN_ANSWER, P.OTHER_ISSUER, "", (), "", "issuer", "RFC 8414, 3.3", "The sign-in server calls itself by another address: type the issuer exactly as the provider spells it."),
    (S.TOKEN_ANSWER, P.REDIRECTED, "", (), "", "issuer", "RFC 9110, 15.4", "The sign-in server sends the device to another address, where it does not go: type the issuer exactly as the provider spells it."),
    (S.TOKEN_ANSWER, P.ANSWER, "", ("invalid dpop proof", "use dpop nonce"), "", "", "RFC 9449, 5", "The provider wants tokens that are bound to a key (DPoP), which mail servers do not take: have its administrator switch that off for this application."),
    (S.TOKEN_ANSWER, P.ANSWER, "4", (), "", "", "RFC 6749, 5.2", "The provider refuses the sign-in: its answer says why. Ask its administrator. It is tried again by itself."),
    (S.TOKEN_ANSWER, P.ANSWER, "AADSTS", (), "", "", "RFC 6749, 5.2", "The provider refuses the sign-in: its answer says why. Ask its administrator. It is tried again by itself."),
    (S.TOKEN_ANSWER, P.NOT_UNDERSTOOD, "device_authorization_endpoint", (), "", "oauth_grant", "RFC 8628, 4", "The provider offers no sign-in by a code: choose another grant."),
    *((S.TOKEN_ANSWER, P.NOT_UNDERSTOOD, code, (), "", "", "RFC 9110, 15.5", "Not the sign-in server answers, but something in front of it, such as a firewall or a proxy: ask its administrator whether the device's address is blocked. It is tried again by itself.") for code in ("401", "403")),
    (S.TOKEN_ANSWER, P.NOT_UNDERSTOOD, "404", (), "", "issuer", "RFC 8414, 3.1", "There is no sign-in server at this address: type the issuer exactly as the provider spells it."),
    (S.TOKEN_ANSWER, P.NOT_UNDERSTOOD, "", (), "", "", "", "The sign-in server's answer is not one of OAuth 2.0: check the issuer and the tenant, and whether a proxy is between."),
    (S.TOKEN_ANSWER, P.BUSY, "", (), "", "", "RFC 9110, 15.6.4; RFC 6585, 4", "The sign-in server has no time: nothing is to be changed, and it is tried again by itself."),
    (S.TOKEN_ANSWER, "", "", (), "", "", "", "The connection to the sign-in server broke: nothing is to be changed, and it is tried again by itself."),

    # At any step. A port of a different protocol comes first: it explains every failure after it. FTP greets with 220
    # as SMTP does, so its words decide.
    *(("", "", begins, (), "", "port", f"the first words of {name}", OTHER_PROTOCOL) for begins, name in PROTOCOLS.items()),
    ("", P.NO_TLS_SPOKEN, "220", FTP, "", "port", "RFC 959, 5.4", OTHER_PROTOCOL),
    ("", P.TLS_EXPECTED, "220", FTP, "", "port", "RFC 959, 5.4", OTHER_PROTOCOL),
    # The closer look of a test (`test_run`) read an SMTP greeting inside TLS. Without one, what speaks TLS there is not known.
    ("", P.TLS_EXPECTED, "220", (), "", "port or security", "RFC 8314, 3.3: SMTP inside TLS", "Port {port} of {host} expects TLS from the first byte: use 465 as SMTP Port with the connection security “{security_auto}”, or under “Advanced” choose the connection security “{security_tls}”."),
    ("", P.TLS_EXPECTED, "", (), "", "", "", "Port {port} of {host} speaks TLS from the first byte, and inside it no SMTP as far as this device can see: check SMTP Host and SMTP Port."),
    # What the server's administrator alone can change names no field.
    ("", P.CLIENT_CERTIFICATE, "", (), "", "", "RFC 8446, 6.2", "{host} wants a certificate from this device, which has none: ask its administrator for a port that asks for a login instead."),
    ("", P.WEAK_TLS, "", (), "", "", "OpenSSL, SSL_CTX_set_security_level(3)", "The encryption that {host} offers is too weak (the reason is above): its administrator has to give it a stronger key, certificate or Diffie-Hellman group."),
    ("", P.TLS_TOO_OLD, "", ("unsafe legacy renegotiation",), "", "", "RFC 5746, 4.1", "{host} does not know secure renegotiation (RFC 5746), without which its TLS is not safe: its administrator has to update it."),
    ("", P.TLS_TOO_OLD, "", (), "", "", "RFC 8996", "{host} speaks no TLS that is new enough; this device needs version 1.2 at least: its administrator has to update it."),
    ("", P.NAME_NOT_SERVED, "", (), "", "host", "RFC 6066, 3", "The server at {host} has no certificate for this name: type the name that its administrator or provider gives as SMTP Host."),
    ("", P.TLS_FAULT, "", (), "address", "host", "RFC 6066, 3: an address is no server name", "{host} reports a fault of its own in TLS, as some servers do that are asked for by an address: type the server's name as SMTP Host."),
    ("", P.TLS_FAULT, "", (), "", "", "RFC 8446, 6.2", "{host} reports a fault of its own in TLS: ask its administrator; nothing is to be changed here."),
    # At any step, since Postfix judges the client's name and address at RCPT (smtpd_delay_reject). By any code for the
    # name: Postfix has 450, 501 and 504 for it.
    ("", P.ANSWER, "", HELO, "", "", "Postfix, reject_invalid_helo_hostname and the like", NAME_OF_DEVICE),
    # Its restrictions of the client, the sender or relaying end with "reject": for a client without a login, or for any. A list of
    # addresses has the same words.
    (S.RECIPIENT, P.ANSWER, "5.7.1", ("rejected: access denied",), "relay", "", "Postfix, smtpd_relay_restrictions and the like", DENIED),
    ("", P.ANSWER, "5", ("client host rejected",), "", "", "Postfix, reject_unknown_client_hostname and check_client_access", OWN_ADDRESS_REFUSED),
    ("", P.ANSWER, "5", BLOCKED, "", "", "RFC 5782, 2.1", LISTED),
    ("", P.ANSWER, "4", BLOCKED, "", "", "RFC 5782, 2.1", LISTED),

    # By the words that also decide the verdict (`scope.WORDS`).
    *((step, P.ANSWER, reply, (), "", "", "RFC 3463, 3.5; Gmail, Mailtrap, Exchange Online: the reply's own words", LIMIT_REACHED) for step in (S.SENDER, S.RECIPIENT, S.CONTENT) for reply in ("limit", "5.4.5", "5.1.90")),
    *((step, P.ANSWER, "5", ("spf",), "", "", "RFC 7208, 8.4: the reply's own words", SPF) for step in (S.SENDER, S.RECIPIENT, S.CONTENT)),

    # Up to the greeting. Silence has many causes, a reset has one: it comes from the host itself, so the port is wrong.
    (S.NAME, P.UNKNOWN_NAME, "", (), "url", "host", "RFC 1123, 2.1: no name of a host has these characters", "SMTP Host takes the server's name or address alone: type it without anything around it, such as smtps:// or :587. The port has a field of its own."),
    (S.NAME, P.SILENT, "", (), "", "", "getaddrinfo(3), EAI_AGAIN", "The device gets no answer from its name server: check the device's network and its name server."),
    (S.NAME, P.UNKNOWN_NAME, "", (), "", "host", "getaddrinfo(3), EAI_NONAME", "The name server does not know {host}: check the spelling of SMTP Host."),
    (S.NAME, "", "", (), "", "", "", "The device's name server cannot say where {host} is: check the device's network and its name server."),
    (S.ADDRESS, P.NOT_ALLOWED, "", (), "", "host", "the address is one of the device's own", "{host} is this device itself, or has an address that no mail server has: type the name or address of the mail server as SMTP Host."),
    (S.ADDRESS, "", "", (), "", "", "", "The device finds no address of {host} that it may use."),
    (S.CONNECT, P.REFUSED, "", (), "", "port", "RFC 9293, 3.5.2", "Nothing listens at port {port} of {host}: change SMTP Port, usually to 587, or to 465."),
    (S.CONNECT, P.SILENT, "", (), "", "", "", "No answer comes from {host} at port {port}: the server is off, SMTP Host or SMTP Port is another, or a firewall is between."),
    (S.CONNECT, "", "", (), "", "", "", "The device cannot reach {host} (the reason is above): check the device's network, then SMTP Host."),

    # 521 means "no mail here" and nothing else. 554 may mean that, too, but most servers refuse this client's address by it.
    (S.GREETING, P.ANSWER, "521", (), "", "host", "RFC 7504, 3", "{host} takes no mail at all: as SMTP Host, type the name of the server that sends mail."),
    (S.GREETING, P.ANSWER, "554", REVERSE_NAME, "", "", "GMX: the reply's own words", OWN_ADDRESS_REFUSED),
    (S.GREETING, P.ANSWER, "554", NO_SMTP_HERE, "", "host", "RFC 5321, 3.1", "{host} takes no mail at all: as SMTP Host, type the name of the server that sends mail."),
    (S.GREETING, P.ANSWER, "5", (), "", "", "RFC 5321, 3.1", OWN_ADDRESS_REFUSED),
    (S.GREETING, P.ANSWER, "4", (), "", "", "RFC 5321, 3.8", BUSY),
    # NNTP's two greetings, with and without posting.
    (S.GREETING, P.ANSWER, "200", (), "", "port", "RFC 3977, 5.1", OTHER_PROTOCOL),
    (S.GREETING, P.ANSWER, "201", (), "", "port", "RFC 3977, 5.1", OTHER_PROTOCOL),
    (S.GREETING, P.NO_CODE, "", (), "", "", "", "The first line from {host} at port {port} is no SMTP greeting: check SMTP Host and SMTP Port."),
    (S.GREETING, P.SILENT, "", (), "", "", "", "{host} takes connections at port {port}, but says nothing: it is overloaded, a firewall is between, or it is no mail server."),
    (S.GREETING, P.CLOSED, "", (), "", "", "", "{host} closes the connection at port {port} without a word: ask its administrator whether it allows this device's address."),
    (S.GREETING, "", "", (), "", "", "", "The greeting of {host} at port {port} could not be read to its end: the reason is above."),
    ("", P.NO_CODE, "", (), "", "", "RFC 5321, 4.2", "The server sends a line that is no SMTP reply (it is above): ask its administrator."),
    ("", P.ENDLESS, "", (), "", "", "RFC 5321, 4.5.3.1.5", "The server's answers do not end: check SMTP Host and SMTP Port, or ask its administrator."),
    # 530 is FTP's answer to a command before its login.
    (S.EHLO, P.ANSWER, "530", (), "", "port", "RFC 959, 5.4; RFC 4954, 6 allows no 530 here", OTHER_PROTOCOL),
    (S.EHLO, P.ANSWER, "500", (), "", "", "RFC 5321, 3.2", "{host} does not know EHLO, which TLS and a login need: ask its administrator."),
    (S.EHLO, P.ANSWER, "502", (), "", "", "RFC 5321, 3.2", "{host} does not know EHLO, which TLS and a login need: ask its administrator."),
    (S.EHLO, P.ANSWER, "5", (), "", "", "RFC 5321, 4.1.4", NAME_OF_DEVICE),
    (S.EHLO, P.ANSWER, "421", ("(ehlo)",), "", "", "Google, SMTP relay: the reply's own words", BUSY_OR_NAME),
    (S.EHLO, P.ANSWER, "4", (), "", "", "RFC 5321, 3.8", BUSY),
    (S.EHLO, "", "", (), "", "", "", "The connection with {host} ended before the server said what it offers: the reason is above."),

    # The firewall overwrites the keyword in the server's reply. Only a relay without a login may go without TLS; its
    # row comes first.
    (S.TLS, P.NO_STARTTLS, "", ("xxxxxxxa",), "", "", "Cisco ASA, inspect esmtp", "A firewall between this device and {host} hides STARTTLS: have its inspection of SMTP switched off, or use a port that it does not inspect."),
    (S.TLS, P.NO_STARTTLS, "", (), "relay", "port", "RFC 3207, 4", "{host} offers no STARTTLS at port {port}: change SMTP Port to one that offers TLS, usually 587 or 465, or under “Advanced” choose the connection security “{security_none}” if the relay has no TLS."),
    (S.TLS, P.NO_STARTTLS, "", (), "", "port", "RFC 3207, 4", "{host} offers no STARTTLS at port {port}: change SMTP Port to 465 (TLS from the first byte) or to the port that offers it, usually 587."),
    (S.TLS, P.ANSWER, "4", (), "", "", "RFC 3207, 4", NO_TLS_NOW),
    (S.TLS, P.ANSWER, "", (), "", "", "", "{host} offers STARTTLS and then refuses it: ask its administrator."),
    (S.TLS, P.NO_TLS_SPOKEN, "220", (), "", "port or security", "RFC 5321, 4.2: a greeting in plain text", "Port {port} of {host} does not speak TLS from the first byte: use 587 with STARTTLS (SMTP Port 587, connection security “{security_auto}”)."),
    (S.TLS, P.NO_TLS_SPOKEN, "", (), "", "", "", "Port {port} of {host} answers without TLS, and not as a mail server does: check SMTP Host and SMTP Port."),
    (S.TLS, P.BYTES_BEFORE_TLS, "", (), "", "", "RFC 3207, 6", "The server sent data before TLS began, which is an attack or a fault: ask its administrator."),
    # Alert 40 has several causes (`tls_errors`), so the sentence names two and no field.
    (S.TLS, P.NO_TLS_AGREED, "", ("handshake failure",), "", "", "RFC 8446, 6.2", "{host} ends the TLS handshake without saying why: it has no cipher in common with this device, or wants a certificate from it. Ask its administrator."),
    (S.TLS, "", "", (), "", "", "", "TLS with {host} at port {port} did not begin (the reason is above): ask the mail server's administrator."),

    # By OpenSSL's verification codes (`tls_errors.VERIFY_CODES`). A wrong clock looks like an expired certificate: both are named.
    # First what the settings trust: a key or an authority that does not match may be an attack, and no sentence may belittle that.
    (S.CERTIFICATE, P.KEY_CHANGED, "", (), "", "trust_key", "RFC 7469, 2.6: no pin matches", "{host} does not show the trusted key: either its administrator gave it a new one, or a different server answers in its place. Ask the administrator for the SHA-256 of the key, and trust the new one only if it is the same. Until then no mail goes out, and what waits is kept."),
    (S.CERTIFICATE, P.BAD_AUTHORITY, "", (), "", "trust_ca", "SSL_CTX_load_verify_locations(3)", "The trusted authority is no certificate that this device can read (the reason is above): paste it again."),
    *((S.CERTIFICATE, problem, "", (), "ca", "trust_ca", "RFC 5280, 6.1: no path to the trust anchor", OTHER_AUTHORITY) for problem in (P.SELF_SIGNED, P.UNKNOWN_AUTHORITY, P.ISSUER_MISSING)),
    (S.CERTIFICATE, P.EXPIRED, "", (), "", "", "X509_V_ERR_CERT_HAS_EXPIRED", "The mail server's certificate has expired, if the device's clock is right (it says {clock}): ask the server's administrator for a new one, or set the clock."),
    (S.CERTIFICATE, P.NOT_YET_VALID, "", (), "", "", "X509_V_ERR_CERT_NOT_YET_VALID", "The mail server's certificate is not valid yet by the device's clock, which says {clock}: set the device's clock."),
    (S.CERTIFICATE, P.OTHER_NAME, "", (), "", "host", "X509_V_ERR_HOSTNAME_MISMATCH", "The certificate is for another name than {host}: as SMTP Host, type a name that is in the certificate."),
    (S.CERTIFICATE, P.SELF_SIGNED, "", (), "", "trust", "X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT", "The mail server made its certificate itself, so no authority vouches for it: compare the SHA-256 of its key with what its administrator gives, then under “Advanced” trust “{trust_pin}”."),
    (S.CERTIFICATE, P.UNKNOWN_AUTHORITY, "", (), "", "trust", "X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN", "The device does not know the authority that issued the certificate of {host}: if it is one of your own, give it under “Advanced” (“{trust_ca}”)."),
    (S.CERTIFICATE, P.ISSUER_MISSING, "", (), "", "trust", "X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY", "The device does not know the issuer of the certificate of {host}: either the server leaves out the issuer's certificate, which its administrator can add, or the issuer is an authority of your own, which you can give under “Advanced” (“{trust_ca}”)."),
    (S.CERTIFICATE, P.WRONG_PURPOSE, "", (), "", "", "X509_V_ERR_INVALID_PURPOSE", "The certificate of {host} is not made for a server: ask its administrator for one that is."),
    (S.CERTIFICATE, P.REVOKED, "", (), "", "", "X509_V_ERR_CERT_REVOKED", "The certificate of {host} was revoked: ask its administrator for a new one."),
    (S.CERTIFICATE, "", "", (), "", "", "", "The certificate of {host} cannot be verified (the reason is above): ask its administrator for a new one."),

    # From the narrowest reply to the broadest: the enhanced codes of a provider, words of the reply, then the codes of
    # RFC 4954. Servers also send 535 for an account without SMTP AUTH, and for a failure of their own: those words come
    # before "type the password again".
    (S.LOGIN, P.NO_LOGIN_WITHOUT_TLS, "", (), "", "security", "RFC 4954, 4", "The server offers a login only under TLS: under “Advanced”, choose the connection security “{security_auto}”."),
    (S.LOGIN, P.NO_LOGIN_OFFERED, "", (), "", "sign_in", "RFC 4954, 3", "{host} offers no login at port {port}: change SMTP Port to 587 or 465, or under “Advanced” choose the sign-in “{sign_in_none}” if it is a relay."),
    (S.LOGIN, P.NO_USABLE_LOGIN, "", ("xoauth2", "oauthbearer"), "", "sign_in", "RFC 4954, 3", "{host} takes no password here, but an OAuth 2.0 token: under “Advanced”, choose the sign-in “{sign_in_oauth}”."),
    (S.LOGIN, P.NO_USABLE_LOGIN, "", (), "", "", "RFC 4954, 3", "{host} offers no sign-in that this device can use (PLAIN, LOGIN); it offers {offered}: ask its administrator to allow one of the two."),
    (S.LOGIN, P.NO_TOKEN_LOGIN_OFFERED, "", (), "", "sign_in", "RFC 4954, 3", "{host} takes no OAuth 2.0 token at port {port} (XOAUTH2 or OAUTHBEARER): change SMTP Port to 587 or 465, or under “Advanced” choose the sign-in “{sign_in_manual}” or “{sign_in_provider}”."),
    (S.LOGIN, P.TOKEN_REFUSED, "5.7.139", (), "", "", "Microsoft, aka.ms/smtp_auth_disabled", NOT_ALLOWED),
    (S.LOGIN, P.TOKEN_REFUSED, "535", (), "", "account", "RFC 4954, 6", TOKEN_REFUSED),
    (S.LOGIN, P.TOKEN_REFUSED, "", (), "", "", "", TOKEN_REFUSED),
    (S.LOGIN, P.NO_TLS, "", (), "", "security", "RFC 4954, 9", "A login is never sent in the clear: under “Advanced”, choose the connection security “{security_auto}”."),
    (S.LOGIN, REPLIED, "5.7.30", (), "", "sign_in", "Microsoft, Exchange Online: basic authentication is removed", NO_PASSWORDS),
    (S.LOGIN, REPLIED, "5.7.139", ("basic authentication is disabled",), "", "sign_in", "Microsoft, Exchange Online: authentication policies", NO_PASSWORDS),
    (S.LOGIN, REPLIED, "5.7.139", ("the user credentials were incorrect",), "", "password", "Microsoft 365: the reply's own words", WRONG_LOGIN),
    (S.LOGIN, REPLIED, "5.7.139", (), "", "", "Microsoft, aka.ms/smtp_auth_disabled", NOT_ALLOWED),
    (S.LOGIN, REPLIED, "5", APP, "", "password", "Gmail, Apple, QQ, Mail.ru: the reply's own words", APP_PASSWORD),
    (S.LOGIN, REPLIED, "5", TOO_MANY, "", "", "Yahoo, AUTH005; Gmail, 4.7.0", "The provider saw too many logins of this account: wait, and check that no other device tries a wrong password."),
    (S.LOGIN, REPLIED, "5.7.14", (), "", "", "Gmail, SMTP error codes", "The provider blocks this login until the owner of the account has signed in with a browser: do that once, then send the test again."),
    (S.LOGIN, REPLIED, "5.7.13", (), "", "account", "RFC 5248, X.7.13", "This account is switched off: use another as SMTP Account Address, or ask the mail server's administrator."),
    (S.LOGIN, REPLIED, "5.7.9", (), "", "", "RFC 4954, 6", "The server takes only stronger ways of signing in than this device has (PLAIN, LOGIN): ask its administrator."),
    (S.LOGIN, REPLIED, "534", (), "", "", "RFC 4954, 6", "The server takes only stronger ways of signing in than this device has (PLAIN, LOGIN): ask its administrator."),
    (S.LOGIN, REPLIED, "504", (), "", "", "RFC 4954, 4", "The server does not take the way of signing in that it offers: ask its administrator."),
    (S.LOGIN, REPLIED, "530", STARTTLS, "clear", "security", "RFC 3207, 4", TLS_FIRST),
    (S.LOGIN, REPLIED, "538", (), "clear", "security", "RFC 4954, 6", TLS_FIRST),
    (S.LOGIN, REPLIED, "5.7.10", (), "clear", "security", "RFC 5248, X.7.10", TLS_FIRST),
    (S.LOGIN, REPLIED, "5.7.11", (), "clear", "security", "RFC 5248, X.7.11", TLS_FIRST),
    (S.LOGIN, REPLIED, "535", ("access rights", "not enabled", "disabled", "not allowed", "not permitted", "no permission"), "", "", "Yandex, Zoho, GMX: the reply's own words", NOT_ALLOWED),
    (S.LOGIN, REPLIED, "535", NOT_JUDGED, "", "", "Postfix with Dovecot or Cyrus SASL: the reply's own words", BUSY),
    (S.LOGIN, REPLIED, "5.7.8", (), "", "password", "RFC 4954, 6", WRONG_LOGIN),
    (S.LOGIN, REPLIED, "535", (), "", "password", "RFC 4954, 6", WRONG_LOGIN),
    (S.LOGIN, REPLIED, "526", ("authentication failure",), "", "password", "Alibaba Mail: the reply's own words", WRONG_LOGIN),
    (S.LOGIN, REPLIED, "432", (), "", "", "RFC 4954, 6", "The server wants this account's password to be set again before it takes a login: ask its administrator."),
    (S.LOGIN, REPLIED, "4", TOO_MANY, "", "", "Gmail, SMTP error codes: 454 4.7.0", "The provider saw too many logins of this account: wait, and check that no other device tries a wrong password."),
    (S.LOGIN, REPLIED, "4", (), "", "", "RFC 4954, 6", "The server cannot check logins right now: nothing is to be changed; try again in some minutes."),
    (S.LOGIN, REPLIED, "5", (), "", "", "RFC 5321, 4.2.1", "The server refuses the login and does not judge the password: its answer says why. Ask its administrator."),
    (S.LOGIN, P.SILENT, "", (), "", "", "", "The server fell silent at the login, as some do when they refuse it and others when they are busy: ask its administrator whether it allows this way of signing in (SMTP AUTH)."),
    (S.LOGIN, P.CLOSED, "", (), "", "", "", "The server closed the connection at the login, as some do when they refuse it and others when they are busy: ask its administrator whether it allows this way of signing in (SMTP AUTH)."),
    (S.LOGIN, "", "", (), "", "", "", "The connection with {host} broke at the login: the reason is above."),

    ("", P.TOO_LARGE, "", (), "", "", "RFC 1870, 6", TOO_LARGE),
    # A reply that judges the sender's address names its field. Any other 5xx may be a policy, which no field changes.
    (S.SENDER, P.ANSWER, "530", STARTTLS, "clear", "security", "RFC 3207, 4", WANTS_TLS),
    (S.SENDER, P.ANSWER, "451", STARTTLS, "clear", "security", "Microsoft 365: 451 5.7.3", WANTS_TLS),
    (S.SENDER, P.ANSWER, "530", (), "relay", "sign_in", "RFC 4954, 6", LOGIN_FIRST),
    (S.SENDER, P.ANSWER, "5.7.57", (), "relay", "sign_in", "Microsoft, Exchange Online: 5.7.57", LOGIN_FIRST),
    (S.SENDER, P.ANSWER, "5", NO_AUTH, "relay", "sign_in", "RFC 4954, 6: the reply's own words", LOGIN_FIRST),
    (S.SENDER, P.ANSWER, "552", (), "", "", "RFC 1870, 6", TOO_LARGE),
    (S.SENDER, P.ANSWER, "5.3.4", (), "", "", "RFC 3463, 3.4", TOO_LARGE),
    (S.SENDER, P.ANSWER, "5.1.7", (), "", "sender", "RFC 3463, 3.2", SENDER_REFUSED),
    (S.SENDER, P.ANSWER, "5.1.8", (), "", "sender", "RFC 3463, 3.2", SENDER_REFUSED),
    (S.SENDER, P.ANSWER, "5.7.60", (), "", "sender", "Microsoft, Exchange Online: 5.7.60", SENDER_REFUSED),
    (S.SENDER, P.ANSWER, "553", (), "", "sender", "RFC 5321, 4.2.3", SENDER_REFUSED),
    (S.SENDER, P.ANSWER, "", OWNED, "", "sender", "Postfix, reject_sender_login_mismatch: the reply's own words", SENDER_REFUSED),
    (S.SENDER, P.ANSWER, "5", (), "", "", "", "The server does not begin a mail from {mail_from}: its answer says why. Ask its administrator."),
    (S.SENDER, "", "", (), "", "", "", LATER),

    # The sender before the recipient, since many servers judge both here. The rows of a relay without a login come next: "relaying
    # denied" means the login there, and the recipient anywhere else.
    (S.RECIPIENT, P.ANSWER, "5.7.60", (), "", "sender", "Microsoft, Exchange Online: 5.7.60", SENDER_REFUSED),
    (S.RECIPIENT, P.ANSWER, "5.1.7", (), "", "sender", "RFC 3463, 3.2", SENDER_REFUSED),
    (S.RECIPIENT, P.ANSWER, "5.1.8", (), "", "sender", "RFC 3463, 3.2", SENDER_REFUSED),
    (S.RECIPIENT, P.ANSWER, "", OWNED, "", "sender", "Postfix, smtpd_delay_reject: the sender is judged here", SENDER_REFUSED),
    (S.RECIPIENT, P.ANSWER, "530", (), "relay", "sign_in", "RFC 4954, 6", LOGIN_FIRST),
    (S.RECIPIENT, P.ANSWER, "5", RELAY, "relay", "sign_in", "RFC 4954, 6; Postfix, Exim, qmail: the reply's own words", LOGIN_FIRST),
    (S.RECIPIENT, P.ANSWER, "454", RELAY, "relay", "sign_in", "Postfix, relay_domains_reject_code", LOGIN_FIRST),
    (S.RECIPIENT, P.ANSWER, "5.7.54", (), "relay", "sign_in", "Microsoft, Exchange Online: 5.7.54", LOGIN_FIRST),
    (S.RECIPIENT, P.ANSWER, "5", ("relay", "rcpthosts"), "", "", "Postfix, Exim, qmail: the reply's own words", "The server does not pass mail of this account on to this recipient: ask its administrator to allow it."),
    (S.RECIPIENT, P.ANSWER, "552", (), "", "", "RFC 5321, 4.2.3", MAILBOX_FULL),
    (S.RECIPIENT, P.ANSWER, "5.2.2", (), "", "", "RFC 3463, 3.3", MAILBOX_FULL),
    (S.RECIPIENT, P.ANSWER, "5.2.1", (), "", "", "RFC 3463, 3.3", MAILBOX_FULL),
    (S.RECIPIENT, P.ANSWER, "client", (), "", "", "scope.WORDS", NOT_FROM_HERE),
    (S.RECIPIENT, P.ANSWER, "again", (), "", "", "scope.WORDS", RECIPIENT_DEFERRED),
    (S.RECIPIENT, P.ANSWER, "5", (), "", "", "RFC 5321, 4.2.1", "The server does not take mail for this recipient: check the address on the page Recipients, or ask the server's administrator."),
    (S.RECIPIENT, "", "", (), "", "", "", RECIPIENT_DEFERRED),

    # Exchange judges the sender as late as here.
    (S.CONTENT, P.ANSWER, "552", (), "", "", "RFC 5321, 4.2.3", TOO_LARGE),
    (S.CONTENT, P.ANSWER, "5.3.4", (), "", "", "RFC 3463, 3.4", TOO_LARGE),
    (S.CONTENT, P.ANSWER, "5.7.60", (), "", "sender", "Microsoft, Exchange Online: 5.7.60", SENDER_REFUSED),
    (S.CONTENT, P.ANSWER, "5.2.252", (), "", "sender", "Microsoft, Exchange Online: SendAsDenied", SENDER_REFUSED),
    (S.CONTENT, P.ANSWER, "5", OWNED, "", "sender", "Microsoft, Exchange: the reply's own words", SENDER_REFUSED),
    (S.CONTENT, P.ANSWER, "5.1.8", (), "", "", "Microsoft, Exchange Online: bad outbound sender", LIMIT_REACHED),
    (S.CONTENT, P.ANSWER, "client", (), "", "", "scope.WORDS", NOT_FROM_HERE),
    (S.CONTENT, P.ANSWER, "again", (), "", "", "scope.WORDS", MAIL_DEFERRED),
    (S.CONTENT, P.ANSWER, "5", (), "", "", "RFC 5321, 4.2.1", "The server refuses the mail itself: its answer says why. Ask its administrator."),
    (S.CONTENT, "", "", (), "", "", "", MAIL_DEFERRED),
    # Matches everything, so that there always is a sentence.
    ("", "", "", (), "", "", "", "The mail did not go out; the server's answer above is all that is known."),
))  # fmt: skip

# For a certificate's problem, with the certificate's own values.
CLOSER: dict[str, str] = {
    SmtpProblem.EXPIRED: "The mail server's certificate was valid until {ends}, and the device's clock says {clock}: ask the server's administrator for a new one, or set the device's clock if it is wrong.",
    SmtpProblem.NOT_YET_VALID: "The mail server's certificate is valid from {begins} on, and the device's clock says {clock}: set the device's clock.",
    SmtpProblem.OTHER_NAME: "The mail server's certificate is for another name than {host}: {names}.",
    SmtpProblem.UNKNOWN_AUTHORITY: "The device does not know the authority that issued the certificate of {host} ({issuer}): if it is one of your own, give it under “Advanced” (“{trust_ca}”).",
    SmtpProblem.ISSUER_MISSING: "{host} shows its certificate without that of the issuer ({issuer}), which the device does not know: either the server leaves it out, and its administrator can add it, or the issuer is an authority of your own, which you can give under “Advanced” (“{trust_ca}”).",
}  # fmt: skip
# For a chain of several whose last issuer the device does not know: the server left nothing out but perhaps the root.
CHAIN_ENDS = "The certificates that {host} shows end at {last}, which the device does not know: if it is an authority of your own, give it under “Advanced” (“{trust_ca}”)."
# For a chain of several without the issuer of the first.
CHAIN_BROKEN = "{host} does not show the certificate of its issuer ({issuer}), but others: ask its administrator to install the chain that came with the certificate."
# A trusted key whose certificate is out of its dates: mail goes on.
PINNED_ENDED = "The certificate of {host} ended on {day}. Its key is trusted, so mail goes on: have the server's administrator renew it."
PINNED_BEGINS = "The certificate of {host} is valid from {day} on, by the device's clock. Its key is trusted, so mail goes on: check the device's clock."

# Mail addresses and URLs, whose parts are no words of the server.
ADDRESS = re.compile(r"<[^>]*>|\S*(?:@|://)\S*")
# RFC 5321, section 4.2, and RFC 3463, section 2: both codes have the same class. Some servers put the enhanced code at
# the end, as "(#5.7.1)".
REPLY = re.compile(r"(([2-5])[0-9]{2})(?![0-9])(?:.*?\b(\2\.[0-9]{1,3}\.[0-9]{1,3})(?![.0-9]))?")


def advise(
    step: str,
    problem: str,
    reply: Text,
    settings: SmtpSettings,
    now: str,
    chain: Sequence[Certificate] = (),
) -> Advice:
    """Return the first row of `ADVICE` that matches, for a device whose clock shows `now`; `chain` is what the server showed."""
    values: dict[str, object] = {
        "host": settings.host,
        "port": settings.port,
        "mail_from": settings.mail_from,
        "clock": now,
        "protocol": _protocol(str(reply)),
        "offered": reply.values.get("offered", reply) if isinstance(reply, Message) else reply,
        **CHOICE_WORDS,
    }
    row = _row(step, problem, str(reply), settings)
    name, sentence = row.field, row.sentence
    if chain and problem in CLOSER and step == Step.CERTIFICATE and sentence != OTHER_AUTHORITY:
        is_long = problem == SmtpProblem.ISSUER_MISSING and len(chain) > 1
        sentence = CHAIN_ENDS if is_long else CLOSER[problem]
        if is_long and chain[0].issuer not in (each.subject for each in chain[1:]):
            # No setting helps: the authority may be one that the device knows.
            name, sentence = "", CHAIN_BROKEN
        values |= _values(chain, settings.host)
        # A change of the host cannot help when the certificate has no name at all.
        name = name if chain[0].names or problem != SmtpProblem.OTHER_NAME else ""
    field = FIELD_OF[name](settings) if name in FIELD_OF else name
    # Only the values that the sentence shows: the message crosses the hook's socket and is stored with the mail.
    return Advice(field, Message(sentence, **{each: values[each] for each in values if f"{{{each}}}" in sentence}))


def _row(step: str, problem: str, reply: str, settings: SmtpSettings) -> Row:
    # Exchange has this word in the names of its exceptions, which look like a host's.
    words = ADDRESS.sub(" ", reply.lower().replace("sendasdenied", " sendas ").replace("_", " "))
    codes = _codes(reply)
    return next(
        row
        for row in ADVICE
        if row.step in ("", step)
        and (row.problem in ("", problem) or (row.problem == REPLIED and problem in WITH_REPLY))
        and (row.reply in codes or (not row.reply[:1].isdecimal() and reply.startswith(row.reply)))
        and (
            not row.says
            # At the beginning of a word that is no part of a host's name: "auth.example.com" does not speak of a login.
            or re.search(
                rf"(?<![\w.-])(?:{'|'.join(map(re.escape, row.says))})(?!\w*\.\w)",
                words,
            )
        )
        and GIVEN[row.given](settings)
    )


def _codes(reply: str) -> tuple[str, ...]:
    """Return what a row can say of the codes of a reply; nothing for a text that is none."""
    found = REPLY.match(reply)
    if found is None:
        return ()
    code, _, enhanced = found.groups()
    plain = (code[0], code, detail_of(reply) if code[0] == "5" else "")
    return (*plain, enhanced, f"{code} {enhanced}") if enhanced else plain


def _protocol(reply: str) -> str:
    """Return the protocol that a server's first words belong to; those with a reply code are FTP's or NNTP's."""
    return next(
        (name for begins, name in PROTOCOLS.items() if reply.startswith(begins)),
        "NNTP" if reply.startswith("20") else "FTP",
    )


def warn(certificates: Sequence[InUse], settings: SmtpSettings, now: float) -> Text:
    """Return a warning of a trusted key whose certificate is out of its dates at `now` (seconds since 1970), ``""`` of
    any other."""
    for each in certificates if settings.trust == "pin" else ():
        if each.ends < now:
            return Message(PINNED_ENDED, host=settings.host, day=_day(each.ends))
        if now < each.begins:
            return Message(PINNED_BEGINS, host=settings.host, day=_day(each.begins))
    return ""


def _values(chain: Sequence[Certificate], host: str) -> dict[str, Text]:
    return {
        "names": _describe_names(chain[0], host),
        "begins": _minute(chain[0].begins),
        "ends": _minute(chain[0].ends),
        "issuer": chain[0].issuer,
        "last": chain[-1].issuer,
    }


def _describe_names(certificate: Certificate, host: str) -> Message:
    names = certificate.names
    listed = ", ".join(names)
    if not names:
        return Message("it has no name at all, so ask the server's administrator for a new one")
    if _is_address(host) and certificate.is_common_name:
        # RFC 9525, section 6.3: an address is compared with a subjectAltName of that kind alone; OpenSSL does the same.
        return Message(
            "it has only the common name {listed}, which does not count for an address: type a name that the device can look up as SMTP Host, or under “Advanced” trust its key",
            listed=listed,
        )
    if _is_address(host) and not any(map(_is_address, names)):
        return Message("it has the names {listed} and no address: type one of them as SMTP Host", listed=listed)
    if not _is_address(host) and all(map(_is_address, names)):
        return Message("it is for the address {listed}: type that as SMTP Host", listed=listed)
    if any(name.startswith("*.") for name in names):
        return Message(
            "it has the names {listed}: type one of them as SMTP Host, with a word in place of *",
            listed=listed,
        )
    if len(names) == 1:
        return Message("it has the name {listed}: type that as SMTP Host", listed=listed)
    return Message("it has the names {listed}: type one of them as SMTP Host", listed=listed)


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        return False


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M %z}"
