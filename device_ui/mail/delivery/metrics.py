"""Count what a monitoring system asks for: numbers of the database and of the mail path, and no name, address or text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from device_ui.mail.clock import Clock
from device_ui.mail.delivery.forward_command import ForwardCommand
from device_ui.mail.delivery.worker import DeliveryWorker
from device_ui.mail.outbox.outbox import Outbox


@dataclass(frozen=True)
class Metrics:
    """The numbers of one device. Any thread may call."""

    outbox: Outbox
    worker: DeliveryWorker
    forward_command: ForwardCommand
    clock: Clock

    def read(self) -> Mapping[str, Mapping[str, float]]:
        """Return the numbers by name, as the word ``metrics`` answers them. Raises `NotStored`.

        ``events`` counts since the database was made. ``delivered`` is when the newest mail was delivered (seconds since 1970), 0
        for none. ``forward`` counts the events that the maker's program has not got yet; it is left out without a program.
        """
        removed = self.outbox.removed()
        numbers: dict[str, float] = {
            "mail_ok": not self.worker.state()["problem"],
            "events": self.outbox.last,
            "stored": self.outbox.count,
            "waiting": self.outbox.waiting_count(),
            **{name: removed[name] for name in ("removed_info", "removed_fault", "removed_waiting")},
            "delivered": self.outbox.newest_delivered(),
            "reserve_used": self.outbox.is_reserve_used,
            "clock_right": self.clock.is_right(),
        }
        backlog = self.forward_command.backlog()
        return {"metrics": {**numbers, **({} if backlog is None else {"forward": backlog})}}
