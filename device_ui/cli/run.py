"""``device-ui run``: run both processes from one command until Ctrl-C."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from device_ui.config import Device, host_name
from device_ui.errors import DeviceUIError, HookError
from device_ui.mail import client
from device_ui.storage import files
from device_ui.web.auth.administrator import Administrator

# The addresses that listen at every address.
ANY = ("", "0.0.0.0", "[::]")  # noqa: S104  # compared, not bound
# Seconds for a process to answer after its start (slow flash, making keys), and to end after SIGTERM.
START_SECONDS, STOP_SECONDS, LOOK_SECONDS = 20.0, 8.0, 0.05


class Supervisor:
    """Both processes of one device. A mail server on the same machine is allowed."""

    def __init__(self, device: Device, listen: str) -> None:
        self._device, self._listen = device, listen
        self._children: list[subprocess.Popen[bytes]] = []
        # Set by a signal handler; `wait` returns at once, so that Ctrl-C ends both processes.
        self._stop = threading.Event()

    def check_is_free(self) -> None:
        """Raise `DeviceUIError` when a mail hook already answers at this device's socket."""
        if self._hook_answers():
            raise DeviceUIError(f"already running: a mail hook answers at {self._device.folders.socket}")

    def start(self, *mailhook_options: str) -> None:
        """Start the hook, then the pages; return when both answer. Raises `DeviceUIError` when one does not."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stopped)
        # Before any process is started: the one that holds the port would answer our look at /health.
        self._check_port()
        files.make_folder(self._device.folders.data, 0o755)
        self._spawn("mailhook", "--allow-loopback", "--url", self._link(), *mailhook_options)
        self._await("mail hook", self._hook_answers)
        self._spawn("web", "--listen", self._listen)
        self._await("web process", self._web_answers)

    def wait(self) -> int:
        """Wait for a signal, or for the end of a process; return the exit code."""
        while not self._stop.wait(LOOK_SECONDS * 4) and all(child.poll() is None for child in self._children):
            pass
        return self.stop()

    def stop(self) -> int:
        """Stop both; return 0 after a signal, and the code of an error when a process ended by itself."""
        is_requested = self._stop.is_set()
        # The pages first, since they send requests to the hook. SIGTERM, and SIGKILL only after `STOP_SECONDS`: the hook finishes
        # the mail under way, and the pages store failed logins.
        for child in reversed(self._children):
            child.terminate()
        for child in self._children:
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        # 70 is EX_SOFTWARE (sysexits.h): a process that ends by itself has failed.
        return 0 if is_requested else 70

    def setup_link(self) -> str:
        """Return the address of the first page, with the setup code while there is one."""
        # The code in the link saves typing it. The link is for this terminal, whose user can read the file at any rate.
        record = Administrator(self._device.folders.administrator).load()
        code = f"setup?code={record.code}" if record and not record.is_set_up else ""
        return f"http://{self._listen}/{code}"

    def _link(self) -> str:
        """Return the address of the pages for links in mails.

        No browser opens 0.0.0.0 or [::]: the host name is there instead.
        """
        host, _, port = self._listen.rpartition(":")
        return f"http://{host_name() if host in ANY else host}:{port}"

    def _check_port(self) -> None:
        """Raise `DeviceUIError` when the address is in use: its process would answer instead of ours."""
        host, _, port = self._listen.rpartition(":")
        try:
            host = host.removeprefix("[").removesuffix("]")
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            # Bound and closed at once. Between this and the start another process may take it; then the pages report
            # it.
            socket.create_server((host, int(port)), family=family).close()
        except (OSError, OverflowError, ValueError) as error:
            raise DeviceUIError(f"the pages cannot be served at {self._listen}: {error}") from error

    def _spawn(self, command: str, *options: str) -> None:
        folders = self._device.folders
        environment = {"DEVICE_UI_DATA": folders.data, "DEVICE_UI_RUN": folders.run, "DEVICE_UI_ETC": folders.etc}
        # The same interpreter, and `-m`: a checkout has no installed command.
        words = [sys.executable, "-m", "device_ui", command, *options]
        self._children.append(subprocess.Popen(words, env=_environment(environment)))

    def _await(self, name: str, answers: Callable[[], bool]) -> None:
        waited = 0.0
        while waited < START_SECONDS and not self._stop.is_set():
            # The process ended, and has printed its reason.
            if self._children[-1].poll() is not None:
                break
            if answers():
                return
            self._stop.wait(LOOK_SECONDS)
            waited += LOOK_SECONDS
        self.stop()
        raise DeviceUIError(f"the {name} did not start")

    def _hook_answers(self) -> bool:
        try:
            client.state(self._device.folders.socket)
        except HookError:
            return False
        return True

    def _web_answers(self) -> bool:
        connection = http.client.HTTPConnection(self._listen, timeout=1)
        try:
            connection.request("GET", "/health")
            connection.getresponse().read()
        except OSError:
            return False
        finally:
            connection.close()
        return True

    def _stopped(self, _number: int, _frame: FrameType | None) -> None:
        self._stop.set()


def _environment(folders: dict[str, Path]) -> dict[str, str]:
    package = str(Path(__file__).parents[2])
    # From a checkout the package is not installed; the processes must run the same code.
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, **{name: str(folder) for name, folder in folders.items()}, "PYTHONPATH": path}
