"""When to try, when to stop, when to wait: one thread that empties the ledger of what is still to be mailed.

How a mail is sent is read when it is sent, so that mending the settings frees what waits. A refused login stops every
attempt until the settings change, across restarts too: retries lock accounts. Waiting is on the monotonic clock and
in memory: a retry writes nothing to flash.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from device_ui.errors import CannotOpen, Damaged, Message, NoKey, NotReadable, NotStored, Text
from device_ui.mail.catalog import SERVER_CHANGED, TYPES, Catalog
from device_ui.mail.clock import Clock
from device_ui.mail.delivery.batching import Batch, Batcher
from device_ui.mail.delivery.composer import Composer
from device_ui.mail.delivery.problem import DROPPED, Problem
from device_ui.mail.delivery.quota import Quota
from device_ui.mail.delivery.refusal import LoginLockout
from device_ui.mail.delivery.retry import RETRY_FIRST, Backoff, RetryState, by_chance
from device_ui.mail.delivery.schedule import Schedule
from device_ui.mail.delivery.sender import DeliverySession, Transport
from device_ui.mail.delivery.server_change import ServerChangeNotifier
from device_ui.mail.delivery.status import DeliveryStatus
from device_ui.mail.events import Delivery, Event
from device_ui.mail.outbox.outbox import Outbox
from device_ui.mail.outbox.recorder import Recorder
from device_ui.rate_limit import TokenBucket
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import Recipient, addresses
from device_ui.settings.store import Store

log = logging.getLogger(__name__)

# Seconds after which a waiting postman looks by itself, should a word about new settings have been lost.
LOOK_AGAIN = 60.0
# Changes of the settings one after another that are tried at once, and the seconds that make up for one more; others wait
# for the back-off, or for their turn.
RETRIES, RETRY_SECONDS = 10, 30.0


class DeliveryWorker:
    """The thread's work. `connect` makes a courier from settings and password; `unseal` opens a password.

    `fits` tells, without opening it, whether the stored password was sealed to the key that this device has; `show`
    hears the state of the mail path after each round.
    """

    def __init__(
        self,
        outbox: Outbox,
        catalog: Catalog,
        store: Store,
        device: Mapping[str, str],
        connect: Callable[[SmtpSettings, str], Transport],
        unseal: Callable[[SmtpSettings], str],
        *,
        clock: Callable[[], float] = time.monotonic,
        calendar: Clock | None = None,
        quota: Quota | None = None,
        storm: Batcher | None = None,
        chance: Callable[[], float] = by_chance,
        listed: Callable[[], Sequence[Recipient]] = tuple,
        fits: Callable[[SmtpSettings], bool] = lambda _: True,
        show: Callable[[Mapping[str, Any]], None] = lambda _: None,
    ) -> None:
        self._outbox, self._store, self._clock = outbox, store, clock
        self._unseal, self._listed, self._fits = unseal, listed, fits
        self.calendar = calendar or Clock(outbox.newest_date())
        self.plan = Schedule(outbox, storm or Batcher(), self.calendar, clock)
        self._bell = threading.Event()
        self.announcer = ServerChangeNotifier(
            outbox,
            device,
            connect,
            unseal,
            listed,
            self.calendar,
            clock=clock,
            chance=chance,
            fits=fits,
            sent=lambda number: self.plan.went_out(Batch(SERVER_CHANGED.type, (number,))),
        )
        self._stopping = self._changed = False
        # The stored settings that a test got through with last, and whether no round has seen that yet.
        self._proved: SmtpSettings | None = None
        self._is_proof_new = False
        # The address that the settings of a revision came from.
        self._changed_by = ("", "")
        # Whether what kept mail back is to be forgotten, and how often it may be: who changes the settings again and again
        # must not try ports by it.
        self._is_retry_due, self._retries = False, TokenBucket(RETRIES, RETRY_SECONDS, clock)
        self._revision: str | None = None
        self._recorder, self._refusal = Recorder(outbox), LoginLockout(outbox, quota or Quota(outbox, self.calendar))
        self._backoff = Backoff(clock, chance)
        self._state = DeliveryStatus(outbox, self.calendar, show=show)
        self._dispatcher = DeliverySession(
            outbox,
            self.plan,
            Composer(outbox, catalog, device, self.calendar),
            self._recorder,
            self._refusal,
            self._backoff,
            self._state,
            connect,
            self.calendar,
            listed=listed,
            proved=self.announcer.proved,
            called_back=lambda: self._stopping or self._changed,
        )

    def state(self) -> dict[str, Any]:
        """How the mail path is; see `DeliveryStatus.told`. Raises `NotStored` when the ledger cannot be read."""
        return self._state.told()

    def wake(self) -> None:
        """There is a new event."""
        self._bell.set()

    def settings_changed(self, revision: str = "", by: str = "") -> None:
        """Somebody pressed Update: whatever held mail back, try now, once. `by`: the address `revision` came from."""
        self._changed_by = (revision, by)
        self._changed = True
        self._bell.set()

    def settings_proved(self, settings: SmtpSettings) -> None:
        """A test got through with the very settings that are stored: a login that was refused before is not any more."""
        self.announcer.proved(settings, None)
        self._proved = settings
        self._is_proof_new = self._changed = True
        self._bell.set()

    def waits(self) -> Callable[[int, str], tuple[Sequence[str], str, Text]]:
        """Of a mail that waits, by its number and type: who it is for, and the step and answer its last try ended at.

        What holds everything back stands for a mail that was not tried yet.
        """
        try:
            settings, _ = self._store.read()
        except (Damaged, NotReadable):
            settings = None
        listed, problem = self._listed(), self._state.problem
        everybody = {kind: addresses(kind, listed, settings) if settings else [] for kind in TYPES}

        def told(mail: int, kind: str) -> tuple[Sequence[str], str, Text]:
            step, reply = self._backoff.ended_at(mail)
            if not step:
                step, reply = problem.step, problem.reply
            return everybody.get(kind, []), step, reply

        return told

    def warns(self, number: int) -> Sequence[Delivery]:
        """Who is still to be warned of a changed server, by the number of its event."""
        return self.announcer.waiting(number)

    def leads(self, events: Sequence[Event]) -> list[bool]:
        """Return for each of the events that arrive together whether it gets a mail of its own at once."""
        return self.plan.leads(events)

    def learn(self, events: Sequence[tuple[int, Event, bool]]) -> None:
        """Schedule committed events: their numbers, and whether each gets a mail of its own."""
        self.plan.learn(events)

    def is_idle(self) -> bool:
        """Whether nothing is left to do before somebody calls."""
        try:
            waits = self._outbox.waiting_count() or self._outbox.is_reserve_used or self.plan.has_undated
        except NotStored:
            return False
        return not waits and not self._recorder and self.announcer.is_idle()

    def stop(self) -> None:
        """Let `run` come to its end; a mail under way is finished or given up within its deadline."""
        self._stopping = True
        self._bell.set()

    def run(self) -> None:
        """Work until `stop`, and until a warning under way is over."""
        has_warnings = False
        while not self._stopping:
            has_warnings = has_warnings or self._start_warnings()
            try:
                wait = self.round()
            except Exception:
                log.exception("the postman stumbled; mail is tried again later")
                self._backoff.server_failed()
                self._state.problem = Problem("fault")
                self._backoff.patience.forget()  # the fault is ours: no mail is given up for it
                wait = LOOK_AGAIN
            self._state.tell()
            self._bell.wait(wait)
            self._bell.clear()
        self.announcer.finish()

    def _start_warnings(self) -> bool:
        """Start the thread of the warnings: however long a new server keeps this one, they go out. Return whether it runs."""
        try:
            threading.Thread(target=self.announcer.run, name="warnings", daemon=True).start()
        except RuntimeError as error:  # the system gives no thread (TasksMax)
            log.error("the warnings wait: %s", error)
            return False
        return True

    def round(self) -> float | None:
        """Send what can be sent now. Seconds until it is worth looking again; None: when somebody wakes us."""
        try:
            if self._changed:
                self._changed, self._is_retry_due = False, True
            self._recorder.record()
            self._outbox.tidy()
            self.plan.look()
            return self._round()
        except NotStored as error:
            self._state.interrupted(Problem("storage", reply=error.reason))
            self._backoff.patience.forget()
            return RETRY_FIRST

    def _round(self) -> float | None:
        settings, revision, problem = self._look()
        self._refusal.keep()
        if settings:
            known, by = self._changed_by
            self.announcer.look(settings, by if known == revision else "")
        if problem or settings is None:
            self._state.interrupted(problem or Problem("unset"))
            self._backoff.patience.forget()  # waiting for a person does not count towards giving up
            return LOOK_AGAIN
        self._state.resumed()
        self._settle_unwanted(settings)
        self._give_up(settings)
        # A word about new settings may be lost (a hook that was just starting): never wait longer than this unseen.
        if self._outbox.waiting_count():
            return min(self._send_due(settings, revision), LOOK_AGAIN)
        # No mail waits, but a reserve may be to be set aside again, or an event to be dated.
        return LOOK_AGAIN if self._outbox.is_reserve_used or self.plan.has_undated else None

    def _settle_unwanted(self, settings: SmtpSettings) -> None:
        """An event that no recipient wants is done: it needs no server."""
        listed = self._listed()
        for kind in TYPES:
            if not addresses(kind, listed, settings):
                self.plan.settle(kind)

    def _look(self) -> tuple[SmtpSettings | None, str, Problem | None]:
        try:
            settings, revision = self._store.read()
        except Damaged as damage:
            return None, "", Problem("damaged", reply=damage.reason)
        except NotReadable as error:
            return None, "", Problem("unreadable", reply=error.reason)
        problem = self._login_problem(settings, revision)
        if not problem and (self._revision not in (None, revision) or self._refusal.is_of_others(revision)):
            self._forget()
        self._retry()
        if problem:
            return settings, revision, problem
        self._revision = revision
        if settings and not self._fits(settings):
            return settings, revision, Problem("password", reply="it was sealed to another key")
        return settings, revision, None

    def _login_problem(self, settings: SmtpSettings | None, revision: str) -> Problem | None:
        """Return why the login of these settings must not be tried now, None when it may."""
        if self._is_proof_new:
            self._is_proof_new = False
            if settings == self._proved:  # the settings may have changed since the test
                self._forget()
        if settings is None:
            return None
        is_login_known = not settings.sealed or settings == self._proved or self.announcer.has_proved(settings)
        return self._refusal.problem(revision, is_login_known=is_login_known)

    def _send_due(self, settings: SmtpSettings, revision: str) -> float:
        wait = self._wait()
        if wait > 0:
            return wait
        try:
            password = self._unseal(settings) if settings.sealed else ""
        except (NoKey, CannotOpen, Damaged, NotReadable) as error:
            self._state.interrupted(Problem("password", reply=error.message))
            self._backoff.patience.forget()
            return LOOK_AGAIN
        self.announcer.use()
        self._dispatcher.send(settings, revision, password)
        return self._wait()

    def _wait(self) -> float:
        """Seconds until something may be tried."""
        now = self._clock()
        later = self._backoff.server_wait(now)
        if self.plan.is_ready(self._backoff.tried):
            return later
        wait = self.plan.wait(self._backoff.next_try(now))
        return max(later, LOOK_AGAIN if wait is None else wait)

    def _retry(self) -> None:
        """Reset the back-off after a change of the settings, but not a refused login, which takes other settings."""
        if self._is_retry_due and not self._retries.take():
            self._is_retry_due = False
            self._backoff.forget()
            self._state.retry()

    def _forget(self) -> None:
        self._is_retry_due = True
        self._refusal.forget()

    def _give_up(self, settings: SmtpSettings) -> None:
        """Drop what has waited for five days of trying."""
        now = self._clock()
        expired = self._backoff.patience.expired(now, self._outbox.newest_waiting)
        if expired and self.plan.give_up(expired, {kind: self._given_up(kind, settings) for kind in TYPES}):
            self._backoff.forget_mails()
            self._state.problem = Problem(DROPPED, self._state.problem.step, self._state.problem.reply)
        for mail, tries in self._backoff.deferred_too_long(now):
            self._give_up_one(mail, tries, settings)

    def _give_up_one(self, mail: int, tries: RetryState, settings: SmtpSettings) -> None:
        """A mail that a server which takes others has deferred for five days."""
        event = self._outbox.event(mail)
        final = {each.recipient for each in self._outbox.deliveries(mail)}
        self._state.problem = Problem(DROPPED, tries.step, tries.reply)
        dropped = (
            [each for each in self._given_up(event.type, settings) if each.recipient not in final] if event else []
        )
        self._backoff.mail_done(mail)
        self.plan.done(Batch("", (mail,)))
        self._recorder.keep(mail, dropped, done=True, told=0)
        self._recorder.record()

    def _given_up(self, kind: str, settings: SmtpSettings) -> list[Delivery]:
        """What becomes of a mail of this type for each of its recipients."""
        problem = self._state.problem
        reply = Message(
            "given up after 5 days: {step} {reply}", step=Message(problem.step), reply=Message(problem.reply)
        )
        now = self.calendar.now() if self.calendar.is_right() else 0.0
        everybody = addresses(kind, self._listed(), settings)
        return [Delivery(each, DROPPED, problem.step, reply, now) for each in everybody]
