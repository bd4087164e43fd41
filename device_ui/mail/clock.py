"""The device's wall clock, which may be wrong after every start, and what dates an event all the same.

A device without a battery starts in 1970, or wherever it was built. So a clock is believed only when it stands after
the release of this program and after the last event that the ledger dated, or when somebody (NTP, a person) set it
while we looked. Until then an event keeps the seconds since the start of the device (CLOCK_BOOTTIME), which no setting
of the clock bends, and gets its date once the clock is right. After ten minutes it is mailed all the same, and says so.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from device_ui import RELEASED
from device_ui.mail.events import BEFORE, DATED, LATER, PENDING

RELEASE = datetime.fromisoformat(RELEASED).replace(tzinfo=UTC).timestamp()
# Seconds that an event waits for the clock, and between two looks at it meanwhile.
HOLD_SECONDS, LOOK_SECONDS = 600.0, 5.0
# A clock that was a little fast when the last event was dated is not wrong when it is put right.
TOLERANCE_SECONDS = 24 * 3600.0
# The wall clock moved by more than this against the monotonic one: it was set.
STEP_SECONDS = 60.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# systemd-timesyncd.service(8): made when the clock was synchronized for the first time.
SYNCHRONIZED = Path("/run/systemd/timesync/synchronized")

# sys/timex.h: what adjtimex(2) returns while nothing keeps the clock right; room for its structure.
TIME_ERROR, TIMEX_BYTES = 5, 256


@dataclass(frozen=True)
class Stamp:
    """When something happened: seconds since 1970, 0 while nobody knows, and what that rests on."""

    time: float
    clock: str = DATED


class Clock:
    """The clock of one device. `written` is the date of the newest event that the ledger dated, 0 when there is none."""

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
        self._offset = wall() - boot()
        self._was_set = False
        # Now, and not when the first alarm comes: a clock that is in doubt needs an import.
        self._believed()

    @property
    def since_boot(self) -> tuple[str, float]:
        """The id of this start of the device, and the seconds since then, which no setting of the clock bends."""
        return self._boot_id, self._boot()

    @property
    def told(self) -> float:
        """What the wall clock says, right or wrong; only ever to be shown."""
        return self._wall()

    def is_right(self) -> bool:
        """Whether the wall clock can be believed."""
        return self._believed() is not None

    def now(self) -> float:
        """Seconds since 1970, never before the release of this program nor before what the ledger dated last."""
        wall = self._believed()
        return self._floor if wall is None else wall

    def moment(self) -> str:
        """Return now as a text for `passed`: seconds since 1970 (0: not known), the id of this start, seconds since then."""
        return f"{self._believed() or 0.0:.0f} {self._boot_id} {self._boot():.0f}"

    def passed(self, moment: str) -> float:
        """Return how many seconds have passed at least since a `moment`; of a damaged one, the seconds since this start.

        Within one start of the device no setting of the clock bends it. After another start the wall clock counts, if it
        could be believed both times, and the seconds since that start in any case.
        """
        wall, _, rest = moment.partition(" ")
        boot_id, _, seconds = rest.partition(" ")
        now, believed = self._boot(), self._believed()
        try:
            if boot_id == self._boot_id:
                return now - float(seconds)
            return max(now, believed - float(wall)) if believed and float(wall) else now
        except ValueError:
            return now

    def stamp(self, given: float | None = None) -> Stamp:
        """When an event happened that is raised now; `given` is what its caller says, by this same clock."""
        wall = self._believed()
        if wall is not None and given is not None and given < RELEASE:
            return Stamp(wall, BEFORE)  # the caller looked at a clock that has been set since
        if wall is not None:
            return Stamp(wall if given is None else given)
        ago = 0.0 if given is None else self._wall() - given
        if given is not None and given >= self._floor:
            return Stamp(given)  # the caller knows better than this clock, from GPS perhaps
        # A time by a clock that is wrong is good for one thing: how long ago it was.
        ago = ago if 0 <= ago <= self._boot() else 0.0
        return Stamp(0.0, f"{PENDING}{self._boot_id} {self._boot() - ago:.3f}")

    def date(self, pending: str) -> Stamp | None:
        """The date of a pending moment; None while the clock is not right."""
        wall = self._believed()
        if wall is None:
            return None
        boot_id, _, seconds = pending.removeprefix(PENDING).partition(" ")
        if boot_id == self._boot_id:
            return Stamp(wall - self._boot() + float(seconds), LATER)
        return Stamp(wall - self._boot(), BEFORE)  # before this start of the device

    def hold(self, pending: str) -> float:
        """Seconds that a pending event still waits for the clock."""
        boot_id, _, seconds = pending.removeprefix(PENDING).partition(" ")
        begun = float(seconds) if boot_id == self._boot_id else 0.0
        return max(0.0, begun + HOLD_SECONDS - self._boot())

    def _believed(self) -> float | None:
        """What the wall clock says, looked at once, since it may jump before a second look; None while it is wrong."""
        wall = self._wall()
        offset = wall - self._boot()
        if abs(offset - self._offset) > STEP_SECONDS:
            self._offset, self._was_set = offset, True
        right = wall >= RELEASE and (wall >= self._floor or self._was_set or self._synchronized())
        return wall if right else None


def clock_text(seconds: float) -> str:
    """What a clock says (seconds since 1970), in the local zone, as a person reads it: ``2026-11-27 11:30 +0100``."""
    return f"{datetime.fromtimestamp(int(seconds)).astimezone():%Y-%m-%d %H:%M %z}"


def _is_synchronized() -> bool:
    """Whether systemd-timesyncd has set the clock, or the kernel knows that some other program keeps it right."""
    if SYNCHRONIZED.exists():
        return True
    return 0 <= _kernel()() < TIME_ERROR


@functools.cache
def _kernel() -> Callable[[], int]:
    """adjtimex(2), which changes nothing and needs no privilege with modes = 0."""
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
    except OSError:  # no /proc: a pending event is then only ever known to lie before the next start
        return f"{time.time_ns():x}"
