"""The administrator's record: first a setup code, then the hash of a password, in one file.

One file, so that storing the password and using up the code are one atomic write. There is no default password: the code
is random, made at the first start and printed on the console. A damaged file never allows a second set-up: only the
console repairs it (``device-ui admin set-password``).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import secrets
import threading
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType

from device_ui.errors import Conflict, Damaged
from device_ui.settings.rules import LOWER, SEQUENCES, has_control
from device_ui.storage import files, toml_file

COMMENT = "device-ui: who may open the pages. Lost password: device-ui admin set-password"
# 20 characters of these 30 (no 0 and O, no 1, I and L, no U): 98 bits, for a label or a console.
CODE_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
# In groups, as product keys are, so that a person who copies the code keeps the place.
CODE_GROUPS, CODE_GROUP = 5, 4
CODE_PATTERN = re.compile(
    rf"[{CODE_ALPHABET}]{{{CODE_GROUP}}}(?:-[{CODE_ALPHABET}]{{{CODE_GROUP}}}){{{CODE_GROUPS - 1}}}"
)
# NIST SP 800-63B-4, 3.1.1.2: 15 characters where a password is the only factor. Long ones need no list of common
# passwords on flash: counting characters and looking for keyboard rows finds those of 15 characters.
PASSWORD_LENGTHS = range(15, 129)
# Different characters: "aaaaaaaaaaaaaaa" and "abababababababa" are guessed at once.
DISTINCT_MINIMUM = 6
# Words that are guessed first, besides the device's names: `DISTINCT_MINIMUM` characters must remain without them.
USUAL_WORDS = (
    "administrator",
    "appliance",
    "password",
    "passwort",
    "device",
    "storage",
    "login",
    "setup",
    "admin",
    "email",
    "smtp",
)
# Shorter parts of the device's names are left in: "nas" is in many good passwords.
WORD_MINIMUM = 4
TOO_SHORT = "Please choose a password of 15 to 128 characters."
TOO_PLAIN = "This password is too easy to guess: use more different characters, and no plain row of the keyboard."
TOO_NEAR = "This password is little more than usual words and the device's names: add what nobody can guess."
NOT_TYPED = "A password cannot hold control characters."
# OWASP's password storage guidance: N=2^13, r=8, p=10 is as strong as 2^17, 8, 1 and takes 8 MiB instead of 128.
SCRYPT = {"n": 2**13, "r": 8, "p": 10}
# The limit that OpenSSL checks before it allocates (maxmem): 128 * n * r bytes and some more, with room for a later cost.
SCRYPT_MEMORY = 32 * 1024 * 1024
# NIST SP 800-132, 5.1: a salt has 16 bytes at least.
SALT_BYTES, HASH_BYTES = 16, 32

# One hash at a time: eight logins at once must not take eight times 8 MiB.
_hashing = threading.Lock()


@dataclass(frozen=True)
class Record:
    """A setup `code` that is not used yet, or `salt` and `hash` (hexadecimal) and the cost of scrypt."""

    code: str = ""
    salt: str = ""
    hash: str = ""
    n: int = SCRYPT["n"]
    r: int = SCRYPT["r"]
    p: int = SCRYPT["p"]

    @property
    def is_set_up(self) -> bool:
        """Whether a password has been set."""
        return self.code == ""


class Administrator:
    """The record of one device, at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Record | None:
        """Return the record; None on a device that never started. Raises `Damaged`, `NotReadable`."""
        raw = files.read(self.path)
        return None if raw is None else self._decode(raw)

    def begin(self, *, is_new: bool) -> Record | None:
        """Return the record, after making a setup code on a new device; called at every start.

        `is_new` is false when the device has settings: a missing record is then damage, not a first start. Raises
        `Damaged`, `NotStored`, `NotReadable`.
        """
        found = self.load()
        if found or not is_new:
            return found
        # 700: the code is worth as much as the password until it is used.
        files.make_folder(self.path.parent, 0o700)
        with contextlib.suppress(Conflict):  # another process was first; its code is printed already
            self._store(Record(code=new_code()), instead_of=None)
        return self.load()

    def set_up(self, code: str, password: str) -> Record | None:
        """Store the password if the setup code is right; return the new record, None when the code is wrong or used up."""
        found = self.load()
        # In constant time (compare_digest): the time of an answer must not show how many characters were right.
        if found is None or found.is_set_up or not hmac.compare_digest(plain_code(code), plain_code(found.code)):
            return None
        chosen = _hashed(password)
        try:
            self._store(chosen, instead_of=found)
        except Conflict:  # the code was used up during the hash
            return None
        return chosen

    def set_password(self, password: str) -> None:
        """Replace the record, damaged or not, with this password's hash. Raises `NotStored`."""
        files.make_folder(self.path.parent, 0o700)
        self._store(_hashed(password))

    def settle(self) -> None:
        """Rewrite the file if its last write may not be durable. Raises `NotStored`, `NotReadable`."""
        files.settle(self.path, 0o600)

    def verify(self, password: str) -> Record | None:
        """Return the record if this is its password, else None; a missing record takes the same time.

        The stored record may have changed during the check (`Guard.sign_in` compares). Raises `Damaged`, `NotReadable`.
        """
        found = self.load()
        known = found if found and found.is_set_up else Record(salt="00" * SALT_BYTES, hash="00" * HASH_BYTES)
        same = hmac.compare_digest(_scrypt(password, known), bytes.fromhex(known.hash))
        return found if same and found is not None and found.is_set_up else None

    def _store(self, fresh: Record, instead_of: Record | EllipsisType | None = ...) -> None:
        """Store `fresh`. Raises `Conflict` when the stored record is not `instead_of`."""

        def require_same(raw: bytes | None) -> None:
            # Decoded, not as bytes: a damaged record raises `Damaged` here and is not replaced.
            if (None if raw is None else self._decode(raw)) != instead_of:
                raise Conflict("")

        values = {"code": fresh.code} if fresh.code else {name: getattr(fresh, name) for name in HASH_NAMES}
        files.replace(
            self.path,
            toml_file.encode(COMMENT, values),
            0o600,
            precondition=None if instead_of is ... else require_same,
        )

    def _decode(self, raw: bytes) -> Record:
        try:
            values = toml_file.decode(raw)
            if set(values) not in ({"code"}, set(HASH_NAMES)):
                raise ValueError("it holds neither a code nor a hash")
            found = Record(**values)  # type: ignore[arg-type]  # the names were just checked
            # Only a code of this alphabet: root's console prints it, and a control character would reach the terminal.
            if "code" in values and not CODE_PATTERN.fullmatch(found.code):
                raise ValueError("its setup code is not one that this program makes")
            if not found.code and len(bytes.fromhex(found.hash)) != HASH_BYTES:
                raise ValueError("its hash is too short")
        except (ValueError, TypeError) as error:
            raise Damaged(self.path, str(error)) from error
        return found


HASH_NAMES = ("salt", "hash", "n", "r", "p")


def new_code() -> str:
    """Return a random setup code: five groups of four characters, none of which looks like another."""
    groups = ("".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_GROUP)) for _ in range(CODE_GROUPS))
    return "-".join(groups)


def plain_code(code: str) -> bytes:
    """Return a code as it is compared: without case, blanks, hyphens and dashes, and what was pasted along unseen."""
    return "".join(filter(str.isalnum, code)).upper().encode("utf-8", "replace")


def password_problem(password: str, names: Iterable[str] = ()) -> str | None:
    """Return why this cannot be the administrator's password, in one sentence; None when it can.

    `names` are those of the device: their words count no more than `USUAL_WORDS`.
    """
    password = _composed(password)
    if len(password) not in PASSWORD_LENGTHS:
        return TOO_SHORT
    if has_control(password):
        return NOT_TYPED
    lowered = password.translate(LOWER)
    if len(set(lowered)) < DISTINCT_MINIMUM or any(_is_run(lowered, row) for row in SEQUENCES):
        return TOO_PLAIN
    return None if len(set(_without_usual_words(lowered, names))) >= DISTINCT_MINIMUM else TOO_NEAR


def _without_usual_words(text: str, names: Iterable[str]) -> str:
    """Return the text without the words that are guessed first, the longest first."""
    # A name of several words is removed as a whole and by each of its words.
    own = {
        word
        for name in names
        for word in (name.lower(), *re.findall(r"\w+", name.lower()))
        if len(word) >= WORD_MINIMUM
    }
    for word in sorted({*USUAL_WORDS, *own}, key=len, reverse=True):
        text = text.replace(word, "")
    return text


def _is_run(text: str, row: str) -> bool:
    """Return whether a text is one row repeated, forwards or backwards, from any place."""
    return any(text in each * (len(text) // len(each) + 2) for each in (row, row[::-1]))


def _composed(password: str) -> str:
    # Some keyboards send a Korean syllable as one character, others as three: NFC makes them equal.
    return unicodedata.normalize("NFC", password)


def _hashed(password: str) -> Record:
    # The cost of this version; the record keeps the cost that it was made with, so that a later one can raise it.
    fresh = Record(salt=secrets.token_bytes(SALT_BYTES).hex())
    return Record(salt=fresh.salt, hash=_scrypt(password, fresh).hex())


def _scrypt(password: str, known: Record) -> bytes:
    encoded = _composed(password).encode("utf-8", "replace")
    with _hashing:
        return hashlib.scrypt(
            encoded,
            salt=bytes.fromhex(known.salt),
            n=known.n,
            r=known.r,
            p=known.p,
            maxmem=SCRYPT_MEMORY,
            dklen=HASH_BYTES,
        )
