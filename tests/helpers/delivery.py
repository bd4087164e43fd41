"""The delivery worker of one device with its ledger, its settings, clocks that the test moves, and mail servers."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from device_ui.errors import NoKey, NotStored
from device_ui.mail import catalog
from device_ui.mail.clock import Clock
from device_ui.mail.delivery.batching import Batcher
from device_ui.mail.delivery.environment import Environment
from device_ui.mail.delivery.quota import Quota
from device_ui.mail.delivery.schedule import Schedule
from device_ui.mail.delivery.sender import Sender
from device_ui.mail.delivery.worker import DeliveryWorker
from device_ui.mail.events import Delivery, Event
from device_ui.mail.outbox.outbox import Outbox
from device_ui.mail.smtp.outcome import Outcome, SessionError
from device_ui.mail.smtp.trust import InUse
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import Recipient
from device_ui.settings.store import Store
from tests.servers.scripted import ScriptedServer

MEMORY = Path("/dev/shm")
MINUTE, HOUR, DAY = 60.0, 3600.0, 24 * 3600.0
# A zone with summer time: 2027-03-28 02:00 to 03:00 is missing, 2027-10-31 02:00 to 03:00 is there twice.
BERLIN = ZoneInfo("Europe/Berlin")
ACCOUNT = "alarm@mail.example.com"
DELIVERED = Outcome("delivered", "content", "250 queued")
REFUSED = Outcome("refused", "recipient", "550 no such user")
LATER = Outcome("try later", "recipient", "450 mailbox busy")
LOGIN_REFUSED = SessionError("login", "login refused", "535 wrong password")
UNREACHABLE = SessionError("connect", "refused", "nothing listens at this port")


class Server:
    """A mail server. `stops` is raised when a session opens, `answer` is the outcome of each mail.

    `begins` is called before each mail, `waits` while the server has the mail and has not answered, `closes` before QUIT.
    """

    def __init__(self) -> None:
        self.stops: Exception | None = None
        self.answer: Callable[[int, str], Outcome] = lambda number, recipient: DELIVERED
        self.closes_after: Callable[[int], bool] = lambda number: False
        self.begins: Callable[[int], None] = lambda number: None
        self.waits: Callable[[Callable[[float], None]], None] = lambda on_wait: None
        self.closes: Callable[[], object] = lambda: None
        self.connects: list[tuple[SmtpSettings, str]] = []
        self.tried: list[tuple[int, tuple[str, ...]]] = []
        self.mails: list[bytes] = []
        self.open = 0

    @property
    def numbers(self) -> list[int]:
        """The number of each mail that was tried, in order, retries included."""
        return [number for number, _ in self.tried]

    def connect(self, settings: SmtpSettings, password: str) -> Session:
        return Session(self, settings, password)


class Session:
    """A `Transport` to a `Server`."""

    local_address, size_maximum, step = "192.0.2.7", 0, "content"
    certificates: Sequence[InUse] = ()

    def __init__(self, server: Server, settings: SmtpSettings, password: str) -> None:
        self.server, self.settings, self.password, self.is_open = server, settings, password, False
        self.is_hurried = False

    def open(self, on_wait: Callable[[float], None] = lambda seconds: None) -> None:
        self.server.connects.append((self.settings, self.password))
        if self.server.stops:
            raise self.server.stops
        self.is_open = True
        # A notice has a thread of its own, and may be under way at any time.
        self.counts = int(threading.current_thread().name != "notice")
        self.server.open += self.counts

    def deliver(
        self,
        recipients: Sequence[str],
        message: bytes,
        on_wait: Callable[[float], None] = lambda seconds: None,
    ) -> dict[str, Outcome]:
        assert self.is_open, "a mail for a session that is over"
        number = int(re.search(rb"Message-ID: <([0-9]+)\.", message)[1])
        self.server.begins(number)
        self.server.tried.append((number, tuple(recipients)))
        self.server.mails.append(message)
        self.server.waits(on_wait)
        if self.is_hurried:
            self._close()
            return dict.fromkeys(recipients, Outcome("try later", "content", "", "silent"))
        outcomes = {each: self.server.answer(number, each) for each in recipients}
        if self.server.closes_after(number):
            self._close()
        return outcomes

    def end_wait(self) -> None:
        self.is_hurried = True

    def close(self) -> None:
        self.server.closes()
        if self.is_open:
            self._close()

    def _close(self) -> None:
        self.is_open = False
        self.server.open -= self.counts


class FullOutbox(Outbox):
    """A ledger whose disk takes nothing while `full`."""

    full = False

    def record(self, number: int, deliveries: Sequence[Delivery], **more: object) -> None:
        self._refuse()
        super().record(number, deliveries, **more)

    def accept(self, events: Sequence[Event], *more: object, **facts: object) -> list[int]:
        if facts:  # of a changed server; alarms are accepted with the reserve
            self._refuse()
        return super().accept(events, *more, **facts)

    def set_metadata(self, name: str, value: str | None) -> None:
        if self.metadata().get(name) != value:
            self._refuse()
        super().set_metadata(name, value)

    def _refuse(self) -> None:
        if self.full:
            raise NotStored(self.path, OSError("database or disk is full"))


NAMES = {"name": "Storage", "model": "S1", "serial": "7"}


class Desk:
    """The delivery worker of one device, with a clock that the test moves. It is its own `Passwords`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.wall, self.random = folder, 1000.0, 1.8e9, 0.5
        self.store, self.server = Store(folder / "smtp.toml"), Server()
        self.listed: list[Recipient] = []
        self.unseal: Callable[[SmtpSettings], str] = lambda settings: f"opened {settings.sealed}"
        self.can_unseal: Callable[[SmtpSettings], bool] = lambda settings: True
        self.outbox = FullOutbox(folder / "ledger.sqlite3")
        self.show: Callable[[Mapping[str, object]], None] = lambda state: None
        self.kinds = catalog.built_in()
        self.budget = 10**6
        self.worker = self.start()

    def start(self) -> DeliveryWorker:
        clock = Clock(wall=lambda: self.wall, boot=lambda: self.now, boot_id="boot", synchronized=lambda: False)
        environment = Environment(NAMES, lambda: self.listed, self, clock, lambda: self.now, lambda: self.random)
        self.batcher = Batcher(window=0, budget=self.budget)
        self.schedule = Schedule(self.outbox, self.batcher, environment)
        return DeliveryWorker(
            self.outbox,
            self.store,
            self.schedule,
            Sender(self.outbox, self.kinds, lambda *arguments: self.server.connect(*arguments), environment),
            Quota(self.outbox, clock),
            lambda state: self.show(state),
        )

    def restart(self) -> None:
        """The process ends and starts again."""
        self.outbox.close()
        self.outbox = FullOutbox(self.folder / "ledger.sqlite3")
        self.worker = self.start()

    def save(self, **fields: object) -> None:
        """Put settings on flash without telling the worker."""
        values = {"host": "mail.example.com", "port": 587, "sender_name": "Alarms", "account": ACCOUNT, "sealed": "one"}
        self.store.save(SmtpSettings(**{**values, **fields}), self.store.read()[1])

    def update(self, **fields: object) -> None:
        """Press Update."""
        self.save(**fields)
        self.worker.settings_changed(self.store.read()[1])

    def raise_events(self, count: int = 1, type_: str = "fault", **fields: object) -> list[int]:
        return self.outbox.accept([Event("303", type_, self.wall, self.wall, "auditd", "full", **fields)] * count)

    def raise_led(self, count: int) -> None:
        """Accept events that are a mail of their own each."""
        self.outbox.accept([Event("303", "fault", self.wall, self.wall, "auditd", "full")] * count, [True] * count)

    def work(self, seconds: float = 0.0, step: float = 0.0) -> None:
        """Do what `DeliveryWorker.run` does for so many seconds; each wait is at least `step` long, to save time."""
        end, idle = self.now + seconds, 0
        while True:
            before, wait = self._done(), self.worker.round()
            idle = 0 if wait != 0 or self._done() > before else idle + 1
            assert idle < 3, "a busy loop"
            assert self.server.open == 0, "a session was left open"
            self.now += max(DAY if wait is None else wait, step) if wait != 0 else 0
            if wait is None or self.now > end:
                self.now = max(end, self.now if wait == 0 else end)
                return

    def _done(self) -> int:
        return len(self.server.tried) + int(self.outbox.read("SELECT count(*) FROM delivery", ())[0][0])

    @property
    def problem(self) -> tuple[str, str, str]:
        state = self.worker.state()
        return state["problem"], state["step"], str(state["reply"])

    @property
    def waiting(self) -> list[int]:
        return [event.number for event in self.outbox.waiting(5000)]

    def on_disk(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in self.folder.iterdir()}


def at(text: str) -> float:
    """The moment of a local time in Berlin, in seconds since 1970."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


def dropped(desk: Desk) -> list[int]:
    """The events that were given up."""
    numbers = range(1, 1 + desk.outbox.accept([Event("153", "info", 1.0, 1.0, waiting=False)])[0])
    mails = {each: desk.outbox.event(each).mail or each for each in numbers}
    return [each for each in numbers if "dropped" in {found.verdict for found in desk.outbox.deliveries(mails[each])}]


def no_key(_: SmtpSettings) -> str:
    raise NoKey


def plain(server: ScriptedServer) -> dict[str, object]:
    """Settings for a server on loopback."""
    return {"host": "127.0.0.1", "port": server.port, "security": "none"}
