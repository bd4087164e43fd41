"""Report a change of the mail server in the History, and notify by mail, through the previous server, its recipients.

Anyone with access to the pages, or to the settings file, could redirect every mail to a server of their own without a trace.
So the database stores the server that the History last reported, and the settings by which mail was last delivered: with the
sealed password, and the recipients of that mail. Settings for a different server raise an event, which is on flash before the
first mail goes to that server. One notice (a "warning" on the pages, a "notification" in the log) goes through each previous
server, to its recipients and to its account. It names the server that is used at the moment it is sent. These rules are
against an attacker:

- The comparison is with the server last reported, not with the one that last accepted mail: a server that accepts none hides
  no change.
- A previous server is kept until its recipients were notified of the present one and the present one accepted an event's mail,
  and for a day at least. So further changes are notified through the same server, to the same recipients.
- The text of a notice is stored beside the events, and only a server's answer ends it: no flood of events removes it.
- The notice starts before a session with the new server. Each previous server is a route of its own, with a thread,
  a session and tries of its own: neither events nor the other routes delay it.

A notice is tried for some hours at most. An attacker may have locked the account with wrong passwords first, so only the
third refused login ends it; they are an hour apart, which locks no account. A server that accepted neither an event's mail nor
a test mail has no recipients, and a change away from it notifies no one. A change of the recipients alone is not reported: the
server is the same, and the list is the operator's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from device_ui.errors import Message, NotStored, Text, from_json, to_json, to_stored
from device_ui.mail.catalog import SERVER_CHANGED
from device_ui.mail.delivery.batching import HOUR, QueuedMail
from device_ui.mail.delivery.retry import RETRY_FIRST, RETRY_MAXIMUM
from device_ui.mail.delivery.sender import UNSEAL_ERRORS, Attempt, AttemptOptions, Sender
from device_ui.mail.events import Delivery, Event, Verdict
from device_ui.mail.outbox.outbox import Outbox
from device_ui.mail.smtp.outcome import Outcome, SessionError, SmtpProblem, Step
from device_ui.settings.fields import CHOICE_WORDS, SmtpSettings, validate_stored
from device_ui.settings.recipients import RECIPIENTS_MAXIMUM, Recipient

log = logging.getLogger(__name__)

# Metadata: the server that last accepted mail, the previous servers, and the server that History last reported.
VERIFIED, PREVIOUS, REPORTED = "mail_server", "mail_server_changes", "mail_server_reported"
# Tries of one notice: with the waits of `retry` between them, three and a half hours. The old password of a server
# that cannot be reached is kept no longer.
TRIES_MAXIMUM = 10
# Of them those that end at a refused login, and the seconds between two: across restarts, since retries lock accounts.
REFUSALS_MAXIMUM, REFUSED_SECONDS = 3, RETRY_MAXIMUM
# Previous servers that are kept, each with its password; the recipients of further ones are not notified.
PREVIOUS_MAXIMUM = 4
# Seconds that a previous server is kept at least, though its recipients were notified: a further change may follow.
KEPT_SECONDS = 24 * HOUR
# Notices an hour, by the database across restarts, and by the monotonic clock since the start, because the database has
# no dates while the wall clock is wrong. They wait for no event, so the budget of events does not delay them.
HOURLY_MAXIMUM = 4
# Once mail goes to the new server the hour does not count any more, or harmless changes could use it up first. Then
# notices are only so many seconds apart.
USED_SECONDS = 60.0
# Why a notice waits, or is dropped, where no server gave a reply.
NO_ROOM, TOO_MANY = "at most four warnings an hour are sent", "there are too many earlier servers"
LOCKED, REFUSED = "the login was refused; it is tried again an hour later", "the login was refused three times"
FAULT = "the mail service had a fault; its log has the details"
# The line of an event without a previous server.
NO_PREVIOUS = "No warning is sent by mail: no earlier server accepted mail."
# Earlier from addresses that are notified beside the present one, where the account is no address; the first ones.
EARLIER_MAXIMUM = 4
# Seconds that a recipient who was removed from the list is still notified, or a change of the list and an event would
# leave no one to notify; and recipients at most. Those who have been on the list the longest stay.
GONE_SECONDS, READERS_MAXIMUM = 24 * HOUR, 2 * RECIPIENTS_MAXIMUM

# The values that a password is bound to. Two servers are the same one if these are equal.
Bound = tuple[str, ...]


@dataclass(frozen=True)
class Server:
    """Settings by which mail was delivered, and the recipients of that mail, as the database stores them.

    `recipients` are in the order of their first mail. `gone` are those that were removed from the list, each with a moment
    of `Clock.moment`. `earlier` are former from addresses that were the default recipient. `has_carried_alarm` is false
    while only a test mail was delivered.

    Of a previous server, `number` is the event that is still to be notified of, 0 for none. `ended` are the recipients
    with a final result on it, and `is_only` is whether no other server notifies of it. `refusals` counts the refused
    logins; `left_at` is the moment of the change.
    """

    settings: SmtpSettings
    recipients: tuple[str, ...]
    number: int = 0
    refusals: int = 0
    earlier: tuple[str, ...] = ()
    has_carried_alarm: bool = False
    ended: tuple[str, ...] = ()
    gone: tuple[tuple[str, str], ...] = ()
    left_at: str = ""
    is_only: bool = True

    @property
    def bound_to(self) -> Bound:
        """The values that make it the same server (`Bound`)."""
        return self.settings.bound_to

    @property
    def listed(self) -> list[str]:
        """The recipients that were not removed from the list."""
        return [address for address in self.recipients if address not in dict(self.gone)]

    @property
    def to_notify(self) -> list[str]:
        """The addresses to notify: the recipients, the default recipient and the earlier ones."""
        return list(dict.fromkeys([*self.recipients, *self.earlier, self.settings.default_recipient]))

    def with_settings(self, settings: SmtpSettings) -> Server:
        """Return the same server by newer settings. They needed no password, so the earlier address is still notified."""
        address = self.settings.default_recipient
        # A from address can be changed without a password: the former one must still be notified.
        changed = () if address == settings.default_recipient else (address,)
        # The first ones stay: an attacker who changes the address often must not displace the operator's.
        earlier = tuple(dict.fromkeys((*self.earlier, *changed)))[:EARLIER_MAXIMUM]
        return dataclasses.replace(self, settings=settings, earlier=earlier)

    def merged_with(self, other: Server) -> Server:
        """Return the same server with the recipients of `other` first, and its login if this one has none."""
        recipients = tuple(dict.fromkeys([*other.recipients, *self.recipients]))
        earlier = tuple(dict.fromkeys([*other.earlier, *self.earlier]))[:EARLIER_MAXIMUM]
        # A notice needs the login; settings without one must not replace it.
        settings = self.settings if self.settings.sealed else other.settings
        return dataclasses.replace(self.with_settings(settings), recipients=recipients, earlier=earlier)

    def with_recipients(self, listed: Sequence[str], now: str, passed: Callable[[str], float]) -> Server:
        """Return the same server with the recipients that are `listed` at the moment `now`; `passed` as `Clock.passed`."""
        gone_since = dict(self.gone)
        gone = {address: gone_since.get(address, now) for address in self.recipients if address not in listed}
        gone = {address: since for address, since in gone.items() if passed(since) < GONE_SECONDS}
        # An attacker could add addresses until a real recipient is dropped: those on the list the longest stay.
        room = READERS_MAXIMUM - len(listed)
        gone = dict([*gone.items()][: max(0, room)])
        # New addresses come last, so that a limit drops these first.
        known = dict.fromkeys([*self.recipients, *listed])
        recipients = tuple(address for address in known if address in gone or address in listed)
        return dataclasses.replace(self, recipients=recipients, gone=tuple(gone.items()))


@dataclass(frozen=True)
class Report:
    """The last report in History: by `event`, mail goes through the server of `bound_to`.

    `line` describes that server in a later report, as the one before.
    """

    bound_to: Bound
    line: Text
    event: Event


class Route:
    """A previous server: its notice, the attempt under way, and when the next one is due."""

    def __init__(self, number: int, locked_until: float = 0.0) -> None:
        self.mail = QueuedMail(SERVER_CHANGED.type, (number,))
        self.locked_until = locked_until
        self.thread: threading.Thread | None = None
        self.is_busy = False
        # Whether mail was delivered with this login since the attempt began: an earlier refusal does not count then.
        self.has_worked = False

    def wait(self, now: float) -> float:
        """Return seconds until an attempt is due."""
        return max(self.mail.tries.next, self.locked_until) - now


class ServerChangeNotifier:
    """The notices of one device (the mails about a server change). Any thread may call any method; only `run` and `stop` wait.

    `count_sent` is called with the event type once a server took a notice.
    """

    def __init__(self, outbox: Outbox, sender: Sender, count_sent: Callable[[str], None]) -> None:
        self._outbox, self._sender, self._count_sent = outbox, sender, count_sent
        self._environment = sender.environment
        self._clock, self._monotonic = sender.environment.wall_clock, sender.environment.monotonic
        self._lock = threading.RLock()
        self._wakeup, self._is_stopping = threading.Event(), False
        # The last notices of this process: number of the event, monotonic seconds.
        self._sent: deque[tuple[int, float]] = deque(maxlen=HOURLY_MAXIMUM)
        stored = outbox.metadata()
        self._verified = next(iter(read_servers(f"[{stored.get(VERIFIED, '')}]")), None)
        self._previous = read_servers(stored.get(PREVIOUS, "[]"))
        self._report = read_report(stored.get(REPORTED, ""))
        locked_until = self._monotonic() + REFUSED_SECONDS
        self._routes = {
            server.bound_to: Route(server.number, locked_until if server.refusals else 0.0) for server in self._previous
        }
        # Whether mail goes, or went, to the server that was reported last.
        # Mail that was delivered before a restart was delivered to the server reported last.
        self._is_used = self._verified is not None
        # The settings and recipients of the last event's mail. A mail with the same ones verifies nothing new, and costs no query.
        self._known: tuple[SmtpSettings, list[str]] | None = None

    def mark_verified(self, settings: SmtpSettings, listed: Sequence[Recipient] | None) -> None:
        """Store that an event's mail to the `listed` was delivered by these settings; None: a test mail.

        A test mail verifies the server and no recipient. Writes nothing that is stored already, and never raises.
        """
        is_event = listed is not None
        addresses = [recipient.address for recipient in (self._environment.recipients() if listed is None else listed)]
        # Called after every mail: the usual case must cost neither a lock nor a query.
        if is_event and (settings, addresses) == self._known:
            return
        is_first_use = False
        with self._lock, contextlib.suppress(NotStored):
            before, reported = self._verified, self._reported
            if reported not in (None, settings.bound_to):
                return  # a change that is not reported yet must not be forgotten
            # A test without a login must not replace the login that notices need.
            server = before.with_settings(settings) if before and (is_event or settings.sealed) else before
            server = server or Server(settings, ())
            if is_event or not before:
                server = server.with_recipients(addresses, self._clock.moment(), self._clock.passed)
                server = dataclasses.replace(server, has_carried_alarm=is_event)
            is_first_use, self._is_used = not self._is_used, True
            self._keep(server)
            self._known = (settings, addresses) if is_event else None
        if is_first_use and not self.is_idle():  # from now on the notices do not wait for the hour
            self._start_due()

    def is_verified(self, settings: SmtpSettings) -> bool:
        """Return whether mail was last delivered by exactly these settings."""
        return self._verified is not None and self._verified.settings == settings

    def check(self, settings: SmtpSettings, source: Text) -> None:
        """Report that mail goes through these settings now, if History last reported others, and start the notices.

        `source` is where they were changed, if known. Raises `NotStored`: then no mail may be sent by them.
        """
        with self._lock:
            before = self._verified
            # Nothing can be warned of: no server accepted mail before this one.
            if self._reported is None and not self._previous:
                return  # a first server
            if self._reported == settings.bound_to:
                can_unseal = self._environment.passwords.can_unseal
                # After a rotation the stored settings hold the password sealed to the new key; the previous key is
                # gone.
                is_rotated = before and not can_unseal(before.settings) and can_unseal(settings)
                with contextlib.suppress(NotStored):
                    self._keep(before.with_settings(settings) if before and is_rotated else before)
                return
            self._change(settings, source)
        self._start_due()

    def session_begins(self) -> None:
        """Note that a session with the reported server begins: from now on the hourly limit delays none by more than a minute."""
        if not self._is_used and not self.is_idle():
            self._is_used = True
            self._start_due()

    def is_idle(self) -> bool:
        """Return whether no notice is left to be sent."""
        return not any(server.number for server in self._previous)

    def open_notices(self, number: int) -> list[Delivery]:
        """Return the notices of this event that are still to be sent, with the step and reply of the last attempt."""
        with self._lock:
            servers = [server for server in self._previous if server.number == number != 0]
            # Once for all: it reads the whole database, and the loop that accepts events waits for it.
            has_room = not servers or self._wait_for_room(number) <= 0
            causes = [(server, self._cause(server, has_room)) for server in servers]
            return [
                Delivery(_label(address, server), "waiting", step, reply, 0.0)
                for server, (step, reply) in causes
                for address in self._open_recipients(server)
            ]

    def events_with_notices(self) -> list[int]:
        """Return the events with notices that are still to be sent."""
        with self._lock:
            return [each.number for each in self._previous if each.number and self._open_recipients(each)]

    def run(self) -> None:
        """Notify whenever it is due, until `stop`."""
        while not self._is_stopping:
            try:
                wait = self.round()
            except NotStored as error:
                log.error("notifications deferred: ledger not read: %s", error.reason)
                wait = RETRY_FIRST
            except Exception:
                log.exception("notifications deferred")
                wait = RETRY_FIRST
            self._wakeup.wait(wait)
            self._wakeup.clear()

    def round(self) -> float | None:
        """Start every attempt that is due. Return seconds until the next one; None: none is due before one ends."""
        with self._lock:
            due = [server for server in self._previous if server.number and not self._route(server).is_busy]
            waits = [wait if (wait := self._wait(server)) > 0 else self._start(server) for server in due]
            return min((wait for wait in waits if wait is not None), default=None)

    def stop(self) -> None:
        """Start no further attempt, and wait for those under way: a delivered notice must be recorded."""
        self._is_stopping = True
        self._wakeup.set()
        for route in list(self._routes.values()):
            if route.thread:
                route.thread.join()

    @property
    def _reported(self) -> Bound | None:
        """The server that History last named; the first server that accepts mail needs no report.

        Also None while a notice of an earlier version waits: that version did not record the server that it named.
        """
        if self._report:
            return self._report.bound_to
        return self._verified.bound_to if self._verified and self.is_idle() else None

    def _route(self, server: Server) -> Route:
        return self._routes[server.bound_to]

    def _change(self, settings: SmtpSettings, source: Text) -> None:
        if self._verified and self._verified.bound_to == settings.bound_to:
            self._verified = None  # only the report is missing: this server accepted mail before
        previous, dropped = self._with_left()
        before = self._report.line if self._report else _line("Before", (self._verified or previous[0]).settings)
        lines = {"before": before, "now": _line("Now", settings)} | (
            {} if previous else {"nobody": Message(NO_PREVIOUS)}
        )
        # As for any event: without a valid clock it is dated later.
        stamp = self._clock.stamp(None)
        event = Event(
            SERVER_CHANGED.code,
            SERVER_CHANGED.type,
            stamp.time,
            self._clock.seconds(),
            to_stored(source or Message("not known")),
            to_stored(Message("{before}\n{now}" if previous else "{before}\n{now}\n{nobody}", **lines)),
            waiting=False,
            clock=stamp.clock,
        )

        def change(number: int) -> tuple[Report, list[Server]]:
            report = Report(settings.bound_to, _line("Before", settings), dataclasses.replace(event, number=number))
            is_only = len(previous) == 1
            return report, [
                dataclasses.replace(server, number=number, ended=(), is_only=is_only) for server in previous
            ]

        def metadata(number: int) -> Mapping[str, str | None]:
            report, servers = change(number)
            return {VERIFIED: None, PREVIOUS: encode_servers(servers), REPORTED: encode(report)}

        # One transaction: after a power cut there is no event without its notices, and no notice without
        # its event.
        (number,) = self._outbox.accept([event], metadata=metadata)
        log.warning("event %d: mail server changed", number)
        # After the commit: the former notice must not end before the newer one is on flash.
        self._supersede(number)
        if self._verified:  # its login worked just now, whatever was refused before
            route = self._routes.setdefault(self._verified.bound_to, Route(number))
            route.locked_until, route.has_worked = 0.0, True
        self._verified, self._known, self._is_used = None, None, False
        self._report, self._previous = change(number)
        for server in self._previous:
            # A notice of its own; a refused login is not tried sooner for it.
            route = self._routes.setdefault(server.bound_to, Route(number))
            route.mail = QueuedMail(SERVER_CHANGED.type, (number,))
        # History shows it: no silent loss of a warning.
        for server in dropped:
            self._record_dropped(number, server.to_notify, dataclasses.replace(server, is_only=False), TOO_MANY)

    def _with_left(self) -> tuple[list[Server], list[Server]]:
        """Return the previous servers with the one that is left now among them, and those of them that are too many."""
        if self._verified is None:
            return list(self._previous), []
        now = self._clock.moment()
        left = self._verified.with_recipients(self._verified.listed, now, self._clock.passed)
        left = dataclasses.replace(left, left_at=now)
        same = next((server for server in self._previous if server.bound_to == left.bound_to), None)
        if same:
            # A server that is left again has one notice, to the recipients of both times.
            merged = left.merged_with(same)
            return [merged if server is same else server for server in self._previous], []
        servers, dropped = [*self._previous, left], []
        if len(servers) > PREVIOUS_MAXIMUM:
            # Not the first: an attacker could add silent servers to displace it. Not the one that is left: its login just worked.
            dropped = [max(servers[1:-1], key=lambda server: self._route(server).mail.tries.count)]
        return [server for server in servers if server not in dropped], dropped

    def _supersede(self, number: int) -> None:
        """Record in the History that a newer notice replaces those that were still to go out."""
        for server in self._previous:
            if server.number:
                reply = Message("the warning of event {number} takes its place", number=number)
                self._record_dropped(server.number, self._open_recipients(server), server, reply)

    def _record_dropped(self, number: int, recipients: Sequence[str], server: Server, reply: Text) -> None:
        date = self._environment.wall_clock.seconds()
        results = [Delivery(_label(address, server), Verdict.DROPPED, "", reply, date) for address in recipients]
        with contextlib.suppress(NotStored):
            self._outbox.record(number, results, done=False, is_event=False)

    def _open_recipients(self, server: Server) -> list[str]:
        mail = self._route(server).mail
        mail.begin_try(server.to_notify, server.ended)
        return mail.open_recipients

    def _cause(self, server: Server, has_room: bool) -> tuple[str, Text]:
        """Return the step and reply that a notice waits with."""
        route = self._route(server)
        if route.mail.tries.count:
            return route.mail.tries.step, route.mail.tries.reply
        if route.locked_until > self._monotonic():
            return "login", LOCKED
        return ("", "" if has_room else NO_ROOM)

    def _wait(self, server: Server) -> float:
        return max(self._route(server).wait(self._monotonic()), self._wait_for_room(server.number))

    def _wait_for_room(self, number: int) -> float:
        """Return seconds until the hour has room for this event; 0 for one that a notice was delivered of already."""
        # A second try for other recipients is the same notice.
        if number in dict(self._sent):
            return 0.0
        # An attacker could use up the hour by harmless changes, and then redirect mail without a warning for an hour.
        maximum, seconds = (1, USED_SECONDS) if self._is_used else (HOURLY_MAXIMUM, HOUR)
        now = self._clock.now()
        sent = [moment for moment, _ in self._outbox.sent_since(now - HOUR, SERVER_CHANGED.code)]
        # A moment in the future, since a clock was set back, must not delay a notice for years.
        by_wall_clock = [moment for moment in sent if moment <= now], now
        by_monotonic = [moment for _, moment in self._sent], self._monotonic()
        clocks = (by_wall_clock, by_monotonic)
        # The longer wait of both clocks: one that was set must not give more notices.
        hourly = max(_until_room(moments, now, HOURLY_MAXIMUM, HOUR) for moments, now in clocks)
        return min(hourly, max(_until_room(moments, now, maximum, seconds) for moments, now in clocks))

    def _start_due(self) -> None:
        """Start the attempts that are due, before the caller continues; `run` starts those that cannot be started now."""
        with contextlib.suppress(NotStored):
            self.round()
        self._wakeup.set()

    def _start(self, server: Server) -> float | None:
        route = self._route(server)
        if self._is_stopping or self._report is None:
            return None
        # The mail as it is now: the attempt must not delay the notice of a newer change.
        arguments = (server, route, route.mail, self._report.event)
        # A thread for each route: a silent server takes minutes, and must delay neither mail nor other notices.
        thread = threading.Thread(target=self._work, args=arguments, name="notice", daemon=True)
        # Before the start: the thread may end before this one goes on.
        route.is_busy, route.has_worked = True, False
        try:
            thread.start()
        except RuntimeError as error:  # the system gives no thread (TasksMax); the events need none
            log.error("notification deferred: %s", error)
            route.is_busy = False
            route.mail.postpone(self._monotonic() + RETRY_FIRST)
            return RETRY_FIRST
        route.thread = thread
        return None

    def _work(self, server: Server, route: Route, mail: QueuedMail, event: Event) -> None:
        try:
            self._notify(server, route, mail, event)
        except NotStored as error:
            log.error("result of a notification not stored: %s", error.reason)
            self._failed(mail, "", error.reason)
        except Exception:
            log.exception("notification failed; it is tried again later")
            self._failed(mail, "", FAULT)
        finally:
            route.is_busy = False
            self._wakeup.set()

    def _failed(self, mail: QueuedMail, step: str, reply: Text) -> None:
        mail.defer(self._monotonic(), self._environment.random(), step, reply)

    def _notify(self, server: Server, route: Route, mail: QueuedMail, event: Event) -> None:
        mail.begin_try(server.to_notify, server.ended)
        # Refused logins are stored: a restart gives no further login, which could lock the account. The other tries are counted in
        # memory, and begin anew with the process.
        if server.refusals >= REFUSALS_MAXIMUM or mail.tries.count >= TRIES_MAXIMUM:
            step, reply = ("login", REFUSED) if server.refusals >= REFUSALS_MAXIMUM else ("", FAULT)
            date = self._environment.wall_clock.seconds()
            dropped = [Delivery(address, Verdict.DROPPED, step, reply, date) for address in mail.open_recipients]
            self._conclude(server, route, mail, dropped, is_over=True)
            return
        attempt, is_last = self._attempt(server, mail, event)
        # Counted and stored: the account may be locked by an attacker, and retries must not lock it further.
        if any(outcome.problem == SmtpProblem.LOGIN_REFUSED for outcome in attempt.deferred.values()):
            server = dataclasses.replace(server, refusals=server.refusals + 1)
            with self._lock:
                if not route.has_worked:
                    route.locked_until = self._monotonic() + REFUSED_SECONDS
            is_last = server.refusals >= REFUSALS_MAXIMUM
        if attempt.is_delivered:
            with self._lock:
                if server.number not in dict(self._sent):  # a second try for other recipients is the same notice
                    self._sent.append((server.number, self._monotonic()))
            self._count_sent(SERVER_CHANGED.type)
        # Recipients with a result are not tried again, even if others are.
        if attempt.deferred and not is_last and mail.tries.count + 1 < TRIES_MAXIMUM:
            first = next(iter(attempt.deferred.values()))
            self._failed(mail, first.step, first.reply)
            self._conclude(server, route, mail, attempt.results, is_over=False)
        else:
            self._conclude(server, route, mail, [*attempt.results, *attempt.given_up()], is_over=True)

    def _attempt(self, server: Server, mail: QueuedMail, event: Event) -> tuple[Attempt, bool]:
        """Return the result of an attempt, and whether it is the last one: a further one would fail in the same way."""

        def all_deferred(outcome: Outcome) -> Attempt:
            return Attempt(dict.fromkeys(mail.open_recipients, outcome), self._environment.wall_clock.seconds())

        if not mail.open_recipients:
            return Attempt({}, 0.0), True
        try:
            transport = self._sender.connect(server.settings)
        # The key was rotated or erased: no later attempt can open this password.
        except UNSEAL_ERRORS as error:
            return all_deferred(Outcome(Verdict.TRY_LATER, Step.LOGIN, error.message)), True

        def on_wait(_seconds: float) -> None:
            if self._is_stopping and transport.step != Step.CONTENT:
                transport.end_wait()

        with closing(transport):
            try:
                transport.open(on_wait)
                listed = self._environment.recipients()
                # Then each alone: an attacker who redirects mail may have listed so many recipients before, or one at
                # which the server hangs up, that no transaction with all of them succeeds.
                recipients_maximum = 1 if mail.tries.step in (Step.RECIPIENT, Step.CONTENT) else 0
                options = AttemptOptions(recipients_maximum, notice=event, on_wait=on_wait)
                return self._sender.attempt(transport, mail, server.settings, listed, options), False
            except SessionError as error:
                return all_deferred(error.outcome), False

    def _conclude(
        self, server: Server, route: Route, mail: QueuedMail, results: Sequence[Delivery], *, is_over: bool
    ) -> None:
        """Store the final results of an attempt, and the recipients that are left."""
        with self._lock:
            before = self._previous
            # As it is stored now: the settings may have changed while the attempt went on.
            current = next((each for each in before if each.bound_to == server.bound_to), None)
            mail.conclude(results, is_done=is_over)
            after = self._after_attempt(current, server, route, mail, is_over=is_over)
            previous = [each for each in (after if each is current else each for each in before) if each]
            # The state in memory decides and the database follows: a full flash must not cause a further attempt.
            if not is_over:
                self._previous = previous
            if mail.results or previous != before:  # a failed try writes nothing, but a refused login is written
                rows = [
                    dataclasses.replace(result, recipient=_label(result.recipient, server)) for result in mail.results
                ]
                metadata = {PREVIOUS: encode_servers(previous)}
                self._outbox.record(server.number, rows, done=False, metadata=metadata, is_event=False)
            self._previous = previous
            mail.stored()
        for result in results:
            log.info("notification %d for %s: %s %s", server.number, result.recipient, result.verdict, result.reply)

    def _after_attempt(
        self, current: Server | None, server: Server, route: Route, mail: QueuedMail, *, is_over: bool
    ) -> Server | None:
        """Return what the `current` server becomes by an attempt that began with `server`; None: it is not kept."""
        if current is None or current.number != server.number:  # the settings changed again meanwhile
            if current is None or route.has_worked:
                return current
            return dataclasses.replace(current, refusals=server.refusals)
        if is_over:
            is_lost = not server.ended and all(result.verdict == Verdict.DROPPED for result in mail.results)
            return self._after_notice(server, is_lost)
        # Recipients with a result are not notified again.
        ended = tuple(dict.fromkeys([*server.ended, *(result.recipient for result in mail.results)]))
        return dataclasses.replace(server, ended=ended)

    def _after_notice(self, server: Server, is_lost: bool) -> Server | None:
        """Return a server whose notice is over, None when it is not needed any more or accepted no notice."""
        notified = dataclasses.replace(server, number=0, refusals=0, ended=())
        return notified if not is_lost and self._is_needed(notified, self._verified) else None

    def _is_needed(self, server: Server, verified: Server | None) -> bool:
        """Return whether a previous server is needed for a notice, or for one of a further change."""
        if server.number or not (verified and verified.has_carried_alarm):
            return True
        return self._clock.passed(server.left_at) < KEPT_SECONDS

    def _keep(self, verified: Server | None) -> None:
        """Store the server that accepted mail, and remove the previous servers that are not needed any more."""
        if verified and verified != self._verified:
            # Written only when it differs: one write for a change of the server or the recipients, none for a mail.
            self._outbox.set_metadata(VERIFIED, encode(verified))
            self._verified = verified
        previous = [server for server in self._previous if self._is_needed(server, verified)]
        if previous != self._previous:
            self._outbox.set_metadata(PREVIOUS, encode_servers(previous))
            self._previous = previous


def encode(value: Server | Report) -> str:
    """Return the text that `read_servers` (between brackets) or `read_report` reads."""
    return json.dumps(dataclasses.asdict(value), default=to_json)


def encode_servers(servers: Sequence[Server]) -> str | None:
    """Return the text that `read_servers` reads; None for none."""
    return f"[{', '.join(map(encode, servers))}]" if servers else None


def read_servers(stored: str) -> list[Server]:
    """Return the servers of stored metadata; none when it is damaged. Each is there once: an earlier version kept the
    same twice."""
    servers: dict[Bound, Server] = {}
    try:
        for server in map(_server, json.loads(stored)):
            before = servers.get(server.bound_to)
            servers[server.bound_to] = server.merged_with(before) if before else server
    # A damaged value must not keep the hook from starting; the server is then reported anew.
    except (ValueError, TypeError, KeyError):
        return []
    return list(servers.values())


def read_report(stored: str) -> Report | None:
    """Return the report of stored metadata; None when it is damaged."""
    try:
        values = json.loads(stored, object_hook=from_json)
        line = values["line"]
        event = Event(
            SERVER_CHANGED.code,
            SERVER_CHANGED.type,
            float(values["event"]["time"]),
            float(values["event"]["accepted"]),
            str(values["event"]["source"]),
            str(values["event"]["text"]),
            waiting=False,
            number=int(values["event"]["number"]),
            clock=str(values["event"]["clock"]),
        )
        return Report(tuple(map(str, values["bound_to"])), line if isinstance(line, Message) else str(line), event)
    except (ValueError, TypeError, KeyError):
        return None


def _server(values: Mapping[str, Any]) -> Server:
    # By the rules of the tab, as any stored settings: the file may be damaged or of an older version.
    settings = validate_stored(values["settings"])
    if isinstance(settings, Message) or not isinstance(values["number"], int):
        raise ValueError
    # Earlier versions did not store the values that have a default here.
    return Server(
        settings,
        tuple(map(str, values["recipients"])),
        values["number"],
        int(values.get("refusals", 0)),
        tuple(map(str, values.get("earlier", ()))),
        bool(values.get("has_carried_alarm", True)),
        tuple(map(str, values.get("ended", ()))),
        tuple((str(address), str(since)) for address, since in values.get("gone", ())),
        str(values.get("left_at", "")),
        bool(values.get("is_only", True)),
    )


def _until_room(sent: Sequence[float], now: float, maximum: int, seconds: float) -> float:
    """Return seconds until fewer than `maximum` of these moments, in their order, are `seconds` old or younger."""
    return max(0.0, sent[-maximum] + seconds - now) if len(sent) >= maximum else 0.0


def _label(recipient: str, server: Server) -> str:
    """Return a recipient as History names it: with the server, if several servers notify of one event."""
    return recipient if server.is_only else f"{recipient} ({server.settings.host}:{server.settings.port})"


def _line(when: str, settings: SmtpSettings) -> Message:
    template = "{when}: {host} port {port}, account {account}, security {security}"
    values = {name: getattr(settings, name) for name in ("host", "port", "account")}
    # By its words on the page; `Message`, so that the reader of History or of the mail has them in their language.
    line = Message(template, when=Message(when), security=CHOICE_WORDS[f"security_{settings.security}"], **values)
    if not settings.trust_bound_to:
        return line
    # Without it a change of the trust alone would read as no change. On a line of its own: host and account can be any text, and
    # could pass for a fingerprint beside them.
    certificate = Message(
        "{when}, certificate “{trust}” {fingerprint}",
        when=Message(when),
        trust=CHOICE_WORDS[f"trust_{settings.trust}"],
        fingerprint=settings.trust_bound_to[1],
    )
    return Message("{line}\n{certificate}", line=line, certificate=certificate)
