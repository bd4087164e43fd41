"""Mail is given up after five days of trying, and after nothing else."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from device_ui.mail.events import Delivery
from tests.helpers.delivery import (
    ACCOUNT,
    DAY,
    DELIVERED,
    HOUR,
    LATER,
    LOGIN_REFUSED,
    UNREACHABLE,
    Desk,
    dropped,
    no_key,
)
from tests.helpers.product import wait_for


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
    set_up.worker.settings_changed()
    set_up.work(2 * DAY, step=600)
    assert dropped(set_up) == []


def test_a_fault_of_ours_is_no_trying(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work(4 * DAY, step=600)
    set_up.now += HOUR
    set_up.server.stops = RuntimeError("a bug of ours")
    thread = threading.Thread(target=set_up.worker.run)
    thread.start()
    wait_for(lambda: set_up.problem[0] == "fault", what="the stumble")
    set_up.worker.stop()
    thread.join(60)
    set_up.server.stops = UNREACHABLE
    set_up.work(2 * DAY, step=600)
    assert dropped(set_up) == []


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
        set_up.worker.settings_changed()
    set_up.work(4 * HOUR, step=600)
    assert dropped(set_up) == []


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


def test_what_was_given_up_is_told_after_a_restart(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events(2)
    set_up.work(5 * DAY + 3 * HOUR, step=1800)
    set_up.restart()
    assert set_up.problem[:2] == ("dropped", "connect")
