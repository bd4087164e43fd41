"""The ledger: every event that was accepted, and per recipient what became of its mail. SQLite does the durable part.

``accept`` returns only when the events are committed with ``synchronous=FULL``: on flash. One process owns the file,
with one connection that its threads share, so the lock is exclusive and no shared-memory file is needed. A mail that
is tried again writes nothing: only what became of it is written.

A mail tells of one event, or of many (a digest), and its name is the number of the first. Which events a mail tells of
is on flash before it goes out, so that after a power cut the same events go out under the same Message-ID.

The ledger has a limit: what is beyond it goes, of one user and in the order of `limit.REMOVED`, and is counted.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence

from device_ui.errors import from_stored, to_json, to_stored
from device_ui.mail.events import CodeCount, Delivery, Digest, Event
from device_ui.mail.outbox import retention
from device_ui.mail.outbox.database import Database, Facts, keep_facts
from device_ui.mail.outbox.disk_reserve import MAIL

COLUMNS = "number, code, type, time, accepted, source, text, waiting, mail, clock, uid"
# The fact that says what the last mail lost: verdict, step and reply. By no date of the table: a clock may have been wrong.
LOSS = "last_loss"
PENDING = "clock >= '@' AND clock < 'A'"
OF_MAIL = "(number = ?1 AND mail IN (0, ?1) OR mail = ?1 AND mail <> number AND mail <> 0)"
# What waits up to a number (?1), but for a digest that tells of a later one; of that, what no other event shares a mail
# with and nobody has a verdict on.
EXPIRED = (
    "waiting AND number <= ?1 AND (mail = 0 OR NOT EXISTS "
    "(SELECT 1 FROM event AS other WHERE other.mail = event.mail AND other.mail <> other.number AND other.mail <> 0"
    " AND other.number > ?1))"
)
EXPIRED_ALONE = (
    f"{EXPIRED} AND mail IN (0, number) AND NOT EXISTS "
    "(SELECT 1 FROM delivery WHERE delivery.number = event.number) AND NOT EXISTS "
    "(SELECT 1 FROM event AS other WHERE other.mail = event.number AND other.mail <> other.number AND other.mail <> 0)"
)


class Outbox(Database):
    """The ledger of one device, and what is asked of it."""

    def accept(
        self, events: Sequence[Event], alone: Sequence[bool] = (), facts: Callable[[int], Facts] = lambda _: {}
    ) -> list[int]:
        """Commit events that arrived together in one transaction; their numbers, in order, without a gap.

        `alone` tells which of them are to be a mail of their own, `facts` (of the first one's number) what is kept of
        them beside, all in the same breath.
        """
        with self._lock:
            decided = [*alone, *[False] * (len(events) - len(alone))]
            rows = [
                _row(number, each, own)
                for number, (each, own) in enumerate(zip(events, decided, strict=True), self._last + 1)
            ]
            limits = (self._rows_maximum, self._bytes_maximum)
            users = [each.user for each in events]
            held = now = retention.more(self._held, ((each.user, each.source, each.text) for each in events))

            def insert(cursor: sqlite3.Cursor) -> int:
                nonlocal held
                cursor.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
                keep_facts(cursor, facts(self._last + 1))
                held, removed = retention.keep(cursor, now, users, self._last, *limits)
                return removed

            # The reserve is given up for one user: the caller stores events of several users one user at a time.
            user = users[0] if len(set(users)) == 1 else None
            self._rows += len(rows) - self._write(insert, user)
            self._held = held
            self._last += len(rows)
        return [int(row[0]) for row in rows]

    def waiting(self, limit: int = 100, after: int = 0) -> list[Event]:
        """Events whose mail is still to be sent, oldest first."""
        return self.select("waiting AND number > ? ORDER BY number LIMIT ?", (after, limit))

    def waiting_count(self) -> int:
        """How many events still wait for their mail."""
        return int(self.read("SELECT count(*) FROM event WHERE waiting", ())[0][0])

    def newest_waiting(self) -> int:
        """The highest number that still waits for its mail, 0 when none does."""
        return int(self.read("SELECT coalesce(max(number), 0) FROM event WHERE waiting", ())[0][0])

    def event(self, number: int) -> Event | None:
        """One event; None when the limit took it."""
        return next(iter(self.select("number = ?", (number,))), None)

    def decide(self, numbers: Sequence[int]) -> int:
        """Commit that one mail tells of these events: its name, the first that is left of them; 0 when none is."""
        chosen = "waiting AND mail = 0 AND number IN (SELECT value FROM json_each(?1))"
        values = (json.dumps(numbers),)

        def mark(cursor: sqlite3.Cursor) -> int:
            found = cursor.execute(f"SELECT coalesce(min(number), 0) FROM event WHERE {chosen}", values)
            first = int(found.fetchone()[0])
            cursor.execute(f"UPDATE event SET mail = {first} WHERE {chosen}", values)
            return first

        return self._write(mark, MAIL)

    def digest(self, number: int, most: int) -> Digest | None:
        """What the mail called `number` tells of, with the `most` oldest events; None when the limit took them all."""
        events = self.select(f"{OF_MAIL} ORDER BY number LIMIT ?2", (number, most))
        if not events:
            return None
        if len(events) == 1 < most:
            only = events[0]
            kept, only_range = CodeCount(only.code, 1, only.time, only.time), (only.number, only.number)
            return Digest(number, only.type, [kept], [only_range], events)
        codes = self.read(
            "SELECT code, count(*), coalesce(min(nullif(time, 0)), 0), max(time) FROM event "
            f"WHERE {OF_MAIL} GROUP BY code ORDER BY code",
            (number,),
        )
        numbers = self.numbers(f"SELECT number FROM event WHERE {OF_MAIL} ORDER BY number", (number,))
        return Digest(number, events[0].type, [CodeCount(*row) for row in codes], _ranges(numbers), events)

    def pending(self) -> dict[int, str]:
        """Events that have no date yet, by number, and the moment that each keeps instead (see `clock`)."""
        return dict(self.read(f"SELECT number, clock FROM event WHERE {PENDING} ORDER BY number", ()))

    def date(self, dated: Mapping[int, tuple[float, str]]) -> None:
        """Commit the dates of events by number: seconds since 1970, and what the date rests on."""
        rows = [(time, time, clock, number) for number, (time, clock) in dated.items()]
        self._write(
            lambda cursor: cursor.executemany(
                "UPDATE event SET time = CASE WHEN time > 0 THEN time ELSE ? END, accepted = ?, clock = ? WHERE number = ?",
                rows,
            )
        )

    def newest_date(self) -> float:
        """When the newest event with a sure date was accepted, seconds since 1970; 0 when there is none."""
        rows = self.read(
            "SELECT accepted FROM event WHERE clock = '' AND accepted > 0 ORDER BY number DESC LIMIT 1", ()
        )
        return float(rows[0][0]) if rows else 0.0

    def settle(self, kind: str) -> int:
        """Commit that nobody wants what waits of this type; how many these were. Writes nothing when there are none."""
        query = "SELECT 1 FROM event WHERE waiting AND type = ? LIMIT 1"
        if not self.read(query, (kind,)):
            return 0
        return self._write(
            lambda cursor: cursor.execute("UPDATE event SET waiting = 0 WHERE waiting AND type = ?", (kind,)).rowcount
        )

    def give_up(self, newest: int, why: Mapping[str, Sequence[Delivery]]) -> int:
        """Commit that every mail whose events are all up to `newest` is dropped; how many events these were.

        `why`, by type, is what became of it for each recipient; what an earlier verdict says stands. Events that were
        not in a digest yet become one of their type, so that a ledger full of them takes one row a recipient.
        """

        def drop(cursor: sqlite3.Cursor) -> int:
            lost = []
            for kind, deliveries in why.items():
                _gather(cursor, newest, kind)
                for each in deliveries:
                    rows = cursor.execute(
                        "INSERT OR IGNORE INTO delivery SELECT DISTINCT CASE mail WHEN 0 THEN number ELSE mail END, "
                        f"?2, ?3, ?4, ?5, ?6 FROM event WHERE type = ?7 AND {EXPIRED}",
                        (newest, each.recipient, each.verdict, each.step, to_stored(each.reply), each.time, kind),
                    ).rowcount
                    lost += [each] if rows else []
            _keep_loss(cursor, lost)
            return cursor.execute(f"UPDATE event SET waiting = 0 WHERE {EXPIRED}", (newest,)).rowcount

        return self._write(drop, MAIL)

    def newest_sent(self) -> float:
        """When the newest mail was delivered, seconds since 1970; 0 when none was."""
        rows = self.read("SELECT coalesce(max(time), 0) FROM delivery WHERE verdict = 'delivered'", ())
        return float(rows[0][0])

    def sent_since(self, moment: float, code: str = "") -> list[tuple[float, str]]:
        """The mails that were delivered since a moment (seconds since 1970), of one code or all: when, and of which type."""
        return [
            (time, kind)
            for time, kind in self.read(
                "SELECT min(delivery.time), event.type FROM delivery JOIN event USING (number) "
                "WHERE delivery.time > ? AND verdict = 'delivered' AND ? IN ('', event.code) GROUP BY number ORDER BY 1",
                (moment, code),
            )
        ]

    def deliveries(self, number: int) -> list[Delivery]:
        """What became of this mail, by recipient."""
        query = "SELECT recipient, verdict, step, reply, time FROM delivery WHERE number = ? ORDER BY recipient"
        rows = self.read(query, (number,))
        return [Delivery(name, verdict, step, from_stored(reply), time) for name, verdict, step, reply, time in rows]

    def record(
        self,
        number: int,
        deliveries: Sequence[Delivery],
        *,
        done: bool,
        told: int = 0,
        facts: Facts | None = None,
        is_alarm: bool = True,
    ) -> None:
        """Commit what became of a mail; `done` when nobody is left to send it to. `told`: events removed unmailed
        that it told of; `facts` are kept in the same breath. Of an alarm, what was lost is kept as the fact `LOSS`."""

        def keep(cursor: sqlite3.Cursor) -> None:
            cursor.executemany(
                "INSERT OR REPLACE INTO delivery VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (number, each.recipient, each.verdict, each.step, to_stored(each.reply), each.time)
                    for each in deliveries
                ],
            )
            if done:
                cursor.execute(f"UPDATE event SET waiting = 0 WHERE {OF_MAIL}", (number,))
            if told:
                retention.count(cursor, retention.UNTOLD, -told)
            if is_alarm:
                _keep_loss(cursor, deliveries)
            keep_facts(cursor, facts or {})

        self._write(keep, MAIL)

    def removed(self) -> dict[str, int]:
        """How many events the limit took, by the names of `limit.REMOVED` and `limit.UNTOLD`."""
        facts = self.facts()
        return {name: int(facts.get(name, 0)) for name in (*dict(retention.REMOVED), retention.UNTOLD)}

    def select(self, where: str, values: Sequence[object]) -> list[Event]:
        """Events by a condition that this room wrote; nothing that a person typed belongs into `where`."""
        return [
            Event(code, kind, time, accepted, source, text, bool(waiting), number, mail, clock, user)
            for number, code, kind, time, accepted, source, text, waiting, mail, clock, user in self.read(
                f"SELECT {COLUMNS} FROM event WHERE {where}",
                values,
            )
        ]


def _keep_loss(cursor: sqlite3.Cursor, deliveries: Sequence[Delivery]) -> None:
    """Keep what the newest verdicts lost, until others lost nothing. Writes only when that is another."""
    if not deliveries:
        return
    lost = next((each for each in deliveries if each.verdict != "delivered"), None)
    fact = json.dumps([lost.verdict, lost.step, lost.reply], default=to_json) if lost else None
    kept = cursor.execute("SELECT value FROM fact WHERE name = ?", (LOSS,)).fetchone()
    if fact != (kept[0] if kept else None):
        keep_facts(cursor, {LOSS: fact})


def _gather(cursor: sqlite3.Cursor, newest: int, kind: str) -> None:
    found = cursor.execute(f"SELECT min(number) FROM event WHERE {EXPIRED_ALONE} AND type = ?2", (newest, kind))
    first = found.fetchone()[0]
    if first is not None:
        cursor.execute(f"UPDATE event SET mail = ?3 WHERE {EXPIRED_ALONE} AND type = ?2", (newest, kind, first))


def _row(number: int, event: Event, alone: bool) -> tuple[int | float | str, ...]:
    mail = number if alone and event.waiting else 0
    times = (event.time, event.accepted)
    texts, waiting = (event.source, event.text), int(event.waiting)
    return (number, event.code, event.type, *times, *texts, waiting, mail, event.clock, event.user)


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
