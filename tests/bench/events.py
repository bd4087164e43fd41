"""Events: from C, a thousand at once, and by the command; the hook's memory while it waits for one."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from device_ui.mail.outbox.database import STATEMENTS
from tests.bench.rows import Row, seconds, turns
from tests.bench.stand import COMMAND, Stand, compiled, environment, run
from tests.helpers.product import wait_for

ALARMS, CALLERS = 1000, 50
TEXT = "x" * 900
# One event and one append of 1 KiB in turns; each line tells the nanoseconds of both.
FROM_C = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "device_event.h"

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }

int main(int argc, char **argv)
{
    static char text[901], block[1024];
    int fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0600), turn;
    if (argc < 2 || fd < 0) return 1;
    memset(text, 'x', 900);
    for (turn = 0; turn < 200; turn++) {
        double begun = now(), between;
        if (device_event("101", text, "bench") <= 0) return 2;
        between = now();
        if (write(fd, block, sizeof block) != sizeof block || fdatasync(fd)) return 3;
        printf("%.9f %.9f\n", between - begun, now() - between);
    }
    return 0;
}
"""
SEND_ONE = r"""
#include "device_event.h"
int main(void) { return device_event("101", "x", "bench") > 0 ? 0 : 1; }
"""


def rows() -> Iterator[Row]:
    """Every row about events."""
    with tempfile.TemporaryDirectory() as name, Stand(Path(name)) as product:
        folder = Path(name)
        product.start_hook()
        product.stop("mailhook")  # the first start made the key
        product.start_hook()
        yield from_c(product, folder)
        yield at_once(product, folder)
        yield command(product)
        yield client(product, folder)


def from_c(product: Stand, folder: Path) -> Row:
    """One event after another by the firmware's client."""
    done = subprocess.run(
        [compiled(folder, FROM_C), folder / "appended"],
        env=environment(product),
        check=True,
        capture_output=True,
        text=True,
    )
    pairs = [line.split() for line in done.stdout.splitlines()]
    here, floor = ([float(pair[which]) for pair in pairs] for which in (0, 1))
    return Row("event accepted and on flash, from C", "append of 1 KiB + fdatasync", "ms", here, floor, 3)


def at_once(product: Stand, folder: Path) -> Row:
    """A thousand from fifty callers, each of which says all its lines before it reads an answer."""
    line = f"event 101 {TEXT}\n".encode()

    def call(start: threading.Barrier) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(product.folders.socket))
            start.wait()
            sock.sendall(line * (ALARMS // CALLERS))
            answers = b""
            while answers.count(b"accepted ") < ALARMS // CALLERS or not answers.endswith(b"\n"):
                answers += sock.recv(65536)

    def here() -> float:
        start = threading.Barrier(CALLERS + 1)
        threads = [threading.Thread(target=call, args=(start,)) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        start.wait()
        return ALARMS / seconds(lambda: [thread.join() for thread in threads])

    floor = lambda: ALARMS / seconds(lambda: batched(folder / "floor.sqlite3"))  # noqa: E731
    told = "SQLite alone, WAL, FULL, a commit for every ten"
    return Row("1,000 alarms at once, accepted a second", told, "/s", *turns(7, here, floor), 0.8, at_least=True)


def batched(path: Path) -> None:
    """The same rows in the same table, by SQLite in this process."""
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    for statement in STATEMENTS:
        connection.execute(statement)
    for begin in range(1, ALARMS + 1, 10):
        connection.execute("BEGIN IMMEDIATE")
        events = [(number, "101", "fault", 1.0, 1.0, "", TEXT, 1, 0, "", 0) for number in range(begin, begin + 10)]
        marks = ", ".join("?" * len(events[0]))
        connection.executemany(
            f"INSERT INTO event (number, code, type, time, accepted, source, text, waiting, mail, clock, uid) VALUES ({marks})",
            events,
        )
        connection.execute("COMMIT")
    connection.close()


def command(product: Stand) -> Row:
    """The command, as an installation starts it."""
    words = (sys.executable, "-c", COMMAND, "event", "101", "--text", "x")
    here = lambda: seconds(lambda: run(*words, env=environment(product)))  # noqa: E731
    floor = lambda: seconds(lambda: run(sys.executable, "-c", "pass", env=environment(product)))  # noqa: E731
    return Row("`device-ui event`", "`python -c pass`", "ms", *turns(15, here, floor), 3)


def client(product: Stand, folder: Path) -> Row:
    """The same from C."""
    one = compiled(folder, SEND_ONE)
    here, floor = turns(
        30, lambda: seconds(lambda: run(one, env=environment(product))), lambda: seconds(lambda: run("/bin/true"))
    )
    return Row("the C client", "`/bin/true`", "ms", here, floor, 2)


def settled(product: Stand) -> None:
    """Wait until nothing is left to mail."""
    wait_for(lambda: product.state()["waiting"] == 0, 600, "the delivery")
