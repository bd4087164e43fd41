"""Who gets the mail of an event. With no recipient listed it is the SMTP account's address, so that the SMTP tab
alone is enough to get mail. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from device_ui.settings.smtp import SmtpSettings


@dataclass(frozen=True)
class Recipient:
    """One address and the lowest type of event that it wants: ``info`` is everything, ``fault`` faults only."""

    address: str
    lowest: str = "info"

    def wants(self, event_type: str) -> bool:
        """Whether an event of this type is for this recipient."""
        return self.lowest == "info" or event_type == "fault"


def addresses(event_type: str, listed: Sequence[Recipient], settings: SmtpSettings) -> list[str]:
    """The addresses that an event of this type is mailed to, in the list's order."""
    everybody = listed or [Recipient(settings.default_recipient)]
    return [recipient.address for recipient in everybody if recipient.wants(event_type)]
