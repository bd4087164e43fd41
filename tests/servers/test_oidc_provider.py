"""Each grant of OAuth 2.0 with a provider that other people wrote and the OpenID Foundation certified: oidc-provider.

Debian's Postfix takes the mail, and its Dovecot asks the provider about each token (RFC 7662).
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from device_ui.mail import client
from device_ui.settings import keys, seal
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.store import Store
from tests.helpers.product import SECONDS, Product, wait_for
from tests.servers import oidc_provider
from tests.servers.authority import Certificates, self_signed
from tests.servers.oidc_provider import OidcProvider
from tests.servers.postfix import MailServer, introspection

ACCOUNT = "alarm@example.test"
pytestmark = pytest.mark.timeout(600)


@dataclass
class Site:
    """A device, a provider and a mail server that takes the provider's tokens."""

    product: Product
    provider: OidcProvider
    server: MailServer

    def save(self, grant: str, made: dict[str, Any], secret: str = "", **more: str) -> None:
        """Save a sign-in as the page does."""
        values = {"host": "localhost", "port": self.server.submission_port, "sender_name": "Alarms", "account": ACCOUNT}
        values |= {"sign_in": "oauth", "oauth_provider": "custom", "oauth_grant": grant, "oauth_scope": SCOPE[grant]}
        values |= {"oauth_issuer": self.provider.issuer, "oauth_client": made["client_id"], **more}
        settings = SmtpSettings(**values)
        if secret:
            public = keys.load_public(self.product.folders.public_key)
            values["sealed"] = seal.seal(secret, public, settings.bound_to)
        self.product.folders.settings.parent.mkdir(exist_ok=True)
        store = Store(self.product.folders.settings)
        store.save(SmtpSettings(**values), store.read()[1])
        client.settings_changed(self.product.folders.socket, seconds=SECONDS)

    def test(self) -> dict[str, Any]:
        """The result of a test mail."""
        *_, last = client.test(self.product.folders.socket)
        assert "result" in last, last
        return dict(last["result"])

    def alarm(self, text: str) -> None:
        """An alarm is mailed: it arrives, in the name of the account."""
        self.product.event(text=text)

        def found() -> list[bytes]:
            return [each for each in self.server.mails() if text.encode() in each]

        wait_for(found, SECONDS, "the mail")
        assert f"Return-Path: <{ACCOUNT}>".encode() in found()[0]


SCOPE = {"certificate": "mail", "secret": "mail", "device": "openid offline_access mail"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for all tests; each saves a sign-in of its own."""
    folder = tmp_path_factory.mktemp("provider")
    certificates = Certificates("localhost", folder)
    authority = certificates.authority.write(folder / "ca.pem")
    with (
        oidc_provider.running(certificates, folder / "log") as provider,
        MailServer(
            folder=folder / "postfix",
            certificate=certificates.authority.issue(["localhost"]),
            accounts={},
            mechanisms="plain login xoauth2 oauthbearer",
            tokens=introspection(provider.introspection, authority),
        ) as server,
        Product(tmp_path_factory.mktemp("device")) as product,
    ):
        product.maker(f'[mail]\nca_file = "{authority}"\ndigest_window = 0\n[web]\ntests = 1000\n').start_hook()
        yield Site(product, provider, server)


def test_certificate_before_and_after_its_upload(site: Site) -> None:
    """RFC 7523 with PS256, the key known by the SHA-256 of its certificate alone."""
    former = self_signed(["a-former-device"], rsa.generate_private_key(65537, 2048)).cert_pem
    stranger = ssl.PEM_cert_to_DER_cert(former.decode())
    made = site.provider.register("private_key_jwt", ["client_credentials"], ACCOUNT, **oidc_provider.keys(stranger))
    site.save("certificate", made)
    (own,) = client.certificates(site.product.folders.socket)
    refused = site.test()
    assert (refused["step"], refused["problem"]) == ("token answer", "client refused")
    # Beside the former one, as a roll-over has both.
    site.provider.upload(made["client_id"], stranger, base64.b64decode(own["der"]))
    assert site.test()["verdict"] == "delivered"
    site.alarm("by a certificate")


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_client_secret(method: str, site: Site) -> None:
    made = site.provider.register(method, ["client_credentials"], ACCOUNT)
    until = {"oauth_until": "2099-01-01"}
    site.save("secret", made, made["client_secret"] + "x", **until)
    refused = site.test()
    assert (refused["step"], refused["problem"], refused["field"]) == ("token answer", "client refused", "password")
    site.save("secret", made, made["client_secret"], **until)
    assert site.test()["verdict"] == "delivered"
    site.alarm(f"by {method}")


def test_code_and_its_rotations(site: Site) -> None:
    """RFC 8628; then each token is of one use, and a spent one ends the grant, which is said."""
    grants = ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"]
    made = site.provider.register("none", grants, application_type="native")
    site.save("device", made)
    sign_in(site)
    site.alarm("by a person")
    record = site.product.folders.sign_in
    signed_in = record.read_bytes()
    for _ in range(2):  # each asks for a new token
        assert site.test()["verdict"] == "delivered"
    assert record.read_bytes() != signed_in
    # The disk that a power cut left before the rotation was on it.
    site.product.stop("mailhook")
    record.write_bytes(signed_in)
    site.product.start_hook()
    ended = site.test()
    assert (ended["step"], ended["problem"]) == ("token answer", "grant ended")


def sign_in(site: Site) -> None:
    """Get a code and have a person approve it."""
    at = site.product.folders.socket
    client.sign_in(at, "begin", seconds=SECONDS)
    wait_for(lambda: client.sign_in(at, seconds=SECONDS)["flow"]["phase"] == "waiting", what="the code")
    shown = client.sign_in(at, seconds=SECONDS)["flow"]
    site.provider.approve(shown["address"], shown["code"], ACCOUNT)
    wait_for(lambda: client.sign_in(at, seconds=SECONDS)["person"] == ACCOUNT, SECONDS, "the tokens")
