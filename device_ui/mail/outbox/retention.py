"""The limit of the database: events beyond it are removed, in one order, and counted.

Each user (a uid that the kernel reports, or the device itself) has a share of an eighth. For new events of a user above its
share, old events of the same user are removed; otherwise those of the user with the most. So no user displaces the events of
a user within its share. Events are removed in the transaction that exceeds the limit: that costs no further sync, and the
limit holds at every instant.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from device_ui.mail.catalog import SERVER_CHANGED

# The order of removal, the oldest of each first, with the name of their count. Unmailed events are last. The newest changes
# of the mail server stay: they are evidence against a client that raises many other events.
REMOVED = (
    ("removed_info", f"NOT waiting AND type = 'info' AND (code <> '{SERVER_CHANGED.code}' OR number <= :changes)"),
    ("removed_fault", "NOT waiting AND type <> 'info'"),
    ("removed_waiting", "waiting AND type = 'info'"),
    ("removed_waiting", "waiting AND type <> 'info'"),
)
# The name of the count of events removed unmailed that no mail has reported yet.
UNTOLD = "removed_untold"
ROWS_MAXIMUM, BYTES_MAXIMUM = 100_000, 32 * 1024 * 1024
# The newest changes of the mail server stay: one for each 100 rows of the limit, and one for each 64 KiB, whichever is fewer.
CHANGES_PART, CHANGE_BYTES = 100, 64 * 1024
# When the limit is reached, a hundredth of the rows is removed at once, so that not every event costs a deletion.
REMOVED_PART = 100
# A user's share is an eighth: an appliance has few users that raise events, such as root and the firmware's.
SHARES = 8
# The name of the metadata of the cursor of `delivery.forward_command`: the number of the last event that was handed over.
FORWARDED = "forwarded"
# About the bytes of an event besides its texts.
ROW_BYTES = 100
# For each user: the number of its events, and about their bytes.
Usage = Mapping[int, tuple[int, int]]
# Bytes and not characters: length() of a text counts characters, and Hangul has three bytes each.
SIZE = f"{ROW_BYTES} + length(CAST(source AS BLOB)) + length(CAST(text AS BLOB))"


def usage(connection: sqlite3.Connection) -> Usage:
    """Return the events and bytes of each user."""
    query = f"SELECT uid, count(*), sum({SIZE}) FROM event GROUP BY uid"
    return {user: (rows, size) for user, rows, size in connection.execute(query)}


def more(before: Usage, events: Iterable[tuple[int, str, str]]) -> Usage:
    """Return `before` with these events added, each a user and two texts."""
    after = dict(before)
    for user, *texts in events:
        rows, size = after.get(user, (0, 0))
        after[user] = rows + 1, size + ROW_BYTES + sum(len(each.encode("utf-8", "replace")) for each in texts)
    return after


def keep(
    cursor: sqlite3.Cursor, now: Usage, fresh: Sequence[int], newest: int, rows_maximum: int, bytes_maximum: int
) -> tuple[Usage, int]:
    """Remove the events beyond the limit of rows and bytes. Return the usage then, and the number removed.

    `now` counts the `fresh` events of this transaction, given by their users; `newest` is the highest number before them.
    """
    rows = sum(each for each, _ in now.values())
    # The pages in use, and not the size of the file: SQLite keeps the pages of removed rows for new ones.
    by_rows, by_bytes = rows - rows_maximum, _beyond(cursor, rows, bytes_maximum)
    too_many = max(by_rows, by_bytes)
    if too_many <= 0:
        return now, 0
    before = rows - len(fresh)
    # Never of this transaction: an event that is answered `accepted` must exist.
    left = min(too_many + before // REMOVED_PART, before)
    is_by_bytes = by_bytes > by_rows
    changes = _oldest_kept(cursor, max(1, min(rows_maximum // CHANGES_PART, bytes_maximum // CHANGE_BYTES))) - 1
    after = dict(now)
    for user in _losers(now, set(fresh), which=int(is_by_bytes)):
        # By bytes, one long event is worth many short ones.
        worth, of = _worth(now, user) if is_by_bytes else (1, 1)
        maximum = -(-left * of // worth)
        gone, size = _remove_oldest(cursor, {"user": user, "newest": newest, "changes": changes}, maximum)
        after[user] = after[user][0] - gone, max(0, after[user][1] - size)
        left = 0 if gone == maximum else max(0, left - gone * worth // of)
        if not left:
            break
    return {user: each for user, each in after.items() if each[0]}, rows - sum(each for each, _ in after.values())


def _losers(now: Usage, fresh: set[int], which: int) -> list[int]:
    """Return the users who lose events, in order: `fresh` users above their share, then the users with the most.

    If all fresh events are of the former, no other user loses any, even if the database exceeds its limit for a moment.
    """
    total = sum(each[which] for each in now.values())
    by_most = sorted(now, key=lambda user: -now[user][which])
    # A user above its share pays for its own events; one within it takes from those with the most.
    own = [user for user in by_most if user in fresh and now[user][which] * SHARES > total]
    return own if fresh <= set(own) else [*own, *(user for user in by_most if user not in own)]


def _worth(now: Usage, user: int) -> tuple[int, int]:
    """Return the average event of this user divided by the average event, in bytes: a numerator and a denominator."""
    rows, size = (sum(each[which] for each in now.values()) for which in (0, 1))
    return max(1, now[user][1]) * rows, max(1, size) * now[user][0]


def count(cursor: sqlite3.Cursor, name: str, more: int) -> None:
    """Add to metadata that is a number, never below 0."""
    query = (
        "INSERT INTO fact VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = max(0, CAST(value AS INTEGER) + ?2)"
    )
    cursor.execute(query, (name, str(more)))


def _beyond(cursor: sqlite3.Cursor, rows: int, bytes_maximum: int) -> int:
    """Return about how many rows the pages beyond the limit hold."""
    pages, free, size = (
        cursor.execute(f"PRAGMA {each}").fetchone()[0] for each in ("page_count", "freelist_count", "page_size")
    )
    used = (pages - free) * size
    # An estimate by the average row: the next commit removes what it left over.
    return int(rows * (1 - bytes_maximum / used)) + 1 if used > bytes_maximum else 0


def _oldest_kept(cursor: sqlite3.Cursor, count: int) -> int:
    """Return the number of the oldest of the newest `count` changes of the mail server, 0 when there are fewer."""
    query = "SELECT number FROM event WHERE code = ? ORDER BY number DESC LIMIT 1 OFFSET ?"
    found = cursor.execute(query, (SERVER_CHANGED.code, count - 1)).fetchone()
    return int(found[0]) if found else 0


def _remove_oldest(cursor: sqlite3.Cursor, values: Mapping[str, int], maximum: int) -> tuple[int, int]:
    """Remove so many events of a `user` in the order of `REMOVED`. Return the number removed, and about their bytes."""
    gone = freed = 0
    for name, which in REMOVED:
        rows, size = _remove(cursor, name, which, {**values, "maximum": maximum - gone})
        gone, freed = gone + rows, freed + size
    return gone, freed


def _remove(cursor: sqlite3.Cursor, name: str, which: str, values: Mapping[str, int]) -> tuple[int, int]:
    """Remove events of a `user` by a condition, up to the number `newest`, `maximum` of them."""
    if values["maximum"] <= 0:
        return 0, 0
    rows: Sequence[tuple[int, int, int, int]] = cursor.execute(
        # The events of this transaction stay, so that the highest number is never used twice.
        f"SELECT number, mail, about, {SIZE} FROM event WHERE {which} AND number <= :newest AND uid = :user "
        "ORDER BY number LIMIT :maximum",
        values,
    ).fetchall()
    # Before the deletion: the results of a mail are removed with its last event.
    unmailed = sum(not _is_delivered(cursor, mail or number) for number, mail, *_ in rows)
    cursor.executemany("DELETE FROM event WHERE number = ?", [(number,) for number, *_ in rows])
    cursor.executemany(
        "DELETE FROM delivery WHERE number = ?1 AND NOT EXISTS (SELECT 1 FROM event WHERE number = ?1) AND NOT EXISTS "
        "(SELECT 1 FROM event WHERE mail = ?1 AND mail <> number AND mail <> 0)",
        [(mail or number,) for number, mail, *_ in rows],
    )
    # An event that the maker's program did not get is in a gap, and its outcome with it. The program gets an outcome of any other
    # one. These are bounded: their events were in the database at the same time, when the cursor moved last.
    cursor.executemany(
        "DELETE FROM outcome WHERE number = ? AND "
        "number > coalesce((SELECT CAST(value AS INTEGER) FROM fact WHERE name = ?), 0)",
        [(number, FORWARDED) for number, *_ in rows],
    )
    # An action is not one of the events that the page counts. It belongs to the user who asked for it, so it may be removed
    # before its event is, or stay after it.
    if events := sum(not about for _, _, about, _ in rows):
        count(cursor, name, events)
    if unmailed and name == "removed_waiting":
        count(cursor, UNTOLD, unmailed)
    return len(rows), sum(size for *_, size in rows)


def _is_delivered(cursor: sqlite3.Cursor, mail: int) -> bool:
    query = "SELECT 1 FROM delivery WHERE number = ? AND verdict = 'delivered' LIMIT 1"
    return cursor.execute(query, (mail,)).fetchone() is not None
