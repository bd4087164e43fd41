"""The device's own TLS key and self-signed certificate, for nginx or stunnel in front of the pages.

ECDSA P-256 (RFC 5480), for the names of the pages and the present addresses of the device. No public authority certifies an
appliance that is reached by address: to avoid the browser's warning, trust this certificate, or replace it; a replacement is
not changed.
"""

from __future__ import annotations

import array
import contextlib
import datetime
import fcntl
import ipaddress
import socket
import struct
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from device_ui import RELEASED
from device_ui.storage import files

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

KEY, CERTIFICATE = "key.pem", "certificate.pem"
# The issuer, which distinguishes this certificate from a replacement.
ORGANIZATION = "Self-signed by this device"
# A browser's clock may be slow by this; a year is the most that Mozilla's server-side guidelines take (Apple: 825 days).
BACKDATED, LIFETIME = datetime.timedelta(days=1), datetime.timedelta(days=365)
RENEWED_BEFORE = datetime.timedelta(days=30)
# netdevice(7): every IPv4 address of every interface as a `struct ifreq`: 16 bytes of name, then a union whose largest
# member is `struct ifmap`. It needs no netlink socket, unlike getifaddrs(3) and if_nameindex(3).
SIOCGIFCONF = 0x8912
IFREQ_BYTES = struct.calcsize("16sLLHBBB0L")
IF_INET6 = Path("/proc/net/if_inet6")
# linux/if_addr.h: temporary, deprecated, tentative or refused. A new temporary address a day must not need a new certificate.
PASSING = 0x01 | 0x20 | 0x40 | 0x08
LOCAL = ("127.0.0.1", "::1")
NAME_MAXIMUM = 64  # RFC 5280, ub-common-name


def make(folder: Path, names: Iterable[str], addresses: Iterable[str], now: datetime.datetime) -> Path:
    """Make the certificate in `folder`, and the key if there is none; return the path of the certificate. Raises `NotStored`.

    The key and the names of the last certificate are kept, so that its key can be compared. With a wrong clock the
    certificate begins with the release of this program, not in 1970.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    # 700 and root's: the proxy reads the key before it drops its privileges.
    files.make_folder(folder, 0o700)
    key = _key(folder / KEY)
    last = _load(folder / CERTIFICATE)
    if not (last and _is_own(last)):
        last = None
        # Kept: it may be the maker's, and a person asked for a new one on purpose.
        if (folder / CERTIFICATE).exists():
            files.quarantine(folder / CERTIFICATE)
    begin = max(now - BACKDATED, _released())
    # Sorted and merged: the same names give the same certificate, and a name that was added by hand stays.
    listed = sorted(set(_ascii(names)) | (_names(last) if last else set()))
    # A browser reads the alternative names alone (RFC 9525); the common name is for people.
    common = next((name for name in listed if len(name) <= NAME_MAXIMUM and name != "localhost"), "localhost")
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, common), x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION)]
    )
    others: list[x509.GeneralName] = [x509.DNSName(name) for name in listed]
    others += [x509.IPAddress(ipaddress.ip_address(each)) for each in dict.fromkeys([*addresses, *LOCAL])]
    public = key.public_key()
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (
        (x509.SubjectAlternativeName(others), False),
        # Critical, so that a stolen key of a device is no authority (RFC 5280, 4.2.1.9).
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_signatures_only(), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        # Strict verifiers require both identifiers (RFC 5280, 4.2.1.1 and 4.2.1.2).
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False),
    )
    builder = x509.CertificateBuilder(subject, subject, public, x509.random_serial_number(), begin, begin + LIFETIME)
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, is_critical)
    made = builder.sign(key, hashes.SHA256())
    files.replace(folder / CERTIFICATE, made.public_bytes(serialization.Encoding.PEM), 0o644)
    return folder / CERTIFICATE


def problem(folder: Path, names: Iterable[str], addresses: Iterable[str], now: datetime.datetime) -> str:
    """Return the problem of the certificate in `folder`, ``""`` for none. Raises `NotReadable`.

    Of a replacement, only the dates and the key are checked. With a clock before the release, dates are not.
    """
    found = _load(folder / CERTIFICATE)
    if found is None:
        return "it cannot be read" if (folder / CERTIFICATE).exists() else "there is none"
    # A device without a battery starts in 1970: every certificate would seem to be of the future, and be made anew.
    if now >= _released() and not found.not_valid_before_utc <= now:
        return f"it begins on {found.not_valid_before_utc:%Y-%m-%d}"
    if now >= _released() and found.not_valid_after_utc - now < RENEWED_BEFORE:
        return f"it ends on {found.not_valid_after_utc:%Y-%m-%d}"
    if not _has_key(found, folder / KEY):
        return f"{KEY} is not its key"
    if not _is_own(found):
        return ""
    # Not the reverse: a certificate with a former address still serves, and each new one is a new warning in the
    # browser.
    missing = [*(set(_ascii(names)) - _names(found)), *(set(addresses) - _addresses(found))]
    return f"it is not for {', '.join(sorted(missing))}" if missing else ""


def is_own(folder: Path) -> bool:
    """Return whether this device may replace the certificate in `folder`: its own, none, or unreadable."""
    found = _load(folder / CERTIFICATE)
    return found is None or _is_own(found)


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a certificate, as browsers show it: ``AB:CD:…``."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    return x509.load_pem_x509_certificate(path.read_bytes()).fingerprint(hashes.SHA256()).hex(":").upper()


def own_addresses() -> list[str]:
    """Return the addresses of this device's interfaces, IPv4 first, without link-local and temporary ones (RFC 8981)."""
    # A link-local address needs the interface of the browser's own device, which no certificate can name.
    found = [ipaddress.ip_address(each) for each in (*_ipv4(), *ipv6_addresses())]
    return [str(each) for each in dict.fromkeys(found) if not each.is_loopback and not each.is_link_local]


def ipv6_addresses(table: Path = IF_INET6) -> Iterator[str]:
    """Return the IPv6 addresses in the kernel's table that last; none without IPv6."""
    with contextlib.suppress(OSError):  # a kernel without IPv6
        for line in table.read_text(encoding="ascii").splitlines():
            address, _, _, _, flags, _ = line.split()
            if not int(flags, 16) & PASSING:
                yield str(ipaddress.IPv6Address(bytes.fromhex(address)))


def _released() -> datetime.datetime:
    return datetime.datetime.fromisoformat(RELEASED).replace(tzinfo=datetime.UTC)


def _ascii(names: Iterable[str]) -> Iterator[str]:
    # dNSName is an IA5String (RFC 5280, 4.2.1.6); a host name in Hangul has an ASCII form, which a browser compares.
    return (name for name in names if name.isascii())


def _signatures_only() -> x509.KeyUsage:
    # RFC 8446, 4.4.2.2: all that an ECDSA certificate of a server is for.
    from cryptography import x509

    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign")
    return x509.KeyUsage(
        True,
        **dict.fromkeys((*others, "crl_sign", "encipher_only", "decipher_only"), False),
    )


def _load(path: Path) -> x509.Certificate | None:
    """Return the certificate; None when there is none, or a damaged one."""
    from cryptography import exceptions, utils, x509

    raw = files.read_damaged(path)
    damages = (exceptions.InvalidSignature, exceptions.UnsupportedAlgorithm)
    with warnings.catch_warnings(), contextlib.suppress(ValueError, TypeError, x509.ExtensionNotFound, *damages):
        # A serial number that is not positive, which some old authorities give. The signature shows whether it is ours.
        warnings.simplefilter("ignore", utils.CryptographyDeprecationWarning)
        found = x509.load_pem_x509_certificate(raw or b"")
        if _is_own(found):
            # A bit that flipped in the middle of a certificate still parses; its signature finds it.
            found.verify_directly_issued_by(found)
            _alternatives(found)
        return found
    return None


def _is_own(found: x509.Certificate) -> bool:
    from cryptography.x509.oid import NameOID

    issuers = found.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return [each.value for each in issuers] == [ORGANIZATION]


def _has_key(found: x509.Certificate, path: Path) -> bool:
    from cryptography import exceptions
    from cryptography.hazmat.primitives import serialization

    with contextlib.suppress(ValueError, TypeError, exceptions.UnsupportedAlgorithm):
        return (
            serialization.load_pem_private_key(files.read_damaged(path) or b"", None).public_key() == found.public_key()
        )
    return False


def _names(found: x509.Certificate) -> set[str]:
    from cryptography import x509

    return set(_alternatives(found).get_values_for_type(x509.DNSName))


def _addresses(found: x509.Certificate) -> set[str]:
    from cryptography import x509

    return {str(each) for each in _alternatives(found).get_values_for_type(x509.IPAddress)}


def _alternatives(found: x509.Certificate) -> x509.SubjectAlternativeName:
    from cryptography import x509

    return found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def _key(path: Path) -> EllipticCurvePrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    raw = files.read_damaged(path)
    if raw is not None:
        with contextlib.suppress(ValueError, TypeError, UnsupportedAlgorithm):
            found = serialization.load_pem_private_key(raw, None)
            if isinstance(found, ec.EllipticCurvePrivateKey):
                return found
        files.quarantine(path)
    key = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    # On flash before the certificate: after a power cut there is never a certificate without its key.
    files.replace(path, pem, 0o600)
    return key


def _ipv4() -> Iterator[str]:
    """Yield the IPv4 addresses of all interfaces, secondary ones included."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        # Without a buffer the kernel returns the size that it needs; one address more may come between the two calls.
        needed, _ = struct.unpack("iP", fcntl.ioctl(sock, SIOCGIFCONF, struct.pack("iP", 0, 0)))
        found = array.array("B", bytes(needed + IFREQ_BYTES))
        place, room = found.buffer_info()
        filled, _ = struct.unpack("iP", fcntl.ioctl(sock, SIOCGIFCONF, struct.pack("iP", room, place)))
    # struct sockaddr_in within the entry: family and port take 4 bytes after the 16 of the name.
    for begin in range(0, filled, IFREQ_BYTES):
        yield socket.inet_ntoa(found[begin + 20 : begin + 24].tobytes())
