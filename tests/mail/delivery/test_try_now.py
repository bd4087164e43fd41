"""*Try now*: waiting mail is tried at once, throttled, without a trace on flash and without a further refused login."""

from __future__ import annotations

import pytest

from device_ui.mail.smtp.outcome import Outcome
from tests.helpers.delivery import DAY, DELIVERED, HOUR, LATER, LOGIN_REFUSED, MINUTE, UNREACHABLE, Desk, dropped

ASKED = "SMTP tab, from 192.0.2.7"


@pytest.fixture
def stuck(set_up) -> Desk:
    """A device whose mail server was away for hours: the next try is almost an hour away."""
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work(6 * HOUR)
    assert set_up.worker.next_try() > MINUTE
    return set_up


def test_waiting_mail_is_tried_at_once(stuck):
    tries = len(stuck.server.connects)
    assert stuck.worker.try_waiting(ASKED) == 0
    stuck.server.stops = None
    stuck.work()
    assert len(stuck.server.connects) == tries + 1
    assert stuck.waiting == []


def test_a_mail_that_the_server_defers_is_tried_at_once(set_up):
    set_up.server.answer = lambda number, recipient: LATER
    set_up.raise_events()
    set_up.work(HOUR)
    set_up.server.answer = lambda number, recipient: DELIVERED
    assert set_up.worker.try_waiting(ASKED) == 0
    set_up.work()
    assert set_up.waiting == []


def test_a_try_that_fails_waits_no_shorter_than_before(stuck):
    assert stuck.worker.try_waiting(ASKED) == 0
    stuck.worker.round()
    assert stuck.worker.next_try() > HOUR / 2
    assert not stuck.worker.is_blocked()


def test_the_problem_stays_until_mail_goes_out(stuck):
    stuck.worker.try_waiting(ASKED)
    assert stuck.problem[0] == "server"
    stuck.worker.round()
    assert stuck.problem[0] == "server"


def test_trying_every_day_keeps_no_mail_for_ever(stuck):
    for _ in range(6):
        stuck.worker.try_waiting(ASKED)
        stuck.work(DAY, step=600)
    assert dropped(stuck) == [1]


def test_a_refused_login_is_not_repeated(set_up):
    set_up.server.stops = LOGIN_REFUSED
    set_up.raise_events()
    set_up.work()
    logins = len(set_up.server.connects)
    assert set_up.worker.next_try() is None
    assert set_up.worker.is_blocked()
    set_up.worker.try_waiting(ASKED)
    set_up.work(HOUR)
    assert len(set_up.server.connects) == logins


def test_tries_are_throttled_and_share_their_bucket_with_changes_of_the_settings(stuck):
    assert [stuck.worker.try_waiting(ASKED) for _ in range(10)] == [0] * 10
    assert 0 < stuck.worker.try_waiting(ASKED) <= 30
    stuck.now += 30
    assert stuck.worker.try_waiting(ASKED) == 0


def test_a_try_writes_nothing(stuck):
    before = stuck.on_disk()
    stuck.worker.try_waiting(ASKED)
    stuck.worker.round()
    assert stuck.on_disk() == before


def test_the_next_try_is_the_time_that_the_worker_keeps(stuck):
    planned, tries = stuck.worker.next_try(), len(stuck.server.connects)
    stuck.now += planned - 1
    stuck.worker.round()
    assert len(stuck.server.connects) == tries
    assert stuck.worker.next_try() == pytest.approx(1)
    stuck.now += 1
    stuck.worker.round()
    assert len(stuck.server.connects) == tries + 1


def test_a_mail_that_waits_longer_than_the_others_has_a_time_of_its_own(set_up):
    later = Outcome("try later", "content", "451 greylisted")  # about each mail by itself
    set_up.server.answer = lambda number, recipient: later
    set_up.raise_events()
    set_up.work(6 * HOUR)
    own = set_up.worker.next_try(1)
    set_up.raise_events()
    set_up.worker.round()
    assert set_up.worker.next_try(1) == pytest.approx(own)
    assert set_up.worker.next_try() <= MINUTE < own


def test_no_next_try_is_told_while_the_settings_are_damaged(stuck):
    stuck.store.path.write_text("damaged")
    stuck.worker.round()
    assert stuck.worker.next_try() is None


def test_a_try_is_logged_with_who_asked_for_it(stuck, caplog):
    with caplog.at_level("INFO"):
        stuck.worker.try_waiting(ASKED)
    assert caplog.messages == ["waiting mail tried now: SMTP tab, from 192.0.2.7"]
