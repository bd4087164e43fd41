"""The product's own recovery on one disk, in this process: what both processes do when they start, and what they find.

As a program it starts on one folder after another, for strace: ``python -m tests.power.recovery MAKER_FOLDER [--use]`` reads
the folders from standard input, and marks in the trace which one it is at. With ``--use`` the device is used, too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import stat
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_ui.cli import factory_reset
from device_ui.config import Device, Folders
from device_ui.errors import Damaged, DeviceUIError
from device_ui.mail.events import Event
from device_ui.mail.outbox.disk_reserve import Reserve
from device_ui.mail.outbox.outbox import Outbox
from device_ui.settings import keys, rotation, seal
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import Recipients
from device_ui.settings.store import RecipientStore, Store
from device_ui.storage import files, toml_file
from device_ui.web.auth.administrator import Administrator, Record
from device_ui.web.server import prepare

# Of an event; `promises` looks at the number, the text and whether it waits.
COLUMNS = "number, text, waiting, code, type, time, accepted, source, mail, clock, about"
PROBE = "the first event after the power cut"


@dataclass(frozen=True)
class Ledger:
    """What the ledger holds: events by number, deliveries, small facts, the number that a new event gets, and the events whose
    outcomes the engine does not have."""

    events: Mapping[int, tuple[Any, ...]]
    deliveries: Sequence[tuple[Any, ...]]
    facts: Mapping[str, str]
    fresh: int
    outcomes: frozenset[int]

    @property
    def content(self) -> tuple[Any, ...]:
        """All but the ledger's own name, to compare; an empty one is as good as none."""
        facts = {name: value for name, value in self.facts.items() if name != "ledger_id"}
        return tuple(self.events.items()), tuple(self.deliveries), tuple(facts.items())


@dataclass(frozen=True)
class Found:
    """What the product found on a disk when it started. `opened` is the mail password as the hook opens it."""

    settings: SmtpSettings | None
    opened: str | None
    recipients: Recipients
    administrator: Record | None
    public_before: bytes | None
    privates_before: frozenset[bytes]
    is_settings_before: bool
    ledger: Ledger
    modes: Mapping[str, int]
    strange: Sequence[str]


def recover(device: Device) -> Found:
    """Start on a disk and look. Raises `DeviceUIError` where the product does not start."""
    folders = device.folders
    public, privates = _public(folders.public_key), _privates(folders.private_key)
    is_settings = folders.settings.exists()
    administrator, outbox = started(device)
    settings = Store(folders.settings).load().settings
    recipients = RecipientStore(folders.recipients).load().settings or ()
    with contextlib.closing(outbox):
        ledger = _told(outbox)
    modes = _modes(str(folders.data))
    strange = sorted(path for path in modes if ".damaged-" in path)
    opened = opened_password(settings, keys.load_pairs(folders.private_key)) if settings else None
    return Found(settings, opened, recipients, administrator, public, privates, is_settings, ledger, modes, strange)


def started(device: Device) -> tuple[Record | None, Outbox]:
    """What the command line, `web.server.serve` and `mail.daemon.Daemon` do to the disk when they start."""
    factory_reset.finish(device.folders)
    administrator = prepare(device, quiet=True)
    for folder in device.layout("mail"):
        files.make_folder(*folder)
    pair_at = (device.folders.private_key, device.folders.public_key)
    keys.load_pair(*pair_at)
    with contextlib.suppress(Damaged):  # as the daemon does
        rotation.finish(Store(device.folders.settings), *pair_at)
    reserve = Reserve(device.folders.ledger.with_name("reserve"), device["ledger.reserve"])
    limits = {"rows_maximum": device["ledger.rows"], "bytes_maximum": device["ledger.bytes"]}
    return administrator, Outbox(device.folders.ledger, **limits, reserve=reserve)


_opened: dict[tuple[str | None, bytes], str | None] = {}


def opened_password(settings: SmtpSettings, pairs: Sequence[keys.KeyPair]) -> str | None:
    """The mail password, None when none of the keys opens it."""
    for pair in pairs:
        known = (settings.sealed, pair.private)
        if known not in _opened:
            _opened[known] = None
            with contextlib.suppress(DeviceUIError):
                _opened[known] = seal.unseal(settings.sealed or "", pair.private, settings.bound_to)
        if _opened[known] is not None:
            return _opened[known]
    return None


_verified: dict[tuple[str, str, str], bool] = {}


def verifies(record_: Record, chosen: str, folder: Path) -> bool:
    """Whether a password opens this record, by the product itself; remembered, since scrypt takes its time."""
    known = (record_.salt, record_.hash, chosen)
    if known not in _verified:
        path = folder / "administrator.toml"
        values = {name: getattr(record_, name) for name in ("salt", "hash", "n", "r", "p")}
        path.write_bytes(toml_file.encode("for a check", values))
        _verified[known] = Administrator(path).verify(chosen) is not None
    return _verified[known]


def at(device: Device, flash_folder: Path) -> Device:
    """The same device with its data on another disk."""
    folders = device.folders
    return dataclasses.replace(device, folders=Folders(flash_folder / "data", folders.run, folders.etc))


def _told(outbox: Outbox) -> Ledger:
    events = {row[0]: tuple(row) for row in outbox.read(f"SELECT {COLUMNS} FROM event ORDER BY number", ())}
    deliveries = outbox.read(
        "SELECT number, recipient, verdict, step, reply, time FROM delivery ORDER BY number, recipient", ()
    )
    facts = dict(outbox.metadata())
    outcomes = frozenset(number for (number,) in outbox.read("SELECT number FROM outcome", ()))
    [fresh] = outbox.accept([Event("303", "fault", time.time(), time.time(), "", PROBE)])
    return Ledger(events, deliveries, facts, fresh, outcomes)


def _modes(data: str) -> dict[str, int]:
    """The permission bits of every file and folder, by its path below the data folder."""
    paths = [os.path.join(room, name) for room, *names in os.walk(data) for name in itertools.chain(*names)]
    return {path.removeprefix(f"{data}/"): stat.S_IMODE(os.stat(path).st_mode) for path in paths}


def _public(path: Path) -> bytes | None:
    with contextlib.suppress(DeviceUIError):
        return keys.load_public(path)
    return None


def _privates(path: Path) -> frozenset[bytes]:
    """The public halves of every private key that is there."""
    with contextlib.suppress(DeviceUIError):
        return frozenset(pair.public for pair in keys.load_pairs(path))
    return frozenset()


def main() -> None:
    """Start on every disk that is named on standard input; close the ledger as an exit does."""
    os.umask(0o022)
    device = Device.load(Folders(Path("/nonexistent"), Path("/nonexistent"), Path(sys.argv[1])))
    for place, line in enumerate(sys.stdin):
        _mark("disk", place)
        here = at(device, Path(line.rstrip("\n")))
        with contextlib.suppress(DeviceUIError), contextlib.closing(started(here)[1]) as outbox:
            if "--use" in sys.argv:
                use(here, outbox)
    _mark("disk", -1)


def use(device: Device, outbox: Outbox) -> None:
    """Save what is stored already, and raise an event; what was acknowledged is marked."""
    store = Store(device.folders.settings)
    settings, revision = store.read()
    if settings:
        store.save(settings, revision)
        _mark("settings", int(settings.sender_name.rpartition(" ")[2]))
    [number] = outbox.accept([Event("303", "fault", time.time(), time.time(), "", PROBE)])
    _mark("event", [number, PROBE])


def _mark(*words: object) -> None:
    marks = os.open("/dev/null", os.O_WRONLY)
    os.write(marks, f"mark {json.dumps(words)}".encode())
    os.close(marks)


if __name__ == "__main__":
    main()
