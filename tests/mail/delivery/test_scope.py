"""Each answer decides for what it was about and for nothing else: servers with limits, as public reports describe them.

A row is a server's rule, and the seconds after which every alarm has reached every recipient that the server takes: 0
where the next transaction or session may begin at once. The balance is exact: the ledger says *delivered* of exactly those
pairs of mail and recipient that the server took, each once.
"""

from __future__ import annotations

from collections import Counter
from email import message_from_bytes
from email import policy as policies
from typing import NamedTuple

import pytest

from device_ui.mail.events import Event
from device_ui.settings.recipients import Recipient
from tests.helpers.delivery import DAY, HOUR, MINUTE, Desk
from tests.servers.limited import CLOSE, RESET, LimitedServer, Policy, Session

FIVE, TWELVE = 5, 12
# Seconds of the first wait of a mail or a server that has to wait.
FIRST_WAIT = 45.0


def addresses(count: int) -> list[str]:
    return [f"r{number}@example.com" for number in range(1, count + 1)]


def recipients_at_most(count: int, reply: str) -> Policy:
    """No more recipients than this in a transaction."""
    return lambda session, step, _: reply if step == "RCPT" and len(session.accepted) >= count else ""


def recipients_a_session(count: int, reply: str) -> Policy:
    def policy(session: Session, step: str, _: str) -> str:
        used = session.recipients + len(session.accepted)
        return reply if step == "RCPT" and used >= count else ""

    return policy


def mails_a_session(count: int, at: str, reply: str) -> Policy:
    return lambda session, step, _: reply if step == at and session.mails >= count else ""


def at_data_more_than(count: int, at: str, reply: str) -> Policy:
    return lambda session, step, _: reply if step == at and len(session.accepted) > count else ""


def with_bad(bad: str, at: str, reply: str) -> Policy:
    """The whole transaction fails at this step if this recipient is in it."""
    return lambda session, step, _: reply if step == at and bad in session.accepted else ""


def after_bad(bad: str, reply: str, then: str) -> Policy:
    """The recipient is not taken, and none after it in the same transaction."""

    def policy(session: Session, step: str, address: str) -> str:
        if step != "RCPT":
            return ""
        if address == bad:
            session.poisoned = session.asked, id(session.accepted)
            return reply
        return then if getattr(session, "poisoned", (0, 0))[1] == id(session.accepted) else ""

    return policy


class Row(NamedTuple):
    report: str
    policy: Policy
    recipients: int = 1
    events: int = 1
    seconds: float = 0.0
    refused: tuple[str, ...] = ()


GOOD, BAD = "r1@example.com", "r2@example.com"
ROWS = [
    # How many recipients a transaction may have (RFC 5321, 4.5.3.1.10).
    Row("go-smtp#195: 552", recipients_at_most(FIVE, "552 5.5.3 Maximum limit of 5 recipients reached"), TWELVE),
    Row("go-smtp#195: 552 without a code", recipients_at_most(FIVE, "552 Too many recipients"), TWELVE, 3),
    Row("jakartaee/mail-api#20: 452", recipients_at_most(FIVE, "452 #4.5.3 Too many recipients."), TWELVE, 3),
    Row("mailpit#205: 452 4.5.3", recipients_at_most(FIVE, "452 4.5.3 Too many recipients"), TWELVE, 2),
    Row("go-smtp#195: Exchange, 550 5.5.3", recipients_at_most(FIVE, "550 5.5.3 Too many recipients"), TWELVE),
    Row("listmonk#1300: 450 4.5.3", recipients_at_most(1, "450 4.5.3 Too many recipients"), 4, 2),
    Row("maddy#149: one a transaction", recipients_at_most(1, "452 Too many"), TWELVE),
    Row("421 at the sixth RCPT", recipients_at_most(FIVE, "421 4.7.0 Too many"), TWELVE, 2),
    Row("close at the sixth RCPT", recipients_at_most(FIVE, CLOSE), TWELVE, 2),
    Row("reset at the second RCPT", recipients_at_most(1, RESET), 3, 2),
    Row("452 4.5.3 to DATA", at_data_more_than(FIVE, "DATA", "452 4.5.3 Too many recipients"), TWELVE),
    Row("554 5.5.3 to the content", at_data_more_than(1, "content", "554 5.5.3 Too many recipients"), 3),
    # How many mails, recipients or seconds a connection may have.
    Row("filtermail#143: 421 to MAIL", mails_a_session(1, "MAIL", "421 4.7.0 closing"), 1, 6),
    Row("filtermail#143: 421 to RCPT", mails_a_session(1, "RCPT", "421 4.7.0 closing"), 2, 6),
    Row("smtppool#19: 421 to DATA", mails_a_session(2, "DATA", "421 4.4.2 timeout"), 1, 6),
    Row("smtppool#19: 421 to the content", mails_a_session(2, "content", "421 4.4.2 timeout"), 1, 6),
    Row("MAIL F1: close after the 250", mails_a_session(1, "MAIL", CLOSE), 1, 6),
    Row("boulder#2249: reset after the 250", mails_a_session(2, "MAIL", RESET), 1, 6),
    Row("luxletter#247: 452 to MAIL", mails_a_session(2, "MAIL", "452 4.3.2 Too many messages"), 1, 6),
    Row("451 to MAIL", mails_a_session(3, "MAIL", "451 4.7.1 too much for one session"), 1, 8),
    Row("550 to the second MAIL", mails_a_session(1, "MAIL", "550 5.7.0 one mail a session"), 1, 4),
    Row("503 to the second MAIL", mails_a_session(1, "MAIL", "503 5.5.1 one mail a session"), 1, 4),
    Row("zone-mta#110: 450 to RCPT", mails_a_session(1, "RCPT", "450 4.2.1 at a rate that"), 1, 4),
    Row("451 to the content", mails_a_session(1, "content", "451 4.7.0 one mail a session"), 1, 4),
    Row("452 after ten recipients", recipients_a_session(10, "452 4.5.3 Too many recipients"), 4, 6),
    Row("452 without a code after ten recipients", recipients_a_session(10, "452 too many"), 4, 6),
    Row("421 after ten recipients", recipients_a_session(10, "421 too many"), 4, 6),
    # One bad recipient.
    Row("upyo#38: 550 to RCPT", after_bad(BAD, "550 5.1.1 no", ""), 3, 2, 0, (BAD,)),
    Row("msmtp#20: 550 to DATA", with_bad(BAD, "DATA", "550 5.1.1 no such user"), 3, 2, 0, (BAD,)),
    Row("msmtp#20: 554 to DATA", with_bad(BAD, "DATA", "554 no valid recipients"), 3, 1, 0, (BAD,)),
    Row("MailKit#764: 550 to the content", with_bad(BAD, "content", "550 5.1.1 no such user"), 3, 2, 0, (BAD,)),
    Row("SmtpClient-for-Qt#133: 554 to all", with_bad(BAD, "content", "554 Transaction failed"), 4, 1, 0, (BAD,)),
    Row("laminas-mail#41: 503 after a bad one", after_bad(BAD, "550 5.1.1 no", "503 5.5.1 sequence"), 4, 1, 0, (BAD,)),
    Row("554 after a bad one", after_bad(BAD, "550 5.1.1 no", "554 transaction failed"), 4, 1, 0, (BAD,)),
    Row("421 after a bad one", after_bad(BAD, "550 5.1.1 no", "421 too many errors"), 4, 2, 0, (BAD,)),
    Row("close after a bad one", after_bad(GOOD, "550 5.1.1 no", CLOSE), 4, 2, 0, (GOOD,)),
    Row("451 to the content for one", with_bad(BAD, "content", "451 4.3.0 cannot check"), 3, 1, FIRST_WAIT, (BAD,)),
]


def taken_for_good(desk: Desk) -> Counter[tuple[int, str]]:
    """The pairs of mail and recipient that the ledger has as delivered."""
    count = desk.outbox.last
    found = desk.outbox.deliveries_of(range(1, count + 1))
    return Counter(
        (number, each.recipient) for number, all_ in found.items() for each in all_ if each.verdict == "delivered"
    )


def raise_kinds(desk: Desk, count: int, text: str = "full") -> list[int]:
    """Raise alarms of different codes: each is a mail of its own."""
    return desk.outbox.accept(
        [Event(str(301 + each), "fault", desk.wall, desk.wall, "t", text) for each in range(count)]
    )


def set_up(desk: Desk, server: LimitedServer, recipients: int = 1) -> None:
    desk.listed = [Recipient(each) for each in addresses(recipients)]
    desk.save(host="127.0.0.1", port=server.port, security="none", sign_in="none", sealed=None)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.report)
def test_every_alarm_reaches_whom_the_server_takes_and_no_one_twice(real, row):
    with LimitedServer(row.policy) as server:
        set_up(real, server, row.recipients)
        numbers = raise_kinds(real, row.events)
        real.work(row.seconds)
    good = [each for each in addresses(row.recipients) if each not in row.refused]
    everything = Counter((number, each) for number in numbers for each in good)
    assert server.taken == everything
    assert taken_for_good(real) == everything
    waits = {
        each.verdict for number in numbers for each in real.outbox.deliveries(number) if each.recipient in row.refused
    }
    assert waits <= {"refused"}
    if not row.seconds:
        assert real.waiting == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.report)
def test_sessions_and_transactions_are_as_few_as_the_limit_allows(real, row):
    with LimitedServer(row.policy) as server:
        set_up(real, server, row.recipients)
        raise_kinds(real, row.events)
        real.work(row.seconds)
    assert server.sessions <= 2 + row.events * 2 + row.recipients
    assert len(server.contents) <= row.events * row.recipients


# A size (RFC 1870).


def size_limit(size: int, at: str, reply: str = "552 5.3.4 Message too big") -> Policy:
    def policy(session: Session, step: str, _: str) -> str:
        length = session.size if at == "MAIL" else len(session.content)
        return reply if step == at and length > size else ""

    return policy


SIZES = [
    ("pm2-health#52: announced, 552 to MAIL", ("SIZE 60000",), size_limit(60000, "MAIL")),
    ("freescout#3065: announced, 552 to the content", ("SIZE 60000",), size_limit(60000, "content")),
    ("swiftmailer#989: not announced, 552 5.2.3", (), size_limit(60000, "content", "552 5.2.3 exceeded limits")),
    ("clean#331: not announced, 552 #5.3.4", (), size_limit(30000, "content", "552 #5.3.4 size exceeds limit")),
    ("deltachat-android#102: no code", (), size_limit(30000, "content", "552 too big")),
    ("Exchange: 550 5.3.4 to MAIL, announced more", ("SIZE 90000",), size_limit(30000, "MAIL", "550 5.3.4 too big")),
    ("SIZE without a number", ("SIZE",), size_limit(30000, "MAIL")),
]


@pytest.mark.parametrize(("features", "policy"), [row[1:] for row in SIZES], ids=[row[0] for row in SIZES])
def test_a_digest_larger_than_the_server_takes_is_split_and_all_arrives_at_once(real, features, policy):
    with LimitedServer(policy, features) as server:
        set_up(real, server)
        numbers = real.outbox.accept([Event("303", "fault", real.wall, real.wall, "t", "x" * 3000)] * 30)
        assert real.outbox.assign_to_mail(numbers) == numbers[0]
        small = raise_kinds(real, 2)
        real.work()
        assert (real.waiting, real.problem) == ([], ("", "", ""))
    told = b"".join(server.contents)
    assert set(server.taken.values()) == {1}
    assert {number for number, _ in server.taken} >= {numbers[0], *small}
    assert told.count(b"x" * 70) > 0
    mailed = {real.outbox.event(number).mail or number for number in numbers}
    assert taken_for_good(real) == server.taken == Counter((number, GOOD) for number in {*mailed, *small})


@pytest.mark.parametrize(("features", "policy"), [row[1:] for row in SIZES], ids=[row[0] for row in SIZES])
def test_a_single_text_larger_than_the_server_takes_is_shortened(real, features, policy):
    with LimitedServer(policy, features) as server:
        set_up(real, server)
        numbers = real.outbox.accept([Event("303", "fault", real.wall, real.wall, "t", "x" * 100_000)])
        real.work()
    assert server.taken == {(numbers[0], GOOD): 1}
    assert (real.waiting, real.problem) == ([], ("", "", ""))
    text = message_from_bytes(server.contents[0], policy=policies.default).get_body(("plain",)).get_content()
    assert "xxx…" in text


def test_a_mail_that_no_shortening_makes_small_enough_is_refused_alone(real):
    with LimitedServer(size_limit(700, "MAIL"), ("SIZE 700",)) as server:
        set_up(real, server)
        raise_kinds(real, 2)
        real.work()
    assert [each.verdict for number in (1, 2) for each in real.outbox.deliveries(number)] == ["refused"] * 2
    assert real.waiting == []
    assert real.problem[:2] == ("refused", "sender")


# A text.


def text_refused(reply: str, at: str = "content") -> Policy:
    return lambda session, step, _: reply if step == at and b"forbidden" in session.content else ""


@pytest.mark.parametrize("reply", ["554 5.7.1 spam", "550 5.6.0 content", "554 no", "550 5.7.0 virus"])
def test_a_text_that_is_refused_is_refused_alone(real, reply):
    """email-deep-validator#9: a 550 may mean the text."""
    with LimitedServer(text_refused(reply)) as server:
        set_up(real, server, 2)
        bad = real.outbox.accept([Event("303", "fault", real.wall, real.wall, "t", "forbidden")])
        good = raise_kinds(real, 3)
        real.work()
    assert server.taken == Counter((number, each) for number in good for each in addresses(2))
    assert [each.verdict for each in real.outbox.deliveries(bad[0])] == ["refused"] * 2
    assert server.sessions == 1


@pytest.mark.parametrize("reply", ["451 4.7.1 greylisted", "450 4.2.0 later", "452 4.3.1 disk"])
def test_a_text_that_is_deferred_for_ever_holds_up_no_other(real, reply):
    with LimitedServer(text_refused(reply)) as server:
        set_up(real, server)
        bad = real.outbox.accept([Event("303", "fault", real.wall, real.wall, "t", "forbidden")])
        for _ in range(20):
            good = raise_kinds(real, 3)
            real.work()
            assert all((number, GOOD) in server.taken for number in good)
            real.work(MINUTE)
    assert real.waiting == bad
    assert set(server.taken.values()) == {1}


def test_a_text_at_which_the_server_hangs_up_delays_others_by_one_wait_at_most(real):
    with LimitedServer(text_refused(CLOSE)) as server:
        set_up(real, server)
        bad = real.outbox.accept([Event("303", "fault", real.wall, real.wall, "t", "forbidden")])
        good = raise_kinds(real, 3)
        real.work(FIRST_WAIT)
        assert all((number, GOOD) in server.taken for number in good)
    assert real.waiting == bad


# A refusal that is not about a recipient or a mail refuses none.


@pytest.mark.parametrize(
    ("at", "reply"),
    [
        ("RCPT", "530 5.7.0 Authentication required"),  # RFC 4954, 6
        ("RCPT", "503 5.5.1 need MAIL first"),
        ("RCPT", "502 5.5.1 not implemented"),
        ("RCPT", "521 5.3.2 does not accept mail"),  # RFC 7504
        ("RCPT", "553 5.1.8 sender address rejected: Domain not found"),  # Postfix, smtpd_delay_reject
        ("RCPT", "550 5.1.7 sender address"),
        ("RCPT", "550 5.7.25 no reverse name"),  # RFC 7372
        ("DATA", "503 5.5.1 no valid recipients"),
        ("DATA", "530 5.7.0 STARTTLS first"),
        ("DATA", "502 5.5.1 not implemented"),
        ("content", "530 5.7.0 Authentication required"),
        ("content", "521 5.3.2 not now"),
        ("content", "550 5.3.2 system not accepting"),  # RFC 3463: the system, not the mail
        ("MAIL", "530 5.7.0 Authentication required"),
        ("MAIL", "550 5.7.60 send as denied"),
        ("content", "550 5.7.60 SMTP; Client does not have permissions to send as this sender"),  # Exchange Online
        ("content", "554 5.2.252 SendAsDenied"),
        ("content", "550 5.4.5 Daily user sending limit exceeded"),  # Gmail; RFC 3463: congestion
        ("RCPT", "550 5.4.5 Daily user sending limit exceeded"),
        ("RCPT", "550 5.1.90 daily limit for message recipients"),  # Exchange Online
        ("RCPT", "550 5.7.64 TenantAttribution; Relay Access Denied"),  # Exchange Online: the address of this site
        ("content", "552 5.3.1 mail system full"),  # RFC 3463, 3.4
        ("content", "550 5.7.0 Requested action not taken: too many emails per second"),  # Mailtrap
        ("content", "552 Message would take you over your relay quota of 500"),
        ("DATA", "550 5.7.1 Daily SMTP relay limit exceeded for customer"),  # Gmail
        ("RCPT", "550 a@example.com is sending too many emails - rate overlimit"),  # Hestia
        ("RCPT", "554 5.7.1 <a@b.example>: Recipient address rejected: You have exceeded your Outmail quota"),
    ],
)
def test_a_refusal_of_the_session_refuses_no_mail(real, at, reply):
    with LimitedServer(lambda session, step, _: reply if step == at else "") as server:
        set_up(real, server, 2)
        numbers = raise_kinds(real, 2)
        real.work(HOUR)
        assert real.waiting == numbers
        assert [each for number in numbers for each in real.outbox.deliveries(number)] == []
        assert real.problem[0] == "server"
        server.policy = lambda *_: ""
        real.work(2 * HOUR)
    assert real.waiting == []


# Waits do not grow while there is progress.


def test_the_wait_of_a_mail_does_not_grow_while_recipients_are_served(real):
    """jakartaee/mail-api#20: all were served at 0, 37 and 111 s."""
    served = Counter()

    def policy(session: Session, step: str, address: str) -> str:
        if step != "RCPT":
            return ""
        minute = int(real.now // 10)
        served[minute] += 1
        return "" if served[minute] == 1 else "450 4.7.1 one in ten seconds"

    with LimitedServer(policy) as server:
        set_up(real, server, 6)
        raise_kinds(real, 1)
        began = real.now
        while real.waiting and real.now < began + HOUR:
            real.work(1)
    assert sorted(server.taken) == [(1, each) for each in sorted(addresses(6))]
    assert real.now - began < 6 * FIRST_WAIT


def test_the_wait_of_the_server_does_not_grow_while_there_is_progress(real):
    """One mail a minute, then the connection ends before any answer."""

    def policy(session: Session, step: str, address: str) -> str:
        minute = int(real.now // 20)
        if step == "MAIL" and policy.last == minute:
            return "421 4.7.0 slow down"
        if step == "content":
            policy.last = minute
        return ""

    policy.last = 0
    with LimitedServer(policy) as server:
        set_up(real, server)
        raise_kinds(real, 8)
        began = real.now
        while real.waiting and real.now < began + HOUR:
            real.work(1)
    assert len(server.taken) == 8
    assert real.now - began < 8 * FIRST_WAIT


def test_a_server_that_serves_no_one_is_tried_less_and_less(real):
    with LimitedServer(lambda session, step, _: "421 4.7.0 no" if step == "MAIL" else "") as server:
        set_up(real, server)
        raise_kinds(real, 3)
        real.work(DAY)
    assert 15 < server.sessions < 60
