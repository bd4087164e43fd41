"""``make bench``: every figure beside its floor (`figures`), and what saves, events, mails and storms write to flash.

It measures; nothing here is a test. Names of parts (``web``, ``limits``, ``events``, ``mail``, ``cold``, ``rest``, ``site``, ``wear``, ``fleet``)
measure only those.

The two processes run under strace; what they write to files of the data folder is counted in bytes, in blocks of 4 KiB
that were touched, and in syncs. Times are not told: a build machine syncs in a tenth of a millisecond, and flash does not.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from device_ui.mail import client
from tests.bench import figures, fleet
from tests.helpers.product import Browser, Product, settings_form, wait_for
from tests.servers.scripted import ScriptedServer

BLOCK = 4096
CALLS = "write,pwrite64,writev,pwritev,fsync,fdatasync,ftruncate,rename,renameat,renameat2,unlink,unlinkat"
WRITE = re.compile(r"(?:write|pwrite64|writev|pwritev)\(\d+<([^>]*)>.*?(?:, (\d+))?\)\s+= (\d+)")
SYNC = re.compile(r"f(?:data)?sync\(\d+<([^>]*)>\)\s+= 0")
STORM = 1000


@dataclass(frozen=True)
class Wear:
    """What was written: `size` in bytes, `blocks` of 4 KiB touched, `syncs`."""

    size: int
    blocks: int
    syncs: int


class Traced:
    """strace on running processes, for the time of a `with` block."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._log = Path(tempfile.mkstemp(prefix="wear-")[1])

    def __enter__(self) -> Traced:
        pids = [word for each in self._product.processes.values() for word in ("-p", str(each.pid))]
        words = ["strace", "-f", "-y", "-qq", "-s", "0", "-e", f"trace={CALLS}", "-o", str(self._log), *pids]
        self._strace = subprocess.Popen(words, stderr=subprocess.PIPE)
        wait_for(self._is_attached, what="strace")
        return self

    def __exit__(self, *_: object) -> None:
        self._strace.send_signal(signal.SIGINT)
        self._strace.communicate()

    def _is_attached(self) -> bool:
        status = [Path(f"/proc/{each.pid}/status").read_text() for each in self._product.processes.values()]
        return all(not re.search(r"TracerPid:\s+0\n", each) for each in status)

    def wear(self) -> Wear:
        """What the log tells of files in the data folder."""
        data = str(self._product.folders.data)
        size = syncs = 0
        blocks: set[tuple[str, int]] = set()
        ends: dict[str, int] = {}
        for line in self._log.read_text().splitlines():
            written, synced = WRITE.search(line), SYNC.search(line)
            if synced and synced[1].startswith(data):
                syncs += 1
            if written and written[1].startswith(data):
                count = int(written[3])
                start = int(written[2]) if "pwrite64" in line and written[2] else ends.get(written[1], 0)
                ends[written[1]] = start + count
                size += count
                blocks |= {(written[1], block) for block in range(start // BLOCK, (start + count - 1) // BLOCK + 1)}
        self._log.unlink()
        return Wear(size, len(blocks), syncs)


def measured(product: Product, work: Callable[[], object]) -> Wear:
    """What some work writes."""
    with Traced(product) as traced:
        work()
    return traced.wear()


def table(storm: int = STORM) -> list[tuple[str, str, Wear]]:
    """What was done, the floor that it is held against, and what it wrote."""
    with tempfile.TemporaryDirectory() as folder, Product(Path(folder)) as product, ScriptedServer() as server:
        product.start()
        browser = product.logged_in()
        form = settings_form(server.port, security="none")
        rows = [("one Update", "1 block", measured(product, lambda: browser.update(**form)))]
        same = {**form, "password": ""}
        rows.append(("one Update that changes nothing", "0", measured(product, lambda: browser.update(**same))))
        rows += mailed(product, server)
        rows.append(("one Update of the sender's name", "1 block", measured(product, lambda: renamed(browser, form))))
        with ScriptedServer() as other:
            moved = settings_form(other.port, security="none")
            told = measured(product, lambda: announced(product, browser, moved))
            rows.append(("one Update of the server, announced", "-", told))
        browser.update(**form)
        gathered = measured(product, lambda: raise_many(product, storm))
        return [*rows, (f"a storm of {storm:,} events, accepted", "-", gathered)]


def mailed(product: Product, server: ScriptedServer) -> list[tuple[str, str, Wear]]:
    """An event while the server takes no mail, another try, and the delivery."""
    at = product.folders.socket
    server.script["RCPT"] = "450 4.2.0 later"
    raised = measured(product, lambda: client.raise_event(at, "303", "disk 2 is full"))
    wait_for(lambda: product.state()["problem"], what="the first try")
    retry = measured(product, lambda: tried_again(server, at))
    server.script.pop("RCPT")
    delivery = measured(product, lambda: (client.settings_changed(at), delivered(product)))
    return [("one event", "2 blocks", raised), ("one try that fails", "0", retry), ("one delivery", "-", delivery)]


def delivered(product: Product) -> None:
    """Wait until no mail waits."""
    wait_for(lambda: product.state()["waiting"] == 0, what="the delivery")


def tried_again(server: ScriptedServer, at: Path) -> None:
    """Ask the mail hook for another try, and wait for it."""
    before = len(server.sessions)
    client.settings_changed(at)
    wait_for(lambda: len(server.sessions) > before, what="another try")


def renamed(browser: Browser, form: Mapping[str, str]) -> None:
    """Update what no password is bound to."""
    browser.update(**{**form, "password": "", "sender_name": "Another name"})


def announced(product: Product, browser: Browser, form: Mapping[str, str]) -> None:
    """Change the server, and wait until the ledger knows that the one before took the announcement."""
    browser.update(**form)

    def is_told() -> bool:
        found = next(client.history(product.folders.socket, {"code": "902", "limit": 1}))
        return "event" in found and found["event"]["state"] == "delivered"

    wait_for(is_told, what="the announcement")


def raise_many(product: Product, count: int) -> None:
    """Many events, as fast as one caller can."""
    for _ in range(count):
        client.raise_event(product.folders.socket, "304", "disk 4 is full")


def main(words: Sequence[str]) -> None:
    """Print both tables, and the passes over a fleet."""
    others = [each for each in words if each not in ("wear", "fleet")]
    if others or not words:
        figures.show(others)
    if not words or "wear" in words:
        print("\n| written to flash by | floor | bytes | blocks of 4 KiB | syncs |")
        print("| --- | --- | --- | --- | --- |")
        for name, floor, wear in table():
            print(f"| {name} | {floor} | {wear.size:,} | {wear.blocks:,} | {wear.syncs:,} |")
    if not words or "fleet" in words:
        print()
        fleet.report()


if __name__ == "__main__":
    main(sys.argv[1:])
