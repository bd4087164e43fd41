"""OpenSSL's errors as an `SmtpProblem`: why no TLS was agreed, and why a certificate was refused. Pure.

Both tables name only what OpenSSL states. Everything else is general (`NO_TLS_AGREED`, `BAD_CERTIFICATE`) and shown in
OpenSSL's own words: a reason such as "handshake failure" has several causes, and none of them is more likely than the others.
"""

from __future__ import annotations

import ssl

from device_ui.mail.smtp.outcome import SmtpProblem

# OpenSSL's reasons (openssl/sslerr.h), without the prefixes of `ALERT`: this side's own, and the server's alerts (RFC 8446,
# section 6; RFC 5246, section 7.2). This side presents no certificate, so an alert about one means that the server wants one.
REASONS = {
    "UNSUPPORTED_PROTOCOL": SmtpProblem.TLS_TOO_OLD,
    "VERSION_TOO_LOW": SmtpProblem.TLS_TOO_OLD,
    "WRONG_SSL_VERSION": SmtpProblem.TLS_TOO_OLD,
    "UNKNOWN_SSL_VERSION": SmtpProblem.TLS_TOO_OLD,
    "PROTOCOL_VERSION": SmtpProblem.TLS_TOO_OLD,  # alert 70
    "UNSAFE_LEGACY_RENEGOTIATION_DISABLED": SmtpProblem.TLS_TOO_OLD,  # RFC 5746, section 4.1
    "DH_KEY_TOO_SMALL": SmtpProblem.WEAK_TLS,
    "EE_KEY_TOO_SMALL": SmtpProblem.WEAK_TLS,
    "CA_KEY_TOO_SMALL": SmtpProblem.WEAK_TLS,
    "CA_MD_TOO_WEAK": SmtpProblem.WEAK_TLS,
    "LEGACY_SIGALG_DISALLOWED_OR_UNSUPPORTED": SmtpProblem.WEAK_TLS,
    "INSUFFICIENT_SECURITY": SmtpProblem.WEAK_TLS,  # alert 71
    "UNRECOGNIZED_NAME": SmtpProblem.NAME_NOT_SERVED,  # alert 112 (RFC 6066, section 3)
    "NO_CERTIFICATE": SmtpProblem.CLIENT_CERTIFICATE,  # alert 41
    "BAD_CERTIFICATE": SmtpProblem.CLIENT_CERTIFICATE,  # alert 42
    "UNSUPPORTED_CERTIFICATE": SmtpProblem.CLIENT_CERTIFICATE,  # alert 43
    "CERTIFICATE_REVOKED": SmtpProblem.CLIENT_CERTIFICATE,  # alert 44
    "CERTIFICATE_EXPIRED": SmtpProblem.CLIENT_CERTIFICATE,  # alert 45
    "CERTIFICATE_UNKNOWN": SmtpProblem.CLIENT_CERTIFICATE,  # alert 46
    "UNKNOWN_CA": SmtpProblem.CLIENT_CERTIFICATE,  # alert 48
    "CERTIFICATE_REQUIRED": SmtpProblem.CLIENT_CERTIFICATE,  # alert 116
    "INTERNAL_ERROR": SmtpProblem.TLS_FAULT,  # alert 80
}
# Python names a reason as the C header does; from 3.14 on it has OpenSSL's text where its own list is too old.
ALERTS = (
    "SSLV3_ALERT_",
    "TLSV1_ALERT_",
    "TLSV13_ALERT_",
    "SSL_TLS_ALERT_",
    "TLS_ALERT_",
    "TLSV1_",
)

# Verification codes (openssl/x509_vfy.h, X509_V_ERR_…).
VERIFY_CODES = {
    2: SmtpProblem.ISSUER_MISSING,  # UNABLE_TO_GET_ISSUER_CERT
    9: SmtpProblem.NOT_YET_VALID,
    10: SmtpProblem.EXPIRED,
    18: SmtpProblem.SELF_SIGNED,  # DEPTH_ZERO_SELF_SIGNED_CERT
    19: SmtpProblem.UNKNOWN_AUTHORITY,  # SELF_SIGNED_CERT_IN_CHAIN: the chain is complete, and its root is not trusted
    20: SmtpProblem.ISSUER_MISSING,  # UNABLE_TO_GET_ISSUER_CERT_LOCALLY
    21: SmtpProblem.ISSUER_MISSING,  # UNABLE_TO_VERIFY_LEAF_SIGNATURE
    23: SmtpProblem.REVOKED,
    26: SmtpProblem.WRONG_PURPOSE,
    62: SmtpProblem.OTHER_NAME,  # HOSTNAME_MISMATCH
    64: SmtpProblem.OTHER_NAME,  # IP_ADDRESS_MISMATCH
    66: SmtpProblem.WEAK_TLS,  # EE_KEY_TOO_SMALL
    67: SmtpProblem.WEAK_TLS,  # CA_KEY_TOO_SMALL
    68: SmtpProblem.WEAK_TLS,  # CA_MD_TOO_WEAK
}


def problem_of_tls(error: ssl.SSLError) -> tuple[SmtpProblem, str]:
    """Return the problem that a failed handshake, or an alert after it, means; and OpenSSL's reason for it."""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return SmtpProblem.CLOSED, "the server closed the connection"
    reason = error.reason or str(error)
    name = reason.upper().replace(" ", "_").replace("/", "_")
    for prefix in ALERTS:
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    return REASONS.get(name, SmtpProblem.NO_TLS_AGREED), reason


def problem_of_certificate(
    error: ssl.SSLCertVerificationError,
) -> tuple[SmtpProblem, str]:
    """Return why the server's certificate was refused, and OpenSSL's words for it."""
    return VERIFY_CODES.get(error.verify_code, SmtpProblem.BAD_CERTIFICATE), error.verify_message
