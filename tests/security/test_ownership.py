"""A data folder whose files belong to others: after an image with other user numbers, or a restore by root.

Each situation is one that made a service of another product fail; its report is in the id. `boot` does what systemd does before
it starts the two processes: the product's lines for systemd-tmpfiles, then the unit, under its own filters and capabilities.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from device_ui.mail import client
from tests.appliance.test_units import APPLIANCE, confined, unit
from tests.helpers.prefork import Prefork
from tests.helpers.product import ADMIN_PASSWORD, readable, settings_form, wait_for
from tests.security import test_separation as separation
from tests.security.test_boundaries import SECONDS
from tests.security.test_separation import HOOK, MAKER, WEB, Installed

# Fixtures.
home, python, server = separation.home, separation.python, separation.server
ca_file, prefork, fresh = separation.ca_file, separation.prefork, separation.forked

NAME = "device-ui-ownership.service"
DAEMON, BIN = pwd.getpwnam("daemon").pw_uid, pwd.getpwnam("bin").pw_uid
# Numbers that this system gives nobody, and the first person's on most systems.
GONE_WEB, GONE_MAIL, PERSON = 64001, 64002, 1000
SECRETS = {"private.key", "administrator.toml", "ledger.sqlite3"}


def tree(data: Path, *names: str) -> list[Path]:
    """The folders of these names, or all four, with all that is in them."""
    return [
        each
        for name in names or ("settings", "web", "mail", "public")
        for each in (data / name, *(data / name).rglob("*"))
    ]


def give(paths: list[Path], user: int = -1, group: int = -1) -> None:
    for path in paths:
        os.chown(path, user, group)


def renumber(data: Path, numbers: dict[int, int]) -> None:
    """As a system sees the files of another in which these users have other numbers."""
    for path in tree(data):
        found = path.stat()
        os.chown(path, numbers[found.st_uid], numbers[found.st_gid])


def restored_by_root(data: Path) -> None:
    give(tree(data), 0, 0)


def restored_by_root_with_umask_077(data: Path) -> None:
    restored_by_root(data)
    for path in tree(data):
        path.chmod(0o700 if path.is_dir() else 0o600)


def copied_from_a_stick_without_owners_or_modes(data: Path) -> None:
    restored_by_root(data)
    for path in tree(data):
        path.chmod(0o777)


def restored_as_a_person(data: Path) -> None:
    give(tree(data), PERSON, PERSON)


def ledger_written_by_root(data: Path) -> None:
    give([data / "mail" / "ledger.sqlite3"], 0, 0)


def key_written_by_root(data: Path) -> None:
    give([data / "mail" / "private.key"], 0, 0)


def write_ahead_log_of_root(data: Path) -> None:
    (log,) = (data / "mail").glob("*-wal")
    give([log], 0, 0)
    log.chmod(0o644)


def numbers_that_slid(data: Path) -> None:
    renumber(data, {DAEMON: BIN, BIN: DAEMON})


def numbers_that_are_gone(data: Path) -> None:
    renumber(data, {DAEMON: GONE_WEB, BIN: GONE_MAIL})


def content_of_the_other_user(data: Path) -> None:
    for name, user in (("web", BIN), ("mail", DAEMON)):
        give(list((data / name).iterdir()), user, user)


def one_secret_of_a_number_that_is_gone(data: Path) -> None:
    give([data / "web" / "administrator.toml"], GONE_WEB, GONE_WEB)


def other_group_numbers(data: Path) -> None:
    give(tree(data, "settings"), group=GONE_MAIL)


def content_of_root_in_a_right_folder(data: Path) -> None:
    for name in ("settings", "web", "mail", "public"):
        give(list((data / name).iterdir()), 0, 0)


def settings_of_root_that_only_root_reads(data: Path) -> None:
    for path in (data / "settings").iterdir():
        os.chown(path, 0, 0)
        path.chmod(0o600)


SITUATIONS: dict[str, Callable[[Path], None]] = {
    "influxdb#7420": restored_by_root,
    "proxysql#4893": restored_by_root_with_umask_077,
    "2FAuth#240": copied_from_a_stick_without_owners_or_modes,
    "raspiBackup#7": restored_as_a_person,
    "pgbackrest#1693": ledger_written_by_root,
    "pgbackrest#2416": key_written_by_root,
    "lamb#831": write_ahead_log_of_root,
    "DocumentServer#333": numbers_that_slid,
    "openvoxserver#150": numbers_that_are_gone,
    "nix-bitcoin#474": content_of_the_other_user,
    "maxscale-docker#44": one_secret_of_a_number_that_is_gone,
    "docker-atlassian-jira#40": other_group_numbers,
    "firezone#15214": content_of_root_in_a_right_folder,
    "centreon-vmware#75": settings_of_root_that_only_root_reads,
}


@pytest.fixture(scope="module")
def used(home: Path, python: Path, prefork: Prefork, server) -> Path:
    """The data folder of a device that was set up, saved its settings, mailed an event, and lost its power."""
    folder = home / "used"
    folder.mkdir()
    ca_file = Path(shutil.copy(server.mailbox.ca_file, home / "authority.pem"))
    with Installed(folder, python, prefork) as device:
        device.start_both(ca_file)
        assert device.logged_in().update(**settings_form(server.port)).status == 303
        device.event("303", "the first")
        wait_for(lambda: not device.state()["waiting"], what="the mail")
        for process in device.processes.values():
            process.kill()
            process.wait()
    assert list((folder / "data" / "mail").glob("*-wal"))
    return folder / "data"


@pytest.fixture
def device(fresh: Installed, used: Path) -> Installed:
    """A device with this data folder."""
    shutil.rmtree(fresh.folders.data)
    subprocess.run(["cp", "-a", used, fresh.folders.data], check=True)
    fresh.maker(f'{MAKER}mail = "{HOOK["user"]}"\n')
    return fresh


def of_test(line: str, device: Installed) -> str:
    """A line of the appliance with the paths and users of a test."""
    names = {
        "/usr/bin/device-ui": f"{device.python} -m device_ui",
        "/var/lib/device-ui": str(device.folders.data),
        "/run/device-ui": str(device.folders.run),
        "device-ui": WEB["user"],
        "device-mail": HOOK["user"],
        "$$": "$",
    }
    return re.sub("|".join(map(re.escape, names)), lambda found: names[found[0]], line)


def boot(device: Installed) -> subprocess.CompletedProcess[str]:
    """What happens before the two processes start; the result of the unit. Without a fault its program is not started."""
    conf = device.folder / "tmpfiles.conf"
    conf.write_text(of_test((APPLIANCE / "tmpfiles.conf").read_text(), device))
    subprocess.run(["systemd-tmpfiles", "--create", conf], check=True, timeout=SECONDS)
    service = unit(NAME)["Service"]
    condition, start = (
        shlex.join(shlex.split(of_test(service[name], device))) for name in ("ExecCondition", "ExecStart")
    )
    # The unit's filters are the same for both: entered once.
    return confined(NAME, "/bin/sh", "-c", f"{condition} || exit\nexec {start}", env=device.environment)


def data_folder(device: Installed) -> str:
    """What ``check`` says of it."""
    return re.findall("^.* data folder: .*$", device.call("check").stdout, re.MULTILINE)[0]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_after_a_boot_both_processes_start_with_all_that_was_theirs(
    device: Installed, ca_file: Path, server, situation: str
) -> None:
    SITUATIONS[situation](device.folders.data)
    boot(device)
    device.start_both(ca_file)
    browser = device.browser()
    assert browser.post("/login", password=ADMIN_PASSWORD).status == 303
    assert 'value="alarm@mail.example.com"' in browser.get("/smtp").text
    # The mail server takes nothing without the password, which the hook opens with its own key.
    assert client.raise_event(device.folders.socket, "303", "the second") == 2
    wait_for(lambda: not device.state()["waiting"], what="the mail")
    *events, _ = client.history(device.folders.socket, {})
    assert sorted((each["event"]["text"], each["event"]["state"]) for each in events) == [
        ("the first", "delivered"),
        ("the second", "delivered"),
    ]
    assert browser.update(**settings_form(server.port, sender_name="Another")).status == 303
    assert data_folder(device).startswith("OK ")
    for path in tree(device.folders.data, "web", "mail"):
        assert path.stat().st_mode & 0o077 == 0 or path.name not in SECRETS, path


@pytest.mark.parametrize("situation", sorted({*SITUATIONS} - {"2FAuth#240"}))
def test_check_names_the_file_the_user_and_the_command_that_repairs_it(device: Installed, situation: str) -> None:
    SITUATIONS[situation](device.folders.data)
    found = re.fullmatch(
        r"FAIL  data folder: (\S+) cannot be (read|written|entered) by (daemon|bin); repair it with device-ui fix-ownership",
        data_folder(device),
    )
    assert found and Path(found[1]).exists()
    assert device.call("fix-ownership").stdout.count("repaired: ") >= 1
    assert data_folder(device) == f"OK    data folder: {device.folders.data}"


def test_where_all_is_right_no_program_starts_and_nothing_changes(device: Installed) -> None:
    before = [(path, path.lstat()) for path in tree(device.folders.data)]
    assert (boot(device).returncode, device.call("fix-ownership").stdout) == (1, "")
    assert [(path, path.lstat().st_ctime_ns) for path, _ in before] == [
        (path, found.st_ctime_ns) for path, found in before
    ]


# What the web process's user plants.


@pytest.fixture
def victim(device: Installed) -> Iterator[Path]:
    """A file of root's, in a folder where links to it can be made."""
    path = device.folders.data / "shadow"
    path.write_bytes(b"of root")
    path.chmod(0o600)
    yield path
    found = path.stat()
    assert (path.read_bytes(), found.st_uid, found.st_gid, found.st_mode & 0o7777) == (b"of root", 0, 0, 0o600)


@pytest.mark.parametrize(
    "name", ["settings/smtp.toml", "web/administrator.toml", "web/other", "settings/.smtp.toml.new"]
)
def test_a_symbolic_link_leads_root_nowhere(device: Installed, victim: Path, name: str) -> None:
    """systemd#7736, opentmpfiles#4, icinga2#5793: a chown as root that follows."""
    path = device.folders.data / name
    path.unlink(missing_ok=True)
    path.symlink_to(victim)
    content_of_root_in_a_right_folder(device.folders.data)
    assert boot(device).returncode == 0
    assert (device.folders.data / "mail" / "private.key").stat().st_uid == BIN


@pytest.mark.parametrize("name", ["settings/smtp.toml", "web/administrator.toml"])
def test_a_hard_link_to_a_file_of_root_is_left_and_named(device: Installed, victim: Path, name: str) -> None:
    """slapd-cli#2, opentmpfiles#3. One that was made before fs.protected_hardlinks was on."""
    path = device.folders.data / name
    path.unlink()
    os.link(victim, path)
    give([device.folders.data / "mail" / "private.key"], 0, 0)
    done = boot(device)
    assert (done.returncode, done.stderr) == (
        78,
        f"device-ui: left unchanged: {path}: it has a second name (a hard link); look at it, then replace it with a copy\n",
    )
    assert (device.folders.data / "mail" / "private.key").stat().st_uid == BIN
    assert data_folder(device).endswith(": it has a second name (a hard link); look at it, then replace it with a copy")


def test_a_link_in_the_place_of_a_folder_leads_root_nowhere(device: Installed, victim: Path) -> None:
    away = device.folder / "away"
    away.mkdir()
    (away / "file").touch()
    shutil.rmtree(device.folders.data / "web")
    (device.folders.data / "web").symlink_to(away)
    done = device.call("fix-ownership")
    assert done.returncode == 78 and f"{device.folders.data}/web: " in done.stderr
    assert ((away / "file").stat().st_uid, away.stat().st_uid) == (0, 0)


UNPROTECTED = """
echo 0 >"$1/off" && mount --bind "$1/off" /proc/sys/fs/protected_hardlinks || exit 1
shift
exec "$@"
"""


def test_without_protected_hard_links_nothing_is_changed(device: Installed, victim: Path) -> None:
    """A link whose other name was replaced since has one name: it looks like a file of the device's."""
    planted = device.folders.data / "web" / "administrator.toml"
    content_of_root_in_a_right_folder(device.folders.data)
    words = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        UNPROTECTED,
        "sh",
        device.folder,
        device.python,
        "-m",
        "device_ui",
        "fix-ownership",
    ]
    done = subprocess.run(words, env=device.environment, cwd="/", capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stdout) == (78, "")
    assert "switch it on with sysctl fs.protected_hardlinks=1" in done.stderr
    assert planted.stat().st_uid == 0


@pytest.mark.parametrize(("user", "mode"), [(DAEMON, 0o755), (0, 0o775), (0, 0o757)])
def test_a_data_folder_that_others_can_change_is_not_repaired(device: Installed, user: int, mode: int) -> None:
    """CVE-2018-6954: the path itself can be replaced then."""
    content_of_root_in_a_right_folder(device.folders.data)
    os.chown(device.folders.data, user, -1)
    device.folders.data.chmod(mode)
    done = device.call("fix-ownership")
    assert (done.returncode, done.stdout) == (78, "")
    assert "can be changed by others than root; repair it with chown root:root and chmod 755" in done.stderr
    assert device.folders.key_file.stat().st_uid == 0


FILE_OR_LINK = """
import os, sys
name, made = (os.path.join(sys.argv[1], each) for each in ("swapped", "made"))
print("swapping", flush=True)
while True:
    open(made, "w").close()
    os.rename(made, name)
    os.symlink(sys.argv[2], made)
    os.rename(made, name)
"""


def test_what_is_swapped_with_a_link_while_root_repairs_leads_nowhere(device: Installed, victim: Path) -> None:
    attacker = subprocess.Popen(
        [device.python, "-c", FILE_OR_LINK, device.folders.data / "web", victim],
        env=device.environment, cwd="/", stdout=subprocess.PIPE, **WEB,
    )  # fmt: skip
    try:
        assert attacker.stdout is not None and readable(attacker.stdout.fileno(), SECONDS)
        for _ in range(40):
            give([device.folders.key_file], 0, 0)
            assert device.call("fix-ownership").returncode in (0, 78)
            assert victim.stat().st_uid == 0
            assert device.folders.key_file.stat().st_uid == BIN
    finally:
        attacker.kill()
        attacker.communicate()


def test_a_named_pipe_and_a_socket_keep_root_waiting_for_nothing(device: Installed) -> None:
    os.mkfifo(device.folders.data / "web" / "pipe")
    listen = "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])"
    subprocess.run([sys.executable, "-c", listen, device.folders.data / "web" / "socket"], check=True)
    give([device.folders.key_file], 0, 0)
    assert boot(device).returncode == 0
    assert device.folders.key_file.stat().st_uid == BIN


def test_a_name_controls_no_terminal(device: Installed) -> None:
    path = device.folders.data / "web" / "\x1b[2J\nOK    all is well"
    path.touch(mode=0o600)
    assert "\x1b" not in data_folder(device)
    done = device.call("fix-ownership")
    assert (len(done.stdout.splitlines()), "\x1b" in done.stdout, path.stat().st_uid) == (1, False, DAEMON)


def test_only_root_repairs(device: Installed) -> None:
    done = device.command("fix-ownership", **WEB)
    assert (done.returncode, done.stderr) == (78, "device-ui: only root can change the owner of a file\n")


# check, beyond ownership.


def test_check_names_the_folder_that_a_user_cannot_enter(device: Installed) -> None:
    device.folders.data.chmod(0o700)
    told = f"FAIL  data folder: {device.folders.data} cannot be entered by daemon; repair it with chmod 755 {device.folders.data}"
    assert data_folder(device) == told


READ_ONLY = """
mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 1
shift
exec "$@"
"""


def test_check_takes_no_file_system_for_an_owner(device: Installed) -> None:
    words = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        READ_ONLY,
        "sh",
        device.folders.data,
        device.python,
        "-m",
        "device_ui",
        "check",
    ]
    done = subprocess.run(words, env=device.environment, cwd="/", capture_output=True, text=True, timeout=SECONDS)
    assert (
        "cannot be written by daemon: its file system is read-only; repair it with mount -o remount,rw" in done.stdout
    )


def test_each_user_asks_for_itself_alone(device: Installed) -> None:
    content_of_the_other_user(device.folders.data)
    assert data_folder(device).startswith("FAIL ")
    done = device.command("check", **separation.STRANGER)
    assert f"OK    data folder: {device.folders.data}" in done.stdout.splitlines()
    done = device.command("check", **WEB)
    assert " cannot be read by daemon; " in done.stdout
