"""The firmware's C client: compiled without a warning, run against the real hook, its exit codes as documented."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from device_ui.mail import client
from tests.helpers.product import ROOT, Product

SOURCE = ROOT / "device_ui" / "firmware" / "device_event.c"
WARNINGS = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"]
CHECKED = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, with every access to memory checked."""
    target = tmp_path_factory.mktemp("firmware") / "device-event"
    subprocess.run(["gcc", *WARNINGS, *CHECKED, "-DDEVICE_EVENT_MAIN", "-o", target, SOURCE], check=True)
    return target


def run(program: Path, folder: Path, *words: str | bytes, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DEVICE_UI_RUN": str(folder)}
    options = {"capture_output": True, "text": True, "timeout": 30, "env": environment, **options}
    return subprocess.run([program, *words], **options)  # type: ignore[call-overload,no-any-return]


def texts(product: Product) -> list[tuple[str, str, str]]:
    """Code, source and text of every event, from the ledger of a hook that was stopped."""
    product.stop("mailhook")
    with closing(sqlite3.connect(product.folders.ledger)) as ledger:
        return ledger.execute("SELECT code, source, text FROM event ORDER BY number").fetchall()


def test_it_is_one_file_that_includes_nothing_but_the_system():
    included = [line for line in SOURCE.read_text().splitlines() if line.startswith("#include")]
    assert [line for line in included if "<" not in line] == ['#include "device_event.h"']


def test_its_header_serves_c_plus_plus_too():
    subprocess.run(["gcc", "-x", "c++", "-fsyntax-only", "-Wall", "-Werror", SOURCE.with_suffix(".h")], check=True)


def test_an_event_arrives_as_it_was_said(program, product):
    product.start_hook()
    text = 'disk "2" \\ is at\n91 % \t김 😀 \x01'
    assert run(program, product.folders.run, "303", text, "smart").stdout == "accepted 1\n"
    assert run(program, product.folders.run, "304").stdout == "accepted 2\n"
    assert texts(product) == [("303", "smart", 'disk "2" \\ is at\n91 %  김 😀 \ufffd'), ("304", "", "")]


@pytest.mark.parametrize("text", [b"x" * 5000, b"\\" * 5000, b"\x01" * 5000, "김".encode() * 2000, b"broken \xff\xc3"])
def test_no_text_is_a_reason_to_lose_an_alarm(program, product, text):
    product.start_hook()
    assert run(program, product.folders.run, "303", text, b"s" * 300).stdout == "accepted 1\n"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A hook for many events."""
    with Product(tmp_path_factory.mktemp("door")) as product:
        yield product.start_hook()


def kept(product: Product, number: int) -> tuple[str, str]:
    """Source and text of the newest event; the only line of a message of the system is its name."""
    [event] = [line["event"] for line in client.history(product.folders.socket, {"limit": 1}) if "event" in line]
    assert event["number"] == number
    return event["source"], event["text"] or event["name"]


@pytest.mark.parametrize("code", ["303", "901"])
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("김" * 3000, id="FIELD-G-3000-korean-letters"),
        pytest.param("김" * 4000, id="as-long-as-it-may-be"),
        pytest.param("김" * 4001, id="one-more"),
        pytest.param("😀" * 4001, id="four-bytes-each"),
        pytest.param("é" * 12_000, id="two-bytes-each"),
        pytest.param("x" * 9999 + "김김", id="longer-than-a-message"),
        pytest.param("x" * 3999 + "김", id="ends-with-a-character-of-three-bytes"),
        pytest.param("e\u0301" * 2500, id="combining-marks-count"),
        pytest.param("👨\u200d👩\u200d👧" * 900, id="joined-emoji"),
        pytest.param("\u2028" * 5000, id="line-separators"),
        pytest.param("\x01" * 10_500, id="six-bytes-on-the-line-each"),
        pytest.param("\\" * 10_500, id="escaped"),
        pytest.param("\U0010ffff" * 10_500, id="the-last-character-of-unicode"),
    ],
)
def test_both_doors_are_of_the_same_size(program, door, code, text):
    """pasystray#188, noctalia#2675, uTox#1108, Znuny#134: a text that is cut by bytes ends with a broken character."""
    source = "장치" * 60
    said = run(program, door.folders.run, code, text, source).stdout
    by_program = kept(door, int(said.removeprefix("accepted ")))
    assert by_program == kept(door, client.raise_event(door.folders.socket, code, text, source))
    assert by_program[0].endswith(" […]")
    assert by_program[1].endswith(" […]") == (len(text) > (10_000 if code == "901" else 4000))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"\x80" * 5000, id="continuations-alone"),
        pytest.param(b"\xe2\x82" * 3000, id="cut-characters"),
        pytest.param(b"\xf8\x88\x80\x80\x80" * 1000, id="five-bytes"),
        pytest.param(b"\xc0\xaf" * 3000, id="overlong"),
        pytest.param(b"\xed\xa0\x80" * 3000, id="surrogates"),
        pytest.param("김".encode("euc-kr") * 3000, id="another-encoding"),
        pytest.param(b"ok " + "김".encode()[:2], id="ends-in-a-character"),
    ],
)
def test_what_is_no_utf8_is_replaced_and_the_event_is_kept(program, door, text):
    said = run(program, door.folders.run, "303", text).stdout
    _, stored = kept(door, int(said.removeprefix("accepted ")))
    assert "\ufffd" in stored and len(stored) <= 4000


def test_it_needs_little_of_a_small_stack(tmp_path, product):
    """A thread of the firmware may have 16 KiB (PTHREAD_STACK_MIN of musl is 2 KiB)."""
    product.start_hook()
    source = tmp_path / "thread.c"
    source.write_text(
        """
#define _GNU_SOURCE
#include "device_event.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
static char text[12001];
static void *raised(void *number) { *(long *)number = device_event("303", text, "thread"); return NULL; }
int main(void)
{
    pthread_attr_t small;
    pthread_t thread;
    long number = 0;
    memset(text, 1, sizeof text - 1);
    if (pthread_attr_init(&small) || pthread_attr_setstacksize(&small, 16384) || pthread_create(&thread, &small, raised, &number))
        return 1;
    pthread_join(thread, NULL);
    return printf("%ld\\n", number) < 0;
}
"""
    )
    program = tmp_path / "thread"
    subprocess.run(["gcc", "-pthread", f"-I{SOURCE.parent}", "-o", program, source, SOURCE], check=True)
    assert run(program, product.folders.run).stdout == "1\n"


@pytest.mark.parametrize(("words", "code"), [((), 64), (("303", "a", "b", "c"), 64), (("3",), 65), (("30x",), 65)])
def test_wrong_words_have_their_exit_code(program, product, words, code):
    product.start_hook()
    done = run(program, product.folders.run, *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)


def test_without_a_hook_it_says_so_at_once(tmp_path):
    """With an hour for an answer: whatever waits for one does not end within the patience of `run`."""
    patient = tmp_path / "device_event.h"
    header = SOURCE.with_suffix(".h").read_text()
    patient.write_text(header.replace("DEVICE_EVENT_TIMEOUT_MS 10000", "DEVICE_EVENT_TIMEOUT_MS 3600000"))
    assert patient.read_text() != header
    source = Path(shutil.copy(SOURCE, tmp_path))  # beside it, so that it includes this header
    program = tmp_path / "device-event"
    subprocess.run(["gcc", *WARNINGS, "-DDEVICE_EVENT_MAIN", "-o", program, source], check=True)
    done = run(program, tmp_path, "303")
    assert (done.returncode, done.stdout) == (75, "")
    assert done.stderr == "device-event: the mail hook does not answer\n"


def test_a_folder_that_is_too_long_for_a_socket_is_no_overflow(program, tmp_path):
    assert run(program, tmp_path / ("x" * 200), "303").returncode == 75


def test_a_stranger_is_denied(program, product):
    product.start_hook()
    program.parent.parent.chmod(0o755)
    copy = Path("/tmp") / f"device-event-{os.getpid()}"
    copy.write_bytes(program.read_bytes())
    try:
        copy.chmod(0o755)
        for folder in (product.folder, *product.folder.parents[:-2]):
            folder.chmod(folder.stat().st_mode | 0o011)
        done = run(copy, product.folders.run, "303", user=65534, group=65534, extra_groups=[])
    finally:
        copy.unlink()
    assert (done.returncode, done.stderr) == (77, "device-event: this user may not raise events\n")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b'{"error": "not-stored", "reason": "full"}\n', 75),
        (b"", 75),
        (b"nonsense\n", 75),
        (b"x" * 5000, 75),
        (b'{"accepted": 0}\n', 75),
        (b'{"accepted": 7}\n', 0),
    ],
)
def test_any_answer_is_understood_or_none(program, tmp_path, answer, code):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "hook.sock"))
        listener.listen()

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(65536)
                sock.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert run(program, tmp_path, "303").returncode == code
        thread.join(60)


def test_a_hook_that_never_answers_costs_ten_seconds_and_no_more(program, product):
    product.start_hook()
    hook = product.processes["mailhook"]
    hook.send_signal(signal.SIGSTOP)
    try:
        done = run(program, product.folders.run, "303", timeout=40)
    finally:
        hook.send_signal(signal.SIGCONT)
    assert done.returncode == 75


def test_a_signal_while_the_hook_is_busy_loses_no_alarm(tmp_path):
    """poll(2) is never restarted after a signal; firmware has timers, and a burst fills the backlog."""
    source = tmp_path / "timer.c"
    source.write_text(
        """
#define _GNU_SOURCE
#include "device_event.h"
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
static void nothing(int number) { (void)number; }
int main(void)
{
    struct itimerval often = {{0, 3000}, {0, 3000}};
    signal(SIGALRM, nothing);
    setitimer(ITIMER_REAL, &often, NULL);
    return printf("%ld\\n", device_event("303", "x", NULL)) < 0;
}
"""
    )
    program = tmp_path / "timer"
    subprocess.run(["gcc", "-std=c99", f"-I{SOURCE.parent}", "-o", program, source, SOURCE], check=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "hook.sock"))
        listener.listen(0)
        crowd = []
        for _ in range(3):  # until the backlog is full
            one = socket.socket(socket.AF_UNIX)
            one.setblocking(False)
            crowd.append(one)
            if one.connect_ex(str(tmp_path / "hook.sock")):
                break

        def serve() -> None:
            threading.Event().wait(0.5)
            for _ in range(len(crowd) + 1):
                sock, _ = listener.accept()
                with sock:
                    if sock.recv(65536):
                        sock.sendall(b'{"accepted": 7}\n')
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        for one in crowd:
            threading.Timer(0.6, one.close).start()
        environment = {**os.environ, "DEVICE_UI_RUN": str(tmp_path)}
        done = subprocess.run([program], env=environment, capture_output=True, text=True, timeout=60)
        thread.join(60)
    assert done.stdout == "7\n"
