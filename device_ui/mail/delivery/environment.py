"""The device as delivery uses it: its names, recipients, passwords and clocks, in one object that all parts share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from device_ui.mail.clock import Clock
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import Recipient


class Passwords(Protocol):
    """The stored passwords and the keys that open them."""

    def can_unseal(self, settings: SmtpSettings) -> bool:
        """Return whether the password was sealed to a key of this device, without opening it; True without a password."""

    def unseal(self, settings: SmtpSettings) -> str:
        """Return the password. Raises `CannotOpen`, `Damaged`, `NoKey`, `NotReadable`."""


@dataclass(frozen=True)
class Environment:
    """The device as delivery sees it.

    `device` holds ``name``, ``model``, ``serial``, ``language``, ``etc`` (the maker's folder), and what
    `message.envelope.Envelope` says. `recipients` returns the current list. `wall_clock` dates events and mails; `monotonic`
    (seconds) times every wait. `random` returns a number from 0 to 1.
    """

    device: Mapping[str, str]
    recipients: Callable[[], Sequence[Recipient]]
    passwords: Passwords
    wall_clock: Clock
    monotonic: Callable[[], float]
    random: Callable[[], float]
