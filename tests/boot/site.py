"""The place where a device is installed: its mail server, and what its maker and its operator do there."""

from __future__ import annotations

import datetime
import email
import email.policy
import http.client
import json
import re
import ssl
import threading
import time
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from types import TracebackType

from tests.boot.image import MAIL_HOST
from tests.boot.machine import LOOK_SECONDS, MAIL_PORT, Machine
from tests.helpers.product import ADMIN_PASSWORD, PASSWORD, Browser
from tests.servers.authority import Authority
from tests.servers.postfix import MailServer

ACCOUNT = "alarm@mail.example.test"
# Seconds that a page may take in a guest that is ten times slower than its host.
PAGE_SECONDS = 60.0
NUMBERS = re.compile(r"^Event numbers?: +(.+)$", re.MULTILINE)
RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")


class Site:
    """A mail server on loopback (STARTTLS, a login), running between `with` and the end of its block, and the maker's
    settings for it."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1000)
        certificate = authority.issue([MAIL_HOST], not_after=later)
        self.server = MailServer(folder=folder, certificate=certificate, accounts={ACCOUNT: PASSWORD})
        self._authority = authority

    def __enter__(self) -> Site:
        self.server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.__exit__(kind, error, trace)

    @property
    def port(self) -> int:
        """Where the mail server listens."""
        return self.server.submission_port

    @property
    def files(self) -> dict[str, bytes]:
        """What the maker writes on the device, by path: settings of the mail hook, and the mail server's authority."""
        toml = '[mail]\nca_file = "/etc/device-ui/mail-ca.pem"\ndigest_window = 5\nhourly_budget = 10000\n'
        return {"/etc/device-ui/device.toml": toml.encode(), "/etc/device-ui/mail-ca.pem": self._authority.pem}

    @property
    def form(self) -> dict[str, str]:
        """What the operator types into the SMTP tab."""
        return {
            "host": MAIL_HOST,
            "port": str(MAIL_PORT),
            "sender_name": "Storage alarms",
            "account": ACCOUNT,
            "password": PASSWORD,
        }

    def mails(self) -> list[EmailMessage]:
        """Every mail that arrived so far."""
        return [email.message_from_bytes(raw, policy=email.policy.default) for raw in self.server.mails()]  # type: ignore[misc]

    def tests(self) -> int:
        """How many of them are test mails."""
        return sum(str(mail["subject"]).startswith("[test] ") for mail in self.mails())

    def numbers(self) -> set[int]:
        """The numbers of the events that mails spelt out so far."""
        found: set[int] = set()
        for mail in self.mails():
            row = NUMBERS.search(mail.get_body(("plain",)).get_content())  # type: ignore[union-attr]
            for each in RANGE.finditer(row[1] if row else ""):
                found.update(range(int(each[1]), int(each[2] or each[1]) + 1))
        return found


class Visitor(Browser):
    """A plain client of a machine's pages, through nginx and TLS. The certificate is looked at elsewhere (`test_walk`)."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.https_port)

    @property
    def origin(self) -> str:
        """The origin of the pages, as a browser says it."""
        return f"https://127.0.0.1:{self.port}"

    def set_up(self, code: str) -> None:
        """Choose the administrator's password and log in."""
        self.post("/setup", code=code, password=ADMIN_PASSWORD, again=ADMIN_PASSWORD)
        if not self.cookie:
            self.post("/login", password=ADMIN_PASSWORD)
        assert self.cookie, self.get("/setup").text

    def connect(self) -> http.client.HTTPConnection:
        """A connection to the pages."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PAGE_SECONDS, context=context)


def setup_code(machine: Machine) -> str:
    """The newest setup code that the device has printed on its console."""
    codes = re.findall(r"setup code[^\n]*?\b([A-Z0-9]{4}(?:-[A-Z0-9]{4})+)\b", machine.console)
    assert codes, machine.console[-3000:]
    return str(codes[-1])


def answers(machine: Machine) -> bool:
    """Whether the pages answer through the proxy."""
    try:
        return Visitor(machine).get("/login").status < 500
    except OSError:
        return False


def until(done: Callable[[], object], seconds: float, what: str) -> float:
    """Wait until `done`; the seconds that took. Fails after `seconds`."""
    begun = time.monotonic()
    while not done():
        assert time.monotonic() - begun < seconds, f"{what} did not happen within {seconds:.0f} s"
        threading.Event().wait(LOOK_SECONDS)
    return time.monotonic() - begun


class Load:
    """Events raised in the guest one after another, each until it is accepted, by a program that runs until it is stopped.

    `accepted` are the numbers that the guest was answered, in their order. `seen` is called with each as it arrives.
    """

    def __init__(self, machine: Machine, seen: Callable[[int], object] = lambda _number: None) -> None:
        self._machine, self._seen = machine, seen
        self.accepted: list[int] = []

    def __enter__(self) -> Load:
        self._machine.write("/root/load.py", LOADER)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _read(self) -> None:
        with self._machine.stream("exec python3 /root/load.py") as lines:
            while not self._is_over.is_set() and (line := lines.readline()):
                if line.startswith(b"accepted ") and line.endswith(b"\n"):
                    self.accepted.append(int(line.split()[1]))
                    self._seen(self.accepted[-1])


# It ends with the SSH connection: nothing can be printed any more.
LOADER = """
import itertools, socket, threading
for number in itertools.count():
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(60)
                client.connect("/run/device-ui/hook.sock")
                client.sendall(f"event 303 load {number}\\n".encode())
                answer = client.recv(200).decode()
        except OSError as error:
            answer = f"error {error}\\n"
        print(answer, end="", flush=True)
        if answer.startswith("accepted"):
            break
        threading.Event().wait(0.2)
    threading.Event().wait(0.1)
"""


def numbers_in_history(machine: Machine) -> set[int]:
    """The number of every event of the ledger."""
    return {int(json.loads(line)["number"]) for line in machine.run("device-ui history --json").splitlines()}
