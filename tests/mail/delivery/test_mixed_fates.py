"""Every fault at every step, in a mail whose recipients have different fates: an exact balance for each of them.

One recipient is refused for good, one is deferred, and the others are taken, so far as the fault leaves them. The truth is
the server's: whom it answered 250 for, after the content. The ledger must say *delivered* of these, *refused* of whom the
server refused, and nothing of the others, which wait; once the fault is over each of them gets the mail, once.
"""

from __future__ import annotations

import re
from collections import Counter

import pytest

from device_ui.mail.delivery.retry import DEFERRALS_MAXIMUM
from device_ui.mail.events import Event
from device_ui.mail.smtp import connection
from device_ui.mail.smtp.client import ClientOptions, SmtpClient
from device_ui.mail.smtp.outcome import Outcome
from device_ui.mail.smtp.scope import Scope
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import Recipient
from tests.helpers.delivery import DAY, DELIVERED, HOUR, LATER, MINUTE, Desk, plain
from tests.servers import limited as limited_server
from tests.servers import scripted
from tests.servers.authority import Certificates
from tests.servers.limited import LimitedServer, Policy
from tests.servers.scripted import GOOD, Answer, ScriptedServer, Session, leading_to
from tests.servers.test_faults import CELLS, FAULTS, HOST, SLOW, Cell

BAD, LATE, FIRST, ODD, LAST = everyone = [f"{name}@example.com" for name in ("bad", "late", "first", "odd", "last")]
REFUSED, DEFERRED = "550 5.1.1 no such user", "450 4.2.1 mailbox busy"
# Enough for several tries.
FAULTY_SECONDS = 5 * MINUTE


class Town(ScriptedServer):
    """A mail server at which each recipient has a fate. `taken` counts those that it took a mail for.

    `fault` is its answer at the step `at` of every mail; at ``RCPT`` that to the recipient `ODD` alone.
    """

    def __init__(self, at: str, fault: Answer, **options: object) -> None:
        super().__init__({at: self._faulty}, **options)
        self.script |= {
            "MAIL": self._mail,
            "RCPT": self._recipient,
            "content": self._content,
        }
        self.at, self.fault, self.is_deferring = at, fault, True
        self.taken: Counter[str] = Counter()
        self.refused: set[str] = set()
        self._accepted: dict[Session, list[str]] = {}

    def mend(self) -> None:
        """End the fault and the deferral."""
        if self.at not in ("MAIL", "RCPT", "content"):
            del self.script[self.at]
        self.at, self.is_deferring = "", False

    def _faulty(self, session: Session, line: str) -> None:
        if str(self.fault).startswith("5") and self.at in ("DATA", "content"):
            self.refused.update(self._accepted[session])
        say(session, line, self.fault)

    def _mail(self, session: Session, line: str) -> None:
        self._accepted[session] = []
        say(session, line, self.fault if self.at == "MAIL" else GOOD["MAIL"])

    def _recipient(self, session: Session, line: str) -> None:
        [address] = re.findall("<(.*)>", line)
        fates: dict[str, Answer] = {BAD: REFUSED}
        if self.is_deferring:
            fates[LATE] = DEFERRED
        if self.at == "RCPT":
            fates[ODD] = self.fault
        answer = fates.get(address, GOOD["RCPT"])
        if answer == GOOD["RCPT"]:
            self._accepted[session].append(address)
        elif str(answer).startswith("5"):
            self.refused.add(address)
        say(session, line, answer)

    def _content(self, session: Session, line: str) -> None:
        if self.at == "content":
            self._faulty(session, line)
            return
        self.taken.update(self._accepted[session])
        say(session, line, GOOD["content"])


def say(session: Session, line: str, answer: Answer) -> None:
    """Give an answer of a script."""
    if callable(answer):
        answer(session, line)
    else:
        session.say(answer)


def fates_of(cell: Cell) -> dict[str, str]:
    """What the ledger says of each recipient while the fault lasts; the others wait."""
    if cell.at not in ("RCPT", "DATA", "content"):
        return {}
    found = {BAD: "refused"}
    if cell.at == "RCPT":
        found |= dict.fromkeys((FIRST, LAST), "delivered")
    if cell.fault == "5xx":
        found |= dict.fromkeys((ODD,) if cell.at == "RCPT" else (FIRST, ODD, LAST), "refused")
    return found


def ledger(desk: Desk) -> dict[str, str]:
    """The final results that the ledger has."""
    found = desk.outbox.deliveries(1)
    assert len({each.recipient for each in found}) == len(found)
    return {each.recipient: each.verdict for each in found}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(HOST, tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def device(desk, certificates, monkeypatch):
    """A device whose sessions are real ones, and which stops waiting once its server is silent (`given_up`)."""
    monkeypatch.setattr(connection, "LOOK_SECONDS", 0.05)
    options = ClientOptions(certificates.context, allow_loopback=True, resolver=leading_to("127.0.0.1"))
    desk.clients = []

    def connect(settings: SmtpSettings, password: str) -> SmtpClient:
        desk.clients.append(SmtpClient(settings, password, options))
        return desk.clients[-1]

    desk.server.connect = connect
    desk.listed = [Recipient(each) for each in everyone]
    return desk


def given_up(device: Desk, fault: Answer) -> Answer:
    """A fault that never ends, and at which the device's patience does."""

    def behaviour(session: Session, line: str) -> None:
        device.clients[-1].end_wait()
        assert callable(fault)
        fault(session, line)

    return behaviour


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.at}, {cell.fault}")
def test_a_fault_leaves_each_recipient_its_own_fate(cell, device, certificates):
    fault = FAULTS[cell.fault]
    chain = certificates.chain() if cell.at == "STARTTLS" else None
    with Town(cell.at, given_up(device, fault) if cell.fault in SLOW else fault, chain=chain) as server:
        settings = {"host": HOST, "port": server.port, "security": "starttls"} if chain else plain(server)
        device.save(**settings)
        device.raise_events()
        device.work(FAULTY_SECONDS)
        assert ledger(device) == fates_of(cell)
        assert server.taken == {name: 1 for name, fate in fates_of(cell).items() if fate == "delivered"}
        assert server.refused == {name for name, fate in fates_of(cell).items() if fate == "refused"}
        assert device.waiting == [1]
        assert device.problem[0] in ("server", "login refused")

        server.mend()
        device.update(**settings, sender_name="Mended")
        device.work(HOUR)
        served = [name for name in everyone if name not in server.refused]
        assert server.taken == Counter(served)
        assert ledger(device) == dict.fromkeys(served, "delivered") | dict.fromkeys(server.refused, "refused")
        assert device.waiting == []


class Lossy(Town):
    """Takes each mail, and says nothing of it."""

    def _faulty(self, session: Session, line: str) -> None:
        self.taken.update(self._accepted[session])
        scripted.close(session, line)


def test_whom_a_lost_reply_was_about_gets_the_mail_again_and_is_not_reported_before(device):
    with Lossy("content", "") as server:
        device.save(**plain(server))
        device.raise_events()
        device.work()
        assert ledger(device) == {BAD: "refused"}
        assert server.taken == Counter((FIRST, ODD, LAST))
        server.mend()
        device.work(HOUR)
        assert ledger(device) == {BAD: "refused", **dict.fromkeys((LATE, FIRST, ODD, LAST), "delivered")}
        assert server.taken == {LATE: 1, FIRST: 2, ODD: 2, LAST: 2}


# A mail that is too large, after some recipients were refused or deferred.


def limited(size: int) -> Policy:
    def policy(session: limited_server.Session, step: str, address: str) -> str:
        if step == "RCPT":
            return {BAD: REFUSED, LATE: DEFERRED}.get(address, "")
        return "552 5.3.4 too big" if step == "content" and len(session.content) > size else ""

    return policy


@pytest.mark.parametrize("count", [1, 30])
def test_a_mail_that_is_too_large_still_reaches_whom_the_server_takes(count, real):
    """Cut where it is one text, in halves where it is a digest, whoever was refused or deferred before."""
    real.listed = [Recipient(each) for each in (BAD, LATE, FIRST, LAST)]
    text = "x" * (90_000 // count)
    with LimitedServer(limited(30_000)) as server:
        real.save(host="127.0.0.1", port=server.port, security="none", sign_in="none", sealed=None)
        numbers = real.outbox.accept([Event("303", "fault", real.wall, real.wall, "t", text)] * count)
        real.outbox.assign_to_mail(numbers)
        real.work()
        mails = {real.outbox.event(number).mail or number for number in numbers}
        assert server.taken == Counter((mail, each) for mail in mails for each in (FIRST, LAST))
        for mail in mails:
            found = {each.recipient: each.verdict for each in real.outbox.deliveries(mail)}
            assert found == {BAD: "refused", FIRST: "delivered", LAST: "delivered"}
        assert real.waiting == numbers  # for one recipient
        server.policy = lambda *_: ""
        real.work(HOUR)
        assert server.taken == Counter((mail, each) for mail in mails for each in (LATE, FIRST, LAST))
    assert real.waiting == []


# A recipient that is deferred for ever, such as a full mailbox.

OLD = 60


@pytest.fixture
def full_mailbox(set_up):
    """A device with many alarms that wait for one recipient of two."""
    set_up.listed = [Recipient(LATE), Recipient(FIRST)]
    set_up.server.answer = lambda number, recipient: LATER if recipient == LATE else DELIVERED
    set_up.raise_events(OLD)
    set_up.work()
    return set_up


def asked(desk: Desk, since: int = 0) -> int:
    """How often the server was asked to take a mail for the full mailbox."""
    return sum(LATE in recipients for _, recipients in desk.server.tried[since:])


def test_a_full_mailbox_holds_up_no_alarm_for_the_others(full_mailbox):
    assert {number for number, recipients in full_mailbox.server.tried if FIRST in recipients} == {*range(1, OLD + 1)}
    full_mailbox.restart()
    [new] = full_mailbox.raise_events()
    full_mailbox.work()
    assert (new, (FIRST,)) in full_mailbox.server.tried
    for _ in range(20):
        full_mailbox.work(10 * MINUTE)
        [new] = full_mailbox.raise_events()
        full_mailbox.work()
        assert any(number == new and FIRST in recipients for number, recipients in full_mailbox.server.tried)


def test_a_full_mailbox_is_asked_for_a_few_times_and_not_once_for_each_alarm(full_mailbox):
    assert asked(full_mailbox) == DEFERRALS_MAXIMUM
    connects = len(full_mailbox.server.connects)
    full_mailbox.work(DAY)
    assert DEFERRALS_MAXIMUM + 24 <= asked(full_mailbox) <= DEFERRALS_MAXIMUM + 50
    assert len(full_mailbox.server.connects) - connects <= 60


def test_a_mailbox_with_room_again_gets_all_that_waited(full_mailbox):
    full_mailbox.work(6 * HOUR)
    full_mailbox.server.answer = lambda number, recipient: DELIVERED
    before = len(full_mailbox.server.tried)
    full_mailbox.work(HOUR)
    assert Counter(full_mailbox.server.tried[before:]) == Counter((number, (LATE,)) for number in range(1, OLD + 1))
    assert full_mailbox.waiting == []


def test_an_update_asks_for_a_full_mailbox_at_once(full_mailbox):
    full_mailbox.server.answer = lambda number, recipient: DELIVERED
    full_mailbox.update(sender_name="Other")
    full_mailbox.work()
    assert full_mailbox.waiting == []


def test_deferred_texts_are_no_deferral_of_their_recipients(set_up):
    set_up.listed = [Recipient(FIRST), Recipient(LAST)]
    later = Outcome("try later", "content", "451 4.7.1 this text", scope=Scope.MAIL)
    count = DEFERRALS_MAXIMUM - 1
    set_up.server.answer = lambda number, recipient: later if number <= count else DELIVERED
    set_up.raise_events(count)
    set_up.work(10 * MINUTE)  # several tries, for each recipient alone
    [new] = set_up.raise_events()
    set_up.work()
    assert {FIRST, LAST} == {each.recipient for each in set_up.outbox.deliveries(new)}
