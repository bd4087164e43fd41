"""The test mail of the SMTP tab: what is asked of the hook, what is told, and what never happens."""

from __future__ import annotations

import dataclasses
import http.client
import json
import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import pytest

from device_ui.config import Folders
from device_ui.settings import keys, oauth_rules, seal
from tests.helpers import document
from tests.helpers.fake_hook import FakeHook, Pages, make_keys, signed_in
from tests.helpers.product import PASSWORD, Browser, Page, Product, settings_form

BUSY = "Another test is running. Please wait a minute."
TOO_MANY = "Too many tests one after another. Please wait 30 seconds and try again."
TOO_MANY_LOGINS = (
    "Too many logins were refused. Please wait 19 minutes and try again, so that the account is not locked."
)
NO_RESULT = "The mail service does not answer, so the test has no result. Please try again."
AGAIN = "The test saves nothing. Type the password again before you press Update."
LENGTH = "The SMTP account password does not meet the rules."
EVIL = "<script>alert(1)</script>\"'&amp;"

FORM = settings_form(2525, revision="")
TYPED = {each: FORM[each] for each in ("host", "sender_name", "account")}
CONNECT = {"step": {"name": "connect", "seconds": 0.0123, "told": "192.0.2.1 port 587"}}
EHLO = {"step": {"name": "ehlo", "seconds": 1.5, "told": "PIPELINING"}}
NOTHING = {"step": "", "problem": "", "reply": "", "field": "", "advice": "", "seconds": 3.21, "recipients": []}
TAKEN = {"recipient": "a@example.com", "verdict": "delivered", "step": "content", "reply": "250 ok"}
REFUSED = {"recipient": "b@example.com", "verdict": "refused", "step": "recipient", "reply": "550 no such user"}
LATER = {"recipient": "c@example.com", "verdict": "try later", "step": "content", "reply": "452 full"}
DELIVERED = {"result": {**NOTHING, "verdict": "delivered", "recipients": [TAKEN]}}
# Markup wherever the hook says a text: ten times it is shown.
ALL_EVIL = [
    {"step": {"name": EVIL, "seconds": 0, "told": EVIL}},
    {
        "result": {
            **dict.fromkeys(("verdict", "step", "problem", "field", "advice"), EVIL),
            "reply": f"550 {EVIL}",
            "recipients": [
                {"recipient": EVIL, "verdict": "refused", "step": "content", "reply": EVIL},
                {"recipient": EVIL, "verdict": EVIL, "step": "", "reply": ""},
            ],
        }
    },
]
WRONG_LOGIN = {
    "result": {
        **NOTHING,
        "verdict": "try later",
        "step": "login",
        "problem": "login refused",
        "reply": "535 5.7.8 no",
        "field": "password",
        "advice": "Type the password that the mail server knows.",
    }
}


class Watch:
    """The pages' clock: `now` in seconds."""

    now = 1000.0


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@pytest.fixture(scope="module")
def device(tmp_path_factory, watch) -> Pages:
    folder = tmp_path_factory.mktemp("trial")
    return signed_in(Folders(folder / "data", folder / "run", folder / "etc"), lambda: watch.now)


@pytest.fixture
def hook(hook, watch) -> FakeHook:
    """A hook that takes the mail, some time after the test before."""
    watch.now += 90
    hook.answers["test"] = [CONNECT, EHLO, DELIVERED]
    return hook


@pytest.fixture
def tab(device, hook) -> Pages:
    """The tab of a device without settings."""
    device.folders.settings.unlink(missing_ok=True)
    assert device.get("/smtp/test").headers["location"] == "/smtp"  # still signed in, and not idle
    return device


@pytest.fixture
def saved(tab) -> Pages:
    """The tab with `FORM` saved."""
    assert tab.post("/smtp", FORM).status == 303
    return tab


def result(page: Page) -> document.Element:
    """What the page tells of the test."""
    assert document.problems(page.text) == []
    return document.read(page.text).by_id("test")


def lines(page: Page) -> list[dict[str, Any]]:
    return [json.loads(line) for line in page.text.splitlines()]


def stream(pages: Pages, form: Mapping[str, str] = FORM) -> Page:
    """The test as the script asks for it."""
    return pages.post("/smtp/test", form, HTTP_ACCEPT="application/x-ndjson")


# The button


def test_update_is_the_first_button_of_the_form_and_the_test_stands_beside_it(tab):
    (shape,) = document.read(tab.get("/smtp").text).all("form", action="/smtp")
    update, test = (each for each in shape.all("button") if each.attributes.get("type") != "button")
    assert (update.text, update.attributes) == ("Update", {})
    assert (test.text, test.attributes["formaction"]) == ("Send test email", "/smtp/test")


def test_the_place_of_the_result_is_there_before_it_and_empty(tab):
    place = document.read(tab.get("/smtp").text).by_id("test")
    assert (place.attributes["aria-live"], place.text) == ("polite", "")


def test_get_leads_back_to_the_tab(tab):
    answer = tab.get("/smtp/test")
    assert (answer.status, answer.headers["location"]) == (303, "/smtp")


def test_a_session_is_needed(tab, hook):
    stranger = dataclasses.replace(tab, cookie="")
    assert (stranger.get("/smtp/test").headers["location"], stranger.post("/smtp/test", FORM).status) == ("/login", 403)
    assert hook.heard == []


ROOMS = ["/", "/smtp", "/smtp/test", "/recipients", "/history", "/history.csv", "/others/event-codes", "/logout"]


@pytest.mark.parametrize("path", [*ROOMS, "/others/email-content", "/login", "/setup", "/nowhere"])
def test_who_is_not_logged_in_never_gets_as_far_as_the_hook(tab, hook, path):
    asked: list[Mapping[str, Any]] = []
    hook.answers["state"] = lambda request: (asked.append(request), [{"state": {}}])[1]
    stranger = dataclasses.replace(tab, cookie=tab.cookie.partition("=")[0] + "=" + "0" * 43)
    answers = [stranger.get(path), stranger.post(path, FORM), stranger.post(path, {**FORM, "host": "127.0.0.1"})]
    assert (asked, hook.heard) == ([], [])
    assert answers[1].text == answers[2].text


@pytest.mark.parametrize("origin", ["http://evil.example", "null", ""])
def test_a_form_of_another_origin_tests_nothing(tab, hook, origin):
    assert (tab.post("/smtp/test", FORM, HTTP_ORIGIN=origin).status, hook.heard) == (403, [])


# What is asked


def test_the_hook_gets_what_is_typed_and_the_password_sealed_for_it(tab, hook):
    tab.post("/smtp/test", {**FORM, "port": " 02525 ", "sender_name": "저장 장치"})
    (asked,) = hook.heard
    settings = asked["settings"]
    sealed = settings.pop("sealed")
    assert asked == {"do": "test", "settings": settings}
    no_oauth = dict.fromkeys(oauth_rules.NAMES, "")
    assert settings == {**TYPED, "port": 2525, "sender_name": "저장 장치", "security": "auto", "sign_in": "manual", "from_address": "", **no_oauth}  # fmt: skip
    private = keys.load_private(tab.folders.private_key).private
    assert seal.unseal(sealed, private, ("127.0.0.1", "2525", "alarm@mail.example.com", "auto")) == PASSWORD


def test_a_blank_password_is_the_stored_one_as_it_was_sealed(saved, hook):
    saved.post("/smtp/test", {**FORM, "password": "", "sender_name": "Other"})
    stored = re.search(r'sealed = "([^"]*)"', saved.folders.settings.read_text())
    assert stored and hook.heard[-1]["settings"]["sealed"] == stored[1]


@pytest.mark.parametrize(
    "change", [{"host": "evil.example"}, {"port": "26"}, {"account": "x@y.z"}, {"security": "tls"}]
)
def test_a_blank_password_does_not_go_to_another_server(saved, hook, change):
    hook.heard.clear()
    answer = saved.post("/smtp/test", {**FORM, "password": "", **change})
    assert (answer.status, hook.heard) == (422, [])
    assert LENGTH in answer.text and "Type it again: the server" in answer.text


def test_a_relay_without_login_is_tested_without_a_password(tab, hook):
    tab.post("/smtp/test", {**FORM, "sign_in": "none"})
    assert hook.heard[-1]["settings"]["sealed"] is None


def test_nothing_is_written_and_nobody_told_of_new_settings(saved, hook):
    before, inode = saved.folders.settings.read_bytes(), saved.folders.settings.stat().st_ino
    hook.heard.clear()
    saved.post("/smtp/test", {**FORM, "host": "mail.example.com"})
    assert (saved.folders.settings.read_bytes(), saved.folders.settings.stat().st_ino) == (before, inode)
    assert [each["do"] for each in hook.heard] == ["test"]


def test_settings_that_changed_meanwhile_are_no_reason_not_to_test(saved, hook):
    answer = saved.post("/smtp/test", {**FORM, "revision": "old"})
    assert (answer.status, answer.revision) == (200, "old")
    assert hook.heard[-1]["do"] == "test"


def test_the_settings_can_be_tested_before_they_are_saved_and_then_saved(tab):
    answer = tab.post("/smtp/test", FORM)
    assert tab.post("/smtp", {**FORM, "revision": answer.revision}).status == 303


# What is told at the end


def test_an_accepted_mail_is_told_honestly(tab):
    answer = tab.post("/smtp/test", FORM)
    assert answer.status == 200
    told = result(answer)
    assert told.by_id("test-result").text == "The mail server accepted the test mail for a@example.com."
    assert [each.text for each in told.all("li")] == ["✓ Connect 0.01 s 192.0.2.1 port 587", "✓ EHLO 1.50 s PIPELINING"]
    assert [each.text for each in told.all("p")] == ["If it does not arrive, look in the spam folder.", AGAIN]


def test_the_step_that_failed_is_named_with_the_answer_and_a_link_to_the_field(tab, hook):
    hook.answers["test"] = [CONNECT, WRONG_LOGIN]
    told = result(tab.post("/smtp/test", FORM))
    assert told.by_id("test-result").text == "The test mail was not sent."
    assert [each.text for each in told.all("li")] == ["✓ Connect 0.01 s 192.0.2.1 port 587", "✗ Login: login refused"]
    assert "The server answered: “535 5.7.8 no”" in [each.text for each in told.all("p")]
    (link,) = told.all("a")
    assert (link.text, link.attributes) == ("Type the password that the mail server knows.", {"href": "#password"})
    assert "spam" not in told.text


def test_each_recipient_is_told_what_became_of_the_mail(tab, hook):
    hook.answers["test"] = [{"result": {**NOTHING, "verdict": "refused", "recipients": [TAKEN, REFUSED, LATER]}}]
    told = result(tab.post("/smtp/test", FORM))
    assert told.by_id("test-result").text == "The test mail was not sent to everybody."
    assert [each.text for each in told.all("ul")[0].all("li")] == [
        "a@example.com: accepted: “250 ok”",
        "b@example.com: refused at Recipient: “550 no such user”",
        "c@example.com: not accepted now at Content: “452 full”",
    ]


ALL_LATER = [{**LATER, "recipient": each, "step": "login", "reply": "535 no"} for each in ("a@b.c", "d@e.f")]


def test_what_befell_all_of_them_is_told_once(tab, hook):
    hook.answers["test"] = [{"result": {**WRONG_LOGIN["result"], "recipients": ALL_LATER}}]
    told = result(tab.post("/smtp/test", FORM))
    assert (told.all("ul"), told.text.count("535")) == ([], 1)


@pytest.mark.parametrize(
    ("step", "problem", "reply", "failed", "answered"),
    [
        ("connect", "refused", "nothing listens at this port", "✗ Connect: refused (nothing listens at this port)", ""),
        ("tls", "no TLS spoken", "WRONG_VERSION_NUMBER", "✗ TLS: no TLS spoken (WRONG_VERSION_NUMBER)", ""),
        ("login", "silent", "silent", "✗ Login: silent", ""),
        ("tls", "no STARTTLS", "", "✗ TLS: no STARTTLS", ""),
        ("content", "answer", "554 5.7.1 spam\nreally", "✗ Content", "The server answered: “554 5.7.1 spam really”"),
        ("sender", "answer", "550", "✗ Sender", "The server answered: “550”"),
        ("ehlo", "answer", "5500 x", "✗ EHLO: (5500 x)", ""),
        ("login", "login refused", "535 no", "✗ Login: login refused", "The server answered: “535 no”"),
        ("a step of tomorrow", "", "", "✗ a step of tomorrow", ""),
    ],
)
def test_only_what_the_server_said_is_called_its_answer(tab, hook, step, problem, reply, failed, answered):
    said = {**NOTHING, "verdict": "try later", "step": step, "problem": problem, "reply": reply}
    hook.answers["test"] = [{"result": said}]
    told = result(tab.post("/smtp/test", FORM))
    assert [each.text for each in told.all("li")] == [failed]
    assert [each.text for each in told.all("p")[:-1]] == [answered] * bool(answered)


def test_the_result_has_the_focus(tab):
    assert {"tabindex", "autofocus"} <= set(result(tab.post("/smtp/test", FORM)).by_id("test-result").attributes)


@pytest.mark.parametrize("field", ["security", "from_address"])
def test_advanced_opens_when_the_advice_leads_into_it(tab, hook, field):
    hook.answers["test"] = [{"result": {**WRONG_LOGIN["result"], "field": field}}]
    (details,) = document.read(tab.post("/smtp/test", FORM).text).all("details")
    assert "open" in details.attributes


def test_an_advice_for_no_field_of_the_tab_is_no_link(tab, hook):
    hook.answers["test"] = [{"result": {**WRONG_LOGIN["result"], "field": "//evil.example"}}]
    told = result(tab.post("/smtp/test", FORM))
    assert told.all("a") == [] and "Type the password that the mail server knows." in told.text


def test_what_was_typed_stays_but_the_password(tab):
    answer = tab.post("/smtp/test", {**FORM, "host": "mail.example.com", "port": "587"})
    inputs = {each.attributes["name"]: each.attributes["value"] for each in document.read(answer.text).all("input")}
    assert (inputs["host"], inputs["port"], inputs["password"]) == ("mail.example.com", "587", "")
    assert PASSWORD not in answer.text


def test_a_password_that_was_not_typed_need_not_be_typed_again(saved):
    told = result(saved.post("/smtp/test", {**FORM, "password": ""}))
    assert told.all("p")[-1].text == "The test saves nothing."


def test_broken_fields_are_told_as_at_update_and_nothing_is_sent(tab, hook):
    answer = tab.post("/smtp/test", {**FORM, "port": "0", "password": "short"})
    assert (answer.status, hook.heard) == (422, [])
    (summary,) = document.read(answer.text).by_class("problem")
    assert summary.text == f"Nothing was sent. Please correct: Please enter an SMTP port between 1 and 49151. {LENGTH}"


def test_settings_that_cannot_be_read_are_told(tab, hook):
    folder = tab.folders.settings.parent
    away = folder.rename(folder.with_name("away"))
    folder.touch()
    try:
        answer = tab.post("/smtp/test", FORM)
    finally:
        folder.unlink()
        away.rename(folder)
    assert (answer.status, hook.heard) == (503, [])
    assert "The test could not be made. The file smtp.toml could not be read" in answer.text


def test_without_the_hooks_key_nothing_typed_can_be_tested(tab, hook):
    away = tab.folders.public_key.rename(tab.folders.public_key.with_name("away"))
    try:
        answer = tab.post("/smtp/test", FORM)
    finally:
        away.rename(tab.folders.public_key)
    assert (answer.status, hook.heard) == (503, [])
    assert "The test could not be made. The mail hook has made no key yet." in answer.text


PROBLEMS = [
    ([{"error": "busy", "reason": "another test runs"}], BUSY),
    ([], NO_RESULT),
    ([{"error": "denied", "reason": "not for you"}], "The test could not be made. Not for you."),
    ([{"error": "bad-request", "reason": f"host {EVIL}"}], f"The test could not be made. Host {EVIL}."),
]


@pytest.mark.parametrize(("said", "sentence"), PROBLEMS)
def test_a_hook_that_does_not_test_is_told_in_a_sentence(tab, hook, said, sentence):
    hook.answers["test"] = said
    answer = tab.post("/smtp/test", FORM)
    assert (answer.status, answer.headers["retry-after"]) == (503, "60")
    root = document.read(answer.text)
    assert [each.text for each in root.by_class("problem")] == [sentence]
    assert root.by_id("test").text == ""


def test_a_hook_that_goes_away_in_the_middle_leaves_the_steps(tab, hook):
    hook.answers["test"] = [CONNECT]
    answer = tab.post("/smtp/test", FORM)
    assert (answer.status, NO_RESULT in answer.text) == (503, True)
    told = result(answer)
    assert told.by_id("test-result").text == "The test was broken off."
    assert [each.text for each in told.all("li")] == ["✓ Connect 0.01 s 192.0.2.1 port 587"]


def test_markup_in_what_the_hook_says_stays_text(tab, hook):
    hook.answers["test"] = ALL_EVIL
    answer = tab.post("/smtp/test", FORM)
    assert answer.text.count("<script") == 1
    assert result(answer).text.count(EVIL) == 10


# What is told as it happens


def test_the_script_gets_the_same_as_lines(tab):
    answer = stream(tab)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
    assert [list(line) for line in lines(answer)] == [["step"], ["step"], ["result"]]
    assert lines(answer)[0]["step"] == {"label": "Connect", "time": "0.01 s", "told": "192.0.2.1 port 587"}
    assert lines(answer)[2]["result"]["sentence"] == "The mail server accepted the test mail for a@example.com."


@pytest.mark.parametrize(("said", "sentence"), PROBLEMS)
def test_the_script_gets_a_problem_as_a_line(tab, hook, said, sentence):
    hook.answers["test"] = said
    answer = stream(tab)
    assert (answer.status, lines(answer)) == (503, [{"problem": sentence}])


def test_a_problem_in_the_middle_is_the_last_line(tab, hook):
    hook.answers["test"] = [CONNECT]
    assert lines(stream(tab))[1:] == [{"problem": NO_RESULT}]


def test_the_script_gets_broken_fields_as_a_page(tab):
    answer = stream(tab, {**FORM, "port": "0"})
    assert (answer.status, answer.headers["content-type"]) == (422, "text/html; charset=UTF-8")


# Not too many, and one at a time


@pytest.mark.parametrize(
    ("word", "seconds", "sentence"), [("too-many", 30, TOO_MANY), ("too-many-logins", 1130, TOO_MANY_LOGINS)]
)
def test_a_limit_of_the_hook_is_passed_on_with_the_time_to_come_back(tab, hook, word, seconds, sentence):
    hook.answers["test"] = [{"error": word, "reason": "wait", "seconds": seconds}]
    page, answer = tab.post("/smtp/test", FORM), stream(tab)
    assert (page.status, page.headers["retry-after"], sentence in page.text) == (429, str(seconds), True)
    assert (answer.status, answer.headers["retry-after"]) == (429, str(seconds))
    assert lines(answer) == [{"problem": sentence}]


def test_broken_fields_and_strangers_reach_no_hook(tab, hook):
    stranger = dataclasses.replace(tab, cookie="")
    stranger.post("/smtp/test", FORM)
    tab.post("/smtp/test", {**FORM, "port": "0"})
    assert hook.heard == []


def test_a_second_test_is_told_at_once_that_the_first_is_running(tab, hook):
    begun, going_on = threading.Event(), threading.Event()

    def slowly(asked: Mapping[str, Any]) -> Iterator[Any]:
        begun.set()
        yield from (going_on, CONNECT, DELIVERED)

    hook.answers["test"] = slowly
    first: list[Page] = []
    thread = threading.Thread(target=lambda: first.append(tab.post("/smtp/test", FORM)))
    thread.start()
    assert begun.wait(60)
    second = tab.post("/smtp/test", FORM)
    going_on.set()
    thread.join(60)
    assert (second.status, BUSY in second.text) == (503, True)
    assert (first[0].status, len(hook.heard)) == (200, 1)


@pytest.mark.parametrize("said", [[CONNECT, DELIVERED], [], [CONNECT], [{"error": "busy", "reason": ""}]])
def test_after_a_test_comes_the_next_however_it_ended(tab, hook, said):
    hook.answers["test"] = said
    stream(tab)
    tab.post("/smtp/test", FORM)
    hook.answers["test"] = [DELIVERED]
    assert tab.post("/smtp/test", FORM).status == 200


def test_a_browser_that_goes_away_does_not_leave_the_test_locked(tab, hook):
    environ = {"HTTP_COOKIE": tab.cookie, "HTTP_ACCEPT": "application/x-ndjson"}
    left = left_after_first_line(tab, environ)
    assert json.loads(left)["step"]["label"] == "Connect"
    assert tab.post("/smtp/test", FORM).status == 200


def left_after_first_line(tab: Pages, environ: Mapping[str, str]) -> bytes:
    """The first line of a test whose answer is then closed, as waitress does when the browser has gone."""
    first: list[bytes] = []

    def leaving(given: dict[str, Any], start: Any) -> list[bytes]:
        answer = tab.app(given, start)
        first.append(next(iter(answer)))
        answer.close()  # type: ignore[attr-defined]
        return []

    dataclasses.replace(tab, app=leaving).post("/smtp/test", FORM, **environ)
    return first[0]


# On the wire


def test_a_step_can_be_read_before_the_next_is_made(tmp_path):
    with Product(tmp_path) as product:
        make_keys(product.folders)
        with FakeHook(product.folders.socket) as hook:
            browser = product.start_web().logged_in()
            next_step = threading.Event()
            hook.answers["test"] = [CONNECT, next_step, EHLO, DELIVERED]
            connection = asking(browser)
            try:
                answer = connection.getresponse()
                assert json.loads(answer.readline())["step"]["label"] == "Connect"
                next_step.set()
                assert [list(json.loads(line)) for line in answer] == [["step"], ["result"]]
            finally:
                next_step.set()
                connection.close()


def asking(browser: Browser) -> http.client.HTTPConnection:
    """A connection on which the script's question was just sent."""
    connection = http.client.HTTPConnection("127.0.0.1", browser.port, timeout=60)
    headers = {"Cookie": browser.cookie, "Origin": f"http://127.0.0.1:{browser.port}", "Accept": "application/x-ndjson"}
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    connection.request("POST", "/smtp/test", urlencode(FORM), headers)
    return connection
