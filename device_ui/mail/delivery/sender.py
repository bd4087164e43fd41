"""Compose a mail and send it in an SMTP session. Every route sends by `Sender`; `DeliverySession` sends the queue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from device_ui.errors import CannotOpen, Damaged, NoKey, NotReadable, NotStored, Text
from device_ui.mail.catalog import SERVER_CHANGED, Catalog
from device_ui.mail.clock import clock_text
from device_ui.mail.delivery.batching import QueuedMail
from device_ui.mail.delivery.environment import Environment
from device_ui.mail.delivery.retry import Backoff
from device_ui.mail.delivery.schedule import Schedule
from device_ui.mail.delivery.status import DeliveryStatus, Problem
from device_ui.mail.events import Delivery, Event, Verdict
from device_ui.mail.outbox.outbox import Outbox
from device_ui.mail.outbox.retention import UNTOLD
from device_ui.mail.smtp.outcome import Outcome, SmtpProblem, Step
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import Recipient, addresses

if TYPE_CHECKING:
    from device_ui.mail.message.compose import Envelope

log = logging.getLogger(__name__)

# Events that a digest lists one by one; it counts the others.
LISTED_MAXIMUM = 100
# Mails in a row that a server defers for every recipient before the session ends: the server means them all.
DEFERRALS_MAXIMUM = 5
# Seconds of a server's silence after which the state reports it.
SILENT_SECONDS, SILENT = 60.0, "the server does not answer in time"
# Why a stored password cannot be opened.
UNSEAL_ERRORS = (NoKey, CannotOpen, Damaged, NotReadable)


class Transport(Protocol):
    """What delivery uses of `smtp.client.SmtpClient`."""

    @property
    def local_address(self) -> str: ...
    @property
    def is_open(self) -> bool: ...
    def open(self) -> None: ...
    def deliver(
        self,
        recipients: Sequence[str],
        message: bytes,
        *,
        on_wait: Callable[[float], None] = ...,
    ) -> dict[str, Outcome]: ...
    def end_wait(self) -> None: ...
    def close(self) -> None: ...


class Attempt:
    """What one attempt of a mail came to: the final `results`, and by recipient the outcomes that defer it."""

    def __init__(self, outcomes: Mapping[str, Outcome], date: float) -> None:
        self._date = date
        self.deferred = {name: outcome for name, outcome in outcomes.items() if outcome.verdict == Verdict.TRY_LATER}
        self.results = [
            Delivery(name, outcome.verdict, outcome.step, outcome.reply, date)
            for name, outcome in outcomes.items()
            if name not in self.deferred
        ]

    @property
    def is_delivered(self) -> bool:
        """Whether the server took the mail for any recipient."""
        return any(result.verdict == Verdict.DELIVERED for result in self.results)

    @property
    def lost(self) -> Delivery | None:
        """The first final result that is no delivery."""
        return next((result for result in self.results if result.verdict != Verdict.DELIVERED), None)

    def given_up(self) -> list[Delivery]:
        """Return the results of the deferred recipients when no further attempt follows."""
        return [
            Delivery(name, Verdict.DROPPED, outcome.step, outcome.reply, self._date)
            for name, outcome in self.deferred.items()
        ]


class Sender:
    """Composes and sends the mails of one device. `connect` makes a transport of settings and a password."""

    def __init__(
        self,
        outbox: Outbox,
        catalog: Catalog,
        connect: Callable[[SmtpSettings, str], Transport],
        environment: Environment,
    ) -> None:
        self._outbox, self._catalog, self._connect = outbox, catalog, connect
        self.environment = environment

    def connect(self, settings: SmtpSettings) -> Transport:
        """Return a transport that is not open yet. Raises `UNSEAL_ERRORS`."""
        return self._connect(settings, self.environment.passwords.unseal(settings) if settings.sealed else "")

    def attempt(
        self,
        transport: Transport,
        mail: QueuedMail,
        settings: SmtpSettings,
        listed: Sequence[Recipient],
        *,
        removed: int = 0,
        notice: Event | None = None,
        on_wait: Callable[[float], None] = lambda _seconds: None,
    ) -> Attempt:
        """Compose the mail and send it to its open recipients.

        `listed` gives each recipient's language. `removed`: events that retention removed unmailed, which the mail reports.
        `notice`: the mail notifies of this server change, of which the ledger may have no event any more. `on_wait` is called
        every few seconds while the server has the mail and has not replied, with the seconds so far. Raises `NotStored`.
        """
        recipients = mail.open_recipients
        envelope = self.envelope(settings, mail.recipients, listed, transport.local_address, removed)
        content = self._content(mail, envelope, notice) if recipients else None
        outcomes = transport.deliver(recipients, content, on_wait=on_wait) if content is not None else {}
        return Attempt(outcomes, self.environment.date())

    def envelope(
        self,
        settings: SmtpSettings,
        recipients: Sequence[str],
        listed: Sequence[Recipient],
        address: str,
        removed: int = 0,
    ) -> Envelope:
        """Return what the mails to these recipients have in common; `address` is the device's own in this session."""
        # Imported here: a process that sends nothing does not load `email`.
        from device_ui.mail.message.compose import Envelope, languages

        device = {**self.environment.device, "address": address}
        spoken = languages(recipients, listed, device)
        now = self.environment.wall_clock.now()
        return Envelope(settings, recipients, device, self._outbox.id, now, removed, spoken)

    def advise(self, step: str, problem: str, reply: Text, settings: SmtpSettings) -> Text:
        """Return one sentence on what a person can change."""
        # Imported here: only a mail that does not go out needs it.
        from device_ui.mail.smtp.advice import advise

        return advise(step, problem, reply, settings, clock_text(self.environment.wall_clock.raw)).sentence

    def _content(self, mail: QueuedMail, envelope: Envelope, notice: Event | None) -> bytes | None:
        """Return the mail's bytes; None when retention removed all its events."""
        from device_ui.mail.message import compose

        if notice:  # the ledger's event may have got its date since
            return compose.compose(self._outbox.event(mail.number) or notice, SERVER_CHANGED, envelope)
        digest = self._outbox.digest(mail.number, LISTED_MAXIMUM)
        if digest is None:
            return None
        if digest.count > 1 or digest.events[0].number != mail.number:
            return compose.compose_digest(digest, self._catalog, envelope)
        return compose.compose(digest.events[0], self._catalog[digest.events[0].code], envelope)


class DeliverySession:
    """Sends the queue of one device in a session, mail after mail.

    `verified` is called with the settings and the listed recipients once an alarm got through.
    """

    def __init__(
        self,
        outbox: Outbox,
        schedule: Schedule,
        sender: Sender,
        status: DeliveryStatus,
        backoff: Backoff,
        verified: Callable[[SmtpSettings, Sequence[Recipient]], None],
    ) -> None:
        self._outbox, self._schedule, self._sender = outbox, schedule, sender
        self._status, self._backoff, self._verified = status, backoff, verified
        self._environment = sender.environment

    def send_queue(self, transport: Transport, settings: SmtpSettings, is_interrupted: Callable[[], bool]) -> None:
        """Send every mail that is due, until `is_interrupted`, which a silent server does not delay either.

        `transport` is open. The problem is in the status afterwards, and the next try in the back-off. Raises `NotStored`.
        """
        deferrals = 0
        while transport.is_open and not is_interrupted():
            mail = self._schedule.next()
            if mail is None:
                return
            problem, has_results = self._try(transport, mail, settings, is_interrupted)
            deferrals = deferrals + 1 if problem and not has_results else 0
            if problem and (deferrals >= DEFERRALS_MAXIMUM or problem.step == Step.SENDER or not transport.is_open):
                self._backoff.server_failed()
                self._status.problem = problem
                return
            self._schedule.learn_late()

    def _try(
        self, transport: Transport, mail: QueuedMail, settings: SmtpSettings, is_interrupted: Callable[[], bool]
    ) -> tuple[Problem | None, bool]:
        """Return why the mail is deferred, if it is, and whether any recipient got a final result."""
        try:
            return self._deliver(transport, mail, settings, is_interrupted)
        except NotStored:
            raise
        except Exception:  # one mail that cannot be composed must not hold back the others
            log.exception("mail %d failed; it is tried again later", mail.number)
            return self._defer(mail, Problem("fault")), False

    def _deliver(
        self, transport: Transport, mail: QueuedMail, settings: SmtpSettings, is_interrupted: Callable[[], bool]
    ) -> tuple[Problem | None, bool]:
        listed = self._environment.recipients()
        ended = [delivery.recipient for delivery in self._outbox.deliveries(mail.number)]
        mail.begin_try(addresses(mail.type, listed, settings), ended)
        removed = self._outbox.removed()[UNTOLD]

        def on_wait(seconds: float) -> None:
            self._report_silence(seconds, transport, settings, is_interrupted)

        attempt = self._sender.attempt(transport, mail, settings, listed, removed=removed, on_wait=on_wait)
        try:
            self._schedule.conclude(mail, attempt.results, is_done=not attempt.deferred, removed=removed)
            self._learn(mail, attempt, settings)  # first of all: a full flash says nothing about the server
        finally:
            # Before the next mail begins: after a power cut one mail at most goes out twice.
            self._schedule.store_results()
        if attempt.is_delivered:
            self._verified(settings, listed)
        if not attempt.deferred:
            return None, True
        first = next(iter(attempt.deferred.values()))
        advice = self._sender.advise(first.step, first.problem, first.reply, settings)
        return self._defer(mail, Problem("server", first.step, first.reply, advice)), bool(attempt.results)

    def _report_silence(
        self, seconds: float, transport: Transport, settings: SmtpSettings, is_interrupted: Callable[[], bool]
    ) -> None:
        """Report a server that has the mail and gives no answer for a minute; then end the wait for an Update.

        Never raises: the server has the mail, and its answer must be read.
        """
        if seconds < SILENT_SECONDS:
            return
        if is_interrupted():
            transport.end_wait()
        try:
            if (self._status.problem.word, self._status.problem.step) != ("server", Step.CONTENT):
                advice = self._sender.advise(Step.CONTENT, SmtpProblem.SILENT, "", settings)
                self._status.problem = Problem("server", Step.CONTENT, SILENT, advice)
                self._status.publish()
        except Exception:
            log.exception("silent server not reported")

    def _learn(self, mail: QueuedMail, attempt: Attempt, settings: SmtpSettings) -> None:
        """Set the state of the mail path by final results."""
        if not attempt.results:
            return
        self._backoff.reset()
        lost = attempt.lost
        advice = self._sender.advise(lost.step, SmtpProblem.ANSWER, lost.reply, settings) if lost else ""
        self._status.problem = Problem("refused", lost.step, lost.reply, advice) if lost else Problem()
        for result in attempt.results:
            log.info("mail %d for %s: %s %s", mail.number, result.recipient, result.verdict, result.reply)

    def _defer(self, mail: QueuedMail, problem: Problem) -> Problem:
        self._schedule.defer(mail, problem.step, problem.reply)
        self._status.problem = problem
        return problem
