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

# Seconds after its last failure for which a client is remembered, and the most clients in the file, of some 60 bytes each.
REMEMBERED, STORED_MAXIMUM = 3600.0, 64
# Addresses that logged in before, the latest last.
KNOWN_MAXIMUM = 16
# Seconds between two writes: 144 a day at most, so that a guesser cannot wear out the flash.
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

    clients: dict[str, Guesses] = field(default_factory=dict)
    total: float = 0.0
    counted: float = 0.0
    known: dict[str, None] = field(default_factory=dict)

    def of(self, client: str, now: float) -> Guesses:
        """Return a client's failures, none when they are too old."""
        found = self.clients.get(client)
        return found if found and now - found.last < REMEMBERED else Guesses(0, now)

    def remembered(self, now: float) -> dict[str, int]:
        """Return the number of failures of each client whose failures are not too old."""
        return {name: each.count for name, each in self.clients.items() if now - each.last < REMEMBERED}


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
        # A damaged file must not lock the owner out, nor keep the pages from starting.
        except (DeviceUIError, ValueError) as error:
            log.warning("failed logins not read, earlier ones are forgotten: %s", error)
            return Failures()
        written = _time(values.get("written"), now)
        # Restarts in a row do not write more often. A time in the future is from before a reboot: then a write is allowed at once.
        if "written" in values and _count(values["written"]) <= now:
            self._written = written
        # Two objects: the caller counts in the second, and `is_current` compares it with the first.
        self._stored = Failures(_clients(values, now), _total(values), written, _known(values))
        return Failures(_clients(values, now), _total(values), written, _known(values))

    def is_current(self, failures: Failures, now: float) -> bool:
        """Return whether the file is up to date; without a path there is nothing to store."""
        # By counts and not by times, and without the order: neither is worth a write.
        are_same = failures.remembered(now) == self._stored.remembered(now)
        return self._path is None or (are_same and set(failures.known) == set(self._stored.known))

    def draft(self, failures: Failures, now: float) -> bytes:
        """Return the file's next bytes, with the clients of the most failures; empty while the last write is too new."""
        if self._path is None or now - self._written < WRITE_SECONDS:
            return b""
        self._written = now
        # The clients with the most failures wait longest, so for them a restart would gain most.
        worst = sorted(failures.remembered(now), key=lambda name: -failures.clients[name].count)[:STORED_MAXIMUM]
        # Copies: a failure that is counted during the write is not in the file.
        clients = {name: replace(failures.clients[name]) for name in worst}
        self._stored = Failures(clients, known=dict(failures.known))
        values: Mapping[str, str | int] = {
            "written": int(now),
            "failures": int(failures.total),
            # The name of the value is that of older versions.
            "visitors": " ".join(f"{name}={each.count}@{int(each.last)}" for name, each in clients.items()),
            "known": " ".join(failures.known),
        }
        return toml_file.encode(COMMENT, values)

    def write(self, draft: bytes) -> bool:
        """Store a draft and return True; on failure treat the file as empty and return False."""
        try:
            files.replace(self._path or Path(), draft, 0o600)
        except DeviceUIError as error:
            log.warning("failed logins not stored: %s", error)
            # So that `is_current` is False until a later write succeeds.
            self._stored = Failures()
            return False
        return True


def _clients(values: Mapping[str, object], now: float) -> dict[str, Guesses]:
    # From the last "=": an IPv6 network contains colons and a slash, but no name contains "@".
    words = (each.rpartition("=") for each in str(values.get("visitors", "")).split()[:STORED_MAXIMUM])
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
    # Not int() alone: it accepts signs, blanks, underscores and the digits of other scripts, at any length.
    return text.isascii() and text.isdigit() and len(text) <= 9
