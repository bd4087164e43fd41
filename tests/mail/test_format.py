"""Times, numbers and names as a person reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_ui.mail.catalog import Kind
from device_ui.mail.events import Event
from device_ui.mail.format import event_name, event_text, format_numbers, format_span, format_time

MESSAGE = Kind("901", "fault", "Message from the system", "")
ALARM = Kind("303", "fault", "Audit log space: minor threshold exceeded", "")
NOON = 1795348800.0  # 2026-11-22 12:00 UTC


def event(text, code="901"):
    return Event(code, "fault", NOON, NOON, text=text)


@pytest.mark.parametrize(
    ("text", "name", "rest"),
    [
        ("Cron <root@box> backup\n\nNo space left.\n", "Cron <root@box> backup", "No space left."),
        ("only a subject", "only a subject", ""),
        ("", "Message from the system", ""),
        ("\nno subject", "Message from the system", "no subject"),
        ("a\n  b\n\n c \n\n", "a", "  b\n\n c "),
    ],
)
def test_a_message_of_the_system_is_headed_by_its_subject(text, name, rest):
    assert (event_name(event(text), MESSAGE), event_text(event(text))) == (name, rest)


def test_any_other_event_has_its_own_text():
    raised = event("first\nsecond", "303")
    assert (event_name(raised, ALARM), event_text(raised)) == (ALARM.name, "first\nsecond")


@pytest.mark.parametrize(
    ("ranges", "told"),
    [
        ([], ""),
        ([(7, 7)], "7"),
        ([(2, 4012), (4020, 4020)], "2-4012, 4020"),
        ([(1, 2), (4, 4), (6, 9)], "1-2, 4, 6-9"),
        ([(n, n) for n in range(1, 1000, 2)], ", ".join(str(n) for n in range(1, 1000, 2))),
    ],
)
def test_numbers_are_listed_as_ranges(ranges, told):
    assert format_numbers(ranges) == told


def test_ranges_beyond_five_hundred_are_counted():
    ranges = [(n, n) for n in range(1, 1001, 2)] + [(1003, 1004), (1006, 1006)]
    assert format_numbers(ranges).endswith("997, 999, and 3 more up to 1006")


@given(st.sets(st.integers(1, 5000), min_size=1))
def test_every_number_is_listed_or_counted(chosen):
    ranges = [(number, number) for number in sorted(chosen)]
    *spelt, last = format_numbers(ranges).split(", ")
    more = int(last.split()[1]) if last.startswith("and ") else 0
    assert len(spelt) + (more or 1) == len(chosen)
    assert last.split()[-1] == str(max(chosen))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("UTC", "2026-11-22 12:00:00 +00:00 (UTC)"),
        ("KST-9", "2026-11-22 21:00:00 +09:00 (KST)"),
        ("<+0545>-5:45", "2026-11-22 17:45:00 +05:45 (+0545)"),
        ("NST3:30NDT,M3.2.0,M11.1.0", "2026-11-22 08:30:00 -03:30 (NST)"),
    ],
)
def test_a_moment_has_its_zone(zone, name, told):
    zone(name)
    assert format_time(NOON + 0.9) == told


@pytest.mark.parametrize(
    ("seconds", "clock", "told"),
    [
        (NOON, "later", "2026-11-22 12:00:00 +00:00 (UTC)"),
        (NOON, "before", "before 2026-11-22 12:00:00 +00:00 (UTC) (the device's clock was not set)"),
        (0.0, "@boot 5.000", "not known (the device's clock was not set)"),
        (NOON, "@boot 5.000", "2026-11-22 12:00:00 +00:00 (UTC)"),
        (-50400.0, "", "1969-12-31 10:00:00 +00:00 (UTC)"),
        (253370851199.0, "", "9999-01-01 23:59:59 +00:00 (UTC)"),
    ],
)
def test_a_moment_says_what_it_rests_on(zone, seconds, clock, told):
    zone("UTC")
    assert str(format_time(seconds, clock)) == told


@pytest.mark.parametrize("seconds", [1e18, -1e18, 253402300800.0, float("inf"), float("-inf"), float("nan")])
def test_a_damaged_time_is_shown_as_such(seconds):
    assert format_time(seconds) == "not known (the ledger's date is damaged)"


@pytest.mark.parametrize(
    ("first", "last", "told"),
    [
        (0.0, 0.0, "time not known (the device's clock was not set)"),
        (NOON, NOON + 0.9, "2026-11-22 12:00:00 +00:00 (UTC)"),
        (NOON, NOON + 1, "2026-11-22 12:00:00 +00:00 (UTC) to 2026-11-22 12:00:01 +00:00 (UTC)"),
    ],
)
def test_a_span_is_one_time_or_two(zone, first, last, told):
    zone("UTC")
    assert format_span(first, last) == told
