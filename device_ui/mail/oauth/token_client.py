"""Ask a provider for tokens: the three grants, and what an answer of the provider means (RFC 6749, section 5; RFC 8628).

A number of Microsoft's (``AADSTS…``) comes first in a reply and chooses the advice; it decides nothing, since these numbers change.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from device_ui.errors import DeviceUIError
from device_ui.mail.oauth.outcome import TokenError
from device_ui.mail.oauth.providers import PROVIDERS, Endpoints, endpoints, scope
from device_ui.mail.oauth.signing_key import ASSERTION_TYPE
from device_ui.mail.smtp.outcome import SmtpProblem, Step
from device_ui.mail.smtp.redaction import pieces, sanitize_reply, spellings

if TYPE_CHECKING:
    from device_ui.mail.oauth.https import Answer, Exchange
    from device_ui.mail.oauth.signing_key import SigningKeys
    from device_ui.settings.fields import SmtpSettings

# Characters of a token that are taken; Entra's have 2,000, Google says up to 2,048.
TOKEN_MAXIMUM = 8192
TOKEN_PATTERN = re.compile(
    r"[\x21-\x7e]{1,8192}"
)  # RFC 6749, appendix A.12, without the blank, which RFC 6750 has no place for
# Seconds of an access token whose answer names none (RFC 6749, 5.1), and the most that are believed.
LIFETIME, LIFETIME_MAXIMUM = 3600, 30 * 24 * 3600
# Seconds of a refresh token that are believed at most.
REFRESH_MAXIMUM = 400 * 24 * 3600
# The provider's clock and this one may differ by so many seconds before an assertion is dated by the provider's.
SKEW_MAXIMUM = 60.0
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
# The errors of a code that waits for its person or has ended: RFC 8628, 3.5, and Microsoft's two.
CODE_PENDING = ("authorization_pending", "slow_down")
CODE_ENDS = ("access_denied", "authorization_declined", "expired_token", "bad_verification_code")
# The error of an answer → the problem; every other one: try later.
ERRORS: Mapping[str, SmtpProblem] = {
    # RFC 6749, 5.2
    "invalid_grant": SmtpProblem.GRANT_ENDED,
    "invalid_client": SmtpProblem.CLIENT_REFUSED,
    "unauthorized_client": SmtpProblem.CLIENT_REFUSED,
    "unsupported_grant_type": SmtpProblem.CLIENT_REFUSED,
    "invalid_scope": SmtpProblem.CLIENT_REFUSED,
    "invalid_request": SmtpProblem.CLIENT_REFUSED,
    # RFC 8707, 2, and Microsoft's name for it
    "invalid_target": SmtpProblem.CLIENT_REFUSED,
    "invalid_resource": SmtpProblem.CLIENT_REFUSED,
    # OpenID Connect Core 1.0, 3.1.2.6; Microsoft's token endpoint uses the first and the last
    "interaction_required": SmtpProblem.GRANT_ENDED,
    "login_required": SmtpProblem.GRANT_ENDED,
    "consent_required": SmtpProblem.GRANT_ENDED,
    # RFC 6749, 4.1.2.1
    "temporarily_unavailable": SmtpProblem.BUSY,
    "server_error": SmtpProblem.BUSY,
}
AADSTS = re.compile(r"AADSTS[0-9]{4,9}")
NO_SEND: Callable[[], None] = lambda: None  # noqa: E731


@dataclass(frozen=True)
class Tokens:
    """An answer of a token endpoint: the tokens, ``""`` for one that it has not, and the seconds that they live.

    `refresh_seconds` is 0 where the provider does not say it. `person` is the name in the ID token, for a person to read.
    """

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    seconds: int
    refresh_seconds: int
    person: str


@dataclass(frozen=True)
class DeviceCode:
    """What RFC 8628, section 3.2, answers: the secret `code`, the `user_code` to type at `address`, and seconds."""

    code: str = field(repr=False)
    user_code: str
    address: str
    seconds: int
    interval: int


class TokenClient:
    """The requests of one device for tokens. `begin` begins an `Exchange`; `login` is the host of Microsoft's endpoints."""

    def __init__(self, begin: Callable[..., Exchange], keys: SigningKeys, login: str) -> None:
        self.begin, self._keys, self._login = begin, keys, login
        # Seconds that the provider's clock is ahead of the device's, when an answer showed that they differ.
        self._skew = 0.0

    def for_app(self, settings: SmtpSettings, secret: str, exchange: Exchange) -> Tokens:
        """Return tokens for the device itself, by its certificate or its client `secret`. Raises `TokenError`."""
        form = {"grant_type": "client_credentials", **_scoped(settings)}
        found = endpoints(settings, self._login, exchange)
        if settings.oauth_grant == "certificate":
            return self._by_certificate(settings, form, found, exchange)
        headers: dict[str, str] = {}
        exchange.secrets = _secrets(settings, secret, _basic(settings.oauth_client, secret))
        if found.uses_basic:
            headers["Authorization"] = _basic(settings.oauth_client, secret)
        else:
            form |= {"client_id": settings.oauth_client, "client_secret": secret}
        return tokens(exchange.post(found.token, form, headers, NO_SEND), exchange)

    def refreshed(
        self, settings: SmtpSettings, refresh: str, exchange: Exchange, before_send: Callable[[], None]
    ) -> Tokens:
        """Return new tokens for a person's. `before_send` as in `Exchange.post`. Raises `TokenError`."""
        exchange.secrets = _secrets(settings, refresh)
        form = {"grant_type": "refresh_token", "refresh_token": refresh, "client_id": settings.oauth_client}
        found = endpoints(settings, self._login, exchange)
        answer = exchange.post(found.token, {**form, **_scoped(settings)}, {}, before_send)
        # RFC 6749, section 5.2, wants an error in the body. Glewlwyd refuses a spent refresh token with 400 and no body at all; a
        # person who is never asked to sign in again would wait for mail without end. The token is kept and tried all the same.
        if answer.status == 400 and answer.is_empty:
            raise TokenError(Step.TOKEN_ANSWER, SmtpProblem.GRANT_ENDED, f"{answer.status}")
        return tokens(answer, exchange)

    def device_code(self, settings: SmtpSettings, exchange: Exchange) -> tuple[DeviceCode, Endpoints]:
        """Return a code for a person to type at the provider's page, and the endpoints. Raises `TokenError`."""
        found = endpoints(settings, self._login, exchange)
        if not found.device:
            raise TokenError(Step.TOKEN_ANSWER, SmtpProblem.NOT_UNDERSTOOD, "device_authorization_endpoint")
        form = {"client_id": settings.oauth_client, **_scoped(settings)}
        answer = exchange.post(found.device, form, {}, NO_SEND)
        if answer.status != 200:
            raise refusal(answer, exchange)
        return _device_code(answer), found

    def redeemed(self, settings: SmtpSettings, code: DeviceCode, found: Endpoints, exchange: Exchange) -> Tokens | str:
        """Return the tokens for a code, or the `error` of RFC 8628, 3.5, such as ``authorization_pending``. Raises `TokenError`."""
        exchange.secrets = _secrets(settings, code.code)
        form = {"grant_type": DEVICE_GRANT, "device_code": code.code, "client_id": settings.oauth_client}
        answer = exchange.post(found.token, form, {}, NO_SEND)
        error = answer.values.get("error")
        # A provider that is overloaded (429 or 5xx) may say access_denied, too.
        known = CODE_PENDING if _is_busy(answer) else (*CODE_PENDING, *CODE_ENDS)
        return str(error) if answer.status >= 400 and error in known else tokens(answer, exchange)

    def _by_certificate(
        self, settings: SmtpSettings, form: Mapping[str, str], found: Endpoints, exchange: Exchange
    ) -> Tokens:
        keys = self._keys.assertions(settings, found.token)
        if not keys:
            raise TokenError(
                Step.TOKEN_SIGN_IN,
                SmtpProblem.NOT_SIGNED_IN,
                "there is no certificate yet for this mail server and this application",
            )
        error: TokenError | None = None
        for number, assertion in enumerate(keys):
            try:
                made = self._asserted(settings, form, found, exchange, assertion)
            except TokenError as refused:
                # The next key is tried first, and is not known to the provider until its certificate was uploaded.
                if refused.problem != SmtpProblem.CLIENT_REFUSED:
                    raise
                error = refused
                continue
            if number == 0 and len(keys) > 1:
                with contextlib.suppress(DeviceUIError):  # the next token does it
                    self._keys.promote(settings)
            return made
        raise error or TokenError(Step.TOKEN_ANSWER, SmtpProblem.CLIENT_REFUSED)

    def _asserted(
        self,
        settings: SmtpSettings,
        form: Mapping[str, str],
        found: Endpoints,
        exchange: Exchange,
        assertion: Callable[[float], str],
    ) -> Tokens:
        made = {**form, "client_id": settings.oauth_client, "client_assertion_type": ASSERTION_TYPE}

        def asked() -> Answer:
            text = assertion(self._skew)
            exchange.secrets = _secrets(settings, text)
            return exchange.post(found.token, {**made, "client_assertion": text}, {}, NO_SEND)

        answer = asked()
        if self._learn_skew(answer) and answer.status >= 400:
            answer = asked()
        return tokens(answer, exchange)

    def _learn_skew(self, answer: Answer) -> bool:
        """Date assertions by the provider's clock, whose name was verified; return whether that makes a difference."""
        skew = answer.date - self._keys.now() if answer.date else 0.0
        before, self._skew = self._skew, skew if abs(skew) > SKEW_MAXIMUM else 0.0
        return abs(self._skew - before) > SKEW_MAXIMUM


def tokens(answer: Answer, exchange: Exchange) -> Tokens:
    """Return the tokens of an answer. Raises `TokenError`."""
    if not 200 <= answer.status < 300:
        raise refusal(answer, exchange)
    access, refresh = answer.values.get("access_token"), answer.values.get("refresh_token", "")
    if not isinstance(access, str) or not TOKEN_PATTERN.fullmatch(access):
        raise TokenError(Step.TOKEN_ANSWER, SmtpProblem.NOT_UNDERSTOOD, f"{answer.status} access_token")
    if refresh and not (isinstance(refresh, str) and TOKEN_PATTERN.fullmatch(refresh)):
        raise TokenError(Step.TOKEN_ANSWER, SmtpProblem.NOT_UNDERSTOOD, f"{answer.status} refresh_token")
    exchange.report(Step.TOKEN_ANSWER, f"{answer.status}")
    return Tokens(
        access,
        str(refresh or ""),
        _whole(answer.values.get("expires_in"), LIFETIME),
        _whole(
            answer.values.get("refresh_expires_in", answer.values.get("refresh_token_expires_in")), 0, REFRESH_MAXIMUM
        ),
        _person(answer.values.get("id_token")),
    )


def refusal(answer: Answer, exchange: Exchange) -> TokenError:
    """Return the error of an answer without tokens. Whatever is ambiguous is *try later*."""
    error, description = (answer.values.get(name, "") for name in ("error", "error_description"))
    numbers = answer.values.get("error_codes")
    found = AADSTS.search(str(description))
    number = f"AADSTS{numbers[0]}" if isinstance(numbers, list) and numbers else found[0] if found else ""
    words = [number, str(answer.status), f"{error}: {description}" if description else str(error)]
    reply = sanitize_reply(" ".join(filter(None, words)), exchange.secrets)
    if 300 <= answer.status < 400:
        return TokenError(Step.TOKEN_ANSWER, SmtpProblem.REDIRECTED, reply)
    if _is_busy(answer):
        return TokenError(Step.TOKEN_ANSWER, SmtpProblem.BUSY, reply, answer.retry_after)
    problem = SmtpProblem.NOT_UNDERSTOOD
    if isinstance(error, str) and error:
        problem = ERRORS.get(error, SmtpProblem.ANSWER)
    # Glewlwyd refuses a client with an empty body. Any other body that is no object of JSON is not the provider's: a firewall in front
    # of it answers 403 with a page of its own.
    if answer.status in (401, 403) and (answer.values or answer.is_empty):
        problem = ERRORS.get(str(error), SmtpProblem.CLIENT_REFUSED)
    return TokenError(Step.TOKEN_ANSWER, problem, reply, answer.retry_after)


def _is_busy(answer: Answer) -> bool:
    return answer.status == 429 or answer.status >= 500


def idle_seconds(settings: SmtpSettings, made: Tokens) -> int:
    """Return the seconds after which a person's sign-in ends if it is not renewed, 0 when that is not known."""
    return made.refresh_seconds or PROVIDERS[settings.oauth_provider].idle_seconds


def _scoped(settings: SmtpSettings) -> dict[str, str]:
    wanted = scope(settings)
    return {"scope": wanted} if wanted else {}


def _secrets(settings: SmtpSettings, secret: str, *more: str) -> frozenset[str]:
    """Return the pieces of a secret as a provider may repeat it in an error: in each of its spellings."""
    return pieces([*spellings(settings.oauth_client, secret), *more])


def _basic(client: str, secret: str) -> str:
    # RFC 6749, section 2.3.1: both are form-encoded first.
    pair = ":".join(urllib.parse.quote_plus(each) for each in (client, secret))
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _device_code(answer: Answer) -> DeviceCode:
    values = answer.values
    address = values.get("verification_uri", values.get("verification_url"))  # Google's name before RFC 8628
    code, user_code = values.get("device_code"), values.get("user_code")
    is_valid = isinstance(code, str) and TOKEN_PATTERN.fullmatch(code)
    is_shown = all(isinstance(each, str) and 1 <= len(each) <= 500 for each in (user_code, address))
    if not is_valid or not is_shown or not str(address).startswith("https://"):
        raise TokenError(Step.TOKEN_ANSWER, SmtpProblem.NOT_UNDERSTOOD, f"{answer.status} device_code")
    seconds, interval = _whole(values.get("expires_in"), 900), _whole(values.get("interval"), 5)
    return DeviceCode(str(code), sanitize_reply(str(user_code)), sanitize_reply(str(address)), seconds, interval)


def _whole(value: object, default: int, maximum: int = LIFETIME_MAXIMUM) -> int:
    """Return the seconds of an answer; some providers send a text (RFC 6749 has a number)."""
    try:
        seconds = int(value) if isinstance(value, int | float | str) and len(str(value)) <= 20 else default
    except (ValueError, OverflowError):
        return default
    return min(seconds, maximum) if seconds > 0 else default


def _person(id_token: Any) -> str:
    """Return the address, else the name, in an ID token. Its signature is not checked: TLS says from whom it is (OpenID Connect
    Core 1.0, 3.1.3.7), and it is only shown."""
    if not isinstance(id_token, str) or id_token.count(".") != 2 or len(id_token) > 4 * TOKEN_MAXIMUM:
        return ""
    body = id_token.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, RecursionError):
        return ""
    found = (claims.get(name) for name in ("email", "preferred_username", "name")) if isinstance(claims, dict) else ()
    return next((sanitize_reply(each)[:256] for each in found if isinstance(each, str) and each), "")
