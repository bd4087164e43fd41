"""Others: the catalogue of event codes, and the mail of each code, shown without letting it do anything."""

from __future__ import annotations

import dataclasses

import pytest

from tests.helpers import document
from tests.helpers.fake_hook import FakeHook, Pages
from tests.helpers.product import Page

EVIL = "<script>alert(1)</script>\"'&amp;"
KEPT = {"code": "153", "type": "info", "name": "Mail sent", "description": "A mail was taken.", "mail": False}
FAULT = {"code": "303", "type": "fault", "name": "Audit log space", "description": "It runs full.", "mail": True}
INFO = {"code": "101", "type": "info", "name": "Power on", "description": "It was started.", "mail": True}
CONTENT = {
    "subject": "[fault 303] Storage appliance: at 80 % (Audit log space)",
    "from": "Storage alarms <alarm@mail.example.com>",
    "to": "a@example.com",
    "date": "Mon, 23 Nov 2026 14:03:22 +0900",
    "headers": "From: Storage alarms <alarm@mail.example.com>\nAuto-Submitted: auto-generated",
    "text": "Audit log space\n\nIt runs full.",
    "html": "<!DOCTYPE html><meta name='color-scheme' content='light dark'><style>:root{color-scheme:light dark}"
    "@media (prefers-color-scheme:dark){h1{color:#fff}}</style><h1 style='color:#000'>Audit log space</h1>",
}
PATHS = ["/others/event-codes", "/others/email-content"]


@pytest.fixture
def hook(hook) -> FakeHook:
    """A hook with a catalogue of three kinds."""
    kinds = [{"kind": each} for each in (INFO, KEPT, FAULT)]
    hook.answers |= {"catalog": [*kinds, {"end": {"problem": ""}}], "content": [{"content": CONTENT}]}
    return hook


@pytest.fixture
def pages(device, hook) -> Pages:
    return device


def read(page: Page) -> document.Element:
    """The page's main part; a page that is not sound fails the test."""
    assert document.problems(page.text) == []
    return document.read(page.text).all("main")[0]


# Both


@pytest.mark.parametrize("path", ["/others", *PATHS])
def test_a_session_is_needed(pages, hook, path):
    answer = dataclasses.replace(pages, cookie="").get(path)
    page = path.replace("/others/", "%2Fothers%2F") if path != "/others" else "%2Fothers%2Fevent-codes"
    assert (answer.status, answer.headers["location"], hook.heard) == (303, f"/login?to={page}", [])


@pytest.mark.parametrize("path", ["/others", PATHS[1]])
def test_nothing_can_be_posted(pages, path):
    assert pages.post(path, {}).status == 405
    assert pages.post(path, {}, HTTP_ORIGIN="http://evil.example").status == 403


def test_others_leads_to_the_event_codes(pages):
    answer = pages.get("/others")
    assert (answer.status, answer.headers["location"]) == (303, "/others/event-codes")


@pytest.mark.parametrize(("path", "current"), [(PATHS[0], "Event Codes"), (PATHS[1], "Email Content")])
def test_each_says_where_it_is(pages, path, current):
    answer = pages.get(path)
    assert answer.status == 200
    (sub,) = read(answer).all("nav", **{"aria-label": "Others"})
    assert [each.text for each in sub.all("a")] == ["Event Codes", "Email Content", "Access"]
    whole = document.read(answer.text)
    assert [each.text for each in whole.all("a", **{"aria-current": "page"})] == ["Others", current]
    assert whole.all("h1")[0].text == current


@pytest.mark.parametrize("path", PATHS)
def test_a_broken_catalogue_of_the_maker_is_told(pages, hook, path):
    hook.answers["catalog"] = [{"kind": FAULT}, {"end": {"problem": f"line 3: {EVIL}."}}]
    (banner,) = read(pages.get(path)).by_class("banner")
    assert (
        banner.text == f"The maker’s events.toml is not used: line 3: {EVIL}. The built-in catalogue is in its place."
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ([], "The event codes cannot be shown. The mail hook went away before it answered."),
        ([{"kind": FAULT}], "The event codes cannot be shown. The mail hook went away before it answered."),
        ([{"error": "not-stored", "reason": EVIL}], f"The event codes cannot be shown. {EVIL}."),
    ],
)
def test_a_hook_without_a_catalogue_is_told_on_the_page(pages, hook, path, said, sentence):
    hook.answers["catalog"] = said
    answer = pages.get(path, "code=303")
    assert answer.status == 503
    assert [each.text for each in read(answer).by_class("problem")] == [sentence]
    assert "Code Type Name" not in read(answer).text


@pytest.mark.parametrize("path", PATHS)
def test_the_banner_of_the_mail_path_stands_above(pages, hook, path):
    hook.answers["state"] = [{"state": {"problem": "password"}}]
    (banner,) = read(pages.get(path)).by_class("banner")
    assert banner.text == "The stored password cannot be opened. Mail waits until it is typed again. Open the SMTP tab"


# The catalogue


def test_each_kind_is_a_row(pages):
    rows = [[cell.text for cell in row.all("td")[:5]] for row in read(pages.get(PATHS[0])).all("tr")[1:]]
    assert rows == [
        ["101", "info", "Power on", "It was started.", "yes"],
        ["153", "info", "Mail sent", "A mail was taken.", "no, kept only"],
        ["303", "fault", "Audit log space", "It runs full.", "yes"],
    ]


def test_a_kind_leads_to_its_events_and_one_that_is_mailed_to_its_mail(pages):
    links = read(pages.get(PATHS[0])).all("table")[0].all("a")
    found = [(each.attributes["href"], each.attributes["aria-label"]) for each in links]
    assert [each for each in found if "mail" in each[0]] == [
        (f"/others/email-content?code={code}", f"yes, the mail of {code}") for code in ("101", "303")
    ]
    assert [each for each in found if "history" in each[0]] == [
        (f"/history?code={code}", f"History of {code}") for code in ("101", "153", "303")
    ]


@pytest.mark.parametrize(
    ("query", "codes", "said"),
    [
        ("", ["101", "153", "303"], ""),
        ("type=&code=&text=+", ["101", "153", "303"], ""),
        ("code=303", ["303"], "1 of 3 codes."),
        ("type=info", ["101", "153"], "2 of 3 codes."),
        ("type=info&text=MAIL", ["153"], "1 of 3 codes."),
        ("text=started", ["101"], "1 of 3 codes."),
        ("text=30", ["303"], "1 of 3 codes."),
        ("code=999", [], "No code matches."),
        ("type=warning", [], "No code matches."),
    ],
)
def test_the_address_filters_the_codes(pages, query, codes, said):
    main = read(pages.get(PATHS[0], query))
    rows = [row for table in main.all("table") for row in table.all("tr")[1:]]
    assert [row.all("td")[0].text for row in rows] == codes
    assert [row.attributes["id"] for row in rows] == [f"code-{code}" for code in codes]
    assert said in main.text and ("codes." in main.text) == (said.endswith("codes."))


def test_a_korean_reader_sees_who_a_mail_is_from_and_not_a_date(pages):
    page = pages.get(PATHS[1], "code=303", HTTP_ACCEPT_LANGUAGE="ko")
    assert [each.text for each in read(page).all("dt")] == ["제목", "발신자", "수신자", "날짜"]


def test_a_korean_reader_finds_a_code_in_both_languages(pages, hook):
    kind = {**FAULT, "name": "Audit log space: minor threshold exceeded"}
    hook.answers["catalog"] = [{"kind": kind}, {"kind": INFO}, {"end": {"problem": ""}}]
    for text in ("%EA%B0%90%EC%82%AC", "audit"):
        page = pages.get(PATHS[0], f"text={text}", HTTP_ACCEPT_LANGUAGE="ko")
        assert [row.all("td")[0].text for row in read(page).all("tr")[1:]] == ["303"]


def test_the_filters_keep_what_was_typed(pages):
    main = read(pages.get(PATHS[0], "type=info&code=1&text=%3Cb%3E"))
    assert [main.by_id(name).attributes["value"] for name in ("code", "text")] == ["1", "<b>"]
    assert [each.text for each in main.by_id("type").all("option", selected="")] == ["info"]


def test_markup_in_the_catalogue_stays_text(pages, hook):
    hook.answers["catalog"] = [{"kind": {**dict.fromkeys(FAULT, EVIL), "mail": True}}, {"end": {"problem": ""}}]
    answer = pages.get(PATHS[0])
    assert answer.text.count("<script") == 2  # the page's own
    assert read(answer).all("table")[0].text.count(EVIL) == 4
    assert pages.get(PATHS[1]).text.count("<script") == 2


# The mail


def test_the_code_that_is_asked_for_is_shown(pages, hook):
    main = read(pages.get(PATHS[1], "code=303"))
    assert hook.heard[-1] == {"do": "content", "code": "303", "count": 1}
    assert [each.text for each in main.by_id("code").all("option")] == ["101 Power on", "303 Audit log space"]
    assert [each.attributes["value"] for each in main.by_id("code").all("option", selected="")] == ["303"]
    assert [(each.text) for each in main.all("dd")] == [CONTENT[name] for name in ("subject", "from", "to", "date")]


def test_the_first_code_that_is_mailed_is_shown_when_none_is_asked_for(pages, hook):
    hook.answers["catalog"] = [{"kind": KEPT}, {"kind": FAULT}, {"end": {"problem": ""}}]
    pages.get(PATHS[1])
    assert hook.heard[-1] == {"do": "content", "code": "303", "count": 1}


def test_a_code_that_the_catalogue_does_not_have_is_shown_as_chosen(pages):
    options = read(pages.get(PATHS[1], "code=999")).by_id("code").all("option")
    assert [each.text for each in options if "selected" in each.attributes] == ["999"]


def test_a_code_that_is_kept_only_has_no_mail(pages, hook):
    answer = pages.get(PATHS[1], "code=153")
    assert (answer.status, [each["do"] for each in hook.heard]) == (200, ["catalog"])
    (problem,) = read(answer).by_class("problem")
    assert problem.text == "Events of the code 153 are kept in the history and never mailed."


def test_headers_and_text_are_shown_as_they_are(pages):
    headers, text = read(pages.get(PATHS[1])).all("pre")
    assert (headers.content, text.content) == ([CONTENT["headers"]], [CONTENT["text"]])


@pytest.mark.parametrize(("form", "count"), [("single", 1), ("digest", 3), ("", 1), ("other", 1)])
def test_a_single_mail_or_a_digest_is_shown(pages, hook, form, count):
    main = read(pages.get(PATHS[1], f"code=303&form={form}"))
    assert hook.heard[-1] == {"do": "content", "code": "303", "count": count}
    assert [each.attributes["value"] for each in main.by_id("form").all("option", selected="")] == [
        "digest" if count > 1 else "single"
    ]


def test_the_html_part_is_shown_light_and_dark_in_frames_that_can_do_nothing(pages):
    frames = read(pages.get(PATHS[1], "code=303&form=digest")).all("iframe")
    assert [each.attributes for each in frames] == [
        {
            "class": "card",
            "title": f"HTML, {scheme}",
            "sandbox": "",
            "src": f"/others/email-content/html?code=303&form=digest&scheme={scheme}",
        }
        for scheme in ("light", "dark")
    ]


HTML = f"{PATHS[1]}/html"


@pytest.mark.parametrize(
    ("query", "scheme", "media"),
    [("", "light", "not all"), ("scheme=x", "light", "not all"), ("scheme=dark", "dark", "all")],
)
def test_the_document_of_a_mail_has_the_colours_of_a_scheme(pages, query, scheme, media):
    answer = pages.get(HTML, f"code=303&{query}")
    assert answer.status == 200
    assert f":root{{color-scheme:{scheme}}}@media {media}{{" in answer.text


def test_the_document_of_a_mail_may_have_inline_styles_and_nothing_else(pages):
    headers = pages.get(HTML, "code=303").headers
    policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox"
    assert (headers["content-security-policy"], headers["x-frame-options"]) == (policy, "SAMEORIGIN")


def test_the_document_of_a_mail_needs_a_session(pages, hook):
    answer = dataclasses.replace(pages, cookie="").get(HTML, "code=303")
    assert (answer.status, hook.heard) == (303, [])


def test_a_document_without_a_mail_is_an_error_page(pages, hook):
    hook.answers["content"] = [{"error": "bad-request", "reason": "no code"}]
    answer = pages.get(HTML, "code=x")
    assert answer.status == 422
    assert "unsafe-inline" not in str(answer.headers)
    assert "The mail cannot be shown. No code." in answer.text


def test_markup_in_a_mail_never_stands_in_our_own_page(pages, hook):
    hook.answers["content"] = [{"content": dict.fromkeys(CONTENT, f'">{EVIL}</pre></iframe>')}]
    answer = pages.get(PATHS[1])
    main = read(answer)
    assert answer.text.count("<script") == 2
    assert (len(main.all("iframe")), len(main.all("pre")), main.all("script")) == (2, 2, [])


@pytest.mark.parametrize(
    ("said", "status", "sentence"),
    [
        ({"error": "bad-request", "reason": f"{EVIL} is no code"}, 422, f"The mail cannot be shown. {EVIL} is no code."),
        ({"error": "unset", "reason": "no settings"}, 503, "The mail cannot be shown before the SMTP tab is saved: it names the sender."),
        ({"error": "denied", "reason": "no"}, 503, "The mail cannot be shown. No."),
        ({"content": 7}, 503, "The mail cannot be shown. The mail hook's answer is not understood."),
    ],
)  # fmt: skip
def test_a_mail_that_is_not_to_be_had_is_told(pages, hook, said, status, sentence):
    hook.answers["content"] = [said]
    answer = pages.get(PATHS[1], "code=x")
    assert answer.status == status
    assert [each.text for each in read(answer).by_class("problem")] == [sentence]
    assert read(answer).all("iframe") == []


def test_without_a_kind_that_is_mailed_nothing_is_asked_for(pages, hook):
    hook.answers["catalog"] = [{"kind": KEPT}, {"end": {"problem": ""}}]
    assert pages.get(PATHS[1]).status == 200
    assert [each["do"] for each in hook.heard] == ["catalog"]
