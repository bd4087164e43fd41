"""The providers of a sign-in, as one table, and the endpoints of each: fixed, or found by the issuer (RFC 8414)."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from device_ui.mail.oauth.outcome import TokenError
from device_ui.mail.smtp.outcome import SmtpProblem, Step

if TYPE_CHECKING:
    from device_ui.mail.oauth.https import Exchange
    from device_ui.settings.fields import SmtpSettings

DAY = 24 * 3600


@dataclass(frozen=True)
class Provider:
    """One provider.

    `endpoint` is its base with the places ``login`` and ``tenant``, ``""`` when the issuer names the endpoints. `app_scope` is
    for the device itself, `user_scope` for a person. `idle_seconds`: until a refresh token ends that is not used, 0 when it is
    not known.
    """

    endpoint: str
    app_scope: str
    user_scope: str
    idle_seconds: int


PROVIDERS: Mapping[str, Provider] = {
    # learn.microsoft.com/exchange/client-developer/legacy-protocols/how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth
    # (scopes); learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code (endpoints); …/refresh-tokens (90 days). No
    # discovery: the issuer of the shared tenants is a template, which never equals what was typed (RFC 8414, 3.3).
    "microsoft": Provider(
        "https://{login}/{tenant}/oauth2/v2.0/",
        "https://outlook.office365.com/.default",
        "https://outlook.office.com/SMTP.Send offline_access openid email",
        90 * DAY,
    ),
    "custom": Provider("", "", "openid email offline_access", 0),
}
# Where the metadata of an issuer is: RFC 8414, section 3 (between host and path); OpenID Connect Discovery 1.0, section 4
# (after the path), which more providers have.
OAUTH_METADATA, OPENID_METADATA = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
ENDPOINT_PATTERN = re.compile(r"https://[\x21-\x7e]{1,500}")


@dataclass(frozen=True)
class Endpoints:
    """The addresses to ask for a `token` and, if the provider has it, a `device` code; and how a client may prove itself."""

    token: str
    device: str = ""
    methods: tuple[str, ...] = ()

    @property
    def uses_basic(self) -> bool:
        """Whether a client secret goes in the header (RFC 6749, 2.3.1): the default of RFC 8414, section 2."""
        return not self.methods or "client_secret_basic" in self.methods


def endpoints(settings: SmtpSettings, login: str, exchange: Exchange) -> Endpoints:
    """Return the endpoints of the provider in these settings; `login` is the host of Microsoft's. Raises `TokenError`."""
    provider = PROVIDERS[settings.oauth_provider]
    if not provider.endpoint:
        return _discovered(settings.oauth_issuer, exchange)
    base = provider.endpoint.format(login=login, tenant=settings.oauth_tenant)
    return Endpoints(f"{base}token", f"{base}devicecode", ("client_secret_post",))


def scope(settings: SmtpSettings) -> str:
    """Return the scope to ask for: what was typed, else the provider's."""
    provider = PROVIDERS[settings.oauth_provider]
    return settings.oauth_scope or (provider.user_scope if settings.oauth_grant == "device" else provider.app_scope)


def _discovered(issuer: str, exchange: Exchange) -> Endpoints:
    parts = urllib.parse.urlsplit(issuer)
    host, path = f"https://{parts.netloc}", parts.path.rstrip("/")
    answer = exchange.get(f"{host}{OAUTH_METADATA}{path}")
    # Not 404 alone: Cognito answers 400 where it has no document, and gateways in front of others 401, 403 or 405.
    if 400 <= answer.status < 500 and answer.status != 429:
        answer = exchange.get(f"{host}{path}{OPENID_METADATA}")
    if 300 <= answer.status < 400:
        raise TokenError(Step.TOKEN_ANSWER, SmtpProblem.REDIRECTED, f"{answer.status}")
    if answer.status == 429 or answer.status >= 500:
        raise TokenError(Step.TOKEN_ANSWER, SmtpProblem.BUSY, f"{answer.status}", answer.retry_after)
    if answer.status != 200 or not answer.values:
        raise TokenError(Step.TOKEN_ANSWER, SmtpProblem.NOT_UNDERSTOOD, f"{answer.status}")
    if answer.values.get("issuer") != issuer:  # RFC 8414, section 3.3: identical
        raise TokenError(Step.TOKEN_ANSWER, SmtpProblem.OTHER_ISSUER, str(answer.values.get("issuer", ""))[:200])
    token, device = (
        _endpoint(answer.values, "token_endpoint"),
        _endpoint(answer.values, "device_authorization_endpoint"),
    )
    if not token:
        raise TokenError(Step.TOKEN_ANSWER, SmtpProblem.NOT_UNDERSTOOD, "token_endpoint")
    return Endpoints(token, device, _texts(answer.values, "token_endpoint_auth_methods_supported"))


def _endpoint(values: Mapping[str, Any], name: str) -> str:
    found = values.get(name)
    if not isinstance(found, str) or not ENDPOINT_PATTERN.fullmatch(found):
        return ""
    try:
        parts = urllib.parse.urlsplit(found)
        is_valid = bool(parts.hostname) and parts.port != 0 and parts.username is None
    except ValueError:
        return ""
    return found if is_valid else ""


def _texts(values: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = values.get(name)
    return tuple(each for each in found if isinstance(each, str)) if isinstance(found, list) else ()
