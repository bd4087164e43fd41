"""The client of the mail hook, for the firmware's Python, the command line and the web process. Standard library only.

A request is one line of JSON; the answer is one line, or several of which the last is marked. Only `test` waits for the
network; an event is answered as soon as it is on flash. Errors are a `HookError` with one of these words: ``down`` (no
answer), ``denied``, ``bad-request``, ``not-stored`` (by the flash), ``unset`` (no settings are stored), ``busy`` (a test is
running), ``too-many`` (tests), ``too-many-logins`` (refused by a server), ``exhausted`` (no thread), ``password`` (it cannot
be opened), ``gone``, ``waiting``, ``not-waiting``, ``not-mailed`` (an event that cannot be sent again or tried now), ``held``
(no mail is tried until a problem is solved), ``no-token`` (OAuth 2.0), ``fault`` (of the hook).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time as clock

from device_ui.errors import HookError, Message, Text, from_json

# Without typing and pathlib `device-ui event` starts in two thirds of the time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Any

# Seconds that the hook has for an answer: a commit on slow flash may take one, never ten.
ANSWER_SECONDS = 10.0
# Bytes of one line: the reader is a web process with 64 MiB, and the hook may have been taken over.
ANSWER_MAXIMUM = 1024 * 1024
# Bytes of a long answer that its reader keeps in memory: 50 of the longest events with results for 20 recipients, or 1,000
# codes with the longest descriptions; and the bytes of memory that a short line takes.
ANSWERS_MAXIMUM, LINE_LEAST = 16 * 1024 * 1024, 1024
# Seconds that a page or the console waits for a hook that hangs.
SHORT_SECONDS = 2.0
# A test has 60 s for the mail server, and some for its look-ups.
TEST_SECONDS = 75.0
# A token takes 30 s at most, for each of two keys while a certificate is replaced; so does making a key on a small processor.
TOKEN_SECONDS = 75.0
# The names in the last line of a long answer.
LAST = frozenset({"end", "result"})
# The source of settings that ``device-ui apply`` stored, in the place of a network address.
BY_APPLY = "apply"
# Seconds between two attempts to connect to a socket whose queue is full.
CONNECT_AGAIN = 0.01
# The hook stores fewer characters than these and marks the cut; more need not be sent. The C client sends as many.
TEXT_SENT, SOURCE_SENT = 10_001, 101
# sun_path holds 108 bytes with its NUL (unix(7)).
SUN_PATH_MAXIMUM = 107


def raise_event(
    path: Path | str, code: str, text: str = "", source: str = "", time: str = "", *, seconds: float = ANSWER_SECONDS
) -> int:
    """Raise an event. Return its number once it is on flash. `time` is RFC 3339, empty for now. Raises `HookError`."""
    # Cut here, not refused: no length is a reason to lose an event, and a line has 64 KiB at most.
    request = {"do": "event", "code": code, "text": text[:TEXT_SENT], "source": source[:SOURCE_SENT], "time": time}
    return int(_expected(ask(path, request, seconds), "accepted", int))


def settings_changed(path: Path | str, revision: str = "", by: str = "", *, seconds: float = SHORT_SECONDS) -> None:
    """Send the hook the message that the settings changed, so that it retries waiting mail now. Raises `HookError`.

    `by` is the network address that `revision` was saved from, or `BY_APPLY`, if known; the notice of a server change
    names it.
    """
    source = {"revision": revision, "by": by} if by else {}
    _expected(ask(path, {"do": "settings-changed", **source}, seconds), "ok", bool)


def opens(path: Path | str, settings: Mapping[str, Any], *, seconds: float = ANSWER_SECONDS) -> Text:
    """Return whether the sealed password of these settings opens: ``ok``, ``other-key``, or why not. Raises `HookError`.

    `settings` as those of `test`.
    """
    answer = ask(path, {"do": "opens", "settings": dict(settings)}, seconds).get("opens")
    return answer if isinstance(answer, Message) else str(answer)


def state(path: Path | str, *, seconds: float = SHORT_SECONDS) -> Mapping[str, Any]:
    """Return the state of the mail path. Raises `HookError`.

    ``problem`` (a word, ``""`` for none), ``step``, ``reply``, ``waiting`` (a count), and ``set_aside``: the name of a damaged
    database that the hook found at its start, ``""`` for none.
    """
    answer: Mapping[str, Any] = _expected(ask(path, {"do": "state"}, seconds), "state", dict)
    return answer


def metrics(path: Path | str, *, seconds: float = SHORT_SECONDS) -> Mapping[str, Any]:
    """Return the numbers for a monitoring system, by the names of `delivery.metrics`. Raises `HookError`."""
    answer: Mapping[str, Any] = _expected(ask(path, {"do": "metrics"}, seconds), "metrics", dict)
    return answer


def delivery(path: Path | str, *, seconds: float = SHORT_SECONDS) -> Mapping[str, Any]:
    """Return what was delivered last and what waits. Raises `HookError`.

    ``last``: ``mail`` (its number, 0 for none) and ``results``; ``waiting``: a count; ``since``: when the oldest of them came;
    ``next``: when they are tried, 0 for a time that is not known, None for no planned one; ``results``: the last one of each
    recipient; ``state``: as `state` returns it. A result has ``recipient``, ``verdict``, ``step``, ``reply`` and ``time``. Times
    are seconds since 1970.
    """
    answer: Mapping[str, Any] = _expected(ask(path, {"do": "delivery"}, seconds), "delivery", dict)
    return answer


def try_waiting(path: Path | str, by: str, *, seconds: float = SHORT_SECONDS) -> None:
    """Let the hook try waiting mail at once; `by` is the network address that asks. Raises `HookError` (``too-many``)."""
    _expected(ask(path, {"do": "try-waiting", "by": by}, seconds), "ok", bool)


def history(
    path: Path | str, query: Mapping[str, Any], *, seconds: float = ANSWER_SECONDS, bytes_maximum: int | None = None
) -> Iterator[Mapping[str, Any]]:
    """Return events and the results of their mails: ``{"event": …}`` line by line, then ``{"end": …}``. Raises `HookError`.

    `query` may hold ``from``, ``to`` (dates), ``type``, ``code``, ``outcome``, ``source``, ``text``, ``sort``, ``descending``,
    ``offset``, ``limit`` (0: all), ``bars`` (true: the end has the counts of a picture); `seconds` are for each line;
    `bytes_maximum` is the limit of bytes in all (None: for a reader that keeps none of them).
    """
    return lines(path, {**query, "do": "history"}, seconds, bytes_maximum)


def send_again(path: Path | str, number: int, by: str = "", *, seconds: float = ANSWER_SECONDS) -> int:
    """Send an event again. Return the number of the new mail once it is on flash. `by` as in `settings_changed`. Raises
    `HookError`.

    It goes to the recipients that the event did not reach yet; if it reached all of them, to all.
    """
    return int(_expected(ask(path, {"do": "send-again", "number": number, "by": by}, seconds), "accepted", int))


def try_event_now(path: Path | str, number: int, by: str = "", *, seconds: float = ANSWER_SECONDS) -> int:
    """Try the waiting mail of an event now, once the request is on flash. Return its number. Raises `HookError`."""
    return int(_expected(ask(path, {"do": "try-now", "number": number, "by": by}, seconds), "accepted", int))


def kinds(path: Path | str, *, seconds: float = SHORT_SECONDS) -> Iterator[Mapping[str, Any]]:
    """Return the catalogue: ``{"kind": …}`` line by line, then ``{"end": {"problem": …}}``. Raises `HookError`."""
    return lines(path, {"do": "catalog"}, seconds)


def content(path: Path | str, code: str, count: int = 1, *, seconds: float = SHORT_SECONDS) -> Mapping[str, Any]:
    """Return the mail of this code, or of a digest of `count` of its events. Raises `HookError`.

    It has ``subject``, ``from``, ``to``, ``date``, ``headers``, ``text``, ``html``.
    """
    request = {"do": "content", "code": code, "count": count}
    answer: Mapping[str, Any] = _expected(ask(path, request, seconds), "content", dict)
    return answer


def test(
    path: Path | str,
    settings: Mapping[str, Any] | None = None,
    to: Sequence[str] = (),
    *,
    seconds: float = TEST_SECONDS,
) -> Iterator[Mapping[str, Any]]:
    """Send a test mail. Return ``{"step": …}`` after each step, then ``{"result": …}``. Raises `HookError`.

    `settings` are the tab's fields with the password ``sealed``, None for the stored ones; `to` addresses, none for the
    device's recipients.
    """
    request: dict[str, Any] = {"do": "test"}
    if settings is not None:
        request["settings"] = dict(settings)
    if to:
        request["to"] = list(to)
    return lines(path, request, seconds)


def sign_in(path: Path | str, action: str = "", *, seconds: float = SHORT_SECONDS) -> Mapping[str, Any]:
    """Return the state of the sign-in by OAuth 2.0 after an `action`: ``begin`` or ``cancel`` a device code. Raises `HookError`.

    ``grant``, ``person``, ``renewed`` (seconds since 1970, 0: never), ``ends`` (a day, ``""``: not known), ``is_fixed``
    (no renewal moves it), ``warning_days`` (the days before it at which an event warns), ``needs_mail`` (a sentence
    where it cannot be kept without), ``problem``, ``step``, ``reply``; and ``flow``: ``phase`` (see
    `mail.oauth.device_code.Phase`), ``code``, ``address``, ``seconds`` left.
    """
    request = {"do": "sign-in", "action": action}
    answer: Mapping[str, Any] = _expected(ask(path, request, seconds), "sign_in", dict)
    return answer


def certificates(path: Path | str, *, seconds: float = TOKEN_SECONDS) -> Sequence[Mapping[str, str]]:
    """Return the certificates that the device signs in with, the next one last; make the first. Raises `HookError`.

    Each has ``der`` (base64), ``sha256`` (hexadecimal) and ``ends`` (a day).
    """
    found: Sequence[Mapping[str, str]] = _expected(ask(path, {"do": "certificate"}, seconds), "certificates", list)
    return found


def token(path: Path | str, *, seconds: float = TOKEN_SECONDS) -> str:
    """Return an access token for the stored settings; for root and the hook's user alone. Raises `HookError`."""
    return str(_expected(ask(path, {"do": "token"}, seconds), "token", str))


def keep_alive(path: Path | str, *, seconds: float = TOKEN_SECONDS) -> None:
    """Renew or try the sign-in, if there is one, and warn of its end. Raises `HookError` when it has a problem."""
    _expected(ask(path, {"do": "keep-alive"}, seconds), "ok", bool)


def is_answering(path: Path | str) -> bool:
    """Return whether a hook listens at this socket."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock, reachable(path) as address:
            sock.settimeout(SHORT_SECONDS)
            sock.connect(address)
    except BlockingIOError:  # its queue is full
        return True
    except OSError:
        return False
    return True


def ask(path: Path | str, request: Mapping[str, Any], seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
    """Send one request and return its answer, both within `seconds`. Raises `HookError`."""
    # Closed at once: the generator holds the socket, and the hook has 64 connections.
    with contextlib.closing(_answers(path, request, clock.monotonic() + seconds)) as answers:
        return next(answers)


def lines(
    path: Path | str, request: Mapping[str, Any], seconds: float, bytes_maximum: int | None = ANSWERS_MAXIMUM
) -> Iterator[dict[str, Any]]:
    """Send one request and return the lines of a long answer, each within `seconds`, of `bytes_maximum` bytes in all if not None.

    Raises `HookError`.
    """
    for answer in _answers(path, request, None, seconds, bytes_maximum):
        yield answer
        # Only a marked line ends an answer: a hook that ends half-way is an error, and never a short history.
        if LAST & set(answer):
            return


def _answers(
    path: Path | str,
    request: Mapping[str, Any],
    end: float | None,
    seconds: float = ANSWER_SECONDS,
    bytes_maximum: int | None = None,
) -> Generator[dict[str, Any], None, None]:
    """Return the lines of an answer: all until `end` (monotonic seconds), or each within `seconds`."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            # A timeout of 0 would make the socket non-blocking.
            sock.settimeout(seconds if end is None else max(0.001, end - clock.monotonic()))
            _connect(sock, path, clock.monotonic() + seconds if end is None else end)
            # Not ensure_ascii: a Korean text would take twice the bytes. "replace": a lone surrogate is no UTF-8.
            sock.sendall(json.dumps(request, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            rest, taken = b"", 0
            while True:
                line, rest = _line(sock, rest, clock.monotonic() + seconds if end is None else end)
                # Each line becomes objects of some 1 KiB, however short it is.
                taken += max(len(line), LINE_LEAST)
                if bytes_maximum is not None and taken > bytes_maximum:
                    raise HookError("down", "the mail hook's answer is too long")
                yield _understood(line)
    except OSError as error:
        reason = Message(error.strerror or str(error))
        raise HookError("down", Message("the mail hook does not answer: {error}", error=reason)) from error


def _connect(sock: socket.socket, path: Path | str, end: float) -> None:
    """Connect until `end`: with a full queue, connect(2) of Linux fails at once instead of waiting (unix(7))."""
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
        answer = json.loads(line, object_hook=from_json)
    # A line without its end is no JSON: the hook ended while it wrote it.
    except (ValueError, RecursionError) as error:
        raise HookError("down", "the mail hook went away before it answered") from error
    if not isinstance(answer, dict):
        raise HookError("down", "the mail hook's answer is not understood")
    # An error may come at any line: the history is made while it is sent.
    if "error" in answer:
        seconds = answer.get("seconds")
        wait = seconds if isinstance(seconds, int) else 0
        raise HookError(str(answer["error"]), _text(answer.get("reason")), wait)
    return answer


@contextlib.contextmanager
def reachable(path: Path | str) -> Iterator[str]:
    """Return an address of this socket that fits `sun_path`, however long its path is."""
    if len(os.fsencode(path)) <= SUN_PATH_MAXIMUM:
        yield str(path)
        return
    # A data folder of a test or of `make run` may be deep. The kernel resolves the descriptor's link (proc(5)).
    parent, name = os.path.split(path)
    folder = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{name}"
    finally:
        os.close(folder)


def _text(given: object) -> Text:
    return given if isinstance(given, Message) else str(given or "")


def _expected(answer: Mapping[str, Any], name: str, kind: type) -> Any:
    # The hook is a different user: the web process and root check the form of what it says.
    if not isinstance(answer.get(name), kind):
        raise HookError("down", "the mail hook's answer is not understood")
    return answer[name]


def _line(sock: socket.socket, rest: bytes, end: float) -> tuple[bytes, bytes]:
    """Return one line, and the bytes after it; less than a line if the hook closed the connection."""
    while b"\n" not in rest and len(rest) < ANSWER_MAXIMUM:
        # The timeout of a socket is for each read: a slow answer must not take for ever.
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
