"""A form that comes after its session's end loses nothing but its password: the login carries it along."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import pytest

from device_ui.web.pages import login as pages_login
from tests.helpers import document
from tests.helpers.fake_hook import FakeHook, Pages, signed_in
from tests.helpers.product import ADMIN_PASSWORD, PASSWORD, Page, settings_form

SESSION_OVER = (
    "Your session had ended, so nothing was saved. Sign in, and what you typed is there again, passwords excepted."
)
KEPT = "Nothing was saved yet. Below is what you typed before you signed in, the password excepted. Press Update again."
NOT_CHANGED = "Nothing was changed yet: you were not signed in. Please do it again."
TYPED = settings_form(2525, sender_name='<b>"Tom" & 김', security="tls", revision="")


@pytest.fixture
def pages(folders) -> Iterator[Pages]:
    """The pages, and nobody is signed in."""
    with FakeHook(folders.socket):
        yield dataclasses.replace(signed_in(folders), cookie="")


def problem(page: Page) -> str:
    """What the page says went wrong."""
    (told,) = document.read(page.text).by_class("problem")
    return told.text


def carried(page: Page) -> dict[str, str]:
    """The hidden fields of the login."""
    found = document.read(page.text).all("input", type="hidden")
    return {each.attributes["name"]: each.attributes["value"] for each in found}


def sign_in(pages: Pages, kept: Mapping[str, str], password: str = ADMIN_PASSWORD) -> Page:
    """Send the login form with what it carries; a cookie that comes is kept."""
    answer = pages.post("/login", {**kept, "password": password})
    pages.cookie = answer.headers.get("set-cookie", "").partition(";")[0]
    return answer


def shown(page: Page) -> dict[str, str]:
    """What stands in the fields of the tab."""
    root = document.read(page.text)
    return {name: root.by_id(name).attributes["value"] for name in ("host", "port", "sender_name", "account")}


@pytest.mark.parametrize("path", ["/smtp", "/smtp/test", "/smtp/trust"])
def test_what_was_typed_is_there_again_after_the_login(pages, folders, path):
    login = pages.post(path, TYPED)
    assert (login.status, problem(login)) == (403, SESSION_OVER)
    assert sign_in(pages, carried(login)).headers["location"] == "/smtp"
    tab = pages.get("/smtp")
    assert problem(tab) == KEPT
    assert shown(tab) == {name: TYPED[name] for name in ("host", "port", "sender_name", "account")}
    assert '<option value="tls" selected>' in tab.text
    assert not folders.settings.exists()


def test_the_password_is_nowhere_in_the_answers(pages):
    login = pages.post("/smtp", TYPED)
    sign_in(pages, carried(login))
    assert PASSWORD not in login.text + pages.get("/smtp").text


def test_what_was_kept_is_called_unsaved_and_shown_once(pages):
    sign_in(pages, carried(pages.post("/smtp", TYPED)))
    assert "data-unsaved" in pages.get("/smtp").text
    assert shown(pages.get("/smtp"))["host"] == ""


def test_a_wrong_login_in_between_loses_nothing(pages):
    first = pages.post("/smtp", TYPED)
    again = sign_in(pages, carried(first), "a wrong sentence")
    assert (again.status, problem(again)) == (403, "The password is not correct.")
    sign_in(pages, carried(again))
    assert shown(pages.get("/smtp"))["sender_name"] == TYPED["sender_name"]


def test_settings_that_changed_in_between_are_still_a_conflict(pages, folders):
    login = pages.post("/smtp", TYPED)
    other = dataclasses.replace(pages)
    sign_in(other, {})
    assert other.post("/smtp", TYPED).status == 303
    sign_in(pages, carried(login))
    root = document.read(pages.get("/smtp").text)
    (revision,) = root.all("input", name="revision")
    assert pages.post("/smtp", {**TYPED, "host": "x", "revision": revision.attributes["value"]}).status == 409


def test_an_address_that_was_typed_is_there_again(pages):
    login = pages.post("/recipients", {"do": "add", "address": "a@example.com", "lowest": "fault", "revision": ""})
    assert sign_in(pages, carried(login)).headers["location"] == "/recipients"
    page = pages.get("/recipients")
    assert problem(page) == NOT_CHANGED
    assert document.read(page.text).by_id("address").attributes["value"] == "a@example.com"


@pytest.mark.parametrize(
    ("query", "location"),
    [
        ("code=303&sort=number&order=down&page=2", "/history?code=303&sort=number&order=down&page=2"),
        ("", "/history"),
        ("x\r\nSet-Cookie: a=b", "/history"),
    ],
)
def test_the_filter_of_the_history_is_there_again(pages, query, location):
    login = pages.post("/history", {"send-again": "5", "query": query})
    assert sign_in(pages, carried(login)).headers["location"] == location
    assert problem(pages.get("/history")) == NOT_CHANGED


@pytest.mark.parametrize("do", ["change", "remove", "restore", ""])
def test_where_nothing_was_typed_nothing_is_promised(pages, do):
    login = pages.post("/recipients", {"do": do, "address": "a@example.com", "lowest": "fault", "revision": ""})
    told = "Your session had ended, so nothing was changed. Sign in, and do it again."
    assert (login.status, problem(login)) == (403, told)
    sign_in(pages, carried(login))
    page = pages.get("/recipients")
    assert problem(page) == NOT_CHANGED
    assert document.read(page.text).by_id("address").attributes["value"] == ""


def test_no_language_is_offered_that_would_lose_what_was_typed(pages):
    """Its button leads to an address, which carries no fields."""
    late = pages.post("/smtp", TYPED)
    again = sign_in(pages, carried(late), "a wrong sentence")
    assert [document.read(each.text).all("footer") for each in (late, again)] == [[], []]


def test_a_form_for_another_place_leads_to_the_tab(pages):
    for place in ("//evil.example", "/logout", ""):
        assert sign_in(pages, {"kept": place, "kept-host": "x"}).headers["location"] == "/smtp"
        assert shown(pages.get("/smtp"))["host"] == ""


def test_no_secret_is_ever_kept():
    assert [names for _, names in pages_login.SAVED_FORMS.values() if "password" in names] == []


def test_the_login_with_what_it_carries_is_sound(pages):
    assert document.problems(pages.post("/smtp", TYPED).text) == []
