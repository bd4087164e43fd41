"""Browsers that the owner got in with before: others' guesses cost them nothing, and their cookie opens nothing."""

from __future__ import annotations

import pytest
from bottle import request, response

from device_ui.web.auth import device_cookie
from device_ui.web.auth.administrator import Administrator, Record
from device_ui.web.auth.guard import Guard, own_names
from device_ui.web.auth.sessions import Sessions
from device_ui.web.auth.throttle import Throttle
from tests.helpers.product import ADMIN_PASSWORD, Browser, Product, choose_password
from tests.web.auth.test_sessions import Clock
from tests.web.auth.test_throttle import attacked, tried

RECORD = Record(salt="00" * 16, hash="11" * 32)


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    with Product(tmp_path_factory.mktemp("product")) as product:
        product.start().logged_in()
        yield product


def test_an_issued_token_is_valid():
    token = device_cookie.issue(RECORD)
    assert device_cookie.verify(token, RECORD) == token[:32]
    assert device_cookie.issue(RECORD) != token


@pytest.mark.parametrize("record", [Record(salt="00" * 16, hash="22" * 32), Record(salt="01" * 16, hash="11" * 32)])
def test_a_new_password_ends_every_token(record):
    assert device_cookie.verify(device_cookie.issue(RECORD), record) == ""


def test_no_token_is_valid_without_a_password():
    new = Record(code="AAAA-AAAA-AAAA-AAAA-AAAA")
    assert [device_cookie.verify(device_cookie.issue(each), each) for each in (new, Record())] == ["", ""]


def test_no_other_token_is_valid():
    name, _, signature = device_cookie.issue(RECORD).partition(".")
    others = [
        f"{name[:-1]}{'1' if name[-1] == '0' else '0'}.{signature}",
        f"{name}.{signature[::-1]}",
        f"{name}.",
        name,
    ]
    others += [
        f"{name}.{signature}0",
        f"{name.upper()}.{signature}".replace("A", "G"),
        f" {name}.{signature}",
        "",
        "é.é",
    ]
    others += [device_cookie.issue(Record())[:97]]
    assert [device_cookie.verify(each, RECORD) for each in others] == [""] * len(others)


def test_the_owners_browser_gets_in_at_once_at_a_new_address_while_1000_guess():
    throttle = attacked(Clock())
    assert [throttle.attempt("192.0.2.1"), throttle.attempt("192.0.2.2")] == [0, 1]
    assert throttle.attempt("203.0.113.9", "ab" * 16) == 0


def test_a_stolen_browser_guesses_no_quicker_than_an_address():
    clock = Clock()
    throttle, waits = Throttle(clock), []
    for number in range(9):
        waits.append(throttle.attempt(f"192.0.2.{number}", "ab" * 16))
        clock.now += waits[-1]
        if waits[-1]:
            assert throttle.attempt(f"198.51.100.{number}", "ab" * 16) == 0
    assert waits == [0, 0, 0, 1, 2, 4, 8, 16, 32]
    assert tried(throttle, "192.0.2.1") == 0


def test_a_stolen_browser_keeps_the_owner_out_nowhere_he_got_in_before():
    """Whoever copied the cookie makes the browser wait, one wrong password a minute; the address is the owner's still."""
    clock = Clock()
    throttle = Throttle(clock)
    throttle.succeeded("192.0.2.1", "ab" * 16)
    for _ in range(12):
        clock.now += 60
        assert throttle.attempt("203.0.113.9", "ab" * 16) == 0
    assert throttle.attempt("192.0.2.9", "ab" * 16) > 0
    assert throttle.attempt("192.0.2.1", "ab" * 16) == 0


def test_a_stolen_browser_at_the_owners_address_has_two_delays_and_no_more():
    """Its wrong passwords count for the one or the other, and both delays grow: two guesses a minute in the end."""
    clock = Clock()
    throttle, waits = Throttle(clock), []
    throttle.succeeded("192.0.2.1")
    for _ in range(30):
        waits.append(throttle.attempt("192.0.2.1", "ab" * 16))
        clock.now += waits[-1]
    assert waits[6::3] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert sum(waits) == sum(waits[6::3])
    throttle.succeeded("192.0.2.1", "ab" * 16)
    assert [throttle.attempt("192.0.2.1", "ab" * 16) for _ in range(7)] == [0, 0, 0, 0, 0, 0, 1]


def test_every_login_gives_a_browser_a_new_name(product):
    """What somebody copied before it is another browser from then on."""
    browser = product.logged_in()
    before = browser.known
    assert browser.post("/login", password=ADMIN_PASSWORD).status == 303
    assert browser.known not in ("", before)
    for _ in range(4):
        last = Browser(product.port, source="127.0.0.78", known=before).post("/login", password="a guess for this test")
    assert last.status == 429
    owner = Browser(product.port, source="127.0.0.78", known=browser.known)
    assert owner.post("/login", password=ADMIN_PASSWORD).status == 303


def test_the_right_password_forgets_what_the_browser_did_before():
    clock = Clock()
    throttle = Throttle(clock)
    assert [throttle.attempt("192.0.2.1", "ab" * 16) for _ in range(4)] == [0, 0, 0, 1]
    throttle.succeeded("192.0.2.1", "ab" * 16)
    assert throttle.attempt("192.0.2.1", "ab" * 16) == 0


def guard_for(tmp_path, cookie: str, address: str = "192.0.2.1") -> Guard:
    """A guard with a password, and a request with this cookie bound to this thread."""
    choose_password(tmp_path / "administrator.toml")
    environ = {"HTTP_HOST": "127.0.0.1", "HTTP_COOKIE": cookie, "REMOTE_ADDR": address, "wsgi.url_scheme": "http"}
    request.bind(environ)
    response.bind()
    clock = Clock()
    return Guard(Administrator(tmp_path / "administrator.toml"), Sessions(clock), attacked(clock), own_names([]))


def given(guard: Guard) -> str:
    """The browser's cookie that a login gives."""
    guard.sign_in(guard.administrator.load())
    cookies = [value for name, value in response.headerlist if name == "Set-Cookie"]
    return next(each for each in cookies if each.startswith("device-ui-browser-"))


def test_a_login_gives_the_cookie_for_a_year_to_this_site_and_no_script(tmp_path):
    attributes = {each.strip().lower() for each in given(guard_for(tmp_path, "")).split(";")[1:]}
    assert attributes == {"httponly", "max-age=31536000", "path=/", "samesite=strict"}


def test_under_siege_the_cookie_decides_and_a_login_renews_it(tmp_path):
    pair = given(guard_for(tmp_path, "")).partition(";")[0]
    guard = guard_for(tmp_path, pair, "203.0.113.77")
    assert [guard.attempt(guard.record()) for _ in range(4)] == [0, 0, 0, 1]
    guard.succeeded()
    assert guard.attempt(guard.record()) == 0
    assert given(guard).partition(";")[0] != pair


def test_under_siege_a_made_up_cookie_decides_nothing(tmp_path):
    made_up = f"device-ui-browser={'ab' * 16}.{'cd' * 32}"
    guard = guard_for(tmp_path, made_up, "203.0.113.77")
    for number in range(30):
        guard.throttle.attempt(f"192.0.2.{number}")
    assert guard.attempt(guard.record()) > 0
    assert given(guard).partition(";")[0] != made_up


def test_the_cookie_opens_no_page_and_outlives_the_sign_out(product):
    browser = product.logged_in()
    assert browser.post("/logout").status == 303
    known = browser.known
    assert known.startswith("device-ui-browser-")
    stranger = Browser(product.port, known)
    assert stranger.get("/smtp").headers["location"] == "/login"
    assert stranger.post("/login", password="not the sentence at all").status == 403


def test_a_wrong_password_gives_no_cookie(product):
    browser = Browser(product.port)
    assert browser.post("/login", password="not the sentence at all").status == 403
    assert browser.known == ""


def test_the_owner_gets_in_from_a_new_address_after_guesses_of_that_very_address(product):
    known = product.logged_in().known
    for _ in range(4):
        last = Browser(product.port, source="127.0.0.77").post("/login", password="a guess for this test")
    assert last.status == 429
    owner = Browser(product.port, source="127.0.0.77", known=known)
    assert owner.post("/login", password=ADMIN_PASSWORD).status == 303
