"""The outbox: every accepted event, and for each recipient the result of its mail.

`accept` returns only when the events are committed with ``synchronous=FULL``, so they are on flash. A retry of a mail writes
nothing: only its results are written.

A mail contains one event or several (a digest); its number is that of its first event. Which events a mail contains is on flash
before it is sent, so that after a power cut the same events are sent with the same Message-ID.

The database has a limit: events beyond it are removed, of one user and in the order of `retention.REMOVED`, and counted.

The parameters of SQL are ``?1``, ``?2`` where one is used twice. Lists are passed as JSON (`LISTED`): SQLite's
default limit is 32,766 parameters, and a digest may contain more events.
"""

from __future__ import annotations

import bisect
import contextlib
import heapq
import itertools
import json
import math
import sqlite3
from array import array
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from device_ui.errors import NotStored, from_stored, to_json, to_stored
from device_ui.mail.catalog import SERVER_CHANGED, TYPES
from device_ui.mail.events import CodeCount, Delivery, Digest, Event
from device_ui.mail.outbox import retention
from device_ui.mail.outbox.database import IN_SUMMARY, PENDING, QUEUED, Database, Metadata, to_number, write_metadata
from device_ui.mail.outbox.disk_reserve import MAIL

COLUMNS = "number, code, type, time, accepted, source, text, waiting, mail, clock, uid, about"
DELIVERY_COLUMNS = "recipient, verdict, step, reply, time"
LISTED = "SELECT value FROM json_each(?1)"
# The value of the column `waiting` (see `database.IN_SUMMARY`).
WAITS_FOR_SUMMARY = 2
# The newest results, of which the pages show the last one of each recipient: a bound of the time that they lock the database.
NEWEST = "(SELECT number, recipient, verdict, step, reply, time FROM delivery ORDER BY number DESC LIMIT 2000)"
# The name of the metadata of the last loss: verdict, step and reply. Stored, and not looked up by the newest date of a result: the
# clock may have been wrong.
LOSS = "last_loss"
# The name of the metadata of the last daily summary (see `delivery.periodic`): its day, and the numbers of the newest ones.
SUMMARY = "summary"
LOST_OF_MAIL = "SELECT 1 FROM delivery WHERE number = ? AND verdict <> 'delivered' LIMIT 1"
# The events of one mail. Both halves use an index: the row by its number, and the index "digest" for the other events.
# `mail IN (0, ?1)`: a mail of one event that is not assigned yet has the event's number.
OF_MAIL = "(number = ?1 AND mail IN (0, ?1) OR mail = ?1 AND mail <> number AND mail <> 0)"
# Waiting events up to a number (?1), without those of a digest that contains a later event; and of them, those that share no
# mail with a different event and have no delivery.
EXPIRED = (
    f"{QUEUED} AND number <= ?1 AND (mail = 0 OR NOT EXISTS "
    "(SELECT 1 FROM event AS other WHERE other.mail = event.mail AND other.mail <> other.number AND other.mail <> 0"
    " AND other.number > ?1))"
)
EXPIRED_ALONE = (
    f"{EXPIRED} AND about = 0 AND mail IN (0, number) AND NOT EXISTS "
    "(SELECT 1 FROM delivery WHERE delivery.number = event.number) AND NOT EXISTS "
    "(SELECT 1 FROM event AS other WHERE other.mail = event.number AND other.mail <> other.number AND other.mail <> 0)"
)
# Events that one query of `find` reads. A sorted query over 100,000 events locks the database for 0.1 s, on a small processor
# for 1 s, and an event that is raised meanwhile waits as long: so `find` makes many short queries and merges their results.
PIECE = 2000
# Events of a piece whose sort keys are in memory at once: those of 100,000 events would take 25 MiB.
KEYS = 50
# The actions on an event. `later.about` by itself: SQLite uses a partial index only where its condition is in the query.
LATER = "FROM event AS later WHERE later.about AND later.about = event.number"
# The number of an event's own mail.
MAIL_NUMBER = "iif(event.mail, event.mail, event.number)"
# The first and the last verdict of an event's mail by the alphabet: sorted by both, the events of one state are neighbours.
# Of an event that was sent again, the best verdict of each recipient counts, which is the first by the alphabet, too. A recipient
# that the newest of its mails did not go to is on the list no more, and counts only where it has the event.
MAILS = f"(SELECT {MAIL_NUMBER} UNION ALL SELECT later.number {LATER})"
VERDICTS = (
    f"CASE WHEN NOT EXISTS (SELECT 1 {LATER}) THEN "
    f"(SELECT min(verdict) || max(verdict) FROM delivery WHERE delivery.number = {MAIL_NUMBER}) ELSE "
    "(SELECT min(best) || max(best) FROM (SELECT min(verdict) AS best FROM delivery WHERE delivery.number IN "
    f"{MAILS} GROUP BY recipient HAVING best = 'delivered' OR max(delivery.number) = "
    f"(SELECT max(sent.number) FROM delivery AS sent WHERE sent.number IN {MAILS}))) END"
)
# :notices are the events of a server change with notices that are still to be sent.
WAITS = (
    f"event.waiting OR EXISTS (SELECT 1 {LATER} AND later.waiting) "
    f"OR event.code = '{SERVER_CHANGED.code}' AND event.number IN (SELECT value FROM json_each(:notices))"
)
STATE = f"iif({WAITS}, 'waiting', coalesce(({VERDICTS}), ''))"
# What became of an event's mail, in a word or two, and the values of `STATE` that mean it. The last one is for a filter.
STATES: Mapping[str, Sequence[str]] = {
    "waiting": ("waiting",),
    "delivered": ("delivereddelivered",),
    "partly delivered": ("delivereddropped", "deliveredrefused"),
    "refused": ("droppedrefused", "refusedrefused"),
    "dropped": ("droppeddropped",),
    "not mailed": ("",),
}
NOT_DELIVERED = "not delivered"
LOST = (*STATES["partly delivered"], *STATES["refused"], *STATES["dropped"])
OUTCOMES: Mapping[str, Sequence[str]] = {**STATES, NOT_DELIVERED: LOST}
# The events whose mail may not have reached everybody, which few are: two small indexes lead to them, where a condition on each row
# took half the time of a page of 100,000 events. By pieces of failed mails (a JSON list), and those that have an action.
FAILED = "delivery INDEXED BY failed WHERE verdict <> 'delivered'"
FAILED_MAILS = f"SELECT DISTINCT number FROM {FAILED} AND number > ? ORDER BY number LIMIT ?"
OF_FAILED_MAILS = (
    f"SELECT number FROM event WHERE number IN ({LISTED}) AND mail IN (0, number) UNION ALL "
    f"SELECT number FROM event INDEXED BY digest WHERE mail IN ({LISTED}) AND mail <> number AND mail <> 0"
)
ACTED_ON = (
    "SELECT DISTINCT event.number FROM event AS later CROSS JOIN event ON event.number = later.about WHERE later.about "
    f"AND NOT EXISTS (SELECT 1 FROM {FAILED} AND delivery.number = {MAIL_NUMBER})"
)
# The orders of `find`; :names are the codes in the order of their names. Equal events are sorted by number.
SORTS = {
    "number": "number",
    "time": "time",
    "type": "type",
    "code": "code",
    "name": "instr(:names, ',' || code || ',')",
    "source": "lower(source)",
    "state": STATE,
}


@dataclass(frozen=True)
class Query:
    """A page of events: `time` from `begin` up to but without `end` (seconds since 1970), exact `type` and `code`.

    `outcome` is a key of `OUTCOMES`. `source` and `text` are parts of these; A to Z match a to z. `sort` is a key of `SORTS`;
    `limit` 0: to the last.
    """

    begin: float | None = None
    end: float | None = None
    type: str = ""
    code: str = ""
    sort: str = "number"
    descending: bool = True
    offset: int = 0
    limit: int = 50
    outcome: str = ""
    source: str = ""
    text: str = ""

    # The texts of SQL are constants of this module; a person's input is in `values` alone.
    @property
    def where(self) -> str:
        """The conditions within a piece, as SQL with the names of `values` and ``:first``, ``:last``."""
        return f"number BETWEEN :first AND :last AND {self.conditions}"

    @property
    def conditions(self) -> str:
        """The conditions on an event, as SQL with the names of `values`."""
        conditions = {
            "time >= :begin": self.begin is not None,
            # 0 is no date: an event without one is in no range of days.
            "time > 0 AND time < :end": self.end is not None,
            "type = :type": bool(self.type),
            "code = :code": bool(self.code),
            # Not LIKE, which would need its wildcards escaped.
            "instr(lower(source), :source)": bool(self.source),
            "instr(lower(text), :text)": bool(self.text),
            # Last, since it reads other tables.
            f"{STATE} IN (SELECT value FROM json_each(:outcomes))": bool(self.outcome),
        }
        return " AND ".join(["about = 0", *(text for text, given in conditions.items() if given)])

    @property
    def last(self) -> int | None:
        """The place after the page's last event, None without a limit."""
        return self.offset + self.limit if self.limit else None

    @property
    def order(self) -> str:
        """The order as SQL."""
        direction = "DESC" if self.descending else "ASC"
        return f"ORDER BY {SORTS[self.sort]} {direction}, number {direction}"

    def values(self, names: str, notices: Sequence[int] = ()) -> dict[str, object]:
        """Return the values of `where` and `order`; `names`: the codes in the order of their names, between commas."""
        page = {"maximum": -1 if self.last is None else self.last}
        exact = {"begin": self.begin, "end": self.end, "type": self.type, "code": self.code}
        parts = {"source": _lower(self.source), "text": _lower(self.text)}
        lists = {"outcomes": json.dumps(OUTCOMES.get(self.outcome, ())), "notices": json.dumps(list(notices))}
        return {**exact, **parts, **lists, "names": names, **page}


# What a piece has: its events, those that are faults, the first and the last time.
COUNTS = "count(*), count(*) FILTER (WHERE type = 'fault')"
SPAN = f"{COUNTS}, min(time), max(time)"


class Bars:
    """The counts of a page's picture: `edges` are the moments (seconds since 1970) between bars, with the first and the last."""

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges = edges
        # The first and the last have what is before and after the picture.
        self._counts = [{"fault": 0, "info": 0, "lost": 0} for _ in range(len(edges) + 1)]

    @property
    def counts(self) -> Sequence[Mapping[str, int]]:
        """Of each bar the number of its faults, infos and events whose mail did not reach everybody."""
        return self._counts[1:-1]

    def add(self, piece: tuple[int, int, float, float], count: Callable[[float, float], Any]) -> None:
        """Add a piece: its `SPAN`. `count` returns its events and faults from a moment up to a second one.

        Most pieces are within a bar or two, since events come in the order of their times: sorting the rows of each piece by
        their bars took twice the time of reading them.
        """
        events, faults, *span = piece
        first, last = (bisect.bisect_right(self.edges, each) for each in span)
        for place in range(first, last):
            some, faulty = count(self.edges[place - 1] if place else -math.inf, self.edges[place])
            self._add(place, some, faulty)
            events, faults = events - some, faults - faulty
        self._add(last, events, faults)

    def add_lost(self, times: Iterable[float]) -> None:
        """Add the times of events whose mail did not reach everybody."""
        for each in times:
            self._counts[bisect.bisect_right(self.edges, each)]["lost"] += 1

    def _add(self, place: int, events: int, faults: int) -> None:
        self._counts[place]["fault"] += faults
        self._counts[place]["info"] += events - faults


class Outbox(Database):
    """The events of one device and their deliveries. Any thread may call; every method raises `NotStored`."""

    # Whether outcomes are kept for `outcomes`.
    _keeps_outcomes = False

    def keep_outcomes(self, is_asked: bool) -> None:
        """Keep the outcome of each mail that ends from now on, for `outcomes`; or forget those that were kept. Never raises."""
        self._keeps_outcomes = is_asked
        if self.has_outcomes and not is_asked:
            with contextlib.suppress(NotStored):  # a later start forgets them
                self.write(lambda cursor: cursor.execute("DELETE FROM outcome"))
                self.has_outcomes = False

    def outcomes(self, newest: int, limit: int) -> list[tuple[int, int, str]]:
        """Return events up to a number whose mail ended, oldest first: number, a count for `forwarded`, and a key of `STATES`.

        ``""`` for an event that the limit removed.
        """
        query = (
            f"SELECT outcome.number, changes, iif(event.number IS NULL, '-', {STATE}) "
            "FROM outcome LEFT JOIN event ON event.number = outcome.number "
            "WHERE outcome.number <= :newest ORDER BY outcome.number LIMIT :limit"
        )
        words = {value: word for word, values in STATES.items() for value in values}
        rows = self.read(query, {"newest": newest, "limit": limit, "notices": "[]"})
        return [(number, changes, words.get(found, "")) for number, changes, found in rows]

    def forwarded(self, newest: int, outcomes: Iterable[tuple[int, int, str]]) -> None:
        """Commit that the maker's program has the events up to a number, and these outcomes."""
        given = [(number, changes) for number, changes, _ in outcomes]

        def move(cursor: sqlite3.Cursor) -> bool:
            write_metadata(cursor, {retention.FORWARDED: str(newest)})
            # One that changed while the program ran stays, to be handed over again.
            cursor.executemany("DELETE FROM outcome WHERE number = ? AND changes = ?", given)
            return cursor.execute("SELECT 1 FROM outcome LIMIT 1").fetchone() is not None

        with self._lock:
            self.has_outcomes = self.write(move)

    def _keep_outcome(self, cursor: sqlite3.Cursor, which: str, values: Sequence[object]) -> None:
        """Write that the mails of some events end in this transaction."""
        if self._keeps_outcomes:
            # An action ends for its event, which alone has a state.
            cursor.execute(
                f"INSERT INTO outcome SELECT DISTINCT iif(about, about, number), 1 FROM event WHERE {which} "
                "ON CONFLICT (number) DO UPDATE SET changes = changes + 1",
                values,
            )

    def _outcomes_kept(self) -> None:
        """Report outcomes that were committed."""
        if self._keeps_outcomes:
            self.has_outcomes = True
            self.on_change()

    def accept(
        self, events: Sequence[Event], alone: Sequence[bool] = (), metadata: Callable[[int], Metadata] = lambda _: {}
    ) -> list[int]:
        """Commit events in one transaction. Return their numbers, in order and without a gap.

        `alone`: for each event, whether it is a mail of its own. `metadata` returns metadata for the same transaction; its
        argument is the first event's number.
        """
        # Over the numbers and the commit: two threads must not assign the same number.
        with self._lock:
            self.has_summary = self.has_summary or any(each.in_summary for each in events)
            decided = [*alone, *[False] * (len(events) - len(alone))]
            rows = [
                _row(number, each, own)
                for number, (each, own) in enumerate(zip(events, decided, strict=True), self._last + 1)
            ]
            limits = (self._rows_maximum, self._bytes_maximum)
            users = [each.user for each in events]
            usage = now = retention.more(self._usage, ((each.user, each.source, each.text) for each in events))

            def insert(cursor: sqlite3.Cursor) -> int:
                nonlocal usage
                cursor.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
                write_metadata(cursor, metadata(self._last + 1))
                usage, removed = retention.keep(cursor, now, users, self._last, *limits)
                return removed

            # The reserve is released for one user: the caller stores events of several users one user at a time.
            user = users[0] if len(set(users)) == 1 else None
            self._rows += len(rows) - self.write(insert, user)
            # After the commit only: a transaction that was rolled back changed no count.
            self._usage = usage
            self._last += len(rows)
        self.on_change()
        return [int(row[0]) for row in rows]

    def waiting(self, limit: int = 100, after: int = 0) -> list[Event]:
        """Return events whose mail is still to be sent, oldest first; not those that wait for the daily summary."""
        # In pieces by number: 100,000 waiting events do not fit into the memory of the hook.
        return self.select(f"{self._queued} AND number > ? ORDER BY number LIMIT ?", (after, limit))

    def waiting_count(self) -> int:
        """Return the number of events whose mail is still to be sent."""
        return int(self.read(f"SELECT count(*) FROM event WHERE {self._queued}", ())[0][0])

    def newest_waiting(self) -> int:
        """Return the highest number whose mail is still to be sent, 0 for none."""
        return int(self.read(f"SELECT coalesce(max(number), 0) FROM event WHERE {self._queued}", ())[0][0])

    def event(self, number: int) -> Event | None:
        """Return one event, None if the limit removed it."""
        return self.events([number]).get(number)

    def events(self, numbers: Iterable[int]) -> dict[int, Event]:
        """Return these events by their numbers, without those that the limit removed."""
        return {each.number: each for each in self.select(f"number IN ({LISTED})", (json.dumps(list(numbers)),))}

    def find(
        self, query: Query, names: str, notices: Sequence[int] = (), bars: Bars | None = None
    ) -> Generator[None, None, tuple[int, Iterable[int]]]:
        """Return the count of all events that match, and the numbers of the page in order; count them in `bars`.

        Yields between two short queries. `names`: the codes in the order of their names, between commas. `notices`: the
        events of server changes with notices that are still to be sent. The numbers are read in part while they are
        taken: an event whose state changes meanwhile may be out of order, and one that the limit removes is left out.
        """
        matched = 0
        pieces: list[Iterable[Any]] = []
        given = query.values(names, notices)
        for first, last in self._pieces():
            values = {**given, "first": first, "last": last}
            found = self.read(f"SELECT {SPAN if bars else 'count(*)'} FROM event WHERE {query.where}", values)[0]
            matched += int(found[0])
            if bars and found[0]:
                bars.add(found, self._counting(query, values))
            chosen = f"FROM event WHERE {query.where} {query.order} LIMIT :maximum"
            if query.sort == "number":
                pieces.append(self.numbers(f"SELECT number {chosen}", values))
            else:
                rows = self.read(f"SELECT {SORTS[query.sort]}, number {chosen}", values)
                numbers = array("q", (number for _, number in rows))  # 8 bytes an event
                pieces.append(self._with_keys(rows[:KEYS], numbers[KEYS:], SORTS[query.sort], given))
            yield
        if bars:
            listed = f"number IN (SELECT value FROM json_each(:numbers)) AND {query.conditions}"
            for some in self._perhaps_lost():
                lost = f"SELECT time FROM event WHERE {listed} AND {STATE} IN {LOST}"
                bars.add_lost(row[0] for row in self.read(lost, {**given, "numbers": some}))
                yield
        # Each piece is sorted by SQLite already.
        merged = heapq.merge(*pieces, reverse=query.descending)
        skipped = min(query.offset, matched)  # a request may name any offset
        for place in range(0, skipped, KEYS):
            deque(itertools.islice(merged, min(KEYS, skipped - place)), maxlen=0)
            yield
        page = itertools.islice(merged, query.limit or None)
        return matched, (each if isinstance(each, int) else each[1] for each in page)

    def _counting(self, query: Query, values: Mapping[str, object]) -> Callable[[float, float], Any]:
        """Return a function of two moments that returns a piece's events and faults from the one up to the other."""
        within = f"SELECT {COUNTS} FROM event WHERE time >= :from AND time < :until AND {query.where}"
        return lambda begin, until: self.read(within, {**values, "from": begin, "until": until})[0]

    def _perhaps_lost(self) -> Iterator[str]:
        """Return the numbers of events whose mail may not have reached everybody, `PIECE` at a time, each as a JSON list."""
        after = 0
        while mails := self.numbers(FAILED_MAILS, (after, PIECE)):
            after = mails[-1]
            yield from _lists(self.numbers(OF_FAILED_MAILS, (json.dumps(mails.tolist()),)))
        yield from _lists(self.numbers(ACTED_ON, ()))

    def _with_keys(
        self, rows: Sequence[tuple[Any, int]], numbers: Sequence[int], key: str, given: Mapping[str, object]
    ) -> Iterator[tuple[Any, int]]:
        """Yield `rows`, which have their sort keys, and the numbers after them, whose keys are read `KEYS` at a time."""
        yield from rows
        for place in range(0, len(numbers), KEYS):
            some = numbers[place : place + KEYS]
            listed = "number IN (SELECT value FROM json_each(:numbers))"
            found = self.read(
                f"SELECT number, {key} FROM event WHERE {listed}", {**given, "numbers": json.dumps(list(some))}
            )
            keys = dict(found)
            yield from ((keys[number], number) for number in some if number in keys)

    def _pieces(self) -> Iterable[tuple[int, int]]:
        """Return the first and last number of each piece; the limit may have removed some in between."""
        # By number and not by OFFSET alone, which reads all rows before it again.
        after, last = 0, self.last
        while after < last:
            found = self.numbers(
                "SELECT number FROM event WHERE number > ? ORDER BY number LIMIT 1 OFFSET ?", (after, PIECE - 1)
            )
            until = found[0] if found else last
            yield after + 1, until
            after = until

    def actions(self, numbers: Iterable[int]) -> dict[int, list[Event]]:
        """Return the actions on these events by the events' numbers, oldest first."""
        found: dict[int, list[Event]] = {}
        chosen = f"about AND about IN ({LISTED}) ORDER BY number"
        for each in self.select(chosen, (json.dumps(list(numbers)),)):
            found.setdefault(each.about, []).append(each)
        return found

    def ended(self, number: int, recipients: Collection[str]) -> set[str]:
        """Return those that a mail to `recipients` is not sent to any more.

        They have a result; and where an event is sent again, they got it before, unless each of the `recipients` did.
        """
        ended = {each.recipient for each in self.deliveries(number)}
        found = self.read("SELECT about FROM event WHERE number = ? AND about", (number,))
        served = self._served(int(found[0][0]), number) if found else set()
        return ended if served.issuperset(recipients) else ended | served

    def _served(self, event: int, until: int) -> set[str]:
        """Return the recipients that mails of an event before `until` reached.

        From the database and not from memory: it must be the same after a restart. An event is sent again only when each of
        its earlier mails is done, so the results that count do not change any more.
        """
        rows = self.read(
            "SELECT DISTINCT recipient FROM delivery WHERE verdict = 'delivered' AND number IN "
            "(SELECT iif(mail, mail, number) FROM event WHERE number = ?1 UNION ALL "
            "SELECT number FROM event WHERE about AND about = ?1 AND number < ?2)",
            (event, until),
        )
        return {recipient for (recipient,) in rows}

    def assign_to_mail(self, numbers: Sequence[int]) -> int:
        """Commit that these events are one mail. Return its number, that of the first event left; 0 if none is left."""
        # Only those that are still unassigned: the limit may have removed one since the decision, or it was mailed alone.
        chosen = f"{QUEUED} AND mail = 0 AND number IN ({LISTED})"
        values = (json.dumps(numbers),)

        def mark(cursor: sqlite3.Cursor) -> int:
            found = cursor.execute(f"SELECT coalesce(min(number), 0) FROM event WHERE {chosen}", values)
            # The first event left is the mail's number, and so its Message-ID; it never changes afterwards.
            first = int(found.fetchone()[0])
            cursor.execute(f"UPDATE event SET mail = {first} WHERE {chosen}", values)
            return first

        return self.write(mark, MAIL)

    def summary_count(self) -> int:
        """Return the number of events that wait for the daily summary."""
        return int(self.read(f"SELECT count(*) FROM event WHERE {IN_SUMMARY}", ())[0][0]) if self.has_summary else 0

    def summaries(self) -> list[int]:
        """Return the numbers of the newest mails that are daily summaries."""
        try:
            found = json.loads(self.metadata().get(SUMMARY, "{}")).get("mails", [])
        except (ValueError, AttributeError):  # damaged: they are digests as any other
            return []
        return found if isinstance(found, list) else []

    def is_summary_due(self, until: float, now: float) -> bool:
        """Return whether an event waits for the daily summary that was accepted up to a moment, or by a clock that was
        ahead of `now`."""
        query = f"SELECT 1 FROM event WHERE {IN_SUMMARY} AND (accepted <= ?1 OR accepted > ?2) LIMIT 1"
        return self.has_summary and bool(self.read(query, (until, now)))

    def begin_summary(self, metadata: Callable[[Sequence[int]], Metadata]) -> list[int]:
        """Commit that the events in the daily summary are mails now, one for each type. Return their numbers.

        `metadata` returns metadata for the same transaction: after a power cut neither the mails nor their metadata are alone.
        """

        def begin(cursor: sqlite3.Cursor) -> list[int]:
            mails = []
            for kind in TYPES:
                chosen = f"{IN_SUMMARY} AND type = ?1"
                first = cursor.execute(f"SELECT min(number) FROM event WHERE {chosen}", (kind,)).fetchone()[0]
                if first is not None:
                    cursor.execute(f"UPDATE event SET mail = ?2, waiting = 1 WHERE {chosen}", (kind, first))
                    mails.append(int(first))
            write_metadata(cursor, metadata(mails))
            return mails

        with self._lock:
            mails = self.write(begin, MAIL)
            self.has_summary = False
            return mails

    def split_mail(self, number: int, first: int) -> int:
        """Commit that the events of a mail from the number `first` on are a mail of its own. Return its number, 0 for none."""
        chosen = "waiting AND mail = ? AND number >= ? AND number > ?"
        values = (number, first, number)

        def mark(cursor: sqlite3.Cursor) -> int:
            found = cursor.execute(f"SELECT coalesce(min(number), 0) FROM event WHERE {chosen}", values)
            second = int(found.fetchone()[0])
            if second:
                cursor.execute(f"UPDATE event SET mail = {second} WHERE {chosen}", values)
            return second

        return self.write(mark, MAIL)

    def digest(self, number: int, maximum: int) -> Digest | None:
        """Return the content of a mail, with its `maximum` oldest events; None if the limit removed all of its events."""
        events = self.select(f"{OF_MAIL} ORDER BY number LIMIT ?2", (number, maximum))
        if not events:
            return None
        # The usual mail; it saves two queries.
        if len(events) == 1 < maximum:
            only = events[0]
            count, only_range = CodeCount(only.code, 1, only.time, only.time), (only.number, only.number)
            return Digest(number, only.type, [count], [only_range], events)
        # In SQL: a digest of a storm has thousands of events, of which `maximum` are read.
        codes = self.read(
            "SELECT code, count(*), coalesce(min(nullif(time, 0)), 0), max(time) FROM event "
            f"WHERE {OF_MAIL} GROUP BY code ORDER BY code",
            (number,),
        )
        numbers = self.numbers(f"SELECT number FROM event WHERE {OF_MAIL} ORDER BY number", (number,))
        return Digest(number, events[0].type, [CodeCount(*row) for row in codes], _ranges(numbers), events)

    def pending(self) -> dict[int, str]:
        """Return the events that have no date yet: by number, the pending moment of each (see `clock`)."""
        return dict(self.read(f"SELECT number, clock FROM event WHERE {PENDING} ORDER BY number", ()))

    def date(self, dated: Mapping[int, tuple[float, str]]) -> None:
        """Commit the dates of events by number: seconds since 1970, and the certainty (see `clock.Stamp`)."""
        rows = [(time, time, clock, number) for number, (time, clock) in dated.items()]
        self.write(
            lambda cursor: cursor.executemany(
                # A time that the client gave stays; the time of acceptance had no date.
                "UPDATE event SET time = CASE WHEN time > 0 THEN time ELSE ? END, accepted = ?, clock = ? WHERE number = ?",
                rows,
            )
        )

    def newest_date(self) -> float:
        """Return when the newest event with a sure date was accepted, seconds since 1970; 0 for none."""
        rows = self.read(
            "SELECT accepted FROM event WHERE clock = '' AND accepted > 0 ORDER BY number DESC LIMIT 1", ()
        )
        return float(rows[0][0]) if rows else 0.0

    def discard_waiting(self, kind: str) -> int:
        """Commit that the waiting events of this type need no mail. Return their count; for 0 nothing is written."""
        query = f"SELECT 1 FROM event WHERE {self._queued} AND type = ? LIMIT 1"
        if not self.read(query, (kind,)):
            return 0

        def end(cursor: sqlite3.Cursor) -> int:
            self._keep_outcome(cursor, f"{QUEUED} AND type = ?", (kind,))
            return cursor.execute(f"UPDATE event SET waiting = 0 WHERE {QUEUED} AND type = ?", (kind,)).rowcount

        count = self.write(end)
        self._outcomes_kept()
        return count

    def expire(self, newest: int, why: Mapping[str, Sequence[Delivery]]) -> int:
        """Commit that every mail whose events are all up to `newest` is dropped. Return the count of these events.

        `why`, by type, has the result for each recipient; an earlier result stays. Events without a digest become one of
        their type, so that a database full of them takes one row for each recipient.
        """

        def drop(cursor: sqlite3.Cursor) -> int:
            lost = []
            for kind, deliveries in why.items():
                # 10,000 events to 20 recipients would be 200,000 rows, 25 MB, in one transaction.
                _gather(cursor, newest, kind)
                for each in deliveries:
                    rows = cursor.execute(
                        # A recipient who got the mail before keeps that result.
                        "INSERT OR IGNORE INTO delivery SELECT DISTINCT CASE mail WHEN 0 THEN number ELSE mail END, "
                        f"?2, ?3, ?4, ?5, ?6 FROM event WHERE type = ?7 AND about = 0 AND {EXPIRED}",
                        (newest, each.recipient, each.verdict, each.step, to_stored(each.reply), each.time, kind),
                    ).rowcount
                    lost += [each] if rows else []
                # One by one: who got the event before is no recipient of a mail that sends it again.
                for (number,) in cursor.execute(
                    f"SELECT number FROM event WHERE type = ?2 AND about AND {EXPIRED}", (newest, kind)
                ).fetchall():
                    ended = self.ended(number, [each.recipient for each in deliveries])
                    open_results = [each for each in deliveries if each.recipient not in ended]
                    _insert(cursor, number, open_results)
                    lost += open_results
            _keep_loss(cursor, lost)
            self._keep_outcome(cursor, EXPIRED, (newest,))
            return cursor.execute(f"UPDATE event SET waiting = 0 WHERE {EXPIRED}", (newest,)).rowcount

        count = self.write(drop, MAIL)
        self._outcomes_kept()
        return count

    def mails_since(self, moment: float) -> tuple[int, int]:
        """Return how many mails were delivered to a recipient since a moment (seconds since 1970), and how many failed for good."""
        query = "SELECT count(DISTINCT iif(verdict = 'delivered', number, NULL)), count(DISTINCT iif(verdict <> 'delivered', number, NULL))"
        delivered, lost = self.read(f"{query} FROM delivery WHERE time > ?", (moment,))[0]
        return int(delivered), int(lost)

    def newest_sent(self) -> float:
        """Return when the newest mail was delivered, seconds since 1970; 0 for none."""
        rows = self.read("SELECT coalesce(max(time), 0) FROM delivery WHERE verdict = 'delivered'", ())
        return float(rows[0][0])

    def newest_delivered(self) -> float:
        """Return when the mail with the highest number that was delivered was, seconds since 1970; 0 for none.

        By its number and so by the primary key: unlike `newest_sent` it reads a row or a few, not all of them.
        """
        query = "SELECT time FROM delivery WHERE verdict = 'delivered' ORDER BY number DESC LIMIT 1"
        rows = self.read(query, ())
        return float(rows[0][0]) if rows else 0.0

    def sent_since(self, moment: float, code: str = "") -> list[tuple[float, str]]:
        """Return the mails delivered since a moment (seconds since 1970), of one code or all: time and type of each.

        What a person sent again has the type of an info, as in the budget of mails (`delivery.batching`).
        """
        return [
            (time, kind)
            for time, kind in self.read(
                "SELECT min(delivery.time), iif(about, 'info', event.type) FROM delivery JOIN event USING (number) "
                "WHERE delivery.time > ? AND verdict = 'delivered' AND ? IN ('', event.code) GROUP BY number ORDER BY 1",
                (moment, code),
            )
        ]

    def last_delivered(self) -> int:
        """Return the number of the mail that a server took last, 0 for none among the newest results."""
        rows = self.read(
            f"SELECT number FROM {NEWEST} WHERE verdict = 'delivered' ORDER BY time DESC, number DESC LIMIT 1",
            (),
        )
        return int(rows[0][0]) if rows else 0

    def last_results(self) -> dict[int, list[Delivery]]:
        """Return for each recipient among the newest results the last one, by the number of its mail."""
        # With max(), SQLite takes the other columns from the row of the maximum (SQLite, SELECT, "bare columns").
        query = f"SELECT max(number), {DELIVERY_COLUMNS} FROM {NEWEST} GROUP BY recipient ORDER BY recipient"
        found: dict[int, list[Delivery]] = {}
        for number, name, verdict, step, reply, time in self.read(query, ()):
            found.setdefault(number, []).append(Delivery(name, verdict, step, from_stored(reply), time))
        return found

    def deliveries(self, number: int) -> list[Delivery]:
        """Return the results of one mail, sorted by recipient."""
        return self.deliveries_of([number]).get(number, [])

    def deliveries_of(self, mails: Iterable[int]) -> dict[int, list[Delivery]]:
        """Return the results of mails by their numbers, each sorted by recipient; mails without a result are left out."""
        query = f"SELECT number, {DELIVERY_COLUMNS} FROM delivery WHERE number IN ({LISTED}) ORDER BY number, recipient"
        found: dict[int, list[Delivery]] = {}
        for number, name, verdict, step, reply, time in self.read(query, (json.dumps(list(mails)),)):
            # No reply of a mail server looks like a stored message: it begins with a digit (RFC 5321, section 4.2).
            found.setdefault(number, []).append(Delivery(name, verdict, step, from_stored(reply), time))
        return found

    def record(
        self,
        number: int,
        deliveries: Sequence[Delivery],
        *,
        done: bool,
        reported: int = 0,
        metadata: Metadata | None = None,
        is_event: bool = True,
    ) -> None:
        """Commit the results of a mail.

        `done`: no recipient is left. `reported`: the count of events removed unmailed that the mail reports. `metadata`
        is written in the same transaction; a loss of an event is written as `LOSS`.
        """

        # One transaction: after a power cut between result and `waiting` the mail would go out again to everyone.
        def keep(cursor: sqlite3.Cursor) -> None:
            _insert(cursor, number, deliveries)
            if done:
                self._keep_outcome(cursor, OF_MAIL, (number,))
                cursor.execute(f"UPDATE event SET waiting = 0 WHERE {OF_MAIL}", (number,))
            if reported:
                retention.count(cursor, retention.UNTOLD, -reported)
            # A loss is over when a mail reached all its recipients: not some of them, and not the next one of a mail that is lost
            # for another.
            is_over = done and not cursor.execute(LOST_OF_MAIL, (number,)).fetchone()
            if is_event and (_lost(deliveries) or is_over):
                _keep_loss(cursor, deliveries)
            write_metadata(cursor, metadata or {})

        self.write(keep, MAIL)
        if done:
            self._outcomes_kept()

    def removed(self) -> dict[str, int]:
        """Return the counts of events that the limit removed, by the names of `retention.REMOVED` and `retention.UNTOLD`."""
        metadata = self.metadata()
        return {name: to_number(metadata.get(name, "0")) for name in (*dict(retention.REMOVED), retention.UNTOLD)}

    def select(self, where: str, values: Sequence[object]) -> list[Event]:
        """Return events by a condition that is written in the program; a person's input belongs into `values`."""
        return [
            Event(
                code,
                kind,
                time,
                accepted,
                source,
                text,
                bool(waiting),
                number,
                mail,
                clock,
                user,
                about,
                waiting == WAITS_FOR_SUMMARY,
            )
            for number, code, kind, time, accepted, source, text, waiting, mail, clock, user, about in self.read(
                f"SELECT {COLUMNS} FROM event WHERE {where}",
                values,
            )
        ]


def _insert(cursor: sqlite3.Cursor, number: int, deliveries: Sequence[Delivery]) -> None:
    """Write results of a mail; a new result of a recipient replaces the earlier one."""
    cursor.executemany(
        "INSERT OR REPLACE INTO delivery VALUES (?, ?, ?, ?, ?, ?)",
        [(number, each.recipient, each.verdict, each.step, to_stored(each.reply), each.time) for each in deliveries],
    )


def _lists(numbers: array[int]) -> Iterator[str]:
    """Return the numbers as JSON lists of `PIECE` at most."""
    return (json.dumps(numbers[start : start + PIECE].tolist()) for start in range(0, len(numbers), PIECE))


def _lower(text: str) -> str:
    """Return a text as SQLite's lower() does: A to Z alone. A surrogate, which no stored text has, is a question mark."""
    return text.encode("utf-8", "replace").lower().decode()


def _lost(deliveries: Sequence[Delivery]) -> Delivery | None:
    return next((each for each in deliveries if each.verdict != "delivered"), None)


def _keep_loss(cursor: sqlite3.Cursor, deliveries: Sequence[Delivery]) -> None:
    """Store the last failure; clear it after deliveries without one. Writes only a change."""
    if not deliveries:
        return
    lost = _lost(deliveries)
    loss = json.dumps([lost.verdict, lost.step, lost.reply], default=to_json) if lost else None
    stored = cursor.execute("SELECT value FROM fact WHERE name = ?", (LOSS,)).fetchone()
    # A device whose mail is delivered writes nothing here.
    if loss != (stored[0] if stored else None):
        write_metadata(cursor, {LOSS: loss})


def _gather(cursor: sqlite3.Cursor, newest: int, kind: str) -> None:
    """Make one mail of the expired events of this type that are in no digest."""
    found = cursor.execute(f"SELECT min(number) FROM event WHERE {EXPIRED_ALONE} AND type = ?2", (newest, kind))
    first = found.fetchone()[0]
    if first is not None:
        cursor.execute(f"UPDATE event SET mail = ?3 WHERE {EXPIRED_ALONE} AND type = ?2", (newest, kind, first))


def _row(number: int, event: Event, alone: bool) -> tuple[int | float | str, ...]:
    mail = number if alone and event.waiting and not event.in_summary else 0
    times = (event.time, event.accepted)
    texts, waiting = (event.source, event.text), int(event.waiting and 1 + event.in_summary)
    return (number, event.code, event.type, *times, *texts, waiting, mail, event.clock, event.user, event.about)


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return consecutive numbers as ranges, first and last of each."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges
