"""Debian's Chromium at the pages of a running product, with a mail server of the demo on loopback.

Whatever a test does, its pages must load nothing from another host and cause no warning or error on the console but
what Chromium itself says of a 4xx answer: `Visitor.complaints` is looked at after every test.
"""

from __future__ import annotations

import email
import email.policy
import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Request, expect, sync_playwright

from device_ui.cli.demo_server import Mailbox, Server
from tests.helpers.fake_hook import FakeHook, make_keys
from tests.helpers.product import ADMIN_PASSWORD, Product, settings_form, wait_for
from tests.helpers.product import Browser as Client

SCREENSHOTS = Path(__file__).parent.parent / "screenshots"
# Chromium without the parts that draw its window: half the time of the processor. tests/boot has the whole one.
CHROMIUM = "/usr/bin/chromium-headless-shell"
# --no-sandbox: the tests run as root. The rest keeps Chromium from asking its maker's servers anything.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Tests of this suite follow one another faster than any person's.
MANY_TESTS = "[web]\ntests = 1000\n"
# What Chromium itself writes to the console for a form that is answered with 4xx.
STATUS_LINE = re.compile(r"Failed to load resource: the server responded with a status of 4[0-9]{2} \(.*\)")
# Patience with a busy machine; a page takes a tenth of a second.
SECONDS = 30.0
# A name of the network; none may be asked of a resolver.
NAMED = "--host-resolver-rules=MAP nas.lan 127.0.0.1"
WINDOW = {"width": 1280, "height": 720}
# Stops what a page still loads or asks for, and its timers, which have numbers from 1.
STOP = "() => { stop(); for (let last = setTimeout(() => 0); last; last--) clearTimeout(last); }"


@dataclass
class Visitor:
    """A person at a browser: a `page`, and everything `complaints` would hold against what the product sent."""

    context: BrowserContext
    page: Page
    port: int
    complaints: list[str] = field(default_factory=list)
    _listeners: list[tuple[Page | BrowserContext, str, Callable[[Any], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context.set_default_timeout(SECONDS * 1000)
        self.listen(self.page, "console", self._console)
        self.listen(self.page, "pageerror", lambda error: self.complaints.append(f"script: {error}"))
        self.listen(self.context, "request", self._request)

    def listen(self, source: Page | BrowserContext, event: str, listener: Callable[[Any], None]) -> None:
        """Call `listener` at each such event until the visit ends."""
        source.on(event, listener)  # type: ignore[call-overload]
        self._listeners.append((source, event, listener))

    def leave(self) -> None:
        """End the visit. Only the cache and the history remain: no cookie, listener, route, timer, request or pointer."""
        self.page.evaluate("0")  # the answer follows each message of the console
        for source, event, listener in self._listeners:
            source.remove_listener(event, listener)
        self.page.evaluate(STOP)
        self.page.unroute_all(behavior="ignoreErrors")
        self.page.mouse.move(0, 0)
        self.context.clear_cookies()

    def open(self, path: str) -> None:
        """Go to a page of the product."""
        self.page.goto(f"http://127.0.0.1:{self.port}{path}")

    @property
    def path(self) -> str:
        """The path in the address bar."""
        return urlsplit(self.page.url).path

    def log_in(self) -> Visitor:
        """From the login page to the SMTP tab."""
        self.open("/login")
        self.page.get_by_label("Administrator’s password").fill(ADMIN_PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url("**/smtp")
        return self

    def type_in(self, label: str, text: str) -> None:
        """Replace a field's text as a person does, by keyboard or clipboard: maxlength has its say."""
        self.page.get_by_label(label, exact=True).fill("")
        self.page.get_by_label(label, exact=True).focus()
        self.page.keyboard.insert_text(text)

    def fill(self, values: dict[str, str]) -> None:
        """Fill fields by their labels."""
        for label, text in values.items():
            self.page.get_by_label(label, exact=True).fill(text)

    def update(self) -> None:
        """Press Update and wait for the answer."""
        with self.page.expect_navigation():
            self.page.get_by_role("button", name="Update", exact=True).click()

    def picture(self, name: str) -> None:
        """Keep the whole page as a picture for people to look at, if ``DEVICE_UI_PICTURES`` is set: no test reads it."""
        if os.environ.get("DEVICE_UI_PICTURES"):
            SCREENSHOTS.mkdir(exist_ok=True)
            self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not STATUS_LINE.fullmatch(message.text):
            self.complaints.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        if urlsplit(request.url).netloc != f"127.0.0.1:{self.port}":
            self.complaints.append(f"request to {request.url}")


class Letters:
    """The mails of a demo server, parsed, in the order of their arrival."""

    def __init__(self, folder: Path) -> None:
        self.mailbox = Mailbox(folder, out=io.StringIO())

    def values(self, port: int) -> dict[str, str]:
        """The five values of the tab for this server, by their labels."""
        form = settings_form(port, account=self.mailbox.account, password=self.mailbox.password)
        return labelled(form)

    def number(self, count: int) -> EmailMessage:
        """The mail of this number, once it is there."""
        path = self.mailbox.folder / f"{count:04}.eml"
        wait_for(lambda: path.exists() and path.stat().st_size, SECONDS, f"mail {count}")
        return parsed(path.read_bytes())


def raise_event(product: Product, code: str, text: str = "") -> None:
    """Raise an event by the command, in this process."""
    done = product.call("event", code, "--text", text)
    assert done.returncode == 0, done.stderr


def parsed(raw: bytes) -> EmailMessage:
    """A mail as a mail program reads it."""
    return email.message_from_bytes(raw, policy=email.policy.default)  # type: ignore[return-value]


def labelled(form: dict[str, str]) -> dict[str, str]:
    """The five values of a form by the manual's labels."""
    labels = {
        "host": "SMTP Host",
        "port": "SMTP Port",
        "sender_name": "Sender Name",
        "account": "SMTP Account Address",
        "password": "SMTP Account Password",
    }
    return {label: form[name] for name, label in labels.items()}


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, started once."""
    expect.set_options(timeout=SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, NAMED])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser, product: Product) -> Iterator[Callable[..., Visitor]]:
    """Opens a browser of its own for a product; options are Playwright's for a context. Complaints fail the test.

    `product` is asked for so that it outlives the pages: Chromium fetches an icon after the page has loaded.
    """
    visitors: list[Visitor] = []

    def begin(product: Product, **options: Any) -> Visitor:
        visitors.append(Visitor(*new_page(chromium, options), product.port))
        return visitors[-1]

    yield begin
    for visitor in visitors:
        visitor.context.close()
    assert [complaint for visitor in visitors for complaint in visitor.complaints] == []


def new_page(chromium: Browser, options: dict[str, Any]) -> tuple[BrowserContext, Page]:
    """Open an empty page in a browser that knows nothing."""
    context = chromium.new_context(**{"reduced_motion": "reduce", "locale": "en-GB", **options})
    return context, context.new_page()


@pytest.fixture(scope="session")
def pages() -> list[tuple[str, BrowserContext, Page]]:
    """The last pages that earlier tests left, with the options of their context."""
    return []


@pytest.fixture
def revisit(chromium: Browser, pages: list[tuple[str, BrowserContext, Page]]) -> Iterator[Callable[..., Visitor]]:
    """Opens a page that an earlier test left, for a product of the whole session: a new one takes three times the processor.

    `own` is for a test that changes more than `Visitor.leave` takes back, or needs an empty cache: a page for this test alone.
    """
    visits: list[tuple[str, Visitor]] = []

    def begin(
        product: Product, own: bool = False, viewport: Any = WINDOW, color_scheme: Any = "light", **options: Any
    ) -> Visitor:
        key = "" if own else repr(sorted(options.items()))
        found = next((each for each in pages if key and each[0] == key), None)
        if found:
            pages.remove(found)
        context, page = found[1:] if found else new_page(chromium, options)
        page.set_viewport_size(viewport)
        page.emulate_media(media="screen", color_scheme=color_scheme)
        visits.append((key, Visitor(context, page, product.port)))
        return visits[-1][1]

    yield begin
    for key, visitor in visits:
        try:
            if key:
                visitor.leave()
        except Error:  # the page is on its way to a different one
            key = ""
        if key:
            pages.append((key, visitor.context, visitor.page))
        else:
            visitor.context.close()
    # Each keeps up to six connections, and the device has twenty for one client.
    while len(pages) > 2:
        pages.pop(0)[1].close()
    assert [complaint for _, visitor in visits for complaint in visitor.complaints] == []


@pytest.fixture(scope="session")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Letters:
    """The mailbox of the demo server at `post_office`."""
    return Letters(tmp_path_factory.mktemp("demo") / "mail")


@pytest.fixture(scope="session")
def post_office(letters: Letters) -> Iterator[Server]:
    """The demo's mail server on loopback."""
    server = Server(letters.mailbox)
    server.start()
    yield server
    server.shutdown()
    server.server_close()


@dataclass
class Running:
    """A product that is set up, and a plain client that is signed in to it."""

    product: Product
    client: Client


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, letters: Letters) -> Iterator[Running]:
    """One product for all tests that need none of their own."""
    with Product(tmp_path_factory.mktemp("device")) as product:
        product.maker(MANY_TESTS).start("--ca-file", str(letters.mailbox.ca_file))
        yield Running(product, product.logged_in())


@pytest.fixture
def empty(running: Running) -> Product:
    """The running product without settings."""
    running.product.folders.settings.unlink(missing_ok=True)
    return running.product


@pytest.fixture
def stored(empty: Product, running: Running) -> Product:
    """The running product with settings of a server that nobody listens at; no event is raised with them."""
    assert running.client.update(**settings_form(1)).status == 303
    assert running.client.get("/smtp").status == 200  # which takes the notice
    return empty


@pytest.fixture
def tab(revisit: Callable[..., Visitor], running: Running) -> Callable[..., Visitor]:
    """Opens a browser that is signed in already, at the SMTP tab of the running product."""

    def begin(product: Product, **options: Any) -> Visitor:
        visitor = revisit(product, **options)
        give_cookie(visitor, running.client)
        visitor.open("/smtp")
        return visitor

    return begin


@dataclass
class Faked(Running):
    """A web process whose hook says what a test wants."""

    hook: FakeHook


@pytest.fixture(scope="session")
def faked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faked]:
    """One of them for all tests that need none of their own."""
    with Product(tmp_path_factory.mktemp("faked")) as product, FakeHook(product.folders.socket) as hook:
        make_keys(product.folders)
        product.maker(MANY_TESTS).start_web()
        yield Faked(product, product.logged_in(), hook)


@pytest.fixture
def enter(revisit: Callable[..., Visitor], faked: Faked) -> Callable[..., Visitor]:
    """Opens a browser that is signed in already, at a page (if any) of the device whose hook is a fake one."""

    def begin(path: str, **options: Any) -> Visitor:
        visitor = revisit(faked.product, **options)
        give_cookie(visitor, faked.client)
        if path:
            visitor.open(path)
        return visitor

    return begin


def give_cookie(visitor: Visitor, client: Client) -> None:
    """Sign a browser in as somebody who is."""
    name, _, value = client.cookie.partition("=")
    cookie = {"name": name, "value": value, "url": f"http://127.0.0.1:{client.port}/", "httpOnly": True}
    visitor.context.add_cookies([{**cookie, "sameSite": "Strict"}])  # type: ignore[typeddict-item]
