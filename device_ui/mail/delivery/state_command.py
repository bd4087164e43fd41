"""Run the maker's program when the state of the mail path changes: it may light an LED or switch a relay.

It runs when the state changes and when the hook starts or ends, as the hook's user, without a shell, one at a time. A
failed run is repeated after a minute until it succeeds. Its environment holds the values of `show` alone: no text that a
mail server chose.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subprocess import Popen

log = logging.getLogger(__name__)

# Seconds that the program may take; that the end of the hook waits for it; after which a failed one runs again.
RUN_SECONDS, END_SECONDS, AGAIN_SECONDS = 10.0, 3.0, 60.0
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
OK, DOWN = "ok", "down"


class StateCommand:
    """Runs `command` (a path; ``""``: nothing) with each new state. Only `end` waits for it.

    After `seconds` it is killed, with all that it started. After a failure it runs again `again` seconds later.
    """

    def __init__(self, command: str, seconds: float = RUN_SECONDS, again: float = AGAIN_SECONDS) -> None:
        self._command, self._seconds, self._again = command, seconds, again
        self._failure = ""
        self._condition = threading.Condition()
        self._wanted: dict[str, str] = {}
        self._shown: dict[str, str] = {}
        # Started with the first state, so that a device without such a program has no thread for it.
        self._thread: threading.Thread | None = None
        self._program: Popen[bytes] | None = None

    def show(self, state: Mapping[str, Any]) -> None:
        """Pass a state of `DeliveryWorker.state`: its word (``ok`` without a problem), step, and how many events wait."""
        self._want(str(state["problem"] or OK).replace(" ", "-"), str(state["step"]), int(state["waiting"]))

    def end(self) -> None:
        """Pass that the hook has ended; a program that hangs is killed."""
        self._want(DOWN, "", 0)
        with self._condition:
            # systemd kills a unit that does not stop in time; a program that hangs must not delay that of the hook.
            is_shown = self._condition.wait_for(lambda: self._shown == self._wanted, END_SECONDS)
        if not is_shown and self._program:
            _kill(self._program)

    def _want(self, word: str, step: str, waiting: int) -> None:
        if not self._command:
            return
        with self._condition:
            # Not for a different number of waiting events: a storm would start it a thousand times.
            if self._wanted.get("DEVICE_UI_MAIL_STATE") == word and self._wanted.get("DEVICE_UI_MAIL_STEP") == step:
                return
            self._wanted = {
                "PATH": PATH,
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
            log.error("%s was not run: %s", self._command, error)
            self._wanted = {}  # so that the next state is passed though it is the same
            return
        self._thread = thread

    def _work(self) -> None:
        while True:
            with self._condition:
                again = self._again if self._failure else None
                self._condition.wait_for(lambda: self._shown != self._wanted, again)
                wanted = self._wanted
            failure = self._run(wanted)
            if failure and failure != self._failure:  # logged once, not with every try
                log.error("%s %s", self._command, failure)
            self._failure = failure
            with self._condition:
                self._shown = wanted
                self._condition.notify_all()

    def _run(self, environment: Mapping[str, str]) -> str:
        """Run the program once. Return why it failed, ``""`` when it did not."""
        # Imported here: most devices have no such program.
        import subprocess

        try:
            self._program = self._started(environment)
            try:
                ended = self._program.wait(self._seconds)
            except subprocess.TimeoutExpired:
                _kill(self._program)
                self._program.wait()
                return f"did not end within {self._seconds:g} s and was killed"
        except OSError as error:
            return f"could not be run: {error.strerror}"
        return f"ended with {ended}" if ended else ""

    def _started(self, environment: Mapping[str, str]) -> Popen[bytes]:
        from subprocess import DEVNULL, Popen

        return Popen(
            [self._command],
            # No variable of this process: CREDENTIALS_DIRECTORY is the folder of the private key.
            env=environment,
            cwd="/",
            # Its output could fill the journal; its input would be the hook's.
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=DEVNULL,
            start_new_session=True,  # so that it can be killed with what it started
        )


def _kill(program: Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):  # it may end by itself just now
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
