"""The files of the mail hook's key pair: only the hook can open the private key; every user can read the public one.

The hook makes the pair at its first start, so two devices from one image never share one. A damaged key file is quarantined and a
new pair made; the page then asks for the password again.

The private file has both halves of a pair: to derive the public one needs `cryptography`, 7 MiB that a hook without mail does not
load. During a rotation the private file also has the previous pair, and the public file has its id: a password that was
sealed to either can be opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from device_ui.errors import CannotOpen, Damaged, NoKey
from device_ui.settings import seal
from device_ui.settings.fields import BY_NAME, SmtpSettings
from device_ui.storage import files, toml_file

PRIVATE_COMMENT = "device-ui: the private key of the mail hook. Whoever has it can read the mail password."
PUBLIC_COMMENT = "device-ui: the public key that mail passwords are sealed to."
CURRENT, BEFORE = "x25519", "x25519_before"
# The public halves in the private file; files of older versions have none.
PUBLIC = {CURRENT: "public", BEFORE: "public_before"}


@dataclass(frozen=True)
class KeyPair:
    """The private key, 32 bytes. `known` is its public half, if the file has it."""

    private: bytes
    known: bytes = field(default=b"", compare=False)

    def __repr__(self) -> str:
        # Not the generated one, which would print the private key into a traceback or a log line.
        return f"KeyPair({self.id})"

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self.known or seal.public_key(self.private)

    @property
    def id(self) -> str:
        """The id of the pair, 16 hexadecimal digits."""
        return seal.key_id(self.public)


def load_pair(private_path: Path, public_path: Path, *, is_credential: bool = False) -> KeyPair:
    """Return the hook's pair; make it when there is none. Raises `NotStored`, `NotReadable`.

    A credential belongs to systemd and is never written. A damaged one raises `Damaged`: with a new key, the passwords sealed
    to it would be lost.

    The private key is on flash before the public one is published, so no password is sealed to a key that a power cut can
    remove.
    """
    if is_credential:
        pairs = load_pairs(private_path)
        # The public file is the hook's own, and a new device has none yet.
        _store_public(public_path, pairs)
        return pairs[0]
    pairs = _stored_pairs(private_path)
    if not pairs:
        pairs = [KeyPair(seal.new_private_key())]
    # A pair that exists is stored again, which writes nothing: a hook that ended may have left it in the cache only.
    _store_private(private_path, pairs)
    _store_public(public_path, pairs)
    return pairs[0]


def load_public(path: Path) -> bytes:
    """Return the public key, 32 bytes. Raises `NoKey` before the hook has made it, `Damaged`, `NotReadable`."""
    values = _values(path)
    if values is None:
        raise NoKey
    # The previous key of a rotation is never sealed to.
    return _key(path, values[CURRENT])


def public_ids(path: Path) -> frozenset[str]:
    """Return the ids of the keys that open a sealed password. Raises as `load_public` does."""
    raw = files.read(path)
    if raw is None:
        raise NoKey
    return _ids(path, raw)


@lru_cache(maxsize=1)  # of the public file: no private key is cached
def _ids(path: Path, raw: bytes) -> frozenset[str]:
    values = _decoded(path, raw)
    return frozenset({seal.key_id(_key(path, values[CURRENT])), *([values[BEFORE]] if BEFORE in values else [])})


def load_private(path: Path) -> KeyPair:
    """Return the pair of a private key file. Raises `NoKey` when there is none, `Damaged`, `NotReadable`."""
    return load_pairs(path)[0]


def load_pairs(path: Path) -> list[KeyPair]:
    """Return the pair and, during a rotation, the previous one. Raises `NoKey`, `Damaged`, `NotReadable`."""
    values = _values(path)
    if values is None:
        raise NoKey
    return [
        KeyPair(_key(path, values[name]), _key(path, values[PUBLIC[name]]) if PUBLIC[name] in values else b"")
        for name in (CURRENT, BEFORE)
        if name in values
    ]


def load_opening(path: Path, sealed: str) -> KeyPair:
    """Return the pair that a text was sealed to, else the present pair. Raises as `load_private` does."""
    pairs = load_pairs(path)
    # With the present pair, unsealing fails by the key and raises the error that names it.
    return next((pair for pair in pairs if pair.id == seal.sealed_for(sealed)), pairs[0])


def load_password(path: Path, settings: SmtpSettings) -> str:
    """Return the password of these settings, ``""`` when they have none, with the private key file `path`.

    Raises as `load_private` and `open_password` do.
    """
    return open_password(settings, load_opening(path, settings.sealed)) if settings.sealed else ""


def open_password(settings: SmtpSettings, pair: KeyPair) -> str:
    """Unseal the password of settings that have one, and check it by its field's rule. Raises `NoKey`, `CannotOpen`.

    Any user has the public key and can seal any text, also one of several lines. A password that satisfies the manual's rule is
    kept for every sign-in (`fields.parse`), although a provider's rule allows fewer characters.
    """
    # The `env` and `msmtprc` formats write the password into a line: a line end in it would be a second line of msmtp's
    # configuration, which can run commands as root.
    password = seal.unseal(settings.sealed or "", pair.private, settings.bound_to)
    field = BY_NAME["password"]
    if field.by_sign_in[settings.sign_in](password) != password and not field.formerly(password):
        raise CannotOpen("it breaks the rules of a password")
    return password


def open_record(path: Path, sealed: str, bound_to: Sequence[str], purpose: str) -> str:
    """Unseal what the hook sealed for itself (`sealed_record`), with the private key file `path`.

    The text is untrusted: any user has the public key. Raises as `load_private` does, and `CannotOpen`.
    """
    return seal.unseal(sealed, load_opening(path, sealed).private, bound_to, purpose)


# The order of the two files in `begin_rotation` and `end_rotation` holds one rule: every id in the public file, which the page
# may seal to or show as usable, is in the private file already, and still is.


def begin_rotation(private_path: Path, public_path: Path) -> None:
    """Make a new pair and keep the present one as the previous. Raises `NoKey`, `Damaged`, `NotStored`, `NotReadable`.

    A rotation that has begun is continued, so that there are never three pairs.
    """
    pairs = load_pairs(private_path)
    if len(pairs) == 1:
        # Private first: the page seals to the public key as soon as it is there.
        pairs = [KeyPair(seal.new_private_key()), pairs[0]]
        _store_private(private_path, pairs)
    _store_public(public_path, pairs)


def end_rotation(private_path: Path, public_path: Path) -> None:
    """Remove the previous pair, to which no password may be sealed any more. Raises as `begin_rotation` does."""
    pairs = load_pairs(private_path)[:1]
    # The private file is last: while the public file has the id, the key is there.
    _store_public(public_path, pairs)
    _store_private(private_path, pairs)


def _store_private(path: Path, pairs: list[KeyPair]) -> None:
    values: dict[str, str] = {}
    for name, pair in zip((CURRENT, BEFORE), pairs, strict=False):
        values |= {name: pair.private.hex(), PUBLIC[name]: pair.public.hex()}
    files.replace(path, toml_file.encode(PRIVATE_COMMENT, values), 0o600)


def _store_public(path: Path, pairs: list[KeyPair]) -> None:
    # The id of the previous pair: the page accepts a password that is sealed to it, and seals none.
    values = {CURRENT: pairs[0].public.hex(), **({BEFORE: pairs[1].id} if len(pairs) > 1 else {})}
    files.replace(path, toml_file.encode(PUBLIC_COMMENT, values), 0o644)


def _stored_pairs(path: Path) -> list[KeyPair]:
    try:
        return load_pairs(path)
    except NoKey:
        return []
    except Damaged:
        # Kept, since a person may be able to repair it. Without a new key nothing could be sealed or mailed any more.
        files.quarantine(path)
        return []


def _values(path: Path) -> dict[str, str] | None:
    raw = files.read(path)
    return None if raw is None else _decoded(path, raw)


def _decoded(path: Path, raw: bytes) -> dict[str, str]:
    try:
        values = {name: str(value) for name, value in toml_file.decode(raw).items()}
        # A name that is not ours is damage: a later version could mean anything by it.
        if not {CURRENT} <= set(values) <= {CURRENT, BEFORE, *PUBLIC.values()}:
            raise ValueError("it holds no key of ours")
    except ValueError as error:
        raise Damaged(path, str(error)) from error
    return values


def _key(path: Path, text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError as error:
        raise Damaged(path, str(error)) from error
    if len(key) != seal.KEY_BYTES:
        raise Damaged(path, "the key has not 32 bytes")
    return key
