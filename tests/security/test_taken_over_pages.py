"""A web process that was taken over attacks root and the hook with every file that its user can write.

Both processes and root run as users of their own (`test_separation`); each attack is run as the user of the pages.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from device_ui.cli.parser import parser
from device_ui.errors import HookError
from device_ui.mail import client
from tests.helpers.product import ADMIN_PASSWORD, PASSWORD, SECONDS, listens, settings_form, wait_for
from tests.security import test_separation as separation
from tests.security.test_separation import HOOK, WEB, Installed

# Fixtures.
home, python, prefork, fresh = separation.home, separation.python, separation.prefork, separation.forked

# Write the settings file: the values of standard input, and a password of any kind sealed to the hook's public key.
SEAL = """
import json, os, sys
from pathlib import Path
from device_ui.settings import keys, seal
from device_ui.storage import toml_file
values, path = json.load(sys.stdin), Path(sys.argv[1])
if (password := values.pop("password", None)) is not None:
    bound_to = [str(values[name]) for name in ("host", "port", "account", "security")]
    values["sealed"] = seal.seal(password, keys.load_public(Path(sys.argv[2])), bound_to)
Path(path).write_bytes(toml_file.encode("x", values))
Path(path).chmod(0o640)
"""


def seal_by_hand(device: Installed, **fields: str | int) -> None:
    """Write a settings file with a right checksum as the user of the pages."""
    known = settings_form(2525, security="auto", sign_in="provider", from_address="a@b.cc")
    values = {**known, "port": 2525, **fields}
    if values["sign_in"] == "none":
        del values["password"]
    words = [str(device.folders.settings), str(device.folders.public_key)]
    device.prefork.run(SEAL, words, device.environment, json.dumps(values), SECONDS, **WEB).check_returncode()


@pytest.fixture
def device(fresh: Installed) -> Installed:
    """A device whose hook has made its keys; nothing is stored yet."""
    return fresh.start_hook(**HOOK)


# What root hands to msmtp and to a shell (docs/appliance.md, "A mailer of your own").


@pytest.mark.parametrize("line", ['eval touch "{mark}"', 'passwordeval "touch {mark}"'])
@pytest.mark.parametrize("who", [{}, HOOK], ids=["root", "hook"])
def test_no_line_of_a_sealed_password_runs_in_msmtp(device, tmp_path, line, who):
    mark = tmp_path / "mark"
    tmp_path.chmod(0o777)
    # The quote that begins the value ends here: an empty password, which lets msmtp run `passwordeval` before it connects.
    hidden = f'"\n{line.format(mark=mark)}\nlogfile "'
    seal_by_hand(device, password=hidden, host="127.0.0.1", port=1)
    done = device.command("settings", "--format", "msmtprc", "--reveal", **who)
    rc = tmp_path / "msmtprc"
    rc.touch(0o600)
    rc.write_text(done.stdout)
    subprocess.run(["msmtp", "-C", rc, "ops@example.org"], input=b"x", capture_output=True, timeout=60)
    assert not mark.exists()
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == "device-ui: the stored password cannot be opened: it breaks the rules of a password\n"


FORMATS = ("json", "env", "msmtprc")


def test_no_format_carries_a_password_that_ends_its_line(device):
    for end in ("\n", "\r", "\x85", "\u2028"):  # as C, a terminal, and other readers of lines see it
        seal_by_hand(device, password=f"before{end}after")
        done = [device.command("settings", "--format", name, "--reveal") for name in FORMATS]
        assert [(each.returncode, each.stdout) for each in done] == [(78, "")] * 3


@pytest.mark.parametrize("name", ["host", "sender_name"])
def test_no_format_carries_a_field_that_another_reader_takes_for_two_lines(device, name):
    seal_by_hand(device, **{name: "mail\u2028passwordeval id"})
    done = [device.command("settings", "--format", each) for each in FORMATS]
    assert [(each.returncode, each.stdout) for each in done] == [(78, "")] * 3
    told = f"device-ui: {name} holds a character that cannot be seen; type it again on the page\n"
    assert [each.stderr for each in done] == [told] * 3


def test_msmtp_names_no_host_of_roots_in_the_sender(device):
    seal_by_hand(device, from_address="%U%H@mail.example.com")
    done = device.command("settings", "--format", "msmtprc", "--reveal")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == "device-ui: msmtp cannot take this from: it replaces %U, %H, %C and %M in it\n"


def test_the_hook_signs_in_with_no_password_of_several_lines(device):
    seal_by_hand(device, password="one\r\nMAIL FROM:<x@y.zz>")
    device.event()
    done = device.command("check")
    assert "FAIL  mail hook: password the stored password cannot be opened: it breaks the rules" in done.stdout
    assert device.state()["waiting"] == 1


def test_a_password_that_keeps_the_rules_is_revealed_still(device):
    seal_by_hand(device, sign_in="manual", from_address="")
    done = device.command("settings", "--format", "msmtprc", "--reveal")
    assert f'password "{PASSWORD}"' in done.stdout


# What root and the hook's loop read.

NESTED = """
import hashlib, sys
from pathlib import Path
body = b"a" + b".a" * 32_000 + b" = 1\\n"
Path(sys.argv[1]).write_bytes(body + b'sha256 = "' + hashlib.sha256(body).hexdigest().encode() + b'"\\n')
"""
# What can lie in place of a file: nothing of it may be waited for.
IN_PLACE = {
    "a named pipe": "os.mkfifo(path)",
    "a file without an end": "os.symlink('/dev/zero', path)",
    "a file with a hole": "os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 2**40)",
    "a folder": "os.mkdir(path)",
    # fcntl(2), F_SETLEASE: an open without O_NONBLOCK waits for 45 s.
    "a file under a lease": "held = os.open(path, os.O_CREAT | os.O_RDWR); fcntl.fcntl(held, 1024, fcntl.F_WRLCK)",
}
PUT = "import fcntl, os, signal, sys; path = sys.argv[1]; {}; print(flush=True); sys.stdin.read()"


def ticks(pid: int) -> int:
    """Hundredths of a second that a process has used (proc_pid_stat(5))."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def test_nested_settings_cost_neither_root_nor_the_hook_the_square(device):
    def used() -> float:
        before = time.process_time()
        device.call("check")
        return time.process_time() - before

    plain = used()
    for name in ("settings", "recipients", "administrator"):
        device.script(WEB, NESTED, str(getattr(device.folders, name)))
    hook = device.processes["mailhook"].pid
    before = ticks(hook)
    assert device.event() == 1
    assert len(list(client.history(device.folders.socket, {}, seconds=120))) == 2
    assert (ticks(hook) - before) / os.sysconf("SC_CLK_TCK") < 10
    assert used() < 2 * plain + 2
    assert "FAIL  SMTP settings: smtp.toml is damaged: it holds a line that this program does not write" in (
        device.command("check").stdout
    )


@pytest.mark.parametrize("what", IN_PLACE)
@pytest.mark.parametrize("name", ["settings", "recipients"])
def test_nothing_that_lies_in_place_of_a_file_keeps_an_alarm_waiting(device, name, what):
    words = [device.python, "-c", PUT.format(IN_PLACE[what]), str(getattr(device.folders, name))]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", **WEB) as attacker:
        assert attacker.stdout.readline() == b"\n"
        assert device.event() == 1
        assert client.content(device.folders.socket, "303", seconds=SECONDS)["subject"]
        assert [each for each in client.history(device.folders.socket, {}, seconds=SECONDS) if "end" in each]
        if name == "settings":
            with pytest.raises(HookError):
                list(client.test(device.folders.socket, seconds=SECONDS))
        assert device.state()["waiting"] == 1
        assert device.command("check").returncode == 78
        attacker.communicate(timeout=SECONDS)


def test_the_loop_that_takes_alarms_opens_no_file_of_the_pages(fresh):
    seal_by_hand(fresh.start_hook(**HOOK))
    fresh.stop("mailhook")
    trace = fresh.folders.run / "trace"
    words = ["strace", "-f", "-qq", "-e", "trace=openat,open", "-o", str(trace), fresh.python, "-m", "device_ui"]
    with subprocess.Popen([*words, "mailhook", "--allow-loopback"], env=fresh.environment, cwd="/", **HOOK) as traced:
        path = fresh.folders.socket
        wait_for(lambda: listens(path), what="the hook's start")
        assert fresh.event() == 1
        client.settings_changed(path, seconds=SECONDS)
        client.state(path, seconds=SECONDS)
        list(client.kinds(path, seconds=SECONDS))
        client.content(path, "303", seconds=SECONDS)
        list(client.history(path, {}, seconds=SECONDS))
        list(client.test(path))
        os.kill(int(Path(f"/proc/{traced.pid}/task/{traced.pid}/children").read_text()), signal.SIGTERM)
        traced.wait(SECONDS)
    opened = [line.split(maxsplit=1) for line in trace.read_text().splitlines()]
    loop = opened[0][0]
    theirs = {pid for pid, call in opened if f'"{fresh.folders.settings.parent}/' in call}
    assert theirs, "nobody opened the settings: nothing was seen"
    assert loop not in theirs


# What root's console shows.

FORGED = "\x1b[2J\x1b]52;c;Zg==\x07\x9b2J\u202e\nOK    forged: "
# As the user of the pages: names of quarantined files, a setup code, a host, a damaged list.
SPOIL = """
import hashlib, sys
from pathlib import Path
from device_ui.storage import toml_file
folder, forged = Path(sys.argv[1]), sys.argv[2]
for name in ("settings/smtp.toml", "settings/recipients.toml", "web/administrator.toml"):
    (folder / f"{name}.damaged-{forged}.damaged-1").touch()
    (folder / f"{name}.damaged-1").touch()
    (folder / f"{name}.damaged-{forged}").mkdir()
(folder / "settings/recipients.toml").write_bytes(forged.encode())
(folder / "web/administrator.toml").write_bytes(toml_file.encode("x", {"code": forged}))
"""
# As the hook's user: a socket on which each request is answered with this.
ANSWER = """
import json, os, socket, sys
path, forged = sys.argv[1:]
event = {"number": forged, "time": forged, "seconds": forged, "type": forged, "code": forged, "name": forged, "source": forged, "text": forged,
    "state": forged, "mail": forged, "deliveries": [{"recipient": forged, "verdict": forged, "step": forged, "reply": forged, "time": forged,
    "seconds": forged}]}
result = {"verdict": forged, "step": forged, "problem": forged, "reply": forged, "field": "", "advice": forged, "seconds": 1.0, "recipients": []}
state = {"problem": forged, "step": forged, "reply": forged, "waiting": 1, "removed": 0, "clock": "", "set_aside": ""}
said = {"history": [{"event": event}, {"end": {"matched": forged, "kept": forged, "removed": {}}}],
    "test": [{"step": {"name": forged, "seconds": 1.0, "told": forged}}, {"result": result}], "state": [{"state": state}]}
sock = socket.socket(socket.AF_UNIX)
os.unlink(path)
sock.bind(path)
os.chmod(path, 0o666)
sock.listen()
print(flush=True)
while True:
    caller = sock.accept()[0]
    asked = caller.makefile().readline()
    lines = said.get(json.loads(asked)["do"], [{"error": forged, "reason": forged}]) if asked else []
    caller.sendall(b"".join(json.dumps(each).encode() + b"\\n" for each in lines))
    caller.close()
"""
COMMANDS = (
    ("event", "303"),
    ("test",),
    ("test", "--json"),
    ("history",),
    ("history", "--json"),
    ("history", "--csv"),
    ("sendmail", "root"),
    ("settings",),
    ("settings", "--format", "env"),
    ("settings", "--format", "msmtprc", "--reveal"),
    ("setup-code",),
    ("certificate",),
    ("certificate", "--if-needed"),
    ("check",),
    ("fix-ownership",),
    ("metrics-token",),
    ("metrics-token", "--remove"),
    ("token",),
    ("token", "--keep-alive"),
    ("export",),
    ("export", "--json"),
    ("seal", "-"),
    ("apply", "-"),
    ("apply", "--json", "-"),
    ("rotate-key",),
    ("admin", "set-password"),
    ("factory-reset",),
    ("factory-reset", "--yes"),
)


def shown(device: Installed) -> dict[str, str]:
    """What each command shows on root's console."""
    done = {" ".join(words): device.command(*words, input=f"{ADMIN_PASSWORD}\n") for words in COMMANDS}
    return {name: each.stdout + each.stderr for name, each in done.items()}


def assert_harmless(found: dict[str, str]) -> None:
    """Nothing that a terminal obeys is shown, and no line is begun by a value; a byte order mark begins a CSV file."""
    for name, text in found.items():
        plain = text.removeprefix("\ufeff").replace("\r\n", "\n")
        assert [each for each in plain if not (each.isprintable() or each == "\n")] == [], name
        if "--csv" not in name:  # a cell of RFC 4180 may hold several lines
            assert not any(each.startswith("OK    forged") for each in plain.splitlines()), name


def test_nothing_of_a_taken_over_page_is_obeyed_by_roots_terminal(device):
    device.command("event", "303", "--text", FORGED, "--source", FORGED, **HOOK)
    seal_by_hand(device, host="h\u202e\u2066ost", sender_name="\u2028")
    device.script(WEB, SPOIL, str(device.folders.data), FORGED)
    found = shown(device)
    assert_harmless(found)
    assert "forged" in found["history"]
    assert (
        "device-ui: this device has no setup code; device-ui admin set-password sets a password\n"
        in found["setup-code"]
    )
    assert "set aside" in found["check"]


def test_nothing_of_a_taken_over_hook_is_obeyed_by_roots_terminal(device):
    device.stop("mailhook")
    device.folders.socket.touch()
    shutil.chown(device.folders.socket, HOOK["user"])
    words = [device.python, "-c", ANSWER, str(device.folders.socket), FORGED]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd="/", **HOOK) as attacker:
        assert attacker.stdout.readline() == b"\n"
        found = shown(device)
        attacker.kill()
    assert_harmless(found)
    asked = ("event 303", "test", "test --json", "history", "history --json", "history --csv", "sendmail root", "check")
    assert [name for name in asked if "forged" not in found[name]] == []


def test_every_command_that_root_gives_is_in_the_walk():
    words = next(each for each in parser()._actions if each.dest == "command" or getattr(each, "choices", None)).choices
    assert {each[0] for each in COMMANDS} == set(words) - {"run", "web", "mailhook"}
