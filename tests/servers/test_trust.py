"""A relay in the LAN with a certificate of its own, by the real processes: Postfix is tested, trusted and gets the mail; whoever
has not the trusted key gets no login."""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from device_ui.mail import client
from device_ui.settings import store
from tests.helpers.product import PASSWORD, Browser, Product, settings_form, wait_for
from tests.mail.smtp.test_trust import FUTURE, PAST, own, pin, seen
from tests.servers.authority import Authority, Certificate, self_signed
from tests.servers.postfix import MailServer
from tests.servers.scripted import ScriptedServer
from tests.servers.test_passback import heard

ACCOUNT = "alarm@mail.example.com"
KEY = ec.generate_private_key(ec.SECP256R1())
FIRST = self_signed(["relay.lan"], KEY, not_before=PAST)
NEW_KEY = self_signed(["relay.lan"])
STRANGER = self_signed(["relay.lan"])
AUTHORITY = Authority("Our own")


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    limits = {"smtpd_client_event_limit_exceptions": "static:all", "max_use": "1"}
    folder, accounts = tmp_path_factory.mktemp("postfix"), {ACCOUNT: PASSWORD}
    with MailServer(folder=folder, certificate=FIRST, accounts=accounts, limits=limits) as running:
        yield running


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with Product(tmp_path_factory.mktemp("device")) as product:
        product.maker("[mail]\ndigest_window = 0\nhourly_budget = 1000\n[web]\ntests = 1000\n").start()
        yield product


@pytest.fixture
def browser(product: Product) -> Browser:
    return product.logged_in()


def form(relay: MailServer, **changes: str) -> dict[str, str]:
    return settings_form(relay.submission_port, host="127.0.0.1", account=ACCOUNT, security="auto", **changes)


def save(browser: Browser, relay: MailServer, **changes: str) -> None:
    assert browser.update(**form(relay, **changes)).status == 303


def arrives(product: Product, relay: MailServer) -> None:
    """Raise an event, whose mail arrives."""
    before = len(relay.mails())
    product.event("303", "it works")
    relay.wait_for(before + 1)
    wait_for(lambda: product.state()["waiting"] == 0, what="the record of the delivery")


def dates(certificate: Certificate) -> str:
    found = seen(certificate)
    return f"valid from {found.begins:%Y-%m-%d} to {found.ends:%Y-%m-%d}"


def stops(product: Product) -> str:
    """Raise an event, whose mail waits since the certificate is not the trusted one; why."""
    product.event("303", "it waits")
    wait_for(lambda: product.state()["problem"] == "server", what="the attempt")
    state = product.state()
    assert (state["step"], state["waiting"] > 0) == ("certificate", True)
    return f"{state['reply']} {state['advice']}"


def offers(text: str) -> dict[str, str]:
    """The buttons of a failed test: label and value."""
    found = re.findall(r'formaction="/smtp/trust" name="offer" value="([^"]*)" class="second">([^<]*)<', text)
    return {html.unescape(label): html.unescape(value) for value, label in found}


def test_from_the_failed_test_to_the_mail_that_arrives_without_a_script(product, browser, relay):
    relay.show(FIRST)
    typed = {"revision": "", **form(relay)}
    tested = browser.post("/smtp/test", **typed)
    assert "The test mail was not sent." in tested.text
    key = seen(FIRST).key_sha256
    assert ":".join(re.findall("..", key.upper())) in tested.text
    assert "Names in the certificate: relay.lan<br>" in tested.text
    offered = offers(tested.text)
    assert offered == {"Trust this key": f"pin:{key}", "Give the authority": "ca:"}
    filled = browser.post("/smtp/trust", **typed, offer=offered["Trust this key"])
    assert "not saved yet" in filled.text
    assert (f'value="{key}"' in filled.text, PASSWORD in filled.text) == (True, False)
    assert '<option value="pin" selected>' in filled.text
    assert product.folders.settings.exists() is False
    assert browser.update(**{**form(relay), "trust": "pin", "trust_key": key}).status == 303
    arrives(product, relay)
    assert relay.logins() == [(ACCOUNT, True)]


RENEWED = {
    "the same key": self_signed(["relay.lan"], KEY, not_before=PAST, not_after=FUTURE),
    "the same key and another name": self_signed(["other.lan"], KEY),
    "the same key, and it has ended": self_signed(["relay.lan"], KEY, not_after=PAST),
}


@pytest.mark.parametrize("renewal", RENEWED)
def test_renewed_certificate_with_the_same_key_goes_on(renewal, product, browser, relay):
    save(browser, relay, **pin(FIRST))
    relay.show(RENEWED[renewal])
    arrives(product, relay)
    has_ended = renewal == "the same key, and it has ended"
    assert product.state()["problem"] == ("certificate" if has_ended else "")
    assert ("Its key is trusted, so mail goes on" in browser.get("/smtp").text) == has_ended


def test_renewed_certificate_with_another_key_stops_the_mail_until_it_is_trusted(product, browser, relay):
    relay.show(FIRST)
    save(browser, relay, **pin(FIRST))
    arrives(product, relay)
    logins = len(relay.logins())
    relay.show(NEW_KEY)
    why = stops(product)
    # Both keys, and the dates of both certificates.
    assert f"{seen(FIRST).key_sha256}, last seen in a certificate that is {dates(FIRST)}" in why
    assert f"{seen(NEW_KEY).key_sha256}, in a certificate that is {dates(NEW_KEY)}" in why
    assert "what waits is kept" in why
    assert len(relay.logins()) == logins
    # Wherever an operator looks, it is the same.
    tested = browser.post("/smtp/test", revision=browser.get("/smtp").revision, **form(relay, **pin(FIRST)))
    for each in (browser.get("/smtp").text, tested.text, product.command("check").stdout, product.log("mailhook")):
        assert dates(FIRST) in each
        assert dates(NEW_KEY) in each
    assert seen(NEW_KEY).key_sha256 in browser.get("/smtp").text
    health = browser.get("/health")
    assert (health.status, health.text) == (503, "server\n")
    assert seen(NEW_KEY).key_sha256 in product.command("check").stdout
    mails = len(relay.mails())
    save(browser, relay, **pin(NEW_KEY))
    relay.wait_for(mails + 1)
    wait_for(lambda: product.state()["problem"] == "", what="the delivery")


def test_own_authority_vouches_for_each_new_certificate(product, browser, relay):
    for names in (["127.0.0.1"], ["127.0.0.1", "relay.lan"]):
        relay.show(AUTHORITY.issue(names))
        save(browser, relay, **own(AUTHORITY))
        arrives(product, relay)
    mails = len(relay.mails())
    relay.show(Authority("Our own").issue(["127.0.0.1"]))
    stops(product)
    relay.show(AUTHORITY.issue(["127.0.0.1"]))
    client.try_waiting(product.folders.socket, "test")
    relay.wait_for(mails + 1)
    wait_for(lambda: product.state()["waiting"] == 0, what="the mails")


def test_changed_pin_in_the_file_opens_nothing(product, browser, relay):
    relay.show(FIRST)
    save(browser, relay, **pin(FIRST))
    arrives(product, relay)
    path, logins = product.folders.settings, len(relay.logins())
    settings, raw = store.Store(path).read()[0], path.read_bytes()
    # A key that was never trusted: a former one is that of a former server, which still gets the warning of a change.
    relay.show(STRANGER)
    for edit in ({"trust_key": seen(STRANGER).key_sha256}, {"trust": "system", "trust_key": ""}):
        path.write_bytes(store.encode(dataclasses.replace(settings, **edit)))
        client.settings_changed(product.folders.socket, seconds=20)
        product.event("303", "disk")
        wait_for(lambda: product.state()["problem"] == "password", what="a password that does not open")
    assert len(relay.logins()) == logins
    relay.show(FIRST)
    path.write_bytes(raw)
    client.settings_changed(product.folders.socket, seconds=20)
    wait_for(lambda: product.state()["waiting"] == 0, what="the mails")


@pytest.mark.parametrize("tls_first", [False, True])
def test_server_in_the_middle_gets_no_login(product, browser, tls_first, tmp_path: Path):
    """It has the place of the server, and a certificate that the system or the authority might even verify; not the key."""
    chain = tmp_path / "chain.pem"
    chain.write_bytes(NEW_KEY.key_pem + NEW_KEY.cert_pem)
    with ScriptedServer(chain=chain, tls_first=tls_first) as middle:
        security = "tls" if tls_first else "starttls"
        typed = settings_form(middle.port, host="127.0.0.1", account=ACCOUNT, security=security, **pin(FIRST))
        assert browser.update(**typed).status == 303
        stops(product)
        tested = browser.post("/smtp/test", revision=browser.get("/smtp").revision, **typed)
        assert "key changed" in tested.text
    assert "AUTH" not in middle.verbs
    assert not heard(middle, PASSWORD)
    assert middle.sessions
