"""Mail by OAuth 2.0 through Debian's Postfix, whose Dovecot asks the provider about each token."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from device_ui.mail import client
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.store import Store
from tests.helpers.product import SECONDS, wait_for
from tests.mail.test_daemon import raise_event, state
from tests.servers.authority import Certificates
from tests.servers.postfix import MailServer, introspection
from tests.servers.provider import STRICT, Provider

ACCOUNT = "alarm@example.test"


@pytest.fixture
def certificates(tmp_path_factory):
    return Certificates("localhost", tmp_path_factory.mktemp("authority"))


@pytest.fixture
def provider(certificates):
    with Provider(certificates.chain(), STRICT, host="localhost", interval=1) as provider:
        yield provider


@pytest.fixture
def authority(certificates) -> Path:
    return certificates.authority.write(certificates.folder / "ca.pem")


def postfix(folder, certificates, provider, authority, mechanisms):
    return MailServer(
        folder=folder,
        certificate=certificates.authority.issue(["localhost"]),
        accounts={},
        mechanisms=f"plain login {mechanisms}",
        tokens=introspection(f"{provider.issuer}/introspect", authority),
    )


def start(product, authority, provider, server, grant) -> None:
    """Start the hook of a device whose operator saved a sign-in for this server."""
    product.maker(f'[mail]\nca_file = "{authority}"\ndigest_window = 0\n')
    product.start_hook()
    settings = SmtpSettings(
        "localhost",
        server.submission_port,
        "Alarms",
        ACCOUNT,
        sign_in="oauth",
        oauth_provider="custom",
        oauth_grant=grant,
        oauth_issuer=provider.issuer,
        oauth_client=provider.client,
    )
    product.folders.settings.parent.mkdir(exist_ok=True)
    store = Store(product.folders.settings)
    store.save(settings, store.read()[1])
    client.settings_changed(product.folders.socket, seconds=SECONDS)


@pytest.mark.parametrize("size", [24, 5000], ids=["short", "8 KiB"])
@pytest.mark.parametrize("mechanism", ["xoauth2", "oauthbearer"])
def test_mail_arrives_by_a_certificate(product, tmp_path, certificates, provider, authority, mechanism, size):
    provider.token_bytes = size
    with postfix(tmp_path / "postfix", certificates, provider, authority, mechanism) as server:
        start(product, authority, provider, server, "certificate")
        (made,) = client.certificates(product.folders.socket)
        provider.uploaded = [base64.b64decode(made["der"])]
        raise_event(product, text="by certificate")
        (mail,) = server.wait_for(1, SECONDS)
        product.stop("mailhook")
    assert b"by certificate" in mail
    assert f"Return-Path: <{ACCOUNT}>".encode() in mail
    assert (ACCOUNT, True) in server.logins()


def test_mail_arrives_by_a_persons_sign_in_and_after_a_token_was_revoked(
    product, tmp_path, certificates, provider, authority
):
    with postfix(tmp_path / "postfix", certificates, provider, authority, "xoauth2 oauthbearer") as server:
        start(product, authority, provider, server, "device")
        client.sign_in(product.folders.socket, "begin", seconds=SECONDS)
        wait_for(lambda: provider.codes, what="the code")
        for code in provider.codes:
            provider.codes[code] = "done"
        raise_event(product, text="by a person")
        server.wait_for(1, SECONDS)
        provider.revoked.append(provider.access[-1])
        raise_event(product, code="304", text="after the token was revoked")
        mails = server.wait_for(2, SECONDS)
        product.stop("mailhook")
    assert b"after the token was revoked" in mails[-1]
    assert len(provider.refresh) == 2  # renewed once, by a provider that rotates strictly


def test_refusal_of_the_mail_server_is_tried_again_and_locks_nothing(
    product, tmp_path, certificates, provider, authority
):
    provider.person = "somebody.else@example.test"
    with postfix(tmp_path / "postfix", certificates, provider, authority, "xoauth2") as server:
        start(product, authority, provider, server, "certificate")
        provider.uploaded = [base64.b64decode(client.certificates(product.folders.socket)[0]["der"])]
        raise_event(product)
        wait_for(lambda: state(product)["step"] == "login", what="the refusal")
        assert state(product)["problem"] == "server"
        assert str(state(product)["reply"]).startswith("535 5.7.8")
        product.stop("mailhook")
    assert not any(succeeded for _, succeeded in server.logins())
