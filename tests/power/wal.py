"""What SQLite can tell apart of a ledger and the log beside it (SQLite, "Database File Format", 4).

It reads the log up to the first frame whose salt or checksum is wrong, and nothing behind it; a page that stands in a
committed frame it takes from there, whatever the ledger holds in its place, and so the ledger's size. So a torn page of
the ledger is no other disk while its log is whole, and neither is what lies behind the log's last good frame.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass

# The end of the log's name.
LOG = "-wal"
# The headers: big-endian, of so many bytes; the first is read by itself, before any log (database header, 1.3).
HEADER, FRAME, FIRST = struct.Struct(">8I"), struct.Struct(">6I"), 100
# Which byte order the checksums are made in, by the first word.
ORDERS = {0x377F0682: "<", 0x377F0683: ">"}
# SQLite takes a ledger of so many bytes for none, and removes its log.
EMPTY = 1


@dataclass(frozen=True)
class Log:
    """What counts of a log: its first `length` bytes, and the `pages` (from 1, of `size` bytes) that are committed there.

    `count` is how many pages the ledger has by the last commit.
    """

    length: int = 0
    size: int = 0
    pages: frozenset[int] = frozenset()
    count: int = 0

    def hides(self, offset: int, length: int) -> bool:
        """Whether these bytes of the ledger are all in pages that are read from the log."""
        touched = range(offset // self.size + 1, (offset + length - 1) // self.size + 2) if self.pages else ()
        return bool(touched) and self.pages.issuperset(touched)

    def hides_size(self, size: int) -> bool:
        """Whether a ledger of so many bytes is read like a whole one."""
        return bool(self.pages) and size >= self.count * self.size


@functools.lru_cache(256)
def read(log: bytes) -> Log:
    """Walk a log's frames as SQLite's recovery does."""
    if len(log) < HEADER.size:
        return Log()
    magic, _, size, _, *salts, first, second = HEADER.unpack_from(log)
    order = ORDERS.get(magic, "")
    if not order or _checksum((0, 0), log[: HEADER.size - 8], order) != (first, second):
        return Log()
    found, sums, place = Log(HEADER.size, size), (first, second), HEADER.size
    pages: set[int] = set()
    while place + FRAME.size + size <= len(log):
        page, commits, *salted, first, second = FRAME.unpack_from(log, place)
        content = log[place + FRAME.size : place + FRAME.size + size]
        sums = _checksum(_checksum(sums, log[place : place + 8], order), content, order)
        if salted != salts or sums != (first, second) or not page:
            break
        place += FRAME.size + size
        pages.add(page)
        found = Log(place, size, frozenset(pages), commits) if commits else dataclasses.replace(found, length=place)
    return found


def seen(files: Mapping[str, bytes], standing: Collection[str]) -> dict[str, bytes]:
    """The files by their paths, without what SQLite cannot tell apart; of a log that is not empty there is always something.

    `standing` are the ledgers whose log will surely stay: only these are read from there.
    """
    told = dict(files)
    for name, content in files.items():
        log = read(content) if name.endswith(LOG) else Log()
        if name.endswith(LOG) and content:
            told[name] = content[: max(log.length, 1)]
        if log.pages and name.removesuffix(LOG) in standing:
            told[name.removesuffix(LOG)] = _unhidden(files[name.removesuffix(LOG)], log)
    return told


def _unhidden(ledger: bytes, log: Log) -> bytes:
    pages = range(0, len(ledger), log.size)
    rest = [ledger[place : place + log.size] for place in pages if place // log.size + 1 not in log.pages]
    return b"".join([ledger[:FIRST], *rest])


def _checksum(sums: tuple[int, int], data: bytes, order: str) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for one, two in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + two + first) & 0xFFFFFFFF
    return first, second
