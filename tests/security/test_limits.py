"""What one user of the device may take of the mail hook, however often it asks: each test is an attack by a real user.

The web process's user speaks to the hook's socket itself, as a page that was taken over can. Debian's own users stand in
for ours (see `test_separation`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from device_ui.mail import client
from tests.helpers.prefork import Prefork
from tests.helpers.product import ADMIN_PASSWORD, SECONDS, choose_password, listens, wait_for
from tests.security import test_separation as separation
from tests.security.test_separation import FOLDERS, HOOK, MEMBER, WEB, Installed, User
from tests.security.test_taken_over_pages import ticks
from tests.servers.scripted import ScriptedServer, Session, close

# Fixtures.
home, python, prefork, fresh = separation.home, separation.python, separation.prefork, separation.forked

# What a page that was taken over has: the product's own modules, the hook's socket, the settings and the public key.
BEGIN = """
import contextlib, dataclasses, json, os, socket, sys, threading
from pathlib import Path
from device_ui.config import Folders
from device_ui.errors import DeviceUIError
from device_ui.mail import client
from device_ui.settings import keys, seal
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.store import Store
folders = Folders.find(None, os.environ)
hook, port = folders.socket, int(sys.argv[1])

def typed(password="", port=port, **changes):
    made = SmtpSettings("127.0.0.1", port, "A", "alarm@mail.example.com", security="none", **changes)
    if not password:
        return dataclasses.replace(made, sign_in="none", sealed=None)
    sealed = seal.seal(password, keys.load_public(folders.public_key), made.bound_to)
    return dataclasses.replace(made, sign_in="provider", sealed=sealed)

def test(settings, *to):
    try:
        return list(client.test(hook, dataclasses.asdict(settings), to))[-1]["result"]["step"] or "sent"
    except DeviceUIError as error:
        return error.word

def save(settings):
    store = Store(folders.settings)
    store.save(settings, store.load().revision)
    with contextlib.suppress(DeviceUIError):
        client.settings_changed(hook)

def unlike(before):
    "Wait until the hook says another thing of its last attempt, half a second at most."
    for _ in range(25):
        if client.state(hook)["reply"] != before["reply"]:
            return
        threading.Event().wait(0.02)
"""
# Debian's users as the hook's limits see them.
TESTS, LOGINS, RESETS = 10, 4, 10


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A mail server that takes everything."""
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def device(fresh: Installed) -> Installed:
    """A device whose hook runs under a user of its own."""
    return fresh.start_hook(**HOOK)


def attack(device: Installed, who: User, code: str, port: int) -> Any:
    """What a program prints as JSON that this user runs."""
    printed = device.script(who, BEGIN + code, str(port))
    try:
        return json.loads(printed)
    except ValueError:
        raise AssertionError(printed) from None


# Row 6: what reaches a mail server.


def test_a_page_that_was_taken_over_sends_few_test_mails(device, server):
    said = attack(device, WEB, 'print(json.dumps([test(typed(), f"a{n}@b.example") for n in range(30)]))', server.port)
    assert said == ["sent"] * TESTS + ["too-many"] * (30 - TESTS)
    assert len(server.mails) == TESTS


def test_a_page_that_was_taken_over_probes_few_ports(device, server):
    code = "print(json.dumps([test(typed(port=port)) for port in range(40001, 40041)] + [test(typed())]))"
    said = attack(device, WEB, code, server.port)
    assert said.count("connect") == TESTS
    assert server.sessions == []


def test_a_page_that_was_taken_over_makes_few_wrong_logins(device, server):
    server.script["AUTH"] = "535 5.7.8 wrong"
    said = attack(device, WEB, 'print(json.dumps([test(typed(f"wrong {n}")) for n in range(20)]))', server.port)
    assert said == ["login"] * LOGINS + ["too-many-logins"] * (20 - LOGINS)
    assert server.verbs.count("AUTH") == LOGINS


def test_wrong_passwords_that_are_saved_again_and_again_lock_no_account(device, server):
    server.script["AUTH"] = lambda session, _: session.say(f"535 5.7.8 wrong {len(server.sessions)}")
    code = """
for n in range(12):
    before = client.state(hook)
    save(typed(f"wrong {n}"))
    client.raise_event(hook, "303")
    unlike(before)
print(json.dumps(client.state(hook)["problem"]))
"""
    assert attack(device, WEB, code, server.port) == "too many logins"
    assert 1 <= server.verbs.count("AUTH") <= LOGINS


def test_a_server_of_the_attackers_own_in_between_gives_no_wrong_login_back(device, server):
    server.script["AUTH"] = lambda session, _: session.say(f"535 5.7.8 wrong {len(server.sessions)}")
    with ScriptedServer() as own:
        code = f"""
said = []
for n in range(9):
    before = client.state(hook)
    save(typed(f"wrong {{n}}"))
    client.raise_event(hook, str(400 + n))
    unlike(before)
    mine = typed("any password", port={own.port})
    save(mine)
    said.append(test(mine))
print(json.dumps(said))
"""
        assert attack(device, WEB, code, server.port) == ["sent"] * 9
    assert 1 <= server.verbs.count("AUTH") <= LOGINS


def test_servers_that_are_saved_one_after_another_are_not_all_tried(device, server):
    server.script["greeting"] = lambda session, _: session.say(f"421 4.3.2 not now {len(server.sessions)}")
    code = """
for n in range(20):
    before = client.state(hook)
    save(typed(f"any password {n}"))
    client.raise_event(hook, "303")
    unlike(before)
print(json.dumps(1))
"""
    attack(device, WEB, code, server.port)
    assert 1 <= len(server.sessions) <= RESETS + 2


def test_a_hook_that_starts_again_gives_no_test_back(device, server):
    many = f"print(json.dumps([test(typed()) for _ in range({TESTS})]))"
    assert attack(device, WEB, many, server.port) == ["sent"] * TESTS
    device.stop("mailhook")
    device.start_hook(**HOOK)
    assert attack(device, WEB, many, server.port) == ["too-many"] * TESTS


def test_root_has_tests_of_its_own(device, server):
    attack(device, WEB, f"save(typed()); print(json.dumps([test(typed()) for _ in range({TESTS + 1})]))", server.port)
    done = device.command("test")
    assert done.returncode == 0, done.stdout + done.stderr


def silent_until_the_end(session: Session, line: str) -> None:
    """Say nothing before the test is over, and close then."""
    session.server.stopping.wait(30)
    close(session, line)


def test_a_test_of_the_page_that_never_ends_keeps_root_from_none(device, server):
    with ScriptedServer({"greeting": silent_until_the_end}) as silent:
        code = """
sock = socket.socket(socket.AF_UNIX)
sock.connect(str(hook))
sock.sendall(json.dumps({"do": "test", "settings": dataclasses.asdict(typed())}).encode() + b"\\n")
print(json.dumps(sock.recv(1000).decode()[:7]))
"""
        assert attack(device, WEB, code, silent.port) == '{"step"'
        wait_for(lambda: silent.sessions, what="the page's test")
        typed = {"host": "127.0.0.1", "port": server.port, "sender_name": "A", "account": "a@b.cc"}
        relay = {**typed, "security": "none", "sign_in": "none", "sealed": None}
        lines = list(client.test(device.folders.socket, relay, ["a@b.cc"]))
        assert lines[-1]["result"]["verdict"] == "delivered"


# Row 7: the address that decides.


class Front:
    """A proxy in front of the pages of `device`, on the socket in its run folder."""

    def __init__(self, device: Installed) -> None:
        self.device, folder = device, device.folder / "front"
        folder.mkdir()
        shutil.chown(folder, **{name: WEB[name] for name in ("user", "group")})
        self.path = folder / "web.sock"
        self.device.spawn("web", "--listen", f"unix:{self.path}", **WEB)
        wait_for(lambda: listens(self.path), what="the pages' start")
        choose_password(device.folders.administrator)

    def log_in(self, told: str, password: str) -> int:
        """The status of a login by the client whom the proxy names like this."""
        body = f"password={urllib.parse.quote(password)}".encode()
        lines = [
            "POST /login HTTP/1.1",
            "Host: 192.0.2.1",
            "Origin: http://192.0.2.1",
            "Connection: close",
            "Content-Type: application/x-www-form-urlencoded",
            f"Content-Length: {len(body)}",
            *([f"X-Forwarded-For: {told}"] if told else []),
        ]
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(str(self.path))
            sock.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            return int(sock.makefile("rb").readline().split()[1])

    def statuses(self, guesses: Iterable[str]) -> list[int]:
        """What guesses of these clients are answered."""
        return [self.log_in(each, "a wrong password") for each in guesses]


@pytest.fixture
def front(fresh: Installed) -> Front:
    return Front(fresh)


@pytest.mark.parametrize(
    ("stranger", "owner"),
    [
        ("::ffff:203.0.113.9", "::ffff:198.51.100.7"),
        ("64:ff9b::cb00:7109", "64:ff9b::c633:6407"),
        ("2001:0:4136:e378:8000:63bf:34ff:8ef6", "2001:0:4136:e378:8000:63bf:39cc:9bf8"),
    ],
    ids=["IPv4-mapped", "NAT64", "Teredo"],
)
def test_strangers_who_share_a_prefix_with_the_owner_lock_nobody_out(front, stranger, owner):
    assert front.statuses([stranger] * 5)[-1] == 429
    assert front.log_in(owner, ADMIN_PASSWORD) == 303


def test_the_log_names_the_client_whom_the_proxy_names(front):
    front.log_in("::ffff:203.0.113.9", "a wrong password")
    assert "a login from 203.0.113.9 failed" in front.device.log("web")


@pytest.mark.parametrize(
    "told",
    [[f"2002:cb00:7109:{n:x}::1" for n in range(8)], [f"203.0.113.{n} x" for n in range(8)], [""] * 8],
    ids=["6to4", "two words", "no header"],
)
def test_who_chooses_what_is_told_of_him_is_one_visitor(front, told):
    assert front.statuses(told)[3:] == [429] * 5


def test_a_proxy_that_names_nobody_is_in_the_log_in_few_lines(front):
    front.statuses(["203.0.113.9 evil"] * 40)
    lines = [each for each in front.device.log("web").splitlines() if "client address unknown" in each]
    assert 1 <= len(lines) <= 21
    assert lines[0].endswith("client address unknown: X-Forwarded-For of the proxy is '203.0.113.9 evil'")


# Row 8: what one user holds of the ledger, the reserve, and the socket.


def history(device: Installed, **query: object) -> list[dict[str, Any]]:
    """Every event of the ledger, as root reads it."""
    lines = client.history(device.folders.socket, {"limit": 0, **query})
    return [line["event"] for line in lines if "event" in line]


FLOOD = """
import threading
line = json.dumps({"do": "event", "code": "304", "text": "x" * int(sys.argv[1]), "source": "firmware"}).encode() + b"\\n"
count = int(sys.argv[2])
sock = socket.socket(socket.AF_UNIX)
sock.connect(str(folders.socket))
threading.Thread(target=sock.sendall, args=(line * count,)).start()
with sock.makefile("rb") as answers:
    print(json.dumps([next(answers)[:11].decode() for _ in range(count)][-1]))
"""


def flood(device: Installed, who: User, length: int, count: int) -> str:
    """Raise so many unmailed faults as this user; how the last is answered."""
    return json.loads(device.script(who, BEGIN.replace("int(sys.argv[1])", "0") + FLOOD, str(length), str(count)))


@pytest.mark.parametrize("who", [MEMBER, WEB], ids=["member", "web"])
@pytest.mark.parametrize(
    ("limit", "length", "count"), [("rows = 1000", 0, 3000), ("bytes = 1048576", 4000, 800)], ids=["rows", "bytes"]
)
def test_faults_of_one_user_push_out_no_fault_of_another(fresh, who, limit, length, count):
    with (fresh.folders.etc / "device.toml").open("a") as file:
        file.write(f"[ledger]\n{limit}\n")
    fresh.start_hook(**HOOK)
    ours = [client.raise_event(fresh.folders.socket, "303", "volume 1 is degraded") for _ in range(20)]
    assert flood(fresh, who, length, count) == '{"accepted"'
    kept = {each["number"] for each in history(fresh)}
    assert set(ours) <= kept
    assert len(kept) < count


def test_the_text_that_names_a_source_buys_no_share(fresh):
    with (fresh.folders.etc / "device.toml").open("a") as file:
        file.write("[ledger]\nrows = 1000\n")
    fresh.start_hook(**HOOK)
    ours = [client.raise_event(fresh.folders.socket, "303", source="firmware") for _ in range(20)]
    flood(fresh, MEMBER, 0, 3000)
    assert set(ours) <= {each["number"] for each in history(fresh)}


STAY = """
socks = [socket.socket(socket.AF_UNIX) for _ in range(int(sys.argv[2]))]
for sock in socks:
    with contextlib.suppress(OSError):
        sock.connect(str(folders.socket))
        sock.sendall(sys.argv[1].encode() + b"\\n")
print("there", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def staying(device: Installed, who: User, line: str, count: int) -> Iterator[None]:
    """Connections of this user that ask this and read nothing, for the length of the block."""
    words = [device.python, "-c", BEGIN.replace("int(sys.argv[1])", "0") + STAY, line, str(count)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(words, env=device.environment, cwd="/", **pipes, **who)
    try:
        assert process.stdout.readline() == b"there\n"
        yield
    finally:
        process.communicate(timeout=60)


@pytest.fixture
def filled(device: Installed) -> Installed:
    """A device whose history is longer than a socket holds unread."""
    flood(device, MEMBER, 3000, 400)
    return device


def test_histories_that_one_user_leaves_unread_keep_root_from_none(filled):
    with staying(filled, WEB, '{"do": "history", "limit": 0}', 8):
        assert len(history(filled)) == 400


def test_connections_of_one_user_push_out_nobody_elses(device):
    sock = socket.socket(socket.AF_UNIX)
    with sock:
        sock.settimeout(20)
        sock.connect(str(device.folders.socket))
        sock.sendall(b"event 303 fi")
        with staying(device, MEMBER, "event 153", 200):
            sock.sendall(b"rst\n")
            assert sock.recv(100).startswith(b"accepted ")


def test_costly_requests_of_one_user_delay_no_alarm(device):
    asked = '{"do": "content", "code": "303"}'
    many = "\n".join([asked] * 400)
    with staying(device, WEB, many, 40):
        before = ticks(device.processes["mailhook"].pid)
        assert client.raise_event(device.folders.socket, "303", seconds=SECONDS) > 0
        # Of the hook's own time: a busy machine is no delay by this user.
        assert (ticks(device.processes["mailhook"].pid) - before) / os.sysconf("SC_CLK_TCK") < 5


class Flash:
    """A device whose data lie on a disk of 4 MB, and the page's user, who fills it."""

    def __init__(self, device: Installed) -> None:
        self.device, self.folder = device, device.folders.data
        self.reserve = device.folders.ledger.with_name("reserve")

    def fill(self) -> None:
        """Take what is left, as the page's user, in a folder of its own."""
        code = """
with open(folders.administrator.with_name("filler"), "ab", buffering=0) as file:
    with contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
"""
        printed = self.device.script(WEB, BEGIN + code, "0")
        assert printed == ""

    def alarm(self, text: str = "volume 1 is degraded") -> int:
        return client.raise_event(self.device.folders.socket, "303", text)


@pytest.fixture
def small_disk(home: Path, python: Path, prefork: Prefork, tmp_path: Path) -> Iterator[Flash]:
    folder = home / tmp_path.name
    folder.mkdir()
    disk = folder / "data"
    with Installed(folder, python, prefork) as device:
        shutil.copytree(disk, folder / "before", dirs_exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "tmpfs", disk], check=True, timeout=60)
        try:
            for name, (mode, owner, group) in FOLDERS.items():
                if name.startswith("data/"):
                    (folder / name).mkdir()
                    shutil.chown(folder / name, owner, group)
                    (folder / name).chmod(mode)
            yield Flash(device.start_hook(**HOOK))
            device.stop("mailhook")
        finally:
            subprocess.run(["umount", "--lazy", disk], check=True, timeout=60)


def test_a_page_that_fills_the_disk_again_and_again_leaves_root_the_reserve(small_disk):
    assert small_disk.alarm() == 1
    small_disk.fill()
    for _ in range(12):
        flood(small_disk.device, WEB, 4000, 40)
        attack(small_disk.device, WEB, "print(json.dumps([test(typed())]))", 9)
        small_disk.fill()
    assert small_disk.reserve.stat().st_size >= 512 * 1024
    for _ in range(6):
        assert small_disk.alarm() > 1
        small_disk.fill()
