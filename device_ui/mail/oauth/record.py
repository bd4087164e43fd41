"""The record of a sign-in on flash: its tokens, sealed, and what is known of it.

``bound`` is what the tokens are for: `SmtpSettings.bound_to`. A record of other settings is none, so neither a new mail server
nor a new provider gets the old tokens.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from device_ui.errors import CannotOpen, Damaged, NoKey, NotStored, Text, from_stored, to_stored
from device_ui.settings.sealed_record import BOUND, SEALED, bound_text
from device_ui.storage import files

if TYPE_CHECKING:
    from device_ui.settings.fields import SmtpSettings
    from device_ui.settings.sealed_record import SealedRecord

PURPOSE = "device-ui sign-in tokens 1"
COMMENT = "device-ui: the sign-in by OAuth 2.0, its tokens sealed."


@dataclass(frozen=True)
class StoredSignIn:
    """A sign-in: the `refresh` and `access` token, ``""`` where there is none, and beside them what no one has to hide.

    `renewed` is the moment (`Clock.moment`) of the last success, `seconds` the life of the access token from then on, and
    `idle_seconds` that of the refresh token, 0 if it is not known; `life_seconds` is the longest that it was since the
    sign-in. `asked` is the moment at which a renewal was asked for whose answer is not stored. `problem`, `step` and
    `reply` are those of a sign-in that a person has to see to. `warned` is the last warning: the days before its end,
    and that day; or ``needs mail``.
    """

    refresh: str = field(default="", repr=False)
    access: str = field(default="", repr=False)
    person: str = ""
    renewed: str = ""
    seconds: int = 0
    idle_seconds: int = 0
    life_seconds: int = 0
    asked: str = ""
    problem: str = ""
    step: str = ""
    reply: Text = ""
    warned: str = ""


# The fields that are texts of the file, and those that are numbers.
TEXTS = ("person", "renewed", "asked", "problem", "step", "warned")
NUMBERS = ("seconds", "idle_seconds", "life_seconds")


class SignInRecord:
    """The record of one device; its caller reads and writes one at a time."""

    def __init__(self, record: SealedRecord) -> None:
        self._record = record

    def known(self, settings: SmtpSettings) -> StoredSignIn:
        """Return what is known of the sign-in of these settings, without its tokens. Raises `NotReadable`."""
        values = self._values(settings)
        known: dict[str, Any] = {name: values.get(name, "") for name in TEXTS}
        known |= {name: _number(values.get(name, "")) for name in NUMBERS}
        return StoredSignIn(**known, reply=from_stored(values.get("reply", "")))

    def load(self, settings: SmtpSettings) -> StoredSignIn:
        """Return the sign-in of these settings, without tokens, `renewed` and `seconds` when they do not open. Raises `NotReadable`."""
        try:
            found = json.loads(self._record.open(self._values(settings)) or "{}")
            refresh, access = str(found.get("refresh", "")), str(found.get("access", ""))
        except (NoKey, CannotOpen, Damaged, ValueError, AttributeError):
            # What is known stays, for the page and the warnings; without `renewed` no access token is taken for fresh.
            return replace(self.known(settings), renewed="", seconds=0)
        return replace(self.known(settings), refresh=refresh, access=access)

    def store(self, settings: SmtpSettings, stored: StoredSignIn) -> None:
        """Put a sign-in on flash. Raises `NotStored`, `NotReadable`, `NoKey`, `Damaged`."""
        values = {name: str(getattr(stored, name)) for name in (*TEXTS, *NUMBERS)}
        secret = json.dumps({"refresh": stored.refresh, "access": stored.access})
        record = {BOUND: bound_text(settings.bound_to), **values, "reply": to_stored(stored.reply)}
        self._record.write(record, {SEALED: secret})

    def _values(self, settings: SmtpSettings) -> dict[str, str]:
        try:
            values = self._record.read()
        except Damaged as damage:
            # As with no record: the sign-in has to be done again, and the damaged file is kept for an inspection.
            with contextlib.suppress(NotStored):
                files.quarantine(damage.path)
            return {}
        return values if values.get(BOUND) == bound_text(settings.bound_to) else {}


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else 0
