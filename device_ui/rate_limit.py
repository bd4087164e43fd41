"""A token bucket, sized so that a person never empties it and a program does."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable


class TokenBucket:
    """`maximum` tokens, and one more every `seconds`. `full` is the time of `clock` (monotonic) at which the bucket is full."""

    def __init__(
        self, maximum: int, seconds: float, clock: Callable[[], float] = time.monotonic, full: float = 0.0
    ) -> None:
        self._maximum, self._seconds, self._clock = maximum, seconds, clock
        # One number is the whole state: no timer refills the bucket, and it can be stored across a restart. A damaged or
        # future number blocks for no longer than an empty bucket.
        self.full = min(full, clock() + maximum * seconds)
        self._lock = threading.Lock()

    def is_full(self) -> bool:
        """Return whether the bucket is full, as a new one is."""
        return self._clock() >= self.full

    def wait(self) -> int:
        """Return whole seconds until there is a token; 0 when there is one."""
        now = self._clock()
        return max(0, math.ceil(max(self.full, now) - now - (self._maximum - 1) * self._seconds))

    def take(self) -> int:
        """Take a token and return 0; without a token return whole seconds until there is one."""
        # Threads share a bucket: two of them must not take the same token.
        with self._lock:
            wait = self.wait()
            if not wait:
                self.full = max(self.full, self._clock()) + self._seconds
            return wait
