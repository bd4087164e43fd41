"""Run the maker's program when the state of the mail path changes: it may light an LED or switch a relay.

It runs when the state changes and when the hook starts or ends, as the hook's user, without a shell, one at a time. A
failed run is repeated after a minute until it succeeds. Its environment holds the values of `show` alone: no text that a
mail server chose.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from device_ui.mail.delivery.program import Program

log = logging.getLogger(__name__)

# Seconds that the program may take; that the end of the hook waits for it; after which a failed one runs again.
RUN_SECONDS, END_SECONDS, AGAIN_SECONDS = 10.0, 3.0, 60.0
OK, DOWN = "ok", "down"


class StateCommand:
    """Runs `command` (a path; ``""``: nothing) with each new state. Only `end` waits for it.

    After `seconds` it is killed, with all that it started. After a failure it runs again `again` seconds later.
    """

    def __init__(self, command: str, seconds: float = RUN_SECONDS, again: float = AGAIN_SECONDS) -> None:
        self._program, self._again = Program(command, seconds), again
        self._failure = ""
        self._condition = threading.Condition()
        self._wanted: dict[str, str] = {}
        self._shown: dict[str, str] = {}
        # Started with the first state, so that a device without such a program has no thread for it.
        self._thread: threading.Thread | None = None

    def show(self, state: Mapping[str, Any]) -> None:
        """Pass a state of `DeliveryWorker.state`: its word (``ok`` without a problem), step, and how many events wait."""
        self._want(str(state["problem"] or OK).replace(" ", "-"), str(state["step"]), int(state["waiting"]))

    def end(self) -> None:
        """Pass that the hook has ended; a program that hangs is killed."""
        self._want(DOWN, "", 0)
        with self._condition:
            # systemd kills a unit that does not stop in time; a program that hangs must not delay that of the hook.
            is_shown = self._condition.wait_for(lambda: self._shown == self._wanted, END_SECONDS)
        if not is_shown:
            self._program.kill()

    def _want(self, word: str, step: str, waiting: int) -> None:
        if not self._program.command:
            return
        with self._condition:
            # Not for a different number of waiting events: a storm would start it a thousand times.
            if self._wanted.get("DEVICE_UI_MAIL_STATE") == word and self._wanted.get("DEVICE_UI_MAIL_STEP") == step:
                return
            self._wanted = {
                "DEVICE_UI_MAIL_STATE": word,
                "DEVICE_UI_MAIL_STEP": step,
                "DEVICE_UI_MAIL_WAITING": str(waiting),
            }
            self._begin()
            self._condition.notify_all()

    def _begin(self) -> None:
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._work, name="state command", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system gives no thread (TasksMax)
            log.error("%s was not run: %s", self._program.command, error)
            self._wanted = {}  # so that the next state is passed though it is the same
            return
        self._thread = thread

    def _work(self) -> None:
        while True:
            with self._condition:
                again = self._again if self._failure else None
                self._condition.wait_for(lambda: self._shown != self._wanted, again)
                wanted = self._wanted
            failure = self._program.run(wanted)
            if failure and failure != self._failure:  # logged once, not with every try
                log.error("%s %s", self._program.command, failure)
            self._failure = failure
            with self._condition:
                self._shown = wanted
                self._condition.notify_all()
