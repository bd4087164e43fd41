"""One session's work: a courier is sent with one mail after another, and what the server says of each is learned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from device_ui.errors import NotStored, Text
from device_ui.mail.clock import Clock, clock_text
from device_ui.mail.delivery.batching import Batch
from device_ui.mail.delivery.composer import Composer
from device_ui.mail.delivery.problem import Problem
from device_ui.mail.delivery.refusal import LoginLockout
from device_ui.mail.delivery.retry import Backoff
from device_ui.mail.delivery.schedule import Schedule
from device_ui.mail.delivery.server_change import Messenger
from device_ui.mail.delivery.status import DeliveryStatus
from device_ui.mail.events import Delivery
from device_ui.mail.outbox.outbox import Outbox
from device_ui.mail.outbox.recorder import Recorder
from device_ui.mail.outbox.retention import UNTOLD
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import Recipient, addresses

log = logging.getLogger(__name__)

# Mails in a row that a server defers for everybody before the session is given up: it means them all.
DEFERRALS_MAXIMUM = 5
# Seconds of a server's silence after which a person should hear of it.
SILENT_SECONDS, SILENT = 60.0, "the server does not answer in time"


class Transport(Messenger, Protocol):
    """What a session needs of `courier.SmtpClient`."""

    @property
    def is_open(self) -> bool: ...
    def end_wait(self) -> None: ...


class DeliverySession:
    """The sessions of one device, one at a time. `connect` makes a courier from settings and password.

    `proved` hears with which settings, and to whom, an alarm got through. `called_back` tells whether
    a session must come to its end for something else: no other mail is begun then, and a silent server is hurried.
    """

    def __init__(
        self,
        outbox: Outbox,
        plan: Schedule,
        composer: Composer,
        recorder: Recorder,
        refusal: LoginLockout,
        backoff: Backoff,
        state: DeliveryStatus,
        connect: Callable[[SmtpSettings, str], Transport],
        calendar: Clock,
        *,
        listed: Callable[[], Sequence[Recipient]],
        proved: Callable[[SmtpSettings, Sequence[Recipient]], None],
        called_back: Callable[[], bool],
    ) -> None:
        self._outbox, self._plan, self._composer, self._recorder = outbox, plan, composer, recorder
        self._refusal, self._backoff, self._state = refusal, backoff, state
        self._connect, self._listed = connect, listed
        self._proved, self._called_back, self._calendar = proved, called_back, calendar

    def send(self, settings: SmtpSettings, revision: str, password: str) -> None:
        """Send in one session what the plan says, by the settings of this `revision`.

        What keeps mail back is on the mail path afterwards, and when to try again in the back-off. Raises `NotStored`.
        """
        # Imported here: a hook that has no mail to send needs neither ssl nor smtplib.
        from device_ui.mail.smtp.outcome import SessionError

        courier = self._connect(settings, password)
        try:
            courier.open()
            self._deliver_all(courier, settings)
        except SessionError as stopped:
            log.warning("no mail: %s", stopped)
            if stopped.login_refused:
                self._refusal.stands(revision, stopped.reply)  # first of all
            advice = self._advice(stopped.step, stopped.problem, stopped.reply, settings)
            if stopped.login_refused:
                self._refusal.stands(revision, stopped.reply, advice)
                self._state.interrupted(Problem("login refused", stopped.step, stopped.reply, advice))
                self._refusal.keep()
            else:
                self._failed(Problem("server", stopped.step, stopped.reply or stopped.problem, advice))
        finally:
            courier.close()

    def _deliver_all(self, courier: Transport, settings: SmtpSettings) -> None:
        deferrals = 0
        try:
            while courier.is_open and not self._called_back():
                mail = self._plan.next(self._backoff.tried, self._recorder.record)
                if mail is None:
                    return
                later, moved = self._tried_now(courier, mail, settings)
                deferrals = deferrals + 1 if later and not moved else 0
                if later and (deferrals >= DEFERRALS_MAXIMUM or later.step == "sender" or not courier.is_open):
                    self._failed(later)
                    return
                self._plan.learn_late()
        finally:
            self._recorder.record()

    def _tried_now(self, courier: Transport, mail: Batch, settings: SmtpSettings) -> tuple[Problem | None, bool]:
        try:
            return self._deliver(courier, mail, settings)
        except NotStored:
            raise
        except Exception:  # one mail that cannot be composed must not hold back the others
            log.exception("mail %d could not be made; it is tried again later", mail.id)
            return self._put_off(mail, Problem("fault")), False

    def _deliver(self, courier: Transport, mail: Batch, settings: SmtpSettings) -> tuple[Problem | None, bool]:
        """Send one mail to whoever has no final verdict yet: what kept it back, and whether anybody got one now."""
        # The outcome of the mail before is on flash before this one is sent: a power cut repeats one mail at most.
        self._recorder.record()
        listed = self._listed()
        everybody = addresses(mail.type, listed, settings)
        final = {each.recipient for each in self._outbox.deliveries(mail.id)}
        open_ = [each for each in everybody if each not in final]
        told, address = self._outbox.removed()[UNTOLD], courier.local_address
        content = self._composer.content(mail, settings, listed, address, told) if open_ else None
        outcomes: Mapping[str, Any] = {}
        if content:
            outcomes = courier.deliver(open_, content, on_wait=partial(self._wait_for_word, courier, settings))
        later = [each for each in outcomes.values() if each.verdict == "try later"]
        now = self._calendar.now() if self._calendar.is_right() else 0.0
        ended = [
            Delivery(recipient, each.verdict, each.step, each.reply, now)
            for recipient, each in outcomes.items()
            if each not in later
        ]
        if any(each.verdict == "delivered" for each in ended):
            self._plan.went_out(mail)
        else:
            told = 0
        self._ended(mail, ended, done=not later, told=told)
        self._learned(mail, ended, settings)  # whatever flash takes: it says nothing of the server
        if told or self._plan.following(mail, self._backoff.tried) is None:
            self._recorder.record()
        if any(each.verdict == "delivered" for each in ended):
            self._proved(settings, listed)
        if not later:
            return None, True
        advice = self._advice(later[0].step, later[0].problem, later[0].reply, settings)
        return self._put_off(mail, Problem("server", later[0].step, later[0].reply, advice)), bool(ended)

    def _wait_for_word(self, courier: Transport, settings: SmtpSettings, waited: float) -> None:
        """A server is slow to say what becomes of a mail: after a minute it is told, and holds no Update back.

        Never raises: the server has the mail, and its word must be heard.
        """
        if waited < SILENT_SECONDS:
            return
        if self._called_back():
            courier.end_wait()
        try:
            if (self._state.problem.word, self._state.problem.step) != ("server", "content"):
                self._state.problem = Problem(
                    "server", "content", SILENT, self._advice("content", "silent", "", settings)
                )
                self._state.tell()
        except Exception:
            log.exception("a silent server could not be told of")

    def _learned(self, mail: Batch, ended: Sequence[Delivery], settings: SmtpSettings) -> None:
        """What final verdicts say about the mail path."""
        if ended:
            lost = [each for each in ended if each.verdict != "delivered"]
            self._backoff.server_works()
            advice = self._advice(lost[0].step, "answer", lost[0].reply, settings) if lost else ""
            self._state.problem = Problem("refused", lost[0].step, lost[0].reply, advice) if lost else Problem()
        for each in ended:
            log.info("mail %d for %s: %s %s", mail.id, each.recipient, each.verdict, each.reply)

    def _advice(self, step: str, problem: str, reply: Text, settings: SmtpSettings) -> Text:
        # Imported here: only a mail that does not go out needs it.
        from device_ui.mail.smtp.advice import advise

        return advise(step, problem, reply, settings, clock_text(self._calendar.told)).sentence

    def _put_off(self, mail: Batch, problem: Problem) -> Problem:
        self._backoff.mail_failed(mail.id, problem.step, problem.reply)
        self._state.problem = problem
        return problem

    def _ended(self, mail: Batch, ended: list[Delivery], *, done: bool, told: int) -> None:
        if not ended and not done:
            return  # a retry writes nothing
        if done:
            self._backoff.mail_done(mail.id)
            self._plan.done(mail)
        self._recorder.keep(mail.id, ended, done=done, told=told)

    def _failed(self, problem: Problem) -> None:
        self._backoff.server_failed()
        self._state.problem = problem
