"""How long a deferred mail waits (`delay`), and when it expires. Monotonic clock and memory only: a retry writes nothing.

A `RetryState` counts the failed tries of one mail, server or recipient; `Backoff` has that of the server, which delays every mail, and
`RecipientBackoff` those of the recipients. `DeliveryWorker._wait` combines them, `Batcher.wait` with the hourly budget; a final result ends those
of the server and of its recipient (`DeliverySession._note_results`), and so does a change of the settings (`DeliveryWorker._reset_tries`).
"""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from device_ui.errors import Text
from device_ui.mail.delivery.problem import Problem

log = logging.getLogger(__name__)

# Seconds between two tries: from 30 to an hour, each with up to a quarter taken off, so that devices that lost the same
# server do not return to it in step. The first delay is a little over 30 to leave room for that.
RETRY_MINIMUM, RETRY_MAXIMUM, RETRY_FIRST, JITTER = 30.0, 3600.0, 40.0, 0.25
# Deferrals in a row after which a session ends (of all mails: the server means every one), or a recipient is left out of every
# mail (of one recipient).
DEFERRALS_MAXIMUM = 5
# RFC 5321, 4.5.4.1: do not give up before four to five days. (It asks for 30 minutes between two tries, too, of relays with
# thousands of mails; a device has a few, and one of them may be the alarm.)
EXPIRY_SECONDS, MARK_SECONDS = 5 * 24 * 3600.0, 3600.0


@dataclass
class RetryState:
    """The failed tries of a mail or a server: how many in a row without progress, when the next one is due and since when tries
    fail (monotonic seconds), and the step, reply and advice of the last one."""

    count: int = 0
    next: float = 0.0
    since: float = 0.0
    step: str = ""
    reply: Text = ""
    advice: Text = ""

    def failed(self, now: float, random: float, *, has_progress: bool = False) -> None:
        """Count a failed try; `random` is from 0 to 1. `has_progress`: it served some recipient, so the wait starts anew."""
        # The five days count from the first failure, also over tries that served some recipient.
        self.since = self.since if self.count else now
        self.count = 1 if has_progress else self.count + 1
        self.next = now + delay(self.count - 1, random)

    def describe(self, step: str, reply: Text, advice: Text = "") -> None:
        """Set at which step the last try failed, with which reply, and what a person can change."""
        self.step, self.reply, self.advice = step, reply, advice

    def is_due(self, now: float) -> bool:
        """Return whether a try is due; the first one always is."""
        return self.next <= now

    def has_expired(self, now: float) -> bool:
        """Return whether tries have failed for five days."""
        return self.count > 0 and now - self.since > EXPIRY_SECONDS


class ExpiryTracker:
    """For how long the waiting events have been tried: the highest waiting number, noted once an hour.

    Neither a wrong wall clock nor a restart can make a mail too old, and nothing is written while it waits.
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def reset(self) -> None:
        """Start counting anew: the server works, or it is not the server that blocks mail."""
        self._marks.clear()

    def expired(self, now: float, newest: Callable[[], int]) -> int:
        """Return the highest number that has been tried for five days, 0 for none. `newest` returns the highest waiting one."""
        # Once an hour: five days are 120 marks, and an event is given up at most an hour late.
        if not self._marks or now - self._marks[-1][0] >= MARK_SECONDS:
            self._marks.append((now, newest()))
        expired = 0
        while self._marks and now - self._marks[0][0] > EXPIRY_SECONDS:
            expired = self._marks.popleft()[1]
        return expired


class Backoff:
    """When the server may be tried again. `monotonic` returns seconds, `random` a number from 0 to 1.

    A session that delivered something and then ended does not count: the next one may begin at once.
    """

    def __init__(self, monotonic: Callable[[], float], random: Callable[[], float]) -> None:
        self._monotonic, self._random = monotonic, random
        self._server = RetryState()
        self.expiry = ExpiryTracker()

    def server_failed(self, at_least: float = 0.0) -> None:
        """Delay the next session, by so many seconds `at_least`: no mail can be sent through the server."""
        now = self._monotonic()
        self._server.failed(now, self._random())
        self._server.next = max(self._server.next, now + at_least)

    def reset(self) -> None:
        """Allow a session at once, and start the five days anew: the server gave a verdict, or the settings changed."""
        self._server = RetryState()
        self.expiry.reset()

    def try_now(self) -> None:
        """Allow a session at once. The failures stay counted: a person's impatience is no sign that the server works."""
        self._server.next = 0.0

    def wait(self) -> float:
        """Return seconds until a session may begin."""
        return max(0.0, self._server.next - self._monotonic())


class RecipientBackoff:
    """The recipients that every mail leaves out for now: the server deferred each of them `DEFERRALS_MAXIMUM` times in a row.

    A full mailbox must neither delay the events for the other recipients nor be asked for by all that waits for it. A
    newer event asks for it once.
    """

    def __init__(self, monotonic: Callable[[], float], random: Callable[[], float]) -> None:
        self._monotonic, self._random = monotonic, random
        self.reset()

    def reset(self) -> None:
        """Allow every recipient at once: the settings changed."""
        self._in_a_row: Counter[str] = Counter()
        # Of each that waits its tries, why, and the newest event when it was asked for last.
        self._waits: dict[str, tuple[RetryState, Problem, int]] = {}

    def deferred(self, recipient: str, problem: Problem, newest: int) -> None:
        """Count a deferral and its reason, when `newest` was the highest number of an event."""
        # Below the limit it costs one reply a mail; the mail to the others is sent all the same.
        self._in_a_row[recipient] += 1
        if self._in_a_row[recipient] >= DEFERRALS_MAXIMUM:
            state, *_ = self._waits.get(recipient, (RetryState(),))
            if state.is_due(self._monotonic()):
                state.failed(self._monotonic(), self._random())
            self._waits[recipient] = state, problem, newest

    def ended(self, recipient: str) -> None:
        """Note that the server took or refused the recipient, whose deferrals are over."""
        self._in_a_row.pop(recipient, None)
        self._waits.pop(recipient, None)

    def are_deferred(self, recipients: Collection[str]) -> bool:
        """Return whether each of them was deferred last."""
        # Then the mail is deferred as a whole, and the session may be at fault rather than a mailbox.
        return all(self._in_a_row[each] for each in recipients)

    def problem(self, recipient: str, number: int) -> Problem | None:
        """Return why the mail of this number must not ask for the recipient now, None when it may."""
        if not self._end(recipient):
            return None
        _, problem, newest = self._waits[recipient]
        return problem if number <= newest else None

    def end(self, recipients: Collection[str]) -> float:
        """Return when the first of these waits ends (monotonic seconds), 0 where one of the recipients does not wait."""
        return min(map(self._end, recipients), default=0.0)

    def _end(self, recipient: str) -> float:
        if recipient not in self._waits:
            return 0.0
        state = self._waits[recipient][0]
        return 0.0 if state.is_due(self._monotonic()) else state.next


class StartSpread:
    """The wait of a hook's first session after a boot: devices of one site must not reach their relay in the same second.

    It begins with the first mail that is ready, so it also parts devices whose clocks the same NTP server sets right.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds, self._end = seconds, 0.0

    def wait(self, now: float) -> float:
        """Return seconds until the first session may begin; called at `now` (monotonic seconds) while a mail is ready."""
        if self._seconds:
            log.info("first session after the boot: begins in %.0f s", self._seconds)
            self._seconds, self._end = 0.0, now + self._seconds
        return max(0.0, self._end - now)


def delay(earlier: int, random: float) -> float:
    """Return the seconds to wait after a failed try; `earlier` failed tries came before it."""
    # 20 is beyond the hour; a higher power would overflow a float after a thousand tries.
    longest = min(RETRY_FIRST * 2.0 ** min(earlier, 20), RETRY_MAXIMUM)
    # Down only: the jitter must not make the longest wait longer than what is documented.
    return max(RETRY_MINIMUM, longest * (1 - JITTER * random))


def random_fraction() -> float:
    """Return a random number from 0 to 1; the system's, which devices of one image do not share after a boot."""
    # Without the module `random`: every start of a hook would pay for its import.
    return int.from_bytes(os.urandom(4), "big") / 2**32
