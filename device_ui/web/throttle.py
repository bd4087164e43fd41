"""A growing delay after failed logins, per visitor and for the one account there is. Who comes too early is told when
to come back; no thread waits.

A visitor is an address, or the /64 of an IPv6 address. Guesses from many addresses at once slow down whoever has
failed before, never who comes for the first time, nor from where the owner got in before: a botnet must not lock the
owner out. Every address has `WELCOME` tries at hand, so that many addresses have many, one after another.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from device_ui.errors import DeviceUIError
from device_ui.settings import flash, record
from device_ui.web import peer

log = logging.getLogger(__name__)

# A few failures are typing; then the delay doubles from one second to a minute.
FREE_FAILURES, DELAY_FIRST, DELAY_MAXIMUM = 3, 1.0, 60.0
# Visitors that are remembered (200 bytes each), and for how long (seconds) after their last failure.
VISITORS_MAXIMUM, REMEMBERED = 4000, 3600.0
# How many failures of everybody together make how long a pause (seconds) between two tries of those who failed before.
PAUSES = ((80, 2.0), (50, 1.0), (20, 0.5))
# One of these failures is forgotten in so many seconds; more than the most are not counted.
FORGOTTEN, FAILURES_MAXIMUM = 6.0, 100
# Under attack: tries of a new visitor before it counts as a guesser, and tries that are being computed at once. The
# other threads are for pages.
WELCOME, COMPUTED_MAXIMUM = 2, 2
# Seconds; a computation takes a fraction of one.
COMPUTED_WAIT = 1.0
# Visitors that got in.
KNOWN_MAXIMUM = 16

# Failures of one visitor that are worth a line on flash, and the seconds between two writes: 144 a day at most.
NOTED_FAILURES, WRITE_SECONDS = 6, 600.0
NOTED_MAXIMUM = 64
COMMENT = "device-ui: failed logins, so that a restart forgets no guesser. Safe to delete."


@dataclass
class Guesses:
    """One visitor's failures, and when (monotonic seconds) the last was."""

    count: int
    last: float


class Throttle:
    """Failures by visitor and in all, on the monotonic clock; `path`, if given, is the file that survives a restart.

    After a restart nobody waits longer than `DELAY_MAXIMUM`, whatever the file and the clock say. A file that cannot
    be read or written is a line in the log and changes nothing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, path: Path | None = None) -> None:
        self._clock, self._path = clock, path
        self._lock = threading.Lock()
        self._visitors: dict[str, Guesses] = {}
        self._known: dict[str, None] = {}
        # Failures of everybody, less what is forgotten by `_counted`; when the next guesser may try; tries computed.
        self._failures = self._counted = self._next = 0.0
        self._computed = 0
        self._written = float("-inf")
        self._remember()

    def attempt(self, address: str) -> float:
        """Seconds until this address may try again; 0: it may now, and the attempt is counted as a failure.

        One step, until `succeeded` takes it back: guesses that are sent at once count one by one. Who may try calls
        `finished` once it is over, whatever came of it.
        """
        visitor = peer.network(address)
        with self._lock:
            now = self._clock()
            guesses = self._guesses(visitor, now)
            wait = guesses.last + _delay(guesses.count) - now
            if wait <= 0:
                wait = self._pause(visitor, guesses, now)
            if wait > 0:
                return wait
            self._count(visitor, guesses, now)
            noted = self._to_note(guesses, now)
        if noted:
            self._write(noted)
        return 0.0

    def finished(self) -> None:
        """A try is over."""
        with self._lock:
            self._computed -= 1

    def succeeded(self, address: str) -> None:
        """Forget what this address did before; it is the owner's."""
        visitor = peer.network(address)
        with self._lock:
            self._visitors.pop(visitor, None)
            self._failures = max(0.0, self._failures - 1)
            if visitor != peer.UNKNOWN:
                self._known = dict.fromkeys(
                    [*(each for each in self._known if each != visitor), visitor][-KNOWN_MAXIMUM:]
                )

    def _guesses(self, visitor: str, now: float) -> Guesses:
        found = self._visitors.get(visitor)
        return found if found and now - found.last < REMEMBERED else Guesses(0, now)

    def _pause(self, visitor: str, guesses: Guesses, now: float) -> float:
        """Seconds that the account's own failures make this visitor wait."""
        self._failures = max(0.0, self._failures - (now - self._counted) / FORGOTTEN)
        self._counted = now
        pause = next((seconds for failures, seconds in PAUSES if self._failures >= failures), 0.0)
        if not pause or visitor in self._known:
            return 0.0
        if self._computed >= COMPUTED_MAXIMUM:
            return COMPUTED_WAIT
        if guesses.count < WELCOME:
            return 0.0
        wait = self._next - now
        if wait <= 0:
            self._next = now + pause
        return wait

    def _count(self, visitor: str, guesses: Guesses, now: float) -> None:
        self._visitors.pop(visitor, None)  # the latest stand last
        guesses.count, guesses.last = guesses.count + 1, now
        self._visitors[visitor] = guesses
        while len(self._visitors) > VISITORS_MAXIMUM:
            del self._visitors[next(iter(self._visitors))]
        self._failures = min(self._failures + 1, FAILURES_MAXIMUM)
        self._computed += 1

    # The file: names of visitors with their failures, no times, since those of another process mean nothing here.

    def _to_note(self, guesses: Guesses, now: float) -> bytes:
        """What is to be written now, empty for nothing."""
        is_worth_it = guesses.count >= NOTED_FAILURES or self._failures >= PAUSES[-1][0]
        if self._path is None or not is_worth_it or now - self._written < WRITE_SECONDS:
            return b""
        self._written = now
        worst = sorted(self._visitors.items(), key=lambda each: -each[1].count)[:NOTED_MAXIMUM]
        values: Mapping[str, str | int] = {
            "failures": int(self._failures),
            "visitors": " ".join(f"{name}={each.count}" for name, each in worst),
            "known": " ".join(self._known),
        }
        return record.encode(COMMENT, values)

    def _write(self, noted: bytes) -> None:
        try:
            flash.replace(self._path or Path(), noted, 0o600)
        except DeviceUIError as error:
            log.warning("the failed logins are not noted: %s", error)

    def _remember(self) -> None:
        try:
            raw = flash.read(self._path) if self._path else None
            values = record.decode(raw) if raw is not None else {}
        except (DeviceUIError, ValueError) as error:
            log.warning("the failed logins of before are forgotten: %s", error)
            return
        if not values:
            return
        self._counted = now = self._clock()
        pairs = (each.rpartition("=") for each in str(values.get("visitors", "")).split()[:NOTED_MAXIMUM])
        self._visitors = {name: Guesses(int(count), now) for name, _, count in pairs if _is_count(count)}
        self._known = dict.fromkeys(str(values.get("known", "")).split()[:KNOWN_MAXIMUM])
        failures = str(values.get("failures", 0))
        self._failures = float(min(int(failures), FAILURES_MAXIMUM)) if _is_count(failures) else 0.0


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 6


def _delay(count: int) -> float:
    return (
        0.0 if count < FREE_FAILURES else float(min(DELAY_FIRST * 2.0 ** min(count - FREE_FAILURES, 16), DELAY_MAXIMUM))
    )
