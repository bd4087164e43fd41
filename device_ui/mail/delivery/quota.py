"""How much of the network each user of the socket may cause: counted by the hook, which a page that was taken over cannot bend.

A user is the uid that the kernel vouches for, so that the tests of one never use up those of another. The counts are in
the ledger, on the clock that runs since the device's start: a hook that ends and starts again gives nothing back.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping

from device_ui.mail.clock import Clock
from device_ui.mail.outbox.outbox import Outbox
from device_ui.rate_limit import TokenBucket

FACT = "quota"
# Seconds that make up for one test mail: as many as a person tries, and too few to try ports or passwords by the thousand.
TESTS, TEST_SECONDS = 10, 30.0
# Logins that a server refused, and the seconds that make up for one. With as many for the mail of new settings these are
# fewer than the ten after which Microsoft locks an account, and further apart than the quarter of an hour in which its
# baseline counts them.
LOGINS, LOGIN_SECONDS = 4, 1200.0
# The user of mail that goes out by itself, after no request.
MAIL = "mail"
User = int | str


class Quota:
    """The counts of one device. Any thread may call. `tests` are those that one user may make one after another."""

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
            wait = self._bucket(what, user).take()
            if not wait:
                self._keep()
            return wait

    def _bucket(self, what: str, user: User) -> TokenBucket:
        if self._buckets is None:
            self._buckets = self._stored()
        return self._buckets.setdefault(f"{what} {user}", self._made(what))

    def _made(self, what: str, full: float = 0.0) -> TokenBucket:
        return TokenBucket(*self._limits[what], self._since_boot, full)

    def _since_boot(self) -> float:
        return self._clock.since_boot[1]

    def _stored(self) -> dict[str, TokenBucket]:
        """Return the buckets that the ledger holds; after another start of the device no time is taken to have passed."""
        boot_id, now = self._clock.since_boot
        try:
            found = json.loads(self._outbox.metadata().get(FACT, "{}"))
            ahead = 0.0 if found.get("boot") == boot_id else now - float(found.get("now", now))
            full = {str(name): float(each) + ahead for name, each in found.get("full", {}).items()}
        except (ValueError, TypeError, AttributeError):  # damaged: as if nothing was used up
            return {}
        known = {name: name.partition(" ")[0] for name in full}
        return {name: self._made(what, full[name]) for name, what in known.items() if what in self._limits}

    def _keep(self) -> None:
        boot_id, now = self._clock.since_boot
        used: Mapping[str, float] = {
            name: each.full for name, each in (self._buckets or {}).items() if not each.is_full()
        }
        self._outbox.set_metadata(FACT, json.dumps({"boot": boot_id, "now": now, "full": used}))
