"""The SMTP tab as an operator uses it: two columns on a wide screen, a provider by a link, waiting mail tried now."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visitor, labelled
from tests.browser.test_access import LATE, WAITING
from tests.browser.test_trial import press
from tests.helpers.product import settings_form
from tests.web.pages.test_test_mail import CONNECT, WRONG_LOGIN

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture
def hook(faked):
    faked.product.folders.settings.unlink(missing_ok=True)
    return faked.hook.reset()


def tops(visitor: Visitor, *selectors: str) -> list[tuple[float, float]]:
    """Left and upper edge of each."""
    boxes = [visitor.page.locator(each).first.bounding_box() for each in selectors]
    return [(box["x"], box["y"]) for box in boxes if box]


def test_result_and_state_stand_beside_the_form_on_a_wide_screen(enter, hook):
    hook.answers["test"] = [CONNECT, WRONG_LOGIN]
    visitor = enter("/smtp", viewport=DESK)
    visitor.fill(labelled(settings_form(2525)))
    press(visitor)
    expect(visitor.page.get_by_text("The test saves nothing.")).to_be_visible()
    form, result, state = tops(visitor, "form.card", "#test .card", "aside > section")
    assert result[0] == state[0] > form[0] and result[1] < state[1]
    # The account is at the end of the form, and the answer that speaks of it is in sight.
    visitor.page.get_by_label("SMTP Account Password", exact=True).scroll_into_view_if_needed()
    expect(visitor.page.get_by_text("The server answered:")).to_be_in_viewport()
    visitor.picture("tab-test-beside")


def test_a_phone_has_one_column_with_form_result_and_state(enter, hook):
    hook.answers["test"] = [CONNECT, WRONG_LOGIN]
    visitor = enter("/smtp", viewport=PHONE)
    visitor.fill(labelled(settings_form(2525)))
    press(visitor)
    expect(visitor.page.get_by_text("The test saves nothing.")).to_be_visible()
    found = tops(visitor, "form.card", "#test .card", "aside > section")
    assert len({x for x, _ in found}) == 1 and found == sorted(found, key=lambda each: each[1])


@pytest.mark.parametrize("javascript", [True, False], ids=["javascript", "no javascript"])
def test_a_provider_is_filled_in_by_links_and_saved_by_update(enter, hook, faked, javascript):
    visitor = enter("/smtp", java_script_enabled=javascript)
    visitor.page.get_by_role("link", name="Fill in for a mail provider").click()
    visitor.page.get_by_role("link", name="Gmail", exact=True).click()
    expect(visitor.page.get_by_role("status")).to_contain_text("Filled in for Gmail; not saved yet.")
    assert not faked.product.folders.settings.exists()
    added = {"Sender Name": "Storage", "SMTP Account Address": "a.b@example.com", "SMTP Account Password": "abcd efgh"}
    visitor.fill(added)
    visitor.update()
    expect(visitor.page.get_by_role("status")).to_have_text(["Saved."])
    assert visitor.page.get_by_label("SMTP Host").input_value() == "smtp.gmail.com"
    assert 'sign_in = "provider"' in faked.product.folders.settings.read_text()


@pytest.mark.parametrize("javascript", [True, False], ids=["javascript", "no javascript"])
def test_waiting_mail_is_tried_now(enter, hook, javascript):
    hook.answers |= {"state": [LATE], "delivery": [WAITING], "try-waiting": [{"ok": True}]}
    visitor = enter("/smtp", java_script_enabled=javascript)
    visitor.picture("tab-waiting")
    visitor.page.get_by_role("button", name="Try now").press("Enter")
    expect(visitor.page.get_by_text("Waiting mail is tried now.")).to_be_visible()
    assert [each["do"] for each in hook.heard] == ["try-waiting"]
