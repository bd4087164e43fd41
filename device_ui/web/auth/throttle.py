"""A growing delay after failed logins, per visitor and for the one account there is. Who comes too early is told when
to come back; no thread waits.

A visitor is an address, or the /64 of an IPv6 address, or a browser that the owner got in with before. Guesses from many addresses at once slow down whoever has
failed before and put newcomers in a fair order (`turns`); they never slow down where the owner got in before, by address or
by browser: a botnet must not lock the owner out. Every address has `WELCOME` tries at hand, so that many addresses have many.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from device_ui.web import client_address
from device_ui.web.auth.failure_log import KNOWN_MAXIMUM, NOTED_MAXIMUM, FailureStore, Guesses
from device_ui.web.auth.fair_queue import Turns

# A few failures are typing; then the delay doubles from one second to a minute.
FREE_FAILURES, DELAY_FIRST, DELAY_MAXIMUM = 3, 1.0, 60.0
# Visitors that are remembered (200 bytes each).
VISITORS_MAXIMUM = 4000
# How many failures of everybody together make how long a pause (seconds) between two tries of those who failed before.
PAUSES = ((80, 2.0), (50, 1.0), (20, 0.5))
# One of these failures is forgotten in so many seconds; more than the most are not counted.
FORGOTTEN, FAILURES_MAXIMUM = 6.0, 100
# Under attack: tries of a new visitor before it counts as a guesser, and tries that are being computed at once. The
# other threads are for pages.
WELCOME, COMPUTED_MAXIMUM = 2, 2
# Seconds; a computation takes a fraction of one.
COMPUTED_WAIT = 1.0
# What the name of a visitor begins with that is a browser; no address does.
BROWSER = "browser-"
# Failures of one visitor that are worth a line on flash at once; fewer are noted when the process ends.
NOTED_FAILURES = 6


class Throttle:
    """Failures by visitor and in all, on the monotonic clock; `path`, if given, is the file that survives a restart.

    After a restart nobody waits longer than `DELAY_MAXIMUM`, whatever the file and the clock say. A file that cannot
    be read or written is a line in the log and changes nothing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, path: Path | None = None) -> None:
        self._clock, self._notes = clock, FailureStore(path)
        self._lock = threading.Lock()
        self._failures = self._notes.load(clock())
        self._turns = Turns(self._is_near)
        # When the next guesser may try; tries being computed.
        self._next, self._computed = 0.0, 0

    def attempt(self, address: str, browser: str = "") -> float:
        """Seconds until this address may try again; 0: it may now, and the attempt is counted as a failure.

        `browser`: the name of one that the owner got in with before; then it counts, and not the address. Only where the
        owner got in before does the address count while the browser must wait: its cookie may have been copied.

        One step, until `succeeded` takes it back: guesses that are sent at once count one by one. Who may try calls
        `finished` once it is over, whatever came of it.
        """
        with self._lock:
            now = self._clock()
            visitor = self._judged(address, browser, now)
            guesses = self._failures.of(visitor, now)
            had_turn = visitor in self._turns
            wait = _wait(guesses, now)
            if wait <= 0:
                wait = self._pause(visitor, guesses, now)
            # A place in the order is a try: whoever takes one and does not come has had it.
            if not had_turn and (wait <= 0 or visitor in self._turns):
                self._count(visitor, guesses, now)
            if wait > 0:
                return wait
            self._computed += 1
            is_worth_it = guesses.count >= NOTED_FAILURES or self._failures.total >= PAUSES[-1][0]
            draft = self._notes.draft(self._failures, now) if is_worth_it else b""
        if draft:
            self._notes.write(draft)
        return 0.0

    def finished(self) -> None:
        """A try is over."""
        with self._lock:
            self._computed -= 1

    def succeeded(self, address: str, browser: str = "") -> None:
        """Forget what this address, and this browser, did before; both are the owner's."""
        visitor = client_address.network(address)
        failures = self._failures
        with self._lock:
            for each in {visitor, _visitor(address, browser)}:
                failures.visitors.pop(each, None)
            failures.total = max(0.0, failures.total - 1)
            if visitor != client_address.UNKNOWN:
                failures.known.pop(visitor, None)
                failures.known = dict.fromkeys([*failures.known, visitor][-KNOWN_MAXIMUM:])

    def settle(self) -> bool:
        """Whether the process may end, since the next one would know as much; notes what is not on flash yet.

        False while more is known than is noted, or it was written too short ago, or cannot be.
        """
        with self._lock:
            now = self._clock()
            if self._notes.hold(self._failures, now):
                return True
            if len(self._failures.remembered(now)) > NOTED_MAXIMUM:
                return False
            draft = self._notes.draft(self._failures, now)
        return bool(draft) and self._notes.write(draft)

    def _judged(self, address: str, browser: str, now: float) -> str:
        """The visitor that a try counts for."""
        visitor, place = _visitor(address, browser), client_address.network(address)
        return place if place in self._failures.known and _wait(self._failures.of(visitor, now), now) > 0 else visitor

    def _pause(self, visitor: str, guesses: Guesses, now: float) -> float:
        """Seconds that the account's own failures make this visitor wait."""
        failures = self._failures
        failures.total = max(0.0, failures.total - (now - failures.counted) / FORGOTTEN)
        failures.counted = now
        pause = next((seconds for count, seconds in PAUSES if failures.total >= count), 0.0)
        if not pause or visitor in failures.known or visitor.startswith(BROWSER):
            self._turns.leave(visitor)
            return 0.0
        is_busy = self._computed >= COMPUTED_MAXIMUM
        if guesses.count < WELCOME or visitor in self._turns:
            return self._turns.ask(visitor, now, is_busy=is_busy)
        if is_busy:
            return COMPUTED_WAIT
        wait = self._next - now
        if wait <= 0:
            self._next = now + pause
        return wait

    def _is_near(self, visitor: str) -> bool:
        """Whether a newcomer comes from where the owner may well be."""
        outer = client_address.networks(visitor)[1]
        return client_address.is_local(visitor) or any(
            outer == client_address.networks(each)[1] for each in self._failures.known
        )

    def _count(self, visitor: str, guesses: Guesses, now: float) -> None:
        visitors = self._failures.visitors
        visitors.pop(visitor, None)  # the latest stand last
        guesses.count, guesses.last = guesses.count + 1, now
        visitors[visitor] = guesses
        while len(visitors) > VISITORS_MAXIMUM:
            del visitors[next(iter(visitors))]
        self._failures.total = min(self._failures.total + 1, FAILURES_MAXIMUM)


def _visitor(address: str, browser: str) -> str:
    return BROWSER + browser if browser else client_address.network(address)


def _wait(guesses: Guesses, now: float) -> float:
    return guesses.last + _delay(guesses.count) - now


def _delay(count: int) -> float:
    return (
        0.0 if count < FREE_FAILURES else float(min(DELAY_FIRST * 2.0 ** min(count - FREE_FAILURES, 16), DELAY_MAXIMUM))
    )
