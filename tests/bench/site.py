"""A site after a power cut: every device has an alarm at once, and all have one relay, a real Postfix with STARTTLS and login.

Each site has the spread that the documentation asks for: a second for each 20 devices. Virtual devices share this machine's
processors with the relay, so both sides' seconds of processor time are printed as well. No device boots, and no address is
translated on the way.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.rows import Row
from tests.helpers.delivery import MEMORY
from tests.helpers.fleet import ACCOUNT, Fleet
from tests.helpers.product import PASSWORD, wait_for
from tests.servers.authority import Authority
from tests.servers.postfix import MailServer

# Devices for a second of mail.start_spread (docs/appliance.md).
DEVICES_A_SECOND = 20
# Limits of Postfix: processes, and connections from one address at a time. Its defaults, and a fifth of them.
DEFAULTS, FIFTH = (100, 50), (20, 10)
# Seconds after the spread, or without one, after which what has not come is counted as late.
PATIENCE = 60.0


@dataclass(frozen=True)
class PowerCut:
    """What became of a site's alarms when the last mail had come, or was late.

    Seconds until the `last` mail that came; devices that their first session did not serve (`failed`), since the relay turned it
    away or sent no greeting, and those whose mail was `late`; seconds of processor time of both sides.
    """

    last: float
    failed: int
    late: int
    devices_seconds: float
    relay_seconds: float


def rows() -> Iterator[Row]:
    """The last mail and the failed sessions, with the documented mail.start_spread and without one."""
    for count, limits in ((400, FIFTH), (2000, DEFAULTS)):
        spread = count / DEVICES_A_SECOND
        spread_out, at_once = _power_cut(count, limits, spread), _power_cut(count, limits, 0)
        told = f"{count:,} devices after a power cut, a relay of {limits[0]} processes, {limits[1]} a client"
        used = f"{spread_out.devices_seconds:.0f} s of processor time, the relay's {spread_out.relay_seconds:.0f} s"
        yield Row(
            f"{told}, `mail.start_spread` {spread:.0f}: the last mail (the sessions take {used})",
            "the spread, and 2 s",
            "s",
            [spread_out.last],
            [spread + 2.0],
            1,
        )
        failed = f"{told}, {{}}: first sessions that failed"
        yield Row(failed.format("with it"), "none", "sessions", [float(spread_out.failed)], [0.0], 0)
        late = f"none; {at_once.late:,} mails are later than {PATIENCE:.0f} s"
        yield Row(failed.format("without"), late, "sessions", [float(at_once.failed)], [0.0], 50, at_least=True)


def _power_cut(count: int, limits: tuple[int, int], spread: float) -> PowerCut:
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
            # A spread is for devices that start within two seconds; without one, all at once is what a relay cannot serve in turn.
            within = 2.0 if spread else 0.0
            port, ca = server.submission_port, authority.write(folder / "ca.pem")
            fleet = Fleet(folder / "site", count, port, ca, spread, within)
            before = _processor_seconds(server)
            with fleet.running():
                with contextlib.suppress(AssertionError):  # what is late is counted
                    wait_for(lambda: len(fleet.waits) >= count, spread + PATIENCE)
                # Before the end, which breaks off what waits.
                last, failed = max(fleet.waits, default=math.inf), count - fleet.served_first
                late = count - len(fleet.waits)
            return PowerCut(last, failed, late, fleet.processor_seconds, _processor_seconds(server) - before)


def _processor_seconds(server: MailServer) -> float:
    """Return the seconds of processor time of a relay's processes, of those that ended too (proc_pid_stat(5))."""
    ticks = 0
    for pid in server.processes():
        with contextlib.suppress(FileNotFoundError):  # it ended just now, and counts as its parent's
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")
