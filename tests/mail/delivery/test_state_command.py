"""The program that shows the mail path's state: run for each change, with nothing secret, and never waited for."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path

import pytest

from device_ui.mail.delivery.state_command import StateCommand
from tests.helpers.product import no_thread, wait_for
from tests.mail.test_daemon import raise_event, save
from tests.servers.scripted import ScriptedServer

REPLY = "535 5.7.8 the server's own words"


def state(problem: str = "", step: str = "", waiting: int = 0) -> dict[str, object]:
    """What `DeliveryWorker.state` tells, with a server's text in it."""
    return {"problem": problem, "step": step, "reply": REPLY, "advice": REPLY, "waiting": waiting, "clock": REPLY}


class Program:
    """A shell script that writes down its environment, one line a run, and then does `more`."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.path, self.seen = folder / "show", folder / "seen"
        self.path.write_text(
            f"#!/bin/sh\n/usr/bin/env -0 | /usr/bin/tr '\\n\\0' '? ' >> {self.seen}\necho >> {self.seen}\n{more}\n"
        )
        self.path.chmod(0o755)

    @property
    def runs(self) -> list[dict[str, str]]:
        """The environment of each run; what a shell sets by itself left out."""
        lines = self.seen.read_text().splitlines() if self.seen.exists() else []
        found = [dict(each.split("=", 1) for each in line.split()) for line in lines]
        return [
            {name: value for name, value in each.items() if name not in ("PWD", "OLDPWD", "SHLVL", "_")}
            for each in found
        ]

    @property
    def words(self) -> list[str]:
        return [each["DEVICE_UI_MAIL_STATE"] for each in self.runs]


@pytest.fixture
def program(tmp_path):
    return Program(tmp_path)


def test_it_runs_with_the_documented_environment_and_nothing_else(program):
    StateCommand(str(program.path)).show(state("login refused", "login", 3))
    wait_for(lambda: program.runs)
    assert program.runs == [
        {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "DEVICE_UI_MAIL_STATE": "login-refused",
            "DEVICE_UI_MAIL_STEP": "login",
            "DEVICE_UI_MAIL_WAITING": "3",
        }
    ]


def test_it_runs_for_each_change_and_not_twice_for_the_same(program):
    lamp = StateCommand(str(program.path))
    for count, word in enumerate(["", "", "server", "server", "full", ""]):
        lamp.show(state(word, waiting=count))
        wait_for(lambda word=word: program.words[-1:] == [word or "ok"])
    lamp.end()
    assert program.words == ["ok", "server", "full", "ok", "down"]


def test_another_step_is_a_change(program):
    lamp = StateCommand(str(program.path))
    for step in ("connect", "login"):
        lamp.show(state("server", step))
        wait_for(lambda step=step: program.runs and program.runs[-1]["DEVICE_UI_MAIL_STEP"] == step)
    lamp.end()
    assert program.words == ["server", "server", "down"]


def test_at_the_end_it_shows_that_there_is_no_hook(program):
    lamp = StateCommand(str(program.path))
    lamp.show(state())
    lamp.end()
    assert program.words[-1] == "down"


def test_the_latest_state_wins_over_those_that_a_slow_program_missed(tmp_path):
    """No change waits for the program: it ends only after the last of them."""
    program, gate = Program(tmp_path, f"read line < {tmp_path}/gate"), tmp_path / "gate"
    os.mkfifo(gate)
    lamp = StateCommand(str(program.path))
    lamp.show(state())
    wait_for(lambda: program.words == ["ok"])
    for word in ("server", "storage", "full"):
        lamp.show(state(word))
    gate.write_text("go\n")
    wait_for(lambda: program.words == ["ok", "full"])
    gate.write_text("go\n")
    ending = threading.Thread(target=lamp.end)
    ending.start()
    wait_for(lambda: program.words == ["ok", "full", "down"])
    gate.write_text("go\n")
    ending.join(60)
    assert not ending.is_alive()


def test_a_program_that_hangs_is_killed_with_what_it_started(tmp_path, caplog):
    program = Program(tmp_path, f"sleep 60 & echo $! > {tmp_path}/child\nwait")
    lamp = StateCommand(str(program.path), seconds=0.5)
    lamp.show(state())
    wait_for(lambda: caplog.messages)
    assert caplog.messages == [f"{program.path} did not end within 0.5 s and was killed"]
    child = int((tmp_path / "child").read_text())
    wait_for(lambda: not is_running(child), what="the end of what it started")


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_after_a_program_that_hung_the_next_state_is_shown(tmp_path):
    program = Program(tmp_path, f"test -e {tmp_path}/well || exec sleep 60")
    lamp = StateCommand(str(program.path), seconds=0.5)
    lamp.show(state())
    wait_for(lambda: program.words == ["ok"])
    (tmp_path / "well").touch()
    lamp.show(state("full"))
    wait_for(lambda: program.words == ["ok", "full"])


def test_a_program_that_is_not_there_is_one_line(tmp_path, caplog):
    lamp = StateCommand(str(tmp_path / "missing"))
    lamp.show(state())
    wait_for(lambda: caplog.messages)
    lamp.show(state())
    assert caplog.messages == [f"{tmp_path}/missing could not be run: No such file or directory"]


def test_a_program_that_is_not_for_us_to_run_is_one_line(tmp_path, caplog):
    (tmp_path / "show").write_text("#!/bin/sh\n")
    StateCommand(str(tmp_path / "show")).show(state())
    wait_for(lambda: caplog.messages)
    assert caplog.messages == [f"{tmp_path}/show could not be run: Permission denied"]


def test_a_program_that_fails_is_told_with_its_code(tmp_path, caplog):
    program = Program(tmp_path, "exit 3")
    StateCommand(str(program.path)).show(state())
    wait_for(lambda: caplog.messages)
    assert [(each.levelno, each.getMessage()) for each in caplog.records] == [
        (logging.ERROR, f"{program.path} ended with 3")
    ]


def test_without_a_thread_the_next_look_shows_the_same_state(program, caplog):
    lamp = StateCommand(str(program.path))
    with no_thread():
        lamp.show(state("server"))
    assert caplog.messages == [f"{program.path} was not run: can't start new thread"]
    lamp.show(state("server"))
    wait_for(lambda: program.words == ["server"])


@pytest.mark.parametrize("failing", ["exit 3", "exec sleep 60"], ids=["code", "hangs"])
def test_a_program_that_failed_runs_again_until_it_has_shown_the_state(tmp_path, caplog, failing):
    program = Program(tmp_path, f"test -e {tmp_path}/well || {failing}; touch {tmp_path}/done")
    lamp = StateCommand(str(program.path), seconds=0.2, again=0.05)
    lamp.show(state("server", "connect"))
    wait_for(lambda: len(program.words) >= 3)
    (tmp_path / "well").touch()
    wait_for((tmp_path / "done").exists, what="a run that succeeds")
    assert set(program.words) == {"server"}
    assert len(caplog.messages) == 1
    count = len(program.words)
    lamp.end()
    assert program.words[count:] == ["down"]


def test_a_program_that_is_there_late_shows_the_state_all_the_same(tmp_path, caplog):
    lamp = StateCommand(str(tmp_path / "show"), again=0.05)
    lamp.show(state())
    wait_for(lambda: caplog.messages)
    program = Program(tmp_path)
    wait_for(lambda: program.words == ["ok"])


def test_a_state_that_changes_is_shown_at_once_though_the_one_before_failed(tmp_path, caplog):
    program = Program(tmp_path, f"test -e {tmp_path}/well || exit 3")
    lamp = StateCommand(str(program.path), again=3600.0)  # which no wait of a test reaches
    lamp.show(state())
    wait_for(lambda: caplog.messages)
    (tmp_path / "well").touch()
    lamp.show(state("full"))
    wait_for(lambda: program.words == ["ok", "full"])


def test_without_a_program_nothing_happens():
    lamp = StateCommand("")
    before = threading.active_count()
    lamp.show(state("full"))
    lamp.end()
    assert threading.active_count() == before


def test_it_hears_nothing_of_ours_and_says_nothing_into_our_log(tmp_path, capfd):
    program = Program(
        tmp_path, f"cat; echo out; echo err >&2; ls /proc/self/fd > {tmp_path}/fds; pwd > {tmp_path}/where"
    )
    with (tmp_path / "open").open("w") as ours:
        os.set_inheritable(ours.fileno(), True)
        lamp = StateCommand(str(program.path))
        lamp.show(state())
        lamp.end()
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "fds").read_text().split() == ["0", "1", "2", "3"]  # 3: the folder that ls reads
    assert (tmp_path / "where").read_text() == "/\n"


# By the hook itself


def test_the_hook_shows_its_states_from_its_start_to_its_end(product, program):
    product.folders.etc.mkdir()
    (product.folders.etc / "device.toml").write_text(f'[mail]\nstate_command = "{program.path}"\n')
    with ScriptedServer({"AUTH": f"{REPLY}"}) as server:
        product.start_hook()
        wait_for(lambda: program.words == ["unset"])
        save(product, server.port, "Kp7!vRw2#Zt9")
        raise_event(product)
        wait_for(lambda: program.words[-1] == "login-refused")
        product.stop("mailhook")
    assert program.words[-1] == "down"
    assert len(program.words) == len(
        [word for place, word in enumerate(program.words) if program.words[place - 1] != word]
    )
    assert {name for each in program.runs for name in each} == {
        "PATH",
        "DEVICE_UI_MAIL_STATE",
        "DEVICE_UI_MAIL_STEP",
        "DEVICE_UI_MAIL_WAITING",
    }
    assert "own words" not in program.seen.read_text()
    assert "Kp7!" not in program.seen.read_text()


def test_a_program_that_hangs_does_not_hold_up_mail_and_is_not_left_behind(product, tmp_path):
    hanging = Program(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    product.folders.etc.mkdir()
    (product.folders.etc / "device.toml").write_text(f'[mail]\nstate_command = "{hanging.path}"\n')
    with ScriptedServer() as server:
        product.start_hook()
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"))
        process = int((tmp_path / "pid").read_text())
        save(product, server.port)
        raise_event(product)
        wait_for(lambda: server.mails, what="the mail")
        assert product.stop("mailhook", signal.SIGTERM) == 0
    wait_for(lambda: not is_running(process), what="the end of the program")
