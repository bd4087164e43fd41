"""What a person never uses up and a program does, by a clock of ours."""

from __future__ import annotations

import threading

import pytest

from device_ui.rate_limit import TokenBucket


class Desk:
    """A bucket of three tokens, one more every ten seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.bucket = TokenBucket(3, 10.0, lambda: self.now)

    def taken(self, tries: int) -> list[int]:
        """What each of some tries at once is told."""
        return [self.bucket.take() for _ in range(tries)]


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
    threads = [threading.Thread(target=lambda: told.append(desk.bucket.take())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told.count(0) == 3


def test_asking_how_long_takes_nothing(desk):
    assert [desk.bucket.wait() for _ in range(5)] == [0] * 5
    desk.taken(3)
    desk.now += 1
    assert (desk.bucket.wait(), desk.taken(1)) == (9, [9])


def test_a_bucket_goes_on_where_another_was(desk):
    desk.taken(2)
    later = TokenBucket(3, 10.0, lambda: desk.now, desk.bucket.full)
    assert [later.take() for _ in range(2)] == [0, 10]


def test_no_wait_is_longer_than_for_an_empty_bucket(desk):
    broken = TokenBucket(3, 10.0, lambda: desk.now, 1e12)
    assert broken.wait() == 10
