"""Room on flash that is set aside while there is some, so that alarms are still accepted when the disk is full."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

# The disk must have this many times the reserve free before it is set aside again.
ROOM = 2
CHUNK = 64 * 1024


class Reserve:
    """A file of `size` bytes at `path`, 0 for none. Kept whole or not at all; nothing here raises.

    `is_released`: the room is not there, since it was given up or the disk never had it. Any thread may call.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size = path, size
        # What is given up while it is still being written would be called kept.
        self._lock = threading.Lock()
        self.is_released = False

    def keep(self) -> None:
        """Set the room aside if it is not, and the disk has enough beside it."""
        with self._lock:
            self.is_released = bool(self._size) and not (self._is_whole() or self._is_set_aside())

    def release(self) -> bool:
        """Give the room up; whether there was any to give."""
        with self._lock:
            self.is_released = bool(self._size)
            try:
                self._path.unlink()
            except OSError:
                return False
            return True

    def _is_whole(self) -> bool:
        try:
            return self._path.stat().st_size == self._size
        except OSError:
            return False

    def _is_set_aside(self) -> bool:
        try:
            space = os.statvfs(self._path.parent)
            if space.f_bavail * space.f_frsize < ROOM * self._size:
                return False
            self._write()
        except OSError:
            return False
        return True

    def _write(self) -> None:
        # Written and not only allocated: some file systems of flash know no fallocate(2), and some compress zeros.
        try:
            with self._path.open("wb", buffering=0) as file:
                for start in range(0, self._size, CHUNK):
                    chunk = os.urandom(min(CHUNK, self._size - start))
                    if file.write(chunk) != len(chunk):  # Python would go on for ever where a disk takes nothing
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
        except OSError:
            self._path.unlink(missing_ok=True)
            raise
