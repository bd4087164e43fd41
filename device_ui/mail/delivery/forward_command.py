"""Hand every event to the maker's program, for an engine such as MQTT, NATS or syslog: mailed or not, in the order of its number.

The program gets at most 100 lines of JSON on its standard input. Exit code 0 moves a cursor that is on flash: the number of the
last event that was handed over. After any other exit, or a kill at the time limit, the same events are handed over again, with
the back-off of mails. So an event arrives at least once, and its number shows copies. Events that the database's limit removed
before they were handed over are reported as a gap, in their place.

If the maker asks for outcomes, a line follows each event whose mail ended: what became of it. The database keeps which
ones are still to be handed over (`Outbox.outcomes`), in the transaction that ends the mail, so that no power cut loses
one.

An engine that is away costs nothing but these tries: what waits is the database, which has its own limit.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from device_ui.errors import NotStored
from device_ui.mail.catalog import Catalog
from device_ui.mail.clock import pending_moment
from device_ui.mail.delivery.environment import Environment
from device_ui.mail.delivery.program import Program
from device_ui.mail.delivery.retry import RETRY_FIRST, RetryState
from device_ui.mail.events import PENDING, Event
from device_ui.mail.format import event_name, event_source, event_text, local_time
from device_ui.mail.outbox.database import to_number
from device_ui.mail.outbox.outbox import Outbox
from device_ui.mail.outbox.retention import FORWARDED

log = logging.getLogger(__name__)

# Lines of a run, and about their bytes: a run of long texts has fewer.
LINES_MAXIMUM, BYTES_MAXIMUM = 100, 256 * 1024
# Seconds that a run may take: a client whose broker went away may never end by itself.
RUN_SECONDS = 60.0
# Seconds that the end of the hook waits for a run that was killed.
END_SECONDS = 1.0
# Seconds after an event in which further ones join the same run: a storm is a few runs.
GATHER_SECONDS = 0.5
# What is said of an event that the limit removed before its outcome was handed over.
REMOVED = "removed"


class ForwardCommand:
    """Runs `command` (a path; ``""``: nothing) in a thread of its own. Any thread may call any method."""

    def __init__(
        self, command: str, outbox: Outbox, catalog: Catalog, environment: Environment, seconds: float = RUN_SECONDS
    ) -> None:
        self._program = Program(command, seconds)
        self._outbox, self._catalog, self._environment = outbox, catalog, environment
        self._tries = RetryState()
        self._wakeup, self._stopping = threading.Event(), threading.Event()
        self._cursor = _stored_cursor(outbox) if command else 0
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Look for new events."""
        self._wakeup.set()

    def is_idle(self) -> bool:
        """Return whether every event and outcome was handed over."""
        return not self._program.command or (self._cursor >= self._outbox.last and not self._outbox.has_outcomes)

    def backlog(self) -> int | None:
        """Return the number of events that were not handed over yet; None without a program."""
        return max(0, self._outbox.last - self._cursor) if self._program.command else None

    def start(self) -> None:
        """Start the thread, if there is a program. What the system gives no thread for waits for the next start."""
        if not self._program.command:
            return
        thread = threading.Thread(target=self._work, name="forward command", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # TasksMax
            log.error("%s was not run: %s", self._program.command, error)
            return
        self._thread = thread

    def stop(self) -> None:
        """Let the thread end; a run under way is killed, and its events are handed over again after the next start."""
        self._stopping.set()
        self._wakeup.set()
        self._program.kill()
        if self._thread:
            self._thread.join(END_SECONDS)

    def round(self) -> float | None:
        """Hand over what is due. Return seconds until the next round; None: when there is a new event."""
        now = self._environment.monotonic()
        if self.is_idle():
            return None
        if not self._tries.is_due(now):
            return self._tries.next - now
        lines, last, outcomes = self._lines()
        failure = self._program.run({}, b"".join(lines))
        if self._stopping.is_set():
            return None
        if failure:
            if failure != self._tries.reply:  # logged once, not with every try
                log.error("%s %s", self._program.command, failure)
            self._tries.failed(self._environment.monotonic(), self._environment.random())
            self._tries.describe("", failure)
            return self._tries.next - now
        # The program has the events: whatever happens to this commit, they are not lost, and may arrive again.
        self._outbox.forwarded(last, outcomes)
        self._cursor, self._tries = last, RetryState()
        return None if self.is_idle() else 0.0

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                wait = self.round()
            except NotStored as error:
                log.error("events not forwarded: %s", error)
                wait = RETRY_FIRST
            except Exception:
                log.exception("events not forwarded; they are tried again later")
                wait = RETRY_FIRST
            if wait is None:
                self._wakeup.wait()
                self._wakeup.clear()
                # After a wait without an end only: what is due already is not delayed.
                wait = GATHER_SECONDS
            self._stopping.wait(wait)  # new events do not shorten a back-off

    def _lines(self) -> tuple[list[bytes], int, Sequence[tuple[int, int, str]]]:
        """Return the lines of a run, the number that the cursor has after it, and the outcomes that are in it."""
        after, last = self._cursor, self._outbox.last
        # By the number alone: an event that is dated later keeps its place, so no event is passed over.
        events = self._outbox.select("number > ? ORDER BY number LIMIT ?", (after, LINES_MAXIMUM))
        lines: list[bytes] = []
        size = 0
        for reported, number in self._records(events, after, last):
            lines.append(_line(reported))
            size, after = size + len(lines[-1]), number
            if len(lines) == LINES_MAXIMUM or size >= BYTES_MAXIMUM:
                break
        # The outcome of an event never comes before the event: those of events that are in no run yet wait.
        outcomes = self._outbox.outcomes(after, LINES_MAXIMUM - len(lines)) if self._outbox.has_outcomes else []
        return [*lines, *(_line(self._outcome(number, state)) for number, _, state in outcomes)], after, outcomes

    def _records(self, events: Sequence[Event], after: int, last: int) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield each event, and each gap before one, with the number that it reaches to."""
        for event in events:
            if event.number > after + 1:
                yield self._gap(after + 1, event.number - 1), event.number - 1
            yield self._event(event), event.number
            after = event.number
        if not events and after < last:  # the limit keeps the newest event; a damaged row may be missing all the same
            yield self._gap(after + 1, last), last

    def _gap(self, first: int, last: int) -> dict[str, Any]:
        gap = {"first": first, "last": last, "count": last - first + 1}
        return {"gap": gap, "ledger": self._outbox.id, **self._device()}

    def _outcome(self, number: int, state: str) -> dict[str, Any]:
        return {"number": number, "ledger": self._outbox.id, "outcome": state or REMOVED, **self._device()}

    def _event(self, event: Event) -> dict[str, Any]:
        kind = self._catalog[event.code]
        return {
            "number": event.number,
            "ledger": self._outbox.id,
            **_time(event),
            "code": event.code,
            "type": event.type,
            "name": event_name(event, kind),
            "text": str(event_text(event)),
            "source": str(event_source(event)),
            # A person's action has a number as well; without its line the number would look like a lost event.
            **({"about": event.about} if event.about else {}),
            **self._device(),
        }

    def _device(self) -> dict[str, str]:
        return {name: self._environment.device[key] for name, key in (("device", "name"), ("serial", "serial"))}


def _line(reported: dict[str, Any]) -> bytes:
    # In ASCII: no reader of lines can take a character of a text for the end of one (U+2028, U+0085).
    return json.dumps(reported).encode() + b"\n"


def _time(event: Event) -> dict[str, Any]:
    """Return the time of an event: RFC 3339 with the zone, or the seconds since a start of the device (its id is ``boot``).

    ``certainty`` is there for a date that the device does not know for sure: see `events`.
    """
    if event.clock.startswith(PENDING) and not event.time:
        boot, seconds = pending_moment(event.clock)
        return {"time": None} if seconds is None else {"time": None, "boot": boot, "monotonic": seconds}
    try:
        moment = local_time(event.time).isoformat()
    except (OverflowError, ValueError, OSError):  # one flipped bit must not block all that follows
        return {"time": None}
    is_sure = not event.clock or event.clock.startswith(PENDING)
    return {"time": moment} if is_sure else {"time": moment, "certainty": event.clock}


def _stored_cursor(outbox: Outbox) -> int:
    """Return the cursor of the database; 0 where it has none or a damaged one: then events arrive again."""
    cursor = to_number(outbox.metadata().get(FORWARDED, "0"))
    # Beyond the last event it belongs to a database that was replaced: all events of this one are new.
    return cursor if cursor <= outbox.last else 0
