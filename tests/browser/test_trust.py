"""A relay in the LAN with a certificate of its own: in a browser from the failed test to the mail that arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from device_ui.settings.store import Store
from tests.browser.conftest import Running, Visitor, give_cookie, labelled, raise_event
from tests.helpers.product import PASSWORD, Product, settings_form
from tests.mail.smtp.test_trust import seen
from tests.servers.authority import Authority, Certificate, self_signed
from tests.servers.postfix import MailServer

ACCOUNT = "alarm@mail.example.com"
OWN = Authority("Our own")
SELF_SIGNED, ISSUED = self_signed(["relay.lan"]), OWN.issue(["127.0.0.1"])


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    limits = {"smtpd_client_event_limit_exceptions": "static:all", "max_use": "1"}
    folder, accounts = tmp_path_factory.mktemp("postfix"), {ACCOUNT: PASSWORD}
    with MailServer(folder=folder, certificate=SELF_SIGNED, accounts=accounts, limits=limits) as running:
        yield running


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One for all tests; each saves its own trust."""
    with Product(tmp_path_factory.mktemp("device")) as product:
        product.maker("[mail]\ndigest_window = 0\n").start()
        yield Running(product, product.logged_in())


@pytest.fixture
def product(device: Running) -> Product:
    """The device without settings."""
    device.product.folders.settings.unlink(missing_ok=True)
    return device.product


@pytest.fixture
def at_the_test(
    revisit: Callable[..., Visitor], device: Running, product: Product, relay: MailServer
) -> Callable[[Certificate, bool], Visitor]:
    """Opens a browser whose test of the relay has just failed at its certificate."""

    def begin(certificate: Certificate, javascript: bool) -> Visitor:
        relay.show(certificate)
        visitor = revisit(product, java_script_enabled=javascript)
        give_cookie(visitor, device.client)
        visitor.open("/smtp")
        visitor.fill(labelled(settings_form(relay.submission_port, host="127.0.0.1", account=ACCOUNT)))
        visitor.page.get_by_role("button", name="Send test email").click()
        expect(visitor.page.locator("#test-result")).to_have_text("The test mail was not sent.")
        expect(visitor.page.locator("#test")).to_contain_text(seen(certificate).subject)
        return visitor

    return begin


def mail_arrives(visitor: Visitor, product: Product, relay: MailServer) -> None:
    """Press Update, and raise an event."""
    before = len(relay.mails())
    visitor.update()
    expect(visitor.page.get_by_text("Saved.", exact=True)).to_be_visible()
    raise_event(product, "303", "it works")
    relay.wait_for(before + 1)


@pytest.mark.parametrize("javascript", [True, False], ids=["javascript", "no javascript"])
def test_from_the_failed_test_to_the_mail_by_the_key(javascript, at_the_test, product, relay):
    """With the script these are two clicks; without it the password is typed again, since no page has it."""
    visitor = at_the_test(SELF_SIGNED, javascript)
    pages = []
    visitor.listen(visitor.page, "domcontentloaded", lambda page: pages.append(page.url))
    visitor.page.get_by_role("button", name="Trust this key").click()
    key = seen(SELF_SIGNED).key_sha256
    notice = visitor.page.get_by_role("status")
    expect(notice).to_contain_text("not saved yet")
    expect(visitor.page.get_by_label("SMTP Account Password", exact=True)).to_have_value(PASSWORD if javascript else "")
    assert len(pages) == (0 if javascript else 1)
    if javascript:
        expect(notice).to_be_focused()
        expect(notice).not_to_contain_text("Type the password again")
        expect(visitor.page.locator("#tab [data-say]")).to_have_text("Not saved yet.")
    else:
        expect(notice).to_contain_text("Type the password again")
        visitor.fill({"SMTP Account Password": PASSWORD})
    expect(visitor.page.get_by_label("Trusted key", exact=True)).to_have_value(key)
    expect(visitor.page.get_by_label("SMTP Host", exact=True)).to_have_value("127.0.0.1")
    assert not product.folders.settings.exists()
    mail_arrives(visitor, product, relay)
    assert Store(product.folders.settings).read()[0].trust_key == key


def test_from_the_failed_test_to_the_mail_by_the_authority(at_the_test, product, relay):
    visitor = at_the_test(ISSUED, True)
    # A key that was filled in gives way to the authority.
    for choice, field in (("Trust this key", "Trusted key"), ("Give the authority", "Trusted authority")):
        visitor.page.get_by_role("button", name=choice).click()
        expect(visitor.page.locator("#tab [name^=trust]")).to_have_count(2)
        expect(visitor.page.get_by_label(field, exact=True)).to_be_visible()
    visitor.page.get_by_label("Trusted authority", exact=True).fill(OWN.pem.decode())
    mail_arrives(visitor, product, relay)
    assert Store(product.folders.settings).read()[0].trust_ca == OWN.pem.decode().strip()


def test_key_that_is_trusted_after_the_session_is_asked_for_again(at_the_test, product):
    """The script does not get the fields; the form goes to the page to sign in, which keeps it."""
    visitor = at_the_test(SELF_SIGNED, True)
    visitor.context.clear_cookies()
    visitor.page.get_by_role("button", name="Trust this key").click()
    expect(visitor.page.get_by_role("button", name="Sign in")).to_be_visible()
