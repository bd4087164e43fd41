"""When a mail of a day or a week is due: by the calendar, once, whatever the clock does."""

from __future__ import annotations

from datetime import datetime

import pytest

from device_ui.mail.delivery.period import DAY_SECONDS, Period, Sent
from tests.helpers.delivery import BERLIN, at

pytestmark = pytest.mark.usefixtures("berlin")

HOUR = 3600.0


def shown(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, BERLIN):%Y-%m-%d %H:%M:%S}"


EIGHT = Period(8 * 3600)
MONDAY = Period(8 * 3600, 0)


@pytest.mark.parametrize(
    ("period", "now", "latest", "following"),
    [
        (EIGHT, "2027-01-10 08:00:00", "2027-01-10 08:00:00", "2027-01-11 08:00:00"),
        (EIGHT, "2027-01-10 07:59:59", "2027-01-09 08:00:00", "2027-01-10 08:00:00"),
        (EIGHT, "2027-01-01 00:00:00", "2026-12-31 08:00:00", "2027-01-01 08:00:00"),
        (EIGHT, "2027-03-28 12:00:00", "2027-03-28 08:00:00", "2027-03-29 08:00:00"),
        (EIGHT, "2027-10-31 12:00:00", "2027-10-31 08:00:00", "2027-11-01 08:00:00"),
        (Period(24 * 3600 + 60), "2027-01-10 00:00:30", "2027-01-09 00:01:00", "2027-01-10 00:01:00"),
        (MONDAY, "2027-01-10 12:00:00", "2027-01-04 08:00:00", "2027-01-11 08:00:00"),
        (MONDAY, "2027-01-11 08:00:00", "2027-01-11 08:00:00", "2027-01-18 08:00:00"),
        (MONDAY, "2027-01-11 07:00:00", "2027-01-04 08:00:00", "2027-01-11 08:00:00"),
    ],
)
def test_instants(period, now, latest, following):
    assert shown(period.latest(at(now))[1]) == latest
    assert shown(period.next(at(now))) == following


@pytest.mark.parametrize(
    "second", [0, 2 * 3600, 2 * 3600 + 1800, 3 * 3600 - 1, 8 * 3600, 23 * 3600 + 3599, 24 * 3600 + 3599]
)
def test_every_day_of_a_year_has_one_instant(second):
    period, now, days = Period(second), at("2027-01-01 00:00:00"), []
    while (now := period.next(now)) < at("2028-01-01 00:00:00"):
        day, moment = period.latest(now)
        assert moment == now
        assert period.latest(now - 1)[0] < day
        days.append(day)
    assert len(days) == len(set(days)) in (364, 365)


def test_devices_differ_within_the_hour_and_over_the_week():
    daily = [Period.of_device(480, f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}") for number in range(2000)]
    assert {8 * 3600 <= each.second < 9 * 3600 for each in daily} == {True}
    minutes = [each.second // 60 for each in daily]
    assert max(map(minutes.count, set(minutes))) < 100
    weekly = [
        Period.of_device(480, f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}", weekly=True) for number in range(2000)
    ]
    assert {each.weekday for each in weekly} == set(range(7))
    assert Period.of_device(480, "no hexadecimal number") == EIGHT


NOON = at("2027-01-10 12:00:00")


@pytest.mark.parametrize(
    ("last", "day"),
    [
        (None, "2027-01-10"),
        (Sent("2027-01-09", 28 * HOUR), "2027-01-10"),
        (Sent("2027-01-10", 4 * HOUR), None),
        # It has only just begun: nothing before the next instant.
        (Sent("2027-01-10", None), None),
        (Sent("2027-01-09", None), "2027-01-10"),
        # Made up for late at night, and not at once again.
        (Sent("2027-01-09", 11 * HOUR), None),
        (Sent("2027-01-09", 12 * HOUR), "2027-01-10"),
        # The clock was years ahead, and is right again; or it was a day ahead.
        (Sent("2031-05-05", 24 * HOUR), "2027-01-10"),
        (Sent("2031-05-05", 1 * HOUR), None),
        (Sent("2027-01-11", 20 * HOUR), "2027-01-10"),
        # The clock was set back a day: the same day once more, but not twice in a day.
        (Sent("2027-01-10", 24 * HOUR), None),
        (Sent("2027-01-10", 36 * HOUR), "2027-01-10"),
    ],
)
def test_due(last, day):
    assert EIGHT.due(NOON, last) == day


@pytest.mark.parametrize(
    ("last", "day"),
    [
        (Sent("2027-01-04", 6 * DAY_SECONDS), None),
        (Sent("2026-12-28", 13 * DAY_SECONDS), "2027-01-04"),
        (Sent("2026-12-28", 3 * DAY_SECONDS), None),
    ],
)
def test_due_every_week(last, day):
    assert MONDAY.due(NOON, last) == day
