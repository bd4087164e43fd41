"""Who waits for how long while a thousand fresh addresses guess: a device simulated second by second, on no clock but its own."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field

import pytest

from device_ui.web.auth.fair_queue import PACE, PATIENCE, STANDS, TICKETS_MAXIMUM, Turns
from device_ui.web.auth.throttle import Throttle
from tests.web.auth.test_sessions import Clock

# Seconds that a password takes here.
COMPUTED = 0.15
MINUTE = 60.0


@dataclass
class Siege:
    """A device that has been guessed at; `addresses` come at once, and again as soon as they may (or never, as `ghosts`)."""

    addresses: list[str]
    ghosts: bool = False
    computed: float = COMPUTED
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.throttle = Throttle(self.clock)
        self._visits: list[tuple[float, int, str]] = []
        self._number = itertools.count()
        self._ends: list[float] = []
        for number in range(100):
            if not self.throttle.attempt(f"203.0.113.{number}"):
                self.throttle.finished()
        self.begun = self.clock.now
        for number, address in enumerate(self.addresses):
            self._visit(address, 0.001 * number)

    def wait(self, owner: str, late: float = 0.0) -> float:
        """Seconds that the owner waits, who comes in their midst and `late` seconds after each moment told."""
        self._visit(owner, 1.0)
        while True:
            moment, _, who = heapq.heappop(self._visits)
            self._finish_until(moment)
            told = self.throttle.attempt(who)
            if not told:
                self._ends.append(max([moment, *self._ends]) + self.computed)
            if who != owner:
                self._visit(who, moment - self.begun + (1000 if told and self.ghosts else min(told, 1.0) + 0.001))
            elif told:
                self._visit(who, moment - self.begun + -(-told // 1) + late)
            else:
                return moment - self.begun - 1.0

    def _visit(self, who: str, seconds: float) -> None:
        heapq.heappush(self._visits, (self.begun + seconds, next(self._number), who))

    def _finish_until(self, moment: float) -> None:
        while self._ends and self._ends[0] <= moment:
            self.clock.now = self._ends.pop(0)
            self.throttle.finished()
        self.clock.now = moment


ONE_NETWORK = [f"198.18.{number // 250}.{number % 250}" for number in range(1000)]
ONE_NEIGHBOURHOOD = [f"192.168.1.{number}" for number in range(250)]
HUNDRED_NETWORKS = [f"{20 + number % 100}.7.{number // 100}.1" for number in range(1000)]
THE_INTERNET = [f"{20 + number % 180}.{number // 180}.3.7" for number in range(1000)]
ONE_CUSTOMER = [f"2001:db8:5:{number:x}::1" for number in range(1000)]


@pytest.mark.parametrize(("late", "ghosts"), [(8.0, False), (0.0, True)], ids=["guessing", "never coming again"])
@pytest.mark.parametrize(
    ("addresses", "owner"),
    [
        (ONE_NETWORK, "198.51.100.1"),
        (ONE_NETWORK, "198.18.99.1"),
        (ONE_NEIGHBOURHOOD, "192.168.1.251"),
        (HUNDRED_NETWORKS, "198.51.100.1"),
        (THE_INTERNET, "192.168.1.7"),
        (THE_INTERNET, "fd00::7"),
        (ONE_CUSTOMER, "2001:db8:6::1"),
        (ONE_CUSTOMER, "192.0.2.1"),
    ],
    ids=[
        "a network, owner elsewhere",
        "a network, owner in a corner of it",
        "all of the owner's own neighbourhood",
        "a hundred networks",
        "the Internet, owner at home",
        "the Internet, owner at home on IPv6",
        "a customer of the owner's own provider",
        "a customer with IPv6",
    ],
)
def test_from_a_new_address_the_owner_gets_in_within_a_minute(addresses, owner, late, ghosts):
    assert Siege(addresses, ghosts).wait(owner, late) <= MINUTE


def test_near_where_the_owner_got_in_before_nobody_waits_for_the_internet():
    siege = Siege(THE_INTERNET)
    siege.throttle.succeeded("198.51.100.1")
    assert siege.wait("198.51.200.7") <= 5


def test_among_equals_nobody_waits_longer_than_for_all_who_were_there_before():
    """What nothing can tell from the owner costs a fifth of a second each: many networks that nobody knows."""
    for ghosts in (False, True):
        assert Siege(THE_INTERNET[:290], ghosts).wait("99.99.3.1") <= 290 * PACE + PATIENCE + 5


def test_a_slow_processor_keeps_the_order():
    assert Siege(ONE_NETWORK, computed=1.0).wait("198.51.100.1") <= MINUTE


# The order itself


def order(visitors: list[str], turns: Turns | None = None) -> list[str]:
    """In which order these get their turns who come at once."""
    turns, now, done = turns or Turns(), 1000.0, []
    turns.ask("0.0.0.0", now, is_busy=False)
    for visitor in visitors:
        assert turns.ask(visitor, now, is_busy=False)
    while len(done) < len(visitors):
        now += PACE
        done += [each for each in visitors if each not in done and not turns.ask(each, now, is_busy=False)]
    return done


@pytest.mark.parametrize(
    ("visitors", "expected"),
    [
        (["1.1.1.1", "1.1.1.2", "2.2.2.2"], ["1.1.1.1", "2.2.2.2", "1.1.1.2"]),
        (["1.1.1.1", "1.1.1.2", "1.1.2.1", "3.3.3.3"], ["1.1.1.1", "3.3.3.3", "1.1.2.1", "1.1.1.2"]),
        (["1.1.1.3", "1.1.1.2", "1.1.1.1"], ["1.1.1.3", "1.1.1.2", "1.1.1.1"]),
        (["unknown", "1.1.1.1"], ["unknown", "1.1.1.1"]),
        (
            ["2001:db8:1:1::/64", "2001:db8:1:2::/64", "2001:db8:2:1::/64", "2001:db9::/64"],
            ["2001:db8:1:1::/64", "2001:db9::/64", "2001:db8:2:1::/64", "2001:db8:1:2::/64"],
        ),
    ],
)
def test_networks_take_turns_and_so_do_networks_within_them(visitors, expected):
    assert order(visitors) == expected


def test_who_is_near_comes_first():
    assert order(["1.1.1.1", "2.2.2.2"], Turns(lambda visitor: visitor == "2.2.2.2")) == ["2.2.2.2", "1.1.1.1"]


def test_with_nobody_there_it_is_ones_turn_at_once():
    assert Turns().ask("1.1.1.1", 0.0, is_busy=False) == 0


def test_who_comes_too_early_is_told_what_is_left_and_keeps_its_place():
    turns = Turns()
    turns.ask("1.1.1.1", 0.0, is_busy=False)
    told = [turns.ask("2.2.2.2", now, is_busy=False) for now in (0.0, PACE / 2, PACE)]
    assert told == [PACE, PACE / 2, 0]


def test_a_moment_told_is_kept_while_others_crowd_in():
    turns = Turns()
    turns.ask("1.1.1.1", 0.0, is_busy=False)
    assert turns.ask("2.2.2.2", 0.0, is_busy=False) == PACE
    for number in range(200):
        assert turns.ask(f"3.3.3.{number}", 0.1, is_busy=False) > 0
    assert turns.ask("2.2.2.2", PACE, is_busy=False) == 0


def test_while_passwords_are_checked_nobody_loses_its_place():
    turns = Turns()
    assert turns.ask("1.1.1.1", 0.0, is_busy=True) == 1
    assert turns.ask("2.2.2.2", 0.5, is_busy=False) > 0
    assert turns.ask("1.1.1.1", 1.0, is_busy=False) == 0


def test_who_does_not_come_holds_up_the_others_for_seconds_only():
    turns = Turns()
    turns.ask("1.1.1.1", 0.0, is_busy=False)
    turns.ask("2.2.2.2", 0.0, is_busy=False)
    now = PACE + PATIENCE
    assert turns.ask("3.3.3.3", now, is_busy=False) > 0
    assert turns.ask("3.3.3.3", now + PACE + 0.01, is_busy=False) == 0


@pytest.mark.parametrize(("late", "waits"), [(STANDS, 0), (STANDS + 1, 3 * PACE)])
def test_who_comes_late_finds_its_ticket_for_a_while(late, waits):
    turns = Turns()
    turns.ask("1.1.1.1", 0.0, is_busy=False)
    turns.ask("2.2.2.2", 0.0, is_busy=False)
    now = PACE + late
    for each in ("3.3.3.3", "4.4.4.4", "5.5.5.5"):
        turns.ask(each, now, is_busy=False)
    assert turns.ask("2.2.2.2", now, is_busy=False) == pytest.approx(waits)


def test_nobody_overtakes_within_its_network():
    turns, first = Turns(), [f"1.1.1.{number}" for number in range(20)]
    turns.ask("0.0.0.0", 0.0, is_busy=False)
    for each in first:
        turns.ask(each, 0.0, is_busy=False)
    for number in range(10):
        assert turns.ask(first[number], PACE * (number + 1), is_busy=False) == 0
    assert turns.ask("1.1.1.99", PACE * 10, is_busy=False) > 10 * PACE


def test_a_stranger_gets_in_while_strangers_of_ever_new_networks_stream_in():
    """Twice as many as passwords can be checked: nobody is told to wait for longer than a minute, nor kept out."""
    turns, chance = Turns(), random.Random(8)
    now, again, waits = 0.0, 0.0, [1.0]
    for number in range(1000):
        turns.ask(f"{1 + number % 200}.{number // 200}.1.1", now, is_busy=True)
    while waits[-1]:
        turns.ask(f"{chance.randrange(1, 224)}.{chance.randrange(5, 256)}.1.1", now, is_busy=False)
        if now >= again:
            waits.append(turns.ask("225.0.113.9", now, is_busy=False))
            again = now + waits[-1]
        now += 0.1
        assert now < 10 * MINUTE
    assert max(waits) <= MINUTE + PATIENCE


def test_tickets_are_bounded_and_the_last_goes():
    turns = Turns()
    for number in range(TICKETS_MAXIMUM):
        turns.ask(f"1.1.{number // 250}.{number % 250}", 0.0, is_busy=True)
    turns.ask("2.2.2.2", 0.0, is_busy=True)
    assert len(turns._tickets) == TICKETS_MAXIMUM
    assert "2.2.2.2" in turns
    turns.ask("1.1.0.251", 0.0, is_busy=True)
    assert "1.1.0.251" not in turns
