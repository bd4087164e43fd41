"""Which certificate of the mail server a session accepts, by the `trust` of the settings, and which certificates it relies on.

- ``system``: OpenSSL verifies chain, dates and name against the authorities of the device.
- ``ca``: the same against the authority of the settings, and no other.
- ``pin``: the SHA-256 of the server's public key has to be that of the settings. It takes the place of chain, name and dates: a
  handshake proves that the server has the private key (RFC 8446, section 4.4.3), and a trusted key does not stop being it at
  midnight.

Whatever the choice, the check is done before a byte of the session goes through TLS, so AUTH never gets to a different server.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from device_ui.errors import Message, Text
from device_ui.mail.smtp import tls
from device_ui.mail.smtp.outcome import SessionError, SmtpProblem, Step

if TYPE_CHECKING:
    from device_ui.mail.smtp.probe import Certificate
    from device_ui.mail.smtp.tls_socket import TlsSocket
    from device_ui.settings.fields import SmtpSettings


@dataclass(frozen=True)
class InUse:
    """A certificate that a session relies on: its `role`, ``server`` or ``authority``, and its dates, in seconds since 1970."""

    role: str
    begins: float
    ends: float


def context(settings: SmtpSettings, system: ssl.SSLContext) -> ssl.SSLContext:
    """Return the context of a session; `system` is that of the device. Raises `SessionError` for an authority that OpenSSL
    cannot read."""
    if settings.trust == "pin":
        return tls.unverified()
    if settings.trust == "ca":
        try:
            return tls.trusted_alone(settings.trust_ca)
        except ssl.SSLError as error:
            reason = error.reason or str(error)
            raise SessionError(Step.CERTIFICATE, SmtpProblem.BAD_AUTHORITY, reason) from error
    return system


def accept(
    settings: SmtpSettings, host: str, sock: TlsSocket, last_seen: Callable[[SmtpSettings], InUse | None]
) -> tuple[Text, tuple[InUse, ...]]:
    """Check the certificate of a handshake that succeeded. Return what was found, and the certificates in use.

    `last_seen` returns the certificate that the trusted key of the settings was last seen in. Raises `SessionError`.
    """
    if settings.trust == "pin":
        found = _pinned(settings, sock, last_seen)
        valid = Message(
            "the trusted key; its certificate is valid from {begins} to {ends}",
            begins=_day(found.begins),
            ends=_day(found.ends),
        )
        return valid, (InUse("server", found.begins.timestamp(), found.ends.timestamp()),)
    # The server's own certificate is there only when it was verified.
    verified = sock.verified()
    in_use = _in_use("server", [verified])
    if settings.trust == "ca":
        # While an authority is being replaced there are two. The one that issued the certificate counts, or the one that lasts
        # longest where an intermediate one did.
        authorities = sock.context.get_ca_certs()
        issuers = [each for each in authorities if each.get("subject") == verified.get("issuer")]
        in_use += _in_use("authority", issuers or authorities)
        return Message("verified for {host} by the trusted authority", host=host), tuple(in_use)
    return Message("verified for {host}", host=host), tuple(in_use)


def _pinned(settings: SmtpSettings, sock: TlsSocket, last_seen: Callable[[SmtpSettings], InUse | None]) -> Certificate:
    """Return the server's certificate, whose key is the trusted one. Raises `SessionError`."""
    from device_ui.mail.smtp.probe import read

    try:
        found = read(sock.certificate())
    except ValueError as error:
        raise SessionError(Step.CERTIFICATE, SmtpProblem.BAD_CERTIFICATE, "it cannot be read") from error
    if found.key_sha256 != settings.trust_key:
        changed = _changed(settings.trust_key, last_seen(settings), found)
        raise SessionError(Step.CERTIFICATE, SmtpProblem.KEY_CHANGED, changed)
    if found.is_weak:
        raise SessionError(Step.CERTIFICATE, SmtpProblem.WEAK_TLS, "the key is too short")
    return found


def _changed(key: str, before: InUse | None, found: Certificate) -> Message:
    # With the dates of both a person sees which change it is: a renewal that was due, or a key that changed out of turn. No text of
    # the certificate is here: it could pass for a fingerprint.
    in_certificate = before and Message(
        "{key}, last seen in a certificate that is valid from {begins} to {ends}",
        key=key,
        begins=_day(datetime.fromtimestamp(before.begins, UTC)),
        ends=_day(datetime.fromtimestamp(before.ends, UTC)),
    )
    return Message(
        "the trusted key is {trusted}; the server shows the key {shown}, in a certificate that is valid from {begins} to {ends}",
        trusted=in_certificate or key,
        shown=found.key_sha256,
        begins=_day(found.begins),
        ends=_day(found.ends),
    )


def _in_use(role: str, certificates: Sequence[Mapping[str, Any]]) -> list[InUse]:
    """Return that of these certificates which ends last; none where no date can be read, which must not end a verified session."""
    found = []
    for each in certificates:
        with contextlib.suppress(ValueError, OverflowError):
            found.append(InUse(role, _seconds(each, "notBefore"), _seconds(each, "notAfter")))
    return sorted(found, key=lambda each: each.ends)[-1:]


def _seconds(certificate: Mapping[str, Any], name: str) -> float:
    # In the form of ssl.SSLSocket.getpeercert: "Jan  5 09:34:43 2028 GMT". Appliances begin their own in the year 1
    # (pyca/cryptography 4949), which `ssl` does not convert.
    text = str(certificate[name])
    if name == "notBefore" and re.search(r" \d{1,3} GMT$", text):
        return 0.0
    return ssl.cert_time_to_seconds(text)


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
