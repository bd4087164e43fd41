"""Seal a password so that only the mail hook can open it, and only for the server it was typed for.

HPKE (RFC 9180), base mode: X25519, HKDF-SHA256, ChaCha20-Poly1305. `info` has the purpose and the values that the password is
bound to, so sealed bytes that were moved to a different server do not open. The sealed text has the id of the key, so that keys
can be rotated. `cryptography`, 7 MiB, is imported only to seal or open. `mail.daemon` says who opens, and what enforces it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from device_ui.errors import CannotOpen, NoKey
from device_ui.storage.sha256 import sha256

if TYPE_CHECKING:
    from cryptography.hazmat.primitives import hpke
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

PURPOSE = "device-ui smtp password 1"
# Version, key's id, HPKE's enc || ciphertext in base64url without padding: room for two tokens of 8 KiB each.
SEALED_PATTERN = re.compile(r"hpke1\.([0-9a-f]{16})\.([A-Za-z0-9_-]{64,32768})")
# ChaCha20-Poly1305 does not hide the length, and a password has 10 to 20 characters by the manual.
# The text is padded to blocks of so many bytes, so the sealed text does not reveal its length.
PADDING = 128
KEY_BYTES = 32


def new_private_key() -> bytes:
    """Return a new X25519 private key: 32 bytes of the system's generator (RFC 7748, 6.1), which blocks until it has entropy."""
    return os.urandom(KEY_BYTES)


def public_key(private: bytes) -> bytes:
    """Return the public key of a private one: 32 bytes."""
    return _private_key(private).public_key().public_bytes_raw()


def key_id(public: bytes) -> str:
    """Return the id of a key pair: 16 hexadecimal digits of the SHA-256 of its public key."""
    return sha256(public).hexdigest()[:16]


def sealed_for(sealed: str) -> str | None:
    """Return the id of the key that a text was sealed to, None when it is no sealed text."""
    match = SEALED_PATTERN.fullmatch(sealed)
    return match and match[1]


def seal(text: str, public: bytes, bound_to: Sequence[str], purpose: str = PURPOSE) -> str:
    """Return a text sealed with the hook's public key for a `purpose` and `bound_to` (of settings: host, port, account, …)."""
    ciphertext = _suite().encrypt(_padded(text), _public_key(public), info=_info(purpose, bound_to))
    return f"hpke1.{key_id(public)}.{_encoded(ciphertext)}"


def unseal(sealed: str, private: bytes, bound_to: Sequence[str], purpose: str = PURPOSE) -> str:
    """Return the text. Raises `NoKey` when it was sealed to a different key, `CannotOpen` when it does not open."""
    import base64

    from cryptography.exceptions import InvalidTag

    match = SEALED_PATTERN.fullmatch(sealed)
    if not match:
        raise CannotOpen("it is no sealed password")
    # An error of its own: the page asks for the password again, and names the reason.
    if match[1] != key_id(public_key(private)):
        raise NoKey(match[1])
    try:
        ciphertext = base64.urlsafe_b64decode(match[2] + "=" * (-len(match[2]) % 4))
        # One spelling only: equal settings are equal bytes, and a flipped bit is noticed.
        if _encoded(ciphertext) != match[2]:  # the last character has unused bits (RFC 4648, 3.5)
            raise ValueError
        return _unpadded(_suite().decrypt(ciphertext, _private_key(private), info=_info(purpose, bound_to)))
    except (InvalidTag, ValueError) as error:
        # The library does not distinguish a changed byte from a different server.
        raise CannotOpen("it was typed for another server, or its bytes have changed") from error


# The public functions load the modules of every algorithm, 1 MiB, and then call these two.


def _public_key(raw: bytes) -> X25519PublicKey:
    try:
        # A private module, so its absence is handled; a test opens with one way what the other sealed.
        from cryptography.hazmat.bindings._rust import openssl

        return openssl.x25519.from_public_bytes(raw)
    except (ImportError, AttributeError):
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

        return X25519PublicKey.from_public_bytes(raw)


def _private_key(raw: bytes) -> X25519PrivateKey:
    try:
        from cryptography.hazmat.bindings._rust import openssl

        return openssl.x25519.from_private_bytes(raw)
    except (ImportError, AttributeError):
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        return X25519PrivateKey.from_private_bytes(raw)


def _suite() -> hpke.Suite:
    from cryptography.hazmat.primitives import hpke

    return hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


def _encoded(ciphertext: bytes) -> str:
    import base64

    return base64.urlsafe_b64encode(ciphertext).rstrip(b"=").decode()


def _info(purpose: str, bound_to: Sequence[str]) -> bytes:
    # JSON keeps the parts apart: ("a", "b:1") and ("a:b", "1") must differ.
    return json.dumps([purpose, *bound_to]).encode()


def _padded(text: str) -> bytes:
    encoded = text.encode()
    body = len(encoded).to_bytes(2, "big") + encoded
    return body + bytes(-len(body) % PADDING)


def _unpadded(plain: bytes) -> str:
    # Anyone can seal: a wrong length only yields a different text, which the rule of passwords checks (`keys.open_password`).
    length = int.from_bytes(plain[:2], "big")
    return plain[2 : 2 + length].decode()
