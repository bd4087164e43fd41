"""The password keys of a device, as far as this process can use them.

Root opens sealed passwords with the private key itself. The web process's user cannot, and with a key that systemd encrypted
neither can root: then the mail hook says whether a sealed password opens.
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from device_ui.config import Folders
from device_ui.errors import CannotOpen, Damaged, DeviceUIError, HookError, Message, NoKey, NotReadable
from device_ui.mail import client
from device_ui.settings import keys, seal
from device_ui.settings.fields import SmtpSettings


class WrongSeal(DeviceUIError):
    """A sealed password of a document that does not open on this device; ``reason`` says why."""

    def __init__(self, reason: DeviceUIError | Message) -> None:
        super().__init__(Message("smtp.sealed: {reason}", reason=reason))


class Passwords:
    """The keys of one device."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    def public(self) -> bytes:
        """Return the public key; on a new device the mail hook makes it. Raises `NoKey`, `Damaged`, `NotReadable`."""
        try:
            return keys.load_public(self._folders.public_key)
        # A hook makes its keys before it answers, and systemd starts it at the first request.
        except NoKey:
            with contextlib.suppress(HookError):
                client.state(self._folders.socket)
            return keys.load_public(self._folders.public_key)

    def is_lost(self, settings: SmtpSettings) -> bool:
        """Return whether the password is sealed to a key that this device does not have."""
        # By the ids, which every user may read.
        with contextlib.suppress(NoKey, Damaged, NotReadable):
            return seal.sealed_for(settings.sealed or "") not in keys.public_ids(self._folders.public_key)
        return False

    def opened(self, settings: SmtpSettings) -> str | None:
        """Return the password of settings that have one; None where this process cannot open it."""
        try:
            return keys.load_password(self._folders.private_key, settings)
        # No error: the caller then stores a password that may be the same one, which costs one write.
        except (CannotOpen, Damaged, NoKey, NotReadable):
            return None

    def require(self, settings: SmtpSettings) -> None:
        """Raise `WrongSeal` unless the sealed password opens on this device, for these settings.

        Raises `HookError` where only the mail hook can open it and does not answer, and `Damaged`.
        """
        try:
            keys.load_password(self._folders.private_key, settings)
        # The pages' user: it learns whether a password opens, and never the password.
        except NotReadable:
            self._ask_hook(settings)
        except NoKey as error:
            if not error.key_id:  # no private key: a new device, or one whose key systemd encrypted
                self._ask_hook(settings)
                return
            raise self._other_key(settings) from error
        except CannotOpen as error:
            raise WrongSeal(Message("it does not open: {reason}", reason=error.reason)) from error

    def _ask_hook(self, settings: SmtpSettings) -> None:
        # With all fields, since the password is bound to some of them (`SmtpSettings.bound_to`); the hook checks them by the rules of the tab.
        answer = client.opens(self._folders.socket, dataclasses.asdict(settings))
        if answer == "other-key":
            raise self._other_key(settings)
        if answer != "ok":
            raise WrongSeal(Message("it does not open: {reason}", reason=answer))

    def _other_key(self, settings: SmtpSettings) -> WrongSeal:
        # With both ids, which are public: the person who sealed it finds the device it was for.
        return WrongSeal(
            Message(
                "it is for the key {other}; seal it again for this device's key, {own}",
                other=seal.sealed_for(settings.sealed or "") or "",
                own=seal.key_id(self.public()),
            )
        )


def load_public(given: str) -> bytes:
    """Return a public key, given as 64 hexadecimal digits or as a file such as mailhook.pub. Raises `DeviceUIError`."""
    # A file whose name has 64 characters is read if they are not all hexadecimal digits.
    if len(given) == 2 * seal.KEY_BYTES:
        with contextlib.suppress(ValueError):
            return bytes.fromhex(given)
    try:
        return keys.load_public(Path(given))
    except NoKey:
        raise DeviceUIError(f"{given} is no public key: neither 64 hexadecimal digits nor a file") from None
