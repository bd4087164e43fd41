"""The token of a monitoring system: 256 random bits that are printed once; the device keeps their SHA-256.

A random secret of that length needs neither a slow hash nor a delay for guesses, unlike the administrator's password, which would
cost scrypt's memory and a fifth of a second with every poll, and would be in every monitoring system's configuration.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
from pathlib import Path

from device_ui.errors import DeviceUIError
from device_ui.rate_limit import TokenBucket
from device_ui.storage import files, toml_file
from device_ui.storage.sha256 import sha256

log = logging.getLogger(__name__)

COMMENT = "device-ui: the SHA-256 of the token for /metrics. device-ui metrics-token makes a new one."
# Bytes of a token, and its form in a request: RFC 6750, 2.1. The name of a scheme has no case (RFC 9110, 11.1).
TOKEN_BYTES = 32
HEADER_PATTERN = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9_-]{43})")
HEADER_MAXIMUM = 100
# Log lines about a damaged file, which every request with some token finds: 20 at once, and one more a minute.
LINES_AT_ONCE, LINE_SECONDS = 20, 60.0


class MetricsToken:
    """The token of one device, at `path`. Without a file, or with a damaged one, no token is right."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = TokenBucket(LINES_AT_ONCE, LINE_SECONDS)

    def renew(self) -> str:
        """Store a new token in place of the former one, and return it. Raises `NotStored`."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        files.replace(self._path, toml_file.encode(COMMENT, {"hash": _hash(token)}), 0o600)
        return token

    def remove(self) -> None:
        """Let no token be right any more. Raises `NotStored`."""
        if files.read(self._path) is not None:
            files.replace(self._path, toml_file.encode(COMMENT, {"hash": ""}), 0o600)

    def is_right(self, header: str) -> bool:
        """Return whether an Authorization header has the token."""
        found = HEADER_PATTERN.fullmatch(header) if len(header) <= HEADER_MAXIMUM else None
        stored = self._stored() if found else ""
        return bool(stored) and found is not None and hmac.compare_digest(_hash(found[1]), stored)

    def _stored(self) -> str:
        try:
            raw = files.read(self._path)
            return str(toml_file.decode(raw).get("hash", "")) if raw is not None else ""
        except (DeviceUIError, ValueError) as error:
            if not self._lines.take():
                log.error("token of the metrics not read: %s; device-ui metrics-token makes a new one", error)
            return ""


def _hash(token: str) -> str:
    return sha256(token.encode()).hexdigest()
