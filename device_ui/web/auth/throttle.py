"""A growing delay after failed logins: for each client, and for the one account there is. No thread sleeps.

A client is an address, the /64 of an IPv6 address, or a browser with a device cookie. While many addresses guess
(`ATTACK_FAILURES` recent failures), two more rules hold: clients that failed before share one pause between their
tries, and few passwords are checked at a time. Neither applies to a browser or an address that logged in before, so that
a botnet cannot lock the owner out. The local network has a pause of its own, and one check that the Internet cannot take.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from device_ui.web import client_address
from device_ui.web.auth.failure_log import KNOWN_MAXIMUM, STORED_MAXIMUM, FailureStore, Guesses

# A few failures are typing errors; then the delay doubles from one second to a minute.
FREE_FAILURES, DELAY_FIRST, DELAY_MAXIMUM = 3, 1.0, 60.0
# Clients that are remembered (200 bytes each).
CLIENTS_MAXIMUM = 4000
# Recent failures of all clients together, and the pause (seconds) between two tries of clients that failed before.
PAUSES = ((80, 2.0), (50, 1.0), (20, 0.5))
ATTACK_FAILURES = PAUSES[-1][0]
# One recent failure is forgotten in so many seconds; above the maximum none is counted.
FORGOTTEN, FAILURES_MAXIMUM = 6.0, 100
# Under attack: tries of a client before it shares the pause. An owner at a new address has these.
TRIES_BEFORE_PAUSE = 2
# Under attack: checks under way, of anyone, at which a client of the Internet waits, and one of the local network. One check is
# thus left to the local network, and half of the web server's threads to pages. A client that logged in before waits for none.
REMOTE_CHECKS, CHECKS_MAXIMUM = 1, 2
# Seconds until a client tries again that found every check taken; a check takes a fraction of one.
BUSY_WAIT = 1.0
# Prefix of a client's name that is a browser; no address begins so.
BROWSER = "browser-"
# Failures of one client that are written at once; fewer are written when the process ends.
STORED_FAILURES = 6


class Throttle:
    """Failures by client and in all, on the monotonic clock; `path`, if given, is the file that survives a restart.

    After a restart no client waits longer than `DELAY_MAXIMUM`, whatever the file and the clock say. A file that cannot
    be read or written is logged and changes nothing.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, path: Path | None = None) -> None:
        self._monotonic, self._store = monotonic, FailureStore(path)
        self._lock = threading.Lock()
        self._failures = self._store.load(monotonic())
        # When the next client that failed before may try, of the local network (True) and of the Internet (False).
        self._next = {True: 0.0, False: 0.0}
        self._checks = 0

    def attempt(self, address: str, browser: str = "") -> float:
        """Return the seconds until this client may try; 0: it may now, and the try is counted as a failure.

        `browser` is the name in a valid device cookie: it is then the client. Where its address logged in before and the
        browser must wait, the address is: a copied cookie must not lock out its owner.

        The look and the count are one step, which `succeeded` takes back: guesses that are sent at once count one by
        one. After 0 the caller calls `finished` when the check is over, whatever its result.
        """
        with self._lock:
            now = self._monotonic()
            client = self._client(address, browser, now)
            guesses = self._failures.of(client, now)
            wait = max(0.0, _wait(guesses, now)) or self._wait_of_all(client, guesses, now)
            if wait > 0:
                return wait
            self._count(client, guesses, now)
            self._checks += 1
            is_worth_a_write = guesses.count >= STORED_FAILURES or self._failures.total >= ATTACK_FAILURES
            draft = self._store.draft(self._failures, now) if is_worth_a_write else b""
        # Without the lock: an fsync on slow flash takes seconds, and other logins would wait for it.
        if draft:
            self._store.write(draft)
        return 0.0

    def finished(self) -> None:
        """End a try that `attempt` allowed."""
        with self._lock:
            self._checks -= 1

    def succeeded(self, address: str, browser: str = "") -> None:
        """Forget the failures of this address and this browser, and remember the address: both are the owner's."""
        network = client_address.network(address)
        failures = self._failures
        with self._lock:
            for each in {network, _name(address, browser)}:
                failures.clients.pop(each, None)
            failures.total = max(0.0, failures.total - 1)
            # All clients of a proxy that reports no address share this one: it must not become known.
            if network != client_address.UNKNOWN:
                failures.known.pop(network, None)
                failures.known = dict.fromkeys([*failures.known, network][-KNOWN_MAXIMUM:])

    def settle(self) -> bool:
        """Write what the file does not hold yet; return whether the process may end without forgetting a failure.

        False while more is known than the file holds, the last write was too short ago, or it cannot be written.
        """
        with self._lock:
            now = self._monotonic()
            if self._store.is_current(self._failures, now):
                return True
            # The file cannot hold them all, so this process stays until enough are forgotten.
            if len(self._failures.remembered(now)) > STORED_MAXIMUM:
                return False
            draft = self._store.draft(self._failures, now)
        return bool(draft) and self._store.write(draft)

    def _client(self, address: str, browser: str, now: float) -> str:
        """Return the name of the client that a try counts for."""
        name, network = _name(address, browser), client_address.network(address)
        must_wait = _wait(self._failures.of(name, now), now) > 0
        return network if must_wait and network in self._failures.known else name

    def _wait_of_all(self, client: str, guesses: Guesses, now: float) -> float:
        """Return the seconds that the failures of all clients together make this one wait."""
        failures = self._failures
        # A leaky bucket, computed when it is needed: one failure less every `FORGOTTEN` seconds.
        failures.total = max(0.0, failures.total - (now - failures.counted) / FORGOTTEN)
        failures.counted = now
        pause = next((seconds for count, seconds in PAUSES if failures.total >= count), 0.0)
        if not pause or client in failures.known or client.startswith(BROWSER):
            return 0.0
        is_local = client_address.is_local(client)
        if self._checks >= (CHECKS_MAXIMUM if is_local else REMOTE_CHECKS):
            return BUSY_WAIT
        if guesses.count < TRIES_BEFORE_PAUSE:
            return 0.0
        wait = self._next[is_local] - now
        # The pause begins with a try: a client that is asked to wait and does not return delays no other.
        if wait <= 0:
            self._next[is_local] = now + pause
        return max(0.0, wait)

    def _count(self, client: str, guesses: Guesses, now: float) -> None:
        clients = self._failures.clients
        clients.pop(client, None)  # the latest come last
        guesses.count, guesses.last = guesses.count + 1, now
        clients[client] = guesses
        while len(clients) > CLIENTS_MAXIMUM:
            del clients[next(iter(clients))]
        # Bounded: after the end of an attack the rules for it end within ten minutes.
        self._failures.total = min(self._failures.total + 1, FAILURES_MAXIMUM)


def _name(address: str, browser: str) -> str:
    return BROWSER + browser if browser else client_address.network(address)


def _wait(guesses: Guesses, now: float) -> float:
    return guesses.last + _delay(guesses.count) - now


def _delay(count: int) -> float:
    if count < FREE_FAILURES:
        return 0.0
    # The exponent is bounded, too: a float overflows at 2 ** 1024.
    return float(min(DELAY_FIRST * 2.0 ** min(count - FREE_FAILURES, 16), DELAY_MAXIMUM))
