"""Situations of public reports, played by a scripted server: the field that is named helps, or none is named."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from device_ui.mail.smtp.test_run import RunResult
from tests.mail.smtp.test_test_run import try_out
from tests.servers import scripted
from tests.servers.authority import Certificates
from tests.servers.scripted import ScriptedServer

HOST = "mail.example.test"
RELAY: dict[str, Any] = {"sign_in": "none"}
PROVIDER: dict[str, Any] = {"sign_in": "provider", "from_address": "nas@example.test"}


@dataclass(frozen=True)
class Case:
    """A server's `script`, the `settings` of the device, the `named` field ("": none) and words of the advice."""

    script: dict[str, Any]
    named: str
    words: str
    settings: dict[str, Any] = field(default_factory=dict)
    server: dict[str, Any] = field(default_factory=dict)


def login(answer: Any, named: str, words: str, **settings: Any) -> Case:
    return Case({"AUTH": answer}, named, words, settings)


CASES = {
    # Logins.
    "email-oauth2-proxy#193": login(
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit "
        "https://aka.ms/smtp_auth_disabled for more information. [MN2PR05CA0004.namprd05.prod.outlook.com]",
        "",
        "have its administrator allow SMTP AUTH",
    ),
    "mailR#107, rallly#3154": login(
        "535 5.7.139 Authentication unsuccessful, basic authentication is disabled. [BM1P287CA0015]",
        "sign_in",
        "no longer takes a login by password",
    ),
    "gophish#3220": login(
        "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated "
        "successfully. Contact your administrator.",
        "",
        "have its administrator allow SMTP AUTH",
    ),
    "Exchange team blog 4114750": login(
        "550 5.7.30 Basic authentication is not supported for Client Submission.",
        "sign_in",
        "no longer takes a login by password",
    ),
    "MailKit#700, magento-2-smtp#108": login(
        "535 5.7.3 Authentication unsuccessful [BN3PR03CA0067.namprd03.prod.outlook.com]",
        "password",
        "type SMTP Account",
    ),
    "gophish#1869": login(
        "535-5.7.8 Username and Password not accepted. Learn more at\r\n"
        "535 5.7.8 https://support.google.com/mail/?p=BadCredentials d4sm5441686pgf.9 - gsmtp",
        "password",
        "type SMTP Account Password again",
    ),
    "PHPMailer#2034, nodemailer#1112": login("535 5.7.0 (#AUTH005) Too many bad auth attempts.", "", "too many logins"),
    "nodemailer#1388, gophish#1836": login(
        "454 4.7.0 Too many login attempts, please try again later. - gsmtp", "", "too many logins"
    ),
    "Gmail: app password": login(
        "534-5.7.9 Application-specific password required. Learn more at\r\n"
        "534 5.7.9  https://support.google.com/mail/?p=InvalidSecondFactor - gsmtp",
        "password",
        "make an app password",
    ),
    "Gmail: log in via the web": login(
        "534-5.7.14 <https://accounts.google.com/signin/continue?sarp=1> Please log in via\r\n"
        "534-5.7.14 your web browser and then try again.\r\n534 5.7.14  Learn more at - gsmtp",
        "",
        "with a browser",
    ),
    "RFC 4954: mechanism too weak": login("534 5.7.9 Authentication mechanism is too weak", "", "stronger ways"),
    "RFC 4954: password transition": login(
        "432 4.7.12 A password transition is needed", "", "password to be set again"
    ),
    "RFC 4954: temporary failure": login("454 4.7.0 Temporary authentication failure", "", "cannot check logins"),
    "RFC 5248: account disabled": login("525 5.7.13 User account disabled", "account", "switched off"),
    "RFC 4954: encryption required, in the clear": login("538 5.7.11 Encryption required", "security", "wants TLS"),
    "stunnel: TLS wanted inside TLS": Case(
        {"AUTH": "530 5.7.0 Must issue a STARTTLS command first"},
        "",
        "does not judge the password",
        {"security": "tls"},
    ),
    "stunnel: encryption wanted inside TLS": Case(
        {"AUTH": "538 5.7.11 Encryption required"}, "", "does not judge the password", {"security": "tls"}
    ),
    "OpenSMTPD#65": login(
        "535 5.7.8 Error: authentication failed: Connection lost to authentication server", "", "is busy right now"
    ),
    "docker-mailserver#1436": login("535 5.7.8 Error: authentication failed: generic failure", "", "is busy right now"),
    "chatmail/relay#441": login(
        "454 4.7.0 Temporary authentication failure: Connection lost to authentication server", "", "right now"
    ),
    "Postfix with Dovecot, Namecheap": login(
        "535 5.7.8 Error: authentication failed: (reason unavailable)", "password", "type SMTP Account Password again"
    ),
    "MailWatch#1086": login(
        "535 5.7.8 Error: authentication failed: authentication failure", "password", "type SMTP Account Password again"
    ),
    "canal#554: Alibaba Mail": login("526 Authentication failure[0]", "password", "type SMTP Account Password again"),
    "Microsoft 365, wrong password": login(
        "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect.",
        "password",
        "type SMTP Account Password again",
    ),
    "Mail.ru": login(
        "535 5.7.0 NEOBHODIM parol prilozheniya https://help.mail.ru/mail/security/protection/external / "
        "Application password is REQUIRED",
        "password",
        "make an app password",
    ),
    "QQ": login("535 Login Fail. Please enter your authorization code to login.", "password", "make an app password"),
    "Yandex": login(
        "535 5.7.8 Error: authentication failed: This user does not have access rights to this service", "", "SMTP AUTH"
    ),
    "mail-provider#6, 12306#62": login("550 User has no permission", "", "does not judge the password"),
    "sandstorm#2876": login("502 5.5.2 Syntax error, command unrecognized.", "", "does not judge the password"),
    "Exchange: 504": login("504 5.7.4 Unrecognized authentication type", "", "does not take the way of signing in"),
    "Postfix: no SASL": login("503 5.5.1 Error: authentication not enabled", "", "does not judge the password"),
    "closed at the login": login(scripted.close, "", "others when they are busy"),
    "alertmanager#2723, MailKit#1932, nodemailer#189": Case(
        {}, "", "it offers NTLM GSSAPI", server={"features": ("AUTH NTLM GSSAPI",)}
    ),
    "a server with CRAM-MD5 only": Case({}, "", "it offers CRAM-MD5", server={"features": ("AUTH CRAM-MD5",)}),
    "MailKit#1770": Case({}, "sign_in", "but an OAuth 2.0 token", server={"features": ("AUTH XOAUTH2",)}),
    "a relay without logins": Case({}, "sign_in", "offers no login", server={"features": ("SIZE 100000",)}),
    # The sender.
    "email-oauth2-proxy#315, without a login": Case(
        {"MAIL": "530 5.7.57 Client not authenticated to send mail. [YQBPR0101CA0294]"},
        "sign_in",
        "wants a login",
        RELAY,
    ),
    "email-oauth2-proxy#315, with a login": Case(
        {"MAIL": "530 5.7.57 Client not authenticated to send mail. [YQBPR0101CA0294]"}, "", "its answer says why"
    ),
    "sendgrid/docs#6473": Case({"MAIL": "550 Unauthenticated senders not allowed"}, "sign_in", "wants a login", RELAY),
    "dokuwiki-plugin-smtp#38": Case(
        {"MAIL": "553 5.7.1 Sender address rejected: not owned by auth user."}, "from_address", "send as nas@", PROVIDER
    ),
    "espoofer#15": Case(
        {
            "MAIL": "553 5.7.1 [TSS07] Connections will not be accepted from 192.0.2.1, because the ip is in Spamhaus's list"
        },
        "",
        "on a list",
    ),
    "SIZE": Case({"MAIL": "552 5.3.4 Message size exceeds fixed limit"}, "", "larger than the server takes"),
    "outline#7929: Alibaba": Case(
        {"MAIL": "440 mail from account doesn't conform with authentication (Auth Account:a|Mail Account:b)"},
        "from_address",
        "send as nas@",
        PROVIDER,
    ),
    "protonmail-bridge-docker#28": Case(
        {"MAIL": "451 4.0.0 backend: invalid return path: not owned by user"}, "from_address", "send as nas@", PROVIDER
    ),
    "linux-remote-desktop#5: Mail.ru": Case(
        {"MAIL": "550 not local sender over smtp"}, "from_address", "send as nas@", PROVIDER
    ),
    "sport-portal#462: GMX": Case(
        {"MAIL": "550-Requested action not taken: mailbox unavailable\r\n550 Sender address is not allowed."},
        "from_address",
        "send as nas@",
        PROVIDER,
    ),
    "apiman#2090, vmPing#73": Case(
        {"MAIL": "451 5.7.3 STARTTLS is required to send mail [A.PROD.OUTLOOK.COM]"},
        "security",
        "wants TLS",
        {"security": "none", **RELAY},
    ),
    # A limit, or the account.
    "AVideo#7527": Case(
        {"content": "552 C13yp Message would take you over your relay quota of 500 Current quota used: 487"},
        "",
        "limit",
    ),
    "nodemailer#1137": Case(
        {"RCPT": "550 User a@example.com has exceeded its 24-hour sending limit. Relay quota will reset in 21 hours"},
        "",
        "limit",
        RELAY,
    ),
    "gen_smtp#140": Case({"content": "550 5.4.5 Daily user sending quota exceeded. x - gsmtp"}, "", "limit"),
    "OfficeDocs-o365seccomp#643": Case({"content": "550 5.1.8 Access denied, bad outbound sender"}, "", "blocked"),
    "nodemailer#1555: GMX": Case(
        {
            "RCPT": "550-Requested action not taken: mailbox unavailable\r\n550 Failure sending mail. Try again later",
        },
        "",
        "tried again by itself",
    ),
    "grav-plugin-email#77: Zoho": Case(
        {"content": "553 Relaying disallowed as test@gmail.com"}, "from_address", "send as nas@", PROVIDER
    ),
    "Fastmail": Case(
        {"content": "551 5.7.1 Not authorised to send from this header address"}, "from_address", "send as", PROVIDER
    ),
    "outline#7980": Case(
        {"RCPT": "553 5.7.0 Unauthorized use of sender address (msg ID = x)"}, "from_address", "send as", PROVIDER
    ),
    "Mailu#2599": Case(
        {
            "content": "550-5.7.1 [192.0.2.7] The IP you're using to send mail is not authorized to\r\n"
            "550 5.7.1 send email directly to our servers."
        },
        "",
        "on a list",
    ),
    "docker-mailserver#2066": Case(
        {
            "RCPT": "550 5.7.23 <a@b.example>: Recipient address rejected: Message rejected due to: SPF fail - not authorized."
        },
        "",
        "(SPF)",
        RELAY,
    ),
    "invoiceninja#2653: Amazon SES": Case(
        {"content": "554 Message rejected: Email address is not verified. The following identities failed the check"},
        "",
        "from this account",
    ),
    # A recipient.
    "docker-mailserver#19, docker-mailserver#385": Case(
        {"RCPT": "554 5.7.1 <one@example.test>: Relay access denied"}, "sign_in", "wants a login", RELAY
    ),
    "mattermost forum 331": Case(
        {"RCPT": "454 4.7.1 <one@example.test>: Relay access denied"}, "sign_in", "wants a login", RELAY
    ),
    "Postfix of Debian, submission": Case(
        {"RCPT": "554 5.7.1 <one@example.test>: Recipient address rejected: Access denied"},
        "",
        "only after a login, or not at all",
        RELAY,
    ),
    "Exim of Debian": Case({"RCPT": "550 relay not permitted"}, "sign_in", "wants a login", RELAY),
    "qmail": Case(
        {"RCPT": "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"},
        "sign_in",
        "wants a login",
        RELAY,
    ),
    "nodemailer#1480": Case({"RCPT": "550 5.7.1 Relaying denied."}, "", "does not pass mail of this account on"),
    "a recipient called relay": Case(
        {"RCPT": "550 5.1.1 <relay@login.example.test>: Recipient address rejected: User unknown"},
        "",
        "Recipients",
        RELAY,
    ),
    "docker-mailserver#3824, mailcow#241": Case(
        {"RCPT": "553 5.7.1 <root@mail2.example.com>: Sender address rejected: not owned by user relay@example.com"},
        "from_address",
        "send as nas@",
        PROVIDER,
    ),
    "Mailspring#1054, postee#602, postal#19": Case(
        {"RCPT": "504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname"}, "", "mail.helo_name"
    ),
    "email-validator-js#100, pam_aad#35": Case(
        {"RCPT": "550 5.7.1 Service unavailable, Client host [192.0.2.1] blocked using Spamhaus."}, "", "on a list"
    ),
    "Mailu#656": Case(
        {"RCPT": "554 5.7.1 <alarm@example.com>: Sender address rejected: Access denied"},
        "",
        "only after a login, or not at all",
        RELAY,
    ),
    "sisimai#77: Exchange Online, no such recipient": Case(
        {"RCPT": "550 5.4.1 [r1@example.com]: Recipient address rejected: Access denied"}, "", "Recipients", RELAY
    ),
    "docker-mailserver#359, without a login": Case(
        {"RCPT": "554 5.7.1 <unknown[192.0.2.7]>: Client host rejected: Access denied"},
        "",
        "only after a login, or not at all",
        RELAY,
    ),
    "mattermost#1012, modoboa#2311, docker-mailserver#359": Case(
        {"RCPT": "554 5.7.1 <unknown[192.0.2.7]>: Client host rejected: Access denied"}, "", "refuses connections from"
    ),
    "a full mailbox": Case({"RCPT": "552 5.2.2 Mailbox full"}, "", "full or switched off"),
    "an unknown recipient": Case({"RCPT": "550 5.1.1 User unknown"}, "", "check the address on the page Recipients"),
    # The content.
    "gophish#1600, MimeKit#647": Case(
        {"content": "550 5.7.60 SMTP; Client does not have permissions to send as this sender"},
        "from_address",
        "send as nas@",
        PROVIDER,
    ),
    "nodemailer#145, swiftmailer#835": Case(
        {"content": "550 5.7.1 Client does not have permissions to send as this sender"}, "account", "send as lamp@"
    ),
    "Exchange Online, SendAsDenied": Case(
        {
            "content": "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed to"
            " process message due to a permanent exception with message Cannot submit message."
        },
        "account",
        "send as lamp@",
    ),
    "a mail taken for spam": Case({"content": "554 5.7.1 Message rejected as spam"}, "", "its answer says why"),
    # Before.
    "helo_verify_hosts": Case({"EHLO": "550 Bad HELO - Host impersonating"}, "", "mail.helo_name"),
    "vsFTPd": Case(
        {"greeting": "220 (vsFTPd 3.0.3)", "EHLO": "530 Please login with USER and PASS."}, "port", "speaks FTP"
    ),
    "MailKit#171: POP3": Case({"greeting": "+OK POP3 ready"}, "port", "speaks POP3"),
    "MailKit#357: IMAP": Case({"greeting": "* OK Gimap ready for requests"}, "port", "speaks IMAP"),
    "SSH": Case({"greeting": "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3"}, "port", "speaks SSH"),
    "NNTP": Case({"greeting": "200 news.example.test InterNetNews NNRP server ready"}, "port", "speaks NNTP"),
    "a blank line": Case({"greeting": ""}, "", "is no SMTP greeting"),
    "no reply code": Case({"greeting": "hello, who are you?"}, "", "is no SMTP greeting"),
    "maildev#88: a reply from elsewhere": Case({"greeting": "250 2.0.0 Ok: queued"}, "", "could not be read"),
    "RFC 5321: no service here": Case({"greeting": "554 No SMTP service here"}, "host", "takes no mail at all"),
    "RFC 7504": Case({"greeting": "521 mx.example.test does not accept mail"}, "host", "takes no mail at all"),
    "FrontEnd#21: GMX": Case(
        {
            "greeting": "554-gmx.net (mxgmx017) Nemesis ESMTP Service not available\r\n554-No SMTP service\r\n"
            "554 Bad DNS PTR resource record."
        },
        "",
        "refuses connections",
    ),
    "Mailtrain#1002: Google": Case(
        {"EHLO": "421 4.7.0 Try again later, closing connection. (EHLO) a1-v6sm1 - gsmtp"}, "", "mail.helo_name"
    ),
    "mattermost#1012": Case(
        {"greeting": "554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied"}, "", "refuses connections"
    ),
    "a list at the greeting": Case({"greeting": "554 5.7.1 blocked using zen.spamhaus.org"}, "", "on a list"),
    "a busy server": Case({"greeting": "421 4.3.2 too many connections"}, "", "busy right now"),
    "closed before the greeting": Case({"greeting": scripted.close}, "", "without a word"),
}


def result_of(case: Case, certificates: Certificates, chain: Path) -> RunResult:
    tls = case.settings.get("security") == "tls"
    server = {"chain": chain, "tls_first": True} if tls else {}
    with ScriptedServer(case.script, **server, **case.server) as made:
        return try_out(made, certificates.context if tls else None, **case.settings).result


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(HOST, tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def chain(certificates):
    return certificates.chain()


@pytest.mark.parametrize("report", CASES)
def test_a_reported_fault_names_the_field_that_helps_or_none(report, certificates, chain):
    case = CASES[report]
    result = result_of(case, certificates, chain)
    assert result.field == case.named
    assert case.words in str(result.advice)


# TLS.


def test_a_firewall_that_hides_starttls_is_named(certificates):
    with ScriptedServer(features=("XXXXXXXA", "SIZE 100")) as server:
        result = try_out(server, certificates.context).result
    assert (result.problem, result.field) == ("no STARTTLS", "")
    assert "A firewall between" in str(result.advice)
    assert "XXXXXXXA" in str(result.reply)


def test_a_relay_without_tls_may_go_without_it(certificates):
    with ScriptedServer(features=("SIZE 100",)) as server:
        advice = str(try_out(server, certificates.context, sign_in="none").result.advice)
    assert "choose the connection security “No encryption” if the relay has no TLS" in advice


@pytest.mark.parametrize("answer", ["454 4.7.0 TLS not available due to local problem", "501 no", "502 no"])
def test_a_refused_starttls_names_no_field(answer, certificates, chain):
    with ScriptedServer({"STARTTLS": answer}, chain=chain) as server:
        result = try_out(server, certificates.context).result
    assert (result.step, result.field) == ("tls", "")


@pytest.mark.parametrize(
    ("greeting", "named", "words"),
    [
        (scripted.silent, "", "inside it no SMTP as far as"),  # HTTPS: the client speaks first
        ("* OK IMAP4rev1 ready", "port", "speaks IMAP"),
        ("220 FTP server (TLS)", "port", "speaks FTP"),
        ("220 mail.example.test ESMTP", "security", "expects TLS from the first byte"),
    ],
)
def test_a_port_with_tls_is_judged_by_what_is_inside(greeting, named, words, certificates, chain):
    with ScriptedServer({"greeting": greeting}, chain=chain, tls_first=True) as server:
        options = {"attempt": 3.0, "greeting": 0.3}
        result = try_out(server, certificates.context, options=options).result
    assert (result.step, result.field) == ("greeting", named)
    assert words in str(result.advice)


# Advice that is followed helps: the same server takes the mail once the named field, and nothing else, is changed.


def only_after_a_login(session, _line):
    logged_in = any(command.startswith("AUTH") for command in session.commands)
    session.say("250 ok" if logged_in else "530 5.7.0 Authentication required")


def only_from_the_account(session, line):
    session.say("250 ok" if "<lamp@example.test>" in line else "553 5.7.1 Sender address rejected: not owned by user")


def only_the_name_of_the_certificate(chain):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    refused = ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    context.sni_callback = lambda _sock, name, _context: None if name == "smtp.example.test" else refused
    return {"context": context}


@dataclass(frozen=True)
class Followed:
    """A `server` (made of a chain), the `settings` that fail with it, and the one `change` that helps."""

    settings: dict[str, Any]
    change: dict[str, Any]
    script: dict[str, Any] = field(default_factory=dict)
    server: Any = lambda chain: {"chain": chain}


FOLLOWED = {
    "TLS on a port without": Followed({"security": "tls"}, {"security": "starttls"}),
    "plain text on a port with TLS": Followed(
        {"security": "starttls"}, {"security": "tls"}, server=lambda chain: {"chain": chain, "tls_first": True}
    ),
    "no login before TLS": Followed(
        {"security": "none"}, {"security": "starttls"}, server=lambda chain: {"chain": chain, "features": ("STARTTLS",)}
    ),
    "a login is wanted": Followed(
        {"security": "starttls", "sign_in": "none"}, {"sign_in": "manual"}, {"MAIL": only_after_a_login}
    ),
    "a login is offered nowhere": Followed(
        {"security": "starttls"},
        {"sign_in": "none"},
        server=lambda chain: {"chain": chain, "features_in_tls": ("SIZE 100000",)},
    ),
    "a stranger's address": Followed(
        {"security": "starttls", "sign_in": "provider", "from_address": "nas@example.test"},
        {"from_address": "lamp@example.test"},
        {"MAIL": only_from_the_account},
    ),
    "another name in the certificate": Followed({"security": "starttls", "host": "192.0.2.1"}, {"host": HOST}),
    "a name that is not served": Followed(
        {"security": "starttls"}, {"host": "smtp.example.test"}, server=only_the_name_of_the_certificate
    ),
}


@pytest.mark.parametrize("case", FOLLOWED)
def test_advice_that_is_followed_helps(case, certificates):
    followed = FOLLOWED[case]
    server = followed.server(certificates.chain(HOST, "smtp.example.test"))
    with ScriptedServer(followed.script, **server) as made:
        options = {"options": {"greeting": 0.5}}
        before = try_out(made, certificates.context, **options, **followed.settings).result
        after = try_out(made, certificates.context, **options, **{**followed.settings, **followed.change}).result
    assert [before.field] == list(followed.change)
    assert after.verdict == "delivered"


def test_another_port_helps_where_another_protocol_is_spoken():
    with ScriptedServer({"greeting": "+OK POP3 ready"}) as wrong, ScriptedServer() as right:
        before, after = try_out(wrong).result, try_out(wrong, port=right.port).result
    assert (before.field, after.verdict) == ("port", "delivered")
