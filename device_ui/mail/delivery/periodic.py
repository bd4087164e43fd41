"""Begin the mails of a time of day: the daily summary and the sign of life; decide which events are in the summary.

What is mailed, and when, is a file of the pages. The worker reads it in each round and the thread that accepts events uses what was
read last: it never waits for a file that another user can write. A file that is damaged mails everything at once.

Each beginning is one commit: the mail, and the metadata that it was begun. So a power cut can neither lose nor repeat
one. The summary is made of the events of the database that wait for it; from then on it is a digest in the queue as any
other. The sign of life is an event.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from device_ui.errors import Damaged, Message, NotReadable, to_stored
from device_ui.mail.catalog import SIGN_OF_LIFE, Kind
from device_ui.mail.delivery.environment import Environment
from device_ui.mail.delivery.period import Period, Sent
from device_ui.mail.delivery.schedule import Schedule
from device_ui.mail.events import Event
from device_ui.mail.format import format_time
from device_ui.mail.outbox.database import to_number
from device_ui.mail.outbox.outbox import SUMMARY as SUMMARY_METADATA
from device_ui.mail.outbox.outbox import Outbox
from device_ui.mail.outbox.retention import UNTOLD
from device_ui.settings.notifications import NEVER, OFF, SUMMARY, WEEKLY, Notifications
from device_ui.settings.store import NotificationStore

log = logging.getLogger(__name__)

# Seconds between two looks at the clock while something is planned: it may be set.
LOOK_SECONDS = 60.0
# Seconds before an instant in which the process stays. The timer of systemd starts it every hour, which it takes a
# little longer for.
AHEAD_SECONDS = 4000.0
# The name of the metadata of what was begun last, beside that of the summary.
SIGN_METADATA = "sign_of_life"
# Summaries whose numbers are kept: a mail is tried for five days, and a day has two.
SUMMARIES_KEPT = 20


class PeriodicMails:
    """The periodic mails of one device. The worker calls the methods; `decide` and `is_idle` may be called by any thread."""

    def __init__(self, outbox: Outbox, schedule: Schedule, environment: Environment, store: NotificationStore) -> None:
        self._outbox, self._schedule, self._environment, self._store = outbox, schedule, environment, store
        self._clock = environment.wall_clock
        self._chosen, self._problem = Notifications(), ""
        # Whether the file of choices exists: without it the timer does not start the process.
        self._has_timer = True

    def refresh(self) -> None:
        """Read what is mailed, and when."""
        try:
            stored = self._store.read()[0]
            self._chosen, self._problem, self._has_timer = stored or Notifications(), "", stored is not None
        except (Damaged, NotReadable) as error:
            if str(error) != self._problem:  # one line, not one in each round
                log.error("%s; every event is mailed at once", error)
            self._chosen, self._problem, self._has_timer = Notifications(), str(error), True

    def decide(self, kind: Kind) -> tuple[bool, bool]:
        """Return whether an event of this kind is mailed, and whether in the daily summary."""
        chosen = self._chosen.decide(kind.code, kind.type) if kind.mail else NEVER
        return chosen != NEVER, chosen == SUMMARY

    def round(self) -> None:
        """Begin what is due. Raises `NotStored`."""
        self.refresh()
        now = self._clock.seconds()
        if not now:
            return
        if self._outbox.has_summary:
            self._summarize(now)
        if self._chosen.sign_of_life != OFF or SIGN_METADATA in self._outbox.metadata():
            self._give_sign(now)

    def wait(self) -> float | None:
        """Return seconds until the next round; None while nothing is planned."""
        return LOOK_SECONDS if self._periods() else None

    def is_idle(self) -> bool:
        """Return whether nothing is begun within the next hour, or nothing is planned where no timer starts the process."""
        now, periods = self._clock.now(), self._periods()
        # A page that finds the file damaged keeps it under another name: events that wait for the summary then keep the process.
        ahead = AHEAD_SECONDS if self._has_timer else float("inf")
        return all(period.next(now) - now > ahead for period in periods)

    def _periods(self) -> list[Period]:
        daily = [self._period()] if self._outbox.has_summary else []
        return daily + ([self._period(self._chosen.sign_of_life)] if self._chosen.sign_of_life != OFF else [])

    def _period(self, sign: str = "") -> Period:
        return Period.of_device(self._chosen.minute, self._outbox.id, weekly=sign == WEEKLY)

    def _summarize(self, now: float) -> None:
        """Begin the daily summary if it is due: an event from before its instant waits. It then has every event that
        waits for one."""
        period = self._period()
        day = period.due(now, self._sent(SUMMARY_METADATA))
        if day and self._outbox.is_summary_due(period.latest(now)[1], now):
            earlier = self._outbox.summaries()
            self._schedule.begin_summary(
                lambda mails: {SUMMARY_METADATA: self._begun(day, mails=[*earlier, *mails][-SUMMARIES_KEPT:])}
            )
            log.info("daily summary of %s: begun", day)

    def _give_sign(self, now: float) -> None:
        if self._chosen.sign_of_life == OFF:
            self._outbox.set_metadata(SIGN_METADATA, None)
            return
        last = self._sent(SIGN_METADATA)
        period = self._period(self._chosen.sign_of_life)
        if last is None:  # it was just turned on: the first one is at the next instant
            begins, _ = period.latest(now)
            self._outbox.set_metadata(SIGN_METADATA, self._begun(begins, begins=True, number=self._outbox.last))
        elif day := period.due(now, last):
            event = Event(SIGN_OF_LIFE.code, SIGN_OF_LIFE.type, now, now, text=to_stored(self._report()))
            singles = self._schedule.choose_singles([event])
            numbers = self._outbox.accept(
                [event], singles, lambda number: {SIGN_METADATA: self._begun(day, number=number)}
            )
            self._schedule.add([(numbers[0], event, singles[0])])
            log.info("sign of life of %s: event %d", day, numbers[0])

    def _report(self) -> Message:
        """Return what was sent, what waits and what was lost since the last sign of life."""
        stored = self._stored(SIGN_METADATA)
        since = self._clock.when(str(stored.get("moment", "")))
        delivered, lost = self._outbox.mails_since(since)
        number = max(0, self._outbox.last - to_number(str(stored.get("number", ""))))
        removed = self._outbox.removed()[UNTOLD]
        return Message(
            "{since}\n{events}\n{delivered}\n{lost}\n{removed}\n{waiting}\n{summary}",
            since=Message("Since {time}", time=format_time(since)),
            events=Message("Events: {count}", count=number),
            delivered=Message("Mails delivered: {count}", count=delivered),
            lost=Message("Mails lost: {count}", count=lost),
            removed=Message("Events removed before they were mailed: {count}", count=removed),
            waiting=Message("Events that wait for their mail: {count}", count=self._outbox.waiting_count()),
            summary=Message("Events for the daily summary: {count}", count=self._outbox.summary_count()),
        )

    def _begun(self, day: str, **more: Any) -> str:
        return json.dumps({"day": day, "moment": self._clock.moment(), **more})

    def _sent(self, name: str) -> Sent | None:
        stored = self._stored(name)
        moment = str(stored.get("moment", ""))
        # Sent by a clock that was far ahead: nothing is known of when, and one mail too many is better than none for years.
        if not stored or self._clock.is_ahead(moment):
            return None
        return Sent(str(stored.get("day", "")), None if stored.get("begins") else self._clock.passed(moment))

    def _stored(self, name: str) -> Mapping[str, Any]:
        try:
            stored = json.loads(self._outbox.metadata().get(name, "{}"))
        except ValueError:
            return {}  # damaged: as if nothing was begun
        return stored if isinstance(stored, dict) else {}
