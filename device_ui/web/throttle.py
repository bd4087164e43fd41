"""A growing delay after failed logins, per address. A request that comes too early is told when to come back; no
thread waits. The owner at another address is never held up by a guesser.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# A few failures are typing; then the delay doubles from one second to a minute.
FREE_FAILURES, DELAY_FIRST, DELAY_MAXIMUM = 3, 1.0, 60.0
# Addresses that are remembered, and for how long (seconds) after their last failure.
ADDRESSES_MAXIMUM, REMEMBERED = 1000, 3600.0


class Throttle:
    """Failures by address, in memory, on the monotonic clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: dict[str, tuple[int, float]] = {}

    def attempt(self, address: str) -> float:
        """Seconds until this address may try again; 0: it may now, and the attempt is counted as a failure.

        One step, until `succeeded` takes it back: guesses that are sent at once count one by one.
        """
        with self._lock:
            now = self._clock()
            count, last = self._failures.get(address, (0, now))
            if now - last >= REMEMBERED:
                count = 0
            wait = last + _delay(count) - now
            if wait > 0:
                return wait
            self._failures.pop(address, None)  # the latest stand last
            self._failures[address] = (count + 1, now)
            while len(self._failures) > ADDRESSES_MAXIMUM:
                del self._failures[next(iter(self._failures))]
            return 0.0

    def succeeded(self, address: str) -> None:
        """Forget what this address did before."""
        with self._lock:
            self._failures.pop(address, None)


def _delay(count: int) -> float:
    return (
        0.0 if count < FREE_FAILURES else float(min(DELAY_FIRST * 2.0 ** min(count - FREE_FAILURES, 16), DELAY_MAXIMUM))
    )
