"""The test of the SMTP tab: each step told as it is passed, one result, one login, and words that a person can use."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import ssl
import time
from dataclasses import dataclass

import pytest

from device_ui.errors import to_json
from device_ui.mail.smtp import test_run
from device_ui.mail.smtp.outcome import Step
from device_ui.mail.smtp.test_run import RecipientResult, RunResult, StepTimer
from device_ui.settings.fields import SmtpSettings
from tests.mail.smtp.test_client import client_with
from tests.servers import scripted
from tests.servers.authority import Certificates
from tests.servers.scripted import ScriptedServer, leading_to

HOST, ACCOUNT, PASSWORD = "mail.example.test", "lamp@example.test", "Kp7!vRw2#Zt9"
FIRST, SECOND, THIRD = "one@example.test", "two@example.test", "three@example.test"
MAIL = b"From: <lamp@example.test>\r\nSubject: test\r\n\r\nhello\r\n"
QUICK = 0.6  # seconds for a whole attempt, where the server is never going to answer
IN_TIME = 60.0  # far below the end of what must not be waited for, with room for a busy machine
# What a courier gets that must not need it: loading the system's authorities takes longer than most tests.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
NOON = 1767225600.0  # 2026-01-01 00:00 UTC
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(HOST, tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def chain(certificates):
    return certificates.chain()


@pytest.fixture(scope="module")
def context(certificates):
    return certificates.context


@dataclass(frozen=True)
class Tried:
    """What a test came to, the lines it told, and the seconds it took."""

    result: RunResult
    lines: list[dict]
    seconds: float

    @property
    def steps(self):
        return [line["step"]["name"] for line in self.lines]

    def told(self, step):
        """What was told of a step, each time it was."""
        return [str(line["step"]["told"]) for line in self.lines if line["step"]["name"] == step]

    @property
    def everything(self):
        """All that a person or a program may see of it."""
        return json.dumps([self.lines, self.result.as_json()], ensure_ascii=False, default=to_json)


def settings_for(server, **changes):
    values = {"host": HOST, "port": server.port, "sender_name": "Lamp", "account": ACCOUNT, "sealed": "sealed"}
    return SmtpSettings(**{**values, **changes})


def try_out(server, context=None, *, recipients=(FIRST,), options=None, run=None, **changes):
    """Test a server on loopback: in the clear without a context, else by STARTTLS."""
    settings = settings_for(server, **{"security": "starttls" if context else "none", **changes})
    lines = []

    def connect(on_step):
        return client_with(settings, PASSWORD, context or NO_TLS, options or {}, on_step)

    started = time.monotonic()
    given = {"report": lines.append, "wall_clock": lambda: NOON, **(run or {})}
    compose = given.pop("compose", lambda address: MAIL)
    result = test_run.run(connect, settings, list(recipients), compose, **given)
    return Tried(result, lines, time.monotonic() - started)


def test_a_test_to_more_recipients_than_a_transaction_takes_reaches_them_all():
    """go-smtp#195: the server takes two recipients a transaction."""
    names = [f"r{number}@example.test" for number in range(5)]
    answers = ["250 ok", "250 ok", "552 too many", "552 too many", "552 too many"]
    answers += ["250 ok", "250 ok", "552 too many", "250 ok"]
    with ScriptedServer({"RCPT": answers}) as server:
        tried = try_out(server, recipients=names)
    assert [(each.recipient, each.verdict) for each in tried.result.recipients] == [
        (name, "delivered") for name in names
    ]
    assert tried.result.verdict == "delivered"
    assert len(server.mails) == 3


# What is told on the way.


def test_every_step_is_reported_in_order(chain, context):
    with ScriptedServer(chain=chain) as server:
        tried = try_out(server, context)
    assert " ".join(tried.steps) == (
        "name address connect greeting ehlo tls certificate ehlo login sender recipient content"
    )
    assert server.mails == [MAIL]


def test_tls_from_the_first_byte_comes_before_the_greeting(chain, context):
    with ScriptedServer(chain=chain, tls_first=True) as server:
        tried = try_out(server, context, security="tls")
    assert " ".join(tried.steps) == (
        "name address connect tls certificate greeting ehlo login sender recipient content"
    )


def test_a_step_that_the_settings_leave_out_is_not_reported():
    with ScriptedServer() as server:
        tried = try_out(server, sign_in="none")
    assert " ".join(tried.steps) == "name address connect greeting ehlo sender recipient content"


def test_each_step_has_its_details(chain, context):
    with ScriptedServer(chain=chain, features=("STARTTLS", "SIZE 999999")) as server:
        told = {step: " | ".join(tried.told(step)) for tried in [try_out(server, context)] for step in tried.steps}
    assert told.pop("tls").startswith("TLSv1.3, TLS_")
    assert told == {
        "name": "127.0.0.1",
        "address": "127.0.0.1",
        "connect": f"127.0.0.1 port {server.port}",
        "greeting": "220 mail.example.test ESMTP",
        "ehlo": "STARTTLS, SIZE 999999 | in TLS: AUTH PLAIN LOGIN",
        "certificate": "verified for mail.example.test",
        "login": "PLAIN",
        "sender": "250 2.1.0 sender",
        "recipient": "one@example.test: 250 2.1.5 recipient",
        "content": "250 2.0.0 queued",
    }


def test_an_address_that_failed_is_reported_with_its_reason():
    with ScriptedServer() as server:
        tried = try_out(server, options={"resolver": leading_to("127.0.0.2", "127.0.0.1")})
    assert tried.told("name") == ["127.0.0.2, 127.0.0.1"]
    assert tried.told("connect") == [f"127.0.0.1 port {server.port}, after 127.0.0.2: nothing listens at this port"]


def test_a_server_without_extensions_is_reported_as_such():
    with ScriptedServer(features=()) as server:
        assert try_out(server, sign_in="none").told("ehlo") == ["nothing is offered"]


def test_every_accepted_recipient_is_reported():
    with ScriptedServer({"RCPT": ["250 ok", "550 no", "251 forwards"]}) as server:
        tried = try_out(server, recipients=(FIRST, SECOND, THIRD))
    assert tried.told("recipient") == [f"{FIRST}: 250 ok", f"{THIRD}: 251 forwards"]


def test_each_step_has_its_own_seconds():
    ticks, lines = itertools.count(), []
    timer = StepTimer(lines.append, lambda: float(next(ticks)))
    for step in (Step.NAME, Step.ADDRESS, Step.CONNECT):
        timer.on_step(step, "details")
    assert [line["step"]["seconds"] for line in lines] == [1.0] * 3
    assert timer.seconds == 4.0


def test_steps_are_reported_as_they_happen(chain, context):
    heard = []
    with ScriptedServer(chain=chain) as server:
        report = lambda line: heard.append((line["step"]["name"], len(server.verbs)))  # noqa: E731
        try_out(server, context, run={"report": report})
    assert heard[:5] == [("name", 0), ("address", 0), ("connect", 0), ("greeting", 0), ("ehlo", 1)]


def test_a_failed_step_is_not_reported(chain, certificates):
    with ScriptedServer(chain=certificates.chain("other.example.test")) as server:
        tried = try_out(server, certificates.context)
    assert tried.steps[-1] == "tls"
    assert tried.told("tls")[0].startswith("TLSv1.3, TLS_")


# The result.


def test_a_delivered_test_has_no_advice():
    with ScriptedServer() as server:
        tried = try_out(server)
    assert tried.result.as_json() == {
        "verdict": "delivered",
        "step": "",
        "problem": "",
        "reply": "",
        "field": "",
        "advice": "",
        "seconds": tried.result.seconds,
        "recipients": [
            {"recipient": FIRST, "verdict": "delivered", "step": "content", "reply": "250 2.0.0 queued"},
        ],
        "chain": [],
    }


def test_a_wrong_password_is_one_attempt_and_names_the_field():
    with ScriptedServer({"AUTH": "535 5.7.8 no"}) as server:
        result = try_out(server).result
    assert (result.verdict, result.step, result.problem) == ("try later", "login", "login refused")
    assert (result.reply, result.field) == ("535 5.7.8 no", "password")
    assert result.recipients == (RecipientResult(FIRST, "try later", "login", "535 5.7.8 no"),)
    assert (server.verbs.count("AUTH"), len(server.sessions)) == (1, 1)


@pytest.mark.parametrize(
    ("answers", "verdict", "step", "reply"),
    [
        (["250 a", "550 b", "250 c"], "refused", "recipient", "550 b"),
        (["450 a", "250 b", "550 c"], "refused", "recipient", "550 c"),
        (["450 a", "250 b", "450 c"], "try later", "recipient", "450 a"),
        (["550 a", "421 b"], "refused", "recipient", "550 a"),
    ],
)
def test_the_verdict_is_the_worst_of_the_recipients(answers, verdict, step, reply):
    with ScriptedServer({"RCPT": answers}) as server:
        result = try_out(server, recipients=(FIRST, SECOND, THIRD)).result
    assert (result.verdict, result.step, result.reply) == (verdict, step, reply)
    assert result.problem == "answer"


def test_each_recipient_has_an_entry_of_its_own():
    with ScriptedServer({"RCPT": ["250 a", "550 b", "450 c"]}) as server:
        result = try_out(server, recipients=(FIRST, SECOND, THIRD)).result
    assert result.recipients == (
        RecipientResult(FIRST, "delivered", "content", "250 2.0.0 queued"),
        RecipientResult(SECOND, "refused", "recipient", "550 b"),
        RecipientResult(THIRD, "try later", "recipient", "450 c"),
    )


def test_a_lost_connection_after_the_login_is_a_closed_one():
    with ScriptedServer({"MAIL": scripted.close}) as server:
        result = try_out(server).result
    assert (result.step, result.problem, result.reply) == ("sender", "closed", "the server closed the connection")


def test_the_mail_is_made_with_the_devices_own_address():
    with ScriptedServer() as server:
        try_out(server, run={"compose": lambda address: b"Subject: " + address.encode() + b"\r\n\r\n"})
    assert server.mails == [b"Subject: 127.0.0.1\r\n\r\n"]


# A closer look.


def test_a_tls_port_spoken_to_in_the_clear_says_use_465(chain, context):
    with ScriptedServer(chain=chain, tls_first=True) as server:
        tried = try_out(server, context, options={"greeting": 0.3})
    result = tried.result
    assert (result.step, result.problem, result.field) == ("greeting", "TLS expected", "security")
    assert str(result.advice) == (
        f"Port {server.port} of mail.example.test expects TLS from the first byte: use 465 as SMTP Port with the "
        "connection security “Automatic (TLS on port 465, STARTTLS on every other)”, or under “Advanced” choose the connection "
        "security “TLS from the first byte”."
    )
    assert server.received == b""


def test_a_port_that_only_says_nothing_is_no_tls_port(monkeypatch):
    monkeypatch.setattr(test_run, "PROBE_SECONDS", 0.3)
    with ScriptedServer({"greeting": scripted.silent}) as server:
        result = try_out(server, options={"greeting": 0.3}).result
    assert (result.step, result.problem, result.field) == ("greeting", "silent", "")
    assert len(server.sessions) == 2


def test_a_server_that_falls_silent_in_tls_is_not_told_to_expect_it(chain, context):
    with ScriptedServer({"greeting": scripted.silent}, chain=chain, tls_first=True) as server:
        result = try_out(server, context, security="tls", options={"greeting": 0.3}).result
    assert (result.step, result.problem) == ("greeting", "silent")
    assert len(server.sessions) == 1


def test_tls_spoken_to_a_plain_port_says_use_587(context):
    with ScriptedServer() as server:
        result = try_out(server, context, security="tls").result
    assert (result.step, result.problem, result.field) == ("tls", "no TLS spoken", "security")
    assert str(result.advice) == (
        f"Port {server.port} of mail.example.test does not speak TLS from the first byte: use 587 with STARTTLS "
        "(SMTP Port 587, connection security “Automatic (TLS on port 465, STARTTLS on every other)”)."
    )
    assert len(server.sessions) == 1


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_certificate_for_another_name_quotes_the_names_it_has(security, certificates):
    names = certificates.chain("mail.example.com", "smtp.example.com", "192.0.2.7")
    with ScriptedServer(chain=names, tls_first=security == "tls") as server:
        result = try_out(server, certificates.context, security=security).result
    assert (result.step, result.problem, result.field) == ("certificate", "another name", "host")
    assert str(result.advice) == (
        "The mail server's certificate is for another name than mail.example.test: it has the names "
        "mail.example.com, smtp.example.com, 192.0.2.7: type one of them as SMTP Host."
    )
    assert "AUTH" not in server.verbs and "MAIL" not in server.verbs
    assert len(server.sessions) == 2


@pytest.mark.parametrize(
    ("dates", "problem", "said"),
    [
        (
            {"not_after": datetime.datetime(2024, 2, 29, 1, 2, tzinfo=datetime.UTC)},
            "expired",
            "until 2024-02-29 01:02 +0000",
        ),
        (
            {"not_before": datetime.datetime(2090, 2, 28, 1, 2, tzinfo=datetime.UTC)},
            "not yet valid",
            "from 2090-02-28 01:02 +0000",
        ),
    ],
)
def test_a_wrong_date_is_reported_with_the_devices_clock(dates, problem, said, certificates):
    with ScriptedServer(chain=certificates.chain(**dates)) as server:
        result = try_out(server, certificates.context).result
    clock = datetime.datetime.fromtimestamp(NOON).astimezone()
    assert (result.step, result.problem, result.field) == ("certificate", problem, "")
    assert said in str(result.advice)
    assert f"the device's clock says {clock:%Y-%m-%d %H:%M %z}" in str(result.advice)


def test_an_unknown_authority_is_named(chain):
    with ScriptedServer(chain=chain) as server:
        result = try_out(server, ssl.create_default_context()).result
    assert (result.step, result.problem, result.field) == ("certificate", "issuer missing", "trust")
    assert "(CN=Test authority)" in str(result.advice)


def test_advice_without_the_probes_answer_is_the_general_one(certificates):
    greetings = [scripted.GOOD["greeting"], scripted.close]

    def greeting(session, line):
        answer = greetings.pop(0)
        session.say(answer) if isinstance(answer, str) else answer(session, line)

    with ScriptedServer({"greeting": greeting}, chain=certificates.chain("mail.example.com")) as server:
        result = try_out(server, certificates.context).result
    assert (result.problem, result.field) == ("another name", "host")
    assert "type a name that is in the certificate" in str(result.advice)


@pytest.mark.parametrize("step", ["EHLO", "AUTH", "MAIL", "RCPT", "DATA", "content"])
def test_a_probe_never_repeats_the_login(step):
    with ScriptedServer({step: scripted.close}) as server:
        try_out(server)
    assert server.verbs.count("AUTH") <= 1


# Time.


def test_no_probe_is_made_after_the_deadline():
    with ScriptedServer({"greeting": scripted.silent}) as server:
        tried = try_out(server, options={"attempt": QUICK})
    assert tried.result.problem == "silent"
    assert len(server.sessions) == 1


@pytest.mark.parametrize("step", ["greeting", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "content", "QUIT"])
def test_a_server_that_drips_ends_with_the_attempt(step):
    with ScriptedServer({step: scripted.drip}) as server:
        tried = try_out(server, options={"attempt": QUICK})
    assert tried.seconds < IN_TIME


def test_the_probe_shares_the_deadline_of_the_attempt(monkeypatch):
    monkeypatch.setattr(test_run, "PROBE_SECONDS", 10 * IN_TIME)
    with ScriptedServer({"greeting": scripted.silent}) as server:
        tried = try_out(server, options={"attempt": 3.0, "greeting": 0.3})
    assert len(server.sessions) == 2
    assert tried.seconds < IN_TIME


def test_the_times_for_the_greeting_and_for_a_closer_look():
    assert (test_run.TIMEOUTS.greeting, test_run.PROBE_SECONDS) == (15.0, 5.0)


# Nothing secret, and nothing that breaks a line.


@pytest.mark.parametrize("step", ["greeting", "AUTH", "MAIL", "RCPT", "DATA", "content"])
@pytest.mark.parametrize("code", ["good", "554"])
def test_a_server_that_repeats_the_password_is_not_quoted(step, code):
    chosen = scripted.GOOD[step][:3] if code == "good" else code
    with ScriptedServer({step: f"{chosen} 5.7.8 {PASSWORD} {PASSWORD.encode().hex()} sorry"}) as server:
        tried = try_out(server)
    assert PASSWORD not in tried.everything
    assert PASSWORD.encode().hex() not in tried.everything
    assert "[…]" in tried.everything or (step, code) in [("AUTH", "good"), ("DATA", "good")]


def test_details_are_one_printable_line():
    with ScriptedServer({"greeting": lambda session, _: session.say(b"220 a\x1b[31m\x00\xe2\x80\xaeb\r\n")}) as server:
        told = try_out(server).told("greeting")
    assert told == ["220 a [31m  b"]


def test_the_extensions_of_a_server_are_redacted_too():
    with ScriptedServer(features=("AUTH PLAIN", f"XKEY \x1b[31m{PASSWORD}")) as server:
        assert try_out(server).told("ehlo") == ["AUTH PLAIN, XKEY  [31m[…]"]


# What goes wrong on our side of it.


class Gone(OSError):
    """Whoever listened has gone."""


def test_an_error_of_the_listener_is_not_the_servers():
    def report(line):
        if line["step"]["name"] == "greeting":
            raise Gone

    with ScriptedServer() as server, pytest.raises(Gone):
        try_out(server, run={"report": report})
    assert "AUTH" not in server.verbs


def test_a_mail_that_cannot_be_made_ends_the_session():
    def compose(_address):
        raise ValueError("no such template")

    with ScriptedServer() as server:
        with contextlib.suppress(ValueError):
            try_out(server, run={"compose": compose})
    assert server.verbs == ["EHLO", "AUTH", "QUIT"]
