"""What became of mails, until flash has it: a mail that went out must not go out twice, whatever flash takes."""

from __future__ import annotations

from device_ui.mail.events import Delivery
from device_ui.mail.outbox.outbox import Outbox


class Recorder:
    """Keeps what became of mails in memory until `record`, and after a failure until the next one."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._owed: dict[int, tuple[list[Delivery], bool, int]] = {}

    def __contains__(self, mail: int) -> bool:
        return mail in self._owed

    def __len__(self) -> int:
        return len(self._owed)

    def keep(self, mail: int, ended: list[Delivery], *, done: bool, told: int) -> None:
        """What became of a mail, by its number; see `Outbox.record`."""
        self._owed[mail] = (ended, done, told)

    def record(self) -> None:
        """Put it on flash. Raises `NotStored`."""
        for mail, (ended, done, told) in list(self._owed.items()):
            self._outbox.record(mail, ended, done=done, reported=told)
            del self._owed[mail]
