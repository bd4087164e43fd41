"""The demo's mail server: as careful as a provider's, and every mail kept and shown."""

from __future__ import annotations

import base64
import contextlib
import io
import smtplib
import socket
import ssl
import stat

import pytest

from device_ui.cli import demo_server
from device_ui.cli.demo_server import Mailbox, Server, new_password
from device_ui.mail.smtp.client import ClientOptions, SmtpClient
from device_ui.mail.smtp.connection import Timeouts
from device_ui.mail.smtp.outcome import SessionError
from device_ui.mail.smtp.tls import trusted
from device_ui.settings import rules
from device_ui.settings.fields import SmtpSettings
from tests.helpers import oracle
from tests.helpers.product import free_port
from tests.mail.message.test_compose import mail_of

MAIL = b"Subject: one\r\n\r\n.\r\n..dots\r\nhello\r\n"
ME = "me@example.test"


@pytest.fixture
def out():
    return io.StringIO()


@pytest.fixture
def mailbox(tmp_path, out):
    return Mailbox(tmp_path / "mail", out)


@pytest.fixture
def server(mailbox):
    """A running server on a free port; every session has ended when it goes."""
    with Server(mailbox, free_port()) as server:
        server.start()
        yield server
        server.shutdown()


def courier_for(server, password=None, **changes):
    values = {"host": "localhost", "port": server.port, "sender_name": "Lamp", "account": server.mailbox.account}
    return SmtpClient(
        SmtpSettings(**{**values, "sealed": "sealed", **changes}),
        server.mailbox.password if password is None else password,
        ClientOptions(trusted([str(server.mailbox.ca_file)]), allow_loopback=True),
        Timeouts(attempt=20),
    )


def deliver(courier, mail=MAIL):
    courier.open()
    try:
        return courier.deliver([ME], mail)
    finally:
        courier.close()


@pytest.fixture
def clear(server):
    """A session in the clear."""
    with smtplib.SMTP("localhost", server.port, "client.example.test", timeout=10) as client:
        client.ehlo()
        yield client


@pytest.fixture
def secure(server, clear):
    """A session after STARTTLS, with the demo's own authority."""
    clear.starttls(context=trusted([str(server.mailbox.ca_file)]))
    clear.ehlo()
    return clear


def kept(mailbox):
    return sorted(mailbox.folder.glob("*.eml"))


# With the real courier.


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_mail_comes_through_starttls_and_login(server, host):
    assert deliver(courier_for(server, host=host))[ME].verdict == "delivered"


def test_a_mail_is_kept_byte_for_byte(server):
    mail = mail_of()
    for each in (MAIL, mail):
        deliver(courier_for(server), each)
    assert [path.read_bytes() for path in kept(server.mailbox)] == [MAIL, mail]
    assert [path.name for path in kept(server.mailbox)] == ["0001.eml", "0002.eml"]


def test_the_server_says_where_the_mail_is_kept(server):
    assert deliver(courier_for(server))[ME].reply == "250 2.0.0 kept as 0001.eml"


def test_a_mail_is_printed_as_a_person_reads_it(server, out):
    name, device = "홍길동의 저장 장치 " * 6 + "끝", "저장 장치 " * 9 + "끝"
    mail = mail_of(sender_name=name, device={"name": device, "model": "", "serial": "", "address": ""})
    deliver(courier_for(server), mail)
    shown = out.getvalue()
    assert f"mail arrived · {kept(server.mailbox)[0]}\n" in shown
    assert f"\nFrom: {name} <lamp@example.test>\nTo: me@example.test\nSubject: [fault 303] " in shown
    assert f" {device.strip()}: at 80 % (" in shown
    assert "at 80 %" in shown


def test_a_login_that_is_too_long_for_one_line_is_challenged(server):
    with pytest.raises(SessionError) as caught:
        courier_for(server, password="x" * 256, account="y" * 256, sign_in="provider", from_address="a@b.cc").open()
    assert caught.value.login_refused


@pytest.mark.parametrize("password", ["", "wrong", "Kp7!vRw2#Zt9"])
def test_a_wrong_password_is_refused(server, password):
    with pytest.raises(SessionError) as caught:
        courier_for(server, password=password).open()
    assert (caught.value.step, caught.value.reply) == ("login", "535 5.7.8 Authentication failed")
    assert caught.value.login_refused


def test_a_wrong_account_is_refused(server):
    with pytest.raises(SessionError) as caught:
        courier_for(server, account="nobody@mail.demo.example").open()
    assert caught.value.login_refused


def test_a_client_that_does_not_trust_the_demo_sends_no_login(server):
    settings = SmtpSettings("localhost", server.port, "Lamp", server.mailbox.account, sealed="sealed")
    courier = SmtpClient(settings, server.mailbox.password, ClientOptions(trusted(), allow_loopback=True))
    with pytest.raises(SessionError) as caught:
        courier.open()
    assert caught.value.step == "certificate"


def test_several_mails_go_through_one_session(server):
    courier = courier_for(server)
    courier.open()
    verdicts = [courier.deliver([ME, "you@example.test"], MAIL)[ME].verdict for _ in range(3)]
    courier.close()
    assert verdicts == ["delivered"] * 3
    assert len(kept(server.mailbox)) == 3


# By hand.


def test_login_is_a_mechanism_too(server, secure):
    secure.user, secure.password = server.mailbox.account, server.mailbox.password
    assert secure.auth("LOGIN", secure.auth_login)[0] == 235
    assert secure.sendmail("a@b.cc", [ME], MAIL) == {}
    assert kept(server.mailbox)[0].read_bytes() == MAIL


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_a_wrong_password_is_refused_by_both_mechanisms(secure, mechanism):
    secure.user, secure.password = demo_server.ACCOUNT, "wrong"
    method = secure.auth_plain if mechanism == "PLAIN" else secure.auth_login
    with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
        secure.auth(mechanism, method)
    assert caught.value.smtp_code == 535


def test_no_login_is_offered_or_taken_before_tls(server, clear):
    blob = base64.b64encode(f"\0{server.mailbox.account}\0{server.mailbox.password}".encode()).decode()
    assert not clear.has_extn("auth") and clear.has_extn("starttls")
    assert clear.docmd("AUTH", f"PLAIN {blob}") == (530, b"5.7.0 Must issue a STARTTLS command first")
    assert clear.mail("a@b.cc")[0] == 530


def test_no_mail_is_taken_before_a_login(secure):
    assert secure.has_extn("auth") and not secure.has_extn("starttls")
    assert secure.mail("a@b.cc") == (530, b"5.7.0 Authentication required")
    assert secure.rcpt(ME)[0] == 503
    assert secure.docmd("DATA")[0] == 503


def test_a_refused_login_ends_an_earlier_one(server, secure):
    secure.user, secure.password = server.mailbox.account, server.mailbox.password
    secure.auth("PLAIN", secure.auth_plain)
    secure.docmd("AUTH", "PLAIN " + base64.b64encode(b"\0a\0b").decode())
    assert secure.mail("a@b.cc")[0] == 530


def test_every_mail_needs_a_recipient_of_its_own(server, secure):
    secure.user, secure.password = server.mailbox.account, server.mailbox.password
    secure.auth("PLAIN", secure.auth_plain)
    secure.sendmail("a@b.cc", [ME], MAIL)
    assert secure.docmd("DATA")[0] == 503


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("AUTH XOAUTH2 abcd", 504),
        ("AUTH PLAIN ****", 501),
        ("AUTH PLAIN YWJj", 501),  # "abc": no login and no password
        ("AUTH PLAIN AP8A/w==", 501),  # not UTF-8
        ("AUTH PLAIN é", 501),
        ("NOOP", 250),
        ("RSET", 250),
        ("VRFY me", 500),
        ("", 500),
        ("noop", 250),
    ],
)
def test_odd_commands_are_answered(secure, line, answer):
    secure.sock.sendall(line.encode() + b"\r\n")
    assert secure.getreply()[0] == answer


def test_a_login_can_be_called_off(secure):
    assert secure.docmd("AUTH", "PLAIN")[0] == 334
    assert secure.docmd("*")[0] == 501


def test_what_was_sent_before_tls_is_gone_after_it(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.recv(1000)
        sock.sendall(b"STARTTLS\r\nNOOP\r\n")
        assert sock.recv(1000).startswith(b"220")
        with trusted([str(server.mailbox.ca_file)]).wrap_socket(sock, server_hostname="localhost") as secured:
            secured.sendall(b"QUIT\r\n")
            assert secured.recv(1000) == b"221 Bye\r\n"


def test_a_client_that_speaks_no_tls_harms_nobody(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.recv(1000)
        sock.sendall(b"STARTTLS\r\n")
        sock.recv(1000)
        sock.sendall(b"EHLO me\r\n")
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(1000):
                pass
    assert deliver(courier_for(server))[ME].verdict == "delivered"


def test_half_a_mail_is_not_kept(server, secure):
    secure.user, secure.password = server.mailbox.account, server.mailbox.password
    secure.auth("PLAIN", secure.auth_plain)
    secure.mail("a@b.cc")
    secure.rcpt(ME)
    secure.docmd("DATA")
    secure.send(b"Subject: half\r\n\r\nof a")
    secure.sock.shutdown(socket.SHUT_WR)
    while secure.sock.recv(1000):
        pass  # until the server has gone as well
    assert deliver(courier_for(server))[ME].reply == "250 2.0.0 kept as 0001.eml"


# What is shown.


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"Subject: =?utf-8?b?a?=\r\n\r\nx\r\n", "Subject: =?utf-8?b?a?="),
        (b"Subject: =?nonsense?q?a?=\r\n\r\nx\r\n", "Subject: =?nonsense?q?a?="),
        (b"Subject: \xff\r\n\r\nx\r\n", "Subject: "),
        (b"Content-Type: text/html\r\n\r\n<p>\r\n", "(no text)"),
        (b"Content-Type: text/plain; charset=nonsense\r\n\r\n\xff\r\n", "\ufffd"),
        (b"", "From: "),
    ],
)
def test_an_odd_mail_is_kept_and_shown(mailbox, out, raw, shown):
    assert mailbox.keep(raw).read_bytes() == raw
    assert shown in out.getvalue()


def test_a_terminal_without_korean_keeps_no_mail_away(tmp_path):
    raw = io.BytesIO()
    mailbox = Mailbox(tmp_path / "mail", io.TextIOWrapper(raw, encoding="ascii"))
    mailbox.keep("Subject: 가\r\n\r\n나\r\n".encode())
    assert len(kept(mailbox)) == 1
    assert b"mail arrived" in raw.getvalue()


# The folder.


def test_a_restart_keeps_account_password_authority_and_numbers(mailbox, tmp_path, out):
    mailbox.keep(MAIL)
    files = {path.name: path.read_bytes() for path in mailbox.folder.iterdir()}
    again = Mailbox(tmp_path / "mail", out)
    assert (again.account, again.password) == (mailbox.account, mailbox.password)
    assert {path.name: path.read_bytes() for path in mailbox.folder.iterdir()} == files
    assert again.keep(MAIL).name == "0002.eml"


def test_two_demos_share_neither_password_nor_authority(tmp_path, out):
    one, two = (Mailbox(tmp_path / name, out) for name in ("one", "two"))
    assert one.password != two.password
    assert one.ca_file.read_bytes() != two.ca_file.read_bytes()


def test_the_folder_and_its_secrets_are_the_owners_alone(mailbox):
    modes = {name: stat.S_IMODE((mailbox.folder / name).stat().st_mode) for name in ("", "server.pem", "password.json")}
    assert modes == {"": 0o700, "server.pem": 0o600, "password.json": 0o600}


def test_the_authority_holds_no_private_key(mailbox):
    assert b"PRIVATE" not in mailbox.ca_file.read_bytes()


def test_half_made_certificates_are_made_anew(mailbox, tmp_path, out):
    (mailbox.folder / "server.pem").unlink()
    again = Mailbox(tmp_path / "mail", out)
    with Server(again, free_port()) as server:
        server.start()
        assert deliver(courier_for(server))[ME].verdict == "delivered"
        server.shutdown()


def test_the_certificate_stands_up_to_strict_verification(server):
    context = ssl.create_default_context(cafile=str(server.mailbox.ca_file))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with smtplib.SMTP("localhost", server.port, "client.example.test", timeout=10) as client:
        assert client.starttls(context=context)[0] == 220


def test_the_account_is_one_that_the_manual_accepts():
    assert rules.account(demo_server.ACCOUNT) == demo_server.ACCOUNT
    assert rules.port(str(demo_server.PORT)) == demo_server.PORT


def test_a_new_password_always_satisfies_the_manual():
    made = [new_password() for _ in range(300)]
    assert all(rules.password(each) == each for each in made)
    assert {oracle.password_sentence(each) for each in made} == {None}
    assert len(set(made)) == 300 and {len(each) for each in made} == {16}


# The port.


def test_the_port_that_was_asked_for_is_taken(mailbox):
    port = free_port()
    with Server(mailbox, port) as server:
        assert (server.port, server.server_address) == (port, ("127.0.0.1", port))


def test_the_next_port_is_used_where_the_one_is_taken(mailbox):
    with Server(mailbox, free_port()) as first, Server(mailbox, first.port) as second:
        assert first.port < second.port <= first.port + 20
        second.start()
        assert deliver(courier_for(second))[ME].verdict == "delivered"
        second.shutdown()


def test_a_port_that_the_tab_would_not_take_is_never_chosen(mailbox):
    with Server(mailbox) as server:
        assert rules.port(str(server.port)) == server.port


def test_no_free_port_is_told_and_leaves_nothing_open(mailbox):
    taken = [Server(mailbox, free_port())]
    while taken[-1].port < taken[0].port + demo_server.PORTS_TRIED - 1:
        taken.append(Server(mailbox, taken[-1].port))
    try:
        with pytest.raises(OSError) as caught:
            Server(mailbox, taken[0].port)
        assert str(caught.value) == f"no port is free from {taken[0].port} on"
    finally:
        for server in taken:
            server.server_close()


def test_the_server_listens_on_loopback_alone(server):
    assert server.server_address[0] == "127.0.0.1"
