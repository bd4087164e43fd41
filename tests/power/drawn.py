"""What the product draws by chance when it starts, taken out: two recoveries of one disk then write the same."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence

from device_ui.settings import seal
from device_ui.storage import toml_file
from tests.power import wal

# The ledger's name, as it stands in a page behind that of its row.
LEDGER_ID = re.compile(rb"(?<=ledger_id)[0-9a-f]{16}")
# A file with a setup code: what stands before the code, and the end of it with the checksum.
CODE = re.compile(rb'(.*\ncode = ")[0-9A-Z-]*("\n)sha256 = "[0-9a-f]*"\n', re.DOTALL)
# The files of the key pair, also while they are written.
KEYS = re.compile("private.key|mailhook.pub")
# The size of a page, and what a ledger begins with.
PAGE, SQLITE = 4096, b"SQLite format 3"
# Where the salts begin in the log's header and in a frame's, and the number that a journal draws (SQLite, "Database File
# Format", 3 and 4.1); the checksums depend on them.
HEADER_SALTS, FRAME_SALTS, JOURNAL = 16, 8, slice(12, 16)


class Pairs:
    """The key pairs that are drawn at one place, by their order: which halves fit is left, which keys they are is not.

    `sealed` is the settings file, or what may become of it: a pair that it was sealed to is no other one.
    """

    def __init__(self, sealed: bytes) -> None:
        self._sealed, self._found = sealed, dict[str, int]()

    def without(self, name: str, data: bytes) -> bytes:
        """A whole file, with its pairs by their order; a key that is being erased is so many bytes."""
        if KEYS.search(name) is None:
            return data
        try:
            values = toml_file.decode(data)
        except ValueError:
            return data if data.isascii() else b"%d bytes" % len(data)
        told = {key: self._called(name, key, str(value)) for key, value in values.items()}
        return repr(told).encode() if all(told.values()) else data

    def _called(self, name: str, key: str, value: str) -> str:
        is_private = "private" in name and not key.startswith("public")
        if len(value) == 16:
            called = value
        elif len(value) == 64:
            called = seal.key_id(_public(value) if is_private else bytes.fromhex(value))
        else:
            return ""
        if called.encode() not in self._sealed:
            called = f"pair {self._found.setdefault(called, len(self._found))}"
        return called


@functools.lru_cache(256)
def _public(private: str) -> bytes:
    return seal.public_key(bytes.fromhex(private))


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


def _ledger(_: int, data: bytes) -> bytes:
    """A page, or what a factory reset puts in the place of all."""
    return LEDGER_ID.sub(b"", data) if len(data) <= PAGE or data.startswith(SQLITE) else b"%d bytes" % len(data)


def _journal(offset: int, data: bytes) -> bytes:
    return data if offset else data[: JOURNAL.start] + data[JOURNAL.stop :]


def _code(offset: int, data: bytes) -> bytes:
    if offset or not CODE.fullmatch(data):
        return data
    try:
        toml_file.decode(data)
    except ValueError:
        return data
    return CODE.sub(rb"\1\2", data)


RULES: Sequence[tuple[str, Callable[[int, bytes], bytes]]] = (
    (wal.LOG, _log),
    ("-journal", _journal),
    (".sqlite3", _ledger),
    ("reserve", lambda _, data: b"%d bytes" % len(data)),
    ("administrator", _code),
)
