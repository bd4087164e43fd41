"""The rules of the OAuth 2.0 fields, as those of `rules`: a typed text becomes a value, or the sentence of the broken rule.

With `sign_in = oauth` a provider and a grant decide which of the other fields are needed (`VALUES`); a field that is not needed is
empty, whatever was typed. With every other sign-in all of them are empty.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from typing import Any

from device_ui.settings import rules
from device_ui.settings.rules import Invalid

# The choices, and what the page shows for each.
PROVIDER_WORDS = {"microsoft": "Microsoft 365", "custom": "Another provider, by its issuer"}
# The first is the default: no person, no second factor, nothing that rotates, and a key that never leaves the device.
GRANT_WORDS = {
    "certificate": "A certificate of this device",
    "secret": "A client secret, typed as the password",
    "device": "A code that a person types at the provider",
}
PROVIDERS, GRANTS = tuple(PROVIDER_WORDS), tuple(GRANT_WORDS)

TENANT_SENTENCE = "Please enter the tenant: its ID or a domain of it."
ISSUER_SENTENCE = "Please enter the issuer as an https address."
CLIENT_SENTENCE = "Please enter the client ID."
SCOPE_SENTENCE = "Please enter a scope within 256 printable ASCII characters."
UNTIL_SENTENCE = "Please enter the date on which the client secret ends, such as 2028-11-01."

# A GUID, or a domain of the tenant; for a person's own sign-in also the names of Microsoft's shared endpoints.
TENANT_PATTERN = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
SHARED_TENANTS = ("common", "organizations", "consumers")
# RFC 8414, section 2: https, no query, no fragment. No user name, so that no part of it is read as the host.
ISSUER_PATTERN = re.compile(
    r"https://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"
)
# RFC 6749, appendix A.1 and A.4: VSCHAR without the blank, and scope tokens one blank apart.
CLIENT_PATTERN = re.compile(r"[\x21-\x7e]{1,256}")
SCOPE_PATTERN = re.compile(r"(?:[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*)?")
DATE_PATTERN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
ISSUER_MAXIMUM = SCOPE_MAXIMUM = 256

Values = Mapping[str, Any]


def is_tenant(value: str, values: Values) -> bool:
    """Return whether this is a tenant of Microsoft's: an ID or a domain; a shared endpoint for a person alone."""
    if value in SHARED_TENANTS:
        return values.get("oauth_grant") == "device"
    return len(value) <= rules.TEXT_MAXIMUM and TENANT_PATTERN.fullmatch(value) is not None


def is_issuer(value: str, _values: Values) -> bool:
    """Return whether this is an issuer identifier (RFC 8414, section 2)."""
    return len(value) <= ISSUER_MAXIMUM and ISSUER_PATTERN.fullmatch(value) is not None


def is_client(value: str, _values: Values) -> bool:
    """Return whether this is a client identifier."""
    return CLIENT_PATTERN.fullmatch(value) is not None


def is_scope(value: str, _values: Values) -> bool:
    """Return whether these are scopes, one blank between them; none: the provider's default."""
    return len(value) <= SCOPE_MAXIMUM and SCOPE_PATTERN.fullmatch(value) is not None


def is_date(value: str, _values: Values) -> bool:
    """Return whether this is a date (RFC 3339, full-date)."""
    try:
        return DATE_PATTERN.fullmatch(value) is not None and bool(datetime.date.fromisoformat(value))
    except ValueError:
        return False


# Field → its rule and sentence, and the choice that it belongs to: a field with a value of it; "" for every choice.
VALUES: Mapping[str, tuple[Callable[[str, Values], bool], str, str, str]] = {
    "oauth_tenant": (is_tenant, TENANT_SENTENCE, "oauth_provider", "microsoft"),
    "oauth_issuer": (is_issuer, ISSUER_SENTENCE, "oauth_provider", "custom"),
    "oauth_client": (is_client, CLIENT_SENTENCE, "", ""),
    "oauth_scope": (is_scope, SCOPE_SENTENCE, "", ""),
    "oauth_until": (is_date, UNTIL_SENTENCE, "oauth_grant", "secret"),
}

# The fields, the choices first.
NAMES = ("oauth_provider", "oauth_grant", *VALUES)


def is_needed(name: str, values: Values) -> bool:
    """Return whether the provider and the grant in `values` need this field."""
    _, _, chooses, chosen = VALUES.get(name, (None, "", "", ""))
    return not chooses or values.get(chooses) == chosen


def value(name: str, text: str, values: Values) -> str | Invalid:
    """Return the value of a field of `VALUES`; `values` has those of the two choices."""
    if not is_needed(name, values):
        return ""
    is_valid, sentence, _, _ = VALUES[name]
    stripped = rules.stripped(text)
    return stripped if is_valid(stripped, values) else Invalid(sentence, rules.unseen(stripped))
