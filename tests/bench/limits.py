"""Little memory and little processor: cgroups, where this machine lets us make some (v1, as root); else one line says so."""

from __future__ import annotations

import bisect
import contextlib
import http.client
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from device_ui.errors import HookError
from tests.bench.mail import EVENTS, Mails, mail_server, raise_all
from tests.bench.rows import Row, seconds, turns
from tests.bench.stand import Stand, first_page
from tests.helpers.product import ADMIN_PASSWORD, settings_form, wait_for

GROUPS = Path("/sys/fs/cgroup")
NAME = "device-ui-bench"
MIB = 1024 * 1024
MEMORY = 32 * MIB
# MiB that are tried for both processes together; each size twice, since what the kernel takes back in time differs.
SIZES, TRIES = range(20, 82, 2), 2
# Microseconds of a processor in each period: a tenth of one.
QUOTA, PERIOD = "10000", "100000"


@contextlib.contextmanager
def group(controller: str, of: str = "both", **limits: str) -> Iterator[Path]:
    """A cgroup with these limits."""
    made = GROUPS / controller / f"{NAME}-{of}"
    made.mkdir()
    try:
        for name, value in limits.items():
            (made / f"{controller}.{name}").write_text(value)
        yield made
    finally:
        with contextlib.suppress(OSError):
            made.rmdir()


def inside(*groups: Path) -> Callable[[], None]:
    """What a child does before it becomes the program."""

    def enter() -> None:
        for each in groups:
            (each / "cgroup.procs").write_text(str(os.getpid()))

    return enter


def rows() -> Iterator[Row]:
    """The start within 32 MiB."""
    if not _can():
        return
    with group("memory", limit_in_bytes=str(MEMORY)) as memory, tempfile.TemporaryDirectory() as folder:
        with Stand(Path(folder)) as product:
            product.start()
            product.logged_in()
            product.stop("web")

            def start(**popen: object) -> float:
                begun = time.monotonic()
                product.begin("web", "--listen", f"127.0.0.1:{product.port}", **popen)
                took = first_page(product.port, "/login") - begun
                product.stop("web")
                return took

            pairs = turns(5, lambda: start(preexec_fn=inside(memory)), start)
    yield Row("web process, start within 32 MiB", "the same without a limit", "ms", *pairs, 1.2)
    with mail_server() as mails:
        place = bisect.bisect_left(SIZES, True, key=lambda size: _is_enough(mails, size))
    assert place < len(SIZES), "no size is enough"
    least = SIZES[place]
    what = f"set-up, Update, test mail, {EVENTS} events: least memory of a cgroup with both processes, no kill"
    yield Row(what, "none", "MiB", [float(least)], [0.0], 56)


def _is_enough(mails: Mails, size: int) -> bool:
    """Return whether `size` MiB are enough each time."""
    for _ in range(TRIES):
        with group("memory", limit_in_bytes=str(size * MIB)) as both:
            done = _first_day(mails, both)
            if not done or not re.search(r"oom_kill 0\n", (both / "memory.oom_control").read_text()):
                return False
    return True


def _first_day(mails: Mails, both: Path) -> bool:
    """Do all of it with both processes in one cgroup; return whether they came to the end of it."""
    enter = inside(both)
    gone = (OSError, AssertionError, HookError, http.client.HTTPException, subprocess.TimeoutExpired)
    with contextlib.suppress(*gone), mails.product(window=2, preexec_fn=enter) as product:
        product.start_web(preexec_fn=enter)
        browser = product.browser()
        chosen = {"password": ADMIN_PASSWORD, "again": ADMIN_PASSWORD}
        browser.post("/setup", code=product.setup_code(), **chosen)
        if not browser.cookie:
            browser.post("/login", password=ADMIN_PASSWORD)
        assert browser.update(**mails.form).status == 303
        before = len(mails.server.mails())
        browser.post("/smtp/test", **{"revision": "", **mails.form})
        wait_for(lambda: len(mails.server.mails()) > before, what="the test mail")
        raise_all(product.folders.socket, EVENTS)
        wait_for(lambda: product.state()["waiting"] == 0, what="the delivery")
        return all(each.poll() is None for each in product.processes.values())
    return False


def lines() -> list[str]:
    """What happens in 32 MiB for each process and a tenth of a processor for both."""
    if not _can():
        return ["This machine lets nobody make a cgroup (v1): nothing is told of 32 MiB and a tenth of a processor."]
    limit = {"limit_in_bytes": str(MEMORY)}
    with group("cpu", cfs_period_us=PERIOD, cfs_quota_us=QUOTA) as cpu:
        with group("memory", "web", **limit) as web, group("memory", "hook", **limit) as hook:
            return [f"A tenth of one processor, 32 MiB of memory for each process: {_day(cpu, web, hook)}."]


def _day(cpu: Path, web: Path, hook: Path) -> str:
    """Start, log in, save, look at pages, raise an event; what it took, or what was killed for want of memory."""
    told = []
    with tempfile.TemporaryDirectory() as folder, Stand(Path(folder)) as product:
        try:
            told.append(
                f"the hook is there after {seconds(lambda: product.start_hook(preexec_fn=inside(cpu, hook))):.1f} s"
            )
            told.append(f"the pages after {seconds(lambda: product.start_web(preexec_fn=inside(cpu, web))):.1f} s more")
            browser = product.logged_in()
            took = seconds(lambda: [browser.get("/smtp") for _ in range(20)]) / 20
            told.append(f"a page takes {took * 1000:.0f} ms")
            told.append(f"an Update {seconds(lambda: browser.update(**settings_form(2525))) * 1000:.0f} ms")
            told.append(f"an event by the command is number {product.event('101', 'x')}")
        except (OSError, AssertionError):
            told.append("then memory is at its end")
        for name, each in list(product.processes.items()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                told.append(f"the {name} process ended with {each.wait(1)}")
                del product.processes[name]
    return ", ".join(told)


def _can() -> bool:
    return os.geteuid() == 0 and all((GROUPS / each / "cgroup.procs").exists() for each in ("memory", "cpu"))
