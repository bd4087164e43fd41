"""How both processes start: a signal during the start ends them in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.helpers.product import SECONDS, Product


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", ["web", "mailhook"])
def test_a_signal_during_the_start_is_a_clean_end(product: Product, name, number):
    product.folders.etc.mkdir(parents=True)
    os.mkfifo(product.folders.etc / "device.toml")
    process = product.spawn(name)
    # Opened as soon as the process opens it, which then reads; the end of the file ends a read that begins after the signal.
    with open(product.folders.etc / "device.toml", "wb"):
        process.send_signal(number)
    process.wait(SECONDS)
    assert process.returncode == 0, product.log(name)


WAITING = (
    "import os, sys\n"
    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='0')\n"
    "os.execv(sys.executable, [sys.executable, '-m', 'device_ui', 'mailhook'])\n"
)


def test_a_signal_ends_a_mail_hook_that_waits_for_a_right_file(product: Product):
    product.maker("[mail]\nhourly_budget = 0\n")
    words = [sys.executable, "-c", WAITING]
    with subprocess.Popen(words, env=product.environment, cwd="/", stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert "waiting until it is right" in process.stderr.readline()
        process.terminate()
        assert process.wait(SECONDS) == 0
