"""The device's wall clock, which may be wrong after a start, and the dates of events.

A device without a battery starts in 1970 or at its build date. So the clock is never valid before the release of this
program, and after it only if it is not more than a day before the last event with a date, or is synchronized (NTP), or was
set since this process started. Until then an event has the seconds since the boot of the device (CLOCK_BOOTTIME), which are
independent of the wall clock, and gets its date once the clock is valid. After ten minutes it is mailed without a date.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from device_ui import RELEASED
from device_ui.mail.events import BEFORE, DATED, LATER, PENDING

RELEASE = datetime.fromisoformat(RELEASED).replace(tzinfo=UTC).timestamp()
# Seconds that an event waits for the clock, and between two checks of it.
PENDING_SECONDS, LOOK_SECONDS = 600.0, 5.0
# A correction of a clock that was a little fast does not make it invalid.
TOLERANCE_SECONDS = 24 * 3600.0
# A move of the wall clock against the time since boot by more than this: it was set.
STEP_SECONDS = 60.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# systemd-timesyncd.service(8): made when the clock was synchronized for the first time.
SYNCHRONIZED = Path("/run/systemd/timesync/synchronized")

# Seconds as `Clock.stamp` and `Clock.moment` write them.
SECONDS_PATTERN = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,6})?")

# sys/timex.h: the result of adjtimex(2) while no program synchronizes the clock; bytes, more than its structure has.
TIME_ERROR, TIMEX_BYTES = 5, 256


@dataclass(frozen=True)
class Stamp:
    """A date: seconds since 1970, 0 while it is not known, and its certainty (see `events`)."""

    time: float
    clock: str = DATED


class Clock:
    """The clock of one device. `written` is the date of the newest event with a sure date, 0 for none."""

    def __init__(
        self,
        written: float = 0.0,
        *,
        wall: Callable[[], float] = time.time,
        boot: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        boot_id: str | None = None,
        synchronized: Callable[[], bool] | None = None,
    ) -> None:
        self._wall, self._boot, self._synchronized = wall, boot, synchronized or _is_synchronized
        self._boot_id = _boot_id() if boot_id is None else boot_id
        self._floor = max(RELEASE, written - TOLERANCE_SECONDS)
        # CLOCK_BOOTTIME counts suspended time, too; CLOCK_MONOTONIC does not, and a sleep would look like a set clock.
        self._offset = wall() - boot()
        self._was_set = False
        # Now, not with the first event: a clock in doubt needs an import.
        self._believed()

    @property
    def since_boot(self) -> tuple[str, float]:
        """The id of this boot of the device, and the seconds since then, independent of the wall clock."""
        return self._boot_id, self._boot()

    @property
    def raw(self) -> float:
        """The wall clock, valid or not: only for display."""
        return self._wall()

    def seconds(self) -> float:
        """Return the seconds since 1970 for a record, 0 while the wall clock is not valid."""
        # 0 and not a wrong date: a record of 1970 could not be distinguished from a true one later.
        return self._believed() or 0.0

    def is_right(self) -> bool:
        """Return whether the wall clock is valid."""
        return self._believed() is not None

    def now(self) -> float:
        """Return the seconds since 1970; while the wall clock is not valid, the release of this program or a day before the
        last date of the database."""
        wall = self._believed()
        return self._floor if wall is None else wall

    def moment(self) -> str:
        """Return now as a text for `passed`: seconds since 1970 (0: not known), the id of this boot, seconds since then."""
        # Both clocks: the one since the boot cannot be set, the wall clock continues over a reboot of the device. Whole seconds
        # that are over: a moment that was rounded up would be after now, and a token that was just made not a fresh one.
        return f"{int(self.seconds())} {self._boot_id} {int(self._boot())}"

    def passed(self, moment: str) -> float:
        """Return the seconds since a `moment`, less than one too many; of a damaged one, those since this boot.

        Within one boot of the device the wall clock does not matter. After a new one it counts if it was valid both times;
        the seconds since the new boot count in any case.
        """
        before, since_boot = self._parsed(moment)
        now, believed = self._boot(), self._believed()
        if since_boot is not None:
            return now - since_boot
        return max(now, believed - before) if believed and before else now

    def is_ahead(self, moment: str) -> bool:
        """Return whether a `moment` of an earlier boot is more than a day after now: the wall clock was wrong then.

        How long ago it was is not known, and for as many years as that clock was ahead `passed` counts this boot alone.
        """
        before, since_boot = self._parsed(moment)
        believed = self._believed()
        return since_boot is None and believed is not None and before - believed > TOLERANCE_SECONDS

    def when(self, moment: str) -> float:
        """Return a `moment` by the present clock, which may have been set since: seconds since 1970, 0 where it is not known."""
        before, since_boot = self._parsed(moment)
        if since_boot is None:
            return 0.0 if self.is_ahead(moment) else before
        believed = self._believed()
        return 0.0 if believed is None else believed - (self._boot() - since_boot)

    def _parsed(self, moment: str) -> tuple[float, float | None]:
        """Return the wall clock of a moment, 0 for not known, and the seconds since this boot, None for another one."""
        wall, _, rest = moment.partition(" ")
        boot_id, _, seconds = rest.partition(" ")
        if boot_id != self._boot_id:
            return _seconds(wall), None
        return _seconds(wall), _seconds(seconds)

    def stamp(self, given: float | None = None) -> Stamp:
        """Return the date of an event that is raised now; `given` is the client's time of it, by this same clock."""
        wall = self._believed()
        if wall is not None and given is not None and given < RELEASE:
            return Stamp(wall, BEFORE)  # the clock has been set since the client read it
        if wall is not None:
            return Stamp(wall if given is None else given)
        # The client read the same wrong clock, so the difference is right.
        ago = 0.0 if given is None else self._wall() - given
        if given is not None and given >= self._floor:
            return Stamp(given)  # the client has a better source, such as GPS
        # A time of an invalid clock still says how long ago it was.
        ago = ago if 0 <= ago <= self._boot() else 0.0
        return Stamp(0.0, f"{PENDING}{self._boot_id} {self._boot() - ago:.3f}")

    def date(self, pending: str) -> Stamp | None:
        """Return the date of a pending moment, None while the clock is not valid."""
        wall = self._believed()
        if wall is None:
            return None
        boot_id, seconds = pending_moment(pending)
        if seconds is None:
            return Stamp(wall, BEFORE)  # of a damaged moment it is known that it was before now
        if boot_id == self._boot_id:
            return Stamp(wall - max(0.0, self._boot() - seconds), LATER)
        return Stamp(wall - self._boot(), BEFORE)  # before this start of the device

    def pending_seconds(self, pending: str) -> float:
        """Return the seconds that a pending event still waits for the clock."""
        boot_id, seconds = pending_moment(pending)
        begun = seconds if boot_id == self._boot_id and seconds is not None else 0.0
        # Never longer than an event of this moment: damage may have made the seconds larger than those since the start.
        return min(PENDING_SECONDS, max(0.0, begun + PENDING_SECONDS - self._boot()))

    def _believed(self) -> float | None:
        """Return the wall clock, None while it is invalid. It is read once, since it may be set between two reads."""
        wall = self._wall()
        offset = wall - self._boot()
        # A step moves the wall clock alone: by a person, or at a first synchronization.
        if abs(offset - self._offset) > STEP_SECONDS:
            self._offset, self._was_set = offset, True
        # In this order: asking the kernel comes last, since it imports ctypes.
        right = wall >= RELEASE and (wall >= self._floor or self._was_set or self._synchronized())
        return wall if right else None


def pending_moment(pending: str) -> tuple[str, float | None]:
    """Return the id of a start of the device and the seconds since then of a pending moment; None where these are damaged."""
    boot_id, _, seconds = pending.removeprefix(PENDING).partition(" ")
    # Not float() alone: one event with a flipped bit must not stop the delivery of all others, nor be "nan" in a line of JSON.
    return boot_id, _seconds(seconds) if SECONDS_PATTERN.fullmatch(seconds) else None


def clock_text(seconds: float) -> str:
    """Return a time (seconds since 1970) in the local zone for a person: ``2026-11-27 11:30 +0100``."""
    return f"{datetime.fromtimestamp(int(seconds)).astimezone():%Y-%m-%d %H:%M %z}"


def _seconds(text: str) -> float:
    """Return stored seconds, 0 where they are damaged."""
    return float(text) if SECONDS_PATTERN.fullmatch(text) else 0.0


def _is_synchronized() -> bool:
    """Return whether systemd-timesyncd has set the clock, or the kernel reports that a program synchronizes it."""
    if SYNCHRONIZED.exists():
        return True
    return 0 <= _kernel()() < TIME_ERROR


@functools.cache
def _kernel() -> Callable[[], int]:
    """Return adjtimex(2); with modes = 0 it changes nothing and needs no privilege."""
    # Imported here: only a clock that is in doubt needs it.
    import ctypes

    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return lambda: TIME_ERROR
    # A struct timex has 208 bytes at most.
    return lambda: int(adjtimex(ctypes.create_string_buffer(TIMEX_BYTES)))


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()[:8]
    except OSError:  # no /proc: of a pending event it is only known that it was before the next start
        return f"{time.time_ns():x}"
