"""QEMU's log of writes to a disk (its driver `blklogwrites`), and the disks that a power cut could have left.

The format is that of Linux' dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst): a superblock of one
sector, then for each request an entry of one sector and its data. Numbers are little-endian and have 64 bits.

A disk keeps what was written before a flush that it has acknowledged. Of what was written after the last such flush it
keeps any part, in any order, sector by sector.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512
MAGIC, VERSION = 0x6A736677736872, 1
SUPERBLOCK, ENTRY = struct.Struct("<QQQI"), struct.Struct("<QQQQ")
FLUSH, DISCARD = 1, 4
# How much a disk may keep of what was not flushed.
SHARES = (0.0, 0.5, 0.9, 1.0)


@dataclass(frozen=True)
class Request:
    """One request: `sector` on the disk, `sectors` of it, and where its data begins in the log; `end` is where its entry ends there."""

    sector: int
    sectors: int
    flags: int
    data: int
    end: int

    @property
    def is_flush(self) -> bool:
        """Whether everything before it is on the disk for good."""
        return bool(self.flags & FLUSH)


def requests(log: Path) -> Iterator[Request]:
    """Read the log, also one whose writer was killed: up to the last whole entry. Raises ValueError when it is none."""
    size = log.stat().st_size
    with log.open("rb") as file:
        magic, version, _, sector_size = SUPERBLOCK.unpack(file.read(SUPERBLOCK.size))
        if (magic, version, sector_size) != (MAGIC, VERSION, SECTOR):
            raise ValueError(f"{log} is no log of writes with sectors of {SECTOR} bytes")
        at = SECTOR
        while at + SECTOR <= size:
            file.seek(at)
            sector, sectors, flags, _ = ENTRY.unpack(file.read(ENTRY.size))
            data = at + SECTOR
            at = data + (0 if flags & DISCARD else sectors * SECTOR)
            if at > size or not (sectors or flags):
                return
            yield Request(sector, sectors, flags, data, at)


def cut(log: Path, disk: Path, position: int, chance: random.Random) -> tuple[int, int]:
    """Bring `disk`, which is as it was when the log began, to what a power cut could have left.

    `position` is a size that the log had at that instant. Returns how many sectors after the last flush there were, and
    how many of them the disk kept: all, none or some, by `chance`.
    """
    before = [each for each in requests(log) if each.end <= position]
    flushed = max((number for number, each in enumerate(before) if each.is_flush), default=-1)
    kept_share = chance.choice(SHARES)
    with log.open("rb") as source, disk.open("r+b") as target:
        for each in before[: flushed + 1]:
            _apply(source, target, each, range(each.sectors))
        pending = [(each, number) for each in before[flushed + 1 :] for number in range(each.sectors)]
        kept = [each for each in pending if chance.random() < kept_share]
        chance.shuffle(kept)
        for each, number in kept:
            _apply(source, target, each, range(number, number + 1))
    return len(pending), len(kept)


def _apply(source, target, request: Request, numbers: range) -> None:
    target.seek((request.sector + numbers.start) * SECTOR)
    if request.flags & DISCARD:
        target.write(bytes(len(numbers) * SECTOR))
    elif numbers:
        source.seek(request.data + numbers.start * SECTOR)
        target.write(source.read(len(numbers) * SECTOR))
