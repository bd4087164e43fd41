"""A change of the mail server is announced through the one before, once. The clock and the servers are ours."""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from email import message_from_bytes, policy
from pathlib import Path
from unittest.mock import Mock

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from device_ui.errors import CannotOpen, Message, NoKey, NotStored
from device_ui.mail.catalog import built_in
from device_ui.mail.clock import Clock
from device_ui.mail.delivery.environment import Environment
from device_ui.mail.delivery.sender import Sender
from device_ui.mail.delivery.server_change import (
    EARLIER_MAXIMUM,
    FAULT,
    GONE_SECONDS,
    HOURLY_MAXIMUM,
    KEPT_SECONDS,
    NO_PREVIOUS,
    NO_ROOM,
    PREVIOUS,
    PREVIOUS_MAXIMUM,
    READERS_MAXIMUM,
    REFUSALS_MAXIMUM,
    REFUSED_SECONDS,
    TOO_MANY,
    TRIES_MAXIMUM,
    USED_SECONDS,
    VERIFIED,
    ServerChangeNotifier,
)
from device_ui.mail.events import Delivery, Event
from device_ui.mail.format import event_source, event_text
from device_ui.mail.smtp.outcome import Outcome, SessionError
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import RECIPIENTS_MAXIMUM, Recipient
from tests.helpers.delivery import MEMORY, NAMES, FullOutbox
from tests.helpers.delivery import Desk as PostOffice
from tests.helpers.product import SECONDS, wait_for

WALL = 1.8e9
ONE, TWO, EVIL = "one@example.com", "two@example.com", "evil@example.net"
ACCOUNT = "alarm@mail.example.com"
OLD = SmtpSettings("mail.example.com", 587, "Alarms", ACCOUNT, sealed="old")
# Where the settings were changed.
PAGE = Message("SMTP tab, from {by}", by="192.0.2.7")
NEW = SmtpSettings("mail.example.net", 25, "Alarms", "alarm@mail.example.net", sealed="new")
TAKEN = Outcome("delivered", "content", "250 ok")
LATER = Outcome("try later", "recipient", "450 greylisted")
UNREACHABLE = SessionError("connect", "refused", "nothing listens at this port")
WRONG_LOGIN = SessionError("login", "login refused", "535 no")


def settle() -> None:
    """Wait until no attempt is under way."""
    for thread in threading.enumerate():
        if thread.name == "notice":
            thread.join(SECONDS)
            assert not thread.is_alive()


class Desk:
    """One device's notifier. `stops` ends every session, `answers` are for a recipient, else the mail is taken."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.wall = folder, 1000.0, WALL
        self.listed = [Recipient(ONE, "info"), Recipient(TWO, "fault")]
        self.stops: Exception | None = None
        self.unreachable: set[str] = set()
        self.refusing: set[str] = set()
        self.hold: threading.Event | None = None
        self.unopened: Exception | None = None
        self.answers: dict[str, Outcome] = {}
        self.sessions: list[tuple[str, str]] = []
        self.mails: list[tuple[Sequence[str], bytes]] = []
        self.through: list[str] = []
        self.counted: list[str] = []
        self.lost: set[str | None] = set()
        self.begin()

    def begin(self) -> None:
        """The process starts."""
        self.outbox = FullOutbox(self.folder / "ledger.sqlite3")
        clock = Clock(
            wall=lambda: self.wall + self.now, boot=lambda: self.now, boot_id="boot", synchronized=lambda: True
        )
        environment = Environment(NAMES, lambda: self.listed, self, clock, lambda: self.now, lambda: 0.0)
        sender = Sender(self.outbox, built_in(), lambda *arguments: Session(self, *arguments), environment)
        self.notifier = ServerChangeNotifier(self.outbox, sender, self.counted.append)

    def restart(self) -> None:
        """The power is cut, and comes back."""
        self.outbox.close()
        self.begin()

    def can_unseal(self, settings: SmtpSettings) -> bool:
        return settings.sealed not in self.lost

    def unseal(self, settings: SmtpSettings) -> str:
        if self.unopened:
            raise self.unopened
        return f"opened {settings.sealed}"

    def proved(self, settings: SmtpSettings, *, by_alarm: bool) -> None:
        """An alarm to those who are listed got through, or a test."""
        self.notifier.mark_verified(settings, self.listed if by_alarm else None)

    def work(self) -> float:
        """Whatever there is to do, to its end; the seconds that it took."""
        begun = self.now
        while not self.notifier.is_idle():
            assert self.now - begun < 24 * 3600
            wait = self.notifier.round()
            settle()
            self.now += wait or 0
        return self.now - begun

    def change(self, settings: SmtpSettings = NEW, by: Message = PAGE) -> None:
        """Settings that mail got through with, then others."""
        self.proved(OLD, by_alarm=True)
        self.notifier.check(settings, by)

    @property
    def told(self) -> list[str]:
        """Who got an announcement, in order."""
        return [each for recipients, _ in self.mails for each in recipients]

    @property
    def became(self) -> dict[str, str]:
        """What the ledger tells of the first announcement, by recipient."""
        return verdicts(self, 1)


def verdicts(desk: Desk, number: int) -> dict[str, str]:
    """What History says of the warning of an event, by recipient."""
    return {each.recipient: each.verdict for each in desk.outbox.deliveries(number)}


class Session:
    """What the notifier needs of a courier."""

    local_address, size_maximum, step, is_open = "192.0.2.1", 0, "content", True

    def __init__(self, desk: Desk, settings: SmtpSettings, password: str) -> None:
        self.desk, self.server, self.password = desk, settings.host, password

    def open(self, on_wait=None) -> None:
        self.desk.sessions.append((self.server, self.password))
        if self.desk.hold:
            assert self.desk.hold.wait(SECONDS)
        if self.desk.stops:
            raise self.desk.stops
        if self.server in self.desk.unreachable:
            raise UNREACHABLE
        if self.server in self.desk.refusing:
            raise WRONG_LOGIN

    def deliver(self, recipients: Sequence[str], message: bytes, **_: object) -> dict[str, Outcome]:
        self.desk.mails.append((tuple(recipients), message))
        self.desk.through.append(self.server)
        return {each: self.desk.answers.get(each, TAKEN) for each in recipients}

    def close(self) -> None:
        pass


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
def desk(folder) -> Iterator[Desk]:
    desk = Desk(folder)
    yield desk
    desk.outbox.close()


def changed(settings: SmtpSettings = OLD, **values: object) -> SmtpSettings:
    return SmtpSettings(**{**settings.__dict__, **values})


# What is announced.

BOUND = [{"host": "mail.example.net"}, {"host": "MAIL.example.com"}, {"host": "mail.example.com."}, {"port": 25}]
BOUND += [{"account": "other@mail.example.com"}, {"security": "tls"}, {"security": "starttls"}]


@pytest.mark.parametrize("change", BOUND, ids=str)
def test_a_change_of_what_the_password_is_bound_to_is_announced_through_the_server_before(desk, change):
    desk.change(changed(**change, sealed="new"))
    desk.work()
    assert desk.sessions == [("mail.example.com", "opened old")]
    assert desk.told == [ONE, TWO, ACCOUNT]
    assert desk.became == dict.fromkeys((ONE, TWO, ACCOUNT), "delivered")
    assert desk.counted == ["info"]


UNBOUND = [{}, {"sender_name": "New name"}, {"sealed": "a new password"}, {"sender_name": "N", "sealed": "p"}]
UNBOUND += [{"sign_in": "provider", "from_address": "other@mail.example.com"}, {"sign_in": "none", "sealed": None}]


@pytest.mark.parametrize("change", UNBOUND, ids=str)
def test_a_change_within_the_same_server_is_not_announced(desk, change):
    desk.change(changed(**change))
    assert (desk.notifier.is_idle(), desk.outbox.last) == (True, 0)


def test_a_relay_without_login_is_told_too(desk):
    desk.proved(changed(sign_in="none", sealed=None), by_alarm=True)
    desk.notifier.check(NEW, "")
    desk.work()
    assert desk.sessions == [("mail.example.com", "")]


def test_settings_that_nothing_got_through_with_announce_nothing(desk):
    desk.notifier.check(OLD, "")
    desk.notifier.check(NEW, "")
    assert (desk.notifier.is_idle(), desk.outbox.last) == (True, 0)


def test_the_mail_says_what_when_and_from_where(desk):
    desk.change()
    desk.work()
    mail = message_from_bytes(desk.mails[0][1], policy=policy.default)
    assert mail["Subject"] == (
        "[info 902] Storage: Before: mail.example.com port 587, account alarm@mail.exa... (Mail server changed)"
    )
    assert mail["From"] == "Alarms <alarm@mail.example.com>"
    assert mail["Message-ID"] == f"<1.{desk.outbox.id}@device-ui.internal>"
    text = " ".join(mail.get_body(("plain",)).get_content().split())
    assert "From now on the mail of this device goes through another server" in text
    assert (
        "Before: mail.example.com port 587, account alarm@mail.example.com, security Automatic (TLS on port 465, STARTTLS on every other) Now: mail.example.net"
        in text
    )
    assert "Source: SMTP tab, from 192.0.2.7" in text
    assert "Time: 2027-01-15" in text


def test_account_cannot_pass_for_a_fingerprint(desk):
    """The account of some sign-ins is any text."""
    claim = f"login, certificate “This very key” {'0f' * 32}"
    desk.change(changed(NEW, sign_in="manual-provider", account=claim, trust="pin", trust_key="1f" * 32))
    text = str(event_text(desk.outbox.event(1)))
    assert [each for each in text.split("\n") if "1f" in each] == [f"Now, certificate “This very key” {'1f' * 32}"]
    assert [each[:4] for each in text.split("\n") if "0f" in each] == ["Now:"]


def test_a_reader_of_korean_is_told_in_korean(desk):
    desk.listed = [Recipient(each, "info", "ko") for each in (ONE, TWO, OLD.account)]
    desk.change()
    desk.work()
    text = message_from_bytes(desk.mails[0][1], policy=policy.default).get_body(("plain",)).get_content()
    words = " ".join(text.split())
    assert (
        "이전: mail.example.com 포트 587, 계정 alarm@mail.example.com, 보안 자동(포트 465는 TLS, 그 외의 포트는 STARTTLS) 현재: mail.example.net 포트"
        in words
    )
    assert "SMTP 탭, 192.0.2.7에서" in words
    assert not {"Before", "Now", "port", "account", "security", "from"} & set(
        re.findall("[A-Za-z]+", re.sub("https://.*", "", text))
    )


def test_an_address_that_is_not_known_is_not_made_up(desk):
    desk.change(by="")
    (event,) = desk.outbox.select("number = 1", ())
    assert (event.code, event.source, event.waiting) == ("902", "not known", False)


# Once.


def test_it_is_announced_once_and_the_old_password_is_forgotten_a_day_after(desk):
    desk.change()
    for _ in range(3):
        desk.notifier.check(NEW, PAGE)
        desk.work()
        desk.restart()
    assert (len(desk.sessions), desk.outbox.last) == (1, 1)
    assert '"old"' in desk.outbox.metadata()[PREVIOUS]
    desk.proved(NEW, by_alarm=True)
    assert '"old"' in desk.outbox.metadata()[PREVIOUS]
    desk.restart()
    desk.now += KEPT_SECONDS
    desk.notifier.check(NEW, "")
    assert '"old"' not in "".join(desk.outbox.metadata().values())


def test_an_alarm_that_got_through_first_keeps_the_old_password_until_its_readers_are_warned(desk):
    desk.stops = UNREACHABLE
    desk.change()
    settle()
    desk.proved(NEW, by_alarm=True)
    desk.restart()
    desk.now += KEPT_SECONDS
    desk.notifier.check(NEW, "")
    desk.stops = None
    desk.work()
    assert desk.told == [ONE, TWO, ACCOUNT]
    assert '"old"' not in "".join(desk.outbox.metadata().values())


def test_a_test_mail_does_not_make_the_old_password_forgotten(desk):
    desk.change()
    desk.work()
    desk.proved(NEW, by_alarm=False)
    desk.now += KEPT_SECONDS
    desk.notifier.check(NEW, "")
    assert '"old"' in desk.outbox.metadata()[PREVIOUS]


def test_what_is_forgotten_is_not_in_the_file_any_more(desk):
    desk.proved(changed(sealed="hpke1.once"), by_alarm=True)
    desk.notifier.check(NEW, "")
    desk.outbox.close()
    assert b"hpke1.once" in desk.outbox.path.read_bytes()
    desk.begin()
    desk.work()
    desk.now += KEPT_SECONDS
    desk.proved(NEW, by_alarm=True)
    desk.outbox.close()
    assert b"hpke1.once" not in desk.outbox.path.read_bytes()
    desk.begin()


def test_a_power_cut_keeps_it_and_its_message_id(desk):
    desk.stops = UNREACHABLE
    desk.change()
    settle()
    desk.restart()
    desk.stops = None
    desk.work()
    assert (desk.told, desk.outbox.last) == ([ONE, TWO, ACCOUNT], 1)
    assert f"<1.{desk.outbox.id}@".encode() in desk.mails[0][1]


def test_a_hook_that_was_not_running_notices_at_its_start(desk):
    desk.proved(OLD, by_alarm=True)
    desk.restart()
    desk.notifier.check(NEW, "")
    desk.work()
    assert desk.told == [ONE, TWO, ACCOUNT]


def attempt(desk: Desk) -> None:
    """One more try of a warning that is due."""
    before = len(desk.sessions)
    assert desk.notifier.round() is None
    settle()
    assert len(desk.sessions) == before + 1


def test_a_refused_login_is_tried_twice_more_an_hour_apart_and_then_forgotten(desk):
    desk.stops = WRONG_LOGIN
    desk.change()
    assert desk.work() == 2 * REFUSED_SECONDS
    assert len(desk.sessions) == REFUSALS_MAXIMUM == 3
    assert desk.became == dict.fromkeys((ONE, TWO, ACCOUNT), "dropped")
    assert '"old"' not in "".join(desk.outbox.metadata().values())


def test_an_account_that_was_locked_for_an_hour_is_told_after_it(desk):
    desk.stops = WRONG_LOGIN
    desk.change()
    settle()
    desk.stops = None
    assert desk.work() == REFUSED_SECONDS
    assert desk.told == [ONE, TWO, ACCOUNT]


def test_restarts_and_a_full_disk_give_a_refused_login_no_further_try_and_none_sooner(desk):
    desk.stops = WRONG_LOGIN
    desk.change()
    settle()
    desk.restart()
    assert desk.notifier.round() == REFUSED_SECONDS
    desk.now += REFUSED_SECONDS
    desk.outbox.full = True
    attempt(desk)
    assert desk.notifier.round() == REFUSED_SECONDS
    desk.outbox.full = False
    desk.work()
    assert len(desk.sessions) == REFUSALS_MAXIMUM


@pytest.mark.parametrize("stops", [WRONG_LOGIN, UNREACHABLE])
def test_a_server_that_takes_no_warning_holds_no_others_back(desk, stops):
    desk.proved(NEW, by_alarm=True)
    desk.stops = stops
    desk.notifier.check(OLD, "")
    settle()
    desk.proved(OLD, by_alarm=True)
    desk.stops = None
    desk.unreachable = {NEW.host}
    desk.notifier.check(changed(host="evil.example.net"), "")
    settle()
    assert ("mail.example.com", "opened old") in desk.sessions[1:]
    assert desk.told == [ONE, TWO, ACCOUNT]


def test_changes_give_a_refused_login_no_further_try_and_none_sooner(desk):
    desk.stops = WRONG_LOGIN
    desk.change()
    settle()
    for number in range(2 * REFUSALS_MAXIMUM):
        desk.notifier.check(changed(host=f"mail{number}.example.net"), "")
        settle()
        desk.now += REFUSED_SECONDS / 2
    desk.work()
    assert len(desk.sessions) == REFUSALS_MAXIMUM
    assert str(event_text(desk.outbox.event(desk.outbox.last))).endswith(NO_PREVIOUS)


def test_a_server_that_is_gone_is_tried_some_hours_and_retries_write_nothing(desk):
    desk.stops = UNREACHABLE
    desk.change()
    before = files(desk)
    for _ in range(TRIES_MAXIMUM - 2):
        settle()
        desk.now += desk.notifier.round()
        attempt(desk)
    assert files(desk) == before
    desk.work()
    assert len(desk.sessions) == TRIES_MAXIMUM
    assert 3 * 3600 < desk.now - 1000 < 4 * 3600
    assert desk.became == dict.fromkeys((ONE, TWO, ACCOUNT), "dropped")
    assert '"old"' not in "".join(desk.outbox.metadata().values())


def files(desk: Desk) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in desk.folder.iterdir()}


def test_who_was_deferred_gets_it_later_and_nobody_twice(desk):
    desk.answers = {TWO: LATER}
    desk.change()
    settle()
    desk.answers = {ACCOUNT: Outcome("refused", "recipient", "550 no")}
    desk.work()
    assert desk.told == [ONE, TWO, ACCOUNT, TWO]
    assert desk.became == dict.fromkeys((ONE, TWO, ACCOUNT), "delivered")


def test_what_a_server_took_while_the_disk_was_full_does_not_go_out_twice(desk):
    desk.hold = threading.Event()
    desk.change()
    desk.outbox.full = True
    desk.hold.set()
    settle()
    assert not desk.notifier.is_idle()
    desk.outbox.full = False
    desk.work()
    assert len(desk.mails) == 1
    assert desk.became == dict.fromkeys((ONE, TWO, ACCOUNT), "delivered")


def test_a_fault_of_ours_does_not_keep_the_password_for_ever(desk):
    desk.stops = RuntimeError("ours")
    desk.change()
    desk.work()
    assert len(desk.sessions) == TRIES_MAXIMUM
    assert '"old"' not in "".join(desk.outbox.metadata().values())
    assert {each.reply for each in desk.outbox.deliveries(1)} == {FAULT}


@pytest.mark.parametrize("problem", [NoKey("old"), CannotOpen("it was typed for another server")])
def test_a_password_that_does_not_open_ends_it(desk, problem):
    desk.unopened = problem
    desk.change()
    assert (desk.work(), desk.sessions) == (0, [])
    assert set(desk.became.values()) == {"dropped"}


def test_a_thread_that_the_system_does_not_give_is_asked_for_again(desk):
    before = threading.stack_size(2**47)  # more than there are addresses
    try:
        desk.change()
        wait = desk.notifier.round()
    finally:
        threading.stack_size(before)
    assert wait and not desk.notifier.is_idle()
    desk.work()
    assert desk.told == [ONE, TWO, ACCOUNT]


def test_a_record_that_is_gone_is_no_warning_that_is_done(desk):
    desk.stops = UNREACHABLE
    desk.change()
    settle()
    desk.outbox.write(lambda cursor: cursor.execute("DELETE FROM event"))
    desk.restart()
    desk.stops = None
    desk.work()
    assert desk.told == [ONE, TWO, ACCOUNT]
    assert b"Now: mail.example.net port 25" in desk.mails[0][1]


# Nobody can keep it from going out.


def test_whoever_got_the_mail_is_told_though_the_recipients_were_changed_too(desk):
    desk.proved(OLD, by_alarm=True)
    desk.listed = [Recipient(EVIL, "info")]
    desk.proved(changed(sender_name="New name"), by_alarm=False)
    desk.notifier.check(NEW, "")
    desk.work()
    assert desk.told == [ONE, TWO, ACCOUNT]


KEY = changed(account="apikey", sign_in="provider", from_address="admin@example.com")


@pytest.mark.parametrize("by_alarm", [True, False])
def test_where_the_login_is_no_address_every_from_address_before_is_told(desk, by_alarm):
    desk.listed = []
    desk.proved(KEY, by_alarm=True)
    for number in range(EARLIER_MAXIMUM + 2):
        desk.proved(changed(KEY, from_address=f"evil{number}@example.net"), by_alarm=by_alarm)
    desk.restart()
    desk.notifier.check(NEW, "")
    desk.work()
    assert desk.told[0] == "admin@example.com"
    assert len(desk.told) == EARLIER_MAXIMUM + 1


def test_a_rotation_does_not_lose_the_from_address_before(desk):
    desk.proved(KEY, by_alarm=True)
    desk.lost = {"old"}
    desk.notifier.check(changed(KEY, sealed="anew", from_address=EVIL), "")
    desk.notifier.check(NEW, "")
    desk.work()
    assert desk.told == [ONE, TWO, "admin@example.com", EVIL]


def test_of_addresses_that_come_back_each_is_told_once(desk):
    for sender in ("one@x.example", "two@x.example", "one@x.example"):
        desk.proved(changed(KEY, from_address=sender), by_alarm=True)
    desk.notifier.check(NEW, "")
    desk.work()
    assert desk.told == [ONE, TWO, "one@x.example", "two@x.example"]


def test_a_wrong_password_for_the_same_server_does_not_take_the_right_ones_place(desk):
    desk.proved(OLD, by_alarm=True)
    desk.notifier.check(changed(sealed="wrong"), "")
    desk.notifier.check(NEW, "")
    desk.work()
    assert desk.sessions == [("mail.example.com", "opened old")]


def test_a_second_change_does_not_take_the_first_ones_place(desk):
    desk.change()
    desk.proved(NEW, by_alarm=False)
    settle()
    desk.notifier.check(OLD, "")
    desk.work()
    assert sorted(desk.sessions) == [("mail.example.com", "opened old")] * 2 + [("mail.example.net", "opened new")]
    assert desk.outbox.last == 2


def many_changes(desk: Desk) -> None:
    """So many changes that the hour has no room for the last one's warning, a minute apart, and no mail between them."""
    desk.proved(OLD, by_alarm=True)
    for number in range(HOURLY_MAXIMUM + 1):
        desk.notifier.check(changed(host=f"mail{number}.example.net"), "")
        settle()
        desk.now += 60


def test_an_hour_has_so_many_warnings_and_no_more_across_restarts(desk):
    many_changes(desk)
    desk.restart()
    assert len(desk.mails) == HOURLY_MAXIMUM
    assert [each.reply for each in desk.notifier.open_notices(desk.outbox.last)] == [NO_ROOM] * 3
    assert desk.work() == 3600 - 60 * (HOURLY_MAXIMUM + 1)
    assert len(desk.sessions) == desk.outbox.last == HOURLY_MAXIMUM + 1
    assert b"Now: mail4.example.net" in desk.mails[-1][1]


@pytest.mark.parametrize("later", [0.0, WALL], ids=["never", "then"])
def test_an_hour_has_no_more_warnings_while_the_clock_is_not_set(desk, later):
    desk.wall = 0.0
    many_changes(desk)
    desk.wall = later
    assert desk.work() == 3600 - 60 * (HOURLY_MAXIMUM + 1)
    assert len(desk.sessions) == desk.outbox.last == HOURLY_MAXIMUM + 1


def test_a_clock_that_is_set_back_holds_no_announcement_back(desk):
    event = Event("902", "info", WALL, WALL, "", "", waiting=False)
    for number in desk.outbox.accept([event] * HOURLY_MAXIMUM):
        desk.outbox.record(number, [Delivery(ONE, "delivered", "content", "250", WALL + 1e8)], done=True)
    desk.change()
    assert desk.work() == 0


def test_alarms_do_not_count_as_announcements(desk):
    numbers = desk.outbox.accept([Event("303", "fault", WALL, WALL, "auditd", "full")] * HOURLY_MAXIMUM)
    for number in numbers:
        desk.outbox.record(number, [Delivery(ONE, "delivered", "content", "250", WALL + desk.now)], done=True)
    desk.change()
    assert desk.work() == 0


def test_a_change_that_is_not_noticed_yet_is_not_forgotten(desk):
    desk.proved(OLD, by_alarm=True)
    desk.proved(NEW, by_alarm=True)
    desk.notifier.check(NEW, "")
    desk.work()
    assert desk.sessions == [("mail.example.com", "opened old")]


def test_there_is_an_end_to_what_waits_and_history_says_who_is_not_warned(desk):
    desk.stops = UNREACHABLE
    desk.proved(OLD, by_alarm=True)
    for number in range(PREVIOUS_MAXIMUM + 2):
        settings = changed(host=f"mail{number}.example.net")
        desk.notifier.check(settings, "")
        settle()
        desk.proved(settings, by_alarm=True)
    assert len(json.loads(desk.outbox.metadata()[PREVIOUS])) == PREVIOUS_MAXIMUM
    assert TOO_MANY in {each.reply for each in desk.outbox.deliveries(desk.outbox.last)}
    desk.sessions.clear()
    desk.stops = None
    desk.work()
    servers = {server for server, _ in desk.sessions}
    # The one that alarms went through for long, and the last one before the present: neither was pushed out.
    assert {"mail.example.com", f"mail{PREVIOUS_MAXIMUM}.example.net"} <= servers
    assert len(servers) == PREVIOUS_MAXIMUM


def test_after_a_rotation_the_password_as_it_is_sealed_now_is_kept(desk):
    desk.proved(OLD, by_alarm=True)
    desk.lost = {"old"}
    desk.notifier.check(changed(sealed="anew"), "")
    desk.notifier.check(NEW, "")
    desk.work()
    assert desk.sessions == [("mail.example.com", "opened anew")]


@pytest.mark.parametrize(
    "fact", ["", "x", "[]", "{}", "7", '{"settings": {}}', '{"settings": {"host": 7}, "recipients": [], "number": 0}']
)
@pytest.mark.parametrize("name", [VERIFIED, PREVIOUS])
def test_a_damaged_fact_is_as_good_as_none(desk, name, fact):
    desk.outbox.set_metadata(name, fact)
    desk.restart()
    desk.notifier.check(NEW, "")
    assert (desk.notifier.is_idle(), desk.outbox.last) == (True, 0)


def test_a_known_server_writes_nothing(desk):
    desk.proved(OLD, by_alarm=True)
    before = files(desk)
    desk.proved(changed(), by_alarm=True)
    desk.notifier.check(OLD, "")
    assert files(desk) == before


# What an attacker may try: the readers of the server before hear where alarms go now, or History says why not.

EVIL_SERVER = changed(host="evil.example.net", sealed="evil")


def now_of(message: bytes) -> str:
    """The host that a warning says alarms go to now."""
    text = message_from_bytes(message, policy=policy.default).get_body(("plain",)).get_content()
    return re.search("Now: ([^ ]+)", " ".join(text.split()))[1]


def test_a_server_of_the_attackers_that_takes_alarms_hides_no_other_one(desk):
    desk.change(EVIL_SERVER)
    desk.work()
    desk.proved(EVIL_SERVER, by_alarm=True)
    desk.notifier.check(changed(EVIL_SERVER, host="worse.example.net"), "")
    desk.work()
    assert sorted(desk.through) == ["evil.example.net", "mail.example.com", "mail.example.com"]
    assert [now_of(mail) for _, mail in desk.mails[1:]] == ["worse.example.net"] * 2


@pytest.mark.parametrize("between", [0.0, 1.0, 24 * 3600.0])
def test_a_harmless_server_that_takes_no_mail_hides_no_other_one(desk, between):
    desk.change(changed(port=588))
    desk.work()
    desk.now += between
    desk.restart()
    desk.notifier.check(EVIL_SERVER, "192.0.2.66")
    settle()
    assert [now_of(message) for _, message in desk.mails] == ["mail.example.com", "evil.example.net"]
    assert desk.told == [ONE, TWO, ACCOUNT] * 2
    assert [
        str(event_text(event)).rpartition("Now: ")[2].partition(",")[0]
        for event in desk.outbox.select("code = '902'", ())
    ] == [
        "mail.example.com port 588",
        "evil.example.net port 587",
    ]


def test_a_warning_under_way_does_not_take_the_next_ones_place(desk):
    desk.hold = threading.Event()
    desk.change(changed(port=588))
    desk.notifier.check(EVIL_SERVER, "192.0.2.66")
    desk.hold.set()
    desk.work()
    assert [now_of(message) for _, message in desk.mails] == ["mail.example.com", "evil.example.net"]
    assert set(desk.became.values()) == {"delivered"}


def test_a_login_that_is_refused_meanwhile_counts(desk):
    desk.hold, desk.stops = threading.Event(), WRONG_LOGIN
    desk.change(changed(port=588))
    desk.notifier.check(EVIL_SERVER, "192.0.2.66")
    desk.hold.set()
    settle()
    (left,) = json.loads(desk.outbox.metadata()[PREVIOUS])
    assert left["refusals"] == 1
    assert desk.notifier.round() == REFUSED_SECONDS


@pytest.mark.parametrize("stops", [UNREACHABLE, ValueError("a fault of ours")], ids=str)
def test_what_an_attempt_for_an_earlier_warning_ends_at_delays_no_newer_one(desk, stops):
    desk.hold, desk.stops = threading.Event(), stops
    desk.change(changed(port=588))
    desk.notifier.check(EVIL_SERVER, "192.0.2.66")
    desk.hold.set()
    settle()
    desk.stops = None
    assert desk.work() == 0
    assert now_of(desk.mails[-1][1]) == "evil.example.net"


def test_a_login_that_was_refused_before_it_worked_delays_no_warning_of_after(desk):
    desk.hold, desk.stops = threading.Event(), WRONG_LOGIN
    desk.change(changed(port=588))
    desk.notifier.check(OLD, "192.0.2.66")
    desk.proved(OLD, by_alarm=True)
    desk.notifier.check(EVIL_SERVER, "192.0.2.66")
    desk.hold.set()
    settle()
    (left,) = json.loads(desk.outbox.metadata()[PREVIOUS])
    assert left["refusals"] == 0
    desk.stops = None
    assert desk.work() == 0
    assert now_of(desk.mails[-1][1]) == "evil.example.net"


def test_a_warning_that_a_newer_one_replaces_says_so_in_the_history(desk):
    desk.stops = UNREACHABLE
    desk.change(changed(port=588))
    settle()
    desk.stops = None
    desk.notifier.check(EVIL_SERVER, "192.0.2.66")
    desk.work()
    assert {str(each.reply) for each in desk.outbox.deliveries(1)} == {"the warning of event 2 takes its place"}
    assert verdicts(desk, 2) == dict.fromkeys((ONE, TWO, ACCOUNT), "delivered")


def test_a_server_that_was_there_for_a_moment_is_reported_and_so_is_the_way_back(desk):
    desk.change(EVIL_SERVER)
    settle()
    desk.proved(EVIL_SERVER, by_alarm=True)
    desk.notifier.check(OLD, "192.0.2.66")
    desk.work()
    warnings = [(server, now_of(mail)) for server, (_, mail) in zip(desk.through, desk.mails, strict=True)]
    assert warnings[0] == ("mail.example.com", "evil.example.net")
    assert sorted(warnings[1:]) == [("evil.example.net", "mail.example.com"), ("mail.example.com", "mail.example.com")]
    assert desk.outbox.last == 2


def test_what_another_server_took_is_no_warning_through_this_one(desk):
    """A server of the attacker's takes every mail: the same readers are still warned through the one before."""
    desk.change(EVIL_SERVER)
    desk.work()
    desk.proved(EVIL_SERVER, by_alarm=False)
    desk.unreachable = {OLD.host}
    desk.notifier.check(changed(EVIL_SERVER, port=26), "")
    settle()
    desk.unreachable.clear()
    desk.work()
    assert desk.through == ["mail.example.com", "evil.example.net", "mail.example.com"]
    assert sorted(verdicts(desk, 2)) == sorted(
        f"{each} ({host}:587)"
        for host in ("mail.example.com", "evil.example.net")
        for each in dict.fromkeys((ONE, TWO, ACCOUNT))
    )


def test_a_reader_has_one_name_in_the_history_though_the_other_servers_are_gone_meanwhile(desk):
    desk.change(EVIL_SERVER)
    desk.work()
    desk.proved(EVIL_SERVER, by_alarm=False)
    desk.refusing, desk.answers = {EVIL_SERVER.host}, {TWO: LATER}
    desk.notifier.check(changed(EVIL_SERVER, port=26), "")
    settle()
    while len(json.loads(desk.outbox.metadata()[PREVIOUS])) == 2:
        desk.now += desk.notifier.round() or 0
        settle()
    assert [each.recipient for each in desk.notifier.open_notices(2)] == [f"{TWO} (mail.example.com:587)"]
    desk.answers.clear()
    desk.work()
    delivered = {name for name, verdict in verdicts(desk, 2).items() if verdict == "delivered"}
    assert delivered == {f"{each} (mail.example.com:587)" for each in (ONE, TWO, ACCOUNT)}


def test_the_history_reads_the_ledger_once_for_all_who_wait_for_a_warning(desk, monkeypatch):
    desk.listed = [Recipient(f"reader{number}@example.com", "info") for number in range(RECIPIENTS_MAXIMUM)]
    many_changes(desk)
    read = Mock(wraps=desk.outbox.sent_since)
    monkeypatch.setattr(desk.outbox, "sent_since", read)
    assert len(desk.notifier.open_notices(desk.outbox.last)) == RECIPIENTS_MAXIMUM + 1
    assert read.call_count == 1


def test_harmless_changes_that_use_up_the_hour_delay_no_warning_once_mail_goes_there(desk):
    many_changes(desk)
    desk.notifier.check(EVIL_SERVER, "")
    assert desk.notifier.round() > 3000
    desk.notifier.session_begins()
    settle()
    assert desk.work() == 0
    assert now_of(desk.mails[-1][1]) == "evil.example.net"
    desk.notifier.check(changed(EVIL_SERVER, port=26), "")
    desk.notifier.session_begins()
    assert desk.work() == USED_SECONDS


def test_a_test_mail_through_the_new_server_ends_the_wait_for_the_hour_too(desk):
    many_changes(desk)
    desk.notifier.check(EVIL_SERVER, "")
    assert desk.notifier.round() > 3000
    desk.proved(EVIL_SERVER, by_alarm=False)
    settle()
    assert now_of(desk.mails[-1][1]) == "evil.example.net"


def test_a_test_without_a_login_does_not_take_the_logins_place(desk):
    """The server of the account may take mail for its own domain from anybody, and for no other reader."""
    desk.proved(OLD, by_alarm=True)
    desk.proved(changed(sign_in="none", sealed=None), by_alarm=False)
    desk.notifier.check(EVIL_SERVER, "")
    desk.work()
    assert desk.sessions == [("mail.example.com", "opened old")]


def test_a_test_without_a_login_on_the_way_back_does_not_take_it_either(desk):
    desk.change(NEW)
    desk.work()
    back = changed(sign_in="none", sealed=None)
    desk.notifier.check(back, "")
    desk.work()
    desk.proved(back, by_alarm=False)
    desk.notifier.check(EVIL_SERVER, "")
    desk.work()
    assert desk.sessions == [("mail.example.com", "opened old")] * 3


def test_a_login_that_worked_since_has_all_its_tries(desk):
    desk.stops = WRONG_LOGIN
    desk.change(NEW)
    settle()
    desk.notifier.check(OLD, "")
    desk.stops = None
    desk.proved(OLD, by_alarm=True)
    desk.notifier.check(EVIL_SERVER, "")
    settle()
    assert now_of(desk.mails[-1][1]) == "evil.example.net"


def test_a_reader_who_was_taken_off_the_list_is_warned_for_a_day_whatever_alarms_went_out(desk):
    desk.proved(OLD, by_alarm=True)
    desk.listed = [Recipient(EVIL, "info")]
    desk.proved(changed(), by_alarm=True)
    desk.restart()
    desk.now += GONE_SECONDS - 1
    desk.proved(changed(), by_alarm=True)
    desk.notifier.check(EVIL_SERVER, "")
    desk.work()
    assert desk.told == [ONE, TWO, EVIL, ACCOUNT]


SLOW = pytest.mark.parametrize("before", [0.0, WALL - 30 * 24 * 3600], ids=["1970", "a month slow"])


@SLOW
def test_a_clock_that_is_set_takes_no_reader_away(desk, before):
    desk.wall = before
    desk.proved(OLD, by_alarm=True)
    desk.listed = [Recipient(EVIL, "info")]
    desk.proved(changed(), by_alarm=True)
    desk.wall = WALL
    desk.notifier.check(NEW, "")
    desk.work()
    assert desk.told == [ONE, TWO, EVIL, ACCOUNT]


@SLOW
def test_a_clock_that_is_set_takes_no_server_away(desk, before):
    desk.wall = before
    desk.change(NEW)
    desk.work()
    desk.wall = WALL
    desk.proved(NEW, by_alarm=True)
    assert '"old"' in desk.outbox.metadata()[PREVIOUS]
    desk.now += KEPT_SECONDS
    desk.notifier.check(NEW, "")
    assert '"old"' not in "".join(desk.outbox.metadata().values())


def test_a_reader_who_was_taken_off_the_list_is_not_warned_for_ever(desk):
    desk.proved(OLD, by_alarm=True)
    desk.listed = [Recipient(TWO, "info")]
    desk.proved(changed(), by_alarm=True)
    desk.now += GONE_SECONDS
    desk.proved(changed(), by_alarm=True)
    desk.notifier.check(EVIL_SERVER, "")
    desk.work()
    assert desk.told == [TWO, ACCOUNT]


def test_strangers_on_the_list_push_no_reader_out(desk):
    desk.proved(OLD, by_alarm=True)
    for number in range(4):
        desk.listed = [Recipient(f"evil{number}-{each}@example.net", "info") for each in range(RECIPIENTS_MAXIMUM)]
        desk.proved(changed(), by_alarm=True)
    desk.notifier.check(EVIL_SERVER, "")
    desk.work()
    assert desk.told[:2] == [ONE, TWO]
    assert len(desk.told) == READERS_MAXIMUM + 1


def test_a_change_that_the_ledger_cannot_take_is_no_change_that_is_known(desk):
    desk.proved(OLD, by_alarm=True)
    desk.outbox.full = True
    with pytest.raises(NotStored):
        desk.notifier.check(EVIL_SERVER, "")
    desk.outbox.full = False
    desk.notifier.check(EVIL_SERVER, "")
    desk.work()
    assert (desk.told, desk.outbox.last) == ([ONE, TWO, ACCOUNT], 1)


def test_an_announcement_of_an_earlier_version_that_still_waits_is_sent_anew(desk):
    """It did not say what it named, so what alarms go through now is reported."""
    left = {"settings": OLD.__dict__, "recipients": [ONE], "number": 7, "refusals": 1, "earlier": []}
    desk.outbox.set_metadata(PREVIOUS, json.dumps([left]))
    desk.restart()
    desk.now += REFUSED_SECONDS
    desk.notifier.check(EVIL_SERVER, "")
    desk.work()
    assert (desk.told, now_of(desk.mails[0][1])) == ([ONE, ACCOUNT], "evil.example.net")


def test_an_announcement_of_an_earlier_version_is_sent_though_mail_goes_to_the_new_server_already(desk):
    left = {"settings": OLD.__dict__, "recipients": [ONE], "number": 7, "refusals": 0, "earlier": []}
    desk.outbox.set_metadata(PREVIOUS, json.dumps([left]))
    desk.outbox.set_metadata(VERIFIED, json.dumps({**left, "settings": NEW.__dict__, "number": 0}))
    desk.restart()
    desk.notifier.check(NEW, "")
    desk.work()
    assert (desk.told, desk.sessions) == ([ONE, ACCOUNT], [("mail.example.com", "opened old")])
    assert now_of(desk.mails[0][1]) == "mail.example.net"


def test_a_server_that_an_earlier_version_kept_twice_warns_once(desk):
    left = {"settings": OLD.__dict__, "recipients": [ONE], "number": 7, "refusals": 0, "earlier": []}
    other = {**left, "settings": NEW.__dict__, "recipients": [], "number": 8}
    desk.outbox.set_metadata(PREVIOUS, json.dumps([left, other, {**left, "recipients": [TWO], "number": 9}]))
    desk.restart()
    desk.notifier.check(EVIL_SERVER, "")
    desk.work()
    assert sorted(desk.sessions) == [("mail.example.com", "opened old"), ("mail.example.net", "opened new")]
    assert sorted(desk.told) == sorted([ONE, TWO, ACCOUNT, NEW.account])


def test_what_an_earlier_version_knows_of_the_server_is_taken_over(desk):
    proved = {"settings": OLD.__dict__, "recipients": [ONE], "number": 0, "refusals": 0, "earlier": [TWO]}
    desk.outbox.set_metadata(VERIFIED, json.dumps(proved))
    desk.restart()
    desk.notifier.check(EVIL_SERVER, "")
    desk.work()
    assert desk.told == [ONE, TWO, ACCOUNT]


HOSTS = [changed(host=f"mail{number}.example.org", sealed=f"sealed{number}") for number in range(3)]
PEOPLE = [Recipient(f"reader{number}@example.com", "info") for number in range(3)]


class Changes(RuleBasedStateMachine):
    """Any order of changes, mails, tests, silent servers, floods, restarts and hours. The promise is checked with each mail."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.desk = Desk(Path(self.folder.name))
        self.settings = HOSTS[0]
        # The server that the last alarm got through, and its readers.
        self.before: tuple[SmtpSettings, list[str]] | None = None
        self.mail([])

    def teardown(self) -> None:
        settle()
        self.desk.outbox.close()
        self.folder.cleanup()

    @rule(listed=st.lists(st.sampled_from(PEOPLE), max_size=2, unique=True))
    def list_others(self, listed: list[Recipient]) -> None:
        self.desk.listed = listed

    @rule(settings=st.sampled_from(HOSTS), is_reachable=st.booleans())
    def stop_or_go(self, settings: SmtpSettings, is_reachable: bool) -> None:
        (self.desk.unreachable.discard if is_reachable else self.desk.unreachable.add)(settings.host)

    @rule()
    def restart(self) -> None:
        settle()
        self.desk.restart()

    @rule()
    def flood(self) -> None:
        """As the ledger's limit takes everything but the newest change of the server."""
        query = "DELETE FROM event WHERE number < (SELECT max(number) FROM event)"
        self.desk.outbox.write(lambda cursor: cursor.execute(query))

    @rule(seconds=st.sampled_from([1.0, 100.0, 4000.0, 20000.0]))
    def pass_time(self, seconds: float) -> None:
        end = self.desk.now + seconds
        while self.desk.now < end:
            wait = self.desk.notifier.round()
            settle()
            self.desk.now = min(end, self.desk.now + (seconds if wait is None else wait))
        self.desk.notifier.round()
        settle()

    @rule()
    def test(self) -> None:
        self.look()
        if self.settings.host not in self.desk.unreachable:
            self.desk.proved(dataclasses.replace(self.settings), by_alarm=False)

    @rule(changes=st.lists(st.tuples(st.sampled_from(HOSTS), st.booleans()), max_size=6))
    def mail(self, changes: Sequence[tuple[SmtpSettings, bool]]) -> None:
        """After changes, noticed one by one or not, a mail goes out or is tried. A minute later the readers before know."""
        for settings, is_noticed in changes:
            self.settings = settings
            if is_noticed:
                self.look()
        self.look()
        self.desk.notifier.session_begins()
        settle()
        self.pass_time(60.0)
        if self.before and self.before[0].bound_to != self.settings.bound_to:
            self.check(*self.before)
        if self.settings.host not in self.desk.unreachable:
            self.desk.proved(dataclasses.replace(self.settings), by_alarm=True)
            self.before = (self.settings, [*(each.address for each in self.desk.listed), self.settings.account])

    def look(self) -> None:
        self.desk.notifier.check(self.settings, "")
        settle()

    def check(self, left: SmtpSettings, readers: Sequence[str]) -> None:
        desk = self.desk
        (event,) = desk.outbox.select("code = '902' ORDER BY number DESC LIMIT 1", ())
        assert f"Now: {self.settings.host} " in str(event_text(event))
        warned = {
            each
            for server, (recipients, mail) in zip(desk.through, desk.mails, strict=True)
            if server == left.host and now_of(mail) == self.settings.host and f"<{event.number}.".encode() in mail
            for each in recipients
        }
        rows = [*desk.outbox.deliveries(event.number), *desk.notifier.open_notices(event.number)]
        excused = {each.recipient.partition(" ")[0] for each in rows if each.verdict != "delivered" and each.reply}
        assert NO_PREVIOUS in str(event_text(event)) or set(readers) <= warned | excused


def test_after_any_changes_the_readers_before_are_warned_or_history_says_why_not():
    few = hypothesis.settings(deadline=None, max_examples=50, stateful_step_count=15)
    run_state_machine_as_test(Changes, settings=few)


# The worker's part.


@pytest.fixture
def office(folder) -> Iterator[PostOffice]:
    office = PostOffice(folder)
    office.save()
    office.raise_events()
    office.work()
    yield office
    office.outbox.close()


def announced(office: PostOffice) -> list[str]:
    """The servers that were connected to for warnings, until there are none left to send."""
    before = len(office.server.connects)

    def is_over() -> bool:
        office.work(60)
        office.worker.notifier.round()
        settle()
        return office.worker.is_idle()

    wait_for(is_over, what="the warning")
    return [settings.host for settings, _ in office.server.connects[before:]]


def test_an_alarm_that_got_through_proves_the_server_and_update_announces_the_change(office):
    office.save(host="new.example.com")
    office.worker.settings_changed(office.store.read()[1], PAGE)
    assert announced(office) == ["mail.example.com"]
    assert [(each.code, str(event_source(each))) for each in office.outbox.select("number = 2", ())] == [
        ("902", "SMTP tab, from 192.0.2.7")
    ]


def test_an_address_of_another_revision_is_not_told(office):
    office.worker.settings_changed(office.store.read()[1], PAGE)
    office.work()
    office.save(host="new.example.com")
    announced(office)
    assert office.outbox.select("number = 2", ())[0].source == "not known"


def test_an_announcement_that_is_given_up_is_no_lost_alarm(office):
    office.server.stops = WRONG_LOGIN
    office.update(host="new.example.com")
    announced(office)
    assert {each.verdict for each in office.outbox.deliveries(2)} == {"dropped"}
    office.restart()
    assert office.problem[0] == ""


def test_a_server_before_that_is_silent_delays_no_alarm(office):
    asked, answer, over = threading.Event(), threading.Event(), threading.Event()
    connect = office.server.connect

    def silent(settings: SmtpSettings, password: str) -> object:
        session = connect(settings, password)
        if settings.host == "mail.example.com":
            session.open = lambda *_: (asked.set(), answer.wait(SECONDS), over.set())
        return session

    office.server.connect = silent
    office.update(host="new.example.com")
    office.work()
    assert asked.wait(SECONDS)
    office.raise_events()
    office.worker.wake()
    office.work()
    came = (office.waiting, office.server.numbers, over.is_set())
    answer.set()
    office.server.connect = connect
    announced(office)
    assert came == ([], [1, 3], False)


def test_a_warning_goes_out_while_the_new_server_keeps_the_worker(office):
    """However long: what a session waits for here is the warning."""
    warned = threading.Event()
    connect = office.server.connect

    def connected(settings: SmtpSettings, password: str) -> object:
        session = connect(settings, password)
        if settings.host == "new.example.com":
            session.open = lambda *_: waited_for(warned)
        else:
            deliver = session.deliver
            session.deliver = lambda *mail, **hooks: (deliver(*mail, **hooks), warned.set())[0]
        return session

    office.server.connect = connected
    office.raise_events()
    office.update(host="new.example.com")
    office.work()
    settle()
    assert {each.verdict for each in office.outbox.deliveries(3)} == {"delivered"}


def waited_for(event: threading.Event) -> None:
    assert event.wait(SECONDS)
    raise UNREACHABLE


def test_a_warning_is_tried_again_while_the_new_server_keeps_the_worker(office):
    """By the thread that `run` starts: its own clock stands still here, so only a try that is due at once goes out."""
    tried, answer = threading.Event(), threading.Event()
    connect = office.server.connect

    def connected(settings: SmtpSettings, password: str) -> object:
        session = connect(settings, password)
        if settings.host == "new.example.com":
            session.open = lambda *_: (tried.set(), waited_for(answer))
        return session

    office.server.connect = connected
    office.server.stops = UNREACHABLE
    office.raise_events()
    office.save(host="new.example.com")
    thread = threading.Thread(target=office.worker.run)
    thread.start()
    assert tried.wait(SECONDS)
    settle()
    office.server.stops = None
    office.now += 60
    office.worker.notifier.session_begins()
    office.worker.notifier.check(office.store.read()[0], "")
    wait_for(lambda: office.outbox.deliveries(3) or office.worker.notifier.round(), what="the second try")
    answer.set()
    office.worker.stop()
    thread.join(SECONDS)
    assert {each.verdict for each in office.outbox.deliveries(3)} == {"delivered"}


def test_mail_goes_to_no_server_that_history_could_not_report(office):
    office.raise_events()
    office.save(host="new.example.com")
    office.outbox.full = True
    office.work(600)
    assert (office.problem[0], office.outbox.last) == ("storage", 2)
    assert {settings.host for settings, _ in office.server.connects} == {"mail.example.com"}
    office.outbox.full = False
    assert announced(office) == ["mail.example.com", "new.example.com"]
    assert office.waiting == []


def test_a_worker_that_is_stopped_ends_after_the_announcement_under_way(office):
    asked, answer = threading.Event(), threading.Event()
    connect = office.server.connect

    def slow(settings: SmtpSettings, password: str) -> object:
        session = connect(settings, password)
        deliver = session.deliver
        session.deliver = lambda *mail, **hooks: (asked.set(), answer.wait(SECONDS), deliver(*mail, **hooks))[-1]
        return session

    office.server.connect = slow
    office.update(host="new.example.com")
    thread = threading.Thread(target=office.worker.run)
    thread.start()
    assert asked.wait(SECONDS)
    office.worker.stop()
    thread.join(0.3)
    is_waiting = thread.is_alive()
    answer.set()
    thread.join(SECONDS)
    assert (is_waiting, thread.is_alive()) == (True, False)
    assert {each.verdict for each in office.outbox.deliveries(2)} == {"delivered"}


def test_a_test_that_got_through_proves_the_server(office):
    office.update(host="new.example.com")
    assert announced(office) == ["mail.example.com"]
    office.worker.settings_verified(office.store.read()[0])
    office.update(host="newer.example.com")
    assert sorted(announced(office)) == ["mail.example.com", "new.example.com"]


def test_an_alarm_that_met_the_locked_account_first_keeps_nothing_from_being_announced(office):
    office.server.stops = WRONG_LOGIN
    office.raise_events()
    office.work()
    assert office.problem[0] == "login refused"
    office.server.stops = None
    office.update(host="new.example.com")
    assert "mail.example.com" in announced(office)
    assert [each.code for each in office.outbox.select("number = 3", ())] == ["902"]


def test_the_catalogue_of_every_maker_knows_the_event():
    assert (built_in()["902"].name, built_in()["902"].mail) == ("Mail server changed", False)
