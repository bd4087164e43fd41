"""The History page and its CSV file: what is asked of the hook, what is shown, what stays text."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from device_ui.config import Folders
from device_ui.errors import Message
from device_ui.mail.catalog import MESSAGE
from device_ui.web.pages.history import MESSAGE_CODE, MESSAGE_NAME
from tests.helpers import document
from tests.helpers.fake_hook import WELL, FakeHook, Pages, make_keys, signed_in
from tests.helpers.product import Page, Product

EVIL = "<script>alert(1)</script>\"'&amp;"
HEADS = ["Number", "Time", "Type", "Code", "Name", "Source", "What became of it"]
SORTS = ["number", "time", "type", "code", "name", "source", "state"]
FIRST_PAGE = {"do": "history", "sort": "number", "descending": True, "offset": 0, "limit": 50}
FILTERS = {"from": "2026-11-01", "to": "2026-11-30", "type": "fault", "code": "303"}
FILTERED = "from=2026-11-01&to=2026-11-30&type=fault&code=303"
DOWN = "The history cannot be shown. The mail hook went away before it answered."

DELIVERY = {
    "recipient": "a@example.com",
    "verdict": "delivered",
    "step": "content",
    "reply": "250 ok",
    "time": "2026-11-23 14:03:24 +09:00 (KST)",
    "seconds": 1795410204.5,
}
REFUSED = {**DELIVERY, "recipient": "b@example.com", "verdict": "refused", "step": "recipient", "reply": "550 no"}
EVENT = {
    "number": 1742,
    "time": "2026-11-23 14:03:22 +09:00 (KST)",
    "seconds": 1795410202.25,
    "type": "fault",
    "code": "303",
    "name": "Audit log space: minor threshold exceeded",
    "source": "smart",
    "text": "Partition 2 is 91 % full\nPartition 3 is well",
    "state": "partly delivered",
    "mail": 1742,
    "deliveries": [DELIVERY, REFUSED],
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


@pytest.fixture(scope="module")
def device(tmp_path_factory) -> Pages:
    folder = tmp_path_factory.mktemp("history")
    return signed_in(Folders(folder / "data", folder / "run", folder / "etc"))


@pytest.fixture(scope="module")
def running(device) -> Iterator[FakeHook]:
    with FakeHook(device.folders.socket) as fake:
        yield fake


@pytest.fixture
def hook(running) -> FakeHook:
    """A hook with one event."""
    running.reset().answers["history"] = [event(), end()]
    return running


@pytest.fixture
def pages(device, hook) -> Pages:
    return device


def table(page: Page) -> list[list[str]]:
    """The rows of the page's table as texts, the head first."""
    assert document.problems(page.text) == []
    found = document.read(page.text).all("tr")
    return [[cell.text for cell in row.all("th") + row.all("td")] for row in found]


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
    assert [each.text for each in shown.by_class("text")] == [
        "이전: a.bb 포트 1, 계정 a@b.cc, 보안 auto x",
        "Before: a.bb port 1, account a@b.cc, security auto x",
    ]
    assert [row.all("td")[5].text for row in shown.all("tr")[1:]] == [
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
    assert table(page)[1][4] == shown or shown is None
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


@pytest.mark.parametrize("path", ["/history", "/history.csv"])
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
    assert head == ["Number ▼", *HEADS[1:]]
    assert row[:4] == ["1742", "2026-11-23 14:03:22 +09:00 (KST)", "fault", "303"]
    assert row[4].startswith("Audit log space: minor threshold exceeded Text Partition 2 is 91 % full")
    assert row[5:] == [
        "smart",
        "partly delivered "
        "a@example.com: delivered, 250 ok, 2026-11-23 14:03:24 +09:00 (KST) "
        "b@example.com: refused at recipient, 550 no, 2026-11-23 14:03:24 +09:00 (KST)",
    ]


WAITING = {"recipient": "", "verdict": "waiting", "step": "login", "reply": "535 no", "time": "", "seconds": None}


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ([WAITING], ["waiting at login, 535 no"]),
        ([{**WAITING, "recipient": "a@b.c", "step": "", "reply": ""}], ["a@b.c: waiting"]),
        ([{**WAITING, "step": "", "reply": ""}], []),
        ([], []),
    ],
)
def test_a_mail_that_waits_is_told_with_its_last_answer(pages, hook, ends, told):
    hook.answers["history"] = [event(state="waiting", deliveries=ends), end()]
    assert [each.text for each in document.read(pages.get("/history").text).all("td")[6].all("li")] == told
    assert rows(pages.get("/history.csv"))[1][9] == "".join(told)


def test_the_text_is_in_full_behind_a_summary(pages):
    (details,) = document.read(pages.get("/history").text).all("details")
    assert details.all("summary")[0].text == "Text"
    assert details.by_class("text")[0].content == ["Partition 2 is 91 % full\nPartition 3 is well"]


def test_an_event_without_a_text_has_nothing_to_open(pages, hook):
    hook.answers["history"] = [event(text="", deliveries=[]), end()]
    assert document.read(pages.get("/history").text).all("details") == []


@pytest.mark.parametrize(("mail", "told"), [(0, "waiting"), (1742, "waiting"), (1740, "waiting, in mail 1740")])
def test_the_mail_is_told_when_it_is_another_events(pages, hook, mail, told):
    hook.answers["history"] = [event(state="waiting", mail=mail, deliveries=[]), end()]
    assert table(pages.get("/history"))[1][6] == told


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
        ("2026-11-23T05:03:22Z", "2026-11-23 14:03:22 +09:00 (KST)"),
        ("2026-11-23T05:03:24Z", "2026-11-23 14:03:24 +09:00 (KST)"),
        ("2026-11-23T05:03:24Z", "2026-11-23 14:03:24 +09:00 (KST)"),
    ]


@pytest.mark.parametrize("seconds", [None, 1e18, -1e18, float("inf"), float("nan"), "x", [], {}])
def test_a_time_without_a_date_is_text(pages, hook, seconds):
    time = "not known (the device's clock was not set)"
    hook.answers["history"] = [event(time=time, seconds=seconds, deliveries=[]), end()]
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
        event(**dict.fromkeys(names, EVIL), mail=EVIL, deliveries=[delivery]),
        end(catalog_problem=EVIL, removed={"info": EVIL}, set_aside=[EVIL]),
    ]
    answer = pages.get("/history")
    assert answer.text.count("<script") == 1
    # The event's eight texts, its delivery's five, the catalogue's, the removed ones' and the set aside one's.
    assert document.problems(answer.text) == [] and said(answer).count(EVIL) == 16


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
    (shape,) = document.read(pages.get("/history", "sort=code&order=up").text).all("form", action="/history")
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
    assert [each.attributes.get("aria-sort") for each in heads] == [None, "descending", *[None] * 5]


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
    (shape,) = root.all("form", action="/history")
    assert shape.by_id("wrong").text == "Please change the filter. Yesterday is no date."
    assert root.by_id("from").attributes.items() >= {"value": "yesterday", "aria-describedby": "wrong"}.items()
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


# The file


def rows(page: Page) -> list[list[str]]:
    return list(csv.reader(io.StringIO(page.text.removeprefix("\ufeff"), newline=""), strict=True))


def test_the_file_holds_everything_that_the_address_asks_for(pages, hook):
    hook.answers["history"] = [event(), event(number=1741, mail=0, deliveries=[]), end(matched=2)]
    answer = pages.get("/history.csv", f"{FILTERED}&sort=code&order=up&page=2")
    assert hook.heard == [{**FIRST_PAGE, **FILTERS, "sort": "code", "descending": False, "limit": 0}]
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
        "a@example.com: delivered, 250 ok, 2026-11-23 14:03:24 +09:00 (KST); "
        "b@example.com: refused at recipient, 550 no, 2026-11-23 14:03:24 +09:00 (KST)",
    ]
    assert (second[0], second[8:]) == ("1741", ["", ""])


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
    assert found[-1] == ["THIS FILE IS NOT COMPLETE. The mail hook went away before it answered.", *[""] * 9]


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
