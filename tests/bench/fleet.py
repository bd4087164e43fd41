"""A fleet: a document for each of many devices, its password sealed to that device; applied twice.

One machine and virtual devices: folders of data with keys of their own, in memory or on its disk. No SSH, no real flash.
"""

from __future__ import annotations

import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from device_ui.config import Device, Folders
from device_ui.provisioning import apply, document, sections
from device_ui.settings import keys
from device_ui.storage import files
from tests.helpers.product import PASSWORD

DEVICES = 2000


@dataclass(frozen=True)
class Pass:
    """What one pass over all documents came to: devices that changed, bytes written, seconds, MiB of the largest process."""

    changed: int
    written: int
    seconds: float
    memory: float

    def __str__(self) -> str:
        return f"changed={self.changed}, {self.written} bytes written, {self.seconds:.1f} s, {self.memory:.0f} MiB"


def make(folder: Path) -> Device:
    """Make a device as its mail hook leaves it at its first start, and its document beside it."""
    device = Device.plain(Folders(folder / "data", folder / "run", folder / "etc"))
    for path, mode, owner in (*device.layout("mail"), *device.layout("web")):
        files.make_folder(path, mode, owner)
    public = keys.load_pair(device.folders.private_key, device.folders.public_key).public
    smtp = {"host": "relay.example.com", "port": 587, "sender_name": f"UPS {folder.name}", "account": "ups@example.com"}
    content = {"device_ui": 1, "smtp": {**smtp, "password": PASSWORD}, "recipients": {"noc@example.com": "fault"}}
    (folder / "document.json").write_text(json.dumps(sections.seal_document(content, public, None)))
    return device


def apply_one(folder: Path) -> tuple[bool, int, int]:
    """Apply the document of a device; whether it changed, the bytes that were written, and the KiB of this process."""
    device = Device.plain(Folders(folder / "data", folder / "run", folder / "etc"))
    with counted() as written:
        steps = apply.plan(document.read((folder / "document.json").read_bytes()), device)
        apply.write(steps, device)
    return bool(apply.summary(steps)["changed"]), sum(written), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def counted() -> Iterator[list[int]]:
    """Count the bytes that this process writes to files."""
    written: list[int] = []
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        done = real(descriptor, data)
        written.append(done)
        return done

    os.write = write
    try:
        yield written
    finally:
        os.write = real


def passes(devices: int) -> list[Pass]:
    """Make so many devices and apply their documents twice, in four processes."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name, ProcessPoolExecutor(4) as pool:
        folders = [Path(name, f"{number:04}") for number in range(devices)]
        list(pool.map(make, folders, chunksize=25))
        found = []
        for _ in range(2):
            begun = time.monotonic()
            done = list(pool.map(apply_one, folders, chunksize=25))
            seconds = time.monotonic() - begun
            changed, written, memory = zip(*done, strict=True)
            found.append(Pass(sum(changed), sum(written), seconds, max(memory) / 1024))
        return found


def report() -> None:
    """Print both passes."""
    for name, each in zip(("first", "second"), passes(DEVICES), strict=True):
        print(f"{DEVICES} documents with sealed passwords, {name} pass: {each}; load {os.getloadavg()[0]:.1f}")
