"""A login that was refused: every attempt stops until the settings change, across restarts too. Retries lock accounts."""

from __future__ import annotations

import contextlib
import json

from device_ui.errors import NotStored
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
        self._found: dict[str, str] | None = None

    def is_of_others(self, revision: str) -> bool:
        """Whether one stands that is of other settings than these. Raises `NotStored`."""
        if self._found is None:
            self._found = _read(self._outbox.facts().get(FACT, "{}"))
        return self._found.get("revision", revision) != revision

    @property
    def problem(self) -> Problem | None:
        """What it keeps mail back with, if it stands."""
        found = self._found
        return Problem("login refused", "login", found.get("reply", ""), found.get("advice", "")) if found else None

    def stands(self, revision: str, reply: str, advice: str = "") -> None:
        """From now on one stands; `keep` lets the ledger follow. Never fails: whatever else does, nobody may try again."""
        is_new = (self._found or {}).get("revision") != revision
        self._found = {"revision": revision, "reply": reply, "advice": advice}
        if is_new:
            with contextlib.suppress(NotStored):  # it counts in memory all the same
                self._quota.take("logins", MAIL)

    def may_try(self) -> bool:
        """Whether other settings may be tried now: one who changes them again and again must not lock an account.

        Raises `NotStored`.
        """
        return not self._found or not self._quota.wait("logins", MAIL)

    def forget(self) -> None:
        """None stands any more."""
        self._found = {}

    def keep(self) -> None:
        """Let the ledger follow; writes nothing when it says so already. Raises `NotStored`."""
        if self._found is not None:
            self._outbox.keep_fact(FACT, json.dumps(self._found) if self._found else None)


def _read(fact: str) -> dict[str, str]:
    try:
        found = json.loads(fact)
    except ValueError:
        return {}  # damaged: one try more is better than none ever
    return found if isinstance(found, dict) and "revision" in found else {}
