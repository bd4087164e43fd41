"""What is held to be the same for SQLite is the same for the real one, and what is not is not."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.power import drawn, explore, wal
from tests.power.disk import Disk, Resize, Tree, Write, build, digest, load
from tests.power.explore import Explorer, Figures

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
    assert wal.seen({**files, "ledger-wal": changed})["ledger"] == files["ledger"]


def test_what_lies_behind_the_last_good_frame_is_not_seen(files, tmp_path):
    longer = {**files, "ledger-wal": files["ledger-wal"] + b"?" * 9000}
    assert wal.seen(longer) == wal.seen(files)
    assert rows(on_disk(longer), tmp_path / "at") == 20


def test_an_empty_ledger_hides_nothing(files):
    """SQLite takes it for none, and removes the log."""
    for content in (b"", b"S"):
        assert wal.seen({**files, "ledger": content}) == {**wal.seen(files), "ledger": content}


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


def test_places_are_alike_when_sqlite_cannot_tell_them_apart(files):
    pages = wal.read(files["ledger-wal"]).pages
    hidden, shown = 2, 3
    assert hidden in pages and shown not in pages
    name = point_of(files).point().name()
    assert point_of({**files, "ledger": scribbled(files["ledger"], hidden)}).point().name() == name
    assert point_of({**files, "ledger": scribbled(files["ledger"], shown)}).point().name() != name
    assert point_of({**files, "ledger-wal": files["ledger-wal"][:-1]}).point().name() != name
    assert point_of(files, (0, b"x")).point().name() != name


def test_two_recoveries_of_one_disk_go_through_the_same_places(tmp_path):
    """They draw other codes, salts and names; a first start draws a key pair too, and is not begun from nothing here."""
    recording = explore.record(("start",), tmp_path / "stage")
    last = [each for each in explore.cuts(recording) if each.chapter == 1][-3]
    tree = next(last.point.states(1, ""))
    started = {path: each for path, each in tree.items() if "ledger" not in path and "administrator" not in path}
    with Explorer(recording, Figures()) as explorer:
        places = [explorer.folder / name for name in ("one", "two")]
        for place in places:
            place.mkdir()
            build(started, place)
        one, two = (
            explore.points(explore.Recording("", started, steps, last.known, recording.maker))
            for steps in explorer.recoveries(places).values()
        )
        names = [point.name() for point in one]
        assert names == [point.name() for point in two]
        assert len(names) > 10
        assert load(places[0]) != load(places[1])


@pytest.mark.parametrize(
    ("name", "offset", "data", "left"),
    [
        ("a/ledger.sqlite3-wal", 0, bytes(range(32)), bytes(range(16))),
        ("a/ledger.sqlite3-wal", 32, bytes(range(24)), bytes(range(8))),
        ("a/ledger.sqlite3-wal", 56, b"..ledger_id0123456789abcdef..", b"..ledger_id.."),
        ("a/ledger.sqlite3", 8192, b"..ledger_id0123456789abcdef..", b"..ledger_id.."),
        ("a/ledger.sqlite3-journal", 0, bytes(range(20)), bytes(range(12)) + bytes(range(16, 20))),
        ("a/ledger.sqlite3-journal", 512, bytes(range(20)), bytes(range(20))),
        ("reserve", 0, b"random", b"6 bytes"),
        (".administrator.toml.new", 0, b'code = "AB-12"\nsha256 = "0f"\n', b'code = ""\nsha256 = ""\n'),
        ("smtp.toml", 0, b'sha256 = "0f"\n', b'sha256 = "0f"\n'),
    ],
)
def test_only_what_is_drawn_is_taken_out(name, offset, data, left):
    assert drawn.without(name, offset, data) == left
