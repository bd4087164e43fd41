"""The only writer of files: after a power cut at any instant there is the old file or the new one, whole.

The order is the one that a power cut allows: write a new file beside the old, fsync it, rename it over the old one,
fsync the folder. Every call that can fail is looked at. A failed fsync is never asked again on the same descriptor:
Linux reports a lost page once and then calls it clean.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from device_ui.errors import NotReadable, NotStored

# Files whose last replacement failed half way: their content on flash is in doubt, so that the next one writes
# even when it reads back equal.
_in_doubt: set[Path] = set()

# The settings are 1 KiB; a file of ours that is larger than this was not written by us.
SIZE_MAXIMUM = 64 * 1024


def read(path: Path) -> bytes | None:
    """The file's bytes, None when there is none. At most `SIZE_MAXIMUM` + 1 of them. Raises `NotReadable`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotReadable(path, error) from error
    try:
        # A named pipe reads as empty or as nothing at all: neither may pass for a file that is not there.
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is no regular file")
        return _read_all(descriptor, min(found.st_size, SIZE_MAXIMUM) + 1)
    except OSError as error:
        raise NotReadable(path, error) from error
    finally:
        _close(descriptor)


def replace(path: Path, content: bytes, mode: int = 0o640, agree: Callable[[bytes | None], None] | None = None) -> bool:
    """Put `content` at `path`, durably; whether anything was written.

    `agree` is called with what stands there (None: nothing) while no other writer can change it; what it raises
    stops the replacement. Raises `NotReadable`, or `NotStored`, and then the old file still stands, except when the folder's own fsync failed: then either
    may be found after a power cut, the caller must not say "saved", and the next call writes again.
    """
    try:
        with _locked(path.parent) as folder:
            standing = read(path)
            if agree:
                agree(standing)
            if path not in _in_doubt and standing == content:
                # Nothing to write, but "saved" must be true of a file that somebody else put there, too.
                _fsync_existing(path.name, folder)
                os.fsync(folder)
                return False
            _in_doubt.add(path)
            _write_new(folder, _new_name(path), content, mode)
            os.rename(_new_name(path), path.name, src_dir_fd=folder, dst_dir_fd=folder)
            _fsync_renamed(path, folder)
            _in_doubt.discard(path)
            return True
    except OSError as error:
        raise NotStored(path, error) from error


def settle(path: Path, mode: int = 0o640) -> None:
    """Write a file anew whose last replacement by this process is in doubt: what is built on it must not rest on a page
    of the cache. Raises as `replace` does."""
    content = read(path) if path in _in_doubt else None
    if content is not None:
        replace(path, content, mode)


def set_aside(path: Path, agree: Callable[[bytes | None], None] | None = None) -> Path:
    """Rename a damaged file so that it is kept and no longer read; returns where it is now. Raises `NotStored`.

    `agree` as in `replace`.
    """
    try:
        with _locked(path.parent) as folder:
            if agree:
                agree(read(path))
            aside = _free_name(path)
            os.rename(path.name, aside.name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
            return aside
    except OSError as error:
        raise NotStored(path, error) from error


def set_aside_files(path: Path) -> list[Path]:
    """What `set_aside` kept of this file, oldest first; not what SQLite and people keep under names like it.

    Raises `NotReadable`.
    """
    try:
        return _kept(path)
    except OSError as error:
        raise NotReadable(path.parent, error) from error


def make_folder(path: Path, mode: int, owner: tuple[int, int] = (-1, -1)) -> None:
    """Make a folder and those above it, durably; one that is there is left as it is. Raises `NotStored`.

    `owner` (user and group) is who gets it when root makes it: the console must not lock out the processes.
    """
    if path.is_dir():
        # Whoever made it may have died before its name was on flash; on a clean folder this writes nothing.
        with contextlib.suppress(OSError), _locked(path.parent) as folder:
            os.fsync(folder)
        return
    make_folder(path.parent, 0o755)
    try:
        with _locked(path.parent) as folder:
            if not path.is_dir():  # another process may have been quicker
                _make_new_folder(folder, _new_name(path), mode, owner)
                os.rename(_new_name(path), path.name, src_dir_fd=folder, dst_dir_fd=folder)
                os.fsync(folder)
    except OSError as error:
        raise NotStored(path, error) from error


def _make_new_folder(parent: int, name: str, mode: int, owner: tuple[int, int]) -> None:
    # Under another name until owner and mode are on flash: a power cut must not leave a folder that stays shut for ever.
    with contextlib.suppress(FileExistsError):  # what a power cut may have left
        os.mkdir(name, mode, dir_fd=parent)  # never open wider, not for an instant
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=parent)
    try:
        if os.geteuid() == 0:
            os.fchown(descriptor, *owner)
        os.fchmod(descriptor, mode)  # mkdir's own mode is cut by the umask, and chown takes the set-group-ID bit
        os.fsync(descriptor)
    finally:
        _close(descriptor)


def _fsync_renamed(path: Path, folder: int) -> None:
    try:
        os.fsync(folder)
    except OSError as error:
        raise NotStored(path, error, in_doubt=True) from error


def _write_new(folder: int, name: str, content: bytes, mode: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)  # what a power cut may have left
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        try:
            _write_all(descriptor, content)
            if os.geteuid() == 0:
                # The console is root: what it writes must belong to whoever owns the folder and has to read it.
                owner = os.fstat(folder)
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            _close(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder)
        raise


def _read_all(descriptor: int, at_once: int) -> bytes:
    content = piece = os.read(descriptor, at_once)
    # Less than was asked for is the end of a regular file (read(2)).
    while len(piece) == at_once and len(content) <= SIZE_MAXIMUM:
        at_once = SIZE_MAXIMUM + 1 - len(content)
        piece = os.read(descriptor, at_once)
        content += piece
    return content


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        written = os.write(descriptor, content)
        if not written:  # the disk takes nothing, and says nothing
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        content = content[written:]


def _fsync_existing(name: str, folder: int) -> None:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder)
    try:
        os.fsync(descriptor)
    finally:
        _close(descriptor)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """The folder, opened and held against another writer (a page and the console at once)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        # A child that another thread forked meanwhile may still hold the descriptor: closing alone would not unlock.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        _close(descriptor)


def _close(descriptor: int) -> None:
    # Nothing is at stake any more: it was only read, or what was written is synced, or has failed already. A file
    # that is in place must not be told as not stored.
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _new_name(path: Path) -> str:
    # One fixed name: a power cut can leave one such file, never a heap of them.
    return f".{path.name}.new"


def _free_name(path: Path) -> Path:
    number = 1 + max(map(_number, _kept(path)), default=0)
    return path.with_name(f"{path.name}.damaged-{number}")


def _kept(path: Path) -> list[Path]:
    # Another user may own the folder: a name of theirs that only ends like ours is none.
    found = path.parent.glob(f"{path.name}.damaged-*")
    return sorted((each for each in found if each.name == f"{path.name}.damaged-{_number(each)}"), key=_number)


def _number(aside: Path) -> int:
    """The number of a file that was set aside, 0 when `set_aside` did not give the name."""
    number = aside.name.rpartition(".damaged-")[2]
    return int(number) if re.fullmatch("[0-9]+", number) else 0
