"""The state of the mail path: what blocks mail, what was lost, and whether a refused login stops every attempt."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from device_ui.errors import Message, NotStored, Text, from_json, to_json
from device_ui.mail.clock import Clock, clock_text
from device_ui.mail.delivery.batching import QueuedMail
from device_ui.mail.delivery.problem import Problem
from device_ui.mail.delivery.quota import MAIL, Quota
from device_ui.mail.events import Verdict
from device_ui.mail.outbox.outbox import LOSS, Outbox
from device_ui.mail.outbox.retention import UNTOLD

log = logging.getLogger(__name__)

# The name of the metadata of the refused login.
METADATA = "login_refused"
# Seconds from a refused login that worked before to the next try; the last one stays: four to six logins a day, further
# apart than the windows in which providers count them.
HOUR = 3600.0
SLOW_TRIES = (HOUR, HOUR, 2 * HOUR, 4 * HOUR, 6 * HOUR)


class DeliveryStatus:
    """The state of the mail path: computed from what blocks all mail, the last session, the queue and the last loss.

    It is well only when no event that was tried still waits, and the hourly budget delays no new fault. `tried` returns the first
    mail in the queue that was; `is_over_budget`, whether the budget delays a fault; a restart finds the last loss in the
    database again, and counts all mail that waits there as tried. `show` receives the report with each `publish`. Any
    thread may read it.
    """

    def __init__(
        self,
        outbox: Outbox,
        wall_clock: Clock,
        tried: Callable[[], QueuedMail | None],
        is_over_budget: Callable[[], bool],
        show: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._outbox, self._wall_clock, self._show = outbox, wall_clock, show
        self._tried, self._is_over_budget = tried, is_over_budget
        # What blocks all mail before any session; why the last session delivered nothing; the last mail that was lost.
        self._block = self._server = Problem()
        self._loss = _last_loss(outbox)
        # Whether mail waits whose tries are forgotten: those of an earlier process, since a try writes nothing, or with the
        # settings before the last change. Not known to be late, it is not known to be well either.
        self._is_queued = outbox.newest_waiting() > 0
        self._published = Problem()
        # The sign-in by OAuth 2.0, and a certificate that has ended, which are looked at in each round.
        self.sign_in = self.certificate = Problem()

    @property
    def all_mail_problem(self) -> Problem:
        """The problem of all mail: what blocks it, else the server's."""
        # In this order: the server's problem is from an earlier session.
        return self._block if self._block.word else self._server

    @property
    def is_blocked(self) -> bool:
        """Whether something else than the server blocks all mail: no try helps."""
        return bool(self._block.word)

    @property
    def problem(self) -> Problem:
        """The one problem that is reported: the broadest first."""
        # Then a mail that waits, and last a loss: it is over, while the others still delay mail.
        if self.all_mail_problem.word:
            return self.all_mail_problem
        mail = self._tried()
        if mail:
            tries = mail.tries
            return Problem("server" if tries.step else "fault", tries.step, tries.reply, tries.advice)
        return self._problem_of_any_settings

    @property
    def _problem_of_any_settings(self) -> Problem:
        return Problem("budget") if self._is_over_budget() else self._loss

    def block(self, problem: Problem) -> None:
        """Set what blocks all mail before any session, until `unblock`."""
        self._block = problem

    def unblock(self) -> None:
        """Clear what blocked all mail before any session."""
        self._block = Problem()

    def server_failed(self, problem: Problem) -> None:
        """Set why a session served no one, until `server_works`."""
        self._server = problem

    def server_works(self) -> None:
        """Clear why an earlier session served no one: one does, or no mail waits for it."""
        self._server, self._is_queued = Problem(), False

    def settings_changed(self) -> None:
        """Clear why sessions failed, before the tries are reset. Mail that waited for that counts as queued until a session."""
        self._is_queued = self._is_queued or bool(self.all_mail_problem.word or self._tried())
        self._server = Problem()

    def lost(self, problem: Problem) -> None:
        """Set that a mail was lost: refused or given up, until `delivered`."""
        self._loss = problem

    def delivered(self) -> None:
        """Clear the last loss: a mail reached all its recipients."""
        self._loss = Problem()

    def report(self, *, is_new: bool = False) -> dict[str, Any]:
        """Return the state for the page and the console. Raises `NotStored` when the database cannot be read.

        `is_new`: other settings are stored than those whose problems are known. These are left out.
        """
        return self._report(self._problem_of_any_settings if is_new else self.problem, is_new=is_new)

    def _report(self, problem: Problem, *, is_new: bool = False) -> dict[str, Any]:
        removed, is_clock_right = self._outbox.removed()[UNTOLD], self._wall_clock.is_right()
        waiting = self._outbox.waiting_count()
        # Shown when mail goes: none of them blocks it.
        lesser = {"full": self._outbox.is_reserve_used, "removed": removed > 0, "clock": not is_clock_right}
        # Last: each of the others says more.
        lesser["queued"] = waiting > 0 and (self._is_queued or is_new)
        if not problem.word and not is_new:
            problem = self.sign_in
        if not problem.word:
            problem = Problem(next((word for word, is_true in lesser.items() if is_true), ""))
        if not problem.word and not is_new:
            problem = self.certificate
        return {
            "problem": problem.word,
            "step": problem.step,
            "reply": problem.reply,
            "advice": problem.advice,
            "is_retried": problem.is_retried,
            "waiting": waiting,
            "set_aside": self._outbox.set_aside.name if self._outbox.set_aside else "",
            "removed": removed,
            "clock": "" if is_clock_right else clock_text(self._wall_clock.raw),
        }

    def publish(self) -> None:
        """Call `show`. Never raises: a state that cannot be shown must not block mail."""
        try:
            self._published = problem = self.problem
            self._show(self._report_or_storage(problem))
        except Exception:
            log.exception("state of the mail path not shown")

    def publish_change(self) -> None:
        """Call `show` if the problem differs from what it last received: during a session, as the page shows it."""
        if self.problem.word != self._published.word or self.problem.step != self._published.step:
            self.publish()

    def _report_or_storage(self, problem: Problem) -> Mapping[str, Any]:
        try:
            return self._report(problem)
        except NotStored:
            # The database cannot be read, so no count of it can be shown.
            return {"problem": "storage", "step": "", "waiting": 0}


class LoginLockout:
    """The refused login of one device: it stops every attempt until the settings change or a test with them succeeds, since
    retries lock accounts.

    Settings that change again and again lock an account as well, so refused logins are counted. While none is left,
    settings with a login wait, unless mail got through with exactly these. A login to a different server gives none
    back: its owner may be the one who changes the settings.

    A login that worked before may work again without a change: it is tried at `SLOW_TRIES`, across restarts too.

    The state in memory decides and the database follows: a full flash must neither cause a further login nor undo an Update.
    """

    def __init__(self, outbox: Outbox, quota: Quota, clock: Clock) -> None:
        self._outbox, self._quota, self._clock = outbox, quota, clock
        # `revision` of the refused settings, `reply`, `advice`; of a login that worked before, how many `tries` were refused
        # and the moment of the last one, `at`. {}: no lockout. None: not read yet.
        self._state: dict[str, Any] | None = None

    def is_of_others(self, revision: str) -> bool:
        """Return whether other settings than these were refused. Raises `NotStored`."""
        # Then new settings were saved after it, and this lockout is over.
        return bool(self._current().get("revision", revision) != revision)

    def problem(self, revision: str, *, is_login_known: bool) -> Problem | None:
        """Return why the settings of this `revision` must not be tried now, None when they may. Raises `NotStored`.

        `is_login_known`: they have no login, or mail got through with exactly these.
        """
        refused = self._current()
        if refused.get("revision") == revision:
            if self._is_due(refused):
                return None
            reply, advice = refused.get("reply", ""), refused.get("advice", "")
            return Problem("login refused", "login", reply, advice, is_retried="tries" in refused)
        if not is_login_known and self._quota.wait("logins", MAIL):
            return Problem("too many logins", "login")
        return None

    def is_engaged(self, revision: str) -> bool:
        """Return whether the login of these settings was refused last. Raises `NotStored`."""
        return bool(self._current().get("revision") == revision)

    def engage(self, revision: str, reply: Text, *, has_worked: bool) -> None:
        """Lock these settings; `store` writes it to the database. Never raises: no later error may lead to a further login.

        `has_worked`: mail got through with exactly these before.
        """
        # A refusal of the same settings is a further try of one lockout; of others it is the first of a new one.
        before = self._state if self._state and self._state.get("revision") == revision else {}
        self._state = {"revision": revision, "reply": reply}
        if has_worked or "tries" in before:
            self._state |= {"tries": before.get("tries", 0) + 1, "at": self._clock.moment()}
        if not before or "tries" in self._state:
            with contextlib.suppress(NotStored):  # it counts in memory all the same
                self._quota.take("logins", MAIL)

    def explain(self, advice: Text) -> Problem:
        """Add what a person can change; return the problem."""
        self._state = {**(self._state or {}), "advice": advice}
        reply = self._state.get("reply", "")
        return Problem("login refused", "login", reply, advice, is_retried="tries" in self._state)

    def lift(self) -> None:
        """End the lockout."""
        self._state = {}

    def store(self) -> None:
        """Write the state to the database where it differs. Raises `NotStored`."""
        if self._state is not None:
            self._outbox.set_metadata(METADATA, json.dumps(self._state, default=to_json) if self._state else None)

    def _is_due(self, refused: Mapping[str, Any]) -> bool:
        """Return whether a login that worked before is due for a slow try."""
        # From the database, which may be damaged: then it is not due, since a try too few locks nothing.
        tries = refused.get("tries", 0)
        if not isinstance(tries, int) or tries < 1:
            return False
        at = str(refused.get("at", ""))
        # A moment of a clock that was far ahead would block mail for years. The try that follows stores a right one.
        return self._clock.is_ahead(at) or self._clock.passed(at) >= SLOW_TRIES[min(tries, len(SLOW_TRIES)) - 1]

    def _current(self) -> dict[str, Any]:
        if self._state is None:
            self._state = _read_lockout(self._outbox.metadata().get(METADATA, "{}"))
        return self._state


def _read_lockout(stored: str) -> dict[str, Any]:
    try:
        values = json.loads(stored, object_hook=from_json)
    except ValueError:
        return {}  # damaged: one login too many is better than no mail ever again
    return values if isinstance(values, dict) and "revision" in values else {}


def _last_loss(outbox: Outbox) -> Problem:
    """Return the last loss: a mail that a recipient did not get is reported until one is delivered, across restarts."""
    try:
        verdict, step, reply = json.loads(outbox.metadata().get(LOSS, "null"), object_hook=from_json)
    except (ValueError, TypeError):  # none, or damaged
        return Problem()
    # Any other word is shown as the milder one.
    word = Verdict.DROPPED if verdict == Verdict.DROPPED else Verdict.REFUSED
    return Problem(word, str(step), reply if isinstance(reply, Message) else str(reply))
