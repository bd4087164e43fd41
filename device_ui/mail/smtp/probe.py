"""A second, unverified connection after a failed test: what the port says, in TLS or without, and its certificates.

It goes to the address that the client connected to and carries neither a login nor a mail. It verifies nothing, because
it is to show why the client's verification failed. Its results only choose the words of the advice.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import smtplib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from device_ui.mail.smtp.address_policy import AddressInfo, address_literal
from device_ui.mail.smtp.connection import Connection, Deadline, tls_name
from device_ui.mail.smtp.redaction import printable, sanitize_reply
from device_ui.mail.smtp.tls import unverified
from device_ui.settings.trust_rules import elements

if TYPE_CHECKING:
    from cryptography import x509

# Names of a certificate that are kept, and characters of each.
# A certificate of a hosting provider may have a hundred names; a sentence has room for some.
NAMES_MAXIMUM, NAME_MAXIMUM = 10, 100
# The server chooses these texts, and a person compares fingerprints beside them. No character of a name makes a sentence or a
# fingerprint with colons; issuer and subject have no room for the 64 digits of a SHA-256, and cannot end their quotation.
NOT_OF_A_NAME = re.compile(r"[^0-9A-Za-z.*_-]")
DISTINGUISHED_MAXIMUM = 60
QUOTES = str.maketrans("“”", "''")
# Certificates of a chain that are kept: an honest one has two to four.
CHAIN_MAXIMUM = 6
# Bits of an RSA or elliptic key with 112 bits of security (NIST SP 800-57 part 1, table 2). OpenSSL's level 2 demands that of a
# chain that it verifies, but not of a pinned key.
RSA_BITS, CURVE_BITS = 2048, 224
# Of the parts of a certificate (RFC 5280, section 4.1): the tag of the version, which the first version leaves out; and the place
# of the key after it.
EXPLICIT_VERSION, KEY_PLACE = 0xA0, 5
# Bytes of the first line (RFC 5321, section 4.5.3.1.5).
LINE_MAXIMUM = 512
# A TLS record of handshake messages; two of their types; and bytes of such messages (a chain of ten certificates has some 20 KiB).
HANDSHAKE, CERTIFICATE_REQUEST, SERVER_HELLO_DONE = 22, 13, 14
FLIGHT_MAXIMUM = 64 * 1024


@dataclass(frozen=True)
class Certificate:
    """A certificate: its `names` (DNS and IP, else the common name), its dates `begins` and `ends` (UTC), `issuer` and `subject`.

    `sha256` is that of the certificate and `key_sha256` that of its SubjectPublicKeyInfo, as hexadecimal digits. `is_common_name`:
    it has no subjectAltName. `is_authority`: it may issue others, by its basic constraints. `is_weak`: its key is too short.
    All of it is untrusted. A character of a name that no host name has is ``?``; issuer and subject are printable and cut.
    """

    names: tuple[str, ...]
    begins: datetime
    ends: datetime
    issuer: str
    subject: str = ""
    der: bytes = field(default=b"", repr=False)
    key_sha256: str = ""
    is_common_name: bool = False
    is_authority: bool = False
    is_weak: bool = False

    @property
    def sha256(self) -> str:
        """The fingerprint of the certificate."""
        return hashlib.sha256(self.der).hexdigest()


def first_line(address: AddressInfo, host: str, seconds: float, *, tls: bool) -> str | None:
    """Return the first line that the server sends, in TLS or without; ``""`` when it sends none within `seconds`.

    None: there is no connection, or no TLS in it.
    """
    try:
        with _connected(address, Deadline(seconds)) as connection:
            if tls:
                connection.wrap(unverified(), host).do_handshake()
            return _line(connection)
    except (OSError, ValueError):
        return None


def wants_certificate(address: AddressInfo, host: str, seconds: float, *, starttls: bool) -> bool:
    """Return whether the server asks for a client's certificate, at once or after STARTTLS.

    TLS 1.2 has this request in the clear (RFC 5246, section 7.4.4), so the handshake is only begun.
    """
    context = unverified()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        with _connected(address, Deadline(seconds)) as connection:
            if starttls:
                _request_tls(connection)
            hello = ssl.MemoryBIO()
            with contextlib.suppress(ssl.SSLWantReadError):
                context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname=tls_name(host)).do_handshake()
            connection.send(hello.read())
            return CERTIFICATE_REQUEST in _first_flight(connection.sock, connection.deadline)
    except (OSError, ValueError, smtplib.SMTPException):
        return False


def chain(address: AddressInfo, host: str, seconds: float, *, starttls: bool) -> tuple[Certificate, ...]:
    """Return the certificates that the server shows, at once or after STARTTLS, its own first; none if it shows none within
    `seconds`."""
    try:
        with _connected(address, Deadline(seconds)) as connection:
            if starttls:
                _request_tls(connection)
            sock = connection.wrap(unverified(), host)
            sock.do_handshake()
            return tuple(map(read, sock.chain()[:CHAIN_MAXIMUM]))
    except (OSError, ValueError, smtplib.SMTPException):
        return ()


def read(der: bytes) -> Certificate:
    """Return a certificate from its DER encoding. Raises ValueError when it is none."""
    # Imported here: it takes 7 MiB, which only a certificate that failed is worth.
    from cryptography import x509

    try:
        decoded = x509.load_der_x509_certificate(der)
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from error
    names, is_common_name = _names(decoded)
    return Certificate(
        tuple(names[:NAMES_MAXIMUM]),
        decoded.not_valid_before_utc,
        decoded.not_valid_after_utc,
        _distinguished(decoded.issuer),
        _distinguished(decoded.subject),
        der,
        hashlib.sha256(_key_info(decoded)).hexdigest(),
        is_common_name,
        _is_authority(decoded),
        _is_weak(decoded),
    )


@contextlib.contextmanager
def _connected(address: AddressInfo, deadline: Deadline) -> Iterator[Connection]:
    family, kind, protocol, _, end = address
    with contextlib.closing(socket.socket(family, kind, protocol)) as sock:
        sock.settimeout(deadline.left())
        sock.connect(end)
        connection = Connection(deadline)
        connection.attach(sock)
        try:
            yield connection
        finally:
            connection.close()


def _first_flight(sock: socket.socket, deadline: Deadline) -> set[int]:
    """Return the types of the handshake messages up to the server's first flight's end (RFC 5246, section 7.3)."""
    raw = b""
    while len(raw) < FLIGHT_MAXIMUM:
        sock.settimeout(deadline.left())
        chunk = sock.recv(4096)
        raw += chunk
        types = _message_types(raw)
        # The server then waits for this side, which says nothing more.
        if not chunk or SERVER_HELLO_DONE in types:
            return types
    return set()


def _message_types(raw: bytes) -> set[int]:
    """Return the types of the handshake messages in these TLS records (RFC 5246, sections 6.2.1 and 7.4)."""
    messages, types = b"", set()
    # A record begins with its type, version and length. The first one of a different type, such as an alert, ends the flight.
    while len(raw) >= 5 and raw[0] == HANDSHAKE:
        size = 5 + int.from_bytes(raw[3:5])
        messages, raw = messages + raw[5:size], raw[size:]
    # A message begins with its type and its length, and may go over the end of a record.
    while len(messages) >= 4:
        types.add(messages[0])
        messages = messages[4 + int.from_bytes(messages[1:4]) :]
    return types


def _line(connection: Connection) -> str:
    if connection.file is None:
        return ""
    with contextlib.suppress(OSError):
        # A server that says nothing is an answer here, not an error.
        return sanitize_reply(connection.file.readline(LINE_MAXIMUM).decode("utf-8", "replace").strip())
    return ""


def _request_tls(connection: Connection) -> None:
    """Go from the greeting to the reply to STARTTLS. Raises ValueError when a reply is negative."""
    replies = (
        connection.getreply(),
        connection.ehlo(address_literal(connection.sock.getsockname()[0])),
        connection.docmd("STARTTLS"),
    )
    # Only the codes of a session that goes on: any other one ends it before TLS.
    if [code for code, _ in replies] != [220, 250, 220]:
        raise ValueError("the server does not begin TLS")


def _names(decoded: x509.Certificate) -> tuple[list[str], bool]:
    """Return the names that count, and whether they are common names."""
    from cryptography import x509

    try:
        names = decoded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ):
        # OpenSSL compares the common name where there is no other (X509_check_host(3)).
        common = decoded.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return [_name(str(each.value)) for each in common], True
    return [
        *map(_name, names.get_values_for_type(x509.DNSName)),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    ], False


def _key_info(decoded: x509.Certificate) -> bytes:
    """Return the SubjectPublicKeyInfo as it is in the certificate (RFC 5280, section 4.1)."""
    # Not the key encoded anew: of a compressed point (RFC 5480, section 2.2) that would be different bytes than openssl shows.
    parts = elements(elements(decoded.tbs_certificate_bytes)[0].content)
    if parts[0].tag == EXPLICIT_VERSION:
        del parts[0]
    return parts[KEY_PLACE].whole


def _is_authority(decoded: x509.Certificate) -> bool:
    from cryptography import x509

    try:
        return bool(decoded.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return False


def _is_weak(decoded: x509.Certificate) -> bool:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    try:
        key = decoded.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return True
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size < RSA_BITS
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.key_size < CURVE_BITS
    return not isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey)


def _name(text: str) -> str:
    return NOT_OF_A_NAME.sub("?", text[:NAME_MAXIMUM])


def _distinguished(name: x509.Name) -> str:
    return printable(name.rfc4514_string())[:DISTINGUISHED_MAXIMUM].translate(QUOTES)
