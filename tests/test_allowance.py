"""What a person never uses up and a program does, by a clock of ours."""

from __future__ import annotations

import threading

import pytest

from device_ui.web.allowance import Allowance


class Desk:
    """An allowance of three, one more every ten seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.allowance = Allowance(3, 10.0, lambda: self.now)

    def taken(self, tries: int) -> list[int]:
        """What each of some tries at once is told."""
        return [self.allowance.take() for _ in range(tries)]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_all_are_at_hand_at_first(desk):
    assert desk.taken(4) == [0, 0, 0, 10]


def test_a_try_too_early_costs_nothing(desk):
    assert desk.taken(9) == [0, 0, 0, 10, 10, 10, 10, 10, 10]
    desk.now += 10
    assert desk.taken(2) == [0, 10]


def test_the_wait_is_told_in_whole_seconds_and_long_enough(desk):
    desk.taken(3)
    desk.now += 0.5
    assert desk.taken(1) == [10]
    desk.now += 9.4
    assert desk.taken(1) == [1]
    desk.now += 0.2
    assert desk.taken(1) == [0]


def test_no_more_than_all_are_at_hand_after_a_long_rest(desk):
    desk.taken(3)
    desk.now += 3600
    assert desk.taken(4) == [0, 0, 0, 10]


def test_tries_at_once_take_one_each(desk):
    told: list[int] = []
    threads = [threading.Thread(target=lambda: told.append(desk.allowance.take())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told.count(0) == 3
