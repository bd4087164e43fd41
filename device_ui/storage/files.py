"""The writer of every file but the database and the disk reserve: after a power cut at any instant there is the old file or the new one, whole.

The order of a write: write a new file beside the old one, fsync it, rename it over the old one, fsync the folder. The result of
each call is checked. A failed fsync is not repeated on the same descriptor: Linux reports a lost page once and then marks it
clean.

Writers of one user exclude each other by a lock on a folder that no other user can open: the file's own, or the one in `LOCKS`.
Any program can hold a lock on a folder that it can open, so no other folder is locked, and root waits for no other user.
Writers without a common lock do not lose each other's work either. Each writer makes its new file first, then reads the old one
again. It renames its new file and removes those of all other writers, so that the rename of a slower writer fails. Then it checks
that its own file is in place. A writer that was overtaken starts again with the present file.
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

# Files whose last replacement failed after the rename: their content on flash is in doubt, so the next replacement writes
# even if the content is equal.
_in_doubt: set[Path] = set()

# The settings are 1 KiB; a larger file than this was not written by this product.
SIZE_MAXIMUM = 64 * 1024
# A folder that other users can open → the folder beside it that its owner alone can open, and whose lock serves for both.
LOCKS = {"settings": "web", "public": "mail"}
# A write needs some fsyncs, a second each on slow flash.
LOCK_SECONDS, LOCK_LOOK_SECONDS = 10.0, 0.01
# A compromised web process can write its files all the time; a command of root must then end with an error.
TRIES_MAXIMUM = 20
WRONG_KIND = "it is no regular file"
HELD = "another process is writing; if it does not end, restart device-ui-web and device-ui-mailhook"
OVERTAKEN = "it is changed all the time; stop device-ui-web and device-ui-mailhook first"


def read(path: Path) -> bytes | None:
    """Return at most `SIZE_MAXIMUM` + 1 bytes of a file, None when there is none.

    Raises `Damaged` for a folder, a link or any other kind of file, and `NotReadable`.
    """
    try:
        # A less trusted user can put a link or a pipe in the place of a file that root or the hook reads: the link is not
        # followed, and the pipe is not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        if _is_wrong_kind(path):
            raise Damaged(path, WRONG_KIND) from error
        raise NotReadable(path, error) from error
    try:
        # Without this check a pipe would read as an empty file: as no settings, and not as damage.
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Damaged(path, WRONG_KIND)
        return _read_all(descriptor, min(found.st_size, SIZE_MAXIMUM) + 1)
    except OSError as error:
        raise NotReadable(path, error) from error
    finally:
        _close(descriptor)


def read_damaged(path: Path) -> bytes | None:
    """Return the result of `read`, and no bytes for anything but a regular file. Raises `NotReadable`."""
    try:
        return read(path)
    except Damaged:
        return b""


def replace(
    path: Path, content: bytes, mode: int = 0o640, precondition: Callable[[bytes | None], None] | None = None
) -> bool:
    """Put `content` at `path`, durably; return whether anything was written.

    `precondition` is called with the bytes that are replaced (None: no file; empty: no regular file), and again when a different
    writer changes them; its exception stops the replacement. Without it, anything but a regular file is quarantined first.

    Raises `NotReadable`, or `NotStored`. The old file is then still in place, unless the error came after the rename
    (`in_doubt`): either file may be there after a power cut, and the next call writes again.
    """
    try:
        for _ in range(TRIES_MAXIMUM):
            if not precondition and _is_wrong_kind(path):
                quarantine(path)
            with _locked(path.parent) as (folder, is_held):
                present = read_damaged(path)
                if precondition:
                    precondition(present)
                if path not in _in_doubt and present == content:
                    # Equal content is not written, since it would only wear the flash. But it is synced: the writer that put it
                    # there may have ended before its own fsync.
                    _fsync_existing(path.name, folder)
                    os.fsync(folder)
                    return False
                new = _new_name(path)
                # Without the lock the fixed name may be that of a second writer. A folder of that name is left as it is: its
                # owner put it there to keep this file from being saved.
                if not is_held or _is_folder(new, folder):
                    new = f"{new}-{os.getpid()}-{time.monotonic_ns()}"
                if _replaced(folder, path, new, present, content, mode):
                    return True
        raise OSError(OVERTAKEN)
    except OSError as error:
        raise NotStored(path, error) from error


def settle(path: Path, mode: int = 0o640) -> None:
    """Write a file again if its last replacement by this process is in doubt. Raises as `replace` does.

    Otherwise a later file could be on flash although the file that it depends on is in the cache only.
    """
    content = read(path) if path in _in_doubt else None
    if content is not None:
        replace(path, content, mode)


def quarantine(path: Path, precondition: Callable[[bytes | None], None] | None = None) -> Path:
    """Rename a damaged file, or anything in its place, so that it is kept and no longer read; return its new path.

    `precondition` as in `replace`. Raises `NotStored`, and with `precondition` `NotReadable`.
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
                # The file of a faster writer was renamed: put it back, unless there is a newer one already.
                with contextlib.suppress(FileExistsError):
                    os.link(aside.name, path.name, src_dir_fd=folder, dst_dir_fd=folder)
                os.unlink(aside.name, dir_fd=folder)
        raise OSError(OVERTAKEN)
    except OSError as error:
        raise NotStored(path, error) from error


def quarantined_files(path: Path) -> list[Path]:
    """Return the quarantined versions of a file, oldest first; no other files with similar names. Raises `NotReadable`."""
    try:
        return _quarantined(path)
    except OSError as error:
        raise NotReadable(path.parent, error) from error


def make_folder(path: Path, mode: int, owner: tuple[int, int] = (-1, -1)) -> None:
    """Make a folder and its parents, durably; leave one that exists as it is. Raises `NotStored`.

    When root makes it, it belongs to `owner` (user and group): the console must not lock out the processes.
    """
    if path.is_dir():
        # Its maker may have ended before the name was on flash; on a clean folder this writes nothing.
        with contextlib.suppress(OSError), open_folder(path.parent) as folder:
            os.fsync(folder)
        return
    make_folder(path.parent, 0o755)
    try:
        with open_folder(path.parent) as folder:
            try:
                _make_new_folder(folder, path, mode, owner)
            except OSError:
                if not path.is_dir():  # another process may have made it
                    raise
            os.fsync(folder)
    except OSError as error:
        raise NotStored(path, error) from error


def _make_new_folder(parent: int, path: Path, mode: int, owner: tuple[int, int]) -> None:
    # Under a temporary name until owner and mode are on flash: a power cut must not leave a folder that no process can open.
    new = _new_name(path)
    with contextlib.suppress(FileExistsError):  # left by a power cut, or made by another process now
        os.mkdir(new, mode & 0o700, dir_fd=parent)  # never wider, not for an instant
    descriptor = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=parent)
    try:
        if not os.fstat(descriptor).st_mode & 0o077:  # any program could lock a wider one
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


def _replaced(folder: int, path: Path, new: str, present: bytes | None, content: bytes, mode: int) -> bool:
    """Return whether the file `new` replaced `present`; False: a different writer was faster."""
    descriptor, is_renamed = _write_new(folder, new, content, mode), False
    try:
        # `precondition` saw `present`; it must see what a faster writer has put there since.
        if read_damaged(path) != present:
            os.unlink(new, dir_fd=folder)
            return False
        # From the rename until the fsync of the folder, a power cut may leave either file.
        _in_doubt.add(path)
        os.rename(new, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        is_renamed = True
        # A second writer may have read the old file before this rename and rename its own after it: it would replace a file
        # that it never saw. Without its new file that rename fails, and it starts again.
        _remove_new_files(folder, path)
        # The second writer may have been faster than the removal. Then its file is in place, and this writer starts again.
        if _identity(path.name, folder) != _identity(descriptor):
            return False
        os.fsync(folder)
        _in_doubt.discard(path)
    except FileNotFoundError:  # a different writer removed one of the two
        return False
    except (OSError, DeviceUIError) as error:
        if is_renamed and isinstance(error, OSError):
            # The new file is in place: the page must not claim that the old settings are still there.
            raise NotStored(path, error, in_doubt=True) from error
        with contextlib.suppress(OSError):
            os.unlink(new, dir_fd=folder)
        raise
    finally:
        _close(descriptor)
    return True


def _remove_new_files(folder: int, path: Path) -> None:
    """Remove the new files of other writers for `path`, and those that power cuts have left."""
    for name in os.listdir(folder):
        if name.startswith(_new_name(path)):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(name, dir_fd=folder)


def _identity(file: str | int, folder: int | None = None) -> tuple[int, int]:
    found = os.fstat(file) if isinstance(file, int) else os.stat(file, dir_fd=folder, follow_symlinks=False)
    return found.st_dev, found.st_ino


def _write_new(folder: int, name: str, content: bytes, mode: int) -> int:
    """Return the descriptor of the new file; its content is on flash, its name may not be."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)  # left by a power cut
    # O_EXCL follows no link and opens no file of a different user. 600 until the content is whole: then `mode`.
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        _write_all(descriptor, content)
        if os.geteuid() == 0:
            # The console is root: the file must belong to the owner of the folder, who has to read it.
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
    # One byte beyond the limit is enough: the checksum of a cut file does not match.
    # A short read is the end of a regular file (read(2)).
    while len(piece) == at_once and len(content) <= SIZE_MAXIMUM:
        at_once = SIZE_MAXIMUM + 1 - len(content)
        piece = os.read(descriptor, at_once)
        content += piece
    return content


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        written = os.write(descriptor, content)
        if not written:  # the disk accepts nothing and reports no error
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        content = content[written:]


def _fsync_existing(name: str, folder: int) -> None:
    # Not blocking: the owner of the folder can put a pipe in its place after it was read.
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
    """Return the descriptor of the folder to lock; None when other users can open it."""
    try:
        lock = os.open(path.parent / LOCKS.get(path.name, path.name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    found = os.fstat(lock)
    # Checked on the open folder: a path could be changed between the check and the lock.
    if found.st_uid == os.fstat(folder).st_uid == os.geteuid() and not found.st_mode & 0o077:
        return lock
    _close(lock)
    return None


@contextlib.contextmanager
def open_folder(folder: Path) -> Iterator[int]:
    """Open a folder; yield its descriptor, by which names in it stay the same ones while its path changes. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        _close(descriptor)


def _lock(descriptor: int) -> None:
    # flock(2) waits without limit, also for a process that hangs.
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
    # A child that a different thread forked may still hold the descriptor: closing alone would not unlock.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _close(descriptor: int) -> None:
    # Every write was synced before, and its error reported. An error of close(2) must not report a stored file as not stored.
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _new_name(path: Path) -> str:
    # One fixed name under the lock, so that power cuts leave one such file at most.
    return f".{path.name}.new"


def _free_name(path: Path) -> Path:
    number = 1 + max(map(_number, _quarantined(path)), default=0)
    return path.with_name(f"{path.name}.damaged-{number}")


def _quarantined(path: Path) -> list[Path]:
    # A different user may own the folder and put any name there: only names of `_free_name` count.
    names = path.parent.glob(f"{path.name}.damaged-*")
    return sorted((each for each in names if each.name == f"{path.name}.damaged-{_number(each)}"), key=_number)


def _number(path: Path) -> int:
    """Return the number of a quarantined file, 0 when `quarantine` did not give the name."""
    number = path.name.rpartition(".damaged-")[2]
    return int(number) if re.fullmatch("[0-9]{1,9}", number) else 0
