"""How callers reach the mail hook: the firmware's Python, the command line and the web process. Standard library only.

One line of JSON goes out and one comes back. Nothing here waits for the network: the hook answers as soon as the
event is on flash. `HookError.word` says what went wrong: ``down`` (nobody answers), ``denied``, ``bad-request``,
``not-stored`` (the flash does not take it).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time as clock
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from device_ui.errors import HookError

# Seconds that the hook has for an answer: a commit on slow flash may take one, never ten.
ANSWER_SECONDS = 10.0
ANSWER_MAXIMUM = 1024 * 1024
# Seconds that a page or the console waits: neither may hang on a hook that does.
SHORT_SECONDS = 2.0
# The hook keeps fewer characters than these and marks the cut; no more need travel.
TEXT_SENT, SOURCE_SENT = 10_000, 200
# sun_path holds 108 bytes with its NUL (unix(7)).
SUN_PATH_MAXIMUM = 107


def raise_event(
    path: Path, code: str, text: str = "", source: str = "", time: str = "", *, seconds: float = ANSWER_SECONDS
) -> int:
    """Raise an event; its number, once it is on flash. `time` is RFC 3339, empty for now. Raises `HookError`."""
    request = {"do": "event", "code": code, "text": text[:TEXT_SENT], "source": source[:SOURCE_SENT], "time": time}
    return int(_expected(ask(path, request, seconds), "accepted", int))


def settings_changed(path: Path, *, seconds: float = SHORT_SECONDS) -> None:
    """Tell the hook that the settings are new, so that what waits goes out now. Raises `HookError`."""
    _expected(ask(path, {"do": "settings-changed"}, seconds), "ok", bool)


def state(path: Path, *, seconds: float = SHORT_SECONDS) -> Mapping[str, Any]:
    """How the mail path is. Raises `HookError`.

    ``problem`` (a word, ``""`` when well), ``step``, ``reply``, ``waiting`` (a count), and ``set_aside``: the name of a
    damaged ledger that the hook found when it started, ``""`` when it found none.
    """
    answer: Mapping[str, Any] = _expected(ask(path, {"do": "state"}, seconds), "state", dict)
    return answer


def ask(path: Path, request: Mapping[str, Any], seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
    """Send one request to the hook's socket and read its answer, both within `seconds`. Raises `HookError`."""
    end = clock.monotonic() + seconds
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(seconds)
            with reachable(path) as address:
                sock.connect(address)
            sock.sendall(json.dumps(request, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            answer = json.loads(_line(sock, end))
    except OSError as error:
        raise HookError("down", f"the mail hook does not answer: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise HookError("down", "the mail hook went away before it answered") from error
    if not isinstance(answer, dict):
        raise HookError("down", "the mail hook's answer is not understood")
    if "error" in answer:
        raise HookError(str(answer["error"]), str(answer.get("reason", "")))
    return answer


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


def _expected(answer: Mapping[str, Any], name: str, kind: type) -> Any:
    if not isinstance(answer.get(name), kind):
        raise HookError("down", "the mail hook's answer is not understood")
    return answer[name]


def _line(sock: socket.socket, end: float) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < ANSWER_MAXIMUM:
        # The time-out of a socket is for each read: an answer that drips must not take for ever.
        left = end - clock.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        sock.settimeout(left)
        chunk = sock.recv(65536)
        if not chunk:
            break
        line += chunk
    return line
