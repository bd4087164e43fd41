"""What every mail needs besides its events, and the address of the device's pages in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from device_ui.i18n.translator import PLAIN, Translator
from device_ui.settings.fields import SmtpSettings


@dataclass(frozen=True)
class Envelope:
    """What every mail needs besides its events.

    `device` holds ``name``, ``model``, ``serial``, ``host_name`` and ``address``, ``url`` (the address of the pages as the
    maker set it) and ``importance`` (of faults). `now` (seconds since 1970, never 0) dates an event without a date. `removed`
    counts the events that the database's limit removed before they were mailed.

    `languages` are those of the recipients. If they differ, one mail has the content in each of them, one after the other.
    So it stays one mail, with one Message-ID, one transaction, one record in the database and one place in the budget. A mail
    for each language would be two halves that a power cut, a retry or the budget could separate.
    """

    settings: SmtpSettings
    recipients: Sequence[str]
    device: Mapping[str, str]
    ledger_id: str
    now: float = 0.0
    removed: int = 0
    languages: Sequence[Translator] = (PLAIN,)

    @property
    def pages(self) -> str:
        """The address of the device's pages, without a slash at its end.

        Without one of the maker's it is that of the TLS proxy that ships, at the address that the mail is sent from: a host
        name need not be known where the mail is read, and the pages answer to every address.
        """
        if url := self.device.get("url", ""):
            return url.rstrip("/")
        address = self.device.get("address", "").partition("%")[0]
        return f"https://{f'[{address}]' if ':' in address else address}" if address else ""
