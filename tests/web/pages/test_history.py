"""The History page and its CSV file: what is asked of the hook, what is shown, what stays text."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import re
import socket
import threading
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_ui.errors import Message
from device_ui.mail.catalog import MESSAGE
from device_ui.web.pages import picture
from device_ui.web.pages.delivery_state import NOTHING_TRIED
from device_ui.web.pages.history import MESSAGE_CODE, MESSAGE_NAME, Query
from tests.helpers import document
from tests.helpers.fake_hook import WELL, FakeHook, Pages, make_keys
from tests.helpers.product import Page, Product

EVIL = "<script>alert(1)</script>\"'&amp;"
HEADS = ["Number", "Time", "Type", "Code", "Name", "Source", "Delivery"]
ZONE = "+09:00 (KST)"
SORTS = ["number", "time", "type", "code", "name", "source", "state"]
FIRST_PAGE = {"do": "history", "sort": "number", "descending": True, "offset": 0, "limit": 50, "bars": True}
FILTERS = {"from": "2026-11-01", "to": "2026-11-30", "type": "fault", "code": "303"}
FILTERS |= {"outcome": "refused", "source": "smart", "text": "91 %"}
FILTERED = "from=2026-11-01&to=2026-11-30&type=fault&code=303&outcome=refused&source=smart&text=91+%25"
DOWN = "The history cannot be shown. The mail hook went away before it answered."

DELIVERY = {
    "recipient": "a@example.com",
    "verdict": "delivered",
    "step": "content",
    "reply": "250 ok",
    "time": "2026-11-23 14:03:24 +09:00 (KST)",
    "seconds": 1795410204.5,
    "local": ["2026-11-23", "14:03:24", ZONE],
}
REFUSED = {**DELIVERY, "recipient": "b@example.com", "verdict": "refused", "step": "recipient", "reply": "550 no"}
EVENT = {
    "number": 1742,
    "time": "2026-11-23 14:03:22 +09:00 (KST)",
    "seconds": 1795410202.25,
    "local": ["2026-11-23", "14:03:22", ZONE],
    "type": "fault",
    "code": "303",
    "name": "Audit log space: minor threshold exceeded",
    "source": "smart",
    "text": "Partition 2 is 91 % full\nPartition 3 is well",
    "state": "partly delivered",
    "mail": 1742,
    "deliveries": [DELIVERY, REFUSED],
    "again": [],
    "can": "send-again",
}
END = {
    "matched": 1,
    "kept": 1,
    "removed": {"info": 0, "fault": 0, "waiting": 0},
    "catalog_problem": "",
    "set_aside": [],
}


def event(**changes: Any) -> dict[str, Any]:
    return {"event": {**EVENT, **changes}}


def end(**changes: Any) -> dict[str, Any]:
    return {"end": {**END, **changes}}


@pytest.fixture
def hook(hook) -> FakeHook:
    """A hook with one event."""
    hook.answers["history"] = [event(), end()]
    return hook


@pytest.fixture
def pages(device, hook) -> Pages:
    return device


def table(page: Page) -> list[list[str]]:
    """The rows of the page's table as texts, the head first."""
    assert document.problems(page.text) == []
    (found,) = document.read(page.text).by_class("rows")
    return [[cell.text for cell in row.all("th") + row.all("td")] for row in found.all("tr")]


def events_of(root: document.Element) -> list[document.Element]:
    """The rows of the events."""
    (found,) = root.by_class("rows")
    return found.all("tr")[1:]


def test_a_link_in_a_mail_leads_to_the_row_of_its_event(pages, hook):
    hook.answers["history"] = [event(number=1741), end()]
    assert document.read(pages.get("/history").text).by_id("event-1741").name == "tr"


def test_an_answer_without_an_end_is_told_and_not_kept(pages, hook):
    hook.answers["history"] = (event(text="x" * 10_000) for _ in itertools.count())
    page = pages.get("/history")
    assert page.status == 503
    assert "The history cannot be shown. The mail hook’s answer is too long." in page.text.replace("&#039;", "’")


def test_text_of_the_device_is_in_korean_and_no_other(pages, hook):
    """The texts of a firmware, and those that an older version stored, are shown as they are."""
    line = "{when}: {host} port {port}, account {account}, security {security}"
    before = Message(line, when=Message("Before"), host="a.bb", port=1, account="a@b.cc", security="auto")
    own = {
        "source": Message("SMTP tab, from {by}", by="192.0.2.7"),
        "text": Message("{before}\n{now}", before=before, now="x"),
    }
    old = {"source": str(own["source"]), "text": str(own["text"])}
    events = [{"event": {**EVENT, **texts, "code": "902", "deliveries": []}} for texts in (own, old)]
    hook.answers["history"] = [*events, {"end": {"matched": 2, "kept": 2, "removed": {}}}]
    shown = document.read(pages.get("/history", HTTP_ACCEPT_LANGUAGE="ko").text)
    assert [each.text for each in shown.by_class("what")] == [
        "이전: a.bb 포트 1, 계정 a@b.cc, 보안 auto x",
        "Before: a.bb port 1, account a@b.cc, security auto x",
    ]
    assert [row.all("td")[3].all("p")[-1].text.partition(" · ")[2] for row in events_of(shown)] == [
        "SMTP 탭, 192.0.2.7에서",
        "SMTP tab, from 192.0.2.7",
    ]


@pytest.mark.parametrize(
    ("code", "name", "shown"),
    [
        ("901", "refused at " * 350, ("refused at " * 350).strip()),
        ("901", "Saved.", "Saved."),
        ("901", "Message from the system", "시스템 메시지"),
        ("303", "Saved.", "저장되었습니다."),
        ("303", "refused at " * 350, None),
    ],
)
def test_what_the_system_said_is_no_sentence_of_ours(pages, hook, code, name, shown):
    hook.answers["history"] = [event(code=code, name=name, text=""), end()]
    page = pages.get("/history", HTTP_ACCEPT_LANGUAGE="ko")
    assert page.status == 200
    assert table(page)[1][3].removesuffix(" smart") == shown or shown is None
    assert (MESSAGE_CODE, MESSAGE_NAME) == (MESSAGE.code, MESSAGE.name)


def links(page: Page) -> dict[str, dict[str, str]]:
    """The query of each link of the page, by its text."""
    (main,) = document.read(page.text).all("main")
    return {each.text: dict(parse_qsl(urlsplit(each.attributes["href"]).query)) for each in main.all("a")}


def said(page: Page) -> str:
    """The text of the page's main part."""
    (main,) = document.read(page.text).all("main")
    return main.text


# Who may see it


@pytest.mark.parametrize("path", ["/history", "/history.csv"])
def test_a_session_is_needed(pages, hook, path):
    answer = dataclasses.replace(pages, cookie="").get(path)
    assert (answer.status, answer.headers["location"], hook.heard) == (303, "/login?to=%2Fhistory", [])


@pytest.mark.parametrize("path", ["/history.csv"])
def test_nothing_can_be_posted(pages, path):
    assert pages.post(path, {}).status == 405
    assert pages.post(path, {}, HTTP_ORIGIN="http://evil.example").status == 403


def test_the_pages_lead_to_it_after_the_recipients(pages):
    (nav,) = document.read(pages.get("/history").text).all("nav", **{"aria-label": "Pages"})
    assert [each.text for each in nav.all("a")] == ["SMTP", "Recipients", "History", "Others"]
    assert [each.text for each in nav.all("a", **{"aria-current": "page"})] == ["History"]


# What is shown


def test_an_event_is_a_row_with_what_became_of_it(pages):
    answer = pages.get("/history")
    assert answer.status == 200
    head, row = table(answer)
    assert head == ["Number ▼", "Time", "Type Code", "What happened Name Source", "Delivery"]
    assert row == [
        "1742",
        "2026-11-23 14:03:22",
        "fault 303",
        "Partition 2 is 91 % full Partition 3 is well Audit log space: minor threshold exceeded · smart",
        "! partly delivered Send again "
        "a@example.com: delivered, 250 ok, 2026-11-23 14:03:24 "
        "b@example.com: refused at recipient, 550 no, 2026-11-23 14:03:24",
    ]
    assert "Times in +09:00 (KST)." in said(answer)


def test_a_time_of_a_different_zone_says_so(pages, hook):
    other = {"time": "2026-07-01 14:03:22 +08:00 (XST)", "local": ["2026-07-01", "14:03:22", "+08:00 (XST)"]}
    hook.answers["history"] = [event(deliveries=[]), event(deliveries=[]), event(**other, deliveries=[]), end()]
    times = [row.all("td")[1].text for row in events_of(document.read(pages.get("/history").text))]
    assert times == ["2026-11-23 14:03:22"] * 2 + ["2026-07-01 14:03:22 +08:00 (XST)"]


def test_each_code_leads_to_its_description(pages):
    (row,) = events_of(document.read(pages.get("/history").text))
    (link,) = row.all("td")[2].all("a")
    assert (link.text, link.attributes["href"]) == ("303", "/others/event-codes?code=303#code-303")


@pytest.mark.parametrize(
    ("deliveries", "folded"),
    [
        ([DELIVERY], "1 recipient"),
        ([DELIVERY, {**DELIVERY, "recipient": "b@example.com"}], "2 recipients"),
        ([DELIVERY, {**DELIVERY, "recipient": "b@example.com", "reply": "250 other"}], "2 recipients"),
        ([DELIVERY, REFUSED], ""),
        ([REFUSED], ""),
    ],
)
def test_recipients_are_folded_unless_one_failed(pages, hook, deliveries, folded):
    state = "refused" if deliveries == [REFUSED] else "delivered" if folded else "partly delivered"
    hook.answers["history"] = [event(state=state, deliveries=deliveries), end()]
    cell = events_of(document.read(pages.get("/history").text))[0].all("td")[4]
    assert [each.text for each in cell.all("summary")] == [folded] * bool(folded)
    assert len(cell.all("li")) == len(deliveries)


@pytest.mark.parametrize(
    ("planned", "told"),
    [(1795410202.0, "2026-11-23"), (None, "when the problem is solved"), (0.0, "soon")],
)
def test_what_waits_says_when_it_is_tried(pages, hook, planned, told):
    hook.answers["history"] = [event(state="waiting", can="try-now", deliveries=[], next=planned), event(), end()]
    first, second = (row.all("td")[4].text for row in events_of(document.read(pages.get("/history").text)))
    assert f"Next try: {told}" in first and "Next try" not in second


WAITING = {"recipient": "", "verdict": "waiting", "step": "login", "reply": "535 no", "time": "", "seconds": None}


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ([WAITING], ["waiting at login, 535 no"]),
        (
            [{**WAITING, "recipient": each} for each in "ab"],
            ["a: waiting at login, 535 no", "b: waiting at login, 535 no"],
        ),
        ([{**WAITING, "recipient": "a@b.c", "step": "", "reply": ""}], ["a@b.c: waiting"]),
        ([{**WAITING, "step": "", "reply": ""}], []),
        ([], []),
    ],
)
def test_a_mail_that_waits_is_told_with_its_last_answer(pages, hook, ends, told):
    hook.answers["history"] = [event(state="waiting", deliveries=ends), end()]
    cell = events_of(document.read(pages.get("/history").text))[0].all("td")[4]
    assert [each.text for each in cell.all("li")] == told
    assert [each.text for each in cell.by_class("sub-line")] == (["535 no"] if "535" in "".join(told) else [])
    assert rows(pages.get("/history.csv"))[1][9] == "; ".join(told).replace("535 no", "“535 no”")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("one\n\ntwo\nthree", "one\ntwo …"),
        ("x" * 161, "x" * 160 + " …"),
        ("경" * 170 + "\nb", "경" * 160 + " …"),
    ],
)
def test_a_long_text_begins_in_the_row_and_is_in_full_behind_it(pages, hook, text, title):
    hook.answers["history"] = [event(text=text), end()]
    (details,) = document.read(pages.get("/history").text).by_class("what")
    assert (details.all("summary")[0].content, details.all("p")[0].content) == ([title], [text])


def test_an_event_without_a_text_has_its_name_and_nothing_to_open(pages, hook):
    hook.answers["history"] = [event(text="", deliveries=[]), end()]
    (row,) = events_of(document.read(pages.get("/history").text))
    assert row.all("details") == []
    assert [each.text for each in row.all("td")[3].all("p")] == ["Audit log space: minor threshold exceeded", "smart"]


def test_a_message_of_the_system_has_its_subject_and_its_text_behind_it(pages, hook):
    hook.answers["history"] = [event(code="901", name="backup failed", text="No space left.", deliveries=[]), end()]
    (row,) = events_of(document.read(pages.get("/history").text))
    assert row.by_class("what")[0].text == "backup failed"
    assert [each.text for each in row.all("details")] == ["Text No space left."]


@pytest.mark.parametrize(("mail", "told"), [(0, "… waiting"), (1742, "… waiting"), (1740, "… waiting , in mail 1740")])
def test_the_mail_is_told_when_it_is_another_events(pages, hook, mail, told):
    hook.answers["history"] = [event(state="waiting", mail=mail, deliveries=[], can=""), end()]
    assert table(pages.get("/history"))[1][4] == told


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({"info": 3, "fault": 2, "waiting": 1}, "so far: 3 infos, 2 faults, 1 still waiting for their mail."),
        ({"info": 0, "fault": 2, "waiting": 0}, "so far: 2 faults."),
    ],
)
def test_what_the_limit_removed_is_told(pages, hook, counts, told):
    hook.answers["history"] = [event(), end(removed=counts)]
    assert f"Removed by the ledger’s limit {told}" in said(pages.get("/history"))


def test_nothing_removed_is_not_told(pages):
    assert "Removed" not in said(pages.get("/history"))


def test_a_history_that_was_set_aside_is_told(pages, hook):
    hook.answers["history"] = [event(), end(set_aside=["ledger.sqlite3.damaged-1", "ledger.sqlite3.damaged-2"])]
    (told,) = document.read(pages.get("/history").text).by_class("problem")
    assert told.text == (
        "An earlier history was damaged or lost. What is left of it was set aside as ledger.sqlite3.damaged-1, "
        "ledger.sqlite3.damaged-2; mail that waited in it was not sent."
    )


def test_a_broken_catalogue_of_the_maker_is_told(pages, hook):
    hook.answers["history"] = [event(), end(catalog_problem="line 3, column 7: no such type.")]
    (banner,) = document.read(pages.get("/history").text).by_class("banner")
    assert banner.text == (
        "The maker’s events.toml is not used: line 3, column 7: no such type. The built-in catalogue is in its place."
    )


def test_the_banner_of_the_mail_path_stands_above(pages, hook):
    state = {"problem": "storage", "reply": "disk full", "what": {"is": "new"}}
    hook.answers["state"] = [{"state": {**WELL["state"], **state}}]
    (banner,) = document.read(pages.get("/history").text).by_class("banner")
    assert banner.text == "The device's storage has a problem: disk full. Mail may be late."


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({"removed": 3}, "3 events were removed before they could be mailed, since the history was full."),
        (
            {"clock": "1970-01-01 00:12 +0000"},
            "The device's clock is not set (it says 1970-01-01 00:12 +0000): mail waits up to ten minutes for the right time.",
        ),
        (
            {"problem": "full"},
            "The device's disk is full. Events are accepted while its reserve lasts; free some space.",
        ),
    ],
)
def test_the_banner_tells_what_else_is_wrong(pages, hook, state, sentence):
    hook.answers["state"] = [{"state": {**WELL["state"], **state}}]
    (banner,) = document.read(pages.get("/history").text).by_class("banner")
    assert banner.text == sentence


@pytest.mark.parametrize(
    ("problem", "links"),
    [
        ("refused", [("Send it again from History", "/history?outcome=not+delivered")]),
        ("dropped", [("Send it again from History", "/history?outcome=not+delivered")]),
        ("login refused", [("Open the SMTP tab", "/smtp")]),
        ("server", [("Open the SMTP tab", "/smtp")]),
        ("full", []),
    ],
)
def test_the_banner_leads_to_the_page_that_helps(pages, hook, problem, links):
    hook.answers["state"] = [{"state": {**WELL["state"], "problem": problem}}]
    found = {path: document.read(pages.get(path).text).by_class("banner")[0].all("a") for path in ("/history", "/smtp")}
    assert [(each.text, each.attributes["href"]) for each in found["/history"]] == links
    # Not to the page that is shown.
    assert [each.attributes["href"] for each in found["/smtp"]] == [to for _, to in links if to != "/smtp"]


@pytest.mark.parametrize(("query", "told"), [("", "There are no events yet."), ("code=999", "No event matches.")])
def test_an_empty_history_is_told(pages, hook, query, told):
    hook.answers["history"] = [end(matched=0, kept=0)]
    answer = pages.get("/history", query)
    assert told in said(answer)
    assert document.read(answer.text).all("table") == []


def times(answer):
    return [(each.attributes["datetime"], each.text) for each in document.read(answer.text).all("time")]


def test_each_time_has_its_date_for_the_browser(pages):
    assert times(pages.get("/history")) == [
        ("2026-11-23T05:03:22Z", "2026-11-23 14:03:22"),
        ("2026-11-23T05:03:24Z", "2026-11-23 14:03:24"),
        ("2026-11-23T05:03:24Z", "2026-11-23 14:03:24"),
    ]


@pytest.mark.parametrize("seconds", [None, 1e18, -1e18, float("inf"), float("nan"), "x", [], {}])
def test_a_time_without_a_date_is_text(pages, hook, seconds):
    time = "not known (the device's clock was not set)"
    hook.answers["history"] = [event(time=time, seconds=seconds, local=None, deliveries=[]), end()]
    answer = pages.get("/history")
    assert (table(answer)[1][1], times(answer)) == (time, [])


def test_a_time_in_an_answer_of_the_mail_server_is_text(pages, hook):
    reply = "450 try again after 2026-11-23 14:03:22 +09:00 (KST)"
    hook.answers["history"] = [event(deliveries=[{**DELIVERY, "reply": reply}]), end()]
    assert len(times(pages.get("/history"))) == 2


def test_the_table_can_be_scrolled_with_the_keyboard(pages):
    (region,) = document.read(pages.get("/history").text).by_class("scroll")
    assert region.attributes.items() >= {"role": "region", "aria-label": "Events", "tabindex": "0"}.items()


def test_markup_in_what_the_hook_says_stays_text(pages, hook):
    names = ("time", "type", "code", "name", "source", "text", "state", "number")
    delivery = dict.fromkeys(DELIVERY, EVIL)
    hook.answers["history"] = [
        event(**dict.fromkeys(names, EVIL), mail=EVIL, local=None, deliveries=[delivery]),
        end(catalog_problem=EVIL, removed={"info": EVIL}, set_aside=[EVIL]),
    ]
    answer = pages.get("/history")
    assert answer.text.count("<script") == 2  # the page's own
    # The event's seven texts (its title is its name), its delivery's five, the catalogue's, the removed ones' and the set aside one's.
    assert document.problems(answer.text) == [] and said(answer).count(EVIL) == 15


# Filters, columns, pages


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", {}),
        ("from=&to=&type=&code=+", {}),
        (FILTERED, FILTERS),
        ("code=+303+", {"code": "303"}),
        ("sort=source", {"sort": "source"}),
        ("sort=time&order=up", {"sort": "time", "descending": False}),
        ("sort=nothing&order=sideways", {}),
        ("page=3", {"offset": 100}),
        ("page=0", {}),
        ("page=-1", {}),
        ("page=9999999", {}),
        ("page=%D9%A3", {}),
        ("limit=7&offset=3&do=event", {}),
        ("code=1&code=2", {"code": "2"}),
        ("code=%FF", {"code": "\ufffd"}),
    ],
)
def test_the_address_is_what_is_asked(pages, hook, query, asked):
    assert pages.get("/history", query).status == 200
    assert hook.heard == [{**FIRST_PAGE, **asked}]


def test_an_address_with_hundreds_of_fields_is_refused(pages, hook):
    assert (pages.get("/history", "a=1&" * 300).status, hook.heard) == (400, [])


def test_the_filters_start_with_what_was_asked(pages):
    root = document.read(pages.get("/history", FILTERED).text)
    values = {name: root.by_id(name).attributes["value"] for name in ("from", "to", "code")}
    assert values == {"from": "2026-11-01", "to": "2026-11-30", "code": "303"}
    assert [each.text for each in root.by_id("type").all("option", selected="")] == ["fault"]


def test_a_filter_keeps_the_order(pages):
    shape = document.read(pages.get("/history", "sort=code&order=up").text).all("form", action="/history")[0]
    hidden = {each.attributes["name"]: each.attributes["value"] for each in shape.all("input", type="hidden")}
    assert hidden == {"sort": "code", "order": "up"}
    assert shape.attributes.get("method", "get") == "get"


@pytest.mark.parametrize("column", range(7))
def test_each_columns_head_sorts_by_it_and_keeps_the_filters(pages, column):
    asked = links(pages.get("/history", f"{FILTERED}&sort=number&order=up&page=1"))
    head = "Number ▲" if column == 0 else HEADS[column]
    assert asked[head] == {**FILTERS, "sort": SORTS[column], "order": "down"}


def test_the_head_of_the_sorted_column_turns_it_round_and_says_so(pages):
    answer = pages.get("/history", "sort=time")
    assert links(answer)["Time ▼"] == {"sort": "time", "order": "up"}
    heads = document.read(answer.text).all("th")
    assert [each.attributes.get("aria-sort") for each in heads] == [None, "descending", *[None] * 3]


@pytest.mark.parametrize(
    ("page", "shown", "found"),
    [
        (1, "Events 1 to 50 of 120 that match; 999 are kept.", {"Next": "2"}),
        (2, "Events 51 to 100 of 120 that match; 999 are kept.", {"Previous": "1", "Next": "3"}),
        (3, "Events 101 to 120 of 120 that match; 999 are kept.", {"Previous": "2"}),
        (9, "This page is empty: there are 120 events.", {"Previous": "3"}),
    ],
)
def test_pages_of_fifty_are_counted_and_keep_the_filters(pages, hook, page, shown, found):
    events = [event(number=number) for number in range(120)][(page - 1) * 50 : page * 50]
    hook.answers["history"] = [*events, end(matched=120, kept=999)]
    answer = pages.get("/history", f"{FILTERED}&sort=code&order=up&page={page}")
    assert document.problems(answer.text) == [] and shown in said(answer)
    ways = {name: query for name, query in links(answer).items() if name in ("Previous", "Next")}
    assert ways == {name: {**FILTERS, "sort": "code", "order": "up", "page": to} for name, to in found.items()}
    assert f"Page {page} of 3" in said(answer)


def test_one_page_needs_no_pages(pages):
    assert "Page 1" not in said(pages.get("/history"))
    assert "Events 1 to 1 of 1." in said(pages.get("/history"))


@pytest.mark.parametrize("path", ["/history", "/history.csv"])
def test_a_filter_that_is_none_is_told(pages, hook, path):
    hook.answers["history"] = [{"error": "bad-request", "reason": f"{EVIL} is no date"}]
    answer = pages.get(path, "from=yesterday")
    assert answer.status == 422
    assert document.problems(answer.text) == []
    assert f"Please change the filter. {EVIL} is no date." in said(answer)


def test_a_filter_that_is_none_is_told_beside_the_filters_and_kept(pages, hook):
    hook.answers["history"] = [{"error": "bad-request", "reason": "yesterday is no date"}]
    root = document.read(pages.get("/history", "from=yesterday").text)
    shape = root.all("form", action="/history")[0]
    assert shape.by_id("wrong").text == "Please change the filter. Yesterday is no date."
    # As text: a browser shows nothing of a date field's value that is no date, and HTML allows none.
    kept = {"value": "yesterday", "type": "text", "aria-describedby": "wrong"}
    assert root.by_id("from").attributes.items() >= kept.items()
    assert "No event matches." not in said(pages.get("/history", "from=yesterday"))


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ([], DOWN),
        ([event()], DOWN),
        ([{"error": "not-stored", "reason": f"disk {EVIL}"}], f"The history cannot be shown. Disk {EVIL}."),
    ],
)
def test_a_hook_without_an_answer_is_told_on_the_page(pages, hook, answers, sentence):
    hook.answers["history"] = answers
    answer = pages.get("/history", FILTERED)
    assert answer.status == 503
    root = document.read(answer.text)
    assert [each.text for each in root.by_class("problem")] == [sentence]
    assert root.all("table") == [] and root.by_id("code").attributes["value"] == "303"


# What is asked for an event


AGAIN = {
    "number": 1750,
    "action": "send again",
    "time": "2026-11-23 15:00:00 +09:00 (KST)",
    "seconds": 1795413600.0,
    "local": ["2026-11-23", "15:00:00", ZONE],
    "source": Message("History, from {by}", by="192.0.2.7"),
    "waiting": False,
    "deliveries": [{**DELIVERY, "recipient": "b@example.com"}],
}
ASKED = {"query": "code=303&sort=code&order=up&page=2", "send-again": "1742"}


def test_the_entry_says_that_it_was_sent_again_when_by_whom_and_what_came_of_it(pages, hook):
    tried = {**AGAIN, "number": 1751, "action": "try now", "source": Message("History"), "deliveries": []}
    hook.answers["history"] = [event(again=[AGAIN, tried]), end()]
    cell = events_of(document.read(pages.get("/history").text))[0].all("td")[4]
    assert [each.text for each in cell.by_class("sub-line")] == [
        "↻ Sent again · 2026-11-23 15:00:00 · History, from 192.0.2.7",
        "↻ Tried at once · 2026-11-23 15:00:00 · History",
    ]
    assert [each.text for each in cell.all("li")][2:] == ["b@example.com: delivered, 250 ok, 2026-11-23 14:03:24"]
    assert rows(pages.get("/history.csv"))[1][10] == (
        "send again (mail 1750), History, from 192.0.2.7, 2026-11-23 15:00:00 +09:00 (KST): "
        "b@example.com: delivered, “250 ok”, 2026-11-23 14:03:24 +09:00 (KST); "
        "try now, History, 2026-11-23 15:00:00 +09:00 (KST)"
    )


def test_the_entry_says_it_in_korean(pages, hook):
    hook.answers["history"] = [event(again=[AGAIN]), end()]
    shown = document.read(pages.get("/history", HTTP_ACCEPT_LANGUAGE="ko").text)
    assert "↻ 다시 보냄 · 2026-11-23 15:00:00 · 이력 페이지, 192.0.2.7에서" in shown.text


@pytest.mark.parametrize(
    ("word", "notice"),
    [
        ("send-again", "Event 1742 is sent again. Its row shows the result."),
        ("try-now", "The mail of event 1742 is tried now."),
    ],
)
def test_a_button_asks_the_hook_and_returns_to_the_entry(pages, hook, word, notice):
    hook.answers[word] = [{"accepted": 1750}]
    hook.answers["history"] = [event(can=word), end()]
    (button,) = events_of(document.read(pages.get("/history").text))[0].all("button")
    form = {"query": ASKED["query"], button.attributes["name"]: button.attributes["value"]}
    answer = pages.post("/history", form, REMOTE_ADDR="192.0.2.7")
    assert (answer.status, answer.headers["location"]) == (303, f"/history?{ASKED['query']}#event-1742")
    assert hook.heard[-1] == {"do": word, "number": 1742, "by": "192.0.2.7"}
    assert notice in said(pages.get("/history")) and notice not in said(pages.get("/history"))


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        ({"error": "too-many", "reason": "x", "seconds": 30}, 429, "Too many at once. Please wait 30 s."),
        ({"error": "gone", "reason": "x"}, 409, "This event is not in the history any more."),
        ({"error": "not-mailed", "reason": "x"}, 409, "This event was not mailed."),
        ({"error": "held", "reason": "x"}, 409, NOTHING_TRIED),
        ({"error": "not-stored", "reason": f"disk {EVIL}"}, 503, f"Nothing was sent. Disk {EVIL}."),
    ],
)
def test_what_the_hook_refuses_is_told_above_the_same_page(pages, hook, error, status, sentence):
    hook.answers["send-again"] = [error]
    answer = pages.post("/history", ASKED)
    assert (answer.status, hook.heard[-1]["code"], hook.heard[-1]["offset"]) == (status, "303", 50)
    assert [each.text for each in document.read(answer.text).by_class("problem")] == [sentence]
    assert answer.headers.get("retry-after") == ("30" if status == 429 else None)


def test_a_second_click_is_answered_as_the_first(pages, hook):
    hook.answers["send-again"] = [{"error": "waiting", "reason": "x"}]
    assert pages.post("/history", ASKED).status == 303
    assert "Event 1742 is sent again. Its row shows the result." in said(pages.get("/history"))


@pytest.mark.parametrize(
    "form",
    [
        {"query": ""},
        {"send-again": ""},
        {"send-again": "x"},
        {"send-again": "1742 "},
        {"send-again": "-1"},
        {"send-again": "１"},
        {"delete": "1"},
    ],
)
def test_a_form_without_an_action_is_refused(pages, hook, form):
    assert pages.post("/history", form).status == 400
    assert hook.heard == []


def test_a_form_of_another_origin_does_nothing(pages, hook):
    assert pages.post("/history", ASKED, HTTP_ORIGIN="http://evil.example").status == 403
    assert hook.heard == []


def test_an_event_that_allows_nothing_has_no_button(pages, hook):
    hook.answers["history"] = [event(can=""), event(can="delete"), end()]
    assert [row.all("button") for row in events_of(document.read(pages.get("/history").text))] == [[], []]


# The picture


def bar(day: int, fault: int = 0, info: int = 0, lost: int = 0, hour: str = "") -> dict[str, Any]:
    name = f"2026-11-{day:02}"
    return {"from": name, "to": name, "hour": hour, "fault": fault, "info": info, "lost": lost}


def test_the_picture_has_a_link_and_a_row_for_each_day(pages, hook):
    hook.answers["history"] = [event(), end(bars=[bar(1, 2, 3, 1), bar(2), bar(3, 0, 4)])]
    root = document.read(pages.get("/history", "code=303&from=2026-11-01&to=2026-11-03&page=2").text)
    (section,) = root.by_class("picture")
    assert section.all("h2")[0].text == "2026-11-01 to 2026-11-03"
    (svg,) = section.all("svg")
    assert svg.attributes["aria-hidden"] == "true"
    assert {each.attributes["tabindex"] for each in svg.all("a")} == {"-1"}
    links = ["?day=2026-11-01&code=303", "?day=2026-11-02&code=303", "?day=2026-11-03&code=303"]
    assert [each.attributes["href"] for each in svg.all("a")] == links
    (rows_,) = section.all("tbody")
    found = [[cell.text for cell in row.all("th") + row.all("td")] for row in rows_.all("tr")]
    assert found == [["2026-11-01", "2", "3", "1"], ["2026-11-03", "0", "4", "0"]]
    assert [each.attributes["href"] for each in rows_.all("a")] == [links[0], links[2]]


def test_the_count_of_what_was_not_delivered_leads_to_it(pages, hook):
    hook.answers["history"] = [event(), end(bars=[bar(1, 2, 3, 2)])]
    (count,) = document.read(pages.get("/history", "code=303").text).by_class("legend")[0].by_class("u")
    assert [(each.text, each.attributes["href"]) for each in count.all("a")] == [
        ("not delivered 2", "/history?code=303&sort=number&order=down&outcome=not+delivered")
    ]
    hook.answers["history"] = [event(), end(bars=[bar(1, 2, 3)])]
    (count,) = document.read(pages.get("/history", "code=303").text).by_class("legend")[0].by_class("u")
    assert (count.all("a"), count.text) == ([], "▲ not delivered 0")


def test_a_day_in_the_address_is_a_filter_of_two_dates(pages, hook):
    hook.answers["history"] = [event(), end(bars=[bar(2, 1, hour=f"{hour:02}:00") for hour in range(24)])]
    answer = pages.get("/history", "day=2026-11-02&code=303")
    assert (hook.heard[-1]["from"], hook.heard[-1]["to"], hook.heard[-1]["code"]) == ("2026-11-02", "2026-11-02", "303")
    root = document.read(answer.text)
    assert root.by_id("from").attributes["value"] == "2026-11-02"
    assert root.all("svg")[0].all("a") == [] and root.by_id("picture").text == "2026-11-02"


def test_without_an_event_there_is_no_picture(pages, hook):
    hook.answers["history"] = [event(), end(bars=[bar(1), bar(2)])]
    assert document.read(pages.get("/history").text).all("svg") == []


def test_the_picture_is_small_at_the_worst(pages):
    """With every filter that is not a text, and none of the texts cuts a picture: it loses its links then."""
    worst = [bar(day, 49, 50, 1) for day in range(1, 32)]
    filters = "type=fault&code=303"
    with_filters = picture.svg(worst, Query(dict(parse_qsl(filters))).of_bar)
    assert len(with_filters.encode()) <= 4096
    plain = picture.svg(worst, Query({}).of_bar)
    assert (plain.count("<a "), len(plain.encode()) <= 4096) == (31, True)
    long = picture.svg(worst, Query({"text": "경" * 200}).of_bar)
    assert (long.count("<a "), len(long.encode()) <= 4096) == (0, True)
    weeks = [{**bar(1, 49, 50, 1), "to": "2026-11-16"} for _ in range(24)]
    assert (picture.svg(weeks, Query({}).of_bar).count("<a "), len(picture.svg(weeks, Query({}).of_bar)) <= 4096) == (
        24,
        True,
    )


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.booleans()), max_size=31))
def test_every_bar_is_seen_and_within_the_picture(counts):
    bars = [bar(1, fault, info, int(lost and fault + info > 0)) for fault, info, lost in counts]
    drawn = picture.svg(bars, lambda _: "")
    for name, count in (("i", "info"), ("f", "fault"), ("u", "lost")):
        moves = re.findall(r"M([0-9]+) (-?[0-9]+)", (re.findall(f'class="{name}" d="([^"]*)"', drawn) or [""])[0])
        assert [int(x) for x, _ in moves] == [place for place, each in enumerate(bars) if each[count]]
        assert all(6 <= int(y) <= 60 for _, y in moves)
    assert len(drawn.encode()) <= 4096


# The file


def rows(page: Page) -> list[list[str]]:
    return list(csv.reader(io.StringIO(page.text.removeprefix("\ufeff"), newline=""), strict=True))


def test_the_file_holds_everything_that_the_address_asks_for(pages, hook):
    hook.answers["history"] = [event(), event(number=1741, mail=0, deliveries=[]), end(matched=2)]
    answer = pages.get("/history.csv", f"{FILTERED}&sort=code&order=up&page=2")
    whole = {name: value for name, value in FIRST_PAGE.items() if name != "bars"}
    assert hook.heard == [{**whole, **FILTERS, "sort": "code", "descending": False, "limit": 0}]
    assert (answer.status, answer.headers["content-type"]) == (200, "text/csv; charset=UTF-8")
    assert answer.headers["content-disposition"] == 'attachment; filename="history.csv"'
    head, first, second = rows(answer)
    assert head == [
        "number",
        "time",
        "type",
        "code",
        "name",
        "source",
        "what became of it",
        "text",
        "mail",
        "deliveries",
        "sent again",
    ]
    assert first == [
        "1742",
        "2026-11-23 14:03:22 +09:00 (KST)",
        "fault",
        "303",
        "Audit log space: minor threshold exceeded",
        "smart",
        "partly delivered",
        "Partition 2 is 91 % full\nPartition 3 is well",
        "1742",
        "a@example.com: delivered, “250 ok”, 2026-11-23 14:03:24 +09:00 (KST); "
        "b@example.com: refused at recipient, “550 no”, 2026-11-23 14:03:24 +09:00 (KST)",
        "",
    ]
    assert (second[0], second[8:]) == ("1741", ["", "", ""])


def test_the_file_is_what_rfc_4180_says_and_opens_in_a_spreadsheet(pages, hook):
    hook.answers["history"] = [event(text='경보, "quoted"\r\nsecond line'), end()]
    text = pages.get("/history.csv").text
    assert text.startswith('\ufeff"number","time"') and text.endswith('"\r\n')
    assert '"경보, ""quoted""\r\nsecond line"' in text


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
@pytest.mark.parametrize("cell", ["source", "text", "name"])
def test_no_cell_is_a_formula(pages, hook, start, cell):
    hook.answers["history"] = [event(**{cell: f"{start}cmd|' /C calc'!A0"}), end()]
    assert f"\"'{start}cmd|' /C calc'!A0\"" in pages.get("/history.csv").text


def test_no_recipient_is_a_formula(pages, hook):
    hook.answers["history"] = [event(deliveries=[{**DELIVERY, "recipient": "=a@example.com"}]), end()]
    assert rows(pages.get("/history.csv"))[1][9].startswith("'=a@example.com")


@pytest.mark.parametrize("text", ["a=b", " =1", "'=1", "1-2", "half \ud800 a character"])
def test_what_is_no_formula_stays_as_it_is(pages, hook, text):
    hook.answers["history"] = [event(text=text), end()]
    assert rows(pages.get("/history.csv"))[1][7] == text.replace("\ud800", "?")


@pytest.mark.parametrize("count", [1, 500])
def test_a_file_that_broke_off_says_so_in_its_last_row(pages, hook, count):
    hook.answers["history"] = [event()] * count
    answer = pages.get("/history.csv")
    found = rows(answer)
    assert (answer.status, len(found)) == (200, count + 2)
    assert found[-1] == ["THIS FILE IS NOT COMPLETE. The mail hook went away before it answered.", *[""] * 10]


def test_a_whole_file_does_not_say_that_it_broke_off(pages):
    assert "NOT COMPLETE" not in pages.get("/history.csv").text


def test_an_empty_file_has_its_head(pages, hook):
    hook.answers["history"] = [end(matched=0)]
    assert len(rows(pages.get("/history.csv", "code=999"))) == 1


def test_a_hook_that_is_down_gives_a_page_and_no_file(pages, hook):
    hook.answers["history"] = []
    answer = pages.get("/history.csv")
    assert (answer.status, answer.headers["content-type"]) == (503, "text/html; charset=UTF-8")
    assert DOWN in said(answer) and "content-disposition" not in answer.headers


def test_the_page_leads_to_the_file_with_its_filters(pages):
    answer = pages.get("/history", f"{FILTERED}&sort=code&order=up&page=1")
    (link,) = [each for each in document.read(answer.text).all("a") if each.text == "All of them as CSV"]
    assert urlsplit(link.attributes["href"]).path == "/history.csv"
    assert links(answer)["All of them as CSV"] == {**FILTERS, "sort": "code", "order": "up"}


def test_the_file_begins_before_the_hook_has_said_everything(tmp_path):
    with Product(tmp_path) as product:
        make_keys(product.folders)
        with FakeHook(product.folders.socket) as hook:
            browser = product.start_web().logged_in()
            read = threading.Event()
            hook.answers["history"] = [*[event(text="x" * 1000)] * 50, read, end()]
            head = f"GET /history.csv HTTP/1.1\r\nHost: 127.0.0.1:{product.port}\r\nCookie: {browser.cookie}\r\nConnection: close\r\n\r\n"
            assert b"NOT COMPLETE" not in raw_until(product.port, head.encode(), read)


def raw_until(port: int, request: bytes, read: threading.Event) -> bytes:
    """The rest of an answer; `read` is set once its first 16 KiB were there."""
    with socket.create_connection(("127.0.0.1", port), 20) as sock, sock.makefile("rb") as answer:
        sock.sendall(request)
        try:
            assert b'"number"' in answer.read(16 * 1024)
        finally:
            read.set()
        return answer.read()
