"""Ownership: give folders and files of the data folder to the users of the two processes.

The uids of the users change with an image, and a restore by root leaves files of root. systemd-tmpfiles repairs the folders at
each boot but refuses the files ("unsafe path transition"): the owner of a folder may have linked a file of root into it.

So a file is opened without following a link and changed through its descriptor. Only a regular file with one name that is
directly in one of the folders is changed. With fs.protected_hardlinks=1, systemd's default, a user cannot give a second name to
a file that it cannot write (proc_sys_fs(5)). So a file with one name was put there by root or by the folder's user. With
fs.protected_hardlinks=0 nothing is changed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from device_ui.config import Device
from device_ui.errors import DeviceUIError
from device_ui.storage.files import open_folder

PROTECTED_HARDLINKS = "/proc/sys/fs/protected_hardlinks"
SECOND_NAME = "it has a second name (a hard link); look at it, then replace it with a copy"
# A name that was removed meanwhile, a symbolic link (O_NOFOLLOW), a socket (open(2)).
GONE_OR_NO_FILE = (errno.ENOENT, errno.ELOOP, errno.ENXIO)
# The bits of its folder's mode that a file gets: no execution, and no set-group-ID.
FILE_BITS = 0o666


def repair(device: Device) -> Iterator[Path]:
    """Yield each folder and file whose owner or mode was changed. Raises `DeviceUIError` at the end for those that were left."""
    _require_safety(device.folders.data)
    # Collected: one file that cannot be repaired must not keep the others from their processes.
    left: list[str] = []
    with open_folder(device.folders.data) as data:
        for path, mode, user, group in (each for owned in device.folder_owners().values() for each in owned):
            owner = device.owner(user, group)
            # -1 would keep the present owner without a word (chown(2)).
            if -1 in owner:
                raise DeviceUIError(f"{path}: the users of its process do not exist; create them first (sysusers.d)")
            try:
                yield from _repair_folder(path, data, owner, mode, left)
            except OSError as error:
                left.append(_reason(path, error))
    if left:
        raise DeviceUIError(f"left unchanged: {'; '.join(left)}")


def _repair_folder(path: Path, data: int, owner: tuple[int, int], mode: int, left: list[str]) -> Iterator[Path]:
    try:
        folder = os.open(path.name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=data)
    except FileNotFoundError:  # its process makes it
        return
    try:
        if _give(folder, owner, mode):
            yield path
        for name in sorted(os.listdir(folder)):
            try:
                if _give_file(name, folder, owner, mode & FILE_BITS):
                    yield path / name
            except OSError as error:
                left.append(_reason(path / name, error))
    finally:
        os.close(folder)


def _reason(path: Path, error: OSError) -> str:
    return f"{path}: {os.strerror(error.errno) if error.errno else error}"


def _require_safety(data: Path) -> None:
    """Raise `DeviceUIError` where a lesser user could lead root to a file that is not the device's."""
    if os.geteuid() != 0:
        raise DeviceUIError("only root can change the owner of a file")
    # A lesser user could otherwise replace a folder between the check and the change.
    found = os.stat(data)
    if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise DeviceUIError(f"{data} can be changed by others than root; repair it with chown root:root and chmod 755")
    with open(PROTECTED_HARDLINKS, encoding="ascii") as file:
        if file.read().strip() != "1":
            raise DeviceUIError("fs.protected_hardlinks is off; switch it on with sysctl fs.protected_hardlinks=1")


def _give_file(name: str, folder: int, owner: tuple[int, int], mode: int) -> bool:
    """Return whether owner or mode was changed; leave what is no regular file to the process. Raises `OSError`."""
    try:
        # Not blocking: it may be a named pipe.
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        if error.errno in GONE_OR_NO_FILE:
            return False
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return False
        if found.st_nlink == 1:
            return _give(descriptor, owner, mode)
        # With the right owner already, a second name is harmless, such as that of a backup by hard links.
        if (found.st_uid, found.st_gid) != owner:
            raise OSError(SECOND_NAME)
        return False
    finally:
        os.close(descriptor)


def _give(descriptor: int, owner: tuple[int, int], mode: int) -> bool:
    found = os.fstat(descriptor)
    if (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (*owner, mode):
        return False
    os.fchown(descriptor, *owner)
    os.fchmod(descriptor, mode)  # after chown, which takes the set-group-ID bit
    os.fsync(descriptor)
    return True
