"""A site of 400 devices after a power cut: their relay answers each of them at once, since they do not come at once."""

from __future__ import annotations

import logging
import re
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_ui.config import SETTINGS
from device_ui.mail.delivery.retry import RETRY_FIRST
from device_ui.mail.smtp.tls import trusted
from tests.helpers.delivery import MEMORY
from tests.helpers.fleet import ACCOUNT, Fleet
from tests.helpers.product import PASSWORD
from tests.servers.authority import Authority
from tests.servers.postfix import MailServer

DEVICES = 400
SPREAD = next(default for name, default, _ in SETTINGS if name == "mail.start_spread")
# A fifth of Postfix's defaults: processes, and connections from one address at a time.
LIMITS = {
    "default_process_limit": "20",
    "smtpd_client_connection_count_limit": "10",
    "smtpd_client_event_limit_exceptions": "",
}
# Seconds that a device may take beside its wait, and sessions at a time on average.
SLACK, TOGETHER = 2.0, 2


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[tuple[MailServer, ssl.SSLContext]]:
    authority = Authority("Test authority")
    certificate, accounts = authority.issue(["localhost", "127.0.0.1"]), {ACCOUNT: PASSWORD}
    with MailServer(folder=tmp_path, certificate=certificate, accounts=accounts, limits=LIMITS) as server:
        yield server, trusted([str(authority.write(tmp_path / "ca.pem"))])


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: 400 ledgers on one disk are no device's."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


def slowest_session(relay: tuple[MailServer, ssl.SSLContext], folder: Path) -> float:
    """Seconds that a session takes now, at most: this machine may be busy."""
    fleet = Fleet(folder, 10, *relay, 0)
    with fleet.running():
        fleet.wait_for_mails(60)
    return max(fleet.waits)


@pytest.mark.timeout(300)
def test_no_session_of_400_devices_fails_and_the_last_comes_with_the_end_of_the_spread(relay, folder):
    """With the default, unless sessions take more than 0.1 s on a busy machine: then the site needs more, as a larger one does."""
    slowest = slowest_session(relay, folder / "before")
    spread, slack = max(SPREAD, DEVICES * slowest / TOGETHER), max(SLACK, 10 * slowest)
    fleet = Fleet(folder / "site", DEVICES, *relay, spread)
    with fleet.running():
        fleet.wait_for_mails(spread + RETRY_FIRST)
    assert fleet.failures == []
    assert fleet.sessions == DEVICES
    assert max(fleet.waits) <= spread + slack
    mails = relay[0].wait_for(10 + DEVICES)
    assert len({re.search(rb"(?m)^Message-ID: (.*)$", mail)[1] for mail in mails}) == len(mails) == 10 + DEVICES


def test_without_a_spread_the_relay_turns_them_away(relay, folder):
    """The known-bad copy: what the test above would find."""
    fleet = Fleet(folder, DEVICES, *relay, 0)
    with fleet.running():
        fleet.wait_for_failures(50, 60)
