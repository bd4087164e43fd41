"""How callers reach the mail hook: the firmware's Python, the command line and the web process. Standard library only.

One line of JSON goes out and one comes back. Nothing here waits for the network: the hook answers as soon as the
event is on flash. `HookError.word` says what went wrong: ``down`` (nobody answers), ``denied``, ``bad-request``,
``not-stored`` (the flash does not take it), ``busy``.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from device_ui.errors import HookError

# Seconds that the hook has for an answer: a commit on slow flash may take one, never ten.
ANSWER_SECONDS = 10.0
ANSWER_MAXIMUM = 1024 * 1024
# sun_path holds 108 bytes with its NUL (unix(7)).
SUN_PATH_MAXIMUM = 107


def raise_event(path: Path, code: str, text: str = "", source: str = "", time: str = "") -> int:
    """Raise an event; its number, once it is on flash. `time` is RFC 3339, empty for now. Raises `HookError`."""
    request = {"do": "event", "code": code, "text": text, "source": source, "time": time}
    return int(ask(path, request)["accepted"])


def settings_changed(path: Path) -> None:
    """Tell the hook that the settings are new, so that what waits goes out now. Raises `HookError`."""
    ask(path, {"do": "settings-changed"}, seconds=2.0)


def state(path: Path) -> Mapping[str, Any]:
    """How the mail path is: ``problem`` (a word, ``""`` when well), ``step``, ``reply``, ``waiting``. Raises `HookError`."""
    answer: Mapping[str, Any] = ask(path, {"do": "state"}, seconds=2.0)["state"]
    return answer


def ask(path: Path, request: Mapping[str, Any], seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
    """Send one request to the hook's socket and read its answer. Raises `HookError`."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(seconds)
            with reachable(path) as address:
                sock.connect(address)
            sock.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(_line(sock))
    except OSError as error:
        raise HookError("down", f"the mail hook does not answer: {error.strerror or error}") from error
    except ValueError as error:
        raise HookError("down", "the mail hook went away before it answered") from error
    if "error" in answer:
        raise HookError(str(answer["error"]), str(answer.get("reason", "")))
    return dict(answer)


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """An address for this socket that fits `sun_path`, however deep its folder lies."""
    if len(os.fsencode(path)) <= SUN_PATH_MAXIMUM:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _line(sock: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < ANSWER_MAXIMUM:
        chunk = sock.recv(65536)
        if not chunk:
            break
        line += chunk
    return line
