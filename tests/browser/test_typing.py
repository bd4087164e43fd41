"""What the script adds while one types: the rules ticked off, the password shown, the question before leaving."""

from __future__ import annotations

import random

import pytest
from playwright.sync_api import expect

from device_ui.settings.rules import PASSWORD_RULES, SEQUENCES
from tests.browser.conftest import Visitor
from tests.helpers.oracle import password_inputs
from tests.helpers.product import ADMIN_PASSWORD, PASSWORD


def rules(visitor: Visitor) -> dict[str, str]:
    """Each rule of the list, with ``met``, ``unmet`` or nothing."""
    return {each.inner_text(): each.get_attribute("class") or "" for each in visitor.page.locator(".rules li").all()}


# The list of the rules


def test_browser_and_device_agree_on_ten_thousand_passwords(tab, stored):
    texts = [
        text for text in password_inputs(random.Random(6), 10_400) if text.encode("utf-8", "replace").decode() == text
    ]
    texts = texts[:10_000]
    assert (len(texts), any(not text.isascii() for text in texts)) == (10_000, True)
    said = tab(stored).page.evaluate("texts => texts.map(holding)", texts)
    decided = [[rule.holds(text) for rule in PASSWORD_RULES] for text in texts]
    assert [text for text, one, other in zip(texts, said, decided, strict=True) if one != other] == []
    assert {True, False} == {all(each) for each in decided}


def test_every_row_reaches_the_browser_whole():
    assert [row for row in SEQUENCES if " " in row] == []


def test_rules_are_ticked_off_while_one_types(tab, stored):
    visitor = tab(stored)
    assert set(rules(visitor).values()) == {""}
    visitor.type_in("SMTP Account Password", "Kp7!vvabc")
    assert rules(visitor) == {
        "10 to 20 characters": "",
        "an upper case letter": "met",
        "a lower case letter": "met",
        "a digit": "met",
        "one of $ ! @ % * # ? &": "met",
        "no character twice in a row": "unmet",
        "no three neighbours, such as qwe, 321 or abc": "unmet",
        "no invisible character": "met",
    }
    visitor.picture("tab-typing")
    visitor.type_in("SMTP Account Password", PASSWORD)
    assert set(rules(visitor).values()) == {"met"}
    expect(visitor.page.get_by_text("Rules met: 8 of 8.")).to_be_attached()


def test_rules_of_the_manual_are_not_asked_of_a_provider(tab, stored):
    visitor = tab(stored)
    visitor.page.get_by_text("Advanced", exact=True).click()
    visitor.page.get_by_label("Sign-in", exact=True).select_option("provider")
    expect(visitor.page.locator(".rules")).to_be_hidden()


def test_a_password_is_asked_for_as_the_sign_in_is_chosen(tab, stored):
    visitor = tab(stored)
    visitor.page.get_by_text("Advanced", exact=True).click()
    visitor.type_in("SMTP Account Password", "K")
    said = "The password of this login. A password is stored. Leave this empty to keep it."
    for choice, asks in (("none", False), ("provider", True), ("oauth", False), ("manual", True)):
        visitor.page.get_by_label("Sign-in", exact=True).select_option(choice)
        expect(visitor.page.locator("#password")).to_be_enabled(enabled=asks)
        other = "Not needed with this sign-in. Update removes the stored password."
        expect(visitor.page.locator("#password-help")).to_have_text(said if asks else other)
    assert visitor.page.locator("#password").input_value() == "K"


def test_a_client_secret_is_asked_for_as_its_grant_is_chosen(tab, stored):
    visitor = tab(stored)
    visitor.page.get_by_text("Advanced", exact=True).click()
    visitor.page.get_by_label("Sign-in", exact=True).select_option("oauth")
    visitor.update()  # which shows the fields of OAuth 2.0
    expect(visitor.page.locator("#password")).to_be_disabled()
    for grant, asks in (("secret", True), ("device", False), ("secret", True)):
        visitor.page.get_by_label("OAuth 2.0: grant").select_option(grant)
        expect(visitor.page.locator("#password")).to_be_enabled(enabled=asks)
    visitor.page.get_by_label("Sign-in", exact=True).select_option("none")
    expect(visitor.page.locator("#password")).to_be_disabled()


def test_rules_open_while_one_types_and_are_closed_while_a_stored_password_is_kept(tab, stored):
    visitor = tab(stored)
    expect(visitor.page.locator(".rules")).to_be_hidden()
    visitor.type_in("SMTP Account Password", "K")
    expect(visitor.page.locator(".rules")).to_be_visible()
    visitor.page.get_by_label("SMTP Account Password", exact=True).fill("")
    expect(visitor.page.locator(".rules")).to_be_hidden()


def test_rules_stand_there_while_no_password_is_stored(tab, empty):
    expect(tab(empty).page.locator(".rules")).to_be_visible()


def test_rules_stand_there_without_a_script(tab, stored):
    expect(tab(stored, java_script_enabled=False).page.locator(".rules")).to_be_visible()


# Errors


def wrong(visitor: Visitor) -> list[str]:
    """The fields that the page calls broken."""
    return [each.get_attribute("id") or "" for each in visitor.page.locator("[aria-invalid]").all()]


def test_an_error_goes_when_its_field_is_edited_and_its_line_above_the_form_with_it(tab, stored):
    visitor = tab(stored)
    visitor.fill({"SMTP Port": "0", "Sender Name": ""})
    visitor.update()
    # The stored password is for the stored port.
    assert wrong(visitor) == ["port", "sender_name", "password"]
    visitor.type_in("Sender Name", "Storage")
    assert wrong(visitor) == ["port", "password"]
    expect(visitor.page.get_by_text("Please enter a sender name.")).to_have_count(0)
    assert visitor.page.locator("#sender_name").get_attribute("aria-describedby") == "sender_name-help"
    assert visitor.page.locator(".problem li").count() == 2
    visitor.type_in("SMTP Port", "587")
    expect(visitor.page.locator(".problem li")).to_have_text(["The SMTP account password does not meet the rules."])
    visitor.type_in("SMTP Account Password", PASSWORD)
    expect(visitor.page.locator(".problem")).to_have_count(0)
    assert wrong(visitor) == []


def test_ticks_and_errors_do_not_contradict_each_other(tab, stored):
    visitor = tab(stored)
    visitor.fill({"SMTP Account Password": "short"})
    visitor.update()
    expect(visitor.page.locator("#password-error")).to_be_visible()
    assert set(rules(visitor).values()) == {""}
    visitor.type_in("SMTP Account Password", PASSWORD)
    assert set(rules(visitor).values()) == {"met"}
    expect(visitor.page.locator("#password-error")).to_have_count(0)


def test_errors_of_the_former_sign_in_go_with_it(tab, stored):
    visitor = tab(stored)
    visitor.fill({"SMTP Account Address": "a.b@example.com", "SMTP Account Password": "short"})
    visitor.update()
    assert wrong(visitor) == ["account", "password"]
    # "Advanced" is open: the hint of the account names a choice in it.
    visitor.page.get_by_label("Sign-in", exact=True).select_option("provider")
    assert wrong(visitor) == []


# Show and hide


def test_password_is_shown_and_hidden_by_its_button(tab, stored):
    visitor = tab(stored)
    visitor.type_in("SMTP Account Password", PASSWORD)
    field = visitor.page.get_by_label("SMTP Account Password", exact=True)
    visitor.page.get_by_role("button", name="Show password").press("Enter")
    expect(field).to_have_attribute("type", "text")
    visitor.page.get_by_role("button", name="Hide password").press("Enter")
    expect(field).to_have_attribute("type", "password")
    assert field.input_value() == PASSWORD


def test_without_a_script_there_is_no_button_that_does_nothing(tab, stored):
    assert tab(stored, java_script_enabled=False).page.locator(".reveal").is_hidden()


# Leaving


def asked(visitor: Visitor) -> list[str]:
    """The questions that the browser asks from now on; each is answered with staying."""
    kinds: list[str] = []
    visitor.listen(visitor.page, "dialog", lambda dialog: (kinds.append(dialog.type), dialog.dismiss()))
    return kinds


def test_unsaved_changes_are_asked_about(tab, stored):
    visitor = tab(stored)
    kinds = asked(visitor)
    visitor.type_in("Sender Name", "Another name")
    expect(visitor.page.get_by_text("Not saved yet.")).to_be_visible()
    visitor.page.get_by_role("link", name="History").click()
    assert (kinds, visitor.path) == (["beforeunload"], "/smtp")


def test_nothing_is_asked_when_nothing_was_changed(tab, stored):
    visitor = tab(stored)
    kinds = asked(visitor)
    visitor.type_in("Sender Name", "Another name")
    visitor.type_in("Sender Name", "Storage alarms")
    expect(visitor.page.get_by_text("Not saved yet.")).to_be_hidden()
    visitor.page.get_by_role("link", name="Recipients").click()
    visitor.page.wait_for_url("**/recipients")
    assert kinds == []


def test_nothing_is_asked_at_update_and_after_it(tab, stored):
    visitor = tab(stored)
    kinds = asked(visitor)
    visitor.type_in("Sender Name", "Another name")
    visitor.update()
    visitor.page.get_by_role("link", name="Recipients").click()
    visitor.page.wait_for_url("**/recipients")
    assert kinds == []


def test_what_was_refused_is_still_unsaved(tab, stored):
    visitor = tab(stored)
    kinds = asked(visitor)
    visitor.type_in("SMTP Port", "0")
    visitor.update()
    visitor.page.get_by_role("link", name="Recipients").click()
    assert (kinds, visitor.path) == (["beforeunload"], "/smtp")


def test_a_choice_of_a_recipient_that_is_not_saved_is_asked_about(tab, stored, running):
    page = running.client.get("/recipients")
    running.client.post("/recipients", do="add", address="a@example.com", lowest="info", revision=page.revision)
    visitor = tab(stored)
    visitor.open("/recipients")
    kinds = asked(visitor)
    visitor.page.get_by_label("a@example.com", exact=True).select_option("fault")
    visitor.page.get_by_role("link", name="History").click()
    assert (kinds, visitor.path) == (["beforeunload"], "/recipients")
    stored.folders.recipients.unlink()


# The session's end


def test_end_of_the_session_is_told_a_minute_before(tab, stored):
    visitor = tab(stored, own=True)  # with a clock that is not taken away
    visitor.page.clock.install()
    visitor.page.reload()
    visitor.page.clock.fast_forward("08:59")
    expect(visitor.page.locator(".toast")).to_be_hidden()
    visitor.page.clock.fast_forward("00:02")
    expect(visitor.page.get_by_role("alert")).to_be_visible()
    visitor.picture("tab-idle")
    with visitor.page.expect_request(lambda request: request.method == "HEAD"):
        visitor.page.get_by_role("button", name="Stay signed in").click()
    expect(visitor.page.locator(".toast")).to_be_hidden()


javascript = pytest.mark.parametrize("javascript", [True, False], ids=["javascript", "no javascript"])


@javascript
def test_form_that_comes_too_late_is_there_again_after_the_login(tab, stored, javascript):
    visitor = tab(stored, java_script_enabled=javascript)
    visitor.fill({"Sender Name": "Lager, Halle 2", "SMTP Account Password": PASSWORD})
    visitor.context.clear_cookies()
    visitor.update()
    visitor.page.get_by_label("Administrator’s password").fill(ADMIN_PASSWORD)
    visitor.page.get_by_role("button", name="Sign in").click()
    visitor.page.wait_for_url("**/smtp")
    assert visitor.page.get_by_label("Sender Name").input_value() == "Lager, Halle 2"
    assert visitor.page.get_by_label("SMTP Account Password", exact=True).input_value() == ""
    visitor.update()
    expect(visitor.page.get_by_role("status")).to_have_text(["Saved."])


@javascript
def test_removal_is_undone_by_a_button(tab, stored, javascript):
    visitor = tab(stored, java_script_enabled=javascript)
    visitor.open("/recipients")
    visitor.page.get_by_label("E-mail address").fill("a@example.com")
    visitor.page.get_by_role("button", name="Add", exact=True).click()
    visitor.page.get_by_role("button", name="Remove a@example.com").click()
    visitor.page.get_by_role("button", name="Undo").click()
    expect(visitor.page.get_by_role("status")).to_have_text("a@example.com is on the list again.")
    expect(visitor.page.get_by_role("button", name="Remove a@example.com")).to_be_visible()
    stored.folders.recipients.unlink()
