"""The RSA key that the device signs in with, its certificate, and the assertion that it signs (RFC 7523).

The hook makes the key, and it never leaves the hook: at rest it is sealed (`settings.sealed_record`). An assertion is bound to the
address that it is sent to (``aud``), so another server can do nothing with it. 60 days before a certificate ends the next
key is made; both are tried until the provider takes the new one.

The key is for one mail server, its trusted certificate included, and one application (`KEY_BOUND_TO`), as a password
is: `aud` protects the assertion, but not the access token that it gets, which would go to whatever mail server the
settings name then ("pass-back"). Settings with a different one need a new key, whose certificate a person has to
upload.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from device_ui.errors import CannotOpen, Damaged, NoKey, NotStored
from device_ui.settings.sealed_record import BOUND, bound_text
from device_ui.storage import files
from device_ui.storage.sha256 import sha256

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

    from device_ui.settings.fields import SmtpSettings
    from device_ui.settings.sealed_record import SealedRecord

PURPOSE = "device-ui sign-in key 1"
COMMENT = "device-ui: the key that this device signs in with, sealed, and its certificate."
# learn.microsoft.com/entra/identity-platform/certificate-credentials documents RSA only.
KEY_BITS = 2048
# Two years, as long as Entra's own client secrets at most; and the time before the end in which the next key is made.
VALID_DAYS, NEXT_DAYS = 730, 60
# Seconds that an assertion is valid, and that the provider's clock may be behind.
ASSERTION_SECONDS, SKEW_SECONDS = 600, 60
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# The fields of the settings that a key is for. Not the account: at the same server and application it decides nothing about who
# gets the token, and a change of the mailbox should need no upload.
KEY_BOUND_TO = ("host", "port", "security", "oauth_provider", "oauth_tenant", "oauth_issuer", "oauth_client")
# The suffixes of the names in the record: of the present key and of the next.
PRESENT, NEXT = "", "_next"


@dataclass(frozen=True)
class Certificate:
    """A certificate of the device in DER, and the day on which it ends (ISO 8601)."""

    der: bytes
    ends: str

    @property
    def sha256(self) -> str:
        """The fingerprint, in hexadecimal digits."""
        return sha256(self.der).hexdigest()


class SigningKeys:
    """The keys of one device, each method for the sign-in of some settings. `now` returns seconds since 1970. Any
    thread may call."""

    def __init__(self, record: SealedRecord, now: Callable[[], float]) -> None:
        self._record, self.now = record, now
        self._lock = threading.Lock()

    def certificates(self, settings: SmtpSettings) -> list[Certificate]:
        """Return the certificate of the present key, then that of the next, if there are any. Raises `NotReadable`."""
        record = self._read(settings)
        return [_certificate(record, each) for each in (PRESENT, NEXT) if f"certificate{each}" in record]

    def make(self, settings: SmtpSettings) -> list[Certificate]:
        """Return the `certificates`; make the key when there is none that opens, in place of one for other settings.

        Raises `NotStored`, `NotReadable`, `NoKey`, `Damaged`.

        A key takes 0.1 s, on a small processor ten.
        """
        with self._lock:
            if not self._opens(self._read(settings)):
                values, secrets = self._new(PRESENT)
                self._record.write({BOUND: _bound_text(settings), **values}, secrets)
        return self.certificates(settings)

    def make_next(self, settings: SmtpSettings) -> Certificate | None:
        """Make the next key if the present certificate ends soon; return its certificate, None when it is not needed yet.

        Raises as `make` does.
        """
        with self._lock:
            record = self._read(settings)
            if not record or f"certificate{NEXT}" in record or days_left(record["ends"], self.now()) > NEXT_DAYS:
                return None
            values, secrets = self._new(NEXT)
            self._record.write({**record, **values}, secrets)
            return _certificate(values, NEXT)

    def assertions(self, settings: SmtpSettings, audience: str) -> list[Callable[[float], str]]:
        """Return for each key, the next one first, a function that takes the seconds to add to the device's clock and returns an assertion.

        Raises `NotReadable`; the functions raise as `SealedRecord.open` does.
        """
        record = self._read(settings)

        def signed(suffix: str, skew: float) -> str:
            key = _load(self._record.open(record, f"sealed{suffix}"))
            der = _certificate(record, suffix).der
            return _assertion(key, der, (settings.oauth_client, audience), int(self.now() + skew))

        return [partial(signed, each) for each in (NEXT, PRESENT) if f"sealed{each}" in record]

    def promote(self, settings: SmtpSettings) -> None:
        """Keep the next key alone: the provider takes it. Raises as `make` does."""
        with self._lock:
            record = self._read(settings)
            if f"sealed{NEXT}" in record:
                secret = self._record.open(record, f"sealed{NEXT}")
                values = {name: record[f"{name}{NEXT}"] for name in ("certificate", "ends")}
                self._record.write({BOUND: record[BOUND], **values}, {"sealed": secret})

    def _read(self, settings: SmtpSettings) -> dict[str, str]:
        """Return the record of these settings, empty for any other."""
        try:
            record = self._record.read()
            if record and not {"sealed", "certificate", "ends"} <= set(record):
                raise Damaged(self._record.path, "it holds no key")
            return record if record.get(BOUND) == _bound_text(settings) else {}
        except Damaged:
            with contextlib.suppress(NotStored):
                files.quarantine(self._record.path)
            return {}

    def _opens(self, record: Mapping[str, str]) -> bool:
        try:
            return bool(self._record.open(record))
        except (NoKey, CannotOpen):  # the hook's own key was lost, and this one with it
            return False

    def _new(self, suffix: str) -> tuple[dict[str, str], dict[str, str]]:
        key, der, ends = _make(self.now())
        values = {f"certificate{suffix}": base64.b64encode(der).decode(), f"ends{suffix}": ends}
        return values, {f"sealed{suffix}": base64.b64encode(key).decode()}


def days_left(day: str, now: float) -> int:
    """Return the days from now (seconds since 1970) to a day in UTC; negative once it is over."""
    return (datetime.date.fromisoformat(day) - datetime.datetime.fromtimestamp(now, datetime.UTC).date()).days


def _bound_text(settings: SmtpSettings) -> str:
    return bound_text([*(str(getattr(settings, name)) for name in KEY_BOUND_TO), *settings.trust_bound_to])


def _certificate(record: Mapping[str, str], suffix: str) -> Certificate:
    return Certificate(base64.b64decode(record[f"certificate{suffix}"]), record[f"ends{suffix}"])


def _make(now: float) -> tuple[bytes, bytes, str]:
    """Return a new key (PKCS #8), its self-signed certificate (DER), and the day on which that ends."""
    # Imported here: 3 MiB that only this grant needs.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(65537, KEY_BITS)
    day = datetime.datetime.fromtimestamp(now, datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    ends = day + datetime.timedelta(days=VALID_DAYS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"device-ui {os.urandom(4).hex()}")])
    builder = x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
    # From the day before: the provider's clock may be behind this one.
    builder = builder.not_valid_before(day - datetime.timedelta(days=1)).not_valid_after(ends)
    certificate = builder.serial_number(x509.random_serial_number()).sign(key, hashes.SHA256())
    encoding, plain = serialization.Encoding.DER, serialization.NoEncryption()
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    return private, certificate.public_bytes(encoding), str(ends.date())


def _load(text: str) -> rsa.RSAPrivateKey:
    from cryptography.hazmat.primitives import serialization

    return serialization.load_der_private_key(base64.b64decode(text), None)  # type: ignore[return-value]


def _assertion(key: rsa.RSAPrivateKey, der: bytes, parties: tuple[str, str], now: int) -> str:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    client, audience = parties
    # x5t#S256: RFC 7515, section 4.1.8. PS256: RFC 7518, section 3.5, with a salt as long as the hash.
    header = {"alg": "PS256", "typ": "JWT", "x5t#S256": _url_base64(sha256(der).digest())}
    times = {"iat": now, "nbf": now - SKEW_SECONDS, "exp": now + ASSERTION_SECONDS}
    claims = {"iss": client, "sub": client, "aud": audience, "jti": os.urandom(16).hex(), **times}
    signed = ".".join(_url_base64(json.dumps(part).encode()) for part in (header, claims))
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
    signature = key.sign(signed.encode(), pss, hashes.SHA256())
    return f"{signed}.{_url_base64(signature)}"


def _url_base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
