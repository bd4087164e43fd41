"""How long to wait before something is tried again: on the monotonic clock and in memory, so that a retry writes nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from device_ui.shape import dataclass

# Seconds between two tries: from 30 to an hour, each with up to a quarter taken off so that devices that lost the
# same server do not come back to it in step. The first delay is a little over 30 to leave room for that.
RETRY_MINIMUM, RETRY_MAXIMUM, RETRY_FIRST, JITTER = 30.0, 3600.0, 40.0, 0.25
# RFC 5321, 4.5.4.1: give up after four to five days.
GIVE_UP_SECONDS, MARK_SECONDS = 5 * 24 * 3600.0, 3600.0


@dataclass
class Tries:
    """How often something was tried, when (monotonic seconds) it may be tried again, since when that is so, and what
    the last try ended at."""

    count: int = 0
    next: float = 0.0
    since: float = 0.0
    step: str = ""
    reply: str = ""

    def again(self, now: float, chance: float, step: str = "", reply: str = "") -> None:
        """Count a failed try; `chance` is a random number from 0 to 1."""
        self.since = self.since if self.count else now
        self.next = now + delay(self.count, chance)
        self.count += 1
        self.step, self.reply = step, reply


class Patience:
    """For how long what waits has been tried, told by marks of the highest number, hour by hour.

    Neither a wrong wall clock nor a restart can make a mail too old, and nothing is written while it waits.
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def forget(self) -> None:
        """Count anew: it works, or it is not the server that keeps mail back."""
        self._marks.clear()

    def expired(self, now: float, newest: Callable[[], int]) -> int:
        """The highest number that has been tried for too long, 0 for none. `newest` tells that of all that waits."""
        if not self._marks or now - self._marks[-1][0] >= MARK_SECONDS:
            self._marks.append((now, newest()))
        found = 0
        while self._marks and now - self._marks[0][0] > GIVE_UP_SECONDS:
            found = self._marks.popleft()[1]
        return found


def delay(count: int, chance: float) -> float:
    """Seconds to wait after `count` + 1 failed tries."""
    longest = min(RETRY_FIRST * 2.0 ** min(count, 20), RETRY_MAXIMUM)
    return max(RETRY_MINIMUM, longest * (1 - JITTER * chance))


def by_chance() -> float:
    """A random number from 0 to 1."""
    # Imported here: only a mail that is tried again needs it.
    import random

    return random.random()  # noqa: S311
