"""A site of 400 devices after a power cut: their relay answers each of them at once, since they do not come at once.

A relay turns devices away when more sessions are open at a time than it allows. With 20 sessions a second that hangs on how long one
takes, and so on what else this machine does. What is promised is therefore shown in two halves:

- *The devices come evenly over the spread.* Measured from each alarm to the first session, and judged on one side only: no more
  devices may have come by any moment than an even spread allows. A busy machine only delays a session, so a spread that is not
  applied, or is shorter than it should be, fails at once on every machine.
- *The relay takes them all, and the last one with the end of the spread.* During the run, a client of the standard library, with an
  address of its own, times sessions with the same relay. While these are quick the machine keeps up, and a failed or late session
  is the product's. Otherwise the run is repeated with twice the spread, as a site of twice the size has it.
"""

from __future__ import annotations

import contextlib
import math
import re
import smtplib
import ssl
import tempfile
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from device_ui.config import SETTINGS
from device_ui.mail.smtp.tls import trusted
from tests.helpers.delivery import MEMORY
from tests.helpers.fleet import ACCOUNT, PATIENCE, Fleet
from tests.helpers.product import PASSWORD, wait_for
from tests.servers.authority import Authority
from tests.servers.postfix import MailServer

DEVICES = 400
SPREAD = next(default for name, default, _ in SETTINGS if name == "mail.start_spread")
# Devices for a second of spread, as the documentation of the setting says.
DEVICES_A_SECOND = 20
# A fifth of Postfix's defaults: processes, and connections from one address at a time.
LIMITS = {
    "default_process_limit": "20",
    "smtpd_client_connection_count_limit": "10",
    "smtpd_client_event_limit_exceptions": "",
}
# Seconds that a device may take beside its wait.
SLACK = 2.0
# The machine keeps up while no session of the standard library's client takes more seconds; 0.03 on a quiet one. With 20 devices a
# second, four sessions are open at a time then, of ten.
QUICK = 0.2
# How much more of the devices may have come by a moment than of the spread has passed: chance exceeds it once in a million runs
# (exp(-2 n d²), the one-sided bound of Kolmogorov and Smirnov).
UNEVEN = 0.13
# Runs, each with twice the spread of the one before.
RUNS = 5


@dataclass(frozen=True)
class Relay:
    """A real Postfix, and a file with the authority of its certificate."""

    server: MailServer
    authority: Path

    def fleet(self, folder: Path, spread: float, within: float = 2.0, devices: int = DEVICES) -> Fleet:
        """Return the devices of a site with this relay."""
        return Fleet(folder, devices, self.server.submission_port, self.authority, spread, within)

    @contextlib.contextmanager
    def timed(self) -> Iterator[list[float]]:
        """Open one session after another without a mail; the list gets the seconds of each."""
        context, is_over, seconds = trusted([str(self.authority)]), threading.Event(), list[float]()

        def work() -> None:
            while not is_over.wait(0.1):
                begun = time.monotonic()
                self._open_session(context)
                seconds.append(time.monotonic() - begun)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield seconds
        finally:
            is_over.set()
            thread.join()

    def _open_session(self, context: ssl.SSLContext) -> None:
        # One that fails counts with the time that it took.
        with contextlib.suppress(OSError, smtplib.SMTPException):
            # Its own address, so that it takes none of the connections that the devices may have.
            client = smtplib.SMTP("127.0.0.1", self.server.submission_port, timeout=60, source_address=("127.0.0.2", 0))
            with client:
                client.starttls(context=context)
                client.login(ACCOUNT, PASSWORD)


@contextlib.contextmanager
def relay(folder: Path) -> Iterator[Relay]:
    """Run a relay, whose record is kept in this folder."""
    authority = Authority("Test authority")
    certificate, accounts = authority.issue(["localhost", "127.0.0.1"]), {ACCOUNT: PASSWORD}
    with MailServer(folder=folder, certificate=certificate, accounts=accounts, limits=LIMITS) as server:
        yield Relay(server, authority.write(folder / "ca.pem"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: 400 ledgers on one disk are no device's."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


def unevenness(starts: list[float], spread: float) -> float:
    """Return by how much the part of the devices that came is ahead of the part of the spread that passed, at most."""
    ordered = sorted(starts)
    return max(bisect_right(ordered, start) / DEVICES - start / spread for start in ordered)


@pytest.mark.timeout(1800)
def test_no_session_of_400_devices_fails_and_the_last_comes_with_the_end_of_the_spread(tmp_path, folder):
    assert SPREAD * DEVICES_A_SECOND == DEVICES
    for run in range(RUNS):
        spread = SPREAD * 2**run
        with relay(tmp_path) as site:
            fleet = site.fleet(folder / str(run), spread)
            with site.timed() as others, fleet.running():
                # A session that failed is tried again much later; until then there is a verdict.
                wait_for(fleet.has_result, spread + PATIENCE, "a first session of each device")
            assert unevenness(fleet.starts, spread) < UNEVEN
            last = max(fleet.waits, default=math.inf)
            if not fleet.failures and last <= spread + SLACK:
                mails = site.server.wait_for(DEVICES)
                break
        assert max(others) > QUICK, (
            f"the machine keeps up; the last mail came after {last:.1f} s, failed: {fleet.failures}"
        )
    assert fleet.failures == []
    assert last <= spread + SLACK
    assert fleet.sessions == DEVICES
    assert len({re.search(rb"(?m)^Message-ID: (.*)$", mail)[1] for mail in mails}) == len(mails) == DEVICES


def test_without_a_spread_the_relay_turns_them_away(tmp_path, folder):
    """The known-bad copy: what the test above would find. All at once, so that no machine is quick enough to serve them in turn.

    A quarter of the devices is ten times what the relay allows from one address.
    """
    with relay(tmp_path) as site:
        fleet = site.fleet(folder, 0, within=0, devices=DEVICES // 4)
        with fleet.running():
            fleet.wait_for_failures(20, PATIENCE)


@pytest.mark.parametrize(("part", "is_even"), [(0, False), (1 / 4, False), (1 / 2, False), (4 / 5, False), (1, True)])
def test_a_spread_that_is_too_short_is_found(part, is_even):
    starts = [SPREAD * part * (number + 1) / DEVICES for number in range(DEVICES)]
    assert (unevenness(starts, SPREAD) < UNEVEN) is is_even
