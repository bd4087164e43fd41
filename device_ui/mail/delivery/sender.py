"""Compose a mail and send it in an SMTP session. Every route sends by `Sender`; `DeliverySession` sends the queue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from device_ui.errors import CannotOpen, Damaged, NoKey, NotReadable, NotStored, Text
from device_ui.mail.catalog import SERVER_CHANGED, Catalog
from device_ui.mail.clock import clock_text
from device_ui.mail.delivery.batching import QueuedMail
from device_ui.mail.delivery.environment import Environment
from device_ui.mail.delivery.problem import Problem
from device_ui.mail.delivery.retry import DEFERRALS_MAXIMUM, Backoff, RecipientBackoff
from device_ui.mail.delivery.schedule import Schedule
from device_ui.mail.delivery.status import DeliveryStatus
from device_ui.mail.events import Delivery, Event, Verdict
from device_ui.mail.outbox.outbox import Outbox
from device_ui.mail.outbox.retention import UNTOLD
from device_ui.mail.smtp.outcome import Outcome, SmtpProblem, Step
from device_ui.mail.smtp.scope import Scope
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import Recipient, addresses

if TYPE_CHECKING:
    from device_ui.mail.message.envelope import Envelope
    from device_ui.mail.smtp.trust import InUse

log = logging.getLogger(__name__)

# Events that a digest lists one by one; it counts the others.
# A digest of 100 texts may have a megabyte; servers take some ten.
LISTED_MAXIMUM = 100
# Seconds of a server's silence after which the state reports it.
# The waits of RFC 5321, section 4.5.3.2 are minutes; the page should not say "ok" for as long.
SILENT_SECONDS, SILENT = 60.0, "the server does not answer in time"
# Characters of an event's text that a mail too large for the server starts to be cut from; what marks the cut.
TEXT_MAXIMUM, CUT = 1 << 20, "…"
SCOPES = tuple(Scope)
# Why a stored password cannot be opened.
UNSEAL_ERRORS = (NoKey, CannotOpen, Damaged, NotReadable)


class Transport(Protocol):
    """What delivery uses of `smtp.client.SmtpClient`."""

    @property
    def local_address(self) -> str: ...
    @property
    def is_open(self) -> bool: ...
    @property
    def size_maximum(self) -> int: ...
    @property
    def step(self) -> Step: ...
    @property
    def certificates(self) -> Sequence[InUse]: ...
    def open(self, on_wait: Callable[[float], None] = ...) -> None: ...
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
    """The outcomes of one attempt to send a mail: the final `results`, and by recipient those that defer it.

    `is_too_large`: the server does not take a mail of this size, and no recipient has got it, so that it may be split.
    """

    def __init__(self, outcomes: Mapping[str, Outcome], date: float, *, is_too_large: bool = False) -> None:
        self._date, self.is_too_large = date, is_too_large
        self.deferred = {name: outcome for name, outcome in outcomes.items() if outcome.verdict == Verdict.TRY_LATER}
        self.results = [
            Delivery(name, outcome.verdict, outcome.step, outcome.reply, date)
            for name, outcome in outcomes.items()
            if name not in self.deferred
        ]

    @property
    def deferred_recipients(self) -> dict[str, Outcome]:
        """Those of the deferred whom the server defers alone, such as for a full mailbox."""
        return {name: outcome for name, outcome in self.deferred.items() if outcome.scope == Scope.RECIPIENT}

    @property
    def is_delivered(self) -> bool:
        """Whether the server took the mail for any recipient."""
        return any(result.verdict == Verdict.DELIVERED for result in self.results)

    @property
    def deciding(self) -> Outcome | None:
        """The outcome of the broadest scope among those that defer the mail, the first one of these."""
        return max(self.deferred.values(), key=lambda outcome: SCOPES.index(outcome.scope), default=None)

    def given_up(self) -> list[Delivery]:
        """Return the results of the deferred recipients when no further attempt follows."""
        return [
            Delivery(name, Verdict.DROPPED, outcome.step, outcome.reply, self._date)
            for name, outcome in self.deferred.items()
        ]


@dataclass(frozen=True)
class AttemptOptions:
    """How a mail is sent.

    `recipients_maximum` share a transaction (0: all). `removed`: events that retention removed unmailed, which the mail reports.
    `notice`: the mail is the notice of this server change, of which the database may have no event any more. `may_split`: a mail
    that is too large is not sent, since the caller splits it. `on_wait` is called every few seconds while the server does
    not answer, with the seconds so far. `on_results` receives the final results of each transaction before the next begins.
    """

    # The defaults: one transaction for all recipients, and no caller that follows it.
    recipients_maximum: int = 0
    removed: int = 0
    notice: Event | None = None
    may_split: bool = False
    on_wait: Callable[[float], None] = lambda _seconds: None
    on_results: Callable[[Sequence[Delivery]], None] = lambda _results: None


class Sender:
    """Composes and sends the mails of one device. `connect` makes a transport of settings and a password."""

    def __init__(
        self,
        outbox: Outbox,
        catalog: Catalog,
        connect: Callable[[SmtpSettings, str], Transport],
        environment: Environment,
    ) -> None:
        self._outbox, self._connect = outbox, connect
        self.catalog = catalog
        self.environment = environment

    @property
    def next_number(self) -> int:
        """The number that the next event gets."""
        return self._outbox.last + 1

    def connect(self, settings: SmtpSettings) -> Transport:
        """Return a transport that is not open yet. Raises `UNSEAL_ERRORS`."""
        return self._connect(settings, self.environment.passwords.unseal(settings) if settings.sealed else "")

    def attempt(
        self,
        transport: Transport,
        mail: QueuedMail,
        settings: SmtpSettings,
        listed: Sequence[Recipient],
        options: AttemptOptions,
    ) -> Attempt:
        """Compose the mail and send it to its open recipients but the deferred ones; `listed` gives each recipient's language.

        A mail that is larger than the server takes is shortened (RFC 1870), unless it may be split. Raises `NotStored`.
        """
        # Not to the deferred ones: a full mailbox would answer the same to each mail that waits for it.
        recipients = [each for each in mail.open_recipients if each not in mail.deferred_recipients]
        if options.recipients_maximum == 1 and recipients:
            # A different one first with each try: a server that always hangs up at one must not keep the mail from the
            # others.
            first = mail.tries.count % len(recipients)
            recipients = recipients[first:] + recipients[:first]
        envelope = self.envelope(settings, mail.recipients, listed, transport.local_address, options.removed)
        compose = self._composer(mail, envelope, options.notice) if recipients else None
        if compose is None:  # no recipient is left to ask for, or no event
            return Attempt({}, 0.0)
        if options.may_split and len(compose(None)) > transport.size_maximum > 0:
            return Attempt({}, 0.0, is_too_large=True)
        return self._deliver_shortened(transport, recipients, compose, options)

    def _deliver_shortened(
        self,
        transport: Transport,
        recipients: Sequence[str],
        compose: Callable[[int | None], bytes],
        options: AttemptOptions,
    ) -> Attempt:
        """Send the mail; to those for whom it is too large again, shorter each time, while there is text to cut."""
        # Shortened to the announced size before it is tried: each refusal would cost a transaction.
        raw = _fitting(compose, transport.size_maximum)
        outcomes: dict[str, Outcome] = {}
        while True:
            # A later try of fewer recipients replaces their outcomes and keeps those of the others.
            outcomes |= self._deliver(transport, recipients, raw, options)
            attempt = Attempt(outcomes, self.environment.wall_clock.seconds())
            # Not all: others may have been refused or deferred before the server saw the size.
            recipients = [name for name, outcome in outcomes.items() if _is_too_large(outcome)]
            if recipients and options.may_split and not attempt.is_delivered:
                return Attempt({}, 0.0, is_too_large=True)
            shorter = _fitting(compose, len(raw) // 2) if recipients else raw
            if len(shorter) >= len(raw) or not transport.is_open:
                # Final now (see `_deliver`): no shorter try follows.
                options.on_results([result for result in attempt.results if result.recipient in recipients])
                return attempt
            raw = shorter

    def _deliver(
        self, transport: Transport, recipients: Sequence[str], raw: bytes, options: AttemptOptions
    ) -> dict[str, Outcome]:
        # Imported here, as `advise`: a process that sends nothing loads neither ssl nor smtplib.
        from device_ui.mail.smtp.transaction import deliver_to_all

        def on_outcomes(outcomes: Mapping[str, Outcome]) -> None:
            # Not final yet: the mail is tried once more, shorter.
            final = {name: outcome for name, outcome in outcomes.items() if not _is_too_large(outcome)}
            options.on_results(Attempt(final, self.environment.wall_clock.seconds()).results)

        return deliver_to_all(
            transport, recipients, raw, options.recipients_maximum, on_wait=options.on_wait, on_outcomes=on_outcomes
        )

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
        from device_ui.mail.message.compose import languages
        from device_ui.mail.message.envelope import Envelope

        device = {**self.environment.device, "address": address}
        spoken = languages(recipients, listed, device)
        now = self.environment.wall_clock.now()
        return Envelope(settings, recipients, device, self._outbox.id, now, removed, spoken)

    def advise(self, step: str, problem: str, reply: Text, settings: SmtpSettings) -> Text:
        """Return one sentence on what a person can change."""
        # Imported here: only a mail that does not go out needs it.
        from device_ui.mail.smtp.advice import advise

        return advise(step, problem, reply, settings, clock_text(self.environment.wall_clock.raw)).sentence

    def _composer(
        self, mail: QueuedMail, envelope: Envelope, notice: Event | None
    ) -> Callable[[int | None], bytes] | None:
        """Return a function that composes the mail, with the texts cut at so many characters; None without any event."""
        from device_ui.mail.message import compose

        if notice:  # the database's event may have got its date since
            event = self._outbox.event(mail.number) or notice
            return lambda characters: compose.compose(_cut(event, characters), SERVER_CHANGED, envelope)
        digest = self._outbox.digest(mail.number, LISTED_MAXIMUM)
        if digest is None:
            return None
        if again := digest.events[0].about:
            # The text of the first event under the number of the new mail.
            original = self._outbox.event(again)  # None when retention removed it
            if original is None:
                return None
            return lambda characters: compose.compose(
                _cut(original, characters), self.catalog[original.code], envelope, mail.number
            )
        if mail.number in self._outbox.summaries():
            digest = replace(digest, is_summary=True)
        if digest.is_summary or digest.count > 1 or digest.events[0].number != mail.number:
            return lambda characters: compose.compose_digest(
                replace(digest, events=[_cut(event, characters) for event in digest.events]), self.catalog, envelope
            )
        only = digest.events[0]
        return lambda characters: compose.compose(_cut(only, characters), self.catalog[only.code], envelope)


def _is_too_large(outcome: Outcome) -> bool:
    return outcome.problem == SmtpProblem.TOO_LARGE


def _is_of_content(attempt: Attempt) -> bool:
    """Return whether the content was deferred for some recipient: with no recipient served, it may be that of every mail."""
    return any(outcome.step == Step.CONTENT for outcome in attempt.deferred.values())


def _cut(event: Event, characters: int | None) -> Event:
    """Return the event with its text cut at so many `characters`, which shows."""
    return (
        event
        if characters is None or len(event.text) <= characters
        else replace(event, text=event.text[:characters] + CUT)
    )


def _fitting(compose: Callable[[int | None], bytes], size: int) -> bytes:
    """Return the mail with `size` bytes at most (0: any number), its texts cut if need be; else the shortest there is."""
    # Halved until it fits: some twenty steps at most, of which nearly all mails need none.
    raw, characters = compose(None), TEXT_MAXIMUM
    while len(raw) > size > 0 and characters:
        characters //= 2
        raw = compose(characters)
    return raw


@dataclass(frozen=True)
class Fate:
    """What becomes of a mail after an attempt: the `problem` and its `scope`, if it waits; whether some recipient was served."""

    problem: Problem | None = None
    scope: Scope | None = None
    is_served: bool = False


class DeliverySession:
    """Sends the queue of one device in a session, mail after mail.

    `verified` is called with the settings and the listed recipients once an event got through.
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
        self._environment = environment = sender.environment
        self._recipients = RecipientBackoff(environment.monotonic, environment.random)
        # Recipients in a transaction at most, 0 for all: learned from sessions that ended at one more.
        self._recipients_maximum = 0

    def reset(self) -> None:
        """Forget what sessions with an earlier server taught."""
        self._recipients_maximum = 0
        self._recipients.reset()

    def send_queue(self, transport: Transport, settings: SmtpSettings, is_interrupted: Callable[[], bool]) -> None:
        """Send every mail that is due, until `is_interrupted`, which a silent server does not delay either.

        `transport` is open. The problem is in the status afterwards, and the next try in the back-off: a session that
        delivered something and then ended may be opened again at once. Raises `NotStored`.
        """
        try:
            self._send_queue(transport, settings, is_interrupted)
        finally:
            self._schedule.postpone(self._recipients.end)

    def _send_queue(self, transport: Transport, settings: SmtpSettings, is_interrupted: Callable[[], bool]) -> None:
        deferrals, is_serving = 0, False
        while transport.is_open and not is_interrupted():
            mail = self._schedule.next()
            if mail is None:
                return
            fate = self._try(transport, mail, settings, is_interrupted)
            is_serving = is_serving or fate.is_served
            # After each mail: a session may last for hours.
            self._status.publish_change()
            if fate.scope in (Scope.TRANSACTION, Scope.SESSION):
                return  # the same mail goes on in the next session
            if fate.is_served or not fate.problem:
                deferrals = 0
            elif fate.scope != Scope.RECIPIENT:
                deferrals += 1
            if fate.problem and (fate.scope == Scope.SERVER or deferrals >= DEFERRALS_MAXIMUM or not transport.is_open):
                # A server that took something works; the problem is that of the mail alone.
                if not is_serving:
                    self._backoff.server_failed()
                    self._status.server_failed(fate.problem)
                return
            # A different thread may have committed an event and not passed it on yet; it goes before what was deferred earlier.
            self._schedule.add_missed()

    def _try(
        self, transport: Transport, mail: QueuedMail, settings: SmtpSettings, is_interrupted: Callable[[], bool]
    ) -> Fate:
        try:
            return self._deliver(transport, mail, settings, is_interrupted)
        except NotStored:
            raise
        except Exception:  # one mail that cannot be composed must not delay the others
            log.exception("mail %d failed; it is tried again later", mail.number)
            return self._defer(mail, Problem("fault"), Scope.MAIL)

    def _deliver(
        self, transport: Transport, mail: QueuedMail, settings: SmtpSettings, is_interrupted: Callable[[], bool]
    ) -> Fate:
        listed = self._environment.recipients()
        # From the database, and not from memory: an earlier process may have served some of them.
        before = self._outbox.deliveries(mail.number)
        recipients = addresses(mail.type, listed, settings)
        mail.begin_try(recipients, self._outbox.ended(mail.number, recipients))
        mail.deferred_recipients |= {
            name: why for name in mail.open_recipients if (why := self._recipients.problem(name, mail.number))
        }
        results, removed = list(before), self._outbox.removed()[UNTOLD]

        def on_results(final: Sequence[Delivery]) -> None:
            results.extend(final)
            self._record(mail, final, results, settings, removed)

        options = AttemptOptions(
            # One reply to a content is for all recipients, though it may mean one of them: from now on each has a transaction
            # of its own.
            recipients_maximum=1 if mail.tries.step == Step.CONTENT else self._recipients_maximum,
            removed=removed,
            # Only while no recipient has it: the halves would reach those a second time.
            may_split=len(mail.events) > 1 and not before,
            on_wait=lambda seconds: self.report_silence(seconds, transport, settings, is_interrupted),
            on_results=on_results,
        )
        attempt = self._sender.attempt(transport, mail, settings, listed, options)
        if attempt.is_too_large:
            self._schedule.split(mail)
            return Fate()
        if any(result.verdict == Verdict.DELIVERED for result in attempt.results):
            self._verified(settings, listed)
        return self._settle(mail, attempt, settings)

    def _settle(self, mail: QueuedMail, attempt: Attempt, settings: SmtpSettings) -> Fate:
        """Decide what becomes of a mail after an attempt whose results are on flash."""
        self._defer_recipients(mail, attempt, settings)
        is_served, deciding = bool(attempt.results), attempt.deciding
        if deciding is None and not mail.deferred_recipients:
            if not mail.is_done:  # no recipient is left, or no event
                self._schedule.conclude(mail, [], is_done=True)
                self._schedule.store_results()
            return Fate(is_served=is_served)
        if deciding:
            problem, scope = self._problem(deciding, settings), deciding.scope
        else:  # all that are left were deferred before, and the server was not asked for them
            problem, scope = next(iter(mail.deferred_recipients.values())), Scope.RECIPIENT
        if scope in (Scope.TRANSACTION, Scope.SESSION):
            # No try is counted: the same mail goes on in the next session.
            if scope == Scope.TRANSACTION and not is_served and not attempt.deferred_recipients:
                self._halve_transactions(len(attempt.deferred))
            return Fate(problem, scope, is_served)
        # Any answer of a narrower scope than the server shows one that works.
        if scope != Scope.SERVER:
            self._status.server_works()
        if scope == Scope.RECIPIENT and (
            self._recipients.are_deferred(mail.recipients) or (not is_served and _is_of_content(attempt))
        ):
            scope = Scope.MAIL
        return self._defer(mail, problem, scope, is_served=is_served)

    def _defer_recipients(self, mail: QueuedMail, attempt: Attempt, settings: SmtpSettings) -> None:
        """Count the deferrals of recipients alone; mails that wait for these only are postponed."""
        alone = attempt.deferred_recipients
        mail.deferred_recipients |= {name: self._problem(outcome, settings) for name, outcome in alone.items()}
        for name, outcome in attempt.deferred.items():
            if outcome.step == Step.CONTENT:  # the server took the recipient
                self._recipients.ended(name)
            elif name in alone:
                self._recipients.deferred(name, mail.deferred_recipients[name], self._outbox.last)
        # Without a counted try of these mails.
        self._schedule.postpone(self._recipients.end)

    def _halve_transactions(self, together: int) -> None:
        """Send to half as many recipients in a transaction from now on: the session ended, perhaps at one too many."""
        recipients = min(together, self._recipients_maximum or together)
        self._recipients_maximum = max(1, recipients // 2)

    def _problem(self, outcome: Outcome, settings: SmtpSettings) -> Problem:
        advice = self._sender.advise(outcome.step, outcome.problem, outcome.reply, settings)
        return Problem("server", outcome.step, outcome.reply, advice)

    def _record(
        self,
        mail: QueuedMail,
        final: Sequence[Delivery],
        results: Sequence[Delivery],
        settings: SmtpSettings,
        removed: int,
    ) -> None:
        """Store the `final` results of a transaction: the newest of all `results` of the mail."""
        if not final:
            return
        # Those of the database and those of this attempt: a mail may end over several tries.
        ended = {*mail.ended, *(result.recipient for result in results)}
        is_done = all(name in ended for name in mail.recipients)
        try:
            self._schedule.conclude(mail, final, is_done=is_done, removed=removed)
            # Before the flash: a full one says nothing about the server.
            self._note_results(mail, final, results, settings, is_done=is_done)
        finally:
            # Before the next transaction begins: after a power cut it is one at most that goes out twice.
            self._schedule.store_results()

    def report_silence(
        self, seconds: float, transport: Transport, settings: SmtpSettings, is_interrupted: Callable[[], bool]
    ) -> None:
        """Report a server that gives no answer for a minute, and end the wait for an Update or the end of the hook.

        An Update ends the wait at once; after the content only after a minute, since a mail that the server may have would go out
        a second time. Never raises: the answer to a mail that the server has must be read.
        """
        step = transport.step
        if is_interrupted() and (step != Step.CONTENT or seconds >= SILENT_SECONDS):
            transport.end_wait()
        if seconds < SILENT_SECONDS:
            return
        try:
            # Once for each step: the page and the program of the maker need no further report.
            if (self._status.problem.word, self._status.problem.step) != ("server", step):
                advice = self._sender.advise(step, SmtpProblem.SILENT, "", settings)
                self._status.server_failed(Problem("server", step, SILENT, advice))
                self._status.publish()
        except Exception:
            log.exception("silent server not reported")

    def _note_results(
        self,
        mail: QueuedMail,
        final: Sequence[Delivery],
        results: Sequence[Delivery],
        settings: SmtpSettings,
        *,
        is_done: bool,
    ) -> None:
        """Reset the back-off, end the recipients' waits, and set the state of the mail path by final results."""
        # A final result of any kind: a server that refuses one mail serves the others.
        self._backoff.reset()
        self._status.server_works()
        lost = next((each for each in reversed(results) if each.verdict != Verdict.DELIVERED), None)
        if lost in final and lost:
            advice = self._sender.advise(lost.step, SmtpProblem.ANSWER, lost.reply, settings)
            self._status.lost(Problem("refused", lost.step, lost.reply, advice))
        elif is_done and not lost:  # the next transaction of this mail may lose a recipient
            self._status.delivered()
        for result in final:
            self._recipients.ended(result.recipient)
            log.info("mail %d for %s: %s %s", mail.number, result.recipient, result.verdict, result.reply)

    def _defer(self, mail: QueuedMail, problem: Problem, scope: Scope, *, is_served: bool = False) -> Fate:
        """Put the mail off by `retry.delay` after a failed try."""
        self._schedule.defer(mail, problem.step, problem.reply, problem.advice)
        return Fate(problem, scope, is_served)
