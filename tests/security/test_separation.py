"""Both processes under users of their own, in folders as an installer makes them: who can read and ask what.

Debian's own users stand in for ours. The web process can store a password and nothing that its user can do opens one.
"""

from __future__ import annotations

import compileall
import grp
import importlib.metadata
import io
import pwd
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from device_ui.cli.demo_server import Mailbox, Server
from tests.helpers.prefork import Prefork
from tests.helpers.product import ADMIN_PASSWORD, PASSWORD, ROOT, Product, settings_form, wait_for

User = dict[str, Any]


def user(name: str, group: str, *more: str) -> User:
    """How `subprocess` is told to run something as this user."""
    return {"user": name, "group": group, "extra_groups": list(more)}


WEB = user("daemon", "daemon")
HOOK = user("bin", "bin")
EVENT_GROUP = "games"
MEMBER = user("games", EVENT_GROUP)
LATE_MEMBER = user("nobody", "nogroup", EVENT_GROUP)
STRANGER = user("nobody", "nogroup")
USERS = {"web": WEB, "hook": HOOK, "member": MEMBER, "stranger": STRANGER}

# What an installer makes below the data folder, and the run folder: mode, owner, group.
FOLDERS = {
    "data": (0o755, "root", "root"),
    "data/settings": (0o2750, "daemon", "bin"),
    "data/web": (0o700, "daemon", "daemon"),
    "data/mail": (0o700, "bin", "bin"),
    "data/public": (0o755, "bin", "bin"),
    "run": (0o755, "bin", "bin"),
    "etc": (0o755, "root", "root"),
}
MAKER = f'[users]\nweb = "daemon"\nevent_group = "{EVENT_GROUP}"\n'


class Installed(Product):
    """A product installed below `folder`, whose two processes run as `WEB` and `HOOK`."""

    def __init__(self, folder: Path, python: Path, prefork: Prefork | None = None) -> None:
        super().__init__(folder)
        self.python, self.prefork = str(python), prefork
        for name, (mode, owner, group) in FOLDERS.items():
            (folder / name).mkdir()
            (folder / name).chmod(mode)
            shutil.chown(folder / name, owner, group)
            (folder / name).chmod(mode)  # chown takes the set-group-ID bit away
        (folder / "etc" / "device.toml").write_text(MAKER)

    @property
    def environment(self) -> dict[str, str]:
        """Only what an installation has: nothing of the tests, and no coverage, which could write nowhere."""
        ours = {name: value for name, value in super().environment.items() if name.startswith("DEVICE_UI_")}
        return {**environment(self.folder.parent), **ours}

    def start_both(self, ca_file: Path) -> Installed:
        """Start the hook, then the pages, each as its user."""
        self.start_hook("--ca-file", str(ca_file), **HOOK)
        self.start_web(**WEB)
        return self

    def script(self, who: User, code: str, *words: str) -> str:
        """What a Python program prints as this user, errors included."""
        if self.prefork:
            done = self.prefork.run(code, words, self.environment, "", 110, **who)
            return done.stdout + done.stderr
        done = subprocess.run(
            [self.python, "-c", code, *words],
            env=self.environment,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=110,
            **who,
        )
        return done.stdout + done.stderr


def environment(home: Path) -> dict[str, str]:
    """What each process of a device has that is installed below this folder."""
    libraries = {"PYTHONPATH": str(home / "lib"), "LD_LIBRARY_PATH": str(home / "python" / "lib")}
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **libraries}


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder that every user can reach, which pytest's own are not; with the product and its libraries installed."""
    home = Path(tempfile.mkdtemp(prefix="device-ui-separation-"))
    try:
        home.chmod(0o755)
        install(home / "lib")
        yield home
    finally:
        subprocess.run(["rm", "-rf", home], check=True)  # shutil gives up on what lies 1000 folders deep


@pytest.fixture(scope="module")
def python(home: Path) -> Path:
    """An interpreter that every user can run: this one, or a copy where this one lies in root's own folder."""
    here = Path(sys.executable).resolve()
    if runs(here, {}):
        return here
    base = Path(sys.base_prefix)
    copy = home / "python" / "bin" / here.name
    library = Path(sysconfig.get_path("stdlib", vars={"installed_base": str(base)}))
    unneeded = shutil.ignore_patterns("test", "tests", "site-packages", "config-*", "idlelib", "lib2to3", "ensurepip")
    shutil.copytree(library, home / "python" / library.relative_to(base), ignore=unneeded)
    for path in base.glob("lib/libpython*.so*"):
        shutil.copy2(path, home / "python" / "lib")
    copy.parent.mkdir()
    shutil.copy2(here, copy)
    assert runs(copy, {"LD_LIBRARY_PATH": str(home / "python" / "lib")})
    return copy


def runs(python: Path, environment: dict[str, str]) -> bool:
    """Whether a user without any rights can run this interpreter."""
    try:
        return (
            subprocess.run([python, "-c", "import ssl, sqlite3"], env=environment, cwd="/", **STRANGER).returncode == 0
        )
    except PermissionError:
        return False


def install(folder: Path) -> None:
    """Copy the product and the libraries that it needs, compiled as they are: a compiler would take longer than the tests."""
    for name in ("device_ui", "static", "views"):
        shutil.copytree(ROOT / name, folder / name)
    needed, seen = ["bottle", "waitress", "cryptography"], set()
    while needed:
        name = needed.pop()
        if name in seen or not (found := list(importlib.metadata.distributions(name=name))):
            continue
        seen.add(name)
        needed += [re.match(r"[A-Za-z0-9._-]+", each)[0] for each in found[0].requires or () if "extra" not in each]
        for file in found[0].files or ():
            # RECORD names the .pyc files of each Python that pip installed for; not all of them need be there.
            if ".." not in file.parts and file.locate().exists():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file.locate(), folder / file)
    # What is not compiled yet: none of the two users may write here.
    compileall.compile_dir(folder, quiet=2, workers=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The demo's mail server; it knows the account and the password of `settings_form`."""
    mailbox = Mailbox(tmp_path_factory.mktemp("server") / "mail", out=io.StringIO())
    mailbox.account, mailbox.password = "alarm@mail.example.com", PASSWORD
    server = Server(mailbox)
    server.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def ca_file(server: Server, home: Path) -> Path:
    """The server's authority, where the hook's user can read it."""
    return Path(shutil.copy(server.mailbox.ca_file, home / "authority.pem"))


@pytest.fixture(scope="module")
def device(home: Path, python: Path, server: Server) -> Iterator[Installed]:
    """A device whose tab is saved and whose first mail has arrived."""
    (home / "device").mkdir()
    ca_file = Path(shutil.copy(server.mailbox.ca_file, home / "authority.pem"))
    with Installed(home / "device", python) as device:
        device.start_both(ca_file)
        answer = device.logged_in().update(**settings_form(server.port))
        assert answer.status == 303, answer.text
        device.event("303", "the first")
        mail = server.mailbox.folder / "0001.eml"
        wait_for(lambda: mail.exists() and mail.stat().st_size, what="the mail")
        yield device


@pytest.fixture
def fresh(home: Path, python: Path, tmp_path: Path) -> Iterator[Installed]:
    """A device that was installed and never started."""
    folder = home / tmp_path.name
    folder.mkdir()
    with Installed(folder, python) as device:
        yield device


@pytest.fixture(scope="module")
def prefork(home: Path, python: Path) -> Iterator[Prefork]:
    """A process of the installed product that forks others."""
    with Prefork(python, environment(home)) as prefork:
        yield prefork


@pytest.fixture
def forked(home: Path, python: Path, prefork: Prefork, tmp_path: Path) -> Iterator[Installed]:
    """A device as `fresh`, whose processes start without the time that the imports take."""
    folder = home / tmp_path.name
    folder.mkdir()
    with Installed(folder, python, prefork) as device:
        yield device


def path_of(device: Installed, name: str) -> Path:
    """A file by its name: of the device's folders, or ``WHOSE:WHAT`` of a process."""
    process, _, what = name.partition(":")
    if what:
        return Path(f"/proc/{device.processes[process].pid}/{what}")
    return Path(getattr(device.folders, name))


def problem(words: list[str | Path], who: User) -> str:
    """Why one of Debian's own programs cannot do something as this user; empty when it can."""
    done = subprocess.run(words, capture_output=True, text=True, env={"LANG": "C"}, cwd="/", **who)
    return done.stderr.strip().rpartition(": ")[2]


def reading(device: Installed, name: str, who: User) -> str:
    """Why a file cannot be read by this user; empty when it can."""
    return problem(["head", "-c", "1", path_of(device, name)], who)


# It works.


def test_settings_saved_by_the_web_process_bring_mail_out_of_the_hook(device, server):
    assert b"the first" in (server.mailbox.folder / "0001.eml").read_bytes()


def test_processes_run_as_their_users(device):
    owners = {name: path_of(device, f"{name}:stat").stat().st_uid for name in ("web", "mailhook")}
    assert owners == {"web": pwd.getpwnam("daemon").pw_uid, "mailhook": pwd.getpwnam("bin").pw_uid}


def test_settings_file_is_the_webs_to_write_and_the_hooks_to_read(device):
    found = device.folders.settings.stat()
    names = pwd.getpwuid(found.st_uid).pw_name, grp.getgrgid(found.st_gid).gr_name
    assert (oct(stat.S_IMODE(found.st_mode)), *names) == ("0o640", "daemon", "bin")


def test_pages_know_the_state_of_the_hook(device):
    assert device.browser().get("/health").text == "ok\n"


def test_hooks_user_can_reveal_the_password(device):
    done = device.command("settings", "--reveal", **HOOK)
    assert f'"password": "{PASSWORD}"' in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("who", "name"),
    [
        ("web", "settings"),
        ("web", "administrator"),
        ("web", "web:environ"),
        ("hook", "settings"),
        ("hook", "private_key"),
        ("hook", "ledger"),
        ("hook", "mailhook:environ"),
        *((who, "public_key") for who in USERS),
    ],
)
def test_user_can_read_what_is_his(device, who, name):
    assert reading(device, name, USERS[who]) == ""


# The web's user cannot open the password.


@pytest.mark.parametrize(
    "name",
    ["private_key", "ledger", *(f"mailhook:{each}" for each in ("mem", "environ", "maps", "auxv"))],
)
def test_web_cannot_read_what_the_hook_keeps(device, name):
    assert reading(device, name, WEB) in ("Permission denied", "Operation not permitted")


def test_web_cannot_list_what_the_hook_keeps(device):
    assert problem(["ls", device.folders.ledger.parent], WEB) == "Permission denied"


def test_web_cannot_list_what_the_hook_has_open(device):
    assert problem(["ls", path_of(device, "mailhook:fd")], WEB) == "Permission denied"


TRACE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE = 0x4206
done = libc.ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, None)
print(done, os.strerror(ctypes.get_errno()))
"""


def test_web_cannot_trace_the_hook(device):
    pid = str(device.processes["mailhook"].pid)
    assert device.script(WEB, TRACE, pid) == "-1 Operation not permitted\n"


def test_web_cannot_reveal_the_password(device):
    done = device.command("settings", "--reveal", **WEB)
    assert (done.returncode, done.stdout) == (77, "")
    assert done.stderr == "device-ui: private.key could not be read: Permission denied\n"


# Everything that a user can read is tried as a key: 32 bytes at any place, and what hexadecimal or base64 stands for.
TRY_EVERYTHING = """
import base64, binascii, os, re, sys
from pathlib import Path
from device_ui.errors import DeviceUIError
from device_ui.settings import seal
from device_ui.settings.store import Store

settings, _ = Store(Path(sys.argv[1])).read()
texts = {os.environb[name] for name in os.environb}
for root in sys.argv[2:]:
    for folder, _, names in os.walk(root):
        for name in names:
            try:
                descriptor = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NONBLOCK)
                texts.add(os.read(descriptor, 65536))
                os.close(descriptor)
            except OSError:
                pass
keys = set()
for text in texts:
    keys.update(text[start:start + 32] for start in range(len(text) - 31))
    for match in re.findall(rb"[0-9a-fA-F]{64}", text):
        keys.add(bytes.fromhex(match.decode()))
    for match in re.findall(rb"[A-Za-z0-9_-]{43}", text):
        keys.add(base64.urlsafe_b64decode(match + b"="))
opened = set()
for key in keys:
    try:
        opened.add(seal.unseal(settings.sealed, key, settings.bound_to))
    except (DeviceUIError, ValueError):
        pass
print(len(texts) > 5, len(keys) > 1000, opened)
"""


def test_nothing_that_the_web_can_read_opens_the_password(device):
    assert try_everything(device, WEB) == "True True set()\n"


def test_trying_everything_opens_the_password_for_the_hooks_user(device):
    assert try_everything(device, HOOK) == f"True True {ascii({PASSWORD})}\n"


def try_everything(device: Installed, who: User) -> str:
    """What the program above prints as this user."""
    folders = [str(each) for each in (device.folder, f"/proc/{device.processes['mailhook'].pid}/task")]
    return device.script(who, TRY_EVERYTHING, str(device.folders.settings), *folders)


# Nobody reads or changes what is another's.


@pytest.mark.parametrize("name", ["private_key", "ledger", "administrator"])
def test_secret_is_closed_even_without_its_folder(device, name):
    assert oct(stat.S_IMODE(path_of(device, name).stat().st_mode)) == "0o600"


@pytest.mark.parametrize("name", ["administrator", "web:mem", "web:environ"])
def test_hook_cannot_read_what_the_web_keeps(device, name):
    assert reading(device, name, HOOK) == "Permission denied"


@pytest.mark.parametrize("who", ["member", "stranger"])
@pytest.mark.parametrize(
    "name", ["settings", "private_key", "ledger", "administrator", "web:environ", "mailhook:environ"]
)
def test_others_can_read_nothing(device, who, name):
    assert reading(device, name, USERS[who]) == "Permission denied"


@pytest.mark.parametrize("who", ["member", "stranger"])
def test_others_cannot_get_the_settings_by_the_command(device, who):
    done = device.command("settings", **USERS[who])
    assert (done.returncode, done.stdout) == (77, "")


@pytest.mark.parametrize("who", ["hook", "member", "stranger"])
def test_nobody_but_the_web_can_write_the_settings(device, who):
    words = ["cp", "/dev/null", device.folders.settings]
    assert problem(words, USERS[who]) == "Permission denied"


@pytest.mark.parametrize("who", ["web", "member", "stranger"])
@pytest.mark.parametrize("name", ["socket", "public_key"])
def test_nobody_but_the_hook_can_take_away_what_it_shows(device, who, name):
    assert problem(["rm", "-f", path_of(device, name)], USERS[who]) == "Permission denied"


# Who may ask the hook what.


@pytest.mark.parametrize("who", [HOOK, WEB, MEMBER, LATE_MEMBER], ids=["hook", "web", "member", "late member"])
def test_event_is_accepted_from(device, who):
    done = device.command("event", "153", **who)
    assert re.fullmatch(r"accepted [0-9]+\n", done.stdout), done.stderr


def test_event_of_a_stranger_is_denied(device):
    done = device.command("event", "153", **STRANGER)
    assert (done.returncode, done.stdout) == (77, "")


ASK = """
import sys
from pathlib import Path
from device_ui.errors import HookError
from device_ui.mail import client
try:
    print(sorted(client.ask(Path(sys.argv[1]), {"do": sys.argv[2]})))
except HookError as error:
    print(error.word)
"""


@pytest.mark.parametrize("do", ["state", "settings-changed"])
@pytest.mark.parametrize("who", [MEMBER, LATE_MEMBER, STRANGER], ids=["member", "late member", "stranger"])
def test_others_may_ask_nothing_else(device, who, do):
    assert device.script(who, ASK, str(device.folders.socket), do) == "denied\n"


@pytest.mark.parametrize(("do", "answer"), [("state", "['state']\n"), ("settings-changed", "['ok']\n")])
@pytest.mark.parametrize("who", ["hook", "web"])
def test_web_and_hook_may_ask(device, who, do, answer):
    assert device.script(USERS[who], ASK, str(device.folders.socket), do) == answer


# What an installer made stays, and what root does at the console is the processes' to use.


def test_folders_stay_as_the_installer_made_them(fresh, ca_file):
    fresh.start_both(ca_file)
    found = {name: (fresh.folder / name).stat() for name in FOLDERS}
    owners = {
        name: (pwd.getpwuid(each.st_uid).pw_name, grp.getgrgid(each.st_gid).gr_name) for name, each in found.items()
    }
    assert {name: (stat.S_IMODE(each.st_mode), *owners[name]) for name, each in found.items()} == FOLDERS


def test_password_set_at_the_console_opens_the_pages(fresh):
    fresh.start_web(**WEB)
    done = fresh.command("admin", "set-password", input=f"{ADMIN_PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    assert fresh.browser().post("/login", password=ADMIN_PASSWORD).status == 303


def test_setup_code_shown_at_the_console_first_works_on_the_page(fresh):
    code = fresh.setup_code()
    fresh.start_web(**WEB)
    answer = fresh.browser().post("/setup", code=code, password=ADMIN_PASSWORD, again=ADMIN_PASSWORD)
    assert answer.status == 303


def test_check_finds_nothing_wrong_at_the_console(device):
    done = device.command("check")
    assert done.returncode == 0, done.stdout


def test_processes_start_again_in_what_they_left(fresh, ca_file):
    fresh.start_both(ca_file).logged_in()
    fresh.stop("web")
    fresh.stop("mailhook")
    fresh.start_both(ca_file)
    assert fresh.logged_in().update(**settings_form(1)).status == 303
