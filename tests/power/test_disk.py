"""The model of a disk under a power cut: what fsync promises holds, and nothing else does."""

from __future__ import annotations

import pytest

from tests.power.disk import Disk, Mode, Resize, Tree, Write, build, digest, load

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


def test_what_was_built_is_loaded(tmp_path):
    build(OLD, tmp_path)
    assert load(tmp_path) == OLD
