"""A booted machine: QEMU, its disk, its console, and commands over SSH.

KVM is used where it works, else TCG, which is ten times slower. `/dev/kvm` alone proves nothing (a nested hypervisor may
have the device and run no guest), so the first machine tries: where no line of the kernel comes, TCG it is.

The guest reaches `MAIL_ADDRESS`:587, which is a port of the test's mail server on loopback, and nothing else; the test
reaches the guest's ports 22, 80 and 443 on loopback.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tests.boot.image import MAIL_ADDRESS, Image
from tests.helpers.product import free_port

# Seconds: for the first line of the kernel with KVM, for a boot until SSH answers, for a command. TCG on a busy machine
# takes 60 for a boot; a verdict must not hang on that.
KVM_SECONDS, BOOT_SECONDS, COMMAND_SECONDS = 10.0, 400.0, 300.0
# For one question whether SSH answers.
PROBE_SECONDS = 20.0
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
LOOK_SECONDS = 0.2
MAIL_PORT = 587


class Failed(AssertionError):
    """A command in the guest ended with another exit code than 0."""


class Machine:
    """One machine; `start` boots it, leaving the block pulls its plug.

    `disk` is written (`overlay` and `copy` make one). `mail_port` is a port on loopback. `clock` is the wall clock at the
    start, as QEMU's ``-rtc base=`` takes it (UTC). With `log`, every write to the disk is kept there (`write_log`).
    """

    def __init__(
        self,
        image: Image,
        disk: Path,
        mail_port: int,
        *,
        clock: str = "utc",
        log: Path | None = None,
        processors: int = 2,
    ) -> None:
        self.image, self.disk = image, disk
        self._clock, self._log, self._processors = clock, log, processors
        self.https_port, self.http_port, self._ssh_port = free_port(), free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        # A Unix socket's path has 107 bytes at most.
        self._folder = Path(tempfile.mkdtemp(prefix="boot-", dir="/tmp"))
        self.console_file, self._console_begin = self._folder / "console", 0
        self._mail_down, self._mail_program = self._folder / "mail-down", self._folder / "mail"
        self._mail_program.write_text(f"#!/bin/sh\n[ -e {self._mail_down} ] || exec nc 127.0.0.1 {mail_port}\n")
        self._mail_program.chmod(0o700)

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.pull_the_plug()
        shutil.rmtree(self._folder)

    @property
    def console(self) -> str:
        """What the machine has written to its console since its last start."""
        return self._console_text[self._console_begin :]

    @property
    def _console_text(self) -> str:
        return self.console_file.read_text(errors="replace") if self.console_file.exists() else ""

    def start(self) -> Machine:
        """Boot, and return once SSH answers. Raises `TimeoutError` with the console's last lines."""
        started, self._console_begin = time.monotonic(), 0  # QEMU begins the file anew
        self._process = subprocess.Popen(
            self._words(accelerator(self.image)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._await_ssh(started)
        return self

    def reboot(self) -> float:
        """Reboot as the operator's `reboot` does; return once SSH answers again: the seconds that took. `console` begins anew."""
        before = self.run(BOOT_ID)
        started = time.monotonic()
        self._console_begin = len(self._console_text)
        self.run("systemctl reboot", check=False)
        self._close_ssh()
        self._await_ssh(started, before)
        return time.monotonic() - started

    @contextlib.contextmanager
    def without_mail(self) -> Iterator[None]:
        """The mail server closes every connection at once."""
        self._mail_down.touch()
        try:
            yield
        finally:
            self._mail_down.unlink()

    def power_off(self) -> None:
        """Shut down in order; the disk is whole afterwards."""
        self.run("systemctl poweroff", check=False)
        assert self._process
        self._process.wait(BOOT_SECONDS)
        self._close()

    def pull_the_plug(self) -> None:
        """End the machine at once: nothing that the guest holds in memory reaches the disk."""
        if self._process:
            self._process.kill()
            self._process.wait()
        self._close()

    def _close(self) -> None:
        """Close what belongs to a process that has ended."""
        if self._process and self._process.stdout:
            self._process.stdout.close()
        self._close_ssh()

    def run(self, script: str, *, user: str = "root", check: bool = True, stdin: bytes = b"") -> str:
        """Run a shell script in the guest as `user`; what it printed, both streams. Raises `Failed`."""
        code, printed = self.tried(script, user=user, stdin=stdin)
        if check and code:
            raise Failed(f"{script}\nexit code {code}\n{printed}")
        return printed

    def tried(self, script: str, *, user: str = "root", stdin: bytes = b"") -> tuple[int, str]:
        """Run a shell script in the guest: its exit code, and what it printed (both streams)."""
        words = ["sh", "-c", script] if user == "root" else ["runuser", "-u", user, "--", "sh", "-c", script]
        done = subprocess.run(
            [*self._ssh(), shlex.join(words)],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout.decode(errors="replace").strip()

    @contextlib.contextmanager
    def stream(self, script: str) -> Iterator[IO[bytes]]:
        """Run a shell script in the guest whose output is read while it runs; leaving the block ends it."""
        words = [*self._ssh(), shlex.join(["sh", "-c", script])]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout
        with process:
            try:
                yield process.stdout
            finally:
                process.kill()

    def write(self, path: str, content: bytes | str) -> None:
        """Write a file in the guest."""
        raw = content.encode() if isinstance(content, str) else content
        self.run(f"cat >{shlex.quote(path)}", stdin=raw)

    def wait_until(self, script: str, seconds: float = 120.0) -> str:
        """Run `script` again and again until its exit code is 0; what it printed then. Raises `Failed`."""
        end = time.monotonic() + seconds
        while True:
            code, printed = self.tried(script)
            if code == 0:
                return printed
            if time.monotonic() > end:
                raise Failed(f"{script}\nnot within {seconds:.0f} s; exit code {code}\n{printed}")
            threading.Event().wait(LOOK_SECONDS)

    def settled(self) -> str:
        """Wait until systemd has no job left; ``running``, or ``degraded`` and why."""
        state = self.run("systemctl is-system-running --wait", check=False)
        return state if state == "running" else f"{state}\n{self.run('systemctl --failed --no-legend', check=False)}"

    def _words(self, kind: str) -> list[str]:
        forwards = ",".join(
            f"hostfwd=tcp:127.0.0.1:{host}-:{guest}"
            for host, guest in ((self._ssh_port, 22), (self.http_port, 80), (self.https_port, 443))
        )
        mail = f"guestfwd=tcp:{MAIL_ADDRESS}:{MAIL_PORT}-cmd:{self._mail_program}"
        return [
            "qemu-system-x86_64",
            *accelerated(kind),
            *("-smp", str(self._processors), "-m", "512", "-nodefaults", "-display", "none"),
            *("-kernel", str(self.image.kernel), "-initrd", str(self.image.initrd)),
            *("-append", "root=/dev/vda rw console=ttyS0 systemd.show_status=1"),
            *("-rtc", f"base={self._clock}", "-serial", f"file:{self.console_file}"),
            *self._drive(),
            *("-netdev", f"user,id=n,restrict=on,{forwards},{mail}", "-device", "virtio-net-pci,netdev=n"),
        ]

    def _drive(self) -> list[str]:
        if self._log is None:
            kind = "raw" if self.disk.suffix == ".img" else "qcow2"
            return ["-drive", f"file={self.disk},format={kind},if=virtio"]
        self._log.touch()
        return [
            *("-blockdev", f"driver=file,node-name=file,filename={self.disk}"),
            *("-blockdev", f"driver=file,node-name=log,filename={self._log}"),
            *("-blockdev", "driver=blklogwrites,node-name=disk,file=file,log=log,log-sector-size=512"),
            *("-device", "virtio-blk-pci,drive=disk"),
        ]

    def _ssh(self, *more: str) -> list[str]:
        options = (
            *more,  # of an option that is given twice ssh takes the first
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=10",
            "ServerAliveInterval=60",
            "ControlMaster=auto",
            "ControlPersist=yes",
            f"ControlPath={self._folder}/ssh",
        )
        words = ["ssh", "-i", str(self.image.ssh_key), "-p", str(self._ssh_port)]
        return [*words, *(word for option in options for word in ("-o", option)), "root@127.0.0.1"]

    def _await_ssh(self, started: float, before: str = "") -> None:
        """Wait for a boot that is not `before`. A connection of its own each time: one to a guest that goes down hangs."""
        words = [*self._ssh("ControlPath=none"), BOOT_ID]
        while True:
            assert self._process
            if self._process.poll() is not None:
                printed = self._process.stdout.read().decode(errors="replace") if self._process.stdout else ""
                raise RuntimeError(f"QEMU ended with {self._process.returncode}\n{printed}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                done = subprocess.run(words, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
                if done.returncode == 0 and done.stdout.strip() != before:
                    return
            if time.monotonic() - started > BOOT_SECONDS:
                raise TimeoutError(f"no SSH after {BOOT_SECONDS:.0f} s; the console says:\n{self.console[-3000:]}")
            threading.Event().wait(LOOK_SECONDS)

    def _close_ssh(self) -> None:
        """End the master connection: it would outlive the guest."""
        if (self._folder / "ssh").exists():
            subprocess.run([*self._ssh()[:-1], "-O", "exit", "root@127.0.0.1"], capture_output=True, check=False)


def accelerated(kind: str) -> list[str]:
    """QEMU's options for one accelerator."""
    return ["-accel", "kvm", "-cpu", "host"] if kind == "kvm" else ["-accel", "tcg,thread=multi", "-cpu", "max"]


@functools.cache
def accelerator(image: Image) -> str:
    """Return ``kvm`` where this image's kernel really runs with it, else ``tcg``."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    with tempfile.TemporaryDirectory() as folder:
        console = Path(folder) / "console"
        process = subprocess.Popen(
            [
                "qemu-system-x86_64",
                *accelerated("kvm"),
                *("-m", "256", "-nodefaults", "-display", "none", "-serial", f"file:{console}"),
                *("-kernel", image.kernel, "-append", "console=ttyS0 earlyprintk=ttyS0"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            end = time.monotonic() + KVM_SECONDS
            while time.monotonic() < end and process.poll() is None:
                if console.exists() and b"Linux version" in console.read_bytes():
                    return "kvm"
                threading.Event().wait(LOOK_SECONDS)
        finally:
            process.kill()
            process.wait()
    return "tcg"


def overlay(base: Path, made: Path) -> Path:
    """Make a disk that begins as `base` and leaves it as it is."""
    subprocess.run(
        [
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw" if base.suffix == ".img" else "qcow2",
            "-b",
            base,
            made,
        ],
        check=True,
    )
    return made


def copy(base: Path, made: Path) -> Path:
    """Make a raw disk with the content of `base`."""
    subprocess.run(["qemu-img", "convert", "-O", "raw", base, made], check=True)
    return made
