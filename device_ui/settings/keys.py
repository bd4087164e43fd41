"""The mail hook's key pair as files: the private half for the hook alone, the public half for everybody.

The hook makes the pair when it starts for the first time; two devices from one image never share one. A key file that
is damaged is set aside and a new pair made: what was sealed to the old one must be typed again, and the page says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from device_ui.errors import Damaged, NoKey
from device_ui.settings import flash, record, seal

PRIVATE_COMMENT = "device-ui: the private key of the mail hook. Whoever has it can read the mail password."
PUBLIC_COMMENT = "device-ui: the public key that mail passwords are sealed to."


@dataclass(frozen=True)
class KeyPair:
    """The private key, 32 bytes, and what follows from it."""

    private: bytes

    def __repr__(self) -> str:
        return f"KeyPair({self.id})"

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return seal.public_key(self.private)

    @property
    def id(self) -> str:
        """The pair's name, 16 hexadecimal digits."""
        return seal.key_id(self.public)


def load_pair(private_path: Path, public_path: Path) -> KeyPair:
    """The hook's pair; makes it when there is none. Raises `NotStored`, `NotReadable`.

    The private key is on flash before the public one is shown: a password is never sealed to a key that a power cut
    can take away.
    """
    pair = _stored_pair(private_path)
    if pair is None:
        pair = KeyPair(seal.new_private_key())
        flash.replace(private_path, record.encode(PRIVATE_COMMENT, {"x25519": pair.private.hex()}), 0o600)
    flash.replace(public_path, record.encode(PUBLIC_COMMENT, {"x25519": pair.public.hex()}), 0o644)
    return pair


def load_public(path: Path) -> bytes:
    """The public key, 32 bytes. Raises `NoKey` when the hook made none yet, `Damaged`, `NotReadable`."""
    public = _key(path)
    if public is None:
        raise NoKey
    return public


def load_private(path: Path) -> KeyPair:
    """The pair of a private key file that must be there. Raises `NoKey`, `Damaged`, `NotReadable`."""
    private = _key(path)
    if private is None:
        raise NoKey
    return KeyPair(private)


def _stored_pair(path: Path) -> KeyPair | None:
    try:
        private = _key(path)
    except Damaged:
        flash.set_aside(path)
        return None
    return KeyPair(private) if private is not None else None


def _key(path: Path) -> bytes | None:
    raw = flash.read(path)
    if raw is None:
        return None
    try:
        key = bytes.fromhex(str(record.decode(raw)["x25519"]))
    except (ValueError, KeyError) as error:
        raise Damaged(path, str(error)) from error
    if len(key) != seal.KEY_BYTES:
        raise Damaged(path, "the key has not 32 bytes")
    return key
