"""The mail path's state: what keeps mail back, or kept the last one, and who hears of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from device_ui.errors import NotStored
from device_ui.mail.clock import Clock, clock_text
from device_ui.mail.delivery.problem import LASTING, LOSSES, Problem, last_loss
from device_ui.mail.outbox.outbox import Outbox
from device_ui.mail.outbox.retention import UNTOLD

log = logging.getLogger(__name__)


class DeliveryStatus:
    """The mail path of one device; a restart finds the last loss again. Raises `NotStored` when the ledger cannot be read.

    `show` hears the state with each `tell`.
    """

    def __init__(self, outbox: Outbox, calendar: Clock, *, show: Callable[[Mapping[str, Any]], None]) -> None:
        self._outbox, self._calendar, self._show = outbox, calendar, show
        # What keeps mail back, or kept the last one.
        self.problem = last_loss(outbox)
        # What `problem` was before something passing, such as a ledger that could not be read once, took its place.
        self._standing = Problem()

    def interrupted(self, problem: Problem) -> None:
        """Something passing keeps mail back: what lasts is told again after it."""
        if self.problem.word in LASTING:
            self._standing = self.problem
        self.problem = problem

    def resumed(self) -> None:
        """Nothing passing keeps mail back any more."""
        if self.problem.word not in LASTING:
            self.problem = self._standing

    def retry(self) -> None:
        """Mail is tried anew: nothing is told of the tries before, but for a mail that was lost."""
        self._standing = Problem()
        if self.problem.word in LASTING and self.problem.word not in LOSSES:
            self.problem = Problem()

    def told(self) -> dict[str, Any]:
        """How the mail path is, for the page and the console. Raises `NotStored` when the ledger cannot be read."""
        problem = self.problem
        removed, right = self._outbox.removed()[UNTOLD], self._calendar.is_right()
        others = {"full": self._outbox.is_reserve_used, "removed": removed > 0, "clock": not right}
        if not problem.word:
            problem = Problem(next((word for word, stands in others.items() if stands), ""))
        return {
            "problem": problem.word,
            "step": problem.step,
            "reply": problem.reply,
            "advice": problem.advice,
            "waiting": self._outbox.waiting_count(),
            "set_aside": self._outbox.set_aside.name if self._outbox.set_aside else "",
            "removed": removed,
            "clock": "" if right else clock_text(self._calendar.told),
        }

    def tell(self) -> None:
        """Let the state be shown. Never raises: a lamp that cannot be lit keeps no mail back."""
        try:
            self._show(self._state_for_lamp())
        except Exception:
            log.exception("the state of the mail path could not be shown")

    def _state_for_lamp(self) -> Mapping[str, Any]:
        try:
            return self.told()
        except NotStored:
            return {"problem": "storage", "step": "", "waiting": 0}
