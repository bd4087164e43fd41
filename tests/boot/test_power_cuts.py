"""The plug is pulled while an operator saves and the firmware raises events. The device is booted again on disks that the
cut could have left: what was acknowledged is there, and every accepted event is mailed.

`PULLS=` says how many cuts are tried; two machines run at a time.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.boot import write_log
from tests.boot.image import Image
from tests.boot.machine import Machine, copy
from tests.boot.packages import Tree
from tests.boot.site import Load, Site, Visitor, answers, numbers_in_history, setup_code, until
from tests.helpers.product import ADMIN_PASSWORD
from tests.servers.authority import Authority

Figure = Callable[[str, object], None]
pytestmark = pytest.mark.timeout(1800)

PULLS = int(os.environ.get("PULLS", "12"))
AT_A_TIME = 2
EVENTS, UPDATES = 60, 6
LIAR = "[Service]\nEnvironment=LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libeatmydata.so.1\n"


@dataclass
class Record:
    """A session whose every write was logged, and what was acknowledged when: pairs of a size of the log and a value."""

    before: Path
    log: Path
    events: list[tuple[int, int]] = field(default_factory=list)
    begun: list[tuple[int, str]] = field(default_factory=list)
    saved: list[tuple[int, str]] = field(default_factory=list)
    mailed: set[int] = field(default_factory=set)

    @property
    def first(self) -> int:
        """The size of the log when the first settings were saved."""
        return self.saved[0][0]


def recorded(image: Image, disk: Path, folder: Path, site: Site, *, updates: int = UPDATES) -> Record:
    """Use the device on `disk` from its first start, and pull the plug."""
    record = Record(disk, folder / "log")
    with Machine(image, copy(disk, folder / "used.img"), site.port, log=record.log) as machine:
        machine.start()
        until(lambda: answers(machine), 300, "the page")
        visitor = Visitor(machine)
        visitor.set_up(setup_code(machine))

        def position() -> int:
            return record.log.stat().st_size

        def save(name: str) -> None:
            record.begun.append((position(), name))
            assert visitor.update(**{**site.form, "sender_name": name}).status == 303
            record.saved.append((position(), name))

        save("name 0")
        with Load(machine, lambda number: record.events.append((position(), number))) as load:
            for number in range(1, updates + 1):
                until(lambda: len(load.accepted) >= number * EVENTS // (updates + 1), 240, "the events")  # noqa: B023
                save(f"name {number}")
            until(lambda: len(load.accepted) >= EVENTS, 240, "the events")
            machine.pull_the_plug()
    record.mailed = site.numbers()
    return record


@pytest.fixture(scope="module")
def installed(image: Image, package: Path, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """The package in a root file system, as an image builder puts it there, and nginx configured."""
    folder = tmp_path_factory.mktemp("installed")
    with Tree(image, folder / "root") as tree:
        tree.run("dpkg", "--install", tree.put(package, "/root/device-ui.deb"))
        tree.configure(site.files)
        yield tree


def lost(record: Record, machine: Machine, site: Site, position: int) -> list[str]:
    """Boot after a cut at `position` of the log; the promises that were broken."""
    machine.start()
    broken = []
    if (state := machine.settled()) != "running":
        broken.append(f"systemd is {state}")
    until(lambda: answers(machine), 300, "the page after the cut")
    accepted = {number for at, number in record.events if at <= position}
    kept = numbers_in_history(machine)
    broken += [f"event {number} was accepted and is lost" for number in sorted(accepted - kept)]
    visitor = Visitor(machine)
    visitor.post("/login", password=ADMIN_PASSWORD)
    shown = re.search(r'name="sender_name"[^>]*value="([^"]*)"', visitor.get("/smtp").text)
    least = [name for at, name in record.saved if at <= position][-1]
    allowed = {least, *(name for at, name in record.begun if at <= position and name > least)}
    if not shown or shown[1] not in allowed:
        broken.append(f"{shown[1] if shown else 'nothing'} is in the tab, {allowed} were saved")
    if not broken:
        until(lambda: accepted <= record.mailed | site.numbers(), 300, "a mail about every accepted event")
    return broken


def pulled(image: Image, record: Record, folder: Path, authority: Authority, position: int, seed: int) -> str:
    """One cut; what was broken, or an empty text."""
    folder.mkdir()
    disk = copy(record.before, folder / "cut.img")
    pending, kept = write_log.cut(record.log, disk, position, random.Random(seed))
    try:
        with Site(folder, authority) as site, Machine(image, disk, site.port, processors=1) as machine:
            broken = lost(record, machine, site, position)
            console = machine.console[-2000:] if broken else ""
    finally:
        disk.unlink()
    return "\n".join([f"cut at {position}: {kept} of {pending} sectors kept", *broken, console]) if broken else ""


def test_no_cut_loses_what_was_acknowledged(
    image: Image,
    installed: Tree,
    site: Site,
    authority: Authority,
    tmp_path: Path,
    figure: Figure,
) -> None:
    record = recorded(image, installed.disk(tmp_path / "installed.img"), tmp_path, site)
    ends = [each.end for each in write_log.requests(record.log) if each.end >= record.first]
    chance = random.Random(PULLS)
    positions = [ends[-1], *chance.sample(ends, PULLS - 1)]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        tries = [
            pool.submit(pulled, image, record, tmp_path / str(number), authority, position, number)
            for number, position in enumerate(positions)
        ]
        broken = [each for each in (one.result() for one in tries) if each]
    figure("power cuts", f"{PULLS} disks from {len(ends)} writes and flushes, {len(broken)} broke a promise")
    assert broken == [], "\n\n".join(broken)


def test_units_that_never_sync_are_found_bad(
    image: Image, installed: Tree, site: Site, authority: Authority, tmp_path: Path
) -> None:
    for unit in ("device-ui-web", "device-ui-mailhook"):
        folder = installed.path / f"etc/systemd/system/{unit}.service.d"
        folder.mkdir()
        (folder / "liar.conf").write_text(LIAR)
    record = recorded(image, installed.disk(tmp_path / "installed.img"), tmp_path, site, updates=1)
    # At the instant of an answer, and the disk keeps nothing that was not flushed.
    broken = pulled(image, record, tmp_path / "cut", authority, record.events[-1][0], seed=NOTHING_KEPT)
    assert "was accepted and is lost" in broken, broken


def seed_that_keeps_nothing() -> int:
    return next(seed for seed in range(100) if random.Random(seed).choice(write_log.SHARES) == 0.0)


NOTHING_KEPT = seed_that_keeps_nothing()
