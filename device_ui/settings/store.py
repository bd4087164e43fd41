"""The settings and their file, revision by revision.

A revision is the SHA-256 of the file: two people who save at once hold different ones, and a file that was put back
from a backup is a revision of its own without anybody counting. ``""`` is the revision of no settings.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from device_ui.errors import Conflict, Damaged, NotStored
from device_ui.settings.fields import FIELDS, SmtpSettings, recheck
from device_ui.settings.recipients import Recipients, from_values, to_values
from device_ui.storage import files, toml_file
from device_ui.storage.sha256 import sha256

COMMENT = "device-ui: the SMTP tab. Change it on the page: a file whose checksum is off is set aside."
RECIPIENTS_COMMENT = "device-ui: who gets the mail. Change it on the page: a file whose checksum is off is set aside."
NAMES = (*(field.name for field in FIELDS if not field.secret), "sealed")


Content = TypeVar("Content")


@dataclass(frozen=True)
class Stored(Generic[Content]):
    """What stands on flash: `settings` (None: none yet), their `revision`, and the last file that was set aside.

    `damaged` is that file's path while no settings stand; it is what the page must tell. `stays`: it could not be set aside,
    and `revision` is its own.
    """

    settings: Content | None
    revision: str
    damaged: Path | None = None
    stays: bool = False


class RecordStore(Generic[Content]):
    """One file of settings. `encode` makes its bytes; `decode` makes the content of its values, or says what is wrong.

    Only the web process and the console write it.
    """

    def __init__(
        self,
        path: Path,
        encode: Callable[[Content], bytes],
        decode: Callable[[dict[str, toml_file.Value]], Content | str],
    ) -> None:
        self.path, self._encode, self._from_values = path, encode, decode
        # The bytes that were read last, and what they say.
        self._known: tuple[bytes, Stored[Content]] | None = None

    def read(self) -> tuple[Content | None, str]:
        """Settings and revision as they stand. Raises `Damaged`, `NotReadable`; changes nothing on flash."""
        found = self._standing()
        return found.settings, found.revision

    def load(self) -> Stored[Content]:
        """The same for the owner of the file: a damaged one is set aside, kept and told. Raises `NotReadable`."""
        try:
            found = self._standing()
        except Damaged as damage:
            with contextlib.suppress(NotStored):  # a read-only or failing flash
                return Stored(None, "", files.set_aside(damage.path))
            return Stored(None, _revision(files.read_damaged(damage.path)), damage.path, stays=True)
        if found.settings is not None:
            return found
        kept = files.set_aside_files(self.path)
        return Stored(None, found.revision, kept[-1] if kept else None)

    def _standing(self) -> Stored[Content]:
        raw, known = files.read(self.path), self._known
        if raw is None:
            return Stored(None, _revision(raw))
        if known is None or known[0] != raw:
            known = self._known = raw, Stored(self._decode(raw), _revision(raw))
        return known[1]

    def save(self, settings: Content, revision: str) -> str:
        """Put `settings` on flash if `revision` is still the stored one; return their own revision.

        What is damaged is set aside first, and nothing is written where it cannot be. Raises `Conflict` when somebody else
        saved since, `NotStored`, `NotReadable`.
        """

        def still_stands(raw: bytes | None) -> None:
            standing = _revision(raw)
            if standing != revision:
                raise Conflict(standing)

        if revision and revision == self._damaged_revision():
            files.set_aside(self.path, still_stands)
            revision = ""
        raw = self._encode(settings)
        files.replace(self.path, raw, agree=still_stands)
        return _revision(raw)

    def _damaged_revision(self) -> str:
        """The revision of a damaged file, ``""`` when none stands."""
        try:
            self._standing()
        except Damaged:
            return _revision(files.read_damaged(self.path))
        return ""

    def _decode(self, raw: bytes) -> Content:
        try:
            values = toml_file.decode(raw)
        except ValueError as error:
            raise Damaged(self.path, str(error)) from error
        content = self._from_values(values)
        if isinstance(content, str):
            raise Damaged(self.path, content)
        return content


class Store(RecordStore[SmtpSettings]):
    """The SMTP tab's file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encode, decode)


class RecipientStore(RecordStore[Recipients]):
    """The file of the list of recipients, beside it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, lambda listed: toml_file.encode(RECIPIENTS_COMMENT, to_values(listed)), from_values)


def decode(values: dict[str, toml_file.Value]) -> SmtpSettings | str:
    """The settings of a file's values, by the same rules again; or one line that says what is wrong."""
    return recheck(values) if set(values) <= set(NAMES) else "it holds a name that is no field"


def encode(settings: SmtpSettings) -> bytes:
    """The settings file's bytes; a relay without login has no `sealed` line."""
    values = {name: value for name, value in dataclasses.asdict(settings).items() if value is not None}
    return toml_file.encode(COMMENT, {name: values[name] for name in NAMES if name in values})


def _revision(raw: bytes | None) -> str:
    return sha256(raw).hexdigest() if raw is not None else ""
