"""A second, unverified connection after a failed test: whether the port speaks TLS, and which certificate it shows.

It goes to the address that the client connected to and carries neither a login nor a mail. It verifies nothing, because
it is to show why the client's verification failed. Its results only choose the words of the advice.
"""

from __future__ import annotations

import contextlib
import smtplib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from device_ui.mail.smtp.address_policy import AddressInfo, address_literal
from device_ui.mail.smtp.connection import Connection, Deadline
from device_ui.mail.smtp.redaction import printable
from device_ui.mail.smtp.tls import unverified

if TYPE_CHECKING:
    from cryptography import x509

# Names of a certificate that are kept, and characters of each and of its issuer.
NAMES_MAXIMUM, NAME_MAXIMUM = 10, 100


@dataclass(frozen=True)
class Certificate:
    """A server's certificate: its `names` (DNS and IP), its dates `begins` and `ends` (UTC), its `issuer`.

    All of it is untrusted; the texts are printable and bounded in length.
    """

    names: tuple[str, ...]
    begins: datetime
    ends: datetime
    issuer: str


def speaks_tls(address: AddressInfo, host: str, seconds: float) -> bool:
    """Return whether the server completes a TLS handshake at once, within `seconds`."""
    try:
        with _connected(address, Deadline(seconds)) as connection:
            connection.wrap(unverified(), host).do_handshake()
            return True
    except (OSError, ValueError):
        return False


def certificate(address: AddressInfo, host: str, seconds: float, *, starttls: bool) -> Certificate | None:
    """Return the certificate that the server shows, at once or after STARTTLS; None if it shows none within `seconds`."""
    try:
        with _connected(address, Deadline(seconds)) as connection:
            if starttls:
                _request_tls(connection)
            sock = connection.wrap(unverified(), host)
            sock.do_handshake()
            return read(sock.getpeercert(binary_form=True) or b"")
    except (OSError, ValueError, smtplib.SMTPException):
        return None


def read(der: bytes) -> Certificate:
    """Return a certificate from its DER encoding. Raises ValueError when it is none."""
    # Imported here: it takes 7 MiB, which only a certificate that failed is worth.
    from cryptography import x509

    try:
        decoded = x509.load_der_x509_certificate(der)
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from error
    return Certificate(
        tuple(_clean(name) for name in _names(decoded)[:NAMES_MAXIMUM]),
        decoded.not_valid_before_utc,
        decoded.not_valid_after_utc,
        _clean(decoded.issuer.rfc4514_string()),
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


def _request_tls(connection: Connection) -> None:
    """Go from the greeting to the reply to STARTTLS. Raises ValueError when a reply is negative."""
    replies = (
        connection.getreply(),
        connection.ehlo(address_literal(connection.sock.getsockname()[0])),
        connection.docmd("STARTTLS"),
    )
    if [code for code, _ in replies] != [220, 250, 220]:
        raise ValueError("the server does not begin TLS")


def _names(decoded: x509.Certificate) -> list[str]:
    from cryptography import x509

    try:
        names = decoded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return []
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def _clean(text: str) -> str:
    return printable(text)[:NAME_MAXIMUM]
