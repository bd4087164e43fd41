"""The test inside the hook: one at a time, a password for its own server only, and a mail unlike any other."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import re
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from email import message_from_bytes, policy
from pathlib import Path

import pytest

from device_ui.errors import RequestError, to_json
from device_ui.mail import catalog
from device_ui.mail.catalog import Kind
from device_ui.mail.clock import Clock
from device_ui.mail.delivery import test_mail
from device_ui.mail.delivery.environment import Environment
from device_ui.mail.delivery.quota import LOGIN_SECONDS, LOGINS, Quota
from device_ui.mail.delivery.retry import random_fraction
from device_ui.mail.delivery.sender import Sender
from device_ui.mail.outbox.outbox import Outbox
from device_ui.mail.smtp.client import ClientOptions, SmtpClient
from device_ui.mail.smtp.connection import Timeouts
from device_ui.settings import keys, seal
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import Recipient
from device_ui.settings.store import Store
from device_ui.storage import files
from tests.helpers.delivery import NAMES
from tests.helpers.product import PASSWORD, SECONDS, free_port, no_thread, wait_for
from tests.servers import scripted
from tests.servers.scripted import ScriptedServer

NOW = 1795348800.0  # 2026-11-22 12:00 UTC
ACCOUNT, ONE, TWO = "alarm@mail.example.com", "one@example.com", "two@example.com"
# What a courier gets that must not need it: loading the system's authorities takes longer than most tests.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
KINDS = catalog.built_in()
TAB = "the settings are not those of the tab"


def unreachable(*_: object) -> SmtpClient:
    """No test of these sends an alarm."""
    raise OSError("no network here")


class Desk:
    """One device's tester, with its key and its settings, and a `server` on loopback."""

    def __init__(self, folder: Path, server: ScriptedServer) -> None:
        self.server, self.folder, self.listed = server, folder, []
        self.pair = keys.load_pair(folder / "private.key", folder / "public.key")
        self.store = Store(folder / "smtp.toml")
        self.woken = self.verified = self.connects = 0
        self.booted = 5000.0
        self.clock = Clock(wall=lambda: NOW, boot=lambda: self.booted, boot_id="boot", synchronized=lambda: False)
        self.outbox = Outbox(folder / "ledger.sqlite3")
        self.quota = Quota(self.outbox, self.clock)
        environment = Environment(NAMES, lambda: self.listed, self, self.clock, time.monotonic, random_fraction)
        sender = Sender(self.outbox, KINDS, unreachable, environment)
        self.tester = test_mail.Tester(
            self.store,
            sender,
            lambda *given: self.connect(*given),
            self.quota,
            wake=lambda: self.wake(),
            verified=self.verify,
        )

    def wake(self) -> None:
        self.woken += 1

    def verify(self, _settings: SmtpSettings) -> None:
        self.verified += 1

    def connect(self, settings, password, on_step) -> SmtpClient:
        self.connects += 1
        times = Timeouts(attempt=5, verdict=0)
        return SmtpClient(settings, password, ClientOptions(NO_TLS, allow_loopback=True), times, on_step)

    def unseal(self, settings: SmtpSettings) -> str:
        return seal.unseal(settings.sealed, self.pair.private, settings.bound_to)

    def settings(self, **changes) -> SmtpSettings:
        """Settings for the server, with the password sealed for it unless `changes` say otherwise."""
        values = {"host": "127.0.0.1", "port": 25, "sender_name": "Alarms", "account": ACCOUNT, "security": "none"}
        made = SmtpSettings(**{**values, "port": self.server.port, **changes})
        return made if "sealed" in changes else dataclasses.replace(made, sealed=self.sealed(made))

    def sealed(self, settings: SmtpSettings) -> str:
        return seal.seal(PASSWORD, self.pair.public, settings.bound_to)

    def save(self, settings: SmtpSettings) -> None:
        self.store.save(settings, self.store.load().revision)

    def tell(self, request: Mapping[str, object], user: int = 0) -> list[Mapping[str, object]]:
        """All lines of a test."""
        found, answer = [], self.tester.answer(request, user)
        end = time.monotonic() + SECONDS
        for line in answer:
            assert time.monotonic() < end
            found += [line] if line else []
        return found

    def typed(self, to=(ONE,), **changes) -> dict[str, object]:
        """A request as the page sends it."""
        return {"settings": dataclasses.asdict(self.settings(**changes)), "to": list(to)}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(port=free_port()) as server:  # a port that the tab accepts
        yield server


@pytest.fixture
def desk(tmp_path, server):
    files.make_folder(tmp_path, 0o700)
    return Desk(tmp_path, server)


def refused(desk, request):
    """The word and the reason that a request is refused with; nothing may have been tried."""
    with pytest.raises(RequestError) as caught:
        desk.tester.answer(request, 0)
    assert desk.connects == 0
    return caught.value.word, str(caught.value.reason)


# A test


def test_what_is_typed_is_tested_step_by_step(desk):
    *steps, last = desk.tell(desk.typed())
    names = [line["step"]["name"] for line in steps]
    assert names == ["name", "address", "connect", "greeting", "ehlo", "login", "sender", "recipient", "content"]
    assert last["result"]["verdict"] == "delivered"
    assert last["result"]["recipients"] == [
        {"recipient": ONE, "verdict": "delivered", "step": "content", "reply": "250 2.0.0 queued"}
    ]


def test_the_hook_is_woken_for_every_line(desk):
    lines = desk.tell(desk.typed())
    assert len(lines) == 10
    wait_for(lambda: desk.woken >= 10, what="the last line's waking")
    assert desk.woken == 10


def test_without_settings_the_stored_ones_are_tested(desk):
    desk.save(desk.settings())
    assert desk.tell({"to": [ONE]})[-1]["result"]["verdict"] == "delivered"


def test_a_relay_without_login_needs_no_key(desk):
    (desk.folder / "private.key").unlink()
    assert desk.tell(desk.typed(sign_in="none", sealed=None))[-1]["result"]["verdict"] == "delivered"
    assert "AUTH" not in desk.server.verbs


@pytest.mark.parametrize(
    ("listed", "to"),
    [
        ([], [ACCOUNT]),
        ([Recipient(ONE, "info"), Recipient(TWO, "fault")], [ONE, TWO]),
    ],
)
def test_without_addresses_it_goes_to_the_devices_recipients(desk, listed, to):
    desk.listed = listed
    desk.tell({"settings": desk.typed()["settings"]})
    named = [each[4:] for each in desk.server.commands if each.lower().startswith("rcpt")]
    assert [each.replace("TO:", "to:") for each in named] == [f" to:<{each}>" for each in to]


def test_a_refused_login_is_told_and_is_one_login(desk):
    desk.server.script["AUTH"] = "535 5.7.8 wrong"
    result = desk.tell(desk.typed())[-1]["result"]
    assert (result["step"], result["problem"], result["field"]) == ("login", "login refused", "password")
    assert desk.server.verbs.count("AUTH") == 1


# What it proves


def test_a_test_of_the_stored_settings_proves_them(desk):
    desk.save(desk.settings())
    desk.tell({"to": [ONE]})
    assert desk.verified == 1


def test_typing_just_what_is_stored_proves_it_too(desk):
    settings = desk.settings()
    desk.save(settings)
    desk.tell({"settings": dataclasses.asdict(settings), "to": [ONE]})
    assert desk.verified == 1


@pytest.mark.parametrize("changes", [{"sender_name": "Other"}, {"account": "other@mail.example.com"}])
def test_a_test_of_other_settings_proves_nothing(desk, changes):
    desk.save(desk.settings())
    assert desk.tell(desk.typed(**changes))[-1]["result"]["verdict"] == "delivered"
    assert desk.verified == 0


def test_a_test_that_fails_proves_nothing(desk):
    desk.save(desk.settings())
    desk.server.script["content"] = "554 no"
    desk.tell({"to": [ONE]})
    assert desk.verified == 0


def test_with_damaged_settings_on_flash_what_is_typed_can_be_tested(desk):
    desk.store.path.write_text("damaged")
    assert desk.tell(desk.typed())[-1]["result"]["verdict"] == "delivered"
    assert desk.verified == 0


# One at a time


def test_a_second_test_is_told_that_one_runs(desk):
    go = threading.Event()

    def late(session: scripted.Session, _line: str) -> None:
        go.wait(SECONDS)
        session.say("550 no")

    desk.server.script["EHLO"] = late
    first = desk.tester.answer(desk.typed(), 0)
    with pytest.raises(RequestError) as caught:
        desk.tester.answer(desk.typed(), 0)
    assert (caught.value.word, caught.value.reason) == ("busy", "another test is running")
    go.set()
    assert [line for line in first if line][-1]["result"]["step"] == "ehlo"


@pytest.mark.parametrize("problem", ["535 5.7.8 wrong", scripted.reset])
def test_after_a_test_there_may_be_another(desk, problem):
    desk.server.script["AUTH"] = problem
    desk.tell(desk.typed())
    desk.server.script["AUTH"] = "235 welcome"
    assert desk.tell(desk.typed())[-1]["result"]["verdict"] == "delivered"


def test_another_test_may_begin_with_the_last_line(desk):
    begun = []

    def begin() -> None:  # at each line of the first test, in its own thread
        if not begun:
            with contextlib.suppress(RequestError):
                begun.append(desk.tester.answer(desk.typed(), 0))

    desk.wake = begin
    desk.tell(desk.typed())
    wait_for(lambda: begun, what="a test at the last line")
    assert [line for line in begun[0] if line][-1]["result"]["verdict"] == "delivered"


def test_a_refused_request_keeps_no_other_out(desk):
    refused(desk, {"settings": {}})
    assert desk.tell(desk.typed())[-1]["result"]["verdict"] == "delivered"


def test_a_fault_of_ours_is_told_and_keeps_no_other_out(desk, caplog):
    desk.connect = None
    assert desk.tell(desk.typed()) == [
        {"error": "fault", "reason": "the mail service had a fault; its log has the details"}
    ]
    assert "test failed" in caplog.text
    del desk.connect
    assert desk.tell(desk.typed())[-1]["result"]["verdict"] == "delivered"


def test_a_thread_that_the_system_does_not_give_keeps_no_other_test_out(desk):
    with no_thread():
        told = refused(desk, desk.typed())
    assert told == ("exhausted", "the system has no room for a test now; try again later")
    assert desk.tell(desk.typed())[-1]["result"]["verdict"] == "delivered"


# A password for its own server


@pytest.mark.parametrize(
    "changes",
    [{"host": "127.0.0.2"}, {"account": "other@mail.example.com"}, {"security": "starttls"}, {"host": "localhost"}],
)
def test_a_password_that_was_sealed_for_another_server_opens_for_nobody(desk, changes):
    stolen = desk.settings().sealed
    (line,) = desk.tell(desk.typed(sealed=stolen, **changes))
    assert line["error"] == "password"
    assert str(line["reason"]).startswith("the stored password cannot be opened: ")
    assert desk.connects == 0
    assert desk.server.sessions == []


def test_a_password_of_another_port_opens_for_nobody(desk):
    other = desk.settings(port=desk.server.port - 1).sealed
    assert desk.tell(desk.typed(sealed=other))[-1]["error"] == "password"
    assert desk.server.sessions == []


def test_a_password_without_its_key_is_told(desk):
    request = desk.typed()
    desk.pair = keys.load_pair(desk.folder / "other.key", desk.folder / "other.pub")
    assert desk.tell(request)[-1]["error"] == "password"


def test_nothing_secret_is_in_any_line(desk):
    blob = base64.b64encode(f"\0{ACCOUNT}\0{PASSWORD}".encode()).decode()
    desk.server.script["AUTH"] = f"535 5.7.8 no {PASSWORD} and {blob} is wrong"
    request = desk.typed()
    told = json.dumps(desk.tell(request), default=to_json)
    for secret in (PASSWORD, json.dumps(PASSWORD)[1:-1], blob, request["settings"]["sealed"]):
        assert secret not in told


# Requests that are refused

FIELDS = ("host", "port", "sender_name", "account", "security", "sign_in", "from_address")


@pytest.mark.parametrize("given", [[], "x", 1, True, {"password": "x"}, {"settings": {}}, [{"host": "x"}]])
def test_settings_that_are_none_of_the_tab_are_refused(desk, given):
    word, _ = refused(desk, {"settings": given})
    assert word == "bad-request"


@pytest.mark.parametrize("name", ["password", "recipients", "bound_to", "", "Host", "__class__"])
def test_a_field_that_is_not_the_tabs_is_refused(desk, name):
    settings = dataclasses.asdict(desk.settings())
    assert refused(desk, {"settings": {**settings, name: "x"}}) == ("bad-request", TAB)


@pytest.mark.parametrize("name", ["host", "port", "sender_name", "account"])
def test_a_field_that_is_missing_is_refused(desk, name):
    settings = {each: value for each, value in dataclasses.asdict(desk.settings()).items() if each != name}
    assert refused(desk, {"settings": settings})[0] == "bad-request"


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", [None, True, 1.5, [], {}, ["a"], {"a": 1}, "a\r\nb", "\0"])
def test_a_field_of_another_kind_is_refused(desk, name, value):
    settings = {**dataclasses.asdict(desk.settings()), name: value}
    assert refused(desk, {"settings": settings})[0] == "bad-request"


@pytest.mark.parametrize("value", ["587", 0, -1, 49152, 10**30, 587.0])
def test_a_port_that_is_none_is_refused(desk, value):
    settings = {**dataclasses.asdict(desk.settings()), "port": value}
    assert refused(desk, {"settings": settings}) == ("bad-request", "port breaks its rule")


@pytest.mark.parametrize("value", [1, True, [], {}])
def test_a_sealed_password_that_is_no_text_is_refused(desk, value):
    settings = {**dataclasses.asdict(desk.settings()), "sealed": value}
    assert refused(desk, {"settings": settings}) == ("bad-request", "the sealed password is no text")


@pytest.mark.parametrize("value", ["", "hpke1", PASSWORD, "x" * 50_000])
def test_a_sealed_password_that_is_none_opens_for_nobody(desk, value):
    assert desk.tell(desk.typed(sealed=value))[-1]["error"] == "password"
    assert desk.server.sessions == []


def test_a_login_without_a_password_is_refused(desk):
    settings = {**dataclasses.asdict(desk.settings()), "sealed": None}
    assert refused(desk, {"settings": settings}) == ("bad-request", "the password is missing")


def test_a_login_in_the_clear_to_somebody_else_is_refused(desk):
    settings = {**dataclasses.asdict(desk.settings()), "host": "mail.example.com"}
    assert refused(desk, {"settings": settings}) == (
        "bad-request",
        "the connection security is “No encryption” with a login",
    )


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        ([], "a test goes to 1 to 20 addresses"),
        ([ONE] * 21, "a test goes to 1 to 20 addresses"),
        (ONE, "a test goes to 1 to 20 addresses"),
        ({ONE: 1}, "a test goes to 1 to 20 addresses"),
        (1, "a test goes to 1 to 20 addresses"),
        (False, "a test goes to 1 to 20 addresses"),
        *[
            ([ONE, each], "this is no e-mail address")
            for each in (1, None, [], "", "x", " one@example.com", "one@example.com ", "<one@example.com>", "a@b", "a@b.cc>\r\nDATA",
                         "a@b.cc\nRCPT TO:<x@y.zz>", "a@b.cc, c@d.ee", "a b@c.dd", "x" * 200 + "@example.com", "ä@example.com")
        ],
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(desk, to, reason):
    assert refused(desk, {"settings": desk.typed()["settings"], "to": to}) == ("bad-request", reason)


def test_without_stored_settings_there_is_nothing_to_test(desk):
    assert desk.tell({}) == [{"error": "unset", "reason": "no settings are stored yet"}]
    assert desk.connects == 0


def test_damaged_settings_are_told(desk):
    desk.store.path.write_text("damaged")
    (line,) = desk.tell({})
    assert line["error"] == "unset"
    assert str(line["reason"]).startswith("smtp.toml is damaged: ")
    assert desk.connects == 0


# The mail that arrives


def arrived(desk):
    """The mails that the server took."""
    return [message_from_bytes(raw, policy=policy.default) for raw in desk.server.mails]


def test_the_mail_says_what_it_is(desk):
    desk.tell(desk.typed(to=(ONE, TWO)))
    (mail,) = arrived(desk)
    assert mail["subject"] == "[test] Storage: E-mail works"
    assert str(mail["from"]) == f"Alarms <{ACCOUNT}>"
    assert mail["to"] == f"{ONE}, {TWO}"
    assert mail["date"].datetime.timestamp() == NOW
    assert mail["auto-submitted"] == "auto-generated"


def test_the_mail_tells_device_and_address(desk):
    desk.tell(desk.typed())
    text = arrived(desk)[0].get_body(("plain",)).get_content()
    rows = dict(re.findall(r"^([A-Z][a-z ]+): +(\S.*?)\r?$", text, re.MULTILINE))
    assert {name: rows[name] for name in ("Device", "Model", "Serial number", "Address")} == {
        "Device": "Storage",
        "Model": "S1",
        "Serial number": "7",
        "Address": "127.0.0.1",
    }
    assert "\nExample: FAULT 056 - Storage - " in text.replace("\r", "")


def test_two_tests_have_message_ids_of_their_own(desk):
    for _ in range(2):
        desk.tell(desk.typed())
    ids = [str(mail["message-id"]) for mail in arrived(desk)]
    assert len(set(ids)) == 2
    assert all(re.fullmatch(rf"<test\.[0-9a-f]{{16}}\.{desk.outbox.id}@device-ui\.internal>", each) for each in ids)


# Samples


@pytest.mark.parametrize("code", [*sorted(KINDS.kinds), "998"])
def test_there_is_a_sample_for_every_code(desk, code):
    sample = desk.tester.sample(KINDS[code], 1)
    told = f"What happened, in the firmware's words. ({KINDS[code].name})"
    told = "Subject of the message" if code == "901" else told
    assert sample["subject"] == f"[{KINDS[code].type} {code}] Storage: {told}"
    assert set(sample) == {"subject", "from", "to", "date", "headers", "text", "html"}
    for part in ("text", "html"):
        assert ("The text of the message." if code == "901" else "in the firmware") in sample[part]


@pytest.mark.parametrize("code", ["054", "303", "901", "998"])
def test_there_is_a_sample_of_a_digest(desk, code):
    sample = desk.tester.sample(KINDS[code], 3)
    kind = KINDS[code]
    assert sample["subject"] == f"[{kind.type} {code}] Storage: 3 {kind.type}s ({kind.name})"
    assert sample["text"].count("The text of the message." if code == "901" else "in the firmware") == 3


def test_a_sample_has_the_number_of_the_next_event(desk):
    assert f"\nX-Device-Event-Number: {desk.outbox.last + 1}\n" in desk.tester.sample(KINDS["303"], 1)["headers"]


def test_a_sample_has_the_headers_as_they_are_sent(desk):
    headers = desk.tester.sample(KINDS["303"], 1)["headers"]
    assert re.search('^From: "Storage" <alarm@mail.example.com>$', headers, re.MULTILINE)
    assert "\r" not in headers
    assert f"Message-ID: <1.{desk.outbox.id}@device-ui.internal>" in headers


def test_a_sample_is_from_and_to_those_it_would_be(desk):
    desk.listed = [Recipient(ONE, "info"), Recipient(TWO, "fault")]
    desk.save(desk.settings(sender_name="홍길동"))
    assert desk.tester.sample(KINDS["054"], 1)["to"] == ONE
    assert desk.tester.sample(KINDS["303"], 1)["to"] == f"{ONE}, {TWO}"
    assert desk.tester.sample(KINDS["303"], 1)["from"] == f"홍길동 <{ACCOUNT}>"


@pytest.mark.parametrize("damage", [None, "damaged"])
def test_there_is_a_sample_without_settings(desk, damage):
    if damage:
        desk.store.path.write_text(damage)
    assert desk.tester.sample(KINDS["303"], 1)["from"] == "Storage <alarm@mail.example.com>"


def test_an_info_that_nobody_wants_has_a_sample_all_the_same(desk):
    desk.listed = [Recipient(TWO, "fault")]
    assert desk.tester.sample(KINDS["054"], 1)["to"] == ""


def test_a_sample_of_a_makers_hostile_kind_adds_no_header(desk):
    hostile = Kind("700", "fault", "x · <b>Bcc: y@z.ww</b>", "d")
    sample = desk.tester.sample(hostile, 1)
    assert "<b>" not in sample["html"]
    assert "\nBcc:" not in sample["headers"]


# How many


def test_a_user_uses_up_no_tests_of_another(desk):
    taken = [desk.tell(desk.typed(), user=33) for _ in range(10)]
    assert all("result" in lines[-1] for lines in taken)
    (last,) = desk.tell(desk.typed(), user=33)
    assert (last["error"], last["seconds"]) == ("too-many", 30)
    assert "result" in desk.tell(desk.typed(), user=0)[-1]
    desk.booted += 30
    assert "result" in desk.tell(desk.typed(), user=33)[-1]


def test_a_test_that_is_refused_for_what_it_says_is_not_counted(desk):
    for _ in range(20):
        assert refused(desk, desk.typed(to=["no address"])) == ("bad-request", "this is no e-mail address")
    assert "result" in desk.tell(desk.typed())[-1]


def test_logins_that_the_server_refuses_end_soon(desk, server):
    server.script["AUTH"] = "535 5.7.8 no"
    for _ in range(LOGINS):
        assert desk.tell(desk.typed())[-1]["result"]["problem"] == "login refused"
    (last,) = desk.tell(desk.typed())
    assert (last["error"], last["seconds"]) == ("too-many-logins", LOGIN_SECONDS)
    assert desk.tell(desk.typed(sign_in="none", sealed=None))[-1]["result"]["verdict"] == "delivered"
    desk.booted += LOGIN_SECONDS
    assert desk.tell(desk.typed())[-1]["result"]["problem"] == "login refused"


def test_a_login_that_the_server_takes_is_not_counted(desk):
    for _ in range(LOGINS + 1):
        assert desk.tell(desk.typed())[-1]["result"]["verdict"] == "delivered"


def test_a_test_that_cannot_be_counted_is_not_made(desk):
    desk.outbox.close()
    (last,) = desk.tell(desk.typed(), user=33)
    assert last["error"] == "not-stored"
    assert desk.connects == 0
