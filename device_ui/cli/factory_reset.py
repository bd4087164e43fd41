"""Factory reset: erase the key first, then the rest. A reset that a power cut interrupts is finished at the next start.

A mark in the data folder records that a reset has begun. While it exists, each process finishes the reset before it starts: a
device must not run on half of its data. A damaged file never makes a mark, and without a mark nothing is erased.

The folders belong to users that root does not trust. They can hold anything, and change while root removes it. So each name
is resolved in an open folder, no link is followed, and nothing is written into a file with a second name. At the end the
folders are empty, or the reset fails.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from device_ui import paths
from device_ui.config import Folders
from device_ui.errors import DeviceUIError
from device_ui.storage.files import open_folder

MARK = "factory-reset-begun"
# sd_booted(3)
BOOTED = "/run/systemd/system"
SOCKETS = ("device-ui-web.socket", "device-ui-mailhook.socket")
SERVICES = ("device-ui-web.service", "device-ui-mailhook.service")
# The limit for a folder that a process still writes to. 100,000 files take some ten seconds on slow flash.
EMPTY_SECONDS = 300.0
STILL_WRITTEN = "a process still writes to it; stop that process"
# The units that a new device starts first.
FIRST = ("device-ui-setup-code.service", "device-ui-certificate-first.service")


@contextlib.contextmanager
def units_stopped(folders: Folders) -> Iterator[list[str]]:
    """Stop both processes and their sockets; yield the sockets that were active, which are started again at the end.

    Sockets that were stopped before, to make an image of the device, stay stopped. Do nothing without systemd, or for a data
    folder other than the system's.
    """
    if os.fspath(folders.data) != paths.DATA or not os.path.isdir(BOOTED):
        yield []
        return
    # Only what was active: the reset of a device that is made into an image must not start it.
    active = [unit for unit in SOCKETS if _systemctl("is-active", "--quiet", unit) == 0]
    # The sockets with the services: a connection would start a service again.
    _systemctl("stop", *SOCKETS, *SERVICES)
    try:
        yield active
    finally:
        if active:
            _systemctl("start", *active, *FIRST)


def _systemctl(*words: str) -> int:
    # Imported here: both processes look for an interrupted reset at their start, and 1 MiB would stay in each.
    import subprocess

    return subprocess.run(["/bin/systemctl", *words], check=False).returncode


def reset(folders: Folders) -> None:
    """Erase all settings and records of this device. Raises `DeviceUIError`; the next start then continues."""
    mark = folders.data / MARK
    with _unfinished(mark):
        # A link in its place is not followed, and a pipe is not waited for. `finish` syncs it.
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600))
    finish(folders)


def finish(folders: Folders) -> bool:
    """Continue a reset that has begun; return whether there was one. Raises `DeviceUIError`."""
    mark = folders.data / MARK
    # The mark alone decides whether anything is erased, and costs each start one stat(2).
    if not mark.exists():
        return False
    with _unfinished(mark):
        # The process that began may have ended at once: the mark must be on flash before anything is erased.
        _fsync(mark)
        _fsync(folders.data)
    # Keys first, each synced: whatever happens then, the stored password can never be opened again.
    for path in _secrets(folders):
        # An error leaves the mark: the next start, or a person, continues the reset.
        with _unfinished(path):
            _destroy(path)
    # One limit for all folders: a process that writes for ever must not keep root for ever.
    end = time.monotonic() + EMPTY_SECONDS
    for path in _folders(folders):
        with _unfinished(path):
            _empty(path, end)
    with _unfinished(mark):
        # Last: until then every start continues the reset.
        mark.unlink()
        _fsync(folders.data)
    return True


def _secrets(folders: Folders) -> Iterator[Path]:
    """Yield the files to overwrite. The private key is first: without it the stored password is worthless."""
    yield from _siblings(folders.key_file)
    if folders.stored_credential:
        yield folders.stored_credential
    yield from _siblings(folders.tls / "key.pem")


def _folders(folders: Folders) -> list[Path]:
    files = (folders.settings, folders.key_file, folders.public_key, folders.administrator)
    return [*(path.parent for path in files), folders.tls]


def _siblings(path: Path) -> list[Path]:
    """Return a file, its quarantined versions, and the new version that a power cut left."""
    # A quarantined key is a key: it may open an old backup of the settings.
    found = [*path.parent.glob(f"{path.name}*"), *path.parent.glob(f".{path.name}*")]
    return sorted(found, key=lambda each: (each != path, each.name))


def _destroy(path: Path) -> None:
    """Overwrite a file that has one name, and remove it durably; leave a folder to `_empty`."""
    with contextlib.suppress(FileNotFoundError), open_folder(path.parent) as folder:
        if stat.S_ISDIR(os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode):
            return
        _overwrite(path.name, folder)
        os.unlink(path.name, dir_fd=folder)
        os.fsync(folder)


def _overwrite(name: str, folder: int) -> None:
    # Flash may keep the old blocks; on a plain disk overwriting helps.
    # Before it is opened: opening a device or a pipe can have an effect of its own.
    if not _is_ours_alone(os.stat(name, dir_fd=folder, follow_symlinks=False), folder):
        return
    descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        found = os.fstat(descriptor)
        if _is_ours_alone(found, folder):
            # A key file has 1 KiB; a larger one was put there by its owner, to keep root busy.
            os.write(descriptor, os.urandom(min(found.st_size, 64 * 1024)))
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_ours_alone(found: os.stat_result, folder: int) -> bool:
    """Return whether a file is the folder owner's and has one name: a hard link can lead to a file of any user."""
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == os.fstat(folder).st_uid


def _empty(path: Path, end: float) -> None:
    """Remove the content of a folder, durably. Raises `OSError`, also when it is not empty at `end` (monotonic).

    An inner folder is renamed before it is opened, which fails for a mount point. Its own folders are moved up before it is
    removed, so one is open at a time, however deep they are.
    """
    with contextlib.suppress(FileNotFoundError), open_folder(path) as folder:
        # Listed again until nothing is left: a process may have written since.
        while names := os.listdir(folder):
            for name in names:
                if time.monotonic() >= end:
                    raise OSError(STILL_WRITTEN)
                with contextlib.suppress(FileNotFoundError):
                    _remove(name, folder, end)
        os.fsync(folder)


def _remove(name: str, folder: int, end: float) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except (IsADirectoryError, PermissionError):
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise
        # A mount point cannot be renamed (EBUSY): what is mounted there is not this device's data.
        renamed = _free_name()
        os.rename(name, renamed, src_dir_fd=folder, dst_dir_fd=folder)
        _remove_folder(renamed, folder, end)


def _remove_folder(name: str, parent: int, end: float) -> None:
    # A link in its place is not followed: the error ends the reset.
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=parent)
    try:
        for inner in os.listdir(descriptor):
            if time.monotonic() >= end:
                raise OSError(STILL_WRITTEN)
            try:
                os.unlink(inner, dir_fd=descriptor)
            except (IsADirectoryError, PermissionError):
                if not stat.S_ISDIR(os.stat(inner, dir_fd=descriptor, follow_symlinks=False).st_mode):
                    raise
                os.rename(inner, _free_name(), src_dir_fd=descriptor, dst_dir_fd=parent)
        os.rmdir(name, dir_fd=parent)
    finally:
        os.close(descriptor)


def _free_name() -> str:
    return f".reset-{os.getpid()}-{time.monotonic_ns()}"


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _unfinished(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"{path.name}: {os.strerror(error.errno) if error.errno else error}"
        raise DeviceUIError(
            f"a factory reset is not finished ({reason}); run device-ui factory-reset as root"
        ) from error
