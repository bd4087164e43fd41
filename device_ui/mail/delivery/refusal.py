"""A refused login: every attempt stops until the settings change, across restarts too. Retries lock accounts.

Settings that change again and again lock an account as well, so refused logins are counted. While none is left, settings
with a login wait, unless mail got through with exactly these. A login to another server gives none back: its owner may be
the one who changes the settings.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from device_ui.errors import NotStored, Text, from_json, to_json
from device_ui.mail.delivery.problem import Problem
from device_ui.mail.delivery.quota import MAIL, Quota
from device_ui.mail.outbox.outbox import Outbox

FACT = "login_refused"


class LoginLockout:
    """The refused login of one device.

    What stands here counts, the ledger follows: a full flash must neither make us ask the server again nor undo an Update.
    """

    def __init__(self, outbox: Outbox, quota: Quota) -> None:
        self._outbox, self._quota = outbox, quota
        # Of which `revision` of the settings, the `reply`, the `advice`; {}: none stands. None: not read yet.
        self._found: dict[str, Any] | None = None

    def is_of_others(self, revision: str) -> bool:
        """Whether one stands that is of other settings than these. Raises `NotStored`."""
        return bool(self._standing().get("revision", revision) != revision)

    def problem(self, revision: str, *, is_login_known: bool) -> Problem | None:
        """Return why the settings of this `revision` must not be tried now, None when they may. Raises `NotStored`.

        `is_login_known`: they have no login, or mail got through with exactly these.
        """
        found = self._standing()
        if found.get("revision") == revision:
            return Problem("login refused", "login", found.get("reply", ""), found.get("advice", ""))
        if not is_login_known and self._quota.wait("logins", MAIL):
            return Problem("too many logins", "login")
        return None

    def stands(self, revision: str, reply: Text, advice: Text = "") -> None:
        """From now on one stands; `keep` lets the ledger follow. Never fails: whatever else does, nobody may try again."""
        is_new = (self._found or {}).get("revision") != revision
        self._found = {"revision": revision, "reply": reply, "advice": advice}
        if is_new:
            with contextlib.suppress(NotStored):  # it counts in memory all the same
                self._quota.take("logins", MAIL)

    def forget(self) -> None:
        """None stands any more."""
        self._found = {}

    def keep(self) -> None:
        """Let the ledger follow; writes nothing when it says so already. Raises `NotStored`."""
        if self._found is not None:
            self._outbox.set_metadata(FACT, json.dumps(self._found, default=to_json) if self._found else None)

    def _standing(self) -> dict[str, Any]:
        if self._found is None:
            self._found = _read(self._outbox.metadata().get(FACT, "{}"))
        return self._found


def _read(fact: str) -> dict[str, Any]:
    try:
        found = json.loads(fact, object_hook=from_json)
    except ValueError:
        return {}  # damaged: one try more is better than none ever
    return found if isinstance(found, dict) and "revision" in found else {}
