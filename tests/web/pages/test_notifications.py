"""Others › Event Codes: what is mailed, and when, in one form across the table of codes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from device_ui.settings.notifications import WITHOUT_CHOICE, Notifications, with_codes
from device_ui.settings.store import NotificationStore
from tests.helpers import document
from tests.helpers.fake_hook import FakeHook, Pages
from tests.helpers.product import Page
from tests.web.pages.test_event_codes import FAULT, INFO, KEPT

PATH = "/others/event-codes"
FORM = {"infos": "on", "summary_time": "08:00", "sign_of_life": "off"}


@pytest.fixture
def hook(hook) -> FakeHook:
    kinds = [{"kind": each} for each in (INFO, KEPT, FAULT)]
    hook.answers |= {"catalog": [*kinds, {"end": {"problem": ""}}]}
    return hook


@pytest.fixture
def pages(device, hook) -> Iterator[Pages]:
    """The pages of a device where nothing was chosen yet."""
    yield device
    for path in device.folders.settings.parent.glob("notifications*"):
        path.unlink()


def stored(pages: Pages) -> Notifications | None:
    return NotificationStore(pages.folders.notifications).read()[0]


def read(page: Page) -> document.Element:
    assert document.problems(page.text) == []
    return document.read(page.text).all("main")[0]


def chosen(page: Page) -> dict[str, str]:
    """The selected value of each choice."""
    found = {}
    main = read(page)
    rows = [each for each in main.all("select") if each.attributes.get("form") == "notify"]
    for select in (*main.by_id("notify").all("select"), *rows):
        (option,) = [each for each in select.all("option") if "selected" in each.attributes]
        found[select.attributes["name"]] = option.attributes["value"]
    return found


def save(pages: Pages, **fields: str) -> Page:
    revision = re.search(r'name="revision" value="([^"]*)"', pages.get(PATH).text)
    assert revision
    form = {"revision": revision[1], **FORM, **fields}
    return pages.post(PATH, form, HTTP_ORIGIN="http://127.0.0.1", HTTP_SEC_FETCH_SITE="same-origin")


def test_sign_of_life_has_its_own_choice_and_none_in_the_table(pages, hook):
    sign = {
        "code": "905",
        "type": "info",
        "name": "Sign of life",
        "description": "It mails.",
        "mail": True,
        "periodic": True,
    }
    hook.answers["catalog"] = [{"kind": FAULT}, {"kind": sign}, {"end": {"problem": ""}}]
    page = pages.get(PATH)
    assert chosen(page) == {"infos": "on", "sign_of_life": "off", "303": "at-once"}
    row = read(page).by_id("code-905")
    assert [each.attributes["href"] for each in row.all("a")][-1] == "#sign_of_life"
    assert read(page).by_id("sign_of_life").name == "select"


def test_at_first_everything_is_mailed_at_once(pages):
    page = pages.get(PATH)
    assert chosen(page) == {"infos": "on", "sign_of_life": "off", "101": "at-once", "303": "at-once"}
    assert read(page).by_id("summary_time").attributes["value"] == "08:00"


def test_what_is_chosen_is_stored_shown_and_notified(pages, hook):
    answer = save(pages, **{"infos": "off", "summary_time": " 07:30", "sign_of_life": "weekly", "303": "summary"})
    assert (answer.status, answer.headers["location"]) == (303, PATH)
    assert stored(pages) == with_codes(Notifications(False, "07:30", "weekly"), {"303": "summary"})
    assert {"do": "settings-changed"} in hook.heard
    page = pages.get(PATH)
    assert "Saved." in read(page).text
    assert chosen(page) == {"infos": "off", "sign_of_life": "weekly", "101": "at-once", "303": "summary"}
    assert "Saved." not in read(pages.get(PATH)).text


def test_a_code_that_the_form_does_not_have_keeps_its_choice(pages):
    assert save(pages, **{"303": "never", "777": "summary"}).status == 303
    assert save(pages, **{"101": "never"}).status == 303
    assert dict(stored(pages).codes) == {"101": "never", "303": "never", "777": "summary"}
    assert save(pages, **{"303": "at-once"}).status == 303
    assert dict(stored(pages).codes) == {"101": "never", "777": "summary"}


def test_a_time_that_is_none_is_reported_beside_it_and_kept(pages):
    answer = save(pages, **{"summary_time": "25:00", "303": "never"})
    assert answer.status == 422
    assert [each.text for each in read(answer).by_class("error")] == ["Please enter a time of day, such as 08:00."]
    assert read(answer).by_id("summary_time").attributes["value"] == "25:00"
    assert chosen(answer)["303"] == "never"
    assert stored(pages) is None


@pytest.mark.parametrize("field", [{"303": "later"}, {"infos": "maybe"}, {"sign_of_life": "hourly"}])
def test_a_value_that_no_form_has_is_refused(pages, field):
    assert save(pages, **field).status == 422
    assert stored(pages) is None


def test_the_second_of_two_keeps_its_own_values(pages):
    first = {"revision": "", **FORM, "303": "never"}
    assert pages.post(PATH, first, HTTP_SEC_FETCH_SITE="same-origin").status == 303
    answer = pages.post(PATH, {**first, "303": "summary"}, HTTP_SEC_FETCH_SITE="same-origin")
    assert answer.status == 409
    assert "The choices have changed since you opened this page" in read(answer).text
    assert chosen(answer)["303"] == "summary"
    assert dict(stored(pages).codes) == {"303": "never"}


def test_a_double_click_is_one_save(pages):
    form = {"revision": "", **FORM, "303": "never"}
    assert [pages.post(PATH, form, HTTP_SEC_FETCH_SITE="same-origin").status for _ in range(2)] == [303, 303]


def test_a_damaged_file_is_set_aside_and_reported(pages):
    assert save(pages, **{"303": "never"}).status == 303
    pages.get(PATH)
    pages.folders.notifications.write_text("infos = tru")
    page = pages.get(PATH)
    assert "It was set aside as notifications.toml.damaged-1" in read(page).text
    assert chosen(page)["303"] == "at-once"
    assert save(pages, **{"303": "summary"}).status == 303
    assert "damaged" not in read(pages.get(PATH)).text


def test_a_form_for_every_code_there_can_be_is_read(pages):
    codes = {f"{code:03}": "summary" for code in range(1000) if f"{code:03}" not in WITHOUT_CHOICE}
    assert save(pages, **codes).status == 303
    assert dict(stored(pages).codes) == codes


def test_choice_that_would_have_no_effect_is_not_saved(pages):
    assert save(pages, **{"905": "never", "303": "never"}).status == 422
    assert stored(pages) is None


def test_without_a_session_nothing_is_saved_and_the_choices_are_there_after_the_login(pages):
    visitor = Pages(pages.app, pages.folders)
    answer = visitor.post(PATH, {"revision": "", **FORM, "303": "never"}, HTTP_SEC_FETCH_SITE="same-origin")
    assert answer.status == 403
    assert 'name="kept-303" value="never"' in answer.text
    assert stored(pages) is None
