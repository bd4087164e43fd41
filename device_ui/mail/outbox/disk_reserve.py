"""Room on flash that is set aside while there is some, so that alarms are still accepted when the disk is full."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import threading
from pathlib import Path

from device_ui.errors import NotStored
from device_ui.mail.events import DEVICE
from device_ui.storage import files

# The disk must have this many times the reserve free before it is set aside again.
ROOM = 2
# It is given up in so many parts, one at a time: what is given up can be taken by every program that writes to this disk.
PARTS = 16
# Who uses it up besides users, who are uids: the device itself, for its own events; the mails of events.
MAIL = -2
# How many parts each of them may use up. Root, who raises the alarms of most devices, finds a quarter, whatever mails and one
# other user have used up.
SHARES = {0: PARTS, DEVICE: PARTS, MAIL: PARTS // 2}
SHARE = PARTS // 4
CHUNK, BLOCK = 64 * 1024, 4096
MODE = 0o600


class Reserve:
    """A file of `size` bytes at `path`, 0 for none. Nothing here raises.

    `is_released`: not all of the room is there, since some was given up or the disk never had it. Any thread may call.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size = path, size
        self._new = path.with_name(f".{path.name}.new")
        # What is given up while it is still being written would be called kept.
        self._lock = threading.Lock()
        self._part = max(size // PARTS, BLOCK)
        # How many parts were given up since it was whole, for each user who has a share of it only.
        self._given: dict[int, int] = {}
        self.is_released = False

    @property
    def given(self) -> str:
        """How many parts each user with a share has used up since it was whole, as a text for `restore`."""
        with self._lock:
            return json.dumps(self._given)

    def restore(self, given: str) -> None:
        """Take over what an earlier process has given up: a restart gives no user a new share."""
        with self._lock, contextlib.suppress(ValueError, TypeError, AttributeError):  # damaged: as if nothing was
            self._given = {int(user): int(parts) for user, parts in json.loads(given).items()}

    def keep(self) -> None:
        """Set the room aside if it is not, and the disk has enough beside it."""
        with self._lock:
            self.is_released = bool(self._size) and not (self._is_whole() or self._is_set_aside())
            if not self.is_released:
                self._given.clear()

    def release(self, user: int) -> bool:
        """Give up a part of the room for this user; whether there was any left for it."""
        with self._lock:
            self.is_released = bool(self._size)
            given, share = self._given.get(user, 0), SHARES.get(user, SHARE)
            if given >= share:
                return False
            try:
                left = self._path.stat().st_size - self._part
                if left > 0:
                    os.truncate(self._path, left)
                else:
                    self._path.unlink()
            except OSError:
                return False
            if share < PARTS:
                self._given[user] = given + 1
            return True

    def _is_whole(self) -> bool:
        try:
            found = self._path.lstat()
        except OSError:
            return False
        if not stat.S_ISREG(found.st_mode):
            with contextlib.suppress(NotStored):
                files.quarantine(self._path)
            return False
        return found.st_size == self._size and stat.S_IMODE(found.st_mode) == MODE

    def _is_set_aside(self) -> bool:
        try:
            self._new.unlink(missing_ok=True)  # of a power cut: it takes room
            space = os.statvfs(self._path.parent)
            if space.f_bavail * space.f_frsize < ROOM * self._size:
                return False
            self._write()
        except OSError:
            return False
        return True

    def _write(self) -> None:
        """Write all of it anew, and keep what is left of it until that is on flash: the disk may become full meanwhile."""
        # Written and not only allocated: some file systems of flash know no fallocate(2), and some compress zeros.
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(self._new, flags, MODE), "wb", buffering=0) as file:
                for start in range(0, self._size, CHUNK):
                    chunk = os.urandom(min(CHUNK, self._size - start))
                    if file.write(chunk) != len(chunk):  # Python would go on for ever where a disk takes nothing
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            self._new.rename(self._path)
        except OSError:
            self._new.unlink(missing_ok=True)
            raise
