"""The product as it is installed, with nothing that measures coverage in it, and the programs that it is held against."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.helpers.product import ROOT, Product, free_port

HELLO = """
import sys, bottle, waitress
app = bottle.Bottle()
app.route("/", "GET", lambda: "hello")
waitress.serve(app, listen="127.0.0.1:" + sys.argv[1], threads=4, _quiet=True)
"""
FIRST_PAGE_SECONDS = 60.0
COMMAND = "import sys\nsys.argv[0] = 'device-ui'\nfrom device_ui.cli.entry import main\nsys.exit(main())"


def environment(product: Product) -> dict[str, str]:
    """The device's own, without what the bench runs under."""
    return {name: value for name, value in product.environment.items() if not name.startswith("COVERAGE")}


class Stand(Product):
    """Both processes started by the short way that an installation takes."""

    prefork = None

    def begin(self, name: str, *options: str, **popen: object) -> subprocess.Popen[bytes]:
        """Start one of them, and return at once."""
        self.logs[name] = self.folder / f"{name}.log"
        with self.logs[name].open("ab") as log:
            self.processes[name] = subprocess.Popen(  # type: ignore[call-overload]
                [sys.executable, "-c", COMMAND, name, *options],
                **{"env": environment(self), "cwd": "/", "stdout": log, "stderr": log, **popen},
            )
        return self.processes[name]

    spawn = begin


@contextlib.contextmanager
def hello(**popen: object) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A program of one route, and its port."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", HELLO, str(port)], **popen)  # type: ignore[call-overload]
    try:
        yield process, port
    finally:
        process.kill()
        process.wait()


def first_page(port: int, path: str) -> float:
    """Wait for an answer; the moment (monotonic) at which it was there."""
    end = time.monotonic() + FIRST_PAGE_SECONDS
    while not answered(port, path):
        assert time.monotonic() < end, "no page came"
        time.sleep(0.001)
    return time.monotonic()


def answered(port: int, path: str) -> bool:
    """Whether somebody answers there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 500
    except OSError:
        return False
    finally:
        connection.close()


def pages(port: int, path: str, count: int, headers: Mapping[str, str]) -> float:
    """Ask for a page so often on one connection; how many came in a second."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    begun = time.perf_counter()
    for _ in range(count):
        connection.request("GET", path, headers=dict(headers))
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
    took = time.perf_counter() - begun
    connection.close()
    return count / took


def resident(process: subprocess.Popen[bytes], name: str = "VmRSS") -> float:
    """The MiB of memory that a process holds, or held at most (VmHWM)."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


@contextlib.contextmanager
def program(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program that has come to its end and waits."""
    words = [sys.executable, "-c", f"{code}\nprint(flush=True)\nimport sys\nsys.stdin.read()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdin
        process.stdout.readline()
        yield process
        process.stdin.close()


def compiled(folder: Path, source: str, *options: str) -> Path:
    """A C program beside the firmware's client."""
    (folder / "bench.c").write_text(source)
    firmware = ROOT / "device_ui" / "firmware"
    target = folder / "bench"
    words = ["gcc", "-O2", *options, "-I", str(firmware), "-o", str(target), str(folder / "bench.c")]
    subprocess.run([*words, str(firmware / "device_event.c")], check=True)
    return target


def run(*words: str | os.PathLike[str], env: Mapping[str, str] | None = None) -> None:
    """Run a program to its end; it must end well."""
    subprocess.run(list(words), check=True, env=env, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
