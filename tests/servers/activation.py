"""What systemd does for a socket: holds it open, and starts the process whenever somebody knocks and none is running."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

# sd_listen_fds(3): descriptor 3, and LISTEN_PID, which only the process itself knows.
HANDED = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid())); "
)


class Activated:
    """A listening socket, and the Python program `code` that is started for it, again and again, until leaving."""

    def __init__(self, listener: socket.socket, code: str, environment: Mapping[str, str], log: Path) -> None:
        self._words = [sys.executable, "-c", HANDED + code, str(listener.fileno())]
        self._listener, self._environment, self._log = listener, environment, log
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        # The process that is running now, and the exit codes of those that ended.
        self.process: subprocess.Popen[bytes] | None = None
        self.codes: list[int] = []

    def __enter__(self) -> Activated:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if process := self.process:
            process.terminate()
        self._thread.join(20)
        self._listener.close()

    @property
    def log(self) -> str:
        """What all of them wrote."""
        return self._log.read_text()

    def _watch(self) -> None:
        while not self._stopping.is_set():
            if select.select([self._listener], [], [], 0.02)[0]:
                self._serve()

    def _serve(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._words,
                env={**os.environ, **self._environment},
                pass_fds=[self._listener.fileno()],
                stdout=log,
                stderr=log,
            )
        while not self._stopping.is_set() and self.process.poll() is None:
            self._stopping.wait(0.01)
        self.process.terminate()
        self.codes.append(self.process.wait(60))
        self.process = None
