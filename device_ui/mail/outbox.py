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
LEDGER_ID = "ledger_id"


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
        """Open the ledger and make it when there is none; one that SQLite cannot read is set aside and kept."""
        self.path = path
        self.set_aside: Path | None = None
        self._lock = threading.Lock()
        with self._told():
            try:
                self._open()
            except sqlite3.OperationalError:
                raise  # the disk's fault or another process's, not the file's
            except sqlite3.DatabaseError:
                self._begin_anew()
            self.id = self._ledger_id()

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
        return [Event(*row[:-1], number=row[-1]) for row in self._read(query, (after, limit))]

    def waiting_count(self) -> int:
        """How many events still wait for their mail."""
        return int(self._read("SELECT count(*) FROM event WHERE waiting", ())[0][0])

    def deliveries(self, number: int) -> list[Delivery]:
        """What became of this event's mail, by recipient."""
        query = "SELECT recipient, verdict, step, reply, time FROM delivery WHERE number = ? ORDER BY recipient"
        return [Delivery(*row) for row in self._read(query, (number,))]

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
        execute = self._connection.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA cache_size = -512")
        if execute("PRAGMA user_version").fetchone()[0] == 0:
            self._create()
        # The ledger's name must be on flash before the first event is called accepted; after a crash of this
        # process it may be in the cache only, so this is not left to the start that made the file.
        self._fsync_folder()
        execute("SELECT count(*) FROM event WHERE waiting").fetchone()

    def _create(self) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        for statement in SCHEMA.split(";\n"):
            execute(statement)
        execute("INSERT INTO fact VALUES (?, ?)", (LEDGER_ID, secrets.token_hex(8)))
        execute(f"PRAGMA user_version = {VERSION}")
        execute("COMMIT")

    def _begin_anew(self) -> None:
        self._connection.close()
        self.set_aside = flash.set_aside(self.path)
        for ending in ("-wal", "-shm"):  # they belong to the file that was set aside
            with contextlib.suppress(FileNotFoundError):
                beside = self.path.with_name(self.path.name + ending)
                beside.rename(self.set_aside.with_name(self.set_aside.name + ending))
        self._open()

    def _fsync_folder(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _ledger_id(self) -> str:
        return self.facts()[LEDGER_ID]

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
        except sqlite3.Error as error:
            raise NotStored(self.path, OSError(None, str(error))) from error
        except OSError as error:
            raise NotStored(self.path, error) from error
