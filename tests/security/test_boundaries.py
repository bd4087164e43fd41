"""What a lesser user leaves, holds or races in a folder of the device; the other side runs under a user of its own."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_ui.mail.outbox.disk_reserve import Reserve
from device_ui.mail.outbox.outbox import Outbox
from tests.helpers.product import ADMIN_PASSWORD, readable, settings_form
from tests.security import test_separation as separation
from tests.security.test_separation import HOOK, STRANGER, WEB, Installed, User

# Fixtures.
home, python, server = separation.home, separation.python, separation.server
ca_file, prefork, fresh = separation.ca_file, separation.prefork, separation.forked

SECONDS = 40
HELD = """
import fcntl, os, sys
descriptors = [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]
for descriptor in descriptors:
    fcntl.flock(descriptor, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


class Holder:
    """A process of a user that holds locks on these folders, as long as this is entered."""

    def __init__(self, device: Installed, who: User, *folders: Path) -> None:
        self._process = subprocess.Popen(
            [device.python, "-c", HELD, *folders],
            env=device.environment, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, **who,
        )  # fmt: skip

    def __enter__(self) -> None:
        output = self._process.stdout
        assert output is not None and readable(output.fileno(), SECONDS)
        assert output.readline() == b"held\n"

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


# Locks: none that another user can hold is waited for.


def test_a_strangers_locks_keep_neither_process_nor_console_from_starting(fresh: Installed, ca_file: Path) -> None:
    at = fresh.folders
    with Holder(fresh, STRANGER, at.data, at.public_key.parent, at.run):
        assert fresh.setup_code()
        fresh.start_both(ca_file)
        done = fresh.call("admin", "set-password", input=f"{ADMIN_PASSWORD}\n")
        assert done.returncode == 0, done.stderr
    assert fresh.browser().post("/login", password=ADMIN_PASSWORD).status == 303


def test_the_pages_locks_do_not_keep_root_from_a_new_password_and_a_new_key(fresh: Installed, ca_file: Path) -> None:
    fresh.start_both(ca_file).logged_in().update(**settings_form(1))
    at = fresh.folders
    before = at.public_key.read_bytes()
    with Holder(fresh, WEB, at.administrator.parent, at.settings.parent):
        done = fresh.call("admin", "set-password", input="another plain sentence\n")
        assert done.returncode == 0, done.stderr
        done = fresh.call("rotate-key")
        assert done.returncode == 0, done.stderr
    assert at.public_key.read_bytes() != before
    assert fresh.browser().post("/login", password="another plain sentence").status == 303


BEGUN = """
import sys
from pathlib import Path
from device_ui.settings import keys
keys.load_pair(Path(sys.argv[1]), Path(sys.argv[2]))
keys.begin_rotation(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_the_pages_locks_do_not_keep_a_hook_from_finishing_a_rotation(fresh: Installed, ca_file: Path) -> None:
    fresh.start_both(ca_file).logged_in().update(**settings_form(1, user="", password="", sign_in="none"))
    at = fresh.folders
    fresh.stop("mailhook")
    assert fresh.script(HOOK, BEGUN, str(at.private_key), str(at.public_key)) == ""
    with Holder(fresh, WEB, at.administrator.parent, at.settings.parent):
        fresh.start_hook("--ca-file", str(ca_file), **HOOK)
    assert fresh.browser().get("/health").text == "ok\n"


REPLACED = """
import sys
from pathlib import Path
from device_ui.errors import NotStored
from device_ui.storage import files
try:
    files.replace(Path(sys.argv[1]), b"new")
except NotStored as error:
    print(error)
"""


def test_the_wait_for_another_process_of_the_same_user_ends_and_says_what_to_do(fresh: Installed) -> None:
    path = fresh.folders.administrator
    with Holder(fresh, WEB, path.parent):
        found = fresh.script(WEB, REPLACED, str(path))
    assert found == (
        "administrator.toml could not be stored: "
        "another process is writing; if it does not end, restart device-ui-web and device-ui-mailhook\n"
    )


ADD_ONE = """
import sys
from pathlib import Path
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


def test_root_and_the_page_lose_none_of_each_others_writes_without_a_common_lock(fresh: Installed) -> None:
    path = fresh.folders.administrator.with_name("count")
    path.write_bytes(b"0")
    os.chown(path, *path.parent.stat()[4:6])
    words = [fresh.python, "-c", ADD_ONE, path]
    writers = [subprocess.Popen(words, env=fresh.environment, cwd="/", **who) for who in (WEB, {})]
    try:
        assert [writer.wait(SECONDS) for writer in writers] == [0, 0]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert path.read_bytes() == b"120"
    assert [each.name for each in path.parent.iterdir()] == ["count"]


def test_no_setup_code_waits_for_a_pipe_in_the_place_of_the_record(fresh: Installed) -> None:
    """The unit's own condition, which reads the record in a shell before any Python starts."""
    unit = (separation.ROOT / "device_ui/appliance/device-ui-setup-code.service").read_text()
    (condition,) = (line for line in unit.splitlines() if line.startswith("ExecCondition=/bin/sh -c '"))
    script = condition.partition("'")[2][:-1].replace("/var/lib/device-ui", str(fresh.folders.data))
    assert separation.problem(["mkfifo", fresh.folders.administrator], WEB) == ""
    assert subprocess.run(["/bin/sh", "-c", script], timeout=SECONDS, **WEB).returncode == 1


# What is no file, in the place of one.

MADE = {
    "a folder": "os.mkdir(path)",
    # Deeper than Python recurses (1000), and with a path longer than the system takes (4096).
    "a deep folder": """
for _ in range(2100):
    os.mkdir("x")
    os.chdir("x")
os.chdir(home)
os.rename("x", path)
""",
    "a folder of many": """
os.mkdir(path)
for number in range(3000):
    open(os.path.join(path, str(number)), "w").close()
    if number % 10 == 0:
        os.mkdir(os.path.join(path, f"folder {number}"))
""",
    "a shut folder": "os.mkdir(path); os.mkdir(os.path.join(path, 'inner')); os.chmod(os.path.join(path, 'inner'), 0); os.chmod(path, 0)",
    "a pipe": "os.mkfifo(path)",
    "a socket": "import socket; socket.socket(socket.AF_UNIX).bind(os.path.basename(path))",
    "a link": "os.symlink(sys.argv[2], path)",
    "a link to a folder": "os.symlink(os.path.dirname(sys.argv[2]), path)",
    "a name in no code": "os.mkdir(path); os.mkdir(os.path.join(os.fsencode(path), b'\\xff\\xfe')); open(os.fsencode(path) + b'.\\xff', 'w').close()",
}
MAKE = "import os, shutil, sys\npath = sys.argv[1]\nhome = os.path.dirname(path)\nos.chdir(home)\nif os.path.lexists(path): os.unlink(path)\n"


def plant(device: Installed, kind: str, victim: Path, *paths: Path) -> None:
    """Put something in the place of files, as the page's user."""
    for path in paths:
        assert device.script(WEB, MAKE + MADE[kind], str(path), str(victim)) == ""


@pytest.fixture
def victim(home: Path, tmp_path: Path) -> Iterator[Path]:
    """A file of root's in a folder of its own, which every user may write."""
    folder = home / f"victim of {tmp_path.name}"
    folder.mkdir(mode=0o755)
    file = folder / "file"
    file.write_bytes(b"of root")
    file.chmod(0o666)
    yield file
    assert file.read_bytes() == b"of root"


def test_the_kinds_that_are_planted_are_of_another_kind(fresh: Installed, victim: Path) -> None:
    path = fresh.folders.administrator
    for kind in MADE:
        plant(fresh, kind, victim, path)
        assert not stat.S_ISREG(path.lstat().st_mode), kind
        subprocess.run(["rm", "-rf", path], check=True)


@pytest.mark.parametrize("kind", MADE)
def test_a_reset_ends_with_empty_folders_whatever_the_page_left_and_the_device_is_new(
    fresh: Installed, ca_file: Path, victim: Path, kind: str
) -> None:
    at = fresh.folders
    plant(fresh, kind, victim, at.settings, at.administrator)
    done = fresh.call("factory-reset", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    rooms = [at.settings.parent, at.administrator.parent, at.key_file.parent, at.public_key.parent]
    assert [name for room in rooms for name in os.listdir(room)] == []
    assert victim.exists()
    fresh.start_both(ca_file).logged_in()


@pytest.mark.parametrize("kind", MADE)
def test_without_a_reset_it_is_set_aside_and_both_files_can_be_written(
    fresh: Installed, ca_file: Path, victim: Path, kind: str
) -> None:
    at = fresh.folders
    plant(fresh, kind, victim, at.settings, at.administrator)
    fresh.start_hook("--ca-file", str(ca_file), **HOOK)
    done = fresh.call("admin", "set-password", input=f"{ADMIN_PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    fresh.start_web(**WEB)
    browser = fresh.browser()
    assert browser.post("/login", password=ADMIN_PASSWORD).status == 303
    assert "set aside as smtp.toml.damaged-" in browser.get("/smtp").text
    assert browser.update(**settings_form(1)).status == 303
    assert at.administrator.with_name("administrator.toml.damaged-1").lstat()


def test_nothing_that_lies_under_the_name_of_a_new_file_keeps_the_page_from_saving(
    fresh: Installed, ca_file: Path, victim: Path
) -> None:
    settings = fresh.folders.settings
    new = settings.with_name(f".{settings.name}.new")
    browser = fresh.start_both(ca_file).logged_in()
    for kind in MADE:
        subprocess.run(["rm", "-rf", new], check=True)
        plant(fresh, kind, victim, new)
        assert browser.update(**settings_form(1, sender_name=kind)).status == 303, kind
        assert kind in settings.read_text()


MOUNTED = """
mount -t tmpfs tmpfs "$1" && touch "$1/of the maker" || exit 1
"$2" -m device_ui factory-reset --yes --data "$3"
echo $? $(ls "$1")
"""


def test_a_reset_touches_nothing_that_is_mounted_in_its_folders_and_says_so(fresh: Installed) -> None:
    inner = fresh.folders.administrator.parent / "inner"
    inner.mkdir()
    words = ["unshare", "--mount", "sh", "-c", MOUNTED, "sh", inner, fresh.python, fresh.folders.data]
    done = subprocess.run(words, env=fresh.environment, cwd="/", capture_output=True, text=True, timeout=SECONDS)
    assert done.stdout == "78 of the maker\n"
    assert "a factory reset is not finished (web: Device or resource busy)" in done.stderr
    assert (fresh.folders.data / "factory-reset-begun").exists()


def test_what_cannot_be_removed_ends_the_reset_with_an_error_and_keeps_the_mark(fresh: Installed) -> None:
    file = fresh.folders.administrator
    file.touch()
    subprocess.run(["chattr", "+i", file], check=True)
    try:
        done = fresh.call("factory-reset", "--yes")
    finally:
        subprocess.run(["chattr", "-i", file], check=True)
    assert (done.returncode, done.stdout) == (78, "")
    assert "a factory reset is not finished (web: Operation not permitted)" in done.stderr
    assert fresh.call("factory-reset", "--yes").returncode == 0
    assert not file.exists()


SWAPPED = """
import os, sys
inner, link, target = (os.path.join(sys.argv[1], name) for name in ("inner", "link", "folder"))
print("swapping", flush=True)
while True:
    try:
        os.makedirs(os.path.join(inner, "deep"), exist_ok=True)
        open(os.path.join(inner, "file"), "w").close()
        os.symlink(sys.argv[2], link)
        os.rename(inner, target)
        os.rename(link, inner)
        os.unlink(inner)
    except OSError:
        for path in (link, inner):
            try:
                os.unlink(path)
            except OSError:
                pass
"""


def test_a_folder_that_becomes_a_link_while_root_removes_it_leads_nowhere(fresh: Installed, victim: Path) -> None:
    room = fresh.folders.administrator.parent
    words = [fresh.python, "-c", SWAPPED, room, victim.parent]
    attacker = subprocess.Popen(words, env=fresh.environment, cwd="/", stdout=subprocess.PIPE, **WEB)
    try:
        assert attacker.stdout is not None and readable(attacker.stdout.fileno(), SECONDS)
        for _ in range(40):
            done = fresh.call("factory-reset", "--yes")
            assert done.returncode == 0 or "a factory reset is not finished" in done.stderr
            assert victim.read_bytes() == b"of root"
    finally:
        attacker.kill()
        attacker.communicate()
    assert fresh.call("factory-reset", "--yes").returncode == 0
    assert os.listdir(room) == []


# Files of others behind a second name, and modes.


def test_a_reset_overwrites_no_file_that_has_a_second_name(fresh: Installed, victim: Path) -> None:
    at = fresh.folders
    link = "import os, sys; os.link(sys.argv[1], sys.argv[2])"
    assert fresh.script(WEB, link, str(victim), str(at.administrator)) == ""
    assert fresh.script(WEB, link, str(victim), str(at.administrator.with_name("throttle.toml"))) == ""
    assert fresh.script(HOOK, link, str(victim), str(at.key_file)) == ""
    assert fresh.script(HOOK, link, str(victim), str(at.key_file.with_name("private.key.damaged-1"))) == ""
    done = fresh.call("factory-reset", "--yes")
    assert done.returncode == 0, done.stderr
    assert (victim.read_bytes(), victim.stat().st_nlink) == (b"of root", 1)


def test_a_reset_overwrites_the_private_key_itself(fresh: Installed) -> None:
    """Seen through a descriptor that is open already: the bytes of the removed file."""
    key = fresh.folders.key_file
    key.write_bytes(b"the key" * 10)
    os.chown(key, *key.parent.stat()[4:6])
    with key.open("rb") as file:
        assert fresh.call("factory-reset", "--yes").returncode == 0
        assert (len(left := file.read()), b"the key" in left, key.exists()) == (70, False, False)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_each_file_of_the_hook_has_its_own_mode_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        # As a program of before left them.
        for name in ("reserve", "ledger.sqlite3") if umask == 0 else ():
            (tmp_path / name).touch(mode=0o666)
        outbox = Outbox(tmp_path / "ledger.sqlite3", reserve=Reserve(tmp_path / "reserve", 4096))
        modes = {each.name: oct(stat.S_IMODE(each.stat().st_mode)) for each in tmp_path.iterdir()}
        outbox.close()
    finally:
        os.umask(before)
    names = {"ledger.sqlite3", "ledger.sqlite3-wal", "ledger.sqlite3.made", "reserve"}
    assert modes == dict.fromkeys(names, "0o600")


@pytest.mark.parametrize("name", ["ledger.sqlite3", "ledger.sqlite3-wal", "ledger.sqlite3.made", "reserve"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "socket"])
def test_what_is_no_file_keeps_no_hook_from_starting(tmp_path: Path, name: str, kind: str) -> None:
    path, elsewhere = tmp_path / name, tmp_path / "elsewhere"
    elsewhere.write_bytes(b"elsewhere")
    with socket.socket(socket.AF_UNIX) as listener:
        {
            "folder": lambda: (path / "inner").mkdir(parents=True),
            "pipe": lambda: os.mkfifo(path),
            "link": lambda: path.symlink_to(elsewhere),
            "socket": lambda: listener.bind(str(path)),
        }[kind]()
    outbox = Outbox(tmp_path / "ledger.sqlite3", reserve=Reserve(tmp_path / "reserve", 4096))
    is_released = outbox.is_reserve_used
    outbox.close()
    assert (is_released, elsewhere.read_bytes()) == (False, b"elsewhere")
    assert path.with_name(f"{name}.damaged-1").lstat()
