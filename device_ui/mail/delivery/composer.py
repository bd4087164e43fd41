"""The mail of what the ledger says, made when it is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from device_ui.mail.catalog import Catalog
from device_ui.mail.clock import Clock
from device_ui.mail.delivery.batching import Batch
from device_ui.mail.outbox.outbox import Outbox
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import Recipient, addresses

# Events that a digest tells of one by one; the others it counts.
LISTED_MAXIMUM = 100


class Composer:
    """Makes the mails of one device."""

    def __init__(
        self,
        outbox: Outbox,
        catalog: Catalog,
        device: Mapping[str, str],
        calendar: Clock,
    ) -> None:
        self._outbox, self._catalog, self._device, self._calendar = outbox, catalog, device, calendar

    def content(
        self, mail: Batch, settings: SmtpSettings, listed: Sequence[Recipient], address: str, removed: int
    ) -> bytes | None:
        """The mail's bytes; None when the ledger's limit took all that it tells of. Raises `NotStored`.

        `listed` are the recipients, `address` is the device's own, `removed` as in `Envelope`.
        """
        # Imported here: a hook that has no mail to send needs no `email`.
        from device_ui.mail.message import compose

        digest = self._outbox.digest(mail.id, LISTED_MAXIMUM)
        if digest is None:
            return None
        device = {**self._device, "address": address}
        everybody = addresses(mail.type, listed, settings)
        spoken = compose.languages(everybody, listed, device)
        now = self._calendar.now()
        envelope = compose.Envelope(settings, everybody, device, self._outbox.id, now, removed, spoken)
        if digest.count > 1 or digest.events[0].number != mail.id:
            return compose.compose_digest(digest, self._catalog, envelope)
        return compose.compose(digest.events[0], self._catalog[digest.events[0].code], envelope)
