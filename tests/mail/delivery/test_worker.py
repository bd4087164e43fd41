"""The postman tries when it should, stops when it must, and throws nothing away. Its clock and its servers are ours."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import re
import ssl
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.errors import CannotOpen, Damaged, NoKey, NotReadable, NotStored
from device_ui.mail import catalog
from device_ui.mail.clock import Clock
from device_ui.mail.delivery.batching import Batcher
from device_ui.mail.delivery.quota import LOGIN_SECONDS, LOGINS
from device_ui.mail.delivery.retry import delay
from device_ui.mail.delivery.worker import RETRY_SECONDS, DeliveryWorker
from device_ui.mail.events import Delivery, Digest, Event
from device_ui.mail.outbox.outbox import Outbox
from device_ui.mail.smtp import advice
from device_ui.mail.smtp.client import ClientOptions, SmtpClient
from device_ui.mail.smtp.outcome import Outcome, SessionError
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import Recipient
from device_ui.settings.store import Store
from device_ui.web.context import MAIL_PROBLEMS
from tests.helpers.product import no_thread, wait_for
from tests.servers.scripted import ScriptedServer

MEMORY = Path("/dev/shm")
MINUTE, HOUR, DAY = 60.0, 3600.0, 24 * 3600.0
ACCOUNT = "alarm@mail.example.com"
DELIVERED = Outcome("delivered", "content", "250 queued")
REFUSED = Outcome("refused", "recipient", "550 no such user")
LATER = Outcome("try later", "recipient", "450 mailbox busy")
LOGIN_REFUSED = SessionError("login", "login refused", "535 wrong password")
UNREACHABLE = SessionError("connect", "refused", "nothing listens at this port")


class Server:
    """A mail server as couriers meet it: `stops` is what opening a session ends with, `answer` the word for each mail;
    `begins` hears of each before anything was said of it, `waits` before there is a word about it, `closes` before QUIT."""

    def __init__(self) -> None:
        self.stops: Exception | None = None
        self.answer: Callable[[int, str], Outcome] = lambda number, recipient: DELIVERED
        self.closes_after: Callable[[int], bool] = lambda number: False
        self.begins: Callable[[int], None] = lambda number: None
        self.waits: Callable[[Callable[[float], None]], None] = lambda on_wait: None
        self.closes: Callable[[], object] = lambda: None
        self.connects: list[tuple[SmtpSettings, str]] = []
        self.tried: list[tuple[int, tuple[str, ...]]] = []
        self.mails: list[bytes] = []
        self.open = 0

    @property
    def numbers(self) -> list[int]:
        """The events that a mail came for, in order, retries included."""
        return [number for number, _ in self.tried]

    def connect(self, settings: SmtpSettings, password: str) -> Session:
        return Session(self, settings, password)


class Session:
    """What the postman needs of a courier."""

    local_address = "192.0.2.7"

    def __init__(self, server: Server, settings: SmtpSettings, password: str) -> None:
        self.server, self.settings, self.password, self.is_open = server, settings, password, False
        self.is_hurried = False

    def open(self) -> None:
        self.server.connects.append((self.settings, self.password))
        if self.server.stops:
            raise self.server.stops
        self.is_open = True
        # A warning has a thread of its own, and may be under way at any time.
        self.counts = int(threading.current_thread().name != "warning")
        self.server.open += self.counts

    def deliver(
        self,
        recipients: Sequence[str],
        message: bytes,
        on_wait: Callable[[float], None] = lambda waited: None,
    ) -> dict[str, Outcome]:
        assert self.is_open, "a mail for a session that is over"
        number = int(re.search(rb"Message-ID: <([0-9]+)\.", message)[1])
        self.server.begins(number)
        self.server.tried.append((number, tuple(recipients)))
        self.server.mails.append(message)
        self.server.waits(on_wait)
        if self.is_hurried:
            self._close()
            return dict.fromkeys(recipients, Outcome("try later", "content", "", "silent"))
        outcomes = {each: self.server.answer(number, each) for each in recipients}
        if self.server.closes_after(number):
            self._close()
        return outcomes

    def end_wait(self) -> None:
        self.is_hurried = True

    def close(self) -> None:
        self.server.closes()
        if self.is_open:
            self._close()

    def _close(self) -> None:
        self.is_open = False
        self.server.open -= self.counts


class FullOutbox(Outbox):
    """A ledger whose disk takes nothing while `full`."""

    full = False
    looks = 0

    def digest(self, number: int, most: int) -> Digest | None:
        self.looks += 1
        return super().digest(number, most)

    def record(self, number: int, deliveries: Sequence[Delivery], **more: object) -> None:
        self._refuse()
        super().record(number, deliveries, **more)

    def accept(self, events: Sequence[Event], *more: object, **facts: object) -> list[int]:
        if facts:  # of a changed server: what the disk takes in the end, it takes of alarms first
            self._refuse()
        return super().accept(events, *more, **facts)

    def set_metadata(self, name: str, value: str | None) -> None:
        if self.metadata().get(name) != value:
            self._refuse()
        super().set_metadata(name, value)

    def _refuse(self) -> None:
        if self.full:
            raise NotStored(self.path, OSError("database or disk is full"))


class Desk:
    """One device's postman with its ledger, its settings, a clock that only we move, and a mail server."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.wall, self.chance = folder, 1000.0, 1.8e9, 0.5
        self.store, self.server = Store(folder / "smtp.toml"), Server()
        self.listed: list[Recipient] = []
        self.unseal: Callable[[SmtpSettings], str] = lambda settings: f"opened {settings.sealed}"
        self.outbox = FullOutbox(folder / "ledger.sqlite3")
        self.fits: Callable[[SmtpSettings], bool] = lambda settings: True
        self.show: Callable[[Mapping[str, object]], None] = lambda state: None
        self.kinds = catalog.built_in()
        self.postman = self.hire()

    def hire(self) -> DeliveryWorker:
        return DeliveryWorker(
            self.outbox,
            self.kinds,
            self.store,
            {"name": "Storage", "model": "S1", "serial": "7"},
            lambda settings, password: self.server.connect(settings, password),
            lambda settings: self.unseal(settings),
            clock=lambda: self.now,
            calendar=Clock(wall=lambda: self.wall, boot=lambda: self.now, boot_id="boot", synchronized=lambda: False),
            storm=Batcher(window=0, budget=10**6),
            chance=lambda: self.chance,
            listed=lambda: self.listed,
            fits=lambda settings: self.fits(settings),
            show=lambda state: self.show(state),
        )

    def restart(self) -> None:
        """The process ends and starts again."""
        self.outbox.close()
        self.outbox = FullOutbox(self.folder / "ledger.sqlite3")
        self.postman = self.hire()

    def save(self, **fields: object) -> None:
        """Put settings on flash without telling the postman."""
        values = {"host": "mail.example.com", "port": 587, "sender_name": "Alarms", "account": ACCOUNT, "sealed": "one"}
        self.store.save(SmtpSettings(**{**values, **fields}), self.store.read()[1])

    def update(self, **fields: object) -> None:
        """Press Update."""
        self.save(**fields)
        self.postman.settings_changed()

    def raise_events(self, count: int = 1, type_: str = "fault", **fields: object) -> list[int]:
        return self.outbox.accept([Event("303", type_, self.wall, self.wall, "auditd", "full", **fields)] * count)

    def raise_led(self, count: int) -> None:
        """Events that are a mail of their own each, as decided when they were accepted."""
        self.outbox.accept([Event("303", "fault", self.wall, self.wall, "auditd", "full")] * count, [True] * count)

    def work(self, seconds: float = 0.0, step: float = 0.0) -> None:
        """What `DeliveryWorker.run` does for so long; `step` makes it sleep longer than it asked for, to save our time."""
        end, idle = self.now + seconds, 0
        while True:
            before, wait = len(self.server.tried), self.postman.round()
            idle = 0 if wait != 0 or len(self.server.tried) > before else idle + 1
            assert idle < 3, "a busy loop"
            assert self.server.open == 0, "a session was left open"
            self.now += max(DAY if wait is None else wait, step) if wait != 0 else 0
            if wait is None or self.now > end:
                self.now = max(end, self.now if wait == 0 else end)
                return

    @property
    def problem(self) -> tuple[str, str, str]:
        state = self.postman.state()
        return state["problem"], state["step"], str(state["reply"])

    @property
    def waiting(self) -> list[int]:
        return [event.number for event in self.outbox.waiting(5000)]

    def on_disk(self) -> dict[str, bytes]:
        return {each.name: each.read_bytes() for each in self.folder.iterdir()}


@pytest.fixture
def folder():
    """A folder in memory where there is such a place: thousands of commits are not what is tested here."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
def desk(folder):
    """A device without settings."""
    desk = Desk(folder)
    yield desk
    desk.outbox.close()


@pytest.fixture
def set_up(desk):
    """A device with settings."""
    desk.save()
    return desk


# Settings


def test_events_before_settings_go_out_once_they_exist(desk):
    desk.raise_events(3)
    desk.work(2 * DAY, step=600)
    assert desk.problem == ("unset", "", "")
    desk.update()
    desk.work()
    assert desk.server.numbers == [1, 2, 3]
    assert (desk.waiting, desk.problem) == ([], ("", "", ""))


def test_settings_are_read_when_mail_is_sent(set_up):
    set_up.raise_events()
    set_up.save(host="new.example.com", sender_name="New name", sealed="two")
    set_up.work()
    settings, password = set_up.server.connects[0]
    assert (settings.host, password) == ("new.example.com", "opened two")
    assert b'From: "New name" <alarm@mail.example.com>' in set_up.server.mails[0]


def test_new_settings_are_seen_even_if_nobody_tells(set_up):
    """The hook may have been starting while the page told it."""
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work(5 * HOUR)
    set_up.server.stops = None
    set_up.save(host="new.example.com")
    set_up.work(MINUTE)
    assert set_up.waiting == []


def test_without_a_login_no_password_is_opened(desk):
    def never(_: SmtpSettings) -> str:
        raise AssertionError("there is nothing to open")

    desk.unseal = never
    desk.save(sign_in="none", sealed=None)
    desk.raise_events()
    desk.work()
    assert desk.server.connects[0][1] == ""
    assert desk.waiting == []


def test_damaged_settings_hold_mail_and_are_told(set_up):
    set_up.raise_events()
    path = set_up.store.path
    path.write_bytes(path.read_bytes().replace(b"587", b"588"))
    set_up.work(6 * DAY, step=600)
    assert set_up.problem == ("damaged", "", "its checksum does not match")
    assert (set_up.server.connects, set_up.waiting) == ([], [1])


def test_folder_in_the_place_of_the_settings_holds_mail_and_is_told(desk):
    desk.raise_events()
    desk.store.path.mkdir()
    desk.work(6 * DAY, step=600)
    assert desk.problem == ("damaged", "", "it is no regular file")
    assert (desk.server.connects, desk.waiting) == ([], [1])


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (CannotOpen("its bytes have changed"), "the stored password cannot be opened: its bytes have changed"),
        (NoKey("0123456789abcdef"), "the key 0123456789abcdef is not on this device"),
        (NoKey(), "the mail hook has made no key yet"),
        (Damaged(Path("private.key"), "it is empty"), "private.key is damaged: it is empty"),
        (NotReadable(Path("private.key"), OSError(13, "")), "private.key could not be read: Permission denied"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_password_that_cannot_be_opened_holds_mail_and_is_told(set_up, error, reply):
    def unseal(_: SmtpSettings) -> str:
        raise error

    set_up.unseal = unseal
    set_up.raise_events()
    set_up.work(6 * DAY, step=600)
    assert set_up.problem == ("password", "", reply)
    assert (set_up.server.connects, set_up.waiting) == ([], [1])


def test_mail_goes_out_once_the_password_opens(set_up):
    opens, set_up.unseal = set_up.unseal, no_key
    set_up.raise_events()
    set_up.work(HOUR)
    set_up.unseal = opens
    set_up.work(MINUTE)
    assert (set_up.waiting, set_up.problem) == ([], ("", "", ""))


# A refused login


@pytest.fixture
def refused(set_up):
    """A device whose login was refused, with three events waiting."""
    set_up.server.stops = LOGIN_REFUSED
    set_up.raise_events(3)
    set_up.work()
    return set_up


def test_a_refused_login_is_one_attempt_and_none_follows(refused):
    refused.work(6 * DAY, step=600)
    assert len(refused.server.connects) == 1
    assert refused.problem == ("login refused", "login", "535 wrong password")
    assert refused.waiting == [1, 2, 3]


def test_a_refused_login_stops_new_events_too(refused):
    for _ in range(20):
        refused.raise_events()
        refused.postman.wake()
        refused.work(HOUR)
    assert len(refused.server.connects) == 1


def test_a_refused_login_is_remembered_across_restarts(refused):
    for _ in range(3):
        refused.restart()
        refused.work(2 * DAY, step=600)
    assert len(refused.server.connects) == 1
    assert refused.problem == ("login refused", "login", "535 wrong password")


def test_a_refused_login_is_on_flash_before_anything_else_happens(set_up):
    set_up.server.stops = LOGIN_REFUSED
    set_up.raise_events()
    set_up.postman.round()
    set_up.restart()  # killed at once
    set_up.work(DAY, step=600)
    assert len(set_up.server.connects) == 1


def test_after_a_refused_login_new_settings_send_all_in_order(refused):
    refused.restart()
    refused.work(DAY, step=600)
    refused.server.stops = None
    refused.update(sender_name="Mended", sealed="two")
    refused.work()
    assert refused.server.numbers == [1, 2, 3]
    assert all(b'From: "Mended"' in mail for mail in refused.server.mails)
    assert refused.server.connects[-1][1] == "opened two"
    assert (refused.waiting, refused.problem) == ([], ("", "", ""))


def test_after_a_refused_login_changed_settings_free_the_mail_even_if_nobody_tells(refused):
    refused.server.stops = None
    refused.save(sealed="two")
    refused.work(MINUTE)
    assert refused.waiting == []


def test_settings_that_changed_while_the_hook_was_down_free_the_mail(refused):
    refused.server.stops = None
    refused.save(sealed="two")
    refused.restart()
    refused.work()
    assert refused.waiting == []


def test_update_without_a_change_tries_no_refused_login_again(refused):
    """Five impatient clicks would lock the account."""
    for _ in range(5):
        refused.postman.settings_changed()
        refused.work(HOUR, step=600)
    assert len(refused.server.connects) == 1
    assert refused.problem[0] == "login refused"


def test_an_update_is_not_forgotten_by_a_restart(refused):
    """The account works again; after one good login the old refusal must not come back from the ledger."""
    refused.server.stops = None
    refused.save(sealed="two")
    refused.postman.settings_changed()
    refused.work()
    refused.restart()
    refused.raise_events()
    refused.work()
    assert refused.waiting == []


def test_going_back_to_settings_that_were_refused_once_is_a_change(refused):
    first = refused.store.path.read_bytes()
    refused.server.stops = None
    refused.save(sealed="two")
    refused.work(MINUTE)
    refused.store.path.write_bytes(first)
    refused.raise_events()
    refused.work()
    assert refused.waiting == []


def test_damaged_settings_do_not_make_a_refused_login_be_tried_again(refused):
    raw = refused.store.path.read_bytes()
    refused.restart()
    refused.store.path.write_bytes(raw[:-9])
    refused.work(HOUR)
    refused.store.path.write_bytes(raw)
    refused.work(HOUR)
    assert len(refused.server.connects) == 1


def test_a_full_flash_does_not_make_a_refused_login_be_tried_again(set_up):
    set_up.server.stops = LOGIN_REFUSED
    set_up.outbox.full = True
    set_up.raise_events()
    set_up.work(DAY)
    assert (len(set_up.server.connects), set_up.problem[0]) == (1, "storage")
    set_up.outbox.full = False
    set_up.work(DAY)
    set_up.restart()
    set_up.work(DAY)
    assert (len(set_up.server.connects), set_up.problem[0]) == (1, "login refused")


def test_an_update_on_a_full_flash_is_not_lost(refused):
    refused.server.stops = None
    refused.outbox.full = True
    refused.save(sealed="two")
    refused.postman.settings_changed()
    refused.work(HOUR)
    refused.outbox.full = False
    refused.work(HOUR)
    assert refused.waiting == []


@pytest.fixture
def exhausted(refused):
    """The same after as many refused logins as are counted; the settings have the right password now."""
    for number in range(LOGINS - 1):
        refused.update(sealed=f"wrong {number}")
        refused.work()
    assert len(refused.server.connects) == LOGINS
    refused.server.stops = None
    refused.update(sealed="right")
    refused.work()
    return refused


def test_the_right_password_after_too_many_wrong_ones_waits_twenty_minutes_and_the_state_says_so(exhausted):
    assert len(exhausted.server.connects) == LOGINS
    assert exhausted.problem == ("too many logins", "login", "")
    assert f"up to {LOGIN_SECONDS / MINUTE:.0f} minutes" in MAIL_PROBLEMS["too many logins"]
    exhausted.work(LOGIN_SECONDS - MINUTE)
    assert len(exhausted.server.connects) == LOGINS
    exhausted.work(2 * MINUTE)
    assert (exhausted.waiting, exhausted.problem) == ([], ("", "", ""))


def test_a_test_of_the_right_password_ends_the_wait_and_a_restart_brings_none_back(exhausted):
    exhausted.postman.settings_proved(exhausted.store.read()[0])
    exhausted.work()
    assert (exhausted.waiting, exhausted.problem) == ([], ("", "", ""))
    exhausted.restart()
    exhausted.raise_events()
    exhausted.work()
    assert (exhausted.waiting, exhausted.problem) == ([], ("", "", ""))


def test_settings_without_a_login_wait_for_no_refused_one(exhausted):
    exhausted.update(sign_in="none", sealed=None)
    exhausted.work()
    assert (exhausted.waiting, exhausted.problem) == ([], ("", "", ""))


@pytest.mark.parametrize("own", [{"sealed": "own"}, {"sign_in": "none", "sealed": None}], ids=["login", "relay"])
def test_mail_through_an_attackers_own_server_gives_no_refused_login_back(exhausted, own):
    exhausted.update(host="attacker.example.net", **own)
    exhausted.postman.settings_proved(exhausted.store.read()[0])
    exhausted.work()
    assert exhausted.waiting == []
    exhausted.update(sealed="a guess")
    exhausted.raise_events()
    exhausted.work(LOGIN_SECONDS - MINUTE)
    assert exhausted.problem == ("too many logins", "login", "")
    assert "opened a guess" not in [password for _, password in exhausted.server.connects]


def test_a_test_proves_the_settings_that_it_was_made_with_and_no_others(exhausted):
    exhausted.save(host="attacker.example.net", sealed="own")
    exhausted.postman.settings_proved(exhausted.store.read()[0])
    exhausted.save(sealed="a guess")
    exhausted.work()
    assert "opened a guess" not in [password for _, password in exhausted.server.connects]
    assert exhausted.problem == ("too many logins", "login", "")


@pytest.mark.parametrize("fact", ["", "{", "[]", "7", '"x"', "{}", '{"reply": "535"}', "\ufffd"])
def test_a_damaged_note_of_a_refusal_does_not_stop_mail(set_up, fact):
    set_up.outbox.set_metadata("login_refused", fact)
    set_up.raise_events()
    set_up.work()
    assert set_up.waiting == []


def test_a_login_that_was_put_off_is_tried_again(set_up):
    set_up.server.stops = SessionError("login", "answer", "454 temporary failure")
    set_up.raise_events()
    set_up.work()
    assert set_up.problem == ("server", "login", "454 temporary failure")
    set_up.server.stops = None
    set_up.work(MINUTE)
    assert set_up.waiting == []


# Back-off


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_a_delay_is_never_shorter_than_30_seconds_nor_longer_than_an_hour(count, chance):
    assert 30 <= delay(count, chance) <= 3600


@given(st.integers(0, 100), st.floats(0, 1))
def test_a_delay_does_not_shrink(count, chance):
    assert delay(count + 1, chance) >= delay(count, chance)


@given(st.integers(0, 100))
def test_devices_that_lost_the_same_server_come_back_at_different_times(count):
    assert delay(count, 0.0) > delay(count, 0.5) > delay(count, 1.0)


def test_delays_double_up_to_an_hour():
    assert [delay(count, 0.0) for count in range(9)] == [40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]


def test_a_dead_server_is_not_called_more_often_than_the_delays_say(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events(50)
    set_up.work(12 * HOUR)
    # Seven delays until an hour is reached, then one try in 52 minutes.
    assert 15 <= len(set_up.server.connects) <= 22
    assert set_up.problem == ("server", "connect", "nothing listens at this port")


def test_a_server_that_defers_everything_is_not_called_more_often_either(set_up):
    set_up.server.answer = lambda number, recipient: LATER
    set_up.raise_events(50)
    set_up.work(12 * HOUR)
    assert len(set_up.server.connects) <= 30
    assert len(set_up.server.tried) <= 150
    assert set_up.problem == ("server", "recipient", "450 mailbox busy")


def test_a_storm_of_new_events_does_not_shorten_the_back_off(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work()
    for _ in range(300):
        set_up.raise_events()
        set_up.postman.wake()
        assert set_up.postman.round() > 0
        set_up.now += 0.05
    assert len(set_up.server.connects) == 1


def test_update_ends_the_back_off(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work(5 * HOUR)
    set_up.server.stops = None
    set_up.postman.settings_changed()
    set_up.work()
    assert set_up.waiting == []


def test_after_a_success_the_back_off_begins_anew(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work(5 * HOUR)
    set_up.server.stops = None
    set_up.work(2 * HOUR)
    assert (set_up.waiting, set_up.problem) == ([], ("", "", ""))
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    count = len(set_up.server.connects)
    set_up.work(36)  # the second try comes after 35 s
    assert len(set_up.server.connects) == count + 2


def test_a_retry_writes_nothing(set_up):
    set_up.server.answer = lambda number, recipient: LATER
    set_up.raise_events(3)
    set_up.work()
    before = set_up.on_disk()
    for _ in range(340):
        set_up.now += RETRY_SECONDS
        set_up.postman.settings_changed()  # so that each round is a try
        set_up.work()
    assert len(set_up.server.tried) > 1000
    assert set_up.on_disk() == before


def test_a_failed_session_writes_nothing(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events(3)
    set_up.work()
    before = set_up.on_disk()
    set_up.work(4 * DAY, step=600)
    assert len(set_up.server.connects) > 50
    assert set_up.on_disk() == before


# What becomes of a mail


def test_a_delivered_mail_is_over(set_up):
    set_up.raise_events()
    set_up.work()
    assert set_up.outbox.deliveries(1) == [Delivery(ACCOUNT, "delivered", "content", "250 queued", 1.8e9)]
    set_up.work(2 * DAY)
    set_up.restart()
    set_up.work(2 * DAY)
    assert set_up.server.numbers == [1]


def test_with_nobody_listed_mail_goes_to_the_account(set_up):
    set_up.raise_events()
    set_up.work()
    assert set_up.server.tried == [(1, (ACCOUNT,))]


def test_listed_recipients_get_what_they_asked_for(set_up):
    set_up.listed = [Recipient("all@example.com"), Recipient("faults@example.com", "fault")]
    set_up.raise_events(type_="info")
    set_up.raise_events(type_="fault")
    set_up.work()
    assert set_up.server.tried == [(2, ("all@example.com", "faults@example.com")), (1, ("all@example.com",))]


def test_what_nobody_asked_for_is_over_without_a_mail(set_up):
    set_up.listed = [Recipient("faults@example.com", "fault")]
    set_up.raise_events(type_="info")
    set_up.work()
    assert (set_up.server.tried, set_up.waiting) == ([], [])


def test_events_about_mail_are_never_mailed(set_up):
    set_up.raise_events(waiting=False)
    set_up.work(DAY)
    assert set_up.server.connects == []


def test_a_refused_recipient_is_over_and_not_asked_again(set_up):
    set_up.server.answer = lambda number, recipient: REFUSED
    set_up.raise_events()
    set_up.work(2 * DAY)
    assert set_up.server.numbers == [1]
    assert set_up.outbox.deliveries(1) == [Delivery(ACCOUNT, "refused", "recipient", "550 no such user", 1.8e9)]
    assert set_up.waiting == []


def test_a_deferred_recipient_is_tried_again_and_the_others_are_not(set_up):
    answers = {"a@example.com": DELIVERED, "b@example.com": LATER, "c@example.com": REFUSED}
    set_up.listed = [Recipient(each) for each in answers]
    set_up.server.answer = lambda number, recipient: answers[recipient]
    set_up.raise_events()
    set_up.work(HOUR)
    answers["b@example.com"] = DELIVERED
    set_up.restart()
    set_up.work(HOUR)
    assert set_up.server.tried[0] == (1, ("a@example.com", "b@example.com", "c@example.com"))
    assert set(set_up.server.tried[1:]) == {(1, ("b@example.com",))}
    verdicts = {each.recipient: each.verdict for each in set_up.outbox.deliveries(1)}
    assert verdicts == {"a@example.com": "delivered", "b@example.com": "delivered", "c@example.com": "refused"}


def test_every_try_carries_the_same_message_id_and_names_everybody(set_up):
    answers = iter([DELIVERED, LATER, DELIVERED])
    set_up.listed = [Recipient("a@example.com"), Recipient("b@example.com")]
    set_up.server.answer = lambda number, recipient: next(answers)
    set_up.raise_events()
    set_up.work(MINUTE)
    first, second = (mail.partition(b"\r\nFrom: ")[2].partition(b"\r\n\r\n")[0] for mail in set_up.server.mails)
    assert first == second
    assert f"Message-ID: <1.{set_up.outbox.id}@device-ui.internal>".encode() in first
    assert b"To: a@example.com, b@example.com" in first


def test_a_mail_says_the_devices_address(set_up):
    set_up.raise_events()
    set_up.work()
    assert b"192.0.2.7" in set_up.server.mails[0]


def test_the_problem_is_cleared_by_the_first_success(set_up):
    answers = iter([LATER, DELIVERED])
    set_up.server.answer = lambda number, recipient: next(answers)
    set_up.raise_events()
    set_up.work()
    assert set_up.problem == ("server", "recipient", "450 mailbox busy")
    set_up.work(MINUTE)
    assert set_up.problem == ("", "", "")


def test_a_server_that_refuses_the_recipient_is_no_dead_server(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work()
    set_up.server.stops = None
    set_up.server.answer = lambda number, recipient: REFUSED
    set_up.work(MINUTE)
    assert set_up.problem[:2] == ("refused", "recipient")
    assert len(set_up.server.connects) == 2


def test_a_mail_that_was_refused_is_told_until_one_is_delivered_across_a_restart_too(set_up):
    set_up.server.answer = lambda number, recipient: REFUSED
    set_up.raise_events()
    set_up.work()
    set_up.restart()
    assert set_up.problem == ("refused", "recipient", REFUSED.reply)
    set_up.server.answer = lambda number, recipient: DELIVERED
    set_up.raise_events()
    set_up.work()
    assert set_up.problem == ("", "", "")


def test_an_update_takes_back_what_was_told_of_the_server_before(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work()
    set_up.server.stops = None
    set_up.postman.settings_changed()
    set_up.work()
    assert set_up.problem == ("", "", "")
    assert set_up.waiting == []


def test_a_password_for_another_key_is_told_before_an_alarm_needs_it(desk):
    desk.save()
    desk.fits = lambda settings: False
    desk.work()
    assert desk.problem[0] == "password"


def test_the_state_counts_what_waits(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events(7)
    set_up.work()
    state = set_up.postman.state()
    assert {**state, "advice": str(state["advice"])} == {
        "problem": "server",
        "step": "connect",
        "reply": "nothing listens at this port",
        "waiting": 7,
        "advice": "Nothing listens at port 587 of mail.example.com: change SMTP Port, usually to 587, or to 465.",
        "set_aside": "",
        "removed": 0,
        "clock": "",
    }


def test_the_state_tells_of_a_damaged_ledger(set_up):
    set_up.outbox.close()
    set_up.outbox.path.write_bytes(bytes(8192))
    set_up.restart()
    assert set_up.postman.state()["set_aside"] == "ledger.sqlite3.damaged-1"


# Sessions


def test_what_waits_goes_out_in_one_session(set_up):
    set_up.raise_events(250)
    set_up.work()
    assert set_up.server.numbers == list(range(1, 251))
    assert len(set_up.server.connects) == 1


def test_more_than_a_thousand_events_go_out_in_order(set_up):
    set_up.raise_events(1200)
    set_up.work()
    assert set_up.server.numbers == list(range(1, 1201))


def test_five_deferrals_in_a_row_end_the_session(set_up):
    set_up.server.answer = lambda number, recipient: LATER
    set_up.raise_events(20)
    set_up.work()
    assert set_up.server.numbers == [1, 2, 3, 4, 5]
    set_up.work(29)
    assert len(set_up.server.tried) == 5


def test_deferrals_between_deliveries_do_not_end_it(set_up):
    set_up.server.answer = lambda number, recipient: DELIVERED if number % 5 == 0 else LATER
    set_up.raise_events(20)
    set_up.work()
    assert set_up.server.numbers == list(range(1, 21))


def test_deferrals_of_one_recipient_do_not_hold_up_another(set_up):
    """A full mailbox for days; the other recipient's mail goes out at once all the same."""
    set_up.listed = [Recipient("works@example.com"), Recipient("full@example.com")]
    set_up.server.answer = lambda number, recipient: LATER if recipient.startswith("full") else DELIVERED
    set_up.raise_events(20)
    set_up.work()
    assert set_up.server.numbers == list(range(1, 21))
    set_up.work(DAY, step=600)
    set_up.raise_events()
    set_up.work(HOUR)
    assert [each.recipient for each in set_up.outbox.deliveries(21)] == ["works@example.com"]


def test_mails_that_are_deferred_for_days_do_not_starve_the_others(set_up):
    set_up.server.answer = lambda number, recipient: LATER if number <= 100 else DELIVERED
    set_up.raise_events(100)
    set_up.work(2 * DAY, step=600)
    set_up.raise_events(10)
    set_up.work(2 * HOUR)
    assert [number for number in set_up.waiting if number > 100] == []


def test_each_deferred_mail_gets_its_turn(set_up):
    set_up.server.answer = lambda number, recipient: LATER
    set_up.raise_events(30)
    set_up.work(DAY, step=60)
    assert set(set_up.server.numbers) == set(range(1, 31))
    set_up.server.tried.clear()
    set_up.work(DAY, step=60)
    assert set(set_up.server.numbers) == set(range(1, 31))


def test_a_sender_that_the_server_does_not_want_now_ends_the_session(set_up):
    set_up.server.answer = lambda number, recipient: Outcome("try later", "sender", "451 not now")
    set_up.raise_events(20)
    set_up.work()
    assert set_up.server.numbers == [1]
    assert set_up.problem == ("server", "sender", "451 not now")


def test_a_connection_lost_in_the_middle_of_a_mail_backs_off(set_up):
    set_up.server.answer = lambda number, recipient: Outcome("try later", "content", "the server closed the connection")
    set_up.server.closes_after = lambda number: True
    set_up.raise_events(20)
    set_up.work(29)
    assert len(set_up.server.connects) == 1


def test_a_server_that_takes_one_mail_a_session_gets_all(set_up):
    set_up.server.closes_after = lambda number: True
    set_up.raise_events(12)
    set_up.work()
    assert set_up.server.numbers == list(range(1, 13))
    assert len(set_up.server.connects) == 12


def test_events_raised_during_a_session_go_out_in_it(set_up):
    def answer(number: int, recipient: str) -> Outcome:
        if number < 10:
            set_up.raise_events()
        return DELIVERED

    set_up.server.answer = answer
    set_up.raise_events()
    set_up.work()
    assert set_up.server.numbers == list(range(1, 11))
    assert len(set_up.server.connects) == 1


def test_update_during_a_session_ends_it_for_the_new_settings(set_up):
    def answer(number: int, recipient: str) -> Outcome:
        if number == 2:
            set_up.update(sender_name="New name")
        return DELIVERED

    set_up.server.answer = answer
    set_up.raise_events(4)
    set_up.work()
    assert [b"New name" in mail for mail in set_up.server.mails] == [False, False, True, True]
    assert len(set_up.server.connects) == 2


def test_a_login_refused_while_update_is_pressed_does_not_hold_the_new_settings(set_up):
    class Pressed(SessionError):
        @property
        def login_refused(self) -> bool:
            set_up.server.stops = None
            set_up.update(sealed="two")
            return True

    set_up.server.stops = Pressed("login", "login refused", "535")
    set_up.raise_events()
    set_up.work()
    set_up.work()
    assert set_up.waiting == []


# Giving up


def dropped(desk: Desk) -> list[int]:
    """The events that were given up."""
    numbers = range(1, 1 + desk.outbox.accept([Event("153", "info", 1.0, 1.0, waiting=False)])[0])
    mails = {each: desk.outbox.event(each).mail or each for each in numbers}
    return [each for each in numbers if "dropped" in {found.verdict for found in desk.outbox.deliveries(mails[each])}]


def test_mail_is_given_up_after_five_days_of_trying(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events(2)
    set_up.work(5 * DAY - HOUR, step=600)
    assert dropped(set_up) == []
    set_up.work(3 * HOUR, step=600)
    assert dropped(set_up) == [1, 2]
    assert set_up.waiting == []
    deliveries = [replace(each, reply=str(each.reply)) for each in set_up.outbox.deliveries(1)]
    assert deliveries == [
        Delivery(ACCOUNT, "dropped", "connect", "given up after 5 days: connect nothing listens at this port", 1.8e9)
    ]


def test_a_late_event_gets_five_days_of_its_own(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work(3 * DAY, step=600)
    set_up.raise_events()
    set_up.work(2 * DAY + 3 * HOUR, step=600)
    assert dropped(set_up) == [1]
    assert set_up.waiting == [2]


def test_hundreds_are_given_up_together(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events(250)
    set_up.work(5 * DAY + 3 * HOUR, step=1800)
    assert set_up.waiting == []


def test_after_giving_up_the_next_event_is_mailed(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events(3)
    set_up.work(6 * DAY, step=600)
    set_up.server.stops = None
    set_up.raise_events()
    set_up.work(HOUR)
    assert set_up.server.numbers == [4]


def test_one_mail_that_is_deferred_for_five_days_is_given_up_and_the_rest_is_not(set_up):
    set_up.server.answer = lambda number, recipient: LATER if number == 1 else DELIVERED
    set_up.raise_events(3)
    set_up.work(5 * DAY + 3 * HOUR, step=600)
    assert dropped(set_up) == [1]
    assert [each.verdict for each in set_up.outbox.deliveries(2)] == ["delivered"]


@pytest.mark.parametrize("wall", [0.0, 1.0e9, 4.0e9], ids=["1970", "2001", "2096"])
def test_a_jump_of_the_wall_clock_gives_nothing_up(set_up, wall):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work(HOUR)
    set_up.wall = wall
    set_up.work(2 * DAY, step=600)
    assert dropped(set_up) == []


def test_a_restart_begins_the_five_days_anew(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work(4 * DAY, step=600)
    set_up.restart()
    set_up.work(4 * DAY, step=600)
    assert dropped(set_up) == []


def test_update_begins_the_five_days_anew(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work(4 * DAY, step=600)
    set_up.postman.settings_changed()
    set_up.work(2 * DAY, step=600)
    assert dropped(set_up) == []


def test_a_fault_of_ours_is_no_trying(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work(4 * DAY, step=600)
    set_up.now += HOUR
    set_up.server.stops = RuntimeError("a bug of ours")
    thread = threading.Thread(target=set_up.postman.run)
    thread.start()
    wait_for(lambda: set_up.problem[0] == "fault", what="the stumble")
    set_up.postman.stop()
    thread.join(20)
    set_up.server.stops = UNREACHABLE
    set_up.work(2 * DAY, step=600)
    assert dropped(set_up) == []


def no_key(_: SmtpSettings) -> str:
    raise NoKey


def held_back(desk: Desk, how: str) -> None:
    """Let something hold mail back that only a person can mend."""
    if how == "unset":
        desk.store.path.unlink()
    elif how == "damaged":
        desk.store.path.write_bytes(b"x")
    elif how == "login refused":
        desk.server.stops = LOGIN_REFUSED
    elif how == "storage":
        desk.outbox.full = True
    else:
        desk.unseal = no_key


@pytest.mark.parametrize("how", ["unset", "damaged", "login refused", "password", "storage"])
def test_waiting_for_a_person_is_no_trying(set_up, how):
    """Four days of a dead server, six in which nothing was tried, and hours of a dead server again."""
    set_up.server.stops = UNREACHABLE
    raw, opens = set_up.store.path.read_bytes(), set_up.unseal
    set_up.raise_events(2)
    set_up.work(4 * DAY, step=600)
    if how == "storage":
        set_up.server.stops = None  # delivered, but that cannot be recorded
    held_back(set_up, how)
    set_up.work(6 * DAY, step=600)
    assert set_up.problem[0] == how
    set_up.store.path.write_bytes(raw)
    set_up.server.stops, set_up.unseal, set_up.outbox.full = UNREACHABLE, opens, False
    if how == "login refused":
        set_up.postman.settings_changed()
    set_up.work(4 * HOUR, step=600)
    assert dropped(set_up) == []


def test_a_problem_that_is_over_does_not_come_back_after_something_passing(set_up):
    raw = set_up.store.path.read_bytes()
    told = []
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work()
    for _ in range(2):
        told.append(set_up.problem[0])
        set_up.store.path.write_bytes(b"x")
        set_up.work(HOUR)
        told.append(set_up.problem[0])
        set_up.store.path.write_bytes(raw)
        set_up.server.stops = None
        set_up.work(HOUR)
    assert told == ["server", "damaged", "", "damaged"]
    assert set_up.problem[0] == ""


def test_a_server_that_works_again_ends_the_time_of_trying(set_up):
    """Four days of a dead server; then it takes mail, but for one that it defers, which has five days of its own."""
    set_up.server.stops = UNREACHABLE
    set_up.raise_events(2)
    set_up.work(4 * DAY, step=600)
    set_up.server.stops = None
    set_up.server.answer = lambda number, _: LATER if number == 2 else DELIVERED
    set_up.work(3 * DAY, step=600)
    assert (set_up.waiting, dropped(set_up)) == ([2], [])
    set_up.server.answer = lambda number, _: DELIVERED
    set_up.work(HOUR)
    assert set_up.waiting == []


def test_nothing_comes_back_from_beneath_a_refused_login(set_up):
    raw = set_up.store.path.read_bytes()
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work()
    set_up.store.path.write_bytes(b"x")
    set_up.work(HOUR)
    set_up.store.path.write_bytes(raw)
    set_up.server.stops = None
    set_up.work(HOUR)
    set_up.server.stops = LOGIN_REFUSED
    set_up.raise_events()
    set_up.work(HOUR)
    assert set_up.problem[0] == "login refused"
    set_up.server.stops = None
    set_up.postman.settings_proved(set_up.store.read()[0])
    set_up.work(HOUR)
    assert (set_up.problem[0], set_up.waiting) == ("", [])


def test_a_refused_login_is_told_before_a_slow_quit(set_up):
    told = []
    set_up.server.stops = LOGIN_REFUSED
    set_up.server.closes = lambda: told.append(set_up.problem)
    set_up.raise_events()
    set_up.work()
    assert told == [("login refused", "login", LOGIN_REFUSED.reply)]


def test_an_update_does_not_take_back_that_a_mail_was_lost(set_up):
    set_up.server.answer = lambda number, recipient: REFUSED
    set_up.raise_events()
    set_up.work()
    set_up.postman.settings_changed()
    set_up.work(HOUR)
    assert set_up.problem == ("refused", "recipient", REFUSED.reply)


# A flash that takes nothing


def test_a_mail_whose_delivery_cannot_be_recorded_is_not_sent_twice(set_up):
    set_up.raise_events(2)
    set_up.outbox.full = True
    set_up.work(DAY)
    assert set_up.server.numbers == [1]
    assert set_up.problem == ("storage", "", "database or disk is full")
    set_up.outbox.full = False
    set_up.work(HOUR)
    assert set_up.server.numbers == [1, 2]
    assert (set_up.waiting, set_up.problem) == ([], ("", "", ""))
    assert [each.verdict for each in set_up.outbox.deliveries(1)] == ["delivered"]


def test_the_outcome_of_a_mail_is_on_flash_before_the_next_mail_begins(set_up):
    set_up.raise_led(3)
    seen = []
    recorded = lambda number: [bool(set_up.outbox.deliveries(each)) for each in range(1, number)]  # noqa: E731
    set_up.server.begins = lambda number: seen.append(recorded(number))
    set_up.work()
    assert seen == [[], [True], [True, True]]
    assert recorded(4) == [True, True, True]


def test_a_server_that_is_silent_about_a_mail_is_told_after_a_minute_and_forgotten_with_its_word(set_up):
    set_up.raise_events()
    seen = []

    def waits(on_wait: Callable[[float], None]) -> None:
        for waited in (25, 50, 75):
            on_wait(waited)
            seen.append(set_up.problem)

    set_up.server.waits = waits
    set_up.work()
    assert seen == [("", "", ""), ("", "", ""), ("server", "content", "the server does not answer in time")]
    assert (set_up.problem, set_up.waiting) == (("", "", ""), [])


def slow(set_up: Desk) -> None:
    """Let the server say nothing of a mail for more than a minute."""

    def waits(on_wait: Callable[[float], None]) -> None:
        set_up.now += 61
        on_wait(61)

    set_up.server.waits = waits


def test_the_lamp_hears_of_a_silent_server_while_it_is_silent(set_up):
    lit = []
    set_up.show = lambda state: lit.append(state["problem"])
    set_up.raise_events()
    slow(set_up)
    set_up.work()
    assert lit == ["server"]


def test_a_silent_server_is_not_told_of_after_its_word_when_the_ledger_was_full(set_up):
    set_up.raise_events()
    slow(set_up)
    set_up.outbox.full = True
    set_up.work(HOUR)
    assert set_up.problem[0] == "storage"
    set_up.outbox.full = False
    set_up.work(HOUR)
    assert (set_up.problem, set_up.server.numbers) == (("", "", ""), [1])


@pytest.fixture
def no_advice(monkeypatch):
    """No mail that does not go out can be explained."""

    def breaks(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(advice, "advise", breaks)


@pytest.mark.usefixtures("no_advice")
def test_a_mail_that_a_slow_server_takes_is_sent_once_whatever_cannot_be_told_of_it(set_up, caplog):
    set_up.raise_events()
    slow(set_up)
    set_up.work(DAY)
    assert (set_up.server.numbers, set_up.waiting) == ([1], [])
    assert "a silent server could not be told of" in caplog.text


@pytest.mark.usefixtures("no_advice")
def test_a_refused_login_is_not_tried_again_whatever_cannot_be_told_of_it(set_up):
    set_up.raise_events()
    set_up.server.stops = LOGIN_REFUSED
    for _ in range(6):
        with contextlib.suppress(OSError):
            set_up.postman.round()
        set_up.now += HOUR
    assert len(set_up.server.connects) == 1


def test_an_update_waits_for_a_silent_server_a_minute_at_most(set_up):
    set_up.raise_events()

    def waits(on_wait: Callable[[float], None]) -> None:
        set_up.server.waits = lambda _: None
        set_up.update(host="other.example.com")
        for waited in (25, 50, 75):
            set_up.now += 25
            on_wait(waited)

    set_up.server.waits = waits
    set_up.work(HOUR)
    assert [settings.host for settings, _ in set_up.server.connects] == ["mail.example.com", "other.example.com"]
    assert (set_up.problem, set_up.waiting) == (("", "", ""), [])


def test_each_mail_goes_to_the_recipients_at_its_time(set_up):
    set_up.raise_led(3)

    def answer(number: int, _: str) -> Outcome:
        set_up.listed = [Recipient(f"after-{number}@example.com")]
        return DELIVERED

    set_up.server.answer = answer
    set_up.work()
    to = [re.search(rb"\r\nTo: (.*)\r\n", each)[1].decode() for each in set_up.server.mails]
    assert to == [ACCOUNT, "after-1@example.com", "after-2@example.com"]


def test_a_half_delivered_mail_that_cannot_be_recorded_is_finished_later(set_up):
    answers = {"a@example.com": DELIVERED, "b@example.com": LATER}
    set_up.listed = [Recipient(each) for each in answers]
    set_up.server.answer = lambda number, recipient: answers[recipient]
    set_up.raise_events()
    set_up.outbox.full = True
    set_up.work(HOUR)
    set_up.outbox.full, answers["b@example.com"] = False, DELIVERED
    set_up.work(HOUR)
    assert set_up.server.tried == [(1, ("a@example.com", "b@example.com")), (1, ("b@example.com",))]
    assert set_up.waiting == []


# Faults of our own


def break_code(desk: Desk) -> None:
    """Raise an event of a code whose mail cannot be composed."""
    desk.kinds.kinds["666"] = catalog.Kind("666", "fault", None, None)
    desk.outbox.accept([Event("666", "fault", desk.wall, desk.wall)])


def test_one_event_that_cannot_be_composed_does_not_hold_up_the_others(set_up, caplog):
    set_up.raise_events()
    break_code(set_up)
    set_up.raise_events(2)
    set_up.work()
    assert set_up.server.numbers == [1, 3, 4]
    assert set_up.waiting == [2]
    assert "mail 2 could not be made; it is tried again later" in caplog.text


def test_an_event_that_cannot_be_composed_is_tried_with_growing_delays_and_given_up(set_up, caplog):
    break_code(set_up)
    set_up.work(5 * DAY + 3 * HOUR, step=600)
    assert 50 < caplog.text.count("could not be made") < 200
    assert dropped(set_up) == [1]


def test_events_that_cannot_be_composed_are_told(set_up):
    break_code(set_up)
    set_up.work()
    assert set_up.problem == ("fault", "", "")


@pytest.fixture
def at_work(set_up):
    """The same desk with the postman's own thread running; it is stopped at the end."""
    thread = threading.Thread(target=set_up.postman.run)
    thread.start()
    yield set_up
    set_up.postman.stop()
    thread.join(20)
    assert not thread.is_alive()


def test_the_thread_sends_what_it_is_woken_for(at_work):
    for count in (1, 2, 3):
        at_work.raise_events()
        at_work.postman.wake()
        wait_for(lambda count=count: len(at_work.server.tried) == count, what="the mail")


def test_without_a_thread_for_the_warnings_alarms_go_out_all_the_same(set_up, caplog):
    ready, go = threading.Event(), threading.Event()

    def run() -> None:
        ready.set()
        assert go.wait(20)
        set_up.postman.run()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(20)
        with no_thread():
            go.set()
            set_up.raise_events()
            wait_for(lambda: set_up.server.tried, what="the mail")
    finally:
        set_up.postman.stop()
        thread.join(20)
    assert "the warnings wait: " in caplog.text


def test_the_thread_wakes_for_new_settings(desk):
    desk.raise_events()
    thread = threading.Thread(target=desk.postman.run)
    thread.start()
    try:
        wait_for(lambda: desk.problem[0] == "unset")
        desk.update()
        wait_for(lambda: desk.waiting == [], what="the mail")
    finally:
        desk.postman.stop()
        thread.join(20)
    assert not thread.is_alive()


def test_a_stumble_is_logged_told_and_survived(at_work, caplog):
    at_work.server.stops = RuntimeError("a bug of ours")
    at_work.raise_events()
    at_work.postman.wake()
    wait_for(lambda: at_work.problem[0] == "fault", what="the stumble")
    assert "the postman stumbled; mail is tried again later" in caplog.text
    at_work.server.stops = None
    at_work.postman.settings_changed()
    wait_for(lambda: at_work.waiting == [], what="the mail")
    assert at_work.problem == ("", "", "")


def test_a_state_that_cannot_be_shown_keeps_no_mail_back(at_work, caplog):
    def fail(_state: object) -> None:
        raise RuntimeError("can't start new thread")

    at_work.show = fail
    for count in range(2):
        at_work.raise_events()
        at_work.postman.wake()
        wait_for(lambda: at_work.waiting == [], what="the mail")
        wait_for(lambda count=count: len(caplog.messages) > count, what="the line")
    assert set(caplog.messages) == {"the state of the mail path could not be shown"}


def test_a_stumble_backs_off_as_a_dead_server_does(at_work):
    """Whatever failed may have been a login."""
    at_work.server.stops = RuntimeError("a bug of ours")
    at_work.raise_events()
    at_work.postman.wake()
    wait_for(lambda: at_work.problem[0] == "fault", what="the stumble")
    for _ in range(20):
        at_work.postman.wake()
        wait_for(lambda: not at_work.postman._bell.is_set())
    assert len(at_work.server.connects) == 1
    assert at_work.problem[0] == "fault"


def test_stop_ends_the_thread_in_the_middle_of_a_queue(set_up):
    def answer(number: int, recipient: str) -> Outcome:
        if number == 3:
            set_up.postman.stop()
        return DELIVERED

    set_up.server.answer = answer
    set_up.raise_events(10)
    set_up.postman.run()
    assert set_up.server.numbers == [1, 2, 3]
    assert set_up.waiting == list(range(4, 11))


# Whatever the server answers


WORDS = {"delivered": DELIVERED, "refused": REFUSED, "later": LATER}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*WORDS, "closes", "dead", "restart", "full", "event"]), max_size=60))
def test_whatever_happens_every_mail_is_settled_once(words):
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        desk = Desk(Path(name))
        script = iter(words)
        desk.save()
        desk.listed = [Recipient("a@example.com"), Recipient("b@example.com")]
        settled: list[tuple[int, str]] = []

        def answer(number: int, recipient: str) -> Outcome:
            word = next(script, "delivered")
            desk.server.stops = UNREACHABLE if word == "dead" else None
            desk.server.closes_after = lambda number: word == "closes"
            if word == "event":
                desk.raise_events()
            desk.outbox.full = word == "full"
            outcome = WORDS.get(word, LATER)
            if outcome is not LATER:
                settled.append((number, recipient))
            return outcome

        desk.server.answer = answer
        desk.raise_events(3)
        for _ in range(100):
            desk.work(HOUR, step=600)
            desk.server.stops, desk.outbox.full = None, False
            if not desk.waiting:
                break
            if next(script, "") == "restart":
                desk.work(HOUR, step=600)  # what could not be recorded is, before the process ends
                while desk.postman._recorder:
                    desk.outbox.full = False
                    desk.postman.round()
                desk.restart()
        count = desk.outbox.accept([Event("153", "info", 1.0, 1.0, waiting=False)])[0] - 1
        everything = sorted(itertools.product(range(1, count + 1), ["a@example.com", "b@example.com"]))
        waiting = desk.waiting
        desk.outbox.close()
    assert waiting == []
    assert sorted(settled) == everything


# With the real courier


def plain(server: ScriptedServer) -> dict[str, object]:
    """Settings for a server on loopback."""
    return {"host": "127.0.0.1", "port": server.port, "security": "none"}


@pytest.fixture
def real(desk):
    """A desk whose sessions are real ones."""

    def connect(settings: SmtpSettings, password: str) -> SmtpClient:
        return SmtpClient(settings, password, ClientOptions(ssl.create_default_context(), allow_loopback=True))

    desk.server.connect = connect
    return desk


def test_a_real_session_delivers_all(real):
    with ScriptedServer() as server:
        real.save(**plain(server))
        real.raise_events(3)
        real.work()
    assert [each.verdict for each in real.outbox.deliveries(3)] == ["delivered"]
    assert len(server.sessions) == 1
    assert len(server.mails) == 3
    assert b"127.0.0.1" in server.mails[0]


def test_a_real_refused_login_is_one_attempt(real):
    with ScriptedServer({"AUTH": "535 5.7.8 wrong"}) as server:
        real.save(**plain(server))
        real.raise_events(3)
        real.work(DAY, step=600)
        real.restart()
        real.work(DAY, step=600)
    assert server.verbs.count("AUTH") == 1
    assert real.problem == ("login refused", "login", "535 5.7.8 wrong")


def test_a_real_server_that_defers_gets_the_mail_again(real):
    with ScriptedServer({"RCPT": "450 busy"}) as server:
        real.save(**plain(server))
        real.raise_events()
        real.work()
        server.script.clear()
        real.work(MINUTE)
    assert real.waiting == []
    assert len(server.sessions) == 2


def test_a_real_server_that_closes_gets_the_mail_again(real):
    with ScriptedServer({"content": "421 going down"}) as server:
        real.save(**plain(server))
        real.raise_events(2)
        real.work()
        server.script.clear()
        real.work(MINUTE)
    assert real.waiting == []
    assert b"".join(server.mails).count(b"Message-ID: <1.") == 2


def test_a_port_where_nothing_listens_is_told(real):
    with ScriptedServer() as server:
        real.save(**plain(server))
    real.raise_events()
    real.work()
    assert real.problem == ("server", "connect", "nothing listens at this port")


def test_the_note_of_a_refusal_holds_no_secret(real):
    with ScriptedServer({"AUTH": "535 opened one is wrong"}) as server:
        real.save(**plain(server))
        real.raise_events()
        real.work()
    with closing(real.outbox):
        note = real.outbox.metadata()["login_refused"]
    assert "opened one" not in note
    assert json.loads(note)["reply"] == "535 […] is wrong"


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.WARNING)


# What review found


def test_an_event_that_nobody_wants_needs_no_server(desk):
    desk.save()
    desk.listed = [Recipient("faults@example.com", "fault")]
    desk.outbox.accept([Event("101", "info", 0.0, 0.0), Event("303", "fault", 0.0, 0.0)])
    desk.server.stops = UNREACHABLE
    desk.work()
    assert [event.code for event in desk.outbox.waiting()] == ["303"]


def test_what_passes_does_not_hide_what_lasts(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work()
    told, whole = set_up.problem, set_up.store.path.read_bytes()
    set_up.store.path.write_bytes(b"nonsense")
    set_up.postman.round()
    assert set_up.problem[0] == "damaged"
    set_up.store.path.write_bytes(whole)
    set_up.postman.round()
    assert set_up.problem == told


# Of two verdicts, what the clock said: one is not set, goes on, is set back.
@pytest.mark.parametrize("moments", [(0.0, 0.0), (100.0, 0.0), (100.0, 200.0), (4.0e9, 200.0)])
@pytest.mark.parametrize("numbers", [(1, 2), (2, 1)])
@pytest.mark.parametrize(
    ("verdicts", "told"),
    [(("delivered", "refused"), "refused"), (("refused", "dropped"), "dropped"), (("dropped", "delivered"), "")],
)
def test_the_newest_verdict_is_told_after_a_restart_whatever_its_number_and_the_clock(
    set_up, verdicts, told, numbers, moments
):
    set_up.outbox.accept([Event("303", "fault", 0.0, 0.0), Event("303", "fault", 0.0, 0.0)])
    for number, verdict, moment in zip(numbers, verdicts, moments, strict=True):
        set_up.outbox.record(number, [Delivery("a@b.c", verdict, "recipient", "550 no", moment)], done=False)
    set_up.restart()
    assert set_up.problem == ((told, "recipient", "550 no") if told else ("", "", ""))


def test_what_was_given_up_is_told_after_a_restart(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events(2)
    set_up.work(5 * DAY + 3 * HOUR, step=1800)
    set_up.restart()
    assert set_up.problem[:2] == ("dropped", "connect")


@pytest.mark.parametrize("fact", ["", "nonsense", "7", "[]", '["dropped"]'])
def test_what_is_damaged_of_a_loss_is_told_of_nobody(set_up, fact):
    set_up.outbox.set_metadata("last_loss", fact)
    set_up.restart()
    assert set_up.problem == ("", "", "")
