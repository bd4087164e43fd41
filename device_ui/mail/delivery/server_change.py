"""A change of the mail server is reported in the History, and its readers are warned by mail through the server before.

Anyone who gets at the pages, or at the settings file, could lead every alarm through a server of theirs unseen. So the
ledger keeps what History last reported, and the settings that mail last got through with: the password sealed as it is,
and who read that mail. Settings that lead elsewhere than History last said are an event, which is on flash before the
first mail goes to the new server. One warning goes through each server that was left, to its readers and to its account,
and names where alarms go at the moment it is sent. These are the rules that an attacker meets:

- The comparison is with what was reported, not with what mail got through with: a server that takes no mail hides nothing.
- A server that was left is kept until its readers were warned of the present one and an alarm got through that one, and
  for a day at least. So further changes are warned of through the same server, to the same readers.
- What a warning says is kept beside the ledger's events, and only a server's answer ends it: no flood of events can.
- The warning starts before a session with the new server does. Each server that was left has a thread and a back-off of
  its own: neither alarms nor the other warnings delay it.

A warning is tried some hours long at most. The account may have been locked with wrong passwords first, so a refused
login ends it only the third time, an hour apart: that locks no account. A server that neither an alarm nor a test got
through to has no readers, and a change away from it warns nobody. A change of the recipients alone is not reported: it is
no other server, and the list is the operator's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from device_ui.errors import CannotOpen, Damaged, Message, NoKey, NotReadable, NotStored, Text, to_stored
from device_ui.mail.catalog import SERVER_CHANGED
from device_ui.mail.clock import Clock
from device_ui.mail.delivery.batching import HOUR
from device_ui.mail.delivery.proof import Bound, Report, Server, read, read_report, spelt, spelt_list
from device_ui.mail.delivery.retry import RETRY_FIRST, RETRY_MAXIMUM, RetryState
from device_ui.mail.events import Delivery, Event, Verdict
from device_ui.mail.outbox.outbox import Outbox
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import Recipient

log = logging.getLogger(__name__)

# Metadata of the ledger: what mail last got through with, the servers that were left, and what History last reported.
PROVED, CHANGES, REPORTED = "mail_server", "mail_server_changes", "mail_server_reported"
# Tries of one warning: with the waits of `backoff` between them, three and a half hours. The old password of a server
# that cannot be reached is kept no longer.
TRIES_MAXIMUM = 10
# Of them those that end at a refused login, and the seconds between two: across restarts, since retries lock accounts.
REFUSALS_MAXIMUM, REFUSED_SECONDS = 3, RETRY_MAXIMUM
# Servers that were left and are kept, each with its password; the readers of further ones are not warned.
CHANGES_MAXIMUM = 4
# Seconds that a server is kept after it was left, though its readers were warned: a further change may follow.
KEPT_SECONDS = 24 * HOUR
# Warnings an hour, by the ledger across restarts, and by the monotonic clock since the start, for the ledger has no dates
# while the wall clock is wrong. They wait for no alarm, so the budget of alarms does not hold them.
HOURLY_MAXIMUM = 4
# Once mail goes to the new server the hour does not matter any more, or harmless changes could use it up first: then
# warnings are only so many seconds apart.
USED_SECONDS = 60.0
DROPPED = "dropped"
# Why a warning waits, or is dropped, where no server said so.
HELD, TOO_MANY = "four warnings an hour are the most", "too many servers were left already"
RESTS, REFUSED = "the login was refused; it is tried again an hour later", "the login was refused three times"
FAULT = "the mail service had a fault; its log tells more"
# The line of an event that no server is left to warn of.
NOBODY = "Nobody is warned by mail: no server before this one takes any."


class Messenger(Protocol):
    """What is needed of `courier.SmtpClient` for one mail."""

    @property
    def local_address(self) -> str: ...
    def open(self) -> None: ...
    def deliver(
        self,
        recipients: Sequence[str],
        message: bytes,
        *,
        on_wait: Callable[[float], None] = ...,
    ) -> dict[str, Any]: ...
    def close(self) -> None: ...


class Route:
    """The way back through one server that was left: its attempt under way, and when the next one is due."""

    def __init__(self, rest_until: float) -> None:
        self.tries, self.rest_until = RetryState(), rest_until
        self.thread: threading.Thread | None = None
        self.is_busy = False
        # Whether mail got through with this login since the attempt under way began: a refusal of before says nothing then.
        self.has_worked = False
        # What the server said of the present warning while the ledger could not be written to: it must not go out twice.
        self.unrecorded: dict[str, Delivery] = {}

    def begin_anew(self) -> None:
        """Another warning is due; a refused login is not tried sooner for it."""
        self.tries, self.unrecorded = RetryState(), {}

    def wait(self, now: float) -> float:
        """Seconds until an attempt is due."""
        return max(self.tries.next, self.rest_until) - now


class ServerChangeNotifier:
    """The warnings of one device. Every method may be called from any thread; only `run` and `finish` wait.

    `fits` returns whether a stored password was sealed to a key of this device. `sent` is called with the number of an
    event once a server took its warning.
    """

    def __init__(
        self,
        outbox: Outbox,
        device: Mapping[str, str],
        connect: Callable[[SmtpSettings, str], Messenger],
        unseal: Callable[[SmtpSettings], str],
        listed: Callable[[], Sequence[Recipient]],
        calendar: Clock,
        *,
        clock: Callable[[], float],
        chance: Callable[[], float],
        fits: Callable[[SmtpSettings], bool],
        sent: Callable[[int], None],
    ) -> None:
        self._outbox, self._device, self._connect, self._unseal = outbox, device, connect, unseal
        self._listed, self._calendar, self._clock, self._chance = listed, calendar, clock, chance
        self._fits, self._sent = fits, sent
        self._lock = threading.RLock()
        self._bell, self._is_stopping = threading.Event(), False
        # The last warnings of this process: number of the event, monotonic seconds.
        self._own: deque[tuple[int, float]] = deque(maxlen=HOURLY_MAXIMUM)
        facts = outbox.metadata()
        self._proved = next(iter(read(f"[{facts.get(PROVED, '')}]")), None)
        self._left = read(facts.get(CHANGES, "[]"))
        self._report = read_report(facts.get(REPORTED, ""))
        self._routes = {
            each.bound_to: Route(clock() + REFUSED_SECONDS if each.refusals else 0.0) for each in self._left
        }
        # Whether mail goes, or went, to the server that was reported last.
        self._is_used = self._proved is not None
        # The settings and readers of the last alarm: another one proves nothing new.
        self._known: tuple[SmtpSettings, list[str]] | None = None

    def proved(self, settings: SmtpSettings, listed: Sequence[Recipient] | None) -> None:
        """An alarm to those who are `listed` got through with these settings; or a test mail, which proves no reader (None).

        Writes nothing when that is known, and never raises.
        """
        by_alarm = listed is not None
        readers = [each.address for each in (self._listed() if listed is None else listed)]
        if by_alarm and (settings, readers) == self._known:
            return
        is_first_use = False
        with self._lock, contextlib.suppress(NotStored):
            before, reported = self._proved, self._reported
            if reported not in (None, settings.bound_to):
                return  # a change that is not reported yet must not be forgotten
            # A test without a login must not take the place of the login that warnings need.
            made = before.now(settings) if before and (by_alarm or settings.sealed) else before
            made = made or Server(settings, ())
            if by_alarm or not before:
                made = made.read_by(readers, self._calendar.moment(), self._calendar.passed)
                made = dataclasses.replace(made, has_carried_alarm=by_alarm)
            is_first_use, self._is_used = not self._is_used, True
            self._keep(made)
            self._known = (settings, readers) if by_alarm else None
        if is_first_use and not self.is_idle():  # from now on the warnings do not wait for the hour
            self._go_on()

    def has_proved(self, settings: SmtpSettings) -> bool:
        """Return whether mail got through with exactly these settings last."""
        return self._proved is not None and self._proved.settings == settings

    def look(self, settings: SmtpSettings, by: str) -> None:
        """Report that mail goes through these settings now, if History last said otherwise, and start the warnings.

        `by` is the address they were changed from, if known. Raises `NotStored`: then no mail may go out by them.
        """
        with self._lock:
            before = self._proved
            if self._reported is None and not self._left:
                return  # a first server
            if self._reported == settings.bound_to:
                is_rotated = before and not self._fits(before.settings) and self._fits(settings)
                with contextlib.suppress(NotStored):
                    self._keep(before.now(settings) if before and is_rotated else before)
                return
            self._change(settings, by)
        self._go_on()

    def use(self) -> None:
        """A session with the server that was reported last begins: the readers before are warned within a minute."""
        if not self._is_used and not self.is_idle():
            self._is_used = True
            self._go_on()

    def is_idle(self) -> bool:
        """Return whether no warning is left to be sent."""
        return not any(each.number for each in self._left)

    def waiting(self, number: int) -> list[Delivery]:
        """Who is still to be warned of this event, and the step and reply that the last attempt ended at."""
        with self._lock:
            servers = [server for server in self._left if server.number == number != 0]
            # Once for all: it reads the whole ledger, and the loop that takes alarms waits for it.
            has_room = not servers or self._wait_for_room(number) <= 0
            held = [(server, self._held_by(server, has_room)) for server in servers]
            return [
                Delivery(_label(each, server), "waiting", step, reply, 0.0)
                for server, (step, reply) in held
                for each in self._open(server)
            ]

    def run(self) -> None:
        """Warn whenever a warning is due, until `finish`."""
        while not self._is_stopping:
            try:
                wait = self.round()
            except NotStored as error:
                log.error("the warnings wait: the ledger cannot be read: %s", error.reason)
                wait = RETRY_FIRST
            except Exception:
                log.exception("the warnings wait by a fault of ours")
                wait = RETRY_FIRST
            self._bell.wait(wait)
            self._bell.clear()

    def round(self) -> float | None:
        """Begin every attempt that is due. Seconds until the next one; None: none is, or not before one has ended."""
        with self._lock:
            due = [each for each in self._left if each.number and not self._routes[each.bound_to].is_busy]
            waits = [wait if (wait := self._wait(each)) > 0 else self._begin(each) for each in due]
            return min((wait for wait in waits if wait is not None), default=None)

    def finish(self) -> None:
        """Begin no attempt any more, and wait for those under way: what a server takes must reach the ledger."""
        self._is_stopping = True
        self._bell.set()
        for route in list(self._routes.values()):
            if route.thread:
                route.thread.join()

    @property
    def _reported(self) -> Bound | None:
        """The server that History last named; the first one that mail got through to needs no report.

        None, too, while a warning of an earlier version waits: that one did not record the server that it named.
        """
        if self._report:
            return self._report.bound_to
        return self._proved.bound_to if self._proved and self.is_idle() else None

    def _change(self, settings: SmtpSettings, by: str) -> None:
        if self._proved and self._proved.bound_to == settings.bound_to:
            self._proved = None  # only the report is missing: mail got through here before
        left, dropped = self._left_now()
        before = self._report.line if self._report else _told("Before", (self._proved or left[0]).settings)
        lines = {"before": before, "now": _told("Now", settings), **({} if left else {"nobody": Message(NOBODY)})}
        happened = self._calendar.stamp(None)
        event = Event(
            SERVER_CHANGED.code,
            SERVER_CHANGED.type,
            happened.time,
            self._calendar.told if self._calendar.is_right() else 0.0,
            to_stored(Message("SMTP tab, from {by}", by=by) if by else Message("not known")),
            to_stored(Message("{before}\n{now}" if left else "{before}\n{now}\n{nobody}", **lines)),
            waiting=False,
            clock=happened.clock,
        )

        def report(number: int) -> tuple[Report, list[Server]]:
            made = Report(settings.bound_to, _told("Before", settings), dataclasses.replace(event, number=number))
            is_only = len(left) == 1
            return made, [dataclasses.replace(each, number=number, ended=(), is_only=is_only) for each in left]

        def facts(number: int) -> Mapping[str, str | None]:
            made, owed = report(number)
            return {PROVED: None, CHANGES: spelt_list(owed), REPORTED: spelt(made)}

        (number,) = self._outbox.accept([event], metadata=facts)
        log.warning("event %d: mail goes through another server now", number)
        self._supersede(number)
        if self._proved:  # its login worked just now, whatever was refused before
            route = self._routes.setdefault(self._proved.bound_to, Route(0.0))
            route.rest_until, route.has_worked = 0.0, True
        self._proved, self._known, self._is_used = None, None, False
        self._report, self._left = report(number)
        for each in self._left:
            self._routes.setdefault(each.bound_to, Route(0.0)).begin_anew()
        for each in dropped:
            self._record_only(number, each.everybody, dataclasses.replace(each, is_only=False), TOO_MANY)

    def _left_now(self) -> tuple[list[Server], list[Server]]:
        """The servers that are left once the present one is, and those of them that are too many."""
        if self._proved is None:
            return list(self._left), []
        now = self._calendar.moment()
        before = self._proved.read_by(self._proved.listed, now, self._calendar.passed)
        before = dataclasses.replace(before, left_at=now)
        same = next((each for each in self._left if each.bound_to == before.bound_to), None)
        if same:
            merged = before.joined(same)
            return [merged if each is same else each for each in self._left], []
        left, dropped = [*self._left, before], []
        if len(left) > CHANGES_MAXIMUM:
            # Neither the first, whose place silent servers could be meant to take, nor the one that mail just worked with.
            dropped = [max(left[1:-1], key=lambda each: self._routes[each.bound_to].tries.count)]
        return [each for each in left if each not in dropped], dropped

    def _supersede(self, number: int) -> None:
        """Let History say what became of warnings that were still to go out: a newer one takes their place."""
        for server in self._left:
            if server.number:
                reply = Message("the warning of event {number} takes its place", number=number)
                self._record_only(server.number, self._open(server), server, reply)

    def _record_only(self, number: int, recipients: Sequence[str], server: Server, reply: Text) -> None:
        found = [Delivery(_label(each, server), DROPPED, "", reply, self._now()) for each in recipients]
        with contextlib.suppress(NotStored):
            self._outbox.record(number, found, done=False, is_alarm=False)

    def _open(self, server: Server) -> list[str]:
        """Who of a server's readers has no final verdict on the warning yet."""
        ended = {*server.ended, *self._routes[server.bound_to].unrecorded}
        return [each for each in server.everybody if each not in ended]

    def _held_by(self, server: Server, has_room: bool) -> tuple[str, Text]:
        """The step and reply that a warning waits with."""
        route = self._routes[server.bound_to]
        if route.tries.count:
            return route.tries.step, route.tries.reply
        if route.rest_until > self._clock():
            return "login", RESTS
        return ("", "" if has_room else HELD)

    def _wait(self, server: Server) -> float:
        return max(self._routes[server.bound_to].wait(self._clock()), self._wait_for_room(server.number))

    def _wait_for_room(self, number: int) -> float:
        """Seconds until the hour has room for the warning of this event; one that a server took has its room."""
        if number in dict(self._own):
            return 0.0
        most, seconds = (1, USED_SECONDS) if self._is_used else (HOURLY_MAXIMUM, HOUR)
        now = self._calendar.now()
        sent = [moment for moment, _ in self._outbox.sent_since(now - HOUR, SERVER_CHANGED.code)]
        # What lies in the future, since a clock was set back, must not hold one back for years.
        moments = ([each for each in sent if each <= now], now), ([each for _, each in self._own], self._clock())
        hourly = max(_until_room(each, then, HOURLY_MAXIMUM, HOUR) for each, then in moments)
        return min(hourly, max(_until_room(each, then, most, seconds) for each, then in moments))

    def _go_on(self) -> None:
        """Begin what is due before the caller goes on; what cannot be begun now, `run` begins."""
        with contextlib.suppress(NotStored):
            self.round()
        self._bell.set()

    def _begin(self, server: Server) -> float | None:
        route = self._routes[server.bound_to]
        if self._is_stopping or self._report is None:
            return None
        # A newer warning has tries of its own: what this attempt ends at does not delay it.
        arguments = (server, route, route.tries, self._report.event)
        thread = threading.Thread(target=self._work, args=arguments, name="warning", daemon=True)
        route.is_busy, route.has_worked = True, False
        try:
            thread.start()
        except RuntimeError as error:  # the system gives no thread (TasksMax); the alarms need none
            log.error("the warning waits: %s", error)
            route.is_busy, route.tries.next = False, self._clock() + RETRY_FIRST
            return RETRY_FIRST
        route.thread = thread
        return None

    def _work(self, server: Server, route: Route, tries: RetryState, event: Event) -> None:
        try:
            self._warn(server, route, tries, event)
        except NotStored as error:
            log.error("what became of a warning is not stored: %s", error.reason)
            tries.again(self._clock(), self._chance(), reply=error.reason)
        except Exception:
            log.exception("a warning failed by a fault of ours; it is tried again later")
            tries.again(self._clock(), self._chance(), reply=FAULT)
        finally:
            route.is_busy = False
            self._bell.set()

    def _warn(self, server: Server, route: Route, tries: RetryState, event: Event) -> None:
        open_ = self._open(server)
        if server.refusals >= REFUSALS_MAXIMUM or tries.count >= TRIES_MAXIMUM:
            step, reply = ("login", REFUSED) if server.refusals >= REFUSALS_MAXIMUM else ("", FAULT)
            dropped = [Delivery(each, DROPPED, step, reply, self._now()) for each in open_]
            self._learn(server, route, dropped, is_over=True)
            return
        outcomes, is_last = self._attempt(server, event, open_)
        now = self._now()
        found = [Delivery(name, each.verdict, each.step, each.reply, now) for name, each in outcomes.items()]
        if any(each.problem == "login refused" for each in outcomes.values()):
            server = dataclasses.replace(server, refusals=server.refusals + 1)
            with self._lock:
                if not route.has_worked:
                    route.rest_until = self._clock() + REFUSED_SECONDS
            is_last = server.refusals >= REFUSALS_MAXIMUM
        if any(each.verdict == "delivered" for each in found):
            with self._lock:
                if server.number not in dict(self._own):  # a second try for others is the same one
                    self._own.append((server.number, self._clock()))
            self._sent(server.number)
        later = [each for each in found if each.verdict == "try later"]
        ended = [each for each in found if each not in later]
        if later and not is_last and tries.count + 1 < TRIES_MAXIMUM:
            tries.again(self._clock(), self._chance(), later[0].step, later[0].reply)
            self._learn(server, route, ended, is_over=False)
        else:
            dropped = [dataclasses.replace(each, verdict=DROPPED) for each in later]
            self._learn(server, route, [*ended, *dropped], is_over=True)

    def _attempt(self, server: Server, event: Event, recipients: Sequence[str]) -> tuple[Mapping[str, Any], bool]:
        """What became of the warning for each recipient, and whether another try would be in vain."""
        # Imported here: a device whose server never changes needs no second session.
        from device_ui.mail.message import compose
        from device_ui.mail.smtp.outcome import Outcome, SessionError, Step

        if not recipients:
            return {}, True
        settings = server.settings
        try:
            password = self._unseal(settings) if settings.sealed else ""
        except (NoKey, CannotOpen, Damaged, NotReadable) as error:
            return dict.fromkeys(recipients, Outcome(Verdict.TRY_LATER, Step.LOGIN, error.message)), True
        event = self._outbox.event(event.number) or event  # it may have got its date since
        courier = self._connect(settings, password)
        try:
            courier.open()
            device = {**self._device, "address": courier.local_address}
            spoken = compose.languages(recipients, self._listed(), device)
            now = self._calendar.now()
            envelope = compose.Envelope(settings, recipients, device, self._outbox.id, now, languages=spoken)
            return courier.deliver(recipients, compose.compose(event, SERVER_CHANGED, envelope)), False
        except SessionError as stopped:
            return dict.fromkeys(recipients, stopped.outcome), False
        finally:
            courier.close()

    def _learn(self, server: Server, route: Route, ended: Sequence[Delivery], *, is_over: bool) -> None:
        """Keep the verdicts of an attempt, and what is left to do."""
        with self._lock:
            before = self._left
            present = next((each for each in before if each.bound_to == server.bound_to), None)
            made: Server | None
            if present and present.number == server.number:
                route.unrecorded.update({each.recipient: each for each in ended})
                ended = [*route.unrecorded.values()]
                names = tuple(dict.fromkeys([*server.ended, *route.unrecorded]))
                made = self._warned(server, ended) if is_over else dataclasses.replace(server, ended=names)
            else:  # the settings changed again meanwhile
                made = (
                    present if route.has_worked else present and dataclasses.replace(present, refusals=server.refusals)
                )
            left = [each for each in (made if each is present else each for each in before) if each]
            # What is known here counts, the ledger follows: a full flash must not make us ask once more.
            if not is_over:
                self._left = left
            if ended or left != before:  # a try that fails writes nothing, but for a refused login
                rows = [dataclasses.replace(each, recipient=_label(each.recipient, server)) for each in ended]
                facts = {CHANGES: spelt_list(left)}
                self._outbox.record(server.number, rows, done=False, metadata=facts, is_alarm=False)
            self._left, route.unrecorded = left, {}
        for each in ended:
            log.info("warning %d for %s: %s %s", server.number, each.recipient, each.verdict, each.reply)

    def _warned(self, server: Server, ended: Sequence[Delivery]) -> Server | None:
        """A server whose warning is over, for as long as it is needed; None when it took no warning."""
        is_lost = not server.ended and all(each.verdict == DROPPED for each in ended)
        warned = dataclasses.replace(server, number=0, refusals=0, ended=())
        return warned if not is_lost and self._is_needed(warned, self._proved) else None

    def _is_needed(self, server: Server, proved: Server | None) -> bool:
        """Whether a server that was left is needed for a warning, or for one of a further change."""
        if server.number or not (proved and proved.has_carried_alarm):
            return True
        return self._calendar.passed(server.left_at) < KEPT_SECONDS

    def _keep(self, proved: Server | None) -> None:
        """Keep what mail got through with, and of the servers that were left those that are needed."""
        if proved and proved != self._proved:
            self._outbox.set_metadata(PROVED, spelt(proved))
            self._proved = proved
        left = [each for each in self._left if self._is_needed(each, proved)]
        if left != self._left:
            self._outbox.set_metadata(CHANGES, spelt_list(left))
            self._left = left

    def _now(self) -> float:
        return self._calendar.now() if self._calendar.is_right() else 0.0


def _until_room(sent: Sequence[float], now: float, most: int, seconds: float) -> float:
    """Seconds until fewer than `most` of these moments, in their order, are `seconds` old or younger."""
    return max(0.0, sent[-most] + seconds - now) if len(sent) >= most else 0.0


def _label(recipient: str, server: Server) -> str:
    """Return a reader as History names them: with the server, where several warn of one event."""
    return recipient if server.is_only else f"{recipient} ({server.settings.host}:{server.settings.port})"


def _told(when: str, settings: SmtpSettings) -> Message:
    template = "{when}: {host} port {port}, account {account}, security {security}"
    values = {name: getattr(settings, name) for name in ("host", "port", "account", "security")}
    return Message(template, when=Message(when), **values)
