"""The rules of the fields that say which certificate of the mail server is accepted, as those of `rules`.

`trust` decides which of the other two is needed (`NEEDED_WITH`); a field that is not needed is empty, whatever was typed. A key is
known by the SHA-256 of its SubjectPublicKeyInfo (RFC 7469, section 2.4), which outlives the renewal of a certificate.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from device_ui.errors import Message
from device_ui.settings import rules
from device_ui.settings.rules import Invalid
from device_ui.storage.sha256 import sha256

# The choices, and what the page shows for each.
TRUST_WORDS = {
    "system": "Certificate authorities of this device",
    "pin": "This very key",
    "ca": "An authority of our own",
}
TRUSTS = tuple(TRUST_WORDS)
# Field → the choice of `trust` that needs it.
NEEDED_WITH = {"trust_key": "pin", "trust_ca": "ca"}

KEY_SENTENCE = "Please enter the SHA-256 of the server's key: 64 hexadecimal digits."
CA_SENTENCE = "Please enter the certificate of the authority as PEM, within 16 KiB."
PRIVATE_KEY_HINT = "This text has a private key, which the mail server's administrator alone should have. Paste the certificate only, and let the administrator replace the key."
NO_PEM_HINT = "It begins with -----BEGIN CERTIFICATE----- and ends with -----END CERTIFICATE-----."
NO_CERTIFICATE_HINT = "Certificate {number} of this text is not whole: copy it again."

KEY_PATTERN = re.compile(r"[0-9A-Fa-f]{2}(?::?[0-9A-Fa-f]{2}){31}")
# With the 31 colons.
KEY_MAXIMUM = 95
# Characters: an authority's certificate has 1 to 2 KiB, and no chain of authorities more than a few.
CA_MAXIMUM = 16 * 1024
# RFC 7468, section 5.1. Text around the blocks, such as openssl's, is no part of a certificate.
PEM_PATTERN = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----", re.ASCII)
PEM_COLUMNS = 64
# DER: the tags of a SEQUENCE and a BIT STRING (X.690, section 8.1.2), and the parts of a certificate (RFC 5280, section 4.1).
SEQUENCE, BIT_STRING = 0x30, 0x03
PARTS = [SEQUENCE, SEQUENCE, BIT_STRING]

Values = Mapping[str, Any]


class Element(NamedTuple):
    """A DER element: its `tag`, its `content`, and its `whole` encoding."""

    tag: int
    content: bytes
    whole: bytes


def is_needed(name: str, values: Values) -> bool:
    """Return whether the choice of `trust` in `values` needs this field."""
    return name not in NEEDED_WITH or values.get("trust") == NEEDED_WITH[name]


def value(name: str, text: str, values: Values) -> str | Invalid:
    """Return the value of a field of `NEEDED_WITH`; `values` has that of ``trust``."""
    if not is_needed(name, values):
        return ""
    return key(text) if name == "trust_key" else authority(text)


def key(text: str) -> str | Invalid:
    """Return the SHA-256 of a key as 64 lower-case digits without colons."""
    stripped = rules.stripped(text)
    if not KEY_PATTERN.fullmatch(stripped):
        return Invalid(KEY_SENTENCE, rules.unseen(stripped))
    return stripped.replace(":", "").lower()


def authority(text: str) -> str | Invalid:
    """Return the certificates of a PEM text, each in lines of 64 columns, and nothing else of it."""
    # Twice: a browser sends each line end as two characters, and the text around the certificates is dropped.
    if len(text) > 2 * CA_MAXIMUM:
        return Invalid(CA_SENTENCE)
    # The whole file of a server often has its key as well. Dropped without a word, it would stay in the clipboard and in a chat.
    if "PRIVATE KEY-----" in text:
        return Invalid(CA_SENTENCE, (PRIVATE_KEY_HINT,))
    found = [_der(each) for each in PEM_PATTERN.findall(text)]
    if not found:
        return Invalid(CA_SENTENCE, (NO_PEM_HINT,))
    if None in found:
        return Invalid(CA_SENTENCE, (Message(NO_CERTIFICATE_HINT, number=found.index(None) + 1),))
    made = "\n".join(to_pem(each) for each in found if each)
    return made if len(made) <= CA_MAXIMUM else Invalid(CA_SENTENCE)


def to_pem(der: bytes) -> str:
    """Return a certificate as PEM (RFC 7468), without a line end at its end."""
    text = base64.b64encode(der).decode()
    lines = [text[start : start + PEM_COLUMNS] for start in range(0, len(text), PEM_COLUMNS)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----"])


def bound_to(values: Values) -> tuple[str, ...]:
    """Return what a secret is bound to besides the server: nothing with `system`, so that a secret of before still opens."""
    if values["trust"] == "system":
        return ()
    # A fingerprint of the authorities: the list is part of records on flash.
    chosen = values["trust_key"] or sha256(str(values["trust_ca"]).encode()).hexdigest()
    return (str(values["trust"]), chosen)


def _der(text: str) -> bytes | None:
    """Return the DER encoding of one PEM block, None if it is no certificate."""
    try:
        der = base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error:
        return None
    return der if _is_certificate(der) else None


def _is_certificate(der: bytes) -> bool:
    # The outermost structure of RFC 5280, section 4.1: what was cut, or is of a different kind, does not have it. Not the whole of it:
    # the library that reads a certificate takes 7 MiB, and OpenSSL reads it before each session anyway.
    outer = elements(der)
    return [each.tag for each in outer] == [SEQUENCE] and [each.tag for each in elements(outer[0].content)] == PARTS


def elements(der: bytes) -> list[Element]:
    """Return the DER elements of these bytes; none of bytes that are not whole elements (X.690, section 8.1.3)."""
    found: list[Element] = []
    while der:
        if len(der) < 2:
            return []
        size, start = der[1], 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(der[2:start])
        end = start + size
        if end > len(der):
            return []
        found.append(Element(der[0], der[start:end], der[:end]))
        der = der[end:]
    return found
