"""What the product draws by chance when it starts, taken out: two recoveries of one disk then write the same.

A key pair is left as it is, since its halves must fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from tests.power import wal

# The ledger's name, as it stands in a page behind that of its row.
LEDGER_ID = re.compile(rb"(?<=ledger_id)[0-9a-f]{16}")
# The setup code, and the checksum of a file with one.
CODE = re.compile(rb'(?<=code = ")[0-9A-Z-]*(?=")|(?<=sha256 = ")[0-9a-f]*(?=")')
# Where the salts begin in the log's header and in a frame's, and the number that a journal draws (SQLite, "Database File
# Format", 3 and 4.1); the checksums depend on them.
HEADER_SALTS, FRAME_SALTS, JOURNAL = 16, 8, slice(12, 16)


def without(name: str, offset: int, data: bytes) -> bytes:
    """What is written at this place of a file, without what is drawn."""
    return next((rule(offset, data) for part, rule in RULES if part in name), data)


def _log(offset: int, data: bytes) -> bytes:
    if offset == 0 and len(data) > wal.HEADER.size:
        return b"".join(_frames(data))
    if offset == 0 and len(data) == wal.HEADER.size:
        return data[:HEADER_SALTS]
    return data[:FRAME_SALTS] if len(data) == wal.FRAME.size else LEDGER_ID.sub(b"", data)


def _frames(log: bytes) -> Iterator[bytes]:
    size = wal.HEADER.unpack_from(log)[2] or len(log)
    yield _log(0, log[: wal.HEADER.size])
    for place in range(wal.HEADER.size, len(log), wal.FRAME.size + size):
        yield _log(place, log[place : place + wal.FRAME.size])
        yield _log(place, log[place + wal.FRAME.size : place + wal.FRAME.size + size])


def _journal(offset: int, data: bytes) -> bytes:
    return data if offset else data[: JOURNAL.start] + data[JOURNAL.stop :]


RULES: Sequence[tuple[str, Callable[[int, bytes], bytes]]] = (
    (wal.LOG, _log),
    ("-journal", _journal),
    (".sqlite3", lambda _, data: LEDGER_ID.sub(b"", data)),
    ("reserve", lambda _, data: b"%d bytes" % len(data)),
    ("administrator", lambda _, data: CODE.sub(b"", data)),
)
