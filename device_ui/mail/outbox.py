"""The ledger: every event that was accepted, and per recipient what became of its mail. SQLite does the durable part.

``accept`` returns only when the events are committed with ``synchronous=FULL``: on flash. One process owns the file,
with one connection that its threads share, so the lock is exclusive and no shared-memory file is needed. A mail that
is tried again writes nothing: only what became of it is written.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_ui.errors import NotStored
from device_ui.settings import flash

VERSION = 1
# Versions up to here are taken for a newer device-ui's; a higher number, or a negative one, can only be damage.
VERSION_MAXIMUM = 1000
# An event is one row in one table, so that accepting it touches as few blocks of flash as can be. `waiting` is a
# partial index: it holds the few rows that are still to be mailed, however long the history grows.
SCHEMA = """
CREATE TABLE event (
    number INTEGER PRIMARY KEY,
    code TEXT NOT NULL,
    type TEXT NOT NULL,
    time REAL NOT NULL,
    accepted REAL NOT NULL,
    source TEXT NOT NULL,
    text TEXT NOT NULL,
    waiting INTEGER NOT NULL
) STRICT;
CREATE INDEX waiting ON event (number) WHERE waiting;
CREATE TABLE delivery (
    number INTEGER NOT NULL,
    recipient TEXT NOT NULL,
    verdict TEXT NOT NULL,
    step TEXT NOT NULL,
    reply TEXT NOT NULL,
    time REAL NOT NULL,
    PRIMARY KEY (number, recipient)
) STRICT, WITHOUT ROWID;
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""
STATEMENTS = [statement.strip() for statement in SCHEMA.split(";\n") if statement.strip()]
LEDGER_ID = "ledger_id"
# What SQLite says when the file itself is wrong. SQLITE_ERROR: a schema that is not ours; SQLITE_READONLY: a header that
# forbids writing, since the file was opened for it. All its other codes speak of the disk or of another process, and
# a sound ledger must never be set aside for those.
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_READONLY)


@dataclass(frozen=True)
class Event:
    """One event. Times are seconds since 1970; `time` is when it happened, `accepted` when we took it.

    `number` is 0 until the ledger has given one. `waiting` tells whether mail is still to be sent for it.
    """

    code: str
    type: str
    time: float
    accepted: float
    source: str = ""
    text: str = ""
    waiting: bool = True
    number: int = 0


@dataclass(frozen=True)
class Delivery:
    """What became of one event's mail for one recipient: the last `verdict`, its `step` and the server's `reply`."""

    recipient: str
    verdict: str
    step: str
    reply: str
    time: float


class Outbox:
    """The ledger of one device. Every method may be called from any thread. Errors of the disk are `NotStored`."""

    def __init__(self, path: Path) -> None:
        """Open the ledger and make it when there is none; one that SQLite cannot read is set aside and kept.

        `set_aside` is where it is kept then. A ledger of a newer version is left as it is: `NotStored`.
        """
        self.path = path
        self.set_aside: Path | None = None
        self._lock = threading.Lock()
        with self._told():
            self._open()
            try:
                self._prepare()
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                # Closed after the renaming: before it, SQLite would put the -wal into the damaged file and remove it.
                with contextlib.closing(self._connection):
                    if not _is_damage(error):
                        raise
                    self._move_aside()
                self._open()
                self._prepare()
            self.id = self.facts()[LEDGER_ID]

    def close(self) -> None:
        """Close the file. Nothing is pending: every change was committed when it was made."""
        with self._lock:
            self._connection.close()

    def accept(self, events: Sequence[Event]) -> list[int]:
        """Commit events that arrived together in one transaction; their numbers, in order, without a gap."""
        with self._transaction() as cursor:
            return [self._insert(cursor, event) for event in events]

    def waiting(self, limit: int = 100, after: int = 0) -> list[Event]:
        """Events whose mail is still to be sent, oldest first."""
        columns = "code, type, time, accepted, source, text, number"
        query = f"SELECT {columns} FROM event WHERE waiting AND number > ? ORDER BY number LIMIT ?"  # noqa: S608
        return [
            Event(code, kind, time, accepted, source, text, waiting=True, number=number)
            for code, kind, time, accepted, source, text, number in self._read(query, (after, limit))
        ]

    def waiting_count(self) -> int:
        """How many events still wait for their mail."""
        return int(self._read("SELECT count(*) FROM event WHERE waiting", ())[0][0])

    def newest_waiting(self) -> int:
        """The highest number that still waits for its mail, 0 when none does."""
        return int(self._read("SELECT coalesce(max(number), 0) FROM event WHERE waiting", ())[0][0])

    def deliveries(self, number: int) -> list[Delivery]:
        """What became of this event's mail, by recipient."""
        query = "SELECT recipient, verdict, step, reply, time FROM delivery WHERE number = ? ORDER BY recipient"
        return [Delivery(*row) for row in self._read(query, (number,))]

    def last_delivery(self) -> Delivery | None:
        """The newest verdict; of several recipients of one mail, one that did not get it."""
        query = (
            "SELECT recipient, verdict, step, reply, time FROM delivery "
            "ORDER BY time DESC, number DESC, verdict = 'delivered' LIMIT 1"
        )
        return next((Delivery(*row) for row in self._read(query, ())), None)

    def record(self, number: int, deliveries: Sequence[Delivery], *, done: bool) -> None:
        """Commit what became of an event's mail; `done` when nobody is left to send it to."""
        with self._transaction() as cursor:
            cursor.executemany(
                "INSERT OR REPLACE INTO delivery VALUES (?, ?, ?, ?, ?, ?)",
                [(number, each.recipient, each.verdict, each.step, each.reply, each.time) for each in deliveries],
            )
            if done:
                cursor.execute("UPDATE event SET waiting = 0 WHERE number = ?", (number,))

    def facts(self) -> Mapping[str, str]:
        """Small facts that must survive a restart, by name."""
        return dict(self._read("SELECT name, value FROM fact", ()))

    def keep_fact(self, name: str, value: str | None) -> None:
        """Commit a fact; None forgets it. Nothing is written when it stands so already."""
        if self.facts().get(name) == value:
            return
        with self._transaction() as cursor:
            if value is None:
                cursor.execute("DELETE FROM fact WHERE name = ?", (name,))
            else:
                cursor.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))

    def _open(self) -> None:
        # The file is the hook's alone from its first byte on: SQLite would take the umask's word.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=1)
        # One flipped bit in a text must not hide every event that waits with it.
        self._connection.text_factory = lambda raw: raw.decode("utf-8", "replace")

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        version = execute("PRAGMA user_version").fetchone()[0]
        if VERSION < version <= VERSION_MAXIMUM:
            raise sqlite3.NotSupportedError(f"it was written by a newer version of device-ui (ledger {version})")
        if version not in (0, VERSION):
            raise _damage(f"there is no version {version}")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA cache_size = -512")
        if version == 0:
            self._create()
        # The ledger's name must be on flash before the first event is called accepted; after a crash of this
        # process it may be in the cache only, so this is not left to the start that made the file.
        self._fsync_folder()
        self._check()

    def _check(self) -> None:
        # Damage in the middle of the file is found now, not when an alarm is to be accepted.
        execute = self._connection.execute
        found = execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise _damage(f"the check found: {found}")
        schema = [row[0] for row in execute("SELECT sql FROM sqlite_schema WHERE sql NOT NULL ORDER BY rowid")]
        if schema != STATEMENTS or not execute("SELECT 1 FROM fact WHERE name = ?", (LEDGER_ID,)).fetchone():
            raise _damage("its tables are not ours")
        # Whether it can be written to; nothing is.
        execute("UPDATE fact SET value = value WHERE 0")

    def _create(self) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        for statement in STATEMENTS:
            execute(statement)
        execute("INSERT INTO fact VALUES (?, ?)", (LEDGER_ID, secrets.token_hex(8)))
        execute(f"PRAGMA user_version = {VERSION}")
        execute("COMMIT")

    def _move_aside(self) -> None:
        self.set_aside = flash.set_aside(self.path)
        for ending in ("-wal", "-shm", "-journal"):  # they belong to the file that was set aside
            with contextlib.suppress(FileNotFoundError):
                beside = self.path.with_name(self.path.name + ending)
                beside.rename(self.set_aside.with_name(self.set_aside.name + ending))

    def _fsync_folder(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _insert(self, cursor: sqlite3.Cursor, event: Event) -> int:
        values = (event.code, event.type, event.time, event.accepted, event.source, event.text, int(event.waiting))
        cursor.execute("INSERT INTO event VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", values)
        return int(cursor.lastrowid or 0)

    def _read(self, query: str, values: Sequence[object]) -> list[Any]:
        with self._lock, self._told():
            return self._connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        with self._lock, self._told():
            cursor = self._connection.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                # A full disk may have rolled it back already; what is left of it must not stay open.
                if self._connection.in_transaction:
                    cursor.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise NotStored(self.path, OSError(str(error))) from error
        except OSError as error:
            raise NotStored(self.path, error) from error


def _damage(reason: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(reason)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _is_damage(error: Exception) -> bool:
    # A message that is no UTF-8 quotes a schema that is no longer ours.
    return isinstance(error, UnicodeDecodeError) or getattr(error, "sqlite_errorcode", None) in DAMAGE
