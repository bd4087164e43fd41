"""The real hook on a disk without room: alarms from the reserve, then a clear no, and all is well when there is room."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from device_ui.config import Folders
from device_ui.errors import HookError
from device_ui.mail import client
from tests.helpers.product import Product, wait_for
from tests.mail.test_daemon import save, state
from tests.servers.scripted import ScriptedServer

MIB = 1024 * 1024
# Long enough that 1 MiB is used up in seconds.
TEXT = "x" * 3000


class FullDisk:
    """A device whose flash is a disk of 4 MB, and what fills it."""

    def __init__(self, product: Product) -> None:
        self.product, self.folder = product, product.folders.data
        self.filler = self.folder / "filler"
        self.ledger = product.folders.ledger
        self.reserve = self.ledger.with_name("reserve")

    def fill(self) -> None:
        """Take what is left of it, to the last byte."""
        with self.filler.open("ab", buffering=0) as file:
            for size in (65536, 4096, 1):
                while self.room >= size:
                    file.write(b"x" * min(size, self.room))

    @property
    def room(self) -> int:
        space = os.statvfs(self.folder)
        return space.f_bavail * space.f_frsize

    def free(self) -> None:
        self.filler.unlink()

    def alarm(self, text: str = TEXT) -> int:
        return client.raise_event(self.product.folders.socket, "303", text)

    def alarms(self) -> tuple[list[int], HookError]:
        """Alarms until one is refused: the numbers of those accepted, and the refusal."""
        numbers = []
        try:
            for _ in range(100_000):
                numbers.append(self.alarm())
        except HookError as refused:
            return numbers, refused
        raise AssertionError("the disk never was full")

    def history(self) -> dict[int, str]:
        """The state of every event in the ledger."""
        told = client.history(self.product.folders.socket, {"limit": 0})
        return {line["event"]["number"]: line["event"]["state"] for line in told if "event" in line}

    @property
    def problem(self) -> object:
        return state(self.product)["problem"]


@pytest.fixture
def disk(tmp_path) -> Iterator[FullDisk]:
    """A device with its folders on a disk of 4 MB; its hook is stopped before the disk goes."""
    folder = tmp_path / "data"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True, timeout=60)
    try:
        with Product(tmp_path) as product:
            product.folders = Folders(folder, tmp_path / "run", tmp_path / "etc")
            yield FullDisk(product)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, timeout=60)


def with_settings(disk: FullDisk, settings: str) -> None:
    disk.product.folders.etc.mkdir()
    (disk.product.folders.etc / "device.toml").write_text(settings)


def mailed(server: ScriptedServer) -> list[int]:
    """The number of each mail that the server took, in order."""
    return [int(re.search(rb"Message-ID: <([0-9]+)\.", mail)[1]) for mail in server.mails]


def test_a_full_disk_accepts_from_the_reserve_then_refuses_and_recovers(disk):
    disk.product.start_hook()
    assert disk.reserve.stat().st_size == MIB
    before = [disk.alarm() for _ in range(3)]
    disk.fill()
    accepted, refused = disk.alarms()
    assert len(accepted) > 200
    assert (refused.word, refused.reason) == ("not-stored", "database or disk is full")
    assert not disk.reserve.exists()
    disk.free()
    after = disk.alarm()
    wait_for(disk.reserve.exists, what="the reserve")
    assert list(disk.history()) == [*range(after, 0, -1)]
    assert [*before, *accepted, after] == [*range(1, after + 1)]


def test_a_full_disk_is_told_and_its_end_too(disk):
    with ScriptedServer() as server:
        disk.product.start_hook()
        save(disk.product, server.port)
        wait_for(lambda: disk.problem == "")
        disk.fill()
        disk.alarm()
        wait_for(lambda: disk.problem == "full")
        assert disk.alarms()[1].word == "not-stored"
        disk.free()
        disk.alarm()
        wait_for(lambda: disk.problem == "", what="the end of the fault")
        assert disk.reserve.stat().st_size == MIB
        disk.product.stop("mailhook")


def test_what_is_delivered_on_a_full_disk_is_not_sent_twice(disk):
    with_settings(disk, "[mail]\ndigest_window = 0\nhourly_budget = 100000\n")
    with ScriptedServer() as server:
        disk.product.start_hook()
        save(disk.product, server.port)
        disk.alarm()
        wait_for(lambda: disk.history() == {1: "delivered"})
        disk.fill()
        accepted, _ = disk.alarms()
        disk.free()
        last = disk.alarm()
        wait_for(lambda: set(disk.history().values()) == {"delivered"}, what="all mail")
        disk.product.stop("mailhook")
        disk.product.start_hook()
        disk.alarm()
        wait_for(lambda: last + 1 in mailed(server))
        disk.product.stop("mailhook")
    assert mailed(server) == [1, *accepted, last, last + 1]


def test_a_disk_that_was_full_before_the_hook_started_accepts_from_the_reserve(disk):
    disk.product.start_hook()
    disk.alarm()
    disk.product.stop("mailhook")
    disk.fill()
    disk.product.start_hook()
    accepted, refused = disk.alarms()
    assert len(accepted) > 200
    assert refused.word == "not-stored"
    assert list(disk.history()) == [*range(accepted[-1], 0, -1)]


def test_a_disk_that_never_had_room_for_the_reserve_is_told_until_it_has(disk):
    disk.product.start_hook()
    with ScriptedServer() as server:
        save(disk.product, server.port)
        disk.product.stop("mailhook")
        disk.reserve.unlink()
        disk.fill()
        disk.product.start_hook()
        assert disk.problem == "full"
        assert disk.alarms()[1].word == "not-stored"
        disk.free()
        disk.alarm()
        wait_for(lambda: disk.problem == "", what="the end of the fault")
        disk.product.stop("mailhook")


def test_a_new_device_on_a_full_disk_ends_with_one_line(disk):
    disk.fill()
    done = disk.product.command("mailhook")
    assert done.returncode == 74
    assert re.fullmatch(r"device-ui: \S+ could not be stored: [^\n]+\n", done.stderr)
