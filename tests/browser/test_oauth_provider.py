"""OAuth 2.0 from the page to the mail, each grant, with a provider that other people wrote: Debian's Glewlwyd.

Debian's Postfix takes the mail, and its Dovecot asks about each token (RFC 7662). An operator fills the tab in Chromium; with
the grant of a code a person opens the provider's own pages in a different browser.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import MANY_TESTS, Visitor, raise_event
from tests.browser.test_trial import NOT_SENT
from tests.helpers.product import Product, wait_for
from tests.servers import glewlwyd
from tests.servers.authority import Certificates
from tests.servers.glewlwyd import Glewlwyd, Introspection
from tests.servers.postfix import MailServer, introspection

# Patience with a busy machine.
SECONDS = 120.0
ACCOUNT = f"{glewlwyd.PERSON}@example.test"
SECRET = "a~client.secret-of-Glewlwyd"
SENT = f"The mail server accepted the test mail for {ACCOUNT}."
CERTIFICATE, CLIENT_SECRET, CODE = (
    "A certificate of this device",
    "A client secret, typed as the password",
    "A code that a person types at the provider",
)

pytestmark = pytest.mark.timeout(600)


@dataclass
class Site:
    """A device, a provider and a mail server that takes the provider's tokens."""

    product: Product
    provider: Glewlwyd
    server: MailServer

    @property
    def mails(self) -> int:
        """How many mails the server took."""
        return len(self.server.mails())

    def mail(self, number: int) -> bytes:
        """The mail of this number, once it is there, from the mailbox of the account."""
        mail = self.server.wait_for(number, SECONDS)[number - 1]
        assert f"Return-Path: <{ACCOUNT}>".encode() in mail
        return mail


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for all tests; each saves its own sign-in."""
    folder = tmp_path_factory.mktemp("provider")
    certificates = Certificates("localhost", folder)
    authority = certificates.authority.write(folder / "ca.pem")
    with (
        glewlwyd.running(certificates) as provider,
        Introspection(provider, certificates) as about,
        Product(tmp_path_factory.mktemp("device")) as product,
    ):
        server = MailServer(
            folder=folder,
            certificate=certificates.authority.issue(["localhost"]),
            accounts={},
            mechanisms="plain login xoauth2 oauthbearer",
            tokens=introspection(f"{about.issuer}/introspect", authority),
        )
        with server:
            product.maker(f'[mail]\nca_file = "{authority}"\ndigest_window = 0\n{MANY_TESTS}').start()
            product.logged_in()
            yield Site(product, provider, server)


@pytest.fixture
def operator(visit: Callable[..., Visitor], site: Site) -> Visitor:
    """An operator who is signed in, at the SMTP tab."""
    return visit(site.product).log_in()


def save(operator: Visitor, site: Site, grant: str, client: str, **more: str) -> None:
    """Fill the tab as its page leads: the choice of OAuth 2.0 first, then the fields that it asks for."""
    page = operator.page
    operator.open("/smtp")
    operator.fill({"SMTP Host": "localhost", "SMTP Port": str(site.server.submission_port), "Sender Name": "Alarms"})
    operator.fill({"SMTP Account Address": ACCOUNT})
    open_advanced(page)
    page.get_by_label("Sign-in", exact=True).select_option("oauth")
    operator.update()
    open_advanced(page)
    page.get_by_label("OAuth 2.0: provider").select_option("custom")
    page.get_by_label("OAuth 2.0: grant").select_option(label=grant)
    operator.update()
    open_advanced(page)
    fields = {"issuer": site.provider.issuer, "client ID": client, "scope": "openid mail", **more}
    operator.fill({f"OAuth 2.0: {name}": text for name, text in fields.items()})


def open_advanced(page: Page) -> None:
    """The choices are closed when a page opens that has no error among them."""
    if not page.get_by_label("Sign-in", exact=True).is_visible():
        page.get_by_text("Advanced", exact=True).click()


def saved(operator: Visitor) -> None:
    """Update, which takes all fields."""
    operator.update()
    expect(operator.page.get_by_role("status").first).to_contain_text("Saved.")


def run_test(operator: Visitor, sentence: str) -> str:
    """Press “Send test email” and wait for this result; return its text."""
    operator.open("/smtp")
    operator.page.get_by_role("button", name="Send test email").click()
    expect(operator.page.locator("#test-result")).to_have_text(sentence, timeout=SECONDS * 1000)
    return operator.page.locator("section", has=operator.page.locator("#test-result")).inner_text()


def sign_in_page(operator: Visitor) -> Page:
    operator.open("/smtp")
    operator.page.get_by_role("link", name="Sign-in by OAuth 2.0").click()
    return operator.page


def approve(chromium: Browser, code: str, address: str) -> None:
    """What a person does at the provider: type the code, log in, allow it."""
    context = chromium.new_context(ignore_https_errors=True)
    try:
        context.set_default_timeout(SECONDS * 1000)
        page = context.new_page()
        page.goto(address)
        page.get_by_placeholder("X1Y2-A3B4").fill(code)
        page.get_by_role("button", name="OK").click()
        page.locator("#username").fill(glewlwyd.PERSON)
        page.locator("#password").fill(glewlwyd.PASSWORD)
        page.locator("#loginbut").click()
        grants, proceeds = (page.locator("#grant-mail"), page.get_by_role("button", name="Continue"))
        expect(proceeds).to_be_visible(timeout=SECONDS * 1000)
        if grants.is_visible():  # it remembers what was allowed once
            grants.check()
            page.get_by_role("button", name="Grant access").click()
        proceeds.click()
        page.get_by_text("Authorization complete").wait_for()
    finally:
        context.close()


def sign_in(operator: Visitor, chromium: Browser) -> None:
    """Get a code on the page, have a person approve it, and see that it is done."""
    page = sign_in_page(operator)
    page.get_by_role("button", name="Get a code").click()
    code = page.locator("#code ~ ol strong code")
    expect(code).to_be_visible(timeout=SECONDS * 1000)
    approve(chromium, code.inner_text(), page.locator("#code ~ ol li:first-child code").inner_text())
    expect(page.get_by_text("The sign-in is done.")).to_be_visible(timeout=SECONDS * 1000)
    expect(page.get_by_text(f"Signed in as {ACCOUNT}.")).to_be_visible()


def alarm(site: Site, text: str) -> None:
    """An alarm is mailed: it arrives, in the name of the account."""
    before = site.mails
    raise_event(site.product, "303", text)
    assert text.encode() in site.mail(before + 1)


def test_certificate(operator: Visitor, site: Site, tmp_path: Path) -> None:
    """Private-key JWT (RFC 7523) with PS256, by the certificate that the page offers for download."""
    site.provider.add_app("by-certificate", ACCOUNT, "private_key_jwt")
    save(operator, site, CERTIFICATE, "by-certificate")
    saved(operator)
    page = sign_in_page(operator)
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download the certificate").click()
    downloading.value.save_as(tmp_path / "device.cer")
    before = site.mails
    assert "403" in run_test(operator, NOT_SENT)  # not uploaded yet; this provider says no more
    assert site.mails == before
    site.provider.upload("by-certificate", (tmp_path / "device.cer").read_bytes())
    run_test(operator, SENT)
    site.mail(before + 1)
    alarm(site, "by a certificate")


def test_client_secret(operator: Visitor, site: Site) -> None:
    site.provider.add_app("by-secret", ACCOUNT, "client_secret_basic", client_secret=SECRET)
    save(operator, site, CLIENT_SECRET, "by-secret", **{"end of the client secret": "2099-01-01"})
    operator.type_in("SMTP Account Password", SECRET)
    saved(operator)
    before = site.mails
    run_test(operator, SENT)
    site.mail(before + 1)
    alarm(site, "by a client secret")


def test_code(operator: Visitor, site: Site, chromium: Browser) -> None:
    """RFC 8628 with a provider that says slow_down, and rotations with one whose refresh tokens are for one use."""
    site.provider.add_client("by-code", ["device_authorization", "refresh_token"], confidential=False)
    save(operator, site, CODE, "by-code")
    saved(operator)
    sign_in(operator, chromium)
    alarm(site, "by a person")
    record = site.product.folders.sign_in
    signed_in = record.read_bytes()
    for _ in range(2):  # each asks for a new token
        before = site.mails
        run_test(operator, SENT)
        site.mail(before + 1)
    renewed = record.read_bytes()
    assert renewed != signed_in
    # The disk that a power cut left before the rotation was on it: this provider allows no second try, and the page says so.
    site.product.stop("mailhook")
    record.write_bytes(signed_in)
    site.product.start_hook()
    before = site.mails
    run_test(operator, NOT_SENT)
    expect(sign_in_page(operator).locator(".error")).to_be_visible()
    assert site.mails == before
    assert site.product.call("token", "--keep-alive").returncode != 0  # what the daily timer runs
    wait_for(lambda: site.product.state()["problem"] == "sign-in", SECONDS, "the word")
    sign_in(operator, chromium)
    alarm(site, "signed in anew")
    wait_for(lambda: site.product.state()["problem"] == "", SECONDS, "a good state")
