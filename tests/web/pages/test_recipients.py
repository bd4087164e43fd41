"""The Recipients page, on the real processes: add, change, remove, and what becomes of the mail."""

from __future__ import annotations

import email
import io
import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from device_ui.cli.demo_server import Mailbox, Server
from device_ui.config import Folders
from device_ui.settings.recipients import Recipient
from device_ui.settings.store import RecipientStore
from device_ui.web.pages.delivery_state import moment
from tests.helpers import document
from tests.helpers.fake_hook import IDLE, FakeHook, Pages, signed_in
from tests.helpers.product import Browser, Page, Product, free_port, read_only, settings_form, wait_for
from tests.web.pages.test_smtp import small_flash

NOBODY = "No address is listed. Mail will go to the SMTP account’s address once the SMTP tab is saved."


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with Product(tmp_path_factory.mktemp("recipients")) as product:
        yield product.start()


@pytest.fixture
def page(product: Product) -> Browser:
    """A browser that is logged in, on a device with nobody listed."""
    for path in product.folders.recipients.parent.glob("recipients.toml*"):
        path.unlink()
    return product.logged_in()


def do(browser: Browser, what: str, address: str, lowest: str = "info", revision: str | None = None) -> Page:
    if revision is None:
        match = re.search(r'name="revision" value="([^"]*)"', browser.get("/recipients").text)
        revision = match[1] if match else ""
    return browser.post("/recipients", do=what, address=address, lowest=lowest, revision=revision)


def listed(browser: Browser) -> list[tuple[str, str]]:
    """Every address of the page with the lowest type that is chosen for it."""
    entries = re.findall(r"<li>(.*?)</li>", browser.get("/recipients").text, re.DOTALL)
    pattern = re.compile(r'name="address" value="([^"]*)".*?<option value="(\w+)" selected>', re.DOTALL)
    return [match.groups() for entry in entries if (match := pattern.search(entry))]  # type: ignore[misc]


def test_with_nobody_listed_the_page_says_who_gets_the_mail(product, page):
    assert NOBODY in page.get("/recipients").text
    page.update(**settings_form(2525))
    try:
        assert "<strong>alarm@mail.example.com</strong>" in page.get("/recipients").text
    finally:
        product.folders.settings.unlink()


def test_an_address_is_added_changed_and_removed(page):
    assert do(page, "add", "first@example.com").status == 303
    assert "first@example.com is on the list." in page.get("/recipients").text
    assert do(page, "add", "second@example.com", "fault").status == 303
    assert listed(page) == [("first@example.com", "info"), ("second@example.com", "fault")]
    assert do(page, "change", "first@example.com", "fault").status == 303
    assert "first@example.com gets faults only." in page.get("/recipients").text
    assert do(page, "remove", "second@example.com").status == 303
    assert listed(page) == [("first@example.com", "fault")]


@pytest.mark.parametrize("address", ["", "nobody", "a@b.c\r\nx", '"><script>alert(1)</script>'])
def test_what_is_no_address_is_told_beside_its_field_and_kept(product, page, address):
    answer = do(page, "add", address, "fault")
    assert answer.status == 422
    assert "Please enter an e-mail address, such as name@example.com." in answer.text
    assert "<script>" not in answer.text
    assert '<option value="fault" selected>' in answer.text
    assert not product.folders.recipients.exists()


def test_two_people_at_once_do_not_overwrite_each_other(page):
    do(page, "add", "first@example.com")
    answer = do(page, "add", "mine@example.com", revision="")
    assert answer.status == 409
    assert "The list has changed since you opened this page" in answer.text
    assert "mine@example.com" in answer.text
    assert listed(page) == [("first@example.com", "info")]


def test_a_form_that_says_not_what_to_do_does_nothing(page):
    assert do(page, "", "a@b.c").status == 400


def test_a_damaged_list_is_set_aside_and_told(product, page):
    do(page, "add", "first@example.com")
    product.folders.recipients.write_bytes(b"\0" * 50)
    text = page.get("/recipients").text
    assert "It was set aside as recipients.toml.damaged-1" in text
    assert product.folders.recipients.with_name("recipients.toml.damaged-1").read_bytes() == b"\0" * 50
    assert do(page, "add", "again@example.com").status == 303
    assert "set aside" not in page.get("/recipients").text


def test_a_damaged_list_on_a_read_only_flash_is_told_and_nothing_is_called_saved(product, page):
    with small_flash(product):
        product.folders.recipients.write_bytes(b"damaged")
        folder = str(product.folders.settings.parent)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True, timeout=60)
        told = "The list is damaged and could not be read, and the file recipients.toml could not be set aside."
        assert told in page.get("/recipients").text
        answer = do(page, "add", "first@example.com")
        assert (answer.status, "Read-only file system" in answer.text) == (507, True)
        assert product.folders.recipients.read_bytes() == b"damaged"


def test_a_folder_in_the_place_of_the_list_is_set_aside_and_the_list_can_be_saved(product, page):
    product.folders.recipients.mkdir()
    kept = product.folders.recipients.with_name("recipients.toml.damaged-1")
    try:
        assert kept.name in page.get("/recipients").text
        assert do(page, "add", "a@b.c").status == 303
        assert kept.is_dir()
    finally:
        kept.rmdir()


def test_what_flash_does_not_take_is_not_called_done(product, page):
    do(page, "add", "first@example.com")
    with read_only(product.folders.recipients.parent):
        answer = do(page, "add", "second@example.com")
    assert answer.status == 507
    assert "Nothing was changed. The file recipients.toml could not be stored" in answer.text
    assert 'value="second@example.com"' in answer.text
    page.get("/recipients")
    assert listed(page) == [("first@example.com", "info")]


def test_the_twentieth_is_the_last(page):
    for number in range(20):
        assert do(page, "add", f"a{number}@b.c").status == 303
    text = page.get("/recipients").text
    assert "The list is full: 20 addresses. Remove one to add another." in text
    assert 'value="add"' not in text
    answer = do(page, "add", "one@more.example")
    assert answer.status == 422
    assert "The list holds 20 addresses at most. Remove one first." in answer.text


def test_nobody_without_a_session_sees_or_changes_it(product, page):
    stranger = product.browser()
    assert stranger.get("/recipients").headers["location"] == "/login?to=%2Frecipients"
    answer = do(stranger, "add", "a@b.c")
    assert (answer.status, document.read(answer.text).all("h1")[0].text) == (403, "Sign in")
    assert listed(page) == []


def test_the_page_is_sound_html_and_says_where_it_is(page):
    do(page, "add", "first@example.com")
    text = page.get("/recipients").text
    assert '<a href="/recipients" aria-current="page">Recipients</a>' in text
    assert document.problems(text) == []


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Product, Mailbox]]:
    """A device whose settings lead to a demo mail server, and whose every event is a mail of its own."""
    folder = tmp_path_factory.mktemp("demonstrated")
    mailbox = Mailbox(folder / "demo", out=io.StringIO())
    server = Server(mailbox, free_port())
    server.start()
    (folder / "device").mkdir()
    try:
        with Product(folder / "device") as product:
            product.maker("[mail]\ndigest_window = 0\n").start("--ca-file", str(mailbox.ca_file))
            product.save(**settings_form(server.port, account=mailbox.account, password=mailbox.password))
            yield product, mailbox
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def mailing(demonstrated: tuple[Product, Mailbox]) -> tuple[Product, Mailbox]:
    """The same without a list of recipients."""
    demonstrated[0].folders.recipients.unlink(missing_ok=True)
    return demonstrated


def mailed_to(product: Product, mailbox: Mailbox, *codes: str) -> list[str]:
    """Whom the mails of these events name as their recipients, in order."""
    before = set(mailbox.folder.glob("*.eml"))
    for code in codes:
        product.event(code, "x")
    wait_for(lambda: product.state()["waiting"] == 0, what="the mails")
    paths = sorted(set(mailbox.folder.glob("*.eml")) - before)
    mails = [email.message_from_bytes(path.read_bytes()) for path in paths]
    return [str(mail["To"]) for mail in mails]


def test_faults_reach_everybody_and_infos_who_wants_them(mailing):
    product, mailbox = mailing
    browser = product.logged_in()
    do(browser, "add", "all@example.com")
    do(browser, "add", "faults@example.com", "fault")
    assert mailed_to(product, mailbox, "303", "101") == ["all@example.com, faults@example.com", "all@example.com"]


def test_an_info_that_nobody_wants_is_done_without_a_mail(mailing):
    product, mailbox = mailing
    do(product.logged_in(), "add", "faults@example.com", "fault")
    assert mailed_to(product, mailbox, "101") == []


def test_while_the_list_is_damaged_an_alarm_reaches_the_account(mailing):
    product, mailbox = mailing
    product.folders.recipients.write_bytes(b"nonsense")
    assert mailed_to(product, mailbox, "303") == [mailbox.account]
    assert "mail goes to the SMTP account" in product.log("mailhook")


@pytest.mark.parametrize("what", ["add", "remove"])
def test_a_double_click_is_told_as_done(page, what):
    do(page, "add", "first@example.com")
    match = re.search(r'name="revision" value="([^"]*)"', page.get("/recipients").text)
    assert match
    address = "second@example.com" if what == "add" else "first@example.com"
    assert [do(page, what, address, revision=match[1]).status for _ in range(2)] == [303, 303]
    words = {"add": "second@example.com is on the list.", "remove": "first@example.com was removed."}
    assert words[what] in page.get("/recipients").text


# Undo


def undo(browser: Browser) -> dict[str, str]:
    """The fields of the form that takes back the last removal; empty when none is offered."""
    root = document.read(browser.get("/recipients").text)
    buttons = root.all("button", value="restore")
    if not buttons:
        return {}
    fields = buttons[0].parent.all("input")
    return {each.attributes["name"]: each.attributes["value"] for each in fields} | {"do": "restore"}


def test_a_removal_can_be_taken_back_and_the_list_is_as_it_was(page):
    for address, lowest in (("a@example.com", "info"), ("b@example.com", "fault"), ("c@example.com", "info")):
        do(page, "add", address, lowest)
    before = listed(page)
    do(page, "remove", "b@example.com")
    assert page.post("/recipients", **undo(page)).status == 303
    assert "b@example.com is on the list again." in page.get("/recipients").text
    assert listed(page) == before


def test_undo_is_offered_once_and_for_nothing_but_a_removal(page):
    do(page, "add", "a@example.com")
    assert undo(page) == {}
    do(page, "remove", "a@example.com")
    assert undo(page)["address"] == "a@example.com"
    assert undo(page) == {}


def test_undo_after_somebody_elses_change_is_a_conflict(page):
    do(page, "add", "a@example.com")
    do(page, "remove", "a@example.com")
    fields = undo(page)
    do(page, "add", "b@example.com")
    assert page.post("/recipients", **fields).status == 409


@pytest.mark.parametrize("place", ["99", "", "-1", "x", "٢"])
def test_an_odd_place_is_the_end(page, place):
    do(page, "add", "a@example.com")
    revision = document.read(page.get("/recipients").text).all("input", name="revision")[0].attributes["value"]
    form = {"do": "restore", "address": "b@example.com", "lowest": "info", "revision": revision}
    assert page.post("/recipients", **form, place=place).status == 303
    assert [address for address, _ in listed(page)] == ["a@example.com", "b@example.com"]


# What became of the last mail, the order, and a test to one address; the hook is a fake one.

NOW = time.time()


def result(recipient: str, verdict: str, reply: str, mail: int) -> dict[str, object]:
    step = "content" if verdict == "delivered" else "recipient"
    return {"recipient": recipient, "verdict": verdict, "step": step, "reply": reply, "time": NOW, "mail": mail}


RESULTS = [
    result("good@example.com", "delivered", "250 queued", 1742),
    result("gone@example.com", "refused", "550 5.1.1 no such user", 1741),
]
LISTED = (Recipient("good@example.com"), Recipient("new@example.com", "fault"), Recipient("gone@example.com"))


@pytest.fixture(scope="module")
def faked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pages, FakeHook]]:
    folder = tmp_path_factory.mktemp("faked")
    pages = signed_in(Folders(folder / "data", folder / "run", folder / "etc"))
    RecipientStore(pages.folders.recipients).save(LISTED, "")
    with FakeHook(pages.folders.socket) as hook:
        yield pages, hook


@pytest.fixture
def hook(faked: tuple[Pages, FakeHook]) -> FakeHook:
    hook = faked[1].reset()
    hook.answers["delivery"] = [{"delivery": {**IDLE["delivery"], "results": RESULTS}}]
    return hook


@pytest.fixture
def pages(faked: tuple[Pages, FakeHook], hook: FakeHook) -> Pages:
    return faked[0]


def entries(answer: Page) -> list[tuple[str, str]]:
    """Each address of the list and what is said of its last mail; a page that is not sound fails the test."""
    assert document.problems(answer.text) == []
    (found,) = document.read(answer.text).by_class("list")
    return [
        (each.all("input", name="address")[0].attributes["value"], " ".join(one.text for one in each.all("p")))
        for each in found.all("li")
    ]


def test_each_address_says_what_became_of_its_last_mail(pages):
    at = moment(NOW, NOW)
    assert entries(pages.get("/recipients")) == [
        ("good@example.com", f"✓ {at}, mail 1742: delivered, 250 queued"),
        ("new@example.com", ""),
        ("gone@example.com", f"✗ {at}, mail 1741: refused at recipient, 550 5.1.1 no such user"),
    ]


def test_without_the_hook_the_list_is_there_all_the_same(pages, hook):
    hook.answers["delivery"] = []
    assert [said for _, said in entries(pages.get("/recipients"))] == ["", "", ""]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("", ["good", "new", "gone"]),
        ("address", ["gone", "good", "new"]),
        ("gets", ["gone", "good", "new"]),
        ("result", ["gone", "new", "good"]),
        ("evil", ["good", "new", "gone"]),
    ],
)
def test_the_list_is_sorted_by_its_address_in_the_browser(pages, sort, order):
    found = [address.partition("@")[0] for address, _ in entries(pages.get("/recipients", f"sort={sort}"))]
    assert found == order


def test_a_change_keeps_the_order(pages):
    answer = pages.get("/recipients", "sort=result")
    form = {"do": "change", "address": "new@example.com", "lowest": "fault", "revision": answer.revision}
    assert {each.attributes["action"] for each in document.read(answer.text).by_class("list")[0].all("form")} == {
        "/recipients?sort=result"
    }
    sent = pages.post("/recipients", form, QUERY_STRING="sort=result")
    assert sent.headers["location"] == "/recipients?sort=result"


def test_a_test_goes_to_this_address_alone_with_the_stored_settings(pages, hook):
    taken = {"recipient": "gone@example.com", "verdict": "delivered", "step": "content", "reply": "250 ok"}
    step = {"step": {"name": "connect", "seconds": 0.1, "told": "port 587"}}
    end = {
        "verdict": "delivered",
        "step": "",
        "problem": "",
        "reply": "",
        "field": "",
        "advice": "",
        "recipients": [taken],
    }
    hook.answers["test"] = [step, {"result": end}]
    answer = pages.post("/recipients/test", {"address": "gone@example.com"})
    assert hook.heard == [{"do": "test", "to": ["gone@example.com"]}]
    assert "The mail server accepted the test mail for gone@example.com." in answer.text
    assert len(entries(answer)) == 3


def test_a_test_that_fails_is_told_without_a_link_to_a_field_of_another_page(pages, hook):
    end = {"verdict": "try later", "step": "login", "problem": "login refused", "reply": "535 no", "field": "password"}
    hook.answers["test"] = [{"result": {**end, "advice": "Check SMTP Account Password.", "recipients": []}}]
    answer = pages.post("/recipients/test", {"address": "gone@example.com"})
    assert document.problems(answer.text) == []
    assert "Check SMTP Account Password." in answer.text and "The server answered: “535 no”" in answer.text


@pytest.mark.parametrize("address", ["", "stranger@example.com", "gone@example.com\r\nx"])
def test_a_test_goes_to_no_address_but_a_listed_one(pages, hook, address):
    answer = pages.post("/recipients/test", {"address": address})
    assert answer.status == 422
    assert "This address is not on the list any more." in answer.text
    assert hook.heard == []


def test_too_many_tests_are_refused_with_the_time_to_wait(pages, hook):
    hook.answers["test"] = [{"error": "too-many", "reason": "too many", "seconds": 17}]
    answer = pages.post("/recipients/test", {"address": "gone@example.com"})
    assert (answer.status, answer.headers["retry-after"]) == (429, "17")
    assert "Please wait 17 seconds and try again." in answer.text
