"""Set-up, login, logout through the real web process: one way in, and damage opens no other."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
import unicodedata
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

import pytest

from device_ui.config import Device, Folders
from device_ui.errors import NotStored
from device_ui.web import app
from device_ui.web.auth.administrator import Administrator
from tests.helpers import document
from tests.helpers.fake_hook import signed_in
from tests.helpers.product import (
    ADMIN_PASSWORD,
    Browser,
    Page,
    Product,
    choose_password,
    raw,
    read_only,
    settings_form,
    wait_for,
    wsgi,
)
from tests.web.auth.test_administrator import scrypts
from tests.web.auth.test_sessions import Clock

WRONG_CODE = "This is not the setup code of this device."
WRONG_PASSWORD = "The password is not correct."
NOT_THE_SAME = "The two passwords are not the same."
TOO_SHORT = "Please choose a password of 15 to 128 characters."
TOO_NEAR = "This password is little more than usual words and the device's names: add what nobody can guess."
TOO_PLAIN = "This password is too easy to guess: use more different characters, and no plain row of the keyboard."
CLOSED = (
    "The administrator's record of this device is damaged. At the device's console, "
    "device-ui admin set-password chooses a new password."
)


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """The pages of one device, without a hook."""
    with Product(tmp_path_factory.mktemp("product")) as product:
        yield product.start_web()


@dataclass
class Door:
    """The way into one device, from an address of its own: nobody has to wait for what another test guessed."""

    product: Product
    source: str

    @property
    def record(self) -> Path:
        """The administrator's record."""
        return self.product.folders.administrator

    @property
    def code(self) -> str:
        """The setup code."""
        return Administrator(self.record).load().code

    def browser(self) -> Browser:
        """A client without a session."""
        return Browser(self.product.port, source=self.source)


ADDRESSES = (f"127.1.{number // 200}.{number % 200 + 1}" for number in itertools.count())


@pytest.fixture
def fresh(web):
    """A device that was never set up."""
    web.folders.administrator.unlink(missing_ok=True)
    Administrator(web.folders.administrator).begin(is_new=True)
    return Door(web, next(ADDRESSES))


@pytest.fixture
def known(fresh):
    """A device set up with `ADMIN_PASSWORD`."""
    choose_password(fresh.record)
    return fresh


def set_up(door: Door, code: str, password: str = ADMIN_PASSWORD, again: str | None = None) -> Page:
    """Send the set-up's form."""
    return door.browser().post("/setup", code=code, password=password, again=password if again is None else again)


def problem(page: Page) -> str:
    """What the page says is wrong, "" when nothing is."""
    found = document.read(page.text).by_class("problem")
    assert all(each.attributes["role"] == "alert" for each in found)
    return found[0].text if found else ""


def login(door: Door, password: str, source: str = "") -> tuple[int, str]:
    """The status and the raw answer of a login, from another address if one is given."""
    product = door.product
    body = urllib.parse.urlencode({"password": password})
    lines = ("POST /login HTTP/1.1", f"Host: 127.0.0.1:{product.port}", f"Origin: http://127.0.0.1:{product.port}")
    kind = ("Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}", "Connection: close")
    answer = raw(product.port, "\r\n".join((*lines, *kind, "", body)).encode(), source or door.source).decode()
    return int(answer.split()[1]), answer


# Set-up


def test_a_new_device_leads_to_its_set_up(fresh):
    browser = fresh.browser()
    ways = {path: browser.get(path).headers["location"] for path in ("/", "/smtp", "/login")}
    assert ways == {"/": "/smtp", "/smtp": "/setup", "/login": "/setup"}
    assert document.problems(browser.get("/setup").text) == []


def test_a_login_on_a_new_device_leads_to_its_set_up(fresh):
    page = fresh.browser().post("/login", password="")
    assert (page.status, page.headers["location"]) == (303, "/setup")


def test_the_set_up_asks_for_code_and_password_twice(fresh):
    root = document.read(fresh.browser().get("/setup").text)
    assert [each.text for each in root.all("label")] == [
        "Setup code",
        "New administrator’s password",
        "The same password again",
    ]
    assert [each.attributes.get("type") for each in root.all("input") if each.attributes["name"] != "token"] == [
        None,
        "password",
        "password",
    ]


def test_the_link_of_the_console_fills_in_the_code(fresh):
    root = document.read(fresh.browser().get("/setup?code=AB%22%3E%3Cscript%3E").text)
    assert root.by_id("code").attributes["value"] == 'AB"><script>'


@pytest.mark.parametrize("query", ["code=%FF", "code", "=", "code=%00%0d%0a", "&&&", "code=1&code=2"])
def test_an_odd_link_is_no_fault(fresh, query):
    page = fresh.browser().get(f"/setup?{query}")
    assert page.status == 200
    assert document.problems(page.text) == []


def test_the_right_code_sets_the_password_and_lets_in(fresh):
    browser = fresh.browser()
    page = browser.post("/setup", code=fresh.code, password=ADMIN_PASSWORD, again=ADMIN_PASSWORD)
    assert (page.status, page.headers["location"]) == (303, "/smtp")
    assert browser.get("/smtp").status == 200
    assert login(fresh, ADMIN_PASSWORD)[0] == 303


def test_the_code_is_taken_without_hyphens_in_lower_case(fresh):
    assert set_up(fresh, fresh.code.replace("-", "").lower()).status == 303


@pytest.mark.parametrize("code", ["", "AAAA-AAAA-AAAA-AAAA-AAAA", "\0", "가" * 20])
def test_a_wrong_code_sets_nothing(fresh, code):
    before = fresh.record.read_bytes()
    page = set_up(fresh, code)
    assert (page.status, problem(page)) == (403, WRONG_CODE)
    assert fresh.record.read_bytes() == before


def test_a_second_set_up_is_impossible(known):
    before = known.record.read_bytes()
    page = set_up(known, "AAAA", "another sentence for tests")
    assert (page.status, page.headers["location"]) == (303, "/login")
    assert known.browser().get("/setup").headers["location"] == "/login"
    assert known.record.read_bytes() == before
    assert known.product.call("setup-code").returncode == 78


@pytest.mark.parametrize(
    ("password", "again", "sentence"),
    [
        (ADMIN_PASSWORD, ADMIN_PASSWORD + "x", NOT_THE_SAME),
        (ADMIN_PASSWORD, "", NOT_THE_SAME),
        ("a new sentence", "a new sentence", TOO_SHORT),
        ("x y 1 2 3 " * 13, "x y 1 2 3 " * 13, TOO_SHORT),
        ("123456789012345", "123456789012345", TOO_PLAIN),
        ("", "", TOO_SHORT),
    ],
)
def test_a_password_that_does_not_do_is_refused_in_words(fresh, password, again, sentence):
    code, before = fresh.code, fresh.record.read_bytes()
    page = set_up(fresh, code, password, again)
    assert (page.status, problem(page)) == (422, sentence)
    root = document.read(page.text)
    shown = [root.by_id(name).attributes.get("value", "") for name in ("code", "password", "again")]
    assert shown == [code, "", ""]
    assert fresh.record.read_bytes() == before


def test_mistyping_is_no_guess(fresh):
    """A password that is too short costs no attempt: the code was not looked at."""
    code = fresh.code
    assert [set_up(fresh, code, "short").status for _ in range(6)] == [422] * 6
    assert set_up(fresh, code).status == 303


def test_a_password_of_128_syllables_opens_on_every_keyboard(fresh):
    password = ("가나다라마바사아자차카타파하 " * 9)[:127] + "끝"
    decomposed = unicodedata.normalize("NFD", password)
    assert set_up(fresh, fresh.code, decomposed).status == 303
    assert login(fresh, password)[0] == 303


def test_of_two_set_ups_at_once_one_gets_in(fresh):
    code, start = fresh.code, threading.Barrier(2)

    def enter(password: str) -> None:
        start.wait(60)
        set_up(fresh, code, password)

    threads = [threading.Thread(target=enter, args=(f"the sentence of {name}",)) for name in ("Kim", "Lee")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    opened = [login(fresh, f"the sentence of {name}")[0] == 303 for name in ("Kim", "Lee")]
    assert sorted(opened) == [False, True]


def test_a_set_up_that_cannot_be_stored_is_told_and_can_be_tried_again(fresh):
    code, folder = fresh.code, fresh.record.parent
    whole = fresh.record.read_bytes()
    with read_only(folder):
        page = set_up(fresh, code)
    assert page.status == 507
    assert problem(page) == "The file administrator.toml could not be stored: Read-only file system."
    assert "the administrator's password was not set: administrator.toml could not be" in fresh.product.log("web")
    assert fresh.record.read_bytes() == whole
    assert set_up(fresh, code).status == 303


# Login


def test_a_wrong_password_is_refused_in_words(known):
    browser = known.browser()
    page = browser.post("/login", password="not the sentence")
    assert (page.status, problem(page)) == (403, WRONG_PASSWORD)
    assert browser.get("/smtp").status == 303
    assert document.problems(page.text) == []


@pytest.mark.parametrize("password", ["", ADMIN_PASSWORD + " ", ADMIN_PASSWORD.upper(), "\0", "x" * 60_000])
def test_nothing_but_the_password_opens(known, password):
    assert login(known, password)[0] == 403


def test_a_login_without_the_field_is_a_wrong_one(known):
    assert known.browser().post("/login", other="x").status == 403


def test_the_password_is_not_sent_back(known):
    page = known.browser().post("/login", password="not the sentence")
    assert "not the sentence" not in page.text


def test_the_login_page_is_sound(known):
    page = known.browser().get("/login")
    assert document.problems(page.text) == []
    root = document.read(page.text)
    assert [each.text for each in root.all("label")] == ["Administrator’s password"]
    assert problem(page) == ""


# Guesses, on a clock that stands still until the test turns it


@dataclass
class Pages:
    """The pages of a device with `ADMIN_PASSWORD`, asked without a server, on the test's own clock."""

    device: Device
    clock: Clock

    def __post_init__(self) -> None:
        self.app = app.routes(app.site(self.device, self.clock))

    def login(self, password: str, source: str = "192.0.2.1", **variables: str) -> Page:
        """A login from an address."""
        body = urllib.parse.urlencode({"password": password}).encode()
        return wsgi(self.app, "POST", "/login", body, REMOTE_ADDR=source, **variables)

    def get(self, cookie: str) -> int:
        """The status of the tab for a cookie."""
        return wsgi(self.app, "GET", "/smtp", HTTP_COOKIE=cookie.partition(";")[0]).status


@pytest.fixture
def device(folders):
    """A device whose maker changed nothing; the one of the other modules here is signed in to."""
    return Device.load(folders)


@pytest.fixture
def pages(device):
    choose_password(device.folders.administrator)
    return Pages(device, Clock())


def test_guesses_are_slowed_down_and_told_when_to_come_back(pages):
    answers = [pages.login("guess") for _ in range(5)]
    assert [page.status for page in answers] == [403, 403, 403, 429, 429]
    assert [page.headers.get("retry-after") for page in answers] == [None, None, None, "1", "1"]
    assert problem(answers[3]) == "Too many attempts. Please wait 1 s."
    pages.clock.now += 1
    assert [pages.login("guess").headers.get("retry-after") for _ in range(2)] == [None, "2"]


def test_the_right_password_must_wait_as_well(pages):
    """Else the answer would tell a guesser which guess was right."""
    for _ in range(3):
        pages.login("guess")
    assert pages.login(ADMIN_PASSWORD).status == 429
    pages.clock.now += 1
    assert pages.login(ADMIN_PASSWORD).status == 303


def test_a_guess_that_came_too_early_costs_no_hash(pages):
    for _ in range(3):
        pages.login("guess")
    assert scrypts(lambda: pages.login("guess")) == 0


def test_a_guesser_does_not_keep_the_owner_out(pages):
    for _ in range(10):
        pages.login("guess")
    assert pages.login(ADMIN_PASSWORD, "192.0.2.2").status == 303


def test_success_forgets_the_wrong_ones(pages):
    tries = ("x", "x", ADMIN_PASSWORD, "x", "x", "x", "x")
    assert [pages.login(each).status for each in tries] == [403, 403, 303, 403, 403, 403, 429]


def test_guesses_at_once_are_all_counted(pages):
    start, statuses = threading.Barrier(8), []

    def guess() -> None:
        start.wait(60)
        statuses.append(pages.login("guess").status)

    threads = [threading.Thread(target=guess) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(statuses) == [403] * 3 + [429] * 5


def test_codes_are_not_guessed_quickly(device):
    Administrator(device.folders.administrator).begin(is_new=True)
    pages = Pages(device, Clock())
    fields = {"code": "AAAA", "password": ADMIN_PASSWORD, "again": ADMIN_PASSWORD}
    answers = [wsgi(pages.app, "POST", "/setup", urllib.parse.urlencode(fields).encode()) for _ in range(4)]
    assert [page.status for page in answers] == [403, 403, 403, 429]
    assert problem(answers[-1]) == "Too many attempts. Please wait 1 s."
    right = urllib.parse.urlencode({**fields, "code": Administrator(device.folders.administrator).load().code}).encode()
    assert wsgi(pages.app, "POST", "/setup", right).status == 429


def test_ten_idle_minutes_lead_back_to_the_login(pages):
    cookie = pages.login(ADMIN_PASSWORD).headers["set-cookie"]
    looks = []
    for seconds in (0, 599, 599, 600):
        pages.clock.now += seconds
        looks.append(pages.get(cookie))
    assert looks == [200, 200, 200, 303]


def test_twelve_hours_lead_back_to_the_login_even_at_work(pages):
    cookie = pages.login(ADMIN_PASSWORD).headers["set-cookie"]
    looks = []
    for _ in range(12 * 6 + 1):
        pages.clock.now += 599
        looks.append(pages.get(cookie))
    assert looks == [200] * 72 + [303]


def test_a_guesser_waits_over_the_wire_and_its_claimed_address_is_not_believed(known):
    """Each try may take its time on a slow machine: the delays double until they are longer."""
    statuses: list[int] = []
    while 429 not in statuses and len(statuses) < 12:
        claimed = {"X-Forwarded-For": f"198.51.100.{len(statuses)}", "Forwarded": f"for=198.51.100.{len(statuses)}"}
        browser = Browser(known.product.port, "", claimed, known.source)
        statuses.append(browser.post("/login", password="guess").status)
    assert statuses[:3] == [403] * 3
    assert statuses[-1] == 429
    assert login(known, ADMIN_PASSWORD, "127.0.0.3")[0] == 303


def test_logins_are_in_the_log_and_passwords_are_not(known):
    login(known, "not the sentence", "127.0.0.5")
    login(known, ADMIN_PASSWORD, "127.0.0.6")
    log = known.product.log("web")
    assert "a login from 127.0.0.5 failed" in log
    assert "a login from 127.0.0.6 succeeded" in log
    assert "not the sentence" not in log
    assert ADMIN_PASSWORD not in log


def test_what_was_refused_at_the_door_is_in_the_log_and_does_not_fill_it(tmp_path):
    """A stranger sends as many as he likes: 20 lines at once."""
    with Product(tmp_path) as product:
        product.start_web()
        browser = product.browser()
        for _ in range(30):
            assert browser.get("/login", Host="evil.example").status == 421
        written = product.log("web")
        assert written.count("a request for another host was refused, from 127.0.0.1") == 20
        assert "evil" not in written


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"HTTP_HOST": "evil.example"}, "a request for another host was refused, from 192.0.2.1"),
        ({"HTTP_ORIGIN": "http://evil.example"}, "a form of another origin was refused, from 192.0.2.1"),
    ],
)
def test_each_refusal_at_the_door_has_its_line(device, caplog, headers, told):
    wsgi(app.routes(app.site(device)), "POST", "/login", b"password=x", REMOTE_ADDR="192.0.2.1", **headers)
    assert caplog.messages == [told]


def test_wrong_codes_and_guesses_that_came_too_early_are_in_the_log(fresh):
    for _ in range(5):
        set_up(fresh, "AAAA-AAAA")
    log = fresh.product.log("web")
    assert log.count(f"a setup code from {fresh.source} was wrong") == 3
    assert f"a login that came too early was refused, from {fresh.source}" in log


def test_a_password_of_the_devices_own_name_is_refused_in_words(fresh):
    page = set_up(fresh, fresh.code, "Storage appliance 1")
    assert (page.status, problem(page)) == (422, TOO_NEAR)


def test_a_password_that_is_replaced_while_it_is_checked_is_a_wrong_one(device):
    class Late(Administrator):
        """The owner chooses a new password at the console while the old one is being checked."""

        def verify(self, password):
            found = super().verify(password)
            self.set_password("another sentence for tests")
            return found

    choose_password(device.folders.administrator)
    site = app.site(device, Clock())
    site.guard.administrator = Late(device.folders.administrator)
    page = wsgi(app.routes(site), "POST", "/login", f"password={ADMIN_PASSWORD}".encode())
    assert (page.status, problem(page), site.guard.sessions.is_empty()) == (403, WRONG_PASSWORD, True)


def test_signing_out_without_a_session_is_no_fault_and_no_line_of_the_log(known):
    assert known.browser().post("/logout").headers["location"] == "/login"
    browser = known.browser()
    assert browser.post("/login", password=ADMIN_PASSWORD).status == 303
    kept = Browser(browser.port, browser.cookie, source=known.source)
    assert [each.post("/logout").status for each in (browser, kept, kept)] == [303] * 3
    assert known.product.log("web").count(f"a sign-out from {known.source}") == 1


# Damage


def damaged(door: Door, content: bytes | None) -> None:
    """Damage the administrator's record, or take it away."""
    if content is None:
        door.record.unlink()
    else:
        door.record.write_bytes(content)


@pytest.mark.parametrize("content", [b"", b"damaged", b'code = "AAAA-AAAA-AAAA-AAAA-AAAA"\n', None])
def test_a_damaged_record_asks_for_the_console_and_offers_no_set_up(known, content):
    whole, session = known.record.read_bytes(), known.browser()
    # The tests before have guessed so often that newcomers take turns.
    wait_for(lambda: session.post("/login", password=ADMIN_PASSWORD).status == 303, what="the login")
    assert session.get("/smtp").status == 200
    damaged(known, content)
    for path in ("/smtp", "/login", "/setup"):
        page = session.get(path)
        assert page.status == 503
        root = document.read(page.text)
        assert root.all("main")[0].all("p")[0].text == CLOSED
        assert root.all("main")[0].all("form") == []
    for page in (set_up(known, "AAAA-AAAA-AAAA-AAAA-AAAA"), session.post("/smtp", **settings_form(25))):
        assert page.status == 503
    assert login(known, ADMIN_PASSWORD)[0] == 503
    assert content is None or known.record.read_bytes() == content
    known.record.write_bytes(whole)
    assert login(known, ADMIN_PASSWORD)[0] == 303


@pytest.mark.parametrize("content", [b"damaged", None])
def test_a_restart_with_settings_and_without_a_sound_record_is_no_first_start(known, content):
    known.product.folders.settings.write_bytes(b"settings, whatever they say")
    damaged(known, content)
    known.product.stop("web")
    before = len(known.product.log("web"))
    known.product.spawn("web", "--listen", f"127.0.0.1:{known.product.port}")
    wait_for(lambda: answers(known.product), what="the pages' start")
    try:
        assert known.browser().get("/setup").status == 503
        assert "setup code" not in known.product.log("web")[before:]
        assert known.product.call("setup-code").returncode != 0
        assert known.record.exists() == (content is not None)
    finally:
        known.product.folders.settings.unlink()


def answers(product: Product) -> bool:
    """Whether the pages answer anything."""
    try:
        return product.browser().get("/static/style.css").status == 200
    except OSError:
        return False


@pytest.mark.parametrize("content", [b"damaged", None])
def test_the_console_opens_a_damaged_device_again(known, content):
    known.product.folders.settings.write_bytes(b"settings, whatever they say")
    damaged(known, content)
    try:
        assert known.product.call("admin", "set-password", input="another sentence for tests\n").returncode == 0
        assert login(known, "another sentence for tests")[0] == 303
    finally:
        known.product.folders.settings.unlink()


def test_a_record_that_cannot_be_read_opens_nothing(known):
    whole = known.record.read_bytes()
    known.record.unlink()
    known.record.mkdir()
    try:
        page = known.browser().get("/setup")
        assert page.status == 503
        assert CLOSED.replace("'", "&#039;") in page.text
    finally:
        known.record.rmdir()
        known.record.write_bytes(whole)


def test_no_fault_of_ours_was_met(web):
    """After everything above."""
    assert "Traceback" not in web.log("web")


def test_a_login_writes_a_record_anew_that_was_in_doubt(tmp_path, monkeypatch):
    """The set-up told that it was not certain; whoever gets in all the same takes it for done."""
    folders = Folders(tmp_path / "data", tmp_path / "run", tmp_path / "etc")
    pages, before = signed_in(folders), folders.administrator.stat().st_ino
    pages.post("/login", {"password": ADMIN_PASSWORD})
    assert folders.administrator.stat().st_ino == before

    def sync_files_alone(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as disk, pytest.raises(NotStored):
        disk.setattr(os, "fsync", sync_files_alone)
        Administrator(folders.administrator).set_password(ADMIN_PASSWORD)
    before = folders.administrator.stat().st_ino
    assert pages.post("/login", {"password": ADMIN_PASSWORD}).status == 303
    assert folders.administrator.stat().st_ino != before
