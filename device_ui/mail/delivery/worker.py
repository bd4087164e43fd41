"""One thread that mails the events of the database, in rounds: read the settings, send what is due, wait for the next event or try.

The settings are read when mail is sent, so that corrected settings release waiting mail. A refused login stops every
attempt, across restarts too, until the settings change or a test with them succeeds: retries lock accounts. Waiting is
on the monotonic clock and in memory: a retry writes nothing to flash.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from device_ui.errors import Damaged, Message, NotReadable, NotStored, Text
from device_ui.mail.catalog import TYPES, Kind
from device_ui.mail.delivery.certificate_watch import CertificateWatch
from device_ui.mail.delivery.periodic import PeriodicMails
from device_ui.mail.delivery.problem import Problem
from device_ui.mail.delivery.quota import Quota
from device_ui.mail.delivery.retry import RETRY_FIRST, Backoff, StartSpread
from device_ui.mail.delivery.schedule import Schedule
from device_ui.mail.delivery.sender import UNSEAL_ERRORS, DeliverySession, Sender, Transport
from device_ui.mail.delivery.server_change import ServerChangeNotifier
from device_ui.mail.delivery.status import DeliveryStatus, LoginLockout
from device_ui.mail.events import Action, Delivery, Event, Verdict
from device_ui.mail.outbox.outbox import Outbox
from device_ui.mail.smtp.outcome import SessionError, Step
from device_ui.rate_limit import TokenBucket
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.notifications import NOTIFICATIONS_FILE
from device_ui.settings.recipients import addresses
from device_ui.settings.store import NotificationStore, Store
from device_ui.settings.trust_rules import TRUSTS

if TYPE_CHECKING:
    from device_ui.mail.smtp.trust import InUse

log = logging.getLogger(__name__)

# Seconds after which a waiting worker reads the settings again: the message of an Update may be lost.
LOOK_AGAIN = 60.0
# Changes of the settings that reset the back-off one after another, and the seconds after which one more does. Changes
# again and again must not serve to try ports.
RESETS_MAXIMUM, RESET_SECONDS = 10, 30.0
# In place of a revision: the stored settings are the same, and a test got through with them.
VERIFIED = "verified"


class DeliveryWorker:
    """The worker of one device. `run` is its thread, which calls `round`; any thread may call the other methods.

    `show` receives the state of the mail path after each round.
    """

    def __init__(
        self,
        outbox: Outbox,
        store: Store,
        schedule: Schedule,
        sender: Sender,
        quota: Quota,
        show: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._outbox, self._store, self._schedule, self._sender = outbox, store, schedule, sender
        self._environment = sender.environment
        # Its file is beside that of the SMTP tab.
        notifications = NotificationStore(store.path.with_name(NOTIFICATIONS_FILE))
        self._periodic = PeriodicMails(outbox, schedule, self._environment, notifications)
        self._watch = CertificateWatch(outbox, schedule, self._environment.wall_clock, self._periodic.decide)
        self._status = DeliveryStatus(
            outbox, self._environment.wall_clock, schedule.tried, schedule.is_over_budget, show
        )
        self._lockout = LoginLockout(outbox, quota, self._environment.wall_clock)
        self._backoff = Backoff(self._environment.monotonic, self._environment.random)
        self._start_spread = StartSpread()
        self.notifier = ServerChangeNotifier(outbox, sender, schedule.count_sent)
        self._session = DeliverySession(
            outbox, schedule, sender, self._status, self._backoff, self.notifier.mark_verified
        )
        # One event for every cause: a round looks at all of them, and two causes at once need one round.
        self._wakeup = threading.Event()
        self._is_stopping = self._is_settings_change_new = False
        # The stored settings that a test got through with last, and whether no round has used that yet.
        self._verified: SmtpSettings | None = None
        self._is_verification_new = False
        # Numbers of events that a person asked to try now; the loop that accepts events adds, the worker removes.
        self._try_now: deque[int] = deque()
        # A revision of the settings, and where it was saved.
        self._saved_from: tuple[str, Text] = ("", "")
        self._revision: str | None = None
        # The revision that the last round judged; the one, or `VERIFIED`, that was announced and that no round has judged; and what
        # was announced when this round began. "": none.
        self._judged = self._announced = self._reading = ""
        # Whether a person asks for a try at once; and when the next one is planned (monotonic seconds), None without one.
        self._is_try_asked = False
        self._next_try: float | None = None
        self._look_at_sign_in: Callable[[SmtpSettings], Problem] = lambda _settings: Problem()
        self._has_choices = threading.Event()
        # Whether the back-off is to be reset, and how often it may be.
        self._is_reset_due, self._resets = (
            False,
            TokenBucket(RESETS_MAXIMUM, RESET_SECONDS, self._environment.monotonic),
        )

    def state(self) -> dict[str, Any]:
        """Return the state of the mail path, as `DeliveryStatus.report`. Raises `NotStored`."""
        # Right after a save the page asks, before the round that reads the new settings: a problem of the former ones is over.
        return self._status.report(is_new=bool(self._announced))

    def watch_sign_in(self, look: Callable[[SmtpSettings], Problem]) -> None:
        """Call `look` in each round: it returns the problem of the sign-in that blocks mail even while none waits."""
        self._look_at_sign_in = look

    def spread_start(self, seconds: float) -> None:
        """Delay the first session by a random part of `seconds`, unless the settings change; called before `run`."""
        self._start_spread = StartSpread(self._environment.random() * seconds)

    def wake(self) -> None:
        """Look for new events."""
        self._wakeup.set()

    def settings_changed(self, revision: str = "", source: Text = "") -> None:
        """Retry at once with the new settings; `source`: where `revision` was saved."""
        # Before the flag: the round that sees the flag must find the source.
        self._saved_from = (revision, source)
        # The message of what was judged already says nothing new: its problem stays.
        if revision not in ("", self._judged):
            self._announced = revision
        self._is_settings_change_new = True
        self._wakeup.set()

    def settings_verified(self, settings: SmtpSettings) -> None:
        """Retry with the stored settings: a test got through with them, so an earlier refused login does not count."""
        self.notifier.mark_verified(settings, None)
        self._verified = settings
        # Like a change of the settings, it ends what is known of them.
        self._announced = VERIFIED
        self._is_verification_new = self._is_settings_change_new = True
        self._wakeup.set()

    def certificate_last_seen(self, settings: SmtpSettings) -> InUse | None:
        """Return the certificate that the trusted key of these settings was last seen in, None without one."""
        return self._watch.last_seen(settings)

    def read_choices(self) -> None:
        """Read what is mailed, and when; `run` begins with it."""
        self._periodic.refresh()
        self._has_choices.set()

    def wait_for_choices(self, seconds: float) -> None:
        """Return when they were read, or after so many seconds; then every event is mailed at once until they are."""
        self._has_choices.wait(seconds)

    def decide(self, kind: Kind) -> tuple[bool, bool]:
        """Return whether an event of this kind is mailed, and whether in the daily summary."""
        return self._periodic.decide(kind)

    def try_waiting(self, source: Text) -> int:
        """Try waiting mail at once. Return 0, or whole seconds until that may be asked for; `source`: who asks.

        A lockout stays, since one more login could lock the account. Nothing is written: it is a retry like any other.
        """
        # One bucket with the changes of the settings: both are a way to try a server again and again.
        wait = self._resets.take()
        if not wait:
            log.info("waiting mail tried now: %s", source)
            self._is_try_asked = True
            self._wakeup.set()
        return wait

    def next_try(self, number: int = 0) -> float | None:
        """Return seconds until waiting mail is tried; None while it waits for something else than a time.

        `number` is that of one mail, which may wait longer than the others.
        """
        planned, mail = self._next_try, self._schedule.mail(number)
        if planned is None:
            return None
        moment = max(planned, mail.tries.next) if mail else planned
        return max(0.0, moment - self._environment.monotonic())

    def is_blocked(self) -> bool:
        """Return whether no mail is tried until a person solves a problem, such as a refused login."""
        return self._status.is_blocked

    def choose_singles(self, events: Sequence[Event]) -> list[bool]:
        """Return for each of the events that arrive together whether it gets a mail of its own at once."""
        return self._schedule.choose_singles(events)

    def add(self, events: Sequence[tuple[int, Event, bool]]) -> None:
        """Schedule committed events: their numbers, and whether each gets a mail of its own."""
        self._schedule.add(events)
        self._try_now.extend(event.about for _, event, _ in events if event.text == Action.TRY_NOW and event.about)

    def wait_details(self) -> Callable[[int, str], tuple[Sequence[str], str, Text]]:
        """Return a function of a waiting mail's number and type, which returns its recipients, and step and reply of the last try.

        Before the first try these are the step and reply of the problem of all mail.
        """
        try:
            settings, _ = self._store.read()
        except (Damaged, NotReadable):
            settings = None
        # Read once for all mails of a page, by the thread that may open files.
        listed, problem = self._environment.recipients(), self._status.all_mail_problem
        by_type = {event_type: addresses(event_type, listed, settings) if settings else [] for event_type in TYPES}

        def details(number: int, event_type: str) -> tuple[Sequence[str], str, Text]:
            mail = self._schedule.mail(number)
            last = mail.tries if mail and mail.tries.step else problem
            return by_type.get(event_type, []), last.step, last.reply

        return details

    def open_notices(self, number: int) -> Sequence[Delivery]:
        """Return the notices of a server change that are still to be sent, by the number of its event."""
        return self.notifier.open_notices(number)

    def events_with_notices(self) -> Sequence[int]:
        """Return the events of server changes with notices that are still to be sent."""
        return self.notifier.events_with_notices()

    def is_idle(self) -> bool:
        """Return whether nothing is left to do until an event arrives."""
        try:
            has_work = self._outbox.waiting_count() or self._outbox.is_reserve_used or self._schedule.has_undated
        except NotStored:
            return False
        # A result that is not on flash would be lost with the process, and its mail sent again.
        is_idle = not has_work and not self._schedule.has_unstored and self.notifier.is_idle()
        return is_idle and self._periodic.is_idle()

    def stop(self) -> None:
        """Let `run` end; a mail under way is finished, or broken off at its deadline, and stays in the queue."""
        self._is_stopping = True
        self._wakeup.set()

    def run(self) -> None:
        """Work until `stop`, and until the notices under way are over."""
        self.read_choices()
        has_notifier = False
        while not self._is_stopping:
            # Tried again in each round until the system gives a thread.
            has_notifier = has_notifier or self._start_notifier()
            try:
                wait = self.round()
            except Exception:
                log.exception("round failed; mail is tried again later")
                self._backoff.server_failed()
                self._status.server_failed(Problem("fault"))
                self._backoff.expiry.reset()  # this time does not count towards the five days
                wait = LOOK_AGAIN
            # After a round without a change, too: the number of waiting events is part of the state.
            self._status.publish()
            self._wakeup.wait(wait)
            self._wakeup.clear()
        # Last: a notice that was delivered must be recorded.
        self.notifier.stop()

    def round(self) -> float | None:
        """Send what is due. Return seconds until the next round; None: until `wake` or another method asks for one."""
        self._reading = self._announced
        try:
            if self._is_settings_change_new:
                self._is_settings_change_new, self._is_reset_due = False, True
            # In this order: results of mails must be on flash before the queue is read from there.
            self._schedule.store_results()
            if self._is_try_asked:
                self._is_try_asked = False
                self._backoff.try_now()
                self._start_spread = StartSpread()
                self._session.reset()  # a recipient that was deferred has a wait of its own
                self._schedule.try_all()
            # Before anything is written: where the reserve was used, this makes room.
            self._outbox.tidy()
            self._schedule.update()
            self._make_due()
            self._periodic.round()
            wait, planned = self._round(), self._periodic.wait()
            return wait if planned is None else min(planned if wait is None else wait, planned)
        except NotStored as error:
            self._block(Problem("storage", reply=error.reason))
            return RETRY_FIRST
        finally:
            self._settle()

    def _settle(self) -> None:
        """Report the problems of the settings that were read, unless newer ones were announced meanwhile."""
        if self._announced == self._reading:
            self._announced = ""

    def _start_notifier(self) -> bool:
        """Start the thread of the notices: a slow new server must not delay them. Return whether it runs."""
        try:
            threading.Thread(target=self.notifier.run, name="notifier", daemon=True).start()
        except RuntimeError as error:  # the system gives no thread (TasksMax)
            log.error("notifications of a server change deferred: %s", error)
            return False
        return True

    def _round(self) -> float | None:
        """Read the settings, end what no one gets, send what is due. Return seconds as `round`. Raises `NotStored`."""
        self._next_try = None
        settings, revision, problem = self._take_settings()
        self._judged = revision
        self._status.sign_in = self._look_at_sign_in(settings) if settings else Problem()
        self._status.certificate = self._watch.problem(settings) if settings else Problem()
        self._lockout.store()
        if settings:
            # Also while a problem blocks mail: History reports a changed server all the same.
            saved, source = self._saved_from
            self.notifier.check(settings, source if saved == revision else "")
        if problem or settings is None:
            self._block(problem or Problem("unset"))
            return LOOK_AGAIN
        if not self._lockout.is_engaged(revision):  # one that is tried again is reported until it is known to work
            self._status.unblock()
        # Before the session, which may take minutes.
        self._settle()
        self._end_unsendable(settings)
        if self._outbox.waiting_count():
            # Never longer than a look at the settings: the message of an Update may be lost.
            return min(self._send_due(settings, revision), LOOK_AGAIN)
        self._status.server_works()
        # No mail waits, but the reserve may have to be set aside again, an event dated, or the end of a problem published.
        has_work = self._outbox.is_reserve_used or self._schedule.has_undated or self._schedule.is_over_budget()
        return LOOK_AGAIN if has_work else None

    def _end_unsendable(self, settings: SmtpSettings) -> None:
        """End events that no recipient wants, and mails that were tried for five days: they need no session."""
        listed = self._environment.recipients()
        by_type = {event_type: addresses(event_type, listed, settings) for event_type in TYPES}
        self._discard_unwanted(by_type)
        self._expire(by_type)

    def _make_due(self) -> None:
        """Make due what a person asked to try now. A refused login stays locked out: only new settings help there."""
        while self._try_now:
            if event := self._outbox.event(self._try_now[0]):
                self._schedule.try_event_now(event)
                self._session.reset()  # a recipient that was deferred has a wait of its own
                self._backoff.try_now()
                self._start_spread = StartSpread()
            self._try_now.popleft()  # not before: a database that cannot be read now is read in the next round

    def _block(self, problem: Problem) -> None:
        """Set what blocks all mail before any session: this time does not count towards giving up."""
        self._status.block(problem)
        self._backoff.expiry.reset()

    def _discard_unwanted(self, by_type: Mapping[str, Sequence[str]]) -> None:
        """End events that no recipient wants: they need no server. `by_type`: the addresses that want each type."""
        for event_type, wanted in by_type.items():
            if not wanted:
                self._schedule.discard_waiting(event_type)

    def _take_settings(self) -> tuple[SmtpSettings | None, str, Problem | None]:
        """Return the settings, their revision, and why they must not be used now.

        Where they changed, or a test got through with them, this lifts the lockout and resets the tries.
        """
        try:
            settings, revision = self._store.read()
        except Damaged as damage:
            return None, "", Problem("damaged", reply=damage.reason)
        except NotReadable as error:
            return None, "", Problem("unreadable", reply=error.reason)
        if self._is_verification_new:
            self._is_verification_new = False
            if settings is not None and settings == self._verified:  # the settings may have changed since the test
                self._lift_lockout()
        problem = self._login_problem(settings, revision)
        # Other settings than the refused ones, if they may be tried, end the lockout.
        if not problem and (self._revision not in (None, revision) or self._lockout.is_of_others(revision)):
            self._lift_lockout()
        self._reset_tries()
        if problem:
            return settings, revision, problem
        self._revision = revision
        if settings and not self._environment.passwords.can_unseal(settings):
            return settings, revision, Problem("password", reply="it was sealed to another key")
        return settings, revision, None

    def _login_problem(self, settings: SmtpSettings | None, revision: str) -> Problem | None:
        """Return why the login of these settings must not be tried now, None when it may."""
        if settings is None:
            return None
        has_password = settings.sealed and settings.sign_in != "oauth"
        is_login_known = not has_password or settings == self._verified or self.notifier.is_verified(settings)
        return self._lockout.problem(revision, is_login_known=is_login_known)

    def _send_due(self, settings: SmtpSettings, revision: str) -> float:
        wait = self._plan()
        if wait > 0:
            return wait
        try:
            transport = self._sender.connect(settings)
        except UNSEAL_ERRORS as error:
            self._block(Problem("password", reply=error.message))
            return LOOK_AGAIN
        # Before the session: the notice must start before mail goes to the new server.
        self.notifier.session_begins()
        self._send(transport, settings, revision)
        return self._plan()

    def _send(self, transport: Transport, settings: SmtpSettings, revision: str) -> None:
        def is_interrupted() -> bool:
            return self._is_stopping or self._is_settings_change_new

        # Closed on every way out, also when the database fails: a session that is left open counts against the server's
        # limit of connections.
        with closing(transport):
            try:
                transport.open(
                    lambda seconds: self._session.report_silence(seconds, transport, settings, is_interrupted)
                )
                if self._lockout.is_engaged(revision):
                    self._lift_lockout()
                    self._lockout.store()
                    self._status.unblock()
                # Before the mails: an event of it goes out in this very session.
                self._watch.saw(settings, transport.certificates)
                self._status.certificate = self._watch.problem(settings)
                self._session.send_queue(transport, settings, is_interrupted)
            except SessionError as error:
                log.warning("session failed: %s", error)
                self._session_failed(error, settings, revision)

    def _session_failed(self, error: SessionError, settings: SmtpSettings, revision: str) -> None:
        is_login_refused = error.login_refused
        if is_login_refused:  # first of all
            self._lockout.engage(revision, error.reply, has_worked=self.notifier.is_verified(settings))
        advice = self._sender.advise(error.step, error.problem, error.reply, settings)
        if is_login_refused:
            self._status.block(self._lockout.explain(advice))
            self._lockout.store()
        else:
            self._backoff.server_failed(error.retry_after)
            # A certificate that is not the trusted one waits for a person, who may be away for longer than a mail is tried: this
            # time does not count towards giving up.
            if error.step == Step.CERTIFICATE and settings.trust != TRUSTS[0]:
                self._backoff.expiry.reset()
            self._status.server_failed(Problem("server", error.step, error.reply or error.problem, advice))

    def _plan(self) -> float:
        """Return seconds until something may be tried, and note the moment for the pages."""
        wait = self._wait()
        # Monotonic, and converted when it is shown: a clock that is set meanwhile must not move the try.
        self._next_try = self._environment.monotonic() + wait
        return wait

    def _wait(self) -> float:
        """Return seconds until something may be tried."""
        server_wait = self._backoff.wait()
        # Only then the spread begins to count: a hook that starts without mail has nothing to spread.
        if self._schedule.is_ready():
            return max(server_wait, self._start_spread.wait(self._environment.monotonic()))
        wait = self._schedule.wait()
        return max(server_wait, LOOK_AGAIN if wait is None else wait)

    def _lift_lockout(self) -> None:
        self._is_reset_due = True
        self._lockout.lift()

    def _reset_tries(self) -> None:
        """Reset the back-off after a change of the settings, but not the lockout of a refused login."""
        # Due until the bucket has room: the change is not forgotten, only delayed.
        if self._is_reset_due and not self._resets.take():
            self._is_reset_due = False
            self._backoff.reset()
            self._start_spread = StartSpread()
            self._status.settings_changed()
            self._schedule.reset_tries()
            self._session.reset()

    def _expire(self, by_type: Mapping[str, Sequence[str]]) -> None:
        """Give up what has been tried for five days. `by_type`: the addresses that want each type."""
        newest = self._backoff.expiry.expired(self._environment.monotonic(), self._outbox.newest_waiting)
        if newest:
            problem = self._status.problem
            results = {event_type: self._given_up(wanted, problem) for event_type, wanted in by_type.items()}
            # Their tries start anew for what is left: the five days were those of the oldest.
            if self._schedule.expire(newest, results):
                self._schedule.reset_tries()
                self._status.lost(Problem(Verdict.DROPPED, problem.step, problem.reply))
        for mail in self._schedule.expired():
            # The server defers this mail for five days while it takes others.
            problem = Problem(Verdict.DROPPED, mail.tries.step, mail.tries.reply)
            self._status.lost(problem)
            recipients = by_type.get(mail.type, []) if self._outbox.event(mail.number) else []
            mail.begin_try(recipients, self._outbox.ended(mail.number, recipients))
            self._schedule.conclude(mail, self._given_up(mail.open_recipients, problem), is_done=True)
            self._schedule.store_results()

    def _given_up(self, recipients: Sequence[str], problem: Problem) -> list[Delivery]:
        """Return the results of a mail that is given up."""
        date = self._environment.wall_clock.seconds()
        reply = Message(
            "given up after 5 days: {step} {reply}", step=Message(problem.step), reply=Message(problem.reply)
        )
        return [Delivery(address, Verdict.DROPPED, problem.step, reply, date) for address in recipients]
