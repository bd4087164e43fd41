"""Many virtual devices of one site: each with its own ledger, key, sealed password and worker, all with one mail relay.

A device is two threads with the product's own delivery (`DeliveryWorker` down to `SmtpClient`); it has no socket of its own and no
pages. The devices share a few processes, this machine's processors with the relay, and its one address, as behind a NAT. In one
process they would share one interpreter lock as well: a process that waits for a processor would then hold up every session of the
site, and begin all that became due meanwhile at once, which no site does.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

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
from device_ui.mail.smtp.tls import trusted
from device_ui.settings import keys, seal
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.store import Store
from tests.helpers.delivery import NAMES
from tests.helpers.product import PASSWORD, ROOT, wait_for

ACCOUNT = "alarm@mail.example.com"
# Devices of one process: at 20 s of spread one process then has five sessions a second, and is idle most of the time.
SHARE = 100
# A report: its name and values.
Record = list[Any]
# Seconds of patience with a start and an end; only what fails takes so long.
PATIENCE = 120.0


class Fleet:
    """The devices, and their sessions so far.

    `port` is the relay's submission port, `authority` a file with the authority of its certificate, `spread` mail.start_spread in
    seconds. The devices raise one alarm each, `within` so many seconds.
    """

    def __init__(
        self, folder: Path, count: int, port: int, authority: Path, spread: float, within: float = 2.0
    ) -> None:
        self.count = count
        # Seconds from the alarm of a device until its first session, and until the relay's 250; and why sessions failed.
        self.starts: list[float] = []
        self.waits: list[float] = []
        self.failures: list[str] = []
        # Sessions, and devices that their first one served.
        self.sessions = self.served_first = 0
        # Seconds of processor time that the devices took since their alarms, known at the end.
        self.processor_seconds = 0.0
        self._ready = 0
        self._lock = threading.Lock()
        site = {"folder": str(folder), "port": port, "authority": str(authority), "spread": spread, "within": within}
        processes = -(-count // SHARE)
        self._shares = [{**site, "numbers": list(range(first, count, processes))} for first in range(processes)]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start every device, let each raise its alarm; stop them at the end."""
        with contextlib.ExitStack() as stack:
            processes = [stack.enter_context(_process(self._count)) for _ in self._shares]
            for process, share in zip(processes, self._shares, strict=True):
                _write(process, share)
            wait_for(lambda: self._are_ready(processes), PATIENCE, "the start of the devices")
            begun = time.monotonic()
            for process in processes:
                _write(process, begun)
            try:
                yield
            finally:
                # All before the first is waited for: each ends its sessions under way.
                for process in processes:
                    process.stdin.close()

    def has_result(self) -> bool:
        """Return whether every device opened a session, and all mails are at the relay or a session failed."""
        return len(self.starts) == self.count and bool(self.failures or len(self.waits) >= self.count)

    def wait_for_failures(self, count: int, seconds: float) -> None:
        """Wait until so many sessions failed."""
        wait_for(lambda: len(self.failures) >= count, seconds, f"{count} failed sessions")

    def _are_ready(self, processes: Sequence[subprocess.Popen[str]]) -> bool:
        assert all(each.poll() is None for each in processes), "a process of the devices ended"
        return self._ready == len(processes)

    def _count(self, record: Record) -> None:
        """Count what a process reports."""
        with self._lock:
            match record:
                case ["ready"]:
                    self._ready += 1
                case ["opened", wait, count]:
                    self.sessions += 1
                    if count == 1:
                        self.starts.append(wait)
                case ["failed", reason]:
                    self.failures.append(reason)
                case ["delivered", wait, count]:
                    self.waits.append(wait)
                    self.served_first += count == 1
                case ["ended", seconds]:
                    self.processor_seconds += seconds


@contextlib.contextmanager
def _process(count: Callable[[Record], None]) -> Iterator[subprocess.Popen[str]]:
    """A process of devices, whose reports go to `count`; it ends with its standard input."""
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:

        def read() -> None:
            for line in process.stdout or ():
                count(json.loads(line))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield process
        finally:
            process.stdin.close()
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()
                reader.join()


def _write(process: subprocess.Popen[str], value: object) -> None:
    process.stdin.write(json.dumps(value) + "\n")
    process.stdin.flush()


class Site:
    """The devices of one process. Each line that it prints is one report."""

    def __init__(
        self, folder: str, numbers: Sequence[int], port: int, authority: str, spread: float, within: float
    ) -> None:
        self.context, self._within = trusted([authority]), within
        self._lock = threading.Lock()
        self._devices = [Member(self, Path(folder, str(number)), port, spread) for number in numbers]

    def report(self, *record: object) -> None:
        """Print a report."""
        with self._lock:
            print(json.dumps(record), flush=True)

    def run(self) -> None:
        """Start the devices; raise an alarm at each when the moment comes on standard input; stop with its end."""
        try:
            for device in self._devices:
                device.start()
            self.report("ready")
            begun = float(sys.stdin.readline())
            before = time.process_time()
            moments = sorted(begun + random.uniform(0, self._within) for _ in self._devices)
            for moment, device in zip(moments, self._devices, strict=True):
                threading.Event().wait(max(0.0, moment - time.monotonic()))
                device.raise_alarm()
            sys.stdin.read()
        finally:
            for device in self._devices:
                device.worker.stop()
            for device in self._devices:
                device.end()
        self.report("ended", time.process_time() - before)


class Member:
    """One device of a fleet."""

    def __init__(self, site: Site, folder: Path, port: int, spread: float) -> None:
        self.site, self.raised, self.sessions = site, 0.0, 0
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
        self.worker.spread_start(spread)
        self._thread = threading.Thread(target=self.worker.run)

    def start(self) -> None:
        """Start the worker."""
        self._thread.start()

    def raise_alarm(self) -> None:
        """Accept one fault, as the hook does for a line on its socket."""
        event = Event("303", "fault", time.time(), time.time(), "site", "power failed")
        self.raised = time.monotonic()
        singles = self.worker.choose_singles([event])
        [number] = self.outbox.accept([event], singles)
        self.worker.add([(number, event, singles[0])])
        self.worker.wake()

    def end(self) -> None:
        """Wait for the end of the worker, and close the ledger."""
        self._thread.join()
        self.outbox.close()

    def _connect(self, settings: SmtpSettings, password: str) -> Session:
        return Session(self, settings, password)


class Session(SmtpClient):
    """A session that its site reports."""

    def __init__(self, member: Member, settings: SmtpSettings, password: str) -> None:
        super().__init__(settings, password, ClientOptions(member.site.context, allow_loopback=True))
        self._member, self._report = member, member.site.report

    def open(self, on_wait: Callable[[float], None] = lambda _seconds: None) -> None:
        """Open it, and report it; and why, if it fails."""
        self._member.sessions += 1
        self._report("opened", time.monotonic() - self._member.raised, self._member.sessions)
        try:
            super().open(on_wait)
        except SessionError as error:
            self._report("failed", str(error))
            raise

    def deliver(self, recipients: Sequence[str], message: bytes, **options: object) -> dict[str, Outcome]:
        """Deliver, and report what was delivered."""
        outcomes = super().deliver(recipients, message, **options)  # type: ignore[arg-type]
        if {outcome.verdict for outcome in outcomes.values()} == {"delivered"}:
            self._report("delivered", time.monotonic() - self._member.raised, self._member.sessions)
        return outcomes


if __name__ == "__main__":
    logging.getLogger("device_ui").setLevel(logging.CRITICAL)  # each failed session is a warning
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Site(**json.loads(sys.stdin.readline())).run()
