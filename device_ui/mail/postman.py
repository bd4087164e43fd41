"""When to try, when to stop, when to wait: one thread that empties the ledger of what is still to be mailed.

How a mail is sent is read when it is sent, so that mending the settings frees what waits. A refused login stops every
attempt until the settings change, across restarts too: retries lock accounts. Waiting is on the monotonic clock and
in memory: a retry writes nothing to flash.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from device_ui.errors import CannotOpen, Damaged, NoKey, NotReadable, NotStored
from device_ui.mail.catalog import Catalog
from device_ui.mail.outbox import Delivery, Event, Outbox
from device_ui.settings.recipients import Recipient, addresses
from device_ui.settings.smtp import SmtpSettings
from device_ui.settings.store import Store

log = logging.getLogger(__name__)

# Seconds between two tries: from 30 to an hour, each with up to a quarter taken off so that devices that lost the
# same server do not come back to it in step. The first delay is a little over 30 to leave room for that.
RETRY_MINIMUM, RETRY_MAXIMUM, RETRY_FIRST, JITTER = 30.0, 3600.0, 40.0, 0.25
# RFC 5321, 4.5.4.1: give up after four to five days.
GIVE_UP_SECONDS, MARK_SECONDS = 5 * 24 * 3600.0, 3600.0
# Seconds after which a waiting postman looks by itself, should a word about new settings have been lost.
LOOK_AGAIN = 60.0
# Mails in a row that a server defers before the session is given up: it means them all.
DEFERRALS_MAXIMUM = 5
DROPPED = "dropped"
LOGIN_REFUSED = "login_refused"


class Sender(Protocol):
    """What the postman needs of `courier.Courier`."""

    @property
    def is_open(self) -> bool: ...
    @property
    def local_address(self) -> str: ...
    def open(self) -> None: ...
    def deliver(self, recipients: Sequence[str], message: bytes) -> dict[str, Any]: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Problem:
    """Why no mail goes out. `word` is one of ``unset``, ``damaged``, ``unreadable``, ``password``, ``login refused``,
    ``server``, ``storage``, ``fault``; `step` and `reply` are the courier's."""

    word: str = ""
    step: str = ""
    reply: str = ""


@dataclass
class Tries:
    """How often something was tried, and when (monotonic seconds) it may be tried again."""

    count: int = 0
    next: float = 0.0

    def again(self, now: float, chance: float) -> None:
        """Count a failed try; `chance` is a random number from 0 to 1."""
        self.next = now + delay(self.count, chance)
        self.count += 1


def delay(count: int, chance: float) -> float:
    """Seconds to wait after `count` + 1 failed tries."""
    longest = min(RETRY_FIRST * 2.0 ** min(count, 20), RETRY_MAXIMUM)
    return max(RETRY_MINIMUM, longest * (1 - JITTER * chance))


class Postman:
    """The thread's work. `connect` makes a courier from settings and password; `unseal` opens a password."""

    def __init__(
        self,
        outbox: Outbox,
        catalog: Catalog,
        store: Store,
        device: Mapping[str, str],
        connect: Callable[[SmtpSettings, str], Sender],
        unseal: Callable[[SmtpSettings], str],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
        listed: Callable[[], Sequence[Recipient]] = tuple,
    ) -> None:
        self._outbox, self._catalog, self._store, self._device = outbox, catalog, store, device
        self._connect, self._unseal, self._listed = connect, unseal, listed
        self._clock, self._wall, self._chance = clock, wall, chance
        self._bell = threading.Event()
        self._stopping = self._changed = False
        self._server = Tries()
        self._tries: dict[int, Tries] = {}
        self._unrecorded: dict[int, tuple[list[Delivery], bool]] = {}
        self._marks: deque[tuple[float, int]] = deque()
        # Remembered here as well as in the ledger: a full flash must not make us ask the server again.
        self._refused: dict[str, str] = {}
        self.problem = Problem()

    def state(self) -> dict[str, Any]:
        """How the mail path is, for the page and the console."""
        problem = self.problem
        waiting = self._outbox.waiting_count()
        return {"problem": problem.word, "step": problem.step, "reply": problem.reply, "waiting": waiting}

    def wake(self) -> None:
        """There is a new event."""
        self._bell.set()

    def settings_changed(self) -> None:
        """Somebody pressed Update: whatever held mail back, try now, once."""
        self._changed = True
        self._bell.set()

    def stop(self) -> None:
        """Let `run` come to its end; a mail under way is finished or given up within its deadline."""
        self._stopping = True
        self._bell.set()

    def run(self) -> None:
        """Work until `stop`."""
        while not self._stopping:
            try:
                wait = self.round()
            except Exception:
                log.exception("the postman stumbled; mail is tried again later")
                self.problem = Problem("fault")
                wait = RETRY_FIRST
            self._bell.wait(wait)
            self._bell.clear()

    def round(self) -> float | None:
        """Send what can be sent now. Seconds until it is worth looking again; None: when somebody wakes us."""
        if self._changed:
            self._changed = False
            self._forget()
        try:
            self._record_late()
            return self._round()
        except NotStored as error:
            self.problem = Problem("storage", reply=error.reason)
            return RETRY_FIRST

    def _round(self) -> float | None:
        settings, revision, problem = self._look()
        if problem or settings is None:
            self.problem = problem or Problem("unset")
            self._marks.clear()  # waiting for a person does not count towards giving up
            return LOOK_AGAIN
        if self.problem.word not in ("", "server"):
            self.problem = Problem()
        events = [event for event in self._outbox.waiting() if event.number not in self._unrecorded]
        if not events:
            return None if not self._unrecorded else RETRY_FIRST
        self._give_up(events)
        return self._send_due(settings, revision)

    def _look(self) -> tuple[SmtpSettings | None, str, Problem | None]:
        try:
            settings, revision = self._store.read()
        except Damaged as damage:
            return None, "", Problem("damaged", reply=damage.reason)
        except NotReadable as error:
            return None, "", Problem("unreadable", reply=error.reason)
        refused = self._refused or json.loads(self._outbox.facts().get(LOGIN_REFUSED, "{}"))
        if settings and refused.get("revision") == revision:
            return settings, revision, Problem("login refused", "login", refused.get("reply", ""))
        return settings, revision, None

    def _send_due(self, settings: SmtpSettings, revision: str) -> float | None:
        now = self._clock()
        if self._server.next > now:
            return self._server.next - now
        if self._next_due(now) > now:
            return self._next_due(now) - now
        try:
            password = self._unseal(settings) if settings.sealed else ""
        except (NoKey, CannotOpen, Damaged, NotReadable) as error:
            self.problem = Problem("password", reply=str(error))
            return LOOK_AGAIN
        self._session(settings, revision, password)
        return max(0.0, self._next_due(self._clock()) - self._clock())

    def _next_due(self, now: float) -> float:
        waiting = [self._tries.get(event.number, Tries()).next for event in self._outbox.waiting(1000)]
        return max(min(waiting, default=now + LOOK_AGAIN), self._server.next)

    def _session(self, settings: SmtpSettings, revision: str, password: str) -> None:
        # Imported here: a hook that has no mail to send needs neither ssl nor smtplib.
        from device_ui.mail.courier import Stopped

        courier = self._connect(settings, password)
        try:
            courier.open()
            self._deliver_all(courier, settings)
        except Stopped as stopped:
            log.warning("no mail: %s", stopped)
            if stopped.login_refused:
                self._refused = {"revision": revision, "reply": stopped.reply}
                self.problem = Problem("login refused", stopped.step, stopped.reply)
                self._outbox.keep_fact(LOGIN_REFUSED, json.dumps(self._refused))
            else:
                self._server_failed(stopped.step, stopped.reply or stopped.problem)
        finally:
            courier.close()

    def _deliver_all(self, courier: Sender, settings: SmtpSettings) -> None:
        deferrals = after = 0
        while courier.is_open and not self._stopping and not self._changed:
            event = self._next_event(after)
            if event is None:
                return
            after = event.number
            later = self._deliver(courier, event, settings)
            deferrals = deferrals + 1 if later else 0
            if later and (deferrals >= DEFERRALS_MAXIMUM or later.step == "sender" or not courier.is_open):
                self._server_failed(later.step, later.reply)
                return

    def _next_event(self, after: int) -> Event | None:
        now = self._clock()
        while True:
            batch = self._outbox.waiting(100, after)
            for event in batch:
                if event.number not in self._unrecorded and self._tries.get(event.number, Tries()).next <= now:
                    return event
            if not batch:
                return None
            after = batch[-1].number

    def _deliver(self, courier: Sender, event: Event, settings: SmtpSettings) -> Problem | None:
        """Send one mail to whoever has no final verdict yet; what kept it back, if anything did."""
        from device_ui.mail.message import compose

        everybody = addresses(event.type, self._listed(), settings)
        final = {each.recipient for each in self._outbox.deliveries(event.number)}
        open_ = [each for each in everybody if each not in final]
        outcomes: Mapping[str, Any] = {}
        if open_:
            device = {**self._device, "address": courier.local_address}
            mail = compose(event, self._catalog[event.code], settings, everybody, device, self._outbox.id)
            outcomes = courier.deliver(open_, mail)
        later = [each for each in outcomes.values() if each.verdict == "try later"]
        ended = [
            Delivery(recipient, each.verdict, each.step, each.reply, self._wall())
            for recipient, each in outcomes.items()
            if each not in later
        ]
        self._record(event.number, ended, done=not later)
        if any(each.verdict == "delivered" for each in ended):
            self._server, self.problem = Tries(), Problem()
        for each in ended:
            log.info("event %d for %s: %s %s", event.number, each.recipient, each.verdict, each.reply)
        if not later:
            self._tries.pop(event.number, None)
            return None
        self._tries.setdefault(event.number, Tries()).again(self._clock(), self._chance())
        self.problem = Problem("server", later[0].step, later[0].reply)
        return self.problem

    def _record(self, number: int, ended: list[Delivery], *, done: bool) -> None:
        if not ended and not done:
            return  # a retry writes nothing
        try:
            self._outbox.record(number, ended, done=done)
        except NotStored:
            # It went out; if flash does not take that now, it is kept here so that it does not go out twice.
            self._unrecorded[number] = (ended, done)
            raise

    def _record_late(self) -> None:
        for number, (ended, done) in list(self._unrecorded.items()):
            self._outbox.record(number, ended, done=done)
            del self._unrecorded[number]

    def _server_failed(self, step: str, reply: str) -> None:
        self._server.again(self._clock(), self._chance())
        self.problem = Problem("server", step, reply)

    def _forget(self) -> None:
        self._server = Tries()
        self._tries.clear()
        self._marks.clear()
        self._refused = {}
        self._outbox.keep_fact(LOGIN_REFUSED, None)

    def _give_up(self, events: Sequence[Event]) -> None:
        """Drop what has waited for five days of trying.

        Told by marks of the highest number, hour by hour on the monotonic clock: neither a wrong wall clock nor a
        restart can make a mail too old, and nothing is written while it waits.
        """
        now = self._clock()
        if not self._marks or now - self._marks[-1][0] >= MARK_SECONDS:
            self._marks.append((now, events[-1].number))
        expired = 0
        while self._marks and now - self._marks[0][0] > GIVE_UP_SECONDS:
            expired = self._marks.popleft()[1]
        reply = f"given up after 5 days: {self.problem.step} {self.problem.reply}".strip()
        for event in events:
            if event.number <= expired:
                self._outbox.record(
                    event.number, [Delivery("", DROPPED, self.problem.step, reply, self._wall())], done=True
                )
