"""A guesser waits longer and longer, whoever has typed a letter wrong does not, and nobody waits for another."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_ui.web.throttle import Throttle
from tests.test_sessions import Clock

HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def throttle(clock):
    return Throttle(clock)


def guess(throttle: Throttle, clock: Clock, count: int) -> list[float]:
    """Guess `count` times, each as soon as it is allowed; the waits told before each."""
    waits = []
    for _ in range(count):
        wait = throttle.attempt(HERE)
        waits.append(wait)
        if wait:
            clock.now += wait
            assert throttle.attempt(HERE) == 0
    return waits


def test_three_wrong_passwords_are_typing(throttle):
    assert [throttle.attempt(HERE) for _ in range(3)] == [0, 0, 0]


def test_the_delay_doubles_from_a_second_to_a_minute(throttle, clock):
    assert guess(throttle, clock, 12) == [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_an_attempt_that_came_too_early_is_not_counted(throttle, clock):
    guess(throttle, clock, 3)
    assert [throttle.attempt(HERE) for _ in range(5)] == [1.0] * 5


def test_the_wait_counts_down(throttle, clock):
    guess(throttle, clock, 6)
    clock.now += 3
    assert throttle.attempt(HERE) == 5


def test_another_address_is_not_held_up(throttle, clock):
    guess(throttle, clock, 10)
    assert throttle.attempt(THERE) == 0


def test_the_right_password_forgets_the_wrong_ones(throttle, clock):
    guess(throttle, clock, 10)
    throttle.succeeded(HERE)
    assert [throttle.attempt(HERE) for _ in range(3)] == [0, 0, 0]


def test_success_of_one_address_leaves_the_guesser_waiting(throttle, clock):
    guess(throttle, clock, 10)
    throttle.succeeded(THERE)
    assert throttle.attempt(HERE) > 0


@pytest.mark.parametrize(("seconds", "waits"), [(3599.0, [0, 60]), (3600.0, [0, 0])])
def test_failures_are_forgotten_after_an_hour(throttle, clock, seconds, waits):
    guess(throttle, clock, 10)
    clock.now += seconds
    assert [throttle.attempt(HERE) for _ in range(2)] == waits


def test_a_thousand_addresses_are_remembered_and_the_oldest_goes(throttle, clock):
    guess(throttle, clock, 3)
    for number in range(999):
        throttle.attempt(f"198.51.100.{number}")
    assert throttle.attempt(HERE) == 1
    throttle.attempt("203.0.113.1")
    assert throttle.attempt(HERE) == 0
    assert len(throttle._failures) == 1000


def test_an_address_that_tries_again_is_no_longer_the_oldest(throttle, clock):
    throttle.attempt(HERE)
    throttle.attempt(THERE)
    throttle.attempt(HERE)
    for number in range(999):
        throttle.attempt(f"198.51.100.{number}")
    assert HERE in throttle._failures
    assert THERE not in throttle._failures


def test_guesses_at_once_are_counted_one_by_one(clock):
    throttle = Throttle(clock)
    start, passed = threading.Barrier(16), []

    def attack() -> None:
        start.wait(20)
        for _ in range(200):
            if not throttle.attempt(HERE):
                passed.append(1)

    threads = [threading.Thread(target=attack) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(passed) == 3


def test_no_guess_slips_in_between_the_look_and_the_count():
    """The clock itself guesses once more, at the one moment when another thread could."""
    held: list[bool] = []
    throttle = Throttle(lambda: held.append(throttle._lock.locked()) or 0.0)
    throttle.attempt(HERE)
    assert held == [True]


@given(st.lists(st.floats(0, 4000), max_size=60))
def test_no_pause_lets_a_guesser_try_more_often_than_the_delays_allow(pauses):
    clock = Clock()
    throttle, times = Throttle(clock), []
    for pause in pauses:
        clock.now += pause
        if not throttle.attempt(HERE):
            times.append(clock.now)
    minute = [len([other for other in times if 0 <= other - each < 60]) for each in times]
    assert max(minute, default=0) <= 9


def test_time_is_the_monotonic_clock_by_itself():
    assert Throttle().attempt(HERE) == 0
