"""How long to wait before something is tried again: on the monotonic clock and in memory, so that a retry writes nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from device_ui.errors import Text

# Seconds between two tries: from 30 to an hour, each with up to a quarter taken off so that devices that lost the
# same server do not come back to it in step. The first delay is a little over 30 to leave room for that.
RETRY_MINIMUM, RETRY_MAXIMUM, RETRY_FIRST, JITTER = 30.0, 3600.0, 40.0, 0.25
# RFC 5321, 4.5.4.1: give up after four to five days.
GIVE_UP_SECONDS, MARK_SECONDS = 5 * 24 * 3600.0, 3600.0


@dataclass
class RetryState:
    """How often something was tried, when (monotonic seconds) it may be tried again, since when that is so, and what
    the last try ended at."""

    count: int = 0
    next: float = 0.0
    since: float = 0.0
    step: str = ""
    reply: Text = ""

    def again(self, now: float, chance: float, step: str = "", reply: Text = "") -> None:
        """Count a failed try; `chance` is a random number from 0 to 1."""
        self.since = self.since if self.count else now
        self.next = now + delay(self.count, chance)
        self.count += 1
        self.step, self.reply = step, reply


class ExpiryTracker:
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


class Backoff:
    """When the server, and each mail, may be tried again, and for how long that has been so.

    `clock` tells monotonic seconds, as every moment here is; `chance` a random number from 0 to 1. A mail goes by its number.
    """

    def __init__(self, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        self._clock, self._chance = clock, chance
        self._server = RetryState()
        self._mails: dict[int, RetryState] = {}
        self.patience = ExpiryTracker()

    def server_failed(self) -> None:
        """No mail can be sent through the server: none is tried before a delay is over."""
        self._server.again(self._clock(), self._chance())

    def server_works(self) -> None:
        """The server said what becomes of a mail: what waits now waits for the budget, or has a verdict of its own."""
        self._server = RetryState()
        self.patience.forget()

    def mail_failed(self, mail: int, step: str, reply: Text) -> None:
        """A try of this mail ended at the courier's `step` with this `reply`: it waits for its next one."""
        tries = self._mails.setdefault(mail, RetryState())
        tries.again(self._clock(), self._chance(), step, reply)

    def mail_done(self, mail: int) -> None:
        """This mail needs no other try."""
        self._mails.pop(mail, None)

    def server_wait(self, now: float) -> float:
        """Seconds until the server may be tried."""
        return max(0.0, self._server.next - now)

    def tried(self, mail: int) -> float | None:
        """Since when this mail may be tried again: 0 when it never was tried, None when it may not yet."""
        tries = self._mails.get(mail)
        return 0.0 if tries is None else tries.next if tries.next <= self._clock() else None

    def next_try(self, now: float) -> Callable[[int], float]:
        """When each mail may be tried again; one that never was tried, `now`."""
        return lambda mail: self._mails[mail].next if mail in self._mails else now

    def ended_at(self, mail: int) -> tuple[str, Text]:
        """The step and the reply that the last try of this mail ended at, each ``""`` when there was none."""
        tries = self._mails.get(mail)
        return (tries.step, tries.reply) if tries else ("", "")

    def deferred_too_long(self, now: float) -> list[tuple[int, RetryState]]:
        """The mails that a server which takes others has deferred for five days."""
        return [(mail, tries) for mail, tries in self._mails.items() if now - tries.since > GIVE_UP_SECONDS]

    def forget_mails(self) -> None:
        """Every mail may be tried as if it never was."""
        self._mails.clear()

    def forget(self) -> None:
        """Everything may be tried at once, and the time of trying begins anew."""
        self._server = RetryState()
        self.forget_mails()
        self.patience.forget()


def delay(count: int, chance: float) -> float:
    """Seconds to wait after `count` + 1 failed tries."""
    longest = min(RETRY_FIRST * 2.0 ** min(count, 20), RETRY_MAXIMUM)
    return max(RETRY_MINIMUM, longest * (1 - JITTER * chance))


def by_chance() -> float:
    """A random number from 0 to 1."""
    # Imported here: only a mail that is tried again needs it.
    import random

    return random.random()  # noqa: S311
