"""An image upgrade that changes what a device is called and speaks: host name, machine id, time zone and locale.

The real processes write a data folder under one identity and start on it under another one. Each identity has a UTS and a mount
namespace of its own (unshare(1)), so that nothing of this system changes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from tests.helpers.product import ADMIN_PASSWORD, PASSWORD, Browser, Product, free_port, settings_form, wait_for
from tests.servers.test_aiosmtpd import ACCOUNT, Handler

RECIPIENT, TEXT = "operator@example.com", "디스크 5 고장"
RUN = """#!/bin/sh
exec unshare --uts --mount sh -ec 'hostname "$1"; mount --bind "$2" /etc/machine-id; shift 2; exec "$@"' - \
    {name} {machine_id} {python} "$@"
"""


@dataclass(frozen=True)
class Identity:
    """What an image gives a device."""

    name: str
    machine_id: str
    zone: str
    locale: str


FORMER = Identity("nas-a", "a" * 32, "Asia/Seoul", "C.UTF-8")
# The locale of a system that sets none: its encoding is ASCII (POSIX, Base Definitions, 7.2).
LATER = Identity("nas-b.example", "b" * 32, "America/St_Johns", "POSIX")


class Installed(Product):
    """A device whose processes have an `identity`."""

    identity = FORMER
    prefork = None

    def become(self, identity: Identity) -> Installed:
        """Give processes that start afterwards this identity."""
        self.identity = identity
        machine_id, script = self.folder / f"{identity.name}.id", self.folder / identity.name
        machine_id.write_text(identity.machine_id + "\n")
        script.write_text(RUN.format(name=identity.name, machine_id=machine_id, python=sys.executable))
        script.chmod(0o755)
        self.python = str(script)
        return self

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every process of this device, in its zone and locale."""
        kept = {name: value for name, value in super().environment.items() if not name.startswith(("LC_", "LANG"))}
        return {**kept, "TZ": self.identity.zone, "LC_ALL": self.identity.locale}

    def history(self) -> list[dict[str, Any]]:
        """The events, as the command prints them."""
        return [json.loads(line) for line in self.command("history", "--json").stdout.splitlines()]


@dataclass(frozen=True)
class Upgraded:
    """A `device` under its later identity, what its history said `before`, and the `server` that takes its mail."""

    device: Installed
    before: list[dict[str, Any]]
    server: Handler

    def visit(self) -> Browser:
        """A browser that is logged in."""
        browser = self.device.browser()
        assert browser.post("/login", password=ADMIN_PASSWORD).status == 303
        return browser


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    port, server = free_port(), Handler()
    controller = Controller(server, "127.0.0.1", port, authenticator=server.authenticate, auth_require_tls=False)
    with Installed(tmp_path_factory.mktemp("device")).become(FORMER) as device:
        browser = device.start().logged_in()
        assert browser.update(**settings_form(port, security="none")).status == 303
        page = browser.get("/recipients")
        fields = {"address": RECIPIENT, "lowest": "info", "language": "ko", "revision": page.revision}
        assert browser.post("/recipients", do="add", **fields).status == 303
        device.event("303", TEXT)
        wait_for(lambda: device.state()["problem"] == "server", what="a try that failed")
        before = device.history()
        for name in ("web", "mailhook"):
            device.stop(name)
        controller.start()
        try:
            yield Upgraded(device.become(LATER).start(), before, server)
        finally:
            controller.stop()


def bodies(server: Handler) -> list[str]:
    """The text of each mail that the server took."""
    mails = [message_from_bytes(raw, policy=policy.default) for _, raw in server.mails]
    return [mail.get_body(("plain",)).get_content() for mail in mails]


def moment(event: dict[str, Any]) -> datetime:
    """The moment that an event's time names, such as ``2026-11-30 20:14:06 +09:00 (KST)``."""
    return datetime.fromisoformat(event["time"].partition(" (")[0])


def test_both_processes_have_the_later_identity(upgraded):
    """Otherwise the tests below would compare an identity with itself."""
    for process in upgraded.device.processes.values():
        seen = subprocess.run(
            ["nsenter", "--uts", "--mount", "--target", str(process.pid), "cat", "/proc/sys/kernel/hostname", "/etc/machine-id"],
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout.split()  # fmt: skip
        assert seen == [LATER.name, LATER.machine_id]
        environment = Path(f"/proc/{process.pid}/environ").read_text().split("\0")
        assert {f"TZ={LATER.zone}", f"LC_ALL={LATER.locale}"} <= {*environment}


def test_waiting_mail_goes_out_with_the_password_that_was_saved(upgraded):
    wait_for(lambda: not upgraded.device.state()["waiting"], what="the delivery of the waiting event")
    assert {name for recipients, _ in upgraded.server.mails for name in recipients} == {RECIPIENT}
    assert TEXT in bodies(upgraded.server)[0] and LATER.name in bodies(upgraded.server)[0]
    assert {login[1:] for login in upgraded.server.logins} == {(ACCOUNT.encode(), PASSWORD.encode())}


def test_the_history_has_the_same_events_at_the_same_moments(upgraded):
    known = {event["number"]: event for event in upgraded.device.history()}
    assert upgraded.before
    for event in upgraded.before:
        found = known[event["number"]]
        assert found["time"] != event["time"] and moment(found) == moment(event)
        assert [found[name] for name in ("code", "text", "source")] == [
            event[name] for name in ("code", "text", "source")
        ]


def test_the_pages_let_the_administrator_in_and_show_what_was_set(upgraded):
    browser = upgraded.visit()
    tab = browser.get("/smtp").text
    assert all(f'value="{value}"' in tab for value in ("127.0.0.1", "Storage alarms", ACCOUNT))
    assert RECIPIENT in browser.get("/recipients").text
    assert TEXT in browser.get("/history").text


def test_the_pages_are_reached_by_the_later_name_and_no_more_by_the_former(upgraded):
    browser = upgraded.device.browser()
    assert browser.get("/login", Host=f"{LATER.name}:{upgraded.device.port}").status == 200
    assert browser.get("/login", Host=f"{FORMER.name}:{upgraded.device.port}").status == 421


def test_a_further_event_has_the_next_number_and_arrives(upgraded):
    number = upgraded.device.event("304", "fan 2 stands still")
    assert number > max(event["number"] for event in upgraded.before)
    wait_for(lambda: any("fan 2 stands still" in body for body in bodies(upgraded.server)), what="its mail")


def test_check_finds_the_installation_in_order(upgraded):
    done = upgraded.device.command("check")
    assert done.returncode == 0, done.stdout + done.stderr
