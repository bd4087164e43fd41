"""When to try, when to stop, when to wait: one thread that empties the ledger of what is still to be mailed.

How a mail is sent is read when it is sent, so that mending the settings frees what waits. A refused login stops every
attempt until the settings change, across restarts too: retries lock accounts. Waiting is on the monotonic clock and
in memory: a retry writes nothing to flash.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from device_ui.errors import CannotOpen, Damaged, NoKey, NotReadable, NotStored
from device_ui.log import Log
from device_ui.mail.announcement import Announcer, Session
from device_ui.mail.backoff import GIVE_UP_SECONDS, RETRY_FIRST, Patience, Tries, by_chance
from device_ui.mail.catalog import SERVER_CHANGED, TYPES, Catalog
from device_ui.mail.clock import Clock
from device_ui.mail.composer import Composer
from device_ui.mail.limit import UNTOLD
from device_ui.mail.outbox import Delivery, Outbox
from device_ui.mail.plan import Plan
from device_ui.mail.problem import DROPPED, LASTING, LOSSES, Problem, last_loss
from device_ui.mail.recorder import Recorder
from device_ui.mail.refusal import Refusal
from device_ui.mail.storm import Mail, Storm
from device_ui.settings.recipients import Recipient, addresses
from device_ui.settings.smtp import SmtpSettings
from device_ui.settings.store import Store
from device_ui.shape import Any, Protocol

log = Log(__name__)

# Seconds after which a waiting postman looks by itself, should a word about new settings have been lost.
LOOK_AGAIN = 60.0
# Mails in a row that a server defers for everybody before the session is given up: it means them all.
DEFERRALS_MAXIMUM = 5
# Seconds of a server's silence after which a person should hear of it.
SILENT_SECONDS, SILENT = 60.0, "the server does not answer in time"


class Sender(Session, Protocol):
    """What the postman needs of `courier.Courier`."""

    @property
    def is_open(self) -> bool: ...
    def hurry(self) -> None: ...


class Postman:
    """The thread's work. `connect` makes a courier from settings and password; `unseal` opens a password.

    `fits` tells, without opening it, whether the stored password was sealed to the key that this device has; `show`
    hears the state of the mail path after each round; `news` is called at once when that may be another.
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
        calendar: Clock | None = None,
        storm: Storm | None = None,
        chance: Callable[[], float] = by_chance,
        listed: Callable[[], Sequence[Recipient]] = tuple,
        fits: Callable[[SmtpSettings], bool] = lambda _: True,
        show: Callable[[Mapping[str, Any]], None] = lambda _: None,
        news: Callable[[], None] = lambda: None,
    ) -> None:
        self._outbox, self._catalog, self._store, self._device = outbox, catalog, store, device
        self._connect, self._unseal, self._listed, self._fits = connect, unseal, listed, fits
        self._clock, self._chance, self._show, self._news = clock, chance, show, news
        self.calendar = calendar or Clock(outbox.newest_date())
        self.plan = Plan(outbox, storm or Storm(), self.calendar, clock)
        self._composer = Composer(outbox, catalog, device, self.calendar)
        self._bell = threading.Event()
        self._announcer = Announcer(
            outbox,
            device,
            connect,
            unseal,
            listed,
            self.calendar,
            clock=clock,
            chance=chance,
            fits=fits,
            ring=self._bell.set,
            sent=lambda number: self.plan.went_out(Mail(SERVER_CHANGED.type, (number,))),
        )
        self._stopping = self._changed = self._proved = False
        # The address that the settings of a revision came from.
        self._changed_by = ("", "")
        # When the last of a mail was sent (monotonic seconds).
        self._sent_at = 0.0
        self._server = Tries()
        self._tries: dict[int, Tries] = {}
        self._recorder, self._patience = Recorder(outbox), Patience()
        self._refusal = Refusal(outbox)
        self._revision: str | None = None
        self.problem = last_loss(outbox)
        # What `self.problem` was before something passing, such as a ledger that could not be read once, took its place.
        self._standing = Problem()

    @property
    def problem(self) -> Problem:
        """What keeps mail back, or kept the last one."""
        return self._problem

    @problem.setter
    def problem(self, problem: Problem) -> None:
        self._problem = problem
        self._news()

    def state(self) -> dict[str, Any]:
        """How the mail path is, for the page and the console. Raises `NotStored` when the ledger cannot be read."""
        problem = self.problem
        removed, right = self._outbox.removed()[UNTOLD], self.calendar.is_right()
        others = {"full": self._outbox.is_reserve_used, "removed": removed > 0, "clock": not right}
        if not problem.word:
            problem = Problem(next((word for word, stands in others.items() if stands), ""))
        return {
            "problem": problem.word,
            "step": problem.step,
            "reply": problem.reply,
            "advice": problem.advice,
            "waiting": self._outbox.waiting_count(),
            "set_aside": self._outbox.set_aside.name if self._outbox.set_aside else "",
            "removed": removed,
            "clock": "" if right else clock_text(self.calendar.told),
        }

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
        self._announcer.proved(settings, by_alarm=False)
        self._proved = self._changed = True
        self._bell.set()

    def waits(self) -> Callable[[int, str], tuple[Sequence[str], str, str]]:
        """Of a mail that waits, by its number and type: who it is for, and the step and answer its last try ended at.

        What holds everything back stands for a mail that was not tried yet.
        """
        try:
            settings, _ = self._store.read()
        except (Damaged, NotReadable):
            settings = None
        listed, problem = self._listed(), self.problem
        everybody = {kind: addresses(kind, listed, settings) if settings else [] for kind in TYPES}

        def told(mail: int, kind: str) -> tuple[Sequence[str], str, str]:
            tries = self._tries.get(mail)
            step, reply = (tries.step, tries.reply) if tries and tries.step else (problem.step, problem.reply)
            return everybody.get(kind, []), step, reply

        return told

    def is_idle(self) -> bool:
        """Whether nothing is left to do before somebody calls."""
        try:
            waits = self._outbox.waiting_count() or self._outbox.is_reserve_used or self.plan.has_undated
        except NotStored:
            return False
        return not waits and not self._recorder and self._announcer.is_idle()

    def stop(self) -> None:
        """Let `run` come to its end; a mail under way is finished or given up within its deadline."""
        self._stopping = True
        self._bell.set()

    def run(self) -> None:
        """Work until `stop`, and until an announcement under way is over."""
        while not self._stopping:
            try:
                wait = self.round()
            except Exception:
                log.exception("the postman stumbled; mail is tried again later")
                self._failed(Problem("fault"))
                self._patience.forget()  # the fault is ours: no mail is given up for it
                wait = LOOK_AGAIN
            self._tell()
            self._bell.wait(wait)
            self._bell.clear()
        self._announcer.finish()

    def _tell(self) -> None:
        """Let the state be shown. Never raises: a lamp that cannot be lit keeps no mail back."""
        try:
            self._show(self._state_for_lamp())
            self._news()
        except Exception:
            log.exception("the state of the mail path could not be shown")

    def _state_for_lamp(self) -> Mapping[str, Any]:
        try:
            return self.state()
        except NotStored:
            return {"problem": "storage", "step": "", "waiting": 0}

    def round(self) -> float | None:
        """Send what can be sent now. Seconds until it is worth looking again; None: when somebody wakes us."""
        try:
            if self._changed:
                self._changed = False
                self._retry()
            if self._proved:
                self._proved = False
                self._forget()
            self._recorder.record()
            self._outbox.tidy()
            self.plan.look()
            return _sooner(self._round(), self._announcer.round())
        except NotStored as error:
            self._interrupted(Problem("storage", reply=error.reason))
            self._patience.forget()
            return RETRY_FIRST

    def _round(self) -> float | None:
        settings, revision, problem = self._look()
        self._refusal.keep()
        if settings:
            known, by = self._changed_by
            self._announcer.look(settings, by if known == revision else "")
        if problem or settings is None:
            self._interrupted(problem or Problem("unset"))
            self._patience.forget()  # waiting for a person does not count towards giving up
            return LOOK_AGAIN
        if self.problem.word not in LASTING:
            self.problem = self._standing
        self._settle_unwanted(settings)
        self._give_up(settings)
        # A word about new settings may be lost (a hook that was just starting): never wait longer than this unseen.
        if self._outbox.waiting_count():
            return min(self._send_due(settings, revision), LOOK_AGAIN)
        # No mail waits, but a reserve may be to be set aside again, or an event to be dated.
        return LOOK_AGAIN if self._outbox.is_reserve_used or self.plan.has_undated else None

    def _interrupted(self, problem: Problem) -> None:
        if self.problem.word in LASTING:
            self._standing = self.problem
        self.problem = problem

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
        is_of_others = self._refusal.is_of_others(revision)
        if self._revision not in (None, revision) or is_of_others:
            self._forget()
        self._revision = revision
        if settings and self._refusal.problem:
            return settings, revision, self._refusal.problem
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
            self._patience.forget()
            return LOOK_AGAIN
        self._session(settings, revision, password)
        return self._wait()

    def _wait(self) -> float:
        """Seconds until something may be tried."""
        now = self._clock()
        later = max(0.0, self._server.next - now)
        if self.plan.is_ready(self._tried):
            return later
        wait = self.plan.wait(lambda mail: self._tries[mail].next if mail in self._tries else now)
        return max(later, LOOK_AGAIN if wait is None else wait)

    def _tried(self, mail: int) -> float | None:
        """Since when this mail may be tried again: 0 when it never was tried, None when it may not yet."""
        tries = self._tries.get(mail)
        return 0.0 if tries is None else tries.next if tries.next <= self._clock() else None

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
                self._refusal.stands(revision, stopped.reply)  # first of all
            advice = self._advice(stopped.step, stopped.problem, stopped.reply, settings)
            if stopped.login_refused:
                self._refusal.stands(revision, stopped.reply, advice)
                self.problem = Problem("login refused", stopped.step, stopped.reply, advice)
                self._refusal.keep()
            else:
                self._failed(Problem("server", stopped.step, stopped.reply or stopped.problem, advice))
        finally:
            courier.close()

    def _deliver_all(self, courier: Sender, settings: SmtpSettings) -> None:
        deferrals = 0
        try:
            while courier.is_open and not self._stopping and not self._changed:
                mail = self.plan.next(self._tried, self._recorder.record)
                if mail is None:
                    return
                later, moved = self._tried_now(courier, mail, settings)
                deferrals = deferrals + 1 if later and not moved else 0
                if later and (deferrals >= DEFERRALS_MAXIMUM or later.step == "sender" or not courier.is_open):
                    self._failed(later)
                    return
                self.plan.learn_late()
        finally:
            self._recorder.record()

    def _tried_now(self, courier: Sender, mail: Mail, settings: SmtpSettings) -> tuple[Problem | None, bool]:
        try:
            return self._deliver(courier, mail, settings)
        except NotStored:
            raise
        except Exception:  # one mail that cannot be composed must not hold back the others
            log.exception("mail %d could not be made; it is tried again later", mail.id)
            return self._put_off(mail, Problem("fault")), False

    def _deliver(self, courier: Sender, mail: Mail, settings: SmtpSettings) -> tuple[Problem | None, bool]:
        """Send one mail to whoever has no final verdict yet: what kept it back, and whether anybody got one now."""
        if mail.id in self._recorder:
            self._recorder.record()
        listed = self._listed()
        everybody = addresses(mail.type, listed, settings)
        final = {each.recipient for each in self._outbox.deliveries(mail.id)}
        open_ = [each for each in everybody if each not in final]
        told, address = self._outbox.removed()[UNTOLD], courier.local_address
        content = self._composer.content(mail, settings, listed, address, told) if open_ else None
        outcomes: Mapping[str, Any] = {}
        if content:
            # What became of the mail before is on flash before any of this one's content goes out: after a power cut
            # one mail at most comes twice. Both take their time while the server takes its own.
            outcomes = courier.deliver(
                open_,
                content,
                before_content=self._recorder.record,
                meanwhile=partial(self._compose_ahead, mail, settings, address),
                waiting=partial(self._wait_for_word, courier, settings),
            )
        later = [each for each in outcomes.values() if each.verdict == "try later"]
        now = self.calendar.now() if self.calendar.is_right() else 0.0
        ended = [
            Delivery(recipient, each.verdict, each.step, each.reply, now)
            for recipient, each in outcomes.items()
            if each not in later
        ]
        if any(each.verdict == "delivered" for each in ended):
            self.plan.went_out(mail)
        else:
            told = 0
        self._ended(mail, ended, done=not later, told=told)
        self._learned(mail, ended, settings)  # whatever flash takes: it says nothing of the server
        if told or self.plan.following(mail, self._tried) is None:
            self._recorder.record()
        if any(each.verdict == "delivered" for each in ended):
            self._announcer.proved(settings, by_alarm=True)
        if not later:
            return None, True
        advice = self._advice(later[0].step, later[0].problem, later[0].reply, settings)
        return self._put_off(mail, Problem("server", later[0].step, later[0].reply, advice)), bool(ended)

    def _compose_ahead(self, mail: Mail, settings: SmtpSettings, address: str) -> None:
        """All is sent of a mail. Make the one that comes next; what it cannot be made of now, it is when its turn comes."""
        self._sent_at = self._clock()
        try:
            if following := self.plan.following(mail, self._tried):
                self._composer.prepare(following, settings, self._listed(), address)
        except Exception as error:  # it is told when its turn comes
            log.info("a mail could not be made ahead: %s", error)

    def _wait_for_word(self, courier: Sender, settings: SmtpSettings) -> None:
        """A server is slow to say what becomes of a mail: after a minute it is told, and holds no Update back.

        Never raises: the server has the mail, and its word must be heard.
        """
        if self._clock() - self._sent_at < SILENT_SECONDS:
            return
        if self._changed or self._stopping:
            courier.hurry()
        try:
            if (self.problem.word, self.problem.step) != ("server", "content"):
                self.problem = Problem("server", "content", SILENT, self._advice("content", "silent", "", settings))
                self._tell()
        except Exception:
            log.exception("a silent server could not be told of")

    def _learned(self, mail: Mail, ended: Sequence[Delivery], settings: SmtpSettings) -> None:
        """What final verdicts say about the mail path."""
        if ended:
            lost = [each for each in ended if each.verdict != "delivered"]
            self._server, self._standing = Tries(), Problem()
            self._patience.forget()  # it works: what waits now waits for the budget, or has a verdict of its own
            advice = self._advice(lost[0].step, "answer", lost[0].reply, settings) if lost else ""
            self.problem = Problem("refused", lost[0].step, lost[0].reply, advice) if lost else Problem()
        for each in ended:
            log.info("mail %d for %s: %s %s", mail.id, each.recipient, each.verdict, each.reply)

    def _advice(self, step: str, problem: str, reply: str, settings: SmtpSettings) -> str:
        # Imported here: only a mail that does not go out needs it.
        from device_ui.mail.diagnosis import advise

        return advise(step, problem, reply, settings, clock_text(self.calendar.told)).sentence

    def _put_off(self, mail: Mail, problem: Problem) -> Problem:
        tries = self._tries.setdefault(mail.id, Tries())
        tries.again(self._clock(), self._chance(), problem.step, problem.reply)
        self.problem = problem
        return problem

    def _ended(self, mail: Mail, ended: list[Delivery], *, done: bool, told: int = 0) -> None:
        if not ended and not done:
            return  # a retry writes nothing
        if done:
            self._tries.pop(mail.id, None)
            self.plan.done(mail)
        self._recorder.keep(mail.id, ended, done=done, told=told)

    def _failed(self, problem: Problem) -> None:
        self._server.again(self._clock(), self._chance())
        self.problem = problem

    def _retry(self) -> None:
        """Somebody pressed Update: wait for nothing any more, but for a refused login, which takes other settings."""
        self._server = Tries()
        self._tries.clear()
        self._patience.forget()
        self._standing = Problem()
        if self.problem.word in LASTING and self.problem.word not in LOSSES:
            self.problem = Problem()

    def _forget(self) -> None:
        self._retry()
        self._refusal.forget()

    def _give_up(self, settings: SmtpSettings) -> None:
        """Drop what has waited for five days of trying."""
        now = self._clock()
        expired = self._patience.expired(now, self._outbox.newest_waiting)
        if expired and self.plan.give_up(expired, {kind: self._given_up(kind, settings) for kind in TYPES}):
            self._tries.clear()
            self.problem = Problem("dropped", self.problem.step, self.problem.reply)
        for mail, tries in list(self._tries.items()):
            if now - tries.since > GIVE_UP_SECONDS:
                self._give_up_one(mail, tries, settings)

    def _give_up_one(self, mail: int, tries: Tries, settings: SmtpSettings) -> None:
        """A mail that a server which takes others has deferred for five days."""
        event = self._outbox.event(mail)
        final = {each.recipient for each in self._outbox.deliveries(mail)}
        self.problem = Problem("dropped", tries.step, tries.reply)
        dropped = (
            [each for each in self._given_up(event.type, settings) if each.recipient not in final] if event else []
        )
        self._ended(Mail("", (mail,)), dropped, done=True)
        self._recorder.record()

    def _given_up(self, kind: str, settings: SmtpSettings) -> list[Delivery]:
        """What becomes of a mail of this type for each of its recipients."""
        reply = f"given up after 5 days: {self.problem.step} {self.problem.reply}".strip()
        now = self.calendar.now() if self.calendar.is_right() else 0.0
        everybody = addresses(kind, self._listed(), settings)
        return [Delivery(each, DROPPED, self.problem.step, reply, now) for each in everybody]


def clock_text(seconds: float) -> str:
    """What a clock says, as a person reads it."""
    from datetime import datetime

    return f"{datetime.fromtimestamp(int(seconds)).astimezone():%Y-%m-%d %H:%M %z}"


def _sooner(one: float | None, other: float | None) -> float | None:
    return min((each for each in (one, other) if each is not None), default=None)
