"""Who asks for a page without a session is led back to it by the login, and nobody is led anywhere else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from device_ui.web.auth import return_path
from tests.helpers import document
from tests.helpers.fake_hook import FakeHook, Pages, signed_in
from tests.helpers.product import ADMIN_PASSWORD, Page


@pytest.fixture
def pages(folders) -> Iterator[Pages]:
    """The pages, and nobody is signed in."""
    with FakeHook(folders.socket):
        yield dataclasses.replace(signed_in(folders), cookie="")


def carried(page: Page) -> dict[str, str]:
    """The hidden fields of the login, besides its token."""
    found = document.read(page.text).all("input", type="hidden")
    return {each.attributes["name"]: each.attributes["value"] for each in found if each.attributes["name"] != "token"}


def led(pages: Pages, page: Page, password: str = ADMIN_PASSWORD) -> Page:
    """What answers the login form with what it carries."""
    return pages.post("/login", {**carried(page), "password": password})


def asked(pages: Pages, path: str, query: str = "") -> Page:
    """The login that a visitor without a session is sent to."""
    sent = pages.get(path, query)
    assert sent.status == 303
    door, _, found = sent.headers["location"].partition("?")
    assert door == "/login"
    return pages.get(door, found)


@pytest.mark.parametrize(
    ("path", "query", "page"),
    [
        ("/smtp", "", "/smtp"),
        ("/", "", "/smtp"),
        ("/recipients", "", "/recipients"),
        ("/recipients", "x=1", "/recipients"),
        ("/history", "", "/history"),
        ("/history", "type=fault&code=303&sort=time&page=2", "/history?type=fault&code=303&sort=time&page=2"),
        ("/history", "code=%0d%0a", "/history?code=%0d%0a"),
        ("/history.csv", "from=2026-11-23", "/history?from=2026-11-23"),
        ("/history", "code=~1&sort=number", "/history?code=~1&sort=number"),
        ("/others", "", "/others/event-codes"),
        ("/others/email-content", "code=303", "/others/email-content?code=303"),
        ("/history", "x" * 1001, "/history"),
        ("/history", "code=3#03", "/history"),
    ],
)
def test_the_login_leads_to_the_page_that_was_asked_for(pages, path, query, page):
    if path == "/":
        path = pages.get("/").headers["location"]
    assert led(pages, asked(pages, path, query)).headers["location"] == page


def test_a_wrong_password_in_between_forgets_no_page(pages):
    wrong = led(pages, asked(pages, "/history", "type=fault"), "not the sentence")
    assert wrong.status == 403
    assert led(pages, wrong).headers["location"] == "/history?type=fault"


@pytest.mark.parametrize("passwords", [[], ["not the sentence"]])
def test_another_language_in_between_forgets_no_page(pages, passwords):
    login = asked(pages, "/history", "type=fault")
    for each in passwords:
        login = led(pages, login, each)
    (footer,) = document.read(login.text).all("footer")
    (form,) = footer.all("form")
    path, _, query = form.attributes["action"].partition("?")
    sent = pages.post(path, {"language": "ko"}, QUERY_STRING=query)
    door, _, query = sent.headers["location"].partition("?")
    assert led(pages, pages.get(door, query)).headers["location"] == "/history?type=fault"


STRANGERS = [
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "https://evil.example/history",
    "javascript:alert(1)",
    "evil.example",
    "/history//evil.example",
    "/history@evil.example",
    "/history/../login",
    "/history\r\nSet-Cookie: a=b",
    "/history?a=b\r\nLocation: https://evil.example",
    "/history?a=b\n",
    "/history?a=b\0",
    "/history?//evil.example",
    "/history?\u2028",
    "/history#x",
    "/History",
    "/history ",
    " /history",
    "%2Fhistory",
    "%2F%2Fevil.example",
    "/%2Fevil.example",
    "/%5Cevil.example",
    "/\t/evil.example",
    "/logout",
    "/login",
    "/setup",
    "/static/app.js",
    "/health",
    "/recipients?do=remove",
    "/smtp/test",
    "/history?" + "x" * 1001,
    "/history?",
    "",
]


@pytest.mark.parametrize("address", STRANGERS)
def test_the_login_leads_nowhere_else(pages, address):
    """By its address, and by its form; spelt once, and once more."""
    assert return_path.checked(address) == ""
    for spelt in (quote(address, safe=""), quote(quote(address, safe=""), safe=""), "%FF", "to=" + quote(address)):
        login = pages.get("/login", f"to={spelt}")
        assert carried(login) == {}, spelt
        assert document.problems(login.text) == []
    answer = pages.post("/login", {"to": address, "password": ADMIN_PASSWORD})
    assert (answer.status, answer.headers["location"]) == (303, "/smtp")
    assert "a=b" not in answer.headers["set-cookie"]
