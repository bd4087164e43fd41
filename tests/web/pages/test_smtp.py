"""The SMTP tab through the real processes: what it shows, what it saves, and what it never says."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import fcntl
import html
import json
import os
import resource
import shutil
import string
import subprocess
import threading
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_ui.errors import CannotOpen
from device_ui.settings import keys, seal
from device_ui.settings.store import Store, encode
from device_ui.web import static_files
from tests.helpers import document, oracle
from tests.helpers.product import ADMIN_PASSWORD, PASSWORD, Browser, Page, Product, settings_form, wait_for

OTHER_PASSWORD = "Wz4%bQ9n!Xc6s"
GOOD = settings_form(2525)
BROKEN = {"host": "", "port": "0", "sender_name": "", "account": "no address", "password": "short"}

HOST = "Please enter an SMTP host within 100 characters."
PORT = "Please enter an SMTP port between 1 and 49151."
SENDER = "Please enter a sender name."
ACCOUNT = "Please enter an SMTP account address in email format."
LENGTH = "The SMTP account password does not meet the rules."
RULES = "SMTP account password does not meet the rules."
CHOICE = "Please choose one of the values listed."
FROM = "Please enter a from address in email format."
CHANGED = (
    "The settings have changed since you opened this page, so nothing was saved. Below are your own values; "
    "what is stored now stands beside them. Press Update again to replace it. The stored password is never shown; it may have changed as well."
)
OUR_SCRIPT = {"src": static_files.PLAIN.url("app.js"), "defer": "", "blocking": "render"}
FIELDS = ("host", "port", "sender_name", "account", "password", "security", "sign_in", "from_address")


def spellings(secret: str) -> set[str]:
    """How a secret could hide in an answer: plain, base64 at each of three places, hex, URL, JSON, HTML."""
    raw = secret.encode()
    found = {secret, raw.hex(), raw.hex().upper(), urllib.parse.quote(secret, safe=""), urllib.parse.quote_plus(secret)}
    found |= {"".join(f"%{each:02X}" for each in raw), json.dumps(secret)[1:-1], html.escape(secret), secret[::-1]}
    found |= {"".join(f"&#{ord(each)};" for each in secret), "".join(f"\\u{ord(each):04x}" for each in secret)}
    for spell in (base64.b64encode, base64.urlsafe_b64encode):
        for lead in range(3):
            # What stands around the secret spoils the outermost characters only.
            encoded = spell(b"\0" * lead + raw).decode().rstrip("=")
            found.add(encoded[-(-lead * 8 // 6) : -1])
    return found


@dataclass
class Witness(Browser):
    """A browser that remembers everything it was sent."""

    seen: list[Page] = field(default_factory=list)

    def request(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Page:
        """Any request, remembered."""
        self.seen.append(super().request(method, path, body, headers))
        return self.seen[-1]

    def leaks(self, *secrets: str) -> list[str]:
        """The spellings of the secrets that were in any answer."""
        everything = "\n".join("\n".join((*page.headers, *page.headers.values(), page.text)) for page in self.seen)
        return [each for secret in secrets for each in spellings(secret) if each in everything]


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    """One device at work for all tests here."""
    with Product(tmp_path_factory.mktemp("product")) as product:
        yield product.start()


@pytest.fixture(scope="module")
def cookie(product):
    return product.logged_in().cookie


@pytest.fixture
def tab(product, cookie):
    """A logged-in browser before a device without settings. No answer may ever hold a password."""
    forget(product)
    browser = Witness(product.port, cookie)
    browser.get("/smtp")
    yield browser
    assert not browser.leaks(PASSWORD, OTHER_PASSWORD, ADMIN_PASSWORD)


@pytest.fixture
def saved(tab):
    """The same with `GOOD` saved and the notice read."""
    assert tab.update(**GOOD).status == 303
    tab.get("/smtp")
    return tab


def forget(product: Product) -> None:
    """Remove settings and whatever was set aside."""
    folder = product.folders.settings.parent
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def on_flash(product: Product) -> tuple[bytes, int, int] | None:
    """The settings file: bytes, time, inode; None when there is none."""
    try:
        found = product.folders.settings.stat()
    except FileNotFoundError:
        return None
    return product.folders.settings.read_bytes(), found.st_mtime_ns, found.st_ino


def stored(product: Product):
    """The settings that stand on flash."""
    found, _ = Store(product.folders.settings).read()
    return found


def opened(product: Product) -> str:
    """The stored password, as the hook opens it."""
    found = stored(product)
    return seal.unseal(found.sealed, keys.load_private(product.folders.private_key).private, found.bound_to)


def form(**fields: str) -> bytes:
    return urllib.parse.urlencode(fields).encode()


def said(page: Page, name: str) -> list[str]:
    """What the paragraphs of a class say: ``notice``, ``problem``, ``banner``."""
    return [each.text for each in document.read(page.text).by_class(name)]


def errors(page: Page) -> dict[str, str]:
    """The sentence of each field that the page calls broken, by the field's name; hints left out."""
    root, found = document.read(page.text), {}
    for each in (*root.all("input"), *root.all("select")):
        if each.attributes.get("aria-invalid"):
            assert each.attributes["aria-invalid"] == "true"
            told = [root.by_id(name) for name in each.attributes["aria-describedby"].split()]
            (error,) = [one for one in told if one.attributes.get("class") == "error"]
            assert error.parent is each.parent
            found[each.attributes["name"]] = error.own_text
    assert len(found) == len(root.by_class("error"))
    return found


def values(page: Page) -> dict[str, str]:
    """What stands in the fields that a browser would send, by name."""
    root = document.read(page.text)
    found = {each.attributes["name"]: each.attributes.get("value", "") for each in root.all("input")}
    for select in root.all("select"):
        options = select.all("option")
        chosen = [each for each in options if "selected" in each.attributes] or options[:1]
        if "disabled" not in select.attributes:
            found[select.attributes["name"]] = chosen[0].attributes["value"]
    return found


# What the tab shows


def test_the_labels_stand_in_the_manuals_order(tab):
    root = document.read(tab.get("/smtp").text)
    (main,) = root.all("main")
    labels = [each.text for each in main.all("label")]
    assert labels[:5] == ["SMTP Host", "SMTP Port", "Sender Name", "SMTP Account Address", "SMTP Account Password"]
    assert labels[5:] == ["Connection security", "Sign-in", "From address", "Server certificate"]
    assert [each.attributes["for"] for each in main.all("label")] == [*FIELDS, "trust"]


def test_update_stands_at_the_bottom_of_the_form_and_is_what_enter_presses(tab):
    (shape,) = document.read(tab.get("/smtp").text).all("form", action="/smtp")
    assert shape.attributes["method"] == "post"
    last = [each for each in shape.content if not isinstance(each, str)][-1]
    assert [each.text for each in last.all("button")] == ["Update", "Send test email"]
    # The first submit button is the default one (HTML, 4.10.21.2).
    sending = [each for each in shape.all("button") if each.attributes.get("type") != "button"]
    assert (len(sending), "formaction" in sending[0].attributes) == (2, False)


def test_a_new_device_shows_empty_fields(tab):
    shown = values(tab.get("/smtp"))
    assert {name: shown[name] for name in FIELDS[:5]} == dict.fromkeys(FIELDS[:5], "")


def test_every_field_starts_with_the_value_set_last(saved):
    shown = values(saved.get("/smtp"))
    assert shown == {
        "host": "127.0.0.1",
        "port": "2525",
        "sender_name": "Storage alarms",
        "account": "alarm@mail.example.com",
        "password": "",
        "security": "auto",
        "sign_in": "manual",
        "from_address": "",
        "trust": "system",
        "revision": shown["revision"],
        "token": shown["token"],
    }


def test_a_stored_password_is_told_and_neither_shown_nor_its_length(saved, product):
    page = saved.get("/smtp")
    field = document.read(page.text).by_id("password")
    assert field.attributes["value"] == ""
    assert field.attributes["type"] == "password"
    assert "A password is stored. Leave this empty to keep it." in document.read(page.text).by_id("password-help").text
    assert stored(product).sealed not in page.text
    longer = {**GOOD, "password": OTHER_PASSWORD + "aB1"}
    saved.update(**longer)
    revisions = [document.read(each.text).all("input", name="revision") for each in (page, saved.get("/smtp"))]
    pairs = zip((page, saved.seen[-1]), revisions, strict=True)
    texts = [each.text.replace(found[0].attributes["value"], "") for each, found in pairs]
    assert texts[0] == texts[1].replace('<p class="notice" role="status">Saved.</p>\n', "")


def test_without_a_password_none_is_told(tab):
    assert "A password is stored." not in tab.get("/smtp").text


def test_the_browser_never_cuts_what_the_rule_allows(tab):
    fields = document.read(tab.get("/smtp").text)
    lengths = {name: int(fields.by_id(name).attributes["maxlength"]) for name in FIELDS[:5]}
    assert all(length > 2 * 100 for name, length in lengths.items() if name != "port")
    assert lengths["port"] > 5


def test_advanced_is_closed_without_need(saved):
    (advanced,) = document.read(saved.get("/smtp").text).all("details")
    assert "open" not in advanced.attributes
    assert advanced.all("summary")[0].text == "Advanced"
    assert [each.attributes["name"] for each in advanced.walk() if "name" in each.attributes] == [*FIELDS[5:], "trust"]


def test_advanced_stays_closed_when_another_field_is_broken(tab):
    (advanced,) = document.read(tab.update(**BROKEN).text).all("details")
    assert "open" not in advanced.attributes


@pytest.mark.parametrize(
    "wrong", [{"security": "ssl3"}, {"sign_in": "oauth"}, {"sign_in": "provider", "from_address": "x"}]
)
def test_advanced_opens_when_the_mistake_is_in_it(tab, wrong):
    (advanced,) = document.read(tab.update(**GOOD, **wrong).text).all("details")
    assert "open" in advanced.attributes


# The six sentences


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("host", "", HOST),
        ("host", "   ", HOST),
        ("host", "x" * 101, HOST),
        ("port", "", PORT),
        ("port", "0", PORT),
        ("port", "49152", PORT),
        ("port", "+25", PORT),
        ("port", "٢٥", PORT),
        ("sender_name", "", SENDER),
        ("sender_name", "가" * 101, SENDER),
        ("account", "", ACCOUNT),
        ("account", "a.b@xxx.yyy", ACCOUNT),
        ("account", "aaa@xxx", ACCOUNT),
        ("account", "a" * 93 + "@xxx.yyy", ACCOUNT),
        ("password", "", LENGTH),
        ("password", "Kp7!vRw2#", LENGTH),
        ("password", "Kp7!vRw2#Zt9Kp7!vRw2#", LENGTH),
        ("password", "Kp7vRw2Zt9Lm4", RULES),
        ("password", "Kp7!vRw2#Ztt9", RULES),
        ("password", "Kp7!vRw2#qWe", RULES),
        ("security", "ssl3", CHOICE),
        ("sign_in", "xoauth2", CHOICE),
    ],
)
def test_a_broken_field_has_its_sentence_beside_it(tab, product, name, text, sentence):
    page = tab.update(**{**GOOD, name: text})
    assert page.status == 422
    assert errors(page) == {name: sentence}
    assert on_flash(product) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("host", "x" * 100),
        ("host", " 가나다 "),
        ("host", "[2001:db8::1]"),
        ("host", "😀" * 100),
        ("port", "1"),
        ("port", "49151"),
        ("port", "00025"),
        ("sender_name", "가" * 100),
        ("sender_name", '"; DROP TABLE --'),
        ("account", "!#$%&'+/=^_`{|}~?@x-x.y.z"),
        ("account", "a" * 92 + "@xxx.yyy"),
        ("password", OTHER_PASSWORD),
        ("password", "Kp7!vRw2#Z"),
        ("password", "Kp7!vRw2#Zt9Kp7!vRw2"),
    ],
)
def test_a_good_value_is_saved_and_shown(tab, product, name, text):
    assert tab.update(**{**GOOD, name: text}).status == 303
    page = tab.get("/smtp")
    assert said(page, "notice") == ["Saved."]
    expected = {"port": text.lstrip("0"), "password": ""}.get(name, text.strip())
    assert values(page)[name] == expected
    assert opened(product) == (text if name == "password" else PASSWORD)


def test_all_broken_fields_are_told_at_once(tab, product):
    page = tab.update(**BROKEN)
    assert page.status == 422
    assert errors(page) == {
        "host": HOST,
        "port": PORT,
        "sender_name": SENDER,
        "account": ACCOUNT,
        "password": LENGTH,
    }
    assert on_flash(product) is None


def test_the_summary_links_to_each_broken_field(tab):
    (summary,) = document.read(tab.update(**BROKEN).text).by_class("problem")
    assert summary.attributes["role"] == "alert"
    assert [each.text for each in summary.all("a")] == [HOST, PORT, SENDER, ACCOUNT, LENGTH]
    assert [each.attributes["href"] for each in summary.all("a")] == [f"#{name}" for name in FIELDS[:5]]


def test_the_good_fields_are_not_called_broken(tab):
    root = document.read(tab.update(**{**GOOD, "port": "x"}).text)
    assert [each.by_class("error") != [] for each in root.by_class("field")] == [False, True] + [False] * 7
    assert "aria-invalid" not in root.by_id("host").attributes


def test_nothing_is_written_while_one_field_is_broken(saved, product):
    before = on_flash(product)
    assert saved.update(**{**GOOD, "sender_name": "Another", "port": "x"}).status == 422
    assert on_flash(product) == before
    assert os.listdir(product.folders.settings.parent) == ["smtp.toml"]


def test_a_hint_names_the_rule_and_not_the_characters(tab):
    page = tab.update(**{**GOOD, "password": "Kp7!vRw2#Ztt9"})
    (hint,) = document.read(page.text).by_class("hint")
    assert hint.text == "Two equal characters are in a row."
    assert "tt9" not in page.text


@pytest.mark.parametrize(
    ("values", "is_open"),
    [
        ({"password": "abcd efgh ijkl mnop"}, True),
        ({"account": "first.last@example.com"}, True),
        ({"password": "Kp7!vRw2#Ztt9"}, False),
        ({"password": "", "account": ""}, False),
    ],
)
def test_advanced_is_open_where_a_hint_names_a_choice_in_it(tab, values, is_open):
    root = document.read(tab.update(**{**GOOD, **values}).text)
    assert ("open" in root.all("details")[0].attributes) == is_open


def test_what_is_hidden_has_no_words(tab):
    """A text browser shows it: w3m said "Not saved yet." and "You will be signed out in 1 minute." below every form."""
    root = document.read(tab.get("/smtp").text)
    hidden = [each for each in root.walk() if {"hidden", "data-say"} & set(each.attributes)]
    assert [(each.name, each.text) for each in hidden] == [("button", ""), ("p", ""), ("div", "")]


# What was typed


def test_typed_values_are_kept_for_another_try_but_the_password(tab):
    typed = {
        "host": "mail.example.com ",
        "port": "70000",
        "sender_name": "Somebody",
        "account": "x",
        "password": PASSWORD,
        "security": "tls",
        "sign_in": "provider",
        "from_address": "me",
    }
    page = tab.update(**typed)
    assert page.status == 422
    assert {name: values(page)[name] for name in FIELDS} == {**typed, "password": ""}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("text", ['"><script>alert(1)</script>', "'onfocus=alert(1) x='", "</p></form>{{1}}%0a&lt;"])
def test_markup_in_a_field_stays_text(tab, name, text):
    page = tab.update(**{**GOOD, "port": "x", name: text})
    assert page.status == 422
    assert document.problems(page.text) == []
    assert [each.attributes for each in document.read(page.text).all("script")] == [OUR_SCRIPT]
    if name in ("host", "port", "sender_name", "account", "from_address"):
        assert values(page)[name] == text
    else:
        assert text not in page.text
        assert html.escape(text) not in page.text


def test_markup_that_was_saved_stays_text(tab):
    text = '"><script>alert(1)</script>'
    assert tab.update(**{**GOOD, "host": text, "sender_name": text}).status == 303
    page = tab.get("/smtp")
    assert document.problems(page.text) == []
    assert (values(page)["host"], values(page)["sender_name"]) == (text, text)


def test_markup_in_the_revision_stays_text(tab):
    page = tab.post("/smtp", revision='"><script>', **BROKEN)
    assert document.problems(page.text) == []


PRINTABLE = st.text(st.characters(exclude_categories=("Cc", "Cn", "Cs")), min_size=1, max_size=100)
# Without what cannot be seen: a host has none, and a name none that ends a line.
SEEN = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cf", "Zl", "Zp", "Zs")), min_size=1, max_size=100)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(host=PRINTABLE, sender=PRINTABLE, account=PRINTABLE)
def test_every_printable_character_comes_back_as_it_was_typed(tab, host, sender, account):
    page = tab.post("/smtp", **{**GOOD, "host": host, "port": "x", "sender_name": sender, "account": account})
    assert page.status == 422
    assert {**values(page), "host": host, "sender_name": sender, "account": account} == values(page)
    assert document.problems(page.text) == []


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(host=SEEN.filter(lambda text: oracle.host_sentence(text) is None), sender=SEEN)
def test_every_printable_character_is_saved_as_it_was_typed(tab, product, host, sender):
    assert tab.update(**{**GOOD, "host": host, "sender_name": sender}).status == 303
    page = tab.get("/smtp")
    assert (values(page)["host"], values(page)["sender_name"]) == (host, sender)
    assert (stored(product).host, stored(product).sender_name) == (host, sender)


def test_every_printable_ascii_character_survives_in_name_and_host(tab):
    assert tab.update(**{**GOOD, "host": string.printable[:94], "sender_name": string.punctuation}).status == 303
    shown = values(tab.get("/smtp"))
    assert (shown["host"], shown["sender_name"]) == (string.printable[:94], string.punctuation)


# The password


def test_the_password_is_in_no_answer_of_any_kind(tab, product):
    """Saved, refused, in conflict, not stored, in every wrong place of a request."""
    tab.update(**GOOD)
    tab.get("/smtp")
    tab.update(**{**GOOD, "port": "x"})
    tab.post("/smtp", revision="old", **GOOD)
    with limited(product):
        tab.update(**GOOD, sign_in="provider")
    tab.post("/smtp", **dict.fromkeys(("revision", "unknown"), "x"), password=PASSWORD)
    tab.request("POST", "/smtp", form(**GOOD), {"Origin": "http://evil.example"})
    tab.request("POST", "/smtp", form(**GOOD), {"Origin": f"http://127.0.0.1:{tab.port}", "Content-Type": "text/plain"})
    tab.request("POST", "/smtp", form(**GOOD) * 2, {"Origin": f"http://127.0.0.1:{tab.port}"})
    tab.post("/nowhere", **GOOD)
    tab.post("/health", **GOOD)
    assert {page.status for page in tab.seen} == {200, 303, 422, 409, 507, 403, 415, 400, 404, 405}
    assert tab.leaks(PASSWORD) == []


def test_the_password_is_in_no_log(saved, product):
    saved.update(**{**GOOD, "port": "x"})
    saved.update(**GOOD)
    everything = product.log("web") + product.log("mailhook")
    assert not [each for each in spellings(PASSWORD) if each in everything]


@pytest.mark.parametrize("spell", sorted(spellings(PASSWORD)))
def test_the_search_for_a_leak_finds_one(spell):
    witness = Witness(0, seen=[Page(200, {}, f"<p>{spell}</p>")])
    assert witness.leaks(PASSWORD)
    witness = Witness(0, seen=[Page(200, {"x-it": spell}, "")])
    assert witness.leaks(PASSWORD)


# Saved


def test_update_answers_303_and_the_tab_says_saved_once(tab):
    answer = tab.update(**GOOD)
    assert (answer.status, answer.headers["location"]) == (303, "/smtp")
    assert [said(tab.get("/smtp"), "notice") for _ in range(2)] == [["Saved."], []]


def test_saved_is_not_told_to_another_session(tab, product):
    other = Browser(product.port)
    other.post("/login", password=ADMIN_PASSWORD)
    tab.update(**GOOD)
    assert said(other.get("/smtp"), "notice") == []
    assert said(tab.get("/smtp"), "notice") == ["Saved."]


@pytest.mark.parametrize("wrong", [{"port": "x"}, {"revision": "old"}, {"host": "", "revision": ""}])
def test_nothing_is_called_saved_that_is_not(saved, wrong):
    page = saved.update(**{**GOOD, "host": "new.example", **wrong})
    assert page.status in (409, 422)
    for each in (page, saved.get("/smtp")):
        assert said(each, "notice") == []
        assert "Saved." not in each.text


def test_the_settings_are_on_flash_before_the_answer(tab, product):
    assert tab.update(**GOOD).status == 303
    found = stored(product)
    assert (found.host, found.port, found.sender_name, found.account) == (
        "127.0.0.1",
        2525,
        "Storage alarms",
        "alarm@mail.example.com",
    )
    assert (found.security, found.sign_in, found.from_address) == ("auto", "manual", "")
    assert opened(product) == PASSWORD


def test_the_same_again_with_a_blank_password_writes_nothing(saved, product):
    before = on_flash(product)
    assert saved.update(**{**GOOD, "password": ""}).status == 303
    assert said(saved.get("/smtp"), "notice") == ["Saved."]
    assert on_flash(product) == before


def test_a_blank_password_keeps_the_stored_one(saved, product):
    assert saved.update(**{**GOOD, "password": "", "sender_name": "Other"}).status == 303
    assert stored(product).sender_name == "Other"
    assert opened(product) == PASSWORD


@pytest.mark.parametrize(
    "change", [{"host": "localhost"}, {"port": "2526"}, {"account": "b@mail.example.com"}, {"security": "tls"}]
)
def test_a_blank_password_does_not_follow_to_another_server(saved, product, change):
    before = on_flash(product)
    page = saved.update(**{**GOOD, "password": "", **change})
    assert page.status == 422
    assert errors(page) == {"password": LENGTH}
    (hint,) = document.read(page.text).by_class("hint")
    assert hint.text == "Type it again: the server, port, account, connection security or trusted certificate changed."
    assert on_flash(product) == before


def test_a_blank_password_on_a_new_device_is_an_empty_one(tab):
    page = tab.update(**{**GOOD, "password": ""})
    assert errors(page) == {"password": LENGTH}
    assert document.read(page.text).by_class("hint")[0].text == "No password is stored yet."


def test_a_retyped_password_is_written(saved, product):
    before = on_flash(product)
    assert saved.update(**{**GOOD, "password": OTHER_PASSWORD}).status == 303
    assert on_flash(product)[2] != before[2]
    assert opened(product) == OTHER_PASSWORD


def test_a_sealed_password_does_not_open_for_another_server(saved, product):
    found = stored(product)
    private = keys.load_private(product.folders.private_key).private
    with pytest.raises(CannotOpen):
        seal.unseal(found.sealed, private, ("evil.example", *found.bound_to[1:]))


# Advanced


def test_a_providers_credentials_are_taken_as_they_are(tab, product):
    secret = "SG.aaaa-key: 123 4"
    filled = {**GOOD, "account": "apikey", "password": secret, "sign_in": "provider", "from_address": "a.b@x.y"}
    assert tab.update(**filled).status == 303
    assert opened(product) == secret
    assert values(tab.get("/smtp"))["from_address"] == "a.b@x.y"
    assert tab.leaks(secret) == []


def test_a_provider_login_that_is_no_address_needs_a_from_address(tab):
    page = tab.update(**{**GOOD, "account": "apikey", "password": "k", "sign_in": "provider"})
    assert errors(page) == {"from_address": FROM}


def test_a_relay_without_login_keeps_no_password(saved, product):
    assert saved.update(**GOOD, sign_in="none", security="none").status == 303
    assert stored(product).sealed is None
    page = saved.get("/smtp")
    assert (values(page)["sign_in"], values(page)["security"]) == ("none", "none")
    assert "A password is stored." not in page.text


def test_back_from_no_login_the_password_must_be_typed(saved):
    saved.update(**GOOD, sign_in="none")
    page = saved.update(**{**GOOD, "password": "", "sign_in": "manual"})
    assert errors(page) == {"password": LENGTH}


def test_a_login_in_the_clear_is_refused_in_words(tab):
    page = tab.update(**{**GOOD, "host": "mail.example.com", "security": "none"})
    assert errors(page) == {"security": CHOICE}
    (hint,) = document.read(page.text).by_class("hint")
    assert hint.text == "A login without TLS would send the password in the clear."


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A device whose maker locked both choices, logged in; no hook runs."""
    with Product(tmp_path_factory.mktemp("locked")) as product:
        product.folders.etc.mkdir()
        (product.folders.etc / "device.toml").write_text("[locks]\nsecurity = true\nsign_in = true\n")
        for path in (product.folders.private_key, product.folders.public_key):
            path.parent.mkdir(parents=True)
        keys.load_pair(product.folders.private_key, product.folders.public_key)
        product.start_web()
        yield product.logged_in()


def test_a_locked_choice_cannot_be_made(locked):
    root = document.read(locked.get("/smtp").text)
    for name in ("security", "sign_in"):
        assert "disabled" in root.by_id(name).attributes
        assert "Fixed by the maker of this device." in root.by_id(f"{name}-help").text
    assert "disabled" not in root.by_id("host").attributes


def test_a_conflict_shows_no_difference_in_a_locked_choice(locked):
    """A browser does not send a disabled choice; that is no other choice."""
    locked.update(**GOOD)
    page = locked.post("/smtp", **GOOD, revision="old")
    assert page.status == 409
    assert document.read(page.text).by_class("beside") == []
    assert "open" not in document.read(page.text).all("details")[0].attributes


@pytest.mark.parametrize("choice", [{"security": "none"}, {"security": "tls"}, {"sign_in": "none"}])
def test_a_locked_choice_is_denied_to_a_forged_form(locked, choice):
    page = locked.update(**GOOD, **choice)
    assert page.status == 422
    assert errors(page) == dict.fromkeys(choice, CHOICE)
    assert document.read(page.text).by_class("hint")[0].text == "The maker of this device has fixed this choice."


def test_a_locked_tab_saves_the_defaults(locked):
    assert locked.update(**GOOD).status == 303
    assert said(locked.get("/smtp"), "notice") == [
        "Saved. The mail service is not running: mail is paused until it starts."
    ]


# Two editors


def test_the_second_editor_gets_the_own_values_and_the_stored_ones(saved, product):
    second = saved.get("/smtp").revision
    saved.update(**{**GOOD, "sender_name": "First"})
    before = on_flash(product)
    page = saved.post("/smtp", **{**GOOD, "revision": second, "sender_name": "Second", "port": "26"})
    assert page.status == 409
    assert said(page, "problem") == [CHANGED]
    assert (values(page)["sender_name"], values(page)["port"], values(page)["password"]) == ("Second", "26", "")
    beside = {each.parent.all("label")[0].text: each.text for each in document.read(page.text).by_class("beside")}
    assert beside == {"Sender Name": "Stored now: First", "SMTP Port": "Stored now: 2525"}
    assert on_flash(product) == before


def test_pressing_update_again_after_a_conflict_saves(saved, product):
    second = saved.get("/smtp").revision
    saved.update(**{**GOOD, "password": "", "sender_name": "First"})
    page = saved.post("/smtp", **{**GOOD, "password": "", "revision": second, "sender_name": "Second"})
    assert page.status == 409
    assert saved.post("/smtp", **values(page)).status == 303
    assert stored(product).sender_name == "Second"
    assert opened(product) == PASSWORD


def test_a_conflict_is_told_before_a_blank_password_is_measured(saved):
    """The second editor changed no server: to hear "type it again" without why would be a riddle."""
    second = saved.get("/smtp").revision
    saved.update(**{**GOOD, "host": "localhost"})
    page = saved.post("/smtp", **{**GOOD, "password": "", "revision": second, "sender_name": "Second"})
    assert (page.status, said(page, "problem")) == (409, [CHANGED])
    again = saved.post("/smtp", **values(page))
    assert (again.status, errors(again)) == (422, {"password": LENGTH})


def test_a_conflict_in_the_advanced_choices_opens_them(saved):
    second = saved.get("/smtp").revision
    saved.update(**GOOD, security="tls")
    page = saved.post("/smtp", **GOOD, revision=second)
    (advanced,) = document.read(page.text).all("details")
    assert "open" in advanced.attributes
    assert advanced.by_class("beside")[0].text == "Stored now: TLS from the first byte"


@pytest.mark.parametrize("revision", [{}, {"revision": ""}, {"revision": "x"}, {"revision": "A" * 64}])
def test_a_form_without_the_right_revision_overwrites_nothing(saved, product, revision):
    before = on_flash(product)
    page = saved.post("/smtp", **{**GOOD, "sender_name": "Blind"}, **revision)
    assert (page.status, said(page, "problem")) == (409, [CHANGED])
    assert on_flash(product) == before


def test_the_first_save_of_a_new_device_needs_no_revision(tab, product):
    assert tab.post("/smtp", **GOOD).status == 303
    assert stored(product).host == "127.0.0.1"


def test_settings_that_went_away_meanwhile_are_a_conflict(saved, product):
    revision = saved.get("/smtp").revision
    product.folders.settings.unlink()
    page = saved.post("/smtp", revision=revision, **GOOD)
    assert page.status == 409
    assert on_flash(product) is None
    assert "Stored now: (empty)" in document.read(page.text).text


def test_a_save_at_the_very_same_moment_is_a_conflict(saved, product):
    """The form passes the first look; then somebody else's settings reach the flash before its own."""
    revision, folder = saved.get("/smtp").revision, product.folders.administrator.parent
    pages: list[Page] = []
    mine = {**GOOD, "revision": revision, "sender_name": "Second"}
    thread = threading.Thread(target=lambda: pages.append(saved.post("/smtp", **mine)))
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        thread.start()
        wait_for(lambda: waits_for_a_lock(product.processes["web"].pid, folder), what="the wait for the writer before")
        found = dataclasses.replace(stored(product), sender_name="First")
        other = product.folders.settings.with_name("other")
        other.write_bytes(encode(found))
        other.rename(product.folders.settings)
    finally:
        os.close(descriptor)
        thread.join(60)
    assert (pages[0].status, said(pages[0], "problem")) == (409, [CHANGED])
    assert stored(product).sender_name == "First"


def waits_for_a_lock(process: int, folder: Path) -> bool:
    """Return whether a process has the folder open that is locked against it: it asks for the lock again and again."""
    opened = Path(f"/proc/{process}/fd")
    return any(os.readlink(opened / name) == str(folder) for name in os.listdir(opened))


def test_a_mistake_does_not_hand_out_a_newer_revision(saved, product):
    """Else a second Update would overwrite what this person has never seen."""
    revision = saved.get("/smtp").revision
    page = saved.post("/smtp", **{**GOOD, "revision": revision, "port": "x"})
    assert page.revision == revision
    with limited(product):
        page = saved.post("/smtp", **{**GOOD, "revision": revision, "sender_name": "Other"})
    assert (page.status, page.revision) == (507, revision)


# Flash in trouble


@contextlib.contextmanager
def limited(product: Product):
    """The web process can write no file: what a full flash does, without one."""
    process = product.processes["web"].pid
    before = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def small_flash(product: Product):
    """The settings folder on a file system of its own, 16 KiB large."""
    folder = str(product.folders.settings.parent)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k,mode=2750", "tmpfs", folder], check=True, timeout=60)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, timeout=60)


def fill(product: Product) -> None:
    """Fill the file system of the settings folder to its last byte."""
    with contextlib.suppress(OSError), (product.folders.settings.parent / "ballast").open("wb", 0) as file:
        while True:
            file.write(b"\0" * 512)


def test_a_full_flash_keeps_the_old_settings_and_says_so(tab, product):
    with small_flash(product):
        tab.get("/smtp")
        assert tab.update(**GOOD).status == 303
        tab.get("/smtp")
        before = on_flash(product)
        fill(product)
        page = tab.update(**{**GOOD, "sender_name": "Too much"})
        assert page.status == 507
        assert said(page, "problem") == [
            "Nothing was saved. The file smtp.toml could not be stored: No space left on device. The settings are as before."
        ]
        assert values(page)["sender_name"] == "Too much"
        assert on_flash(product) == before
        assert sorted(os.listdir(product.folders.settings.parent)) == ["ballast", "smtp.toml"]
        after = tab.get("/smtp")
        assert (values(after)["sender_name"], said(after, "notice")) == ("Storage alarms", [])


def test_a_flash_with_room_again_takes_the_settings(tab, product):
    with small_flash(product):
        fill(product)
        page = tab.update(**GOOD)
        assert page.status == 507
        (product.folders.settings.parent / "ballast").unlink()
        assert tab.post("/smtp", **{**values(page), "password": PASSWORD}).status == 303
        assert opened(product) == PASSWORD


def test_a_read_only_flash_is_told(tab, product):
    with small_flash(product):
        tab.update(**GOOD)
        tab.get("/smtp")
        before = on_flash(product)
        folder = str(product.folders.settings.parent)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True, timeout=60)
        page = tab.update(**{**GOOD, "sender_name": "Never"})
        assert page.status == 507
        assert "Read-only file system" in said(page, "problem")[0]
        assert on_flash(product) == before
        assert said(tab.get("/smtp"), "notice") == []


def test_a_write_that_fails_half_way_keeps_the_old_settings(saved, product):
    before = on_flash(product)
    with limited(product):
        page = saved.update(**{**GOOD, "sender_name": "Cut"})
    assert page.status == 507
    assert on_flash(product) == before
    assert os.listdir(product.folders.settings.parent) == ["smtp.toml"]
    assert saved.update(**{**GOOD, "sender_name": "Cut"}).status == 303


def test_a_missing_folder_is_told_and_nothing_called_saved(saved, product):
    folder = product.folders.settings.parent
    away = folder.with_name("away")
    folder.rename(away)
    try:
        page = saved.post("/smtp", **GOOD)
    finally:
        away.rename(folder)
    assert page.status == 507
    assert said(page, "problem") == [
        "Nothing was saved. The file smtp.toml could not be stored: No such file or directory. The settings are as before."
    ]


def test_a_link_in_the_place_of_the_settings_is_not_followed_and_set_aside(saved, product):
    path = product.folders.settings
    kept = path.rename(path.with_name("kept"))
    whole = kept.read_bytes()
    path.symlink_to(kept)
    assert "set aside as smtp.toml.damaged-1" in said(saved.get("/smtp"), "problem")[0]
    assert path.with_name("smtp.toml.damaged-1").is_symlink()
    assert saved.update(**GOOD).status == 303
    assert kept.read_bytes() == whole and path.is_file() and not path.is_symlink()


def test_a_damaged_file_is_told_kept_and_then_saved_anew(saved, product):
    path = product.folders.settings
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"2525", b"2526"))
    page = saved.get("/smtp")
    assert said(page, "problem") == [
        "The stored settings were damaged and could not be read. They were set aside as smtp.toml.damaged-1; "
        "please type them again."
    ]
    assert not path.exists()
    assert path.with_name("smtp.toml.damaged-1").read_bytes() == whole.replace(b"2525", b"2526")
    assert saved.update(**GOOD).status == 303
    after = saved.get("/smtp")
    assert (said(after, "problem"), said(after, "notice")) == ([], ["Saved."])
    assert path.with_name("smtp.toml.damaged-1").exists()


def test_a_file_damaged_while_the_page_was_open_is_told_at_update(saved, product):
    revision = saved.get("/smtp").revision
    product.folders.settings.write_bytes(b"damaged")
    page = saved.post("/smtp", revision=revision, **GOOD)
    assert page.status == 409
    assert any("set aside as smtp.toml.damaged-1" in each for each in said(page, "problem"))
    assert saved.post("/smtp", **{**values(page), "password": PASSWORD}).status == 303


def test_a_damaged_file_on_a_read_only_flash_is_told_all_the_same(tab, product):
    with small_flash(product):
        product.folders.settings.write_bytes(b"damaged")
        folder = str(product.folders.settings.parent)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True, timeout=60)
        page = tab.get("/smtp")
        assert page.status == 200
        assert said(page, "problem") == [
            "The stored settings are damaged and could not be read, and the file smtp.toml could not be set aside. Please type them again."
        ]
        refused = tab.update(**GOOD)
        assert (refused.status, "Read-only file system" in said(refused, "problem")[0]) == (507, True)
        assert product.folders.settings.read_bytes() == b"damaged"


# The mail hook


def test_the_hook_away_at_update_pauses_mail_and_loses_nothing(tab, product):
    product.stop("mailhook")
    try:
        assert tab.update(**GOOD).status == 303
        page = tab.get("/smtp")
    finally:
        product.start_hook()
    assert said(page, "notice") == ["Saved. The mail service is not running: mail is paused until it starts."]
    assert said(page, "banner") == [
        "The mail service is not running. Mail is paused until it starts; events cannot be accepted."
    ]
    assert opened(product) == PASSWORD
    assert said(tab.get("/smtp"), "banner") == []


def test_without_the_hooks_key_nothing_is_saved_and_told(saved, product):
    before, public = on_flash(product), product.folders.public_key
    away = public.rename(public.with_name("away"))
    try:
        page = saved.update(**{**GOOD, "sender_name": "Other"})
    finally:
        away.rename(public)
    assert page.status == 503
    assert said(page, "problem") == [
        "Nothing was saved. The mail hook has made no key yet. The settings are as before."
    ]
    assert on_flash(product) == before


def test_without_the_hooks_key_what_needs_no_seal_is_saved(saved, product):
    public = product.folders.public_key
    away = public.rename(public.with_name("away"))
    try:
        assert saved.update(**{**GOOD, "password": "", "sender_name": "Other"}).status == 303
    finally:
        away.rename(public)
    assert stored(product).sender_name == "Other"


def test_without_the_hooks_key_no_newer_revision_is_handed_out(saved, product):
    """The seal fails before the file is looked at: the page must not turn an old form into a new one."""
    second = saved.get("/smtp").revision
    saved.update(**{**GOOD, "sender_name": "First"})
    public = product.folders.public_key
    away = public.rename(public.with_name("away"))
    try:
        page = saved.post("/smtp", **{**GOOD, "revision": second, "sender_name": "Second"})
    finally:
        away.rename(public)
    assert page.status in (409, 503)
    assert "Stored now: First" in document.read(page.text).text or page.revision == second


def test_a_damaged_public_key_saves_nothing(saved, product):
    before, public = on_flash(product), product.folders.public_key
    whole = public.read_bytes()
    public.write_bytes(whole.replace(b"x25519", b"x25518"))
    try:
        page = saved.update(**GOOD)
    finally:
        public.write_bytes(whole)
    assert page.status == 503
    assert said(page, "problem")[0].startswith("Nothing was saved. The file mailhook.pub is damaged:")
    assert on_flash(product) == before


# What no browser sends


CONTROLS = ["\r\n", "\0", "\n", "\r", "\t", "\x1b", "\x7f", "\x85"]
SENTENCES = {"host": HOST, "port": PORT, "sender_name": SENDER, "account": ACCOUNT, "password": RULES}


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("name", SENTENCES)
def test_a_control_character_is_refused_with_the_fields_sentence(tab, product, name, control):
    value = GOOD[name]
    ends = () if control == "\t" and name != "password" else (value + control, control + value)
    for text in (*ends, value[:1] + control + value[1:]):
        page = tab.update(**{**GOOD, name: text})
        assert page.status == 422
        assert errors(page) == {name: SENTENCES[name]}
    assert on_flash(product) is None


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_character_in_a_choice_is_refused(tab, control):
    page = tab.update(**GOOD, security="auto" + control, sign_in="manual" + control)
    assert errors(page) == {"security": CHOICE, "sign_in": CHOICE}


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_character_in_the_from_address_is_refused(tab, control):
    page = tab.update(**GOOD, sign_in="provider", from_address=f"a@b{control}.c")
    assert errors(page) == {"from_address": FROM}


@pytest.mark.parametrize("missing", FIELDS[:5])
def test_a_missing_field_is_an_empty_one(tab, missing):
    page = tab.update(**{name: value for name, value in GOOD.items() if name != missing})
    assert page.status == 422
    assert errors(page) == {missing: {**SENTENCES, "password": LENGTH}[missing]}


def test_missing_choices_are_the_defaults(tab, product):
    tab.update(**GOOD)
    assert (stored(product).security, stored(product).sign_in) == ("auto", "manual")


def test_an_unknown_field_is_not_read(tab, product):
    assert tab.update(**GOOD, sealed="x", is_admin="1").status == 303
    assert b"is_admin" not in product.folders.settings.read_bytes()
    assert opened(product) == PASSWORD


URLENCODED = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (form(**GOOD) + b"&host=evil.example", URLENCODED, 400),
        (form(**GOOD) + b"&%68ost=evil.example", URLENCODED, 400),
        (form(**GOOD) + b"&revision=&revision=", URLENCODED, 400),
        (form(**GOOD).replace(b"Storage", b"%FF%FE"), URLENCODED, 400),
        (form(**GOOD).replace(b"Storage", b"\xff"), URLENCODED, 400),
        (b"host", URLENCODED, 400),
        (b"\0" * 100, URLENCODED, 400),
        (b"&".join(b"f%d=1" % number for number in range(1200)), URLENCODED, 400),
        (b"", URLENCODED, 422),
        (b"host=%zz&port=%", URLENCODED, 422),
        (form(**GOOD, revision="x" * 60_000), URLENCODED, 409),
        (b"x=" + b"a" * (64 * 1024 - 2), URLENCODED, 422),
        (form(**GOOD), "", 415),
        (form(**GOOD), "text/plain", 415),
        (json.dumps(GOOD).encode(), "application/json", 415),
        (
            b'--x\r\nContent-Disposition: form-data; name="host"\r\n\r\nh\r\n--x--',
            "multipart/form-data; boundary=x",
            415,
        ),
    ],
)
def test_a_strange_form_is_refused_in_words_and_writes_nothing(tab, product, body, kind, status):
    headers = {"Origin": f"http://127.0.0.1:{tab.port}", "Content-Type": kind}
    page = tab.request("POST", "/smtp", body, headers)
    assert page.status == status
    assert document.problems(page.text) == []
    assert on_flash(product) is None
    assert tab.get("/smtp").status == 200


def test_no_problem_shown_is_a_fault_of_ours(product):
    """After everything above."""
    assert "Traceback" not in product.log("web")
    assert "Traceback" not in product.log("mailhook")


# One person, two clicks


def test_a_double_click_saves_once_and_says_so(product):
    browser = product.logged_in()
    product.folders.settings.unlink(missing_ok=True)
    form = {"revision": browser.get("/smtp").revision, **settings_form(2525)}
    assert [browser.post("/smtp", **form).status for _ in range(2)] == [303, 303]
    stored = product.folders.settings.read_bytes()
    assert browser.post("/smtp", **form).status == 303
    assert product.folders.settings.read_bytes() == stored
    assert "Saved." in browser.get("/smtp").text


def test_a_form_that_was_saved_before_somebody_elses_is_a_conflict_again(product):
    browser, other = product.logged_in(), product.logged_in()
    product.folders.settings.unlink(missing_ok=True)
    form = {"revision": browser.get("/smtp").revision, **settings_form(2525)}
    assert browser.post("/smtp", **form).status == 303
    assert other.update(**settings_form(2526)).status == 303
    assert browser.post("/smtp", **form).status == 409


def test_a_head_request_does_not_use_up_the_notice(product):
    browser = product.logged_in()
    browser.update(**settings_form(2527))
    browser.request("HEAD", "/smtp", None, {})
    assert "Saved." in browser.get("/smtp").text


# What review found


def test_a_save_in_doubt_is_neither_called_saved_nor_undone(product, tmp_path):
    browser = product.logged_in()
    product.folders.settings.unlink(missing_ok=True)
    assert browser.update(**settings_form(2525)).status == 303
    browser.get("/smtp")
    form = {"revision": browser.get("/smtp").revision, **settings_form(2526)}
    pid, log = product.processes["web"].pid, tmp_path / "strace.log"
    # The second fsync of a save is the folder's, after the rename.
    words = ["strace", "-f", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=2", "-o", log, "-p", str(pid)]
    strace = subprocess.Popen(words, stderr=subprocess.PIPE)
    try:
        assert strace.stderr is not None
        strace.stderr.readline()  # attached
        page = browser.post("/smtp", **form)
    finally:
        strace.terminate()
        strace.communicate(timeout=60)
    assert "EIO" in log.read_text()
    assert page.status == 507
    assert "It is not certain that this was saved." in page.text
    assert "settings are as before" not in page.text
    again = {**settings_form(2526), "revision": page.revision}
    assert browser.post("/smtp", **again).status == 303
    assert "Saved." in browser.get("/smtp").text


def test_a_password_for_a_lost_key_is_told_and_must_be_typed_again(product):
    browser = product.logged_in()
    product.folders.settings.unlink(missing_ok=True)
    assert browser.update(**settings_form(2525)).status == 303
    kept = product.folders.public_key.read_bytes()
    product.folders.public_key.unlink()
    product.folders.private_key.rename(product.folder / "key")
    keys.load_pair(product.folders.private_key, product.folders.public_key)
    try:
        page = browser.get("/smtp")
        assert "The stored password can no longer be opened" in page.text
        assert "A password is stored." not in page.text
        blank = browser.update(**settings_form(2525, password=""))
        assert blank.status == 422
        assert "The SMTP account password does not meet the rules." in blank.text
        assert "FAIL  SMTP settings: the password was sealed to another key" in product.call("check").stdout
        assert browser.update(**settings_form(2525)).status == 303
    finally:
        product.folders.public_key.write_bytes(kept)
        (product.folder / "key").rename(product.folders.private_key)


def test_a_provider_password_is_not_carried_into_the_manual_sign_in(product):
    browser = product.logged_in()
    product.folders.settings.unlink(missing_ok=True)
    provider = settings_form(2525, sign_in="provider", password="x")
    assert browser.update(**provider).status == 303
    page = browser.update(**settings_form(2525, sign_in="manual", password=""))
    assert page.status == 422
    assert "Type it again: the sign-in changed." in page.text
    assert browser.update(**settings_form(2525, sign_in="manual")).status == 303
    assert browser.update(**settings_form(2525, sign_in="provider", password="")).status == 303


def test_a_lock_that_came_after_the_settings_shows_what_update_will_store(tmp_path):
    with Product(tmp_path) as other:
        other.start()
        browser = other.logged_in()
        assert browser.update(**settings_form(2525, security="starttls")).status == 303
        other.folders.etc.mkdir()
        (other.folders.etc / "device.toml").write_text("[locks]\nsecurity = true\n")
        other.stop("web")
        other.start_web()
        browser = other.logged_in()
        page = browser.get("/smtp")
        assert "Stored now: <strong>STARTTLS</strong>" in page.text
        assert '<option value="auto" selected>' in page.text


def test_the_tab_that_is_asked_for_again_is_never_an_old_one(saved, product):
    """It is made anew when anything in it is another, and only then."""
    wait_for(lambda: "Mail: ok" in saved.get("/smtp").text, what="the mail path")
    first = saved.get("/smtp").text
    assert saved.get("/smtp").text == first
    korean = saved.get("/smtp", **{"Accept-Language": "ko"}).text
    assert '<html lang="ko">' in korean
    assert saved.get("/smtp").text == first
    product.save(**{**GOOD, "sender_name": "Console"})
    assert 'value="Console"' in saved.get("/smtp").text
    product.stop("mailhook")
    assert "The mail service is not running." in saved.get("/smtp").text
    product.start_hook()
    wait_for(lambda: "Mail: ok" in saved.get("/smtp").text, what="the mail path")
    product.folders.public_key.rename(product.folders.public_key.with_name("kept"))
    try:
        assert "A password is stored." in saved.get("/smtp").text
    finally:
        product.folders.public_key.with_name("kept").rename(product.folders.public_key)
    raw = product.folders.settings.read_bytes()
    product.folders.settings.write_bytes(raw.replace(b"Console", b"Konsole"))
    assert "The stored settings were damaged" in saved.get("/smtp").text
