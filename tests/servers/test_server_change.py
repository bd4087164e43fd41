"""Who may lead alarms to another mail server cannot keep its readers from being warned through the one before.

The attacks of a session and of a web process that was taken over. Both processes run under users of their own, and the
attacker's code runs as the web process's user.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from device_ui.mail import client
from tests.helpers.product import Browser, free_port, settings_form, wait_for
from tests.security import test_separation
from tests.security.test_separation import HOOK, MAKER, WEB, Installed
from tests.servers.scripted import ScriptedServer

home, python = test_separation.home, test_separation.python
READER, EVIL = "reader@example.com", "evil@example.net"
# Far fewer than an appliance keeps, so that the flood takes no time.
ROWS = 200

# As the page's user: put settings without a login in place, and say nothing to the hook.
LEAD_TO = """
import dataclasses, sys
from pathlib import Path
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.store import Store

store, port = Store(Path(sys.argv[1])), int(sys.argv[2])
settings = SmtpSettings("127.0.0.1", port, "Alarms", "alarm@mail.example.com", "none", "none", "alarm@mail.example.com")
store.save(settings, store.read()[1])
"""
# As the page's user: raise events, as many as asked for, on one connection.
FLOOD = """
import socket, sys
with socket.socket(socket.AF_UNIX) as hook:
    hook.connect(sys.argv[1])
    answers = hook.makefile("rb")
    for _ in range(int(sys.argv[2])):
        hook.sendall(b"event 153 nothing\\n")
        assert answers.readline().startswith(b"accepted ")
"""


class Silent:
    """A server that takes connections and says nothing."""

    def __init__(self) -> None:
        self.port = free_port()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.client: socket.socket | None = None

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        if self.client:
            self.client.close()

    def wait(self) -> None:
        """Wait until a client is connected."""
        self._listener.settimeout(20)
        self.client = self._listener.accept()[0]

    @property
    def has_client(self) -> bool:
        """Whether the client is still waiting."""
        assert self.client
        self.client.setblocking(False)
        try:
            return bool(self.client.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True


@pytest.fixture
def before() -> Iterator[ScriptedServer]:
    """The server that alarms go through."""
    with ScriptedServer(port=free_port()) as server:
        yield server


@pytest.fixture
def device(home: Path, python: Path, tmp_path: Path, before: ScriptedServer) -> Iterator[Installed]:
    """A device that is in use: its reader got an alarm through `before`."""
    folder = home / tmp_path.name
    folder.mkdir()
    with Installed(folder, python) as device:
        device.maker(f"{MAKER}[mail]\ndigest_window = 0\n[ledger]\nrows = {ROWS}\n")
        device.start_hook(**HOOK)
        device.start_web(**WEB)
        browser = device.logged_in()
        assert add(browser, READER).status == 303
        assert browser.update(**settings_form(before.port, security="none")).status == 303
        device.event("303", "the first")
        wait_for(lambda: before.mails and not device.state()["waiting"], what="the first alarm")
        yield device


def add(browser: Browser, address: str) -> Any:
    revision = browser.get("/recipients").revision
    return browser.post("/recipients", revision=revision, do="add", address=address, lowest="info")


def warnings(server: ScriptedServer) -> list[tuple[str, str]]:
    """The ports that a server's warnings say alarms go to now, and their readers."""
    mails = [message_from_bytes(each, policy=policy.default) for each in server.mails if b"[info 902]" in each]
    texts = [" ".join(each.get_body(("plain",)).get_content().split()) for each in mails]
    return [
        (re.search(r"Now: 127\.0\.0\.1 port ([0-9]+)", text)[1], each["To"])
        for text, each in zip(texts, mails, strict=True)
    ]


def is_warned_of(before: ScriptedServer, port: int, reader: str = READER) -> bool:
    return any(now == str(port) and reader in to for now, to in warnings(before))


def history(device: Installed) -> list[Mapping[str, Any]]:
    """The changes of the server that History shows, the newest first."""
    *events, _ = client.history(device.folders.socket, {"code": "902", "limit": 50})
    return [each["event"] for each in events]


def lead_to(device: Installed, port: int) -> None:
    """As the page's user, lead alarms to a port; the hook notices with the next alarm."""
    said = device.script(WEB, LEAD_TO, str(device.folders.settings), str(port))
    assert said == ""


def test_two_updates_in_a_row_warn_of_the_second_server(device, before):
    """The first leads to a port that no server listens at."""
    browser = device.logged_in()
    with ScriptedServer(port=free_port()) as evil:
        for port in (free_port(), evil.port):
            assert browser.update(**settings_form(port, security="none")).status == 303
        device.event("303", "the second")
        wait_for(lambda: evil.mails, what="the alarm at the attacker's")
        wait_for(lambda: is_warned_of(before, evil.port), what="the warning")
        assert f"Now: 127.0.0.1 port {evil.port}," in str(history(device)[0]["text"])


def test_a_silent_server_delays_no_warning(device, before):
    with Silent() as evil:
        lead_to(device, evil.port)
        device.event("303", "the second")
        evil.wait()
        wait_for(lambda: is_warned_of(before, evil.port), what="the warning")
        assert evil.has_client


def test_a_flood_of_events_takes_neither_the_warning_nor_its_record_away(device, before):
    before.script["RCPT"] = "450 4.2.0 later"
    with Silent() as evil:
        lead_to(device, evil.port)
        device.event("303", "the second")
        wait_for(lambda: "RCPT" in before.verbs[-4:], what="the first try")
        assert device.script(WEB, FLOOD, str(device.folders.socket), str(2 * ROWS)) == ""
        (event,) = history(device)
        assert f"Now: 127.0.0.1 port {evil.port}," in str(event["text"])
        assert (event["state"], {each["reply"] for each in event["deliveries"]}) == ("waiting", {"450 4.2.0 later"})
        del before.script["RCPT"]
        device.stop("mailhook")
        device.start_hook(**HOOK)
        wait_for(lambda: is_warned_of(before, evil.port), what="the warning")


def test_a_changed_list_and_an_alarm_keep_no_reader_from_the_warning(device, before):
    """As the page's user can: the list leads elsewhere first, and an alarm of its own goes out by it."""
    browser = device.logged_in()
    assert add(browser, EVIL).status == 303
    page = browser.get("/recipients")
    assert browser.post("/recipients", revision=page.revision, do="remove", address=READER).status == 303
    device.stop("mailhook")
    device.start_hook(**HOOK)
    count = len(before.mails)
    assert device.script(WEB, FLOOD.replace("153", "303"), str(device.folders.socket), "1") == ""
    wait_for(lambda: len(before.mails) > count, what="the alarm to the attacker")
    wait_for(lambda: not device.state()["waiting"], what="the record of it")
    assert READER.encode() not in before.mails[-1]
    with ScriptedServer(port=free_port()) as evil:
        lead_to(device, evil.port)
        device.event("303", "the second")
        wait_for(lambda: is_warned_of(before, evil.port), what="the warning")


def test_a_test_without_a_login_does_not_take_the_warnings_login_away(device, before):
    """With a session: the server before may take a test mail from anybody, and a warning to its readers from nobody."""
    browser = device.logged_in()
    assert browser.update(**settings_form(before.port, security="none", sign_in="none")).status == 303
    assert (
        "accepted the test mail"
        in browser.post(
            "/smtp/test",
            **settings_form(before.port, security="none", sign_in="none"),
            revision=browser.get("/smtp").revision,
        ).text
    )
    count = before.verbs.count("AUTH")
    with ScriptedServer(port=free_port()) as evil:
        assert browser.update(**settings_form(evil.port, security="none")).status == 303
        wait_for(lambda: is_warned_of(before, evil.port), what="the warning")
    assert before.verbs.count("AUTH") == count + 1


def test_a_server_that_is_left_again_at_once_stays_in_the_history(device, before):
    """Alarms went to the attacker, and then everything is as it was."""
    with ScriptedServer(port=free_port()) as evil:
        settings = device.folders.settings.read_bytes()
        lead_to(device, evil.port)
        device.event("303", "the second")
        wait_for(lambda: evil.mails, what="the alarm at the attacker's")
        device.folders.settings.write_bytes(settings)
        client.settings_changed(device.folders.socket, seconds=20)
        wait_for(lambda: len(history(device)) == 2, what="the way back in the History")
        wait_for(lambda: is_warned_of(before, evil.port) and is_warned_of(before, before.port), what="the warnings")
