"""The page of the sign-in by OAuth 2.0 in a browser: a code stays on the page while its person is elsewhere."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from device_ui.web.pages.sign_in import REFRESH_SECONDS
from tests.helpers.fake_hook import FakeHook
from tests.web.pages.test_sign_in import APP, NO_FLOW, PATH, STATE, WAITING


@pytest.fixture
def hook(faked) -> FakeHook:
    """A hook whose code waits for a person."""
    faked.product.folders.settings.unlink(missing_ok=True)
    faked.hook.reset()
    assert faked.client.update(**{**APP, "oauth_grant": "device"}).status == 303
    faked.hook.answers["sign-in"] = flow(WAITING)
    return faked.hook


def flow(state: dict[str, object]) -> list[dict[str, object]]:
    return [{"sign_in": {**STATE, "grant": "device", "flow": state}}]


def test_a_code_is_loaded_anew_when_there_is_news_and_not_before(enter, hook):
    visitor = enter("/smtp", own=True)  # with a clock that is not taken away
    visitor.page.clock.install()
    visitor.open(PATH)
    expect(visitor.page.locator("#left")).to_contain_text("Minutes until the code expires: 15.")
    visitor.page.evaluate("window.same = true")
    hook.answers["sign-in"] = flow({**WAITING, "seconds": 119})
    visitor.page.clock.run_for(REFRESH_SECONDS * 1000)
    expect(visitor.page.locator("#left")).to_contain_text("expires: 2.")
    assert visitor.page.evaluate("window.same")
    hook.answers["sign-in"] = flow({**NO_FLOW, "phase": "done"})
    visitor.page.clock.run_for(REFRESH_SECONDS * 1000)
    expect(visitor.page.get_by_text("The sign-in is done.")).to_be_focused()
