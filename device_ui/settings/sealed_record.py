"""A file of the mail hook whose secrets are sealed to its own key, so that they are worth no more at rest than the password.

A record is a mapping of texts: those whose name begins with ``sealed`` are secret, and sealed in the file for the purpose of the
file and for ``bound``, a list of values. A change of the key seals them anew (`reseal`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from device_ui.errors import Conflict, Damaged
from device_ui.settings import keys, seal
from device_ui.storage import files, toml_file

SEALED, BOUND = "sealed", "bound"
# Tries of a write, since the key, or the record with it, may change in between.
TRIES_MAXIMUM = 5


class SealedRecord:
    """The record of one file. `private` and `public` are the files of the hook's key pair."""

    def __init__(self, path: Path, purpose: str, comment: str, private: Path, public: Path) -> None:
        self.path, self._purpose, self._comment = path, purpose, comment
        self._private, self._public = private, public

    def read(self) -> dict[str, str]:
        """Return the texts of the file with the secrets still sealed; none when there is no file. Raises `Damaged`,
        `NotReadable`."""
        return self._decoded(files.read(self.path))

    def open(self, record: Mapping[str, str], name: str = SEALED) -> str:
        """Return the secret of a record that `read` returned, ``""`` where it has none.

        Raises `NoKey`, `CannotOpen`, `Damaged`, `NotReadable`.
        """
        sealed = record.get(name, "")
        return keys.open_record(self._private, sealed, bound_to(record), self._purpose) if sealed else ""

    def write(self, record: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        """Put a record on flash, with these secrets sealed. Sealed texts of `record` are kept as they are in the file.

        The caller is the only writer besides `reseal`. Raises `NotStored`, `NotReadable`, `NoKey`, `Damaged`, or `Conflict` while
        keys are changed again and again; the former record is then still in place.
        """
        kept = [name for name in record if name.startswith(SEALED) and name not in secrets]

        def content(raw: bytes | None, public: bytes) -> bytes:
            before = self._decoded(raw) if kept else {}
            made = {name: seal.seal(text, public, bound_to(record), self._purpose) for name, text in secrets.items()}
            return toml_file.encode(self._comment, {**record, **{name: before[name] for name in kept}, **made})

        self._replace(content)

    def reseal(self, previous: str) -> None:
        """Seal what is sealed to the key with the id `previous` to the present one. Raises as `open` and `write` do."""

        def content(raw: bytes | None, public: bytes) -> bytes:
            record = self._decoded(raw)
            old = [name for name in record if name.startswith(SEALED) and seal.sealed_for(record[name]) == previous]
            made = {name: seal.seal(self.open(record, name), public, bound_to(record), self._purpose) for name in old}
            return toml_file.encode(self._comment, {**record, **made}) if made else raw or b""

        if files.read(self.path) is not None:
            self._replace(content)

    def is_sealed_to(self, key_id: str) -> bool:
        """Return whether any secret is sealed to the key with this id. Raises as `read` does."""
        return any(seal.sealed_for(text) == key_id for name, text in self.read().items() if name.startswith(SEALED))

    def _replace(self, content: Callable[[bytes | None, bytes], bytes]) -> None:
        """Replace the file by `content` of its bytes and the public key; once more when either changes meanwhile."""
        for left in reversed(range(TRIES_MAXIMUM)):
            raw, public = files.read(self.path), keys.load_public(self._public)

            def is_unchanged(present: bytes | None, raw: bytes | None = raw, public: bytes = public) -> None:
                if present != raw or keys.load_public(self._public) != public:
                    raise Conflict("")

            with contextlib.suppress(*([Conflict] if left else [])):
                files.replace(self.path, content(raw, public), 0o600, is_unchanged)
                # A key that is changed at this very moment must not be removed with what was sealed to it.
                if keys.load_public(self._public) == public:
                    return
        raise Conflict("")

    def _decoded(self, raw: bytes | None) -> dict[str, str]:
        if raw is None:
            return {}
        try:
            values = toml_file.decode(raw)
            bound = json.loads(str(values.get(BOUND, "[]")))
            if not all(isinstance(value, str) for value in values.values()) or not isinstance(bound, list):
                raise ValueError("it holds a value that is no text")
        except (ValueError, RecursionError) as error:
            raise Damaged(self.path, str(error)) from error
        return {name: str(value) for name, value in values.items()}


def bound_to(record: Mapping[str, str]) -> Sequence[str]:
    """Return the values that the secrets of a record are bound to."""
    return [str(value) for value in json.loads(record.get(BOUND, "[]"))]


def bound_text(values: Sequence[str]) -> str:
    """Return the text of `BOUND` for these values."""
    return json.dumps(list(values), ensure_ascii=False)
