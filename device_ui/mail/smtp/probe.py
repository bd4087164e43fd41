"""A closer look after a test has failed: a second connection that proves nothing, and so never carries a login or a mail.

It goes to the address that the courier had reached, and verifies nothing, since what it is to tell is why the
courier's verification failed. Nothing but the words for a person follows from what it finds.
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

# Names of a certificate that are told, and characters of each and of its issuer.
NAMES_MAXIMUM, NAME_MAXIMUM = 10, 100


@dataclass(frozen=True)
class Certificate:
    """What a server's certificate says of itself: its `names` (DNS and IP), when it `begins` and `ends` (UTC), its `issuer`.

    All of it is a stranger's word, made printable and bounded in length.
    """

    names: tuple[str, ...]
    begins: datetime
    ends: datetime
    issuer: str


def speaks_tls(address: AddressInfo, host: str, seconds: float) -> bool:
    """Whether the server takes a TLS handshake as the first thing it hears, within `seconds`."""
    try:
        with _connected(address, Deadline(seconds)) as session:
            session.wrap(unverified(), host).do_handshake()
            return True
    except (OSError, ValueError):
        return False


def certificate(address: AddressInfo, host: str, seconds: float, *, starttls: bool) -> Certificate | None:
    """The certificate that the server shows, after STARTTLS or at once; None when it cannot be had within `seconds`."""
    try:
        with _connected(address, Deadline(seconds)) as session:
            if starttls:
                _ask_for_tls(session)
            sock = session.wrap(unverified(), host)
            sock.do_handshake()
            return read(sock.getpeercert(binary_form=True) or b"")
    except (OSError, ValueError, smtplib.SMTPException):
        return None


def read(der: bytes) -> Certificate:
    """Read a certificate in DER. Raises ValueError when it is none."""
    # Imported here: 7 MiB that only a certificate which is not right is worth.
    from cryptography import x509

    try:
        found = x509.load_der_x509_certificate(der)
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from error
    return Certificate(
        tuple(_clean(name) for name in _names(found)[:NAMES_MAXIMUM]),
        found.not_valid_before_utc,
        found.not_valid_after_utc,
        _clean(found.issuer.rfc4514_string()),
    )


@contextlib.contextmanager
def _connected(address: AddressInfo, deadline: Deadline) -> Iterator[Connection]:
    family, kind, protocol, _, end = address
    with contextlib.closing(socket.socket(family, kind, protocol)) as sock:
        sock.settimeout(deadline.left())
        sock.connect(end)
        session = Connection(sock, deadline)
        try:
            yield session
        finally:
            session.close()


def _ask_for_tls(session: Connection) -> None:
    """From the greeting to the answer to STARTTLS. Raises ValueError when the server does not go along."""
    answers = (
        session.getreply(),
        session.ehlo(address_literal(session.sock.getsockname()[0])),
        session.docmd("STARTTLS"),
    )
    if [code for code, _ in answers] != [220, 250, 220]:
        raise ValueError("the server does not begin TLS")


def _names(found: x509.Certificate) -> list[str]:
    from cryptography import x509

    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return []
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def _clean(text: str) -> str:
    return printable(text)[:NAME_MAXIMUM]
