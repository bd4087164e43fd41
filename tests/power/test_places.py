"""Two places for a second cut are one only where they leave the same, but for what was drawn by chance."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from device_ui.settings import keys
from device_ui.storage import toml_file
from tests.power import drawn, explore, wal
from tests.power.disk import Disk, Resize, Tree, Write, build, load
from tests.power.explore import Explorer, Figures
from tests.power.test_wal import made_log, on_disk, point_of, rows, scribbled

CODED, HASHED = (toml_file.encode("who", {name: "AB-12"}) for name in ("code", "hash"))
ONE, TWO, THREE = (keys.KeyPair(bytes([number]) * 32) for number in (1, 2, 3))


@pytest.fixture
def files(tmp_path) -> dict[str, bytes]:
    """A ledger all pages of which are in the log, too, but for that of one table."""
    return {each: (tmp_path / each).read_bytes() for each in made_log(tmp_path)}


def test_places_are_alike_when_sqlite_cannot_tell_them_apart(files):
    pages = wal.read(files["ledger-wal"]).pages
    hidden, shown = 2, 3
    assert hidden in pages and shown not in pages
    name = point_of(files).point().name()
    assert point_of({**files, "ledger": scribbled(files["ledger"], hidden)}).point().name() == name
    assert point_of({**files, "ledger": scribbled(files["ledger"], shown)}).point().name() != name
    assert point_of({**files, "ledger-wal": files["ledger-wal"][:-1]}).point().name() != name
    assert point_of(files, (0, b"x")).point().name() != name
    assert point_of({**files, "ledger": b""}).point().name() != name


@pytest.mark.parametrize("how", ["emptied", "removed", "begun anew"])
def test_a_ledger_counts_when_its_log_may_go(files, how, tmp_path):
    """SQLite reads the ledger itself then: the two leave other disks."""
    changed = [point_of({**files, "ledger": ledger}) for ledger in (files["ledger"], scribbled(files["ledger"], 2))]
    found = []
    for each in changed:
        log = each.find("ledger-wal")
        match how:
            case "emptied":
                each.change(1, Resize(log, 0))
            case "removed":
                each.remove(1, "ledger-wal")
            case _:
                each.change(1, Write(log, 0, b"?" * 32))
        found.append({read(tree, tmp_path / "at") for tree in each.point().states(99, "")})
    assert found[0] != found[1]
    assert changed[0].point().name() != changed[1].point().name()


def read(tree: Tree, folder: Path) -> int | str:
    """How many rows there are, or what SQLite says."""
    try:
        return rows(tree, folder)
    except sqlite3.DatabaseError as error:
        shutil.rmtree(folder)
        return str(error)


def renamed(content: bytes, mode: int = 0o600, *, folder: bool = False, name: str = "file") -> Disk:
    """A new file (in a new folder) that is durable but for the last name on the way to it."""
    changed = Disk({"old": (0o600, b"old")})
    path = f"new/{name}" if folder else "new"
    if folder:
        changed.create(1, "new", 0o700, folder=True)
    changed.create(1, path, mode)
    changed.change(2, Write(changed.find(path), 0, content))
    changed.sync(changed.find(path), 3)
    if folder:
        changed.sync(changed.find("new"), 4)
    else:
        changed.rename(4, "new", "old")
    return changed


@pytest.mark.parametrize("folder", [False, True])
def test_places_are_not_alike_when_something_without_a_name_differs(folder):
    name = renamed(b"one", folder=folder).point().name()
    assert renamed(b"one", folder=folder).point().name() == name
    assert renamed(b"two", folder=folder).point().name() != name
    assert renamed(b"one", 0o640, folder=folder).point().name() != name


def test_places_are_not_alike_when_a_folder_without_a_name_holds_something_else():
    one, other = (renamed(b"one", folder=True, name=name).point().name() for name in ("file", "other"))
    assert one != other


def test_the_number_of_a_file_without_a_name_is_no_part_of_its_place():
    used = Disk({"a": (0o600, b"")})
    used.remove(1, "a")
    used.sync(0, 2)
    used.create(3, "gone", 0o600)
    used.remove(4, "gone")
    used.sync(0, 5)
    fresh = Disk({})
    for each in (used, fresh):
        each.create(6, "new", 0o600)
    assert used.point().name() == fresh.point().name()


def test_the_number_of_a_file_is_no_part_of_its_place():
    longer = Disk({"a": (0o600, b""), "b": (0o600, b"")})
    shorter = Disk({"b": (0o600, b"")})
    longer.remove(1, "a")
    longer.sync(0, 2)
    other = Disk({"a": (0o600, b""), "b": (0o600, b"")})
    other.remove(1, "b")
    other.sync(0, 2)
    for each, name in ((longer, "b"), (shorter, "b"), (other, "a")):
        each.change(3, Write(each.find(name), 0, b"x"))
    assert longer.point().name() == shorter.point().name() != other.point().name()


def with_keys(private: bytes, public: bytes, sealed_to: keys.KeyPair = THREE) -> bytes:
    """The name of a disk that holds these two files of a key pair, and a password sealed to some key."""
    sealed = toml_file.encode("settings", {"sealed": f"hpke1.{sealed_to.id}.AAAA"})
    files = {"private.key": private, "mailhook.pub": public, "smtp.toml": sealed}
    return Disk(on_disk(files)).point().name()


def private(pair: keys.KeyPair, before: keys.KeyPair | None = None) -> bytes:
    values = {keys.CURRENT: pair.private.hex(), keys.PUBLIC[keys.CURRENT]: pair.public.hex()}
    if before:
        values |= {keys.BEFORE: before.private.hex(), keys.PUBLIC[keys.BEFORE]: before.public.hex()}
    return toml_file.encode("private", values)


def public(pair: keys.KeyPair, before: keys.KeyPair | None = None) -> bytes:
    return toml_file.encode("public", {keys.CURRENT: pair.public.hex(), **({keys.BEFORE: before.id} if before else {})})


def test_which_pair_was_drawn_makes_no_other_place():
    assert with_keys(private(ONE), public(ONE)) == with_keys(private(TWO), public(TWO))
    assert with_keys(private(ONE, TWO), public(ONE, TWO)) == with_keys(private(TWO, ONE), public(TWO, ONE))


def test_halves_that_do_not_fit_make_another():
    names = [
        with_keys(private(ONE), public(ONE)),
        with_keys(private(ONE), public(TWO)),
        with_keys(private(ONE, TWO), public(ONE)),
        with_keys(private(ONE, TWO), public(TWO)),
        with_keys(private(ONE, TWO), public(ONE, TWO)),
        with_keys(private(ONE)[:-1], public(ONE)),
        with_keys(private(ONE).replace(b"private", b"PRIVATE", 1).replace(b'"', b"'", 1), public(ONE)),
    ]
    assert len(set(names)) == len(names)


def test_the_pair_that_the_password_is_sealed_to_is_another():
    names = {with_keys(private(ONE), public(ONE), to) for to in (ONE, TWO, THREE)}
    assert len(names) == 3  # the settings differ; but the pairs must, too:
    assert drawn.Pairs(ONE.id.encode()).without("private.key", private(ONE)) != (
        drawn.Pairs(ONE.id.encode()).without("private.key", private(TWO))
    )


def test_a_key_that_is_being_erased_is_so_many_bytes():
    assert with_keys(b"\xff\x00" * 80, public(ONE)) == with_keys(b"\x00\xfe" * 80, public(ONE))
    assert with_keys(b"\xff\x00" * 80, public(ONE)) != with_keys(b"\xff\x00" * 81, public(ONE))
    assert with_keys(bytes(160), public(ONE)) != with_keys(b"\xff\x00" * 80, public(ONE))


def test_two_recoveries_of_one_disk_go_through_the_same_places(tmp_path):
    """They draw other keys, codes, salts and names."""
    recording = explore.record(("start",), tmp_path / "stage")
    last = [each for each in explore.cuts(recording) if each.chapter == 1][-3]
    tree = next(last.point.states(1, ""))
    drawn_anew = ("ledger", "administrator", "private", "mailhook")
    started = {path: each for path, each in tree.items() if not any(part in path for part in drawn_anew)}
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
        ("a/ledger.sqlite3", 0, b"?" * 8192, b"8192 bytes"),
        ("a/ledger.sqlite3", 0, b"SQLite format 3" + b"?" * 8192, b"SQLite format 3" + b"?" * 8192),
        ("a/ledger.sqlite3", 8192, b"..ledger_id0123456789abcdef..", b"..ledger_id.."),
        ("a/ledger.sqlite3-journal", 0, bytes(range(20)), bytes(range(12)) + bytes(range(16, 20))),
        ("a/ledger.sqlite3-journal", 512, bytes(range(20)), bytes(range(20))),
        ("reserve", 0, b"random", b"6 bytes"),
        (".administrator.toml.new", 0, CODED, CODED.replace(b"AB-12", b"").partition(b"sha256")[0]),
        ("administrator.toml", 0, CODED.replace(b"AB-12", b"AB-13"), CODED.replace(b"AB-12", b"AB-13")),
        ("administrator.toml", 1, CODED[1:], CODED[1:]),
        ("administrator.toml", 0, HASHED, HASHED),
        ("smtp.toml", 0, b'sha256 = "0f"\n', b'sha256 = "0f"\n'),
    ],
)
def test_only_what_is_drawn_is_taken_out(name, offset, data, left):
    assert drawn.without(name, offset, data) == left
