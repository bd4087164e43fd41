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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from device_ui.errors import CannotOpen, Damaged, NoKey, NotReadable, NotStored
from device_ui.mail.catalog import TYPES, Catalog
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
# Mails in a row that a server defers for everybody before the session is given up: it means them all.
DEFERRALS_MAXIMUM = 5
# Events read from the ledger at a time.
BATCH = 100
DROPPED = "dropped"
LOGIN_REFUSED = "login_refused"
# What stands until mail goes out again; every other problem is looked for anew in each round.
LASTING = ("", "server", "fault", "refused")


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
    ``server``, ``refused`` (the last mail, for good), ``storage``, ``fault``; `step` and `reply` are the courier's; `advice`
    is one sentence that says what a person can change."""

    word: str = ""
    step: str = ""
    reply: str = ""
    advice: str = ""


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
    """The thread's work. `connect` makes a courier from settings and password; `unseal` opens a password.

    `fits` tells, without opening it, whether the stored password was sealed to the key that this device has.
    """

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
        fits: Callable[[SmtpSettings], bool] = lambda _: True,
    ) -> None:
        self._outbox, self._catalog, self._store, self._device = outbox, catalog, store, device
        self._connect, self._unseal, self._listed, self._fits = connect, unseal, listed, fits
        self._clock, self._wall, self._chance = clock, wall, chance
        self._bell = threading.Event()
        self._stopping = self._changed = False
        self._server = Tries()
        self._tries: dict[int, Tries] = {}
        self._unrecorded: dict[int, tuple[list[Delivery], bool]] = {}
        self._marks: deque[tuple[float, int]] = deque()
        # The login that was refused: `revision` of the settings, `reply`. What stands here counts, the ledger follows:
        # a full flash must neither make us ask the server again nor undo an Update. None: not read yet.
        self._refused: dict[str, str] | None = None
        self._revision: str | None = None
        self.problem = _last_loss(outbox)
        # What `self.problem` was before something passing, such as a ledger that could not be read once, took its place.
        self._standing = Problem()

    def state(self) -> dict[str, Any]:
        """How the mail path is, for the page and the console. Raises `NotStored` when the ledger cannot be read."""
        problem = self.problem
        return {
            "problem": problem.word,
            "step": problem.step,
            "reply": problem.reply,
            "advice": problem.advice,
            "waiting": self._outbox.waiting_count(),
            "set_aside": self._outbox.set_aside.name if self._outbox.set_aside else "",
        }

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
                self._failed(Problem("fault"))
                self._marks.clear()  # the fault is ours: no mail is given up for it
                wait = LOOK_AGAIN
            self._bell.wait(wait)
            self._bell.clear()

    def round(self) -> float | None:
        """Send what can be sent now. Seconds until it is worth looking again; None: when somebody wakes us."""
        try:
            if self._changed:
                self._changed = False
                self._retry()
            self._record_late()
            return self._round()
        except NotStored as error:
            self._interrupted(Problem("storage", reply=error.reason))
            self._marks.clear()
            return RETRY_FIRST

    def _round(self) -> float | None:
        settings, revision, problem = self._look()
        self._remember_refusal()
        if problem or settings is None:
            self._interrupted(problem or Problem("unset"))
            self._marks.clear()  # waiting for a person does not count towards giving up
            return LOOK_AGAIN
        if self.problem.word not in LASTING:
            self.problem = self._standing
        self._settle_unwanted(settings)
        self._give_up()
        if not self._outbox.waiting_count():
            return None
        # A word about new settings may be lost (a hook that was just starting): never wait longer than this unseen.
        return min(self._send_due(settings, revision), LOOK_AGAIN)

    def _interrupted(self, problem: Problem) -> None:
        if self.problem.word in LASTING:
            self._standing = self.problem
        self.problem = problem

    def _settle_unwanted(self, settings: SmtpSettings) -> None:
        """An event that no recipient wants is done: it needs no server."""
        listed = self._listed()
        if all(addresses(kind, listed, settings) for kind in TYPES):
            return
        after = 0
        while batch := self._outbox.waiting(BATCH, after):
            after = batch[-1].number
            for event in batch:
                if not addresses(event.type, listed, settings):
                    self._record(event.number, [], done=True)

    def _look(self) -> tuple[SmtpSettings | None, str, Problem | None]:
        try:
            settings, revision = self._store.read()
        except Damaged as damage:
            return None, "", Problem("damaged", reply=damage.reason)
        except NotReadable as error:
            return None, "", Problem("unreadable", reply=error.reason)
        if self._refused is None:
            self._refused = _refusal(self._outbox.facts().get(LOGIN_REFUSED, "{}"))
        if self._revision not in (None, revision) or self._refused.get("revision", revision) != revision:
            self._forget()
        self._revision = revision
        if settings and self._refused:
            return (
                settings,
                revision,
                Problem("login refused", "login", self._refused.get("reply", ""), self._refused.get("advice", "")),
            )
        if settings and not self._fits(settings):
            return settings, revision, Problem("password", reply="it was sealed to another key")
        return settings, revision, None

    def _send_due(self, settings: SmtpSettings, revision: str) -> float:
        wait = self._wait()
        if wait > 0:
            return wait
        try:
            password = self._unseal(settings) if settings.sealed else ""
        except (NoKey, CannotOpen, Damaged, NotReadable) as error:
            self._interrupted(Problem("password", reply=str(error)))
            self._marks.clear()
            return LOOK_AGAIN
        self._session(settings, revision, password)
        return self._wait()

    def _wait(self) -> float:
        """Seconds until something may be tried: at once when there is an event that never was."""
        untried = self._outbox.waiting_count() > len(self._tries)
        due = 0.0 if untried else min((tries.next for tries in self._tries.values()), default=0.0)
        return max(0.0, max(due, self._server.next) - self._clock())

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
                advice = self._advice(stopped.step, stopped.problem, stopped.reply, settings)
                self.problem = Problem("login refused", stopped.step, stopped.reply, advice)
                self._refused["advice"] = advice
                self._remember_refusal()
            else:
                advice = self._advice(stopped.step, stopped.problem, stopped.reply, settings)
                self._failed(Problem("server", stopped.step, stopped.reply or stopped.problem, advice))
        finally:
            courier.close()

    def _deliver_all(self, courier: Sender, settings: SmtpSettings) -> None:
        deferrals = 0
        for event in self._due():
            if not courier.is_open or self._stopping or self._changed:
                return
            try:
                later, moved = self._deliver(courier, event, settings)
            except NotStored:
                raise
            except Exception:  # one event that cannot be mailed must not hold back the others
                log.exception("event %d could not be mailed; it is tried again later", event.number)
                later, moved = self._put_off(event.number, Problem("fault")), False
            deferrals = deferrals + 1 if later and not moved else 0
            if later and (deferrals >= DEFERRALS_MAXIMUM or later.step == "sender" or not courier.is_open):
                self._failed(later)
                return

    def _due(self) -> Iterator[Event]:
        """What may be tried now, oldest first; what was deferred before comes after what never was tried.

        Otherwise a few mails that a server defers for days would use up every session before the others get a turn.
        """
        after = 0
        while batch := self._outbox.waiting(BATCH, after):
            yield from (event for event in batch if event.number not in self._tries)
            after = batch[-1].number
        for number in sorted(self._tries, key=lambda number: self._tries[number].next):
            if self._tries[number].next <= self._clock():
                yield from self._outbox.waiting(1, number - 1)

    def _deliver(self, courier: Sender, event: Event, settings: SmtpSettings) -> tuple[Problem | None, bool]:
        """Send one mail to whoever has no final verdict yet: what kept it back, and whether anybody got one now."""
        from device_ui.mail.message import compose

        everybody = addresses(event.type, self._listed(), settings)
        final = {each.recipient for each in self._outbox.deliveries(event.number)}
        open_ = [each for each in everybody if each not in final]
        outcomes: Mapping[str, Any] = {}
        if open_:
            device = {**self._device, "address": courier.local_address}
            mail = compose(event, self._catalog[event.code], settings, everybody, device, self._outbox.id)
            outcomes = courier.deliver(open_, mail)
        later, now = [each for each in outcomes.values() if each.verdict == "try later"], self._wall()
        ended = [
            Delivery(recipient, each.verdict, each.step, each.reply, now)
            for recipient, each in outcomes.items()
            if each not in later
        ]
        self._record(event.number, ended, done=not later)
        if ended:
            lost = [each for each in ended if each.verdict != "delivered"]
            self._server, self._standing = Tries(), Problem()
            advice = self._advice(lost[0].step, "answer", lost[0].reply, settings) if lost else ""
            self.problem = Problem("refused", lost[0].step, lost[0].reply, advice) if lost else Problem()
        for each in ended:
            log.info("event %d for %s: %s %s", event.number, each.recipient, each.verdict, each.reply)
        if not later:
            return None, True
        advice = self._advice(later[0].step, "answer", later[0].reply, settings)
        return self._put_off(event.number, Problem("server", later[0].step, later[0].reply, advice)), bool(ended)

    def _advice(self, step: str, problem: str, reply: str, settings: SmtpSettings) -> str:
        # Imported here: only a mail that does not go out needs it.
        from datetime import datetime

        from device_ui.mail.diagnosis import advise

        clock = datetime.fromtimestamp(int(self._wall())).astimezone()
        return advise(step, problem, reply, settings, f"{clock:%Y-%m-%d %H:%M %z}").sentence

    def _put_off(self, number: int, problem: Problem) -> Problem:
        self._tries.setdefault(number, Tries()).again(self._clock(), self._chance())
        self.problem = problem
        return problem

    def _record(self, number: int, ended: list[Delivery], *, done: bool) -> None:
        if not ended and not done:
            return  # a retry writes nothing
        if done:
            self._tries.pop(number, None)
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

    def _failed(self, problem: Problem) -> None:
        self._server.again(self._clock(), self._chance())
        self.problem = problem

    def _retry(self) -> None:
        """Somebody pressed Update: wait for nothing any more, but for a refused login, which takes other settings."""
        self._server = Tries()
        self._tries.clear()
        self._marks.clear()
        self._standing = Problem()
        if self.problem.word in LASTING:
            self.problem = Problem()

    def _forget(self) -> None:
        self._retry()
        self._refused = {}

    def _remember_refusal(self) -> None:
        # Writes nothing when the ledger says so already.
        if self._refused is not None:
            self._outbox.keep_fact(LOGIN_REFUSED, json.dumps(self._refused) if self._refused else None)

    def _give_up(self) -> None:
        """Drop what has waited for five days of trying.

        Told by marks of the highest number, hour by hour on the monotonic clock: neither a wrong wall clock nor a
        restart can make a mail too old, and nothing is written while it waits.
        """
        now = self._clock()
        if not self._marks or now - self._marks[-1][0] >= MARK_SECONDS:
            self._marks.append((now, self._outbox.newest_waiting()))
        expired = 0
        while self._marks and now - self._marks[0][0] > GIVE_UP_SECONDS:
            expired = self._marks.popleft()[1]
        reply = f"given up after 5 days: {self.problem.step} {self.problem.reply}".strip()
        while expired and (batch := [each for each in self._outbox.waiting(BATCH) if each.number <= expired]):
            for event in batch:
                dropped = Delivery("", DROPPED, self.problem.step, reply, self._wall())
                self._record(event.number, [dropped], done=True)
                self.problem = Problem("refused", dropped.step, dropped.reply)


def _last_loss(outbox: Outbox) -> Problem:
    """A mail that reached nobody must be told until one is delivered, across a restart too."""
    last = outbox.last_delivery()
    return Problem("refused", last.step, last.reply) if last and last.verdict != "delivered" else Problem()


def _refusal(fact: str) -> dict[str, str]:
    try:
        found = json.loads(fact)
    except ValueError:
        return {}  # damaged: one try more is better than none ever
    return found if isinstance(found, dict) and "revision" in found else {}
