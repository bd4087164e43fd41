"""Take the pictures of the README from the running product, with Debian's Chromium and the demo's mail server."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from device_ui.cli.demo_server import Mailbox, Server
from tests.browser.conftest import ARGUMENTS, CHROMIUM, Visitor, parsed
from tests.helpers.product import ROOT, Product, free_port, settings_form, wait_for

FOLDER = ROOT / "docs"
EVENTS = [
    ("101", "admin from 192.0.2.17"),
    ("303", "/var/audit is at 81 %"),
    ("201", "setup.exe on share public"),
    ("304", "/var/audit is at 91 %"),
]


def take() -> None:
    """Write docs/smtp-tab.png, docs/history.png and docs/mail.png."""
    with tempfile.TemporaryDirectory() as name, Product(Path(name)) as product, sync_playwright() as tools:
        mailbox = Mailbox(Path(name) / "mail", out=io.StringIO())
        with Server(mailbox, free_port()) as server:
            server.start()
            product.start("--ca-file", str(mailbox.ca_file))
            client = product.logged_in()
            form = settings_form(server.port, account=mailbox.account, password=mailbox.password)
            assert client.update(**form).status == 303
            for count, (code, text) in enumerate(EVENTS, 1):
                product.event(code, text)
                wait_for(lambda at=count: len(list(mailbox.folder.glob("*.eml"))) == at, what=f"mail {count}")  # type: ignore[misc]
            chromium = tools.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            options = {"viewport": {"width": 1000, "height": 1080}, "device_scale_factor": 0.6, "locale": "en-GB"}
            context = chromium.new_context(**options, reduced_motion="reduce", timezone_id="UTC")  # type: ignore[arg-type]
            visitor = Visitor(context, context.new_page(), product.port).log_in()
            for path, picture in (("/smtp", "smtp-tab"), ("/history", "history")):
                visitor.open(path)
                visitor.page.screenshot(path=FOLDER / f"{picture}.png")
            visitor.page.goto("about:blank")
            visitor.page.set_viewport_size({"width": 800, "height": 600})
            page = parsed((mailbox.folder / "0002.eml").read_bytes()).get_body(("html",))
            visitor.page.set_content(str(page.get_content()) if page else "")
            visitor.page.screenshot(path=FOLDER / "mail.png")
            chromium.close()
            server.shutdown()
