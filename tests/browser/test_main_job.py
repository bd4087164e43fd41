"""The main job in a real browser: set up, read the tab, break it, save it, raise an alarm, read the mail."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pytest
from playwright.sync_api import expect

from device_ui.cli.demo_server import Server
from tests.browser.conftest import Letters, Visitor, labelled, parsed, raise_event
from tests.helpers.product import ADMIN_PASSWORD, PASSWORD, Product, settings_form
from tests.servers.authority import Authority
from tests.servers.postfix import MailServer

BUTTONS = ["Update", "Send test email"]
LABELS = ["SMTP Host", "SMTP Port", "Sender Name", "SMTP Account Address", "SMTP Account Password"]
HOST = "Please enter an SMTP host within 100 characters."
PORT = "Please enter an SMTP port between 1 and 49151."
SENDER = "Please enter a sender name."
ACCOUNT = "Please enter an SMTP account address in email format."
PASSWORD_LENGTH = "The SMTP account password does not meet the rules."
PASSWORD_RULES = "SMTP account password does not meet the rules."

# Label, what a person types, the sentence to the letter.
BROKEN = [
    ("SMTP Host", "", HOST),
    ("SMTP Host", "h" * 101, HOST),
    ("SMTP Port", "", PORT),
    ("SMTP Port", "49152", PORT),
    ("SMTP Port", "abc", PORT),
    ("Sender Name", "", SENDER),
    ("Sender Name", "n" * 101, SENDER),
    ("SMTP Account Address", "", ACCOUNT),
    ("SMTP Account Address", "first.last@mail.example.com", ACCOUNT),
    ("SMTP Account Address", "a" * 84 + "@mail.example.com", ACCOUNT),
    ("SMTP Account Password", "Kp7!vRw2#", PASSWORD_LENGTH),
    ("SMTP Account Password", "Kp7!vRw2#Zt9Kp7!vRw2#", PASSWORD_LENGTH),
    ("SMTP Account Password", "Kp7!qweRw2#Zt9", PASSWORD_RULES),
]
SCHEMES = ("light", "dark")
ACCOUNT_OF_POSTFIX = "alarm@mail.example.com"
ALL_BROKEN = {
    "SMTP Host": "",
    "SMTP Port": "49152",
    "Sender Name": "",
    "SMTP Account Address": "first.last@mail.example.com",
    "SMTP Account Password": "Kp7!vRw2#",
}
ALL_SENTENCES = [HOST, PORT, SENDER, ACCOUNT, PASSWORD_LENGTH]


def set_up(visitor: Visitor, product: Product) -> None:
    """Open the set-up link of the console and choose the administrator's password."""
    visitor.open(f"/setup?code={product.call('setup-code').stdout.strip()}")
    visitor.picture("setup")
    visitor.fill({"New administrator’s password": ADMIN_PASSWORD, "The same password again": ADMIN_PASSWORD})
    visitor.page.get_by_role("button", name="Set password").click()
    visitor.page.wait_for_url("**/smtp")


def save(visitor: Visitor, values: dict[str, str]) -> None:
    """Fill the tab, press Update, and read `Saved.`"""
    visitor.fill(values)
    visitor.update()
    expect(visitor.page.get_by_role("status")).to_have_text(["Saved."])


# Of each label: the first lines of the errors inside its field's box, and whether each error describes the field. In one call of
# the browser: a locator for each of them took most of the time of a test.
ERRORS = """
labels => Object.fromEntries([...document.querySelectorAll("label")].filter(each => labels.includes(each.innerText)).map(each => {
  const box = each.control, errors = [...box.closest(".field").querySelectorAll(".error")];
  const described = box.getAttribute("aria-describedby").split(" ");
  return [each.innerText, {
    lines: errors.filter(error => error.checkVisibility()).map(error => error.innerText.split("\\n")[0]),
    described: errors.every(error => described.includes(error.id)),
  }];
}))
"""


def errors(visitor: Visitor) -> dict[str, str]:
    """Every field of the manual and the sentence beside it: inside its box, and named as what describes it."""
    found = visitor.page.evaluate(ERRORS, LABELS)
    assert all(each["described"] for each in found.values())
    return {label: "\n".join(each["lines"]) for label, each in found.items()}


# The main job, from the set-up link to the mail.


@pytest.mark.parametrize("javascript", [True, False], ids=["javascript", "no javascript"])
def test_alarm_reaches_the_mail_server_after_the_tab_was_saved(javascript, visit, product, letters, post_office):
    product.start("--ca-file", str(letters.mailbox.ca_file))
    visitor = visit(product, java_script_enabled=javascript)
    set_up(visitor, product)
    arrived = len(list(letters.mailbox.folder.glob("*.eml")))
    save(visitor, letters.values(post_office.port) | {"Sender Name": "저장 장치 알림"})
    product.event("303", "Partition 2 is 91 % full")
    mail = letters.number(arrived + 1)
    assert mail["Subject"] == (
        "[fault 303] Storage appliance: Partition 2 is 91 % full (Audit log space: minor threshold exceeded)"
    )
    assert mail["From"].addresses[0].display_name == "저장 장치 알림"
    assert mail["From"].addresses[0].addr_spec == letters.mailbox.account
    assert mail["To"] == letters.mailbox.account
    assert "Partition 2 is 91 % full" in mail.get_body(("plain",)).get_content()
    assert ">Partition 2 is 91 % full</td>" in mail.get_body(("html",)).get_content()


@pytest.fixture
def postfix(tmp_path) -> Iterator[MailServer]:
    """Postfix with a certificate of the authority in `tmp_path`, at a submission port that the manual's rule accepts."""
    authority = Authority("Test authority")
    authority.write(tmp_path / "authority.pem")
    certificate = authority.issue(["localhost", "127.0.0.1"])
    for number in range(20):
        folder = tmp_path / f"postfix-{number}"
        with MailServer(folder=folder, certificate=certificate, accounts={ACCOUNT_OF_POSTFIX: PASSWORD}) as server:
            if server.submission_port <= 49151:
                yield server
                return
    raise AssertionError("Linux gave no port up to 49151")


def test_alarm_reaches_postfix(visit, product, tmp_path, postfix):
    product.start("--ca-file", str(tmp_path / "authority.pem"))
    visitor = visit(product)
    set_up(visitor, product)
    save(visitor, labelled(settings_form(postfix.submission_port, account=ACCOUNT_OF_POSTFIX)))
    raise_event(product, "305", "서버 저장 공간")
    mail = parsed(postfix.wait_for(1)[0])
    assert postfix.logins() == [(ACCOUNT_OF_POSTFIX, True)]
    assert mail["Delivered-To"] == "alarm@mail.example.com"
    assert mail["Subject"] == "[fault 305] Storage appliance: 서버 저장 공간 (Audit log space: maximum exceeded)"
    assert mail["From"] == "Storage alarms <alarm@mail.example.com>"
    assert "서버 저장 공간" in mail.get_body(("plain",)).get_content()
    assert "서버 저장 공간" in mail.get_body(("html",)).get_content()
    assert "with ESMTPSA" in mail["Received"]


def test_sender_name_alone_is_saved_with_the_password_left_blank(tab, empty, letters, post_office: Server):
    visitor = tab(empty)
    arrived = len(list(letters.mailbox.folder.glob("*.eml")))
    save(visitor, letters.values(post_office.port))
    save(visitor, {"Sender Name": "Lager, Halle 2"})
    raise_event(empty, "303")
    assert letters.number(arrived + 1)["From"].addresses[0].display_name == "Lager, Halle 2"


def test_main_job_needs_no_mouse(revisit, empty, letters: Letters, post_office: Server):
    visitor = revisit(empty)
    visitor.open("/login")
    expect(visitor.page.get_by_label("Administrator’s password")).to_be_focused()
    keys = visitor.page.keyboard
    keys.type(ADMIN_PASSWORD)
    keys.press("Enter")
    visitor.page.wait_for_url("**/smtp")
    for label, text in letters.values(post_office.port).items():
        tab_to(visitor, label)
        keys.insert_text(text)
    tab_to(visitor, "Update")
    with visitor.page.expect_navigation():
        keys.press("Enter")
    expect(visitor.page.get_by_role("status")).to_have_text(["Saved."])


# The tab.


def test_tab_shows_the_fields_of_the_manual_in_its_order(tab, empty):
    visitor = tab(empty)
    assert visitor.page.locator("label").locator("visible=true").all_inner_texts() == LABELS
    visitor.picture("tab-empty")


def test_update_is_at_the_bottom_of_the_form_with_the_test_beside_it(tab, stored):
    visitor = tab(stored)
    things = (
        visitor.page.locator("main form.card")
        .locator("button, input, select, summary, a, p")
        .locator("visible=true")
        .all()
    )
    assert [each.inner_text() for each in things[-2:]] == BUTTONS
    update, test = (each.bounding_box() for each in things[-2:])
    assert update["y"] == test["y"]


def test_every_field_starts_with_the_value_set_last_but_the_password(tab, stored):
    visitor = tab(stored)
    values = [visitor.page.get_by_label(label, exact=True).input_value() for label in LABELS]
    assert values == ["127.0.0.1", "1", "Storage alarms", "alarm@mail.example.com", ""]


def test_saved_is_told_once(tab, empty):
    visitor = tab(empty)
    save(visitor, labelled(settings_form(2587)))
    visitor.picture("tab-saved")
    visitor.page.reload()
    expect(visitor.page.get_by_role("status")).to_have_count(0)


def test_each_broken_field_has_its_sentence_beside_it(tab, stored):
    """One after another in one page, which keeps what was typed; a page of its own takes most of the time of such a row."""
    visitor = tab(stored)
    found, well = [], labelled(settings_form(1))
    for label, typed, _ in BROKEN:
        visitor.fill({"SMTP Account Password": PASSWORD})  # which no page gives back
        visitor.type_in(label, typed)
        visitor.update()
        found.append(errors(visitor))
        visitor.fill({label: well[label]})
    assert found == [dict.fromkeys(LABELS, "") | {label: sentence} for label, _, sentence in BROKEN]


@pytest.mark.parametrize("javascript", [True, False], ids=["javascript", "no javascript"])
def test_all_broken_fields_are_told_at_once(tab, empty, javascript):
    visitor = tab(empty, java_script_enabled=javascript)
    visitor.fill(ALL_BROKEN)
    visitor.update()
    visitor.picture("tab-errors")
    assert errors(visitor) == dict(zip(LABELS, ALL_SENTENCES, strict=True))


def test_typed_values_stay_for_another_try_and_the_password_does_not(tab, stored):
    visitor = tab(stored)
    typed = {label: f" {text}" for label, text in ALL_BROKEN.items()} | {"Sender Name": '<b>"Tom" & 김'}
    visitor.fill(typed)
    visitor.update()
    values = {label: visitor.page.get_by_label(label, exact=True).input_value() for label in LABELS}
    assert values == typed | {"SMTP Account Password": ""}


def test_nothing_is_written_while_one_field_is_broken(tab, stored):
    before = stored.folders.settings.read_bytes()
    visitor = tab(stored)
    visitor.fill({"Sender Name": "Another name", "SMTP Port": "0"})
    visitor.update()
    assert stored.folders.settings.read_bytes() == before


def test_host_alone_asks_for_the_password_again_and_stores_nothing(tab, stored):
    before = stored.folders.settings.read_bytes()
    visitor = tab(stored)
    visitor.fill({"SMTP Host": "mail.example.net"})
    visitor.update()
    told = visitor.page.locator("#password-error").inner_text().split("\n")
    assert told == [
        PASSWORD_LENGTH,
        "Type it again: the server, port, account, connection security or trusted certificate changed.",
    ]
    assert stored.folders.settings.read_bytes() == before


def test_tab_says_when_mail_is_paused(tab, empty, letters):
    visitor = tab(empty)
    empty.stop("mailhook")
    try:
        visitor.fill(labelled(settings_form(2587)))
        visitor.update()
    finally:
        empty.start_hook("--ca-file", str(letters.mailbox.ca_file))
    notice = visitor.page.get_by_role("status").filter(has_text="Saved.")
    expect(notice).to_have_text("Saved. The mail service is not running: mail is paused until it starts.")


# Out and in again.


def test_pages_are_closed_after_signing_out(revisit, stored):
    visitor = revisit(stored).log_in()
    visitor.page.get_by_role("button", name="Sign out").click()
    visitor.page.wait_for_url("**/login")
    # By the back button, which leads to the page that was seen, and by its address.
    for way in (visitor.page.go_back, lambda: visitor.open("/smtp")):
        way()
        expect(visitor.page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_cookie_that_somebody_kept_opens_nothing_after_signing_out(revisit, stored):
    visitor = revisit(stored).log_in()
    kept = visitor.context.cookies()
    visitor.page.get_by_role("button", name="Sign out").click()
    visitor.page.wait_for_url("**/login")
    visitor.context.add_cookies(kept)
    visitor.open("/smtp")
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_logging_in_again_shows_the_tab(revisit, stored):
    visitor = revisit(stored).log_in()
    visitor.page.get_by_role("button", name="Sign out").click()
    visitor.page.wait_for_url("**/login")
    visitor.log_in()
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text("SMTP")


def test_wrong_password_is_told_and_keeps_the_pages_closed(revisit, stored):
    visitor = revisit(stored)
    visitor.open("/login")
    visitor.page.get_by_label("Administrator’s password").fill("a wrong sentence for tests")
    visitor.page.get_by_role("button", name="Sign in").click()
    expect(visitor.page.get_by_role("alert")).to_have_text("The password is not correct.")


# Advanced.


def test_advanced_is_closed_when_the_page_opens(tab, stored):
    visitor = tab(stored)
    expect(visitor.page.get_by_label("Connection security")).to_be_hidden()


def test_advanced_opens_and_closes_by_keyboard(tab, stored):
    visitor = tab(stored)
    tab_to(visitor, "Advanced")
    for key in ("Enter", "Space"):
        visitor.page.keyboard.press(key)
        expect(visitor.page.get_by_label("Connection security")).to_be_visible()
        visitor.page.keyboard.press(key)
        expect(visitor.page.get_by_label("Connection security")).to_be_hidden()


def test_advanced_opens_by_itself_when_something_in_it_is_broken(tab, stored):
    visitor = tab(stored)
    visitor.page.get_by_text("Advanced", exact=True).click()
    visitor.page.get_by_label("Sign-in", exact=True).select_option("provider")
    visitor.page.get_by_label("From address", exact=True).fill("no address")
    visitor.update()
    error = visitor.page.locator("#from_address-error")
    expect(error).to_be_visible()
    expect(error).to_have_text("Please enter a from address in email format.")


# For everybody: keyboard, screen reader, phone, dark.


def test_tab_key_walks_the_page_in_reading_order(tab, stored):
    visitor = tab(stored)
    walked = []
    tabs = ["Sign out", "SMTP", "Recipients", "History", "Others"]
    expected = [*tabs, "Fill in for a mail provider", *LABELS, "Show", "Advanced", *BUTTONS]
    for _ in expected:
        visitor.page.keyboard.press("Tab")
        walked.append(focused(visitor))
    assert walked == expected


def test_error_summary_gets_the_focus_and_its_sentences_lead_into_the_fields(tab, empty):
    visitor = tab(empty)
    visitor.fill(ALL_BROKEN)
    visitor.update()
    summary = visitor.page.get_by_role("alert", name="Nothing was saved. Please correct:")
    expect(summary).to_be_focused()
    links, reached = summary.get_by_role("link"), []
    assert links.all_inner_texts() == ALL_SENTENCES
    for link in links.all():
        link.press("Enter")
        reached.append(focused(visitor))
    assert reached == LABELS


def test_screen_reader_hears_that_a_field_is_broken_and_why(tab, stored):
    visitor = tab(stored)
    visitor.fill({"SMTP Port": "49152"})
    visitor.update()
    port = visitor.page.get_by_role("textbox", name="SMTP Port", exact=True)
    expect(port).to_have_attribute("aria-invalid", "true")
    expect(port).to_have_accessible_description(re.compile(re.escape(PORT)))


def test_dark_is_dark(revisit, empty):
    visitor = revisit(empty, color_scheme="dark")
    visitor.open("/login")
    colour = visitor.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"[0-9]+", colour))) < 48


# How the page is looked at.


def focused(visitor: Visitor) -> str:
    """The name of what has the focus: its label, or its text."""
    return str(visitor.page.evaluate("(e => (e.labels && e.labels[0] || e).innerText)(document.activeElement)"))


def tab_to(visitor: Visitor, name: str) -> None:
    """Press Tab until `name` has the focus; a page of ours has a dozen stops."""
    for _ in range(20):
        if focused(visitor) == name:
            return
        visitor.page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {name}")


def overflow(visitor: Visitor) -> int:
    """Pixels that the page is wider than the window."""
    return int(visitor.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def hard_to_read(visitor: Visitor) -> list[object]:
    """The texts with less contrast than WCAG 2.2, 1.4.3 allows: 4.5 to 1; 3 to 1 for a square of a legend (1.4.11)."""
    return [each for each in visitor.page.evaluate(CONTRASTS) if each["ratio"] < (3 if each["text"] == "■" else 4.5)]


def look_at(visitor: Visitor, widths: Sequence[int], name: str) -> None:
    """The page in each colour scheme and at each of these widths fits and can be read; its pictures have this name."""
    # The same page for all of them: opening it takes most of the time. A different width costs more than a different scheme.
    for width in widths:
        visitor.page.set_viewport_size({"width": width, "height": 800})
        for scheme in SCHEMES:
            visitor.page.emulate_media(color_scheme=scheme)
            visitor.picture(f"{name}-{width}-{scheme}")
            assert (name, scheme, width, overflow(visitor), hard_to_read(visitor)) == (name, scheme, width, 0, [])


# Every element with a text of its own, and the contrast of it (WCAG 2.2, relative luminance) to what is behind it.
CONTRASTS = """
() => {
  const numbers = colour => colour.match(/[0-9.]+/g).map(Number);
  const light = colour => numbers(colour).slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (numbers(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const own = e => e.value || [...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.data.trim());
  return [...document.querySelectorAll("body *")].filter(e => own(e) && e.checkVisibility()).map(e => {
    const both = [light(getComputedStyle(e).color), light(behind(e))].sort((a, b) => b - a);
    return {text: e.textContent.trim().slice(0, 40) || e.value, ratio: (both[0] + 0.05) / (both[1] + 0.05)};
  });
}
"""


# The wire


def test_first_visit_takes_one_window_of_tcp_and_the_next_only_the_page(tab, empty):
    visitor = tab(empty, own=True)
    devtools = visitor.context.new_cdp_session(visitor.page)
    kinds: dict[str, str] = {}  # of request: not every request gets a response of its own, but each gets an end
    sizes: dict[str, float] = {}  # of request: as it came over the wire, headers included; 0 from the cache
    devtools.on("Network.responseReceived", lambda event: kinds.update({event["requestId"]: event["type"]}))
    devtools.on("Network.loadingFinished", lambda event: sizes.update({event["requestId"]: event["encodedDataLength"]}))
    devtools.send("Network.enable")
    devtools.send("Network.clearBrowserCache")
    visitor.open("/smtp")
    assert {"Document", "Script", "Stylesheet"} <= {kinds.get(request) for request, size in sizes.items() if size}
    assert sum(sizes.values()) <= 14_600
    sizes.clear()
    visitor.open("/smtp")
    over_the_wire = {kinds.get(request): size > 0 for request, size in sizes.items()}
    assert {kind: over_the_wire.get(kind) for kind in ("Document", "Script", "Stylesheet")} == {
        "Document": True,
        "Script": False,
        "Stylesheet": False,
    }
