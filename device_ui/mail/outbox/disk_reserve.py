"""The disk reserve: a file that is released part by part on a full disk, so that events are still accepted."""

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

# The disk must have this many times the reserve free before it is written again.
ROOM = 2
# The number of parts. One is released at a time, since any program that writes to this disk may take the room of a released part.
PARTS = 16
# Users of the reserve are uids, `DEVICE` for its own events, and this one for the results of mails.
MAIL = -2
# The parts that each may use. A quarter is left for root, who raises the events of most devices, whatever mails and one
# other user have used.
SHARES = {0: PARTS, DEVICE: PARTS, MAIL: PARTS // 2}
SHARE = PARTS // 4
CHUNK, BLOCK = 64 * 1024, 4096
MODE = 0o600


class Reserve:
    """A file of `size` bytes at `path`; 0: no reserve. No method raises; any thread may call.

    `is_released`: the reserve is not complete, since a part was released or the disk never had the room.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size = path, size
        self._new = path.with_name(f".{path.name}.new")
        # A part that is released while `keep` writes the file must count as released.
        self._lock = threading.Lock()
        # A file system frees whole blocks only.
        self._part = max(size // PARTS, BLOCK)
        # The parts released since it was complete, for each user with a limited share.
        self._given: dict[int, int] = {}
        self.is_released = False

    @property
    def given(self) -> str:
        """The parts that each user with a limited share has used since the reserve was complete, as a text for `restore`."""
        with self._lock:
            return json.dumps(self._given)

    def restore(self, given: str) -> None:
        """Restore `given` of an earlier process: a restart gives no user a new share."""
        with self._lock, contextlib.suppress(ValueError, TypeError, AttributeError):  # damaged: as if none was released
            self._given = {int(user): int(parts) for user, parts in json.loads(given).items()}

    def keep(self) -> None:
        """Write the reserve if it is not complete and the disk has enough room besides."""
        with self._lock:
            self.is_released = bool(self._size) and not (self._is_whole() or self._is_written())
            if not self.is_released:
                self._given.clear()

    def release(self, user: int) -> bool:
        """Release a part for this user. Return False if its share or the reserve is used up."""
        with self._lock:
            self.is_released = bool(self._size)
            # A user who floods the device would otherwise use up what root's events need.
            given, share = self._given.get(user, 0), SHARES.get(user, SHARE)
            if given >= share:
                return False
            try:
                left = self._path.stat().st_size - self._part
                if left > 0:
                    # From the end, which a file system can free without a copy.
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
            status = self._path.lstat()
        except OSError:
            return False
        if not stat.S_ISREG(status.st_mode):
            with contextlib.suppress(NotStored):
                files.quarantine(self._path)
            return False
        return status.st_size == self._size and stat.S_IMODE(status.st_mode) == MODE

    def _is_written(self) -> bool:
        try:
            self._new.unlink(missing_ok=True)  # left by a power cut
            space = os.statvfs(self._path.parent)
            # With less room the new reserve would fill the disk, and the next event would release it again.
            if space.f_bavail * space.f_frsize < ROOM * self._size:
                return False
            self._write()
        except OSError:
            return False
        return True

    def _write(self) -> None:
        """Write a new file and replace the old one by it once it is on flash: the disk may become full meanwhile."""
        # Random bytes, not fallocate(2), which some flash file systems do not have; others compress zeros.
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(self._new, flags, MODE), "wb", buffering=0) as file:
                for start in range(0, self._size, CHUNK):
                    chunk = os.urandom(min(CHUNK, self._size - start))
                    if file.write(chunk) != len(chunk):  # Python would try for ever
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            self._new.rename(self._path)
        except OSError:
            self._new.unlink(missing_ok=True)
            raise
