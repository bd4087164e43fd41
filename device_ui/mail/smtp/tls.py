"""TLS contexts with version 1.2 at least (RFC 8996), whatever the build of Python allows.

Debian builds its Python with the cipher suites and versions of OpenSSL (``--with-ssl-default-suites=openssl``). With that
`ssl.create_default_context` sets no minimum, and Debian 12 completes a handshake with TLS 1.0 and RSA key exchange.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path


def trusted(ca_files: Sequence[str] = ()) -> ssl.SSLContext:
    """Return a client's context that verifies certificate and name against the system's authorities and `ca_files`.

    Raises OSError or ssl.SSLError when a file cannot be read as certificates.
    """
    context = at_least_1_2(ssl.create_default_context())
    for name in ca_files:
        context.load_verify_locations(name)
    return context


def unverified() -> ssl.SSLContext:
    """Return a client's context that verifies nothing: for a connection that carries no secret."""
    context = at_least_1_2(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def server(chain: Path) -> ssl.SSLContext:
    """Return a server's context with the key and the certificates in the file `chain` (PEM).

    Raises OSError or ssl.SSLError when the file cannot be read as such.
    """
    context = at_least_1_2(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.load_cert_chain(chain)
    return context


def at_least_1_2(context: ssl.SSLContext) -> ssl.SSLContext:
    """Refuse TLS 1.0 and 1.1 in this context; return it."""
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)  # the system may ask for more
    return context
