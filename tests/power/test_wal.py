"""What is held to be the same for SQLite is the same for the real one, and what is not is not."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.power import wal
from tests.power.disk import Disk, Resize, Tree, Write, build, digest

# Where the log's first frame begins (SQLite, "Database File Format", 4.1).
FRAME_ONE = 32


def made_log(folder: Path) -> list[str]:
    """A database of two tables; the first was filled by one commit of several pages, which is in the log alone."""
    with contextlib.closing(sqlite3.connect(folder / "ledger")) as database:
        database.execute("CREATE TABLE event (text)")
        database.execute("CREATE TABLE other (text)")
        database.execute("INSERT INTO other VALUES ('stays as it is')")
        database.commit()
        database.execute("PRAGMA journal_mode = WAL")
        database.executemany("INSERT INTO event VALUES (?)", [("x" * 300,)] * 20)
        database.commit()
        for name in ("ledger", "ledger-wal"):
            shutil.copy(folder / name, folder / f"{name}.kept")
    for name in ("ledger", "ledger-wal"):
        (folder / f"{name}.kept").rename(folder / name)
    return ["ledger", "ledger-wal"]


def rows(tree: Tree, folder: Path) -> int:
    """How many rows of the first table SQLite finds on such a disk."""
    folder.mkdir()
    build(tree, folder)
    with contextlib.closing(sqlite3.connect(folder / "ledger")) as database:
        found = database.execute("SELECT count(*) FROM event, other").fetchone()[0]
    shutil.rmtree(folder)
    return found


PAGE = 4096


@pytest.fixture
def files(tmp_path) -> dict[str, bytes]:
    """A ledger all pages of which are in the log, too, but for that of one table."""
    return {each: (tmp_path / each).read_bytes() for each in made_log(tmp_path)}


def on_disk(files: dict[str, bytes]) -> Tree:
    return {name: (0o600, content) for name, content in files.items()}


def scribbled(content: bytes, page: int) -> bytes:
    """With another content of one page (from 1)."""
    return content[: (page - 1) * PAGE].ljust((page - 1) * PAGE, b"\0") + b"?" * PAGE + content[page * PAGE :]


def test_pages_in_the_log_are_hidden_from_sqlite_and_no_others(files, tmp_path):
    log = wal.read(files["ledger-wal"])
    assert log.length == len(files["ledger-wal"])
    assert log.pages and log.count > len(files["ledger"]) // PAGE
    for page in range(1, log.count + 1):
        changed = {**files, "ledger": scribbled(files["ledger"], page)}
        if page in log.pages:
            assert log.hides((page - 1) * PAGE, PAGE)
            assert rows(on_disk(changed), tmp_path / "at") == 20
        else:
            assert not log.hides((page - 1) * PAGE, PAGE)
            with pytest.raises(sqlite3.DatabaseError):
                rows(on_disk(changed), tmp_path / "broken")


@pytest.mark.parametrize("place", [0, 5, 9, 17, 30, 33, 41, 50, 60, 4000, 4200, -4200, -4097, -4096, -1])
def test_a_log_counts_up_to_its_first_wrong_byte(files, tmp_path, place):
    log = files["ledger-wal"]
    place %= len(log)
    changed = log[:place] + bytes([log[place] ^ 1]) + log[place + 1 :]
    found = wal.read(changed)
    assert found.length <= place
    assert bool(found.pages) == (rows(on_disk({**files, "ledger-wal": changed}), tmp_path / "at") == 20)
    assert not found.pages  # the one commit stands in the last frame
    assert wal.seen({**files, "ledger-wal": changed}, {"ledger"})["ledger"] == files["ledger"]


def test_what_lies_behind_the_last_good_frame_is_not_seen(files, tmp_path):
    longer = {**files, "ledger-wal": files["ledger-wal"] + b"?" * 9000}
    assert wal.seen(longer, {"ledger"}) == wal.seen(files, {"ledger"})
    assert rows(on_disk(longer), tmp_path / "at") == 20


def point_of(files: dict[str, bytes], *changes: tuple[int, bytes]) -> Disk:
    """A disk with writes into the ledger that are not durable."""
    changed = Disk(on_disk(files))
    for offset, data in changes:
        changed.change(1, Write(changed.find("ledger"), offset, data))
    return changed


def test_changes_that_the_log_hides_leave_nothing_to_tell_apart(files, tmp_path):
    hidden = sorted(wal.read(files["ledger-wal"]).pages)
    writes = [((page - 1) * PAGE, b"#" * PAGE) for page in hidden]
    assert len(writes) >= 3
    changed = point_of(files, *writes)
    changed.change(2, Resize(changed.find("ledger"), wal.read(files["ledger-wal"]).count * PAGE))
    assert changed.point().is_exhausted(300)
    for name in ("one", "two"):
        changed.create(3, name, 0o600)
    assert changed.point().is_exhausted(300)
    trees = list(changed.point().states(300, "seed"))
    assert {frozenset(tree) - {"ledger", "ledger-wal"} for tree in trees[:4]} == {
        frozenset(names) for names in ((), ("one",), ("two",), ("one", "two"))
    }
    assert len({digest(tree) for tree in trees}) == 300
    assert {rows(tree, tmp_path / "at") for tree in trees[:60]} == {20}


def test_changes_that_it_does_not_hide_are_to_be_told_apart(files):
    hidden = sorted(wal.read(files["ledger-wal"]).pages)
    writes = [((page - 1) * PAGE, b"#" * PAGE) for page in hidden]
    cut = point_of(files, *writes)
    cut.change(2, Resize(cut.find("ledger"), PAGE))
    more = point_of(files, *writes, *(((max(hidden) + place) * PAGE, b"#" * PAGE) for place in range(3)))
    moved = point_of(files, *writes)
    moved.remove(2, "ledger-wal")
    begun_anew = point_of(files, *writes)
    begun_anew.change(2, Write(begun_anew.find("ledger-wal"), 0, b"?" * 32))
    emptied = point_of({**files, "ledger": b""}, *writes)
    for changed, most in ((emptied, 300), (cut, 2), (more, 300), (moved, 300), (begun_anew, 300)):
        assert not changed.point().is_exhausted(most)
