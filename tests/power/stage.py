"""One device on stage: real processes under one strace, and the user, the firmware and the mail server played here.

What the user asks for is marked in the trace before it is asked (`begin`), so that whoever reads the trace knows which
value an acknowledgement speaks of. The acknowledgement itself is never marked: it is the product's own bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from device_ui.config import Device, Folders
from device_ui.mail import client
from device_ui.mail.events import Event
from device_ui.mail.outbox.outbox import Outbox
from device_ui.settings import keys, seal
from device_ui.settings.fields import parse
from device_ui.settings.notifications import Notifications
from device_ui.settings.store import NotificationStore, Store
from device_ui.web.auth.administrator import Administrator
from device_ui.web.server import prepare
from tests.helpers.product import ROOT, Browser, free_port, readable, wait_for
from tests.servers.scripted import ScriptedServer

# A small ledger, so that its limit is reached; no digest, so that each event is a mail; a reserve that does not fill traces.
MAKER = "[ledger]\nrows = 100\nreserve = 2048\n\n[mail]\ndigest_window = {window}\nhourly_budget = 100000\n"
ROWS = 100
# For the stories with an engine: a program that keeps what it gets unless it is away, outside of the flash.
FORWARD = 'forward_command = "{0}/forward"\nforward_outcomes = true\n'
ENGINE = "#!/bin/sh\necho run >> {0}/runs\n[ ! -e {0}/away ] && exec /bin/cat >> {0}/engine\n"
# For a process to end, and for the launcher to answer.
SECONDS = 60.0
# What the base ledger holds: enough for the limit to be near, not reached.
BASE_ROWS = 94
# With periodic mails: the rows besides them, the days that the device was off, and how the text of an event in the summary begins.
PERIODIC_ROWS, DAYS_OFF, SUMMARIZED = 20, 3, "in the summary"
SUMMARIZED_KINDS = (("303", "fault"), ("303", "fault"), ("050", "info"))
CALLS = (
    "openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,fsync,fdatasync,sync,syncfs,"
    "sync_file_range,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,symlink,symlinkat,chmod,"
    "fchmod,fchmodat,?fchmodat2,lseek,copy_file_range,sendfile,splice,io_uring_setup,execve,exit_group,sendto,sendmsg"
)
STRACE = ("strace", "-f", "-y", "-xx", "-qq", "--seccomp-bpf", "-s", "4000000", "-e", "signal=none")


def form(number: int, port: int) -> dict[str, str]:
    """The tab's values of the save with this number: every one that can differs from every other save's."""
    account = f"alarm{number}@mail.example.com"
    values = {"host": "127.0.0.1", "port": str(port), "sender_name": f"Storage alarms {number}", "account": account}
    return {**values, "password": mail_password(number), "security": "none", "sign_in": "manual"}


def mail_password(number: int) -> str:
    """The mail password of that save; meets the manual's rules."""
    return f"Kp7!vRw2#Z{'tbmhxdkpsy'[number % 10]}{'QAWXCHMNRT'[number // 10 % 10]}"


def password(number: int) -> str:
    """The administrator's password after so many changes."""
    return f"a plain sentence {number} for tests"


def person(number: int) -> str:
    """The address that the recipients' change with this number adds."""
    return f"person{number}@example.com"


class Stage:
    """A device in `folder`: its flash in ``flash``, which is all that survives a power cut. Use with `with`."""

    def __init__(self, folder: Path, sequence: Sequence[str] = (), *, window: int = 0) -> None:
        self.folder, self.flash, self.trace = folder, folder / "flash", folder / "trace"
        self.folders = Folders(self.flash / "data", folder / "run", folder / "etc")
        self.port = free_port()
        self.server = ScriptedServer(features=("AUTH PLAIN LOGIN",))
        fresh, is_periodic = sequence[:1] == ("start",), "periodic" in sequence
        # The numbers of the value that stands of each kind; -1: none.
        first = -1 if fresh else 0
        self.counts = {"event": 0}
        self.count_from(first)
        self.processes: dict[str, int] = {}
        self.visitor: Browser | None = None
        for each in (self.flash, self.folders.etc, self.folders.run):
            each.mkdir(parents=True)
        program = self.folders.etc / "forward"
        program.write_text(ENGINE.format(folder))
        program.chmod(0o755)
        forward = FORWARD.format(self.folders.etc) if {"forward", "away"} & {*sequence} else ""
        (self.folders.etc / "device.toml").write_text(MAKER.format(window=window) + forward)
        if not fresh:
            make_base(Device.load(self.folders), self.server.port, is_periodic=is_periodic)

    def __enter__(self) -> Stage:
        self.server.__enter__()
        words = [*STRACE, "-e", f"trace={CALLS}", "-o", str(self.trace), sys.executable, "-S", "-E"]
        launcher = str(Path(__file__).with_name("launcher.py"))
        self._launcher = subprocess.Popen([*words, launcher], stdin=-1, stdout=-1, text=True)
        return self

    def __exit__(self, *error: object) -> None:
        with self._launcher:
            assert self._launcher.stdin is not None
            self._launcher.stdin.close()
            try:
                self._launcher.wait(SECONDS)
            except subprocess.TimeoutExpired:
                self._launcher.kill()
                raise
        self.server.__exit__()

    def order(self, **order: Any) -> Any:
        """Tell the launcher; its answer."""
        assert self._launcher.stdin is not None
        assert self._launcher.stdout is not None
        self._launcher.stdin.write(json.dumps(order) + "\n")
        self._launcher.stdin.flush()
        assert readable(self._launcher.stdout.fileno(), SECONDS), f"no answer to {order}"
        return json.loads(self._launcher.stdout.readline())

    def begin(self, kind: str, *values: object) -> None:
        """Mark that the user asks for this from now on."""
        self.order(do="mark", mark=[kind, *values])

    def next(self, kind: str) -> int:
        """The number of the next value of a kind, marked as asked for."""
        self.counts[kind] += 1
        self.begin(kind, self.counts[kind])
        return self.counts[kind]

    def count_from(self, first: int) -> None:
        """The number of the last value of each kind: 0 on a device in use, -1 on a new one."""
        self.counts |= {"settings": first, "password": first, "recipients": 0}

    def start(self) -> None:
        """Start both processes; wait until both answer."""
        log = self.folder / "log"
        for name, *options in (("mailhook", "--allow-loopback"), ("web", "--listen", f"127.0.0.1:{self.port}")):
            words = [sys.executable, "-m", "device_ui", name, *options]
            self.processes[name] = self.order(do="start", words=words, env=self.environment, log=str(log))
        wait_for(lambda: self._are_alive() and self._hook_answers() and self._web_answers(), what="the start")

    def stop(self) -> None:
        """End both processes as systemd does."""
        self.visitor = None
        for name in list(self.processes):
            code = self.order(do="stop", process=self.processes.pop(name), signal=signal.SIGTERM)
            assert code == 0, f"{name} ended with {code}: {self.log()}"
        self.folders.socket.unlink(missing_ok=True)

    def kill(self) -> None:
        """End both processes as a fault does."""
        self.visitor = None
        for name in list(self.processes):
            self.order(do="stop", process=self.processes.pop(name), signal=signal.SIGKILL)

    def run(self, *words: str, given: str = "") -> str:
        """Run a console command that must succeed; what it printed."""
        command = [sys.executable, "-m", "device_ui", *words]
        code, told, error = self.order(do="run", words=command, env=self.environment, input=given)
        assert code == 0, error
        return str(told)

    def browser(self) -> Browser:
        """A browser that is logged in."""
        if self.visitor is None:
            self.visitor = Browser(self.port)
            answer = self.visitor.post("/login", password=password(self.counts["password"]))
            assert answer.status == 303, answer.text
        return self.visitor

    def history(self, number: int) -> str:
        """What the hook says has become of an event, "" when it is not among the newest: the hook raises some itself."""
        return str(self._event(number).get("state", ""))

    def results(self, number: int) -> dict[str, str]:
        """The final result of an event for each recipient that has one, as the hook says."""
        found = self._event(number).get("deliveries", ())
        return {each["recipient"]: each["verdict"] for each in found if each["verdict"] != "waiting"}

    def _event(self, number: int) -> Mapping[str, Any]:
        query = {"sort": "number", "descending": True, "offset": 0, "limit": 9}
        events = [line.get("event", {}) for line in client.history(self.folders.socket, query)]
        return next((each for each in events if each.get("number") == number), {})

    def rows(self, query: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The events of a page of the history."""
        return [line["event"] for line in client.history(self.folders.socket, query) if "event" in line]

    def engine(self, name: str = "engine") -> list[str]:
        """The lines that the program of the stories with an engine has; ``"runs"``: a line for each run."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def raise_lines(self, lines: Sequence[str]) -> None:
        """Raise events by lines that arrive together, as a shell would; each must be accepted."""
        with socket.socket(socket.AF_UNIX) as sock, client.reachable(self.folders.socket) as address:
            sock.settimeout(20)
            sock.connect(address)
            sock.sendall("".join(f"{line}\n" for line in lines).encode())
            answer = b""
            while answer.count(b"\n") < len(lines):
                answer += sock.recv(65536) or b"gone\n" * len(lines)
        assert answer.count(b"accepted") == len(lines), answer

    def setup_code(self) -> str:
        """The code that the web process printed."""
        return re.findall(r"setup code: (\S+)", self.log())[-1]

    def log(self) -> str:
        """What both processes wrote."""
        return (self.folder / "log").read_text()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every process."""
        folders = {"DATA": self.folders.data, "RUN": self.folders.run, "ETC": self.folders.etc}
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            **{f"DEVICE_UI_{name}": str(path) for name, path in folders.items()},
        }

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder)

    def _are_alive(self) -> bool:
        codes = [self.order(do="poll", process=process) for process in self.processes.values()]
        assert codes == [None, None], f"a process ended: {codes}: {self.log()}"
        return True

    def _hook_answers(self) -> bool:
        with contextlib.suppress(client.HookError):
            client.state(self.folders.socket)
            return True
        return False

    def _web_answers(self) -> bool:
        with contextlib.suppress(OSError):
            return Browser(self.port).get("/login").status < 500
        return False


def make_base(device: Device, port: int, *, is_periodic: bool = False) -> None:
    """A device in use, made in this process: set up, settings saved, some events mailed.

    `is_periodic`: what a daily summary and a sign of life are due for at once, since the device was off for some days.
    """
    folders = device.folders
    prepare(device, quiet=True)
    for folder in device.layout("mail"):
        if not folder[0].is_dir():
            folder[0].mkdir(folder[1])
    pair = keys.load_pair(folders.private_key, folders.public_key)
    Administrator(folders.administrator).set_password(password(0))
    draft = parse(form(0, port), None)
    assert draft.settings is not None, draft.broken
    sealed = seal.seal(mail_password(0), pair.public, draft.settings.bound_to)
    Store(folders.settings).save(type(draft.settings)(**{**vars(draft.settings), "sealed": sealed}), "")
    outbox = Outbox(folders.ledger, rows_maximum=ROWS)
    now = time.time()
    count = PERIODIC_ROWS if is_periodic else BASE_ROWS
    outbox.accept([Event("050", "info", now, now, "", f"base {number}", waiting=False) for number in range(count)])
    if is_periodic:
        NotificationStore(folders.notifications).save(Notifications(sign_of_life="daily"), "")
        before = now - DAYS_OFF * 24 * 3600
        outbox.accept(
            [
                Event(code, kind, before, before, "", f"{SUMMARIZED} {number}", in_summary=True)
                for number, (code, kind) in enumerate(SUMMARIZED_KINDS)
            ]
        )
        day = time.strftime("%Y-%m-%d", time.localtime(before))
        note = {"day": day, "moment": f"{before:.0f} earlier 5", "number": 0}
        outbox.set_metadata("sign_of_life", json.dumps(note))
    outbox.close()
