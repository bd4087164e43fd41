"""Failed logins in a file, so that neither a restart nor an idle exit resets the delays of a guesser.

Times are those of the monotonic clock, which all processes since the system's start share; the wall clock, which can
jump, is never read. After a reboot they mean nothing, and every failure counts as having happened at the load.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from device_ui.errors import DeviceUIError
from device_ui.storage import files, toml_file

log = logging.getLogger(__name__)

# Seconds after its last failure for which a client is remembered, and the most clients in the file.
REMEMBERED, NOTED_MAXIMUM = 3600.0, 64
# Addresses that logged in before, the latest last.
KNOWN_MAXIMUM = 16
# Seconds between two writes: 144 a day at most.
WRITE_SECONDS = 600.0
COMMENT = "device-ui: failed logins, and where logins came from, so that a restart forgets neither. Safe to delete."


@dataclass
class Guesses:
    """One client's failures: their `count`, and when the last was (monotonic seconds)."""

    count: int
    last: float


@dataclass
class Failures:
    """Failed logins: by client, the latest last; in all (`total`, as of `counted`); and the addresses that logged in."""

    visitors: dict[str, Guesses] = field(default_factory=dict)
    total: float = 0.0
    counted: float = 0.0
    known: dict[str, None] = field(default_factory=dict)

    def of(self, client: str, now: float) -> Guesses:
        """Return a client's failures, none when they are too old."""
        found = self.visitors.get(client)
        return found if found and now - found.last < REMEMBERED else Guesses(0, now)

    def remembered(self, now: float) -> dict[str, int]:
        """Return the number of failures of each client whose failures are not too old."""
        return {name: each.count for name, each in self.visitors.items() if now - each.last < REMEMBERED}


class FailureStore:
    """The file of `Failures`; without a path nothing is stored. A file that cannot be read or written is logged."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._written = float("-inf")
        self._stored = Failures()

    def load(self, now: float) -> Failures:
        """Return the stored failures as of `now`; none of them is later than that."""
        try:
            raw = files.read(self._path) if self._path else None
            values = toml_file.decode(raw) if raw is not None else {}
        except (DeviceUIError, ValueError) as error:
            log.warning("failed logins not read, earlier ones are forgotten: %s", error)
            return Failures()
        written = _time(values.get("written"), now)
        if "written" in values and _count(values["written"]) <= now:
            self._written = written
        self._stored = Failures(_visitors(values, now), _total(values), written, _known(values))
        return Failures(_visitors(values, now), _total(values), written, _known(values))

    def is_current(self, failures: Failures, now: float) -> bool:
        """Return whether the file is up to date; without a path there is nothing to store."""
        are_same = failures.remembered(now) == self._stored.remembered(now)
        return self._path is None or (are_same and set(failures.known) == set(self._stored.known))

    def draft(self, failures: Failures, now: float) -> bytes:
        """Return the file's next bytes, with the clients of the most failures; empty while the last write is too new."""
        if self._path is None or now - self._written < WRITE_SECONDS:
            return b""
        self._written = now
        worst = sorted(failures.remembered(now), key=lambda name: -failures.visitors[name].count)[:NOTED_MAXIMUM]
        visitors = {name: replace(failures.visitors[name]) for name in worst}
        self._stored = Failures(visitors, known=dict(failures.known))
        values: Mapping[str, str | int] = {
            "written": int(now),
            "failures": int(failures.total),
            "visitors": " ".join(f"{name}={each.count}@{int(each.last)}" for name, each in visitors.items()),
            "known": " ".join(failures.known),
        }
        return toml_file.encode(COMMENT, values)

    def write(self, draft: bytes) -> bool:
        """Store a draft and return True; on failure treat the file as empty and return False."""
        try:
            files.replace(self._path or Path(), draft, 0o600)
        except DeviceUIError as error:
            log.warning("failed logins not stored: %s", error)
            self._stored = Failures()
            return False
        return True


def _visitors(values: Mapping[str, object], now: float) -> dict[str, Guesses]:
    words = (each.rpartition("=") for each in str(values.get("visitors", "")).split()[:NOTED_MAXIMUM])
    fields = ((name, *field.partition("@")[::2]) for name, _, field in words)
    return {name: Guesses(int(count), _time(last, now)) for name, count, last in fields if _is_count(count)}


def _known(values: Mapping[str, object]) -> dict[str, None]:
    return dict.fromkeys(str(values.get("known", "")).split()[:KNOWN_MAXIMUM])


def _total(values: Mapping[str, object]) -> float:
    return float(_count(values.get("failures")))


def _time(value: object, now: float) -> float:
    """Return a stored time of this system start; `now` for one in the future (from before a reboot), or no number."""
    return min(float(_count(value)), now) if _is_count(str(value)) else now


def _count(value: object) -> int:
    return int(str(value)) if _is_count(str(value)) else 0


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
