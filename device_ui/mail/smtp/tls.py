"""TLS contexts that decide the same on every version and build of Python.

Debian builds its Python with the cipher suites and versions of OpenSSL (``--with-ssl-default-suites=openssl``). With that
`ssl.create_default_context` sets no minimum, and Debian 12 completes a handshake with TLS 1.0 and RSA key exchange. Here TLS 1.2
is the least (RFC 8996), and keys of fewer than 112 bits of security are refused (OpenSSL's level 2).

From Python 3.13 on, `ssl.create_default_context` also refuses certificates that leave out what RFC 5280 demands and no
verification needs, as many home authorities do (`VERIFY_X509_STRICT`), and accepts an intermediate authority as trusted
(`VERIFY_X509_PARTIAL_CHAIN`). An update of Python must not end a device's mail, so here both are set on every version: the
first off, the second on, since what is named in ``mail.ca_file`` is trusted on purpose.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

SECURITY_LEVEL = 2  # SSL_CTX_set_security_level(3): 112 bits


def trusted(ca_files: Sequence[str] = ()) -> ssl.SSLContext:
    """Return a client's context that verifies certificate and name against the system's authorities and `ca_files`.

    Raises OSError or ssl.SSLError when a file cannot be read as certificates.
    """
    context = _verifying(at_least_1_2(ssl.create_default_context()))
    for name in ca_files:
        context.load_verify_locations(name)
    return context


def trusted_alone(pem: str) -> ssl.SSLContext:
    """Return a client's context that verifies certificate and name against these certificates (PEM) and no others.

    Raises ssl.SSLError when OpenSSL cannot read them.
    """
    context = _verifying(at_least_1_2(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)))
    context.load_verify_locations(cadata=pem)
    return context


def _verifying(context: ssl.SSLContext) -> ssl.SSLContext:
    context.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def unverified() -> ssl.SSLContext:
    """Return a client's context that verifies nothing: for a connection without a secret, or whose key is checked (`trust`)."""
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
    """Refuse TLS 1.0 and 1.1 and weak keys in this context; return it. The system may ask for more."""
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    if context.security_level < SECURITY_LEVEL:
        # The suites stay the same; those of TLS 1.3 are no part of this list.
        names = [each["name"] for each in context.get_ciphers() if each["protocol"] != "TLSv1.3"]
        context.set_ciphers(":".join([*names, f"@SECLEVEL={SECURITY_LEVEL}"]))
    return context
