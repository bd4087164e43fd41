"""The daily summary and the sign of life: neither skipped nor doubled, and each event in exactly one mail."""

from __future__ import annotations

import random
import tempfile
from email import message_from_bytes
from pathlib import Path

import pytest

from device_ui.errors import NotStored
from device_ui.mail.catalog import SIGN_OF_LIFE
from device_ui.mail.clock import Clock
from device_ui.mail.delivery.batching import Batcher
from device_ui.mail.delivery.environment import Environment
from device_ui.mail.delivery.period import Period
from device_ui.mail.delivery.quota import Quota
from device_ui.mail.delivery.schedule import Schedule
from device_ui.mail.delivery.sender import Sender
from device_ui.mail.delivery.worker import DeliveryWorker
from device_ui.mail.events import Event
from device_ui.settings.notifications import NOTIFICATIONS_FILE, Notifications, with_codes
from device_ui.settings.recipients import Recipient
from device_ui.settings.store import NotificationStore
from tests.helpers.delivery import DAY, DELIVERED, HOUR, LATER, MEMORY, MINUTE, NAMES, REFUSED, Desk, at

pytestmark = pytest.mark.usefixtures("berlin")

# A fault and an info that the tests put into the summary, and one that is not mailed.
SUMMARIZED, NEVER = ("303", "050"), "305"


class Device(Desk):
    """A device whose wall clock moves with its time since boot, and can be set; it starts on a Friday at 00:00."""

    def __init__(self, folder: Path, **chosen: object) -> None:
        self.is_synchronized, self.boots, self.booted = True, 0, 0.0
        self.codes = {**dict.fromkeys(SUMMARIZED, "summary"), NEVER: "never"}
        self.notifications = NotificationStore(folder / NOTIFICATIONS_FILE)
        self.choose(**chosen)
        super().__init__(folder)
        self.wall = at("2027-01-01 00:00:00")
        self.reboot()
        self.save()

    def choose(self, **chosen: object) -> None:
        """Save what is mailed, and when."""
        self.notifications.save(with_codes(Notifications(**chosen), self.codes), self.notifications.read()[1])

    def start(self) -> DeliveryWorker:
        self.clock = Clock(
            self.outbox.newest_date(),
            wall=lambda: self.wall,
            boot=lambda: self.now - self.booted,
            boot_id=f"boot{self.boots}",
            synchronized=lambda: self.is_synchronized,
        )
        environment = Environment(NAMES, lambda: self.listed, self, self.clock, lambda: self.now, lambda: self.random)
        self.environment = environment
        worker = DeliveryWorker(
            self.outbox,
            self.store,
            Schedule(self.outbox, Batcher(window=0, budget=10**6), environment),
            Sender(self.outbox, self.kinds, lambda *arguments: self.server.connect(*arguments), environment),
            Quota(self.outbox, self.clock),
            lambda state: self.show(state),
        )
        worker.read_choices()
        return worker

    def reboot(self) -> None:
        """The power goes and comes back."""
        self.boots, self.booted = self.boots + 1, self.now
        self.restart()

    def pass_(self, seconds: float) -> None:
        """Let time pass without the process."""
        self.now += seconds
        self.wall += seconds

    def live(self, seconds: float, step: float = MINUTE) -> None:
        """Let time pass with the process."""
        end = self.now + seconds
        while self.now < end:
            while self.worker.round() == 0:
                pass
            self.pass_(min(step, end - self.now))
        self.worker.round()

    def alarm(self, code: str = "303") -> int:
        """Raise an event as the hook does it."""
        kind = self.kinds[code]
        is_mailed, in_summary = self.worker.decide(kind)
        event = Event(code, kind.type, self.wall, self.wall, "test", "x", is_mailed, in_summary=in_summary)
        singles = self.worker.choose_singles([event])
        numbers = self.outbox.accept([event], singles)
        self.worker.add([(numbers[0], event, singles[0])])
        return numbers[0]

    @property
    def subjects(self) -> list[str]:
        return [str(message_from_bytes(mail)["Subject"]) for mail in self.server.mails]

    @property
    def sent(self) -> list[list[int]]:
        """The numbers of the events of each mail."""
        return [[event.number for event in self.outbox.digest(number, 10**6).events] for number in self.server.numbers]

    @property
    def instant(self) -> float:
        """Seconds from now to the next instant."""
        return Period.of_device(480, self.outbox.id).next(self.wall) - self.wall


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def device(folder):
    device = Device(folder)
    yield device
    device.outbox.close()


# The summary


def test_an_event_waits_for_the_summary_and_an_alarm_does_not(device):
    waiting, at_once, never = (device.alarm(code) for code in ("303", "301", "305"))
    device.live(5 * HOUR, step=HOUR)
    assert device.sent == [[at_once]]
    device.live(5 * HOUR, step=HOUR)
    assert device.sent == [[at_once], [waiting]]
    assert ["Daily summary: 1 " in each for each in device.subjects] == [False, True]
    assert not device.outbox.event(never).waiting
    device.live(2 * DAY, step=HOUR)
    assert len(device.sent) == 2  # none when nothing happened


def test_the_summary_is_sent_in_the_devices_own_minute(device):
    device.alarm()
    due = device.instant
    device.live(due - 2 * MINUTE, step=HOUR)
    assert device.sent == []
    device.live(3 * MINUTE)
    assert device.sent == [[1]]


def test_faults_and_infos_are_two_summaries_for_their_readers(device):
    device.listed = [Recipient("all@example.com"), Recipient("faults@example.com", "fault")]
    for code in ("303", "050", "303"):
        device.alarm(code)
    device.live(10 * HOUR, step=HOUR)
    assert device.sent == [[1, 3], [2]]
    assert [recipients for _, recipients in device.server.tried] == [
        ("all@example.com", "faults@example.com"),
        ("all@example.com",),
    ]


def test_no_info_is_mailed_when_all_are_switched_off(device):
    device.choose(infos=False)
    device.live(MINUTE)
    device.alarm("050")
    device.alarm("051")
    device.live(DAY, step=HOUR)
    assert device.sent == []
    assert device.outbox.count == 2


def test_a_choice_holds_from_the_next_event_on(device):
    first = device.alarm()
    device.codes = {}
    device.choose()
    device.worker.settings_changed()
    device.live(MINUTE)
    second = device.alarm()
    device.live(MINUTE)
    assert device.sent == [[second]]
    device.live(DAY, step=HOUR)
    assert device.sent == [[second], [first]]


def test_a_damaged_file_mails_everything_at_once(device, caplog):
    device.notifications.path.write_text("infos = tru")
    device.live(5 * MINUTE)
    number = device.alarm()
    device.live(MINUTE)
    assert device.sent == [[number]]
    assert [each for each in caplog.messages if "every event is mailed at once" in each] == [
        "notifications.toml is damaged: its last line is no checksum; every event is mailed at once"
    ]


def test_a_summary_that_the_server_defers_is_the_same_mail_at_every_try(device):
    device.alarm()
    device.alarm()
    device.server.answer = lambda number, recipient: LATER
    device.live(10 * HOUR, step=HOUR)
    third = device.alarm()
    device.reboot()
    device.server.answer = lambda number, recipient: REFUSED
    device.live(10 * HOUR, step=HOUR)
    assert set(device.server.numbers) == {1}
    assert {each for mail in device.sent for each in mail} == {1, 2}
    assert len({message_from_bytes(mail)["Message-ID"] for mail in device.server.mails}) == 1
    device.server.answer = lambda number, recipient: REFUSED
    device.live(DAY, step=HOUR)
    assert device.sent[-1] == [third]


def test_nothing_that_waits_for_the_summary_keeps_the_process_for_longer_than_an_hour(device):
    device.live(MINUTE)
    assert device.worker.is_idle()
    device.alarm()
    device.live(MINUTE)
    assert device.worker.is_idle()
    device.live(device.instant - HOUR, step=HOUR)
    assert not device.worker.is_idle()
    device.live(2 * HOUR)
    assert device.worker.is_idle()


def test_without_the_file_of_choices_the_process_stays_until_the_summary_is_sent(device):
    """The timer starts it only where the file is, and a page that finds it damaged keeps it under another name."""
    device.alarm()
    device.live(MINUTE)
    assert device.worker.is_idle()
    device.notifications.path.unlink()
    device.live(MINUTE)
    assert not device.worker.is_idle()
    device.live(device.instant + MINUTE, step=HOUR)
    assert device.sent == [[1]]
    assert device.worker.is_idle()


def work_day(device: Device, day: str) -> None:
    """A device that is on from 7 to 17 o'clock and raises one event in the summary."""
    device.wall = at(f"{day} 07:00:00")
    device.now += 14 * HOUR
    device.reboot()
    device.live(3 * HOUR, step=10 * MINUTE)
    device.alarm()
    device.live(7 * HOUR, step=10 * MINUTE)


@pytest.mark.parametrize("sign", ["off", "daily"])
def test_a_clock_that_was_decades_ahead_stops_no_daily_mail_once_it_is_right(device, sign):
    device.choose(sign_of_life=sign)
    for day in ("2027-01-01", "2027-01-02", "2046-08-10", "2046-08-11"):
        work_day(device, day)
    before = len(device.subjects)
    for day in range(4, 14):
        work_day(device, f"2027-01-{day:02d}")
    mails = device.subjects[before:]
    assert 9 <= len([each for each in mails if "summary" in each]) <= 11
    assert len([each for each in mails if "905" in each]) in ((0,) if sign == "off" else (9, 10))
    assert device.outbox.summary_count() <= 1


def test_a_sign_of_life_says_since_when_by_the_clock_that_is_right_now(device):
    device.choose(sign_of_life="daily")
    device.live(DAY, step=HOUR)
    right = device.wall
    device.wall += 19 * 365 * DAY
    device.live(DAY, step=HOUR)
    device.wall = right + DAY
    device.live(DAY, step=HOUR)
    mail = message_from_bytes(device.server.mails[-1])
    assert "905" in mail["Subject"]
    assert "Since 2027-01-0" in mail.get_payload(0).get_payload()


def test_on_a_full_disk_it_is_begun_later_and_once(device):
    device.alarm()
    device.live(device.instant - MINUTE, step=HOUR)
    real, refused = device.outbox.begin_summary, []

    def refuse(metadata):
        refused.append(1)
        raise NotStored(device.outbox.path, OSError("full"))

    device.outbox.begin_summary = refuse
    device.live(10 * MINUTE)
    assert refused and device.sent == []
    device.outbox.begin_summary = real
    device.live(DAY, step=HOUR)
    assert device.sent == [[1]]


def test_five_days_without_a_server_give_up_no_event_that_waits_for_a_summary(device):
    """The clock is not right, so that no summary begins."""
    device.alarm()
    device.server.answer = lambda number, recipient: LATER
    device.alarm("301")
    device.is_synchronized = False
    device.wall = 0.0
    device.reboot()
    device.live(6 * DAY, step=HOUR)
    assert [each.number for each in device.outbox.select("waiting", ())] == [1]


# The sign of life


def test_a_sign_of_life_says_what_was_sent_what_waits_and_what_was_lost(device):
    device.choose(sign_of_life="daily")
    device.live(MINUTE)
    device.alarm("301")
    device.live(HOUR)
    device.server.answer = lambda number, recipient: REFUSED
    device.alarm("301")
    device.live(HOUR)
    device.server.answer = lambda number, recipient: LATER
    device.alarm("301")
    device.live(HOUR)
    device.live(device.instant + MINUTE, step=HOUR)
    signs = device.outbox.select("code = ?", (SIGN_OF_LIFE.code,))
    assert len(signs) == 1
    device.alarm("303")
    device.server.answer = lambda number, recipient: REFUSED
    device.live(DAY, step=HOUR)
    text = next(mail for mail in device.server.mails if "905" in str(message_from_bytes(mail)["Subject"]))
    told = message_from_bytes(text).get_payload(0).get_payload()
    for line in ("Events: 3", "Mails delivered: 1", "Mails lost: 1", "Events that wait for their mail: 1"):
        assert line in told, told


def test_the_first_sign_of_life_is_at_the_next_instant(device):
    device.live(12 * HOUR, step=HOUR)
    device.choose(sign_of_life="daily")
    device.live(device.instant - MINUTE, step=HOUR)
    assert device.sent == []
    device.live(2 * MINUTE)
    assert len(device.sent) == 1


def test_turned_off_and_on_it_begins_anew(device):
    device.choose(sign_of_life="daily")
    device.live(DAY, step=HOUR)
    device.choose()
    device.live(3 * DAY, step=HOUR)
    device.choose(sign_of_life="daily")
    device.live(MINUTE)
    assert len(device.sent) == 1
    device.live(DAY, step=HOUR)
    assert len(device.sent) == 2


def test_every_week_has_one(device):
    device.choose(sign_of_life="weekly")
    device.live(MINUTE)
    device.live(10 * 7 * DAY, step=HOUR)
    assert len(device.sent) == 10


def test_the_switch_for_infos_leaves_it_on(device):
    device.choose(infos=False, sign_of_life="daily")
    device.live(MINUTE)
    device.live(2 * DAY, step=HOUR)
    assert len(device.sent) == 2


@pytest.mark.parametrize(
    "note",
    [
        "x",
        "[]",
        '{"day": 5, "moment": "x y z", "number": "many"}',
        '{"day": "2027-01-01", "moment": "nan a inf"}',
        '{"moment": {}}',
    ],
)
def test_a_damaged_note_keeps_no_sign_of_life_back(device, note):
    device.choose(sign_of_life="daily")
    device.live(2 * DAY, step=HOUR)
    before = len(device.sent)
    device.outbox.set_metadata("sign_of_life", note)
    device.outbox.set_metadata("removed_untold", "1x")
    device.reboot()
    device.live(2 * DAY, step=HOUR)
    assert len(device.sent) - before in (1, 2, 3)


def test_a_damaged_moment_of_an_event_keeps_no_mail_back(device):
    device.is_synchronized, device.wall = False, 0.0
    device.reboot()
    number = device.alarm("301")
    device.outbox.write(
        lambda cursor: cursor.execute("UPDATE event SET clock = '@boot1 x' WHERE number = ?", (number,))
    )
    device.is_synchronized, device.wall = True, at("2027-02-01 00:00:00")
    device.live(HOUR)
    later = device.alarm("301")
    device.live(MINUTE)
    assert device.sent == [[number], [later]]


# A year


def test_a_year_has_a_summary_and_a_sign_of_life_a_day_and_each_event_in_one_mail(folder, caplog):
    """With restarts and reboots, hours without power, a clock that is set forth and back, and both changes of summer time."""
    caplog.set_level("INFO", "device_ui.mail.delivery.periodic")
    chance = random.Random(18)
    # An hour that one day does not have, and one has twice.
    device = Device(folder, summary_time="02:00", sign_of_life="daily")
    device.server.answer = lambda number, recipient: LATER if chance.random() < 0.05 else DELIVERED
    start, ahead, until, summarized = device.now, 0.0, 0.0, device.now
    device.alarm()
    while device.now < start + 364 * DAY:
        match chance.random():
            case dice if dice < 0.03:
                device.restart()
            case dice if dice < 0.05:
                device.pass_(chance.uniform(0, 5 * HOUR))
                device.reboot()
            case dice if dice < 0.07 and not ahead:
                ahead, until = chance.uniform(-3, 3) * HOUR, device.now + chance.uniform(0, 6) * HOUR
                device.wall += ahead
            case dice if dice < 0.2:
                device.alarm(chance.choice([*SUMMARIZED, "301", "201", NEVER]))
        if device.now - summarized > 4 * HOUR:
            device.alarm()
            summarized = device.now
        if ahead and device.now > until:
            device.wall, ahead = device.wall - ahead, 0.0
        device.live(chance.uniform(0.5, 3) * HOUR, step=3 * HOUR)
    device.wall -= ahead
    device.server.answer = lambda number, recipient: DELIVERED
    device.live(at("2027-12-31 23:00:00") - device.wall, step=HOUR)
    events = {each.number: each for each in device.outbox.select("number > 0", ())}
    mails: dict[int, set[int]] = {number: set() for number in events}
    for mail, numbers in zip(device.server.numbers, device.sent, strict=True):
        for number in numbers:
            mails[number].add(mail)
    for number, each in events.items():
        # At every try an event is in the same mail; what came after the last instant of the year is in none yet.
        assert len(mails[number]) == (0 if each.code == NEVER or each.in_summary else 1), each
        assert not each.waiting or each.in_summary
        if each.code not in SUMMARIZED:
            assert mails[number] <= {number}
    begun = [each.split()[3].rstrip(":") for each in caplog.messages if each.startswith("daily summary of")]
    signs = [each for each in events.values() if each.code == SIGN_OF_LIFE.code]
    assert (len(begun), len(set(begun)), len(signs)) == (365, 365, 365)
    device.outbox.close()
