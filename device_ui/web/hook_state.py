"""How the mail path is, as the hook told last, for as long as the hook says that it stands.

A page that asks anew each time waits for another process each time. The hook keeps the connection on which it told the
state until that state is another one, and the kernel ends it with the hook; so what no end has come for is true. A hook
that hangs is noticed by being asked again every so often.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from device_ui.mail import client

# Seconds for which a hook that says nothing is taken to be alive.
ALIVE_SECONDS = 1.0


class Following:
    """The state that the hook at `path` tells. Any thread may call; `clock` is monotonic, in seconds."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._lock = threading.Lock()
        self._state: Mapping[str, Any] = {}
        self._asked = 0.0
        self._sock: socket.socket | None = None

    def __del__(self) -> None:
        self._forget()

    def state(self) -> Mapping[str, Any]:
        """As `client.state`, and as true. Raises `HookError`."""
        if not self._lock.acquire(blocking=False):  # another page asks, and may have to wait for long
            return client.state(self._path)
        try:
            if not self._stands():
                self._forget()
                self._asked = self._clock()
                self._state, self._sock = client.follow(self._path)
            return self._state
        finally:
            self._lock.release()

    def _stands(self) -> bool:
        if self._sock is None or self._clock() - self._asked >= ALIVE_SECONDS:
            return False
        try:
            self._sock.recv(1)
        except BlockingIOError:  # no end has come
            return True
        except OSError:
            pass
        return False

    def _forget(self) -> None:
        if self._sock is not None:
            self._sock.close()
        self._sock = None
