"""The sign-in by OAuth 2.0 on the pages: the fields that a choice asks for, the certificate, the code, and what is never shown."""

from __future__ import annotations

import base64
import hashlib

import pytest

from device_ui.settings import keys
from device_ui.settings.store import Store
from device_ui.web.pages import powershell
from tests.helpers import document
from tests.helpers.fake_hook import FakeHook, Pages, signed_in
from tests.helpers.product import settings_form
from tests.web.auth.test_sessions import Clock

PATH = "/smtp/sign-in"
TENANT, CLIENT = "contoso.example", "11111111-2222-3333-4444-555555555555"
CLIENT_SECRET = "aB3~a.client_secret-of-the-tenant"
MANUAL = settings_form(587, revision="")
APP = {**MANUAL, "password": "", "sign_in": "oauth", "oauth_tenant": TENANT, "oauth_client": CLIENT}
BY_ACCOUNT = {**MANUAL, "sign_in": "manual"}
EVIL = "<script>alert(1)</script>\"'&amp;"
DER, NEXT_DER = b"one certificate", b"the next certificate"
FIRST, SECOND = (hashlib.sha256(each).hexdigest() for each in (DER, NEXT_DER))
NO_FLOW = {"phase": "none", "code": "", "address": "", "seconds": 0, "step": "", "problem": "", "reply": ""}
WAITING = {
    **NO_FLOW,
    "phase": "waiting",
    "code": "WDJB-MJHT",
    "address": "https://login.example.com/device",
    "seconds": 899,
}
STATE = {
    **{
        "grant": "certificate",
        "person": "",
        "renewed": 0.0,
        "ends": "",
        "is_fixed": False,
        "warning_days": [],
        "needs_mail": "",
    },
    **{"problem": "", "step": "", "reply": ""},
    "flow": NO_FLOW,
}
OAUTH_FIELDS = ["oauth_provider", "oauth_grant", "oauth_tenant", "oauth_client", "oauth_scope"]


@pytest.fixture
def hook(hook) -> FakeHook:
    """A hook with one certificate and no sign-in yet."""
    hook.answers["sign-in"] = [{"sign_in": STATE}]
    hook.answers["certificate"] = [{"certificates": [listed(DER, "2028-11-30")]}]
    return hook


@pytest.fixture
def tab(device, hook) -> Pages:
    """The tab of a device without settings."""
    device.folders.settings.unlink(missing_ok=True)
    return device


def listed(der: bytes, ends: str) -> dict[str, str]:
    return {"der": base64.b64encode(der).decode(), "sha256": hashlib.sha256(der).hexdigest(), "ends": ends}


def saved(tab: Pages, **changes: str) -> Pages:
    assert tab.post("/smtp", {**APP, **changes}).status == 303
    return tab


def names(page) -> list[str]:
    """The fields of OAuth 2.0 on a page, in order."""
    shape = document.read(page.text).all("form", action="/smtp")[0]
    found = [each.attributes.get("name", "") for each in shape.walk() if each.name in ("input", "select")]
    return [name for name in found if name.startswith("oauth_")]


# The form: a choice is made, Update asks for what it needs.


def test_a_tab_without_oauth_has_none_of_its_fields(tab):
    assert names(tab.get("/smtp")) == []


def test_update_with_the_choice_shows_its_fields_and_asks_for_the_missing(tab):
    page = tab.post("/smtp", {**MANUAL, "sign_in": "oauth"})
    assert (page.status, names(page)) == (422, OAUTH_FIELDS)
    assert document.problems(page.text) == []
    asked = [each.text for each in document.read(page.text).by_class("error")]
    assert asked == ["Please enter the tenant: its ID or a domain of it.", "Please enter the client ID."]
    assert not tab.folders.settings.exists()


def test_another_provider_asks_for_its_issuer_and_a_secret_for_its_end(tab):
    page = tab.post("/smtp", {**APP, "oauth_provider": "custom", "oauth_grant": "secret"})
    wanted = ["oauth_provider", "oauth_grant", "oauth_issuer", "oauth_client", "oauth_scope", "oauth_until"]
    assert (page.status, names(page)) == (422, wanted)
    broken = {each.attributes["id"] for each in document.read(page.text).by_class("error")}
    assert broken == {"oauth_issuer-error", "oauth_until-error", "password-error"}


def test_each_choice_names_the_fields_on_the_page_whose_errors_go_with_it(tab):
    def decided(page):
        return {
            each.attributes["name"]: each.attributes["data-decides"]
            for each in document.read(page.text).all("select")
            if "data-decides" in each.attributes
        }

    assert decided(tab.get("/smtp")) == {"sign_in": "account password from_address"}
    shown = tab.post("/smtp", {**APP, "oauth_client": "", "oauth_grant": "secret"})
    assert decided(shown) == {
        "sign_in": "account password from_address oauth_provider oauth_grant oauth_tenant oauth_client oauth_scope oauth_until",
        "oauth_provider": "oauth_tenant",
        "oauth_grant": "password oauth_tenant oauth_until",
    }


def test_what_was_typed_for_oauth_is_shown_again_and_stored(tab):
    page = saved(tab).get("/smtp")
    assert names(page) == OAUTH_FIELDS
    root = document.read(page.text)
    assert root.by_id("oauth_client").attributes["value"] == CLIENT
    assert root.all("a", href=PATH) != [] and document.problems(page.text) == []
    settings = Store(tab.folders.settings).load().settings
    assert (settings.oauth_tenant, settings.oauth_grant, settings.sealed) == (TENANT, "certificate", None)


def test_a_client_secret_is_sealed_by_the_page_and_shown_nowhere(tab):
    saved(tab, oauth_grant="secret", oauth_until="2028-11-01", password=CLIENT_SECRET)
    settings = Store(tab.folders.settings).load().settings
    assert keys.load_password(tab.folders.private_key, settings) == CLIENT_SECRET
    for path in ("/smtp", PATH):
        assert CLIENT_SECRET not in tab.get(path).text
    assert CLIENT_SECRET.encode() not in tab.folders.settings.read_bytes()


@pytest.mark.parametrize(
    ("changes", "is_needed"),
    [
        ({}, False),
        ({"oauth_grant": "device"}, False),
        ({"oauth_grant": "secret", "oauth_until": "2028-11-01", "password": CLIENT_SECRET}, True),
        ({"sign_in": "none"}, False),
        ({"sign_in": "provider", "password": CLIENT_SECRET}, True),
        (BY_ACCOUNT, True),
    ],
    ids=["certificate", "code", "client secret", "relay", "provider", "manual"],
)
def test_a_password_is_asked_for_by_the_sign_ins_that_need_one(tab, changes, is_needed):
    root = document.read(saved(tab, **changes).get("/smtp").text)
    asks, does_not = (
        "The password of this login. A password is stored. Leave this empty to keep it.",
        "Not needed with this sign-in.",
    )
    assert root.by_id("password-help").text == (asks if is_needed else does_not)
    assert ("disabled" in root.by_id("password").attributes) is not is_needed
    # The manual's rules are for the manual's sign-in alone.
    assert bool(root.all("ul", id="password-rules")) is (changes is BY_ACCOUNT)


def test_the_end_of_a_stored_password_is_announced_before_update(tab):
    revision = saved(tab, **BY_ACCOUNT).get("/smtp").revision
    root = document.read(tab.post("/smtp", {**APP, "oauth_client": "", "revision": revision}).text)
    assert root.by_id("password-help").text == "Not needed with this sign-in. Update removes the stored password."
    assert Store(tab.folders.settings).load().settings.sealed is not None


def test_a_change_of_the_application_asks_for_its_secret_again(tab):
    secret = {"oauth_grant": "secret", "oauth_until": "2028-11-01", "password": CLIENT_SECRET}
    revision = saved(tab, **secret).get("/smtp").revision
    page = tab.post("/smtp", {**APP, **secret, "password": "", "oauth_client": "other", "revision": revision})
    assert page.status == 422
    assert (
        "Type it again: the server, the account, the connection security, the trusted certificate or the OAuth 2.0 provider changed."
        in page.text
    )


def test_the_progress_of_a_test_counts_the_steps_to_a_token(tab):
    before = document.read(tab.get("/smtp").text).by_id("test").attributes["data-steps"]
    after = document.read(saved(tab).get("/smtp").text).by_id("test").attributes["data-steps"]
    assert (before, after) == ("11", "17")


def test_a_test_shows_the_steps_to_a_token_and_leads_to_the_field(tab, hook):
    result = {
        **{"verdict": "try later", "step": "token answer", "problem": "client refused", "seconds": 1, "recipients": []},
        **{
            "reply": "AADSTS700016 400 unauthorized_client: no",
            "field": "oauth_client",
            "advice": "Check the client ID.",
        },
    }
    hook.answers["test"] = [
        {"step": {"name": "token connect", "seconds": 0.01, "told": "192.0.2.1 port 443"}},
        {"result": result},
    ]
    told = document.read(tab.post("/smtp/test", APP).text).by_id("test")
    assert "Sign-in server: connect" in told.text and "Sign-in server: answer: client refused" in told.text
    assert told.all("a", href="#oauth_client") != []


# The page of the sign-in.


def test_without_a_sign_in_by_oauth_there_is_no_such_page(tab, hook):
    tab.post("/smtp", MANUAL)
    hook.heard.clear()
    for path in (PATH, f"{PATH}/certificate"):
        assert tab.get(path).headers["location"] == "/smtp"
    assert tab.post(PATH, {"do": "begin"}).headers["location"] == "/smtp"
    assert hook.heard == []


def test_without_a_login_nothing_is_shown_and_nothing_begins(tab, hook):
    saved(tab)
    hook.heard.clear()
    stranger = Pages(tab.app, tab.folders)
    assert stranger.get(PATH).headers["location"] == "/login?to=%2Fsmtp%2Fsign-in"
    assert stranger.get(f"{PATH}/certificate").headers["location"] == "/login?to=%2Fsmtp%2Fsign-in"
    assert stranger.post(PATH, {"do": "begin"}).status == 403
    assert tab.post(PATH, {"do": "begin"}, HTTP_ORIGIN="http://evil.example").status == 403
    assert hook.heard == []


def test_the_certificate_is_downloaded_as_the_hook_made_it(tab):
    page = saved(tab).get(PATH)
    assert document.problems(page.text) == []
    assert FIRST.upper() in page.text and "2028-11-30" in page.text
    link = document.read(page.text).all("a", href=f"{PATH}/certificate?sha256={FIRST}")
    assert [each.text for each in link] == ["Download the certificate"]
    answer = tab.get(f"{PATH}/certificate", f"sha256={FIRST}")
    assert (answer.status, answer.text) == (200, DER.decode())
    assert answer.headers["content-type"] == "application/pkix-cert"
    assert answer.headers["content-disposition"] == f'attachment; filename="device-ui-{FIRST[:8]}.cer"'


def test_the_next_certificate_has_a_download_of_its_own(tab, hook):
    hook.answers["certificate"] = [{"certificates": [listed(DER, "2026-12-30"), listed(NEXT_DER, "2028-11-30")]}]
    page = saved(tab).get(PATH)
    assert [each.text for each in document.read(page.text).all("h2")][1:3] == [
        "The certificate of this device",
        "The next certificate",
    ]
    assert tab.get(f"{PATH}/certificate", f"sha256={SECOND}").text == NEXT_DER.decode()
    assert tab.get(f"{PATH}/certificate", "sha256=0").status == 404


def test_powershell_has_what_was_typed_and_only_for_microsoft(tab):
    text = saved(tab).get(PATH).text
    assert f"New-ServicePrincipal -AppId &#039;{CLIENT}&#039; -ObjectId $object" in text
    custom = {"oauth_provider": "custom", "oauth_issuer": "https://login.example.com", "oauth_tenant": ""}
    tab.folders.settings.unlink()
    assert "New-ServicePrincipal" not in saved(tab, **custom).get(PATH).text


def test_what_a_person_typed_stays_a_text_in_powershell(tab):
    """Each kind of quotation mark that PowerShell knows, and what it expands between double ones."""
    odd = "o'x$(calc)`‘’@contoso.example"
    saved(tab, oauth_client="a'b")
    settings = Store(tab.folders.settings).load().settings
    lines = powershell.lines(settings.__class__(**{**vars(settings), "account": odd}))
    assert "-AppId 'a''b' " in lines
    assert "Set-CASMailbox 'o''x$(calc)`‘‘’’@contoso.example' " in lines
    assert "-RecipientRestrictionFilter 'PrimarySmtpAddress -eq ''o''''x$(calc)`‘‘’’@contoso.example'''\n" in lines
    assert '"' not in lines


def refresh(text: str) -> tuple[str, str]:
    """The seconds after which a browser without JavaScript loads the page again, and from where."""
    seconds, _, address = (
        text.partition('<noscript><meta http-equiv="refresh" content="')[2].partition('"')[0].partition("; url=")
    )
    return seconds, address


def test_a_code_begins_by_the_button_and_the_page_looks_again_by_itself(tab, hook):
    saved(tab, oauth_grant="device")
    assert "refresh" not in tab.get(PATH).text
    assert tab.post(PATH, {"do": "begin"}).headers["location"] == PATH
    assert {"do": "sign-in", "action": "begin"} in hook.heard
    hook.answers["sign-in"] = [{"sign_in": {**STATE, "grant": "device", "flow": WAITING}}]
    page = tab.get(PATH)
    assert refresh(page.text) == ("5", "?refresh") and document.problems(page.text) == []
    root = document.read(page.text)
    assert "WDJB-MJHT" in page.text and "Minutes until the code expires: 15." in page.text
    assert "https://login.example.com/device" in [each.text for each in root.all("code")]
    assert [each.text for each in root.all("button", name="do")] == ["Cancel"]
    assert tab.post(PATH, {"do": "cancel"}).status == 303
    assert {"do": "sign-in", "action": "cancel"} in hook.heard
    assert {"do": "certificate"} not in hook.heard


def test_a_code_page_that_is_left_open_ends_its_session_after_ten_idle_minutes(folders):
    clock = Clock()
    with FakeHook(folders.socket) as hook:
        tab = saved(signed_in(folders, clock), oauth_grant="device")
        hook.answers["sign-in"] = [{"sign_in": {**STATE, "grant": "device", "flow": WAITING}}]
        page, left = tab.get(PATH), []
        while page.status == 200 and len(left) < 130:
            left.append(document.read(page.text).by_class("toast")[0].attributes["data-left"])
            seconds, query = refresh(page.text)
            clock.now += int(seconds)
            page = tab.get(PATH, query.removeprefix("?"))
        assert left == [str(seconds) for seconds in range(600, 0, -5)]
        assert (page.status, page.headers["location"]) == (303, "/login?to=%2Fsmtp%2Fsign-in")


def test_a_person_who_looks_at_a_code_keeps_the_session(folders):
    clock = Clock()
    with FakeHook(folders.socket) as hook:
        tab = saved(signed_in(folders, clock), oauth_grant="device")
        hook.answers["sign-in"] = [{"sign_in": {**STATE, "grant": "device", "flow": WAITING}}]
        for _ in range(3):
            clock.now += 599
            assert tab.get(PATH).status == 200


@pytest.mark.parametrize(
    ("phase", "sentence"),
    [
        ("done", "The sign-in is done."),
        ("expired", "The code has expired. Begin again."),
        ("declined", "The sign-in was declined at the provider."),
        ("cancelled", "The sign-in was cancelled."),
    ],
)
def test_the_end_of_a_code_is_said_and_another_can_begin(tab, hook, phase, sentence):
    hook.answers["sign-in"] = [{"sign_in": {**STATE, "flow": {**NO_FLOW, "phase": phase}}}]
    page = saved(tab, oauth_grant="device").get(PATH)
    root = document.read(page.text)
    assert sentence in page.text and "refresh" not in page.text
    assert [each.text for each in root.all("button", name="do")] == ["Get a code"]


def test_a_code_that_failed_says_what_to_do(tab, hook):
    advice = "The provider offers no sign-in by a code: choose another grant."
    reason = {"step": "token answer", "problem": "not understood", "reply": "device_authorization_endpoint"}
    flow = {**NO_FLOW, "phase": "failed", **reason, "advice": advice}
    hook.answers["sign-in"] = [{"sign_in": {**STATE, "grant": "device", "flow": flow}}]
    page = saved(tab, oauth_grant="device").get(PATH)
    assert document.problems(page.text) == []
    assert advice in page.text
    korean = saved(tab, oauth_grant="device").get(PATH, HTTP_ACCEPT_LANGUAGE="ko")
    assert "다른 인증 방식을 선택하세요." in korean.text


def test_a_failure_names_the_step_and_the_providers_words(tab, hook):
    failed = {"step": "token connect", "problem": "refused", "reply": "Connection refused"}
    hook.answers["sign-in"] = [{"sign_in": {**STATE, **failed}}]
    assert "The sign-in failed at Sign-in server: connect: Connection refused" in saved(tab).get(PATH).text


@pytest.mark.parametrize(
    ("changes", "days", "is_fixed", "sentence"),
    [
        ({}, [60, 30, 14, 7, 1], False, "Ends on 2027-01-15. Events warn this many days before: 60, 30, 14, 7, 1."),
        (
            {"oauth_grant": "device"},
            [30, 14, 7, 1],
            False,
            "Ends on 2027-01-15 if the device cannot renew it. Events warn this many days before: 30, 14, 7, 1.",
        ),
        ({"oauth_grant": "device"}, [], False, "Ends on 2027-01-15 if the device cannot renew it."),
        ({"oauth_grant": "device"}, [1], True, "Ends on 2027-01-15. Events warn this many days before: 1."),
    ],
    ids=["certificate", "person", "person whose sign-in lives short", "person whose sign-in ends in any case"],
)
def test_the_end_is_shown_with_the_days_at_which_it_is_warned_of(tab, hook, changes, days, is_fixed, sentence):
    state = {**STATE, "ends": "2027-01-15", "warning_days": days, "is_fixed": is_fixed}
    hook.answers["sign-in"] = [{"sign_in": state}]
    tab.folders.settings.unlink(missing_ok=True)
    root = document.read(saved(tab, **changes).get(PATH).text)
    assert [" ".join(each.text.split()) for each in root.all("p") if "Ends on" in each.text] == [sentence]


def test_a_sign_in_that_cannot_be_kept_without_mail_is_said_in_place_of_its_end(tab, hook):
    state = {**STATE, "grant": "device", "ends": "2027-01-15", "needs_mail": "It cannot be kept without mail."}
    hook.answers["sign-in"] = [{"sign_in": state}]
    page = saved(tab, oauth_grant="device").get(PATH)
    assert "It cannot be kept without mail." in page.text and "2027-01-15" not in page.text


def test_another_person_than_the_account_is_said(tab, hook):
    for person, is_said in ((APP["account"].upper(), False), ("someone@contoso.example", True)):
        hook.answers["sign-in"] = [{"sign_in": {**STATE, "person": person, "renewed": 1_800_000_000.0}}]
        tab.folders.settings.unlink(missing_ok=True)
        page = saved(tab, oauth_grant="device").get(PATH)
        assert f"Signed in as {person}." in page.text and "2027-01-15" in page.text
        assert ("is another one" in page.text) == is_said


def test_a_hook_that_refuses_or_is_away_is_a_sentence(tab, hook):
    saved(tab, oauth_grant="device")
    hook.answers["sign-in"] = [{"error": "too-many", "reason": "wait", "seconds": 30}]
    page = tab.post(PATH, {"do": "begin"})
    assert (page.status, page.headers["retry-after"]) == (429, "30")
    assert "Please wait 30 seconds and try again." in page.text
    hook.answers["sign-in"] = []
    page = tab.get(PATH)
    assert page.status == 503
    assert "The state of the sign-in cannot be shown. The mail hook went away before it answered." in page.text
    assert "the mail hook" not in tab.get(PATH, HTTP_ACCEPT_LANGUAGE="ko").text.lower()
    assert document.problems(page.text) == []
    assert tab.post(PATH, {"do": "something"}).status == 400


def test_what_a_provider_says_is_text_and_no_link(tab, hook):
    flow = {**WAITING, "code": EVIL, "address": "javascript:alert(1)//"}
    state = {**STATE, "person": EVIL, "problem": EVIL, "step": EVIL, "reply": EVIL, "renewed": 1.0, "ends": EVIL}
    hook.answers["sign-in"] = [{"sign_in": {**state, "flow": flow}}]
    page = saved(tab, oauth_grant="device").get(PATH)
    assert EVIL not in page.text and "<script>alert" not in page.text
    assert not any("javascript" in each.attributes.get("href", "") for each in document.read(page.text).all("a"))
