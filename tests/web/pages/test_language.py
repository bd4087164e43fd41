"""The pages in Korean: by the browser's wish or by hand, without JavaScript, and with no English sentence left."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from device_ui.config import host_name
from tests.helpers import document
from tests.helpers.product import Browser, Page, Product, free_port, settings_form, wait_for

KOREAN = {"Accept-Language": "ko-KR,ko;q=0.9,en;q=0.8"}
SHOWN_ATTRIBUTES = re.compile(
    r"aria-label|title|alt|placeholder|label|data-(?!rows|script|pattern|length|idle|steps|saved|unsaved|decides|stored).*"
)
# What is written alike in both: names, protocols, choices that are typed, what this test typed and what a server said.
SAME = frozenset(
    """SMTP TLS STARTTLS EHLO HTML CSV UTF UTC IP English auto manual none provider tls starttls device ui setup code
    aaa xxx yyy qwe abc met all time Storage appliance smtpd toml
    Microsoft OAuth microsoft custom oauth certificate secret issuer scope""".split()
)
TYPED = re.compile(
    r"[^ ]+@[^ ]+|127\.0\.0\.1|Storage alarms|disk 2 is full|[0-9-]+ [0-9:]+ [+-][0-9:]+ \([A-Z]+\)|/nowhere|https://login\.example\.com"
)
PAGES = ("/smtp", "/recipients", "/history", "/history?type=info", "/history?code=x", "/others/event-codes", "/nowhere")


@pytest.fixture(scope="module")
def product(tmp_path_factory) -> Iterator[Product]:
    """A device with an event that waits for a server which is not there."""
    with Product(tmp_path_factory.mktemp("device")) as product:
        product.start()
        product.save(**settings_form(free_port()))
        product.event("303", "disk 2 is full")
        wait_for(lambda: product.state()["problem"] == "server", what="a failed attempt")
        yield product


@pytest.fixture(scope="module")
def reader(product) -> Browser:
    browser = product.logged_in()
    browser.headers.update(KOREAN)
    return browser


def english(page: Page) -> list[str]:
    """The English words that a page shows, in its text and in what is read out."""
    root = document.read(page.text)
    shown = [each.own_text for each in root.walk() if each.name not in ("pre", "script")]
    shown += [
        value for each in root.walk() for name, value in each.attributes.items() if SHOWN_ATTRIBUTES.fullmatch(name)
    ]
    return left(shown)


def left(shown: list[str]) -> list[str]:
    """The English words of texts."""
    words = (word for text in shown for word in re.findall(r"[A-Za-z]{3,}", TYPED.sub("", text)))
    return sorted({word for word in words if word not in SAME})


@pytest.mark.parametrize("path", PAGES)
def test_no_english_is_left_on(reader, path):
    page = reader.get(path)
    assert english(page) == []
    assert document.problems(page.text) == []


@pytest.fixture(scope="module")
def korean(tmp_path_factory) -> Iterator[Browser]:
    """Somebody who is logged in to a device that speaks Korean."""
    with Product(tmp_path_factory.mktemp("korean")) as product:
        product.maker('[device]\nlanguage = "ko"\n').start()
        product.save(**settings_form(free_port()))
        yield product.logged_in()


@pytest.mark.parametrize("form", ["single", "digest"])
@pytest.mark.parametrize("code", ["303", "901"])
def test_no_english_is_left_of_a_mail_that_is_shown(korean, code, form):
    """The mail's two parts are the recipients' language, and its headers are nobody's."""
    page = korean.get(f"/others/email-content?code={code}&form={form}")
    frames = [each.attributes["src"] for each in document.read(page.text).all("iframe")]
    mails = [document.read(korean.get(frame).text) for frame in frames]
    root = document.read(page.text)
    assert set(english(page)) <= set(left([each.text for each in root.all("dd")]))  # the mail's headers
    _, text = root.all("pre")
    told = [each.own_text for mail in mails for each in mail.walk() if each.name != "style"] + [text.text]
    told = [re.sub(f"https://.*|{re.escape(host_name())}", "", each) for each in told]
    assert (len(mails), [each for each in left(told) if each not in ("fault", "UTC")]) == (2, [])


def test_no_english_is_left_at_the_door(product, tmp_path):
    stranger = Browser(product.port, headers=dict(KOREAN))
    assert english(stranger.get("/login")) == english(stranger.post("/login", password="wrong")) == []
    with Product(tmp_path) as new:
        new.start_web()
        fresh = Browser(new.port, headers=dict(KOREAN))
        assert english(fresh.get("/setup")) == english(fresh.post("/setup", code="x", password="short")) == []


def test_no_english_is_left_of_what_is_broken(reader):
    page = reader.update(host="", port="x", sender_name="", account="x", password="Aa1!aaa")
    assert page.status == 422
    assert english(page) == []
    assert "SMTP 포트를 1에서 49151 사이로 입력하세요." in page.text


def test_no_english_is_left_of_a_test_that_fails(reader):
    """But for the server's own words."""
    form = settings_form(free_port())
    page = reader.post("/smtp/test", **{"revision": "", **form})
    assert "응답하는 서버가 없습니다" in page.text
    assert english(page) == []
    lines = reader.request(
        "POST",
        "/smtp/test",
        b"host=127.0.0.1&port=1&sender_name=a&account=a%40b.cc&password=Tr7%21kQ2%23pZ9w",
        {"Origin": f"http://127.0.0.1:{reader.port}", "Accept": "application/x-ndjson"},
    )
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert "서버" in json.loads(lines.text.splitlines()[-1])["result"]["advice"]


def test_no_english_is_left_on_the_recipients(reader):
    def posted(**form: str) -> Page:
        return reader.post("/recipients", revision=reader.get("/recipients").revision, **form)

    assert english(posted(do="add", address="x", lowest="info")) == []
    assert posted(do="add", address="a@b.cc", lowest="fault").status == 303
    assert english(reader.get("/recipients")) == []
    assert posted(do="change", address="a@b.cc", lowest="info", language="ko").status == 303
    (chosen,) = [each for each in document.read(reader.get("/recipients").text).all("select", id="language-0")]
    assert [each.text for each in chosen.all("option") if "selected" in each.attributes] == ["한국어"]
    assert posted(do="remove", address="a@b.cc").status == 303
    assert english(reader.get("/recipients")) == []


def test_a_page_says_its_language(product):
    browser = product.browser()
    for header, code in (("ko", "ko"), ("en-US,en", "en")):
        page = browser.get("/login", **{"Accept-Language": header})
        assert page.headers["content-language"] == document.read(page.text).all("html")[0].attributes["lang"] == code
        assert page.headers["vary"] == "Accept-Language, Cookie"


def test_a_choice_by_hand_outlives_the_browsers_wish(product):
    browser = Browser(product.port, headers=dict(KOREAN))
    page = browser.post("/language?page=/login", language="en")
    assert (page.status, page.headers["location"]) == (303, "/login")
    assert browser.cookie == "device-ui-language=en"
    assert {"httponly", "samesite=strict", "path=/"} <= set(page.headers["set-cookie"].lower().split("; "))
    assert browser.get("/login").headers["content-language"] == "en"


def test_the_footer_leads_back_to_the_page_that_it_stands_on(reader):
    (form,) = document.read(reader.get("/history?type=fault").text).all("footer")[0].all("form")
    assert (form.attributes["method"], form.attributes["action"]) == ("post", "/language?page=/history%3Ftype%3Dfault")
    assert [(each.text, each.attributes["lang"]) for each in form.all("button")] == [("English", "en")]
    page = Browser(reader.port).post("/language?page=/history%3Ftype%3Dfault", language="ko")
    assert page.headers["location"] == "/history?type=fault"
    page = Browser(reader.port).post("/language?page=/history%3Fcode%3D~1", language="ko")
    assert page.headers["location"] == "/history?code=~1"


@pytest.mark.parametrize(
    "page",
    ["", "//evil.example", "https://evil.example", "/%5C/evil", "/%5Cevil", "/a%0D%0Ab", "smtp"],
)
def test_a_choice_leads_to_no_other_host(product, page):
    assert product.browser().post(f"/language?page={page}", language="ko").headers["location"] == "/"


def test_the_chooser_has_a_label_and_says_which_language_is_shown(reader):
    (footer,) = document.read(reader.get("/smtp").text).all("footer")
    (form,) = footer.all("form")
    assert document.read(reader.get("/smtp").text).by_id(form.attributes["aria-labelledby"]).text == "언어:"
    assert [each.text for each in form.all("b")] == ["한국어"]
    assert [each.text for each in form.all("button")] == ["English"]


def test_a_language_that_is_not_there_is_refused(product):
    page = product.browser().post("/language", language="xx")
    assert page.status == 400
    assert "language" not in page.headers.get("set-cookie", "")


def test_another_origin_chooses_nothing(product):
    page = product.browser().request("POST", "/language", b"language=ko", {"Origin": "http://evil.example"})
    assert page.status == 403
    assert "language" not in page.headers.get("set-cookie", "")


def test_a_cookie_that_says_nothing_of_ours_is_passed_over(product):
    browser = Browser(product.port, cookie="device-ui-language=../../etc", headers=dict(KOREAN))
    assert browser.get("/login").headers["content-language"] == "ko"
