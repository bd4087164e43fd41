"""The names by which a request may reach the pages: the device's and the maker's, and those that an administrator added."""

from __future__ import annotations

from dataclasses import dataclass

from device_ui.errors import Damaged, NotReadable
from device_ui.settings.store import NameStore


@dataclass(frozen=True)
class KnownNames:
    """The `own` names, which never change while the process runs, and those of the `store`, which is read for any other."""

    own: frozenset[str]
    store: NameStore

    def __contains__(self, name: object) -> bool:
        # The file is read for an unknown name only, which a usual request does not have.
        if name in self.own:
            return True
        try:
            listed, _ = self.store.read()
        except (Damaged, NotReadable):  # the pages are reached by an address, and report it
            return False
        return name in (listed or ())
