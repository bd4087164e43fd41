"""Device cookies: a browser that logged in before is throttled by its own failures alone, wherever it is now. Pure.

The cookie grants no access. It identifies the client in place of the address, and its own wrong passwords delay it as they
delay an address (OWASP, "Slow Down Online Guessing Attacks with Device Cookies"). The device stores nothing of it: it is
signed with a key from the administrator's record, so that a new password revokes all of them. Every login issues a new
one, so that a copy of the last does not use up the tries of the browser.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from device_ui.web.auth.administrator import Record

# The name, which `Guard.cookie_name` completes.
COOKIE = "device-ui-browser"
# Seconds: a year.
COOKIE_SECONDS = 31_536_000
PURPOSE = b"device-ui: a browser that the owner got in with\0"
TOKEN_PATTERN = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{64})")


def issue(record: Record) -> str:
    """Return a new signed token: 16 random bytes and their HMAC-SHA256 (RFC 2104), in hexadecimal."""
    name = secrets.token_hex(16)
    return f"{name}.{_signature(name, record)}"


def verify(token: str, record: Record) -> str:
    """Return the browser's name, 32 characters, if this device issued the token under this password; else ``""``."""
    match = TOKEN_PATTERN.fullmatch(token)
    # A record without a hash has a setup code: no browser has logged in yet, and the key would be known to everyone.
    if not match or not record.hash:
        return ""
    return match[1] if hmac.compare_digest(match[2], _signature(match[1], record)) else ""


def _signature(name: str, record: Record) -> str:
    # With the secret salt in the key, a copied token does not allow passwords to be tried offline.
    key = hashlib.sha256(PURPOSE + bytes.fromhex(record.salt) + bytes.fromhex(record.hash)).digest()
    return hmac.new(key, name.encode(), hashlib.sha256).hexdigest()
