"""A token bucket: so many tokens, and one more every so many seconds. A person never empties it and a program does."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable


class TokenBucket:
    """`most` tokens, and one more every `seconds`. `full` is the moment of `clock` from which all tokens are there."""

    def __init__(
        self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic, full: float = 0.0
    ) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        # Never longer than an empty bucket takes, whatever is given.
        self.full = min(full, clock() + most * seconds)
        self._lock = threading.Lock()

    def is_full(self) -> bool:
        """Whether all tokens are there, so that a new bucket would hold no more."""
        return self._clock() >= self.full

    def wait(self) -> int:
        """Return whole seconds until there is a token; 0 when there is one."""
        now = self._clock()
        return max(0, math.ceil(max(self.full, now) - now - (self._most - 1) * self._seconds))

    def take(self) -> int:
        """Take a token and return 0; without a token return whole seconds until there is one."""
        with self._lock:
            wait = self.wait()
            if not wait:
                self.full = max(self.full, self._clock()) + self._seconds
            return wait
