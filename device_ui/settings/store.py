"""The settings files and their revisions.

A revision is the SHA-256 of a file: of two pages that save at once, the second holds an old one. A counter would be wrong after
a backup was restored. ``""`` is the revision when there is no file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from device_ui.errors import Conflict, Damaged, Message, NotStored
from device_ui.settings import names, notifications
from device_ui.settings.fields import FIELDS, SmtpSettings, validate_stored
from device_ui.settings.notifications import Notifications
from device_ui.settings.recipients import Recipients, from_values, to_values
from device_ui.settings.trust_rules import TRUSTS
from device_ui.storage import files, toml_file
from device_ui.storage.sha256 import sha256

COMMENT = "device-ui: the SMTP tab. Change it on the page: a file whose checksum is off is set aside."
RECIPIENTS_COMMENT = "device-ui: who gets the mail. Change it on the page: a file whose checksum is off is set aside."
NOTIFICATIONS_COMMENT = (
    "device-ui: what is mailed, and when. Change it on the page: a file whose checksum is off is set aside."
)
NAMES_COMMENT = "device-ui: names that reach the pages. Change them there: a file whose checksum is off is set aside."
# The names of the values in the file. The password is in it as `sealed` alone.
NAMES = (*(field.name for field in FIELDS if not field.secret), "sealed")

Content = TypeVar("Content")


@dataclass(frozen=True)
class Stored(Generic[Content]):
    """The content of a settings file: `settings` (None: none yet) and their `revision`.

    While there are no settings, `damaged` is the path of the last damaged file, which the page must report. With
    `quarantine_failed` that file is still in its place, and `revision` is its own.
    """

    settings: Content | None
    revision: str
    damaged: Path | None = None
    quarantine_failed: bool = False


class RecordStore(Generic[Content]):
    """One settings file. `encode` returns its bytes; `decode` returns the content of its values, or the error.

    Only the web process and the console write it.
    """

    def __init__(
        self,
        path: Path,
        encode: Callable[[Content], bytes],
        decode: Callable[[dict[str, toml_file.Value]], Content | Message],
    ) -> None:
        self.path, self._encode, self._from_values = path, encode, decode
        # The bytes that were read last, and their content. The file is read for every page, since the console may have changed it,
        # but decoded only when its bytes differ: a page of the SMTP tab takes 0.3 ms in all.
        self._known: tuple[bytes, Stored[Content]] | None = None

    def read(self) -> tuple[Content | None, str]:
        """Return the present settings and their revision. Raises `Damaged`, `NotReadable`; writes nothing."""
        stored = self._read()
        return stored.settings, stored.revision

    def load(self) -> Stored[Content]:
        """Return the content of the file and quarantine a damaged one; for its owner. Raises `NotReadable`."""
        try:
            stored = self._read()
        except Damaged as damage:
            # The page shows where the damaged file is, and goes on: typing the settings again must be possible.
            with contextlib.suppress(NotStored):  # a read-only or failing flash
                return Stored(None, "", files.quarantine(damage.path))
            return Stored(None, _revision(files.read_damaged(damage.path)), damage.path, quarantine_failed=True)
        if stored.settings is not None:
            return stored
        # Reported on every page until something is saved, also after a restart of this process.
        quarantined = files.quarantined_files(self.path)
        return Stored(None, stored.revision, quarantined[-1] if quarantined else None)

    def look(self) -> Stored[Content]:
        """Return the content of the file; of a damaged one none, and its own revision. Raises `NotReadable`; writes nothing."""
        # For root: `load` would move a file in a folder of the web process's user.
        try:
            return self._read()
        except Damaged as damage:
            return Stored(None, _revision(files.read_damaged(damage.path)), damage.path, quarantine_failed=True)

    def _read(self) -> Stored[Content]:
        raw, known = files.read(self.path), self._known
        if raw is None:
            return Stored(None, _revision(raw))
        if known is None or known[0] != raw:
            known = self._known = raw, Stored(self._decode(raw), _revision(raw))
        return known[1]

    def save(self, settings: Content, revision: str) -> str:
        """Put `settings` on flash if `revision` is still the stored one; return their own revision.

        A damaged file is quarantined first; if that fails, nothing is written. Raises `Conflict` after a change by a
        different writer, `NotStored`, `NotReadable`.
        """
        # The page showed this very damaged file. Without the quarantine it would be overwritten.
        if revision and revision == self._damaged_revision():
            files.quarantine(self.path, lambda raw: _require(raw, revision))
            expected = ""
        else:
            expected = revision
        content = self._encode(settings)
        # `storage.files` calls it right before the replacement: a check before that would leave time for a second writer.
        files.replace(self.path, content, precondition=lambda raw: _require(raw, expected))
        return _revision(content)

    def confirm(self, revision: str) -> None:
        """Make durable what is stored: its writer may have ended before its sync. Writes no byte. Raises as `save` does."""
        content = files.read_damaged(self.path)
        if content is not None:
            _require(content, revision)
            # Its own bytes: `files.replace` only syncs a file whose content is equal.
            files.replace(self.path, content, precondition=lambda raw: _require(raw, revision))

    def _damaged_revision(self) -> str:
        """Return the revision of a damaged file, ``""`` when the file is not damaged."""
        try:
            self._read()
        except Damaged:
            return _revision(files.read_damaged(self.path))
        return ""

    def _decode(self, raw: bytes) -> Content:
        try:
            values = toml_file.decode(raw)
        except ValueError as error:
            raise Damaged(self.path, str(error)) from error
        content = self._from_values(values)
        if isinstance(content, Message):
            raise Damaged(self.path, content)
        return content


class Store(RecordStore[SmtpSettings]):
    """The file of the SMTP tab."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encode, decode)


class RecipientStore(RecordStore[Recipients]):
    """The file of the list of recipients."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path, lambda recipients: toml_file.encode(RECIPIENTS_COMMENT, to_values(recipients)), from_values
        )


class NotificationStore(RecordStore[Notifications]):
    """The file of what is mailed, and when."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path,
            lambda chosen: toml_file.encode(NOTIFICATIONS_COMMENT, notifications.to_values(chosen)),
            notifications.from_values,
        )


class NameStore(RecordStore[names.Names]):
    """The file of the names that an administrator added."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path, lambda listed: toml_file.encode(NAMES_COMMENT, names.to_values(listed)), names.from_values
        )


def decode(values: dict[str, toml_file.Value]) -> SmtpSettings | Message:
    """Return the settings of a file's values, validated by the rules of the tab; or the error."""
    # A name of a later version is damage: what it locks or changes is unknown to this one.
    return validate_stored(values) if set(values) <= set(NAMES) else Message("it holds a name that is no field")


def encode(settings: SmtpSettings) -> bytes:
    """Return the bytes of the file of the SMTP tab: without a line for a secret, OAuth 2.0 or a trust where there is none."""
    values = {name: value for name, value in vars(settings).items() if value is not None}
    # Not even a line for "none": an update of this program must not change the bytes of a file that no one changed.
    unused = ["oauth_"] if settings.sign_in != "oauth" else []
    unused += ["trust"] if settings.trust == TRUSTS[0] else []
    values = {name: value for name, value in values.items() if not name.startswith(tuple(unused))}
    # In the order of the tab, so that equal settings are equal bytes.
    return toml_file.encode(COMMENT, {name: values[name] for name in NAMES if name in values})


def _require(raw: bytes | None, revision: str) -> None:
    """Raise `Conflict` unless these bytes have this revision."""
    present = _revision(raw)
    if present != revision:
        raise Conflict(present)


def _revision(raw: bytes | None) -> str:
    return sha256(raw).hexdigest() if raw is not None else ""
