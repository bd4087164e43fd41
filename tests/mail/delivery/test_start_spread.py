"""The first session after a boot waits a random part of mail.start_spread, so that a site's power cut is no burst at its relay."""

from __future__ import annotations

import pytest

from device_ui.mail.events import PENDING
from tests.helpers.delivery import UNREACHABLE, Desk


@pytest.fixture
def started(set_up: Desk) -> Desk:
    """A device whose hook started with the device; its random number is 0.5."""
    set_up.worker.spread_start(20)
    return set_up


@pytest.mark.parametrize(("random", "wait"), [(0.001, 0.02), (0.25, 5.0), (0.5, 10.0), (1.0, 20.0)])
def test_the_first_session_waits_a_random_part(set_up, random, wait):
    set_up.random = random
    set_up.worker.spread_start(20)
    set_up.raise_events()
    assert set_up.worker.round() == pytest.approx(wait)
    assert set_up.server.connects == []
    set_up.now += wait
    set_up.worker.round()
    assert set_up.server.numbers == [1]


def test_the_wait_begins_with_the_first_mail_that_is_ready(started):
    assert started.worker.round() is None
    started.now += 3600
    started.raise_events()
    assert started.worker.round() == pytest.approx(10)
    started.now += 4
    started.raise_events()
    assert started.worker.round() == pytest.approx(6)
    started.now += 6
    started.worker.round()
    assert started.server.numbers == [1, 2]


def test_it_is_waited_once(started):
    started.raise_events()
    started.work(10)
    started.raise_events()
    started.worker.round()
    assert started.server.numbers == [1, 2]


def test_what_the_clock_releases_waits_too(started):
    """tasmota#8753, kura#6281: devices that wait for the same NTP server are released in the same second."""
    started.wall = 0.0
    started.raise_events(clock=f"{PENDING}boot {started.now:.3f}")
    started.work(400)
    assert started.server.tried == []
    started.wall = 1.8e9
    started.now += 5
    assert started.worker.round() == pytest.approx(10)
    started.work(10)
    assert started.server.numbers == [1]


def test_after_an_update_nothing_waits(started):
    started.raise_events()
    started.worker.round()
    started.update(sender_name="Other alarms")
    started.worker.round()
    assert started.server.numbers == [1]


def test_an_update_before_the_first_mail_ends_it_too(started):
    started.update(sender_name="Other alarms")
    started.worker.round()
    started.raise_events()
    started.worker.round()
    assert started.server.numbers == [1]


def test_a_server_that_does_not_answer_has_its_back_off_alone(started):
    started.server.stops = UNREACHABLE
    started.raise_events()
    started.work(10)
    assert len(started.server.connects) == 1
    assert started.worker.round() == pytest.approx(35)


def test_without_it_the_first_session_begins_at_once(set_up):
    set_up.raise_events()
    set_up.worker.round()
    assert set_up.server.numbers == [1]
