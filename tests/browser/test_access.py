"""WCAG 2.2 AA on every page in every state: axe-core finds nothing, in the light and in the dark; nothing is cut or moves.

axe is run by the browser's own debugger, so that the pages' Content-Security-Policy stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import expect

from device_ui.storage import files
from tests.browser.conftest import Faked, Visitor, labelled
from tests.browser.test_history import KINDS, history
from tests.browser.test_main_job import ALL_BROKEN, hard_to_read, overflow
from tests.browser.test_trial import REFUSED_FOR_ONE, press
from tests.helpers.fake_hook import WELL, FakeHook
from tests.helpers.product import settings_form
from tests.web.pages.test_event_codes import CONTENT
from tests.web.pages.test_sign_in import APP, CLIENT_SECRET, NO_FLOW, STATE
from tests.web.pages.test_sign_in import WAITING as CODE
from tests.web.pages.test_sign_in import listed as certificate
from tests.web.pages.test_test_mail import CONNECT, DELIVERED, EHLO

State = Callable[[Visitor, Faked], None]

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
FOUND = """
async options => (await axe.run(document, {...options, iframes: false, resultTypes: ["violations"]}))
  .violations.flatMap(rule => rule.nodes.map(node => `${rule.id}: ${node.target}: ${node.failureSummary}`))
"""
REFUSED = {"recipient": "admin@example.com", "verdict": "refused", "step": "recipient", "time": 1e9, "mail": 1739}
RESULT = {**REFUSED, "reply": "550 5.1.1 no such user here"}
LATE = {"state": {**WELL["state"], "problem": "server", "step": "connect", "reply": "refused", "waiting": 3}}
WAITING = {
    "delivery": {
        "last": {"mail": 1738, "results": [{**RESULT, "verdict": "delivered", "recipient": "x" * 40 + "@example.com"}]},
        **{"waiting": 3, "since": 1e9, "next": 1e9 + 3600, "results": [RESULT]},
    }
}
BY_SECRET = {"oauth_grant": "secret", "oauth_until": "2028-11-01", "password": CLIENT_SECRET}
BY_CODE = {"oauth_grant": "device"}
FAILED = {
    "step": "token answer",
    "problem": "client refused",
    "reply": "AADSTS7000222 401 invalid_client: " + "long " * 20,
}
# WCAG 2.2, 1.4.12.
SPACED = """
() => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`* {line-height: 1.5 !important; letter-spacing: .12em !important; word-spacing: .16em !important}
    p {margin-bottom: 2em !important}`);
  document.adoptedStyleSheets = [sheet];
}
"""
# WCAG 2.2, 1.4.4: the text alone twice as large. The whole page twice as large is a window of half the width.
LARGE = """
() => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync("html {font-size: 200%}");
  document.adoptedStyleSheets = [sheet];
}
"""
# A closed select does not wrap unless its appearance allows it; 24 pixels are the arrow.
CUT_CHOICES = """
() => [...document.querySelectorAll("select")].filter(each => each.checkVisibility()).filter(each => {
  const style = getComputedStyle(each), pen = document.createElement("canvas").getContext("2d");
  pen.font = style.font;
  const room = each.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) - 24;
  return style.appearance !== "base-select" && pen.measureText(each.selectedOptions[0].text).width > room;
}).map(each => each.id)
"""
# Whatever hides text that does not fit, but what is there for a screen reader alone.
CUT = """
() => [...document.querySelectorAll("body *")].filter(each => each.checkVisibility() && !each.matches(".unseen"))
  .filter(each => getComputedStyle(each).overflow === "hidden" || each.matches("button, select"))
  .filter(each => each.scrollWidth > each.clientWidth + 1 || each.scrollHeight > each.clientHeight + 1)
  .map(each => each.outerHTML)
"""
# Of the whole life of a page (Layout Instability): what moved without a hand on the page half a second before.
SHIFTS = """
() => new Promise(told => new PerformanceObserver(list => told(list.getEntries()
  .filter(each => !each.hadRecentInput).reduce((sum, each) => sum + each.value, 0)))
  .observe({type: "layout-shift", buffered: true}) || setTimeout(() => told(0), 200))
"""


def at(path: str) -> State:
    """A page as it opens."""
    return lambda visitor, _: visitor.open(path)


def errors(visitor: Visitor, _: Faked) -> None:
    visitor.open("/smtp")
    visitor.fill(ALL_BROKEN | {"SMTP Host": "h" * 101})
    visitor.update()
    visitor.page.get_by_text("Advanced", exact=True).click()


def saved(visitor: Visitor, _: Faked) -> None:
    visitor.open("/smtp")
    visitor.fill(labelled(settings_form(2525)))
    visitor.update()


def conflict(visitor: Visitor, faked: Faked) -> None:
    visitor.open("/smtp")
    visitor.fill(labelled(settings_form(2525, sender_name="Another name")))
    assert faked.client.update(**settings_form(2526)).status == 303
    visitor.update()


def damaged(visitor: Visitor, faked: Faked) -> None:
    faked.product.folders.settings.write_text("no settings")
    visitor.open("/smtp")


def typing(visitor: Visitor, _: Faked) -> None:
    visitor.open("/smtp")
    visitor.type_in("SMTP Account Password", "Kp7!vvabc")
    visitor.page.locator(".toast").evaluate("toast => toast.hidden = false")


def problem(visitor: Visitor, faked: Faked) -> None:
    state = {"problem": "login refused", "step": "login", "reply": "535 5.7.8 no", "waiting": 3, "set_aside": ""}
    faked.hook.answers["state"] = [{"state": state}]
    visitor.open("/smtp")


def waiting(visitor: Visitor, faked: Faked) -> None:
    visitor.open("/smtp")
    visitor.fill(labelled(settings_form(2525)))
    visitor.update()
    faked.hook.answers |= {"state": [LATE], "delivery": [WAITING]}
    visitor.open("/smtp")
    expect(visitor.page.get_by_role("button", name="Try now")).to_be_visible()


def refused(visitor: Visitor, faked: Faked) -> None:
    listed(visitor, faked)
    faked.hook.answers |= {"delivery": [WAITING], "test": [CONNECT, REFUSED_FOR_ONE]}
    visitor.page.get_by_role("button", name="Send a test to admin@example.com").click()
    expect(visitor.page.get_by_text("550 5.1.1 no such user here")).to_be_visible()
    expect(visitor.page.get_by_text("The test saves nothing.")).to_be_visible()


def running(visitor: Visitor, faked: Faked) -> None:
    visitor.open("/smtp")
    visitor.fill(labelled(settings_form(2525)))
    visitor.page.route("**/smtp/test", lambda _: None)
    press(visitor)
    expect(visitor.page.get_by_role("progressbar")).to_be_visible()


def after_test(*lines: Any) -> State:
    """A test mail with these lines of the hook."""

    def state(visitor: Visitor, faked: Faked) -> None:
        faked.hook.answers["test"] = lines
        visitor.open("/smtp")
        visitor.fill(labelled(settings_form(2525)))
        press(visitor)
        expect(visitor.page.get_by_text("The test saves nothing.")).to_be_visible()

    return state


def listed(visitor: Visitor, _: Faked) -> None:
    visitor.open("/recipients")
    for address in ("admin@example.com", "somebody@department.example.co.kr"):
        visitor.page.get_by_label("E-mail address").fill(address)
        visitor.page.get_by_role("button", name="Add", exact=True).click()
        expect(visitor.page.get_by_role("status")).to_have_text(f"{address} is on the list.")


def removed(visitor: Visitor, faked: Faked) -> None:
    listed(visitor, faked)
    visitor.page.get_by_role("button", name="Remove admin@example.com").click()
    expect(visitor.page.get_by_role("button", name="Undo")).to_be_visible()


def no_address(visitor: Visitor, _: Faked) -> None:
    visitor.open("/recipients")
    visitor.page.get_by_role("button", name="Add", exact=True).click()
    expect(visitor.page.locator("#address-error")).to_be_visible()


def unfolded(visitor: Visitor, _: Faked) -> None:
    visitor.open("/history?type=fault&sort=time&page=2")
    visitor.page.locator("tbody summary").first.click()


def oauth_tab(visitor: Visitor, faked: Faked) -> None:
    assert faked.client.update(**APP).status == 303
    visitor.open("/smtp")
    visitor.page.locator("form summary").click()


def signs_in(state: Any, *ends: str, **form: str) -> State:
    """The page of the sign-in by OAuth 2.0, with a certificate for each end."""

    def page(visitor: Visitor, faked: Faked) -> None:
        assert faked.client.update(**{**APP, **form}).status == 303
        made = [certificate(end.encode(), end) for end in ends]
        faked.hook.answers |= {"sign-in": [{"sign_in": state}], "certificate": [{"certificates": made}]}
        visitor.open("/smtp/sign-in")

    return page


def late(visitor: Visitor, _: Faked) -> None:
    visitor.open("/smtp")
    visitor.fill(labelled(settings_form(2525)))
    visitor.context.clear_cookies()
    visitor.update()


def down(visitor: Visitor, faked: Faked) -> None:
    faked.hook.answers.pop("history")
    visitor.open("/history")
    visitor.complaints = [each for each in visitor.complaints if "status of 503" not in each]


STATES: dict[str, State] = {
    "empty tab": at("/smtp"),
    "errors": errors,
    "saved": saved,
    "conflict": conflict,
    "damaged settings": damaged,
    "typing": typing,
    "problem": problem,
    "mail waits": waiting,
    "providers": at("/smtp?preset"),
    "provider filled in": at("/smtp?preset=sendgrid"),
    "test running": running,
    "test sent": after_test(CONNECT, EHLO, DELIVERED),
    "test failed": after_test(CONNECT, REFUSED_FOR_ONE),
    "no recipients": at("/recipients"),
    "recipients": listed,
    "recipient removed": removed,
    "recipient refused": refused,
    "no address": no_address,
    "history filtered": unfolded,
    "history not delivered": at("/history?outcome=partly+delivered"),
    "history empty": at("/history?code=101"),
    "history wrong filter": at("/history?from=2031-01-01"),
    "history down": down,
    "event codes": at("/others/event-codes"),
    "email content": at("/others/email-content"),
    "access": at("/others/access"),
    "oauth tab": oauth_tab,
    "certificate": signs_in(STATE, "2026-12-30", "2028-11-30"),
    "client secret": signs_in({**STATE, "ends": "2028-11-01", "renewed": 1e9}, **BY_SECRET),
    "code not asked for": signs_in(STATE, **BY_CODE),
    "code waits": signs_in({**STATE, "flow": CODE}, **BY_CODE),
    "code done": signs_in({**STATE, "person": "x" * 40, "flow": {**NO_FLOW, "phase": "done"}}, **BY_CODE),
    "sign-in dead": signs_in({**STATE, **FAILED, "flow": {**NO_FLOW, **FAILED, "phase": "failed"}}, **BY_CODE),
    "no page": at("/nowhere"),
    "login": at("/login"),
    "login with a form": late,
}


@pytest.fixture
def hook(faked: Faked) -> FakeHook:
    """A hook with events and a catalogue; a device without settings and recipients."""
    for path in (faked.product.folders.settings, faked.product.folders.recipients):
        for each in (path, *files.quarantined_files(path)):
            each.unlink(missing_ok=True)
    answers = {
        "history": lambda asked: history({**asked, "limit": min(asked["limit"], 8)}),
        "catalog": [*({"kind": each} for each in KINDS), {"end": {"problem": ""}}],
        "content": [{"content": CONTENT}],
    }
    faked.hook.reset().answers |= answers
    return faked.hook


def found(visitor: Visitor, **options: Any) -> list[str]:
    """What axe holds against the page."""
    if visitor.page.evaluate("typeof axe") == "undefined":
        visitor.page.evaluate(AXE_SCRIPT)
    return list(visitor.page.evaluate(FOUND, options))


def cut_choices(visitor: Visitor) -> list[str]:
    """The selects whose choice is cut; the narrow ones of the list are as wide as their widest choice."""
    return [each for each in visitor.page.evaluate(CUT_CHOICES) if not each.startswith(("lowest-", "language-"))]


def look_everywhere(visitor: Visitor) -> None:
    """axe in both colour schemes; and nothing is cut or overflows, on a narrow page, with wide spacing, with large text."""
    assert (found(visitor, runOnly=TAGS), hard_to_read(visitor)) == ([], [])
    assert cut_choices(visitor) == []
    visitor.page.emulate_media(color_scheme="dark")
    assert (found(visitor, runOnly=["color-contrast", "link-in-text-block"]), hard_to_read(visitor)) == ([], [])
    visitor.page.set_viewport_size({"width": 320, "height": 640})
    assert overflow(visitor) == 0
    visitor.page.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
    assert cut_choices(visitor) == []
    visitor.page.evaluate(SPACED)
    assert (overflow(visitor), visitor.page.evaluate(CUT)) == (0, [])
    visitor.page.evaluate(LARGE)
    for width in (320, 640, 1280):
        visitor.page.set_viewport_size({"width": width, "height": 400})
        assert (overflow(visitor), visitor.page.evaluate(CUT)) == (0, []), width


@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing_on_any_page_in_any_state(enter, hook, faked, state):
    visitor = enter("")
    STATES[state](visitor, faked)
    look_everywhere(visitor)


@pytest.mark.parametrize(
    "path",
    [
        "/smtp",
        "/smtp?preset",
        "/smtp?preset=amazon-ses",
        "/recipients",
        "/history",
        "/others/email-content",
        "/others/access",
        "/login",
    ],
)
def test_korean_is_read_as_well_and_fits_a_phone(enter, hook, path):
    visitor = enter(path, locale="ko-KR", viewport={"width": 320, "height": 640})
    assert visitor.page.locator("html").get_attribute("lang") == "ko"
    assert found(visitor, runOnly=TAGS) == []
    for enlarged in (SPACED, LARGE):
        visitor.page.evaluate(enlarged)
        assert (overflow(visitor), visitor.page.evaluate(CUT)) == (0, [])


@pytest.mark.parametrize("state", ["oauth tab", "certificate", "code waits", "sign-in dead"])
def test_the_sign_in_is_read_in_korean_as_well(enter, hook, faked, state):
    visitor = enter("", locale="ko-KR", viewport={"width": 320, "height": 640})
    STATES[state](visitor, faked)
    assert found(visitor, runOnly=TAGS) == []
    visitor.page.evaluate(LARGE)
    assert (overflow(visitor), visitor.page.evaluate(CUT)) == (0, [])


def test_axe_finds_nothing_on_the_set_up_which_fits_a_phone(visit, product):
    product.start_web()
    visitor = visit(product)
    visitor.open(f"/setup?code={product.call('setup-code').stdout.strip()}")
    assert found(visitor, runOnly=TAGS) == []
    visitor.page.emulate_media(color_scheme="dark")
    assert found(visitor, runOnly=["color-contrast"]) == []
    visitor.page.set_viewport_size({"width": 320, "height": 640})
    assert overflow(visitor) == 0


def test_axe_finds_what_is_wrong(enter, hook):
    visitor = enter("/smtp")
    visitor.page.evaluate("document.querySelector('label').remove(); document.querySelector('h1').style.color = '#bbb'")
    rules = {each.partition(":")[0] for each in found(visitor, runOnly=TAGS)}
    assert {"label", "color-contrast"} <= rules


@pytest.mark.parametrize("state", ["empty tab", "typing", "test failed", "history filtered", "recipients"])
def test_nothing_moves_by_itself(enter, hook, faked, state):
    # Nor on a first visit.
    visitor = enter("", own=state == "typing", timezone_id="America/New_York")
    STATES[state](visitor, faked)
    assert visitor.page.evaluate(SHIFTS) < 0.001


def test_nothing_moves_from_page_to_page(enter, hook):
    visitor, boxes = enter("/smtp"), []
    for name in ("SMTP", "Recipients", "History", "Others"):
        visitor.page.get_by_role("link", name=name, exact=True).click()
        visitor.page.wait_for_url(lambda url, name=name: name.lower() in url)
        heads = visitor.page.locator(".brand, .state, header button, header nav a, h1").all()
        boxes.append([(each.bounding_box()["x"], each.bounding_box()["y"]) for each in heads])
    assert [each for each in boxes if each != boxes[0]] == []
