"""The hook's socket: one line in, one line out, whoever calls and whatever they send."""

from __future__ import annotations

import contextlib
import datetime
import grp
import json
import logging
import os
import pwd
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_ui.errors import NotStored, RequestError
from device_ui.mail import catalog
from device_ui.mail.clock import Clock
from device_ui.mail.events import DEVICE, Event
from device_ui.mail.ipc import protocol
from device_ui.mail.ipc.connection import CONNECTIONS_MAXIMUM, LONG_SECONDS, UNREAD_SECONDS, ClientConnections, listen
from device_ui.mail.ipc.peer_credentials import EVENT_ONLY, EVERYTHING, Peer, Permissions
from device_ui.mail.ipc.requests import RequestHandler, clean, parse_time
from device_ui.mail.ipc.server import IpcServer
from tests.helpers.product import wait_for

NOW = 1_800_000_000.25
SECONDS = 20.0
# Anything that answers can be told from silence by then.
QUIET_SECONDS = 0.2
ALARM = b'{"do": "event", "code": "303", "text": "full"}\n'


class Ledger:
    """What the hook needs of an outbox. `events` are those that are on flash; `commits` how many came at a time."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.commits: list[int] = []
        self.before: Callable[[], None] = lambda: None

    def accept(self, events: Sequence[Event], alone: Sequence[bool]) -> list[int]:
        self.before()
        self.commits.append(len(events))
        self.events += events
        return list(range(len(self.events) - len(events) + 1, len(self.events) + 1))


class Bell:
    """What the hook needs of a postman."""

    def __init__(self) -> None:
        self.woken = self.changed = 0
        self.failing: Exception | None = None
        self.word = "unset"
        self.before: Callable[[], None] = lambda: None

    def choose_singles(self, events: Sequence[Event]) -> list[bool]:
        return [False] * len(events)

    def add(self, events: Sequence[tuple[int, Event, bool]]) -> None:
        self.learned = events

    def wake(self) -> None:
        self.before()
        self.woken += 1

    def settings_changed(self, _revision: str = "", _by: str = "") -> None:
        self.changed += 1

    def state(self) -> dict[str, object]:
        if self.failing:
            raise self.failing
        return {"problem": self.word, "step": "", "reply": "", "waiting": 3}

    def decide(self, kind: catalog.Kind) -> tuple[bool, bool]:
        return kind.mail, False

    def try_waiting(self, _source: str) -> int:
        return 0

    def next_try(self, number: int = 0) -> float | None:
        return None


class Tester:
    """What the hook needs of a tester; `long` makes the lines of its answer."""

    def long(self) -> Iterator[Mapping[str, object] | None]:
        raise AssertionError("nobody asked for a test")

    def answer(self, request: Mapping[str, object], _user: int) -> Iterator[Mapping[str, object] | None]:
        return self.long()


class AnyCaller:
    """Permissions that let everybody ask for `may`."""

    def __init__(self, may: frozenset[str] = EVERYTHING) -> None:
        self.may, self.user = may, DEVICE

    def of(self, sock: socket.socket) -> Peer:
        return Peer(self.user, self.may)


class Door:
    """A hook on a socket of its own. `turn` it by hand, or `open` it to serve in a thread."""

    def __init__(self, path: Path, permissions: object, listener: socket.socket | None = None) -> None:
        self.path, self.ledger, self.bell, self.tester = path, Ledger(), Bell(), Tester()
        self.listener = listener or listen(path)
        self.clock = Clock(wall=lambda: NOW, boot=lambda: 5000.0, boot_id="boot", synchronized=lambda: False)
        requests = RequestHandler(
            self.ledger, catalog.built_in(), self.bell, self.tester, self.clock, lambda: self.hook.wake()
        )
        self.later = 0.0
        self.permissions = permissions
        self.callers = ClientConnections(self.listener, permissions, lambda: time.monotonic() + self.later)
        self.hook = IpcServer(self.callers, self.ledger, requests, self.bell)
        self._thread: threading.Thread | None = None
        self._callers: list[socket.socket] = []

    def open(self) -> Door:
        self._thread = threading.Thread(target=self.hook.serve)
        self._thread.start()
        return self

    def close(self) -> None:
        for caller in self._callers:
            caller.close()
        self.hook.stop()
        if self._thread:
            self._thread.join(SECONDS)
            assert not self._thread.is_alive()
        else:
            self.hook.serve()

    def call(self, sent: bytes = b"") -> socket.socket:
        """A caller who has said something."""
        caller = socket.socket(socket.AF_UNIX)
        self._callers.append(caller)
        caller.settimeout(SECONDS)
        caller.connect(str(self.path))
        caller.sendall(sent)
        return caller

    def ask(self, *lines: bytes) -> list[bytes]:
        """The answers to all lines of one caller, who closes the sending half."""
        caller = self.call(b"".join(lines))
        caller.shutdown(socket.SHUT_WR)
        return everything(caller).splitlines()

    def turns(self, count: int = 5) -> None:
        """Turn by hand. A hook that is told to stop always finds something to do, so that no turn waits for ever."""
        self.hook.stop()
        for _ in range(count):
            self.hook.turn()


def everything(caller: socket.socket) -> bytes:
    """All that comes until the hook closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := caller.recv(65536):
            received += chunk
    return received


def answer(caller: socket.socket) -> bytes:
    """One line."""
    line = b""
    while not line.endswith(b"\n"):
        line += caller.recv(1)
        assert line, "the hook closed"
    return line


@pytest.fixture
def closed_door(tmp_path):
    door = Door(tmp_path / "hook.sock", AnyCaller())
    yield door
    door.close()


@pytest.fixture
def door(closed_door):
    return closed_door.open()


@contextlib.contextmanager
def door_for(permissions: object) -> Iterator[Door]:
    """A served door in a folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        door = Door(Path(name, "hook.sock"), permissions).open()
        try:
            yield door
        finally:
            door.close()


# Two spellings


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"event 303", b"accepted 1"),
        (b"event 303 the log is full", b"accepted 1"),
        (b"event 303 the log is full\r", b"accepted 1"),
        (b"  event   303   the log is full  ", b"accepted 1"),
        (b'{"do": "event", "code": "303"}', b'{"accepted": 1}'),
        (b'  {"do": "event", "code": "303", "text": "x", "source": "y", "time": ""}', b'{"accepted": 1}'),
        (b'{"do": "event", "code": "303", "more": [1, {}]}', b'{"accepted": 1}'),
        (b'{"do": "state"}', b'{"state": {"problem": "unset", "step": "", "reply": "", "waiting": 3, "catalog": ""}}'),
        (b'{"do": "settings-changed"}', b'{"ok": true}'),
    ],
)
def test_a_line_that_is_understood(door, line, told):
    assert door.ask(line + b"\n") == [told]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"hello", b"unknown word"),
        (b"EVENT 303", b"unknown word"),
        (b"state", b"unknown word"),
        (b"events 303", b"unknown word"),
        (b"\xff\xfe\x00", b"unknown word"),
        (b"\x00", b"unknown word"),
        ("\u3000".encode(), b"unknown word"),
        (b"\x1c", b"unknown word"),
        (b"\xc2\xa0\x85", b"unknown word"),
        (b'"event"', b"unknown word"),
        (b"[1]", b"unknown word"),
        (b"event", b"a code has three digits"),
        (b"event 30", b"a code has three digits"),
        (b"event 3033", b"a code has three digits"),
        (b"event -30 text", b"a code has three digits"),
        (b"event 3.3 text", b"a code has three digits"),
        ("event ٣٠٣".encode(), b"a code has three digits"),
        ("event ３０３".encode(), b"a code has three digits"),
        (b"event 303\x00", b"a code has three digits"),
    ],
)
def test_words_that_are_not_understood(door, line, reason):
    assert door.ask(line + b"\n", b"event 303\n") == [b"error bad-request " + reason, b"accepted 1"]


WHEN = "a time is written as in RFC 3339, with a zone: 2026-11-23T14:03:22Z"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "this is no JSON"),
        ("{}}", "this is no JSON"),
        ("{'do': 'state'}", "this is no JSON"),
        ('{"do": "state"} {"do": "state"}', "this is no JSON"),
        ('{"do": ' + "[" * 10_000, "this is no JSON"),
        ('{"code": ' + "9" * 5000 + "}", "this is no JSON"),
        ("{}", "unknown word"),
        ('{"do": null}', "unknown word"),
        ('{"do": []}', "unknown word"),
        ('{"do": {"event": 1}}', "unknown word"),
        ('{"do": 303}', "unknown word"),
        ('{"do": 1e999}', "unknown word"),
        ('{"do": "factory-reset"}', "unknown word"),
        ('{"do": "event"}', "a code has three digits"),
        ('{"do": "event", "code": "303\\n"}', "a code has three digits"),
        ('{"do": "event", "code": 303}', "code, text, source and time are texts"),
        ('{"do": "event", "code": "303", "text": 1e400}', "code, text, source and time are texts"),
        ('{"do": "event", "code": "303", "text": null}', "code, text, source and time are texts"),
        ('{"do": "event", "code": "303", "source": ["a"]}', "code, text, source and time are texts"),
        ('{"do": "event", "code": "303", "time": 1790000000}', "code, text, source and time are texts"),
        ('{"do": "event", "code": "303", "time": "yesterday"}', WHEN),
    ],
    ids=range(21),
)
def test_json_that_is_not_understood(door, line, reason):
    first, second = door.ask(line.encode() + b"\n", ALARM)
    assert json.loads(first) == {"error": "bad-request", "reason": reason}
    assert second == b'{"accepted": 1}'


def test_json_of_as_many_levels_as_a_line_holds_is_refused(door):
    """The reason depends on the interpreter: Python 3.12 reads 1,000 levels, 3.14 as many as its stack holds."""
    first, second = door.ask(b'{"a": ' + b"[" * 30_000 + b"]" * 30_000 + b"}\n", ALARM)
    assert json.loads(first)["error"] == "bad-request"
    assert second == b'{"accepted": 1}'


def test_json_that_is_nested_too_deeply_to_be_read_is_refused():
    """More levels than the stack of 8 MiB holds, and so than any supported interpreter reads."""
    with pytest.raises(RequestError, match="this is no JSON"):
        protocol.from_json(b'{"a": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}")


def test_an_alarm_that_was_cut_within_a_character_is_still_an_alarm(door):
    assert door.ask(b'{"do": "event", "code": "303", "text": "\xff\xfe"}\n') == [b'{"accepted": 1}']


def test_json_that_is_no_utf8_is_an_alarm_all_the_same(door):
    """A text that was cut within a character, by firmware that counts bytes."""
    assert door.ask(b'{"do": "event", "code": "303", "text": "98 \xff\xe2\x82"}\n') == [b'{"accepted": 1}']
    assert door.ledger.events[0].text == "98 \ufffd\ufffd"


def test_a_request_that_is_no_object_is_told():
    with pytest.raises(RequestError, match="a request is a JSON object"):
        protocol.from_json(b"[1]")


# What is kept of an event


def test_an_event_by_words(door):
    door.ask("event 303 Prüfprotokoll  voll: 98 %\n".encode())
    assert door.ledger.events == [Event("303", "fault", NOW, NOW, "", "Prüfprotokoll  voll: 98 %")]


def test_an_event_by_json(door):
    request = {"do": "event", "code": "054", "text": "a\nb", "source": "sshd", "time": "2026-11-23T14:03:22+09:00"}
    door.ask(json.dumps(request).encode() + b"\n")
    assert door.ledger.events == [Event("054", "info", 1795410202.0, NOW, "sshd", "a\nb")]


@pytest.mark.parametrize("code", ["153", "306"])
def test_events_about_mail_are_kept_and_never_mailed(door, code):
    assert door.ask(f"event {code}\n".encode()) == [b"accepted 1"]
    assert not door.ledger.events[0].waiting


def test_an_unknown_code_is_a_fault_and_is_mailed(door):
    door.ask(b"event 999\n")
    assert (door.ledger.events[0].type, door.ledger.events[0].waiting) == ("fault", True)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ("경보 · ünï 😀", "경보 · ünï 😀"),
        ("a\r\nb\nc", "a\nb\nc"),
        ("a\rb", "a\ufffdb"),
        ("a\tb", "a b"),
        ("a\0b\x1b[31m\x7f\x80\x9f", "a\ufffdb\ufffd[31m\ufffd\ufffd\ufffd"),
        ("\ud800x\udfff", "?x?"),
        ("x" * 4000, "x" * 4000),
        ("x" * 4001, "x" * 3996 + " […]"),
        ("\U0001f600" * 4001, "\U0001f600" * 3996 + " […]"),
    ],
    ids=range(10),
)
def test_what_is_kept_of_a_text(door, text, kept):
    assert door.ask(json.dumps({"do": "event", "code": "303", "text": text}).encode() + b"\n") == [b'{"accepted": 1}']
    assert door.ledger.events[0].text == kept


def test_what_is_kept_of_a_source(door):
    request = {"do": "event", "code": "303", "source": "a\nb" + "x" * 100}
    door.ask(json.dumps(request).encode() + b"\n")
    assert door.ledger.events[0].source == "a b" + "x" * 93 + " […]"


@given(st.text(st.characters(), max_size=300), st.integers(10, 100))
def test_a_cleaned_text_is_short_and_has_no_control_characters(text, maximum):
    kept = clean(text, maximum)
    kept.encode()
    assert len(kept) <= maximum
    assert all(each == "\n" or (each >= " " and not "\x7f" <= each <= "\x9f") for each in kept)


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-23T14:03:22Z", "2026-11-23T14:03:22"),
        ("2026-11-23t14:03:22z", "2026-11-23T14:03:22"),
        ("2026-11-23 14:03:22+09:00", "2026-11-23T05:03:22"),
        ("2026-11-23T14:03:22-00:00", "2026-11-23T14:03:22"),
        ("2026-11-23T14:03:22.5Z", "2026-11-23T14:03:22.500000"),
        ("2026-11-23T14:03:22.123456789Z", "2026-11-23T14:03:22.123456"),
        ("2028-02-29T23:59:59+23:59", "2028-02-29T00:00:59"),
        ("1970-01-01T00:00:00+14:00", "1969-12-31T10:00:00"),
        ("9998-12-31T23:59:59-23:59", "9999-01-01T23:58:59"),
    ],
)
def test_a_time_with_its_zone(text, utc):
    expected = datetime.datetime.fromisoformat(utc).replace(tzinfo=datetime.UTC)
    assert parse_time(text) == expected.timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T14:03:22",
        "2026-11-23",
        "2026-11-23T14Z",
        "2026-11-23T14:03Z",
        "20261123T140322Z",
        "2026-W48-1T14:03:22Z",
        "2026-11-23T14:03:22,5Z",
        "2026-11-23T14:03:22.Z",
        "2026-11-23T14:03:22.1234567890Z",
        "2026-11-23T14:03:22+0900",
        "2026-11-23T14:03:22+09:00:30",
        "2026-11-23T14:03:22+24:00",
        "2026-11-23T14:03:22+09:60",
        "2026-11-23T14:03:60Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T14:60:22Z",
        "2026-02-29T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "9999-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        " 2026-11-23T14:03:22Z",
        "2026-11-23T14:03:22Z\n",
        "2026-11-23_14:03:22Z",
        "٢٠٢٦-11-23T14:03:22Z",
        "1790000000",
        "now",
        "Mon, 23 Nov 2026 14:03:22 +0000",
        "-2026-11-23T14:03:22Z",
        "Z" * 10_000,
    ],
)
def test_a_time_that_is_refused(text):
    with pytest.raises(RequestError, match="^a time is written as in RFC 3339, with a zone: 2026-11-23T14:03:22Z$"):
        parse_time(text)


# Accepted means: on flash


def test_accepted_is_said_only_after_the_commit(door):
    reached, go = threading.Event(), threading.Event()

    def wait() -> None:
        reached.set()
        assert go.wait(SECONDS)

    door.ledger.before = wait
    caller = door.call(b"event 303\n")
    assert reached.wait(SECONDS)
    caller.settimeout(QUIET_SECONDS)
    with pytest.raises(TimeoutError):
        caller.recv(1)
    go.set()
    caller.settimeout(SECONDS)
    assert answer(caller) == b"accepted 1\n"


def test_an_event_that_flash_does_not_take_is_told_and_nobody_is_woken(door, caplog):
    def full() -> None:
        raise NotStored(Path("ledger.sqlite3"), OSError(28, ""))

    door.ledger.before = full
    assert door.ask(b"event 303\n", ALARM) == [
        b"error not-stored No space left on device",
        b'{"error": "not-stored", "reason": "No space left on device"}',
    ]
    assert door.bell.woken == 0
    assert "2 events not accepted: No space left on device" in caplog.text


def test_the_postman_is_woken_for_an_event_and_for_nothing_else(door):
    door.ask(b'{"do": "state"}\n', b"nonsense\n", b"\n")
    assert door.bell.woken == 0
    door.ask(b"event 303\n")
    wait_for(lambda: door.bell.woken == 1, SECONDS, "the postman")


def test_every_caller_has_an_answer_before_the_postman_takes_the_processor(closed_door):
    callers, told = [closed_door.call(b"event 303\n") for _ in range(3)], []
    closed_door.bell.before = lambda: told.extend(each.recv(100, socket.MSG_DONTWAIT) for each in callers)
    closed_door.turns()
    assert (told, closed_door.bell.woken) == ([b"accepted 1\n", b"accepted 2\n", b"accepted 3\n"], 1)


def test_new_settings_reach_the_postman(door):
    door.ask(b'{"do": "settings-changed"}\n')
    assert door.bell.changed == 1


def test_a_state_that_cannot_be_told_is_an_error_and_no_crash(door):
    door.bell.failing = NotStored(Path("ledger.sqlite3"), OSError("disk I/O error"))
    assert door.ask(b'{"do": "state"}\n', ALARM) == [
        b'{"error": "not-stored", "reason": "disk I/O error"}',
        b'{"accepted": 1}',
    ]


STUMBLED = b'{"error": "fault", "reason": "the mail service had a fault; its log has the details"}'


def test_a_fault_in_one_request_is_told_and_ends_neither_the_hook_nor_the_connection(door, caplog):
    door.bell.failing = RuntimeError("ours")
    assert door.ask(b'{"do": "state"}\n', ALARM) == [STUMBLED, b'{"accepted": 1}']
    assert "request failed" in caplog.text
    assert "RuntimeError: ours" in caplog.text


def test_an_event_that_a_fault_keeps_from_flash_is_not_accepted(door):
    door.clock.stamp = None  # no event can be dated
    assert door.ask(ALARM, b"event 303 x\n") == [
        STUMBLED,
        b"error fault the mail service had a fault; its log has the details",
    ]
    assert door.ledger.events == []


# Lines and batches


def test_lines_of_one_caller_are_one_commit_and_answered_in_order(closed_door):
    caller = closed_door.call(b"event 303 a\nnonsense\n" + ALARM + b"\n\r\nevent 303 b\n")
    closed_door.turns()
    assert closed_door.ledger.commits == [3]
    assert caller.recv(4096).splitlines() == [
        b"accepted 1",
        b"error bad-request unknown word",
        b'{"accepted": 2}',
        b"accepted 3",
    ]
    assert [event.text for event in closed_door.ledger.events] == ["a", "full", "b"]


def test_lines_of_many_callers_share_a_commit(closed_door):
    callers = [closed_door.call() for _ in range(20)]
    closed_door.turns(21)
    for caller in callers:
        caller.sendall(b"event 303\n")
    closed_door.turns(1)
    assert closed_door.ledger.commits == [20]
    assert sorted(answer(caller) for caller in callers) == sorted(b"accepted %d\n" % n for n in range(1, 21))


def test_a_line_in_pieces_is_one_line(closed_door):
    caller = closed_door.call()
    for piece in (b"eve", b"nt 30", b"3 fu", b"ll\neve"):
        caller.sendall(piece)
        closed_door.turns(2)
    assert [event.text for event in closed_door.ledger.events] == ["full"]
    assert answer(caller) == b"accepted 1\n"


def test_half_a_line_is_not_answered(closed_door):
    caller = closed_door.call(b"event 303 ful")
    closed_door.turns()
    caller.setblocking(False)
    with pytest.raises(BlockingIOError):
        caller.recv(1)
    assert closed_door.ledger.events == []


def test_a_last_line_may_end_without_a_line_end(door):
    assert door.ask(b"event 303 a\nevent 303 b") == [b"accepted 1", b"accepted 2"]


def test_a_caller_may_ask_again_and_again(door):
    caller = door.call()
    for number in range(1, 6):
        caller.sendall(b"event 303\n")
        assert answer(caller) == b"accepted %d\n" % number


def test_a_caller_who_goes_before_the_answer_has_raised_the_event(door):
    door.call(b"event 303\n").close()
    wait_for(lambda: door.ledger.events, what="the event")
    assert door.ask(b"event 303\n") == [b"accepted 2"]


def test_a_caller_who_has_gone_is_forgotten(closed_door):
    caller = closed_door.call(b"event 303\n")
    closed_door.turns(2)
    caller.sendall(b"event 303\n")
    caller.close()
    closed_door.turns(2)
    assert closed_door.ledger.commits == [1, 1]
    assert list(closed_door.callers) == []


def test_the_longest_line_is_heard(door):
    line = b"event 303 " + b"x" * (64 * 1024 - 10)
    assert door.ask(line + b"\n") == [b"accepted 1"]
    assert door.ledger.events[0].text == "x" * 3996 + " […]"


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (b"event 303 ", b"error bad-request a line has 65536 bytes at most"),
        (b'{"do": "', b'{"error": "bad-request", "reason": "a line has 65536 bytes at most"}'),
    ],
)
def test_a_longer_line_is_refused_and_its_end_is_not_waited_for(door, start, told):
    caller = door.call(start + b"x" * (64 * 1024 + 1 - len(start)))
    assert everything(caller) == told + b"\n"
    assert door.ask(b"event 303\n") == [b"accepted 1"]


def test_a_longer_line_that_ends_is_refused_and_the_next_is_heard(closed_door):
    caller = closed_door.call(b"x" * (64 * 1024))
    closed_door.turns(6)
    caller.sendall(b"y\nevent 303\n")
    closed_door.turns(2)
    assert answer(caller) == b"error bad-request a line has 65536 bytes at most\n"
    assert answer(caller) == b"accepted 1\n"


def test_four_thousand_characters_fit_into_a_line_however_json_spells_them(door):
    """Python's json and many others write a Korean letter as six bytes, an emoji as twelve."""
    line = json.dumps({"do": "event", "code": "303", "text": "😀" * 4000, "source": "😀" * 100}).encode()
    assert door.ask(line + b"\n") == [b'{"accepted": 1}']
    assert door.ledger.events[0].text == "😀" * 4000


def test_a_caller_who_never_reads_is_dropped(closed_door):
    caller = closed_door.call()
    caller.setblocking(False)
    sent = 0
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while sent < 2_000_000:
            with contextlib.suppress(BlockingIOError):
                sent += caller.send(b"x\n" * 8000)
            closed_door.turns(1)


def test_a_last_line_is_answered_though_earlier_answers_were_unread_when_it_came(closed_door):
    caller = closed_door.call()
    closed_door.turns(1)
    (connection,) = closed_door.callers
    while not connection.events & selectors.EVENT_WRITE:
        caller.sendall(b"x\n" * 500)
        closed_door.turns(1)
    caller.sendall(ALARM.rstrip())
    closed_door.turns(1)
    caller.setblocking(False)
    received = b""
    caller.shutdown(socket.SHUT_WR)
    with contextlib.suppress(BlockingIOError):
        while True:
            received += caller.recv(1 << 20)
    closed_door.turns()
    caller.settimeout(SECONDS)
    assert (received + everything(caller)).endswith(b'\n{"accepted": 1}\n')


def test_one_who_reads_late_gets_all_the_same(door):
    caller = door.call(b"event 303\n" * 2000)
    wait_for(lambda: len(door.ledger.events) == 2000, what="2000 events")
    assert [answer(caller) for _ in range(2000)] == [b"accepted %d\n" % number for number in range(1, 2001)]


def test_a_flood_does_not_silence_the_others(closed_door):
    """Each of the flood sends more than a turn takes, and came first."""
    flood = [closed_door.call() for _ in range(4)]
    honest = closed_door.call()
    closed_door.turns(6)
    honest.sendall(b"event 303\n")
    for _ in range(6):
        for caller in flood:
            caller.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                caller.sendall(b"x\n" * 2000)
            with contextlib.suppress(BlockingIOError):
                caller.recv(200_000)
        closed_door.turns(1)
    assert answer(honest) == b"accepted 1\n"


def test_a_turn_hears_so_much_and_no_more(closed_door):
    for _ in range(20):
        closed_door.call(b"event 303\n" * 1000)
    closed_door.turns(22)
    assert len(closed_door.ledger.commits) > 5
    assert max(closed_door.ledger.commits) <= 1000 + 16 * 1024 // 10
    closed_door.turns(20)
    assert len(closed_door.ledger.events) == 20_000


# Many callers


def test_idle_callers_do_not_keep_a_newcomer_out(door):
    idle = [door.call() for _ in range(64)]
    for _ in range(3):
        idle.append(door.call())
        assert door.ask(b"event 303\n")
    assert len(door.ledger.events) == 3


def test_whoever_was_silent_longest_has_to_leave(closed_door):
    callers = [closed_door.call() for _ in range(64)]
    closed_door.turns(64)
    callers[0].sendall(b"event 303\n")
    closed_door.turns(1)
    closed_door.call()
    closed_door.turns(1)
    assert answer(callers[0]) == b"accepted 1\n"
    callers[0].sendall(b"event 303\n")
    closed_door.turns(1)
    assert answer(callers[0]) == b"accepted 2\n"
    assert callers[1].recv(1) == b""
    assert len(closed_door.callers) == 64


class NoRoom(socket.socket):
    """A listener of a process that has no descriptor left, for a while."""

    errors: list[OSError]

    def accept(self):
        if self.errors:
            raise self.errors.pop()
        return super().accept()


@pytest.fixture
def crowded(tmp_path):
    made = listen(tmp_path / "hook.sock")
    listener = NoRoom(fileno=made.detach())
    listener.errors = []
    door = Door(tmp_path / "hook.sock", AnyCaller(), listener)
    yield door
    door.close()


def test_without_a_descriptor_left_the_quietest_makes_room(crowded, caplog):
    idle = crowded.call()
    crowded.turns(1)
    crowded.listener.errors = [OSError(24, "Too many open files")]
    newcomer = crowded.call(b"event 303\n")
    crowded.turns(3)
    assert answer(newcomer) == b"accepted 1\n"
    assert idle.recv(1) == b""
    assert "connection not accepted: Too many open files" in caplog.text


def test_without_a_descriptor_and_without_callers_it_goes_on(crowded):
    crowded.listener.errors = [OSError(24, "Too many open files")]
    newcomer = crowded.call(b"event 303\n")
    crowded.turns(3)
    assert answer(newcomer) == b"accepted 1\n"


def test_a_caller_who_has_gone_already_is_no_loss(crowded, caplog):
    idle = crowded.call()
    crowded.turns(1)
    crowded.listener.errors = [BlockingIOError(11, "Resource temporarily unavailable")]
    crowded.call(b"event 303\n")
    crowded.turns(3)
    idle.sendall(b"event 303\n")
    crowded.turns(1)
    assert answer(idle) == b"accepted 2\n"
    assert caplog.text == ""


# Long answers


LONG = b'{"do": "test"}\n'


def numbered(count: int, text: str = "x" * 100) -> Callable[[], Iterator[Mapping[str, object] | None]]:
    """An answer of so many lines, and an end."""

    def lines() -> Iterator[Mapping[str, object] | None]:
        yield from ({"line": number, "text": text} for number in range(count))
        yield {"end": {}}

    return lines


def told(count: int) -> list[int | None]:
    """The numbers of such an answer's lines; the end has none."""
    return [*range(count), None]


def lines_of(caller: socket.socket, count: int) -> list[int | None]:
    """The numbers of so many lines and of an end."""
    return [json.loads(answer(caller)).get("line") for _ in range(count + 1)]


def test_a_long_answer_comes_whole(door):
    door.tester.long = numbered(3000)
    assert [json.loads(line).get("line") for line in door.ask(LONG)] == told(3000)


def test_a_long_answer_that_is_refused_says_for_how_long(door):
    def refused() -> Iterator[Mapping[str, object] | None]:
        yield {"line": 0}
        raise RequestError("too-many", "wait", 30)

    door.tester.long = refused
    assert [json.loads(line) for line in door.ask(LONG)] == [
        {"line": 0},
        {"error": "too-many", "reason": "wait", "seconds": 30},
    ]


def test_a_reader_who_takes_a_byte_at_a_time_gets_all_of_it(door):
    door.tester.long = numbered(200)
    assert lines_of(door.call(LONG), 200) == told(200)


def test_a_reader_who_does_not_read_makes_no_lines_and_holds_up_nobody(door):
    made = []

    def endless() -> Iterator[Mapping[str, object] | None]:
        while True:
            made.append(1)
            yield {"text": "x" * 1000}

    door.tester.long = endless
    door.call(LONG)
    wait_for(lambda: made, what="the first line")
    assert [door.ask(ALARM) for _ in range(100)] == [[b'{"accepted": %d}' % number] for number in range(1, 101)]
    before = len(made)
    assert before < 1000
    door.ask(ALARM)
    assert len(made) == before


@pytest.mark.parametrize("text", ["x" * 200_000, "😀" * 10_000], ids=["long", "emoji"])
def test_a_late_reader_of_very_long_lines_is_not_dropped(door, text):
    """A message of the system has 10,000 characters, and JSON may spell each with twelve bytes."""
    door.tester.long = numbered(20, text)
    caller = door.call(LONG)
    for _ in range(3):
        door.ask(ALARM)
    with caller.makefile("rb") as lines:
        assert [json.loads(lines.readline()).get("line") for _ in range(21)] == told(20)
    caller.sendall(ALARM)
    assert answer(caller) == b'{"accepted": 4}\n'


def test_a_reader_who_goes_away_ends_the_answer(door):
    over = threading.Event()

    def endless() -> Iterator[Mapping[str, object] | None]:
        try:
            while True:
                yield {"text": "x" * 1000}
        finally:
            over.set()

    door.tester.long = endless
    caller = door.call(LONG)
    assert answer(caller)
    caller.close()
    assert over.wait(SECONDS)
    assert door.ask(ALARM) == [b'{"accepted": 1}']


def test_what_is_asked_before_the_end_is_answered_after_it_and_in_order(door):
    door.tester.long = numbered(500)
    caller = door.call(LONG + b"event 303\nnonsense\n" + LONG + b"event 303\n")
    assert lines_of(caller, 500) == told(500)
    assert [answer(caller), answer(caller)] == [b"accepted 1\n", b"error bad-request unknown word\n"]
    assert lines_of(caller, 500) == told(500)
    assert answer(caller) == b"accepted 2\n"


def test_long_answers_one_after_the_other_need_nobody_to_go_on(door):
    door.tester.long = numbered(2)
    assert [json.loads(line).get("line") for line in door.ask(LONG * 5)] == told(2) * 5


def test_what_is_asked_while_an_answer_is_read_is_answered_after_it(door):
    door.tester.long = numbered(5000)
    caller = door.call(LONG)
    first = answer(caller)
    caller.sendall(ALARM)
    rest = [answer(caller) for _ in range(5001)]
    assert json.loads(first)["line"] == 0
    assert rest[-1] == b'{"accepted": 1}\n'
    assert json.loads(rest[-2]) == {"end": {}}


def test_a_flash_that_fails_within_an_answer_is_told_and_the_caller_may_ask_on(door):
    def failing() -> Iterator[Mapping[str, object] | None]:
        yield {"line": 0}
        raise NotStored(Path("ledger.sqlite3"), OSError("disk I/O error"))

    door.tester.long = failing
    assert door.ask(LONG, ALARM) == [
        b'{"line": 0}',
        b'{"error": "not-stored", "reason": "disk I/O error"}',
        b'{"accepted": 1}',
    ]


def test_a_fault_within_an_answer_is_told_and_the_caller_may_ask_on(door, caplog):
    def failing() -> Iterator[Mapping[str, object] | None]:
        yield {"line": 0}
        raise RuntimeError("ours")

    door.tester.long = failing
    assert door.ask(LONG, ALARM) == [b'{"line": 0}', STUMBLED, b'{"accepted": 1}']
    assert "request failed" in caplog.text


class Pausing:
    """An answer whose second line comes when it is `given`, as a test's does."""

    def __init__(self, door: Door) -> None:
        self._door, self._given, self.looked = door, False, 0
        door.tester.long = self._lines

    def give(self) -> None:
        self._given = True
        self._door.hook.wake()

    def _lines(self) -> Iterator[Mapping[str, object] | None]:
        yield {"line": 0}
        while not self._given:
            self.looked += 1
            yield None
        yield {"end": {}}


@pytest.mark.parametrize("half", [False, True], ids=["open", "half"])
def test_an_answer_that_pauses_goes_on_when_it_can(door, half):
    pausing = Pausing(door)
    caller = door.call(LONG + ALARM)
    if half:
        caller.shutdown(socket.SHUT_WR)
    assert answer(caller) == b'{"line": 0}\n'
    assert door.ask(ALARM) == [b'{"accepted": 1}']
    pausing.give()
    assert [answer(caller), answer(caller)] == [b'{"end": {}}\n', b'{"accepted": 2}\n']


@pytest.mark.parametrize("half", [False, True], ids=["open", "half"])
def test_waiting_for_a_line_is_no_busy_loop(door, half):
    pausing = Pausing(door)
    caller = door.call(LONG)
    if half:
        caller.shutdown(socket.SHUT_WR)
    assert answer(caller) == b'{"line": 0}\n'
    wait_for(lambda: pausing.looked, what="the first look")
    before = time.process_time()
    threading.Event().wait(1)
    assert time.process_time() - before < 0.3
    assert pausing.looked < 10
    pausing.give()
    assert answer(caller) == b'{"end": {}}\n'


def test_whoever_leaves_while_an_answer_pauses_is_forgotten_at_the_next_line(door):
    pausing = Pausing(door)
    caller = door.call(LONG)
    assert answer(caller) == b'{"line": 0}\n'
    caller.close()
    pausing.give()
    wait_for(lambda: not door.callers, what="forgetting")
    assert door.ask(ALARM) == [b'{"accepted": 1}']


def test_sixty_four_long_answers_at_once_all_come_whole(door):
    door.tester.long = numbered(300)
    callers = [door.call(LONG) for _ in range(64)]
    for caller in callers:
        with caller.makefile("rb") as lines:
            assert [json.loads(lines.readline()).get("line") for _ in range(301)] == told(300)


def test_somebody_who_raises_an_alarm_gets_in_among_sixty_four_readers(door):
    door.tester.long = numbered(3000)
    for _ in range(64):
        door.call(LONG)
    assert door.ask(ALARM) == [b'{"accepted": 1}']


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=st.lists(st.sampled_from([LONG, b"event 303\n", b"nonsense\n", ALARM]), max_size=8), half=st.booleans())
def test_every_line_has_its_answer_whatever_comes_between(door, sent, half):
    door.tester.long = numbered(60)
    caller = door.call(b"".join(sent))
    if half:
        caller.shutdown(socket.SHUT_WR)
    for line in sent:
        if line == LONG:
            assert lines_of(caller, 60) == told(60)
        else:
            assert b"accepted" in answer(caller) or line == b"nonsense\n"
    caller.close()


# Anything at all


LINES = st.one_of(
    st.binary(max_size=80),
    st.sampled_from([b"event 303 text", ALARM.strip(), b'{"do": "state"}', b"{" * 500, b"[" * 500, b"x" * 70_000]),
    st.dictionaries(
        st.sampled_from(["do", "code", "text", "source", "time"]),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just("event")),
            lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
            max_leaves=5,
        ),
    ).map(lambda request: json.dumps(request).encode()),
    st.text(st.characters(), max_size=40).map(lambda text: b"event 303 " + text.encode("utf-8", "surrogatepass")),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINES, max_size=6), end=st.sampled_from([b"", b"\n", b"\r\n"]))
def test_whatever_is_sent_is_answered_or_closed_and_the_next_caller_served(door, lines, end):
    sent = b"\n".join(lines) + end
    caller = door.call()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        caller.sendall(sent)
        caller.shutdown(socket.SHUT_WR)
    answers = everything(caller).splitlines()
    caller.close()
    spoken = [line for line in sent.split(b"\n") if line.strip()]
    too_long = any(len(line) > 64 * 1024 for line in spoken)
    assert len(answers) == len(spoken) or (too_long and len(answers) <= len(spoken))
    for line in answers:
        assert line.startswith((b"accepted ", b"error ", b'{"'))
    assert door.ask(b"event 303\n")[0].startswith(b"accepted ")


# Who may ask what


GROUP = 65_432
STRANGER = 65_431
# uid_t -1 means "no user" (setuid(2)).
HIGHEST_USER = 2**32 - 2
# Run as another user: one request for each word, one answer a line.
CHILD = f"""
import json, os, socket, sys
groups, group, user = json.loads(sys.argv[2])
os.setgroups(groups); os.setgid(group); os.setuid(user)
sock = socket.socket(socket.AF_UNIX)
sock.settimeout({SECONDS})
sock.connect(sys.argv[1])
sock.sendall(b'{{"do": "event", "code": "303"}}\\n{{"do": "state"}}\\n{{"do": "settings-changed"}}\\nevent 303\\n')
sock.shutdown(socket.SHUT_WR)
print(sock.makefile().read(), end="")
"""
DENIED = '{"error": "denied", "reason": "this user may not ask for that"}'
STATE = '{"state": {"problem": "unset", "step": "", "reply": "", "waiting": 3, "catalog": ""}}'


@pytest.fixture(scope="module")
def named():
    """A door whose web user and event group are real names: `nobody` and its group."""
    nobody = pwd.getpwnam("nobody")
    with door_for(Permissions("nobody", grp.getgrgid(nobody.pw_gid).gr_name)) as door:
        yield door, nobody.pw_uid, nobody.pw_gid


def asked_by(door: Door, groups: list[int], group: int, user: int) -> list[str]:
    """What a process of that user and those groups is answered, event numbers left out."""
    words = [sys.executable, "-c", CHILD, str(door.path), json.dumps([groups, group, user])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    return [
        "accepted" if line.startswith(('{"accepted": ', "accepted ")) else line for line in done.stdout.splitlines()
    ]


def test_a_stranger_is_denied_everything(named):
    door, _, _ = named
    told = asked_by(door, [], STRANGER, STRANGER)
    assert told == [DENIED, DENIED, DENIED, "error denied this user may not ask for that"]


def test_a_stranger_raises_no_event(named):
    door, _, _ = named
    before = len(door.ledger.events)
    asked_by(door, [], STRANGER, STRANGER)
    assert len(door.ledger.events) == before


def test_a_member_of_the_event_group_raises_events_and_nothing_else(named):
    door, _, group = named
    assert asked_by(door, [], group, STRANGER) == ["accepted", DENIED, DENIED, "accepted"]


def test_a_supplementary_member_of_the_event_group_does_too(named):
    door, _, group = named
    assert asked_by(door, [GROUP, group, GROUP + 1], STRANGER, STRANGER) == ["accepted", DENIED, DENIED, "accepted"]


def test_a_user_with_one_of_the_highest_numbers_is_who_it_is(named):
    """A uid has 32 bits and no sign."""
    door, _, group = named
    asked_by(door, [], group, HIGHEST_USER)
    assert door.ledger.events[-1].user == HIGHEST_USER


def test_the_web_user_may_ask_for_everything(named):
    door, user, _ = named
    assert asked_by(door, [], STRANGER, user) == ["accepted", STATE, '{"ok": true}', "accepted"]


def test_root_may_ask_for_everything(named):
    door, _, _ = named
    assert asked_by(door, [], 0, 0) == ["accepted", STATE, '{"ok": true}', "accepted"]


def test_callers_who_may_ask_for_nothing_keep_nobody_out(tmp_path):
    powerless = AnyCaller(frozenset())
    door = Door(tmp_path / "hook.sock", powerless)
    try:
        nobodies = [door.call() for _ in range(60)]
        door.turns(3)
        assert len(door.callers) == 8
        powerless.may = EVERYTHING
        somebody = door.call(ALARM)
        door.turns()
        assert answer(somebody) == b'{"accepted": 1}\n'
        assert len(nobodies) == 60
    finally:
        door.close()


def test_many_who_call_at_once_are_let_in_together(tmp_path):
    door = Door(tmp_path / "hook.sock", AnyCaller())
    try:
        callers = [door.call(ALARM) for _ in range(50)]
        door.turns(3)
        assert [answer(each) for each in callers] == [b'{"accepted": %d}\n' % number for number in range(1, 51)]
    finally:
        door.close()


def test_the_hooks_own_user_may_ask_for_everything():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert Permissions("", "").of(ours) == Peer(os.geteuid(), EVERYTHING)
    settings = {"state", "delivery", "settings-changed", "try-waiting", "send-again", "try-now", "opens", "test"}
    words = {"event", "history", "catalog", "content", "metrics", *settings}
    assert words | {"sign-in", "certificate", "token", "keep-alive"} == EVERYTHING
    assert EVENT_ONLY == {"event"}


def test_names_that_this_system_does_not_have_open_nothing():
    with door_for(Permissions("no-such-user", "no-such-group")) as door:
        assert asked_by(door, [GROUP], GROUP, STRANGER)[:3] == [DENIED] * 3


def test_somebody_in_very_many_groups_is_still_somebody(named):
    """More than the kernel's answer has room for here: then only the main group counts."""
    door, _, group = named
    many = list(range(100_000, 100_400))
    assert asked_by(door, many, STRANGER, STRANGER)[0] == DENIED
    assert asked_by(door, many, group, STRANGER)[0] == "accepted"


# The socket itself


def test_everybody_may_knock(door):
    assert door.path.stat().st_mode & 0o777 == 0o666


def test_a_socket_that_was_left_behind_is_replaced(tmp_path):
    path = tmp_path / "run" / "hook.sock"
    listen(path).close()
    door = Door(path, AnyCaller()).open()
    assert door.ask(b"event 303\n") == [b"accepted 1"]
    door.close()


def test_stopping_says_goodbye_to_everybody_and_may_be_said_twice(tmp_path):
    door = Door(tmp_path / "hook.sock", AnyCaller()).open()
    caller = door.call(b"event 303\n")
    assert answer(caller) == b"accepted 1\n"
    door.hook.stop()
    assert caller.recv(1) == b""
    door.close()
    door.hook.stop()


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.WARNING)


# Deadlines of what is held


def endless() -> Iterator[Mapping[str, object]]:
    while True:
        yield {"step": "x" * 1000}


def test_a_caller_who_reads_nothing_of_a_long_answer_has_to_leave(closed_door):
    closed_door.tester.long = endless
    caller = closed_door.call(b'{"do": "test"}\n')
    closed_door.turns(500)
    closed_door.later = UNREAD_SECONDS - 60
    closed_door.turns()
    assert len(closed_door.callers) == 1
    closed_door.later = UNREAD_SECONDS + 60
    closed_door.turns()
    assert len(closed_door.callers) == 0
    assert everything(caller).startswith(b'{"step"')


def test_a_caller_who_reads_a_long_answer_drop_by_drop_has_to_leave_at_last(closed_door):
    closed_door.tester.long = endless
    caller = closed_door.call(b'{"do": "test"}\n')
    while closed_door.later < LONG_SECONDS - 120:
        closed_door.turns(20)
        assert caller.recv(1 << 20)
        closed_door.later += UNREAD_SECONDS / 2
    assert len(closed_door.callers) == 1
    closed_door.later = LONG_SECONDS + 60
    closed_door.turns()
    assert len(closed_door.callers) == 0


def test_a_caller_who_says_nothing_may_stay(closed_door):
    closed_door.call()
    closed_door.turns()
    closed_door.later = 10 * LONG_SECONDS
    closed_door.turns()
    assert len(closed_door.callers) == 1


def test_room_is_made_by_the_user_with_the_most_connections(closed_door):
    permissions = closed_door.permissions
    permissions.user = 0
    root = closed_door.call()
    closed_door.turns(1)
    permissions.user = 33
    for _ in range(80):
        closed_door.call()
        closed_door.turns(1)
    users = [each.peer.user for each in closed_door.callers]
    assert (users.count(0), users.count(33)) == (1, CONNECTIONS_MAXIMUM - 1)
    root.sendall(b"event 303\n")
    closed_door.turns()
    assert answer(root).startswith(b"accepted ")


def test_a_costly_request_is_one_a_turn_for_each_caller(closed_door):
    many = closed_door.call(b'{"do": "state"}\n' * 50)
    closed_door.turns(1)
    alarm = closed_door.call(b"event 303\n")
    closed_door.turns(3)
    assert answer(alarm).startswith(b"accepted ")
    many.setblocking(False)
    assert many.recv(1 << 20).count(b"\n") < 10
    many.setblocking(True)
    closed_door.turns(60)
    assert many.recv(1 << 20).count(b"\n") >= 40


def test_a_closed_hook_leaves_its_descriptor_to_no_signal(tmp_path):
    """A later file may get the same number, and a signal would write into it."""
    before = signal.set_wakeup_fd(-1)
    try:
        connections = ClientConnections(listen(tmp_path / "hook.sock"), AnyCaller())
        connections.wake_at_signals()
        connections.close()
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.set_wakeup_fd(before)
