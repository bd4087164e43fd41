"""A guesser waits longer and longer, whoever has typed a letter wrong does not, and nobody waits for another."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_ui.storage import toml_file
from device_ui.web.auth.failure_log import FailureStore
from device_ui.web.auth.throttle import Throttle
from tests.web.auth.test_sessions import Clock

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
        wait = tried(throttle, HERE)
        waits.append(wait)
        if wait:
            clock.now += wait
            assert tried(throttle, HERE) == 0
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


def test_4000_addresses_are_remembered_and_the_oldest_goes(throttle, clock):
    for address in (HERE, THERE):
        assert [tried(throttle, address) for _ in range(3)] == [0, 0, 0]
    others(throttle, 3998)
    assert [tried(throttle, HERE), tried(throttle, THERE)] == [1, 1]
    assert tried(throttle, "203.0.113.1") == 0
    assert [tried(throttle, THERE), tried(throttle, HERE)] == [1, 0]


def test_an_address_that_tries_again_is_no_longer_the_oldest(throttle, clock):
    for address in (HERE, THERE):
        assert [tried(throttle, address) for _ in range(3)] == [0, 0, 0]
    clock.now += 1
    assert tried(throttle, HERE) == 0
    others(throttle, 3999)
    assert [tried(throttle, HERE), tried(throttle, THERE)] == [2, 0]


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:DB8:0:0:1::", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::1%eth1", True),
        ("localhost", "", True),
        ("nonsense\n", "unknown", True),
    ],
)
def test_one_visitor_is_one_address_or_the_network_that_every_customer_has(throttle, clock, one, other, are_one):
    for _ in range(3):
        throttle.attempt(one)
    assert throttle.attempt(other) == (1 if are_one else 0)


# The account: there is one, and many may guess at it


def attacked(clock: Clock, count: int = 1000, rounds: int = 4, path: Path | None = None) -> Throttle:
    """A throttle at which so many addresses guess as soon as they may."""
    throttle = Throttle(clock, path)
    for _ in range(rounds):
        for number in range(count):
            tried(throttle, f"198.18.{number // 256}.{number % 256}")
        clock.now += 1
    return throttle


def others(throttle: Throttle, count: int) -> None:
    """So many other addresses fail once each, which no rule delays."""
    for number in range(count):
        assert tried(throttle, f"10.0.{number // 256}.{number % 256}") == 0


def tried(throttle: Throttle, address: str) -> float:
    """The wait for one try, which is over at once."""
    wait = throttle.attempt(address)
    if not wait:
        throttle.finished()
    return wait


def test_a_new_address_may_fail_twice_at_once_while_1000_guess(clock):
    throttle = attacked(clock)
    for _ in range(20):
        tried(throttle, THERE)
    assert [tried(throttle, HERE) for _ in range(2)] == [0, 0]


def test_a_new_address_that_found_every_check_taken_has_not_failed(clock):
    throttle = attacked(clock)
    assert throttle.attempt(THERE) == 0
    assert [throttle.attempt(HERE) for _ in range(9)] == [1] * 9
    throttle.finished()
    assert [tried(throttle, HERE) for _ in range(2)] == [0, 0]


@pytest.mark.parametrize("local", ["192.168.1.7", "10.0.0.1", "169.254.3.4", "fd00::7", "fe80::7"])
def test_the_local_network_does_not_wait_for_the_internet(clock, local):
    throttle = attacked(clock)
    assert [throttle.attempt(THERE), throttle.attempt(HERE)] == [0, 1]
    assert throttle.attempt(local) == 0


def test_local_addresses_that_failed_before_do_not_share_the_pause_of_the_internet(clock):
    throttle = attacked(clock)
    for _ in range(2):
        tried(throttle, "192.168.1.7")
    assert tried(throttle, "198.18.0.1") == 0
    assert tried(throttle, "198.18.0.2") > 0
    assert tried(throttle, "192.168.1.7") == 0
    assert tried(throttle, "192.168.1.8") == 0


def test_where_the_owner_got_in_before_nothing_changes_while_1000_guess(clock):
    throttle = attacked(clock)
    throttle.succeeded(HERE)
    assert [tried(throttle, HERE) for _ in range(4)] == [0, 0, 0, 1]


def test_all_that_have_failed_try_every_two_seconds_together(clock):
    throttle, count = attacked(clock, 200, rounds=100), 0
    for _ in range(240):
        clock.now += 0.25
        count += sum(not tried(throttle, f"198.18.0.{number}") for number in range(200))
    assert 28 <= count <= 31


@pytest.mark.parametrize(("failures", "pause"), [(19, 0), (20, 0.5), (49, 0.5), (50, 1), (79, 1), (80, 2), (100, 2)])
def test_the_pause_between_guessers_grows_with_the_failures_of_all(throttle, clock, failures, pause):
    for address in (HERE, THERE) * 2:
        tried(throttle, address)
    others(throttle, failures - 4)
    assert [tried(throttle, HERE), tried(throttle, THERE)] == [0, pause]


def test_the_failures_of_everybody_are_forgotten_in_time(clock):
    throttle = attacked(clock)
    guesser = "198.18.0.0"
    clock.now += 600
    tried(throttle, HERE)
    assert tried(throttle, guesser) == 0


def test_under_attack_two_threads_stay_free_for_pages(clock):
    throttle = attacked(clock)
    assert [throttle.attempt(each) for each in (HERE, "10.0.0.1", "10.0.0.2")] == [0, 0, 1]
    throttle.finished()
    assert throttle.attempt("10.0.0.2") == 0


def test_under_attack_one_address_of_the_internet_is_checked_at_a_time(clock):
    throttle = attacked(clock)
    assert [throttle.attempt(HERE), throttle.attempt(THERE)] == [0, 1]
    throttle.finished()
    assert throttle.attempt(THERE) == 0


def test_in_peace_all_may_log_in_at_once(throttle):
    assert [throttle.attempt(f"192.0.2.{number}") for number in range(8)] == [0] * 8


def test_the_owner_s_logins_do_not_slow_anybody_down(throttle, clock):
    for number in range(200):
        assert tried(throttle, f"192.0.2.{number % 50}") == 0
        throttle.succeeded(f"192.0.2.{number % 50}")
    assert [tried(throttle, THERE) for _ in range(3)] == [0, 0, 0]


def test_a_proxy_that_tells_no_addresses_is_never_known(clock):
    throttle = attacked(clock, rounds=1)
    throttle.succeeded(HERE)
    throttle.succeeded("unknown")
    assert [tried(throttle, THERE) for _ in range(3)] == [0, 0, 0]  # the third begins the pause of all
    assert [tried(throttle, HERE) for _ in range(3)] == [0, 0, 0]
    assert [tried(throttle, "unknown") for _ in range(3)] == [0, 0, 2]


# The file


@pytest.fixture
def path(tmp_path):
    return tmp_path / "throttle.toml"


def test_a_guesser_still_waits_after_a_restart(clock, path):
    guess(Throttle(clock, path), clock, 8)
    again = Throttle(Clock(5.0), path)
    assert [again.attempt(HERE), again.attempt(THERE)] == [8, 0]


def test_an_attack_goes_on_after_a_restart(clock, path):
    attacked(clock, path=path)
    again = Throttle(Clock(5.0), path)
    assert max(tried(again, f"198.18.0.{number}") for number in [*range(10)] * 2) > 0


def test_nobody_waits_longer_than_a_minute_after_a_restart_whatever_the_file_says(path):
    values = {"failures": 999999, "visitors": f"{HERE}=999999 {THERE}=x ={1} a=9 =", "known": "x " * 1000}
    path.write_bytes(toml_file.encode("", values))
    for clock in (Clock(0.0), Clock(1e9)):
        assert Throttle(clock, path).attempt(HERE) <= 60
    assert Throttle(Clock(), path).attempt("198.51.100.1") == 0


@pytest.mark.parametrize("content", [b"", b"damaged", b"\0" * 100, b"x" * 70000])
def test_a_damaged_file_keeps_nobody_out(clock, path, content):
    path.write_bytes(content)
    throttle = Throttle(clock, path)
    assert throttle.attempt(HERE) == 0
    guess(throttle, clock, 5)
    assert Throttle(clock, path).attempt(HERE) > 0


def test_a_file_that_cannot_be_written_keeps_nobody_out(clock, tmp_path, caplog):
    throttle = Throttle(clock, tmp_path / "nowhere" / "throttle.toml")
    assert guess(throttle, clock, 8) == [0, 0, 0, 1, 2, 4, 8, 16]
    assert caplog.text.count("failed logins not stored") == 1


def test_typing_writes_nothing(clock, path):
    throttle = Throttle(clock, path)
    guess(throttle, clock, 4)
    for number in range(10):
        throttle.succeeded(f"192.0.2.{number}")
    assert not path.exists()


def test_an_attack_of_a_day_writes_144_times(clock, path):
    throttle, written = Throttle(clock, path), set()
    for number in range(24 * 15):
        clock.now += 240
        for each in range(30):
            tried(throttle, f"198.18.{number % 200}.{each}")
        if path.exists():
            written.add(path.stat().st_mtime_ns)
    assert 100 <= len(written) <= 145


def test_whoever_waits_until_the_pages_rest_gains_nothing(clock, path):
    throttle = Throttle(clock, path)
    guess(throttle, clock, 5)
    clock.now += 1
    assert throttle.settle()
    again = Throttle(clock, path)
    assert [again.attempt(HERE), again.attempt(THERE)] == [3, 0]


def test_where_the_owner_got_in_is_known_after_a_rest(clock, path):
    throttle = Throttle(clock, path)
    throttle.succeeded(HERE)
    assert throttle.settle()
    again = Throttle(clock, path)
    others(again, 100)
    assert [tried(again, HERE) for _ in range(4)] == [0, 0, 0, 1]


def test_an_hour_is_an_hour_however_often_the_pages_rest(clock, path):
    for minutes in range(0, 59, 20):
        throttle = Throttle(clock, path)
        guess(throttle, clock, 10 if not minutes else 0)
        throttle.settle()
        clock.now += 20 * 60
    assert [Throttle(clock, path).attempt(HERE) for _ in range(2)] == [0, 0]


@pytest.mark.parametrize("address", ["", HERE])
def test_the_pages_may_rest_at_once_when_all_is_known_already(clock, path, address):
    throttle = Throttle(clock, path)
    if address:
        throttle.succeeded(address)
    assert throttle.settle()
    before = path.stat().st_mtime_ns if address else None
    again = Throttle(clock, path)
    if address:
        again.succeeded(address)
    assert again.settle()
    assert (path.stat().st_mtime_ns if path.exists() else None) == before


def test_the_pages_do_not_rest_before_all_is_noted(clock, path):
    """Two writes are ten minutes apart: flash wears out less, and whoever makes the pages rest gains nothing."""
    rested = []
    for _ in range(2):
        throttle = Throttle(clock, path)
        throttle.attempt(THERE if rested else HERE)
        throttle.finished()
        clock.now += 60
        rested.append(throttle.settle())
    clock.now += 540
    assert [*rested, throttle.settle()] == [True, False, True]


def test_the_pages_do_not_rest_while_more_is_known_than_is_noted(clock, path):
    throttle = Throttle(clock, path)
    for number in range(65):
        tried(throttle, f"192.0.2.{number}")
    clock.now += 600
    assert not throttle.settle()
    clock.now += 3600
    assert throttle.settle()


def test_the_pages_do_not_rest_while_nothing_can_be_noted(clock, tmp_path, caplog):
    throttle = Throttle(clock, tmp_path / "nowhere" / "throttle.toml")
    tried(throttle, HERE)
    assert [throttle.settle(), throttle.settle()] == [False, False]
    assert caplog.text.count("failed logins not stored") == 1


def test_without_a_file_the_pages_may_rest(throttle):
    throttle.attempt(HERE)
    assert throttle.settle()


def test_the_wall_clock_is_never_asked(clock, path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: pytest.fail("asked"))
    throttle = Throttle(clock, path)
    guess(throttle, clock, 8)
    clock.now += 600
    assert throttle.settle()
    assert FailureStore(path).load(clock.now).clients[HERE].count == 8


def test_the_file_stays_small(clock, path):
    attacked(clock, path=path)
    clock.now += 600
    attacked(clock, path=path)
    assert path.stat().st_size < 4096


def test_no_guess_slips_in_between_the_look_and_the_count(clock):
    """Of eight guesses at once, after two, one is checked; threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(100):
            throttle, start = Throttle(clock), threading.Barrier(8)
            guess(throttle, clock, 2)
            waits: list[float] = []

            def attack(throttle=throttle, start=start, waits=waits) -> None:
                start.wait(60)
                waits.append(throttle.attempt(HERE))

            threads = [threading.Thread(target=attack) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert (len(waits), waits.count(0.0)) == (8, 1)
    finally:
        sys.setswitchinterval(before)


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
