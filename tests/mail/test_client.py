"""The client's side of the hook's socket: an answer, or a word for what went wrong, and never a long wait."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_ui.errors import HookError, Message
from device_ui.mail import client
from device_ui.mail.ipc import requests, server
from device_ui.mail.ipc.connection import listen
from device_ui.mail.smtp.redaction import REPLY_MAXIMUM
from device_ui.settings.recipients import RECIPIENTS_MAXIMUM
from device_ui.web.pages.history import PAGE_EVENTS

SECONDS = 20.0
# How long our client waits for hooks that never answer.
PATIENCE = 0.3


class FakeHook:
    """Answers each caller by `play`, one after the other; `heard` are the lines that came."""

    def __init__(self, path: Path, play: Callable[[socket.socket, bytes], None]) -> None:
        self.path, self.heard, self._play, self._stopping = path, [], play, False
        self._listener = listen(path)
        self._listener.settimeout(SECONDS)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> FakeHook:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        with socket.socket(socket.AF_UNIX) as last, client.reachable(self.path) as address:
            last.connect(address)
        self._thread.join(SECONDS)
        self._listener.close()
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        while not self._stopping:
            caller, _ = self._listener.accept()
            caller.settimeout(SECONDS)
            with caller, caller.makefile("rb") as lines, contextlib.suppress(OSError):
                line = lines.readline()
                if line:
                    self.heard.append(line)
                    self._play(caller, line)


def saying(raw: bytes) -> Callable[[socket.socket, bytes], None]:
    """A hook that says this and goes."""
    return lambda caller, line: caller.sendall(raw)


def silent(caller: socket.socket, line: bytes) -> None:
    """A hook that waits until the caller has gone."""
    caller.recv(1)


def dripping(caller: socket.socket, line: bytes) -> None:
    """A hook that says a byte of an answer that never ends, again and again."""
    drip = threading.Event()
    while not drip.wait(0.02):
        caller.sendall(b" ")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "hook.sock"


@contextlib.contextmanager
def told(word: str, reason: str) -> Iterator[None]:
    """What is raised inside has this word and this reason."""
    with pytest.raises(HookError) as caught:
        yield
    assert (caught.value.word, str(caught.value.reason)) == (word, reason)


def test_an_event_is_one_line_and_its_number_comes_back(path):
    with FakeHook(path, saying(b'{"accepted": 1742}\n')) as fake:
        assert client.raise_event(path, "303", "voll\n경보", "auditd", "2026-11-23T14:03:22Z") == 1742
    assert [json.loads(line) for line in fake.heard] == [
        {"do": "event", "code": "303", "text": "voll\n경보", "source": "auditd", "time": "2026-11-23T14:03:22Z"}
    ]
    assert fake.heard[0].count(b"\n") == 1


def test_the_state_comes_back(path):
    state = {"problem": "server", "step": "connect", "reply": "refused", "waiting": 3, "set_aside": ""}
    with FakeHook(path, saying(json.dumps({"state": state}).encode() + b"\n")) as fake:
        assert client.state(path) == state
    assert fake.heard == [b'{"do": "state"}\n']


def test_new_settings_are_told(path):
    with FakeHook(path, saying(b'{"ok": true}\n')) as fake:
        client.settings_changed(path)
    assert fake.heard == [b'{"do": "settings-changed"}\n']


def test_an_answer_may_come_in_pieces(path):
    def play(caller: socket.socket, line: bytes) -> None:
        for piece in (b'{"acc', b'epted"', b": 7}", b"\n"):
            caller.sendall(piece)

    with FakeHook(path, play):
        assert client.raise_event(path, "303") == 7


@pytest.mark.parametrize(
    ("answer", "word", "reason"),
    [
        (
            b'{"error": "denied", "reason": "this user may not ask for that"}',
            "denied",
            "this user may not ask for that",
        ),
        (b'{"error": "not-stored", "reason": "disk is full"}', "not-stored", "disk is full"),
        (b'{"error": "bad-request", "reason": "a code has three digits"}', "bad-request", "a code has three digits"),
        (b'{"error": "odd"}', "odd", ""),
        (b'{"error": ["a"], "reason": 7}', "['a']", "7"),
    ],
)
def test_what_the_hook_refuses_is_told_in_its_words(path, answer, word, reason):
    with FakeHook(path, saying(answer + b"\n")), told(word, reason):
        client.raise_event(path, "303")


GARBAGE = (b"", b"\n", b"accepted 7\n", b'{"accepted": 7', b"\xff\xfe\0\n", b"[" * 100_000 + b"\n", b"x" * 2_000_000)
NO_ANSWERS = (b"7", b"[]", b"null", b'"error"', b"{}", b'{"accepted": "x"}', b'{"state": 7}', b'{"ok": null}')
ASKS = {
    "raise_event": lambda path: client.raise_event(path, "303"),
    "state": client.state,
    "settings_changed": client.settings_changed,
}


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
@pytest.mark.parametrize("raw", GARBAGE, ids=range(len(GARBAGE)))
def test_a_hook_that_goes_or_babbles_is_down(path, ask, raw):
    with FakeHook(path, saying(raw)), told("down", "the mail hook went away before it answered"):
        ask(path)


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
@pytest.mark.parametrize("raw", NO_ANSWERS, ids=range(len(NO_ANSWERS)))
def test_an_answer_to_another_question_is_none(path, ask, raw):
    with FakeHook(path, saying(raw + b"\n")), told("down", "the mail hook's answer is not understood"):
        ask(path)


@pytest.mark.parametrize("play", [silent, dripping], ids=["silent", "dripping"])
@pytest.mark.parametrize(
    "ask", [client.raise_event, client.settings_changed, client.state], ids=lambda ask: ask.__name__
)
def test_a_hook_that_never_answers_is_down_soon(path, ask, play):
    words = ("303",) if ask is client.raise_event else ()
    with FakeHook(path, play), told("down", "the mail hook does not answer: timed out"):
        ask(path, *words, seconds=PATIENCE)


def test_a_hook_that_hears_nothing_is_down_soon(path):
    """Nobody accepts, and the text is longer than the kernel keeps."""
    with contextlib.closing(listen(path)), told("down", "the mail hook does not answer: timed out"):
        client.ask(path, {"text": "x" * 5_000_000}, seconds=PATIENCE)


def test_without_a_socket_the_hook_is_down(path):
    with told("down", "the mail hook does not answer: No such file or directory"):
        client.raise_event(path, "303")


def test_with_a_socket_left_behind_the_hook_is_down(path):
    listen(path).close()
    with told("down", "the mail hook does not answer: Connection refused"):
        client.state(path)


def test_with_a_missing_deep_folder_the_hook_is_down(tmp_path):
    with told("down", "the mail hook does not answer: No such file or directory"):
        client.state(tmp_path / ("x" * 120) / "hook.sock")


@pytest.mark.parametrize("length", [106, 107, 108, 109, 200, 240])
def test_a_path_of_any_length_works_for_both_sides(tmp_path, length):
    folder = tmp_path / ("d" * (length - len(str(tmp_path / "x" / "hook.sock")) + 1))
    path = folder / "hook.sock"
    assert len(str(path)) == length
    with FakeHook(path, saying(b'{"accepted": 1}\n')):
        assert client.raise_event(path, "303") == 1


def test_a_long_path_is_counted_in_bytes(tmp_path):
    path = tmp_path / ("경" * 25) / "hook.sock"
    with FakeHook(path, saying(b'{"accepted": 1}\n')):
        assert client.raise_event(path, "303") == 1


def test_a_caller_waits_where_too_many_wait_already(tmp_path):
    """Linux tells a caller with a time limit at once that the queue is full (unix(7), EAGAIN)."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "hook.sock"))
    listener.listen(0)
    first = socket.socket(socket.AF_UNIX)
    first.connect(str(tmp_path / "hook.sock"))
    told = []
    caller = threading.Thread(target=lambda: told.append(client.raise_event(tmp_path / "hook.sock", "303")))
    caller.start()
    with listener, first:
        listener.accept()[0].close()
        sock, _address = listener.accept()
        with sock:
            assert sock.recv(65536)
            sock.sendall(b'{"accepted": 7}\n')
        caller.join(SECONDS)
    assert told == [7]


def test_a_queue_that_stays_full_is_told_in_time(tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "hook.sock"))
    listener.listen(0)
    first = socket.socket(socket.AF_UNIX)
    with listener, first:
        first.connect(str(tmp_path / "hook.sock"))
        began = time.monotonic()
        with pytest.raises(HookError, match="the mail hook does not answer"):
            client.raise_event(tmp_path / "hook.sock", "303", seconds=0.3)
        assert 0.2 < time.monotonic() - began < SECONDS


def endlessly(line: bytes) -> Callable[[socket.socket, bytes], None]:
    """A hook that says this line until the caller has gone."""

    def play(caller: socket.socket, _line: bytes) -> None:
        while True:
            caller.sendall(line * 1000)

    return play


@pytest.mark.parametrize("line", [b"{}\n", b'{"kind": "%s"}\n' % (b"x" * 100_000)], ids=["short", "long"])
@pytest.mark.parametrize("ask", [client.kinds, client.test], ids=lambda ask: ask.__name__)
def test_an_answer_without_an_end_is_given_up(path, ask, line):
    taken = 0
    with FakeHook(path, endlessly(line)), told("down", "the mail hook's answer is too long"):
        for _ in ask(path):
            taken += len(line)
    assert taken <= client.ANSWERS_MAXIMUM


def test_a_long_history_comes_whole_for_a_reader_who_keeps_none_of_it(path):
    line, count = json.dumps({"event": {"text": "x" * 300}}).encode() + b"\n", 100_000
    with FakeHook(path, saying(line * count + b'{"end": {}}\n')):
        assert sum(1 for _ in client.history(path, {"limit": 0})) == count + 1
    assert len(line) * count > client.ANSWERS_MAXIMUM


def test_a_page_of_the_longest_events_is_no_longer_than_is_kept():
    longest = "\U0001f600"
    delivery = {"recipient": longest * 254, "verdict": "partly delivered", "step": "certificate", "time": "x" * 40}
    event = {"text": longest * requests.MESSAGE_MAXIMUM, "source": longest * requests.SOURCE_MAXIMUM}
    deliveries = [{**delivery, "reply": longest * REPLY_MAXIMUM}] * RECIPIENTS_MAXIMUM
    line = json.dumps({"event": {**event, "name": longest * 100, "deliveries": deliveries}})
    assert PAGE_EVENTS * len(line) <= client.ANSWERS_MAXIMUM
    assert len(line) <= client.ANSWER_MAXIMUM


def test_a_very_long_text_travels_cut_and_is_no_reason_to_lose_an_alarm(path):
    with FakeHook(path, saying(b'{"accepted": 1}\n')) as fake:
        assert client.raise_event(path, "303", "😀" * 1_000_000, "😀" * 1_000_000) == 1
    assert len(fake.heard[0]) <= server.LINE_MAXIMUM
    # More than the hook keeps, so that the hook marks the cut.
    assert len(json.loads(fake.heard[0])["text"]) > requests.TEXT_MAXIMUM
    assert len(json.loads(fake.heard[0])["source"]) > requests.SOURCE_MAXIMUM


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(), max_size=200))
def test_any_text_is_one_line(path, text):
    with FakeHook(path, saying(b'{"accepted": 1}\n')) as fake:
        client.raise_event(path, "303", text)
    # Half a character is no text, and no reason to lose an alarm.
    assert json.loads(fake.heard[0])["text"] == text.encode("utf-8", "replace").decode()
    assert fake.heard[0].count(b"\n") == 1 and fake.heard[0].endswith(b"\n")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    raw=st.one_of(
        st.binary(max_size=100),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
            lambda inner: st.dictionaries(st.sampled_from(["accepted", "error", "reason", "state"]), inner),
            max_leaves=4,
        ).map(lambda answer: json.dumps(answer).encode() + b"\n"),
    )
)
def test_whatever_answers_it_is_a_number_or_a_word(path, raw):
    with FakeHook(path, saying(raw)):
        try:
            assert isinstance(client.raise_event(path, "303"), int)
        except HookError as error:
            assert isinstance(error.word, str) and isinstance(error.reason, str | Message)
