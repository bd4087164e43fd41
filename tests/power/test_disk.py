"""The model of a disk under a power cut: what fsync promises holds, and nothing else does."""

from __future__ import annotations

import itertools
import random

import pytest

from tests.power.disk import Disk, Mode, Resize, Tree, Write, build, digest, load, variants
from tests.power.test_wal import FRAME_ONE, made_log, rows

OLD: Tree = {"a": (0o755, None), "a/f": (0o600, b"old")}


def disk() -> Disk:
    """A folder with a file, all durable."""
    return Disk(OLD)


def contents(disk: Disk, path: str = "a/f") -> set[bytes | None]:
    """Every content that a cut may leave at a path; None: no file."""
    return {tree.get(path, (0, None))[1] for tree in disk.point().states(10_000, "seed")}


def replaced(disk: Disk, *, sync_file: bool, sync_folder: bool) -> Disk:
    """A file replaced by a rename, with and without its syncs."""
    disk.create(1, "a/new", 0o600)
    disk.change(2, Write(disk.find("a/new"), 0, b"new"))
    if sync_file:
        disk.sync(disk.find("a/new"), 3)
    disk.rename(4, "a/new", "a/f")
    if sync_folder:
        disk.sync(disk.find("a"), 5)
    return disk


def test_nothing_pending_leaves_one_disk():
    assert [digest(tree) for tree in disk().point().states(9, "")] == [digest(OLD)]


def test_a_write_without_sync_may_be_lost_torn_or_zeros():
    changed = disk()
    changed.change(1, Write(changed.find("a/f"), 3, b"er"))
    assert contents(changed) == {b"old", b"olde", b"older", b"old\0\0"}


def test_a_synced_write_is_there():
    changed = disk()
    changed.change(1, Write(changed.find("a/f"), 0, b"new"))
    changed.sync(changed.find("a/f"), 2)
    assert contents(changed) == {b"new"}


def test_a_sync_that_began_before_a_write_does_not_hold_it():
    changed = disk()
    changed.change(5, Write(changed.find("a/f"), 0, b"n"))
    changed.sync(changed.find("a/f"), 5)
    assert contents(changed) == {b"old", b"nld"}


@pytest.mark.parametrize(
    ("sync_file", "sync_folder", "left"),
    [
        (True, True, {b"new"}),
        (True, False, {b"old", b"new"}),
        (False, True, {b"", b"n", b"ne", b"new", b"\0\0\0"}),
        (False, False, {b"old", b"", b"n", b"ne", b"new", b"\0\0\0"}),
    ],
)
def test_a_file_is_replaced_whole_only_with_both_syncs(sync_file, sync_folder, left):
    assert contents(replaced(disk(), sync_file=sync_file, sync_folder=sync_folder)) == left


def test_a_sync_of_a_new_file_does_not_make_its_name_durable():
    changed = disk()
    changed.create(1, "a/g", 0o600)
    changed.change(2, Write(changed.find("a/g"), 0, b"x"))
    changed.sync(changed.find("a/g"), 3)
    assert contents(changed, "a/g") == {None, b"x"}


def test_a_folder_without_its_name_takes_everything_in_it_along():
    changed = disk()
    changed.create(1, "b", 0o755, folder=True)
    changed.create(2, "b/g", 0o600)
    changed.sync(changed.find("b"), 3)
    assert contents(changed, "b/g") == {None, b""}


def test_a_rename_may_leave_both_names_and_never_an_empty_place():
    changed = disk()
    changed.rename(1, "a/f", "a/g")
    assert {frozenset(tree) - {"a"} for tree in changed.point().states(99, "")} == {
        frozenset({"a/f"}),
        frozenset({"a/g"}),
        frozenset({"a/f", "a/g"}),
    }


def test_a_mode_and_a_size_need_their_sync_too():
    changed = disk()
    changed.change(1, Mode(changed.find("a/f"), 0o640))
    changed.change(2, Resize(changed.find("a/f"), 1))
    assert {tree["a/f"] for tree in changed.point().states(99, "")} == {
        (0o600, b"old"),
        (0o600, b"o"),
        (0o640, b"old"),
        (0o640, b"o"),
    }


def test_a_mode_that_was_there_is_no_change():
    changed = disk()
    changed.change(1, Mode(changed.find("a/f"), 0o600))
    assert len(list(changed.point().states(99, ""))) == 1
    changed.change(2, Mode(changed.find("a/f"), 0o640))
    changed.change(3, Mode(changed.find("a/f"), 0o640))
    assert len(changed.pending) == 1
    changed.change(4, Mode(changed.find("a/f"), 0o600))
    assert {tree["a/f"][0] for tree in changed.point().states(99, "")} == {0o600, 0o640}


def test_a_mode_needs_more_than_a_sync_of_the_data():
    changed = disk()
    changed.change(1, Mode(changed.find("a/f"), 0o640))
    changed.sync(changed.find("a/f"), 2, data_only=True)
    assert {tree["a/f"][0] for tree in changed.point().states(99, "")} == {0o600, 0o640}


def test_a_write_is_torn_at_sectors_and_loses_single_ones():
    changed = Disk({"f": (0o600, b"." * 1536)})
    changed.change(1, Write(changed.find("f"), 0, b"#" * 1536))
    found = contents(changed, "f")
    assert {b"#" * 512 + b"." * 1024, b"." * 512 + b"#" * 1024, b"#" * 512 + b"." * 512 + b"#" * 512} <= found
    assert b"#" + b"." * 1535 in found


def test_many_pending_writes_give_as_many_distinct_disks_as_are_asked_for():
    changed = Disk({"f": (0o600, b"." * 40960)})
    for place in range(10):
        changed.change(place, Write(changed.find("f"), place * 4096, b"#" * 4096))
    names = [digest(tree) for tree in changed.point().states(500, "seed")]
    assert len(names) == len(set(names)) == 500
    assert names == [digest(tree) for tree in changed.point().states(500, "seed")]


def test_all_combinations_are_built_where_these_are_few_however_many_are_asked_for():
    changed = Disk({"f": (0o600, b"")})
    changed.change(1, Write(changed.find("f"), 0, b"12345678"))
    assert len(list(changed.point().states(3, ""))) == 10
    assert changed.point().is_exhausted(3)
    assert not changed.point().is_exhausted(1)


def logged(name: str) -> Disk:
    """A file with nine frames of a log that are not durable."""
    changed = Disk({name: (0o600, b"")})
    for place in range(9):
        changed.change(place, Write(changed.find(name), place * 4096, b"#" * 4096))
    return changed


def test_a_log_is_exhausted_by_its_first_frame_that_is_not_whole():
    point = logged("ledger-wal").point()
    assert point.is_exhausted(2400)
    assert not point.is_exhausted(300)
    whole = [b"#" * (4096 * place) for place in range(10)]
    found = {tree["ledger-wal"][1] for tree in itertools.islice(point.states(2400, ""), 1300)}
    for place in range(9):
        for part in (b"", b"#" * 512, b"\0" * 4096, b"#" * 3584):
            assert any(each.startswith(whole[place] + part) for each in found)


def test_what_is_not_a_log_alone_is_not_exhausted_by_its_first_frame():
    assert not logged("ledger").point().is_exhausted(2400)
    both = logged("ledger-wal")
    both.create(99, "other", 0o600)
    assert not both.point().is_exhausted(2400)


def test_sqlite_tells_no_combination_of_torn_frames_from_those_that_are_built(tmp_path):
    files = {each: (tmp_path / each).read_bytes() for each in made_log(tmp_path)}
    log = files["ledger-wal"]
    before = Disk({"ledger": (0o600, files["ledger"]), "ledger-wal": (0o600, log[:FRAME_ONE])})
    for place in range(FRAME_ONE, len(log), 24 + 4096):
        for start, end in ((place, place + 24), (place + 24, place + 24 + 4096)):
            before.change(start, Write(before.find("ledger-wal"), start, log[start:end]))
    point, chance = before.point(), random.Random(1)
    assert point.is_exhausted(2400)
    built = {rows(tree, tmp_path / "built") for tree in itertools.islice(point.states(2400, ""), 400)}
    drawn = set()
    for _ in range(400):
        files_drawn = point.durable.copy()
        for change in point.pending:
            for part in chance.choice(variants(change)):
                files_drawn.put(part)
        drawn.add(rows(files_drawn.tree(), tmp_path / "drawn"))
    assert drawn <= built == {0, 20}


def test_what_was_built_is_loaded(tmp_path):
    build(OLD, tmp_path)
    assert load(tmp_path) == OLD
