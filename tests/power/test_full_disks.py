"""Every fill level of a small disk: settings old or new, login and pages work, alarms from the reserve or a clear no."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from device_ui.config import Device, Folders
from device_ui.errors import DeviceUIError, HookError, NotStored
from device_ui.mail import client
from device_ui.mail.events import Event
from device_ui.mail.outbox.disk_reserve import Reserve
from device_ui.mail.outbox.outbox import Outbox
from device_ui.settings import keys
from device_ui.settings.store import Store
from device_ui.web.auth.administrator import Administrator
from device_ui.web.server import prepare
from tests.helpers.product import ADMIN_PASSWORD, Browser, Product, settings_form
from tests.power.faults import ALL, make_used

KIB = 1024
# Room that is left, in KiB; with as much as the last, all is as on an empty disk.
LEVELS = range(0, 49) if ALL else (0, 5)
INODES = range(0, 9) if ALL else (0, 1)
RESERVE = 64 * KIB
# So few events that the ledger itself never fills the disk.
ROWS = 100
MAKER = f"[ledger]\nreserve = {RESERVE}\nrows = {ROWS}\n"
# Events at each level: more than the reserve holds; and where only names are short, few.
MANY, SOME = 40, 5
# Two of them are a block of every file system.
TEXT = "x" * 2500
REASONS = ("No space left on device", "database or disk is full", "disk I/O error", "unable to open database file")


@dataclass(frozen=True)
class Disk:
    """A small disk at `folder`, and what fills it."""

    folder: Path

    @property
    def room(self) -> int:
        """Bytes that are left."""
        space = os.statvfs(self.folder)
        return space.f_bavail * space.f_frsize

    def leave(self, room: int) -> None:
        """Fill the disk until so many bytes are left, or a block less."""
        self.free()
        with (self.folder / "filler").open("wb", buffering=0) as file:
            for size in (64 * KIB, 4 * KIB, KIB):
                while self.room >= room + size:
                    if not file.write(b"x" * size):
                        break
            os.fsync(file.fileno())

    def leave_inodes(self, count: int) -> None:
        """Fill the disk with names until so many more can be made."""
        self.free()
        (self.folder / "fillers").mkdir(exist_ok=True)
        for number in range(os.statvfs(self.folder).f_ffree - count):
            (self.folder / "fillers" / str(number)).touch()

    def free(self) -> None:
        """Give all of it back."""
        (self.folder / "filler").unlink(missing_ok=True)
        for each in (self.folder / "fillers").glob("*"):
            each.unlink()


def mounted(folder: Path, *words: str) -> Iterator[Disk]:
    folder.mkdir()
    subprocess.run(["mount", *words, folder], check=True, timeout=20)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, timeout=20)


def tmpfs(folder: Path) -> Iterator[Disk]:
    return mounted(folder / "data", "-t", "tmpfs", "-o", "size=2m,nr_inodes=64", "tmpfs")


def ext4(folder: Path) -> Iterator[Disk]:
    """With blocks of 1 KiB and a journal, as a small partition of flash has."""
    image = folder / "image"
    image.write_bytes(bytes(4 * KIB * KIB))
    subprocess.run(["mkfs.ext4", "-q", "-b", "1024", "-m", "0", "-N", "64", image], check=True, timeout=20)
    return mounted(folder / "data", "-o", "loop", str(image))


# A container may have no loop devices.
DISKS = [tmpfs, ext4] if Path("/dev/loop-control").exists() else [tmpfs]


@pytest.fixture(params=DISKS, ids=lambda make: make.__name__)
def disk(request, tmp_path):
    """A disk of 2 MiB or 4 MiB, for the data folder of a device."""
    yield from request.param(tmp_path)


@pytest.fixture
def product(disk, tmp_path):
    """Both processes of a device in use on that disk, stopped before it goes."""
    with Product(tmp_path) as product:
        product.maker(MAKER)
        make_used(product.folders)
        yield product.start()


@dataclass
class Visit:
    """What a person and the firmware do at one fill level; `accepted` are all texts that the device has accepted."""

    product: Product
    browser: Browser
    accepted: list[str]
    saved: str = "Storage alarms"

    def problems(self, name: str, events: int) -> list[str]:
        """What is wrong after a login, an Update to this sender name and some events."""
        return [*self._enter(), *self._update(name), *self._raise(name, events)]

    def _enter(self) -> list[str]:
        newcomer = self.product.browser()
        if newcomer.post("/login", password=ADMIN_PASSWORD).status != 303:
            return ["no login"]
        pages = ("/smtp", "/recipients", "/history", "/others/event-codes")
        return [f"{path}: {page.status}" for path in pages for page in [newcomer.get(path)] if page.status != 200]

    def _update(self, name: str) -> list[str]:
        form = settings_form(2525, sender_name=name, password="")
        page = self.browser.update(**form)
        settings, _ = Store(self.product.folders.settings).read()
        found = settings.sender_name if settings else ""
        if page.status == 303:
            self.saved = name
        elif page.status != 507 or "Nothing was saved. " not in page.text or REASONS[0] not in page.text:
            return [f"an unclear page, {page.status}"]
        return [] if found == self.saved else [f"{found} stands and not {self.saved}"]

    def _raise(self, name: str, events: int) -> list[str]:
        wrong = []
        for number in range(events):
            text = f"{name} {number} {TEXT}"
            try:
                client.raise_event(self.product.folders.socket, "303", text)
                self.accepted.append(text)
            except HookError as error:
                wrong += [] if error.word == "not-stored" and error.reason in REASONS else [f"{error.word}: {error}"]
        return wrong

    def lost(self) -> list[str]:
        """Stop the hook: accepted events that are not in the ledger, and others that are."""
        self.product.stop("mailhook")
        outbox = Outbox(self.product.folders.ledger)
        held = [event.text for event in outbox.select("text NOT LIKE 'old %' ORDER BY number", ())]
        outbox.close()
        kept = self.accepted[-len(held) :]
        is_whole = held == kept and (kept == self.accepted or len(held) >= ROWS * 4 // 5)
        return [] if is_whole else [f"{len(self.accepted)} accepted, {len(held)} held"]


def at_every_level(
    product: Product, disk: Disk, levels: Sequence[int], leave: Callable[[int], None], events: int
) -> list[str]:
    """What is wrong at each level, and when there is room again."""
    visit, wrong = Visit(product, product.logged_in(), []), []
    for level in levels:
        leave(level)
        wrong += [f"{level} left: {each}" for each in visit.problems(f"Level {level}", events)]
        disk.free()
        before = len(visit.accepted)
        wrong += [f"room after {level}: {each}" for each in visit.problems(f"Room {level}", 1)]
        if visit.saved != f"Room {level}" or len(visit.accepted) != before + 1:
            wrong.append(f"room after {level}: not well again")
    # Of the first level only: later the reserve may not be whole yet.
    wrong += [] if visit.accepted[0] == f"Level {levels[0]} 0 {TEXT}" else ["the reserve held no event"]
    return wrong + visit.lost()


@pytest.mark.timeout(3600)
def test_at_every_fill_level_nothing_is_mixed_and_all_is_well_with_room(product, disk):
    assert at_every_level(product, disk, LEVELS, lambda level: disk.leave(level * KIB), MANY) == []


@pytest.mark.timeout(3600)
def test_with_every_number_of_inodes_left_nothing_is_mixed(product, disk):
    assert at_every_level(product, disk, INODES, disk.leave_inodes, SOME) == []


def begins(folders: Folders) -> list[str]:
    """What is wrong with a start here: everything made, or one error that says so."""
    device = Device.plain(folders)
    try:
        prepare(device, quiet=True)
        for folder in device.layout("mail"):
            folder[0].mkdir(parents=True, exist_ok=True)
        keys.load_pair(folders.private_key, folders.public_key)
        outbox = Outbox(folders.ledger, reserve=Reserve(folders.ledger.with_name("reserve"), RESERVE))
    except OSError:
        return []  # the folder of this test's own
    except NotStored as error:
        return [] if error.reason in REASONS else [error.reason]
    try:
        outbox.accept([Event("303", "fault", 1e9, 1e9, "", "first")])
    except DeviceUIError as error:
        return [] if isinstance(error, NotStored) else [repr(error)]
    finally:
        outbox.close()
    return []


def wipe(folders: Folders) -> None:
    for room in sorted(folders.data.rglob("*"), reverse=True):
        if room.name != "lost+found":
            room.rmdir() if room.is_dir() else room.unlink()


@pytest.mark.timeout(3600)
def test_a_first_start_at_every_fill_level_is_finished_when_there_is_room(disk, tmp_path):
    folders, wrong = Folders(disk.folder, tmp_path / "run", tmp_path / "etc"), []
    for level in LEVELS:
        disk.leave(level * KIB)
        wrong += [f"{level} left: {each}" for each in begins(folders)]
        disk.free()
        wrong += [f"room after {level}: {each}" for each in begins(folders)]
        made = (folders.administrator, folders.private_key, folders.public_key, folders.ledger)
        wrong += [f"room after {level}: no {path.name}" for path in made if not path.stat().st_size]
        wrong += [f"{path.name} was set aside" for path in folders.data.glob("*/*.damaged-*")]
        assert Administrator(folders.administrator).load() is not None
        wipe(folders)
    assert wrong == []
