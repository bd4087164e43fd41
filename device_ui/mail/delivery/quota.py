"""Limit the tests and the refused logins of each user. The hook counts them, so a compromised web process cannot.

A user is the uid of SO_PEERCRED, so the tests of one user never use up those of another. The counts are in the database, on
the clock that runs since boot: a restart of the hook gives nothing back.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping

from device_ui.mail.clock import Clock
from device_ui.mail.outbox.outbox import Outbox
from device_ui.rate_limit import TokenBucket

METADATA = "quota"
# Tests at hand, and seconds until one more: as many as a person needs, too few to try ports or passwords by the thousand.
TESTS, TEST_SECONDS = 10, 30.0
# Refused logins at hand, and seconds until one more. Together with as many for the mail of new settings they are fewer than
# the ten after which Microsoft locks an account, and further apart than the 15 minutes in which its baseline counts them.
LOGINS, LOGIN_SECONDS = 4, 1200.0
# The user of mail that no request caused.
MAIL = "mail"
User = int | str


class Quota:
    """The counts of one device. Any thread may call. `tests` is how many one user may make one after another."""

    def __init__(self, outbox: Outbox, clock: Clock, tests: int = TESTS) -> None:
        self._outbox, self._clock = outbox, clock
        self._limits = {"tests": (tests, TEST_SECONDS), "logins": (LOGINS, LOGIN_SECONDS)}
        self._lock = threading.Lock()
        self._buckets: dict[str, TokenBucket] | None = None

    def wait(self, what: str, user: User) -> int:
        """Return whole seconds until this user has one of ``tests`` or ``logins``; 0 when there is one. Raises `NotStored`."""
        with self._lock:
            return self._bucket(what, user).wait()

    def take(self, what: str, user: User) -> int:
        """Take one and return 0, once that is on flash; or return whole seconds until there is one. Raises `NotStored`."""
        with self._lock:
            # Taken before it is stored: on a full flash a test counts in memory all the same.
            wait = self._bucket(what, user).take()
            if not wait:
                self._store()
            return wait

    def _bucket(self, what: str, user: User) -> TokenBucket:
        if self._buckets is None:
            self._buckets = self._read()
        return self._buckets.setdefault(f"{what} {user}", self._new(what))

    def _new(self, what: str, full: float = 0.0) -> TokenBucket:
        return TokenBucket(*self._limits[what], self._since_boot, full)

    def _since_boot(self) -> float:
        return self._clock.since_boot[1]

    def _read(self) -> dict[str, TokenBucket]:
        """Return the buckets of the database; after a reboot no time is taken to have passed."""
        boot_id, now = self._clock.since_boot
        try:
            stored = json.loads(self._outbox.metadata().get(METADATA, "{}"))
            # The clock since boot begins at 0 again: the moments of the earlier boot are moved to this one.
            ahead = 0.0 if stored.get("boot") == boot_id else now - float(stored.get("now", now))
            full = {str(name): float(moment) + ahead for name, moment in stored.get("full", {}).items()}
        except (ValueError, TypeError, AttributeError):  # damaged: as if nothing was used
            return {}
        known = {name: name.partition(" ")[0] for name in full}
        return {name: self._new(what, full[name]) for name, what in known.items() if what in self._limits}

    def _store(self) -> None:
        boot_id, now = self._clock.since_boot
        # A full bucket is as good as none: users whose tests were long ago are not stored.
        used: Mapping[str, float] = {
            name: bucket.full for name, bucket in (self._buckets or {}).items() if not bucket.is_full()
        }
        self._outbox.set_metadata(METADATA, json.dumps({"boot": boot_id, "now": now, "full": used}))
