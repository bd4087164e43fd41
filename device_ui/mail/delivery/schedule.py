"""Which mail goes next: the storm's plan over the ledger and the clock. What it decides is on flash before it goes out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from device_ui.mail.clock import LOOK_SECONDS, Clock
from device_ui.mail.delivery.batching import HOUR, Batch, Batcher, Tried
from device_ui.mail.events import PENDING, Delivery, Event
from device_ui.mail.outbox.outbox import Outbox

log = logging.getLogger(__name__)

# Events read from the ledger at a time.
BATCH = 1000


class Schedule:
    """The plan of one device. `monotonic` is in seconds; it has nothing to do with the `clock` that dates events."""

    def __init__(
        self, outbox: Outbox, storm: Batcher, clock: Clock, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._outbox, self._storm, self.clock, self._monotonic = outbox, storm, clock, monotonic
        self._is_known = False
        # Whether events are held for the clock, and when the ledger is asked for them again while it is wrong.
        self._holds, self._date_again = False, 0.0
        # Whether the ledger has events without a date, mailed or not.
        self.has_undated = False
        self._restore_budget()

    def leads(self, events: Sequence[Event]) -> list[bool]:
        """Which of some events that arrive together are a mail of their own at once."""
        arrivals = [(each.code, each.type) for each in events if _is_plain(each)]
        answers = iter(self._storm.leads(arrivals, self._monotonic()))
        return [_is_plain(each) and next(answers) for each in events]

    def learn(self, events: Sequence[tuple[int, Event, bool]]) -> None:
        """Events that were accepted: their numbers, and whether they lead."""
        now = self._monotonic()
        for number, event, leads in events:
            if event.waiting:
                mail = number if leads else 0
                self._storm.learn(number, event.code, event.type, now, mail, pending=_is_pending(event))

    def look(self) -> None:
        """Learn what the ledger knows and we do not, and date what waits for the clock. Raises `NotStored`."""
        if not self._is_known:
            self._storm.relearn(self._waiting(), self._monotonic() - self._storm.window)
            self._is_known = True
        self.learn_late()
        self._date()
        if not self._is_restored and self.clock.is_right():
            self._restore_budget()

    def learn_late(self) -> None:
        """Learn what was accepted and not told to us. Raises `NotStored`."""
        now = self._monotonic()
        for number, code, kind, mail, pending in self._waiting(self._storm.last):
            self._storm.learn(number, code, kind, now, mail, pending=pending)

    def forget(self) -> None:
        """What the plan knows is no longer what the ledger says: read it anew."""
        self._is_known = False

    def next(self, tried: Tried, settle: Callable[[], None] = lambda: None) -> Batch | None:
        """The mail to send now, as `Batcher.next` says. Raises `NotStored`: then nothing is decided.

        `settle` is called before the ledger is asked for what waits.
        """
        while found := self._storm.next(self._monotonic(), tried):
            mail, is_fresh = found
            if not is_fresh or not self._storm.window:
                return mail
            # First of all: whatever fails from here on, the ledger says what waits, and not this decision.
            self.forget()
            settle()
            if self._decided(mail):
                return mail
            self.look()  # the ledger's limit took its first event, or all of them
        return None

    def following(self, mail: Batch, tried: Tried) -> Batch | None:
        """The mail that probably comes after this one, where nothing is left to decide for it."""
        return self._storm.following(mail, tried)

    def is_ready(self, tried: Tried) -> bool:
        """Whether there is a mail to send now."""
        return self._storm.is_ready(self._monotonic(), tried)

    def wait(self, again: Callable[[int], float]) -> float | None:
        """Seconds until there may be a mail to send; None while nothing waits. `again` as in `Batcher.wait`."""
        waits = [self._storm.wait(self._monotonic(), again), LOOK_SECONDS if self._holds else None]
        return min((each for each in waits if each is not None), default=None)

    def done(self, mail: Batch) -> None:
        """The mail needs no other try."""
        self._storm.done(mail)

    def went_out(self, mail: Batch) -> None:
        """The server took the mail, at least for somebody."""
        self._storm.went_out(self._monotonic(), mail.type)

    def settle(self, kind: str) -> None:
        """Nobody wants events of this type: they are done. Raises `NotStored`."""
        if self._outbox.discard_waiting(kind):
            self._storm.settled(kind)

    def give_up(self, newest: int, why: Mapping[str, Sequence[Delivery]]) -> bool:
        """Drop what is up to this number, by type `why`; whether there was anything. Raises `NotStored`."""
        if not self._outbox.expire(newest, why):
            return False
        self.forget()
        self.look()
        return True

    def _decided(self, mail: Batch) -> bool:
        self._is_known = self._outbox.assign_to_mail(mail.numbers) == mail.id
        return self._is_known

    def _waiting(self, after: int = 0) -> Iterator[tuple[int, str, str, int, bool]]:
        while batch := self._outbox.waiting(BATCH, after):
            yield from ((each.number, each.code, each.type, each.mail, _is_pending(each)) for each in batch)
            after = batch[-1].number

    def _date(self) -> None:
        """Date what waits for the clock once it is right; what has waited for too long goes out without."""
        now = self._monotonic()
        if now < self._date_again and not self.clock.is_right():
            # Perhaps: a storm must not make us read all that waits with each of its events.
            self._holds = self.has_undated = True
            return
        self._date_again = now + LOOK_SECONDS
        pending = self._outbox.pending()
        stamps = {number: stamp for number, moment in pending.items() if (stamp := self.clock.date(moment))}
        if stamps:
            self._outbox.date({number: (stamp.time, stamp.clock) for number, stamp in stamps.items()})
            log.info("the clock is right now; %d events are dated", len(stamps))
        held = {number for number, moment in pending.items() if number not in stamps and self.clock.hold(moment)}
        # Not by `pending`: an event may be told to us only after it was dated.
        self._storm.release(held, now)
        self._holds, self.has_undated = bool(held), len(stamps) < len(pending)

    def _restore_budget(self) -> None:
        """Count the mails of the hour before this start, which the ledger knows by the wall clock.

        While that is wrong, the newest mail counts as sent just now, and no time is taken to have passed since.
        """
        self._is_restored = self.clock.is_right()
        now, newest = self._monotonic(), self._outbox.newest_sent()
        today = self.clock.now() if self._is_restored else newest
        # A clock that was set back since must not give the budget out twice: what lies in the future was just now.
        sent = self._outbox.sent_since(min(today, newest) - HOUR)
        self._storm.restore([(min(now, now - (today - moment)), kind) for moment, kind in sent])


def _is_pending(event: Event) -> bool:
    return event.clock.startswith(PENDING)


def _is_plain(event: Event) -> bool:
    return event.waiting and not _is_pending(event)
