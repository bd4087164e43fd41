"""A second, unverified connection after a failed test: what the port says, in TLS or without, and its certificate.

It goes to the address that the client connected to and carries neither a login nor a mail. It verifies nothing, because
it is to show why the client's verification failed. Its results only choose the words of the advice.
"""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from device_ui.mail.smtp.address_policy import AddressInfo, address_literal
from device_ui.mail.smtp.connection import Connection, Deadline, tls_name
from device_ui.mail.smtp.redaction import printable, sanitize_reply
from device_ui.mail.smtp.tls import unverified

if TYPE_CHECKING:
    from cryptography import x509

# Names of a certificate that are kept, and characters of each and of its issuer.
# A certificate of a hosting provider may have a hundred names; a sentence has room for some.
NAMES_MAXIMUM, NAME_MAXIMUM = 10, 100
# Bytes of the first line (RFC 5321, section 4.5.3.1.5).
LINE_MAXIMUM = 512
# A TLS record of handshake messages; two of their types; and bytes of such messages (a chain of ten certificates has some 20 KiB).
HANDSHAKE, CERTIFICATE_REQUEST, SERVER_HELLO_DONE = 22, 13, 14
FLIGHT_MAXIMUM = 64 * 1024


@dataclass(frozen=True)
class Certificate:
    """A server's certificate: its `names` (DNS and IP, else the common name), its dates `begins` and `ends` (UTC), its `issuer`.

    All of it is untrusted; the texts are printable and bounded in length.
    """

    names: tuple[str, ...]
    begins: datetime
    ends: datetime
    issuer: str


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


def _names(decoded: x509.Certificate) -> list[str]:
    from cryptography import x509

    try:
        names = decoded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ):
        # OpenSSL compares the common name where there is no other (X509_check_host(3)).
        return [str(each.value) for each in decoded.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    return [
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    ]


def _clean(text: str) -> str:
    return printable(text)[:NAME_MAXIMUM]
