"""The plan over a real ledger: what it decides is on flash before it goes out, and nothing is mailed twice or never."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.errors import NotStored
from device_ui.mail.clock import Clock
from device_ui.mail.delivery.batching import Batcher, QueuedMail
from device_ui.mail.delivery.environment import Environment
from device_ui.mail.delivery.schedule import Schedule
from device_ui.mail.events import Delivery, Event
from device_ui.mail.outbox.outbox import Outbox

MEMORY = Path("/dev/shm")
NOW, MINUTE, HOUR = 1_800_000_000.0, 60.0, 3600.0  # 2027-01-15
OK = Delivery("a@example.com", "delivered", "content", "250 ok", NOW)


class WeakOutbox(Outbox):
    """A ledger that decides and dates nothing while `full`; it counts how often it was `asked` for what has no date."""

    full, asked = False, 0

    def pending(self) -> dict[int, str]:
        self.asked += 1
        return super().pending()

    def assign_to_mail(self, numbers: Sequence[int]) -> int:
        self._refuse()
        return super().assign_to_mail(numbers)

    def date(self, dated: dict[int, tuple[float, str]]) -> None:
        self._refuse()
        super().date(dated)

    def _refuse(self) -> None:
        if self.full:
            raise NotStored(self.path, OSError("database or disk is full"))


class Desk:
    """One device's plan over its ledger, and clocks that only we move."""

    def __init__(self, folder: Path, **limits: int) -> None:
        self.folder, self.limits = folder, limits
        self.now, self.wall, self.boot_id, self.budget = 5000.0, NOW, "boot", 60
        self.windows = 60.0
        self.start()

    def start(self) -> None:
        self.outbox = WeakOutbox(self.folder / "ledger.sqlite3", **self.limits)
        self.clock = Clock(
            self.outbox.newest_date(),
            wall=lambda: self.wall,
            boot=lambda: self.now,
            boot_id=self.boot_id,
            synchronized=lambda: False,
        )
        environment = Environment({}, tuple, None, self.clock, lambda: self.now, lambda: 0.0)
        self.schedule = Schedule(self.outbox, Batcher(self.windows, self.budget), environment)
        self.schedule.update()

    def restart(self) -> None:
        self.outbox.close()
        self.start()

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds

    def happens(self, *kinds: str, told: bool = True) -> list[int]:
        """Events of these codes are accepted together, infos where the code begins with 1; `told`: the plan hears."""
        stamps = [self.clock.stamp() for _ in kinds]
        events = [
            Event(code, "info" if code[0] == "1" else "fault", stamp.time, stamp.time, clock=stamp.clock)
            for code, stamp in zip(kinds, stamps, strict=True)
        ]
        singles = self.schedule.choose_singles(events)
        numbers = self.outbox.accept(events, singles)
        if told:
            self.schedule.add(list(zip(numbers, events, singles, strict=True)))
        return numbers

    def mail(self) -> tuple[int, ...]:
        """The numbers of the next mail, as the ledger tells them; () when there is none."""
        mail = self.schedule.next()
        return self.told(mail) if mail else ()

    def told(self, mail: QueuedMail) -> tuple[int, ...]:
        digest = self.outbox.digest(mail.number, 10_000)
        assert digest is not None
        return tuple(number for first, last in digest.ranges for number in range(first, last + 1))

    def sends(self) -> list[tuple[int, ...]]:
        """Send all that may go now; the numbers of each mail."""
        sent = []
        while mail := self.schedule.next():
            sent.append(self.told(mail))
            self.schedule.conclude(mail, [OK], is_done=True)
            self.schedule.store_results()
        return sent

    def decided(self) -> dict[int, int]:
        """The mail of each event that waits, as it is on flash."""
        return {each.number: each.mail for each in self.outbox.waiting(10_000)}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where there is such a place."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
def desk(folder):
    desk = Desk(folder)
    yield desk
    desk.outbox.close()


# Decided on flash


def test_an_event_that_leads_is_decided_in_the_commit_that_accepts_it(desk):
    desk.happens("303", told=False)
    assert desk.decided() == {1: 1}


def test_what_follows_in_the_window_is_not_decided_yet(desk):
    desk.happens("303")
    desk.happens("303", "303")
    assert desk.decided() == {1: 1, 2: 0, 3: 0}


def test_a_digest_is_on_flash_before_it_is_given_out(desk):
    desk.happens("303", "303", "303")
    assert desk.sends() == [(1,)]
    desk.passes(MINUTE)
    assert desk.mail() == (2, 3)
    assert desk.decided() == {2: 2, 3: 2}


def test_an_event_that_nobody_told_the_plan_of_is_mailed(desk):
    desk.happens("303", told=False)
    assert desk.mail() == ()
    desk.schedule.update()
    assert desk.mail() == (1,)


def test_an_event_that_is_learnt_twice_is_mailed_once(desk):
    desk.happens("303", "404")
    desk.schedule.add_missed()
    desk.schedule.update()
    assert desk.sends() == [(1,), (2,)]
    desk.schedule.update()
    assert desk.sends() == []


def test_an_event_that_is_kept_only_is_never_planned(desk):
    event = Event("153", "info", NOW, NOW, waiting=False)
    assert desk.schedule.choose_singles([event, Event("303", "fault", NOW, NOW)]) == [False, True]
    numbers = desk.outbox.accept([event], [False])
    desk.schedule.add([(numbers[0], event, False)])
    desk.schedule.update()
    assert desk.mail() == ()
    assert desk.schedule.wait() is None


# A disk that takes nothing


def test_a_digest_that_cannot_be_decided_is_given_out_later_whole_and_once(desk):
    desk.happens("303", "303", "303")
    desk.sends()
    desk.passes(MINUTE)
    desk.outbox.full = True
    with pytest.raises(NotStored):
        desk.mail()
    assert desk.decided() == {2: 0, 3: 0}
    desk.outbox.full = False
    desk.schedule.update()
    desk.passes(MINUTE)
    assert desk.sends() == [(2, 3)]
    assert desk.outbox.waiting_count() == 0


def test_a_date_that_cannot_be_stored_is_stored_later(desk):
    desk.wall = 100.0
    desk.happens("303")
    desk.passes(10)
    desk.wall, desk.outbox.full = NOW, True
    with pytest.raises(NotStored):
        desk.schedule.update()
    assert desk.mail() == ()
    desk.outbox.full = False
    desk.schedule.update()
    assert desk.sends() == [(1,)]
    assert desk.outbox.event(1).time == NOW - 10


# Restarts


@pytest.mark.parametrize("tried", [False, True], ids=["decided", "tried"])
def test_after_a_restart_the_same_mails_go_out_under_the_same_names(desk, tried):
    desk.happens("303", "303", "304", "101")
    if tried:
        desk.schedule.next()
    desk.restart()
    assert desk.sends() == [(1,), (2, 3), (4,)]


def test_a_digest_keeps_its_name_across_a_restart_when_more_has_come(desk):
    desk.happens("303", "303", "303")
    desk.sends()
    desk.passes(MINUTE)
    assert desk.mail() == (2, 3)
    desk.happens("303")
    desk.restart()
    assert desk.sends() == [(2, 3), (4,)]


def test_a_mail_that_is_done_does_not_come_back_after_a_restart(desk):
    desk.happens("303", "303")
    assert desk.sends() == [(1,)]
    desk.restart()
    assert desk.sends() == [(2,)]
    desk.restart()
    assert desk.sends() == []


KINDS = st.sampled_from(["303", "304", "305", "101", "102"])
STEPS = st.one_of(
    st.lists(KINDS, min_size=1, max_size=4).map(lambda kinds: ("happens", kinds)),
    st.sampled_from(
        [("restart", None), ("look", None), ("next", None), ("send", None), ("full", None), ("wrong", None)]
    ),
    st.sampled_from([1.0, 5.0, 30.0, 61.0]).map(lambda seconds: ("passes", seconds)),
)


def obey(desk: Desk, step: tuple[str, object], named: dict[int, int], sent: list[int]) -> None:
    """Do one step; every mail that is given out must tell of what it told before, under its first number."""
    what, value = step
    if what == "happens":
        desk.happens(*value)
    elif what == "passes":
        desk.passes(value)
    elif what == "wrong":
        desk.wall = 12.0 if desk.wall > 1e9 else NOW + desk.now
    elif what == "full":
        desk.outbox.full = not desk.outbox.full
    elif what == "restart":
        desk.restart()
    elif what == "look":
        desk.schedule.update()
    elif mail := desk.schedule.next():
        numbers = desk.told(mail)
        assert all(named.setdefault(number, mail.number) == mail.number for number in numbers)
        if what == "send":
            desk.schedule.conclude(mail, [OK], is_done=True)
            desk.schedule.store_results()
            sent += numbers


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_whatever_happens_every_number_is_in_one_mail_and_sent_once(steps):
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        desk = Desk(Path(name))
        named: dict[int, int] = {}
        sent: list[int] = []
        try:
            for step in steps:
                try:
                    obey(desk, step, named, sent)
                except NotStored:
                    assert desk.outbox.full
            desk.outbox.full, desk.wall = False, NOW
            for _ in range(4):
                desk.passes(20 * MINUTE)
                desk.schedule.update()
                for mail in desk.sends():
                    assert all(named.setdefault(number, mail[0]) == mail[0] for number in mail)
                    sent += mail
            assert sorted(sent) == list(range(1, desk.outbox.last + 1))
        finally:
            desk.outbox.close()


# The clock


def test_an_event_under_a_wrong_clock_waits_and_those_after_it_are_dated(desk):
    desk.wall = 100.0
    desk.happens("303")
    desk.schedule.update()
    assert desk.decided() == {1: 0}
    assert desk.mail() == ()
    assert desk.schedule.wait() == 5
    desk.passes(42)
    desk.wall = NOW
    desk.happens("404")
    desk.schedule.update()
    assert desk.sends() == [(2,), (1,)]
    kept = desk.outbox.event(1)
    assert (kept.time, kept.accepted, kept.clock) == (NOW - 42, NOW - 42, "later")


def test_after_ten_minutes_an_event_goes_out_without_a_date(desk):
    desk.wall = 100.0
    desk.happens("303")
    desk.passes(599)
    desk.schedule.update()
    assert desk.mail() == ()
    desk.passes(5)
    desk.schedule.update()
    assert desk.sends() == [(1,)]
    assert desk.outbox.event(1).time == 0
    assert desk.outbox.event(1).clock.startswith("@boot ")


def test_an_event_that_went_out_without_a_date_gets_one_when_the_clock_is_right(desk):
    desk.wall = 100.0
    desk.happens("303")
    desk.passes(700)
    desk.schedule.update()
    desk.sends()
    desk.wall = NOW
    desk.schedule.update()
    kept = desk.outbox.event(1)
    assert (kept.time, kept.clock, kept.waiting) == (NOW - 700, "later", False)


def test_an_event_of_an_earlier_start_is_released_ten_minutes_after_this_one(desk):
    desk.wall = 100.0
    desk.happens("303")
    desk.now, desk.boot_id = 30.0, "another"
    desk.restart()
    assert desk.mail() == ()
    desk.now = 601.0
    desk.schedule.update()
    assert desk.sends() == [(1,)]


def test_an_event_of_an_earlier_start_is_dated_before_this_one(desk):
    desk.wall = 100.0
    desk.happens("303")
    desk.now, desk.boot_id, desk.wall = 30.0, "another", NOW
    desk.restart()
    assert (desk.outbox.event(1).time, desk.outbox.event(1).clock) == (NOW - 30, "before")
    assert desk.sends() == [(1,)]


def test_a_caller_who_knows_the_time_keeps_it_when_the_clock_is_dated(desk):
    desk.outbox.accept([Event("303", "fault", NOW - 5, 0.0, clock="@boot 5000.000")])
    desk.schedule.update()
    assert desk.outbox.event(1).time == NOW - 5


def test_a_storm_under_a_wrong_clock_does_not_read_the_ledger_with_each_event(desk):
    desk.wall = 100.0
    before = desk.outbox.asked
    for _ in range(20):
        desk.happens("303")
        desk.schedule.update()
    assert desk.outbox.asked - before <= 1
    assert desk.schedule.wait() == 5


def test_a_clock_that_is_set_between_two_looks_is_seen_with_the_next_event(desk):
    desk.wall = 100.0
    desk.happens("303")
    desk.schedule.update()
    desk.schedule.update()
    desk.wall = NOW
    desk.schedule.update()
    assert desk.sends() == [(1,)]


# The budget


@pytest.mark.parametrize(
    ("minutes", "set_back", "wait"),
    [(0, 0, 3600), (20, 0, 2400), (59, 0, 60), (0, 20 * HOUR, 3600), (0, -30 * MINUTE, 1800)],
    ids=["at once", "20 minutes ago", "59 minutes ago", "clock set back since", "clock half an hour on"],
)
def test_the_budget_of_the_last_hour_outlives_a_restart(folder, minutes, set_back, wait):
    desk = Desk(folder)
    desk.budget = 3
    desk.restart()
    for code in ("303", "304", "305"):
        desk.happens(code)
        assert len(desk.sends()) == 1
    desk.passes(minutes * MINUTE)
    desk.wall -= set_back
    desk.restart()
    desk.happens("306")
    assert desk.mail() == ()
    assert round(desk.schedule.wait()) == wait
    desk.outbox.close()


def test_the_budget_of_an_hour_ago_is_free_again_after_a_restart(folder):
    desk = Desk(folder)
    desk.budget = 1
    desk.restart()
    desk.happens("303")
    desk.sends()
    desk.passes(HOUR)
    desk.restart()
    desk.happens("304")
    assert desk.mail() == (2,)
    desk.outbox.close()


def test_a_mail_to_many_counts_once(folder):
    desk = Desk(folder)
    desk.budget = 2
    desk.happens("303")
    everybody = [Delivery(f"{name}@example.com", "delivered", "content", "250", NOW) for name in "abc"]
    desk.outbox.record(1, everybody, done=True)
    desk.restart()
    desk.happens("304")
    assert desk.mail() == (2,)
    desk.outbox.close()


# The ledger's limit


@pytest.mark.parametrize(
    ("taken", "mails"),
    [((2,), [(3, 4)]), ((3,), [(2, 4)]), ((2, 3, 4), [])],
    ids=["its first event", "one within", "all of it"],
)
def test_a_digest_that_the_limit_took_something_of_is_what_is_left(desk, taken, mails):
    desk.happens("303", "303", "303", "303")
    desk.sends()
    desk.passes(MINUTE)
    for number in taken:
        desk.outbox.write(lambda cursor, number=number: cursor.execute("DELETE FROM event WHERE number = ?", (number,)))
    assert desk.sends() == mails
    assert desk.schedule.wait() is None


def test_a_decided_digest_keeps_its_name_when_the_limit_takes_its_first_event(desk):
    desk.happens("303", "303", "303")
    desk.sends()
    desk.passes(MINUTE)
    assert desk.mail() == (2, 3)
    desk.outbox.write(lambda cursor: cursor.execute("DELETE FROM event WHERE number = 2"))
    desk.restart()
    mail = desk.schedule.next()
    assert (mail.number, desk.told(mail)) == (2, (3,))


# Nobody wants it, or it was tried for too long


def test_what_nobody_wants_leaves_the_plan(desk):
    desk.happens("101", "101", "303")
    desk.schedule.discard_waiting("info")
    desk.passes(MINUTE)
    assert desk.sends() == [(3,)]


def test_what_is_given_up_leaves_the_plan_and_the_rest_does_not(desk):
    desk.happens("303", "303", "303")
    why = {"fault": [dataclasses.replace(OK, verdict="dropped")], "info": []}
    assert desk.schedule.expire(2, why)
    desk.passes(MINUTE)
    assert desk.sends() == [(3,)]
    assert not desk.schedule.expire(2, why)
    assert [desk.outbox.event(number).mail for number in (1, 2, 3)] == [1, 1, 3]
    assert [each.verdict for each in desk.outbox.deliveries(1)] == ["dropped"]


def test_a_moment_that_is_told_to_the_plan_only_after_it_was_dated_goes_out_too(desk):
    desk.wall = 12.0
    numbers = desk.happens("303", told=False)
    pending = desk.outbox.event(numbers[0])
    desk.wall = NOW
    desk.schedule.update()
    desk.schedule.add([(numbers[0], pending, False)])
    desk.passes(MINUTE)
    assert desk.sends() == [tuple(numbers)]


def spent(desk: Desk, count: int, every: float) -> None:
    """So many mails went out, `every` so many seconds, and then the device lost its power and its clock."""
    for number in range(1, count + 1):
        desk.happens(f"{300 + number}")
        desk.passes(every)
        desk.schedule.update()
        desk.outbox.record(number, [dataclasses.replace(OK, time=desk.wall)], done=True)
    desk.now, desk.boot_id, desk.wall = 30.0, "another", 60.0
    desk.restart()


def test_mails_of_long_before_a_lost_clock_hold_no_alarm_back(folder):
    desk = Desk(folder)
    spent(desk, 60, 20 * MINUTE)
    desk.wall = NOW + 22 * HOUR
    desk.schedule.update()
    desk.happens("777")
    assert desk.mail() == (61,)


def test_a_lost_clock_does_not_give_the_budget_of_the_last_hour_out_twice(folder):
    desk = Desk(folder)
    desk.budget = 3
    spent(desk, 3, MINUTE)
    desk.passes(601)
    assert desk.happens("777") == [4]
    desk.passes(601)
    assert desk.mail() == ()
    desk.passes(HOUR)
    desk.schedule.update()
    assert desk.mail() == (4,)
