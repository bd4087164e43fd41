"""Both processes of one device, started as real processes on loopback, and a client that speaks to the pages."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.client
import io
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
import wsgiref.util
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from device_ui.config import Folders
from device_ui.mail import client
from device_ui.settings import keys, seal
from device_ui.settings.fields import parse
from device_ui.settings.store import Store
from device_ui.storage import files, toml_file
from device_ui.web.auth.administrator import Administrator
from tests.helpers.prefork import COMMAND, Prefork

# What may be said of a process that is forked.
USER = {"user", "group", "extra_groups"}
ROOT = Path(__file__).parents[2]
ADMIN_PASSWORD = "a plain sentence for tests"
# Satisfies the manual's rules.
PASSWORD = "Kp7!vRw2#Zt9"
# The patience of every wait; only what fails takes so long. A start takes half a second, and 20 on a machine with a load of 60.
SECONDS = 60.0


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder a read-only file system for every process of this machine."""
    run = partial(subprocess.run, check=True, timeout=SECONDS)
    run(["mount", "--bind", folder, folder])
    try:
        run(["mount", "-o", "remount,bind,ro", folder])
        yield
    finally:
        run(["umount", "--lazy", folder])


def free_port() -> int:
    """A port on loopback that nobody uses now, and that the tab accepts (the system's own choice may be too high)."""
    for _ in range(100):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", random.randrange(10000, 32000)))
            return int(sock.getsockname()[1])
    raise AssertionError("no free port on loopback")


def wait_for(done: Callable[[], object], seconds: float = SECONDS, what: str = "it") -> None:
    """Look again and again until `done` is true; fails the test after `seconds`."""
    waiter = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if done():
            return
        waiter.wait(0.02)
    raise AssertionError(f"{what} did not happen within {seconds:.0f} s")


@contextlib.contextmanager
def no_thread() -> Iterator[None]:
    """Let the system give this process no further thread: there is no room for a stack of this size."""
    before = threading.stack_size(1 << 46)
    try:
        yield
    finally:
        threading.stack_size(before)


def listens(path: Path) -> bool:
    """Whether somebody listens at this Unix socket; its file is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(1)
        try:
            sock.connect(str(path))
        except OSError:
            return False
    return True


class Product:
    """A device in `folder`. `start_hook`, `start_web` and `start` start real processes; leaving stops them.

    With a `prefork` they are forked from it, and the imports take no time; those with options of their own are started by exec.
    """

    prefork: Prefork | None = None

    def __init__(self, folder: Path) -> None:
        self.folders = Folders(folder / "data", folder / "run", folder / "etc")
        self.folder = folder
        self.port = free_port()
        self.python = sys.executable
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.logs: dict[str, Path] = {}

    def __enter__(self) -> Product:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.processes):
            self.stop(name)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every process of this device."""
        folders = {"DATA": self.folders.data, "RUN": self.folders.run, "ETC": self.folders.etc}
        return {**os.environ, "PYTHONPATH": str(ROOT), **{f"DEVICE_UI_{k}": str(v) for k, v in folders.items()}}

    def start(self, *hook_options: str) -> Product:
        """Start both and wait until both answer."""
        return self.start_hook(*hook_options).start_web()

    def start_hook(self, *options: str, **popen: object) -> Product:
        """Start the mail hook (a mail server on loopback allowed) and wait until its socket answers."""
        self.spawn("mailhook", "--allow-loopback", *options, **popen)
        wait_for(
            lambda: self._alive("mailhook") and listens(self.folders.socket),
            what="the hook's start",
        )
        return self

    def start_web(self, **popen: object) -> Product:
        """Start the pages and wait until they answer."""
        self.spawn("web", "--listen", f"127.0.0.1:{self.port}", **popen)
        wait_for(lambda: self._alive("web") and self.answers(), what="the pages' start")
        return self

    def spawn(self, name: str, *options: str, **popen: object) -> subprocess.Popen[bytes]:
        """Start ``device-ui NAME`` with its log in a file."""
        self.logs[name] = self.folder / f"{name}.log"
        with open(os.devnull, "rb") as nothing, self.logs[name].open("ab") as log:
            if self.prefork and popen.keys() <= USER:
                streams = [nothing.fileno(), log.fileno(), log.fileno()]
                started = self.prefork.start(COMMAND, [name, *options], streams, self.environment, **popen)  # type: ignore[arg-type]
            else:
                started = subprocess.Popen(  # type: ignore[call-overload]
                    [self.python, "-m", "device_ui", name, *options],
                    **{"env": self.environment, "cwd": "/", "stdout": log, "stderr": log, **popen},
                )
        self.processes[name] = started  # type: ignore[assignment]
        return self.processes[name]

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        """End a process; its exit code."""
        process = self.processes.pop(name)
        process.send_signal(number)
        try:
            return process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def log(self, name: str) -> str:
        """What a process wrote."""
        return self.logs[name].read_text()

    def command(self, *words: str, **run: Any) -> subprocess.CompletedProcess[str]:
        """Run one command of ``device-ui`` for this device."""
        if self.prefork and run.keys() <= {*USER, "input"}:
            return self.prefork.run(COMMAND, words, self.environment, run.pop("input", ""), SECONDS, **run)
        return subprocess.run(  # type: ignore[no-any-return]
            [self.python, "-m", "device_ui", *words],
            **{"env": self.environment, "cwd": "/", "capture_output": True, "text": True, "timeout": SECONDS, **run},
        )

    def maker(self, text: str) -> Product:
        """Write the maker's device.toml, for processes that start afterwards."""
        self.folders.etc.mkdir(parents=True, exist_ok=True)
        (self.folders.etc / "device.toml").write_text(text)
        return self

    def call(self, *words: str, input: str = "") -> subprocess.CompletedProcess[str]:
        """Run one command of ``device-ui`` for this device in this process: a new interpreter takes most of a command's time."""
        return called(self.environment, *words, input=input)

    def command_under_strace(self, injection: str, *words: str) -> int:
        """Run one command with a fault that strace injects (``inject=fsync:signal=SIGKILL:when=3``); its exit code."""
        # Not measured by coverage, which makes thousands of calls for strace to stop at, and is lost with a process that is killed.
        strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", injection]
        environment = {name: value for name, value in self.environment.items() if not name.startswith("COVERAGE")}
        traced = [*strace, self.python, "-m", "device_ui", *words]
        done = subprocess.run(traced, env=environment, cwd="/", capture_output=True, timeout=60, check=False)
        return done.returncode

    def event(self, code: str = "303", text: str = "") -> int:
        """Raise an event by the command; its number."""
        done = self.call("event", code, "--text", text)
        assert done.returncode == 0, done.stderr
        return int(done.stdout.removeprefix("accepted "))

    def setup_code(self) -> str:
        """The setup code, from the console's command."""
        return self.call("setup-code").stdout.strip()

    def save(self, **form: str) -> None:
        """Save settings as the web process does, without a web process, and tell the hook."""
        store = Store(self.folders.settings)
        files.make_folder(self.folders.settings.parent, 0o2750)
        standing = store.load()
        draft = parse(form, standing.settings)
        assert draft.settings, draft.broken
        sealed = draft.settings.sealed
        if draft.password is not None:
            public = keys.load_public(self.folders.public_key)
            sealed = seal.seal(draft.password, public, draft.settings.bound_to)
        store.save(dataclasses.replace(draft.settings, sealed=sealed), standing.revision)
        client.settings_changed(self.folders.socket, seconds=SECONDS)

    def state(self) -> Mapping[str, Any]:
        """How the hook says the mail path is."""
        return client.state(self.folders.socket)

    def browser(self) -> Browser:
        """A client without a session."""
        return Browser(self.port)

    def logged_in(self) -> Browser:
        """A client that is logged in; whoever set nothing up finds that done."""
        found = Administrator(self.folders.administrator).load()
        if found and not found.is_set_up:
            choose_password(self.folders.administrator)
        browser = self.browser()
        browser.post("/login", password=ADMIN_PASSWORD)
        assert browser.cookie
        return browser

    def _alive(self, name: str) -> bool:
        code = self.processes[name].poll()
        assert code is None, f"{name} ended with {code}: {self.log(name)}"
        return True

    def answers(self) -> bool:
        """Whether the pages answer."""
        try:
            return self.browser().get("/login").status < 500
        except OSError:
            return False


def called(environment: Mapping[str, str], *words: str, input: str = "") -> subprocess.CompletedProcess[str]:
    """Run one command of ``device-ui`` in this process, with the folders that `environment` names."""
    # Imported here: the power suite runs helpers with the product of an earlier version.
    from device_ui.cli.parser import main

    given = {name: value for name, value in environment.items() if name.startswith("DEVICE_UI_")}
    before, stdin = dict(os.environ), sys.stdin
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
    sys.stdin = io.TextIOWrapper(io.BytesIO(input.encode()), "utf-8")
    os.environ.update(given)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
    finally:
        sys.stdin = stdin
        for name in given:
            os.environ.pop(name)
        os.environ.update(before)
    for stream in (out, err):
        stream.flush()
    told, wrong = (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(words, code, told, wrong)


@dataclass(frozen=True)
class Page:
    """An answer: status, headers (lower case names), text."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def revision(self) -> str:
        """The revision hidden in the SMTP tab's form."""
        match = re.search(r'name="revision" value="([^"]*)"', self.text)
        assert match, self.text
        return match[1]


@dataclass
class Browser:
    """A plain HTTP client with a cookie jar: `cookie` and the one that makes it `known`. Posts say their origin, as browsers do."""

    port: int
    cookie: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    source: str = "127.0.0.1"
    known: str = ""
    seconds: float = SECONDS

    @property
    def origin(self) -> str:
        """The origin of the pages, as a browser says it."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **headers: str) -> Page:
        """GET a page; redirects are not followed."""
        return self.request("GET", path, None, headers)

    def post(self, path: str, **fields: str) -> Page:
        """POST a form from the device's own origin; redirects are not followed."""
        body = urllib.parse.urlencode(fields).encode()
        return self.request("POST", path, body, {"Origin": self.origin})

    def request(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Page:
        """Any request; a form's content type is added to a body."""
        jar = "; ".join(filter(None, (self.cookie, self.known)))
        given = {"Cookie": jar} if jar else {}
        if body is not None:
            given["Content-Type"] = "application/x-www-form-urlencoded"
        connection = self.connect()
        try:
            connection.request(method, path, body, {**given, **self.headers, **headers})
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        finally:
            connection.close()
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                pair = value.partition(";")[0]
                if pair.removeprefix("__Host-").startswith("device-ui-browser"):  # earlier versions: without a dash
                    self.known = pair
                else:
                    self.cookie = pair
        return Page(answer.status, first_of_each(answer.getheaders()), text)

    def connect(self) -> http.client.HTTPConnection:
        """A connection to the pages."""
        return http.client.HTTPConnection("127.0.0.1", self.port, self.seconds, (self.source, 0))

    def update(self, **fields: str) -> Page:
        """Press Update with these fields over what the tab shows now."""
        return self.post("/smtp", **{"revision": self.get("/smtp").revision, **fields})


def settings_form(port: int, **fields: str) -> dict[str, str]:
    """The five values of the tab for a server on loopback."""
    return {
        "host": "127.0.0.1",
        "port": str(port),
        "sender_name": "Storage alarms",
        "account": "alarm@mail.example.com",
        "password": PASSWORD,
        **fields,
    }


def choose_password(path: Path) -> None:
    """Leave what the set-up leaves for `ADMIN_PASSWORD`, with a hash that costs a login nothing: the product's takes 8 MiB
    and a fifth of a second."""
    values: dict[str, str | int] = {"salt": bytes(16).hex(), "n": 2, "r": 1, "p": 1}
    made = hashlib.scrypt(ADMIN_PASSWORD.encode(), salt=bytes(16), n=2, r=1, p=1, dklen=32)
    before = path.stat() if path.exists() else None
    files.make_folder(path.parent, 0o700)
    files.replace(path, toml_file.encode("for tests", {**values, "hash": made.hex()}), 0o600)
    if before:  # the web process may be another user
        os.chown(path, before.st_uid, before.st_gid)


def readable(descriptor: int, seconds: float) -> bool:
    """Whether something can be read within `seconds`."""
    return bool(select.select([descriptor], [], [], seconds)[0])


def raw(port: int, request: bytes, source: str = "127.0.0.1") -> bytes:
    """Send bytes as they are, from an address of loopback, and read the answer until the server closes or rests.

    A request that is to be answered and closed says ``Connection: close``.
    """
    with socket.create_connection(("127.0.0.1", port), SECONDS, (source, 0)) as sock:
        sock.sendall(request)
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
    return answer


def wsgi(app: Callable[..., Any], method: str, path: str, body: bytes = b"", **variables: Any) -> Page:
    """Ask a WSGI application directly, from its own origin; `variables` of the environment are added."""
    environ: dict[str, Any] = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1", "HTTP_ORIGIN": "http://127.0.0.1"}
    environ |= {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": "", "wsgi.input": io.BytesIO(body)}
    if body:
        environ |= {"CONTENT_TYPE": "application/x-www-form-urlencoded", "CONTENT_LENGTH": str(len(body))}
    wsgiref.util.setup_testing_defaults(environ)
    begun: list[Any] = []
    answer = app({**environ, **variables}, lambda status, headers, exc_info=None: begun.append((status, headers)))
    text = b"".join(answer).decode("utf-8", "replace")
    getattr(answer, "close", lambda: None)()
    status, headers = begun[-1]
    return Page(int(status[:3]), first_of_each(headers), text)


def first_of_each(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers by their names in small letters; of a name that comes twice the first, which is the session's cookie."""
    return {name.lower(): value for name, value in reversed(list(headers))}
