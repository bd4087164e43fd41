"""The only writer of files: after a power cut at any instant there is the old file or the new one, whole.

The order is the one that a power cut allows: write a new file beside the old, fsync it, rename it over the old one,
fsync the folder. Every call that can fail is looked at. A failed fsync is never asked again on the same descriptor:
Linux reports a lost page once and then calls it clean.

Writers of one user take turns by a lock on a folder that no other user can open: the file's own, or the one that `LOCKS`
names. Any program can hold a lock on what it can open, so no other folder is locked, and root waits for no other user.
Writers without a common lock do not lose each other's work either. Each makes its new file first, then reads the old one
again, renames, and removes the new files of all others: what another was about to put over this version is gone, and its
rename fails. Then each looks whether its own file stands. A writer that was overtaken begins again with what stands now.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from device_ui.errors import Damaged, DeviceUIError, NotReadable, NotStored

# Files whose last replacement failed half way: their content on flash is in doubt, so that the next one writes
# even when it reads back equal.
_in_doubt: set[Path] = set()

# The settings are 1 KiB; a file of ours that is larger than this was not written by us.
SIZE_MAXIMUM = 64 * 1024
# Folders that other users can open → the folder beside them that only the same user can open.
LOCKS = {"settings": "web", "public": "mail"}
# A write takes some fsyncs, a second each on slow flash.
LOCK_SECONDS, LOCK_LOOK_SECONDS = 10.0, 0.01
TRIES_MAXIMUM = 20
WRONG_KIND = "it is no regular file"
HELD = "another process is writing; if it does not end, restart device-ui-web and device-ui-mailhook"
OVERTAKEN = "it is changed all the time; stop device-ui-web and device-ui-mailhook first"


def read(path: Path) -> bytes | None:
    """Return the file's bytes, None when there is none. At most `SIZE_MAXIMUM` + 1 of them.

    Raises `Damaged` for a folder, a link or anything else that is no file, and `NotReadable`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        if _is_wrong_kind(path):
            raise Damaged(path, WRONG_KIND) from error
        raise NotReadable(path, error) from error
    try:
        # A named pipe reads as empty or as nothing at all: neither may pass for a file that is not there.
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Damaged(path, WRONG_KIND)
        return _read_all(descriptor, min(found.st_size, SIZE_MAXIMUM) + 1)
    except OSError as error:
        raise NotReadable(path, error) from error
    finally:
        _close(descriptor)


def read_damaged(path: Path) -> bytes | None:
    """Return what `read` does, and no bytes for what is no file. Raises `NotReadable`."""
    try:
        return read(path)
    except Damaged:
        return b""


def replace(
    path: Path, content: bytes, mode: int = 0o640, precondition: Callable[[bytes | None], None] | None = None
) -> bool:
    """Put `content` at `path`, durably; return whether anything was written.

    `precondition` is called with the bytes that are replaced (None: no file; empty: something else in its place), again when other
    writers change them meanwhile; its exception stops the replacement. Without `precondition`, what is no file is set aside first.

    Raises `NotReadable`, or `NotStored`, and then the old file still stands, except when the folder's own fsync failed: then either
    may be found after a power cut, the caller must not say "saved", and the next call writes again.
    """
    try:
        for _ in range(TRIES_MAXIMUM):
            if not precondition and _is_wrong_kind(path):
                quarantine(path)
            with _locked(path.parent) as (folder, is_held):
                standing = read_damaged(path)
                if precondition:
                    precondition(standing)
                if path not in _in_doubt and standing == content:
                    # Nothing to write, but "saved" must be true of a file that somebody else put there, too.
                    _fsync_existing(path.name, folder)
                    os.fsync(folder)
                    return False
                new = _new_name(path)
                if not is_held or _is_folder(new, folder):  # a folder is none of ours, and stays
                    new = f"{new}-{os.getpid()}-{time.monotonic_ns()}"
                if _replaced(folder, path, new, standing, content, mode):
                    return True
        raise OSError(OVERTAKEN)
    except OSError as error:
        raise NotStored(path, error) from error


def settle(path: Path, mode: int = 0o640) -> None:
    """Write a file anew whose last replacement by this process is in doubt: what is built on it must not rest on a page
    of the cache. Raises as `replace` does."""
    content = read(path) if path in _in_doubt else None
    if content is not None:
        replace(path, content, mode)


def quarantine(path: Path, precondition: Callable[[bytes | None], None] | None = None) -> Path:
    """Rename what is damaged, a file or anything in its place, so that it is kept and no longer read; return its new path.

    `precondition` as in `replace`. Raises `NotStored`, and `NotReadable` with `precondition`.
    """
    try:
        for _ in range(TRIES_MAXIMUM):
            with _locked(path.parent) as (folder, _):
                damaged = _identity(path.name, folder)
                if precondition:
                    precondition(read_damaged(path))
                aside = _free_name(path)
                os.rename(path.name, aside.name, src_dir_fd=folder, dst_dir_fd=folder)
                if _identity(aside.name, folder) == damaged:
                    os.fsync(folder)
                    return aside
                # Another writer was quicker: its file goes back, unless there is a newer one already.
                with contextlib.suppress(FileExistsError):
                    os.link(aside.name, path.name, src_dir_fd=folder, dst_dir_fd=folder)
                os.unlink(aside.name, dir_fd=folder)
        raise OSError(OVERTAKEN)
    except OSError as error:
        raise NotStored(path, error) from error


def quarantined_files(path: Path) -> list[Path]:
    """What `quarantine` kept of this file, oldest first; not what SQLite and people keep under names like it.

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
        with contextlib.suppress(OSError), open_folder(path.parent) as folder:
            os.fsync(folder)
        return
    make_folder(path.parent, 0o755)
    try:
        with open_folder(path.parent) as folder:
            try:
                _make_new_folder(folder, path, mode, owner)
            except OSError:
                if not path.is_dir():  # another process may have been quicker
                    raise
            os.fsync(folder)
    except OSError as error:
        raise NotStored(path, error) from error


def _make_new_folder(parent: int, path: Path, mode: int, owner: tuple[int, int]) -> None:
    # Under another name until owner and mode are on flash: a power cut must not leave a folder that stays shut for ever.
    new = _new_name(path)
    with contextlib.suppress(FileExistsError):  # what a power cut may have left, or another process is making
        os.mkdir(new, mode & 0o700, dir_fd=parent)  # never open wider, not for an instant
    descriptor = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=parent)
    try:
        if not os.fstat(descriptor).st_mode & 0o077:  # a wider one any program could lock
            _lock(descriptor)
        if path.is_dir():
            return
        if os.geteuid() == 0:
            os.fchown(descriptor, *owner)
        os.fchmod(descriptor, mode)  # mkdir's own mode is cut by the umask, and chown takes the set-group-ID bit
        os.fsync(descriptor)
        os.rename(new, path.name, src_dir_fd=parent, dst_dir_fd=parent)
    finally:
        _unlock(descriptor)
        _close(descriptor)


def _is_wrong_kind(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _is_folder(name: str, folder: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _replaced(folder: int, path: Path, new: str, standing: bytes | None, content: bytes, mode: int) -> bool:
    """Return whether the file `new` took the place of `standing`; False: another writer was quicker."""
    descriptor = _write_new(folder, new, content, mode)
    try:
        if read_damaged(path) != standing:
            os.unlink(new, dir_fd=folder)
            return False
        _in_doubt.add(path)
        os.rename(new, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        _remove_new_files(folder, path)
        if _identity(path.name, folder) != _identity(descriptor):
            return False
        _fsync_renamed(path, folder)
        _in_doubt.discard(path)
    except FileNotFoundError:  # another writer removed one of the two
        return False
    except (OSError, DeviceUIError):
        with contextlib.suppress(OSError):
            os.unlink(new, dir_fd=folder)
        raise
    finally:
        _close(descriptor)
    return True


def _remove_new_files(folder: int, path: Path) -> None:
    """Remove what others were about to put at `path`, and what power cuts have left."""
    for name in os.listdir(folder):
        if name.startswith(_new_name(path)):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(name, dir_fd=folder)


def _identity(file: str | int, folder: int | None = None) -> tuple[int, int]:
    found = os.fstat(file) if isinstance(file, int) else os.stat(file, dir_fd=folder, follow_symlinks=False)
    return found.st_dev, found.st_ino


def _fsync_renamed(path: Path, folder: int) -> None:
    try:
        os.fsync(folder)
    except OSError as error:
        raise NotStored(path, error, in_doubt=True) from error


def _write_new(folder: int, name: str, content: bytes, mode: int) -> int:
    """Return the descriptor of the new file, which is on flash but for its name."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)  # what a power cut may have left
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        _write_all(descriptor, content)
        if os.geteuid() == 0:
            # The console is root: what it writes must belong to whoever owns the folder and has to read it.
            owner = os.fstat(folder)
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    except OSError:
        _close(descriptor)
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder)
        raise
    return descriptor


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
    # Not blocking: the folder's owner may put a pipe in its place after it was read.
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        os.fsync(descriptor)
    finally:
        _close(descriptor)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[tuple[int, bool]]:
    """Open a folder; yield its descriptor, and whether it is locked against other writers of this user."""
    with open_folder(path) as folder:
        lock = _open_lock(path, folder)
        try:
            if lock is not None:
                _lock(lock)
            yield folder, lock is not None
        finally:
            if lock is not None:
                _unlock(lock)
                _close(lock)


def _open_lock(path: Path, folder: int) -> int | None:
    """Return the descriptor of the folder to lock for writing in this one; None where there is none that no other user can open."""
    try:
        lock = os.open(path.parent / LOCKS.get(path.name, path.name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    found = os.fstat(lock)
    if found.st_uid == os.fstat(folder).st_uid == os.geteuid() and not found.st_mode & 0o077:
        return lock
    _close(lock)
    return None


@contextlib.contextmanager
def open_folder(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        _close(descriptor)


def _lock(descriptor: int) -> None:
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                raise OSError(HELD) from None
            time.sleep(LOCK_LOOK_SECONDS)


def _unlock(descriptor: int) -> None:
    # A child that another thread forked meanwhile may still hold the descriptor: closing alone would not unlock.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)


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
    """The number of a file that was set aside, 0 when `quarantine` did not give the name."""
    number = aside.name.rpartition(".damaged-")[2]
    return int(number) if re.fullmatch("[0-9]{1,9}", number) else 0
