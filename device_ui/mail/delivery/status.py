"""The state of the mail path: what holds mail back, what was lost, and whether a refused login stops every attempt."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from device_ui.errors import Message, NotStored, Text, from_json, to_json
from device_ui.mail.clock import Clock, clock_text
from device_ui.mail.delivery.quota import MAIL, Quota
from device_ui.mail.events import Verdict
from device_ui.mail.outbox.outbox import LOSS, Outbox
from device_ui.mail.outbox.retention import UNTOLD

log = logging.getLogger(__name__)

# Problems that last until mail goes out again. Every other problem is looked for anew in each round.
LOSSES = (Verdict.REFUSED, Verdict.DROPPED)
LASTING = ("", "server", "fault", *LOSSES)
# The fact that holds the refused login.
FACT = "login_refused"


@dataclass(frozen=True)
class Problem:
    """Why no mail goes out.

    `word` is one of:

    - ``unset``, ``damaged``, ``unreadable``: the settings;
    - ``password``: the stored password cannot be opened;
    - ``login refused``, and ``too many logins`` (further settings wait);
    - ``sign-in``: the sign-in by OAuth 2.0 has failed, whether mail waits or not;
    - ``server``: the server cannot be reached or defers mail;
    - ``refused``: the server refused the last mail for good; ``dropped``: the last mail was given up;
    - ``storage``, ``full``: the flash takes nothing, or the reserve is used;
    - ``removed``: retention removed events before they were mailed; ``clock``: the clock is not set;
    - ``fault``: a fault of this product.

    `step` and `reply` are those of the SMTP client. `advice` is one sentence on what a person can change.
    """

    word: str = ""
    step: str = ""
    reply: Text = ""
    advice: Text = ""


class DeliveryStatus:
    """The problem of the mail path. A restart finds the last loss in the ledger again.

    `show` receives the report with each `publish`. Raises `NotStored` when the ledger cannot be read.
    """

    def __init__(self, outbox: Outbox, wall_clock: Clock, show: Callable[[Mapping[str, Any]], None]) -> None:
        self._outbox, self._wall_clock, self._show = outbox, wall_clock, show
        # What holds mail back now, or what the last mail ended at.
        self.problem = _last_loss(outbox)
        # The lasting problem that a passing one, such as a ledger that could not be read once, has replaced.
        self._lasting = Problem()
        # The sign-in by OAuth 2.0, which is looked at in each round.
        self.sign_in = Problem()

    def interrupt(self, problem: Problem) -> None:
        """Set a passing problem; `resume` brings the lasting one back."""
        if self.problem.word in LASTING:
            self._lasting = self.problem
        self.problem = problem

    def resume(self) -> None:
        """Clear a passing problem."""
        if self.problem.word not in LASTING:
            self.problem = self._lasting

    def reset(self) -> None:
        """Clear the problems of earlier tries, but not a loss: a lost mail stays lost."""
        self._lasting = Problem()
        if self.problem.word in LASTING and self.problem.word not in LOSSES:
            self.problem = Problem()

    def report(self) -> dict[str, Any]:
        """Return the state for the page and the console. Raises `NotStored` when the ledger cannot be read."""
        problem = self.problem
        removed, is_clock_right = self._outbox.removed()[UNTOLD], self._wall_clock.is_right()
        lesser = {"full": self._outbox.is_reserve_used, "removed": removed > 0, "clock": not is_clock_right}
        if not problem.word:
            problem = self.sign_in
        if not problem.word:
            problem = Problem(next((word for word, is_true in lesser.items() if is_true), ""))
        return {
            "problem": problem.word,
            "step": problem.step,
            "reply": problem.reply,
            "advice": problem.advice,
            "waiting": self._outbox.waiting_count(),
            "set_aside": self._outbox.set_aside.name if self._outbox.set_aside else "",
            "removed": removed,
            "clock": "" if is_clock_right else clock_text(self._wall_clock.raw),
        }

    def publish(self) -> None:
        """Call `show`. Never raises: a state that cannot be shown must not hold mail back."""
        try:
            self._show(self._report_or_storage())
        except Exception:
            log.exception("state of the mail path not shown")

    def _report_or_storage(self) -> Mapping[str, Any]:
        try:
            return self.report()
        except NotStored:
            return {"problem": "storage", "step": "", "waiting": 0}


class LoginLockout:
    """The refused login of one device: it stops every attempt until the settings change, since retries lock accounts.

    Settings that change again and again lock an account as well, so refused logins are counted. While none is left,
    settings with a login wait, unless mail got through with exactly these. A login to a different server gives none
    back: its owner may be the one who changes the settings.

    The state in memory decides and the ledger follows: a full flash must neither cause a further login nor undo an Update.
    """

    def __init__(self, outbox: Outbox, quota: Quota) -> None:
        self._outbox, self._quota = outbox, quota
        # `revision` of the refused settings, `reply`, `advice`; {}: no lockout. None: not read yet.
        self._state: dict[str, Any] | None = None

    def is_of_others(self, revision: str) -> bool:
        """Return whether other settings than these were refused. Raises `NotStored`."""
        return bool(self._current().get("revision", revision) != revision)

    def problem(self, revision: str, *, is_login_known: bool) -> Problem | None:
        """Return why the settings of this `revision` must not be tried now, None when they may. Raises `NotStored`.

        `is_login_known`: they have no login, or mail got through with exactly these.
        """
        refused = self._current()
        if refused.get("revision") == revision:
            return Problem("login refused", "login", refused.get("reply", ""), refused.get("advice", ""))
        if not is_login_known and self._quota.wait("logins", MAIL):
            return Problem("too many logins", "login")
        return None

    def engage(self, revision: str, reply: Text, advice: Text = "") -> None:
        """Lock these settings; `store` writes it to the ledger. Never raises: no later error may lead to a further login."""
        is_new = (self._state or {}).get("revision") != revision
        self._state = {"revision": revision, "reply": reply, "advice": advice}
        if is_new:
            with contextlib.suppress(NotStored):  # it counts in memory all the same
                self._quota.take("logins", MAIL)

    def lift(self) -> None:
        """End the lockout."""
        self._state = {}

    def store(self) -> None:
        """Write the state to the ledger where it differs. Raises `NotStored`."""
        if self._state is not None:
            self._outbox.set_metadata(FACT, json.dumps(self._state, default=to_json) if self._state else None)

    def _current(self) -> dict[str, Any]:
        if self._state is None:
            self._state = _read_lockout(self._outbox.metadata().get(FACT, "{}"))
        return self._state


def _read_lockout(fact: str) -> dict[str, Any]:
    try:
        values = json.loads(fact, object_hook=from_json)
    except ValueError:
        return {}  # damaged: one login too many is better than no mail ever again
    return values if isinstance(values, dict) and "revision" in values else {}


def _last_loss(outbox: Outbox) -> Problem:
    """Return the last loss: a mail that reached no recipient is reported until one is delivered, across restarts."""
    try:
        verdict, step, reply = json.loads(outbox.metadata().get(LOSS, "null"), object_hook=from_json)
    except (ValueError, TypeError):  # none, or damaged
        return Problem()
    word = Verdict.DROPPED if verdict == Verdict.DROPPED else Verdict.REFUSED
    return Problem(word, str(step), reply if isinstance(reply, Message) else str(reply))
