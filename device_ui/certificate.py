"""The device's own TLS key and self-signed certificate, for nginx or stunnel in front of the pages.

ECDSA P-256 (RFC 5480), for the names that the pages are reached by and the addresses that the device has now. No public
authority can vouch for an appliance that is reached by address: whoever wants no warning trusts this certificate, or
puts one of their own in its place.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from device_ui import RELEASED
from device_ui.settings import flash

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

KEY, CERTIFICATE = "key.pem", "certificate.pem"
# What Apple's systems take at most, also for a certificate that a person trusts by hand.
DAYS = 825
# linux/sockios.h
SIOCGIFADDR = 0x8915
IF_INET6 = Path("/proc/net/if_inet6")
LOCAL = ("127.0.0.1", "::1")
NAME_MAXIMUM = 64  # RFC 5280, ub-common-name


def make(folder: Path, names: Iterable[str], addresses: Sequence[str], now: datetime.datetime) -> Path:
    """Make the certificate in `folder`, and the key if there is none; the certificate's path. Raises `NotStored`.

    The key stays, so that who trusted the last certificate's key can compare. A clock that is wrong makes no certificate
    of 1970: it begins with the release of this program.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    flash.make_folder(folder, 0o700)
    key = _key(folder / KEY)
    released = datetime.datetime.fromisoformat(RELEASED).replace(tzinfo=datetime.UTC)
    listed = sorted({name for name in names if name.isascii()})
    common = next((name for name in listed if len(name) <= NAME_MAXIMUM and name != "localhost"), "localhost")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    others: list[x509.GeneralName] = [x509.DNSName(name) for name in listed]
    others += [x509.IPAddress(ipaddress.ip_address(each)) for each in dict.fromkeys([*addresses, *LOCAL])]
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(min(now, released))
        .not_valid_after(max(now, released) + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName(others), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    flash.replace(folder / CERTIFICATE, made.public_bytes(serialization.Encoding.PEM), 0o644)
    return folder / CERTIFICATE


def fingerprint(path: Path) -> str:
    """A certificate's SHA-256, as browsers show it: ``AB:CD:…``."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    return x509.load_pem_x509_certificate(path.read_bytes()).fingerprint(hashes.SHA256()).hex(":").upper()


def own_addresses() -> list[str]:
    """The addresses of this device's interfaces, IPv4 first; link-local ones are left out."""
    found = [ipaddress.ip_address(each) for each in (*_ipv4(), *_ipv6())]
    return [str(each) for each in dict.fromkeys(found) if not each.is_loopback and not each.is_link_local]


def _key(path: Path) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    raw = flash.read(path)
    if raw is not None:
        with contextlib.suppress(ValueError, TypeError):
            found = serialization.load_pem_private_key(raw, None)
            if isinstance(found, ec.EllipticCurvePrivateKey):
                return found
        flash.set_aside(path)
    key = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    flash.replace(path, pem, 0o600)
    return key


def _ipv4() -> Iterator[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # an interface without an address
                answer = fcntl.ioctl(sock, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                yield socket.inet_ntoa(answer[20:24])


def _ipv6() -> Iterator[str]:
    with contextlib.suppress(OSError):  # a kernel without IPv6
        for line in IF_INET6.read_text(encoding="ascii").splitlines():
            yield str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0])))
