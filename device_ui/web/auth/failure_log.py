"""Failed logins in a file, so that whoever guesses gains nothing by a restart, nor by waiting until the pages rest.

Times are those of the monotonic clock, which all processes since the system's start share; the wall clock, which
jumps, is never asked. After another start of the system they mean nothing, and everything counts as having just been.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from device_ui.errors import DeviceUIError
from device_ui.storage import files, toml_file

log = logging.getLogger(__name__)

# For how long (seconds) a visitor is remembered after its last failure, and how many are noted.
REMEMBERED, NOTED_MAXIMUM = 3600.0, 64
# Visitors that got in, the latest last.
KNOWN_MAXIMUM = 16
# Seconds between two writes: 144 a day at most.
WRITE_SECONDS = 600.0
COMMENT = "device-ui: failed logins, and where logins came from, so that a restart forgets neither. Safe to delete."


@dataclass
class Guesses:
    """One visitor's failures, and when (monotonic seconds) the last was."""

    count: int
    last: float


@dataclass
class Failures:
    """What is known of tries to get in: by visitor, latest last; of everybody together, as of `counted`; who got in."""

    visitors: dict[str, Guesses] = field(default_factory=dict)
    total: float = 0.0
    counted: float = 0.0
    known: dict[str, None] = field(default_factory=dict)

    def of(self, visitor: str, now: float) -> Guesses:
        """A visitor's failures, none when they are forgotten."""
        found = self.visitors.get(visitor)
        return found if found and now - found.last < REMEMBERED else Guesses(0, now)

    def remembered(self, now: float) -> dict[str, int]:
        """The visitors that are not forgotten, with the numbers of their failures."""
        return {name: each.count for name, each in self.visitors.items() if now - each.last < REMEMBERED}


class FailureStore:
    """The file of `Failures`; without a path nothing is noted. What cannot be read or written is a line in the log."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._written = float("-inf")
        self._noted = Failures()

    def load(self, now: float) -> Failures:
        """What was noted, as of `now`; nobody's failure is later than that."""
        try:
            raw = files.read(self._path) if self._path else None
            values = toml_file.decode(raw) if raw is not None else {}
        except (DeviceUIError, ValueError) as error:
            log.warning("the failed logins of before are forgotten: %s", error)
            return Failures()
        written = _time(values.get("written"), now)
        if "written" in values and _count(values["written"]) <= now:
            self._written = written
        self._noted = Failures(_visitors(values, now), _total(values), written, _known(values))
        return Failures(_visitors(values, now), _total(values), written, _known(values))

    def hold(self, failures: Failures, now: float) -> bool:
        """Whether a process that loads the file would know as much; a path that is none forgets nothing."""
        same = failures.remembered(now) == self._noted.remembered(now) and set(failures.known) == set(self._noted.known)
        return self._path is None or same

    def draft(self, failures: Failures, now: float) -> bytes:
        """What is to be written now, the worst first; empty when the last time was too short ago."""
        if self._path is None or now - self._written < WRITE_SECONDS:
            return b""
        self._written = now
        worst = sorted(failures.remembered(now), key=lambda name: -failures.visitors[name].count)[:NOTED_MAXIMUM]
        visitors = {name: replace(failures.visitors[name]) for name in worst}
        self._noted = Failures(visitors, known=dict(failures.known))
        values: Mapping[str, str | int] = {
            "written": int(now),
            "failures": int(failures.total),
            "visitors": " ".join(f"{name}={each.count}@{int(each.last)}" for name, each in visitors.items()),
            "known": " ".join(failures.known),
        }
        return toml_file.encode(COMMENT, values)

    def write(self, draft: bytes) -> bool:
        """Put a draft on flash; False when it could not be: then the file holds nothing that is known of."""
        try:
            files.replace(self._path or Path(), draft, 0o600)
        except DeviceUIError as error:
            log.warning("the failed logins are not noted: %s", error)
            self._noted = Failures()
            return False
        return True


def _visitors(values: Mapping[str, object], now: float) -> dict[str, Guesses]:
    words = (each.rpartition("=") for each in str(values.get("visitors", "")).split()[:NOTED_MAXIMUM])
    told = ((name, *told.partition("@")[::2]) for name, _, told in words)
    return {name: Guesses(int(count), _time(last, now)) for name, count, last in told if _is_count(count)}


def _known(values: Mapping[str, object]) -> dict[str, None]:
    return dict.fromkeys(str(values.get("known", "")).split()[:KNOWN_MAXIMUM])


def _total(values: Mapping[str, object]) -> float:
    return float(_count(values.get("failures")))


def _time(told: object, now: float) -> float:
    """A moment of this start of the system; `now` for one that has not come yet, or is none."""
    return min(float(_count(told)), now) if _is_count(str(told)) else now


def _count(told: object) -> int:
    return int(str(told)) if _is_count(str(told)) else 0


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
