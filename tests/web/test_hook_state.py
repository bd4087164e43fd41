"""The state of the mail path is asked once and holds as long as the hook says so: never longer."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from device_ui.errors import HookError
from device_ui.web.hook_state import ALIVE_SECONDS, Following
from tests.helpers.product import SECONDS, Product, settings_form, wait_for


class Hook:
    """A socket that tells a state with its number, and counts who asked; it hangs up when told to."""

    def __init__(self, path: str) -> None:
        self.asked: list[dict[str, object]] = []
        self.callers: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            caller, _ = self._listener.accept()
            line = caller.recv(65536)
            if not line:
                caller.close()
                return
            self.asked.append(json.loads(line))
            self.callers.append(caller)
            caller.sendall(json.dumps({"state": {"problem": f"number {len(self.asked)}"}}).encode() + b"\n")

    def hang_up(self) -> None:
        while self.callers:
            self.callers.pop().close()

    def close(self) -> None:
        self.hang_up()
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(self._listener.getsockname())
        self._thread.join(SECONDS)
        self._listener.close()


@pytest.fixture
def hook(tmp_path) -> Iterator[Hook]:
    made = Hook(str(tmp_path / "hook.sock"))
    yield made
    made.close()


@pytest.fixture
def following(hook, tmp_path):
    """With a clock that stands at `now`."""
    made = Following(tmp_path / "hook.sock", lambda: made.now)
    made.now = 1000.0
    return made


def test_state_is_asked_once_while_it_stands(hook, following):
    assert [following.state()["problem"] for _ in range(3)] == ["number 1"] * 3
    assert hook.asked == [{"do": "state", "follow": True}]


def test_state_that_stands_no_more_is_asked_again(hook, following):
    following.state()
    hook.hang_up()
    assert following.state()["problem"] == "number 2"


def test_hook_that_says_nothing_is_asked_again_after_a_second(hook, following):
    following.state()
    following.now += ALIVE_SECONDS - 0.01
    assert following.state()["problem"] == "number 1"
    following.now += 0.01
    assert following.state()["problem"] == "number 2"


def test_nobody_waits_for_another_page_that_asks(hook, following):
    following.state()
    with following._lock:
        assert following.state()["problem"] == "number 2"
    assert hook.asked[1] == {"do": "state"}


def test_failure_is_told_and_not_kept(tmp_path):
    following = Following(tmp_path / "hook.sock")
    with pytest.raises(HookError, match="does not answer"):
        following.state()
    made = Hook(str(tmp_path / "hook.sock"))
    assert following.state()["problem"] == "number 1"
    made.close()
    with pytest.raises(HookError, match="does not answer"):
        following.state()


# With the mail hook itself.


@pytest.fixture
def real(product: Product):
    return product.start_hook()


def test_the_hook_tells_at_once_that_its_state_has_changed(real):
    following = Following(real.folders.socket, lambda: 0.0)  # so that nothing is asked again for its age
    wait_for(lambda: following.state()["problem"] == "unset", what="the first look at the settings")
    real.save(**settings_form(9))  # nobody listens there
    wait_for(lambda: following.state()["problem"] == "", what="settings")
    real.event("303", "x")
    wait_for(lambda: following.state()["problem"] == "server", what="the first try")
    wait_for(lambda: dict(following.state()) == dict(real.state()), what="the same state")


def test_every_answer_of_the_hook_comes_after_the_end_of_what_it_outdates(real):
    """Whoever heard of an event finds it counted."""
    following = Following(real.folders.socket, lambda: 0.0)
    for number in range(1, 20):
        assert following.state()["waiting"] == number - 1
        assert real.event("303", "x") == number


def test_a_hook_that_is_killed_is_down_at_once(real):
    following = Following(real.folders.socket, lambda: 0.0)
    following.state()
    process = real.processes.pop("mailhook")
    process.kill()
    process.wait()
    with pytest.raises(HookError):
        following.state()


def test_a_hook_that_hangs_is_down_after_a_second(real):
    now = [0.0]
    following = Following(real.folders.socket, lambda: now[0])
    following.state()
    os.kill(real.processes["mailhook"].pid, signal.SIGSTOP)
    try:
        now[0] = ALIVE_SECONDS
        with pytest.raises(HookError, match="does not answer"):
            following.state()
    finally:
        os.kill(real.processes["mailhook"].pid, signal.SIGCONT)
