"""How callers reach the mail hook: the firmware's Python, the command line and the web process. Standard library only.

One line of JSON goes out; one comes back, or several whose last says that it is. Nothing but `test` waits for the
network: the hook answers as soon as the event is on flash. `HookError.word` says what went wrong: ``down`` (nobody
answers), ``denied``, ``bad-request``, ``not-stored`` (the flash does not take it), ``unset`` (no settings are stored),
``busy`` (another test runs), ``too-many`` (tests one after another), ``too-many-logins`` (that a server refused).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time as clock

from device_ui.errors import HookError

# Without typing and pathlib `device-ui event` starts in two thirds of the time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Any

# Seconds that the hook has for an answer: a commit on slow flash may take one, never ten.
ANSWER_SECONDS = 10.0
ANSWER_MAXIMUM = 1024 * 1024
# Bytes of an answer of several lines that its reader keeps whole: 50 of the longest events with what became of each for 20
# recipients, or 1,000 codes with the longest descriptions. A short line takes about so many bytes of memory all the same.
ANSWERS_MAXIMUM, LINE_LEAST = 16 * 1024 * 1024, 1024
# Seconds that a page or the console waits: neither may hang on a hook that does.
SHORT_SECONDS = 2.0
# A test has 60 s for the mail server, and some for what it looks up beside.
TEST_SECONDS = 75.0
# What the last line of several holds.
LAST = frozenset({"end", "result"})
# Seconds until a caller knocks again at a socket whose queue is full.
CONNECT_AGAIN = 0.01
# The hook keeps fewer characters than these and marks the cut; no more need travel.
TEXT_SENT, SOURCE_SENT = 10_000, 200
# sun_path holds 108 bytes with its NUL (unix(7)).
SUN_PATH_MAXIMUM = 107


def raise_event(
    path: Path | str, code: str, text: str = "", source: str = "", time: str = "", *, seconds: float = ANSWER_SECONDS
) -> int:
    """Raise an event; its number, once it is on flash. `time` is RFC 3339, empty for now. Raises `HookError`."""
    request = {"do": "event", "code": code, "text": text[:TEXT_SENT], "source": source[:SOURCE_SENT], "time": time}
    return int(_expected(ask(path, request, seconds), "accepted", int))


def settings_changed(path: Path | str, revision: str = "", by: str = "", *, seconds: float = SHORT_SECONDS) -> None:
    """Tell the hook that the settings are new, so that what waits goes out now. Raises `HookError`.

    `by` is the address of the network that `revision` was saved from, if known: an announcement tells it.
    """
    told = {"revision": revision, "by": by} if by else {}
    _expected(ask(path, {"do": "settings-changed", **told}, seconds), "ok", bool)


def state(path: Path | str, *, seconds: float = SHORT_SECONDS) -> Mapping[str, Any]:
    """How the mail path is. Raises `HookError`.

    ``problem`` (a word, ``""`` when well), ``step``, ``reply``, ``waiting`` (a count), and ``set_aside``: the name of a
    damaged ledger that the hook found when it started, ``""`` when it found none.
    """
    answer: Mapping[str, Any] = _expected(ask(path, {"do": "state"}, seconds), "state", dict)
    return answer


def history(
    path: Path | str, query: Mapping[str, Any], *, seconds: float = ANSWER_SECONDS, most: int | None = None
) -> Iterator[Mapping[str, Any]]:
    """What became of events: ``{"event": …}`` line by line, then ``{"end": …}``. Raises `HookError`.

    `query` may hold ``from``, ``to`` (dates), ``type``, ``code``, ``sort``, ``descending``, ``offset``, ``limit`` (0: all);
    `seconds` are for each line; `most` bytes may come in all (None: any number, for a reader that keeps none of them).
    """
    return lines(path, {**query, "do": "history"}, seconds, most)


def kinds(path: Path | str, *, seconds: float = SHORT_SECONDS) -> Iterator[Mapping[str, Any]]:
    """The catalogue: ``{"kind": …}`` line by line, then ``{"end": {"problem": …}}``. Raises `HookError`."""
    return lines(path, {"do": "catalog"}, seconds)


def content(path: Path | str, code: str, *, seconds: float = SHORT_SECONDS) -> Mapping[str, Any]:
    """The mail that this code sends: ``subject``, ``from``, ``to``, ``date``, ``headers``, ``text``, ``html``. Raises `HookError`."""
    answer: Mapping[str, Any] = _expected(ask(path, {"do": "content", "code": code}, seconds), "content", dict)
    return answer


def test(
    path: Path | str,
    settings: Mapping[str, Any] | None = None,
    to: Sequence[str] = (),
    *,
    seconds: float = TEST_SECONDS,
) -> Iterator[Mapping[str, Any]]:
    """Send a test mail: ``{"step": …}`` as each step is passed, then ``{"result": …}``. Raises `HookError`.

    `settings` are the tab's fields with the password ``sealed``, None for the stored ones; `to` addresses, none for the
    device's recipients.
    """
    request: dict[str, Any] = {"do": "test"}
    if settings is not None:
        request["settings"] = dict(settings)
    if to:
        request["to"] = list(to)
    return lines(path, request, seconds)


def is_answering(path: Path | str) -> bool:
    """Whether a hook listens at this socket."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock, reachable(path) as address:
            sock.settimeout(SHORT_SECONDS)
            sock.connect(address)
    except BlockingIOError:  # as many callers wait as the hook lets wait
        return True
    except OSError:
        return False
    return True


def ask(path: Path | str, request: Mapping[str, Any], seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
    """Send one request to the hook's socket and read its answer, both within `seconds`. Raises `HookError`."""
    with contextlib.closing(_answers(path, request, clock.monotonic() + seconds)) as answers:
        return next(answers)


def lines(
    path: Path | str, request: Mapping[str, Any], seconds: float, most: int | None = ANSWERS_MAXIMUM
) -> Iterator[dict[str, Any]]:
    """The same for an answer of several lines, each within `seconds`, up to the one that says that it is the last; of `most`
    bytes in all, if not None."""
    for answer in _answers(path, request, None, seconds, most):
        yield answer
        if LAST & set(answer):
            return


def _answers(
    path: Path | str,
    request: Mapping[str, Any],
    end: float | None,
    seconds: float = ANSWER_SECONDS,
    most: int | None = None,
) -> Generator[dict[str, Any], None, None]:
    """Every line that the hook says to a request: all until `end` (monotonic), or each within `seconds`."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(seconds if end is None else max(0.001, end - clock.monotonic()))
            _connect(sock, path, clock.monotonic() + seconds if end is None else end)
            sock.sendall(json.dumps(request, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            rest, taken = b"", 0
            while True:
                line, rest = _line(sock, rest, clock.monotonic() + seconds if end is None else end)
                taken += max(len(line), LINE_LEAST)
                if most is not None and taken > most:
                    raise HookError("down", "the mail hook's answer is too long")
                yield _understood(line)
    except OSError as error:
        raise HookError("down", f"the mail hook does not answer: {error.strerror or error}") from error


def _connect(sock: socket.socket, path: Path | str, end: float) -> None:
    """Connect until `end`: where too many callers wait already, Linux says so at once instead of waiting (unix(7))."""
    with reachable(path) as address:
        while True:
            try:
                sock.connect(address)
                return
            except BlockingIOError:
                if clock.monotonic() + CONNECT_AGAIN >= end:
                    raise
                clock.sleep(CONNECT_AGAIN)


def _understood(line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise HookError("down", "the mail hook went away before it answered") from error
    if not isinstance(answer, dict):
        raise HookError("down", "the mail hook's answer is not understood")
    if "error" in answer:
        seconds = answer.get("seconds")
        wait = seconds if isinstance(seconds, int) else 0
        raise HookError(str(answer["error"]), str(answer.get("reason", "")), wait)
    return answer


@contextlib.contextmanager
def reachable(path: Path | str) -> Iterator[str]:
    """An address for this socket that fits `sun_path`, however deep its folder lies."""
    if len(os.fsencode(path)) <= SUN_PATH_MAXIMUM:
        yield str(path)
        return
    parent, name = os.path.split(path)
    folder = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{name}"
    finally:
        os.close(folder)


def _expected(answer: Mapping[str, Any], name: str, kind: type) -> Any:
    if not isinstance(answer.get(name), kind):
        raise HookError("down", "the mail hook's answer is not understood")
    return answer[name]


def _line(sock: socket.socket, rest: bytes, end: float) -> tuple[bytes, bytes]:
    """One line, and what came after it; less than a line when the hook closed."""
    while b"\n" not in rest and len(rest) < ANSWER_MAXIMUM:
        # The time-out of a socket is for each read: an answer that drips must not take for ever.
        left = end - clock.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        sock.settimeout(left)
        chunk = sock.recv(65536)
        if not chunk:
            break
        rest += chunk
    line, _, rest = rest.partition(b"\n")
    return line, rest
