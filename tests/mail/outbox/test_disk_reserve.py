"""The reserve: set aside while there is room, given up when there is none, and whole or not there at all."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import threading
from pathlib import Path

import pytest

from device_ui.errors import NotStored
from device_ui.mail.events import DEVICE, Event
from device_ui.mail.outbox.disk_reserve import MAIL, PARTS, Reserve
from device_ui.mail.outbox.outbox import Outbox

KIB, MIB = 1024, 1024 * 1024
SIZE, ROOT = 256 * KIB, 0
EVENT = Event("303", "fault", 1.0, 1.0, "smartd", "/dev/sda: 1 unreadable sector")


@pytest.fixture
def disk(tmp_path):
    """A disk of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True, timeout=60)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, timeout=60)


@pytest.fixture
def opened(disk):
    """Opens the ledger of this disk with a reserve; closed when the test ends."""
    ledgers: list[Outbox] = []

    def open_(size: int = SIZE) -> Outbox:
        ledgers.append(Outbox(disk / "ledger.sqlite3", reserve=Reserve(disk / "reserve", size)))
        return ledgers[-1]

    yield open_
    for each in ledgers:
        each.close()


def fill(disk: Path, leave: int = 0) -> Path:
    """A file that takes all room of the disk but so many bytes."""
    space = os.statvfs(disk)
    path = disk / "fill"
    path.write_bytes(b"x" * (space.f_bavail * space.f_frsize - leave))
    return path


def used(path: Path) -> int:
    """The bytes that a file really holds on its disk."""
    return path.stat().st_blocks * 512


def accept_all(outbox: Outbox, event: Event = EVENT) -> list[int]:
    """Events one by one until the first is refused; the numbers of those that were accepted."""
    numbers: list[int] = []
    with pytest.raises(NotStored):
        for _ in range(100_000):
            numbers += outbox.accept([event])
    return numbers


# The file


def test_the_room_is_really_set_aside(disk):
    Reserve(disk / "reserve", SIZE).keep()
    assert used(disk / "reserve") == SIZE


def test_a_reserve_that_is_there_is_not_written_again(disk):
    reserve = Reserve(disk / "reserve", SIZE)
    reserve.keep()
    before = (disk / "reserve").stat()
    reserve.keep()
    Reserve(disk / "reserve", SIZE).keep()
    after = (disk / "reserve").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_reserve_that_was_half_written_is_written_anew(disk):
    (disk / "reserve").write_bytes(b"half")
    reserve = Reserve(disk / "reserve", SIZE)
    reserve.keep()
    assert (used(disk / "reserve"), reserve.is_released) == (SIZE, False)


def test_giving_up_a_part_of_the_reserve_makes_its_room(disk):
    reserve = Reserve(disk / "reserve", SIZE)
    reserve.keep()
    fill(disk)
    assert reserve.release(ROOT)
    assert reserve.is_released
    assert os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize == SIZE // PARTS


@pytest.mark.parametrize(
    ("users", "parts"),
    [
        ([ROOT], PARTS),
        ([DEVICE], PARTS),
        ([MAIL], PARTS // 2),
        ([33], PARTS // 4),
        ([33, MAIL], PARTS // 4 * 3),
        ([33, MAIL, ROOT], PARTS),
    ],
    ids=["root", "the device", "mails", "a user", "a user and mails", "root after both"],
)
def test_each_uses_up_its_share_of_the_reserve_and_root_what_is_left(disk, users, parts):
    reserve = Reserve(disk / "reserve", SIZE)
    reserve.keep()
    given = [user for user in users for _ in range(2 * PARTS) if reserve.release(user)]
    assert len(given) == parts
    assert (used(disk / "reserve") if (disk / "reserve").exists() else 0) == SIZE - parts * SIZE // PARTS


def test_a_whole_reserve_has_every_share_again(disk):
    reserve = Reserve(disk / "reserve", SIZE)
    reserve.keep()
    while reserve.release(33):
        pass
    reserve.keep()
    assert used(disk / "reserve") == SIZE
    assert reserve.release(33)


def test_what_is_left_of_a_reserve_stays_where_the_disk_takes_no_whole_one(disk):
    reserve = Reserve(disk / "reserve", SIZE)
    reserve.keep()
    reserve.release(ROOT)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (SIZE // 2, limits[1])
    )  # the disk has room when it is asked, and then not
    try:
        reserve.keep()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (used(disk / "reserve"), reserve.is_released) == (SIZE - SIZE // PARTS, True)
    assert [each.name for each in disk.iterdir()] == ["reserve"]


def test_what_a_power_cut_left_of_the_next_reserve_takes_no_room(disk):
    (disk / ".reserve.new").write_bytes(b"x" * SIZE)
    fill(disk)
    Reserve(disk / "reserve", SIZE).keep()
    assert os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize == SIZE


@pytest.mark.parametrize(("left", "kept"), [(SIZE, False), (2 * SIZE - 4096, False), (2 * SIZE, True)])
def test_the_reserve_never_takes_the_last_room(disk, left, kept):
    fill(disk, left)
    reserve = Reserve(disk / "reserve", SIZE)
    reserve.keep()
    assert (disk / "reserve").exists() is kept
    assert reserve.is_released is not kept


def test_a_disk_that_never_had_room_is_told_until_it_has(disk):
    filled = fill(disk)
    reserve = Reserve(disk / "reserve", SIZE)
    reserve.keep()
    assert reserve.is_released
    assert not reserve.release(ROOT)
    assert reserve.is_released
    filled.unlink()
    reserve.keep()
    assert not reserve.is_released


def test_without_a_size_nothing_is_set_aside_nor_missed(disk):
    reserve = Reserve(disk / "reserve", 0)
    reserve.keep()
    assert not reserve.release(ROOT)
    assert not reserve.is_released
    assert list(disk.iterdir()) == []


def test_a_folder_that_is_not_there_raises_nothing(disk):
    reserve = Reserve(disk / "missing" / "reserve", SIZE)
    reserve.keep()
    assert not reserve.release(ROOT)
    assert reserve.is_released


def test_a_reserve_that_is_given_up_while_it_is_set_aside_is_not_called_kept(disk):
    reserve = Reserve(disk / "reserve", SIZE)
    end = threading.Event()

    def keep() -> None:
        while not end.is_set():
            reserve.keep()

    keeper = threading.Thread(target=keep)
    keeper.start()
    for _ in range(200):
        reserve.release(ROOT)
    end.set()
    keeper.join(60)
    assert reserve.is_released is (used(disk / "reserve") < SIZE if (disk / "reserve").exists() else True)


# The ledger that has one


def test_events_are_accepted_on_a_full_disk(disk, opened):
    outbox = opened()
    fill(disk)
    assert outbox.accept([EVENT]) == [1]
    assert outbox.is_reserve_used
    assert used(disk / "reserve") < SIZE


def test_the_reserve_is_enough_for_many_events(disk, opened):
    """What is 256 KiB here is 1 MiB on a device."""
    outbox = opened()
    fill(disk)
    assert len(accept_all(outbox)) > 500


def test_a_restart_gives_no_user_a_new_share(disk, opened):
    outbox = opened()
    filled = fill(disk)
    flooding = dataclasses.replace(EVENT, user=33)
    numbers = accept_all(outbox, flooding)
    outbox.close()
    outbox = opened()
    assert outbox.is_reserve_used
    more = accept_all(outbox, flooding)
    assert len(more) < len(numbers) / PARTS, "what its last part had left"
    assert outbox.accept([dataclasses.replace(EVENT, user=ROOT)])
    filled.unlink()
    outbox.tidy()
    fill(disk)
    assert outbox.accept([flooding])


def test_a_whole_reserve_leaves_no_count_for_the_next_start(disk, opened):
    outbox = opened()
    filled = fill(disk)
    accept_all(outbox, dataclasses.replace(EVENT, user=33))
    assert json.loads(outbox.metadata()["reserve"]) == {"33": PARTS // 4}
    filled.unlink()
    outbox.tidy()
    assert "reserve" not in outbox.metadata()


@pytest.mark.parametrize("text", ["", "[1]", '{"root": 1}', '{"33": "x"}', '{"33": null}', "9" * 5000])
def test_a_damaged_count_is_none(disk, text):
    reserve = Reserve(disk / "reserve", SIZE)
    reserve.restore(text)
    assert reserve.given == "{}"


def test_without_a_reserve_a_full_disk_accepts_nothing(disk, opened):
    outbox = opened(0)
    fill(disk)
    with pytest.raises(NotStored) as refused:
        outbox.accept([EVENT])
    assert refused.value.reason == "database or disk is full"


def test_what_was_accepted_on_a_full_disk_is_there_afterwards(disk, opened):
    outbox = opened()
    fill(disk)
    numbers = accept_all(outbox)
    outbox.close()
    assert [each.number for each in opened().waiting(10_000)] == numbers == list(range(1, len(numbers) + 1))


def test_what_was_refused_leaves_no_gap(disk, opened):
    outbox = opened()
    filled = fill(disk)
    numbers = accept_all(outbox)
    filled.unlink()
    assert outbox.accept([EVENT]) == [len(numbers) + 1]


def test_a_delivery_is_recorded_from_the_reserve(disk, opened):
    outbox = opened()
    outbox.accept([EVENT])
    fill(disk)
    outbox.record(1, [], done=True)
    assert outbox.waiting_count() == 0


def test_a_fact_is_not_kept_from_the_reserve(disk, opened):
    outbox = opened()
    fill(disk)
    with pytest.raises(NotStored):
        for number in range(1000):
            outbox.set_metadata("anything", str(number) * 1000)
    assert used(disk / "reserve") == SIZE
    assert outbox.accept([EVENT]) == [1]


def test_with_room_again_the_reserve_is_set_aside_again(disk, opened):
    outbox = opened()
    filled = fill(disk)
    accept_all(outbox)
    outbox.tidy()
    assert outbox.is_reserve_used
    filled.unlink()
    outbox.tidy()
    assert not outbox.is_reserve_used
    assert used(disk / "reserve") == SIZE


def test_on_a_disk_that_was_full_before_the_start_the_reserve_serves(disk, opened):
    outbox = opened()
    outbox.accept([EVENT])
    outbox.close()
    fill(disk)
    outbox = opened()
    assert not outbox.is_reserve_used
    assert outbox.accept([EVENT]) == [2]


def test_a_disk_that_was_full_before_the_first_reserve_is_told(disk, opened):
    outbox = opened(0)
    outbox.accept([EVENT])
    outbox.close()
    filled = fill(disk)
    outbox = opened()
    assert outbox.is_reserve_used
    filled.unlink()
    outbox.tidy()
    assert not outbox.is_reserve_used
    assert outbox.accept([EVENT]) == [2]
