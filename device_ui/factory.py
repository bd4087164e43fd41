"""Factory reset: the key is destroyed first, then the rest; what a power cut interrupts is finished at the next start.

A mark in the data folder says that a reset was begun. While it stands, nothing starts until the reset is finished: a
device must not run on half of what it had. Nobody can make a mark by damaging a file, and without one nothing is erased.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from device_ui import places
from device_ui.device import Folders
from device_ui.errors import DeviceUIError

MARK = "factory-reset-begun"
# sd_booted(3)
BOOTED = "/run/systemd/system"
SOCKETS = ("device-ui-web.socket", "device-ui-mailhook.socket")
SERVICES = ("device-ui-web.service", "device-ui-mailhook.service")
# What a new device starts with.
FIRST = ("device-ui-setup-code.service", "device-ui-certificate-first.service")


@contextlib.contextmanager
def units_stopped(folders: Folders) -> Iterator[list[str]]:
    """Stop both processes and their sockets; yield the sockets that are started again in the end: those that were active.

    A device whose sockets are stopped already, to make an image of it, stays as it is. Without systemd, and for any data
    folder but the system's, do nothing.
    """
    if os.fspath(folders.data) != places.DATA or not os.path.isdir(BOOTED):
        yield []
        return
    active = [unit for unit in SOCKETS if _systemctl("is-active", "--quiet", unit) == 0]
    _systemctl("stop", *SOCKETS, *SERVICES)
    try:
        yield active
    finally:
        if active:
            _systemctl("start", *active, *FIRST)


def _systemctl(*words: str) -> int:
    return subprocess.run(["/bin/systemctl", *words], check=False).returncode


def reset(folders: Folders) -> None:
    """Erase everything that was set and recorded on this device. Raises `DeviceUIError`: then the next start goes on."""
    mark = folders.data / MARK
    with _told(mark):
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    finish(folders)


def finish(folders: Folders) -> bool:
    """Go on with a reset that was begun; whether there was one. Raises `DeviceUIError`."""
    mark = folders.data / MARK
    if not mark.exists():
        return False
    with _told(mark):
        # Whoever began may have died at once: nothing is erased before the mark is on flash.
        _fsync(mark)
        _fsync(folders.data)
    for path in _doomed(folders):
        with _told(path):
            _erase(path)
    with _told(mark):
        for room in _rooms(folders):
            if room.is_dir():
                _fsync(room)  # a name that somebody else removed must be gone before the mark is
        mark.unlink()
        _fsync(folders.data)
    return True


def _doomed(folders: Folders) -> Iterator[Path]:
    """Every file of ours, the private key first: without it the stored password is nothing any more."""
    yield from _siblings(folders.key_file)
    if folders.stored_credential:
        yield folders.stored_credential
    for room in _rooms(folders):
        with contextlib.suppress(FileNotFoundError):
            yield from sorted(each for each in room.iterdir() if each.is_file() or each.is_symlink())


def _rooms(folders: Folders) -> list[Path]:
    files = (folders.settings, folders.key_file, folders.public_key, folders.administrator)
    return [*(path.parent for path in files), folders.tls]


def _siblings(path: Path) -> list[Path]:
    """A file, what was set aside of it, and what a power cut left of its next version."""
    found = [*path.parent.glob(f"{path.name}*"), *path.parent.glob(f".{path.name}*")]
    return sorted(found, key=lambda each: (each != path, each.name))


def _erase(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not path.is_symlink():
            # Flash may keep the old blocks all the same; it costs nothing, and on a plain disk it helps.
            size = path.stat().st_size
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.write(descriptor, os.urandom(min(size, 64 * 1024)))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        path.unlink()
        _fsync(path.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"{path.name}: {os.strerror(error.errno or 0)}"
        raise DeviceUIError(
            f"a factory reset is not finished ({reason}); run device-ui factory-reset as root"
        ) from error
