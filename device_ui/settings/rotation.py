"""Change the mail hook's key pair. The stored password can be opened at every instant, whenever the power fails.

1. The private file holds the new pair and the one before; then the public file tells the new key and the old one's id.
2. The stored password is opened with the pair before and sealed to the new one.
3. The pair before is forgotten. What was cut short is finished by the next rotation, or when the hook starts.
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from device_ui.errors import Conflict
from device_ui.settings import keys, seal
from device_ui.settings.store import Store

# Saves on the page that come in between are read anew, so often.
TRIES_MAXIMUM = 5


def rotate(store: Store, private_path: Path, public_path: Path) -> str:
    """Rotate the pair; the new one's id. Raises `NoKey`, `CannotOpen`, `Damaged`, `Conflict`, `NotStored`, `NotReadable`."""
    keys.begin_rotation(private_path, public_path)
    for left in reversed(range(TRIES_MAXIMUM)):
        try:
            _seal_anew(store, private_path)
            break
        except Conflict:
            if not left:
                raise
    keys.end_rotation(private_path, public_path)
    return keys.load_private(private_path).id


def finish(store: Store, private_path: Path, public_path: Path) -> None:
    """Forget the pair before if nothing is sealed to it any more. Raises `Damaged`, `NotReadable`, `NotStored`."""
    pairs = keys.load_pairs(private_path)
    if len(pairs) == 1:
        return
    settings, revision = store.read()
    if settings is None or settings.sealed is None or seal.sealed_for(settings.sealed) != pairs[1].id:
        with contextlib.suppress(Conflict):  # somebody is saving: the next start finishes it
            if settings:
                store.save(settings, revision)  # writes nothing; what was read may be in the cache only
            keys.end_rotation(private_path, public_path)


def _seal_anew(store: Store, private_path: Path) -> None:
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
