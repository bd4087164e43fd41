"""A little certificate authority for tests: certificates which strict verification accepts."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from device_ui.mail.smtp.tls import trusted_alone

_DAY = datetime.timedelta(days=1)
_COMMON_NAME_LIMIT = 64  # RFC 5280's ub-common-name; the SAN carries the whole name anyway


@dataclass(frozen=True)
class Certificate:
    """A server's certificate and its private key (unencrypted PKCS #8), each as PEM bytes."""

    cert_pem: bytes
    key_pem: bytes


class Authority:
    """A self-signed authority called `name` (1 to 64 characters), valid ten years either side of now."""

    def __init__(self, name: str) -> None:
        now = datetime.datetime.now(datetime.UTC)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _common_name(name)
        # Valid long before now, so that a leaf which expired years ago still fails for its own dates alone.
        builder = self._builder(self._name, self._key, now - 3650 * _DAY, now + 3650 * _DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        self._certificate = builder.sign(self._key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        """The authority's own certificate as PEM: what a client has to trust."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def write(self, path: Path) -> Path:
        """Write `pem` to the file `path` and return that path; OSError when it cannot be written."""
        path.write_bytes(self.pem)
        return path

    def issue(
        self,
        names: list[str],
        *,
        not_before: datetime.datetime | None = None,
        not_after: datetime.datetime | None = None,
        rsa_bits: int = 0,
    ) -> Certificate:
        """Issue a server certificate for `names`: DNS names (ASCII) or IP literals, all put into the SAN.

        Without dates it is valid from yesterday until tomorrow; dates are aware datetimes. A `not_after` in
        the past makes an expired certificate, a `not_before` in the future one which is not valid yet.
        The key is of P-256, or of RSA with `rsa_bits`.
        ValueError when `names` is empty, a name is not ASCII, or the dates are in the wrong order.
        """
        if not names:
            raise ValueError("a certificate needs at least one name")
        key = rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_common_name(names[0]), key, *_validity(not_before, not_after))
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(
            _key_usage(digital_signature=True, key_encipherment=bool(rsa_bits)), critical=True
        )
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general_name, names))), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Certificate(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
        not_before: datetime.datetime,
        not_after: datetime.datetime,
    ) -> x509.CertificateBuilder:
        """What every certificate of this authority has in common, with both key identifiers."""
        builder = x509.CertificateBuilder(issuer_name=self._name, subject_name=subject)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(not_before).not_valid_after(not_after)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return builder.add_extension(issuer, critical=False)


def self_signed(
    names: list[str],
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    *,
    not_before: datetime.datetime | None = None,
    not_after: datetime.datetime | None = None,
    has_names: bool = True,
) -> Certificate:
    """A certificate that a server made itself, for the key that is given: renewed, it has other dates. Without `has_names` the
    first name is its common name alone."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    begins, ends = _validity(not_before, not_after)
    name = _common_name(names[0])
    builder = x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)
    if has_names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general_name, names))), critical=False)
    made = builder.sign(key, hashes.SHA256())
    return Certificate(made.public_bytes(serialization.Encoding.PEM), _key_pem(key))


@dataclass(frozen=True)
class Certificates:
    """An authority with a `folder` of chains for a server called `host`, and a client's context that trusts it."""

    host: str
    folder: Path
    authority: Authority = field(default_factory=lambda: Authority("Test authority"))

    def chain(self, *names: str, **options: Any) -> Path:
        """A file with the key and the certificate for these names (default: `host`); options as in `Authority.issue`."""
        certificate = self.authority.issue(list(names) or [self.host], **options)
        path = self.folder / f"chain-{len(list(self.folder.iterdir()))}.pem"
        path.write_bytes(certificate.key_pem + certificate.cert_pem)
        return path

    @property
    def context(self) -> ssl.SSLContext:
        """Verifies as the product does, and trusts this authority alone: the system's take 40 ms to read."""
        return trusted_alone(self.authority.write(self.folder / "authority.pem").read_text())


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_COMMON_NAME_LIMIT])])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _validity(
    not_before: datetime.datetime | None, not_after: datetime.datetime | None
) -> tuple[datetime.datetime, datetime.datetime]:
    """Fill in the missing dates; one which is given moves the other, so that they stay in order."""
    now = datetime.datetime.now(datetime.UTC)
    if not_before is None:
        not_before = min(now, not_after or now) - _DAY
    if not_after is None:
        not_after = max(now, not_before) + _DAY
    return not_before, not_after


def _key_usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
