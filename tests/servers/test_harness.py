"""The mail server which other tests rely on does what it promises."""

from __future__ import annotations

import base64
import datetime
import os
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .authority import Authority, Certificate
from .postfix import MailServer

ACCOUNTS = {
    "lamp@example.org": "secret",
    "printable": "".join(map(chr, range(0x20, 0x7F))),
    "smörgås": "grüße €😀",
}
NAMES = ["localhost", "127.0.0.1", "::1"]
MAIL = b"From: lamp@example.org\r\nSubject: %s\r\n\r\n.dot\r\n"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("Test authority")


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    folder = tmp_path_factory.mktemp("mail")
    with MailServer(folder=folder, certificate=authority.issue(NAMES), accounts=ACCOUNTS) as running:
        yield running


def strict(authority: Authority) -> ssl.SSLContext:
    """A verifying context, as strict as Python 3.13's own."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def connect(port: int, host: str = "localhost") -> smtplib.SMTP:
    # With a name of its own the client asks no name server for one.
    return smtplib.SMTP(host, port, local_hostname="client.example.test", timeout=10)


def connect_starttls(server: MailServer, authority: Authority) -> smtplib.SMTP:
    client = connect(server.submission_port)
    client.starttls(context=strict(authority))
    client.ehlo()
    return client


def connect_tls(server: MailServer, authority: Authority, host: str = "localhost") -> smtplib.SMTP_SSL:
    name = "client.example.test"
    return smtplib.SMTP_SSL(host, server.tls_port, name, timeout=10, context=strict(authority))


def auth_plain(client: smtplib.SMTP, login: str, password: str) -> int:
    """Log in by PLAIN, in UTF-8 which smtplib's own login refuses; return the status."""
    response = base64.b64encode(f"\0{login}\0{password}".encode()).decode()
    return client.docmd("AUTH", f"PLAIN {response}")[0]


def auth_login(client: smtplib.SMTP, login: str, password: str) -> int:
    """Log in by LOGIN; return the status."""
    client.user, client.password = login, password
    return client.auth("LOGIN", client.auth_login)[0]


def test_starttls_and_plain_deliver(server: MailServer, authority: Authority) -> None:
    count = len(server.mails())
    with connect_starttls(server, authority) as client:
        assert auth_plain(client, "lamp@example.org", "secret") == 235
        client.sendmail("lamp@example.org", ["me@elsewhere.test"], MAIL % b"one")
    mail = server.wait_for(count + 1)[-1]
    assert mail.startswith(b"Return-Path: <lamp@example.org>\nX-Original-To: me@elsewhere.test\n")
    assert mail.endswith((MAIL % b"one").replace(b"\r\n", b"\n"))


def test_tls_port_and_login_deliver(server: MailServer, authority: Authority) -> None:
    count = len(server.mails())
    with connect_tls(server, authority) as client:
        assert auth_login(client, "lamp@example.org", "secret") == 235
        client.sendmail("lamp@example.org", ["me@elsewhere.test"], MAIL % b"two")
    assert b"Subject: two\n" in server.wait_for(count + 1)[-1]


def test_relay_port_takes_mail_without_login_or_tls(server: MailServer) -> None:
    count = len(server.mails())
    with connect(server.relay_port) as client:
        client.sendmail("lamp@example.org", ["a@one.test", "b@two.test", "c@[192.0.2.1]"], MAIL % b"three")
        assert not client.has_extn("starttls")
        assert not client.has_extn("auth")
    assert len(server.wait_for(count + 3)) == count + 3


def test_mails_are_in_order_of_arrival(server: MailServer) -> None:
    count = len(server.mails())
    subjects = [b"order %d" % number for number in range(20)]
    with connect(server.relay_port) as client:
        for subject in subjects:
            client.sendmail("lamp@example.org", ["me@elsewhere.test"], MAIL % subject)
    mails = server.wait_for(count + len(subjects))[count:]
    assert [mail.partition(b"Subject: ")[2].partition(b"\n")[0] for mail in mails] == subjects


def test_wait_for_gives_up_and_shows_the_log(server: MailServer) -> None:
    with pytest.raises(TimeoutError, match="daemon started"):
        server.wait_for(len(server.mails()) + 1, seconds=0.05)


def test_wrong_password_is_refused_and_counted(server: MailServer, authority: Authority) -> None:
    count = len(server.logins())
    with connect_starttls(server, authority) as client:
        assert auth_plain(client, "lamp@example.org", "Secret") == 535
        assert auth_plain(client, "nobody", "secret") == 535
        assert auth_plain(client, "lamp@example.org", "secret") == 235
    expected = [("lamp@example.org", False), ("nobody", False), ("lamp@example.org", True)]
    assert server.logins()[count:] == expected


@pytest.mark.parametrize("login", ACCOUNTS)
def test_any_password_works(server: MailServer, authority: Authority, login: str) -> None:
    with connect_tls(server, authority) as client:
        assert auth_plain(client, login, ACCOUNTS[login] + "x") == 535
        assert auth_plain(client, login, ACCOUNTS[login]) == 235
    assert server.logins()[-2:] == [(login, False), (login, True)]


def test_submission_refuses_mail_without_login(server: MailServer, authority: Authority) -> None:
    with connect_starttls(server, authority) as client:
        assert client.has_extn("auth")
        assert client.mail("lamp@example.org")[0] == 250
        assert client.rcpt("me@elsewhere.test")[0] == 554


def test_submission_wants_tls_first(server: MailServer) -> None:
    with connect(server.submission_port) as client:
        client.ehlo()
        assert client.has_extn("starttls")
        assert not client.has_extn("auth")
        assert auth_plain(client, "lamp@example.org", "secret") == 530
        assert client.mail("lamp@example.org")[0] == 530


def test_recipients_can_be_refused(server: MailServer) -> None:
    with connect(server.relay_port) as client:
        client.ehlo()
        client.mail("lamp@example.org")
        assert client.rcpt("refused@one.test")[0] == 550
        assert client.rcpt("Later@two.test")[0] == 450
        assert client.rcpt("else@two.test")[0] == 250


def test_without_starttls_none_is_offered(authority: Authority, tmp_path: Path) -> None:
    certificate = authority.issue(NAMES)
    with MailServer(
        folder=tmp_path, certificate=certificate, accounts=ACCOUNTS, mechanisms="login", starttls=False
    ) as server:
        with connect(server.submission_port) as client:
            client.ehlo()
            assert not client.has_extn("starttls")
            assert client.esmtp_features["auth"].split() == ["LOGIN"]
            assert auth_login(client, "lamp@example.org", "secret") == 235


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_certificate_holds_for_each_name(server: MailServer, authority: Authority, host: str) -> None:
    with connect_tls(server, authority, host) as client:
        assert client.noop()[0] == 250


def long_ago(authority: Authority) -> Certificate:
    day = datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC)
    return authority.issue(NAMES, not_after=day)


def not_yet(authority: Authority) -> Certificate:
    return authority.issue(NAMES, not_before=datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1))


BAD: list[tuple[Callable[[Authority], Certificate], str]] = [
    (lambda authority: authority.issue(["other.test"]), "Hostname mismatch"),
    (lambda authority: Authority("Test authority").issue(NAMES), "unable to get local issuer"),
    (long_ago, "certificate has expired"),
    (not_yet, "not yet valid"),
]


@pytest.mark.parametrize(("issue", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_bad_certificate_fails_for_its_reason(
    authority: Authority, tmp_path: Path, issue: Callable[[Authority], Certificate], reason: str
) -> None:
    with MailServer(folder=tmp_path, certificate=issue(authority), accounts={}) as server:
        with pytest.raises(ssl.SSLCertVerificationError, match=reason):
            connect_tls(server, authority)


def processes_in(folder: Path) -> list[str]:
    """The processes at work below `folder`, seen from outside the harness."""
    return [pid for pid in os.listdir("/proc") if pid.isdigit() and working_folder(pid).startswith(str(folder))]


def working_folder(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""  # gone meanwhile


def test_nothing_is_left_after_the_exit(authority: Authority, tmp_path: Path) -> None:
    with MailServer(folder=tmp_path, certificate=authority.issue(NAMES), accounts=ACCOUNTS) as server:
        with connect_tls(server, authority) as client:
            auth_plain(client, "smörgås", "wrong")
        with connect(server.relay_port) as client:
            client.sendmail("lamp@example.org", ["me@elsewhere.test"], MAIL % b"last")
        server.wait_for(1)
        home = server.home
        assert processes_in(home)
        assert set(processes_in(home)) <= set(map(str, server.processes()))
    assert processes_in(home) == []
    assert server.processes() == []
    assert not home.exists()
    for port in (server.submission_port, server.tls_port, server.relay_port):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_the_record_outlives_the_server(authority: Authority, tmp_path: Path) -> None:
    with MailServer(folder=tmp_path, certificate=authority.issue(NAMES), accounts=ACCOUNTS) as server:
        with connect_tls(server, authority) as client:
            auth_plain(client, "smörgås", "wrong")
            auth_plain(client, "printable", ACCOUNTS["printable"])
            client.sendmail("lamp@example.org", ["me@elsewhere.test"], MAIL % b"last")
        server.wait_for(1)
    assert server.logins() == [("smörgås", False), ("printable", True)]
    assert len(server.mails()) == 1
    assert "status=sent" in server.log()
    assert server.home.parent == tmp_path


def test_a_failed_start_leaves_nothing(authority: Authority, tmp_path: Path) -> None:
    server = MailServer(folder=tmp_path, certificate=authority.issue(NAMES), accounts={}, mechanisms="bogus")
    with pytest.raises(RuntimeError, match="Unknown authentication mechanism 'BOGUS'"), server:
        pass
    assert server.processes() == []
    assert server.home.parent == tmp_path


def test_other_users_are_told_to_be_root(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    server = MailServer(folder=tmp_path, certificate=authority.issue(NAMES), accounts={})
    with pytest.raises(RuntimeError, match="root"), server:
        pass
