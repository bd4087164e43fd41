"""The SQLite file of the outbox, opened, checked and written durably.

One process owns the file, with one connection that its threads share, so the lock is exclusive and no shared-memory
file is needed. Every change is one transaction with ``synchronous=FULL``: when it returns, it is on flash. On a full
disk the reserve is released part by part, so that events are still accepted.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from device_ui.errors import ErrorConversion, NotReadable, NotStored
from device_ui.mail import events
from device_ui.mail.events import DEVICE
from device_ui.mail.outbox import retention
from device_ui.mail.outbox.disk_reserve import Reserve
from device_ui.storage import files

VERSION = 5
# The highest version that a newer device-ui may have written; a higher number, or a negative one, is damage.
VERSION_MAXIMUM = 1000
# The condition for an event that has no date yet. A range and no LIKE, so that the index serves it.
PENDING = f"clock >= '{events.PENDING}' AND clock < '{chr(ord(events.PENDING) + 1)}'"
# Of the events that wait, those that are to be mailed now, and those that wait for the daily summary: `waiting` is 1 or
# 2. `waiting` stands alone, too, as in the index: SQLite uses a partial index only for a query with the very condition
# of it.
QUEUED, IN_SUMMARY = "waiting AND waiting = 1", "waiting AND waiting = 2"
# An event is one row in one table, so that accepting it touches few blocks of flash. The partial indexes hold the events
# that are still to be mailed, those in a digest but its first, and those without a date. `mail` is the mail that contains an
# event, 0 while that is not decided; `clock` is the certainty of its date (see `events`). `uid` is the user who raised it,
# -1 for the device itself. A row with an `about` is no event but a person's action on the event of that number (see
# `events.Action`): a row in the same table has a number, a mail, retries, results and a place in the limit by the same code.
# These two are spelled as ALTER TABLE spells them, so that an older database becomes this one without a second copy on a small
# disk. A row of "outcome" is an event whose mail ended since the maker's program got its last outcome (`Outbox.outcomes`); on most
# devices there is none. The index "failed" has the few results that are no delivery, so that the pages count them
# without reading all others.
SCHEMA = f"""
CREATE TABLE event (
    number INTEGER PRIMARY KEY,
    code TEXT NOT NULL,
    type TEXT NOT NULL,
    time REAL NOT NULL,
    accepted REAL NOT NULL,
    source TEXT NOT NULL,
    text TEXT NOT NULL,
    waiting INTEGER NOT NULL,
    mail INTEGER NOT NULL,
    clock TEXT NOT NULL
, uid INTEGER NOT NULL DEFAULT -1, about INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE INDEX waiting ON event (number) WHERE waiting;
CREATE INDEX digest ON event (mail) WHERE mail <> number AND mail <> 0;
CREATE INDEX pending ON event (number) WHERE {PENDING};
CREATE INDEX about ON event (about) WHERE about;
CREATE TABLE delivery (
    number INTEGER NOT NULL,
    recipient TEXT NOT NULL,
    verdict TEXT NOT NULL,
    step TEXT NOT NULL,
    reply TEXT NOT NULL,
    time REAL NOT NULL,
    PRIMARY KEY (number, recipient)
) STRICT, WITHOUT ROWID;
CREATE INDEX failed ON delivery (number) WHERE verdict <> 'delivered';
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE outcome (number INTEGER PRIMARY KEY, changes INTEGER NOT NULL) STRICT;
"""
STATEMENTS = [statement.strip() for statement in SCHEMA.split(";\n") if statement.strip()]
OLD_COLUMNS = "number, code, type, time, accepted, source, text, waiting"
FAILED = next(each for each in STATEMENTS if each.startswith("CREATE INDEX failed"))
OUTCOME = next(each for each in STATEMENTS if each.startswith("CREATE TABLE outcome"))
ACTIONS = (
    "ALTER TABLE event ADD COLUMN about INTEGER NOT NULL DEFAULT 0",
    next(each for each in STATEMENTS if each.startswith("CREATE INDEX about")),
    FAILED,
    OUTCOME,
)
# By the version of an older database, the statements that migrate it: version 1 had no digests and no clock, version 2 no users,
# version 3 no actions, version 4 no outcomes.
MIGRATIONS = {
    1: (
        "ALTER TABLE event RENAME TO event_1",
        "DROP INDEX waiting",
        *(each for each in STATEMENTS if "event" in each.partition("(")[0]),
        f"INSERT INTO event SELECT {OLD_COLUMNS}, 0, '', -1, 0 FROM event_1",
        "DROP TABLE event_1",
        FAILED,
        OUTCOME,
    ),
    2: ("ALTER TABLE event ADD COLUMN uid INTEGER NOT NULL DEFAULT -1", *ACTIONS),
    3: ACTIONS,
    4: (OUTCOME,),
}
# The files that SQLite keeps beside its own.
ENDINGS = ("-wal", "-shm", "-journal")
# Metadata: the name of this database, and the parts of the reserve that each user has used.
LEDGER_ID, GIVEN, NOTHING_GIVEN = "ledger_id", "reserve", "{}"
FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)
# Pages of the -wal after which SQLite copies them into the file and reuses it. Few on a full disk: a released part of the reserve
# then holds new events, ten thousand in all, and not copies of the same pages (a hundred events).
WAL_PAGES, WAL_PAGES_WHEN_FULL = 1000, 32
# The error codes for a damaged file. SQLITE_ERROR: a different schema. SQLITE_READONLY is not among them: `_forbids_writing` reads
# whether the file's header or the disk is the cause. Every other code is about the disk or a second process, for which a sound
# database must never be set aside.
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
# The end of the name of a file beside the database, which records that a database was made here. Without it an emptied
# database would pass for a new one: SQLite makes a database of an empty file, and removes the -wal beside it. A file of
# one byte counts as empty.
MADE, EMPTIED_BYTES = ".made", 1
MADE_TEXT = (
    b"device-ui: a ledger was made here. If it is empty or gone at a start, it was lost, and the loss is reported.\n"
)
# The SQLite file format, 1.3: the write version, and the highest value that allows writing.
WRITE_VERSION, WRITE_VERSION_MAXIMUM = 18, 2

Result = TypeVar("Result")
Values = Sequence[object] | Mapping[str, object]
Metadata = Mapping[str, str | None]


class Database:
    """The database of one device. Any thread may call; every method raises `NotStored`."""

    def __init__(
        self,
        path: Path,
        *,
        rows_maximum: int = retention.ROWS_MAXIMUM,
        bytes_maximum: int = retention.BYTES_MAXIMUM,
        reserve: Reserve | None = None,
    ) -> None:
        """Open the database; make a new one if there is none. A damaged or emptied one is kept at `set_aside`.

        A database of a newer version is left as it is: `NotStored`.
        """
        self.path = path
        self._made = path.with_name(path.name + MADE)
        self.set_aside: Path | None = None
        # Called after a commit of new events or outcomes, by the thread that committed them.
        self.on_change: Callable[[], None] = lambda: None
        self._rows_maximum, self._bytes_maximum = rows_maximum, bytes_maximum
        self._reserve = reserve or Reserve(path.with_name("reserve"), 0)
        # Re-entrant: `Outbox.accept` holds it over its own counts and the write.
        self._lock = threading.RLock()
        # Damage, a full disk and a permission all arrive as errors of SQLite or of the system; the caller handles one kind.
        with self._conversion():
            self._opened()
        metadata = self.metadata()
        self.id = metadata[LEDGER_ID]
        self._reserve.restore(metadata.get(GIVEN, NOTHING_GIVEN))
        self._keep_reserve()
        self._save_room()

    def _opened(self) -> None:
        self._set_aside_non_files()
        if self._is_emptied():
            self._touch()  # an empty file in the place of a lost database: quarantined, its name reports the loss
            self._move_aside()
        self._open()
        try:
            self._prepare()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if getattr(error, "sqlite_errorcode", None) in FULL and self._reserve.release(DEVICE):
                self._connection.close()
                self._opened()
                return
            # Closed after the rename: before it, SQLite would copy the -wal into the damaged file and remove it.
            with contextlib.closing(self._connection):
                if not (_is_damage(error) or self._forbids_writing(error)):
                    raise
                self._move_aside()
            self._open()
            self._prepare()
        with contextlib.suppress(NotStored):  # on a full disk, too, the database accepts events
            files.replace(self._made, MADE_TEXT, 0o600)  # before the first event is accepted
        # Counted once and kept in memory: count(*) reads a whole index, and the limit is checked with every commit.
        self._rows = int(self._connection.execute("SELECT count(*) FROM event").fetchone()[0])
        self._usage = retention.usage(self._connection)
        # Whether an event may wait for the daily summary. Most devices have none, and then no query looks for one among all events
        # that wait: the index does not have the column.
        self.has_summary = bool(self._connection.execute(f"SELECT 1 FROM event WHERE {IN_SUMMARY} LIMIT 1").fetchall())
        self._last = int(self._connection.execute("SELECT coalesce(max(number), 0) FROM event").fetchone()[0])
        self.has_outcomes = bool(self._connection.execute("SELECT 1 FROM outcome LIMIT 1").fetchall())

    def close(self) -> None:
        """Close the file. Every change is committed already."""
        with self._lock:
            self._connection.close()

    @property
    def is_reserve_used(self) -> bool:
        """Whether the disk was so full that a part of the reserve was released."""
        return self._reserve.is_released

    @property
    def earlier(self) -> list[str]:
        """The names of the databases that were set aside, oldest first, until a person removes them."""
        with contextlib.suppress(NotReadable):
            return [each.name for each in files.quarantined_files(self.path)]
        return []

    @property
    def _queued(self) -> str:
        """The condition for an event that is to be mailed now, as SQL."""
        return QUEUED if self.has_summary else "waiting"

    @property
    def count(self) -> int:
        """The number of stored events, without actions."""
        return self._rows - int(self.read("SELECT count(*) FROM event WHERE about", ())[0][0])

    @property
    def last(self) -> int:
        """The highest event number."""
        return self._last

    def metadata(self) -> Mapping[str, str]:
        """Return the small texts that survive a restart, by name."""
        return dict(self.read("SELECT name, value FROM fact", ()))

    def set_metadata(self, name: str, value: str | None) -> None:
        """Commit one text; None deletes it. Writes only a change."""
        # Flash wears by writes: an unchanged text costs none.
        if self.metadata().get(name) != value:
            self.write(lambda cursor: write_metadata(cursor, {name: value}))

    def tidy(self) -> None:
        """After the reserve was used: make room, and restore the reserve once the disk has room. Never raises."""
        if self.is_reserve_used:
            with contextlib.suppress(sqlite3.Error), self._lock:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._keep_reserve()
            with contextlib.suppress(sqlite3.Error), self._lock:
                self._save_room()

    def read(self, query: str, values: Values) -> list[Any]:
        """Return the rows of a query."""
        with self._lock, self._conversion():
            return self._connection.execute(query, values).fetchall()

    def write(self, work: Callable[[sqlite3.Cursor], Result], user: int | None = None) -> Result:
        """Commit `work`; on a full disk retry, with a part of the reserve that is released for this `user`, if given."""

        def counted(cursor: sqlite3.Cursor) -> Result:
            result = work(cursor)
            if (given := self._reserve.given) != NOTHING_GIVEN:
                write_metadata(cursor, {GIVEN: given})  # in the same transaction: no further sync
            return result

        attempt = work
        with self._lock:
            # Each round releases one part of the reserve. The loop ends when the share or the reserve is used up.
            while True:
                try:
                    return self._committed(attempt)
                except sqlite3.Error as error:
                    # The reserve is for events and their results; metadata alone must not use it up.
                    is_full = getattr(error, "sqlite_errorcode", None) in FULL
                    if not is_full or user is None or not self._reserve.release(user):
                        raise NotStored(self.path, OSError(str(error))) from error
                # The count of used parts is stored with the event, so that a restart gives no new share.
                attempt = counted
                with self._conversion():
                    self._save_room()

    # 100,000 integers of Python in tuples would take some 9 MB.
    def numbers(self, query: str, values: Values) -> array[int]:
        """Return the rows of a query of one whole number each, in eight bytes each."""
        with self._lock, self._conversion():
            return array("q", (row[0] for row in self._connection.execute(query, values)))

    def _is_emptied(self) -> bool:
        """Whether a database was made before and is empty or gone."""
        try:
            return self.path.stat().st_size <= EMPTIED_BYTES and self._made.exists()
        except FileNotFoundError:
            return self._made.exists()

    def _set_aside_non_files(self) -> None:
        """Set aside folders, links and the like in the place of SQLite's files: with them each start would fail."""
        for path in (self.path, *(self.path.with_name(self.path.name + end) for end in ENDINGS)):
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISREG(path.lstat().st_mode):
                    kept = files.quarantine(path)
                    self.set_aside = kept if path == self.path else self.set_aside

    def _touch(self) -> None:
        # Only the hook may read the file, from its first byte on: SQLite would use the umask.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)

    def _open(self) -> None:
        self._touch()
        self._connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=1)
        # One flipped bit in a text must not hide the other events of a query.
        self._connection.text_factory = lambda raw: raw.decode("utf-8", "replace")

    def _prepare(self) -> None:
        execute = self._connection.execute
        has_wal = self._has_wal()
        execute("PRAGMA locking_mode = EXCLUSIVE")
        version = execute("PRAGMA user_version").fetchone()[0]
        # Not set aside: after a downgrade by mistake the newer program must find all its events.
        if VERSION < version <= VERSION_MAXIMUM:
            raise sqlite3.NotSupportedError(f"it was written by a newer version of device-ui (ledger {version})")
        if version not in range(VERSION + 1):
            raise _damage(f"there is no version {version}")
        # A commit appends to one file and syncs once; a rollback journal takes several syncs (SQLite, "Write-Ahead
        # Logging").
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        # KiB; the default is 2 MiB, and the device has 64.
        execute("PRAGMA cache_size = -512")
        # Overwrite deleted content where that costs no further block, such as the sealed password of an earlier server.
        execute("PRAGMA secure_delete = FAST")
        if version == 0:
            self._create()
        if version in MIGRATIONS:
            self._migrate(MIGRATIONS[version])
        # The file's name must be on flash before the first event is accepted. After a crash of the process that made it,
        # it may be in the cache only: so every start does this.
        self._fsync_folder()
        self._check()
        if has_wal:
            self._checkpoint()

    def _has_wal(self) -> bool:
        """Whether a killed process left events that are not in the file itself yet."""
        try:
            return self.path.with_name(self.path.name + "-wal").stat().st_size > 0
        except FileNotFoundError:
            return False

    def _checkpoint(self) -> None:
        # The pages of the -wal may be in the cache only, and stay there after a failed sync. Copying them into the file syncs
        # them before they are used. On a full disk that fails, and is done later.
        with contextlib.suppress(sqlite3.OperationalError):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _check(self) -> None:
        # Find damage in the middle of the file now, not when an event arrives.
        execute = self._connection.execute
        found = execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise _damage(f"the check found: {found}")
        schema = [row[0] for row in execute("SELECT sql FROM sqlite_schema WHERE sql NOT NULL")]
        if (
            # A different schema would fail at some later statement, when an event arrives.
            sorted(schema) != sorted(STATEMENTS)
            or not execute("SELECT 1 FROM fact WHERE name = ?", (LEDGER_ID,)).fetchone()
        ):
            raise _damage("its tables are not ours")
        # Fails for a file that cannot be written; writes nothing.
        execute("UPDATE fact SET value = value WHERE 0")

    def _create(self) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        for statement in STATEMENTS:
            execute(statement)
        # A part of every Message-ID: the same number in a new file must not look like an old mail.
        execute("INSERT INTO fact VALUES (?, ?)", (LEDGER_ID, os.urandom(8).hex()))
        execute(f"PRAGMA user_version = {VERSION}")
        execute("COMMIT")

    def _migrate(self, statements: Sequence[str]) -> None:
        """Migrate an older database with all its events."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        for statement in statements:
            execute(statement)
        # Imported here: a database is migrated once in its life.
        from device_ui.mail.outbox import former

        former.convert(self._connection.cursor())
        execute(f"PRAGMA user_version = {VERSION}")
        execute("COMMIT")

    def _move_aside(self) -> None:
        self.set_aside = files.quarantine(self.path)
        for ending in ENDINGS:  # these belong to the file that was set aside
            with contextlib.suppress(FileNotFoundError):
                beside = self.path.with_name(self.path.name + ending)
                beside.rename(self.set_aside.with_name(self.set_aside.name + ending))

    def _forbids_writing(self, error: Exception) -> bool:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_READONLY:
            return False
        with self.path.open("rb") as file:
            return file.read(WRITE_VERSION + 1)[WRITE_VERSION:] > bytes([WRITE_VERSION_MAXIMUM])

    def _fsync_folder(self) -> None:
        with files.open_folder(self.path.parent) as folder:
            os.fsync(folder)

    def _keep_reserve(self) -> None:
        self._reserve.keep()
        if not self.is_reserve_used:
            with contextlib.suppress(NotStored):  # the next use writes it again
                self.set_metadata(GIVEN, None)

    def _save_room(self) -> None:
        pages = WAL_PAGES_WHEN_FULL if self.is_reserve_used else WAL_PAGES
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {pages}").fetchall()

    def _committed(self, work: Callable[[sqlite3.Cursor], Result]) -> Result:
        cursor = self._connection.cursor()
        # IMMEDIATE: the write lock now; a transaction that read first could fail to get it at its first write.
        cursor.execute("BEGIN IMMEDIATE")
        try:
            result = work(cursor)
            cursor.execute("COMMIT")
        except BaseException:
            # A full disk may have rolled back already; otherwise the transaction must not stay open.
            if self._connection.in_transaction:
                cursor.execute("ROLLBACK")
            raise
        return result

    def _conversion(self) -> ErrorConversion:
        return ErrorConversion((sqlite3.Error, UnicodeDecodeError, OSError), self._not_stored)

    def _not_stored(self, error: Exception) -> NotStored:
        return NotStored(self.path, error if isinstance(error, OSError) else OSError(str(error)))


def write_metadata(cursor: sqlite3.Cursor, metadata: Metadata) -> None:
    """Write texts by name within a transaction under way; None deletes one."""
    cursor.executemany("DELETE FROM fact WHERE name = ?", [(name,) for name in metadata])
    kept = [(name, value) for name, value in metadata.items() if value is not None]
    cursor.executemany("INSERT INTO fact VALUES (?, ?)", kept)


def to_number(text: str) -> int:
    """Return a number of the metadata, 0 where it is damaged: no mail may hang on a count."""
    # At most 18 digits: SQLite's integers have 63 bits.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _damage(reason: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(reason)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _is_damage(error: Exception) -> bool:
    # sqlite3 decodes SQLite's message as UTF-8: one that is not UTF-8 quotes a damaged schema.
    return isinstance(error, UnicodeDecodeError) or getattr(error, "sqlite_errorcode", None) in DAMAGE
