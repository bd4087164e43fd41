"""What the SMTP tab says of the delivery, *Try now*, and the providers that it fills in; the hook is a fake one."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from device_ui.config import Folders
from device_ui.settings.presets import PRESETS
from device_ui.settings.recipients import Recipient
from device_ui.settings.store import RecipientStore
from device_ui.web.pages.delivery_state import moment
from tests.helpers import document
from tests.helpers.fake_hook import IDLE, Pages, signed_in
from tests.helpers.product import Page, settings_form
from tests.web.pages.test_smtp import said, values

NOW = time.time()


def result(recipient: str, verdict: str = "delivered", seconds: float = NOW) -> dict[str, object]:
    return {"recipient": recipient, "verdict": verdict, "step": "content", "reply": "250 ok", "time": seconds}


def answer(**changes: object) -> dict[str, object]:
    return {"delivery": {**IDLE["delivery"], **changes}}


LAST = {"mail": 1739, "results": [result("a@example.com"), result("b@example.com", "refused")]}


@pytest.fixture(scope="module")
def device(device) -> Pages:
    """The same with settings."""
    assert device.post("/smtp", settings_form(2525, host="mail.example.com")).status == 303
    device.get("/smtp")  # which takes the notice
    return device


@pytest.fixture
def pages(device, hook) -> Iterator[Pages]:
    yield device
    device.folders.recipients.unlink(missing_ok=True)


def told(page: Page) -> dict[str, str]:
    """The terms of the panel and what is said of each; a page that is not sound fails the test."""
    assert document.problems(page.text) == []
    root = document.read(page.text)
    return dict(zip([each.text for each in root.all("dt")], [each.text for each in root.all("dd")], strict=True))


def test_a_new_device_says_that_nothing_was_delivered(pages):
    page = pages.get("/smtp")
    # Without the zone of times that are not there.
    assert "Times of the device" not in page.text
    assert told(page) == {
        "Goes to": "alarm@mail.example.com (everything) · Edit",
        "Last delivered": "no event yet",
    }


def test_the_last_delivery_has_its_time_number_and_those_who_got_it(pages, hook):
    hook.answers["delivery"] = [answer(last=LAST)]
    assert told(pages.get("/smtp"))["Last delivered"] == f"{moment(NOW, NOW)}, mail 1739, to a@example.com"


def test_what_waits_is_told_with_its_next_try_and_a_button(pages, hook):
    hook.answers["delivery"] = [answer(waiting=3, since=NOW, next=NOW)]
    page = pages.get("/smtp")
    assert told(page)["Waiting"] == f"3 since {moment(NOW, NOW)}"
    assert "Times of the device, UTC" in page.text
    (link,) = [each for each in document.read(page.text).all("a") if each.text.startswith("3 since")]
    assert link.attributes["href"] == "/history?outcome=waiting"
    assert told(page)["Next try"] == f"{moment(NOW, NOW)} Try now"


def test_what_waits_for_a_person_has_no_time_and_no_button(pages, hook):
    hook.answers["delivery"] = [answer(waiting=3, since=NOW, next=None)]
    assert told(pages.get("/smtp"))["Next try"] == "when the problem is solved"


def test_without_a_right_clock_the_next_try_is_soon(pages, hook):
    hook.answers["delivery"] = [answer(waiting=1, since=0.0, next=0.0)]
    assert told(pages.get("/smtp"))["Waiting"] == "1 since an unknown time"
    assert told(pages.get("/smtp"))["Next try"] == "soon Try now"


def test_a_hook_that_is_away_leaves_where_mail_goes(pages, hook):
    hook.answers["delivery"] = []
    assert list(told(pages.get("/smtp"))) == ["Goes to"]


@pytest.mark.parametrize("path", ["/smtp", "/recipients"])
def test_the_head_of_the_page_is_from_the_same_answer(pages, hook, path):
    """Asked for one after the other, they could contradict each other."""
    problem = {"problem": "server", "step": "connect", "reply": "refused"}
    hook.answers["delivery"] = [answer(waiting=1, since=NOW, next=NOW, state=problem)]
    hook.asked.clear()
    (banner,) = document.read(pages.get(path).text).by_class("banner")
    assert banner.text.startswith("Mail could not be delivered yet (at the connection to the mail server): “refused”.")
    assert hook.asked == ["delivery"]


@pytest.mark.parametrize("path", ["/smtp", "/recipients"])
def test_a_hook_of_an_earlier_version_is_asked_for_the_state(pages, hook, path):
    hook.answers |= {"delivery": [answer(state=None)], "state": [{"state": {"problem": "password"}}]}
    (banner,) = document.read(pages.get(path).text).by_class("banner")
    assert banner.text.startswith("The stored password cannot be opened.")


def test_a_hook_that_does_not_answer_is_not_waited_for_twice(pages, hook):
    hook.answers["delivery"] = []
    hook.asked.clear()
    (banner,) = document.read(pages.get("/smtp").text).by_class("banner")
    assert banner.text.startswith("The mail service is not running.")
    assert hook.asked == ["delivery"]


def test_a_hook_that_cannot_say_what_was_delivered_is_not_called_down(pages, hook):
    hook.answers |= {"delivery": [{"error": "fault", "reason": "x"}], "state": [{"state": {"problem": "password"}}]}
    page = pages.get("/smtp")
    (banner,) = document.read(page.text).by_class("banner")
    assert banner.text.startswith("The stored password cannot be opened.")
    assert list(told(page)) == ["Goes to"]


def test_three_recipients_are_named_and_more_are_counted(pages):
    listed = tuple(Recipient(f"r{number}@example.com", "fault") for number in range(1, 6))
    RecipientStore(pages.folders.recipients).save(listed, "")
    shown = "r1@example.com (faults only), r2@example.com (faults only), r3@example.com (faults only), and 2 more"
    assert told(pages.get("/smtp"))["Goes to"] == f"{shown} · Edit"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "an unknown time"),
        (1e300, "an unknown time"),
        (86400.0 * 365, "1971-01-01"),
        (86400.0 * 400 + 60, "00:01"),
    ],
)
def test_a_time_of_today_has_no_date(zone, seconds, shown):
    zone("UTC")
    assert str(moment(seconds, 86400.0 * 400 + 3600)).startswith(shown)


# Try now


def test_try_now_asks_the_hook_and_says_so(pages, hook):
    hook.answers["try-waiting"] = [{"ok": True}]
    sent = pages.post("/smtp/try", {})
    assert (sent.status, sent.headers["location"]) == (303, "/smtp")
    assert [each["do"] for each in hook.heard] == ["try-waiting"]
    assert said(pages.get("/smtp"), "notice") == ["Waiting mail is tried now."]


def test_too_many_tries_are_refused_with_the_time_to_wait(pages, hook):
    hook.answers["try-waiting"] = [{"error": "too-many", "reason": "too many tries; wait 17 seconds", "seconds": 17}]
    page = pages.post("/smtp/try", {})
    assert (page.status, page.headers["retry-after"]) == (429, "17")
    assert said(page, "problem") == ["Too many tries one after another. Please wait 17 seconds and try again."]


def test_a_try_that_would_be_none_is_not_called_one(pages, hook):
    hook.answers["try-waiting"] = [{"error": "held", "reason": "x"}]
    page = pages.post("/smtp/try", {})
    assert (page.status, page.headers.get("retry-after")) == (409, None)
    assert said(page, "problem") == ["No mail is tried until the problem at the head of this page is solved."]


def test_a_try_that_the_hook_does_not_answer_is_not_called_one(pages):
    page = pages.post("/smtp/try", {})
    assert page.status == 503
    assert said(page, "problem") == ["The mail service does not answer. Please try again."]


def test_try_now_takes_a_session_and_no_link(pages, hook):
    assert pages.get("/smtp/try").headers["location"] == "/smtp"
    assert pages.post("/smtp/try", {}, HTTP_COOKIE="").headers["location"].startswith("/login")
    assert pages.post("/smtp/try", {}, HTTP_ORIGIN="https://evil.example").status == 403
    assert hook.heard == []


# Fill in for a provider


def test_the_list_of_providers_has_a_link_for_each(pages):
    page = pages.get("/smtp", "preset")
    assert document.problems(page.text) == []
    (links,) = document.read(page.text).by_class("presets")
    assert {each.attributes["href"] for each in links.all("a")} == {f"/smtp?preset={word}" for word in PRESETS}


@pytest.mark.parametrize("word", PRESETS)
def test_a_link_fills_in_its_provider_and_saves_nothing(pages, hook, word):
    before = pages.folders.settings.read_bytes()
    page = pages.get("/smtp", f"preset={word}")
    assert document.problems(page.text) == []
    stored = {
        "sender_name": "Storage alarms",
        "account": "alarm@mail.example.com",
        "password": "",
        "from_address": "",
        "trust": "system",
    }
    if PRESETS[word].sign_in == "oauth":  # what the tab asks for with this provider
        stored |= {"oauth_grant": "certificate", "oauth_tenant": "", "oauth_client": "", "oauth_scope": ""}
    shown = {name: text for name, text in values(page).items() if name not in ("token", "revision")}
    assert shown == {**stored, **PRESETS[word].values}
    assert said(page, "notice") == [f"Filled in: {PRESETS[word].title}. Not saved yet. {PRESETS[word].hint}"]
    assert pages.folders.settings.read_bytes() == before
    assert hook.heard == []


def test_the_stored_password_is_not_offered_to_another_server(pages):
    assert "A password is stored." in pages.get("/smtp").text
    assert "A password is stored." not in pages.get("/smtp", "preset=gmail").text


def test_a_preset_opens_what_it_changed_under_advanced(pages):
    (details,) = document.read(pages.get("/smtp", "preset=gmail").text).all("details")
    assert "open" in details.attributes


def test_a_word_that_is_no_provider_leads_to_the_list(pages):
    page = pages.get("/smtp", "preset=%22%3E%3Cscript%3E")
    assert document.problems(page.text) == []
    assert document.read(page.text).by_class("presets")
    assert values(page)["host"] == "mail.example.com"


def test_a_locked_sign_in_stays_as_the_maker_wants_it(tmp_path):
    folders = Folders(tmp_path / "data", tmp_path / "run", tmp_path / "etc")
    folders.etc.mkdir()
    (folders.etc / "device.toml").write_text("[locks]\nsign_in = true\n")
    locked = signed_in(folders)
    page = locked.get("/smtp", "preset=gmail")
    (sign_in,) = document.read(page.text).all("select", id="sign_in")
    assert [each.attributes["value"] for each in sign_in.all("option") if "selected" in each.attributes] == ["manual"]


# The manual's note


def test_the_manuals_note_links_to_the_codes_and_the_content(pages):
    page = pages.get("/smtp")
    note = (
        "For a description of the event codes for which emails are sent, refer to Others > Event Codes, and for an "
        "explanation of the email content sent during events, refer to Others > Email Content."
    )
    (found,) = [
        each
        for each in document.read(page.text).by_class("help")
        if each.text.replace(" ,", ",").replace(" .", ".") == note
    ]
    assert [each.attributes["href"] for each in found.all("a")] == ["/others/event-codes", "/others/email-content"]
