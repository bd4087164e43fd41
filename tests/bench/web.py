"""The pages: memory, start, requests a second, bytes on the wire."""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from device_ui.mail.events import Delivery, Event
from device_ui.mail.outbox.outbox import Outbox
from device_ui.web.auth.administrator import Administrator
from tests.bench.rows import Row, turns
from tests.bench.stand import Stand, first_page, hello, pages, resident
from tests.helpers.product import ADMIN_PASSWORD, Browser, raw, settings_form

PAGES = 200
# A login waits for the hashes of others, and its time is no measure here.
LOGIN_SECONDS = 100
# Events of a full ledger and of a small one; each thousand had one mail.
FULL, SMALL, OF_MAIL = 100_000, 100, 1000
TO = "ops@example.com"
PROGRAM = "one route, bottle + waitress"


def rows() -> Iterator[Row]:
    """Every row about the web process."""
    yield memory()
    yield memory(logins=16)
    yield start()
    yield speed()
    yield wire()
    yield history()


def memory(times: int = 3, *, logins: int = 0) -> Row:
    """What the process holds after many pages; with `logins` after a save too, and after so many logins, four at once."""

    def here() -> float:
        with tempfile.TemporaryDirectory() as folder, Stand(Path(folder)) as product:
            product.start()
            if logins:  # the hash of the product, which takes 8 MiB
                Administrator(product.folders.administrator).set_password(ADMIN_PASSWORD)
            browser = product.logged_in()
            if logins:
                assert browser.update(**settings_form(2525)).status == 303
                with ThreadPoolExecutor(4) as pool:
                    assert set(pool.map(lambda number: login(product.port, number), range(logins))) == {303}
            pages(product.port, "/smtp", PAGES, {"Cookie": browser.cookie})
            return resident(product.processes["web"])

    def floor() -> float:
        with hello() as (process, port):
            first_page(port, "/")
            pages(port, "/", PAGES, {})
            return resident(process)

    what, reach = (f"a save and {logins} logins, started by hand", 1.6) if logins else (f"{PAGES} pages", 1.15)
    return Row(f"web process, memory after {what}", PROGRAM, "MiB", *turns(times, here, floor), reach)


def login(port: int, number: int) -> int:
    """Log in from an address of its own; the status."""
    browser = Browser(port, source=f"127.201.0.{1 + number}", seconds=LOGIN_SECONDS)
    return browser.post("/login", password=ADMIN_PASSWORD).status


def start() -> Row:
    """From the start of a device that is set up to its first page."""
    with tempfile.TemporaryDirectory() as folder, Stand(Path(folder)) as product:
        product.start()
        product.logged_in()
        product.stop("web")

        def here() -> float:
            begun = time.monotonic()
            product.begin("web", "--listen", f"127.0.0.1:{product.port}")
            took = first_page(product.port, "/login") - begun
            product.stop("web")
            return took

        def floor() -> float:
            begun = time.monotonic()
            with hello() as (_, port):
                return first_page(port, "/") - begun

        return Row("web process, start to first page", PROGRAM, "ms", *turns(9, here, floor), 1.5)


def speed() -> Row:
    """How many times a second the SMTP tab is shown to who is logged in."""
    with tempfile.TemporaryDirectory() as folder, Stand(Path(folder)) as product, hello() as (_, port):
        product.start()
        browser = product.logged_in()
        browser.update(**settings_form(2525))
        first_page(port, "/")
        here = lambda: pages(product.port, "/smtp", PAGES, {"Cookie": browser.cookie})  # noqa: E731
        told = "SMTP tab, requests a second, logged in"
        return Row(told, PROGRAM, "/s", *turns(5, here, lambda: pages(port, "/", PAGES, {})), 0.5, at_least=True)


def wire() -> Row:
    """The first visit: page, style, script and icon, headers included."""
    with tempfile.TemporaryDirectory() as folder, Stand(Path(folder)) as product:
        product.start()
        browser = product.logged_in()
        browser.update(**settings_form(2525))

        def got(path: str) -> bytes:
            head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{product.port}\r\nCookie: {browser.cookie}\r\n"
            return raw(product.port, f"{head}Accept-Encoding: gzip\r\nConnection: close\r\n\r\n".encode())

        page = got("/smtp")
        files = re.findall(rb'(?:href|src)="(/static/[^"]+)"', page)
        size = float(len(page) + sum(len(got(each.decode())) for each in files))
    return Row("the whole SMTP tab, first visit, on the wire", "one initial window of TCP", "bytes", [size], [14600], 1)


def history() -> Row:
    """The first page of the History of a full ledger: the rows, the picture and the counts of all that is kept."""
    with contextlib.ExitStack() as stack:
        here, floor = (filled(stack, count) for count in (FULL, SMALL))
        what = f"History of {FULL:,} events, a page"
        return Row(what, f"the same page of {SMALL} events", "ms", *turns(15, here, floor), 5)


def filled(stack: contextlib.ExitStack, count: int) -> Callable[[], float]:
    """A device with so many events of the last 30 days; a function that returns how long their page takes."""
    product = stack.enter_context(Stand(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
    product.maker(f"[ledger]\nrows = {2 * FULL}\nbytes = {2**30}\n").start()
    product.stop("mailhook")
    now, step = time.time(), 30 * 24 * 3600 / count
    outbox = Outbox(product.folders.ledger, rows_maximum=2 * FULL, bytes_maximum=2**30)
    for begin in range(0, count, OF_MAIL):
        moments = [now - (count - each) * step for each in range(begin, min(begin + OF_MAIL, count))]
        numbers = outbox.accept(
            [Event("303", "fault", at, at, "zfs", "disk 2 is at 91 %", waiting=True) for at in moments]
        )
        mail = outbox.assign_to_mail(numbers)
        outbox.record(mail, [Delivery(TO, "delivered", "content", "250 ok", now)], done=True)
    outbox.close()
    product.start_hook()
    browser = product.logged_in()

    def took() -> float:
        begun = time.perf_counter()
        page = browser.get("/history")
        assert f"Events 1 to 50 of {count}." in page.text, (page.status, re.sub("<.*?>", "", page.text)[:1500])
        return time.perf_counter() - begun

    took()  # the first page imports what the later ones have
    return took
