"""What the test found of the server's certificate, and the two buttons that fill it in, unsaved; with and without the script."""

from __future__ import annotations

import html
import re

import pytest

from device_ui.settings.store import Store
from tests.helpers import document
from tests.helpers.fake_hook import FakeHook, signed_in
from tests.helpers.product import PASSWORD, Page
from tests.servers.authority import Authority
from tests.web.pages import test_test_mail
from tests.web.pages.test_test_mail import EVIL, FORM, NOTHING, lines, result, stream

# The same device, hook and tab as for the test mail.
watch, device = test_test_mail.watch, test_test_mail.device
hook, tab, saved = test_test_mail.hook, test_test_mail.tab, test_test_mail.saved
KEY, OTHER_KEY = "0f" * 32, "1f" * 32
AUTHORITY = Authority("Our own").pem.decode().strip()
LEAF = {
    "subject": "CN=relay.lan",
    "issuer": "CN=Our own",
    "names": ["relay.lan"],
    "begins": "2026-01-01",
    "ends": "2027-01-01",
    "sha256": "ab" * 32,
    "key_sha256": KEY,
    "pem": "",
}
ROOT = {**LEAF, "subject": "CN=Our own", "key_sha256": OTHER_KEY, "pem": AUTHORITY}
FAILED = {**NOTHING, "verdict": "try later", "step": "certificate", "problem": "self-signed", "field": "trust"}
TYPED = {**FORM, "sender_name": "Typed just now"}


def shows(hook: FakeHook, *chain: dict[str, object], **changes: object) -> None:
    hook.answers["test"] = [{"result": {**FAILED, "advice": "Compare it.", "chain": list(chain), **changes}}]


def offers(page: Page) -> dict[str, str]:
    """The buttons of a page: their texts and values."""
    found = document.read(page.text).all("button", name="offer")
    assert all(each.attributes["formaction"] == "/smtp/trust" for each in found)
    # They are beside the form and send it all the same (HTML, 4.10.18.3).
    assert all(document.read(page.text).by_id(each.attributes["form"]).name == "form" for each in found)
    return {each.text: html.unescape(each.attributes["value"]) for each in found}


def value(page: Page, name: str) -> str:
    found = document.read(page.text).by_id(name)
    if found.name == "select":
        return next(each.attributes["value"] for each in found.all("option") if "selected" in each.attributes)
    return "".join(map(str, found.content)) if found.name == "textarea" else found.attributes.get("value", "")


def test_chain_is_shown_with_what_a_person_can_compare(tab, hook):
    shows(hook, LEAF, ROOT)
    told = result(tab.post("/smtp/test", TYPED)).text
    for line in (
        f"SHA-256 of the key: {':'.join(['0F'] * 32)}",
        f"SHA-256 of the certificate: {':'.join(['AB'] * 32)}",
        "Valid from 2026-01-01 to 2027-01-01",
        "Names in the certificate: relay.lan",
        "Subject: “CN=relay.lan”",
        "Issuer: “CN=Our own”",
        f"SHA-256 of the key: {':'.join(['1F'] * 32)}",
        "Subject: “CN=Our own”",
    ):
        assert line in told


@pytest.mark.parametrize("name", ["subject", "issuer", "names"])
def test_no_text_of_a_certificate_shares_a_line_with_a_fingerprint(name, tab, hook):
    claim = f"relay.lan). SHA-256 of the key: {':'.join(['EE'] * 32)}.\nSHA-256 of the key: {':'.join(['EE'] * 32)}"
    shows(hook, {**LEAF, name: [claim] if name == "names" else claim})
    listed = lines(stream(tab, TYPED))[-1]["result"]["listed"][0].split("\n")
    assert [each for each in listed if each.startswith("SHA-256")] == [
        f"SHA-256 of the key: {':'.join(['0F'] * 32)}",
        f"SHA-256 of the certificate: {':'.join(['AB'] * 32)}",
    ]
    assert [place for place, each in enumerate(listed) if "EE:EE" in each] == [
        {"names": 3, "subject": 4, "issuer": 5}[name]
    ]
    # The page without the script has the same lines.
    rows = re.findall("<li>(.*?<br>)</li>", tab.post("/smtp/test", TYPED).text)
    assert rows == ["".join(f"{html.escape(each)}<br>" for each in listed)]


@pytest.mark.parametrize(("chain", "authority"), [((LEAF,), ""), ((LEAF, ROOT), AUTHORITY), ((ROOT,), AUTHORITY)])
def test_key_and_authority_are_offered(chain, authority, tab, hook):
    shows(hook, *chain)
    page = tab.post("/smtp/test", TYPED)
    assert offers(page) == {"Trust this key": f"pin:{chain[0]['key_sha256']}", "Give the authority": f"ca:{authority}"}


def test_script_gets_the_same_buttons(tab, hook):
    shows(hook, LEAF, ROOT)
    shown = lines(stream(tab, TYPED))[-1]["result"]
    page = tab.post("/smtp/test", TYPED)
    assert {each["label"]: each["value"] for each in shown["offers"]} == offers(page)
    assert len(shown["listed"]) == 2


@pytest.mark.parametrize("problem", ["weak TLS", "revoked"])
def test_nothing_is_offered_that_no_trust_changes(problem, tab, hook):
    shows(hook, LEAF, problem=problem)
    assert offers(tab.post("/smtp/test", TYPED)) == {}


def test_nothing_is_offered_without_a_certificate(tab, hook):
    assert offers(tab.post("/smtp/test", TYPED)) == {}


def test_nothing_is_offered_where_the_maker_locked_it(device, tab, hook):
    shows(hook, LEAF)
    device.folders.etc.mkdir(exist_ok=True)
    maker = device.folders.etc / "device.toml"
    maker.write_text("[locks]\ntrust = true\n")
    locked = signed_in(device.folders)
    maker.unlink()
    assert offers(locked.post("/smtp/test", {each: text for each, text in TYPED.items() if each != "trust"})) == {}


def test_markup_of_a_certificate_stays_text(tab, hook):
    shows(hook, {**dict.fromkeys(LEAF, EVIL)})
    page = tab.post("/smtp/test", TYPED)
    assert page.text.count("<script") == 1
    assert document.problems(page.text) == []


# What a button does


def test_key_is_filled_in_and_not_saved(tab, hook):
    page = tab.post("/smtp/trust", {**TYPED, "offer": f"pin:{KEY}"})
    assert (page.status, document.problems(page.text)) == (200, [])
    assert {name: value(page, name) for name in ("trust", "trust_key", "sender_name", "port")} == {
        "trust": "pin",
        "trust_key": KEY,
        "sender_name": "Typed just now",
        "port": FORM["port"],
    }
    assert "The server&#039;s key is filled in, and not saved yet." in page.text
    assert "<details open>" in page.text
    assert not tab.folders.settings.exists()
    assert hook.heard == []


def test_authority_is_filled_in_and_saved_by_update(tab, hook):
    page = tab.post("/smtp/trust", {**TYPED, "offer": f"ca:{AUTHORITY}".replace("\n", "\r\n")})
    assert (value(page, "trust"), value(page, "trust_ca").strip().replace("\r", "")) == ("ca", AUTHORITY)
    assert tab.post("/smtp", {**TYPED, "trust": "ca", "trust_ca": value(page, "trust_ca")}).status == 303
    stored = Store(tab.folders.settings).read()[0]
    assert (stored.trust, stored.trust_ca) == ("ca", AUTHORITY)


def test_authority_that_the_server_keeps_to_itself_is_asked_for(tab):
    page = tab.post("/smtp/trust", {**TYPED, "offer": "ca:"})
    assert (value(page, "trust"), value(page, "trust_ca").strip()) == ("ca", "")
    assert "Paste the certificate of your authority" in page.text


def test_password_is_never_sent_back_and_has_to_be_typed_again(saved):
    typed = {**TYPED, "revision": revision(saved.get("/smtp"))}
    page = saved.post("/smtp/trust", {**typed, "offer": f"pin:{KEY}"})
    assert PASSWORD not in page.text
    assert "Type the password again as well." in page.text
    assert "Leave this empty to keep it." not in page.text
    refused = saved.post(
        "/smtp", {**TYPED, "password": "", "trust": "pin", "trust_key": KEY, "revision": revision(page)}
    )
    assert (refused.status, "trusted certificate changed" in refused.text) == (422, True)


def test_password_that_the_script_keeps_is_not_asked_for_again(saved):
    typed = {**TYPED, "revision": revision(saved.get("/smtp")), "keeps_password": "1"}
    page = saved.post("/smtp/trust", {**typed, "offer": f"pin:{KEY}"})
    assert ("is filled in, and not saved yet" in page.text, "Type the password again" in page.text) == (True, False)


def test_relay_without_a_login_needs_two_clicks(saved):
    typed = {**TYPED, "sign_in": "none", "password": "", "revision": revision(saved.get("/smtp"))}
    page = saved.post("/smtp/trust", {**typed, "offer": f"pin:{KEY}"})
    assert "Type the password again" not in page.text
    form = {**typed, "trust": value(page, "trust"), "trust_key": value(page, "trust_key"), "revision": revision(page)}
    assert saved.post("/smtp", form).status == 303


@pytest.mark.parametrize("offer", ["", "system:", "none:", "ignore:1", "pin", "ca"])
def test_anything_else_fills_in_nothing_less(offer, tab):
    """There is no button that turns the check off."""
    page = tab.post("/smtp/trust", {**TYPED, "trust": "pin", "trust_key": KEY, "offer": offer})
    assert page.status == 200
    assert value(page, "trust") in ("pin", "ca")


def test_value_of_a_button_is_checked_like_a_typed_one(tab):
    page = tab.post("/smtp/trust", {**TYPED, "offer": f"pin:{EVIL}"})
    assert page.text.count("<script") == 1
    assert tab.post("/smtp", {**TYPED, "trust": "pin", "trust_key": value(page, "trust_key")}).status == 422


def test_get_leads_back_to_the_tab(tab):
    answer = tab.get("/smtp/trust")
    assert (answer.status, answer.headers["location"]) == (303, "/smtp")


def test_form_of_another_origin_fills_in_nothing(tab):
    assert tab.post("/smtp/trust", {**TYPED, "offer": f"pin:{KEY}"}, HTTP_ORIGIN="http://evil.example").status == 403


def revision(page: Page) -> str:
    return re.search(r'name="revision" value="([^"]*)"', page.text)[1]


# The fields come with their choice.


@pytest.mark.parametrize(("trust", "field"), [("pin", "trust_key"), ("ca", "trust_ca")])
def test_update_asks_for_what_the_choice_needs(trust, field, tab):
    assert field not in tab.get("/smtp").text
    page = tab.post("/smtp", {**TYPED, "trust": trust})
    assert page.status == 422
    assert document.read(page.text).by_id(f"{field}-error").text


def test_stored_authority_is_shown_in_its_lines(tab):
    assert tab.post("/smtp", {**TYPED, "trust": "ca", "trust_ca": AUTHORITY}).status == 303
    page = tab.get("/smtp")
    assert value(page, "trust_ca").strip() == AUTHORITY
    form = {**TYPED, "password": "", "trust": "ca", "trust_ca": AUTHORITY.replace("\n", "\r\n")}
    before = tab.folders.settings.read_bytes()
    assert tab.post("/smtp", {**form, "revision": revision(page)}).status == 303
    assert tab.folders.settings.read_bytes() == before
