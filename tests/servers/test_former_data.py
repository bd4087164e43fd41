"""A data folder that commit 866d0f8 wrote, taken over by the processes of today.

Its processes made `formats/866d0f8.tar.xz` on 2026-11-30: a set-up, an Update for a server at 127.0.0.1 port 24625 that did
not listen, a recipient who reads Korean, three events that wait for their mail, and three logins with a wrong password.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import tarfile
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller

from device_ui.web.auth.failure_log import FailureStore
from tests.helpers.product import ADMIN_PASSWORD, PASSWORD, Browser, Product, wait_for
from tests.servers.test_aiosmtpd import ACCOUNT, Handler

FORMER = Path(__file__).with_name("formats") / "866d0f8.tar.xz"
PORT, RECIPIENT = 24625, "operator@example.com"
# When its failed logins were written, seconds since boot.
WRITTEN = 24820.0
# What commit 866d0f8 wrote for a change of the mail server and for a mail that was given up: finished English sentences.
SENTENCES = """
INSERT INTO event VALUES (4, '902', 'info', 1796006700, 1796006700, 'SMTP tab, from 192.0.2.7',
  'Before: a.example port 25, account one@a.example, security none
Now: b.example port 587, account two@b.example, security auto', 0, 0, '');
INSERT INTO event VALUES (5, '304', 'fault', 1796006701, 1796006701, 'disks', 'Disk 6 failed', 0, 5, '');
INSERT INTO delivery VALUES (5, 'operator@example.com', 'dropped', 'connect',
  'given up after 5 days: connect nothing listens at this port', 1796006702);
"""
TEXTS = ("Disk 4 failed", "Volume created", "디스크 5 고장")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Product]:
    with Product(tmp_path) as product:
        with tarfile.open(FORMER) as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.2 has no filters
            archive.extractall(product.folders.data)
        yield product


def test_settings_waiting_mail_administrator_key_and_failed_logins_of_866d0f8_are_taken_over(device):
    handler = Handler()
    controller = Controller(handler, "127.0.0.1", PORT, authenticator=handler.authenticate, auth_require_tls=False)
    controller.start()
    try:
        failures = FailureStore(device.folders.data / "web" / "throttle.toml").load(WRITTEN)
        device.start()
        wait_for(lambda: not device.state()["waiting"], what="the delivery of the waiting events")
    finally:
        controller.stop()
    mails = [message_from_bytes(raw, policy=policy.default) for _, raw in handler.mails]
    bodies = [mail.get_body(("plain",)).get_content() for mail in mails]
    assert {name for recipients, _ in handler.mails for name in recipients} == {RECIPIENT}
    assert all(text in "\n".join(bodies) for text in TEXTS)
    assert all(re.search("[가-힣]", body) for body in bodies)
    assert {login[1:] for login in handler.logins} == {(ACCOUNT.encode(), PASSWORD.encode())}
    browser = signed_in(device)
    tab = browser.get("/smtp").text
    assert all(f'value="{value}"' in tab for value in ("127.0.0.1", str(PORT), "Storage alarms", ACCOUNT))
    assert RECIPIENT in browser.get("/recipients").text
    history = device.command("history", "--json").stdout
    assert all(text in history or text.encode("unicode_escape").decode() in history for text in TEXTS)
    assert (failures.total, failures.clients["127.0.0.1"].count) == (2, 3)
    assert device.command("check").returncode == 0


def test_sentences_of_866d0f8_are_in_korean_on_a_korean_page_and_the_event_is_sent_again(device):
    with contextlib.closing(sqlite3.connect(device.folders.data / "mail" / "ledger.sqlite3")) as ledger:
        ledger.executescript(SENTENCES)
    handler = Handler()
    controller = Controller(handler, "127.0.0.1", PORT, authenticator=handler.authenticate, auth_require_tls=False)
    controller.start()
    try:
        device.start()
        browser = signed_in(device)
        page = browser.get("/history", **{"Accept-Language": "ko"}).text
        answer = browser.post("/history", **{"send-again": "5"})
        wait_for(lambda: any("Disk 6 failed" in body for body in bodies(handler)), what="the mail that is sent again")
        wait_for(lambda: not device.state()["waiting"], what="the delivery of everything")
        history = browser.get("/history?text=Disk+6", **{"Accept-Language": "ko"}).text
    finally:
        controller.stop()
    for sentence in (
        "이전: a.example 포트 25",
        "SMTP 탭, 192.0.2.7에서",
        "5일 후 포기함: 연결 이 포트에서 응답하는 서버가 없습니다",
    ):
        assert sentence in page
    assert not re.search("Before: a|SMTP tab, from|given up after", page)
    assert (answer.status, answer.headers["location"].partition("#")[2]) == (303, "event-5")
    assert "이력 페이지, 127.0.0.1에서" in history
    assert "다시 보냄" in history
    assert sum("Disk 6 failed" in body for body in bodies(handler)) == 1


def signed_in(device: Product) -> Browser:
    """A client that is signed in: at once, or after the second that three failures before the machine's start cost."""
    browser = device.browser()
    answer = browser.post("/login", password=ADMIN_PASSWORD)
    if answer.status == 429:
        assert int(answer.headers["retry-after"]) == 1
        wait_for(lambda: browser.post("/login", password=ADMIN_PASSWORD).status == 303, what="the login")
    return browser


def bodies(handler: Handler) -> list[str]:
    """The text of each mail that the server took."""
    mails = [message_from_bytes(raw, policy=policy.default) for _, raw in handler.mails]
    return [mail.get_body(("plain",)).get_content() for mail in mails]
