"""The mail of what the ledger says: made when it is sent, or a moment before, while the server takes the one before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from device_ui.mail.catalog import Catalog
from device_ui.mail.clock import Clock
from device_ui.mail.outbox import Outbox
from device_ui.mail.storm import Mail
from device_ui.settings.recipients import Recipient
from device_ui.settings.smtp import SmtpSettings

# Events that a digest tells of one by one; the others it counts.
LISTED_MAXIMUM = 100


class Composer:
    """Makes the mails of one device."""

    def __init__(
        self,
        outbox: Outbox,
        catalog: Catalog,
        device: Mapping[str, str],
        listed: Callable[[], Sequence[Recipient]],
        calendar: Clock,
    ) -> None:
        self._outbox, self._catalog, self._device = outbox, catalog, device
        self._listed, self._calendar = listed, calendar
        # A mail that was made ahead, behind all that it was made of.
        self._ahead: tuple[tuple[object, ...], bytes | None] | None = None

    def content(
        self, mail: Mail, settings: SmtpSettings, everybody: Sequence[str], address: str, removed: int
    ) -> bytes | None:
        """The mail's bytes; None when the ledger's limit took all that it tells of. Raises `NotStored`."""
        made_of = self._made_of(mail, settings, everybody, address, removed)
        ahead, self._ahead = self._ahead, None
        if ahead and ahead[0] == made_of:
            return ahead[1]
        return self._composed(mail, settings, everybody, address, removed)

    def prepare(self, mail: Mail, settings: SmtpSettings, everybody: Sequence[str], address: str, removed: int) -> None:
        """Make what `content` will give if by then nothing is another."""
        made_of = self._made_of(mail, settings, everybody, address, removed)
        self._ahead = (made_of, self._composed(mail, settings, everybody, address, removed))

    def _made_of(
        self, mail: Mail, settings: SmtpSettings, everybody: Sequence[str], address: str, removed: int
    ) -> tuple[object, ...]:
        return (mail, mail.id, settings, *everybody, *self._listed(), address, removed)

    def _composed(
        self, mail: Mail, settings: SmtpSettings, everybody: Sequence[str], address: str, removed: int
    ) -> bytes | None:
        # Imported here: a hook that has no mail to send needs no `email`.
        from device_ui.mail import message

        digest = self._outbox.digest(mail.id, LISTED_MAXIMUM)
        if digest is None:
            return None
        device = {**self._device, "address": address}
        spoken = message.languages(everybody, self._listed(), device)
        now = self._calendar.now()
        envelope = message.Envelope(settings, everybody, device, self._outbox.id, now, removed, spoken)
        if digest.count > 1 or digest.events[0].number != mail.id:
            return message.compose_digest(digest, self._catalog, envelope)
        return message.compose(digest.events[0], self._catalog[digest.events[0].code], envelope)
