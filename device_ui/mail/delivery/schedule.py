"""The queue of mails: which one goes next, and what became of it. The database stores both before anything depends on it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from device_ui.errors import Text
from device_ui.mail.clock import LOOK_SECONDS
from device_ui.mail.delivery.batching import HOUR, Batcher, QueuedMail
from device_ui.mail.delivery.environment import Environment
from device_ui.mail.events import PENDING, Delivery, Event, Verdict
from device_ui.mail.outbox.database import Metadata
from device_ui.mail.outbox.outbox import Outbox

log = logging.getLogger(__name__)

# Events read from the database at a time: after a storm 100,000 may wait, which must not be in memory at once.
CHUNK = 1000


class Schedule:
    """The queue of one device.

    The worker's thread alone calls what changes a mail that was chosen. Any thread may call `choose_singles`, `add`, `mail`,
    `count_sent`, `tried`, `is_over_budget`, `has_unstored` and `has_undated`.
    """

    def __init__(self, outbox: Outbox, batcher: Batcher, environment: Environment) -> None:
        self._outbox, self._batcher, self._environment = outbox, batcher, environment
        self._clock = environment.wall_clock
        # Mails with results that are not on flash yet.
        self._unstored: list[QueuedMail] = []
        # Whether the batcher knows all that waits in the database.
        self._is_loaded = False
        # Whether events are pending (wait for the wall clock), and when the database is asked for them again while it is wrong.
        self._has_pending, self._date_again = False, 0.0
        # Whether the database has events without a date, mailed or not.
        self.has_undated = False
        self._restore_budget()

    @property
    def has_unstored(self) -> bool:
        """Whether results of mails are not on flash yet."""
        return bool(self._unstored)

    def choose_singles(self, events: Sequence[Event]) -> list[bool]:
        """Return which of some events that arrive together become a mail of their own at once."""
        arrivals = [(event.code, event.type) for event in events if _is_plain(event)]
        answers = iter(self._batcher.choose_singles(arrivals, self._environment.monotonic()))
        # What is sent again is a mail of its own: in a digest it could not go to those alone who did not get it.
        return [bool(event.about) or (_is_plain(event) and next(answers)) for event in events]

    def add(self, events: Sequence[tuple[int, Event, bool]]) -> None:
        """Add events that were accepted: their numbers, and whether each gets a mail of its own."""
        now = self._environment.monotonic()
        for number, event, is_single in events:
            # An event that is not mailed, such as the report of a delivery, is in the database alone.
            if event.waiting and not event.in_summary:
                mail = number if is_single else 0
                self._batcher.add(number, _window_code(event), event.type, now, mail, pending=_is_pending(event))

    def mail(self, number: int) -> QueuedMail | None:
        """Return a mail that waits, by its number."""
        return self._batcher.mail(number)

    def update(self) -> None:
        """Add what the database has and the batcher lacks, and date events that wait for the clock. Raises `NotStored`."""
        # As if they waited for a whole window already: after a start a backlog is gathered into digests.
        if not self._is_loaded:
            self._batcher.reload(self._waiting(), self._environment.monotonic() - self._batcher.window)
            self._is_loaded = True
        self.add_missed()
        self._date()
        if not self._is_budget_restored and self._clock.is_right():
            self._restore_budget()

    def add_missed(self) -> None:
        """Add events that were accepted and have not been passed to `add` yet. Raises `NotStored`."""
        now = self._environment.monotonic()
        for number, code, event_type, mail, pending in self._waiting(self._batcher.last):
            self._batcher.add(number, code, event_type, now, mail, pending=pending)

    def next(self) -> QueuedMail | None:
        """Return the mail to send now. Raises `NotStored`: then no new mail was made."""
        while found := self._batcher.next(self._environment.monotonic()):
            mail, is_new = found
            # Without a window every event is a mail of its own number, and there is nothing to store.
            if not is_new or not self._batcher.window:
                return mail
            # First of all: on any error from here on, the database decides what waits, not this mail.
            self._is_loaded = False
            self._is_loaded = self._outbox.assign_to_mail(mail.events) == mail.number
            if self._is_loaded:
                return mail
            self.update()  # retention removed its first event, or all of them
        return None

    def is_ready(self) -> bool:
        """Return whether there is a mail to send now."""
        return self._batcher.is_ready(self._environment.monotonic())

    def wait(self) -> float | None:
        """Return seconds until there may be a mail to send; None while nothing waits."""
        waits = [self._batcher.wait(self._environment.monotonic()), LOOK_SECONDS if self._has_pending else None]
        return min((wait for wait in waits if wait is not None), default=None)

    def tried(self) -> QueuedMail | None:
        """Return the first mail that was tried and still waits."""
        return self._batcher.tried()

    def is_over_budget(self) -> bool:
        """Return whether the hourly budget delays a new fault, as `Batcher.is_over_budget`."""
        return self._batcher.is_over_budget(self._environment.monotonic())

    def defer(self, mail: QueuedMail, step: str, reply: Text, advice: Text = "") -> None:
        """Count a failed try of a mail, which ended at this step and reply."""
        mail.defer(self._environment.monotonic(), self._environment.random(), step, reply, advice)

    def postpone(self, end: Callable[[Collection[str]], float]) -> None:
        """Set the next try of each deferred mail whose open recipients all wait: when the first of them may be asked for again.

        `end` returns that moment of some recipients (monotonic seconds), 0 for now.
        """
        self._batcher.postpone(end)

    def split(self, mail: QueuedMail) -> None:
        """Make two mails of a digest that no recipient has got yet. Raises `NotStored`."""
        self._is_loaded = False  # as in `next`
        # Halves: a mail that is too large becomes small enough in the fewest mails.
        middle = mail.events[len(mail.events) // 2]
        self._batcher.split(mail, middle, self._outbox.split_mail(mail.number, middle))
        self._is_loaded = True

    def conclude(self, mail: QueuedMail, results: Sequence[Delivery], *, is_done: bool, removed: int = 0) -> None:
        """Add final results of a mail, which `store_results` writes. `is_done`: no recipient is left to send it to.

        `removed` is how many removed events it reported. A mail that a server took counts towards the budget.
        """
        if not results and not is_done:
            return  # a retry writes nothing
        is_first = not mail.is_sent and any(result.verdict == Verdict.DELIVERED for result in results)
        # Once a mail, and not once a recipient: a person reads one mail.
        if is_first:
            mail.is_sent = True
            self.count_sent(mail.share)
        # The first recipient has read of the removed events; the others read the same text.
        mail.conclude(results, is_done=is_done, removed=removed if is_first else 0)
        if is_done:
            self._batcher.remove(mail)
        self._unstored.append(mail)

    def store_results(self) -> None:
        """Write results to flash. Raises `NotStored`; then they stay in memory, so that no mail goes out twice."""
        while self._unstored:
            mail = self._unstored[0]
            # First on flash, then gone from memory: a failure in between repeats a write and loses no result.
            self._outbox.record(mail.number, mail.results, done=mail.is_done, reported=mail.removed)
            mail.stored()
            del self._unstored[0]

    def count_sent(self, event_type: str) -> None:
        """Count a mail towards the hourly budget."""
        self._batcher.count_sent(self._environment.monotonic(), event_type)

    def try_event_now(self, event: Event) -> None:
        """Make the mails of an event due at once; their failed tries still count. Raises `NotStored`."""
        # An event that was sent again has several mails: a person who asks for it means all of them.
        later = self._outbox.actions([event.number]).get(event.number, [])
        for number in (event.mail or event.number, *(each.number for each in later)):
            if mail := self.mail(number):
                mail.postpone(0.0)

    def reset_tries(self) -> None:
        """Make every mail due at once, as if it was never tried."""
        self._batcher.reset_tries()

    def try_all(self) -> None:
        """Make every mail due at once; its failed tries stay counted."""
        self._batcher.try_all()

    def discard_waiting(self, event_type: str) -> None:
        """End events of this type, which no recipient wants. Raises `NotStored`."""
        if self._outbox.discard_waiting(event_type):
            self._batcher.discard(event_type)

    def begin_summary(self, metadata: Callable[[Sequence[int]], Metadata]) -> None:
        """Make mails of the events in the daily summary, as `Outbox.begin_summary`. Raises `NotStored`."""
        # The database decides what waits from here on, also after an error.
        self._is_loaded = False
        self._outbox.begin_summary(metadata)
        self.update()

    def expired(self) -> list[QueuedMail]:
        """Return the mails whose own tries have failed for five days."""
        return self._batcher.expired(self._environment.monotonic())

    def expire(self, newest: int, results: Mapping[str, Sequence[Delivery]]) -> bool:
        """Give up every event up to this number; return whether there was any. Raises `NotStored`.

        `results` has, by event type, the final result of each recipient.
        """
        if not self._outbox.expire(newest, results):
            return False
        self._is_loaded = False
        self.update()
        return True

    def _waiting(self, after: int = 0) -> Iterator[tuple[int, str, str, int, bool]]:
        while chunk := self._outbox.waiting(CHUNK, after):
            yield from (
                (event.number, _window_code(event), event.type, event.mail, _is_pending(event)) for event in chunk
            )
            after = chunk[-1].number

    def _date(self) -> None:
        """Date events that wait for the wall clock once it is right; after ten minutes they go out without a date."""
        now = self._environment.monotonic()
        if now < self._date_again and not self._clock.is_right():
            # Assume that there still are: otherwise each event of a storm would read all that waits.
            self._has_pending = self.has_undated = True
            return
        self._date_again = now + LOOK_SECONDS
        pending = self._outbox.pending()
        stamps = {number: stamp for number, moment in pending.items() if (stamp := self._clock.date(moment))}
        if stamps:
            self._outbox.date({number: (stamp.time, stamp.clock) for number, stamp in stamps.items()})
            log.info("clock right: %d events dated", len(stamps))
        still_pending = {
            number for number, moment in pending.items() if number not in stamps and self._clock.pending_seconds(moment)
        }
        # All but these, not those of `pending`: an event may be passed to `add` after it was dated.
        self._batcher.release(still_pending, now)
        self._has_pending, self.has_undated = bool(still_pending), len(stamps) < len(pending)

    def _restore_budget(self) -> None:
        """Count the mails of the hour before this start, which the database has by the wall clock.

        While that is wrong, the newest mail counts as sent just now, and no time is taken to have passed since.
        """
        now, today, newest = self._environment.monotonic(), self._clock.seconds(), self._outbox.newest_sent()
        self._is_budget_restored = bool(today)
        today = today or newest
        # A clock that was set back must not give out the budget twice: mails dated in the future count as sent just now.
        sent = self._outbox.sent_since(min(today, newest) - HOUR)
        self._batcher.restore_sent([(min(now, now - (today - moment)), event_type) for moment, event_type in sent])


def _is_pending(event: Event) -> bool:
    return event.clock.startswith(PENDING)


def _is_plain(event: Event) -> bool:
    return event.waiting and not event.about and not event.in_summary and not _is_pending(event)


def _window_code(event: Event) -> str:
    """Return the code that opens a window; ``""`` for a mail that is sent again, which must not delay a new event."""
    return "" if event.about else event.code
