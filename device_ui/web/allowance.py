"""So many of something at hand, and one more every so many seconds: what a person never uses up and a program does."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable


class Allowance:
    """`most` at hand, and one more every `seconds`, on the monotonic clock."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        # When all of them are at hand again.
        self._full = clock()
        self._lock = threading.Lock()

    def is_full(self) -> bool:
        """Whether all of them are at hand, so that a new one would allow no more."""
        return self._clock() >= self._full

    def take(self) -> int:
        """Take one: 0; or, where none is at hand, whole seconds until one is."""
        with self._lock:
            now = self._clock()
            full = max(self._full, now) + self._seconds
            wait = full - now - self._most * self._seconds
            if wait > 0:
                return math.ceil(wait)
            self._full = full
            return 0
