"""Change the key pair of the mail hook. The stored password can be opened at every instant, across a power cut.

1. The private file gets the new pair beside the previous one; then the public file gets the new key and the previous id.
2. The stored password and the hook's own records are opened with the previous pair and sealed to the new one.
3. The previous pair is removed. The next rotation, or the next start of the hook, finishes one that was interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from device_ui.errors import Conflict
from device_ui.settings import keys, seal
from device_ui.settings.sealed_record import SealedRecord
from device_ui.settings.store import Store

# Attempts, since the page can save the settings in between.
TRIES_MAXIMUM = 5


def rotate(store: Store, private_path: Path, public_path: Path, records: Sequence[SealedRecord] = ()) -> str:
    """Rotate the pair and return the new id; `records` are sealed anew, too. Raises `NoKey`, `CannotOpen`, `Damaged`, `Conflict`, `NotStored`, `NotReadable`."""
    keys.begin_rotation(private_path, public_path)
    # From here on the page seals to the new key, and either key opens.
    for left in reversed(range(TRIES_MAXIMUM)):
        try:
            _reseal(store, private_path)
            break
        except Conflict:
            if not left:
                raise
    previous = keys.load_pairs(private_path)[1].id
    for record in records:
        record.reseal(previous)
    # Only after the resealed file is on flash: the previous key is the only one that opens the old one.
    keys.end_rotation(private_path, public_path)
    return keys.load_private(private_path).id


def finish(store: Store, private_path: Path, public_path: Path, records: Sequence[SealedRecord] = ()) -> None:
    """Remove the previous pair if nothing is sealed to it any more. Raises `Damaged`, `NotReadable`, `NotStored`."""
    pairs = keys.load_pairs(private_path)
    if len(pairs) == 1 or any(record.is_sealed_to(pairs[1].id) for record in records):
        return
    settings, revision = store.read()
    if settings is None or settings.sealed is None or seal.sealed_for(settings.sealed) != pairs[1].id:
        with contextlib.suppress(Conflict):  # a save at this moment: the next start finishes it
            if settings:
                store.save(settings, revision)  # writes nothing; what was read may be in the cache only
            keys.end_rotation(private_path, public_path)


def _reseal(store: Store, private_path: Path) -> None:
    new, before = keys.load_pairs(private_path)
    settings, revision = store.read()
    if settings is None:
        return
    if settings.sealed is None or seal.sealed_for(settings.sealed) != before.id:
        store.save(settings, revision)  # writes nothing; what was read may be in the cache only
        return
    password = keys.open_password(settings, before)
    sealed = seal.seal(password, new.public, settings.bound_to)
    store.save(dataclasses.replace(settings, sealed=sealed), revision)
