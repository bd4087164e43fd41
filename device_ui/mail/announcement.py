"""A change of the mail server is announced by mail through the server before it, once.

Whoever gets at the pages, or at the settings file, could lead every alarm through a server of theirs unseen. So the
ledger keeps the settings that mail last got through with, the password sealed as it stands, and to whom. When the
settings lead to another server, that becomes an event of the ledger, and one mail goes to those who got the last alarm
and to the account before, which no change of the recipients or of the from address can keep from it. Then what was kept
is forgotten. A change of the recipients alone is not announced: it is no other server, and the list is the operator's.

It goes out in a thread of its own: no alarm waits for a server that is left. It is tried some hours long at most.
Somebody may have locked the account with wrong passwords first, so a refused login ends it only the third time, an
hour apart: that locks no account. Settings that nothing ever got through with announce nothing: they can neither be
abused to stop an announcement nor make one.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from device_ui import shape
from device_ui.errors import CannotOpen, Damaged, NoKey, NotReadable, NotStored
from device_ui.log import Log
from device_ui.mail.backoff import RETRY_FIRST, RETRY_MAXIMUM, Tries
from device_ui.mail.catalog import SERVER_CHANGED
from device_ui.mail.clock import Clock
from device_ui.mail.outbox import Delivery, Event, Outbox
from device_ui.mail.proof import Server, read, spelt, spelt_list
from device_ui.mail.storm import HOUR
from device_ui.settings.recipients import Recipient
from device_ui.settings.smtp import SmtpSettings
from device_ui.shape import Any, Protocol

log = Log(__name__)

# Facts of the ledger: what mail last got through with, and the changes that are still to be announced.
PROVED, CHANGES = "mail_server", "mail_server_changes"
# Tries of one announcement: with the waits of `backoff` between them, three and a half hours. The old password is kept
# no longer.
TRIES_MAXIMUM = 10
# Of them those that end at a refused login, and the seconds between two: across restarts, since retries lock accounts.
REFUSALS_MAXIMUM, REFUSED_SECONDS = 3, RETRY_MAXIMUM
# Changes that wait to be announced, each the password of a server that is left; of further ones the event tells alone.
CHANGES_MAXIMUM = 4
# Announcements an hour, by the ledger across restarts, and by the monotonic clock since the start, for the ledger has no
# dates while the wall clock is wrong. They wait for no alarm, so the budget of alarms does not hold them.
HOURLY_MAXIMUM = 4
DROPPED = "dropped"


class Messenger(Protocol):
    """What is needed of `courier.Courier` for one mail."""

    @property
    def local_address(self) -> str: ...
    def open(self) -> None: ...
    def deliver(
        self,
        recipients: Sequence[str],
        message: bytes,
        *,
        before_content: Callable[[], None] = ...,
        meanwhile: Callable[[], None] = ...,
        waiting: Callable[[], None] = ...,
    ) -> dict[str, Any]: ...
    def close(self) -> None: ...


class Announcer:
    """The announcements of one device. Every method may be called from any thread, and none but `finish` waits for the network.

    `fits` tells whether a stored password was sealed to a key of this device. `ring` is called when an attempt is over,
    `sent` with the number of an announcement that a server took.
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
        ring: Callable[[], None],
        sent: Callable[[int], None],
    ) -> None:
        self._outbox, self._device, self._connect, self._unseal = outbox, device, connect, unseal
        self._listed, self._calendar, self._clock, self._chance = listed, calendar, clock, chance
        self._fits, self._ring, self._sent = fits, ring, sent
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._tries, self._is_busy = Tries(), False
        self._own: deque[tuple[int, float]] = deque(maxlen=HOURLY_MAXIMUM)
        # What a server took while the ledger could not be written to: it must not go out twice.
        self._unrecorded: dict[int, list[Delivery]] = {}
        facts = outbox.facts()
        self._proved = next(iter(read(f"[{facts.get(PROVED, '')}]")), None)
        self._changes = read(facts.get(CHANGES, "[]"))
        self._rest_until = clock() + REFUSED_SECONDS if self._changes and self._changes[0].refusals else 0.0
        # Of the session under way: its other mails prove nothing new.
        self._session: SmtpSettings | None = None

    def proved(self, settings: SmtpSettings, *, by_alarm: bool) -> None:
        """Mail got through with these settings. A test proves the server, and only an alarm who gets the mail.

        Writes nothing when that is known, and never raises.
        """
        if settings is self._session:
            return
        with self._lock, contextlib.suppress(NotStored):
            before = self._proved
            if before and before.settings.bound_to != settings.bound_to:
                return  # a change that is not noticed yet must not be forgotten
            made = before.now(settings) if before else Server(settings, ())
            if by_alarm or not before:
                made = shape.replace(made, recipients=tuple(each.address for each in self._listed()))
            if made != before:
                self._keep(made)
            self._session = settings if by_alarm else None

    def look(self, settings: SmtpSettings, by: str) -> None:
        """These are the settings now; where mail got through to another server, that is an event and to be announced.

        `by` is the address they were changed from, if known. Never raises: what cannot be stored is noticed later.
        """
        with self._lock, contextlib.suppress(NotStored):
            before = self._proved
            if before is None:
                return
            if before.settings.bound_to == settings.bound_to:
                if not self._fits(before.settings) and self._fits(settings):  # the key was rotated
                    self._keep(before.now(settings))
                return
            happened = self._calendar.stamp(None)
            event = Event(
                SERVER_CHANGED.code,
                SERVER_CHANGED.type,
                happened.time,
                self._calendar.told if self._calendar.is_right() else 0.0,
                f"SMTP tab, from {by}" if by else "not known",
                "\n".join([_told("Before", before.settings), _told("Now", settings)]),
                waiting=False,
                clock=happened.clock,
            )

            def changes(number: int) -> list[Server]:
                return [*self._changes, shape.replace(before, number=number)][:CHANGES_MAXIMUM]

            (number,) = self._outbox.accept(
                [event], facts=lambda first: {PROVED: None, CHANGES: spelt_list(changes(first))}
            )
            self._proved, self._changes = None, changes(number)
            log.warning("event %d: mail goes through another server now", number)

    def is_idle(self) -> bool:
        """Whether nothing is to be announced."""
        return not self._changes

    def round(self) -> float | None:
        """Begin what is due. Seconds until something is; None: nothing, or `ring` tells."""
        with self._lock:
            if not self._changes or self._is_busy:
                return None
            wait = max(self._tries.next, self._rest_until) - self._clock()
            wait = wait if wait > 0 else self._wait_for_room()
            if wait > 0:
                return wait
            return self._begin(self._changes[0])

    def finish(self) -> None:
        """Wait until the attempt under way is over: what a server takes must reach the ledger before it is closed."""
        if self._thread:
            self._thread.join()

    def _wait_for_room(self) -> float:
        """Seconds until the hour has room for another announcement."""
        now = self._calendar.now()
        sent = [moment for moment, _ in self._outbox.sent_since(now - HOUR, SERVER_CHANGED.code)]
        # What lies in the future, since a clock was set back, must not hold one back for years.
        sent = [moment for moment in sent if moment <= now]
        return max(_until_room(sent, now), _until_room([moment for _, moment in self._own], self._clock()))

    def _begin(self, server: Server) -> float | None:
        thread = threading.Thread(target=self._work, args=(server,), name="announcement", daemon=True)
        self._is_busy = True
        try:
            thread.start()
        except RuntimeError as error:  # the system gives no thread (TasksMax); the alarms need none
            log.error("the announcement waits: %s", error)
            self._is_busy = False
            return RETRY_FIRST
        self._thread = thread
        return None

    def _work(self, server: Server) -> None:
        try:
            self._announce(server)
        except NotStored as error:
            log.error("what became of an announcement is not stored: %s", error.reason)
            self._tries.again(self._clock(), self._chance())
        except Exception:
            log.exception("the announcement stumbled; it is tried again later")
            self._tries.again(self._clock(), self._chance())
        finally:
            self._is_busy = False
            self._ring()

    def _announce(self, server: Server) -> None:
        event = self._outbox.event(server.number)
        ended = self._unrecorded.get(server.number, [])
        if self._tries.count >= TRIES_MAXIMUM:  # it stumbled again and again
            self._record(server, ended, done=True)
            return
        final = {each.recipient for each in (*self._outbox.deliveries(server.number), *ended)}
        open_ = [each for each in server.everybody if each not in final]
        outcomes, is_last = self._attempt(server, event, open_) if event else ({}, True)  # the ledger's limit took it
        if any(each.problem == "login refused" for each in outcomes.values()):
            server = shape.replace(server, refusals=server.refusals + 1)
            self._rest_until = self._clock() + REFUSED_SECONDS
            is_last = server.refusals >= REFUSALS_MAXIMUM
        now = self._calendar.now() if self._calendar.is_right() else 0.0
        found = [Delivery(name, each.verdict, each.step, each.reply, now) for name, each in outcomes.items()]
        if any(each.verdict == "delivered" for each in found):
            if server.number not in dict(self._own):  # a second try for others is the same one
                self._own.append((server.number, self._clock()))
            self._sent(server.number)
        later = [each for each in found if each.verdict == "try later"]
        ended = [*ended, *(each for each in found if each not in later)]
        if later and not is_last and self._tries.count + 1 < TRIES_MAXIMUM:
            self._tries.again(self._clock(), self._chance())
            self._record(server, ended, done=False)
        else:
            dropped = [shape.replace(each, verdict=DROPPED) for each in later]
            self._record(server, [*ended, *dropped] if event else [], done=True)

    def _attempt(self, server: Server, event: Event, recipients: Sequence[str]) -> tuple[Mapping[str, Any], bool]:
        """What became of the mail for each recipient, and whether another try would be in vain."""
        # Imported here: a device whose server never changes needs no second session.
        from device_ui.mail import message
        from device_ui.mail.verdict import TRY_LATER, Outcome, Stopped

        if not recipients:
            return {}, True
        settings = server.settings
        try:
            password = self._unseal(settings) if settings.sealed else ""
        except (NoKey, CannotOpen, Damaged, NotReadable) as error:
            return dict.fromkeys(recipients, Outcome(TRY_LATER, "login", str(error))), True
        courier = self._connect(settings, password)
        try:
            courier.open()
            device = {**self._device, "address": courier.local_address}
            spoken = message.languages(recipients, self._listed(), device)
            now = self._calendar.now()
            envelope = message.Envelope(settings, recipients, device, self._outbox.id, now, languages=spoken)
            return courier.deliver(recipients, message.compose(event, SERVER_CHANGED, envelope)), False
        except Stopped as stopped:
            return dict.fromkeys(recipients, stopped.outcome), False
        finally:
            courier.close()

    def _record(self, server: Server, ended: Sequence[Delivery], *, done: bool) -> None:
        with self._lock:
            before = self._changes
            others = [each for each in before if each.number != server.number]
            left = others if done else [server, *others]
            self._unrecorded[server.number] = list(ended)
            if not done:  # what stands here counts, the ledger follows: a full flash must not make us ask once more
                self._changes = left
            if ended or left != before:  # a try that fails writes nothing, but for a refused login
                self._outbox.record(server.number, ended, done=False, facts={CHANGES: spelt_list(left)}, is_alarm=False)
            del self._unrecorded[server.number]
            if done:
                self._changes, self._tries, self._rest_until = left, Tries(), 0.0
        for each in ended:
            log.info("announcement %d for %s: %s %s", server.number, each.recipient, each.verdict, each.reply)

    def _keep(self, proved: Server) -> None:
        self._outbox.keep_fact(PROVED, spelt(proved))
        self._proved = proved


def _until_room(sent: Sequence[float], now: float) -> float:
    """Seconds until the hour has room, by the moments of those sent, in their order."""
    return max(0.0, sent[-HOURLY_MAXIMUM] + HOUR - now) if len(sent) >= HOURLY_MAXIMUM else 0.0


def _told(when: str, settings: SmtpSettings) -> str:
    return f"{when}: {settings.host} port {settings.port}, account {settings.account}, security {settings.security}"
