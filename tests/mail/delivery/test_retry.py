"""A dead server, and a mail that a server defers, are tried again with growing delays that write nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from device_ui.mail.delivery.retry import delay
from device_ui.mail.delivery.worker import RESET_SECONDS
from tests.helpers.delivery import (
    DAY,
    HOUR,
    LATER,
    UNREACHABLE,
)


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
        set_up.worker.wake()
        assert set_up.worker.round() > 0
        set_up.now += 0.05
    assert len(set_up.server.connects) == 1


def test_update_ends_the_back_off(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work(5 * HOUR)
    set_up.server.stops = None
    set_up.worker.settings_changed()
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
        set_up.now += RESET_SECONDS
        set_up.worker.settings_changed()  # so that each round is a try
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
