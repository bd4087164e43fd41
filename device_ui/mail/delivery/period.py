"""When a mail of every day or every week is due. Pure, but for the device's time zone.

A period has one instant for each of its days, by the calendar: also on the day on which a clock is put forward over that time of
day, and on the day that has it twice. A device that was off at the instant makes up for it at its next start.

What has been sent is known by the day that it was for, and by how long ago that is. The day alone would be wrong: after
a clock that was years ahead is set right, every day would be over already, and a clock that is set forward would send
at once what it sent this morning. So two mails are at least half a period apart, and a day counts as served for one and
a half. Where that is not known, since the clock was far ahead before the device's last start, the mail is due.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date, timedelta

DAY_SECONDS = 24 * 3600.0
# Each device has its own second of the hour after the time that the operator chose, so that a fleet does not mail at 08:00.
SPREAD_SECONDS = 3600


@dataclass(frozen=True)
class Sent:
    """What was sent last: the `day` that it was for (``2026-11-30``), and how many seconds ago; None: it only begins on
    that day."""

    day: str
    ago: float | None


@dataclass(frozen=True)
class Period:
    """Every day at `second` of it, local time, or with a `weekday` (0 is Monday) every week. `second` may reach into
    the next day."""

    second: int
    weekday: int | None = None

    @classmethod
    def of_device(cls, minute: int, ledger_id: str, *, weekly: bool = False) -> Period:
        """Return the period from a `minute` of the day on, moved by what the database's name gives this device."""
        # The name is 16 random hexadecimal digits (`outbox.database`); one that is damaged is none.
        try:
            number = int(ledger_id, 16)
        except ValueError:
            number = 0
        return cls(minute * 60 + number % SPREAD_SECONDS, number // SPREAD_SECONDS % 7 if weekly else None)

    @property
    def seconds(self) -> float:
        """The length of the period."""
        return DAY_SECONDS if self.weekday is None else 7 * DAY_SECONDS

    def latest(self, now: float) -> tuple[str, float]:
        """Return the last instant up to `now` (seconds since 1970): its day, and the moment."""
        today = date(*time.localtime(now)[:3])
        return next(
            (str(day), moment)
            for day, moment in ((day, self._moment(day)) for day in (today - timedelta(ago) for ago in range(9)))
            if moment <= now and self.weekday in (None, day.weekday())
        )

    def next(self, now: float) -> float:
        """Return the first instant after `now`."""
        today = date(*time.localtime(now)[:3])
        return next(
            moment
            for day, moment in ((day, self._moment(day)) for day in (today + timedelta(days) for days in range(-1, 9)))
            if moment > now and self.weekday in (None, day.weekday())
        )

    def due(self, now: float, last: Sent | None) -> str | None:
        """Return the day that a mail is due for, None when none is."""
        day, _ = self.latest(now)
        if last is None:
            return day
        if last.ago is None:
            return day if day != last.day else None
        served = self.seconds * (1.5 if day == last.day else 0.5)
        return day if last.ago >= served else None

    def _moment(self, day: date) -> float:
        # mktime(3) normalizes the hour and finds whether summer time applies (-1): a time that a day does not have is an hour
        # off, one that it has twice is one of both.
        hour, rest = divmod(self.second, 3600)
        return time.mktime((day.year, day.month, day.day, hour, *divmod(rest, 60), 0, 0, -1))
