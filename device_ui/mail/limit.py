"""How much the ledger keeps: what is beyond the limit goes, in one order, and is counted.

It goes in the very transaction that went beyond it, so that the limit costs no sync of its own and holds at every instant.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

# What the limit takes first, the oldest of each; the fact that counts it. An alarm nobody was told of goes last.
REMOVED = (
    ("removed_info", "NOT waiting AND type = 'info'"),
    ("removed_fault", "NOT waiting AND type <> 'info'"),
    ("removed_waiting", "waiting AND type = 'info'"),
    ("removed_waiting", "waiting AND type <> 'info'"),
)
# How many of the events that were removed unmailed no mail has told of yet.
UNTOLD = "removed_untold"
ROWS_MAXIMUM, BYTES_MAXIMUM = 100_000, 32 * 1024 * 1024
# One part in so many goes at once when the limit is reached: not a deletion for every event.
REMOVED_PART = 100


def keep(cursor: sqlite3.Cursor, rows: int, fresh: int, newest: int, rows_maximum: int, bytes_maximum: int) -> int:
    """Remove what is beyond the limit of rows and bytes; how many events these were.

    `rows` were there before the `fresh` ones of this transaction; `newest` is the highest number among them.
    """
    too_many = max(rows + fresh - rows_maximum, _beyond(cursor, rows + fresh, bytes_maximum))
    if too_many <= 0:
        return 0
    wanted = left = min(too_many + rows // REMOVED_PART, rows)
    for fact, which in REMOVED:
        left -= _remove(cursor, fact, which, newest, left)
    return wanted - left


def count(cursor: sqlite3.Cursor, fact: str, more: int) -> None:
    """Add to a number among the facts, which never falls below 0."""
    query = (
        "INSERT INTO fact VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = max(0, CAST(value AS INTEGER) + ?2)"
    )
    cursor.execute(query, (fact, str(more)))


def _beyond(cursor: sqlite3.Cursor, rows: int, bytes_maximum: int) -> int:
    """About how many rows the pages beyond the limit hold."""
    pages, free, size = (
        cursor.execute(f"PRAGMA {each}").fetchone()[0] for each in ("page_count", "freelist_count", "page_size")
    )
    used = (pages - free) * size
    return int(rows * (1 - bytes_maximum / used)) + 1 if used > bytes_maximum else 0


def _remove(cursor: sqlite3.Cursor, fact: str, which: str, newest: int, most: int) -> int:
    if most <= 0:
        return 0
    rows: Sequence[tuple[int, int]] = cursor.execute(
        # What is being accepted stays, so that the highest number is never given twice.
        f"SELECT number, mail FROM event WHERE {which} AND number <= ? ORDER BY number LIMIT ?",
        (newest, most),
    ).fetchall()
    unmailed = sum(not _reached_somebody(cursor, mail or number) for number, mail in rows)
    cursor.executemany("DELETE FROM event WHERE number = ?", [(number,) for number, _ in rows])
    cursor.executemany(
        "DELETE FROM delivery WHERE number = ?1 AND NOT EXISTS (SELECT 1 FROM event WHERE number = ?1) AND NOT EXISTS "
        "(SELECT 1 FROM event WHERE mail = ?1 AND mail <> number AND mail <> 0)",
        [(mail or number,) for number, mail in rows],
    )
    if rows:
        count(cursor, fact, len(rows))
    if unmailed and fact == "removed_waiting":
        count(cursor, UNTOLD, unmailed)
    return len(rows)


def _reached_somebody(cursor: sqlite3.Cursor, mail: int) -> bool:
    query = "SELECT 1 FROM delivery WHERE number = ? AND verdict = 'delivered' LIMIT 1"
    return cursor.execute(query, (mail,)).fetchone() is not None
