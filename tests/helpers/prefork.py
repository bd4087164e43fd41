"""Processes that are forked from one that has the product loaded: a start without the 0.3 s of the processor that the imports take.

Each is a process of its own, with the user, the environment and the standard streams that a test gives it; the kernel decides about
it as about any other. What it does not have is an exec of its own: tests of what that leaves (``/proc/PID/environ``, a tracer's
rights) start the program as a device does.

As a program it is the process that forks: ``prefork.py DESCRIPTOR``, of a socket on which `Prefork` asks.
"""

from __future__ import annotations

import ctypes
import gc
import grp
import importlib
import json
import os
import pkgutil
import pwd
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

# Of a request or an answer, in bytes.
MESSAGE = 100_000
# sys/prctl.h
PR_SET_DUMPABLE = 4
COMMAND = "import sys\nfrom device_ui.cli.entry import main\nsys.exit(main())"


class Process:
    """A forked process, with the part of `subprocess.Popen` that the tests use."""

    def __init__(self, prefork: Prefork, pid: int) -> None:
        self.pid, self.returncode = pid, None
        self._prefork, self._descriptor = prefork, os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        if self.returncode is None and select.select([self._descriptor], [], [], 0)[0]:
            os.close(self._descriptor)
            self.returncode = self._prefork.ask({"wait": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended. Raises `subprocess.TimeoutExpired`."""
        if self.returncode is None and not select.select([self._descriptor], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return int(self.poll() or 0)

    def send_signal(self, number: int) -> None:
        """Send a signal to it, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class Prefork:
    """The process that forks, which runs this interpreter in this environment; leaving ends it."""

    def __init__(self, python: Path, environment: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            words = [python, __file__, str(theirs.fileno())]
            self._process = subprocess.Popen(words, env=environment, cwd="/", pass_fds=[theirs.fileno()])

    def __enter__(self) -> Prefork:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.wait(60)

    def ask(self, request: Mapping[str, Any], descriptors: Sequence[int] = ()) -> int:
        """Send a request; the number that answers it."""
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
            return int(self._socket.recv(MESSAGE))

    def start(
        self,
        code: str,
        words: Sequence[str],
        streams: Sequence[int],
        env: Mapping[str, str],
        user: str = "root",
        group: str = "root",
        extra_groups: Sequence[str] = (),
    ) -> Process:
        """Start this program of Python with these words, standard streams, environment and user."""
        numbers = [grp.getgrnam(each).gr_gid for each in (group, *extra_groups)]
        who = {"user": pwd.getpwnam(user).pw_uid, "group": numbers[0], "groups": numbers[1:]}
        return Process(self, self.ask({"code": code, "words": list(words), "env": dict(env), **who}, streams))

    def run(
        self, code: str, words: Sequence[str], env: Mapping[str, str], input: str, seconds: float, **who: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run such a program to its end."""
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(input.encode())
            given.seek(0)
            process = self.start(code, words, [each.fileno() for each in (given, out, err)], env, **who)
            try:
                done = process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
            return subprocess.CompletedProcess([*words], done, whole(out), whole(err))


def whole(file: IO[bytes]) -> str:
    """All that a file holds."""
    file.seek(0)
    return file.read().decode()


def load() -> None:
    """Import all of the product, and what it imports when it starts to work."""
    import device_ui

    for module in pkgutil.walk_packages(device_ui.__path__, "device_ui."):
        if module.name != "device_ui.__main__":
            importlib.import_module(module.name)
    gc.freeze()


def serve(sock: socket.socket) -> dict[str, Any] | None:
    """Answer requests to the end of the socket; in each process that is forked, return its request."""
    while True:
        message, descriptors, *_ = socket.recv_fds(sock, MESSAGE, 3)
        if not message:
            return None
        request: dict[str, Any] = json.loads(message)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            sock.send(b"%d" % os.waitstatus_to_exitcode(status))
            continue
        pid = os.fork()
        if pid == 0:
            for number, descriptor in enumerate(descriptors):
                os.dup2(descriptor, number)
            sock.close()
            os.closerange(3, max(descriptors) + 1)
            return request
        for descriptor in descriptors:
            os.close(descriptor)
        sock.send(b"%d" % pid)


def become(request: Mapping[str, Any]) -> None:
    """Take the environment, the words and the user of a request."""
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    sys.argv = ["-c", *request["words"]]
    os.setgroups(request["groups"])
    os.setgid(request["group"])
    os.setuid(request["user"])
    # As after an exec: a process that gave up root's rights would be root's in /proc.
    assert ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0


def main() -> None:
    """Fork until the other side closes the socket."""
    sys.path.remove(str(Path(__file__).parent))
    load()
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    if request:
        become(request)
        exec(compile(request["code"], "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main()
