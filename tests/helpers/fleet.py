"""Many virtual devices of one site: each with its own ledger, key, sealed password and worker, all with one mail relay.

A device is two threads with the product's own delivery (`DeliveryWorker` down to `SmtpClient`); it has no process, no socket of
its own and no pages. They share this machine's processors with the relay, and its one address, as behind a NAT.
"""

from __future__ import annotations

import contextlib
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from device_ui.config import Device, Folders
from device_ui.mail import catalog
from device_ui.mail.clock import Clock
from device_ui.mail.daemon import PasswordKeys
from device_ui.mail.delivery.batching import Batcher
from device_ui.mail.delivery.environment import Environment
from device_ui.mail.delivery.quota import Quota
from device_ui.mail.delivery.retry import random_fraction
from device_ui.mail.delivery.schedule import Schedule
from device_ui.mail.delivery.sender import Sender
from device_ui.mail.delivery.worker import DeliveryWorker
from device_ui.mail.events import Event
from device_ui.mail.outbox.outbox import Outbox
from device_ui.mail.smtp.client import ClientOptions, SmtpClient
from device_ui.mail.smtp.outcome import Outcome, SessionError
from device_ui.settings import keys, seal
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.store import Store
from tests.helpers.delivery import NAMES
from tests.helpers.product import PASSWORD, wait_for
from tests.servers.postfix import MailServer

ACCOUNT = "alarm@mail.example.com"
# Seconds within which every device raises its alarm.
RAISED_SECONDS = 2.0


class Fleet:
    """The devices, their sessions and failures so far. `spread` is mail.start_spread in seconds."""

    def __init__(self, folder: Path, count: int, server: MailServer, context: ssl.SSLContext, spread: float) -> None:
        self.context, self.spread = context, spread
        self.sessions, self.failures = 0, list[str]()
        self.waits: list[float] = []
        self._lock = threading.Lock()
        self.devices = [Member(self, folder / str(number), server.submission_port) for number in range(count)]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start every device, let each raise one alarm within `RAISED_SECONDS`; stop them at the end."""
        chance = random.Random(5)
        try:
            for device in self.devices:
                device.start()
            begun = time.monotonic()
            for moment, device in sorted(
                ((chance.uniform(0, RAISED_SECONDS), each) for each in self.devices), key=_first
            ):
                threading.Event().wait(max(0.0, begun + moment - time.monotonic()))
                device.raise_alarm()
            yield
        finally:
            for device in self.devices:
                device.worker.stop()
            for device in self.devices:
                device.end()

    def opened(self) -> None:
        """Count a session."""
        with self._lock:
            self.sessions += 1

    def failed(self, error: SessionError) -> None:
        """Count a session that came to nothing."""
        with self._lock:
            self.failures.append(str(error))

    def delivered(self, seconds: float) -> None:
        """Count a mail that the relay took, and the seconds since its alarm."""
        with self._lock:
            self.waits.append(seconds)

    def wait_for_mails(self, seconds: float) -> None:
        """Wait until every alarm is at the relay."""
        wait_for(lambda: len(self.waits) >= len(self.devices), seconds, f"mail of all {len(self.devices)} devices")

    def wait_for_failures(self, count: int, seconds: float) -> None:
        """Wait until so many sessions failed."""
        wait_for(lambda: len(self.failures) >= count, seconds, f"{count} failed sessions")


class Member:
    """One device of a fleet."""

    def __init__(self, fleet: Fleet, folder: Path, port: int) -> None:
        self.fleet, self.raised = fleet, 0.0
        device = Device.plain(Folders(folder, folder, folder))
        for path in (device.folders.settings, device.folders.key_file, device.folders.public_key):
            path.parent.mkdir(parents=True)
        passwords = PasswordKeys(device.folders)
        settings = SmtpSettings("localhost", port, "Alarms", ACCOUNT, security="starttls", sealed="")
        sealed = seal.seal(PASSWORD, keys.load_public(device.folders.public_key), settings.bound_to)
        store = Store(device.folders.settings)
        store.save(SmtpSettings("localhost", port, "Alarms", ACCOUNT, security="starttls", sealed=sealed), "")
        self.outbox, clock = Outbox(device.folders.ledger), Clock()
        environment = Environment(
            {**NAMES, "serial": folder.name}, list, passwords, clock, time.monotonic, random_fraction
        )
        self.worker = DeliveryWorker(
            self.outbox,
            store,
            Schedule(self.outbox, Batcher(device["mail.digest_window"], device["mail.hourly_budget"]), environment),
            Sender(self.outbox, catalog.built_in(), self._connect, environment),
            Quota(self.outbox, clock),
            lambda _: None,
        )
        self.worker.spread_start(fleet.spread)
        self._thread = threading.Thread(target=self.worker.run)

    def start(self) -> None:
        """Start the worker."""
        self._thread.start()

    def raise_alarm(self) -> None:
        """Accept one fault, as the hook does for a line on its socket."""
        event = Event("303", "fault", time.time(), time.time(), "site", "power failed")
        self.raised = time.monotonic()
        leads = self.worker.leads([event])
        [number] = self.outbox.accept([event], leads)
        self.worker.learn([(number, event, leads[0])])
        self.worker.wake()

    def end(self) -> None:
        """Wait for the end of the worker, and close the ledger."""
        self._thread.join()
        self.outbox.close()

    def _connect(self, settings: SmtpSettings, password: str) -> Session:
        return Session(self, settings, password)


class Session(SmtpClient):
    """A session that its fleet counts."""

    def __init__(self, member: Member, settings: SmtpSettings, password: str) -> None:
        super().__init__(settings, password, ClientOptions(member.fleet.context, allow_loopback=True))
        self._member = member

    def open(self, on_wait: Callable[[float], None] = lambda _seconds: None) -> None:
        """Open it, and count it."""
        self._member.fleet.opened()
        try:
            super().open(on_wait)
        except SessionError as error:
            self._member.fleet.failed(error)
            raise

    def deliver(self, recipients: Sequence[str], message: bytes, **options: object) -> dict[str, Outcome]:
        """Deliver, and count what was delivered."""
        outcomes = super().deliver(recipients, message, **options)  # type: ignore[arg-type]
        if {outcome.verdict for outcome in outcomes.values()} == {"delivered"}:
            self._member.fleet.delivered(time.monotonic() - self._member.raised)
        return outcomes


def _first(pair: tuple[float, Member]) -> float:
    return pair[0]
