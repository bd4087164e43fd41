"""The mail hook against Debian's Postfix and Dovecot: the mail arrives, or nothing secret crosses the wire."""

from __future__ import annotations

import datetime
import email
import email.policy
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.product import PASSWORD, Product, settings_form, wait_for
from tests.servers.authority import Authority, Certificate
from tests.servers.capture import Capture
from tests.servers.postfix import MailServer

ACCOUNT = "alarm@mail.example.com"
NAMES = ["localhost", "127.0.0.1"]
# Login and password of a provider, with all that a password may hold.
ODD_ACCOUNT, ODD_PASSWORD = "key.7", "Zoë €𝄞 \\\"'`$(x) %41 =?utf-8?q?x?= ~"
ACCOUNTS = {ACCOUNT: PASSWORD, ODD_ACCOUNT: ODD_PASSWORD}
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("Test authority")


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    folder = tmp_path_factory.mktemp("postfix")
    with MailServer(folder=folder, certificate=authority.issue(NAMES), accounts=ACCOUNTS) as running:
        yield running


@pytest.fixture
def hook(product: Product, authority: Authority, tmp_path: Path) -> Product:
    """A hook that trusts the tests' authority."""
    product.maker("[mail]\ndigest_window = 0\n")  # a mail for each event
    return product.start_hook("--ca-file", str(authority.write(tmp_path / "authority.pem")))


@pytest.fixture(scope="module")
def mailing(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """The same for all tests whose every event is mailed or needs no mail: none waits when they end."""
    folder = tmp_path_factory.mktemp("mailing")
    with Product(folder) as product:
        product.maker("[mail]\ndigest_window = 0\nhourly_budget = 1000\n")
        yield product.start_hook("--ca-file", str(authority.write(folder / "authority.pem")))


def delivered(server: MailServer, product: Product, relay: Capture, **form: str) -> email.message.EmailMessage:
    """Save settings for `relay`, raise an event; the mail that arrives."""
    before = len(server.mails())
    product.save(**settings_form(relay.port, **form))
    product.event("303", "it works")
    raw = server.wait_for(before + 1)[-1]
    wait_for(lambda: product.state()["waiting"] == 0, what="the record of the delivery")
    return email.message_from_bytes(raw, policy=email.policy.default)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("security", "port"), [("auto", "submission_port"), ("starttls", "submission_port"), ("tls", "tls_port")]
)
def test_the_mail_arrives_and_no_secret_is_readable_on_the_way(server, mailing, security, port):
    with Capture(getattr(server, port)) as relay:
        mail = delivered(server, mailing, relay, security=security)
        assert mail["Subject"] == (
            "[fault 303] Storage appliance: it works (Audit log space: minor threshold exceeded)"
        )
        assert mail["From"] == f"Storage alarms <{ACCOUNT}>"
        assert mail["Auto-Submitted"] == "auto-generated"
        assert "it works" in mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
        assert relay.crossed(PASSWORD, ACCOUNT) == []
        assert b"it works" not in relay.sent


def test_the_capture_would_find_a_secret_in_the_clear(server):
    import smtplib

    with Capture(server.relay_port) as relay, smtplib.SMTP("127.0.0.1", relay.port, "client.test") as client:
        client.docmd("NOOP", PASSWORD)
        assert relay.crossed(PASSWORD, ACCOUNT) == ["plain"]


@pytest.mark.parametrize("mechanism", ["plain", "login"])
def test_each_mechanism_signs_in_once_with_any_password(authority, mailing, tmp_path, mechanism):
    certificate = authority.issue(NAMES)
    with (
        MailServer(folder=tmp_path / "p", certificate=certificate, accounts=ACCOUNTS, mechanisms=mechanism) as server,
        Capture(server.submission_port) as relay,
    ):
        odd = {
            "account": ODD_ACCOUNT,
            "password": ODD_PASSWORD,
            "sign_in": "provider",
            "from_address": "a.b-c@example.org",
        }
        mail = delivered(server, mailing, relay, **odd)
        assert mail["From"] == "Storage alarms <a.b-c@example.org>"
        assert server.logins() == [(ODD_ACCOUNT, True)]


def test_a_relay_without_login_gets_the_mail(server, mailing):
    with Capture(server.relay_port) as relay:
        mail = delivered(server, mailing, relay, sign_in="none", security="none", password="")
        assert mail["To"] == ACCOUNT
        assert b"AUTH" not in relay.sent


@pytest.mark.parametrize("judged", ["relay", "client", "sender"])
def test_a_login_that_is_missing_gives_no_mail_up(hook, authority, tmp_path, judged):
    """A submission service of Postfix refuses each recipient of a client without a login, by a 554."""
    restrictions = {f"smtpd_{judged}_restrictions": "permit_sasl_authenticated,reject"}
    with (
        MailServer(
            folder=tmp_path, certificate=authority.issue(NAMES), accounts=ACCOUNTS, limits=restrictions
        ) as server,
        Capture(server.submission_port) as relay,
    ):
        hook.save(**settings_form(relay.port, sign_in="none", password=""))
        hook.event("304", "waits")
        wait_for(lambda: "554" in str(hook.state()["reply"]), what="the refusal")
        assert "only after a login" in str(hook.state()["advice"])
        assert hook.state()["waiting"] == 1
        hook.save(**settings_form(relay.port))
        assert b"waits" in server.wait_for(1)[0]


def test_a_wrong_password_is_tried_once_and_the_mail_is_kept_until_the_settings_change(server, hook):
    wrong = PASSWORD[::-1]
    before, mails = len(server.logins()), len(server.mails())
    with Capture(server.submission_port) as relay:
        hook.save(**settings_form(relay.port, password=wrong))
        for number in range(3):
            hook.event("304", f"waits {number}")
            wait_for(lambda: hook.state()["problem"] == "login refused", what="the pause")
        assert server.logins()[before:] == [(ACCOUNT, False)]
        assert "535" in hook.state()["reply"]
        assert "type SMTP Account Password again" in str(hook.state()["advice"])
        hook.stop("mailhook")
        hook.start_hook("--ca-file", str(hook.folder / "authority.pem"))
        wait_for(lambda: hook.state()["problem"] == "login refused", what="the pause after a restart")
        assert relay.connections == 1
        hook.save(**settings_form(relay.port, sender_name="New name"))
        arrived = server.wait_for(mails + 3)[mails:]
    assert server.logins()[before:].count((ACCOUNT, False)) == 1
    assert all(b"New name" in raw for raw in arrived)


def certificates(authority: Authority) -> dict[str, Certificate]:
    """Certificates that no client may accept, by what is wrong with them."""
    now = datetime.datetime.now(datetime.UTC)
    return {
        "unknown authority": Authority("Stranger").issue(NAMES),
        "expired": authority.issue(NAMES, not_before=now - 2 * DAY, not_after=now - DAY),
        "not yet valid": authority.issue(NAMES, not_before=now + DAY, not_after=now + 2 * DAY),
        "another name": authority.issue(["mail.example.net", "127.0.0.2"]),
    }


# Each fault on both kinds of port: test_faults.py, by the same client.
@pytest.mark.parametrize(
    ("fault", "security", "port"),
    [
        ("unknown authority", "starttls", "submission_port"),
        ("expired", "starttls", "submission_port"),
        ("not yet valid", "starttls", "submission_port"),
        ("another name", "starttls", "submission_port"),
        ("unknown authority", "tls", "tls_port"),
    ],
)
def test_a_certificate_that_proves_nothing_gets_no_login_and_no_mail(authority, hook, tmp_path, fault, security, port):
    certificate = certificates(authority)[fault]
    with (
        MailServer(folder=tmp_path / "p", certificate=certificate, accounts=ACCOUNTS) as server,
        Capture(getattr(server, port)) as relay,
    ):
        hook.save(**settings_form(relay.port, security=security))
        hook.event("303", "it works")
        wait_for(lambda: hook.state()["step"] == "certificate", what="the verdict")
        assert hook.state()["waiting"] == 1
        assert server.logins() == []
        assert relay.crossed(PASSWORD, ACCOUNT) == []


def test_a_server_without_starttls_gets_no_login_and_no_mail(authority, hook, tmp_path):
    certificate = authority.issue(NAMES)
    with (
        MailServer(folder=tmp_path / "p", certificate=certificate, accounts=ACCOUNTS, starttls=False) as server,
        Capture(server.submission_port) as relay,
    ):
        hook.save(**settings_form(relay.port))
        hook.event("303", "it works")
        wait_for(lambda: hook.state()["step"] == "tls", what="the verdict")
        assert "STARTTLS" in str(hook.state()["reply"])
        assert b"AUTH" not in relay.sent and b"MAIL" not in relay.sent
        assert relay.crossed(PASSWORD, ACCOUNT) == []


@pytest.mark.parametrize(
    ("account", "waiting", "reply"), [("refused@example.org", 0, ""), ("later@example.org", 1, "450")]
)
def test_a_refused_recipient_ends_the_mail_and_a_deferred_one_keeps_it(server, hook, account, waiting, reply):
    before = len(server.mails())
    odd = {"account": ODD_ACCOUNT, "password": ODD_PASSWORD, "sign_in": "provider", "from_address": account}
    with Capture(server.submission_port) as relay:
        hook.save(**settings_form(relay.port, **odd))
        hook.event("303", account)
        wait_for(lambda: b"QUIT" in relay.sent or relay.connections, what="the attempt")
        wait_for(lambda: hook.state()["waiting"] == waiting, what="the verdict")
        wait_for(lambda: hook.state()["reply"].startswith(reply), what="the reason")
    assert len(server.mails()) == before


def test_events_from_before_the_settings_go_out_in_their_order(server, hook):
    before = len(server.mails())
    numbers = [hook.event("303", f"early {number}") for number in range(3)]
    assert hook.state()["problem"] == "unset"
    with Capture(server.submission_port) as relay:
        hook.save(**settings_form(relay.port))
        arrived = server.wait_for(before + 3)[before:]
        assert relay.connections == 1
    found = [email.message_from_bytes(raw)["Message-ID"] for raw in arrived]
    assert [each.partition(".")[0] for each in found] == [f"<{number}" for number in numbers]


def test_a_korean_mail_is_read_as_it_was_written(server, product, authority, tmp_path):
    product.maker('[device]\nname = "회의실 저장 장치"\nlanguage = "ko"\n[mail]\ndigest_window = 0\n')
    product.start_hook("--ca-file", str(authority.write(tmp_path / "authority.pem")))
    with Capture(server.submission_port) as relay:
        mail = delivered(server, product, relay, sender_name="서버실, 김 대리")
    assert mail["Subject"] == "[fault 303] 회의실 저장 장치: it works (감사 로그 공간: 1차 임계값 초과)"
    assert str(mail["From"].addresses[0].display_name) == "서버실, 김 대리"
    plain, page = (mail.get_body((kind,)).get_content() for kind in ("plain", "html"))
    for told in (plain, page):
        assert "감사 로그 공간: 1차 임계값 초과" in told and "it works" in told and "회의실 저장 장치" in told
        assert "장애" in told and "Type" not in told and "\ufffd" not in told
    assert '<html lang="ko">' in page


def test_153_and_306_never_cause_mail(server, mailing):
    before = len(server.mails())
    with Capture(server.submission_port) as relay:
        mailing.save(**settings_form(relay.port))
        *_, last = [mailing.event(code, "x") for code in ("153", "306", "303")]
        arrived = server.wait_for(before + 1)[before:]
        wait_for(lambda: mailing.state()["waiting"] == 0)
    assert [email.message_from_bytes(raw)["Message-ID"].partition(".")[0] for raw in arrived] == [f"<{last}"]


def test_an_unknown_code_is_mailed_as_a_fault(server, mailing):
    with Capture(server.submission_port) as relay:
        mailing.save(**settings_form(relay.port))
        before = len(server.mails())
        mailing.event("999", "what is this")
        mail = email.message_from_bytes(server.wait_for(before + 1)[-1], policy=email.policy.default)
    assert mail["Subject"] == "[fault 999] Storage appliance: what is this (Unknown event)"
