"""What each provider is asked, to the letter."""

from __future__ import annotations

import pytest

from device_ui.mail.oauth.providers import PROVIDERS, scope
from device_ui.mail.oauth.token_client import TokenClient
from device_ui.settings import oauth_rules
from device_ui.settings.fields import SmtpSettings
from tests.mail.oauth.conftest import HOST, settings_for

TENANT = "0a1b2c3d-0000-4000-8000-0123456789ab"
MICROSOFT = {"oauth_provider": "microsoft", "oauth_issuer": "", "oauth_tenant": TENANT}


def test_table_has_each_provider_of_the_field():
    assert set(PROVIDERS) == set(oauth_rules.PROVIDERS)


@pytest.mark.parametrize(
    ("provider", "grant", "asked"),
    [
        ("microsoft", "certificate", "https://outlook.office365.com/.default"),
        ("microsoft", "secret", "https://outlook.office365.com/.default"),
        ("microsoft", "device", "https://outlook.office.com/SMTP.Send offline_access openid email"),
        ("custom", "certificate", ""),
        ("custom", "device", "openid email offline_access"),
    ],
)
def test_scope_is_the_one_for_sending_mail(provider, grant, asked):
    settings = SmtpSettings("h", 587, "n", "a@b.cc", oauth_provider=provider, oauth_grant=grant)
    assert scope(settings) == asked


def test_typed_scope_takes_its_place(bench, provider):
    bench.sign_in.access(settings_for(provider, "secret", oauth_scope="smtp.send"), provider.secret)
    assert provider.forms[-1]["scope"] == "smtp.send"


@pytest.fixture
def microsoft(bench, provider):
    """The device, whose Microsoft is at this provider's port."""
    bench.client = TokenClient(bench.exchange, bench.keys, f"{HOST}:{provider.port}")
    return bench


def test_microsoft_by_certificate(microsoft, provider):
    settings = settings_for(provider, "certificate", **MICROSOFT)
    provider.uploaded = [microsoft.keys.make(settings)[0].der]
    microsoft.sign_in.access(settings, "")
    (request,) = provider.requests  # fixed endpoints: nothing is discovered
    assert (request.method, request.path) == ("POST", f"/{TENANT}/oauth2/v2.0/token")
    assert {name: value for name, value in request.form.items() if name != "client_assertion"} == {
        "grant_type": "client_credentials",
        "client_id": provider.client,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "scope": "https://outlook.office365.com/.default",
    }
    (assertion,) = provider.assertions
    assert set(assertion) == {"alg", "typ", "x5t#S256", "iss", "sub", "aud", "jti", "iat", "nbf", "exp"}
    assert assertion["aud"] == f"https://{HOST}:{provider.port}/{TENANT}/oauth2/v2.0/token"


def test_microsoft_by_secret(microsoft, provider):
    microsoft.sign_in.access(settings_for(provider, "secret", **MICROSOFT), provider.secret)
    assert provider.forms == [
        {
            "grant_type": "client_credentials",
            "client_id": provider.client,
            "client_secret": provider.secret,
            "scope": "https://outlook.office365.com/.default",
        }
    ]


def test_microsoft_by_a_persons_code(microsoft, provider):
    settings = settings_for(provider, "device", **{**MICROSOFT, "oauth_tenant": "organizations"})
    code, found = microsoft.client.device_code(settings, microsoft.exchange())
    assert provider.requests[-1].path == "/organizations/oauth2/v2.0/devicecode"
    assert found.token == f"https://{HOST}:{provider.port}/organizations/oauth2/v2.0/token"
    assert "client_secret" not in provider.requests[-1].form
    provider.codes[code.code] = "done"
    assert microsoft.client.redeemed(settings, code, found, microsoft.exchange()).person == provider.person


def test_loss_of_use_is_90_days_with_microsoft_and_what_others_say(microsoft, provider):
    from device_ui.mail.oauth.token_client import Tokens, idle_seconds

    made = Tokens("a", "r", 3600, 0, "")
    assert idle_seconds(settings_for(provider, **MICROSOFT), made) == 90 * 24 * 3600
    assert idle_seconds(settings_for(provider), made) == 0
    assert idle_seconds(settings_for(provider), Tokens("a", "r", 3600, 1800, "")) == 1800
