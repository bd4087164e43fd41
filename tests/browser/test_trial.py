"""The test mail in a real browser: step by step with JavaScript, as one page without; the hook is a fake one."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Faked, Letters, Visitor, labelled
from tests.browser.test_main_job import focused, look_at, tab_to
from tests.helpers.fake_hook import IDLE, WELL, FakeHook, make_keys
from tests.helpers.product import PASSWORD, settings_form
from tests.web.pages.test_test_mail import (
    ALL_EVIL,
    CONNECT,
    DELIVERED,
    EHLO,
    EVIL,
    NOTHING,
    REFUSED,
    TAKEN,
    WRONG_LOGIN,
)

SENT = "The mail server accepted the test mail for a@example.com."
NOT_SENT = "The test mail was not sent."
PROGRESS = "bar => [bar.value, bar.max]"
RUNNING = "The test is running. It takes a minute at most."
STEPS = ["✓ Connect 0.01 s 192.0.2.1 port 587", "✓ EHLO 1.50 s PIPELINING"]
LONG = "x" * 300
REFUSED_FOR_ONE = {
    "result": {**WRONG_LOGIN["result"], "reply": f"535 {LONG}", "recipients": [TAKEN, {**REFUSED, "reply": LONG}]}
}


@pytest.fixture
def hook(faked: Faked) -> FakeHook:
    """A hook that takes the mail."""
    faked.hook.reset().answers["test"] = [CONNECT, EHLO, DELIVERED]
    return faked.hook


@pytest.fixture
def typed(enter: Callable[..., Visitor], faked: Faked, hook: FakeHook) -> Callable[..., Visitor]:
    """Opens a browser at the tab of a device without settings, with five values typed."""
    faked.product.folders.settings.unlink(missing_ok=True)

    def begin(**options: object) -> Visitor:
        visitor = enter("/smtp", **options)
        visitor.fill(labelled(settings_form(2525)))
        return visitor

    return begin


def press(visitor: Visitor) -> None:
    visitor.page.get_by_role("button", name="Send test email").click()


def told(visitor: Visitor) -> list[str]:
    """The steps that the page shows."""
    return [" ".join(each.split()) for each in visitor.page.locator("#test ol li").all_inner_texts()]


def head(visitor: Visitor) -> str:
    return visitor.page.locator("#test-result").inner_text()


javascript = pytest.mark.parametrize("javascript", [True, False], ids=["javascript", "no javascript"])


@javascript
def test_accepted_mail_is_told_with_its_steps(typed, javascript):
    visitor = typed(java_script_enabled=javascript)
    press(visitor)
    expect(visitor.page.locator("#test-result")).to_have_text(SENT)
    expect(visitor.page.locator(".toast")).to_be_hidden()  # the session has just been used
    assert told(visitor) == STEPS
    expect(visitor.page.get_by_text("If it does not arrive, look in the spam folder.")).to_be_visible()
    visitor.picture(f"trial-sent-{'with' if javascript else 'without'}-javascript")


@javascript
def test_state_and_delivery_beside_the_result_are_those_after_the_test(typed, hook, javascript):
    visitor = typed(java_script_enabled=javascript)
    state, banner = visitor.page.locator(".state"), visitor.page.locator(".banner")
    waiting = visitor.page.locator("dd", has_text="3 since")
    for problem, shown, banners in (("login refused", "! Mail: stopped", 1), ("", "✓ Mail: ok", 0)):
        hook.answers["state"] = [{"state": {**WELL["state"], "problem": problem}}]
        hook.answers["delivery"] = [{"delivery": {**IDLE["delivery"], "waiting": 3 * banners}}]
        visitor.fill({"SMTP Account Password": PASSWORD})
        press(visitor)
        expect(state).to_have_text(shown)
        expect(banner).to_have_count(banners)
        expect(waiting).to_have_count(banners)
        expect(visitor.page.locator("#test-result")).to_have_text(SENT)


@javascript
def test_refused_login_is_told_and_its_advice_leads_into_the_field(typed, hook, javascript):
    hook.answers["test"] = [CONNECT, WRONG_LOGIN]
    visitor = typed(java_script_enabled=javascript)
    press(visitor)
    expect(visitor.page.locator("#test-result")).to_have_text(NOT_SENT)
    assert told(visitor) == [STEPS[0], "✗ Login: login refused"]
    visitor.picture(f"trial-refused-{'with' if javascript else 'without'}-javascript")
    visitor.page.get_by_role("link", name="Type the password that the mail server knows.").press("Enter")
    expect(visitor.page.get_by_label("SMTP Account Password")).to_be_focused()


@javascript
def test_result_is_the_same_for_everybody(typed, hook, javascript):
    hook.answers["test"] = [CONNECT, {"result": {**NOTHING, "verdict": "refused", "recipients": [TAKEN, REFUSED]}}]
    visitor = typed(java_script_enabled=javascript)
    press(visitor)
    expect(visitor.page.locator("#test li").last).to_have_text(
        "b@example.com: refused at Recipient: “550 no such user”"
    )
    again = "" if javascript else " Type the password again before you press Update."
    expect(visitor.page.locator("#test .help")).to_have_text(f"The test saves nothing.{again}")


@javascript
def test_markup_of_the_mail_server_stays_text(typed, hook, javascript):
    hook.answers["test"] = ALL_EVIL
    visitor = typed(java_script_enabled=javascript)
    press(visitor)
    expect(visitor.page.locator("#test-result")).to_have_text(NOT_SENT)
    assert visitor.page.locator("#test").inner_text().count(EVIL) == 10
    assert visitor.page.locator("main script, main img").count() == 0


@javascript
def test_the_advice_opens_what_is_advanced(typed, hook, javascript):
    hook.answers["test"] = [{"result": {**WRONG_LOGIN["result"], "field": "security", "advice": "Choose tls."}}]
    visitor = typed(java_script_enabled=javascript)
    press(visitor)
    visitor.page.get_by_role("link", name="Choose tls.").press("Enter")
    expect(visitor.page.get_by_label("Connection security")).to_be_focused()


@javascript
def test_broken_field_is_told_as_at_update(typed, hook, javascript):
    visitor = typed(java_script_enabled=javascript)
    visitor.fill({"SMTP Port": "0"})
    with visitor.page.expect_navigation():
        press(visitor)
    expect(visitor.page.get_by_role("alert", name="Nothing was sent. Please correct:")).to_be_focused()
    assert hook.heard == []


@javascript
def test_enter_in_a_field_means_update(typed, hook, javascript):
    visitor = typed(java_script_enabled=javascript)
    with visitor.page.expect_navigation():
        visitor.page.get_by_label("SMTP Host").press("Enter")
    expect(visitor.page.get_by_role("status")).to_have_text(["Saved."])
    assert [each["do"] for each in hook.heard] == ["settings-changed"]


@javascript
def test_lost_session_leads_to_the_login(typed, javascript):
    visitor = typed(java_script_enabled=javascript)
    visitor.context.clear_cookies()
    with visitor.page.expect_navigation():
        press(visitor)
    expect(visitor.page.get_by_role("heading", name="Sign in")).to_be_visible()


@javascript
def test_a_hook_that_does_not_test_is_told(typed, hook, javascript):
    visitor = typed(java_script_enabled=javascript)
    for said, sentence in (
        ({"error": "busy", "reason": "x"}, "Another test is running. Please wait a minute."),
        ({"error": "denied", "reason": "not for you"}, "The test could not be made. Not for you."),
    ):
        hook.answers["test"] = [said]
        visitor.fill({"SMTP Account Password": PASSWORD})
        press(visitor)
        expect(visitor.page.locator("main").get_by_text(sentence)).to_be_visible()
    # Chromium itself complains of a 503.
    visitor.complaints = [each for each in visitor.complaints if "status of 503" not in each]


@javascript
def test_test_mail_of_the_real_hook_arrives_and_saves_nothing(tab, empty, letters: Letters, post_office, javascript):
    arrived = len(list(letters.mailbox.folder.glob("*.eml")))
    visitor = tab(empty, java_script_enabled=javascript)
    visitor.fill(letters.values(post_office.port))
    press(visitor)
    sentence = f"The mail server accepted the test mail for {letters.mailbox.account}."
    expect(visitor.page.locator("#test-result")).to_have_text(sentence)
    assert letters.number(arrived + 1)["To"] == letters.mailbox.account
    assert not empty.folders.settings.exists()
    visitor.picture(f"trial-real-{'with' if javascript else 'without'}-javascript")


def test_each_step_and_the_progress_are_shown_as_it_happens(typed, hook):
    second, last = threading.Event(), threading.Event()
    hook.answers["test"] = [CONNECT, second, EHLO, last, DELIVERED]
    visitor = typed()
    press(visitor)
    steps, buttons = visitor.page.locator("#test ol li"), visitor.page.locator("main .actions button")
    bar = visitor.page.get_by_role("progressbar")
    expect(steps).to_have_count(1)
    assert bar.evaluate(PROGRESS) == [1, 11]
    assert (head(visitor), focused(visitor)) == (RUNNING, RUNNING)
    assert [each.is_disabled() for each in buttons.all()] == [True, True]
    visitor.picture("trial-running")
    second.set()
    expect(steps).to_have_count(2)
    assert head(visitor) == RUNNING
    assert bar.evaluate(PROGRESS) == [2, 11]
    last.set()
    expect(visitor.page.locator("#test-result")).to_have_text(SENT)
    expect(bar).to_have_count(0)
    assert [each.is_disabled() for each in buttons.all()] == [False, False]


def test_a_second_test_shows_its_own_steps_alone_and_the_same_values_can_be_saved(typed, hook):
    visitor = typed()
    press(visitor)
    expect(visitor.page.locator("#test-result")).to_have_text(SENT)
    hook.answers["test"] = [CONNECT, WRONG_LOGIN]
    press(visitor)
    expect(visitor.page.locator("#test-result")).to_have_text(NOT_SENT)
    assert told(visitor) == [STEPS[0], "✗ Login: login refused"]
    assert visitor.page.get_by_label("SMTP Account Password").input_value() == PASSWORD
    visitor.update()
    expect(visitor.page.get_by_role("status")).to_have_text(["Saved."])


def test_a_device_that_goes_away_in_the_middle_is_told(visit, product):
    never = threading.Event()
    make_keys(product.folders)
    product.start_web().logged_in()
    with FakeHook(product.folders.socket) as hook:
        hook.answers["test"] = [CONNECT, never]
        visitor = visit(product).log_in()
        visitor.fill(labelled(settings_form(2525)))
        press(visitor)
        expect(visitor.page.locator("#test ol li")).to_have_count(1)
        product.processes["web"].kill()
        expect(visitor.page.locator("#test-result")).to_have_text(
            "The connection to the device was lost, so the test has no result. Please try again."
        )
        never.set()
    assert not visitor.page.get_by_role("button", name="Update").is_disabled()
    visitor.complaints = [each for each in visitor.complaints if "net::ERR_" not in each]


def test_without_the_script_of_the_test_the_next_press_shows_one_page(typed):
    visitor = typed()
    visitor.page.route("**/static/test-*", lambda route: route.abort())
    press(visitor)
    expect(visitor.page.locator("#test")).to_have_text(
        "The connection to the device was lost, so the test has no result. Please try again."
    )
    expect(visitor.page.get_by_label("SMTP Host")).to_have_value("127.0.0.1")
    with visitor.page.expect_navigation():
        press(visitor)
    expect(visitor.page.locator("#test-result")).to_have_text(SENT)
    assert told(visitor) == STEPS
    visitor.complaints = [each for each in visitor.complaints if "net::ERR_" not in each]


def test_the_test_needs_no_mouse(typed):
    visitor = typed()
    tab_to(visitor, "Send test email")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("#test-result")).to_have_text(SENT)
    expect(visitor.page.locator("#test-result")).to_be_focused()


def test_every_result_fits_and_can_be_read(typed, hook):
    hook.answers["test"] = [CONNECT, {"step": {**EHLO["step"], "told": LONG}}, REFUSED_FOR_ONE]
    visitor = typed()
    press(visitor)
    expect(visitor.page.get_by_text("The test saves nothing.")).to_be_visible()
    look_at(visitor, (320, 1280), "trial")


# The copy of a failed test


@pytest.mark.parametrize("way", ["clipboard", "no clipboard"])
def test_failed_result_is_copied_as_text(typed, hook, way):
    """A page without TLS has no clipboard but the one of execCommand."""
    hook.answers["test"] = [CONNECT, WRONG_LOGIN]
    visitor = typed(permissions=["clipboard-read", "clipboard-write"])
    if way == "no clipboard":
        visitor.page.evaluate("void (navigator.clipboard.writeText = () => Promise.reject())")
    press(visitor)
    visitor.page.get_by_role("button", name="Copy this result").press("Enter")
    expect(visitor.page.get_by_role("button", name="Copied")).to_be_focused()
    copied = visitor.page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("SMTP · Storage appliance, 20")
    assert NOT_SENT in copied
    assert "✗ Login: login refused" in copied
    assert PASSWORD not in copied


def test_result_of_a_page_can_be_copied_too(typed, hook):
    hook.answers["test"] = [CONNECT, WRONG_LOGIN]
    visitor = typed()
    visitor.page.evaluate("plain = true")
    with visitor.page.expect_navigation():
        press(visitor)
    expect(visitor.page.get_by_role("button", name="Copy this result")).to_be_visible()
