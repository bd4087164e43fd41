"""Browsers that the owner got in with before, so that others' guesses cost them nothing, wherever they are now. Pure.

Such a browser keeps a cookie that opens no page: it says who guesses, in place of the address, and its own wrong passwords
make it wait as they would make an address wait (OWASP, "Slow Down Online Guessing Attacks with Device Cookies"). The device
keeps nothing of it: the cookie is signed with what only the administrator's record holds, and a new password ends them all.
Every login gives a new one, so that whoever copied the last cannot use up the tries of the browser that has this one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from device_ui.web.auth.administrator import Record

# Of our own name: cookies know no ports (RFC 6265, 8.5), and another program on this host has its own.
COOKIE, COOKIE_UNDER_TLS = "device-ui-browser", "__Host-device-ui-browser"
# Seconds: a year.
COOKIE_SECONDS = 31_536_000
PURPOSE = b"device-ui: a browser that the owner got in with\0"
TOKEN_PATTERN = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{64})")


def introduced(record: Record) -> str:
    """A new browser's token: 16 random bytes and their HMAC-SHA256 (RFC 2104), in hexadecimal."""
    name = secrets.token_hex(16)
    return f"{name}.{_signature(name, record)}"


def recognized(token: str, record: Record | None) -> str:
    """The browser's name, 32 characters, if this device gave it this token since the last new password; else ``""``."""
    match = TOKEN_PATTERN.fullmatch(token)
    if not match or record is None or not record.hash:
        return ""
    return match[1] if hmac.compare_digest(match[2], _signature(match[1], record)) else ""


def _signature(name: str, record: Record) -> str:
    # The salt is as secret as the hash: without it nobody can try passwords on a token that he got hold of.
    key = hashlib.sha256(PURPOSE + bytes.fromhex(record.salt) + bytes.fromhex(record.hash)).digest()
    return hmac.new(key, name.encode(), hashlib.sha256).hexdigest()
