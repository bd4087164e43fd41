"""A site after a power cut: every device has an alarm within two seconds, and all have one relay, a real Postfix with STARTTLS and login.

Virtual devices share this machine's processors with the relay. No device boots, and no address is translated on the way.
"""

from __future__ import annotations

import logging
import resource
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from device_ui.config import SETTINGS
from device_ui.mail.smtp.tls import trusted
from tests.bench.rows import Row
from tests.helpers.delivery import MEMORY
from tests.helpers.fleet import ACCOUNT, Fleet
from tests.helpers.product import PASSWORD
from tests.servers.authority import Authority
from tests.servers.postfix import MailServer

SPREAD = next(default for name, default, _ in SETTINGS if name == "mail.start_spread")
# Limits of Postfix: processes, and connections from one address at a time. Its defaults, and a fifth of them.
DEFAULTS, FIFTH = (100, 50), (20, 10)
# Seconds after which what has not come is counted as late.
PATIENCE = 240.0


def rows() -> Iterator[Row]:
    """The last mail and the failed sessions, with the default of mail.start_spread and without one."""
    logging.getLogger("device_ui").setLevel(logging.CRITICAL)  # each failed session is a warning
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for count, limits in ((400, FIFTH), (2000, DEFAULTS)):
        with_spread, without = (_power_cut(count, limits, spread) for spread in (SPREAD, 0))
        told = f"{count:,} devices after a power cut, a relay of {limits[0]} processes, {limits[1]} a client"
        last = [max(with_spread.waits, default=PATIENCE)]
        yield Row(
            f"{told}: the last mail",
            f"mail.start_spread, and 2 s; with 0: {_told(without)}",
            "s",
            last,
            [SPREAD + 2.0],
            1,
        )
        failed = [float(len(with_spread.failures))]
        yield Row(f"{told}: failed sessions", "none", "sessions", failed, [0.0], 0)


def _power_cut(count: int, limits: tuple[int, int], spread: float) -> Fleet:
    authority = Authority("Bench authority")
    certificate, accounts = authority.issue(["localhost", "127.0.0.1"]), {ACCOUNT: PASSWORD}
    settings: Mapping[str, str] = {
        "default_process_limit": str(limits[0]),
        "smtpd_client_connection_count_limit": str(limits[1]),
        "smtpd_client_event_limit_exceptions": "",
    }
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        folder = Path(name)
        with MailServer(folder=folder, certificate=certificate, accounts=accounts, limits=settings) as server:
            fleet = Fleet(folder / "site", count, server, trusted([str(authority.write(folder / "ca.pem"))]), spread)
            with fleet.running():
                try:
                    fleet.wait_for_mails(PATIENCE)
                except AssertionError as late:
                    print(late)
    return fleet


def _told(fleet: Fleet) -> str:
    return f"{max(fleet.waits):.0f} s, {len(fleet.failures)} failed, {len(fleet.devices) - len(fleet.waits)} late"
