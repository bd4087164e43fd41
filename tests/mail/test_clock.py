"""A clock that is wrong dates nothing, an event keeps its moment until the clock is right, and no jump bends a wait."""

from __future__ import annotations

import datetime
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import device_ui
from device_ui.mail.clock import Clock, Stamp

NOW = 1_800_000_000.0  # 2027-01-15
YEAR = 365.25 * 24 * 3600


class Bench:
    """A device whose clocks only we move: `wall` may jump, `boot` only goes on."""

    def __init__(self, wall: float, written: float = 0.0, boot: float = 100.0) -> None:
        self.wall, self.boot, self.synchronized, self.boot_id = wall, boot, False, "this"
        self.clock = self.started(written)

    def started(self, written: float = 0.0) -> Clock:
        return Clock(
            written,
            wall=lambda: self.wall,
            boot=lambda: self.boot,
            boot_id=self.boot_id,
            synchronized=lambda: self.synchronized,
        )

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.boot += seconds


def test_a_record_is_dated_by_one_read_of_a_clock_that_is_set_meanwhile():
    walls = itertools.cycle([NOW, 5.0])
    clock = Clock(wall=lambda: next(walls), boot=lambda: 100.0, boot_id="this", synchronized=lambda: False)
    assert {clock.seconds() for _ in range(10)} == {0.0, NOW}
    assert {clock.moment() for _ in range(10)} == {"0 this 100", f"{NOW:.0f} this 100"}


def test_no_record_is_dated_by_a_second_read_of_the_clock():
    """`is_right` and then a read: in between the clock may be set. `raw` is for display."""
    wrong = re.compile(r"(\.raw|\.now\(\)).*\bif\b.*is_right|is_right\(\)[^\n]*\n[^\n]*(\.raw|clock\.now\(\))")
    assert wrong.search("accepted = clock.raw if clock.is_right() else 0.0")
    texts = {path: path.read_text() for path in Path(device_ui.__path__[0]).rglob("*.py")}
    assert len(texts) > 100
    assert [path for path, text in texts.items() if wrong.search(text)] == []


def test_the_release_is_a_day_that_has_been():
    released = datetime.date.fromisoformat(device_ui.RELEASED)
    assert datetime.date(2026, 11, 1) <= released <= datetime.datetime.now(datetime.UTC).date()


@pytest.mark.parametrize(
    ("wall", "written", "right"),
    [
        (0.0, 0.0, False),
        (NOW - 20 * YEAR, 0.0, False),
        (NOW, 0.0, True),
        (NOW + 10 * YEAR, 0.0, True),
        (NOW, NOW - 3600, True),
        (NOW, NOW + 23 * 3600, True),
        (NOW, NOW + 25 * 3600, False),
        (NOW, NOW + YEAR, False),
    ],
    ids=["1970", "20 years back", "now", "10 years ahead", "after", "a little before", "a day before", "a year before"],
)
def test_a_clock_is_right_after_the_release_and_after_the_last_write(wall, written, right):
    assert Bench(wall, written).clock.is_right() is right


def test_a_clock_that_somebody_sets_while_we_look_is_right():
    bench = Bench(NOW, written=NOW + YEAR)
    bench.passes(5)
    assert not bench.clock.is_right()
    bench.wall += 3600
    assert bench.clock.is_right()
    bench.passes(7200)
    assert bench.clock.is_right()


def test_a_clock_that_is_set_to_before_the_release_is_wrong():
    bench = Bench(NOW)
    bench.wall = NOW - 20 * YEAR
    assert not bench.clock.is_right()


def test_a_clock_that_the_system_calls_synchronized_is_right():
    bench = Bench(NOW, written=NOW + YEAR)
    bench.synchronized = True
    assert bench.clock.is_right()


def test_no_synchronization_is_believed_before_the_release():
    bench = Bench(0.0)
    bench.synchronized = True
    assert not bench.clock.is_right()


def test_now_is_never_before_the_last_write():
    assert Bench(0.0, written=NOW).clock.now() == NOW - 24 * 3600
    assert Bench(0.0).clock.now() == datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC).timestamp()
    assert Bench(NOW).clock.now() == NOW


def test_an_event_under_a_right_clock_has_its_date():
    bench = Bench(NOW)
    assert bench.clock.stamp() == Stamp(NOW, "")
    assert bench.clock.stamp(NOW - YEAR / 12) == Stamp(NOW - YEAR / 12, "")


@pytest.mark.parametrize("given_time", [0.0, 5.0, NOW - 20 * YEAR], ids=["zero", "1970", "20 years back"])
def test_a_time_by_a_clock_that_was_set_since_is_only_known_to_be_before_now(given_time):
    assert Bench(NOW).clock.stamp(given_time) == Stamp(NOW, "before")


def test_an_event_under_a_wrong_clock_is_dated_when_the_clock_is_right():
    bench = Bench(12.0)
    stamp = bench.clock.stamp()
    assert stamp == Stamp(0.0, "@this 100.000")
    bench.passes(50)
    bench.wall = NOW
    assert bench.clock.is_right()
    assert bench.clock.date(stamp.clock) == Stamp(NOW - 50, "later")


def test_a_time_by_a_wrong_clock_still_says_how_long_ago_it_was():
    bench = Bench(1000.0)
    assert bench.clock.stamp(970.0) == Stamp(0.0, "@this 70.000")


@pytest.mark.parametrize("given_time", [2000.0, 1000.0 - 101], ids=["in its future", "before the device started"])
def test_a_time_that_a_wrong_clock_cannot_have_shown_is_now(given_time):
    assert Bench(1000.0).clock.stamp(given_time) == Stamp(0.0, "@this 100.000")


def test_a_caller_who_knows_the_time_better_than_the_clock_is_believed():
    assert Bench(1000.0).clock.stamp(NOW) == Stamp(NOW, "")


def test_an_event_of_before_a_restart_lies_before_that():
    bench = Bench(NOW, boot=30.0)
    assert bench.clock.date("@other 5000.000") == Stamp(NOW - 30, "before")


def test_under_a_wrong_clock_nothing_is_dated():
    bench = Bench(12.0)
    assert bench.clock.date(bench.clock.stamp().clock) is None
    assert bench.clock.date("@other 5000.000") is None


def test_an_event_waits_ten_minutes_for_the_clock_and_no_longer():
    bench = Bench(12.0)
    pending = bench.clock.stamp().clock
    assert bench.clock.pending_seconds(pending) == 600
    bench.boot += 599
    assert bench.clock.pending_seconds(pending) == 1
    bench.boot += 2
    assert bench.clock.pending_seconds(pending) == 0


def test_an_event_of_before_a_restart_waits_ten_minutes_from_the_start():
    assert Bench(12.0, boot=30.0).clock.pending_seconds("@other 5000.000") == 570


@pytest.mark.parametrize(
    "pending", ["@this", "@this ", "@this 1x", "@this nan", "@this inf", "@this 1e9", "@", "@this -5"]
)
def test_a_damaged_pending_moment_was_before_now_and_waits_no_longer_than_any_other(pending):
    assert Bench(NOW, boot=30.0).clock.date(pending) == Stamp(NOW, "before")
    assert Bench(12.0, boot=30.0).clock.pending_seconds(pending) == 570


def test_a_pending_moment_of_the_future_is_damaged_and_is_now():
    assert Bench(NOW, boot=30.0).clock.date("@this 900000.000") == Stamp(NOW, "later")
    assert Bench(12.0, boot=30.0).clock.pending_seconds("@this 900000.000") == 600


@given(st.lists(st.floats(-30 * YEAR, 30 * YEAR), max_size=30))
def test_no_jump_of_the_wall_clock_bends_the_wait_or_the_distance(jumps):
    bench = Bench(12.0)
    pending = bench.clock.stamp().clock
    for jump in jumps:
        bench.wall += jump
        bench.passes(1)
        bench.clock.is_right()
    assert bench.clock.pending_seconds(pending) == 600 - len(jumps)
    bench.wall = NOW
    assert abs(bench.clock.date(pending).time - (NOW - len(jumps))) < 0.01


@given(st.lists(st.sampled_from([60.0, NOW - 20 * YEAR, NOW, NOW + 10 * YEAR]), min_size=2, max_size=10))
def test_a_clock_that_is_another_at_each_look_dates_nothing_in_1970(moments):
    moments = itertools.cycle(moments)
    clock = Clock(wall=lambda: next(moments), boot=lambda: 5000.0, boot_id="this", synchronized=lambda: False)
    for _ in range(10):
        stamps = [clock.stamp(), clock.date("@this 4000.000"), clock.date("@other 1.000")]
        assert all(each.time >= NOW - 5000 for each in stamps if each and (each.time or each.clock[:1] != "@"))
        assert clock.now() >= datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC).timestamp()


@given(st.lists(st.floats(-60 * YEAR, 60 * YEAR), max_size=30), st.floats(0, NOW))
def test_now_is_never_before_the_release(jumps, written):
    bench = Bench(NOW, written)
    for jump in jumps:
        bench.wall += jump
        assert bench.clock.now() >= datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC).timestamp()


def test_the_real_clocks_are_asked_by_default():
    clock = Clock()
    assert clock.is_right()
    assert abs(clock.now() - datetime.datetime.now(datetime.UTC).timestamp()) < 60


# How long ago something was.

HOUR = 3600.0


@pytest.mark.parametrize(
    ("boot_id", "wall", "boot", "passed"),
    [
        ("one", NOW + YEAR, 2000.0, 1000.0),  # the clock was set meanwhile
        ("one", 0.0, 2000.0, 1000.0),  # and wrongly
        ("two", NOW + HOUR, 60.0, HOUR),
        ("two", 0.0, 60.0, 60.0),  # not set yet, after another start
        ("two", NOW - HOUR, 60.0, 60.0),  # set back
    ],
)
def test_a_moment_is_as_long_ago_as_can_be_known(boot_id, wall, boot, passed):
    first = Clock(wall=lambda: NOW, boot=lambda: 1000.0, boot_id="one", synchronized=lambda: True)
    later = Clock(wall=lambda: wall, boot=lambda: boot, boot_id=boot_id, synchronized=lambda: True)
    assert later.passed(first.moment()) == passed


@pytest.mark.parametrize("boot_id", ["one", "two"])
def test_a_moment_that_was_just_now_is_not_after_now(boot_id):
    first = Clock(wall=lambda: NOW + 0.7, boot=lambda: 1000.7, boot_id="one", synchronized=lambda: True)
    later = Clock(wall=lambda: NOW + 0.7, boot=lambda: 1000.7, boot_id=boot_id, synchronized=lambda: True)
    assert later.when(first.moment()) <= NOW + 0.7
    assert later.passed(first.moment()) >= (0.0 if boot_id == "one" else 1000.0)


def test_a_moment_of_a_clock_that_was_wrong_is_dated_by_no_later_one():
    first = Clock(wall=lambda: 0.0, boot=lambda: 1000.0, boot_id="one", synchronized=lambda: False)
    later = Clock(wall=lambda: NOW, boot=lambda: 60.0, boot_id="two", synchronized=lambda: True)
    assert later.passed(first.moment()) == 60.0


@pytest.mark.parametrize(
    ("first", "boot_id", "wall", "ahead", "when"),
    [
        (NOW + 20 * YEAR, "two", NOW, True, 0.0),  # an earlier start had a clock that was decades ahead
        (NOW + HOUR, "two", NOW, False, NOW + HOUR),  # a little fast: that heals within the day
        (NOW, "two", NOW + HOUR, False, NOW),
        (NOW, "two", 0.0, False, NOW),  # this clock is the wrong one
        (NOW + 20 * YEAR, "one", NOW, False, NOW - 1000.0),  # set meanwhile: the time since the start is known
        (NOW, "one", 0.0, False, 0.0),
    ],
)
def test_a_moment_of_a_clock_that_was_far_ahead_is_not_known(first, boot_id, wall, ahead, when):
    moment = Clock(wall=lambda: first, boot=lambda: 1000.0, boot_id="one", synchronized=lambda: True).moment()
    later = Clock(wall=lambda: wall, boot=lambda: 2000.0, boot_id=boot_id, synchronized=lambda: wall > 0)
    assert later.is_ahead(moment) is ahead
    assert later.when(moment) == when


@pytest.mark.parametrize("moment", ["", "x", "x one y", "1 one", "1800000000.0", "nan two 5", "1 one inf", "1 one 1e3"])
def test_a_damaged_moment_was_at_the_start_at_the_latest(moment):
    clock = Clock(wall=lambda: 0.0, boot=lambda: 60.0, boot_id="one", synchronized=lambda: False)
    assert clock.passed(moment) == 60.0
