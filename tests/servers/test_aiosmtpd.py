"""The courier against aiosmtpd, an implementation that nobody here wrote, made to misbehave by its own handlers."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from device_ui.mail.smtp.client import ClientOptions, SmtpClient
from device_ui.mail.smtp.connection import Timeouts
from device_ui.mail.smtp.outcome import Outcome, SessionError
from device_ui.mail.smtp.tls import trusted
from device_ui.settings.fields import SmtpSettings
from tests.helpers.product import PASSWORD, free_port
from tests.servers.authority import Authority

ACCOUNT = "alarm@mail.example.com"
MESSAGE = b"Subject: x\r\n\r\n.a line that begins with a dot\r\n"
ONE, TWO = "one@example.com", "two@example.com"


class Handler:
    """Answers what the test wants, by command; keeps what was delivered and counts logins."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.mails: list[tuple[list[str], bytes]] = []
        self.logins: list[tuple[str, bytes, bytes]] = []

    async def handle_MAIL(
        self, _s: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return str(self.answers.get("MAIL", "250 OK"))

    async def handle_RCPT(self, _s: SMTP, _session: Session, envelope: Envelope, address: str, _options: object) -> str:
        answer = self.answers.get(address, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return str(answer)

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:
        answer = self.answers.get("DATA", "250 OK")
        if isinstance(answer, Exception):
            raise answer
        if answer == "hang up":
            server.transport.abort()
        if answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.mails.append((envelope.rcpt_tos, envelope.content))
        return str(answer)

    def authenticate(self, _s: object, _session: object, _envelope: object, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((mechanism, data.login, data.password))
        return AuthResult(success=(data.login, data.password) == (ACCOUNT.encode(), PASSWORD.encode()), handled=False)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("Test authority")


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture(params=[[], ["PLAIN"]], ids=["plain", "login"])
def port(request: Any, authority: Authority, handler: Handler, tmp_path: Path) -> Iterator[int]:
    """The port of a server that wants STARTTLS and then a login; without PLAIN it is the other mechanism."""
    certificate = authority.issue(["127.0.0.1"])
    chain = tmp_path / "chain.pem"
    chain.write_bytes(certificate.key_pem + certificate.cert_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    controller = Controller(
        handler,
        hostname="127.0.0.1",
        port=free_port(),
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=handler.authenticate,
        auth_exclude_mechanism=request.param,
        timeout=20,
    )
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


@pytest.fixture
def password() -> str:
    return PASSWORD


@pytest.fixture
def courier(port: int, authority: Authority, tmp_path: Path, password: str) -> Iterator[SmtpClient]:
    context = trusted([str(authority.write(tmp_path / "authority.pem"))])
    settings = SmtpSettings("127.0.0.1", port, "Alarms", ACCOUNT, sealed="x")
    courier = SmtpClient(
        settings, password, ClientOptions(context, allow_loopback=True), Timeouts(attempt=10, verdict=0)
    )
    yield courier
    courier.close()


def test_a_mail_is_delivered_byte_for_byte_after_one_login(courier, handler):
    courier.open()
    outcomes = courier.deliver([ONE, TWO], MESSAGE)
    assert {each.verdict for each in outcomes.values()} == {"delivered"}
    assert handler.mails == [([ONE, TWO], MESSAGE)]
    assert [login[1:] for login in handler.logins] == [(ACCOUNT.encode(), PASSWORD.encode())]


@pytest.mark.parametrize("password", [PASSWORD[::-1]])
def test_a_wrong_password_is_one_refused_login(courier, handler):
    with pytest.raises(SessionError) as stopped:
        courier.open()
    assert stopped.value.login_refused and stopped.value.reply.startswith("535")
    assert len(handler.logins) == 1


@pytest.mark.parametrize(
    ("command", "answer", "outcome"),
    [
        ("DATA", "451 try again", ("try later", "content")),
        ("DATA", "554 no", ("refused", "content")),
        ("DATA", "251 what", ("delivered", "content")),  # RFC 5321, 4.2.1: a yes, said oddly
        ("DATA", "220 what", ("try later", "content")),
        ("DATA", RuntimeError("a bug"), ("try later", "content")),  # aiosmtpd answers 500, "command not known"
        ("DATA", "hang up", ("try later", "content")),
        ("MAIL", "550 not you", ("try later", "sender")),
        ("MAIL", "421 busy", ("try later", "sender")),
        (ONE, "550 unknown", ("refused", "recipient")),
        (ONE, "452 full", ("try later", "recipient")),
        (ONE, "421 busy", ("try later", "recipient")),
    ],
)
def test_misbehaviour_has_its_verdict_and_loses_nothing(courier, handler, command, answer, outcome):
    handler.answers[command] = answer
    courier.open()
    found = courier.deliver([ONE], MESSAGE)[ONE]
    assert (found.verdict, found.step) == outcome
    assert handler.mails == []


def test_one_refused_recipient_holds_up_no_other(courier, handler):
    handler.answers[ONE] = "550 unknown"
    courier.open()
    found = courier.deliver([ONE, TWO], MESSAGE)
    assert found[ONE] == Outcome("refused", "recipient", "550 unknown")
    assert found[TWO].verdict == "delivered"
    assert handler.mails == [([TWO], MESSAGE)]
    assert courier.is_open
