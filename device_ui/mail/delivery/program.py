"""Run a program of the maker: as the hook's user, without a shell, within a time limit, one run at a time.

Its environment holds what the caller gives and nothing else; its output goes nowhere.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subprocess import Popen

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class Program:
    """A program at the path `command`. After `seconds` it is killed, with all that it started."""

    def __init__(self, command: str, seconds: float) -> None:
        self.command, self._seconds = command, seconds
        self._running: Popen[bytes] | None = None

    def run(self, environment: Mapping[str, str], given: bytes = b"") -> str:
        """Run it once with `given` on its standard input. Return why it failed, ``""`` when it exited with 0."""
        # Imported here: most devices have no such program.
        from subprocess import TimeoutExpired

        try:
            with self._started({"PATH": PATH, **environment}, has_input=bool(given)) as running:
                self._running = running
                try:
                    running.communicate(given or None, self._seconds)
                except TimeoutExpired:
                    _kill(running)
                    return f"did not end within {self._seconds:g} s and was killed"
        except OSError as error:
            return f"could not be run: {error.strerror}"
        ended = running.returncode
        return f"ended with {ended}" if ended else ""

    def kill(self) -> None:
        """Kill a run under way."""
        if self._running:
            _kill(self._running)

    def _started(self, environment: Mapping[str, str], *, has_input: bool) -> Popen[bytes]:
        from subprocess import DEVNULL, PIPE, Popen

        return Popen(
            [self.command],
            # No variable of this process: CREDENTIALS_DIRECTORY is the folder of the private key.
            env=environment,
            cwd="/",
            stdin=PIPE if has_input else DEVNULL,
            # It could fill the journal.
            stdout=DEVNULL,
            stderr=DEVNULL,
            start_new_session=True,  # so that it can be killed with what it started
        )


def _kill(program: Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):  # it may end by itself just now
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
