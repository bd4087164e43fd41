"""The only writer of files: old or new, never neither, never a mix; seen from outside, in the system calls it makes."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.errors import Conflict, Damaged, NotStored
from device_ui.storage import files
from tests.helpers.product import ROOT

# One line for each content in the arguments: what `replace` returned, or the words of its error.
REPLACE = """
import sys
from pathlib import Path
from unittest.mock import Mock
from device_ui.errors import DeviceUIError
from device_ui.storage import files
for content in sys.argv[2:]:
    try:
        print(files.replace(Path(sys.argv[1]), content.encode()), flush=True)
    except DeviceUIError as error:
        print(error, flush=True)
"""
CALLS = "openat,write,pwrite64,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,flock"
LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)(.*)")


@dataclass(frozen=True)
class Call:
    """A system call that strace saw: its name, its arguments as text, what it returned."""

    name: str
    arguments: str
    returned: int

    @property
    def on(self) -> str:
        """The name of the file that it is about."""
        by_descriptor = self.name in ("write", "fsync", "flock")
        found = re.search(r"<([^>]*)>" if by_descriptor else r'"([^"]*)"', self.arguments)
        return Path(found[1]).name if found else ""


def child(code: str, *arguments: object, before: tuple[str, ...] = ()) -> list[str]:
    """Run Python code in a process of its own; the lines it printed. `before` is a command that starts it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    if before:  # under strace coverage takes a second more; each line of the module has a test without it
        environment = {name: value for name, value in environment.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [*before, sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def traced(path: Path, code: str, *arguments: object, inject: str = "") -> tuple[list[str], list[Call]]:
    """The lines a child printed, and its calls on anything in the folder of `path`, in order.

    `inject` makes a call fail, in the words of strace: ``fsync:error=EIO:when=1``.
    """
    log = path.parent.with_name("trace")
    failing = ("-e", f"inject={inject}") if inject else ()
    before = ("strace", "-f", "--seccomp-bpf", "-y", "-s", "200", "-o", str(log), "-e", f"trace={CALLS}", *failing)
    printed = child(code, path, *arguments, before=before)
    matches = [LINE.fullmatch(line) for line in log.read_text().splitlines() if str(path.parent) in line]
    return printed, [Call(match[1], match[2], int(match[3])) for match in matches if match]


def steps(calls: list[Call]) -> list[str]:
    """The calls that write, in words: ``fsync .smtp.toml.new``."""
    opened = [call for call in calls if call.name != "openat" or "O_CREAT" in call.arguments]
    return [f"{call.name} {call.on}" for call in opened if call.name != "flock"]


@pytest.fixture
def path(tmp_path):
    """A file in a folder of its own."""
    (tmp_path / "settings").mkdir(mode=0o700)
    (tmp_path / "web").mkdir(mode=0o700)
    return tmp_path / "settings" / "smtp.toml"


def leftovers(path: Path) -> list[str]:
    """What stands in the folder besides the file."""
    return sorted(each.name for each in path.parent.iterdir() if each != path)


# What is written is read.


@given(st.binary(max_size=2000), st.binary(max_size=2000))
@settings(max_examples=40, deadline=None)
def test_last_content_is_read_and_nothing_else_is_left(tmp_path_factory, first, second):
    path = tmp_path_factory.mktemp("flash") / "file"
    assert files.replace(path, first)
    assert files.replace(path, second) is (first != second)
    assert files.read(path) == second
    assert leftovers(path) == []


def test_missing_file_is_none_and_an_empty_one_is_not(path):
    assert files.read(path) is None
    path.touch()
    assert files.read(path) == b""


def test_large_file_is_written_whole_and_read_no_further_than_the_limit(path):
    content = os.urandom(files.SIZE_MAXIMUM + 5000)
    files.replace(path, content)
    assert path.read_bytes() == content
    assert files.read(path) == content[: 64 * 1024 + 1]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_file_has_the_mode_that_was_asked_for(path, mode, umask):
    before = os.umask(umask)
    try:
        files.replace(path, b"x", mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_mode_is_640_when_nobody_asks(path):
    files.replace(path, b"x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


# The order that a power cut allows.


def test_new_file_is_written_and_synced_before_it_takes_the_old_ones_name_and_then_the_folder(path):
    path.write_bytes(b"old")
    printed, calls = traced(path, REPLACE, "new")
    assert printed == ["True"]
    assert steps(calls) == [
        "unlinkat .smtp.toml.new",
        "openat .smtp.toml.new",
        "write .smtp.toml.new",
        "fsync .smtp.toml.new",
        "renameat .smtp.toml.new",
        "fsync settings",
    ]
    rename = next(call for call in calls if call.name.startswith("rename"))
    assert re.findall(r'"([^"]*)"', rename.arguments) == [".smtp.toml.new", "smtp.toml"]
    assert [call.returned for call in calls if call.name in ("fsync", "renameat")] == [0, 0, 0]


def test_new_file_is_made_for_its_owner_alone_and_follows_no_link(path):
    _, calls = traced(path, REPLACE, "new")
    made = next(call.arguments for call in calls if "O_CREAT" in call.arguments)
    assert "O_EXCL" in made
    assert made.endswith(", 0600")


def test_one_replacement_is_exactly_two_syncs(path):
    _, calls = traced(path, REPLACE, "a", "b", "c")
    assert sum("sync" in call.name for call in calls) == 6
    assert sum(call.name == "renameat" for call in calls) == 3


def test_same_content_writes_nothing_and_still_makes_sure_of_it(path):
    path.write_bytes(b"same")
    before = path.stat()
    printed, calls = traced(path, REPLACE, "same", "same")
    assert printed == ["False", "False"]
    assert steps(calls) == ["fsync smtp.toml", "fsync settings"] * 2
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_whole_replacement_happens_while_the_folder_is_held(path):
    _, calls = traced(path.parent.with_name("web") / "administrator.toml", REPLACE, "new")
    (held,) = (place for place, call in enumerate(calls) if call.name == "flock" and "LOCK_EX" in call.arguments)
    (free,) = (place for place, call in enumerate(calls) if call.name == "flock" and "LOCK_UN" in call.arguments)
    writing = [place for place, call in enumerate(calls) if call.name in ("write", "renameat", "fsync")]
    assert held < min(writing) and max(writing) < free


# When the system says no.


def test_file_that_could_not_be_synced_leaves_the_old_one_and_is_not_synced_again(path):
    path.write_bytes(b"old")
    printed, calls = traced(path, REPLACE, "new", inject="fsync:error=EIO:when=1")
    assert printed == ["smtp.toml could not be stored: Input/output error"]
    assert (path.read_bytes(), leftovers(path)) == (b"old", [])
    assert [call.returned for call in calls if call.name == "fsync"] == [-1]
    assert not any("rename" in call.name for call in calls)


def test_retry_after_a_failed_sync_writes_a_file_of_its_own(path):
    path.write_bytes(b"old")
    printed, calls = traced(path, REPLACE, "new", "new", inject="fsync:error=EIO:when=1")
    assert printed == ["smtp.toml could not be stored: Input/output error", "True"]
    assert steps(calls).count("openat .smtp.toml.new") == 2
    assert path.read_bytes() == b"new"


def test_folder_that_could_not_be_synced_is_not_called_stored_and_the_same_content_is_written_again(path):
    path.write_bytes(b"old")
    printed, calls = traced(path, REPLACE, "new", "new", "new", inject="fsync:error=EIO:when=2")
    assert printed == ["smtp.toml could not be stored: Input/output error", "True", "False"]
    assert steps(calls).count("renameat .smtp.toml.new") == 2
    assert path.read_bytes() == b"new"


def test_whatever_fails_after_the_rename_is_not_called_as_before(path, monkeypatch):
    path.write_bytes(b"old")
    with monkeypatch.context() as disk, pytest.raises(NotStored) as failed:
        disk.setattr(os, "listdir", Mock(side_effect=OSError(errno.EIO, "Input/output error")))
        files.replace(path, b"new")
    assert failed.value.in_doubt
    assert path.read_bytes() == b"new"
    assert files.replace(path, b"new")  # written anew
    assert not files.replace(path, b"new")


def test_file_that_was_in_doubt_is_written_anew_when_it_is_settled_and_no_other_is(path):
    path.write_bytes(b"old")
    code = REPLACE + "files.settle(Path(sys.argv[1]))\n"
    _, calls = traced(path, code, "new", inject="fsync:error=EIO:when=2")
    assert steps(calls).count("renameat .smtp.toml.new") == 2
    _, calls = traced(path, code, "newer")
    assert steps(calls).count("renameat .smtp.toml.new") == 1


def test_same_content_that_cannot_be_synced_is_not_called_stored(path):
    path.write_bytes(b"same")
    for which in (1, 2):
        printed, _ = traced(path, REPLACE, "same", inject=f"fsync:error=EIO:when={which}")
        assert printed == ["smtp.toml could not be stored: Input/output error"]


def test_file_that_could_not_take_the_name_leaves_the_old_one(path):
    path.write_bytes(b"old")
    printed, calls = traced(path, REPLACE, "new", inject="renameat:error=EROFS:when=1")
    assert printed == ["smtp.toml could not be stored: Read-only file system"]
    assert path.read_bytes() == b"old"
    assert "fsync settings" not in steps(calls)


def test_what_a_power_cut_left_is_cleared_away(path):
    path.with_name(".smtp.toml.new").write_bytes(b"half a")
    assert files.replace(path, b"new")
    assert (path.read_bytes(), leftovers(path)) == (b"new", [])


SMALL_DISK = """
import subprocess, sys
from pathlib import Path
from unittest.mock import Mock
from device_ui.errors import NotStored
from device_ui.storage import files
folder = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
path = folder / "smtp.toml"
print(files.replace(path, b"old"))
with open(folder / "filling", "wb", buffering=0) as filling:
    try:
        while filling.write(bytes(4096)):
            pass
    except OSError as error:
        print(error.strerror)
try:
    files.replace(path, bytes(5000))
except NotStored as error:
    print(error, error.errno)
print(files.read(path), sorted(each.name for each in folder.iterdir()))
(folder / "filling").unlink()
print(files.replace(path, bytes(5000)), files.read(path) == bytes(5000))
"""


def test_full_disk_leaves_the_old_file_and_no_other(path):
    printed = child(SMALL_DISK, path.parent, before=("unshare", "--mount"))
    assert printed == [
        "True",
        "No space left on device",
        "smtp.toml could not be stored: No space left on device 28",
        "b'old' ['filling', 'smtp.toml']",
        "True True",
    ]


FILE_LIMIT = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
"""
NO_FILE_LIMIT = "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))"


def test_write_that_is_cut_short_goes_on_and_fails_as_a_whole(path):
    path.write_bytes(b"old")
    printed = child(FILE_LIMIT + REPLACE + NO_FILE_LIMIT, path, "x" * 150)
    assert printed == ["smtp.toml could not be stored: File too large"]
    assert (path.read_bytes(), leftovers(path)) == (b"old", [])


def test_folder_that_is_missing_is_told(tmp_path):
    with pytest.raises(NotStored) as caught:
        files.replace(tmp_path / "missing" / "smtp.toml", b"x")
    assert caught.value.reason == "No such file or directory"
    assert caught.value.path == tmp_path / "missing" / "smtp.toml"


# What else may stand at the path.


def test_link_is_never_followed_and_set_aside(path):
    target = path.with_name("target")
    target.write_bytes(b"other")
    path.symlink_to(target)
    with pytest.raises(Damaged, match="it is no regular file"):
        files.read(path)
    files.replace(path, b"new")
    assert path.with_name("smtp.toml.damaged-1").is_symlink()
    assert (path.read_bytes(), target.read_bytes()) == (b"new", b"other")


def test_link_to_nowhere_is_not_a_missing_file(path):
    path.symlink_to(path.with_name("nowhere"))
    with pytest.raises(Damaged):
        files.read(path)


def test_link_under_the_new_files_name_is_not_written_through(path):
    target = path.with_name("target")
    target.write_bytes(b"other")
    path.with_name(".smtp.toml.new").symlink_to(target)
    files.replace(path, b"new")
    assert (path.read_bytes(), target.read_bytes(), path.is_symlink()) == (b"new", b"other", False)


@pytest.mark.parametrize("with_writer", [False, True])
def test_pipe_hangs_nobody_and_is_not_a_missing_file(path, with_writer):
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR) if with_writer else -1
    try:
        with pytest.raises(Damaged, match=r"^smtp\.toml is damaged: it is no regular file$"):
            files.read(path)
        assert files.replace(path, b"new")
    finally:
        if with_writer:
            os.close(writer)
    assert path.with_name("smtp.toml.damaged-1").is_fifo()


def test_folder_in_the_files_place_is_set_aside_with_what_it_holds_and_leaks_no_descriptor(path):
    before = os.listdir("/proc/self/fd")
    for number in range(1, 6):
        path.unlink(missing_ok=True)
        (path / "inner").mkdir(parents=True)
        with pytest.raises(Damaged, match="it is no regular file"):
            files.read(path)
        assert files.replace(path, b"new")
        assert (path.read_bytes(), (path.with_name(f"smtp.toml.damaged-{number}") / "inner").is_dir()) == (b"new", True)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("names", [[], ["of somebody"]], ids=["empty", "with a file"])
def test_folder_under_the_new_files_name_keeps_nothing_from_being_stored(path, names):
    folder = path.with_name(".smtp.toml.new")
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    path.write_bytes(b"old")
    assert files.replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert sorted(each.name for each in path.parent.iterdir()) == [".smtp.toml.new", "smtp.toml"]
    assert [each.name for each in folder.iterdir()] == names


AS_NOBODY = """
import os, sys
from pathlib import Path
from unittest.mock import Mock
from device_ui.errors import DeviceUIError
from device_ui.storage import files
path = Path(sys.argv[1])
descriptor = os.open(path.parent, os.O_PATH)
os.seteuid(65534)
inside = Path(f"/proc/self/fd/{descriptor}/smtp.toml")
for act in (files.read, lambda path: files.replace(path, b"new")):
    try:
        print(act(inside))
    except DeviceUIError as error:
        print(type(error).__name__, error)
os.seteuid(0)
"""


def test_file_of_another_user_is_neither_read_nor_taken_for_missing(path):
    path.write_bytes(b"secret")
    path.chmod(0o600)
    path.parent.chmod(0o777)
    assert child(AS_NOBODY, path) == ["NotReadable smtp.toml could not be read: Permission denied"] * 2
    assert path.read_bytes() == b"secret"


# Who else writes.


def test_agree_sees_what_stands_and_may_stop_it(path):
    seen = []
    files.replace(path, b"one", precondition=seen.append)
    files.replace(path, b"two", precondition=seen.append)
    assert seen == [None, b"one"]

    def refuse(_: bytes | None) -> None:
        raise Conflict("x")

    with pytest.raises(Conflict):
        files.replace(path, b"three", precondition=refuse)
    assert (path.read_bytes(), leftovers(path)) == (b"two", [])


def test_who_has_to_agree_sees_no_bytes_of_what_is_no_file(path):
    path.mkdir()
    seen = []
    with pytest.raises(NotStored):
        files.replace(path, b"new", precondition=seen.append)
    assert (seen, path.is_dir(), leftovers(path)) == ([b""], True, [])


COUNT_UP = """
import sys
from pathlib import Path
from unittest.mock import Mock
from device_ui.storage import files
path, letter = Path(sys.argv[1]), sys.argv[2]
for length in range(1, 151):
    seen = []
    files.replace(path, (letter * 40 * length).encode(), precondition=seen.append)
    found = seen[0] or b""
    if len(set(found)) > 1 or len(found) % 40:
        print("mixed", found)
"""


def test_two_writers_at_once_never_mix(path):
    command = [sys.executable, "-c", COUNT_UP, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    writers = [subprocess.Popen([*command, letter], env=environment, stdout=subprocess.PIPE) for letter in "ab"]
    try:
        while any(writer.poll() is None for writer in writers):
            found = files.read(path) or b""
            assert len(set(found)) <= 1
            assert len(found) % 40 == 0
        assert [writer.communicate(timeout=60) for writer in writers] == [(b"", None)] * 2
        assert [writer.returncode for writer in writers] == [0, 0]
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert path.read_bytes() in (b"a" * 6000, b"b" * 6000)


ADD_ONE = """
import sys
from pathlib import Path
from unittest.mock import Mock
from device_ui.errors import Conflict
from device_ui.storage import files
path, done = Path(sys.argv[1]), 0
while done < 60:
    standing = files.read(path)
    def same(found):
        if found != standing:
            raise Conflict("")
    try:
        files.replace(path, b"%d" % (int(standing) + 1), precondition=same)
        done += 1
    except Conflict:
        pass
"""


def test_no_writer_gets_between_the_look_and_the_replacement(path):
    path.write_bytes(b"0")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    writers = [subprocess.Popen([sys.executable, "-c", ADD_ONE, str(path)], env=environment) for _ in range(2)]
    try:
        assert [writer.wait(60) for writer in writers] == [0, 0]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert path.read_bytes() == b"120"


# Setting aside.

SET_ASIDE = """
import sys
from pathlib import Path
from unittest.mock import Mock
from device_ui.errors import NotStored
from device_ui.storage import files
try:
    print(files.quarantine(Path(sys.argv[1])).name)
except NotStored as error:
    print(error)
"""


def test_damaged_file_is_renamed_durably_and_keeps_its_content(path):
    path.write_bytes(b"damaged")
    printed, calls = traced(path, SET_ASIDE)
    assert printed == ["smtp.toml.damaged-1"]
    assert steps(calls) == ["renameat smtp.toml", "fsync settings"]
    assert path.with_name("smtp.toml.damaged-1").read_bytes() == b"damaged"


def test_setting_aside_that_cannot_be_made_sure_of_is_told(path):
    path.write_bytes(b"damaged")
    printed, _ = traced(path, SET_ASIDE, inject="fsync:error=EIO:when=1")
    assert printed == ["smtp.toml could not be stored: Input/output error"]


def test_setting_aside_nothing_is_told(path):
    with pytest.raises(NotStored, match="No such file or directory"):
        files.quarantine(path)


def test_every_damaged_file_is_kept_and_listed_oldest_first(path):
    for number in range(1, 13):
        path.write_bytes(b"%d" % number)
        assert files.quarantine(path).name == f"smtp.toml.damaged-{number}"
    assert [each.read_bytes() for each in files.quarantined_files(path)] == [b"%d" % number for number in range(1, 13)]


@pytest.mark.parametrize("other", ["old", "1-wal", "2.bak", "", "\u0663"])
def test_names_that_others_gave_are_no_obstacle_and_not_listed(path, other):
    path.with_name(f"smtp.toml.damaged-{other}").write_bytes(b"other")
    path.write_bytes(b"damaged")
    aside = files.quarantine(path)
    assert (aside.name, files.quarantined_files(path)) == ("smtp.toml.damaged-1", [aside])
    assert path.with_name(f"smtp.toml.damaged-{other}").read_bytes() == b"other"


def test_number_of_a_deleted_file_is_not_given_again_while_a_later_one_stands(path):
    for _ in range(2):
        path.write_bytes(b"x")
        files.quarantine(path)
    path.with_name("smtp.toml.damaged-1").unlink()
    path.write_bytes(b"x")
    assert files.quarantine(path).name == "smtp.toml.damaged-3"


# Folders.

MAKE_FOLDER = """
import sys
from pathlib import Path
from unittest.mock import Mock
from device_ui.storage import files
files.make_folder(Path(sys.argv[1]).parent / "web" / "inner", 0o700)
"""


def test_folder_is_made_durably_and_never_wider_than_asked(path):
    _, calls = traced(path, MAKE_FOLDER)
    outer = ["mkdirat .web.new", "fsync .web.new", "renameat .web.new", "fsync settings"]
    inner = ["mkdirat .inner.new", "fsync .inner.new", "renameat .inner.new", "fsync web"]
    assert steps(calls) == [*outer, *inner]
    assert [call.arguments.rpartition(" ")[2] for call in calls if call.name == "mkdirat"] == ["0700", "0700"]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_folder_has_the_mode_that_was_asked_for(tmp_path, umask):
    before = os.umask(umask)
    try:
        files.make_folder(tmp_path / "data" / "web", 0o750)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "data" / "web").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o755


def test_folder_that_a_power_cut_left_half_made_gets_its_mode(tmp_path):
    (tmp_path / ".data.new").mkdir(mode=0o700)
    files.make_folder(tmp_path / "data", 0o2750)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o2750
    assert not (tmp_path / ".data.new").exists()


def test_folder_that_is_there_is_left_as_it_is(tmp_path):
    (tmp_path / "data").mkdir(mode=0o711)
    files.make_folder(tmp_path / "data", 0o700)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o711


def test_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotStored):
        files.make_folder(tmp_path / "file" / "inner", 0o700)
    with pytest.raises(NotStored):
        files.make_folder(tmp_path / "file", 0o700)


@pytest.mark.parametrize(
    "name", ["x.damaged-\x1b[2J.damaged-1", "x.damaged-01", "x.damaged-1.damaged-2", "x.damaged-\u0661"]
)
def test_a_name_that_only_ends_like_ours_was_not_set_aside(tmp_path, name):
    (tmp_path / name).touch()
    assert files.quarantined_files(tmp_path / "x") == []


def test_a_number_as_long_as_a_name_can_be_keeps_nothing_from_being_set_aside(tmp_path):
    (tmp_path / ("x.damaged-" + "9" * 245)).touch()
    (tmp_path / "x").write_text("damaged")
    assert files.quarantine(tmp_path / "x") == tmp_path / "x.damaged-1"


ALTERNATE = """
import os, sys
os.chdir(sys.argv[1])
while True:
    with open("new", "wb") as file:
        file.write(b"same")
    os.rename("new", "x")
    os.mkfifo("new")
    os.rename("new", "x")
"""


def test_a_pipe_that_takes_the_place_of_what_was_just_read_keeps_no_writer_waiting(tmp_path):
    """The folder's owner swaps the file again and again while the same content is stored; a blocking open waits for ever."""
    with subprocess.Popen([sys.executable, "-c", ALTERNATE, tmp_path], stderr=subprocess.DEVNULL) as owner:
        try:
            for _ in range(300):
                with contextlib.suppress(NotStored):
                    files.replace(tmp_path / "x", b"same", 0o600)
        finally:
            owner.kill()
