"""History and Others in a real browser, with and without JavaScript; the hook is a fake one."""

from __future__ import annotations

import csv
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Faked, Visitor, parsed
from tests.browser.test_main_job import look_at, overflow
from tests.helpers import mails
from tests.helpers.fake_hook import FakeHook
from tests.web.pages.test_event_codes import CONTENT, FAULT, INFO, KEPT
from tests.web.pages.test_history import EVENT, REFUSED, end, event

KINDS = [INFO, KEPT, FAULT, {**FAULT, "code": "304", "description": "It is nearly full. " * 6}]
# What a mail must not be able to do in our page: run, load, lead away from it, look like it.
HOSTILE = """<!DOCTYPE html><html lang="en"><head><base target="_top"><title>x</title></head><body bgcolor="#ffffff">
<h1>Partition 2 is 91 % full</h1><script>parent.document.title = "taken"; alert(1)</script>
<img src="{other}/seen.png" onerror="alert(2)" alt=""><form action="/logout" method="post"><button>Press</button></form>
<a href="{other}/">Leave</a></body></html>"""


def history(asked: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """120 events, of which the code 101 was never met; the page that is asked for."""
    if asked.get("from") == "2031-01-01":
        return [{"error": "bad-request", "reason": "the first day is after the last"}]
    matched = 0 if asked.get("code") == "101" else 120
    numbers = range(matched, 0, -1) if asked["descending"] else range(1, matched + 1)
    first, count = asked["offset"], asked["limit"] or matched
    found = [event(number=number, **MORE[number % len(MORE)]) for number in numbers[first : first + count]]
    more = {"bars": BARS} if asked.get("bars") else {}
    return [*found, end(matched=matched, kept=120, removed={"info": 3, "fault": 0, "waiting": 0}, **more)]


BARS = [
    {
        "from": f"2026-11-{day:02}",
        "to": f"2026-11-{day:02}",
        "hour": "",
        "fault": day % 4,
        "info": day % 7,
        "lost": day // 28,
    }
    for day in range(1, 31)
]


MORE: list[dict[str, Any]] = [
    {},
    {"type": "info", "code": "120", "state": "delivered", "deliveries": EVENT["deliveries"][:1], "text": ""},
    {
        "state": "waiting",
        "mail": 0,
        "can": "try-now",
        "deliveries": [{**REFUSED, "verdict": "waiting", "reply": "451 4.7.1 greylisted"}],
    },
    {"name": "경보 " * 20, "source": "x" * 80, "text": "y" * 500, "state": "not mailed", "can": "", "deliveries": []},
]


@pytest.fixture
def hook(faked: Faked) -> FakeHook:
    """A hook with 120 events and a catalogue."""
    answers = {
        "history": history,
        "catalog": [*({"kind": each} for each in KINDS), {"end": {"problem": ""}}],
        "content": [{"content": CONTENT}],
    }
    faked.hook.reset().answers |= answers
    return faked.hook


@pytest.fixture
def at(enter: Callable[..., Visitor], hook: FakeHook) -> Callable[..., Visitor]:
    """Opens a browser that is signed in at a page."""
    return enter


def numbers(visitor: Visitor) -> list[int]:
    """The numbers of the events on the page, when it has arrived whole: a click waits for its beginning alone."""
    visitor.page.wait_for_load_state()
    return [int(each) for each in visitor.page.locator("td.number").all_inner_texts()]


javascript = pytest.mark.parametrize("javascript", [True, False], ids=["javascript", "no javascript"])


@javascript
def test_history_is_reached_turned_and_leafed_through(at, javascript):
    visitor = at("/smtp", java_script_enabled=javascript)
    visitor.page.get_by_role("link", name="History").click()
    visitor.page.wait_for_url("**/history")
    assert numbers(visitor) == list(range(120, 70, -1))
    visitor.page.get_by_role("link", name="Next").click()
    visitor.page.wait_for_url("**page=2")
    assert numbers(visitor) == list(range(70, 20, -1))
    visitor.page.get_by_role("link", name="Number").click()
    visitor.page.wait_for_url("**order=up")
    assert numbers(visitor) == list(range(1, 51))
    expect(visitor.page.get_by_role("columnheader", name="Number")).to_have_attribute("aria-sort", "ascending")


@javascript
def test_filter_is_kept_in_the_address(at, hook, javascript):
    visitor = at("/history?sort=time", java_script_enabled=javascript)
    visitor.page.get_by_label("From").fill("2026-11-01")
    visitor.page.get_by_label("Type").select_option("fault")
    visitor.page.get_by_label("Delivery").select_option("not delivered")
    visitor.page.get_by_label("Source", exact=True).fill("smart")
    visitor.page.get_by_label("Text", exact=True).fill("91 %")
    visitor.page.get_by_label("Code").fill("101")
    visitor.page.get_by_label("Code").press("Enter")
    expect(visitor.page.get_by_text("No event matches.")).to_be_visible()
    asked = {"do": "history", "from": "2026-11-01", "type": "fault", "code": "101", "sort": "time"}
    asked |= {"outcome": "not delivered", "source": "smart", "text": "91 %", "bars": True}
    assert hook.heard[-1] == {**asked, "descending": True, "offset": 0, "limit": 50}
    visitor.page.reload()
    assert visitor.page.get_by_label("From").input_value() == "2026-11-01"
    visitor.page.get_by_role("link", name="Show all").click()
    assert len(numbers(visitor)) == 50


def test_filter_that_is_none_is_told_beside_the_filters(at):
    visitor = at("/history?from=2031-01-01")
    expect(visitor.page.get_by_role("alert")).to_have_text("Please change the filter. The first day is after the last.")
    expect(visitor.page.get_by_role("alert")).to_be_focused()
    visitor.picture("history-wrong-filter")


@javascript
def test_text_of_an_event_opens(at, hook, javascript):
    hook.answers["history"] = [event(text="first\nsecond\nthe last line"), end()]
    visitor = at("/history", java_script_enabled=javascript)
    text = visitor.page.get_by_text("the last line").first
    assert not text.is_visible()
    visitor.page.locator(".rows summary").first.press("Enter")
    expect(text).to_be_visible()


@javascript
def test_an_event_is_sent_again_from_its_row_with_the_keyboard(at, hook, javascript):
    hook.answers |= {"send-again": [{"accepted": 121}], "try-now": [{"accepted": 122}]}
    visitor = at("/history?type=fault", java_script_enabled=javascript)
    visitor.page.get_by_role("button", name="Send again: 120").press("Enter")
    visitor.page.wait_for_url("**/history?type=fault&**#event-120")
    expect(
        visitor.page.get_by_role("status").get_by_text("Event 120 is sent again. Its row shows the result.")
    ).to_be_visible()
    asked = [each for each in hook.heard if each["do"] != "history"]
    assert asked == [{"do": "send-again", "number": 120, "by": "127.0.0.1"}]
    visitor.page.get_by_role("button", name="Try now: 118").press("Enter")
    expect(visitor.page.get_by_text("The mail of event 118 is tried now.")).to_be_visible()


@javascript
def test_a_bar_and_the_table_lead_to_their_day(at, hook, javascript):
    visitor = at("/history?code=303", java_script_enabled=javascript)
    visitor.page.locator(".bars a").nth(10).click()
    visitor.page.wait_for_url("**/history?day=2026-11-11&code=303")
    assert (hook.heard[-1]["from"], hook.heard[-1]["to"]) == ("2026-11-11", "2026-11-11")
    visitor.page.get_by_text("As a table").press("Enter")
    visitor.page.get_by_role("link", name="2026-11-05").press("Enter")
    visitor.page.wait_for_url("**/history?day=2026-11-05&code=303")


def test_file_is_saved_whole(at):
    visitor = at("/history?code=303")
    with visitor.page.expect_download() as download:
        visitor.page.get_by_role("link", name="All of them as CSV").click()
    assert download.value.suggested_filename == "history.csv"
    with open(download.value.path(), encoding="utf-8-sig", newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["number", *map(str, range(120, 0, -1))]


def test_wide_table_is_scrolled_with_the_keyboard_and_the_page_is_not(at):
    visitor = at("/history")
    region = visitor.page.get_by_role("region", name="Events")
    region.evaluate("region => region.style.width = '600px'")
    region.focus()
    visitor.page.keyboard.press("ArrowRight")
    visitor.page.wait_for_function("() => document.querySelector('.scroll').scrollLeft > 0")
    assert overflow(visitor) == 0


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_button_takes_no_line_of_its_own_on_a_small_screen(at, hook, language):
    visitor = at("/history", viewport={"width": 1000, "height": 640}, locale=language, timezone_id="Asia/Seoul")
    cell = visitor.page.locator("#event-117 .delivery")
    lines = cell.evaluate("cell => cell.offsetHeight")
    cell.locator("button").evaluate("button => button.remove()")
    assert cell.evaluate("cell => cell.offsetHeight") > lines - 8


def test_on_a_phone_no_table_is_scrolled_sideways(at):
    visitor = at("/history", viewport={"width": 320, "height": 640})
    wide = "region => region.scrollWidth - region.clientWidth"
    assert visitor.page.get_by_role("region", name="Events").evaluate(wide) == 0
    assert visitor.page.get_by_role("columnheader").count() == 5
    assert visitor.page.locator(".rows").get_by_role("row").nth(1).get_by_role("cell").first.inner_text() == "120"


# Others


def test_others_lead_from_the_codes_to_the_mail_and_back(at, hook):
    visitor = at("/others/event-codes", java_script_enabled=False)
    visitor.page.get_by_role("link", name="The mail of 303").click()
    visitor.page.wait_for_url("**code=303")
    assert {"do": "content", "code": "303", "count": 1} in hook.heard
    visitor.page.get_by_label("Event code").select_option("101")
    visitor.page.get_by_role("button", name="Show").click()
    visitor.page.wait_for_url("**code=101&form=single")
    visitor.page.get_by_role("link", name="Event Codes").click()
    visitor.page.wait_for_url("**/others/event-codes")
    assert visitor.page.locator("tbody tr").count() == 4
    visitor.page.get_by_label("Text", exact=True).fill("nearly full")
    visitor.page.get_by_role("button", name="Filter").click()
    visitor.page.wait_for_url("**text=nearly+full")
    assert visitor.page.locator("tbody tr").count() == 1


NARROWER = """
select => {
  const free = select.cloneNode(true);
  Object.assign(free.style, {width: "auto", position: "absolute"});
  select.parentNode.append(free);
  const missing = free.offsetWidth - select.offsetWidth;
  free.remove();
  return missing;
}
"""


@pytest.mark.parametrize("width", [320, 1280])
def test_the_choice_of_a_code_shows_its_words_whole(at, width):
    visitor = at("/others/event-codes", viewport={"width": width, "height": 900})
    assert visitor.page.locator("td select").first.evaluate(NARROWER) <= 0


# The page behind a mail's cards.
BACKGROUNDS = {"light": "rgb(244, 246, 248)", "dark": "rgb(15, 19, 24)"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_html_part_is_shown_light_and_dark_whatever_the_browser_prefers(at, hook, scheme):
    hook.answers["content"] = [{"content": {**CONTENT, "html": html_of(mails.single("en"))}}]
    visitor = at("/others/email-content", color_scheme=scheme, viewport={"width": 1280, "height": 1000})
    for shown, colour in BACKGROUNDS.items():
        frame = visitor.page.frame_locator(f"iframe[title='HTML, {shown}']")
        expect(frame.get_by_role("heading", name="FAULT 303")).to_be_visible()
        expect(frame.locator("body")).to_have_css("background-color", colour)
    visitor.picture(f"email-content-mail-{scheme}")


def html_of(raw: bytes) -> str:
    return str(parsed(raw).get_body(("html",)).get_content())


def test_every_mail_fits_and_can_be_read(at):
    visitor = at("/history")
    visitor.page.goto("about:blank")  # without the page's policy
    for name, raw in mails.every_kind().items():
        visitor.page.set_content(html_of(raw))
        look_at(visitor, (320, 800), f"mail-{name.replace(', ', '-').replace(' ', '-')}")


@pytest.fixture
def elsewhere() -> Iterator[socket.socket]:
    """Another host: a socket that a mail must not be able to have called."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def test_hostile_mail_runs_loads_sends_nothing(at, hook, faked, elsewhere):
    other = f"http://127.0.0.1:{elsewhere.getsockname()[1]}"
    hook.answers["content"] = [{"content": {**CONTENT, "html": HOSTILE.format(other=other)}}]
    visitor = at("/others/email-content")
    visitor.listen(visitor.page, "dialog", lambda dialog: visitor.complaints.append("a dialog"))
    frame = visitor.page.frame_locator("iframe >> nth=0")
    expect(frame.get_by_role("heading", name="Partition 2 is 91 % full")).to_be_visible()
    frame.get_by_role("button", name="Press").press("Enter")
    frame.get_by_role("link", name="Leave").press("Enter")
    assert (visitor.path, visitor.page.title()) == ("/others/email-content", "Email Content · Storage appliance")
    assert faked.client.get("/history").status == 200
    with pytest.raises(BlockingIOError):
        elsewhere.accept()
    # Chromium says what it did not let the mail do; now and then it tells of a request before it stops it.
    forbidden = re.compile(
        f"console: .*(sandbox|Content Security Policy|Unsafe attempt)|request to {other}/.*", re.DOTALL
    )
    visitor.complaints = [each for each in visitor.complaints if not forbidden.match(each)]


@pytest.mark.parametrize("path", ["/history", "/others/event-codes", "/others/email-content"])
def test_every_page_fits_and_can_be_read(at, hook, path):
    text = "Audit log space\n\n" + "Partition 2 is 91 % full " * 8 + "z" * 300
    hook.answers["history"] = [*history({"descending": True, "offset": 0, "limit": 8})[:8], end(matched=120, kept=500)]
    hook.answers["content"] = [{"content": {**CONTENT, "text": text, "headers": "X-Long: " + "h" * 300}}]
    visitor = at(path, viewport={"width": 320, "height": 800})
    for summary in visitor.page.locator("summary").all()[:3]:
        summary.press("Enter")
    look_at(visitor, (320, 1280), path.rpartition("/")[2])


def test_pages_are_told_apart_by_their_names_for_a_screen_reader(at):
    visitor = at("/others/email-content")
    names = [each.get_attribute("aria-label") for each in visitor.page.get_by_role("navigation").all()]
    assert names == ["Pages", "Others"]


# Times and paper


@pytest.mark.parametrize(
    ("zone", "told"),
    [
        ("America/New_York", "2026-11-23 00:03:22, your time 2026-11-23 14:03:22"),
        ("Asia/Seoul", "2026-11-23 14:03:22"),
    ],
)
def test_times_are_told_in_the_browsers_zone_with_the_devices_beside(at, zone, told):
    visitor = at("/history", timezone_id=zone)
    assert " ".join(visitor.page.locator("td.when").first.inner_text().split()) == told


def test_on_paper_every_text_is_unfolded_and_nothing_is_to_be_pressed(at):
    visitor = at("/history")
    visitor.page.emulate_media(media="print")
    visitor.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(visitor.page.get_by_text("Partition 3 is well").first).to_be_visible()
    assert visitor.page.locator("button, input, nav, summary").locator("visible=true").count() == 0
    visitor.picture("history-paper")
    visitor.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert visitor.page.locator("details[open]").count() == 0
