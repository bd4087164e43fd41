"""Sessions end when they should, on a clock that the test turns, and nothing in memory opens one."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from device_ui.web.auth.sessions import Sessions

MINUTE, HOUR = 60.0, 3600.0


@dataclass
class Clock:
    """A monotonic clock that the test turns."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sessions(clock):
    return Sessions(clock)


def test_a_token_finds_its_session(sessions):
    token = sessions.begin()
    assert sessions.find(token) is not None


def test_a_token_that_was_never_given_finds_nothing(sessions):
    sessions.begin()
    assert [sessions.find(token) for token in ("", "x", "\udcff", "é" * 5000)] == [None] * 4


def test_two_logins_are_two_sessions(sessions):
    one, other = sessions.begin(), sessions.begin()
    assert one != other
    assert sessions.find(one) is not sessions.find(other)


def test_a_token_holds_256_bits(sessions):
    tokens = {sessions.begin() for _ in range(20)}
    assert len(tokens) == 20
    assert {len(token) for token in tokens} == {43}


@pytest.mark.parametrize(("seconds", "stands"), [(10 * MINUTE - 0.1, True), (10 * MINUTE, False), (HOUR, False)])
def test_ten_idle_minutes_end_a_session(sessions, clock, seconds, stands):
    token = sessions.begin()
    clock.now += seconds
    assert (sessions.find(token) is not None) == stands


def test_a_session_in_use_stays(sessions, clock):
    token = sessions.begin()
    for _ in range(10):
        clock.now += 9 * MINUTE
        assert sessions.find(token) is not None


def test_a_page_that_loads_itself_again_does_not_keep_its_session(sessions, clock):
    token = sessions.begin()
    found = []
    for left in (595, 300, 5, 0):
        clock.now = 1000.0 + 10 * MINUTE - left
        session = sessions.find(token, is_use=False)
        found.append(session and session.idle_left)
    assert found == [595, 300, 5, None]


def test_twelve_hours_end_a_session_in_use(sessions, clock):
    token = sessions.begin()
    end = clock.now + 12 * HOUR
    while clock.now + 9 * MINUTE < end:
        clock.now += 9 * MINUTE
        assert sessions.find(token) is not None
    clock.now = end
    assert sessions.find(token) is None


def test_a_session_that_is_over_does_not_come_back(sessions, clock):
    token = sessions.begin()
    clock.now += 10 * MINUTE
    assert sessions.find(token) is None
    clock.now -= 10 * MINUTE
    assert sessions.find(token) is None


def test_signing_out_ends_this_session_alone(sessions):
    one, other = sessions.begin(), sessions.begin()
    sessions.end(one)
    assert sessions.find(one) is None
    assert sessions.find(other) is not None


def test_signing_out_twice_is_no_fault(sessions):
    token = sessions.begin()
    sessions.end(token)
    sessions.end(token)
    assert sessions.find(token) is None


def test_a_new_password_ends_every_session(sessions):
    tokens = [sessions.begin() for _ in range(3)]
    sessions.end_all()
    assert [sessions.find(token) for token in tokens] == [None] * 3


def test_there_are_32_sessions_at_most_and_the_longest_idle_goes(sessions, clock):
    tokens = []
    for _ in range(32):
        tokens.append(sessions.begin())
        clock.now += 1
    sessions.find(tokens[0])
    newest = sessions.begin()
    gone = [token for token in [*tokens, newest] if sessions.find(token) is None]
    assert gone == [tokens[1]]


def test_sessions_that_are_over_make_room_first(sessions, clock):
    """The oldest was used last: as long as it is not over, another one would go."""
    oldest, end = sessions.begin(), clock.now + 12 * 60 * MINUTE
    while clock.now < end - 5 * MINUTE:
        clock.now += 5 * MINUTE
        sessions.find(oldest)
    others = [sessions.begin() for _ in range(31)]
    clock.now += MINUTE
    sessions.find(oldest)
    clock.now = end
    sessions.begin()
    assert sessions.find(oldest) is None
    assert all(map(sessions.find, others))


def held(thing: object) -> Iterator[object]:
    """Everything that an object holds, at any depth, shown by its `repr` or not."""
    yield thing
    inside = [*thing.items()] if isinstance(thing, dict) else thing if isinstance(thing, list | tuple) else []
    for each in [*inside, *([vars(thing)] if hasattr(thing, "__dict__") and not callable(thing) else [])]:
        yield from held(each)


def test_only_the_hash_of_a_token_is_kept(sessions):
    token = sessions.begin()
    sessions.find(token)
    kept = list(held(sessions))
    assert hashlib.sha256(token.encode()).digest() in kept
    assert [each for each in kept if isinstance(each, str) and token in each] == []


def test_a_notice_is_told_once(sessions):
    token = sessions.begin()
    session = sessions.find(token)
    session.notice = "Saved."
    assert [sessions.find(token).take_notice() for _ in range(2)] == ["Saved.", ""]


def test_logins_at_once_keep_the_limit(clock):
    sessions, tokens = Sessions(clock), []
    threads = [threading.Thread(target=lambda: tokens.extend(sessions.begin() for _ in range(50))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(tokens) == 400
    assert sum(sessions.find(token) is not None for token in tokens) == 32


def test_time_is_the_monotonic_clock_by_itself():
    sessions = Sessions()
    assert sessions.find(sessions.begin()) is not None
