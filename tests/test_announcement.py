"""A change of the mail server is announced through the one before, once. The clock and the servers are ours."""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from email import message_from_bytes, policy
from pathlib import Path

import pytest

from device_ui.errors import CannotOpen, NoKey
from device_ui.mail.announcement import (
    CHANGES,
    CHANGES_MAXIMUM,
    HOURLY_MAXIMUM,
    PROVED,
    REFUSALS_MAXIMUM,
    REFUSED_SECONDS,
    TRIES_MAXIMUM,
    Announcer,
)
from device_ui.mail.catalog import built_in
from device_ui.mail.clock import Clock
from device_ui.mail.outbox import Delivery, Event
from device_ui.mail.proof import EARLIER_MAXIMUM
from device_ui.mail.verdict import Outcome, Stopped
from device_ui.settings.recipients import Recipient
from device_ui.settings.smtp import SmtpSettings
from tests.product import SECONDS, wait_for
from tests.test_postman import MEMORY, FullOutbox
from tests.test_postman import Desk as PostOffice

WALL = 1.8e9
ONE, TWO, EVIL = "one@example.com", "two@example.com", "evil@example.net"
ACCOUNT = "alarm@mail.example.com"
OLD = SmtpSettings("mail.example.com", 587, "Alarms", ACCOUNT, sealed="old")
NEW = SmtpSettings("mail.example.net", 25, "Alarms", "alarm@mail.example.net", sealed="new")
TAKEN = Outcome("delivered", "content", "250 ok")
LATER = Outcome("try later", "recipient", "450 greylisted")
UNREACHABLE = Stopped("connect", "refused", "nothing listens at this port")
WRONG_LOGIN = Stopped("login", "login refused", "535 no")


class Desk:
    """One device's announcer. `stops` ends every session, `answers` are for a recipient, else the mail is taken."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.wall = folder, 1000.0, WALL
        self.listed = [Recipient(ONE, "info"), Recipient(TWO, "fault")]
        self.stops: Exception | None = None
        self.unopened: Exception | None = None
        self.answers: dict[str, Outcome] = {}
        self.sessions: list[tuple[str, str]] = []
        self.mails: list[tuple[Sequence[str], bytes]] = []
        self.counted: list[int] = []
        self.lost: set[str | None] = set()
        self.rung = threading.Event()
        self.begin()

    def begin(self) -> None:
        """The process starts."""
        self.outbox = FullOutbox(self.folder / "ledger.sqlite3")
        self.announcer = Announcer(
            self.outbox,
            {"name": "Storage", "model": "S1", "serial": "7"},
            lambda settings, password: Session(self, settings, password),
            self.unseal,
            lambda: self.listed,
            Clock(wall=lambda: self.wall + self.now, boot=lambda: self.now, boot_id="boot", synchronized=lambda: True),
            clock=lambda: self.now,
            chance=lambda: 0.0,
            fits=lambda settings: settings.sealed not in self.lost,
            ring=self.rung.set,
            sent=self.counted.append,
        )

    def restart(self) -> None:
        """The power is cut, and comes back."""
        self.outbox.close()
        self.begin()

    def unseal(self, settings: SmtpSettings) -> str:
        if self.unopened:
            raise self.unopened
        return f"opened {settings.sealed}"

    def work(self) -> float:
        """Whatever there is to do, to its end; the seconds that it took."""
        begun = self.now
        while not self.announcer.is_idle():
            assert self.now - begun < 24 * 3600
            self.rung.clear()
            wait = self.announcer.round()
            if wait is None:
                assert self.rung.wait(SECONDS)
            else:
                self.now += wait
        return self.now - begun

    def change(self, settings: SmtpSettings = NEW, by: str = "192.0.2.7") -> None:
        """Settings that mail got through with, then others."""
        self.announcer.proved(OLD, by_alarm=True)
        self.announcer.look(settings, by)

    @property
    def told(self) -> list[str]:
        """Who got an announcement, in order."""
        return [each for recipients, _ in self.mails for each in recipients]

    @property
    def became(self) -> dict[str, str]:
        """What the ledger tells of the first announcement, by recipient."""
        return {each.recipient: each.verdict for each in self.outbox.deliveries(1)}


class Session:
    """What the announcer needs of a courier."""

    local_address = "192.0.2.1"

    def __init__(self, desk: Desk, settings: SmtpSettings, password: str) -> None:
        self.desk, self.server, self.password = desk, settings.host, password

    def open(self) -> None:
        self.desk.sessions.append((self.server, self.password))
        if self.desk.stops:
            raise self.desk.stops

    def deliver(self, recipients: Sequence[str], message: bytes) -> dict[str, Outcome]:
        self.desk.mails.append((tuple(recipients), message))
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
    assert desk.counted == [1]


UNBOUND = [{}, {"sender_name": "New name"}, {"sealed": "a new password"}, {"sender_name": "N", "sealed": "p"}]
UNBOUND += [{"sign_in": "provider", "from_address": "other@mail.example.com"}, {"sign_in": "none", "sealed": None}]


@pytest.mark.parametrize("change", UNBOUND, ids=str)
def test_a_change_within_the_same_server_is_not_announced(desk, change):
    desk.change(changed(**change))
    assert (desk.announcer.is_idle(), desk.outbox.last) == (True, 0)


def test_a_relay_without_login_is_told_too(desk):
    desk.announcer.proved(changed(sign_in="none", sealed=None), by_alarm=True)
    desk.announcer.look(NEW, "")
    desk.work()
    assert desk.sessions == [("mail.example.com", "")]


def test_settings_that_nothing_got_through_with_announce_nothing(desk):
    desk.announcer.look(OLD, "")
    desk.announcer.look(NEW, "")
    assert (desk.announcer.is_idle(), desk.outbox.last) == (True, 0)


def test_the_mail_says_what_when_and_from_where(desk):
    desk.change()
    desk.work()
    mail = message_from_bytes(desk.mails[0][1], policy=policy.default)
    assert mail["Subject"] == "[info 902] Mail server changed · Storage"
    assert mail["From"] == "Alarms <alarm@mail.example.com>"
    assert mail["Message-ID"] == f"<1.{desk.outbox.id}@device-ui.internal>"
    text = " ".join(mail.get_body(("plain",)).get_content().split())
    assert "From now on the mail of this device goes through another server" in text
    assert (
        "Before: mail.example.com port 587, account alarm@mail.example.com, security auto Now: mail.example.net" in text
    )
    assert "Source: SMTP tab, from 192.0.2.7" in text
    assert "Time: 2027-01-15" in text


def test_a_reader_of_korean_is_told_in_korean(desk):
    desk.listed = [Recipient(each, "info", "ko") for each in (ONE, TWO, OLD.account)]
    desk.change()
    desk.work()
    text = message_from_bytes(desk.mails[0][1], policy=policy.default).get_body(("plain",)).get_content()
    words = " ".join(text.split())
    assert (
        "이전: mail.example.com 포트 587, 계정 alarm@mail.example.com, 보안 auto 현재: mail.example.net 포트" in words
    )
    assert "SMTP 탭, 192.0.2.7에서" in words
    assert not {"Before", "Now", "port", "account", "security", "from"} & set(re.findall("[A-Za-z]+", text))


def test_an_address_that_is_not_known_is_not_made_up(desk):
    desk.change(by="")
    (event,) = desk.outbox.select("number = 1", ())
    assert (event.code, event.source, event.waiting) == ("902", "not known", False)


# Once.


def test_it_is_announced_once_and_the_old_password_is_forgotten(desk):
    desk.change()
    for _ in range(3):
        desk.announcer.look(NEW, "192.0.2.7")
        desk.work()
        desk.restart()
    assert (len(desk.sessions), desk.outbox.last) == (1, 1)
    assert not {PROVED, CHANGES} & set(desk.outbox.facts())


def test_what_is_forgotten_is_not_in_the_file_any_more(desk):
    desk.announcer.proved(changed(sealed="hpke1.once"), by_alarm=True)
    desk.announcer.look(NEW, "")
    desk.outbox.close()
    assert b"hpke1.once" in desk.outbox.path.read_bytes()
    desk.begin()
    desk.work()
    desk.outbox.close()
    assert b"hpke1.once" not in desk.outbox.path.read_bytes()
    desk.begin()


def test_a_power_cut_keeps_it_and_its_message_id(desk):
    desk.stops = UNREACHABLE
    desk.change()
    desk.announcer.round()
    assert desk.rung.wait(SECONDS)
    desk.restart()
    desk.stops = None
    desk.work()
    assert (desk.told, desk.outbox.last) == ([ONE, TWO, ACCOUNT], 1)
    assert f"<1.{desk.outbox.id}@".encode() in desk.mails[0][1]


def test_a_hook_that_was_not_running_notices_at_its_start(desk):
    desk.announcer.proved(OLD, by_alarm=True)
    desk.restart()
    desk.announcer.look(NEW, "")
    desk.work()
    assert desk.told == [ONE, TWO, ACCOUNT]


def attempt(desk: Desk) -> None:
    """One try of an announcement that is due."""
    desk.rung.clear()
    assert desk.announcer.round() is None
    assert desk.rung.wait(SECONDS)


def test_a_refused_login_is_tried_twice_more_an_hour_apart_and_then_forgotten(desk):
    desk.stops = WRONG_LOGIN
    desk.change()
    assert desk.work() == 2 * REFUSED_SECONDS
    assert len(desk.sessions) == REFUSALS_MAXIMUM == 3
    assert desk.became == dict.fromkeys((ONE, TWO, ACCOUNT), "dropped")
    assert not {PROVED, CHANGES} & set(desk.outbox.facts())


def test_an_account_that_was_locked_for_an_hour_is_told_after_it(desk):
    desk.stops = WRONG_LOGIN
    desk.change()
    attempt(desk)
    desk.stops = None
    assert desk.work() == REFUSED_SECONDS
    assert desk.told == [ONE, TWO, ACCOUNT]


def test_restarts_and_a_full_disk_give_a_refused_login_no_further_try_and_none_sooner(desk):
    desk.stops = WRONG_LOGIN
    desk.change()
    attempt(desk)
    desk.restart()
    assert desk.announcer.round() == REFUSED_SECONDS
    desk.now += REFUSED_SECONDS
    desk.outbox.full = True
    attempt(desk)
    assert desk.announcer.round() == REFUSED_SECONDS
    desk.outbox.full = False
    desk.work()
    assert len(desk.sessions) == REFUSALS_MAXIMUM


def test_a_refused_login_holds_no_other_servers_announcement_back(desk):
    desk.stops = WRONG_LOGIN
    desk.change()
    desk.announcer.proved(NEW, by_alarm=False)
    desk.announcer.look(OLD, "")
    for _ in range(REFUSALS_MAXIMUM):
        attempt(desk)
        desk.now += REFUSED_SECONDS
    desk.now -= REFUSED_SECONDS
    desk.stops = None
    assert desk.work() == 0
    assert desk.sessions[-1] == ("mail.example.net", "opened new")


def test_a_server_that_is_gone_is_tried_some_hours_and_retries_write_nothing(desk):
    desk.stops = UNREACHABLE
    desk.change()
    before = files(desk)
    for _ in range(TRIES_MAXIMUM - 1):
        desk.rung.clear()
        assert desk.announcer.round() is None
        assert desk.rung.wait(SECONDS)
        desk.now += desk.announcer.round()
    assert files(desk) == before
    desk.work()
    assert len(desk.sessions) == TRIES_MAXIMUM
    assert 3 * 3600 < desk.now - 1000 < 4 * 3600
    assert desk.became == dict.fromkeys((ONE, TWO, ACCOUNT), "dropped")
    assert not {PROVED, CHANGES} & set(desk.outbox.facts())


def files(desk: Desk) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in desk.folder.iterdir()}


def test_who_was_deferred_gets_it_later_and_nobody_twice(desk):
    desk.answers = {TWO: LATER}
    desk.change()
    desk.announcer.round()
    assert desk.rung.wait(SECONDS)
    desk.answers = {ACCOUNT: Outcome("refused", "recipient", "550 no")}
    desk.work()
    assert desk.told == [ONE, TWO, ACCOUNT, TWO]
    assert desk.became == dict.fromkeys((ONE, TWO, ACCOUNT), "delivered")


def test_what_a_server_took_while_the_disk_was_full_does_not_go_out_twice(desk):
    desk.change()
    desk.outbox.full = True
    desk.announcer.round()
    assert desk.rung.wait(SECONDS)
    assert not desk.announcer.is_idle()
    desk.outbox.full = False
    desk.work()
    assert len(desk.mails) == 1
    assert desk.became == dict.fromkeys((ONE, TWO, ACCOUNT), "delivered")


def test_a_fault_of_ours_does_not_keep_the_password_for_ever(desk):
    desk.stops = RuntimeError("ours")
    desk.change()
    desk.work()
    assert len(desk.sessions) == TRIES_MAXIMUM
    assert not {PROVED, CHANGES} & set(desk.outbox.facts())


@pytest.mark.parametrize("problem", [NoKey("old"), CannotOpen("it was typed for another server")])
def test_a_password_that_does_not_open_ends_it(desk, problem):
    desk.unopened = problem
    desk.change()
    assert (desk.work(), desk.sessions) == (0, [])
    assert set(desk.became.values()) == {"dropped"}


def test_a_thread_that_the_system_does_not_give_is_asked_for_again(desk):
    desk.change()
    before = threading.stack_size(2**47)  # more than there are addresses
    try:
        wait = desk.announcer.round()
    finally:
        threading.stack_size(before)
    assert wait and not desk.announcer.is_idle()
    desk.work()
    assert desk.told == [ONE, TWO, ACCOUNT]


def test_what_the_ledgers_limit_took_is_not_announced(desk):
    desk.change()
    desk.outbox._write(lambda cursor: cursor.execute("DELETE FROM event"))
    desk.work()
    assert (desk.sessions, desk.became) == ([], {})


# Nobody can keep it from going out.


def test_whoever_got_the_mail_is_told_though_the_recipients_were_changed_too(desk):
    desk.announcer.proved(OLD, by_alarm=True)
    desk.listed = [Recipient(EVIL, "info")]
    desk.announcer.proved(changed(sender_name="New name"), by_alarm=False)
    desk.announcer.look(NEW, "")
    desk.work()
    assert desk.told == [ONE, TWO, ACCOUNT]


KEY = changed(account="apikey", sign_in="provider", from_address="admin@example.com")


@pytest.mark.parametrize("by_alarm", [True, False])
def test_where_the_login_is_no_address_every_from_address_before_is_told(desk, by_alarm):
    desk.listed = []
    desk.announcer.proved(KEY, by_alarm=True)
    for number in range(EARLIER_MAXIMUM + 2):
        desk.announcer.proved(changed(KEY, from_address=f"evil{number}@example.net"), by_alarm=by_alarm)
    desk.restart()
    desk.announcer.look(NEW, "")
    desk.work()
    assert desk.told[0] == "admin@example.com"
    assert len(desk.told) == EARLIER_MAXIMUM + 1


def test_a_rotation_does_not_lose_the_from_address_before(desk):
    desk.announcer.proved(KEY, by_alarm=True)
    desk.lost = {"old"}
    desk.announcer.look(changed(KEY, sealed="anew", from_address=EVIL), "")
    desk.announcer.look(NEW, "")
    desk.work()
    assert desk.told == [ONE, TWO, "admin@example.com", EVIL]


def test_of_addresses_that_come_back_each_is_told_once(desk):
    for sender in ("one@x.example", "two@x.example", "one@x.example"):
        desk.announcer.proved(changed(KEY, from_address=sender), by_alarm=True)
    desk.announcer.look(NEW, "")
    desk.work()
    assert desk.told == [ONE, TWO, "one@x.example", "two@x.example"]


def test_a_wrong_password_for_the_same_server_does_not_take_the_right_ones_place(desk):
    desk.announcer.proved(OLD, by_alarm=True)
    desk.announcer.look(changed(sealed="wrong"), "")
    desk.announcer.look(NEW, "")
    desk.work()
    assert desk.sessions == [("mail.example.com", "opened old")]


def test_a_second_change_does_not_take_the_first_ones_place(desk):
    desk.change()
    desk.announcer.proved(NEW, by_alarm=False)
    desk.announcer.look(OLD, "")
    desk.work()
    assert desk.sessions == [("mail.example.com", "opened old"), ("mail.example.net", "opened new")]
    assert desk.outbox.last == 2


def test_an_hour_has_so_many_announcements_and_no_more_across_restarts(desk):
    for number in range(HOURLY_MAXIMUM + 1):
        settings = changed(host=f"mail{number}.example.com")
        desk.announcer.proved(settings, by_alarm=True)
        desk.announcer.look(NEW, "")
        if number < HOURLY_MAXIMUM:
            assert desk.work() == 0
        desk.now += 60
        desk.restart()
    assert desk.work() == 3600 - 60 * (HOURLY_MAXIMUM + 1)
    assert len(desk.sessions) == desk.outbox.last == HOURLY_MAXIMUM + 1


@pytest.mark.parametrize("later", [0.0, WALL], ids=["never", "then"])
def test_an_hour_has_no_more_announcements_while_the_clock_is_not_set(desk, later):
    desk.wall = 0.0
    for number in range(HOURLY_MAXIMUM + 1):
        desk.announcer.proved(changed(host=f"mail{number}.example.com"), by_alarm=True)
        desk.announcer.look(NEW, "")
        if number < HOURLY_MAXIMUM:
            assert desk.work() == 0
        desk.now += 60
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
    desk.announcer.proved(OLD, by_alarm=True)
    desk.announcer.proved(NEW, by_alarm=True)
    desk.announcer.look(NEW, "")
    desk.work()
    assert desk.sessions == [("mail.example.com", "opened old")]


def test_there_is_an_end_to_what_waits(desk):
    for number in range(CHANGES_MAXIMUM + 2):
        settings = changed(host=f"mail{number}.example.com")
        desk.announcer.look(settings, "")
        desk.announcer.proved(settings, by_alarm=True)
    desk.work()
    assert [server for server, _ in desk.sessions] == [f"mail{n}.example.com" for n in range(CHANGES_MAXIMUM)]
    assert desk.outbox.last == CHANGES_MAXIMUM + 1


def test_after_a_rotation_the_password_as_it_is_sealed_now_is_kept(desk):
    desk.announcer.proved(OLD, by_alarm=True)
    desk.lost = {"old"}
    desk.announcer.look(changed(sealed="anew"), "")
    desk.announcer.look(NEW, "")
    desk.work()
    assert desk.sessions == [("mail.example.com", "opened anew")]


@pytest.mark.parametrize(
    "fact", ["", "x", "[]", "{}", "7", '{"settings": {}}', '{"settings": {"host": 7}, "recipients": [], "number": 0}']
)
@pytest.mark.parametrize("name", [PROVED, CHANGES])
def test_a_damaged_fact_is_as_good_as_none(desk, name, fact):
    desk.outbox.keep_fact(name, fact)
    desk.restart()
    desk.announcer.look(NEW, "")
    assert (desk.announcer.is_idle(), desk.outbox.last) == (True, 0)


def test_a_known_server_writes_nothing(desk):
    desk.announcer.proved(OLD, by_alarm=True)
    before = files(desk)
    desk.announcer.proved(changed(), by_alarm=True)
    desk.announcer.look(OLD, "")
    assert files(desk) == before


# The postman's part.


@pytest.fixture
def office(folder) -> Iterator[PostOffice]:
    office = PostOffice(folder)
    office.save()
    office.raise_events()
    office.work()
    yield office
    office.outbox.close()


def announced(office: PostOffice) -> list[str]:
    """The servers that were connected to for announcements, until there are none left to make."""
    before = len(office.server.connects)

    def is_over() -> bool:
        office.work(60)
        return office.postman.is_idle()

    wait_for(is_over, what="the announcement")
    return [settings.host for settings, _ in office.server.connects[before:]]


def test_an_alarm_that_got_through_proves_the_server_and_update_announces_the_change(office):
    office.save(host="new.example.com")
    office.postman.settings_changed(office.store.read()[1], "192.0.2.7")
    assert announced(office) == ["mail.example.com"]
    assert [(each.code, each.source) for each in office.outbox.select("number = 2", ())] == [
        ("902", "SMTP tab, from 192.0.2.7")
    ]


def test_an_address_of_another_revision_is_not_told(office):
    office.postman.settings_changed(office.store.read()[1], "192.0.2.7")
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
            session.open = lambda: (asked.set(), answer.wait(SECONDS), over.set())
        return session

    office.server.connect = silent
    office.update(host="new.example.com")
    office.work()
    assert asked.wait(SECONDS)
    office.raise_events()
    office.postman.wake()
    office.work()
    came = (office.waiting, office.server.numbers, over.is_set())
    answer.set()
    office.server.connect = connect
    announced(office)
    assert came == ([], [1, 3], False)


def test_a_postman_that_is_stopped_ends_after_the_announcement_under_way(office):
    asked, answer = threading.Event(), threading.Event()
    connect = office.server.connect

    def slow(settings: SmtpSettings, password: str) -> object:
        session = connect(settings, password)
        deliver = session.deliver
        session.deliver = lambda *mail: (asked.set(), answer.wait(SECONDS), deliver(*mail))[-1]
        return session

    office.server.connect = slow
    office.update(host="new.example.com")
    thread = threading.Thread(target=office.postman.run)
    thread.start()
    assert asked.wait(SECONDS)
    office.postman.stop()
    thread.join(0.3)
    is_waiting = thread.is_alive()
    answer.set()
    thread.join(SECONDS)
    assert (is_waiting, thread.is_alive()) == (True, False)
    assert {each.verdict for each in office.outbox.deliveries(2)} == {"delivered"}


def test_a_test_that_got_through_proves_the_server(office):
    office.update(host="new.example.com")
    assert announced(office) == ["mail.example.com"]
    office.postman.settings_proved(office.store.read()[0])
    office.update(host="newer.example.com")
    assert announced(office) == ["new.example.com"]


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
