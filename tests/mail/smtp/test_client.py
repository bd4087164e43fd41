"""The client: one session, one verdict, and nothing secret where it does not belong."""

from __future__ import annotations

import base64
import contextlib
import datetime
import gc
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
import urllib.parse
import weakref
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.mail.smtp import client as smtp_client
from device_ui.mail.smtp import connection
from device_ui.mail.smtp.address_policy import look_up
from device_ui.mail.smtp.client import DEFAULT_TIMEOUTS, QUIT_SECONDS, SLOWEST, ClientOptions, SmtpClient
from device_ui.mail.smtp.connection import Connection, Timeouts
from device_ui.mail.smtp.outcome import Outcome, SessionError
from device_ui.mail.smtp.tls import trusted
from device_ui.mail.smtp.transaction import deliver_to_all
from device_ui.settings.fields import SmtpSettings
from tests.helpers.product import ROOT
from tests.servers import scripted
from tests.servers.authority import Authority, Certificates
from tests.servers.scripted import ScriptedServer, chain_file, leading_to

HOST = "mail.example.test"
ACCOUNT = "lamp@example.test"
PASSWORD = "Kp7!vRw2#Zt9"
DELIVERED, REFUSED, TRY_LATER = "delivered", "refused", "try later"
PLAIN = base64.b64encode(f"\0{ACCOUNT}\0{PASSWORD}".encode()).decode()
MAIL = b"From: <lamp@example.test>\r\nSubject: one\r\n\r\nhello\r\n"
FIRST, SECOND, THIRD = "one@example.test", "two@example.test", "three@example.test"
# Seconds for what is never going to happen, and for a whole attempt. No verdict depends on the machine's speed: where an attempt's
# time must be up, a server ends it (`when_begun`, `Clock`).
QUICK, OUR_ATTEMPT = 0.5, 60.0
# What a client gets that must not need it: loading the system's authorities takes longer than most tests.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
IN_TIME = 100.0  # far below the end of what must not be waited for, with room for a busy machine


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(HOST, tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def good_chain(certificates):
    return certificates.chain()


@pytest.fixture(scope="module")
def context(certificates):
    return certificates.context


def settings_for(server, **changes):
    values = {"host": HOST, "port": server.port, "sender_name": "Lamp", "account": ACCOUNT, "sealed": "sealed"}
    return SmtpSettings(**{**values, **changes})


def client_for(server, context=None, *, password=PASSWORD, options=None, **changes):
    """A client to a server on loopback: in the clear without a context, else by STARTTLS.

    `options` are those of `ClientOptions` and of `Timeouts`; a verdict has the rest of the attempt, if they say nothing.
    """
    settings = settings_for(server, **{"security": "starttls" if context else "none", **changes})
    return client_with(settings, password, context or NO_TLS, options or {})


def client_with(settings, password, context, options, on_step=None):
    """A client that resolves every name to 127.0.0.1 and may connect there, but for the `options` given."""
    given = {"allow_loopback": True, "resolver": leading_to("127.0.0.1"), "attempt": OUR_ATTEMPT, "verdict": 0.0}
    given |= options
    times = {each.name: given.pop(each.name) for each in fields(Timeouts) if each.name in given}
    return SmtpClient(settings, password, ClientOptions(context, **given), Timeouts(**times), on_step)


def failure_of(client):
    """How `open` fails."""
    with pytest.raises(SessionError) as caught:
        client.open()
    assert not client.is_open
    return caught.value


class Clock:
    """A monotonic clock that a test moves on."""

    def __init__(self, client):
        self.ahead = 0.0
        client.deadline.monotonic = self

    def __call__(self):
        return time.monotonic() + self.ahead


@pytest.fixture
def looks_often(monkeypatch):
    """A client in a wait notices soon that its clock was moved on, or its deadline."""
    monkeypatch.setattr(connection, "LOOK_SECONDS", 0.05)


@contextlib.contextmanager
def opened(client):
    client.open()
    try:
        yield client
    finally:
        client.close()


def spelt(command: str) -> str:
    """A command as Python 3.13 spells it: before it, FROM and TO had capitals. Servers take both (RFC 5321, 2.4)."""
    return command.replace("mail FROM:", "mail from:").replace("rcpt TO:", "rcpt to:")


def deliver(client, recipients=(FIRST,), mail=MAIL):
    """One session with one mail: its outcomes, or the `SessionError` that came before."""
    try:
        with opened(client):
            return client.deliver(list(recipients), mail)
    except SessionError as error:
        return error


def spellings(text):
    """How a secret may be written."""
    raw = text.encode()
    return [
        raw,
        base64.b64encode(raw),
        raw.hex().encode(),
        urllib.parse.quote(text).encode(),
        PLAIN.encode(),
        base64.b64encode(f"\0{ACCOUNT}\0{text}".encode()),
    ]


def carries_login(raw):
    """Whether these bytes hold the password, in any spelling, or an AUTH command."""
    return any(each.lower() in raw.lower() for each in [*spellings(PASSWORD), b"AUTH", b"lamp@"])


# What goes well.


def test_mail_is_delivered_over_starttls(good_chain, context):
    with ScriptedServer(chain=good_chain) as server:
        outcomes = deliver(client_for(server, context))
    assert outcomes == {FIRST: Outcome(DELIVERED, "content", "250 2.0.0 queued")}
    assert server.mails == [MAIL]


def test_mail_is_delivered_over_tls_from_the_first_byte(good_chain, context):
    with ScriptedServer(chain=good_chain, tls_first=True) as server:
        outcomes = deliver(client_for(server, context, security="tls"))
    assert outcomes[FIRST].verdict == DELIVERED
    assert "STARTTLS" not in server.verbs


def test_commands_go_out_in_the_order_of_the_rfcs(good_chain, context):
    with ScriptedServer(chain=good_chain) as server:
        deliver(client_for(server, context), [FIRST, SECOND])
    assert [spelt(each) for each in server.commands] == [
        "ehlo [127.0.0.1]",
        "STARTTLS",
        "ehlo [127.0.0.1]",
        f"AUTH PLAIN {PLAIN}",
        f"mail from:<{ACCOUNT}>",
        f"rcpt to:<{FIRST}>",
        f"rcpt to:<{SECOND}>",
        "data",
        "QUIT",
    ]


def test_a_login_in_the_clear_is_allowed_on_loopback():
    with ScriptedServer() as server:
        assert deliver(client_for(server))[FIRST].verdict == DELIVERED
    assert f"AUTH PLAIN {PLAIN}" in server.commands


def test_a_relay_without_login_never_receives_the_password(good_chain, context):
    with ScriptedServer(chain=good_chain) as server:
        deliver(client_for(server, context, sign_in="none", account="lamp@example.test"))
    assert server.verbs == ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "DATA", "QUIT"]
    assert PASSWORD.encode() not in server.received


def test_ehlo_uses_the_configured_helo_name():
    with ScriptedServer() as server:
        deliver(client_for(server, options={"helo_name": "nas.example.test"}))
    assert server.commands[0] == "ehlo nas.example.test"


def test_the_envelope_sender_is_the_from_address_if_there_is_one():
    with ScriptedServer() as server:
        deliver(client_for(server, sign_in="provider", account="key-4711", from_address="nas.one@example.test"))
    assert "mail from:<nas.one@example.test>" in map(spelt, server.commands)


@settings(deadline=None)
@given(
    local=st.text("abzAZ09!#$%&'+/=^_`{|}~?", min_size=1, max_size=40),
    domain=st.sampled_from(["a.b", "-.-", "x-1.yy.z"]),
)
def test_every_account_of_the_manual_crosses_unchanged(local, domain):
    from smtplib import quoteaddr

    assert quoteaddr(f"{local}@{domain}") == f"<{local}@{domain}>"


def test_the_size_is_declared_to_a_server_that_offers_size():
    with ScriptedServer(features=("AUTH PLAIN", "SIZE 10240000")) as server:
        deliver(client_for(server))
    assert f"mail from:<{ACCOUNT}> SIZE={len(MAIL)}" in map(spelt, server.commands)


def test_ehlo_over_ipv6_uses_an_ipv6_literal():
    with ScriptedServer(address="::1") as server:
        deliver(client_for(server, host="[::1]", options={"resolver": look_up}))
    assert server.commands[0] == "ehlo [IPv6:::1]"


def test_the_local_address_is_known_while_the_session_is_open():
    with ScriptedServer() as server:
        client = client_for(server)
        before = client.local_address
        with opened(client):
            during = client.local_address
    assert (before, during, client.local_address) == ("", "127.0.0.1", "")


# One session, several mails.


def test_one_session_takes_several_mails():
    mails = [MAIL.replace(b"one", word) for word in (b"first", b"second", b"third")]
    with ScriptedServer() as server, opened(client_for(server)) as client:
        verdicts = [client.deliver([FIRST], mail)[FIRST].verdict for mail in mails]
    assert (verdicts, server.mails, server.verbs.count("AUTH")) == ([DELIVERED] * 3, mails, 1)


@pytest.mark.parametrize("step", ["RCPT", "DATA", "content"])
def test_a_failed_mail_is_reset_and_the_next_one_goes_out(step):
    good = scripted.GOOD[step]
    if step == "DATA":
        answers = ["451 later"]  # a server that says so takes no content
    else:
        answers = ["451 later", good]
    with ScriptedServer({step: answers}) as server, opened(client_for(server)) as client:
        first = client.deliver([FIRST], MAIL)[FIRST].verdict
        second = client.deliver([FIRST], MAIL)[FIRST].verdict
    assert (first, second) == (TRY_LATER, TRY_LATER if step == "DATA" else DELIVERED)
    after = server.verbs[server.verbs.index("RSET") :]
    assert after[:3] == ["RSET", "MAIL", "RCPT"]


def test_a_refused_reset_ends_the_session_and_keeps_the_verdict():
    with ScriptedServer({"content": "554 no", "RSET": "500 what?"}) as server, opened(client_for(server)) as client:
        outcomes = client.deliver([FIRST], MAIL)
        assert not client.is_open
    assert outcomes == {FIRST: Outcome(REFUSED, "content", "554 no", scope="mail")}


def test_a_session_that_is_over_delivers_nothing():
    with ScriptedServer() as server:
        client = client_for(server)
        with opened(client):
            pass
        outcomes = client.deliver([FIRST], MAIL)
    assert outcomes == {FIRST: Outcome(TRY_LATER, "connect", "the session is over", "closed", scope="server")}


def test_a_closed_client_can_be_opened_again():
    with ScriptedServer() as server:
        client = client_for(server)
        assert deliver(client)[FIRST].verdict == deliver(client)[FIRST].verdict == DELIVERED
    assert len(server.mails) == 2


@pytest.mark.parametrize("answer", [None, "535 5.7.8 no"])
def test_a_finished_session_leaves_no_object_in_memory(answer):
    """Neither an address that failed nor what ends a wait keeps the pieces of the password until a garbage collection."""
    with ScriptedServer({"AUTH": answer} if answer else {}) as server:
        gc.collect()
        gc.disable()
        try:
            client = client_for(server, options={"resolver": leading_to("127.0.0.2", "127.0.0.1")})
            gone = weakref.ref(client)

            def end_wait(_seconds: float, client: SmtpClient = client) -> None:
                client.end_wait()

            with contextlib.suppress(SessionError), contextlib.closing(client):
                client.open(end_wait)
                assert client.deliver([FIRST], MAIL, on_wait=end_wait)[FIRST].verdict == DELIVERED
            assert len(connections()) == 1
            del client, end_wait
            left = connections()
        finally:
            gc.enable()
    assert gone() is None
    assert left == []
    assert server.verbs.count("DATA") == (not answer)


def connections():
    return [each for each in gc.get_objects() if type(each) is Connection]


def test_the_limit_for_replies_counts_each_mail_anew():
    long = "250 " + "x" * 4000
    with (
        ScriptedServer({"MAIL": long, "RCPT": long, "content": long}) as server,
        opened(client_for(server)) as client,
    ):
        verdicts = {client.deliver([FIRST], MAIL)[FIRST].verdict for _ in range(100)}  # 1.2 MB of answers
    assert verdicts == {DELIVERED}
    assert len(server.sessions) == 1


# Faults at every step. What the table does not name is the rule: "try later", at the step.

STEPS = {
    "greeting": "greeting",
    "EHLO": "ehlo",
    "STARTTLS": "tls",
    "AUTH": "login",
    "MAIL": "sender",
    "RCPT": "recipient",
    "DATA": "content",
    "content": "content",
}
ANSWERS = ["421 closing", "450 busy", "454 not now", "500 what?", "535 no", "550 no", "554 no", "299 odd", "399 odd"]
ANSWERS += ["600 odd", "999 odd", "100 odd", "abc", "", "-50 odd", "55", "250-first\r\n550 last", "451-a\r\n451 b"]
# To these the first digit says yes.
YES = {("MAIL", "299 odd"), ("RCPT", "299 odd")}
FAULTS = {
    "silent": scripted.silent,
    "drip": scripted.drip,
    "closes": scripted.close,
    "resets": scripted.reset,
    "half a line": scripted.half_line,
    "endless": scripted.endless,
    "10 MB line": scripted.long_line,
}
SLOW = ("silent", "drip")


def expected(step, answer):
    """The verdict: "error" before there is a mail, "login refused", or the mail's."""
    refusal = answer[:3] in ("550", "554") or answer.endswith("550 last")
    if step in ("RCPT", "DATA", "content"):
        return REFUSED if refusal else TRY_LATER
    if step == "MAIL":
        return TRY_LATER
    return "login refused" if step == "AUTH" and (refusal or answer == "535 no") else "error"


def verdict_of(result):
    if isinstance(result, SessionError):
        return "login refused" if result.login_refused else "error", result.step
    return result[FIRST].verdict, result[FIRST].step


@pytest.mark.parametrize(("step", "answer"), sorted({(step, answer) for step in STEPS for answer in ANSWERS} - YES))
def test_any_other_reply_has_the_verdict_of_its_step(step, answer, good_chain, context):
    with ScriptedServer({step: answer}, chain=good_chain) as server:
        result = deliver(client_for(server, context))
    assert verdict_of(result) == (expected(step, answer), STEPS[step])
    assert server.verbs.count("AUTH") <= 1


def when_begun(fault, client):
    """The fault; where it would last for ever, the attempt's time is up soon after its begin."""

    def play(session, line):
        client().deadline.shorten(QUICK)
        FAULTS[fault](session, line)

    return play if fault in SLOW else FAULTS[fault]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", [*STEPS, "handshake"])
def test_a_fault_ends_in_the_named_step_and_never_refuses(step, fault, good_chain, context, looks_often):
    with ScriptedServer({step: when_begun(fault, lambda: client)}, chain=good_chain) as server:
        # A handshake has the time that was left at its begin.
        client = client_for(server, context, options={"attempt": 3.0 if step == "handshake" else OUR_ATTEMPT})
        result = deliver(client)
    before_mail = step not in ("MAIL", "RCPT", "DATA", "content")
    verdict, at = verdict_of(result)
    assert verdict == ("error" if before_mail else TRY_LATER)
    # A reset in place of the greeting may come before the connection is even looked at.
    assert at == STEPS.get(step, "tls") or (step, fault, at) == ("greeting", "resets", "connect")
    assert server.verbs.count("AUTH") <= 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_after_the_content_is_tried_later(fault, looks_often):
    with ScriptedServer({"content": when_begun(fault, lambda: client)}) as server:
        client = client_for(server)
        outcomes = deliver(client)
    assert outcomes[FIRST].verdict == TRY_LATER
    assert server.mails == [MAIL]


def test_a_250_to_data_itself_is_no_delivery():
    with ScriptedServer({"DATA": "250 ok"}) as server:
        outcomes = deliver(client_for(server))
    assert outcomes[FIRST].verdict == TRY_LATER
    assert server.mails == []


@pytest.mark.parametrize("code", ["235", "220", "299", "334", "354"])
def test_only_a_25x_after_the_content_is_a_delivery(code):
    with ScriptedServer({"content": f"{code} fine"}) as server:
        assert deliver(client_for(server))[FIRST].verdict == TRY_LATER


def test_a_greeting_of_554_is_no_refusal_of_the_mail():
    with ScriptedServer({"greeting": "554 no service"}) as server:
        error = failure_of(client_for(server))
    assert (error.step, error.problem, error.reply) == ("greeting", "answer", "554 no service")
    assert server.commands == []


@pytest.mark.parametrize(
    ("fault", "problem", "reply"),
    [
        (scripted.silent, "silent", "the server does not answer in time"),
        (scripted.close, "closed", "the server closed the connection"),
        (scripted.half_line, "closed", "the server closed the connection"),
        (scripted.endless, "endless", "the server's answers do not end"),
        (scripted.long_line, "endless", "the server's answers do not end"),
    ],
)
def test_a_failure_has_a_problem_and_a_sentence(fault, problem, reply):
    with ScriptedServer({"EHLO": fault}) as server:
        error = failure_of(client_for(server, options={"attempt": 3.0 if fault is scripted.silent else OUR_ATTEMPT}))
    assert (error.problem, error.reply) == (problem, reply)
    assert str(error) == f"ehlo: {problem}: {reply}"


def test_ten_megabytes_in_a_line_cost_no_memory():
    with ScriptedServer({"EHLO": scripted.long_line}) as server:
        tracemalloc.start()
        try:
            failure_of(client_for(server))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 1024 * 1024


# Recipients.


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ({"RCPT": ("250 ok", "550 no", "250 ok")}, [DELIVERED, REFUSED, DELIVERED]),
        ({"RCPT": ("450 later", "250 ok", "550 no")}, [TRY_LATER, DELIVERED, REFUSED]),
        ({"RCPT": "550 no"}, [REFUSED] * 3),
        ({"RCPT": "450 later"}, [TRY_LATER] * 3),
        ({"RCPT": ("550 no", "421 going")}, [REFUSED, TRY_LATER, TRY_LATER]),
        ({"MAIL": "451 not now"}, [TRY_LATER] * 3),
        ({"MAIL": "550 not you"}, [TRY_LATER] * 3),
        ({"MAIL": "421 going"}, [TRY_LATER] * 3),
        ({"DATA": "554 no"}, [REFUSED] * 3),
        ({"DATA": "250 what"}, [TRY_LATER] * 3),
        ({"DATA": "421 going"}, [TRY_LATER] * 3),
        ({"content": "554 spam"}, [REFUSED] * 3),
        ({"content": "452 full"}, [TRY_LATER] * 3),
        ({"RCPT": ("250 ok", "550 no", "250 ok"), "content": "554 spam"}, [REFUSED] * 3),
        ({"RCPT": ("251 will forward", "252 will try", "299 odd")}, [DELIVERED] * 3),
        ({"RCPT": ("252 will try", "550 no", "354 odd")}, [DELIVERED, REFUSED, TRY_LATER]),
        ({"MAIL": "252 odd"}, [DELIVERED] * 3),
        ({"content": "252 odd"}, [DELIVERED] * 3),
    ],
)
def test_each_recipient_has_the_outcome_that_the_replies_mean(script, expected):
    with ScriptedServer(script) as server, opened(client_for(server)) as client:
        outcomes = deliver_to_all(client, [FIRST, SECOND, THIRD], MAIL)
    assert [outcomes[each].verdict for each in (FIRST, SECOND, THIRD)] == expected


def test_each_command_waits_for_the_reply_to_the_one_before():
    def alone(session, _line):
        session.say("421 two commands at once" if session.unread else "250 ok")

    with ScriptedServer({"MAIL": alone, "RCPT": alone}, features=("AUTH PLAIN", "PIPELINING")) as server:
        assert deliver(client_for(server))[FIRST].verdict == DELIVERED


def test_a_refused_recipient_keeps_nobody_else_from_the_mail():
    answers = ["250 ok", "550 5.1.1 no such user", "250 ok"]
    with ScriptedServer({"RCPT": answers}) as server:
        outcomes = deliver(client_for(server), [FIRST, SECOND, THIRD])
    assert {name: each.verdict for name, each in outcomes.items()} == {
        FIRST: DELIVERED,
        SECOND: REFUSED,
        THIRD: DELIVERED,
    }
    assert outcomes[SECOND] == Outcome(REFUSED, "recipient", "550 5.1.1 no such user")


def test_a_busy_recipient_is_tried_later_and_the_others_get_the_mail():
    with ScriptedServer({"RCPT": ["450 busy", "250 ok"]}) as server:
        outcomes = deliver(client_for(server), [FIRST, SECOND])
    assert (outcomes[FIRST].verdict, outcomes[SECOND].verdict) == (TRY_LATER, DELIVERED)


def test_no_data_is_sent_when_every_recipient_is_refused():
    with ScriptedServer({"RCPT": "550 no"}) as server:
        outcomes = deliver(client_for(server), [FIRST, SECOND])
    assert [each.verdict for each in outcomes.values()] == [REFUSED, REFUSED]
    assert server.verbs[-2:] == ["RSET", "QUIT"]
    assert "DATA" not in server.verbs


def test_a_421_among_recipients_keeps_what_was_refused_before_and_tries_the_rest_later():
    with ScriptedServer({"RCPT": ["550 no", "250 ok", "421 closing"]}) as server:
        outcomes = deliver(client_for(server), [FIRST, SECOND, THIRD])
    assert [outcomes[each].verdict for each in (FIRST, SECOND, THIRD)] == [REFUSED, TRY_LATER, TRY_LATER]
    assert "DATA" not in server.verbs


def test_a_lost_connection_among_recipients_keeps_what_was_refused_before():
    with ScriptedServer({"RCPT": ["550 no", scripted.close]}) as server:
        outcomes = deliver(client_for(server), [FIRST, SECOND])
    assert [outcomes[each].verdict for each in (FIRST, SECOND)] == [REFUSED, TRY_LATER]


def test_a_421_after_the_dot_ends_the_session():
    with ScriptedServer({"content": "421 closing"}) as server, opened(client_for(server)) as client:
        outcomes = client.deliver([FIRST], MAIL)
        assert not client.is_open
    assert outcomes[FIRST] == Outcome(TRY_LATER, "content", "421 closing", scope="server")


def test_a_refused_sender_is_tried_later_since_it_concerns_the_account():
    with ScriptedServer({"MAIL": "553 5.7.1 sender address rejected: not owned by user"}) as server:
        outcomes = deliver(client_for(server), [FIRST, SECOND])
    assert {each.verdict for each in outcomes.values()} == {TRY_LATER}
    assert {each.step for each in outcomes.values()} == {"sender"}


# The content.


def test_lines_with_dots_in_front_arrive_unchanged():
    mail = b"Subject: dots\r\n\r\n.\r\n..\r\n.a\r\nb.\r\n.\r\n"
    with ScriptedServer() as server:
        deliver(client_for(server), mail=mail)
    assert server.mails == [b"Subject: dots\r\n\r\n..\r\n...\r\n..a\r\nb.\r\n..\r\n"]
    assert re.sub(rb"(?m)^\.", b"", server.mails[0]) == mail


def test_no_bare_line_feed_and_no_bare_carriage_return_cross_the_wire(good_chain, context):
    with ScriptedServer(chain=good_chain) as server:
        deliver(client_for(server, context), [FIRST, SECOND])
    assert re.search(rb"(?<!\r)\n|\r(?!\n)", server.received) is None


def test_a_last_line_without_an_end_gets_one():
    with ScriptedServer() as server:
        deliver(client_for(server), mail=b"Subject: x\r\n\r\nend")
    assert server.mails == [b"Subject: x\r\n\r\nend\r\n"]


# The login.


def test_login_is_used_where_plain_is_not_offered():
    with ScriptedServer(features=("AUTH LOGIN CRAM-MD5",)) as server:
        assert deliver(client_for(server))[FIRST].verdict == DELIVERED
    expected_lines = ["AUTH LOGIN", base64.b64encode(ACCOUNT.encode()).decode()]
    expected_lines.append(base64.b64encode(PASSWORD.encode()).decode())
    assert server.commands[1:4] == expected_lines


@pytest.mark.parametrize("offer", ["AUTH LOGIN PLAIN", "auth login plain", "AUTH=PLAIN LOGIN", "AUTH XOAUTH2 PLAIN"])
def test_plain_is_taken_however_it_is_offered(offer):
    with ScriptedServer(features=(offer,)) as server:
        deliver(client_for(server))
    assert server.commands[1] == f"AUTH PLAIN {PLAIN}"


@pytest.mark.parametrize(
    ("features", "reply"),
    [
        ((), "the server offers none"),
        (("AUTH XOAUTH2 CRAM-MD5",), "the server offers XOAUTH2 CRAM-MD5"),
        (("AUTH PLAINER",), "the server offers PLAINER"),
        (("XAUTH PLAIN",), "the server offers none"),
        (("AUTH \x1b[2J\x07X",), "the server offers  [2J X"),
        ((f"AUTH {'X' * 900}",), f"the server offers {'X' * 500}"),
    ],
)
def test_nothing_secret_is_sent_where_no_known_mechanism_is_offered(features, reply):
    with ScriptedServer(features=features) as server:
        error = failure_of(client_for(server))
    problem = "no login offered" if reply.endswith(" none") else "no usable login"
    assert (error.step, error.problem, str(error.reply)) == ("login", problem, reply)
    assert not error.login_refused
    assert not carries_login(server.received)


@pytest.mark.parametrize("feature", ["AUTH PLAIN", "AUTH LOGIN"])
@pytest.mark.parametrize("code", [534, 535, 550, 554, 599])
def test_a_5xx_to_the_login_refuses_it_after_one_try(feature, code):
    with ScriptedServer({"AUTH": f"{code} no"}, features=(feature,)) as server:
        error = failure_of(client_for(server))
    assert (error.step, error.problem, error.login_refused) == ("login", "login refused", True)
    assert server.verbs.count("AUTH") == 1


@pytest.mark.parametrize("feature", ["AUTH PLAIN", "AUTH LOGIN"])
@pytest.mark.parametrize("answer", ["421 x", "432 x", "454 x", "250 x", "220 x", "334 x", "600 x", "abc", "235-"])
def test_any_other_answer_to_the_login_does_not_refuse_it(feature, answer):
    last = scripted.close if answer == "235-" else answer
    with ScriptedServer({"AUTH": last}, features=(feature,)) as server:
        error = failure_of(client_for(server))
    assert (error.step, error.login_refused) == ("login", False)
    assert server.verbs.count("AUTH") == 1


@pytest.mark.parametrize("step", ["login", "password"])
@pytest.mark.parametrize(
    ("answer", "refused"), [("535 no", True), ("501 no", False), ("454 no", False), ("250 ?", False)]
)
def test_auth_login_stops_at_anything_but_a_challenge(step, answer, refused):
    with ScriptedServer({step: answer}, features=("AUTH LOGIN",)) as server:
        error = failure_of(client_for(server))
    assert error.login_refused is refused
    assert base64.b64encode(PASSWORD.encode()) not in server.received


@pytest.mark.parametrize("password", ["비밀번호-Kp7!", "grüße €😀 Kp7!", " a b ", "\\\"'%00 \u00e9", "x" * 256])
@pytest.mark.parametrize("feature", ["AUTH PLAIN", "AUTH LOGIN"])
def test_a_password_is_sent_as_utf_8(feature, password):
    with ScriptedServer(features=(feature,)) as server:
        deliver(client_for(server, password=password, sign_in="provider", from_address="a@b.cc"))
    lines = [command for command in server.commands[1:4] if "AUTH LOGIN" not in command]
    decoded = [base64.b64decode(line.removeprefix("AUTH PLAIN ")) for line in lines if "=<" not in line][:2]
    raw, account = password.encode(), ACCOUNT.encode()
    assert decoded[0] == b"\0" + account + b"\0" + raw if feature == "AUTH PLAIN" else decoded == [account, raw]


def plain_line(length):
    """What an AUTH PLAIN with a password of `length` bytes sends, and the blob."""
    with ScriptedServer() as server:
        assert deliver(client_for(server, password="x" * length))[FIRST].verdict == DELIVERED
    blob = base64.b64encode(f"\0{ACCOUNT}\0{'x' * length}".encode()).decode()
    return server.commands[1:3], blob


def test_a_login_goes_with_the_command_while_the_line_is_short_enough():
    # 512 bytes are a command's line with its end (RFC 5321, 4.5.3.1.4): 496 characters of base64 are the most.
    lines, blob = plain_line(372 - 2 - len(ACCOUNT))
    assert (len(blob), lines[0]) == (496, f"AUTH PLAIN {blob}")


def test_a_longer_login_follows_the_challenge():
    lines, blob = plain_line(373 - 2 - len(ACCOUNT))
    assert (len(blob), lines) == (500, ["AUTH PLAIN", blob])


def test_the_longest_credentials_of_a_provider_get_through():
    account = password = "😀" * 256
    with ScriptedServer() as server:
        client = client_for(server, password=password, sign_in="provider", account=account, from_address="a@b.cc")
        assert deliver(client)[FIRST].verdict == DELIVERED
    assert base64.b64decode(server.commands[2]).decode() == f"\0{account}\0{password}"


def test_a_long_login_is_not_sent_to_a_server_that_gives_no_challenge():
    with ScriptedServer({"challenge": "504 no"}) as server:
        error = failure_of(client_for(server, password="x" * 400))
    assert (error.step, error.login_refused) == ("login", False)
    assert server.commands[1:] == ["AUTH PLAIN"]


# TLS.


def test_nothing_secret_crosses_where_starttls_is_not_offered(context):
    with ScriptedServer() as server:
        error = failure_of(client_for(server, context))
    assert (error.step, error.problem) == ("tls", "no STARTTLS")
    assert str(error.reply).startswith("the server does not offer STARTTLS; it offers ")
    assert server.commands == ["ehlo [127.0.0.1]"]


@pytest.mark.parametrize("answer", ["454 TLS not available", "502 no", "250 ok", "abc"])
def test_nothing_secret_crosses_where_starttls_is_refused(answer, good_chain, context):
    features = ("STARTTLS", "AUTH PLAIN")
    with ScriptedServer({"STARTTLS": answer}, chain=good_chain, features=features) as server:
        assert failure_of(client_for(server, context)).step == "tls"
    assert server.verbs == ["EHLO", "STARTTLS"]


def test_bytes_before_tls_are_refused(good_chain, context):
    def injecting(session, _line):
        session.say(b"220 go ahead\r\n250-injected\r\n250 AUTH PLAIN\r\n")

    script = {"STARTTLS": injecting, "handshake": lambda session, line: None}
    with ScriptedServer(script, chain=good_chain) as server:
        error = failure_of(client_for(server, context))
    assert (error.step, error.problem) == ("tls", "bytes before TLS")
    assert not carries_login(server.received)


def test_what_was_offered_before_tls_is_forgotten(good_chain, context):
    features = ("STARTTLS", "AUTH PLAIN", "SIZE 99")
    with ScriptedServer(chain=good_chain, features=features, features_in_tls=()) as server:
        assert failure_of(client_for(server, context)).problem == "no login offered"
    assert not carries_login(server.received)


def test_a_server_that_talks_on_in_the_clear_after_starttls_gets_nothing(good_chain, context):
    script = {"handshake": "250 what TLS?"}
    with ScriptedServer(script, chain=good_chain) as server:
        error = failure_of(client_for(server, context))
    assert (error.step, error.problem) in [("tls", "no TLS agreed"), ("tls", "bytes before TLS")]
    assert not carries_login(server.received)


def test_tls_to_a_port_without_tls_is_recognised(context):
    with ScriptedServer() as server:
        error = failure_of(client_for(server, context, security="tls"))
    assert (error.step, error.problem) == ("tls", "no TLS spoken")
    assert not carries_login(server.received)


def test_starttls_to_a_tls_port_is_silent_at_the_greeting(good_chain, context):
    with ScriptedServer(chain=good_chain, tls_first=True) as server:
        error = failure_of(client_for(server, context, options={"greeting": QUICK}))
    assert (error.step, error.problem) == ("greeting", "silent")
    assert server.received == b""


DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.UTC)


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize(
    ("names", "dates", "reason"),
    [
        ([HOST], {"not_after": NOW - DAY}, "expired"),
        ([HOST], {"not_before": NOW + DAY}, "not yet valid"),
        (["other.example.test"], {}, "mail.example.test"),
        (["example.test"], {}, "mail.example.test"),
        (["*.mail.example.test"], {}, "mail.example.test"),
        (["127.0.0.1"], {}, "mail.example.test"),  # the connected address, but not the name that was typed
    ],
)
def test_a_certificate_that_is_not_right_gets_no_byte_of_the_login(security, names, dates, reason, certificates):
    chain = certificates.chain(*names, **dates)
    with ScriptedServer(chain=chain, tls_first=security == "tls") as server:
        error = failure_of(client_for(server, certificates.context, security=security))
    problem = reason if reason in ("expired", "not yet valid") else "another name"
    assert (error.step, error.problem) == ("certificate", problem)
    assert reason in error.reply
    assert not carries_login(server.received)
    assert server.verbs == ([] if security == "tls" else ["EHLO", "STARTTLS"])


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_certificate_of_an_unknown_authority_gets_no_byte_of_the_login(security, good_chain):
    with ScriptedServer(chain=good_chain, tls_first=security == "tls") as server:
        error = failure_of(client_for(server, trusted(), security=security))
    assert (error.step, error.problem) == ("certificate", "issuer missing")
    assert error.reply == "unable to get local issuer certificate"
    assert not carries_login(server.received)


def test_a_server_that_signs_for_itself_gets_no_byte_of_the_login(context, tmp_path):
    chain = chain_file(Authority("Somebody else").issue([HOST]), tmp_path / "chain.pem")
    with ScriptedServer(chain=chain) as server:
        assert failure_of(client_for(server, context)).step == "certificate"
    assert not carries_login(server.received)


def test_a_relay_without_login_is_verified_as_well(certificates):
    with ScriptedServer(chain=certificates.chain("other.example.test")) as server:
        error = failure_of(client_for(server, certificates.context, sign_in="none"))
    assert error.step == "certificate"
    assert MAIL not in server.received


@pytest.mark.parametrize(
    ("host", "names"),
    [
        (HOST, [HOST]),
        (HOST + ".", [HOST]),
        ("MAIL.example.TEST", [HOST]),
        (HOST, ["*.example.test"]),
        ("127.0.0.1", ["127.0.0.1"]),
        ("[127.0.0.1]", ["127.0.0.1"]),
        ("메일.example.test", ["xn--w52bn0f.example.test"]),
    ],
)
def test_the_right_certificate_is_accepted_however_the_host_was_typed(host, names, certificates):
    names = [each.encode("idna").decode() if not each.isascii() else each for each in names]
    names = [host.encode("idna").decode()] if not host.isascii() else names
    with ScriptedServer(chain=certificates.chain(*names)) as server:
        assert deliver(client_for(server, certificates.context, host=host))[FIRST].verdict == DELIVERED


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_address_in_the_certificate_is_accepted(host, certificates):
    with ScriptedServer(chain=certificates.chain("::1"), address="::1") as server:
        client = client_for(server, certificates.context, host=host, options={"resolver": look_up})
        assert deliver(client)[FIRST].verdict == DELIVERED


def test_a_trusting_context_verifies_certificate_and_name():
    found = trusted()
    assert (found.verify_mode, found.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert found.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_missing_authority_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        trusted([str(tmp_path / "none.pem")])


def test_an_authority_file_without_a_certificate_is_an_error(tmp_path):
    (tmp_path / "wrong.pem").write_text("no certificate")
    with pytest.raises(ssl.SSLError):
        trusted([str(tmp_path / "wrong.pem")])


# Names and addresses.


def test_an_unknown_name_fails_at_the_step_name():
    def resolver(_host, _port):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with ScriptedServer() as server:
        error = failure_of(client_for(server, options={"resolver": resolver}))
    assert (error.step, error.problem) == ("name", "unknown name")
    assert error.reply == "Name or service not known"


@pytest.mark.parametrize("host", ["a" * 64 + ".example.test", "mail..example.test", ".", "[]"])
def test_an_impossible_name_fails_at_the_step_name(host):
    with ScriptedServer() as server:
        error = failure_of(client_for(server, host=host, options={"resolver": look_up}))
    assert error.step == "name"
    assert server.sessions == []


def test_a_resolver_that_hangs_does_not_hold_the_attempt():
    hang = threading.Event()

    def resolver(_host, _port):
        hang.wait(10 * IN_TIME)
        return []

    started = time.monotonic()
    try:
        with ScriptedServer() as server:
            error = failure_of(client_for(server, options={"resolver": resolver, "attempt": QUICK}))
    finally:
        hang.set()
    assert (error.step, error.problem) == ("name", "silent")
    assert error.reply == "the name server does not answer"
    assert time.monotonic() - started < IN_TIME


def test_the_second_address_is_tried_where_the_first_is_dead():
    with ScriptedServer() as server:
        client = client_for(server, options={"resolver": leading_to("127.0.0.2", "127.0.0.1")})
        assert deliver(client)[FIRST].verdict == DELIVERED


def test_the_second_address_is_tried_where_the_first_swallows_everything():
    with ScriptedServer() as server, socket.socket() as full:
        full.bind(("127.0.0.2", server.port))
        full.listen(0)
        with socket.create_connection(full.getsockname()):  # Linux drops what no longer fits
            options = {"resolver": leading_to("127.0.0.2", "127.0.0.1"), "connect": QUICK}
            assert deliver(client_for(server, options=options))[FIRST].verdict == DELIVERED


def test_the_second_address_is_tried_where_the_first_has_no_family():
    def resolver(_host, port):
        return [(socket.AF_X25, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)), *leading_to("127.0.0.1")(_host, port)]

    with ScriptedServer() as server:
        assert deliver(client_for(server, options={"resolver": resolver}))[FIRST].verdict == DELIVERED


def test_the_most_specific_of_several_failures_is_reported():
    def resolver(_host, port):
        return [*leading_to("127.0.0.2")(_host, port), (socket.AF_X25, socket.SOCK_STREAM, 0, "", ("::9", port))]

    with ScriptedServer() as server:
        error = failure_of(client_for(server, options={"resolver": resolver}))
    assert (error.step, error.problem) == ("connect", "refused")
    assert error.reply == "127.0.0.2: nothing listens at this port; ::9: Address family not supported by protocol"


def test_the_address_that_was_reached_is_known_after_a_failure():
    with ScriptedServer({"EHLO": scripted.close}) as server:
        client = client_for(server, options={"resolver": leading_to("127.0.0.2", "127.0.0.1")})
        failure_of(client)
    assert client.address == leading_to("127.0.0.1")(HOST, server.port)[0]


def test_nothing_is_reached_where_nothing_listens():
    with ScriptedServer() as server:
        client = client_for(server, options={"resolver": leading_to("127.0.0.2")})
        failure_of(client)
    assert client.address is None


def test_a_port_where_nothing_listens_is_told():
    with ScriptedServer() as server:
        error = failure_of(client_for(server, options={"resolver": leading_to("127.0.0.2", "127.0.0.3")}))
    assert (error.step, error.problem) == ("connect", "refused")
    assert error.reply == "nothing listens at this port"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"])
def test_a_server_on_the_device_is_refused_unless_the_maker_allows_it(address):
    options = {"resolver": leading_to(address), "allow_loopback": False}
    with ScriptedServer() as server:
        error = failure_of(client_for(server, options=options))
    assert (error.step, error.problem) == ("address", "not allowed")
    assert error.reply == "the mail server's name leads to this device itself, or to an address that no mail server has"
    assert server.sessions == []


def test_loopback_is_refused_where_the_maker_says_nothing():
    with ScriptedServer() as server:
        settings = settings_for(server, security="none", host="127.0.0.1")
        error = failure_of(SmtpClient(settings, PASSWORD, ClientOptions(ssl.create_default_context())))
    assert error.step == "address"


def test_an_address_on_the_device_does_not_keep_from_the_next_one():
    options = {"resolver": leading_to("127.0.0.1", "127.0.0.2"), "allow_loopback": False}
    with ScriptedServer() as server:
        assert failure_of(client_for(server, options=options)).problem == "not allowed"


def test_a_name_without_an_address_is_refused():
    with ScriptedServer() as server:
        error = failure_of(client_for(server, options={"resolver": lambda _host, _port: []}))
    assert (error.step, error.problem, error.reply) == ("name", "unknown name", "the name has no address")


# The device's own other addresses, in a network of their own that nobody else sees.

ELSEWHERE_SCRIPT = """
import fcntl, socket, struct, sys
sys.path.insert(0, sys.argv[1])
from device_ui.mail.smtp.address_policy import is_here
from tests.mail.smtp import test_client
from tests.servers.scripted import ScriptedServer

def interface(number, name, value):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, number, struct.pack("16s", name) + value)

def address(text):
    return struct.pack("H2x4s8x", socket.AF_INET, socket.inet_aton(text))

SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK, IFF_UP = 0x8914, 0x8916, 0x891C, 1
interface(SIOCSIFFLAGS, b"lo", struct.pack("H14x", IFF_UP))
for label, own in ((b"lo:1", "198.51.100.7"), (b"lo:2", "198.51.100.8")):
    interface(SIOCSIFADDR, label, address(own))
    interface(SIOCSIFNETMASK, label, address("255.255.255.0"))
if sys.argv[4] == "anywhere":
    with open("/proc/sys/net/ipv4/ip_nonlocal_bind", "w") as file:
        file.write("1")
print(is_here(test_client.Peer("203.0.113.9")), is_here(test_client.Peer("198.51.100.8")))
with ScriptedServer(address=sys.argv[2]) as server:
    options = {"resolver": test_client.leading_to(sys.argv[2]), "allow_loopback": sys.argv[3] == "allowed"}
    error = test_client.failure_of(test_client.client_for(server, options=options))
assert not test_client.carries_login(server.received)
print(error.step, "|", error.problem, "|", error.reply)
"""


class Peer:
    """A socket of 198.51.100.7 that is connected to an address; no such server can be had without a network."""

    family = socket.AF_INET

    def __init__(self, address):
        self._address = address

    def getpeername(self):
        return self._address, 25

    def getsockname(self):
        return "198.51.100.7", 40000


def in_a_network_of_its_own(address, allowed, bind="here"):
    """What `is_here` says of a stranger and of our second address, and how an attempt stops."""
    words = ["unshare", "--net", sys.executable, "-c", ELSEWHERE_SCRIPT, str(ROOT), address, allowed, bind]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd="/", env={**os.environ})
    assert done.returncode == 0, done.stderr
    known, told = done.stdout.splitlines()
    return known, told


@pytest.mark.parametrize("address", ["198.51.100.7", "198.51.100.8"])
def test_any_address_of_the_device_is_the_device(address):
    known, told = in_a_network_of_its_own(address, "refused")
    assert (
        told
        == "address | not allowed | the mail server's name leads to this device itself, or to an address that no mail server has"
    )
    assert known == "False True"


def test_a_strangers_address_stays_one_where_any_address_can_be_bound():
    known, told = in_a_network_of_its_own("198.51.100.7", "refused", "anywhere")
    assert told == "address | not allowed | the mail server's address is this device itself"
    assert known == "False False"


def test_a_login_in_the_clear_never_leaves_loopback():
    _, told = in_a_network_of_its_own("198.51.100.7", "allowed")
    assert told == "login | no TLS | a login is never sent in the clear"


# Time.


def test_an_attempt_ends_by_its_deadline_however_the_server_drips():
    started = time.monotonic()
    with ScriptedServer({"EHLO": scripted.drip}) as server:
        error = failure_of(client_for(server, options={"attempt": 0.6}))
    assert error.problem == "silent"
    assert 0.5 < time.monotonic() - started < IN_TIME


def test_a_server_that_takes_a_mail_byte_by_byte_does_not_hold_the_attempt(good_chain, context):
    def slowly(session, _line):
        """Ask for the mail and take one record of it now and then, so that every send gets through at last."""
        session.say("354 go ahead")
        while session.sock.recv(16384) and not session.server.stopping.wait(0.05):
            client.deadline.shorten(0.2)  # of the content: the command has a time of its own

    started = time.monotonic()
    with ScriptedServer({"DATA": slowly}, chain=good_chain) as server:
        client = client_for(server, context)
        outcomes = deliver(client, mail=b"x" * 76 * 200_000)
    assert outcomes[FIRST].verdict == TRY_LATER
    assert time.monotonic() - started < IN_TIME


def test_every_mail_of_a_session_has_the_whole_time(looks_often):
    def late(session, _line):
        clock.ahead += OUR_ATTEMPT / 2
        session.server.stopping.wait(0.2)
        session.say("250 queued")

    with ScriptedServer({"content": late}) as server:
        client = client_for(server)
        clock = Clock(client)
        with opened(client):
            verdicts = [client.deliver([FIRST], MAIL)[FIRST].verdict for _ in range(4)]
    assert verdicts == [DELIVERED] * 4


def test_the_opening_with_the_first_mail_has_one_deadline_and_later_mails_have_their_own(looks_often):
    def late(session, _line):
        """A good answer after two thirds of an attempt; long before the client's own end, if that is further away."""
        clock.ahead += OUR_ATTEMPT * 2 / 3
        session.server.stopping.wait(0.5)
        session.say("250 mail.example.test")

    with ScriptedServer({"EHLO": late, "content": late}) as server:
        slow = client_for(server, sign_in="none")
        clock = Clock(slow)
        with opened(slow):
            first = slow.deliver([FIRST], MAIL)[FIRST]
    assert (first.verdict, first.step, first.problem) == (TRY_LATER, "content", "silent")
    assert len(server.mails) == 1


def test_each_reply_of_a_delivery_has_the_time_of_rfc_5321():
    """Section 4.5.3.2: a greeting delayed by 20 s and more is usual (PHPMailer#104, mailcow#576, go-smtp#175)."""
    times = DEFAULT_TIMEOUTS
    assert (times.greeting, times.command, times.data, times.verdict) == (300.0, 300.0, 120.0, 600.0)
    assert connection.BLOCK_SECONDS == 180.0
    assert (times.attempt, QUIT_SECONDS) == (3600.0, 2.0)


@pytest.mark.parametrize("step", ["greeting", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "content"])
def test_each_wait_ends_by_its_own_limit_and_is_reported_and_can_be_ended(step, monkeypatch):
    monkeypatch.setattr(connection, "LOOK_SECONDS", 0.05)
    limits = {"greeting": 30.0, "command": 30.0, "data": 30.0, "verdict": 30.0, "attempt": 100.0}
    waits: list[str] = []
    # DATA itself is a reply to the transaction's last command before the content.
    awaited = {"DATA": "recipient"}.get(step, STEPS[step])
    with ScriptedServer({step: scripted.silent}) as server:
        client = client_for(server, options=limits)

        def on_wait(_seconds: float) -> None:  # a busy machine may let the client wait at other steps too
            if client.step == awaited:
                waits.append(client.step)
                client.end_wait()

        try:
            client.open(on_wait)
            result: Outcome | SessionError = client.deliver([FIRST], MAIL, on_wait=on_wait)[FIRST]
        except SessionError as error:
            result = error
        client.close()
    assert (result.step, result.problem) == (STEPS[step], "silent")
    assert waits == [awaited]


@pytest.mark.parametrize(
    ("limit", "step"),
    [("greeting", "greeting"), ("command", "EHLO"), ("command", "MAIL"), ("data", "DATA"), ("verdict", "content")],
)
def test_a_silent_server_is_left_after_the_limit_of_its_step(limit, step):
    others = {"greeting": 30.0, "command": 30.0, "data": 30.0, "verdict": 30.0, "attempt": 100.0}
    started = time.monotonic()
    with ScriptedServer({step: scripted.silent}) as server:
        result = deliver(client_for(server, options={**others, limit: 0.2}))
    outcome = result if isinstance(result, SessionError) else result[FIRST]
    assert (outcome.step, outcome.problem) == (STEPS[step], "silent")
    assert 0.2 <= time.monotonic() - started < 30


# HELO (RFC 5321, section 3.2).


@pytest.mark.parametrize("code", ["500 Command unrecognized", "502 not implemented", "504 what?"])
def test_a_relay_that_knows_only_helo_gets_its_mail(code):
    """upyo#41, smtp-mail#12, gen_smtp#15, niosmtp#24, Haraka#360, python-slimta#104, vertx-mail-client#63."""
    with ScriptedServer({"EHLO": code, "HELO": "250 hello"}) as server:
        outcomes = deliver(client_for(server, sign_in="none", sealed=None))
    assert outcomes[FIRST].verdict == DELIVERED
    assert server.verbs[:3] == ["EHLO", "HELO", "MAIL"]


@pytest.mark.parametrize("code", ["421 closing", "450 busy", "550 not you", "554 no"])
def test_any_other_refusal_of_ehlo_is_final(code):
    """go-smtp#260, PHPMailer#2189: after a 421 the answer to HELO would hide why."""
    with ScriptedServer({"EHLO": code, "HELO": "250 hello"}) as server:
        error = failure_of(client_for(server, sign_in="none", sealed=None))
    assert (error.step, error.reply) == ("ehlo", code)
    assert "HELO" not in server.verbs


def test_a_login_or_tls_needs_ehlo(good_chain, context):
    with ScriptedServer({"EHLO": "502 no", "HELO": "250 hello"}) as server:
        assert failure_of(client_for(server)).reply == "502 no"
        assert failure_of(client_for(server, context, sign_in="none", sealed=None)).reply == "502 no"
    assert "HELO" not in server.verbs


def test_where_helo_is_refused_too_the_answer_to_ehlo_is_reported():
    with ScriptedServer({"EHLO": "502 no EHLO", "HELO": "550 nor HELO"}) as server:
        assert failure_of(client_for(server, sign_in="none", sealed=None)).reply == "502 no EHLO"


# Only an answer that judged the password refuses it.

NOT_JUDGED = [
    "535 5.7.8 Error: authentication failed: Connection lost to authentication server",  # OpenSMTPD#65, relay#441
    "535 5.7.8 Error: authentication failed: Can't connect to authentication server",
    "535 5.7.8 Error: authentication failed: generic failure",  # mission-control#2683
    "535 5.7.0 Temporary authentication failure",  # OpenSMTPD#143
    "454 4.7.0 Temporary authentication failure: Connection lost to authentication server",  # docker-mailserver#3891
    "454 4.7.0 Too many login attempts, please try again later.",  # slurm-mail#41
    "435 Unable to authenticate at present",  # rainloop-webmail#1373
    "432 4.7.12 A password transition is needed",  # p5-sisimai#129
    "421 4.7.0 Try again later",
    "500 5.5.1 unknown command",
    "501 5.5.2 cannot decode",
    "502 not implemented",
    "503 5.5.1 AUTH not allowed now",
    "504 5.5.4 mechanism",
    "530 5.7.0 Must issue a STARTTLS command first",
    "538 5.7.11 Encryption required",
]
JUDGED = [
    "535 5.7.8 Authentication credentials invalid",
    "535 5.7.0 Invalid login or password",  # borgbackupserver#16
    "535 Invalid Username or Password",  # PHPMailer#1281
    "535 5.7.139 Authentication unsuccessful, basic authentication is disabled.",
    "535 5.7.8 locked, try again later",
    "534 5.7.9 Application-specific password required",
    "550 5.7.30 Basic authentication is not supported",
    "554 no",
    "501 5.7.8 wrong password",
]


@pytest.mark.parametrize(
    ("reply", "judged"), [*((each, False) for each in NOT_JUDGED), *((each, True) for each in JUDGED)]
)
def test_only_an_answer_that_judged_the_password_refuses_it(reply, judged):
    with ScriptedServer({"AUTH": reply}) as server:
        error = failure_of(client_for(server))
    assert (error.login_refused, error.step) == (judged, "login")
    assert server.verbs.count("AUTH") == 1


def test_a_server_that_has_the_whole_mail_may_take_longer_than_an_attempt(looks_often):
    def slow(session, _line):
        clock.ahead += 2 * OUR_ATTEMPT
        session.server.stopping.wait(0.2)
        session.say("250 taken")

    with ScriptedServer({"content": slow}) as server:
        client = client_for(server, options={"verdict": 10 * OUR_ATTEMPT})
        clock = Clock(client)
        outcomes = deliver(client)
    assert outcomes[FIRST].verdict == DELIVERED


def test_the_wait_for_the_last_reply_is_reported_in_seconds_and_can_be_ended(looks_often):
    seconds: list[float] = []
    with ScriptedServer({"content": scripted.silent}) as server:
        client = client_for(server, options={"verdict": 100 * OUR_ATTEMPT})

        def on_wait(waited: float) -> None:
            seconds.append(waited)
            if len(seconds) == 3:
                client.end_wait()

        with opened(client):
            outcome = client.deliver([FIRST], MAIL, on_wait=on_wait)[FIRST]
    assert (outcome.verdict, outcome.step, outcome.problem) == (TRY_LATER, "content", "silent")
    assert len(seconds) == 3 and seconds == sorted(seconds) and seconds[0] >= 0.05


def test_what_follows_a_late_refusal_has_an_attempt_again_and_no_more():
    script = {"content": "550 no", "RSET": scripted.silent}
    with ScriptedServer(script) as server:
        client = client_for(server, options={"attempt": 3.0, "verdict": 100 * OUR_ATTEMPT})
        started = time.monotonic()
        outcomes = deliver(client)
    assert outcomes[FIRST].verdict == REFUSED
    assert time.monotonic() - started < IN_TIME


def test_a_long_mail_has_more_time_on_a_slow_line():
    left = []

    def on_content(session, _line):
        left.append(client.deadline.left())
        session.say("250 taken")

    with ScriptedServer({"content": on_content}) as server, opened(client_for(server)) as client:
        for lines in (0, 1000):
            client.deliver([FIRST], MAIL + (b"y" * 70 + b"\r\n") * lines)
    assert 72_000 / SLOWEST - 2 < left[1] - left[0] < 72_000 / SLOWEST + 2


def test_no_quit_is_said_once_the_time_is_up():
    with ScriptedServer() as server:
        client = client_for(server)
        client.open()
        client.deadline.restart(0)
        client.close()
    assert server.verbs == ["EHLO", "AUTH"]


def test_a_quit_never_has_more_seconds_than_are_left(monkeypatch):
    monkeypatch.setattr(smtp_client, "QUIT_SECONDS", 10 * IN_TIME)
    with ScriptedServer({"QUIT": scripted.silent}) as server:
        client = client_for(server)
        client.open()
        client.deadline.restart(QUICK)
        started = time.monotonic()
        client.close()
    assert QUICK - 0.1 < time.monotonic() - started < IN_TIME


def test_a_greeting_may_have_less_time_than_the_rest():
    with ScriptedServer({"greeting": scripted.silent}) as server:
        client = client_for(server, options={"greeting": 0.2})
        error = failure_of(client)
        assert client.deadline.left() > OUR_ATTEMPT / 2
    assert (error.step, error.problem) == ("greeting", "silent")


@pytest.mark.parametrize("fault", [scripted.silent, scripted.close, scripted.reset, scripted.drip, scripted.endless])
def test_a_server_that_never_answers_quit_delays_nothing(fault, monkeypatch):
    monkeypatch.setattr(smtp_client, "QUIT_SECONDS", QUICK)
    started = time.monotonic()
    with ScriptedServer({"QUIT": fault}) as server:
        assert deliver(client_for(server, options={"attempt": 10 * IN_TIME}))[FIRST].verdict == DELIVERED
    assert time.monotonic() - started < IN_TIME


# What a server says is shown, and nothing secret with it.

ECHOES = {
    "plain": PASSWORD,
    "base64": base64.b64encode(PASSWORD.encode()).decode(),
    "the AUTH line": f"AUTH PLAIN {PLAIN}",
    "half of the AUTH line": PLAIN[len(PLAIN) // 2 :],
    "hex": PASSWORD.encode().hex(),
    "HEX": PASSWORD.encode().hex().upper(),
    "url": urllib.parse.quote(PASSWORD),
    "without case": PASSWORD.lower(),
    "the first eight": PASSWORD[:8],
    "the last eight": PASSWORD[-8:],
    "twice": PASSWORD + PASSWORD,
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("step", ["AUTH", "MAIL", "RCPT", "DATA", "content"])
def test_a_server_that_repeats_the_secret_is_not_quoted(step, echo):
    with ScriptedServer({step: f"554 5.7.8 bad login <{echo}> sorry"}) as server:
        result = deliver(client_for(server))
    reply = result.reply if isinstance(result, SessionError) else result[FIRST].reply
    assert echo.lower() not in reply.lower()
    assert "[…]" in reply and reply.startswith("554 5.7.8 bad login <") and reply.endswith("> sorry")


def test_a_server_that_repeats_the_login_line_is_not_quoted_in_any_text_of_the_error():
    def echo(session, line):
        session.say(f"535 no such login: {line}")

    with ScriptedServer({"AUTH": echo}) as server:
        error = failure_of(client_for(server))
    assert error.reply == "535 no such login: AUTH PLAIN […]"
    assert not carries_login(f"{error}{error!r}{error.args}".replace("AUTH", "").encode())


@pytest.mark.parametrize(
    "password", ["Kp7!\u200bvRw2#Zt9", "Kp7!v\u00a0Rw2#Zt", "Kp7!vRw2\u2028#Zt9", "Kp7!\ue000vRw2#"]
)
def test_a_password_with_a_character_that_is_not_shown_is_not_quoted(password):
    with ScriptedServer({"AUTH": f"535 not {password} but"}) as server:
        reply = failure_of(client_for(server, password=password)).reply
    assert reply == "535 not […] but"


def test_a_short_password_of_a_provider_is_not_quoted():
    with ScriptedServer({"AUTH": "535 no: s3cr"}) as server:
        client = client_for(server, password="s3cr", sign_in="provider", from_address="a@b.cc")
        assert failure_of(client).reply == "535 no: […]"


def test_an_answer_is_one_line_without_control_characters():
    raw = b"550-\x1b[31mred\x00\x07\r\n550-\xe2\x80\xaesdrawkcab\r\n550 \x7f\xff end\r\n"
    with ScriptedServer({"RCPT": lambda session, _line: session.say(raw)}) as server:
        reply = deliver(client_for(server))[FIRST].reply
    assert reply.isprintable()
    assert [word for word in reply.split() if word != "\ufffd"] == ["550", "[31mred", "sdrawkcab", "end"]


def test_an_answer_is_cut_at_500_characters():
    with ScriptedServer({"RCPT": "550 " + "x" * 2000}) as server:
        assert len(deliver(client_for(server))[FIRST].reply) == 500


def test_a_reply_is_not_redacted_without_a_login():
    with ScriptedServer({"RCPT": f"550 {PASSWORD}"}) as server:
        outcomes = deliver(client_for(server, sign_in="none"))
    assert outcomes[FIRST].reply == f"550 {PASSWORD}"


def test_a_client_never_shows_its_password_in_repr():
    with ScriptedServer() as server:
        client = client_for(server)
    assert PASSWORD not in repr(client) and PASSWORD not in repr(replace(settings_for(server)))
